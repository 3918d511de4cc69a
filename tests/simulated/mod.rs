//! A pair in the simulated cluster: what can go wrong at a node, and runs of pgpair on it.
//!
//! Shared by the proofs of the planner.

#![allow(dead_code, reason = "each proof uses its part")]

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use pgpair::observed::Cluster;
use pgpair::observed::DataDir;
use pgpair::observed::Identity;
use pgpair::observed::Markers;
use pgpair::observed::Observed;
use pgpair::observed::Passfile;
use pgpair::observed::Place;
use pgpair::observed::Reading;
use pgpair::observed::Server;
use pgpair::observed::Setting;
use pgpair::observed::Slot;
use pgpair::observed::Verifier;
use pgpair::observed::WalFiles;
use pgpair::observed::WrongAccess;
use pgpair::pg::block;
use pgpair::pg::conf::ConfFile;
use pgpair::pg::control::ControlState;
use pgpair::pg::guc;
use pgpair::pg::history::Branch;
use pgpair::pg::lsn::Lsn;
use pgpair::pg::lsn::Timeline;
use pgpair::pg::version::Major;
use pgpair::plan::Action;
use pgpair::plan::Plan;
use pgpair::plan::allow;
use pgpair::plan::allow::Allowance;
use pgpair::plan::check::Check;
use pgpair::plan::check::check;
use pgpair::plan::planner::plan;
use pgpair::plan::predict::predict;
use pgpair::topology;
use pgpair::topology::NodeName;
use pgpair::topology::Role;
use pgpair::topology::Topology;
use pgpair::world::World;
use pgpair::world::sim::Crash;
use pgpair::world::sim::Sim;
use pgpair::world::sim::empty_place;
use pgpair::world::sim::nothing;

