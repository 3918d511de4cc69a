//! Role changes: the fence of an old primary, and the promotion of the next one (protocol, sections 1 and 2).
//!
//! Nothing is promoted before every other node is safe and all that the old primary wrote is here, and nothing is
//! unfenced before no other node accepts writes or could.

use crate::observed::Cluster;
use crate::observed::Reading;
use crate::observed::Sql;
use crate::observed::comes_up_as;
use crate::pg::guc;
use crate::pg::lsn::Timeline;
use crate::pg::version::StandbyMode;
use crate::plan::Fence;
use crate::plan::Promote;
use crate::plan::Refusal;
use crate::plan::check::At;
use crate::plan::check::Verdict;
use crate::plan::desired;
use crate::plan::drift;
use crate::plan::pair;
use crate::plan::readiness;
use crate::topology::Role;

impl At<'_> {
    pub(super) fn fence(&self, fence: &Fence) -> Verdict {
        let cluster = self.cluster()?;
        if self.is_fenced(cluster) {
            return Ok(true);
        }
        let primary = self.of(&self.topology.primary().name);
        if self.node.role == Role::Primary || primary.cluster()?.identity != cluster.identity {
            return Err(self.not_ready("is no standby of the primary's cluster by the topology"));
        }
        match &self.seen.server {
            Reading::Absent => {}
            Reading::Known(_) if fence.by_force => {}
            Reading::Known(_) => primary.is_ready_after(self)?,
            Reading::Unknown(why) => return Err(Refusal::OutOfReach { node: self.name(), why: why.clone() }),
        }
        if !self.has_settings_of_standby(cluster) {
            return Err(self.not_ready("has not the settings of a standby yet"));
        }
        Ok(false)
    }

    /// Whatever starts on the data directory comes up as a standby of the upstream that the topology names.
    pub(super) fn is_fenced(&self, cluster: &Cluster) -> bool {
        self.is_marked(cluster) && !cluster.markers.recovery_signal && self.has_settings_of_standby(cluster)
    }

    /// What a standby goes by is in the files, a running server has read it, and nothing in it ends its recovery.
    fn has_settings_of_standby(&self, cluster: &Cluster) -> bool {
        let dialect = self.topology.postgresql.version.dialect();
        if dialect.standby_mode == StandbyMode::RecoveryConf {
            return true;
        }
        let Ok(values) = cluster.conf.read().map(|read| read.values) else { return false };
        let sql = self.seen.sql();
        let running = |name: &str| sql.and_then(|sql| sql.settings.get(name)).map(|setting| setting.value.clone());
        let ends = desired::endless_recovery(self.topology, |name| {
            let in_files = values.get(name).map(|placed| placed.value.clone());
            in_files.into_iter().chain(running(name)).collect()
        });
        let leads_there = |text: &str| desired::conninfo_holds(self.topology, self.node, text);
        let in_file = values.get("primary_conninfo").is_some_and(|placed| leads_there(&placed.value));
        let is_loaded = sql.is_none_or(|sql| sql.conf_loaded);
        let in_force = !dialect.conninfo_reloads || running("primary_conninfo").is_none_or(|text| leads_there(&text));
        ends.is_empty() && in_file && is_loaded && in_force
    }

    pub(super) fn unfence(&self) -> Verdict {
        let cluster = self.cluster()?;
        if comes_up_as(&cluster.markers, cluster.major) == Role::Primary && !cluster.markers.recovery_signal {
            return Ok(true);
        }
        match &self.seen.server {
            Reading::Absent => {}
            Reading::Known(_) => drop(self.writes()?),
            Reading::Unknown(why) => return Err(Refusal::OutOfReach { node: self.name(), why: why.clone() }),
        }
        if self.node.role == Role::Standby || pair::needs_standby_files(cluster) {
            return Err(Refusal::RolesMoved { node: self.name(), found: "is a standby by its files".into() });
        }
        pair::may_start_primary(self.topology, self.observed)?;
        Ok(false)
    }

    pub(super) fn promote(&self, promote: &Promote) -> Verdict {
        let (cluster, sql) = (self.cluster()?, self.sql()?);
        if !sql.in_recovery {
            // Of a forced one the parent is known only as far as the candidate had told.
            let is_parent = |parent| parent == promote.parent || promote.by_force && parent > promote.parent;
            let is_child = cluster.branches.last().is_some_and(|branch| is_parent(branch.timeline));
            if sql.timeline > promote.parent && is_child {
                return Ok(true);
            }
            let found = format!("accepts writes on timeline {} without having been promoted", sql.timeline);
            return Err(Refusal::RolesMoved { node: self.name(), found });
        }
        if cluster.markers.promote {
            return self.goes_forward(cluster, sql);
        }
        if self.node.role == Role::Standby {
            return Err(self.not_ready("is a standby by the topology"));
        }
        self.can_be_promoted(sql)?;
        for node in self.topology.nodes.keys().filter(|name| **name != self.node.name) {
            let other = self.of(node);
            let is_old = promote.from.as_ref() == Some(node);
            if other.seen.confirmed_dead {
                other.is_dead()?;
            } else if is_old && promote.by_force {
                other.is_out_of_the_way(self, sql)?;
            } else if is_old {
                other.gives_way_to(self, cluster, sql, promote.parent)?;
            } else {
                pair::is_safe(node, other.seen, cluster)?;
                if promote.from.is_none() || promote.by_force {
                    other.has_no_more_than(self, sql)?;
                }
            }
        }
        Ok(false)
    }

    /// The server acts on the file at any signal, so that there is no way back. It is ours where all the others are safe
    /// and behind; one of somebody else's may make a second primary.
    fn goes_forward(&self, cluster: &Cluster, sql: &Sql) -> Verdict {
        for name in self.topology.nodes.keys().filter(|name| **name != self.node.name) {
            let other = self.of(name);
            let is_safe = pair::is_safe(name, other.seen, cluster).and_then(|()| other.has_no_more_than(self, sql));
            let is_standby = other.seen.cluster().is_some_and(pair::needs_standby_files);
            let was_given_up = other.seen.cluster().is_some_and(|cluster| other.was_given_up(cluster));
            match is_safe {
                Ok(()) => {}
                Err(Refusal::NoProof { .. }) if is_standby => {}
                Err(Refusal::NoProof { .. } | Refusal::Behind { .. }) if was_given_up => {}
                Err(refusal) => {
                    let why = format!(
                        "has a file `promote`, on which it is promoted at any signal; and {}",
                        refusal.reason()
                    );
                    let remedy =
                        format!("if nobody means to promote it, remove {}/promote at once", self.node.data_dir);
                    return Err(Refusal::NotPromotable { node: self.name(), why, remedy });
                }
            }
        }
        Ok(false)
    }

    /// Nothing holds this standby's replay back or ends it elsewhere.
    fn can_be_promoted(&self, sql: &Sql) -> Result<(), Refusal> {
        let refused =
            |why: &str, remedy: String| Err(Refusal::NotPromotable { node: self.name(), why: why.into(), remedy });
        let major = self.topology.postgresql.version;
        let delay = sql.settings.get("recovery_min_apply_delay").map_or("0", |setting| setting.value.as_str());
        if drift::is_delayed(self.topology, self.node) || !guc::same(major, "recovery_min_apply_delay", delay, "0") {
            let remedy = "take `recovery_min_apply_delay` off it, or let another standby become the primary";
            return refused("is a delayed standby", remedy.into());
        }
        if sql.replay_paused {
            let remedy = format!("`SELECT pg_wal_replay_resume()` on {}", self.node.name);
            return refused("has its replay paused", remedy);
        }
        let ends = desired::endless_recovery(self.topology, |name| {
            sql.settings.get(name).map(|setting| setting.value.clone()).into_iter().collect()
        });
        if let Some((name, _)) = ends.first() {
            let remedy = format!("take `{name}` off it and restart it");
            return refused(&format!("runs with {name}, which would end its recovery elsewhere"), remedy);
        }
        Ok(())
    }

    /// Every check before a switchover from this running primary finds nothing.
    fn is_ready_after(&self, old: &Self) -> Result<(), Refusal> {
        let as_they_are = self.topology.with_primary(&old.node.name);
        let findings = readiness::findings(&as_they_are, self.observed, &self.node.name);
        findings.into_iter().next().map_or(Ok(()), |finding| Err(finding.refusal()))
    }

    /// The old primary is fenced, and has ended with all its WAL on the candidate, or will when it is stopped.
    fn gives_way_to(&self, candidate: &Self, theirs: &Cluster, sql: &Sql, parent: Timeline) -> Result<(), Refusal> {
        let cluster = self.cluster()?;
        if cluster.identity != theirs.identity {
            return Err(self.not_ready(&format!("is of another cluster than {}", candidate.node.name)));
        }
        if !self.is_fenced(cluster) {
            return Err(self.not_ready("is not fenced"));
        }
        match &self.seen.server {
            Reading::Unknown(why) => Err(Refusal::OutOfReach { node: self.name(), why: why.clone() }),
            Reading::Known(server) => match &server.sql {
                Reading::Known(own) if own.in_recovery && cluster.markers.promote => {
                    Err(self.not_ready("is about to be promoted"))
                }
                Reading::Known(own) if own.in_recovery => self.has_no_more_than(candidate, sql),
                Reading::Known(own) => {
                    // It streams what is written here, on the same timeline.
                    candidate.is_ready_after(self)?;
                    if own.timeline != parent {
                        return Err(self.not_ready(&format!("is on timeline {}, not {parent} any more", own.timeline)));
                    }
                    Ok(())
                }
                // It is on its way: what is left of its stop is waited for.
                Reading::Unknown(_) | Reading::Absent if cluster.state.is_going_down() => Ok(()),
                Reading::Unknown(why) => Err(Refusal::NoAnswer { node: self.name(), why: why.clone() }),
                Reading::Absent => Err(Refusal::NoAnswer { node: self.name(), why: "it was not asked".into() }),
            },
            // A position on another timeline would say nothing.
            Reading::Absent if theirs.newest_history.max(Some(sql.timeline)) < Some(parent) => {
                Err(Refusal::NoProof { old: self.name(), candidate: candidate.name() })
            }
            // A crash says nothing of what was to come.
            Reading::Absent if cluster.clean_end().is_none() => {
                Err(Refusal::NoProof { old: self.name(), candidate: candidate.name() })
            }
            Reading::Absent => self.has_no_more_than(candidate, sql),
        }
    }

    /// Whatever this node has of the cluster's WAL, the candidate has too.
    fn has_no_more_than(&self, candidate: &Self, sql: &Sql) -> Result<(), Refusal> {
        let (Some(own), Some(theirs)) = (self.seen.cluster(), candidate.seen.cluster()) else { return Ok(()) };
        if own.identity != theirs.identity {
            return Ok(());
        }
        pair::has_no_more_than(&self.node.name, self.seen, &candidate.node.name, sql.lsn)
    }
}
