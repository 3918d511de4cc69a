//! Servers: what comes up, and what streams to whom.

use std::collections::BTreeMap;

use crate::observed::Busy;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::observed::Reading;
use crate::observed::Receiver;
use crate::observed::Sender;
use crate::observed::Server;
use crate::observed::Setting;
use crate::observed::Sql;
use crate::observed::comes_up_as;
use crate::pg::control::ControlState;
use crate::pg::guc;
use crate::pg::version::StandbyMode;
use crate::plan::check::file_values;
use crate::plan::desired;
use crate::plan::predict::files::setting;
use crate::plan::predict::files::take_floors;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Role;
use crate::topology::Topology;

/// A restart ends the streams of a server, in both directions.
pub(super) fn cut_streams(observed: &mut Observed, node: &Node) {
    let slot = node.slot_name();
    for (name, seen) in &mut observed.nodes {
        let is_own = *name == node.name;
        if let Some(cluster) = seen.cluster_mut() {
            for (_, slot) in cluster.slots.iter_mut().filter(|(name, _)| is_own || **name == slot) {
                slot.active = false;
            }
        }
        let Some(sql) = seen.sql_mut() else { continue };
        sql.senders.retain(|sender| !is_own && !sender.is_of(&node.name));
        let reads_from_it = sql.receiver.as_ref().is_some_and(|receiver| receiver.is_from(node));
        if is_own || reads_from_it {
            sql.receiver = None;
        }
    }
}

/// A server takes another port: what it held is free for a node on the same machine.
pub(super) fn leaves_port(observed: &mut Observed, topology: &Topology, node: &Node, port: u16) {
    let waits = |other: &&Node| other.name != node.name && other.host == node.host && other.port == port;
    for other in topology.nodes.values().filter(waits) {
        observed.node_mut(&other.name).port_taken = Reading::Absent;
    }
}

/// A server is down, cleanly; pg_control says `state`.
pub(super) fn down(observed: &mut Observed, node: &Node, state: ControlState) {
    cut_streams(observed, node);
    let seen = observed.node_mut(&node.name);
    let written = seen.sql().map(|sql| (sql.lsn, sql.timeline));
    seen.server = Reading::Absent;
    let Some(cluster) = seen.cluster_mut() else { return };
    cluster.state = state;
    cluster.replication_role = Reading::Unknown("the server is stopped".into());
    if let Some((end, timeline)) = written {
        (cluster.end, cluster.end_timeline) = (Some(end), Some(timeline));
        if !state.was_standby() {
            // A primary's last checkpoint is on the timeline that it wrote.
            cluster.timeline = timeline;
        }
    }
}

/// A server is gone: one that answers ends cleanly, of another it can't be said where its WAL ends.
pub(super) fn taken_down(observed: &mut Observed, node: &Node) {
    let seen = observed.node(&node.name);
    if seen.server.is_absent() || seen.sql().is_some_and(|sql| sql.in_recovery) {
        return;
    }
    let state = match seen.sql() {
        Some(_) => ControlState::ShutDown,
        None => ControlState::InProduction,
    };
    down(observed, node, state);
}

/// A node is fed through this slot by nobody but `upstream`.
pub(super) fn leaves_others(observed: &mut Observed, node: &NodeName, slot: &str, upstream: &NodeName) {
    for (_, other) in observed.nodes.iter_mut().filter(|(name, _)| *name != upstream) {
        if let Some(slot) = other.cluster_mut().and_then(|cluster| cluster.slots.get_mut(slot)) {
            slot.active = false;
        }
        if let Some(sql) = other.sql_mut() {
            sql.senders.retain(|sender| !sender.is_of(node));
        }
    }
}

