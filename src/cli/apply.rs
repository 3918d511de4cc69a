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
use super::interrupt;
use super::interrupt::Interrupt;
use super::interrupt::unless_interrupted;
use super::pipeline;
use super::progress::Reporter;
use super::question;
use super::role_edit::RoleEdit;
use super::show;
use super::source;
use super::source::Reached;
use super::ui::Ui;
use crate::apply;
use crate::apply::Ended;
use crate::apply::Limits;
use crate::apply::Outcome;
use crate::error::Error;
use crate::error::Exit;
use crate::event::Change;
use crate::observed::Identity;
use crate::observed::Observed;
use crate::plan::Action;
use crate::plan::Plan;
use crate::plan::Request;
use crate::plan::Status;
use crate::plan::allow;
use crate::plan::allow::Allowance;
use crate::plan::allow::Selection;
use crate::plan::pair;
use crate::plan::pair::PairState;
use crate::plan::planner;
use crate::report::PlanReport;
use crate::report::html;
use crate::report::json;
use crate::report::json::ApplyReport;
use crate::report::json::ApplyStatus;
use crate::report::json::EditOutcome;
use crate::report::json::EditReport;
use crate::report::json::ErrorReport;
use crate::report::json::StepOutcome;
use crate::report::json::StepResult;
use crate::report::markdown;
use crate::report::saved::SavedPlan;
use crate::report::text;
use crate::topology::NodeName;
use crate::topology::Topology;
use crate::world::World;
use crate::world::lock::Locks;

mod bound;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) topology: TopologyFile,
    #[command(flatten)]
    pub(super) timeouts: Timeouts,
    /// Do not ask. Allows nothing by itself: steps that need an allowance still need --allow.
    #[arg(long)]
    auto_approve: bool,
    /// What may happen: restart, outage, switchover=NODE, failover=NODE, destroy=NODE; a list with commas, or several times.
    #[arg(long, value_name = "IMPACT", value_delimiter = ',', value_parser = allowance)]
    pub(super) allow: Vec<Allowance>,
    /// This node is dead and stays so, though it can't be reached to see that. Refused while it answers.
    #[arg(long, value_name = "NODE")]
    confirm_dead: Vec<String>,
    /// Of two nodes that accept writes, this one gives way: it is fenced and stopped, and what it wrote is kept aside.
    #[arg(long, value_name = "NODE")]
    discard: Vec<String>,
    /// How long another pgpair that works on a node is waited for.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    lock_timeout: Duration,
    /// Where the event log is written [default: $XDG_STATE_HOME/pgpair/CLUSTER/UTC.jsonl].
    #[arg(long, value_name = "PATH")]
    event_log: Option<PathBuf>,
}

/// The arguments of `apply` itself, and not of the commands that are an apply of something more.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Whole {
    #[command(flatten)]
    pub(super) apply: Arguments,
    /// Do exactly what a saved plan says, or refuse it as stale. The topology is the one that was saved with it; one
    /// that is given must be the same.
    #[arg(long, value_name = "PLAN")]
    plan: Option<String>,
}

pub(super) async fn run(arguments: Whole, ui: &Ui) -> Result<Exit, Error> {
    let Whole { apply, plan } = arguments;
    let Some(plan) = plan else {
        let reached = source::reach(&apply.topology, &apply.timeouts).await?;
        return run_in(reached, apply, Errand::default(), ui).await;
    };
    let saved = show::load(&plan)?;
    let source = bound::source(&saved, apply.topology.given())?;
    let reached = source::reach_from(source, &apply.timeouts, interrupt::listen()?).await?;
    run_in(reached, apply, Errand { bound: Some(saved), ..Errand::default() }, ui).await
}

/// What a command asks for beside what the topology says.
#[derive(Default)]
pub(super) struct Errand {
    pub(super) request: Request,
    /// The command is for a role change, and how the file comes to say so: without the change, nothing is done.
    pub(super) roles: Option<RoleEdit>,
    /// Only the steps of this plan, and only if the cluster is as it was.
    pub(super) bound: Option<SavedPlan>,
    /// It is for one without the old primary.
    pub(super) by_force: bool,
}

