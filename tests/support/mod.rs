//! What the end-to-end tests share: a folder of a test's own, the pgpair binary run in it, and real servers.
//!
//! Run as root, servers and their files belong to user `postgres`, as PostgreSQL refuses to run as root; else to
//! whoever runs the tests. Whatever was started is stopped when a [`Workspace`] is dropped, also in a panic.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub(crate) mod background;
pub(crate) mod cluster;
pub(crate) mod disk;
pub(crate) mod live;
pub(crate) mod probe;
pub(crate) mod roles;
pub(crate) mod witness;

use std::fs;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::LazyLock;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// A PostgreSQL installation under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version(pub(crate) u32);

impl Version {
    /// The folder of its programs, as `scripts/postgres` has installed it.
    pub(crate) fn bin_dir(self) -> PathBuf {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/postgres");
        let output = Command::new(script).args(["path", &self.0.to_string()]).output().expect("scripts/postgres runs");
        let path = PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim());
        assert!(path.join("postgres").exists(), "run `scripts/postgres install {}` first", self.0);
        path
    }

    pub(crate) fn has_signal_files(self) -> bool {
        self.0 >= 12
    }
}

/// A finished run of pgpair, or of another program.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that a text was printed, on either stream.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(
            self.stdout.contains(text) || self.stderr.contains(text),
            "`{text}` is not in stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }
}

/// Whether all is asked for that takes long, and not only a share of it.
pub(crate) fn is_full() -> bool {
    std::env::var_os("PGPAIR_FULL").is_some()
}

/// A PATH on which this folder comes first.
pub(crate) fn path_with(folder: &Path) -> String {
    format!("{}:{}", folder.display(), std::env::var("PATH").expect("a PATH"))
}

/// The same with the folder of pgpair.
pub(crate) fn path_with_pgpair() -> String {
    path_with(Path::new(env!("CARGO_BIN_EXE_pgpair")).parent().expect("a folder"))
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Returns the command that runs a program as the owner of the servers.
pub(crate) fn as_owner(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program.as_ref());
        command
    } else {
        Command::new(program.as_ref())
    };
    command.env("LC_ALL", "C").current_dir("/").stdin(Stdio::null());
    command
}

/// Waits until a condition holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    assert!(comes_true(Duration::from_secs(60), condition), "waited in vain until {what}");
}

