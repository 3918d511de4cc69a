//! The executor: look, check, perform, and look again until the goal is seen to be reached.
//!
//! It decides nothing that the plan has not decided, and prints nothing: what happens is told by [`Event`]s. It
//! knows the outside only as a [`World`].

use std::time::Duration;
use std::time::Instant;

use tokio::sync::watch;

use crate::event::Change;
use crate::event::Event;
use crate::event::Part;
use crate::observed::Observed;
use crate::plan::Action;
use crate::plan::Reason;
use crate::plan::Refusal;
use crate::plan::Step;
use crate::plan::allow::Selection;
use crate::plan::check::Check;
use crate::plan::check::check;
use crate::plan::planner;
use crate::plan::synchronous;
use crate::report;
use crate::report::words;
use crate::topology::Topology;
use crate::world::Failure;
use crate::world::Progress;
use crate::world::World;

mod role_change;

/// The first pause between two looks; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How long a standby that runs again is given to connect to its upstream: twice `wal_retrieve_retry_interval`.
const LONGEST_RECONNECT: Duration = Duration::from_secs(10);

/// How an apply went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Steps that were performed and seen to have reached their goal.
    pub done: usize,
    /// Steps whose goal was reached already.
    pub skipped: usize,
    pub ended: Ended,
    /// What became of a role change; absent where there was none, or nothing of it was begun.
    pub role_change: Option<Change>,
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
    let mut outcome = Outcome { done: 0, skipped: 0, ended: Ended::Complete, role_change: None };
    match run.all(selection, &mut outcome).await {
        Ok(()) => {
            outcome.role_change = selection.promotion().map(|_| Change::Done);
        }
        Err(ended) => {
            outcome.role_change = run.end_role_change(selection).await;
            run.waits_again(selection).await;
            outcome.ended = ended;
        }
    }
    emit(Event::ApplyFinished { outcome: outcome.ended.word().to_owned(), elapsed: begun.elapsed() });
    outcome
}

