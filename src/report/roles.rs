//! Who feeds whom, now and after a plan: what the pictures of a cluster show.

use crate::report::NodeReport;
use crate::report::NodeState;
use crate::report::PlanReport;

/// libpq's port where a conninfo has none.
const USUAL_PORT: u16 = 5432;

/// A node as it is drawn.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::report) struct Place<'a> {
    pub(in crate::report) name: &'a str,
    pub(in crate::report) says: String,
    /// Whom it streams from.
    pub(in crate::report) from: Option<&'a str>,
}

/// Returns the nodes as they were seen.
pub(in crate::report) fn now(nodes: &[NodeReport]) -> Vec<Place<'_>> {
    nodes.iter().map(|node| seen(nodes, node)).collect()
}

/// Returns the nodes as they are after a plan, where roles or places are other ones then.
pub(in crate::report) fn then<'a>(report: &'a PlanReport, now: &[Place<'a>]) -> Option<Vec<Place<'a>>> {
    let is_left_alone = |node: &NodeReport| report.halted || report.summary.blocked.contains(&node.node);
    let then: Vec<Place<'_>> = report
        .nodes
        .iter()
        .zip(now)
        .map(|(node, now)| if is_left_alone(node) { now.clone() } else { wanted(node) })
        .collect();
    (now != then).then_some(then)
}

fn seen<'a>(nodes: &'a [NodeReport], node: &'a NodeReport) -> Place<'a> {
    let says = match (node.state, node.seen_role) {
        (NodeState::Running, Some(role)) => role.to_string(),
        (state, _) => state.words().to_owned(),
    };
    Place { name: node.node.as_str(), says, from: feeder(nodes, node) }
}

fn wanted(node: &NodeReport) -> Place<'_> {
    Place {
        name: node.node.as_str(),
        says: node.role.to_string(),
        from: node.upstream.as_ref().map(|node| node.as_str()),
    }
}

/// The node that a standby's walreceiver is connected to. Where we may not see it, the right one.
fn feeder<'a>(nodes: &'a [NodeReport], standby: &'a NodeReport) -> Option<&'a str> {
    let receiver = standby.receiver.as_ref()?;
    let Some(host) = receiver.host.as_deref() else { return wanted(standby).from };
    let port = receiver.port.unwrap_or(USUAL_PORT);
    let is_there = |node: &&NodeReport| (node.host == host || host.starts_with('/')) && node.port == port;
    nodes.iter().find(is_there).map(|node| node.node.as_str())
}
