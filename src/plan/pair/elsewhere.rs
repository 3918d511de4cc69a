//! The rows of the joint state where the topology's primary is not the one that accepts writes, or would.
//!
//! Who accepts writes is found first; where nobody does, who would if it were started; and where nobody would, a role
//! change was left half-way (protocol, sections 2 and 8).

use crate::observed::Cluster;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::observed::Sql;
use crate::observed::comes_up_as;
use crate::pg::conninfo::Conninfo;
use crate::plan::Refusal;
use crate::plan::desired;
use crate::plan::pair;
use crate::plan::pair::PairState;
use crate::plan::pair::has_no_more_than;
use crate::plan::pair::is_further;
use crate::plan::pair::is_safe;
use crate::plan::pair::needs_standby_files;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Role;
use crate::topology::Topology;

/// Classifies the nodes where the topology's primary does not accept writes; `None` where it would, or where what is
/// there says nothing of a role change.
pub(super) fn classify(topology: &Topology, observed: &Observed) -> Option<PairState> {
    let primary = topology.primary();
    let seen = observed.node(&primary.name);
    let own = seen.cluster()?;
    if seen.accepts_writes() {
        return None;
    }
    let is_other = |name: &&NodeName| **name != primary.name;
    let of_cluster = |name: &&NodeName| observed.node(name).cluster().is_some_and(|it| it.identity == own.identity);
    let others: Vec<&NodeName> = topology.nodes.keys().filter(is_other).filter(of_cluster).collect();
    let find = |is: fn(&NodeObserved) -> bool| others.iter().copied().filter(move |name| is(observed.node(name)));

    if let Some(writer) = find(NodeObserved::accepts_writes).next() {
        return Some(PairState::Elsewhere { primary: writer.clone() });
    }
    if is_pending(seen) {
        return Some(PairState::Pending);
    }
    if let Some(pending) = find(is_pending).next() {
        return Some(PairState::LeftElsewhere { primary: pending.clone(), is_fenced: false });
    }
    // Promoted since, and stopped.
    let newest = find(is_stopped_primary).find(|name| is_further(observed.node(name), seen));
    if let Some(newest) = newest.filter(|_| seen.server.is_absent()) {
        // Each has what the other has not, and nobody has given one of them up.
        if is_stopped_primary(seen) && pair::diverged(observed, &primary.name, newest).is_some() {
            return Some(PairState::Doubtful(Refusal::FormerPrimary { node: newest.clone() }));
        }
        return Some(PairState::LeftElsewhere { primary: newest.clone(), is_fenced: false });
    }
    if is_stopped_primary(seen) {
        return None;
    }
    if is_fenced_primary(seen) {
        return fenced(observed, &others, own, seen);
    }
    if !seen.server.is_absent() && seen.sql().is_none() {
        return None;
    }
    let candidate = seen.sql().filter(|sql| sql.in_recovery);
    if candidate.is_some()
        && let Some(name) = find(pair::hangs).next()
    {
        let why = "runs, and does not answer".to_owned();
        return Some(PairState::Lost { primary: name.clone(), is_in_reach: true, why });
    }
    let mut stopped = find(is_stopped_primary).chain(find(is_fenced_primary));
    if let Some(from) = stopped.next() {
        if let Some(second) = stopped.next() {
            return Some(PairState::Doubtful(Refusal::FormerPrimary { node: second.clone() }));
        }
        return Some(left_by(observed, &others, from, own, candidate));
    }
    if candidate.is_some()
        && let Some(lost) = out_of_reach(topology, observed)
    {
        return Some(lost);
    }
    let Some(sql) = candidate else { return all_standbys(topology, observed, own) };
    let state = headless(topology, observed, &others, sql).map_or_else(PairState::Doubtful, |()| PairState::Headless);
    Some(state)
}

/// A running standby that acts on its promote file at the next signal.
fn is_pending(seen: &NodeObserved) -> bool {
    seen.cluster().is_some_and(|own| own.markers.promote) && seen.sql().is_some_and(|sql| sql.in_recovery)
}

/// Stopped, and started it would accept writes.
fn is_stopped_primary(seen: &NodeObserved) -> bool {
    let comes_up = |own: &Cluster| comes_up_as(&own.markers, own.major) == Role::Primary;
    let would_write = |own: &Cluster| comes_up(own) && !own.markers.recovery_signal && !needs_standby_files(own);
    seen.server.is_absent() && seen.cluster().is_some_and(would_write)
}

