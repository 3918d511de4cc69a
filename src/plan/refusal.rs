//! Why something is not done: every refusal of the planner and of a step's guard, with its remedy.
//!
//! Typed reasons, never strings made on the spot: a refusal has a code that scripts can rely on, a reason that
//! names what was seen, and the next step for the person who reads it.

use serde::Serialize;
use serde::Serializer;
use serde::ser::SerializeStruct;

use crate::observed::Identity;
use crate::observed::Room;
use crate::observed::TlsProblem;
use crate::pg::lsn::Lsn;
use crate::plan::pair::Writer;
use crate::topology::NodeName;

pub mod examples;

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The topology asks for something that this version of pgpair can't do yet.
    NotSupported { what: String },
    /// The node's files or host are out of reach.
    OutOfReach { node: NodeName, why: String },
    /// The server runs, but SQL is not answered.
    NoAnswer { node: NodeName, why: String },
    /// Two nodes of one cluster accept writes.
    TwoPrimaries { first: Box<Writer>, second: Box<Writer>, fork: Option<Lsn> },
    /// The primary's place holds, or is, something else than what the topology calls the primary.
    RolesMoved { node: NodeName, found: String },
    /// Another node has data while the primary's place has none.
    PrimaryMissing { primary: NodeName, holder: NodeName, holds: String },
    /// The primary's empty place might be an unmounted disk.
    Unmounted { node: NodeName, mount_point: String },
    /// A pinned system identifier says that the cluster exists.
    Pinned { identifier: u64 },
    /// The system identifier is not the pinned one.
    PinDiffers { node: NodeName, found: Identity, pinned: u64 },
    /// A running server of another cluster is where a standby should be.
    OtherClusterRuns { node: NodeName, found: Identity, expected: Identity },
    /// The directory belongs to another cluster, although its block names this one: the primary may be wrong.
    ClaimsThisCluster { node: NodeName, found: Identity, expected: Identity },
    /// Not empty and no data directory.
    NotADataDir { node: NodeName, path: String, found: String },
    /// A data directory of another major version.
    MajorDiffers { node: NodeName, found: u32, expected: u32 },
    /// Binaries missing, or of another major version.
    Binaries { node: NodeName, why: String },
    /// The owner or mode of the data directory keeps the server from starting.
    WrongAccess { node: NodeName, why: String },
    /// The data directory can't be made or replaced.
    NotWritable { node: NodeName, why: String },
    /// A copy does not fit, not even in the place of what it replaces.
    NoRoom { node: NodeName, room: Room },
    /// A TLS file that a standby's connection needs can't be used there.
    TlsFile { node: NodeName, problem: TlsProblem },
    /// A folder outside the data directory has files that belong to no data directory of the node.
    NotEmpty { node: NodeName, folder: String },
    /// A tablespace of the source would lie where the source itself has it.
    TablespaceUnmapped { node: NodeName, source: NodeName, folder: String },
    /// Two tablespaces of the source would lie in one folder.
    TablespacesMixed { node: NodeName, first: String, second: String, folder: String },
    /// pg_wal of a living node is not where the topology says.
    WaldirDiffers { node: NodeName, found: String, wanted: String },
    /// The systemd unit of the server may not be started and stopped by us.
    UnitRefused { node: NodeName, unit: String, why: String },
    /// Another program listens on the node's port.
    PortTaken { node: NodeName, port: u16, by: String },
    /// The block in a file is of another cluster.
    OtherClustersBlock { node: NodeName, file: String, cluster: String },
    /// A value is set where the block can't win.
    Shadowed { node: NodeName, name: String, by: String, remedy: String },
    /// A configuration file can't be read as PostgreSQL would.
    BadConf { node: NodeName, problem: String },
    /// A stopped node without standby files that wrote on its own: whether it can follow is not known.
    FormerPrimary { node: NodeName },
    /// The old primary is gone: only a forced promotion goes on without it.
    PrimaryLost { from: NodeName, to: NodeName, why: String },
    /// A node out of reach, of which nobody has said that it is dead.
    NotDead { node: NodeName, why: String },
    /// It has not all of the WAL that another node has, so commits would be lost.
    Behind { candidate: NodeName, other: NodeName, missing: u64 },
    /// Where the old primary's WAL ends can't be told, so commits may be lost.
    NoProof { old: NodeName, candidate: NodeName },
    /// A standby that is not to be promoted as it is.
    NotPromotable { node: NodeName, why: String, remedy: String },
    /// An old primary that wrote after another was promoted; how many bytes, where that is known.
    Diverged { node: NodeName, by: NodeName, past: Option<u64> },
    /// A check before a switchover failed; its id.
    Unready { check: &'static str, node: NodeName, why: String, remedy: String },
    /// The old primary is stopped, and is started as what it is before the primary moves.
    StartsFirst { from: NodeName, to: NodeName },
    /// The node follows a server that the topology does not have.
    Follows { node: NodeName, server: String },
    /// Commits wait for a standby that the step would take away.
    CommitsWouldHang { primary: NodeName, standby: NodeName },
    /// The node runs, and a clone of it would fail or not become a standby.
    NotASource { node: NodeName, why: String, remedy: String },
    /// A rebuild was asked for of what has just been cloned.
    FreshClone { node: NodeName },
    /// Rules of pg_hba.conf that would keep out pgpair itself, or a standby.
    LocksOut { node: NodeName, who: String, rule: String, why: String, remedy: String },
    /// What the step depends on is not there (any more).
    NotReady { why: String },
    /// The same, where only somebody's hand, or an allowance, puts it there.
    NotReadyUntil { why: String, remedy: String },
    /// A file was edited since the plan was made.
    FileChanged { node: NodeName, file: String },
}

