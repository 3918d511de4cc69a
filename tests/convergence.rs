//! The planner's proof: from every starting state of a pair, with pgpair dying at every step and half-way through it.
//!
//! Starting states are enumerated: every prefix of a creation, with every mishap at the primary and every mishap at
//! the standby. From each of them plan and apply are run in the simulated cluster, once to the end and once for every
//! crash point, and then on until nothing is left to do. What must hold: no second writer, nor a stopped node that
//! would come up as one; it converges; the plan is then empty; planning changes nothing; and nothing that needs an
//! allowance is done without it.
//!
//! All of it takes minutes. Every mishap by itself is always tried, and of two at once the same share each time; with
//! PGPAIR_FULL=1 every two are, and a mishap comes in between from every state.

#![expect(clippy::print_stdout, reason = "the counts are part of the proof")]

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use pgpair::observed::Busy;
use pgpair::observed::Cluster;
use pgpair::observed::Content;
use pgpair::observed::DataDir;
use pgpair::observed::Identity;
use pgpair::observed::Markers;
use pgpair::observed::NodeObserved;
use pgpair::observed::Observed;
use pgpair::observed::Passfile;
use pgpair::observed::Place;
use pgpair::observed::Reading;
use pgpair::observed::Server;
use pgpair::observed::Setting;
use pgpair::observed::Slot;
use pgpair::observed::Sql;
use pgpair::observed::Verifier;
use pgpair::observed::WalFiles;
use pgpair::observed::WrongAccess;
use pgpair::pg::block;
use pgpair::pg::conf::ConfFile;
use pgpair::pg::control::ControlState;
use pgpair::pg::guc;
use pgpair::pg::lsn::Lsn;
use pgpair::pg::lsn::Timeline;
use pgpair::pg::version::Major;
use pgpair::pg::version::StandbyMode;
use pgpair::plan::Action;
use pgpair::plan::Impact;
use pgpair::plan::Plan;
use pgpair::plan::Replaced;
use pgpair::plan::Request;
use pgpair::plan::Status;
use pgpair::plan::Step;
use pgpair::plan::allow;
use pgpair::plan::allow::Allowance;
use pgpair::plan::check::Check;
use pgpair::plan::check::check;
use pgpair::plan::planner::plan;
use pgpair::plan::planner::plan_with;
use pgpair::plan::predict::predict;
use pgpair::topology;
use pgpair::topology::NodeName;
use pgpair::topology::Role;
use pgpair::topology::Topology;
use pgpair::world::World;
use pgpair::world::sim::Crash;
use pgpair::world::sim::Moment;
use pgpair::world::sim::Sim;
use pgpair::world::sim::empty_place;
use pgpair::world::sim::nothing;

fn pair(version: u32, auth: &str, slots: bool) -> Topology {
    let password = if auth == "trust" { "" } else { ", password: { env: SECRET }" };
    let yaml = format!(
        "version: 1\ncluster: sim\npostgresql: {{ version: {version} }}\n\
         replication: {{ user: repuser, auth: {auth}{password}, connection_limit: 3, slots: {slots} }}\n\
         parameters: {{ max_wal_senders: 4, wal_log_hints: on, work_mem: 8MB }}\n\
         nodes:\n  a: {{ role: primary, port: 6001, data_dir: /pg/a }}\n  b: {{ role: standby, port: 6002, data_dir: /pg/b }}\n"
    );
    topology::parse(yaml.as_bytes(), "sim.yaml", "/").expect("a good topology")
}

/// A pair with a third node below: copied from the standby, streaming from `upstream`, with folders outside.
fn trio(version: u32, upstream: &str) -> Topology {
    let yaml = format!(
        "version: 1\ncluster: sim\npostgresql: {{ version: {version} }}\n\
         replication: {{ user: repuser, auth: trust }}\nparameters: {{ max_wal_senders: 6 }}\n\
         nodes:\n  a: {{ role: primary, port: 6001, data_dir: /pg/a }}\n  \
         b: {{ role: standby, port: 6002, data_dir: /pg/b, tablespaces: {{ /ts/a: /ts/b }} }}\n  \
         c: {{ role: standby, port: 6003, data_dir: /pg/c, waldir: /wal/c, tablespaces: {{ /ts/b: /ts/c }}, \
         upstream: {upstream}, clone_from: b }}\n"
    );
    topology::parse(yaml.as_bytes(), "sim.yaml", "/").expect("a good topology")
}

fn name(node: &str) -> NodeName {
    NodeName::new(node)
}

/// The name of what is no mishap.
const NONE: &str = "nothing";

