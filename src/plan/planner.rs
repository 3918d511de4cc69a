//! The planner: folds what the topology asks for over the predicted world, and keeps the steps that are needed.
//!
//! It reads nothing but its two arguments and decides everything; the executor has no choices left. Each step is
//! judged in the world that its predecessors will have left, so `start a` is in the plan of a cluster that does not
//! exist yet.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::observed::Identity;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::pg::block;
use crate::pg::passfile;
use crate::pg::secret::HIDDEN;
use crate::pg::secret::Secret;
use crate::plan::Action;
use crate::plan::Blocked;
use crate::plan::CloneFrom;
use crate::plan::Configure;
use crate::plan::CreatePrimary;
use crate::plan::Difference;
use crate::plan::Digest;
use crate::plan::Effect;
use crate::plan::FileDiff;
use crate::plan::Impact;
use crate::plan::PassfileEntry;
use crate::plan::Plan;
use crate::plan::Reason;
use crate::plan::Refusal;
use crate::plan::Replaced;
use crate::plan::StandbyFiles;
use crate::plan::Step;
use crate::plan::check::Check;
use crate::plan::check::can_start;
use crate::plan::check::check;
use crate::plan::desired;
use crate::plan::drift;
use crate::plan::pair;
use crate::plan::pair::PairState;
use crate::plan::pair::StandbyState;
use crate::plan::predict::predict;
use crate::plan::redact;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Role;
use crate::topology::Topology;

/// Returns the steps that turn `observed` into what `topology` asks for.
#[must_use]
pub fn plan(topology: &Topology, observed: &Observed) -> Plan {
    let mut draft = Draft {
        topology,
        observed,
        followers: followers(topology),
        raised: BTreeSet::new(),
        world: observed.clone(),
        steps: Vec::new(),
        blocked: Vec::new(),
        stuck: BTreeSet::new(),
    };
    draft.whole_cluster();
    Plan {
        cluster: topology.cluster.clone(),
        steps: draft.steps,
        blocked: draft.blocked,
        topology_digest: digest(topology),
        observation_digest: digest(&observed.without_measures()),
    }
}

fn digest(value: &impl serde::Serialize) -> String {
    // Plain data with string keys: there is nothing in it that JSON can't say.
    Digest::of(&serde_json::to_string(value).unwrap_or_default()).0
}

/// Nodes of a cluster up to which each standby has the slots of its future followers from the beginning: more would
/// soon be more than `max_replication_slots`, and the role change makes them as well.
const MOST_READY_SLOTS: usize = 8;

/// A plan in the making.
struct Draft<'a> {
    topology: &'a Topology,
    observed: &'a Observed,
    /// The standbys that stream from each node.
    followers: BTreeMap<&'a NodeName, Vec<&'a Node>>,
    /// Running standbys that were configured before the primary.
    raised: BTreeSet<NodeName>,
    /// What the steps so far will have left.
    world: Observed,
    steps: Vec<Step>,
    blocked: Vec<Blocked>,
    /// Nodes that no further step is made for.
    stuck: BTreeSet<NodeName>,
}

impl<'a> Draft<'a> {
    fn whole_cluster(&mut self) {
        if let Some(what) = not_supported(self.topology) {
            return self.halt(Refusal::NotSupported { what });
        }
        let primary = self.topology.primary();
        match pair::classify(self.topology, self.observed) {
            PairState::NothingYet => self.create(primary),
            PairState::PrimaryRuns => {
                // What a standby needs of the primary is there before the standby asks for it.
                self.replication_role(primary);
                self.slots(primary);
                self.raise_standbys();
            }
            PairState::PrimaryStopped => self.revive(primary),
            PairState::Doubtful(refusal) => return self.halt(refusal),
            PairState::PrimaryUnusable(refusal) => return self.block(primary, refusal),
        }
        self.files(primary, Impact::None);
        self.replication_role(primary);
        self.slots(primary);
        for standby in self.top_down() {
            self.standby(standby);
        }
        let own: BTreeSet<String> = self.topology.nodes.values().map(Node::slot_name).collect();
        for node in self.topology.nodes.values() {
            self.idle_slots(&own, node);
        }
    }

