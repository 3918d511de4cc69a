//! Who starts and stops a server, and who only looks: Debian's layout with pg_ctlcluster, a systemd unit (by a stand-in
//! `systemctl`, which notes what it is told and does it by pg_ctl), commands of the topology's, and an OS user who
//! can't read a data directory.

use std::fs;
use std::path::Path;
use std::process::Command;

use support::Ran;
use support::Version;
use support::Workspace;
use support::is_root;
use support::path_with;

mod support;

const PG: Version = Version(15);

/// Runs pgpair with the workspace's own `bin` first on the path.
fn pgpair(workspace: &Workspace, arguments: &[&str]) -> Ran {
    let path = path_with(&workspace.path("bin"));
    Ran::of(&workspace.command(arguments).env("PATH", path).output().expect("pgpair runs"))
}

fn apply(workspace: &Workspace) -> Ran {
    pgpair(workspace, &["apply", "--auto-approve", "--allow", "restart,outage"])
}

#[track_caller]
fn in_sync(workspace: &Workspace) {
    pgpair(workspace, &["plan", "--detailed-exitcode"]).exits(0).says("No changes.");
}

/// Writes a topology of one node with these keys, and these parameters.
fn topology(workspace: &Workspace, keys: &str, parameters: &str) {
    let (port, bin_dir) = (workspace.ports[0], workspace.bin_dir.display());
    let text = format!(
        "version: 1\ncluster: test\npostgresql: {{ version: 15, bin_dir: {bin_dir}, initdb: {{ locale: C }} }}\n\
         replication: {{ user: repuser, auth: trust }}\nparameters: {{ fsync: off, {parameters} }}\n\
         nodes:\n  a: {{ role: primary, port: {port}, data_dir: a/data, {keys} }}\n"
    );
    workspace.write("pgpair.yaml", &text, 0o644);
}

/// Puts a program that does its work with pg_ctl, as the owner of the servers, and notes how it was called.
fn put_stand_in(workspace: &Workspace, name: &str, cases: &str) {
    fs::create_dir_all(workspace.path("bin")).expect("our folder");
    let become_owner = if is_root() { "setpriv --reuid=postgres --regid=postgres --init-groups --" } else { "" };
    let (dir, bin_dir) = (workspace.path("").display().to_string(), workspace.bin_dir.display());
    let text = format!(
        "#!/bin/sh\ncd / && dir={dir}\npg_ctl() {{ {become_owner} {bin_dir}/pg_ctl -s -w -D $dir/a/data -l $dir/a.log \"$@\"; }}\n\
         case \"$*\" in\n{cases}\n*) echo \"not expected: $*\" >&2; exit 9;;\nesac\n"
    );
    workspace.write(&format!("bin/{name}"), &text, 0o755);
    workspace.write("a.log", "", 0o600);
}

