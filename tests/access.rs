//! Who may connect, changed on living pairs: passwords, methods, certificates, rules, addresses.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use pgpair::plan::Action;
use pgpair::plan::Status;
use pgpair::plan::check::Check;
use pgpair::plan::check::check;
use pgpair::plan::planner::plan;
use pgpair::world::World;

use support::Version;
use support::Workspace;

const COMMON: &str = "  max_wal_senders: 5\n  wal_retrieve_retry_interval: 200ms\n";
const SCRAM: &str = "auth: scram-sha-256, password: { file: repuser.secret }";

/// Ends the connection of the standby; whether it may come back is for it to find out.
fn cut(pair: &Workspace) {
    pair.try_sql("a", "select pg_terminate_backend(pid) from pg_stat_replication");
}

/// Asserts that the standby gets a connection now, not only that it still has one.
#[track_caller]
fn reconnects(pair: &Workspace) {
    let receiver = "select pid from pg_stat_wal_receiver where status = 'streaming'";
    let before = pair.sql("b", receiver);
    cut(pair);
    support::wait_until("the standby streams through a new connection", || {
        let now = pair.try_sql("b", receiver).stdout;
        !now.trim().is_empty() && now.trim() != before
    });
    pair.replicates();
}

/// Applies the topology step by step; after each the standby loses its connection.
async fn apply_and_cut(pair: &Workspace) -> Vec<String> {
    let (topology, world) = support::live::reach(pair).await;
    let plan = plan(&topology, &world.observe().await);
    assert_eq!(plan.status(), Status::Changes, "{:?}", plan.blocked);
    for step in &plan.steps {
        let judged = check(&step.node, &step.action, &topology, &world.observe().await);
        assert!(!matches!(judged, Check::Blocked(_)), "{}: {judged:?}", step.id);
        if judged == Check::Ready {
            support::live::perform(&world, step).await;
        }
        support::live::until_satisfied(&world, &topology, step).await;
        if !matches!(step.action, Action::Streaming { .. }) {
            cut(pair);
        }
    }
    plan.steps.into_iter().map(|step| step.id).collect()
}

fn passwords_and_methods_change(version: Version, changes: &[(&str, &str, &[&str])]) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let pair = Workspace::new(version);
    pair.topology(SCRAM, COMMON);
    pair.apply().exits(0);
    for (secret, auth, steps) in changes {
        pair.write("repuser.secret", secret, 0o600);
        pair.topology(auth, COMMON);
        assert_eq!(runtime.block_on(apply_and_cut(&pair)), *steps, "{auth}");
        support::wait_until("the standby streams", || pair.pgpair(&["status"]).code == Some(0));
        pair.in_sync();
        reconnects(&pair);
    }
}

const ROTATED: &[&str] = &["a.replication_role", "b.passfile", "a.passfile"];

#[test]
fn a_standby_of_15_comes_back_after_every_step_of_a_change_of_password_or_method() {
    passwords_and_methods_change(
        Version(15),
        &[
            ("second\n", SCRAM, ROTATED),
            ("second\n", "auth: md5, password: { file: repuser.secret }", &["a.hba", "b.hba"]),
            // Both at once.
            ("third\n", SCRAM, &["a.replication_role", "b.passfile", "b.hba", "a.passfile", "a.hba"]),
            ("third\n", "auth: trust", &["a.hba", "b.configure", "b.hba"]),
            ("third\n", SCRAM, &["b.configure", "b.hba", "a.hba"]),
            ("third\n", "auth: trust, password: { file: repuser.secret }", &["a.hba", "b.hba"]),
            (
                "fourth\n",
                "auth: md5, password: { file: repuser.secret }",
                &["a.replication_role", "b.passfile", "b.hba", "a.passfile", "a.hba"],
            ),
        ],
    );
}

#[test]
fn a_standby_of_10_comes_back_after_every_step_of_a_rotation() {
    passwords_and_methods_change(
        Version(10),
        &[
            ("second\n", SCRAM, ROTATED),
            ("second\n", "auth: md5, password: { file: repuser.secret }", &["a.hba", "b.hba"]),
            ("second\n", SCRAM, &["a.hba", "b.hba"]),
        ],
    );
}

