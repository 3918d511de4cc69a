//! What has drifted, for people and programs: clusters in the order they were given, each with its items in words.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::observed::Observed;
use crate::plan::Impact;
use crate::plan::Plan;
use crate::plan::Reason;
use crate::plan::Refusal;
use crate::plan::SetBy;
use crate::plan::items::Class;
use crate::plan::items::Item;
use crate::plan::items::Why;
use crate::plan::items::items;
use crate::report::DiffReport;
use crate::report::json::ErrorReport;
use crate::report::words;
use crate::topology::NodeName;
use crate::topology::Topology;

/// What was found in all clusters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DriftReport {
    /// The worst of the clusters.
    pub status: Standing,
    pub clusters: Vec<ClusterDrift>,
}

/// How a cluster stands, the worst of its items last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    InSync,
    NotReady,
    Unseen,
    Pending,
    /// It, or one of its nodes, could not be observed.
    Unknown,
    Drift,
}

/// What the exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    InSync,
    Differs,
    Unknown,
}

/// What was found in one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterDrift {
    /// The topology file, as it was named.
    pub file: String,
    /// Absent where the file can't be read.
    pub cluster: Option<String>,
    pub status: Standing,
    /// All of it could be compared: no node was out of reach.
    #[serde(skip)]
    pub is_whole: bool,
    pub items: Vec<ItemReport>,
    /// Why it could not be compared at all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ErrorReport>,
}

/// One thing that differs, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ItemReport {
    pub class: Class,
    /// Absent where it is about the whole cluster.
    pub node: Option<NodeName>,
    pub subject: String,
    pub now: Option<String>,
    pub wanted: Option<String>,
    /// Who wins now: `FILE:LINE`, `command line`, `default`.
    pub set_by: Option<SetBy>,
    pub reason: String,
    /// Of what blocks the plan, or would block a switchover, for scripts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// What to do, where `apply` can't.
    pub remedy: Option<String>,
    /// What `apply` would do about it.
    pub impact: Option<Impact>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub diff: Vec<DiffReport>,
}

impl DriftReport {
    /// Puts the clusters together.
    #[must_use]
    pub fn of(clusters: Vec<ClusterDrift>) -> Self {
        let status = clusters.iter().map(|cluster| cluster.status).max().unwrap_or(Standing::InSync);
        Self { status, clusters }
    }

    /// Judges the clusters. `fail_on`: the classes that count as drift does.
    #[must_use]
    pub fn verdict(&self, fail_on: &BTreeSet<Class>) -> Verdict {
        let counts = |item: &ItemReport| item.class == Class::Drift || fail_on.contains(&item.class);
        if self.clusters.iter().any(|cluster| cluster.items.iter().any(counts)) {
            Verdict::Differs
        } else if self.clusters.iter().any(|cluster| cluster.status == Standing::Unknown) {
            Verdict::Unknown
        } else {
            Verdict::InSync
        }
    }
}

impl ClusterDrift {
    /// Compares a cluster with its topology.
    #[must_use]
    pub fn of(file: &str, topology: &Topology, observed: &Observed, plan: &Plan) -> Self {
        let items = items(topology, observed, plan);
        let status = items.iter().map(standing).max().unwrap_or(Standing::InSync);
        Self {
            file: file.to_owned(),
            cluster: Some(topology.cluster.clone()),
            status,
            is_whole: !items.iter().any(|item| standing(item) == Standing::Unknown),
            items: items.into_iter().map(ItemReport::of).collect(),
            errors: Vec::new(),
        }
    }

    /// One that could not be compared, and why.
    #[must_use]
    pub fn not_compared(file: &str, errors: Vec<ErrorReport>) -> Self {
        let (status, items) = (Standing::Unknown, Vec::new());
        Self { file: file.to_owned(), cluster: None, status, is_whole: false, items, errors }
    }
}

fn standing(item: &Item) -> Standing {
    match (&item.why, item.class) {
        (Why::OutOfReach(_), _) => Standing::Unknown,
        (_, Class::Drift) => Standing::Drift,
        (_, Class::Pending) => Standing::Pending,
        (_, Class::NotReady) => Standing::NotReady,
        (_, Class::Unseen) => Standing::Unseen,
    }
}

impl ItemReport {
    fn of(item: Item) -> Self {
        Self {
            reason: reason(&item.why),
            code: code(&item.why),
            remedy: remedy(&item.why),
            diff: item.diff.iter().map(DiffReport::of).collect(),
            class: item.class,
            node: item.node,
            subject: item.subject,
            now: item.now,
            wanted: item.wanted,
            set_by: item.set_by,
            impact: item.impact,
        }
    }
}

fn reason(why: &Why) -> String {
    match why {
        Why::BlockEdited => "pgpair's block was edited by hand".into(),
        Why::BlockOf(node) => format!("pgpair's block in the file is of node {node}: the file was copied"),
        Why::BlockOverruled => "pgpair's block asks for it, and something else wins".into(),
        Why::BlockMoved => "pgpair's block is no longer before the first rule".into(),
        Why::NotInBlock => "the topology asks for it, and pgpair's block does not have it".into(),
        Why::TopologyNewer => "the topology is newer than its last apply".into(),
        Why::Waiting => "changed by somebody else, and waiting for a restart".into(),
        // The values are the item's own.
        Why::Step(Reason::Differs(_)) => "not as the topology says".into(),
        Why::Step(reason) => words::reason(reason),
        Why::Refused(refusal) | Why::OutOfReach(refusal) => refusal.reason(),
        Why::RoleChange => "a switchover would be refused without it".into(),
        Why::Unready(finding) => format!("a switchover would be refused: {} {}", finding.node, finding.why),
        Why::NotSeen { why, .. } => why.clone(),
    }
}

fn remedy(why: &Why) -> Option<String> {
    match why {
        Why::NotSeen { remedy, .. } => Some(remedy.clone()),
        Why::Unready(finding) => Some(finding.remedy.clone()),
        Why::BlockEdited
        | Why::BlockOf(_)
        | Why::BlockOverruled
        | Why::BlockMoved
        | Why::NotInBlock
        | Why::TopologyNewer
        | Why::Waiting
        | Why::Step(_)
        | Why::RoleChange
        | Why::Refused(_)
        | Why::OutOfReach(_) => refusal(why).map(Refusal::remedy),
    }
}

fn code(why: &Why) -> Option<&'static str> {
    if let Why::Unready(finding) = why { Some(finding.check.about().id) } else { refusal(why).map(Refusal::code) }
}

fn refusal(why: &Why) -> Option<&Refusal> {
    if let Why::Refused(refusal) | Why::OutOfReach(refusal) = why { Some(refusal) } else { None }
}

#[cfg(test)]
mod tests;
