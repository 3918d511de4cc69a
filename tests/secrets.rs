//! The life of a pair, from its creation over a new password and both role changes to the old primary's return, with
//! secrets of every kind: none of them is in anything that pgpair or a server says, logs, saves or passes to a process.

mod support;

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use support::Ran;
use support::Version;
use support::Workspace;
use support::roles::kill;
use support::roles::name_primary;
use support::wait_until;

const ADMIN: &str = "Open-Sesame-71";
const FIRST: &str = "Correct-Horse-72";
const SECOND: &str = "Battery-Staple-73";
/// Those that somebody wrote into the servers' own files.
const BY_HAND: [&str; 4] = ["Passphrase-74", "Archive-Token-75", "Upstream-76", "Ldap-77"];

fn secrets() -> impl Iterator<Item = &'static str> {
    [ADMIN, FIRST, SECOND].into_iter().chain(BY_HAND)
}

/// Everything that is said, beside a watch of all command lines.
struct Ears<'a> {
    pair: &'a Workspace,
    heard: RefCell<usize>,
    stop: Arc<AtomicBool>,
    told: Arc<Mutex<Vec<String>>>,
    watcher: Option<std::thread::JoinHandle<usize>>,
}

impl<'a> Ears<'a> {
    fn on(pair: &'a Workspace) -> Self {
        let (stop, told) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (until, seen) = (stop.clone(), told.clone());
        let watcher = std::thread::spawn(move || {
            let mut looks = 0;
            while !until.load(Ordering::Relaxed) {
                for process in fs::read_dir("/proc").expect("there").flatten() {
                    let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
                    let words = String::from_utf8_lossy(&words).replace('\0', " ");
                    if secrets().any(|secret| words.contains(secret)) {
                        seen.lock().expect("one thread").push(words);
                    }
                }
                looks += 1;
                std::thread::park_timeout(Duration::from_millis(2));
            }
            looks
        });
        Self { pair, heard: RefCell::default(), stop, told, watcher: Some(watcher) }
    }

    /// Runs pgpair, and reads what it says.
    fn hear(&self, arguments: &[&str]) -> Ran {
        let ran = Ran::of(&self.pair.command(arguments).env("BOSS_PASSWORD", ADMIN).output().expect("pgpair runs"));
        for secret in secrets() {
            assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret), "{secret} in {arguments:?}: {ran:?}");
        }
        *self.heard.borrow_mut() += ran.stdout.len() + ran.stderr.len();
        ran
    }

    /// What only looks, in every format and at its most talkative.
    fn looks(&self) {
        for command in [&["plan"][..], &["drift"], &["status"]] {
            for format in ["text", "json", "markdown", "html"] {
                self.hear(&[command, &["--format", format, "-vv"]].concat());
            }
        }
        self.hear(&["observe", "-o", "observed.json", "-vv"]).exits(0);
        self.hear(&["plan", "--observed", "observed.json", "-o", "saved.json"]);
        for format in ["text", "json", "markdown", "html"] {
            self.hear(&["show", "saved.json", "--format", format]).exits(0);
        }
    }

    fn applies(&self, arguments: &[&str]) {
        let arguments = [arguments, &["--auto-approve", "--timeout", "20s", "--log-format", "json", "-vv"]].concat();
        let ran = self.hear(&arguments).exits(0);
        for line in ran.stderr.lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(event.is_object(), "{line}");
        }
        self.hear(&["plan", "--detailed-exitcode"]).exits(0);
    }

    fn ends(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let looks = self.watcher.take().map(|watcher| watcher.join().expect("it watches"));
        assert!(looks > Some(20), "it saw too little: {looks:?}");
        assert_eq!(*self.told.lock().expect("one thread"), Vec::<String>::new(), "on a command line");
        assert!(*self.heard.borrow() > 50_000, "{} bytes are too little", self.heard.borrow());
    }
}

/// All files below a folder, but for links.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path(), found),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            Ok(_) | Err(_) => {}
        }
    }
}

