//! The observed state: what one look at every node found.
//!
//! Plain data, made by `world` and read by `plan`. A look never fails as a whole: what could not be seen is a
//! [`Reading::Unknown`] with its reason, and is never taken for absent. Facts that a stopped server would
//! tell (roles) are unknown while it is stopped. File texts are as they lie on disk, secrets included, so an
//! `Observed` is shown and stored only as `plan::redact` leaves it; passwords and verifiers are compared where they were
//! read, and only the answer is here.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use crate::pg::conf::ConfFiles;
use crate::pg::conninfo::Conninfo;
use crate::pg::control::ControlState;
use crate::pg::guc::Context;
use crate::pg::history::Branch;
use crate::pg::lsn::Lsn;
use crate::pg::lsn::Timeline;
use crate::pg::version::Major;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Role;

mod facts;
pub mod nothing;
mod readiness;

pub use facts::Moved;
pub use facts::moved;
pub use readiness::Busy;
pub use readiness::Lasting;
pub use readiness::Readiness;
pub use readiness::Reverse;

/// What a look at one thing found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading<T> {
    Known(T),
    /// Looked for, and seen not to be there.
    Absent,
    /// Could not be looked at; why.
    Unknown(String),
}

impl<T> Reading<T> {
    /// Returns the value where it is known.
    #[must_use]
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Unknown(_) => None,
        }
    }

    /// Returns the value where it is known, to change it (in a prediction).
    #[must_use]
    pub fn known_mut(&mut self) -> Option<&mut T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Unknown(_) => None,
        }
    }

    /// Whether it was seen not to be there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// Returns why it could not be looked at.
    #[must_use]
    pub fn unknown(&self) -> Option<&str> {
        match self {
            Self::Unknown(why) => Some(why),
            Self::Known(_) | Self::Absent => None,
        }
    }
}

/// Every node of a cluster, looked at together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    pub nodes: BTreeMap<NodeName, NodeObserved>,
}

impl Observed {
    /// Returns what was seen of a node of the topology. Every look covers all of them.
    #[must_use]
    pub fn node(&self, name: &NodeName) -> &NodeObserved {
        self.nodes.get(name).expect("a look covers every node of the topology")
    }

    /// The same, to change it in a prediction.
    #[must_use]
    pub fn node_mut(&mut self, name: &NodeName) -> &mut NodeObserved {
        self.nodes.get_mut(name).expect("a look covers every node of the topology")
    }
}

/// What was seen of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeObserved {
    pub binaries: Reading<Binaries>,
    /// Unknown: the node's files are out of reach.
    pub place: Reading<Place>,
    /// The server that runs on the node's data directory. Absent: none does.
    pub server: Reading<Server>,
    /// Who listens on the topology's port, if it is not this node's own server. Absent: nobody.
    pub port_taken: Reading<String>,
    pub controller: Reading<Controller>,
    /// The file systems that a copy would go to; measured only where a plan has one.
    pub rooms: Vec<Room>,
    pub readiness: Readiness,
    /// The files of `replication.tls` that the node's user can't use for a connection.
    pub tls: Vec<TlsProblem>,
    /// It is out of reach, and somebody stands up for it that it is dead and stays so: `--confirm-dead`, or the fencing
    /// command. A node that answers on any channel is not.
    pub confirmed_dead: bool,
}

/// A file of `replication.tls` that libpq would not take on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsProblem {
    /// `sslrootcert`, `sslcert` or `sslkey`.
    pub key: String,
    pub path: String,
    pub trouble: TlsTrouble,
}

/// Why libpq would not take it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsTrouble {
    Missing,
    NotAFile,
    /// The node's user may not read it; what the system says.
    Unreadable(String),
    /// A private key that others could read.
    TooOpen {
        mode: u32,
        by_root: bool,
    },
}

impl TlsProblem {
    /// Whether a connection string names the file.
    #[must_use]
    pub fn is_of(&self, conninfo: &Conninfo) -> bool {
        conninfo.get(&self.key) == Some(self.path.as_str())
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        let Self { key, path, trouble } = self;
        match trouble {
            TlsTrouble::Missing | TlsTrouble::NotAFile => {
                format!("put it there, for the servers' OS user to read, or correct `replication.tls.{key}`")
            }
            TlsTrouble::Unreadable(_) if key == "sslkey" => {
                format!("give it to the servers' OS user (`chown`), with `chmod 600 {path}`")
            }
            TlsTrouble::Unreadable(_) => "make it readable for the servers' OS user".into(),
            TlsTrouble::TooOpen { by_root: true, .. } => format!("`chmod 640 {path}`, with a group of that user's"),
            TlsTrouble::TooOpen { by_root: false, .. } => format!("`chmod 600 {path}`"),
        }
    }
}

