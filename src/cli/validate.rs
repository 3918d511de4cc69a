//! `pgpair validate`: topology files alone. Opens no connection, runs no command, reads no secret.

use clap::Args;

use super::Format;
use super::TopologyFiles;
use super::source;
use super::ui::Ui;
use crate::error::Error;
use crate::error::Exit;
use crate::report::html;
use crate::report::json;
use crate::report::json::ErrorReport;
use crate::report::json::ValidFile;
use crate::report::markdown;
use crate::report::text;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    topologies: TopologyFiles,
}

pub(super) fn run(arguments: &Arguments, ui: &Ui) -> Result<Exit, Error> {
    let files = arguments.topologies.names();
    let (mut valid, mut bad) = (Vec::new(), Vec::new());
    for file in &files {
        match source::load(file) {
            Ok(source) => {
                if ui.format != Format::Json {
                    ui.note(&source.advice.text(ui.is_watched()));
                }
                valid.push(ValidFile {
                    file: source.name,
                    cluster: source.topology.cluster,
                    nodes: source.topology.nodes.len(),
                    warnings: source.advice.diagnostics.iter().map(ErrorReport::from).collect(),
                });
            }
            Err(Error::Topology(files)) => bad.extend(files),
            Err(other) => return Err(other),
        }
    }
    match ui.format {
        Format::Text => ui.result(&text::valid(&valid))?,
        Format::Markdown if !valid.is_empty() => ui.result(&markdown::plain(&text::valid(&valid)))?,
        Format::Html if !valid.is_empty() => ui.result(&html::plain("validate", &text::valid(&valid)))?,
        Format::Markdown | Format::Html | Format::Json => {}
    }
    if !bad.is_empty() {
        return Err(Error::Topology(bad));
    }
    if ui.format == Format::Json {
        ui.result(&json::valid(&valid))?;
    }
    Ok(Exit::Success)
}
