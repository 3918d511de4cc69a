//! Looks at real servers: what is on disk and what a server says arrive in `Observed` as they are.
//!
//! Needs PostgreSQL 15 at /usr/lib/postgresql/15/bin, and user postgres where the tests run as root.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use indexmap::IndexMap;
use pgpair::observed::Cluster;
use pgpair::observed::DataDir;
use pgpair::observed::Identity;
use pgpair::observed::NodeObserved;
use pgpair::observed::Observed;
use pgpair::observed::Passfile;
use pgpair::observed::Reading;
use pgpair::observed::Sql;
use pgpair::observed::Verifier;
use pgpair::observed::WrongAccess;
use pgpair::observed::comes_up_as;
use pgpair::pg::control::ControlState;
use pgpair::pg::lsn::Lsn;
use pgpair::pg::lsn::Timeline;
use pgpair::pg::version::Major;
use pgpair::pg::version::StandbyMode;
use pgpair::topology::Admin;
use pgpair::topology::Hooks;
use pgpair::topology::Node;
use pgpair::topology::NodeName;
use pgpair::topology::Postgresql;
use pgpair::topology::Replication;
use pgpair::topology::ReplicationAuth;
use pgpair::topology::Role;
use pgpair::topology::SecretRef;
use pgpair::topology::SslMode;
use pgpair::topology::Topology;
use pgpair::world::observe;
use pgpair::world::secrets::Secrets;
use tempfile::TempDir;

const BIN: &str = "/usr/lib/postgresql/15/bin";

/// A cluster in a folder of its own, whose server is stopped at the end, whatever happens.
struct Server {
    bin: String,
    folder: TempDir,
    port: u16,
}

impl Server {
    /// A place for a cluster, without one.
    fn nowhere() -> Self {
        Self::nowhere_with(BIN)
    }

    fn nowhere_with(bin: &str) -> Self {
        let folder = TempDir::with_prefix_in("look-", "/tmp").expect("a folder in /tmp");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("a mode");
        if rustix::process::geteuid().is_root() {
            let done = Command::new("chown").arg("postgres:").arg(folder.path()).status().expect("chown runs");
            assert!(done.success());
        }
        Self { bin: bin.to_owned(), folder, port: support::free_port() }
    }

    fn initdb() -> Self {
        Self::initdb_with(BIN)
    }

    fn initdb_with(bin: &str) -> Self {
        let server = Self::nowhere_with(bin);
        server.run("initdb", &["-N", "-A", "trust", "-U", "postgres", "-D", &server.data_dir()]);
        server.configure();
        server
    }

    /// A standby of `primary`, not started.
    fn copy_of(primary: &Self) -> Self {
        let server = Self::nowhere();
        let (port, data_dir) = (primary.port.to_string(), server.data_dir());
        server.run(
            "pg_basebackup",
            &["-h", "127.0.0.1", "-p", &port, "-U", "repuser", "-N", "-c", "fast", "-D", &data_dir],
        );
        server.configure();
        let conninfo = format!("host=127.0.0.1 port={port} user=repuser application_name=b");
        server.append("postgresql.conf", &format!("primary_conninfo = '{conninfo}'\nprimary_slot_name = 'pgpair_b'\n"));
        server.append("standby.signal", "");
        server
    }

    fn configure(&self) {
        let lines = format!(
            "port = {}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nfsync = off\n\
             wal_level = logical\nwal_retrieve_retry_interval = 200ms\n",
            self.port,
            self.folder.path().display()
        );
        self.append("postgresql.conf", &lines);
    }

