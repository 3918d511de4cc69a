//! New standbys on real servers: third nodes, cascades, clones of a standby, pg_wal and tablespaces elsewhere.

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use support::Version;
use support::background::Running;
use support::cluster::Cluster;
use support::wait_until;

const OLD: Version = Version(10);
const NEW: Version = Version(15);
const NEWEST: Version = Version(18);

#[test]
fn a_third_node_and_one_below_the_second_are_added_to_a_living_pair_in_one_plan() {
    let cluster = Cluster::new(NEW);
    cluster.nodes(&[("a", ""), ("b", "")]);
    cluster.apply().exits(0);
    cluster.works(&["b"]);
    cluster.nodes(&[("a", ""), ("b", ""), ("c", ""), ("d", ", upstream: b")]);
    let planned = cluster.planned();
    let place = |id: &str| planned.iter().position(|step| step == id).unwrap_or_else(|| panic!("{id} in {planned:?}"));
    assert!(place("a.slot.pgpair_c") < place("c.clone") && place("b.slot.pgpair_d") < place("d.clone"));
    cluster.apply().exits(0);
    cluster.works(&["b", "c", "d"]);
    assert_eq!(cluster.slots("a"), "pgpair_b:true pgpair_c:true");
    assert_eq!(cluster.slots("b"), "pgpair_d:true");
    // One of them is taken out again: its slot goes once nobody uses it, and the node stays.
    cluster.nodes(&[("a", ""), ("b", ""), ("d", ", upstream: b")]);
    cluster.pg_ctl("c", &["stop"]).exits(0);
    wait_until("its slot is inactive", || cluster.slots("a") == "pgpair_b:true pgpair_c:false");
    cluster.apply().exits(0);
    cluster.works(&["b", "d"]);
    assert_eq!(cluster.slots("a"), "pgpair_b:true");
    assert!(cluster.data_dir("c").join("PG_VERSION").exists());
}

fn copies_of_copies(version: Version) {
    let cluster = Cluster::new(version);
    cluster.primary_with_tablespace();
    let b = cluster.mapping("space/a", "space/b") + ", waldir: wal/b";
    // Two nodes on one host: without a mapping the copy would write into the primary's own files.
    cluster.nodes(&[("a", ""), ("b", ", waldir: wal/b")]);
    let space = cluster.at("space/a");
    // The primary gets its new rules, and no slot that would hold back WAL for nobody.
    for (told, code) in [(cluster.pgpair(&["plan"]), 0), (cluster.apply(), 5), (cluster.apply(), 3)] {
        told.exits(code).says(&format!("a has a tablespace in {space}")).says(&format!("tablespaces: {{ {space}:"));
    }
    assert_eq!(cluster.slots("a"), "");
    assert!(!cluster.path("b").exists() && !cluster.path("wal").exists());

    cluster.nodes(&[("a", ""), ("b", &b)]);
    cluster.apply().exits(0);
    cluster.works(&["b"]);
    assert_eq!(cluster.link("b", "pg_wal"), cluster.at("wal/b"));
    assert_eq!(cluster.tablespace("b"), cluster.at("space/b"));
    cluster.has_the_table("b");

    // One that streams from the primary and one from the standby, both copied from the standby.
    let c = format!(", clone_from: b, waldir: wal/c{}", cluster.mapping("space/b", "space/c"));
    let d = format!(", upstream: b{}", cluster.mapping("space/b", "space/d"));
    cluster.write("b/data/leftover.pgpair.bak", "old", 0o600);
    cluster.nodes(&[("a", ""), ("b", &b), ("c", &c), ("d", &d)]);
    cluster.apply().exits(0);
    fs::remove_file(cluster.data_dir("b").join("leftover.pgpair.bak")).expect("our file");
    cluster.works(&["b", "c", "d"]);
    assert_eq!(cluster.link("c", "pg_wal"), cluster.at("wal/c"));
    assert!(fs::symlink_metadata(cluster.data_dir("d").join("pg_wal")).expect("there").is_dir());
    for node in ["b", "c", "d"] {
        assert_eq!(cluster.tablespace(node), cluster.at(&format!("space/{node}")));
        cluster.has_the_table(node);
    }
    assert_eq!(cluster.slots("a"), "pgpair_b:true pgpair_c:true");
    assert_eq!(cluster.slots("b"), "pgpair_d:true");
    // Each has files of its own: a change arrives everywhere and nowhere twice.
    cluster.sql("a", "insert into there values (0)");
    for node in ["b", "c", "d"] {
        wait_until("the row is there", || cluster.try_sql(node, "select count(*) from there").stdout.trim() == "101");
    }
}

