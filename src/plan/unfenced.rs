//! Doubt about a node out of reach: whether one that was the primary before is fenced can't be seen.
//!
//! Its files alone would tell, and nothing else is kept of a failover that could not fence it. So it is said of every
//! node that may be such a one, for as long as nobody can look at it.

use crate::observed::Observed;
use crate::pg::lsn::Timeline;
use crate::plan::Refusal;
use crate::topology::NodeName;

/// Returns what is not known of a node, in words. Nothing where it can be looked at, where it is the primary by the
/// others, or where nobody was ever promoted: on the first timeline it can only be a standby.
#[must_use]
pub fn doubt(observed: &Observed, node: &NodeName) -> Option<String> {
    if observed.node(node).answers() {
        return None;
    }
    let mut writers = observed.nodes.values().filter(|seen| seen.accepts_writes());
    let timeline = writers.find_map(|seen| Some(seen.sql()?.timeline)).filter(|timeline| *timeline > Timeline(1))?;
    Some(format!(
        "whether it is fenced is not known: if it was the primary before timeline {timeline}, it would accept writes when \
         it is started by hand"
    ))
}

/// Returns the refusal with what is not known of the node.
#[must_use]
pub fn told(refusal: Refusal, observed: &Observed) -> Refusal {
    if let Refusal::OutOfReach { node, why } = &refusal
        && let Some(doubt) = doubt(observed, node)
    {
        return Refusal::OutOfReach { node: node.clone(), why: format!("{why}; {doubt}") };
    }
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::Reading;
    use crate::plan::planner::plan;
    use crate::report::drift::ClusterDrift;
    use crate::report::samples::healthy;
    use crate::report::samples::name;
    use crate::report::samples::pair;
    use crate::report::status::StatusReport;

    /// The pair with b out of reach, and a on this timeline.
    fn away(timeline: u32) -> Observed {
        let mut observed = healthy(&pair());
        observed.node_mut(&name("a")).sql_mut().expect("it runs").timeline = Timeline(timeline);
        let seen = observed.node_mut(&name("b"));
        seen.place = Reading::Unknown("no route to host".into());
        seen.server = Reading::Unknown("no route to host".into());
        observed
    }

    #[test]
    fn plan_drift_and_status_say_that_a_node_out_of_reach_may_be_an_unfenced_primary() {
        let said = |timeline: u32| {
            let observed = away(timeline);
            let plan = plan(&pair(), &observed);
            let blocked = plan.blocked.iter().map(|blocked| blocked.refusal.reason());
            let drift = ClusterDrift::of("orders.yaml", &pair(), &observed, &plan);
            let items = drift.items.iter().filter(|item| item.subject == "node").map(|item| item.reason.clone());
            let status = StatusReport::of(&pair(), &observed, None);
            let findings = status.findings.iter().filter(|finding| finding.code == "out_of_reach");
            [blocked.collect::<Vec<_>>(), items.collect(), findings.map(|finding| finding.message.clone()).collect()]
        };
        for told in said(2) {
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(
                told[0].ends_with(
                    "if it was the primary before timeline 2, it would accept writes when it is started by hand"
                ),
                "{told:?}"
            );
        }
        for told in said(1) {
            assert!(told.len() == 1 && !told[0].contains("fenced"), "{told:?}");
        }
    }

    #[test]
    fn nothing_is_said_of_a_node_that_answers_on_any_channel() {
        let mut observed = away(2);
        observed.node_mut(&name("b")).port_taken = Reading::Known("somebody".into());
        assert_eq!(doubt(&observed, &name("b")), None);
    }
}
