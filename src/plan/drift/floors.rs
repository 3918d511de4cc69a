//! Parameters that a standby must have at least as high as its primary, and who must change them first.
//!
//! A standby that has less of one than its primary last ran with, as far as it has replayed, does not come up.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use crate::observed::Cluster;
use crate::observed::Sql;
use crate::pg::conf::Placed;
use crate::pg::guc;
use crate::pg::version::Major;
use crate::plan::desired;
use crate::topology::Node;
use crate::topology::Topology;

/// Returns a parameter that `standby` is to have lower than the running primary has it, with the primary's value.
#[must_use]
pub fn too_low(topology: &Topology, standby: &Node, own: &Cluster, primary: &Sql) -> Option<(&'static str, String)> {
    differs(topology, standby, own, primary, |wanted, running| wanted < running)
}

/// Returns a parameter that the primary is to have higher than a running standby has it, with the standby's value.
#[must_use]
pub fn too_high(topology: &Topology, primary: &Node, own: &Cluster, standby: &Sql) -> Option<(&'static str, String)> {
    differs(topology, primary, own, standby, |wanted, running| wanted > running)
}

/// Returns a parameter that `standby` is to have lower than what its primary last ran with as far as it has replayed:
/// started like that it would not come up.
#[must_use]
pub fn not_replayed(topology: &Topology, standby: &Node, own: &Cluster) -> Option<(String, u32)> {
    let planned = Planned::of(topology, standby, own)?;
    under_floor(own, |name| planned.value(name))
}

/// Returns a parameter that the files of a standby give less of than its primary last ran with: it would not come up.
#[must_use]
pub fn below_floor(cluster: &Cluster) -> Option<(String, u32)> {
    let values = cluster.conf.read().ok()?.values;
    under_floor(cluster, |name| {
        let placed = values.get(name).map(|placed| placed.value.clone());
        placed.or_else(|| guc::boot(cluster.major, name).map(str::to_owned))
    })
}

fn under_floor(cluster: &Cluster, value_of: impl Fn(&str) -> Option<String>) -> Option<(String, u32)> {
    cluster.floors.iter().find_map(|(name, floor)| {
        let given = guc::integer(cluster.major, name, &value_of(name)?)?;
        (i64::from(given) < i64::from(*floor)).then(|| (name.clone(), *floor))
    })
}

fn differs(
    topology: &Topology,
    node: &Node,
    own: &Cluster,
    other: &Sql,
    breaks: impl Fn(i32, i32) -> bool,
) -> Option<(&'static str, String)> {
    let planned = Planned::of(topology, node, own)?;
    own.major.dialect().control.floors.iter().find_map(|(name, _)| {
        let name = *name;
        let running = &other.settings.get(name)?.value;
        let planned = guc::integer(own.major, name, &planned.value(name)?)?;
        breaks(planned, guc::integer(own.major, name, running)?).then(|| (name, running.clone()))
    })
}

/// What the files of a node will say.
struct Planned {
    major: Major,
    wanted: IndexMap<String, String>,
    /// Without the block: one that the topology no longer has leaves it, and may be less then.
    elsewhere: BTreeMap<String, Placed>,
}

impl Planned {
    /// Absent where the files can't be read.
    fn of(topology: &Topology, node: &Node, cluster: &Cluster) -> Option<Self> {
        let elsewhere = cluster.conf.read().ok()?.elsewhere;
        Some(Self { major: cluster.major, wanted: desired::settings(topology, node), elsewhere })
    }

    fn value(&self, name: &str) -> Option<String> {
        let given = self.wanted.get(name).or_else(|| Some(&self.elsewhere.get(name)?.value)).cloned();
        given.or_else(|| guc::boot(self.major, name).map(str::to_owned))
    }
}
