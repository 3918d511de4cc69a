//! The health of a cluster: what is wrong, who feeds whom, how far each node is, and all that was seen as a table.

use maud::Markup;
use maud::html;

use crate::plan::readiness;
use crate::report::NodeReport;
use crate::report::html::page::Tone;
use crate::report::html::page::badge;
use crate::report::html::page::notice;
use crate::report::html::picture;
use crate::report::html::positions;
use crate::report::html::table;
use crate::report::html::table::or_dash;
use crate::report::status::Finding;
use crate::report::status::Health;
use crate::report::status::StatusReport;
use crate::report::status::Switchover;

/// Renders it.
pub(super) fn body(report: &StatusReport) -> Markup {
    html! {
        p.headline {
            @match report.health {
                Health::Healthy => (badge(Tone::Good, "healthy")),
                Health::Unknown => (badge(Tone::Warning, "could not be looked at whole")),
                Health::Unhealthy => (badge(Tone::Bad, "unhealthy")),
            }
        }
        @for one in &report.findings { (finding(one)) }
        section {
            h2 { "Topology" }
            div.pictures { (picture::now(&report.nodes, "as observed")) (positions::positions(&report.nodes)) }
        }
        section {
            h2 { "Nodes" }
            (nodes(&report.nodes))
        }
        @if !report.switchover.is_empty() {
            section {
                h2 { "Switchover" }
                ul.switchover { @for one in &report.switchover { li { (switchover(one)) } } }
            }
        }
    }
}

fn finding(finding: &Finding) -> Markup {
    let tone = match finding.health {
        Health::Healthy => Tone::Note,
        Health::Unknown => Tone::Warning,
        Health::Unhealthy => Tone::Bad,
    };
    notice(tone, &html! { p { (finding.message) " " code.id { (finding.code) } } })
}

fn nodes(nodes: &[NodeReport]) -> Markup {
    const HEAD: [&str; 13] = [
        "node",
        "role",
        "seen",
        "state",
        "control",
        "timeline",
        "position",
        "replayed",
        "lag, bytes",
        "receiver",
        "senders",
        "sync",
        "slots",
    ];
    let rows: Vec<Vec<Markup>> = nodes.iter().map(row).collect();
    html! { div.wide { (table::table(&HEAD, &[5, 6, 7, 8], &rows)) } }
}

fn row(node: &NodeReport) -> Vec<Markup> {
    let senders = node.senders.iter().map(|sender| format!("{} {}", sender.application_name, sender.state));
    let slots =
        node.slots.iter().map(|(name, slot)| format!("{name} {}", if slot.active { "active" } else { "inactive" }));
    let seen = node.seen_role.map(|role| role.to_string()).or_else(|| node.detail.clone());
    vec![
        html! { code { (node.node.as_str()) } },
        html! { (node.role) },
        or_dash(seen),
        html! { (node.state.words()) },
        or_dash(node.control_state),
        or_dash(node.timeline),
        or_dash(node.lsn),
        or_dash(node.replayed),
        or_dash(node.lag_bytes),
        or_dash(node.receiver.as_ref().map(|receiver| &receiver.status)),
        listed(senders),
        or_dash(node.sync_state.as_ref()),
        listed(slots),
    ]
}

fn listed(items: impl Iterator<Item = String>) -> Markup {
    let items: Vec<String> = items.collect();
    or_dash((!items.is_empty()).then(|| items.join(", ")))
}

fn switchover(switchover: &Switchover) -> Markup {
    let told = |finding: &readiness::Finding| {
        html! {
            li {
                code { (finding.node.as_str()) } " " (finding.why) " " code.id { (finding.check.about().id) }
                br;
                strong { "Remedy: " } (finding.remedy)
            }
        }
    };
    html! {
        "to " code { (switchover.to.as_str()) } " "
        @if switchover.ready { (badge(Tone::Good, "ready")) } @else {
            (badge(Tone::Warning, "not ready"))
            ul { @for finding in &switchover.findings { (told(finding)) } }
        }
    }
}
