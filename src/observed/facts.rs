//! Which parts of a look are facts, that a plan is bound to, and which are measures; and what has moved between two looks.
//!
//! Measures differ from one look to the next of a cluster that nobody has touched: positions, lag, sizes, ages, process
//! numbers, sessions, free space. The guards of a step judge them when it runs.

use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use similar::ChangeTag;
use similar::TextDiff;

use crate::observed::Busy;
use crate::observed::Cluster;
use crate::observed::Observed;
use crate::observed::Reading;
use crate::observed::Reverse;
use crate::observed::Sql;
use crate::pg::lsn::Lsn;
use crate::topology::NodeName;

/// How much of a value is told.
const LONGEST: usize = 300;

impl Observed {
    /// Returns the facts alone: measures are left out.
    #[must_use]
    pub fn without_measures(&self) -> Self {
        let mut facts = self.clone();
        let nodes: Vec<NodeName> = self.nodes.keys().cloned().collect();
        for seen in facts.nodes.values_mut() {
            seen.rooms.clear();
            seen.readiness.unarchived = 0;
            if let Reading::Known(Reverse::Refused(words)) = &mut seen.readiness.reverse {
                words.clear();
            }
            if let Some(cluster) = seen.cluster_mut() {
                facts_of_cluster(cluster);
            }
            if seen.accepts_writes()
                && let Some(cluster) = seen.cluster_mut()
            {
                // Beside another that does: it grows.
                cluster.lost = None;
            }
            let Some(server) = seen.server.known_mut() else { continue };
            server.pid = 0;
            if let Some(sql) = server.sql.known_mut() {
                facts_of_sql(sql, &nodes);
            }
        }
        facts
    }
}

fn facts_of_cluster(cluster: &mut Cluster) {
    cluster.checkpoint = Lsn(0);
    (cluster.end, cluster.end_timeline) = (None, None);
    cluster.beginnings.clear();
    cluster.branches.clear();
    cluster.wal = None;
    for slot in cluster.slots.values_mut() {
        slot.retained = None;
        // How much WAL it holds back, and not yet too much.
        if slot.wal_status.as_deref() == Some("extended") {
            slot.wal_status = Some("reserved".into());
        }
    }
}

fn facts_of_sql(sql: &mut Sql, nodes: &[NodeName]) {
    sql.lsn = Lsn(0);
    (sql.replayed, sql.asks_from) = (None, None);
    sql.busy = Busy::default();
    // Sessions of others come and go: backups, and who takes WAL besides.
    sql.senders.retain(|sender| nodes.iter().any(|node| sender.is_of(node)));
    for sender in &mut sql.senders {
        (sender.sent, sender.flushed, sender.replayed) = (None, None, None);
        // It follows from who streams, and from the names in force.
        sender.sync_state.clear();
    }
    // The server tells them in the order in which they have come.
    sql.senders.sort_by(|a, b| (&a.application_name, &a.slot).cmp(&(&b.application_name, &b.slot)));
}

/// A fact that is another one than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moved {
    pub node: NodeName,
    /// Where it stands in an observation: `server.sql.settings.work_mem.value`.
    pub fact: String,
    pub then: String,
    pub now: String,
}

/// Returns every fact that differs between two looks at the same nodes. What may be a secret is to be hidden in both.
#[must_use]
pub fn moved(then: &Observed, now: &Observed) -> Vec<Moved> {
    let (then, now) = (then.without_measures(), now.without_measures());
    let mut all = Vec::new();
    let names: std::collections::BTreeSet<&NodeName> = then.nodes.keys().chain(now.nodes.keys()).collect();
    for node in names {
        let value = |observed: &Observed| {
            let seen = observed.nodes.get(node).map(serde_json::to_value);
            seen.and_then(Result::ok).unwrap_or_default()
        };
        let mut tell = |fact: &str, then: String, now: String| {
            all.push(Moved { node: node.clone(), fact: fact.to_owned(), then, now });
        };
        compare("", &value(&then), &value(&now), &mut tell);
    }
    all
}

/// Walks two values together, down to what differs.
fn compare(path: &str, then: &Value, now: &Value, tell: &mut dyn FnMut(&str, String, String)) {
    match (then, now) {
        _ if then == now => {}
        (Value::Object(one), Value::Object(other)) if !are_variants(one, other) => {
            let keys: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for key in keys {
                let at = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare(&below(path, key), &at(one), &at(other), tell);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                compare(&below(path, &index.to_string()), one, other, tell);
            }
        }
        (Value::String(one), Value::String(other)) if one.contains('\n') || other.contains('\n') => {
            let lines = TextDiff::from_lines(one.as_str(), other.as_str());
            let only = |tag: ChangeTag| {
                let changes = lines.iter_all_changes().filter(|change| change.tag() == tag);
                let text: Vec<&str> = changes.map(|change| change.value().trim_end_matches('\n')).collect();
                if text.is_empty() { "(no such line)".to_owned() } else { short(&text.join("\n")) }
            };
            tell(path, only(ChangeTag::Delete), only(ChangeTag::Insert));
        }
        _ => tell(path, words(then), words(now)),
    }
}

/// Whether two objects are different variants of one thing, of which no field is the other's.
fn are_variants(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    one.len() == 1 && other.len() == 1 && one.keys().ne(other.keys())
}

/// What is known is what it is about, and no field of it.
fn below(path: &str, key: &str) -> String {
    match (path, key) {
        (_, "known") => path.to_owned(),
        ("", _) => key.to_owned(),
        _ => format!("{path}.{key}"),
    }
}

fn words(value: &Value) -> String {
    match value {
        Value::Null => "(nothing)".to_owned(),
        Value::String(text) if text.is_empty() => "(empty)".to_owned(),
        Value::String(text) => short(text),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => short(&value.to_string()),
    }
}

fn short(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST).chain(['…']).collect()
}
