//! The executor: look, check, perform, and look again until the goal is seen to be reached.
//!
//! It decides nothing that the plan has not decided, and prints nothing: what happens is told by [`Event`]s. It
//! knows the outside only as a [`World`].

use std::time::Duration;
use std::time::Instant;

use tokio::sync::watch;

use crate::event::Event;
use crate::observed::Observed;
use crate::plan::Refusal;
use crate::plan::Step;
use crate::plan::allow::Selection;
use crate::plan::check::Check;
use crate::plan::check::check;
use crate::report;
use crate::report::words;
use crate::topology::Topology;
use crate::world::Failure;
use crate::world::Progress;
use crate::world::World;

/// The first pause between two looks; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How an apply went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Steps that were performed and seen to have reached their goal.
    pub done: usize,
    /// Steps whose goal was reached already.
    pub skipped: usize,
    pub ended: Ended,
}

/// Why an apply did nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every chosen step has reached its goal.
    Complete,
    /// A step failed, or its goal was not seen in time.
    Failed { step: String, failure: Failure },
    /// What the next step rests on is not there any more; that step changed nothing.
    Refused { step: String, refusal: Refusal },
    /// By a signal, before this step or in it.
    Interrupted { step: String },
}

impl Ended {
    /// The word for it in events.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Failed { .. } => "failed",
            Self::Refused { .. } => "refused",
            Self::Interrupted { .. } => "interrupted",
        }
    }
}

/// When to stop waiting.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long a performed step may take to be seen at its goal.
    pub timeout: Duration,
    /// Becomes true at the first signal.
    pub interrupt: watch::Receiver<bool>,
}

/// Carries out the chosen steps in order, and stops at the first that can't be done.
pub async fn apply<W: World>(
    world: &W,
    topology: &Topology,
    selection: &Selection<'_>,
    limits: &Limits,
    emit: &(dyn Fn(Event) + Sync),
) -> Outcome {
    let begun = Instant::now();
    emit(Event::ApplyStarted { cluster: topology.cluster.clone(), steps: selection.chosen.len() });
    for (step, why) in &selection.left_out {
        emit(Event::StepLeftOut {
            step: step.id.clone(),
            node: step.node.clone(),
            impact: step.impact,
            why: why.clone(),
        });
    }
    let run = Run { world, topology, limits, emit };
    let mut outcome = Outcome { done: 0, skipped: 0, ended: Ended::Complete };
    // What proved the last step is what the next one is judged by: nothing lies between the two.
    let mut seen = None;
    for (index, step) in selection.chosen.iter().enumerate() {
        match run.step(step, index + 1, seen.take()).await {
            Ok((Reached::ByThisRun, now)) => {
                outcome.done += 1;
                seen = Some(now);
            }
            Ok((Reached::Already, now)) => {
                outcome.skipped += 1;
                seen = Some(now);
            }
            Err(ended) => {
                outcome.ended = ended;
                break;
            }
        }
    }
    emit(Event::ApplyFinished { outcome: outcome.ended.word(), elapsed: begun.elapsed() });
    outcome
}

/// How a step's goal was reached.
enum Reached {
    Already,
    ByThisRun,
}

struct Run<'a, W> {
    world: &'a W,
    topology: &'a Topology,
    limits: &'a Limits,
    emit: &'a (dyn Fn(Event) + Sync),
}

