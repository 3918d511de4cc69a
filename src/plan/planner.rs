//! The planner: folds what the topology asks for over the predicted world, and keeps the steps that are needed.
//!
//! It reads nothing but its arguments and decides everything; the executor has no choices left. Each step is
//! judged in the world that its predecessors will have left, so `start a` is in the plan of a cluster that does not
//! exist yet.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::observed::Identity;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::plan::Action;
use crate::plan::Blocked;
use crate::plan::CreatePrimary;
use crate::plan::Digest;
use crate::plan::Effect;
use crate::plan::Impact;
use crate::plan::Plan;
use crate::plan::Reason;
use crate::plan::Refusal;
use crate::plan::Request;
use crate::plan::RoleChange;
use crate::plan::Step;
use crate::plan::check::Check;
use crate::plan::check::can_start;
use crate::plan::check::check;
use crate::plan::desired;
use crate::plan::drift;
use crate::plan::pair;
use crate::plan::pair::PairState;
use crate::plan::predict::predict;
use crate::plan::unfenced;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Role;
use crate::topology::Topology;

mod access;
mod configuration;
mod diff;
mod failover;
mod hooks;
mod objects;
mod rejoin;
mod repair;
mod role_change;
mod standby;
mod synchronous;

pub use synchronous::waits_again;

/// Returns the steps that turn `observed` into what `topology` asks for.
#[must_use]
pub fn plan(topology: &Topology, observed: &Observed) -> Plan {
    plan_with(topology, observed, &Request::default())
}

/// The same, with what a command asks for besides.
#[must_use]
pub fn plan_with(topology: &Topology, observed: &Observed, request: &Request) -> Plan {
    let state = pair::classify(topology, observed);
    let found = state.row().id;
    let candidate = &topology.primary().name;
    let by_force = request.fails_over_to(candidate);
    match state {
        PairState::LeftElsewhere { primary, .. } | PairState::Lost { primary, is_in_reach: true, .. } if by_force => {
            failover::plan(topology, observed, request, &primary, Some(&primary), found)
        }
        PairState::Lost { primary, is_in_reach: false, .. } if by_force => {
            failover::plan(topology, observed, request, &primary, None, found)
        }
        PairState::Doubtful(Refusal::TwoPrimaries { first, second, fork: _ })
            if topology.nodes[&first.node].role != topology.nodes[&second.node].role
                && [&first.node, &second.node].iter().any(|name| request.discards(name)) =>
        {
            failover::plan_without_second(topology, observed, request, found)
        }
        PairState::Elsewhere { primary } => with_role_change(topology, observed, request, &primary, true, found),
        PairState::LeftElsewhere { primary, is_fenced } => {
            with_role_change(topology, observed, request, &primary, is_fenced, found)
        }
        state @ (PairState::NothingYet
        | PairState::PrimaryRuns
        | PairState::Armed
        | PairState::PrimaryStopped
        | PairState::Fenced
        | PairState::Ended { .. }
        | PairState::AllStandbys { .. }
        | PairState::Lost { .. }
        | PairState::Pending
        | PairState::Headless
        | PairState::Doubtful(_)
        | PairState::PrimaryUnusable(_)) => {
            let mut draft = Draft::new(topology, observed, request);
            draft.whole_cluster(state);
            draft.into_plan(found)
        }
    }
}

