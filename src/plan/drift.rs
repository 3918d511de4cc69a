//! What of a node's configuration differs from the topology, and what the files must say instead.
//!
//! A value that already holds, wherever it is set, needs no change. What does not hold goes into pgpair's block,
//! and a line that the topology no longer asks for leaves it.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use crate::observed::Cluster;
use crate::observed::NodeObserved;
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
use crate::pg::hba;
use crate::plan::Difference;
use crate::plan::Effect;
use crate::plan::Refusal;
use crate::plan::desired;
use crate::topology::Node;
use crate::topology::Role;
use crate::topology::Topology;

/// What is to be done to postgresql.conf of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfDrift {
    /// The block as it must be; absent where none is needed.
    pub block: Option<Block>,
    /// Every value that the topology asks for.
    pub settings: BTreeMap<String, String>,
    pub effect: Effect,
    /// What is different now. Empty: the file is right, and not in force.
    pub differences: Vec<Difference>,
}

/// Settings of a standby that may stay in the block of a primary, where they have no effect.
const RECOVERY_SETTINGS: [&str; 2] = ["primary_conninfo", "primary_slot_name"];

/// Compares postgresql.conf, and the running server where there is one, with the topology.
///
/// # Errors
///
/// A refusal where the files can't be read, or a value is set where the block can't win over it.
pub fn configuration(
    topology: &Topology,
    node: &Node,
    cluster: &Cluster,
    sql: Option<&Sql>,
) -> Result<Option<ConfDrift>, Refusal> {
    let bad = |problem: String| Refusal::BadConf { node: node.name.clone(), problem };
    let ConfValues { block: found, values, elsewhere } = cluster.conf.read().map_err(bad)?;
    let mut wanted = desired::settings(topology, node);
    if node.role == Role::Standby {
        wanted.extend(desired::endless_recovery(topology, |name| {
            let running = sql.and_then(|sql| sql.settings.get(name)).map(|setting| setting.value.clone());
            let in_files = elsewhere.get(name).map(|placed| placed.value.clone());
            running.into_iter().chain(in_files).collect()
        }));
    }
    let comparison = Comparison { topology, node, sql, found: found.as_ref(), elsewhere: &elsewhere };
    comparison.refuse_shadowed(&wanted)?;

    let block = comparison.block(&wanted);
    let settings: BTreeMap<String, String> = wanted.into_iter().collect();
    let in_file = match (&block, &found) {
        (Some(block), Some(found)) => found.intact && found.block == *block,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    let effective = file_holds(topology, node, &settings, &values);
    let in_force = sql.is_none_or(|sql| {
        let is_read = sql.conf_loaded || (block.is_none() && found.is_none());
        is_read && is_in_force(topology, node, &settings, sql)
    });
    if in_file && effective && in_force {
        return Ok(None);
    }
    let differences = comparison.differences(&settings, &values, block.as_ref());
    let effect = comparison.effect(&differences);
    Ok(Some(ConfDrift { block, settings, effect, differences }))
}

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
    settings.iter().all(|(name, wanted)| {
        sql.settings.get(name).is_none_or(|now| {
            let holds =
                shows_otherwise(name, wanted, now) || desired::value_holds(topology, node, name, wanted, &now.value);
            !now.pending_restart && holds
        })
    })
}

/// Whether a server shows a value in another form than it was given, so that only the files tell.
fn shows_otherwise(name: &str, wanted: &str, now: &Setting) -> bool {
    // Worked out at the start (wal_buffers -1), or not in use (archive_command without archive_mode).
    let is_computed = now.source == "override" || now.value == "(disabled)";
    let is_time_zone = ["timezone", "log_timezone"].contains(&name);
    is_computed || (is_time_zone && wanted.eq_ignore_ascii_case(&now.value))
}

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

struct Comparison<'a> {
    topology: &'a Topology,
    node: &'a Node,
    sql: Option<&'a Sql>,
    found: Option<&'a Found>,
    /// What the files say without the block.
    elsewhere: &'a BTreeMap<String, Placed>,
}

