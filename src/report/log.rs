//! What an apply did and when, read from its event log: steps with their times, and how long nobody could write.
//!
//! A log may be cut off anywhere, as its pgpair was, and hold several applies. What a line says that this pgpair does not
//! know is counted, and stops nothing. Times are seconds since the apply began; a clock that was set back is no step back.

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::event::Event;
use crate::event::Part;
use crate::plan::Impact;
use crate::report::saved::BadDocument;
use crate::topology::NodeName;

/// All applies of a log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogReport {
    /// How the last apply ended.
    pub status: String,
    pub applies: Vec<Applied>,
    /// Lines that this pgpair knows nothing of.
    pub unknown_lines: usize,
}

/// How an apply without an end is called: it was killed, or goes on.
pub const UNFINISHED: &str = "unfinished";

/// One apply.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Applied {
    pub cluster: String,
    pub began: Timestamp,
    /// `complete`, `failed`, `refused`, `interrupted`, or [`UNFINISHED`].
    pub outcome: String,
    /// Up to its end, or to the last that is known of it.
    pub seconds: f64,
    pub steps: Vec<Done>,
    pub left_out: Vec<LeftOut>,
    pub no_writes: Vec<NoWrites>,
    pub taken_back: Option<TakenBack>,
}

/// A step that was come to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Done {
    pub id: String,
    pub node: Option<NodeName>,
    pub title: Option<String>,
    pub impact: Impact,
    pub from: f64,
    pub to: f64,
    pub outcome: End,
    /// What was waited for and what was measured.
    pub said: Vec<Said>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Why>,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Done,
    /// It held already.
    Skipped,
    Failed,
    /// The log says nothing of its end.
    Unfinished,
}

impl End {
    /// The end in a word or two.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Skipped => "held already",
            Self::Failed => "failed",
            Self::Unfinished => "not finished",
        }
    }
}

/// What was said during a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Said {
    pub at: f64,
    pub text: String,
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Why {
    pub message: String,
    pub output: Vec<String>,
    pub remedy: Option<String>,
}

/// A step that was not tried.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeftOut {
    pub id: String,
    pub node: NodeName,
    pub impact: Impact,
    pub why: String,
}

/// A time in which nobody could write.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NoWrites {
    /// Who took writes after it.
    pub node: NodeName,
    pub from: f64,
    pub to: f64,
    /// It began before, since when is not in the log.
    pub from_before: bool,
    pub parts: Vec<Part>,
}

/// A role change that was given up.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TakenBack {
    pub at: f64,
    pub from: NodeName,
    pub to: NodeName,
}

/// A line of the log.
#[derive(Deserialize)]
struct Line {
    time: Timestamp,
    #[serde(flatten)]
    event: Event,
}

/// Whether the text may be an event log: its first line is an event.
#[must_use]
pub fn is_log(text: &str) -> bool {
    let first = text.lines().next().and_then(|line| serde_json::from_str::<Value>(line).ok());
    first.is_some_and(|line| line.get("event").is_some())
}

impl LogReport {
    /// Reads a log.
    ///
    /// # Errors
    ///
    /// [`BadDocument`] where no apply is in it.
    pub fn read(text: &str) -> Result<Self, BadDocument> {
        let mut applies: Vec<Applied> = Vec::new();
        let mut unknown_lines = 0;
        for line in text.lines() {
            let Ok(Line { time, event }) = serde_json::from_str(line) else {
                unknown_lines += 1;
                continue;
            };
            match (event, applies.last_mut()) {
                (Event::ApplyStarted { cluster, .. }, _) => applies.push(Applied::new(cluster, time)),
                (event, Some(apply)) => apply.take(time, event),
                // The rest of a log whose beginning was cut off: no time to count from.
                (_, None) => unknown_lines += 1,
            }
        }
        let why = "no apply is begun in it".to_owned();
        let last = applies.last().ok_or(BadDocument::Malformed { what: "event log", why })?;
        Ok(Self { status: last.outcome.clone(), applies, unknown_lines })
    }
}

impl Applied {
    fn new(cluster: String, began: Timestamp) -> Self {
        Self {
            cluster,
            began,
            outcome: UNFINISHED.to_owned(),
            seconds: 0.0,
            steps: Vec::new(),
            left_out: Vec::new(),
            no_writes: Vec::new(),
            taken_back: None,
        }
    }