#[test]
fn a_standby_of_15_is_copied_with_its_tablespace_and_waldir() {
    copies_of_copies(NEW);
}

#[test]
fn a_standby_of_10_is_copied_with_its_tablespace_and_waldir() {
    copies_of_copies(OLD);
}

/// The trees of 18 have no pg_basebackup, and an older one can't copy it.
#[test]
fn a_primary_of_18_has_its_waldir_from_the_beginning() {
    let cluster = Cluster::new(NEWEST);
    cluster.nodes(&[("a", ", waldir: wal/a")]);
    cluster.apply().exits(0);
    cluster.works(&[]);
    assert_eq!(cluster.link("a", "pg_wal"), cluster.at("wal/a"));
}

#[test]
fn a_pair_has_its_waldirs_from_the_beginning_and_a_filled_one_is_nobodys() {
    let cluster = Cluster::new(NEW);
    let nodes = [("a", ", waldir: wal/a"), ("b", ", waldir: wal/b")];
    cluster.nodes(&nodes);
    cluster.make_folder("wal");
    cluster.make_folder("wal/b");
    cluster.write("wal/b/precious", "yes", 0o600);
    // It may be of a cluster whose data directory is on a disk that is not there.
    let told = cluster.apply().exits(3).says("b has files in its waldir");
    assert!(!cluster.path("a/data").exists(), "{told:?}");
    fs::remove_file(cluster.path("wal/b/precious")).expect("our file");
    cluster.apply().exits(0);
    cluster.works(&["b"]);
    for node in ["a", "b"] {
        assert_eq!(cluster.link(node, "pg_wal"), cluster.at(&format!("wal/{node}")));
    }

    // Without its data directory, the standby's WAL is nobody's.
    cluster.pg_ctl("b", &["stop"]).exits(0);
    fs::remove_dir_all(cluster.data_dir("b")).expect("our folder");
    cluster.apply().exits(3).says("wal/b of b is not empty").says("move it away");
    fs::remove_dir_all(cluster.path("wal/b")).expect("our folder");
    cluster.apply().exits(0);
    cluster.works(&["b"]);

    // pg_wal of a living node is not moved, and what else there is to do is done.
    cluster.nodes(&[("a", ", waldir: wal/a, parameters: { work_mem: 8MB }"), ("b", ", waldir: wal/other")]);
    cluster.pgpair(&["plan"]).says("pg_wal of b is a link to").says("correct `waldir`");
    cluster.apply().exits(5);
    assert_eq!(cluster.sql("a", "show work_mem"), "8MB");
    cluster.apply().exits(3);
}

