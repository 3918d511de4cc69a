//! One standby: cloned, completed, configured, started, seen streaming; by what its place holds.

use std::collections::BTreeMap;

use crate::pg::conf::ConfFiles;
use crate::pg::conf::Placed;
use crate::plan::Action;
use crate::plan::Blocked;
use crate::plan::CloneFrom;
use crate::plan::Configuration;
use crate::plan::Impact;
use crate::plan::Reason;
use crate::plan::Refusal;
use crate::plan::Replaced;
use crate::plan::StandbyFiles;
use crate::plan::desired;
use crate::plan::kept;
use crate::plan::pair;
use crate::plan::pair::StandbyState;
use crate::plan::planner::Draft;
use crate::plan::planner::socket_dir;
use crate::plan::synchronous::NAMES;
use crate::topology::Node;
use crate::topology::Role;

/// Whether the files of a standby are what they should be before it is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Files {
    Done,
    Later,
}

impl<'a> Draft<'a> {
    pub(super) fn standby(&mut self, standby: &'a Node) {
        let upstream = self.topology.upstream(standby);
        let Some(identity) = self.identity() else { return };
        let state = pair::classify_standby(self.topology, &self.world, standby, &identity);
        let is_other = self.observed.node(&standby.name).cluster().is_none_or(|cluster| cluster.identity != identity);
        let (is_new, files_later) = match (self.diverged(standby, &state), self.replaced_for(standby, &state)) {
            (Some(diverged), _) => {
                self.rejoin(standby, identity, &state, &diverged);
                (true, false)
            }
            (None, Some(reason)) => {
                self.replace(standby, identity, reason);
                (true, false)
            }
            (None, None) => (is_other, self.prepare(standby, state) == Files::Later),
        };
        if self.is_stuck(standby) || self.is_stuck(upstream) {
            return;
        }
        let reason = if is_new { Reason::JustMade } else { Reason::Stopped };
        self.step(standby, Action::Start { role: Role::Standby }, Impact::None, reason);
        self.streaming(standby);
        if files_later {
            // It had to come up with what it had, and to replay that its primary has less now.
            self.files(standby, Impact::None);
            self.streaming(standby);
        }
        self.slots(standby);
        self.step(standby, Action::RemoveOld, Impact::None, Reason::Replaced);
    }

    /// Makes what is in the place of a standby ready to be started.
    fn prepare(&mut self, standby: &'a Node, state: StandbyState) -> Files {
        match state {
            StandbyState::NoData => {
                let was_rewound = self.world.node(&standby.name).place.known().is_some_and(|place| place.work);
                let (impact, reason) = if was_rewound {
                    (Impact::Destroy, Reason::RewindCutShort)
                } else {
                    (Impact::None, Reason::NoData)
                };
                self.clone(standby, None, impact, reason);
                // It may have kept a configuration that was not the topology's yet.
                self.files(standby, Impact::None);
            }
            StandbyState::Unfinished(found) => {
                self.clone(standby, Some(Replaced::Unfinished), Impact::Destroy, Reason::Unfinished(found));
            }
            StandbyState::OtherCluster(found) => {
                let replaced = Some(Replaced::Cluster(found.clone()));
                self.clone(standby, replaced, Impact::Destroy, Reason::OtherCluster(found));
            }
            StandbyState::WithoutStandbyFiles => {
                self.mode(standby);
                self.only_if_startable(standby);
                self.complete_copy(standby);
            }
            StandbyState::Stopped => {
                self.mode(standby);
                self.only_if_startable(standby);
                let least = self.floors_of_stopped(standby);
                self.files_above(standby, Impact::None, &least.clone().unwrap_or_default());
                self.mark(standby);
                if least.is_some() {
                    return Files::Later;
                }
            }
            StandbyState::Superseded => {
                self.mode(standby);
                self.only_if_startable(standby);
                self.fence_superseded(standby);
                self.files(standby, Impact::None);
            }
            StandbyState::Runs => return self.prepare_running(standby),
            StandbyState::Unusable(refusal) => self.block(standby, refusal),
            StandbyState::Doubtful(refusal) => self.halt(refusal),
        }
        Files::Done
    }

    fn prepare_running(&mut self, standby: &Node) -> Files {
        self.mode(standby);
        self.turn(standby);
        if self.raised.contains(&standby.name) {
            return Files::Done;
        }
        let least = self.floors_until_replayed(standby);
        if let Some(least) = least.filter(|least| self.is_below(self.observed, standby, least)) {
            // The primary has less by now, and that must have arrived here first.
            if self.world.node(&standby.name).server.is_absent() {
                self.files_above(standby, Impact::None, &least);
                return Files::Later;
            }
            self.streaming(standby);
        }
        self.files(standby, Impact::None);
        Files::Done
    }

    pub(super) fn standby_files(&self, standby: &Node) -> Action {
        let existing =
            self.world.node(&standby.name).cluster().and_then(|cluster| cluster.markers.recovery_conf.clone());
        let recovery_conf = desired::recovery_conf(self.topology, standby, existing.as_deref());
        Action::StandbyFiles(StandbyFiles { recovery_conf })
    }

    /// Makes a stopped copy without standby files a standby: its configuration first, the standby files last.
    pub(super) fn complete_copy(&mut self, standby: &Node) {
        let Some(identity) = self.identity() else { return };
        if pair::classify_standby(self.topology, &self.world, standby, &identity) == StandbyState::WithoutStandbyFiles {
            self.files(standby, Impact::None);
            self.mark(standby);
        }
    }