impl std::fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { key, path, trouble } = self;
        write!(f, "{path} (`replication.tls.{key}`): ")?;
        match trouble {
            TlsTrouble::Missing => f.write_str("it is not there"),
            TlsTrouble::NotAFile => f.write_str("it is not a file"),
            TlsTrouble::Unreadable(why) => write!(f, "it can't be read: {why}"),
            TlsTrouble::TooOpen { mode, by_root } => {
                let whom = if *by_root { "only root and a group can read" } else { "only its owner can read" };
                write!(f, "it has mode {mode:04o}, and libpq takes a key that {whom}")
            }
        }
    }
}

/// A file system that a copy goes to, in bytes. All of it are measures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// A folder on it.
    pub folder: String,
    pub free: u64,
    /// What the copy needs there.
    pub needed: u64,
    /// What the removal of the replaced data would give; 0 where there is room without.
    pub gained: u64,
}

impl Room {
    /// Whether the copy fits beside what it replaces.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.free >= self.needed
    }

    /// Whether the copy fits at all.
    #[must_use]
    pub fn can_be_made(&self) -> bool {
        self.free.saturating_add(self.gained) >= self.needed
    }
}

/// Who starts and stops a node's server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Controller {
    PgCtl,
    /// Debian's own program, by version and name of the cluster.
    PgCtlCluster {
        version: String,
        name: String,
    },
    /// A systemd unit, with its suffix.
    Unit {
        unit: String,
        permission: Permission,
    },
    /// The commands that the topology has.
    Commands,
}

/// Whether we may start and stop a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    Given,
    /// Through `sudo`, which asks for no password.
    BySudo,
    /// Why not.
    Refused(String),
}

impl std::fmt::Display for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PgCtl => f.write_str("pg_ctl"),
            Self::PgCtlCluster { version, name } => write!(f, "pg_ctlcluster {version} {name}"),
            Self::Unit { unit, .. } => write!(f, "systemctl {unit}"),
            Self::Commands => f.write_str("the commands of `service`"),
        }
    }
}

impl NodeObserved {
    /// Returns the initialised data directory, if there is one.
    #[must_use]
    pub fn cluster(&self) -> Option<&Cluster> {
        match &self.place.known()?.data_dir {
            DataDir::Cluster(cluster) => Some(cluster),
            DataDir::Absent | DataDir::Empty | DataDir::Unfinished(_) | DataDir::Foreign(_) => None,
        }
    }

    /// The same, to change it in a prediction.
    #[must_use]
    pub fn cluster_mut(&mut self) -> Option<&mut Cluster> {
        match &mut self.place.known_mut()?.data_dir {
            DataDir::Cluster(cluster) => Some(cluster),
            DataDir::Absent | DataDir::Empty | DataDir::Unfinished(_) | DataDir::Foreign(_) => None,
        }
    }

    /// Returns what the server said over SQL, if it answered.
    #[must_use]
    pub fn sql(&self) -> Option<&Sql> {
        self.server.known()?.sql.known()
    }

    /// The same, to change it in a prediction.
    #[must_use]
    pub fn sql_mut(&mut self) -> Option<&mut Sql> {
        self.server.known_mut()?.sql.known_mut()
    }

    /// Whether the node was reached on any channel: its files, its server, or somebody who listens on its port.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.place.unknown().is_none() || self.server.known().is_some() || self.port_taken.known().is_some()
    }

    /// Whether the node was seen to accept writes.
    #[must_use]
    pub fn accepts_writes(&self) -> bool {
        self.sql().is_some_and(|sql| !sql.in_recovery)
    }
}

/// The PostgreSQL binaries of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binaries {
    pub bin_dir: String,
    /// As `postgres --version` prints it, for instance `15.18`.
    pub version: String,
    pub major: Major,
    /// `pg_basebackup`, which may be newer than the server and elsewhere.
    pub basebackup: Reading<Program>,
    /// `pg_rewind` of this very version is there.
    pub rewind: bool,
    /// The first of the build's own socket directories, and whether the OS user can write there.
    pub socket_dir: Option<SocketDir>,
}