impl Comparison<'_> {
    fn holds(&self, name: &str, wanted: &str, found: &str) -> bool {
        desired::value_holds(self.topology, self.node, name, wanted, found)
    }

    /// What the block sets that is there.
    fn set_by_block(&self) -> BTreeMap<String, String> {
        self.found.map(|found| conf::set_by(&found.block)).unwrap_or_default()
    }

    fn running(&self, name: &str) -> Option<&Setting> {
        self.sql?.settings.get(name)
    }

    /// The value of a parameter that no file sets, while the server is stopped.
    fn default_of(&self, name: &str) -> Option<&'static str> {
        guc::boot(self.topology.postgresql.version, name).filter(|_| self.sql.is_none())
    }

    /// A value in postgresql.auto.conf or on the command line wins over every block.
    fn refuse_shadowed(&self, wanted: &IndexMap<String, String>) -> Result<(), Refusal> {
        for (name, value) in wanted {
            let shadowed = |by: String, remedy: String| Refusal::Shadowed {
                node: self.node.name.clone(),
                name: name.clone(),
                by,
                remedy,
            };
            let auto = self.elsewhere.get(name).filter(|placed| placed.origin == Origin::Auto);
            if let Some(placed) = auto.filter(|placed| !self.holds(name, value, &placed.value)) {
                let by = format!("{}:{}", placed.file, placed.line);
                return Err(shadowed(by, format!("run `ALTER SYSTEM RESET {name}` there and plan again")));
            }
            let setting = self.running(name).filter(|setting| setting.source == "command line");
            if setting.is_some_and(|setting| !self.holds(name, value, &setting.value)) {
                let remedy = format!("take {name} out of the options that the server is started with");
                return Err(shadowed("the command line".into(), remedy));
            }
        }
        Ok(())
    }

    /// Whether a value is what it should be without any help from the block.
    fn holds_without_block(&self, name: &str, wanted: &str) -> bool {
        match self.elsewhere.get(name) {
            Some(placed) => self.holds(name, wanted, &placed.value),
            None => match self.running(name) {
                Some(setting) => setting.source != "configuration file" && self.holds(name, wanted, &setting.value),
                None => self.default_of(name).is_some_and(|value| self.holds(name, wanted, value)),
            },
        }
    }

    /// Returns the block as it must be. Equal in effect to the one that is there: that one.
    fn block(&self, wanted: &IndexMap<String, String>) -> Option<Block> {
        let found = self.set_by_block();
        let is_own = self.found.is_some_and(|found| found.block.node == self.node.name.as_str());
        let socket_dir = found.get("unix_socket_directories").map(String::as_str);
        let mut lines = IndexMap::new();
        for (name, value) in wanted {
            if (is_own && found.contains_key(name)) || !self.holds_without_block(name, value) {
                lines.insert(name.clone(), value.clone());
            }
        }
        for (name, value) in desired::defaults_of_created(self.topology, self.node, socket_dir) {
            // A node that came without these defaults needs only what holds.
            if found.contains_key(&name) {
                lines.insert(name, value);
            }
        }
        if self.node.role == Role::Primary && is_own {
            let kept =
                RECOVERY_SETTINGS.into_iter().filter_map(|name| Some((name.to_owned(), found.get(name)?.clone())));
            lines.extend(kept);
        }
        let same = lines.len() == found.len()
            && lines.iter().all(|(name, value)| found.get(name).is_some_and(|now| self.holds(name, value, now)));
        match self.found {
            Some(found) if same && is_own && found.intact => Some(found.block.clone()),
            Some(_) | None if lines.is_empty() => None,
            Some(_) | None => Some(desired::conf_block(self.topology, self.node, &lines)),
        }
    }

    /// Lists what changes: wanted values that are not there, and lines of the block that go.
    fn differences(
        &self,
        settings: &BTreeMap<String, String>,
        values: &BTreeMap<String, Placed>,
        block: Option<&Block>,
    ) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (name, wanted) in settings {
            let in_file = values.get(name).map(|placed| placed.value.clone());
            let running = self.running(name).map(|setting| setting.value.clone());
            let holds = |now: &Option<String>| now.as_ref().is_some_and(|now| self.holds(name, wanted, now));
            let shown = self.running(name).is_some_and(|now| shows_otherwise(name, wanted, now));
            let as_wanted = match self.sql {
                Some(_) => (running.is_none() || shown || holds(&running)) && (in_file.is_none() || holds(&in_file)),
                None => holds(&in_file) || (in_file.is_none() && self.holds_without_block(name, wanted)),
            };
            if !as_wanted {
                let now = running.or(in_file);
                differences.push(Difference { name: name.clone(), now, then: Some(wanted.clone()) });
            }
        }
        let kept = block.map(conf::set_by).unwrap_or_default();
        for (name, value) in self.set_by_block() {
            if !settings.contains_key(&name) && !kept.contains_key(&name) {
                let then = self.elsewhere.get(&name).map(|placed| placed.value.clone());
                differences.push(Difference { name, now: Some(value), then });
            }
        }
        differences
    }

    fn effect(&self, differences: &[Difference]) -> Effect {
        if self.sql.is_none() {
            return Effect::AtStart;
        }
        let needs_restart = differences.iter().any(|difference| {
            let running = self.running(&difference.name);
            let unchanged = running
                .zip(difference.then.as_ref())
                .is_some_and(|(now, then)| !now.pending_restart && self.holds(&difference.name, then, &now.value));
            let context = running
                .map(|setting| setting.context)
                .or_else(|| guc::context(self.topology.postgresql.version, &difference.name));
            !unchanged && context.is_some_and(Context::needs_restart)
        });
        if needs_restart { Effect::Restart } else { Effect::Reload }
    }
}

