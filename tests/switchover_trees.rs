//! Switchovers of three real servers: beside each other, and in a cascade that goes on, or is turned around.
//!
//! As in the switchovers of a pair, a writer records every row whose commit was acknowledged, and a watcher asks all
//! servers all the while whether they accept writes: no acknowledged row is lost, never are there two writers, the next
//! plan is empty; and each node streams from the one that the topology says, and from no other.

mod support;

use pgpair::world::failpoint::Failpoint;
use support::Version;
use support::cluster::Cluster;
use support::probe::RULE;
use support::wait_until;
use support::witness::Witness;
use support::witness::apply;
use support::witness::apply_until;

const SCRAM: &str = "auth: scram-sha-256, password: { file: repuser.secret }";

/// A node, and what it streams from; nothing for the primary.
type Tree = [(&'static str, Option<&'static str>); 3];

const BESIDE: Tree = [("a", None), ("b", Some("a")), ("c", Some("a"))];
const CASCADE: Tree = [("a", None), ("b", Some("a")), ("c", Some("b"))];
const CASCADE_BACKWARDS: Tree = [("c", None), ("b", Some("c")), ("a", Some("b"))];

fn primary(tree: &Tree) -> &'static str {
    tree.iter().find(|(_, upstream)| upstream.is_none()).expect("one has none").0
}

/// Writes the topology. Who streams from the primary does not say so, so that it goes with the role.
fn write_topology(nodes: &Cluster, replication: &str, tree: &Tree) {
    let (version, bin_dir) = (nodes.version.0, nodes.bin_dir.display());
    let mut text = format!(
        "version: 1\ncluster: test\n\
         postgresql: {{ version: {version}, bin_dir: {bin_dir}, initdb: {{ locale: C, no-sync: on, data_checksums: true }} }}\n\
         replication: {{ user: repuser, {replication} }}\n\
         parameters: {{ fsync: off, max_wal_senders: 10, wal_retrieve_retry_interval: 100ms }}\n\
         hba:\n  - {RULE}\nnodes:\n"
    );
    for (node, port) in ["a", "b", "c"].into_iter().zip(nodes.ports) {
        let upstream = tree.iter().find(|(name, _)| *name == node).and_then(|(_, upstream)| *upstream);
        let role = if upstream.is_none() { "primary" } else { "standby" };
        let named = upstream.filter(|upstream| *upstream != primary(tree));
        let named = named.map(|upstream| format!(", upstream: {upstream}")).unwrap_or_default();
        text += &format!("  {node}: {{ role: {role}, port: {port}, data_dir: {node}/data{named} }}\n");
    }
    nodes.write("pgpair.yaml", &text, 0o644);
}

/// Three nodes that run, with a database for the load.
fn made(version: Version, replication: &str, tree: &Tree) -> Cluster {
    let nodes = Cluster::new(version);
    write_topology(&nodes, replication, tree);
    nodes.apply().exits(0);
    nodes.sql("a", "create role bench login");
    nodes.sql("a", "create database bench owner bench");
    nodes
}

/// Asserts that nothing is left to do, and that the nodes stream as they should and nobody else does.
#[track_caller]
fn is(nodes: &Cluster, tree: &Tree) {
    nodes.in_sync();
    nodes.pgpair(&["status"]).exits(0);
    for (node, upstream) in tree {
        assert_eq!(nodes.sql(node, "select pg_is_in_recovery()") == "f", upstream.is_none(), "{node}");
        let mut below: Vec<&str> = tree.iter().filter(|(_, of)| *of == Some(*node)).map(|(name, _)| *name).collect();
        below.sort_unstable();
        let streaming =
            "select application_name from pg_stat_replication where state = 'streaming' order by application_name";
        assert_eq!(nodes.sql(node, streaming).lines().collect::<Vec<_>>(), below, "what streams from {node}");
        let slots = "select count(*) from pg_replication_slots where active";
        assert_eq!(nodes.sql(node, slots), below.len().to_string(), "the slots of {node} in use");
    }
    let rows = |node| nodes.sql_in("bench", node, "select count(*) from acked");
    let written = rows(primary(tree));
    for (node, _) in tree {
        wait_until("all that was written is on every node", || rows(node) == written);
    }
}

/// Moves the primary from the one tree to the other, under the eyes of the witness.
#[track_caller]
fn moves(nodes: &Cluster, from: &Tree, to: &Tree, how: impl FnOnce(&str)) {
    let witness = Witness::over(nodes, &nodes.ports[..3], primary(from));
    how(primary(to));
    witness.swears(nodes, primary(to));
    is(nodes, to);
}

