//! Connections of pgpair that are cut in the middle of a step, on real servers: terminated, crashed with the server,
//! or hanging. A step is done once more where that is safe, else it fails and says so; the next apply converges.

mod support;

use std::cell::RefCell;
use std::fs;
use std::process::Child;
use std::process::Stdio;

use support::Version;
use support::Workspace;
use support::background::Psql;
use support::background::Running;
use support::background::signal;
use support::wait_until;

const REPLICATION: &str = "auth: scram-sha-256, password: { file: repuser.secret }";
const PARAMETERS: &str = "  max_wal_senders: 5\n  wal_retrieve_retry_interval: 200ms\n";

/// The sessions of pgpair, without the view whose columns need other tables.
const OWN: &str = "from pg_stat_get_activity(null) where application_name = 'pgpair'";

fn made() -> Workspace {
    let pair = Workspace::new(Version(15));
    pair.topology(REPLICATION, PARAMETERS);
    pair.apply().exits(0);
    pair
}

fn converges(pair: &Workspace) {
    wait_until("the servers answer", || pair.pgpair(&["plan"]).code == Some(0));
    pair.pgpair(&["apply", "--auto-approve", "--allow", "restart,outage"]).exits(0);
    pair.in_sync();
    pair.replicates();
}

/// Waits for a session of pgpair of which this is true; returns its process.
fn session_that(psql: &mut Psql, condition: &str, but_not: u32) -> u32 {
    let (psql, found) = (RefCell::new(psql), RefCell::new(String::new()));
    wait_until("pgpair is in the middle of the step", || {
        let pid = psql.borrow_mut().ask(&format!("select pid {OWN} and {condition} and pid <> {but_not} limit 1"));
        *found.borrow_mut() = pid;
        !found.borrow().is_empty()
    });
    found.into_inner().parse().expect("a process")
}

/// Ends a session as an administrator would.
fn end(psql: &mut Psql, pid: u32) {
    assert_eq!(psql.ask(&format!("select pg_terminate_backend({pid})")), "t");
}

const WAITS_FOR_A_LOCK: &str = "wait_event_type = 'Lock'";

/// Gives the role another limit, and begins an apply whose statement waits for a lock that is held here.
fn apply_that_waits_for_a_lock(pair: &Workspace, limit: u32, options: &[&str]) -> (Psql, Running) {
    pair.topology(&format!("{REPLICATION}, connection_limit: {limit}"), PARAMETERS);
    let mut holder = Psql::on(pair, "a");
    holder.ask("begin; alter role repuser connection limit 77");
    let apply = Running::start(pair, &[&["apply", "--auto-approve"], options].concat());
    (holder, apply)
}

fn limit(pair: &Workspace) -> String {
    pair.sql("a", "select rolconnlimit from pg_roles where rolname = 'repuser'")
}

#[test]
fn a_statement_whose_session_is_ended_is_run_once_more_and_no_third_time() {
    let pair = made();
    let mut psql = Psql::on(&pair, "a");
    let (mut holder, apply) = apply_that_waits_for_a_lock(&pair, 9, &[]);
    let first = session_that(&mut psql, WAITS_FOR_A_LOCK, 0);
    end(&mut psql, first);
    session_that(&mut psql, WAITS_FOR_A_LOCK, first);
    holder.ask("rollback");
    apply.end().exits(0).says("terminating connection due to administrator command; once more");
    assert_eq!(limit(&pair), "9");
    pair.in_sync();

    let (mut holder, apply) = apply_that_waits_for_a_lock(&pair, 8, &[]);
    let first = session_that(&mut psql, WAITS_FOR_A_LOCK, 0);
    end(&mut psql, first);
    let second = session_that(&mut psql, WAITS_FOR_A_LOCK, first);
    end(&mut psql, second);
    apply
        .end()
        .exits(1)
        .says("error: a.replication_role: ")
        .says("the connection to the server was lost: terminating connection due to administrator command")
        .says("apply again");
    holder.ask("rollback");
    assert_eq!(limit(&pair), "9");
    assert_eq!(pair.planned(), ["a.replication_role"]);
    converges(&pair);
    assert_eq!(limit(&pair), "8");
}

#[test]
fn a_server_that_crashes_under_a_step_is_told_and_the_next_apply_goes_on() {
    let pair = made();
    let mut psql = Psql::on(&pair, "a");
    let (_holder, apply) = apply_that_waits_for_a_lock(&pair, 9, &[]);
    let backend = session_that(&mut psql, WAITS_FOR_A_LOCK, 0);
    // The postmaster ends all the others and recovers.
    signal("-KILL", backend);
    let ran = apply.end();
    // It may have recovered before the step was judged again.
    if ran.code != Some(0) {
        ran.exits(1).says("the connection to the server was lost").says("apply again");
    }
    converges(&pair);
    assert_eq!(limit(&pair), "9");
}

#[test]
fn a_server_that_does_not_answer_any_more_is_waited_for_until_the_timeout() {
    let pair = made();
    let mut psql = Psql::on(&pair, "a");
    let (mut holder, apply) = apply_that_waits_for_a_lock(&pair, 9, &["--timeout", "2s"]);
    let backend = session_that(&mut psql, WAITS_FOR_A_LOCK, 0);
    signal("-STOP", backend);
    let ran = apply.end().exits(1).says("the server did not answer within 2 s").says("--timeout waits longer");
    assert!(!ran.stderr.contains("once more"), "what it makes of the statement is not known: {}", ran.stderr);
    signal("-CONT", backend);
    holder.ask("rollback");
    wait_until("the session is gone", || psql_says_none(&pair));
    converges(&pair);
    assert_eq!(limit(&pair), "9");
}

fn psql_says_none(pair: &Workspace) -> bool {
    pair.sql("a", &format!("select count(*) {OWN}")) == "0"
}

