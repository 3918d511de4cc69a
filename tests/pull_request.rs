//! A pull request: what it would do is told without a server, and a saved plan does exactly what was reviewed.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::Ran;
use support::Version;
use support::Workspace;
use support::path_with_pgpair;

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

#[test]
fn a_saved_plan_does_what_was_reviewed_or_names_what_moved() {
    let pair = Workspace::made(Version(15));
    let secret = fs::read_to_string(pair.path("repuser.secret")).expect("a secret");
    pair.edit("  max_wal_senders: 4\n", "  max_wal_senders: 4\n  work_mem: 9MB\n");
    let saved = || pair.pgpair(&["plan", "-o", "plan.json"]).exits(0).says("Saved to plan.json");
    let apply = || pair.pgpair(&["apply", "--plan", "plan.json", "--auto-approve", "--format", "json"]);

    let shown = saved();
    let text = fs::read_to_string(pair.path("plan.json")).expect("a plan");
    assert!(!text.contains(secret.trim()) && !text.contains("SCRAM-SHA-256$"), "a secret is in it");
    assert_eq!(pair.mode(&pair.path("plan.json")), 0o644);
    assert_eq!(pair.pgpair(&["show", "plan.json"]).exits(0).stdout, shown.stdout);
    let live = value(&pair.pgpair(&["plan", "--format", "json"]));
    let again = value(&pair.pgpair(&["show", "plan.json", "--format", "json"]));
    for key in ["steps", "summary", "topology_digest", "observation_digest"] {
        assert_eq!(again[key], live[key], "{key}");
    }

    // Each of these is a fact that the plan rests on.
    // Where, which, how, and how it is taken back.
    type Change<'a> = (&'a str, &'a str, &'a dyn Fn(), &'a dyn Fn());
    let changes: [Change; 5] = [
        ("a", "place.data_dir.cluster.hba", &|| add(&pair, "a", "# mine\n"), &|| drop_last(&pair, "a")),
        ("a", "slots", &|| drop(pair.sql("a", "select pg_create_physical_replication_slot('x')")), &|| {
            drop(pair.sql("a", "select pg_drop_replication_slot('x')"));
        }),
        ("b", "place.data_dir.cluster.markers.recovery_signal", &|| touch(&pair, "recovery.signal"), &|| {
            remove(&pair, "recovery.signal");
        }),
        (
            "a",
            "replication_role.connection_limit",
            &|| drop(pair.sql("a", "alter role repuser connection limit 9")),
            &|| {
                drop(pair.sql("a", "alter role repuser connection limit -1"));
            },
        ),
        ("b", "replay_paused", &|| drop(pair.sql("b", "select pg_wal_replay_pause()")), &|| {
            drop(pair.sql("b", "select pg_wal_replay_resume()"));
        }),
    ];
    for (node, fact, change, back) in changes {
        change();
        let ran = apply().exits(3);
        let error = &value(&ran)["errors"][0];
        assert_eq!(error["code"], "stale", "{fact}: {error}");
        let moved = error["moved"].as_array().expect("a list");
        let named = moved
            .iter()
            .any(|moved| moved["node"] == node && moved["fact"].as_str().is_some_and(|found| found.contains(fact)));
        assert!(named, "{fact}: {error}");
        back();
    }
    assert_eq!(pair.sql("a", "show work_mem"), "4MB", "nothing was done");

    fs::write(
        pair.path("other.yaml"),
        fs::read_to_string(pair.path("pgpair.yaml")).expect("ours").replace("9MB", "8MB"),
    )
    .expect("our folder");
    pair.pgpair(&["apply", "--plan", "plan.json", "-f", "other.yaml", "--auto-approve"])
        .exits(3)
        .says("is not the topology");

    // Positions have moved since, and sessions have come and gone: a plan stays what it was.
    pair.sql("a", "create table filler as select generate_series(1, 10000) n");
    pair.pgpair(&["apply", "--plan", "plan.json", "-f", "pgpair.yaml", "--auto-approve"]).exits(0).says("Applied");
    assert_eq!(pair.sql("b", "show work_mem"), "9MB");
    pair.in_sync();
    apply().exits(3).says("settings.work_mem");
    saved();
    apply().exits(0).says("clean");
}

fn add(pair: &Workspace, node: &str, line: &str) {
    let path = pair.data_dir(node).join("pg_hba.conf");
    let text = fs::read_to_string(&path).expect("rules");
    fs::write(path, text + line).expect("our file");
}

fn drop_last(pair: &Workspace, node: &str) {
    let path = pair.data_dir(node).join("pg_hba.conf");
    let text = fs::read_to_string(&path).expect("rules").replace("# mine\n", "");
    fs::write(path, text).expect("our file");
    pair.sql(node, "select pg_reload_conf()");
    support::wait_until("the rules are read", || pair.pgpair(&["plan"]).stdout.contains("2 steps"));
}

fn touch(pair: &Workspace, name: &str) {
    fs::write(pair.data_dir("b").join(name), "").expect("our folder");
}

fn remove(pair: &Workspace, name: &str) {
    fs::remove_file(pair.data_dir("b").join(name)).expect("our file");
}

/// A script of `contrib/pipeline` as a job would run it, with the real pgpair.
fn job(pair: &Workspace, script: &str, arguments: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/pipeline").join(script);
    let command = pair.command(&[]);
    let mut job = Command::new(script);
    job.args(arguments).current_dir(pair.path("")).env("PATH", path_with_pgpair()).stdin(std::process::Stdio::null());
    job.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // The folder is the servers' user's.
    job.envs([("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "safe.directory"), ("GIT_CONFIG_VALUE_0", "*")]);
    job
}

#[test]
fn the_jobs_of_contrib_take_a_change_from_its_review_to_the_servers() {
    let pair = Workspace::made(Version(15));
    let ran = |script: &str, arguments: &[&str]| Ran::of(&job(&pair, script, arguments).output().expect("it runs"));
    let folder = pair.path("");
    git(&folder, &["init", "-q", "-b", "main"]);
    git(&folder, &["add", "pgpair.yaml"]);
    git(&folder, &["commit", "-qm", "the pair"]);
    pair.edit("  wal_log_hints: on\n", "  wal_log_hints: on\n  work_mem: 7MB\n");

    ran("review", &["main", "pgpair.yaml"]).exits(0);
    let review = fs::read_to_string(pair.path("review/pgpair.md")).expect("a review");
    assert!(review.starts_with("<!-- pgpair:test -->\n") && review.contains("+work_mem = '7MB'"), "{review}");
    ran("plan", &["pgpair.yaml"]).exits(0);
    let comment = fs::read_to_string(pair.path("plans/pgpair.md")).expect("a comment");
    assert!(comment.contains("+work_mem = '7MB'"), "{comment}");
    ran("apply", &[]).exits(0);
    assert_eq!(pair.sql("b", "show work_mem"), "7MB");
    pair.in_sync();
    // Run once more, the plan is one of yesterday.
    ran("apply", &[]).exits(3).says("read the new plan");

    // What costs an outage waits for its allowance.
    pair.edit("work_mem: 7MB\n", "work_mem: 7MB\n  max_connections: 150\n");
    ran("plan", &["pgpair.yaml"]).exits(0);
    ran("apply", &[]).exits(3).says("--allow");
    let allowed = job(&pair, "apply", &[]).env("PGPAIR_ALLOW", "restart,outage").output().expect("it runs");
    Ran::of(&allowed).exits(0);
    assert_eq!(pair.sql("a", "show max_connections"), "150");
    pair.in_sync();
}
