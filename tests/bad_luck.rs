//! Bad luck on real servers: each ends in one diagnostic with node, cause and remedy, and leaves what it found or
//! what the next apply converges from.

#![expect(clippy::print_stdout, reason = "seed and moments are shown where a kill finds something")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::hash::DefaultHasher;
use std::hash::Hash as _;
use std::hash::Hasher as _;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use support::Ran;
use support::Version;
use support::Workspace;
use support::background::Running;
use support::disk::SmallDisk;
use support::is_full;
use support::is_root;
use support::wait_until;

const OLD: Version = Version(10);
const NEW: Version = Version(15);

/// A pair that is still to be made.
fn planned_pair(version: Version) -> Workspace {
    let pair = Workspace::new(version);
    pair.usual_topology();
    pair
}

/// What is below a path: kind, mode, owner, and a hash of the content.
type Listing = BTreeMap<PathBuf, String>;

fn listing(path: &Path) -> Listing {
    let mut found = Listing::new();
    let mut rest = vec![path.to_owned()];
    while let Some(path) = rest.pop() {
        // Gone since its folder was read, as temporary files of a server are.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let content = if metadata.is_dir() {
            rest.extend(fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
            String::new()
        } else if metadata.is_symlink() {
            fs::read_link(&path).expect("a link").display().to_string()
        } else if metadata.is_file() {
            let mut hasher = DefaultHasher::new();
            fs::read(&path).unwrap_or_default().hash(&mut hasher);
            format!("{} bytes, {:x}", metadata.len(), hasher.finish())
        } else {
            "neither file nor folder".to_owned()
        };
        let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
        found.insert(path, format!("{mode:o} {uid}:{gid} {content}"));
    }
    found
}

#[track_caller]
fn assert_unchanged(before: &Listing, after: &Listing) {
    let paths = before.keys().chain(after.keys());
    let changed: BTreeMap<_, _> = paths.map(|path| (path, (before.get(path), after.get(path)))).collect();
    let changed: Vec<_> = changed.into_iter().filter(|(_, (before, after))| before != after).collect();
    assert!(changed.is_empty(), "changed: {changed:#?}");
}

#[track_caller]
fn says_all(ran: Ran, words: &[&str]) -> Ran {
    words.iter().fold(ran, |ran, word| ran.says(word))
}

/// Asserts that the plan is blocked whole, that an apply refuses it, that both say so, and that nothing changes below
/// `paths` of the workspace.
#[track_caller]
fn refused_beside(pair: &Workspace, paths: &[&str], words: &[&str]) {
    let all = || -> Listing { paths.iter().flat_map(|path| listing(&pair.path(path))).collect() };
    let before = all();
    says_all(pair.pgpair(&["plan"]).exits(3), words);
    says_all(pair.apply().exits(3), words);
    assert_unchanged(&before, &all());
}

/// The same, with nothing changed at all.
#[track_caller]
fn refused(pair: &Workspace, words: &[&str]) {
    refused_beside(pair, &[""], words);
}

/// Asserts that an apply now makes the pair, without an allowance.
#[track_caller]
fn converges(pair: &Workspace) {
    pair.apply().exits(0);
    pair.in_sync();
    pair.replicates();
    assert_eq!(left_over(pair), Vec::<String>::new());
}

/// Waits for a server that was being started when its pgpair ended: it comes up by itself, and until then, and for no
/// other reason, a plan is blocked.
fn wait_until_plannable(pair: &Workspace) {
    wait_until("the plan is not blocked", || {
        let planned = pair.pgpair(&["plan", "--format", "json"]);
        let plan: serde_json::Value = serde_json::from_str(&planned.stdout).expect("one JSON value");
        let blocked = plan["blocked"].as_array().expect("what is blocked");
        let is_starting = !blocked.is_empty() && blocked.iter().all(|item| item["code"] == "no_answer");
        assert!(planned.code == Some(0) || planned.code == Some(3) && is_starting, "{planned:?}");
        planned.code == Some(0)
    });
}

/// What pgpair makes for a while and must not leave.
fn left_over(pair: &Workspace) -> Vec<String> {
    let is_ours = |name: &str| name.ends_with(".lock") || name.contains(".pgpair-");
    let names = ["", "a", "b"].map(|folder| names_in(&pair.path(folder)));
    names.into_iter().flatten().filter(|name| is_ours(name)).collect()
}

fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// A folder of PostgreSQL's programs in which some can be replaced by scripts.
fn own_bin_dir(pair: &mut Workspace) {
    let (bin_dir, real) = (pair.path("bin"), pair.bin_dir.clone());
    fs::create_dir(&bin_dir).expect("our folder");
    // The trees of other versions have no clients.
    for folder in [NEW.bin_dir(), real] {
        for name in names_in(&folder) {
            if folder == pair.bin_dir || name == "pg_basebackup" {
                let _ = fs::remove_file(bin_dir.join(&name));
                std::os::unix::fs::symlink(folder.join(&name), bin_dir.join(&name)).expect("our link");
            }
        }
    }
    pair.bin_dir = bin_dir;
    pair.usual_topology();
}

/// Puts a script in a program's place; `$real` is the program.
fn wrap(pair: &Workspace, program: &str, script: &str) {
    let real = real_program(pair, program);
    let text = format!("#!/bin/sh\nreal={}\nhere={}\n{script}\n", real.display(), pair.path("").display());
    fs::remove_file(pair.bin_dir.join(program)).expect("our file");
    pair.write(&format!("bin/{program}"), &text, 0o755);
}

fn unwrap_program(pair: &Workspace, program: &str) {
    let real = real_program(pair, program);
    fs::remove_file(pair.bin_dir.join(program)).expect("our file");
    std::os::unix::fs::symlink(real, pair.bin_dir.join(program)).expect("our link");
}

