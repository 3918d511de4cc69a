//! What has drifted, of one cluster or many: a heading for each, and each item with its diff folded away.

use crate::plan::Impact;
use crate::report::drift::ClusterDrift;
use crate::report::drift::DriftReport;
use crate::report::drift::ItemReport;
use crate::report::drift::Standing;
use crate::report::markdown::Comment;
use crate::report::markdown::ROOM;
use crate::report::markdown::cut;
use crate::report::markdown::escape::fence;
use crate::report::markdown::escape::html_code;
use crate::report::markdown::escape::html_inline;
use crate::report::markdown::escape::inline;
use crate::report::markdown::marker;
use crate::report::text::comparison;
use crate::report::text::counts;
use crate::topology::NodeName;

/// What of a diff is shown.
const MOST_OF_A_DIFF: usize = 4_000;

/// What a cluster gets even where there are many.
const LEAST_OF_A_CLUSTER: usize = 2_000;

/// Renders what has drifted.
#[must_use]
pub fn drift(report: &DriftReport) -> String {
    let mut comment = Comment::new(ROOM);
    if let [ClusterDrift { cluster: Some(cluster), .. }] = report.clusters.as_slice() {
        comment.add(&marker(cluster));
    }
    let room = (ROOM / report.clusters.len().max(1)).max(LEAST_OF_A_CLUSTER);
    comment.add_all(report.clusters.iter().map(|one| cluster(one, room)), "cluster");
    comment.text
}

/// One cluster, in its share of the comment.
fn cluster(cluster: &ClusterDrift, room: usize) -> String {
    let counts = counts(cluster).iter().map(|(_, count)| count.clone()).collect::<Vec<_>>().join(", ");
    let says = match cluster.status {
        Standing::InSync => "in sync".to_owned(),
        Standing::Unknown if counts.is_empty() => "could not be compared".to_owned(),
        Standing::Unknown => format!("could not be compared whole: {counts}"),
        Standing::NotReady | Standing::Unseen => format!("in sync; {counts}"),
        Standing::Pending | Standing::Drift => counts,
    };
    let name = cluster.cluster.as_ref().unwrap_or(&cluster.file);
    let mut text = Comment::new(room);
    text.add(&format!("\n### pgpair: {}: {says}\n", inline(name)));
    let errors = cluster.errors.iter().map(|error| {
        let place = error.line.map_or_else(String::new, |line| format!("line {line}: "));
        format!("\n- {place}{}", inline(&error.message))
    });
    text.add_all(errors, "error");
    text.add_all(cluster.items.iter().map(item), "item");
    text.text
}

fn item(item: &ItemReport) -> String {
    let node = item.node.as_ref().map_or("", NodeName::as_str);
    let impact = match item.impact {
        None | Some(Impact::None) => String::new(),
        Some(impact) => format!("; an apply is a <b>{impact}</b>"),
    };
    let remedy = item.remedy.as_ref().map(|remedy| format!("<br>remedy: {}", html_inline(remedy))).unwrap_or_default();
    let mut text = format!(
        "\n<details><summary><b>{}</b> {} {}</summary>\n<p>{}{impact}{remedy}</p>\n\n",
        item.class.as_str(),
        html_code(node),
        html_code(&comparison(item)),
        html_inline(&item.reason)
    );
    for file in &item.diff {
        text.push_str(&fence("diff", &cut(&file.unified, MOST_OF_A_DIFF)));
    }
    text + "\n</details>\n"
}
