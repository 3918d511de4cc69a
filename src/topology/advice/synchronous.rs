//! Whether commits go on when one node is down.

use crate::topology::NodeName;
use crate::topology::Role;
use crate::topology::advice::Advice;
use crate::topology::advice::Cluster;
use crate::topology::advice::warn;
use crate::topology::diagnostic::Report;
use crate::topology::model::DraftNode;
use crate::topology::validate::replication::is_delayed;

pub(super) fn blocks(cluster: &Cluster<'_>, report: &mut Report<'_>) {
    let Some(wanted) = &cluster.topology.replication.synchronous else { return };
    let Some(draft) = cluster.draft.replication.as_ref().and_then(|replication| replication.synchronous.as_ref())
    else {
        return;
    };
    let confirms = |node: &&DraftNode| {
        let name = NodeName::new(node.name.value.as_str());
        (wanted.standbys.is_empty() || wanted.standbys.contains(&name)) && streams_from_primary(cluster, &name)
    };
    let candidates = cluster.draft.nodes.iter().filter(confirms);
    let count = candidates.filter(|node| !is_delayed(node, &cluster.draft.parameters)).count();
    let num = usize::try_from(wanted.num).unwrap_or(usize::MAX);
    if count.saturating_sub(1) < num {
        let span = draft.num.as_ref().map_or(draft.span, |num| num.span);
        let standbys = if num == 1 { "standby" } else { "standbys" };
        let found = format!("commits wait for {num} {standbys}, and {count} can confirm them");
        warn(report, Advice::SynchronousBlocks, span, &found);
    }
}

/// A standby further down never confirms a commit: the primary knows its own walsenders alone.
fn streams_from_primary(cluster: &Cluster<'_>, name: &NodeName) -> bool {
    let node = &cluster.topology.nodes[name];
    node.role == Role::Standby && cluster.topology.upstream(node).role == Role::Primary
}
