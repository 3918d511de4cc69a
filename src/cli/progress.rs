//! What happens during an apply, told while it happens: a bar on a terminal, lines elsewhere, events as JSON.
//!
//! Every event also goes to the event log, and what became of each step is kept for the result.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use indicatif::BinaryBytes;
use indicatif::ProgressBar;
use indicatif::ProgressDrawTarget;
use indicatif::ProgressStyle;
use tokio::task::JoinHandle;

use super::LogFormat;
use super::event_log;
use super::event_log::EventLog;
use super::ui::Ui;
use crate::event::Event;
use crate::report::json::StepOutcome;
use crate::report::json::StepResult;
use crate::report::words;
use crate::report::words::visible;

/// A step that takes less is told when it is done, and has no bar.
const SHORT: Duration = Duration::from_secs(2);
/// How often the bytes of a clone are a line, where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// Takes the events of an apply.
pub(super) struct Reporter<'a> {
    ui: &'a Ui,
    state: Mutex<State>,
}

struct State {
    log: Option<EventLog>,
    results: Vec<StepResult>,
    total: usize,
    running: Option<Running>,
}

/// The step that is under way.
struct Running {
    step: String,
    label: String,
    bar: Option<Bar>,
    told: Instant,
}

/// A bar that shows itself when the step turns out to be a long one.
pub(super) struct Bar {
    bar: ProgressBar,
    appears: JoinHandle<()>,
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.appears.abort();
        self.bar.finish_and_clear();
    }
}

impl Bar {
    fn new(label: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()).with_style(spinner());
        bar.set_prefix(label.to_owned());
        let shown = bar.clone();
        let appears = tokio::spawn(async move {
            tokio::time::sleep(SHORT).await;
            shown.set_draw_target(ProgressDrawTarget::stderr());
            shown.enable_steady_tick(Duration::from_millis(100));
        });
        Self { bar, appears }
    }

    /// A bar of so many things, that are done one after the other.
    pub(super) fn of(label: &str, total: u64) -> Self {
        let bar = Self::new(label);
        bar.bar.set_style(template("{spinner} {prefix}  {bar:30} {pos}/{len} {elapsed}"));
        bar.bar.set_length(total);
        bar
    }

    /// One more is done.
    pub(super) fn one(&self) {
        self.bar.inc(1);
    }

    fn bytes(&self, done: u64, total: Option<u64>) {
        if let Some(total) = total {
            if self.bar.length().is_none() {
                self.bar.set_style(bar_of_bytes());
            }
            // A total is an estimate: the source grows, and WAL comes along.
            self.bar.set_length(total.max(done));
        } else {
            self.bar.set_message(BinaryBytes(done).to_string());
        }
        self.bar.set_position(done);
    }
}

fn spinner() -> ProgressStyle {
    template("{spinner} {prefix}  {wide_msg} {elapsed}")
}

fn bar_of_bytes() -> ProgressStyle {
    template("{spinner} {prefix}  {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}, {eta} left")
}

fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text).expect("the templates are constants of this file")
}

impl<'a> Reporter<'a> {
    pub(super) fn new(ui: &'a Ui, log: Option<EventLog>) -> Self {
        Self { ui, state: Mutex::new(State { log, results: Vec::new(), total: 0, running: None }) }
    }

    /// Takes one event.
    pub(super) fn take(&self, event: &Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.keep(event, self.ui);
        state.results.extend(result_of(event));
        match self.ui.log_format {
            LogFormat::Json => self.ui.note(&event_log::line(event)),
            LogFormat::Text => state.show(event, self.ui),
        }
    }

    /// Returns what became of each step.
    pub(super) fn into_results(self) -> Vec<StepResult> {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).results
    }
}