/// The same, where a command asks for something besides.
pub(super) async fn run_in(
    reached: Reached,
    mut arguments: Arguments,
    mut errand: Errand,
    ui: &Ui,
) -> Result<Exit, Error> {
    let Reached { name, topology, world, interrupt, .. } = reached;
    for node in std::mem::take(&mut arguments.discard) {
        let node = NodeName::new(node);
        let request = errand.request.and_discard(&topology, &node);
        errand.request = request.map_err(|bad| Error::Usage(bad.to_string()))?;
        arguments.allow.push(Allowance::Destroy(node));
    }
    for allowance in &arguments.allow {
        if let Allowance::Failover(node) = allowance {
            errand.request = errand.request.or_failover(node);
        }
    }
    for node in &arguments.confirm_dead {
        let node = NodeName::new(node);
        if !topology.nodes.contains_key(&node) {
            return Err(Error::Usage(format!("the topology has no node `{node}`")));
        }
        world.confirm_dead(node);
    }
    let errand = &errand;
    unless_interrupted(&interrupt, world.check_secrets()).await??;
    let locks = Locks::acquire(&topology, arguments.lock_timeout, interrupt.clone()).await?;
    let world = world.with_locks(locks);
    let job = Job { topology: &topology, file: &name, arguments: &arguments, errand, ui, interrupt };
    job.run(&world).await
}

/// One apply.
struct Job<'a> {
    topology: &'a Topology,
    file: &'a str,
    arguments: &'a Arguments,
    /// What is left to do afterwards is judged without it.
    errand: &'a Errand,
    ui: &'a Ui,
    interrupt: Interrupt,
}

