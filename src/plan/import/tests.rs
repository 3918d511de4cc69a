//! Every pair that pgpair can make is one that it can import, with its marks in the files and without.

use super::*;
use crate::observed::Identity;
use crate::plan::Status;
use crate::plan::desired;
use crate::plan::planner::plan;
use crate::report::samples::made;
use crate::topology;
use crate::topology::SslMode;
use crate::world::sim::nothing;

const SCRAM: &str = "auth: scram-sha-256, password: { file: /s }";

fn admin() -> Admin {
    Admin { user: None, database: "postgres".to_owned(), password: None, sslmode: SslMode::Prefer }
}

fn given() -> Given {
    Given { cluster: None, fallback: "orders".to_owned(), admin: admin() }
}

/// A topology of these nodes.
fn topology_of(version: u32, replication: &str, parameters: &str, nodes: &str) -> Topology {
    let yaml = format!(
        "version: 1\ncluster: sim\nsystem_identifier: 7\npostgresql: {{ version: {version} }}\n\
         replication: {{ user: repuser, {replication} }}\nparameters: {{ {parameters} }}\nnodes:\n\
         {nodes}"
    );
    topology::parse(yaml.as_bytes(), "sim.yaml", "/").unwrap_or_else(|bad| panic!("{bad:?}\n{yaml}"))
}

const PAIR: &str =
    "  a: { role: primary, port: 6001, data_dir: /pg/a }\n  b: { role: standby, port: 6002, data_dir: /pg/b }\n";

/// What a look at each server of a made cluster would find.
fn sightings(topology: &Topology, world: &Observed) -> Vec<Sighting> {
    let sighting = |node: &Node| {
        let cluster = world.node(&node.name).cluster().expect("made");
        let conninfo = desired::present_conninfo(cluster).map(|text| Conninfo::parse(&text).expect("good"));
        let password = topology.replication.password.as_ref().map(|_| Secret::new("hunter2".into()));
        let is_standby = node.role == Role::Standby;
        let block = crate::pg::block::owner(&cluster.conf.main.text).expect("whole");
        Sighting {
            data_dir: node.data_dir.clone(),
            config_dir: None,
            bin_dir: None,
            owner: Some("postgres".to_owned()),
            is_owner_unusual: false,
            major: topology.postgresql.version,
            system_identifier: 7,
            port: node.port,
            in_recovery: is_standby,
            cluster_name: "sim".to_owned(),
            feed: conninfo.filter(|_| is_standby).map(|conninfo| Feed { conninfo, password, is_here: true }),
            block: block.map(|(cluster, node)| (cluster.to_owned(), node.to_owned())),
            replication_roles: vec!["repuser".to_owned(), "postgres".to_owned()],
        }
    };
    topology.nodes.values().map(sighting).collect()
}

fn made_world(topology: &Topology) -> Observed {
    let unpinned = Topology { system_identifier: None, ..topology.clone() };
    let mut world = made(&unpinned, nothing(&unpinned));
    for seen in world.nodes.values_mut() {
        seen.cluster_mut().expect("made").identity = Identity::Known(7);
    }
    world
}

