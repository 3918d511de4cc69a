//! Readiness: what must hold before the primary moves to a standby by a switchover, each check with its reason.
//!
//! The checks are asked of the roles as they are. The standing ones will be answered alike tonight, and are what
//! `pgpair drift` calls `not_ready`; the momentary ones are asked by `pgpair status`, and where a plan moves the primary.
//! What could not be seen is no finding but that of [`ReadinessCheck::Reach`]: a node out of reach forbids everything.

use serde::Serialize;
use serde::Serializer;

use crate::observed::Cluster;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::observed::Sql;
use crate::pg::lsn::Lsn;
use crate::plan::Refusal;
use crate::plan::drift;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Topology;

mod capacity;
mod connections;
mod lineage;
mod machine;
mod recovery;
mod stop;

/// A check before a switchover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReadinessCheck {
    Reach,
    SystemIdentifier,
    Lineage,
    Upstream,
    ReverseConnection,
    Walsenders,
    Slots,
    StandbyParameters,
    Rewind,
    RecoveryEnd,
    ApplyDelay,
    ForeignWalsenders,
    LogicalSlots,
    Archive,
    OldestWal,
    Supervisors,
    Files,
    Lag,
    ReplayPaused,
    LongTransactions,
    PreparedTransactions,
    BaseBackup,
    ExclusiveBackup,
}

/// How long an answer is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lasts {
    /// Until somebody changes something.
    Standing,
    /// For the moment: it passes by itself.
    Momentary,
}

/// What there is to know of a check, whatever it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// As it stands in JSON, and in `pgpair explain`.
    pub id: &'static str,
    pub lasts: Lasts,
    /// What its findings are about, where they don't say it themselves.
    pub subject: &'static str,
    /// Why it is asked.
    pub reason: &'static str,
}

impl ReadinessCheck {
    /// All of them, in the order in which they are asked.
    pub const ALL: [Self; 23] = [
        Self::Reach,
        Self::SystemIdentifier,
        Self::Lineage,
        Self::Upstream,
        Self::ReverseConnection,
        Self::Walsenders,
        Self::Slots,
        Self::StandbyParameters,
        Self::Rewind,
        Self::RecoveryEnd,
        Self::ApplyDelay,
        Self::ForeignWalsenders,
        Self::LogicalSlots,
        Self::Archive,
        Self::OldestWal,
        Self::Supervisors,
        Self::Files,
        Self::Lag,
        Self::ReplayPaused,
        Self::LongTransactions,
        Self::PreparedTransactions,
        Self::BaseBackup,
        Self::ExclusiveBackup,
    ];

