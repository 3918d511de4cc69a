//! What the topology asks of one node, in PostgreSQL's own terms: settings, rules, connection strings, options.
//!
//! Everything that pgpair derives from the topology is derived here, so that a plan, its check and the files on
//! disk can't disagree about it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

use indexmap::IndexMap;
use indexmap::IndexSet;

use crate::observed::Cluster;
use crate::observed::NodeObserved;
use crate::pg::block;
use crate::pg::block::Block;
use crate::pg::conf;
use crate::pg::conninfo::Conninfo;
use crate::pg::guc;
use crate::pg::guc::Known;
use crate::pg::hba;
use crate::pg::hba::NewRule;
use crate::pg::version::StandbyMode;
use crate::plan::Cause;
use crate::plan::Difference;
use crate::plan::PassfileEntry;
use crate::plan::Refusal;
use crate::plan::SetBy;
use crate::plan::WantedRole;
use crate::plan::synchronous;
use crate::topology::InitdbOption;
use crate::topology::Node;
use crate::topology::ReplicationAuth;
use crate::topology::Role;
use crate::topology::SslMode;
use crate::topology::Topology;

/// The name of pgpair's passfile, in the data directory.
pub const PASSFILE: &str = "pgpair.pass";

/// The database that pg_rewind connects to, and that its pg_hba.conf rule is for.
pub const REWIND_DATABASE: &str = "postgres";

/// Defaults that pgpair gives to the nodes it creates; in a block they stay derived.
pub const DERIVED_DEFAULTS: [&str; 3] = ["listen_addresses", "cluster_name", "unix_socket_directories"];

/// Returns the settings of postgresql.conf that the topology asks for on `node`, in the order of the block.
///
/// The recovery settings of a standby are among them from version 12 on.
#[must_use]
pub fn settings(topology: &Topology, node: &Node) -> IndexMap<String, String> {
    let mut settings = IndexMap::new();
    settings.insert("port".to_owned(), node.port.to_string());
    for (name, value) in topology.parameters_of(node) {
        if !belongs_in_recovery_conf(topology, &name) {
            settings.insert(name, value);
        }
    }
    if node.role == Role::Standby && standby_mode(topology) == StandbyMode::SignalFile {
        settings.insert("primary_conninfo".to_owned(), primary_conninfo(topology, node));
        if topology.replication.slots {
            settings.insert("primary_slot_name".to_owned(), node.slot_name());
        }
    }
    settings
}

/// Settings of 12 and later that make a standby stop, or promote itself, at some point of its recovery. They have no
/// effect on a primary, and a clone inherits them.
const RECOVERY_ENDS: [&str; 8] = [
    "recovery_target",
    "recovery_target_action",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_timeline",
    "recovery_target_xid",
    "promote_trigger_file",
];

/// Returns the settings of a standby of 12 and later that must stand against what `found` says of the end of recovery.
///
/// In 10 and 11 they are lines of recovery.conf, and see to by [`recovery_conf`].
#[must_use]
pub fn endless_recovery(topology: &Topology, found: impl Fn(&str) -> Vec<String>) -> IndexMap<String, String> {
    let major = topology.postgresql.version;
    let ends = RECOVERY_ENDS.into_iter().filter(|_| standby_mode(topology) == StandbyMode::SignalFile);
    ends.filter(|name| guc::known(major, name).is_ok())
        .filter_map(|name| {
            let default = guc::boot(major, name).unwrap_or_default();
            let differs = found(name).iter().any(|value| value != default);
            differs.then(|| (name.to_owned(), default.to_owned()))
        })
        .collect()
}

/// Returns the postgresql.auto.conf of a clone: that of its source without what the clone's own block says, over which
/// it would win, and without an end of recovery.
#[must_use]
pub fn auto_conf_of_clone(text: &str, block: &Block) -> String {
    let own = conf::set_by(block);
    conf::without(text, |name| own.contains_key(name) || RECOVERY_ENDS.contains(&name))
}