/// What goes wrong at a node, between two runs of pgpair.
type Mishap = (&'static str, fn(&Topology, &mut Observed, &NodeName));

fn stop(observed: &mut Observed, node: &NodeName, cleanly: bool) {
    let seen = observed.node_mut(node);
    if seen.server.is_absent() {
        return;
    }
    seen.server = Reading::Absent;
    if let Some(cluster) = seen.cluster_mut() {
        cluster.state = match (cleanly, cluster.state) {
            (true, ControlState::InArchiveRecovery) => ControlState::ShutDownInRecovery,
            (true, _) => ControlState::ShutDown,
            (false, state) => state,
        };
        for slot in cluster.slots.values_mut() {
            slot.active = false;
        }
    }
    // Ports are 6001 for a, 6002 for b, 6003 for c.
    let port = 6000 + u16::from(node.as_str().as_bytes()[0] - b'a') + 1;
    let slot = format!("pgpair_{node}");
    for (other, seen) in &mut observed.nodes {
        if let Some(sql) = seen.sql_mut().filter(|_| other != node) {
            sql.senders.retain(|sender| sender.application_name != node.as_str());
            if sql.receiver.as_ref().is_some_and(|receiver| receiver.port == Some(port)) {
                sql.receiver = None;
            }
        }
        if let Some(slot) = seen.cluster_mut().filter(|_| other != node).and_then(|own| own.slots.get_mut(&slot)) {
            slot.active = false;
        }
    }
}

/// A place that can't be looked at is replaced by an empty one.
fn place<'a>(observed: &'a mut Observed, node: &NodeName) -> &'a mut Place {
    let seen = observed.node_mut(node);
    if seen.place.known().is_none() {
        seen.place = Reading::Known(empty_place());
        seen.server = Reading::Absent;
    }
    seen.place.known_mut().expect("just made")
}

/// A data directory straight from an initdb by hand.
fn fresh_initdb(topology: &Topology, observed: &mut Observed, node: &NodeName) {
    stop(observed, node, true);
    let mut scratch = nothing(topology);
    let first = plan(topology, &scratch).steps.remove(0);
    predict(&first.node, &first.action, topology, &mut scratch);
    let mut cluster = scratch.node(&topology.primary().name).cluster().expect("just created").clone();
    cluster.identity = Identity::Known(if node.as_str() == "a" { 1 } else { 2 });
    cluster.conf.main.text = "max_connections = 100\n".into();
    cluster.hba = "local all all trust\nhost replication all 127.0.0.1/32 reject\n".into();
    cluster.passfile = Passfile::Absent;
    place(observed, node).data_dir = DataDir::Cluster(Box::new(cluster));
}

fn promote(observed: &mut Observed, node: &NodeName) {
    if !observed.node(node).sql().is_some_and(|sql| sql.in_recovery) {
        return;
    }
    stop(observed, node, true);
    with_cluster(observed, node, |cluster| {
        cluster.markers = Markers { postmaster_opts: true, ..Markers::default() };
        cluster.timeline = Timeline(cluster.timeline.0 + 1);
        cluster.newest_history = Some(cluster.timeline);
        cluster.state = ControlState::ShutDown;
    });
    let server = Server { pid: 1, started: 0, port: None, socket_dir: None, sql: Reading::Known(writer()) };
    observed.node_mut(node).server = Reading::Known(server);
    with_cluster(observed, node, |cluster| cluster.state = ControlState::InProduction);
}

fn writer() -> Sql {
    Sql {
        version: String::new(),
        in_recovery: false,
        timeline: Timeline(2),
        lsn: Lsn(0),
        replayed: None,
        replay_paused: false,
        asks_from: None,
        settings: BTreeMap::new(),
        hba_loaded: true,
        conf_loaded: true,
        recovery_conf_loaded: true,
        receiver: None,
        senders: Vec::new(),
        busy: Busy::default(),
    }
}

fn with_cluster(observed: &mut Observed, node: &NodeName, change: impl FnOnce(&mut Cluster)) {
    if let Some(cluster) = observed.node_mut(node).cluster_mut() {
        change(cluster);
    }
}

/// What a running server has in force.
fn runs_with(observed: &mut Observed, node: &NodeName, values: &[(&str, &str)]) {
    let Some(sql) = observed.node_mut(node).sql_mut() else { return };
    let Some(any) = sql.settings.get("port").cloned() else { return };
    for (name, value) in values {
        let context = guc::context(Major::OLDEST, name).expect("every major has it");
        sql.settings.insert((*name).to_owned(), Setting { value: (*value).to_owned(), context, ..any.clone() });
    }
}

