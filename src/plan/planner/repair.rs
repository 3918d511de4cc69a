//! Repair of a standby that is there: cloned anew, turned to another upstream, let in by its data directory's mode.
//!
//! Nothing is stopped or replaced unless what comes after is possible; what that takes is asked before the first step.

use crate::observed::Identity;
use crate::observed::WrongAccess;
use crate::plan::Action;
use crate::plan::Impact;
use crate::plan::LostWal;
use crate::plan::Reason;
use crate::plan::Refusal;
use crate::plan::Replaced;
use crate::plan::StopFor;
use crate::plan::check::Check;
use crate::plan::check::check;
use crate::plan::desired;
use crate::plan::drift;
use crate::plan::pair;
use crate::plan::pair::StandbyState;
use crate::plan::planner::Draft;
use crate::topology::Node;

impl<'a> Draft<'a> {
    /// A mode that PostgreSQL refuses is mended; an owner is not pgpair's to change.
    pub(super) fn mode(&mut self, node: &Node) {
        let wrong = self.world.node(&node.name).cluster().and_then(|cluster| cluster.wrong_access.as_ref());
        if let Some(WrongAccess::Mode(mode)) = wrong {
            self.step(node, Action::Mode, Impact::None, Reason::TooOpen(*mode));
        }
    }

    /// Returns why a node that has data of this cluster is to be cloned anew, if it is.
    pub(super) fn replaced_for(&self, standby: &Node, state: &StandbyState) -> Option<Reason> {
        let has_data = match state {
            StandbyState::Stopped | StandbyState::Runs | StandbyState::WithoutStandbyFiles => true,
            // Whoever asks for a rebuild knows that it does not answer, or that it may have written on its own.
            StandbyState::Unusable(Refusal::NoAnswer { .. } | Refusal::FormerPrimary { .. }) => {
                return self.request.rebuilds(&standby.name).then_some(Reason::Asked);
            }
            StandbyState::NoData
            | StandbyState::Unfinished(_)
            | StandbyState::OtherCluster(_)
            | StandbyState::Unusable(_)
            | StandbyState::Doubtful(_) => false,
        };
        if !has_data {
            return None;
        }
        if self.request.rebuilds(&standby.name) {
            return Some(Reason::Asked);
        }
        let lost = self.lost_wal(standby)?;
        Some(Reason::BeyondWal { upstream: self.topology.upstream(standby).name.clone(), lost })
    }

    /// By what was seen: an upstream that is itself made anew has other WAL then.
    fn lost_wal(&self, standby: &Node) -> Option<LostWal> {
        let upstream = self.topology.upstream(standby);
        self.world.node(&upstream.name).cluster()?.wal?;
        pair::lost_wal(self.topology, self.observed, standby)
    }

    /// Stops a node if it runs, and clones it anew with the configuration that it has.
    pub(super) fn replace(&mut self, standby: &'a Node, identity: Identity, reason: Reason) {
        let (source, upstream) = (self.source_of(standby), self.topology.upstream(standby));
        if self.is_stuck(source) || self.is_stuck(upstream) {
            return;
        }
        let seen = self.world.node(&standby.name);
        if seen.cluster().is_some_and(pair::is_fresh_clone) {
            return self.halt(Refusal::FreshClone { node: standby.name.clone() });
        }
        if seen.server.known().is_some() {
            let slot = (self.topology.replication.slots && source.name == upstream.name).then(|| standby.slot_name());
            let purpose = StopFor::Clone { source: source.name.clone(), slot };
            // What allows the clone allows this: a restart would be of no use.
            self.step(standby, Action::Stop(purpose), Impact::Destroy, reason.clone());
        }
        self.clone(standby, Some(Replaced::Member(identity)), Impact::Destroy, reason);
        self.files(standby, Impact::None);
    }

    /// Before version 12 only a restart makes a running standby follow another recovery.conf.
    pub(super) fn turn(&mut self, standby: &Node) {
        let seen = self.world.node(&standby.name);
        let Some(text) = seen.cluster().and_then(|cluster| cluster.markers.recovery_conf.clone()) else { return };
        let action = self.standby_files(standby);
        let reason = match check(&standby.name, &action, self.topology, &self.world) {
            Check::Satisfied if drift::has_read_recovery_conf(self.topology, standby, seen) => return,
            Check::Satisfied => Reason::NotInForce,
            Check::Ready | Check::Blocked(_) => {
                Reason::Differs(self.shown(desired::recovery_conf_differences(self.topology, standby, &text)))
            }
        };
        self.step(standby, Action::Stop(StopFor::Restart), Impact::Restart, reason.clone());
        self.step(standby, action, Impact::None, reason);
    }
}
