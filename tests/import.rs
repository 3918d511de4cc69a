//! Servers that pgpair never saw, made by hand in the ways that people make them, are imported: the plan of what was
//! written is empty, a change through pgpair is applied, and the plan is empty again.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use support::Ran;
use support::Version;
use support::Workspace;
use support::as_owner;
use support::free_port;
use support::is_root;
use support::wait_until;

mod support;

const PG: Version = Version(15);

/// The password of the replication role, which nothing may show.
const PASSWORD: &str = "correct horse";

/// Servers made by hand.
struct Servers {
    workspace: Workspace,
    ports: Vec<(String, u16)>,
}

impl Servers {
    fn new(version: Version) -> Self {
        let workspace = Workspace::new(version);
        let ports =
            ["a", "b", "c"].map(str::to_owned).into_iter().zip(workspace.ports.into_iter().chain([free_port()]));
        Self { ports: ports.collect(), workspace }
    }

    fn port(&self, node: &str) -> u16 {
        self.ports.iter().find(|(name, _)| name == node).expect("a node").1
    }

    fn data_dir(&self, node: &str) -> String {
        self.workspace.data_dir(node).display().to_string()
    }

    /// The settings that every server here needs to be by itself.
    fn settings(&self, node: &str) -> String {
        let (port, dir) = (self.port(node), self.workspace.path("").display().to_string());
        let dir = dir.trim_end_matches('/');
        format!("port = {port}\nunix_socket_directories = '{dir}'\nfsync = off\n")
    }

    /// Makes and starts a primary with these lines in postgresql.conf, and these rules first in pg_hba.conf.
    fn primary(&self, conf: &str, rules: &str) {
        self.workspace.initdb("a");
        self.workspace.set("a", &format!("{}{conf}", self.settings("a")));
        self.prepend_rules("a", rules);
        self.start("a");
        self.workspace.sql("a", &format!("create role repuser login replication password '{PASSWORD}'"));
    }

    fn prepend_rules(&self, node: &str, rules: &str) {
        let path = self.workspace.data_dir(node).join("pg_hba.conf");
        let text = fs::read_to_string(&path).expect("a pg_hba.conf");
        fs::write(&path, format!("{rules}{text}")).expect("our file");
    }

    fn start(&self, node: &str) {
        self.workspace.pg_ctl(node, &["start"]).exits(0);
    }

    /// Copies a server as `node`, with these options of pg_basebackup, and gives it these lines.
    fn copy(&self, node: &str, options: &[&str], conf: &str) {
        self.copy_files(node, options);
        self.workspace.set(node, &format!("{}{conf}", self.settings(node)));
    }

    fn copy_files(&self, node: &str, options: &[&str]) {
        self.workspace.make_folder(node);
        let own = self.workspace.bin_dir.join("pg_basebackup");
        let program = if own.exists() { own } else { "/usr/lib/postgresql/15/bin/pg_basebackup".into() };
        let data_dir = self.data_dir(node);
        let mut command = as_owner(program);
        command.args(["-D", &data_dir, "-c", "fast", "-X", "stream"]).args(options).env("PGPASSWORD", PASSWORD);
        Ran::of(&command.output().expect("pg_basebackup runs")).exits(0);
    }

    /// Waits until as many standbys stream from a server.
    fn feeds(&self, node: &str, count: usize) {
        wait_until("the standbys stream", || {
            let query = "select count(*) from pg_stat_replication where state = 'streaming'";
            self.workspace.try_sql(node, query).stdout.trim() == count.to_string()
        });
    }

    fn import_with(&self, nodes: &[&str], options: &[&str]) -> Ran {
        let dirs: Vec<String> = nodes.iter().map(|node| self.data_dir(node)).collect();
        let dirs = dirs.iter().flat_map(|dir| ["--data-dir", dir]);
        let arguments: Vec<&str> = ["import", "-o", "pgpair.yaml"].into_iter().chain(dirs).collect();
        self.workspace.pgpair(&[&arguments, options].concat())
    }

