//! The return of an old primary on real servers: it joins, is rewound or cloned anew, and what it alone held is kept.
//!
//! The old primary goes on while its standby is stopped, and ends in one way or another; then the standby is promoted by
//! hand, and the topology names it.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use pgpair::pg::lsn::Lsn;
use support::Ran;
use support::Version;
use support::Workspace;
use support::comes_true;
use support::disk::SmallDisk;
use support::is_root;
use support::roles::INSIDE_A_REWIND;
use support::roles::fork;
use support::roles::kill;
use support::roles::name_primary;
use support::roles::other;
use support::roles::run_until;
use support::wait_until;

const OLD: Version = Version(10);
const NEW: Version = Version(15);

/// How an old primary ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Killed,
    StoppedCleanly,
}

/// Where the old primary's WAL ended, and where the new one's left it.
struct Split {
    end: Lsn,
    fork: Lsn,
}

/// Lets `old` commit three transactions that the other node does not get, end, and the other be promoted and named.
fn split(pair: &Workspace, old: &str, end: End) -> Split {
    let new = other(old);
    pair.sql(old, "create table if not exists rows (n bigint)");
    wait_until("the standby has the table", || pair.try_sql(new, "select from rows limit 0").code == Some(0));
    pair.pg_ctl(new, &["stop", "-m", "fast"]).exits(0);
    for row in ["-1", "-2", "-3"] {
        pair.sql(old, &format!("insert into rows values ({row})"));
    }
    let lsn = pair.sql(old, "select pg_current_wal_flush_lsn()").parse().expect("an LSN");
    match end {
        End::Killed => kill(pair, old),
        End::StoppedCleanly => drop(pair.pg_ctl(old, &["stop", "-m", "fast"]).exits(0)),
    }
    pair.pg_ctl(new, &["start"]).exits(0);
    pair.pg_ctl(new, &["promote"]).exits(0);
    wait_until("it accepts writes", || pair.sql(new, "select pg_is_in_recovery()") == "f");
    pair.sql(new, "insert into rows values (7)");
    name_primary(pair, new);
    Split { end: lsn, fork: fork(pair, new) }
}

fn apply(pair: &Workspace, old: &str) -> Ran {
    pair.pgpair(&["apply", "--auto-approve", "--allow", &format!("destroy={old},restart")])
}

/// The pair works with the new primary, and the old one has what that has and nothing else.
#[track_caller]
fn works(pair: &Workspace, new: &str) {
    let old = other(new);
    pair.in_sync();
    pair.pgpair(&["status"]).exits(0);
    pair.sql(new, "insert into rows values (8)");
    wait_until("the row is on the old primary", || {
        pair.try_sql(old, "select count(*) from rows where n = 8").stdout.trim() != "0"
    });
    assert_eq!(pair.sql(old, "select count(*) from rows where n = 7 or n < 0"), "1");
    pair.sql(new, "delete from rows");
    assert_eq!(beside(pair, old, "work") + &beside(pair, old, "old") + &beside(pair, old, "new"), "");
}

/// What there is of a sibling of the data directory.
fn beside(pair: &Workspace, node: &str, kind: &str) -> String {
    let path = PathBuf::from(format!("{}.pgpair-{kind}", pair.data_dir(node).display()));
    if path.exists() { path.display().to_string() } else { String::new() }
}

/// The folders in which diverged WAL of a node is kept.
fn kept(pair: &Workspace, node: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(pair.path(node)).expect("our folder").flatten().map(|entry| entry.path());
    let mut kept: Vec<_> = entries.filter(|path| path.to_string_lossy().contains(".pgpair-diverged-")).collect();
    kept.sort();
    kept
}

/// A pair that keeps the WAL which a rewind needs.
fn made() -> Workspace {
    let pair = Workspace::new(NEW);
    let parameters = "  max_wal_senders: 4\n  wal_log_hints: on\n  wal_keep_size: 1GB\n";
    pair.topology("auth: scram-sha-256, password: { file: repuser.secret }", parameters);
    pair.apply().exits(0);
    pair
}

fn json(ran: &Ran) -> serde_json::Value {
    serde_json::from_str(&ran.stdout).expect("one JSON value")
}