/// Whoever may be the old primary, and neither its files nor its server can be seen.
fn out_of_reach(topology: &Topology, observed: &Observed) -> Option<PairState> {
    topology.standbys().find_map(|node| {
        let seen = observed.node(&node.name);
        let why = seen.place.unknown().filter(|_| seen.sql().is_none())?;
        let why = format!("is out of reach: {why}");
        Some(PairState::Lost { primary: node.name.clone(), is_in_reach: false, why })
    })
}

/// Stopped, or on its way there, with a fence: by its pg_control it was a primary.
fn is_fenced_primary(seen: &NodeObserved) -> bool {
    let was_primary = |own: &Cluster| own.markers.postmaster_opts && !needs_standby_files(own);
    let is_fenced =
        |own: &Cluster| comes_up_as(&own.markers, own.major) == Role::Standby && !own.markers.recovery_signal;
    seen.sql().is_none()
        && seen.server.unknown().is_none()
        && seen.cluster().is_some_and(|own| was_primary(own) && is_fenced(own))
}

/// The topology's primary is stopped and fenced: the fence goes, and it is started, once nobody else can be one.
fn fenced(observed: &Observed, others: &[&NodeName], own: &Cluster, seen: &NodeObserved) -> Option<PairState> {
    // While it is on its way down, it does not answer.
    seen.server.is_absent().then(|| {
        let safe = others.iter().try_for_each(|name| is_safe(name, observed.node(name), own));
        safe.map_or_else(PairState::Doubtful, |()| PairState::Fenced)
    })
}

/// Another node was the primary and is stopped: its role is taken over where all of its WAL is here.
fn left_by(
    observed: &Observed,
    others: &[&NodeName],
    from: &NodeName,
    own: &Cluster,
    candidate: Option<&Sql>,
) -> PairState {
    let old = observed.node(from);
    let is_fenced = is_fenced_primary(old);
    let stays = PairState::LeftElsewhere { primary: from.clone(), is_fenced };
    let Some(sql) = candidate else { return stays };
    let third = others.iter().filter(|name| **name != from);
    let is_alone = third.into_iter().try_for_each(|name| is_safe(name, observed.node(name), own)).is_ok();
    let Some(cluster) = old.cluster().filter(|_| is_alone) else { return stays };
    // Of those that are not stopped yet only a fenced one is told for the old primary.
    let is_ending = !old.server.is_absent() && cluster.state.is_going_down();
    let has_all = old.server.is_absent() && cluster.clean_end().is_some_and(|end| end <= sql.lsn);
    let knows_it = own.newest_timeline().max(sql.timeline) >= cluster.newest_timeline();
    if (has_all || is_ending) && knows_it { PairState::Ended { from: from.clone(), is_fenced } } else { stays }
}

/// The topology's primary is a stopped standby of a node that is in recovery itself, and every node can be seen.
fn all_standbys(topology: &Topology, observed: &Observed, own: &Cluster) -> Option<PairState> {
    let is_standby = comes_up_as(&own.markers, own.major) == Role::Standby && !own.markers.recovery_signal;
    let is_seen = |seen: &NodeObserved| seen.place.unknown().or_else(|| seen.server.unknown()).is_none();
    if !is_standby || !observed.nodes.values().all(is_seen) {
        return None;
    }
    let servers: Option<Vec<&Node>> = told(own).iter().map(|address| node_at(topology, address)).collect();
    let upstream =
        servers?.into_iter().find(|node| observed.node(&node.name).sql().is_some_and(|sql| sql.in_recovery))?;
    Some(PairState::AllStandbys { upstream: upstream.name.clone() })
}

/// Every node is in recovery: the topology's primary is promoted if it follows one of these nodes and has all that any of
/// them has.
fn headless(topology: &Topology, observed: &Observed, others: &[&NodeName], sql: &Sql) -> Result<(), Refusal> {
    let primary = topology.primary();
    follows_a_node(topology, observed, sql)?;
    for (name, seen) in observed.nodes.iter().filter(|(name, _)| **name != primary.name) {
        if let Some(why) = seen.place.unknown().or_else(|| seen.server.unknown()) {
            return Err(Refusal::OutOfReach { node: name.clone(), why: why.to_owned() });
        }
    }
    let (node, found) = (primary.name.clone(), "is in recovery".to_owned());
    if others.is_empty() {
        return Err(Refusal::RolesMoved { node, found });
    }
    others.iter().try_for_each(|name| has_no_more_than(name, observed.node(name), &primary.name, sql.lsn))
}