impl Job<'_> {
    async fn run<W: World>(&self, world: &W) -> Result<Exit, Error> {
        let (observed, plan) =
            source::look_and_plan(world, self.topology, &self.errand.request, &self.interrupt).await?;
        if let Some(saved) = &self.errand.bound {
            bound::still_holds(saved, &observed, &plan)?;
        }
        let report = PlanReport::of(self.topology, &observed, &plan);
        if let Some(refused) = self.is_in_vain(&observed, &plan) {
            return self.tell(
                &ApplyReport { errors: vec![refused], ..self.report(ApplyStatus::Blocked, report) },
                Exit::Refused,
            );
        }
        let mut shown = text::plan(&report, self.file);
        if let Some(edit) = self.edit(EditOutcome::NotWritten) {
            shown.push_str(&text::edit(&edit.diff));
        }
        match self.ui.format {
            Format::Text => self.ui.result(&shown)?,
            Format::Json | Format::Markdown | Format::Html if self.must_ask(&plan) => self.ui.note(&shown),
            Format::Json | Format::Markdown | Format::Html => {}
        }
        let (exit, report) = match report.status {
            Status::Clean => (Exit::Success, self.edit_alone(world, &observed, &plan, report).await?),
            Status::Blocked => (Exit::Refused, self.report(ApplyStatus::Blocked, report)),
            Status::Changes if self.lacks_role_change(&observed, &plan) => {
                let mut refused = self.report(ApplyStatus::Blocked, report);
                refused.errors.push(no_role_change(&self.topology.primary().name));
                return self.tell(&refused, Exit::Refused);
            }
            Status::Changes => return self.change(world, &observed, &plan, report).await,
        };
        // As text, the plan has said it.
        if self.ui.format != Format::Text {
            return self.tell(&report, exit);
        }
        pipeline::summary(|| markdown::applied(&report))?;
        Ok(exit)
    }

    fn must_ask(&self, plan: &Plan) -> bool {
        let edits = self.errand.roles.as_ref().is_some_and(RoleEdit::changes);
        (plan.status() == Status::Changes || (plan.status() == Status::Clean && edits)) && !self.arguments.auto_approve
    }

    /// Whether the command is for a role change that is needed and not in the plan.
    fn lacks_role_change(&self, observed: &Observed, plan: &Plan) -> bool {
        let state = pair::classify(self.topology, observed);
        let is_elsewhere = matches!(state, PairState::Elsewhere { .. } | PairState::LeftElsewhere { .. });
        self.errand.roles.is_some() && plan.role_change.is_none() && is_elsewhere
    }

    /// What was said is not so: a dead node answers, or a lost primary takes writes.
    fn is_in_vain(&self, observed: &Observed, plan: &Plan) -> Option<ErrorReport> {
        let nodes = self.arguments.confirm_dead.iter().map(NodeName::new);
        if let Some(node) = nodes.into_iter().find(|node| observed.node(node).answers()) {
            let remedy = format!("leave `--confirm-dead {node}` out: what can be reached is fenced and stopped");
            return Some(error("not_dead", format!("{node} answers, so it is not dead"), Some(remedy)));
        }
        let change = plan.role_change.as_ref().filter(|_| self.errand.by_force)?;
        let writes = observed.node(&change.from).accepts_writes();
        writes.then(|| {
            let remedy = format!("`pgpair switchover --to {}` moves it without loss", change.to);
            error("not_lost", format!("{} takes writes: a failover would lose some", change.from), Some(remedy))
        })
    }

    fn edit(&self, outcome: EditOutcome) -> Option<EditReport> {
        self.errand.roles.as_ref()?.report(outcome)
    }

    /// Edits the file of a cluster that has the roles already.
    async fn edit_alone<W: World>(
        &self,
        world: &W,
        observed: &Observed,
        plan: &Plan,
        shown: PlanReport,
    ) -> Result<ApplyReport, Error> {
        let mut report = self.report(ApplyStatus::Clean, shown);
        if let Some(roles) = self.errand.roles.as_ref().filter(|roles| roles.changes()) {
            self.allowed(world, observed, plan).await?;
            roles.write()?;
            report.edit = roles.report(EditOutcome::Written);
        }
        Ok(report)
    }

    /// Takes the edit of the file back, where the role change was taken back or never begun.
    fn end_of_edit(&self, plan: &Plan, outcome: &Outcome) -> EditOutcome {
        let Some(roles) = &self.errand.roles else { return EditOutcome::NotWritten };
        let is_off = match outcome.role_change {
            Some(Change::Done | Change::Pending | Change::Open) => false,
            Some(Change::Undone) => true,
            None => plan.role_change.is_some() && outcome.ended != Ended::Complete,
        };
        if !is_off {
            return EditOutcome::Written;
        }
        match roles.take_back() {
            Ok(()) => EditOutcome::TakenBack,
            Err(error) => {
                self.ui.warn(&format!("the roles in {} are left swapped: {error}", self.file));
                EditOutcome::Left
            }
        }
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
            role_change: None,
            edit: self.edit(EditOutcome::NotWritten),
        }
    }

    async fn change<W: World>(
        &self,
        world: &W,
        observed: &Observed,
        plan: &Plan,
        shown: PlanReport,
    ) -> Result<Exit, Error> {
        let allowed = self.allowed(world, observed, plan).await?;
        let as_they_are = without_role_change(self.topology, observed, plan, &self.errand.request, &allowed);
        let (topology, chosen) =
            as_they_are.as_ref().map_or((self.topology, plan), |(topology, plan)| (topology, plan));
        let mut selection = allow::select(chosen, topology, observed, &allowed);
        if as_they_are.is_some() {
            let changes = allow::select(plan, self.topology, observed, &allowed).left_out;
            selection.left_out.extend(changes.into_iter().filter(|(step, _)| step.primary.is_none()));
        }
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
        if let Some(roles) = &self.errand.roles {
            roles.write()?;
        }
        let outcome = apply::apply(world, topology, &selection, &limits, &emit).await;
        let edit = self.end_of_edit(plan, &outcome);
        // Also after a failure or an interrupt: where things stand is what must be said now.
        let seen = world.observe().await;
        let as_it_was = plan.role_change.as_ref().filter(|_| edit == EditOutcome::TakenBack);
        let rest = match as_it_was {
            Some(change) => planner::plan(&self.topology.with_primary(&change.from), &seen),
            None => planner::plan(self.topology, &seen),
        };
        let creates = plan.steps.iter().any(|step| matches!(step.action, Action::CreatePrimary(_)));
        let cluster = seen.node(&self.topology.primary().name).cluster().filter(|_| creates);
        let (exit, status) = verdict(&outcome, &rest);
        let report = ApplyReport {
            steps: reporter.into_results(),
            remaining: Some(rest.steps.iter().map(|step| step.id.clone()).collect()),
            errors: error_of(&outcome.ended).into_iter().collect(),
            role_change: outcome.role_change,
            edit: self.edit(edit),
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
        pipeline::summary(|| markdown::applied(report))?;
        self.ui.result(&match self.ui.format {
            Format::Text => text::apply(report),
            Format::Json => json::apply(report),
            Format::Markdown => markdown::applied(report),
            Format::Html => html::applied(report),
        })?;
        Ok(exit)
    }

    /// Returns what the apply may do: what the flags say, or all of the plan, if somebody at the terminal says so.
    async fn allowed<W: World>(
        &self,
        world: &W,
        observed: &Observed,
        plan: &Plan,
    ) -> Result<BTreeSet<Allowance>, Error> {
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
        let (seen, again) = source::look_and_plan(world, self.topology, &self.errand.request, &self.interrupt).await?;
        if again != *plan {
            return Err(bound::stale(self.topology, (observed, plan), (&seen, &again)));
        }
        Ok(needed.into_iter().collect())
    }
}

