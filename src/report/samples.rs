//! Worlds and plans for the tests of the reports and of the executor: a pair, `a` and `b`.

use crate::observed;
use crate::observed::Identity;
use crate::observed::Observed;
use crate::observed::Program;
use crate::observed::Reading;
use crate::observed::Receiver;
use crate::observed::Sender;
use crate::observed::Slot;
use crate::pg::lsn::Lsn;
use crate::pg::lsn::Timeline;
use crate::plan::Action;
use crate::plan::Impact;
use crate::plan::Plan;
use crate::plan::Reason;
use crate::plan::Refusal;
use crate::plan::Step;
use crate::plan::pair::two_primaries as found_two_primaries;
use crate::plan::planner::plan;
use crate::plan::predict::predict;
use crate::topology;
use crate::topology::NodeName;
use crate::topology::Topology;

pub(crate) fn name(node: &str) -> NodeName {
    NodeName::new(node)
}

pub(crate) fn pair() -> Topology {
    let yaml = "version: 1\ncluster: orders\npostgresql: { version: 15 }\n\
                replication: { user: repuser, auth: scram-sha-256, password: { env: SECRET } }\n\
                parameters: { max_wal_senders: 5 }\n\
                nodes:\n  a: { role: primary, port: 5433, data_dir: /srv/a }\n  \
                b: { role: standby, port: 5434, data_dir: /srv/b }\n";
    topology::parse(yaml.as_bytes(), "orders.yaml", "/srv").expect("a good topology")
}

/// A primary and `nodes` - 1 standbys, each with this many parameters of its own, which are `value`.
pub(crate) fn many(nodes: usize, parameters: usize, value: &str) -> Topology {
    let mut yaml = "version: 1\ncluster: orders\npostgresql: { version: 15 }\n\
                    replication: { user: repuser, auth: trust }\nparameters: { max_wal_senders: 20 }\nnodes:\n"
        .to_owned();
    for node in 0..nodes {
        let role = if node == 0 { "primary" } else { "standby" };
        let port = 5433 + node;
        yaml.push_str(&format!("  n{node}:\n    role: {role}\n    port: {port}\n    data_dir: /srv/n{node}\n"));
        if parameters > 0 {
            yaml.push_str("    parameters:\n");
        }
        for parameter in 0..parameters {
            yaml.push_str(&format!("      application.parameter_{parameter}: '{value}{parameter}'\n"));
        }
    }
    topology::parse(yaml.as_bytes(), "orders.yaml", "/srv").expect("a good topology")
}

/// Binaries, and nothing else.
pub(crate) fn nothing(topology: &Topology) -> Observed {
    let mut world = observed::nothing::nothing(topology);
    for binaries in world.nodes.values_mut().filter_map(|seen| seen.binaries.known_mut()) {
        binaries.version = "15.18".into();
        binaries.basebackup = Reading::Known(Program { path: "/pg/bin/pg_basebackup".into(), major: 15 });
    }
    world
}

/// The world after every step of its plan.
pub(crate) fn made(topology: &Topology, mut world: Observed) -> Observed {
    for step in plan(topology, &world).steps {
        predict(&step.node, &step.action, &step.topology(topology), &mut world);
    }
    world
}

/// A cluster that was made from nothing, where a plan has nothing left to do.
pub(crate) fn living(topology: &Topology) -> Observed {
    let world = made(topology, nothing(topology));
    assert_eq!(plan(topology, &world).steps, []);
    world
}

/// The pair as it is when a plan has nothing left to do.
pub(crate) fn healthy(topology: &Topology) -> Observed {
    let mut world = made(topology, nothing(topology));
    for node in world.nodes.values_mut() {
        if let Some(cluster) = node.cluster_mut() {
            cluster.identity = Identity::Known(7_446_744_073_709_551_615);
            cluster.checksums = true;
        }
        if let Some(sql) = node.sql_mut() {
            (sql.version, sql.timeline) = ("15.18".into(), Timeline(1));
        }
    }
    let wal_status = Some("reserved".into());
    let slot = Slot { physical: true, active: true, reserved: true, wal_status, retained: Some(0x148) };
    let cluster = world.node_mut(&name("a")).cluster_mut().expect("it was created");
    cluster.slots.insert("pgpair_b".into(), slot);
    let primary = world.node_mut(&name("a")).sql_mut().expect("it runs");
    primary.lsn = Lsn(0x300_0148);
    primary.senders = vec![Sender {
        application_name: "b".into(),
        client_addr: Some("127.0.0.1".into()),
        state: "streaming".into(),
        slot: Some("pgpair_b".into()),
        sent: Some(Lsn(0x300_0148)),
        flushed: Some(Lsn(0x300_0148)),
        replayed: Some(Lsn(0x300_0100)),
        sync_state: "async".into(),
    }];
    let standby = world.node_mut(&name("b")).sql_mut().expect("it runs");
    (standby.lsn, standby.replayed) = (Lsn(0x300_0148), Some(Lsn(0x300_0100)));
    standby.receiver = Some(Receiver {
        status: "streaming".into(),
        host: Some("127.0.0.1".into()),
        port: Some(5433),
        user: Some("repuser".into()),
        slot: Some("pgpair_b".into()),
        application_name: Some("b".into()),
        timeline: Timeline(1),
    });
    world
}

pub(crate) fn step(id: &str, node: &str, action: Action, impact: Impact, reason: Reason) -> Step {
    Step { id: id.into(), node: name(node), action, impact, reason, diff: Vec::new(), only_for: None, primary: None }
}

pub(crate) fn plan_of(steps: Vec<Step>) -> Plan {
    Plan {
        cluster: "orders".into(),
        steps,
        blocked: Vec::new(),
        found: "primary_runs",
        role_change: None,
        asynchronous: None,
        topology_digest: "t".into(),
        observation_digest: "o".into(),
    }
}

/// Two nodes that accept writes.
pub(crate) fn two_primaries() -> Refusal {
    let mut world = healthy(&pair());
    world.node_mut(&name("b")).sql_mut().expect("it runs").in_recovery = false;
    found_two_primaries(&world).expect("both accept writes")
}