fn real_program(pair: &Workspace, program: &str) -> PathBuf {
    let own = pair.version.bin_dir().join(program);
    if own.exists() { own } else { NEW.bin_dir().join(program) }
}

/// Says why a test proves nothing here, past the capture of the test harness.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

// Programs

#[test]
fn without_the_programs_of_the_version_nothing_is_done() {
    let mut pair = Workspace::new(NEW);
    let right = pair.bin_dir.clone();
    let empty = pair.path("empty");
    fs::create_dir(&empty).expect("our folder");
    let of_10 = OLD.bin_dir();
    let remedy = "set postgresql.bin_dir to where they are";
    for (bin_dir, cause) in [
        (empty.clone(), format!("{} has no program `postgres`", empty.display())),
        (pair.path("nowhere"), format!("{} is no folder that can be read", pair.path("nowhere").display())),
        (of_10.clone(), format!("{} has PostgreSQL 10", of_10.display())),
    ] {
        pair.bin_dir = bin_dir;
        pair.usual_topology();
        refused(&pair, &["binaries for a", &cause, remedy]);
    }
    pair.bin_dir = right;
    pair.usual_topology();
    converges(&pair);
}

#[test]
fn a_data_directory_of_another_major_is_never_touched() {
    for (version, other) in [(NEW, OLD), (OLD, NEW)] {
        let mut pair = Workspace::new(other);
        pair.initdb("a");
        (pair.version, pair.bin_dir) = (version, version.bin_dir());
        pair.usual_topology();
        let cause = format!("the data directory of a is of PostgreSQL {}, the topology says {}", other.0, version.0);
        refused(&pair, &[&cause, "correct postgresql.version; an upgrade is pg_upgrade's job"]);

        // The cause removed: the place is free.
        fs::remove_dir_all(pair.data_dir("a")).expect("our folder");
        converges(&pair);
    }
}

#[test]
fn programs_of_another_major_do_not_start_a_server() {
    let pair = Workspace::made(NEW);
    for node in ["b", "a"] {
        pair.pg_ctl(node, &["stop"]).exits(0);
    }
    let (right, wrong) = (NEW.bin_dir(), OLD.bin_dir());
    let (right, wrong) = (right.to_string_lossy(), wrong.to_string_lossy());
    pair.edit(&right, &wrong);
    let before = listing(&pair.path("a"));
    let words = ["binaries for a", &*wrong, "the topology says 15", "set postgresql.bin_dir"];
    says_all(pair.pgpair(&["plan"]).exits(3), &words);
    says_all(pair.pgpair(&["apply", "--auto-approve", "--allow", "outage"]).exits(3), &words);
    assert_unchanged(&before, &listing(&pair.path("a")));
    pair.edit(&wrong, &right);
    pair.pgpair(&["apply", "--auto-approve", "--allow", "outage"]).exits(0);
    converges(&pair);
}

// Places

#[test]
fn a_folder_with_files_that_are_not_postgresqls_is_left_alone() {
    let pair = planned_pair(NEW);
    for node in ["a", "b"] {
        pair.make_folder(node);
        pair.make_folder(&format!("{node}/data"));
    }
    let is_no = |node| format!("{} of {node} is no data directory: notes.txt", pair.data_dir(node).display());
    let remedy = |node| format!("correct data_dir of {node}, or move what is there away");
    let notes = pair.write("a/data/notes.txt", "do not lose\n", 0o644);
    refused(&pair, &[&is_no("a"), &remedy("a")]);
    fs::remove_file(notes).expect("our file");

    // On the standby: the primary is made all the same.
    let notes = pair.write("b/data/notes.txt", "do not lose\n", 0o644);
    let before = listing(&pair.data_dir("b"));
    says_all(pair.pgpair(&["plan"]).exits(0), &[&is_no("b"), &remedy("b")]);
    says_all(pair.apply().exits(5), &[&is_no("b"), &remedy("b")]);
    assert_unchanged(&before, &listing(&pair.data_dir("b")));
    assert_eq!(pair.sql("a", "select pg_is_in_recovery()"), "f");
    fs::remove_file(notes).expect("our file");
    converges(&pair);
}

#[test]
fn a_file_where_a_folder_is_needed_is_told() {
    let pair = planned_pair(NEW);
    let blocker = pair.write("a", "", 0o644);
    refused(&pair, &["the data directory of a", "not a directory"]);
    fs::remove_file(blocker).expect("our file");
    converges(&pair);
}

#[test]
fn a_data_directory_of_another_owner_is_told_with_that_owner() {
    let pair = planned_pair(NEW);
    pair.initdb("a");
    let data_dir = pair.data_dir("a");
    if is_root() {
        std::os::unix::fs::chown(&data_dir, Some(0), Some(0)).expect("root's");
        let cause = format!("{} can't be read: Permission denied", data_dir.display());
        let remedy = "make its files readable for the servers' OS user";
        refused(&pair, &["a can't be looked at", &cause, "it belongs to user number 0, not to postgres", remedy]);
        fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o755)).expect("our folder");
        let cause = format!("{} belongs to user number 0, not to postgres", data_dir.display());
        refused(&pair, &["on the data directory of a", &cause, "give it to the servers' OS user"]);
        let owner = fs::metadata(pair.path("a")).expect("our folder");
        std::os::unix::fs::chown(&data_dir, Some(owner.uid()), Some(owner.gid())).expect("the owner's");
        fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o700)).expect("our folder");
    } else {
        skipped("a data directory of root's: only root can make one");
    }
    pair.pgpair(&["apply", "--auto-approve", "--allow", "outage"]).exits(0);
    converges(&pair);
}

