//! Parameters that a standby must have at least as high as its primary, and who must change them first.
//!
//! A standby that has less of one than its primary last ran with, as far as it has replayed, does not come up. So
//! standbys are raised before the primary, and lowered once they have replayed that the primary was.

use std::collections::BTreeMap;

use crate::observed::Cluster;
use crate::observed::Sql;
use crate::pg::conf;
use crate::pg::conf::Origin;
use crate::pg::guc;
use crate::pg::version::Major;
use crate::plan::Configure;

/// The least that a server must have of each of these parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Floors(BTreeMap<&'static str, i32>);

impl Floors {
    /// Returns what a running server has. What it does not list has its default.
    #[must_use]
    pub fn of_server(major: Major, sql: &Sql) -> Self {
        Self::from(major, |name| {
            let running = sql.settings.get(name).map(|setting| setting.value.as_str());
            guc::integer(major, name, running.or(guc::boot(major, name))?)
        })
    }

    /// Returns what a primary last ran with, as far as this standby of it has replayed.
    #[must_use]
    pub fn replayed(cluster: &Cluster) -> Self {
        Self::from(cluster.major, |name| i32::try_from(*cluster.floors.get(name)?).ok())
    }

    fn from(major: Major, value_of: impl Fn(&str) -> Option<i32>) -> Self {
        let names = major.dialect().control.floors.iter().map(|(name, _)| *name);
        Self(names.filter_map(|name| Some((name, value_of(name)?))).collect())
    }

    /// Returns the higher of each of two.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        for (name, value) in &other.0 {
            let least = self.0.entry(name).or_insert(*value);
            *least = (*least).max(*value);
        }
        self
    }

    /// Returns those of which a server would have less, with the least.
    #[must_use]
    pub fn missed(&self, major: Major, value_of: impl Fn(&str) -> Option<String>) -> Vec<(&'static str, i32)> {
        let is_less = |name: &str| self.is_above(major, name, value_of(name).as_deref());
        self.0.iter().filter(|(name, _)| is_less(name)).map(|(name, least)| (*name, *least)).collect()
    }

    /// Whether this value of a parameter, or its default, would be too low.
    #[must_use]
    pub fn is_above(&self, major: Major, name: &str, value: Option<&str>) -> bool {
        let least = self.0.get(name).copied();
        let value = value.or(guc::boot(major, name)).and_then(|value| guc::integer(major, name, value));
        least.zip(value).is_some_and(|(least, value)| value < least)
    }

    /// Returns the first parameter for which `breaks` its value and its least, with the least.
    fn first(
        &self,
        value_of: impl Fn(&str) -> Option<i32>,
        breaks: impl Fn(i32, i32) -> bool,
    ) -> Option<(&'static str, i32)> {
        let broken = self.0.iter().find(|(name, least)| value_of(name).is_some_and(|value| breaks(value, **least)));
        broken.map(|(name, least)| (*name, *least))
    }

    /// Returns a parameter that a step would leave lower than this.
    #[must_use]
    pub fn undercut_by(&self, configure: &Configure, cluster: &Cluster) -> Option<(&'static str, i32)> {
        self.first(values_after(configure, cluster)?, |value, least| value < least)
    }

    /// Returns a parameter that a step would leave higher than this.
    #[must_use]
    pub fn exceeded_by(&self, configure: &Configure, cluster: &Cluster) -> Option<(&'static str, i32)> {
        self.first(values_after(configure, cluster)?, |value, least| value > least)
    }
}

/// What a server has of each parameter once it has started with the files that a step leaves: a restart also puts in
/// force what somebody else has written there. Absent where the files can't be read.
fn values_after<'a>(configure: &'a Configure, cluster: &'a Cluster) -> Option<impl Fn(&str) -> Option<i32> + 'a> {
    let elsewhere = cluster.conf.read().ok()?.elsewhere;
    let in_block = configure.block.as_ref().map(conf::set_by).unwrap_or_default();
    Some(move |name: &str| {
        let is_reset = configure.reset.as_ref().is_some_and(|reset| reset.names.contains(name));
        let placed = elsewhere.get(name);
        let auto = placed.filter(|placed| placed.origin == Origin::Auto && !is_reset);
        let value = auto.map(|placed| &placed.value).or(in_block.get(name)).or(placed.map(|placed| &placed.value));
        guc::integer(cluster.major, name, value.map(String::as_str).or(guc::boot(cluster.major, name))?)
    })
}

/// Returns a parameter that the files of a standby give less of than its primary last ran with: it would not come up.
#[must_use]
pub fn below_floor(cluster: &Cluster) -> Option<(&'static str, i32)> {
    let values = cluster.conf.read().ok()?.values;
    let value_of = |name: &str| guc::integer(cluster.major, name, &values.get(name)?.value);
    Floors::replayed(cluster).first(value_of, |value, least| value < least)
}
