//! The JSON Schema of topology files, for editors: every key with what it is for, its default and what it takes.
//!
//! Made of the tables that the reader itself goes by, so that it knows the same keys, words and parameters. It refuses
//! nothing that `validate` takes; what one value says of another (references, one primary, ports) only `validate` knows.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::pg::version::Major;
use crate::topology::advice::Advice;
use crate::topology::model;
use crate::topology::schema::keys::Key;
use crate::topology::validate::is_derived_initdb;

mod keys;
mod parameters;
#[cfg(test)]
mod tests;

/// Returns the schema, for all majors or for one. Of all, the parameters are those of the major that the file names.
#[must_use]
pub fn schema(major: Option<Major>) -> Value {
    let mut definitions = Map::new();
    for (name, schema) in shared() {
        definitions.insert(name.to_owned(), schema);
    }
    let mut parameters = parameters::Definitions::default();
    let majors: Vec<Major> = major.map_or_else(|| Major::all().collect(), |major| vec![major]);
    for &major in &majors {
        definitions.insert(format!("parameters_{major}"), parameters.of(major));
        definitions.insert(format!("initdb_{major}"), initdb(major));
    }
    definitions.extend(parameters.into_definitions());
    definitions.insert("node".to_owned(), object(&keys::NODE, &[], &model::NODE_KEYS));
    let mut root =
        object(&keys::TOPOLOGY, &["version", "cluster", "postgresql", "replication", "nodes"], &model::TOPOLOGY_KEYS);
    let fields = [
        ("$schema", json!("https://json-schema.org/draft/2020-12/schema")),
        ("title", json!("A topology of pgpair: one PostgreSQL primary and its standbys")),
        ("$defs", Value::Object(definitions)),
        ("allOf", Value::Array(majors.iter().copied().map(of_major).chain([complete_nodes()]).collect())),
    ];
    for (key, value) in fields {
        root[key] = value;
    }
    root["properties"]["postgresql"]["properties"]["version"]["enum"] =
        majors.iter().flat_map(|major| [json!(major.number()), json!(major.to_string())]).collect();
    root
}

/// What a file of this major may say besides: which parameters, and which options of initdb.
fn of_major(major: Major) -> Value {
    let parameters = json!({ "$ref": format!("#/$defs/parameters_{major}") });
    let node = json!({ "properties": { "parameters": parameters } });
    json!({
        "if": {
            "required": ["postgresql"],
            "properties": {
                "postgresql": {
                    "required": ["version"],
                    "properties": { "version": { "enum": [major.number(), major.to_string()] } }
                }
            }
        },
        "then": {
            "properties": {
                "parameters": parameters,
                "postgresql": { "properties": { "initdb": { "$ref": format!("#/$defs/initdb_{major}") } } },
                "node_defaults": node,
                "nodes": { "additionalProperties": node }
            }
        }
    })
}

/// Without defaults, each node has what a node needs.
fn complete_nodes() -> Value {
    let needed = json!({ "required": ["role", "port", "data_dir"] });
    json!({ "if": { "not": { "required": ["node_defaults"] } }, "then": { "properties": { "nodes": { "additionalProperties": needed } } } })
}

/// Names with values, where nothing else may stand.
fn object(described: &[Key], required: &[&str], known: &[&str]) -> Value {
    debug_assert!(known.iter().all(|key| described.iter().any(|described| described.name == *key)), "{known:?}");
    let properties: Map<String, Value> = described.iter().map(|key| (key.name.to_owned(), key.schema())).collect();
    let mut object = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

/// The options of initdb of this major, in both spellings that there are.
fn initdb(major: Major) -> Value {
    let options = major.initdb_options().filter(|(name, _)| !is_derived_initdb(name));
    let mut properties = Map::new();
    for (name, takes_value) in options {
        let schema =
            if takes_value { json!({ "$ref": "#/$defs/scalar" }) } else { json!({ "$ref": "#/$defs/boolean" }) };
        properties.insert(name.replace('-', "_"), schema.clone());
        properties.insert(name.to_owned(), schema);
    }
    json!({
        "type": "object",
        "additionalProperties": false,
        "patternProperties": { "^-": { "$ref": "#/$defs/scalar" } },
        "properties": properties
    })
}

/// What several keys take.
fn shared() -> [(&'static str, Value); 10] {
    let words = |table: &[&str]| json!({ "enum": table });
    let auth: Vec<&str> = model::AUTH.iter().map(|(word, _)| *word).collect();
    let sslmodes: Vec<&str> = model::SSLMODES.iter().map(|(word, _)| *word).collect();
    let argv = json!({ "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/scalar" } });
    let secret = json!({
        "description": "Where the password is to be found; it never stands here itself.",
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": false,
        "properties": {
            "env": { "description": "A variable of pgpair's environment.", "$ref": "#/$defs/text" },
            "file": { "description": "A path, absolute or relative to this file.", "$ref": "#/$defs/text" },
            "command": { "description": "A program and its arguments; what it prints is the password.", "$ref": "#/$defs/argv" }
        }
    });
    [
        ("scalar", json!({ "type": ["string", "number", "boolean"] })),
        ("text", json!({ "type": ["string", "number", "boolean"], "minLength": 1 })),
        (
            "texts",
            json!({ "anyOf": [{ "$ref": "#/$defs/text" }, { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/text" } }] }),
        ),
        (
            "boolean",
            json!({ "anyOf": [{ "type": "boolean" }, { "type": "string", "pattern": "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|[Oo][Nn]|[Oo][Ff][Ff]|[Yy][Ee][Ss]|[Nn][Oo])$" }] }),
        ),
        ("number", json!({ "anyOf": [{ "type": "integer" }, { "type": "string", "pattern": "^-?[0-9]+$" }] })),
        ("argv", argv),
        ("commands", json!({ "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/argv" } })),
        ("secret", secret),
        ("auth", words(&auth)),
        ("sslmode", words(&sslmodes)),
    ]
}

/// The ids of warnings.
fn warnings() -> Value {
    let ids = Advice::ALL.map(Advice::id);
    json!({ "anyOf": [{ "enum": ids }, { "type": "array", "minItems": 1, "items": { "enum": ids } }] })
}
