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

mod simulated;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use pgpair::observed::Content;
use pgpair::observed::DataDir;
use pgpair::observed::NodeObserved;
use pgpair::observed::Observed;
use pgpair::observed::Place;
use pgpair::pg::block;
use pgpair::pg::lsn::Timeline;
use pgpair::pg::version::StandbyMode;
use pgpair::plan::Action;
use pgpair::plan::Impact;
use pgpair::plan::Plan;
use pgpair::plan::Replaced;
use pgpair::plan::Request;
use pgpair::plan::Status;
use pgpair::plan::Step;
use pgpair::plan::planner::plan;
use pgpair::plan::planner::plan_with;
use pgpair::topology::Topology;
use pgpair::world::World;
use pgpair::world::sim::Crash;
use pgpair::world::sim::Moment;
use pgpair::world::sim::Sim;
use pgpair::world::sim::nothing;
use simulated::Mishap;
use simulated::apply;
use simulated::block_on;
use simulated::converge;
use simulated::everything;
use simulated::is_full;
use simulated::mishaps;
use simulated::name;
use simulated::pair;
use simulated::place;
use simulated::prefixes;
use simulated::run;
use simulated::stop;
use simulated::trio;
use simulated::with_cluster;
use simulated::with_mishaps;

/// Every prefix of a creation, with every mishap, and one in `share` pairs of mishaps; equal states once.
fn starting_states(topology: &Topology, share: usize) -> BTreeMap<String, (String, Observed)> {
    let prefixes = prefixes(topology).into_iter().enumerate();
    let states = prefixes.map(|(number, prefix)| (format!("after step {number}"), prefix));
    with_mishaps(topology, states, &mishaps(), share)
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
    let tally = try_states(&topology, starting_states(&topology, 14), &format!("{version} {auth}"));
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
                let sim = Sim::new(topology.clone(), start.clone(), Some(Crash { step, moment, survives: false }));
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
    for (label, start) in starts.step_by(if is_full() { 1 } else { 3 }) {
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
    for (label, start) in starting_states(&topology, 3).into_values() {
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
    for (label, start) in starting_states(&topology, 22).into_values() {
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
                let sim = Sim::new(topology.clone(), start.clone(), Some(Crash { step, moment, survives: false }));
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