/// A program and its major version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub path: String,
    pub major: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketDir {
    pub path: String,
    pub writable: bool,
}

/// A node's data directory and what lies beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub data_dir: DataDir,
    /// Why the data directory can't be made or replaced by the OS user (its parent is not writable, ...).
    pub not_writable: Option<String>,
    /// `<data_dir>.pgpair-new`: what a killed initdb or clone left.
    pub new: bool,
    /// `<data_dir>.pgpair-work`: a rewind was at work.
    pub work: bool,
    /// `<data_dir>.pgpair-old`: a replaced data directory, kept aside.
    pub old: bool,
    /// What is kept in `.pgpair-old`, while the data directory itself is gone: a copy that was to take its place was not
    /// finished, and is to have its configuration.
    pub made_way: Option<Box<MadeWay>>,
    /// A mount point of fstab or a mount unit, at or above the data directory, where nothing is mounted.
    pub unmounted: Option<String>,
    /// The node's folders outside its data directory, by path: its waldir, and where tablespaces are to lie.
    pub outside: BTreeMap<String, Outside>,
}

/// A data directory that was moved aside for a copy, with or without its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeWay {
    pub identity: Identity,
    pub conf: ConfFiles,
    pub hba: String,
    pub passfile: Passfile,
    pub recovery_conf: Option<String>,
}

/// A folder outside the data directory that the topology gives to the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outside {
    pub content: Content,
    /// Why it can't be made or replaced by the OS user.
    pub not_writable: Option<String>,
    /// A mount point at or above it where nothing is mounted.
    pub unmounted: Option<String>,
    /// `<folder>.pgpair-old`: what was replaced, kept aside.
    pub old: bool,
}

/// What is in a folder outside the data directory, and whose it is by the links that lead there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// There is no folder, or an empty one.
    Nothing,
    /// Of the node's data directory, or of the one that was replaced and is kept aside.
    InUse,
    /// Put there by a run that was killed before the data directory followed.
    LeftOver,
    /// No data directory of the node leads to it.
    Foreign,
}

/// What is at the path of the data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataDir {
    Absent,
    /// A directory without any entry.
    Empty,
    /// Files of PostgreSQL, but no whole `global/pg_control`: an initdb or a clone was killed; what is wrong.
    Unfinished(String),
    /// Not empty, and no data directory; some of its entries, or what it is.
    Foreign(String),
    Cluster(Box<Cluster>),
}

/// Which cluster a data directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// The system identifier, as a decimal string in JSON.
    Known(#[serde(with = "as_text")] u64),
    /// In predictions: the identifier that initdb on this node will choose.
    CreatedOn(NodeName),
}

/// A number as a text: not every reader of JSON keeps 64 bits of one.
mod as_text {
    use serde::Deserialize as _;
    use serde::Deserializer;
    use serde::Serializer;

    pub(super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Known(number) => write!(f, "{number}"),
            Self::CreatedOn(node) => write!(f, "(made by initdb on {node})"),
        }
    }
}

/// An initialised data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// From PG_VERSION.
    pub major: Major,
    pub identity: Identity,
    pub state: ControlState,
    /// The timeline of pg_control's last checkpoint; of a running primary [`Sql::timeline`] is the one that counts.
    pub timeline: Timeline,
    pub checkpoint: Lsn,
    pub checksums: bool,
    pub wal_log_hints: bool,
    /// The primary's values of the parameters that a standby must have at least as high; of a standby those that it
    /// has replayed.
    pub floors: BTreeMap<String, u32>,
    /// Where its own WAL ends, by its pg_control or, after a crash, by its WAL files: nothing that it has written or
    /// received is behind that. Absent while the server writes or receives, and where nothing tells.
    pub end: Option<Lsn>,
    /// The timeline that this end is on.
    pub end_timeline: Option<Timeline>,
    /// The highest history file in pg_wal.
    pub newest_history: Option<Timeline>,
    /// The timelines that one came through, oldest first, and where it left each.
    pub branches: Vec<Branch>,
    /// The checksum of the first record of each timeline that one tells of, where it is still there: two timelines of one
    /// number differ in it.
    pub beginnings: BTreeMap<Timeline, u32>,
    /// What it holds behind the fork, where it went past the one of the present primary's history.
    pub lost: Option<Lost>,
    /// The WAL in pg_wal; absent where there is none.
    pub wal: Option<WalFiles>,
    /// Why the server would not start on it.
    pub wrong_access: Option<WrongAccess>,
    pub markers: Markers,
    pub conf: ConfFiles,
    /// The text of pg_hba.conf.
    pub hba: String,
    /// pgpair's own passfile in the data directory.
    pub passfile: Passfile,
    /// Of the topology's replication role. Unknown while the server does not answer.
    pub replication_role: Reading<ReplicationRole>,
    /// By name. Names are read from pg_replslot while the server does not answer.
    pub slots: BTreeMap<String, Slot>,
    /// Where pg_wal leads, if it is a link.
    pub waldir: Option<String>,
    /// Where each tablespace lies, by the name of its link in pg_tblspc.
    pub tablespaces: BTreeMap<String, String>,
}

