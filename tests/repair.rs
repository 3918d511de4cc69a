//! A standby that is broken in every way that pgpair mends, each by the smallest plan, on real servers of 15 and 10.
//!
//! One pair is broken and mended many times; after each time the plan is empty, and a row arrives.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use support::Version;
use support::Workspace;
use support::wait_until;

const OLD: Version = Version(10);
const NEW: Version = Version(15);

const REPLICATION: &str = "auth: scram-sha-256, password: { file: repuser.secret }";

/// Parameters with which WAL is recycled soon.
const SMALL: &str = "  max_wal_size: 32MB\n  min_wal_size: 32MB\n";

fn made_pair(version: Version, replication: &str, parameters: &str) -> Workspace {
    let pair = Workspace::new(version);
    pair.topology(replication, &format!("  max_wal_senders: 4\n{parameters}"));
    pair.apply().exits(0);
    pair
}

/// Asserts the steps of the plan, carries them out with these allowances, and sees that the pair works.
#[track_caller]
fn mends(pair: &Workspace, steps: &[&str], allow: &[&str]) {
    assert_eq!(pair.planned(), steps);
    let allowed = allow.iter().flat_map(|allowance| ["--allow", allowance]);
    pair.pgpair(&["apply", "--auto-approve"].into_iter().chain(allowed).collect::<Vec<_>>()).exits(0);
    pair.in_sync();
    pair.replicates();
}

fn stop(pair: &Workspace, node: &str) {
    pair.pg_ctl(node, &["stop", "-m", "fast"]).exits(0);
}

fn start(pair: &Workspace, node: &str) {
    pair.pg_ctl(node, &["start"]).exits(0);
}

/// Rewrites a file of a node by hand.
fn rewrite(pair: &Workspace, node: &str, file: &str, change: impl Fn(&str) -> String) {
    let path = pair.data_dir(node).join(file);
    let text = fs::read_to_string(&path).expect("a file");
    fs::write(&path, change(&text)).expect("our file");
}

fn set_mode(pair: &Workspace, file: &str, mode: u32) {
    fs::set_permissions(pair.data_dir("b").join(file), fs::Permissions::from_mode(mode)).expect("our file");
}

fn streams(pair: &Workspace) -> bool {
    pair.try_sql("b", "select status from pg_stat_wal_receiver").stdout.trim() == "streaming"
}

#[test]
fn each_damage_to_a_standby_of_15_is_mended_by_the_smallest_plan() {
    let pair = made_pair(NEW, REPLICATION, "");

    stop(&pair, "b");
    mends(&pair, &["b.start", "b.streaming"], &[]);

    stop(&pair, "b");
    fs::remove_dir_all(pair.data_dir("b")).expect("our folder");
    mends(&pair, &["b.clone", "b.start", "b.streaming", "b.slot.pgpair_a"], &[]);

    // Detached: mended by a reload.
    for line in ["primary_conninfo = 'host=127.0.0.1 port=1 user=repuser'", "primary_slot_name = 'no_such_slot'"] {
        pair.set("b", line);
        pair.pg_ctl("b", &["reload"]).exits(0);
        wait_until("the stream ends", || !streams(&pair));
        mends(&pair, &["b.configure", "b.streaming"], &[]);
        rewrite(&pair, "b", "postgresql.conf", |text| text.replace(&format!("{line}\n"), ""));
        pair.pg_ctl("b", &["reload"]).exits(0);
        pair.in_sync();
    }

    stop(&pair, "b");
    pair.sql("a", "select pg_drop_replication_slot('pgpair_b')");
    start(&pair, "b");
    mends(&pair, &["a.slot.pgpair_b", "b.streaming"], &[]);

    stop(&pair, "b");
    pair.sql("a", "drop owned by repuser");
    pair.sql("a", "drop role repuser");
    start(&pair, "b");
    mends(&pair, &["a.replication_role", "b.streaming"], &[]);

    fs::remove_file(pair.data_dir("b").join("pgpair.pass")).expect("our file");
    mends(&pair, &["b.passfile"], &[]);
    set_mode(&pair, "pgpair.pass", 0o644);
    mends(&pair, &["b.passfile"], &[]);

    set_mode(&pair, "", 0o755);
    mends(&pair, &["b.mode"], &[]);
    stop(&pair, "b");
    set_mode(&pair, "", 0o777);
    mends(&pair, &["b.mode", "b.start", "b.streaming"], &[]);
    assert_eq!(pair.mode(&pair.data_dir("b")), 0o700);
}

