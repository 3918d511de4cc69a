//! The desired state: one cluster, as its topology file describes it.
//!
//! Plain data, already validated: every reference resolves, there is exactly one primary, and every value
//! is one that PostgreSQL of that version can read. `topology/` has the way from YAML to here.

use std::collections::HashMap;
use std::fmt;

use indexmap::IndexMap;
use serde::Deserialize;
use serde::Serialize;

use crate::pg::version::Major;
use crate::topology::diagnostic::Diagnostic;
use crate::topology::diagnostic::Report;
use crate::topology::model::Draft;
use crate::topology::spans::Yaml;

pub mod advice;
pub mod diagnostic;
pub mod edit;
pub mod model;
pub mod schema;
pub mod spans;
pub mod validate;
pub mod write;

/// Reads a topology file, or says everything that is wrong with it.
///
/// `file` is its name, for the messages alone. `base_dir` is the absolute path of the folder that relative paths
/// start at.
///
/// # Errors
///
/// All that is wrong, in the order of the file; never empty.
pub fn parse(source: &[u8], file: &str, base_dir: &str) -> Result<Topology, Vec<Diagnostic>> {
    parse_with_advice(source, file, base_dir).map(|(topology, _)| topology)
}

/// Reads a topology file as [`parse`] does, and says with it what is unwise in it, as warnings.
///
/// # Errors
///
/// All that is wrong, in the order of the file; never empty, and without warnings.
pub fn parse_with_advice(
    source: &[u8],
    file: &str,
    base_dir: &str,
) -> Result<(Topology, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut report = Report::on(file);
    let yaml = spans::read(source, &mut report);
    let draft = yaml.as_ref().and_then(|yaml| Draft::of(yaml, &mut report));
    let topology = draft.clone().and_then(|draft| validate::topology(draft, base_dir, &mut report));
    match topology.zip(draft) {
        Some((topology, draft)) if report.is_empty() => {
            let advice = advice::advice(&topology, &draft, file);
            Ok((topology, advice))
        }
        Some(_) | None => {
            let mut diagnostics = report.into_diagnostics();
            hide_secrets(&mut diagnostics, yaml.as_ref());
            Err(diagnostics)
        }
    }
}

/// Hides what may be a literal secret: a password in the wrong place is judged, and quoted, as what belongs there.
fn hide_secrets(diagnostics: &mut [Diagnostic], yaml: Option<&Yaml>) {
    let secrets = yaml.into_iter().flat_map(Yaml::secrets);
    let by_place: HashMap<usize, &str> = secrets.filter_map(|yaml| Some((yaml.span.offset, yaml.as_text()?))).collect();
    for diagnostic in diagnostics {
        if let Some(secret) = diagnostic.span.and_then(|span| by_place.get(&span.offset)) {
            diagnostic.hide(secret);
        }
    }
}

/// The name of a node: its key under `nodes:`, and its `application_name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeName(String);

impl NodeName {
    /// Takes a name as it is; the topology's own check is in `validate`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One cluster: what pgpair is to make of the nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    /// The cluster's name, for messages, locks and logs.
    pub cluster: String,
    /// The pin: only the cluster with this identifier is ever touched, and none is created.
    pub system_identifier: Option<u64>,
    pub postgresql: Postgresql,
    pub admin: Admin,
    pub replication: Replication,
    /// Parameters of every node, names in lower case, values as written.
    pub parameters: IndexMap<String, String>,
    /// The rules of the user, in order, each as one line of pg_hba.conf.
    pub hba: Vec<HbaLine>,
    /// In the order of the file. `node_defaults` are already in.
    pub nodes: IndexMap<NodeName, Node>,
    pub hooks: Hooks,
    pub fencing: Option<Fencing>,
}

impl Topology {
    /// The node that is to accept writes. Validation has seen to it that there is exactly one.
    #[must_use]
    pub fn primary(&self) -> &Node {
        self.nodes.values().find(|node| node.role == Role::Primary).expect("a validated topology has a primary")
    }

