//! What an action makes of the world: the planner's picture of the state that its own steps will have left.
//!
//! `check` judges each step in that picture; the simulated world is moved by it alone. What can't be known before
//! it happens (LSNs, process numbers, the identifier that initdb will choose) stays symbolic or zero.

use crate::observed::Observed;
use crate::observed::Passfile;
use crate::observed::Reading;
use crate::observed::Reverse;
use crate::observed::Slot;
use crate::pg::block;
use crate::pg::control::ControlState;
use crate::plan::Action;
use crate::plan::Effect;
use crate::plan::hook::with_owed;
use crate::topology::NodeName;
use crate::topology::Topology;

mod copies;
mod files;
mod objects;
mod roles;
mod servers;

/// Changes `observed` into what it will be once the action is done on the node.
pub fn predict(node: &NodeName, action: &Action, topology: &Topology, observed: &mut Observed) {
    let spec = &topology.nodes[node];
    let major = topology.postgresql.version;
    copies::leftovers_go(observed.node_mut(node));
    match action {
        Action::CreatePrimary(create) => copies::created(observed.node_mut(node), create, spec, major),
        Action::Clone(clone) => copies::cloned(observed, spec, clone),
        Action::Rewind(rewind) => copies::rewound(observed, spec, rewind),
        Action::StandbyFiles(files) => {
            if let Some(cluster) = observed.node_mut(node).cluster_mut() {
                files::mark(&mut cluster.markers, files.recovery_conf.as_ref());
            }
        }
        Action::Configure(configure) => {
            let port = |observed: &Observed| observed.node(node).server.known().and_then(|server| server.port);
            let before = port(observed);
            files::configured(observed.node_mut(node), configure, major);
            if configure.effect == Effect::Restart {
                servers::cut_streams(observed, spec);
                if let Some(before) = before.filter(|before| Some(*before) != port(observed)) {
                    servers::leaves_port(observed, topology, spec, before);
                }
            }
        }
        Action::Hba { block, .. } => {
            let seen = observed.node_mut(node);
            if let Some(cluster) = seen.cluster_mut() {
                cluster.hba = block::put_before_rules(&cluster.hba, block).unwrap_or_else(|_| block.text());
            }
            if let Some(sql) = seen.sql_mut() {
                sql.hba_loaded = true;
            }
            // Who gets in by other rules is tried anew.
            if let Reading::Known(Reverse::Refused(_)) = seen.readiness.reverse {
                seen.readiness.reverse = Reading::Unknown("the rules have changed since".into());
            }
        }
        Action::Passfile { .. } => {
            if let Some(cluster) = observed.node_mut(node).cluster_mut() {
                cluster.passfile = Passfile::Right;
            }
        }
        Action::Mode => {
            if let Some(cluster) = observed.node_mut(node).cluster_mut() {
                cluster.wrong_access = None;
            }
        }
        Action::Fence(fence) => {
            if let Some(cluster) = observed.node_mut(node).cluster_mut() {
                files::mark(&mut cluster.markers, fence.recovery_conf.as_ref());
            }
        }
        Action::FenceOff => observed.node_mut(node).confirmed_dead = true,
        Action::TakeDown => servers::taken_down(observed, spec),
        Action::Unfence => {
            if let Some(cluster) = observed.node_mut(node).cluster_mut() {
                files::unmark(&mut cluster.markers);
            }
        }
        Action::Promote(promote) => roles::promoted(observed, topology, spec, promote),
        Action::Hook(hook) => {
            if let Some(cluster) = observed.node_mut(node).cluster_mut() {
                let text = &mut cluster.conf.main.text;
                *text = with_owed(text, topology, spec, hook.leaves().as_ref()).unwrap_or_else(|_| text.clone());
            }
        }
        Action::Stop(_) => servers::down(observed, spec, ControlState::ShutDownInRecovery),
        Action::Start { .. } => {
            servers::started(observed.node_mut(node), spec, topology);
            servers::roles_arrive(observed, spec, topology.upstream(spec));
        }
        Action::ReplicationRole(wanted) => objects::role_made(observed, node, wanted),
        Action::Slot { name, reserve } => {
            if let Some(cluster) = observed.node_mut(node).cluster_mut() {
                let slot = Slot { physical: true, active: false, reserved: *reserve, wal_status: None, retained: None };
                cluster.slots.insert(name.clone(), slot);
            }
        }
        Action::DropSlot { name } => {
            if let Some(cluster) = observed.node_mut(node).cluster_mut() {
                cluster.slots.remove(name);
            }
        }
        Action::Streaming { upstream } => servers::streams(observed, spec, &topology.nodes[upstream]),
        Action::RemoveOld => {
            if let Some(place) = observed.node_mut(node).place.known_mut() {
                place.old = false;
                place.outside.values_mut().for_each(|outside| outside.old = false);
            }
        }
    }
}
