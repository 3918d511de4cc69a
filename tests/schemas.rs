//! The JSON Schema of plans: every plan of the simulated cluster is as it says, and has nothing that it does not name.

mod simulated;

use std::collections::BTreeSet;
use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;

use pgpair::observed::Observed;
use pgpair::plan::planner::plan;
use pgpair::report::PlanReport;
use pgpair::report::json;
use pgpair::report::saved::SavedPlan;
use pgpair::topology::Topology;
use simulated::mishaps;
use simulated::name;
use simulated::pair;
use simulated::prefixes;
use simulated::trio;

fn schema() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema/plan.schema.json");
    serde_json::from_str(&std::fs::read_to_string(file).expect("the schema")).expect("JSON")
}

/// The schema, which bears what it does not know, as one that does not.
fn strict(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(fields) => {
            if fields.contains_key("properties") && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".into(), false.into());
            }
            fields.values_mut().for_each(|value| *value = strict(value.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| *value = strict(value.take())),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    schema
}

fn rendered(topology: &Topology, observed: &Observed) -> Value {
    let report = PlanReport::of(topology, observed, &plan(topology, observed));
    serde_json::from_str(&json::plan(&report)).expect("JSON")
}

#[track_caller]
fn assert_valid(validator: &Validator, plan: &Value, story: &str) {
    let complaints: Vec<String> =
        validator.iter_errors(plan).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert_eq!(complaints, [""; 0], "{story}");
}

#[test]
fn every_plan_is_as_the_schema_says() {
    let validator = jsonschema::validator_for(&strict(schema())).expect("a schema");
    let topologies = [pair(10, "trust", false), pair(15, "scram-sha-256", true), trio(18, "b")];
    let (mut actions, mut plans) = (BTreeSet::new(), 0);
    for topology in &topologies {
        let swapped = topology.with_primary(&name("b"));
        for (number, prefix) in prefixes(topology).into_iter().enumerate() {
            // Each mishap at every third step: what differs between neighbours is told by the steps alone.
            for (what, mishap) in mishaps().into_iter().skip(number % 5).step_by(5) {
                for node in topology.nodes.keys() {
                    let mut observed = prefix.clone();
                    mishap(topology, &mut observed, node);
                    for wanted in [topology, &swapped] {
                        let plan = rendered(wanted, &observed);
                        assert_valid(&validator, &plan, &format!("after step {number}, {node}: {what}"));
                        let steps = plan["steps"].as_array().expect("steps");
                        actions.extend(steps.iter().map(|step| step["action"].as_str().expect("a name").to_owned()));
                        plans += 1;
                    }
                }
            }
        }
    }
    assert!(plans > 500 && actions.len() > 12, "{plans} plans with {actions:?}: too few to show much");
}

#[test]
fn a_saved_plan_is_as_the_schema_says() {
    let validator = jsonschema::validator_for(&strict(schema())).expect("a schema");
    let topology = pair(15, "scram-sha-256", true);
    let saved = SavedPlan::of(&topology, &prefixes(&topology)[0], "orders.yaml", "/srv").json();
    assert_valid(&validator, &serde_json::from_str(&saved).expect("JSON"), "from nothing");
}

#[test]
fn the_schema_names_every_action_that_is_explained() {
    let schema = schema();
    let words = schema["$defs"]["step"]["properties"]["action"]["enum"].as_array().expect("the actions");
    let named: BTreeSet<&str> = words.iter().filter_map(Value::as_str).collect();
    let explained = pgpair::report::explain::explain("actions").expect("a list");
    let explained: BTreeSet<&str> = explained.iter().map(|action| action.id.as_str()).collect();
    assert_eq!(named, explained);
}

#[test]
fn what_is_no_plan_is_not_valid() {
    let validator = jsonschema::validator_for(&schema()).expect("a schema");
    let topology = pair(15, "trust", true);
    let good = rendered(&topology, &prefixes(&topology)[0]);
    assert_valid(&validator, &good, "from nothing");
    for (pointer, bad) in [
        ("/status", Value::from("fine")),
        ("/steps/0/impact", Value::from("slight")),
        ("/format_version", Value::from("2.0")),
        ("/nodes/0/system_identifier", Value::from(7)),
    ] {
        let mut plan = good.clone();
        *plan.pointer_mut(pointer).expect("it is there") = bad;
        assert!(!validator.is_valid(&plan), "{pointer}");
    }
}
