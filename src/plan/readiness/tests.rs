//! Each check on a pair that is ready but for one thing.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::*;
use crate::observed::Identity;
use crate::observed::Lasting;
use crate::observed::Reading;
use crate::observed::Reverse;
use crate::observed::Sender;
use crate::observed::Slot;
use crate::observed::WalFiles;
use crate::pg::history::Branch;
use crate::pg::lsn::Lsn;
use crate::pg::lsn::Timeline;
use crate::plan::readiness::recovery::LONG;
use crate::plan::readiness::recovery::MOST_LAG;
use crate::plan::readiness::stop::MOST_UNARCHIVED;
use crate::report::samples::healthy;
use crate::report::samples::made;
use crate::report::samples::name;
use crate::report::samples::nothing;
use crate::report::samples::pair;
use crate::topology;

fn cluster<'o>(observed: &'o mut Observed, node: &str) -> &'o mut Cluster {
    observed.node_mut(&name(node)).cluster_mut().expect("it has data")
}

fn sql<'o>(observed: &'o mut Observed, node: &str) -> &'o mut Sql {
    observed.node_mut(&name(node)).sql_mut().expect("it runs")
}

fn set(observed: &mut Observed, node: &str, parameter: &str, value: &str) {
    let settings = &mut sql(observed, node).settings;
    let like = settings["port"].clone();
    settings.insert(parameter.into(), crate::observed::Setting { value: value.into(), ..like });
}

/// What is found of the pair once it was changed: check, node and subject of each.
fn found(change: impl FnOnce(&mut Observed)) -> Vec<(ReadinessCheck, String, String)> {
    let mut observed = healthy(&pair());
    change(&mut observed);
    let findings = findings(&pair(), &observed, &name("b"));
    findings.into_iter().map(|it| (it.check, it.node.as_str().to_owned(), it.subject)).collect()
}

#[track_caller]
fn finds(check: ReadinessCheck, node: &str, subject: &str, change: impl FnOnce(&mut Observed)) {
    assert_eq!(found(change), [(check, node.to_owned(), subject.to_owned())]);
}

#[track_caller]
fn finds_nothing(change: impl FnOnce(&mut Observed)) {
    assert_eq!(found(change), []);
}

fn sender(application_name: &str, slot: Option<&str>) -> Sender {
    Sender {
        application_name: application_name.into(),
        client_addr: None,
        state: "streaming".into(),
        slot: slot.map(str::to_owned),
        sent: None,
        flushed: None,
        replayed: None,
        sync_state: "async".into(),
    }
}

fn logical(active: bool) -> Slot {
    Slot { physical: false, active, reserved: true, wal_status: None, retained: None }
}

#[test]
fn a_healthy_pair_is_ready() {
    finds_nothing(|_| {});
}

#[test]
fn every_check_has_an_id_of_its_own_and_a_reason() {
    let ids: BTreeSet<&str> = ReadinessCheck::ALL.iter().map(|check| check.about().id).collect();
    assert_eq!(ids.len(), ReadinessCheck::ALL.len());
    assert!(ReadinessCheck::ALL.iter().all(|check| check.about().reason.len() > 20));
    let all: BTreeSet<ReadinessCheck> = ReadinessCheck::ALL.into();
    assert_eq!(all.len(), ReadinessCheck::ALL.len());
}

#[test]
fn a_node_out_of_reach_or_stopped_is_not_ready_whichever_it_is() {
    let check = ReadinessCheck::Reach;
    for node in ["a", "b"] {
        finds(check, node, "node", |observed| {
            let seen = observed.node_mut(&name(node));
            seen.place = Reading::Unknown("permission denied".into());
            seen.server = Reading::Unknown("permission denied".into());
        });
        finds(check, node, "server", |observed| observed.node_mut(&name(node)).server = Reading::Absent);
        finds(check, node, "server", |observed| {
            let server = observed.node_mut(&name(node)).server.known_mut().expect("it runs");
            server.sql = Reading::Unknown("the database system is starting up".into());
        });
    }
    let roles = found(|observed| sql(observed, "a").in_recovery = true);
    assert_eq!(roles[0], (check, "a".into(), "role".into()));
}

#[test]
fn another_system_identifier_is_not_ready() {
    finds(ReadinessCheck::SystemIdentifier, "b", "system identifier", |observed| {
        cluster(observed, "b").identity = Identity::Known(7);
    });
}

