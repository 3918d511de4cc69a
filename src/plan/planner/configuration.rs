//! Configuration of a node: its files, and the order in which nodes take parameters that both must agree on.

use crate::observed::Cluster;
use crate::observed::Identity;
use crate::observed::Observed;
use crate::observed::Passfile;
use crate::pg::block;
use crate::plan::Action;
use crate::plan::Configure;
use crate::plan::Difference;
use crate::plan::Digest;
use crate::plan::Effect;
use crate::plan::Impact;
use crate::plan::Reason;
use crate::plan::Reset;
use crate::plan::check::Check;
use crate::plan::check::check;
use crate::plan::desired;
use crate::plan::drift;
use crate::plan::drift::ConfDrift;
use crate::plan::drift::Floors;
use crate::plan::pair;
use crate::plan::pair::StandbyState;
use crate::plan::planner::Draft;
use crate::plan::redact;
use crate::plan::synchronous::NAMES;
use crate::topology::Node;
use crate::topology::Role;

/// Returns the digest of postgresql.conf, where it can be known before the steps of this plan are done.
pub(super) fn text_digest(cluster: &Cluster) -> Option<Digest> {
    match cluster.identity {
        Identity::Known(_) => Some(Digest::of(&cluster.conf.main.text)),
        Identity::CreatedOn(_) => None,
    }
}

/// Returns the step's action that makes this change of the files that are there.
pub(super) fn action_of(change: ConfDrift, cluster: &Cluster) -> Action {
    let auto = cluster.conf.auto.as_ref().map_or("", |auto| auto.text.as_str());
    let reset = Reset { names: change.reset, before: Reset::digest(auto) };
    Action::Configure(Configure {
        block: change.block,
        before: text_digest(cluster),
        reset: (!reset.names.is_empty()).then_some(reset),
        effect: change.effect,
        settings: change.settings,
        restored: change.restored,
    })
}

