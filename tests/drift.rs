//! `pgpair drift` on real pairs: what is only spelled otherwise is no drift, what is changed is found, in its class and
//! place, and looking changes nothing.

mod drift_table;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use drift_table::SPELLINGS;
use serde_json::Value;
use sha2::Digest as _;
use support::Version;
use support::Workspace;
use support::comes_true;
use support::wait_until;

const NODES: [&str; 2] = ["a", "b"];

/// Files of a node that the tests change.
const FILES: [&str; 4] = ["postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pgpair.pass"];

/// Where a value is set that is not pgpair's block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    BeforeTheBlock,
    AfterTheBlock,
    Include,
    AutoConf,
    AlterSystem,
    CommandLine,
}

/// Returns a line of a configuration file, spelled in one of the ways that it may be.
fn line(name: &str, value: &str, way: usize) -> String {
    // Unquoted, `1e0` is a syntax error.
    let is_number_with_exponent = value.starts_with(|c: char| c.is_ascii_digit()) && value.contains('e');
    let bare = value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !is_number_with_exponent;
    match way % 3 {
        0 if bare => format!("{name} {value}"),
        1 if bare => format!("  {}={value}# a comment", name.to_uppercase()),
        _ => format!("{name} =\t'{value}'"),
    }
}

/// What `pgpair drift` says of one cluster, and its exit code.
struct Found {
    code: Option<i32>,
    items: Vec<Value>,
    all: Value,
}

fn drift(pair: &Workspace, arguments: &[&str]) -> Found {
    let ran = pair.pgpair(&[&["drift", "--format", "json"], arguments].concat());
    let all: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    let items = all["clusters"][0]["items"].as_array().cloned().unwrap_or_default();
    Found { code: ran.code, items, all }
}

/// Lets a server read its files again, and waits until it has.
fn reload(pair: &Workspace, node: &str) {
    let before = pair.sql(node, "select pg_conf_load_time()");
    pair.sql(node, "select pg_reload_conf()");
    let is_read = || pair.sql(node, "select pg_conf_load_time()") != before;
    let errors = "select sourceline, name, setting, error from pg_file_settings where error is not null";
    assert!(comes_true(Duration::from_secs(20), is_read), "{node} refuses: {}", pair.sql(node, errors));
}

fn text(pair: &Workspace, node: &str, file: &str) -> String {
    fs::read_to_string(pair.data_dir(node).join(file)).expect("a file of the node")
}

/// Writes a file of a node that is there, its owner and mode kept.
fn put(pair: &Workspace, node: &str, file: &str, text: &str) {
    fs::write(pair.data_dir(node).join(file), text).expect("a file of the node");
}

fn streams(pair: &Workspace) {
    wait_until("b streams", || {
        pair.try_sql("b", "select status from pg_stat_wal_receiver").stdout.trim() == "streaming"
    });
}

fn set_by(means: Means, pair: &Workspace, node: &str, values: &[(&str, &str)]) {
    let lines: Vec<String> = values.iter().enumerate().map(|(way, (name, value))| line(name, value, way)).collect();
    let lines = lines.join("\n") + "\n";
    let conf = text(pair, node, "postgresql.conf");
    let (before, block) = conf.split_at(conf.find("# BEGIN pgpair").expect("a block"));
    match means {
        Means::BeforeTheBlock => put(pair, node, "postgresql.conf", &format!("{before}{lines}{block}")),
        Means::AfterTheBlock => put(pair, node, "postgresql.conf", &format!("{conf}{lines}")),
        Means::Include => {
            pair.write(&format!("{node}/data/more.conf"), &lines, 0o600);
            put(pair, node, "postgresql.conf", &format!("{before}include_if_exists 'more.conf'\n{block}"));
        }
        Means::AutoConf => {
            let auto = text(pair, node, "postgresql.auto.conf");
            put(pair, node, "postgresql.auto.conf", &format!("{auto}{lines}"));
        }
        Means::AlterSystem => {
            for (name, value) in values {
                pair.sql(node, &format!("alter system set {name} = '{value}'"));
            }
        }
        Means::CommandLine => {
            // pgpair's own sessions override the timeouts, a line of initdb's counts for it although the option wins,
            // and a space would split the option.
            let not_seen = ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"];
            let in_file = ["max_wal_size", "min_wal_size"];
            let (elsewhere, options): (Vec<_>, Vec<_>) = values
                .iter()
                .partition(|(name, value)| not_seen.contains(name) || in_file.contains(name) || value.contains(' '));
            for (name, value) in elsewhere {
                pair.sql(node, &format!("alter system set {name} = '{value}'"));
            }
            let options = options.iter();
            let options: Vec<String> = options.map(|(name, value)| format!("-c {name}={value}")).collect();
            pair.pg_ctl(node, &["restart", "-m", "fast", "-o", &options.join(" ")]).exits(0);
            return;
        }
    }
    reload(pair, node);
}

