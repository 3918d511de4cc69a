//! The one predicate: whether the goal of an action is reached, may be worked towards, or must not be.
//!
//! It is asked three times over: by the planner in the predicted world, by the executor before a step in the real
//! one (is it needed still, and does the world look as planned?), and after it (was the goal reached?). It proves
//! the cause and not the symptom, and whatever is unsafe is refused here, so that plan and executor can't disagree.
//! `predict` says beside it what an action makes of the world.

use std::collections::BTreeMap;

use crate::observed::Cluster;
use crate::observed::DataDir;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::observed::Passfile;
use crate::observed::Place;
use crate::observed::Reading;
use crate::observed::ReplicationRole;
use crate::observed::Sql;
use crate::observed::Verifier;
use crate::observed::comes_up_as;
use crate::pg::block;
use crate::pg::block::Block;
use crate::pg::version::StandbyMode;
use crate::plan::Action;
use crate::plan::CloneFrom;
use crate::plan::Configure;
use crate::plan::CreatePrimary;
use crate::plan::Digest;
use crate::plan::Effect;
use crate::plan::Refusal;
use crate::plan::Replaced;
use crate::plan::WantedRole;
use crate::plan::desired;
use crate::plan::drift;
use crate::plan::pair;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Role;
use crate::topology::Topology;

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The goal is reached.
    Satisfied,
    /// The goal is not reached, and the step may be done.
    Ready,
    /// The step must not be done.
    Blocked(Refusal),
}

/// Walsenders that pg_basebackup takes with its WAL streamed beside the files.
const SENDERS_OF_A_CLONE: usize = 2;

/// Judges an action on a node of the topology in a world, real or predicted.
#[must_use]
pub fn check(node: &NodeName, action: &Action, topology: &Topology, observed: &Observed) -> Check {
    let at = At { topology, observed, node: &topology.nodes[node], seen: observed.node(node) };
    let result = match action {
        Action::CreatePrimary(create) => at.create_primary(create),
        Action::Clone(clone) => at.clone_from(clone),
        Action::StandbyFiles(_) => at.standby_files(),
        Action::Configure(configure) => at.configure(configure),
        Action::Hba { block, before } => at.hba(block, before),
        Action::Passfile { .. } => at.passfile(),
        Action::Start { role } => at.start(*role),
        Action::ReplicationRole(wanted) => at.replication_role(wanted),
        Action::Slot { name, reserve } => at.slot(name, *reserve),
        Action::DropSlot { name } => at.drop_slot(name),
        Action::Streaming { upstream } => at.streaming(upstream),
        Action::RemoveOld => at.remove_old(),
    };
    match result {
        Ok(true) => Check::Satisfied,
        Ok(false) => Check::Ready,
        Err(refusal) => Check::Blocked(refusal),
    }
}

/// Whether a server can start on the data directory of a stopped node, as far as its machine goes.
///
/// # Errors
///
/// What keeps it from starting, which no step of a plan removes: then nothing is to be done to its files either.
pub fn can_start(node: &Node, topology: &Topology, observed: &Observed) -> Result<(), Refusal> {
    let at = At { topology, observed, node, seen: observed.node(&node.name) };
    at.cluster().and_then(|cluster| at.can_start(cluster))
}

/// Whether the goal is reached; an error where it is not and must not be worked towards.
type Verdict = Result<bool, Refusal>;

/// A node in a world.
struct At<'a> {
    topology: &'a Topology,
    observed: &'a Observed,
    node: &'a Node,
    seen: &'a NodeObserved,
}

impl<'a> At<'a> {
    fn name(&self) -> NodeName {
        self.node.name.clone()
    }

    fn not_ready(&self, why: &str) -> Refusal {
        Refusal::NotReady { why: format!("{} {why}", self.node.name) }
    }

