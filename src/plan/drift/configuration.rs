//! postgresql.conf and postgresql.auto.conf against the topology: the block as it must be, what must not win over
//! it, and what that changes.
//!
//! Where some of it takes a restart and some does not, there are two changes: first the block with all that a reload
//! puts in force, then the whole. Whoever allows no restart gets the first, and no value waits in a file for the
//! next accident.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use indexmap::IndexMap;

use crate::observed::Cluster;
use crate::observed::Setting;
use crate::observed::Sql;
use crate::pg::block;
use crate::pg::block::Block;
use crate::pg::block::Found;
use crate::pg::conf;
use crate::pg::conf::ConfValues;
use crate::pg::conf::Origin;
use crate::pg::conf::Placed;
use crate::pg::guc;
use crate::pg::guc::Context;
use crate::plan::Cause;
use crate::plan::Difference;
use crate::plan::Effect;
use crate::plan::Refusal;
use crate::plan::SetBy;
use crate::plan::desired;
use crate::plan::drift::floors::Floors;
use crate::plan::drift::force;
use crate::plan::hook::comment_in;
use crate::plan::synchronous;
use crate::topology::Node;
use crate::topology::Role;
use crate::topology::Topology;

/// One change of a node's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfDrift {
    /// The block as it must be; absent where none is needed.
    pub block: Option<Block>,
    /// Entries of postgresql.auto.conf that would win over it.
    pub reset: BTreeSet<String>,
    /// Every value that is in force afterwards.
    pub settings: BTreeMap<String, String>,
    /// What leaves the block.
    pub restored: BTreeSet<String>,
    pub effect: Effect,
    /// What is different now. Empty: the file is right, and not in force.
    pub differences: Vec<Difference>,
}

/// Settings of a standby that may stay in the block of a primary, where they have no effect.
const RECOVERY_SETTINGS: [&str; 2] = ["primary_conninfo", "primary_slot_name"];

/// Compares the configuration files, and the running server where there is one, with the topology; returns the
/// changes to make, in order. What would go below `least` stays as it is.
///
/// `at_this_point`: values that hold for now, over those of the topology.
///
/// # Errors
///
/// A refusal where the files can't be read, or a value is set where the block can't win over it.
pub fn configuration(
    topology: &Topology,
    node: &Node,
    cluster: &Cluster,
    sql: Option<&Sql>,
    least: &Floors,
    at_this_point: Vec<(&'static str, String)>,
) -> Result<Vec<ConfDrift>, Refusal> {
    let read = read(node, cluster)?;
    let comparison = Comparison::new(topology, node, cluster, sql, &read);
    let mut wanted = comparison.wanted();
    wanted.extend(at_this_point.into_iter().map(|(name, value)| (name.to_owned(), value)));
    wanted.extend(comparison.missed(least));
    comparison.refuse_shadowed(&wanted)?;

    let all = comparison.change(wanted.clone(), &BTreeSet::new());
    let mut held = comparison.lowered(&all, least);
    let whole = if held.is_empty() { all } else { comparison.change(wanted.clone(), &held) };
    if comparison.is_done(&whole) {
        return Ok(Vec::new());
    }
    if sql.is_none() {
        return Ok(vec![ConfDrift { effect: Effect::AtStart, ..whole }]);
    }
    let (late, soon): (Vec<_>, Vec<_>) =
        whole.differences.iter().cloned().partition(|difference| comparison.needs_restart(difference));
    if late.is_empty() {
        return Ok(vec![ConfDrift { effect: Effect::Reload, ..whole }]);
    }
    let mut changes = Vec::new();
    let (mut differences, mut reset) = (whole.differences.clone(), whole.reset.clone());
    // A copied block is replaced whole: nothing in it is known to be what this server runs with.
    let is_own = read.block.as_ref().is_none_or(|found| found.block.node == node.name.as_str());
    if !soon.is_empty() && is_own {
        held.extend(late.iter().map(|difference| difference.name.clone()));
        let first = comparison.change(wanted, &held);
        reset.retain(|name| !first.reset.contains(name));
        changes.push(ConfDrift { effect: Effect::Reload, ..first });
        differences = late;
    }
    differences.extend(comparison.waiting(&whole));
    changes.push(ConfDrift { effect: Effect::Restart, differences, reset, ..whole });
    Ok(changes)
}

/// Whether the topology wants a node to have less of a parameter than `least`. Unreadable files want nothing.
#[must_use]
pub fn lowers(topology: &Topology, node: &Node, cluster: &Cluster, sql: Option<&Sql>, least: &Floors) -> bool {
    read(node, cluster).is_ok_and(|read| {
        let comparison = Comparison::new(topology, node, cluster, sql, &read);
        let all = comparison.change(comparison.wanted(), &BTreeSet::new());
        !comparison.lowered(&all, least).is_empty() || !comparison.missed(least).is_empty()
    })
}

fn read(node: &Node, cluster: &Cluster) -> Result<ConfValues, Refusal> {
    let bad = |problem: String| Refusal::BadConf { node: node.name.clone(), problem };
    cluster.conf.read().map_err(bad)
}

struct Comparison<'a> {
    topology: &'a Topology,
    node: &'a Node,
    cluster: &'a Cluster,
    sql: Option<&'a Sql>,
    read: &'a ConfValues,
    /// What the block sets that is there.
    set: BTreeMap<String, String>,
}

