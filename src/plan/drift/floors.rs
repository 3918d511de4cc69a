//! Parameters that a standby must have at least as high as its primary, and who must change them first.
//!
//! A standby that has less of one than its primary last ran with, as far as it has replayed, does not come up.

use crate::observed::Cluster;
use crate::observed::Sql;
use crate::pg::guc;
use crate::plan::desired;
use crate::topology::Node;
use crate::topology::Topology;

/// Returns a parameter that `standby` is to have lower than the running primary has it, with the primary's value.
#[must_use]
pub fn too_low(topology: &Topology, standby: &Node, primary: &Sql) -> Option<(&'static str, String)> {
    differs(topology, standby, primary, |wanted, running| wanted < running)
}

/// Returns a parameter that the primary is to have higher than a running standby has it, with the standby's value.
#[must_use]
pub fn too_high(topology: &Topology, primary: &Node, standby: &Sql) -> Option<(&'static str, String)> {
    differs(topology, primary, standby, |wanted, running| wanted > running)
}

/// Returns a parameter that `standby` is to have lower than what its primary last ran with as far as it has replayed:
/// started like that it would not come up.
#[must_use]
pub fn not_replayed(topology: &Topology, standby: &Node, cluster: &Cluster) -> Option<(String, u32)> {
    let wanted = desired::settings(topology, standby);
    under_floor(cluster, |name| wanted.get(name).map(String::as_str))
}

/// Returns a parameter that the files of a standby give less of than its primary last ran with: it would not come up.
#[must_use]
pub fn below_floor(cluster: &Cluster) -> Option<(String, u32)> {
    let values = cluster.conf.read().ok()?.values;
    under_floor(cluster, |name| values.get(name).map(|placed| placed.value.as_str()))
}

fn under_floor<'a>(cluster: &Cluster, value_of: impl Fn(&str) -> Option<&'a str>) -> Option<(String, u32)> {
    cluster.floors.iter().find_map(|(name, floor)| {
        let given = guc::integer(cluster.major, name, value_of(name)?)?;
        (i64::from(given) < i64::from(*floor)).then(|| (name.clone(), *floor))
    })
}

fn differs(
    topology: &Topology,
    node: &Node,
    other: &Sql,
    breaks: impl Fn(i32, i32) -> bool,
) -> Option<(&'static str, String)> {
    let major = topology.postgresql.version;
    let wanted = desired::settings(topology, node);
    major.dialect().control.floors.iter().find_map(|(name, _)| {
        let name = *name;
        let running = &other.settings.get(name)?.value;
        let wanted = guc::integer(major, name, wanted.get(name)?)?;
        breaks(wanted, guc::integer(major, name, running)?).then(|| (name, running.clone()))
    })
}
