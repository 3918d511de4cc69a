//! The one predicate: whether the goal of an action is reached, may be worked towards, or must not be.
//!
//! It is asked three times over: by the planner in the predicted world, by the executor before a step in the real
//! one (is it needed still, and does the world look as planned?), and after it (was the goal reached?). It proves
//! the cause and not the symptom, and whatever is unsafe is refused here, so that plan and executor can't disagree.
//! `predict` says beside it what an action makes of the world.

use std::collections::BTreeMap;

use crate::observed::Cluster;
use crate::observed::Controller;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::observed::Permission;
use crate::observed::Place;
use crate::observed::Reading;
use crate::observed::Sql;
use crate::plan::Action;
use crate::plan::Refusal;
use crate::plan::synchronous;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Topology;

mod copies;
mod failover;
mod feeds;
mod files;
mod hooks;
mod objects;
mod rejoin;
mod roles;
mod servers;
mod tls;

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The goal is reached.
    Satisfied,
    /// The goal is not reached, and the step may be done.
    Ready,
    /// The step must not be done.
    Blocked(Refusal),
}

/// Judges an action on a node of the topology in a world, real or predicted.
#[must_use]
pub fn check(node: &NodeName, action: &Action, topology: &Topology, observed: &Observed) -> Check {
    let at = At { topology, observed, node: &topology.nodes[node], seen: observed.node(node) };
    let result = match action {
        Action::CreatePrimary(create) => at.create_primary(create),
        Action::Clone(clone) => at.clone_from(clone),
        Action::Rewind(rewind) => at.rewind(rewind),
        Action::StandbyFiles(_) => at.standby_files(),
        Action::Configure(configure) => at.configure(configure),
        Action::Hba { block, before } => at.hba(block, before),
        Action::Passfile { .. } => at.passfile(),
        Action::Mode => at.mode(),
        Action::Fence(fence) => at.fence(fence),
        Action::FenceOff => at.fence_off(),
        Action::TakeDown => at.take_down(),
        Action::Unfence => at.unfence(),
        Action::Promote(promote) => at.promote(promote),
        Action::Hook(hook) => at.hook(hook),
        Action::Stop(purpose) => at.stop(purpose),
        Action::Start { role } => at.start(*role),
        Action::ReplicationRole(wanted) => at.replication_role(wanted),
        Action::Slot { name, reserve } => at.slot(name, *reserve),
        Action::DropSlot { name } => at.drop_slot(name),
        Action::Streaming { upstream } => at.streaming(upstream),
        Action::RemoveOld => at.remove_old(),
    };
    match result {
        Ok(true) => Check::Satisfied,
        // Last of all: what is refused for another reason needs no way made for it.
        Ok(false)
            if synchronous::ends_stream(at.node, action) && synchronous::would_hang(topology, observed, at.node) =>
        {
            let primary = topology.primary().name.clone();
            Check::Blocked(Refusal::CommitsWouldHang { primary, standby: node.clone() })
        }
        Ok(false) => Check::Ready,
        Err(refusal) => Check::Blocked(refusal),
    }
}

/// Whether a server can start on the data directory of a stopped node, as far as its machine goes.
///
/// # Errors
///
/// What keeps it from starting, which no step of a plan removes: then nothing is to be done to its files either.
pub fn can_start(node: &Node, topology: &Topology, observed: &Observed) -> Result<(), Refusal> {
    let at = At { topology, observed, node, seen: observed.node(&node.name) };
    at.cluster().and_then(|cluster| at.can_start(cluster))
}

/// Whether the goal is reached; an error where it is not and must not be worked towards.
type Verdict = Result<bool, Refusal>;

/// A node in a world.
struct At<'a> {
    topology: &'a Topology,
    observed: &'a Observed,
    node: &'a Node,
    seen: &'a NodeObserved,
}

impl<'a> At<'a> {
    /// Another node in the same world.
    fn of(&self, node: &NodeName) -> Self {
        Self { node: &self.topology.nodes[node], seen: self.observed.node(node), ..*self }
    }

    fn name(&self) -> NodeName {
        self.node.name.clone()
    }