impl<'a> Comparison<'a> {
    fn new(
        topology: &'a Topology,
        node: &'a Node,
        cluster: &'a Cluster,
        sql: Option<&'a Sql>,
        read: &'a ConfValues,
    ) -> Self {
        let set = read.block.as_ref().map(|found| conf::set_by(&found.block)).unwrap_or_default();
        Self { topology, node, cluster, sql, read, set }
    }

    /// What the topology asks for, and what must stand against what is there.
    fn wanted(&self) -> IndexMap<String, String> {
        let mut wanted = desired::settings(self.topology, self.node);
        if self.node.role == Role::Standby {
            wanted.extend(desired::endless_recovery(self.topology, |name| {
                let running = self.running(name).map(|setting| setting.value.clone());
                let in_files = self.read.elsewhere.get(name).map(|placed| placed.value.clone());
                running.into_iter().chain(in_files).collect()
            }));
        }
        // A node that came without these defaults needs only what holds.
        let socket_dir = self.set.get("unix_socket_directories").map(String::as_str);
        let derived = desired::defaults_of_created(self.topology, self.node, socket_dir);
        wanted.extend(derived.into_iter().filter(|(name, _)| self.set.contains_key(name)));
        wanted
    }

    fn holds(&self, name: &str, wanted: &str, found: &str) -> bool {
        desired::value_holds(self.topology, self.node, name, wanted, found)
    }

    fn found(&self) -> Option<&Found> {
        self.read.block.as_ref()
    }

    /// What the block set that was there before, where the server has not let go of it: pgpair was killed.
    fn set_by_replaced_block(&self) -> Vec<String> {
        let (Some(sql), Some(replaced)) = (self.sql, &self.cluster.conf.replaced) else { return Vec::new() };
        let before = block::find(replaced).ok().flatten().map(|found| conf::set_by(&found.block)).unwrap_or_default();
        let (topology, node, values) = (self.topology, self.node, &self.read.values);
        before
            .into_keys()
            .filter(|name| !force::is_restored(topology, node, &BTreeSet::from([name.clone()]), values, sql))
            .collect()
    }

    fn running(&self, name: &str) -> Option<&Setting> {
        self.sql?.settings.get(name)
    }

    fn setting_holds(&self, name: &str, wanted: &str, now: &Setting) -> bool {
        force::setting_holds(self.topology, self.node, name, wanted, now)
    }

    /// The entry of postgresql.auto.conf that wins over whatever the block says.
    fn shadow(&self, name: &str, wanted: &str) -> Option<&Placed> {
        let entry = self.read.elsewhere.get(name).filter(|placed| placed.origin == Origin::Auto);
        entry.filter(|placed| !self.holds(name, wanted, &placed.value))
    }

    /// The command line wins over every file, and what postgresql.auto.conf includes can't be reset.
    fn refuse_shadowed(&self, wanted: &IndexMap<String, String>) -> Result<(), Refusal> {
        let auto = self.cluster.conf.auto.as_ref().map(|auto| &auto.path);
        for (name, value) in wanted {
            let shadowed = |by: String, remedy: String| Refusal::Shadowed {
                node: self.node.name.clone(),
                name: name.clone(),
                by,
                remedy,
            };
            if let Some(placed) = self.shadow(name, value).filter(|placed| Some(&placed.file) != auto) {
                let remedy =
                    format!("take the line out, or the include of {} out of postgresql.auto.conf", placed.file);
                return Err(shadowed(SetBy::from(placed).to_string(), remedy));
            }
            let setting = self.running(name).filter(|setting| setting.source == "command line");
            if let Some(setting) = setting.filter(|setting| !self.setting_holds(name, value, setting)) {
                let option = format!("-c {name}={}", setting.value);
                let remedy = format!(
                    "take `{option}`, or the option that stands for it, out of what the server is started with (the \
                     start command of its service, `pg_ctl -o`), restart it, and plan again"
                );
                return Err(shadowed(format!("the command line (`{option}`)"), remedy));
            }
        }
        Ok(())
    }