/// Returns what restarts have interrupted: standbys that lack nothing but their stream, which comes back by itself
/// within `wal_retrieve_retry_interval`. Waited for, so that a plan is empty afterwards.
fn interrupted_streams(topology: &Topology, seen: &Observed) -> Vec<Step> {
    let rest = planner::plan(topology, seen);
    if rest.is_halted() {
        return Vec::new();
    }
    let streams = |step: &Step| matches!(step.action, Action::Streaming { .. });
    let lacks_more = |step: &Step| rest.steps.iter().any(|other| other.node == step.node && !streams(other));
    rest.steps.iter().filter(|step| streams(step) && !lacks_more(step)).cloned().collect()
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
    async fn all(&self, selection: &Selection<'_>, outcome: &mut Outcome) -> Result<(), Ended> {
        // What proved the last step is what the next one is judged by: nothing lies between the two.
        let mut seen = None;
        for (index, step) in selection.chosen.iter().enumerate() {
            let (reached, now) = self.step(step, index + 1, seen.take()).await?;
            match reached {
                Reached::ByThisRun => outcome.done += 1,
                Reached::Already => outcome.skipped += 1,
            }
            seen = Some(now);
        }
        let Some(seen) = seen else { return Ok(()) };
        for step in interrupted_streams(self.topology, &seen) {
            self.step(&step, selection.chosen.len(), None).await?;
        }
        Ok(())
    }

    /// Lets commits wait for their standbys again, where this run has ended that for a step and came no further. The
    /// standby may have to connect first.
    async fn waits_again(&self, selection: &Selection<'_>) {
        let made_way = |step: &&Step| matches!(step.reason, Reason::StandbyLeaves(_));
        if !selection.chosen.iter().any(made_way) {
            return;
        }
        let until = Instant::now() + self.limits.timeout.min(LONGEST_RECONNECT);
        loop {
            let seen = self.look().await;
            if !synchronous::in_force(self.topology, &seen).is_some_and(str::is_empty) {
                return;
            }
            if let Some(step) = planner::waits_again(self.topology, &seen) {
                // Where it fails, the events say so; how the run ended is told by the step that ended it.
                let _ = self.step(&step, selection.chosen.len(), Some(seen)).await;
                return;
            }
            if Instant::now() >= until || self.is_interrupted() {
                return;
            }
            tokio::time::sleep(LONGEST_PAUSE).await;
        }
    }

    async fn step(&self, step: &Step, number: usize, seen: Option<Observed>) -> Result<(Reached, Observed), Ended> {
        if self.is_interrupted() {
            return Err(self.interrupted(step));
        }
        let seen = match seen {
            Some(seen) => seen,
            None => self.look().await,
        };
        match check(&step.node, &step.action, &step.topology(self.topology), &seen) {
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
            impact: step.impact,
        });
        let progress = |progress: Progress| (self.emit)(progress_of(step, progress));
        let performed = match self.world.perform(step, &progress).await {
            Err(failure) if failure.disconnected => self.perform_again(step, failure, &progress).await,
            performed => performed,
        };
        match performed {
            Ok(()) => {}
            Err(failure) if failure.interrupted => return Err(self.interrupted(step)),
            Err(failure) => return Err(self.failed(step, failure)),
        }
        let seen = self.until_satisfied(step).await?;
        (self.emit)(Event::StepDone { step: step.id.clone(), node: step.node.clone(), elapsed: begun.elapsed() });
        Ok((Reached::ByThisRun, seen))
    }

    /// Carries out a step once more whose connection was cut, where it still is to be done.
    ///
    /// That is as safe as the next apply: a step bears to be cut off anywhere, and the server has ended the session, so
    /// that nothing of the first attempt can come after the second.
    async fn perform_again(
        &self,
        step: &Step,
        failure: Failure,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<(), Failure> {
        let judged = check(&step.node, &step.action, &step.topology(self.topology), &self.look().await);
        if self.is_interrupted() {
            return Err(failure);
        }
        match judged {
            Check::Satisfied => Ok(()),
            Check::Blocked(_) => Err(failure),
            Check::Ready => {
                progress(Progress::Note(format!("{}; once more", failure.message)));
                self.world.perform(step, progress).await
            }
        }
    }

    async fn look(&self) -> Observed {
        let begun = Instant::now();
        let seen = self.world.observe().await;
        tracing::debug!(elapsed = ?begun.elapsed(), "looked at every node");
        seen
    }

    /// Looks until the step's goal is reached. A refusal meanwhile is no end: a server that starts does not
    /// answer yet.
    async fn until_satisfied(&self, step: &Step) -> Result<Observed, Ended> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut told = false;
        let mut interrupt = self.limits.interrupt.clone();
        loop {
            let seen = self.look().await;
            let verdict = check(&step.node, &step.action, &step.topology(self.topology), &seen);
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

fn progress_of(of: &Step, progress: Progress) -> Event {
    let step = of.id.clone();
    match progress {
        Progress::Bytes { done, total } => Event::StepBytes { step, done, total },
        Progress::Waiting(condition) => Event::StepWaiting { step, condition },
        Progress::Note(note) => Event::StepNote { step, note },
        Progress::NoWrites { parts, from_before } => {
            let part = |(what, elapsed): (&str, Duration)| Part { what: what.to_owned(), elapsed };
            let node = of.node.clone();
            Event::NoWrites { step, node, parts: parts.into_iter().map(part).collect(), from_before }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::observed::Reading;
    use crate::observed::Slot;
    use crate::plan::Impact;
    use crate::plan::Reason;
    use crate::report::samples::healthy;
    use crate::report::samples::name;
    use crate::report::samples::pair;
    use crate::report::samples::step;

    /// What the fake world does when it is asked for a step.
    #[derive(Clone, Copy, PartialEq)]
    enum Does {
        Obeys,
        /// Says that it did, and did nothing.
        Lies,
        Fails,
        /// Loses its connection this often, and obeys then.
        IsCut(usize),
        IsInterrupted,
    }

    struct Fake {
        truth: Mutex<Observed>,
        does: Does,
        /// Signals pgpair during the first step.
        signal: Option<watch::Sender<bool>>,
        /// Goals show themselves only in the third look after a step.
        hidden_for: Mutex<usize>,
        performed: Mutex<usize>,
    }

    impl Fake {
        fn new(truth: Observed, does: Does) -> Self {
            Self { truth: Mutex::new(truth), does, signal: None, hidden_for: Mutex::new(0), performed: Mutex::new(0) }
        }
    }

    impl World for Fake {
        async fn observe(&self) -> Observed {
            let mut hidden = self.hidden_for.lock().expect("one thread");
            let truth = self.truth.lock().expect("one thread").clone();
            if *hidden > 0 {
                *hidden -= 1;
                let mut seen = truth;
                seen.node_mut(&name("a")).cluster_mut().expect("it is there").slots.clear();
                return seen;
            }
            truth
        }

        async fn perform(&self, step: &Step, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), Failure> {
            progress(Progress::Bytes { done: 1, total: Some(2) });
            if let Some(signal) = &self.signal {
                signal.send_replace(true);
            }
            let mut performed = self.performed.lock().expect("one thread");
            *performed += 1;
            match self.does {
                Does::IsCut(times) if *performed <= times => {
                    Err(Failure { disconnected: true, ..Failure::new("the connection to the server was lost") })
                }
                Does::Obeys | Does::IsCut(_) => {
                    let Action::Slot { name: slot, .. } = &step.action else { return Ok(()) };
                    let made = Slot { physical: true, active: false, reserved: true, wal_status: None, retained: None };
                    let mut truth = self.truth.lock().expect("one thread");
                    truth.node_mut(&step.node).cluster_mut().expect("it is there").slots.insert(slot.clone(), made);
                    Ok(())
                }
                Does::Lies => Ok(()),
                Does::Fails => Err(Failure::new("no free slot").with_remedy("raise max_replication_slots")),
                Does::IsInterrupted => Err(Failure::interrupted()),
            }
        }
    }

    fn slot(slot: &str) -> Step {
        let action = Action::Slot { name: slot.into(), reserve: true };
        step(&format!("a.slot.{slot}"), "a", action, Impact::None, Reason::Missing)
    }

    async fn run(fake: &Fake, steps: &[Step], interrupt: watch::Receiver<bool>) -> (Outcome, Vec<Event>) {
        let events = Mutex::new(Vec::new());
        let selection = Selection { chosen: steps.iter().collect(), left_out: Vec::new() };
        let limits = Limits { timeout: Duration::from_millis(200), interrupt };
        let emit = |event| events.lock().expect("one thread").push(event);
        let outcome = apply(fake, &pair(), &selection, &limits, &emit).await;
        (outcome, events.into_inner().expect("one thread"))
    }

    fn quiet() -> watch::Receiver<bool> {
        watch::channel(false).1
    }

    fn kinds(events: &[Event]) -> Vec<String> {
        let kind = |event| serde_json::to_value(event).expect("an event has a JSON form")["event"].clone();
        events.iter().map(|event| kind(event).as_str().expect("a word").to_owned()).collect()
    }

    #[tokio::test]
    async fn steps_are_done_in_order_and_what_holds_already_is_skipped() {
        let fake = Fake::new(healthy(&pair()), Does::Obeys);
        let (outcome, events) = run(&fake, &[slot("pgpair_b"), slot("x"), slot("x")], quiet()).await;
        assert_eq!(outcome, Outcome { done: 1, skipped: 2, ended: Ended::Complete, role_change: None });
        insta::assert_snapshot!(kinds(&events).join("\n"), @r"
        apply_started
        step_skipped
        step_started
        step_bytes
        step_done
        step_skipped
        apply_finished
        ");
    }

    #[tokio::test]
    async fn a_goal_that_shows_itself_late_is_waited_for() {
        let fake = Fake { hidden_for: Mutex::new(4), ..Fake::new(healthy(&pair()), Does::Obeys) };
        let (outcome, events) = run(&fake, &[slot("x")], quiet()).await;
        assert_eq!(outcome, Outcome { done: 1, skipped: 0, ended: Ended::Complete, role_change: None });
        assert!(kinds(&events).contains(&"step_waiting".to_owned()));
    }

    #[tokio::test]
    async fn a_stream_that_a_restart_interrupted_is_waited_for_at_the_end() {
        let mut interrupted = healthy(&pair());
        interrupted.node_mut(&name("b")).sql_mut().expect("it runs").receiver = None;
        let fake = Fake::new(interrupted, Does::Obeys);
        let comes_back = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            *fake.truth.lock().expect("one thread") = healthy(&pair());
        };
        let steps = [slot("pgpair_b")];
        let ((outcome, events), ()) = tokio::join!(run(&fake, &steps, quiet()), comes_back);
        assert_eq!(outcome.ended, Ended::Complete);
        let waited = |event: &Event| matches!(event, Event::StepDone { step, .. } if step == "b.streaming");
        assert!(events.iter().any(waited), "{events:?}");
    }

    #[tokio::test]
    async fn a_claim_without_proof_fails_in_time_and_says_what_was_seen_last() {
        let fake = Fake::new(healthy(&pair()), Does::Lies);
        let (outcome, events) = run(&fake, &[slot("x"), slot("y")], quiet()).await;
        let Ended::Failed { step, failure } = outcome.ended else { panic!("{outcome:?}") };
        assert_eq!(step, "a.slot.x");
        assert_eq!(failure.message, "not seen within 0.2 s: a has the slot x");
        assert!(failure.output[0].starts_with("a: runs as primary"), "{failure:?}");
        assert!(!kinds(&events).contains(&"step_done".to_owned()));
    }

    #[tokio::test]
    async fn after_a_failure_nothing_more_is_done() {
        let fake = Fake::new(healthy(&pair()), Does::Fails);
        let (outcome, events) = run(&fake, &[slot("x"), slot("y")], quiet()).await;
        assert_eq!(outcome.done, 0);
        assert!(matches!(outcome.ended, Ended::Failed { .. }));
        assert_eq!(kinds(&events).iter().filter(|kind| *kind == "step_started").count(), 1);
        assert!(events.iter().any(|event| matches!(event, Event::StepFailed { remedy: Some(_), .. })));
    }

    #[tokio::test]
    async fn a_step_whose_connection_was_cut_is_done_once_more_and_says_so() {
        let fake = Fake::new(healthy(&pair()), Does::IsCut(1));
        let (outcome, events) = run(&fake, &[slot("x")], quiet()).await;
        assert_eq!(outcome, Outcome { done: 1, skipped: 0, ended: Ended::Complete, role_change: None });
        let told =
            |event: &Event| matches!(event, Event::StepNote { note, .. } if note.ends_with("was lost; once more"));
        assert!(events.iter().any(told), "{events:?}");
    }

    #[tokio::test]
    async fn a_step_whose_connection_is_cut_again_fails() {
        let fake = Fake::new(healthy(&pair()), Does::IsCut(2));
        let (outcome, _) = run(&fake, &[slot("x"), slot("y")], quiet()).await;
        assert!(matches!(outcome.ended, Ended::Failed { ref step, .. } if step == "a.slot.x"), "{outcome:?}");
        assert_eq!(*fake.performed.lock().expect("one thread"), 2);
    }

    #[tokio::test]
    async fn a_guard_that_refuses_stops_before_the_step() {
        let mut stopped = healthy(&pair());
        stopped.node_mut(&name("a")).server = Reading::Absent;
        let fake = Fake::new(stopped, Does::Obeys);
        let (outcome, events) = run(&fake, &[slot("x")], quiet()).await;
        assert!(matches!(outcome.ended, Ended::Refused { .. }), "{outcome:?}");
        assert!(!kinds(&events).contains(&"step_started".to_owned()));
    }

    #[tokio::test]
    async fn a_signal_during_a_step_lets_it_finish_and_begins_no_other() {
        let (signal, interrupt) = watch::channel(false);
        let fake = Fake { signal: Some(signal), ..Fake::new(healthy(&pair()), Does::Obeys) };
        let (outcome, _) = run(&fake, &[slot("x"), slot("y")], interrupt).await;
        assert_eq!(
            outcome,
            Outcome { done: 1, skipped: 0, ended: Ended::Interrupted { step: "a.slot.y".into() }, role_change: None }
        );
    }

    #[tokio::test]
    async fn a_step_that_was_given_up_ends_as_interrupted() {
        let fake = Fake::new(healthy(&pair()), Does::IsInterrupted);
        let (outcome, _) = run(&fake, &[slot("x"), slot("y")], quiet()).await;
        assert_eq!(outcome.ended, Ended::Interrupted { step: "a.slot.x".into() });
    }

    #[tokio::test]
    async fn a_signal_ends_a_wait_that_would_go_on() {
        let (signal, interrupt) = watch::channel(false);
        let fake = Fake { signal: Some(signal), ..Fake::new(healthy(&pair()), Does::Lies) };
        let (outcome, _) = run(&fake, &[slot("x")], interrupt).await;
        assert_eq!(outcome.ended, Ended::Interrupted { step: "a.slot.x".into() });
    }
}
