//! The table of edits, as both halves of its test read it: `fixtures/edits/*.yaml`, each a base topology and rows.
//!
//! A row is one edit of that topology and the plan that it must get on the living cluster. What is a living cluster is
//! worked out here as well, by the planner's own predictions: planned from nothing, and every step predicted.

#![allow(dead_code, reason = "each half uses its own part of this")]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_yaml::Value;

use pgpair::observed::DataDir;
use pgpair::observed::Identity;
use pgpair::observed::NodeObserved;
use pgpair::observed::Observed;
use pgpair::observed::Passfile;
use pgpair::observed::Reading;
use pgpair::observed::ReplicationRole;
use pgpair::observed::Setting;
use pgpair::observed::Sql;
use pgpair::observed::Verifier;
use pgpair::pg::guc;
use pgpair::plan::Plan;
use pgpair::plan::allow;
use pgpair::plan::allow::Allowance;
use pgpair::plan::desired;
use pgpair::plan::planner::plan;
use pgpair::plan::predict::predict;
use pgpair::topology;
use pgpair::topology::NodeName;
use pgpair::topology::Topology;
use pgpair::world::sim::nothing;

/// A file of the table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    /// The file's name without `.yaml`.
    #[serde(skip)]
    pub(crate) name: String,
    /// A whole topology.
    pub(crate) base: Value,
    pub(crate) edits: Vec<Edit>,
}

/// A row of the table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    /// What is edited, as a sentence.
    pub(crate) name: String,
    /// Keys of the topology with their new values; `null` takes a key out, a list is replaced whole.
    #[serde(default)]
    pub(crate) edit: Value,
    /// The secret of the replication role is another one now.
    #[serde(default)]
    pub(crate) new_password: bool,
    /// Nodes of the base that somebody stops before the plan.
    #[serde(default)]
    pub(crate) stopped: Vec<String>,
    /// The whole plan, `ID IMPACT` each.
    #[serde(default)]
    pub(crate) steps: Vec<String>,
    /// What is refused, `NODE CODE` each; `all` for the plan as a whole.
    #[serde(default)]
    pub(crate) blocked: Vec<String>,
    /// Also applied to real servers, and taken back.
    #[serde(default)]
    pub(crate) live: bool,
}

/// Returns the table, its files in the order of their names.
pub(crate) fn groups() -> Vec<Group> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/edits");
    let entries = fs::read_dir(&folder).expect("the folder is there").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let text = fs::read_to_string(path).expect("readable");
        let mut group: Group =
            serde_yaml::from_str(&text).unwrap_or_else(|wrong| panic!("{}: {wrong}", path.display()));
        group.name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        group
    };
    files.iter().map(read).collect()
}

/// Returns the group of this name.
pub(crate) fn group(name: &str) -> Group {
    groups().into_iter().find(|group| group.name == name).expect("a file of the table")
}

impl Group {
    /// Returns the topology that a row makes of the base.
    pub(crate) fn edited(&self, edit: &Edit) -> Value {
        patched(&self.base, &edit.edit)
    }
}

/// A merge patch (RFC 7396).
fn patched(base: &Value, patch: &Value) -> Value {
    match (base, patch) {
        (Value::Mapping(base), Value::Mapping(patch)) => {
            let mut merged = base.clone();
            for (key, change) in patch {
                if change.is_null() {
                    merged.remove(key);
                } else {
                    let value = patched(base.get(key).unwrap_or(&Value::Null), change);
                    merged.insert(key.clone(), value);
                }
            }
            Value::Mapping(merged)
        }
        (_, Value::Null) => base.clone(),
        _ => patch.clone(),
    }
}

/// Returns the nodes that an edited topology has and the base does not, neither by name nor by place.
pub(crate) fn added(base: &Value, edited: &Value) -> Vec<String> {
    let nodes = |topology: &Value| topology["nodes"].as_mapping().cloned().unwrap_or_default();
    let places: Vec<Value> = nodes(base).into_iter().map(|(_, node)| node["data_dir"].clone()).collect();
    let new = nodes(edited).into_iter().filter(|(_, node)| !places.contains(&node["data_dir"]));
    new.filter_map(|(name, _)| name.as_str().map(str::to_owned)).collect()
}

/// Returns a topology of the table as YAML.
pub(crate) fn text(topology: &Value) -> String {
    serde_yaml::to_string(topology).expect("YAML")
}

