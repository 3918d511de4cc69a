//! The figures of speed, in one table: `make bench`.
//!
//! Creation of a streaming pair is timed in turns with `scripts/plain-pair`, a plain shell script that does the same
//! with initdb, psql and pg_basebackup, a switchover in turns with `scripts/plain-switchover`; the rest against its
//! budget. Fails where a budget is exceeded. `scripts/bench PART...` does some of it.

#![expect(clippy::print_stdout, reason = "the table is the result")]

mod drift;
#[path = "../tests/support/mod.rs"]
mod support;
mod switchover;
mod table;

use std::path::Path;
use std::process::Command;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use pgpair::plan::Status;
use pgpair::plan::planner::plan;
use pgpair::plan::predict::predict;
use pgpair::topology;
use pgpair::world::sim::nothing;

use support::Version;
use support::Workspace;
use table::Table;
use table::Times;

const ROUNDS: usize = 7;
const QUICK_ROUNDS: usize = 30;

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// A part of the table, by name.
type Part = (&'static str, fn(&mut Table));

const PARTS: [Part; 6] = [
    ("creation", creation),
    ("healthy", healthy_pair),
    ("validate", validate),
    ("nodes", thousand_nodes),
    ("switchover", switchover::switchover),
    ("drift", drift::drift),
];

fn main() -> ExitCode {
    // Cargo gives an option of its own.
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let mut table = Table::begin();
    for (name, part) in PARTS {
        if named.is_empty() || named.iter().any(|one| one == name) {
            part(&mut table);
        }
    }
    table.end()
}

/// A pair made by pgpair, verification included, and one made by the plain script, in turns.
fn creation(table: &mut Table) {
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let pair = Workspace::new(Version(15));
        pair.usual_topology();
        plain.push(timed(|| plain_pair(&pair)));
        drop(pair);
        let pair = Workspace::new(Version(15));
        pair.usual_topology();
        ours.push(timed(|| drop(pair.apply().exits(0))));
    }
    let (ours, plain) = (Times::new(ours), Times::new(plain));
    table.times("a streaming pair, plain shell script", &plain);
    table.times("a streaming pair, `pgpair apply`", &ours);
    table.ratio_within(&ours, &plain, 1.2);
}

fn plain_pair(pair: &Workspace) {
    plain_script("plain-pair", pair, &pair.ports.map(|port| port.to_string()));
}

/// Runs a script of PostgreSQL's programs on the folder of this pair.
fn plain_script(name: &str, pair: &Workspace, arguments: &[String]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
    let status = support::as_owner("sh").arg(script).arg(&pair.bin_dir).arg(pair.path("")).args(arguments).status();
    assert!(status.expect("sh runs").success(), "{name}");
}

fn healthy_pair(table: &mut Table) {
    let pair = Workspace::new(Version(15));
    pair.usual_topology();
    pair.apply().exits(0);
    let times = Times::of(QUICK_ROUNDS, || timed(|| drop(pair.pgpair(&["plan", "--detailed-exitcode"]).exits(0))));
    table.times_within("`pgpair plan` of a healthy pair", &times, 60.0);
    let measured = Command::new("/usr/bin/time")
        .args(["-f", "%M", env!("CARGO_BIN_EXE_pgpair"), "plan"])
        .current_dir(pair.path(""))
        .output()
        .expect("time runs");
    let kilobytes: f64 = String::from_utf8_lossy(&measured.stderr).trim().parse().expect("a number");
    table.figure_within("  its memory, MB", kilobytes / 1024.0, 30.0, "MB");
    let times = Times::of(QUICK_ROUNDS, || timed(|| drop(pair.pgpair(&["status"]).exits(0))));
    table.times("`pgpair status` of a healthy pair", &times);
}

fn validate(table: &mut Table) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("topologies/runbook-pair.yaml");
    let times = Times::of(QUICK_ROUNDS, || {
        timed(|| {
            let output = Command::new(env!("CARGO_BIN_EXE_pgpair")).arg("validate").arg(&file).output();
            assert!(output.expect("pgpair runs").status.success());
        })
    });
    table.times_within("`pgpair validate` of the runbook's pair", &times, 10.0);
}

/// The pure plan of a primary and 999 standbys, each with a host of its own, from nothing and in sync: with a rule of
/// pg_hba.conf for their network, and with one for each node on each node, two million in all.
fn thousand_nodes(table: &mut Table) {
    of_thousand_nodes(table, "", "addresses: [10.0.0.0/8], ", Some(100.0));
    of_thousand_nodes(table, ", a rule each", "", None);
}

fn of_thousand_nodes(table: &mut Table, kind: &str, addresses: &str, budget: Option<f64>) {
    let mut row = |what: &str, times: &Times, budget: Option<f64>| match budget {
        Some(budget) => table.times_within(&format!("{what}{kind}"), times, budget),
        None => table.times(&format!("{what}{kind}"), times),
    };
    let mut yaml = format!(
        "version: 1\ncluster: many\npostgresql: {{ version: 15 }}\n\
         replication: {{ user: rep, {addresses}auth: scram-sha-256, password: {{ env: X }} }}\n\
         parameters: {{ max_wal_senders: 1100, max_replication_slots: 1100 }}\nnodes:\n"
    );
    for number in 0..1000 {
        let role = if number == 0 { "primary" } else { "standby" };
        let port = 5000 + number;
        let host = format!("10.{}.{}.1", number / 250, number % 250 + 1);
        yaml.push_str(&format!(
            "  n{number}: {{ role: {role}, host: {host}, port: {port}, data_dir: /pg/{number} }}\n"
        ));
    }
    let mut parsed = None;
    let times = Times::of(3, || timed(|| parsed = topology::parse(yaml.as_bytes(), "many.yaml", "/").ok()));
    row("reading 1,000 nodes", &times, None);
    let topology = parsed.expect("a good topology");
    let nothing = nothing(&topology);
    let mut first = plan(&topology, &nothing);
    let times = Times::of(3, || timed(|| first = plan(&topology, &nothing)));
    row("planning 1,000 nodes from nothing", &times, budget);
    let mut healthy = nothing.clone();
    for step in &first.steps {
        predict(&step.node, &step.action, &topology, &mut healthy);
    }
    let times = Times::of(5, || timed(|| assert_eq!(plan(&topology, &healthy).status(), Status::Clean)));
    row("planning 1,000 nodes in sync", &times, budget);
}