/// The primary has recycled what this standby needs.
fn lose_wal(topology: &Topology, observed: &mut Observed, node: &NodeName) {
    let primary = &topology.primary().name;
    if node == primary || observed.node(node).cluster().is_none_or(|cluster| !cluster.markers.postmaster_opts) {
        return;
    }
    let slot = topology.nodes[node].slot_name();
    with_cluster(observed, primary, |cluster| {
        cluster.wal = Some(WalFiles { oldest: Lsn(0x900_0000), end: Lsn(0xA00_0000) });
        if let Some(slot) = cluster.slots.get_mut(&slot) {
            *slot = Slot { physical: true, active: false, reserved: false, wal_status: Some("lost".into()) };
        }
    });
    if let Some(sql) = observed.node_mut(primary).sql_mut() {
        sql.senders.clear();
    }
    with_cluster(observed, node, |cluster| {
        cluster.wal = Some(WalFiles { oldest: Lsn(0x100_0000), end: Lsn(0x400_0000) });
    });
    if let Some(sql) = observed.node_mut(node).sql_mut().filter(|sql| sql.in_recovery) {
        (sql.receiver, sql.asks_from) = (None, Some(Lsn(0x300_0000)));
    }
}

/// Somebody let a running standby follow another server; before 12 it has not read that yet.
fn turn_away(_: &Topology, observed: &mut Observed, node: &NodeName) {
    with_cluster(observed, node, |cluster| {
        for text in [Some(&mut cluster.conf.main.text), cluster.markers.recovery_conf.as_mut()].into_iter().flatten() {
            *text = text.replace("port=6001", "port=7001");
        }
    });
    if let Some(sql) = observed.node_mut(node).sql_mut().filter(|sql| sql.in_recovery) {
        (sql.receiver, sql.recovery_conf_loaded, sql.conf_loaded) = (None, false, false);
    }
}

/// The topology asks for another way in than the node's block of pg_hba.conf gives.
fn old_method(observed: &mut Observed, node: &NodeName) {
    with_cluster(observed, node, |cluster| {
        let Ok(Some(found)) = block::find(&cluster.hba) else { return };
        let mut block = found.block;
        for line in &mut block.lines {
            *line = match line.strip_suffix("trust") {
                Some(rest) => format!("{rest}md5"),
                None => line.replace("scram-sha-256", "md5"),
            };
        }
        cluster.hba = block::put_before_rules(&cluster.hba, &block).expect("one block");
    });
}

