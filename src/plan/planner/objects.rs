//! What a server holds for its standbys: the replication role and the slots.

use std::collections::BTreeSet;

use crate::plan::Action;
use crate::plan::Impact;
use crate::plan::Reason;
use crate::plan::desired;
use crate::plan::drift;
use crate::plan::planner::Draft;
use crate::topology::Node;
use crate::topology::Role;

impl<'a> Draft<'a> {
    pub(super) fn replication_role(&mut self, primary: &Node) {
        let Some(cluster) = self.world.node(&primary.name).cluster() else { return };
        let was_running = self.observed.node(&primary.name).sql().is_some();
        let was_there = self.observed.node(&primary.name).cluster().is_some();
        let reason = if was_there && !was_running {
            Reason::KnownAfterStart
        } else if cluster.replication_role.known().is_some() {
            Reason::Differs(Vec::new())
        } else {
            Reason::Missing
        };
        let wanted = desired::role(self.topology, drift::owns_rules(primary, cluster));
        self.step(primary, Action::ReplicationRole(wanted), Impact::None, reason);
    }

    /// One slot for each standby that streams from this node, and on a standby one for each node that would follow it.
    pub(super) fn slots(&mut self, node: &Node) {
        if !self.topology.replication.slots {
            return;
        }
        let Some(cluster) = self.world.node(&node.name).cluster() else { return };
        let for_role_change = drift::owns_rules(node, cluster) && node.role == Role::Standby;
        let was_stopped =
            self.observed.node(&node.name).cluster().is_some() && self.observed.node(&node.name).sql().is_none();
        for follower in self.followers_of(node) {
            let reason = if was_stopped { Reason::KnownAfterStart } else { Reason::Missing };
            self.step(node, Action::Slot { name: follower.slot_name(), reserve: true }, Impact::None, reason);
        }
        if for_role_change {
            let fed = self.fed_slots(node);
            for name in desired::ready_slots(self.topology, node).filter(|name| !fed.contains(name)) {
                self.step(node, Action::Slot { name, reserve: false }, Impact::None, Reason::ForRoleChange);
            }
        }
    }

    /// Takes back the slots of nodes that are not made after all: they would hold back WAL for nobody.
    pub(super) fn forgo_slots_of_the_absent(&mut self) {
        let is_absent = |node: &&Node| self.is_stuck(node) && self.world.node(&node.name).cluster().is_none();
        let absent: BTreeSet<String> = self.topology.standbys().filter(is_absent).map(Node::slot_name).collect();
        let is_idle = |action: &Action| matches!(action, Action::Slot { name, reserve: true } if absent.contains(name));
        self.steps.retain(|step| !is_idle(&step.action));
    }

    pub(super) fn followers_of(&self, node: &Node) -> Vec<&'a Node> {
        self.followers.get(&node.name).cloned().unwrap_or_default()
    }

    pub(super) fn fed_slots(&self, node: &Node) -> BTreeSet<String> {
        self.followers_of(node).into_iter().map(Node::slot_name).collect()
    }

    /// A slot that feeds nobody must not hold back WAL.
    pub(super) fn idle_slots(&mut self, own: &BTreeSet<String>, node: &Node) {
        let seen = self.world.node(&node.name);
        let (Some(cluster), Some(_)) = (seen.cluster(), seen.sql()) else { return };
        let fed = if self.topology.replication.slots { self.fed_slots(node) } else { BTreeSet::new() };
        let idle = cluster.slots.iter().filter(|(name, slot)| {
            let is_ours = name.starts_with("pgpair_") || own.contains(*name);
            let keeps_wal = slot.reserved || !own.contains(*name);
            slot.physical && !slot.active && is_ours && keeps_wal && !fed.contains(*name)
        });
        let idle: Vec<String> = idle.map(|(name, _)| name.clone()).collect();
        if idle.is_empty() {
            return;
        }
        for name in idle {
            self.step(node, Action::DropSlot { name }, Impact::None, Reason::FeedsNobody);
        }
        // What a role change will need is made anew, without holding back WAL.
        self.slots(node);
    }
}
