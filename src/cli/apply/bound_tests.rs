//! Applies of a saved plan in the simulated cluster: each fact changed in turn is refused by its name, and no measure is.

use clap::Parser as _;
use serde_json::Value;
use serde_json::json;

use super::*;
use crate::report::samples::healthy;
use crate::report::samples::name;
use crate::report::samples::nothing;
use crate::report::samples::pair;
use crate::world::sim::Sim;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

/// Applies a plan that was saved when the cluster was as `then`, to one that is as `now`.
async fn applied(then: &Observed, now: Observed) -> (Result<Exit, Error>, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("log.jsonl").display().to_string();
    let Line { arguments } = Line::parse_from(["apply", "--auto-approve", "--event-log", &log]);
    let saved = SavedPlan::read(&SavedPlan::of(&pair(), then, "orders.yaml", "/srv").json()).expect("just saved");
    let (topology, ui, sim) = (pair(), Ui::in_memory(Format::Text), Sim::new(pair(), now, None));
    let (_signal, interrupt) = tokio::sync::watch::channel(false);
    let errand = Errand { bound: Some(saved), ..Errand::default() };
    let job =
        Job { topology: &topology, file: "orders.yaml", arguments: &arguments, errand: &errand, ui: &ui, interrupt };
    let exit = job.run(&sim).await;
    if exit.is_err() {
        assert!(!std::path::Path::new(&log).exists(), "something was begun");
    }
    (exit, ui.written().0)
}

/// What differs from one look to the next, by the last word of its place.
const MEASURES: [&str; 12] = [
    "retained",
    "checkpoint",
    "end",
    "end_timeline",
    "lsn",
    "replayed",
    "asks_from",
    "sent",
    "flushed",
    "pid",
    "sync_state",
    "unarchived",
];

/// Whole groups of measures.
const GROUPS: [&str; 3] = [".busy.", ".branches.", ".beginnings."];

/// Every leaf of a value, by its path.
fn leaves(path: &str, value: &Value, found: &mut Vec<(String, String)>) {
    let mut below = |key: &str, value: &Value| leaves(&format!("{path}/{key}"), value, found);
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| below(key, value)),
        Value::Array(list) => list.iter().enumerate().for_each(|(at, value)| below(&at.to_string(), value)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let words = path.split('/').filter(|word| *word != "known" && !word.is_empty());
            found.push((path.to_owned(), words.skip(2).collect::<Vec<_>>().join(".")));
        }
    }
}

/// Returns the observation with another value at this place, whatever its type takes.
fn changed(whole: &Value, pointer: &str) -> Option<Observed> {
    let before = whole.pointer(pointer)?.clone();
    let mut others = vec![json!(true), json!(false), json!("0/9000000"), json!(7), json!(14), json!("7")];
    others.push(json!({ "unknown": "out of reach" }));
    others.extend(before.as_str().map(|text| json!(format!("{text}x"))));
    let words = ["absent", "commands", "shut_down", "wrong", "differs", "sighup", "user"];
    others.extend(words.iter().map(|word| json!(word)));
    let original: Observed = serde_json::from_value(whole.clone()).ok()?;
    others.into_iter().find_map(|other| {
        let mut edited = whole.clone();
        *edited.pointer_mut(pointer)? = other;
        serde_json::from_value(edited).ok().filter(|edited: &Observed| *edited != original)
    })
}

#[tokio::test]
async fn each_fact_changed_in_turn_is_refused_by_its_name_and_a_measure_is_not() {
    let then = healthy(&pair());
    let whole = serde_json::to_value(&then).expect("plain data");
    let mut places = Vec::new();
    leaves("", &whole, &mut places);
    let (mut facts, mut measures) = (0, 0);
    for (pointer, place) in places {
        let Some(now) = changed(&whole, &pointer) else {
            // What is not there may be a thing of several parts, which no single value is.
            assert_eq!(whole.pointer(&pointer), Some(&Value::Null), "{pointer} can't be changed");
            continue;
        };
        let last = place.rsplit('.').next().unwrap_or_default();
        let is_measure = MEASURES.contains(&last) || GROUPS.iter().any(|group| place.contains(group));
        let (exit, _) = applied(&then, now).await;
        let moved = match exit {
            Err(Error::Stale { moved }) => moved,
            other => {
                assert!(is_measure && other.is_ok(), "{pointer}: {other:?}");
                measures += 1;
                continue;
            }
        };
        let by_name: Vec<&str> = moved.iter().map(|moved| moved.fact.as_str()).collect();
        if is_measure {
            assert_eq!(by_name.iter().find(|fact| !["steps", "blocked"].contains(*fact)), None, "{pointer}");
            measures += 1;
        } else {
            let [one] = &moved[..] else { panic!("{pointer}: {moved:?}") };
            assert!(place.starts_with(&one.fact), "{pointer}: {one:?}");
            assert!(pointer.starts_with(&format!("/nodes/{}/", one.node)), "{pointer}: {one:?}");
            assert_ne!(one.then, one.now, "{pointer}");
            facts += 1;
        }
    }
    assert!(facts >= 100 && measures >= 20, "{facts} facts, {measures} measures");
}

#[tokio::test]
async fn a_saved_plan_is_done_whole_and_refused_the_second_time() {
    let empty = nothing(&pair());
    let (exit, result) = applied(&empty, empty.clone()).await;
    assert_eq!(exit.expect("no error"), Exit::Success);
    assert!(result.contains("Applied: 8 steps done."), "{result}");
    let (exit, _) = applied(&empty, healthy(&pair())).await;
    let error = exit.expect_err("the cluster is there now");
    assert_eq!((error.exit(), error.reports()[0].code.as_str()), (Exit::Refused, "stale"));
    assert!(error.reports()[0].moved.iter().any(|moved| moved.node == name("a") && moved.fact == "place.data_dir"));
}

#[tokio::test]
async fn what_others_do_meanwhile_makes_no_plan_stale() {
    let then = healthy(&pair());
    let mut now = then.clone();
    let primary = now.node_mut(&name("a"));
    let slot = primary.cluster_mut().and_then(|cluster| cluster.slots.get_mut("pgpair_b")).expect("it is there");
    slot.wal_status = Some("extended".into());
    slot.retained = Some(1 << 30);
    let senders = &mut primary.sql_mut().expect("it runs").senders;
    let backup = crate::observed::Sender { application_name: "pg_basebackup".into(), slot: None, ..senders[0].clone() };
    senders.insert(0, backup);
    let (exit, result) = applied(&then, now).await;
    assert_eq!(exit.expect("no error"), Exit::Success, "{result}");
}
