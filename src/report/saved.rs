//! Observations and plans as they are stored in a file, and read again.
//!
//! Neither holds a secret: an observation is stored as `plan::redact` leaves it, and a topology has references alone. A
//! plan is a pure function of the two, so that a saved one is made again from what is stored with it, and must then be the
//! one that it was.

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::observed::Observed;
use crate::plan::Plan;
use crate::plan::planner;
use crate::plan::redact;
use crate::report::PlanReport;
use crate::report::json;
use crate::topology;
use crate::topology::Topology;
use crate::topology::write;
use crate::topology::write::Remarks;

/// What was seen of a cluster, with the topology that it was looked at for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The topology file, as it was named.
    pub file: String,
    /// The absolute folder that relative paths of the topology start from.
    pub base_dir: String,
    /// When it was made, in UTC.
    pub at: String,
    pub topology: Topology,
    pub observed: Observed,
}

/// What a saved plan is made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedPlan {
    /// The topology file, as it was named.
    pub file: String,
    /// The absolute folder that relative paths of the topology start from.
    pub base_dir: String,
    /// The version of pgpair.
    pub made_by: String,
    pub topology: Topology,
    pub observed: Observed,
}

/// Why a text is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDocument {
    #[error("it is no {what} of pgpair's: {why}")]
    Malformed { what: &'static str, why: String },
    #[error("it has format version {0}, and this pgpair reads {own}", own = json::FORMAT_VERSION)]
    Version(String),
    #[error("it was made by pgpair {made_by}, and this is {}, which plans otherwise", version())]
    OtherVersion { made_by: String },
    #[error("it was changed since pgpair wrote it: {part} is not what follows from the rest")]
    Changed { part: String },
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

impl Observation {
    /// Takes what was seen, its secrets hidden.
    #[must_use]
    pub fn of(topology: &Topology, seen: &Observed, file: &str, base_dir: &str, at: String) -> Self {
        Self {
            file: file.to_owned(),
            base_dir: base_dir.to_owned(),
            at,
            topology: topology.clone(),
            observed: redact::observed(seen, topology),
        }
    }

    /// Renders it.
    #[must_use]
    pub fn json(&self) -> String {
        #[derive(Serialize)]
        struct Observed<'a> {
            status: &'static str,
            cluster: &'a str,
            #[serde(flatten)]
            observation: &'a Observation,
        }
        stored(&Observed { status: "observed", cluster: &self.topology.cluster, observation: self })
    }

    /// Reads it.
    ///
    /// # Errors
    ///
    /// [`BadDocument`] where it is none.
    pub fn read(text: &str) -> Result<Self, BadDocument> {
        let what = "observation";
        let (read, _): (Self, _) = read(text, what)?;
        check(&read.topology, &read.base_dir, &read.observed, what)?;
        Ok(read)
    }
}

impl SavedPlan {
    /// Takes what a plan is made from, its secrets hidden.
    #[must_use]
    pub fn of(topology: &Topology, seen: &Observed, file: &str, base_dir: &str) -> Self {
        Self {
            file: file.to_owned(),
            base_dir: base_dir.to_owned(),
            made_by: version().to_owned(),
            topology: topology.clone(),
            observed: redact::observed(seen, topology),
        }
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> Plan {
        planner::plan(&self.topology, &self.observed)
    }

    /// The plan as it is shown.
    #[must_use]
    pub fn report(&self) -> PlanReport {
        PlanReport::of(&self.topology, &self.observed, &self.plan())
    }

    /// Renders it: the plan as every plan is rendered, with what it is made from.
    #[must_use]
    pub fn json(&self) -> String {
        #[derive(Serialize)]
        struct Saved<'a> {
            #[serde(flatten)]
            report: &'a PlanReport,
            #[serde(flatten)]
            saved: &'a SavedPlan,
        }
        stored(&Saved { report: &self.report(), saved: self })
    }

    /// Reads it, and sees that it says the same as what is made from it.
    ///
    /// # Errors
    ///
    /// [`BadDocument`] where it is none, or another one than this pgpair would make.
    pub fn read(text: &str) -> Result<Self, BadDocument> {
        let what = "saved plan";
        let (saved, stored): (Self, Value) = read(text, what)?;
        check(&saved.topology, &saved.base_dir, &saved.observed, what)?;
        let again = serde_json::to_value(saved.report()).unwrap_or_default();
        let differs = again.as_object().into_iter().flatten().find(|(key, value)| stored.get(key) != Some(value));
        match differs {
            None => Ok(saved),
            Some(_) if saved.made_by != version() => Err(BadDocument::OtherVersion { made_by: saved.made_by }),
            Some((part, _)) => Err(BadDocument::Changed { part: part.clone() }),
        }
    }
}

/// Renders what is stored. The order of nodes and parameters is part of a topology, and a JSON value does not keep it: it
/// is written, and read, without becoming one.
fn stored(body: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Stored<'a, T> {
        format_version: &'static str,
        #[serde(flatten)]
        body: &'a T,
    }
    let stored = Stored { format_version: json::FORMAT_VERSION, body };
    serde_json::to_string_pretty(&stored).expect("plain data with text keys has a JSON form") + "\n"
}

