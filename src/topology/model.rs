//! The shape of a topology file: which keys there are and what type each has.
//!
//! Makes a [`Draft`] of the tree of values and reports every key that is unknown, missing or of the wrong type.
//! What is absent or wrong is `None`, so that the rest can still be judged; `validate` says what it all means.

use indexmap::IndexMap;

use crate::topology::Hooks;
use crate::topology::ReplicationAuth;
use crate::topology::Role;
use crate::topology::SecretRef;
use crate::topology::Service;
use crate::topology::SslMode;
use crate::topology::SyncMethod;
use crate::topology::advice::Advice;
use crate::topology::diagnostic::Report;
use crate::topology::diagnostic::Span;
use crate::topology::diagnostic::closest;
use crate::topology::diagnostic::may_be_secret;
use crate::topology::model::fields::Fields;
use crate::topology::model::fields::argv;
use crate::topology::model::fields::choice;
use crate::topology::model::fields::list;
use crate::topology::model::fields::map;
use crate::topology::model::fields::names;
use crate::topology::model::fields::no_value;
use crate::topology::model::fields::text;
use crate::topology::model::fields::texts;
use crate::topology::spans::Entry;
use crate::topology::spans::Value;
use crate::topology::spans::Yaml;

pub mod fields;

/// A value with its place in the file.
#[derive(Clone, Debug)]
pub struct At<T> {
    pub value: T,
    pub span: Span,
}

impl<T> At<T> {
    fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    fn map<U>(self, change: impl FnOnce(T) -> U) -> At<U> {
        At { value: change(self.value), span: self.span }
    }
}

/// A topology file whose keys and types have been looked at, and nothing else.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    pub cluster: Option<At<String>>,
    pub system_identifier: Option<At<u64>>,
    pub postgresql: Option<DraftPostgresql>,
    pub admin: DraftAdmin,
    pub replication: Option<DraftReplication>,
    pub parameters: Vec<DraftSetting>,
    /// The place of `parameters:`.
    pub parameters_span: Option<Span>,
    pub hba: Vec<DraftRule>,
    /// With `node_defaults` under each.
    pub nodes: Vec<DraftNode>,
    /// The place of `nodes:`, where it is a map.
    pub nodes_span: Option<Span>,
    pub hooks: Hooks,
    pub fencing: Option<At<Vec<String>>>,
    /// The warnings that are not to be given.
    pub silence: Vec<At<Advice>>,
}

/// The keys under `postgresql:`.
#[derive(Clone, Debug)]
pub struct DraftPostgresql {
    pub version: Option<At<String>>,
    pub bin_dir: Option<At<String>>,
    pub os_user: Option<At<String>>,
    pub initdb: Vec<DraftSetting>,
}

/// The keys under `admin:`.
#[derive(Clone, Debug, Default)]
pub struct DraftAdmin {
    pub user: Option<At<String>>,
    pub database: Option<At<String>>,
    pub password: Option<At<SecretRef>>,
    /// Whether the key is there, be its value right or wrong.
    pub has_password: bool,
    pub sslmode: Option<At<SslMode>>,
}

/// The keys under `replication:`.
#[derive(Clone, Debug)]
pub struct DraftReplication {
    pub span: Span,
    pub user: Option<At<String>>,
    pub auth: Option<At<ReplicationAuth>>,
    pub password: Option<At<SecretRef>>,
    /// Whether the key is there, be its value right or wrong.
    pub has_password: bool,
    pub connection_limit: Option<At<i32>>,
    pub slots: Option<At<bool>>,
    pub addresses: Vec<At<String>>,
    pub tls: Option<DraftTls>,
    pub synchronous: Option<DraftSynchronous>,
}

/// The keys under `tls:`.
#[derive(Clone, Debug)]
pub struct DraftTls {
    pub span: Span,
    pub sslmode: Option<At<SslMode>>,
    pub sslrootcert: Option<At<String>>,
    pub sslcert: Option<At<String>>,
    pub sslkey: Option<At<String>>,
}

/// The keys under `synchronous:`.
#[derive(Clone, Debug)]
pub struct DraftSynchronous {
    pub span: Span,
    pub method: Option<At<SyncMethod>>,
    pub num: Option<At<u32>>,
    pub standbys: Vec<At<String>>,
}

/// A name with a value, both as written but for the name's case: a parameter, an option, a tablespace.
#[derive(Clone, Debug)]
pub struct DraftSetting {
    pub name: At<String>,
    pub value: At<String>,
    pub quoted: bool,
}

