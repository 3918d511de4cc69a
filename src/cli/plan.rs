//! `pgpair plan`: observe, compare, and show what would be done. Changes nothing.

use clap::Args;

use super::Format;
use super::Timeouts;
use super::TopologyFile;
use super::interrupt::unless_interrupted;
use super::pipeline;
use super::pipeline::Reports;
use super::source;
use super::source::Reached;
use super::ui::Ui;
use crate::error::Error;
use crate::error::Exit;
use crate::plan::Request;
use crate::plan::Status;
use crate::report::PlanReport;
use crate::report::json;
use crate::report::markdown;
use crate::report::text;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    topology: TopologyFile,
    #[command(flatten)]
    timeouts: Timeouts,
    /// Exit 2 if there are changes.
    #[arg(long)]
    detailed_exitcode: bool,
    #[command(flatten)]
    reports: Reports,
}

pub(super) async fn run(arguments: &Arguments, ui: &Ui) -> Result<Exit, Error> {
    let Reached { name, topology, world, interrupt } = source::reach(&arguments.topology, &arguments.timeouts).await?;
    unless_interrupted(&interrupt, world.check_secrets()).await??;
    let (observed, plan) = source::look_and_plan(&world, &topology, &Request::default(), &interrupt).await?;
    let report = PlanReport::of(&topology, &observed, &plan);
    show(&report, &name, ui)?;
    pipeline::plan(&report, &name, &arguments.reports)?;
    Ok(match report.status {
        Status::Clean => Exit::Success,
        Status::Changes if arguments.detailed_exitcode => Exit::Changes,
        Status::Changes => Exit::Success,
        Status::Blocked => Exit::Refused,
    })
}

/// Writes a plan as the result, in the format that was asked for.
pub(super) fn show(report: &PlanReport, file: &str, ui: &Ui) -> Result<(), Error> {
    ui.result(&match ui.format {
        Format::Text => text::plan(report, file),
        Format::Json => json::plan(report),
        Format::Markdown => markdown::plan(report, file),
    })
}
