//! What an action makes of the world: the planner's picture of the state that its own steps will have left.
//!
//! `check` judges each step in that picture; the simulated world is moved by it alone. What can't be known before
//! it happens (LSNs, process numbers, the identifier that initdb will choose) stays symbolic or zero.

use std::collections::BTreeMap;

use crate::observed::Cluster;
use crate::observed::DataDir;
use crate::observed::Identity;
use crate::observed::Markers;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::observed::Passfile;
use crate::observed::Reading;
use crate::observed::Receiver;
use crate::observed::ReplicationRole;
use crate::observed::Sender;
use crate::observed::Server;
use crate::observed::Setting;
use crate::observed::Slot;
use crate::observed::Sql;
use crate::observed::Verifier;
use crate::observed::comes_up_as;
use crate::pg::block;
use crate::pg::block::Block;
use crate::pg::conf::ConfFile;
use crate::pg::conf::ConfFiles;
use crate::pg::control::ControlState;
use crate::pg::guc;
use crate::pg::guc::Context;
use crate::pg::lsn::Lsn;
use crate::pg::lsn::Timeline;
use crate::pg::version::Major;
use crate::plan::Action;
use crate::plan::CloneFrom;
use crate::plan::Configure;
use crate::plan::CreatePrimary;
use crate::plan::Effect;
use crate::plan::PassfileEntry;
use crate::plan::WantedRole;
use crate::plan::check::file_values;
use crate::plan::desired;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Role;
use crate::topology::Topology;