    /// Whether a value is what it should be without any help from the block.
    fn holds_without_block(&self, name: &str, wanted: &str) -> bool {
        match (self.read.elsewhere.get(name), self.running(name)) {
            (Some(placed), _) => self.holds(name, wanted, &placed.value),
            (None, Some(now)) => now.source != "configuration file" && self.setting_holds(name, wanted, now),
            // Stopped; or our role overrides it, and the files' view may not be seen: no file sets it.
            (None, None) => {
                let default = guc::boot(self.topology.postgresql.version, name);
                default.is_some_and(|default| self.holds(name, wanted, default))
            }
        }
    }

    /// What brings the files to what is wanted. What is `held` stays as it is.
    fn change(&self, mut wanted: IndexMap<String, String>, held: &BTreeSet<String>) -> ConfDrift {
        let block = self.block(&wanted, held);
        wanted.retain(|name, _| !held.contains(name));
        let kept = block.as_ref().map(conf::set_by).unwrap_or_default();
        let stays = |name: &String| wanted.contains_key(name) || kept.contains_key(name) || held.contains(name);
        let gone = self.set_by_replaced_block();
        let leaving = self.set.keys().cloned().chain(gone);
        let restored: BTreeSet<String> = leaving.filter(|name| !stays(name)).collect();
        let reset: BTreeSet<String> = wanted
            .iter()
            .filter(|(name, value)| self.shadow(name, value).is_some())
            .map(|(name, _)| name.clone())
            .collect();
        let differences = self.differences(&wanted, &restored);
        let settings = wanted.into_iter().collect();
        ConfDrift { block, reset, settings, restored, effect: Effect::AtStart, differences }
    }

    /// Returns the block as it must be. Equal in effect to the one that is there: that one.
    fn block(&self, wanted: &IndexMap<String, String>, held: &BTreeSet<String>) -> Option<Block> {
        let found = &self.set;
        let is_own = self.found().is_some_and(|found| found.block.node == self.node.name.as_str());
        let mut lines = IndexMap::new();
        for (name, value) in wanted {
            let set = found.get(name).filter(|_| is_own);
            if held.contains(name) {
                lines.extend(set.map(|now| (name.clone(), now.clone())));
            } else if set.is_some() || !self.holds_without_block(name, value) {
                lines.insert(name.clone(), value.clone());
            }
        }
        let is_synchronous = |name: &str| name == synchronous::NAMES && self.topology.replication.synchronous.is_some();
        let stays_on_primary =
            |name: &str| !wanted.contains_key(name) && (RECOVERY_SETTINGS.contains(&name) || is_synchronous(name));
        let stays = |name: &str| held.contains(name) || (self.node.role == Role::Primary && stays_on_primary(name));
        for (name, now) in found.iter().filter(|(name, _)| is_own && stays(name)) {
            lines.entry(name.clone()).or_insert_with(|| now.clone());
        }
        let is_there =
            |(name, value): (&String, &String)| found.get(name).is_some_and(|now| self.holds(name, value, now));
        if self.inherits_synchronous() && (found.contains_key(synchronous::NAMES) || !lines.iter().all(is_there)) {
            lines.insert(synchronous::NAMES.to_owned(), String::new());
        }
        let same = lines.len() == found.len() && lines.iter().all(is_there);
        // What a role change still owes is no setting, and stays until it is paid.
        let owed = self.found().filter(|_| is_own).and_then(|found| comment_in(&found.block, &self.node.name));
        match self.found() {
            Some(found) if same && is_own && found.intact => Some(found.block.clone()),
            Some(_) | None if lines.is_empty() && owed.is_none() => None,
            Some(_) | None => {
                let mut block = desired::conf_block(self.topology, self.node, &lines);
                block.lines.extend(owed);
                Some(block)
            }
        }
    }

    /// A standby waits for nobody, and would as soon as it is promoted. By itself that is no difference; where the block
    /// is written anyway, it is put right (protocol, section 3).
    fn inherits_synchronous(&self) -> bool {
        let elsewhere = self.read.elsewhere.get(synchronous::NAMES);
        self.node.role == Role::Standby && elsewhere.is_some_and(|placed| !placed.value.is_empty())
    }