    /// Returns what there is to know of it.
    #[must_use]
    pub const fn about(self) -> About {
        const fn about(id: &'static str, lasts: Lasts, subject: &'static str, reason: &'static str) -> About {
            About { id, lasts, subject, reason }
        }
        use Lasts::Momentary;
        use Lasts::Standing;
        match self {
            Self::Reach => about(
                "reach",
                Standing,
                "node",
                "a node that can't be looked at may be promoted or started at any time, and can't be made to follow",
            ),
            Self::SystemIdentifier => about(
                "system_identifier",
                Standing,
                "system identifier",
                "servers with different system identifiers are different clusters: one can't follow the other",
            ),
            Self::Lineage => about(
                "lineage",
                Standing,
                "timeline",
                "a standby goes to the newest timeline that it has a history file of, and follows nobody whose history is another",
            ),
            Self::Upstream => about(
                "upstream",
                Standing,
                "replication",
                "what the old primary writes last must reach the candidate by a stream, and nobody in it may follow a foreign server",
            ),
            Self::ReverseConnection => about(
                "reverse_connection",
                Standing,
                "reverse connection",
                "the old primary will replicate from the candidate, whose pg_hba.conf nobody has needed for that until then",
            ),
            Self::Walsenders => about(
                "walsenders",
                Standing,
                "max_wal_senders",
                "each node that follows the candidate takes a walsender there, and one more session of the replication role",
            ),
            Self::Slots => about(
                "slots",
                Standing,
                "max_replication_slots",
                "each node that follows the candidate has a slot there, which keeps WAL for it",
            ),
            Self::StandbyParameters => about(
                "standby_parameters",
                Standing,
                "parameters",
                "a standby does not come up, or stops replaying, with less of some parameters than its primary has",
            ),
            Self::Rewind => about(
                "rewind_possible",
                Standing,
                "pg_rewind",
                "without checksums or wal_log_hints, and full_page_writes, an old primary that went past the fork can only be cloned anew",
            ),
            Self::RecoveryEnd => about(
                "recovery_end",
                Standing,
                "recovery",
                "a leftover recovery target or trigger file ends a standby's recovery: it stops, or promotes itself",
            ),
            Self::ApplyDelay => about(
                "apply_delay",
                Standing,
                "recovery_min_apply_delay",
                "a delayed standby has hours of WAL left to replay before it could take writes",
            ),
            Self::ForeignWalsenders => about(
                "foreign_walsenders",
                Standing,
                "walsender",
                "a stopping primary waits until every receiver has all of its WAL, whoever that is (pg_receivewal, change data capture)",
            ),
            Self::LogicalSlots => about(
                "logical_slots",
                Standing,
                "logical slot",
                "a logical slot stays behind on the old primary, and its subscriber has lost its place then",
            ),
            Self::Archive => about(
                "archive",
                Standing,
                "archive",
                "a stopping primary archives what is left before it ends, and what it can't archive is missing in the archive",
            ),
            Self::OldestWal => about(
                "oldest_wal",
                Standing,
                "WAL",
                "a standby that needs WAL which the candidate has removed can't follow it, and would have to be cloned anew",
            ),
            Self::Supervisors => about(
                "supervisors",
                Standing,
                "supervisor",
                "a program that watches the server takes its stop for a failure: it restarts it, or promotes another one",
            ),
            Self::Files => about(
                "files",
                Standing,
                "files",
                "the old primary is fenced by files, before it is stopped; one that can't be written keeps it from becoming a standby",
            ),
            Self::Lag => about(
                "lag",
                Momentary,
                "lag",
                "nobody can write while the candidate receives and replays what is left: a second or so for some 100 MB",
            ),
            Self::ReplayPaused => about(
                "replay_paused",
                Momentary,
                "replay",
                "a standby whose replay is paused is promoted only when that is resumed (10 to 12)",
            ),
            Self::LongTransactions => about(
                "long_transactions",
                Momentary,
                "transaction",
                "replay may wait for a transaction on the candidate, up to max_standby_streaming_delay, and the promotion with it",
            ),
            Self::PreparedTransactions => about(
                "prepared_transactions",
                Momentary,
                "prepared transaction",
                "a prepared transaction that somebody has forgotten goes on holding its locks on the new primary",
            ),
            Self::BaseBackup => about(
                "base_backup",
                Momentary,
                "base backup",
                "a base backup of a server that is stopped, or promoted, has failed",
            ),
            Self::ExclusiveBackup => about(
                "exclusive_backup",
                Momentary,
                "exclusive backup",
                "a server that is stopped in an exclusive backup starts from the backup's checkpoint, if it starts at all (up to 14)",
            ),
        }
    }
}

impl Serialize for ReadinessCheck {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.about().id)
    }
}

/// What a check has found that forbids a switchover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub check: ReadinessCheck,
    pub node: NodeName,
    /// The parameter, file, slot, … that it is about.
    pub subject: String,
    /// What was seen of the node, a sentence without its subject.
    pub why: String,
    pub remedy: String,
}

impl Finding {
    /// As a refusal of the switchover.
    #[must_use]
    pub fn refusal(self) -> Refusal {
        let Self { check, node, why, remedy, .. } = self;
        Refusal::Unready { check: check.about().id, node, why, remedy }
    }
}

/// Returns the topology with the node as its primary that accepts writes, whichever it names: it may be newer.
#[must_use]
pub fn roles_as_they_are(topology: &Topology, observed: &Observed) -> Topology {
    let writer = topology.nodes.keys().find(|node| observed.node(node).accepts_writes());
    writer.map_or_else(|| topology.clone(), |writer| topology.with_primary(writer))
}

