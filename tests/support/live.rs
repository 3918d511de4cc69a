//! A test that carries steps out itself: the real world of a workspace's topology, under its locks.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use pgpair::observed::Observed;
use pgpair::plan::Step;
use pgpair::plan::check::Check;
use pgpair::plan::check::check;
use pgpair::topology;
use pgpair::topology::Topology;
use pgpair::world::World as _;
use pgpair::world::live::Live;
use pgpair::world::live::LiveOptions;
use pgpair::world::lock::Locks;
use pgpair::world::process::use_guard_program;

use super::Workspace;

const TIMEOUT: Duration = Duration::from_secs(60);

/// Reads the topology as it is now, and takes the locks of its nodes.
pub(crate) async fn reach(pair: &Workspace) -> (Arc<Topology>, Live) {
    use_guard_program(PathBuf::from(env!("CARGO_BIN_EXE_pgpair")));
    let source = fs::read(pair.path("pgpair.yaml")).expect("our file");
    let folder = pair.path("").to_string_lossy().trim_end_matches('/').to_owned();
    let topology = Arc::new(topology::parse(&source, "pgpair.yaml", &folder).expect("a good topology"));
    let (_never, interrupt) = tokio::sync::watch::channel(false);
    let options = LiveOptions { base_dir: folder, timeout: TIMEOUT, interrupt: interrupt.clone() };
    let locks = Locks::acquire(&topology, TIMEOUT, interrupt).await.expect("nobody else is here");
    let world = Live::new(topology.clone(), options).await.expect("a world").with_locks(locks);
    (topology, world)
}

pub(crate) async fn perform(world: &Live, step: &Step) {
    let done = world.perform(step, &|_| {}).await;
    done.unwrap_or_else(|failure| panic!("{}: {failure} {:?}", step.id, failure.output));
}

/// Looks until the step's goal is seen; returns that look.
pub(crate) async fn until_satisfied(world: &Live, topology: &Topology, step: &Step) -> Observed {
    let start = Instant::now();
    loop {
        let seen = world.observe().await;
        if check(&step.node, &step.action, topology, &seen) == Check::Satisfied {
            return seen;
        }
        assert!(start.elapsed() < TIMEOUT, "{} is not satisfied", step.id);
    }
}
