//! Which parameters are written: what a configuration file or the command line sets to something else than what
//! PostgreSQL or initdb has by itself. What all nodes have alike is written once.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::observed::Cluster;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::observed::Setting;
use crate::pg::conf;
use crate::pg::conf::ConfValues;
use crate::pg::conf::Placed;
use crate::pg::conninfo::may_hold_secret;
use crate::pg::guc;
use crate::pg::guc::Known;
use crate::plan::desired;
use crate::plan::drift;
use crate::plan::import::Import;
use crate::plan::import::groups::group;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Topology;
use crate::topology::validate::is_derived;
use crate::topology::validate::listens_at;

/// What initdb writes whatever the machine is. On a machine with little memory it writes less, which is then told.
const OF_INITDB: [(&str, &str); 6] = [
    ("autovacuum_worker_slots", "16"),
    ("dynamic_shared_memory_type", "posix"),
    ("max_connections", "100"),
    ("max_wal_size", "1GB"),
    ("min_wal_size", "80MB"),
    ("shared_buffers", "128MB"),
];

/// What initdb writes by the locale and the time zone that it finds.
const OF_THE_MACHINE: [&str; 8] = [
    "datestyle",
    "default_text_search_config",
    "lc_messages",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "log_timezone",
    "timezone",
];

impl Import {
    pub(super) fn parameters(&mut self, observed: &Observed) {
        let mut of_nodes: BTreeMap<NodeName, BTreeMap<String, String>> = BTreeMap::new();
        let mut left_out = Vec::new();
        for node in self.topology.nodes.values() {
            let look = Look::new(&self.topology, node, observed.node(&node.name));
            of_nodes.insert(node.name.clone(), look.parameters(&mut left_out));
        }
        left_out.into_iter().for_each(|what| self.leave_out(what));
        let names: BTreeSet<(usize, &String)> =
            of_nodes.values().flat_map(BTreeMap::keys).map(|name| (group(name), name)).collect();
        let major = self.topology.postgresql.version;
        for (_, name) in names {
            let values: Vec<&String> = of_nodes.values().filter_map(|own| own.get(name)).collect();
            let is_common =
                values.len() == of_nodes.len() && values.iter().all(|value| guc::same(major, name, values[0], value));
            if is_common {
                self.topology.parameters.insert(name.clone(), values[0].clone());
                continue;
            }
            for node in self.topology.nodes.values_mut() {
                if let Some(value) = of_nodes.get(&node.name).and_then(|own| own.get(name)) {
                    node.parameters.insert(name.clone(), value.clone());
                }
            }
        }
    }
}

/// What is known of one node.
struct Look<'a> {
    topology: &'a Topology,
    node: &'a Node,
    seen: &'a NodeObserved,
    /// Empty where the files can't be read.
    files: ConfValues,
    /// What pgpair's own block sets.
    block: BTreeMap<String, String>,
}

impl<'a> Look<'a> {
    fn new(topology: &'a Topology, node: &'a Node, seen: &'a NodeObserved) -> Self {
        let files = seen.cluster().and_then(|cluster| cluster.conf.read().ok()).unwrap_or_default();
        let own = files.block.as_ref().filter(|found| found.block.node == node.name.as_str());
        let block = own.map(|found| conf::set_by(&found.block)).unwrap_or_default();
        Self { topology, node, seen, files, block }
    }

    /// Returns what is to be written of the node, and adds what can't be.
    fn parameters(&self, left_out: &mut Vec<String>) -> BTreeMap<String, String> {
        let settings = self.seen.sql().map(|sql| &sql.settings).into_iter().flatten();
        let set = settings.filter(|(name, now)| {
            let is_set = ["configuration file", "command line"].contains(&now.source.as_str());
            (is_set || self.block.contains_key(*name)) && !is_derived(name)
        });
        let found: Vec<(String, String)> =
            set.filter_map(|(name, now)| Some((name.clone(), self.value(name, now, left_out)?))).collect();
        let written = found.into_iter().chain(self.of_recovery_conf());
        written.filter(|(name, value)| self.is_writable(name, value, left_out)).collect()
    }