/// Sets every value of the table by `means`, spelled in the given way, on both nodes; returns how many that were.
fn spelled(pair: &Workspace, means: Means, way: usize) -> usize {
    let version = pair.version.0;
    let rows = SPELLINGS.iter().filter(|row| row.since <= version);
    let values: Vec<(&str, &str)> = rows.map(|row| (row.name, row.spellings[way % row.spellings.len()])).collect();
    let kept: Vec<Vec<String>> =
        NODES.iter().map(|node| FILES[..2].iter().map(|file| text(pair, node, file)).collect()).collect();
    for node in NODES {
        set_by(means, pair, node, &values);
    }
    let found = drift(pair, &["all.yaml"]);
    let names: Vec<&Value> = found.items.iter().map(|item| &item["subject"]).collect();
    assert!(found.items.is_empty(), "{means:?}, spelling {way}: {names:?} of\n{:#}", found.all);
    assert_eq!(found.code, Some(0), "{means:?}, spelling {way}");
    for (node, files) in NODES.iter().zip(&kept) {
        for (file, text) in FILES.iter().zip(files) {
            put(pair, node, file, text);
        }
        reload(pair, node);
    }
    values.len()
}

/// A pair of pgpair's, and beside its topology one that also asks for every value of the table.
fn pair_with_table(version: Version) -> Workspace {
    let pair = Workspace::new(version);
    let replication = "auth: scram-sha-256, password: { file: repuser.secret }";
    let rows = SPELLINGS.iter().filter(|row| row.since <= version.0);
    let values: String = rows.map(|row| format!("  {}: '{}'\n", row.name, row.wanted)).collect();
    pair.topology(replication, &values);
    let all = fs::read_to_string(pair.path("pgpair.yaml")).expect("the topology");
    pair.write("all.yaml", &all, 0o644);
    pair.topology(replication, "");
    pair.apply().exits(0);
    pair
}

#[test]
fn two_hundred_values_that_are_only_spelled_otherwise_are_no_drift() {
    let pair = pair_with_table(Version(15));
    let found = drift(&pair, &["all.yaml"]);
    assert!(found.items.len() >= 2 * 40 && found.code == Some(2), "without them all differ: {:#}", found.all);
    let means = [Means::BeforeTheBlock, Means::AfterTheBlock, Means::Include, Means::AutoConf, Means::AlterSystem];
    let compared: usize = means.iter().enumerate().map(|(way, means)| spelled(&pair, *means, way)).sum();
    assert!(compared >= 200, "{compared}");

    let [port, _] = pair.ports;
    let passfile = pair.data_dir("b").join("pgpair.pass");
    let passfile = passfile.display();
    let sslmode = "sslmode=prefer";
    for conninfo in [
        format!("user=repuser passfile={passfile} port={port} host=127.0.0.1 application_name=b {sslmode}"),
        format!(
            "host = ''127.0.0.1'' port=''{port}''  user=''repuser'' application_name=''b'' passfile=''{passfile}'' {sslmode}"
        ),
        format!("application_name=b hostaddr=127.0.0.1 passfile={passfile} user=repuser port={port} {sslmode}"),
    ] {
        pair.sql("b", &format!("alter system set primary_conninfo = '{conninfo}'"));
        reload(&pair, "b");
        streams(&pair);
        let found = drift(&pair, &[]);
        assert!(found.items.is_empty(), "{conninfo}: {:#}", found.all);
    }
    pair.sql("b", "alter system reset primary_conninfo");
    spelled(&pair, Means::CommandLine, 0);
}

