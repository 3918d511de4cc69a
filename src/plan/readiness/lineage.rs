//! One cluster, seen whole: every node in reach, of one identity and one history, and all that follow within it.

use crate::observed::Reading;
use crate::observed::Receiver;
use crate::plan::readiness::Change;
use crate::plan::readiness::Finding;
use crate::plan::readiness::ReadinessCheck;
use crate::topology::Node;

impl Change<'_> {
    pub(super) fn reach(&self) -> Vec<Finding> {
        let look = "make its files readable for the servers' OS user, and run pgpair as that user or root";
        let nodes = self.topology.nodes.values();
        let out_of_reach = nodes.filter_map(|node| {
            let check = ReadinessCheck::Reach;
            let seen = self.seen(node);
            let server = match (&seen.place, &seen.server) {
                (Reading::Unknown(why), _) | (_, Reading::Unknown(why)) => {
                    return Some(check.finding(node, format!("can't be looked at: {why}"), look));
                }
                (_, Reading::Known(server)) => server,
                // One that only follows may come back as what its files say.
                (_, Reading::Absent) if ![self.primary, self.candidate].contains(&node) => return None,
                (_, Reading::Absent) => {
                    let finding = check.finding(node, "is stopped", format!("start {}", node.name));
                    return Some(finding.about("server"));
                }
            };
            if let Reading::Unknown(why) = &server.sql {
                let remedy = "see the server's log, and wait until it answers";
                return Some(check.finding(node, format!("runs but does not answer: {why}"), remedy).about("server"));
            }
            let is_primary = node.name == self.primary.name;
            let why = match seen.sql()?.in_recovery {
                true if is_primary => "is in recovery",
                false if !is_primary => "accepts writes",
                true | false => return None,
            };
            Some(check.finding(node, why, "let the plan without a role change do what it can").about("role"))
        });
        out_of_reach.collect()
    }

    pub(super) fn system_identifier(&self) -> Vec<Finding> {
        let Some(expected) = self.cluster(self.primary).map(|own| &own.identity) else { return Vec::new() };
        let differs = self.topology.standbys().filter_map(|node| {
            let found = self.cluster(node).map(|own| &own.identity).filter(|found| *found != expected)?;
            let why = format!("has system identifier {found}, and {} has {expected}", self.primary.name);
            let remedy = format!("correct host, port and data_dir of {0}, or have {0} cloned anew", node.name);
            Some(ReadinessCheck::SystemIdentifier.finding(node, why, remedy))
        });
        differs.collect()
    }

    /// A history file of a newer timeline than the one that is written would be followed at the next start.
    pub(super) fn lineage(&self) -> Vec<Finding> {
        let check = ReadinessCheck::Lineage;
        let Some(written) = self.sql(self.primary).map(|sql| sql.timeline) else { return Vec::new() };
        let mut findings = Vec::new();
        for node in [self.primary, self.candidate] {
            let newest = self.cluster(node).and_then(|own| own.newest_history);
            if let Some(newest) = newest.filter(|newest| *newest > written) {
                let why = format!("has the history of timeline {newest}, and {} writes {written}", self.primary.name);
                let remedy = "find out where that timeline comes from; a standby that has been on it is cloned anew";
                findings.push(check.finding(node, why, remedy));
            }
        }
        let candidate = self.candidate;
        let on = self.sql(candidate).map(|sql| sql.timeline);
        if let Some(other) = on.filter(|timeline| *timeline != written) {
            let why = format!("is on timeline {other}, and {} writes {written}", self.primary.name);
            let remedy = format!("let {} follow its upstream first", candidate.name);
            findings.push(check.finding(candidate, why, remedy));
        }
        let branches = |node: &Node| self.cluster(node).map(|own| own.branches.as_slice()).unwrap_or_default();
        let forked = branches(candidate).iter().find(|branch| {
            let same = branches(self.primary).iter().find(|other| other.timeline == branch.timeline);
            same.is_some_and(|other| other.end != branch.end)
        });
        if let Some(branch) = forked {
            let why =
                format!("left timeline {} at {}, and {} elsewhere", branch.timeline, branch.end, self.primary.name);
            findings.push(check.finding(candidate, why, format!("`pgpair rebuild {}` clones it anew", candidate.name)));
        }
        findings
    }

    pub(super) fn upstream(&self) -> Vec<Finding> {
        let check = ReadinessCheck::Upstream;
        let is_known = |receiver: &Receiver| {
            receiver.host.is_none() || self.topology.nodes.values().any(|node| receiver.is_from(node))
        };
        let foreign = self.topology.standbys().filter_map(|node| {
            let receiver = self.sql(node)?.receiver.as_ref().filter(|receiver| !is_known(receiver))?;
            let host = receiver.host.as_deref().unwrap_or_default();
            let port = receiver.port.map_or_else(String::new, |port| format!(":{port}"));
            let why = format!("follows {host}{port}, which the topology does not have");
            Some(check.finding(node, why, "let it follow its upstream first"))
        });
        let mut findings: Vec<Finding> = foreign.collect();
        let candidate = self.candidate;
        if let Some(sql) = self.sql(candidate).filter(|sql| sql.in_recovery)
            && !sql.receiver.as_ref().is_some_and(Receiver::streams)
        {
            let status = sql.receiver.as_ref().map(|receiver| receiver.status.as_str());
            let why =
                status.map_or_else(|| "has no walreceiver".to_owned(), |is| format!("has a walreceiver that is {is}"));
            findings.push(check.finding(candidate, why, "see its log, and wait until it streams"));
        }
        findings
    }

    /// Those that will follow the candidate and do not today, the old primary apart: that one ends where the other is.
    pub(super) fn oldest_wal(&self) -> Vec<Finding> {
        let Some(oldest) = self.cluster(self.candidate).and_then(|own| own.wal).map(|wal| wal.oldest) else {
            return Vec::new();
        };
        let new = self.after.followers(self.after.primary()).filter(|node| node.name != self.primary.name);
        let behind = new.filter_map(|node| {
            let seen = self.seen(node);
            let has = self.position_of(node).map(|sql| sql.lsn).or(seen.cluster()?.wal.map(|wal| wal.end));
            let has = has.filter(|has| *has < oldest)?;
            let why = format!("has WAL up to {has}, and {} only from {oldest} on", self.candidate.name);
            let remedy = format!("let {} catch up with its upstream", node.name);
            Some(ReadinessCheck::OldestWal.finding(node, why, remedy))
        });
        behind.collect()
    }
}
