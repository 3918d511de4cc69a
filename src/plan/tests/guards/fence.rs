//! The fence of the old primary, what counts as one, and its end.

use super::*;

/// Running, with its settings there already.
fn running() -> Case {
    Case::switchover(15, "a.fence")
}

/// All of the fence is recovery.conf.
fn stopped_of_10() -> Case {
    Case::switchover(10, "a.fence").with(|it| it.stopped("a"))
}

guards! { running(), "ready";
    a_running_primary_is_fenced_for_a_candidate_that_is_ready:
        |it| it.sql("b").replay_paused = true => "replay_paused: ";
    a_primary_that_went_into_recovery_is_not_fenced:
        |it| it.sql("a").in_recovery = true => "reach: a is in recovery";
    a_primary_whose_server_can_not_be_seen_is_not_fenced:
        |it| it.node("a").server = Reading::Unknown("no rights".into()) => "out_of_reach: a ";
    the_settings_of_a_standby_come_before_the_fence:
        |it| it.without_conninfo("a") => "not_ready: a has not the settings of a standby yet";
}

guards! { stopped_of_10(), "ready";
    the_topologys_primary_is_not_fenced:
        |it| it.topology = it.topology.with_primary(&name("a")) => "not_ready: a is no standby of the primary's cluster";
    a_node_of_another_cluster_is_not_fenced:
        |it| it.own("a").identity = Identity::Known(8) => "not_ready: a is no standby of the primary's cluster";
}

/// The promotion of `b`, after the fenced old primary has ended.
fn stopped_with_a_fence() -> Case {
    Case::switchover(15, "b.promote").with(|it| it.stopped("a"))
}

guards! { stopped_with_a_fence(), "ready";
    a_fence_has_its_signal_file:
        |it| it.own("a").markers.standby_signal = false => "not_ready: a is not fenced";
    with_recovery_signal_beside_it_there_is_no_fence:
        |it| it.own("a").markers.recovery_signal = true => "not_ready: a is not fenced";
    without_conninfo_in_its_files_there_is_no_fence:
        |it| it.without_conninfo("a") => "not_ready: a is not fenced";
    with_an_end_of_recovery_in_its_files_there_is_no_fence: |it| {
        it.own("a").conf.main.text.insert_str(0, "recovery_target_name = 'x'\n");
    } => "not_ready: a is not fenced";
}

/// The same, where it was started by hand meanwhile.
fn running_with_a_fence() -> Case {
    stopped_with_a_fence().with(|it| it.started("a"))
}

guards! { running_with_a_fence(), "ready";
    what_the_server_has_not_read_yet_is_no_fence:
        |it| it.sql("a").conf_loaded = false => "not_ready: a is not fenced";
    with_another_conninfo_in_force_there_is_no_fence:
        |it| it.set("a", "primary_conninfo", "host=elsewhere") => "not_ready: a is not fenced";
    with_an_end_of_recovery_in_force_there_is_no_fence:
        |it| it.set("a", "recovery_target_name", "x") => "not_ready: a is not fenced";
}

/// The fence of a stopped primary goes.
fn taken_back() -> Case {
    stopped_with_a_fence().wants("a").asking_step("a", Action::Unfence)
}

guards! { taken_back(), "ready";
    the_fence_of_a_standby_by_the_topology_stays:
        |it| it.topology = it.topology.with_primary(&name("b")) => "roles_moved: a is a standby by its files";
    the_files_of_what_ran_as_a_standby_stay:
        |it| it.own("a").state = ControlState::ShutDownInRecovery => "roles_moved: a is a standby by its files";
    the_files_of_a_copy_stay:
        |it| it.own("a").markers.backup_label = true => "roles_moved: a is a standby by its files";
    the_fence_of_what_is_in_recovery_stays: |it| {
        it.started("a");
        it.own("a").state = ControlState::StartingUp;
    } => "not_ready: a is in recovery";
    the_fence_of_a_server_that_can_not_be_seen_stays:
        |it| it.node("a").server = Reading::Unknown("no rights".into()) => "out_of_reach: a ";
    the_fence_stays_while_another_node_may_be_promoted:
        |it| it.own("b").markers.promote = true => "roles_moved: b is about to be promoted";
}
