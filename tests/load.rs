//! pgbench runs while pgpair works: reloads cost no transaction, and a restart's outage of writes is measured.

#![expect(clippy::print_stdout, reason = "the figures are the result")]

mod support;

use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use support::Ran;
use support::Version;
use support::Workspace;
use support::probe::Probe;
use support::probe::RULE;

/// A pair with a database for the load.
fn a_pair() -> Workspace {
    let pair = Workspace::new(Version(15));
    with(&pair, "trust", "", &[]);
    pair.apply().exits(0);
    pair.sql("a", "create role bench login");
    pair.sql("a", "create database bench owner bench");
    Ran::of(&pgbench(&pair, &["-i", "-q", "-s", "5"]).output().expect("pgbench runs")).exits(0);
    pair
}

/// Writes the topology with these parameters and rules beside the usual ones.
fn with(pair: &Workspace, auth: &str, parameters: &str, rules: &[&str]) {
    let rules: String = [RULE].iter().chain(rules).map(|rule| format!("  - {rule}\n")).collect();
    let usual = "  max_wal_senders: 6\n  wal_retrieve_retry_interval: 100ms\n";
    pair.topology(&format!("auth: {auth}"), &format!("{usual}{parameters}hba:\n{rules}"));
}

fn pgbench(pair: &Workspace, arguments: &[&str]) -> Command {
    let mut command = Command::new(pair.bin_dir.join("pgbench"));
    command.args(["-h", "127.0.0.1", "-p", &pair.ports[0].to_string(), "-U", "bench"]).args(arguments).arg("bench");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Four clients, until they are ended or the time is over.
fn load(pair: &Workspace, seconds: &str) -> Child {
    pgbench(pair, &["-n", "-c", "4", "-T", seconds]).spawn().expect("pgbench starts")
}

#[test]
fn reloads_cost_no_transaction_of_a_loaded_primary() {
    let pair = a_pair();
    let other = "{ type: host, database: all, user: app, address: 10.0.0.0/8, method: scram-sha-256 }";
    let edits: [(&str, &str, &[&str]); 6] = [
        ("trust", "  work_mem: 8MB\n", &[]),
        ("trust", "  work_mem: 16MB\n  log_min_duration_statement: 1s\n", &[]),
        ("trust", "  max_wal_size: 512MB\n  checkpoint_timeout: 10min\n", &[other]),
        ("trust, connection_limit: 6", "  archive_command: 'true'\n", &[other]),
        ("trust, slots: false", "", &[]),
        ("trust", "", &[]),
    ];
    let mut clients = load(&pair, "5");
    for (auth, parameters, rules) in edits {
        with(&pair, auth, parameters, rules);
        // What is left of a slot that was just given up is a later plan's.
        let ran = pair.apply();
        assert!(matches!(ran.code, Some(0 | 5)), "{}{}", ran.stdout, ran.stderr);
        if clients.try_wait().expect("our child").is_some() {
            lost_nothing(clients);
            clients = load(&pair, "5");
        }
    }
    lost_nothing(clients);
}

/// Asserts that no transaction of these clients failed, and prints their figures.
fn lost_nothing(clients: Child) {
    let ran = Ran::of(&clients.wait_with_output().expect("our child")).exits(0);
    let ran = ran.says("number of failed transactions: 0 (0.000%)");
    let figures: Vec<&str> =
        ran.stdout.lines().filter(|line| line.contains("number of") || line.contains("tps")).collect();
    println!("{}", figures.join("\n"));
}

/// Measures the longest time without a commit while `work` is done on a loaded primary.
fn outage(pair: &Workspace, work: impl FnOnce()) -> Duration {
    let mut clients = load(pair, "60");
    let probe = Probe::start(&pair.ports[..1]);
    pair.replicates();
    work();
    pair.replicates();
    let gap = probe.longest_gap();
    // The clients end with their connections; one that has just begun may not.
    let _ = clients.kill();
    clients.wait().expect("our child");
    gap
}

#[test]
fn the_outage_of_a_primarys_restart_is_that_of_postgresql_itself() {
    let pair = a_pair();
    let by_hand = outage(&pair, || {
        pair.pg_ctl("a", &["restart", "-m", "fast"]).exits(0);
    });
    let by_pgpair = outage(&pair, || {
        with(&pair, "trust", "  max_connections: 120\n", &[]);
        pair.pgpair(&["apply", "--auto-approve", "--allow", "restart,outage"]).exits(0);
    });
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    println!(
        "no commit for {:.0} ms: pg_ctl restart\nno commit for {:.0} ms: pgpair apply",
        ms(by_hand),
        ms(by_pgpair)
    );
    assert!(by_pgpair < by_hand * 3 + Duration::from_secs(2), "{by_pgpair:?} after {by_hand:?} by hand");
}