    /// The standbys, in the order of the file.
    pub fn standbys(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(|node| node.role == Role::Standby)
    }

    /// The node that `standby` streams from.
    #[must_use]
    pub fn upstream<'a>(&'a self, standby: &'a Node) -> &'a Node {
        standby.upstream.as_ref().map_or_else(|| self.primary(), |name| &self.nodes[name])
    }

    /// The same cluster with this node in the primary's role, and the primary that the topology names as a standby.
    ///
    /// A standby whose `upstream` would lead in a circle then follows the primary.
    #[must_use]
    pub fn with_primary(&self, name: &NodeName) -> Self {
        let mut topology = self.clone();
        let named = self.primary().name.clone();
        for (node, role) in [(&named, Role::Standby), (name, Role::Primary)] {
            topology.nodes[node].role = role;
        }
        if !topology.leads_to_primary(&named) {
            topology.nodes[&named].upstream = None;
        }
        topology
    }

    /// Whether the upstreams of a node end at the primary.
    fn leads_to_primary(&self, node: &NodeName) -> bool {
        let mut node = &self.nodes[node];
        for _ in 0..self.nodes.len() {
            if node.role == Role::Primary {
                return true;
            }
            node = self.upstream(node);
        }
        false
    }

    /// The operating-system user that owns the server of `node`, where the topology says so.
    #[must_use]
    pub fn os_user<'a>(&'a self, node: &'a Node) -> Option<&'a str> {
        node.os_user.as_deref().or(self.postgresql.os_user.as_deref())
    }

    /// The standbys that stream from `node`.
    pub fn followers<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Node> {
        self.standbys().filter(|standby| self.upstream(standby).name == node.name)
    }

    /// A parameter of `node`, where the topology gives it.
    #[must_use]
    pub fn parameter<'a>(&'a self, node: &'a Node, name: &str) -> Option<&'a str> {
        node.parameters.get(name).or_else(|| self.parameters.get(name)).map(String::as_str)
    }

    /// The parameters of `node`: its own over the common ones.
    #[must_use]
    pub fn parameters_of(&self, node: &Node) -> IndexMap<String, String> {
        let mut all = self.parameters.clone();
        all.extend(node.parameters.iter().map(|(name, value)| (name.clone(), value.clone())));
        all
    }
}

/// The PostgreSQL installation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Postgresql {
    pub version: Major,
    /// Where the binaries are; absent: they are looked for.
    pub bin_dir: Option<String>,
    pub os_user: Option<String>,
    /// initdb's long options by name; `true` and `false` in YAML are a switch given or not.
    pub initdb: IndexMap<String, InitdbOption>,
}

/// The value of one of initdb's long options.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitdbOption {
    /// `data_checksums: true`: the option alone.
    Switch(bool),
    /// `encoding: UTF8`: the option with a value.
    Value(String),
}

/// How pgpair itself connects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Admin {
    /// Absent: the name of the OS user.
    pub user: Option<String>,
    pub database: String,
    pub password: Option<SecretRef>,
    pub sslmode: SslMode,
}

/// Where a secret is to be found. The secret itself is never part of a topology.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretRef {
    Env(String),
    /// An absolute path, or one relative to the topology file.
    File(String),
    /// An argument vector; its standard output without the final line break is the secret.
    Command(Vec<String>),
}

/// libpq's `sslmode`, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl SslMode {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// How standbys connect to their upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replication {
    pub user: String,
    pub auth: ReplicationAuth,
    pub password: Option<SecretRef>,
    pub connection_limit: Option<i32>,
    /// One physical slot for each standby on its upstream.
    pub slots: bool,
    /// Addresses in pg_hba.conf in the place of the nodes' own.
    pub addresses: Vec<String>,
    pub tls: Option<Tls>,
    pub synchronous: Option<Synchronous>,
}

