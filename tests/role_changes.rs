//! The proof of role changes: every state on the way of a switchover, with what can go wrong at either node, for either
//! desired primary, with pgpair dying or a step failing anywhere.
//!
//! What must hold (design, section 5): never two writers, nor a stopped node that would come up as one beside a writer;
//! nothing is promoted that lacks WAL of another node; it converges; where the plan is empty then, the topology's
//! primary accepts writes and everybody streams; and a change that can't be finished leaves a primary.

#![expect(clippy::print_stdout, reason = "the counts are part of the proof")]

mod simulated;

use std::collections::BTreeMap;
use std::time::Duration;

use pgpair::apply;
use pgpair::apply::Limits;
use pgpair::apply::Outcome;
use pgpair::event::Change;
use pgpair::observed::NodeObserved;
use pgpair::observed::Observed;
use pgpair::observed::Reading;
use pgpair::pg::control::ControlState;
use pgpair::pg::lsn::Lsn;
use pgpair::plan::Action;
use pgpair::plan::Impact;
use pgpair::plan::Plan;
use pgpair::plan::Request;
use pgpair::plan::Status;
use pgpair::plan::allow;
use pgpair::plan::hook;
use pgpair::plan::hook::Owed;
use pgpair::plan::planner::plan;
use pgpair::plan::planner::plan_with;
use pgpair::plan::predict::predict;
use pgpair::topology::Hooks;
use pgpair::topology::NodeName;
use pgpair::topology::Role;
use pgpair::topology::Topology;
use pgpair::world::World as _;
use pgpair::world::sim::Crash;
use pgpair::world::sim::Moment;
use pgpair::world::sim::Sim;
use simulated::Mishap;
use simulated::NONE;
use simulated::block_on;
use simulated::everything;
use simulated::is_full;
use simulated::name;
use simulated::pair;
use simulated::prefixes;
use simulated::promote;
use simulated::stop;
use simulated::with_cluster;
use simulated::with_mishaps;

/// Where a step can end half-way; most have fewer such states.
const MOMENTS: [Moment; 7] = [
    Moment::Before,
    Moment::Half(0),
    Moment::Half(1),
    Moment::Half(2),
    Moment::Half(3),
    Moment::Half(4),
    Moment::After,
];

/// What pgpair is asked for.
struct Wish<'a> {
    topology: &'a Topology,
    request: Request,
}

impl<'a> Wish<'a> {
    fn of(topology: &'a Topology) -> Self {
        Self { topology, request: Request::default() }
    }

    /// Its primary is promoted without the old one, if need be.
    fn by_force(topology: &'a Topology) -> Self {
        Self { topology, request: Request::default().or_failover(&topology.primary().name) }
    }

    fn says(&self) -> String {
        let primary = &self.topology.primary().name;
        let force = if self.request.fails_over_to(primary) { ", by force" } else { "" };
        format!("{primary} is to be primary{force}")
    }
}

/// One run of pgpair with the real executor.
struct Run {
    plan: Plan,
    performed: usize,
    outcome: Outcome,
    died: bool,
    after: Observed,
}

fn run(wish: &Wish<'_>, truth: &Observed, crash: Option<Crash>, story: &str) -> Run {
    let topology = wish.topology;
    let sim = Sim::new(topology.clone(), truth.clone(), crash);
    let observed = block_on(sim.observe());
    let plan = plan_with(topology, &observed, &wish.request);
    let selection = allow::select(&plan, topology, &observed, &everything());
    let (_quiet, interrupt) = tokio::sync::watch::channel(false);
    // What the simulated world does not show at once it never will.
    let limits = Limits { timeout: Duration::ZERO, interrupt };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let outcome = runtime.block_on(apply::apply(&sim, topology, &selection, &limits, &|_| {}));
    assert_eq!(sim.violations(), Vec::<String>::new(), "{story}: {:?}", shown(&plan));
    Run { performed: sim.performed(), died: sim.is_dead(), after: sim.settled(), plan, outcome }
}

fn shown(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|step| format!("{} {}", step.id, step.impact)).collect()
}

/// Runs on until nothing is left to do; returns what the last plan says.
fn converge(wish: &Wish<'_>, start: &Observed, story: &str) -> Plan {
    let mut truth = start.clone();
    let mut last = Vec::new();
    for _ in 0..6 {
        let run = run(wish, &truth, None, story);
        truth = run.after;
        if run.performed == 0 {
            if run.plan.status() == Status::Clean {
                assert!(truth.node(&wish.topology.primary().name).accepts_writes(), "{story}: ends without a primary");
                assert_eq!(owed_anywhere(&truth), Vec::new(), "{story}: ends with hooks owed");
            }
            return run.plan;
        }
        last = shown(&run.plan);
    }
    panic!("{story}: does not converge: {last:?}");
}

