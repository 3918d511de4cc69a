//! The plan: what it would take to turn the observed state into the desired one.
//!
//! Plain data. `planner` makes it, `check` judges every step of it three times over (when planning, before and
//! after the step), `report` shows it and `apply` carries it out. Nothing here looks at the world.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use crate::observed::Identity;
use crate::observed::Lost;
use crate::pg::block;
use crate::pg::block::Block;
use crate::pg::block::Malformed;
use crate::pg::conf;
use crate::pg::lsn::Lsn;
use crate::pg::lsn::Timeline;
use crate::topology::NodeName;
use crate::topology::Role;
use crate::topology::Topology;

pub mod access;
pub mod allow;
pub mod check;
pub mod desired;
pub mod difference;
pub mod drift;
pub mod hook;
pub mod import;
pub mod items;
pub mod kept;
pub mod loss;
pub mod pair;
pub mod planner;
pub mod predict;
pub mod readiness;
pub mod redact;
pub mod refusal;
pub mod request;
pub mod review;
pub mod rewind;
pub mod synchronous;
pub mod unfenced;

pub use difference::Cause;
pub use difference::Difference;
pub use difference::SetBy;
pub use hook::Hook;
pub use pair::Diverged;
pub use refusal::Refusal;
pub use request::Request;

/// The steps from the observed state to the desired one, and what stands in the way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    pub cluster: String,
    pub steps: Vec<Step>,
    /// What can't be done, and why. A refusal that is not about one node alone halts the plan.
    pub blocked: Vec<Blocked>,
    /// The joint state that was found, by its id in the table of states.
    pub found: &'static str,
    /// Whom the primary moves from and to, where that is in the plan. The steps before it are for the roles as they are.
    pub role_change: Option<RoleChange>,
    /// The steps, by their numbers from 1, between which commits wait for no standby though the topology asks for it.
    pub asynchronous: Option<Asynchronous>,
    /// SHA-256 of the topology that was planned for.
    pub topology_digest: String,
    /// SHA-256 of the facts that the plan rests on, measures left out.
    pub observation_digest: String,
}

/// Whether there is anything to do, and whether it may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Nothing differs.
    Clean,
    Changes,
    /// Nothing can be done: the writer is in doubt, or every difference is behind a refusal.
    Blocked,
}

impl Plan {
    /// The step that makes another node the primary, if there is one.
    #[must_use]
    pub fn promotion(&self) -> Option<(&Step, &Promote)> {
        self.steps.iter().find_map(|step| Some((step, step.action.as_promote()?)))
    }

    /// Returns the status of the plan as a whole.
    #[must_use]
    pub fn status(&self) -> Status {
        if self.is_halted() || (self.steps.is_empty() && !self.blocked.is_empty()) {
            Status::Blocked
        } else if self.steps.is_empty() {
            Status::Clean
        } else {
            Status::Changes
        }
    }

    /// Whether the plan is blocked whole: its steps are shown and none is done.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.blocked.iter().any(|blocked| blocked.node.is_none())
    }
}

/// The primary moves from one node to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RoleChange {
    pub from: NodeName,
    pub to: NodeName,
}

/// A span of steps in which commits are not synchronous.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Asynchronous {
    /// The step that ends the waiting, from 1.
    pub from: usize,
    /// The step from which commits wait again; absent: not in this plan.
    pub to: Option<usize>,
}

/// Something that will not be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Blocked {
    /// The node that is left alone; absent where it is the whole plan.
    pub node: Option<NodeName>,
    pub refusal: Refusal,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Stable from plan to plan: `b.clone`, `a.slot.pgpair_b`.
    pub id: String,
    pub node: NodeName,
    pub action: Action,
    pub impact: Impact,
    pub reason: Reason,
    pub diff: Vec<FileDiff>,
    /// The step that this one only makes way for: without it there is no use for this one either.
    pub only_for: Option<String>,
    /// The primary by whose roles the step is judged: one before a role change. Absent: the topology's.
    pub primary: Option<NodeName>,
}

