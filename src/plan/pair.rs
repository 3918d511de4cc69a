//! The joint state of the nodes, classified: which of the known situations the cluster is in.
//!
//! Two questions are answered here, each by an enum with a row a state: where the writer is
//! ([`PairState`], of all nodes together), and what a standby's place holds ([`StandbyState`]). The planner
//! answers every row; a state that is not spelled out can't be classified.

use crate::observed::Cluster;
use crate::observed::Content;
use crate::observed::DataDir;
use crate::observed::Identity;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::observed::Place;
use crate::observed::Reading;
use crate::observed::comes_up_as;
use crate::pg::block;
use crate::pg::control::ControlState;
use crate::pg::lsn::Lsn;
use crate::plan::LostWal;
use crate::plan::Refusal;
use crate::plan::drift;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Role;
use crate::topology::Topology;

mod diverged;
mod elsewhere;
pub mod states;
mod two_primaries;

pub use diverged::Diverged;
pub use diverged::diverged;
pub use two_primaries::Writer;
pub use two_primaries::parted_from_another;
pub use two_primaries::two_primaries;

/// Where the writer is, and whether the node that the topology names may be it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PairState {
    /// No node has data, and no trace of any.
    NothingYet,
    /// The primary runs in its place and accepts writes.
    PrimaryRuns,
    /// The primary runs, accepts writes and carries a fence.
    Armed,
    /// The primary is stopped, would come up as a primary, and no other node can be one.
    PrimaryStopped,
    /// The primary is stopped and fenced, wrote last as a primary, and no other node can be one.
    Fenced,
    /// Another node accepts writes, armed or not.
    Elsewhere { primary: NodeName },
    /// Another node was the primary and has ended cleanly, or is ending fenced; the topology's has all of its WAL, or will.
    Ended { from: NodeName, is_fenced: bool },
    /// Another node was the primary or is about to be one, and its role can't be taken over as it is.
    LeftElsewhere { primary: NodeName, is_fenced: bool },
    /// Another node was the primary, and hangs, or may have been and is out of reach; the topology's runs as a standby.
    Lost { primary: NodeName, is_in_reach: bool, why: String },
    /// The primary is a running standby with a promote file.
    Pending,
    /// Every node is in recovery or stopped as a standby, the topology's primary too: of this one, by its files.
    AllStandbys { upstream: NodeName },
    /// Every node is in recovery, and the topology's primary has all that any of them has.
    Headless,
    /// The writer is in doubt, or not where the topology says: nothing is changed.
    Doubtful(Refusal),
    /// The primary can't be worked on: neither it nor what depends on it.
    PrimaryUnusable(Refusal),
}

/// Classifies the nodes of a cluster, taken together.
#[must_use]
pub fn classify(topology: &Topology, observed: &Observed) -> PairState {
    if let Some(refusal) = two_primaries(observed) {
        return PairState::Doubtful(refusal);
    }
    let primary = topology.primary();
    let seen = observed.node(&primary.name);
    let is_right = |cluster: &Cluster| wrong_cluster(topology, primary, cluster).is_none();
    if seen.cluster().is_some_and(is_right)
        && let Some(state) = elsewhere::classify(topology, observed)
    {
        return state;
    }
    match &seen.place {
        Reading::Unknown(why) => {
            PairState::Doubtful(Refusal::OutOfReach { node: primary.name.clone(), why: why.clone() })
        }
        Reading::Absent => PairState::Doubtful(Refusal::OutOfReach {
            node: primary.name.clone(),
            why: "its place was not looked at".into(),
        }),
        Reading::Known(place) => match &place.data_dir {
            DataDir::Absent | DataDir::Empty => without_primary_data(topology, observed, place),
            DataDir::Unfinished(found) | DataDir::Foreign(found) => PairState::PrimaryUnusable(Refusal::NotADataDir {
                node: primary.name.clone(),
                path: primary.data_dir.clone(),
                found: found.clone(),
            }),
            DataDir::Cluster(cluster) => with_primary_data(topology, observed, cluster),
        },
    }
}

