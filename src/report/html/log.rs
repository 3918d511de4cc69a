//! The event log of an apply: what ran when on which node, and the time in which nobody could write.

use maud::Markup;
use maud::html;

use crate::report::html::page::Tone;
use crate::report::html::page::badge;
use crate::report::html::page::impact;
use crate::report::html::page::notice;
use crate::report::html::schedule;
use crate::report::log::Applied;
use crate::report::log::Done;
use crate::report::log::End;
use crate::report::log::LogReport;
use crate::report::log::NoWrites;
use crate::report::log::UNFINISHED;
use crate::report::words::count;
use crate::report::words::seconds;
use crate::topology::NodeName;

/// Renders all applies of a log, the last first: it is the one that is asked for.
pub(super) fn body(report: &LogReport) -> Markup {
    html! {
        @for apply in report.applies.iter().rev() {
            section {
                h2 { "Apply of " time datetime=(apply.began) { (apply.began.strftime("%F %T UTC")) } }
                (applied(apply))
            }
        }
        @if report.unknown_lines > 0 {
            p { (count(report.unknown_lines, "line")) " of the log could not be read." }
        }
    }
}

fn applied(apply: &Applied) -> Markup {
    let of = |outcome: End| apply.steps.iter().filter(move |step| step.outcome == outcome).count();
    html! {
        p.headline {
            (outcome(&apply.outcome)) " " (count(of(End::Done), "step")) " done in " (seconds(apply.seconds))
            @if of(End::Skipped) > 0 { ", " (of(End::Skipped)) " held already" }
            "."
        }
        @if apply.outcome == UNFINISHED {
            (notice(Tone::Warning, &html! { p { "The log has no end: pgpair was killed, or is still at it." } }))
        }
        @if let Some(back) = &apply.taken_back {
            (notice(Tone::Bad, &html! {
                p {
                    "After " (seconds(back.at)) " the role change was taken back: " code { (back.to.as_str()) }
                    " could not take the role, and " code { (back.from.as_str()) } " got it again."
                }
            }))
        }
        @for span in &apply.no_writes { (no_writes(span)) }
        (schedule::schedule(apply))
        ol.log { @for (index, one) in apply.steps.iter().enumerate() { (step(index + 1, one)) } }
        @if !apply.left_out.is_empty() {
            h3 { "Left out" }
            ul {
                @for left in &apply.left_out {
                    li { code { (left.id) } " " (impact(left.impact)) " " (left.why) }
                }
            }
        }
    }
}

fn outcome(outcome: &str) -> Markup {
    let tone = match outcome {
        "complete" => Tone::Good,
        "interrupted" | UNFINISHED => Tone::Warning,
        _ => Tone::Bad,
    };
    badge(tone, outcome)
}

/// The parts of the time without writes, as long as they were.
fn no_writes(span: &NoWrites) -> Markup {
    let length = span.to - span.from;
    html! {
        figure.outage {
            figcaption {
                @if span.from_before {
                    strong { code { (span.node.as_str()) } " took writes " (seconds(span.to)) " after the apply began." }
                    " Since when nobody did is not in this log."
                } @else {
                    strong { "No writes for " (seconds(length)) "," } " then on " code { (span.node.as_str()) } "."
                }
            }
            @if span.parts.len() > 1 { (schedule::parts(span)) }
        }
    }
}

fn step(number: usize, step: &Done) -> Markup {
    let took = seconds(step.to - step.from);
    html! {
        li {
            span.number { (number) }
            div {
                p {
                    @if let Some(node) = step.node.as_ref().map(NodeName::as_str) { code.node { (node) } " " }
                    @if let Some(title) = &step.title { (title) " " }
                    code.id { (step.id) } " " (impact(step.impact))
                    @match step.outcome {
                        End::Done => {},
                        End::Skipped => span.none { " " (End::Skipped.words()) },
                        End::Failed => { " " (badge(Tone::Bad, End::Failed.words())) },
                        End::Unfinished => { " " (badge(Tone::Warning, End::Unfinished.words())) },
                    }
                }
                @for said in &step.said { p.said { span.when { (at(said.at)) } " " (said.text) } }
                @if let Some(why) = &step.error {
                    (notice(Tone::Bad, &html! {
                        p { (why.message) }
                        @if !why.output.is_empty() { pre.text { (why.output.join("\n")) } }
                        @if let Some(remedy) = &why.remedy { p { strong { "Remedy: " } (remedy) } }
                    }))
                }
            }
            span.when { (at(step.from)) }
            span.took { @if step.outcome != End::Skipped { (took) } }
        }
    }
}

/// When, since the apply began.
fn at(seconds: f64) -> String {
    format!("+{seconds:.3} s")
}
