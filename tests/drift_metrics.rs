//! What monitoring gets of `pgpair drift`: the textfile, JSON lines, and the jobs of contrib/ that run it.

mod support;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use pgpair::report::metrics::COMMON_LABELS;
use pgpair::report::metrics::Metric;
use serde_json::Value;
use support::Ran;
use support::Version;
use support::Workspace;
use support::path_with_pgpair;
use support::wait_until;

/// The series of a textfile, each with its value.
fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let all: Vec<(String, f64)> = lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
            (series.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
        })
        .collect();
    let count = all.len();
    let series: BTreeMap<_, _> = all.into_iter().collect();
    assert_eq!(series.len(), count, "a series is there twice:\n{text}");
    series
}

/// The metrics of a pair after a run of drift.
struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn of(pair: &Workspace) -> Self {
        Self(series(&fs::read_to_string(pair.path("pgpair.prom")).expect("a textfile")))
    }

    fn get(&self, metric: &str, labels: &str) -> Option<f64> {
        let common = "cluster=\"test\",file=\"pgpair.yaml\"";
        let labels = if labels.is_empty() { common.to_owned() } else { format!("{common},{labels}") };
        self.0.get(&format!("{metric}{{{labels}}}")).copied()
    }
}

fn drift(pair: &Workspace) -> Ran {
    pair.pgpair(&["drift", "--textfile", "pgpair.prom"])
}

#[test]
fn the_textfile_of_a_real_pair_says_what_its_servers_say_and_when_all_was_last_seen() {
    let pair = Workspace::made(Version(15));
    drift(&pair).exits(0).says("test: in sync");
    let seen = Metrics::of(&pair);
    for (metric, labels, value) in [
        ("pgpair_cluster_compared", "", 1.0),
        ("pgpair_drift_items", "class=\"drift\"", 0.0),
        ("pgpair_node_up", "node=\"a\"", 1.0),
        ("pgpair_node_role", "node=\"a\",role=\"primary\"", 1.0),
        ("pgpair_node_role", "node=\"b\",role=\"primary\"", 0.0),
        ("pgpair_node_timeline", "node=\"b\"", 1.0),
        ("pgpair_replication_streaming", "node=\"b\"", 1.0),
        ("pgpair_slot_active", "node=\"a\",slot=\"pgpair_b\"", 1.0),
        ("pgpair_switchover_check_ok", "to=\"b\",check=\"reverse_connection\",lasts=\"standing\"", 1.0),
    ] {
        assert_eq!(seen.get(metric, labels), Some(value), "{metric} {labels} of {:#?}", seen.0);
    }
    assert!(seen.get("pgpair_observation_duration_seconds", "").is_some_and(|took| took > 0.0 && took < 30.0));
    let success = seen.get("pgpair_last_success_timestamp_seconds", "").expect("a success");
    assert!((success - jiff::Timestamp::now().as_second() as f64).abs() < 60.0, "{success}");

    // A standby that is away: its slot holds back what is written meanwhile, and what it was is not said again.
    pair.pg_ctl("b", &["stop", "-m", "fast"]).exits(0);
    let position = || pair.sql("a", "select pg_current_wal_lsn() - restart_lsn from pg_replication_slots");
    pair.sql("a", "select pg_logical_emit_message(false, 'filler', repeat('x', 300000))");
    pair.sql("a", "checkpoint");
    let old = fs::metadata(pair.path("pgpair.prom")).expect("it is there").ino();
    drift(&pair).exits(2);
    let file = fs::metadata(pair.path("pgpair.prom")).expect("it is there");
    assert!(file.ino() != old && file.permissions().mode() & 0o7777 == 0o644, "it is replaced, for all to read");
    let away = Metrics::of(&pair);
    let retained = away.get("pgpair_slot_retained_bytes", "node=\"a\",slot=\"pgpair_b\"").expect("its slot is there");
    let by_hand: f64 = position().parse().expect("a number");
    assert!(retained > 300_000.0 && (retained - by_hand).abs() < 100_000.0, "{retained}, by hand {by_hand}");
    assert_eq!(away.get("pgpair_node_up", "node=\"b\""), Some(0.0));
    assert_eq!(away.get("pgpair_replication_lag_bytes", "node=\"b\""), None);
    assert_eq!(away.get("pgpair_switchover_ready", "to=\"b\""), Some(0.0));
    assert_eq!(away.get("pgpair_drift_items", "class=\"drift\""), Some(1.0));

    // A topology that can't be read: the file is written all the same, and knows the cluster and its last success.
    let before = away.get("pgpair_last_success_timestamp_seconds", "");
    pair.edit("version: 1\n", "version: 1\nnods: 1\n");
    drift(&pair).exits(1);
    let blind = Metrics::of(&pair);
    assert_eq!(blind.get("pgpair_cluster_compared", ""), Some(0.0));
    assert_eq!((blind.get("pgpair_last_success_timestamp_seconds", ""), blind.0.len()), (before, 4));
    assert!(blind.get("pgpair_last_run_timestamp_seconds", "") >= away.get("pgpair_last_run_timestamp_seconds", ""));
}

