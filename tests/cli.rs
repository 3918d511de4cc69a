//! The binary from outside: exit codes, what goes to which stream, and what is told of mistakes. Starts no server.

use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use serde_json::Value;

const GOOD: &str = "version: 1\ncluster: orders\npostgresql: { version: 15 }\n\
    replication: { user: repuser, auth: trust }\n\
    nodes:\n  a: { role: primary, port: 5433, data_dir: ./a }\n";

fn pgpair(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgpair"));
    command.args(arguments).current_dir(folder).env_remove("PGPAIR_FILE").stdin(Stdio::null());
    command
}

fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    ended(pgpair(folder, arguments).output().expect("the binary runs"))
}

fn ended(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("it was not killed"), text(output.stdout), text(output.stderr))
}

fn json(stdout: &str) -> Value {
    serde_json::from_str(stdout).expect("one JSON value on standard output")
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("orders.yaml"), GOOD).expect("written");
    fs::write(folder.path().join("bad.yaml"), GOOD.replace("role: primary", "role: primry")).expect("written");
    folder
}

#[test]
fn wrong_usage_exits_1_and_never_2() {
    let folder = folder();
    for arguments in [
        &[][..],
        &["nonsense"],
        &["plan", "--nonsense"],
        &["plan", "orders.yaml", "-f", "orders.yaml"],
        &["apply", "--allow", "everything"],
        &["apply", "--timeout", "soon"],
        &["status", "--max-lag", "much"],
        &["plan", "--format", "xml"],
    ] {
        let (code, stdout, stderr) = run(folder.path(), arguments);
        assert_eq!((code, stdout.as_str()), (1, ""), "{arguments:?}");
        assert!(!stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn wrong_usage_is_json_where_json_was_asked_for() {
    let (code, stdout, _) = run(folder().path(), &["plan", "--format", "json", "--nonsense"]);
    assert_eq!(code, 1);
    assert_eq!(json(&stdout)["errors"][0]["code"], "usage");
}

#[test]
fn help_is_a_result_with_examples_for_every_command() {
    let folder = folder();
    for command in [
        "validate",
        "plan",
        "apply",
        "switchover",
        "failover",
        "rebuild",
        "drift",
        "status",
        "explain",
        "observe",
        "diff",
        "show",
        "schema",
        "completions",
        "man",
    ] {
        let (code, stdout, _) = run(folder.path(), &[command, "--help"]);
        assert_eq!(code, 0);
        assert!(stdout.contains(&format!("Examples:\n  pgpair {command} ")), "{stdout}");
    }
    let (code, stdout, _) = run(folder.path(), &["--help"]);
    assert_eq!(code, 0);
    assert!(stdout.contains("Exit codes:"));
    assert_eq!(run(folder.path(), &["--version"]).0, 0);
}

#[test]
fn a_missing_file_is_named_with_the_ways_to_give_it() {
    let folder = folder();
    let (code, stdout, stderr) = run(folder.path(), &["plan"]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.starts_with("error: `pgpair.yaml` can't be read: "), "{stderr}");
    assert!(stderr.contains("PGPAIR_FILE"));
    let (code, stdout, _) = run(folder.path(), &["plan", "none.yaml", "--format", "json"]);
    let error = json(&stdout);
    assert_eq!(code, 1);
    assert_eq!(error["format_version"], "1.0");
    assert_eq!(error["status"], "error");
    assert_eq!(error["errors"][0]["code"], "no_such_file");
    assert_eq!(error["errors"][0]["file"], "none.yaml");
}

#[test]
fn an_invalid_topology_is_told_with_its_place() {
    let folder = folder();
    let (code, stdout, stderr) = run(folder.path(), &["validate", "bad.yaml"]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("bad.yaml:6:14: "), "{stderr}");
    let (code, stdout, stderr) = run(folder.path(), &["validate", "orders.yaml", "bad.yaml", "--format=json"]);
    assert_eq!((code, stderr.as_str()), (1, ""));
    let error = &json(&stdout)["errors"][0];
    assert_eq!((&error["line"], &error["column"], &error["file"]), (&6.into(), &14.into(), &"bad.yaml".into()));
}

#[test]
fn a_topology_comes_from_an_argument_an_option_the_environment_or_standard_input() {
    let folder = folder();
    let valid = "orders.yaml: valid: cluster orders, 1 node\n";
    assert_eq!(run(folder.path(), &["validate", "orders.yaml"]), (0, valid.into(), String::new()));
    assert_eq!(run(folder.path(), &["validate", "-f", "orders.yaml"]).1, valid);
    let by_environment = pgpair(folder.path(), &["validate"]).env("PGPAIR_FILE", "orders.yaml").output();
    assert_eq!(ended(by_environment.expect("the binary runs")).1, valid);
    let mut child = pgpair(folder.path(), &["validate", "-", "--format", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    child.stdin.take().expect("piped").write_all(GOOD.as_bytes()).expect("read");
    let (code, stdout, _) = ended(child.wait_with_output().expect("it ends"));
    assert_eq!(code, 0);
    assert_eq!(json(&stdout)["files"][0]["file"], "standard input");
}

#[test]
fn an_id_is_explained_without_a_topology() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (code, stdout, _) = run(folder.path(), &["explain", "armed", "--format", "json"]);
    let explained = json(&stdout);
    assert_eq!((code, &explained["explanations"][0]["subject"]), (0, &"state".into()));
    let (code, _, stderr) = run(folder.path(), &["explain", "armd"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("nothing is called `armd`; did you mean `armed`?"), "{stderr}");
}

#[test]
fn a_switchover_needs_a_node_of_a_file_that_can_be_edited() {
    let folder = folder();
    let (code, _, stderr) = run(folder.path(), &["switchover", "--to", "c", "orders.yaml"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("the topology has no node `c`; its nodes are a"), "{stderr}");
    let (code, _, stderr) = run(folder.path(), &["switchover", "--to", "a", "-"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("standard input can't be edited"), "{stderr}");
    assert_eq!(run(folder.path(), &["switchover", "orders.yaml"]).0, 1);
}

#[test]
fn roles_that_can_not_be_swapped_are_told_with_the_place_in_the_file_as_it_would_be() {
    let folder = folder();
    let nodes = "nodes:\n  a: { role: primary, port: 5433, data_dir: ./a, upstream: b }\n  \
        b: { role: standby, port: 5434, data_dir: ./b, upstream: a }\n  c: { role: standby, port: 5435, data_dir: ./c }\n";
    let (head, _) = GOOD.split_once("nodes:").expect("nodes");
    fs::write(folder.path().join("orders.yaml"), format!("{head}{nodes}")).expect("written");
    let (code, stdout, _) = run(folder.path(), &["switchover", "--to", "c", "orders.yaml", "--format", "json"]);
    let error = &json(&stdout)["errors"][0];
    assert_eq!((code, &error["line"], &error["code"]), (1, &7.into(), &"upstream_loop".into()));
    assert_eq!(error["file"], "orders.yaml with c as the primary");
}

#[test]
fn a_reader_that_has_gone_away_is_no_failure() {
    let folder = folder();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = pgpair(folder.path(), &["validate", "orders.yaml"]).stdout(writer).output().expect("the binary runs");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn nothing_but_text_is_written_where_there_is_no_terminal() {
    let folder = folder();
    for arguments in [&["validate", "orders.yaml"][..], &["validate", "bad.yaml"], &["--help"]] {
        let (_, stdout, stderr) = run(folder.path(), arguments);
        assert!(!format!("{stdout}{stderr}").contains('\u{1b}'), "{arguments:?}");
    }
}

#[test]
fn a_watched_status_is_one_json_value_a_line_until_it_is_interrupted() {
    let folder = folder();
    let arguments = ["status", "orders.yaml", "--watch=10ms", "--format", "json"];
    let mut child = pgpair(folder.path(), &arguments).stdout(Stdio::piped()).spawn().expect("the binary runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    for _ in 0..2 {
        let line = lines.next().expect("another look").expect("readable");
        assert_eq!(json(&line)["nodes"][0]["state"], "no_data");
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
}