/// The primary's place is empty: a copy or rewind of it as a standby was cut short, there is a new cluster to be made, or an
/// empty mount point is beside a living one.
fn without_primary_data(topology: &Topology, observed: &Observed, place: &Place) -> PairState {
    if let Some(own) = &place.made_way {
        let is_followed =
            |seen: &NodeObserved| seen.accepts_writes() && seen.cluster().is_some_and(|it| it.identity == own.identity);
        if let Some((writer, _)) = observed.nodes.iter().find(|(_, seen)| is_followed(seen)) {
            return PairState::Elsewhere { primary: writer.clone() };
        }
    }
    match no_cluster_anywhere(topology, observed) {
        Ok(()) => PairState::NothingYet,
        Err(refusal) => PairState::Doubtful(refusal),
    }
}

/// A new cluster is made only where every node was looked at and none has a trace of an old one.
///
/// # Errors
///
/// The first trace that was found.
pub fn no_cluster_anywhere(topology: &Topology, observed: &Observed) -> Result<(), Refusal> {
    let primary = &topology.primary().name;
    for (name, seen) in &observed.nodes {
        let place = match &seen.place {
            Reading::Known(place) => place,
            Reading::Unknown(why) => return Err(Refusal::OutOfReach { node: name.clone(), why: why.clone() }),
            Reading::Absent => continue,
        };
        if let Some(mount_point) = &place.unmounted {
            return Err(Refusal::Unmounted { node: name.clone(), mount_point: mount_point.clone() });
        }
        let holds = match &place.data_dir {
            DataDir::Cluster(cluster) => Some(format!("has a data directory, system identifier {}", cluster.identity)),
            DataDir::Unfinished(_) => Some("has an unfinished data directory".into()),
            DataDir::Absent | DataDir::Empty | DataDir::Foreign(_) => None,
        };
        let aside = || {
            let siblings = [(place.old, ".pgpair-old"), (place.work, ".pgpair-work")];
            siblings
                .into_iter()
                .find(|(there, _)| *there)
                .map(|(_, name)| format!("has a data directory kept aside as `{name}`"))
        };
        let wal = || {
            let waldir = topology.nodes.get(name)?.waldir.as_ref()?;
            let is_filled = match place.outside.get(waldir)?.content {
                Content::InUse | Content::Foreign => true,
                Content::Nothing | Content::LeftOver => false,
            };
            is_filled.then(|| format!("has files in its waldir, {waldir}"))
        };
        if let Some(holds) = holds.or_else(aside).or_else(wal) {
            return Err(Refusal::PrimaryMissing { primary: primary.clone(), holder: name.clone(), holds });
        }
    }
    if let Some(identifier) = topology.system_identifier {
        return Err(Refusal::Pinned { identifier });
    }
    Ok(())
}

fn with_primary_data(topology: &Topology, observed: &Observed, cluster: &Cluster) -> PairState {
    let primary = topology.primary();
    let seen = observed.node(&primary.name);
    if let Some(refusal) = wrong_cluster(topology, primary, cluster) {
        return PairState::Doubtful(refusal);
    }
    let moved =
        |found: &str| PairState::Doubtful(Refusal::RolesMoved { node: primary.name.clone(), found: found.to_owned() });
    match &seen.server {
        Reading::Unknown(why) => {
            PairState::Doubtful(Refusal::OutOfReach { node: primary.name.clone(), why: why.clone() })
        }
        Reading::Known(server) => match &server.sql {
            Reading::Known(sql) if sql.in_recovery => moved("is in recovery"),
            Reading::Known(_) if comes_up_as(&cluster.markers, cluster.major) == Role::Standby => PairState::Armed,
            Reading::Known(_) => PairState::PrimaryRuns,
            Reading::Unknown(why) => {
                PairState::Doubtful(Refusal::NoAnswer { node: primary.name.clone(), why: why.clone() })
            }
            Reading::Absent => {
                PairState::Doubtful(Refusal::NoAnswer { node: primary.name.clone(), why: "it was not asked".into() })
            }
        },
        Reading::Absent => {
            if comes_up_as(&cluster.markers, cluster.major) == Role::Standby || cluster.markers.recovery_signal {
                return moved("is stopped and has standby files");
            }
            if cluster.state.was_standby() {
                return moved("was last written by a standby, and its standby files are gone");
            }
            // A copy that never ran, and a primary that was superseded, get their standby files before anything starts.
            let gets_files = |other: &NodeObserved| {
                let copy = other.cluster().filter(|copy| comes_up_as(&copy.markers, copy.major) == Role::Primary);
                other.server.is_absent()
                    && copy.is_some_and(|copy| needs_standby_files(copy) || is_further(seen, other))
            };
            match others_are_safe(topology, observed, |other| !gets_files(other)) {
                Ok(()) => PairState::PrimaryStopped,
                Err(refusal) => PairState::Doubtful(refusal),
            }
        }
    }
}