    fn take(&mut self, time: Timestamp, event: Event) {
        let at = micros(time.duration_since(self.began).as_secs_f64()).max(self.seconds);
        self.seconds = at;
        match event {
            // Begins another apply, and never comes here.
            Event::ApplyStarted { .. } => {}
            Event::StepLeftOut { step: id, node, impact, why } => {
                self.left_out.push(LeftOut { id, node, impact, why });
            }
            Event::StepStarted { step, node, title, number: _, impact } => {
                let begun = Done { node: Some(node), title: Some(title), impact, ..Done::new(step, at) };
                self.steps.push(begun);
            }
            Event::StepBytes { step, .. } => self.step(&step, at).to = at,
            Event::StepWaiting { step, condition } => {
                self.step(&step, at).said.push(Said { at, text: format!("waiting: {condition}") });
            }
            Event::StepNote { step, note } => self.step(&step, at).said.push(Said { at, text: note }),
            Event::NoWrites { step, node, parts, from_before } => {
                self.step(&step, at);
                // Not as durations, whose sum may be more than there is room for: a file may say anything.
                let length: f64 = parts.iter().map(|part| part.elapsed.as_secs_f64()).sum();
                let from = if from_before { 0.0 } else { micros(at - length).max(0.0) };
                self.no_writes.push(NoWrites { node, from, to: at, from_before, parts });
            }
            Event::StepSkipped { step, node } => {
                self.steps.push(Done { node: Some(node), outcome: End::Skipped, ..Done::new(step, at) });
            }
            Event::StepDone { step, node, elapsed: _ } => {
                let done = self.step(&step, at);
                (done.node, done.outcome) = (Some(node), End::Done);
            }
            Event::StepFailed { step, node, message, output, remedy } => {
                let done = self.step(&step, at);
                (done.node, done.outcome) = (Some(node), End::Failed);
                done.error = Some(Why { message, output, remedy });
            }
            Event::TakenBack { from, to } => self.taken_back = Some(TakenBack { at, from, to }),
            Event::ApplyFinished { outcome, elapsed: _ } => self.outcome = outcome,
        }
    }

    /// Returns the step under way of this id; one that nothing is known of begins, and ends, now.
    fn step(&mut self, id: &str, at: f64) -> &mut Done {
        let is_it = |step: &Done| step.id == id && step.outcome == End::Unfinished;
        let index = self.steps.iter().rposition(is_it).unwrap_or_else(|| {
            self.steps.push(Done::new(id.to_owned(), at));
            self.steps.len() - 1
        });
        let step = &mut self.steps[index];
        step.to = at;
        step
    }
}

impl Done {
    fn new(id: String, at: f64) -> Self {
        Self {
            id,
            node: None,
            title: None,
            impact: Impact::None,
            from: at,
            to: at,
            outcome: End::Unfinished,
            said: Vec::new(),
            error: None,
        }
    }
}

/// What is finer is noise, in every rendering.
fn micros(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A switchover as its log has it, shortened.
    pub(crate) const SWITCHOVER: &str = include_str!("log/switchover.jsonl");

    fn read(text: &str) -> Applied {
        LogReport::read(text).expect("a log").applies.remove(0)
    }

    #[test]
    fn a_switchover_has_its_steps_with_times_and_the_time_without_writes() {
        let apply = read(SWITCHOVER);
        assert_eq!((apply.cluster.as_str(), apply.outcome.as_str()), ("orders", "complete"));
        insta::assert_snapshot!(crate::report::json::log(&LogReport::read(SWITCHOVER).expect("a log")));
    }

    #[test]
    fn a_log_that_was_cut_off_has_a_step_that_is_not_finished() {
        let upto = SWITCHOVER.find("\"step_done\",\"step\":\"b.promote\"").expect("the promotion's end");
        let apply = read(&SWITCHOVER[..upto]);
        assert_eq!(apply.outcome, UNFINISHED);
        let last = apply.steps.last().expect("steps");
        assert_eq!((last.id.as_str(), last.outcome), ("b.promote", End::Unfinished));
        assert_eq!(LogReport::read(&SWITCHOVER[..upto]).expect("a log").unknown_lines, 1, "half a line");
    }

    #[test]
    fn two_applies_in_one_log_are_two() {
        let report = LogReport::read(&SWITCHOVER.repeat(2)).expect("a log");
        assert_eq!(report.applies.len(), 2);
        assert_eq!(report.applies[0], report.applies[1]);
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_step_end_before_it_began() {
        let apply = read(&SWITCHOVER.replace("03:18:45.721193478Z", "02:18:45.721193478Z"));
        assert!(apply.steps.iter().all(|step| step.from <= step.to), "{apply:?}");
    }

    #[test]
    fn a_log_that_says_what_can_not_be_is_read_all_the_same() {
        let text = SWITCHOVER.replace("0.027}", "1e19},{\"what\":\"x\",\"seconds\":1e19}");
        assert_ne!(text, SWITCHOVER);
        let span = &read(&text).no_writes[0];
        assert_eq!((span.from, span.parts.len()), (0.0, 4));
        let report = LogReport::read(&text).expect("a log");
        assert!(!crate::report::text::log(&report).is_empty() && !crate::report::html::log(&report).is_empty());
    }

    #[test]
    fn lines_of_a_later_pgpair_are_counted_and_what_is_no_log_is_refused() {
        let more = SWITCHOVER.to_owned() + "{\"time\":\"2026-12-01T03:18:47Z\",\"event\":\"moon_phase\"}\n";
        assert_eq!(LogReport::read(&more).expect("a log").unknown_lines, 1);
        assert!(is_log(SWITCHOVER) && !is_log("{\n\"format_version\": \"1.0\"}") && !is_log(""));
        let error = LogReport::read("{\"event\":\"x\"}").expect_err("no apply").to_string();
        assert_eq!(error, "it is no event log of pgpair's: no apply is begun in it");
    }
}
