//! A new configuration that real servers do not take: what is refused beforehand, what falls back, and what the next
//! apply makes of it.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use support::Ran;
use support::Version;
use support::Workspace;
use support::is_root;
use support::wait_until;

const OLD: Version = Version(10);
const NEW: Version = Version(15);

const PLAIN: &str = "  fsync: off\n";

fn apply_all(pair: &Workspace) -> Ran {
    pair.pgpair(&["apply", "--auto-approve", "--allow", "restart,outage"])
}

fn conf(pair: &Workspace, node: &str) -> String {
    fs::read_to_string(pair.data_dir(node).join("postgresql.conf")).expect("a postgresql.conf")
}

fn backups(pair: &Workspace, node: &str) -> Vec<String> {
    let entries = fs::read_dir(pair.data_dir(node)).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(".pgpair.bak") || name.contains(".pgpair-trial")).collect()
}

/// A parameter that only a start finds wrong: a library that is there and is none.
fn broken_library(pair: &Workspace) -> String {
    let library = pair.write("broken.so", "", 0o644);
    format!("{PLAIN}  shared_preload_libraries: '{}'\n  max_connections: 55\n", library.display())
}

fn a_primary_falls_back(version: Version) {
    let pair = Workspace::made(version);
    let before = conf(&pair, "a");
    pair.edit("role: primary,", "role: primary, parameters: { shared_preload_libraries: BROKEN },");
    let library = pair.write("broken.so", "", 0o644);
    pair.edit("BROKEN", &format!("'{}'", library.display()));
    let planned = pair.planned();
    apply_all(&pair)
        .exits(1)
        .says("could not load library")
        .says("it runs on the old configuration again")
        .says("correct the parameter in the topology");
    assert_eq!(conf(&pair, "a"), before);
    assert_eq!(backups(&pair, "a"), Vec::<String>::new());
    pair.replicates();
    // The same difference, and nothing more.
    assert_eq!(pair.planned(), planned);
}

#[test]
fn a_primary_of_15_that_does_not_come_up_runs_on_its_old_configuration_again() {
    a_primary_falls_back(NEW);
}

#[test]
fn a_primary_of_10_that_does_not_come_up_runs_on_its_old_configuration_again() {
    a_primary_falls_back(OLD);
}

/// Lets pgpair be killed by the server's own program: instead of starting it, `pg_ctl` waits.
fn own_bin_dir(pair: &mut Workspace) -> PathBuf {
    let real = pair.bin_dir.clone();
    pair.make_folder("bin");
    let own = pair.path("bin");
    for entry in fs::read_dir(&real).expect("a folder") {
        let entry = entry.expect("an entry");
        std::os::unix::fs::symlink(entry.path(), own.join(entry.file_name())).expect("our folder");
    }
    pair.bin_dir = own;
    real
}

#[test]
fn when_pgpair_is_killed_between_the_write_and_the_start_the_next_apply_falls_back() {
    let mut pair = Workspace::new(NEW);
    let real = own_bin_dir(&mut pair);
    pair.usual_topology();
    pair.apply().exits(0);
    let before = conf(&pair, "a");
    pair.edit(PLAIN, &broken_library(&pair));

    let reached = pair.path("reached");
    let pg_ctl = pair.path("bin/pg_ctl");
    fs::remove_file(&pg_ctl).expect("our link");
    pair.write(
        "bin/pg_ctl",
        &format!(
            "#!/bin/sh\ncat \"$5/postgresql.conf\" >/dev/null 2>&1\necho > {}\nexec sleep 30\n",
            reached.display()
        ),
        0o755,
    );
    let folder = pair.path("");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("our folder");
    let mut command = pair.command(&["apply", "--auto-approve", "--allow", "outage,restart"]);
    let mut killed = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("pgpair runs");
    wait_until("a server is to be started", || reached.exists());
    killed.kill().expect("it runs");
    killed.wait().expect("it ends");
    let node = if conf(&pair, "b").contains("broken.so") { "b" } else { "a" };
    assert_eq!(backups(&pair, node), ["postgresql.conf.pgpair.bak"]);
    assert_eq!(pair.mode(&pair.data_dir(node).join("postgresql.conf.pgpair.bak")), 0o600);

    fs::remove_file(&pg_ctl).expect("our file");
    std::os::unix::fs::symlink(real.join("pg_ctl"), &pg_ctl).expect("our folder");
    // Without the outage, which would come first and try the primary.
    let next = pair.pgpair(&["apply", "--auto-approve", "--allow", "restart"]);
    next.exits(1).says("could not load library").says("it runs on the old configuration again");
    assert_eq!(backups(&pair, node), Vec::<String>::new());
    assert!(!conf(&pair, node).contains("broken.so"));
    assert_eq!(conf(&pair, "a"), before);
    pair.replicates();
    let text = fs::read_to_string(pair.path("pgpair.yaml")).expect("a topology");
    pair.write("pgpair.yaml", &text.replace(&broken_library(&pair), PLAIN), 0o644);
    apply_all(&pair).exits(0);
    pair.in_sync();
}

