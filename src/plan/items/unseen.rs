//! What could not be seen for want of a privilege or a secret, each named once.

use crate::observed::Passfile;
use crate::observed::Reading;
use crate::observed::Verifier;
use crate::plan::desired;
use crate::plan::drift;
use crate::plan::items::Class;
use crate::plan::items::Draft;
use crate::plan::items::Why;
use crate::plan::items::bare;
use crate::plan::readiness;
use crate::topology::Node;
use crate::topology::NodeName;

impl Draft<'_> {
    pub(super) fn unseen(&mut self) {
        if self.plan.is_halted() {
            return;
        }
        let primary = &self.topology.primary().name;
        if let (Some(cluster), Some(_)) = (self.cluster(primary), self.seen(primary).sql())
            && let Reading::Unknown(why) = &cluster.replication_role
        {
            let subject = format!("role {}", self.topology.replication.user);
            let remedy = "a role with SELECT on pg_authid (or a superuser) as `admin.user` can see it".to_owned();
            self.not_seen(Some(primary.clone()), &subject, why.clone(), remedy);
        }
        for candidate in readiness::candidates(self.topology) {
            let seen = self.seen(&candidate.name);
            if let (Reading::Unknown(why), Some(_), Some(_)) = (&seen.readiness.reverse, seen.sql(), seen.cluster()) {
                let why = format!("whether {primary} would be let replicate from it was not tried: {why}");
                let remedy = "see pg_hba.conf, and try a replication connection by hand".to_owned();
                self.not_seen(Some(candidate.name.clone()), "reverse connection", why, remedy);
            }
        }
        let places: Vec<String> =
            self.topology.nodes.values().filter_map(|node| self.uncompared(node)).flatten().collect();
        if !places.is_empty() {
            let why = format!("not compared with {}: the topology's secret can't be had here", places.join(", "));
            let remedy = "give pgpair the secret that `replication.password` names, to have it compared".to_owned();
            self.not_seen(None, "replication password", why, remedy);
        }
    }

    /// Where the replication password of a node lies that could not be compared.
    fn uncompared(&self, node: &Node) -> Option<Vec<String>> {
        let cluster = self.cluster(&node.name)?;
        let role = cluster.replication_role.known();
        let is_wanted = desired::role(self.topology, false).with_password && node.name == self.topology.primary().name;
        let verifier = role.is_some_and(|role| is_wanted && role.verifier == Verifier::NotCompared);
        let has_lines = !desired::passfile_entries(self.topology).is_empty() && drift::uses_passfile(node, cluster);
        let passfile = has_lines && cluster.passfile == Passfile::NotCompared;
        let stored = verifier.then(|| format!("the role's on {}", node.name));
        let passfile = passfile.then(|| format!("the passfile of {}", node.name));
        Some(stored.into_iter().chain(passfile).collect())
    }

    fn not_seen(&mut self, node: Option<NodeName>, subject: &str, why: String, remedy: String) {
        self.add(bare(Class::Unseen, node, subject, Why::NotSeen { why, remedy }));
    }
}
