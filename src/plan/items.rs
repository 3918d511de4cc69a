//! What of a cluster is not as its topology says: the items of `pgpair drift`.
//!
//! They are read off the plan, so that the two can't disagree: where there is no step and nothing blocked, nothing has
//! drifted. What a plan does only in the wake of something else (a start after a restart, waiting for a stream) is no
//! item. Two classes come from the observation alone: what only a role change will need, and what could not be seen.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::observed::Cluster;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::observed::Passfile;
use crate::plan::Action;
use crate::plan::FileDiff;
use crate::plan::Impact;
use crate::plan::Plan;
use crate::plan::Reason;
use crate::plan::Refusal;
use crate::plan::SetBy;
use crate::plan::Step;
use crate::plan::StopFor;
use crate::topology::NodeName;
use crate::topology::Topology;

mod configuration;
mod objects;
mod refused;
mod role_change;
mod unseen;

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub class: Class,
    /// Absent where it is about the whole cluster.
    pub node: Option<NodeName>,
    /// The parameter, file, role, slot, … that it is about.
    pub subject: String,
    pub now: Option<String>,
    pub wanted: Option<String>,
    /// Who wins now.
    pub set_by: Option<SetBy>,
    pub why: Why,
    /// What `apply` would do about it; absent where it can't, or need not.
    pub impact: Option<Impact>,
    pub diff: Vec<FileDiff>,
}

/// What kind of difference it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Somebody changed it behind pgpair's back.
    Drift,
    /// The topology is newer than its last apply.
    Pending,
    /// A switchover would be refused today.
    NotReady,
    /// It can't be seen from here.
    Unseen,
}

/// Why something is an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// pgpair's block was edited by hand.
    BlockEdited,
    /// The file is a copy of this node's.
    BlockOf(String),
    /// The block asks for it, and something else counts.
    BlockOverruled,
    /// The block of pg_hba.conf is no longer before the first rule.
    BlockMoved,
    /// The block does not have it, and what counts in its place is not what the topology asks for.
    NotInBlock,
    /// The block is as pgpair wrote it, for an older topology.
    TopologyNewer,
    /// Somebody has changed it in a file, and it waits for a restart.
    Waiting,
    /// As the step of the plan has it.
    Step(Reason),
    /// The plan is blocked by it.
    Refused(Refusal),
    /// The node, or its server, did not answer.
    OutOfReach(Refusal),
    /// Only a role change needs it.
    RoleChange,
    /// It was not compared.
    NotSeen { why: String, remedy: String },
}

/// Returns what differs, the worst first and then in the order of the plan.
#[must_use]
pub fn items(topology: &Topology, observed: &Observed, plan: &Plan) -> Vec<Item> {
    let mut draft = Draft { topology, observed, plan, items: Vec::new() };
    draft.steps();
    draft.refused();
    draft.role_change();
    draft.unseen();
    draft.items.sort_by_key(|item| item.class);
    draft.items
}

struct Draft<'a> {
    topology: &'a Topology,
    observed: &'a Observed,
    plan: &'a Plan,
    items: Vec<Item>,
}

impl<'a> Draft<'a> {
    fn steps(&mut self) {
        let newer = self.topology_is_newer();
        let mut made_anew = BTreeSet::new();
        let mut is_away = false;
        for step in &self.plan.steps {
            let node = &step.node;
            if made_anew.contains(node) || step.only_for.is_some() {
                continue;
            }
            match &step.action {
                Action::CreatePrimary(_) | Action::Clone(_) => {
                    self.data_directory(step, newer);
                    made_anew.insert(node);
                }
                Action::Configure(_) if matches!(step.reason, Reason::StandbyLeaves(_)) => is_away = true,
                Action::Configure(configure) => self.parameters(step, configure, is_away),
                Action::Hba { block, .. } => self.rules(step, block),
                Action::StandbyFiles(_) => self.standby_files(step, newer),
                Action::Passfile { .. } => self.passfile(step, newer),
                Action::ReplicationRole(wanted) => self.replication_role(step, wanted, newer),
                Action::Slot { name, .. } | Action::DropSlot { name } => self.slot(step, name, newer),
                Action::Mode => self.push(step, "mode of the data directory", Class::Drift),
                Action::RemoveOld => self.push(step, "replaced data directory", Class::Drift),
                Action::Start { role } => {
                    if self.observed.node(node).server.is_absent() {
                        let item = Item { now: text("stopped"), wanted: text(&format!("runs as {role}")), ..of(step) };
                        self.add(Item { subject: "server".into(), ..item });
                    }
                }
                // A standby is stopped for a step that has an item of its own.
                Action::Stop(StopFor::Clone { .. } | StopFor::Restart) => {}
                Action::Streaming { upstream } => self.streaming(step, upstream),
            }
        }
    }

    fn seen(&self, node: &NodeName) -> &'a NodeObserved {
        self.observed.node(node)
    }

    fn cluster(&self, node: &NodeName) -> Option<&'a Cluster> {
        self.seen(node).cluster()
    }

    /// What a step changes is often changed by a later one of the same plan too: the first tells what is there now.
    fn add(&mut self, item: Item) {
        let same = |other: &&mut Item| other.node == item.node && other.subject == item.subject;
        match self.items.iter_mut().find(same) {
            Some(first) => first.impact = first.impact.max(item.impact),
            None => self.items.push(item),
        }
    }

    fn push(&mut self, step: &Step, subject: &str, class: Class) {
        self.add(Item { class, subject: subject.into(), ..of(step) });
    }

    /// A standby that receives nothing is an item; one that receives by another way is told that way by another item.
    fn streaming(&mut self, step: &Step, upstream: &NodeName) {
        let Some(sql) = self.seen(&step.node).sql() else { return };
        if self.seen(upstream).sql().is_none() {
            return;
        }
        let status = sql.receiver.as_ref().map(|receiver| receiver.status.as_str());
        let about = |item: &Item, node: &NodeName| item.node.as_ref() == Some(node);
        let is_told = self.items.iter().any(|item| about(item, &step.node) || about(item, upstream));
        if status == Some("streaming") && is_told {
            return;
        }
        let now = status.map_or_else(|| "no walreceiver".to_owned(), |status| format!("walreceiver: {status}"));
        let wanted = text(&format!("streams from {upstream}"));
        self.add(Item { subject: "replication".into(), now: Some(now), wanted, ..of(step) });
    }

    /// The passfile is compared with the topology's secret, which a cron job need not have.
    fn is_compared(&self, node: &NodeName) -> bool {
        self.cluster(node).is_some_and(|cluster| cluster.passfile != Passfile::NotCompared)
    }
}

fn text(words: &str) -> Option<String> {
    Some(words.to_owned())
}

/// An item of a step, its subject still to be named.
fn of(step: &Step) -> Item {
    let why = Why::Step(step.reason.clone());
    Item { impact: Some(step.impact), ..bare(Class::Drift, Some(step.node.clone()), "", why) }
}

/// An item of which no more is known.
fn bare(class: Class, node: Option<NodeName>, subject: &str, why: Why) -> Item {
    let subject = subject.to_owned();
    Item { class, node, subject, now: None, wanted: None, set_by: None, why, impact: None, diff: Vec::new() }
}

#[cfg(test)]
mod tests;