#[test]
fn the_jobs_of_contrib_are_silent_about_a_pair_in_sync_and_write_its_metrics() {
    let pair = Workspace::made(Version(15));
    let folder = pair.path("");
    let job = |command: &str| {
        let here = folder.display().to_string();
        let command = command.replace("/var/lib/prometheus/node-exporter", &here).replace("/etc/pgpair", &here);
        // `%` would be a line break to cron.
        assert!(command.contains(&format!("{here}/*.yaml")) && !command.contains('%'), "{command}");
        let _ = fs::remove_file(pair.path("pgpair.prom"));
        let ran = Command::new("/bin/sh")
            .args(["-c", &command])
            .env("PATH", path_with_pgpair())
            .env("NO_COLOR", "1")
            .output();
        let ran = Ran::of(&ran.expect("sh runs"));
        assert!(pair.path("pgpair.prom").exists(), "{ran:?}");
        ran
    };
    let [cron, unit] = [cron_command(), unit_command()];
    let ran = job(&cron).exits(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    assert_eq!(job(&unit).exits(0).stdout, "test: in sync\n");
    pair.sql("a", "alter system set work_mem = '8MB'");
    pair.topology("auth: scram-sha-256, password: { file: repuser.secret }", "  work_mem: 4MB\n");
    pair.sql("a", "select pg_reload_conf()");
    wait_until("a has read it", || pair.sql("a", "show work_mem") == "8MB");
    assert!(job(&cron).exits(0).stdout.contains("work_mem: 8192"));
    job(&unit).exits(2).says("work_mem");
}

fn contrib(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib").join(file)).expect("a file of contrib")
}

/// What the line of the crontab runs: behind five fields of time, and the user.
fn cron_command() -> String {
    let text = contrib("cron/pgpair-drift");
    let mut jobs = text.lines().filter(|line| line.starts_with(|c: char| c == '*' || c.is_ascii_digit()));
    let job = jobs.next().expect("a job");
    assert_eq!(jobs.next(), None);
    let mut rest = job;
    let mut fields = Vec::new();
    while fields.len() < 6 {
        let (field, after) = rest.split_once(' ').expect("a field");
        if !field.is_empty() {
            fields.push(field);
        }
        rest = after;
    }
    assert_eq!(fields, ["*/5", "*", "*", "*", "*", "postgres"]);
    rest.trim().to_owned()
}

/// What the unit runs by its shell.
fn unit_command() -> String {
    let text = contrib("systemd/pgpair-drift.service");
    let command = text.lines().find_map(|line| line.strip_prefix("ExecStart=/bin/sh -c '")).expect("a command");
    command.strip_suffix('\'').expect("its quote").to_owned()
}

#[test]
fn each_cluster_is_a_json_object_on_a_line_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let topology = |cluster: &str| {
        format!(
            "version: 1\ncluster: {cluster}\npostgresql: {{ version: 15 }}\nreplication: {{ user: r, auth: trust }}\n\
             nodes:\n  a: {{ role: primary, port: 5433, data_dir: ./{cluster} }}\n"
        )
    };
    fs::write(folder.path().join("orders.yaml"), topology("orders")).expect("written");
    fs::write(folder.path().join("bad.yaml"), "nodes: 1\n").expect("written");
    fs::write(folder.path().join("stock.yaml"), topology("stock")).expect("written");
    let drift = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgpair"));
        command.args(["drift", "orders.yaml", "bad.yaml", "stock.yaml"]).args(more);
        Ran::of(&command.current_dir(folder.path()).env_remove("PGPAIR_FILE").output().expect("pgpair runs"))
    };
    let whole: Value = serde_json::from_str(&drift(&["--format", "json"]).exits(2).stdout).expect("JSON");
    let lines = drift(&["--json-lines"]).exits(2).stdout;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 3);
    for (line, cluster) in lines.iter().zip(whole["clusters"].as_array().expect("clusters")) {
        let mut with_version = cluster.clone();
        with_version["format_version"] = "1.0".into();
        assert_eq!(*line, with_version);
    }
    drift(&["--json-lines", "--format", "json"]).exits(1).says("cannot be used with");

    // Metrics that can't be written hide nothing of the report, and are not passed over.
    drift(&["--textfile", "nowhere/pgpair.prom"]).exits(2).says("orders: 1 drift").says("the metrics are not written");
    drift(&["--textfile", "pgpair.txt"]).exits(1).says("end in .prom");
}

