//! What people and programs are told: plans, nodes, health.
//!
//! [`PlanReport`] and [`NodeReport`] are the model; `text` and `json` only render it, so the two can't say
//! different things. Everything is pure, and nothing of a file's text or of a secret is in the model but
//! the diffs, in which the planner has hidden the secrets.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::observed::DataDir;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::observed::Reading;
use crate::observed::Receiver;
use crate::observed::Room;
use crate::observed::Sender;
use crate::observed::Slot;
use crate::observed::Sql;
use crate::pg::control::ControlState;
use crate::pg::lsn::Lsn;
use crate::pg::lsn::Timeline;
use crate::plan::Action;
use crate::plan::Asynchronous;
use crate::plan::Blocked;
use crate::plan::Difference;
use crate::plan::FileDiff;
use crate::plan::Impact;
use crate::plan::Plan;
use crate::plan::Reason;
use crate::plan::RoleChange;
use crate::plan::Status;
use crate::plan::Step;
use crate::plan::allow;
use crate::plan::loss;
use crate::plan::loss::Loss;
use crate::plan::redact;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Role;
use crate::topology::Topology;

pub mod drift;
pub mod explain;
pub mod html;
pub mod json;
pub mod log;
pub mod markdown;
pub mod metrics;
pub mod pipeline;
mod roles;
#[cfg(test)]
pub(crate) mod samples;
pub mod saved;
pub mod status;
pub mod text;
pub mod tree;
pub mod words;

/// A plan with all that is shown of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanReport {
    pub status: Status,
    pub cluster: String,
    /// The joint state that was found, as `pgpair explain` knows it.
    pub state: &'static str,
    /// Whom the primary moves from and to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_change: Option<RoleChange>,
    pub summary: Summary,
    pub nodes: Vec<NodeReport>,
    pub steps: Vec<StepReport>,
    /// The steps, by number, between which commits wait for no standby though the topology asks for it.
    pub asynchronous: Option<Asynchronous>,
    pub blocked: Vec<BlockedReport>,
    pub topology_digest: String,
    /// Of the facts that the plan rests on, secrets left out.
    pub observation_digest: String,
    /// Blocked whole: no step of it is done.
    pub halted: bool,
}

/// The plan in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub steps: usize,
    /// The nodes that steps are done on, in the order of the steps.
    pub nodes: Vec<NodeName>,
    /// Which nodes notice what, `none` left out.
    pub impact: BTreeMap<Impact, Vec<NodeName>>,
    /// The nodes whose data directory is replaced.
    pub data_loss: Vec<NodeName>,
    /// What a forced promotion may lose; absent where there is none.
    pub at_risk: Option<Loss>,
    /// What `--allow` must name for every step to be done.
    pub allow: Vec<String>,
    /// The nodes that are left alone.
    pub blocked: Vec<NodeName>,
}

/// A step, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepReport {
    pub id: String,
    pub node: NodeName,
    pub action: &'static str,
    #[serde(skip)]
    pub symbol: words::Symbol,
    pub title: String,
    pub impact: Impact,
    pub reason: String,
    /// The parameters that the step changes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// What must hold when the step runs, or it is not done.
    pub guards: Vec<String>,
    pub diff: Vec<DiffReport>,
    /// The file systems that a copy goes to, where they were measured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rooms: Vec<Room>,
}

/// The change of one file, as a unified diff.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiffReport {
    pub file: String,
    pub unified: String,
}

/// What is not done, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockedReport {
    /// Absent where it is the whole plan.
    pub node: Option<NodeName>,
    pub code: &'static str,
    pub reason: String,
    pub remedy: String,
}

impl PlanReport {
    /// Puts a plan in words.
    #[must_use]
    pub fn of(topology: &Topology, observed: &Observed, plan: &Plan) -> Self {
        Self {
            status: plan.status(),
            cluster: plan.cluster.clone(),
            state: plan.found,
            role_change: plan.role_change.clone(),
            summary: Summary { at_risk: loss::bound(observed, plan), ..Summary::of(plan) },
            nodes: nodes(topology, observed),
            steps: plan.steps.iter().map(|step| StepReport::of(step, observed)).collect(),
            asynchronous: plan.asynchronous,
            blocked: plan.blocked.iter().map(BlockedReport::of).collect(),
            topology_digest: plan.topology_digest.clone(),
            observation_digest: redact::digest(observed, topology),
            halted: plan.is_halted(),
        }
    }

