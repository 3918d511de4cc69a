//! What became of an apply, above the plan that it carried out.

use maud::Markup;
use maud::html;

use crate::report::html::page::Tone;
use crate::report::html::page::notice;
use crate::report::html::plan;
use crate::report::html::table;
use crate::report::json::ApplyReport;
use crate::report::json::ApplyStatus;
use crate::report::json::StepOutcome;
use crate::report::json::StepResult;
use crate::report::text;
use crate::report::words;

/// Renders it.
pub(super) fn body(report: &ApplyReport) -> Markup {
    let outcome = anstream::adapter::strip_str(&text::apply(report)).to_string();
    let tone = match report.status {
        ApplyStatus::Clean | ApplyStatus::Applied => Tone::Good,
        ApplyStatus::Incomplete | ApplyStatus::Interrupted => Tone::Warning,
        ApplyStatus::Blocked | ApplyStatus::Failed => Tone::Bad,
    };
    html! {
        (notice(tone, &html! { pre.text { (outcome.trim_end()) } }))
        @if !report.steps.is_empty() {
            section {
                h2 { "What was done" }
                (results(&report.steps))
                @if let Some(log) = &report.event_log {
                    p { "When each of it was done: " code { "pgpair show " (log) " --format html" } }
                }
            }
        }
        h2 { "The plan" }
        (plan::body(&report.plan, &report.file))
    }
}

fn results(steps: &[StepResult]) -> Markup {
    let row = |step: &StepResult| {
        let outcome = match step.outcome {
            StepOutcome::Done => "done",
            StepOutcome::Skipped => "held already",
            StepOutcome::LeftOut => "left out",
            StepOutcome::Failed => "failed",
        };
        vec![
            html! { code { (step.id) } },
            html! { code { (step.node.as_str()) } },
            html! {
                (outcome)
                @if let Some(why) = &step.why { ": " (why) }
            },
            table::or_dash(step.seconds.map(words::seconds)),
        ]
    };
    let rows: Vec<Vec<Markup>> = steps.iter().map(row).collect();
    table::table(&["step", "node", "outcome", "took"], &[3], &rows)
}
