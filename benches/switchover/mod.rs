//! The write outage of a planned switchover, pgpair's in turns with that of `scripts/plain-switchover`: to and fro on a pair
//! each, with the same settings, idle and under pgbench.
//!
//! What counts is what an independent client sees, from its last commit on the old primary to its first on the new one.

use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use crate::plain_pair;
use crate::plain_script;
use crate::support;
use crate::support::Version;
use crate::support::Workspace;
use crate::support::probe::Probe;
use crate::support::probe::RULE;
use crate::table::Table;
use crate::table::Times;
use crate::timed;

/// Half of them in each direction.
const ROUNDS: usize = 8;

/// The commits of the probe before a switchover, under load a few seconds' worth.
const COMMITS_BEFORE: usize = 500;
const COMMITS_AFTER: usize = 50;

pub(crate) fn switchover(table: &mut Table) {
    let (plain, ours) = (made_by_hand(), made_by_pgpair());
    for (load, budget) in [(Load::Idle, 0.6), (Load::Pgbench, 0.4)] {
        let [mut plain_outages, mut our_outages, mut plain_wholes, mut our_wholes] = [const { Vec::new() }; 4];
        for round in 0..ROUNDS {
            let (old, new) = if round % 2 == 0 { (0, 1) } else { (1, 0) };
            let (outage, whole) = measured(&plain, old, new, load, || by_hand(&plain, old, new));
            plain_outages.push(outage);
            plain_wholes.push(whole);
            let (outage, whole) = measured(&ours, old, new, load, || by_pgpair(&ours, new));
            our_outages.push(outage);
            our_wholes.push(whole);
        }
        let name = load.name();
        let [plain, ours, plain_wholes, our_wholes] =
            [plain_outages, our_outages, plain_wholes, our_wholes].map(Times::new);
        table.times(&format!("write outage {name}, plain shell script"), &plain);
        table.times(&format!("write outage {name}, `pgpair switchover`"), &ours);
        table.ratio_within(&ours, &plain, budget);
        table.times("  all of the plain shell script", &plain_wholes);
        let what = "  all of `pgpair switchover`";
        match load {
            Load::Idle => table.times_within(what, &our_wholes, 2500.0),
            Load::Pgbench => table.times(what, &our_wholes),
        }
    }
}

const NODES: [&str; 2] = ["a", "b"];

#[derive(Clone, Copy)]
enum Load {
    Idle,
    Pgbench,
}

impl Load {
    fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Pgbench => "loaded",
        }
    }
}

fn made_by_pgpair() -> Workspace {
    let pair = Workspace::new(Version(15));
    pair.topology(
        "auth: scram-sha-256, password: { file: repuser.secret }",
        &format!("  max_wal_senders: 4\n  wal_log_hints: on\nhba:\n  - {RULE}\n"),
    );
    pair.edit("fsync: off", "fsync: on");
    pair.apply().exits(0);
    with_load(pair)
}

fn made_by_hand() -> Workspace {
    let pair = Workspace::new(Version(15));
    plain_pair(&pair);
    for node in NODES {
        pair.set(node, "fsync = on");
        let hba = pair.data_dir(node).join("pg_hba.conf");
        let rules = std::fs::read_to_string(&hba).expect("a pg_hba.conf");
        std::fs::write(hba, format!("host bench bench 127.0.0.1/32 trust\n{rules}")).expect("our file");
        pair.sql(node, "select pg_reload_conf()");
    }
    with_load(pair)
}

/// Makes the database of the probe and of pgbench.
fn with_load(pair: Workspace) -> Workspace {
    pair.sql("a", "create role bench login");
    pair.sql("a", "create database bench owner bench");
    let made = pgbench(&pair, 0, &["-i", "-q", "-s", "5"]).wait().expect("our child");
    assert!(made.success(), "pgbench can't make its tables");
    pair
}

fn pgbench(pair: &Workspace, primary: usize, arguments: &[&str]) -> Child {
    let mut command = Command::new(pair.bin_dir.join("pgbench"));
    command
        .args(["-h", "127.0.0.1", "-p", &pair.ports[primary].to_string(), "-U", "bench"])
        .args(arguments)
        .arg("bench");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("pgbench starts")
}

/// Returns the outage of a switchover, and the time that all of it takes.
fn measured(pair: &Workspace, old: usize, new: usize, load: Load, work: impl FnOnce()) -> (Duration, Duration) {
    let clients = match load {
        Load::Idle => None,
        Load::Pgbench => Some(pgbench(pair, old, &["-n", "-c", "4", "-T", "60"])),
    };
    let (old, new) = (pair.ports[old], pair.ports[new]);
    let probe = Probe::start(&pair.ports);
    support::wait_until("the probe has written", || probe.commits_on(old) >= COMMITS_BEFORE);
    let whole = timed(work);
    support::wait_until("the new primary takes writes", || probe.commits_on(new) >= COMMITS_AFTER);
    if let Some(mut clients) = clients {
        // They have ended with their connections.
        let _ = clients.kill();
        clients.wait().expect("our child");
    }
    (probe.outage(old, new), whole)
}

fn by_pgpair(pair: &Workspace, new: usize) {
    pair.pgpair(&["switchover", "--to", NODES[new], "--auto-approve"]).exits(0);
}

fn by_hand(pair: &Workspace, old: usize, new: usize) {
    let ports = [old, new].map(|node| pair.ports[node].to_string());
    plain_script("plain-switchover", pair, &[&[NODES[old].to_owned(), NODES[new].to_owned()], &ports[..]].concat());
}
