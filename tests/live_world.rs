//! Every kind of step on real servers, as root (working as postgres) or as any user who may run a server.

mod support;

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

use indexmap::IndexMap;
use tokio::sync::watch;

use pgpair::observed::Identity;
use pgpair::pg::block::Block;
use pgpair::pg::version::Major;
use pgpair::plan::Action;
use pgpair::plan::CloneFrom;
use pgpair::plan::Configuration;
use pgpair::plan::Configure;
use pgpair::plan::CreatePrimary;
use pgpair::plan::Digest;
use pgpair::plan::Effect;
use pgpair::plan::Impact;
use pgpair::plan::Reason;
use pgpair::plan::Replaced;
use pgpair::plan::StandbyFiles;
use pgpair::plan::Step;
use pgpair::plan::desired;
use pgpair::topology::Admin;
use pgpair::topology::Hooks;
use pgpair::topology::InitdbOption;
use pgpair::topology::Node;
use pgpair::topology::NodeName;
use pgpair::topology::Postgresql;
use pgpair::topology::Replication;
use pgpair::topology::ReplicationAuth;
use pgpair::topology::Role;
use pgpair::topology::SecretRef;
use pgpair::topology::SslMode;
use pgpair::topology::Topology;
use pgpair::world::Failure;
use pgpair::world::Progress;
use pgpair::world::World as _;
use pgpair::world::live::Live;
use pgpair::world::live::LiveOptions;
use pgpair::world::lock::Locks;
use pgpair::world::process;
use pgpair::world::user::Seat;

const BIN_DIR: &str = "/usr/lib/postgresql/15/bin";
const PASSWORD: &str = r"it's: a\pass";

/// A pair in a folder of its own, whose servers end with it.
struct Pair {
    topology: Arc<Topology>,
    live: Live,
    interrupt: watch::Sender<bool>,
    user: &'static str,
    root: tempfile::TempDir,
}

fn node(name: &str, role: Role, root: &Path) -> (NodeName, Node) {
    let node = Node {
        name: NodeName::new(name),
        role,
        host: "127.0.0.1".to_owned(),
        port: support::free_port(),
        data_dir: format!("{}/{name}/data", root.display()),
        ssh: None,
        r#become: None,
        os_user: None,
        bin_dir: None,
        upstream: None,
        clone_from: None,
        config_dir: None,
        service: None,
        waldir: None,
        tablespaces: IndexMap::new(),
        slot: None,
        parameters: IndexMap::new(),
    };
    (node.name.clone(), node)
}

impl Pair {
    async fn new() -> Self {
        process::use_guard_program(PathBuf::from(env!("CARGO_BIN_EXE_pgpair")));
        let user = if rustix::process::geteuid().is_root() {
            "postgres"
        } else {
            Seat::of(None).expect("our own").user().to_owned().leak()
        };
        let root = tempfile::Builder::new().prefix("live-").tempdir().expect("a folder");
        let seat = Seat::of(Some(user)).expect("a seat");
        std::os::unix::fs::chown(root.path(), Some(seat.uid()), Some(seat.gid())).expect("given");
        let secret = root.path().join("rep.secret");
        std::fs::write(&secret, PASSWORD).expect("written");
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("private");
        let socket_dir = root.path().to_str().expect("text").to_owned();
        let topology = Arc::new(Topology {
            cluster: "orders".to_owned(),
            system_identifier: None,
            postgresql: Postgresql {
                version: Major::new(15).expect("known"),
                bin_dir: Some(BIN_DIR.to_owned()),
                os_user: Some(user.to_owned()),
                initdb: IndexMap::from([("locale".to_owned(), InitdbOption::Value("C.UTF-8".to_owned()))]),
            },
            admin: Admin { user: None, database: "postgres".to_owned(), password: None, sslmode: SslMode::Prefer },
            replication: Replication {
                user: "rep\"user".to_owned(),
                auth: ReplicationAuth::ScramSha256,
                password: Some(SecretRef::File("rep.secret".to_owned())),
                connection_limit: Some(5),
                slots: true,
                addresses: Vec::new(),
                tls: None,
                synchronous: None,
            },
            parameters: IndexMap::from([
                ("unix_socket_directories".to_owned(), socket_dir.clone()),
                ("max_wal_senders".to_owned(), "5".to_owned()),
            ]),
            hba: Vec::new(),
            nodes: IndexMap::from([node("a", Role::Primary, root.path()), node("b", Role::Standby, root.path())]),
            hooks: Hooks::default(),
            fencing: None,
        });
        let (interrupt, listener) = watch::channel(false);
        let options =
            LiveOptions { base_dir: socket_dir, timeout: Duration::from_secs(30), interrupt: listener.clone() };
        let live = Live::new(Arc::clone(&topology), options).await.expect("it needs nothing");
        let locks = Locks::acquire(&topology, Duration::ZERO, listener).await.expect("free");
        Self { topology, live: live.with_locks(locks), interrupt, user, root }
    }

