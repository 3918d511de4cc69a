//! `pgpair show`: a saved plan, in any format. Reaches nothing but the file.

use clap::Args;

use super::document;
use super::plan;
use super::ui::Ui;
use crate::error::Error;
use crate::error::Exit;
use crate::report::saved::SavedPlan;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The saved plan, as `pgpair plan --out` wrote it.
    #[arg(value_name = "PLAN")]
    plan: String,
}

pub(super) fn run(arguments: &Arguments, ui: &Ui) -> Result<Exit, Error> {
    let saved = load(&arguments.plan)?;
    plan::show(&saved.report(), &saved.file, ui)?;
    Ok(Exit::Success)
}

/// Reads a saved plan.
pub(super) fn load(file: &str) -> Result<SavedPlan, Error> {
    let text = document::read(file)?;
    SavedPlan::read(&text).map_err(|why| Error::BadDocument { file: file.to_owned(), why })
}
