//! Readiness on real pairs: what pgpair has made is ready, and each thing that would spoil a switchover is told by drift
//! and status, and refuses one, which then has changed nothing.

mod support;

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Child;
use std::process::Stdio;
use std::time::Duration;

use pgpair::observed::Reading;
use pgpair::observed::Reverse;
use pgpair::topology::NodeName;
use pgpair::world::World as _;
use serde_json::Value;
use support::Ran;
use support::Version;
use support::Workspace;
use support::as_owner;
use support::background::Psql;
use support::comes_true;
use support::is_full;
use support::is_root;
use support::wait_until;

const SCRAM: &str = "auth: scram-sha-256, password: { file: repuser.secret }";

/// A pair whose archive works as long as a file is there.
fn pair_with_archive(version: Version) -> Workspace {
    let pair = Workspace::new(version);
    pair.write("archive-works", "", 0o644);
    let works = pair.path("archive-works").display().to_string();
    let parameters = format!(
        "  wal_level: logical\n  max_wal_senders: 6\n  archive_mode: on\n  archive_command: 'test -f {works}'\n  \
         wal_retrieve_retry_interval: 200ms\n"
    );
    pair.topology(SCRAM, &parameters);
    pair.apply().exits(0);
    pair
}

/// The topology with its roles swapped, in a file of its own.
fn write_swapped(pair: &Workspace) {
    let text = fs::read_to_string(pair.path("pgpair.yaml")).expect("a topology");
    let swapped = text.replace("role: primary", "role: x").replace("role: standby", "role: primary");
    pair.write("swapped.yaml", &swapped.replace("role: x", "role: standby"), 0o644);
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// Returns the codes of what drift calls `not_ready`.
fn not_ready(pair: &Workspace) -> Vec<String> {
    let all = json(&pair.pgpair(&["drift", "--format", "json"]));
    let items = all["clusters"][0]["items"].as_array().cloned().unwrap_or_default();
    let items = items.iter().filter(|item| item["class"] == "not_ready");
    items.map(|item| item["code"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Returns the ids of the checks that status says would refuse a switchover to `b`.
fn unready(pair: &Workspace) -> Vec<String> {
    let all = json(&pair.pgpair(&["status", "--format", "json"]));
    let found = all["switchover"][0]["findings"].as_array().cloned().unwrap_or_default();
    found.iter().map(|finding| finding["check"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Asserts that a switchover is refused with this code, and has changed nothing.
#[track_caller]
fn is_refused(pair: &Workspace, code: &str) {
    let swapped = pair.path("swapped.yaml").display().to_string();
    let files = || ["a", "b"].map(|node| fs::read_to_string(pair.data_dir(node).join("postgresql.conf")).ok());
    let before = files();
    let ran = pair.pgpair(&["apply", &swapped, "--allow", "switchover=b", "--auto-approve", "--format", "json"]);
    let all = json(&ran);
    let blocked = all["plan"]["blocked"].as_array().cloned().unwrap_or_default();
    assert!(blocked.iter().any(|blocked| blocked["code"] == code), "{code} is not in {all:#}\n{}", ran.stderr);
    assert_eq!(ran.code, Some(3), "{all:#}");
    assert_eq!(files(), before);
    assert!(!pair.data_dir("a").join("standby.signal").exists());
    assert_eq!(pair.sql("a", "select pg_is_in_recovery()"), "f");
}

type Act<'a, T> = Box<dyn Fn(&Workspace) -> T + 'a>;

/// What spoils a switchover, and how that is taken back.
struct Spoiler<'a> {
    check: &'a str,
    /// Whether drift tells it too.
    is_standing: bool,
    /// Returns the programs that do, where some do.
    spoil: Act<'a, Vec<Child>>,
    mend: Act<'a, ()>,
}

fn spoiler<'a>(
    check: &'a str,
    is_standing: bool,
    spoil: impl Fn(&Workspace) + 'a,
    mend: impl Fn(&Workspace) + 'a,
) -> Spoiler<'a> {
    let spoil = move |pair: &Workspace| {
        spoil(pair);
        Vec::new()
    };
    Spoiler { check, is_standing, spoil: Box::new(spoil), mend: Box::new(mend) }
}

/// One that lasts as long as a program runs.
fn by_program<'a>(check: &'a str, start: impl Fn(&Workspace) -> Child + 'a) -> Spoiler<'a> {
    Spoiler { check, is_standing: true, spoil: Box::new(move |pair| vec![start(pair)]), mend: Box::new(|_| {}) }
}

/// A program of this name that waits, and was told of the data directory of `a` by a file.
fn stand_in(pair: &Workspace, name: &str) -> Child {
    let told = format!("data_directory='{}'\n", pair.data_dir("a").display());
    let conf = pair.write(&format!("{name}.conf"), &told, 0o644);
    let program = pair.write(name, "#!/bin/sh\nread -r _\n", 0o755);
    as_owner(program).arg("-f").arg(conf).stdin(Stdio::piped()).spawn().expect("it runs")
}

/// A program that takes something from a node by the replication role into a folder of its own, at work.
fn takes_from(pair: &Workspace, node: &str, program: &str, into: &str, more: &[&str]) -> Child {
    pair.make_folder(into);
    let (port, path) =
        (pair.ports[usize::from(node == "b")].to_string(), format!("/usr/lib/postgresql/15/bin/{program}"));
    let senders = format!("select count(*) from pg_stat_replication where application_name = '{program}'");
    let before = pair.sql(node, &senders);
    let mut command = as_owner(path);
    command.args(["-h", "127.0.0.1", "-p", &port, "-U", "repuser", "-w", "-D"]).arg(pair.path(into)).args(more);
    command.env("PGPASSWORD", "correct horse").stderr(Stdio::null());
    let child = command.spawn().expect("it runs");
    wait_until(&format!("{program} is at work"), || pair.sql(node, &senders) != before);
    child
}

fn receive_wal(pair: &Workspace, node: &str, into: &str) -> Child {
    takes_from(pair, node, "pg_receivewal", into, &["--no-loop"])
}

/// A base backup that takes longer than the test.
fn base_backup<'a>(node: &'a str) -> Spoiler<'a> {
    let slowly = ["--max-rate", "32", "-X", "none", "-c", "fast"];
    let spoil =
        move |pair: &Workspace| vec![takes_from(pair, node, "pg_basebackup", &format!("copy of {node}"), &slowly)];
    Spoiler { check: "base_backup", is_standing: false, spoil: Box::new(spoil), mend: Box::new(|_| {}) }
}

fn archiver(pair: &Workspace, what: &str) -> bool {
    let comparison = format!(
        "select coalesce(last_failed_time, '-infinity') {what} coalesce(last_archived_time, '-infinity') \
         from pg_stat_archiver"
    );
    pair.sql("a", &comparison) == "t"
}

fn switch_wal(pair: &Workspace) {
    pair.sql("a", "create table if not exists rows (n bigint); insert into rows values (1)");
    pair.sql("a", "select pg_switch_wal()");
}

fn signal(pair: &Workspace, name: &str) {
    let pid = pair.sql("b", "select pid from pg_stat_activity where backend_type = 'walreceiver'");
    assert!(as_owner("kill").args([name, &pid]).status().expect("kill runs").success());
}

fn spoilers<'a>() -> Vec<Spoiler<'a>> {
    let role = |sql: &'static str| move |pair: &Workspace| drop(pair.sql("a", sql));
    let reload_b = |pair: &Workspace, statement: &str| {
        pair.sql("b", statement);
        pair.sql("b", "select pg_reload_conf()");
    };
    let arrives = |pair: &Workspace| {
        let written = pair.sql("a", "select pg_current_wal_lsn()");
        wait_until("b has all of it", || {
            pair.sql("b", &format!("select pg_last_wal_replay_lsn() >= '{written}'")) == "t"
        });
    };
    vec![
        // What lets the standby go on, and would not let the old primary in.
        spoiler(
            "reverse_connection",
            true,
            move |pair| {
                role("alter role repuser valid until '2020-01-01'")(pair);
                arrives(pair);
            },
            move |pair| {
                role("alter role repuser valid until 'infinity'")(pair);
                arrives(pair);
            },
        ),
        spoiler(
            "replay_paused",
            false,
            |pair| drop(pair.sql("b", "select pg_wal_replay_pause()")),
            |pair| drop(pair.sql("b", "select pg_wal_replay_resume()")),
        ),
        spoiler(
            "lag",
            false,
            |pair| {
                signal(pair, "-STOP");
                (0..6).for_each(|_| switch_wal(pair));
            },
            move |pair| {
                signal(pair, "-CONT");
                arrives(pair);
            },
        ),
        spoiler(
            "archive",
            true,
            |pair| {
                fs::remove_file(pair.path("archive-works")).expect("our file");
                switch_wal(pair);
                wait_until("the archiver fails", || archiver(pair, ">"));
            },
            |pair| {
                pair.write("archive-works", "", 0o644);
                switch_wal(pair);
                wait_until("the archiver works", || archiver(pair, "<"));
            },
        ),
        spoiler(
            "logical_slots",
            true,
            |pair| drop(pair.sql("a", "select pg_create_logical_replication_slot('cdc', 'pgoutput')")),
            |pair| drop(pair.sql("a", "select pg_drop_replication_slot('cdc')")),
        ),
        spoiler(
            "apply_delay",
            true,
            move |pair| {
                reload_b(pair, "alter system set recovery_min_apply_delay = '1h'");
                wait_until("b is delayed", || pair.sql("b", "show recovery_min_apply_delay") == "1h");
            },
            move |pair| {
                reload_b(pair, "alter system reset recovery_min_apply_delay");
                wait_until("b is not delayed", || pair.sql("b", "show recovery_min_apply_delay") == "0");
            },
        ),
        by_program("supervisors", |pair| stand_in(pair, "repmgrd")),
        by_program("supervisors", |pair| stand_in(pair, "patroni")),
        by_program("foreign_walsenders", |pair| receive_wal(pair, "a", "received")),
    ]
}

fn spoils(pair: &Workspace, spoiler: &Spoiler<'_>) {
    spoils_with(pair, &[], spoiler);
}

/// What fails other checks as well, which are asked before it.
fn spoils_with(pair: &Workspace, others: &[&str], spoiler: &Spoiler<'_>) {
    let check = spoiler.check.to_owned();
    let programs = (spoiler.spoil)(pair);
    assert_eq!(unready(pair), [others, &[check.as_str()]].concat());
    assert_eq!(not_ready(pair).contains(&check), spoiler.is_standing, "{check}: {:?}", not_ready(pair));
    is_refused(pair, &check);
    for mut program in programs {
        program.kill().and_then(|()| program.wait()).expect("it ends");
    }
    (spoiler.mend)(pair);
    let gone = || unready(pair).is_empty();
    wait_until(&format!("{check} is mended"), gone);
    pair.pgpair(&["drift", "--fail-on", "not_ready,pending"]).exits(0);
}

#[test]
fn whatever_spoils_a_switchover_is_told_and_refuses_it() {
    let pair = pair_with_archive(Version(15));
    write_swapped(&pair);
    for spoiler in spoilers() {
        spoils(&pair, &spoiler);
    }
    for line in ["recovery_target_time = '2020-01-01'", "promote_trigger_file = '/tmp/x'"] {
        let kept = fs::read_to_string(pair.data_dir("a").join("postgresql.conf")).expect("a file");
        let spoil = |pair: &Workspace| {
            fs::write(pair.data_dir("a").join("postgresql.conf"), format!("{line}\n{kept}")).expect("our file");
            pair.sql("a", "select pg_reload_conf()");
        };
        let mend = |pair: &Workspace| {
            fs::write(pair.data_dir("a").join("postgresql.conf"), &kept).expect("our file");
            pair.sql("a", "select pg_reload_conf()");
        };
        spoils(&pair, &spoiler("recovery_end", true, spoil, mend));
    }
    if is_root() {
        let auto = pair.data_dir("b").join("postgresql.auto.conf");
        let owned_by = |user: u32| std::os::unix::fs::chown(&auto, Some(user), None).expect("root may");
        let user = fs::metadata(&auto).map(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata)).expect("a file");
        let open = fs::Permissions::from_mode(0o644);
        fs::set_permissions(&auto, open).expect("a mode");
        spoils(&pair, &spoiler("files", true, |_| owned_by(0), |_| owned_by(user)));
    }
    // Nothing of all that is left.
    pair.pgpair(&["switchover", "--to", "b", "--auto-approve"]).exits(0);
}

#[test]
fn a_copy_a_file_and_a_lack_of_room_refuse_a_switchover_and_so_do_transactions_left_open() {
    let make = || {
        let pair = Workspace::new(Version(15));
        let few = "  max_wal_senders: 3\n  max_replication_slots: 3\n  max_prepared_transactions: 2\n";
        pair.topology(SCRAM, &format!("{few}  wal_retrieve_retry_interval: 200ms\n"));
        pair.apply().exits(0);
        write_swapped(&pair);
        pair
    };
    // They count once they are a minute old; until then there is enough to do with another pair.
    let old = make();
    let (mut on_a, mut on_b) = (Psql::on(&old, "a"), Psql::on(&old, "b"));
    on_a.ask("begin; create table t (n int); prepare transaction 'forgotten'");
    on_b.ask("begin isolation level repeatable read; select 1");

    let pair = make();
    spoils(&pair, &base_backup("a"));
    spoils(&pair, &base_backup("b"));
    let file = pair.data_dir("b").join("promote");
    let write = |_: &Workspace| fs::write(&file, "").expect("our file");
    spoils(&pair, &spoiler("recovery_end", true, write, |_| fs::remove_file(&file).expect("our file")));
    let receivers = |pair: &Workspace| ["1", "2", "3"].map(|into| receive_wal(pair, "b", into)).into();
    let full = Spoiler { check: "walsenders", is_standing: true, spoil: Box::new(receivers), mend: Box::new(|_| {}) };
    spoils_with(&pair, &["reverse_connection"], &full);
    let slots = |pair: &Workspace| {
        pair.sql("b", "select pg_drop_replication_slot('pgpair_a')");
        pair.sql("b", "select pg_create_physical_replication_slot(name) from unnest(array['x', 'y', 'z']) name");
    };
    let fewer = |pair: &Workspace| {
        pair.sql("b", "select pg_drop_replication_slot(slot_name) from pg_replication_slots");
        pair.apply().exits(0);
    };
    spoils(&pair, &spoiler("slots", true, slots, fewer));
    drop(pair);

    // They are old after a minute, which is waited for where time is no matter.
    if !is_full() {
        return;
    }
    let age = "select floor(extract(epoch from clock_timestamp() - prepared)) from pg_prepared_xacts";
    let on_a = RefCell::new(on_a);
    let is_old = || on_a.borrow_mut().ask(age).parse().is_ok_and(|seconds: u64| seconds > 60);
    assert!(comes_true(Duration::from_secs(120), is_old), "time stands still");
    assert_eq!(unready(&old), ["long_transactions", "prepared_transactions"]);
    assert_eq!(not_ready(&old), Vec::<String>::new());
    is_refused(&old, "long_transactions");
    drop(on_b);
    wait_until("that transaction is gone", || unready(&old) == ["prepared_transactions"]);
    is_refused(&old, "prepared_transactions");
    old.sql("a", "rollback prepared 'forgotten'");
    old.pgpair(&["switchover", "--to", "b", "--auto-approve"]).exits(0);
}

#[test]
fn on_10_the_same_is_told_and_an_exclusive_backup_as_well() {
    let pair = pair_with_archive(Version(10));
    write_swapped(&pair);
    let few = ["reverse_connection", "replay_paused", "lag", "foreign_walsenders"];
    for spoiler in spoilers().iter().filter(|spoiler| few.contains(&spoiler.check)) {
        spoils(&pair, spoiler);
    }
    let begin = |pair: &Workspace| drop(pair.sql("a", "select pg_start_backup('by hand', true)"));
    let end = |pair: &Workspace| drop(pair.sql("a", "select pg_stop_backup()"));
    spoils(&pair, &spoiler("exclusive_backup", false, begin, end));
}

#[test]
fn a_node_out_of_reach_or_of_another_cluster_refuses_a_switchover() {
    let pair = pair_with_archive(Version(15));
    write_swapped(&pair);
    let swapped = pair.path("swapped.yaml").display().to_string();
    let refused = |check: &str, exit: i32| {
        assert!(unready(&pair).iter().any(|found| found == check), "{:?}", unready(&pair));
        pair.pgpair(&["apply", &swapped, "--allow", "switchover=b", "--auto-approve"]).exits(exit);
        assert_eq!(pair.sql("a", "select pg_is_in_recovery()"), "f");
        assert!(!pair.data_dir("a").join("standby.signal").exists());
    };
    if is_root() {
        // Not only the folder itself: its owner is who the server runs as.
        let folder = pair.path("b");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("our folder");
        let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&folder).expect("a folder"));
        std::os::unix::fs::chown(&folder, Some(0), None).expect("root may");
        refused("reach", 3);
        std::os::unix::fs::chown(&folder, Some(owner), None).expect("root may");
    }
    pair.pg_ctl("b", &["stop", "-m", "fast"]).exits(0);
    // It is started, and could be asked nothing before.
    refused("reach", 5);
    assert_eq!(unready(&pair), [""; 0]);
    pair.pg_ctl("b", &["stop", "-m", "fast"]).exits(0);
    fs::rename(pair.data_dir("b"), pair.path("b/away")).expect("our folder");
    pair.initdb("b");
    refused("system_identifier", 3);
}

