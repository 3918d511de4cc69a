//! `pgpair plan`: observe, compare, and show what would be done. Changes nothing.

use clap::Args;

use super::Format;
use super::Timeouts;
use super::TopologyFile;
use super::document;
use super::interrupt::unless_interrupted;
use super::pipeline;
use super::pipeline::Reports;
use super::source;
use super::source::Reached;
use super::ui::Ui;
use crate::error::Error;
use crate::error::Exit;
use crate::observed::Observed;
use crate::plan::Plan;
use crate::plan::Request;
use crate::plan::Status;
use crate::plan::planner;
use crate::plan::review;
use crate::report::PlanReport;
use crate::report::html;
use crate::report::json;
use crate::report::markdown;
use crate::report::saved::Observation;
use crate::report::saved::SavedPlan;
use crate::report::text;
use crate::topology::NodeName;
use crate::topology::Topology;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    topology: TopologyFile,
    #[command(flatten)]
    timeouts: Timeouts,
    /// Plan from a saved observation: no connection is opened, no command run, no secret read.
    #[arg(long, value_name = "OBSERVATION")]
    observed: Option<String>,
    /// Also save the plan, for `pgpair apply --plan`.
    #[arg(short, long, value_name = "PLAN")]
    out: Option<String>,
    #[command(flatten)]
    outcome: Outcome,
}

/// How a plan that is shown and not done ends.
#[derive(Debug, Args)]
pub(super) struct Outcome {
    /// Exit 2 if there are changes.
    #[arg(long)]
    detailed_exitcode: bool,
    #[command(flatten)]
    reports: Reports,
}

impl Outcome {
    /// Tells the pipeline that it runs in, and writes the reports that were asked for.
    pub(super) fn tell(&self, report: &PlanReport, file: &str) -> Result<(), Error> {
        pipeline::plan(report, file, &self.reports)
    }

    pub(super) fn exit(&self, status: Status) -> Exit {
        match status {
            Status::Clean => Exit::Success,
            Status::Changes if self.detailed_exitcode => Exit::Changes,
            Status::Changes => Exit::Success,
            Status::Blocked => Exit::Refused,
        }
    }
}

pub(super) async fn run(arguments: &Arguments, ui: &Ui) -> Result<Exit, Error> {
    let made = match &arguments.observed {
        Some(observation) => from_observation(&arguments.topology, observation)?,
        None => from_servers(arguments).await?,
    };
    let Made { file, base_dir, topology, observed, plan, assumed } = &made;
    let mut report = PlanReport::of(topology, observed, plan);
    report.assume(assumed);
    show(&report, file, ui)?;
    arguments.outcome.tell(&report, file)?;
    if let Some(out) = &arguments.out {
        document::write(out, &SavedPlan::of(topology, observed, file, base_dir).json())?;
        ui.note(&text::plan_saved(out));
    }
    Ok(arguments.outcome.exit(report.status))
}

/// Writes a plan as the result, in the format that was asked for.
pub(super) fn show(report: &PlanReport, file: &str, ui: &Ui) -> Result<(), Error> {
    ui.result(&match ui.format {
        Format::Text => text::plan(report, file),
        Format::Json => json::plan(report),
        Format::Markdown => markdown::plan(report, file),
        Format::Html => html::plan(report, file),
    })
}

/// A plan, and what it was made from.
struct Made {
    file: String,
    base_dir: String,
    topology: Topology,
    observed: Observed,
    plan: Plan,
    /// Nodes that nobody has looked at, and where nothing is taken to be.
    assumed: Vec<NodeName>,
}

async fn from_servers(arguments: &Arguments) -> Result<Made, Error> {
    let Reached { name, base_dir, topology, world, interrupt } =
        source::reach(&arguments.topology, &arguments.timeouts).await?;
    unless_interrupted(&interrupt, world.check_secrets()).await??;
    let (observed, plan) = source::look_and_plan(&world, &topology, &Request::default(), &interrupt).await?;
    let topology = topology.as_ref().clone();
    Ok(Made { file: name, base_dir, topology, observed, plan, assumed: Vec::new() })
}

/// The topology is read as if it stood where the one stood that the observation was made for: a review has its own copy.
fn from_observation(file: &TopologyFile, observation: &str) -> Result<Made, Error> {
    let bad = |why| Error::BadDocument { file: observation.to_owned(), why };
    let seen = Observation::read(&document::read(observation)?).map_err(bad)?;
    let source = source::load_in(&file.name(), Some(&seen.base_dir))?;
    let assumed = review::not_covered(&source.topology, &seen.observed, &seen.topology);
    let observed = review::seen_for(&source.topology, &seen.observed, &seen.topology);
    let plan = planner::plan(&source.topology, &observed);
    Ok(Made { file: source.name, base_dir: source.base_dir, topology: source.topology, observed, plan, assumed })
}
