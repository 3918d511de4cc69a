//! Whether values stand in the files of a node, and whether its server has them in force.
//!
//! `pending_restart` does not matter here: where the files and the server both say what is wanted, a restart would
//! change nothing, whatever the server thinks of their spelling (it compares texts byte by byte).

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::observed::Setting;
use crate::observed::Sql;
use crate::pg::conf::Placed;
use crate::pg::guc;
use crate::plan::desired;
use crate::topology::Node;
use crate::topology::Topology;

/// Whether what the files say is what is wanted, as far as they say anything.
#[must_use]
pub fn file_holds(
    topology: &Topology,
    node: &Node,
    settings: &BTreeMap<String, String>,
    values: &BTreeMap<String, Placed>,
) -> bool {
    settings.iter().all(|(name, wanted)| {
        values.get(name).is_none_or(|placed| desired::value_holds(topology, node, name, wanted, &placed.value))
    })
}

/// Whether a running server has these values in force. What it does not list is an extension's that is not loaded.
#[must_use]
pub fn is_in_force(topology: &Topology, node: &Node, settings: &BTreeMap<String, String>, sql: &Sql) -> bool {
    let holds = |(name, wanted): (&String, &String)| {
        sql.settings.get(name).is_none_or(|now| setting_holds(topology, node, name, wanted, now))
    };
    settings.iter().all(holds)
}

/// Whether a running server goes by what its files say of these parameters, or by the default where they say nothing.
#[must_use]
pub fn is_restored(
    topology: &Topology,
    node: &Node,
    names: &BTreeSet<String>,
    values: &BTreeMap<String, Placed>,
    sql: &Sql,
) -> bool {
    names.iter().all(|name| {
        // A look lists whatever a file or the command line sets.
        let Some(now) = sql.settings.get(name) else { return true };
        match values.get(name) {
            Some(placed) => setting_holds(topology, node, name, &placed.value, now),
            None => default_holds(topology, node, name, now),
        }
    })
}

/// Whether a server goes by the default, or by the very value that the default is.
pub(super) fn default_holds(topology: &Topology, node: &Node, name: &str, now: &Setting) -> bool {
    let default = guc::boot(topology.postgresql.version, name);
    let from_file = now.source == "configuration file";
    !from_file || default.is_some_and(|default| setting_holds(topology, node, name, default, now))
}

/// Whether a server goes by this value.
#[must_use]
pub fn setting_holds(topology: &Topology, node: &Node, name: &str, wanted: &str, now: &Setting) -> bool {
    is_shown_otherwise(topology, name, wanted, now) || desired::value_holds(topology, node, name, wanted, &now.value)
}

/// Whether a server shows a value in another form than it was given, so that only the files tell.
fn is_shown_otherwise(topology: &Topology, name: &str, wanted: &str, now: &Setting) -> bool {
    // Its default means that the server works it out at the start (wal_buffers -1).
    let major = topology.postgresql.version;
    let is_computed = now.source == "override"
        && guc::boot(major, name).is_some_and(|default| guc::same(major, name, wanted, default));
    // archive_command, while archive_mode is off.
    let is_unused = now.value == "(disabled)";
    let is_time_zone = ["timezone", "log_timezone"].contains(&name);
    is_computed || is_unused || (is_time_zone && wanted.eq_ignore_ascii_case(&now.value))
}