    /// Puts the standby files in place, and the passfile that a recovery.conf may be the first to name.
    pub(super) fn mark(&mut self, standby: &Node) {
        self.step(standby, self.standby_files(standby), Impact::None, Reason::NoStandbyFiles);
        self.passfile(standby);
    }

    pub(super) fn clone(&mut self, standby: &'a Node, replaces: Option<Replaced>, impact: Impact, reason: Reason) {
        let source = self.source_of(standby);
        let upstream = self.topology.upstream(standby);
        if self.is_stuck(upstream) {
            return;
        }
        if self.is_stuck(source) {
            let why = format!("{} is to be cloned from {}, which is left alone itself", standby.name, source.name);
            let remedy = format!("mend {} first, or let `clone_from` name another node", source.name);
            return self.block(standby, Refusal::NotReadyUntil { why, remedy });
        }
        let tablespaces = match self.world.node(&source.name).cluster() {
            Some(cluster) => desired::tablespaces(standby, source, cluster),
            None => Ok(BTreeMap::new()),
        };
        let tablespaces = match tablespaces {
            Ok(tablespaces) => tablespaces,
            Err(refusal) => return self.block(standby, refusal),
        };
        let own = self.own_configuration(standby, replaces.as_ref());
        let existing = own.and_then(|(_, recovery_conf)| recovery_conf.cloned());
        let configuration = match own {
            Some((conf, _)) => Configuration::Kept(kept::own_files(conf, existing.as_deref(), &standby.data_dir)),
            None => self.configuration_of_source(standby, source),
        };
        let clone = CloneFrom {
            source: source.name.clone(),
            host: source.host.clone(),
            port: source.port,
            user: self.topology.replication.user.clone(),
            slot: self.slot_for_clone(standby),
            configuration,
            recovery_conf: desired::recovery_conf(self.topology, standby, existing.as_deref()),
            replaces,
            waldir: standby.waldir.clone(),
            tablespaces,
        };
        self.step(standby, Action::Clone(clone), impact, reason);
    }

    /// The configuration that a copy keeps, with its recovery.conf: that of the member which it replaces, or of one that
    /// made way for a copy which was not finished.
    fn own_configuration(&self, standby: &Node, replaces: Option<&Replaced>) -> Option<(&ConfFiles, Option<&String>)> {
        let seen = self.world.node(&standby.name);
        match replaces {
            Some(Replaced::Member(_)) => seen.cluster().map(|own| (&own.conf, own.markers.recovery_conf.as_ref())),
            Some(Replaced::Cluster(_) | Replaced::Unfinished) => None,
            None => {
                let identity = self.identity();
                let own = seen.place.known()?.made_way.as_ref().filter(|own| Some(&own.identity) == identity.as_ref());
                own.map(|own| (&own.conf, own.recovery_conf.as_ref()))
            }
        }
    }

    /// The slot on the upstream keeps the WAL that the clone will ask for, if that is where it is cloned from.
    pub(super) fn slot_for_clone(&self, standby: &'a Node) -> Option<String> {
        let is_from_upstream = self.source_of(standby).name == self.topology.upstream(standby).name;
        (self.topology.replication.slots && is_from_upstream).then(|| standby.slot_name())
    }

    /// The configuration of a first clone: the source's, with what the topology asks of this node.
    fn configuration_of_source(&self, standby: &Node, source: &Node) -> Configuration {
        let seen = self.world.node(&standby.name);
        let mut settings = desired::settings(self.topology, standby);
        settings.extend(desired::defaults_of_created(self.topology, standby, socket_dir(seen)));
        let inherited = self.world.node(&source.name).cluster().and_then(|cluster| cluster.conf.read().ok());
        let waits = |placed: &Placed| !placed.value.is_empty();
        if inherited.as_ref().and_then(|read| read.elsewhere.get(NAMES)).is_some_and(waits) {
            settings.insert(NAMES.to_owned(), String::new());
        }
        settings.extend(desired::endless_recovery(self.topology, |name| {
            let placed = inherited.as_ref().and_then(|read| read.values.get(name));
            placed.map(|placed| placed.value.clone()).into_iter().collect()
        }));
        Configuration::OfSource {
            conf: desired::conf_block(self.topology, standby, &settings),
            hba: desired::hba_block(self.topology, standby),
            passfile: desired::passfile_entries(self.topology),
        }
    }

    /// Tells of a pg_wal that lies elsewhere. It is moved only with a clone; all else of the node goes on.
    pub(super) fn waldir(&mut self, node: &Node) {
        let Some(cluster) = self.world.node(&node.name).cluster() else { return };
        let (Some(wanted), true) = (&node.waldir, Some(&cluster.identity) == self.identity().as_ref()) else { return };
        if cluster.waldir.as_ref() != Some(wanted) && !self.is_stuck(node) {
            let found = cluster
                .waldir
                .as_ref()
                .map_or_else(|| "a folder in the data directory".to_owned(), |found| format!("a link to {found}"));
            let refusal = Refusal::WaldirDiffers { node: node.name.clone(), found, wanted: wanted.clone() };
            self.blocked.push(Blocked { node: Some(node.name.clone()), refusal });
        }
    }

    pub(super) fn source_of(&self, standby: &'a Node) -> &'a Node {
        standby.clone_from.as_ref().map_or_else(|| self.topology.upstream(standby), |name| &self.topology.nodes[name])
    }

    pub(super) fn streaming(&mut self, standby: &Node) {
        let upstream = self.topology.upstream(standby).name.clone();
        self.step(standby, Action::Streaming { upstream }, Impact::None, Reason::Verification);
    }
}