#[test]
fn rules_that_would_lock_pgpair_or_a_standby_out_are_refused_and_change_nothing() {
    let pair = Workspace::new(Version(15));
    let with = |rule: &str| pair.topology(SCRAM, &format!("{COMMON}hba:\n  - {rule}\n"));
    with("{ type: local, database: all, user: app, method: reject }");
    pair.apply().exits(0);
    let hba = || fs::read_to_string(pair.data_dir("a").join("pg_hba.conf")).expect("our file");
    let before = hba();
    with("{ type: local, database: all, user: all, method: reject }");
    pair.pgpair(&["plan"]).exits(3).says("would lock out pgpair").says("(`local all all reject`) rejects it");
    pair.apply().exits(3);
    with("{ type: local, database: all, user: all, method: scram-sha-256 }");
    pair.pgpair(&["plan"]).exits(3).says("the topology has no `admin.password`");
    // Who is in a group stands in no file: the step tries, and takes it back.
    let group = if support::is_root() {
        "+postgres".to_owned()
    } else {
        format!("+{}", std::env::var("USER").unwrap_or_default())
    };
    with(&format!("{{ type: local, database: all, user: '{group}', method: reject }}"));
    pair.apply().exits(1).says("the old ones are in force again");
    assert_eq!(hba(), before);
    with("{ type: local, database: all, user: app, method: reject }");
    pair.pgpair(&["plan"]);
    support::wait_until("the reload is seen", || pair.apply().code == Some(0));
    pair.in_sync();
    reconnects(&pair);
    // A creation is refused as well.
    let new = Workspace::new(Version(15));
    new.topology(SCRAM, &format!("{COMMON}hba:\n  - {{ type: local, database: all, user: all, method: reject }}\n"));
    new.pgpair(&["plan"]).exits(3).says("would lock out pgpair");
}

#[test]
fn limit_and_rights_of_the_role_are_put_right() {
    let pair = Workspace::new(Version(15));
    pair.topology(&format!("{SCRAM}, connection_limit: 5"), COMMON);
    pair.apply().exits(0);
    pair.topology(&format!("{SCRAM}, connection_limit: 4"), COMMON);
    assert_eq!(pair.planned(), ["a.replication_role"]);
    pair.apply().exits(0);
    pair.sql("a", "alter role repuser nologin noreplication");
    assert_eq!(pair.planned(), ["a.replication_role"]);
    pair.apply().exits(0);
    pair.in_sync();
    let role = "select rolconnlimit, rolcanlogin, rolreplication from pg_roles where rolname = 'repuser'";
    assert_eq!(pair.sql("a", role), "4|t|t");
    reconnects(&pair);
}

