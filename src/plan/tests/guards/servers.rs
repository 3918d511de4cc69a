//! Servers that a role change stops and starts.

use super::*;

fn stop_of_standby() -> Case {
    healthy(15).asking_step("b", Action::Stop(StopFor::Restart))
}

guards! { stop_of_standby(), "ready";
    one_that_accepts_writes_is_not_stopped_as_a_standby:
        |it| it.accepts_writes("b") => "roles_moved: b runs, and not as a standby";
    one_that_never_answers_and_was_no_standby_is_not_stopped: |it| {
        it.silent("b");
        it.own("b").state = ControlState::InProduction;
    } => "roles_moved: b runs, and not as a standby";
    one_that_never_answers_and_has_no_standby_files_is_not_stopped: |it| {
        it.silent("b");
        it.own("b").markers.standby_signal = false;
    } => "roles_moved: b runs, and not as a standby";
    the_topologys_primary_is_not_stopped_as_a_standby:
        |it| it.topology = it.topology.with_primary(&name("b")) => "roles_moved: b runs, and not as a standby";
}

fn start_of_primary() -> Case {
    healthy(15).with(|it| it.stopped("a")).asking_step("a", Action::Start { role: Role::Primary })
}

guards! { start_of_primary(), "ready";
    what_comes_up_as_a_standby_is_not_started_as_a_primary:
        |it| it.own("a").markers.standby_signal = true => "roles_moved: a is a standby by its files";
    what_would_end_its_recovery_is_not_started_as_a_primary:
        |it| it.own("a").markers.recovery_signal = true => "roles_moved: a is a standby by its files";
    what_ran_as_a_standby_is_not_started_as_a_primary:
        |it| it.own("a").state = ControlState::ShutDownInRecovery => "roles_moved: a is a standby by its files";
    a_copy_is_not_started_as_a_primary:
        |it| it.own("a").markers.backup_label = true => "roles_moved: a is a standby by its files";
    no_primary_is_started_beside_a_node_that_is_not_safe:
        |it| it.own("b").markers.promote = true => "roles_moved: b is about to be promoted";
}

fn start_of_standby() -> Case {
    healthy(15).with(|it| it.stopped("b")).asking_step("b", Action::Start { role: Role::Standby })
}

guards! { start_of_standby(), "ready";
    no_standby_is_started_without_its_files:
        |it| it.own("b").markers.standby_signal = false => "not_ready: b has no standby files";
    no_standby_is_started_that_went_another_way: |it| {
        let own = it.own("b");
        (own.end, own.end_timeline) = (Some(POSITION), Some(Timeline(2)));
        own.branches = vec![branch()];
    } => "diverged: b ";
    no_standby_of_another_cluster_is_started:
        |it| it.own("b").identity = Identity::Known(8) => "not_ready: b is no standby of the primary's cluster";
}