    fn place(&self) -> Result<&'a Place, Refusal> {
        let out_of_reach = |why: &str| Refusal::OutOfReach { node: self.name(), why: why.to_owned() };
        match &self.seen.place {
            Reading::Known(place) => Ok(place),
            Reading::Absent => Err(out_of_reach("its place was not looked at")),
            Reading::Unknown(why) => Err(out_of_reach(why)),
        }
    }

    fn cluster(&self) -> Result<&'a Cluster, Refusal> {
        self.place()?;
        self.seen.cluster().ok_or_else(|| self.not_ready("has no data directory"))
    }

    fn sql(&self) -> Result<&'a Sql, Refusal> {
        let server = self.seen.server.known().ok_or_else(|| self.not_ready("is not running"))?;
        match &server.sql {
            Reading::Known(sql) => Ok(sql),
            Reading::Unknown(why) => Err(Refusal::NoAnswer { node: self.name(), why: why.clone() }),
            Reading::Absent => Err(Refusal::NoAnswer { node: self.name(), why: "it was not asked".into() }),
        }
    }

    /// No server runs here, seen for certain.
    fn stopped(&self) -> Result<(), Refusal> {
        match &self.seen.server {
            Reading::Absent => Ok(()),
            Reading::Known(_) => Err(self.not_ready("is running")),
            Reading::Unknown(why) => Err(Refusal::OutOfReach { node: self.name(), why: why.clone() }),
        }
    }

    /// The server accepts writes.
    fn writes(&self) -> Result<&'a Sql, Refusal> {
        let sql = self.sql()?;
        if sql.in_recovery { Err(self.not_ready("is in recovery")) } else { Ok(sql) }
    }

    fn binaries(&self) -> Result<(), Refusal> {
        let unusable = |why: String| Err(Refusal::Binaries { node: self.name(), why });
        let wanted = self.topology.postgresql.version;
        match &self.seen.binaries {
            Reading::Known(binaries) if binaries.major == wanted => Ok(()),
            Reading::Known(binaries) => unusable(format!(
                "{} has PostgreSQL {}, the topology says {wanted}",
                binaries.bin_dir, binaries.version
            )),
            Reading::Absent => unusable("there are none".into()),
            Reading::Unknown(why) => unusable(why.clone()),
        }
    }

    fn port_is_free(&self) -> Result<(), Refusal> {
        match &self.seen.port_taken {
            Reading::Absent => Ok(()),
            Reading::Known(by) => Err(Refusal::PortTaken { node: self.name(), port: self.node.port, by: by.clone() }),
            Reading::Unknown(why) => Err(Refusal::OutOfReach { node: self.name(), why: why.clone() }),
        }
    }

    /// A data directory can be made here: the disk is there, nothing is kept aside, the folder can be written.
    fn can_make_data_dir(&self) -> Result<(), Refusal> {
        let place = self.place()?;
        if let Some(mount_point) = &place.unmounted {
            return Err(Refusal::Unmounted { node: self.name(), mount_point: mount_point.clone() });
        }
        if place.work {
            return Err(self.not_ready("has a data directory kept aside as `.pgpair-work`"));
        }
        match &place.not_writable {
            Some(why) => Err(Refusal::NotWritable { node: self.name(), why: why.clone() }),
            None => Ok(()),
        }
    }

    fn create_primary(&self, create: &CreatePrimary) -> Verdict {
        if let DataDir::Cluster(cluster) = &self.place()?.data_dir {
            if has_block(&cluster.conf.main.text, &create.conf) && drift::has_rules(&cluster.hba, &create.hba) {
                return Ok(true);
            }
            return Err(self.not_ready("has a data directory already"));
        }
        pair::no_cluster_anywhere(self.topology, self.observed)?;
        if let DataDir::Foreign(found) | DataDir::Unfinished(found) = &self.place()?.data_dir {
            let (node, path) = (self.name(), self.node.data_dir.clone());
            return Err(Refusal::NotADataDir { node, path, found: found.clone() });
        }
        self.binaries()?;
        self.can_make_data_dir()?;
        self.port_is_free()?;
        Ok(false)
    }

    fn clone_from(&self, clone: &CloneFrom) -> Verdict {
        let source = At { node: &self.topology.nodes[&clone.source], seen: self.observed.node(&clone.source), ..*self };
        let identity = &source.cluster()?.identity;
        if let DataDir::Cluster(cluster) = &self.place()?.data_dir {
            let is_standby = comes_up_as(&cluster.markers, cluster.major) == Role::Standby;
            if cluster.identity == *identity && is_standby && has_block(&cluster.conf.main.text, &clone.conf) {
                return Ok(true);
            }
        }
        self.replaces(clone.replaces.as_ref())?;
        self.stopped()?;
        self.binaries()?;
        self.basebackup()?;
        self.can_make_data_dir()?;
        self.port_is_free()?;
        source.feeds(self.node, clone.slot.as_deref())?;
        Ok(false)
    }

    /// What is in the way of a clone is just what was planned to be replaced.
    fn replaces(&self, planned: Option<&Replaced>) -> Result<(), Refusal> {
        match (&self.place()?.data_dir, planned) {
            (DataDir::Absent | DataDir::Empty, _) => Ok(()),
            (DataDir::Unfinished(_), Some(Replaced::Unfinished)) => Ok(()),
            (DataDir::Cluster(cluster), Some(Replaced::Cluster(identity))) if cluster.identity == *identity => Ok(()),
            (DataDir::Unfinished(_) | DataDir::Cluster(_), _) => {
                Err(self.not_ready("has another data directory than the one that was to be replaced"))
            }
            (DataDir::Foreign(found), _) => {
                Err(Refusal::NotADataDir { node: self.name(), path: self.node.data_dir.clone(), found: found.clone() })
            }
        }
    }

    fn basebackup(&self) -> Result<(), Refusal> {
        let unusable = |why: String| Err(Refusal::Binaries { node: self.name(), why });
        let wanted = self.topology.postgresql.version;
        match self.seen.binaries.known().map(|binaries| &binaries.basebackup) {
            Some(Reading::Known(program)) if program.major >= wanted.number() => Ok(()),
            Some(Reading::Known(program)) => {
                unusable(format!("{} is of {}, older than the server", program.path, program.major))
            }
            Some(Reading::Unknown(why)) => unusable(why.clone()),
            Some(Reading::Absent) | None => unusable(format!("there is no pg_basebackup of {wanted} or later")),
        }
    }

    /// This node runs and can serve a clone of `target`: role, rules, slot and walsenders are there.
    fn feeds(&self, target: &Node, slot: Option<&str>) -> Result<(), Refusal> {
        let sql = self.sql()?;
        let cluster = self.cluster()?;
        match &cluster.replication_role {
            Reading::Known(role) if can_replicate(role) => {}
            Reading::Known(_) | Reading::Absent => return Err(self.not_ready("has no replication role yet")),
            Reading::Unknown(why) => {
                return Err(self.not_ready(&format!("may have no replication role: {why}")));
            }
        }
        if drift::rules(self.topology, self.node, cluster)?.is_some() || !sql.hba_loaded {
            return Err(self.not_ready("does not admit its standbys yet"));
        }
        if let Some(name) = slot {
            let slot = cluster.slots.get(name).filter(|slot| slot.physical);
            if !slot.is_some_and(|slot| slot.reserved || slot.active) {
                return Err(self.not_ready(&format!("has no slot {name} that keeps WAL for {}", target.name)));
            }
        }
        let most = sql.settings.get("max_wal_senders").and_then(|setting| setting.value.parse::<usize>().ok());
        let busy = sql.senders.len();
        if most.is_some_and(|most| busy + SENDERS_OF_A_CLONE > most) {
            return Err(self.not_ready(&format!(
                "has {busy} walsenders busy and max_wal_senders leaves less than the {SENDERS_OF_A_CLONE} that a clone takes"
            )));
        }
        Ok(())
    }

    fn standby_files(&self) -> Verdict {
        let cluster = self.cluster()?;
        if self.is_marked(cluster) {
            return Ok(true);
        }
        self.stopped()?;
        Ok(false)
    }

    /// The standby files are there, and say what the topology says (10, 11: recovery.conf is the whole of it).
    fn is_marked(&self, cluster: &Cluster) -> bool {
        let recovery_conf_holds = match self.topology.postgresql.version.dialect().standby_mode {
            StandbyMode::SignalFile => true,
            StandbyMode::RecoveryConf => {
                let text = cluster.markers.recovery_conf.as_deref();
                text.is_some_and(|text| desired::recovery_conf_holds(self.topology, self.node, text))
            }
        };
        comes_up_as(&cluster.markers, cluster.major) == Role::Standby && recovery_conf_holds
    }

    fn configure(&self, configure: &Configure) -> Verdict {
        let cluster = self.cluster()?;
        let has_block = match &configure.block {
            Some(block) => has_block(&cluster.conf.main.text, block),
            None => block::find(&cluster.conf.main.text) == Ok(None),
        };
        let values = cluster.conf.read().map_err(|problem| Refusal::BadConf { node: self.name(), problem })?.values;
        let in_file = has_block && drift::file_holds(self.topology, self.node, &configure.settings, &values);
        if !in_file && Digest::of(&cluster.conf.main.text) != configure.before {
            return Err(Refusal::FileChanged { node: self.name(), file: "postgresql.conf".into() });
        }
        match configure.effect {
            Effect::AtStart => {
                if !in_file {
                    self.stopped()?;
                }
                Ok(in_file)
            }
            Effect::Reload | Effect::Restart => {
                let sql = self.sql()?;
                self.keeps_the_floors()?;
                let is_read = sql.conf_loaded || configure.block.is_none();
                Ok(in_file && is_read && drift::is_in_force(self.topology, self.node, &configure.settings, sql))
            }
        }
    }

    /// No standby gets less of a parameter than the running primary has, and the primary no more than a running standby.
    fn keeps_the_floors(&self) -> Result<(), Refusal> {
        let primary = self.topology.primary();
        let Some(running) = self.observed.node(&primary.name).sql().filter(|sql| !sql.in_recovery) else {
            return Ok(());
        };
        if self.node.role == Role::Standby {
            if let Some((name, value)) = drift::too_low(self.topology, self.node, running) {
                let why = format!("must not have less {name} than {}, which runs with {value}", primary.name);
                return Err(self.not_ready(&why));
            }
            return match drift::not_replayed(self.topology, self.node, self.cluster()?) {
                Some((name, value)) => {
                    Err(self
                        .not_ready(&format!("has not replayed yet that {} has less {name} than {value}", primary.name)))
                }
                None => Ok(()),
            };
        }
        let standbys = self.topology.standbys().filter_map(|standby| {
            let sql = self.observed.node(&standby.name).sql().filter(|sql| sql.in_recovery)?;
            let (name, value) = drift::too_high(self.topology, self.node, sql)?;
            Some(self.not_ready(&format!("must not have more {name} than {}, which runs with {value}", standby.name)))
        });
        standbys.into_iter().next().map_or(Ok(()), Err)
    }

    fn hba(&self, block: &Block, before: &Digest) -> Verdict {
        let cluster = self.cluster()?;
        let in_file = drift::has_rules(&cluster.hba, block);
        if !in_file && Digest::of(&cluster.hba) != *before {
            return Err(Refusal::FileChanged { node: self.name(), file: "pg_hba.conf".into() });
        }
        match &self.seen.server {
            Reading::Absent => Ok(in_file),
            Reading::Known(_) => Ok(self.sql()?.hba_loaded && in_file),
            Reading::Unknown(why) => Err(Refusal::OutOfReach { node: self.name(), why: why.clone() }),
        }
    }

    fn passfile(&self) -> Verdict {
        let cluster = self.cluster()?;
        match cluster.passfile {
            Passfile::Right => Ok(true),
            Passfile::Absent | Passfile::Wrong | Passfile::NotCompared if drift::uses_passfile(self.node, cluster) => {
                Ok(false)
            }
            Passfile::Absent | Passfile::Wrong | Passfile::NotCompared => {
                Err(self.not_ready("has no use for a passfile of pgpair's yet"))
            }
        }
    }

    fn start(&self, role: Role) -> Verdict {
        let cluster = self.cluster()?;
        if !self.seen.server.is_absent() {
            let sql = self.sql()?;
            return match (role, sql.in_recovery) {
                (Role::Primary, false) | (Role::Standby, true) => Ok(true),
                (Role::Primary, true) => Err(self.not_ready("is in recovery")),
                (Role::Standby, false) => {
                    Err(Refusal::RolesMoved { node: self.name(), found: "accepts writes".into() })
                }
            };
        }
        self.can_start(cluster)?;
        let comes_up_as = comes_up_as(&cluster.markers, cluster.major);
        match role {
            Role::Primary => {
                // Without its standby files, a standby's directory comes up as a second primary on the same timeline.
                if comes_up_as == Role::Standby || pair::needs_standby_files(cluster) || cluster.markers.recovery_signal
                {
                    return Err(Refusal::RolesMoved { node: self.name(), found: "is a standby by its files".into() });
                }
                pair::may_start_primary(self.topology, self.observed)?;
            }
            Role::Standby => {
                if !self.is_marked(cluster) {
                    return Err(self.not_ready("has no standby files"));
                }
                if let Some((name, floor)) = drift::below_floor(cluster) {
                    return Err(self.not_ready(&format!(
                        "would not come up: {name} is less in its files than {floor}, with which its primary last ran"
                    )));
                }
                let primary = self.observed.node(&self.topology.primary().name);
                if !primary.cluster().is_some_and(|primary| primary.identity == cluster.identity) {
                    return Err(self.not_ready("is no standby of the primary's cluster"));
                }
            }
        }
        Ok(false)
    }

    /// Programs, access and port let a server start on this data directory, whatever is in it.
    fn can_start(&self, cluster: &Cluster) -> Result<(), Refusal> {
        self.binaries()?;
        if cluster.major != self.topology.postgresql.version {
            let (found, expected) = (cluster.major.number(), self.topology.postgresql.version.number());
            return Err(Refusal::MajorDiffers { node: self.name(), found, expected });
        }
        if let Some(why) = &cluster.wrong_access {
            return Err(Refusal::WrongAccess { node: self.name(), why: why.clone() });
        }
        self.port_is_free()
    }

    fn replication_role(&self, wanted: &WantedRole) -> Verdict {
        let done = match &self.cluster()?.replication_role {
            Reading::Known(role) => role_is_as(role, wanted),
            Reading::Absent | Reading::Unknown(_) => false,
        };
        if !done {
            self.writes()?;
        }
        Ok(done)
    }

    fn slot(&self, name: &str, reserve: bool) -> Verdict {
        let cluster = self.cluster()?;
        self.sql()?;
        match cluster.slots.get(name) {
            None => Ok(false),
            Some(slot) if !slot.physical => {
                Err(self.not_ready(&format!("has a logical slot {name}, and a physical one is needed")))
            }
            Some(slot) => Ok(!reserve || slot.reserved || slot.active),
        }
    }

    fn drop_slot(&self, name: &str) -> Verdict {
        let cluster = self.cluster()?;
        self.sql()?;
        match cluster.slots.get(name) {
            None => Ok(true),
            Some(slot) if slot.active => Err(self.not_ready(&format!("has slot {name} in use"))),
            Some(_) => Ok(false),
        }
    }

    fn streaming(&self, upstream: &NodeName) -> Verdict {
        let sql = self.sql()?;
        let source = At { node: &self.topology.nodes[upstream], seen: self.observed.node(upstream), ..*self };
        let (own, from) = (self.cluster()?, source.cluster()?);
        if own.identity != from.identity {
            return Err(self.not_ready(&format!("is of another cluster than {upstream}")));
        }
        let from = source.sql()?;
        if !sql.in_recovery {
            return Err(self.not_ready("is no standby"));
        }
        let receives = sql.receiver.as_ref().is_some_and(|receiver| {
            receiver.status == "streaming"
                && receiver.host.as_ref() == Some(&source.node.host)
                && receiver.port == Some(source.node.port)
                && receiver.timeline == from.timeline
        });
        if drift::is_delayed(self.topology, self.node) || sql.replay_paused {
            // It receives nothing while it holds back what it has; that it would is all that can be seen.
            let conninfo = sql.settings.get("primary_conninfo");
            let leads_there = conninfo.is_none_or(|now| desired::conninfo_holds(self.topology, self.node, &now.value));
            return Ok(receives || leads_there);
        }
        // What the upstream's parameters are now has arrived as well: then fewer of them are enough here.
        let replayed = own.floors == source.cluster()?.floors;
        Ok(receives && replayed && from.senders.iter().any(|sender| sender.state == "streaming"))
    }

    fn remove_old(&self) -> Verdict {
        if !self.place()?.old {
            return Ok(true);
        }
        let streams = self.sql()?.receiver.as_ref().is_some_and(|receiver| receiver.status == "streaming");
        if streams { Ok(false) } else { Err(self.not_ready("does not stream yet")) }
    }
}

/// Whether a file has exactly this block, unedited.
fn has_block(text: &str, block: &Block) -> bool {
    block::find(text).is_ok_and(|found| found.is_some_and(|found| found.intact && found.block == *block))
}

fn can_replicate(role: &ReplicationRole) -> bool {
    role.login && (role.replication || role.superuser)
}

/// Whether the replication role is as it should be.
#[must_use]
pub fn role_is_as(role: &ReplicationRole, wanted: &WantedRole) -> bool {
    let password = match role.verifier {
        Verifier::Matches => true,
        Verifier::None | Verifier::Differs | Verifier::NotCompared => !wanted.with_password,
    };
    can_replicate(role)
        && wanted.connection_limit.is_none_or(|limit| role.connection_limit == limit)
        && password
        && (role.rewind_grants || !wanted.rewind_grants)
}

/// Returns the values of a settings map as the files of a node would have them, for predictions.
#[must_use]
pub(super) fn file_values(cluster: &Cluster) -> BTreeMap<String, String> {
    let values = cluster.conf.read().unwrap_or_default().values;
    values.into_iter().map(|(name, placed)| (name, placed.value)).collect()
}
