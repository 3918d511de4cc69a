//! Whether a node holds WAL that the present primary has not: judged in this one place (protocol, section 6).
//!
//! Such a node can't follow, and a server started on it would go on serving rows that nobody else has.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::observed::Cluster;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::observed::Reading;
use crate::observed::comes_up_as;
use crate::pg::history;
use crate::pg::lsn::Lsn;
use crate::pg::lsn::Timeline;
use crate::plan::pair::needs_standby_files;
use crate::topology::NodeName;
use crate::topology::Role;

/// Where a node's WAL left the primary's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Diverged {
    /// The last position that both have; absent where no history tells.
    pub fork: Option<Lsn>,
    /// The timeline that the node went on with from there.
    pub timeline: Timeline,
    /// How many bytes it holds behind the fork, where that can be told.
    pub past: Option<u64>,
    /// Both went on with a timeline of the same number: neither the server nor pg_rewind would notice.
    pub same_number: bool,
}

/// Returns where the WAL of a node left that of the primary, if it did.
///
/// Of a running node only what its files tell counts, while it receives nothing: what it receives is its upstream's. Where
/// nothing tells how far a former primary got, it is taken to have gone further.
#[must_use]
pub fn diverged(observed: &Observed, node: &NodeName, primary: &NodeName) -> Option<Diverged> {
    let (seen, leader) = (observed.node(node), observed.node(primary));
    let (own, theirs) = (seen.cluster()?, leader.cluster()?);
    if node == primary || own.identity != theirs.identity || seen.accepts_writes() {
        return None;
    }
    let running = leader.sql().map_or_else(|| theirs.newest_timeline(), |sql| sql.timeline);
    let Some(end) = own.end else { return of_unknown_end(seen, own, theirs, running) };
    let timeline = own.end_timeline.unwrap_or(own.timeline);
    let at = |fork: Option<Lsn>, timeline, same_number| {
        let past = fork.map(|fork| end.0.saturating_sub(fork.0));
        Some(Diverged { fork, timeline, past, same_number })
    };
    if timeline > running {
        // It, or whom it followed, was promoted beside a primary that writes on. One that would do so as well is another
        // question.
        let is_standby = comes_up_as(&own.markers, own.major) == Role::Standby;
        let fork = history::fork_of(&own.branches, running);
        return if leader.accepts_writes() && is_standby { at(fork, timeline, false) } else { None };
    }
    if let Some((fork, timeline)) = other_timeline_of_the_same_number(own, theirs, timeline) {
        return at(Some(fork.min(end)), timeline, true);
    }
    if timeline == running {
        return None;
    }
    match history::fork_of(&theirs.branches, timeline) {
        Some(fork) if end <= fork => None,
        fork => at(fork, timeline, false),
    }
}

/// A former primary that can't prove where it ended, and on whose timeline another was promoted since.
fn of_unknown_end(seen: &NodeObserved, own: &Cluster, theirs: &Cluster, running: Timeline) -> Option<Diverged> {
    let is_stopped = matches!(seen.server, Reading::Absent);
    let is_behind = own.newest_timeline() <= running && own.timeline < running;
    let was_primary = own.markers.postmaster_opts && !needs_standby_files(own);
    (is_stopped && is_behind && was_primary).then(|| {
        let fork = history::fork_of(&theirs.branches, own.timeline);
        Diverged { fork, timeline: own.timeline, past: None, same_number: false }
    })
}

/// Finds a timeline that both came through, or are on, by one number and yet not the same one: it begins elsewhere, or with
/// another record.
fn other_timeline_of_the_same_number(own: &Cluster, theirs: &Cluster, last: Timeline) -> Option<(Lsn, Timeline)> {
    let (own_begin, their_begin) = (beginnings(own), beginnings(theirs));
    let shared = own_begin.iter().filter(|(timeline, _)| **timeline <= last);
    shared.into_iter().find_map(|(timeline, at)| {
        let there = their_begin.get(timeline)?;
        let records = own.beginnings.get(timeline).zip(theirs.beginnings.get(timeline));
        let is_same = at == there && records.is_none_or(|(own, their)| own == their);
        (!is_same).then(|| (*at.min(there), *timeline))
    })
}