/// Reads a topology of the table, or says what is wrong with it.
pub(crate) fn parsed(topology: &Value) -> Result<Topology, String> {
    topology::parse(text(topology).as_bytes(), "edited.yaml", "/pg")
        .map_err(|wrong| wrong.iter().map(ToString::to_string).collect())
}

/// A plan in the words of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) steps: Vec<String>,
    pub(crate) blocked: Vec<String>,
}

impl Shown {
    pub(crate) fn of(plan: &Plan) -> Self {
        let steps = plan.steps.iter().map(|step| format!("{} {}", step.id, step.impact));
        let blocked = plan.blocked.iter().map(|blocked| {
            format!("{} {}", blocked.node.as_ref().map_or("all", NodeName::as_str), blocked.refusal.code())
        });
        Self { steps: steps.collect(), blocked: blocked.collect() }
    }

    pub(crate) fn expected(edit: &Edit) -> Self {
        Self { steps: edit.steps.clone(), blocked: edit.blocked.clone() }
    }

    /// What is left of it when its steps are done.
    pub(crate) fn second(&self) -> Self {
        Self { steps: Vec::new(), blocked: self.blocked.clone() }
    }

    /// The allowances that the steps need, by their impacts.
    pub(crate) fn allowances(&self) -> BTreeSet<String> {
        let of = |step: &String| {
            let (id, impact) = step.split_once(' ')?;
            let (node, _) = id.split_once('.')?;
            match impact {
                "restart" | "outage" => Some(impact.to_owned()),
                "destroy" => Some(format!("destroy={node}")),
                "switchover" if id.ends_with(".promote") => Some(format!("switchover={node}")),
                _ => None,
            }
        };
        self.steps.iter().filter_map(of).collect()
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "      - {step}")?;
        }
        for blocked in &self.blocked {
            writeln!(f, "      ! {blocked}")?;
        }
        Ok(())
    }
}

/// A cluster as the planner's predictions have it, between two edits.
pub(crate) struct Predicted {
    topology: Topology,
    world: Observed,
    /// What is in the data directories that no node of the topology has now, by their paths.
    elsewhere: BTreeMap<String, NodeObserved>,
    /// Replication roles that the topology no longer names, by node and name.
    roles: BTreeMap<(NodeName, String), ReplicationRole>,
}

impl Predicted {
    /// Returns the cluster that a plan from nothing makes.
    pub(crate) fn living(topology: Topology) -> Self {
        let mut living =
            Self { world: nothing(&topology), topology, elsewhere: BTreeMap::new(), roles: BTreeMap::new() };
        let first = living.follow();
        assert_eq!(first.blocked, Vec::<String>::new());
        for seen in living.world.nodes.values_mut() {
            if let Some(cluster) = seen.cluster_mut() {
                // initdb chooses one.
                cluster.identity = Identity::Known(7_446_744_073_709_551_615);
            }
        }
        living
    }

    /// Plans, and does every step.
    pub(crate) fn follow(&mut self) -> Shown {
        let seen = self.look();
        let plan = plan(&self.topology, &seen);
        let allowed: BTreeSet<Allowance> = allow::all_needed(&plan).into_iter().collect();
        for step in allow::select(&plan, &self.topology, &seen, &allowed).chosen {
            predict(&step.node, &step.action, &step.topology(&self.topology), &mut self.world);
        }
        self.show_settings();
        Shown::of(&plan)
    }

    /// The topology is another one now: what a look finds of its nodes.
    pub(crate) fn edited_to(&mut self, topology: Topology) {
        let before = std::mem::replace(&mut self.topology, topology);
        let mut world = nothing(&self.topology);
        for (name, seen) in std::mem::take(&mut self.world.nodes) {
            self.elsewhere.insert(before.nodes[&name].data_dir.clone(), seen);
        }
        for (name, node) in &self.topology.nodes {
            let seen = world.node_mut(name);
            let runs_there =
                |seen: &NodeObserved| seen.server.known().is_some_and(|server| server.port == Some(node.port));
            let in_the_way = self.elsewhere.iter().find(|(path, seen)| **path != node.data_dir && runs_there(seen));
            let port_taken =
                in_the_way.map_or(Reading::Absent, |(path, _)| Reading::Known(format!("the server in {path}")));
            if let Some(there) = self.elsewhere.get(&node.data_dir) {
                seen.clone_from(there);
            }
            seen.port_taken = port_taken;
        }
        let places: Vec<&String> = self.topology.nodes.values().map(|node| &node.data_dir).collect();
        self.elsewhere.retain(|path, _| !places.contains(&path));
        self.world = world;
        self.compare_role(&before);
        self.show_settings();
    }

