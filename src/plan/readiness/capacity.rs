//! Room: walsenders, slots and sessions on the candidate, and parameters that all of its standbys must have as high.

use crate::observed::Sender;
use crate::plan::drift::Floors;
use crate::plan::readiness::Change;
use crate::plan::readiness::Finding;
use crate::plan::readiness::ReadinessCheck;
use crate::topology::Node;

impl Change<'_> {
    /// The nodes that will follow the candidate.
    fn followers(&self) -> impl Iterator<Item = &Node> {
        self.after.followers(self.after.primary())
    }

    pub(super) fn walsenders(&self) -> Vec<Finding> {
        let check = ReadinessCheck::Walsenders;
        let candidate = self.candidate;
        let senders = self.sql(candidate).map(|sql| sql.senders.as_slice()).unwrap_or_default();
        let is_there = |node: &Node| senders.iter().any(|sender: &Sender| sender.is_of(&node.name));
        let new = self.followers().filter(|node| !is_there(node)).count();
        let mut findings = Vec::new();
        if let Some(most) = self.number(candidate, "max_wal_senders")
            && senders.len() + new > most
        {
            let why = format!("has {most} walsenders, {} in use, and {new} more nodes would follow it", senders.len());
            findings.push(check.finding(candidate, why, "raise max_wal_senders"));
        }
        let role = self.cluster(candidate).and_then(|own| own.replication_role.known());
        let limit = role.and_then(|role| usize::try_from(role.connection_limit).ok());
        if let Some(limit) = limit.filter(|limit| *limit < self.followers().count()) {
            let user = &self.topology.replication.user;
            let why =
                format!("lets `{user}` connect {limit} times, and {} nodes would follow it", self.followers().count());
            findings.push(check.finding(candidate, why, "raise `connection_limit`").about(format!("role {user}")));
        }
        findings
    }

    pub(super) fn slots(&self) -> Vec<Finding> {
        let candidate = self.candidate;
        let (Some(own), Some(most)) = (self.cluster(candidate), self.number(candidate, "max_replication_slots")) else {
            return Vec::new();
        };
        let wanted = self.followers().filter(|_| self.topology.replication.slots).map(Node::slot_name);
        let new = wanted.filter(|name| !own.slots.contains_key(name)).count();
        if new == 0 || own.slots.len() + new <= most {
            return Vec::new();
        }
        let why = format!("has room for {most} slots, {} are there, and {new} more are needed", own.slots.len());
        vec![ReadinessCheck::Slots.finding(
            candidate,
            why,
            "raise max_replication_slots, or drop slots that feed nobody",
        )]
    }

    /// The candidate as a standby of today's primary, and every other node as one of the candidate.
    pub(super) fn standby_parameters(&self) -> Vec<Finding> {
        let major = self.topology.postgresql.version;
        let of_candidate = self.topology.nodes.values().filter(|node| node.name != self.candidate.name);
        let pairs = of_candidate.map(|node| (self.candidate, node)).chain([(self.primary, self.candidate)]);
        let lower = pairs.flat_map(|(upstream, standby)| {
            let (Some(there), Some(here)) = (self.sql(upstream), self.sql(standby)) else { return Vec::new() };
            let value_of = |name: &str| here.settings.get(name).map(|setting| setting.value.clone());
            let missed = Floors::of_server(major, there).missed(major, value_of);
            let findings = missed.into_iter().map(|(name, least)| {
                let value = value_of(name).unwrap_or_else(|| "its default".to_owned());
                let why = format!("has {name} at {value}, and {} at {least}", upstream.name);
                let remedy = format!("raise {name} on {} to {least} at least", standby.name);
                ReadinessCheck::StandbyParameters.finding(standby, why, remedy).about(name)
            });
            findings.collect()
        });
        lower.collect()
    }
}
