//! Parameters of a living pair on real servers: shadows in postgresql.auto.conf, restoring, what goes without a
//! restart, and what somebody else left waiting for one.

mod support;

use support::Version;
use support::Workspace;

const AUTH: &str = "auth: trust";

fn shown(pair: &Workspace, node: &str, name: &str) -> String {
    pair.sql(node, &format!("show {name}"))
}

/// Writes the topology with these parameters.
fn edit(pair: &Workspace, parameters: &str) {
    pair.topology(AUTH, parameters);
}

fn pair_lives_through_edits(version: Version) {
    let pair = Workspace::new(version);
    edit(&pair, "  work_mem: 4MB\n  max_connections: 50\n");
    pair.apply().exits(0);
    pair.in_sync();

    // Shadows: an entry of ALTER SYSTEM wins over the block, and is reset with it.
    pair.sql("a", "alter system set work_mem = '3MB'");
    pair.sql("a", "alter system set deadlock_timeout = '2s'");
    pair.sql("a", "select pg_reload_conf()");
    pair.pgpair(&["plan"]).exits(0).says("work_mem: 3072 (postgresql.auto.conf:3) -> 4MB").says("-work_mem = '3MB'");
    pair.apply().exits(0);
    pair.in_sync();
    assert_eq!(shown(&pair, "a", "work_mem"), "4MB");
    let auto = std::fs::read_to_string(pair.data_dir("a").join("postgresql.auto.conf")).expect("a file");
    assert!(!auto.contains("work_mem") && auto.contains("deadlock_timeout"), "{auto}");

    // A reload and a restart: the reload goes alone, and no value waits in a file.
    edit(&pair, "  work_mem: 5MB\n  max_connections: 60\n  log_connections: on\n");
    pair.apply().exits(5).says("b.configure.restart").says("needs --allow outage");
    for node in ["a", "b"] {
        assert_eq!(shown(&pair, node, "work_mem"), "5MB");
        assert_eq!(pair.sql(node, "select count(*) from pg_settings where pending_restart"), "0");
    }
    let rest = ["b.configure.restart", "b.streaming", "a.configure.restart", "b.streaming.2"];
    assert_eq!(pair.planned(), rest);

    // What somebody else left waiting is told, and comes with that restart.
    pair.sql("a", "alter system set shared_buffers = '100MB'");
    pair.sql("a", "select pg_reload_conf()");
    pair.pgpair(&["status"]).exits(0).says("shared_buffers: in force only after a restart");
    assert_eq!(pair.planned(), rest);
    pair.pgpair(&["plan"]).exits(0).says("waiting for a restart already, shared_buffers: 16384");
    pair.pgpair(&["apply", "--auto-approve", "--allow", "restart,outage"]).exits(0);
    pair.in_sync();
    assert_eq!(shown(&pair, "a", "max_connections"), "60");
    assert_eq!(shown(&pair, "a", "shared_buffers"), "100MB");

    // What leaves the topology returns to the rest of the file (initdb's 100), or to the default.
    edit(&pair, "  log_connections: on\n");
    pair.pgpair(&["plan"]).exits(0).says("max_connections: 60 (").says("-> 100 (postgresql.conf:");
    pair.apply().exits(5);
    assert_eq!(shown(&pair, "b", "work_mem"), "4MB", "the default");
    assert_eq!(shown(&pair, "b", "max_connections"), "60");
    pair.pgpair(&["apply", "--auto-approve", "--allow", "restart,outage"]).exits(0);
    pair.in_sync();
    for node in ["a", "b"] {
        assert_eq!(shown(&pair, node, "max_connections"), "100");
        assert_eq!(pair.sql(node, "select count(*) from pg_settings where pending_restart"), "0");
    }
    assert_eq!(shown(&pair, "a", "deadlock_timeout"), "2s", "what pgpair never set stays");
    pair.replicates();
}

#[test]
fn a_pair_of_15_takes_edits_of_parameters_one_after_the_other() {
    pair_lives_through_edits(Version(15));
}

#[test]
fn a_pair_of_10_takes_edits_of_parameters_one_after_the_other() {
    pair_lives_through_edits(Version(10));
}

#[test]
fn an_entry_of_auto_conf_on_a_stopped_server_is_reset_before_it_starts() {
    for version in [Version(15), Version(10)] {
        let pair = Workspace::new(version);
        edit(&pair, "  work_mem: 4MB\n");
        pair.apply().exits(0);
        pair.sql("a", "alter system set work_mem = '3MB'");
        pair.sql("a", "alter system set deadlock_timeout = '2s'");
        pair.pg_ctl("a", &["stop"]).exits(0);
        assert_eq!(pair.planned(), ["a.configure", "a.start", "a.replication_role", "b.streaming"]);
        pair.pgpair(&["apply", "--auto-approve", "--allow", "outage"]).exits(0);
        pair.in_sync();
        assert_eq!(shown(&pair, "a", "work_mem"), "4MB");
        assert_eq!(shown(&pair, "a", "deadlock_timeout"), "2s", "what pgpair never set stays");
    }
}

#[test]
fn what_our_own_session_or_role_overrides_is_no_difference() {
    let pair = Workspace::new(Version(15));
    edit(&pair, "  statement_timeout: 90s\n  work_mem: 4MB\n");
    pair.apply().exits(0);
    pair.sql("a", "alter role postgres set work_mem = '77MB'");
    pair.in_sync();
    edit(&pair, "  statement_timeout: 80s\n  work_mem: 6MB\n");
    pair.apply().exits(0);
    pair.in_sync();
}

#[test]
fn a_value_of_the_command_line_is_refused_with_its_option() {
    let pair = Workspace::new(Version(15));
    edit(&pair, "  work_mem: 4MB\n");
    pair.apply().exits(0);
    pair.pg_ctl("b", &["stop"]).exits(0);
    pair.pg_ctl("b", &["start", "-o", "-c work_mem=7MB"]).exits(0);
    pair.pgpair(&["plan"]).exits(3).says("the command line (`-c work_mem=7168`)").says("pg_ctl -o");
}