/// What comes up is what the files say, whatever was meant.
pub(super) fn started(seen: &mut NodeObserved, node: &Node, topology: &Topology) {
    let Some(cluster) = seen.cluster_mut() else { return };
    let role = comes_up_as(&cluster.markers, cluster.major);
    cluster.markers.postmaster_opts = true;
    cluster.markers.backup_label = false;
    // One that was left is deleted, and not acted on.
    cluster.markers.promote = false;
    let lsn = cluster.end.take().unwrap_or_default();
    cluster.end_timeline = None;
    cluster.conf.replaced = None;
    cluster.state = match role {
        Role::Primary => ControlState::InProduction,
        Role::Standby => ControlState::InArchiveRecovery,
    };
    if cluster.replication_role.unknown().is_some() {
        // Known once the server answers; a plan can't tell before.
        cluster.replication_role = Reading::Absent;
    }
    let major = cluster.major;
    let timeline = cluster.newest_timeline();
    let values = file_values(cluster);
    if role == Role::Primary {
        take_floors(cluster, &values);
    }
    let defaults = desired::settings(topology, node).into_keys();
    let defaults = defaults.chain(major.dialect().control.floors.iter().map(|(name, _)| (*name).to_owned()));
    let defaults = defaults.filter_map(|name| Some((name.clone(), guc::boot(major, &name)?)));
    let mut settings: BTreeMap<String, Setting> = defaults
        .map(|(name, value)| (name.clone(), Setting { source: "default".into(), ..setting(value, &name, major) }))
        .collect();
    settings.extend(values.iter().map(|(name, value)| (name.clone(), setting(value, name, major))));
    seen.server = Reading::Known(Server {
        pid: 0,
        started: 0,
        port: Some(node.port),
        socket_dir: None,
        sql: Reading::Known(Sql {
            version: major.to_string(),
            in_recovery: role == Role::Standby,
            timeline,
            lsn,
            replayed: None,
            replay_paused: false,
            asks_from: None,
            settings,
            hba_loaded: true,
            conf_loaded: true,
            recovery_conf_loaded: true,
            receiver: None,
            senders: Vec::new(),
            busy: Busy::default(),
        }),
    });
}

/// A standby has the roles that its upstream has.
pub(super) fn roles_arrive(observed: &mut Observed, node: &Node, upstream: &Node) {
    let Some(source) = observed.node(&upstream.name).cluster() else { return };
    let (identity, role) = (source.identity.clone(), source.replication_role.clone());
    let seen = observed.node_mut(&node.name);
    if seen.sql().is_some_and(|sql| sql.in_recovery)
        && role.unknown().is_none()
        && let Some(cluster) = seen.cluster_mut().filter(|cluster| cluster.identity == identity)
    {
        cluster.replication_role = role;
    }
}

pub(super) fn streams(observed: &mut Observed, node: &Node, upstream: &Node) {
    let seen = observed.node(&node.name);
    let former = seen.sql().and_then(|sql| sql.receiver.as_ref()?.slot.clone());
    let mode = seen.cluster().map(|cluster| cluster.major.dialect().standby_mode);
    let slot = match mode {
        Some(StandbyMode::SignalFile) => {
            let named = seen.sql().and_then(|sql| sql.settings.get("primary_slot_name"));
            named.map(|setting| setting.value.clone()).unwrap_or_default()
        }
        Some(StandbyMode::RecoveryConf) | None => node.slot_name(),
    };
    let source = observed.node_mut(&upstream.name);
    if let Some(former) = former.filter(|former| *former != slot)
        && let Some(former) = source.cluster_mut().and_then(|cluster| cluster.slots.get_mut(&former))
    {
        former.active = false;
    }
    // With the stream come the history files.
    let history = source.cluster().map(|cluster| (cluster.newest_history, cluster.branches.clone()));
    let arrives = source.cluster().map(|cluster| (cluster.replication_role.clone(), cluster.floors.clone()));
    if let Some(slot) = source.cluster_mut().and_then(|cluster| cluster.slots.get_mut(&slot)) {
        slot.active = true;
        slot.reserved = true;
    }
    leaves_others(observed, &node.name, &slot, &upstream.name);
    let Some(sql) = observed.node_mut(&upstream.name).sql_mut() else { return };
    let (timeline, lsn) = (sql.timeline, sql.lsn);
    sql.senders.retain(|sender| !sender.is_of(&node.name));
    sql.senders.push(Sender {
        application_name: node.name.as_str().to_owned(),
        client_addr: None,
        state: "streaming".into(),
        slot: Some(slot.clone()).filter(|slot| !slot.is_empty()),
        sent: None,
        flushed: None,
        replayed: None,
        sync_state: "async".into(),
    });
    let seen = observed.node_mut(&node.name);
    if let Some((cluster, (role, floors))) = seen.cluster_mut().zip(arrives) {
        cluster.replication_role = role;
        cluster.floors = floors;
        if let Some((newest, branches)) = history.filter(|(newest, _)| *newest > cluster.newest_history) {
            (cluster.newest_history, cluster.branches) = (newest, branches);
        }
    }
    if let Some(sql) = seen.sql_mut() {
        sql.timeline = timeline;
        sql.lsn = sql.lsn.max(lsn);
        sql.receiver = Some(Receiver {
            status: "streaming".into(),
            host: Some(upstream.host.clone()),
            port: Some(upstream.port),
            user: None,
            slot: Some(slot).filter(|slot| !slot.is_empty()),
            application_name: Some(node.name.as_str().to_owned()),
            timeline,
        });
    }
}