fn mishaps() -> Vec<Mishap> {
    vec![
        (NONE, |_, _, _| {}),
        ("stopped", |_, observed, node| stop(observed, node, true)),
        ("crashed", |_, observed, node| stop(observed, node, false)),
        ("deleted", |_, observed, node| {
            stop(observed, node, true);
            place(observed, node).data_dir = DataDir::Absent;
        }),
        ("empty folder", |_, observed, node| {
            stop(observed, node, true);
            place(observed, node).data_dir = DataDir::Empty;
        }),
        ("unmounted", |_, observed, node| {
            stop(observed, node, true);
            let place = place(observed, node);
            place.data_dir = DataDir::Empty;
            place.unmounted = Some("/pg".into());
        }),
        ("unfinished", |_, observed, node| {
            stop(observed, node, true);
            place(observed, node).data_dir = DataDir::Unfinished("no global/pg_control".into());
        }),
        ("no data directory", |_, observed, node| {
            stop(observed, node, true);
            place(observed, node).data_dir = DataDir::Foreign("holiday.jpg".into());
        }),
        ("left-over copy", |_, observed, node| place(observed, node).new = true),
        ("kept aside", |_, observed, node| place(observed, node).old = true),
        ("fresh initdb", fresh_initdb),
        ("fresh initdb runs", |topology, observed, node| {
            fresh_initdb(topology, observed, node);
            predict(node, &Action::Start { role: Role::Primary }, topology, observed);
        }),
        ("fresh initdb ran", |topology, observed, node| {
            fresh_initdb(topology, observed, node);
            predict(node, &Action::Start { role: Role::Primary }, topology, observed);
            stop(observed, node, true);
        }),
        ("standby files gone", |_, observed, node| {
            stop(observed, node, true);
            with_cluster(observed, node, |cluster| {
                cluster.markers.standby_signal = false;
                cluster.markers.recovery_conf = None;
            });
        }),
        ("promoted by hand", |_, observed, node| promote(observed, node)),
        ("promoted by hand and stopped", |_, observed, node| {
            promote(observed, node);
            stop(observed, node, true);
        }),
        ("copied by hand", |topology, observed, node| {
            let Some(mut cluster) = observed.node(&topology.primary().name).cluster().cloned() else { return };
            if *node == topology.primary().name {
                return;
            }
            stop(observed, node, true);
            cluster.markers = Markers { backup_label: true, ..Markers::default() };
            cluster.slots.clear();
            place(observed, node).data_dir = DataDir::Cluster(Box::new(cluster));
        }),
        ("was a standby once", |_, observed, node| {
            stop(observed, node, true);
            with_cluster(observed, node, |cluster| {
                cluster.markers = Markers { postmaster_opts: true, ..Markers::default() };
                cluster.state = ControlState::ShutDownInRecovery;
            });
        }),
        ("block removed", |_, observed, node| {
            with_cluster(observed, node, |cluster| {
                cluster.conf.main.text = block::remove(&cluster.conf.main.text).expect("one block");
            });
        }),
        ("block edited", |_, observed, node| {
            with_cluster(observed, node, |cluster| {
                cluster.conf.main.text =
                    cluster.conf.main.text.replace("wal_log_hints = 'on'", "wal_log_hints = 'off'");
            });
            if let Some(sql) = observed.node_mut(node).sql_mut() {
                sql.settings.entry("wal_log_hints".into()).and_modify(|setting| setting.value = "off".into());
            }
        }),
        ("shadowed by auto.conf", |_, observed, node| {
            let text = "wal_log_hints = 'off'\nwork_mem = '1MB'\nport = 6001\n"
                .replace("6001", if node.as_str() == "a" { "6001" } else { "6002" });
            with_cluster(observed, node, |cluster| {
                let path = "postgresql.auto.conf".into();
                cluster.conf.auto = Some(ConfFile { path, text, includes: Vec::new() });
            });
            runs_with(observed, node, &[("wal_log_hints", "off"), ("work_mem", "1MB")]);
        }),
        ("of an earlier topology", |topology, observed, node| {
            // A mixed change in both directions is due: raised, changed by a reload, and a parameter that goes.
            with_cluster(observed, node, |cluster| {
                let Ok(Some(found)) = block::find(&cluster.conf.main.text) else { return };
                let mut block = found.block;
                let old =
                    [("work_mem = '8MB'", "work_mem = '4MB'"), ("max_wal_senders = '4'", "max_wal_senders = '3'")];
                for line in &mut block.lines {
                    for (new, old) in old {
                        *line = line.replace(new, old);
                    }
                }
                block.lines.extend(["max_connections = '90'", "commit_delay = '7'"].map(str::to_owned));
                cluster.conf.main.text = block::put_last(&cluster.conf.main.text, &block).expect("one block");
            });
            let old = [("work_mem", "4MB"), ("max_wal_senders", "3"), ("max_connections", "90"), ("commit_delay", "7")];
            runs_with(observed, node, &old);
            if *node == topology.primary().name && observed.node(node).sql().is_some() {
                for name in ["a", "b"] {
                    with_cluster(observed, &NodeName::new(name), |cluster| {
                        let floors = [("max_wal_senders", 3), ("max_connections", 90)];
                        for (name, value) in floors {
                            cluster.floors.entry(name.into()).and_modify(|floor| *floor = value);
                        }
                    });
                }
            }
        }),
        ("rules removed", |_, observed, node| {
            with_cluster(observed, node, |cluster| {
                cluster.hba = block::remove(&cluster.hba).expect("one block") + "local all all trust\n";
            });
        }),
        ("rules not read", |_, observed, node| {
            if let Some(sql) = observed.node_mut(node).sql_mut() {
                sql.hba_loaded = false;
            }
        }),
        ("mode too open", |_, observed, node| {
            with_cluster(observed, node, |cluster| cluster.wrong_access = Some(WrongAccess::Mode(0o755)));
        }),
        ("behind lost WAL", lose_wal),
        ("turned away", turn_away),
        ("passfile gone", |_, observed, node| {
            with_cluster(observed, node, |cluster| cluster.passfile = Passfile::Absent);
        }),
        ("passfile wrong", |_, observed, node| {
            with_cluster(observed, node, |cluster| {
                if cluster.passfile == Passfile::Right {
                    cluster.passfile = Passfile::Wrong;
                }
            });
        }),
        ("password of the role changed", |_, observed, node| {
            with_cluster(observed, node, |cluster| {
                if let Some(role) = cluster.replication_role.known_mut() {
                    role.verifier = Verifier::Differs;
                }
            });
        }),
        ("rules of the old method", |_, observed, node| old_method(observed, node)),
        ("password and method changed", |_, observed, _| {
            for node in ["a", "b"].map(name) {
                old_method(observed, &node);
                with_cluster(observed, &node, |cluster| {
                    if cluster.passfile == Passfile::Right {
                        cluster.passfile = Passfile::Wrong;
                    }
                    if let Some(role) = cluster.replication_role.known_mut() {
                        role.verifier = Verifier::Differs;
                    }
                });
            }
        }),
        ("role dropped", |_, observed, node| {
            with_cluster(observed, node, |cluster| {
                if cluster.replication_role.known().is_some() {
                    cluster.replication_role = Reading::Absent;
                }
            });
        }),
        ("slots dropped", |_, observed, node| {
            with_cluster(observed, node, |cluster| cluster.slots.retain(|_, slot| slot.active));
        }),
        ("slot of a former node", |_, observed, node| {
            let slot = Slot { physical: true, active: false, reserved: true, wal_status: None };
            with_cluster(observed, node, |cluster| drop(cluster.slots.insert("pgpair_gone".into(), slot)));
        }),
        ("slot of another program", |_, observed, node| {
            let slot = Slot { physical: true, active: false, reserved: true, wal_status: None };
            with_cluster(observed, node, |cluster| drop(cluster.slots.insert("barman".into(), slot)));
        }),
        ("out of reach", |_, observed, node| {
            observed.node_mut(node).place = Reading::Unknown("permission denied".into());
            observed.node_mut(node).server = Reading::Unknown("permission denied".into());
        }),
        ("silent", |_, observed, node| {
            if let Some(server) = observed.node_mut(node).server.known_mut() {
                server.sql = Reading::Unknown("timeout".into());
            }
        }),
        ("port taken", |_, observed, node| {
            if observed.node(node).server.is_absent() {
                observed.node_mut(node).port_taken = Reading::Known("nginx".into());
            }
        }),
        ("binaries gone", |_, observed, node| observed.node_mut(node).binaries = Reading::Absent),
    ]
}

