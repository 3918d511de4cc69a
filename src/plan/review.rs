//! Planning without servers: what a cluster is like once it is as a topology says, and what an observation that was made
//! for one topology tells of another.
//!
//! Both serve the review of a change: what the plan would be, before anybody may look at the servers.

use crate::observed::Controller;
use crate::observed::Identity;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::observed::Passfile;
use crate::observed::Permission;
use crate::observed::Reading;
use crate::observed::Setting;
use crate::observed::Verifier;
use crate::observed::nothing::empty_outside;
use crate::observed::nothing::nothing;
use crate::observed::nothing::nothing_at;
use crate::pg::guc;
use crate::pg::guc::Context;
use crate::plan::Plan;
use crate::plan::desired;
use crate::plan::planner;
use crate::plan::predict::predict;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Service;
use crate::topology::Topology;

/// The identifier of a cluster that no topology tells: initdb has long chosen it.
const UNTOLD: u64 = 0;

/// Returns what a look would find of a cluster that was made from nothing as the topology says.
#[must_use]
pub fn made(topology: &Topology) -> Observed {
    // No cluster is made where one is pinned; this one is.
    let unpinned = Topology { system_identifier: None, ..topology.clone() };
    let mut world = nothing(&unpinned);
    // What waits for standbys to stream is done by the second plan.
    for _ in 0..2 {
        for step in planner::plan(&unpinned, &world).steps {
            predict(&step.node, &step.action, &step.topology(&unpinned), &mut world);
        }
    }
    for seen in world.nodes.values_mut() {
        if let Some(cluster) = seen.cluster_mut() {
            cluster.identity = Identity::Known(topology.system_identifier.unwrap_or(UNTOLD));
        }
        // The one that every server has by itself, or was made with.
        if let Some(server) = seen.server.known_mut() {
            server.socket_dir = Some("/tmp".into());
        }
    }
    world
}

/// Returns the plan that takes a cluster in the state of `old` to `new`, and the state that it is made from. `None`:
/// there is no cluster yet.
#[must_use]
pub fn diff(old: Option<&Topology>, new: &Topology) -> (Observed, Plan) {
    let world = match old {
        None => nothing(new),
        Some(old) => {
            // An identifier that is pinned now is that of the cluster which there was before.
            let pinned = old.system_identifier.or(new.system_identifier);
            seen_for(new, &made(&Topology { system_identifier: pinned, ..old.clone() }), old)
        }
    };
    let plan = planner::plan(new, &world);
    (world, plan)
}

/// Returns the nodes of a topology that an observation made for another says nothing about: they are new, or elsewhere.
#[must_use]
pub fn not_covered(wanted: &Topology, observed: &Observed, then: &Topology) -> Vec<NodeName> {
    let is_covered = |node: &&Node| place_of(node, observed, then).is_some();
    wanted.nodes.values().filter(|node| !is_covered(node)).map(|node| node.name.clone()).collect()
}

/// Returns an observation that was made for the topology `then` as a look for `wanted` would have found it.
///
/// Where nobody looked, nothing is taken to be. A secret that comes from elsewhere is taken to be another one.
#[must_use]
pub fn seen_for(wanted: &Topology, observed: &Observed, then: &Topology) -> Observed {
    let mut nodes: Vec<(NodeName, NodeObserved)> = Vec::new();
    for node in wanted.nodes.values() {
        let seen = match place_of(node, observed, then) {
            Some((before, seen)) => look_again(wanted, node, seen, then, before),
            None => nothing_at(wanted, node),
        };
        nodes.push((node.name.clone(), seen));
    }
    for (name, seen) in &mut nodes {
        let node = &wanted.nodes[&*name];
        if let Some(whose) = holder_of_port(node, observed, then) {
            seen.port_taken = Reading::Known(whose);
        }
    }
    Observed { nodes: nodes.into_iter().collect() }
}