/// No file but the secret's own holds one, and those are their owner's alone.
fn is_in_no_file(pair: &Workspace) {
    let mut all = Vec::new();
    files(&pair.path(""), &mut all);
    let (mut logs, mut own) = (0, 0);
    for path in all {
        let Ok(bytes) = fs::read(&path) else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        logs += usize::from(name.ends_with(".log") || name.ends_with(".jsonl"));
        for secret in secrets().filter(|secret| bytes.windows(secret.len()).any(|window| window == secret.as_bytes())) {
            let is_its_own = match secret {
                FIRST | SECOND => name == "repuser.secret" || name == "pgpair.pass",
                // The server itself logs what it reads in its configuration.
                _ => {
                    let is_of_server = path.parent().is_some_and(|folder| folder.ends_with("data/log"));
                    BY_HAND.contains(&secret) && (is_of_server || name == "postgresql.conf" || name == "pg_hba.conf")
                }
            };
            assert!(is_its_own, "{secret} is in {}", path.display());
            let mode = fs::metadata(&path).expect("read").permissions().mode();
            assert_eq!(mode & 0o077, 0, "{} may be read by others", path.display());
            own += 1;
        }
    }
    assert!(logs >= 4 && own >= 4, "{logs} logs, {own} files of secrets");
}

#[test]
fn in_a_whole_life_no_secret_is_said_logged_saved_or_passed_to_a_process() {
    let pair = Workspace::new(Version(15));
    pair.write("repuser.secret", &format!("{FIRST}\n"), 0o600);
    pair.topology(
        "auth: scram-sha-256, password: { file: repuser.secret }",
        "  max_wal_senders: 6\n  wal_log_hints: on\n  wal_keep_size: 256MB\n  log_statement: all\n  \
         logging_collector: on\n  log_min_messages: debug1\n  log_connections: on\n",
    );
    pair.edit("nodes:\n", "admin: { user: boss, password: { env: BOSS_PASSWORD } }\nnodes:\n");
    let ears = Ears::on(&pair);
    ears.looks();
    ears.hear(&["apply", "--auto-approve", "--plan", "saved.json", "-vv"]).exits(0);

    // What somebody wrote by hand is quoted nowhere.
    for node in ["a", "b"] {
        let conf = pair.data_dir(node).join("postgresql.conf");
        let text = fs::read_to_string(&conf).expect("its configuration");
        let by_hand = "ssl_passphrase_command = 'echo Passphrase-74'\n\
            archive_command = 'put --token=Archive-Token-75 %p'\n\
            #primary_conninfo = 'host=x password=Upstream-76'\n";
        fs::write(&conf, by_hand.to_owned() + &text.replace("work_mem", "#work_mem") + "work_mem = '9MB'\n")
            .expect("our file");
        let hba = pair.data_dir(node).join("pg_hba.conf");
        let text = fs::read_to_string(&hba).expect("its rules");
        let rule = "host all all 203.0.113.0/24 ldap ldapserver=x ldapbasedn=y ldapbindpasswd=Ldap-77\n";
        fs::write(&hba, format!("{rule}{text}")).expect("our file");
    }
    pair.edit("  log_connections: on\n", "  log_connections: on\n  work_mem: 7MB\n");
    ears.looks();
    ears.hear(&["diff", "pgpair.yaml", "pgpair.yaml"]).exits(0);
    ears.applies(&["apply", "--allow", "outage,restart"]);
    is_in_no_file(&pair);

    pair.write("repuser.secret", &format!("{SECOND}\n"), 0o600);
    ears.applies(&["apply", "--allow", "restart"]);

    name_primary(&pair, "b");
    ears.looks();
    ears.applies(&["apply", "--allow", "switchover=b,outage,restart"]);
    is_in_no_file(&pair);

    kill(&pair, "b");
    ears.applies(&["failover", "--to", "a", "--allow", "destroy=b,restart"]);
    ears.looks();

    // What fails tells no more.
    let mut wrong = pair.command(&["apply", "--auto-approve", "-vv"]);
    let wrong = Ran::of(&wrong.env("BOSS_PASSWORD", "Wrong-78").output().expect("pgpair runs"));
    assert!(
        wrong.code != Some(0) && !wrong.stderr.contains("Wrong-78") && !wrong.stdout.contains("Wrong-78"),
        "{wrong:?}"
    );
    let streams = || pair.data_dir("b").join("standby.signal").exists();
    wait_until("it is a standby", streams);
    is_in_no_file(&pair);
    ears.ends();
}