/// Returns what was asked of the stand-in.
fn calls(workspace: &Workspace) -> Vec<String> {
    let text = fs::read_to_string(workspace.path("calls")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// A systemd that has the unit, and runs it.
const SYSTEMD: &str = "\
    show*) echo LoadState=loaded; echo MainPID=$(head -n 1 $dir/a/data/postmaster.pid 2>/dev/null || echo 0);;\n\
    *start*pg-test.service) echo \"$*\" >>$dir/calls; pg_ctl start;;\n\
    *stop*pg-test.service) echo \"$*\" >>$dir/calls; pg_ctl stop;;";

#[test]
fn a_unit_starts_the_server_and_restarts_it() {
    // Only root may control a unit without polkit or sudo.
    if !is_root() {
        return;
    }
    let workspace = Workspace::new(PG);
    put_stand_in(&workspace, "systemctl", SYSTEMD);
    topology(&workspace, "service: pg-test", "work_mem: 4MB");
    pgpair(&workspace, &["plan"]).exits(0).says("by systemctl pg-test.service");
    apply(&workspace).exits(0);
    let start = "--no-ask-password start -- pg-test.service";
    let stop = "--no-ask-password stop -- pg-test.service";
    assert_eq!(calls(&workspace), [start]);
    in_sync(&workspace);

    topology(&workspace, "service: pg-test", "work_mem: 5MB");
    apply(&workspace).exits(0);
    assert_eq!(calls(&workspace), [start], "a reload needs no unit");
    topology(&workspace, "service: pg-test", "work_mem: 5MB, max_connections: 42");
    apply(&workspace).exits(0);
    assert_eq!(calls(&workspace), [start, stop, start]);
    assert_eq!(workspace.sql("a", "show max_connections"), "42");
    in_sync(&workspace);
}

#[test]
fn what_a_units_server_does_not_come_up_on_is_taken_back() {
    // Only root may control a unit without polkit or sudo.
    if !is_root() {
        return;
    }
    let workspace = Workspace::new(PG);
    put_stand_in(&workspace, "systemctl", SYSTEMD);
    let says = "#!/bin/sh\necho 'FATAL:  could not map anonymous shared memory: Cannot allocate memory'\n";
    workspace.write("bin/journalctl", says, 0o755);
    topology(&workspace, "service: pg-test", "work_mem: 4MB");
    apply(&workspace).exits(0);
    topology(&workspace, "service: pg-test", "shared_buffers: 7TB");
    let ran = apply(&workspace).exits(1).says("it runs on the old configuration again");
    ran.says("could not map anonymous shared memory");
    assert_eq!(workspace.sql("a", "show shared_buffers"), "128MB", "the server runs on the old file");
}

#[test]
fn a_unit_that_may_not_be_controlled_blocks_before_anything_is_done() {
    let workspace = Workspace::new(PG);
    put_stand_in(&workspace, "systemctl", "show*) echo LoadState=not-found; echo MainPID=0;;");
    topology(&workspace, "service: pg-test", "work_mem: 4MB");
    let ran = pgpair(&workspace, &["plan"]).exits(3).says("unit_refused").says("systemd has no such unit");
    ran.says("systemctl start pg-test.service");
    assert!(!workspace.data_dir("a").exists());

    // A server that runs already, and not by the unit, is left running; what needs no restart is done.
    topology(&workspace, "", "work_mem: 4MB");
    workspace.apply().exits(0);
    put_stand_in(&workspace, "systemctl", "show*) echo LoadState=loaded; echo MainPID=1;;");
    topology(&workspace, "service: pg-test", "work_mem: 5MB");
    apply(&workspace).exits(0);
    assert_eq!(workspace.sql("a", "show work_mem"), "5MB");
    topology(&workspace, "service: pg-test", "work_mem: 5MB, max_connections: 42");
    apply(&workspace).exits(3).says("was not started by it");
    assert_eq!(workspace.sql("a", "show max_connections"), "100");
}

#[test]
fn commands_of_the_topology_start_and_restart_the_server() {
    let workspace = Workspace::new(PG);
    let cases = "up) echo up >>$dir/calls; pg_ctl start;;\ndown) echo down >>$dir/calls; pg_ctl stop;;\n\
                 again) echo again >>$dir/calls; pg_ctl restart;;\nnothing) ;;";
    put_stand_in(&workspace, "ctl", cases);
    topology(&workspace, "service: { start: [ctl, up], stop: [ctl, down] }", "work_mem: 4MB");
    apply(&workspace).exits(0);
    topology(&workspace, "service: { start: [ctl, up], stop: [ctl, down] }", "max_connections: 41");
    apply(&workspace).exits(0);
    assert_eq!(calls(&workspace), ["up", "down", "up"]);
    let service = "service: { start: [ctl, up], stop: [ctl, down], restart: [ctl, again] }";
    topology(&workspace, service, "max_connections: 42");
    apply(&workspace).exits(0);
    assert_eq!(calls(&workspace), ["up", "down", "up", "again"]);
    assert_eq!(workspace.sql("a", "show max_connections"), "42");
    in_sync(&workspace);

    let service = "service: { start: [ctl, up], stop: [ctl, down], restart: [ctl, nothing] }";
    topology(&workspace, service, "max_connections: 43");
    apply(&workspace).exits(1).says("was not restarted by `service.restart`");
}

/// Makes a cluster as Debian does, with a configuration root of its own.
fn create_debian_cluster(workspace: &Workspace) {
    workspace.make_folder("a");
    workspace.make_folder("etc");
    let (data, log) = (workspace.data_dir("a"), workspace.path("a.log"));
    let port = workspace.ports[0].to_string();
    let mut command = Command::new("pg_createcluster");
    command.env("PG_CLUSTER_CONF_ROOT", workspace.path("etc")).args(["15", "test", "-p", &port, "-d"]).arg(&data);
    command.arg("-l").arg(&log).args(["-s", "/tmp", "--start-conf", "manual"]);
    if is_root() {
        command.args(["-u", "postgres"]);
    }
    command.args(["--", "-N", "--locale=C"]);
    Ran::of(&command.output().expect("pg_createcluster runs")).exits(0);
}

#[test]
fn a_debian_cluster_is_adopted_and_changed_where_its_configuration_lies() {
    let workspace = Workspace::new(PG);
    create_debian_cluster(&workspace);
    let conf = workspace.path("etc/15/test/postgresql.conf");
    let keys = "config_dir: etc/15/test";
    topology(&workspace, keys, "work_mem: 4MB");
    pgpair(&workspace, &["plan"]).exits(0).says("by pg_ctlcluster 15 test");
    apply(&workspace).exits(0);
    in_sync(&workspace);
    let mode = workspace.mode(&conf);

    topology(&workspace, keys, "work_mem: 5MB");
    apply(&workspace).exits(0);
    assert_eq!(workspace.sql("a", "show work_mem"), "5MB");
    topology(&workspace, keys, "work_mem: 5MB, max_connections: 42");
    apply(&workspace).exits(0);
    assert_eq!(workspace.sql("a", "show max_connections"), "42");
    in_sync(&workspace);

    assert!(fs::read_to_string(&conf).expect("a file").contains("# BEGIN pgpair test/a"));
    assert_eq!(workspace.mode(&conf), mode);
    assert!(!workspace.data_dir("a").join("postgresql.conf").exists(), "nothing is written where nothing reads it");
    let left = fs::read_dir(conf.parent().expect("a folder")).expect("a folder").flatten();
    let left: Vec<_> = left.filter(|entry| entry.file_name().to_string_lossy().contains("pgpair")).collect();
    assert!(left.is_empty(), "{left:?}");
    let log = fs::read_to_string(workspace.path("a.log")).expect("Debian's log");
    assert!(log.contains("ready to accept connections"), "pg_ctlcluster started it: {log}");

    // A file of conf.d counts as the server has it.
    workspace.write("etc/15/test/conf.d/10.conf", "work_mem = '6MB'\n", 0o644);
    workspace.sql("a", "select pg_reload_conf()");
    in_sync(&workspace);
}

#[test]
fn another_config_dir_is_started_by_pg_ctl_with_its_file() {
    let workspace = Workspace::new(PG);
    create_debian_cluster(&workspace);
    fs::remove_file(workspace.path("etc/15/test/start.conf")).expect("it is there");
    topology(&workspace, "config_dir: etc/15/test", "max_connections: 41");
    apply(&workspace).exits(0);
    topology(&workspace, "config_dir: etc/15/test", "max_connections: 42");
    apply(&workspace).exits(0);
    assert_eq!(workspace.sql("a", "show max_connections"), "42");
    in_sync(&workspace);
}

#[test]
fn a_data_directory_with_a_config_dir_is_not_made_yet() {
    let workspace = Workspace::new(PG);
    topology(&workspace, "config_dir: etc/15/test", "work_mem: 4MB");
    pgpair(&workspace, &["plan"]).exits(3).says("not_supported").says("which has a `config_dir`");
}

/// Runs pgpair as a user who owns nothing.
fn as_nobody(workspace: &Workspace, arguments: &[&str]) -> Ran {
    // The folder of the build need not be open to everybody.
    let program = workspace.path("pgpair");
    fs::copy(env!("CARGO_BIN_EXE_pgpair"), &program).expect("a copy");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"]).arg(program).args(arguments);
    command.current_dir(workspace.path("")).env("NO_COLOR", "1").env("MONITOR", "correct horse");
    Ran::of(&command.output().expect("setpriv runs"))
}

#[test]
fn who_can_not_read_the_files_is_told_what_the_servers_say() {
    // Only root can become somebody who owns nothing.
    if !is_root() {
        return;
    }
    let workspace = Workspace::new(PG);
    workspace.usual_topology();
    let topology = fs::read_to_string(workspace.path("pgpair.yaml")).expect("a topology");
    let rule = "{ type: host, database: all, user: monitor, address: 127.0.0.1/32, method: scram-sha-256 }";
    let topology = format!("{topology}hba: [{rule}]\n");
    workspace.write("pgpair.yaml", &topology, 0o644);
    workspace.apply().exits(0);
    workspace.sql("a", "create role monitor login password 'correct horse'");
    let data_dir = |node: &str| workspace.data_dir(node).display().to_string();
    let topology = topology.replace("a/data", &data_dir("a")).replace("b/data", &data_dir("b"));
    let admin = "admin: { user: monitor, password: { env: MONITOR } }\n";
    workspace.write("pgpair.yaml", &format!("{topology}{admin}"), 0o644);

    let ran = as_nobody(&workspace, &["status"]).exits(1);
    ran.says("`monitor` may not see all settings and replication: `GRANT pg_monitor TO monitor`");
    workspace.sql("a", "grant pg_monitor to monitor");
    support::wait_until("the grant is on the standby", || {
        workspace.sql("b", "select pg_has_role('monitor', 'pg_monitor', 'usage')") == "t"
    });
    let ran = as_nobody(&workspace, &["status"]).exits(0).says("healthy").says("its files are unseen");
    assert!(ran.stdout.contains("streaming"), "{}", ran.stdout);
    let ran = as_nobody(&workspace, &["plan"]).exits(3).says("runs as primary").says("runs as standby");
    ran.says("can't act as `postgres`");

    // Another cluster than the pinned one is no node of this.
    workspace.write("pgpair.yaml", &format!("{topology}{admin}system_identifier: 7\n"), 0o644);
    as_nobody(&workspace, &["status"]).exits(1).says("has system identifier").says(", not 7");
    assert!(Path::new(&workspace.data_dir("a")).exists());
}