/// Takes pgpair's marks out of the files, so that their lines are anybody's.
fn without_marks(world: &mut Observed) {
    let strip = |text: &str| {
        let lines =
            text.lines().filter(|line| !line.starts_with("# BEGIN pgpair") && !line.starts_with("# END pgpair"));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    for seen in world.nodes.values_mut() {
        let cluster = seen.cluster_mut().expect("made");
        cluster.conf.main.text = strip(&cluster.conf.main.text);
        cluster.hba = strip(&cluster.hba);
    }
}

/// Imports a world, and returns what came of it with what would be read of its text.
fn imported(sightings: &[Sighting], world: &Observed) -> (Import, Topology) {
    let provisional = provisional(sightings, &given()).expect("a cluster");
    let import = Import::new(provisional, sightings, world, "/s");
    let text = import.text();
    let topology = topology::parse(text.as_bytes(), "t.yaml", "/").unwrap_or_else(|bad| panic!("{bad:?}\n{text}"));
    (import, topology)
}

#[test]
fn the_plan_of_an_import_of_whatever_pgpair_made_is_empty() {
    let cascade = format!("{PAIR}  c: {{ role: standby, port: 6003, data_dir: /pg/c, upstream: b, slot: mine }}\n");
    let synchronous = format!("{SCRAM}, synchronous: {{ method: any, num: 1, standbys: [c] }}");
    let three =
        format!("{PAIR}  c: {{ role: standby, port: 6003, data_dir: /pg/c, parameters: {{ work_mem: 9MB }} }}\n");
    let outside = "  a: { role: primary, port: 6001, data_dir: /pg/a, waldir: /wal/a }\n  b: { role: standby, port: 6002, data_dir: /pg/b, waldir: /wal/b }\n";
    for (version, replication, parameters, nodes) in [
        (15, SCRAM, "", PAIR),
        (10, SCRAM, "wal_keep_segments: 5", PAIR),
        (12, "auth: trust", "max_wal_senders: 4, archive_mode: on, archive_command: cp %p /x/%f", PAIR),
        (18, "auth: md5, password: { file: /s }, slots: false", "work_mem: 4MB", PAIR),
        (15, SCRAM, "shared_buffers: 1GB, log_line_prefix: '%t ''x'' '", &cascade),
        (11, SCRAM, "", &cascade),
        (15, &synchronous, "wal_log_hints: on", &three),
        (16, SCRAM, "my.extension: 'a b'", outside),
    ] {
        let original = topology_of(version, replication, parameters, nodes);
        let mut world = made_world(&original);
        for has_marks in [true, false] {
            if !has_marks {
                without_marks(&mut world);
            }
            let (import, topology) = imported(&sightings(&original, &world), &world);
            let case = format!("{version} {replication} {has_marks}\n{}", import.text());
            assert_eq!(import.left_out, Vec::<String>::new(), "{case}");
            let plan = plan(&topology, &world);
            assert_eq!(plan.status(), Status::Clean, "{case}\n{:#?}", plan.steps);
            assert_eq!(topology.nodes.keys().collect::<Vec<_>>(), original.nodes.keys().collect::<Vec<_>>(), "{case}");
        }
    }
}

fn server(data_dir: &str, port: u16, conninfo: Option<&str>) -> Sighting {
    let conninfo = conninfo.map(|text| Conninfo::parse(text).expect("good"));
    Sighting {
        data_dir: data_dir.to_owned(),
        config_dir: None,
        bin_dir: None,
        owner: Some("postgres".to_owned()),
        is_owner_unusual: false,
        major: Major::NEWEST,
        system_identifier: 7,
        port,
        in_recovery: conninfo.is_some(),
        cluster_name: String::new(),
        feed: conninfo.map(|conninfo| Feed { conninfo, password: None, is_here: true }),
        block: None,
        replication_roles: Vec::new(),
    }
}

/// `NAME HOST:PORT ROLE UPSTREAM` of each node.
fn nodes_of(sightings: &[Sighting]) -> Vec<String> {
    let topology = provisional(sightings, &given()).expect("a cluster");
    let upstream = |node: &Node| node.upstream.as_ref().map_or("-", NodeName::as_str).to_owned();
    let line = |node: &Node| format!("{} {}:{} {} {}", node.name, node.host, node.port, node.role, upstream(node));
    topology.nodes.values().map(line).collect()
}

#[test]
fn nodes_are_called_what_they_are_called_already_or_what_their_folders_are() {
    let by_folder = [
        server("/dbdir/pg/5434/data", 5434, Some("host=10.1.2.3 port=5433 user=r")),
        server("/dbdir/pg/5433/data", 5433, None),
    ];
    let expected = ["node5433 10.1.2.3:5433 primary -", "node5434 10.1.2.3:5434 standby -"];
    assert_eq!(nodes_of(&by_folder), expected);

    let by_application_name = [
        server("/pg/one", 1, None),
        server("/pg/two", 2, Some("port=1 application_name=walreceiver")),
        server("/pg/x", 3, Some("host=/tmp port=1 application_name=ONE")),
        server("/pg/y", 4, Some("host=localhost port=3 application_name='not plain'")),
    ];
    let expected = [
        "node1 localhost:1 primary -",
        "two localhost:2 standby -",
        "ONE localhost:3 standby -",
        "y localhost:4 standby ONE",
    ];
    assert_eq!(nodes_of(&by_application_name), expected);

    let named = |name: &str, server: Sighting| Sighting { cluster_name: name.to_owned(), ..server };
    let conninfo = Some("port=1");
    let own_names = [named("tokyo", server("/pg/main", 1, None)), named("osaka", server("/pg2/main", 2, conninfo))];
    assert_eq!(nodes_of(&own_names), ["tokyo 127.0.0.1:1 primary -", "osaka 127.0.0.1:2 standby -"]);
    let common =
        [named("orders-eu", server("/pg/data", 1, None)), named("orders-eu", server("/pg2/data", 2, conninfo))];
    assert_eq!(nodes_of(&common), ["pg 127.0.0.1:1 primary -", "pg2 127.0.0.1:2 standby -"]);
    assert_eq!(provisional(&common, &given()).expect("a cluster").cluster, "orders-eu");
    let same = [server("/1/pg/data", 1, None), server("/2/pg/data", 2, conninfo)];
    assert_eq!(nodes_of(&same), ["pg 127.0.0.1:1 primary -", "node2 127.0.0.1:2 standby -"]);
}

#[test]
fn a_conninfo_without_a_user_means_who_runs_the_server() {
    let named = [server("/pg/a", 1, None), server("/pg/b", 2, Some("host=localhost port=1 user=r"))];
    let topology = provisional(&named, &given()).expect("a cluster");
    assert_eq!((topology.replication.user.as_str(), topology.postgresql.os_user), ("r", None));

    let unnamed = [server("/pg/a", 1, None), server("/pg/b", 2, Some("host=localhost port=1"))];
    let topology = provisional(&unnamed, &given()).expect("a cluster");
    let standby = topology.standbys().next().expect("a standby");
    assert_eq!((topology.replication.user.as_str(), topology.os_user(standby)), ("postgres", Some("postgres")));
    assert!(desired::conninfo_holds(&topology, standby, "host=localhost port=1"));
    assert!(!desired::conninfo_holds(&topology, standby, "host=localhost port=1 user=r"));
}

#[test]
fn servers_that_are_no_cluster_are_refused() {
    let refused = |sightings: &[Sighting]| provisional(sightings, &given()).expect_err("no cluster").to_string();
    let primary = || server("/pg/a", 1, None);
    let standby = || server("/pg/b", 2, Some("host=localhost port=1"));
    assert_eq!(refused(&[primary(), server("/pg/c", 3, None)]), "/pg/a and /pg/c both accept writes");
    assert_eq!(refused(&[primary(), primary()]), "/pg/a was given twice");
    let other = Sighting { system_identifier: 8, ..standby() };
    let of_two = "/pg/a and /pg/b are of different clusters: their system identifiers are 7 and 8";
    assert_eq!(refused(&[primary(), other]), of_two);
    let none = "/pg/b streams from localhost, port 1, which is not among these servers";
    assert_eq!(refused(&[server("/pg/c", 3, Some("port=2")), standby()]), none);
    let between = "/pg/c streams from a Unix socket, port 2, which is not among these servers";
    assert_eq!(refused(&[primary(), server("/pg/c", 3, Some("port=2"))]), between);
    let in_recovery = Sighting { in_recovery: true, ..primary() };
    assert_eq!(refused(&[in_recovery]), "none of these servers is a primary");
    let mut elsewhere = server("/pg/b", 5432, Some("host=db1"));
    elsewhere.feed.as_mut().expect("a standby").is_here = false;
    assert_eq!(refused(&[elsewhere]), "/pg/b streams from db1, port 5432, which is on another machine");
}

#[test]
fn a_password_that_the_role_does_not_have_is_taken_out_again() {
    for (auth, expected) in [("trust", None), ("scram-sha-256", Some(SecretRef::Env(PASSWORD_VARIABLE.to_owned())))] {
        let original = topology_of(15, &format!("auth: {auth}, password: {{ file: /s }}"), "", PAIR);
        let mut world = made_world(&original);
        without_marks(&mut world);
        for name in original.nodes.keys() {
            let role = &mut world.node_mut(name).cluster_mut().expect("made").replication_role;
            role.known_mut().expect("made").verifier = Verifier::Differs;
        }
        let (mut import, topology) = imported(&sightings(&original, &world), &world);
        assert!(import.password.is_some());
        assert!(import.settle(&plan(&topology, &world), &world));
        assert_eq!((import.password.is_some(), import.topology.replication.password.clone()), (false, expected));
        assert!(import.left_out[0].contains("it is not the one that the role has"), "{:?}", import.left_out);
        assert!(!import.settle(&plan(&topology, &world), &world) || auth == "scram-sha-256");
    }
}

#[test]
fn a_parameter_that_does_not_hold_on_one_node_is_left_to_the_others() {
    let original = topology_of(15, SCRAM, "work_mem: 5MB", PAIR);
    let world = made_world(&original);
    let (mut import, _) = imported(&sightings(&original, &world), &world);
    import.take_parameter_out(&NodeName::new("a"), "work_mem");
    assert_eq!(import.topology.parameter(import.topology.primary(), "work_mem"), None);
    let standby = import.topology.standbys().next().expect("a standby");
    assert_eq!(import.topology.parameter(standby, "work_mem"), Some("5MB"));
    assert_eq!(import.left_out, ["`work_mem` of a: its files and its server do not say the same"]);
    import.take_parameter_out(&NodeName::new("a"), "primary_conninfo");
    assert_eq!(import.left_out.len(), 1, "what is no parameter is not taken out");
}