    /// Says of nodes that nobody has looked at them, and that nothing was taken to be there.
    pub fn assume(&mut self, nodes: &[NodeName]) {
        for node in self.nodes.iter_mut().filter(|node| nodes.contains(&node.node)) {
            node.detail = Some("not looked at: taken to be empty".to_owned());
        }
    }
}

impl Summary {
    fn of(plan: &Plan) -> Self {
        let mut nodes = Vec::new();
        let mut impact: BTreeMap<Impact, Vec<NodeName>> = BTreeMap::new();
        for step in &plan.steps {
            push_once(&mut nodes, &step.node);
            if step.impact != Impact::None {
                push_once(impact.entry(step.impact).or_default(), &step.node);
            }
        }
        let mut blocked = Vec::new();
        for node in plan.blocked.iter().filter_map(|blocked| blocked.node.as_ref()) {
            push_once(&mut blocked, node);
        }
        Self {
            steps: plan.steps.len(),
            nodes,
            at_risk: None,
            data_loss: impact.get(&Impact::Destroy).cloned().unwrap_or_default(),
            impact,
            allow: allow::all_needed(plan).iter().map(ToString::to_string).collect(),
            blocked,
        }
    }
}

fn push_once(nodes: &mut Vec<NodeName>, node: &NodeName) {
    if !nodes.contains(node) {
        nodes.push(node.clone());
    }
}

impl StepReport {
    fn of(step: &Step, observed: &Observed) -> Self {
        let is_copy = matches!(step.action, Action::Clone(_));
        Self {
            id: step.id.clone(),
            node: step.node.clone(),
            action: step.action.name(),
            symbol: words::symbol(step),
            title: words::title(step),
            impact: step.impact,
            reason: words::reason(&step.reason),
            differences: if let Reason::Differs(differences) = &step.reason { differences.clone() } else { Vec::new() },
            guards: words::guards(&step.action),
            diff: step.diff.iter().map(DiffReport::of).collect(),
            rooms: if is_copy { observed.node(&step.node).rooms.clone() } else { Vec::new() },
        }
    }
}

impl DiffReport {
    fn of(diff: &FileDiff) -> Self {
        Self::between(&diff.file, &diff.before, &diff.after)
    }

    /// Compares two texts of a file.
    #[must_use]
    pub fn between(file: &str, before: &str, after: &str) -> Self {
        let lines = similar::TextDiff::from_lines(before, after);
        let unified = lines.unified_diff().context_radius(1).missing_newline_hint(false).to_string();
        Self { file: file.to_owned(), unified }
    }
}

impl BlockedReport {
    fn of(blocked: &Blocked) -> Self {
        Self {
            node: blocked.node.clone(),
            code: blocked.refusal.code(),
            reason: blocked.refusal.reason(),
            remedy: blocked.refusal.remedy(),
        }
    }
}

/// What was seen of a node, in short: no file text, no setting, no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeReport {
    pub node: NodeName,
    /// The role in the topology.
    pub role: Role,
    /// The node that it is to stream from; absent on the primary.
    pub upstream: Option<NodeName>,
    /// The role that the server said it has; absent while it does not answer.
    pub seen_role: Option<Role>,
    pub host: String,
    pub port: u16,
    pub data_dir: String,
    /// Who starts and stops its server; absent where that could not be seen.
    pub controller: Option<String>,
    pub state: NodeState,
    /// Why it could not be looked at, or what is wrong with what is there.
    pub detail: Option<String>,
    pub server_version: Option<String>,
    /// A decimal string: it does not fit a JSON number of every reader.
    pub system_identifier: Option<String>,
    pub control_state: Option<ControlState>,
    pub timeline: Option<Timeline>,
    /// Of a primary: written. Of a standby: the further of received and replayed. Stopped: the last checkpoint.
    pub lsn: Option<Lsn>,
    pub replayed: Option<Lsn>,
    /// WAL that the primary has written and this standby has not replayed.
    pub lag_bytes: Option<u64>,
    pub replay_paused: bool,
    pub receiver: Option<Receiver>,
    pub senders: Vec<Sender>,
    pub slots: BTreeMap<String, Slot>,
    /// Parameters whose new value the server has read, and takes at its next start.
    pub pending_restart: Vec<String>,
    /// As its upstream has it: `sync`, `async`, `potential`, `quorum`.
    pub sync_state: Option<String>,
}

/// What is in a node's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// The server answers.
    Running,
    /// The server runs and does not answer.
    NoAnswer,
    Stopped,
    NoData,
    /// An initdb or a clone was killed half-way.
    Unfinished,
    /// Something that is no data directory.
    Foreign,
    /// Could not be looked at.
    Unknown,
}