    /// Imports these servers whole, and returns the topology that was written.
    #[track_caller]
    fn imported(&self, nodes: &[&str]) -> String {
        let ran = self.import_with(nodes, &[]).exits(0);
        assert!(!ran.stderr.contains("could not be expressed"), "{}", ran.stderr);
        let ran = ran.says("its plan is empty.");
        let text = self.text();
        for shown in [&text, &ran.stdout, &ran.stderr] {
            assert!(!shown.contains(PASSWORD), "{shown}");
        }
        text
    }

    fn text(&self) -> String {
        fs::read_to_string(self.workspace.path("pgpair.yaml")).expect("a topology")
    }

    /// The plan is empty; one parameter is changed through pgpair; the plan is empty again.
    #[track_caller]
    fn is_adopted(&self, nodes: &[&str]) {
        self.workspace.in_sync();
        let text = self.text();
        let changed = if text.contains("\nparameters:\n") {
            text.replace("\nparameters:\n", "\nparameters:\n  work_mem: 5MB\n")
        } else {
            text.replace("\nnodes:\n", "\nparameters:\n  work_mem: 5MB\nnodes:\n")
        };
        self.workspace.write("pgpair.yaml", &changed, 0o644);
        self.workspace.apply().exits(0);
        for node in nodes {
            assert_eq!(self.workspace.sql(node, "show work_mem"), "5MB", "{node}");
        }
        self.workspace.in_sync();
    }
}

#[test]
fn a_pair_of_shell_snippets_with_a_slot_and_a_passfile() {
    let servers = Servers::new(PG);
    let workspace = &servers.workspace;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/plain-pair");
    let (bin_dir, folder) = (workspace.bin_dir.display().to_string(), workspace.path("").display().to_string());
    let ports = ["a", "b"].map(|node| servers.port(node).to_string());
    let arguments = [bin_dir.as_str(), folder.trim_end_matches('/'), &ports[0], &ports[1]];
    ["a", "b"].iter().for_each(|node| workspace.make_folder(node));
    // The script writes into the folder itself, too.
    Ran::of(&as_owner("sh").arg(script).args(arguments).output().expect("sh runs")).exits(0);

    insta::assert_snapshot!(stable(&servers, &servers.imported(&["a", "b"])));
    let secret = workspace.path("pgpair.repuser.secret");
    assert_eq!(fs::read_to_string(&secret).expect("a secret"), format!("{PASSWORD}\n"));
    assert_eq!(workspace.mode(&secret), 0o600);
    servers.is_adopted(&["a", "b"]);
    workspace.replicates();
}

