//! Hooks on real servers: when they run, what they are told, and that what a failure or a kill leaves owed is run later.

mod support;

use std::fs;

use support::Ran;
use support::Version;
use support::Workspace;

const NEW: Version = Version(15);
const OLD: Version = Version(10);

/// Writes a line of what it is told, and all of its environment; fails, or kills pgpair, once where a file says so.
const HOOK: &str = r#"#!/bin/sh
echo "$PGPAIR_HOOK $1 $PGPAIR_CLUSTER $PGPAIR_OLD_PRIMARY=$PGPAIR_OLD_PRIMARY_HOST:$PGPAIR_OLD_PRIMARY_PORT \
$PGPAIR_NEW_PRIMARY=$PGPAIR_NEW_PRIMARY_HOST:$PGPAIR_NEW_PRIMARY_PORT resumed=$PGPAIR_RESUMED" >> hooks.log
env >> hooks.env
if rm "fail-$PGPAIR_HOOK" 2>/dev/null; then echo "not today" >&2; exit 3; fi
if rm "kill-$PGPAIR_HOOK" 2>/dev/null; then kill -9 "$PPID"; fi
echo "said by $PGPAIR_HOOK"
"#;

/// A pair that runs, with every hook; its secret is in the environment of pgpair.
fn pair(version: Version) -> Workspace {
    let pair = Workspace::new(version);
    pair.topology("auth: scram-sha-256, password: { env: PGPAIR_TEST_SECRET }", "  wal_log_hints: on\n");
    pair.write("hook.sh", HOOK, 0o755);
    let hooks = "hooks:\n  before_switchover: [[./hook.sh, 1], [./hook.sh, 2]]\n  after_promotion: [[./hook.sh, 1]]\n  \
                 after_switchover: [[./hook.sh, 1]]\n  switchover_undone: [[./hook.sh, 1]]\nnodes:\n";
    pair.edit("nodes:\n", hooks);
    run(&pair, &["apply", "--auto-approve"]).exits(0);
    pair
}

fn run(pair: &Workspace, arguments: &[&str]) -> Ran {
    Ran::of(&pair.command(arguments).env("PGPAIR_TEST_SECRET", "correct horse").output().expect("pgpair runs"))
}

fn switch_to(pair: &Workspace, node: &str) -> Ran {
    run(pair, &["switchover", "--to", node, "--auto-approve"])
}

/// Returns the lines that the hooks have written since the last time, shortened to hook, argument and `resumed`.
#[track_caller]
fn ran(pair: &Workspace) -> Vec<String> {
    let log = fs::read_to_string(pair.path("hooks.log")).unwrap_or_default();
    fs::write(pair.path("hooks.log"), "").expect("our folder");
    let short = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        [words[0], words[1], words[5]].join(" ")
    };
    log.lines().map(short).collect()
}

#[track_caller]
fn in_sync(pair: &Workspace) {
    run(pair, &["plan", "--detailed-exitcode"]).exits(0).says("No changes.");
    for node in ["a", "b"] {
        let conf = fs::read_to_string(pair.data_dir(node).join("postgresql.conf")).expect("a postgresql.conf");
        assert!(!conf.contains("hooks owed"), "{node}: {conf}");
    }
}

fn mark(pair: &Workspace, name: &str) {
    fs::write(pair.path(name), "").expect("our folder");
}

fn hooks_run_in_order(version: Version) {
    let pair = pair(version);
    let [a, b] = pair.ports;
    let topology = fs::read_to_string(pair.path("pgpair.yaml")).expect("a topology");
    switch_to(&pair, "b").exits(0).says("said by after_promotion");
    let told = format!("test a=127.0.0.1:{a} b=127.0.0.1:{b} resumed=0");
    let log = fs::read_to_string(pair.path("hooks.log")).expect("hooks have run");
    let expected = [
        format!("before_switchover 1 {told}"),
        format!("before_switchover 2 {told}"),
        format!("after_promotion 1 {told}"),
        format!("after_switchover 1 {told}"),
    ];
    assert_eq!(log.lines().collect::<Vec<_>>(), expected);
    let environment = fs::read_to_string(pair.path("hooks.env")).expect("hooks have run");
    assert!(!environment.contains("correct horse") && environment.contains("PATH="), "{environment}");
    in_sync(&pair);
    ran(&pair);
    switch_to(&pair, "a").exits(0);
    let back = ["before_switchover 1", "before_switchover 2", "after_promotion 1", "after_switchover 1"];
    assert_eq!(ran(&pair), back.map(|hook| format!("{hook} resumed=0")));
    assert_eq!(fs::read_to_string(pair.path("pgpair.yaml")).expect("a topology"), topology);
    in_sync(&pair);
    pair.replicates();
}

