//! Applies in the simulated cluster, from the arguments to the exit code.

use std::fs;

use clap::Parser as _;
use serde_json::Value;

use super::*;
use crate::observed::DataDir;
use crate::observed::Identity;
use crate::observed::Markers;
use crate::observed::Reading;
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

/// Runs an apply in the simulated cluster; returns its exit, its result and the lines of its event log.
async fn run(truth: Observed, format: Format, arguments: &[&str]) -> (Result<Exit, Error>, String, Vec<Value>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("log.jsonl");
    let mut line: Vec<String> = vec!["apply".into(), "--event-log".into(), log.display().to_string()];
    line.extend(arguments.iter().map(ToString::to_string));
    let Line { arguments } = Line::try_parse_from(line).expect("good usage");
    let (topology, ui, sim) = (pair(), Ui::in_memory(format), Sim::new(pair(), truth, None));
    let (_signal, interrupt) = tokio::sync::watch::channel(false);
    let job = Job {
        topology: &topology,
        file: "orders.yaml",
        arguments: &arguments,
        errand: &Errand::default(),
        ui: &ui,
        interrupt,
    };
    let exit = job.run(&sim).await;
    assert_eq!(sim.violations(), Vec::<String>::new());
    let events = fs::read_to_string(log).unwrap_or_default();
    let events = events.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    (exit, ui.written().0, events)
}

/// The standby's place holds a stopped cluster of somebody else.
fn foreign_standby() -> Observed {
    let mut world = healthy(&pair());
    let node = world.node_mut(&name("b"));
    node.server = Reading::Absent;
    let cluster = node.cluster_mut().expect("it was cloned");
    cluster.identity = Identity::Known(42);
    cluster.markers = Markers::default();
    cluster.state = crate::pg::control::ControlState::ShutDown;
    cluster.conf.main.text = "max_connections = 100\n".into();
    cluster.hba = "local all all trust\n".into();
    world.node_mut(&name("a")).sql_mut().expect("it runs").senders.clear();
    let slots = &mut world.node_mut(&name("a")).cluster_mut().expect("it runs").slots;
    slots.values_mut().for_each(|slot| slot.active = false);
    world
}

#[tokio::test]
async fn a_pair_is_created_and_its_plan_is_empty_then() {
    let (exit, result, events) = run(nothing(&pair()), Format::Text, &["--auto-approve"]).await;
    assert_eq!(exit.expect("no error"), Exit::Success);
    assert!(result.ends_with("Applied: 8 steps done.\norders matches orders.yaml: a plan is empty now.\n"), "{result}");
    assert_eq!(events.first().expect("a log")["event"], "apply_started");
    assert_eq!(events.last().expect("a log")["outcome"], "complete");
}

#[tokio::test]
async fn the_result_in_json_is_one_value_with_what_became_of_each_step() {
    let (exit, result, events) = run(nothing(&pair()), Format::Json, &["--auto-approve"]).await;
    assert_eq!(exit.expect("no error"), Exit::Success);
    let result: Value = serde_json::from_str(&result).expect("one value");
    assert_eq!(result["status"], "applied");
    assert_eq!(result["remaining"], serde_json::json!([]));
    assert!(result["steps"].as_array().expect("a list").iter().all(|step| step["outcome"] == "done"));
    assert_eq!(events.len(), 2 + 2 * result["plan"]["steps"].as_array().expect("a list").len());
}

#[tokio::test]
async fn nothing_to_do_asks_nothing_and_logs_nothing() {
    let (exit, result, events) = run(healthy(&pair()), Format::Text, &[]).await;
    assert_eq!(exit.expect("no error"), Exit::Success);
    assert_eq!(result, "No changes. orders matches orders.yaml.\n");
    assert!(events.is_empty());
}

#[tokio::test]
async fn without_a_terminal_the_question_names_the_flags_and_nothing_is_done() {
    let (exit, _, events) = run(foreign_standby(), Format::Text, &[]).await;
    let error = exit.expect_err("nobody can answer");
    assert_eq!(error.exit(), Exit::Declined);
    assert!(error.text(false).contains("--auto-approve --allow destroy=b"), "{}", error.text(false));
    assert!(events.is_empty());
}

