//! What a command asks of the planner beside the topology, as a value: the plan stays a pure function.

use std::collections::BTreeSet;

use crate::topology::NodeName;
use crate::topology::Role;
use crate::topology::Topology;

/// What is asked for beside what the topology says; by default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    rebuild: Option<NodeName>,
    failover: Option<NodeName>,
    discard: BTreeSet<NodeName>,
}

/// Why a node can't be asked to be rebuilt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    #[error("the topology has no node `{node}`; its standbys are {standbys}")]
    NoSuchNode { node: NodeName, standbys: String },
    #[error("`{0}` is the primary: only a standby is rebuilt, from the data that the primary has")]
    IsPrimary(NodeName),
    #[error("`{0}` is the primary of the topology: what is discarded is what another node has written")]
    DiscardsPrimary(NodeName),
}

impl Request {
    /// Asks for a standby to be cloned anew, whatever its state.
    ///
    /// # Errors
    ///
    /// [`BadRequest`] where the topology has no such standby.
    pub fn rebuild(topology: &Topology, node: &NodeName) -> Result<Self, BadRequest> {
        match role_of(topology, node)? {
            Role::Standby => Ok(Self { rebuild: Some(node.clone()), ..Self::default() }),
            Role::Primary => Err(BadRequest::IsPrimary(node.clone())),
        }
    }

    /// Asks for this node to be promoted even if the old primary is gone, where the topology names it as the primary.
    #[must_use]
    pub fn or_failover(mut self, node: &NodeName) -> Self {
        self.failover = Some(node.clone());
        self
    }

    /// Asks for a node that accepts writes beside the primary to give way.
    ///
    /// # Errors
    ///
    /// [`BadRequest`] where the topology has no such standby.
    pub fn and_discard(mut self, topology: &Topology, node: &NodeName) -> Result<Self, BadRequest> {
        match role_of(topology, node)? {
            Role::Standby => {
                self.discard.insert(node.clone());
                Ok(self)
            }
            Role::Primary => Err(BadRequest::DiscardsPrimary(node.clone())),
        }
    }

    /// Whether this node may be promoted without the old primary.
    #[must_use]
    pub fn fails_over_to(&self, node: &NodeName) -> bool {
        self.failover.as_ref() == Some(node)
    }

    /// Whether what this node has written on its own may go.
    #[must_use]
    pub fn discards(&self, node: &NodeName) -> bool {
        self.discard.contains(node)
    }

    /// Whether this node is to be cloned anew.
    #[must_use]
    pub fn rebuilds(&self, node: &NodeName) -> bool {
        self.rebuild.as_ref() == Some(node)
    }
}

fn role_of(topology: &Topology, node: &NodeName) -> Result<Role, BadRequest> {
    topology.nodes.get(node).map(|node| node.role).ok_or_else(|| {
        let standbys: Vec<&str> = topology.standbys().map(|standby| standby.name.as_str()).collect();
        let standbys = if standbys.is_empty() { "none".to_owned() } else { standbys.join(", ") };
        BadRequest::NoSuchNode { node: node.clone(), standbys }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::name;
    use crate::report::samples::pair;

    #[test]
    fn only_a_standby_of_the_topology_can_be_asked_to_be_rebuilt() {
        let topology = pair();
        let ask = |node: &str| Request::rebuild(&topology, &name(node)).map_err(|bad| bad.to_string());
        assert!(ask("b").is_ok_and(|request| request.rebuilds(&name("b")) && !request.rebuilds(&name("a"))));
        assert_eq!(ask("c").unwrap_err(), "the topology has no node `c`; its standbys are b");
        assert!(ask("a").unwrap_err().starts_with("`a` is the primary"));
    }
}