fn is_rewound(end: End) {
    let pair = made();
    pair.set("a", "work_mem = '7MB'");
    let split = split(&pair, "a", end);

    // What is lost is told before anything is done, and no fence waits for an allowance.
    let plan = pair.pgpair(&["plan", "--format", "json"]);
    let plan = json(&plan);
    let steps = plan["steps"].as_array().expect("steps");
    let Some(rewind) = steps.iter().find(|step| step["id"] == "a.rewind") else { panic!("no rewind in {plan:#}") };
    assert_eq!(rewind["impact"], "destroy");
    let reason = rewind["reason"].as_str().expect("a text").to_owned();
    let past = split.end.0 - split.fork.0;
    if end == End::Killed {
        assert!(reason.contains(&format!("{past} bytes of WAL on timeline 1 behind {}", split.fork)), "{reason}");
    }
    assert!(reason.contains("3 transactions, the last committed at 2"), "{reason}");
    pair.pgpair(&["status"]).exits(2);
    pair.pgpair(&["drift"]).exits(2).says("bytes of WAL on timeline 1");

    let left_out = pair.pgpair(&["apply", "--auto-approve"]).exits(5);
    assert!(left_out.stdout.contains("destroy=a") || left_out.stderr.contains("destroy=a"), "{left_out:?}");
    assert!(pair.data_dir("a").join("standby.signal").exists(), "it is fenced all the same");
    assert_eq!(kept(&pair, "a"), [""; 0].map(PathBuf::from));

    apply(&pair, "a").exits(0).says("which b has not, are kept in");
    works(&pair, "b");
    assert_eq!(pair.sql("a", "show work_mem"), "7MB");
    assert_eq!(pair.sql("a", "show port"), pair.ports[0].to_string());
    assert_eq!(pair.sql("a", "select count(*) from pg_replication_slots where active"), "0");

    // What was kept holds the three transactions.
    let [kept] = &kept(&pair, "a")[..] else { panic!("{:?}", kept(&pair, "a")) };
    let (folder, fork) = (kept.display().to_string(), split.fork.to_string());
    let dump = pair.run("pg_waldump", &["-p", &folder, "-t", "1", "-s", &fork]);
    assert_eq!(dump.stdout.lines().filter(|line| line.contains("desc: COMMIT")).count(), 3, "{}", dump.stderr);
}

#[test]
fn a_killed_primary_that_went_on_is_told_fenced_and_rewound_with_its_own_configuration() {
    is_rewound(End::Killed);
}

#[test]
fn a_cleanly_stopped_primary_that_went_on_is_rewound_too() {
    is_rewound(End::StoppedCleanly);
}

#[test]
fn an_old_primary_that_ended_at_the_fork_joins_without_a_rewind() {
    for version in [NEW, OLD] {
        let pair = Workspace::made(version);
        pair.replicates();
        pair.pg_ctl("a", &["stop", "-m", "fast"]).exits(0);
        pair.pg_ctl("b", &["promote"]).exits(0);
        wait_until("it accepts writes", || pair.sql("b", "select pg_is_in_recovery()") == "f");
        name_primary(&pair, "b");
        let planned = pair.planned();
        assert!(!planned.iter().any(|id| id == "a.rewind" || id == "a.clone"), "{planned:?}");
        pair.sql("b", "insert into rows values (7)");
        pair.apply().exits(0);
        works(&pair, "b");
        assert_eq!(kept(&pair, "a").len(), 0);
    }
}

#[test]
fn a_fenced_one_that_was_started_and_can_not_follow_is_stopped_and_rewound() {
    let pair = made();
    split(&pair, "a", End::Killed);
    pair.pgpair(&["apply", "--auto-approve"]).exits(5);
    pair.pg_ctl("a", &["start"]).exits(0);
    assert_eq!(pair.sql("a", "select pg_is_in_recovery()"), "t");
    assert_eq!(pair.sql("a", "select count(*) from rows where n < 0"), "3", "it serves what nobody else has");
    let is_seen = || pair.planned().iter().any(|id| id == "a.rewind");
    assert!(comes_true(Duration::from_secs(20), is_seen), "{:?}", pair.pgpair(&["plan"]));
    let planned = pair.planned();
    assert_eq!(planned[..3], ["a.stop", "a.rewind", "a.start"], "{planned:?}");
    pair.pgpair(&["status"]).exits(2);
    apply(&pair, "a").exits(0);
    works(&pair, "b");
    assert_eq!(kept(&pair, "a").len(), 1);
}

fn is_cloned(pair: &Workspace, why: &str) {
    pair.apply().exits(0);
    pair.set("a", "work_mem = '7MB'");
    split(pair, "a", End::Killed);
    pair.pgpair(&["plan"]).exits(0).says("3 transactions").says(why);
    let planned = pair.planned();
    assert!(planned.iter().any(|id| id == "a.clone"), "{planned:?}");
    apply(pair, "a").exits(0).says("which b has not, are kept in");
    works(pair, "b");
    assert_eq!(pair.sql("a", "show work_mem"), "7MB");
    assert_eq!(kept(pair, "a").len(), 1);
}

#[test]
fn on_10_it_is_cloned_anew_and_its_wal_kept() {
    let pair = Workspace::new(OLD);
    pair.usual_topology();
    is_cloned(&pair, "no rewind: pgpair rewinds from version 12 on");
}

#[test]
fn without_a_pg_rewind_of_its_version_it_is_cloned_anew() {
    let mut pair = Workspace::new(NEW);
    let (real, programs) = (pair.bin_dir.clone(), pair.path("bin"));
    fs::create_dir(&programs).expect("our folder");
    for entry in fs::read_dir(&real).expect("the programs").flatten().filter(|it| it.file_name() != "pg_rewind") {
        std::os::unix::fs::symlink(entry.path(), programs.join(entry.file_name())).expect("our link");
    }
    pair.bin_dir = programs;
    pair.usual_topology();
    is_cloned(&pair, "no rewind: there is no pg_rewind of version 15");
}

