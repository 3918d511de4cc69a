//! The simulated world is honest: after every step on real servers, what is seen is what was predicted.

mod support;

use std::collections::BTreeMap;

use pgpair::observed::DataDir;
use pgpair::observed::NodeObserved;
use pgpair::observed::Observed;
use pgpair::observed::Reading;
use pgpair::pg::block;
use pgpair::plan::Request;
use pgpair::plan::Status;
use pgpair::plan::allow;
use pgpair::plan::allow::Allowance;
use pgpair::plan::check::Check;
use pgpair::plan::check::check;
use pgpair::plan::planner::plan_with;
use pgpair::plan::predict::predict;
use pgpair::topology::NodeName;
use pgpair::topology::Topology;
use pgpair::world::World;

use support::Version;
use support::Workspace;

/// What a prediction promises of one node. Texts of files are promised as far as pgpair's blocks go.
fn facts(topology: &Topology, seen: &NodeObserved) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut fact = |name: &str, value: String| facts.insert(name.to_owned(), value);
    let Reading::Known(place) = &seen.place else { return BTreeMap::from([("place".into(), "unknown".into())]) };
    fact("left over", format!("new {} work {} old {}", place.new, place.work, place.old));
    let kind = match &place.data_dir {
        DataDir::Absent | DataDir::Empty => "none",
        DataDir::Unfinished(_) => "unfinished",
        DataDir::Foreign(_) => "foreign",
        DataDir::Cluster(_) => "cluster",
    };
    fact("data directory", kind.to_owned());
    if let Some(cluster) = seen.cluster() {
        let markers = &cluster.markers;
        fact("standby files", format!("{} {}", markers.standby_signal, markers.recovery_conf.is_some()));
        fact("ran", markers.postmaster_opts.to_string());
        fact("state was a standby's", cluster.state.was_standby().to_string());
        for (file, text) in [("postgresql.conf", &cluster.conf.main.text), ("pg_hba.conf", &cluster.hba)] {
            fact(file, format!("{:?}", block::find(text).ok().flatten().map(|found| (found.block, found.intact))));
        }
        fact("passfile", format!("{:?}", cluster.passfile));
        fact("access", format!("{:?}", cluster.wrong_access));
    }
    if let (Some(cluster), Some(sql)) = (seen.cluster(), seen.sql()) {
        fact("role", format!("{:?}", cluster.replication_role.known()));
        fact("slots", format!("{:?}", cluster.slots.keys().collect::<Vec<_>>()));
        fact("in recovery", sql.in_recovery.to_string());
        fact("timeline", sql.timeline.to_string());
        fact("read", format!("{} {}", sql.hba_loaded, sql.conf_loaded));
        for name in topology.parameters.keys() {
            fact(name, sql.settings.get(name).map_or("absent".into(), |setting| setting.pending_restart.to_string()));
        }
    }
    fact("server", seen.server.known().is_some().to_string());
    facts
}

async fn follow(pair: &Workspace, allowed: &[Allowance]) -> Observed {
    follow_with(pair, allowed, None).await
}

async fn follow_with(pair: &Workspace, allowed: &[Allowance], rebuild: Option<&str>) -> Observed {
    let (topology, world) = support::live::reach(pair).await;

    let mut seen = world.observe().await;
    let rebuild = rebuild.map(|node| Request::rebuild(&topology, &NodeName::new(node)).expect("a standby"));
    let plan = plan_with(&topology, &seen, &rebuild.unwrap_or_default());
    let selection = allow::select(&plan, &topology, &seen, &allowed.iter().cloned().collect());
    assert_eq!(selection.left_out.len(), 0);
    for step in selection.chosen {
        let judged = check(&step.node, &step.action, &topology, &seen);
        let mut predicted = seen.clone();
        predict(&step.node, &step.action, &topology, &mut predicted);
        if judged != Check::Satisfied {
            support::live::perform(&world, step).await;
        }
        seen = support::live::until_satisfied(&world, &topology, step).await;
        for name in topology.nodes.keys() {
            let (expected, found) = (facts(&topology, predicted.node(name)), facts(&topology, seen.node(name)));
            assert_eq!(expected, found, "after {}, of {name}", step.id);
        }
    }
    assert_eq!(pgpair::plan::planner::plan(&topology, &seen).status(), Status::Clean);
    seen
}

fn what_is_predicted_is_seen(version: Version) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let pair = Workspace::new(version);
    let with = |parameters: &str| {
        let auth = "auth: scram-sha-256, password: { file: repuser.secret }, connection_limit: 5";
        pair.topology(auth, &format!("  max_wal_senders: 4\n{parameters}"));
    };
    with("  work_mem: 8MB\n");
    runtime.block_on(follow(&pair, &[]));
    with("  work_mem: 16MB\n  max_connections: 55\n");
    runtime.block_on(follow(&pair, &[Allowance::Restart, Allowance::Outage]));
    with("  max_connections: 45\n");
    runtime.block_on(follow(&pair, &[Allowance::Restart, Allowance::Outage]));
    let destroy = [Allowance::Destroy(NodeName::new("b"))];
    runtime.block_on(follow_with(&pair, &destroy, Some("b")));
}

#[test]
fn each_step_on_servers_of_15_leaves_what_was_predicted() {
    what_is_predicted_is_seen(Version(15));
}

#[test]
fn each_step_on_servers_of_10_leaves_what_was_predicted() {
    what_is_predicted_is_seen(Version(10));
}