impl<W: World> Run<'_, W> {
    async fn step(&self, step: &Step, number: usize, seen: Option<Observed>) -> Result<(Reached, Observed), Ended> {
        if self.is_interrupted() {
            return Err(self.interrupted(step));
        }
        let seen = match seen {
            Some(seen) => seen,
            None => self.world.observe().await,
        };
        match check(&step.node, &step.action, self.topology, &seen) {
            Check::Satisfied => {
                (self.emit)(Event::StepSkipped { step: step.id.clone(), node: step.node.clone() });
                return Ok((Reached::Already, seen));
            }
            Check::Blocked(refusal) => return Err(self.refused(step, refusal)),
            Check::Ready => {}
        }
        let begun = Instant::now();
        (self.emit)(Event::StepStarted {
            step: step.id.clone(),
            node: step.node.clone(),
            title: words::title(step),
            number,
        });
        let progress = |progress: Progress| (self.emit)(progress_of(step, progress));
        match self.world.perform(step, &progress).await {
            Ok(()) => {}
            Err(failure) if failure.interrupted => return Err(self.interrupted(step)),
            Err(failure) => return Err(self.failed(step, failure)),
        }
        let seen = self.until_satisfied(step).await?;
        (self.emit)(Event::StepDone { step: step.id.clone(), node: step.node.clone(), elapsed: begun.elapsed() });
        Ok((Reached::ByThisRun, seen))
    }

    /// Looks until the step's goal is reached. A refusal meanwhile is no end: a server that starts does not
    /// answer yet.
    async fn until_satisfied(&self, step: &Step) -> Result<Observed, Ended> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut told = false;
        let mut interrupt = self.limits.interrupt.clone();
        loop {
            let seen = self.world.observe().await;
            let verdict = check(&step.node, &step.action, self.topology, &seen);
            if verdict == Check::Satisfied {
                return Ok(seen);
            }
            if self.is_interrupted() {
                return Err(self.interrupted(step));
            }
            if begun.elapsed() >= self.limits.timeout {
                return Err(self.failed(step, self.too_late(step, &verdict, &seen)));
            }
            if !told {
                (self.emit)(Event::StepWaiting { step: step.id.clone(), condition: words::goal(step) });
                told = true;
            }
            let left = self.limits.timeout.saturating_sub(begun.elapsed());
            tokio::select! {
                () = tokio::time::sleep(pause.min(left)) => {}
                Ok(_) = interrupt.wait_for(|interrupted| *interrupted) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn too_late(&self, step: &Step, verdict: &Check, seen: &Observed) -> Failure {
        let goal = words::goal(step);
        let waited = self.limits.timeout.as_secs_f64();
        let failure = match verdict {
            Check::Blocked(refusal) => {
                Failure::new(format!("not seen within {waited} s: {goal}; {}", refusal.reason()))
                    .with_remedy(refusal.remedy())
            }
            Check::Satisfied | Check::Ready => Failure::new(format!("not seen within {waited} s: {goal}"))
                .with_remedy("see the server's log, then apply again; --timeout waits longer"),
        };
        let last = report::nodes(self.topology, seen)
            .iter()
            .map(|node| format!("{}: {}", node.node, words::seen(node)))
            .collect();
        failure.with_output(last)
    }

    fn is_interrupted(&self) -> bool {
        *self.limits.interrupt.borrow()
    }

    fn interrupted(&self, step: &Step) -> Ended {
        Ended::Interrupted { step: step.id.clone() }
    }

    fn refused(&self, step: &Step, refusal: Refusal) -> Ended {
        (self.emit)(Event::StepFailed {
            step: step.id.clone(),
            node: step.node.clone(),
            message: refusal.reason(),
            output: Vec::new(),
            remedy: Some(refusal.remedy()),
        });
        Ended::Refused { step: step.id.clone(), refusal }
    }

    fn failed(&self, step: &Step, failure: Failure) -> Ended {
        (self.emit)(Event::StepFailed {
            step: step.id.clone(),
            node: step.node.clone(),
            message: failure.message.clone(),
            output: failure.output.clone(),
            remedy: failure.remedy.clone(),
        });
        Ended::Failed { step: step.id.clone(), failure }
    }
}

fn progress_of(step: &Step, progress: Progress) -> Event {
    let step = step.id.clone();
    match progress {
        Progress::Bytes { done, total } => Event::StepBytes { step, done, total },
        Progress::Waiting(condition) => Event::StepWaiting { step, condition },
    }
}
