//! Whether pg_rewind can bring a node back whose WAL went another way than the primary's. Where it can't, the node is
//! cloned anew.

use crate::observed::Cluster;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::observed::Reading;
use crate::pg::control::ControlState;
use crate::pg::guc;
use crate::pg::version::StandbyMode;
use crate::plan::drift;
use crate::plan::pair::Diverged;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Topology;

/// Returns why the node can't be rewound to what the source has, if it can't.
#[must_use]
pub fn impossible(
    topology: &Topology,
    observed: &Observed,
    node: &Node,
    source: &NodeName,
    diverged: &Diverged,
) -> Option<String> {
    let (seen, leader) = (observed.node(&node.name), observed.node(source));
    let (Some(own), Some(theirs)) = (seen.cluster(), leader.cluster()) else {
        return Some(format!("{} or {source} can't be looked at", node.name));
    };
    by_programs(topology, seen).or_else(|| of_target(own)).or_else(|| of_fork(own, theirs, source, diverged)).or_else(
        || {
            let is_off = |leader: &NodeObserved| {
                let full = leader.sql().and_then(|sql| sql.settings.get("full_page_writes"));
                full.is_some_and(|full| !guc::same(topology.postgresql.version, "full_page_writes", &full.value, "on"))
            };
            if is_off(leader) {
                return Some(format!("{source} runs with full_page_writes off"));
            }
            let may = |role: &crate::observed::ReplicationRole| role.rewind_grants || role.superuser;
            if let Reading::Known(role) = &theirs.replication_role
                && !may(role)
            {
                return Some(format!(
                    "`{}` has no EXECUTE on the functions of pg_rewind on {source}",
                    topology.replication.user
                ));
            }
            let is_shut_out = !drift::admits_rewind(topology, theirs, node);
            is_shut_out.then(|| format!("pg_hba.conf of {source} does not admit {} for pg_rewind", node.name))
        },
    )
}

fn by_programs(topology: &Topology, seen: &NodeObserved) -> Option<String> {
    let major = topology.postgresql.version;
    match major.dialect().standby_mode {
        // Before version 12 pgpair rewinds nothing.
        StandbyMode::RecoveryConf => return Some(format!("pgpair rewinds from version 12 on, and this is {major}")),
        StandbyMode::SignalFile => {}
    }
    let is_there = seen.binaries.known().is_some_and(|binaries| binaries.rewind);
    (!is_there).then(|| format!("there is no pg_rewind of version {major} beside its server"))
}

/// What the directory itself asks for.
fn of_target(own: &Cluster) -> Option<String> {
    if !own.checksums && !own.wal_log_hints {
        return Some("it ran with neither data checksums nor wal_log_hints".into());
    }
    if own.waldir.is_some() || !own.tablespaces.is_empty() {
        return Some("parts of it lie outside its data directory".into());
    }
    let is_clean = matches!(own.state, ControlState::ShutDown | ControlState::ShutDownInRecovery);
    let is_elsewhere = own.end_timeline.is_some_and(|timeline| timeline != own.timeline);
    (!is_clean && is_elsewhere).then(|| {
        format!("it crashed before its first checkpoint on timeline {}", own.end_timeline.unwrap_or(own.timeline))
    })
}