/// Returns the defaults that a node gets when pgpair creates it, where the topology does not say otherwise.
///
/// `socket_dir` is a folder for the Unix socket, given where the build's own can't be used.
#[must_use]
pub fn defaults_of_created(topology: &Topology, node: &Node, socket_dir: Option<&str>) -> IndexMap<String, String> {
    let given = topology.parameters_of(node);
    let mut defaults = IndexMap::new();
    defaults.insert("listen_addresses".to_owned(), listen_addresses(&node.host));
    defaults.insert("cluster_name".to_owned(), topology.cluster.clone());
    if let Some(dir) = socket_dir {
        defaults.insert("unix_socket_directories".to_owned(), dir.to_owned());
    }
    defaults.retain(|name, _| !given.contains_key(name));
    defaults
}

/// Returns `localhost`, and the node's host with it unless that is where localhost leads.
fn listen_addresses(host: &str) -> String {
    let is_localhost = ["localhost", "127.0.0.1", "::1"].contains(&host);
    if is_localhost { "localhost".to_owned() } else { format!("localhost,{host}") }
}

/// Returns the `primary_conninfo` of a standby: no password is ever in it, a passfile is named instead.
#[must_use]
pub fn primary_conninfo(topology: &Topology, standby: &Node) -> String {
    let mut conninfo = connection_to(topology, topology.upstream(standby));
    if topology.replication.password.is_some() {
        conninfo.set("passfile", &passfile_path(standby));
    }
    conninfo.set("application_name", standby.name.as_str());
    conninfo.text()
}

/// Returns how a replication connection reaches `upstream`.
#[must_use]
pub fn connection_to(topology: &Topology, upstream: &Node) -> Conninfo {
    let mut conninfo = Conninfo::new();
    conninfo.set("host", &upstream.host);
    conninfo.set("port", &upstream.port.to_string());
    conninfo.set("user", &topology.replication.user);
    if let Some(tls) = &topology.replication.tls {
        conninfo.set("sslmode", tls.sslmode.as_str());
        let files = [("sslrootcert", &tls.sslrootcert), ("sslcert", &tls.sslcert), ("sslkey", &tls.sslkey)];
        for (key, path) in files {
            if let Some(path) = path {
                conninfo.set(key, path);
            }
        }
    }
    conninfo
}

/// The path of pgpair's passfile on a node.
#[must_use]
pub fn passfile_path(node: &Node) -> String {
    format!("{}/{PASSFILE}", node.data_dir)
}

/// Whether a `primary_conninfo` reaches the right upstream as the right user, whatever else it says. One that pgpair
/// wrote must be what it would write now: how the standby proves itself is in it too.
#[must_use]
pub fn conninfo_holds(topology: &Topology, standby: &Node, text: &str) -> bool {
    let upstream = topology.upstream(standby);
    Conninfo::parse(text).is_ok_and(|conninfo| {
        // Of several servers any may be the one that it finds; which it is, its receiver tells.
        let leads_there = |(host, port): (&str, u16)| {
            upstream.is_at(host, port) && (!host.starts_with('/') || standby.is_beside(upstream))
        };
        conninfo.servers().any(leads_there)
            // Without a user it is who runs the server.
            && conninfo.get("user").or(topology.os_user(standby)) == Some(&topology.replication.user)
            && (!synchronous::is_candidate(topology, standby) || is_named(&conninfo, standby))
            && (!is_pgpairs(standby, &conninfo, text) || text == primary_conninfo(topology, standby))
    })
}

/// Whether the primary knows the standby by its node name, as commits that wait for it need.
fn is_named(conninfo: &Conninfo, standby: &Node) -> bool {
    conninfo.get("application_name").is_some_and(|name| name.eq_ignore_ascii_case(standby.name.as_str()))
}

