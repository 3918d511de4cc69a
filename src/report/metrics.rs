//! What drift found as metrics of Prometheus, in the text format that node_exporter's textfile collector reads.
//!
//! There is no state file: when a cluster was last compared is read from the textfile that is about to be replaced. The
//! series of a topology go by the file's name, so that two files which name one cluster are told apart.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::plan::items::Class;
use crate::plan::readiness::Lasts;
use crate::plan::readiness::ReadinessCheck;
use crate::report::NodeReport;
use crate::report::NodeState;
use crate::report::drift::ClusterDrift;
use crate::report::status::StatusReport;
use crate::report::status::Switchover;
use crate::topology::Role;

/// A family of series. All of them are gauges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    Compared,
    LastRun,
    LastSuccess,
    ObservationDuration,
    DriftItems,
    NodeObserved,
    NodeUp,
    NodeRole,
    NodeTimeline,
    Streaming,
    Lag,
    SlotActive,
    SlotRetained,
    SwitchoverReady,
    SwitchoverCheck,
}

/// What there is to know of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    pub name: &'static str,
    /// Beside those of [`COMMON_LABELS`].
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

/// The labels of every series.
pub const COMMON_LABELS: [&str; 2] = ["cluster", "file"];

impl Metric {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 15] = [
        Self::Compared,
        Self::LastRun,
        Self::LastSuccess,
        Self::ObservationDuration,
        Self::DriftItems,
        Self::NodeObserved,
        Self::NodeUp,
        Self::NodeRole,
        Self::NodeTimeline,
        Self::Streaming,
        Self::Lag,
        Self::SlotActive,
        Self::SlotRetained,
        Self::SwitchoverReady,
        Self::SwitchoverCheck,
    ];

    /// Returns what there is to know of it.
    #[must_use]
    pub const fn about(self) -> About {
        const fn about(name: &'static str, labels: &'static [&'static str], help: &'static str) -> About {
            About { name, labels, help }
        }
        match self {
            Self::Compared => about(
                "pgpair_cluster_compared",
                &[],
                "Whether the last run could compare the whole cluster with its topology (1) or not (0).",
            ),
            Self::LastRun => {
                about("pgpair_last_run_timestamp_seconds", &[], "When pgpair last tried to compare the cluster.")
            }
            Self::LastSuccess => about(
                "pgpair_last_success_timestamp_seconds",
                &[],
                "When pgpair last compared the whole cluster; absent until it has.",
            ),
            Self::ObservationDuration => about(
                "pgpair_observation_duration_seconds",
                &[],
                "How long the last run took to observe the cluster and to compare it.",
            ),
            Self::DriftItems => about(
                "pgpair_drift_items",
                &["class"],
                "What differs from the topology, by class: drift, pending, not_ready, unseen.",
            ),
            Self::NodeObserved => {
                about("pgpair_node_observed", &["node"], "Whether the node was in reach of pgpair (1) or not (0).")
            }
            Self::NodeUp => about("pgpair_node_up", &["node"], "Whether the node's server answered (1) or not (0)."),
            Self::NodeRole => about(
                "pgpair_node_role",
                &["node", "role"],
                "The role that the node's server has (1), and the one that it has not (0).",
            ),
            Self::NodeTimeline => about("pgpair_node_timeline", &["node"], "The timeline that the node is on."),
            Self::Streaming => about(
                "pgpair_replication_streaming",
                &["node"],
                "Whether the standby receives WAL by a stream (1) or not (0).",
            ),
            Self::Lag => about(
                "pgpair_replication_lag_bytes",
                &["node"],
                "WAL that the primary has written and the standby has not replayed.",
            ),
            Self::SlotActive => about(
                "pgpair_slot_active",
                &["node", "slot"],
                "Whether somebody receives WAL through the replication slot (1) or nobody does (0).",
            ),
            Self::SlotRetained => about(
                "pgpair_slot_retained_bytes",
                &["node", "slot"],
                "WAL that the replication slot holds back, up to the server's position.",
            ),
            Self::SwitchoverReady => about(
                "pgpair_switchover_ready",
                &["to"],
                "Whether the primary could move to this standby by a switchover now (1) or would be refused (0).",
            ),
            Self::SwitchoverCheck => about(
                "pgpair_switchover_check_ok",
                &["to", "check", "lasts"],
                "Whether a check before a switchover found nothing (1) or would refuse it (0), by check; absent where \
                 a node was out of reach and it could not be asked.",
            ),
        }
    }

    /// Returns its series of one cluster.
    fn samples(self, look: &Look, run: Run) -> Vec<Sample> {
        let one = |value: String| vec![Sample { labels: Vec::new(), value }];
        match self {
            Self::Compared => one(bit(look.drift.is_whole)),
            Self::LastRun => one(run.now.to_string()),
            Self::LastSuccess => run.success.map_or_else(Vec::new, |at| one(at.to_string())),
            Self::ObservationDuration => one(format!("{:.3}", look.took.as_secs_f64())),
            Self::DriftItems => items(look.drift),
            Self::NodeObserved => look.nodes(|node| Some(bit(node.state != NodeState::Unknown))),
            Self::NodeUp => look.nodes(|node| Some(bit(node.state == NodeState::Running))),
            Self::NodeRole => look.status.map_or_else(Vec::new, roles),
            Self::NodeTimeline => look.nodes(|node| node.timeline.map(|timeline| timeline.0.to_string())),
            Self::Streaming => look.nodes(|node| {
                let streams = node.receiver.as_ref().is_some_and(crate::observed::Receiver::streams);
                (node.seen_role == Some(Role::Standby)).then(|| bit(streams))
            }),
            Self::Lag => look.nodes(|node| node.lag_bytes.map(|lag| lag.to_string())),
            Self::SlotActive => look.slots(|slot| Some(bit(slot.active))),
            Self::SlotRetained => look.slots(|slot| slot.retained.map(|bytes| bytes.to_string())),
            Self::SwitchoverReady => look.switchovers(|switchover| {
                vec![Sample { labels: vec![switchover.to.to_string()], value: bit(switchover.ready) }]
            }),
            Self::SwitchoverCheck => look.switchovers(checks),
        }
    }
}