/// The topologies that the steps of a plan are judged by: as it is to be and, before a role change, with the roles as
/// they are.
#[derive(Debug)]
pub struct Roles<'t> {
    wanted: &'t Topology,
    as_they_are: Option<Topology>,
}

impl<'t> Roles<'t> {
    /// A plan changes the primary once, so that there is one other topology at most.
    #[must_use]
    pub fn of<'s>(wanted: &'t Topology, steps: impl IntoIterator<Item = &'s Step>) -> Self {
        let before = steps.into_iter().find(|step| step.primary.is_some());
        Self { wanted, as_they_are: before.map(|step| step.topology(wanted).into_owned()) }
    }

    /// The one for this step.
    #[must_use]
    pub fn for_step(&self, step: &Step) -> &Topology {
        self.as_they_are.as_ref().filter(|_| step.primary.is_some()).unwrap_or(self.wanted)
    }
}

impl Step {
    /// The topology that the step is judged by.
    #[must_use]
    pub fn topology<'t>(&self, topology: &'t Topology) -> Cow<'t, Topology> {
        self.primary.as_ref().map_or(Cow::Borrowed(topology), |primary| Cow::Owned(topology.with_primary(primary)))
    }
}

/// A file before and after, secrets hidden.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileDiff {
    /// The file's name, relative to the data directory where it lies in it.
    pub file: String,
    pub before: String,
    pub after: String,
}

/// What people notice of a step, and thus what allowance it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Impact {
    /// Nobody notices.
    None,
    /// Configuration is read again.
    Reload,
    /// A standby restarts.
    Restart,
    /// A primary restarts, or a stopped one that has data is started.
    Outage,
    /// The primary moves, and nothing is lost; a restart that goes with it.
    Switchover,
    /// A standby is promoted without the old primary's consent: commits may be lost.
    Failover,
    /// A data directory with data is replaced.
    Destroy,
}

impl fmt::Display for Impact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Reload => "reload",
            Self::Restart => "restart",
            Self::Outage => "outage",
            Self::Switchover => "switchover",
            Self::Failover => "failover",
            Self::Destroy => "destroy",
        })
    }
}

/// Why a step is in the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No node has a data directory.
    NothingYet,
    /// The node has no data directory.
    NoData,
    /// What is there was left unfinished; what is wrong with it.
    Unfinished(String),
    /// What is there belongs to another cluster.
    OtherCluster(Identity),
    /// It was asked for: `pgpair rebuild`.
    Asked,
    /// The upstream no longer has the WAL that the standby needs.
    BeyondWal {
        upstream: NodeName,
        lost: LostWal,
    },
    /// It holds WAL that the primary has not.
    Diverged {
        by: NodeName,
        diverged: Diverged,
        /// What that WAL is, where it was counted.
        lost: Option<Lost>,
        /// Why it is cloned anew, and not rewound.
        no_rewind: Option<String>,
    },
    /// A rewind was cut short: what it left is of no use.
    RewindCutShort,
    /// PostgreSQL does not start on a data directory with this mode.
    TooOpen(u32),
    /// The server is stopped.
    Stopped,
    /// The data directory is new: a step before has made it.
    JustMade,
    /// A clone without the files that make it a standby.
    NoStandbyFiles,
    /// Values that differ from the topology: name, now, then.
    Differs(Vec<Difference>),
    /// The file is right, and the server has not read it yet.
    NotInForce,
    /// Rules of pg_hba.conf that the topology asks for are not there.
    RulesMissing,
    Missing,
    /// Can't be known before the server runs.
    KnownAfterStart,
    /// A future switchover needs it.
    ForRoleChange,
    /// To see that it works.
    Verification,
    /// The slot feeds nobody and would hold back WAL.
    FeedsNobody,
    /// The replaced data directory was kept until the new standby streamed.
    Replaced,
    /// A synchronous standby will be away for a while, and commits must not wait for it.
    StandbyLeaves(NodeName),
    /// The topology names another node as the primary than the one that it is.
    PrimaryMoves(RoleChange),
    /// A role change was begun, and is taken back.
    TakenBack,
    /// No node accepts writes: a role change was left half-way.
    NoPrimary,
    /// The old primary is gone, and another node is to be it.
    PrimaryLost(RoleChange),
    /// Two nodes accept writes, and it was asked for that this one gives way to the other.
    Discarded {
        by: NodeName,
    },
    /// Another node was promoted in its place.
    Superseded(NodeName),
    /// What runs around a role change is not all done.
    HooksOwed,
}