/// Plans for the roles as they are, and then for the change of the primary from the node that it is on; `at_once`: in the
/// same plan.
fn with_role_change(
    topology: &Topology,
    observed: &Observed,
    request: &Request,
    primary: &NodeName,
    at_once: bool,
    found: &'static str,
) -> Plan {
    let as_they_are = topology.with_primary(primary);
    let candidate = &topology.primary().name;
    let mut draft = Draft { candidate: Some(candidate), ..Draft::new(&as_they_are, observed, request) };
    let state = pair::classify(&as_they_are, observed);
    // What is fenced already is not to be fenced anew.
    draft.whole_cluster(if state == PairState::Armed { PairState::PrimaryRuns } else { state });
    if at_once && !draft.is_halted() && !draft.is_stuck(&as_they_are.nodes[primary]) {
        draft.make_ready(&as_they_are.nodes[candidate], topology);
        draft.refuse_if_unready(candidate);
    }
    for step in &mut draft.steps {
        step.primary = Some(primary.clone());
    }
    let nothing_more = Request::default();
    let mut draft = draft.with_roles_of(topology, &nothing_more);
    let from = &topology.nodes[primary];
    if draft.is_halted() || draft.is_stuck(from) || draft.is_stuck(topology.primary()) {
        return draft.into_plan(found);
    }
    if at_once {
        draft.move_primary(from, Impact::Switchover);
    } else {
        draft.role_change_later(from);
    }
    if draft.role_change.is_some() {
        draft.with_the_change(Impact::Switchover, |draft| {
            draft.before_standbys(topology.primary());
            draft.standbys(topology.primary());
        });
    }
    draft.into_plan(found)
}

/// Returns the SHA-256 of a topology, as a plan names it.
#[must_use]
pub fn topology_digest(topology: &Topology) -> String {
    digest(topology)
}

fn digest(value: &impl serde::Serialize) -> String {
    // Plain data with string keys: there is nothing in it that JSON can't say.
    Digest::of(&serde_json::to_string(value).unwrap_or_default()).0
}

/// A plan in the making.
struct Draft<'a> {
    topology: &'a Topology,
    observed: &'a Observed,
    request: &'a Request,
    /// The standbys that stream from each node.
    followers: BTreeMap<&'a NodeName, Vec<&'a Node>>,
    /// Running standbys that were configured before the primary.
    raised: BTreeSet<NodeName>,
    /// Running standbys that can't be told yet how to reach their upstream.
    untold: BTreeSet<NodeName>,
    /// What the steps so far will have left.
    world: Observed,
    steps: Vec<Step>,
    /// How often each kind of step is among them.
    ids: BTreeMap<String, usize>,
    blocked: Vec<Blocked>,
    /// Nodes that no further step is made for.
    stuck: BTreeSet<NodeName>,
    role_change: Option<RoleChange>,
    /// Who becomes the primary in the same plan, once the roles as they are have had theirs.
    candidate: Option<&'a NodeName>,
}

impl<'a> Draft<'a> {
    fn new(topology: &'a Topology, observed: &'a Observed, request: &'a Request) -> Self {
        Self {
            topology,
            observed,
            request,
            followers: followers(topology),
            raised: BTreeSet::new(),
            untold: BTreeSet::new(),
            world: observed.clone(),
            steps: Vec::new(),
            ids: BTreeMap::new(),
            blocked: Vec::new(),
            stuck: BTreeSet::new(),
            role_change: None,
            candidate: None,
        }
    }

    /// Goes on from what the steps so far will have left, with other roles.
    fn with_roles_of(self, topology: &'a Topology, request: &'a Request) -> Self {
        let (raised, untold) = (BTreeSet::new(), BTreeSet::new());
        Self { topology, request, followers: followers(topology), raised, untold, candidate: None, ..self }
    }

    fn into_plan(self, found: &'static str) -> Plan {
        Plan {
            cluster: self.topology.cluster.clone(),
            found,
            role_change: self.role_change,
            asynchronous: synchronous::asynchronous(self.topology, &self.steps),
            steps: self.steps,
            blocked: self.blocked,
            topology_digest: topology_digest(self.topology),
            observation_digest: digest(&self.observed.without_measures()),
        }
    }

    /// Plans what goes with a role change, and needs no allowance of its own but that of the change.
    fn with_the_change(&mut self, impact: Impact, plan: impl FnOnce(&mut Self)) {
        let begun = self.steps.len();
        plan(self);
        // A halted plan has no steps.
        for step in self.steps.iter_mut().skip(begun) {
            if matches!(step.impact, Impact::Restart | Impact::Outage) {
                step.impact = impact;
            }
        }
    }

