//! Every key of a topology file: what it is for, what it takes, and its default.

use serde_json::Value;
use serde_json::json;

use crate::pg::version::Major;
use crate::topology::model;
use crate::topology::schema::object;
use crate::topology::schema::warnings;

/// A key as an editor shows it.
pub(super) struct Key {
    pub(super) name: &'static str,
    about: &'static str,
    takes: Takes,
    /// As JSON; none where the default is nothing, or depends on other keys.
    default: Option<&'static str>,
}

/// What a key takes.
enum Takes {
    /// A shared definition.
    Shared(&'static str),
    Name,
    One,
    Port,
    Major,
    Role,
    SyncMethod,
    HbaType,
    HbaMethod,
    Service,
    Warnings,
    /// Checked for the major that the file names.
    Parameters,
    Names,
    Rules,
    Node,
    Nodes,
    Keys {
        keys: &'static [Key],
        required: &'static [&'static str],
        known: &'static [&'static str],
    },
}

const fn key(name: &'static str, takes: Takes, about: &'static str) -> Key {
    Key { name, about, takes, default: None }
}

const fn defaults(name: &'static str, takes: Takes, default: &'static str, about: &'static str) -> Key {
    Key { name, about, takes, default: Some(default) }
}

const TEXT: Takes = Takes::Shared("text");
const TEXTS: Takes = Takes::Shared("texts");

pub(super) const TOPOLOGY: [Key; 13] = [
    key("version", Takes::One, "The version of this file's format."),
    key("cluster", Takes::Name, "The cluster's name, for messages, locks and logs: letters, digits, `_` and `-`."),
    key(
        "system_identifier",
        Takes::Shared("number"),
        "Optional pin: only the cluster with this identifier is ever touched, and none is created.",
    ),
    key(
        "postgresql",
        Takes::Keys { keys: &POSTGRESQL, required: &["version"], known: &model::POSTGRESQL_KEYS },
        "The PostgreSQL installation.",
    ),
    key(
        "admin",
        Takes::Keys { keys: &ADMIN, required: &[], known: &model::ADMIN_KEYS },
        "How pgpair itself connects. Without it: through the local socket, as the OS user, by peer authentication.",
    ),
    key(
        "replication",
        Takes::Keys { keys: &REPLICATION, required: &["user"], known: &model::REPLICATION_KEYS },
        "How standbys connect to their upstream.",
    ),
    key("parameters", Takes::Parameters, "Parameters of every node, in any form that postgresql.conf takes."),
    key("hba", Takes::Rules, "Rules of pg_hba.conf of every node. pgpair adds those of replication itself."),
    key("node_defaults", Takes::Node, "Any key of a node, for all nodes that do not have it themselves."),
    key("nodes", Takes::Nodes, "The servers, by name: letters, digits, `_` and `-`. Exactly one is the primary."),
    key(
        "hooks",
        Takes::Keys { keys: &HOOKS, required: &[], known: &model::HOOK_KEYS },
        "Commands that run around a role change, with PGPAIR_* variables; each is a list of arguments.",
    ),
    key(
        "fencing",
        Takes::Keys { keys: &FENCING, required: &["command"], known: &["command"] },
        "How an old primary whose files can't be reached is proved dead.",
    ),
    key("silence", Takes::Warnings, "Warnings of `pgpair validate` that are not wanted here."),
];

pub(super) const NODE: [Key; 16] = [
    key("role", Takes::Role, "What the node is to be. Swapping two roles is the whole edit of a switchover."),
    defaults("host", TEXT, "\"127.0.0.1\"", "The address that the other nodes use."),
    key("port", Takes::Port, "The port of the server."),
    key("data_dir", TEXT, "The data directory; a relative path starts at this file."),
    key("ssh", TEXT, "`[user@]host[:port]`. Absent: the node is on this machine."),
    key("become", TEXT, "The OS user to become there, by `sudo -n`."),
    key("os_user", TEXT, "The owner of this server. Absent: `postgresql.os_user`."),
    key("bin_dir", TEXT, "The binaries of this node. Absent: `postgresql.bin_dir`."),
    key("upstream", TEXT, "The node that it streams from. Absent: the primary; a standby makes a cascade."),
    key("clone_from", TEXT, "The node that it is copied from. Absent: its upstream; may be a standby."),
    key("config_dir", TEXT, "Where postgresql.conf and pg_hba.conf are. Absent: in the data directory."),
    key("service", Takes::Service, "Who starts and stops the server: a systemd unit, or commands."),
    key("waldir", TEXT, "Where pg_wal is. Absent: in the data directory."),
    key("tablespaces", Takes::Names, "Where a tablespace of the source lies on this node: folder there, folder here."),
    key("slot", TEXT, "The name of its slot on its upstream. Absent: pgpair_NODE."),
    key("parameters", Takes::Parameters, "Parameters of this node, over the common ones."),
];

const POSTGRESQL: [Key; 4] = [
    key("version", Takes::Major, "The major version of the servers."),
    key("bin_dir", TEXT, "Where the binaries are. Absent: they are looked for."),
    key("os_user", TEXT, "The owner of the servers. Absent: of the data directory, else postgres, else yourself."),
    key("initdb", Takes::Names, "initdb's long options by name, for when a primary is created."),
];

const ADMIN: [Key; 4] = [
    key("user", TEXT, "The role. Absent: the OS user's name."),
    defaults("database", TEXT, "\"postgres\"", "The database."),
    key("password", Takes::Shared("secret"), "Its password. Absent: peer authentication."),
    defaults("sslmode", Takes::Shared("sslmode"), "\"prefer\"", "As libpq's."),
];

