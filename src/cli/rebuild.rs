//! `pgpair rebuild`: an apply in which one standby is cloned anew. Naming the node is the allowance to replace its data.

use clap::Args;

use super::apply;
use super::apply::Errand;
use super::source;
use super::ui::Ui;
use crate::error::Error;
use crate::error::Exit;
use crate::plan::Request;
use crate::plan::allow::Allowance;
use crate::topology::NodeName;

#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// The standby whose data directory is replaced by a new clone; its configuration is kept.
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    apply: apply::Arguments,
}

pub(super) async fn run(arguments: Arguments, ui: &Ui) -> Result<Exit, Error> {
    let Arguments { node, mut apply } = arguments;
    let reached = source::reach(&apply.topology, &apply.timeouts).await?;
    let node = NodeName::new(&node);
    let request = Request::rebuild(&reached.topology, &node).map_err(|bad| Error::Usage(bad.to_string()))?;
    apply.allow.push(Allowance::Destroy(node));
    apply::run_in(reached, apply, Errand { request, ..Errand::default() }, ui).await
}
