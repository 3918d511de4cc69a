//! The machines: who else starts servers there, and whether the files of a role change can be written.

use crate::plan::readiness::Change;
use crate::plan::readiness::Finding;
use crate::plan::readiness::ReadinessCheck;
use crate::topology::Node;

impl Change<'_> {
    /// Each program once, though several nodes may be on its machine.
    pub(super) fn supervisors(&self) -> Vec<Finding> {
        let mut told: Vec<(&Node, &String)> = Vec::new();
        for node in self.topology.nodes.values() {
            for name in &self.seen(node).readiness.supervisors {
                if !told.iter().any(|(other, same)| *same == name && other.is_beside(node)) {
                    told.push((node, name));
                }
            }
        }
        let finding = |(node, name): (&Node, &String)| {
            let why = format!("has {name} on its machine, which may start or promote a server by itself");
            let remedy = format!("pause or stop {name} for the time of the switchover");
            ReadinessCheck::Supervisors.finding(node, why, remedy).about(name)
        };
        told.into_iter().map(finding).collect()
    }

    pub(super) fn files(&self) -> Vec<Finding> {
        let unwritable = self.topology.nodes.values().filter_map(|node| {
            let found = self.seen(node).readiness.unwritable.as_ref()?;
            let why = format!("has files that a role change could not write: {found}");
            Some(ReadinessCheck::Files.finding(node, why, "let the servers' OS user own and write them"))
        });
        unwritable.collect()
    }
}