/// The WAL from the fork on, of both.
fn of_fork(own: &Cluster, theirs: &Cluster, source: &NodeName, diverged: &Diverged) -> Option<String> {
    if diverged.same_number {
        return Some(format!("both have a timeline {}, which pg_rewind would take for one", diverged.timeline));
    }
    let Some(fork) = diverged.fork else { return Some(format!("no common point with {source} is known")) };
    let own_is_gone = format!("its own WAL from the last checkpoint before {fork} on is gone");
    if own.wal.is_some_and(|wal| wal.oldest > fork) {
        return Some(own_is_gone);
    }
    // Where it was not counted, the server's own programs will tell.
    let lost = own.lost?;
    let Some(from) = lost.rewind_from else { return Some(own_is_gone) };
    let is_gone = theirs.wal.is_some_and(|wal| wal.oldest > from);
    is_gone.then(|| format!("the WAL of {source} from {from} on is gone"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::Lost;
    use crate::observed::Setting;
    use crate::observed::WalFiles;
    use crate::pg::lsn::Lsn;
    use crate::pg::lsn::Timeline;
    use crate::pg::version::Major;
    use crate::report::samples::healthy;
    use crate::report::samples::name;
    use crate::report::samples::pair;

    const FORK: Lsn = Lsn(0x300_0000);

    /// What is said of `b` that went past the fork, after `change`.
    fn judged(change: impl FnOnce(&mut Observed, &mut Diverged)) -> Option<String> {
        let topology = pair();
        let mut world = healthy(&topology);
        let mut diverged = Diverged { fork: Some(FORK), timeline: Timeline(1), past: Some(8), same_number: false };
        let own = world.node_mut(&name("b")).cluster_mut().expect("made");
        own.checksums = true;
        own.lost = Some(Lost { transactions: 1, last_commit: None, rewind_from: Some(Lsn(0x200_0000)) });
        change(&mut world, &mut diverged);
        impossible(&topology, &world, &topology.nodes[&name("b")], &name("a"), &diverged)
    }

    fn own(world: &mut Observed) -> &mut Cluster {
        world.node_mut(&name("b")).cluster_mut().expect("made")
    }

    fn source(world: &mut Observed) -> &mut Cluster {
        world.node_mut(&name("a")).cluster_mut().expect("made")
    }

    /// What is done to the pair, and what is said then.
    type Obstacle = (fn(&mut Observed, &mut Diverged), &'static str);

    #[test]
    fn each_thing_that_a_rewind_lacks_is_the_reason_for_a_clone() {
        assert_eq!(judged(|_, _| {}), None);
        let obstacles: [Obstacle; 13] = [
            (
                |world, _| world.node_mut(&name("b")).binaries.known_mut().expect("found").rewind = false,
                "there is no pg_rewind of version 15 beside its server",
            ),
            (
                |world, _| (own(world).checksums, own(world).wal_log_hints) = (false, false),
                "it ran with neither data checksums nor wal_log_hints",
            ),
            (|world, _| own(world).waldir = Some("/wal".into()), "parts of it lie outside its data directory"),
            (
                |world, _| drop(own(world).tablespaces.insert("1".into(), "/ssd".into())),
                "parts of it lie outside its data directory",
            ),
            (
                |world, _| {
                    own(world).state = ControlState::InProduction;
                    own(world).end_timeline = Some(Timeline(2));
                },
                "it crashed before its first checkpoint on timeline 2",
            ),
            (|_, diverged| diverged.same_number = true, "both have a timeline 1, which pg_rewind would take for one"),
            (
                |world, _| own(world).wal = Some(WalFiles { oldest: Lsn(FORK.0 + 1), end: Lsn(0x400_0000) }),
                "its own WAL from the last checkpoint before 0/3000000 on is gone",
            ),
            (|_, diverged| diverged.fork = None, "no common point with a is known"),
            (
                |world, _| own(world).lost.as_mut().expect("counted").rewind_from = None,
                "its own WAL from the last checkpoint before 0/3000000 on is gone",
            ),
            (
                |world, _| source(world).wal = Some(WalFiles { oldest: Lsn(0x200_0001), end: Lsn(0x400_0000) }),
                "the WAL of a from 0/2000000 on is gone",
            ),
            (
                |world, _| {
                    let settings = &mut world.node_mut(&name("a")).sql_mut().expect("it runs").settings;
                    let any = settings.values().next().expect("one").clone();
                    settings.insert("full_page_writes".into(), Setting { value: "off".into(), ..any });
                },
                "a runs with full_page_writes off",
            ),
            (
                |world, _| source(world).replication_role.known_mut().expect("made").rewind_grants = false,
                "`repuser` has no EXECUTE on the functions of pg_rewind on a",
            ),
            (
                |world, _| source(world).hba = "host replication all 127.0.0.1/32 trust\n".into(),
                "pg_hba.conf of a does not admit b for pg_rewind",
            ),
        ];
        for (obstacle, said) in obstacles {
            assert_eq!(judged(obstacle).as_deref(), Some(said));
        }
    }

    #[test]
    fn before_12_nothing_is_rewound() {
        let mut topology = pair();
        topology.postgresql.version = Major::new(11).expect("supported");
        let world = healthy(&topology);
        let diverged = Diverged { fork: Some(FORK), timeline: Timeline(1), past: Some(8), same_number: false };
        let said = impossible(&topology, &world, &topology.nodes[&name("b")], &name("a"), &diverged);
        assert_eq!(said.as_deref(), Some("pgpair rewinds from version 12 on, and this is 11"));
    }
}
