//! The parameters of each major, with what they take, from the catalogue. What is the same in several is there once.

use std::collections::BTreeMap;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::pg::guc;
use crate::pg::guc::Context;
use crate::pg::guc::Guc;
use crate::pg::guc::Kind;
use crate::pg::version::Major;
use crate::topology::validate::harmless;
use crate::topology::validate::is_derived;

/// Definitions of parameters, each with its name in `$defs`.
#[derive(Default)]
pub(super) struct Definitions {
    by_name: BTreeMap<String, Vec<Value>>,
}

impl Definitions {
    /// Returns the map of parameters of a major, and defines what is new in it.
    pub(super) fn of(&mut self, major: Major) -> Value {
        let mut properties = Map::new();
        for guc in guc::all(major).filter(|guc| guc.context != Context::Internal) {
            let name = guc.name.to_ascii_lowercase();
            if let Some(value) = harmless(&name) {
                properties.insert(name, json!({ "const": value }));
            } else if !is_derived(&name) {
                let reference = self.define(&name, parameter(major, guc));
                // PostgreSQL's own case is what it is known by; any other is taken too, see below.
                properties.insert(guc.name.to_owned(), reference.clone());
                properties.insert(name, reference);
            }
        }
        for (old, new) in guc::old_names() {
            if guc::context(major, new).is_some() && !properties.contains_key(old) {
                let description = format!("The old name of `{new}`.");
                properties.insert(old.to_owned(), json!({ "description": description, "$ref": "#/$defs/scalar" }));
            }
        }
        json!({
            "type": "object",
            "additionalProperties": false,
            // Parameters of extensions, and names in another case.
            "patternProperties": { "\\.": { "$ref": "#/$defs/scalar" }, "[A-Z]": { "$ref": "#/$defs/scalar" } },
            "properties": properties
        })
    }

    pub(super) fn into_definitions(self) -> impl Iterator<Item = (String, Value)> {
        let named = |(name, versions): (String, Vec<Value>)| {
            versions.into_iter().enumerate().map(move |(index, schema)| (id(&name, index), schema))
        };
        self.by_name.into_iter().flat_map(named)
    }

    fn define(&mut self, name: &str, schema: Value) -> Value {
        let versions = self.by_name.entry(name.to_owned()).or_default();
        let index = versions.iter().position(|known| *known == schema).unwrap_or_else(|| {
            versions.push(schema);
            versions.len() - 1
        });
        json!({ "$ref": format!("#/$defs/{}", id(name, index)) })
    }
}

fn id(name: &str, index: usize) -> String {
    if index == 0 { format!("parameter.{name}") } else { format!("parameter.{name}.{}", index + 1) }
}

fn parameter(major: Major, guc: &Guc) -> Value {
    let mut schema = values(&guc.kind);
    let takes = guc::taken(major, guc.name).map_or_else(String::new, |taken| format!("It takes {}. ", taken.values));
    let change = if guc.context.needs_restart() { "A change is a restart." } else { "A change is a reload." };
    schema["description"] = json!(format!("{takes}{change}"));
    if let Some(default) = guc.boot {
        schema["default"] = json!(default);
    }
    schema
}

/// What the values look like. Where PostgreSQL takes more forms than can be listed, editors offer these and bear others.
fn values(kind: &Kind) -> Value {
    const ANY_MODE: i32 = 0o777;
    match kind {
        Kind::Bool => json!({ "anyOf": [{ "enum": ["on", "off"] }, { "$ref": "#/$defs/scalar" }] }),
        // `0600` is 600 to an editor, and 384 to PostgreSQL.
        Kind::Integer { unit: None, max: ANY_MODE, .. } => json!({ "type": ["number", "string"] }),
        Kind::Integer { min, max, .. } => number(&json!(min), &json!(max)),
        Kind::Real { min, max, .. } => number(&json!(min), &json!(max)),
        Kind::Enum { values, aliases } => {
            let mut words: Vec<Value> = values.iter().map(|word| json!(word)).collect();
            for alias in aliases.iter().map(|(alias, _)| *alias).chain(values.iter().copied()) {
                words.push(json!(alias));
                // Unquoted, it is no text to an editor.
                words.extend(serde_json::from_str::<Value>(alias).ok());
            }
            let mut once: Vec<Value> = Vec::new();
            for word in words {
                if !once.contains(&word) {
                    once.push(word);
                }
            }
            json!({ "anyOf": [{ "enum": once }, { "type": "string", "pattern": "[A-Z]" }] })
        }
        Kind::String => json!({ "$ref": "#/$defs/scalar" }),
    }
}

/// A number, or one with a unit, which is a text.
fn number(min: &Value, max: &Value) -> Value {
    json!({ "type": ["number", "string"], "minimum": min, "maximum": max, "pattern": "^\\s*[-+]?[0-9.]" })
}