/// How it was seen that a standby can't go on with what its upstream has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LostWal {
    /// PostgreSQL says that its slot has lost WAL (13 and later).
    Slot(String),
    /// All WAL files of the upstream begin after this position, from which on the standby needs them.
    From(Lsn),
}

/// What a step does, named by the goal it reaches. Closed plain data: rendered and executed elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Goal: the node has a new cluster with its configuration in place. Made in `.pgpair-new` and renamed, so a
    /// crash half-way leaves that folder, which the next run removes.
    CreatePrimary(CreatePrimary),
    /// Goal: the node is a copy of `source`, with its standby files in place. Made in `.pgpair-new` as well.
    Clone(CloneFrom),
    /// Goal: the stopped node has what the source has, and nothing else; its own configuration and its standby files are in
    /// place, and what it held alone is kept beside it. Done in `.pgpair-work`, so a crash half-way leaves that folder, and
    /// the next run makes a clone.
    Rewind(Rewind),
    /// Goal: the files of a stopped node make it a standby of its upstream.
    StandbyFiles(StandbyFiles),
    /// Goal: postgresql.conf has this block, nothing in postgresql.auto.conf wins over it, and a running server has
    /// these values in force.
    Configure(Configure),
    /// Goal: pg_hba.conf has this block, and a running server has read it.
    Hba { block: Block, before: Digest },
    /// Goal: pgpair's passfile is in the data directory, with mode 0600.
    Passfile { entries: Vec<PassfileEntry> },
    /// Goal: the data directory has mode 0700. Only where PostgreSQL would refuse the one that it has.
    Mode,
    /// Goal: whatever starts on the data directory of this primary comes up as a standby of the next one. The settings
    /// are in its block by then, and nothing else would promote it (10, 11: all of it is in recovery.conf).
    Fence(Fence),
    /// Goal: the old primary, whose files are out of reach, is dead and stays so: the topology's fencing command has said
    /// it.
    FenceOff,
    /// Goal: no process of a server lives on the data directory of this fenced node. By a fast stop, by an immediate one,
    /// by SIGKILL in the end.
    TakeDown,
    /// Goal: by its files the node is a primary again, on its own timeline. What a fence has left in the block stays.
    Unfence,
    /// Goal: the node is promoted, from the timeline `parent`, after every other writer has ended and all that it wrote
    /// was here. The old primary, if it runs, is stopped for it.
    Promote(Promote),
    /// Goal: the commands of a hook have run, and the comment on the node that becomes the primary, or has, says what is
    /// still owed.
    Hook(Hook),
    /// Goal: no server runs on the data directory of this standby. A crash leaves it stopped, and it is started again.
    Stop(StopFor),
    /// Goal: the server runs in this role and answers.
    Start { role: Role },
    /// Goal: the replication role is as the topology says.
    ReplicationRole(WantedRole),
    /// Goal: the slot exists on this node; `reserve`: it holds back WAL from now on.
    Slot { name: String, reserve: bool },
    /// Goal: the slot is gone.
    DropSlot { name: String },
    /// Goal: the node streams from `upstream`, on its timeline. Done by waiting.
    Streaming { upstream: NodeName },
    /// Goal: the replaced data directory, kept aside as `.pgpair-old`, is gone.
    RemoveOld,
}

/// The SHA-256 of a file's text, in hexadecimal: a file that was edited since is not overwritten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Digest(pub String);

impl Digest {
    #[must_use]
    pub fn of(text: &str) -> Self {
        use sha2::Digest as _;
        let mut hex = String::new();
        for byte in sha2::Sha256::digest(text.as_bytes()) {
            use fmt::Write as _;
            // Writing to a string can't fail.
            let _ = write!(hex, "{byte:02x}");
        }
        Self(hex)
    }
}