impl Cluster {
    /// Returns where its WAL ends if it was stopped cleanly: then that is also all that it ever sent.
    #[must_use]
    pub fn clean_end(&self) -> Option<Lsn> {
        match self.state {
            ControlState::ShutDown | ControlState::ShutDownInRecovery => self.end,
            ControlState::StartingUp
            | ControlState::ShuttingDown
            | ControlState::InCrashRecovery
            | ControlState::InArchiveRecovery
            | ControlState::InProduction => None,
        }
    }

    /// Returns the newest timeline that the data directory knows of.
    #[must_use]
    pub fn newest_timeline(&self) -> Timeline {
        self.newest_history.map_or(self.timeline, |newest| newest.max(self.timeline))
    }
}

/// Transactions of a node that the primary's cluster has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// How many were committed.
    pub transactions: u64,
    /// When the last of them was, in microseconds since 1970.
    pub last_commit: Option<i64>,
    /// From where on a rewind needs WAL: where the last checkpoint that both have replays from. Absent where its own WAL
    /// does not go back so far.
    pub rewind_from: Option<Lsn>,
}

impl fmt::Display for Lost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.transactions == 1 { "" } else { "s" };
        write!(formatter, "{} transaction{plural}", self.transactions)?;
        let Some(at) = self.last_commit else { return Ok(()) };
        match jiff::Timestamp::from_microsecond(at) {
            Ok(at) => write!(formatter, ", the last committed at {}", at.strftime("%F %T UTC")),
            Err(_) => write!(formatter, ", the last committed at no known time"),
        }
    }
}

/// The range of the WAL files of a data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalFiles {
    /// Where the first of them begins.
    pub oldest: Lsn,
    /// Where the last of them ends that was written to.
    pub end: Lsn,
}

/// Why PostgreSQL would refuse a data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WrongAccess {
    /// It belongs to somebody else; to whom.
    Owner(String),
    /// Others may read or write it; its mode.
    Mode(u32),
}

impl std::fmt::Display for WrongAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Owner(whose) => f.write_str(whose),
            Self::Mode(mode) => write!(f, "it has mode {mode:04o}, and only its owner may write there"),
        }
    }
}

/// Files that decide what a data directory comes up as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Markers {
    pub standby_signal: bool,
    pub recovery_signal: bool,
    /// The text of recovery.conf.
    pub recovery_conf: Option<String>,
    pub backup_label: bool,
    /// A `promote` file: pending on a running standby.
    pub promote: bool,
    /// `postmaster.opts`: a server once ran here.
    pub postmaster_opts: bool,
}

/// pgpair's passfile, judged where it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Passfile {
    Absent,
    /// There, with mode 0600 and the lines that the topology asks for.
    Right,
    /// There, with another mode or other lines.
    Wrong,
    /// There, and the topology's secret can't be had to compare its lines with.
    NotCompared,
}

/// The replication role, its verifier judged where it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicationRole {
    pub login: bool,
    pub replication: bool,
    pub superuser: bool,
    pub connection_limit: i32,
    pub verifier: Verifier,
    /// EXECUTE on the four functions that pg_rewind reads through.
    pub rewind_grants: bool,
}

/// How the stored verifier compares with the topology's secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verifier {
    /// No password is stored.
    None,
    /// Made from the topology's secret, by the method that `auth` asks for.
    Matches,
    Differs,
    /// The topology has no secret to compare with, or it can't be had.
    NotCompared,
}