/// A topology without what differs from run to run.
fn stable(servers: &Servers, text: &str) -> String {
    let folder = servers.workspace.path("").display().to_string();
    let text = text.replace(folder.trim_end_matches('/'), "FOLDER");
    // Where the tests of this checkout have their versions.
    let text = text.replace(env!("CARGO_MANIFEST_DIR"), "CHECKOUT");
    let text =
        servers.ports.iter().fold(text, |text, (node, port)| text.replace(&port.to_string(), &format!("PORT_{node}")));
    let lines =
        text.lines().map(|line| if line.starts_with("system_identifier: ") { "system_identifier: 7" } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_pair_by_pg_basebackup_with_the_password_in_its_conninfo() {
    let servers = Servers::new(PG);
    servers.primary(
        "archive_mode = on\narchive_command = 'test -d /tmp'\n",
        "host replication repuser 127.0.0.1/32 md5\n",
    );
    let port = servers.port("a").to_string();
    servers.copy("b", &["-R", "-h", "127.0.0.1", "-p", &port, "-U", "repuser"], "");
    servers.start("b");
    servers.feeds("a", 1);
    let auto = fs::read_to_string(servers.workspace.data_dir("b").join("postgresql.auto.conf")).expect("a file");
    assert!(auto.contains(PASSWORD), "this is about a password there: {auto}");

    let text = servers.imported(&["a", "b"]);
    for line in ["  auth: md5\n", "  slots: false\n", "  archive_command: \"test -d /tmp\"\n"] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    servers.is_adopted(&["a", "b"]);
}

#[test]
fn a_pair_by_pg_basebackup_over_a_unix_socket() {
    let servers = Servers::new(PG);
    servers.primary("", "");
    let (port, folder) = (servers.port("a").to_string(), servers.workspace.path("").display().to_string());
    servers.copy("b", &["-R", "-h", &folder, "-p", &port, "-U", "repuser"], "cluster_name = 'second'\n");
    servers.start("b");
    servers.feeds("a", 1);

    let text = servers.imported(&["a", "b"]);
    for line in ["  auth: trust\n", "\n  second:\n    role: standby\n", "      cluster_name: second\n"] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    servers.is_adopted(&["a", "b"]);
}

#[test]
fn a_pair_whose_conninfo_names_no_user() {
    let servers = Servers::new(PG);
    servers.primary("", "");
    let port = servers.port("a");
    servers.copy("b", &["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "repuser"], "");
    servers.workspace.set("b", &format!("primary_conninfo = 'host=127.0.0.1 port={port}'"));
    servers.workspace.write("b/data/standby.signal", "", 0o600);
    servers.start("b");
    servers.feeds("a", 1);

    let text = servers.imported(&["a", "b"]);
    let owner = servers.workspace.sql("a", "select current_user");
    for line in [format!("  user: {owner}\n"), format!("    os_user: {owner}\n")] {
        assert!(text.contains(&line), "{line}\n{text}");
    }
    servers.is_adopted(&["a", "b"]);
}

#[test]
fn the_pair_of_the_runbook_on_10() {
    let servers = Servers::new(Version(10));
    let runbook = "logging_collector = on\nlog_min_messages = notice\nlog_min_duration_statement = 1000\n\
                   log_checkpoints = on\nlog_connections = on\nlog_disconnections = on\nlog_duration = on\n\
                   log_error_verbosity = verbose\nlog_line_prefix = '%t [%p]: [%l-1] <%d %u %h>'\n\
                   unix_socket_permissions = 0600\nlisten_addresses = '*'\nmax_wal_senders = 3\nwal_level = replica\n\
                   archive_mode = on\narchive_command = 'cd ./'\nhot_standby = on\n";
    servers.primary(runbook, "");
    let rule = "host    replication     repuser       127.0.0.1/32       trust\n";
    let workspace = &servers.workspace;
    let hba = workspace.data_dir("a").join("pg_hba.conf");
    let text = fs::read_to_string(&hba).expect("a pg_hba.conf");
    fs::write(&hba, format!("{text}{rule}")).expect("our file");
    workspace.sql("a", "select pg_reload_conf()");
    workspace.sql("a", "alter role repuser connection limit 3");
    let port = servers.port("a");
    servers.copy("b", &["-Fp", "-h", "127.0.0.1", "-p", &port.to_string(), "-U", "repuser"], "");
    let conninfo = format!("host=127.0.0.1 port={port} user=repuser");
    let recovery = format!("recovery_target_timeline = 'latest'\nstandby_mode = on\nprimary_conninfo = '{conninfo}'\n");
    workspace.write("b/data/recovery.conf", &recovery, 0o600);
    servers.start("b");
    servers.feeds("a", 1);

    insta::assert_snapshot!(stable(&servers, &servers.imported(&["a", "b"])));
    servers.is_adopted(&["a", "b"]);
}

#[test]
fn two_synchronous_standbys_by_names_that_are_no_folders() {
    let servers = Servers::new(PG);
    servers.primary("", "host replication repuser 127.0.0.1/32 scram-sha-256\n");
    let port = servers.port("a").to_string();
    for (node, name, conf) in [("b", "osaka", ""), ("c", "tokyo", "hot_standby_feedback = on\n")] {
        servers.copy(node, &["-h", "127.0.0.1", "-p", &port, "-U", "repuser"], conf);
        let conninfo =
            format!("host=127.0.0.1 port={port} user=repuser password=''{PASSWORD}'' application_name={name}");
        servers.workspace.set(node, &format!("primary_conninfo = '{conninfo}'"));
        servers.workspace.write(&format!("{node}/data/standby.signal"), "", 0o600);
        servers.start(node);
    }
    servers.feeds("a", 2);
    servers.workspace.set("a", "synchronous_standby_names = 'FIRST 1 (tokyo, osaka)'");
    servers.workspace.sql("a", "select pg_reload_conf()");

    let text = servers.imported(&["a", "b", "c"]);
    let tokyo = text.find("\n  tokyo:\n").expect("a node");
    assert!(tokyo < text.find("\n  osaka:\n").expect("a node"), "by priority: {text}");
    for line in ["    method: first\n    num: 1\n", "    parameters:\n      hot_standby_feedback: on\n"] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("standbys:"), "all are meant: {text}");
    servers.is_adopted(&["a", "b", "c"]);
}

#[test]
fn a_cascade_with_slots_and_an_uri_of_several_servers_as_conninfo() {
    let servers = Servers::new(PG);
    servers.primary("", "host replication repuser 127.0.0.1/32 scram-sha-256\n");
    for (node, from) in [("b", "a"), ("c", "b")] {
        let port = servers.port(from).to_string();
        servers.copy(node, &["-h", "127.0.0.1", "-p", &port, "-U", "repuser"], "");
        servers.workspace.sql(from, &format!("select pg_create_physical_replication_slot('of_{node}', true)"));
        // The second is another server to try, should the first be gone.
        let several = format!("127.0.0.1:{port},127.0.0.1:{}", servers.port("a"));
        let conninfo =
            format!("postgresql://repuser:correct%20horse@{several}/?application_name={node}&connect_timeout=5");
        let auto = format!("primary_conninfo = '{conninfo}'\nprimary_slot_name = 'of_{node}'\n");
        servers.workspace.write(&format!("{node}/data/postgresql.auto.conf"), &auto, 0o600);
        servers.workspace.write(&format!("{node}/data/standby.signal"), "", 0o600);
        servers.start(node);
        servers.feeds(from, 1);
    }

    let text = servers.imported(&["c", "b", "a"]);
    for line in ["    upstream: b\n", "    slot: of_b\n", "    slot: of_c\n", "  slots: true\n"] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("upstream: a"), "that is the default: {text}");
    assert!(!text.contains("correct%20horse"), "{text}");
    servers.is_adopted(&["a", "b", "c"]);
}

#[test]
fn a_pair_that_repmgr_made() {
    let servers = Servers::new(PG);
    let workspace = &servers.workspace;
    let conf =
        "shared_preload_libraries = 'repmgr'\nwal_log_hints = on\narchive_mode = on\narchive_command = '/bin/true'\n";
    servers.primary(conf, "");
    workspace.sql("a", "create role repmgr superuser login");
    workspace.sql("a", "create database repmgr owner repmgr");
    let repmgr = |node: &str, arguments: &[&str]| {
        let (id, port, data_dir) = (usize::from(node == "b") + 1, servers.port(node), servers.data_dir(node));
        let conf = format!(
            "node_id={id}\nnode_name='node{id}'\ndata_directory='{data_dir}'\nuse_replication_slots=1\n\
             conninfo='host=127.0.0.1 port={port} user=repmgr dbname=repmgr connect_timeout=2'\npg_bindir='{}'\n",
            workspace.bin_dir.display()
        );
        let conf = workspace.write(&format!("repmgr_{node}.conf"), &conf, 0o600);
        let ran = as_owner("repmgr").arg("-f").arg(conf).args(arguments).output();
        Ran::of(&ran.expect("`scripts/test` installs repmgr")).exits(0);
    };
    repmgr("a", &["primary", "register"]);
    let port = servers.port("a").to_string();
    workspace.make_folder("b");
    repmgr("b", &["-h", "127.0.0.1", "-p", &port, "-U", "repmgr", "-d", "repmgr", "standby", "clone", "-c"]);
    workspace.set("b", &servers.settings("b"));
    servers.start("b");
    repmgr("b", &["standby", "register"]);
    servers.feeds("a", 1);

    let text = servers.imported(&["a", "b"]);
    for line in
        ["  user: repmgr\n", "\n  node2:\n", "    slot: repmgr_slot_2\n", "  shared_preload_libraries: repmgr\n"]
    {
        assert!(text.contains(line), "{line}\n{text}");
    }
    servers.is_adopted(&["a", "b"]);
}

#[test]
fn a_pair_with_pg_wal_and_a_tablespace_elsewhere() {
    let servers = Servers::new(PG);
    let workspace = &servers.workspace;
    workspace.make_folder("wal_a");
    workspace.make_folder("space_a");
    servers.primary("", "host replication repuser 127.0.0.1/32 scram-sha-256\n");
    workspace.pg_ctl("a", &["stop"]).exits(0);
    let (wal, link) = (workspace.path("wal_a/wal"), workspace.data_dir("a").join("pg_wal"));
    fs::rename(&link, &wal).expect("our folder");
    std::os::unix::fs::symlink(&wal, &link).expect("our folder");
    servers.start("a");
    workspace.sql("a", &format!("create tablespace fast location '{}'", workspace.path("space_a").display()));
    let (port, mapped) = (
        servers.port("a").to_string(),
        format!("{}={}", workspace.path("space_a").display(), workspace.path("space_b").display()),
    );
    let waldir = workspace.path("wal_b").display().to_string();
    servers.copy("b", &["-R", "-h", "127.0.0.1", "-p", &port, "-U", "repuser", "-T", &mapped, "--waldir", &waldir], "");
    servers.start("b");
    servers.feeds("a", 1);

    let text = servers.imported(&["a", "b"]);
    assert_eq!(text.matches("    waldir: ").count(), 2, "{text}");
    assert!(text.contains("    tablespaces:\n"), "{text}");
    servers.is_adopted(&["a", "b"]);
}

#[test]
fn a_pair_that_pgpair_made_and_whose_topology_is_lost() {
    let workspace = Workspace::new(PG);
    workspace.topology(
        "auth: scram-sha-256, password: { file: repuser.secret }",
        "  max_wal_senders: 4\n  work_mem: 4MB\nhba: [{ type: host, database: [app, x], user: all, address: 10.0.0.0/8, method: md5 }]\n",
    );
    workspace.apply().exits(0);
    let ports = ["a", "b"].map(str::to_owned).into_iter().zip(workspace.ports).collect();
    let servers = Servers { workspace, ports };
    fs::remove_file(servers.workspace.path("pgpair.yaml")).expect("it is there");

    let text = servers.imported(&["a", "b"]);
    for line in ["cluster: test\n", "  work_mem: 4MB\n", "database: [app, x]", "\n  a:\n", "\n  b:\n"] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("cluster_name"), "that is pgpair's own default: {text}");
    servers.workspace.in_sync();
    servers.workspace.edit("work_mem: 4MB", "work_mem: 5MB");
    servers.workspace.apply().exits(0);
    assert_eq!(servers.workspace.sql("b", "show work_mem"), "5MB");
    servers.workspace.in_sync();
}

/// The address by which this machine reaches others; of one that reaches none, loopback.
fn own_address() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    // Nothing is sent by this.
    let own = socket.connect("203.0.113.1:9").and_then(|()| socket.local_addr());
    own.map_or_else(|_| "127.0.0.1".to_owned(), |own| own.ip().to_string())
}

