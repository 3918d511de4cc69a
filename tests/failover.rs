//! Forced promotions of real servers: the primary killed, hung or out of reach, under writes, with pgpair killed inside
//! its steps; and two primaries.
//!
//! A writer records where each acknowledged row stands in the WAL: what is missing afterwards stood behind the fork, and
//! in no more bytes than were said before. PGPAIR_FAILOVERS says how many are made under writes (2 by themselves);
//! PGPAIR_FULL=1 kills pgpair at each moment and not only at some.

#![expect(clippy::print_stdout, reason = "the figures are the result")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use pgpair::pg::lsn::Lsn;
use pgpair::world::failpoint::Failpoint;
use serde_json::Value;
use support::Ran;
use support::Version;
use support::Workspace;
use support::is_full;
use support::probe::RULE;
use support::roles::INSIDE_A_REWIND;
use support::roles::fork;
use support::roles::hang;
use support::roles::kill;
use support::roles::other;
use support::roles::primary_of;
use support::roles::processes;
use support::roles::run_towards;
use support::wait_until;
use tokio_postgres::NoTls;

const NEW: Version = Version(15);
const OLD: Version = Version(10);

fn made(version: Version) -> Workspace {
    let pair = Workspace::new(version);
    let parameters = "  max_wal_senders: 6\n  wal_log_hints: on\n  wal_retrieve_retry_interval: 100ms\n";
    let keep = if version == NEW { "  wal_keep_size: 256MB\n" } else { "" };
    pair.topology(
        "auth: scram-sha-256, password: { file: repuser.secret }",
        &format!("{parameters}{keep}hba:\n  - {RULE}\n"),
    );
    pair.apply().exits(0);
    pair.sql("a", "create role bench login");
    pair.sql("a", "create database bench owner bench");
    pair.sql_in("bench", "a", "create table acked (n bigint primary key); grant all on acked to bench");
    wait_until("the standby has the table", || {
        let found = pair.try_sql("b", "select count(*) from pg_database where datname = 'bench'");
        found.stdout.trim() == "1"
    });
    pair
}

fn arguments(to: &str, timeout: &str) -> Vec<String> {
    let old = other(to);
    let allow = format!("destroy={old},restart");
    ["failover", "--to", to, "--auto-approve", "--allow", &allow, "--timeout", timeout].map(str::to_owned).to_vec()
}

fn failover(pair: &Workspace, to: &str) -> Ran {
    run(pair, &arguments(to, "20s"))
}

fn run(pair: &Workspace, arguments: &[String]) -> Ran {
    pair.pgpair(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn in_json(mut arguments: Vec<String>) -> Vec<String> {
    arguments.extend(["--format", "json"].map(str::to_owned));
    arguments
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// Commits one row after the other on whichever node takes it, and records each with where it stands.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<i64, Lsn>>,
}

impl Writer {
    fn start(pair: &Workspace, primary: &str) -> Self {
        let first = pair.sql_in("bench", primary, "select coalesce(max(n), 0) + 1 from acked");
        let (first, ports): (i64, _) = (first.parse().expect("a number"), pair.ports);
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(write(ports, first, &until))
        });
        Self { stop, thread }
    }

    fn end(self) -> BTreeMap<i64, Lsn> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the writer")
    }
}

async fn write(ports: [u16; 2], first: i64, until: &AtomicBool) -> BTreeMap<i64, Lsn> {
    let (mut acked, mut next) = (BTreeMap::new(), first);
    for port in ports.into_iter().cycle() {
        if until.load(Ordering::Relaxed) {
            break;
        }
        let config = format!("host=127.0.0.1 port={port} user=bench dbname=bench connect_timeout=1");
        let Ok((client, connection)) = tokio_postgres::connect(&config, NoTls).await else {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            continue;
        };
        tokio::spawn(connection);
        while !until.load(Ordering::Relaxed) {
            next += 1;
            let row = [&next as &(dyn tokio_postgres::types::ToSql + Sync)];
            if client.execute("insert into acked values ($1)", &row).await.is_err() {
                break;
            }
            let Ok(at) = client.query_one("select pg_current_wal_lsn()::text", &[]).await else { break };
            acked.insert(next, at.get::<_, &str>(0).parse().expect("an LSN"));
        }
    }
    acked
}