// Clusters of others

#[test]
fn a_stopped_cluster_of_somebody_else_is_replaced_only_with_the_nodes_name() {
    let pair = Workspace::made(NEW);
    pair.pg_ctl("b", &["stop"]).exits(0);
    fs::remove_dir_all(pair.data_dir("b")).expect("our folder");
    pair.initdb("b");
    let before = listing(&pair.data_dir("b"));
    pair.apply().exits(3).says("needs --allow destroy=b");
    pair.pgpair(&["apply", "--auto-approve", "--allow", "destroy=a,outage,restart"]).exits(3);
    assert_unchanged(&before, &listing(&pair.data_dir("b")));
    pair.pgpair(&["apply", "--auto-approve", "--allow", "destroy=b"]).exits(0);
    converges(&pair);
}

#[test]
fn a_running_server_of_somebody_else_in_the_standbys_place_is_left_alone() {
    let pair = planned_pair(NEW);
    pair.initdb("b");
    pair.set("b", &format!("port = {}\nunix_socket_directories = '/tmp'", pair.ports[1]));
    pair.pg_ctl("b", &["start"]).exits(0);
    let identity = "select system_identifier from pg_control_system()";
    let foreign = pair.sql("b", identity);
    let started = pair.sql("b", "select pg_postmaster_start_time()");

    // With a primary's place that is empty, it could be the cluster itself.
    refused_beside(
        &pair,
        &["b/data/postgresql.conf", "b/data/pg_hba.conf"],
        &["a, the primary, has no data", &foreign],
    );
    assert!(!pair.path("a").exists());

    pair.initdb("a");
    let ran = pair.pgpair(&["apply", "--auto-approve", "--allow", "outage,destroy=b"]).exits(5);
    let remedy = "check host, port and data_dir of b; a server that really is in the way must be stopped by hand";
    says_all(ran, &["a server of another cluster runs at b", &foreign, remedy]);
    assert_eq!(pair.sql("b", identity), foreign);
    assert_eq!(pair.sql("b", "select pg_postmaster_start_time()"), started);
    assert_eq!(pair.sql("a", "select rolname from pg_roles where rolname = 'repuser'"), "repuser");

    pair.pg_ctl("b", &["stop"]).exits(0);
    pair.pgpair(&["apply", "--auto-approve", "--allow", "destroy=b"]).exits(0);
    converges(&pair);
}

#[test]
fn a_foreign_directory_that_claims_this_cluster_stops_everything() {
    let pair = Workspace::made(NEW);
    pair.pg_ctl("b", &["stop"]).exits(0);
    let conf = fs::read_to_string(pair.data_dir("b").join("postgresql.conf")).expect("a configuration");
    fs::rename(pair.data_dir("b"), pair.path("b-aside")).expect("our folder");
    pair.initdb("b");
    pair.write("b/data/postgresql.conf", &conf, 0o600);
    let words = ["the pgpair block of b names this cluster", "the primary may be the wrong one", "by hand"];
    let paths = ["b", "a/data/postgresql.conf", "a/data/pg_hba.conf", "a/data/pg_replslot"];
    refused_beside(&pair, &paths, &words);
    let ran = pair.pgpair(&["apply", "--auto-approve", "--allow", "destroy=b"]).exits(3);
    says_all(ran, &words);

    fs::remove_dir_all(pair.data_dir("b")).expect("our folder");
    fs::rename(pair.path("b-aside"), pair.data_dir("b")).expect("our folder");
    converges(&pair);
}

#[test]
fn a_pin_that_differs_or_a_block_of_another_cluster_stops_everything() {
    let pair = Workspace::made(NEW);
    let identity = pair.sql("a", "select system_identifier from pg_control_system()");
    let quiet = ["a/data/postgresql.conf", "a/data/pg_hba.conf", "b/data/postgresql.conf", "b/data/pg_hba.conf"];
    let pin = "cluster: test\nsystem_identifier: 7446744073709551615\n";
    let words = ["a has system identifier", &identity, "7446744073709551615", "correct the pin"];
    pair.edit("cluster: test\n", pin);
    refused_beside(&pair, &quiet, &words);
    pair.edit(pin, "cluster: other\n");
    let words = ["postgresql.conf of a has a pgpair block of another cluster, test", "correct data_dir or `cluster:`"];
    refused_beside(&pair, &quiet, &words);

    // Stopped ones too.
    for node in ["b", "a"] {
        pair.pg_ctl(node, &["stop"]).exits(0);
    }
    refused(&pair, &words);
    pair.edit("cluster: other\n", pin);
    refused(&pair, &["a has system identifier", &identity, "correct the pin"]);
    pair.edit(pin, &format!("cluster: test\nsystem_identifier: {identity}\n"));
    pair.pgpair(&["apply", "--auto-approve", "--allow", "outage"]).exits(0);
    converges(&pair);
}

#[test]
fn a_pinned_cluster_is_never_made_anew() {
    let pair = planned_pair(NEW);
    pair.edit("cluster: test\n", "cluster: test\nsystem_identifier: 7446744073709551615\n");
    refused(
        &pair,
        &["pins system_identifier 7446744073709551615", "no node has its data", "mount or restore the data"],
    );
}

// Ports

#[test]
fn a_port_that_another_program_has_is_told_with_that_program() {
    for node in ["a", "b"] {
        let pair = planned_pair(NEW);
        let port = pair.ports[usize::from(node == "b")];
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
        let cause = format!("port {port} of {node} is taken by `");
        let words =
            [&*cause, &format!("(pid {})", std::process::id()), "stop that program, or give the node another port"];
        if node == "a" {
            refused(&pair, &words);
        } else {
            says_all(pair.pgpair(&["plan"]).exits(0), &words);
            says_all(pair.apply().exits(5), &words);
            assert!(!pair.data_dir("b").join("postmaster.pid").exists());
        }
        drop(listener);
        converges(&pair);
    }
}