/// Where each timeline begins that a history file tells of.
fn beginnings(cluster: &Cluster) -> BTreeMap<Timeline, Lsn> {
    history::beginnings(&cluster.branches, cluster.newest_history).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::Identity;
    use crate::pg::control::ControlState;
    use crate::pg::history::Branch;
    use crate::report::samples::healthy;
    use crate::report::samples::name;
    use crate::report::samples::pair;

    const FORK: Lsn = Lsn(0x300_0000);

    /// `a` is on timeline 2, which began at the fork; `b` ended as `change` says.
    fn ended_as(change: impl FnOnce(&mut Cluster, &mut Cluster)) -> Observed {
        let mut world = healthy(&pair());
        let [mut own, mut theirs] = ["b", "a"].map(|node| world.node(&name(node)).cluster().expect("made").clone());
        for cluster in [&mut own, &mut theirs] {
            cluster.branches = vec![Branch { timeline: Timeline(1), end: FORK }];
            cluster.newest_history = Some(Timeline(2));
        }
        world.node_mut(&name("a")).sql_mut().expect("it runs").timeline = Timeline(2);
        world.node_mut(&name("b")).server = Reading::Absent;
        change(&mut own, &mut theirs);
        *world.node_mut(&name("b")).cluster_mut().expect("made") = own;
        *world.node_mut(&name("a")).cluster_mut().expect("made") = theirs;
        world
    }

    fn judged(change: impl FnOnce(&mut Cluster, &mut Cluster)) -> Option<Diverged> {
        diverged(&ended_as(change), &name("b"), &name("a"))
    }

    fn ended(own: &mut Cluster, timeline: u32, end: u64) {
        (own.end, own.end_timeline) = (Some(Lsn(end)), Some(Timeline(timeline)));
    }

    #[test]
    fn what_ended_at_the_fork_or_before_follows_and_one_byte_more_does_not() {
        assert_eq!(judged(|own, _| ended(own, 1, FORK.0)), None);
        assert_eq!(judged(|own, _| ended(own, 1, 8)), None);
        let past = Diverged { fork: Some(FORK), timeline: Timeline(1), past: Some(1), same_number: false };
        assert_eq!(judged(|own, _| ended(own, 1, FORK.0 + 1)), Some(past));
        assert_eq!(judged(|own, _| ended(own, 2, FORK.0 + 1)), None, "it followed to the new timeline");
    }

    #[test]
    fn a_timeline_that_the_primary_never_was_on_is_diverged_from_the_first_byte() {
        let found = judged(|own, theirs| {
            theirs.branches.clear();
            ended(own, 1, 8);
        });
        assert_eq!(found, Some(Diverged { fork: None, timeline: Timeline(1), past: None, same_number: false }));
    }

    #[test]
    fn two_timelines_of_one_number_are_told_apart_by_their_beginning_or_their_first_record() {
        let same = Some(Diverged { fork: Some(FORK), timeline: Timeline(2), past: Some(16), same_number: true });
        let elsewhere = judged(|own, _| {
            own.branches[0].end = Lsn(FORK.0 + 8);
            ended(own, 2, FORK.0 + 16);
        });
        assert_eq!(elsewhere, same);
        let with = |own_record: u32, their_record: Option<u32>| {
            judged(|own, theirs| {
                own.beginnings.insert(Timeline(2), own_record);
                theirs.beginnings.extend(their_record.map(|record| (Timeline(2), record)));
                ended(own, 2, FORK.0 + 16);
            })
        };
        assert_eq!(with(1, Some(1)), None);
        assert_eq!(with(1, None), None, "the primary has it no more");
        assert_eq!(with(1, Some(2)), same);
    }

    #[test]
    fn only_another_node_of_the_same_cluster_that_does_not_write_has_diverged() {
        let past = |own: &mut Cluster| ended(own, 1, FORK.0 + 1);
        assert!(judged(|own, _| past(own)).is_some());
        let of_other_cluster = judged(|own, _| {
            past(own);
            own.identity = Identity::Known(1);
        });
        assert_eq!(of_other_cluster, None);
        let mut world = ended_as(|own, _| past(own));
        world.node_mut(&name("b")).server = world.node(&name("a")).server.clone();
        assert_eq!(diverged(&world, &name("b"), &name("a")), None, "it writes, and its end was read before");
        let mut world = ended_as(|_, theirs| (theirs.end, theirs.timeline) = (None, Timeline(1)));
        world.node_mut(&name("a")).server = Reading::Absent;
        assert_eq!(diverged(&world, &name("a"), &name("a")), None, "it crashed right after its promotion");
    }

    #[test]
    fn a_standby_of_one_that_was_promoted_beside_the_primary_has_diverged_while_the_primary_writes() {
        let on_the_third = |own: &mut Cluster| {
            own.branches.push(Branch { timeline: Timeline(2), end: Lsn(FORK.0 + 8) });
            own.newest_history = Some(Timeline(3));
            ended(own, 3, FORK.0 + 16);
        };
        let found = judged(|own, _| on_the_third(own)).map(|found| (found.fork, found.timeline, found.past));
        assert_eq!(found, Some((Some(Lsn(FORK.0 + 8)), Timeline(3), Some(8))));
        let would_write = judged(|own, _| {
            on_the_third(own);
            own.markers.standby_signal = false;
        });
        assert_eq!(would_write, None, "it may be the primary");
        let mut world = ended_as(|own, _| on_the_third(own));
        world.node_mut(&name("a")).sql_mut().expect("it runs").in_recovery = true;
        assert_eq!(diverged(&world, &name("b"), &name("a")), None, "nobody writes on");
    }

    /// `b` was a primary on timeline 1, and its end is not known.
    fn without_end(own: &mut Cluster) {
        (own.state, own.timeline) = (ControlState::ShutDown, Timeline(1));
        (own.end, own.end_timeline) = (None, None);
        (own.markers.postmaster_opts, own.markers.backup_label) = (true, false);
    }

    #[test]
    fn a_former_primary_that_can_not_tell_its_end_is_taken_to_have_gone_further_and_nobody_else_is() {
        let found = judged(|own, _| without_end(own));
        assert_eq!(found.map(|found| (found.fork, found.past)), Some((Some(FORK), None)));
        type Change = fn(&mut Cluster);
        let others: [(&str, Change); 4] = [
            ("a standby", |own| own.state = ControlState::ShutDownInRecovery),
            ("a copy that never ran", |own| own.markers.postmaster_opts = false),
            ("one that ran on the primary's timeline", |own| own.timeline = Timeline(2)),
            ("one that was promoted since", |own| own.newest_history = Some(Timeline(3))),
        ];
        for (what, change) in others {
            let found = judged(|own, _| {
                without_end(own);
                change(own);
            });
            assert_eq!(found, None, "{what}");
        }
        let mut world = ended_as(|own, _| without_end(own));
        world.node_mut(&name("b")).server = Reading::Unknown("no rights".into());
        assert_eq!(diverged(&world, &name("b"), &name("a")), None, "one that may run");
    }
}
