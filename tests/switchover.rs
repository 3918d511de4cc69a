//! Switchovers of real servers: under load, in both directions, and with pgpair, a server or a process of one killed at
//! each of their moments.
//!
//! A writer records every row whose commit was acknowledged, and a watcher asks both servers all the while whether they
//! accept writes. However it goes: no acknowledged row is lost, never are there two writers, and an apply afterwards
//! comes to an empty plan. PGPAIR_SWITCHOVERS says how many are made under load (2 by themselves).

#![expect(clippy::print_stdout, reason = "the figures are the result")]

mod support;

use std::fs;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use pgpair::world::failpoint::Failpoint;
use support::Ran;
use support::Version;
use support::Workspace;
use support::comes_true;
use support::is_full;
use support::probe::RULE;
use support::roles::name_primary;
use support::roles::other;
use support::roles::primary_of;
use support::wait_until;
use support::witness::Witness;
use support::witness::apply;
use support::witness::apply_until;

const USUAL: &str = "  max_wal_senders: 6\n  wal_retrieve_retry_interval: 100ms\n";
const SCRAM: &str = "auth: scram-sha-256, password: { file: repuser.secret }";

/// A pair that runs, with a database for the load.
fn a_pair(version: Version, replication: &str, parameters: &str) -> Workspace {
    let pair = Workspace::new(version);
    pair.topology(replication, &format!("{USUAL}{parameters}hba:\n  - {RULE}\n"));
    pair.apply().exits(0);
    pair.sql("a", "create role bench login");
    pair.sql("a", "create database bench owner bench");
    pair
}

