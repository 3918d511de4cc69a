//! Forced promotions of real servers: the primary killed, hung or out of reach, under writes, with pgpair killed inside
//! its steps; and two primaries.
//!
//! A writer records where each acknowledged row stands in the WAL: what is missing afterwards stood behind the fork, and
//! in no more bytes than were said before. PGPAIR_FAILOVERS says how many are made under writes (2 by themselves).

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
use support::background::signal;
use support::probe::RULE;
use support::roles::kill;
use support::roles::other;
use support::roles::processes;
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

fn arguments(to: &str) -> Vec<String> {
    let old = other(to);
    let allow = format!("destroy={old},restart");
    ["failover", "--to", to, "--auto-approve", "--allow", &allow, "--timeout", "20s"].map(str::to_owned).to_vec()
}

fn failover(pair: &Workspace, to: &str) -> Ran {
    let arguments = arguments(to);
    pair.pgpair(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
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

/// Where the newest timeline of a node began.
fn fork(pair: &Workspace, node: &str) -> Lsn {
    let histories = fs::read_dir(pair.data_dir(node).join("pg_wal")).expect("there").flatten().map(|it| it.path());
    let newest = histories.filter(|path| path.extension().is_some_and(|it| it == "history")).max().expect("one");
    let text = fs::read_to_string(newest).expect("a history");
    let last = text.lines().rfind(|line| !line.is_empty()).expect("a line");
    last.split('\t').nth(1).and_then(|lsn| lsn.parse().ok()).expect("an LSN")
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
        // In every second round the standby misses what comes now.
        if round % 2 == 1 {
            let at = || pair.sql(old, "select pg_current_wal_lsn()").parse::<Lsn>().expect("an LSN").0;
            // Before its first checkpoint on a timeline a server can't be rewound.
            pair.sql(old, "checkpoint");
            pair.pg_ctl(new, &["stop", "-m", "fast"]).exits(0);
            let from = at();
            wait_until("the standby misses some", || at() > from + 20_000);
        }
        kill(&pair, old);
        if round % 2 == 1 {
            pair.pg_ctl(new, &["start"]).exits(0);
        }
        let arguments = arguments(new);
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        arguments.extend(["--format", "json"]);
        let report = json(&pair.pgpair(&arguments).exits(0));
        let acked = writer.end();
        let said = report["plan"]["summary"]["at_risk"]["bytes"].as_u64().expect("a bound");
        let fork = fork(&pair, new);
        let there = pair.sql_in("bench", new, "select n from acked");
        let there: std::collections::BTreeSet<i64> = there.lines().filter_map(|line| line.parse().ok()).collect();
        let lost: Vec<&Lsn> = acked.iter().filter(|(row, _)| !there.contains(row)).map(|(_, at)| at).collect();
        for at in &lost {
            assert!(**at > fork, "a row at {at} is lost, and the fork is at {fork}");
            assert!(at.0 <= fork.0 + said, "a row at {at} is lost, {said} bytes behind {fork} were said");
        }
        assert!(round % 2 == 0 || !lost.is_empty(), "the standby missed nothing");
        lost_at_most = lost_at_most.max(said);
        let steps = report["plan"]["steps"].as_array().expect("steps");
        let has = |action: &str| steps.iter().any(|step| step["id"] == format!("{old}.{action}").as_str());
        let way = if has("rewind") {
            "rewound"
        } else if has("clone") {
            "cloned"
        } else {
            "joined"
        };
        *ways.entry(way.to_owned()).or_default() += 1;
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
    for pid in &hung {
        signal("-STOP", *pid);
    }
    let arguments =
        arguments("b").into_iter().map(|argument| if argument == "20s" { "3s".to_owned() } else { argument });
    let arguments: Vec<String> = arguments.collect();
    pair.pgpair(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).exits(5).says("SIGKILL");
    // Whether it would have to be rewound could not be known before: it kept the slot of its standby.
    pair.apply().exits(0);
    pair.in_sync();
    assert!(!hung.iter().any(|pid| processes(&pair, "a").contains(pid)), "a process of the old server lives");
}

#[test]
fn a_failover_that_was_killed_goes_on_and_a_server_that_is_started_meanwhile_takes_no_write() {
    let pair = made(NEW);
    let mut primary = "a";
    for point in [Failpoint::Fenced, Failpoint::PromoteFile, Failpoint::Signalled, Failpoint::Promoted] {
        let (old, new) = (primary, other(primary));
        kill(&pair, old);
        let arguments = arguments(new);
        let mut command = pair.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let ran = Ran::of(&command.env("PGPAIR_FAILPOINT", point.name()).output().expect("pgpair runs"));
        assert_eq!(ran.code, None, "{}: it was not killed: {ran:?}", point.name());
        // Somebody's service manager starts it.
        pair.pg_ctl(old, &["start"]).exits(0);
        assert_eq!(pair.sql(old, "select pg_is_in_recovery()"), "t", "{}", point.name());
        pair.pg_ctl(old, &["stop", "-m", "immediate"]).exits(0);
        failover(&pair, new).exits(0);
        pair.in_sync();
        assert_eq!(pair.sql(new, "select pg_is_in_recovery()"), "f");
        primary = new;
    }
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
    pair.pgpair(&["apply", "--auto-approve", "--allow", "destroy=b"]).exits(3).says("--discard");
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
    let mut arguments = arguments("b");
    arguments.extend(["--confirm-dead", "a"].map(str::to_owned));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    pair.pgpair(&arguments).exits(5).says("a is not fenced by its files");
    assert_eq!(pair.sql("b", "select pg_is_in_recovery()"), "f");
    // It is not fenced by its files, and that is said until it is.
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