/// Returns what an event makes known of a step's end.
fn result_of(event: &Event) -> Option<StepResult> {
    let result = |id: &String, node: &crate::topology::NodeName, outcome: StepOutcome| StepResult {
        id: id.clone(),
        node: node.clone(),
        outcome,
        seconds: None,
        why: None,
    };
    match event {
        Event::StepLeftOut { step, node, why, impact: _ } => {
            Some(StepResult { why: Some(why.clone()), ..result(step, node, StepOutcome::LeftOut) })
        }
        Event::StepSkipped { step, node } => Some(result(step, node, StepOutcome::Skipped)),
        Event::StepDone { step, node, elapsed } => {
            let seconds = Some((elapsed.as_secs_f64() * 1000.0).round() / 1000.0);
            Some(StepResult { seconds, ..result(step, node, StepOutcome::Done) })
        }
        Event::StepFailed { step, node, message, .. } => {
            Some(StepResult { why: Some(message.clone()), ..result(step, node, StepOutcome::Failed) })
        }
        Event::ApplyStarted { .. }
        | Event::StepStarted { .. }
        | Event::StepBytes { .. }
        | Event::StepWaiting { .. }
        | Event::StepNote { .. }
        | Event::NoWrites { .. }
        | Event::TakenBack { .. }
        | Event::ApplyFinished { .. } => None,
    }
}

impl State {
    /// Appends to the event log. Positions are left out: in the hours of a large clone they would be most of it.
    fn keep(&mut self, event: &Event, ui: &Ui) {
        let Some(log) = self.log.as_mut().filter(|_| !matches!(event, Event::StepBytes { .. })) else { return };
        if let Err(why) = log.append(event) {
            ui.warn(&format!("the event log can't be written any more: {why}"));
            self.log = None;
        }
    }

    fn show(&mut self, event: &Event, ui: &Ui) {
        let say = |text: String| ui.note(&format!("{}\n", visible(&text)));
        match event {
            Event::ApplyStarted { steps, cluster: _ } => self.total = *steps,
            Event::StepLeftOut { step, why, .. } => say(format!("left out: {step}: {why}")),
            Event::StepStarted { step, node, title, number, impact: _ } => {
                let label = format!("[{number}/{}] {node}: {title}", self.total);
                let bar = ui.is_watched().then(|| Bar::new(&visible(&label)));
                if bar.is_none() {
                    say(label.clone());
                }
                self.running = Some(Running { step: step.clone(), label, bar, told: Instant::now() });
            }
            Event::StepBytes { step, done, total } => {
                let Some(running) = self.running.as_mut().filter(|running| running.step == *step) else { return };
                if let Some(bar) = &running.bar {
                    bar.bytes(*done, *total);
                } else if running.told.elapsed() >= BETWEEN_LINES {
                    running.told = Instant::now();
                    let of = total.map(|total| format!(" of {}", BinaryBytes(total))).unwrap_or_default();
                    say(format!("{}: {}{of}", running.label, BinaryBytes(*done)));
                }
            }
            Event::StepWaiting { step, condition } => {
                let Some(running) = self.running.as_ref().filter(|running| running.step == *step) else { return };
                match &running.bar {
                    Some(bar) => bar.bar.set_message(visible(&format!("waiting: {condition}"))),
                    None => say(format!("{}: waiting: {condition}", running.label)),
                }
            }
            Event::StepNote { step, note } => say(format!("{step}: {note}")),
            Event::NoWrites { step, node: _, parts, from_before } => {
                say(format!("{step}: {}", words::no_writes(parts, *from_before)));
            }
            Event::StepSkipped { step, .. } => say(format!("{step}: holds already")),
            Event::StepDone { elapsed, .. } => {
                if let Some(running) = self.running.take() {
                    let label = running.label.clone();
                    drop(running);
                    say(format!("{label}: done in {:.1} s", elapsed.as_secs_f64()));
                }
            }
            Event::StepFailed { step, message, output, remedy, .. } => {
                self.running = None;
                say(format!("error: {step}: {message}"));
                for line in output {
                    say(format!("  {line}"));
                }
                if let Some(remedy) = remedy {
                    say(format!("  help: {remedy}"));
                }
            }
            Event::TakenBack { from, to } => say(format!("{to} can't take the role: {from} gets it back")),
            Event::ApplyFinished { .. } => self.running = None,
        }
    }
}