#[test]
fn values_spelled_otherwise_are_no_drift_on_10() {
    let pair = pair_with_table(Version(10));
    spelled(&pair, Means::BeforeTheBlock, 0);
    spelled(&pair, Means::AutoConf, 1);
}

/// A change of a living pair, and the item that it must be.
struct Change<'a> {
    name: &'a str,
    node: &'a str,
    what: What<'a>,
    class: &'a str,
    subject: &'a str,
    /// What the place of the value that wins begins and ends with, or a part of the reason.
    place: &'a str,
}

enum What<'a> {
    /// In this file the first text is the second afterwards.
    Edit(&'a str, &'a str, &'a str),
    /// These lines at the end of this file.
    Append(&'a str, &'a str),
    /// SQL on the node, and what takes it back.
    Sql(&'a str, &'a str),
    Remove(&'a str),
    Mode(&'a str, u32),
    /// In the topology the first text is the second.
    Topology(&'a str, &'a str),
    /// This file of the other node in its place.
    Copy(&'a str),
}

fn change<'a>(
    name: &'a str,
    node: &'a str,
    what: What<'a>,
    class: &'a str,
    subject: &'a str,
    place: &'a str,
) -> Change<'a> {
    Change { name, node, what, class, subject, place }
}

/// Changes that every version takes.
fn changes() -> Vec<Change<'static>> {
    use What::*;
    let (conf, auto, hba) = ("postgresql.conf", "postgresql.auto.conf", "pg_hba.conf");
    vec![
        change("alter system", "a", Sql("alter system set work_mem = '9MB'", ""), "drift", "work_mem", auto),
        change(
            "alter system, on",
            "a",
            Sql("alter system set log_connections = off", ""),
            "drift",
            "log_connections",
            auto,
        ),
        change(
            "alter system on the standby",
            "b",
            Sql("alter system set work_mem = '9MB'", ""),
            "drift",
            "work_mem",
            auto,
        ),
        change(
            "alter system, enum",
            "b",
            Sql("alter system set log_statement = 'all'", ""),
            "drift",
            "log_statement",
            auto,
        ),
        change(
            "alter system, float",
            "a",
            Sql("alter system set random_page_cost = 3", ""),
            "drift",
            "random_page_cost",
            auto,
        ),
        change(
            "alter system, text",
            "a",
            Sql("alter system set log_line_prefix = '%p '", ""),
            "drift",
            "log_line_prefix",
            auto,
        ),
        change(
            "alter system, needs a restart",
            "a",
            Sql("alter system set max_wal_senders = 7", ""),
            "drift",
            "max_wal_senders",
            auto,
        ),
        change(
            "alter system, needs a restart, standby",
            "b",
            Sql("alter system set max_wal_senders = 8", ""),
            "drift",
            "max_wal_senders",
            auto,
        ),
        change(
            "alter system, own parameter of b",
            "b",
            Sql("alter system set hot_standby_feedback = off", ""),
            "drift",
            "hot_standby_feedback",
            auto,
        ),
        change("a line after the block", "a", Append(conf, "work_mem = 3MB"), "drift", "work_mem", conf),
        change(
            "a line after the block, standby",
            "b",
            Append(conf, "log_connections = off"),
            "drift",
            "log_connections",
            conf,
        ),
        change("another spelling of the name", "a", Append(conf, "WORK_MEM 3MB"), "drift", "work_mem", conf),
        change(
            "an include after the block",
            "a",
            Append(conf, "include 'more.conf'"),
            "drift",
            "work_mem",
            "more.conf",
        ),
        change(
            "an include in auto.conf's place",
            "b",
            Append(conf, "include_if_exists 'more.conf'"),
            "drift",
            "work_mem",
            "more.conf",
        ),
        change(
            "a value in the block",
            "a",
            Edit(conf, "work_mem = '8MB'", "work_mem = '9MB'"),
            "drift",
            "work_mem",
            "edited by hand",
        ),
        change(
            "a value in the block, standby",
            "b",
            Edit(conf, "log_statement = 'ddl'", "log_statement = 'none'"),
            "drift",
            "log_statement",
            "edited by hand",
        ),
        change(
            "a line less in the block",
            "a",
            Edit(conf, "random_page_cost = '1.1'\n", ""),
            "drift",
            "random_page_cost",
            "edited by hand",
        ),
        change(
            "a line more in the block",
            "a",
            Edit(conf, "# END pgpair", "lock_timeout = 5\n# END pgpair"),
            "drift",
            "lock_timeout",
            "edited by hand",
        ),
        change(
            "a comment in the block",
            "a",
            Edit(conf, "# END pgpair", "# hands off\n# END pgpair"),
            "drift",
            conf,
            "edited by hand",
        ),
        change(
            "the block without its begin",
            "b",
            Edit(conf, "# BEGIN pgpair", "# begin pgpair"),
            "drift",
            "configuration",
            "never began",
        ),
        change(
            "a rule before the block",
            "a",
            Edit(hba, "# BEGIN pgpair", "host all nobody 10.9.9.9/32 trust\n# BEGIN pgpair"),
            "drift",
            hba,
            "no longer before the first rule",
        ),
        change(
            "a rule in the block",
            "a",
            Edit(hba, "# END pgpair", "host all all 10.9.9.9/32 trust\n# END pgpair"),
            "drift",
            hba,
            "edited by hand",
        ),
        change(
            "a rule in the block, standby",
            "b",
            Edit(hba, "10.8.0.0/16", "10.0.0.0/8"),
            "drift",
            hba,
            "edited by hand",
        ),
        change(
            "a comment among the rules",
            "b",
            Edit(hba, "# END pgpair", "# hands off\n# END pgpair"),
            "drift",
            hba,
            "edited by hand",
        ),
        change("rules of the other node", "b", Copy(hba), "drift", hba, "of node a"),
        change("configuration of the other node", "b", Copy(conf), "drift", "primary_conninfo", "of node a"),
        change(
            "role without login",
            "a",
            Sql("alter role repuser nologin", "alter role repuser login"),
            "drift",
            "role repuser",
            "NOLOGIN",
        ),
        change(
            "role without replication",
            "a",
            Sql("alter role repuser noreplication", "alter role repuser replication"),
            "drift",
            "role repuser",
            "NOREPLICATION",
        ),
        change(
            "limit of the role",
            "a",
            Sql("alter role repuser connection limit 9", "alter role repuser connection limit 5"),
            "drift",
            "role repuser",
            "CONNECTION LIMIT 9",
        ),
        change(
            "password of the role",
            "a",
            Sql("alter role repuser password 'other'", ""),
            "drift",
            "role repuser",
            "another password",
        ),
        change("no password", "a", Sql("alter role repuser password null", ""), "drift", "role repuser", "no password"),
        change(
            "a slot that feeds nobody",
            "a",
            Sql(
                "select pg_create_physical_replication_slot('pgpair_gone', true)",
                "select pg_drop_replication_slot('pgpair_gone')",
            ),
            "drift",
            "slot pgpair_gone",
            "feeds nobody",
        ),
        change(
            "the candidate's slot is gone",
            "b",
            Sql(
                "select pg_drop_replication_slot('pgpair_a')",
                "select pg_create_physical_replication_slot('pgpair_a')",
            ),
            "drift",
            "slot pgpair_a",
            "absent",
        ),
        change("the passfile is gone", "a", Remove("pgpair.pass"), "drift", "passfile", "absent"),
        change("the passfile is gone, standby", "b", Remove("pgpair.pass"), "drift", "passfile", "absent"),
        change("others may read the passfile", "b", Mode("pgpair.pass", 0o644), "drift", "passfile", "another mode"),
        change(
            "another passfile",
            "b",
            Edit("pgpair.pass", "correct horse", "wrong horse"),
            "drift",
            "passfile",
            "another password",
        ),
        change(
            "the topology: a value",
            "a",
            Topology("work_mem: 8MB", "work_mem: 10MB"),
            "pending",
            "work_mem",
            "newer than its last apply",
        ),
        change(
            "the topology: a parameter less",
            "a",
            Topology("  random_page_cost: 1.1\n", ""),
            "pending",
            "random_page_cost",
            "newer than its last apply",
        ),
        change(
            "the topology: a rule",
            "a",
            Topology("10.8.0.0/16", "10.7.0.0/16"),
            "pending",
            hba,
            "newer than its last apply",
        ),
        change(
            "the topology: a parameter more",
            "a",
            Topology("  work_mem", "  lock_timeout: 5s\n  work_mem"),
            "drift",
            "lock_timeout",
            "does not have it",
        ),
        change(
            "the topology: another limit",
            "a",
            Topology("connection_limit: 5", "connection_limit: 6"),
            "drift",
            "role repuser",
            "CONNECTION LIMIT 5",
        ),
    ]
}