/// Whether a connection string is one that pgpair wrote for this standby: its keys in its order, and nothing else.
fn is_pgpairs(standby: &Node, conninfo: &Conninfo, text: &str) -> bool {
    const KEYS: [&str; 9] =
        ["host", "port", "user", "sslmode", "sslrootcert", "sslcert", "sslkey", "passfile", "application_name"];
    let mut known = KEYS.into_iter();
    conninfo.keys().all(|key| known.any(|known| known == key))
        && conninfo.get("application_name") == Some(standby.name.as_str())
        && conninfo.text() == text
}

/// Returns the `primary_conninfo` that the files of a standby have now.
#[must_use]
pub fn present_conninfo(cluster: &Cluster) -> Option<String> {
    let name = "primary_conninfo";
    let in_recovery_conf = cluster
        .markers
        .recovery_conf
        .as_deref()
        .map(conf::parse)
        .and_then(|conf| conf.entries.into_iter().rev().find(|entry| entry.name == name).map(|entry| entry.value));
    let in_conf = || cluster.conf.read().ok()?.values.remove(name).map(|placed| placed.value);
    in_recovery_conf.or_else(in_conf).filter(|text| !text.is_empty())
}

/// Returns the address that a node's connections come from: all of this machine's loopback is 127.0.0.1 then.
#[must_use]
pub fn origin(host: &str) -> &str {
    let is_loopback = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4() && ip.is_loopback());
    if is_loopback { "127.0.0.1" } else { host }
}

/// Returns the `listen_addresses` that a node is to have, where the topology or pgpair's own default says.
#[must_use]
pub fn listens_on(topology: &Topology, node: &Node, seen: &NodeObserved) -> Option<String> {
    let name = "listen_addresses";
    let given = topology.parameter(node, name).map(str::to_owned);
    let block = seen.cluster().and_then(|cluster| block::find(&cluster.conf.main.text).ok().flatten());
    let derived = block.is_some_and(|found| conf::set_by(&found.block).contains_key(name));
    given.or_else(|| derived.then(|| listen_addresses(&node.host)))
}

/// Whether two values of a parameter are as good as each other on `node`.
#[must_use]
pub fn value_holds(topology: &Topology, node: &Node, name: &str, wanted: &str, found: &str) -> bool {
    if name == "primary_conninfo" {
        return found == wanted || conninfo_holds(topology, node, found);
    }
    guc::same(topology.postgresql.version, name, wanted, found)
}

/// Returns the whole recovery.conf of a standby of 10 or 11; later ones have none.
///
/// Settings that are not pgpair's are kept from `existing`.
#[must_use]
pub fn recovery_conf(topology: &Topology, standby: &Node, existing: Option<&str>) -> Option<String> {
    if standby_mode(topology) == StandbyMode::SignalFile {
        return None;
    }
    let mut settings = IndexMap::new();
    settings.insert("standby_mode".to_owned(), "on".to_owned());
    settings.insert("primary_conninfo".to_owned(), primary_conninfo(topology, standby));
    if topology.replication.slots {
        settings.insert("primary_slot_name".to_owned(), standby.slot_name());
    }
    // Without it, 10 and 11 stay on the timeline of the backup and loop for ever after a switchover.
    settings.insert("recovery_target_timeline".to_owned(), "latest".to_owned());
    for (name, value) in topology.parameters_of(standby) {
        if belongs_in_recovery_conf(topology, &name) {
            settings.insert(name, value);
        }
    }
    // With the setting itself, whatever would promote by itself or stop recovery goes.
    let ours =
        |name: &str| settings.contains_key(name) || name.starts_with("recovery_target") || name == "trigger_file";
    let mut text = conf::without(existing.unwrap_or_default(), ours);
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for (name, value) in &settings {
        text.push_str(&line(name, value));
        text.push('\n');
    }
    Some(text)
}

