//! The order in which a server and those that stream from it change how they meet: address, encryption, proof.

use crate::observed::Reading;
use crate::pg::block;
use crate::pg::version::StandbyMode;
use crate::plan::Impact;
use crate::plan::access;
use crate::plan::desired;
use crate::plan::drift;
use crate::plan::planner::Draft;
use crate::topology::Node;
use crate::topology::Role;

impl<'a> Draft<'a> {
    /// Rules that every standby can live with as it is come before the standbys change: then none of them comes from an
    /// address, or without a password, that is not let in yet.
    pub(super) fn rules_first(&mut self) {
        for node in self.topology.nodes.values() {
            let seen = self.world.node(&node.name);
            let (Some(cluster), Some(_)) = (seen.cluster(), seen.sql()) else { continue };
            if self.followers_of(node).is_empty() {
                continue;
            }
            let wanted = drift::rules(self.topology, node, cluster).ok().flatten();
            let text = wanted.and_then(|block| block::put_before_rules(&cluster.hba, &block).ok());
            if text.is_some_and(|text| access::rules_come_first(self.topology, &self.world, node, &text)) {
                self.rules(node, Impact::None);
            }
        }
    }

    /// Returns the `primary_conninfo` that a running standby keeps for now, because its upstream is not yet where, or
    /// not yet as, the topology says.
    pub(super) fn kept_conninfo(&mut self, node: &Node) -> Option<String> {
        self.untold.remove(&node.name);
        let seen = self.world.node(&node.name);
        // In 10 and 11 it stands in recovery.conf, and postgresql.conf has no such parameter.
        let is_setting = self.topology.postgresql.version.dialect().standby_mode == StandbyMode::SignalFile;
        if node.role == Role::Primary || !is_setting || !seen.sql().is_some_and(|sql| sql.in_recovery) {
            return None;
        }
        let present = desired::present_conninfo(seen.cluster()?)?;
        let upstream = self.topology.upstream(node);
        let is_told = desired::conninfo_holds(self.topology, node, &present);
        if is_told || access::not_there_yet(self.topology, upstream, self.world.node(&upstream.name)).is_none() {
            return None;
        }
        self.untold.insert(node.name.clone());
        Some(present)
    }

    /// Tells the running standbys of a node that could not be told before how to reach it now.
    pub(super) fn tell_followers(&mut self, node: &Node) {
        if matches!(self.world.node(&node.name).server, Reading::Absent) {
            return;
        }
        let is_there = access::not_there_yet(self.topology, node, self.world.node(&node.name)).is_none();
        let untold = |standby: &&Node| self.untold.contains(&standby.name);
        for standby in self.followers_of(node).into_iter().filter(untold).collect::<Vec<_>>() {
            if is_there {
                // What is to be less waits until it has replayed that the primary has less.
                let least = self.floors_until_replayed(standby).unwrap_or_default();
                self.files_above(standby, Impact::None, &least);
            }
        }
    }
}