/// Changes `observed` into what it will be once the action is done on the node.
pub fn predict(node: &NodeName, action: &Action, topology: &Topology, observed: &mut Observed) {
    let spec = &topology.nodes[node];
    let major = topology.postgresql.version;
    match action {
        Action::CreatePrimary(create) => created(observed.node_mut(node), create, spec, major),
        Action::Clone(clone) => cloned(observed, spec, clone),
        Action::StandbyFiles(files) => {
            if let Some(cluster) = observed.node_mut(node).cluster_mut() {
                mark(&mut cluster.markers, files.recovery_conf.as_ref());
            }
        }
        Action::Configure(configure) => {
            configured(observed.node_mut(node), configure, major);
            if configure.effect == Effect::Restart {
                cut_streams(observed, spec);
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
        }
        Action::Passfile { .. } => {
            if let Some(cluster) = observed.node_mut(node).cluster_mut() {
                cluster.passfile = Passfile::Right;
            }
        }
        Action::Start { .. } => {
            started(observed.node_mut(node), spec);
            roles_arrive(observed, spec, topology.upstream(spec));
        }
        Action::ReplicationRole(wanted) => role_made(observed, node, wanted),
        Action::Slot { name, reserve } => {
            if let Some(cluster) = observed.node_mut(node).cluster_mut() {
                let slot = Slot { physical: true, active: false, reserved: *reserve, wal_status: None };
                cluster.slots.insert(name.clone(), slot);
            }
        }
        Action::DropSlot { name } => {
            if let Some(cluster) = observed.node_mut(node).cluster_mut() {
                cluster.slots.remove(name);
            }
        }
        Action::Streaming { upstream } => streams(observed, spec, &topology.nodes[upstream]),
        Action::RemoveOld => {
            if let Some(place) = observed.node_mut(node).place.known_mut() {
                place.old = false;
            }
        }
    }
}

fn created(seen: &mut NodeObserved, create: &CreatePrimary, node: &Node, major: Major) {
    let Some(place) = seen.place.known_mut() else { return };
    place.new = false;
    place.data_dir = DataDir::Cluster(Box::new(Cluster {
        major,
        identity: Identity::CreatedOn(node.name.clone()),
        state: ControlState::ShutDown,
        timeline: Timeline(1),
        checkpoint: Lsn(0),
        checksums: create.options.iter().any(|(name, _)| name == "data-checksums"),
        wal_log_hints: false,
        floors: BTreeMap::new(),
        newest_history: None,
        wrong_access: None,
        markers: Markers::default(),
        conf: ConfFiles {
            main: ConfFile { path: "postgresql.conf".into(), text: create.conf.text(), includes: Vec::new() },
            auto: None,
        },
        hba: create.hba.text(),
        passfile: passfile(&create.passfile),
        replication_role: Reading::Unknown("the server is stopped".into()),
        slots: BTreeMap::new(),
    }));
}

fn passfile(entries: &[PassfileEntry]) -> Passfile {
    if entries.is_empty() { Passfile::Absent } else { Passfile::Right }
}

fn cloned(observed: &mut Observed, node: &Node, clone: &CloneFrom) {
    let Some(source) = observed.node(&clone.source).cluster().cloned() else { return };
    let Some(place) = observed.node_mut(&node.name).place.known_mut() else { return };
    place.old |= clone.replaces.is_some() && matches!(place.data_dir, DataDir::Cluster(_) | DataDir::Unfinished(_));
    place.new = false;
    let mut cluster = Cluster {
        markers: Markers { backup_label: true, ..Markers::default() },
        // pg_control is copied as it is while the source runs.
        state: ControlState::InProduction,
        passfile: passfile(&clone.passfile),
        slots: BTreeMap::new(),
        wrong_access: None,
        replication_role: Reading::Unknown("the server is stopped".into()),
        ..source
    };
    put_conf_block(&mut cluster, Some(&clone.conf));
    if let Some(auto) = &mut cluster.conf.auto {
        auto.text = desired::auto_conf_of_clone(&auto.text, &clone.conf);
    }
    cluster.hba = block::put_before_rules(&cluster.hba, &clone.hba).unwrap_or_else(|_| clone.hba.text());
    mark(&mut cluster.markers, clone.recovery_conf.as_ref());
    place.data_dir = DataDir::Cluster(Box::new(cluster));
}

fn mark(markers: &mut Markers, recovery_conf: Option<&String>) {
    markers.standby_signal = recovery_conf.is_none();
    markers.recovery_conf = recovery_conf.cloned();
    markers.recovery_signal = false;
    markers.promote = false;
}

fn put_conf_block(cluster: &mut Cluster, block: Option<&Block>) {
    let text = &cluster.conf.main.text;
    let put = match block {
        Some(block) => block::put_last(text, block),
        None => block::remove(text),
    };
    if let Ok(text) = put {
        cluster.conf.main.text = text;
    }
}

fn configured(seen: &mut NodeObserved, configure: &Configure, major: Major) {
    let Some(cluster) = seen.cluster_mut() else { return };
    put_conf_block(cluster, configure.block.as_ref());
    let values = file_values(cluster);
    let is_primary = seen.accepts_writes();
    if let Some(cluster) = seen.cluster_mut().filter(|_| is_primary && configure.effect == Effect::Restart) {
        take_floors(cluster, &values);
    }
    let Some(server) = seen.server.known_mut() else { return };
    if configure.effect == Effect::Restart {
        server.port = values.get("port").and_then(|port| port.parse().ok()).or(server.port);
    }
    if let Some(sql) = server.sql.known_mut() {
        sql.conf_loaded = true;
        for (name, value) in &configure.settings {
            sql.settings.insert(name.clone(), setting(value, name, major));
        }
    }
}

/// A restart ends the streams of a server, in both directions.
fn cut_streams(observed: &mut Observed, node: &Node) {
    let slot = node.slot_name();
    for (name, seen) in &mut observed.nodes {
        let is_own = *name == node.name;
        if let Some(cluster) = seen.cluster_mut() {
            for (_, slot) in cluster.slots.iter_mut().filter(|(name, _)| is_own || **name == slot) {
                slot.active = false;
            }
        }
        let Some(sql) = seen.sql_mut() else { continue };
        sql.senders.retain(|sender| !is_own && sender.application_name != node.name.as_str());
        let reads_from_it = sql
            .receiver
            .as_ref()
            .is_some_and(|receiver| receiver.host.as_ref() == Some(&node.host) && receiver.port == Some(node.port));
        if is_own || reads_from_it {
            sql.receiver = None;
        }
    }
}

fn setting(value: &str, name: &str, major: Major) -> Setting {
    Setting {
        value: value.to_owned(),
        context: guc::context(major, name).unwrap_or(Context::User),
        source: "configuration file".into(),
        pending_restart: false,
    }
}

/// A primary writes the values it starts with to pg_control and to the WAL.
fn take_floors(cluster: &mut Cluster, values: &BTreeMap<String, String>) {
    for (name, _) in cluster.major.dialect().control.floors {
        let value = values.get(*name).map(String::as_str).or_else(|| guc::boot(cluster.major, name));
        let number = value.and_then(|value| guc::integer(cluster.major, name, value));
        if let Some(number) = number.and_then(|number| u32::try_from(number).ok()) {
            cluster.floors.insert((*name).to_owned(), number);
        }
    }
}

/// What comes up is what the files say, whatever was meant.
fn started(seen: &mut NodeObserved, node: &Node) {
    let Some(cluster) = seen.cluster_mut() else { return };
    let role = comes_up_as(&cluster.markers, cluster.major);
    cluster.markers.postmaster_opts = true;
    cluster.markers.backup_label = false;
    cluster.state = match role {
        Role::Primary => ControlState::InProduction,
        Role::Standby => ControlState::InArchiveRecovery,
    };
    if cluster.replication_role.unknown().is_some() {
        // Known once the server answers; a plan can't tell before.
        cluster.replication_role = Reading::Absent;
    }
    let major = cluster.major;
    let timeline = cluster.timeline.max(cluster.newest_history.unwrap_or(cluster.timeline));
    let values = file_values(cluster);
    if role == Role::Primary {
        take_floors(cluster, &values);
    }
    let settings = values.iter().map(|(name, value)| (name.clone(), setting(value, name, major))).collect();
    seen.server = Reading::Known(Server {
        pid: 0,
        started: 0,
        port: Some(node.port),
        socket_dir: None,
        sql: Reading::Known(Sql {
            version: major.to_string(),
            in_recovery: role == Role::Standby,
            timeline,
            lsn: Lsn(0),
            replayed: None,
            replay_paused: false,
            settings,
            hba_loaded: true,
            conf_loaded: true,
            receiver: None,
            senders: Vec::new(),
        }),
    });
}

/// A standby has the roles that its upstream has.
fn roles_arrive(observed: &mut Observed, node: &Node, upstream: &Node) {
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

/// The role is made on the primary, and arrives on every standby that streams.
fn role_made(observed: &mut Observed, node: &NodeName, wanted: &WantedRole) {
    let Some(cluster) = observed.node_mut(node).cluster_mut() else { return };
    let before = cluster.replication_role.known().cloned();
    let role = ReplicationRole {
        login: true,
        replication: true,
        superuser: before.as_ref().is_some_and(|role| role.superuser),
        connection_limit: wanted.connection_limit.or(before.as_ref().map(|role| role.connection_limit)).unwrap_or(-1),
        verifier: if wanted.with_password {
            Verifier::Matches
        } else {
            before.as_ref().map_or(Verifier::None, |role| role.verifier)
        },
        // In 10 everybody may execute these functions, which then ask for a superuser.
        rewind_grants: wanted.rewind_grants
            || before.is_some_and(|role| role.rewind_grants)
            || !cluster.major.dialect().rewind_by_grants,
    };
    let identity = cluster.identity.clone();
    for seen in observed.nodes.values_mut().filter(|seen| seen.sql().is_some()) {
        if let Some(cluster) = seen.cluster_mut().filter(|cluster| cluster.identity == identity) {
            cluster.replication_role = Reading::Known(role.clone());
        }
    }
}

fn streams(observed: &mut Observed, node: &Node, upstream: &Node) {
    let source = observed.node_mut(&upstream.name);
    let slot = node.slot_name();
    let arrives = source.cluster().map(|cluster| (cluster.replication_role.clone(), cluster.floors.clone()));
    if let Some(slot) = source.cluster_mut().and_then(|cluster| cluster.slots.get_mut(&slot)) {
        slot.active = true;
        slot.reserved = true;
    }
    let Some(sql) = source.sql_mut() else { return };
    let timeline = sql.timeline;
    sql.senders.retain(|sender| sender.application_name != node.name.as_str());
    sql.senders.push(Sender {
        application_name: node.name.as_str().to_owned(),
        client_addr: None,
        state: "streaming".into(),
        sent: None,
        flushed: None,
        replayed: None,
        sync_state: "async".into(),
    });
    let seen = observed.node_mut(&node.name);
    if let Some((cluster, (role, floors))) = seen.cluster_mut().zip(arrives) {
        cluster.replication_role = role;
        cluster.floors = floors;
    }
    if let Some(sql) = seen.sql_mut() {
        sql.timeline = timeline;
        sql.receiver = Some(Receiver {
            status: "streaming".into(),
            host: Some(upstream.host.clone()),
            port: Some(upstream.port),
            user: None,
            slot: Some(slot),
            timeline,
        });
    }
}