/// One item of `hba:`.
#[derive(Clone, Debug)]
pub struct DraftRule {
    pub span: Span,
    pub kind: Option<At<String>>,
    pub database: Vec<At<String>>,
    pub user: Vec<At<String>>,
    pub address: Option<At<String>>,
    pub method: Option<At<String>>,
    pub options: Vec<DraftSetting>,
}

/// One entry of `nodes:`.
#[derive(Clone, Debug)]
pub struct DraftNode {
    pub name: At<String>,
    /// The keys that are there, be their values right or wrong.
    given: Vec<String>,
    pub role: Option<At<Role>>,
    pub host: Option<At<String>>,
    pub port: Option<At<u16>>,
    pub data_dir: Option<At<String>>,
    pub ssh: Option<At<String>>,
    pub r#become: Option<At<String>>,
    pub os_user: Option<At<String>>,
    pub bin_dir: Option<At<String>>,
    pub upstream: Option<At<String>>,
    pub clone_from: Option<At<String>>,
    pub config_dir: Option<At<String>>,
    pub service: Option<At<Service>>,
    pub waldir: Option<At<String>>,
    pub tablespaces: Vec<DraftSetting>,
    pub slot: Option<At<String>>,
    pub parameters: Vec<DraftSetting>,
}

/// Nodes are compared in pairs, so that a hostile file could keep us busy for long.
const MAX_NODES: usize = 2000;

pub(super) const TOPOLOGY_KEYS: [&str; 13] = [
    "version",
    "cluster",
    "system_identifier",
    "postgresql",
    "admin",
    "replication",
    "parameters",
    "hba",
    "node_defaults",
    "nodes",
    "hooks",
    "fencing",
    // `silence: [archive-discards]`: warnings, by their ids, that whoever wrote the file has weighed and does not
    // want to read again. It is about the file and not about the cluster, and so no part of the topology.
    "silence",
];

pub(super) const NODE_KEYS: [&str; 16] = [
    "role",
    "host",
    "port",
    "data_dir",
    "ssh",
    "become",
    "os_user",
    "bin_dir",
    "upstream",
    "clone_from",
    "config_dir",
    "service",
    "waldir",
    "tablespaces",
    "slot",
    "parameters",
];

pub(super) const HOOK_KEYS: [&str; 4] =
    ["before_switchover", "after_promotion", "after_switchover", "switchover_undone"];

pub(super) const REPLICATION_KEYS: [&str; 8] =
    ["user", "auth", "password", "connection_limit", "slots", "addresses", "tls", "synchronous"];

pub(super) const POSTGRESQL_KEYS: [&str; 4] = ["version", "bin_dir", "os_user", "initdb"];

pub(super) const ADMIN_KEYS: [&str; 4] = ["user", "database", "password", "sslmode"];

pub(super) const TLS_KEYS: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];

pub(super) const SYNCHRONOUS_KEYS: [&str; 3] = ["method", "num", "standbys"];

pub(super) const RULE_KEYS: [&str; 6] = ["type", "database", "user", "address", "method", "options"];

pub(super) const SERVICE_KEYS: [&str; 3] = ["start", "stop", "restart"];

pub(super) const AUTH: [(&str, ReplicationAuth); 4] = [
    ("scram-sha-256", ReplicationAuth::ScramSha256),
    ("trust", ReplicationAuth::Trust),
    ("md5", ReplicationAuth::Md5),
    ("cert", ReplicationAuth::Cert),
];