/// Never promote inside someone else's cluster: its walreceiver, or with none its conninfo, leads to one of the nodes, and
/// to nobody else. Where every node has the same list of servers, it stands in it itself.
fn follows_a_node(topology: &Topology, observed: &Observed, sql: &Sql) -> Result<(), Refusal> {
    let primary = topology.primary();
    let receiver = sql.receiver.as_ref().and_then(|receiver| Some((receiver.host.clone()?, receiver.port?)));
    let told = || observed.node(&primary.name).cluster().map(told).unwrap_or_default();
    let servers = receiver.map_or_else(told, |address| vec![address]);
    let is_itself = |(host, port): &&(String, u16)| primary.host == *host && primary.port == *port;
    let mut others = servers.iter().filter(|address| !is_itself(address)).peekable();
    if others.peek().is_none() {
        let found = "is in recovery and follows nobody".to_owned();
        return Err(Refusal::RolesMoved { node: primary.name.clone(), found });
    }
    match others.find(|address| node_at(topology, address).is_none()) {
        None => Ok(()),
        Some((host, port)) => Err(Refusal::Follows { node: primary.name.clone(), server: format!("{host}:{port}") }),
    }
}

/// Where the files tell a standby to connect to: one after the other, until one lets it in.
fn told(cluster: &Cluster) -> Vec<(String, u16)> {
    let conninfo = desired::present_conninfo(cluster).and_then(|text| Conninfo::parse(&text).ok());
    let conninfo = conninfo.filter(|conninfo| conninfo.get("hostaddr").or_else(|| conninfo.get("host")).is_some());
    conninfo.iter().flat_map(Conninfo::servers).map(|(host, port)| (host.to_owned(), port)).collect()
}

/// The node at an address, if it is not the topology's primary.
fn node_at<'t>(topology: &'t Topology, (host, port): &(String, u16)) -> Option<&'t Node> {
    let others = topology.nodes.values().filter(|node| node.role == Role::Standby);
    others.into_iter().find(|node| node.host == *host && node.port == *port)
}

#[cfg(test)]
mod tests {
    use super::follows_a_node;
    use crate::plan::Refusal;
    use crate::report::samples::living;
    use crate::report::samples::name;
    use crate::topology;

    #[test]
    fn each_server_that_a_standby_without_a_stream_may_connect_to_is_a_node() {
        let yaml = "version: 1\ncluster: orders\npostgresql: { version: 15 }\n\
                    replication: { user: repuser, auth: trust }\n\
                    nodes:\n  a: { role: primary, port: 5433, data_dir: /pg/a }\n  \
                    b: { role: standby, port: 5434, data_dir: /pg/b }\n";
        let topology = topology::parse(yaml.as_bytes(), "orders.yaml", "/srv").expect("a good topology");
        let swapped = topology.with_primary(&name("b"));
        let host = topology.primary().host.clone();
        let judged = |conninfo: &str| {
            let mut world = living(&topology);
            let conninfo = format!("primary_conninfo = '{}'\n", conninfo.replace('@', &host));
            world.node_mut(&name("b")).cluster_mut().expect("it has data").conf.main.text = conninfo;
            let sql = world.node_mut(&name("b")).sql_mut().expect("it runs");
            sql.receiver = None;
            let sql = sql.clone();
            follows_a_node(&swapped, &world, &sql)
        };
        for ours in ["host=@ port=5433", "host=@,@ port=5434,5433", "postgresql://@:5433,@:5434/"] {
            assert_eq!(judged(ours), Ok(()), "{ours}");
        }
        for strange in ["host=@,far port=5433,5433", "host=far,@ port=5433", "host=@ port=7001"] {
            assert!(matches!(judged(strange), Err(Refusal::Follows { .. })), "{strange}");
        }
        for nobody in ["", "user=repuser", "host=@ port=5434"] {
            assert!(matches!(judged(nobody), Err(Refusal::RolesMoved { .. })), "{nobody}");
        }
    }
}
