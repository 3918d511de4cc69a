//! Who is told to have changed what.

use super::*;
use crate::observed::Reading;
use crate::observed::Verifier;
use crate::pg::block;
use crate::plan::planner::plan;
use crate::report::samples::healthy;
use crate::report::samples::name;
use crate::report::samples::pair;
use crate::topology;

fn found(topology: &Topology, observed: &Observed) -> Vec<Item> {
    items(topology, observed, &plan(topology, observed))
}

/// Class, node and subject of each.
fn short(items: &[Item]) -> Vec<(Class, &str, &str)> {
    let node = |item: &Item| item.node.as_ref().map_or("", NodeName::as_str).to_owned();
    let with_node = items.iter().map(|item| (item.class, node(item), item.subject.as_str()));
    let static_node = |node: String| {
        if node == "a" {
            "a"
        } else if node == "b" {
            "b"
        } else {
            ""
        }
    };
    with_node.map(|(class, node, subject)| (class, static_node(node), subject)).collect()
}

fn edited(observed: &mut Observed, node: &str, edit: impl Fn(&str) -> String) {
    let cluster = observed.node_mut(&name(node)).cluster_mut().expect("it has data");
    cluster.conf.main.text = edit(&cluster.conf.main.text);
}

/// The pair with another value in its topology, or more of it.
fn pair_with(parameters: &str, hba: &str) -> Topology {
    let yaml = format!(
        "version: 1\ncluster: orders\npostgresql: {{ version: 15 }}\n\
         replication: {{ user: repuser, auth: scram-sha-256, password: {{ env: SECRET }} }}\n\
         parameters: {{ {parameters} }}\nhba: {hba}\n\
         nodes:\n  a: {{ role: primary, port: 5433, data_dir: /srv/a }}\n  \
         b: {{ role: standby, port: 5434, data_dir: /srv/b }}\n"
    );
    topology::parse(yaml.as_bytes(), "orders.yaml", "/srv").expect("a good topology")
}

#[test]
fn a_cluster_in_sync_has_no_items() {
    assert_eq!(found(&pair(), &healthy(&pair())), []);
}

#[test]
fn a_value_that_the_intact_block_has_otherwise_is_pending() {
    let items = found(&pair_with("max_wal_senders: 6", "[]"), &healthy(&pair()));
    let pending = |node| (Class::Pending, node, "max_wal_senders");
    assert_eq!(short(&items), [pending("b"), pending("a")]);
    assert!(items.iter().all(|item| item.why == Why::TopologyNewer && item.wanted.as_deref() == Some("6")));
    assert_eq!(items.iter().map(|item| item.impact).max(), Some(Some(Impact::Outage)));
}

#[test]
fn a_value_that_the_block_does_not_have_is_drift() {
    let items = found(&pair_with("max_wal_senders: 5, work_mem: 8MB", "[]"), &healthy(&pair()));
    assert_eq!(short(&items), [(Class::Drift, "b", "work_mem"), (Class::Drift, "a", "work_mem")]);
    assert!(items.iter().all(|item| item.why == Why::NotInBlock));
}

#[test]
fn a_line_that_wins_over_the_block_is_drift_with_its_place() {
    let mut observed = healthy(&pair());
    edited(&mut observed, "a", |text| format!("{text}max_wal_senders = 9\n"));
    let items = found(&pair(), &observed);
    assert_eq!(short(&items), [(Class::Drift, "a", "max_wal_senders")]);
    assert_eq!((items[0].now.as_deref(), &items[0].why), (Some("9"), &Why::BlockOverruled));
    assert!(matches!(&items[0].set_by, Some(SetBy::Line { line, .. }) if *line > 1));
}

#[test]
fn a_block_edited_by_hand_is_drift_even_where_no_value_differs() {
    for (from, to, subject) in [
        ("max_wal_senders = '5'", "max_wal_senders = '9'", "max_wal_senders"),
        ("# END", "# hi\n# END", "postgresql.conf"),
    ] {
        let mut observed = healthy(&pair());
        edited(&mut observed, "b", |text| text.replace(from, to));
        let items = found(&pair(), &observed);
        assert_eq!(short(&items), [(Class::Drift, "b", subject)]);
        assert_eq!(items[0].why, Why::BlockEdited);
    }
}

#[test]
fn the_block_of_another_node_is_drift() {
    let mut observed = healthy(&pair());
    let of_a = observed.node(&name("a")).cluster().expect("it has data").hba.clone();
    observed.node_mut(&name("b")).cluster_mut().expect("it has data").hba = of_a;
    let items = found(&pair(), &observed);
    assert_eq!(short(&items), [(Class::Drift, "b", "pg_hba.conf")]);
    assert_eq!(items[0].why, Why::BlockOf("a".into()));
    assert_eq!(items[0].diff.len(), 1);
}