#[test]
fn a_restart_tells_how_long_the_server_was_away_and_that_of_a_primary_how_long_nobody_could_write() {
    let pair = Workspace::made(NEW);
    pair.edit(PLAIN, "  fsync: off\n  shared_buffers: 64MB\n");
    let ran = apply_all(&pair).exits(0);
    for told in ["b.configure.restart: the server was away for ", "a.configure.restart: no writes for "] {
        assert_eq!(ran.stderr.matches(told).count(), 1, "{}", ran.stderr);
    }
    pair.in_sync();
    assert_eq!(backups(&pair, "a"), Vec::<String>::new());
}

#[test]
fn a_reload_that_the_server_rejects_brings_the_old_file_back() {
    let mut pair = Workspace::new(NEW);
    let real = own_bin_dir(&mut pair);
    pair.usual_topology();
    pair.apply().exits(0);
    let before = conf(&pair, "a");
    // A trial that finds nothing: it is given the old file.
    fs::remove_file(pair.path("bin/postgres")).expect("our link");
    let real = real.join("postgres");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *pgpair-trial*) exec {0} -D \"$2\" -C \"$6\";; esac\nexec {0} \"$@\"\n",
        real.display()
    );
    pair.write("bin/postgres", &script, 0o755);
    pair.edit(PLAIN, "  fsync: off\n  timezone: Nowhere/City\n  work_mem: 5MB\n");
    pair.apply()
        .exits(1)
        .says("does not take a value")
        .says("timezone: setting could not be applied")
        .says("the old file is back");
    assert_eq!((conf(&pair, "a"), backups(&pair, "a")), (before, Vec::new()));
    assert_eq!(pair.sql("a", "show work_mem"), "4MB");
    pair.edit("Nowhere/City", "UTC");
    pair.apply().exits(0);
    pair.in_sync();
    assert_eq!(pair.sql("a", "show work_mem"), "5MB");
}

#[test]
fn a_full_disk_while_a_configuration_is_written_leaves_the_old_one_in_force() {
    if !is_root() {
        return;
    }
    let pair = Workspace::new(NEW);
    pair.usual_topology();
    pair.make_folder("a");
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=200m,mode=755", "tmpfs"])
        .arg(pair.path("a"))
        .status()
        .expect("mount runs");
    assert!(mount.success());
    let _mounted = Mounted(pair.path("a"));
    pair.make_folder("a");
    pair.apply().exits(0);
    let before = conf(&pair, "a");
    let ballast = pair.path("a/ballast");
    let _full = Command::new("dd")
        .args(["if=/dev/zero", "bs=4096", &format!("of={}", ballast.display())])
        .stderr(Stdio::null())
        .status();
    // Enough for pgpair's lock, and too little for the file.
    let full = fs::File::options().write(true).open(&ballast).expect("our file");
    let length = full.metadata().expect("our file").len();
    full.set_len(length - (12 << 10)).expect("our file");
    drop(full);
    pair.edit(PLAIN, "  fsync: off\n  work_mem: 6MB\n");
    pair.apply().exits(1).says("No space left on device").says("free space on that file system");
    assert_eq!((conf(&pair, "a"), backups(&pair, "a")), (before, Vec::new()));
    fs::remove_file(ballast).expect("our file");
    pair.apply().exits(0);
    pair.in_sync();
    pair.pg_ctl("a", &["stop", "-m", "immediate"]).exits(0);
}

/// A small file system, unmounted when dropped.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_standby_that_does_not_replay_in_time_keeps_its_higher_value_until_it_has() {
    let pair = Workspace::made(NEW);
    pair.sql("b", "select pg_wal_replay_pause()");
    pair.edit(PLAIN, "  fsync: off\n  max_connections: 90\n");
    let ran = pair.pgpair(&["apply", "--auto-approve", "--allow", "restart,outage", "--timeout", "3"]).exits(5);
    ran.says("left alone: b").says("has not replayed yet that a has less max_connections");
    assert_eq!(pair.sql("a", "show max_connections"), "90");
    assert_eq!(pair.sql("b", "show max_connections"), "100");
    pair.sql("b", "select pg_wal_replay_resume()");
    wait_until("the standby has replayed", || {
        pair.sql("a", "select pg_current_wal_lsn() <= replay_lsn from pg_stat_replication") == "t"
    });
    apply_all(&pair).exits(0);
    pair.in_sync();
    assert_eq!(pair.sql("b", "show max_connections"), "90");
}
