//! Forced promotions: an old primary that is taken down or known to be dead, and what may be promoted then (protocol,
//! section 5).

use crate::observed::Cluster;
use crate::observed::Reading;
use crate::observed::Sql;
use crate::plan::Refusal;
use crate::plan::check::At;
use crate::plan::check::Verdict;
use crate::plan::pair;

impl At<'_> {
    pub(super) fn fence_off(&self) -> Verdict {
        if self.seen.confirmed_dead {
            return Ok(true);
        }
        if self.seen.place.known().is_some() || self.seen.server.known().is_some() {
            let why = "it can be reached".to_owned();
            return Err(Refusal::NotDead { node: self.name(), why });
        }
        Ok(false)
    }

    pub(super) fn take_down(&self) -> Verdict {
        let cluster = self.cluster()?;
        let server = match &self.seen.server {
            Reading::Absent => return Ok(true),
            Reading::Unknown(why) => return Err(Refusal::OutOfReach { node: self.name(), why: why.clone() }),
            Reading::Known(server) => server,
        };
        // It was started after the fence, and writes nothing.
        if server.sql.known().is_some_and(|sql| sql.in_recovery) {
            return Ok(true);
        }
        if !self.is_fenced(cluster) {
            return Err(self.not_ready("is not fenced"));
        }
        let is_second = self.of(&self.topology.primary().name).seen.accepts_writes();
        if self.seen.accepts_writes() && !is_second {
            let found = "answers and takes writes".to_owned();
            return Err(Refusal::RolesMoved { node: self.name(), found });
        }
        self.may_control()?;
        Ok(false)
    }

    /// The old primary of a forced promotion: no server of it lives, whoever starts one gets a standby, and nobody hears
    /// of it any more. What it wrote last need not be on the candidate; but the candidate knows of its timeline.
    pub(super) fn is_out_of_the_way(&self, candidate: &Self, sql: &Sql) -> Result<(), Refusal> {
        let (cluster, theirs) = (self.cluster()?, candidate.cluster()?);
        if cluster.identity != theirs.identity {
            return Err(self.not_ready(&format!("is of another cluster than {}", candidate.node.name)));
        }
        if !self.is_fenced(cluster) {
            return Err(self.not_ready("is not fenced"));
        }
        self.stopped()?;
        if theirs.newest_timeline().max(sql.timeline) < cluster.newest_timeline() {
            return Err(Refusal::NoProof { old: self.name(), candidate: candidate.name() });
        }
        Ok(())
    }

    /// A node out of reach is dead by somebody's word, and no standby that can be seen hears of it.
    pub(super) fn is_dead(&self) -> Result<(), Refusal> {
        let hears = |sql: &Sql| sql.receiver.as_ref().is_some_and(|it| it.streams() && it.is_from(self.node));
        let hearer = self.observed.nodes.iter().find(|(_, seen)| seen.sql().is_some_and(hears));
        match hearer {
            None => Ok(()),
            Some((name, _)) => Err(Refusal::NotDead { node: self.name(), why: format!("{name} streams from it") }),
        }
    }

    /// A promotion that was asked for goes forward: an old primary that carries a fence is safe, whatever it has.
    pub(super) fn was_given_up(&self, cluster: &Cluster) -> bool {
        self.seen.server.is_absent() && !pair::needs_standby_files(cluster) && self.is_fenced(cluster)
    }
}
