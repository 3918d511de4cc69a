//! Forced promotions: what the old primary must be before another takes its place without its consent.

use super::*;
use crate::observed::Controller;
use crate::observed::Permission;

/// Nobody hears of it any more, and it says nothing.
fn hang(case: &mut Case) {
    case.cut_off();
    case.silent("a");
}

/// The same, out of reach.
fn vanish(case: &mut Case) {
    case.cut_off();
    case.away("a");
}

fn fencing() -> Case {
    Case::failover(15, vanish, "a.fence_off")
}

guards! { fencing(), "ready";
    a_node_whose_files_are_in_reach_is_not_fenced_off:
        |it| it.node("a").place = healthy(15).node("a").place.clone() => "not_dead: a ";
    a_node_whose_server_is_in_reach_is_not_fenced_off:
        |it| it.node("a").server = healthy(15).node("a").server.clone() => "not_dead: a ";
}

fn promotion_without_the_dead() -> Case {
    fencing().done().before("b.promote", &Request::default().or_failover(&name("b")))
}

guards! { promotion_without_the_dead(), "ready";
    a_node_out_of_reach_is_dead_by_somebodys_word:
        |it| it.node("a").confirmed_dead = false => "out_of_reach: a ";
    a_node_that_a_standby_streams_from_is_not_dead:
        |it| it.sql("c").receiver = healthy(15).sql("c").receiver.clone() => "not_dead: a may still take writes";
    the_most_advanced_standby_is_promoted:
        |it| it.sql("c").lsn = Lsn(POSITION.0 + 1) => "behind: b lacks 1 bytes of WAL that c has";
}

guards! { Case::failover(15, hang, "a.take_down"), "ready";
    a_node_without_a_fence_is_not_taken_down:
        |it| it.own("a").markers.standby_signal = false => "not_ready: a is not fenced";
    a_node_that_takes_writes_is_not_taken_down:
        |it| it.node("a").server = healthy(15).node("a").server.clone() => "roles_moved: a answers and takes writes";
    a_server_that_is_not_ours_to_stop_is_not_taken_down: |it| {
        let permission = Permission::Refused("no rights".into());
        it.node("a").controller = Reading::Known(Controller::Unit { unit: "x.service".into(), permission });
    } => "unit_refused: ";
    a_server_that_can_not_be_seen_is_not_taken_down:
        |it| it.node("a").server = Reading::Unknown("no rights".into()) => "out_of_reach: a ";
}

/// Its end is not known.
fn promotion_by_force() -> Case {
    Case::failover(15, hang, "b.promote")
}

guards! { promotion_by_force(), "ready";
    by_force_nothing_is_promoted_beside_an_old_primary_of_another_cluster:
        |it| it.own("a").identity = Identity::Known(8) => "not_ready: a is of another cluster than b";
    by_force_nothing_is_promoted_beside_an_old_primary_without_a_fence:
        |it| it.own("a").markers.standby_signal = false => "not_ready: a is not fenced";
    by_force_nothing_is_promoted_beside_an_old_primary_that_runs:
        |it| it.node("a").server = healthy(15).node("a").server.clone() => "not_ready: a is running";
    by_force_nothing_is_promoted_to_a_timeline_that_the_old_primary_had:
        |it| it.own("a").newest_history = Some(Timeline(2)) => "no_proof: a ";
}

/// The file `promote` was written by a run that has died then.
fn promotion_under_way() -> Case {
    promotion_by_force().with(|it| {
        it.own("a").end = Some(Lsn(POSITION.0 + 1));
        it.own("b").markers.promote = true;
    })
}

guards! { promotion_under_way(), "ready";
    one_that_runs_was_not_given_up: |it| {
        it.started("a");
        it.own("a").state = ControlState::StartingUp;
    } => "not_promotable: b can't be promoted: it has a file `promote`";
    one_that_ran_as_a_standby_was_not_given_up:
        |it| it.own("a").state = ControlState::ShutDownInRecovery => "not_promotable: b can't be promoted: it has a file";
    one_without_a_fence_was_not_given_up:
        |it| it.without_conninfo("a") => "not_promotable: b can't be promoted: it has a file `promote`";
}
