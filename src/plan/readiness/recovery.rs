//! The candidate's recovery: nothing ends, delays, pauses or holds it up, and little is left to do.

use std::collections::BTreeMap;

use crate::observed::Cluster;
use crate::pg::conf;
use crate::pg::conf::Entry;
use crate::pg::guc;
use crate::pg::lsn::Lsn;
use crate::plan::desired;
use crate::plan::drift;
use crate::plan::readiness::Change;
use crate::plan::readiness::Finding;
use crate::plan::readiness::ReadinessCheck;
use crate::topology::Node;

/// WAL that may be left to receive or to replay: PostgreSQL replays some 100 MB in a second, and that long nobody can
/// write. A standby that keeps up is a few kilobytes behind, and a few megabytes under a heavy load.
pub(super) const MOST_LAG: u64 = 64 * 1024 * 1024;

/// How long a transaction may last before replay, or the new primary, is not to wait for its end: longer than those of
/// applications do, and than `max_standby_streaming_delay` is by default.
pub(super) const LONG: u64 = 60;

impl Change<'_> {
    pub(super) fn recovery_end(&self) -> Vec<Finding> {
        let check = ReadinessCheck::RecoveryEnd;
        let mut findings = Vec::new();
        for node in [self.primary, self.candidate] {
            for (name, found) in self.ends_of(node) {
                let remedy = format!("take `{name}` out, and restart {} if it runs with it", node.name);
                findings.push(check.finding(node, found, remedy).about(name));
            }
            let Some(cluster) = self.cluster(node) else { continue };
            if cluster.markers.recovery_signal {
                let found = check.finding(node, "has a recovery.signal", "remove that file");
                findings.push(found.about("recovery.signal"));
            }
        }
        if self.cluster(self.candidate).is_some_and(|own| own.markers.promote) {
            let why = "has a `promote` file, and is promoted at the next signal that its server gets";
            let remedy = "find out who wants it promoted; restarted, it has forgotten that";
            findings.push(check.finding(self.candidate, why, remedy).about("promote file"));
        }
        findings
    }

    /// By name, what was seen of settings that would end the recovery of a node, in force or in its files.
    fn ends_of(&self, node: &Node) -> BTreeMap<String, String> {
        let mut ends = BTreeMap::new();
        let cluster = self.cluster(node);
        for entry in cluster.map(recovery_conf).unwrap_or_default() {
            let is_target = entry.name.starts_with("recovery_target");
            let is_latest = entry.name == "recovery_target_timeline" && entry.value.eq_ignore_ascii_case("latest");
            if (is_target && !is_latest) || entry.name == "trigger_file" {
                ends.insert(entry.name.clone(), format!("has {} in recovery.conf:{}", entry.name, entry.line));
            }
        }
        let values = cluster.and_then(|own| own.conf.read().ok()).map(|read| read.values).unwrap_or_default();
        let in_files = |name: &str| values.get(name).map(|placed| placed.value.clone()).into_iter().collect();
        for (name, _) in desired::endless_recovery(self.topology, in_files) {
            let place = &values[&name];
            let found = format!("has {name} in {}:{}", place.file, place.line);
            ends.insert(name, found);
        }
        // A primary goes by none of it until it is started as a standby, by its files then.
        if let Some(sql) = self.sql(node).filter(|sql| sql.in_recovery) {
            let in_force = |name: &str| sql.settings.get(name).map(|it| it.value.clone()).into_iter().collect();
            for (name, _) in desired::endless_recovery(self.topology, in_force) {
                let found = format!("runs with {name}");
                ends.insert(name, found);
            }
        }
        ends
    }

    pub(super) fn apply_delay(&self) -> Vec<Finding> {
        let (major, name) = (self.topology.postgresql.version, "recovery_min_apply_delay");
        let candidate = self.candidate;
        let in_force = self.sql(candidate).and_then(|sql| sql.settings.get(name)).map(|setting| setting.value.clone());
        let in_file = self.cluster(candidate).map(recovery_conf).unwrap_or_default();
        let in_file = in_file.into_iter().filter(|entry| entry.name == name).map(|entry| entry.value);
        let is_delay = |value: String| !guc::same(major, name, &value, "0");
        let is_delayed =
            in_force.into_iter().chain(in_file).any(is_delay) || drift::is_delayed(self.topology, candidate);
        let finding = || {
            let remedy = format!("take `{name}` off {}, or let another standby become the primary", candidate.name);
            ReadinessCheck::ApplyDelay.finding(candidate, "is a delayed standby", remedy)
        };
        is_delayed.then(finding).into_iter().collect()
    }

    pub(super) fn lag(&self) -> Vec<Finding> {
        let (Some(there), Some(here)) = (self.sql(self.primary), self.position_of(self.candidate)) else {
            return Vec::new();
        };
        let left = |position: Lsn| there.lsn.0.saturating_sub(position.0);
        let (to_receive, to_replay) = (left(here.lsn), left(here.replayed.unwrap_or(here.lsn)));
        let why = if to_receive > MOST_LAG {
            format!("has {to_receive} bytes of WAL still to receive, and {MOST_LAG} are allowed")
        } else if to_replay > MOST_LAG {
            format!("has {to_replay} bytes of WAL still to replay, and {MOST_LAG} are allowed")
        } else {
            return Vec::new();
        };
        vec![ReadinessCheck::Lag.finding(self.candidate, why, "wait until it has caught up")]
    }

    pub(super) fn replay_paused(&self) -> Vec<Finding> {
        let is_paused = self.sql(self.candidate).is_some_and(|sql| sql.in_recovery && sql.replay_paused);
        let finding = || {
            let remedy = format!("`SELECT pg_wal_replay_resume()` on {}", self.candidate.name);
            ReadinessCheck::ReplayPaused.finding(self.candidate, "has its replay paused", remedy)
        };
        is_paused.then(finding).into_iter().collect()
    }

    pub(super) fn long_transactions(&self) -> Vec<Finding> {
        let oldest = self.sql(self.candidate).and_then(|sql| sql.busy.transaction.as_ref());
        let Some(oldest) = oldest.filter(|oldest| oldest.seconds >= LONG) else { return Vec::new() };
        let why = format!("has a transaction that is {} s old (pid {})", oldest.seconds, oldest.what);
        let remedy =
            format!("wait for its end, or `SELECT pg_terminate_backend({})` on {}", oldest.what, self.candidate.name);
        vec![ReadinessCheck::LongTransactions.finding(self.candidate, why, remedy)]
    }
}

/// The lines of recovery.conf (10, 11).
fn recovery_conf(cluster: &Cluster) -> Vec<Entry> {
    cluster.markers.recovery_conf.as_deref().map(conf::parse).map(|parsed| parsed.entries).unwrap_or_default()
}