#[test]
fn a_checkpoint_whose_session_is_ended_restarts_nothing_before_there_is_one() {
    const CHECKPOINT: &str = "query = 'CHECKPOINT' and state = 'active'";
    let pair = made();
    let mut psql = Psql::on(&pair, "a");
    let checkpointer = psql.ask("select pid from pg_stat_activity where backend_type = 'checkpointer'");
    let checkpointer: u32 = checkpointer.parse().expect("a process");
    let started = || pair.sql("a", "select pg_postmaster_start_time()");
    let restart = ["apply", "--auto-approve", "--allow", "outage,restart"];

    let before = started();
    pair.topology(REPLICATION, &format!("{PARAMETERS}  shared_buffers: 64MB\n"));
    signal("-STOP", checkpointer);
    let apply = Running::start(&pair, &restart);
    let first = session_that(&mut psql, CHECKPOINT, 0);
    end(&mut psql, first);
    let second = session_that(&mut psql, CHECKPOINT, first);
    end(&mut psql, second);
    apply.end().exits(1).says("no checkpoint was made: the connection to the server was lost").says("apply again");
    assert_eq!(started(), before, "it runs on");

    let apply = Running::start(&pair, &restart);
    let first = session_that(&mut psql, CHECKPOINT, second);
    end(&mut psql, first);
    session_that(&mut psql, CHECKPOINT, first);
    signal("-CONT", checkpointer);
    apply.end().exits(0).says("; once more");
    assert_ne!(started(), before);
    converges(&pair);
    assert_eq!(pair.sql("a", "show shared_buffers"), "64MB");
}

/// Stops pgpair while a backup of this file of the primary is there and it has a session; `false`: it has ended before.
fn stopped_in_mid_change(apply: &mut Running, psql: &mut Psql, pair: &Workspace, file: &str) -> bool {
    let backup = pair.data_dir("a").join(format!("{file}.pgpair.bak"));
    while apply.runs() {
        if !backup.exists() {
            std::thread::yield_now();
            continue;
        }
        apply.signal("-STOP");
        if backup.exists() && psql.ask(&format!("select count(*) {OWN}")) != "0" {
            return true;
        }
        apply.signal("-CONT");
    }
    false
}

fn a_change_is_cut(file: &str, parameters: &str) {
    let pair = made();
    let mut psql = Psql::on(&pair, "a");
    let text = || fs::read_to_string(pair.data_dir("a").join(file)).expect("our file");
    let before = text();
    pair.topology(REPLICATION, &format!("{PARAMETERS}{parameters}"));
    let mut apply = Running::start(&pair, &["apply", "--auto-approve"]);
    let mut cuts = 0;
    while stopped_in_mid_change(&mut apply, &mut psql, &pair, file) {
        psql.ask(&format!("select pg_terminate_backend(pid, 5000) {OWN}"));
        apply.signal("-CONT");
        cuts += 1;
    }
    assert!(cuts > 0, "it was never seen in the middle of it");
    let ran = apply.end();
    assert!(!pair.data_dir("a").join(format!("{file}.pgpair.bak")).exists(), "{cuts} cuts: {ran:?}");
    if ran.code == Some(1) {
        ran.says("the connection to the server was lost").says("the old");
        assert_eq!(text(), before, "the old file is back");
    } else {
        ran.exits(0);
    }
    converges(&pair);
    assert_ne!(text(), before);
}

#[test]
fn a_reload_whose_sessions_are_ended_leaves_the_old_or_the_new_parameters() {
    a_change_is_cut("postgresql.conf", "  work_mem: 5MB\n");
}

#[test]
fn a_change_of_rules_whose_sessions_are_ended_leaves_the_old_or_the_new_ones() {
    a_change_is_cut("pg_hba.conf", "hba:\n  - { type: local, database: all, user: app, method: reject }\n");
}

/// A pg_receivewal that has the standby's slot, killed when dropped.
struct SlotTaken(Child);

impl SlotTaken {
    fn of(pair: &Workspace) -> Self {
        let (port, socket) = (pair.sql("a", "show port"), pair.sql("a", "show unix_socket_directories"));
        pair.make_folder("received");
        let mut command = support::as_owner(pair.bin_dir.join("pg_receivewal"));
        command.arg("-D").arg(pair.path("received")).args(["-S", "pgpair_b", "-h", &socket, "-p", &port]);
        let taken = Self(command.stderr(Stdio::null()).spawn().expect("pg_receivewal runs"));
        wait_until("the slot is taken", || pair.sql("a", "select active from pg_replication_slots") == "t");
        taken
    }
}

impl Drop for SlotTaken {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_wait_for_a_standby_goes_on_whatever_becomes_of_the_sessions_that_look() {
    let pair = made();
    pair.pg_ctl("b", &["stop"]).exits(0);
    wait_until("its slot is free", || pair.sql("a", "select active from pg_replication_slots") == "f");
    let taken = SlotTaken::of(&pair);
    let log = pair.path("events.jsonl");
    let mut apply = Running::start(&pair, &["apply", "--auto-approve", "--event-log", &log.to_string_lossy()]);
    wait_until("the standby is waited for", || {
        let events = fs::read_to_string(&log).unwrap_or_default();
        events.lines().any(|event| event.contains("step_waiting") && event.contains("b.streaming"))
    });
    let mut psql = Psql::on(&pair, "a");
    let mut last = 0;
    for _ in 0..5 {
        last = session_that(&mut psql, "true", last);
        // It may have ended by itself just now.
        psql.ask(&format!("select pg_terminate_backend({last})"));
    }
    assert!(apply.runs());
    drop(taken);
    apply.end().exits(0);
    pair.in_sync();
    pair.replicates();
}
