//! HTML for people who were not there: a report is one file, which needs no network, no script and no other file.
//!
//! Templates are `maud`'s, a macro that escapes what is put in and knows tags when it is compiled: what files and
//! servers say can be text here, and nothing else. The page forbids scripts, images, forms and all sources; styles are
//! allowed by the digest of the one there is. Read on a phone, in the dark and on paper as well, see `style.css`.

use maud::html;

use crate::report::PlanReport;
use crate::report::drift::DriftReport;
use crate::report::html::page::page;
use crate::report::json::ApplyReport;
use crate::report::log::LogReport;
use crate::report::status::StatusReport;
use crate::report::words::count;

mod applied;
mod diff;
mod drift;
mod log;
mod page;
mod picture;
mod plan;
mod positions;
mod schedule;
mod status;
mod table;
#[cfg(test)]
mod tests;

/// Renders a plan. `file` is the topology's name.
#[must_use]
pub fn plan(report: &PlanReport, file: &str) -> String {
    page("plan", &report.cluster, &plan::body(report, file))
}

/// Renders what became of an apply, with its plan.
#[must_use]
pub fn applied(report: &ApplyReport) -> String {
    page("apply", &report.cluster, &applied::body(report))
}

/// Renders what has drifted.
#[must_use]
pub fn drift(report: &DriftReport) -> String {
    let subject = match report.clusters.as_slice() {
        [one] => one.cluster.as_ref().unwrap_or(&one.file).clone(),
        all => count(all.len(), "cluster"),
    };
    page("drift", &subject, &drift::body(report))
}

/// Renders the health of a cluster.
#[must_use]
pub fn status(report: &StatusReport) -> String {
    page("status", &report.cluster, &status::body(report))
}

/// Renders what an event log says.
#[must_use]
pub fn log(report: &LogReport) -> String {
    let mut clusters: Vec<&str> = report.applies.iter().map(|apply| apply.cluster.as_str()).collect();
    clusters.dedup();
    page("event log", &clusters.join(", "), &log::body(report))
}

/// Wraps what has no HTML of its own. `kind` is the command.
#[must_use]
pub fn plain(kind: &str, text: &str) -> String {
    let text = anstream::adapter::strip_str(text).to_string();
    page(kind, kind, &html! { pre.text { (text.trim_end()) } })
}

/// Renders why a command failed.
#[must_use]
pub fn failed(text: &str) -> String {
    plain("failed", text)
}
