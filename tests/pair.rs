//! A pair from nothing, and from everything in between, on real servers of 15 and 10.

mod support;

use std::fs;

use support::Version;
use support::Workspace;

const OLD: Version = Version(10);
const NEW: Version = Version(15);

/// The common parameters of the runbook, on loopback.
const RUNBOOK: [(&str, &str); 16] = [
    ("logging_collector", "on"),
    ("log_min_messages", "notice"),
    ("log_min_duration_statement", "1000"),
    ("log_checkpoints", "on"),
    ("log_connections", "on"),
    ("log_disconnections", "on"),
    ("log_duration", "on"),
    ("log_error_verbosity", "verbose"),
    ("log_line_prefix", "'%t [%p]: [%l-1] <%d %u %h>'"),
    ("unix_socket_permissions", "0600"),
    ("listen_addresses", "'*'"),
    ("max_wal_senders", "3"),
    ("wal_level", "replica"),
    ("archive_mode", "on"),
    ("archive_command", "'cd ./'"),
    ("hot_standby", "on"),
];

fn a_pair_from_nothing(version: Version) {
    let pair = Workspace::new(version);
    let parameters: String = RUNBOOK.iter().map(|(name, value)| format!("  {name}: {value}\n")).collect();
    pair.topology("auth: trust, connection_limit: 3", &parameters);

    let planned = pair.pgpair(&["plan", "--detailed-exitcode"]).exits(2);
    let planned = planned.says("postgresql.conf").says("max_wal_senders = '3'").says("Data loss: none.");
    assert!(!pair.path("a").exists(), "a plan changes nothing:\n{}", planned.stdout);

    pair.apply().exits(0);
    pair.in_sync();
    pair.replicates();
    for node in ["a", "b"] {
        for (name, value) in RUNBOOK {
            let value = value.trim_matches('\'');
            assert_eq!(
                pair.sql(node, &format!("select setting from pg_settings where name = '{name}'")),
                value,
                "{name}"
            );
        }
    }
    let role = "select rolconnlimit, rolreplication, rolsuper from pg_roles where rolname = 'repuser'";
    assert_eq!(pair.sql("a", role), "3|t|f");
    assert_eq!(pair.sql("a", "select slot_name, active from pg_replication_slots"), "pgpair_b|t");

    let data_dir = pair.data_dir("b");
    let recovery_conf = data_dir.join("recovery.conf");
    assert_eq!(data_dir.join("standby.signal").exists(), version.has_signal_files());
    assert_eq!(recovery_conf.exists(), !version.has_signal_files());
    if !version.has_signal_files() {
        assert_eq!(pair.mode(&recovery_conf), 0o600);
    }

    for node in ["a", "b"] {
        pair.pg_ctl(node, &["restart"]).exits(0);
    }
    support::wait_until("both are in sync again", || pair.pgpair(&["status"]).code == Some(0));
    pair.in_sync();
    pair.apply().exits(0).says("No changes.");
    pair.pgpair(&["status"]).exits(0).says("streaming").says("pgpair_b");
}

#[test]
fn a_pair_of_15_is_made_from_nothing_and_a_second_apply_does_nothing() {
    a_pair_from_nothing(NEW);
}

#[test]
fn a_pair_of_10_is_made_from_nothing_and_a_second_apply_does_nothing() {
    a_pair_from_nothing(OLD);
}

fn a_password_stays_secret(version: Version) {
    let pair = Workspace::new(version);
    pair.topology(
        "auth: scram-sha-256, password: { file: repuser.secret }",
        "  log_statement: all\n  logging_collector: on\n  log_min_duration_statement: 0\n",
    );
    let planned = pair.pgpair(&["plan"]);
    let applied = pair.apply().exits(0);
    pair.in_sync();
    pair.replicates();
    let passfile = pair.data_dir("b").join("pgpair.pass");
    assert_eq!(pair.mode(&passfile), 0o600);
    assert_eq!(
        pair.sql("a", "select left(rolpassword, 14) from pg_authid where rolname = 'repuser'"),
        "SCRAM-SHA-256$"
    );

    let secret = "correct horse";
    for text in [&planned.stdout, &planned.stderr, &applied.stdout, &applied.stderr] {
        assert!(!text.contains(secret));
    }
    // The passfiles and the secret's own file are the only places.
    let found =
        std::process::Command::new("grep").args(["-rlF", secret]).arg(pair.path("")).output().expect("grep runs");
    let mut found: Vec<String> = String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect();
    found.sort();
    let expected = ["a/data/pgpair.pass", "b/data/pgpair.pass", "repuser.secret"];
    assert_eq!(found, expected.map(|name| pair.path(name).to_string_lossy().into_owned()));
}

#[test]
#[ignore = "takes long: cargo test -- --include-ignored"]
fn the_password_of_15_is_in_no_log_and_no_output() {
    a_password_stays_secret(NEW);
}

#[test]
fn the_password_of_10_is_in_no_log_and_no_output() {
    a_password_stays_secret(OLD);
}