/// A physical replication slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    pub physical: bool,
    pub active: bool,
    /// Whether it holds back WAL (`restart_lsn` is set).
    pub reserved: bool,
    /// 13 and later: `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// How many bytes of WAL it holds back, up to the server's position. Absent while the server does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retained: Option<u64>,
}

/// A running server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// 0 where only the server itself was seen, and not its files.
    pub pid: u32,
    /// Line 3 of postmaster.pid: seconds since the epoch.
    pub started: i64,
    /// The port it runs on, which need not be the topology's.
    pub port: Option<u16>,
    pub socket_dir: Option<String>,
    /// Unknown: it does not answer, and why (`the database system is starting up`, ...).
    pub sql: Reading<Sql>,
}

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sql {
    /// `server_version`, for instance `15.18 (Debian 15.18-0+deb12u1)`.
    pub version: String,
    pub in_recovery: bool,
    /// The running timeline: of a primary from the name of the WAL file it writes, of a standby from its receiver.
    pub timeline: Timeline,
    /// Of a primary: written. Of a standby: the further of received and replayed.
    pub lsn: Lsn,
    pub replayed: Option<Lsn>,
    pub replay_paused: bool,
    /// Of a standby: where it goes on to receive. Absent until it has asked its upstream, having replayed what it has.
    pub asks_from: Option<Lsn>,
    /// The parameters that the topology or pgpair itself are concerned with, and every other that a file or the command
    /// line sets, or that waits for a restart.
    pub settings: BTreeMap<String, Setting>,
    /// The server has read pg_hba.conf since it was last changed.
    pub hba_loaded: bool,
    /// The server has read its configuration files since they were last changed.
    pub conf_loaded: bool,
    /// The server was started after its recovery.conf was last changed (10, 11: it is read at the start alone).
    pub recovery_conf_loaded: bool,
    pub receiver: Option<Receiver>,
    pub senders: Vec<Sender>,
    pub busy: Busy,
}

/// A row of pg_settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// In base units, as pg_settings has it.
    pub value: String,
    pub context: Context,
    /// `default`, `configuration file`, `command line`, ...
    pub source: String,
    pub pending_restart: bool,
}

/// A standby's walreceiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver {
    pub status: String,
    /// From its conninfo.
    pub host: Option<String>,
    pub port: Option<u16>,
    pub user: Option<String>,
    pub slot: Option<String>,
    /// The name that its upstream knows it by.
    pub application_name: Option<String>,
    pub timeline: Timeline,
}

/// A walsender of a server that feeds others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    pub application_name: String,
    pub client_addr: Option<String>,
    pub state: String,
    /// The slot that it goes by, if it has one.
    pub slot: Option<String>,
    pub sent: Option<Lsn>,
    pub flushed: Option<Lsn>,
    pub replayed: Option<Lsn>,
    pub sync_state: String,
}

impl Receiver {
    /// Whether it is connected to this node.
    #[must_use]
    pub fn is_from(&self, node: &Node) -> bool {
        self.host.as_ref().zip(self.port).is_some_and(|(host, port)| node.is_at(host, port))
    }

    #[must_use]
    pub fn streams(&self) -> bool {
        self.status == "streaming"
    }
}

impl Sender {
    /// Whether it feeds this node, by the name that standbys connect with.
    #[must_use]
    pub fn is_of(&self, node: &NodeName) -> bool {
        self.application_name == node.as_str()
    }
}

/// What a data directory would come up as, from its files alone.
///
/// See the file table of the reference on replication, section 10: a directory without its standby files comes
/// up as a primary on the same timeline.
#[must_use]
pub fn comes_up_as(markers: &Markers, major: Major) -> Role {
    use crate::pg::version::StandbyMode;
    let standby = match major.dialect().standby_mode {
        StandbyMode::SignalFile => markers.standby_signal,
        StandbyMode::RecoveryConf => markers.recovery_conf.as_deref().is_some_and(asks_for_standby_mode),
    };
    if standby { Role::Standby } else { Role::Primary }
}

/// Whether a recovery.conf (10, 11) has `standby_mode` on.
fn asks_for_standby_mode(text: &str) -> bool {
    let entries = crate::pg::conf::parse(text).entries;
    let last = entries.iter().rev().find(|entry| entry.name == "standby_mode");
    last.is_some_and(|entry| ["on", "true", "yes", "1"].contains(&entry.value.to_lowercase().as_str()))
}
