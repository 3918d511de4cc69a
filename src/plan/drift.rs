//! What of a node's files differs from the topology, and what they must say instead.
//!
//! A value that already holds, wherever it is set, needs no change. What does not hold goes into pgpair's block,
//! and a line that the topology no longer asks for leaves it.

use crate::observed::Cluster;
use crate::observed::NodeObserved;
use crate::pg::block;
use crate::pg::block::Block;
use crate::pg::conf;
use crate::pg::guc;
use crate::pg::hba;
use crate::plan::Refusal;
use crate::plan::desired;
use crate::topology::Node;
use crate::topology::Role;
use crate::topology::Topology;

mod configuration;
mod floors;
mod force;

pub use configuration::ConfDrift;
pub use configuration::configuration;
pub use configuration::lowers;
pub use floors::Floors;
pub use floors::below_floor;
pub use force::file_holds;
pub use force::is_in_force;
pub use force::is_restored;
pub use force::setting_holds;

/// Compares pg_hba.conf with the topology; returns the block that it must have, where it differs.
///
/// # Errors
///
/// A refusal where the file can't be read.
pub fn rules(topology: &Topology, node: &Node, cluster: &Cluster) -> Result<Option<Block>, Refusal> {
    let bad =
        |problem: String| Refusal::BadConf { node: node.name.clone(), problem: format!("pg_hba.conf: {problem}") };
    let found = block::owner(&cluster.hba).map_err(|malformed| bad(malformed.to_string()))?;
    let wanted = desired::hba_block(topology, node);
    // One that names another node is a copied file's, and is replaced whole.
    if found.is_some() {
        return Ok((!block::stands_before_rules(&cluster.hba, &wanted)).then_some(wanted));
    }
    let rules = hba::parse(&cluster.hba).map_err(|rule| bad(rule.to_string()))?;
    let needed = hba::parse(&desired::needed_rules(topology, node).join("\n")).map_err(|rule| bad(rule.to_string()))?;
    let all_hold = needed.iter().all(|rule| hba::holds(&rules, rule));
    Ok((!all_hold).then_some(wanted))
}

/// Whether pg_hba.conf lets `standby` replicate from the node.
#[must_use]
pub fn admits(topology: &Topology, cluster: &Cluster, standby: &Node) -> bool {
    lets_in(cluster, &desired::rules_for(topology, standby))
}

/// Whether pg_hba.conf lets pg_rewind, run on `standby`, read the node.
#[must_use]
pub fn admits_rewind(topology: &Topology, cluster: &Cluster, standby: &Node) -> bool {
    lets_in(cluster, &desired::rules_for_rewind(topology, standby))
}

fn lets_in(cluster: &Cluster, needed: &[String]) -> bool {
    let rules = hba::parse(&cluster.hba).unwrap_or_default();
    hba::parse(&needed.join("\n")).unwrap_or_default().iter().all(|rule| hba::admits(&rules, rule))
}

/// Whether the node's pg_hba.conf is pgpair's own: then what a future role change needs is kept there too.
#[must_use]
pub fn owns_rules(node: &Node, cluster: &Cluster) -> bool {
    has_block_of(node, &cluster.hba)
}

/// Whether postgresql.conf has a block of this node.
#[must_use]
pub fn owns_conf(node: &Node, cluster: &Cluster) -> bool {
    has_block_of(node, &cluster.conf.main.text)
}

fn has_block_of(node: &Node, text: &str) -> bool {
    block::owner(text).is_ok_and(|found| found.is_some_and(|(_, owner)| owner == node.name.as_str()))
}

/// Whether the node is to replay later than it receives.
#[must_use]
pub fn is_delayed(topology: &Topology, node: &Node) -> bool {
    let name = "recovery_min_apply_delay";
    let delay = topology.parameter(node, name);
    delay.is_some_and(|delay| !guc::same(topology.postgresql.version, name, delay, "0"))
}

/// Whether a running standby of 10 or 11 goes by the recovery.conf that is there.
///
/// It reads the file at its start alone. One that was only touched since is no reason for a restart where the standby
/// does what it says.
#[must_use]
pub fn has_read_recovery_conf(topology: &Topology, standby: &Node, seen: &NodeObserved) -> bool {
    let upstream = topology.upstream(standby);
    let slot = topology.replication.slots.then(|| standby.slot_name());
    seen.sql().is_none_or(|sql| {
        let receives_as_told = sql.receiver.as_ref().is_some_and(|receiver| {
            receiver.is_from(upstream)
                && receiver.user.as_ref() == Some(&topology.replication.user)
                && (slot.is_none() || receiver.slot == slot)
        });
        sql.recovery_conf_loaded || receives_as_told
    })
}

/// Whether a standby takes WAL from an archive, now or once the topology is in force.
#[must_use]
pub fn restores_from_archive(topology: &Topology, standby: &Node, seen: &NodeObserved) -> bool {
    let name = "restore_command";
    let given = topology.parameter(standby, name).map(str::to_owned);
    let running = seen.sql().and_then(|sql| sql.settings.get(name)).map(|setting| setting.value.clone());
    let in_files = seen.cluster().and_then(|cluster| cluster.conf.read().ok()?.values.remove(name));
    let recovery_conf = seen.cluster().and_then(|cluster| cluster.markers.recovery_conf.as_deref()).unwrap_or_default();
    let there = conf::parse(recovery_conf).entries.into_iter().filter(|entry| entry.name == name);
    let in_files = in_files.map(|placed| placed.value).into_iter().chain(there.map(|entry| entry.value));
    given.into_iter().chain(running).chain(in_files).any(|command| !command.is_empty())
}

/// Whether pgpair's passfile belongs on the node: its conninfo names it, or a role change will need it.
///
/// A conninfo that came from elsewhere has its own way to the password.
#[must_use]
pub fn uses_passfile(node: &Node, cluster: &Cluster) -> bool {
    owns_rules(node, cluster) || (node.role == Role::Standby && names_passfile(node, cluster))
}

/// Whether the standby's conninfo names pgpair's passfile.
#[must_use]
pub fn names_passfile(node: &Node, cluster: &Cluster) -> bool {
    let path = desired::passfile_path(node);
    let conninfo = cluster.conf.read().ok().and_then(|mut read| read.values.remove("primary_conninfo"));
    let in_conf = conninfo.is_some_and(|placed| placed.value.contains(&path));
    in_conf || cluster.markers.recovery_conf.as_ref().is_some_and(|text| text.contains(&path))
}