    fn whole_cluster(&mut self, state: PairState) {
        if let Some(what) = not_supported(self.topology) {
            return self.halt(Refusal::NotSupported { what });
        }
        let primary = self.topology.primary();
        match state {
            PairState::NothingYet => self.create(primary),
            PairState::PrimaryRuns => self.before_standbys(primary),
            PairState::Armed => {
                self.step(primary, Action::Unfence, Impact::None, Reason::TakenBack);
                self.before_standbys(primary);
            }
            PairState::PrimaryStopped => {
                let impact = self.impact_of_start(primary);
                self.revive(primary, impact, Reason::Stopped);
            }
            PairState::Fenced => {
                self.step(primary, Action::Unfence, Impact::None, Reason::TakenBack);
                // It only ends an outage.
                self.revive(primary, Impact::None, Reason::TakenBack);
            }
            PairState::Ended { from, is_fenced } => {
                // One that was only stopped is no role change that somebody has begun.
                let by_force = self.request.fails_over_to(&primary.name);
                let impact = match is_fenced {
                    true => Impact::None,
                    false if by_force => Impact::Failover,
                    false => Impact::Switchover,
                };
                self.move_primary(&self.topology.nodes[&from], impact);
                self.before_standbys(primary);
            }
            PairState::AllStandbys { upstream } => {
                self.start_to_promote(primary, &upstream);
                self.promote(primary);
                self.before_standbys(primary);
            }
            PairState::Pending | PairState::Headless => {
                self.promote(primary);
                self.before_standbys(primary);
            }
            // Planned for the roles as they are first, which these are not.
            PairState::Elsewhere { primary } | PairState::LeftElsewhere { primary, .. } => {
                return self.halt(Refusal::RolesMoved { node: primary, found: "is the primary".into() });
            }
            PairState::Lost { primary: from, why, .. } => {
                return self.halt(Refusal::PrimaryLost { from, to: primary.name.clone(), why });
            }
            PairState::Doubtful(refusal) => return self.halt(refusal),
            PairState::PrimaryUnusable(refusal) => return self.block(primary, refusal),
        }
        self.hooks_undone();
        self.hooks_after_promotion(primary);
        self.standbys(primary);
    }

    /// What a standby needs of the running primary is there before the standby asks for it.
    fn before_standbys(&mut self, primary: &'a Node) {
        self.mode(primary);
        self.replication_role(primary);
        self.slots(primary);
        self.rules_first();
        self.raise_standbys();
    }