impl Refusal {
    /// The code, for scripts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotSupported { .. } => "not_supported",
            Self::OutOfReach { .. } => "out_of_reach",
            Self::NoAnswer { .. } => "no_answer",
            Self::TwoPrimaries { .. } => "two_primaries",
            Self::RolesMoved { .. } => "roles_moved",
            Self::PrimaryMissing { .. } => "primary_missing",
            Self::Unmounted { .. } => "unmounted",
            Self::Pinned { .. } => "pinned",
            Self::PinDiffers { .. } => "pin_differs",
            Self::OtherClusterRuns { .. } => "other_cluster_runs",
            Self::ClaimsThisCluster { .. } => "claims_this_cluster",
            Self::NotADataDir { .. } => "not_a_data_directory",
            Self::MajorDiffers { .. } => "major_differs",
            Self::Binaries { .. } => "binaries",
            Self::WrongAccess { .. } => "wrong_access",
            Self::NotWritable { .. } => "not_writable",
            Self::NoRoom { .. } => "no_room",
            Self::TlsFile { .. } => "tls_file",
            Self::NotEmpty { .. } => "not_empty",
            Self::TablespaceUnmapped { .. } => "tablespace_unmapped",
            Self::TablespacesMixed { .. } => "tablespaces_mixed",
            Self::WaldirDiffers { .. } => "waldir_differs",
            Self::UnitRefused { .. } => "unit_refused",
            Self::PortTaken { .. } => "port_taken",
            Self::OtherClustersBlock { .. } => "other_clusters_block",
            Self::Shadowed { .. } => "shadowed",
            Self::BadConf { .. } => "bad_configuration",
            Self::FormerPrimary { .. } => "former_primary",
            Self::PrimaryLost { .. } => "primary_lost",
            Self::NotDead { .. } => "not_dead",
            Self::Behind { .. } => "behind",
            Self::NoProof { .. } => "no_proof",
            Self::NotPromotable { .. } => "not_promotable",
            Self::Diverged { .. } => "diverged",
            Self::Unready { check, .. } => check,
            Self::StartsFirst { .. } => "starts_first",
            Self::Follows { .. } => "follows_a_foreign_server",
            Self::CommitsWouldHang { .. } => "commits_would_hang",
            Self::NotASource { .. } => "not_a_source",
            Self::FreshClone { .. } => "fresh_clone",
            Self::LocksOut { .. } => "locks_out",
            Self::NotReady { .. } | Self::NotReadyUntil { .. } => "not_ready",
            Self::FileChanged { .. } => "file_changed",
        }
    }

    /// What was seen that forbids it, as one sentence without its full stop.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::NotSupported { what } => format!("{what}: this version of pgpair can't do that yet"),
            Self::OutOfReach { node, why } => format!("{node} can't be looked at: {why}"),
            Self::NoAnswer { node, why } => format!("the server of {node} runs but does not answer: {why}"),
            Self::TwoPrimaries { first, second, fork } => two_primaries(first, second, *fork),
            Self::RolesMoved { node, found } => format!("{node} {found}, which is not what the topology says of it"),
            Self::PrimaryMissing { primary, holder, holds } => {
                format!(
                    "{primary}, the primary, has no data directory, but {holder} {holds}: no new cluster is made beside it"
                )
            }
            Self::Unmounted { node, mount_point } => {
                format!("{mount_point} is a mount point of {node}'s data directory, and nothing is mounted there")
            }
            Self::Pinned { identifier } => {
                format!(
                    "the topology pins system_identifier {identifier}, so the cluster exists; but no node has its data"
                )
            }
            Self::PinDiffers { node, found, pinned } => {
                format!("{node} has system identifier {found}, the topology pins {pinned}")
            }
            Self::OtherClusterRuns { node, found, expected } => {
                format!("a server of another cluster runs at {node}: system identifier {found}, not {expected}")
            }
            Self::ClaimsThisCluster { node, found, expected } => format!(
                "{node} has system identifier {found}, the primary {expected}, but the pgpair block of {node} names this cluster: the primary may be the wrong one"
            ),
            Self::NotADataDir { node, path, found } => format!("{path} of {node} is no data directory: {found}"),
            Self::MajorDiffers { node, found, expected } => {
                format!("the data directory of {node} is of PostgreSQL {found}, the topology says {expected}")
            }
            Self::Binaries { node, why } => format!("no usable PostgreSQL binaries for {node}: {why}"),
            Self::WrongAccess { node, why } => {
                format!("PostgreSQL would not start on the data directory of {node}: {why}")
            }
            Self::NotWritable { node, why } => format!("the data directory of {node} can't be made: {why}"),
            Self::NoRoom { node, room: Room { folder, free, needed, gained } } => {
                let [free, needed, gained] = [free, needed, gained].map(|bytes| bytes >> 20);
                let without =
                    if gained == 0 { String::new() } else { format!(", also without the {gained} MB of the old data") };
                format!("{folder} of {node} has {free} MB free, and the copy needs {needed} MB{without}")
            }
            Self::TlsFile { node, problem } => format!("{node} can't use {problem}"),
            Self::NotEmpty { node, folder } => {
                format!("{folder} of {node} is not empty, and no data directory of {node} leads to it")
            }
            Self::TablespaceUnmapped { node, source, folder } => format!(
                "{source} has a tablespace in {folder}, and {node} is on the same machine: its copy can't lie there too"
            ),
            Self::TablespacesMixed { node, first, second, folder } => {
                format!("the tablespaces {first} and {second} would both lie in {folder} on {node}")
            }
            Self::WaldirDiffers { node, found, wanted } => {
                format!("pg_wal of {node} is {found}, the topology says {wanted}")
            }
            Self::UnitRefused { node, unit, why } => {
                format!("the server of {node} is for `{unit}` to start and stop: {why}")
            }
            Self::PortTaken { node, port, by } => format!("port {port} of {node} is taken by {by}"),
            Self::OtherClustersBlock { node, file, cluster } => {
                format!("{file} of {node} has a pgpair block of another cluster, {cluster}")
            }
            Self::Shadowed { node, name, by, .. } => {
                format!("{name} of {node} is set by {by}, where pgpair's block can't win")
            }
            Self::BadConf { node, problem } => format!("the configuration of {node} can't be read: {problem}"),
            Self::FormerPrimary { node } => format!(
                "{node} is stopped without standby files and may have written on its own: whether it can follow the primary is not known"
            ),
            Self::PrimaryLost { from, why, .. } => format!("no node accepts writes, and {from} {why}"),
            Self::NotDead { node, why } => {
                format!("{node} may still take writes, or take them again: {why}")
            }
            Self::Behind { candidate, other, missing } => {
                format!("{candidate} lacks {missing} bytes of WAL that {other} has: commits would be lost")
            }
            Self::NoProof { old, candidate } => {
                format!(
                    "{old} did not end with a clean shutdown: whether {candidate} has all that it wrote is not known"
                )
            }
            Self::NotPromotable { node, why, .. } => format!("{node} can't be promoted: it {why}"),
            Self::Diverged { node, by, past: Some(bytes) } => {
                format!("{node} has {bytes} bytes of WAL from after {by} was promoted, and can't follow it")
            }
            Self::Diverged { node, by, past: None } => {
                format!("whether {node} wrote after {by} was promoted is not known, so it is not let to follow it")
            }
            Self::Unready { node, why, .. } => format!("{node} {why}"),
            Self::StartsFirst { from, to } => {
                format!(
                    "{from} is stopped: it is started as the primary first, and {to} takes its role in the next run"
                )
            }
            Self::Follows { node, server } => {
                format!("{node} is in recovery and follows {server}, which the topology does not have")
            }
            Self::CommitsWouldHang { primary, standby } => {
                format!("commits on {primary} wait for {standby}, and would hang while it is away")
            }
            Self::NotASource { node, why, .. } => format!("{node} can't be cloned now: it {why}"),
            Self::FreshClone { node } => format!("{node} is a new clone already, which has not run yet"),
            Self::LocksOut { node, who, rule, why, .. } => {
                format!("the new pg_hba.conf of {node} would lock out {who}: {rule} {why}")
            }
            Self::NotReady { why } | Self::NotReadyUntil { why, .. } => why.clone(),
            Self::FileChanged { node, file } => format!("{file} of {node} was edited since the plan was made"),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::NotSupported { .. } => "take it out of the topology, or do that part by hand".into(),
            Self::OutOfReach { .. } => "make its files readable for the servers' OS user, and run pgpair as that user or root".into(),
            Self::NoAnswer { .. } => "see the server's log; try again when it answers".into(),
            Self::TwoPrimaries { first, second, .. } => format!(
                "decide whose writes stay: let the topology name {0} as the primary and `pgpair apply --discard {1}`, or name {1} and `pgpair apply --discard {0}`. The discarded one is fenced and stopped, what it wrote is kept aside, and it returns as a standby",
                first.node, second.node
            ),
            Self::RolesMoved { .. } => {
                "see what `pgpair status` says of the nodes; let `role:` in the topology name the one that is the primary now, and move it with `pgpair switchover`".into()
            }
            Self::PrimaryMissing { primary, holder, .. } => format!(
                "mount or restore the data directory of {primary}; or, if {primary} is really new, stop {holder} and move its data away by hand"
            ),
            Self::Unmounted { mount_point, .. } => {
                format!("`mount {mount_point}`, or take the mount out of /etc/fstab if the disk is gone for good")
            }
            Self::Pinned { .. } => "mount or restore the data; to make a new cluster, take `system_identifier` out of the topology".into(),
            Self::PinDiffers { .. } => "check host, port and data_dir of that node; correct the pin if the cluster was meant".into(),
            Self::OtherClusterRuns { node, .. } => {
                format!("check host, port and data_dir of {node}; a server that really is in the way must be stopped by hand")
            }
            Self::ClaimsThisCluster { .. } => "find out which of the two is the cluster, and move the other one away by hand".into(),
            Self::NotADataDir { node, .. } => format!("correct data_dir of {node}, or move what is there away"),
            Self::MajorDiffers { .. } => "correct postgresql.version; an upgrade is pg_upgrade's job".into(),
            Self::Binaries { .. } => "install them, or set postgresql.bin_dir to where they are".into(),
            Self::WrongAccess { .. } => "give it to the servers' OS user, as root, or correct `os_user`".into(),
            Self::NotWritable { .. } => "make the folder above it writable for the servers' OS user".into(),
            Self::NoRoom { .. } => "free space there, and apply again".into(),
            Self::TlsFile { problem, .. } => problem.remedy(),
            Self::NotEmpty { node, .. } => {
                format!("see what is in it; move it away, or let the topology give {node} another folder")
            }
            Self::TablespaceUnmapped { node, folder, .. } => {
                format!("say where it is to lie: `tablespaces: {{ {folder}: /another/folder }}` of {node}")
            }
            Self::TablespacesMixed { node, .. } => format!("give each a folder of its own in `tablespaces:` of {node}"),
            Self::WaldirDiffers { node, wanted, .. } => format!(
                "correct `waldir`; or stop {node}, move its pg_wal to {wanted}, make pg_wal a link to that, and start it; or have a standby cloned anew"
            ),
            Self::UnitRefused { unit, .. } => format!(
                "see `systemctl status {unit}`; run pgpair as root, or let its user `systemctl start {unit}` and `systemctl stop {unit}` by polkit or, without a password, by sudo"
            ),
            Self::PortTaken { .. } => "stop that program, or give the node another port".into(),
            Self::OtherClustersBlock { .. } => "correct data_dir or `cluster:`; take the block out by hand if it is a leftover".into(),
            Self::Shadowed { remedy, .. }
            | Self::NotASource { remedy, .. }
            | Self::LocksOut { remedy, .. }
            | Self::NotReadyUntil { remedy, .. } => remedy.clone(),
            Self::BadConf { .. } => "correct the file".into(),
            Self::FormerPrimary { node } => format!(
                "if it is the right one, let the topology name {node} as the primary; if what only {node} has may be lost, let the other one run, and `pgpair rebuild {node}` clones it anew"
            ),
            Self::PrimaryLost { from, to, .. } => {
                format!("bring {from} back; or `pgpair failover --to {to}`, which may lose what only {from} has")
            }
            Self::NotDead { node, .. } => format!(
                "power it off or cut it off for good, and say so: `--confirm-dead {node}`; or give the topology a `fencing.command`"
            ),
            Self::Behind { other, .. } => format!("let {other} be the primary in the topology, or start it, and plan again"),
            Self::NoProof { old, .. } => format!("let {old} be the primary in the topology, so that it is started, and plan again"),
            Self::NotPromotable { remedy, .. } | Self::Unready { remedy, .. } => format!("{remedy}, and plan again"),
            Self::Diverged { node, .. } => {
                format!("`pgpair rebuild {node}` clones it anew; keep a copy of its data directory if you need what it wrote")
            }
            Self::StartsFirst { .. } => "apply this plan, and once more for the role change".into(),
            Self::Follows { node, .. } => {
                format!("find out whose standby {node} is; if it is to be this cluster's, stop it and correct its primary_conninfo")
            }
            Self::CommitsWouldHang { .. } => "see that other synchronous standbys stream, and plan again".into(),
            Self::FreshClone { .. } => "`pgpair apply` starts it".into(),
            Self::NotReady { .. } => "plan again".into(),
            Self::FileChanged { .. } => "plan again, to see what it says now".into(),
        }
    }
}

/// The diagnosis of two nodes that accept writes.
fn two_primaries(first: &Writer, second: &Writer, fork: Option<Lsn>) -> String {
    let both = format!("{} and {} have the same system identifier and both accept writes", first.node, second.node);
    let Some(fork) = fork else { return format!("{both}; where they parted can't be told") };
    let wrote = |writer: &Writer| {
        let bytes = writer.bytes.unwrap_or_default();
        let own = writer.own.map_or(String::new(), |own| format!(" with {own}"));
        format!("{} wrote {bytes} bytes of WAL on timeline {}{own}", writer.node, writer.timeline)
    };
    format!("{both}; they parted at {fork}, and since then {}, and {}", wrote(first), wrote(second))
}

impl Serialize for Refusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Refusal", 3)?;
        fields.serialize_field("code", self.code())?;
        fields.serialize_field("reason", &self.reason())?;
        fields.serialize_field("remedy", &self.remedy())?;
        fields.end()
    }
}
