//! What has drifted, as text: a line for a cluster in sync, so that a cron mail of many is short.

use anstyle::Style;

use crate::plan::items::Class;
use crate::report::drift::ClusterDrift;
use crate::report::drift::DriftReport;
use crate::report::drift::ItemReport;
use crate::report::drift::Standing;
use crate::report::text::BOLD;
use crate::report::text::DIM;
use crate::report::text::GREEN;
use crate::report::text::RED;
use crate::report::text::YELLOW;
use crate::report::text::diff;
use crate::report::text::names;
use crate::report::text::paint;
use crate::report::words::visible;
use crate::topology::NodeName;

/// The width of the longest class.
const CLASS_WIDTH: usize = "not_ready".len();

/// Renders what has drifted.
#[must_use]
pub fn drift(report: &DriftReport) -> String {
    let mut lines = Vec::new();
    for cluster in &report.clusters {
        let is_same = |other: &&ClusterDrift| other.cluster == cluster.cluster && other.file != cluster.file;
        let is_ambiguous = report.clusters.iter().any(|other| is_same(&other));
        head(cluster, is_ambiguous, &mut lines);
        let width = names(cluster.items.iter().filter_map(|item| item.node.as_ref()));
        for one in &cluster.items {
            item(one, width, &mut lines);
        }
        for error in &cluster.errors {
            let place = error.line.map_or_else(String::new, |line| format!("line {line}: "));
            lines.push(format!("  {place}{}", visible(&error.message)));
            lines.extend(error.help.iter().map(|help| format!("    remedy: {}", visible(help))));
        }
    }
    lines.join("\n") + "\n"
}

/// A cluster goes by its name; by its file too where two files name one cluster.
fn head(cluster: &ClusterDrift, is_ambiguous: bool, lines: &mut Vec<String>) {
    let file = visible(&cluster.file);
    let name = match &cluster.cluster {
        Some(name) if is_ambiguous => format!("{} ({file})", paint(BOLD, name)),
        Some(name) => paint(BOLD, name),
        None => paint(BOLD, &file),
    };
    let counts: Vec<String> = counts(cluster).iter().map(|(class, count)| paint(style(*class), count)).collect();
    let says = match cluster.status {
        Standing::InSync => paint(GREEN, "in sync"),
        Standing::Unknown if counts.is_empty() => paint(YELLOW, "could not be compared"),
        Standing::Unknown => format!("{}: {}", paint(YELLOW, "could not be compared whole"), counts.join(", ")),
        Standing::NotReady | Standing::Unseen => format!("{}; {}", paint(GREEN, "in sync"), counts.join(", ")),
        Standing::Pending | Standing::Drift => counts.join(", "),
    };
    lines.push(format!("{name}: {says}"));
}

/// How many items there are of each class that has any, in words.
pub(in crate::report) fn counts(cluster: &ClusterDrift) -> Vec<(Class, String)> {
    let counted = [
        (Class::Drift, "drift"),
        (Class::Pending, "pending"),
        (Class::NotReady, "not ready"),
        (Class::Unseen, "unseen"),
    ];
    let counts = counted.into_iter().filter_map(|(class, word)| {
        let count = cluster.items.iter().filter(|item| item.class == class).count();
        (count > 0).then(|| (class, format!("{count} {word}")))
    });
    counts.collect()
}

fn item(item: &ItemReport, node_width: usize, lines: &mut Vec<String>) {
    let class = paint(style(item.class), &format!("{:CLASS_WIDTH$}", item.class.as_str()));
    let node = item.node.as_ref().map_or("", NodeName::as_str);
    lines.push(format!("  {class}  {node:node_width$}  {}", visible(&comparison(item))));
    let indent = " ".repeat(2 + CLASS_WIDTH + 2 + node_width + 2);
    let impact = item.impact.map(|impact| format!("; impact of an apply: {impact}"));
    let reason = format!("{}{}", visible(&item.reason), impact.unwrap_or_default());
    lines.push(format!("{indent}{}", paint(DIM, &reason)));
    lines.extend(item.remedy.iter().map(|remedy| format!("{indent}remedy: {}", visible(remedy))));
    for file in &item.diff {
        diff(file, file.file != item.subject, &indent, lines);
    }
}

/// The subject, with what is and what should be, as far as there is any.
pub(in crate::report) fn comparison(item: &ItemReport) -> String {
    let value = |value: &String| if value.is_empty() { "''".to_owned() } else { value.replace('\n', "; ") };
    let place = item.set_by.as_ref().map_or_else(String::new, |set_by| format!(" ({set_by})"));
    let now = item.now.as_ref().map(|now| format!("{}{place}", value(now)));
    let wanted = item.wanted.as_ref().map(|wanted| format!("wanted {}", value(wanted)));
    let parts: Vec<String> = now.into_iter().chain(wanted).collect();
    if parts.is_empty() { item.subject.clone() } else { format!("{}: {}", item.subject, parts.join(", ")) }
}

fn style(class: Class) -> Style {
    match class {
        Class::Drift => RED,
        Class::Pending | Class::Unseen | Class::NotReady => YELLOW,
    }
}
