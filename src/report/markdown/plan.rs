//! A plan as a comment: what it takes, who feeds whom before and after, and each step with its diff folded away.

use crate::plan::Impact;
use crate::plan::Status;
use crate::report::BlockedReport;
use crate::report::PlanReport;
use crate::report::StepReport;
use crate::report::markdown::Comment;
use crate::report::markdown::ROOM;
use crate::report::markdown::cut;
use crate::report::markdown::escape::code;
use crate::report::markdown::escape::fence;
use crate::report::markdown::escape::html_code;
use crate::report::markdown::escape::html_inline;
use crate::report::markdown::escape::inline;
use crate::report::markdown::list;
use crate::report::markdown::marker;
use crate::report::markdown::picture;
use crate::report::text;
use crate::report::words;
use crate::report::words::count;
use crate::topology::NodeName;

/// What a step's heading may take: its title may hold a whole command.
const MOST_OF_A_TITLE: usize = 300;

/// Renders a plan. `file` is the topology's name.
#[must_use]
pub fn plan(report: &PlanReport, file: &str) -> String {
    within(report, file, ROOM)
}

/// The same in less room.
pub(super) fn within(report: &PlanReport, file: &str, room: usize) -> String {
    let mut comment = Comment::new(room);
    comment.add(&marker(&report.cluster));
    if report.status == Status::Clean {
        let clean =
            format!("### pgpair: no changes\n\n{} matches {}.\n", code(&report.cluster), code(&shortened(file)));
        comment.add(&clean);
        return comment.text;
    }
    comment.add(&head(report));
    comment.add_all(report.blocked.iter().map(blocked), "refusal");
    if report.status == Status::Changes
        && let Some(picture) = picture::roles(report)
    {
        comment.add(&format!("\n{picture}"));
    }
    steps(&report.steps, &mut comment);
    comment.text
}

fn head(report: &PlanReport) -> String {
    let summary = &report.summary;
    let mut text = format!("### pgpair: {} {}\n\n", inline(&report.cluster), headline(report));
    if report.halted || summary.steps == 0 {
        return text + &anstream::adapter::strip_str(&text::summary(report)).to_string() + "\n";
    }
    let impacts: Vec<String> =
        summary.impact.iter().rev().map(|(impact, nodes)| format!("**{impact}** {}", list(nodes))).collect();
    let impacts = if impacts.is_empty() { "none".to_owned() } else { impacts.join(", ") };
    text.push_str(&format!("- Impact: {impacts}\n"));
    let mut loss: Vec<String> = summary.at_risk.iter().map(|loss| format!("**{}**", text::at_risk(loss))).collect();
    if !summary.data_loss.is_empty() {
        loss.push(format!("**what {} holds**", list(&summary.data_loss)));
    }
    let loss = if loss.is_empty() { "none".to_owned() } else { loss.join("; ") };
    text.push_str(&format!("- Data loss: {loss}\n"));
    if !summary.allow.is_empty() {
        text.push_str(&format!("- Allow with {}\n", code(&shortened(&format!("--allow {}", summary.allow.join(","))))));
    }
    if !summary.blocked.is_empty() {
        text.push_str(&format!("- Left alone: {}\n", list(&summary.blocked)));
    }
    if let Some(span) = report.asynchronous {
        let until = span.to.map_or_else(|| "on, until enough standbys stream".to_owned(), |to| format!("to {to}"));
        text.push_str(&format!("- **Commits are asynchronous** from step {} {until}\n", span.from));
    }
    text
}

fn headline(report: &PlanReport) -> String {
    let summary = &report.summary;
    let steps = format!("{} on {}", count(summary.steps, "step"), count(summary.nodes.len(), "node"));
    match (&report.role_change, report.status) {
        (_, Status::Blocked) => "is blocked".to_owned(),
        (Some(change), _) => {
            format!("moves its primary from {} to {}: {steps}", code(change.from.as_str()), code(change.to.as_str()))
        }
        (None, _) => format!("needs {steps}"),
    }
}