#[test]
fn a_replaced_data_directory_is_kept_with_its_wal_until_the_new_standby_streams() {
    let mut cluster = Cluster::new(NEW);
    cluster.nodes(&[("a", "")]);
    cluster.apply().exits(0);
    cluster.make_folder("b");
    cluster.make_folder("wal");
    let (data_dir, waldir) = (cluster.at("b/data"), cluster.at("wal/b"));
    cluster.run("initdb", &["-D", &data_dir, "--locale=C", "-N", "--auth=trust", "-X", &waldir]).exits(0);
    let old_wal = |folder: &str| fs::read_dir(cluster.path(folder)).map_or(0, Iterator::count);
    assert!(old_wal("wal/b") > 0);

    // It fails: all stays as it was.
    let nodes = [("a", ""), ("b", ", waldir: wal/b")];
    cluster.wrap_basebackup("mkdir -p \"$here/wal/b.pgpair-new/x\"; exit 1");
    cluster.nodes(&nodes);
    cluster.pgpair(&["apply", "--auto-approve", "--allow", "destroy=b"]).exits(1);
    assert_eq!(cluster.left_over(), Vec::<String>::new());
    assert_eq!(cluster.link("b", "pg_wal"), waldir);

    // The new one can't start: what was replaced is there still, whole.
    cluster.write(
        "bin/pg_basebackup",
        &format!("#!/bin/sh\nexec {}/pg_basebackup \"$@\"\n", NEW.bin_dir().display()),
        0o755,
    );
    fs::remove_file(cluster.path("bin/pg_ctl")).expect("our link");
    cluster.write("bin/pg_ctl", "#!/bin/sh\nexit 1\n", 0o755);
    cluster.pgpair(&["apply", "--auto-approve", "--allow", "destroy=b"]).exits(1);
    let old = fs::read_link(cluster.path("b/data.pgpair-old/pg_wal")).expect("a link");
    assert_eq!(old, cluster.path("wal/b.pgpair-old"));
    assert!(old.join("archive_status").exists());
    assert_eq!(cluster.link("b", "pg_wal"), waldir);

    fs::remove_file(cluster.path("bin/pg_ctl")).expect("our file");
    std::os::unix::fs::symlink(NEW.bin_dir().join("pg_ctl"), cluster.path("bin/pg_ctl")).expect("our link");
    cluster.apply().exits(0);
    cluster.works(&["b"]);
}

#[test]
fn a_source_that_stops_or_is_promoted_half_way_leaves_nothing_of_the_copy() {
    let mut cluster = Cluster::new(NEW);
    cluster.nodes(&[("a", ""), ("b", "")]);
    cluster.apply().exits(0);
    cluster.wrap_basebackup(
        "\"$real\" \"$@\" --max-rate=256k & until [ -e \"$2/PG_VERSION\" ]; do sleep 0.01; done\n\
         : > \"$here/reached\"; wait $!",
    );
    let nodes = [("a", ""), ("b", ""), ("c", ", clone_from: b, waldir: wal/c")];
    cluster.nodes(&nodes);
    let apply = Running::start(&cluster, &["apply", "--auto-approve"]);
    wait_until("the copy has begun", || cluster.path("reached").exists());
    cluster.pg_ctl("b", &["stop", "-m", "immediate"]).exits(0);
    apply.end().exits(1).says("pg_basebackup from b ended with").says("apply again");
    assert_eq!(cluster.left_over(), Vec::<String>::new());
    assert!(!cluster.data_dir("c").exists() && !cluster.path("wal/c").exists());

    fs::remove_file(cluster.path("reached")).expect("our file");
    let apply = Running::start(&cluster, &["apply", "--auto-approve"]);
    wait_until("the copy has begun", || cluster.path("reached").exists());
    cluster.pg_ctl("b", &["promote"]).exits(0);
    apply.end().exits(1).says("pg_basebackup from b ended with");
    assert_eq!(cluster.left_over(), Vec::<String>::new());
    // Two primaries: nothing is done until a person has decided.
    cluster.apply().exits(3).says("both accept writes");
    cluster.pg_ctl("b", &["stop"]).exits(0);
    fs::remove_dir_all(cluster.data_dir("b")).expect("our folder");
    cluster.write(
        "bin/pg_basebackup",
        &format!("#!/bin/sh\nexec {}/pg_basebackup \"$@\"\n", NEW.bin_dir().display()),
        0o755,
    );
    cluster.apply().exits(0);
    cluster.works(&["b", "c"]);
}