#[test]
fn a_pair_by_certificates_at_the_address_of_the_machine() {
    let servers = Servers::new(PG);
    let (workspace, address) = (&servers.workspace, own_address());
    workspace.make_folder("tls");
    let openssl = |arguments: &str| {
        let mut command = as_owner("openssl");
        Ran::of(&command.args(arguments.split(' ')).current_dir(workspace.path("tls")).output().expect("it runs"))
            .exits(0);
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem");
    for (file, name) in [("server", address.as_str()), ("repl", "repuser")] {
        openssl(&format!("req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {file}.key -out {file}.csr"));
        openssl(&format!("x509 -req -in {file}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out {file}.crt"));
    }
    let tls = workspace.path("tls").display().to_string();
    let conf = format!(
        "listen_addresses = '*'\nssl = on\nssl_cert_file = '{tls}/server.crt'\nssl_key_file = '{tls}/server.key'\n\
         ssl_ca_file = '{tls}/ca.pem'\n"
    );
    servers.primary(&conf, &format!("hostssl replication repuser {address}/32 cert\n"));
    let files = format!("sslmode=verify-ca sslrootcert={tls}/ca.pem sslcert={tls}/repl.crt sslkey={tls}/repl.key");
    let conninfo = format!("host={address} port={} user=repuser {files}", servers.port("a"));
    servers.copy("b", &["-R", "-d", &conninfo], "");
    servers.start("b");
    servers.feeds("a", 1);
    assert_eq!(workspace.sql("a", "select ssl from pg_stat_ssl join pg_stat_replication using (pid)"), "t");

    let text = servers.imported(&["a", "b"]);
    for line in ["  auth: cert\n", "    sslmode: verify-ca\n", "    sslcert: ", "  listen_addresses: \"*\"\n"] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert_eq!(text.matches(&format!("    host: {address}\n")).count(), 2, "{text}");
    servers.is_adopted(&["a", "b"]);
}

#[test]
fn a_primary_alone_on_the_newest_major() {
    let servers = Servers::new(Version(18));
    servers.primary("io_method = sync\n", "");
    let ran = servers.import_with(&["a"], &["--cluster", "alone"]).exits(0).says("how standbys are to log in");
    assert_eq!(ran.stderr.matches("could not be expressed").count(), 1, "{}", ran.stderr);
    assert!(servers.text().contains("cluster: alone\n"));
    servers.is_adopted(&["a"]);
}

/// Makes a cluster of Debian's, with a configuration root of the test's own, or starts it.
fn debian(servers: &Servers, program: &str, node: &str, options: &[&str]) {
    let mut command = Command::new(program);
    command.env("PG_CLUSTER_CONF_ROOT", servers.workspace.path("etc")).args(["15", node]).args(options);
    Ran::of(&command.current_dir("/").output().expect("postgresql-common is installed")).exits(0);
}

#[test]
fn a_pair_of_debian_clusters_with_their_configuration_elsewhere() {
    let servers = Servers::new(PG);
    let workspace = &servers.workspace;
    workspace.make_folder("etc");
    for node in ["a", "b"] {
        workspace.make_folder(node);
        let (port, data_dir) = (servers.port(node).to_string(), servers.data_dir(node));
        let log = workspace.write(&format!("{node}.log"), "", 0o600).display().to_string();
        let mut options = vec!["-p", &port, "-d", &data_dir, "-l", &log, "-s", "/tmp", "--start-conf", "manual"];
        options.extend(if is_root() { vec!["-u", "postgres"] } else { Vec::new() });
        debian(&servers, "pg_createcluster", node, &[&options[..], &["--", "-N", "--locale=C"]].concat());
        workspace.write(&format!("etc/15/{node}/conf.d/own.conf"), "fsync = off\nwal_log_hints = on\n", 0o644);
    }
    debian(&servers, "pg_ctlcluster", "a", &["start"]);
    workspace.sql("a", &format!("create role repuser login replication password '{PASSWORD}'"));
    let port = servers.port("a").to_string();
    fs::remove_dir_all(workspace.data_dir("b")).expect("our folder");
    servers.copy_files("b", &["-R", "-h", "127.0.0.1", "-p", &port, "-U", "repuser"]);
    debian(&servers, "pg_ctlcluster", "b", &["start"]);
    servers.feeds("a", 1);

    insta::assert_snapshot!(stable(&servers, &servers.imported(&["a", "b"])));
    servers.is_adopted(&["a", "b"]);
    let conf = fs::read_to_string(workspace.path("etc/15/b/postgresql.conf")).expect("a file");
    assert!(conf.contains("work_mem = '5MB'"), "{conf}");
}

#[test]
fn who_may_not_read_the_files_imports_what_the_servers_say_and_is_told_the_rest() {
    // Only root can become somebody who owns nothing.
    if !is_root() {
        return;
    }
    let servers = Servers::new(PG);
    let rules = "host replication repuser 127.0.0.1/32 scram-sha-256\nlocal all monitor scram-sha-256\n";
    servers.primary("listen_addresses = 'localhost'\nmax_wal_senders = 4\n", rules);
    servers.workspace.sql("a", &format!("create role monitor login password '{PASSWORD}'"));
    let port = servers.port("a").to_string();
    servers.copy("b", &["-R", "-h", "127.0.0.1", "-p", &port, "-U", "repuser"], "");
    servers.start("b");
    servers.feeds("a", 1);

    let program = servers.workspace.path("pgpair");
    fs::copy(env!("CARGO_BIN_EXE_pgpair"), &program).expect("a copy");
    let folder = servers.workspace.path("").display().to_string();
    let dsn = |node: &str| format!("postgresql://monitor@{}:{}", folder.replace('/', "%2F"), servers.port(node));
    let own = servers.workspace.path("own");
    fs::create_dir(&own)
        .and_then(|()| fs::set_permissions(&own, fs::Permissions::from_mode(0o777)))
        .expect("our folder");
    let import = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"]).arg(&program).arg("import");
        command.args(arguments).current_dir(&own).env("NO_COLOR", "1").env("PGPASSWORD", PASSWORD);
        Ran::of(&command.output().expect("setpriv runs"))
    };
    let dsns = [dsn("a"), dsn("b")];
    let dsns = [dsns[0].as_str(), dsns[1].as_str()];
    let refused = import(&dsns).exits(1).says("`monitor` may not see all settings and replication");
    refused.says("`GRANT pg_monitor TO monitor`");
    servers.workspace.sql("a", "grant pg_monitor to monitor");
    wait_until("the grant is on the standby", || {
        servers.workspace.sql("b", "select pg_has_role('monitor', 'pg_monitor', 'usage')") == "t"
    });

    let ran = import(&dsns).exits(0).says("what only files of a and b tell (pg_hba.conf");
    // A role with pg_monitor sees what a conninfo has in it.
    let secret = own.join("cluster.repuser.secret");
    assert_eq!(
        (servers.workspace.mode(&secret), fs::read_to_string(&secret).expect("there")),
        (0o600, format!("{PASSWORD}\n"))
    );
    for line in [
        "  max_wal_senders: 4\n",
        "    role: standby\n",
        "  user: monitor\n  password: { env: PGPASSWORD }\n",
        "  user: repuser\n",
    ] {
        assert!(ran.stdout.contains(line), "{line}\n{}", ran.stdout);
    }
    assert!(!ran.stdout.contains(PASSWORD) && !ran.stderr.contains(PASSWORD), "{ran:?}");
    import(&["--data-dir", &servers.data_dir("a")]).exits(1).says("can't act as `postgres`").says("pg_monitor");
    import(&["port=5432 user=monitor password=x"]).exits(1).says("set PGPASSWORD instead");
}

