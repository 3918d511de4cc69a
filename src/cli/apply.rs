//! `pgpair apply`: plan, show, ask, look again, do it, and see that nothing is left to do.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Format;
use super::Timeouts;
use super::TopologyFile;
use super::allowance;
use super::duration;
use super::event_log::EventLog;
use super::interrupt::Interrupt;
use super::interrupt::unless_interrupted;
use super::progress::Reporter;
use super::question;
use super::source;
use super::source::Reached;
use super::ui::Ui;
use crate::apply;
use crate::apply::Ended;
use crate::apply::Limits;
use crate::apply::Outcome;
use crate::error::Error;
use crate::error::Exit;
use crate::observed::Identity;
use crate::observed::Observed;
use crate::plan::Action;
use crate::plan::Plan;
use crate::plan::Request;
use crate::plan::Status;
use crate::plan::allow;
use crate::plan::allow::Allowance;
use crate::plan::allow::Selection;
use crate::plan::planner;
use crate::report::PlanReport;
use crate::report::json;
use crate::report::json::ApplyReport;
use crate::report::json::ApplyStatus;
use crate::report::json::ErrorReport;
use crate::report::json::StepOutcome;
use crate::report::json::StepResult;
use crate::report::text;
use crate::topology::NodeName;
use crate::topology::Topology;
use crate::world::World;
use crate::world::lock::Locks;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) topology: TopologyFile,
    #[command(flatten)]
    pub(super) timeouts: Timeouts,
    /// Do not ask. Allows nothing by itself: steps that need an allowance still need --allow.
    #[arg(long)]
    auto_approve: bool,
    /// What may happen: restart, outage, destroy=NODE; a list with commas, or several times.
    #[arg(long, value_name = "IMPACT", value_delimiter = ',', value_parser = allowance)]
    pub(super) allow: Vec<Allowance>,
    /// How long another pgpair that works on a node is waited for.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    lock_timeout: Duration,
    /// Where the event log is written [default: $XDG_STATE_HOME/pgpair/CLUSTER/UTC.jsonl].
    #[arg(long, value_name = "PATH")]
    event_log: Option<PathBuf>,
}

pub(super) async fn run(arguments: Arguments, ui: &Ui) -> Result<Exit, Error> {
    let reached = source::reach(&arguments.topology, &arguments.timeouts).await?;
    run_in(reached, arguments, &Request::default(), ui).await
}

/// The same, where a command asks for something besides.
pub(super) async fn run_in(reached: Reached, arguments: Arguments, request: &Request, ui: &Ui) -> Result<Exit, Error> {
    let Reached { name, topology, world, interrupt } = reached;
    unless_interrupted(&interrupt, world.check_secrets()).await??;
    let locks = Locks::acquire(&topology, arguments.lock_timeout, interrupt.clone()).await?;
    let world = world.with_locks(locks);
    let job = Job { topology: &topology, file: &name, arguments: &arguments, request, ui, interrupt };
    job.run(&world).await
}

/// One apply.
struct Job<'a> {
    topology: &'a Topology,
    file: &'a str,
    arguments: &'a Arguments,
    /// What the command asks for beside the topology; what is left to do afterwards is judged without it.
    request: &'a Request,
    ui: &'a Ui,
    interrupt: Interrupt,
}

