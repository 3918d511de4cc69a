//! `pgpair switchover` and `pgpair failover`: an apply in which another node becomes the primary, with the old one or
//! without it. Naming the node is the allowance for it, and the topology file is edited to say so.

use clap::Args;

use super::apply;
use super::apply::Errand;
use super::interrupt;
use super::role_edit::RoleEdit;
use super::source;
use super::source::Source;
use super::ui::Ui;
use crate::error::Error;
use crate::error::Exit;
use crate::error::Findings;
use crate::plan::allow::Allowance;
use crate::topology::NodeName;
use crate::topology::edit;
use crate::topology::edit::EditError;
use crate::topology::edit::Edited;

#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Arguments {
    /// The node that becomes the primary.
    #[arg(long, value_name = "NODE")]
    to: String,
    #[command(flatten)]
    apply: apply::Arguments,
}

/// `by_force`: without the old primary.
pub(super) async fn run(arguments: Arguments, by_force: bool, ui: &Ui) -> Result<Exit, Error> {
    let Arguments { to, mut apply } = arguments;
    let file = apply.topology.name();
    if file == "-" {
        let what = if by_force { "failover" } else { "switchover" };
        return Err(Error::Usage(format!(
            "a {what} edits the topology, and standard input can't be edited; name a file"
        )));
    }
    let (to, source) = (NodeName::new(to), source::load(&file)?);
    let (source, roles) = with_primary(source, &to)?;
    apply.allow.push(if by_force { Allowance::Failover(to) } else { Allowance::Switchover(to) });
    let reached = source::reach_from(source, &apply.timeouts, interrupt::listen()?).await?;
    apply::run_in(reached, apply, Errand { roles: Some(roles), by_force, ..Errand::default() }, ui).await
}

/// Returns the topology in which this node is the primary, and how its file comes to say so.
fn with_primary(source: Source, to: &NodeName) -> Result<(Source, RoleEdit), Error> {
    let Source { name, base_dir, topology, advice } = source;
    if !topology.nodes.contains_key(to) {
        let nodes: Vec<&str> = topology.nodes.keys().map(NodeName::as_str).collect();
        let nodes = nodes.join(", ");
        return Err(Error::Usage(format!("the topology has no node `{to}`; its nodes are {nodes}")));
    }
    let before = advice.text.clone();
    let (topology, after) = if topology.primary().name == *to {
        (topology, before.clone())
    } else {
        let as_it_would_be = format!("{name} with {to} as the primary");
        match edit::with_primary(before.as_bytes(), &as_it_would_be, &base_dir, &topology, to) {
            Ok(Edited { text, topology }) => (topology, text),
            Err(EditError::Invalid { text, diagnostics }) => {
                return Err(Error::Topology(vec![Findings { name: as_it_would_be, text, diagnostics }]));
            }
            Err(EditError::ByHand) => return Err(Error::NotEditable { file: name }),
        }
    };
    let edit = RoleEdit { file: name.clone(), before, after };
    Ok((Source { name, base_dir, topology, advice }, edit))
}