fn pgbench(pair: &Workspace, node: &str) -> Command {
    let mut command = Command::new(pair.bin_dir.join("pgbench"));
    let port = pair.ports[usize::from(node == "b")].to_string();
    command.args(["-h", "127.0.0.1", "-p", &port, "-U", "bench"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn under_load_the_primary_moves_back_and_forth_and_no_acknowledged_row_is_lost() {
    let pair = a_pair(Version(15), SCRAM, "");
    pgbench(&pair, "a").args(["-i", "-q", "-s", "2", "bench"]).status().expect("pgbench runs");
    let times = std::env::var("PGPAIR_SWITCHOVERS").ok().and_then(|times| times.parse().ok()).unwrap_or(2);
    let mut primary = "a";
    for _ in 0..times {
        let mut clients =
            pgbench(&pair, primary).args(["-n", "-c", "4", "-T", "60", "bench"]).spawn().expect("pgbench starts");
        let witness = Witness::of(&pair, primary);
        let to = other(primary);
        name_primary(&pair, to);
        let ran = apply(&pair, to).exits(0);
        let told = ran.stderr.lines().find(|line| line.contains("no writes for")).unwrap_or_default();
        println!("to {to}: a writer saw {:?}; {told}", witness.swears(&pair, to));
        pair.in_sync();
        let _it_may_have_ended = clients.kill();
        clients.wait().expect("our child");
        primary = to;
    }
}

/// Both directions, each with an empty plan afterwards.
fn back_and_forth(pair: &Workspace) {
    for to in ["b", "a"] {
        let witness = Witness::of(pair, other(to));
        name_primary(pair, to);
        apply(pair, to).exits(0);
        witness.swears(pair, to);
        pair.in_sync();
        pair.pgpair(&["status"]).exits(0);
    }
}

#[test]
fn the_primary_of_10_moves_by_its_recovery_conf() {
    back_and_forth(&a_pair(Version(10), SCRAM, ""));
}

#[test]
fn the_primary_of_12_moves_though_its_conninfo_takes_a_restart() {
    back_and_forth(&a_pair(Version(12), "auth: trust, slots: false", ""));
}

#[test]
fn commits_wait_for_the_old_primary_in_the_end() {
    let pair = a_pair(Version(15), &format!("{SCRAM}, synchronous: {{ method: first, num: 1 }}"), "");
    back_and_forth(&pair);
    assert_eq!(pair.sql("a", "show synchronous_standby_names"), "FIRST 1 (\"b\")");
    assert_eq!(pair.sql("b", "show synchronous_standby_names"), "");
}

#[test]
fn the_promotion_does_not_wait_for_a_slow_archive() {
    let pair = a_pair(Version(15), SCRAM, "  archive_mode: on\n  archive_command: 'sleep 3'\n");
    let witness = Witness::of(&pair, "a");
    name_primary(&pair, "b");
    let begun = Instant::now();
    apply(&pair, "b").exits(0);
    let (whole, gap) = (begun.elapsed(), witness.swears(&pair, "b"));
    println!("no writes for {gap:?}, the whole apply took {whole:?}");
    assert!(gap < Duration::from_secs(2) && whole > gap, "{gap:?} of {whole:?}");
}

/// What happens after pgpair was killed.
#[derive(Clone, Copy, Debug)]
enum Then {
    Nothing,
    /// The old primary is started, if it is down.
    StartOld,
    KillOld,
    KillNew,
}

/// Kills pgpair at every second of these points of a switchover, to and fro, or at all with PGPAIR_FULL=1; then goes on.
fn killed_at(pair: &Workspace, points: &[Failpoint], then: Then) {
    let mut primary = "a";
    for point in points.iter().step_by(if is_full() { 1 } else { 2 }) {
        let to = other(primary);
        name_primary(pair, to);
        goes_on_from(pair, point.name(), then, to);
        primary = to;
    }
}

/// Kills pgpair before each step of a switchover, to and fro; then goes on.
fn killed_before_each_step(pair: &Workspace, then: Then) {
    let mut primary = primary_of(pair);
    for number in (0..).step_by(if is_full() { 1 } else { 4 }) {
        let to = other(primary);
        name_primary(pair, to);
        let planned = pair.planned();
        let Some(step) = planned.get(number) else {
            name_primary(pair, primary);
            break;
        };
        goes_on_from(pair, step, then, to);
        primary = to;
    }
}

fn goes_on_from(pair: &Workspace, point: &str, then: Then, to: &str) {
    let primary = other(to);
    let witness = Witness::of(pair, primary);
    apply_until(pair, to, point);
    match then {
        Then::Nothing => {}
        Then::StartOld => {
            // Whatever it says: it may run still, or be ending.
            pair.pg_ctl(primary, &["start"]);
        }
        Then::KillOld => kill_postmaster(pair, primary),
        Then::KillNew => kill_postmaster(pair, to),
    }
    let story = format!("{point} {then:?}, {primary} to {to}");
    // One that takes the change back first makes it in the next run.
    let converged = (0..3).any(|_| {
        let ran = apply(pair, to);
        println!("{story}: exit {:?}", ran.code);
        if ran.code != Some(0) {
            println!("{}{}", ran.stdout, ran.stderr);
        }
        ran.code == Some(0)
    });
    assert!(converged, "{story}: does not converge");
    pair.in_sync();
    assert_eq!(pair.sql(to, "select pg_is_in_recovery()"), "f", "{story}");
    witness.swears(pair, to);
}

fn kill_postmaster(pair: &Workspace, node: &str) {
    let pid_file = fs::read_to_string(pair.data_dir(node).join("postmaster.pid")).unwrap_or_default();
    let Some(pid) = pid_file.lines().next() else { return };
    Command::new("kill").args(["-9", pid]).stderr(Stdio::null()).status().expect("kill runs");
    let is_gone = || fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
    assert!(comes_true(Duration::from_secs(30), is_gone), "the postmaster of {node} does not end");
}

#[test]
fn killed_at_any_moment_pgpair_goes_on_from_there() {
    let points = [
        Failpoint::Fenced,
        Failpoint::StopIssued,
        Failpoint::ShutDown,
        Failpoint::Proven,
        Failpoint::PromoteFile,
        Failpoint::Signalled,
        Failpoint::Promoted,
        Failpoint::StartIssued,
    ];
    killed_at(&a_pair(Version(15), SCRAM, ""), &points, Then::Nothing);
}

#[test]
fn killed_before_any_step_pgpair_goes_on_from_there_whatever_else_is_killed_or_started() {
    let pair = a_pair(Version(15), SCRAM, "");
    let all = [Then::Nothing, Then::StartOld, Then::KillOld, Then::KillNew];
    for then in all.into_iter().take(if is_full() { all.len() } else { 1 }) {
        killed_before_each_step(&pair, then);
    }
}

#[test]
fn killed_at_any_moment_pgpair_goes_on_from_there_on_10() {
    let points = [Failpoint::Fenced, Failpoint::ShutDown, Failpoint::PromoteFile];
    killed_at(&a_pair(Version(10), SCRAM, ""), &points, Then::Nothing);
}

#[test]
fn an_old_primary_that_somebody_starts_meanwhile_is_a_standby() {
    let points =
        [Failpoint::StopIssued, Failpoint::ShutDown, Failpoint::Proven, Failpoint::PromoteFile, Failpoint::Promoted];
    killed_at(&a_pair(Version(15), SCRAM, ""), &points, Then::StartOld);
}

#[test]
fn an_old_primary_that_is_killed_meanwhile_loses_nothing() {
    let points = [Failpoint::Fenced, Failpoint::StopIssued, Failpoint::Proven, Failpoint::StartIssued];
    killed_at(&a_pair(Version(15), SCRAM, ""), &points, Then::KillOld);
}

#[test]
fn a_candidate_that_is_killed_meanwhile_loses_nothing() {
    let points =
        [Failpoint::Fenced, Failpoint::ShutDown, Failpoint::Proven, Failpoint::PromoteFile, Failpoint::Promoted];
    killed_at(&a_pair(Version(15), SCRAM, ""), &points, Then::KillNew);
}

#[test]
fn a_backend_that_is_killed_makes_an_armed_primary_a_standby_and_it_comes_back() {
    let pair = a_pair(Version(15), SCRAM, "");
    let witness = Witness::of(&pair, "a");
    name_primary(&pair, "b");
    apply_until(&pair, "b", Failpoint::Fenced.name());
    let pid = pair.sql("a", "select pid from pg_stat_activity where backend_type = 'checkpointer'");
    Command::new("kill").args(["-9", &pid]).status().expect("kill runs");
    wait_until("it is back", || pair.try_sql("a", "select pg_is_in_recovery()").stdout.trim() == "t");
    let converged = (0..3).any(|_| apply(&pair, "b").code == Some(0));
    assert!(converged, "does not converge");
    pair.in_sync();
    witness.swears(&pair, "b");
}

#[test]
fn where_all_are_standbys_the_one_that_the_topology_names_is_started_and_promoted() {
    let pair = a_pair(Version(15), SCRAM, "");
    let witness = Witness::of(&pair, "a");
    name_primary(&pair, "b");
    apply_until(&pair, "b", Failpoint::Fenced.name());
    pair.pg_ctl("a", &["restart", "-m", "fast"]).exits(0);
    pair.pg_ctl("b", &["stop", "-m", "fast"]).exits(0);
    assert_eq!(pair.sql("a", "select pg_is_in_recovery()"), "t");
    let converged = (0..2).any(|_| apply(&pair, "b").code == Some(0));
    assert!(converged, "does not converge: {:?}", pair.pgpair(&["plan"]));
    pair.in_sync();
    witness.swears(&pair, "b");
}

#[test]
fn a_candidate_that_confirms_nothing_leaves_the_role_where_it_was() {
    let pair = a_pair(Version(15), SCRAM, "");
    let before = fs::read_to_string(pair.path("pgpair.yaml")).expect("our file");
    let witness = Witness::of(&pair, "a");
    name_primary(&pair, "b");
    let receiver = pair.sql("b", "select pid from pg_stat_wal_receiver");
    // Once it is fenced: before, the lag would be seen.
    let mut command = pair.command(&["apply", "--auto-approve", "--allow", "switchover=b", "--timeout", "4s"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pgpair starts");
    wait_until("it is fenced", || pair.data_dir("a").join("standby.signal").exists());
    Command::new("kill").args(["-STOP", &receiver]).status().expect("kill runs");
    let ran = Ran::of(&child.wait_with_output().expect("our child"));
    Command::new("kill").args(["-CONT", &receiver]).stderr(Stdio::null()).status().expect("kill runs");
    let ran = ran.exits(5).says("the role change was taken back");
    println!("{}", ran.stderr);
    assert_eq!(pair.sql("a", "select pg_is_in_recovery()"), "f");
    assert!(!pair.data_dir("a").join("standby.signal").exists());
    witness.swears(&pair, "a");
    pair.write("pgpair.yaml", &before, 0o644);
    wait_until("the standby streams again", || pair.pgpair(&["plan", "--detailed-exitcode"]).code == Some(0));
}
