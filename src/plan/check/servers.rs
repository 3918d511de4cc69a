//! Servers: whether one may start, and whether a standby streams.

use crate::observed::Cluster;
use crate::observed::Reading;
use crate::observed::Sql;
use crate::observed::WrongAccess;
use crate::observed::comes_up_as;
use crate::pg::version::StandbyMode;
use crate::plan::Refusal;
use crate::plan::StopFor;
use crate::plan::access;
use crate::plan::check::At;
use crate::plan::check::Verdict;
use crate::plan::desired;
use crate::plan::drift;
use crate::plan::pair;
use crate::topology::NodeName;
use crate::topology::Role;

impl At<'_> {
    pub(super) fn mode(&self) -> Verdict {
        match &self.cluster()?.wrong_access {
            None => Ok(true),
            Some(WrongAccess::Mode(_)) => Ok(false),
            Some(owner @ WrongAccess::Owner(_)) => Err(self.wrong_access(owner)),
        }
    }

    /// Only a standby is stopped, and only for what can be done then.
    pub(super) fn stop(&self, purpose: &StopFor) -> Verdict {
        let cluster = self.cluster()?;
        let server = match &self.seen.server {
            Reading::Absent => return Ok(true),
            Reading::Known(server) => server,
            Reading::Unknown(why) => return Err(Refusal::OutOfReach { node: self.name(), why: why.clone() }),
        };
        let is_standby = match &server.sql {
            Reading::Known(sql) => sql.in_recovery,
            // One that never comes so far as to answer is told by its files: a promotion would have taken them away.
            Reading::Unknown(_) | Reading::Absent => {
                comes_up_as(&cluster.markers, cluster.major) == Role::Standby && cluster.state.was_standby()
            }
        };
        if !is_standby || self.node.role == Role::Primary {
            return Err(Refusal::RolesMoved { node: self.name(), found: "runs, and not as a standby".into() });
        }
        self.binaries()?;
        self.may_control()?;
        match purpose {
            StopFor::Clone { source, slot } => {
                self.basebackup()?;
                self.can_make_data_dir()?;
                self.has_room()?;
                self.can_use_tls()?;
                self.may_be_thrown_away(cluster)?;
                let source = self.of(source);
                source.has_files_inside()?;
                source.feeds(self.node, slot.as_deref())?;
            }
            StopFor::Rewind { source } => {
                self.can_be_rewound(source)?;
            }
            StopFor::Restart => {
                self.can_use_tls()?;
                self.can_start(cluster)?;
            }
        }
        Ok(false)
    }

    fn wrong_access(&self, wrong: &WrongAccess) -> Refusal {
        Refusal::WrongAccess { node: self.name(), why: wrong.to_string() }
    }

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
                self.can_follow()?;
                if let Some((name, floor)) = drift::below_floor(cluster) {
                    let why = format!(
                        "would not come up: {name} is less in its files than {floor}, with which its primary last ran"
                    );
                    let remedy = format!("set `{name}` of {} to at least {floor}", self.node.name);
                    return Err(self.not_ready_until(&why, remedy));
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
        if let Some(wrong) = &cluster.wrong_access {
            return Err(self.wrong_access(wrong));
        }
        self.may_control()?;
        self.port_is_free()
    }

    /// What keeps a running standby from its upstream for good, and the remedy: waiting would be in vain.
    fn can_not_stream(&self, own: &Cluster, sql: &Sql) -> Option<(&'static str, String)> {
        let (conninfo, text) = (sql.settings.get("primary_conninfo"), own.markers.recovery_conf.as_deref());
        let leads_there = conninfo.is_none_or(|now| desired::conninfo_holds(self.topology, self.node, &now.value))
            && text.is_none_or(|text| desired::recovery_conf_holds(self.topology, self.node, text))
            && drift::has_read_recovery_conf(self.topology, self.node, self.seen);
        if !leads_there {
            Some(("does not follow", "apply with the allowances that the plan names".to_owned()))
        } else if pair::lost_wal(self.topology, self.observed, self.node).is_some() {
            let remedy = format!("`pgpair rebuild {}` clones it anew", self.node.name);
            Some(("needs WAL that is no longer on", remedy))
        } else {
            None
        }
    }

    pub(super) fn streaming(&self, upstream: &NodeName) -> Verdict {
        let sql = self.sql()?;
        let source = self.of(upstream);
        let (own, from) = (self.cluster()?, source.cluster()?);
        if own.identity != from.identity {
            return Err(self.not_ready(&format!("is of another cluster than {upstream}")));
        }
        let from = source.sql()?;
        if !sql.in_recovery {
            return Err(self.not_ready("is no standby"));
        }
        let by_its_slot = |used: Option<&str>| match self.topology.postgresql.version.dialect().standby_mode {
            StandbyMode::RecoveryConf => true,
            StandbyMode::SignalFile => {
                let named = sql.settings.get("primary_slot_name").map(|setting| setting.value.as_str());
                used.unwrap_or_default() == named.unwrap_or_default()
            }
        };
        let receives = sql.receiver.as_ref().is_some_and(|receiver| {
            receiver.streams()
                && by_its_slot(receiver.slot.as_deref())
                && receiver.is_from(source.node)
                && receiver.timeline == from.timeline
        });
        // Why it can't is looked for where it doesn't.
        if let Some((why, remedy)) = (!receives).then(|| self.can_not_stream(own, sql)).flatten() {
            return Err(self.not_ready_until(&format!("{why} {upstream}"), remedy));
        }
        if !receives {
            self.can_reconnect()?;
        }
        if drift::is_delayed(self.topology, self.node) || sql.replay_paused {
            // It receives nothing while it holds back what it has; that it would is all that can be seen.
            let conninfo = sql.settings.get("primary_conninfo");
            let leads_there = conninfo.is_none_or(|now| desired::conninfo_holds(self.topology, self.node, &now.value));
            return Ok(receives || leads_there);
        }
        if !receives {
            // Waiting would be in vain where the upstream's own change was left out.
            return match access::not_there_yet(self.topology, source.node, source.seen) {
                Some(why) => {
                    let remedy = format!("let {upstream} change first: apply with `--allow outage`");
                    Err(self.not_ready_until(&format!("can't stream: {why}"), remedy))
                }
                None => Ok(false),
            };
        }
        let slot = self.node.slot_name();
        let elsewhere = self.observed.nodes.iter().filter(|(name, _)| *name != upstream);
        let mut slots = elsewhere.filter_map(|(_, seen)| seen.cluster()?.slots.get(&slot));
        // Its former connection has ended, as its upstream has noticed: until then the slot of that is in use.
        let own_senders = from.senders.iter().filter(|sender| sender.is_of(&self.node.name));
        let has_left = !slots.any(|slot| slot.active) && own_senders.count() <= 1;
        // What the upstream's parameters are now has arrived as well: then fewer of them are enough here.
        let replayed = own.floors == source.cluster()?.floors;
        Ok(has_left && replayed && from.senders.iter().any(|sender| sender.state == "streaming"))
    }
}
