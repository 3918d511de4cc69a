//! Files of a node: configuration, and what makes it a standby.

use crate::observed::Cluster;
use crate::observed::Markers;
use crate::observed::NodeObserved;
use crate::observed::Setting;
use crate::pg::block;
use crate::pg::block::Block;
use crate::pg::guc;
use crate::pg::guc::Context;
use crate::pg::version::Major;
use crate::plan::Configure;
use crate::plan::Effect;
use crate::plan::check::file_values;
use std::collections::BTreeMap;

pub(super) fn mark(markers: &mut Markers, recovery_conf: Option<&String>) {
    markers.standby_signal = recovery_conf.is_none();
    markers.recovery_conf = recovery_conf.cloned();
    markers.recovery_signal = false;
    markers.promote = false;
}

pub(super) fn put_conf_block(cluster: &mut Cluster, block: Option<&Block>) {
    let text = &cluster.conf.main.text;
    let put = match block {
        Some(block) => block::put_last(text, block),
        None => block::remove(text),
    };
    if let Ok(text) = put {
        cluster.conf.main.text = text;
    }
}

pub(super) fn configured(seen: &mut NodeObserved, configure: &Configure, major: Major) {
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
        sql.recovery_conf_loaded |= configure.effect == Effect::Restart;
        for (name, value) in &configure.settings {
            sql.settings.insert(name.clone(), setting(value, name, major));
        }
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
