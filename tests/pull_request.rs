//! A pull request: what it would do is told without a server, and a saved plan does exactly what was reviewed.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::Ran;
use support::Version;
use support::Workspace;

fn value(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).expect("one JSON value")
}

/// What a reviewer reads of each step but the context of its diff.
fn steps(plan: &Value) -> Vec<String> {
    let word = |step: &Value, key: &str| step[key].as_str().expect("a text").to_owned();
    let steps = plan["steps"].as_array().expect("a list").iter();
    steps.map(|step| ["id", "impact", "title"].map(|key| word(step, key)).join(" | ")).collect()
}

fn git(folder: &Path, arguments: &[&str]) {
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "safe.directory=*"];
    let output = Command::new("git").arg("-C").arg(folder).args(identity).args(arguments).output().expect("git runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_diff_and_a_plan_of_an_observation_have_the_steps_of_the_plan_of_the_servers() {
    let pair = Workspace::made(Version(15));
    let folder = pair.path("pgpair.yaml");
    let folder = folder.parent().expect("a folder");
    fs::write(pair.path(".gitconfig"), "[safe]\n\tdirectory = *\n").expect("our folder");
    git(folder, &["init", "-q", "-b", "main"]);
    git(folder, &["add", "pgpair.yaml"]);
    git(folder, &["commit", "-qm", "base"]);
    pair.pgpair(&["observe", "-o", "seen.json"])
        .exits(0)
        .says("Wrote seen.json: what was seen of cluster test, 2 nodes.");
    let base = fs::read_to_string(pair.path("pgpair.yaml")).expect("a topology");

    let swapped = base
        .replace("a: { role: primary", "a: { role: stand-by")
        .replace("b: { role: standby", "b: { role: primary")
        .replace("stand-by", "standby");
    let c = support::free_port();
    for (edit, head) in [
        ("nothing", base.clone()),
        ("a reload", base.replace("  max_wal_senders", "  work_mem: 9MB\n  max_wal_senders")),
        ("a restart", base.replace("max_wal_senders: 4", "max_wal_senders: 7")),
        ("a parameter that goes", base.replace("  wal_log_hints: on\n", "")),
        (
            "a rule",
            format!("{base}hba:\n  - {{ type: host, database: all, user: app, address: 10.0.0.0/8, method: md5 }}\n"),
        ),
        ("a node more", format!("{base}  c: {{ role: standby, port: {c}, data_dir: c/data }}\n")),
        ("no standby", base.lines().filter(|line| !line.starts_with("  b:")).map(|line| format!("{line}\n")).collect()),
        ("no slots", base.replace("replication: {", "replication: { slots: false,")),
        ("the roles swapped", swapped),
    ] {
        pair.write("pgpair.yaml", &head, 0o644);
        let live = value(&pair.pgpair(&["plan", "--format", "json"]));
        let by_git = pair.command(&["diff", "--base", "main", "--format", "json"]).env("HOME", folder).output();
        let by_git = value(&Ran::of(&by_git.expect("pgpair runs")));
        let by_observation = value(&pair.pgpair(&["plan", "--observed", "seen.json", "--format", "json"]));
        assert_eq!(steps(&by_observation), steps(&live), "{edit}: observation and servers");
        assert_eq!(steps(&by_git), steps(&live), "{edit}: git and servers");
        assert_eq!(by_git["role_change"], live["role_change"], "{edit}");
        assert_eq!(steps(&live).is_empty(), edit == "nothing", "{edit}");
        assert_eq!(live["role_change"].is_object(), edit == "the roles swapped");
    }
}