/// One value of a metric.
struct Sample {
    /// In the order of the metric's own labels.
    labels: Vec<String>,
    value: String,
}

/// What a look at one cluster has found.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    pub drift: &'a ClusterDrift,
    /// Absent where the cluster could not be looked at.
    pub status: Option<&'a StatusReport>,
    pub took: Duration,
}

/// When a cluster was looked at, and when it was last compared whole, in seconds since 1970.
#[derive(Clone, Copy)]
struct Run {
    now: i64,
    success: Option<i64>,
}

impl Look<'_> {
    fn nodes(&self, value: impl Fn(&NodeReport) -> Option<String>) -> Vec<Sample> {
        let nodes = self.status.into_iter().flat_map(|status| &status.nodes);
        nodes.filter_map(|node| Some(Sample { labels: vec![node.node.to_string()], value: value(node)? })).collect()
    }

    fn slots(&self, value: impl Fn(&crate::observed::Slot) -> Option<String>) -> Vec<Sample> {
        let nodes = self.status.into_iter().flat_map(|status| &status.nodes);
        let slots = nodes.flat_map(|node| node.slots.iter().map(move |(name, slot)| (node, name, slot)));
        let sample = |(node, name, slot): (&NodeReport, &String, _)| {
            Some(Sample { labels: vec![node.node.to_string(), name.clone()], value: value(slot)? })
        };
        slots.filter_map(sample).collect()
    }

    fn switchovers(&self, samples: impl Fn(&Switchover) -> Vec<Sample>) -> Vec<Sample> {
        self.status.into_iter().flat_map(|status| &status.switchover).flat_map(samples).collect()
    }
}

fn bit(holds: bool) -> String {
    u8::from(holds).to_string()
}

fn items(drift: &ClusterDrift) -> Vec<Sample> {
    if drift.cluster.is_none() {
        return Vec::new();
    }
    let classes = [Class::Drift, Class::Pending, Class::NotReady, Class::Unseen];
    let count = |class: Class| drift.items.iter().filter(|item| item.class == class).count();
    let sample = |class: Class| Sample { labels: vec![class.as_str().to_owned()], value: count(class).to_string() };
    classes.into_iter().map(sample).collect()
}