/// Whether a recovery.conf (10, 11) makes the node the standby that the topology asks for.
#[must_use]
pub fn recovery_conf_holds(topology: &Topology, standby: &Node, text: &str) -> bool {
    let parsed = |text: &str| -> BTreeMap<String, String> {
        conf::parse(text).entries.into_iter().map(|entry| (entry.name, entry.value)).collect()
    };
    let found = parsed(text);
    let wanted = recovery_conf(topology, standby, None).map(|text| parsed(&text)).unwrap_or_default();
    let stops_early = found.keys().any(|name| {
        (name.starts_with("recovery_target") && name != "recovery_target_timeline") || name == "trigger_file"
    });
    !stops_early
        && wanted.iter().all(|(name, value)| {
            found.get(name).is_some_and(|now| {
                now.eq_ignore_ascii_case(value)
                    || (name == "primary_conninfo" && conninfo_holds(topology, standby, now))
            })
        })
}

/// Returns what a recovery.conf (10, 11) says that the topology asks otherwise.
#[must_use]
pub fn recovery_conf_differences(topology: &Topology, standby: &Node, text: &str) -> Vec<Difference> {
    let values = |text: &str| -> BTreeMap<String, String> {
        conf::parse(text).entries.into_iter().map(|entry| (entry.name, entry.value)).collect()
    };
    let lines: BTreeMap<String, usize> =
        conf::parse(text).entries.into_iter().map(|entry| (entry.name, entry.line)).collect();
    let (now, then) = (values(text), recovery_conf(topology, standby, Some(text)).map(|text| values(&text)));
    let then = then.unwrap_or_default();
    let names: BTreeSet<&String> = now.keys().chain(then.keys()).collect();
    let differs = names.into_iter().filter_map(|name| {
        let (now, then) = (now.get(name).cloned(), then.get(name).cloned());
        let holds = match (&now, &then) {
            (Some(now), Some(then)) => {
                now.eq_ignore_ascii_case(then) || (name == "primary_conninfo" && conninfo_holds(topology, standby, now))
            }
            (Some(_) | None, _) => false,
        };
        let set_by = lines.get(name).map(|line| SetBy::Line { file: "recovery.conf".into(), line: *line });
        (!holds).then(|| Difference { name: name.clone(), now, set_by, then, cause: Cause::Wanted })
    });
    differs.collect()
}

fn standby_mode(topology: &Topology) -> StandbyMode {
    topology.postgresql.version.dialect().standby_mode
}

fn belongs_in_recovery_conf(topology: &Topology, name: &str) -> bool {
    matches!(guc::known(topology.postgresql.version, name), Ok(Known::RecoveryConf))
}

/// Returns the block of postgresql.conf with these settings.
#[must_use]
pub fn conf_block(topology: &Topology, node: &Node, settings: &IndexMap<String, String>) -> Block {
    let lines = settings.iter().map(|(name, value)| line(name, value)).collect();
    Block { cluster: topology.cluster.clone(), node: node.name.as_str().to_owned(), lines }
}

/// Validation has refused what can't stand in a configuration file.
fn line(name: &str, value: &str) -> String {
    conf::assignment(name, value).expect("a validated value has no line break and no NUL")
}

/// Returns the block of pg_hba.conf: pgpair's replication rules first, so that no rule of the user shuts the
/// standbys out, then the user's.
#[must_use]
pub fn hba_block(topology: &Topology, node: &Node) -> Block {
    let mut lines = replication_rules(topology, node);
    lines.extend(user_rules(topology));
    Block { cluster: topology.cluster.clone(), node: node.name.as_str().to_owned(), lines }
}

/// Returns the rules that `node` must have for the standbys that stream from it today, and the user's.
#[must_use]
pub fn needed_rules(topology: &Topology, node: &Node) -> Vec<String> {
    let mut lines: Vec<String> = addresses(topology, topology.followers(node))
        .iter()
        .map(|address| rule(topology, "replication", address))
        .collect();
    lines.extend(user_rules(topology));
    lines
}

