//! New data directories: a primary made by initdb, and clones.

use crate::observed::DataDir;
use crate::observed::Reading;
use crate::observed::comes_up_as;
use crate::plan::CloneFrom;
use crate::plan::CreatePrimary;
use crate::plan::Refusal;
use crate::plan::Replaced;
use crate::plan::access;
use crate::plan::check::At;
use crate::plan::check::Verdict;
use crate::plan::check::files::has_block;
use crate::plan::check::objects::can_replicate;
use crate::plan::drift;
use crate::plan::pair;
use crate::topology::Node;
use crate::topology::Role;

/// Walsenders that pg_basebackup takes with its WAL streamed beside the files.
const SENDERS_OF_A_CLONE: usize = 2;

impl At<'_> {
    /// A data directory can be made here: the disk is there, nothing is kept aside, the folder can be written.
    pub(super) fn can_make_data_dir(&self) -> Result<(), Refusal> {
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

    pub(super) fn create_primary(&self, create: &CreatePrimary) -> Verdict {
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
        access::lets_pgpair_in(self.topology, self.node, self.seen, &create.hba)?;
        Ok(false)
    }

    pub(super) fn clone_from(&self, clone: &CloneFrom) -> Verdict {
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
        access::lets_pgpair_in(self.topology, self.node, self.seen, &clone.hba)?;
        Ok(false)
    }

    /// What is in the way of a clone is just what was planned to be replaced.
    pub(super) fn replaces(&self, planned: Option<&Replaced>) -> Result<(), Refusal> {
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

    pub(super) fn basebackup(&self) -> Result<(), Refusal> {
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
    pub(super) fn feeds(&self, target: &Node, slot: Option<&str>) -> Result<(), Refusal> {
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

    pub(super) fn remove_old(&self) -> Verdict {
        if !self.place()?.old {
            return Ok(true);
        }
        let streams = self.sql()?.receiver.as_ref().is_some_and(|receiver| receiver.status == "streaming");
        if streams { Ok(false) } else { Err(self.not_ready("does not stream yet")) }
    }
}
