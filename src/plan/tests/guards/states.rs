//! The joint state: what is told apart before anything is planned.

use super::*;
use crate::observed::DataDir;

fn wanting_a(change: fn(&mut Case)) -> Case {
    healthy(15).with(change)
}

guards! { wanting_a(|_| {}), "primary_runs";
    two_nodes_that_accept_writes_are_two_primaries: |it| it.accepts_writes("b") => "doubtful, two_primaries: ";
}

guards! { wanting_a(|it| it.stopped("a")), "primary_stopped";
    a_new_copy_with_standby_files_is_no_stopped_primary: |it| {
        let markers = &mut it.own("a").markers;
        (markers.standby_signal, markers.postmaster_opts) = (true, false);
    } => "doubtful, roles_moved: a is stopped and has standby files";
    what_would_end_its_recovery_is_no_stopped_primary:
        |it| it.own("a").markers.recovery_signal = true => "doubtful, roles_moved: a is stopped and has standby files";
    what_ran_as_a_standby_is_no_stopped_primary:
        |it| it.own("a").state = ControlState::ShutDownInRecovery => "doubtful, roles_moved: a was last written by a standby";
    beside_a_node_that_is_not_safe_there_is_no_stopped_primary: |it| it.silent("b") => "doubtful, no_answer: ";
}

/// `b` is to be the primary, and `a` is as the change leaves it, from a fenced primary that accepts writes.
fn wanting_b(change: fn(&mut Case)) -> Case {
    Case::switchover(15, "b.promote").asking(Asked::State).with(change)
}

fn ended() -> Case {
    wanting_b(|it| it.stopped("a"))
}

guards! { ended(), "ended";
    a_role_is_not_taken_over_while_a_third_node_is_not_safe: |it| it.silent("c") => "left_elsewhere";
    a_role_is_not_taken_over_without_all_of_its_wal:
        |it| it.own("a").end = Some(Lsn(POSITION.0 + 1)) => "left_elsewhere";
    a_role_is_not_taken_over_from_one_that_crashed:
        |it| it.own("a").state = ControlState::InProduction => "left_elsewhere";
    a_role_is_not_taken_over_on_an_older_timeline:
        |it| it.own("a").newest_history = Some(Timeline(2)) => "left_elsewhere";
    of_two_stopped_primaries_neither_gives_way: |it| {
        it.stopped("c");
        let own = it.own("c");
        (own.markers.standby_signal, own.state) = (false, ControlState::ShutDown);
    } => "doubtful, former_primary: ";
}

/// On its way down, it does not answer.
fn ending() -> Case {
    wanting_b(|it| {
        it.silent("a");
        it.own("a").state = ControlState::ShuttingDown;
    })
}

guards! { ending(), "ended";
    what_is_ending_without_a_fence_may_come_up_again:
        |it| it.own("a").markers.standby_signal = false => "doubtful, no_proof: a ";
    what_does_not_answer_and_is_not_ending_is_not_taken_over_from:
        |it| it.own("a").state = ControlState::InProduction => "lost";
}

/// `a` was promoted since `b` was the primary, and both were stopped.
fn promoted_since() -> Case {
    wanting_b(|it| {
        for node in ["a", "b"] {
            it.stopped(node);
            let own = it.own(node);
            (own.markers.standby_signal, own.state) = (false, ControlState::ShutDown);
        }
        let own = it.own("a");
        (own.newest_history, own.branches) = (Some(Timeline(2)), vec![branch()]);
    })
}

guards! { promoted_since(), "left_elsewhere";
    where_the_former_primary_went_further_neither_is_started:
        |it| it.own("b").end = Some(Lsn(POSITION.0 + 1)) => "doubtful, former_primary: a ";
}

/// `b` is a stopped primary, and `a` stopped as its standby.
fn a_stopped_primary() -> Case {
    promoted_since().with(|it| {
        let own = it.own("a");
        (own.newest_history, own.markers.standby_signal) = (None, true);
    })
}