#[test]
fn another_timeline_or_history_is_not_ready() {
    let check = ReadinessCheck::Lineage;
    finds(check, "b", "timeline", |observed| sql(observed, "b").timeline = Timeline(2));
    for node in ["a", "b"] {
        finds(check, node, "timeline", |observed| cluster(observed, node).newest_history = Some(Timeline(2)));
    }
    let on_2 = |observed: &mut Observed, end: u64| {
        for (node, end) in [("a", 0x300_0000), ("b", end)] {
            let cluster = cluster(observed, node);
            cluster.newest_history = Some(Timeline(2));
            cluster.branches = vec![Branch { timeline: Timeline(1), end: Lsn(end) }];
            sql(observed, node).timeline = Timeline(2);
        }
    };
    finds_nothing(|observed| on_2(observed, 0x300_0000));
    finds(check, "b", "timeline", |observed| on_2(observed, 0x300_0028));
}

#[test]
fn a_candidate_that_does_not_stream_or_follows_a_foreign_server_is_not_ready() {
    let check = ReadinessCheck::Upstream;
    finds(check, "b", "replication", |observed| sql(observed, "b").receiver = None);
    finds(check, "b", "replication", |observed| {
        sql(observed, "b").receiver.as_mut().expect("it streams").status = "waiting".into();
    });
    finds(check, "b", "replication", |observed| {
        sql(observed, "b").receiver.as_mut().expect("it streams").host = Some("10.9.9.9".into());
    });
    finds_nothing(|observed| sql(observed, "b").receiver.as_mut().expect("it streams").host = None);
}

#[test]
fn a_reverse_connection_that_is_refused_is_not_ready_and_one_that_was_not_tried_is_no_finding() {
    let reverse = |observed: &mut Observed, reverse| observed.node_mut(&name("b")).readiness.reverse = reverse;
    finds(ReadinessCheck::ReverseConnection, "b", "reverse connection", |observed| {
        reverse(observed, Reading::Known(Reverse::Refused("no pg_hba.conf entry".into())));
    });
    finds_nothing(|observed| reverse(observed, Reading::Known(Reverse::Admitted)));
    finds_nothing(|observed| reverse(observed, Reading::Unknown("no secret".into())));
}

#[test]
fn a_candidate_without_a_free_walsender_or_session_is_not_ready() {
    let check = ReadinessCheck::Walsenders;
    let with_senders =
        |count: usize| move |observed: &mut Observed| sql(observed, "b").senders = vec![sender("x", None); count];
    finds_nothing(with_senders(4));
    finds(check, "b", "max_wal_senders", with_senders(5));
    finds_nothing(|observed| sql(observed, "b").senders = vec![sender("a", None); 5]);
    finds(check, "b", "role repuser", |observed| {
        cluster(observed, "b").replication_role.known_mut().expect("a role").connection_limit = 0;
    });
}

#[test]
fn a_candidate_without_a_free_slot_is_not_ready_unless_the_slot_is_there() {
    let with_slots = |others: usize, has_own: bool| {
        move |observed: &mut Observed| {
            set(observed, "b", "max_replication_slots", "3");
            let physical = Slot { physical: true, ..logical(false) };
            let mut slots: BTreeMap<String, Slot> =
                (0..others).map(|at| (format!("x{at}"), physical.clone())).collect();
            slots.extend(has_own.then(|| ("pgpair_a".to_owned(), physical)));
            cluster(observed, "b").slots = slots;
        }
    };
    finds(ReadinessCheck::Slots, "b", "max_replication_slots", with_slots(3, false));
    finds_nothing(with_slots(2, false));
    finds_nothing(with_slots(3, true));
}

#[test]
fn a_parameter_that_is_lower_on_either_is_not_ready() {
    for (lower, higher) in [("a", "b"), ("b", "a")] {
        finds(ReadinessCheck::StandbyParameters, lower, "max_connections", |observed| {
            set(observed, lower, "max_connections", "50");
            set(observed, higher, "max_connections", "100");
        });
    }
}

#[test]
fn an_old_primary_that_could_not_be_rewound_is_not_ready() {
    let check = ReadinessCheck::Rewind;
    finds(check, "a", "wal_log_hints", |observed| cluster(observed, "a").checksums = false);
    finds_nothing(|observed| {
        cluster(observed, "a").checksums = false;
        cluster(observed, "a").wal_log_hints = true;
    });
    for node in ["a", "b"] {
        finds(check, node, "full_page_writes", |observed| set(observed, node, "full_page_writes", "off"));
    }
}