#[test]
fn each_damage_to_a_standby_of_10_is_mended_by_the_smallest_plan() {
    let pair = made_pair(OLD, REPLICATION, "");
    stop(&pair, "b");
    mends(&pair, &["b.start", "b.streaming"], &[]);

    // Turned away, and restarted like that.
    let away = |text: &str| text.replace(&format!("port={}", pair.ports[0]), "port=1");
    let right = fs::read_to_string(pair.data_dir("b").join("recovery.conf")).expect("a file");
    rewrite(&pair, "b", "recovery.conf", away);
    pair.pg_ctl("b", &["restart"]).exits(0);
    pair.apply().exits(3).says("--allow restart");
    mends(&pair, &["b.stop", "b.standby_files", "b.start", "b.streaming"], &["restart"]);

    // The file is right, and the server runs with another.
    rewrite(&pair, "b", "recovery.conf", away);
    pair.pg_ctl("b", &["restart"]).exits(0);
    rewrite(&pair, "b", "recovery.conf", |_| right.clone());
    mends(&pair, &["b.stop", "b.start", "b.streaming"], &["restart"]);

    // One that was only touched is no reason for a restart.
    rewrite(&pair, "b", "recovery.conf", str::to_owned);
    pair.in_sync();
}

fn a_rebuild_keeps_the_nodes_own_configuration(version: Version) {
    let pair = made_pair(version, REPLICATION, "");
    pair.make_folder("b/data/conf.d");
    fs::write(pair.data_dir("b").join("conf.d/own.conf"), "work_mem = '7MB'\n").expect("our file");
    rewrite(&pair, "b", "postgresql.conf", |text| format!("include_dir 'conf.d'\n{text}"));
    fs::write(pair.data_dir("b").join("of the old one"), "").expect("our file");
    pair.pg_ctl("b", &["reload"]).exits(0);
    let hba = fs::read_to_string(pair.data_dir("b").join("pg_hba.conf")).expect("a file");
    pair.set("a", "work_mem = '9MB'");
    pair.pg_ctl("a", &["reload"]).exits(0);
    pair.in_sync();

    pair.pgpair(&["rebuild", "b", "--auto-approve"]).exits(0).says("asked for").says("the replaced data directory");
    pair.in_sync();
    pair.replicates();
    assert_eq!(pair.sql("b", "show work_mem"), "7MB");
    assert_eq!(fs::read_to_string(pair.data_dir("b").join("pg_hba.conf")).expect("a file"), hba);
    assert!(!pair.data_dir("b").join("of the old one").exists());
    assert!(!pair.path("b/data.pgpair-old").exists());

    // A stopped one, too; and one that is a primary, or none, is refused with nothing done.
    stop(&pair, "b");
    pair.pgpair(&["rebuild", "b", "pgpair.yaml", "--auto-approve"]).exits(0);
    pair.in_sync();
    pair.pgpair(&["rebuild", "a", "--auto-approve"]).exits(1).says("`a` is the primary");
    pair.pgpair(&["rebuild", "c", "--auto-approve"]).exits(1).says("no node `c`; its standbys are b");
    pair.in_sync();
}

#[test]
fn a_standby_of_15_is_rebuilt_with_its_own_configuration() {
    a_rebuild_keeps_the_nodes_own_configuration(NEW);
}

#[test]
fn a_standby_of_10_is_rebuilt_with_its_own_configuration() {
    a_rebuild_keeps_the_nodes_own_configuration(OLD);
}