impl Draft<'_> {
    /// postgresql.conf, pg_hba.conf and passfile. `at_start`: the impact of the start that puts a stopped node's in force.
    pub(super) fn files(&mut self, node: &Node, at_start: Impact) {
        self.files_above(node, at_start, &Floors::default());
    }

    /// The same, but for parameters that would go below `least`.
    pub(super) fn files_above(&mut self, node: &Node, at_start: Impact, least: &Floors) {
        if self.is_stuck(node) {
            return;
        }
        // A standby that is about to be restarted, or told another way, has its password by then.
        self.passfile(node);
        let synchronous = self.synchronous_names(node).map(|names| (NAMES, names));
        let kept = self.kept_conninfo(node).map(|conninfo| ("primary_conninfo", conninfo));
        let at_this_point = synchronous.into_iter().chain(kept).collect();
        let seen = self.world.node(&node.name);
        let Some(cluster) = seen.cluster() else { return };
        match drift::configuration(self.topology, node, cluster, seen.sql(), least, at_this_point) {
            Err(refusal) => return self.block(node, refusal),
            Ok(changes) => {
                for change in changes {
                    self.configure(node, change, at_start);
                }
            }
        }
        self.tell_followers(node);
        self.rules(node, at_start);
        self.passfile(node);
    }

    /// pg_hba.conf.
    pub(super) fn rules(&mut self, node: &Node, at_start: Impact) {
        if self.is_stuck(node) {
            return;
        }
        let seen = self.world.node(&node.name);
        let is_running = seen.server.known().is_some();
        let Some(cluster) = seen.cluster() else { return };
        match drift::rules(self.topology, node, cluster) {
            Err(refusal) => self.block(node, refusal),
            Ok(None) => {
                let unread = self.world.node(&node.name).sql().is_some_and(|sql| !sql.hba_loaded);
                let block = unread.then(|| desired::hba_block(self.topology, node));
                if let Some(block) = block.filter(|block| block::stands_before_rules(&cluster.hba, block)) {
                    let before = Digest::of(&cluster.hba);
                    self.step(node, Action::Hba { block, before }, Impact::Reload, Reason::NotInForce);
                }
            }
            Ok(Some(block)) => {
                let impact = if is_running { Impact::Reload } else { at_start };
                let before = Digest::of(&cluster.hba);
                self.step(node, Action::Hba { block, before }, impact, Reason::RulesMissing);
            }
        }
    }

    fn configure(&mut self, node: &Node, mut change: ConfDrift, at_start: Impact) {
        let Some(cluster) = self.world.node(&node.name).cluster() else { return };
        let impact = match (change.effect, node.role) {
            (Effect::AtStart, _) => at_start,
            (Effect::Reload, _) => Impact::Reload,
            (Effect::Restart, Role::Primary) => Impact::Outage,
            (Effect::Restart, Role::Standby) => Impact::Restart,
        };
        let differences = self.shown(std::mem::take(&mut change.differences));
        let reason = if differences.is_empty() { Reason::NotInForce } else { Reason::Differs(differences) };
        let configure = action_of(change, cluster);
        self.step(node, configure, impact, reason);
    }

    /// Differences with their secrets hidden.
    pub(super) fn shown(&self, differences: Vec<Difference>) -> Vec<Difference> {
        let hide = |name: &str, value: Option<String>| value.map(|value| redact::setting(name, &value, self.topology));
        let shown = differences.into_iter().map(|difference| Difference {
            now: hide(&difference.name, difference.now),
            then: hide(&difference.name, difference.then),
            ..difference
        });
        shown.collect()
    }

    pub(super) fn passfile(&mut self, node: &Node) {
        let entries = desired::passfile_entries(self.topology);
        let Some(cluster) = self.world.node(&node.name).cluster() else { return };
        let is_wanted = !entries.is_empty() && cluster.passfile != Passfile::Right;
        if is_wanted && drift::uses_passfile(node, cluster) {
            let in_use = node.role == Role::Standby && drift::names_passfile(node, cluster);
            let reason = if in_use { Reason::Missing } else { Reason::ForRoleChange };
            self.step(node, Action::Passfile { entries }, Impact::None, reason);
        }
    }

    /// Configures running standbys before the primary: restarts begin there, and a standby must have some parameters at
    /// least as high as its primary at all times. What is to be less waits until the primary has less.
    pub(super) fn raise_standbys(&mut self) {
        let Some(identity) = self.identity() else { return };
        for standby in self.top_down().into_iter().rev() {
            let state = pair::classify_standby(self.topology, &self.world, standby, &identity);
            let runs = state == StandbyState::Runs && self.replaced_for(standby, &state).is_none();
            let Some(least) = self.floors_of_primary(&self.world).filter(|_| runs) else { continue };
            if self.waits_for_port(standby) {
                continue;
            }
            let upstream = self.topology.upstream(standby).name.clone();
            let streams = check(&standby.name, &Action::Streaming { upstream }, self.topology, &self.world);
            let upstream = self.topology.upstream(standby);
            if upstream.role == Role::Standby && self.world.node(&upstream.name).sql().is_some() {
                // One that turns to it finds its slot there, which keeps WAL from then on.
                self.slots(upstream);
            }
            let is_lowered = self.is_below(&self.world, standby, &least);
            self.files_above(standby, Impact::None, &least);
            // One that follows an address which the primary has yet to take is looked at in the end.
            if streams == Check::Satisfied {
                self.streaming(standby);
            }
            if !is_lowered {
                self.raised.insert(standby.name.clone());
            }
        }
    }

    /// Whether the port that a standby is to have is another node's still.
    fn waits_for_port(&self, standby: &Node) -> bool {
        let mut neighbours =
            self.topology.nodes.values().filter(|other| other.name != standby.name && other.host == standby.host);
        neighbours.any(|other| {
            let server = self.world.node(&other.name).server.known();
            server.is_some_and(|server| server.port == Some(standby.port))
        })
    }

    /// What the running primary has of the parameters that a standby must have as well.
    pub(super) fn floors_of_primary(&self, world: &Observed) -> Option<Floors> {
        let sql = world.node(&self.topology.primary().name).sql()?;
        Some(Floors::of_server(self.topology.postgresql.version, sql))
    }

    /// Whether a standby is to have less of a parameter than `least`.
    pub(super) fn is_below(&self, world: &Observed, standby: &Node, least: &Floors) -> bool {
        let seen = world.node(&standby.name);
        seen.cluster().is_some_and(|cluster| drift::lowers(self.topology, standby, cluster, seen.sql(), least))
    }

    /// What a standby must not have less of before it has replayed all that was there when we looked: what it has
    /// replayed of its primary, and what the primary ran with.
    pub(super) fn floors_until_replayed(&self, standby: &Node) -> Option<Floors> {
        let replayed = self.observed.node(&standby.name).cluster().map(Floors::replayed);
        match (replayed, self.floors_of_primary(self.observed)) {
            (Some(replayed), Some(running)) => Some(replayed.and(&running)),
            (one, other) => one.or(other),
        }
    }

    /// The same for one that was stopped, if it has less or the topology wants it to.
    pub(super) fn floors_of_stopped(&self, standby: &Node) -> Option<Floors> {
        let seen = self.observed.node(&standby.name);
        seen.cluster().filter(|_| seen.server.is_absent())?;
        self.floors_until_replayed(standby).filter(|least| self.is_below(self.observed, standby, least))
    }
}
