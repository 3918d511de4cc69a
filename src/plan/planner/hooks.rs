//! Hooks: what runs around a role change, in the plan that makes it and in a later one that owes it.

use crate::pg::lsn::Timeline;
use crate::plan::Action;
use crate::plan::Impact;
use crate::plan::Reason;
use crate::plan::hook::Done;
use crate::plan::hook::Hook;
use crate::plan::hook::HookPoint;
use crate::plan::hook::Owed;
use crate::plan::hook::owed as owed_in;
use crate::plan::planner::Draft;
use crate::topology::Node;
use crate::topology::NodeName;

impl Draft<'_> {
    /// What comes before a switchover, noted on the node that becomes the primary. Without an old primary that could
    /// be told of it, what comes after the promotion is noted alone.
    pub(super) fn hooks_before(
        &mut self,
        candidate: &Node,
        from: Option<&NodeName>,
        timeline: Timeline,
        reason: &Reason,
    ) {
        if self.topology.hooks.is_empty() {
            return;
        }
        let noted = self.owed_by(&candidate.name).filter(|noted| noted.timeline == timeline);
        let known = noted.and_then(|noted| noted.from).filter(|_| from.is_none());
        let owed = Owed { from: from.cloned().or(known), timeline, done: Done::Nothing };
        let mut hook = self.hook(candidate, HookPoint::BeforeSwitchover, owed);
        if from.is_none() {
            hook.commands.clear();
        }
        self.step(candidate, Action::Hook(hook), Impact::None, reason.clone());
    }

    /// Before a forced promotion no hook runs; what comes after it is noted.
    pub(super) fn note_hooks(&mut self, candidate: &Node, old: &NodeName, timeline: Timeline, reason: &Reason) {
        if self.topology.hooks.is_empty() {
            return;
        }
        let owed = Owed { from: Some(old.clone()), timeline, done: Done::Nothing };
        let mut hook = self.hook(candidate, HookPoint::BeforeSwitchover, owed);
        hook.commands.clear();
        self.step(candidate, Action::Hook(hook), Impact::None, reason.clone());
    }

    /// What comes right after the promotion, where it is owed.
    pub(super) fn hooks_after_promotion(&mut self, primary: &Node) {
        let owed = self.owed_by(&primary.name).filter(|owed| owed.done < Done::AfterPromotion);
        let Some(owed) = owed.filter(|_| self.is_writer(&primary.name)) else { return };
        let hook = self.hook(primary, HookPoint::AfterPromotion, owed);
        if !hook.commands.is_empty() {
            self.step(primary, Action::Hook(hook), Impact::None, Reason::HooksOwed);
        }
    }

    /// What comes last, where it is owed: nothing is, from then on.
    pub(super) fn hooks_after_switchover(&mut self, primary: &Node) {
        let owed = self.owed_by(&primary.name).filter(|_| self.is_writer(&primary.name));
        if let Some(owed) = owed {
            let hook = self.hook(primary, HookPoint::AfterSwitchover, owed);
            self.step(primary, Action::Hook(hook), Impact::None, Reason::HooksOwed);
        }
    }

    /// The hooks of a role change that was not made: each standby that was to be the primary, but for the one that still
    /// is to be.
    pub(super) fn hooks_undone(&mut self) {
        if !self.is_writer(&self.topology.primary().name) {
            return;
        }
        let (topology, candidate) = (self.topology, self.candidate);
        for standby in topology.standbys().filter(|standby| candidate != Some(&standby.name)) {
            let Some(owed) = self.owed_by(&standby.name) else { continue };
            let mut hook = self.hook(standby, HookPoint::SwitchoverUndone, owed);
            let has_begun = !self.topology.hooks.before_switchover.is_empty();
            if !has_begun || hook.owed.done == Done::AfterPromotion {
                hook.commands.clear();
            }
            self.step(standby, Action::Hook(hook), Impact::None, Reason::TakenBack);
        }
    }

    fn hook(&self, node: &Node, point: HookPoint, owed: Owed) -> Hook {
        let commands = point.commands(&self.topology.hooks).to_vec();
        let conf = self.observed.node(&node.name).cluster().map_or("", |own| own.conf.main.text.as_str());
        let resumed = owed_in(conf, &node.name).is_some_and(|before| before.is_of(&owed));
        Hook { point, commands, owed, resumed }
    }

    fn owed_by(&self, node: &NodeName) -> Option<Owed> {
        owed_in(&self.world.node(node).cluster()?.conf.main.text, node)
    }

    fn is_writer(&self, node: &NodeName) -> bool {
        self.world.node(node).accepts_writes()
    }
}