impl Job<'_> {
    async fn run<W: World>(&self, world: &W) -> Result<Exit, Error> {
        let (observed, plan) = source::look_and_plan(world, self.topology, self.request, &self.interrupt).await?;
        let report = PlanReport::of(self.topology, &observed, &plan);
        let shown = text::plan(&report, self.file);
        match self.ui.format {
            Format::Text => self.ui.result(&shown)?,
            Format::Json if self.must_ask(&plan) => self.ui.note(&shown),
            Format::Json => {}
        }
        let (exit, status) = match report.status {
            Status::Clean => (Exit::Success, ApplyStatus::Clean),
            Status::Blocked => (Exit::Refused, ApplyStatus::Blocked),
            Status::Changes => return self.change(world, &observed, &plan, report).await,
        };
        if self.ui.format == Format::Json {
            self.ui.result(&json::apply(&self.report(status, report)))?;
        }
        Ok(exit)
    }

    fn must_ask(&self, plan: &Plan) -> bool {
        plan.status() == Status::Changes && !self.arguments.auto_approve
    }

    fn report(&self, status: ApplyStatus, plan: PlanReport) -> ApplyReport {
        ApplyReport {
            status,
            cluster: self.topology.cluster.clone(),
            file: self.file.to_owned(),
            plan,
            steps: Vec::new(),
            remaining: None,
            errors: Vec::new(),
            created: None,
            event_log: None,
        }
    }

    async fn change<W: World>(
        &self,
        world: &W,
        observed: &Observed,
        plan: &Plan,
        shown: PlanReport,
    ) -> Result<Exit, Error> {
        let allowed = self.allowed(world, plan).await?;
        let selection = allow::select(plan, self.topology, observed, &allowed);
        if selection.chosen.is_empty() {
            let mut report = self.report(ApplyStatus::Blocked, shown);
            report.steps = left_out(&selection);
            return self.tell(&report, Exit::Refused);
        }
        let log = EventLog::open(self.arguments.event_log.as_deref(), &self.topology.cluster)
            .inspect_err(|why| self.ui.warn(&format!("no event log is written: {why}")))
            .ok();
        let event_log = log.as_ref().map(EventLog::path);
        let reporter = Reporter::new(self.ui, log);
        let limits = Limits { timeout: self.arguments.timeouts.timeout, interrupt: self.interrupt.clone() };
        let emit = |event| reporter.take(&event);
        let outcome = apply::apply(world, self.topology, &selection, &limits, &emit).await;
        // Also after a failure or an interrupt: where things stand is what must be said now.
        let seen = world.observe().await;
        let rest = planner::plan(self.topology, &seen);
        let creates = plan.steps.iter().any(|step| matches!(step.action, Action::CreatePrimary(_)));
        let cluster = seen.node(&self.topology.primary().name).cluster().filter(|_| creates);
        let (exit, status) = verdict(&outcome, &rest);
        let report = ApplyReport {
            steps: reporter.into_results(),
            remaining: Some(rest.steps.iter().map(|step| step.id.clone()).collect()),
            errors: error_of(&outcome.ended).into_iter().collect(),
            created: cluster.and_then(|cluster| match cluster.identity {
                Identity::Known(identifier) => Some(identifier.to_string()),
                Identity::CreatedOn(_) => None,
            }),
            event_log,
            ..self.report(status, shown)
        };
        self.tell(&report, exit)
    }

    fn tell(&self, report: &ApplyReport, exit: Exit) -> Result<Exit, Error> {
        self.ui.result(&match self.ui.format {
            Format::Text => text::apply(report),
            Format::Json => json::apply(report),
        })?;
        Ok(exit)
    }

    /// Returns what the apply may do: what the flags say, or all of the plan, if somebody at the terminal says so.
    async fn allowed<W: World>(&self, world: &W, plan: &Plan) -> Result<BTreeSet<Allowance>, Error> {
        let given: BTreeSet<Allowance> = self.arguments.allow.iter().cloned().collect();
        if self.arguments.auto_approve {
            return Ok(given);
        }
        let needed = allow::all_needed(plan);
        if !self.ui.can_ask() {
            return Err(Error::NoTerminal { allow: needed.iter().map(ToString::to_string).collect() });
        }
        question::ask(question::questions(plan, &given), self.ui, &self.interrupt).await?;
        // Minutes may have passed at the question.
        let (_, again) = source::look_and_plan(world, self.topology, self.request, &self.interrupt).await?;
        if again != *plan {
            return Err(Error::Stale { changed: changed(self.topology, plan, &again) });
        }
        Ok(needed.into_iter().collect())
    }
}

/// Returns the nodes that two plans differ on; where only facts differ that no step shows, all of them.
fn changed(topology: &Topology, one: &Plan, other: &Plan) -> Vec<NodeName> {
    let of = |plan: &Plan, node: &NodeName| {
        let steps: Vec<_> = plan.steps.iter().filter(|step| step.node == *node).cloned().collect();
        let blocked: Vec<_> = plan.blocked.iter().filter(|item| item.node.as_ref() == Some(node)).cloned().collect();
        (steps, blocked)
    };
    let differ: Vec<NodeName> =
        topology.nodes.keys().filter(|node| of(one, node) != of(other, node)).cloned().collect();
    if differ.is_empty() { topology.nodes.keys().cloned().collect() } else { differ }
}

fn left_out(selection: &Selection<'_>) -> Vec<StepResult> {
    let result = |(step, why): &(&crate::plan::Step, String)| StepResult {
        id: step.id.clone(),
        node: step.node.clone(),
        outcome: StepOutcome::LeftOut,
        seconds: None,
        why: Some(why.clone()),
    };
    selection.left_out.iter().map(result).collect()
}

