//! What a pipeline is told beside the result: reports in files, and the outputs and summary of a step in GitHub Actions.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;

use crate::error::Error;
use crate::report::PlanReport;
use crate::report::markdown;
use crate::report::pipeline;

/// The reports that are asked for.
#[derive(Debug, Default, Args)]
pub(super) struct Reports {
    /// Also write a report: gitlab=FILE, for `artifacts: reports: terraform`.
    #[arg(long = "report", value_name = "KIND=FILE", value_parser = gitlab)]
    gitlab: Option<PathBuf>,
}

fn gitlab(text: &str) -> Result<PathBuf, String> {
    let file = text.strip_prefix("gitlab=").filter(|file| !file.is_empty());
    file.map(PathBuf::from).ok_or_else(|| format!("`{text}` is no report: gitlab=FILE"))
}

/// Tells of a plan. `file` is the topology's name.
pub(super) fn plan(report: &PlanReport, file: &str, reports: &Reports) -> Result<(), Error> {
    if let Some(path) = &reports.gitlab {
        std::fs::write(path, pipeline::gitlab(report)).map_err(|source| not_written(path, &source))?;
    }
    add("GITHUB_OUTPUT", || pipeline::github(report))?;
    summary(|| markdown::plan(report, file))
}

/// Adds to the summary of a step in GitHub Actions.
pub(super) fn summary(markdown: impl FnOnce() -> String) -> Result<(), Error> {
    add("GITHUB_STEP_SUMMARY", || markdown() + "\n")
}

/// Adds to a file that GitHub Actions names; elsewhere the text is not even made. Steps before have written to it too.
fn add(variable: &str, text: impl FnOnce() -> String) -> Result<(), Error> {
    let is_there = std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true");
    let Some(path) = std::env::var_os(variable).filter(|path| is_there && !path.is_empty()).map(PathBuf::from) else {
        return Ok(());
    };
    let file = OpenOptions::new().append(true).create(true).open(&path);
    file.and_then(|mut file| file.write_all(text().as_bytes())).map_err(|source| not_written(&path, &source))
}

fn not_written(path: &std::path::Path, source: &std::io::Error) -> Error {
    Error::Write(std::io::Error::new(source.kind(), format!("{}: {source}", path.display())))
}
