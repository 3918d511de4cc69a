//! A simulated cluster: it is moved by the planner's own predictions, and pgpair can die in it at any point.
//!
//! What it holds is the truth; what it lets see is what a look at real servers would show (a stopped server tells
//! nothing of its roles).

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::observed::Content;
use crate::observed::DataDir;
use crate::observed::MadeWay;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::observed::Reading;
use crate::observed::comes_up_as;
use crate::pg::block;
use crate::pg::control::ControlState;
use crate::pg::lsn::Lsn;
use crate::plan::Action;
use crate::plan::Effect;
use crate::plan::Promote;
use crate::plan::Replaced;
use crate::plan::Step;
use crate::plan::hook::with_owed;
use crate::plan::pair;
use crate::plan::predict::predict;
use crate::topology::NodeName;
use crate::topology::Role;
use crate::topology::Topology;
use crate::world::Failure;
use crate::world::Progress;
use crate::world::World;

pub use crate::observed::nothing::empty_place;
pub use crate::observed::nothing::empty_place_of;
pub use crate::observed::nothing::nothing;

/// When pgpair dies, or a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// The number of the step that is performed then, from 0.
    pub step: usize,
    pub moment: Moment,
    /// Only the step fails, and pgpair lives on.
    pub survives: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Before,
    /// Half-way through; most actions have one such state, some several.
    Half(usize),
    After,
}

/// A cluster that exists only in memory.
pub struct Sim {
    topology: Topology,
    state: Mutex<State>,
}

struct State {
    truth: Observed,
    crash: Option<Crash>,
    performed: usize,
    is_dead: bool,
    violations: Vec<String>,
}

impl Sim {
    /// Begins with this truth; pgpair dies at `crash`.
    #[must_use]
    pub fn new(topology: Topology, truth: Observed, crash: Option<Crash>) -> Self {
        let state = State { truth, crash, performed: 0, is_dead: false, violations: Vec::new() };
        Self { topology, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the truth behind pgpair's back.
    pub fn interfere(&self, change: impl FnOnce(&mut Observed)) {
        change(&mut self.state().truth);
    }

    /// Whether pgpair died in it.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.state().is_dead
    }

    /// Returns what broke an invariant so far.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// How many steps were performed.
    #[must_use]
    pub fn performed(&self) -> usize {
        self.state().performed
    }

    /// Returns the truth once everything that was under way has come to its end: servers finish starting.
    #[must_use]
    pub fn settled(&self) -> Observed {
        let mut truth = self.state().truth.clone();
        let starting: Vec<NodeName> = truth
            .nodes
            .iter()
            .filter(|(_, seen)| seen.server.known().is_some_and(|server| server.sql.known().is_none()))
            .filter(|(_, seen)| !pair::hangs(seen))
            .map(|(name, _)| name.clone())
            .collect();
        for name in starting {
            predict(&name, &Action::Start { role: Role::Primary }, &self.topology, &mut truth);
        }
        truth
    }
}

impl World for Sim {
    async fn observe(&self) -> Observed {
        let mut seen = self.state().truth.clone();
        for node in seen.nodes.values_mut() {
            mask(node);
        }
        seen
    }

