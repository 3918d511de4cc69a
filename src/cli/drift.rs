//! `pgpair drift`: compares clusters with their topologies, many at once. Changes nothing, and needs no secret.

use std::collections::BTreeSet;

use clap::Args;
use clap::ValueEnum;
use futures_util::stream;
use futures_util::stream::StreamExt as _;

use super::Format;
use super::Timeouts;
use super::TopologyFiles;
use super::interrupt;
use super::interrupt::Interrupt;
use super::interrupt::unless_interrupted;
use super::pipeline;
use super::source;
use super::ui::Ui;
use crate::error::Error;
use crate::error::Exit;
use crate::plan::items::Class;
use crate::plan::planner::plan;
use crate::report::drift::ClusterDrift;
use crate::report::drift::DriftReport;
use crate::report::drift::Verdict;
use crate::report::html;
use crate::report::json;
use crate::report::markdown;
use crate::report::text;
use crate::world::World as _;

/// How many clusters are looked at at once.
const AT_ONCE: usize = 8;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    topologies: TopologyFiles,
    #[command(flatten)]
    timeouts: Timeouts,
    /// What else is worth exit 2; a list with commas, or several times.
    #[arg(long, value_name = "CLASS", value_delimiter = ',')]
    fail_on: Vec<FailOn>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum FailOn {
    Pending,
    NotReady,
    Unseen,
}

impl From<FailOn> for Class {
    fn from(class: FailOn) -> Self {
        match class {
            FailOn::Pending => Self::Pending,
            FailOn::NotReady => Self::NotReady,
            FailOn::Unseen => Self::Unseen,
        }
    }
}

pub(super) async fn run(arguments: &Arguments, ui: &Ui) -> Result<Exit, Error> {
    let files = arguments.topologies.names();
    let interrupt = interrupt::listen()?;
    let looks = files.iter().map(|file| compared(file, &arguments.timeouts, &interrupt));
    let clusters: Vec<_> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    let report = DriftReport::of(clusters.into_iter().collect::<Result<_, _>>()?);
    ui.result(&match ui.format {
        Format::Text => text::drift(&report),
        Format::Json => json::drift(&report),
        Format::Markdown => markdown::drift(&report),
        Format::Html => html::drift(&report),
    })?;
    pipeline::summary(|| markdown::drift(&report))?;
    let fail_on: BTreeSet<Class> = arguments.fail_on.iter().copied().map(Class::from).collect();
    Ok(match report.verdict(&fail_on) {
        Verdict::InSync => Exit::Success,
        Verdict::Differs => Exit::Changes,
        Verdict::Unknown => Exit::Failed,
    })
}

/// Looks at one cluster. Whatever is wrong with it is in its report, so that it hides none of the others.
async fn compared(file: &str, timeouts: &Timeouts, interrupt: &Interrupt) -> Result<ClusterDrift, Error> {
    let look = async {
        let reached = source::reach_from(source::load(file)?, timeouts, interrupt.clone()).await?;
        let observed = reached.world.observe().await;
        let plan = plan(&reached.topology, &observed);
        Ok::<_, Error>(ClusterDrift::of(file, &reached.topology, &observed, &plan))
    };
    match unless_interrupted(interrupt, look).await? {
        Ok(cluster) => Ok(cluster),
        Err(error) if error.exit() == Exit::Interrupted => Err(error),
        Err(error) => Ok(ClusterDrift::not_compared(file, error.reports())),
    }
}
