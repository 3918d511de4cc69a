//! New data directories: a primary made by initdb, and clones.

use crate::observed::Cluster;
use crate::observed::DataDir;
use crate::observed::Reading;
use crate::observed::comes_up_as;
use crate::plan::CloneFrom;
use crate::plan::Configuration;
use crate::plan::CreatePrimary;
use crate::plan::Refusal;
use crate::plan::Replaced;
use crate::plan::check::At;
use crate::plan::check::Verdict;
use crate::plan::check::files::has_block;
use crate::plan::drift;
use crate::plan::pair;
use crate::topology::Role;

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
        Ok(false)
    }

    pub(super) fn clone_from(&self, clone: &CloneFrom) -> Verdict {
        let source = At { node: &self.topology.nodes[&clone.source], seen: self.observed.node(&clone.source), ..*self };
        let identity = &source.cluster()?.identity;
        if let DataDir::Cluster(cluster) = &self.place()?.data_dir {
            let is_standby = comes_up_as(&cluster.markers, cluster.major) == Role::Standby;
            let is_configured = match &clone.configuration {
                Configuration::OfSource { conf, .. } => has_block(&cluster.conf.main.text, conf),
                // The configuration is that of before; that it never ran is what tells a clone from what it replaced.
                Configuration::Kept(_) => pair::is_fresh_clone(cluster),
            };
            if cluster.identity == *identity && is_standby && is_configured {
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
        let upstream = self.topology.upstream(self.node);
        if self.topology.replication.slots && upstream.name != clone.source {
            // What the source has when the copy ends, the upstream must still have when the copy asks for more.
            At { node: upstream, seen: self.observed.node(&upstream.name), ..*self }.keeps_wal_for(self.node)?;
        }
        Ok(false)
    }

    /// What is in the way of a clone is just what was planned to be replaced.
    pub(super) fn replaces(&self, planned: Option<&Replaced>) -> Result<(), Refusal> {
        match (&self.place()?.data_dir, planned) {
            (DataDir::Absent | DataDir::Empty, _) => Ok(()),
            (DataDir::Unfinished(_), Some(Replaced::Unfinished)) => Ok(()),
            (DataDir::Cluster(cluster), Some(Replaced::Cluster(identity))) if cluster.identity == *identity => Ok(()),
            (DataDir::Cluster(cluster), Some(Replaced::Member(identity))) if cluster.identity == *identity => {
                self.may_be_thrown_away(cluster)
            }
            (DataDir::Unfinished(_) | DataDir::Cluster(_), _) => {
                Err(self.not_ready("has another data directory than the one that was to be replaced"))
            }
            (DataDir::Foreign(found), _) => {
                Err(Refusal::NotADataDir { node: self.name(), path: self.node.data_dir.clone(), found: found.clone() })
            }
        }
    }

    /// A node of this cluster that has nothing which the primary lacks, as far as timelines tell, and is no new clone.
    pub(super) fn may_be_thrown_away(&self, cluster: &Cluster) -> Result<(), Refusal> {
        if pair::is_fresh_clone(cluster) {
            return Err(Refusal::FreshClone { node: self.name() });
        }
        let primary =
            At { node: self.topology.primary(), seen: self.observed.node(&self.topology.primary().name), ..*self };
        primary.writes()?;
        if pair::is_further(self.seen, primary.seen) {
            let found = "is on a newer timeline than the primary: another server was promoted".into();
            return Err(Refusal::RolesMoved { node: self.name(), found });
        }
        Ok(())
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

    pub(super) fn remove_old(&self) -> Verdict {
        if !self.place()?.old {
            return Ok(true);
        }
        let streams = self.sql()?.receiver.as_ref().is_some_and(|receiver| receiver.status == "streaming");
        if streams { Ok(false) } else { Err(self.not_ready("does not stream yet")) }
    }
}