/// Returns the standbys that a switchover may go to: a delayed one is none by its topology.
pub fn candidates(topology: &Topology) -> impl Iterator<Item = &Node> {
    topology.standbys().filter(|node| !drift::is_delayed(topology, node))
}

/// Asks every check whether the primary could move to `candidate`, a standby by this topology, which has the roles as
/// they are.
#[must_use]
pub fn findings(topology: &Topology, observed: &Observed, candidate: &NodeName) -> Vec<Finding> {
    let change = Change {
        topology,
        after: topology.with_primary(candidate),
        observed,
        primary: topology.primary(),
        candidate: &topology.nodes[candidate],
    };
    ReadinessCheck::ALL.into_iter().flat_map(|check| change.ask(check)).collect()
}

/// A switchover that is thought of.
struct Change<'a> {
    /// With the roles as they are.
    topology: &'a Topology,
    /// With the roles as they would be.
    after: Topology,
    observed: &'a Observed,
    primary: &'a Node,
    candidate: &'a Node,
}

impl<'a> Change<'a> {
    fn ask(&self, check: ReadinessCheck) -> Vec<Finding> {
        match check {
            ReadinessCheck::Reach => self.reach(),
            ReadinessCheck::SystemIdentifier => self.system_identifier(),
            ReadinessCheck::Lineage => self.lineage(),
            ReadinessCheck::Upstream => self.upstream(),
            ReadinessCheck::ReverseConnection => self.reverse_connection(),
            ReadinessCheck::Walsenders => self.walsenders(),
            ReadinessCheck::Slots => self.slots(),
            ReadinessCheck::StandbyParameters => self.standby_parameters(),
            ReadinessCheck::Rewind => self.rewind(),
            ReadinessCheck::RecoveryEnd => self.recovery_end(),
            ReadinessCheck::ApplyDelay => self.apply_delay(),
            ReadinessCheck::ForeignWalsenders => self.foreign_walsenders(),
            ReadinessCheck::LogicalSlots => self.logical_slots(),
            ReadinessCheck::Archive => self.archive(),
            ReadinessCheck::OldestWal => self.oldest_wal(),
            ReadinessCheck::Supervisors => self.supervisors(),
            ReadinessCheck::Files => self.files(),
            ReadinessCheck::Lag => self.lag(),
            ReadinessCheck::ReplayPaused => self.replay_paused(),
            ReadinessCheck::LongTransactions => self.long_transactions(),
            ReadinessCheck::PreparedTransactions => self.prepared_transactions(),
            ReadinessCheck::BaseBackup => self.base_backup(),
            ReadinessCheck::ExclusiveBackup => self.exclusive_backup(),
        }
    }

    fn seen(&self, node: &Node) -> &'a NodeObserved {
        self.observed.node(&node.name)
    }

    fn cluster(&self, node: &Node) -> Option<&'a Cluster> {
        self.seen(node).cluster()
    }

    fn sql(&self, node: &Node) -> Option<&'a Sql> {
        self.seen(node).sql()
    }

    /// What a standby says of its position; nothing where it is yet to be started.
    fn position_of(&self, node: &Node) -> Option<&'a Sql> {
        self.sql(node).filter(|sql| sql.lsn != Lsn(0))
    }

    /// A parameter as the node's server has it, a number.
    fn number(&self, node: &Node, name: &str) -> Option<usize> {
        self.sql(node)?.settings.get(name)?.value.parse().ok()
    }
}

impl ReadinessCheck {
    fn finding(self, node: &Node, why: impl Into<String>, remedy: impl Into<String>) -> Finding {
        let subject = self.about().subject.to_owned();
        Finding { check: self, node: node.name.clone(), subject, why: why.into(), remedy: remedy.into() }
    }
}

impl Finding {
    /// The same about another subject than most of its check.
    fn about(self, subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), ..self }
    }
}

#[cfg(test)]
mod tests;
