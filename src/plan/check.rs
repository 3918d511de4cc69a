//! Stub.
use crate::observed::Observed;
use crate::plan::Action;
use crate::plan::Refusal;
use crate::topology::NodeName;
use crate::topology::Topology;

/// The answer of the one predicate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The goal is reached.
    Satisfied,
    /// The goal is not reached, and the step may be done.
    Ready,
    Blocked(Refusal),
}

/// Stub.
#[must_use]
pub fn check(_node: &NodeName, _action: &Action, _topology: &Topology, _observed: &Observed) -> Check {
    Check::Ready
}
