//! The end of the WAL of servers that were killed, as pgpair finds it, beside what PostgreSQL's own programs say.

#![expect(clippy::print_stdout, reason = "the speed is a result")]

mod support;

use std::path::Path;
use std::time::Instant;

use pgpair::pg::control::Control;
use pgpair::pg::lsn::Lsn;
use pgpair::pg::lsn::Timeline;
use pgpair::pg::version::Major;
use pgpair::pg::wal::walk::Walk;
use pgpair::pg::wal::walk::walk;
use pgpair::world::observe::place::read_control;
use pgpair::world::probe::wal;
use support::Version;
use support::Workspace;
use support::background::Psql;
use support::roles::kill;

/// A server alone that has written records of every kind and length, and was killed.
fn killed(version: Version, writes: &[&str]) -> (Workspace, Lsn) {
    let pair = Workspace::new(version);
    pair.initdb("a");
    pair.set("a", &format!("port = {}\nunix_socket_directories = '/tmp'\nlisten_addresses = ''", pair.ports[0]));
    pair.set("a", "max_prepared_transactions = 2\nautovacuum = off");
    pair.pg_ctl("a", &["start"]).exits(0);
    pair.sql("a", "create table t as select n, repeat('x', 5000) as x from generate_series(1, 3000) as n");
    pair.sql("a", "checkpoint");
    for statement in writes {
        pair.sql("a", statement);
    }
    let mut psql = Psql::on(&pair, "a");
    // The last is a commit that waits for its WAL, and the position behind it is read when nobody else writes.
    psql.ask("insert into t values (0)");
    let end = psql.ask("select pg_current_wal_insert_lsn()").parse().expect("an LSN");
    kill(&pair, "a");
    (pair, end)
}

fn control(data_dir: &Path, version: Version) -> Control {
    let major = Major::new(version.0).expect("known");
    read_control(data_dir, major).expect("readable").expect("whole")
}

fn counted(data_dir: &Path, version: Version, from: Lsn) -> Walk {
    let control = control(data_dir, version);
    let pg_wal = data_dir.join("pg_wal");
    let segments = wal::Segments::new(&pg_wal, [control.timeline].into_iter(), control.wal_segment_size);
    walk(segments, control.wal_segment_size, control.checkpoint, from).expect("readable").expect("records")
}

const WRITES: [&str; 8] = [
    "insert into t values (1)",
    "begin; insert into t values (2); rollback",
    "begin; insert into t values (3); prepare transaction 'p'",
    "commit prepared 'p'",
    "update t set n = n + 1",
    "select pg_switch_wal()",
    "begin; insert into t values (4); savepoint s; insert into t values (5); commit",
    "insert into t select 1, string_agg(md5(n::text), '') from generate_series(1, 100000) as n",
];

fn the_end_of_a_killed_server_is_found(version: Version) {
    let (pair, end) = killed(version, &WRITES);
    let data_dir = pair.data_dir("a");
    let control = control(&data_dir, version);
    let found = wal::end(&data_dir.join("pg_wal"), &control, &[], None, true).expect("readable");
    assert_eq!(found, Some((end, Timeline(1))));
    let running = wal::end(&data_dir.join("pg_wal"), &control, &[], None, false).expect("readable");
    assert_eq!(running, None, "what runs has no end");
    let walk = counted(&data_dir, version, Lsn(0));
    assert_eq!(walk.commits, 6, "one was rolled back, and one only prepared at first");
}

#[test]
fn the_end_of_a_killed_server_of_15_is_found() {
    the_end_of_a_killed_server_is_found(Version(15));
}

#[test]
fn the_end_of_a_killed_server_of_10_is_found() {
    the_end_of_a_killed_server_is_found(Version(10));
}

#[test]
fn the_end_of_a_killed_server_of_18_is_found() {
    the_end_of_a_killed_server_is_found(Version(18));
}

/// Returns the LSN of the first line behind the text `lsn: ` or the like.
fn lsn_after(text: &str, label: &str) -> Option<Lsn> {
    let rest = &text[text.find(label)? + label.len()..];
    rest.split([',', ':', ' ']).next()?.parse().ok()
}

#[test]
fn end_commits_and_last_commit_are_those_that_pg_waldump_finds() {
    let (pair, end) = killed(Version(15), &WRITES);
    let data_dir = pair.data_dir("a");
    let control = control(&data_dir, Version(15));
    let pg_wal = data_dir.join("pg_wal").to_string_lossy().into_owned();
    let dumped = |from: Lsn| pair.run("pg_waldump", &["-p", &pg_wal, "-t", "1", "-s", &from.to_string()]);
    let all = dumped(control.checkpoint);
    assert_eq!(lsn_after(&all.stderr, "invalid record length at "), Some(end), "{}", all.stderr);

    let commits: Vec<&str> = all.stdout.lines().filter(|line| line.contains("desc: COMMIT")).collect();
    let starts: Vec<Lsn> = commits.iter().filter_map(|line| lsn_after(line, "lsn: ")).collect();
    assert!(starts.len() == 6 && starts.len() == commits.len(), "{commits:?}");
    for (index, from) in starts.iter().enumerate() {
        let walk = counted(&data_dir, Version(15), *from);
        assert_eq!(walk.commits as usize, starts.len() - index, "from {from}");
        let last = jiff::Timestamp::from_microsecond(walk.last_commit.expect("a commit")).expect("a time");
        let last = last.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string();
        let line = commits.last().expect("a commit");
        assert!(line.contains(&last), "{last}: {line}");
    }
}

#[test]
fn half_a_gigabyte_is_walked_in_seconds() {
    let fill = "insert into t select n, repeat(md5(n::text), 40) from generate_series(1, 350000) as n";
    let (pair, end) = killed(Version(15), &[fill]);
    let data_dir = pair.data_dir("a");
    let control = control(&data_dir, Version(15));
    let start = Instant::now();
    let found = wal::end(&data_dir.join("pg_wal"), &control, &[], None, true).expect("readable");
    let megabytes = (end.0 - control.checkpoint.0) >> 20;
    println!("{megabytes} MB of WAL were walked in {} ms", start.elapsed().as_millis());
    assert_eq!(found.map(|(end, _)| end), Some(end));
    assert!(megabytes > 100, "{megabytes} MB");
    assert!(start.elapsed().as_secs() < 20);
}
