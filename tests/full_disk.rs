//! A standby that is cloned anew on a disk without room for its old data, with pg_wal and a tablespace on the same disk:
//! what the plan says of it, and that no failure in the middle costs the node's own configuration.

mod support;

use std::fs;
use std::process::Command;

use support::Ran;
use support::Version;
use support::background::Running;
use support::cluster::Cluster;
use support::disk::SmallDisk;
use support::is_root;
use support::wait_until;

/// Room for one copy with its WAL, and not for two.
const MEGABYTES: u64 = 260;

/// A pair whose standby has a disk of its own. Its server is stopped before the disk goes.
struct Scene {
    cluster: Cluster,
    disk: Option<SmallDisk>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        if self.cluster.data_dir("b").join("postmaster.pid").exists() {
            self.cluster.pg_ctl("b", &["stop", "-m", "immediate"]);
        }
        self.disk = None;
    }
}

impl Scene {
    /// The standby has lines in its postgresql.conf that only it has, one of them in a file of its own.
    fn new() -> Self {
        let cluster = Cluster::new(Version(15));
        cluster.primary_with_tablespace();
        cluster
            .sql("a", "create table large tablespace space as select repeat('x', 1000) from generate_series(1, 30000)");
        let disk = Some(SmallDisk::mount(&cluster, "b", MEGABYTES));
        let keys = format!("{}, waldir: b/wal", cluster.mapping("space/a", "b/space"));
        cluster.nodes(&[("a", ""), ("b", &keys)]);
        let scene = Self { cluster, disk };
        scene.apply().exits(0);
        scene.cluster.write("b/data/own.conf", "work_mem = 7MB\n", 0o600);
        scene.cluster.set("b", "include 'own.conf'\nmaintenance_work_mem = 99MB");
        scene.cluster.sql("b", "select pg_reload_conf()");
        scene.works();
        scene
    }

    fn apply(&self) -> Ran {
        self.cluster.apply()
    }

    fn rebuild(&self) -> Ran {
        self.cluster.pgpair(&["rebuild", "b", "--auto-approve"])
    }

    #[track_caller]
    fn works(&self) {
        self.cluster.works(&["b"]);
        self.cluster.has_the_table("b");
        wait_until("the node's own values are in force", || {
            self.cluster.sql("b", "select string_agg(setting, ' ' order by name) from pg_settings where name like '%work_mem' and name not like '%vacuum%'")
                .starts_with("65536 101376 7168")
        });
        assert_eq!(self.cluster.tablespace("b"), self.cluster.at("b/space"));
        assert_eq!(self.cluster.link("b", "pg_wal"), self.cluster.at("b/wal"));
    }

    /// A copy of the source's data, its configuration or its WAL is nowhere on the disk.
    #[track_caller]
    fn nothing_but_the_configuration_is_left(&self) {
        let mut names: Vec<String> = fs::read_dir(self.cluster.path("b"))
            .expect("our folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .filter(|name| !name.ends_with(".lock"))
            .collect();
        names.sort();
        assert_eq!(names, ["data.pgpair-old"]);
        let old = self.cluster.path("b/data.pgpair-old");
        assert!(old.join("own.conf").exists() && !old.join("base").exists() && !old.join("global").exists());
    }
}

#[test]
fn without_room_for_both_the_old_data_go_first_as_the_plan_says_and_the_configuration_stays() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    let cluster = &scene.cluster;
    // Nobody is at the terminal: it is shown, and not done.
    let told =
        cluster.pgpair(&["rebuild", "b"]).exits(4).says("no room for both: the old data (").says("are removed before");
    assert!(told.stdout.contains(&format!("room: {} has ", cluster.at("b"))), "{told:?}");
    assert!(cluster.data_dir("b").join("postmaster.pid").exists());
    scene.rebuild().exits(0).says("the removal of the old data directory");
    scene.works();
}

#[test]
fn a_disk_on_which_not_even_the_copy_alone_fits_blocks_the_plan_and_the_standby_runs_on() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    let cluster = &scene.cluster;
    let ballast = cluster.write("b/ballast", "", 0o600);
    let filled = Command::new("fallocate").args(["-l", "110M"]).arg(&ballast).status().expect("fallocate runs");
    assert!(filled.success());
    scene.rebuild().exits(3).says("also without the ").says("MB of the old data").says("free space there");
    cluster.pgpair(&["status"]).exits(0);
    fs::remove_file(ballast).expect("our file");
    scene.rebuild().exits(0);
    scene.works();
}

#[test]
fn a_copy_that_fails_or_is_killed_after_the_old_data_went_is_made_again_with_the_nodes_own_configuration() {
    if !is_root() {
        return;
    }
    let mut scene = Scene::new();
    // As the topology's, so that nothing but the programs' folder differs.
    scene.cluster.wrap_basebackup(
        "if [ -e \"$here/fails\" ]; then exit 1; fi\n\
         if [ -e \"$here/waits\" ]; then : > \"$here/reached\"; sleep 60; fi\nexec \"$real\" \"$@\"",
    );
    let cluster = &scene.cluster;
    let bin_dir = cluster.bin_dir.display().to_string();
    cluster.edit(&Version(15).bin_dir().display().to_string(), &bin_dir);

    cluster.write("fails", "", 0o644);
    scene.rebuild().exits(1).says("pg_basebackup from a ended with");
    scene.nothing_but_the_configuration_is_left();
    fs::remove_file(cluster.path("fails")).expect("our file");
    assert_eq!(cluster.planned()[..2], ["b.clone", "b.start"]);
    scene.apply().exits(0);
    scene.works();

    // A real lack of space: what lies beside the databases is not counted before.
    let ballast = cluster.write("a/data/ballast", "", 0o600);
    fs::File::options().write(true).open(&ballast).and_then(|file| file.set_len(MEGABYTES << 20)).expect("our file");
    scene.rebuild().exits(1).says("no space was left for pg_basebackup from a").says("No space left on device");
    scene.nothing_but_the_configuration_is_left();
    fs::remove_file(ballast).expect("our file");
    scene.apply().exits(0);
    scene.works();

    cluster.write("waits", "", 0o644);
    let mut rebuild = Running::start(cluster, &["rebuild", "b", "--auto-approve"]);
    wait_until("the copy has begun", || cluster.path("reached").exists());
    rebuild.signal("-KILL");
    rebuild.end();
    fs::remove_file(cluster.path("waits")).expect("our file");
    wait_until("its lock is free", || scene.apply().code == Some(0));
    scene.works();
}