#[test]
fn a_port_that_another_server_has_is_told_with_its_data_directory() {
    let other = Workspace::made(NEW);
    let pair = planned_pair(NEW);
    pair.edit(&format!("port: {}", pair.ports[0]), &format!("port: {}", other.ports[0]));
    let by = format!("taken by the server of {}", other.data_dir("a").display());
    refused(&pair, &[&format!("port {} of a is", other.ports[0]), &by]);
    other.in_sync();
}

// Secrets

#[test]
fn a_secret_that_can_not_be_had_is_told_before_anything_is_done() {
    let pair = planned_pair(NEW);
    let secret = pair.path("repuser.secret");
    let private = |text: &str| pair.write("repuser.secret", text, 0o600);
    let told = |command: &dyn Fn(&str) -> Command, words: &[&str]| {
        let before = listing(&pair.path(""));
        for name in ["plan", "apply"] {
            let ran = Ran::of(&command(name).output().expect("pgpair runs")).exits(1);
            assert!(!ran.stdout.contains("correct horse") && !ran.stderr.contains("correct horse"));
            says_all(ran, &[words, &["`replication.password`"]].concat());
        }
        assert_unchanged(&before, &listing(&pair.path("")));
    };
    let as_we_are = |name: &str| pair.command(if name == "plan" { &["plan"] } else { &["apply", "--auto-approve"] });
    let file = secret.display().to_string();

    pair.write("repuser.secret", "correct horse\n", 0o644);
    told(&as_we_are, &[&file, "others can read", "0644", &format!("chmod 600 {file}")]);
    private("");
    told(&as_we_are, &[&file, "it is empty", "put the password there"]);
    fs::remove_file(&secret).expect("our file");
    let remedy = "write the password to that file, readable for whoever runs pgpair, or correct its path";
    told(&as_we_are, &[&file, "No such file", remedy]);

    // Root reads everything, so that it is the owner of the servers who runs pgpair here.
    pair.write("repuser.secret", "correct horse\n", 0o000);
    let as_owner = |name: &str| {
        let mut command = support::as_owner(env!("CARGO_BIN_EXE_pgpair"));
        command.args([name, "-f"]).arg(pair.path("pgpair.yaml")).env("XDG_STATE_HOME", pair.path("state"));
        command
    };
    told(&as_owner, &[&file, "Permission denied", remedy]);

    pair.edit("{ file: repuser.secret }", "{ env: PGPAIR_TEST_NOT_SET }");
    told(&as_we_are, &["PGPAIR_TEST_NOT_SET", "it is not set", "set it in pgpair's environment"]);

    pair.edit("{ env: PGPAIR_TEST_NOT_SET }", "{ file: repuser.secret }");
    private("correct horse\n");
    converges(&pair);

    // A pair that runs is no other matter, and status still says what it sees.
    fs::remove_file(&secret).expect("our file");
    let before = listing(&pair.data_dir("b").join("pgpair.pass"));
    says_all(pair.apply().exits(1), &[&file, "No such file", remedy]);
    pair.pgpair(&["status"]).exits(0).says("streaming");
    assert_unchanged(&before, &listing(&pair.data_dir("b").join("pgpair.pass")));
    private("correct horse\n");
    converges(&pair);
}

// Disks

#[test]
fn a_disk_that_fills_during_initdb_or_clone_is_named_and_nothing_stays_on_it() {
    if !is_root() {
        return skipped("full disks: only root can mount a small one");
    }
    let pair = planned_pair(NEW);
    let small = SmallDisk::mount(&pair, "a", 16);
    let words = ["node `a`: no space was left for initdb", "No space left on device", "free space on that file system"];
    says_all(pair.apply().exits(1), &words);
    assert_eq!(names_in(&pair.path("a")), Vec::<String>::new());
    drop(small);

    // Seen before the copying begins.
    let small = SmallDisk::mount(&pair, "b", 40);
    says_all(pair.apply().exits(1), &["node `b`", "MB free, and the copy needs", "free space there"]);
    assert_eq!(names_in(&pair.path("b")), Vec::<String>::new());
    drop(small);

    // Seen when it happens: what lies beside the databases is not counted before.
    let size: u64 = pair.sql("a", "select sum(pg_database_size(oid)) from pg_database").parse().expect("a number");
    let ballast = pair.write("a/data/ballast", &"x".repeat(90 << 20), 0o600);
    let small = SmallDisk::mount(&pair, "b", (size >> 20) + 70);
    let words =
        ["node `b`: no space was left for pg_basebackup from a", "No space left on device", "free space on that"];
    says_all(pair.apply().exits(1), &words);
    assert_eq!(names_in(&pair.path("b")), Vec::<String>::new());
    drop(small);
    fs::remove_file(ballast).expect("our file");
    converges(&pair);
}

