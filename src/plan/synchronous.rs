//! Synchronous replication: what `synchronous_standby_names` of the primary is to be, and when it may be that.
//!
//! The value goes in once enough of its standbys stream, and out before the last one that it needs is taken away, so
//! that no commit hangs on pgpair's account (protocol, section 3). What hangs already, because a standby went by
//! itself, is the operator's choice and stays.

use crate::observed::Observed;
use crate::pg::guc;
use crate::plan::Action;
use crate::plan::Configure;
use crate::plan::Effect;
use crate::plan::drift;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Role;
use crate::topology::SyncMethod;
use crate::topology::Synchronous;
use crate::topology::Topology;

/// The parameter.
pub const NAMES: &str = "synchronous_standby_names";

/// Returns the value that the topology asks for, where it asks for one.
#[must_use]
pub fn names(topology: &Topology) -> Option<String> {
    let wanted = topology.replication.synchronous.as_ref()?;
    let names: Vec<String> =
        candidates(topology, wanted).map(|node| format!("\"{}\"", node.name.as_str().replace('"', "\"\""))).collect();
    let method = match wanted.method {
        SyncMethod::First => "FIRST",
        SyncMethod::Any => "ANY",
    };
    Some(format!("{method} {} ({})", wanted.num, names.join(", ")))
}

/// Whether commits may be told to wait for this standby.
#[must_use]
pub fn is_candidate(topology: &Topology, node: &Node) -> bool {
    let wanted = topology.replication.synchronous.as_ref();
    wanted.is_some_and(|wanted| can_confirm(topology, wanted, node))
}

fn candidates<'a>(topology: &'a Topology, wanted: &'a Synchronous) -> impl Iterator<Item = &'a Node> {
    topology.standbys().filter(|standby| can_confirm(topology, wanted, standby))
}

/// Whether a node can confirm commits: a standby, named, streaming from the primary itself, and not late by intention.
fn can_confirm(topology: &Topology, wanted: &Synchronous, node: &Node) -> bool {
    node.role == Role::Standby
        && (wanted.standbys.is_empty() || wanted.standbys.contains(&node.name))
        && topology.upstream(node).role == Role::Primary
        && !drift::is_delayed(topology, node)
}

/// Whether as many standbys stream as commits will wait for, `without` not counted.
#[must_use]
pub fn enough_stream(topology: &Topology, observed: &Observed, without: Option<&NodeName>) -> bool {
    let Some(wanted) = &topology.replication.synchronous else { return true };
    let Some(primary) = observed.node(&topology.primary().name).sql() else { return false };
    let streams = candidates(topology, wanted).filter(|node| {
        Some(&node.name) != without
            && primary.senders.iter().any(|sender| {
                sender.state == "streaming" && sender.application_name.eq_ignore_ascii_case(node.name.as_str())
            })
    });
    usize::try_from(wanted.num).is_ok_and(|num| streams.count() >= num)
}

/// Whether the running primary may be told to wait for these: it does already, or enough of them stream.
#[must_use]
pub fn may_wait_for(topology: &Topology, observed: &Observed, names: &str) -> bool {
    let now = in_force(topology, observed);
    now.is_some_and(|now| guc::same(topology.postgresql.version, NAMES, names, now))
        || enough_stream(topology, observed, None)
}

/// Returns what the running primary has in force.
#[must_use]
pub fn in_force<'a>(topology: &Topology, observed: &'a Observed) -> Option<&'a str> {
    let sql = observed.node(&topology.primary().name).sql()?;
    sql.settings.get(NAMES).map(|setting| setting.value.as_str())
}

/// Whether taking the standby's stream away would leave the running primary waiting for too few.
#[must_use]
pub fn would_hang(topology: &Topology, observed: &Observed, standby: &Node) -> bool {
    let waits = in_force(topology, observed).is_some_and(|names| !names.is_empty());
    waits && is_candidate(topology, standby) && !enough_stream(topology, observed, Some(&standby.name))
}

/// Whether an action on a standby ends its stream for a while.
#[must_use]
pub fn ends_stream(node: &Node, action: &Action) -> bool {
    if node.role == Role::Primary {
        return false;
    }
    match action {
        Action::Configure(Configure { effect, .. }) => *effect == Effect::Restart,
        Action::Clone(clone) => clone.replaces.is_some(),
        Action::Stop(_) => true,
        Action::CreatePrimary(_)
        | Action::Mode
        | Action::Rewind(_)
        | Action::StandbyFiles(_)
        | Action::Fence(_)
        | Action::FenceOff
        | Action::TakeDown
        | Action::Unfence
        | Action::Promote(_)
        | Action::Hook(_)
        | Action::Hba { .. }
        | Action::Passfile { .. }
        | Action::Start { .. }
        | Action::ReplicationRole(_)
        | Action::Slot { .. }
        | Action::DropSlot { .. }
        | Action::Streaming { .. }
        | Action::RemoveOld => false,
    }
}
