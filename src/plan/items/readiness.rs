//! What the standing checks before a switchover find, of every standby that it could go to.

use crate::plan::items::Class;
use crate::plan::items::Draft;
use crate::plan::items::Why;
use crate::plan::items::bare;
use crate::plan::readiness;
use crate::plan::readiness::Finding;
use crate::plan::readiness::Lasts;
use crate::plan::readiness::ReadinessCheck;

impl Draft<'_> {
    pub(super) fn readiness(&mut self) {
        if self.plan.is_halted() {
            return;
        }
        let topology = readiness::roles_as_they_are(self.topology, self.observed);
        let of_all = readiness::candidates(&topology)
            .flat_map(|candidate| readiness::findings(&topology, self.observed, &candidate.name));
        let standing: Vec<Finding> = of_all.filter(|finding| finding.check.about().lasts == Lasts::Standing).collect();
        for finding in standing {
            let is_told = self.items.iter().any(|item| item.node.as_ref() == Some(&finding.node));
            if !(is_told && is_planners(finding.check)) {
                let (node, subject) = (finding.node.clone(), finding.subject.clone());
                self.add(bare(Class::NotReady, Some(node), &subject, Why::Unready(finding)));
            }
        }
    }
}

/// Whether the planner judges the same on its own account, by another name: then its item says it all.
fn is_planners(check: ReadinessCheck) -> bool {
    matches!(check, ReadinessCheck::Reach | ReadinessCheck::SystemIdentifier | ReadinessCheck::Upstream)
}