    fn node(&self, name: &str) -> &Node {
        &self.topology.nodes[&NodeName::new(name)]
    }

    fn path(&self, node: &str, file: &str) -> PathBuf {
        Path::new(&self.node(node).data_dir).join(file)
    }

    fn read(&self, node: &str, file: &str) -> String {
        std::fs::read_to_string(self.path(node, file)).expect("readable")
    }

    fn sibling(&self, node: &str, suffix: &str) -> PathBuf {
        PathBuf::from(format!("{}.{suffix}", self.node(node).data_dir))
    }

    fn conf(&self, node: &str) -> Block {
        desired::conf_block(&self.topology, self.node(node), &desired::settings(&self.topology, self.node(node)))
    }

    fn hba(&self, node: &str) -> Block {
        desired::hba_block(&self.topology, self.node(node))
    }

    async fn perform(&self, node: &str, action: Action) -> Result<Vec<Progress>, Failure> {
        let step = Step {
            id: format!("{node}.{}", action.name()),
            node: NodeName::new(node),
            action,
            impact: Impact::None,
            reason: Reason::Missing,
            diff: Vec::new(),
            only_for: None,
            primary: None,
        };
        let seen = Mutex::new(Vec::new());
        let result = self.live.perform(&step, &|progress| seen.lock().expect("unpoisoned").push(progress)).await;
        result.map(|()| seen.into_inner().expect("unpoisoned"))
    }

    async fn done(&self, node: &str, action: Action) {
        let name = action.name();
        if let Err(failure) = self.perform(node, action).await {
            panic!("{node}.{name}: {failure:#?}");
        }
    }

    fn create(&self) -> Action {
        Action::CreatePrimary(CreatePrimary {
            options: desired::initdb_options(&self.topology),
            with_password: false,
            conf: self.conf("a"),
            hba: self.hba("a"),
            passfile: desired::passfile_entries(&self.topology),
            waldir: None,
        })
    }

    fn clone_of_a(&self, replaces: Option<Replaced>) -> CloneFrom {
        CloneFrom {
            source: NodeName::new("a"),
            host: self.node("a").host.clone(),
            port: self.node("a").port,
            user: self.topology.replication.user.clone(),
            slot: Some("pgpair_b".to_owned()),
            configuration: Configuration::OfSource {
                conf: self.conf("b"),
                hba: self.hba("b"),
                passfile: desired::passfile_entries(&self.topology),
            },
            recovery_conf: None,
            replaces,
            waldir: None,
            tablespaces: std::collections::BTreeMap::new(),
        }
    }

    /// A running primary with role and slot.
    async fn primary(&self) {
        self.done("a", self.create()).await;
        self.done("a", Action::Start { role: Role::Primary }).await;
        self.done("a", Action::ReplicationRole(desired::role(&self.topology, true))).await;
        self.done("a", Action::Slot { name: "pgpair_b".to_owned(), reserve: true }).await;
    }