/// Removes the WAL of a stopped server that is older than this file, as one would who wants room.
fn remove_wal_before(pair: &Workspace, node: &str, needed: &str) {
    for entry in fs::read_dir(pair.data_dir(node).join("pg_wal")).expect("there").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.len() == needed.len() && name.as_str() < needed {
            fs::remove_file(entry.path()).expect("our file");
        }
    }
}

#[test]
fn forced_promotions_lose_no_more_than_was_said_and_the_old_primary_comes_back() {
    let count: usize = std::env::var("PGPAIR_FAILOVERS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let pair = made(NEW);
    let mut ways: BTreeMap<String, usize> = BTreeMap::new();
    let (mut primary, mut lost_at_most) = ("a", 0);
    for round in 0..count {
        let (old, new) = (primary, other(primary));
        let writer = Writer::start(&pair, old);
        let before = pair.sql_in("bench", old, "select coalesce(max(n), 0) from acked");
        let goes_on = || {
            let now = pair.sql_in("bench", old, "select count(*) from acked where n > 0");
            now.parse::<i64>().unwrap_or(0) > before.parse::<i64>().unwrap_or(0) + 20
        };
        wait_until("rows are written", goes_on);
        // The way back that this round is to take: what comes by itself, a rewind, none at all, or a clone.
        let way = ["", "rewound", "joined", "cloned"][round % 4];
        let is_behind = ["rewound", "cloned"].contains(&way);
        let mut writer = Some(writer);
        let mut acked = BTreeMap::new();
        if way == "joined" {
            acked = writer.take().map(Writer::end).unwrap_or_default();
            let all = || pair.sql(old, "select pg_current_wal_lsn() = replay_lsn from pg_stat_replication");
            wait_until("the standby has all of it", || all() == "t");
        }
        // The standby misses what comes now.
        if is_behind {
            let at = || pair.sql(old, "select pg_current_wal_lsn()").parse::<Lsn>().expect("an LSN").0;
            // Before its first checkpoint on a timeline a server can't be rewound.
            pair.sql(old, "checkpoint");
            pair.pg_ctl(new, &["stop", "-m", "fast"]).exits(0);
            let from = at();
            wait_until("the standby misses some", || at() > from + 20_000);
        }
        if way == "cloned" {
            pair.sql(old, "select pg_switch_wal()");
            pair.sql(old, "checkpoint");
            let needed = pair.sql(old, "select redo_wal_file from pg_control_checkpoint()");
            kill(&pair, old);
            remove_wal_before(&pair, old, &needed);
        } else {
            kill(&pair, old);
        }
        if is_behind {
            pair.pg_ctl(new, &["start"]).exits(0);
        }
        let report = json(&run(&pair, &in_json(arguments(new, "20s"))).exits(0));
        acked.extend(writer.map(Writer::end).unwrap_or_default());
        let said = report["plan"]["summary"]["at_risk"]["bytes"].as_u64().expect("a bound");
        let fork = fork(&pair, new);
        let there = pair.sql_in("bench", new, "select n from acked");
        let there: std::collections::BTreeSet<i64> = there.lines().filter_map(|line| line.parse().ok()).collect();
        let lost: Vec<&Lsn> = acked.iter().filter(|(row, _)| !there.contains(row)).map(|(_, at)| at).collect();
        for at in &lost {
            assert!(**at > fork, "a row at {at} is lost, and the fork is at {fork}");
            assert!(at.0 <= fork.0 + said, "a row at {at} is lost, {said} bytes behind {fork} were said");
        }
        assert!(!is_behind || !lost.is_empty(), "the standby missed nothing");
        lost_at_most = lost_at_most.max(said);
        let steps = report["plan"]["steps"].as_array().expect("steps");
        let has = |action: &str| steps.iter().any(|step| step["id"] == format!("{old}.{action}").as_str());
        let taken = if has("rewind") {
            "rewound"
        } else if has("clone") {
            "cloned"
        } else {
            "joined"
        };
        assert!(way.is_empty() || way == taken, "round {round}: {taken}, not {way}");
        *ways.entry(taken.to_owned()).or_default() += 1;
        pair.in_sync();
        primary = new;
    }
    println!("{count} forced promotions: old primaries {ways:?}, at most {lost_at_most} bytes at risk");
    assert!(ways.contains_key("rewound"), "{ways:?}");
}

#[test]
fn on_10_the_old_primary_is_cloned_anew() {
    let pair = made(OLD);
    kill(&pair, "a");
    failover(&pair, "b").exits(0);
    pair.in_sync();
    assert_eq!(pair.sql("b", "select pg_is_in_recovery()"), "f");
}

#[test]
fn a_primary_that_hangs_is_ended_by_force_before_another_is_promoted() {
    let pair = made(NEW);
    let hung = processes(&pair, "a");
    hang(&pair, "a");
    run(&pair, &arguments("b", "3s")).exits(5).says("SIGKILL");
    // Whether it would have to be rewound could not be known before: it kept the slot of its standby.
    pair.apply().exits(0);
    pair.in_sync();
    assert!(!hung.iter().any(|pid| processes(&pair, "a").contains(pid)), "a process of the old server lives");
}

/// How a primary is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Killed,
    Hung,
}