/// Waits for a condition; returns whether it came to hold in time.
pub(crate) fn comes_true(within: Duration, condition: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > within {
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    true
}

/// Returns a port that no other test is given, of this process or of another, and no connection either: nodes are
/// started long after it was chosen.
pub(crate) fn free_port() -> u16 {
    /// The first port of those that are this process's own, and the lock that says so as long as it lives.
    static OWN: LazyLock<(u16, File)> = LazyLock::new(own_ports);
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(number < PORTS_OF_A_PROCESS, "the tests of one process need more ports than it has");
        let port = OWN.0 + number;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The bench of many pairs takes more than a hundred.
const PORTS_OF_A_PROCESS: u16 = 200;

fn own_ports() -> (u16, File) {
    // Below the ports that Linux gives to connections. Not all begin at one end: older servers may linger there.
    let firsts = (12_000..32_000).step_by(usize::from(PORTS_OF_A_PROCESS)).cycle();
    let mut own = firsts.skip(std::process::id() as usize % 100).take(100).filter_map(|first| {
        let lock = std::env::temp_dir().join(format!("pgpair-test-ports-{first}"));
        // One of another user's can't be opened, nor one that is in use be locked.
        let file = File::options().append(true).create(true).open(lock).ok()?;
        file.try_lock().ok()?;
        Some((first, file))
    });
    own.next().expect("fewer than 100 test processes")
}

/// A folder of a test's own, for two nodes `a` and `b`.
pub(crate) struct Workspace {
    folder: tempfile::TempDir,
    pub(crate) version: Version,
    pub(crate) bin_dir: PathBuf,
    pub(crate) ports: [u16; 2],
}

impl Workspace {
    pub(crate) fn new(version: Version) -> Self {
        let folder = tempfile::Builder::new().prefix("pgpair-test-").tempdir_in("/tmp").expect("a folder");
        own(folder.path());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("our folder");
        let ports = [free_port(), free_port()];
        let workspace = Self { folder, version, bin_dir: version.bin_dir(), ports };
        workspace.write("repuser.secret", "correct horse\n", 0o600);
        workspace
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn data_dir(&self, node: &str) -> PathBuf {
        self.path(node).join("data")
    }

    fn port(&self, node: &str) -> u16 {
        self.ports[usize::from(node == "b")]
    }

    /// Writes a file with this mode, owned by the owner of the servers.
    pub(crate) fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("our folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our file");
        own(&path);
        path
    }

    /// Writes the topology of the pair; `replication` and `parameters` are the insides of those keys.
    pub(crate) fn topology(&self, replication: &str, parameters: &str) {
        let [a, b] = self.ports;
        let (version, bin_dir) = (self.version.0, self.bin_dir.display());
        let text = format!(
            "version: 1\ncluster: test\npostgresql: {{ version: {version}, bin_dir: {bin_dir}, initdb: {{ locale: C, data_checksums: true }} }}\n\
             replication: {{ user: repuser, {replication} }}\n\
             parameters:\n  fsync: off\n{parameters}\
             nodes:\n  a: {{ role: primary, port: {a}, data_dir: a/data }}\n  b: {{ role: standby, port: {b}, data_dir: b/data }}\n"
        );
        self.write("pgpair.yaml", &text, 0o644);
    }

    /// The usual topology: scram, slots, and a few parameters.
    pub(crate) fn usual_topology(&self) {
        self.topology(
            "auth: scram-sha-256, password: { file: repuser.secret }",
            "  max_wal_senders: 4\n  wal_log_hints: on\n",
        );
    }

    /// A pair that runs, of the usual topology.
    pub(crate) fn made(version: Version) -> Self {
        let pair = Self::new(version);
        pair.usual_topology();
        pair.apply().exits(0);
        pair
    }

    /// Replaces a text of the topology, which must be there.
    #[track_caller]
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.path("pgpair.yaml")).expect("a topology");
        assert!(text.contains(from), "`{from}` is not in\n{text}");
        self.write("pgpair.yaml", &text.replace(from, to), 0o644);
    }

    /// Returns pgpair, to be run in the folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgpair"));
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("XDG_STATE_HOME", self.path("state")).env("NO_COLOR", "1").env_remove("PGPAIR_FILE");
        command
    }

    pub(crate) fn pgpair(&self, arguments: &[&str]) -> Ran {
        Ran::of(&self.command(arguments).output().expect("pgpair runs"))
    }

    pub(crate) fn apply(&self) -> Ran {
        self.pgpair(&["apply", "--auto-approve"])
    }

    /// Asserts that the plan is empty.
    #[track_caller]
    pub(crate) fn in_sync(&self) {
        self.pgpair(&["plan", "--detailed-exitcode"]).exits(0).says("No changes.");
    }

    /// Returns the ids of the steps of the plan.
    pub(crate) fn planned(&self) -> Vec<String> {
        let ran = self.pgpair(&["plan", "--format", "json"]);
        let plan: serde_json::Value = serde_json::from_str(&ran.stdout).expect("one JSON value");
        let steps = plan["steps"].as_array().expect("steps");
        steps.iter().map(|step| step["id"].as_str().expect("an id").to_owned()).collect()
    }

    /// Runs one of PostgreSQL's own programs as the owner of the servers.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Ran {
        let own = self.bin_dir.join(program);
        // The trees of other versions have no clients.
        let path = if own.exists() { own } else { Path::new("/usr/lib/postgresql/15/bin").join(program) };
        Ran::of(&as_owner(path).args(arguments).output().expect("a program of PostgreSQL runs"))
    }

    /// Asks the server of a node; one line a row.
    #[track_caller]
    pub(crate) fn sql(&self, node: &str, query: &str) -> String {
        let ran = self.try_sql(node, query).exits(0);
        ran.stdout.trim_end().to_owned()
    }

    /// Asks in another database.
    #[track_caller]
    pub(crate) fn sql_in(&self, database: &str, node: &str, query: &str) -> String {
        let ran = self.try_sql_in(database, node, query).exits(0);
        ran.stdout.trim_end().to_owned()
    }

    pub(crate) fn try_sql(&self, node: &str, query: &str) -> Ran {
        self.try_sql_in("postgres", node, query)
    }

    fn try_sql_in(&self, database: &str, node: &str, query: &str) -> Ran {
        let pid_file = fs::read_to_string(self.data_dir(node).join("postmaster.pid")).unwrap_or_default();
        let lines: Vec<&str> = pid_file.lines().collect();
        let (port, socket) = (lines.get(3).copied().unwrap_or("0"), lines.get(4).copied().unwrap_or("/none"));
        let user = if is_root() { "postgres".to_owned() } else { std::env::var("USER").unwrap_or_default() };
        self.run("psql", &["-XAtq", "-h", socket, "-p", port, "-U", &user, "-d", database, "-c", query])
    }

    pub(crate) fn pg_ctl(&self, node: &str, arguments: &[&str]) -> Ran {
        let data_dir = self.data_dir(node);
        let log = self.path(&format!("{node}.log"));
        let (data_dir, log) = (data_dir.to_string_lossy(), log.to_string_lossy());
        self.run("pg_ctl", &[arguments, &["-D", &data_dir, "-l", &log, "-w"]].concat())
    }

    /// An initdb by hand.
    pub(crate) fn initdb(&self, node: &str) {
        let data_dir = self.data_dir(node);
        self.make_folder(node);
        let data_dir = data_dir.to_string_lossy();
        self.run("initdb", &["-D", &data_dir, "--locale=C", "-N", "--auth=trust"]).exits(0);
    }

    /// Stops the servers of all nodes and deletes their folders.
    pub(crate) fn clear(&self) {
        let entries = fs::read_dir(self.folder.path()).into_iter().flatten().flatten();
        for node in entries.map(|entry| entry.file_name().to_string_lossy().into_owned()) {
            if self.data_dir(&node).join("postmaster.pid").exists() {
                self.pg_ctl(&node, &["stop", "-m", "immediate"]);
            }
            if self.data_dir(&node).exists() {
                // In a panic nothing better can be done than to go on.
                let _ = fs::remove_dir_all(self.path(&node));
            }
        }
    }

    pub(crate) fn make_folder(&self, node: &str) {
        fs::create_dir_all(self.path(node)).expect("our folder");
        own(&self.path(node));
    }

    /// Sets a line in the postgresql.conf of a node, by hand.
    pub(crate) fn set(&self, node: &str, line: &str) {
        let path = self.data_dir(node).join("postgresql.conf");
        let text = fs::read_to_string(&path).expect("a postgresql.conf");
        fs::write(&path, format!("{text}{line}\n")).expect("our file");
    }

    pub(crate) fn mode(&self, path: &Path) -> u32 {
        fs::metadata(path).expect("a file").permissions().mode() & 0o7777
    }

    /// Asserts that the pair works: roles, a row that arrives, and the port of each node.
    #[track_caller]
    pub(crate) fn replicates(&self) {
        assert_eq!(self.sql("a", "select pg_is_in_recovery()"), "f");
        assert_eq!(self.sql("b", "select pg_is_in_recovery()"), "t");
        self.sql("a", "create table if not exists rows (n bigint)");
        let row =
            self.sql("a", "insert into rows values (extract(epoch from clock_timestamp()) * 1000000) returning n");
        wait_until("the row is on the standby", || {
            self.try_sql("b", &format!("select count(*) from rows where n = {row}")).stdout.trim() == "1"
        });
        for node in ["a", "b"] {
            assert_eq!(self.sql(node, "show port"), self.port(node).to_string());
        }
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        self.clear();
    }
}

fn own(path: &Path) {
    if is_root() {
        let status = Command::new("chown").arg("postgres:postgres").arg(path).status().expect("chown runs");
        assert!(status.success());
    }
}