    /// Runs SQL by psql and returns what it prints.
    fn sql(&self, node: &str, statement: &str) -> String {
        let output = self
            .program("psql", &["-XAtq", "-h"])
            .arg(self.root.path())
            .args(["-p", &self.node(node).port.to_string(), "-d", "postgres", "-c", statement])
            .output()
            .expect("psql runs");
        assert!(output.status.success(), "{statement}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    fn program(&self, name: &str, args: &[&str]) -> Command {
        let seat = Seat::of(Some(self.user)).expect("a seat");
        let mut command = Command::new(format!("{BIN_DIR}/{name}"));
        command.args(args).uid(seat.uid()).gid(seat.gid()).current_dir("/");
        command
    }

    fn wait_for_sql(&self, node: &str, statement: &str, answer: &str) {
        let until = Instant::now() + Duration::from_secs(30);
        while self.sql(node, statement) != answer {
            assert!(Instant::now() < until, "{statement} on {node} is not {answer}");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    fn identity(&self, node: &str) -> Identity {
        Identity::Known(self.sql(node, "SELECT system_identifier FROM pg_control_system()").parse().expect("a number"))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for node in self.topology.nodes.values() {
            // Fails where none runs.
            let stop = ["stop", "-s", "-m", "immediate", "-D", &node.data_dir];
            let _ = self.program("pg_ctl", &stop).stderr(std::process::Stdio::null()).status();
        }
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("there").mode() & 0o7777
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_is_made_from_nothing_and_rows_flow() {
    let pair = Pair::new().await;
    pair.primary().await;
    assert_eq!(mode(&pair.path("a", "pgpair.pass")), 0o600);
    assert_eq!(mode(&pair.path("a", "pgpair-start.log")), 0o600);
    let role = "SELECT rolcanlogin, rolreplication, rolsuper, rolconnlimit FROM pg_roles WHERE rolname = 'rep\"user'";
    assert_eq!(pair.sql("a", role), "t|t|f|5");
    let grants = "SELECT has_function_privilege('rep\"user', 'pg_read_binary_file(text)', 'execute')";
    assert_eq!(pair.sql("a", grants), "t");
    assert_eq!(pair.sql("a", "SELECT restart_lsn IS NOT NULL FROM pg_replication_slots"), "t");

    // What must not come along, and what a killed run left.
    std::fs::write(pair.path("a", "promote"), "").expect("written");
    std::fs::write(pair.path("a", ".pgpair-killed.tmp"), "secret").expect("written");
    pair.sql("a", "ALTER SYSTEM SET primary_conninfo = 'host=elsewhere'");
    pair.sql("a", "ALTER SYSTEM SET work_mem = '6MB'");
    std::fs::create_dir_all(pair.root.path().join("b")).expect("made");
    let [ours, others] = ["data", "other"].map(|name| pair.root.path().join(format!("b/.{name}.pgpair-killed.tmp")));
    for path in [&ours, &others] {
        std::fs::write(path, "secret").expect("written");
    }
    pair.done("b", Action::Clone(pair.clone_of_a(None))).await;
    assert!(!pair.sibling("b", "pgpair-new").exists());
    assert!(!pair.path("b", "promote").exists() && !pair.path("b", "pgpair-start.log").exists());
    assert!(!ours.exists() && others.exists() && !pair.path("b", ".pgpair-killed.tmp").exists());
    let auto = pair.read("b", "postgresql.auto.conf");
    assert!(!auto.contains("primary_conninfo") && auto.contains("work_mem = '6MB'"), "{auto}");
    let refused = pair.perform("b", Action::Start { role: Role::Primary }).await.expect_err("it is a standby");
    assert!(refused.message.contains("it would come up as a standby"), "{refused}");
    pair.done("b", Action::Start { role: Role::Standby }).await;
    pair.sql("a", "CREATE TABLE t AS SELECT 1 AS x");
    pair.wait_for_sql("b", "SELECT count(*) FROM pg_class WHERE relname = 't'", "1");
    assert_eq!(pair.sql("a", "SELECT application_name, state FROM pg_stat_replication"), "b|streaming");

    // Everything once more is no harm.
    pair.done("a", Action::ReplicationRole(desired::role(&pair.topology, true))).await;
    pair.done("a", Action::Slot { name: "pgpair_b".to_owned(), reserve: true }).await;
    assert!(!pair.path("a", ".pgpair-killed.tmp").exists());
    pair.done("b", Action::Start { role: Role::Standby }).await;
    let in_use = pair.perform("a", Action::DropSlot { name: "pgpair_b".to_owned() }).await.expect_err("active");
    assert!(in_use.message.contains("is in use"), "{in_use}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_takes_a_new_configuration_or_keeps_the_old_one() {
    let pair = Pair::new().await;
    pair.primary().await;
    let configure = |lines: &[&str], before: &str, effect| {
        let mut block = pair.conf("a");
        block.lines.extend(lines.iter().map(|line| (*line).to_owned()));
        let before = Some(Digest::of(before));
        Action::Configure(Configure {
            block: Some(block),
            before,
            reset: None,
            effect,
            settings: Default::default(),
            restored: Default::default(),
        })
    };
    let text = pair.read("a", "postgresql.conf");
    pair.done("a", configure(&["work_mem = '5MB'"], &text, Effect::Reload)).await;
    assert_eq!(pair.sql("a", "SHOW work_mem"), "5MB");

    let edited = pair.perform("a", configure(&[], &text, Effect::Reload)).await.expect_err("not what was planned for");
    assert_eq!(edited.message, "node `a`: `postgresql.conf` was edited since the plan was made");

    let text = pair.read("a", "postgresql.conf");
    let bad = pair.perform("a", configure(&["work_mem = '5 lightyears'"], &text, Effect::Reload)).await;
    let bad = bad.expect_err("no such unit");
    let path = pair.path("a", "postgresql.conf");
    assert!(bad.output.iter().any(|line| line.contains("work_mem")), "{bad:?}");
    assert!(bad.output.iter().any(|line| line.contains(path.to_str().expect("text"))), "{bad:?}");
    assert_eq!(pair.read("a", "postgresql.conf"), text);

    pair.done("a", configure(&["max_connections = '77'"], &text, Effect::Restart)).await;
    assert_eq!(pair.sql("a", "SHOW max_connections"), "77");

    let text = pair.read("a", "postgresql.conf");
    let without = Action::Configure(Configure {
        block: None,
        before: Some(Digest::of(&text)),
        reset: None,
        effect: Effect::AtStart,
        settings: Default::default(),
        restored: Default::default(),
    });
    pair.done("a", without).await;
    assert!(!pair.read("a", "postgresql.conf").contains("pgpair"));
    std::fs::write(pair.path("a", "postgresql.conf"), text).expect("written");

    // What the named checks find.
    let text = pair.read("a", "postgresql.conf");
    let unready = pair.path("a", "no-folder");
    let defects = [
        ("shared_preload_libraries = 'no_such_library'", "there is no library `no_such_library`"),
        ("session_preload_libraries = '$libdir/no_such_library'", "there is no library `$libdir/no_such_library`"),
        ("local_preload_libraries = 'plpgsql'", "there is no library `plpgsql`"),
        ("wal_level = 'minimal'", "`wal_level`: minimal does not go with `max_wal_senders`"),
        ("superuser_reserved_connections = '100'", "`max_connections`: 100 is not more than"),
        ("min_wal_size = '16MB'", "`min_wal_size`: it has to hold two WAL segments, 32 MB"),
        ("ssl = on", "`ssl_cert_file`: `"),
        ("huge_pages = on", "`huge_pages`: the kernel of this machine has no huge pages reserved"),
        ("listen_addresses = '192.0.2.1'", "`listen_addresses`: `192.0.2.1` is no address of this machine"),
        ("listen_addresses = 'no-such-host.invalid'", "`listen_addresses`: `no-such-host.invalid` can't be resolved"),
        (
            &format!("unix_socket_directories = '{}'", unready.display()),
            "`unix_socket_directories`: there is no folder",
        ),
        ("unix_socket_directories = '/proc'", "`/proc` can't be written by the OS user"),
    ];
    for (line, words) in defects {
        let bad = pair.perform("a", configure(&[line], &text, Effect::Restart)).await.expect_err(line);
        assert!(bad.message.contains(words) && bad.remedy.is_some(), "{line}: {bad:?}");
        assert_eq!(pair.read("a", "postgresql.conf"), text, "{line}");
    }
    let fine = ["shared_preload_libraries = 'pg_stat_statements, $libdir/auto_explain'", "listen_addresses = '*'"];
    pair.done("a", configure(&fine, &text, Effect::Restart)).await;
    assert_eq!(pair.sql("a", "SHOW shared_preload_libraries"), "pg_stat_statements, $libdir/auto_explain");

    // What no check finds beforehand.
    let text = pair.read("a", "postgresql.conf");
    std::fs::write(pair.path("a", "broken.so"), "").expect("written");
    let line = format!("shared_preload_libraries = '{}'", pair.path("a", "broken.so").display());
    let bad = configure(&["max_connections = '78'", &line], &text, Effect::Restart);
    let bad = pair.perform("a", bad).await.expect_err("no library");
    assert!(bad.output.iter().any(|line| line.contains("broken.so")), "{bad:?}");
    assert!(bad.message.ends_with("it runs on the old configuration again"), "{bad}");
    assert_eq!(pair.read("a", "postgresql.conf"), text);
    assert!(!pair.path("a", "postgresql.conf.pgpair.bak").exists());
    assert_ne!(pair.sql("a", "SHOW max_connections"), "78");

    let rules = pair.read("a", "pg_hba.conf");
    let mut block = pair.hba("a");
    block.lines.push("host all app 10.0.0.0/8 no-such-method".to_owned());
    let bad = pair.perform("a", Action::Hba { block: block.clone(), before: Digest::of(&rules) }).await;
    assert!(bad.expect_err("no such method").output.iter().any(|line| line.contains("no-such-method")));
    assert_eq!(pair.read("a", "pg_hba.conf"), rules);
    *block.lines.last_mut().expect("one") = "hostssl all app 10.0.0.0/8 scram-sha-256".to_owned();
    pair.done("a", Action::Hba { block, before: Digest::of(&rules) }).await;

    pair.done("a", Action::DropSlot { name: "pgpair_b".to_owned() }).await;
    pair.done("a", Action::DropSlot { name: "pgpair_b".to_owned() }).await;
    assert_eq!(pair.sql("a", "SELECT count(*) FROM pg_replication_slots"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_verifier_gets_into_the_log_of_a_server_that_logs_every_statement() {
    let pair = Pair::new().await;
    pair.done("a", pair.create()).await;
    let conf = pair.read("a", "postgresql.conf");
    let logging = "log_statement = all\nlog_min_duration_statement = 0\nlog_transaction_sample_rate = 1\n";
    std::fs::write(pair.path("a", "postgresql.conf"), format!("{conf}{logging}")).expect("written");
    pair.done("a", Action::Start { role: Role::Primary }).await;
    for _ in ["made", "changed"] {
        pair.done("a", Action::ReplicationRole(desired::role(&pair.topology, true))).await;
    }
    pair.sql("a", "SELECT 'the log is on'");
    let log = pair.read("a", "pgpair-start.log");
    assert!(log.contains("the log is on") && !log.contains("SCRAM-SHA-256$"), "{log}");
    assert_eq!(pair.sql("a", "SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname ~ 'rep'"), "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_were_never_checked_are_taken_back_by_the_next_apply_or_start() {
    let pair = Pair::new().await;
    pair.primary().await;
    let rules = pair.read("a", "pg_hba.conf");
    let unchecked = format!("{rules}host all app 10.0.0.0/8 no-such-method\n");
    let backup = pair.path("a", "pg_hba.conf.pgpair.bak");
    // As a kill between the write and the check leaves it.
    let killed = |text: &str| {
        std::fs::write(&backup, format!("{}\n{rules}", Digest::of(&unchecked).0)).expect("written");
        std::fs::write(pair.path("a", "pg_hba.conf"), text).expect("written");
    };
    killed(&unchecked);
    pair.done("a", Action::Hba { block: pair.hba("a"), before: Digest::of(&unchecked) }).await;
    assert!(pair.read("a", "pg_hba.conf") == rules && !backup.exists());

    killed(&unchecked);
    signal(&pair, "-INT");
    pair.done("a", Action::Start { role: Role::Primary }).await;
    assert!(pair.read("a", "pg_hba.conf") == rules && !backup.exists());

    // Somebody's own edit stands.
    let edited = format!("{rules}# mine\n");
    killed(&edited);
    pair.done("a", Action::Hba { block: pair.hba("a"), before: Digest::of(&edited) }).await;
    assert!(pair.read("a", "pg_hba.conf") == edited && !backup.exists());
    // Rules that were there already are not said to be taken back.
    std::fs::write(pair.path("a", "pg_hba.conf"), &unchecked).expect("written");
    let bad = pair.perform("a", Action::Hba { block: pair.hba("a"), before: Digest::of(&unchecked) }).await;
    assert!(bad.expect_err("no such method").message.ends_with("the rules that `pg_hba.conf` has already"));
    assert_eq!(pair.read("a", "pg_hba.conf"), unchecked);
}

/// Ends the server of `a` by a signal, and waits until it is dead, if only a zombie.
fn signal(pair: &Pair, signal: &str) {
    let pid = pair.read("a", "postmaster.pid").lines().next().expect("a pid").to_owned();
    assert!(Command::new("kill").args([signal, &pid]).status().expect("kill runs").success());
    let until = Instant::now() + Duration::from_secs(30);
    while std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok() {
        assert!(Instant::now() < until, "{pid} is still alive");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_starts_again_and_one_that_can_not_says_why() {
    let pair = Pair::new().await;
    pair.primary().await;
    signal(&pair, "-KILL");
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        match pair.perform("a", Action::Start { role: Role::Primary }).await {
            Ok(_) => break,
            // Its children notice its death one after the other.
            Err(failure) => assert!(Instant::now() < until, "{failure:?}"),
        }
    }
    assert_eq!(pair.sql("a", "SELECT 1"), "1");

    signal(&pair, "-INT");
    let taken = TcpListener::bind(("127.0.0.1", pair.node("a").port)).expect("free now");
    let failure = pair.perform("a", Action::Start { role: Role::Primary }).await.expect_err("the port is taken");
    assert_eq!(failure.message, "node `a`: its server ended while it was starting");
    assert!(failure.output.iter().any(|line| line.contains("could not bind")), "{failure:?}");
    drop(taken);

    pair.done("a", Action::StandbyFiles(StandbyFiles { recovery_conf: None })).await;
    let refused = pair.perform("a", Action::Start { role: Role::Primary }).await.expect_err("a standby now");
    assert!(refused.message.contains("it would come up as a standby"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_that_fails_or_is_interrupted_leaves_nothing_and_one_that_was_killed_is_replaced() {
    let pair = Pair::new().await;
    pair.primary().await;
    let left = || -> Vec<String> {
        let entries = std::fs::read_dir(pair.root.path().join("b")).expect("a folder").flatten();
        entries.map(|entry| entry.file_name().into_string().expect("text")).collect()
    };
    let no_slot = CloneFrom { slot: Some("no_such".to_owned()), ..pair.clone_of_a(None) };
    let failure = pair.perform("b", Action::Clone(no_slot)).await.expect_err("no such slot");
    assert!(
        failure.output.iter().any(|line| line.contains("replication slot \"no_such\" does not exist")),
        "{failure:?}"
    );
    assert_eq!(left(), [".data.pgpair.lock"]);

    // Bigger than what is copied before the interrupt is seen.
    pair.sql("a", "CREATE TABLE big AS SELECT g, repeat('x', 900) AS filler FROM generate_series(1, 200000) g");
    let new = pair.sibling("b", "pgpair-new");
    let interrupting = async {
        while !new.join("base").exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        pair.interrupt.send_replace(true);
    };
    let (failure, ()) = tokio::join!(pair.perform("b", Action::Clone(pair.clone_of_a(None))), interrupting);
    assert!(failure.expect_err("given up").interrupted);
    assert_eq!(left(), [".data.pgpair.lock"]);
    pair.wait_for_sql("a", "SELECT count(*) FROM pg_stat_replication", "0");

    pair.interrupt.send_replace(false);
    std::fs::create_dir(&new).expect("made");
    let owner = std::fs::metadata(pair.root.path().join("b")).expect("there");
    std::os::unix::fs::chown(&new, Some(owner.uid()), Some(owner.gid())).expect("given");
    std::fs::write(new.join("backup_label"), "half").expect("written");
    let seen = pair.perform("b", Action::Clone(pair.clone_of_a(None))).await.expect("nothing is in the way");
    assert!(
        seen.iter()
            .all(|progress| matches!(progress, Progress::Bytes { total: Some(total), .. } if *total > 200_000_000))
    );
    assert!(!new.exists() && pair.path("b", "standby.signal").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_very_data_directory_that_was_planned_for_is_replaced_and_it_is_kept() {
    let pair = Pair::new().await;
    pair.primary().await;
    pair.done("b", Action::Clone(pair.clone_of_a(None))).await;
    std::fs::write(pair.path("b", "of the old one"), "").expect("written");

    for wrong in [None, Some(Replaced::Unfinished), Some(Replaced::Cluster(Identity::Known(1)))] {
        let refused = pair.perform("b", Action::Clone(pair.clone_of_a(wrong))).await.expect_err("not what was planned");
        assert!(refused.message.contains("is not what was planned for"), "{refused}");
    }
    let replaces = Some(Replaced::Cluster(pair.identity("a")));
    pair.done("b", Action::Start { role: Role::Standby }).await;
    let refused = pair.perform("b", Action::Clone(pair.clone_of_a(replaces.clone()))).await.expect_err("it runs");
    assert!(refused.message.contains("a server runs on"), "{refused}");
    let stop = ["stop", "-s", "-m", "fast", "-D", &pair.node("b").data_dir];
    assert!(pair.program("pg_ctl", &stop).status().expect("it runs").success());

    pair.done("b", Action::Clone(pair.clone_of_a(replaces))).await;
    assert!(!pair.path("b", "of the old one").exists());
    assert!(pair.sibling("b", "pgpair-old").join("of the old one").exists());
    pair.done("b", Action::RemoveOld).await;
    assert!(!pair.sibling("b", "pgpair-old").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_initdb_that_fails_shows_its_words_and_leaves_nothing() {
    let pair = Pair::new().await;
    let Action::CreatePrimary(mut create) = pair.create() else { unreachable!("that is what it is") };
    create.options = vec![("encoding".to_owned(), Some("no-such".to_owned()))];
    let failure = pair.perform("a", Action::CreatePrimary(create)).await.expect_err("no such encoding");
    assert_eq!(failure.message, "node `a`: initdb ended with exit status 1");
    assert!(failure.output.iter().any(|line| line.contains("no-such")), "{failure:?}");
    assert!(!pair.sibling("a", "pgpair-new").exists() && !Path::new(&pair.node("a").data_dir).exists());
    std::fs::create_dir(&pair.node("a").data_dir).expect("made");
    std::fs::write(pair.path("a", "somebody's"), "").expect("written");
    let refused = pair.perform("a", pair.create()).await.expect_err("not empty");
    assert!(refused.message.contains("is not what was planned for"), "{refused}");
    assert!(pair.path("a", "somebody's").exists());
}

/// A small file system of its own, unmounted when dropped.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(path: &'a Path, megabytes: u32, owner: u32) -> Self {
        let options = format!("size={megabytes}m,uid={owner},mode=755");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).status();
        assert!(mounted.expect("mount runs").success());
        Self(path)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_before_and_while_it_fills() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let pair = Pair::new().await;
    pair.primary().await;
    let folder = pair.root.path().join("b");
    let owner = Seat::of(Some(pair.user)).expect("a seat").uid();
    let small = SmallDisk::mount(&folder, 40, owner);
    let failure = pair.perform("b", Action::Clone(pair.clone_of_a(None))).await.expect_err("too small");
    assert!(failure.message.contains("MB free, and the copy needs"), "{failure}");
    drop(small);

    // Enough for the databases as the check counts them, not for what lies beside them in the data directory.
    let size: u64 = pair.sql("a", "SELECT sum(pg_database_size(oid)) FROM pg_database").parse().expect("a number");
    std::fs::write(pair.path("a", "ballast"), vec![1; 90 << 20]).expect("written");
    std::os::unix::fs::chown(pair.path("a", "ballast"), Some(owner), None).expect("given");
    let _small = SmallDisk::mount(&folder, u32::try_from((size >> 20) + 70).expect("small"), owner);
    let failure = pair.perform("b", Action::Clone(pair.clone_of_a(None))).await.expect_err("too small");
    let what = format!("node `b`: no space was left for pg_basebackup from a in `{}`", folder.display());
    assert_eq!(failure.message, what);
    assert!(failure.remedy.is_some() && !pair.sibling("b", "pgpair-new").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_to_a_node_that_is_not_locked() {
    let pair = Pair::new().await;
    let options = LiveOptions {
        base_dir: "/".to_owned(),
        timeout: Duration::from_secs(1),
        interrupt: pair.interrupt.subscribe(),
    };
    let unlocked = Live::new(Arc::clone(&pair.topology), options).await.expect("it needs nothing");
    let step = Step {
        id: "a.remove_old".to_owned(),
        node: NodeName::new("a"),
        action: Action::RemoveOld,
        impact: Impact::None,
        reason: Reason::Replaced,
        diff: Vec::new(),
        only_for: None,
        primary: None,
    };
    let refused = unlocked.perform(&step, &|_| {}).await.expect_err("no lock");
    assert!(refused.message.contains("is not locked"), "{refused}");
}
