//! The promotion: of whom, and what becomes of the old primary and of the others before it.

use super::*;

/// The old primary accepts writes still, and is fenced: it is stopped for the promotion.
fn armed() -> Case {
    Case::switchover(15, "b.promote")
}

/// It has ended cleanly.
fn ended() -> Case {
    armed().with(|it| it.stopped("a"))
}

/// It was started by hand since, and is in recovery.
fn in_recovery() -> Case {
    ended().with(|it| it.started("a"))
}

/// There is none any more.
fn headless() -> Case {
    in_recovery().asking_step("b", Action::Promote(Promote { from: None, parent: Timeline(1), by_force: false }))
}

guards! { armed().done(), "satisfied";
    one_that_writes_without_a_parent_was_not_promoted_by_the_step:
        |it| it.own("b").branches.clear() => "roles_moved: b accepts writes on timeline 2 without having been promoted";
    one_that_writes_on_the_old_timeline_was_not_promoted_by_the_step:
        |it| it.sql("b").timeline = Timeline(1) => "roles_moved: b accepts writes on timeline 1";
}

guards! { ended(), "ready";
    one_that_is_delayed_by_the_topology_is_not_promoted: |it| {
        it.topology.nodes[&name("b")].parameters.insert("recovery_min_apply_delay".into(), "1h".into());
    } => "not_promotable: b can't be promoted: it is a delayed standby";
    one_that_runs_with_a_delay_is_not_promoted:
        |it| it.set("b", "recovery_min_apply_delay", "3600000") => "not_promotable: b can't be promoted: it is a delayed";
    one_whose_replay_is_paused_is_not_promoted:
        |it| it.sql("b").replay_paused = true => "not_promotable: b can't be promoted: it has its replay paused";
    one_whose_recovery_ends_elsewhere_is_not_promoted:
        |it| it.set("b", "recovery_target_name", "x") => "not_promotable: b can't be promoted: it runs with recovery_target_name";
    nothing_is_promoted_beside_a_third_node_that_is_not_safe: |it| {
        it.stopped("c");
        let own = it.own("c");
        (own.markers.standby_signal, own.state) = (false, ControlState::ShutDown);
    } => "former_primary: c is stopped without standby files";
    an_old_primary_of_another_cluster_does_not_give_way:
        |it| it.own("a").identity = Identity::Known(8) => "not_ready: a is of another cluster than b";
    an_old_primary_whose_server_can_not_be_seen_does_not_give_way:
        |it| it.node("a").server = Reading::Unknown("no route".into()) => "out_of_reach: a ";
    a_position_on_another_timeline_than_the_old_primarys_proves_nothing:
        |it| it.promotion().parent = Timeline(2) => "no_proof: a ";
    an_old_primary_that_crashed_proves_nothing:
        |it| it.own("a").state = ControlState::InProduction => "no_proof: a ";
    an_old_primary_that_stopped_with_more_than_the_candidate_has_does_not_give_way:
        |it| it.own("a").end = Some(Lsn(POSITION.0 + 1)) => "behind: b lacks 1 bytes of WAL that a has";
}

guards! { armed(), "ready";
    a_running_primary_gives_way_to_one_that_is_ready:
        |it| it.node("a").readiness.supervisors.push("patroni".into()) => "supervisors: a ";
    a_running_primary_gives_way_on_the_timeline_of_the_plan: |it| {
        it.sql("a").timeline = Timeline(2);
        it.sql("b").timeline = Timeline(2);
        it.sql("b").receiver.as_mut().expect("it streams").timeline = Timeline(2);
    } => "not_ready: a is on timeline 2, not 1 any more";
    a_running_primary_gives_way_to_one_that_streams:
        |it| it.sql("b").receiver = None => "upstream: b has no walreceiver";
    a_primary_that_does_not_answer_gives_way_only_on_its_way_down:
        |it| it.silent("a") => "no_answer: ";
}

guards! { in_recovery(), "ready";
    an_old_primary_that_is_about_to_be_promoted_again_does_not_give_way:
        |it| it.own("a").markers.promote = true => "not_ready: a is about to be promoted";
    an_old_primary_in_recovery_with_more_than_the_candidate_has_does_not_give_way:
        |it| it.sql("a").lsn = Lsn(POSITION.0 + 1) => "behind: b lacks 1 bytes of WAL that a has";
}

guards! { headless(), "ready";
    a_standby_by_the_topology_is_not_promoted:
        |it| it.topology = it.topology.with_primary(&name("a")) => "not_ready: b is a standby by the topology";
    without_an_old_primary_nothing_is_promoted_that_lacks_wal:
        |it| it.sql("a").lsn = Lsn(POSITION.0 + 1) => "behind: b lacks 1 bytes of WAL that a has";
    without_an_old_primary_nothing_is_promoted_where_an_end_is_not_known: |it| {
        it.stopped("a");
        it.own("a").end = None;
    } => "no_proof: a ";
}

guards! { headless().with(|it| it.own("b").markers.promote = true), "ready";
    a_promote_file_is_not_acted_on_beside_a_writer:
        |it| it.accepts_writes("a") => "not_promotable: b can't be promoted: it has a file `promote`";
    a_promote_file_is_not_acted_on_where_wal_is_missing:
        |it| it.sql("a").lsn = Lsn(POSITION.0 + 1) => "not_promotable: b can't be promoted: it has a file `promote`";
}
