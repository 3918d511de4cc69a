//! Whether pg_rewind can bring a node back whose WAL went another way than the primary's. Where it can't, the node is
//! cloned anew.

use crate::observed::Cluster;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::observed::Reading;
use crate::pg::control::ControlState;
use crate::pg::guc;
use crate::pg::version::StandbyMode;
use crate::plan::drift;
use crate::plan::pair::Diverged;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Topology;

/// Returns why the node can't be rewound to what the source has, if it can't.
#[must_use]
pub fn impossible(
    topology: &Topology,
    observed: &Observed,
    node: &Node,
    source: &NodeName,
    diverged: &Diverged,
) -> Option<String> {
    let (seen, leader) = (observed.node(&node.name), observed.node(source));
    let (Some(own), Some(theirs)) = (seen.cluster(), leader.cluster()) else {
        return Some(format!("{} or {source} can't be looked at", node.name));
    };
    by_programs(topology, seen).or_else(|| of_target(own)).or_else(|| of_fork(own, theirs, source, diverged)).or_else(
        || {
            let is_off = |leader: &NodeObserved| {
                let full = leader.sql().and_then(|sql| sql.settings.get("full_page_writes"));
                full.is_some_and(|full| !guc::same(topology.postgresql.version, "full_page_writes", &full.value, "on"))
            };
            if is_off(leader) {
                return Some(format!("{source} runs with full_page_writes off"));
            }
            let may = |role: &crate::observed::ReplicationRole| role.rewind_grants || role.superuser;
            if let Reading::Known(role) = &theirs.replication_role
                && !may(role)
            {
                return Some(format!(
                    "`{}` has no EXECUTE on the functions of pg_rewind on {source}",
                    topology.replication.user
                ));
            }
            let is_shut_out = !drift::admits(topology, theirs, node);
            is_shut_out.then(|| format!("pg_hba.conf of {source} does not admit {} for pg_rewind", node.name))
        },
    )
}

fn by_programs(topology: &Topology, seen: &NodeObserved) -> Option<String> {
    let major = topology.postgresql.version;
    match major.dialect().standby_mode {
        // Before version 12 pgpair rewinds nothing.
        StandbyMode::RecoveryConf => return Some(format!("pgpair rewinds from version 12 on, and this is {major}")),
        StandbyMode::SignalFile => {}
    }
    let is_there = seen.binaries.known().is_some_and(|binaries| binaries.rewind);
    (!is_there).then(|| format!("there is no pg_rewind of version {major} beside its server"))
}

/// What the directory itself asks for.
fn of_target(own: &Cluster) -> Option<String> {
    if !own.checksums && !own.wal_log_hints {
        return Some("it ran with neither data checksums nor wal_log_hints".into());
    }
    if own.waldir.is_some() || !own.tablespaces.is_empty() {
        return Some("parts of it lie outside its data directory".into());
    }
    let is_clean = matches!(own.state, ControlState::ShutDown | ControlState::ShutDownInRecovery);
    let is_elsewhere = own.end_timeline.is_some_and(|timeline| timeline != own.timeline);
    (!is_clean && is_elsewhere).then(|| {
        format!("it crashed before its first checkpoint on timeline {}", own.end_timeline.unwrap_or(own.timeline))
    })
}

/// The WAL from the fork on, of both.
fn of_fork(own: &Cluster, theirs: &Cluster, source: &NodeName, diverged: &Diverged) -> Option<String> {
    if diverged.same_number {
        return Some(format!("both have a timeline {}, which pg_rewind would take for one", diverged.timeline));
    }
    let Some(fork) = diverged.fork else { return Some(format!("no common point with {source} is known")) };
    let lacks = |cluster: &Cluster| cluster.wal.is_some_and(|wal| wal.oldest > fork);
    if lacks(own) {
        Some(format!("its own WAL from {fork} on is gone"))
    } else {
        lacks(theirs).then(|| format!("the WAL of {source} from {fork} on is gone"))
    }
}
