//! `pgpair status`: one look at every node, and what is wrong with it. Changes nothing.

use std::time::Duration;

use clap::Args;

use super::Format;
use super::Timeouts;
use super::TopologyFile;
use super::interrupt::unless_interrupted;
use super::source;
use super::source::Reached;
use super::ui::Ui;
use crate::error::Error;
use crate::error::Exit;
use crate::report::html;
use crate::report::json;
use crate::report::markdown;
use crate::report::status::Health;
use crate::report::status::StatusReport;
use crate::report::text;
use crate::world::World as _;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    topology: TopologyFile,
    #[command(flatten)]
    timeouts: Timeouts,
    /// Unhealthy is a standby that has more bytes of WAL still to replay.
    #[arg(long, value_name = "BYTES")]
    max_lag: Option<u64>,
    /// Look again and again, until interrupted; every so often [default: 2s].
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "2s", value_parser = super::duration)]
    watch: Option<Duration>,
}

pub(super) async fn run(arguments: &Arguments, ui: &Ui) -> Result<Exit, Error> {
    let Reached { topology, world, interrupt, .. } = source::reach(&arguments.topology, &arguments.timeouts).await?;
    loop {
        let observed = unless_interrupted(&interrupt, world.observe()).await?;
        let report = StatusReport::of(&topology, &observed, arguments.max_lag);
        let Some(pause) = arguments.watch else {
            ui.result(&match ui.format {
                Format::Text => text::status(&report, ui.width()),
                Format::Json => json::status(&report),
                Format::Markdown => markdown::status(&report),
                Format::Html => html::status(&report),
            })?;
            return Ok(match report.health {
                Health::Healthy => Exit::Success,
                Health::Unknown => Exit::Failed,
                Health::Unhealthy => Exit::Changes,
            });
        };
        let in_place = ui.clear_screen()?;
        ui.result(&match ui.format {
            Format::Text if in_place => text::status(&report, ui.width()),
            Format::Text => {
                format!("{}\n{}\n", jiff::Timestamp::now().strftime("%FT%TZ"), text::status(&report, ui.width()))
            }
            Format::Json => json::status_line(&report),
            Format::Markdown => markdown::status(&report),
            // One page after the other is none.
            Format::Html => return Err(Error::Usage("a page is of one look: --format html or --watch".into())),
        })?;
        unless_interrupted(&interrupt, tokio::time::sleep(pause)).await?;
    }
}
