//! `pgpair drift` of many real pairs at once: wall time and peak memory, and that both grow no faster than their number.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support;
use crate::support::Version;
use crate::support::Workspace;
use crate::table::Table;
use crate::table::Times;

const COUNTS: [usize; 3] = [10, 25, 50];
const ROUNDS: usize = 7;
/// How many pairs are made at once.
const MAKERS: usize = 2;

pub(crate) fn drift(table: &mut Table) {
    let pairs = made(COUNTS[COUNTS.len() - 1]);
    let folder = Workspace::new(Version(15));
    let files: Vec<String> = pairs.iter().map(|pair| pair.path("pgpair.yaml").display().to_string()).collect();
    let mut per_pair = Vec::new();
    for count in COUNTS {
        let mut kilobytes: Vec<u64> = Vec::new();
        let times = Times::of(ROUNDS, || {
            let (seconds, peak) = measured(&folder, &files[..count]);
            kilobytes.push(peak);
            seconds
        });
        kilobytes.sort_unstable();
        let peak = kilobytes[ROUNDS / 2] as f64 / 1024.0;
        table.times(&format!("`pgpair drift` of {count} pairs"), &times);
        table.figure_within("  its memory, MB", peak, 30.0, "MB");
        per_pair.push(times.median() / count as f64);
    }
    // Linear growth: what each of many takes is what each of few takes, and no more.
    let growth = per_pair[COUNTS.len() - 1] / per_pair[0];
    table.figure_within("  time a pair, of 50 to that of 10", growth, 1.25, "x");
}

/// Makes real pairs that take as little memory as a server can, all of them in sync and running.
fn made(count: usize) -> Vec<Workspace> {
    let pairs: Vec<Workspace> = (0..count).map(|_| Workspace::new(Version(15))).collect();
    let names: Vec<(usize, &Workspace)> = pairs.iter().enumerate().collect();
    thread::scope(|scope| {
        for share in names.chunks(count.div_ceil(MAKERS)) {
            scope.spawn(move || share.iter().for_each(|(number, pair)| make(pair, *number)));
        }
    });
    pairs
}

fn make(pair: &Workspace, number: usize) {
    let small = "  shared_buffers: 1MB\n  max_connections: 10\n  max_wal_senders: 4\n  wal_log_hints: on\n  \
                 autovacuum: off\n  max_worker_processes: 1\n  max_logical_replication_workers: 0\n";
    pair.topology("auth: scram-sha-256, password: { file: repuser.secret }", small);
    pair.edit("cluster: test", &format!("cluster: pair{number}"));
    pair.edit("data_checksums: true", "data_checksums: true, wal-segsize: 1, no-sync: on");
    pair.apply().exits(0);
}

/// One run of all these files: how long it took, and its peak memory in kilobytes.
fn measured(folder: &Workspace, files: &[String]) -> (Duration, u64) {
    let (figures, textfile) = (folder.path("time"), folder.path("pgpair.prom"));
    let output = Command::new("/usr/bin/time")
        .args(["--format=%e %M", "--output"])
        .arg(&figures)
        .arg(env!("CARGO_BIN_EXE_pgpair"))
        .args(["drift", "--textfile"])
        .arg(textfile)
        .args(files)
        .output();
    let ran = support::Ran::of(&output.expect("time runs")).exits(0);
    assert_eq!(ran.stdout.lines().filter(|line| line.ends_with(": in sync")).count(), files.len());
    let figures = fs::read_to_string(figures).expect("figures");
    let (seconds, peak) = figures.trim().split_once(' ').expect("two figures");
    (Duration::from_secs_f64(seconds.parse().expect("seconds")), peak.parse().expect("kilobytes"))
}