const YAML: &str = "hba:\n  - { type: host, database: all, user: app, address: 10.8.0.0/16, method: scram-sha-256 }\n";

fn changed_pair(version: Version) -> Workspace {
    let pair = Workspace::new(version);
    pair.topology(
        "auth: scram-sha-256, password: { file: repuser.secret }, connection_limit: 5",
        &format!(
            "  max_wal_senders: 6\n  hot_standby_feedback: on\n  log_connections: on\n  log_statement: ddl\n  \
             random_page_cost: 1.1\n  log_line_prefix: '%m '\n  work_mem: 8MB\n{YAML}"
        ),
    );
    pair.apply().exits(0);
    for node in NODES {
        pair.write(&format!("{node}/data/more.conf"), "work_mem = 3MB\n", 0o600);
    }
    pair
}

/// The files of both nodes that changes are taken back to.
struct Kept {
    files: Vec<(&'static str, &'static str, String)>,
    verifier: String,
}

impl Kept {
    fn of(pair: &Workspace) -> Self {
        let of_node = |node| FILES.map(|file| (node, file, text(pair, node, file)));
        let verifier = pair.sql("a", "select rolpassword from pg_authid where rolname = 'repuser'");
        Self { files: NODES.into_iter().flat_map(of_node).collect(), verifier }
    }