/// Loses the primary, which has a row that its standby lacks.
fn lose(pair: &Workspace, primary: &str, loss: Loss) {
    // Before its first checkpoint on a timeline a server can't be rewound.
    pair.sql(primary, "checkpoint");
    pair.pg_ctl(other(primary), &["stop", "-m", "fast"]).exits(0);
    pair.sql_in("bench", primary, "insert into acked select coalesce(max(n), 0) + 1 from acked");
    match loss {
        Loss::Killed => kill(pair, primary),
        Loss::Hung => hang(pair, primary),
    }
    pair.pg_ctl(other(primary), &["start"]).exits(0);
}

/// The moments of a failover of `a` with these steps: before each of them, and inside.
fn moments(steps: &[String]) -> Vec<String> {
    let has = |action: &str| steps.iter().any(|id| id.ends_with(&format!(".{action}")));
    let inside: [(&str, &[Failpoint]); 5] = [
        ("fence", &[Failpoint::Fenced]),
        ("take_down", &[Failpoint::StopIssued, Failpoint::TakenDown]),
        ("promote", &[Failpoint::PromoteFile, Failpoint::Signalled, Failpoint::Promoted]),
        ("rewind", &INSIDE_A_REWIND),
        ("start", &[Failpoint::StartIssued]),
    ];
    let inside = inside.into_iter().filter(|(action, _)| has(action)).flat_map(|(_, points)| points);
    steps.iter().cloned().chain(inside.map(|point| point.name().to_owned())).collect()
}

/// The same step in a failover in the other direction.
fn mirrored(step: &str) -> String {
    let Some((node, action)) = step.split_once('.') else { return step.to_owned() };
    let own_slot = format!("pgpair_{node}");
    let slots = if action.ends_with(&own_slot) {
        (own_slot, format!("pgpair_{}", other(node)))
    } else {
        (format!("pgpair_{}", other(node)), own_slot)
    };
    format!("{}.{}", other(node), action.replace(&slots.0, &slots.1))
}

/// Makes a failover without anything in its way; returns its steps.
fn steps_of_a_failover(pair: &Workspace, old: &str, loss: Loss) -> Vec<String> {
    lose(pair, old, loss);
    let report = json(&run(pair, &in_json(arguments(other(old), "3s"))));
    goes_on(pair, old, "without a kill");
    let steps = report["plan"]["steps"].as_array().expect("steps");
    steps.iter().filter_map(|step| step["id"].as_str()).map(str::to_owned).collect()
}

/// What is left to do of a failover is done, and both nodes are what they are to be.
fn goes_on(pair: &Workspace, old: &str, story: &str) {
    let new = other(old);
    // What is left to do of a hung one is known once it was recovered.
    let converged = (0..3).any(|_| {
        let ran = run(pair, &arguments(new, "5s"));
        // One that has more than the new primary, and could give it, is asked for.
        if ran.code == Some(3) && ran.stderr.contains("start it") {
            pair.pg_ctl(old, &["start"]).exits(0);
        }
        ran.code == Some(0)
    });
    assert!(converged, "{story}: does not converge: {:?}", pair.pgpair(&["plan"]));
    pair.in_sync();
    assert_eq!(pair.sql(new, "select pg_is_in_recovery()"), "f", "{story}");
    assert_eq!(pair.sql(old, "select pg_is_in_recovery()"), "t", "{story}");
}

