//! Who feeds whom, now and then, as a Mermaid flowchart that GitHub and GitLab draw.

use crate::report::PlanReport;
use crate::report::roles;
use crate::report::roles::Place;
use crate::topology::Role;

/// More nodes than that make no picture.
const MOST_NODES: usize = 40;

/// Draws the nodes before and after a plan; nothing where their roles and places stay as they are.
pub(super) fn roles(report: &PlanReport) -> Option<String> {
    let now = roles::now(&report.nodes);
    let then = roles::then(report, &now).filter(|_| report.nodes.len() <= MOST_NODES)?;
    let mut lines = vec!["```mermaid".to_owned(), "flowchart LR".to_owned()];
    subgraph("now", "n", &now, &mut lines);
    subgraph("then", "t", &then, &mut lines);
    lines.push("```\n".to_owned());
    Some(lines.join("\n"))
}

fn subgraph(title: &str, prefix: &str, nodes: &[Place<'_>], lines: &mut Vec<String>) {
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
