//! `pgpair schema`, `completions` and `man`: what editors and shells want to know of pgpair. Needs no topology.

use std::path::PathBuf;

use clap::Args;
use clap::CommandFactory as _;
use clap::ValueEnum;
use clap_complete::aot;

use super::Cli;
use super::ui::Ui;
use crate::error::Error;
use crate::error::Exit;
use crate::pg::version::Major;
use crate::topology::schema;

#[derive(Debug, Args)]
pub(super) struct Schema {
    /// For topologies of this major alone, 10 to 18 [default: all, each with its own parameters].
    #[arg(long, value_name = "MAJOR", value_parser = major)]
    postgresql: Option<Major>,
}

fn major(text: &str) -> Result<Major, String> {
    text.parse().map_err(|_| format!("`{text}` is no major that pgpair knows: {} to {}", Major::OLDEST, Major::NEWEST))
}

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub(super) struct Man {
    /// Write the page of every command to this folder [default: the page of pgpair itself, to standard output].
    #[arg(short, long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

pub(super) fn schema(arguments: &Schema, ui: &Ui) -> Result<Exit, Error> {
    ui.result(&format!("{:#}\n", schema::schema(arguments.postgresql)))?;
    Ok(Exit::Success)
}

pub(super) fn completions(arguments: &Completions, ui: &Ui) -> Result<Exit, Error> {
    let (mut command, mut script) = (Cli::command(), Vec::new());
    match arguments.shell {
        Shell::Bash => aot::generate(aot::Bash, &mut command, "pgpair", &mut script),
        Shell::Zsh => aot::generate(aot::Zsh, &mut command, "pgpair", &mut script),
        Shell::Fish => aot::generate(aot::Fish, &mut command, "pgpair", &mut script),
    }
    ui.result(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Success)
}

pub(super) fn man(arguments: &Man, ui: &Ui) -> Result<Exit, Error> {
    let Some(folder) = &arguments.out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(Error::Write)?;
        ui.result(&String::from_utf8_lossy(&page))?;
        return Ok(Exit::Success);
    };
    std::fs::create_dir_all(folder).map_err(Error::Write)?;
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), folder).map_err(Error::Write)?;
    Ok(Exit::Success)
}
