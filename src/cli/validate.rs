//! `pgpair validate`: topology files alone. Opens no connection, runs no command, reads no secret.

use clap::Args;

use super::Format;
use super::TopologyFile;
use super::source;
use super::ui::Ui;
use crate::error::Error;
use crate::error::Exit;
use crate::report::json;
use crate::report::json::ErrorReport;
use crate::report::json::ValidFile;
use crate::report::text;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The topology files; `-` is standard input [default: PGPAIR_FILE, or pgpair.yaml].
    #[arg(value_name = "FILE", conflicts_with = "named_file")]
    files: Vec<String>,
    /// The same, as an option.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    named_file: Option<String>,
}

pub(super) fn run(arguments: &Arguments, ui: &Ui) -> Result<Exit, Error> {
    let mut files = arguments.files.clone();
    if files.is_empty() {
        files.push(TopologyFile { file: None, named_file: arguments.named_file.clone() }.name());
    }
    let (mut valid, mut bad) = (Vec::new(), Vec::new());
    for file in &files {
        match source::load(file) {
            Ok(source) => {
                if ui.format == Format::Text {
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
    if ui.format == Format::Text {
        ui.result(&text::valid(&valid))?;
    }
    if !bad.is_empty() {
        return Err(Error::Topology(bad));
    }
    if ui.format == Format::Json {
        ui.result(&json::valid(&valid))?;
    }
    Ok(Exit::Success)
}