/// Whether a data directory is not what the topology's pin and the block in its files say.
fn wrong_cluster(topology: &Topology, node: &Node, cluster: &Cluster) -> Option<Refusal> {
    let pinned = topology.system_identifier;
    if let Some(pinned) = pinned.filter(|pinned| cluster.identity != Identity::Known(*pinned)) {
        return Some(Refusal::PinDiffers { node: node.name.clone(), found: cluster.identity.clone(), pinned });
    }
    if cluster.major != topology.postgresql.version {
        return Some(Refusal::MajorDiffers {
            node: node.name.clone(),
            found: cluster.major.number(),
            expected: topology.postgresql.version.number(),
        });
    }
    other_clusters_block(topology, node, cluster)
}

/// Whether a block in the node's files was written for another cluster.
#[must_use]
pub fn other_clusters_block(topology: &Topology, node: &Node, cluster: &Cluster) -> Option<Refusal> {
    let files = [("postgresql.conf", &cluster.conf.main.text), ("pg_hba.conf", &cluster.hba)];
    files.into_iter().find_map(|(file, text)| {
        let (cluster, _) = block::owner(text).ok().flatten()?;
        (cluster != topology.cluster).then(|| Refusal::OtherClustersBlock {
            node: node.name.clone(),
            file: file.to_owned(),
            cluster: cluster.to_owned(),
        })
    })
}

/// Whether the stopped primary may be started: no other node is one, or could become one.
///
/// # Errors
///
/// The first node that is not safe (protocol, section 1).
pub fn may_start_primary(topology: &Topology, observed: &Observed) -> Result<(), Refusal> {
    others_are_safe(topology, observed, |_| true)
}

fn others_are_safe(
    topology: &Topology,
    observed: &Observed,
    counts: impl Fn(&NodeObserved) -> bool,
) -> Result<(), Refusal> {
    let primary = topology.primary();
    let Some(cluster) = observed.node(&primary.name).cluster() else { return Ok(()) };
    let others = observed.nodes.iter().filter(|(name, seen)| **name != primary.name && counts(seen));
    others.into_iter().try_for_each(|(name, seen)| is_safe(name, seen, cluster))
}

/// Whether it was seen that a node can't accept writes of this cluster.
///
/// # Errors
///
/// Why it may (protocol, section 1).
pub fn is_safe(name: &NodeName, seen: &NodeObserved, primary: &Cluster) -> Result<(), Refusal> {
    let moved = |found: &str| Err(Refusal::RolesMoved { node: name.clone(), found: found.to_owned() });
    if seen.confirmed_dead {
        return Ok(());
    }
    let place = match &seen.place {
        Reading::Known(place) => place,
        Reading::Unknown(why) => return Err(Refusal::OutOfReach { node: name.clone(), why: why.clone() }),
        Reading::Absent => return Ok(()),
    };
    let DataDir::Cluster(other) = &place.data_dir else {
        // An empty folder may be an unmounted disk, with a promoted standby on it.
        return match &place.unmounted {
            Some(mount_point) => Err(Refusal::Unmounted { node: name.clone(), mount_point: mount_point.clone() }),
            // What pgpair itself was rewinding is never started, and its configuration lies beside it.
            None if place.work && place.made_way.is_none() => {
                let why = format!("{name} has a data directory kept aside as `.pgpair-work`");
                Err(Refusal::NotReadyUntil {
                    why,
                    remedy: "find out what it is, and move it back or away by hand".into(),
                })
            }
            None => Ok(()),
        };
    };
    if other.identity != primary.identity {
        return Ok(());
    }
    let running = seen.sql().map(|sql| sql.timeline);
    if Some(other.newest_timeline()).max(running) > Some(primary.newest_timeline()) {
        return moved("is on a newer timeline than the primary: another server was promoted");
    }
    match &seen.server {
        Reading::Unknown(why) => Err(Refusal::OutOfReach { node: name.clone(), why: why.clone() }),
        Reading::Known(server) => match &server.sql {
            Reading::Known(sql) if !sql.in_recovery => moved("accepts writes"),
            Reading::Known(_) if other.markers.promote => moved("is about to be promoted"),
            Reading::Known(_) => Ok(()),
            Reading::Unknown(why) => Err(Refusal::NoAnswer { node: name.clone(), why: why.clone() }),
            Reading::Absent => Err(Refusal::NoAnswer { node: name.clone(), why: "it was not asked".into() }),
        },
        Reading::Absent if comes_up_as(&other.markers, other.major) == Role::Standby => Ok(()),
        Reading::Absent if needs_standby_files(other) => {
            Err(Refusal::NotReady { why: format!("{name} has a copy of the cluster without standby files") })
        }
        Reading::Absent => Err(Refusal::FormerPrimary { node: name.clone() }),
    }
}