/// Starts a fenced old primary by hand, as a service manager would; returns false where it is not there or runs.
fn starts_as_standby(pair: &Workspace, old: &str, story: &str) -> bool {
    let data_dir = pair.data_dir(old);
    if !processes(pair, old).is_empty() || (data_dir.exists() && !data_dir.join("standby.signal").exists()) {
        return false;
    }
    let ran = pair.pg_ctl(old, &["start"]);
    assert_eq!(ran.code == Some(0), data_dir.exists(), "{story}: {ran:?}");
    assert_ne!(pair.try_sql(old, "create table by_hand ()").code, Some(0), "{story}: it took a write");
    let writes = ran.code == Some(0) && pair.sql(old, "select pg_is_in_recovery()") == "f";
    assert!(!writes, "{story}: it accepts writes");
    ran.code == Some(0)
}

/// Kills pgpair at every `share`th moment of failovers, to and fro, and starts the old primary by hand, which goes on
/// running where it is left alone. Returns how often that came up, fenced.
fn killed_at_each_moment(pair: &Workspace, loss: Loss, is_left: bool, share: usize) -> usize {
    let first = primary_of(pair);
    let moments = moments(&steps_of_a_failover(pair, first, loss));
    let (mut old, mut killed, mut started) = (other(first), 0, 0);
    for moment in moments.iter().step_by(share) {
        let new = other(old);
        lose(pair, old, loss);
        let point = if old == first { moment.clone() } else { mirrored(moment) };
        let ran = run_towards(pair, &arguments(new, "3s"), &point);
        let story = format!("{loss:?}, killed at {point}");
        println!("{story}: {:?}", ran.code);
        killed += usize::from(ran.code.is_none());
        if ran.code.is_none() && starts_as_standby(pair, old, &story) {
            started += 1;
            println!("{story}: started by hand, and in recovery ({started})");
            if !is_left {
                pair.pg_ctl(old, &["stop", "-m", "immediate"]).exits(0);
            }
        }
        goes_on(pair, old, &story);
        old = new;
    }
    assert!(killed * 4 * share >= moments.len() * 3, "{killed} of {moments:?}");
    started
}

#[test]
fn killed_at_any_moment_a_failover_goes_on_and_an_old_primary_that_is_started_meanwhile_takes_no_write() {
    let pair = made(NEW);
    if !is_full() {
        assert!(killed_at_each_moment(&pair, Loss::Killed, true, 5) > 0);
        return;
    }
    let killed = [(Loss::Killed, true), (Loss::Killed, false)];
    let ways = [killed, killed, [(Loss::Hung, true), (Loss::Hung, false)]].concat();
    let started: usize = ways.into_iter().map(|(loss, is_left)| killed_at_each_moment(&pair, loss, is_left, 1)).sum();
    println!("the old primary was started by hand {started} times after its fence");
    assert!(started >= 50, "{started}");
}

#[test]
fn what_is_no_failover_is_refused_and_the_file_left_alone() {
    let pair = made(NEW);
    let file = fs::read_to_string(pair.path("pgpair.yaml")).expect("the topology");
    failover(&pair, "b").exits(3).says("a takes writes");
    let dead = ["apply", "--auto-approve", "--confirm-dead", "a"];
    pair.pgpair(&dead).exits(3).says("a answers");
    // A standby that lacks what another has is none for it; nor one that is gone as well.
    kill(&pair, "a");
    kill(&pair, "b");
    failover(&pair, "b").exits(3);
    assert_eq!(fs::read_to_string(pair.path("pgpair.yaml")).expect("the topology"), file);
    pair.pgpair(&["apply", "--auto-approve", "--allow", "outage"]).exits(0);
    pair.in_sync();
}

