//! The return of a node whose WAL went another way than the primary's: rewound where that can be, else cloned anew.

use crate::observed::Identity;
use crate::plan::Action;
use crate::plan::Impact;
use crate::plan::Reason;
use crate::plan::Rewind;
use crate::plan::StopFor;
use crate::plan::kept;
use crate::plan::pair;
use crate::plan::pair::Diverged;
use crate::plan::pair::StandbyState;
use crate::plan::planner::Draft;
use crate::plan::rewind;
use crate::topology::Node;

impl<'a> Draft<'a> {
    /// Returns where a node that has data of this cluster left the primary's WAL, if it did.
    pub(super) fn diverged(&self, standby: &Node, state: &StandbyState) -> Option<Diverged> {
        let has_data = match state {
            StandbyState::Stopped
            | StandbyState::Runs
            | StandbyState::Superseded
            | StandbyState::WithoutStandbyFiles => true,
            StandbyState::NoData
            | StandbyState::Unfinished(_)
            | StandbyState::OtherCluster(_)
            | StandbyState::Unusable(_)
            | StandbyState::Doubtful(_) => false,
        };
        let is_asked = self.request.rebuilds(&standby.name);
        let primary = &self.topology.primary().name;
        pair::diverged(&self.world, &standby.name, primary).filter(|_| has_data && !is_asked)
    }

    /// Fences it first, which needs no allowance; what it holds alone is kept aside by the step that replaces it.
    pub(super) fn rejoin(&mut self, standby: &'a Node, identity: Identity, state: &StandbyState, diverged: &Diverged) {
        let primary = self.topology.primary();
        self.mode(standby);
        match state {
            StandbyState::Superseded => {
                self.only_if_startable(standby);
                self.fence_superseded(standby);
            }
            StandbyState::WithoutStandbyFiles => {
                self.only_if_startable(standby);
                self.complete_copy(standby);
            }
            StandbyState::Stopped
            | StandbyState::Runs
            | StandbyState::NoData
            | StandbyState::Unfinished(_)
            | StandbyState::OtherCluster(_)
            | StandbyState::Unusable(_)
            | StandbyState::Doubtful(_) => {}
        }
        let no_rewind = rewind::impossible(self.topology, &self.world, standby, &primary.name, diverged);
        let lost = self.observed.node(&standby.name).cluster().and_then(|own| own.lost);
        let is_cloned = no_rewind.is_some();
        let reason = Reason::Diverged { by: primary.name.clone(), diverged: *diverged, lost, no_rewind };
        if is_cloned {
            return self.replace(standby, identity, reason);
        }
        let seen = self.world.node(&standby.name);
        let Some(own) = seen.cluster() else { return };
        let kept = kept::own_files(&own.conf, None, &standby.data_dir);
        if seen.server.known().is_some() {
            let purpose = StopFor::Rewind { source: primary.name.clone() };
            self.step(standby, Action::Stop(purpose), Impact::Destroy, reason.clone());
        }
        let rewind = Rewind { source: primary.name.clone(), kept };
        self.step(standby, Action::Rewind(rewind), Impact::Destroy, reason);
        self.files(standby, Impact::None);
    }
}
