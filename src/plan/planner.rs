//! Stub.
use crate::observed::Observed;
use crate::plan::Plan;
use crate::topology::Topology;

/// Returns the steps that turn `observed` into what `topology` asks for.
#[must_use]
pub fn plan(topology: &Topology, _observed: &Observed) -> Plan {
    Plan {
        cluster: topology.cluster.clone(),
        steps: Vec::new(),
        blocked: Vec::new(),
        topology_digest: String::new(),
        observation_digest: String::new(),
    }
}
