//! The guard of long children: what it starts dies with whoever started it, and keeps the lock until it is gone.

use std::fs::File;
use std::fs::TryLockError;
use std::io::BufRead as _;
use std::io::BufReader;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

const PGPAIR: &str = env!("CARGO_BIN_EXE_pgpair");

/// Stands for a pgpair that runs `script` under a guard, which holds the lock on its standard input.
fn parent(lock: &File, script: &str) -> Child {
    // The shell would give a background job an empty standard input, hence the detour.
    let run = r#"exec 3<&0; "$1" internal-guard $$ -- sh -c "$2" <&3 & exec 3<&-; wait $!"#;
    Command::new("sh")
        .args(["-c", run, "sh", PGPAIR, script])
        .stdin(Stdio::from(lock.try_clone().expect("copied")))
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh runs")
}

fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes()[0]);
        !matches!(state, Some(b'Z' | b'X') | None)
    })
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < until, "still not so: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn a_program_and_its_children_die_with_a_killed_parent_and_hold_the_lock_until_then() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("lock");
    let lock = File::create(&path).expect("made");
    lock.try_lock().expect("free");
    // A child that ignores every signal that can be ignored.
    let mut parent = parent(&lock, "trap '' TERM INT HUP; sleep 1000 & echo $$; echo $!; wait");
    drop(lock);
    let mut lines = BufReader::new(parent.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let pids = [lines.next().expect("the program's pid"), lines.next().expect("its child's pid")];
    assert!(pids.iter().all(|pid| is_alive(pid)));
    let ours = File::open(&path).expect("there");
    assert!(matches!(ours.try_lock(), Err(TryLockError::WouldBlock)), "the guard holds the lock");

    parent.kill().expect("killed");
    parent.wait().expect("gone");
    wait_until("the lock is free", || ours.try_lock().is_ok());
    assert!(!pids.iter().any(|pid| is_alive(pid)), "whoever gets the lock finds nobody at work");
}

#[test]
fn the_exit_status_is_the_programs_and_its_leftovers_are_ended() {
    let guard = |script: &str| {
        let output = Command::new("sh")
            .args(["-c", r#""$1" internal-guard $$ /no/such/file -- sh -c "$2"; echo $?"#, "sh", PGPAIR, script])
            .output()
            .expect("sh runs");
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(guard("exit 3"), "3\n");
    assert_eq!(guard("kill -9 $$"), "137\n");
    // Reading to the end of the output would take 1000 s if the child lived on.
    assert_eq!(guard("sleep 1000 & exit 0"), "0\n");
}

#[test]
fn a_guard_whose_parent_is_gone_already_starts_nothing_and_removes_the_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let [secret, made] = ["pass", "made"].map(|name| folder.path().join(name));
    std::fs::write(&secret, "hunter2").expect("written");
    let mut command = Command::new(PGPAIR);
    // Process 1 is not our parent.
    command.args(["internal-guard", "1"]).arg(&secret).args(["--", "touch"]).arg(&made);
    assert_eq!(command.status().expect("it runs").code(), Some(143));
    assert!(!made.exists() && !secret.exists());
}

#[test]
fn a_program_that_can_not_be_started_is_named() {
    let run = r#""$1" internal-guard $$ -- /no/such/program"#;
    let output = Command::new("sh").args(["-c", run, "sh", PGPAIR]).output().expect("sh runs");
    assert_eq!(output.status.code(), Some(127));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "/no/such/program: No such file or directory (os error 2)\n");
}