/// Returns what is to be done where a role change is not allowed: everything else for the roles as they are, which also
/// takes a change back that was begun. `None`: it is allowed, or there is none.
fn without_role_change(
    topology: &Topology,
    observed: &Observed,
    plan: &Plan,
    request: &Request,
    allowed: &BTreeSet<Allowance>,
) -> Option<(Topology, Plan)> {
    let change = plan.role_change.as_ref()?;
    let (promotion, _) = plan.promotion()?;
    allow::needed(plan, promotion).filter(|needed| !allowed.contains(needed))?;
    let topology = topology.with_primary(&change.from);
    let plan = planner::plan_with(&topology, observed, request);
    Some((topology, plan))
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
        Ended::Failed { .. }
            if matches!(outcome.role_change, Some(Change::Done | Change::Pending | Change::Undone)) =>
        {
            (Exit::Incomplete, ApplyStatus::Incomplete)
        }
        Ended::Failed { .. } => (Exit::Failed, ApplyStatus::Failed),
        Ended::Refused { .. } if outcome.done == 0 => (Exit::Refused, ApplyStatus::Blocked),
        Ended::Refused { .. } => (Exit::Incomplete, ApplyStatus::Incomplete),
        Ended::Interrupted { .. } => (Exit::Interrupted, ApplyStatus::Interrupted),
        Ended::Complete if rest.status() == Status::Clean => (Exit::Success, ApplyStatus::Applied),
        Ended::Complete if outcome.done == 0 => (Exit::Refused, ApplyStatus::Blocked),
        Ended::Complete => (Exit::Incomplete, ApplyStatus::Incomplete),
    }
}

fn no_role_change(to: &NodeName) -> ErrorReport {
    let message = format!("{to} can't become the primary as things are, so nothing was done");
    error("no_role_change", message, Some("resolve what is blocked, or `pgpair apply` the rest first".into()))
}

fn error(code: &str, message: String, help: Option<String>) -> ErrorReport {
    let (file, line, column) = (None, None, None);
    let (output, moved) = (Vec::new(), Vec::new());
    ErrorReport { code: code.to_owned(), message, file, line, column, help, output, moved }
}

fn error_of(ended: &Ended) -> Option<ErrorReport> {
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
mod tests;

#[cfg(test)]
mod switchover_tests;

#[cfg(test)]
mod bound_tests;
