//! What only a role change will need, on nodes that pgpair did not make: there it is no step of a plan.
//!
//! Without it a switchover would be refused today. On a node whose pg_hba.conf has pgpair's block it is desired like
//! anything else, and its absence a difference.

use crate::observed::Passfile;
use crate::observed::ReplicationRole;
use crate::pg::hba;
use crate::plan::desired;
use crate::plan::drift;
use crate::plan::items::Class;
use crate::plan::items::Draft;
use crate::plan::items::Item;
use crate::plan::items::Why;
use crate::plan::items::bare;
use crate::plan::items::text;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Role;

impl Draft<'_> {
    pub(super) fn role_change(&mut self) {
        if self.topology.nodes.len() == 1 || self.plan.is_halted() {
            return;
        }
        for node in self.topology.nodes.values() {
            let seen = self.seen(&node.name);
            let (Some(cluster), Some(_)) = (seen.cluster(), seen.sql()) else { continue };
            if drift::owns_rules(node, cluster) {
                continue;
            }
            let rules = hba::parse(&cluster.hba).unwrap_or_default();
            let mut missing = desired::hba_block(self.topology, node).lines;
            missing
                .retain(|line| hba::parse(line).unwrap_or_default().iter().any(|wanted| !hba::holds(&rules, wanted)));
            if !missing.is_empty() {
                self.not_ready(&node.name, "pg_hba.conf", Some(missing.join("\n")));
            }
            match node.role {
                Role::Standby => self.candidate(node),
                Role::Primary => self.former_primary(node),
            }
        }
    }

    /// A standby that becomes the primary keeps WAL for those that will follow it.
    fn candidate(&mut self, node: &Node) {
        let Some(cluster) = self.cluster(&node.name) else { return };
        for name in desired::ready_slots(self.topology, node).filter(|name| !cluster.slots.contains_key(name)) {
            self.not_ready(&node.name, &format!("slot {name}"), text("there"));
        }
    }

    /// A primary that becomes a standby has a password to connect with, and may be rewound.
    fn former_primary(&mut self, node: &Node) {
        let Some(cluster) = self.cluster(&node.name) else { return };
        let entries = desired::passfile_entries(self.topology);
        if !entries.is_empty() && matches!(cluster.passfile, Passfile::Absent | Passfile::Wrong) {
            self.not_ready(&node.name, "passfile", text("0600, with the lines that the topology asks for"));
        }
        let wanted = desired::role(self.topology, true);
        let lacks_grants = |role: &&ReplicationRole| !role.rewind_grants && !role.superuser;
        if wanted.rewind_grants && cluster.replication_role.known().filter(lacks_grants).is_some() {
            self.not_ready(&node.name, &format!("role {}", wanted.name), text("EXECUTE for pg_rewind"));
        }
    }

    /// Where the plan has a step for the same subject, that is the item.
    fn not_ready(&mut self, node: &NodeName, subject: &str, wanted: Option<String>) {
        let item = bare(Class::NotReady, Some(node.clone()), subject, Why::RoleChange);
        self.add(Item { wanted, ..item });
    }
}
