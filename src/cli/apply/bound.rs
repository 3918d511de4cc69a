//! An apply that is bound to a plan: the saved one of `--plan`, or the one that was shown before the question.

use crate::cli::source;
use crate::cli::source::Source;
use crate::error::Error;
use crate::error::Findings;
use crate::observed::Moved;
use crate::observed::Observed;
use crate::observed::moved;
use crate::plan::Plan;
use crate::plan::planner;
use crate::plan::redact;
use crate::report::saved::SavedPlan;
use crate::topology::NodeName;
use crate::topology::Topology;

/// Returns the topology of a saved plan: of the file that was given, which must be the same, or as it was saved.
pub(super) fn source(saved: &SavedPlan, given: Option<String>) -> Result<Source, Error> {
    if let Some(file) = given {
        let source = source::load(&file)?;
        if planner::topology_digest(&source.topology) == planner::topology_digest(&saved.topology) {
            return Ok(source);
        }
        return Err(Error::OtherTopology { file });
    }
    let SavedPlan { file, base_dir, topology, .. } = saved;
    let (name, base_dir, topology) = (file.clone(), base_dir.clone(), topology.clone());
    let advice = Findings { name: name.clone(), text: String::new(), diagnostics: Vec::new() };
    Ok(Source { name, base_dir, topology, advice })
}

/// Sees that the facts are those that the plan was made from, and that its steps are these.
pub(super) fn still_holds(saved: &SavedPlan, observed: &Observed, plan: &Plan) -> Result<(), Error> {
    let all = differences(&saved.topology, (&saved.observed, &saved.plan()), (observed, plan));
    if all.is_empty() { Ok(()) } else { Err(Error::Stale { moved: all }) }
}

/// Says what of the cluster is another than when the plan was shown.
pub(super) fn stale(topology: &Topology, then: (&Observed, &Plan), now: (&Observed, &Plan)) -> Error {
    Error::Stale { moved: differences(topology, then, now) }
}

/// Returns the facts that differ; where none does, and a measure has changed the steps, those.
fn differences(topology: &Topology, then: (&Observed, &Plan), now: (&Observed, &Plan)) -> Vec<Moved> {
    let shown = |observed| redact::observed(observed, topology);
    let facts = moved(&shown(then.0), &shown(now.0));
    if !facts.is_empty() {
        return facts;
    }
    let of = |node: &NodeName, fact: &str, then: String, now: String| {
        (then != now).then(|| Moved { node: node.clone(), fact: fact.to_owned(), then, now })
    };
    let steps = |plan: &Plan, node: &NodeName| {
        let own = plan.steps.iter().filter(|step| step.node == *node);
        words(&own.map(|step| format!("{} ({})", step.id, step.impact)).collect::<Vec<_>>())
    };
    let refusals = |plan: &Plan, node: &NodeName| {
        let own = plan.blocked.iter().filter(|blocked| blocked.node.as_ref().is_none_or(|its| its == node));
        words(&own.map(|blocked| blocked.refusal.code().to_owned()).collect::<Vec<_>>())
    };
    let mut all = Vec::new();
    for node in topology.nodes.keys() {
        all.extend(of(node, "steps", steps(then.1, node), steps(now.1, node)));
        all.extend(of(node, "blocked", refusals(then.1, node), refusals(now.1, node)));
    }
    all
}

fn words(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}