/// See [`Action::CreatePrimary`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CreatePrimary {
    /// initdb's long options without the dashes, with their values.
    pub options: Vec<(String, Option<String>)>,
    /// initdb gets the admin password by a pwfile.
    pub with_password: bool,
    pub conf: Block,
    pub hba: Block,
    /// Lines of pgpair's passfile; empty: none is written.
    pub passfile: Vec<PassfileEntry>,
    /// Where pg_wal is to lie; absent: in the data directory.
    pub waldir: Option<String>,
}

/// See [`Action::Clone`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CloneFrom {
    pub source: NodeName,
    /// The address that pg_basebackup connects to.
    pub host: String,
    pub port: u16,
    pub user: String,
    /// The slot on the source that keeps the WAL which the clone will need.
    pub slot: Option<String>,
    pub configuration: Configuration,
    /// The whole recovery.conf (10, 11); absent: standby.signal.
    pub recovery_conf: Option<String>,
    /// What is replaced; absent: the place is empty.
    pub replaces: Option<Replaced>,
    /// Where pg_wal is to lie; absent: in the data directory.
    pub waldir: Option<String>,
    /// Where each tablespace of the source is to lie here, by where it lies there.
    pub tablespaces: BTreeMap<String, String>,
}

impl CloneFrom {
    /// The folders outside the data directory that the clone fills.
    pub fn outside(&self) -> impl Iterator<Item = &str> {
        self.waldir.iter().chain(self.tablespaces.values()).map(String::as_str)
    }
}

/// Whose configuration a clone gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Configuration {
    /// The source's, with the node's own blocks in it.
    OfSource { conf: Block, hba: Block, passfile: Vec<PassfileEntry> },
    /// That of the data directory which is replaced: these files and folders of it, by their paths in it. One that is
    /// not there is not in the clone either.
    Kept(Vec<String>),
}

/// A data directory that a clone replaces: only the very one that was planned for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Replaced {
    /// Of another cluster.
    Cluster(Identity),
    /// A node of this very cluster that ran before, and is no further than the primary: a rebuild.
    Member(Identity),
    Unfinished,
}

/// See [`Action::Rewind`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rewind {
    /// The primary.
    pub source: NodeName,
    /// The node's own files and folders, by their paths in the data directory.
    pub kept: Vec<String>,
}

/// What a standby is stopped for: it is left running unless that can be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopFor {
    /// It is cloned anew, from this source, which keeps WAL for it by this slot.
    Clone { source: NodeName, slot: Option<String> },
    /// It holds WAL that the source has not, and is rewound.
    Rewind { source: NodeName },
    /// It starts again with other files.
    Restart,
}

/// See [`Action::Fence`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fence {
    /// The whole recovery.conf (10, 11); absent: standby.signal.
    pub recovery_conf: Option<String>,
    /// Its server need not answer, and need not agree: that it is taken down is the next step.
    pub by_force: bool,
}

/// See [`Action::Promote`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Promote {
    /// The old primary; absent where there is none any more: every node is in recovery, or the promotion is under way.
    pub from: Option<NodeName>,
    /// The timeline that is left.
    pub parent: Timeline,
    /// A forced promotion: what the old primary wrote last need not be here.
    pub by_force: bool,
}

/// See [`Action::StandbyFiles`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StandbyFiles {
    /// The whole recovery.conf (10, 11); absent: standby.signal.
    pub recovery_conf: Option<String>,
}

/// See [`Action::Configure`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Configure {
    /// Absent: the file has no block of ours, and needs none.
    pub block: Option<Block>,
    /// The file that was planned for; absent: a step of the same plan makes it, and has its block in it.
    pub before: Option<Digest>,
    /// Absent: nothing in postgresql.auto.conf is in the way.
    pub reset: Option<Reset>,
    pub effect: Effect,
    /// The values that are in force afterwards.
    pub settings: BTreeMap<String, String>,
    /// What leaves the block: afterwards what the rest of the files says is in force, or the default.
    pub restored: BTreeSet<String>,
}

