//! The textfile of what was found, and its reference in docs/.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::observed::Observed;
use crate::observed::Reading;
use crate::plan::planner::plan;
use crate::report::samples::healthy;
use crate::report::samples::name;
use crate::report::samples::pair;

/// A cluster as it was found, kept for as long as its metrics are made.
struct Found {
    drift: ClusterDrift,
    status: Option<StatusReport>,
}

fn found(file: &str, change: impl FnOnce(&mut Observed)) -> Found {
    let mut observed = healthy(&pair());
    change(&mut observed);
    let drift = ClusterDrift::of(file, &pair(), &observed, &plan(&pair(), &observed));
    Found { drift, status: Some(StatusReport::of(&pair(), &observed, None)) }
}

fn out_of_reach(observed: &mut Observed) {
    let seen = observed.node_mut(&name("b"));
    seen.place = Reading::Unknown("no route to host".into());
    seen.server = Reading::Unknown("no route to host".into());
}

fn unreadable(file: &str) -> Found {
    Found { drift: ClusterDrift::not_compared(file, Vec::new()), status: None }
}

fn metrics(found: &[Found], before: &str, now: i64) -> String {
    let took = Duration::from_millis(87);
    let looks = found.iter().map(|Found { drift, status }| Look { drift, status: status.as_ref(), took });
    textfile(&looks.collect::<Vec<_>>(), before, now)
}

/// The lines of one metric, without their comments.
fn of(metric: Metric, text: &str) -> Vec<String> {
    let start = format!("{}{{", metric.about().name);
    text.lines().filter(|line| line.starts_with(&start)).map(str::to_owned).collect()
}

const NOW: i64 = 1_790_000_000;

#[test]
fn a_healthy_pair_and_one_with_a_node_out_of_reach_as_metrics() {
    let stopped = |observed: &mut Observed| observed.node_mut(&name("b")).server = Reading::Absent;
    let all = [found("orders.yaml", |_| ()), found("lost.yaml", out_of_reach), found("down.yaml", stopped)];
    insta::assert_snapshot!(metrics(&all, "", NOW));
}

#[test]
fn every_metric_is_of_the_names_that_prometheus_asks_for() {
    let text = metrics(&[found("orders.yaml", |_| ())], "", NOW);
    let mut names = BTreeSet::new();
    for metric in Metric::ALL {
        let About { name, labels, help } = metric.about();
        assert!(names.insert(name), "{name} is there twice");
        assert!(name.starts_with("pgpair_") && help.ends_with('.') && !help.contains(['\n', '\\']), "{name}");
        let keys = COMMON_LABELS.iter().chain(labels);
        let is_good = |key: &str| key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        assert!(is_good(name) && keys.clone().all(|key| is_good(key)), "{name}");
        let lines = of(metric, &text);
        assert!(!lines.is_empty(), "a healthy pair has no {name}");
        for line in lines {
            let (_, found, _) = series(&line).expect("a series");
            assert_eq!(
                found.keys().collect::<BTreeSet<_>>(),
                keys.clone().map(|key| key.to_string()).collect::<Vec<_>>().iter().collect(),
                "{line}"
            );
        }
    }
}