#[test]
fn where_its_own_wal_does_not_go_back_to_the_fork_it_is_cloned_anew() {
    let pair = Workspace::new(NEW);
    pair.topology(
        "auth: scram-sha-256, password: { file: repuser.secret }, slots: false",
        "  max_wal_senders: 4\n  wal_log_hints: on\n  max_wal_size: 32MB\n  min_wal_size: 32MB\n",
    );
    pair.apply().exits(0);
    split(&pair, "a", End::Killed);
    // It went on by itself for a while before it was fenced, and has recycled what it had in common.
    fs::remove_file(pair.data_dir("a").join("postmaster.pid")).expect("our file");
    pair.pg_ctl("a", &["start"]).exits(0);
    for _ in 0..4 {
        pair.sql("a", "insert into rows values (-4); select pg_switch_wal()");
        pair.sql("a", "checkpoint");
    }
    pair.pg_ctl("a", &["stop", "-m", "fast"]).exits(0);
    pair.pgpair(&["plan"]).exits(0).says("no rewind: its own WAL from the last checkpoint before");
    apply(&pair, "a").exits(0);
    works(&pair, "b");
}

#[test]
fn two_timelines_of_one_number_are_no_match_and_the_node_is_cloned() {
    let pair = Workspace::made(NEW);
    pair.replicates();
    pair.pg_ctl("a", &["stop", "-m", "fast"]).exits(0);
    pair.pg_ctl("b", &["promote"]).exits(0);
    // Promoted as well, from the same point.
    fs::write(pair.data_dir("a").join("standby.signal"), "").expect("our file");
    pair.pg_ctl("b", &["stop", "-m", "fast"]).exits(0);
    pair.pg_ctl("a", &["start"]).exits(0);
    pair.pg_ctl("a", &["promote"]).exits(0);
    pair.sql("a", "insert into rows values (-1)");
    pair.pg_ctl("a", &["stop", "-m", "fast"]).exits(0);
    pair.pg_ctl("b", &["start"]).exits(0);
    pair.sql("b", "insert into rows values (7)");
    name_primary(&pair, "b");
    fs::write(pair.data_dir("a").join("standby.signal"), "").expect("our file");
    pair.pgpair(&["plan"]).exits(0).says("both have a timeline 2");
    let planned = pair.planned();
    assert!(planned.contains(&"a.clone".to_owned()) && !planned.contains(&"a.rewind".to_owned()), "{planned:?}");
    apply(&pair, "a").exits(0);
    works(&pair, "b");
}

#[test]
fn one_whose_data_directory_can_not_be_renamed_is_fenced_and_left_as_it_is() {
    if !is_root() {
        return;
    }
    let pair = made();
    split(&pair, "a", End::Killed);
    let pinned = SmallDisk::pin(pair.data_dir("a"));
    pair.pgpair(&["plan"]).exits(0).says("can't be renamed");
    apply(&pair, "a").exits(5).says("can't be renamed");
    assert!(pair.data_dir("a").join("standby.signal").exists(), "it is fenced all the same");
    assert!(pair.data_dir("a").join("global/pg_control").exists(), "nothing else of it is changed");
    assert_eq!(kept(&pair, "a").len(), 0);
    pair.pgpair(&["drift"]).exits(2).says("can't be renamed");
    drop(pinned);
    apply(&pair, "a").exits(0);
    works(&pair, "b");
}

#[test]
fn killed_at_every_point_of_a_rewind_the_next_apply_brings_the_node_back() {
    let pair = made();
    pair.set("a", "work_mem = '7MB'");
    pair.set("b", "work_mem = '8MB'");
    let mut ways = BTreeSet::new();
    for (index, point) in INSIDE_A_REWIND.into_iter().enumerate() {
        let old = if index % 2 == 0 { "a" } else { "b" };
        split(&pair, old, if index % 3 == 2 { End::StoppedCleanly } else { End::Killed });
        let allow = format!("destroy={old},restart");
        run_until(&pair, &["apply", "--auto-approve", "--allow", &allow].map(str::to_owned), point.name());
        let way = pair.planned().into_iter().find(|id| id.ends_with(".rewind") || id.ends_with(".clone"));
        ways.insert(way.as_deref().map_or("joins", |id| if id.ends_with("clone") { "cloned" } else { "rewound" }));
        apply(&pair, old).exits(0);
        works(&pair, other(old));
        assert_eq!(pair.sql(old, "show work_mem"), if old == "a" { "7MB" } else { "8MB" }, "{}", point.name());
        assert_eq!(kept(&pair, old).len(), index / 2 + 1, "{}: its WAL is kept once", point.name());
    }
    assert_eq!(ways, BTreeSet::from(["cloned", "joins", "rewound"]));
}
