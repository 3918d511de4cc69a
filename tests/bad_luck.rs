//! Bad luck on real servers: each ends in one diagnostic with node, cause and remedy, and leaves what it found or
//! what the next apply converges from.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::hash::DefaultHasher;
use std::hash::Hash as _;
use std::hash::Hasher as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use support::Ran;
use support::Version;
use support::Workspace;
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

/// A pair that runs.
fn made_pair(version: Version) -> Workspace {
    let pair = planned_pair(version);
    pair.apply().exits(0);
    pair
}

/// Replaces a text of the topology, which must be there.
#[track_caller]
fn edit(pair: &Workspace, from: &str, to: &str) {
    let text = fs::read_to_string(pair.path("pgpair.yaml")).expect("a topology");
    assert!(text.contains(from), "`{from}` is not in\n{text}");
    pair.write("pgpair.yaml", &text.replace(from, to), 0o644);
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

fn ran(output: Output) -> Ran {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
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
    let pair = made_pair(NEW);
    for node in ["b", "a"] {
        pair.pg_ctl(node, &["stop"]).exits(0);
    }
    let (right, wrong) = (NEW.bin_dir(), OLD.bin_dir());
    let (right, wrong) = (right.to_string_lossy(), wrong.to_string_lossy());
    edit(&pair, &right, &wrong);
    let before = listing(&pair.path("a"));
    let words = ["binaries for a", &*wrong, "the topology says 15", "set postgresql.bin_dir"];
    says_all(pair.pgpair(&["plan"]).exits(3), &words);
    says_all(pair.pgpair(&["apply", "--auto-approve", "--allow", "outage"]).exits(3), &words);
    assert_unchanged(&before, &listing(&pair.path("a")));
    edit(&pair, &wrong, &right);
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
fn a_data_directory_that_the_server_would_refuse_is_told_with_owner_and_mode() {
    let pair = planned_pair(NEW);
    pair.initdb("a");
    let data_dir = pair.data_dir("a");
    fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o755)).expect("our folder");
    let cause = format!("{} has mode 0755, and the server wants 0700 or 0750", data_dir.display());
    refused(&pair, &["on the data directory of a", &cause, "correct owner and mode"]);
    fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o700)).expect("our folder");

    if is_root() {
        std::os::unix::fs::chown(&data_dir, Some(0), Some(0)).expect("root's");
        refused(&pair, &["a can't be looked at", &data_dir.display().to_string(), "Permission denied", "postgres"]);
        fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o755)).expect("our folder");
        let cause = format!("{} belongs to user number 0, not to postgres", data_dir.display());
        refused(&pair, &["on the data directory of a", &cause, "correct owner and mode"]);
        let owner = fs::metadata(pair.path("a")).expect("our folder");
        std::os::unix::fs::chown(&data_dir, Some(owner.uid()), Some(owner.gid())).expect("the owner's");
        fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o700)).expect("our folder");
    } else {
        skipped("a data directory of root's: only root can make one");
    }
    pair.pgpair(&["apply", "--auto-approve", "--allow", "outage"]).exits(0);
    converges(&pair);

    // A standby's: the primary is tended, and the standby starts when its mode is right.
    pair.pg_ctl("b", &["stop"]).exits(0);
    fs::set_permissions(pair.data_dir("b"), fs::Permissions::from_mode(0o777)).expect("our folder");
    refused_beside(&pair, &["b"], &["on the data directory of b", "has mode 0777", "correct owner and mode"]);
    fs::set_permissions(pair.data_dir("b"), fs::Permissions::from_mode(0o700)).expect("our folder");
    converges(&pair);
}

// Clusters of others

#[test]
fn a_stopped_cluster_of_somebody_else_is_replaced_only_with_the_nodes_name() {
    let pair = made_pair(NEW);
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
    refused_beside(&pair, &["b/data/postgresql.conf", "b/data/pg_hba.conf"], &["a, the primary, has no data", &foreign]);
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
    let pair = made_pair(NEW);
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
    let pair = made_pair(NEW);
    let identity = pair.sql("a", "select system_identifier from pg_control_system()");
    let quiet = ["a/data/postgresql.conf", "a/data/pg_hba.conf", "b/data/postgresql.conf", "b/data/pg_hba.conf"];
    let pin = "cluster: test\nsystem_identifier: 7446744073709551615\n";
    let words = ["a has system identifier", &identity, "7446744073709551615", "correct the pin"];
    edit(&pair, "cluster: test\n", pin);
    refused_beside(&pair, &quiet, &words);
    edit(&pair, pin, "cluster: other\n");
    let words = ["postgresql.conf of a has a pgpair block of another cluster, test", "correct data_dir or `cluster:`"];
    refused_beside(&pair, &quiet, &words);

    // Stopped ones too.
    for node in ["b", "a"] {
        pair.pg_ctl(node, &["stop"]).exits(0);
    }
    refused(&pair, &words);
    edit(&pair, "cluster: other\n", pin);
    refused(&pair, &["a has system identifier", &identity, "correct the pin"]);
    edit(&pair, pin, &format!("cluster: test\nsystem_identifier: {identity}\n"));
    pair.pgpair(&["apply", "--auto-approve", "--allow", "outage"]).exits(0);
    converges(&pair);
}

#[test]
fn a_pinned_cluster_is_never_made_anew() {
    let pair = planned_pair(NEW);
    edit(&pair, "cluster: test\n", "cluster: test\nsystem_identifier: 7446744073709551615\n");
    refused(&pair, &["pins system_identifier 7446744073709551615", "no node has its data", "mount or restore the data"]);
}

// Ports

#[test]
fn a_port_that_another_program_has_is_told_with_that_program() {
    for node in ["a", "b"] {
        let pair = planned_pair(NEW);
        let port = pair.ports[usize::from(node == "b")];
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
        let cause = format!("port {port} of {node} is taken by `");
        let words = [&*cause, &format!("(pid {})", std::process::id()), "stop that program, or give the node another port"];
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
    let other = made_pair(NEW);
    let pair = planned_pair(NEW);
    edit(&pair, &format!("port: {}", pair.ports[0]), &format!("port: {}", other.ports[0]));
    let by = format!("taken by the server of {}", other.data_dir("a").display());
    refused(&pair, &[&format!("port {} of a is", other.ports[0]), &by]);
    other.in_sync();
}