    fn not_ready(&self, why: &str) -> Refusal {
        Refusal::NotReady { why: format!("{} {why}", self.node.name) }
    }

    /// The same, where planning again does not help by itself.
    fn not_ready_until(&self, why: &str, remedy: impl Into<String>) -> Refusal {
        Refusal::NotReadyUntil { why: format!("{} {why}", self.node.name), remedy: remedy.into() }
    }

    fn place(&self) -> Result<&'a Place, Refusal> {
        let out_of_reach = |why: &str| Refusal::OutOfReach { node: self.name(), why: why.to_owned() };
        match &self.seen.place {
            Reading::Known(place) => Ok(place),
            Reading::Absent => Err(out_of_reach("its place was not looked at")),
            Reading::Unknown(why) => Err(out_of_reach(why)),
        }
    }

    fn cluster(&self) -> Result<&'a Cluster, Refusal> {
        self.place()?;
        self.seen.cluster().ok_or_else(|| self.not_ready("has no data directory"))
    }

    fn sql(&self) -> Result<&'a Sql, Refusal> {
        let server = self.seen.server.known().ok_or_else(|| self.not_ready("is not running"))?;
        match &server.sql {
            Reading::Known(sql) => Ok(sql),
            Reading::Unknown(why) => Err(Refusal::NoAnswer { node: self.name(), why: why.clone() }),
            Reading::Absent => Err(Refusal::NoAnswer { node: self.name(), why: "it was not asked".into() }),
        }
    }

    /// No server runs here, seen for certain.
    fn stopped(&self) -> Result<(), Refusal> {
        match &self.seen.server {
            Reading::Absent => Ok(()),
            Reading::Known(_) => Err(self.not_ready("is running")),
            Reading::Unknown(why) => Err(Refusal::OutOfReach { node: self.name(), why: why.clone() }),
        }
    }

    /// The server accepts writes.
    fn writes(&self) -> Result<&'a Sql, Refusal> {
        let sql = self.sql()?;
        if sql.in_recovery { Err(self.not_ready("is in recovery")) } else { Ok(sql) }
    }

    fn binaries(&self) -> Result<(), Refusal> {
        let unusable = |why: String| Err(Refusal::Binaries { node: self.name(), why });
        let wanted = self.topology.postgresql.version;
        match &self.seen.binaries {
            Reading::Known(binaries) if binaries.major == wanted => Ok(()),
            Reading::Known(binaries) => unusable(format!(
                "{} has PostgreSQL {}, the topology says {wanted}",
                binaries.bin_dir, binaries.version
            )),
            Reading::Absent => unusable("there are none".into()),
            Reading::Unknown(why) => unusable(why.clone()),
        }
    }

    /// Nobody keeps us from starting and stopping the server.
    fn may_control(&self) -> Result<(), Refusal> {
        match &self.seen.controller {
            Reading::Known(Controller::Unit { unit, permission: Permission::Refused(why) }) => {
                Err(Refusal::UnitRefused { node: self.name(), unit: unit.clone(), why: why.clone() })
            }
            Reading::Known(
                Controller::Unit { permission: Permission::Given | Permission::BySudo, .. }
                | Controller::PgCtl
                | Controller::PgCtlCluster { .. }
                | Controller::Commands,
            )
            | Reading::Absent => Ok(()),
            Reading::Unknown(why) => Err(Refusal::OutOfReach { node: self.name(), why: why.clone() }),
        }
    }

    fn port_is_free(&self) -> Result<(), Refusal> {
        match &self.seen.port_taken {
            Reading::Absent => Ok(()),
            Reading::Known(by) => Err(Refusal::PortTaken { node: self.name(), port: self.node.port, by: by.clone() }),
            Reading::Unknown(why) => Err(Refusal::OutOfReach { node: self.name(), why: why.clone() }),
        }
    }
}

/// Returns the values of a settings map as the files of a node would have them, for predictions.
#[must_use]
pub(super) fn file_values(cluster: &Cluster) -> BTreeMap<String, String> {
    let values = cluster.conf.read().unwrap_or_default().values;
    values.into_iter().map(|(name, placed)| (name, placed.value)).collect()
}