    /// The value as people wrote it, or as the server has it where no file is seen to set it.
    fn value(&self, name: &str, now: &Setting, left_out: &mut Vec<String>) -> Option<String> {
        let holds = |value: &str| drift::setting_holds(self.topology, self.node, name, value, now);
        let placed = self.files.values.get(name);
        let value = match placed {
            Some(placed) if holds(&placed.value) => placed.value.clone(),
            Some(Placed { file, line, .. }) => {
                let node = &self.node.name;
                left_out
                    .push(format!("`{name}` of {node}: {file}:{line} says another value than the server runs with"));
                return None;
            }
            None => now.value.clone(),
        };
        if self.block.contains_key(name) {
            return (!self.is_pgpairs_default(name, &value)).then_some(value);
        }
        let major = self.topology.postgresql.version;
        let is_default = guc::boot(major, name).is_some_and(holds);
        let is_initdbs = OF_INITDB.iter().any(|(theirs, value)| *theirs == name && holds(value));
        let main = self.seen.cluster().map(|cluster| cluster.conf.main.path.as_str());
        let is_the_machines =
            OF_THE_MACHINE.contains(&name) && placed.is_none_or(|placed| Some(placed.file.as_str()) == main);
        (!is_default && !is_initdbs && !is_the_machines).then_some(value)
    }

    /// What pgpair gives to the nodes that it makes, unasked.
    fn is_pgpairs_default(&self, name: &str, value: &str) -> bool {
        let socket_dir = self.block.get("unix_socket_directories").map(String::as_str);
        let defaults = desired::defaults_of_created(self.topology, self.node, socket_dir);
        let major = self.topology.postgresql.version;
        defaults.get(name).is_some_and(|default| guc::same(major, name, default, value))
    }

    /// Parameters that a standby of 10 or 11 has in recovery.conf.
    fn of_recovery_conf(&self) -> Vec<(String, String)> {
        let text = self.seen.cluster().and_then(|cluster: &Cluster| cluster.markers.recovery_conf.as_deref());
        let major = self.topology.postgresql.version;
        let entries = conf::parse(text.unwrap_or_default()).entries.into_iter();
        let own = entries.filter(|entry| matches!(guc::known(major, &entry.name), Ok(Known::RecoveryConf)));
        own.filter(|entry| !is_derived(&entry.name)).map(|entry| (entry.name, entry.value)).collect()
    }

    /// Whether a topology can have the value; adds why not.
    fn is_writable(&self, name: &str, value: &str, left_out: &mut Vec<String>) -> bool {
        let major = self.topology.postgresql.version;
        let why = if name == "ssl_passphrase_command" || gives_secret(value) {
            "it may hold a secret, and a topology is no place for one".to_owned()
        } else if value.chars().any(|c| c.is_control() && c != '\t') {
            "it has a line break or another control character in it".to_owned()
        } else if let Err(unknown) = guc::known(major, name) {
            unknown.to_string()
        } else if let Err(bad) = guc::check(major, name, value) {
            bad.to_string()
        } else if name == "listen_addresses" && !listens_at(value, &self.node.host) {
            format!("it does not cover {}, the host of the node", self.node.host)
        } else {
            return true;
        };
        left_out.push(format!("`{name}` of {}: {why}", self.node.name));
        false
    }
}

/// Whether a value gives a secret away, as far as one can tell: it is left out rather than written down.
fn gives_secret(value: &str) -> bool {
    let text = value.to_ascii_lowercase();
    may_hold_secret(value)
        || ["passw", "secret", "token", "_key=", "://"].iter().any(|word| {
            // A URL is harmless but for what may stand before its host.
            text.match_indices(word).any(|(at, word)| word != "://" || text[at..].contains('@'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_not_written() {
        for value in [
            "PGPASSWORD=x cp %p /a",
            "curl -u me --passwd-file f",
            "AWS_SECRET_ACCESS_KEY=x push %p",
            "push --token x %p",
            "scp %p sftp://me:x@host/",
            "postgresql://u:p@h/",
        ] {
            assert!(gives_secret(value), "{value}");
        }
        for value in
            ["cp %p /archive/%f", "rsync %p host:/archive/%f", "curl -T %p http://store/%f", "%t [%p]: <%u@%d>"]
        {
            assert!(!gives_secret(value), "{value}");
        }
    }
}
