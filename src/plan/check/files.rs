//! Files of a node: configuration, rules, passfile, and what makes it a standby.

use crate::observed::Cluster;
use crate::observed::Passfile;
use crate::observed::Reading;
use crate::observed::comes_up_as;
use crate::pg::block;
use crate::pg::block::Block;
use crate::pg::conf::Origin;
use crate::pg::conninfo::Conninfo;
use crate::pg::version::StandbyMode;
use crate::plan::Configure;
use crate::plan::Digest;
use crate::plan::Effect;
use crate::plan::Refusal;
use crate::plan::Reset;
use crate::plan::access;
use crate::plan::check::At;
use crate::plan::check::Verdict;
use crate::plan::desired;
use crate::plan::drift;
use crate::plan::drift::Floors;
use crate::plan::pair;
use crate::plan::synchronous;
use crate::topology::Node;
use crate::topology::Role;

impl At<'_> {
    pub(super) fn standby_files(&self) -> Verdict {
        let cluster = self.cluster()?;
        if self.is_marked(cluster) {
            return Ok(true);
        }
        self.stopped()?;
        Ok(false)
    }

    /// The standby files are there, and say what the topology says (10, 11: recovery.conf is the whole of it).
    pub(super) fn is_marked(&self, cluster: &Cluster) -> bool {
        let recovery_conf_holds = match self.topology.postgresql.version.dialect().standby_mode {
            StandbyMode::SignalFile => true,
            StandbyMode::RecoveryConf => {
                let text = cluster.markers.recovery_conf.as_deref();
                text.is_some_and(|text| desired::recovery_conf_holds(self.topology, self.node, text))
            }
        };
        comes_up_as(&cluster.markers, cluster.major) == Role::Standby && recovery_conf_holds
    }

    pub(super) fn configure(&self, configure: &Configure) -> Verdict {
        let cluster = self.cluster()?;
        let has_block = match &configure.block {
            Some(block) => has_block(&cluster.conf.main.text, block),
            None => block::find(&cluster.conf.main.text) == Ok(None),
        };
        let values = cluster.conf.read().map_err(|problem| Refusal::BadConf { node: self.name(), problem })?.values;
        let auto = cluster.conf.auto.as_ref().map_or("", |auto| auto.text.as_str());
        let is_reset = configure.reset.as_ref().is_none_or(|reset| reset.applied_to(auto) == auto);
        let in_file =
            has_block && is_reset && drift::file_holds(self.topology, self.node, &configure.settings, &values);
        if !in_file {
            let auto_before = configure.reset.as_ref().map(|reset| &reset.before);
            let is_shadowed = configure.settings.iter().any(|(name, wanted)| {
                let entry = values.get(name).filter(|placed| placed.origin == Origin::Auto);
                let is_ours = configure.reset.as_ref().is_some_and(|reset| reset.names.contains(name));
                entry.is_some_and(|placed| {
                    !is_ours && !desired::value_holds(self.topology, self.node, name, wanted, &placed.value)
                })
            });
            let changed = if !is_as_planned(self.node, &cluster.conf.main.text, configure.before.as_ref()) {
                Some("postgresql.conf")
            } else if is_shadowed || auto_before.is_some_and(|before| Reset::digest(auto) != *before) {
                Some("postgresql.auto.conf")
            } else {
                None
            };
            if let Some(file) = changed {
                return Err(Refusal::FileChanged { node: self.name(), file: file.into() });
            }
        }
        if configure.effect == Effect::AtStart {
            if !in_file {
                if !pair::hangs(self.seen) {
                    self.stopped()?;
                }
                self.can_start_on(configure, cluster)?;
            }
            return Ok(in_file);
        }
        let sql = self.sql()?;
        if configure.effect == Effect::Restart {
            self.may_control()?;
            self.keeps_the_floors(configure)?;
            // It would be without its stream afterwards.
            self.can_reconnect()?;
        }
        self.enough_confirm(configure)?;
        self.can_be_told(cluster, configure)?;
        let in_force = drift::is_in_force(self.topology, self.node, &configure.settings, sql)
            && drift::is_restored(self.topology, self.node, &configure.restored, &values, sql);
        let done = in_file && sql.conf_loaded && in_force;
        let moves = self.seen.server.known().is_some_and(|server| server.port != Some(self.node.port));
        if !done && moves && configure.effect == Effect::Restart {
            self.port_is_free()?;
        }
        Ok(done)
    }

    /// A running standby is not sent where its upstream is not yet, or not yet encrypted: it would lose its stream.
    fn can_be_told(&self, cluster: &Cluster, configure: &Configure) -> Result<(), Refusal> {
        let Some(wanted) = configure.settings.get("primary_conninfo").filter(|_| self.node.role == Role::Standby)
        else {
            return Ok(());
        };
        let present = desired::present_conninfo(cluster);
        let is_told = present
            .is_none_or(|present| present == *wanted || desired::conninfo_holds(self.topology, self.node, &present));
        if !is_told {
            let conninfo = Conninfo::parse(wanted);
            conninfo.map_or(Ok(()), |conninfo| self.can_use_tls_of(&conninfo))?;
        }
        let upstream = self.topology.upstream(self.node);
        let why = access::not_there_yet(self.topology, upstream, self.observed.node(&upstream.name));
        match why.filter(|_| !is_told) {
            Some(why) => {
                let remedy = format!("let {} change first: apply with `--allow outage`", upstream.name);
                Err(self.not_ready_until(&format!("would lose its stream: {why}"), remedy))
            }
            None => Ok(()),
        }
    }

    /// Commits are told to wait for standbys once enough of them stream.
    fn enough_confirm(&self, configure: &Configure) -> Result<(), Refusal> {
        // An old primary that is being fenced goes on waiting for whom it waits for.
        let is_primary = self.node.role == Role::Primary;
        let wanted = configure.settings.get(synchronous::NAMES).filter(|names| is_primary && !names.is_empty());
        if wanted.is_none_or(|names| synchronous::may_wait_for(self.topology, self.observed, names)) {
            return Ok(());
        }
        let why = "has too few synchronous standbys that stream: commits would hang";
        Err(self.not_ready_until(why, "see why they do not (`pgpair status`), or lower `synchronous.num`"))
    }

    /// No standby gets less of a parameter than the running primary has, and the primary no more than a running standby.
    fn keeps_the_floors(&self, configure: &Configure) -> Result<(), Refusal> {
        let (primary, cluster, major) = (self.topology.primary(), self.cluster()?, self.topology.postgresql.version);
        let Some(running) = self.observed.node(&primary.name).sql().filter(|sql| !sql.in_recovery) else {
            return Ok(());
        };
        if self.node.role == Role::Standby {
            if let Some((name, value)) = Floors::of_server(major, running).undercut_by(configure, cluster) {
                let why = format!("must not have less {name} than {}, which runs with {value}", primary.name);
                let remedy = format!("let {} restart first: apply with `--allow outage`", primary.name);
                return Err(self.not_ready_until(&why, remedy));
            }
            return match Floors::replayed(cluster).undercut_by(configure, cluster) {
                Some((name, value)) => {
                    let why = format!("has not replayed yet that {} has less {name} than {value}", primary.name);
                    let remedy =
                        "see that it streams and that its replay is not paused (`pgpair status`), and apply again";
                    Err(self.not_ready_until(&why, remedy))
                }
                None => Ok(()),
            };
        }
        let mut standbys = self.topology.standbys().filter_map(|standby| {
            let sql = self.observed.node(&standby.name).sql().filter(|sql| sql.in_recovery)?;
            let (name, value) = Floors::of_server(major, sql).exceeded_by(configure, cluster)?;
            let why = format!("must not have more {name} than {}, which runs with {value}", standby.name);
            let remedy = format!("let {} restart first: apply with `--allow restart`", standby.name);
            Some(self.not_ready_until(&why, remedy))
        });
        standbys.next().map_or(Ok(()), Err)
    }

    /// No stopped standby is left with less of a parameter than its primary last ran with: it would not come up.
    fn can_start_on(&self, configure: &Configure, cluster: &Cluster) -> Result<(), Refusal> {
        let undercut = Floors::replayed(cluster).undercut_by(configure, cluster);
        match undercut.filter(|_| self.node.role == Role::Standby) {
            Some((name, value)) => {
                let primary = &self.topology.primary().name;
                let why = format!("would not come up with less {name} than {value}, as {primary} last ran");
                Err(self.not_ready_until(&why, format!("set `{name}` of {} to at least {value}", self.node.name)))
            }
            None => Ok(()),
        }
    }

    pub(super) fn hba(&self, block: &Block, before: &Digest) -> Verdict {
        let cluster = self.cluster()?;
        let in_file = block::stands_before_rules(&cluster.hba, block);
        if !in_file && Digest::of(&cluster.hba) != *before {
            return Err(Refusal::FileChanged { node: self.name(), file: "pg_hba.conf".into() });
        }
        let done = match &self.seen.server {
            Reading::Absent => in_file,
            Reading::Known(_) => self.sql()?.hba_loaded && in_file,
            Reading::Unknown(why) => return Err(Refusal::OutOfReach { node: self.name(), why: why.clone() }),
        };
        if !done && let Ok(text) = block::put_before_rules(&cluster.hba, block) {
            access::keeps_everyone(self.topology, self.observed, self.node, &text)?;
        }
        Ok(done)
    }

    pub(super) fn passfile(&self) -> Verdict {
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
}

/// Whether postgresql.conf is the one that was planned for: this text, or one that pgpair has just made.
fn is_as_planned(node: &Node, text: &str, before: Option<&Digest>) -> bool {
    let is_made = || {
        let found = block::find(text).ok().flatten();
        found.is_some_and(|found| found.intact && found.block.node == node.name.as_str())
    };
    before.map_or_else(is_made, |before| Digest::of(text) == *before)
}

/// Whether a file has exactly this block, unedited.
pub(super) fn has_block(text: &str, block: &Block) -> bool {
    block::find(text).is_ok_and(|found| found.is_some_and(|found| found.intact && found.block == *block))
}
