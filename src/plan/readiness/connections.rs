//! The way back: the old primary connects to the candidate, and may be rewound to what that has.

use crate::observed::Cluster;
use crate::observed::Reading;
use crate::observed::Reverse;
use crate::plan::readiness::Change;
use crate::plan::readiness::Finding;
use crate::plan::readiness::ReadinessCheck;
use crate::topology::Node;

impl Change<'_> {
    pub(super) fn reverse_connection(&self) -> Vec<Finding> {
        let (from, to) = (&self.primary.name, &self.candidate.name);
        let Reading::Known(Reverse::Refused(words)) = &self.seen(self.candidate).readiness.reverse else {
            return Vec::new();
        };
        let role = &self.topology.replication.user;
        let why = format!("does not let {from} replicate from it: {words}");
        let remedy = format!(
            "see that {to} listens on {}, that its pg_hba.conf lets `{role}` in from {from} for replication, and that {from} has the password",
            self.candidate.host
        );
        vec![ReadinessCheck::ReverseConnection.finding(self.candidate, why, remedy)]
    }

    /// Of the target in pg_control, as pg_rewind sees it; of the source in force.
    pub(super) fn rewind(&self) -> Vec<Finding> {
        let check = ReadinessCheck::Rewind;
        let is = |node: &Node, name: &str, value: &str| {
            self.sql(node).and_then(|sql| sql.settings.get(name)).is_some_and(|setting| setting.value == value)
        };
        let mut findings = Vec::new();
        let target = self.primary;
        let can_be_target = |own: &Cluster| own.checksums || own.wal_log_hints;
        if self.cluster(target).is_some_and(|own| !can_be_target(own)) && !is(target, "wal_log_hints", "on") {
            let why = "has neither data checksums nor wal_log_hints, so that it can't be rewound";
            let remedy = "`wal_log_hints: on` under `parameters`, which takes a restart";
            findings.push(check.finding(target, why, remedy).about("wal_log_hints"));
        }
        for node in [self.primary, self.candidate] {
            if is(node, "full_page_writes", "off") {
                let why = "runs with full_page_writes off, so that nothing can be rewound to what it has";
                findings.push(check.finding(node, why, "turn full_page_writes on").about("full_page_writes"));
            }
        }
        findings
    }
}