#[test]
fn a_node_that_leaves_the_topology_keeps_its_slot_while_it_streams_and_is_never_touched() {
    let pair = made_pair(NEW, REPLICATION, "");
    let text = fs::read_to_string(pair.path("pgpair.yaml")).expect("a topology");
    let without_b: String = text.lines().filter(|line| !line.starts_with("  b:")).map(|l| format!("{l}\n")).collect();
    pair.write("pgpair.yaml", &without_b, 0o644);
    assert_eq!(pair.planned(), ["a.hba"]);
    pair.apply().exits(0);
    pair.in_sync();
    assert!(streams(&pair), "its connection lasts");
    assert!(!fs::read_to_string(pair.data_dir("a").join("pg_hba.conf")).expect("a file").contains("repuser"));
    stop(&pair, "b");
    wait_until("its slot is free", || pair.planned() == ["a.drop_slot.pgpair_b"]);
    pair.apply().exits(0);
    pair.in_sync();
    assert_eq!(pair.sql("a", "select count(*) from pg_replication_slots"), "0");
    assert!(pair.data_dir("b").join("standby.signal").exists());
}

/// Lets the primary recycle what the stopped standby needs.
fn outrun(pair: &Workspace, needed: &str) {
    let there = pair.data_dir("a").join("pg_wal").join(needed);
    wait_until("the WAL is gone", || {
        for _ in 0..4 {
            pair.sql("a", "create table if not exists filler (n int)");
            pair.sql("a", "insert into filler values (1)");
            pair.sql("a", "select pg_switch_wal()");
        }
        pair.sql("a", "checkpoint");
        !there.exists()
    });
}

fn a_standby_behind_lost_wal(version: Version, replication: &str, parameters: &str, slot: &[&str]) {
    let pair = made_pair(version, replication, parameters);
    stop(&pair, "b");
    if !slot.is_empty() {
        pair.sql("a", "alter system set max_slot_wal_keep_size = '1MB'");
        pair.sql("a", "select pg_reload_conf()");
    }
    for _ in 0..2 {
        outrun(&pair, &pair.sql("a", "select pg_walfile_name(pg_current_wal_lsn())"));
    }
    if !slot.is_empty() {
        assert_eq!(pair.sql("a", "select wal_status from pg_replication_slots"), "lost");
        // It would be too little for the clone as well.
        pair.sql("a", "alter system reset max_slot_wal_keep_size");
        pair.sql("a", "select pg_reload_conf()");
    }
    let rest = ["b.clone", "b.start", "b.streaming"];
    let ends: &[&str] = if slot.is_empty() { &["b.remove_old"] } else { &["b.slot.pgpair_a", "b.remove_old"] };
    assert_eq!(pair.planned(), [slot, &rest, ends].concat(), "stopped");

    start(&pair, "b");
    wait_until("it has asked", || pair.planned().contains(&"b.stop".to_owned()));
    pair.apply().says("destroy=b");
    assert!(pair.data_dir("b").join("postmaster.pid").exists(), "it is not stopped in vain");
    assert_eq!(pair.planned(), [&["b.stop"], &rest[..], ends].concat());
    pair.pgpair(&["plan"]).says("no longer has");
    pair.pgpair(&["apply", "--auto-approve", "--allow", "destroy=b"]).exits(0);
    pair.in_sync();
    pair.replicates();
    assert!(!pair.path("b/data.pgpair-old").exists());
}

#[test]
fn a_standby_of_15_whose_slot_is_lost_is_cloned_anew_with_its_allowance() {
    a_standby_behind_lost_wal(NEW, REPLICATION, SMALL, &["a.slot.pgpair_b"]);
}

#[test]
fn a_standby_of_10_without_a_slot_is_cloned_anew_when_its_wal_is_gone() {
    a_standby_behind_lost_wal(OLD, &format!("{REPLICATION}, slots: false"), SMALL, &[]);
}