/// What the nodes say is owed to hooks.
fn owed_anywhere(truth: &Observed) -> Vec<Owed> {
    let of = |(name, seen): (_, &NodeObserved)| hook::owed(&seen.cluster()?.conf.main.text, name);
    truth.nodes.iter().filter_map(of).collect()
}

/// Of those that can befall any pair.
const ALSO: [&str; 8] = [
    NONE,
    "stopped",
    "crashed",
    "promoted by hand",
    "promoted by hand and stopped",
    "deleted",
    "out of reach",
    "silent",
];

/// What can go wrong at a node in a role change.
fn mishaps() -> Vec<Mishap> {
    let also = simulated::mishaps().into_iter().filter(|(what, _)| ALSO.contains(what));
    let own: Vec<Mishap> = vec![
        ("started by hand", |topology, observed, node| {
            if observed.node(node).server.is_absent() && observed.node(node).cluster().is_some() {
                predict(node, &Action::Start { role: Role::Standby }, topology, observed);
            }
        }),
        ("started by hand and stopped", |topology, observed, node| {
            if observed.node(node).server.is_absent() && observed.node(node).cluster().is_some() {
                predict(node, &Action::Start { role: Role::Standby }, topology, observed);
                stop(observed, node, true);
            }
        }),
        ("backend killed", |_, observed, node| {
            let is_armed = observed.node(node).accepts_writes()
                && observed
                    .node(node)
                    .cluster()
                    .is_some_and(|own| own.markers.standby_signal || own.markers.recovery_conf.is_some());
            if let Some(sql) = observed.node_mut(node).sql_mut().filter(|_| is_armed) {
                (sql.in_recovery, sql.receiver) = (true, None);
                sql.senders.clear();
                with_cluster(observed, node, |own| own.state = ControlState::InArchiveRecovery);
            }
        }),
        ("behind", |_, observed, node| {
            if let Some(sql) = observed.node_mut(node).sql_mut().filter(|sql| sql.in_recovery) {
                (sql.receiver, sql.lsn) = (None, Lsn(sql.lsn.0.saturating_sub(0x100)));
            }
        }),
        ("paused", |_, observed, node| {
            if let Some(sql) = observed.node_mut(node).sql_mut().filter(|sql| sql.in_recovery) {
                sql.replay_paused = true;
            }
        }),
        ("promote file", |_, observed, node| with_cluster(observed, node, |own| own.markers.promote = true)),
        ("recovery.signal", |_, observed, node| with_cluster(observed, node, |own| own.markers.recovery_signal = true)),
        ("standby files gone", |_, observed, node| {
            with_cluster(observed, node, |own| {
                own.markers.standby_signal = false;
                own.markers.recovery_conf = None;
            });
        }),
        ("promoted by hand and crashed", |_, observed, node| {
            promote(observed, node);
            stop(observed, node, false);
        }),
        ("wrote on", |_, observed, node| {
            with_cluster(observed, node, |own| own.end = own.end.map(|end| Lsn(end.0 + 0x200)));
        }),
    ];
    also.chain(own).collect()
}

/// A finished pair in which something was written.
fn healthy(topology: &Topology) -> Observed {
    let mut world = prefixes(topology).pop().expect("not empty");
    for seen in world.nodes.values_mut() {
        seen.sql_mut().expect("it runs").lsn = Lsn(0x300_0000);
    }
    world
}

/// Every state on the way of a switchover to b, half-way ones included, with its name.
fn on_the_way(topology: &Topology, swapped: &Topology) -> Vec<(String, Observed)> {
    let start = healthy(topology);
    let steps = plan(swapped, &start).steps;
    let mut states = vec![("before it".to_owned(), start.clone())];
    let mut world = start;
    for step in &steps {
        for moment in MOMENTS {
            let sim = Sim::new(swapped.clone(), world.clone(), Some(Crash { step: 0, moment, survives: false }));
            let _dies = block_on(sim.perform(step, &|_| {}));
            states.push((format!("{} {moment:?}", step.id), sim.settled()));
        }
        predict(&step.node, &step.action, &step.topology(swapped), &mut world);
    }
    states
}

/// How many states were tried, and how they ended.
#[derive(Debug, Default)]
struct Tally {
    states: usize,
    clean: usize,
    blocked: usize,
    crashes: usize,
    failures: usize,
    undone: usize,
    /// States from which a promotion was forced.
    forced: usize,
    /// One in so many of the states was tried.
    thinned: usize,
    /// Why it ended blocked, and how often.
    refusals: BTreeMap<&'static str, usize>,
}