    fn restore(&self, pair: &Workspace) {
        for (node, file, text) in &self.files {
            let path = pair.data_dir(node).join(file);
            if fs::read_to_string(&path).ok().as_ref() != Some(text) || *file == "pgpair.pass" {
                pair.write(&format!("{node}/data/{file}"), text, 0o600);
            }
        }
        pair.sql("a", &format!("alter role repuser password '{}'", self.verifier));
        for node in NODES {
            reload(pair, node);
        }
    }
}

fn is_found(pair: &Workspace, kept: &Kept, change: &Change<'_>) -> Result<(), String> {
    let (node, mut file) = (change.node, "pgpair.yaml");
    let own = |name: &str| pair.data_dir(node).join(name);
    match change.what {
        What::Edit(name, from, to) => {
            let before = text(pair, node, name);
            assert!(before.contains(from), "{}: {before}", change.name);
            put(pair, node, name, &before.replacen(from, to, 1));
        }
        What::Append(name, lines) => put(pair, node, name, &format!("{}{lines}\n", text(pair, node, name))),
        What::Sql(sql, _) => {
            pair.sql(node, sql);
        }
        What::Remove(name) => fs::remove_file(own(name)).expect("a file of the node"),
        What::Mode(name, mode) => {
            fs::set_permissions(own(name), fs::Permissions::from_mode(mode)).expect("a file of the node");
        }
        What::Topology(from, to) => {
            let before = fs::read_to_string(pair.path("pgpair.yaml")).expect("the topology");
            assert!(before.contains(from), "{}: {before}", change.name);
            pair.write("edited.yaml", &before.replacen(from, to, 1), 0o644);
            file = "edited.yaml";
        }
        What::Copy(name) => put(pair, node, name, &text(pair, if node == "a" { "b" } else { "a" }, name)),
    }
    // The other node's file has its port, which is not taken back by a reload either.
    reload(pair, node);
    let found = drift(pair, &[file]);
    if let What::Sql(_, back) = change.what
        && !back.is_empty()
    {
        pair.sql(node, back);
    }
    kept.restore(pair);
    let is_it = |item: &&Value| item["subject"] == change.subject && item["node"] == node;
    let Some(item) = found.items.iter().find(is_it) else {
        return Err(format!("{}: not found in {:#}", change.name, found.all));
    };
    let places = ["set_by", "now", "reason"].map(|field| item[field].as_str().unwrap_or_default().to_owned());
    let exit = if change.class == "drift" { 2 } else { 0 };
    let is_right = item["class"] == change.class && places.iter().any(|place| place.contains(change.place));
    // What no block marks as newer may be both.
    if !is_right || found.code != Some(exit) {
        return Err(format!("{}: exit {:?}, {:#}", change.name, found.code, found.all));
    }
    Ok(())
}

