//! A plan: what it takes, what is blocked, who feeds whom before and after, and each step with its diffs.

use maud::Markup;
use maud::html;

use crate::plan::Cause;
use crate::plan::Difference;
use crate::plan::SetBy;
use crate::plan::Status;
use crate::report::BlockedReport;
use crate::report::PlanReport;
use crate::report::StepReport;
use crate::report::html::diff::diff;
use crate::report::html::page::Tone;
use crate::report::html::page::badge;
use crate::report::html::page::impact;
use crate::report::html::page::names;
use crate::report::html::page::notice;
use crate::report::html::page::tone_of;
use crate::report::html::picture;
use crate::report::html::table;
use crate::report::roles;
use crate::report::text;
use crate::report::words;
use crate::report::words::count;
use crate::topology::NodeName;

/// With more lines of diffs than that, one finds one's way more easily with the steps folded.
const MOST_OPEN: usize = 500;

/// Renders a plan.
pub(super) fn body(report: &PlanReport, file: &str) -> Markup {
    html! {
        (headline(report, file))
        @if report.status != Status::Clean { (facts(report)) }
        @for item in &report.blocked { (blocked(item)) }
        (pictures(report))
        @if !report.steps.is_empty() { (steps(report)) }
        section {
            h2 { "Nodes, as observed" }
            (table::nodes(&report.nodes))
        }
        (digests(report))
    }
}

pub(super) fn headline(report: &PlanReport, file: &str) -> Markup {
    let summary = &report.summary;
    let steps = format!("{} on {}", count(summary.steps, "step"), count(summary.nodes.len(), "node"));
    html! {
        p.headline {
            @match (report.status, &report.role_change) {
                (Status::Clean, _) => {
                    (badge(Tone::Good, "no changes")) " It matches " code { (file) } "."
                }
                (Status::Blocked, _) => { (badge(Tone::Bad, "blocked")) " " (blocked_steps(report)) }
                (Status::Changes, Some(change)) => {
                    (badge(Tone::Note, "changes"))
                    " Moves the primary from " code { (change.from.as_str()) } " to " code { (change.to.as_str()) } ": " (steps) "."
                }
                (Status::Changes, None) => { (badge(Tone::Note, "changes")) " " (steps) "." }
            }
        }
    }
}

/// The sentence of the text, without its first words, which are the badge.
fn blocked_steps(report: &PlanReport) -> String {
    let summary = anstream::adapter::strip_str(&text::summary(report)).to_string();
    summary.trim_start_matches("Plan: blocked.").trim_start().to_owned()
}

fn facts(report: &PlanReport) -> Markup {
    let summary = &report.summary;
    if report.halted || summary.steps == 0 {
        return html! {};
    }
    html! {
        dl.facts {
            dt { "Impact" }
            dd {
                @if summary.impact.is_empty() { "none" }
                @for (impact, nodes) in summary.impact.iter().rev() {
                    span.of { (badge(tone_of(*impact), &impact.to_string())) " " (names(nodes)) }
                }
            }
            dt { "Data loss" }
            dd {
                @if summary.at_risk.is_none() && summary.data_loss.is_empty() { "none" }
                @if let Some(loss) = &summary.at_risk { strong { (text::at_risk(loss)) } " " }
                @if !summary.data_loss.is_empty() { strong { "what " (names(&summary.data_loss)) " holds" } }
            }
            @if !summary.allow.is_empty() {
                dt { "Allow with" }
                dd { code { "--allow " (summary.allow.join(",")) } }
            }
            @if !summary.blocked.is_empty() {
                dt { "Left alone" }
                dd { (names(&summary.blocked)) }
            }
            @if let Some(span) = report.asynchronous {
                dt { "Commits" }
                dd {
                    strong { "asynchronous" } " from step " (span.from)
                    @match span.to {
                        Some(to) => { " to " (to) }
                        None => " on, until enough standbys stream",
                    }
                }
            }
        }
    }
}