fn read<T: DeserializeOwned>(text: &str, what: &'static str) -> Result<(T, Value), BadDocument> {
    let malformed = |error: serde_json::Error| BadDocument::Malformed { what, why: error.to_string() };
    let value: Value = serde_json::from_str(text).map_err(malformed)?;
    let version = value.get("format_version").and_then(Value::as_str).unwrap_or("none");
    let major = |version: &str| version.split('.').next().map(str::to_owned);
    if major(version) != major(json::FORMAT_VERSION) {
        return Err(BadDocument::Version(version.to_owned()));
    }
    Ok((serde_json::from_str(text).map_err(malformed)?, value))
}

/// Sees that the topology is one that a file could say, and that every node of it was looked at.
fn check(topology: &Topology, base_dir: &str, observed: &Observed, what: &'static str) -> Result<(), BadDocument> {
    let text = write::yaml(topology, &Remarks::default());
    let again = topology::parse(text.as_bytes(), "its topology", base_dir).map_err(|wrong| BadDocument::Malformed {
        what,
        why: wrong.first().map_or_else(|| "its topology is not valid".to_owned(), ToString::to_string),
    })?;
    if again != *topology {
        return Err(BadDocument::Malformed { what, why: "its topology is none that a file can say".into() });
    }
    match topology.nodes.keys().find(|node| !observed.nodes.contains_key(*node)) {
        Some(node) => Err(BadDocument::Malformed { what, why: format!("nothing is said of node {node}") }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::healthy;
    use crate::report::samples::nothing;
    use crate::report::samples::pair;

    fn saved(seen: &Observed) -> SavedPlan {
        SavedPlan::of(&pair(), seen, "orders.yaml", "/srv")
    }

    #[test]
    fn what_is_stored_is_read_back_the_same() {
        for seen in [nothing(&pair()), healthy(&pair())] {
            let plan = saved(&seen);
            assert_eq!(SavedPlan::read(&plan.json()), Ok(plan));
            let observation = Observation::of(&pair(), &seen, "orders.yaml", "/srv", "2026-01-01T00:00:00Z".into());
            assert_eq!(Observation::read(&observation.json()), Ok(observation));
        }
    }

    #[test]
    fn the_order_of_nodes_and_parameters_survives() {
        let yaml = "version: 1\ncluster: orders\npostgresql: { version: 15 }\n\
            replication: { user: repuser, auth: trust }\nparameters: { work_mem: 8MB, commit_delay: 7 }\nnodes:\n  \
            z: { role: primary, port: 5433, data_dir: /srv/z }\n  b: { role: standby, port: 5434, data_dir: /srv/b }\n";
        let topology = topology::parse(yaml.as_bytes(), "orders.yaml", "/srv").expect("a good topology");
        let plan = SavedPlan::of(&topology, &nothing(&topology), "orders.yaml", "/srv");
        let read = SavedPlan::read(&plan.json()).expect("just saved");
        assert_eq!(planner::topology_digest(&read.topology), planner::topology_digest(&topology));
        assert!(read.topology.nodes.keys().eq(topology.nodes.keys()));
    }

    #[test]
    fn a_saved_plan_that_somebody_has_edited_is_told_by_the_part_that_does_not_follow() {
        let text = saved(&nothing(&pair())).json();
        let edit = |from: &str, to: &str| {
            assert!(text.contains(from), "{from} is not in it");
            SavedPlan::read(&text.replacen(from, to, 1)).expect_err("it was edited").to_string()
        };
        assert!(edit("\"id\": \"a.start\"", "\"id\": \"b.start\"").contains("steps is not what follows"), "a step");
        assert!(edit("\"format_version\": \"1.0\"", "\"format_version\": \"2.0\"").contains("format version 2.0"));
        assert!(edit("\"role\": \"primary\"", "\"role\": \"standby\"").contains("changed since"), "in the report");
        let other = text.replacen("\"made_by\": \"", "\"made_by\": \"9.", 1);
        assert!(SavedPlan::read(&other).is_ok(), "another version that plans alike");
        let other = other.replacen("\"id\": \"a.start\"", "\"id\": \"b.start\"", 1);
        let error = SavedPlan::read(&other).expect_err("another version that plans otherwise").to_string();
        assert!(error.starts_with("it was made by pgpair 9."), "{error}");
    }

    #[test]
    fn a_topology_that_no_file_could_say_is_refused() {
        let mut plan = saved(&nothing(&pair()));
        plan.topology.nodes.values_mut().for_each(|node| node.role = crate::topology::Role::Standby);
        let text = serde_json::to_value(&plan).map(|mut value| {
            value["format_version"] = "1.0".into();
            value.to_string()
        });
        let error = SavedPlan::read(&text.expect("plain data")).expect_err("no primary");
        assert!(matches!(error, BadDocument::Malformed { .. }), "{error}");
    }
}
