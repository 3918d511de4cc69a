//! Two nodes of one cluster that accept writes: where they parted, and what each has written since (protocol, section 7).

use crate::observed::Cluster;
use crate::observed::Lost;
use crate::observed::Observed;
use crate::pg::lsn::Lsn;
use crate::pg::lsn::Timeline;
use crate::plan::Refusal;
use crate::topology::NodeName;

/// A node that accepts writes beside another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    pub node: NodeName,
    pub timeline: Timeline,
    /// How much WAL it has written by itself; absent where it can't be told where the two parted.
    pub bytes: Option<u64>,
    /// What that holds, as far as its files tell.
    pub own: Option<Lost>,
}

/// Returns the first two nodes, by name, that accept writes with one system identifier, as a refusal.
#[must_use]
pub fn two_primaries(observed: &Observed) -> Option<Refusal> {
    let (first, second) = find(observed)?;
    let fork = parted(observed, first, second);
    let [first, second] = [first, second].map(|node| Box::new(writer(observed, node, fork)));
    Some(Refusal::TwoPrimaries { first, second, fork })
}

/// Returns where a node that accepts writes parted from another that does so too.
#[must_use]
pub fn parted_from_another(observed: &Observed, node: &NodeName) -> Option<Lsn> {
    let (first, second) = find(observed).filter(|(first, second)| [first, second].contains(&&node))?;
    parted(observed, first, second)
}

fn find(observed: &Observed) -> Option<(&NodeName, &NodeName)> {
    let writers: Vec<(&NodeName, &Cluster)> = observed
        .nodes
        .iter()
        .filter(|(_, seen)| seen.accepts_writes())
        .filter_map(|(name, seen)| Some((name, seen.cluster()?)))
        .collect();
    writers.iter().enumerate().find_map(|(index, (name, own))| {
        let same = writers[index + 1..].iter().find(|(_, other)| other.identity == own.identity);
        same.map(|(second, _)| (*name, *second))
    })
}

/// Returns where two running nodes parted; `None` where their histories don't tell.
fn parted(observed: &Observed, first: &NodeName, second: &NodeName) -> Option<Lsn> {
    let (first, second) = (way(observed, first)?, way(observed, second)?);
    let mut shared = None;
    for (own, their) in first.into_iter().zip(second) {
        if own.0 != their.0 {
            return shared;
        }
        if own.1 != their.1 {
            return own.1.into_iter().chain(their.1).min();
        }
        shared = own.1.or(shared);
    }
    shared
}

/// The timelines that a running node came through, with where it left each; it is still on the last one.
fn way(observed: &Observed, node: &NodeName) -> Option<Vec<(Timeline, Option<Lsn>)>> {
    let seen = observed.node(node);
    let (cluster, running) = (seen.cluster()?, seen.sql()?.timeline);
    let before = cluster.branches.iter().filter(|branch| branch.timeline < running);
    Some(before.map(|branch| (branch.timeline, Some(branch.end))).chain([(running, None)]).collect())
}

fn writer(observed: &Observed, node: &NodeName, fork: Option<Lsn>) -> Writer {
    let seen = observed.node(node);
    let sql = seen.sql();
    Writer {
        node: node.clone(),
        timeline: sql.map_or_else(|| seen.cluster().map_or(Timeline(0), |own| own.timeline), |sql| sql.timeline),
        bytes: sql.zip(fork).map(|(sql, fork)| sql.lsn.0.saturating_sub(fork.0)),
        own: seen.cluster().and_then(|own| own.lost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::history::Branch;
    use crate::report::samples::healthy;
    use crate::report::samples::name;
    use crate::report::samples::pair;

    /// Both accept writes, on these timelines with these ancestors.
    fn parted_at(ways: [(u32, &[(u32, u64)]); 2]) -> Option<Lsn> {
        let mut world = healthy(&pair());
        for (node, (running, before)) in ["a", "b"].into_iter().zip(ways) {
            let seen = world.node_mut(&name(node));
            let branches =
                before.iter().map(|(timeline, end)| Branch { timeline: Timeline(*timeline), end: Lsn(*end) });
            seen.cluster_mut().expect("made").branches = branches.collect();
            let sql = seen.sql_mut().expect("it runs");
            (sql.timeline, sql.in_recovery, sql.lsn) = (Timeline(running), false, Lsn(0x500));
        }
        let Some(Refusal::TwoPrimaries { first, second, fork }) = two_primaries(&world) else { panic!("no refusal") };
        assert_eq!([first.bytes, second.bytes], [fork.map(|fork| 0x500 - fork.0); 2]);
        fork
    }

    #[test]
    fn they_parted_where_the_first_of_them_left_the_last_timeline_that_both_were_on() {
        assert_eq!(parted_at([(1, &[]), (2, &[(1, 0x300)])]), Some(Lsn(0x300)));
        assert_eq!(parted_at([(2, &[(1, 0x300)]), (1, &[])]), Some(Lsn(0x300)));
        assert_eq!(parted_at([(3, &[(1, 0x100), (2, 0x400)]), (2, &[(1, 0x100)])]), Some(Lsn(0x400)));
        assert_eq!(parted_at([(2, &[(1, 0x300)]), (3, &[(1, 0x300)])]), Some(Lsn(0x300)), "one number was taken");
        assert_eq!(parted_at([(2, &[(1, 0x300)]), (2, &[(1, 0x200)])]), Some(Lsn(0x200)), "both took one number");
        assert_eq!(parted_at([(2, &[(1, 0x300)]), (2, &[(1, 0x300)])]), Some(Lsn(0x300)), "and at one position");
    }

    #[test]
    fn of_two_on_one_timeline_without_ancestors_it_can_not_be_told() {
        assert_eq!(parted_at([(1, &[]), (1, &[])]), None);
    }

    #[test]
    fn one_writer_is_none_too_many() {
        assert_eq!(two_primaries(&healthy(&pair())), None);
    }
}
