//! Synchronous replication on real servers: commits wait for standbys that stream, and never hang on our account.

mod support;

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use support::Version;
use support::Workspace;

const AUTH: &str = "auth: scram-sha-256, password: { file: repuser.secret }";
const SYNCHRONOUS: &str = "auth: scram-sha-256, password: { file: repuser.secret }, synchronous: { num: 1 }";

fn names(pair: &Workspace) -> String {
    pair.sql("a", "show synchronous_standby_names")
}

/// Commits on the primary until `work` is done; returns how long the longest commit took.
fn longest_commit_during(pair: &Workspace, work: impl FnOnce()) -> Duration {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let begun = Instant::now();
                pair.try_sql("a", "set statement_timeout = '20s'; insert into commits values (1)").exits(0);
                longest = longest.max(begun.elapsed());
            }
            longest
        });
        work();
        done.store(true, Ordering::Relaxed);
        writer.join().expect("every commit succeeds")
    })
}

fn life_of_a_synchronous_pair(version: Version) {
    let pair = Workspace::new(version);
    pair.topology(SYNCHRONOUS, "  wal_log_hints: on\n");
    pair.apply().exits(0);
    pair.in_sync();
    assert_eq!(names(&pair), "FIRST 1 (\"b\")");
    assert_eq!(pair.sql("a", "select sync_state from pg_stat_replication"), "sync");
    pair.sql("a", "create table commits (n int)");

    // The only synchronous standby restarts: commits wait for nobody meanwhile, and for it again afterwards.
    let with_restart = "  wal_log_hints: on\n  max_connections: 120\n";
    pair.topology(SYNCHRONOUS, with_restart);
    pair.pgpair(&["plan"]).exits(0).says("Commits are asynchronous from step 1 to").says("no synchronous standby");
    let longest = longest_commit_during(&pair, || {
        pair.pgpair(&["apply", "--auto-approve", "--allow", "restart"]).exits(5);
    });
    assert!(longest < Duration::from_secs(3), "a commit took {longest:?}");
    assert_eq!(pair.sql("b", "show max_connections"), "120");
    assert_eq!(names(&pair), "FIRST 1 (\"b\")", "commits wait again once it streams");
    pair.pgpair(&["apply", "--auto-approve", "--allow", "outage"]).exits(0);
    pair.in_sync();
    assert_eq!(names(&pair), "FIRST 1 (\"b\")");

    // A standby that went by itself: what hangs already is the operator's choice.
    pair.pg_ctl("b", &["stop", "-m", "fast"]).exits(0);
    let planned = pair.planned();
    assert!(planned.iter().all(|step| !step.starts_with("a.")), "{planned:?}");
    pair.apply().exits(0);
    pair.in_sync();

    pair.topology(AUTH, with_restart);
    pair.apply().exits(0);
    pair.in_sync();
    assert_eq!(names(&pair), "");
}

#[test]
fn commits_wait_again_after_a_restart_that_had_to_fall_back() {
    let pair = Workspace::new(Version(15));
    pair.topology(SYNCHRONOUS, "  wal_log_hints: on\n");
    pair.apply().exits(0);
    pair.topology(SYNCHRONOUS, "  wal_log_hints: on\n  shared_buffers: 4000GB\n");
    pair.pgpair(&["apply", "--auto-approve", "--allow", "restart"]).exits(1).says("old configuration");
    assert_eq!(names(&pair), "FIRST 1 (\"b\")");
    pair.sql("a", "alter system set synchronous_standby_names = ''");
    pair.sql("a", "select pg_reload_conf()");
    support::wait_until("nobody is waited for", || names(&pair).is_empty());
    pair.pgpair(&["status"]).exits(2).says("not_synchronous");
}

#[test]
fn commits_of_15_never_hang_while_a_synchronous_pair_is_changed() {
    life_of_a_synchronous_pair(Version(15));
}

#[test]
fn commits_of_10_never_hang_while_a_synchronous_pair_is_changed() {
    life_of_a_synchronous_pair(Version(10));
}
