//! What an apply did and when, as text: a line for each step, with when it began and how long it took.

use anstyle::Style;

use crate::report::log::Applied;
use crate::report::log::Done;
use crate::report::log::End;
use crate::report::log::LogReport;
use crate::report::text::BOLD;
use crate::report::text::DIM;
use crate::report::text::GREEN;
use crate::report::text::RED;
use crate::report::text::YELLOW;
use crate::report::text::names;
use crate::report::text::paint;
use crate::report::words::count;
use crate::report::words::no_writes;
use crate::report::words::seconds;
use crate::report::words::visible;
use crate::topology::NodeName;

/// Renders the applies of an event log.
#[must_use]
pub fn log(report: &LogReport) -> String {
    let mut lines = Vec::new();
    for apply in &report.applies {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        applied(apply, &mut lines);
    }
    if report.unknown_lines > 0 {
        lines.push(paint(DIM, &format!("{} could not be read", count(report.unknown_lines, "line"))));
    }
    lines.join("\n") + "\n"
}

fn applied(apply: &Applied, lines: &mut Vec<String>) {
    let began = apply.began.strftime("%F %T UTC");
    let outcome = paint(if apply.outcome == "complete" { GREEN } else { RED }, &visible(&apply.outcome));
    let length = seconds(apply.seconds);
    lines.push(format!("{}: {outcome}, {length} from {began}", paint(BOLD, &visible(&apply.cluster))));
    let width = names(apply.steps.iter().filter_map(|step| step.node.as_ref()));
    for one in &apply.steps {
        step(one, width, lines);
    }
    for left in &apply.left_out {
        lines.push(format!("  left out: {}: {}", visible(&left.id), visible(&left.why)));
    }
    if let Some(back) = &apply.taken_back {
        let at = seconds(back.at);
        let (from, to) = (visible(back.from.as_str()), visible(back.to.as_str()));
        lines.push(format!("  after {at} the role change was taken back: {to} could not take it, {from} got it again"));
    }
    for span in &apply.no_writes {
        let parts = no_writes(&span.parts, span.from_before);
        lines.push(format!("  {}: {}", visible(span.node.as_str()), paint(YELLOW, &visible(&parts))));
    }
}

fn step(step: &Done, node_width: usize, lines: &mut Vec<String>) {
    let node = visible(step.node.as_ref().map_or("", NodeName::as_str));
    let title = visible(step.title.as_deref().unwrap_or(&step.id));
    let took = match step.outcome {
        End::Skipped => paint(DIM, End::Skipped.words()),
        End::Done => seconds(step.to - step.from),
        end @ (End::Failed | End::Unfinished) => {
            format!("{} after {}", paint(style(end), end.words()), seconds(step.to - step.from))
        }
    };
    lines.push(format!("  {:>8}  {node:node_width$}  {title}  {took}", format!("+{:.3}", step.from)));
    let indent = " ".repeat(14 + node_width);
    lines.extend(step.said.iter().map(|said| format!("{indent}{}", paint(DIM, &visible(&said.text)))));
    if let Some(why) = &step.error {
        lines.push(format!("{indent}{}", paint(RED, &visible(&why.message))));
        lines.extend(why.output.iter().map(|line| format!("{indent}  {}", visible(line))));
        lines.extend(why.remedy.iter().map(|remedy| format!("{indent}remedy: {}", visible(remedy))));
    }
}

fn style(end: End) -> Style {
    match end {
        End::Failed => RED,
        End::Unfinished => YELLOW,
        End::Done | End::Skipped => GREEN,
    }
}
