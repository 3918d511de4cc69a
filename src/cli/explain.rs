//! `pgpair explain`: what an id means, without a topology and without a server.

use clap::Args;

use super::Format;
use super::ui::Ui;
use crate::error::Error;
use crate::error::Exit;
use crate::report::explain;
use crate::report::explain::Explanation;
use crate::report::html;
use crate::report::json;
use crate::report::markdown;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A state, action, refusal, check, warning or parameter; or a list: states, actions, refusals, checks, warnings.
    #[arg(value_name = "ID")]
    id: String,
}

pub(super) fn run(arguments: &Arguments, ui: &Ui) -> Result<Exit, Error> {
    let Arguments { id } = arguments;
    let explained = explain::explain(id).map_err(|near| {
        let near = near.map_or_else(
            || "lists are `states`, `actions`, `refusals`, `checks` and `warnings`".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        Error::Usage(format!("nothing is called `{id}`; {near}"))
    })?;
    let text = || explained.iter().map(Explanation::text).collect::<String>();
    ui.result(&match ui.format {
        Format::Text => text(),
        Format::Markdown => markdown::plain(&text()),
        Format::Html => html::plain("explain", &text()),
        Format::Json => json::explained(&explained),
    })?;
    Ok(Exit::Success)
}