pub(crate) fn pair(version: u32, auth: &str, slots: bool) -> Topology {
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
pub(crate) fn trio(version: u32, upstream: &str) -> Topology {
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

pub(crate) fn name(node: &str) -> NodeName {
    NodeName::new(node)
}

/// The name of what is no mishap.
pub(crate) const NONE: &str = "nothing";

/// What goes wrong at a node, between two runs of pgpair.
pub(crate) type Mishap = (&'static str, fn(&Topology, &mut Observed, &NodeName));

pub(crate) fn stop(observed: &mut Observed, node: &NodeName, cleanly: bool) {
    let seen = observed.node_mut(node);
    if seen.server.is_absent() {
        return;
    }
    let lsn = seen.sql().map(|sql| sql.lsn);
    seen.server = Reading::Absent;
    if let Some(cluster) = seen.cluster_mut() {
        cluster.end = lsn.filter(|_| cleanly);
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
pub(crate) fn place<'a>(observed: &'a mut Observed, node: &NodeName) -> &'a mut Place {
    let seen = observed.node_mut(node);
    if seen.place.known().is_none() {
        seen.place = Reading::Known(empty_place());
        seen.server = Reading::Absent;
    }
    seen.place.known_mut().expect("just made")
}

/// A data directory straight from an initdb by hand.
pub(crate) fn fresh_initdb(topology: &Topology, observed: &mut Observed, node: &NodeName) {
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

pub(crate) fn promote(observed: &mut Observed, node: &NodeName) {
    let Some(mut sql) = observed.node(node).sql().filter(|sql| sql.in_recovery).cloned() else { return };
    stop(observed, node, true);
    let mut parent = Timeline(1);
    with_cluster(observed, node, |cluster| {
        parent = cluster.newest_history.map_or(cluster.timeline, |newest| newest.max(cluster.timeline));
        cluster.markers = Markers { postmaster_opts: true, ..Markers::default() };
        cluster.newest_history = Some(Timeline(parent.0 + 1));
        cluster.branches.push(Branch { timeline: parent, end: sql.lsn });
        cluster.state = ControlState::InProduction;
        cluster.end = None;
    });
    (sql.in_recovery, sql.timeline, sql.receiver, sql.senders) = (false, Timeline(parent.0 + 1), None, Vec::new());
    let server = Server { pid: 1, started: 0, port: None, socket_dir: None, sql: Reading::Known(sql) };
    observed.node_mut(node).server = Reading::Known(server);
}

pub(crate) fn with_cluster(observed: &mut Observed, node: &NodeName, change: impl FnOnce(&mut Cluster)) {
    if let Some(cluster) = observed.node_mut(node).cluster_mut() {
        change(cluster);
    }
}

/// What a running server has in force.
pub(crate) fn runs_with(observed: &mut Observed, node: &NodeName, values: &[(&str, &str)]) {
    let Some(sql) = observed.node_mut(node).sql_mut() else { return };
    let Some(any) = sql.settings.get("port").cloned() else { return };
    for (name, value) in values {
        let context = guc::context(Major::OLDEST, name).expect("every major has it");
        sql.settings.insert((*name).to_owned(), Setting { value: (*value).to_owned(), context, ..any.clone() });
    }
}

/// The primary has recycled what this standby needs.
pub(crate) fn lose_wal(topology: &Topology, observed: &mut Observed, node: &NodeName) {
    let primary = &topology.primary().name;
    if node == primary || observed.node(node).cluster().is_none_or(|cluster| !cluster.markers.postmaster_opts) {
        return;
    }
    let slot = topology.nodes[node].slot_name();
    with_cluster(observed, primary, |cluster| {
        cluster.wal = Some(WalFiles { oldest: Lsn(0x900_0000), end: Lsn(0xA00_0000) });
        if let Some(slot) = cluster.slots.get_mut(&slot) {
            *slot = Slot {
                physical: true,
                active: false,
                reserved: false,
                wal_status: Some("lost".into()),
                retained: None,
            };
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
pub(crate) fn turn_away(_: &Topology, observed: &mut Observed, node: &NodeName) {
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
pub(crate) fn old_method(observed: &mut Observed, node: &NodeName) {
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

/// Whether all starting states are asked for.
pub(crate) fn is_full() -> bool {
    std::env::var_os("PGPAIR_FULL").is_some()
}

/// Each of these states with every mishap at either node, and one in `share` pairs of mishaps; equal states once, with
/// their stories.
pub(crate) fn with_mishaps(
    topology: &Topology,
    states: impl IntoIterator<Item = (String, Observed)>,
    mishaps: &[Mishap],
    share: usize,
) -> BTreeMap<String, (String, Observed)> {
    let mut pairs: usize = 0;
    let mut found = BTreeMap::new();
    for (before, state) in states {
        for (at_b, mishap_at_b) in mishaps {
            for (at_a, mishap_at_a) in mishaps {
                if *at_a != NONE && *at_b != NONE {
                    pairs += 1;
                    if !is_full() && !pairs.is_multiple_of(share) {
                        continue;
                    }
                }
                let mut state = state.clone();
                mishap_at_b(topology, &mut state, &name("b"));
                mishap_at_a(topology, &mut state, &name("a"));
                let key = serde_json::to_string(&state).expect("plain data");
                found.entry(key).or_insert_with(|| (format!("{before}, a: {at_a}, b: {at_b}"), state));
            }
        }
    }
    found
}

pub(crate) fn mishaps() -> Vec<Mishap> {
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
            let slot = Slot { physical: true, active: false, reserved: true, wal_status: None, retained: None };
            with_cluster(observed, node, |cluster| drop(cluster.slots.insert("pgpair_gone".into(), slot)));
        }),
        ("slot of another program", |_, observed, node| {
            let slot = Slot { physical: true, active: false, reserved: true, wal_status: None, retained: None };
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
pub(crate) fn prefixes(topology: &Topology) -> Vec<Observed> {
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

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    futures_util::future::FutureExt::now_or_never(work).expect("the simulated world never waits")
}

/// What one run of pgpair did.
pub(crate) struct Run {
    pub plan: Plan,
    pub performed: usize,
    pub left_out: usize,
    pub died: bool,
    pub refused: Option<String>,
    pub after: Observed,
}

/// Plans and applies once.
pub(crate) fn run(
    topology: &Topology,
    truth: &Observed,
    allowed: &BTreeSet<Allowance>,
    crash: Option<Crash>,
    story: &str,
) -> Run {
    let sim = Sim::new(topology.clone(), truth.clone(), crash);
    let observed = block_on(sim.observe());
    let untouched = observed.clone();
    let plan = plan(topology, &observed);
    assert_eq!(observed, untouched, "{story}: planning changed the world");
    apply(topology, &sim, plan, &observed, allowed, &|_| {}, story)
}

/// Applies a plan as the executor does: check, perform, look again.
pub(crate) fn apply(
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

pub(crate) fn everything() -> BTreeSet<Allowance> {
    let nodes = ["a", "b", "c"].map(|node| Allowance::Destroy(name(node)));
    let switch = ["a", "b", "c"].map(|node| Allowance::Switchover(name(node)));
    let force = ["a", "b", "c"].map(|node| Allowance::Failover(name(node)));
    [Allowance::Restart, Allowance::Outage].into_iter().chain(nodes).chain(switch).chain(force).collect()
}

/// Runs on until nothing is left to do; returns what the last plan says.
pub(crate) fn converge(topology: &Topology, start: &Observed, story: &str) -> Plan {
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