#[test]
fn an_empty_folder_that_may_be_an_unmounted_disk_is_not_used() {
    if !is_root() {
        return skipped("an unmounted disk: only root can show pgpair another /etc/fstab");
    }
    let pair = planned_pair(NEW);
    let with_fstab = |arguments: &[&str]| {
        // A mount namespace of its own: the machine's fstab stays what it is.
        let script = "mount --bind \"$1\" /etc/fstab && shift && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", script, "sh"]).arg(pair.path("fstab"));
        command.arg(env!("CARGO_BIN_EXE_pgpair")).args(arguments).current_dir(pair.path(""));
        command.env("XDG_STATE_HOME", pair.path("state")).stdin(Stdio::null());
        Ran::of(&command.output().expect("unshare runs"))
    };
    let fstab = |node: &str| {
        let mount_point = pair.path(node).display().to_string();
        pair.write("fstab", &format!("/dev/none {mount_point} xfs noauto 0 0\n"), 0o644);
        mount_point
    };
    for node in ["a", "b"] {
        pair.make_folder(node);
        let mount_point = fstab(node);
        let cause = format!("{mount_point} is a mount point of {node}'s data directory, and nothing is mounted there");
        let before = listing(&pair.path(""));
        for arguments in [&["plan"][..], &["apply", "--auto-approve"]] {
            says_all(with_fstab(arguments).exits(3), &[&cause, &format!("`mount {mount_point}`")]);
        }
        assert_unchanged(&before, &listing(&pair.path("")));
    }
    converges(&pair);

    // A clone waits for its disk too.
    pair.pg_ctl("b", &["stop"]).exits(0);
    fs::rename(pair.data_dir("b"), pair.path("aside")).expect("our folder");
    let before = listing(&pair.path("b"));
    let mount_point = fstab("b");
    let ran = with_fstab(&["apply", "--auto-approve", "--allow", "destroy=b"]).exits(3);
    says_all(ran, &["b's data directory, and nothing is mounted there", &format!("`mount {mount_point}`")]);
    assert_unchanged(&before, &listing(&pair.path("b")));
    converges(&pair);
}

// Programs and servers that fail

#[test]
fn an_initdb_that_fails_is_quoted_and_leaves_nothing() {
    let mut pair = Workspace::new(NEW);
    own_bin_dir(&mut pair);
    wrap(&pair, "initdb", "mkdir -p \"$2\" && echo half > \"$2/half\"; echo 'initdb: error: bad weather' >&2; exit 1");
    let before = listing(&pair.path("bin"));
    let words = ["node `a`: initdb ended with exit status 1", "initdb: error: bad weather", "remove the cause"];
    says_all(pair.apply().exits(1), &words);
    assert!(!pair.path("a").exists() && !pair.path("b").exists());
    assert_unchanged(&before, &listing(&pair.path("bin")));
    unwrap_program(&pair, "initdb");
    converges(&pair);
}

fn a_clone_fails(version: Version) {
    let mut pair = Workspace::new(version);
    own_bin_dir(&mut pair);
    wrap(&pair, "pg_basebackup", "echo 'pg_basebackup: error: bad weather' >&2; exit 1");
    let words = ["node `b`: pg_basebackup from a ended with exit status 1", "error: bad weather", "remove the cause"];
    says_all(pair.apply().exits(1), &words);
    assert_eq!(names_in(&pair.path("b")), Vec::<String>::new());
    assert_eq!(pair.sql("a", "select slot_name from pg_replication_slots"), "pgpair_b");

    // Killed half-way, as the kernel does when memory runs out.
    let script = "\"$real\" \"$@\" --max-rate=32k & until [ -e \"$2/PG_VERSION\" ]; do sleep 0.01; done\n\
                  kill -9 $!; kill -9 $$";
    wrap(&pair, "pg_basebackup", script);
    says_all(pair.apply().exits(1), &["node `b`: pg_basebackup from a ended with", "137", "remove the cause"]);
    assert_eq!(names_in(&pair.path("b")), Vec::<String>::new());
    assert_eq!(processes(&pair, "pg_basebackup"), Vec::<String>::new());
    unwrap_program(&pair, "pg_basebackup");
    converges(&pair);
}

#[test]
fn a_clone_of_15_that_fails_or_is_killed_leaves_nothing_and_is_made_by_the_next_apply() {
    a_clone_fails(NEW);
}

#[test]
fn a_clone_of_10_that_fails_or_is_killed_leaves_nothing_and_is_made_by_the_next_apply() {
    a_clone_fails(OLD);
}

fn a_server_does_not_start(version: Version) {
    let pair = planned_pair(version);
    let fsync = "  fsync: off\n";
    let bad = "  fsync: off\n  shared_preload_libraries: no_such_library\n";
    let words =
        ["its server ended while it was starting", "could not access file \"no_such_library\"", "pgpair-start.log"];

    // A primary that was never up: the next apply needs no allowance.
    pair.edit(fsync, bad);
    says_all(pair.apply().exits(1), &words).says("node `a`");
    says_all(pair.apply().exits(1), &words).says("node `a`");
    pair.edit(bad, fsync);
    pair.apply().exits(0);
    pair.in_sync();

    // A standby that was just cloned, by a setting of its own.
    pair.pg_ctl("b", &["stop"]).exits(0);
    fs::remove_dir_all(pair.data_dir("b")).expect("our folder");
    let (own, bad) =
        ("data_dir: b/data }", "data_dir: b/data, parameters: { shared_preload_libraries: no_such_library } }");
    pair.edit(own, bad);
    says_all(pair.apply().exits(1), &words).says("node `b`");
    assert_eq!(pair.sql("a", "select pg_is_in_recovery()"), "f");
    pair.edit(bad, own);
    converges(&pair);

    // One that ran is not even stopped for it.
    pair.edit(own, bad);
    let refused = pair.pgpair(&["apply", "--auto-approve", "--allow", "restart"]).exits(1);
    says_all(refused, &["node `b`: no server would start on the new", "there is no library `no_such_library`"]);
    assert_eq!(pair.sql("b", "select pg_is_in_recovery()"), "t");
    pair.edit(bad, own);
    converges(&pair);
}

#[test]
fn a_server_of_15_that_does_not_start_is_quoted_and_started_when_the_cause_is_gone() {
    a_server_does_not_start(NEW);
}

#[test]
fn a_server_of_10_that_does_not_start_is_quoted_and_started_when_the_cause_is_gone() {
    a_server_does_not_start(OLD);
}