pub(super) const SSLMODES: [(&str, SslMode); 6] = [
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

pub(super) const ROLES: [(&str, Role); 2] = [("primary", Role::Primary), ("standby", Role::Standby)];

pub(super) const SYNC_METHODS: [(&str, SyncMethod); 2] = [("first", SyncMethod::First), ("any", SyncMethod::Any)];

const SECRET_HELP: &str =
    "say where it is to be found: `{ env: NAME }`, `{ file: PATH }` or `{ command: [PROGRAM, ARGUMENT] }`";

impl Draft {
    /// Reads the whole file. `None`: it is not even a map.
    pub fn of(yaml: &Yaml, report: &mut Report<'_>) -> Option<Self> {
        let fields = Fields::of(yaml, "a topology", yaml.start(), &TOPOLOGY_KEYS, report)?;
        if let Some(version) = fields.needed("version", report).and_then(|yaml| text(yaml, "version", report))
            && version.value != "1"
        {
            report
                .error("format_version", version.span, format!("`{}` is no known format version", version.value))
                .help("this pgpair reads `version: 1`; the version of PostgreSQL is `postgresql.version`");
        }
        let cluster = fields.needed("cluster", report).and_then(|yaml| text(yaml, "cluster", report));
        let postgresql = fields.needed_entry("postgresql", report).and_then(|entry| draft_postgresql(entry, report));
        let replication = fields.needed_entry("replication", report).and_then(|entry| draft_replication(entry, report));
        let defaults = fields.entry("node_defaults").and_then(|entry| {
            let name = At::new(entry.key.clone(), entry.key_span);
            DraftNode::of(name, &entry.value, report)
        });
        let nodes = fields.needed_entry("nodes", report);
        Some(Self {
            cluster,
            system_identifier: fields.number("system_identifier", "a number as pg_controldata prints it", report),
            postgresql,
            admin: fields.entry("admin").and_then(|entry| draft_admin(entry, report)).unwrap_or_default(),
            replication,
            parameters: fields.get("parameters").map(|yaml| parameters(yaml, report)).unwrap_or_default(),
            parameters_span: fields.entry("parameters").map(|entry| entry.key_span),
            hba: fields.get("hba").map(|yaml| rules(yaml, report)).unwrap_or_default(),
            nodes: nodes.map(|entry| draft_nodes(entry, defaults.as_ref(), report)).unwrap_or_default(),
            nodes_span: nodes.filter(|entry| matches!(entry.value.value, Value::Map(_))).map(|entry| entry.key_span),
            hooks: fields.entry("hooks").and_then(|entry| hooks(entry, report)).unwrap_or_default(),
            fencing: fields.entry("fencing").and_then(|entry| {
                let fields = Fields::of(&entry.value, "`fencing`", entry.key_span, &["command"], report)?;
                fields.needed("command", report).and_then(|yaml| argv(yaml, "command", report))
            }),
            silence: fields.get("silence").map(|yaml| silence(yaml, report)).unwrap_or_default(),
        })
    }
}

fn draft_postgresql(entry: &Entry, report: &mut Report<'_>) -> Option<DraftPostgresql> {
    let fields = Fields::of(&entry.value, "`postgresql`", entry.key_span, &POSTGRESQL_KEYS, report)?;
    Some(DraftPostgresql {
        version: fields.needed("version", report).and_then(|yaml| text(yaml, "version", report)),
        bin_dir: fields.text("bin_dir", report),
        os_user: fields.text("os_user", report),
        initdb: fields.get("initdb").map(|yaml| settings(yaml, "initdb", report)).unwrap_or_default(),
    })
}

fn draft_admin(entry: &Entry, report: &mut Report<'_>) -> Option<DraftAdmin> {
    let fields = Fields::of(&entry.value, "`admin`", entry.key_span, &ADMIN_KEYS, report)?;
    Some(DraftAdmin {
        user: fields.text("user", report),
        database: fields.text("database", report),
        password: fields.get("password").and_then(|yaml| secret(yaml, report)),
        has_password: fields.entry("password").is_some(),
        sslmode: fields.choice("sslmode", &SSLMODES, report),
    })
}

fn draft_replication(entry: &Entry, report: &mut Report<'_>) -> Option<DraftReplication> {
    let fields = Fields::of(&entry.value, "`replication`", entry.key_span, &REPLICATION_KEYS, report)?;
    Some(DraftReplication {
        span: entry.key_span,
        user: fields.needed("user", report).and_then(|yaml| text(yaml, "user", report)),
        auth: fields.choice("auth", &AUTH, report),
        password: fields.get("password").and_then(|yaml| secret(yaml, report)),
        has_password: fields.entry("password").is_some(),
        connection_limit: fields.number("connection_limit", "a whole number; -1 is no limit", report),
        slots: fields.boolean("slots", report),
        addresses: fields.get("addresses").map(|yaml| texts(yaml, "addresses", report)).unwrap_or_default(),
        tls: fields.entry("tls").and_then(|entry| draft_tls(entry, report)),
        synchronous: fields.entry("synchronous").and_then(|entry| draft_synchronous(entry, report)),
    })
}

fn draft_tls(entry: &Entry, report: &mut Report<'_>) -> Option<DraftTls> {
    let fields = Fields::of(&entry.value, "`tls`", entry.key_span, &TLS_KEYS, report)?;
    Some(DraftTls {
        span: entry.key_span,
        sslmode: fields.needed("sslmode", report).and_then(|yaml| choice(yaml, "sslmode", &SSLMODES, report)),
        sslrootcert: fields.text("sslrootcert", report),
        sslcert: fields.text("sslcert", report),
        sslkey: fields.text("sslkey", report),
    })
}

fn draft_synchronous(entry: &Entry, report: &mut Report<'_>) -> Option<DraftSynchronous> {
    let fields = Fields::of(&entry.value, "`synchronous`", entry.key_span, &SYNCHRONOUS_KEYS, report)?;
    Some(DraftSynchronous {
        span: entry.key_span,
        method: fields.choice("method", &SYNC_METHODS, report),
        num: fields.number("num", "a whole number from 1", report),
        standbys: fields.get("standbys").map(|yaml| texts(yaml, "standbys", report)).unwrap_or_default(),
    })
}

fn draft_nodes(entry: &Entry, defaults: Option<&DraftNode>, report: &mut Report<'_>) -> Vec<DraftNode> {
    let nodes = map(&entry.value, "`nodes`", "each node's name with its keys under it", report);
    if nodes.len() > MAX_NODES {
        let message = format!("a cluster of {} nodes is more than pgpair takes", nodes.len());
        report.error("too_many_nodes", entry.key_span, message).help(format!("{MAX_NODES} are allowed"));
        return Vec::new();
    }
    let mut drafts = Vec::new();
    for node in nodes {
        let name = At::new(node.key.clone(), node.key_span);
        if let Some(draft) = DraftNode::of(name, &node.value, report) {
            let draft = match defaults {
                Some(defaults) => draft.over(defaults),
                None => draft,
            };
            let missing =
                ["role", "port", "data_dir"].into_iter().filter(|key| !draft.given.iter().any(|given| given == key));
            let missing: Vec<String> = missing.map(|key| format!("`{key}`")).collect();
            if !missing.is_empty() {
                let message = format!("node `{}` has no {}", draft.name.value, missing.join(" and no "));
                report
                    .error("missing_key", draft.name.span, message)
                    .help("as in `{ role: standby, port: 5432, data_dir: /var/lib/postgresql/15/main }`");
            }
            drafts.push(draft);
        }
    }
    drafts
}

impl DraftNode {
    fn of(name: At<String>, yaml: &Yaml, report: &mut Report<'_>) -> Option<Self> {
        let what = if name.value == "node_defaults" { "`node_defaults`" } else { "a node" };
        let fields = Fields::of(yaml, what, name.span, &NODE_KEYS, report)?;
        Some(Self {
            name,
            given: fields.entries.iter().map(|entry| entry.key.clone()).chain(fields.meant.clone()).collect(),
            role: fields.choice("role", &ROLES, report),
            host: fields.text("host", report),
            port: fields.number::<u16>("port", "a whole number from 1 to 65535", report),
            data_dir: fields.text("data_dir", report),
            ssh: fields.text("ssh", report),
            r#become: fields.text("become", report),
            os_user: fields.text("os_user", report),
            bin_dir: fields.text("bin_dir", report),
            upstream: fields.text("upstream", report),
            clone_from: fields.text("clone_from", report),
            config_dir: fields.text("config_dir", report),
            service: fields.entry("service").and_then(|entry| service(entry, report)),
            waldir: fields.text("waldir", report),
            tablespaces: fields
                .get("tablespaces")
                .map(|yaml| settings(yaml, "tablespaces", report))
                .unwrap_or_default(),
            slot: fields.text("slot", report),
            parameters: fields.get("parameters").map(|yaml| parameters(yaml, report)).unwrap_or_default(),
        })
    }

    /// Takes from `defaults` what this node does not say itself; parameters one by one, other keys whole.
    fn over(self, defaults: &Self) -> Self {
        let defaults = defaults.clone();
        let mut parameters = defaults.parameters;
        parameters.retain(|default| self.parameters.iter().all(|own| own.name.value != default.name.value));
        parameters.extend(self.parameters);
        Self {
            name: self.name,
            given: [self.given, defaults.given].concat(),
            role: self.role.or(defaults.role),
            host: self.host.or(defaults.host),
            port: self.port.or(defaults.port),
            data_dir: self.data_dir.or(defaults.data_dir),
            ssh: self.ssh.or(defaults.ssh),
            r#become: self.r#become.or(defaults.r#become),
            os_user: self.os_user.or(defaults.os_user),
            bin_dir: self.bin_dir.or(defaults.bin_dir),
            upstream: self.upstream.or(defaults.upstream),
            clone_from: self.clone_from.or(defaults.clone_from),
            config_dir: self.config_dir.or(defaults.config_dir),
            service: self.service.or(defaults.service),
            waldir: self.waldir.or(defaults.waldir),
            tablespaces: if self.tablespaces.is_empty() { defaults.tablespaces } else { self.tablespaces },
            slot: self.slot.or(defaults.slot),
            parameters,
        }
    }
}

fn service(entry: &Entry, report: &mut Report<'_>) -> Option<At<Service>> {
    if let Value::Scalar { .. } = entry.value.value {
        return text(&entry.value, "service", report).map(|unit| unit.map(Service::Unit));
    }
    let fields = Fields::of(&entry.value, "`service`", entry.key_span, &SERVICE_KEYS, report)?;
    let start = fields.needed("start", report).and_then(|yaml| argv(yaml, "start", report));
    let stop = fields.needed("stop", report).and_then(|yaml| argv(yaml, "stop", report));
    let restart = fields.get("restart").and_then(|yaml| argv(yaml, "restart", report)).map(|argv| argv.value);
    let service = Service::Commands { start: start?.value, stop: stop?.value, restart };
    Some(At::new(service, entry.value.span))
}

fn hooks(entry: &Entry, report: &mut Report<'_>) -> Option<Hooks> {
    let fields = Fields::of(&entry.value, "`hooks`", entry.key_span, &HOOK_KEYS, report)?;
    let mut commands = |key: &str| -> Vec<Vec<String>> {
        let Some(yaml) = fields.get(key) else { return Vec::new() };
        let commands = match &yaml.value {
            // One command, where a list of commands is wanted: the commonest mistake.
            Value::Scalar { .. } => std::slice::from_ref(yaml),
            Value::List(items) => items,
            Value::Map(_) | Value::Refused => &[],
        };
        if commands.is_empty() || commands.iter().any(|command| matches!(command.value, Value::Scalar { .. })) {
            let words: Vec<&str> = commands.iter().filter_map(Yaml::as_text).collect();
            let example = if words.is_empty() { "./move-ip.sh, up".to_owned() } else { words.join(", ") };
            report
                .error("wrong_type", yaml.start(), format!("`{key}` is a list of commands, each a list of arguments"))
                .help(format!("write `[[{example}]]`"));
            return Vec::new();
        }
        commands.iter().filter_map(|command| argv(command, key, report)).map(|argv| argv.value).collect()
    };
    Some(Hooks {
        before_switchover: commands("before_switchover"),
        after_promotion: commands("after_promotion"),
        after_switchover: commands("after_switchover"),
        switchover_undone: commands("switchover_undone"),
    })
}

fn silence(yaml: &Yaml, report: &mut Report<'_>) -> Vec<At<Advice>> {
    let mut silence = Vec::new();
    for id in texts(yaml, "silence", report) {
        match Advice::ALL.into_iter().find(|advice| advice.id() == id.value) {
            Some(advice) => silence.push(id.map(|_| advice)),
            None => {
                let known = Advice::ALL.map(Advice::id);
                let help = match closest(&id.value, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", names(&known)),
                };
                report.error("unknown_warning", id.span, format!("there is no warning `{}`", id.value)).help(help);
            }
        }
    }
    silence
}

fn rules(yaml: &Yaml, report: &mut Report<'_>) -> Vec<DraftRule> {
    let items = list(yaml, "hba", "a list of rules, each with `type`, `database`, `user` and `method`", report);
    let rule = |item: &Yaml| {
        let fields = Fields::of(item, "a rule of `hba`", item.start(), &RULE_KEYS, report)?;
        Some(DraftRule {
            span: item.start(),
            kind: fields.needed("type", report).and_then(|yaml| text(yaml, "type", report)),
            database: fields.needed("database", report).map(|yaml| texts(yaml, "database", report)).unwrap_or_default(),
            user: fields.needed("user", report).map(|yaml| texts(yaml, "user", report)).unwrap_or_default(),
            address: fields.text("address", report),
            method: fields.needed("method", report).and_then(|yaml| text(yaml, "method", report)),
            options: fields.get("options").map(|yaml| settings(yaml, "options", report)).unwrap_or_default(),
        })
    };
    items.iter().filter_map(rule).collect()
}

/// The parameters under a key: names in lower case, as PostgreSQL takes them, and so given once in whatever case.
fn parameters(yaml: &Yaml, report: &mut Report<'_>) -> Vec<DraftSetting> {
    let mut parameters: IndexMap<String, DraftSetting> = IndexMap::new();
    for mut setting in settings(yaml, "parameters", report) {
        let name = setting.name.value.to_ascii_lowercase();
        setting.name.value.clone_from(&name);
        match parameters.entry(name) {
            indexmap::map::Entry::Vacant(place) => {
                place.insert(setting);
            }
            indexmap::map::Entry::Occupied(first) => {
                report
                    .error(
                        "duplicate_parameter",
                        setting.name.span,
                        format!("parameter `{}` is given twice", first.key()),
                    )
                    .also(first.get().name.span, "the first is here")
                    .help("keep one of them: PostgreSQL does not tell upper from lower case in names");
            }
        }
    }
    parameters.into_values().collect()
}

/// A map of names to texts, as written.
fn settings(yaml: &Yaml, key: &str, report: &mut Report<'_>) -> Vec<DraftSetting> {
    let entries = map(yaml, &format!("`{key}`"), "a name and its value a line, as in `name: value`", report);
    let mut settings = Vec::new();
    for entry in entries {
        let name = &entry.key;
        match &entry.value.value {
            Value::Scalar { .. } if entry.value.is_null() => no_value(entry, report),
            Value::Scalar { text, quoted } => settings.push(DraftSetting {
                name: At::new(name.clone(), entry.key_span),
                value: At::new(text.clone(), entry.value.span),
                quoted: *quoted,
            }),
            Value::List(items) => {
                let items: Vec<&str> = items.iter().filter_map(Yaml::as_text).collect();
                report.error("wrong_type", entry.value.start(), format!("`{name}` takes one text, not a list")).help(
                    match may_be_secret(name) {
                        true => "write it as one text, in quotes".to_owned(),
                        false => format!("write it as PostgreSQL does: '{}'", items.join(", ")),
                    },
                );
            }
            Value::Map(_) => {
                report
                    .error("wrong_type", entry.value.start(), format!("`{name}` takes one text, not keys and values"))
                    .help("a name with a dot is written in one piece, as in `pg_stat_statements.max: 1000`");
            }
            Value::Refused => {}
        }
    }
    settings
}

/// Where a secret is to be found. Nothing of what stands in the file is ever repeated here: it may be the secret.
fn secret(yaml: &Yaml, report: &mut Report<'_>) -> Option<At<SecretRef>> {
    let entries = match &yaml.value {
        Value::Map(entries) => entries,
        Value::Scalar { .. } | Value::List(_) => {
            report
                .error("literal_password", yaml.start(), "a password must not stand in the topology itself")
                .help(format!("{SECRET_HELP}; and change the password if this file was committed"));
            return None;
        }
        Value::Refused => return None,
    };
    let [entry] = entries.as_slice() else {
        report.error("wrong_type", yaml.start(), "a password has exactly one source").help(SECRET_HELP);
        return None;
    };
    let found = match (entry.key.as_str(), &entry.value.value) {
        (_, Value::Refused) => return None,
        ("env", Value::Scalar { text, .. }) if !entry.value.is_null() && !text.is_empty() => {
            SecretRef::Env(text.clone())
        }
        ("file", Value::Scalar { text, .. }) if !entry.value.is_null() && !text.is_empty() => {
            SecretRef::File(text.clone())
        }
        ("command", Value::List(_)) => SecretRef::Command(argv(&entry.value, "command", report)?.value),
        ("env" | "file" | "command", _) => {
            report.error("wrong_type", entry.key_span, format!("`{}` has no such value", entry.key)).help(SECRET_HELP);
            return None;
        }
        (_, _) => {
            report.error("unknown_key", entry.key_span, "this is no source of a password").help(SECRET_HELP);
            return None;
        }
    };
    Some(At::new(found, yaml.span))
}

/// Says where a key belongs that stands in the wrong map.
fn misplaced(key: &str) -> Option<String> {
    let home = if NODE_KEYS.contains(&key) {
        "under a node, or `node_defaults`"
    } else if TOPOLOGY_KEYS.contains(&key) {
        "at the left margin of the file"
    } else if HOOK_KEYS.contains(&key) {
        "under `hooks`"
    } else if REPLICATION_KEYS.contains(&key) {
        "under `replication`"
    } else if ["wal_", "max_", "log_", "archive_", "shared_", "hot_standby"].iter().any(|start| key.starts_with(start))
    {
        "under `parameters`, as every setting of postgresql.conf"
    } else {
        return None;
    };
    Some(format!("`{key}` belongs {home}"))
}