/// Refuses a candidate for promotion that lacks WAL of the cluster which this node has, or of which that can't be told.
///
/// # Errors
///
/// [`Refusal::Behind`] or [`Refusal::NoProof`].
pub fn has_no_more_than(
    name: &NodeName,
    seen: &NodeObserved,
    candidate: &NodeName,
    position: Lsn,
) -> Result<(), Refusal> {
    let end = match &seen.server {
        Reading::Absent => seen.cluster().and_then(|own| own.end),
        Reading::Known(_) | Reading::Unknown(_) => seen.sql().map(|sql| sql.lsn),
    };
    let (other, candidate) = (name.clone(), candidate.clone());
    match end.map(|end| end.0.saturating_sub(position.0)) {
        Some(0) => Ok(()),
        Some(missing) => Err(Refusal::Behind { candidate, other, missing }),
        None => Err(Refusal::NoProof { old: other, candidate }),
    }
}

/// Whether a server that does not answer was a primary by its pg_control, and is not on its way down.
#[must_use]
pub fn hangs(seen: &NodeObserved) -> bool {
    let is_silent = seen.server.known().is_some_and(|server| server.sql.known().is_none());
    is_silent && seen.cluster().is_some_and(|own| own.state == ControlState::InProduction)
}

/// Whether a node knows of a newer timeline than the primary: another server was promoted.
#[must_use]
pub fn is_further(other: &NodeObserved, primary: &NodeObserved) -> bool {
    let of_files = |seen: &NodeObserved| seen.cluster().map(Cluster::newest_timeline);
    let newest = |seen: &NodeObserved| of_files(seen).max(seen.sql().map(|sql| sql.timeline));
    newest(other) > newest(primary)
}

/// Whether a data directory is a finished clone that no server ever ran on: pg_basebackup copies no postmaster.opts.
#[must_use]
pub fn is_fresh_clone(cluster: &Cluster) -> bool {
    !cluster.markers.postmaster_opts && comes_up_as(&cluster.markers, cluster.major) == Role::Standby
}

/// Whether a standby needs WAL that its upstream no longer has, and how that was seen.
///
/// Never on suspicion: one that receives something, that can take WAL from an archive, or that has not yet replayed
/// all that it has, may still catch up.
#[must_use]
pub fn lost_wal(topology: &Topology, observed: &Observed, standby: &Node) -> Option<LostWal> {
    let upstream = topology.upstream(standby);
    let (seen, source) = (observed.node(&standby.name), observed.node(&upstream.name).cluster()?);
    let own = seen.cluster().filter(|own| own.identity == source.identity && own.markers.postmaster_opts)?;
    if drift::restores_from_archive(topology, standby, seen) {
        return None;
    }
    let oldest = source.wal?.oldest;
    let lost_from = |at: Lsn| (at < oldest).then_some(LostWal::From(at));
    match &seen.server {
        Reading::Known(server) => match &server.sql {
            Reading::Known(sql) if sql.in_recovery && sql.receiver.is_none() => lost_from(sql.asks_from?),
            Reading::Known(_) | Reading::Absent | Reading::Unknown(_) => None,
        },
        Reading::Absent => {
            let name = standby.slot_name();
            let is_lost = source.slots.get(&name).is_some_and(|slot| slot.wal_status.as_deref() == Some("lost"));
            // A slot can be lost by an idle timeout too (18), and the WAL be there.
            let by_slot = (is_lost && own.checkpoint < oldest).then_some(LostWal::Slot(name));
            own.wal.and_then(|wal| lost_from(wal.end)).or(by_slot)
        }
        Reading::Unknown(_) => None,
    }
}

