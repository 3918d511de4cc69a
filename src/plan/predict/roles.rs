//! Role changes: the fence, and the promotion with the old primary's end.

use crate::observed::Observed;
use crate::pg::control::ControlState;
use crate::pg::history::Branch;
use crate::pg::lsn::Lsn;
use crate::pg::lsn::Timeline;
use crate::plan::Promote;
use crate::plan::check::file_values;
use crate::plan::predict::files::take_floors;
use crate::plan::predict::files::unmark;
use crate::plan::predict::servers::down;
use crate::plan::predict::servers::leaves_others;
use crate::topology::Node;
use crate::topology::Topology;

pub(super) fn promoted(observed: &mut Observed, topology: &Topology, node: &Node, promote: &Promote) {
    let mut end = observed.node(&node.name).sql().map_or(Lsn(0), |sql| sql.lsn);
    if let Some(from) = promote.from.as_ref().filter(|_| !promote.by_force) {
        end = end.max(ended(observed, &topology.nodes[from]));
        // No standby has more by then; one that was looked at later than the candidate only seems to.
        let standbys = observed.nodes.values().filter_map(|seen| seen.sql()).filter(|sql| sql.in_recovery);
        end = standbys.map(|sql| sql.lsn).fold(end, Lsn::max);
    }
    leaves_others(observed, &node.name, &node.slot_name(), &node.name);
    let seen = observed.node_mut(&node.name);
    let parent = promote.parent;
    let newest = seen.cluster().and_then(|cluster| cluster.newest_history).unwrap_or(parent);
    let timeline = Timeline(newest.max(parent).0 + 1);
    if let Some(cluster) = seen.cluster_mut() {
        unmark(&mut cluster.markers);
        cluster.markers.promote = false;
        cluster.state = ControlState::InProduction;
        cluster.newest_history = Some(timeline);
        cluster.branches.push(Branch { timeline: parent, end });
        let values = file_values(cluster);
        take_floors(cluster, &values);
    }
    if let Some(sql) = seen.sql_mut() {
        (sql.in_recovery, sql.timeline, sql.lsn) = (false, timeline, end);
        (sql.receiver, sql.replayed, sql.asks_from) = (None, None, None);
    }
}

/// The old primary is down, if it wasn't; returns where its WAL ends.
fn ended(observed: &mut Observed, node: &Node) -> Lsn {
    let seen = observed.node(&node.name);
    if let Some(sql) = seen.sql().filter(|sql| sql.in_recovery) {
        return sql.lsn;
    }
    if !seen.server.is_absent() {
        down(observed, node, ControlState::ShutDown);
    }
    let Some(cluster) = observed.node_mut(&node.name).cluster_mut() else { return Lsn(0) };
    *cluster.end.get_or_insert_default()
}