/// Every state on the way of a creation.
fn prefixes(topology: &Topology) -> Vec<Observed> {
    let mut prefixes = vec![nothing(topology)];
    for step in plan(topology, &prefixes[0]).steps {
        let mut next = prefixes.last().expect("not empty").clone();
        predict(&step.node, &step.action, topology, &mut next);
        // initdb chooses an identifier.
        for seen in next.nodes.values_mut() {
            if let Some(cluster) =
                seen.cluster_mut().filter(|cluster| matches!(cluster.identity, Identity::CreatedOn(_)))
            {
                cluster.identity = Identity::Known(1000);
            }
        }
        prefixes.push(next);
    }
    prefixes
}

/// Whether all starting states are asked for.
fn is_full() -> bool {
    std::env::var_os("PGPAIR_FULL").is_some()
}

/// Every prefix of a creation, with every mishap, and one in `share` pairs of mishaps; equal states once.
fn starting_states(topology: &Topology, share: usize) -> BTreeMap<String, (String, Observed)> {
    let mut pairs: usize = 0;
    let mut states = BTreeMap::new();
    for (number, prefix) in prefixes(topology).iter().enumerate() {
        for (at_b, mishap_at_b) in mishaps() {
            for (at_a, mishap_at_a) in mishaps() {
                if at_a != NONE && at_b != NONE {
                    pairs += 1;
                    if !is_full() && !pairs.is_multiple_of(share) {
                        continue;
                    }
                }
                let mut state = prefix.clone();
                mishap_at_b(topology, &mut state, &name("b"));
                mishap_at_a(topology, &mut state, &name("a"));
                let key = serde_json::to_string(&state).expect("plain data");
                states.entry(key).or_insert_with(|| (format!("after step {number}, a: {at_a}, b: {at_b}"), state));
            }
        }
    }
    states
}

/// Every prefix of a creation, with a mishap at any one node; equal states once.
fn states_of_three(topology: &Topology) -> BTreeMap<String, (String, Observed)> {
    let tablespace: Mishap = ("a tablespace is made", |_, observed, _| {
        for (node, seen) in &mut observed.nodes {
            if let Some(cluster) = seen.cluster_mut() {
                cluster.tablespaces.insert("16385".into(), format!("/ts/{node}"));
            }
            if let Some(outside) = place_of(seen).and_then(|place| place.outside.get_mut(&format!("/ts/{node}"))) {
                outside.content = Content::InUse;
            }
        }
    });
    let folder: Mishap = ("a folder outside is filled", |_, observed, node| {
        let outside = place_of(observed.node_mut(node)).map(|place| place.outside.values_mut());
        for outside in outside.into_iter().flatten().filter(|outside| outside.content == Content::Nothing) {
            outside.content = Content::Foreign;
        }
    });
    let mut states = BTreeMap::new();
    for (number, prefix) in prefixes(topology).iter().enumerate() {
        for (what, mishap) in mishaps().into_iter().chain([tablespace, folder]) {
            for node in topology.nodes.keys() {
                let mut state = prefix.clone();
                mishap(topology, &mut state, node);
                disown(&mut state);
                let key = serde_json::to_string(&state).expect("plain data");
                states.entry(key).or_insert_with(|| (format!("after step {number}, {node}: {what}"), state));
            }
        }
    }
    states
}

fn place_of(seen: &mut NodeObserved) -> Option<&mut Place> {
    seen.place.known_mut()
}

