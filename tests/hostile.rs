//! Topologies that would run something, or reach somebody, if they could: nothing does where a stranger's are reviewed.

mod support;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use support::Ran;

/// A topology whose every command leaves a canary, and whose servers are `port`.
fn hostile(canary: &Path, port: u16, extra: &str) -> String {
    let touch = format!("[touch, {}]", canary.display());
    format!(
        "version: 1\ncluster: hostile\npostgresql: {{ version: 15 }}\n\
         admin: {{ user: postgres, password: {{ command: {touch} }} }}\n\
         replication: {{ user: repuser, auth: scram-sha-256, password: {{ command: {touch} }} }}\n\
         parameters: {{ archive_mode: on, archive_command: \"touch {canary}\", wal_log_hints: on{extra} }}\n\
         hooks:\n  before_switchover: [{touch}]\n  after_promotion: [{touch}]\n\
         fencing: {{ command: [touch, {canary}, \"{{node}}\"] }}\n\
         nodes:\n  a: {{ role: primary, port: {port}, data_dir: a/data, \
         service: {{ start: {touch}, stop: {touch} }} }}\n  \
         b: {{ role: standby, port: 5434, data_dir: b/data }}\n",
        canary = canary.display()
    )
}

#[test]
fn a_strangers_topology_runs_nothing_and_reaches_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let canary = path("canary");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a listener");
    let port = listener.local_addr().expect("its address").port();
    let write = |name: &str, text: &str| fs::write(path(name), text).expect("our folder");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgpair"));
        command.args(arguments).current_dir(folder.path()).env_remove("PGPAIR_FILE");
        // What git would run if it were asked to, and the servers that libpq would ask.
        command.env("PGHOST", "127.0.0.1").env("PGPORT", port.to_string()).env("HOME", folder.path());
        command.env("GIT_PAGER", format!("touch {}", canary.display()));
        Ran::of(&command.output().expect("pgpair runs"))
    };
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
        let output = Command::new("git").arg("-C").arg(folder.path()).args(identity).args(arguments).output();
        assert!(output.expect("git runs").status.success(), "{arguments:?}");
    };
    write("old.yaml", &hostile(&canary, port, ""));
    write("pgpair.yaml", &hostile(&canary, port, ""));
    write(".gitattributes", "*.yaml diff=evil filter=evil\n");
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "."]);
    git(&["commit", "-qm", "base"]);
    for command in ["diff.evil.textconv", "diff.evil.command", "filter.evil.smudge", "core.fsmonitor", "core.pager"] {
        git(&["config", command, &format!("touch {}", canary.display())]);
    }
    write("pgpair.yaml", &hostile(&canary, port, ", work_mem: 9MB"));
    write("new.yaml", &hostile(&canary, port, ", work_mem: 9MB"));
    // The owners of the cluster have looked at it with a topology of their own, of nodes that are not there.
    let own = "version: 1\ncluster: hostile\npostgresql: { version: 15 }\nreplication: { user: repuser, auth: trust }\n\
        nodes:\n  a: { role: primary, port: 5433, data_dir: a/data }\n  b: { role: standby, port: 5434, data_dir: b/data }\n";
    write("own.yaml", own);
    run(&["observe", "own.yaml", "-o", "seen.json"]).exits(0);

    run(&["validate", "new.yaml"]).exits(0);
    run(&["diff", "old.yaml", "new.yaml", "--detailed-exitcode"]).exits(2).says("work_mem");
    run(&["diff", "--base", "main"]).exits(0).says("work_mem");
    run(&["plan", "--observed", "seen.json", "new.yaml", "-o", "plan.json"]).exits(0).says("Saved to plan.json");
    run(&["show", "plan.json"]).exits(0).says("Plan: ");
    run(&["diff", "--base=-p"]).exits(1).says("that is no name of a commit");
    run(&["diff", "--base", "none"]).exits(1).says("can't be had from git");
    write(
        "ssh.yaml",
        &own.replace("port: 5434,", &format!("port: 5434, ssh: \"-oProxyCommand=touch {}\",", canary.display())),
    );
    run(&["validate", "ssh.yaml"]).exits(1).says("ssh");
    run(&["diff", "old.yaml", "ssh.yaml"]).exits(1).says("ssh");
    run(&["plan", "--observed", "seen.json", "ssh.yaml"]).exits(1).says("ssh");

    assert!(!canary.exists(), "something was run");
    let reached = listener.accept().map(|(_, from)| from);
    assert!(reached.is_err(), "somebody was reached: {reached:?}");
    // The canary sings where it may.
    run(&["plan", "new.yaml"]);
    assert!(canary.exists(), "the commands of this topology leave no canary");
}

#[test]
fn a_file_that_the_base_does_not_have_is_a_cluster_that_is_new() {
    let folder = tempfile::tempdir().expect("a folder");
    let canary = folder.path().join("canary");
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
        let output = Command::new("git").arg("-C").arg(folder.path()).args(identity).args(arguments).output();
        assert!(output.expect("git runs").status.success(), "{arguments:?}");
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["commit", "-q", "--allow-empty", "-m", "base"]);
    fs::write(folder.path().join("pgpair.yaml"), hostile(&canary, 5433, "")).expect("our folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgpair"));
    command.args(["diff", "--base", "main"]).current_dir(folder.path()).env_remove("PGPAIR_FILE");
    Ran::of(&command.output().expect("pgpair runs")).exits(0).says("Plan: ").says("initdb");
}
