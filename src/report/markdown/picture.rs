//! Who feeds whom, now and then, as a Mermaid flowchart that GitHub and GitLab draw.

use crate::report::NodeReport;
use crate::report::NodeState;
use crate::report::PlanReport;
use crate::topology::Role;

/// More nodes than that make no picture.
const MOST_NODES: usize = 40;

/// libpq's port where a conninfo has none.
const USUAL_PORT: u16 = 5432;

/// A node as it is drawn.
#[derive(Clone, PartialEq, Eq)]
struct Drawn<'a> {
    name: &'a str,
    says: String,
    /// Whom it streams from.
    from: Option<&'a str>,
}

/// Draws the nodes before and after a plan; nothing where their roles and places stay as they are.
pub(super) fn roles(report: &PlanReport) -> Option<String> {
    let now: Vec<Drawn<'_>> = report.nodes.iter().map(|node| now(&report.nodes, node)).collect();
    let is_left_alone = |node: &NodeReport| report.summary.blocked.contains(&node.node);
    let then: Vec<Drawn<'_>> = report
        .nodes
        .iter()
        .zip(&now)
        .map(|(node, now)| if is_left_alone(node) { now.clone() } else { then(node) })
        .collect();
    (now != then && report.nodes.len() <= MOST_NODES).then(|| {
        let mut lines = vec!["```mermaid".to_owned(), "flowchart LR".to_owned()];
        subgraph("now", "n", &now, &mut lines);
        subgraph("then", "t", &then, &mut lines);
        lines.push("```\n".to_owned());
        lines.join("\n")
    })
}

fn now<'a>(nodes: &'a [NodeReport], node: &'a NodeReport) -> Drawn<'a> {
    let says = match (node.state, node.seen_role) {
        (NodeState::Running, Some(role)) => role.to_string(),
        (state, _) => state.words().to_owned(),
    };
    Drawn { name: node.node.as_str(), says, from: feeder(nodes, node) }
}

fn then(node: &NodeReport) -> Drawn<'_> {
    Drawn {
        name: node.node.as_str(),
        says: node.role.to_string(),
        from: node.upstream.as_ref().map(|node| node.as_str()),
    }
}

/// The node that a standby's walreceiver is connected to. Where we may not see it, the right one.
fn feeder<'a>(nodes: &'a [NodeReport], standby: &'a NodeReport) -> Option<&'a str> {
    let receiver = standby.receiver.as_ref()?;
    let Some(host) = receiver.host.as_deref() else { return then(standby).from };
    let port = receiver.port.unwrap_or(USUAL_PORT);
    let is_there = |node: &&NodeReport| (node.host == host || host.starts_with('/')) && node.port == port;
    nodes.iter().find(is_there).map(|node| node.node.as_str())
}

fn subgraph(title: &str, prefix: &str, nodes: &[Drawn<'_>], lines: &mut Vec<String>) {
    lines.push(format!("  subgraph {title}"));
    for (index, node) in nodes.iter().enumerate() {
        let (open, close) = if node.says == Role::Primary.to_string() { ("[[", "]]") } else { ("[", "]") };
        lines.push(format!("    {prefix}{index}{open}\"{}<br/>{}\"{close}", label(node.name), label(&node.says)));
    }
    for (index, node) in nodes.iter().enumerate() {
        let from = node.from.and_then(|from| nodes.iter().position(|other| other.name == from));
        lines.extend(from.map(|from| format!("    {prefix}{from} --> {prefix}{index}")));
    }
    lines.push("  end".to_owned());
}

/// A label in quotes: whatever could mean something to Mermaid is a character code.
fn label(text: &str) -> String {
    let is_harmless = |c: char| c.is_ascii_alphanumeric() || " _-.".contains(c);
    text.chars().map(|c| if is_harmless(c) { c.to_string() } else { format!("#{};", u32::from(c)) }).collect()
}