#[test]
fn what_can_not_be_expressed_is_told_and_left_as_it_is() {
    let servers = Servers::new(PG);
    servers.primary("shared_buffers = 64MB\narchive_mode = on\narchive_command = 'PGPASSWORD=hunter2 store %p'\n", "");
    let port = servers.port("a").to_string();
    servers.copy("b", &["-R", "-h", "127.0.0.1", "-p", &port, "-U", "repuser"], "");
    servers.start("b");
    servers.feeds("a", 1);
    servers.workspace.set("a", "synchronous_standby_names = '*'\nmax_connections = 42");
    servers.workspace.sql("a", "select pg_reload_conf()");
    wait_until("it is in force", || servers.workspace.sql("a", "show synchronous_standby_names") == "*");

    let ran = servers.import_with(&["a", "b"], &[]).exits(0);
    let text = servers.text();
    for (told, times) in
        [("`synchronous_standby_names = *`", 1), ("`max_connections` of a", 1), ("`archive_command` of ", 2)]
    {
        for place in [&text, &ran.stderr] {
            assert_eq!(place.matches(told).count(), times, "{told}\n{place}");
        }
    }
    assert!(!text.contains("hunter2") && !ran.stderr.contains("hunter2"), "{text}{}", ran.stderr);
    assert!(text.contains("  shared_buffers: 64MB\n"), "{text}");
    servers.workspace.in_sync();
    assert_eq!(servers.workspace.sql("a", "show synchronous_standby_names"), "*");
}

