//! Health: what is wrong with the nodes of a cluster right now, each finding with its code.
//!
//! Judges what was observed against the topology's roles; settings are `plan`'s business.

use serde::Serialize;

use crate::observed::Observed;
use crate::observed::Receiver;
use crate::plan::readiness;
use crate::plan::synchronous;
use crate::plan::unfenced;
use crate::report::NodeReport;
use crate::report::NodeState;
use crate::report::nodes;
use crate::report::words;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Role;
use crate::topology::Topology;

/// libpq's port where a conninfo has none.
const USUAL_PORT: u16 = 5432;

/// The nodes of a cluster and what is wrong with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StatusReport {
    #[serde(rename = "status")]
    pub health: Health,
    pub cluster: String,
    pub nodes: Vec<NodeReport>,
    pub findings: Vec<Finding>,
    /// Of each standby that the primary could move to.
    pub switchover: Vec<Switchover>,
}

/// Whether the primary could move to this standby by a switchover now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Switchover {
    pub to: NodeName,
    pub ready: bool,
    pub findings: Vec<readiness::Finding>,
}

/// The worst of the findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    Healthy,
    /// A node could not be looked at.
    Unknown,
    Unhealthy,
}

/// Something that is wrong, or that one should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub node: NodeName,
    pub code: &'static str,
    pub message: String,
    #[serde(skip)]
    pub health: Health,
}

impl StatusReport {
    /// Judges the nodes. `max_lag`: how many bytes a standby may be behind.
    #[must_use]
    pub fn of(topology: &Topology, observed: &Observed, max_lag: Option<u64>) -> Self {
        let nodes = nodes(topology, observed);
        let mut findings = Vec::new();
        for report in &nodes {
            let mut find = |code, health, message: String| {
                findings.push(Finding { node: report.node.clone(), code, message, health });
            };
            judge_identity(topology, &nodes, report, &mut find);
            let doubt = unfenced::doubt(observed, &report.node);
            if judge_state(report, doubt, &mut find) {
                judge_role(report, &mut find);
                judge_slots(report, &mut find);
                judge_settings(report, &mut find);
                if let (Role::Standby, Some(Role::Standby)) = (report.role, report.seen_role) {
                    judge_standby(topology, &nodes, report, max_lag, &mut find);
                }
            }
        }
        if let Some(wanted) = waits_for_nobody(topology, observed) {
            let node = topology.primary().name.clone();
            let message = format!("commits on {node} wait for no standby, the topology asks for {wanted}");
            findings.push(Finding { node, code: "not_synchronous", message, health: Health::Unhealthy });
        }
        let health = findings.iter().map(|finding| finding.health).max().unwrap_or(Health::Healthy);
        Self { health, cluster: topology.cluster.clone(), nodes, findings, switchover: switchover(topology, observed) }
    }
}

/// Asks what a switchover from the node that accepts writes would meet, whichever the topology names.
fn switchover(topology: &Topology, observed: &Observed) -> Vec<Switchover> {
    let topology = &readiness::roles_as_they_are(topology, observed);
    let to = |node: &Node| {
        let findings = readiness::findings(topology, observed, &node.name);
        Switchover { to: node.name.clone(), ready: findings.is_empty(), findings }
    };
    readiness::candidates(topology).map(to).collect()
}

/// Returns the synchronous standbys that the topology asks for, where the running primary has none.
fn waits_for_nobody(topology: &Topology, observed: &Observed) -> Option<String> {
    let accepts_writes = observed.node(&topology.primary().name).accepts_writes();
    let is_empty = synchronous::in_force(topology, observed).is_some_and(str::is_empty);
    synchronous::names(topology).filter(|_| accepts_writes && is_empty)
}

