//! How a role change ends that could not be finished: taken back, or left to go forward.
//!
//! Until a promotion is asked for, the old primary gets its role back: a plan for the roles as they were. A stop of
//! PostgreSQL can't be called back, so that it is started again. From the promote file on there is only forward
//! (protocol, section 2).

use std::time::Instant;

use tokio::sync::watch;

use super::FIRST_PAUSE;
use super::Limits;
use super::Run;
use crate::event::Change;
use crate::event::Event;
use crate::observed::Observed;
use crate::observed::Server;
use crate::observed::comes_up_as;
use crate::plan::Action;
use crate::plan::Reason;
use crate::plan::Step;
use crate::plan::allow::Selection;
use crate::plan::check::Check;
use crate::plan::check::check;
use crate::plan::planner;
use crate::topology::NodeName;
use crate::topology::Role;
use crate::world::World;

impl<W: World> Run<'_, W> {
    /// Sees to it that a run which ended in a role change leaves a primary, and says what became of the change. `None`:
    /// there was none in what was to be done, or nothing of it was begun.
    pub(super) async fn end_role_change(&self, selection: &Selection<'_>) -> Option<Change> {
        let (step, promote) = selection.promotion()?;
        let from = promote.from.as_ref();
        let seen = self.end_of_stop(from).await;
        if let Some(change) = self.is_decided(step, &seen) {
            return Some(change);
        }
        let from = from?;
        if promote.by_force {
            // It goes on in the next run, or is taken back by the one after, as the topology says then.
            return is_fenced(&seen, from).then_some(Change::Open);
        }
        let mut steps = self.to_take_back(from, &seen);
        if steps.is_empty() {
            return None;
        }
        let resumed = selection.chosen.iter().any(|step| step.action.as_hook().is_some_and(|hook| hook.resumed));
        for step in &mut steps {
            if let Action::Hook(hook) = &mut step.action {
                hook.resumed = resumed;
            }
        }
        (self.emit)(Event::TakenBack { from: from.clone(), to: step.node.clone() });
        // The signal that ended the run is no reason to leave the cluster without a primary.
        let (_quiet, interrupt) = watch::channel(false);
        let limits = Limits { interrupt, ..self.limits.clone() };
        let undo = Run { limits: &limits, ..*self };
        for step in &steps {
            let is_done = undo.step(step, selection.chosen.len(), None).await.is_ok();
            // A hook that fails stays owed, and changes nothing of who is the primary.
            if !is_done && step.action.as_hook().is_none() {
                return Some(Change::Open);
            }
        }
        Some(Change::Undone)
    }

    /// Looks until the old primary is down, if it is on its way there.
    async fn end_of_stop(&self, from: Option<&NodeName>) -> Observed {
        let until = Instant::now() + self.limits.timeout;
        loop {
            let seen = self.look().await;
            let goes_down = |server: &Server| server.sql.known().is_none();
            let is_down = from.is_none_or(|from| !seen.node(from).server.known().is_some_and(goes_down));
            if is_down || Instant::now() >= until {
                return seen;
            }
            tokio::time::sleep(FIRST_PAUSE).await;
        }
    }

    /// Whether the candidate is promoted, or will be.
    fn is_decided(&self, step: &Step, seen: &Observed) -> Option<Change> {
        if check(&step.node, &step.action, self.topology, seen) == Check::Satisfied {
            return Some(Change::Done);
        }
        let node = seen.node(&step.node);
        let is_pending = node.cluster().is_some_and(|own| own.markers.promote) && !node.server.is_absent();
        is_pending.then_some(Change::Pending)
    }

    /// The steps that give the old primary its role back, in a plan for the roles as they were.
    fn to_take_back(&self, from: &NodeName, seen: &Observed) -> Vec<Step> {
        let as_they_were = self.topology.with_primary(from);
        let plan = planner::plan(&as_they_were, seen);
        if plan.is_halted() {
            return Vec::new();
        }
        let takes_back = |step: &Step| matches!(step.reason, Reason::TakenBack | Reason::NoPrimary);
        let Some(last) = plan.steps.iter().rposition(takes_back) else { return Vec::new() };
        let mut steps: Vec<Step> = plan.steps.into_iter().take(last + 1).collect();
        for step in &mut steps {
            step.primary = Some(from.clone());
        }
        steps
    }
}

/// Whether the old primary would come up as a standby.
fn is_fenced(seen: &Observed, node: &NodeName) -> bool {
    seen.node(node).cluster().is_some_and(|own| comes_up_as(&own.markers, own.major) == Role::Standby)
}
