//! Whole plans: nobody is fenced, stopped or replaced for a promotion that can't be made, or that nobody asked for.

use super::rejoin::kill;
use super::*;

fn wanting_b(change: fn(&mut Case)) -> Case {
    healthy(15).with(change).wants("b").asking(Asked::Plan(Request::default()))
}

fn by_force(change: fn(&mut Case)) -> Case {
    wanting_b(change).asking(Asked::Plan(Request::default().or_failover(&name("b"))))
}

guards! { wanting_b(|_| {}), "a.fence, b.promote, a.start.";
    for_a_candidate_that_is_not_ready_nobody_is_fenced: |it| it.sql("b").replay_paused = true => "replay_paused.";
    beside_a_node_that_can_not_be_worked_on_nobody_is_fenced: |it| it.silent("c") => "no_answer, reach.";
    what_is_stopped_starts_first_and_the_primary_moves_later: kill => "a.start, starts_first.";
}

guards! { wanting_b(|it| it.stopped("a")), "a.fence, b.promote, a.start.";
    a_primary_that_has_ended_is_not_fenced_for_what_can_not_be_promoted:
        |it| it.sql("b").replay_paused = true => "not_promotable.";
}

/// Every node is in recovery, but for the one that is to be the primary: it is stopped.
fn all_standbys() -> Case {
    let case = Case::switchover(15, "b.promote").with(|it| {
        it.stopped("a");
        it.started("a");
        it.stopped("b");
    });
    case.asking(Asked::Plan(Request::default()))
}

guards! { all_standbys(), "b.start, b.promote.";
    what_can_not_start_is_not_started_to_be_promoted:
        |it| it.node("b").port_taken = Reading::Known("nginx".into()) => "port_taken.";
}

guards! { by_force(kill), "a.fence, b.promote, a.rewind, a.start.";
    without_being_asked_nothing_is_promoted_by_force:
        |it| it.asked = Asked::Plan(Request::default()) => "a.start, starts_first.";
    nobody_is_fenced_for_a_promotion_that_can_not_be_made:
        |it| it.sql("c").lsn = Lsn(POSITION.0 + 1) => "behind.";
    what_can_not_be_rewound_is_cloned_anew:
        |it| it.own("a").wal_log_hints = false => "a.fence, b.promote, a.clone, a.start.";
    what_is_to_be_rebuilt_is_cloned_anew: |it| {
        let request = Request::rebuild(&it.topology, &name("a")).expect("a standby");
        it.asked = Asked::Plan(request.or_failover(&name("b")));
    } => "a.fence, b.promote, a.clone, a.start.";
}

/// All that can be seen of the primary is that it can't be seen; the topology has a fencing command.
fn vanished() -> Case {
    by_force(|it| {
        it.cut_off();
        it.away("a");
    })
}

guards! { vanished(), "a.fence_off, b.promote, out_of_reach.";
    nobody_is_fenced_off_for_a_promotion_that_nobody_asked_for:
        |it| it.asked = Asked::Plan(Request::default()) => "primary_lost.";
    without_a_word_that_it_is_dead_nothing_is_promoted: |it| it.topology.fencing = None => "not_dead.";
}

/// Killed and not fenced, with another one promoted in its place by hand.
fn superseded() -> Case {
    wanting_b(|it| {
        kill(it);
        it.promoted("b");
    })
}

guards! { superseded(), "a.fence, a.rewind, a.start.";
    what_can_not_start_is_not_fenced: |it| it.node("a").port_taken = Reading::Known("nginx".into()) => "port_taken.";
    a_superseded_one_that_is_to_be_rebuilt_is_cloned_anew:
        |it| it.asked = Asked::Plan(Request::rebuild(&it.topology, &name("a")).expect("a standby")) => "a.clone, a.start.";
}

/// The same, where both went on with a timeline of one number.
fn forked() -> Case {
    superseded().with(|it| {
        let own = it.own("a");
        (own.newest_history, own.branches) = (Some(Timeline(2)), vec![Branch { end: Lsn(POSITION.0 + 4), ..branch() }]);
        own.end_timeline = Some(Timeline(2));
    })
}

guards! { forked(), "former_primary.";
    of_two_promoted_ones_none_is_replaced_unless_asked:
        |it| it.asked = Asked::Plan(Request::rebuild(&it.topology, &name("a")).expect("a standby")) => "a.clone, a.start.";
}

/// The same, where it came up behind a fence.
fn superseded_running() -> Case {
    superseded().with(|it| {
        it.own("a").markers.standby_signal = true;
        let (end, timeline) = (it.own("a").end, it.own("a").end_timeline);
        it.started("a");
        (it.own("a").end, it.own("a").end_timeline) = (end, timeline);
    })
}

guards! { superseded_running(), "a.stop, a.rewind, a.start.";
    what_can_follow_is_left_running: |it| it.own("a").end = Some(POSITION) => ".";
}

/// Stopped, where it ran as a standby and has lost its standby files.
fn superseded_standby() -> Case {
    superseded().with(|it| it.own("a").state = ControlState::ShutDownInRecovery)
}

guards! { superseded_standby(), "a.standby_files, a.rewind, a.start.";
    a_copy_that_can_not_start_gets_no_standby_files:
        |it| it.node("a").port_taken = Reading::Known("nginx".into()) => "port_taken.";
}

/// `b` was promoted by hand, beside `a`; it is to give way.
fn two_primaries() -> Case {
    let request = |it: &Case| Request::default().and_discard(&it.topology, &name("b")).expect("a standby");
    let case = healthy(15).with(|it| it.promoted("b"));
    let asked = Asked::Plan(request(&case));
    case.asking(asked)
}

guards! { two_primaries(), "b.fence, b.take_down, b.rewind, b.start.";
    of_two_primaries_none_goes_that_nobody_gave_up: |it| it.asked = Asked::Plan(Request::default()) => "two_primaries.";
    of_two_primaries_none_goes_for_a_third_node:
        |it| it.topology = it.topology.with_primary(&name("c")) => "two_primaries.";
    of_three_primaries_only_the_one_that_was_given_up_goes: |it| it.promoted("c") => "roles_moved.";
    a_standby_that_was_given_up_is_not_taken_down: |it| {
        let request = Request::default().and_discard(&it.topology, &name("b")).expect("a standby");
        it.asked = Asked::Plan(request.and_discard(&it.topology, &name("c")).expect("a standby"));
        it.silent("c");
    } => "b.fence, b.take_down, b.rewind, b.start, no_answer.";
}