/// Whether a stopped data directory without standby files is a copy or a standby, by its own files: then it must
/// never be started without them.
#[must_use]
pub fn needs_standby_files(cluster: &Cluster) -> bool {
    cluster.markers.backup_label || cluster.state.was_standby()
}

/// What is in the place of a standby.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StandbyState {
    /// Nothing; a clone can be made.
    NoData,
    /// A data directory that nobody can start.
    Unfinished(String),
    /// A stopped data directory of another cluster.
    OtherCluster(Identity),
    /// A copy of this cluster without the files that make it a standby, stopped.
    WithoutStandbyFiles,
    /// A stopped primary without a fence; another node was promoted since.
    Superseded,
    /// A stopped standby of this cluster.
    Stopped,
    /// A running standby of this cluster.
    Runs,
    /// The node can't be worked on.
    Unusable(Refusal),
    /// What is here makes the primary itself doubtful: nothing is changed anywhere.
    Doubtful(Refusal),
}

/// Classifies what is in the place of a standby of the cluster `identity`.
#[must_use]
pub fn classify_standby(topology: &Topology, observed: &Observed, standby: &Node, identity: &Identity) -> StandbyState {
    let node = standby.name.clone();
    let seen = observed.node(&standby.name);
    let place = match &seen.place {
        Reading::Known(place) => place,
        Reading::Unknown(why) => return StandbyState::Unusable(Refusal::OutOfReach { node, why: why.clone() }),
        Reading::Absent => return StandbyState::NoData,
    };
    let cluster = match &place.data_dir {
        DataDir::Absent | DataDir::Empty => return StandbyState::NoData,
        DataDir::Unfinished(found) => return StandbyState::Unfinished(found.clone()),
        DataDir::Foreign(found) => {
            let path = standby.data_dir.clone();
            return StandbyState::Unusable(Refusal::NotADataDir { node, path, found: found.clone() });
        }
        DataDir::Cluster(cluster) => cluster,
    };
    if cluster.identity != *identity {
        return of_other_cluster(topology, seen, node, cluster, identity);
    }
    if let Some(refusal) = other_clusters_block(topology, standby, cluster) {
        return StandbyState::Unusable(refusal);
    }
    match &seen.server {
        Reading::Unknown(why) => StandbyState::Unusable(Refusal::OutOfReach { node, why: why.clone() }),
        Reading::Known(server) => match &server.sql {
            Reading::Known(sql) if sql.in_recovery => StandbyState::Runs,
            Reading::Known(_) => StandbyState::Doubtful(Refusal::RolesMoved { node, found: "accepts writes".into() }),
            Reading::Unknown(why) => StandbyState::Unusable(Refusal::NoAnswer { node, why: why.clone() }),
            Reading::Absent => StandbyState::Unusable(Refusal::NoAnswer { node, why: "it was not asked".into() }),
        },
        Reading::Absent => {
            if comes_up_as(&cluster.markers, cluster.major) == Role::Standby {
                StandbyState::Stopped
            } else if needs_standby_files(cluster) {
                StandbyState::WithoutStandbyFiles
            } else if is_further(observed.node(&topology.primary().name), seen) {
                StandbyState::Superseded
            } else {
                StandbyState::Unusable(Refusal::FormerPrimary { node })
            }
        }
    }
}

fn of_other_cluster(
    topology: &Topology,
    seen: &NodeObserved,
    node: NodeName,
    cluster: &Cluster,
    expected: &Identity,
) -> StandbyState {
    let (found, expected) = (cluster.identity.clone(), expected.clone());
    let claims = [&cluster.conf.main.text, &cluster.hba]
        .into_iter()
        .any(|text| block::owner(text).ok().flatten().is_some_and(|(cluster, _)| cluster == topology.cluster));
    if claims {
        return StandbyState::Doubtful(Refusal::ClaimsThisCluster { node, found, expected });
    }
    match &seen.server {
        Reading::Absent => StandbyState::OtherCluster(found),
        Reading::Known(_) => StandbyState::Unusable(Refusal::OtherClusterRuns { node, found, expected }),
        Reading::Unknown(why) => StandbyState::Unusable(Refusal::OutOfReach { node, why: why.clone() }),
    }
}