#[test]
fn a_leftover_end_of_recovery_is_not_ready_in_force_or_in_files() {
    let check = ReadinessCheck::RecoveryEnd;
    finds(check, "b", "recovery_target_time", |observed| set(observed, "b", "recovery_target_time", "2020-01-01"));
    finds_nothing(|observed| set(observed, "a", "recovery_target_time", "2020-01-01"));
    for node in ["a", "b"] {
        for line in ["recovery_target_xid = 7", "promote_trigger_file = '/tmp/x'", "recovery_target_timeline = current"]
        {
            let parameter = line.split(' ').next().expect("a name");
            finds(check, node, parameter, |observed| cluster(observed, node).conf.main.text += &format!("{line}\n"));
        }
        finds(check, node, "recovery.signal", |observed| cluster(observed, node).markers.recovery_signal = true);
        for line in ["recovery_target_name = 'x'", "trigger_file = '/tmp/x'"] {
            let parameter = line.split(' ').next().expect("a name");
            finds(check, node, parameter, |observed| {
                cluster(observed, node).markers.recovery_conf =
                    Some(format!("recovery_target_timeline = 'latest'\n{line}\n"));
            });
        }
    }
    finds(check, "b", "promote file", |observed| cluster(observed, "b").markers.promote = true);
}

#[test]
fn a_delayed_candidate_is_not_ready() {
    let check = ReadinessCheck::ApplyDelay;
    let delay = "recovery_min_apply_delay";
    finds(check, "b", delay, |observed| set(observed, "b", delay, "3600000"));
    finds(check, "b", delay, |observed| cluster(observed, "b").markers.recovery_conf = Some(format!("{delay} = 1h\n")));
    finds_nothing(|observed| set(observed, "b", delay, "0"));
}

#[test]
fn a_walsender_that_feeds_no_node_is_not_ready_and_a_backups_is_not_one() {
    finds(ReadinessCheck::ForeignWalsenders, "a", "walsender `pg_receivewal`", |observed| {
        sql(observed, "a").senders.push(sender("pg_receivewal", None));
    });
    finds(ReadinessCheck::BaseBackup, "a", "base backup", |observed| {
        let stream = sender("pg_basebackup", Some("pg_basebackup_7"));
        sql(observed, "a").senders.extend([Sender { state: "backup".into(), ..stream.clone() }, stream]);
    });
}

#[test]
fn a_standby_is_known_by_its_slot_or_by_the_name_that_it_says_however_that_is() {
    let renamed = |slot: Option<&str>, says: Option<&str>| {
        let (slot, says) = (slot.map(str::to_owned), says.map(str::to_owned));
        move |observed: &mut Observed| {
            sql(observed, "a").senders = vec![sender("walreceiver", slot.as_deref())];
            sql(observed, "b").receiver.as_mut().expect("it streams").application_name = says;
        }
    };
    finds_nothing(renamed(Some("pgpair_b"), None));
    finds_nothing(renamed(None, Some("walreceiver")));
    finds(ReadinessCheck::ForeignWalsenders, "a", "walsender `walreceiver`", renamed(None, Some("b")));
    finds(ReadinessCheck::ForeignWalsenders, "a", "walsender `walreceiver`", |observed| {
        renamed(None, Some("walreceiver"))(observed);
        sql(observed, "a").senders.push(sender("walreceiver", None));
    });
}

#[test]
fn a_logical_slot_is_not_ready_unless_it_is_idle_and_on_the_candidate_as_well() {
    let with = |active: bool, is_there: bool| {
        move |observed: &mut Observed| {
            cluster(observed, "a").slots.insert("cdc".into(), logical(active));
            sql(observed, "a").senders.extend(active.then(|| sender("debezium", Some("cdc"))));
            if is_there {
                cluster(observed, "b").slots.insert("cdc".into(), logical(false));
            }
        }
    };
    for (active, is_there) in [(true, true), (true, false), (false, false)] {
        finds(ReadinessCheck::LogicalSlots, "a", "slot cdc", with(active, is_there));
    }
    finds_nothing(with(false, true));
}

#[test]
fn an_archive_that_fails_or_is_far_behind_is_not_ready() {
    let check = ReadinessCheck::Archive;
    finds(check, "a", "archive", |observed| sql(observed, "a").busy.unarchivable = Some("0000000100".into()));
    let waiting = |count| move |observed: &mut Observed| observed.node_mut(&name("a")).readiness.unarchived = count;
    finds(check, "a", "archive", waiting(MOST_UNARCHIVED + 1));
    finds_nothing(waiting(MOST_UNARCHIVED));
}

