//! Files of a node: configuration, and what makes it a standby.

use std::collections::BTreeMap;

use crate::observed::Cluster;
use crate::observed::Markers;
use crate::observed::NodeObserved;
use crate::observed::Setting;
use crate::pg::guc;
use crate::pg::guc::Context;
use crate::pg::version::Major;
use crate::plan::Configure;
use crate::plan::Effect;
use crate::plan::check::file_values;

pub(super) fn mark(markers: &mut Markers, recovery_conf: Option<&String>) {
    markers.standby_signal = recovery_conf.is_none();
    markers.recovery_conf = recovery_conf.cloned();
    markers.recovery_signal = false;
    markers.promote = false;
}

/// By its files the node is a primary.
pub(super) fn unmark(markers: &mut Markers) {
    markers.standby_signal = false;
    markers.recovery_signal = false;
    markers.recovery_conf = None;
}

pub(super) fn configured(seen: &mut NodeObserved, configure: &Configure, major: Major) {
    let Some(cluster) = seen.cluster_mut() else { return };
    if let Ok(text) = configure.applied_to(&cluster.conf.main.text) {
        cluster.conf.main.text = text;
    }
    cluster.conf.replaced = None;
    if let Some((auto, reset)) = cluster.conf.auto.as_mut().zip(configure.reset.as_ref()) {
        auto.text = reset.applied_to(&auto.text);
    }
    let values = file_values(cluster);
    let is_primary = seen.accepts_writes();
    let restarts = configure.effect == Effect::Restart;
    if let Some(cluster) = seen.cluster_mut().filter(|_| is_primary && restarts) {
        take_floors(cluster, &values);
    }
    let Some(server) = seen.server.known_mut() else { return };
    if restarts {
        server.port = values.get("port").and_then(|port| port.parse().ok()).or(server.port);
    }
    let Some(sql) = server.sql.known_mut() else { return };
    sql.conf_loaded = true;
    sql.recovery_conf_loaded |= restarts;
    // What no file sets holds by itself, and is still no file's.
    for (name, value) in configure.settings.iter().filter(|(name, _)| values.contains_key(*name)) {
        sql.settings.insert(name.clone(), setting(value, name, major));
    }
    let waiting = sql.settings.iter().filter(|(_, setting)| restarts && setting.pending_restart);
    let read: Vec<String> = waiting.map(|(name, _)| name).chain(&configure.restored).cloned().collect();
    for name in read {
        match values.get(&name) {
            Some(value) => sql.settings.insert(name.clone(), setting(value, &name, major)),
            None => sql.settings.remove(&name),
        };
    }
}

pub(super) fn setting(value: &str, name: &str, major: Major) -> Setting {
    Setting {
        value: value.to_owned(),
        context: guc::context(major, name).unwrap_or(Context::User),
        source: "configuration file".into(),
        pending_restart: false,
    }
}

/// A primary writes the values it starts with to pg_control and to the WAL.
pub(super) fn take_floors(cluster: &mut Cluster, values: &BTreeMap<String, String>) {
    for (name, _) in cluster.major.dialect().control.floors {
        let value = values.get(*name).map(String::as_str).or_else(|| guc::boot(cluster.major, name));
        let number = value.and_then(|value| guc::integer(cluster.major, name, value));
        if let Some(number) = number.and_then(|number| u32::try_from(number).ok()) {
            cluster.floors.insert((*name).to_owned(), number);
        }
    }
}