/// By the command, which edits the topology.
fn by_command(nodes: &Cluster) -> impl Fn(&str) {
    |to| drop(nodes.pgpair(&["switchover", "--to", to, "--auto-approve", "--timeout", "20s"]).exits(0))
}

/// By an edit of the topology, upstreams and all.
fn by_edit(nodes: &Cluster, tree: &Tree) -> impl Fn(&str) {
    move |to| {
        write_topology(nodes, SCRAM, tree);
        apply(nodes, to).exits(0);
    }
}

/// To `b` and back: the third node follows whoever is the primary.
fn a_third_node_follows(nodes: &Cluster) {
    let moved = [("b", None), ("a", Some("b")), ("c", Some("b"))];
    moves(nodes, &BESIDE, &moved, by_command(nodes));
    moves(nodes, &moved, &BESIDE, by_command(nodes));
}

#[test]
fn a_third_node_follows_the_new_primary() {
    a_third_node_follows(&made(Version(15), SCRAM, &BESIDE));
}

#[test]
#[ignore = "takes long: cargo test -- --include-ignored"]
fn a_third_node_of_10_follows_by_a_restart() {
    a_third_node_follows(&made(Version(10), SCRAM, &BESIDE));
}

#[test]
#[ignore = "takes long: cargo test -- --include-ignored"]
fn commits_wait_for_two_of_the_standbys_there_are_after_each_switchover() {
    let nodes = made(Version(15), &format!("{SCRAM}, synchronous: {{ method: first, num: 2 }}"), &BESIDE);
    a_third_node_follows(&nodes);
    assert_eq!(nodes.sql("a", "show synchronous_standby_names"), "FIRST 2 (\"b\", \"c\")");
    for standby in ["b", "c"] {
        assert_eq!(nodes.sql(standby, "show synchronous_standby_names"), "");
    }
}

#[test]
#[ignore = "takes long: cargo test -- --include-ignored"]
fn a_cascade_goes_on_below_its_middle_when_that_becomes_the_primary() {
    let nodes = made(Version(15), SCRAM, &CASCADE);
    let moved = [("b", None), ("a", Some("b")), ("c", Some("b"))];
    moves(&nodes, &CASCADE, &moved, by_command(&nodes));
    moves(&nodes, &moved, &CASCADE, by_command(&nodes));
}

#[test]
#[ignore = "takes long: cargo test -- --include-ignored"]
fn the_end_of_a_cascade_becomes_its_top_and_the_others_follow_it() {
    let nodes = made(Version(15), SCRAM, &CASCADE);
    // What `c` says of its upstream counts again once it is a standby.
    let moved = [("c", None), ("a", Some("c")), ("b", Some("c"))];
    moves(&nodes, &CASCADE, &moved, by_command(&nodes));
    moves(&nodes, &moved, &CASCADE, by_command(&nodes));
}

#[test]
fn a_cascade_is_turned_around_and_back() {
    let nodes = made(Version(15), SCRAM, &CASCADE);
    moves(&nodes, &CASCADE, &CASCADE_BACKWARDS, by_edit(&nodes, &CASCADE_BACKWARDS));
    moves(&nodes, &CASCADE_BACKWARDS, &CASCADE, by_edit(&nodes, &CASCADE));
}

#[test]
#[ignore = "takes long: cargo test -- --include-ignored"]
fn a_cascade_of_10_is_turned_around_by_its_recovery_conf() {
    let nodes = made(Version(10), SCRAM, &CASCADE);
    moves(&nodes, &CASCADE, &CASCADE_BACKWARDS, by_edit(&nodes, &CASCADE_BACKWARDS));
}

#[test]
#[ignore = "takes long: cargo test -- --include-ignored"]
fn killed_while_a_cascade_is_turned_around_pgpair_goes_on_from_there() {
    let nodes = made(Version(15), SCRAM, &CASCADE);
    let mut from = CASCADE;
    for point in [Failpoint::Fenced, Failpoint::ShutDown, Failpoint::PromoteFile, Failpoint::Promoted] {
        let to = if from == CASCADE { CASCADE_BACKWARDS } else { CASCADE };
        moves(&nodes, &from, &to, |primary| {
            write_topology(&nodes, SCRAM, &to);
            apply_until(&nodes, primary, point.name());
            // One that takes the change back first makes it in the next run.
            let converged = (0..3).any(|_| apply(&nodes, primary).code == Some(0));
            assert!(converged, "{}: does not converge", point.name());
        });
        from = to;
    }
}
