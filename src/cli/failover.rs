//! `pgpair failover`: an apply in which another node becomes the primary without the old one. Naming the node is the
//! allowance for it, and the topology file is edited to say so.

use clap::Args;

use super::apply;
use super::apply::Errand;
use super::interrupt;
use super::source;
use super::switchover;
use super::ui::Ui;
use crate::error::Error;
use crate::error::Exit;
use crate::plan::allow::Allowance;
use crate::topology::NodeName;

#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// The node that becomes the primary.
    #[arg(long, value_name = "NODE")]
    to: String,
    #[command(flatten)]
    apply: apply::Arguments,
}

pub(super) async fn run(arguments: Arguments, ui: &Ui) -> Result<Exit, Error> {
    let Arguments { to, mut apply } = arguments;
    let file = apply.topology.name();
    if file == "-" {
        return Err(Error::Usage(
            "a failover edits the topology, and standard input can't be edited; name a file".into(),
        ));
    }
    let (to, source) = (NodeName::new(to), source::load(&file)?);
    let (source, roles) = switchover::with_primary(source, &to)?;
    apply.allow.push(Allowance::Failover(to));
    let reached = source::reach_from(source, &apply.timeouts, interrupt::listen()?).await?;
    let errand = Errand { roles: Some(roles), by_force: true, ..Errand::default() };
    apply::run_in(reached, apply, errand, ui).await
}
