//! The health of a cluster as a table, and what is wrong below it.

use crate::report::NodeReport;
use crate::report::markdown::Comment;
use crate::report::markdown::ROOM;
use crate::report::markdown::escape::code;
use crate::report::markdown::escape::inline;
use crate::report::markdown::marker;
use crate::report::status::Health;
use crate::report::status::StatusReport;
use crate::report::status::Switchover;
use crate::report::tree;
use crate::report::words;

/// Renders the health of a cluster.
#[must_use]
pub fn status(report: &StatusReport) -> String {
    let mut comment = Comment::new(ROOM);
    comment.add(&marker(&report.cluster));
    let health = match report.health {
        Health::Healthy => "is healthy",
        Health::Unknown => "could not be looked at whole",
        Health::Unhealthy => "is unhealthy",
    };
    comment.add(&format!("### pgpair: {} {health}\n\n", inline(&report.cluster)));
    comment.add("| node | role | seen | lag |\n| --- | --- | --- | ---: |\n");
    comment.add_all(tree::drawn(&report.nodes).into_iter().map(|(node, name)| row(node, &name)), "node");
    let findings =
        report.findings.iter().map(|finding| format!("\n- {} ({})", inline(&finding.message), code(finding.code)));
    comment.add_all(findings, "finding");
    comment.add_all(report.switchover.iter().map(switchover), "candidate");
    comment.add("\n");
    comment.text
}

fn row(node: &NodeReport, name: &str) -> String {
    let lag = node.lag_bytes.map_or_else(|| "-".to_owned(), |lag| lag.to_string());
    format!("| {} | {} | {} | {lag} |\n", code(name), node.role, inline(&words::seen(node)))
}

fn switchover(switchover: &Switchover) -> String {
    let to = code(switchover.to.as_str());
    if switchover.ready {
        return format!("\n- switchover to {to}: ready");
    }
    let told = |finding: &crate::plan::readiness::Finding| {
        format!("{} {} ({})", code(finding.node.as_str()), inline(&finding.why), code(finding.check.about().id))
    };
    let found: Vec<String> = switchover.findings.iter().map(told).collect();
    format!("\n- switchover to {to}: not ready: {}", found.join("; "))
}
