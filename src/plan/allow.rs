//! Allowances: which impacts an apply may have, and which steps are left when some may not.

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::observed::Observed;
use crate::plan::Impact;
use crate::plan::Plan;
use crate::plan::Promote;
use crate::plan::Refusal;
use crate::plan::Roles;
use crate::plan::Step;
use crate::plan::check::Check;
use crate::plan::check::check;
use crate::plan::predict::predict;
use crate::topology::NodeName;
use crate::topology::Topology;

/// One item of `--allow`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Allowance {
    Restart,
    Outage,
    /// To this node.
    Switchover(NodeName),
    /// To this node, without the old primary.
    Failover(NodeName),
    Destroy(NodeName),
}

/// A text that is no allowance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no allowance: restart, outage, switchover=NODE, failover=NODE, or destroy=NODE")]
pub struct UnknownAllowance(pub String);

impl FromStr for Allowance {
    type Err = UnknownAllowance;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            None if text == "restart" => Ok(Self::Restart),
            None if text == "outage" => Ok(Self::Outage),
            Some(("switchover", node)) if !node.is_empty() => Ok(Self::Switchover(NodeName::new(node))),
            Some(("failover", node)) if !node.is_empty() => Ok(Self::Failover(NodeName::new(node))),
            Some(("destroy", node)) if !node.is_empty() => Ok(Self::Destroy(NodeName::new(node))),
            None | Some(_) => Err(UnknownAllowance(text.to_owned())),
        }
    }
}

impl std::fmt::Display for Allowance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Restart => f.write_str("restart"),
            Self::Outage => f.write_str("outage"),
            Self::Switchover(node) => write!(f, "switchover={node}"),
            Self::Failover(node) => write!(f, "failover={node}"),
            Self::Destroy(node) => write!(f, "destroy={node}"),
        }
    }
}

/// Returns the allowance that a step of this plan needs, if any.
#[must_use]
pub fn needed(plan: &Plan, step: &Step) -> Option<Allowance> {
    match step.impact {
        Impact::None | Impact::Reload => None,
        Impact::Restart => Some(Allowance::Restart),
        Impact::Outage => Some(Allowance::Outage),
        // With the promotion go the restarts of those that follow.
        Impact::Switchover => Some(Allowance::Switchover(new_primary(plan, step).clone())),
        Impact::Failover => Some(Allowance::Failover(new_primary(plan, step).clone())),
        Impact::Destroy => Some(Allowance::Destroy(step.node.clone())),
    }
}

fn new_primary<'a>(plan: &'a Plan, step: &'a Step) -> &'a NodeName {
    plan.role_change.as_ref().map_or(&step.node, |change| &change.to)
}

/// The steps of a plan that may be done, and those that are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection<'a> {
    pub chosen: Vec<&'a Step>,
    /// With why: the allowance that is missing, or the step that it hangs on.
    pub left_out: Vec<(&'a Step, String)>,
}

impl<'a> Selection<'a> {
    /// The chosen step that makes another node the primary, if there is one.
    #[must_use]
    pub fn promotion(&self) -> Option<(&'a Step, &'a Promote)> {
        self.chosen.iter().find_map(|step| Some((*step, step.action.as_promote()?)))
    }
}

/// Chooses the steps that `allowed` covers, and leaves out the others and what depends on them.
///
/// What depends on a step is not written down anywhere: it is what the same guards refuse in the world that the
/// chosen steps alone will make.
#[must_use]
pub fn select<'a>(
    plan: &'a Plan,
    topology: &Topology,
    observed: &Observed,
    allowed: &BTreeSet<Allowance>,
) -> Selection<'a> {
    let mut world = observed.clone();
    let mut selection = Selection::default();
    if plan.is_halted() {
        return selection;
    }
    let roles = Roles::of(topology, &plan.steps);
    let mut is_promoted = plan.role_change.is_none();
    let missing = |step: &Step| needed(plan, step).filter(|allowance| !allowed.contains(allowance));
    for step in &plan.steps {
        let in_vain =
            plan.steps.iter().any(|other| step.only_for.as_ref() == Some(&other.id) && missing(other).is_some());
        let why = if let Some(allowance) = missing(step) {
            Some(format!("needs --allow {allowance}"))
        } else if in_vain {
            Some("the step that it makes way for is left out".to_owned())
        } else if !is_promoted && step.primary.is_none() && step.only_for.is_none() && !is_promotion(step) {
            Some("the role change is left out".to_owned())
        } else {
            match check(&step.node, &step.action, roles.for_step(step), &world) {
                // Nobody edited it: it is not what the steps before, of which one is left out, would have made of it.
                Check::Blocked(Refusal::FileChanged { file, .. }) => {
                    Some(format!("{file} is to change once more after a step that is left out"))
                }
                Check::Blocked(refusal) => Some(refusal.reason()),
                Check::Satisfied => Some("there is nothing to do for it without the steps before it".to_owned()),
                Check::Ready => None,
            }
        };
        match why {
            Some(why) => selection.left_out.push((step, why)),
            None => {
                predict(&step.node, &step.action, roles.for_step(step), &mut world);
                is_promoted |= is_promotion(step);
                selection.chosen.push(step);
            }
        }
    }
    selection
}

fn is_promotion(step: &Step) -> bool {
    step.action.as_promote().is_some()
}

/// Returns every allowance that the steps of a plan need, in the order of the steps.
#[must_use]
pub fn all_needed(plan: &Plan) -> Vec<Allowance> {
    let mut all = Vec::new();
    for allowance in plan.steps.iter().filter_map(|step| needed(plan, step)) {
        if !all.contains(&allowance) {
            all.push(allowance);
        }
    }
    all
}

/// Whether an answer of `yes` at the question is enough for this allowance: what may lose data wants the node's name.
#[must_use]
pub fn yes_is_enough(allowance: &Allowance) -> bool {
    match allowance {
        Allowance::Restart | Allowance::Outage | Allowance::Switchover(_) => true,
        Allowance::Failover(_) | Allowance::Destroy(_) => false,
    }
}