#[test]
fn the_last_success_is_kept_from_the_file_before_while_a_cluster_can_t_be_compared() {
    let success = |text: &str| of(Metric::LastSuccess, text);
    let good = metrics(&[found("orders.yaml", |_| ())], "", NOW);
    assert_eq!(
        success(&good),
        [format!("pgpair_last_success_timestamp_seconds{{cluster=\"orders\",file=\"orders.yaml\"}} {NOW}")]
    );
    // The second run in a row that fails still knows of the last that did not, and a file that can't be read still
    // goes by the name of its cluster.
    let lost = metrics(&[found("orders.yaml", out_of_reach)], &good, NOW + 300);
    let broken = metrics(&[unreadable("orders.yaml")], &lost, NOW + 600);
    assert_eq!((success(&lost), success(&broken)), (success(&good), success(&good)));
    assert_eq!(
        of(Metric::LastRun, &broken),
        [format!("pgpair_last_run_timestamp_seconds{{cluster=\"orders\",file=\"orders.yaml\"}} {}", NOW + 600)]
    );
    assert_eq!(of(Metric::Compared, &broken), ["pgpair_cluster_compared{cluster=\"orders\",file=\"orders.yaml\"} 0"]);
    assert_eq!(of(Metric::DriftItems, &broken), [""; 0]);
    let again = metrics(&[found("orders.yaml", |_| ())], &broken, NOW + 900);
    assert_eq!(success(&again), [success(&good)[0].replace(&NOW.to_string(), &(NOW + 900).to_string())]);
    // Of another file, of another cluster, of no cluster at all, nothing is known.
    assert_eq!(success(&metrics(&[unreadable("stock.yaml")], &good, NOW)), [""; 0]);
    let renamed = good.replace("cluster=\"orders\"", "cluster=\"stock\"");
    assert_eq!(success(&metrics(&[found("orders.yaml", out_of_reach)], &renamed, NOW)), [""; 0]);
    assert_eq!(success(&metrics(&[unreadable("orders.yaml")], "pgpair_last_success{file=\n", NOW)), [""; 0]);
}

#[test]
fn drift_hides_from_nobody_that_a_node_was_out_of_reach() {
    let both = found("orders.yaml", |observed| {
        out_of_reach(observed);
        let a = observed.node_mut(&name("a")).cluster_mut().expect("it has data");
        a.conf.main.text.push_str("max_wal_senders = 9\n");
    });
    assert!(both.drift.status == crate::report::drift::Standing::Drift && !both.drift.is_whole);
}

#[test]
fn no_series_is_there_twice_whatever_the_files_are() {
    let odd = "a \"b\"\\n\n,file=\"x\"} 7.yaml";
    let files = ["orders.yaml", "./orders.yaml", "orders.yaml", odd];
    let found = files.map(|file| found(file, |_| ()));
    let text = metrics(&found, "", NOW);
    let series: Vec<&str> = text.lines().filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
    let distinct: BTreeSet<&&str> = series.iter().collect();
    assert_eq!(distinct.len(), series.len());
    assert_eq!(of(Metric::LastRun, &text).len(), 3);
    // And the odd one is read back as what it is.
    let failed = metrics(&[unreadable(odd)], &text, NOW + 1);
    assert!(failed.contains(&format!("cluster=\"orders\",file=\"{}\"}} {NOW}\n", escaped(odd))), "{failed}");
}

const INTRODUCTION: &str = "\
# Metrics

`pgpair drift --textfile FILE.prom` writes what it has found as metrics of Prometheus, for the textfile collector of
node_exporter (`--collector.textfile.directory`). The file is replaced whole or not at all, has mode 0644, and is written
whatever could not be compared; an interrupted run leaves the old one. `contrib/` has a systemd timer and a crontab line
that write it, alert rules and a dashboard.

All metrics are gauges. Every series has the labels `cluster`, the name in the topology, and `file`, the topology file as
it was given: two files that name one cluster have series of their own. Let one job write the metrics of a topology: the
same series in two textfiles are an error of node_exporter's.

The last success is kept from the textfile before while a cluster can't be compared: nothing else is kept between runs. A
series of something that was not seen is absent, and never 0.
";

/// docs/metrics.md, from the table.
fn reference() -> String {
    let mut text = format!("{INTRODUCTION}\n| metric | further labels | what it says |\n| --- | --- | --- |\n");
    for metric in Metric::ALL {
        let About { name, labels, help } = metric.about();
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(text, "| `{name}` | {} | {help} |", labels.join(", "));
    }
    text += "\nThe checks of `pgpair_switchover_check_ok` are those that `pgpair explain checks` lists. `lasts` is `standing` where the\n\
             answer stays until somebody changes something, and `momentary` where it passes by itself.\n\n## A healthy pair\n\n```text\n";
    text + &metrics(&[found("/etc/pgpair/orders.yaml", |_| ())], "", NOW) + "```\n"
}

/// With INSTA_UPDATE=always it is written.
#[test]
fn the_reference_in_docs_is_made_from_the_table() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        std::fs::write(&file, reference()).expect("written");
    }
    assert_eq!(std::fs::read_to_string(&file).expect("docs/metrics.md"), reference());
}