    async fn perform(&self, step: &Step, _progress: &(dyn Fn(Progress) + Sync)) -> Result<(), Failure> {
        let mut state = self.state();
        if state.is_dead {
            return Err(Failure::new("pgpair is dead"));
        }
        let harm = harm(&step.node, &step.action, &state.truth);
        state.violations.extend(harm.map(|harm| format!("{}: {harm}", step.id)));
        let before = dangers(&state.truth);
        let crash = state.crash.filter(|crash| crash.step == state.performed);
        match crash.map(|crash| crash.moment) {
            Some(Moment::Before) => {}
            Some(Moment::Half(which)) => {
                half(&step.node, &step.action, which, &step.topology(&self.topology), &mut state.truth)
            }
            Some(Moment::After) | None => {
                predict(&step.node, &step.action, &step.topology(&self.topology), &mut state.truth);
            }
        }
        state.performed += 1;
        let worse =
            dangers(&state.truth).into_iter().filter(|(nodes, run)| before.get(nodes).is_none_or(|ran| ran < run));
        let worse: Vec<String> =
            worse.map(|((a, b), run)| format!("{}: {a} and {b} may both write, {run} of them run", step.id)).collect();
        state.violations.extend(worse);
        if let Some(crash) = crash {
            state.is_dead = !crash.survives;
            return Err(Failure::new("it ends here"));
        }
        Ok(())
    }
}

/// Hides what a look at real nodes would not show.
fn mask(seen: &mut NodeObserved) {
    let answers = seen.sql().is_some();
    if let Some(cluster) = seen.cluster_mut().filter(|_| !answers) {
        cluster.replication_role = Reading::Unknown("the server is stopped".into());
        for slot in cluster.slots.values_mut() {
            slot.reserved = false;
        }
    }
}

/// Returns every two nodes of one cluster that accept writes, or would once somebody starts them, with how many of
/// them run.
fn dangers(truth: &Observed) -> BTreeMap<(NodeName, NodeName), usize> {
    let writers: Vec<(&NodeName, bool)> = truth
        .nodes
        .iter()
        .filter_map(|(name, seen)| {
            let cluster = seen.cluster()?;
            // A server that does not answer yet becomes what its files say, as a stopped one would.
            let would_write = match seen.sql() {
                Some(sql) => !sql.in_recovery,
                // One that hangs goes on as what it was, whatever its files say by now.
                None if !seen.server.is_absent() && cluster.state == ControlState::InProduction => true,
                None => comes_up_as(&cluster.markers, cluster.major) == Role::Primary,
            };
            would_write.then_some((name, seen.accepts_writes()))
        })
        .collect();
    let mut dangers = BTreeMap::new();
    for (index, (a, a_runs)) in writers.iter().enumerate() {
        for (b, b_runs) in &writers[index + 1..] {
            let identity = |name| truth.node(name).cluster().map(|cluster| &cluster.identity);
            if identity(a) == identity(b) {
                dangers.insert(((*a).clone(), (*b).clone()), usize::from(*a_runs) + usize::from(*b_runs));
            }
        }
    }
    dangers
}

/// Returns what an action would break: a cluster is never made beside another's data, a node of the cluster is never
/// overwritten by a copy of another, and a standby's directory is never started without its standby files.
fn harm(node: &NodeName, action: &Action, truth: &Observed) -> Option<String> {
    let own = truth.node(node).cluster();
    match action {
        Action::CreatePrimary(_) => {
            let (other, _) = truth.nodes.iter().find(|(_, seen)| seen.cluster().is_some())?;
            Some(format!("a cluster is created although {other} has data"))
        }
        Action::Clone(clone) => {
            let source = truth.node(&clone.source).cluster()?;
            let is_member = own.is_some_and(|own| own.identity == source.identity);
            let is_meant = matches!(clone.replaces, Some(Replaced::Member(_)));
            let is_running = truth.node(node).server.known().is_some();
            let of_primary = truth.nodes.values().find(|seen| seen.accepts_writes());
            let is_further = of_primary.is_none_or(|primary| pair::is_further(truth.node(node), primary));
            if is_running || is_member && !is_meant {
                Some("a member of the cluster, or a running server, is replaced".to_owned())
            } else {
                (is_member && is_further).then(|| "what only this node has is lost".to_owned())
            }
        }
        Action::Promote(promote) => lost_by(node, promote, truth),
        Action::Stop(_) => {
            truth.node(node).accepts_writes().then(|| "a server that accepts writes is stopped".to_owned())
        }
        Action::Start { .. } => {
            let own = own?;
            let is_copy = own.state.was_standby() || own.markers.backup_label;
            let is_marked = comes_up_as(&own.markers, own.major) == Role::Standby;
            (is_copy && !is_marked).then(|| "a standby's directory is started without its standby files".to_owned())
        }
        Action::TakeDown => {
            let writers = truth.nodes.values().filter(|seen| seen.accepts_writes()).count();
            let is_only = truth.node(node).accepts_writes() && writers == 1;
            is_only.then(|| "the only server that accepts writes is taken down".to_owned())
        }
        Action::Rewind(rewind) => {
            let is_running = truth.node(node).server.known().is_some();
            let is_alone = truth.node(&rewind.source).accepts_writes();
            (is_running || !is_alone)
                .then(|| "a node is rewound that runs, or to one that does not accept writes".to_owned())
        }
        Action::StandbyFiles(_)
        | Action::Fence(_)
        | Action::FenceOff
        | Action::Unfence
        | Action::Hook(_)
        | Action::Configure(_)
        | Action::Hba { .. }
        | Action::Passfile { .. }
        | Action::ReplicationRole(_)
        | Action::Slot { .. }
        | Action::DropSlot { .. }
        | Action::Streaming { .. }
        | Action::Mode
        | Action::RemoveOld => None,
    }
}

/// Returns whose commits a promotion would lose: every other node's that has more WAL, or of which that can't be told.
fn lost_by(node: &NodeName, promote: &Promote, truth: &Observed) -> Option<String> {
    let candidate = truth.node(node).sql().filter(|sql| sql.in_recovery)?;
    // One that was asked for goes forward, whatever comes of it.
    let own = truth.node(node).cluster().filter(|own| !own.markers.promote)?;
    let has_more = |name: &NodeName, seen: &NodeObserved| {
        let Some(cluster) = seen.cluster().filter(|other| other.identity == own.identity) else { return false };
        if promote.by_force && promote.from.as_ref() == Some(name) {
            return false;
        }
        match seen.sql() {
            // It sends all that it has before it ends.
            Some(sql) if !sql.in_recovery => candidate.receiver.is_none(),
            Some(sql) => sql.lsn > candidate.lsn,
            None if !seen.server.is_absent() => false,
            None if promote.from.as_ref() == Some(name) => cluster.end.is_none_or(|end| end > candidate.lsn),
            None => cluster.end.is_some_and(|end| end > candidate.lsn),
        }
    };
    let mut others = truth.nodes.iter().filter(|(name, _)| *name != node);
    let (name, _) = others.find(|(name, seen)| has_more(name, seen))?;
    Some(format!("commits of {name} are lost"))
}

/// The configuration that is kept of a data directory.
fn made_way(data_dir: DataDir) -> Option<Box<MadeWay>> {
    match data_dir {
        DataDir::Cluster(own) => Some(Box::new(MadeWay {
            identity: own.identity,
            conf: own.conf,
            hba: own.hba,
            passfile: own.passfile,
            recovery_conf: own.markers.recovery_conf,
        })),
        DataDir::Absent | DataDir::Empty | DataDir::Unfinished(_) | DataDir::Foreign(_) => None,
    }
}

/// What an action leaves when it is cut off.
fn half(node: &NodeName, action: &Action, which: usize, topology: &Topology, truth: &mut Observed) {
    let seen = truth.node_mut(node);
    match action {
        Action::CreatePrimary(_) | Action::Clone(_) => {
            let Some(place) = seen.place.known_mut() else { return };
            place.new = true;
            let had_data = matches!(place.data_dir, DataDir::Cluster(_) | DataDir::Unfinished(_));
            if which == 1 && had_data {
                // Between the two renames.
                place.old = true;
                place.made_way = made_way(std::mem::replace(&mut place.data_dir, DataDir::Absent));
            } else if which == 1 {
                // Between the renames of its folders outside and its own.
                for outside in place.outside.values_mut().filter(|outside| outside.content == Content::Nothing) {
                    outside.content = Content::LeftOver;
                }
            }
        }
        Action::Rewind(_) => {
            let Some(place) = seen.place.known_mut() else { return };
            place.old = true;
            if which == 1 {
                place.work = true;
                place.made_way = made_way(std::mem::replace(&mut place.data_dir, DataDir::Absent));
            }
        }
        Action::Configure(configure) => {
            if let Some(cluster) = seen.cluster_mut() {
                let text = &cluster.conf.main.text;
                let put = configure.applied_to(text).unwrap_or_else(|_| text.clone());
                if put != *text {
                    cluster.conf.replaced = Some(std::mem::replace(&mut cluster.conf.main.text, put));
                }
                if let Some((auto, reset)) =
                    cluster.conf.auto.as_mut().zip(configure.reset.as_ref()).filter(|_| which == 1)
                {
                    auto.text = reset.applied_to(&auto.text);
                }
            }
            if let Some(sql) = seen.sql_mut() {
                sql.conf_loaded = false;
            }
            if which == 1 && configure.effect == Effect::Restart {
                seen.server = Reading::Absent;
            }
        }
        Action::Hba { block, .. } => {
            if let Some(cluster) = seen.cluster_mut() {
                cluster.hba = block::put_before_rules(&cluster.hba, block).unwrap_or_else(|_| cluster.hba.clone());
            }
            if let Some(sql) = seen.sql_mut() {
                sql.hba_loaded = false;
            }
        }
        Action::Start { .. } => {
            if let Some(cluster) = seen.cluster_mut() {
                cluster.state = match comes_up_as(&cluster.markers, cluster.major) {
                    Role::Primary => ControlState::InCrashRecovery,
                    Role::Standby => ControlState::InArchiveRecovery,
                };
            }
            seen.server = Reading::Known(crate::observed::Server {
                pid: 0,
                started: 0,
                port: None,
                socket_dir: None,
                sql: Reading::Unknown("the database system is starting up".into()),
            });
        }
        Action::ReplicationRole(_) => {
            if let Some(cluster) = seen.cluster_mut()
                && let Reading::Known(role) = &mut cluster.replication_role
            {
                role.rewind_grants = false;
            }
        }
        Action::Hook(hook) => {
            if let Some(cluster) = seen.cluster_mut() {
                let text = &mut cluster.conf.main.text;
                let begun = with_owed(text, topology, &topology.nodes[node], hook.begins().as_ref());
                *text = begun.unwrap_or_else(|_| text.clone());
            }
            if let Some(sql) = seen.sql_mut() {
                sql.conf_loaded = false;
            }
        }
        Action::Promote(promote) => half_promoted(node, promote, which, topology, truth),
        Action::TakeDown => half_taken_down(node, which, topology, truth),
        // Done by one rename or one transaction, or by waiting.
        Action::Mode
        | Action::Fence(_)
        | Action::FenceOff
        | Action::Unfence
        | Action::Stop(_)
        | Action::StandbyFiles(_)
        | Action::Passfile { .. }
        | Action::Slot { .. }
        | Action::DropSlot { .. }
        | Action::Streaming { .. }
        | Action::RemoveOld => {}
    }
}

/// What the end of a server by force leaves: it has crashed (0), or was started again as what its files say (1).
fn half_taken_down(node: &NodeName, which: usize, topology: &Topology, truth: &mut Observed) {
    let had_ended = truth.node(node).server.is_absent();
    predict(node, &Action::TakeDown, topology, truth);
    if let Some(own) = truth.node_mut(node).cluster_mut().filter(|_| which == 0 && !had_ended) {
        own.state = ControlState::InProduction;
    }
    if which == 1 && truth.node(node).server.is_absent() {
        predict(node, &Action::Start { role: Role::Standby }, topology, truth);
    }
}

/// What a promotion leaves: the old primary down with all of its WAL here (0) or not (1), or crashed (2), or started again
/// by its service manager (3); the promotion asked for (4).
fn half_promoted(node: &NodeName, promote: &Promote, which: usize, topology: &Topology, truth: &mut Observed) {
    let before = truth.clone();
    predict(node, &Action::Promote(promote.clone()), topology, truth);
    let candidate = truth.node_mut(node);
    *candidate = before.node(node).clone();
    if let Some(from) = promote.from.as_ref().filter(|_| !promote.by_force) {
        let end = truth.node(from).cluster().and_then(|own| own.end).unwrap_or_default();
        if let Some(sql) = truth.node_mut(node).sql_mut().filter(|sql| sql.in_recovery) {
            sql.receiver = None;
            sql.lsn = if which == 1 { sql.lsn } else { sql.lsn.max(end) };
        }
        let was_running = before.node(from).accepts_writes();
        if let Some(old) = truth.node_mut(from).cluster_mut().filter(|_| which == 1 || which == 2 && was_running) {
            old.end = (which == 1).then_some(Lsn(end.0 + 120));
            old.state = if which == 1 { old.state } else { ControlState::InProduction };
        }
        if which == 3 && truth.node(from).server.is_absent() {
            predict(from, &Action::Start { role: Role::Standby }, topology, truth);
        }
    }
    if let Some(own) = truth.node_mut(node).cluster_mut().filter(|_| which == 4) {
        own.markers.promote = true;
    }
}