    /// Standbys in an order in which every upstream comes before those that stream from it.
    fn top_down(&self) -> Vec<&'a Node> {
        let mut order: Vec<&Node> = Vec::new();
        let mut rest: Vec<&Node> = self.topology.standbys().collect();
        while !rest.is_empty() {
            let (ready, later): (Vec<&Node>, Vec<&Node>) = rest.iter().partition(|standby| {
                let source = self.source_of(standby);
                let is_placed =
                    |node: &Node| node.role == Role::Primary || order.iter().any(|done| done.name == node.name);
                is_placed(self.topology.upstream(standby)) && is_placed(source)
            });
            // Validation has refused loops of upstreams; a clone source further down only waits for its turn.
            let ready = if ready.is_empty() { later.clone() } else { ready };
            rest.retain(|standby| !ready.iter().any(|placed| placed.name == standby.name));
            order.extend(ready);
        }
        order
    }

    /// The identity of the cluster, which is the primary's.
    fn identity(&self) -> Option<Identity> {
        self.world.node(&self.topology.primary().name).cluster().map(|cluster| cluster.identity.clone())
    }

    fn source_of(&self, standby: &'a Node) -> &'a Node {
        standby.clone_from.as_ref().map_or_else(|| self.topology.upstream(standby), |name| &self.topology.nodes[name])
    }

    /// Nothing is done anywhere: the writer is in doubt.
    fn halt(&mut self, refusal: Refusal) {
        self.steps.clear();
        self.blocked.push(Blocked { node: None, refusal });
        self.stuck.extend(self.topology.nodes.keys().cloned());
    }

    /// This node is left alone, and so is what depends on it.
    fn block(&mut self, node: &Node, refusal: Refusal) {
        if self.stuck.insert(node.name.clone()) {
            self.blocked.push(Blocked { node: Some(node.name.clone()), refusal });
        }
        if node.role == Role::Primary {
            self.stuck.extend(self.topology.nodes.keys().cloned());
        }
    }

    fn is_stuck(&self, node: &Node) -> bool {
        self.stuck.contains(&node.name)
    }

    /// Takes a step into the plan if the predicted world needs it.
    fn step(&mut self, node: &Node, action: Action, impact: Impact, reason: Reason) {
        if self.is_stuck(node) {
            return;
        }
        match check(&node.name, &action, self.topology, &self.world) {
            Check::Satisfied => {}
            Check::Blocked(refusal) => self.block(node, refusal),
            Check::Ready => {
                let diff = diff_of(self.topology, self.world.node(&node.name), &action);
                predict(&node.name, &action, self.topology, &mut self.world);
                let id = step_id(&node.name, &action);
                self.steps.push(Step { id, node: node.name.clone(), action, impact, reason, diff });
            }
        }
    }

    fn create(&mut self, primary: &Node) {
        let seen = self.world.node(&primary.name);
        let mut settings = desired::settings(self.topology, primary);
        settings.extend(desired::defaults_of_created(self.topology, primary, socket_dir(seen)));
        let create = CreatePrimary {
            options: desired::initdb_options(self.topology),
            with_password: self.topology.admin.password.is_some(),
            conf: desired::conf_block(self.topology, primary, &settings),
            hba: desired::hba_block(self.topology, primary),
            passfile: desired::passfile_entries(self.topology),
        };
        self.step(primary, Action::CreatePrimary(create), Impact::None, Reason::NothingYet);
        self.step(primary, Action::Start { role: Role::Primary }, Impact::None, Reason::JustMade);
    }

    /// Leaves a stopped node alone whose server could not start whatever its files say.
    fn only_if_startable(&mut self, node: &Node) {
        if let Err(refusal) = can_start(node, self.topology, &self.world) {
            self.block(node, refusal);
        }
    }

    /// Starts a primary that has data, configured first.
    fn revive(&mut self, primary: &Node) {
        self.only_if_startable(primary);
        // A copy that would come up as a second primary gets its standby files before anything is started.
        for standby in self.topology.standbys() {
            self.complete_copy(standby);
        }
        let impact = match self.world.node(&primary.name).cluster() {
            Some(cluster) if !cluster.markers.postmaster_opts && drift::owns_conf(primary, cluster) => Impact::None,
            Some(_) | None => Impact::Outage,
        };
        self.files(primary, impact);
        self.step(primary, Action::Start { role: Role::Primary }, impact, Reason::Stopped);
    }

    /// Configures running standbys before the primary: restarts begin there, and a standby must have some parameters at
    /// least as high as its primary at all times. One that is to have less waits until the primary has less.
    fn raise_standbys(&mut self) {
        let Some(identity) = self.identity() else { return };
        for standby in self.top_down().into_iter().rev() {
            let runs = pair::classify_standby(self.topology, &self.world, standby, &identity) == StandbyState::Runs;
            let primary = self.world.node(&self.topology.primary().name).sql();
            if runs && primary.is_some_and(|primary| drift::too_low(self.topology, standby, primary).is_none()) {
                let upstream = self.topology.upstream(standby).name.clone();
                let streams = check(&standby.name, &Action::Streaming { upstream }, self.topology, &self.world);
                self.files(standby, Impact::None);
                // One that follows an address which the primary has yet to take is looked at in the end.
                if streams == Check::Satisfied {
                    self.streaming(standby);
                }
                self.raised.insert(standby.name.clone());
            }
        }
    }

    /// Whether a standby that was stopped is to have less of a parameter than it has replayed of its primary.
    fn is_lowered(&self, standby: &Node) -> bool {
        let seen = self.observed.node(&standby.name);
        let stopped = seen.cluster().filter(|_| seen.server.is_absent());
        stopped.is_some_and(|cluster| drift::not_replayed(self.topology, standby, cluster).is_some())
    }

    fn streaming(&mut self, standby: &Node) {
        let upstream = self.topology.upstream(standby).name.clone();
        self.step(standby, Action::Streaming { upstream }, Impact::None, Reason::Verification);
    }

    /// postgresql.conf, pg_hba.conf and passfile. `at_start`: the impact of the start that puts a stopped node's in force.
    fn files(&mut self, node: &Node, at_start: Impact) {
        if self.is_stuck(node) {
            return;
        }
        let seen = self.world.node(&node.name);
        let Some(cluster) = seen.cluster() else { return };
        let is_running = seen.server.known().is_some();
        match drift::configuration(self.topology, node, cluster, seen.sql()) {
            Err(refusal) => return self.block(node, refusal),
            Ok(None) => {}
            Ok(Some(conf)) => {
                let impact = match (conf.effect, node.role) {
                    (Effect::AtStart, _) => at_start,
                    (Effect::Reload, _) => Impact::Reload,
                    (Effect::Restart, Role::Primary) => Impact::Outage,
                    (Effect::Restart, Role::Standby) => Impact::Restart,
                };
                let before = Digest::of(&cluster.conf.main.text);
                let reason = if conf.differences.is_empty() {
                    Reason::NotInForce
                } else {
                    Reason::Differs(self.shown(conf.differences))
                };
                let configure = Configure { block: conf.block, before, effect: conf.effect, settings: conf.settings };
                self.step(node, Action::Configure(configure), impact, reason);
            }
        }
        let Some(cluster) = self.world.node(&node.name).cluster() else { return };
        match drift::rules(self.topology, node, cluster) {
            Err(refusal) => return self.block(node, refusal),
            Ok(None) => {
                let unread = self.world.node(&node.name).sql().is_some_and(|sql| !sql.hba_loaded);
                let block = unread.then(|| desired::hba_block(self.topology, node));
                if let Some(block) = block.filter(|block| drift::has_rules(&cluster.hba, block)) {
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
        self.passfile(node);
    }

    /// Differences with their secrets hidden.
    fn shown(&self, differences: Vec<Difference>) -> Vec<Difference> {
        let hide = |name: &str, value: Option<String>| value.map(|value| redact::setting(name, &value, self.topology));
        let shown = differences.into_iter().map(|Difference { name, now, then }| {
            let (now, then) = (hide(&name, now), hide(&name, then));
            Difference { name, now, then }
        });
        shown.collect()
    }

    fn passfile(&mut self, node: &Node) {
        let entries = desired::passfile_entries(self.topology);
        let Some(cluster) = self.world.node(&node.name).cluster() else { return };
        if !entries.is_empty() && drift::uses_passfile(node, cluster) {
            let in_use = node.role == Role::Standby && drift::names_passfile(node, cluster);
            let reason = if in_use { Reason::Missing } else { Reason::ForRoleChange };
            self.step(node, Action::Passfile { entries }, Impact::None, reason);
        }
    }

    fn replication_role(&mut self, primary: &Node) {
        let Some(cluster) = self.world.node(&primary.name).cluster() else { return };
        let was_running = self.observed.node(&primary.name).sql().is_some();
        let was_there = self.observed.node(&primary.name).cluster().is_some();
        let reason = if was_there && !was_running {
            Reason::KnownAfterStart
        } else if cluster.replication_role.known().is_some() {
            Reason::Differs(Vec::new())
        } else {
            Reason::Missing
        };
        let wanted = desired::role(self.topology, drift::owns_rules(primary, cluster));
        self.step(primary, Action::ReplicationRole(wanted), Impact::None, reason);
    }

    /// One slot for each standby that streams from this node, and on a standby one for each node that would follow it.
    fn slots(&mut self, node: &Node) {
        if !self.topology.replication.slots {
            return;
        }
        let Some(cluster) = self.world.node(&node.name).cluster() else { return };
        let for_role_change = drift::owns_rules(node, cluster) && node.role == Role::Standby;
        let was_stopped =
            self.observed.node(&node.name).cluster().is_some() && self.observed.node(&node.name).sql().is_none();
        for follower in self.followers_of(node) {
            let reason = if was_stopped { Reason::KnownAfterStart } else { Reason::Missing };
            self.step(node, Action::Slot { name: follower.slot_name(), reserve: true }, Impact::None, reason);
        }
        if for_role_change && self.topology.nodes.len() <= MOST_READY_SLOTS {
            let fed = self.fed_slots(node);
            let others = self.topology.nodes.values().filter(|other| other.name != node.name);
            for name in others.map(Node::slot_name).filter(|name| !fed.contains(name)) {
                self.step(node, Action::Slot { name, reserve: false }, Impact::None, Reason::ForRoleChange);
            }
        }
    }

    fn followers_of(&self, node: &Node) -> Vec<&'a Node> {
        self.followers.get(&node.name).cloned().unwrap_or_default()
    }

    fn fed_slots(&self, node: &Node) -> BTreeSet<String> {
        self.followers_of(node).into_iter().map(Node::slot_name).collect()
    }

    /// A slot that feeds nobody must not hold back WAL.
    fn idle_slots(&mut self, own: &BTreeSet<String>, node: &Node) {
        let seen = self.world.node(&node.name);
        let (Some(cluster), Some(_)) = (seen.cluster(), seen.sql()) else { return };
        let fed = if self.topology.replication.slots { self.fed_slots(node) } else { BTreeSet::new() };
        let idle = cluster.slots.iter().filter(|(name, slot)| {
            let is_ours = name.starts_with("pgpair_") || own.contains(*name);
            let keeps_wal = slot.reserved || !own.contains(*name);
            slot.physical && !slot.active && is_ours && keeps_wal && !fed.contains(*name)
        });
        let idle: Vec<String> = idle.map(|(name, _)| name.clone()).collect();
        if idle.is_empty() {
            return;
        }
        for name in idle {
            self.step(node, Action::DropSlot { name }, Impact::None, Reason::FeedsNobody);
        }
        // What a role change will need is made anew, without holding back WAL.
        self.slots(node);
    }

    fn standby(&mut self, standby: &'a Node) {
        let upstream = self.topology.upstream(standby);
        let Some(identity) = self.identity() else { return };
        match pair::classify_standby(self.topology, &self.world, standby, &identity) {
            StandbyState::NoData => self.clone(standby, None, Impact::None, Reason::NoData),
            StandbyState::Unfinished(found) => {
                self.clone(standby, Some(Replaced::Unfinished), Impact::Destroy, Reason::Unfinished(found));
            }
            StandbyState::OtherCluster(found) => {
                let replaced = Some(Replaced::Cluster(found.clone()));
                self.clone(standby, replaced, Impact::Destroy, Reason::OtherCluster(found));
            }
            StandbyState::WithoutStandbyFiles => {
                self.only_if_startable(standby);
                self.complete_copy(standby);
            }
            StandbyState::Stopped => {
                self.only_if_startable(standby);
                if !self.is_lowered(standby) {
                    self.files(standby, Impact::None);
                }
                self.mark(standby);
            }
            StandbyState::Runs => {
                if !self.raised.contains(&standby.name) {
                    let primary = self.observed.node(&self.topology.primary().name).sql();
                    if primary.is_some_and(|primary| drift::too_low(self.topology, standby, primary).is_some()) {
                        // The primary has less by now, and that must have arrived here first.
                        self.streaming(standby);
                    }
                    self.files(standby, Impact::None);
                }
                let marked = check(&standby.name, &self.standby_files(standby), self.topology, &self.world);
                if let Check::Blocked(_) = marked {
                    let found = "follows another upstream by its recovery.conf while it runs; stop it, and apply again";
                    self.block(standby, Refusal::NotAStandbyOf { node: standby.name.clone(), found: found.into() });
                }
            }
            StandbyState::Unusable(refusal) => return self.block(standby, refusal),
            StandbyState::Doubtful(refusal) => return self.halt(refusal),
        }
        if self.is_stuck(upstream) {
            return;
        }
        if let Some(refusal) = self.beyond_its_wal(standby) {
            return self.block(standby, refusal);
        }
        let is_new = self.observed.node(&standby.name).cluster().is_none_or(|cluster| cluster.identity != identity);
        let reason = if is_new { Reason::JustMade } else { Reason::Stopped };
        self.step(standby, Action::Start { role: Role::Standby }, Impact::None, reason);
        self.streaming(standby);
        if self.is_lowered(standby) {
            // It had to come up with what it had, and to replay that its primary has less now.
            self.files(standby, Impact::None);
            self.streaming(standby);
        }
        self.slots(standby);
        self.step(standby, Action::RemoveOld, Impact::None, Reason::Replaced);
    }

    /// A standby that does not stream, and whose slot has lost the WAL that it needs, will never catch up.
    fn beyond_its_wal(&self, standby: &Node) -> Option<Refusal> {
        let upstream = self.topology.upstream(standby);
        let seen = self.observed.node(&standby.name);
        let is_member = seen.cluster().is_some_and(|cluster| Some(&cluster.identity) == self.identity().as_ref());
        let streams = seen.sql().is_some_and(|sql| sql.receiver.is_some());
        let slot = self.observed.node(&upstream.name).cluster()?.slots.get(&standby.slot_name())?;
        let is_lost = slot.wal_status.as_deref() == Some("lost");
        (is_member && !streams && is_lost).then(|| Refusal::BeyondWal {
            node: standby.name.clone(),
            upstream: upstream.name.clone(),
            slot: standby.slot_name(),
        })
    }

    fn standby_files(&self, standby: &Node) -> Action {
        let existing =
            self.world.node(&standby.name).cluster().and_then(|cluster| cluster.markers.recovery_conf.clone());
        let recovery_conf = desired::recovery_conf(self.topology, standby, existing.as_deref());
        Action::StandbyFiles(StandbyFiles { recovery_conf })
    }

    /// Makes a stopped copy without standby files a standby: its configuration first, the standby files last.
    fn complete_copy(&mut self, standby: &Node) {
        let Some(identity) = self.identity() else { return };
        if pair::classify_standby(self.topology, &self.world, standby, &identity) == StandbyState::WithoutStandbyFiles {
            self.files(standby, Impact::None);
            self.mark(standby);
        }
    }

    /// Puts the standby files in place, and the passfile that a recovery.conf may be the first to name.
    fn mark(&mut self, standby: &Node) {
        self.step(standby, self.standby_files(standby), Impact::None, Reason::NoStandbyFiles);
        self.passfile(standby);
    }

    fn clone(&mut self, standby: &'a Node, replaces: Option<Replaced>, impact: Impact, reason: Reason) {
        let source = self.source_of(standby);
        let upstream = self.topology.upstream(standby);
        if self.is_stuck(source) || self.is_stuck(upstream) {
            return;
        }
        let seen = self.world.node(&standby.name);
        let mut settings = desired::settings(self.topology, standby);
        settings.extend(desired::defaults_of_created(self.topology, standby, socket_dir(seen)));
        let inherited = self.world.node(&source.name).cluster().and_then(|cluster| cluster.conf.read().ok());
        settings.extend(desired::endless_recovery(self.topology, |name| {
            let placed = inherited.as_ref().and_then(|read| read.values.get(name));
            placed.map(|placed| placed.value.clone()).into_iter().collect()
        }));
        // The slot on the upstream keeps the WAL that the clone will ask for, if that is where it is cloned from.
        let slot = (self.topology.replication.slots && source.name == upstream.name).then(|| standby.slot_name());
        let clone = CloneFrom {
            source: source.name.clone(),
            host: source.host.clone(),
            port: source.port,
            user: self.topology.replication.user.clone(),
            slot,
            conf: desired::conf_block(self.topology, standby, &settings),
            hba: desired::hba_block(self.topology, standby),
            recovery_conf: desired::recovery_conf(self.topology, standby, None),
            passfile: desired::passfile_entries(self.topology),
            replaces,
        };
        self.step(standby, Action::Clone(clone), impact, reason);
    }
}

/// The standbys that stream from each node.
fn followers(topology: &Topology) -> BTreeMap<&NodeName, Vec<&Node>> {
    let mut followers: BTreeMap<&NodeName, Vec<&Node>> = BTreeMap::new();
    for standby in topology.standbys() {
        followers.entry(&topology.upstream(standby).name).or_default().push(standby);
    }
    followers
}

/// A socket folder that os_user can write, where the build's own is not one.
fn socket_dir(seen: &NodeObserved) -> Option<&'static str> {
    let own = seen.binaries.known().and_then(|binaries| binaries.socket_dir.as_ref());
    own.is_some_and(|dir| !dir.writable).then_some("/tmp")
}

/// The parts of the format that this version can read and not yet act on.
fn not_supported(topology: &Topology) -> Option<String> {
    for node in topology.nodes.values() {
        let given = [
            ("ssh", node.ssh.is_some()),
            ("become", node.r#become.is_some()),
            ("config_dir", node.config_dir.is_some()),
            ("service", node.service.is_some()),
            ("waldir", node.waldir.is_some()),
            ("tablespaces", !node.tablespaces.is_empty()),
        ];
        if let Some((key, _)) = given.into_iter().find(|(_, given)| *given) {
            return Some(format!("`{key}` of node {}", node.name));
        }
    }
    topology.replication.synchronous.is_some().then(|| "`replication.synchronous`".to_owned())
}

fn step_id(node: &NodeName, action: &Action) -> String {
    match action {
        Action::Slot { name, .. } | Action::DropSlot { name } => format!("{node}.{}.{name}", action.name()),
        Action::CreatePrimary(_)
        | Action::Clone(_)
        | Action::StandbyFiles(_)
        | Action::Configure(_)
        | Action::Hba { .. }
        | Action::Passfile { .. }
        | Action::Start { .. }
        | Action::ReplicationRole(_)
        | Action::Streaming { .. }
        | Action::RemoveOld => format!("{node}.{}", action.name()),
    }
}

/// Returns the files that an action writes, before and after.
fn diff_of(topology: &Topology, seen: &NodeObserved, action: &Action) -> Vec<FileDiff> {
    let conf = |before: &str, after: &str| FileDiff {
        file: "postgresql.conf".into(),
        before: redact::conf_text(before, topology),
        after: redact::conf_text(after, topology),
    };
    let hba = |before: &str, after: &str| FileDiff {
        file: "pg_hba.conf".into(),
        before: redact::hba_text(before),
        after: redact::hba_text(after),
    };
    let passfile_lines = |entries: &[PassfileEntry]| {
        let lines =
            entries.iter().map(|entry| passfile::line(&entry.database, &entry.user, &Secret::new(HIDDEN.to_owned())));
        let after: String = lines.collect();
        (!after.is_empty()).then(|| FileDiff { file: desired::PASSFILE.into(), before: String::new(), after })
    };
    let standby_files = |before: Option<&String>, recovery_conf: Option<&String>| match recovery_conf {
        Some(text) => FileDiff {
            file: "recovery.conf".into(),
            before: redact::conf_text(before.map_or("", String::as_str), topology),
            after: redact::conf_text(text, topology),
        },
        None => FileDiff { file: "standby.signal".into(), before: String::new(), after: String::new() },
    };
    let cluster = seen.cluster();
    match action {
        Action::CreatePrimary(create) => {
            let files = [conf("", &create.conf.text()), hba("", &create.hba.text())];
            files.into_iter().chain(passfile_lines(&create.passfile)).collect()
        }
        Action::Clone(clone) => {
            let mut files = vec![conf("", &clone.conf.text()), hba("", &clone.hba.text())];
            files.extend(passfile_lines(&clone.passfile));
            files.push(standby_files(None, clone.recovery_conf.as_ref()));
            files
        }
        Action::StandbyFiles(files) => {
            let before = cluster.and_then(|cluster| cluster.markers.recovery_conf.as_ref());
            vec![standby_files(before, files.recovery_conf.as_ref())]
        }
        Action::Configure(configure) => {
            let before = cluster.map_or("", |cluster| cluster.conf.main.text.as_str());
            let after = match &configure.block {
                Some(block) => block::put_last(before, block),
                None => block::remove(before),
            };
            after.ok().filter(|after| after != before).map(|after| conf(before, &after)).into_iter().collect()
        }
        Action::Hba { block, .. } => {
            let before = cluster.map_or("", |cluster| cluster.hba.as_str());
            let after = block::put_before_rules(before, block).ok();
            after.filter(|after| after != before).map(|after| hba(before, &after)).into_iter().collect()
        }
        Action::Passfile { entries } => passfile_lines(entries).into_iter().collect(),
        Action::Start { .. }
        | Action::ReplicationRole(_)
        | Action::Slot { .. }
        | Action::DropSlot { .. }
        | Action::Streaming { .. }
        | Action::RemoveOld => Vec::new(),
    }
}