const REPLICATION: [Key; 8] = [
    key("user", TEXT, "The role that standbys replicate as."),
    defaults("auth", Takes::Shared("auth"), "\"scram-sha-256\"", "The method of its rules in pg_hba.conf."),
    key("password", Takes::Shared("secret"), "Its password; needed for scram-sha-256 and md5."),
    defaults("connection_limit", Takes::Shared("number"), "-1", "The role's CONNECTION LIMIT; -1 is no limit."),
    defaults("slots", Takes::Shared("boolean"), "true", "One physical slot for each standby, on its upstream."),
    key("addresses", TEXTS, "Addresses in pg_hba.conf in the place of the nodes' own (NAT)."),
    key(
        "tls",
        Takes::Keys { keys: &TLS, required: &["sslmode"], known: &model::TLS_KEYS },
        "TLS of the replication connections.",
    ),
    key(
        "synchronous",
        Takes::Keys { keys: &SYNCHRONOUS, required: &[], known: &model::SYNCHRONOUS_KEYS },
        "Synchronous replication. Absent: asynchronous.",
    ),
];

const TLS: [Key; 4] = [
    key("sslmode", Takes::Shared("sslmode"), "As libpq's."),
    key("sslrootcert", TEXT, "The authority that servers are checked with."),
    key("sslcert", TEXT, "The certificate that a standby shows."),
    key("sslkey", TEXT, "Its key."),
];

const SYNCHRONOUS: [Key; 3] = [
    defaults("method", Takes::SyncMethod, "\"first\"", "first: by priority. any: a quorum."),
    defaults("num", Takes::Shared("number"), "1", "How many standbys a commit waits for."),
    key("standbys", TEXTS, "Node names. Absent: every standby; the current primary is left out."),
];

const RULE: [Key; 6] = [
    key("type", Takes::HbaType, "The type of the rule."),
    key("database", TEXTS, "Databases, or a word of pg_hba.conf."),
    key("user", TEXTS, "Roles, or a word of pg_hba.conf."),
    key("address", TEXT, "As in `10.0.0.0/8`, `.example.org`, `samenet` or `all`; not with `type: local`."),
    key("method", Takes::HbaMethod, "The authentication method."),
    key("options", Takes::Names, "Options of the method."),
];

const HOOKS: [Key; 4] = [
    key("before_switchover", Takes::Shared("commands"), "Before anything is fenced; a failure stops the plan."),
    key("after_promotion", Takes::Shared("commands"), "Right after the new primary takes writes."),
    key("after_switchover", Takes::Shared("commands"), "Once the others follow."),
    key("switchover_undone", Takes::Shared("commands"), "The old primary has its role again."),
];

const FENCING: [Key; 1] = [key(
    "command",
    Takes::Shared("argv"),
    "`{node}`, `{host}` and `{port}` are put in. Exit 0 proves that the node is dead and stays so.",
)];

const SERVICE: [Key; 3] = [
    key("start", Takes::Shared("argv"), "Starts the server."),
    key("stop", Takes::Shared("argv"), "Stops it."),
    key("restart", Takes::Shared("argv"), "Restarts it. Absent: stop and start."),
];

impl Key {
    pub(super) fn schema(&self) -> Value {
        let mut schema = self.takes.schema();
        schema["description"] = json!(self.about);
        if let Some(default) = self.default {
            schema["default"] = serde_json::from_str(default).expect("a default of this file is JSON");
        }
        schema
    }
}

impl Takes {
    fn schema(&self) -> Value {
        let names = || json!({ "type": "object", "additionalProperties": { "$ref": "#/$defs/scalar" } });
        let words = |words: &[&str]| json!({ "enum": words });
        match self {
            Self::Shared(name) => json!({ "$ref": format!("#/$defs/{name}") }),
            Self::Name => json!({ "type": ["string", "number", "boolean"], "pattern": "^[A-Za-z0-9_-]{1,63}$" }),
            Self::One => json!({ "enum": [1, "1"] }),
            Self::Port => json!({
                "anyOf": [
                    { "type": "integer", "minimum": 1, "maximum": 65535 },
                    { "type": "string", "pattern": "^[1-9][0-9]{0,4}$" }
                ]
            }),
            // Its words are put in with the majors that the schema is for.
            Self::Major => json!({}),
            Self::Role => words(&model::ROLES.map(|(word, _)| word)),
            Self::SyncMethod => words(&model::SYNC_METHODS.map(|(word, _)| word)),
            Self::HbaType => words(&Major::NEWEST.hba_types().collect::<Vec<_>>()),
            Self::HbaMethod => words(&Major::NEWEST.hba_methods().collect::<Vec<_>>()),
            Self::Service => {
                let commands = object(&SERVICE, &["start", "stop"], &model::SERVICE_KEYS);
                json!({ "anyOf": [{ "$ref": "#/$defs/text" }, commands] })
            }
            Self::Warnings => warnings(),
            Self::Parameters | Self::Names => names(),
            Self::Rules => json!({
                "type": "array",
                "items": object(&RULE, &["type", "database", "user", "method"], &model::RULE_KEYS)
            }),
            Self::Node => json!({ "$ref": "#/$defs/node" }),
            Self::Nodes => json!({
                "type": "object",
                "minProperties": 1,
                "propertyNames": { "pattern": "^[A-Za-z0-9_-]{1,63}$" },
                "additionalProperties": { "$ref": "#/$defs/node" }
            }),
            Self::Keys { keys, required, known } => object(keys, required, known),
        }
    }
}