#[tokio::test]
async fn auto_approve_alone_destroys_nothing() {
    let (exit, result, events) = run(foreign_standby(), Format::Text, &["--auto-approve"]).await;
    let clones = events.iter().filter(|event| event["step"] == "b.clone" && event["event"] == "step_started");
    assert_eq!(clones.count(), 0);
    assert_eq!(exit.expect("no error"), Exit::Refused);
    assert!(result.contains("left out: b.clone: needs --allow destroy=b"), "{result}");
}

#[tokio::test]
async fn the_allowance_that_names_the_node_lets_it_be_replaced() {
    let (exit, result, _) = run(foreign_standby(), Format::Text, &["--auto-approve", "--allow", "destroy=b"]).await;
    assert_eq!(exit.expect("no error"), Exit::Success, "{result}");
}

#[tokio::test]
async fn a_plan_that_is_blocked_is_refused() {
    let mut world = nothing(&pair());
    let place = world.node_mut(&name("a")).place.known_mut().expect("it was looked at");
    place.data_dir = DataDir::Foreign("lost+found".into());
    let (exit, result, events) = run(world, Format::Json, &["--auto-approve"]).await;
    assert_eq!(exit.expect("no error"), Exit::Refused);
    let result: Value = serde_json::from_str(&result).expect("one value");
    assert_eq!(result["status"], "blocked");
    assert_eq!(result["plan"]["blocked"][0]["code"], "not_a_data_directory");
    assert!(events.is_empty());
}

#[test]
fn what_stopped_an_apply_decides_its_exit_code() {
    let (clean, left) = (crate::report::samples::plan_of(Vec::new()), planner::plan(&pair(), &nothing(&pair())));
    let refusal = crate::plan::Refusal::NotReady { why: "a is stopped".into() };
    let refused = Ended::Refused { step: "s".into(), refusal };
    let failed = Ended::Failed { step: "s".into(), failure: crate::world::Failure::new("no") };
    let exit = |done, ended: &Ended, rest| {
        verdict(&Outcome { done, skipped: 0, ended: ended.clone(), role_change: None }, rest).0
    };
    assert_eq!(exit(2, &Ended::Complete, &clean), Exit::Success);
    assert_eq!(exit(2, &Ended::Complete, &left), Exit::Incomplete);
    assert_eq!(exit(0, &Ended::Complete, &left), Exit::Refused);
    assert_eq!(exit(2, &failed, &left), Exit::Failed);
    assert_eq!(exit(0, &refused, &left), Exit::Refused);
    assert_eq!(exit(1, &refused, &left), Exit::Incomplete);
    assert_eq!(exit(1, &Ended::Interrupted { step: "s".into() }, &left), Exit::Interrupted);
}

#[test]
fn yes_covers_restarts_and_a_destroyed_node_wants_its_name() {
    let plan = planner::plan(&pair(), &foreign_standby());
    let ask = |given: &[Allowance]| question::questions(&plan, &given.iter().cloned().collect());
    assert_eq!(ask(&[]).iter().map(question::Question::answer).collect::<Vec<_>>(), ["b"]);
    let given = [Allowance::Destroy(name("b"))];
    assert_eq!(ask(&given).iter().map(question::Question::answer).collect::<Vec<_>>(), ["yes"]);
}

#[test]
fn a_stale_plan_names_the_node_that_changed() {
    let (then, now) = (foreign_standby(), healthy(&pair()));
    let (shown, again) = (planner::plan(&pair(), &then), planner::plan(&pair(), &now));
    let error = bound::stale(&pair(), (&then, &shown), (&now, &again));
    assert_eq!(error.to_string(), "what was seen of a and b has moved since the plan was made, so nothing was done");
    let text = error.text(false);
    assert!(text.contains("  b: server\n      then  absent\n      now   {"), "{text}");
}