/// The metrics that a text names, each with the labels that it is asked for by.
fn named(text: &str) -> Vec<(String, Vec<String>)> {
    let is_of_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let starts = text.match_indices("pgpair_").filter(|(at, _)| !text[..*at].ends_with(is_of_name));
    let found = starts.map(|(at, _)| {
        let rest = &text[at..];
        let name = &rest[..rest.find(|c| !is_of_name(c)).unwrap_or(rest.len())];
        let asked = rest[name.len()..]
            .strip_prefix('{')
            .and_then(|rest| rest.split_once('}'))
            .map_or("", |(in_braces, _)| in_braces);
        let keys = asked.split(',').filter_map(|pair| pair.split_once('=')).map(|(key, _)| key.trim().to_owned());
        (name.to_owned(), keys.collect())
    });
    found.collect()
}

#[test]
fn rules_and_dashboard_ask_for_metrics_and_labels_that_there_are() {
    let table: BTreeMap<&str, BTreeSet<&str>> = Metric::ALL
        .into_iter()
        .map(|metric| (metric.about().name, COMMON_LABELS.iter().chain(metric.about().labels).copied().collect()))
        .collect();
    let dashboard: Value = serde_json::from_str(&contrib("grafana/pgpair.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let queries = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("queries"));
    let queries = queries.map(|query| query["expr"].as_str().expect("a query").to_owned());
    let variables = dashboard["templating"]["list"].as_array().expect("variables").iter();
    let variables = variables.filter_map(|variable| Some(variable["query"]["query"].as_str()?.to_owned()));
    let queries: Vec<String> = queries.chain(variables).collect();
    assert_eq!(queries.len(), panels.len() + 1);
    let rules = contrib("prometheus/pgpair.rules.yml").replace("pgpair_b", "").replace("pgpair_d", "");
    let expressions: Vec<String> = rules
        .lines()
        .filter(|line| !line.contains("description:") && !line.contains("summary:"))
        .map(str::to_owned)
        .collect();
    let mut used = BTreeSet::new();
    for (name, keys) in queries.iter().chain(&expressions).flat_map(|text| named(text)) {
        let labels = table.get(name.as_str()).unwrap_or_else(|| panic!("there is no {name}"));
        assert!(keys.iter().all(|key| labels.contains(key.as_str())), "{name} has no {keys:?}");
        used.insert(name);
    }
    assert_eq!(used.len(), table.len(), "nobody looks at some of the metrics: only at {used:?}");
    let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "panels with an id each");
}
