//! Whether a standby can be cloned while the others run: the replication role's connections, and walsenders.

use crate::topology::NodeName;
use crate::topology::Topology;
use crate::topology::advice::Advice;
use crate::topology::advice::Cluster;
use crate::topology::advice::warn;
use crate::topology::diagnostic::Report;

/// A clone streams the WAL beside the data (`pg_basebackup -X stream`).
const SENDERS_OF_A_CLONE: usize = 2;

pub(super) fn connection_limit(cluster: &Cluster<'_>, report: &mut Report<'_>) {
    let limit = cluster.draft.replication.as_ref().and_then(|replication| replication.connection_limit.as_ref());
    // -1 is no limit.
    let Some((limit, number)) = limit.and_then(|limit| Some((limit, usize::try_from(limit.value).ok()?))) else {
        return;
    };
    let topology = cluster.topology;
    let most = topology.nodes.keys().map(|node| walsenders(topology, node)).max().unwrap_or_default();
    if cluster.major().dialect().limits_walsenders_before_minor > 0 && number < most {
        let found = format!("`connection_limit` is {number}, and {most} connections may be needed at once");
        warn(report, Advice::ConnectionLimitTooLow, limit.span, &found);
    }
}

pub(super) fn max_wal_senders(cluster: &Cluster<'_>, report: &mut Report<'_>) {
    let name = "max_wal_senders";
    let needed = |node: &str| walsenders(cluster.topology, &NodeName::new(node));
    let given = |node| cluster.number(node, name).and_then(|given| usize::try_from(given).ok());
    let places = cluster.by_place(name, |node| given(node).is_some_and(|given| given < needed(&node.name.value)));
    for (span, nodes) in places {
        let most = nodes.iter().map(|node| needed(&node.name.value)).max().unwrap_or_default();
        let value = nodes.first().map(|node| cluster.value(node, name)).unwrap_or_default();
        let found = format!("`{name}` is {value}{}, and {most} may be needed at once", cluster.on(&nodes));
        warn(report, Advice::MaxWalSendersTooLow, span, &found);
    }
}

/// How many walsenders `server` can need at once if it is the primary, now or after a role change: one for each
/// standby that streams from it, and those of a clone.
///
/// A node that is being cloned does not stream meanwhile. A node with an `upstream` keeps it.
fn walsenders(topology: &Topology, server: &NodeName) -> usize {
    let mut streaming = 0;
    let mut clone = 0;
    for node in topology.nodes.values().filter(|node| node.name != *server) {
        let streams = node.upstream.as_ref().is_none_or(|upstream| upstream == server);
        let is_cloned = node.clone_from.as_ref().map_or(streams, |source| source == server);
        streaming += usize::from(streams);
        if is_cloned {
            clone = clone.max(SENDERS_OF_A_CLONE - usize::from(streams));
        }
    }
    streaming + clone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology;

    /// What each node can need, in the order of the file; the first is the primary, the rest is as given.
    fn needs(standbys: &[&str]) -> Vec<usize> {
        let mut source = "version: 1\ncluster: c\npostgresql: { version: 15 }\nreplication: { user: r, auth: trust }\n\
                          nodes:\n  a: { role: primary, port: 1, data_dir: /a }\n"
            .to_owned();
        for (index, keys) in standbys.iter().enumerate() {
            let name = char::from(b'b' + u8::try_from(index).expect("few"));
            source += &format!("  {name}: {{ role: standby, port: 1{index}, data_dir: /{name}{keys} }}\n");
        }
        let topology = topology::parse(source.as_bytes(), "t.yaml", "/").expect("valid");
        topology.nodes.keys().map(|node| walsenders(&topology, node)).collect()
    }

    #[test]
    fn a_clone_takes_two_walsenders_and_leaves_those_of_the_other_standbys() {
        assert_eq!(needs(&[]), [0]);
        assert_eq!(needs(&[""]), [2, 2]);
        assert_eq!(needs(&["", ""]), [3, 3, 3]);
        assert_eq!(needs(&["", "", ""]), [4, 4, 4, 4]);
    }

    #[test]
    fn a_node_that_streams_from_another_counts_there_alone() {
        // c streams from b, wherever the primary is.
        assert_eq!(needs(&["", ", upstream: b"]), [2, 3, 3]);
    }

    #[test]
    fn a_clone_of_a_node_that_streams_from_elsewhere_comes_on_top() {
        // c streams from b and is cloned from a: b's walsender and two for the clone.
        assert_eq!(needs(&["", ", upstream: b, clone_from: a"])[0], 3);
    }
}