/// Puts what was seen of every node in short, in the order of the topology.
#[must_use]
pub fn nodes(topology: &Topology, observed: &Observed) -> Vec<NodeReport> {
    topology.nodes.values().map(|node| NodeReport::of(topology, observed, node)).collect()
}

impl NodeReport {
    fn of(topology: &Topology, observed: &Observed, node: &Node) -> Self {
        let seen = observed.node(&node.name);
        let (state, detail) = state_of(seen);
        let sql = seen.sql();
        let cluster = seen.cluster();
        let replayed = sql.and_then(|sql| if sql.in_recovery { sql.replayed.or(Some(sql.lsn)) } else { None });
        let upstream = (node.role == Role::Standby).then(|| topology.upstream(node).name.clone());
        let sender = upstream
            .as_ref()
            .and_then(|upstream| observed.node(upstream).sql())
            .and_then(|sql| sql.senders.iter().find(|sender| sender.is_of(&node.name)));
        Self {
            node: node.name.clone(),
            role: node.role,
            upstream,
            seen_role: sql.map(|sql| if sql.in_recovery { Role::Standby } else { Role::Primary }),
            host: node.host.clone(),
            port: seen.server.known().and_then(|server| server.port).unwrap_or(node.port),
            data_dir: node.data_dir.clone(),
            controller: seen.controller.known().map(ToString::to_string),
            state,
            detail,
            server_version: sql.map(|sql| sql.version.clone()),
            system_identifier: cluster.map(|cluster| cluster.identity.to_string()),
            control_state: cluster.map(|cluster| cluster.state),
            timeline: sql.map(|sql| sql.timeline).or(cluster.map(|cluster| cluster.timeline)),
            lsn: sql.map(|sql| sql.lsn).or(cluster.map(|cluster| cluster.checkpoint)),
            replayed,
            lag_bytes: replayed.zip(written(topology, observed)).map(|(here, there)| there.0.saturating_sub(here.0)),
            replay_paused: sql.is_some_and(|sql| sql.replay_paused),
            receiver: sql.and_then(|sql| sql.receiver.clone()),
            senders: sql.map(|sql| sql.senders.clone()).unwrap_or_default(),
            slots: cluster.map(|cluster| cluster.slots.clone()).unwrap_or_default(),
            pending_restart: sql.map(pending_restart).unwrap_or_default(),
            sync_state: sender.map(|sender| sender.sync_state.clone()),
        }
    }
}

fn pending_restart(sql: &Sql) -> Vec<String> {
    let pending = sql.settings.iter().filter(|(_, setting)| setting.pending_restart);
    pending.map(|(name, _)| name.clone()).collect()
}

/// Returns how far the node that is to be the primary has written, if it is one.
fn written(topology: &Topology, observed: &Observed) -> Option<Lsn> {
    let sql = observed.node(&topology.primary().name).sql()?;
    (!sql.in_recovery).then_some(sql.lsn)
}

fn state_of(seen: &NodeObserved) -> (NodeState, Option<String>) {
    let place = match &seen.place {
        Reading::Known(place) => place,
        Reading::Unknown(why) if seen.sql().is_some() => {
            return (NodeState::Running, Some(format!("its files are unseen: {why}")));
        }
        Reading::Absent => return (NodeState::Unknown, Some("its place was not looked at".into())),
        Reading::Unknown(why) => return (NodeState::Unknown, Some(why.clone())),
    };
    match &place.data_dir {
        DataDir::Absent | DataDir::Empty => (NodeState::NoData, place.not_writable.clone()),
        DataDir::Unfinished(what) => (NodeState::Unfinished, Some(what.clone())),
        DataDir::Foreign(what) => (NodeState::Foreign, Some(what.clone())),
        DataDir::Cluster(cluster) => match &seen.server {
            Reading::Known(server) => match &server.sql {
                Reading::Known(_) => (NodeState::Running, None),
                Reading::Absent => (NodeState::NoAnswer, None),
                Reading::Unknown(why) => (NodeState::NoAnswer, Some(why.clone())),
            },
            Reading::Absent => (NodeState::Stopped, cluster.wrong_access.as_ref().map(ToString::to_string)),
            Reading::Unknown(why) => (NodeState::Unknown, Some(why.clone())),
        },
    }
}

impl NodeState {
    /// The state in a word or two, for a table.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::NoAnswer => "no answer",
            Self::Stopped => "stopped",
            Self::NoData => "no data",
            Self::Unfinished => "unfinished",
            Self::Foreign => "not data",
            Self::Unknown => "unknown",
        }
    }
}