    fn data_dir(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    /// Appends to a file of the server's user.
    fn append(&self, name: &str, text: &str) {
        let path = self.path(name);
        let old = fs::read_to_string(&path).unwrap_or_default();
        fs::write(&path, old + text).expect("written");
        let folder = fs::metadata(self.folder.path()).expect("there");
        std::os::unix::fs::chown(&path, Some(folder.uid()), Some(folder.gid())).expect("given away");
    }

    fn program(&self, name: &str) -> Command {
        // Only Debian's 15 has the clients; they serve every version.
        let own = Path::new(&self.bin).join(name);
        let program = if own.exists() { own } else { Path::new(BIN).join(name) };
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir("/tmp").env("LC_ALL", "C").stdin(Stdio::null());
        command
    }

    fn run(&self, name: &str, args: &[&str]) -> String {
        let output = self.program(name).args(args).output().expect("it runs");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn start(&self) {
        let log = self.folder.path().join("log").display().to_string();
        // Its streams must not be ours: a server keeps them open.
        let started = self
            .program("pg_ctl")
            .args(["start", "-w", "-D", &self.data_dir(), "-l", &log])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let said = || fs::read_to_string(&log).unwrap_or_default();
        assert!(started.expect("pg_ctl runs").success(), "{}", said());
    }

    fn stop(&self, mode: &str) {
        self.run("pg_ctl", &["stop", "-w", "-m", mode, "-D", &self.data_dir()]);
    }

    fn sql(&self, statement: &str) -> String {
        let (dir, port) = (self.folder.path().display().to_string(), self.port.to_string());
        self.run(
            "psql",
            &["-XAtq", "-v", "ON_ERROR_STOP=1", "-h", &dir, "-p", &port, "-U", "postgres", "-c", statement],
        )
    }

    fn pid(&self) -> String {
        let text = fs::read_to_string(self.path("postmaster.pid")).expect("a running server");
        text.lines().next().expect("a pid").to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.path("postmaster.pid").exists() {
            // It may be dead already.
            let _ = self.program("pg_ctl").args(["stop", "-m", "immediate", "-D", &self.data_dir()]).output();
        }
    }
}

fn node(name: &str, role: Role, server: &Server) -> (NodeName, Node) {
    let node = Node {
        name: NodeName::new(name),
        role,
        host: "127.0.0.1".into(),
        port: server.port,
        data_dir: server.data_dir(),
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

fn topology(nodes: impl IntoIterator<Item = (NodeName, Node)>) -> Topology {
    Topology {
        cluster: "orders".into(),
        system_identifier: None,
        postgresql: Postgresql {
            version: Major::new(15).expect("known"),
            bin_dir: None,
            os_user: rustix::process::geteuid().is_root().then(|| "postgres".into()),
            initdb: IndexMap::new(),
        },
        admin: Admin {
            user: Some("postgres".into()),
            database: "postgres".into(),
            password: None,
            sslmode: SslMode::Prefer,
        },
        replication: Replication {
            user: "repuser".into(),
            auth: ReplicationAuth::ScramSha256,
            password: password("pencil"),
            connection_limit: None,
            slots: true,
            addresses: Vec::new(),
            tls: None,
            synchronous: None,
        },
        parameters: IndexMap::from([("work_mem".into(), "8MB".into())]),
        hba: Vec::new(),
        nodes: nodes.into_iter().collect(),
        hooks: Hooks::default(),
        fencing: None,
    }
}

fn alone(server: &Server) -> Topology {
    topology([node("a", Role::Primary, server)])
}

fn password(text: &str) -> Option<SecretRef> {
    Some(SecretRef::Command(vec!["echo".into(), text.into()]))
}

fn secrets() -> Secrets {
    Secrets::new("/".into(), Duration::from_secs(5))
}

fn look(topology: &Topology) -> Observed {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(observe::look(topology, &secrets()))
}

/// What is seen of the only node of a topology.
fn look_at_only(topology: &Topology) -> NodeObserved {
    look(topology).node(&NodeName::new("a")).clone()
}

fn look_at(server: &Server) -> NodeObserved {
    look_at_only(&alone(server))
}

/// Looks until what is seen is as wanted.
fn look_until(topology: &Topology, wanted: impl Fn(&Observed) -> bool) -> Observed {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let observed = look(topology);
        if wanted(&observed) {
            return observed;
        }
        assert!(Instant::now() < deadline, "{observed:#?}");
    }
}

fn with_password(topology: &Topology, password: Option<SecretRef>) -> Topology {
    let mut other = topology.clone();
    other.replication.password = password;
    other
}

fn cluster(seen: &NodeObserved) -> &Cluster {
    seen.cluster().unwrap_or_else(|| panic!("a cluster: {:?}", seen.place))
}

fn sql(seen: &NodeObserved) -> &Sql {
    seen.sql().unwrap_or_else(|| panic!("an answer: {:?}", seen.server))
}

fn why_no_sql(seen: &NodeObserved) -> &str {
    let server = seen.server.known().unwrap_or_else(|| panic!("a server: {:?}", seen.server));
    server.sql.unknown().unwrap_or_else(|| panic!("no answer: {:?}", server.sql))
}

/// Every file below a folder with its size, mode and time of change.
fn files_below(folder: &Path) -> BTreeMap<PathBuf, (u64, u32, SystemTime)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let metadata = entry.metadata().expect("there");
        let changed = metadata.modified().expect("a time");
        all.insert(entry.path(), (metadata.size(), metadata.mode(), changed));
        if metadata.is_dir() {
            all.extend(files_below(&entry.path()));
        }
    }
    all
}

#[test]
fn nothing_yet_is_seen_with_the_programs_and_the_builds_own_socket_folder() {
    let server = Server::nowhere();
    let seen = look_at(&server);
    let place = seen.place.known().expect("in reach");
    assert_eq!(place.data_dir, DataDir::Absent);
    assert_eq!((&place.not_writable, &place.unmounted), (&None, &None));
    assert!(seen.server.is_absent() && seen.port_taken.is_absent());
    let binaries = seen.binaries.known().expect("installed");
    assert_eq!((binaries.bin_dir.as_str(), binaries.major.number()), (BIN, 15));
    assert!(binaries.version.starts_with("15."), "{}", binaries.version);
    assert!(binaries.basebackup.known().is_some_and(|program| program.major >= 15));
    assert_eq!(binaries.socket_dir.as_ref().map(|dir| dir.path.as_str()), Some("/var/run/postgresql"));
}

#[test]
fn a_folder_where_nothing_can_be_made_is_told_unless_root_makes_it() {
    let server = Server::nowhere();
    let mut topology = alone(&server);
    let mut not_writable = |data_dir: &str| {
        topology.nodes[0].data_dir = data_dir.into();
        look_at_only(&topology).place.known().expect("in reach").not_writable.clone()
    };
    let above = format!("{}/x/y/data", server.folder.path().display());
    assert_eq!(not_writable(&above), None);
    let why = not_writable("/usr/data-of-nobody").expect("not writable for a server's user");
    assert!(why.ends_with(" can't write in /usr: Permission denied (os error 13)"), "{why}");
    let root_makes_parents = rustix::process::geteuid().is_root();
    assert_eq!(not_writable("/usr/x/data").is_none(), root_makes_parents);
    let why = not_writable("/proc").expect("a mount point");
    assert_eq!(why, "/proc is a mount point and can't be renamed: take a folder inside it");
}

#[test]
fn what_the_servers_user_can_not_reach_is_unknown_and_not_absent() {
    let server = Server::initdb();
    fs::set_permissions(server.folder.path(), Permissions::from_mode(0o000)).expect("a mode");
    let seen = look_at(&server);
    fs::set_permissions(server.folder.path(), Permissions::from_mode(0o755)).expect("a mode");
    // A server that is seen without its files is another matter: none answers here.
    let expected = format!(
        "{} can't be read: Permission denied (os error 13); and its server tells nothing: no server answers at \
         localhost:{}",
        server.data_dir(),
        server.port
    );
    assert_eq!(seen.place.unknown(), Some(expected.as_str()));
    let why = seen.server.unknown().expect("nothing is known of the server either");
    assert!(why.contains("Permission denied (os error 13)"), "{why}");
}

#[test]
fn configuration_in_a_folder_of_its_own_is_found_and_a_wrong_one_is_told() {
    let server = Server::initdb();
    let etc = server.folder.path().join("etc").display().to_string();
    server.append("postgresql.conf", &format!("data_directory = '{}'\n", server.data_dir()));
    // Of the configuration alone: pg_ctl takes a folder with PG_VERSION for the data directory.
    fs::create_dir(&etc).expect("a folder");
    let files = ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"].map(|name| server.path(name));
    let copied = Command::new("cp").arg("-a").args(files).arg(&etc).status().expect("cp runs");
    assert!(copied.success());
    let log = server.folder.path().join("log").display().to_string();
    let started = server
        .program("pg_ctl")
        .args(["start", "-w", "-D", &etc, "-l", &log])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(started.expect("pg_ctl runs").success());

    let seen = look_at(&server);
    let why = seen.place.unknown().expect("another configuration");
    assert!(why.starts_with(&format!("the server reads {etc}/postgresql.conf, not ")), "{why}");
    assert!(seen.accepts_writes(), "what it says of itself is known all the same");

    let mut topology = alone(&server);
    topology.nodes[0].config_dir = Some(etc.clone());
    let seen = look_at_only(&topology);
    assert_eq!(cluster(&seen).conf.main.path, format!("{etc}/postgresql.conf"));
    assert!(sql(&seen).hba_loaded && sql(&seen).conf_loaded);

    fs::remove_file(server.path("postgresql.conf")).expect("removed");
    server.stop("fast");
    let seen = look_at(&server);
    let why = seen.place.unknown().expect("none");
    assert!(why.ends_with("data/postgresql.conf is not there (`config_dir` says where else it is)"), "{why}");
}

#[test]
fn a_stopped_cluster_is_known_from_its_files_and_a_look_changes_none() {
    let server = Server::initdb();
    server.start();
    server.sql("select pg_create_physical_replication_slot('held', true)");
    server.sql("select pg_create_physical_replication_slot('pgpair_b')");
    server.sql("select pg_create_logical_replication_slot('logical', 'pgoutput')");
    server.stop("fast");
    server.append("pgpair.pass", "127.0.0.1:1:replication:repuser:pencil\n");

    let before = files_below(server.folder.path());
    let seen = look_at(&server);
    assert_eq!(files_below(server.folder.path()), before, "a look changes no file");

    let cluster = cluster(&seen);
    assert!(seen.server.is_absent() && seen.port_taken.is_absent());
    assert_eq!((cluster.state, cluster.timeline), (ControlState::ShutDown, Timeline(1)));
    assert!(cluster.markers.postmaster_opts && !cluster.markers.standby_signal);
    assert_eq!(cluster.wrong_access, None);
    assert_eq!(cluster.passfile, Passfile::Wrong, "its mode is too open");
    assert_eq!(cluster.replication_role, Reading::Unknown("the server is stopped".into()));
    assert!(cluster.hba.contains("trust") && cluster.conf.main.text.contains("wal_retrieve_retry_interval"));
    assert!(cluster.conf.auto.is_some());
    let slots: Vec<_> =
        cluster.slots.iter().map(|(name, slot)| (name.as_str(), slot.physical, slot.reserved)).collect();
    assert_eq!(slots, [("held", true, true), ("logical", false, true), ("pgpair_b", true, false)]);
}

#[test]
fn configuration_that_leads_elsewhere_or_an_open_folder_is_told() {
    let server = Server::initdb();
    fs::set_permissions(server.path(""), Permissions::from_mode(0o755)).expect("a mode");
    let seen = look_at(&server);
    assert_eq!(cluster(&seen).wrong_access, Some(WrongAccess::Mode(0o755)));
    server.append("postgresql.conf", "hba_file = '/elsewhere/pg_hba.conf'\n");
    let seen = look_at(&server);
    let why = seen.place.unknown().expect("it leads elsewhere");
    assert!(why.contains("sets hba_file to /elsewhere/pg_hba.conf, which is not"), "{why}");
}

#[test]
fn a_running_primary_says_what_it_is() {
    let server = Server::initdb();
    server.append("postgresql.conf", "work_mem = 5MB\nstatement_timeout = 7s\n");
    server.start();
    let seen = look_at(&server);
    assert_eq!(cluster(&seen).replication_role, Reading::Absent, "no role yet");

    server.sql("create role repuser login replication connection limit 3 password 'pencil'");
    server.sql("select pg_create_physical_replication_slot('pgpair_b', true)");
    server.sql("alter role postgres set work_mem = '1GB'");
    server.sql("alter role postgres set maintenance_work_mem = '1GB'");
    let mut topology = alone(&server);
    for name in ["statement_timeout", "maintenance_work_mem", "datestyle"] {
        topology.parameters.insert(name.into(), "1".into());
    }
    let insert_position = server.sql("select pg_current_wal_insert_lsn()");
    let observed = look(&topology);
    assert_eq!(server.sql("select pg_current_wal_insert_lsn()"), insert_position, "a look writes nothing");

    let seen = observed.node(&NodeName::new("a"));
    let (cluster, sql) = (cluster(seen), sql(seen));
    assert!(seen.port_taken.is_absent() && seen.accepts_writes());
    let server_seen = seen.server.known().expect("it runs");
    assert_eq!(server_seen.pid.to_string(), server.pid());
    assert_eq!(server_seen.port, Some(server.port));
    assert_eq!(server_seen.socket_dir.as_deref(), server.folder.path().to_str());
    assert!(sql.version.starts_with("15."));
    assert_eq!(seen.binaries.known().map(|binaries| binaries.version.as_str()), sql.version.split(' ').next());
    assert_eq!(sql.timeline, Timeline(1));
    assert!(sql.lsn > Lsn(0) && sql.lsn <= insert_position.parse().expect("an LSN"));
    assert_eq!((sql.replayed, sql.replay_paused, &sql.receiver), (None, false, &None));
    assert!(sql.hba_loaded && sql.conf_loaded);
    assert_eq!(server.sql("select system_identifier from pg_control_system()"), cluster.identity.to_string());

    let setting = |name: &str| (sql.settings[name].value.as_str(), sql.settings[name].source.as_str());
    assert_eq!(setting("port"), (&*server.port.to_string(), "configuration file"));
    assert_eq!(setting("work_mem"), ("5MB", "configuration file"), "not that of our role");
    assert_eq!(setting("maintenance_work_mem"), ("65536", "default"), "not that of our role");
    assert_eq!(setting("statement_timeout"), ("7s", "configuration file"), "not that of our session");
    assert!(sql.settings.contains_key("datestyle"), "names are compared without case");
    assert!(!sql.settings["port"].pending_restart);

    let slot = &cluster.slots["pgpair_b"];
    assert!(slot.physical && !slot.active && slot.reserved);
    assert_eq!(slot.wal_status.as_deref(), Some("reserved"));

    let role = cluster.replication_role.known().expect("a role");
    assert!(role.login && role.replication && !role.superuser && !role.rewind_grants);
    assert_eq!((role.connection_limit, role.verifier), (3, Verifier::Matches));
}

#[test]
fn a_verifier_is_judged_by_secret_and_method_and_grants_by_all_four_functions() {
    let server = Server::initdb();
    server.start();
    server.sql("create role repuser login replication");
    let mut topology = alone(&server);
    let role = |topology: &Topology| {
        let seen = look_at_only(topology);
        cluster(&seen).replication_role.known().expect("a role").clone()
    };
    assert_eq!(role(&topology).verifier, Verifier::None);
    server.sql("set password_encryption = 'md5'; alter role repuser password 'pencil'");
    assert_eq!(role(&topology).verifier, Verifier::Differs, "scram-sha-256 refuses an MD5 verifier");
    topology.replication.auth = ReplicationAuth::Md5;
    assert_eq!(role(&topology).verifier, Verifier::Matches);
    server.sql("alter role repuser password 'pencil2'");
    assert_eq!(role(&topology).verifier, Verifier::Differs);
    topology.replication.password = None;
    assert_eq!(role(&topology).verifier, Verifier::NotCompared);
    topology.replication.password = Some(SecretRef::Command(vec!["false".into()]));
    assert_eq!(role(&topology).verifier, Verifier::NotCompared, "its secret can't be had");
    topology.replication.password = None;

    let functions = [
        "pg_ls_dir(text, boolean, boolean)",
        "pg_stat_file(text, boolean)",
        "pg_read_binary_file(text)",
        "pg_read_binary_file(text, bigint, bigint, boolean)",
    ];
    for function in functions {
        assert!(!role(&topology).rewind_grants, "before {function}");
        server.sql(&format!("grant execute on function {function} to repuser"));
    }
    assert!(role(&topology).rewind_grants);
    // Grants are of a database, and those of `postgres` count.
    topology.admin.database = "template1".into();
    assert!(role(&topology).rewind_grants);
}

#[test]
fn a_file_that_the_server_has_not_read_yet_is_not_loaded() {
    let server = Server::initdb();
    server.start();
    let loaded = || {
        let seen = look_at(&server);
        (sql(&seen).conf_loaded, sql(&seen).hba_loaded)
    };
    assert_eq!(loaded(), (true, true));
    server.append("pg_hba.conf", "# touched\n");
    assert_eq!(loaded(), (true, false));
    server.sql("select pg_reload_conf()");
    look_until(&alone(&server), |observed| sql(observed.node(&NodeName::new("a"))).hba_loaded);
    server.append("postgresql.auto.conf", "# touched\n");
    assert_eq!(loaded(), (false, true));
}

#[test]
fn a_streaming_pair_is_seen_from_both_sides_and_quickly() {
    let primary = Server::initdb();
    primary.start();
    primary.sql("create role repuser login replication password 'pencil'");
    primary.sql("select pg_create_physical_replication_slot('pgpair_b', true)");
    let standby = Server::copy_of(&primary);
    standby.start();
    let topology = topology([node("a", Role::Primary, &primary), node("b", Role::Standby, &standby)]);
    let [a, b] = ["a", "b"].map(NodeName::new);
    let streams = |observed: &Observed| {
        let receiver = observed.node(&b).sql().and_then(|sql| sql.receiver.as_ref());
        let senders = observed.node(&a).sql().map(|sql| sql.senders.as_slice()).unwrap_or_default();
        receiver.is_some_and(|receiver| receiver.status == "streaming")
            && senders.iter().any(|sender| sender.application_name == "b" && sender.state == "streaming")
    };
    let observed = look_until(&topology, streams);

    let upstream = sql(observed.node(&a));
    assert_eq!(upstream.senders.len(), 1);
    assert_eq!(upstream.senders[0].client_addr.as_deref(), Some("127.0.0.1"));
    assert_eq!(upstream.senders[0].sync_state, "async");
    assert!(upstream.senders[0].sent.is_some());
    assert!(cluster(observed.node(&a)).slots["pgpair_b"].active);

    let seen = observed.node(&b);
    let standby_sql = sql(seen);
    assert!(standby_sql.in_recovery && !seen.accepts_writes() && cluster(seen).markers.standby_signal);
    assert_eq!(cluster(seen).state, ControlState::InArchiveRecovery);
    assert_eq!(cluster(seen).identity, cluster(observed.node(&a)).identity);
    assert_eq!(standby_sql.timeline, Timeline(1));
    assert!(standby_sql.lsn >= standby_sql.replayed.expect("replayed"));
    let receiver = standby_sql.receiver.as_ref().expect("a receiver");
    assert_eq!((receiver.host.as_deref(), receiver.port), (Some("127.0.0.1"), Some(primary.port)));
    assert_eq!((receiver.user.as_deref(), receiver.slot.as_deref()), (Some("repuser"), Some("pgpair_b")));
    assert!(standby_sql.settings["primary_conninfo"].value.contains("application_name=b"));

    let timed = |topology: &Topology| {
        let secrets = secrets();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let mut times: Vec<Duration> = (0..9)
            .map(|_| {
                let begun = Instant::now();
                let observed = runtime.block_on(observe::look(topology, &secrets));
                assert!(streams(&observed));
                begun.elapsed()
            })
            .collect();
        times.sort_unstable();
        (times[0], times[4], times[8])
    };
    #[expect(clippy::print_stderr, reason = "the figure is what `--nocapture` is for")]
    {
        eprintln!("a look at a healthy pair (least, median, most): {:?}", timed(&topology));
        let without_password = with_password(&topology, None);
        eprintln!("the same without a secret to compare:           {:?}", timed(&without_password));
    }

    primary.stop("fast");
    standby.sql("select pg_promote()");
    let observed = look_until(&topology, |observed| observed.node(&b).accepts_writes());
    assert_eq!(sql(observed.node(&b)).timeline, Timeline(2), "also before the first checkpoint");
    assert_eq!(cluster(observed.node(&b)).newest_history, Some(Timeline(2)));
    assert!(observed.node(&a).server.is_absent());
}

#[test]
fn a_server_on_the_port_that_is_another_one_is_never_taken_for_the_nodes() {
    let (own, other) = (Server::initdb(), Server::initdb());
    other.start();
    // The node's server is down, and another one has its port.
    let mut topology = alone(&own);
    topology.nodes[0].port = other.port;
    let observed = look(&topology);
    let seen = observed.node(&NodeName::new("a"));
    assert!(seen.server.is_absent());
    let expected = format!("the server of {} (pid {})", other.data_dir(), other.pid());
    assert_eq!(seen.port_taken, Reading::Known(expected));

    // The node's server is up, and its pid file leads to the other one.
    own.start();
    let pid_file = fs::read_to_string(own.path("postmaster.pid")).expect("there");
    let forged = pid_file
        .replace(&format!("\n{}\n", own.port), &format!("\n{}\n", other.port))
        .replace(&own.folder.path().display().to_string(), &other.folder.path().display().to_string());
    fs::write(own.path("postmaster.pid"), forged).expect("written");
    let seen = look_at(&own);
    let start = format!("the server on port {} is another one: its system identifier is ", other.port);
    assert!(why_no_sql(&seen).starts_with(&start), "{}", why_no_sql(&seen));
    let identity = look_at(&other);
    assert!(
        matches!(cluster(&identity).identity, Identity::Known(number) if why_no_sql(&seen).contains(&number.to_string()))
    );
    assert!(cluster(&seen).replication_role.unknown().is_some(), "nothing of the other one's is believed");
    assert!(!seen.accepts_writes());
    fs::write(own.path("postmaster.pid"), pid_file).expect("written");
}

#[test]
fn a_server_that_refuses_says_why() {
    let server = Server::initdb();
    server.start();
    server.sql("alter role postgres password 'right'");
    server.sql("create role visitor login");
    let mut topology = alone(&server);
    topology.admin.user = Some("visitor".into());
    let seen = look_at_only(&topology);
    assert_eq!(why_no_sql(&seen), "`visitor` may not see all settings and replication: grant pg_monitor to it");
    server.sql("grant pg_monitor to visitor");
    let seen = look_at_only(&topology);
    assert!(!sql(&seen).settings["primary_conninfo"].source.is_empty());
    server.sql("create role repuser login");
    let seen = look_at_only(&topology);
    let why = cluster(&seen).replication_role.unknown().expect("denied").to_owned();
    assert_eq!(why, "the password of `repuser` is for superusers to see, which `visitor` is not");

    let rules = |rules: &str| {
        fs::write(server.path("pg_hba.conf"), rules).expect("written");
        assert!(
            server
                .program("pg_ctl")
                .args(["reload", "-D", &server.data_dir()])
                .output()
                .expect("runs")
                .status
                .success()
        );
    };
    let with_admin = |text: Option<&str>| {
        let mut topology = alone(&server);
        topology.admin.password = text.and_then(password);
        topology
    };
    let refusal = |text: Option<&str>, wanted: &str| {
        let refused = |seen: &NodeObserved| {
            let why = seen.server.known().and_then(|server| server.sql.unknown());
            why.filter(|why| why.contains(wanted)).map(str::to_owned)
        };
        let seen = look_until(&with_admin(text), |seen| refused(seen.node(&NodeName::new("a"))).is_some());
        refused(seen.node(&NodeName::new("a"))).expect("refused")
    };
    rules("local all all scram-sha-256\n");
    let why = refusal(Some("wrong"), "password authentication failed");
    assert!(why.starts_with("the server refuses the password of `postgres` (`admin.password`): "), "{why}");
    assert!(look_at_only(&with_admin(Some("right"))).sql().is_some());
    let why = refusal(None, "password");
    assert_eq!(why, "the server asks `postgres` for a password, and the topology has no `admin.password`");
    rules("local all nobody trust\n");
    let why = refusal(None, "no pg_hba.conf entry");
    assert!(why.starts_with("the server does not let `postgres` in: "), "{why}");
    assert!(why.contains("by `peer`"), "{why}");
}

#[test]
fn a_server_that_takes_no_connections_is_alive_and_a_killed_one_is_not() {
    let server = Server::initdb();
    server.append("postgresql.conf", "hot_standby = off\n");
    server.append("standby.signal", "");
    server.start();
    let seen = look_at(&server);
    assert!(why_no_sql(&seen).starts_with("the server takes no connections now: "), "{}", why_no_sql(&seen));
    assert!(why_no_sql(&seen).contains("Hot standby mode is disabled"), "{}", why_no_sql(&seen));

    let killed = Command::new("kill").args(["-9", &server.pid()]).status().expect("kill runs");
    assert!(killed.success());
    // Its children end by themselves; until then, something still works in the data directory.
    let observed = look_until(&alone(&server), |observed| observed.node(&NodeName::new("a")).server.is_absent());
    assert!(server.path("postmaster.pid").exists());
    assert_eq!(cluster(observed.node(&NodeName::new("a"))).state, ControlState::InArchiveRecovery);
}

#[test]
#[ignore = "needs servers of 10 to 18 in the folders of PGPAIR_PG_ROOT"]
fn servers_of_every_major_are_seen_alike() {
    let root = std::env::var("PGPAIR_PG_ROOT").expect("PGPAIR_PG_ROOT: a folder with a folder for each major");
    for major in Major::all() {
        let own = format!("{root}/{major}/bin");
        let bin = if major.number() == 15 { BIN } else { &own };
        let primary = Server::initdb_with(bin);
        primary.start();
        primary.sql("create role repuser login replication");
        primary.sql("select pg_create_physical_replication_slot('pgpair_b', true)");
        primary.sql("alter role postgres set work_mem = '1GB'");
        primary.stop("fast");
        let standby = Server::nowhere_with(bin);
        let copied = Command::new("cp").args(["-a", &primary.data_dir(), &standby.data_dir()]).status();
        assert!(copied.expect("cp runs").success());
        standby.configure();
        let conninfo = format!("host=127.0.0.1 port={} user=repuser application_name=b", primary.port);
        let settings = format!("primary_conninfo = '{conninfo}'\nprimary_slot_name = 'pgpair_b'\n");
        match major.dialect().standby_mode {
            StandbyMode::SignalFile => {
                standby.append("postgresql.conf", &settings);
                standby.append("standby.signal", "");
            }
            StandbyMode::RecoveryConf => standby.append("recovery.conf", &format!("standby_mode = 'on'\n{settings}")),
        }
        let mut topology = topology([node("a", Role::Primary, &primary), node("b", Role::Standby, &standby)]);
        topology.postgresql.version = major;
        topology.postgresql.bin_dir = Some(bin.to_owned());
        let [a, b] = ["a", "b"].map(NodeName::new);

        let stopped = look(&topology);
        let seen = cluster(stopped.node(&a));
        assert_eq!((seen.major, seen.state), (major, ControlState::ShutDown));
        let slot = &seen.slots["pgpair_b"];
        assert!(slot.physical && slot.reserved, "{major}: {slot:?}");
        let binaries = stopped.node(&a).binaries.known().unwrap_or_else(|| panic!("{:?}", stopped.node(&a).binaries));
        assert_eq!(binaries.major, major);
        let can_copy = binaries.basebackup.known().map(|program| program.major);
        assert_eq!(can_copy, (major.number() <= 15).then_some(15), "{major}");

        primary.start();
        standby.start();
        let observed = look_until(&topology, |observed| {
            let receiver = observed.node(&b).sql().and_then(|sql| sql.receiver.as_ref());
            let senders = observed.node(&a).sql().map(|sql| sql.senders.as_slice()).unwrap_or_default();
            receiver.is_some_and(|receiver| receiver.status == "streaming")
                && senders.iter().any(|sender| sender.application_name == "b" && sender.state == "streaming")
        });
        let (upstream, downstream) = (sql(observed.node(&a)), sql(observed.node(&b)));
        assert!(upstream.version.starts_with(&major.to_string()) && !upstream.in_recovery && downstream.in_recovery);
        assert_eq!((upstream.timeline, downstream.timeline), (Timeline(1), Timeline(1)));
        assert_eq!(upstream.settings["work_mem"].value, "4096", "{major}: the default, not that of our role");
        let receiver = downstream.receiver.as_ref().expect("a receiver");
        assert_eq!((receiver.host.as_deref(), receiver.port), (Some("127.0.0.1"), Some(primary.port)), "{major}");
        assert_eq!((receiver.user.as_deref(), receiver.slot.as_deref()), (Some("repuser"), Some("pgpair_b")));
        assert_eq!(comes_up_as(&cluster(observed.node(&b)).markers, major), Role::Standby);
        let role = cluster(observed.node(&a)).replication_role.known().expect("a role");
        assert_eq!(role.verifier, Verifier::None);
        if major.dialect().rewind_by_grants {
            assert!(!role.rewind_grants, "{major}");
        }
        let program = observed.node(&a).binaries.known().expect("installed");
        assert_eq!(upstream.version.split(' ').next(), Some(program.version.as_str()));
    }
}
