//! Switchovers in the simulated cluster: what becomes of the topology file.

use std::fs;

use clap::Parser as _;
use serde_json::Value;

use super::*;
use crate::plan::Step;
use crate::plan::planner;
use crate::plan::predict::predict;
use crate::report::samples::healthy;
use crate::report::samples::name;
use crate::report::samples::pair;
use crate::world::Failure;
use crate::world::Progress;
use crate::world::sim::Sim;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

/// A simulated cluster in which this step fails before it does anything.
struct FailsAt(Sim, &'static str);

impl World for FailsAt {
    async fn observe(&self) -> Observed {
        self.0.observe().await
    }

    async fn perform(&self, step: &Step, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), Failure> {
        if step.id == self.1 { Err(Failure::new("no")) } else { self.0.perform(step, progress).await }
    }
}

/// Makes `b` the primary by a file that says so; returns the exit, the result and what the file says in the end.
async fn to_b(truth: Observed, fails: &'static str, arguments: &[&str]) -> (Result<Exit, Error>, Value, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (file, log) = (folder.path().join("orders.yaml"), folder.path().join("log.jsonl"));
    fs::write(&file, "a is the primary").expect("our folder");
    let (file, log) = (file.display().to_string(), log.display().to_string());
    let Line { arguments } =
        Line::try_parse_from([&["switchover", "--event-log", &log], arguments].concat()).expect("good usage");
    let topology = pair().with_primary(&name("b"));
    let roles = RoleEdit { file: file.clone(), before: "a is the primary".into(), after: "b is the primary".into() };
    let errand = Errand { roles: Some(roles), ..Errand::default() };
    let world = FailsAt(Sim::new(topology.clone(), truth, None), fails);
    let (ui, (_signal, interrupt)) = (Ui::in_memory(Format::Json), tokio::sync::watch::channel(false));
    let (topology, arguments) = (&topology, &arguments);
    let job = Job { topology, file: &file, arguments, errand: &errand, ui: &ui, interrupt };
    let exit = job.run(&world).await;
    assert_eq!(world.0.violations(), Vec::<String>::new());
    let result = serde_json::from_str(&ui.written().0).unwrap_or_default();
    (exit, result, fs::read_to_string(file).expect("it is there"))
}

const YES: [&str; 3] = ["--auto-approve", "--allow", "switchover=b"];

#[tokio::test]
async fn the_file_says_who_is_the_primary_once_it_is() {
    let (exit, result, file) = to_b(healthy(&pair()), "", &YES).await;
    assert_eq!(exit.expect("no error"), Exit::Success, "{result:#}");
    assert_eq!((file.as_str(), &result["edit"]["outcome"]), ("b is the primary", &"written".into()));
    assert!(result["edit"]["unified"].as_str().is_some_and(|diff| diff.contains("+b is the primary")));
}

#[tokio::test]
async fn an_edit_is_taken_back_with_the_switchover() {
    for fails in ["b.promote", "a.fence", "a.configure"] {
        let (exit, result, file) = to_b(healthy(&pair()), fails, &YES).await;
        assert!(exit.expect("no error") != Exit::Success, "{fails}");
        assert_eq!((file.as_str(), &result["edit"]["outcome"]), ("a is the primary", &"taken_back".into()), "{fails}");
        assert_eq!(result["remaining"], serde_json::json!([]), "{fails}");
    }
}

#[tokio::test]
async fn an_edit_stays_where_only_what_comes_after_the_promotion_fails() {
    let (exit, result, file) = to_b(healthy(&pair()), "a.start", &YES).await;
    assert_eq!(exit.expect("no error"), Exit::Incomplete);
    assert_eq!((file.as_str(), &result["edit"]["outcome"]), ("b is the primary", &"written".into()));
}

#[tokio::test]
async fn a_cluster_that_has_the_roles_already_gets_only_the_edit() {
    let (before, wanted) = (pair(), pair().with_primary(&name("b")));
    let mut truth = healthy(&before);
    while let Some(step) = planner::plan(&wanted, &truth).steps.first() {
        predict(&step.node, &step.action, &step.topology(&wanted), &mut truth);
    }
    let (exit, result, file) = to_b(truth.clone(), "", &YES).await;
    assert_eq!(exit.expect("no error"), Exit::Success, "{result:#}");
    assert_eq!((result["status"].as_str(), file.as_str()), (Some("clean"), "b is the primary"));
    let (unasked, _, file) = to_b(truth, "", &[]).await;
    assert_eq!(unasked.expect_err("nobody says yes").exit(), Exit::Declined);
    assert_eq!(file, "a is the primary");
}

#[tokio::test]
async fn without_a_way_to_the_new_roles_nothing_is_done() {
    let mut truth = healthy(&pair());
    truth.node_mut(&name("b")).sql_mut().expect("it runs").replay_paused = true;
    let (exit, result, file) = to_b(truth, "", &YES).await;
    assert_eq!(exit.expect("no error"), Exit::Refused);
    assert_eq!(result["steps"], serde_json::json!([]));
    assert_eq!((file.as_str(), &result["edit"]["outcome"]), ("a is the primary", &"not_written".into()));
}