/// The method of the replication rules in pg_hba.conf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplicationAuth {
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    #[serde(rename = "trust")]
    Trust,
    #[serde(rename = "md5")]
    Md5,
    #[serde(rename = "cert")]
    Cert,
}

impl ReplicationAuth {
    /// The method's name in pg_hba.conf.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScramSha256 => "scram-sha-256",
            Self::Trust => "trust",
            Self::Md5 => "md5",
            Self::Cert => "cert",
        }
    }
}

/// TLS of the replication connections. Paths are absolute, or relative to the topology file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tls {
    pub sslmode: SslMode,
    pub sslrootcert: Option<String>,
    pub sslcert: Option<String>,
    pub sslkey: Option<String>,
}

/// Synchronous replication, by node names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Synchronous {
    pub method: SyncMethod,
    pub num: u32,
    /// Empty: every standby.
    pub standbys: Vec<NodeName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncMethod {
    First,
    Any,
}

/// One rule of pg_hba.conf, as the topology gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HbaLine {
    /// `local`, `host`, `hostssl`, …
    pub kind: String,
    pub database: Vec<String>,
    pub user: Vec<String>,
    /// Absent for `local`.
    pub address: Option<String>,
    pub method: String,
    pub options: IndexMap<String, String>,
}

/// One server of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub name: NodeName,
    pub role: Role,
    /// The address that the other nodes use.
    pub host: String,
    pub port: u16,
    /// Absolute: relative ones were resolved against the topology file.
    pub data_dir: String,
    /// `[user@]host[:port]`; absent: this machine.
    pub ssh: Option<String>,
    pub r#become: Option<String>,
    pub os_user: Option<String>,
    pub bin_dir: Option<String>,
    pub upstream: Option<NodeName>,
    pub clone_from: Option<NodeName>,
    pub config_dir: Option<String>,
    pub service: Option<Service>,
    pub waldir: Option<String>,
    pub tablespaces: IndexMap<String, String>,
    pub slot: Option<String>,
    pub parameters: IndexMap<String, String>,
}

impl Node {
    /// The name of the slot that this node streams through, on its upstream.
    #[must_use]
    pub fn slot_name(&self) -> String {
        self.slot.clone().unwrap_or_else(|| default_slot_name(self.name.as_str()))
    }

    /// The node's folders outside its data directory: its waldir, and where tablespaces are to lie.
    pub fn outside(&self) -> impl Iterator<Item = &str> {
        self.waldir.iter().chain(self.tablespaces.values()).map(String::as_str)
    }

    /// Whether a connection to `host`, as a connection string has it, and `port` ends here: by the node's own host, or by
    /// a Unix socket, whose folder begins with a slash.
    #[must_use]
    pub fn is_at(&self, host: &str, port: u16) -> bool {
        (self.host == host || host.starts_with('/')) && self.port == port
    }

    /// Whether two nodes are on one machine, as far as the topology tells.
    #[must_use]
    pub fn is_beside(&self, other: &Self) -> bool {
        validate::places::on_one_machine(self, other)
    }
}

fn default_slot_name(node: &str) -> String {
    let tail = node.to_lowercase().replace(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit()), "_");
    format!("pgpair_{tail}")
}

/// What a node is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Primary,
    Standby,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Standby => "standby",
        })
    }
}

/// Who starts and stops a node's server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// A systemd unit.
    Unit(String),
    Commands {
        start: Vec<String>,
        stop: Vec<String>,
        restart: Option<Vec<String>>,
    },
}

/// Argument vectors that run around a role change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    pub before_switchover: Vec<Vec<String>>,
    pub after_promotion: Vec<Vec<String>>,
    pub after_switchover: Vec<Vec<String>>,
    pub switchover_undone: Vec<Vec<String>>,
}

impl Hooks {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The command that proves a node dead when its files are out of reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fencing {
    pub command: Vec<String>,
}
