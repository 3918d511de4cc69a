//! A pair whose roles move: the other node, the roles in its YAML, and the processes of a server that a test kills.

use std::fs;
use std::process::Command;

use pgpair::pg::lsn::Lsn;
use pgpair::world::failpoint::Failpoint;

use super::Ran;
use super::Workspace;
use super::background::signal;
use super::wait_until;

/// Runs pgpair until it ends itself at this point, as by `kill -9`: a failpoint, or the ID of a step that would be next.
#[track_caller]
pub(crate) fn run_until(pair: &Workspace, arguments: &[String], point: &str) {
    let ran = run_towards(pair, arguments, point);
    assert_eq!(ran.code, None, "{point}: it was not killed: {}{}", ran.stdout, ran.stderr);
}

/// The same, where it may not come to this point: a step may hold already by then.
pub(crate) fn run_towards(pair: &Workspace, arguments: &[String], point: &str) -> Ran {
    let mut command = pair.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    Ran::of(&command.env("PGPAIR_FAILPOINT", point).output().expect("pgpair runs"))
}

pub(crate) fn other(node: &str) -> &'static str {
    if node == "a" { "b" } else { "a" }
}

/// Which of the two accepts writes.
pub(crate) fn primary_of(pair: &Workspace) -> &'static str {
    if pair.sql("a", "select pg_is_in_recovery()") == "f" { "a" } else { "b" }
}

/// Where the newest timeline of a node began.
pub(crate) fn fork(pair: &Workspace, node: &str) -> Lsn {
    let histories = fs::read_dir(pair.data_dir(node).join("pg_wal")).expect("there").flatten().map(|it| it.path());
    let newest = histories.filter(|path| path.extension().is_some_and(|it| it == "history")).max().expect("one");
    let text = fs::read_to_string(newest).expect("a history");
    let last = text.lines().rfind(|line| !line.is_empty()).expect("a line");
    last.split('\t').nth(1).and_then(|lsn| lsn.parse().ok()).expect("an LSN")
}

/// Every point inside a rewind. The last one is behind it.
pub(crate) const INSIDE_A_REWIND: [Failpoint; 8] = [
    Failpoint::ConfigurationKept,
    Failpoint::DivergedKept,
    Failpoint::MovedAside,
    Failpoint::Recovered,
    Failpoint::SourceCheckpointed,
    Failpoint::Rewound,
    Failpoint::PutBack,
    Failpoint::MovedBack,
];

/// Swaps the roles in the YAML, so that `to` is the primary.
pub(crate) fn name_primary(pair: &Workspace, to: &str) {
    let from = other(to);
    pair.edit(&format!("{from}: {{ role: primary"), &format!("{from}: {{ role: standby"));
    pair.edit(&format!("{to}: {{ role: standby"), &format!("{to}: {{ role: primary"));
}

/// Kills the postmaster of a node, and waits until its children have ended too.
#[track_caller]
pub(crate) fn kill(pair: &Workspace, node: &str) {
    let file = fs::read_to_string(pair.data_dir(node).join("postmaster.pid")).expect("it runs");
    signal("-KILL", file.lines().next().and_then(|line| line.trim().parse().ok()).expect("a pid"));
    wait_until("all of its processes are gone", || processes(pair, node).is_empty());
}

/// Stops all processes of a server, as a disk that never answers would.
pub(crate) fn hang(pair: &Workspace, node: &str) {
    for pid in processes(pair, node) {
        // One may have ended meanwhile.
        let _status = Command::new("kill").args(["-STOP", &pid.to_string()]).status();
    }
}

/// The processes that work in a node's data directory.
pub(crate) fn processes(pair: &Workspace, node: &str) -> Vec<u32> {
    let data_dir = pair.data_dir(node);
    let all = fs::read_dir("/proc").expect("there").flatten();
    let of_it = all.filter(|process| fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == data_dir));
    of_it.filter_map(|process| process.file_name().to_str()?.parse().ok()).collect()
}
