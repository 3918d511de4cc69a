//! Role changes: the fence, and the promotion with the old primary's end.

use crate::observed::Observed;
use crate::observed::Reading;
use crate::pg::control::ControlState;
use crate::pg::history::Branch;
use crate::pg::lsn::Lsn;
use crate::pg::lsn::Timeline;
use crate::plan::Promote;
use crate::plan::check::file_values;
use crate::plan::predict::files::take_floors;
use crate::plan::predict::servers::cut_streams;
use crate::topology::Node;
use crate::topology::Topology;

pub(super) fn unfenced(observed: &mut Observed, node: &Node) {
    if let Some(cluster) = observed.node_mut(&node.name).cluster_mut() {
        cluster.markers.standby_signal = false;
        cluster.markers.recovery_signal = false;
        cluster.markers.recovery_conf = None;
    }
}

pub(super) fn promoted(observed: &mut Observed, topology: &Topology, node: &Node, promote: &Promote) {
    let mut end = observed.node(&node.name).sql().map_or(Lsn(0), |sql| sql.lsn);
    if let Some(from) = &promote.from {
        end = end.max(ended(observed, &topology.nodes[from]));
    }
    no_longer_follows(observed, node);
    let seen = observed.node_mut(&node.name);
    let parent = promote.parent;
    let newest = seen.cluster().and_then(|cluster| cluster.newest_history).unwrap_or(parent);
    let timeline = Timeline(newest.max(parent).0 + 1);
    if let Some(cluster) = seen.cluster_mut() {
        cluster.markers.standby_signal = false;
        cluster.markers.recovery_conf = None;
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

/// Nobody feeds it any more.
fn no_longer_follows(observed: &mut Observed, node: &Node) {
    for (_, other) in observed.nodes.iter_mut().filter(|(name, _)| **name != node.name) {
        if let Some(slot) = other.cluster_mut().and_then(|cluster| cluster.slots.get_mut(&node.slot_name())) {
            slot.active = false;
        }
        if let Some(sql) = other.sql_mut() {
            sql.senders.retain(|sender| !sender.is_of(&node.name));
        }
    }
}

/// The old primary is down, if it wasn't; returns where its WAL ends.
fn ended(observed: &mut Observed, node: &Node) -> Lsn {
    let seen = observed.node(&node.name);
    let timeline = seen.sql().map(|sql| sql.timeline);
    let written = seen.sql().map(|sql| (sql.lsn, sql.in_recovery));
    let was_running = !seen.server.is_absent();
    if let Some((lsn, true)) = written {
        return lsn;
    }
    if was_running {
        cut_streams(observed, node);
    }
    let seen = observed.node_mut(&node.name);
    seen.server = Reading::Absent;
    let Some(cluster) = seen.cluster_mut() else { return Lsn(0) };
    if was_running {
        cluster.state = ControlState::ShutDown;
        // Its last checkpoint is on the timeline that it wrote.
        cluster.timeline = timeline.unwrap_or(cluster.timeline);
        cluster.replication_role = Reading::Unknown("the server is stopped".into());
    }
    let end = cluster.end.or(written.map(|(lsn, _)| lsn)).unwrap_or_default();
    cluster.end = Some(end);
    end
}