fn finds(version: Version, changes: &[Change<'_>]) {
    let pair = changed_pair(version);
    let kept = Kept::of(&pair);
    assert!(drift(&pair, &[]).items.is_empty());
    let wrong: Vec<String> = changes.iter().filter_map(|change| is_found(&pair, &kept, change).err()).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), changes.len(), wrong.join("\n"));
    streams(&pair);
    let after = drift(&pair, &[]);
    assert!(after.items.is_empty(), "all of it was taken back: {:#}", after.all);
}

#[test]
fn each_of_forty_changes_is_found_in_its_class_and_place() {
    let changes = changes();
    assert!(changes.len() >= 40, "{}", changes.len());
    finds(Version(15), &changes);
}

#[test]
fn changes_are_found_on_10() {
    let changes = changes();
    let few = [
        "alter system",
        "a line after the block",
        "a value in the block",
        "a rule in the block",
        "limit of the role",
        "the topology: a value",
    ];
    let few: Vec<Change<'_>> = changes.into_iter().filter(|change| few.contains(&change.name)).collect();
    assert_eq!(few.len(), 6);
    finds(Version(10), &few);
}

#[test]
fn servers_and_data_that_are_gone_are_found_and_one_cluster_hides_no_other() {
    let pair = changed_pair(Version(15));
    let subjects = |found: &Found| -> Vec<String> {
        found.items.iter().map(|item| item["subject"].as_str().unwrap_or_default().to_owned()).collect()
    };
    pair.pg_ctl("b", &["stop", "-m", "fast"]).exits(0);
    let found = drift(&pair, &[]);
    assert_eq!((subjects(&found), found.code), (vec!["server".to_owned()], Some(2)), "{:#}", found.all);

    let data = pair.data_dir("b");
    fs::rename(&data, pair.path("b/away")).expect("our folder");
    let found = drift(&pair, &[]);
    assert_eq!((subjects(&found), found.code), (vec!["data directory".to_owned()], Some(2)), "{:#}", found.all);
    fs::rename(pair.path("b/away"), &data).expect("our folder");
    pair.pg_ctl("b", &["start"]).exits(0);
    streams(&pair);

    pair.write("bad.yaml", "version: 1\ncluster: bad\nnonsense: 1\n", 0o644);
    let found = drift(&pair, &["bad.yaml", "pgpair.yaml", "none.yaml", "pgpair.yaml"]);
    let standing: Vec<&Value> =
        found.all["clusters"].as_array().expect("a list").iter().map(|one| &one["status"]).collect();
    assert_eq!(standing, ["unknown", "in_sync", "unknown", "in_sync"], "{:#}", found.all);
    assert_eq!(found.code, Some(1));
    pair.pgpair(&["drift"]).exits(0).says("test: in sync\n");

    // Without the secret, which a cron job need not have, the rest is compared.
    fs::rename(pair.path("repuser.secret"), pair.path("elsewhere.secret")).expect("our file");
    let found = drift(&pair, &[]);
    assert_eq!((subjects(&found), found.code), (vec!["replication password".to_owned()], Some(0)), "{:#}", found.all);
    assert_eq!(drift(&pair, &["--fail-on", "pending,unseen"]).code, Some(2));
    fs::rename(pair.path("elsewhere.secret"), pair.path("repuser.secret")).expect("our file");

    // A postmaster that has another option is not pgpair's to restart.
    pair.pg_ctl("a", &["restart", "-m", "fast", "-o", "-c work_mem=9MB"]).exits(0);
    let found = drift(&pair, &[]);
    let item = &found.items[0];
    assert_eq!(
        (item["subject"].as_str(), item["set_by"].as_str()),
        (Some("work_mem"), Some("command line")),
        "{:#}",
        found.all
    );
    assert_eq!((item["now"].as_str(), item["class"].as_str(), found.code), (Some("9216"), Some("drift"), Some(2)));
}