/// Whether the reverse connection was had at a look.
fn is_admitted(pair: &Workspace) -> bool {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let seen = runtime.block_on(async {
        let (_, world) = support::live::reach(pair).await;
        world.observe().await
    });
    seen.node(&NodeName::new("b")).readiness.reverse == Reading::Known(Reverse::Admitted)
}

fn is_ready(version: Version, replication: &str) {
    let pair = Workspace::new(version);
    pair.topology(replication, "  max_wal_senders: 4\n");
    pair.apply().exits(0);
    pair.pgpair(&["drift", "--fail-on", "not_ready,pending,unseen"]).exits(0).says("test: in sync\n");
    pair.pgpair(&["status"]).exits(0).says("switchover to b: ready");
    assert!(is_admitted(&pair));
    // A cron job that has not the secret finds it in the passfile.
    if replication.contains("repuser.secret") {
        fs::rename(pair.path("repuser.secret"), pair.path("elsewhere.secret")).expect("our file");
        assert!(is_admitted(&pair));
    }
}

#[test]
fn a_fresh_pair_of_15_is_ready_by_every_method() {
    is_ready(Version(15), SCRAM);
    is_ready(Version(15), "auth: trust, slots: false, synchronous: { method: first, num: 1 }");
    is_ready(Version(15), "auth: md5, password: { file: repuser.secret }");
}

#[test]
fn a_fresh_pair_of_10_is_ready_by_every_method() {
    is_ready(Version(10), "auth: scram-sha-256, password: { file: repuser.secret }, slots: false");
    is_ready(Version(10), "auth: md5, password: { file: repuser.secret }, synchronous: { method: first, num: 1 }");
}
