//! Role changes on the pure planner and in the simulated cluster.

use pgpair::observed::Observed;
use pgpair::plan::Plan;
use pgpair::plan::planner::plan;
use pgpair::plan::predict::predict;
use pgpair::topology;
use pgpair::topology::NodeName;
use pgpair::topology::Topology;
use pgpair::world::sim::nothing;

fn pair(version: u32) -> Topology {
    let yaml = format!(
        "version: 1\ncluster: sim\npostgresql: {{ version: {version} }}\n\
         replication: {{ user: repuser, auth: scram-sha-256, password: {{ env: SECRET }} }}\n\
         parameters: {{ max_wal_senders: 4, wal_log_hints: on }}\n\
         nodes:\n  a: {{ role: primary, port: 6001, data_dir: /pg/a }}\n  b: {{ role: standby, port: 6002, data_dir: /pg/b }}\n"
    );
    topology::parse(yaml.as_bytes(), "sim.yaml", "/").expect("a good topology")
}

fn made(topology: &Topology, mut world: Observed) -> Observed {
    for step in plan(topology, &world).steps {
        predict(&step.node, &step.action, &step.topology(topology), &mut world);
    }
    world
}

fn shown(plan: &Plan) -> Vec<String> {
    plan.steps
        .iter()
        .map(|step| format!("{}{} {}", step.primary.as_ref().map_or("", |_| "("), step.id, step.impact))
        .collect()
}

#[test]
fn a_switchover_of_a_pair() {
    for version in [10, 12, 15] {
        let topology = pair(version);
        let world = made(&topology, nothing(&topology));
        assert!(plan(&topology, &world).steps.is_empty());
        let swapped = topology.with_primary(&NodeName::new("b"));
        let change = plan(&swapped, &world);
        println!("{version} {:#?} {:?}", shown(&change), change.blocked);
        let world = made(&swapped, world);
        let again = plan(&swapped, &world);
        println!("{version} again {:#?} {:?}", shown(&again), again.blocked);
    }
}
