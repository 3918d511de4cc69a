//! `pgpair observe`: saves what a look at every node finds, for plans that are made without reaching a server.

use clap::Args;

use super::Format;
use super::Timeouts;
use super::TopologyFile;
use super::document;
use super::interrupt::unless_interrupted;
use super::source;
use super::source::Reached;
use super::ui::Ui;
use crate::error::Error;
use crate::error::Exit;
use crate::report;
use crate::report::html;
use crate::report::json;
use crate::report::markdown;
use crate::report::saved::Observation;
use crate::report::text;
use crate::world::World as _;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    topology: TopologyFile,
    #[command(flatten)]
    timeouts: Timeouts,
    /// Where the observation is written [default: standard output].
    #[arg(short, long, value_name = "OBSERVATION")]
    out: Option<String>,
}

pub(super) async fn run(arguments: &Arguments, ui: &Ui) -> Result<Exit, Error> {
    let Reached { name, base_dir, topology, world, interrupt } =
        source::reach(&arguments.topology, &arguments.timeouts).await?;
    let look = async { (world.check_secrets().await, world.observe().await) };
    let (secrets, observed) = unless_interrupted(&interrupt, look).await?;
    if let Err(failure) = secrets {
        ui.warn(&format!("what depends on a secret is not compared: {failure}"));
    }
    for node in report::nodes(&topology, &observed) {
        if observed.node(&node.node).place.known().is_none() {
            ui.warn(&format!("{} could not be looked at: {}", node.node, node.detail.unwrap_or_default()));
        }
    }
    let at = jiff::Timestamp::now().strftime("%FT%TZ").to_string();
    let observation = Observation::of(&topology, &observed, &name, &base_dir, at);
    let Some(out) = &arguments.out else {
        ui.result(&observation.json())?;
        return Ok(Exit::Success);
    };
    document::write(out, &observation.json())?;
    ui.result(&match ui.format {
        Format::Text => text::observed(&topology, out),
        Format::Markdown => markdown::plain(&text::observed(&topology, out)),
        Format::Html => html::plain("observe", &text::observed(&topology, out)),
        Format::Json => json::observed(&topology, out),
    })?;
    Ok(Exit::Success)
}