    /// Whether the files say all of it, and a running server goes by it.
    fn is_done(&self, change: &ConfDrift) -> bool {
        let in_file = match (&change.block, self.found()) {
            (Some(block), Some(found)) => found.intact && found.block == *block,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let (topology, node, settings) = (self.topology, self.node, &change.settings);
        let in_force = self.sql.is_none_or(|sql| {
            let is_read = sql.conf_loaded || (change.block.is_none() && self.found().is_none());
            is_read && force::is_in_force(topology, node, settings, sql)
        });
        let holds = force::file_holds(topology, node, settings, &self.read.values);
        in_file && holds && in_force && change.restored.is_empty()
    }

    /// Lists what changes: wanted values that are not there, and lines of the block that go.
    fn differences(&self, wanted: &IndexMap<String, String>, restored: &BTreeSet<String>) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (name, value) in wanted {
            let in_file = self.read.values.get(name);
            let file_holds = in_file.is_none_or(|placed| self.holds(name, value, &placed.value));
            let running = self.running(name);
            let server_holds = match running {
                Some(now) => self.setting_holds(name, value, now),
                // A running server lists whatever is set, but for an extension's that is not loaded.
                None => in_file.is_some() || self.holds_without_block(name, value),
            };
            if server_holds && file_holds {
                continue;
            }
            let (now, set_by) = match (running, in_file) {
                // In force is what is wanted, and the files say something else since.
                (Some(_), Some(placed)) if server_holds => (Some(placed.value.clone()), Some(SetBy::from(placed))),
                (_, _) => self.present(name),
            };
            let (name, then) = (name.clone(), Some(value.clone()));
            differences.push(Difference { name, now, set_by, then, cause: Cause::Wanted });
        }
        differences.extend(restored.iter().map(|name| {
            let (now, set_by) = self.present(name);
            let left = self.read.elsewhere.get(name);
            let then = left.map(|placed| placed.value.clone());
            Difference { name: name.clone(), now, set_by, then, cause: Cause::Restored(self.line_or_default(left)) }
        }));
        differences
    }

    fn line_or_default(&self, placed: Option<&Placed>) -> SetBy {
        placed.map_or(SetBy::Default, SetBy::from)
    }

    /// The value that counts now, and where it stands.
    fn present(&self, name: &str) -> (Option<String>, Option<SetBy>) {
        let in_file = self.read.values.get(name);
        let Some(now) = self.running(name) else {
            let default = guc::boot(self.topology.postgresql.version, name).map(str::to_owned);
            let value = in_file.map(|placed| placed.value.clone()).or(default);
            return (value, Some(self.line_or_default(in_file)));
        };
        let set_by = match now.source.as_str() {
            "configuration file" => match in_file {
                Some(placed) if self.setting_holds(name, &placed.value, now) => SetBy::from(placed),
                Some(_) | None => SetBy::FilesBefore,
            },
            "command line" => SetBy::CommandLine,
            "default" => SetBy::Default,
            source => SetBy::Other(source.to_owned()),
        };
        (Some(now.value.clone()), Some(set_by))
    }

    /// The parameters that a change would bring below `least`.
    fn lowered(&self, change: &ConfDrift, least: &Floors) -> BTreeSet<String> {
        let major = self.topology.postgresql.version;
        let lowered = change.differences.iter().filter(|one| least.is_above(major, &one.name, one.then.as_deref()));
        lowered.map(|one| one.name.clone()).collect()
    }

    /// What the files of a stopped server give less of than `least`, with that: it would not come up.
    fn missed(&self, least: &Floors) -> Vec<(String, String)> {
        if self.sql.is_some() {
            return Vec::new();
        }
        let in_file = |name: &str| self.read.values.get(name).map(|placed| placed.value.clone());
        let missed = least.missed(self.topology.postgresql.version, in_file).into_iter();
        missed.map(|(name, least)| (name.to_owned(), least.to_string())).collect()
    }

    /// What somebody else has left waiting for a restart; it comes in force with ours.
    fn waiting(&self, change: &ConfDrift) -> Vec<Difference> {
        let settings = self.sql.iter().flat_map(|sql| &sql.settings);
        let waiting = settings.filter(|(name, now)| {
            now.pending_restart && !change.settings.contains_key(*name) && !change.restored.contains(*name)
        });
        waiting
            .map(|(name, _)| {
                let (now, set_by) = self.present(name);
                let placed = self.read.values.get(name);
                let then = placed.map(|placed| placed.value.clone());
                let cause = Cause::Waiting(self.line_or_default(placed));
                Difference { name: name.clone(), now, set_by, then, cause }
            })
            .collect()
    }

    fn needs_restart(&self, difference: &Difference) -> bool {
        let Difference { name, then, .. } = difference;
        let running = self.running(name);
        let is_unchanged = running.is_some_and(|now| match then {
            Some(then) => self.setting_holds(name, then, now),
            None => force::default_holds(self.topology, self.node, name, now),
        });
        let context =
            running.map(|setting| setting.context).or_else(|| guc::context(self.topology.postgresql.version, name));
        !is_unchanged && context.is_some_and(Context::needs_restart)
    }
}