guards! { a_stopped_primary(), "primary_stopped";
    the_one_that_was_promoted_since_is_the_primary: |it| {
        let own = it.own("a");
        (own.newest_history, own.markers.standby_signal) = (Some(Timeline(2)), false);
    } => "left_elsewhere";
}

fn fenced() -> Case {
    ended().wants("a")
}

guards! { fenced(), "fenced";
    a_fence_is_not_taken_back_beside_a_node_that_is_not_safe: |it| it.silent("b") => "doubtful, no_answer: ";
}

/// Every node is in recovery.
fn headless() -> Case {
    wanting_b(|it| {
        it.stopped("a");
        it.started("a");
    })
}

guards! { headless(), "headless";
    one_that_accepts_writes_elsewhere_is_the_primary: |it| it.accepts_writes("a") => "elsewhere";
    a_promotion_under_way_here_goes_forward: |it| it.own("b").markers.promote = true => "pending";
    a_promotion_under_way_elsewhere_is_the_primarys: |it| it.own("a").markers.promote = true => "left_elsewhere";
    nothing_is_promoted_within_a_foreign_cluster: |it| {
        let text = &mut it.own("b").conf.main.text;
        *text = text.replace("port=5433", "port=7001");
    } => "doubtful, follows_a_foreign_server: ";
    one_that_hangs_may_be_the_primary: |it| {
        it.silent("c");
        it.own("c").state = ControlState::InProduction;
    } => "lost";
    one_out_of_reach_may_be_the_primary: |it| it.away("c") => "lost";
    nothing_is_promoted_while_a_server_can_not_be_seen: |it| {
        let seen = it.node("c");
        seen.place.known_mut().expect("it is known").data_dir = DataDir::Absent;
        seen.server = Reading::Unknown("no rights".into());
    } => "doubtful, out_of_reach: c ";
    nothing_is_promoted_while_files_can_not_be_seen:
        |it| it.node("c").place = Reading::Unknown("no rights".into()) => "doubtful, out_of_reach: c ";
    a_lone_standby_is_not_promoted: |it| {
        for node in ["a", "c"] {
            let seen = it.node(node);
            seen.server = Reading::Absent;
            seen.place.known_mut().expect("it is known").data_dir = DataDir::Absent;
        }
    } => "doubtful, roles_moved: b is in recovery";
    nothing_is_promoted_that_lacks_wal: |it| it.sql("a").lsn = Lsn(POSITION.0 + 1) => "doubtful, behind: ";
    nothing_is_promoted_where_an_end_is_not_known: |it| it.silent("a") => "doubtful, no_proof: a ";
}

/// The same, where the one that is to be promoted is stopped.
fn all_standbys() -> Case {
    headless().with(|it| it.stopped("b"))
}

guards! { all_standbys(), "all_standbys";
    what_would_end_its_recovery_is_not_started_to_be_promoted:
        |it| it.own("b").markers.recovery_signal = true => "doubtful, roles_moved: b is stopped and has standby files";
    nothing_is_started_to_be_promoted_while_a_node_can_not_be_seen:
        |it| it.away("c") => "doubtful, roles_moved: b is stopped and has standby files";
    nothing_is_started_to_be_promoted_while_a_server_can_not_be_seen: |it| {
        it.node("c").server = Reading::Unknown("no rights".into());
    } => "doubtful, roles_moved: b is stopped and has standby files";
    nothing_is_started_to_be_promoted_within_a_foreign_cluster: |it| {
        let text = &mut it.own("b").conf.main.text;
        *text = text.replace("host=127.0.0.1 port=5433", "host=127.0.0.1,127.0.0.1 port=5433,7001");
    } => "doubtful, roles_moved: b is stopped and has standby files";
    nothing_is_started_to_be_promoted_of_one_that_does_not_answer:
        |it| it.silent("a") => "doubtful, roles_moved: b is stopped and has standby files";
}