// Two at once, and interrupts

/// Processes of pgpair's or PostgreSQL's tools that work on the workspace, by their command lines.
fn processes(pair: &Workspace, program: &str) -> Vec<String> {
    let folder = pair.path("").display().to_string();
    let processes = fs::read_dir("/proc").expect("a /proc").flatten();
    let lines = processes.filter_map(|entry| {
        // A zombie has no arguments any more.
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(&folder) && line.contains(program)).collect()
}

/// Lets a program say that it was reached, and wait until the test lets it go on.
const WAITS: &str = ": > \"$here/reached\"; until [ -e \"$here/go\" ]; do sleep 0.02; done";

fn wait_until_reached(pair: &Workspace) {
    wait_until("the program was reached", || pair.path("reached").exists());
    fs::remove_file(pair.path("reached")).expect("our file");
}

#[test]
fn of_two_applies_one_is_told_who_is_at_work_or_waits() {
    let mut pair = Workspace::new(NEW);
    own_bin_dir(&mut pair);
    wrap(&pair, "pg_basebackup", &format!("{WAITS}; exec \"$real\" \"$@\""));
    let mut first = Running::start(&pair, &["apply", "--auto-approve"]);
    wait_until_reached(&pair);
    let quiet = ["a/data/postgresql.conf", "a/data/pg_hba.conf", "a/data/pg_replslot", "b", "state"];
    let all = || -> Listing { quiet.iter().flat_map(|path| listing(&pair.path(path))).collect() };
    let before = all();
    let holder = format!("(pid {} of ", first.pid());
    let words = ["node `a` is locked: `pgpair apply` has it since 20", &holder, "--lock-timeout waits longer"];
    says_all(pair.apply().exits(3), &words);
    let told = pair.pgpair(&["apply", "--auto-approve", "--lock-timeout", "200ms"]).exits(3);
    says_all(told, &words);
    assert_unchanged(&before, &all());
    // Looking is free.
    pair.pgpair(&["plan"]).exits(0).says("clone of a");

    let mut third = Running::start(&pair, &["apply", "--auto-approve", "--lock-timeout", "60s"]);
    assert!(first.runs() && third.runs());
    pair.write("go", "", 0o644);
    first.end().exits(0);
    third.end().exits(0).says("No changes.");
    pair.in_sync();
    pair.replicates();
    assert_eq!(left_over(&pair), Vec::<String>::new());
}

fn is_interrupted_during(version: Version, program: &str, signal: &str) {
    let mut pair = Workspace::new(version);
    own_bin_dir(&mut pair);
    let work = if program == "initdb" { "\"$real\" \"$@\"" } else { "\"$real\" \"$@\" --max-rate=32k &" };
    wrap(&pair, program, &format!("{work}\n{WAITS}"));
    let mut apply = Running::start(&pair, &["apply", "--auto-approve"]);
    wait_until_reached(&pair);
    apply.signal(signal);
    apply.end().exits(130).says("interrupted at");
    for program in ["initdb", "pg_basebackup", "internal-guard", ".pgpair-new"] {
        assert_eq!(processes(&pair, program), Vec::<String>::new());
    }
    assert_eq!(left_over(&pair), Vec::<String>::new());
    unwrap_program(&pair, program);
    converges(&pair);
}

#[test]
fn ctrl_c_during_initdb_leaves_nothing_and_the_next_apply_converges() {
    is_interrupted_during(NEW, "initdb", "-INT");
}

#[test]
fn sigterm_during_the_clone_leaves_nothing_and_the_next_apply_converges() {
    is_interrupted_during(NEW, "pg_basebackup", "-TERM");
    is_interrupted_during(OLD, "pg_basebackup", "-INT");
}

/// A pg_ctl that waits before it does its work, and says when it is done.
fn slow_pg_ctl(pair: &Workspace) {
    wrap(pair, "pg_ctl", &format!("{WAITS}; \"$real\" \"$@\"; code=$?; : > \"$here/done\"; exit $code"));
}

#[test]
fn a_signal_during_a_start_lets_the_server_come_up_and_begins_nothing_more() {
    let mut pair = Workspace::new(NEW);
    own_bin_dir(&mut pair);
    slow_pg_ctl(&pair);
    let mut apply = Running::start(&pair, &["apply", "--auto-approve"]);
    wait_until_reached(&pair);
    apply.signal("-TERM");
    pair.write("go", "", 0o644);
    apply.end().exits(130).says("interrupted at").says("a.replication_role");
    assert_eq!(pair.sql("a", "select count(*) from pg_roles where rolname = 'repuser'"), "0");
    assert_eq!(left_over(&pair), Vec::<String>::new());
    unwrap_program(&pair, "pg_ctl");
    converges(&pair);
}

#[test]
fn a_second_signal_ends_pgpair_at_once() {
    let mut pair = Workspace::new(NEW);
    own_bin_dir(&mut pair);
    slow_pg_ctl(&pair);
    let mut apply = Running::start(&pair, &["apply", "--auto-approve"]);
    wait_until_reached(&pair);
    // Nothing but the second signal ends it: the program still waits.
    apply.signal("-INT");
    apply.signal("-TERM");
    apply.end().exits(130);
    assert!(!pair.path("go").exists());
    pair.write("go", "", 0o644);
    wait_until("the start that was under way has ended", || pair.path("done").exists());
    unwrap_program(&pair, "pg_ctl");
    wait_until_plannable(&pair);
    converges(&pair);
}

// Questions

#[test]
fn without_a_terminal_nothing_is_done_and_the_flags_are_named() {
    let pair = planned_pair(NEW);
    let before = listing(&pair.path(""));
    let ran = pair.pgpair(&["apply"]).exits(4);
    says_all(ran, &["nobody at a terminal to ask, so nothing was done", "--auto-approve"]);
    assert_unchanged(&before, &listing(&pair.path("")));
    pair.initdb("a");
    pair.initdb("b");
    let before = listing(&pair.path(""));
    pair.pgpair(&["apply"]).exits(4).says("--auto-approve --allow outage");
    assert_unchanged(&before, &listing(&pair.path("")));
}

/// What a terminal turns into SIGINT.
const CTRL_C: &str = "\u{3}";

/// Runs an apply at a terminal; its question is answered with what somebody types then.
fn answered(pair: &Workspace, question: &str, typed: &str) -> Ran {
    let program = format!("{} apply", env!("CARGO_BIN_EXE_pgpair"));
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &program, "/dev/null"]).current_dir(pair.path(""));
    command.env("XDG_STATE_HOME", pair.path("state")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("script runs");
    let mut screen = child.stdout.take().expect("a pipe");
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !seen.ends_with(question.as_bytes()) {
        let read = screen.read(&mut byte).expect("a pipe");
        assert_eq!(read, 1, "it ended without asking: {}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
    let mut keyboard = child.stdin.take().expect("a pipe");
    keyboard.write_all(typed.as_bytes()).expect("it listens");
    drop(keyboard);
    screen.read_to_end(&mut seen).expect("a pipe");
    let code = child.wait().expect("our child").code();
    Ran { code, stdout: String::from_utf8_lossy(&seen).into_owned(), stderr: String::new() }
}

#[test]
fn at_a_terminal_only_yes_or_the_nodes_name_goes_on() {
    let pair = planned_pair(NEW);
    let before = listing(&pair.path(""));
    let question = "Do all of this? Only `yes` is taken: ";
    for declined in ["no\n", "y\n", "YES\n", "\n", ""] {
        answered(&pair, question, declined).exits(4).says("declined, so nothing was done");
    }
    answered(&pair, question, CTRL_C).exits(130).says("interrupted, so nothing was done");
    assert_unchanged(&before, &listing(&pair.path("")));
    answered(&pair, question, "yes\n").exits(0);
    pair.in_sync();
    pair.replicates();

    pair.pg_ctl("b", &["stop"]).exits(0);
    fs::remove_dir_all(pair.data_dir("b")).expect("our folder");
    pair.initdb("b");
    let before = listing(&pair.path("b"));
    let question = "The data directory of b is replaced. To do all of this, type the node's name: ";
    for declined in ["yes\n", "a\n", ""] {
        answered(&pair, question, declined).exits(4).says("declined, so nothing was done");
    }
    assert_unchanged(&before, &listing(&pair.path("b")));
    answered(&pair, question, "b\n").exits(0);
    converges(&pair);
}

// Killed at any moment

/// Numbers that look random and come again with the same seed (splitmix64).
struct Random(u64);

impl Random {
    fn from_environment() -> Self {
        let given =
            std::env::var("PGPAIR_TEST_SEED").ok().map(|seed| seed.parse().expect("PGPAIR_TEST_SEED: a number"));
        let seed = given.unwrap_or_else(|| std::process::id().into());
        println!("PGPAIR_TEST_SEED={seed}");
        Self(seed)
    }

    /// A number from 0 to 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        f64::from(u32::try_from((z ^ (z >> 31)) >> 32).expect("32 bits")) / f64::from(u32::MAX)
    }
}

/// Takes the pair back to nothing.
fn wipe(pair: &Workspace) {
    for node in ["b", "a"] {
        if pair.data_dir(node).join("postmaster.pid").exists() {
            pair.pg_ctl(node, &["stop", "-m", "immediate"]).exits(0);
        }
        fs::remove_dir_all(pair.path(node)).expect("our folder");
    }
}

/// Kills the creation of a pair `times` times, each in its own part of the time that it takes; three times as often
/// with PGPAIR_FULL=1.
fn killed_at_any_moment(version: Version, times: u32) {
    let times = if is_full() { 3 * times } else { times };
    let pair = planned_pair(version);
    pair.edit("data_checksums: true }", "data_checksums: true, no-sync: on }");
    let begun = Instant::now();
    pair.apply().exits(0);
    let mut whole = begun.elapsed();
    wipe(&pair);

    let mut random = Random::from_environment();
    let mut killed = 0;
    while killed < times {
        let moment = whole.mul_f64((f64::from(killed) + random.fraction()) / f64::from(times));
        println!("kill {killed} after {moment:?} of {whole:?}");
        let begun = Instant::now();
        let mut apply = Running::start(&pair, &["apply", "--auto-approve"]);
        while apply.runs() && begun.elapsed() < moment {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        if !apply.runs() {
            // Faster than the ones before: this was no kill.
            whole = begun.elapsed();
            apply.end().exits(0);
            wipe(&pair);
            continue;
        }
        apply.signal("-KILL");
        let at = Instant::now();
        println!("{}", apply.end().stderr);
        for program in ["initdb", "pg_basebackup", "internal-guard", ".pgpair-new"] {
            wait_until("no child of the killed pgpair lives", || processes(&pair, program).is_empty());
        }
        assert!(at.elapsed() < Duration::from_secs(5), "its children outlived it by {:?}", at.elapsed());

        wait_until_plannable(&pair);
        converges(&pair);
        wipe(&pair);
        killed += 1;
    }
}

#[test]
fn the_creation_of_15_converges_after_a_kill_at_any_moment() {
    killed_at_any_moment(NEW, 7);
}

#[test]
fn the_creation_of_10_converges_after_a_kill_at_any_moment() {
    killed_at_any_moment(OLD, 3);
}

// Results, and looks that change nothing

#[test]
fn every_result_in_json_is_one_value_with_format_version_and_status() {
    let pair = planned_pair(NEW);
    let result = |arguments: &[&str], code: i32| {
        let ran = pair.pgpair(&[arguments, &["--format", "json"]].concat()).exits(code);
        let value: serde_json::Value = serde_json::from_str(&ran.stdout).expect("one JSON value, and nothing else");
        assert_eq!(value["format_version"], "1.0", "{arguments:?}");
        assert!(value["status"].is_string(), "{arguments:?}");
        value
    };
    let failed = |arguments: &[&str], code: i32, error: &str| {
        let value = result(arguments, code);
        assert_eq!(value["status"], "error", "{arguments:?}");
        assert_eq!(value["errors"][0]["code"], error, "{value:#}");
        assert!(value["errors"][0]["message"].is_string(), "{value:#}");
    };
    let planned = result(&["plan"], 0);
    assert_eq!(planned["status"], "changes");
    assert!(planned["steps"].as_array().is_some_and(|steps| !steps.is_empty()), "{planned:#}");
    result(&["validate", "pgpair.yaml"], 0);
    failed(&["apply"], 4, "no_terminal");

    pair.write("repuser.secret", "correct horse\n", 0o644);
    failed(&["plan"], 1, "failed");
    failed(&["apply", "--auto-approve"], 1, "failed");
    pair.write("repuser.secret", "correct horse\n", 0o600);

    pair.edit("cluster: test\n", "cluster: test\nsystem_identifier: 1\n");
    for arguments in [&["plan"][..], &["apply", "--auto-approve"]] {
        assert_eq!(result(arguments, 3)["status"], "blocked");
    }
    result(&["status"], 2);
    pair.edit("cluster: test\nsystem_identifier: 1\n", "cluster: test\n");

    pair.write("bad.yaml", "version: 1\ncluster: test\nnodes: {}\n", 0o644);
    for command in ["validate", "plan", "apply", "status"] {
        failed(&[command, "missing.yaml"], 1, "no_such_file");
        assert!(["error", "invalid"].contains(&result(&[command, "bad.yaml"], 1)["status"].as_str().unwrap_or("")));
        failed(&[command, "--no-such-option"], 1, "usage");
    }

    let applied = result(&["apply", "--auto-approve"], 0);
    assert_eq!(applied["status"], "applied");
    let planned = result(&["plan"], 0);
    assert_eq!(planned["status"], "clean");
    assert_eq!(planned["steps"], serde_json::json!([]));
    assert_eq!(result(&["status"], 0)["status"], "healthy");
    pair.pg_ctl("b", &["stop"]).exits(0);
    fs::remove_dir_all(pair.data_dir("b")).expect("our folder");
    pair.initdb("b");
    let applied = result(&["apply", "--auto-approve"], 3);
    assert_eq!(applied["status"], "blocked");
    assert_eq!(applied["steps"][0]["outcome"], "left_out");
}

fn looks_change_nothing(version: Version) {
    let pair = planned_pair(version);
    // Nothing of the servers' own that would write by itself.
    pair.edit("  fsync: off\n", "  fsync: off\n  autovacuum: off\n  checkpoint_timeout: 1h\n");
    pair.apply().exits(0);
    let state = || {
        // Statistics, which any login leaves; the log of the start, where a server without collector logs to.
        let is_of_any_login = |path: &Path| {
            let text = path.to_string_lossy();
            ["/pg_stat_tmp", "/pg_stat/", "/pgpair-start.log", "/pg_internal.init"]
                .iter()
                .any(|name| text.contains(name))
        };
        let mut files = listing(&pair.path(""));
        files.retain(|path, _| !is_of_any_login(path));
        let position = |node, function| pair.sql(node, &format!("select {function}()"));
        let slots = pair.sql("a", "select slot_name, restart_lsn from pg_replication_slots order by 1");
        (files, position("a", "pg_current_wal_insert_lsn"), position("b", "pg_last_wal_replay_lsn"), slots)
    };
    // The first logins leave hint bits and caches of catalogues; then all of it is on disk, and replayed.
    pair.in_sync();
    pair.pgpair(&["status"]).exits(0);
    state();
    for node in ["a", "b"] {
        pair.sql(node, "checkpoint");
    }
    wait_until("the standby has replayed everything", || {
        let (_, inserted, replayed, _) = state();
        inserted == replayed
    });
    for arguments in [&["plan"][..], &["status"], &["plan", "--format", "json"]] {
        let (before, after) = quietly(&state, || pair.pgpair(arguments).exits(0));
        assert_unchanged(&before.0, &after.0);
        assert_eq!((before.1, before.2, before.3), (after.1, after.2, after.3), "{arguments:?}");
    }
    let (before, after) = quietly(&state, || pair.apply().exits(0).says("No changes."));
    assert_unchanged(&before.0, &after.0);
    assert_eq!(before.1, after.1);
}

/// Returns the states before and after some work. A server writes by itself now and then (a snapshot of its
/// transactions, say), so that the work has three tries: what itself writes, it writes each time.
fn quietly<S: PartialEq>(state: &impl Fn() -> S, work: impl Fn() -> Ran) -> (S, S) {
    let mut both = None;
    for _ in 0..3 {
        let before = state();
        work();
        let after = state();
        let same = before == after;
        both = Some((before, after));
        if same {
            break;
        }
    }
    both.expect("one try at least")
}

#[test]
fn looks_at_a_pair_of_15_change_no_file_and_write_no_wal() {
    looks_change_nothing(NEW);
}

#[test]
fn looks_at_a_pair_of_10_change_no_file_and_write_no_wal() {
    looks_change_nothing(OLD);
}
