//! The figures of speed, in one table: `make bench`.
//!
//! Creation of a streaming pair is timed in turns with `scripts/plain-pair`, a plain shell script that does the same
//! with initdb, psql and pg_basebackup; the rest against its budget.

#![expect(clippy::print_stdout, reason = "the table is the result")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use pgpair::plan::Status;
use pgpair::plan::planner::plan;
use pgpair::plan::predict::predict;
use pgpair::topology;
use pgpair::world::sim::nothing;

use support::Version;
use support::Workspace;

const ROUNDS: usize = 7;
const QUICK_ROUNDS: usize = 30;

/// Several times of one thing.
struct Times(Vec<Duration>);

impl Times {
    fn of(rounds: usize, mut work: impl FnMut() -> Duration) -> Self {
        let mut times: Vec<Duration> = (0..rounds).map(|_| work()).collect();
        times.sort();
        Self(times)
    }

    fn median(&self) -> f64 {
        self.0[self.0.len() / 2].as_secs_f64() * 1000.0
    }

    fn row(&self, what: &str, budget: &str) {
        let ms = |time: &Duration| time.as_secs_f64() * 1000.0;
        let (least, most) = (ms(&self.0[0]), ms(&self.0[self.0.len() - 1]));
        println!("{what:<44} {least:>9.1} {:>9.1} {most:>9.1}   {budget}", self.median());
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn main() {
    if std::env::args().any(|argument| argument == "nodes") {
        return thousand_nodes();
    }
    println!("{:<44} {:>9} {:>9} {:>9}   budget", "", "min ms", "median", "max");
    creation();
    healthy_pair();
    validate();
    thousand_nodes();
}

/// A pair made by pgpair, verification included, and one made by the plain script, in turns.
fn creation() {
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
    ours.sort();
    plain.sort();
    let (ours, plain) = (Times(ours), Times(plain));
    plain.row("a streaming pair, plain shell script", "");
    ours.row("a streaming pair, `pgpair apply`", "1.2 x the script");
    println!("{:<44} {:>9} {:>9.2}", "  ratio of the medians", "", ours.median() / plain.median());
}

fn plain_pair(pair: &Workspace) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/plain-pair");
    let [a, b] = pair.ports.map(|port| port.to_string());
    let status = support::as_owner("sh").arg(script).arg(&pair.bin_dir).arg(pair.path("")).args([a, b]).status();
    assert!(status.expect("sh runs").success());
}

fn healthy_pair() {
    let pair = Workspace::new(Version(15));
    pair.usual_topology();
    pair.apply().exits(0);
    let times = Times::of(QUICK_ROUNDS, || timed(|| drop(pair.pgpair(&["plan", "--detailed-exitcode"]).exits(0))));
    times.row("`pgpair plan` of a healthy pair", "60 ms");
    let measured = Command::new("/usr/bin/time")
        .args(["-f", "%M", env!("CARGO_BIN_EXE_pgpair"), "plan"])
        .current_dir(pair.path(""))
        .output()
        .expect("time runs");
    let kilobytes: f64 = String::from_utf8_lossy(&measured.stderr).trim().parse().expect("a number");
    println!("{:<44} {:>9} {:>9.1}   30 MB", "  its memory, MB", "", kilobytes / 1024.0);
    let times = Times::of(QUICK_ROUNDS, || timed(|| drop(pair.pgpair(&["status"]).exits(0))));
    times.row("`pgpair status` of a healthy pair", "");
}

fn validate() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("topologies/runbook-pair.yaml");
    let times = Times::of(QUICK_ROUNDS, || {
        timed(|| {
            let output = Command::new(env!("CARGO_BIN_EXE_pgpair")).arg("validate").arg(&file).output();
            assert!(output.expect("pgpair runs").status.success());
        })
    });
    times.row("`pgpair validate` of the runbook's pair", "10 ms");
}

/// The pure plan of a primary and 999 standbys, each with a host of its own, from nothing and in sync: with a rule of
/// pg_hba.conf for their network, and with one for each node on each node, two million in all.
fn thousand_nodes() {
    of_thousand_nodes("", "addresses: [10.0.0.0/8], ", "100 ms");
    of_thousand_nodes(", a rule each", "", "");
}

fn of_thousand_nodes(kind: &str, addresses: &str, budget: &str) {
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
    times.row(&format!("reading 1,000 nodes{kind}"), "");
    let topology = parsed.expect("a good topology");
    let nothing = nothing(&topology);
    let mut first = plan(&topology, &nothing);
    let times = Times::of(3, || timed(|| first = plan(&topology, &nothing)));
    times.row(&format!("planning 1,000 nodes from nothing{kind}"), budget);
    let mut healthy = nothing.clone();
    for step in &first.steps {
        predict(&step.node, &step.action, &topology, &mut healthy);
    }
    let times = Times::of(5, || timed(|| assert_eq!(plan(&topology, &healthy).status(), Status::Clean)));
    times.row(&format!("planning 1,000 nodes in sync{kind}"), budget);
}