fn both_nodes_are_fresh_from_initdb(version: Version) {
    let pair = Workspace::new(version);
    pair.usual_topology();
    pair.initdb("a");
    pair.initdb("b");
    // A stopped primary that has data is an outage; the foreign directory on the standby is destroyed.
    pair.apply().exits(3).says("--allow outage").says("destroy=b");
    assert!(!pair.data_dir("a").join("postmaster.pid").exists());
    pair.pgpair(&["apply", "--auto-approve", "--allow", "outage"]).exits(5).says("destroy=b");
    assert!(!pair.data_dir("b").join("standby.signal").exists());
    pair.pgpair(&["apply", "--auto-approve", "--allow", "destroy=b"]).exits(0);
    pair.in_sync();
    pair.replicates();
}

#[test]
fn two_fresh_directories_of_15_become_a_pair_with_the_allowances_for_it() {
    both_nodes_are_fresh_from_initdb(NEW);
}

#[test]
#[ignore = "takes long: cargo test -- --include-ignored"]
fn two_fresh_directories_of_10_become_a_pair_with_the_allowances_for_it() {
    both_nodes_are_fresh_from_initdb(OLD);
}

fn the_primary_runs_without_role(version: Version) {
    let pair = Workspace::new(version);
    pair.usual_topology();
    pair.initdb("a");
    pair.set(
        "a",
        &format!(
            "port = {}\nmax_wal_senders = 4\nwal_log_hints = on\nfsync = off\nunix_socket_directories = '/tmp'",
            pair.ports[0]
        ),
    );
    pair.pg_ctl("a", &["start"]).exits(0);
    // What already holds needs no restart.
    pair.apply().exits(0);
    pair.in_sync();
    pair.replicates();
}

#[test]
fn a_running_primary_of_15_gets_role_rules_slot_and_standby_without_an_outage() {
    the_primary_runs_without_role(NEW);
}

#[test]
fn a_running_primary_of_10_gets_role_rules_slot_and_standby_without_an_outage() {
    the_primary_runs_without_role(OLD);
}

fn a_copy_made_by_hand(version: Version) {
    let pair = Workspace::new(version);
    pair.usual_topology();
    pair.apply().exits(0);
    pair.pg_ctl("b", &["stop"]).exits(0);
    fs::remove_dir_all(pair.data_dir("b")).expect("our folder");
    let (port, target) = (pair.ports[0].to_string(), pair.data_dir("b"));
    let copy = support::as_owner("/usr/lib/postgresql/15/bin/pg_basebackup")
        .args(["-h", "127.0.0.1", "-p", &port, "-U", "repuser", "-X", "stream", "-c", "fast", "-D"])
        .arg(&target)
        .env("PGPASSWORD", "correct horse")
        .status();
    assert!(copy.expect("pg_basebackup runs").success());
    assert!(pair.planned().contains(&"b.standby_files".to_owned()));
    pair.apply().exits(0);
    pair.in_sync();
    pair.replicates();
}

#[test]
fn a_copy_of_15_made_by_hand_becomes_the_standby_and_never_a_second_primary() {
    a_copy_made_by_hand(NEW);
}

#[test]
#[ignore = "takes long: cargo test -- --include-ignored"]
fn a_copy_of_10_made_by_hand_becomes_the_standby_and_never_a_second_primary() {
    a_copy_made_by_hand(OLD);
}

fn both_are_stopped(version: Version) {
    let pair = Workspace::new(version);
    pair.usual_topology();
    pair.apply().exits(0);
    for node in ["b", "a"] {
        pair.pg_ctl(node, &["stop"]).exits(0);
    }
    // The standby may be started, the primary not.
    pair.apply().exits(5).says("needs --allow outage");
    assert!(!pair.data_dir("a").join("postmaster.pid").exists());
    pair.pgpair(&["apply", "--auto-approve", "--allow", "outage"]).exits(0);
    pair.in_sync();
    pair.replicates();
    pair.pg_ctl("b", &["stop", "-m", "immediate"]).exits(0);
    pair.apply().exits(0);
    pair.in_sync();
}

#[test]
fn stopped_servers_of_15_are_started_the_primary_with_its_allowance() {
    both_are_stopped(NEW);
}

#[test]
#[ignore = "takes long: cargo test -- --include-ignored"]
fn stopped_servers_of_10_are_started_the_primary_with_its_allowance() {
    both_are_stopped(OLD);
}

#[test]
fn a_clone_killed_half_way_by_hand_is_replaced_with_its_allowance() {
    let pair = Workspace::new(NEW);
    pair.usual_topology();
    pair.apply().exits(0);
    pair.pg_ctl("b", &["stop"]).exits(0);
    fs::remove_file(pair.data_dir("b").join("global/pg_control")).expect("our file");
    pair.apply().exits(3).says("destroy=b");
    pair.pgpair(&["apply", "--auto-approve", "--allow", "destroy=b"]).exits(0);
    pair.in_sync();
    pair.replicates();
    assert!(!pair.path("b/data.pgpair-old").exists(), "the replaced directory goes once the new standby streams");
}