    /// The role is another one: what is known of the one by this name, if it was ever made.
    fn compare_role(&mut self, before: &Topology) {
        let (was, now) = (&before.replication, &self.topology.replication);
        let renamed = was.user != now.user;
        for (name, seen) in &mut self.world.nodes {
            let Some(cluster) = seen.cluster_mut() else { continue };
            if renamed && cluster.passfile == Passfile::Right {
                cluster.passfile = Passfile::Wrong;
            }
            let Some(role) = cluster.replication_role.known_mut() else { continue };
            if renamed {
                self.roles.insert((name.clone(), was.user.clone()), role.clone());
                let known = self.roles.get(&(name.clone(), now.user.clone()));
                cluster.replication_role = known.map_or(Reading::Absent, |role| Reading::Known(role.clone()));
            }
        }
    }

    /// What a look finds: without a secret, nothing can be compared with it.
    fn look(&self) -> Observed {
        let mut seen = self.world.clone();
        if self.topology.replication.password.is_none() {
            for cluster in seen.nodes.values_mut().filter_map(NodeObserved::cluster_mut) {
                if cluster.passfile != Passfile::Absent {
                    cluster.passfile = Passfile::NotCompared;
                }
                if let Some(role) = cluster.replication_role.known_mut().filter(|role| role.verifier != Verifier::None)
                {
                    role.verifier = Verifier::NotCompared;
                }
            }
        }
        seen
    }

    /// The secret was changed: neither the stored verifier nor a passfile is made from it.
    pub(crate) fn change_password(&mut self) {
        for cluster in self.world.nodes.values_mut().filter_map(NodeObserved::cluster_mut) {
            cluster.passfile = Passfile::Wrong;
            if let Some(role) = cluster.replication_role.known_mut() {
                role.verifier = Verifier::Differs;
            }
        }
    }

    /// Somebody stops the server of a node, which may be no node of the topology any more.
    pub(crate) fn stop(&mut self, node: &str) {
        let name = NodeName::new(node);
        let slot = self.topology.nodes.get(&name).map_or(format!("pgpair_{node}"), topology::Node::slot_name);
        for (other, seen) in &mut self.world.nodes {
            if *other == name {
                seen.server = Reading::Absent;
                if let Some(cluster) = seen.cluster_mut() {
                    cluster.state = if cluster.state.was_standby() {
                        pgpair::pg::control::ControlState::ShutDownInRecovery
                    } else {
                        pgpair::pg::control::ControlState::ShutDown
                    };
                    cluster.slots.values_mut().for_each(|slot| slot.active = false);
                }
            } else {
                if let Some(cluster) = seen.cluster_mut() {
                    cluster
                        .slots
                        .iter_mut()
                        .filter(|(name, _)| **name == slot)
                        .for_each(|(_, slot)| slot.active = false);
                }
                if let Some(sql) = seen.sql_mut() {
                    sql.senders.retain(|sender| sender.application_name != node);
                }
            }
        }
    }

    /// Somebody deletes the data directory of a stopped node.
    pub(crate) fn delete(&mut self, node: &str) {
        if let Some(place) = self.world.nodes.get_mut(&NodeName::new(node)).and_then(|seen| seen.place.known_mut()) {
            place.data_dir = DataDir::Absent;
        }
    }

    /// What a running server shows and a prediction leaves out: its socket, and the default of what no file sets.
    fn show_settings(&mut self) {
        let major = self.topology.postgresql.version;
        for (name, node) in &self.topology.nodes {
            let Some(cluster) = self.world.node(name).cluster() else { continue };
            let set = cluster.conf.read().expect("our own lines").values;
            let Some(server) = self.world.node_mut(name).server.known_mut() else { continue };
            server.socket_dir = Some("/tmp".into());
            let Some(sql) = server.sql.known_mut() else { continue };
            let wanted = desired::settings(&self.topology, node);
            let known: Vec<String> = sql.settings.keys().cloned().chain(wanted.into_keys()).collect();
            for parameter in known.into_iter().filter(|parameter| !set.contains_key(parameter)) {
                show_default(sql, parameter, major);
            }
        }
    }
}

fn show_default(sql: &mut Sql, parameter: String, major: pgpair::pg::version::Major) {
    if let (Some(value), Some(context)) = (guc::boot(major, &parameter), guc::context(major, &parameter)) {
        let setting = Setting { value: value.to_owned(), context, source: "default".into(), pending_restart: false };
        sql.settings.insert(parameter, setting);
    }
}