fn roles(status: &StatusReport) -> Vec<Sample> {
    let seen = status.nodes.iter().filter_map(|node| Some((node, node.seen_role?)));
    let samples = seen.flat_map(|(node, seen)| {
        [Role::Primary, Role::Standby]
            .map(|role| Sample { labels: vec![node.node.to_string(), role.to_string()], value: bit(role == seen) })
    });
    samples.collect()
}

/// What could not be seen is no finding of the other checks, and does not pass for a good one.
fn checks(switchover: &Switchover) -> Vec<Sample> {
    let finds = |check: ReadinessCheck| switchover.findings.iter().any(|finding| finding.check == check);
    let is_in_reach = !finds(ReadinessCheck::Reach);
    let asked = ReadinessCheck::ALL.into_iter().filter(|check| is_in_reach || finds(*check));
    let samples = asked.map(|check| {
        let about = check.about();
        let lasts = match about.lasts {
            Lasts::Standing => "standing",
            Lasts::Momentary => "momentary",
        };
        let labels = vec![switchover.to.to_string(), about.id.to_owned(), lasts.to_owned()];
        Sample { labels, value: bit(!finds(check)) }
    });
    samples.collect()
}

/// Renders the metrics of all clusters. `before`: the text of the run before, if there was one; `now`: seconds since 1970.
///
/// A file that is given twice is told once: a series must not be there twice.
#[must_use]
pub fn textfile(looks: &[Look], before: &str, now: i64) -> String {
    let before = Before::read(before);
    let mut clusters: Vec<(&Look, [&str; 2], Run)> = Vec::new();
    for look in looks {
        let file = look.drift.file.as_str();
        if clusters.iter().any(|(_, [_, other], _)| *other == file) {
            continue;
        }
        let known = before.clusters.get(file);
        let cluster = look.drift.cluster.as_deref().or(known.map(String::as_str)).unwrap_or_default();
        // A file that names another cluster than before tells nothing of this one.
        let kept = before.successes.get(file).filter(|_| known.is_some_and(|known| known == cluster));
        let success = if look.drift.is_whole { Some(now) } else { kept.copied() };
        clusters.push((look, [cluster, file], Run { now, success }));
    }
    let mut text = String::new();
    for metric in Metric::ALL {
        let About { name, labels, help } = metric.about();
        let mut series = String::new();
        for (look, common, run) in &clusters {
            for sample in metric.samples(look, *run) {
                let values = common.iter().copied().chain(sample.labels.iter().map(String::as_str));
                let pairs = COMMON_LABELS.iter().chain(labels).zip(values);
                let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
                let _ = writeln!(series, "{name}{{{}}} {}", pairs.join(","), sample.value);
            }
        }
        if !series.is_empty() {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{series}");
        }
    }
    text
}

/// The value of a label, as it stands between its quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// What a textfile of an earlier run tells of each topology file.
#[derive(Default)]
struct Before {
    clusters: BTreeMap<String, String>,
    successes: BTreeMap<String, i64>,
}

impl Before {
    /// What is no line of ours is nothing.
    fn read(text: &str) -> Self {
        let mut before = Self::default();
        for line in text.lines() {
            let Some((name, mut labels, value)) = series(line) else { continue };
            let (Some(file), Some(cluster)) = (labels.remove("file"), labels.remove("cluster")) else { continue };
            if name == Metric::LastRun.about().name {
                before.clusters.insert(file, cluster);
            } else if name == Metric::LastSuccess.about().name
                && let Ok(at) = value.parse()
            {
                before.successes.insert(file, at);
            }
        }
        before
    }
}

/// Reads a line that [`textfile`] has written: name, labels, value.
fn series(line: &str) -> Option<(&str, BTreeMap<String, String>, &str)> {
    let (name, mut rest) = line.split_once('{')?;
    let mut labels = BTreeMap::new();
    loop {
        let (key, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = after.chars();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => match chars.next()? {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                other => value.push(other),
            }
        }
        labels.insert(key.to_owned(), value);
        rest = chars.as_str();
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Some((name, labels, rest.strip_prefix("} ")?)),
        }
    }
}

#[cfg(test)]
mod tests;