#[test]
fn the_hooks_of_15_run_in_order_and_are_told_of_both_nodes_and_of_no_secret() {
    hooks_run_in_order(NEW);
}

#[test]
fn the_hooks_of_10_run_in_order_and_are_told_of_both_nodes_and_of_no_secret() {
    hooks_run_in_order(OLD);
}

#[test]
fn a_before_hook_that_fails_stops_the_switchover_and_the_undone_hooks_run() {
    let pair = pair(NEW);
    let topology = fs::read_to_string(pair.path("pgpair.yaml")).expect("a topology");
    mark(&pair, "fail-before_switchover");
    switch_to(&pair, "b").exits(5).says("not today").says("the topology file is as it was");
    assert_eq!(ran(&pair), ["before_switchover 1 resumed=0", "switchover_undone 1 resumed=0"]);
    assert_eq!(fs::read_to_string(pair.path("pgpair.yaml")).expect("a topology"), topology);
    assert!(!pair.data_dir("a").join("standby.signal").exists());
    assert_eq!(pair.sql("a", "select timeline_id from pg_control_checkpoint()"), "1");
    in_sync(&pair);
    pair.replicates();
}

#[test]
fn hooks_that_a_killed_run_owes_before_the_fence_run_again_and_go_on() {
    let pair = pair(NEW);
    mark(&pair, "kill-before_switchover");
    assert_eq!(switch_to(&pair, "b").code, None, "it was killed");
    assert_eq!(ran(&pair), ["before_switchover 1 resumed=0"]);
    let plan = run(&pair, &["plan"]);
    plan.exits(0).says("hook before_switchover");
    run(&pair, &["apply", "--auto-approve", "--allow", "switchover=b"]).exits(0);
    let hooks = ["before_switchover 1", "before_switchover 2", "after_promotion 1", "after_switchover 1"];
    assert_eq!(ran(&pair), hooks.map(|hook| format!("{hook} resumed=1")));
    in_sync(&pair);
}

#[test]
fn hooks_that_a_killed_run_owes_are_undone_where_the_roles_are_to_stay() {
    let pair = pair(NEW);
    mark(&pair, "kill-before_switchover");
    assert_eq!(switch_to(&pair, "b").code, None, "it was killed");
    ran(&pair);
    // The file says b; without the allowance everything is done for the roles as they are.
    run(&pair, &["apply", "--auto-approve"]).exits(5).says("needs --allow switchover=b");
    assert_eq!(ran(&pair), ["switchover_undone 1 resumed=1"]);
    assert_eq!(pair.sql("a", "select pg_is_in_recovery()"), "f");
}

#[test]
fn hooks_that_a_killed_run_owes_after_the_promotion_are_run_by_the_next_apply() {
    let pair = pair(NEW);
    mark(&pair, "kill-after_promotion");
    assert_eq!(switch_to(&pair, "b").code, None, "it was killed");
    ran(&pair);
    run(&pair, &["drift"]).exits(2).says("hook after_promotion: owed, wanted run");
    run(&pair, &["apply", "--auto-approve"]).exits(0);
    assert_eq!(ran(&pair), ["after_promotion 1 resumed=1", "after_switchover 1 resumed=1"]);
    in_sync(&pair);
}

#[test]
fn an_after_hook_that_fails_stays_owed_and_the_primary_where_it_is() {
    let pair = pair(NEW);
    mark(&pair, "fail-after_switchover");
    switch_to(&pair, "b").exits(5).says("not today");
    ran(&pair);
    let conf = fs::read_to_string(pair.data_dir("b").join("postgresql.conf")).expect("a postgresql.conf");
    assert!(conf.contains("# hooks owed: b takes over from a on timeline 1, done: after_promotion"), "{conf}");
    assert_eq!(pair.sql("b", "select pg_is_in_recovery()"), "f");
    run(&pair, &["apply", "--auto-approve"]).exits(0);
    assert_eq!(ran(&pair), ["after_switchover 1 resumed=1"]);
    in_sync(&pair);
}

#[test]
fn a_hook_that_is_not_there_is_named_before_anything_is_fenced() {
    let pair = pair(NEW);
    fs::remove_file(pair.path("hook.sh")).expect("our file");
    switch_to(&pair, "b").says("hook.sh` can't be started").exits(5);
    assert!(!pair.data_dir("a").join("standby.signal").exists());
    assert_eq!(pair.sql("a", "select pg_is_in_recovery()"), "f");
    pair.write("hook.sh", HOOK, 0o755);
    run(&pair, &["apply", "--auto-approve"]).exits(0);
    assert_eq!(ran(&pair), ["switchover_undone 1 resumed=1"]);
    in_sync(&pair);
}
