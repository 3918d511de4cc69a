//! Items of parameters, one each, and of pg_hba.conf: who changed them, as far as pgpair's block tells.
//!
//! The checksum of the block tells whether anybody but pgpair wrote it. Intact, it is what the last apply asked for: if
//! the topology asks for something else by now, the topology is newer; if not, the server or a file was changed.

use std::collections::BTreeMap;

use crate::pg::block;
use crate::pg::block::Block;
use crate::pg::conf;
use crate::plan::Action;
use crate::plan::Cause;
use crate::plan::Configure;
use crate::plan::Difference;
use crate::plan::Reason;
use crate::plan::Step;
use crate::plan::desired;
use crate::plan::items::Class;
use crate::plan::items::Draft;
use crate::plan::items::Item;
use crate::plan::items::Why;
use crate::plan::items::of;
use crate::plan::synchronous::NAMES;
use crate::topology::Node;
use crate::topology::NodeName;

/// pgpair's block in a file, by what can be known of who wrote it last.
enum Written {
    Nowhere,
    ForNode(String),
    ByHand,
    ByPgpair(Block),
}

impl Written {
    /// A file whose markers do not pair up is refused by the plan.
    fn in_file(node: &NodeName, file: &str) -> Self {
        match block::find(file).ok().flatten() {
            None => Self::Nowhere,
            Some(found) if found.block.node != node.as_str() => Self::ForNode(found.block.node),
            Some(found) if !found.intact => Self::ByHand,
            Some(found) => Self::ByPgpair(found.block),
        }
    }
}

impl Draft<'_> {
    /// One item for each parameter. `is_away`: an earlier step of this plan has turned synchronous commits off.
    pub(super) fn parameters(&mut self, step: &Step, configure: &Configure, is_away: bool) {
        let node = &self.topology.nodes[&step.node];
        let file = self.cluster(&step.node).map_or("", |cluster| cluster.conf.main.text.as_str());
        let written = Written::in_file(&step.node, file);
        let Reason::Differs(differences) = &step.reason else {
            let why = match written {
                Written::ForNode(other) => Why::BlockOf(other),
                Written::ByHand => Why::BlockEdited,
                Written::Nowhere | Written::ByPgpair(_) => Why::Step(step.reason.clone()),
            };
            return self.add(Item { subject: "postgresql.conf".into(), why, diff: step.diff.clone(), ..of(step) });
        };
        for difference in differences {
            if is_away && difference.name == NAMES && self.runs_with(node, configure, NAMES) {
                continue;
            }
            let (class, why) = self.judge(node, &written, configure, difference);
            let Difference { name, now, set_by, then, .. } = difference.clone();
            let then = then.or_else(|| matches!(difference.cause, Cause::Restored(_)).then(|| "(default)".to_owned()));
            self.add(Item { class, subject: name, now, wanted: then, set_by, why, ..of(step) });
        }
    }

    /// Whether the server has what a step is only to bring back.
    fn runs_with(&self, node: &Node, configure: &Configure, name: &str) -> bool {
        let now = self.seen(&node.name).sql().and_then(|sql| sql.settings.get(name));
        let wanted = configure.settings.get(name);
        wanted.zip(now).is_some_and(|(wanted, now)| desired::value_holds(self.topology, node, name, wanted, &now.value))
    }

    fn judge(&self, node: &Node, written: &Written, configure: &Configure, difference: &Difference) -> (Class, Why) {
        let set: BTreeMap<String, String> = match written {
            Written::Nowhere => BTreeMap::new(),
            Written::ForNode(other) => return (Class::Drift, Why::BlockOf(other.clone())),
            Written::ByHand => return (Class::Drift, Why::BlockEdited),
            Written::ByPgpair(block) => conf::set_by(block),
        };
        let name = &difference.name;
        match difference.cause {
            Cause::Waiting(_) => (Class::Drift, Why::Waiting),
            Cause::Restored(_) => (Class::Pending, Why::TopologyNewer),
            Cause::Wanted => match (set.get(name), configure.settings.get(name)) {
                (None, _) => (Class::Drift, Why::NotInBlock),
                (Some(set), Some(wanted)) if desired::value_holds(self.topology, node, name, wanted, set) => {
                    (Class::Drift, Why::BlockOverruled)
                }
                (Some(_), _) => (Class::Pending, Why::TopologyNewer),
            },
        }
    }

    /// The block of pg_hba.conf is one item, with its diff.
    pub(super) fn rules(&mut self, step: &Step, wanted: &Block) {
        let file = self.cluster(&step.node).map_or("", |cluster| cluster.hba.as_str());
        let (class, why) = match Written::in_file(&step.node, file) {
            Written::Nowhere => (Class::Drift, Why::Step(step.reason.clone())),
            Written::ForNode(other) => (Class::Drift, Why::BlockOf(other)),
            Written::ByHand => (Class::Drift, Why::BlockEdited),
            Written::ByPgpair(block) if block == *wanted && step.reason == Reason::NotInForce => {
                (Class::Drift, Why::Step(step.reason.clone()))
            }
            Written::ByPgpair(block) if block == *wanted => (Class::Drift, Why::BlockMoved),
            Written::ByPgpair(_) => (Class::Pending, Why::TopologyNewer),
        };
        self.add(Item { class, subject: "pg_hba.conf".into(), why, diff: step.diff.clone(), ..of(step) });
    }

    /// Whether some block of the cluster is as pgpair wrote it for another set of nodes, or another way between them.
    ///
    /// Then slots, passfiles and the like, which bear no mark of who made them, are taken to be as new as it.
    pub(super) fn topology_is_newer(&self) -> bool {
        self.plan.steps.iter().any(|step| {
            let Some(cluster) = self.cluster(&step.node) else { return false };
            if let Action::Hba { block, .. } = &step.action {
                return matches!(Written::in_file(&step.node, &cluster.hba), Written::ByPgpair(found) if found != *block);
            }
            let Some(configure) = step.action.as_configure() else { return false };
            let Written::ByPgpair(block) = Written::in_file(&step.node, &cluster.conf.main.text) else { return false };
            let (node, set) = (&self.topology.nodes[&step.node], conf::set_by(&block));
            ["port", "primary_conninfo", "primary_slot_name"].into_iter().any(|name| {
                let both = configure.settings.get(name).zip(set.get(name));
                both.is_some_and(|(wanted, set)| !desired::value_holds(self.topology, node, name, wanted, set))
            })
        })
    }
}
