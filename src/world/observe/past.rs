//! What a node's WAL files tell once all nodes were looked at: where a standby that receives nothing has got to, and what
//! one that went another way than the primary holds alone.

use std::path::Path;

use crate::observed::Cluster;
use crate::observed::Lost;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::observed::Receiver;
use crate::pg::history::Branch;
use crate::pg::lsn::Lsn;
use crate::pg::lsn::Timeline;
use crate::pg::version::Major;
use crate::pg::wal::walk::checkpoint_before;
use crate::pg::wal::walk::walk;
use crate::plan::pair;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Topology;
use crate::world::observe::place::read_control;
use crate::world::probe::wal;
use crate::world::user::Seat;

/// Looks further where what was seen so far asks for it.
pub(super) async fn look_back(topology: &Topology, observed: &mut Observed) {
    for node in topology.nodes.values() {
        let Ok(seat) = Seat::of_node(topology, node) else { continue };
        let seen = observed.node(&node.name);
        let Some(files) = seen.cluster().map(|cluster| Files::of(node, cluster)) else { continue };
        if receives_nothing(seen) {
            let files = files.clone();
            let end = seat.blocking(move || files.end()).await;
            if let Some(cluster) = observed.node_mut(&node.name).cluster_mut() {
                (cluster.end, cluster.end_timeline) = end.unzip();
            }
        }
        let primary = primary_of(topology, observed, node);
        let fork = pair::diverged(observed, &node.name, &primary).and_then(|diverged| diverged.fork);
        if let Some(fork) = fork.or_else(|| pair::parted_from_another(observed, &node.name)) {
            let lost = seat.blocking(move || files.behind(fork)).await;
            if let Some(cluster) = observed.node_mut(&node.name).cluster_mut() {
                cluster.lost = lost;
            }
        }
    }
}

/// The node of the cluster that accepts writes, or is to.
fn primary_of(topology: &Topology, observed: &Observed, node: &Node) -> NodeName {
    let identity = observed.node(&node.name).cluster().map(|cluster| &cluster.identity);
    let is_other = |name: &NodeName, seen: &NodeObserved| {
        *name != node.name && seen.accepts_writes() && seen.cluster().map(|cluster| &cluster.identity) == identity
    };
    let writer = observed.nodes.iter().find(|(name, seen)| is_other(name, seen));
    writer.map_or(&topology.primary().name, |(name, _)| name).clone()
}

/// A running standby whose WAL does not grow: then its files say more than the server, which does not tell the timeline of
/// what it has replayed.
fn receives_nothing(seen: &NodeObserved) -> bool {
    seen.sql().is_some_and(|sql| sql.in_recovery && !sql.receiver.as_ref().is_some_and(Receiver::streams))
}

/// The WAL files of a node, and what is needed to read them.
#[derive(Clone, Debug)]
struct Files {
    data_dir: String,
    major: Major,
    branches: Vec<Branch>,
    newest_history: Option<Timeline>,
}

impl Files {
    fn of(node: &Node, cluster: &Cluster) -> Self {
        Self {
            data_dir: node.data_dir.clone(),
            major: cluster.major,
            branches: cluster.branches.clone(),
            newest_history: cluster.newest_history,
        }
    }

    fn end(&self) -> Option<(Lsn, Timeline)> {
        let dir = Path::new(&self.data_dir);
        let control = read_control(dir, self.major).ok()?.ok()?;
        wal::end(&dir.join("pg_wal"), &control, &self.branches, self.newest_history, true).ok()?
    }

    /// Counts what begins at the fork, which is the end of a record.
    fn behind(&self, fork: Lsn) -> Option<Lost> {
        let dir = Path::new(&self.data_dir);
        let control = read_control(dir, self.major).ok()?.ok()?;
        let pg_wal = dir.join("pg_wal");
        let segments = || wal::Segments::of(&pg_wal, &control, &self.branches, self.newest_history);
        let walked = walk(segments(), control.wal_segment_size, fork, fork).ok()??;
        let rewind_from = checkpoint_before(segments(), control.wal_segment_size, fork).ok()?;
        Some(Lost { transactions: walked.commits, last_commit: walked.last_commit, rewind_from })
    }
}