    fn standbys(&mut self, primary: &'a Node) {
        self.files(primary, Impact::None);
        self.replication_role(primary);
        self.slots(primary);
        for standby in self.top_down() {
            self.standby(standby);
        }
        // As many stream by now as will.
        self.files(primary, Impact::None);
        let own: BTreeSet<String> = self.topology.nodes.values().map(Node::slot_name).collect();
        for node in self.topology.nodes.values() {
            self.idle_slots(&own, node);
            self.waldir(node);
        }
        self.forgo_slots_of_the_absent();
        self.hooks_after_switchover(primary);
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

    /// Nothing is done anywhere: the writer is in doubt.
    fn halt(&mut self, refusal: Refusal) {
        self.steps.clear();
        self.blocked.push(Blocked { node: None, refusal });
        self.stuck.extend(self.topology.nodes.keys().cloned());
    }

    /// This node is left alone, and so is what depends on it.
    fn block(&mut self, node: &Node, refusal: Refusal) {
        if self.stuck.insert(node.name.clone()) {
            let refusal = unfenced::told(refusal, self.observed);
            self.blocked.push(Blocked { node: Some(node.name.clone()), refusal });
        }
        if node.role == Role::Primary {
            self.stuck.extend(self.topology.nodes.keys().cloned());
        }
    }

    fn is_halted(&self) -> bool {
        self.blocked.iter().any(|blocked| blocked.node.is_none())
    }

    fn is_stuck(&self, node: &Node) -> bool {
        self.stuck.contains(&node.name)
    }

    /// Takes a step into the plan if the predicted world needs it.
    fn step(&mut self, node: &Node, action: Action, impact: Impact, reason: Reason) {
        if self.is_stuck(node) {
            return;
        }
        let mut verdict = check(&node.name, &action, self.topology, &self.world);
        if let Check::Blocked(Refusal::CommitsWouldHang { .. }) = verdict {
            self.make_way(node, &step_id(&node.name, &action));
            verdict = check(&node.name, &action, self.topology, &self.world);
        }
        match verdict {
            Check::Satisfied => {}
            Check::Blocked(refusal) => self.block(node, refusal),
            Check::Ready => {
                let id = self.fresh_id(&node.name, &action);
                let diff = diff::diff_of(self.topology, self.world.node(&node.name), &action);
                predict(&node.name, &action, self.topology, &mut self.world);
                self.steps.push(Step {
                    id,
                    node: node.name.clone(),
                    action,
                    impact,
                    reason,
                    diff,
                    only_for: None,
                    primary: None,
                });
            }
        }
    }

    /// A kind of step may come twice for a node: its files are changed before the standbys start, and after.
    fn fresh_id(&mut self, node: &NodeName, action: &Action) -> String {
        let id = step_id(node, action);
        let count = self.ids.entry(id.clone()).or_insert(0);
        *count += 1;
        if *count == 1 { id } else { format!("{id}.{count}") }
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
            waldir: primary.waldir.clone(),
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

    fn impact_of_start(&self, primary: &Node) -> Impact {
        match self.world.node(&primary.name).cluster() {
            Some(cluster) if !cluster.markers.postmaster_opts && drift::owns_conf(primary, cluster) => Impact::None,
            Some(_) | None => Impact::Outage,
        }
    }

    /// Starts a primary that has data, configured first.
    fn revive(&mut self, primary: &Node, impact: Impact, reason: Reason) {
        self.mode(primary);
        self.only_if_startable(primary);
        // A copy that would come up as a second primary gets its standby files before anything is started.
        for standby in self.topology.standbys() {
            self.complete_copy(standby);
            self.fence_superseded(standby);
        }
        self.files(primary, impact);
        self.step(primary, Action::Start { role: Role::Primary }, impact, reason);
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
        let given = [("ssh", node.ssh.is_some()), ("become", node.r#become.is_some())];
        if let Some((key, _)) = given.into_iter().find(|(_, given)| *given) {
            return Some(format!("`{key}` of node {}", node.name));
        }
    }
    None
}

fn step_id(node: &NodeName, action: &Action) -> String {
    match action {
        Action::Slot { name, .. } | Action::DropSlot { name } => format!("{node}.{}.{name}", action.name()),
        Action::Hook(hook) => format!("{node}.hook.{}", hook.point.name()),
        // A reload and a restart of one node may stand in one plan.
        Action::Configure(configure) if configure.effect == Effect::Restart => format!("{node}.configure.restart"),
        Action::CreatePrimary(_)
        | Action::Clone(_)
        | Action::Rewind(_)
        | Action::StandbyFiles(_)
        | Action::Configure(_)
        | Action::Hba { .. }
        | Action::Passfile { .. }
        | Action::Mode
        | Action::Fence(_)
        | Action::FenceOff
        | Action::TakeDown
        | Action::Unfence
        | Action::Promote(_)
        | Action::Stop(_)
        | Action::Start { .. }
        | Action::ReplicationRole(_)
        | Action::Streaming { .. }
        | Action::RemoveOld => format!("{node}.{}", action.name()),
    }
}