#[test]
fn rules_are_pending_where_the_block_is_intact_and_drift_where_others_come_first() {
    let rule = "[{ type: host, database: all, user: app, address: 10.0.0.0/8, method: scram-sha-256 }]";
    let items = found(&pair_with("max_wal_senders: 5", rule), &healthy(&pair()));
    let pending = |node| (Class::Pending, node, "pg_hba.conf");
    assert_eq!(short(&items), [pending("b"), pending("a")]);

    let mut observed = healthy(&pair());
    let cluster = observed.node_mut(&name("a")).cluster_mut().expect("it has data");
    cluster.hba = format!("host all all 10.9.9.9/32 trust\n{}", cluster.hba);
    let items = found(&pair(), &observed);
    assert_eq!(short(&items), [(Class::Drift, "a", "pg_hba.conf")]);
    assert_eq!(items[0].why, Why::BlockMoved);
}

#[test]
fn a_stopped_standby_is_one_item() {
    let mut observed = healthy(&pair());
    observed.node_mut(&name("b")).server = Reading::Absent;
    let primary = observed.node_mut(&name("a"));
    primary.sql_mut().expect("it runs").senders.clear();
    let slots = &mut primary.cluster_mut().expect("it has data").slots;
    slots.values_mut().for_each(|slot| slot.active = false);
    assert_eq!(short(&found(&pair(), &observed)), [(Class::Drift, "b", "server")]);
}

#[test]
fn a_standby_that_receives_nothing_is_an_item_whatever_else_there_is() {
    let mut observed = healthy(&pair());
    observed.node_mut(&name("b")).sql_mut().expect("it runs").receiver = None;
    edited(&mut observed, "b", |text| format!("{text}max_wal_senders = 9\n"));
    let items = found(&pair(), &observed);
    assert!(short(&items).contains(&(Class::Drift, "b", "replication")), "{items:?}");
}

#[test]
fn what_only_a_role_change_needs_is_not_ready_on_a_node_that_pgpair_did_not_make() {
    let mut observed = healthy(&pair());
    for node in ["a", "b"] {
        let cluster = observed.node_mut(&name(node)).cluster_mut().expect("it has data");
        let found = block::find(&cluster.hba).expect("well formed").expect("there");
        let from_b = found.block.lines.iter().filter(|line| line.contains("replication"));
        let lines: Vec<&str> = from_b.map(String::as_str).collect();
        // Only what the running standby needs, by hand.
        cluster.hba = if node == "a" { found.block.lines.join("\n") } else { "local all all peer\n".into() };
        assert!(!lines.is_empty());
        if node == "b" {
            cluster.slots.clear();
        }
    }
    let items = found(&pair(), &observed);
    let not_ready = |subject| (Class::NotReady, "b", subject);
    assert_eq!(short(&items), [not_ready("pg_hba.conf"), not_ready("slot pgpair_a")]);
}

#[test]
fn without_the_secret_its_password_is_unseen_and_named_once() {
    let mut observed = healthy(&pair());
    for node in ["a", "b"] {
        let cluster = observed.node_mut(&name(node)).cluster_mut().expect("it has data");
        cluster.passfile = Passfile::NotCompared;
        if let Reading::Known(role) = &mut cluster.replication_role {
            role.verifier = Verifier::NotCompared;
        }
    }
    let items = found(&pair(), &observed);
    assert_eq!(short(&items), [(Class::Unseen, "", "replication password")]);
}

#[test]
fn a_role_that_may_not_be_seen_is_unseen_with_the_grant() {
    let mut observed = healthy(&pair());
    let cluster = observed.node_mut(&name("a")).cluster_mut().expect("it has data");
    cluster.replication_role = Reading::Unknown("the password of `repuser` is for superusers to see".into());
    let items = found(&pair(), &observed);
    assert_eq!(short(&items), [(Class::Unseen, "a", "role repuser")]);
    assert!(matches!(&items[0].why, Why::NotSeen { remedy, .. } if remedy.contains("pg_authid")));
}

#[test]
fn a_node_out_of_reach_is_unseen_and_no_drift() {
    let mut observed = healthy(&pair());
    let seen = observed.node_mut(&name("b"));
    seen.place = Reading::Unknown("permission denied".into());
    seen.server = Reading::Unknown("permission denied".into());
    let items = found(&pair(), &observed);
    assert_eq!(short(&items), [(Class::Unseen, "b", "node")]);
    assert!(matches!(&items[0].why, Why::OutOfReach(_)));
}