#[test]
fn of_two_primaries_nothing_is_changed_until_one_is_discarded() {
    let pair = made(NEW);
    pair.pg_ctl("b", &["promote"]).exits(0);
    wait_until("it accepts writes", || pair.sql("b", "select pg_is_in_recovery()") == "f");
    pair.sql_in("bench", "b", "insert into acked values (-1)");
    pair.sql_in("bench", "a", "insert into acked values (-2)");
    let ran = pair.pgpair(&["apply", "--auto-approve", "--allow", "destroy=b"]).exits(3).says("apply --discard b");
    let fork = fork(&pair, "b").to_string();
    let found = format!("they parted at {fork}, and since then a wrote ");
    let wrote = ran.stdout.lines().chain(ran.stderr.lines()).find(|line| line.contains(&found)).unwrap_or_default();
    // Of each its own: the row and nothing else was committed.
    let [of_a, of_b] =
        [" on timeline 1 with 1 transaction, the last committed at 2", " on timeline 2 with 1 transaction, the"];
    assert!(wrote.contains(of_a) && wrote.contains(of_b), "{ran:?}");
    let discard = ["apply", "--auto-approve", "--discard", "b"];
    pair.pgpair(&discard).exits(0);
    pair.in_sync();
    assert_eq!(pair.sql_in("bench", "a", "select n from acked where n < 0"), "-2");
    assert_eq!(pair.sql("b", "select pg_is_in_recovery()"), "t");
    let kept = fs::read_dir(pair.path("b")).expect("our folder").flatten();
    let kept = kept.filter(|entry| entry.file_name().to_string_lossy().contains(".pgpair-diverged-")).count();
    assert_eq!(kept, 1, "what b wrote is kept aside");
}

#[test]
fn a_node_out_of_reach_is_dead_by_somebodys_word_or_the_fencing_command_alone() {
    let pair = made(NEW);
    kill(&pair, "a");
    let (folder, hidden) = (pair.path("a"), pair.path("hidden"));
    let hide = || {
        fs::rename(&folder, &hidden).expect("our folder");
        std::os::unix::fs::symlink(&folder, &folder).expect("a loop, which nobody can look into");
    };
    let show = || {
        fs::remove_file(&folder).expect("our loop");
        fs::rename(&hidden, &folder).expect("our folder");
    };
    hide();
    failover(&pair, "b").exits(3).says("--confirm-dead a");
    let mut arguments = arguments("b", "20s");
    arguments.extend(["--confirm-dead", "a"].map(str::to_owned));
    run(&pair, &arguments).exits(5).says("a is not fenced by its files");
    assert_eq!(pair.sql("b", "select pg_is_in_recovery()"), "f");
    // It is not fenced by its files, and that is said until it is.
    for command in ["drift", "status", "plan"] {
        let told = pair.pgpair(&[command]);
        assert!(told.stdout.contains("whether it is fenced is not known"), "{told:?}");
    }
    show();
    pair.pgpair(&["drift"]).exits(2);
    assert!(pair.planned().contains(&"a.fence".to_owned()), "{:?}", pair.planned());
    pair.pgpair(&["apply", "--auto-approve", "--allow", "destroy=a"]).exits(0);
    pair.in_sync();

    // Back again, by the command.
    kill(&pair, "b");
    let (folder, hidden) = (pair.path("b"), pair.path("hidden"));
    fs::rename(&folder, &hidden).expect("our folder");
    std::os::unix::fs::symlink(&folder, &folder).expect("a loop, which nobody can look into");
    pair.edit("nodes:", "fencing: { command: [./fence.sh, '{node}', '{port}'] }\nnodes:");
    pair.write("fence.sh", "#!/bin/sh\nexit 1\n", 0o755);
    failover(&pair, "a").exits(1).says("fencing command");
    assert_eq!(pair.sql("a", "select pg_is_in_recovery()"), "t");
    pair.write("fence.sh", "#!/bin/sh\necho \"$*\" > fenced\n", 0o755);
    failover(&pair, "a").exits(5);
    assert_eq!(pair.sql("a", "select pg_is_in_recovery()"), "f");
    let fenced = fs::read_to_string(pair.path("fenced")).expect("it ran");
    assert_eq!(fenced, format!("b {}\n", pair.ports[1]));
    fs::remove_file(&folder).expect("our loop");
    fs::rename(&hidden, &folder).expect("our folder");
    pair.pgpair(&["apply", "--auto-approve", "--allow", "destroy=b"]).exits(0);
    pair.in_sync();
}