#[test]
fn nothing_is_written_over_or_guessed() {
    let servers = Servers::new(PG);
    servers.primary("", "host replication repuser 127.0.0.1/32 scram-sha-256\n");
    let workspace = &servers.workspace;
    let port = servers.port("a").to_string();
    servers.copy("b", &["-R", "-h", "127.0.0.1", "-p", &port, "-U", "repuser"], "");
    servers.import_with(&["a", "b"], &[]).exits(1).says("no server runs on this data directory");
    servers.start("b");
    servers.feeds("a", 1);

    servers.import_with(&[], &[]).exits(1).says("no server is given");
    servers.import_with(&["a", "a"], &[]).exits(1).says("was given twice");
    let alone = servers.import_with(&["b"], &[]).exits(1).says("which is not among these servers");
    alone.says(&format!("streams from 127.0.0.1, port {port}"));
    servers.workspace.initdb("c");
    servers.workspace.set("c", &servers.settings("c"));
    servers.start("c");
    servers.import_with(&["a", "c"], &[]).exits(1).says("are of different clusters");
    assert!(!workspace.path("pgpair.yaml").exists());

    let secret = workspace.write("pgpair.repuser.secret", "another\n", 0o600);
    servers.import_with(&["a", "b"], &[]).exits(1).says("holds something else than the password found");
    assert_eq!(fs::read_to_string(&secret).expect("there"), "another\n");
    assert!(!workspace.path("pgpair.yaml").exists(), "it would name a secret that is not the right one");
    workspace.make_folder("secrets");
    let ran = servers.import_with(&["a", "b"], &["--secrets-dir", "secrets", "--format", "json"]).exits(0);
    let imported: serde_json::Value = serde_json::from_str(&ran.stdout).expect("one JSON value");
    assert_eq!((&imported["not_expressed"], &imported["plan"]), (&serde_json::json!([]), &serde_json::json!("clean")));
    assert_eq!(imported["topology"].as_str(), Some(servers.text().as_str()));
    assert_eq!(
        fs::read_to_string(workspace.path("secrets/pgpair.repuser.secret")).expect("there"),
        format!("{PASSWORD}\n")
    );

    workspace.write("secrets/pgpair.repuser.secret", &format!("{PASSWORD}\n"), 0o644);
    let ran = servers.import_with(&["a", "b"], &["--secrets-dir", "secrets", "--force"]).exits(1);
    ran.says("pgpair.repuser.secret exists and is open to others");
    workspace.write("secrets/pgpair.repuser.secret", &format!("{PASSWORD}\n"), 0o600);
    servers
        .import_with(&["a", "b"], &["--secrets-dir", "none", "--force"])
        .exits(1)
        .says("`none` can't be used: No such");

    let written = servers.text();
    servers.import_with(&["a", "b"], &["--secrets-dir", "secrets"]).exits(1).says("give --force");
    servers.import_with(&["a", "b"], &["--secrets-dir", "secrets", "--force"]).exits(0);
    assert_eq!(servers.text(), written);
    workspace.in_sync();
}