/// The SHA-256 of every file below a folder.
fn hashes(folder: &Path) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    for entry in entries {
        let path = entry.path();
        match fs::symlink_metadata(&path) {
            // Statistics, which every login leaves.
            Ok(metadata) if metadata.is_dir() && path.ends_with("pg_stat_tmp") => {}
            Ok(metadata) if metadata.is_dir() => all.extend(hashes(&path)),
            Ok(metadata) if metadata.is_file() => {
                let bytes = fs::read(&path).expect("a file that stays");
                let hash = sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
                all.push((path.display().to_string(), hash));
            }
            // A socket, or gone meanwhile.
            Ok(_) | Err(_) => {}
        }
    }
    all.sort();
    all
}

/// What nothing that only looks may change.
struct Look {
    files: [Vec<(String, String)>; 2],
    lsn: String,
    rows: String,
}

fn changes_nothing(version: Version) {
    let pair = Workspace::new(version);
    let quiet = "  autovacuum: off\n  checkpoint_timeout: 1h\n  bgwriter_lru_maxpages: 0\n";
    pair.topology("auth: scram-sha-256, password: { file: repuser.secret }", quiet);
    pair.apply().exits(0);
    // Rows of the catalogues that were never read again get their hint bits by whoever reads them first.
    pair.sql("a", "vacuum");
    pair.pgpair(&["status"]);
    for node in NODES {
        pair.sql(node, "checkpoint");
    }
    let lsn = "select pg_current_wal_insert_lsn()";
    let before_checkpoint = pair.sql("a", "select pg_current_wal_lsn()");
    wait_until("b has all of it", || {
        pair.sql("b", &format!("select pg_last_wal_replay_lsn() >= '{before_checkpoint}'")) == "t"
    });
    let written = "select sum(tup_inserted), sum(tup_updated), sum(tup_deleted) from pg_stat_database";
    let look = || Look {
        files: NODES.map(|node| hashes(&pair.data_dir(node))),
        lsn: pair.sql("a", lsn),
        rows: pair.sql("a", written),
    };
    let import = ["import", "--data-dir", "a/data", "--data-dir", "b/data"];
    for arguments in [&["plan"][..], &["drift"], &["status"], &["drift", "--format", "json"], &import] {
        let changed = || {
            let before = look();
            pair.pgpair(arguments).exits(0);
            let after = look();
            let nodes = before.files.iter().zip(&after.files);
            let files = nodes.flat_map(|(before, after)| after.iter().filter(|file| !before.contains(file)).cloned());
            let files: Vec<_> = files.collect();
            let seen = [&before, &after].map(|look| (look.lsn.clone(), look.rows.clone()));
            (!files.is_empty() || seen[0] != seen[1]).then_some((files, seen))
        };
        // A server that was just busy says once more, some seconds later, which transactions run.
        let first = changed();
        assert!(first.is_none() || changed().is_none() || changed().is_none(), "{arguments:?}: {first:?}");
    }
}

#[test]
fn looking_changes_no_file_no_row_and_no_wal_position() {
    changes_nothing(Version(15));
}

#[test]
fn looking_changes_nothing_on_10() {
    changes_nothing(Version(10));
}