/// A folder outside is nobody's when no data directory leads there any more.
fn disown(observed: &mut Observed) {
    for seen in observed.nodes.values_mut() {
        let cluster = seen.cluster().cloned();
        let leads = |folder: &String| {
            cluster.as_ref().is_some_and(|cluster| {
                cluster.waldir.as_ref() == Some(folder) || cluster.tablespaces.values().any(|to| to == folder)
            })
        };
        let Some(place) = place_of(seen) else { continue };
        for (folder, outside) in &mut place.outside {
            if outside.content == Content::InUse && !leads(folder) {
                outside.content = Content::Foreign;
            }
        }
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    futures_util::future::FutureExt::now_or_never(work).expect("the simulated world never waits")
}

/// What one run of pgpair did.
struct Run {
    plan: Plan,
    performed: usize,
    left_out: usize,
    died: bool,
    refused: Option<String>,
    after: Observed,
}

/// Plans and applies once.
fn run(topology: &Topology, truth: &Observed, allowed: &BTreeSet<Allowance>, crash: Option<Crash>, story: &str) -> Run {
    let sim = Sim::new(topology.clone(), truth.clone(), crash);
    let observed = block_on(sim.observe());
    let untouched = observed.clone();
    let plan = plan(topology, &observed);
    assert_eq!(observed, untouched, "{story}: planning changed the world");
    apply(topology, &sim, plan, &observed, allowed, &|_| {}, story)
}

/// Applies a plan as the executor does: check, perform, look again.
fn apply(
    topology: &Topology,
    sim: &Sim,
    plan: Plan,
    observed: &Observed,
    allowed: &BTreeSet<Allowance>,
    before_step: &dyn Fn(usize),
    story: &str,
) -> Run {
    let selection = allow::select(&plan, topology, observed, allowed);
    let mut refused = None;
    for (number, step) in selection.chosen.iter().enumerate() {
        before_step(number);
        if let Some(allowance) = allow::needed(&plan, step) {
            assert!(allowed.contains(&allowance), "{story}: {} without its allowance", step.id);
        }
        match check(&step.node, &step.action, &step.topology(topology), &block_on(sim.observe())) {
            Check::Satisfied => continue,
            Check::Blocked(refusal) => {
                refused = Some(format!("the guard of {} refuses what was planned: {}", step.id, refusal.reason()));
                break;
            }
            Check::Ready => {}
        }
        if block_on(sim.perform(step, &|_| {})).is_err() {
            break;
        }
        let after = check(&step.node, &step.action, &step.topology(topology), &block_on(sim.observe()));
        assert_eq!(after, Check::Satisfied, "{story}: {} was performed and its goal is not reached", step.id);
    }
    assert_eq!(sim.violations(), Vec::<String>::new(), "{story}");
    let left_out = selection.left_out.len();
    let (performed, died) = (sim.performed(), sim.is_dead());
    Run { plan, performed, left_out, died, refused, after: sim.settled() }
}

fn everything() -> BTreeSet<Allowance> {
    let nodes = ["a", "b", "c"].map(|node| Allowance::Destroy(name(node)));
    let switch = ["a", "b", "c"].map(|node| Allowance::Switchover(name(node)));
    [Allowance::Restart, Allowance::Outage].into_iter().chain(nodes).chain(switch).collect()
}

/// Runs on until nothing is left to do; returns what the last plan says.
fn converge(topology: &Topology, start: &Observed, story: &str) -> Plan {
    let mut truth = start.clone();
    for _ in 0..4 {
        let run = run(topology, &truth, &everything(), None, story);
        assert_eq!(run.refused, None, "{story}");
        truth = run.after;
        if run.performed == 0 {
            assert!(
                run.plan.steps.is_empty() || run.plan.is_halted(),
                "{story}: a plan whose steps are done already: {:?}",
                run.plan.steps
            );
            return run.plan;
        }
    }
    panic!("{story}: does not converge");
}

/// How many states were tried, and how they ended.
#[derive(Debug, Default)]
struct Tally {
    states: usize,
    clean: usize,
    blocked: usize,
    crashes: usize,
}

fn try_every_state(version: u32, auth: &str, slots: bool) {
    let topology = pair(version, auth, slots);
    let tally = try_states(&topology, starting_states(&topology, 5), &format!("{version} {auth}"));
    assert!(tally.states > 500 && tally.clean > 300 && tally.blocked > 100, "{tally:?}");
}

fn try_states(topology: &Topology, states: BTreeMap<String, (String, Observed)>, title: &str) -> Tally {
    let mut tally = Tally::default();
    // Crashes end in few different states; where each leads to is worked out once.
    let mut known: BTreeMap<String, Plan> = BTreeMap::new();
    let mut end_of = |truth: &Observed, story: &str| {
        let key = serde_json::to_string(truth).expect("plain data");
        known.entry(key).or_insert_with(|| converge(topology, truth, story)).clone()
    };
    for (label, start) in states.into_values() {
        let story = format!("{title}, {label}");
        tally.states += 1;
        let last = end_of(&start, &story);
        match last.status() {
            Status::Clean => tally.clean += 1,
            Status::Blocked => tally.blocked += 1,
            Status::Changes => panic!("{story}: converged, and the plan has steps"),
        }
        let observed = block_on(Sim::new(topology.clone(), start.clone(), None).observe());
        let first = plan(topology, &observed);
        for step in 0..first.steps.len() {
            for moment in [Moment::Before, Moment::Half(0), Moment::Half(1), Moment::After] {
                let story = format!("{story}, dies at step {step} {moment:?}");
                let sim = Sim::new(topology.clone(), start.clone(), Some(Crash { step, moment }));
                let crashed = apply(topology, &sim, first.clone(), &observed, &everything(), &|_| {}, &story);
                tally.crashes += 1;
                if crashed.died {
                    let again = end_of(&crashed.after, &story);
                    assert_eq!(again.status(), last.status(), "{story}: ends elsewhere: {:?}", again.blocked);
                }
            }
        }
    }
    println!("{title}: {tally:?}");
    tally
}

#[test]
fn every_state_of_a_pair_of_15_with_scram_converges_whatever_step_pgpair_dies_at() {
    try_every_state(15, "scram-sha-256", true);
}

#[test]
fn every_state_of_a_pair_of_15_without_slots_converges_whatever_step_pgpair_dies_at() {
    try_every_state(15, "trust", false);
}

#[test]
fn every_state_of_a_pair_of_10_converges_whatever_step_pgpair_dies_at() {
    try_every_state(10, "md5", true);
}

fn try_three(version: u32, upstream: &str) {
    let topology = trio(version, upstream);
    let title = format!("{version}, c below {upstream}");
    let tally = try_states(&topology, states_of_three(&topology), &title);
    assert!(tally.states > 300 && tally.clean > 200 && tally.blocked > 50, "{tally:?}");
}

#[test]
fn a_third_node_of_15_copied_from_the_standby_converges_whatever_step_pgpair_dies_at() {
    try_three(15, "a");
}

#[test]
fn a_third_node_of_10_below_the_standby_converges_whatever_step_pgpair_dies_at() {
    try_three(10, "b");
}

/// Between two steps somebody starts, stops, promotes, deletes or replaces something.
#[test]
fn a_guard_notices_what_happens_between_plan_and_step() {
    let topology = pair(15, "scram-sha-256", true);
    let mut runs = 0;
    let mut refused = 0;
    // One mishap to begin with is enough here: the other comes in between.
    let starts = starting_states(&topology, usize::MAX).into_values();
    for (label, start) in starts.step_by(if is_full() { 1 } else { 2 }) {
        let observed = block_on(Sim::new(topology.clone(), start.clone(), None).observe());
        let first = plan(&topology, &observed);
        for at in 0..first.steps.len() {
            for node in ["a", "b"] {
                for (what, mishap) in mishaps() {
                    let story = format!("{label}; before step {at}, {node}: {what}");
                    let sim = Sim::new(topology.clone(), start.clone(), None);
                    let interfere = |number| {
                        if number == at {
                            sim.interfere(|truth| mishap(&topology, truth, &name(node)));
                        }
                    };
                    let run = apply(&topology, &sim, first.clone(), &observed, &everything(), &interfere, &story);
                    runs += 1;
                    refused += usize::from(run.refused.is_some());
                }
            }
        }
    }
    println!("{runs} interferences, {refused} refused by a guard");
    assert!(refused > 1000);
}

#[test]
fn a_primary_is_not_started_beside_its_own_standby_on_a_newer_timeline() {
    let topology = pair(15, "trust", true);
    let mut truth = run(&topology, &nothing(&topology), &everything(), None, "from nothing").after;
    stop(&mut truth, &name("a"), true);
    assert!(!plan(&topology, &truth).is_halted());
    // It follows a server that was promoted elsewhere.
    truth.node_mut(&name("b")).sql_mut().expect("runs").timeline = Timeline(2);
    let halted = plan(&topology, &truth);
    assert_eq!(halted.blocked[0].refusal.code(), "roles_moved");
    // The same from the files of a stopped one, and of one whose disk is not there.
    stop(&mut truth, &name("b"), true);
    with_cluster(&mut truth, &name("b"), |cluster| cluster.newest_history = Some(Timeline(2)));
    assert!(plan(&topology, &truth).is_halted());
    place(&mut truth, &name("b")).data_dir = DataDir::Empty;
    place(&mut truth, &name("b")).unmounted = Some("/pg".into());
    assert_eq!(plan(&topology, &truth).blocked[0].refusal.code(), "unmounted");
}

#[test]
fn nothing_that_needs_an_allowance_is_done_without_it() {
    let topology = pair(15, "scram-sha-256", true);
    for (label, start) in starting_states(&topology, 1).into_values() {
        let done = run(&topology, &start, &BTreeSet::new(), None, &label);
        let needing = done.plan.steps.iter().filter(|step| step.impact > Impact::Reload).count();
        assert!(done.left_out >= needing || done.plan.is_halted(), "{label}");
    }
}

#[test]
fn from_nothing_a_pair_is_made_without_any_allowance() {
    for version in [10, 15] {
        let topology = pair(version, "scram-sha-256", true);
        let done = run(&topology, &nothing(&topology), &BTreeSet::new(), None, "from nothing");
        assert_eq!(done.left_out, 0);
        let ids: Vec<&str> = done.plan.steps.iter().map(|step| step.id.as_str()).collect();
        assert_eq!(
            ids,
            [
                "a.create_primary",
                "a.start",
                "a.replication_role",
                "a.slot.pgpair_b",
                "b.clone",
                "b.start",
                "b.streaming",
                "b.slot.pgpair_a"
            ]
        );
        assert_eq!(plan(&topology, &done.after).status(), Status::Clean);
        let standby = done.after.node(&name("b")).cluster().expect("cloned");
        let is_old_way = version == 10;
        assert_eq!(topology.postgresql.version.dialect().standby_mode == StandbyMode::RecoveryConf, is_old_way);
        assert_eq!(standby.markers.recovery_conf.is_some(), is_old_way);
        assert_eq!(standby.markers.standby_signal, !is_old_way);
    }
}

/// A rebuild is asked for in every state, and pgpair dies anywhere in it: a plain apply then ends where one would have
/// ended from the start, or where the whole rebuild does.
fn rebuild_in_every_state(version: u32) {
    let topology = pair(version, "scram-sha-256", true);
    let request = Request::rebuild(&topology, &name("b")).expect("a standby");
    let (mut rebuilt, mut crashes) = (0, 0);
    let mut known: BTreeMap<String, Status> = BTreeMap::new();
    let mut end_of = |truth: &Observed, story: &str| {
        let key = serde_json::to_string(truth).expect("plain data");
        *known.entry(key).or_insert_with(|| converge(&topology, truth, story).status())
    };
    for (label, start) in starting_states(&topology, 14).into_values() {
        let story = format!("{version}, rebuild, {label}");
        let observed = block_on(Sim::new(topology.clone(), start.clone(), None).observe());
        let first = plan_with(&topology, &observed, &request);
        let replaces = |step: &Step| matches!(&step.action, Action::Clone(clone) if matches!(clone.replaces, Some(Replaced::Member(_))));
        if first.is_halted() || !first.steps.iter().any(replaces) {
            continue;
        }
        rebuilt += 1;
        let own = observed.node(&name("b")).cluster().expect("it is replaced").conf.main.text.clone();
        let whole = Sim::new(topology.clone(), start.clone(), None);
        let done = apply(&topology, &whole, first.clone(), &observed, &everything(), &|_| {}, &story);
        assert_eq!((done.refused, done.left_out), (None, 0), "{story}");
        let new = done.after.node(&name("b")).cluster().expect("cloned");
        let without_block = |text: &str| block::remove(text).expect("one block");
        assert_eq!(without_block(&new.conf.main.text), without_block(&own), "{story}: its own configuration");
        let ends = [end_of(&done.after, &story), end_of(&start, &story)];
        for step in 0..first.steps.len() {
            for moment in [Moment::Before, Moment::Half(0), Moment::Half(1), Moment::After] {
                let story = format!("{story}, dies at step {step} {moment:?}");
                let sim = Sim::new(topology.clone(), start.clone(), Some(Crash { step, moment }));
                let crashed = apply(&topology, &sim, first.clone(), &observed, &everything(), &|_| {}, &story);
                crashes += 1;
                if crashed.died {
                    let end = end_of(&crashed.after, &story);
                    assert!(ends.contains(&end), "{story}: ends elsewhere: {end:?}");
                }
            }
        }
        let unasked = run(&topology, &start, &BTreeSet::new(), None, &story);
        let kept = unasked.after.node(&name("b")).place.known().is_some_and(|place| !place.old);
        assert!(kept || observed.node(&name("b")).place.known().is_some_and(|place| place.old), "{story}: unasked");
    }
    println!("{version}: {rebuilt} states with a rebuild, {crashes} crashes");
    assert!(rebuilt > 100, "{rebuilt}");
}

#[test]
fn a_standby_of_15_is_rebuilt_in_every_state_whatever_step_pgpair_dies_at() {
    rebuild_in_every_state(15);
}

#[test]
fn a_standby_of_10_is_rebuilt_in_every_state_whatever_step_pgpair_dies_at() {
    rebuild_in_every_state(10);
}