/// Returns the rules that let `standby` replicate, wherever they stand.
#[must_use]
pub fn rules_for(topology: &Topology, standby: &Node) -> Vec<String> {
    rules_to(topology, standby, "replication")
}

/// The same for pg_rewind, which opens an ordinary session.
#[must_use]
pub fn rules_for_rewind(topology: &Topology, standby: &Node) -> Vec<String> {
    rules_to(topology, standby, REWIND_DATABASE)
}

fn rules_to(topology: &Topology, standby: &Node, database: &str) -> Vec<String> {
    let addresses = addresses(topology, std::iter::once(standby));
    addresses.iter().map(|address| rule(topology, database, address)).collect()
}

/// One rule for every other node, so that roles can swap; from 11 on a second one for pg_rewind.
fn replication_rules(topology: &Topology, node: &Node) -> Vec<String> {
    let others = topology.nodes.values().filter(|other| other.name != node.name);
    let rewind = topology.postgresql.version.dialect().rewind_by_grants.then_some(REWIND_DATABASE);
    let rules = addresses(topology, others).into_iter().flat_map(|address| {
        let databases = ["replication"].into_iter().chain(rewind);
        databases.map(move |database| rule(topology, database, &address))
    });
    rules.collect()
}

/// Each address once.
fn addresses<'a>(topology: &Topology, mut nodes: impl Iterator<Item = &'a Node>) -> IndexSet<String> {
    let given = &topology.replication.addresses;
    if given.is_empty() {
        nodes.map(|node| in_hba_form(&node.host)).collect()
    } else if nodes.next().is_none() {
        IndexSet::new()
    } else {
        given.iter().cloned().collect()
    }
}

/// An address needs its length in pg_hba.conf; a name stands as it is.
fn in_hba_form(host: &str) -> String {
    match host.parse::<IpAddr>() {
        // A connection to any address of this machine's loopback comes from 127.0.0.1.
        Ok(IpAddr::V4(address)) if address.is_loopback() => "127.0.0.1/32".to_owned(),
        Ok(IpAddr::V4(address)) => format!("{address}/32"),
        Ok(IpAddr::V6(address)) => format!("{address}/128"),
        // The socket of a connection to `localhost` has a loopback address, and pg_hba.conf wants an address there.
        Err(_) if host == "localhost" => "127.0.0.1/32".to_owned(),
        Err(_) => host.to_owned(),
    }
}

fn rule(topology: &Topology, database: &str, address: &str) -> String {
    let sslmode = topology.replication.tls.as_ref().map(|tls| tls.sslmode);
    let encrypted = sslmode.is_some_and(|mode| mode >= SslMode::Require);
    let rule = NewRule {
        kind: if encrypted { "hostssl" } else { "host" }.to_owned(),
        databases: vec![database.to_owned()],
        users: vec![topology.replication.user.clone()],
        address: Some(address.to_owned()),
        method: topology.replication.auth.as_str().to_owned(),
        options: Vec::new(),
    };
    hba_line(&rule)
}

/// Returns the rules that the topology itself has, as the lines that are written.
#[must_use]
pub fn user_rules(topology: &Topology) -> Vec<String> {
    let lines = topology.hba.iter().map(|given| {
        hba_line(&NewRule {
            kind: given.kind.clone(),
            databases: given.database.clone(),
            users: given.user.clone(),
            address: given.address.clone(),
            method: given.method.clone(),
            options: given.options.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        })
    });
    lines.collect()
}

fn hba_line(rule: &NewRule) -> String {
    hba::line(rule).expect("a validated rule has no line break and no NUL")
}

/// Returns the lines of pgpair's passfile, the same on every node: for replication and for pg_rewind.
///
/// Empty where the topology has no replication password.
#[must_use]
pub fn passfile_entries(topology: &Topology) -> Vec<PassfileEntry> {
    let rewind = topology.postgresql.version.dialect().rewind_by_grants.then_some(REWIND_DATABASE);
    let databases = topology.replication.password.iter().flat_map(|_| ["replication"].into_iter().chain(rewind));
    databases
        .map(|database| PassfileEntry { database: database.to_owned(), user: topology.replication.user.clone() })
        .collect()
}