fn blocked(item: &BlockedReport) -> Markup {
    notice(
        Tone::Bad,
        &html! {
            p {
                strong { "Blocked: " (item.node.as_ref().map_or("the whole plan", NodeName::as_str)) ". " }
                (item.reason) " " code.id { (item.code) }
            }
            p { strong { "Remedy: " } (item.remedy) }
        },
    )
}

/// The tree before and after, where they are two; nothing where nobody was looked at and nothing comes of it.
fn pictures(report: &PlanReport) -> Markup {
    let now = roles::now(&report.nodes);
    let then = roles::then(report, &now).filter(|_| report.status == Status::Changes);
    html! {
        section {
            h2 { "Topology" }
            div.pictures {
                (picture::now(&report.nodes, "as observed"))
                @if let Some(then) = then { (picture::drawn(&then, "after this plan", &|_| None)) }
            }
        }
    }
}

fn steps(report: &PlanReport) -> Markup {
    let lines = |step: &StepReport| step.diff.iter().map(|diff| diff.unified.lines().count()).sum::<usize>();
    let open = report.steps.iter().map(lines).sum::<usize>() <= MOST_OPEN;
    html! {
        section {
            h2 { "Steps" }
            @if report.halted { p { "None of them is done before what is blocked is resolved." } }
            ol.steps {
                @for (index, one) in report.steps.iter().enumerate() {
                    li { (step(index + 1, one, open)) }
                }
            }
        }
    }
}

fn step(number: usize, step: &StepReport, open: bool) -> Markup {
    html! {
        details open[open] {
            summary {
                span.number { (number) }
                " " span.symbol.(symbol_class(step.symbol)) { (step.symbol.as_str()) }
                " " code.node { (step.node.as_str()) }
                " " span.title { (step.title) }
                " " (impact(step.impact))
            }
            @if step.differences.is_empty() { p.reason { (step.reason) } } @else { (differences(&step.differences)) }
            @for room in words::rooms(&step.rooms) { p.reason { (room) } }
            @if !step.guards.is_empty() {
                p.guards { "Only if, right before: " (step.guards.join("; ")) "." }
            }
            @for file in &step.diff { (diff(file, file.file != step.title)) }
        }
    }
}

fn symbol_class(symbol: words::Symbol) -> &'static str {
    match symbol {
        words::Symbol::Create => "create",
        words::Symbol::Change => "change",
        words::Symbol::Remove | words::Symbol::Rebuild | words::Symbol::Role => "remove",
        words::Symbol::Wait => "wait",
    }
}

fn differences(differences: &[Difference]) -> Markup {
    let row = |difference: &Difference| {
        let Difference { name, now, set_by, then, cause } = difference;
        let (by, remark) = match cause {
            Cause::Wanted => (None, ""),
            Cause::Restored(by) => (Some(by), ""),
            Cause::Waiting(by) => (Some(by), ", waiting for a restart already"),
        };
        vec![
            html! { code { (name) } },
            placed(now.as_ref(), set_by.as_ref()),
            html! { (placed(then.as_ref(), by)) span.by { (remark) } },
        ]
    };
    let rows: Vec<Vec<Markup>> = differences.iter().map(row).collect();
    table::table(&["parameter", "now", "then"], &[], &rows)
}

/// A value, and who sets it.
fn placed(value: Option<&String>, by: Option<&SetBy>) -> Markup {
    html! {
        @match (value.map(String::as_str), by) {
            (None, Some(SetBy::Default)) => span.none { "default" },
            (None, _) => span.none { "not known" },
            (Some(value), by) => {
                code { @if value.is_empty() { "''" } @else { (value) } }
                @if let Some(by) = by { " " span.by { (by) } }
            }
        }
    }
}

/// What binds a review to what it was of.
fn digests(report: &PlanReport) -> Markup {
    html! {
        p.digests {
            "Topology " code { (report.topology_digest) } ", observation " code { (report.observation_digest) }
        }
    }
}