/// The node that was looked at in the same place, whatever its name was.
fn place_of<'o>(node: &Node, observed: &'o Observed, then: &'o Topology) -> Option<(&'o Node, &'o NodeObserved)> {
    let before = then.nodes.values().find(|before| before.data_dir == node.data_dir && before.ssh == node.ssh)?;
    Some((before, observed.nodes.get(&before.name)?))
}

/// Who has a node's port, if it is not the node's own server: a server that runs there in another node's place.
fn holder_of_port(node: &Node, observed: &Observed, then: &Topology) -> Option<String> {
    let others = then.nodes.values().filter(|other| other.is_beside(node) && other.data_dir != node.data_dir);
    let mut holders = others.filter(|other| {
        let server = observed.nodes.get(&other.name).and_then(|seen| seen.server.known());
        server.is_some_and(|server| server.port.unwrap_or(other.port) == node.port)
    });
    holders.next().map(|other| format!("the server in {}", other.data_dir))
}

fn look_again(wanted: &Topology, node: &Node, seen: &NodeObserved, then: &Topology, before: &Node) -> NodeObserved {
    let mut seen = seen.clone();
    let fresh = nothing_at(wanted, node);
    if (then.postgresql.version, &then.postgresql.bin_dir, &before.bin_dir)
        != (wanted.postgresql.version, &wanted.postgresql.bin_dir, &node.bin_dir)
    {
        seen.binaries = fresh.binaries;
    }
    if (&before.service, &before.config_dir) != (&node.service, &node.config_dir) {
        seen.controller = controller(node);
    }
    if then.replication.tls != wanted.replication.tls {
        seen.tls.clear();
    }
    if before.port != node.port {
        seen.port_taken = Reading::Absent;
    }
    if let Some(place) = seen.place.known_mut() {
        place.outside.retain(|folder, _| node.outside().any(|own| own == folder));
        for folder in node.outside() {
            place.outside.entry(folder.to_owned()).or_insert_with(empty_outside);
        }
    }
    secrets_again(wanted, &mut seen, then);
    settings_again(wanted, node, &mut seen);
    seen
}

fn controller(node: &Node) -> Reading<Controller> {
    Reading::Known(match &node.service {
        Some(Service::Commands { .. }) => Controller::Commands,
        Some(Service::Unit(unit)) => Controller::Unit { unit: unit.clone(), permission: Permission::Given },
        None => Controller::PgCtl,
    })
}

/// The role and the passfile were compared with the secret of another topology.
fn secrets_again(wanted: &Topology, seen: &mut NodeObserved, then: &Topology) {
    let (old, new) = (&then.replication, &wanted.replication);
    let is_same_secret = (&old.password, &old.user) == (&new.password, &new.user);
    let Some(cluster) = seen.cluster_mut() else { return };
    if !is_same_secret && cluster.passfile != Passfile::Absent {
        cluster.passfile = if new.password.is_some() { Passfile::Wrong } else { Passfile::NotCompared };
    }
    if old.user != new.user && cluster.replication_role.known().is_some() {
        cluster.replication_role = Reading::Absent;
    }
    let Some(role) = cluster.replication_role.known_mut() else { return };
    if role.verifier != Verifier::None && !is_same_secret {
        role.verifier = if new.password.is_some() { Verifier::Differs } else { Verifier::NotCompared };
    }
}

/// A parameter that nobody asked for then, and that no file sets, has its default.
fn settings_again(wanted: &Topology, node: &Node, seen: &mut NodeObserved) {
    let major = wanted.postgresql.version;
    let Some(sql) = seen.sql_mut() else { return };
    let names = desired::settings(wanted, node).into_keys().chain(wanted.parameters_of(node).into_keys());
    for name in names {
        if let Some(value) = guc::boot(major, &name).filter(|_| !sql.settings.contains_key(&name)) {
            let context = guc::context(major, &name).unwrap_or(Context::User);
            let setting =
                Setting { value: value.to_owned(), context, source: "default".into(), pending_restart: false };
            sql.settings.insert(name, setting);
        }
    }
}
