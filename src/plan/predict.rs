//! Stub.
use crate::observed::Observed;
use crate::plan::Action;
use crate::topology::NodeName;
use crate::topology::Topology;

/// Stub.
pub fn predict(_node: &NodeName, _action: &Action, _topology: &Topology, _observed: &mut Observed) {}
