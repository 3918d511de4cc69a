//! `pgpair show`: a saved plan, or the event log of an apply, in any format. Reaches nothing but the file.

use clap::Args;

use super::Format;
use super::document;
use super::plan;
use super::ui::Ui;
use crate::error::Error;
use crate::error::Exit;
use crate::report::html;
use crate::report::json;
use crate::report::log;
use crate::report::log::LogReport;
use crate::report::markdown;
use crate::report::saved::SavedPlan;
use crate::report::text;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The saved plan, as `pgpair plan --out` wrote it, or the event log of an apply.
    #[arg(value_name = "PLAN|LOG")]
    file: String,
}

pub(super) fn run(arguments: &Arguments, ui: &Ui) -> Result<Exit, Error> {
    let file = &arguments.file;
    let text = document::read(file)?;
    if log::is_log(&text) {
        let report = LogReport::read(&text).map_err(|why| Error::BadDocument { file: file.clone(), why })?;
        show_log(&report, ui)?;
    } else {
        let saved = saved(file, &text)?;
        plan::show(&saved.report(), &saved.file, ui)?;
    }
    Ok(Exit::Success)
}

fn show_log(report: &LogReport, ui: &Ui) -> Result<(), Error> {
    ui.result(&match ui.format {
        Format::Text => text::log(report),
        Format::Json => json::log(report),
        Format::Markdown => markdown::plain(&text::log(report)),
        Format::Html => html::log(report),
    })
}

/// Reads a saved plan.
pub(super) fn load(file: &str) -> Result<SavedPlan, Error> {
    saved(file, &document::read(file)?)
}

fn saved(file: &str, text: &str) -> Result<SavedPlan, Error> {
    SavedPlan::read(text).map_err(|why| Error::BadDocument { file: file.to_owned(), why })
}