/// Judges what stands in the node's place; returns whether there is a server that answers.
fn judge_state(
    report: &NodeReport,
    doubt: Option<String>,
    find: &mut impl FnMut(&'static str, Health, String),
) -> bool {
    let node = &report.node;
    let (code, health) = match report.state {
        NodeState::Running => {
            // What is judged here is what the server says.
            if let Some(unseen) = &report.detail {
                find("unseen", Health::Healthy, format!("{node}: {unseen}"));
            }
            return true;
        }
        NodeState::NoAnswer => ("no_answer", Health::Unhealthy),
        NodeState::Stopped => ("server_down", Health::Unhealthy),
        NodeState::NoData => ("no_data", Health::Unhealthy),
        NodeState::Unfinished => ("unfinished", Health::Unhealthy),
        NodeState::Foreign => ("not_a_data_directory", Health::Unhealthy),
        NodeState::Unknown => ("out_of_reach", Health::Unknown),
    };
    let doubt = doubt.map_or_else(String::new, |doubt| format!("; {doubt}"));
    find(code, health, format!("{node}: {}{doubt}", words::seen(report)));
    false
}

fn judge_role(report: &NodeReport, find: &mut impl FnMut(&'static str, Health, String)) {
    let NodeReport { node, role, seen_role, .. } = report;
    if let Some(seen) = seen_role.filter(|seen| seen != role) {
        find("wrong_role", Health::Unhealthy, format!("{node} runs as {seen}, the topology says {role}"));
    }
}

/// Nothing is wrong with a value that waits, but whoever restarts the server should know.
fn judge_settings(report: &NodeReport, find: &mut impl FnMut(&'static str, Health, String)) {
    if !report.pending_restart.is_empty() {
        let names = report.pending_restart.join(", ");
        find("pending_restart", Health::Healthy, format!("{}: {names}: in force only after a restart", report.node));
    }
}

fn judge_identity(
    topology: &Topology,
    nodes: &[NodeReport],
    report: &NodeReport,
    find: &mut impl FnMut(&'static str, Health, String),
) {
    let Some(found) = &report.system_identifier else { return };
    let node = &report.node;
    if let Some(pinned) = topology.system_identifier {
        if *found != pinned.to_string() {
            let message = format!("{node} has system identifier {found}, the topology pins {pinned}");
            find("other_cluster", Health::Unhealthy, message);
        }
        return;
    }
    let primary = of(nodes, &topology.primary().name);
    let expected = primary.and_then(|primary| primary.system_identifier.as_ref());
    if let Some(expected) = expected.filter(|expected| *expected != found) {
        let message = format!("{node} has system identifier {found}, the primary {expected}");
        find("other_cluster", Health::Unhealthy, message);
    }
}

fn judge_slots(report: &NodeReport, find: &mut impl FnMut(&'static str, Health, String)) {
    for (name, slot) in &report.slots {
        if slot.wal_status.as_deref() == Some("lost") {
            let message = format!("slot {name} of {} has lost WAL that its standby needs", report.node);
            find("slot_lost", Health::Unhealthy, message);
        }
    }
}

fn judge_standby(
    topology: &Topology,
    nodes: &[NodeReport],
    report: &NodeReport,
    max_lag: Option<u64>,
    find: &mut impl FnMut(&'static str, Health, String),
) {
    let node = &report.node;
    let upstream = topology.upstream(&topology.nodes[node]);
    match &report.receiver {
        None => find("not_streaming", Health::Unhealthy, format!("{node} does not stream: it has no walreceiver")),
        Some(receiver) if !receiver.streams() => {
            let message = format!("{node} does not stream: its walreceiver is {}", receiver.status);
            find("not_streaming", Health::Unhealthy, message);
        }
        Some(receiver) if !comes_from(receiver, upstream) => {
            let message = format!("{node} streams from {}, not from {}", address(receiver), upstream.name);
            find("wrong_upstream", Health::Unhealthy, message);
        }
        Some(_) => {}
    }
    let primary = of(nodes, &topology.primary().name).filter(|primary| primary.seen_role == Some(Role::Primary));
    let there = primary.and_then(|primary| primary.timeline);
    if let Some((here, there)) = report.timeline.zip(there).filter(|(here, there)| here != there) {
        let message = format!("{node} is on timeline {here}, the primary on {there}");
        find("wrong_timeline", Health::Unhealthy, message);
    }
    if let Some((lag, most)) = report.lag_bytes.zip(max_lag).filter(|(lag, most)| lag > most) {
        find("lag", Health::Unhealthy, format!("{node} is {lag} bytes behind, {most} are allowed"));
    }
    if report.replay_paused {
        find("replay_paused", Health::Unhealthy, format!("replay is paused on {node}"));
    }
}

/// Whether a walreceiver is connected to `upstream`; what the server does not tell is not held against it.
fn comes_from(receiver: &Receiver, upstream: &Node) -> bool {
    receiver.host.as_ref().is_none_or(|host| *host == upstream.host)
        && (receiver.host.is_none() || receiver.port.unwrap_or(USUAL_PORT) == upstream.port)
}

fn address(receiver: &Receiver) -> String {
    format!("{}:{}", receiver.host.as_deref().unwrap_or("?"), receiver.port.unwrap_or(USUAL_PORT))
}

fn of<'a>(nodes: &'a [NodeReport], name: &NodeName) -> Option<&'a NodeReport> {
    nodes.iter().find(|node| node.node == *name)
}
