//! New data directories: a primary made by initdb, and clones.

use std::collections::BTreeMap;

use crate::observed::Cluster;
use crate::observed::Content;
use crate::observed::DataDir;
use crate::observed::Identity;
use crate::observed::Markers;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::observed::Passfile;
use crate::observed::Place;
use crate::observed::Reading;
use crate::pg::block;
use crate::pg::conf::ConfFile;
use crate::pg::conf::ConfFiles;
use crate::pg::control::ControlState;
use crate::pg::lsn::Lsn;
use crate::pg::lsn::Timeline;
use crate::pg::version::Major;
use crate::plan::CloneFrom;
use crate::plan::Configuration;
use crate::plan::CreatePrimary;
use crate::plan::PassfileEntry;
use crate::plan::Rewind;
use crate::plan::desired;
use crate::plan::predict::files::mark;
use crate::topology::Node;

pub(super) fn created(seen: &mut NodeObserved, create: &CreatePrimary, node: &Node, major: Major) {
    let Some(place) = seen.place.known_mut() else { return };
    fill(place, create.waldir.iter().map(String::as_str));
    place.data_dir = DataDir::Cluster(Box::new(Cluster {
        major,
        identity: Identity::CreatedOn(node.name.clone()),
        state: ControlState::ShutDown,
        timeline: Timeline(1),
        checkpoint: Lsn(0),
        checksums: create.options.iter().any(|(name, _)| name == "data-checksums"),
        wal_log_hints: false,
        floors: BTreeMap::new(),
        end: None,
        end_timeline: None,
        newest_history: None,
        branches: Vec::new(),
        beginnings: BTreeMap::new(),
        lost: None,
        wal: None,
        wrong_access: None,
        markers: Markers::default(),
        conf: ConfFiles {
            main: ConfFile { path: "postgresql.conf".into(), text: create.conf.text(), includes: Vec::new() },
            auto: None,
            replaced: None,
        },
        hba: create.hba.text(),
        passfile: passfile(&create.passfile),
        replication_role: Reading::Unknown("the server is stopped".into()),
        slots: BTreeMap::new(),
        waldir: create.waldir.clone(),
        tablespaces: BTreeMap::new(),
    }));
}

/// Half a copy that a killed run left is removed before whatever else is done on the node.
pub(super) fn leftovers_go(seen: &mut NodeObserved) {
    let Some(place) = seen.place.known_mut() else { return };
    place.new = false;
    for outside in place.outside.values_mut().filter(|outside| outside.content == Content::LeftOver) {
        outside.content = Content::Nothing;
    }
}

/// Folders outside the data directory are moved into place with it; what a replaced one had there is kept aside.
fn fill<'f>(place: &mut Place, folders: impl Iterator<Item = &'f str>) {
    for folder in folders {
        if let Some(outside) = place.outside.get_mut(folder) {
            outside.old |= outside.content == Content::InUse;
            outside.content = Content::InUse;
        }
    }
}

pub(super) fn passfile(entries: &[PassfileEntry]) -> Passfile {
    if entries.is_empty() { Passfile::Absent } else { Passfile::Right }
}

pub(super) fn cloned(observed: &mut Observed, node: &Node, clone: &CloneFrom) {
    let Some(from) = observed.node_mut(&clone.source).cluster_mut() else { return };
    // It has a slot for each of its followers, and a copy gets none of them.
    let slots = std::mem::take(&mut from.slots);
    let source = from.clone();
    from.slots = slots;
    let Some(place) = observed.node_mut(&node.name).place.known_mut() else { return };
    let own = match &place.data_dir {
        DataDir::Cluster(own) => Some((own.conf.clone(), own.hba.clone(), own.passfile)),
        DataDir::Absent | DataDir::Empty | DataDir::Unfinished(_) | DataDir::Foreign(_) => {
            place.made_way.take().map(|own| (own.conf, own.hba, own.passfile))
        }
    };
    place.work = false;
    place.old |= clone.replaces.is_some() && matches!(place.data_dir, DataDir::Cluster(_) | DataDir::Unfinished(_));
    fill(place, clone.outside());
    let mut cluster = Cluster {
        waldir: clone.waldir.clone(),
        tablespaces: source
            .tablespaces
            .iter()
            .filter_map(|(link, folder)| Some((link.clone(), clone.tablespaces.get(folder)?.clone())))
            .collect(),
        markers: Markers { backup_label: true, ..Markers::default() },
        // pg_control is copied as it is while the source runs.
        state: ControlState::InProduction,
        slots: BTreeMap::new(),
        end: None,
        end_timeline: None,
        lost: None,
        wal: None,
        wrong_access: None,
        replication_role: Reading::Unknown("the server is stopped".into()),
        ..source
    };
    match (&clone.configuration, own) {
        (Configuration::OfSource { conf, hba, passfile: entries }, _) => {
            cluster.passfile = passfile(entries);
            if let Ok(text) = block::put_last(&cluster.conf.main.text, conf) {
                cluster.conf.main.text = text;
            }
            if let Some(auto) = &mut cluster.conf.auto {
                auto.text = desired::auto_conf_of_clone(&auto.text, conf);
            }
            cluster.hba = block::put_before_rules(&cluster.hba, hba).unwrap_or_else(|_| hba.text());
        }
        (Configuration::Kept(_), Some(own)) => {
            (cluster.conf, cluster.hba, cluster.passfile) = own;
        }
        (Configuration::Kept(_), None) => {}
    }
    cluster.conf.replaced = None;
    mark(&mut cluster.markers, clone.recovery_conf.as_ref());
    place.data_dir = DataDir::Cluster(Box::new(cluster));
}

/// The node has what the source has, and its own configuration.
pub(super) fn rewound(observed: &mut Observed, node: &Node, rewind: &Rewind) {
    let source = observed.node(&rewind.source);
    let Some((theirs, running)) = source.cluster().cloned().zip(source.sql().map(|sql| (sql.lsn, sql.timeline))) else {
        return;
    };
    let Some(place) = observed.node_mut(&node.name).place.known_mut() else { return };
    place.old = true;
    let DataDir::Cluster(own) = &mut place.data_dir else { return };
    let (lsn, timeline) = running;
    (own.end, own.end_timeline, own.timeline) = (Some(lsn), Some(timeline), timeline);
    (own.newest_history, own.branches, own.beginnings) = (theirs.newest_history, theirs.branches, theirs.beginnings);
    (own.wal, own.floors, own.checkpoint) = (theirs.wal, theirs.floors, theirs.checkpoint);
    own.state = ControlState::InArchiveRecovery;
    own.lost = None;
    own.conf.replaced = None;
    own.slots.clear();
    own.markers = Markers { backup_label: true, postmaster_opts: own.markers.postmaster_opts, ..Markers::default() };
    mark(&mut own.markers, None);
}