/// Kills an apply at moments spread over the time that it takes, and lets the next one go on.
#[test]
fn a_clone_with_folders_outside_converges_after_a_kill_at_any_moment() {
    const TIMES: u32 = 12;
    let cluster = Cluster::new(NEW);
    cluster.primary_with_tablespace();
    let keys = cluster.mapping("space/a", "space/b") + ", waldir: wal/b";
    cluster.nodes(&[("a", ""), ("b", &keys)]);
    let wipe = || {
        if cluster.data_dir("b").join("postmaster.pid").exists() {
            cluster.pg_ctl("b", &["stop", "-m", "immediate"]).exits(0);
        }
        for folder in ["b", "wal", "space/b"] {
            let _ = fs::remove_dir_all(cluster.path(folder));
        }
    };
    let begun = Instant::now();
    cluster.apply().exits(0);
    let whole = begun.elapsed();
    for kill in 0..TIMES {
        wipe();
        let moment = whole.mul_f64(f64::from(kill) / f64::from(TIMES));
        let begun = Instant::now();
        let mut apply = Running::start(&cluster, &["apply", "--auto-approve"]);
        while apply.runs() && begun.elapsed() < moment {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        // It may have been quicker than the first.
        if apply.runs() {
            apply.signal("-KILL");
        }
        apply.end();
        wait_until("no child of it lives", || !lives("pg_basebackup", &cluster.path("")));
        wait_until("a server that was starting answers", || cluster.pgpair(&["plan"]).code == Some(0));
        cluster.apply().exits(0);
        cluster.works(&["b"]);
        cluster.has_the_table("b");
        assert_eq!(cluster.tablespace("b"), cluster.at("space/b"));
        assert_eq!(cluster.link("b", "pg_wal"), cluster.at("wal/b"));
    }
}

#[test]
fn what_a_killed_rebuild_has_copied_goes_when_the_standby_is_started_again() {
    let mut cluster = Cluster::new(NEW);
    cluster.nodes(&[("a", ""), ("b", ", waldir: wal/b")]);
    cluster.apply().exits(0);
    cluster.wrap_basebackup("\"$real\" \"$@\" && : > \"$here/reached\" && sleep 60");
    cluster.nodes(&[("a", ""), ("b", ", waldir: wal/b")]);
    let mut rebuild = Running::start(&cluster, &["rebuild", "b", "--auto-approve"]);
    wait_until("the copy is made", || cluster.path("reached").exists());
    rebuild.signal("-KILL");
    rebuild.end();
    assert!(cluster.path("b/data.pgpair-new").exists() && cluster.path("wal/b.pgpair-new").exists());
    assert_eq!(cluster.planned(), ["b.start", "b.streaming"]);
    wait_until("no child of it lives", || !lives("pg_basebackup", &cluster.path("")));
    cluster.apply().exits(0);
    cluster.works(&["b"]);
}

/// Whether a program that works on a folder lives.
fn lives(program: &str, folder: &Path) -> bool {
    let folder = folder.display().to_string();
    let lines = fs::read_dir("/proc").expect("a /proc").flatten();
    let lines = lines.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .any(|line| line.contains(&folder) && line.contains(program))
}

/// What a crash between the two last renames leaves: the waldir in its place, the data directory not.
#[test]
fn a_filled_waldir_is_recognised_as_what_a_killed_run_left() {
    let cluster = Cluster::new(NEW);
    cluster.nodes(&[("a", ", waldir: wal/a")]);
    cluster.apply().exits(0);
    cluster.pg_ctl("a", &["stop"]).exits(0);
    fs::rename(cluster.data_dir("a"), cluster.path("a/data.pgpair-new")).expect("our folder");
    cluster.apply().exits(0);
    assert_eq!(cluster.left_over(), Vec::<String>::new());
    assert_eq!(cluster.link("a", "pg_wal"), cluster.at("wal/a"));
    cluster.in_sync();
}