fn blocked(item: &BlockedReport) -> String {
    let whose = item.node.as_ref().map_or("the whole plan", NodeName::as_str);
    let (reason, remedy) = (inline(&shortened(&item.reason)), inline(&shortened(&item.remedy)));
    format!("\n> **Blocked**: {}: {reason} ({})\n>\n> Remedy: {remedy}\n", inline(whose), code(item.code))
}

/// A step as it is shown.
struct Body {
    heading: String,
    /// What is folded away, as a diff; where that is too long, its first lines.
    text: String,
}

const END: &str = "\n</details>\n";

/// Every step's heading first, as far as they go; then what room is left is shared out, so that a long diff takes
/// nothing from a short one.
fn steps(steps: &[StepReport], comment: &mut Comment) {
    // What is said of steps that don't fit, and of lines.
    const TOLD: usize = 200;
    const CUT: usize = 40;
    let bodies: Vec<Body> = steps.iter().enumerate().map(|(index, step)| Body::of(index + 1, step)).collect();
    let least = |body: &Body| body.heading.len() + END.len() + CUT + fence("diff", &body.text).len() - body.text.len();
    let mut left = comment.left().saturating_sub(TOLD);
    let headed = bodies.iter().take_while(|body| {
        let fits = least(body) <= left;
        left = left.saturating_sub(least(body));
        fits
    });
    let shown = headed.count();
    let share = share(bodies[..shown].iter().map(|body| body.text.len()), left);
    let shortened = bodies[..shown].iter().filter(|body| body.text.len() > share).count();
    let mut told = Vec::new();
    if shortened > 0 {
        told.push(format!("{} shortened", count(shortened, "diff")));
    }
    if shown < bodies.len() {
        told.push(format!("{} more not shown", count(bodies.len() - shown, "step")));
    }
    if !told.is_empty() {
        let told = format!("\n*Too much for a comment: {}; the log of the job has all of it.*\n", told.join(", "));
        comment.add(&told);
    }
    for body in &bodies[..shown] {
        comment.text.push_str(&body.heading);
        if !body.text.is_empty() {
            comment.text.push_str(&fence("diff", &cut(&body.text, share)));
        }
        comment.text.push_str(END);
    }
}

/// How long each may be at most so that all fit in `room`: who needs less leaves the rest to the others.
fn share(lengths: impl Iterator<Item = usize>, mut room: usize) -> usize {
    let mut lengths: Vec<usize> = lengths.collect();
    lengths.sort_unstable();
    for (index, length) in lengths.iter().enumerate() {
        let share = room / (lengths.len() - index);
        if *length > share {
            return share;
        }
        room -= length;
    }
    usize::MAX
}

impl Body {
    fn of(number: usize, step: &StepReport) -> Self {
        let impact = if step.impact == Impact::None { String::new() } else { format!(" <b>{}</b>", step.impact) };
        let heading = format!(
            "\n<details><summary>{number}. {} {}{impact}</summary>\n<p>{}</p>\n\n",
            html_code(&format!("{} {}", step.symbol.as_str(), step.node)),
            html_inline(&shortened(&step.title)),
            html_inline(&shortened(&step.reason))
        );
        let mut text = String::new();
        for room in words::rooms(&step.rooms) {
            text.push_str(&format!("# {}\n", words::visible(&room).replace('\n', " ")));
        }
        for file in &step.diff {
            let empty = if file.unified.is_empty() { " (empty)" } else { "" };
            text.push_str(&format!("# {}{empty}\n", words::visible(&file.file).replace('\n', " ")));
            text.push_str(&words::visible(&file.unified));
        }
        Self { text, heading }
    }
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= MOST_OF_A_TITLE {
        return text.to_owned();
    }
    let kept: String = text.chars().take(MOST_OF_A_TITLE).collect();
    format!("{kept}…")
}
