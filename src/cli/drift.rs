//! `pgpair drift`: compares clusters with their topologies, many at once. Changes nothing, and needs no secret.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

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
use super::progress::Bar;
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
use crate::report::metrics;
use crate::report::metrics::Look;
use crate::report::status::StatusReport;
use crate::report::text;
use crate::world::World as _;
use crate::world::files;

/// How many clusters are looked at at once. On two cores, 50 pairs took 3.4 s one by one, 1.8 s by 4 to 32 at once.
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
    /// One JSON object for each cluster, on a line of its own, as soon as it and those before it are compared.
    #[arg(long, conflicts_with = "format")]
    json_lines: bool,
    /// Also write metrics, for node_exporter's textfile collector.
    #[arg(long, value_name = "FILE.prom", value_parser = textfile)]
    textfile: Option<PathBuf>,
}

/// node_exporter reads no file of another name, and says nothing of it.
fn textfile(text: &str) -> Result<PathBuf, String> {
    let file = PathBuf::from(text);
    let is_read = file.extension().is_some_and(|extension| extension == "prom");
    is_read.then_some(file).ok_or_else(|| "node_exporter reads only files whose names end in .prom".to_owned())
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

/// A cluster that was looked at, for its report and its metrics.
struct Compared {
    drift: ClusterDrift,
    /// Only where metrics are asked for.
    status: Option<StatusReport>,
    took: Duration,
}

pub(super) async fn run(arguments: &Arguments, ui: &Ui) -> Result<Exit, Error> {
    let files = arguments.topologies.names();
    let interrupt = interrupt::listen()?;
    let bar = ui.is_watched().then(|| Bar::of("clusters", files.len() as u64));
    let looks = files.iter().map(|file| compared(file, arguments, &interrupt));
    let mut looks = stream::iter(looks).buffered(AT_ONCE);
    let mut clusters = Vec::new();
    while let Some(cluster) = looks.next().await {
        let cluster = cluster?;
        bar.iter().for_each(Bar::one);
        if arguments.json_lines {
            ui.result(&json::drift_line(&cluster.drift))?;
        }
        clusters.push(cluster);
    }
    drop(bar);
    let textfile = arguments.textfile.as_deref().map_or(Ok(()), |file| write_textfile(file, &clusters));
    let report = DriftReport::of(clusters.into_iter().map(|cluster| cluster.drift).collect());
    if !arguments.json_lines {
        ui.result(&match ui.format {
            Format::Text => text::drift(&report),
            Format::Json => json::drift(&report),
            Format::Markdown => markdown::drift(&report),
            Format::Html => html::drift(&report),
        })?;
    }
    pipeline::summary(|| markdown::drift(&report))?;
    // Whoever waits for the report has it, whatever became of the metrics.
    if let Err(why) = &textfile {
        ui.warn(&format!("the metrics are not written: {why}"));
    }
    let fail_on: BTreeSet<Class> = arguments.fail_on.iter().copied().map(Class::from).collect();
    Ok(match report.verdict(&fail_on) {
        Verdict::Differs => Exit::Changes,
        Verdict::Unknown => Exit::Failed,
        Verdict::InSync if textfile.is_err() => Exit::Failed,
        Verdict::InSync => Exit::Success,
    })
}

/// Looks at one cluster. Whatever is wrong with it is in its report, so that it hides none of the others.
async fn compared(file: &str, arguments: &Arguments, interrupt: &Interrupt) -> Result<Compared, Error> {
    let begin = Instant::now();
    let look = async {
        let reached = source::reach_from(source::load(file)?, &arguments.timeouts, interrupt.clone()).await?;
        let observed = reached.world.observe().await;
        let plan = plan(&reached.topology, &observed);
        let drift = ClusterDrift::of(file, &reached.topology, &observed, &plan);
        let status = arguments.textfile.as_ref().map(|_| StatusReport::of(&reached.topology, &observed, None));
        Ok::<_, Error>((drift, status))
    };
    let (drift, status) = match unless_interrupted(interrupt, look).await? {
        Ok(found) => found,
        Err(error) if error.exit() == Exit::Interrupted => return Err(error),
        Err(error) => (ClusterDrift::not_compared(file, error.reports()), None),
    };
    Ok(Compared { drift, status, took: begin.elapsed() })
}

/// Replaces the metrics whole, so that nobody reads half of them. What they were before tells when each cluster was last
/// compared.
fn write_textfile(file: &Path, clusters: &[Compared]) -> Result<(), files::FileError> {
    /// node_exporter runs as a user of its own.
    const FOR_ALL_TO_READ: u32 = 0o644;
    // A text that can't be read, or none, is replaced like any other: it has nothing to tell.
    let before = files::read_text(file).ok().flatten().unwrap_or_default();
    let looks: Vec<Look> = clusters
        .iter()
        .map(|cluster| Look { drift: &cluster.drift, status: cluster.status.as_ref(), took: cluster.took })
        .collect();
    let text = metrics::textfile(&looks, &before, jiff::Timestamp::now().as_second());
    files::replace(file, text.as_bytes(), Some(FOR_ALL_TO_READ))
}