/// Makes a certificate authority, and by it certificates of the server and of the replication role.
fn certificates(pair: &Workspace) {
    let folder = pair.path("tls");
    fs::create_dir(&folder).expect("our folder");
    let openssl = |arguments: &str| {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(&folder).output();
        let output = output.expect("openssl runs");
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem");
    for (file, name) in [("server", "127.0.0.1"), ("repl", "repuser")] {
        openssl(&format!("req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {file}.key -out {file}.csr"));
        openssl(&format!("x509 -req -in {file}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out {file}.crt"));
    }
    for file in ["ca.pem", "server.key", "server.crt", "repl.key", "repl.crt"] {
        let text = fs::read_to_string(folder.join(file)).expect("just made");
        pair.write(&format!("tls/{file}"), &text, 0o600);
    }
}

const CERT: &str =
    "auth: cert, tls: { sslmode: verify-full, sslrootcert: tls/ca.pem, sslcert: tls/repl.crt, sslkey: tls/repl.key }";

/// The parameters of servers that encrypt, and judge certificates.
fn with_ssl(pair: &Workspace) -> String {
    let tls = pair.path("tls");
    let tls = tls.display();
    format!(
        "{COMMON}  ssl: on\n  ssl_cert_file: {tls}/server.crt\n  ssl_key_file: {tls}/server.key\n  ssl_ca_file: {tls}/ca.pem\n"
    )
}

#[test]
fn a_pair_changes_to_certificates_and_back() {
    let pair = Workspace::new(Version(15));
    certificates(&pair);
    pair.topology(SCRAM, COMMON);
    pair.apply().exits(0);
    // Without TLS on the servers the standby is not told to use it.
    pair.topology(CERT, COMMON);
    pair.pgpair(&["plan"]).says("would lock out the standby b");
    let ssl = with_ssl(&pair);
    pair.topology(CERT, &ssl);
    pair.apply().exits(0);
    pair.in_sync();
    reconnects(&pair);
    assert_eq!(pair.sql("a", "select ssl from pg_stat_ssl join pg_stat_replication using (pid)"), "t");
    assert!(pair.sql("b", "show primary_conninfo").contains("sslmode=verify-full"));
    pair.topology(SCRAM, &ssl);
    pair.apply().exits(0);
    pair.in_sync();
    reconnects(&pair);
}

/// What becomes of the standby's key, what is said of it, and of the remedy.
type KeyDamage<'a> = (&'a str, &'a dyn Fn(&Path), &'a str, &'a str);

#[test]
fn a_key_that_the_standby_can_not_use_is_told_with_its_remedy_before_it_is_needed() {
    let pair = Workspace::new(Version(15));
    certificates(&pair);
    let (ssl, key) = (with_ssl(&pair), pair.path("tls/repl.key"));
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our file");
    let good = fs::read_to_string(&key).expect("our file");
    let mend = || {
        let _ = fs::remove_file(&key);
        pair.write("tls/repl.key", &good, 0o600);
    };
    pair.topology(SCRAM, &ssl);
    pair.apply().exits(0);
    pair.topology(CERT, &ssl);
    let give_to_root = |path: &Path| {
        fs::remove_file(path).expect("our file");
        fs::write(path, &good).expect("our folder");
        mode(path, 0o600);
    };
    let chmod = format!("`chmod 600 {}`", key.display());
    let damages: [KeyDamage; 3] = [
        (
            "absent",
            &|key| fs::remove_file(key).expect("our file"),
            "it is not there",
            "correct `replication.tls.sslkey`",
        ),
        ("too open", &|key| mode(key, 0o644), "it has mode 0644", &chmod),
        ("another's", &give_to_root, "it can't be read: Permission denied", "give it to the servers' OS user"),
    ];
    for (name, damage, reason, remedy) in
        damages.into_iter().filter(|(name, ..)| support::is_root() || *name != "another's")
    {
        damage(&key);
        let named = format!("b can't use {} (`replication.tls.sslkey`): {reason}", key.display());
        pair.pgpair(&["plan"]).says(&named).says(remedy);
        let ran = pair.apply();
        assert!(matches!(ran.code, Some(3 | 5)), "{name}: {ran:?}");
        reconnects(&pair);
        mend();
    }
    pair.apply().exits(0);
    pair.in_sync();
    reconnects(&pair);

    // It streams still, and could not connect again: a restart would cost it its stream, a start gets it none.
    mode(&key, 0o644);
    pair.topology(CERT, &format!("{ssl}  shared_buffers: 64MB\n"));
    pair.pgpair(&["plan"]).says("it has mode 0644").says(&chmod);
    pair.pgpair(&["apply", "--auto-approve", "--allow", "restart"]);
    assert_eq!(pair.sql("b", "select status from pg_stat_wal_receiver"), "streaming");
    pair.pg_ctl("b", &["stop"]).exits(0);
    pair.pgpair(&["apply", "--auto-approve"]).exits(5).says("it has mode 0644").says(&chmod);
    mend();
    pair.pgpair(&["apply", "--auto-approve", "--allow", "restart,outage"]).exits(0);
    pair.in_sync();
    reconnects(&pair);

    // Nothing is copied with it either.
    pair.pg_ctl("b", &["stop"]).exits(0);
    fs::remove_dir_all(pair.path("b")).expect("our folder");
    mode(&key, 0o640);
    pair.apply().says("it has mode 0640");
    assert!(!pair.data_dir("b").exists());
    if support::is_root() {
        // As the system's own certificates are kept: root's, for a group to read.
        give_to_root(&key);
        mode(&key, 0o640);
        let chgrp = Command::new("chgrp").arg("postgres").arg(&key).status().expect("chgrp runs");
        assert!(chgrp.success());
    } else {
        mend();
    }
    pair.apply().exits(0);
    pair.in_sync();
    reconnects(&pair);
}

#[test]
fn a_primary_and_then_its_standby_move_to_another_address_and_port() {
    let mut pair = Workspace::new(Version(15));
    pair.topology(SCRAM, COMMON);
    pair.apply().exits(0);
    let moves = |pair: &Workspace, nodes: &[&str]| {
        pair.topology(SCRAM, COMMON);
        let mut text = fs::read_to_string(pair.path("pgpair.yaml")).expect("our file");
        for node in nodes {
            text = text.replace(&format!("  {node}: {{ role"), &format!("  {node}: {{ host: 127.0.0.2, role"));
        }
        pair.write("pgpair.yaml", &text, 0o644);
    };
    pair.ports[0] = support::free_port();
    moves(&pair, &["a"]);
    assert_eq!(pair.planned(), ["a.configure.restart", "b.configure", "b.streaming"]);
    // Without the restart the standby stays where it is.
    pair.apply().exits(3);
    reconnects_at_all(&pair);
    pair.pgpair(&["apply", "--auto-approve", "--allow", "outage"]).exits(0);
    pair.in_sync();
    reconnects(&pair);
    pair.ports[1] = support::free_port();
    moves(&pair, &["a", "b"]);
    pair.pgpair(&["apply", "--auto-approve", "--allow", "restart"]).exits(0);
    pair.in_sync();
    reconnects(&pair);
}

/// The same as [`reconnects`], while the nodes are not where the topology says.
#[track_caller]
fn reconnects_at_all(pair: &Workspace) {
    cut(pair);
    support::wait_until("the standby streams", || {
        pair.try_sql("b", "select status from pg_stat_wal_receiver").stdout.trim() == "streaming"
    });
}