/// Entries of postgresql.auto.conf that would win over the block. They go once the block is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reset {
    pub names: BTreeSet<String>,
    /// Of what postgresql.auto.conf sets.
    pub before: Digest,
}

impl Reset {
    /// Returns postgresql.auto.conf as the step leaves it.
    #[must_use]
    pub fn applied_to(&self, auto: &str) -> String {
        conf::without(auto, |name| self.names.contains(name))
    }

    /// Returns the digest of what a text of postgresql.auto.conf sets: ALTER SYSTEM writes the whole file anew, without
    /// the comments and repetitions that somebody may have put there.
    #[must_use]
    pub fn digest(auto: &str) -> Digest {
        let set: BTreeMap<_, _> =
            conf::parse(auto).entries.into_iter().map(|entry| (entry.name, entry.value)).collect();
        Digest::of(&format!("{set:?}"))
    }
}

/// How a change of configuration takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// The server is stopped: its next start reads the files.
    AtStart,
    Reload,
    Restart,
}

/// A line of pgpair's passfile, for any host and port, so that a new node or another port is no change of it. The
/// password is the topology's replication secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassfileEntry {
    pub database: String,
    pub user: String,
}

/// See [`Action::ReplicationRole`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WantedRole {
    pub name: String,
    /// Absent: whatever it is.
    pub connection_limit: Option<i32>,
    /// A verifier of the topology's secret is stored.
    pub with_password: bool,
    /// EXECUTE on the four functions that pg_rewind reads through (11 and later).
    pub rewind_grants: bool,
}

impl Configure {
    /// Returns postgresql.conf as the step leaves it.
    ///
    /// # Errors
    ///
    /// [`Malformed`] where the present block can't be told from the rest.
    pub fn applied_to(&self, text: &str) -> Result<String, Malformed> {
        match &self.block {
            Some(block) => block::put_last(text, block),
            None => block::remove(text),
        }
    }
}

impl Action {
    /// Returns the change of configuration, where that is what the action does.
    #[must_use]
    pub fn as_configure(&self) -> Option<&Configure> {
        if let Self::Configure(configure) = self { Some(configure) } else { None }
    }

    /// Returns the promotion, where that is what the action does.
    #[must_use]
    pub fn as_promote(&self) -> Option<&Promote> {
        if let Self::Promote(promote) = self { Some(promote) } else { None }
    }

    /// Returns the hook, where that is what the action does.
    #[must_use]
    pub fn as_hook(&self) -> Option<&Hook> {
        if let Self::Hook(hook) = self { Some(hook) } else { None }
    }

    /// The action's name, as it stands in JSON and in `pgpair explain`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreatePrimary(_) => "create_primary",
            Self::Clone(_) => "clone",
            Self::Rewind(_) => "rewind",
            Self::StandbyFiles(_) => "standby_files",
            Self::Configure(_) => "configure",
            Self::Hba { .. } => "hba",
            Self::Passfile { .. } => "passfile",
            Self::Mode => "mode",
            Self::Fence(_) => "fence",
            Self::FenceOff => "fence_off",
            Self::TakeDown => "take_down",
            Self::Unfence => "unfence",
            Self::Promote(_) => "promote",
            Self::Hook(_) => "hook",
            Self::Stop(_) => "stop",
            Self::Start { .. } => "start",
            Self::ReplicationRole(_) => "replication_role",
            Self::Slot { .. } => "slot",
            Self::DropSlot { .. } => "drop_slot",
            Self::Streaming { .. } => "streaming",
            Self::RemoveOld => "remove_old",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    mod guards;

    #[test]
    fn what_alter_system_has_written_anew_sets_the_same_as_before() {
        let by_hand = "# mine\nwork_mem = 9MB # comment\nPort = 1\nport = '2'\n";
        let by_server = "# Do not edit this file manually!\nport = '2'\nwork_mem = '9MB'\n";
        assert_eq!(Reset::digest(by_hand), Reset::digest(by_server));
        assert_ne!(Reset::digest(by_hand), Reset::digest("port = '2'\n"));
    }
}