/// How the apply ends: by what stopped it, else by what a look afterwards still finds to do.
fn verdict(outcome: &Outcome, rest: &Plan) -> (Exit, ApplyStatus) {
    match &outcome.ended {
        Ended::Failed { .. } => (Exit::Failed, ApplyStatus::Failed),
        Ended::Refused { .. } if outcome.done == 0 => (Exit::Refused, ApplyStatus::Blocked),
        Ended::Refused { .. } => (Exit::Incomplete, ApplyStatus::Incomplete),
        Ended::Interrupted { .. } => (Exit::Interrupted, ApplyStatus::Interrupted),
        Ended::Complete if rest.status() == Status::Clean => (Exit::Success, ApplyStatus::Applied),
        Ended::Complete if outcome.done == 0 => (Exit::Refused, ApplyStatus::Blocked),
        Ended::Complete => (Exit::Incomplete, ApplyStatus::Incomplete),
    }
}

fn error_of(ended: &Ended) -> Option<ErrorReport> {
    let error = |code: &str, message: String, help: Option<String>| ErrorReport {
        code: code.to_owned(),
        message,
        file: None,
        line: None,
        column: None,
        help,
        output: Vec::new(),
    };
    match ended {
        Ended::Complete => None,
        Ended::Failed { step, failure } => Some(ErrorReport {
            output: failure.output.clone(),
            ..error("step_failed", format!("{step}: {}", failure.message), failure.remedy.clone())
        }),
        Ended::Refused { step, refusal } => {
            Some(error(refusal.code(), format!("{step}: {}", refusal.reason()), Some(refusal.remedy())))
        }
        Ended::Interrupted { step } => Some(error("interrupted", format!("interrupted at {step}"), None)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser as _;
    use serde_json::Value;

    use super::*;
    use crate::observed::DataDir;
    use crate::observed::Identity;
    use crate::observed::Markers;
    use crate::observed::Reading;
    use crate::report::samples::healthy;
    use crate::report::samples::name;
    use crate::report::samples::nothing;
    use crate::report::samples::pair;
    use crate::world::sim::Sim;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    /// Runs an apply in the simulated cluster; returns its exit, its result and the lines of its event log.
    async fn run(truth: Observed, format: Format, arguments: &[&str]) -> (Result<Exit, Error>, String, Vec<Value>) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = folder.path().join("log.jsonl");
        let mut line: Vec<String> = vec!["apply".into(), "--event-log".into(), log.display().to_string()];
        line.extend(arguments.iter().map(ToString::to_string));
        let Line { arguments } = Line::try_parse_from(line).expect("good usage");
        let (topology, ui, sim) = (pair(), Ui::in_memory(format), Sim::new(pair(), truth, None));
        let (_signal, interrupt) = tokio::sync::watch::channel(false);
        let job = Job {
            topology: &topology,
            file: "orders.yaml",
            arguments: &arguments,
            request: &Request::default(),
            ui: &ui,
            interrupt,
        };
        let exit = job.run(&sim).await;
        assert_eq!(sim.violations(), Vec::<String>::new());
        let events = fs::read_to_string(log).unwrap_or_default();
        let events = events.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
        (exit, ui.written().0, events)
    }

    /// The standby's place holds a stopped cluster of somebody else.
    fn foreign_standby() -> Observed {
        let mut world = healthy(&pair());
        let node = world.node_mut(&name("b"));
        node.server = Reading::Absent;
        let cluster = node.cluster_mut().expect("it was cloned");
        cluster.identity = Identity::Known(42);
        cluster.markers = Markers::default();
        cluster.state = crate::pg::control::ControlState::ShutDown;
        cluster.conf.main.text = "max_connections = 100\n".into();
        cluster.hba = "local all all trust\n".into();
        world.node_mut(&name("a")).sql_mut().expect("it runs").senders.clear();
        let slots = &mut world.node_mut(&name("a")).cluster_mut().expect("it runs").slots;
        slots.values_mut().for_each(|slot| slot.active = false);
        world
    }

    #[tokio::test]
    async fn a_pair_is_created_and_its_plan_is_empty_then() {
        let (exit, result, events) = run(nothing(&pair()), Format::Text, &["--auto-approve"]).await;
        assert_eq!(exit.expect("no error"), Exit::Success);
        assert!(
            result.ends_with("Applied: 8 steps done.\norders matches orders.yaml: a plan is empty now.\n"),
            "{result}"
        );
        assert_eq!(events.first().expect("a log")["event"], "apply_started");
        assert_eq!(events.last().expect("a log")["outcome"], "complete");
    }

    #[tokio::test]
    async fn the_result_in_json_is_one_value_with_what_became_of_each_step() {
        let (exit, result, events) = run(nothing(&pair()), Format::Json, &["--auto-approve"]).await;
        assert_eq!(exit.expect("no error"), Exit::Success);
        let result: Value = serde_json::from_str(&result).expect("one value");
        assert_eq!(result["status"], "applied");
        assert_eq!(result["remaining"], serde_json::json!([]));
        assert!(result["steps"].as_array().expect("a list").iter().all(|step| step["outcome"] == "done"));
        assert_eq!(events.len(), 2 + 2 * result["plan"]["steps"].as_array().expect("a list").len());
    }

    #[tokio::test]
    async fn nothing_to_do_asks_nothing_and_logs_nothing() {
        let (exit, result, events) = run(healthy(&pair()), Format::Text, &[]).await;
        assert_eq!(exit.expect("no error"), Exit::Success);
        assert_eq!(result, "No changes. orders matches orders.yaml.\n");
        assert!(events.is_empty());
    }

    #[tokio::test]
    async fn without_a_terminal_the_question_names_the_flags_and_nothing_is_done() {
        let (exit, _, events) = run(foreign_standby(), Format::Text, &[]).await;
        let error = exit.expect_err("nobody can answer");
        assert_eq!(error.exit(), Exit::Declined);
        assert!(error.text(false).contains("--auto-approve --allow destroy=b"), "{}", error.text(false));
        assert!(events.is_empty());
    }

    #[tokio::test]
    async fn auto_approve_alone_destroys_nothing() {
        let (exit, result, events) = run(foreign_standby(), Format::Text, &["--auto-approve"]).await;
        let clones = events.iter().filter(|event| event["step"] == "b.clone" && event["event"] == "step_started");
        assert_eq!(clones.count(), 0);
        assert_eq!(exit.expect("no error"), Exit::Refused);
        assert!(result.contains("left out: b.clone: needs --allow destroy=b"), "{result}");
    }

    #[tokio::test]
    async fn the_allowance_that_names_the_node_lets_it_be_replaced() {
        let (exit, result, _) = run(foreign_standby(), Format::Text, &["--auto-approve", "--allow", "destroy=b"]).await;
        assert_eq!(exit.expect("no error"), Exit::Success, "{result}");
    }

    #[tokio::test]
    async fn a_plan_that_is_blocked_is_refused() {
        let mut world = nothing(&pair());
        let place = world.node_mut(&name("a")).place.known_mut().expect("it was looked at");
        place.data_dir = DataDir::Foreign("lost+found".into());
        let (exit, result, events) = run(world, Format::Json, &["--auto-approve"]).await;
        assert_eq!(exit.expect("no error"), Exit::Refused);
        let result: Value = serde_json::from_str(&result).expect("one value");
        assert_eq!(result["status"], "blocked");
        assert_eq!(result["plan"]["blocked"][0]["code"], "not_a_data_directory");
        assert!(events.is_empty());
    }

    #[test]
    fn what_stopped_an_apply_decides_its_exit_code() {
        let (clean, left) = (crate::report::samples::plan_of(Vec::new()), planner::plan(&pair(), &nothing(&pair())));
        let refusal = crate::plan::Refusal::NotReady { why: "a is stopped".into() };
        let refused = Ended::Refused { step: "s".into(), refusal };
        let failed = Ended::Failed { step: "s".into(), failure: crate::world::Failure::new("no") };
        let exit = |done, ended: &Ended, rest| verdict(&Outcome { done, skipped: 0, ended: ended.clone() }, rest).0;
        assert_eq!(exit(2, &Ended::Complete, &clean), Exit::Success);
        assert_eq!(exit(2, &Ended::Complete, &left), Exit::Incomplete);
        assert_eq!(exit(0, &Ended::Complete, &left), Exit::Refused);
        assert_eq!(exit(2, &failed, &left), Exit::Failed);
        assert_eq!(exit(0, &refused, &left), Exit::Refused);
        assert_eq!(exit(1, &refused, &left), Exit::Incomplete);
        assert_eq!(exit(1, &Ended::Interrupted { step: "s".into() }, &left), Exit::Interrupted);
    }

    #[test]
    fn yes_covers_restarts_and_a_destroyed_node_wants_its_name() {
        let plan = planner::plan(&pair(), &foreign_standby());
        let ask = |given: &[Allowance]| question::questions(&plan, &given.iter().cloned().collect());
        assert_eq!(ask(&[]).iter().map(question::Question::answer).collect::<Vec<_>>(), ["b"]);
        let given = [Allowance::Destroy(name("b"))];
        assert_eq!(ask(&given).iter().map(question::Question::answer).collect::<Vec<_>>(), ["yes"]);
    }

    #[test]
    fn a_stale_plan_names_the_node_that_changed() {
        let shown = planner::plan(&pair(), &foreign_standby());
        let now = planner::plan(&pair(), &healthy(&pair()));
        assert_eq!(changed(&pair(), &shown, &now), [name("b")]);
    }
}
