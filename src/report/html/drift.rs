//! What has drifted: the clusters as a list, and each that differs with its items, what is and what should be.

use maud::Markup;
use maud::html;

use crate::plan::Impact;
use crate::plan::items::Class;
use crate::report::drift::ClusterDrift;
use crate::report::drift::DriftReport;
use crate::report::drift::ItemReport;
use crate::report::drift::Standing;
use crate::report::html::diff::diff;
use crate::report::html::page::Tone;
use crate::report::html::page::badge;
use crate::report::html::page::impact;
use crate::report::html::page::notice;
use crate::report::html::table;
use crate::report::text::counts;
use crate::topology::NodeName;

/// Renders what has drifted.
pub(super) fn body(report: &DriftReport) -> Markup {
    html! {
        @if let [one] = report.clusters.as_slice() {
            p.headline { (standing(one)) " " code { (one.file) } }
            (details(one))
        } @else {
            p.headline { (sums(report)) }
            (overview(report))
            @for (index, cluster) in report.clusters.iter().enumerate() {
                @if has_details(cluster) {
                    section id=(anchor(index)) {
                        h2 { (name(cluster)) }
                        p { (standing(cluster)) " " code { (cluster.file) } }
                        (details(cluster))
                    }
                }
            }
        }
    }
}

/// How many clusters stand how.
fn sums(report: &DriftReport) -> Markup {
    let of = |which: &[Standing]| report.clusters.iter().filter(|cluster| which.contains(&cluster.status)).count();
    let differ = of(&[Standing::Drift, Standing::Pending]);
    let unknown = of(&[Standing::Unknown]);
    let in_sync = of(&[Standing::InSync, Standing::NotReady, Standing::Unseen]);
    html! {
        @if differ > 0 { (badge(Tone::Bad, &format!("{differ} not in sync"))) " " }
        @if unknown > 0 { (badge(Tone::Warning, &format!("{unknown} not compared"))) " " }
        @if in_sync > 0 { (badge(Tone::Good, &format!("{in_sync} in sync"))) }
    }
}

fn name(cluster: &ClusterDrift) -> &str {
    cluster.cluster.as_ref().unwrap_or(&cluster.file)
}

fn anchor(index: usize) -> String {
    format!("cluster-{}", index + 1)
}

fn has_details(cluster: &ClusterDrift) -> bool {
    !cluster.items.is_empty() || !cluster.errors.is_empty()
}

fn overview(report: &DriftReport) -> Markup {
    let row = |(index, cluster): (usize, &ClusterDrift)| {
        vec![
            html! {
                @if has_details(cluster) { a href=(format!("#{}", anchor(index))) { (name(cluster)) } } @else { (name(cluster)) }
            },
            standing(cluster),
            html! { code { (cluster.file) } },
        ]
    };
    let rows: Vec<Vec<Markup>> = report.clusters.iter().enumerate().map(row).collect();
    html! {
        section {
            h2 { "Clusters" }
            (table::table(&["cluster", "standing", "topology"], &[], &rows))
        }
    }
}

fn standing(cluster: &ClusterDrift) -> Markup {
    let counts = counts(cluster);
    html! {
        @match cluster.status {
            Standing::InSync | Standing::NotReady | Standing::Unseen => { (badge(Tone::Good, "in sync")) " " },
            Standing::Unknown if counts.is_empty() => (badge(Tone::Warning, "could not be compared")),
            Standing::Unknown => { (badge(Tone::Warning, "could not be compared whole")) " " },
            Standing::Pending | Standing::Drift => {},
        }
        @for (class, count) in &counts { (badge(tone(*class), count)) " " }
    }
}

fn tone(class: Class) -> Tone {
    match class {
        Class::Drift => Tone::Bad,
        Class::Pending | Class::NotReady => Tone::Warning,
        Class::Unseen => Tone::Quiet,
    }
}

fn details(cluster: &ClusterDrift) -> Markup {
    html! {
        @for error in &cluster.errors {
            (notice(Tone::Warning, &html! {
                p {
                    @if let Some(line) = error.line { "Line " (line) ": " }
                    (error.message) " " code.id { (error.code) }
                }
                @for line in &error.output { pre.text { (line) } }
                @if let Some(help) = &error.help { p { strong { "Remedy: " } (help) } }
            }))
        }
        @for class in [Class::Drift, Class::Pending, Class::NotReady, Class::Unseen] {
            @for one in cluster.items.iter().filter(|item| item.class == class) { (item(one)) }
        }
    }
}

fn item(item: &ItemReport) -> Markup {
    html! {
        article.item.(tone(item.class).class()) {
            h3 {
                (badge(tone(item.class), item.class.as_str()))
                @if let Some(node) = item.node.as_ref().map(NodeName::as_str) { " " code.node { (node) } }
                " " (item.subject)
            }
            @if item.now.is_some() || item.wanted.is_some() || item.set_by.is_some() { (comparison(item)) }
            p {
                (item.reason)
                @if let Some(code) = item.code { " " code.id { (code) } }
            }
            @if let Some(remedy) = &item.remedy { p { strong { "Remedy: " } (remedy) } }
            @match item.impact {
                None => {},
                Some(Impact::None) => p { "An apply mends it, and nobody notices." },
                Some(what) => p { "An apply mends it: " (impact(what)) },
            }
            @for file in &item.diff { (diff(file, file.file != item.subject)) }
        }
    }
}

fn comparison(item: &ItemReport) -> Markup {
    let value = |value: &str| html! { code.value { @if value.is_empty() { "''" } @else { (value) } } };
    html! {
        dl.facts {
            @if let Some(now) = &item.now {
                dt { "now" }
                dd { (value(now)) @if let Some(by) = &item.set_by { " " span.by { (by) } } }
            }
            @if let Some(wanted) = &item.wanted {
                dt { "wanted" }
                dd { (value(wanted)) }
            }
        }
    }
}
