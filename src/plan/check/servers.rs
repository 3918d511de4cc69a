//! Servers: whether one may start, and whether a standby streams.

use crate::observed::Cluster;
use crate::observed::comes_up_as;
use crate::plan::Refusal;
use crate::plan::access;
use crate::plan::check::At;
use crate::plan::check::Verdict;
use crate::plan::desired;
use crate::plan::drift;
use crate::plan::pair;
use crate::topology::NodeName;
use crate::topology::Role;

impl At<'_> {
    pub(super) fn start(&self, role: Role) -> Verdict {
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
    pub(super) fn can_start(&self, cluster: &Cluster) -> Result<(), Refusal> {
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

    pub(super) fn streaming(&self, upstream: &NodeName) -> Verdict {
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
        // Waiting would be in vain where the upstream's own change was left out.
        if let Some(why) = access::not_there_yet(self.topology, source.node, source.seen).filter(|_| !receives) {
            return Err(self.not_ready(&format!("can't stream: {why}")));
        }
        // What the upstream's parameters are now has arrived as well: then fewer of them are enough here.
        let replayed = own.floors == source.cluster()?.floors;
        Ok(receives && replayed && from.senders.iter().any(|sender| sender.state == "streaming"))
    }
}