/// Returns where each tablespace of the source is to lie on a clone, by where it lies there.
///
/// # Errors
///
/// The first that has no place of its own.
pub fn tablespaces(node: &Node, source: &Node, of_source: &Cluster) -> Result<BTreeMap<String, String>, Refusal> {
    let mut mapped: BTreeMap<String, String> = BTreeMap::new();
    for folder in of_source.tablespaces.values() {
        let here = match node.tablespaces.get(folder) {
            Some(here) => here,
            None if node.is_beside(source) => {
                let (node, source) = (node.name.clone(), source.name.clone());
                return Err(Refusal::TablespaceUnmapped { node, source, folder: folder.clone() });
            }
            None => folder,
        };
        if let Some((first, _)) = mapped.iter().find(|(_, taken)| *taken == here) {
            let (first, second) = (first.clone(), folder.clone());
            return Err(Refusal::TablespacesMixed { node: node.name.clone(), first, second, folder: here.clone() });
        }
        mapped.insert(folder.clone(), here.clone());
    }
    Ok(mapped)
}

/// Nodes of a cluster up to which each standby has the slots of its future followers from the beginning: more would
/// soon be more than `max_replication_slots`, and the role change makes them as well.
const MOST_READY_SLOTS: usize = 8;

/// Returns the slots of those that would follow a standby once it is the primary, where they are there beforehand.
pub fn ready_slots(topology: &Topology, standby: &Node) -> impl Iterator<Item = String> {
    let are_made = topology.replication.slots && topology.nodes.len() <= MOST_READY_SLOTS;
    let others = topology.nodes.values().filter(move |other| are_made && other.name != standby.name);
    others.map(Node::slot_name)
}

/// Returns the replication role as the topology asks for it.
///
/// `for_role_change`: with what only a rewind will need.
#[must_use]
pub fn role(topology: &Topology, for_role_change: bool) -> WantedRole {
    WantedRole {
        name: topology.replication.user.clone(),
        connection_limit: topology.replication.connection_limit,
        with_password: topology.replication.password.is_some() && topology.replication.auth != ReplicationAuth::Cert,
        rewind_grants: for_role_change && topology.postgresql.version.dialect().rewind_by_grants,
    }
}

/// Returns initdb's options from the topology, without those that pgpair always gives itself.
#[must_use]
pub fn initdb_options(topology: &Topology) -> Vec<(String, Option<String>)> {
    let options = topology.postgresql.initdb.iter().filter_map(|(name, option)| {
        let name = name.replace('_', "-");
        match option {
            InitdbOption::Switch(true) => Some((name, None)),
            // 18 turns checksums on by itself, and its option turns them off.
            InitdbOption::Switch(false) => (name == "data-checksums"
                && topology.postgresql.version.dialect().checksums_by_default)
                .then(|| ("no-data-checksums".to_owned(), None)),
            InitdbOption::Value(value) => Some((name, Some(value.clone()))),
        }
    });
    options.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_keeps_of_its_sources_auto_conf_what_its_own_block_does_not_say() {
        let lines = ["port = '5434'", "primary_conninfo = 'host=a'"].map(str::to_owned).into();
        let block = Block { cluster: "orders".into(), node: "b".into(), lines };
        let auto = "# Do not edit this file manually!\nPort = '5432'\nprimary_conninfo = 'host=x'\nwork_mem = '8MB'\n\
                    recovery_target_time = '2020-01-01'\npromote_trigger_file = '/tmp/x'\n";
        assert_eq!(auto_conf_of_clone(auto, &block), "# Do not edit this file manually!\nwork_mem = '8MB'\n");
    }
}
