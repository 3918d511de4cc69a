//! Safe nodes: beside which others a primary may be started (protocol, section 1).

use super::*;
use crate::observed::DataDir;
use crate::observed::Place;

fn start_beside_b() -> Case {
    healthy(15).with(|it| it.stopped("a")).asking_step("a", Action::Start { role: Role::Primary })
}

/// `b` is stopped as well, as the standby that it is.
fn start_beside_stopped_b() -> Case {
    start_beside_b().with(|it| it.stopped("b"))
}

/// There is nothing at `b`.
fn start_beside_nothing() -> Case {
    start_beside_stopped_b().with(|it| place(it).data_dir = DataDir::Absent)
}

fn place(case: &mut Case) -> &mut Place {
    case.node("b").place.known_mut().expect("it is known")
}

guards! { start_beside_b(), "ready";
    a_node_whose_files_can_not_be_seen_is_not_safe: |it| it.away("b") => "out_of_reach: b ";
    a_node_whose_server_can_not_be_seen_is_not_safe:
        |it| it.node("b").server = Reading::Unknown("no rights".into()) => "out_of_reach: b ";
    a_node_that_accepts_writes_is_not_safe: |it| it.accepts_writes("b") => "roles_moved: b accepts writes";
    a_node_that_is_about_to_be_promoted_is_not_safe:
        |it| it.own("b").markers.promote = true => "roles_moved: b is about to be promoted";
    a_node_that_does_not_answer_is_not_safe: |it| it.silent("b") => "no_answer: ";
    a_node_that_runs_on_a_newer_timeline_is_not_safe:
        |it| it.sql("b").timeline = Timeline(2) => "roles_moved: b is on a newer timeline";
}

guards! { start_beside_stopped_b(), "ready";
    a_stopped_node_that_knows_a_newer_timeline_is_not_safe:
        |it| it.own("b").newest_history = Some(Timeline(2)) => "roles_moved: b is on a newer timeline";
    a_standbys_data_without_standby_files_is_not_safe:
        |it| it.own("b").markers.standby_signal = false => "not_ready: b has a copy of the cluster without standby files";
    a_stopped_primary_is_not_safe: |it| {
        it.own("b").markers.standby_signal = false;
        it.own("b").state = ControlState::ShutDown;
    } => "former_primary: b ";
}

guards! { start_beside_nothing(), "ready";
    an_unmounted_disk_is_not_safe: |it| place(it).unmounted = Some("/pg".into()) => "unmounted: ";
    a_directory_kept_aside_is_not_safe: |it| place(it).work = true => "not_ready: b has a data directory kept aside";
}