/// Compares pg_hba.conf with the topology; returns the block that it must have, where it differs.
///
/// # Errors
///
/// A refusal where the file can't be read.
pub fn rules(topology: &Topology, node: &Node, cluster: &Cluster) -> Result<Option<Block>, Refusal> {
    let bad =
        |problem: String| Refusal::BadConf { node: node.name.clone(), problem: format!("pg_hba.conf: {problem}") };
    let found = block::find(&cluster.hba).map_err(|malformed| bad(malformed.to_string()))?;
    let wanted = desired::hba_block(topology, node);
    if found.is_some_and(|found| found.block.node == node.name.as_str()) {
        return Ok((!has_rules(&cluster.hba, &wanted)).then_some(wanted));
    }
    let rules = hba::parse(&cluster.hba).map_err(|rule| bad(rule.to_string()))?;
    let needed = hba::parse(&desired::needed_rules(topology, node).join("\n")).map_err(|rule| bad(rule.to_string()))?;
    let all_hold = needed.iter().all(|rule| hba::holds(&rules, rule));
    Ok((!all_hold).then_some(wanted))
}

/// Whether pg_hba.conf has exactly this block, before any other rule.
#[must_use]
pub fn has_rules(text: &str, block: &Block) -> bool {
    block::put_before_rules(text, block).is_ok_and(|put| put == text)
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
    block::find(text).is_ok_and(|found| found.is_some_and(|found| found.block.node == node.name.as_str()))
}

/// Whether the node is to replay later than it receives.
#[must_use]
pub fn is_delayed(topology: &Topology, node: &Node) -> bool {
    let name = "recovery_min_apply_delay";
    let delay = topology.parameters_of(node).get(name).cloned();
    delay.is_some_and(|delay| !guc::same(topology.postgresql.version, name, &delay, "0"))
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
            receiver.host.as_ref() == Some(&upstream.host)
                && receiver.port == Some(upstream.port)
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
    let given = topology.parameters_of(standby).get(name).cloned();
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