/// Tries one in `share` of the states with something wrong at both nodes, and one in `thinned` of all that are left.
fn try_every_state(topology: &Topology, share: usize, thinned: usize) {
    let swapped = topology.with_primary(&name("b"));
    let wishes = [Wish::of(topology), Wish::of(&swapped)];
    let tally = try_states(topology, &wishes, on_the_way(topology, &swapped), share, thinned);
    let [clean, blocked, undone] = [tally.clean, tally.blocked, tally.undone].map(|count| count * tally.thinned);
    assert!(clean > 200 && blocked > 100 && undone > 50, "{tally:?}");
}

fn try_states(
    topology: &Topology,
    wishes: &[Wish<'_>],
    states: Vec<(String, Observed)>,
    share: usize,
    thinned: usize,
) -> Tally {
    let version = topology.postgresql.version;
    let mut tally = Tally { thinned: if is_full() { 1 } else { thinned }, ..Tally::default() };
    let states = with_mishaps(topology, states, &mishaps(), share);
    let mut known: BTreeMap<(usize, String), Plan> = BTreeMap::new();
    for (label, start) in states.values().step_by(tally.thinned) {
        for (number, wish) in wishes.iter().enumerate() {
            let story = format!("{version}, {label}, {}", wish.says());
            tally.states += 1;
            try_state(wish, number, start, &story, &mut known, &mut tally);
        }
    }
    let (slots, hooks) = (topology.replication.slots, !topology.hooks.is_empty());
    println!("{version}, slots {slots}, hooks {hooks}: {tally:?}");
    tally
}

fn try_state(
    wish: &Wish<'_>,
    number: usize,
    start: &Observed,
    story: &str,
    known: &mut BTreeMap<(usize, String), Plan>,
    tally: &mut Tally,
) {
    let mut end_of = |truth: &Observed, story: &str| {
        let key = (number, serde_json::to_string(truth).expect("plain data"));
        known.entry(key).or_insert_with(|| converge(wish, truth, story)).clone()
    };
    let last = end_of(start, story);
    match last.status() {
        Status::Clean => tally.clean += 1,
        Status::Blocked => {
            tally.blocked += 1;
            for blocked in &last.blocked {
                *tally.refusals.entry(blocked.refusal.code()).or_default() += 1;
            }
        }
        Status::Changes => panic!("{story}: converged, and the plan has steps: {:?}", shown(&last)),
    }
    let observed = block_on(Sim::new(wish.topology.clone(), start.clone(), None).observe());
    let first = plan_with(wish.topology, &observed, &wish.request);
    tally.forced += usize::from(first.steps.iter().any(|step| step.impact == Impact::Failover));
    for step in 0..first.steps.len() {
        for moment in MOMENTS {
            for survives in [false, true] {
                let story = format!("{story}, {} at step {step} {moment:?}", if survives { "fails" } else { "dies" });
                let crashed = run(wish, start, Some(Crash { step, moment, survives }), &story);
                if crashed.died {
                    tally.crashes += 1;
                } else {
                    tally.failures += 1;
                }
                if crashed.outcome.role_change == Some(Change::Undone) {
                    tally.undone += 1;
                    let change = first.role_change.as_ref().expect("one was undone");
                    assert!(crashed.after.node(&change.from).accepts_writes(), "{story}: undone without a primary");
                }
                end_of(&crashed.after, &story);
            }
        }
    }
}

/// How a primary can be lost, 0x100 bytes past what its standby has: killed, hung, or dead beyond our reach.
fn losses() -> [Mishap; 3] {
    [
        ("killed", |_, observed, node| {
            let end = observed.node(node).sql().map(|sql| sql.lsn);
            stop(observed, node, false);
            with_cluster(observed, node, |own| own.end = end);
            fall_behind(observed, node);
        }),
        ("hung", |_, observed, node| {
            fall_behind(observed, node);
            let server = observed.node_mut(node).server.known_mut().expect("it runs");
            server.sql = Reading::Unknown("it does not answer".into());
        }),
        ("dead", |_, observed, node| {
            stop(observed, node, false);
            fall_behind(observed, node);
            let seen = observed.node_mut(node);
            (seen.place, seen.server) = (Reading::Unknown("no route".into()), Reading::Unknown("no route".into()));
            (seen.port_taken, seen.confirmed_dead) = (Reading::Unknown("no route".into()), true);
        }),
    ]
}

/// The others lack the last that this node has written, and hear of it no more.
fn fall_behind(observed: &mut Observed, node: &NodeName) {
    for (_, seen) in observed.nodes.iter_mut().filter(|(name, _)| *name != node) {
        let sql = seen.sql_mut().expect("it runs");
        (sql.receiver, sql.lsn) = (None, Lsn(sql.lsn.0 - 0x100));
    }
}

/// Every state on the way of a forced promotion of b, from each loss of a.
fn on_the_way_by_force(topology: &Topology, wish: &Wish<'_>) -> Vec<(String, Observed)> {
    let mut states = Vec::new();
    for (what, lose) in losses() {
        let mut world = healthy(topology);
        lose(topology, &mut world, &name("a"));
        states.push((what.to_owned(), world.clone()));
        for step in plan_with(wish.topology, &world, &wish.request).steps {
            for moment in MOMENTS {
                let crash = Crash { step: 0, moment, survives: false };
                let sim = Sim::new(wish.topology.clone(), world.clone(), Some(crash));
                let _dies = block_on(sim.perform(&step, &|_| {}));
                states.push((format!("{what}, {} {moment:?}", step.id), sim.settled()));
            }
            predict(&step.node, &step.action, &step.topology(wish.topology), &mut world);
        }
    }
    states
}

fn try_every_failover(topology: &Topology, share: usize, thinned: usize) {
    let swapped = topology.with_primary(&name("b"));
    let wishes = [Wish::by_force(&swapped), Wish::of(&swapped), Wish::of(topology)];
    let states = on_the_way_by_force(topology, &wishes[0]);
    let tally = try_states(topology, &wishes, states, share, thinned);
    let [clean, blocked, forced] = [tally.clean, tally.blocked, tally.forced].map(|count| count * tally.thinned);
    assert!(clean > 200 && blocked > 100 && forced > 10, "{tally:?}");
}

#[test]
fn a_failover_of_15_never_makes_two_writers_whatever_happens() {
    try_every_failover(&pair(15, "scram-sha-256", true), 61, 11);
}

#[test]
fn a_failover_of_12_never_makes_two_writers_whatever_happens() {
    try_every_failover(&pair(12, "scram-sha-256", false), 83, 14);
}

#[test]
fn a_failover_of_10_never_makes_two_writers_whatever_happens() {
    try_every_failover(&pair(10, "scram-sha-256", true), 83, 14);
}

#[test]
fn a_switchover_of_15_never_makes_two_writers_and_loses_nothing_whatever_happens() {
    try_every_state(&pair(15, "scram-sha-256", true), 31, 9);
}

/// Between two steps something goes wrong at a node: what was planned is judged anew, and refused where it would harm.
#[test]
fn a_guard_notices_what_happens_between_the_plan_and_a_step_of_a_role_change() {
    let topology = pair(15, "scram-sha-256", true);
    let swapped = topology.with_primary(&name("b"));
    let (mut runs, mut refused) = (0, 0);
    for (label, start) in on_the_way(&topology, &swapped).into_iter().step_by(if is_full() { 1 } else { 6 }) {
        for desired in [&topology, &swapped] {
            let observed = block_on(Sim::new(desired.clone(), start.clone(), None).observe());
            let first = plan(desired, &observed);
            for at in 0..first.steps.len() {
                for (node, (what, mishap)) in
                    ["a", "b"].into_iter().flat_map(|node| mishaps().into_iter().map(move |it| (node, it)))
                {
                    let story = format!(
                        "{label}, {} is to be primary; before step {at}, {node}: {what}",
                        desired.primary().name
                    );
                    let sim = Sim::new(desired.clone(), start.clone(), None);
                    let interfere = |number| {
                        if number == at {
                            sim.interfere(|truth| mishap(desired, truth, &name(node)));
                        }
                    };
                    let run =
                        simulated::apply(desired, &sim, first.clone(), &observed, &everything(), &interfere, &story);
                    runs += 1;
                    refused += usize::from(run.refused.is_some());
                }
            }
        }
    }
    println!("{runs} interferences, {refused} refused by a guard");
    assert!(refused > 500, "{refused} of {runs}");
}

#[test]
fn hooks_are_owed_until_they_have_run_whatever_happens() {
    let commands = || vec![vec!["/bin/true".to_owned()]];
    let mut topology = pair(15, "scram-sha-256", true);
    topology.hooks = Hooks {
        before_switchover: commands(),
        after_promotion: commands(),
        after_switchover: commands(),
        switchover_undone: commands(),
    };
    try_every_state(&topology, 101, 14);
}

#[test]
fn a_switchover_of_12_never_makes_two_writers_and_loses_nothing_whatever_happens() {
    try_every_state(&pair(12, "scram-sha-256", false), 43, 11);
}

#[test]
fn a_switchover_of_10_never_makes_two_writers_and_loses_nothing_whatever_happens() {
    try_every_state(&pair(10, "scram-sha-256", true), 43, 11);
}