/// A standby with less than its primary stops replaying, or does not come up.
fn parameters_are_raised_and_lowered(version: Version) {
    let pair = Workspace::new(version);
    let with = |connections: u32| {
        pair.topology(
            "auth: trust",
            &format!("  max_wal_senders: 4\n  wal_log_hints: on\n  max_connections: {connections}\n"),
        );
    };
    with(50);
    pair.apply().exits(0);
    with(60);
    assert_eq!(pair.planned(), ["b.configure.restart", "b.streaming", "a.configure.restart", "b.streaming.2"]);
    pair.apply().exits(3).says("--allow");
    pair.pgpair(&["apply", "--auto-approve", "--allow", "restart,outage"]).exits(0);
    pair.in_sync();
    pair.replicates();
    with(40);
    assert_eq!(pair.planned(), ["a.configure.restart", "b.streaming", "b.configure.restart", "b.streaming.2"]);
    pair.pgpair(&["apply", "--auto-approve", "--allow", "restart,outage"]).exits(0);
    pair.in_sync();
    pair.replicates();
    for node in ["a", "b"] {
        assert_eq!(pair.sql(node, "show max_connections"), "40");
    }
}

#[test]
fn connections_of_15_are_raised_on_the_standby_first_and_lowered_on_the_primary_first() {
    parameters_are_raised_and_lowered(NEW);
}

#[test]
#[ignore = "takes long: cargo test -- --include-ignored"]
fn connections_of_10_are_raised_on_the_standby_first_and_lowered_on_the_primary_first() {
    parameters_are_raised_and_lowered(OLD);
}

#[test]
fn a_parameter_that_needs_no_restart_is_changed_added_and_removed_by_a_reload() {
    let pair = Workspace::new(NEW);
    let with = |parameters: &str| pair.topology("auth: trust", &format!("  max_wal_senders: 4\n{parameters}"));
    with("  work_mem: 8MB\n");
    pair.apply().exits(0);
    with("  work_mem: 16MB\n  log_min_duration_statement: 1s\n");
    pair.apply().exits(0);
    pair.in_sync();
    assert_eq!(pair.sql("b", "show work_mem"), "16MB");
    assert_eq!(pair.sql("a", "show log_min_duration_statement"), "1s");
    // The same value in other words is no change.
    with("  work_mem: 16384kB\n  log_min_duration_statement: 1000\n");
    pair.in_sync();
    with("");
    pair.apply().exits(0);
    pair.in_sync();
    assert_eq!(pair.sql("a", "show work_mem"), "4MB");
}

/// Applies a topology with every allowance but destruction, and asserts that nothing is left to do.
#[track_caller]
fn converges(pair: &Workspace) {
    pair.pgpair(&["apply", "--auto-approve", "--allow", "restart,outage"]).exits(0);
    pair.in_sync();
    pair.replicates();
}

#[test]
fn edits_that_touch_both_nodes_converge_at_once() {
    let mut pair = Workspace::new(NEW);
    let senders = "  max_wal_senders: 4\n";
    pair.topology("auth: trust, slots: false", senders);
    pair.apply().exits(0);
    // A restart for which the standby needs a slot that is not there yet.
    pair.topology("auth: trust", &format!("{senders}  max_connections: 60\n"));
    converges(&pair);
    assert_eq!(pair.sql("a", "select slot_name, active from pg_replication_slots"), "pgpair_b|t");
    // Values that the server shows in another form.
    pair.topology("auth: trust", &format!("{senders}  wal_buffers: -1\n  timezone: utc\n  archive_command: 'cd ./'\n"));
    converges(&pair);
    // The standby follows the primary to its new port.
    pair.ports[0] = support::free_port();
    pair.topology("auth: trust", senders);
    converges(&pair);
    // A password where none was, for the standby as well.
    pair.usual_topology();
    converges(&pair);
    let hba = fs::read_to_string(pair.data_dir("a").join("pg_hba.conf")).expect("our file");
    assert!(hba.contains("repuser         127.0.0.1/32       scram-sha-256"));
}

#[test]
fn a_clone_of_a_primary_with_a_leftover_recovery_target_never_promotes_itself() {
    let pair = Workspace::new(NEW);
    pair.usual_topology();
    pair.initdb("a");
    pair.set("a", "recovery_target_time = '2020-01-01'\nrecovery_target_action = 'promote'");
    pair.pgpair(&["apply", "--auto-approve", "--allow", "outage"]).exits(0);
    pair.in_sync();
    pair.replicates();
    assert_eq!(pair.sql("b", "show recovery_target_time"), "");
    pair.replicates();
}

#[test]
fn a_clone_does_not_take_over_what_alter_system_says_of_its_source() {
    let pair = Workspace::new(NEW);
    pair.usual_topology();
    pair.apply().exits(0);
    pair.pg_ctl("b", &["stop"]).exits(0);
    fs::remove_dir_all(pair.data_dir("b")).expect("our folder");
    // What `pg_basebackup -R` and a promotion leave on a primary, harmless there.
    pair.sql("a", "alter system set primary_conninfo = 'host=nowhere'");
    pair.sql("a", "alter system set work_mem = '5MB'");
    pair.apply().exits(0);
    pair.in_sync();
    pair.replicates();
    assert_eq!(pair.sql("b", "show work_mem"), "5MB");
}