#[test]
fn a_third_node_that_is_behind_the_candidates_oldest_wal_is_not_ready() {
    let yaml = "version: 1\ncluster: orders\npostgresql: { version: 15, initdb: { data_checksums: true } }\n\
                replication: { user: repuser, auth: trust }\n\
                nodes:\n  a: { role: primary, port: 1, data_dir: /a }\n  b: { role: standby, port: 2, data_dir: /b }\n  \
                c: { role: standby, port: 3, data_dir: /c }\n";
    let topology = topology::parse(yaml.as_bytes(), "orders.yaml", "/").expect("a good topology");
    let mut observed = made(&topology, nothing(&topology));
    assert_eq!(findings(&topology, &observed, &name("b")), []);
    cluster(&mut observed, "b").wal = Some(WalFiles { oldest: Lsn(0x500_0000), end: Lsn(0x800_0000) });
    for (lsn, expected) in [(0x500_0000, 0), (0x4FF_FFFF, 1)] {
        sql(&mut observed, "c").lsn = Lsn(lsn);
        let found = findings(&topology, &observed, &name("b"));
        assert_eq!(found.iter().filter(|it| it.check == ReadinessCheck::OldestWal).count(), expected, "{found:?}");
    }
}

#[test]
fn a_program_that_restarts_servers_is_not_ready_and_told_once_a_machine() {
    finds(ReadinessCheck::Supervisors, "a", "repmgrd", |observed| {
        for node in ["a", "b"] {
            observed.node_mut(&name(node)).readiness.supervisors = vec!["repmgrd".into()];
        }
    });
}

#[test]
fn a_file_that_can_not_be_written_is_not_ready() {
    for node in ["a", "b"] {
        finds(ReadinessCheck::Files, node, "files", |observed| {
            observed.node_mut(&name(node)).readiness.unwritable = Some("postgres can't write /x".into());
        });
    }
}

#[test]
fn a_candidate_that_has_much_to_receive_or_to_replay_is_not_ready() {
    let check = ReadinessCheck::Lag;
    let written = |observed: &mut Observed, bytes: u64| sql(observed, "a").lsn = Lsn(0x1000_0000 + bytes);
    let has = |observed: &mut Observed, received: u64, replayed: u64| {
        let sql = sql(observed, "b");
        (sql.lsn, sql.replayed) = (Lsn(0x1000_0000 + received), Some(Lsn(0x1000_0000 + replayed)));
    };
    let with = |bytes: u64, received: u64, replayed: u64| {
        move |observed: &mut Observed| {
            written(observed, bytes);
            has(observed, received, replayed);
        }
    };
    finds_nothing(with(MOST_LAG, 0, 0));
    finds_nothing(with(0, MOST_LAG, 0));
    finds(check, "b", "lag", with(MOST_LAG + 1, 0, 0));
    finds(check, "b", "lag", with(MOST_LAG + 1, MOST_LAG + 1, 0));
}

#[test]
fn a_paused_replay_or_an_old_transaction_on_the_candidate_is_not_ready() {
    finds(ReadinessCheck::ReplayPaused, "b", "replay", |observed| sql(observed, "b").replay_paused = true);
    let lasting = |seconds| Some(Lasting { what: "4711".into(), seconds });
    finds(ReadinessCheck::LongTransactions, "b", "transaction", |observed| {
        sql(observed, "b").busy.transaction = lasting(LONG);
    });
    finds_nothing(|observed| sql(observed, "b").busy.transaction = lasting(LONG - 1));
    finds_nothing(|observed| sql(observed, "a").busy.transaction = lasting(LONG));
    finds(ReadinessCheck::PreparedTransactions, "a", "prepared transaction", |observed| {
        sql(observed, "a").busy.prepared = lasting(LONG);
    });
}

#[test]
fn a_backup_of_either_or_an_exclusive_one_is_not_ready() {
    for node in ["a", "b"] {
        finds(ReadinessCheck::BaseBackup, node, "base backup", |observed| {
            sql(observed, node).senders.push(Sender { state: "backup".into(), ..sender("backup", None) });
        });
    }
    finds(ReadinessCheck::ExclusiveBackup, "a", "exclusive backup", |observed| {
        cluster(observed, "a").markers.backup_label = true;
    });
}

#[test]
fn a_delayed_standby_is_no_candidate_by_its_topology() {
    let mut topology = pair();
    topology.nodes[&name("b")].parameters.insert("recovery_min_apply_delay".into(), "1h".into());
    assert_eq!(candidates(&topology).count(), 0);
    let found = findings(&topology, &healthy(&topology), &name("b"));
    assert!(found.iter().any(|it| it.check == ReadinessCheck::ApplyDelay), "{found:?}");
}
