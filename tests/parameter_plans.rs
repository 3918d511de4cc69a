//! Parameters of a living pair, on the pure planner: what is planned for an edit, what shadows the block, what is
//! left when a restart is not allowed, and what proves that a value is in force.

use std::collections::BTreeSet;

use pgpair::observed::Identity;
use pgpair::observed::Observed;
use pgpair::observed::Setting;
use pgpair::pg::block;
use pgpair::pg::conf::ConfFile;
use pgpair::pg::guc;
use pgpair::plan::Action;
use pgpair::plan::Cause;
use pgpair::plan::Configure;
use pgpair::plan::Difference;
use pgpair::plan::Impact;
use pgpair::plan::Plan;
use pgpair::plan::Reason;
use pgpair::plan::SetBy;
use pgpair::plan::Step;
use pgpair::plan::allow;
use pgpair::plan::check::Check;
use pgpair::plan::check::check;
use pgpair::plan::planner::plan;
use pgpair::plan::predict::predict;
use pgpair::report::PlanReport;
use pgpair::report::text;
use pgpair::topology;
use pgpair::topology::NodeName;
use pgpair::topology::Topology;
use pgpair::world::sim::nothing;

const VERSIONS: [u32; 2] = [15, 10];

fn name(node: &str) -> NodeName {
    NodeName::new(node)
}

/// A pair with these common parameters, and with these of each node's own (in YAML's flow form, without braces).
fn pair_of(version: u32, common: &str, of_a: &str, of_b: &str) -> Topology {
    let yaml = format!(
        "version: 1\ncluster: sim\npostgresql: {{ version: {version} }}\nreplication: {{ user: repuser, auth: trust }}\n\
         parameters: {{ {common} }}\nnodes:\n  \
         a: {{ role: primary, port: 6001, data_dir: /pg/a, parameters: {{ {of_a} }} }}\n  \
         b: {{ role: standby, port: 6002, data_dir: /pg/b, parameters: {{ {of_b} }} }}\n"
    );
    topology::parse(yaml.as_bytes(), "sim.yaml", "/").expect("a good topology")
}

fn pair(version: u32, common: &str) -> Topology {
    pair_of(version, common, "", "")
}

/// The pair of a topology as it is when nothing is left to do.
fn living(topology: &Topology) -> Observed {
    let mut world = nothing(topology);
    follow(topology, &plan(topology, &world.clone()).steps, &mut world);
    for seen in world.nodes.values_mut() {
        seen.cluster_mut().expect("made").identity = Identity::Known(7);
    }
    assert_eq!(ids(&plan(topology, &world)), [""; 0], "nothing is left to do");
    world
}

fn follow(topology: &Topology, steps: &[Step], world: &mut Observed) {
    for step in steps {
        assert_eq!(check(&step.node, &step.action, topology, world), Check::Ready, "{}", step.id);
        predict(&step.node, &step.action, topology, world);
        assert_eq!(check(&step.node, &step.action, topology, world), Check::Satisfied, "{}", step.id);
    }
}

fn ids(plan: &Plan) -> Vec<&str> {
    assert_eq!(plan.blocked, vec![]);
    plan.steps.iter().map(|step| step.id.as_str()).collect()
}

fn configure(step: &Step) -> &Configure {
    let Action::Configure(configure) = &step.action else { panic!("{} is no change of configuration", step.id) };
    configure
}

fn differences(step: &Step) -> &[Difference] {
    let Reason::Differs(differences) = &step.reason else { panic!("{} differs in nothing", step.id) };
    differences
}

fn line(file: &str, line: usize) -> SetBy {
    SetBy::Line { file: file.into(), line }
}

/// Somebody edits postgresql.conf outside of the block.
fn edit_before_block(world: &mut Observed, node: &str, text: &str) {
    let cluster = world.node_mut(&name(node)).cluster_mut().expect("made");
    cluster.conf.main.path = "postgresql.conf".into();
    cluster.conf.main.text.insert_str(0, text);
}

/// Somebody runs ALTER SYSTEM, or edits its file.
fn edit_auto_conf(world: &mut Observed, node: &str, text: &str) {
    let path = "postgresql.auto.conf".into();
    let auto = ConfFile { path, text: text.into(), includes: Vec::new() };
    world.node_mut(&name(node)).cluster_mut().expect("made").conf.auto = Some(auto);
}

/// The server reads its files again, as PostgreSQL does: what only a start changes waits for it.
fn reload(topology: &Topology, world: &mut Observed, node: &str) {
    let seen = world.node_mut(&name(node));
    let values = seen.cluster().expect("made").conf.read().expect("good files").values;
    let major = topology.postgresql.version;
    let sql = seen.sql_mut().expect("runs");
    sql.conf_loaded = true;
    let is_late = |name: &str| guc::context(major, name).is_some_and(guc::Context::needs_restart);
    for (name, placed) in &values {
        let now = sql.settings.entry(name.clone()).or_insert_with(|| Setting {
            value: guc::boot(major, name).unwrap_or_default().to_owned(),
            context: guc::context(major, name).unwrap_or(guc::Context::User),
            source: "default".into(),
            pending_restart: false,
        });
        if is_late(name) {
            now.pending_restart = !guc::same(major, name, &now.value, &placed.value);
        } else {
            (now.value, now.source) = (placed.value.clone(), "configuration file".into());
        }
    }
    for (name, now) in &mut sql.settings {
        now.pending_restart |= is_late(name) && now.source == "configuration file" && !values.contains_key(name);
    }
    sql.settings.retain(|name, now| is_late(name) || now.source != "configuration file" || values.contains_key(name));
}

#[test]
fn an_entry_of_auto_conf_that_wins_over_the_topology_is_reset_by_the_step_that_writes_the_block() {
    for version in VERSIONS {
        let topology = pair(version, "work_mem: 8MB, max_connections: 50");
        let mut world = living(&topology);
        edit_auto_conf(
            &mut world,
            "a",
            "# by hand\nwork_mem = '1MB'\nWork_Mem = '2MB'\nport = '6001'\nshared_buffers = '16MB'\n",
        );
        reload(&topology, &mut world, "a");
        let planned = plan(&topology, &world);
        assert_eq!(ids(&planned), ["a.configure"]);
        let step = &planned.steps[0];
        assert_eq!(step.impact, Impact::Reload);
        let reset = configure(step).reset.as_ref().expect("something to reset");
        assert_eq!(reset.names, BTreeSet::from(["work_mem".to_owned()]), "what agrees, or is nobody's wish, stays");
        let difference = &differences(step)[0];
        assert_eq!(
            (difference.now.as_deref(), difference.set_by.as_ref()),
            (Some("2MB"), Some(&line("postgresql.auto.conf", 3)))
        );
        let diff: Vec<_> = step.diff.iter().map(|diff| (diff.file.as_str(), diff.after.as_str())).collect();
        assert_eq!(diff, [("postgresql.auto.conf", "# by hand\nport = '6001'\nshared_buffers = '16MB'\n")]);
        follow(&topology, &planned.steps, &mut world);
        assert_eq!(ids(&plan(&topology, &world)), [""; 0]);
    }
}

#[test]
fn a_shadowed_value_that_the_block_lacks_is_written_and_reset_and_a_crash_in_between_leaves_the_rest_to_the_next_plan()
{
    for version in VERSIONS {
        let before = pair(version, "max_connections: 50");
        let topology = pair(version, "max_connections: 50, work_mem: 8MB");
        let mut world = living(&before);
        edit_auto_conf(&mut world, "a", "work_mem = '2MB'\n");
        edit_auto_conf(&mut world, "b", "work_mem = '8192kB'\n");
        for node in ["a", "b"] {
            reload(&topology, &mut world, node);
        }
        let planned = plan(&topology, &world);
        assert_eq!(ids(&planned), ["a.configure"], "b has the value, wherever from");
        let step = &planned.steps[0];
        let files: Vec<&str> = step.diff.iter().map(|diff| diff.file.as_str()).collect();
        assert_eq!(files, ["postgresql.conf", "postgresql.auto.conf"]);
        // Killed once the block is written.
        let block = configure(step).block.as_ref().expect("a block");
        let cluster = world.node_mut(&name("a")).cluster_mut().expect("made");
        cluster.conf.main.text = block::put_last(&cluster.conf.main.text, block).expect("one block");
        world.node_mut(&name("a")).sql_mut().expect("runs").conf_loaded = false;
        assert_eq!(
            check(&name("a"), &step.action, &topology, &world),
            Check::Blocked(pgpair::plan::Refusal::FileChanged { node: name("a"), file: "postgresql.conf".into() }),
            "that plan is not the one that goes on"
        );
        let next = plan(&topology, &world);
        assert_eq!(ids(&next), ["a.configure"]);
        assert_eq!(next.steps[0].diff.len(), 1);
        follow(&topology, &next.steps, &mut world);
        assert_eq!(ids(&plan(&topology, &world)), [""; 0]);
    }
}

#[test]
fn auto_conf_edited_between_plan_and_step_is_not_touched() {
    let topology = pair(15, "work_mem: 8MB");
    let mut world = living(&topology);
    edit_auto_conf(&mut world, "a", "work_mem = '2MB'\n");
    reload(&topology, &mut world, "a");
    let planned = plan(&topology, &world);
    edit_auto_conf(&mut world, "a", "work_mem = '3MB'\n");
    let refused = check(&name("a"), &planned.steps[0].action, &topology, &world);
    let file = "postgresql.auto.conf".into();
    assert_eq!(refused, Check::Blocked(pgpair::plan::Refusal::FileChanged { node: name("a"), file }));
}

#[test]
fn what_auto_conf_includes_and_what_the_command_line_sets_is_refused_with_its_place() {
    for version in VERSIONS {
        let topology = pair(version, "max_connections: 50");
        let mut world = living(&topology);
        edit_auto_conf(&mut world, "b", "include 'x.conf'\n");
        let auto = world.node_mut(&name("b")).cluster_mut().expect("made").conf.auto.as_mut().expect("just put");
        auto.includes =
            vec![vec![ConfFile { path: "x.conf".into(), text: "\nmax_connections = 7".into(), includes: Vec::new() }]];
        let refused = &plan(&topology, &world).blocked[0];
        assert_eq!((refused.node.clone(), refused.refusal.code()), (Some(name("b")), "shadowed"));
        assert!(refused.refusal.reason().contains("x.conf:2"), "{}", refused.refusal.reason());

        let mut world = living(&topology);
        let sql = world.node_mut(&name("a")).sql_mut().expect("runs");
        let setting = sql.settings.get_mut("max_connections").expect("listed");
        (setting.value, setting.source) = ("70".into(), "command line".into());
        let refused = &plan(&topology, &world).blocked[0].refusal;
        assert!(refused.reason().contains("the command line (`-c max_connections=70`)"), "{}", refused.reason());
        assert!(refused.remedy().contains("pg_ctl -o"), "{}", refused.remedy());
    }
}

#[test]
fn a_later_line_with_another_effect_sends_the_block_to_the_end_of_the_file() {
    for version in VERSIONS {
        let topology = pair(version, "work_mem: 8MB");
        let mut world = living(&topology);
        let append = |world: &mut Observed, text: &str| {
            world.node_mut(&name("a")).cluster_mut().expect("made").conf.main.text.push_str(text);
        };
        append(&mut world, "work_mem = 8192kB\n");
        reload(&topology, &mut world, "a");
        assert_eq!(ids(&plan(&topology, &world)), [""; 0], "the same value is no harm");
        append(&mut world, "WORK_MEM 1MB\n");
        reload(&topology, &mut world, "a");
        let planned = plan(&topology, &world);
        assert_eq!(ids(&planned), ["a.configure"]);
        follow(&topology, &planned.steps, &mut world);
        let text = &world.node(&name("a")).cluster().expect("made").conf.main.text;
        assert!(text.starts_with("work_mem = 8192kB\nWORK_MEM 1MB\n# BEGIN pgpair"), "{text}");
        assert_eq!(ids(&plan(&topology, &world)), [""; 0]);
    }
}

#[test]
fn a_difference_names_who_sets_the_present_value() {
    for version in VERSIONS {
        let before = pair(version, "max_connections: 50");
        let mut world = living(&before);
        edit_before_block(&mut world, "a", "work_mem = 1MB\ninclude_dir 'conf.d'\n");
        let included =
            ConfFile { path: "conf.d/a.conf".into(), text: "# x\n\nfsync = off\n".into(), includes: Vec::new() };
        world.node_mut(&name("a")).cluster_mut().expect("made").conf.main.includes = vec![vec![included]];
        edit_auto_conf(&mut world, "a", "# Do not edit\ncpu_tuple_cost = 3\nrandom_page_cost = 3\n");
        reload(&before, &mut world, "a");
        let topology = pair_of(
            version,
            "max_connections: 50",
            "work_mem: 2MB, fsync: on, random_page_cost: 2, seq_page_cost: 2, log_connections: on",
            "",
        );
        let sql = world.node_mut(&name("a")).sql_mut().expect("runs");
        let from_environment = Setting {
            value: "off".into(),
            context: guc::Context::Sighup,
            source: "environment variable".into(),
            pending_restart: false,
        };
        sql.settings.insert("log_connections".into(), from_environment);
        let planned = plan(&topology, &world);
        let shown: Vec<String> = differences(&planned.steps[0])
            .iter()
            .map(|difference| format!("{} {}", difference.name, difference.set_by.as_ref().expect("known")))
            .collect();
        assert_eq!(
            shown,
            [
                "work_mem postgresql.conf:1",
                "fsync conf.d/a.conf:3",
                "random_page_cost postgresql.auto.conf:3",
                "seq_page_cost default",
                "log_connections environment variable",
            ]
        );
    }
}

/// The pair of `before` with these lines in front of the block of a, planned for `after`.
fn edited(before: &Topology, after: &Topology, lines: &str) -> (Plan, Observed) {
    let mut world = living(before);
    edit_before_block(&mut world, "a", lines);
    reload(before, &mut world, "a");
    assert_eq!(ids(&plan(before, &world)), [""; 0], "what the block sets wins");
    (plan(after, &world), world)
}

#[test]
fn what_leaves_the_topology_returns_to_what_the_rest_of_the_files_says_or_to_the_default() {
    for version in VERSIONS {
        let before = pair_of(version, "", "work_mem: 8MB, fsync: off, max_connections: 50, max_wal_senders: 7", "");
        let after = pair(version, "");
        let (planned, mut world) =
            edited(&before, &after, "work_mem = 4MB\nmax_connections = 90\nvacuum_cost_limit = 300\n");
        assert_eq!(ids(&planned), ["a.configure", "a.configure.restart", "b.streaming"]);
        let shown = |step: &Step| -> Vec<(String, Option<String>, Cause)> {
            let of =
                |difference: &Difference| (difference.name.clone(), difference.then.clone(), difference.cause.clone());
            differences(step).iter().map(of).collect()
        };
        let restored =
            |name: &str, then: Option<&str>, by: SetBy| (name.to_owned(), then.map(str::to_owned), Cause::Restored(by));
        assert_eq!(
            shown(&planned.steps[0]),
            [restored("fsync", None, SetBy::Default), restored("work_mem", Some("4MB"), line("postgresql.conf", 1))]
        );
        assert_eq!(
            shown(&planned.steps[1]),
            [
                restored("max_connections", Some("90"), line("postgresql.conf", 2)),
                restored("max_wal_senders", None, SetBy::Default)
            ]
        );
        let plan_text = text::plan(&PlanReport::of(&after, &world, &planned), "sim.yaml");
        let plan_text = anstream::adapter::strip_str(&plan_text).to_string();
        // The block begins at line 4.
        assert!(plan_text.contains("work_mem: 8MB (postgresql.conf:6) -> 4MB (postgresql.conf:1)"), "{plan_text}");
        assert!(plan_text.contains("max_wal_senders: 7 (postgresql.conf:9) -> (default)"), "{plan_text}");
        follow(&after, &planned.steps, &mut world);
        assert_eq!(ids(&plan(&after, &world)), [""; 0]);
        let settings = &world.node(&name("a")).sql().expect("runs").settings;
        assert_eq!(settings["vacuum_cost_limit"].value, "300", "what pgpair never set stays");
    }
}

#[test]
fn a_default_that_is_the_value_in_force_is_restored_without_a_restart() {
    for version in VERSIONS {
        let before = pair_of(version, "", "max_connections: 100", "");
        let after = pair(version, "");
        let (planned, mut world) = edited(&before, &after, "");
        assert_eq!(ids(&planned), ["a.configure"]);
        follow(&after, &planned.steps, &mut world);
        // The server flags the removal of the line all the same, and that makes no step.
        let setting = Setting {
            value: "100".into(),
            context: guc::Context::Postmaster,
            source: "configuration file".into(),
            pending_restart: true,
        };
        world.node_mut(&name("a")).sql_mut().expect("runs").settings.insert("max_connections".into(), setting);
        assert_eq!(check(&name("a"), &planned.steps[0].action, &after, &world), Check::Satisfied);
        assert_eq!(ids(&plan(&after, &world)), [""; 0]);
    }
}

#[test]
fn that_a_value_left_the_block_proves_nothing_before_the_server_goes_by_the_rest() {
    for version in VERSIONS {
        let before = pair_of(version, "", "work_mem: 8MB, max_wal_senders: 7", "");
        let after = pair(version, "");
        let (planned, mut world) = edited(&before, &after, "work_mem = 4MB\n");
        let stale = world.node(&name("a")).sql().expect("runs").settings.clone();
        for step in &planned.steps[..2] {
            let mut half = world.clone();
            predict(&step.node, &step.action, &after, &mut half);
            half.node_mut(&name("a")).sql_mut().expect("runs").settings = stale.clone();
            assert_eq!(check(&name("a"), &step.action, &after, &half), Check::Ready, "{}", step.id);
            predict(&step.node, &step.action, &after, &mut world);
        }
    }
}

#[test]
fn a_change_that_mixes_reload_and_restart_is_two_steps_and_the_first_goes_alone_without_the_allowance() {
    for version in VERSIONS {
        let before = pair(version, "work_mem: 4MB, max_connections: 50");
        let after = pair(version, "work_mem: 8MB, max_connections: 60, max_wal_senders: 17, log_connections: on");
        let mut world = living(&before);
        let planned = plan(&after, &world);
        let all = [
            "b.configure",
            "b.configure.restart",
            "b.streaming",
            "a.configure",
            "a.configure.restart",
            "b.streaming.2",
        ];
        assert_eq!(ids(&planned), all);
        let names = |step: &Step| -> Vec<String> { differences(step).iter().map(|one| one.name.clone()).collect() };
        assert_eq!(names(&planned.steps[0]), ["work_mem", "log_connections"]);
        assert_eq!(names(&planned.steps[1]), ["max_connections", "max_wal_senders"]);
        let impacts: Vec<Impact> = planned.steps.iter().map(|step| step.impact).collect();
        assert_eq!(impacts[..2], [Impact::Reload, Impact::Restart]);
        assert_eq!(impacts[3..5], [Impact::Reload, Impact::Outage]);

        let mut whole = world.clone();
        follow(&after, &planned.steps, &mut whole);
        assert_eq!(ids(&plan(&after, &whole)), [""; 0]);

        let selection = allow::select(&planned, &after, &world, &BTreeSet::new());
        let chosen: Vec<Step> = selection.chosen.iter().map(|step| (*step).clone()).collect();
        assert_eq!(chosen.iter().map(|step| step.id.as_str()).collect::<Vec<_>>(), ["b.configure", "a.configure"]);
        follow(&after, &chosen, &mut world);
        for node in ["a", "b"] {
            let values = world.node(&name(node)).cluster().expect("made").conf.read().expect("good").values;
            assert_eq!(values["work_mem"].value, "8MB");
            assert_eq!(values["max_connections"].value, "50", "what only a restart puts in force waits in no file");
            assert!(!values.contains_key("max_wal_senders"));
        }
        let next = plan(&after, &world);
        assert_eq!(ids(&next), ["b.configure.restart", "b.streaming", "a.configure.restart", "b.streaming.2"]);
        follow(&after, &next.steps, &mut world);
        assert_eq!(ids(&plan(&after, &world)), [""; 0]);
    }
}

#[test]
fn what_a_reload_puts_in_force_goes_although_a_parameter_is_lowered_and_nobody_may_restart() {
    for version in VERSIONS {
        let before = pair(version, "work_mem: 4MB, max_connections: 60");
        let after = pair(version, "work_mem: 8MB, max_connections: 50");
        let mut world = living(&before);
        let planned = plan(&after, &world);
        assert_eq!(
            ids(&planned),
            [
                "b.configure",
                "a.configure",
                "a.configure.restart",
                "b.streaming",
                "b.configure.restart",
                "b.streaming.2"
            ]
        );
        let allowed = BTreeSet::from([allow::Allowance::Restart]);
        let selection = allow::select(&planned, &after, &world, &allowed);
        let chosen: Vec<Step> = selection.chosen.iter().map(|step| (*step).clone()).collect();
        assert_eq!(chosen.iter().map(|step| step.id.as_str()).collect::<Vec<_>>(), ["b.configure", "a.configure"]);
        follow(&after, &chosen, &mut world);
        assert_eq!(
            ids(&plan(&after, &world)),
            ["a.configure.restart", "b.streaming", "b.configure.restart", "b.streaming.2"]
        );
    }
}

#[test]
fn one_kind_of_change_is_one_step() {
    for version in VERSIONS {
        let before = pair(version, "work_mem: 4MB, max_connections: 50");
        let world = living(&before);
        assert_eq!(
            ids(&plan(&pair(version, "work_mem: 8MB, max_connections: 50"), &world)),
            ["b.configure", "a.configure"]
        );
        let restarts = ["b.configure.restart", "b.streaming", "a.configure.restart", "b.streaming.2"];
        assert_eq!(ids(&plan(&pair(version, "work_mem: 4MB, max_connections: 60"), &world)), restarts);
        assert_eq!(ids(&plan(&pair(version, "work_mem: 4096kB, max_connections: \"50\""), &world)), [""; 0]);
    }
}

#[test]
fn a_shadowed_restart_value_stays_shadowed_until_the_restart_is_allowed() {
    for version in VERSIONS {
        let before = pair(version, "work_mem: 4MB");
        let after = pair(version, "work_mem: 8MB, wal_log_hints: on");
        let mut world = living(&before);
        edit_auto_conf(&mut world, "a", "wal_log_hints = off\nwork_mem = 4MB\n");
        let planned = plan(&after, &world);
        assert_eq!(ids(&planned)[3..5], ["a.configure", "a.configure.restart"]);
        let reset = |step: &Step| configure(step).reset.as_ref().map(|reset| reset.names.clone()).unwrap_or_default();
        assert_eq!(reset(&planned.steps[3]), BTreeSet::from(["work_mem".to_owned()]));
        assert_eq!(reset(&planned.steps[4]), BTreeSet::from(["wal_log_hints".to_owned()]));
        follow(&after, &planned.steps, &mut world);
        assert_eq!(ids(&plan(&after, &world)), [""; 0]);
    }
}

#[test]
fn a_value_that_somebody_left_waiting_for_a_restart_is_told_and_comes_with_the_next_restart() {
    for version in VERSIONS {
        let before = pair(version, "max_connections: 50");
        let mut world = living(&before);
        edit_before_block(&mut world, "a", "# a note\nshared_buffers = 256MB\n");
        reload(&before, &mut world, "a");
        let planned = plan(&before, &world);
        assert_eq!(ids(&planned), [""; 0], "it makes no step by itself");
        let report = PlanReport::of(&before, &world, &planned);
        assert_eq!(report.nodes[0].pending_restart, ["shared_buffers"]);

        let after = pair(version, "max_connections: 50, work_mem: 8MB");
        assert_eq!(ids(&plan(&after, &world)), ["b.configure", "a.configure"]);
        let after = pair_of(version, "max_connections: 50", "wal_log_hints: on", "");
        let planned = plan(&after, &world);
        assert_eq!(ids(&planned), ["a.configure.restart", "b.streaming"]);
        let last = differences(&planned.steps[0]).last().expect("some");
        assert_eq!((last.name.as_str(), last.then.as_deref()), ("shared_buffers", Some("256MB")));
        assert_eq!(last.cause, Cause::Waiting(line("postgresql.conf", 2)));
        let shown = text::plan(&PlanReport::of(&after, &world, &planned), "sim.yaml");
        let shown = anstream::adapter::strip_str(&shown).to_string();
        assert!(shown.contains("waiting for a restart: shared_buffers"), "{shown}");
        follow(&after, &planned.steps, &mut world);
        assert!(!world.node(&name("a")).sql().expect("runs").settings["shared_buffers"].pending_restart);
    }
}

#[test]
fn a_value_of_the_topology_that_only_the_files_have_lost_comes_back_without_a_restart() {
    for version in VERSIONS {
        let topology = pair(version, "max_connections: 50");
        let mut world = living(&topology);
        edit_auto_conf(&mut world, "a", "max_connections = 500\n");
        reload(&topology, &mut world, "a");
        assert!(world.node(&name("a")).sql().expect("runs").settings["max_connections"].pending_restart);
        let planned = plan(&topology, &world);
        assert_eq!(ids(&planned), ["a.configure"]);
        let difference = &differences(&planned.steps[0])[0];
        assert_eq!((difference.now.as_deref(), difference.then.as_deref()), (Some("500"), Some("50")));
        follow(&topology, &planned.steps, &mut world);
        assert_eq!(ids(&plan(&topology, &world)), [""; 0]);
    }
}

#[test]
fn a_value_that_the_server_works_out_itself_is_changed_by_a_restart() {
    for version in VERSIONS {
        let mut world = living(&pair(version, "wal_buffers: -1"));
        let sql = world.node_mut(&name("a")).sql_mut().expect("runs");
        let setting = sql.settings.get_mut("wal_buffers").expect("listed");
        (setting.value, setting.source) = ("512".into(), "override".into());
        assert_eq!(ids(&plan(&pair(version, "wal_buffers: -1"), &world)), [""; 0]);
        let after = pair_of(version, "wal_buffers: -1", "wal_buffers: 16MB", "");
        assert_eq!(ids(&plan(&after, &world)), ["a.configure.restart", "b.streaming"]);
    }
}

#[test]
fn a_value_of_one_node_wins_over_the_common_one_and_each_is_added_changed_and_removed_alone() {
    for version in VERSIONS {
        let mut world = living(&pair(version, "work_mem: 4MB"));
        let edits = [
            ("work_mem: 4MB", "", "work_mem: 8MB", vec!["b.configure"]),
            ("work_mem: 4MB", "", "work_mem: 16MB", vec!["b.configure"]),
            ("work_mem: 6MB", "", "work_mem: 16MB", vec!["a.configure"]),
            ("work_mem: 6MB", "", "", vec!["b.configure"]),
            ("", "work_mem: 6MB", "", vec!["b.configure"]),
            ("", "", "", vec!["a.configure"]),
        ];
        for (common, of_a, of_b, expected) in edits {
            let topology = pair_of(version, common, of_a, of_b);
            let planned = plan(&topology, &world);
            assert_eq!(ids(&planned), expected, "common {common}, a {of_a}, b {of_b}");
            follow(&topology, &planned.steps, &mut world);
            assert_eq!(ids(&plan(&topology, &world)), [""; 0]);
        }
    }
}

#[test]
fn what_our_own_role_overrides_unseen_is_judged_by_the_files() {
    for version in VERSIONS {
        let topology = pair(version, "work_mem: 4MB");
        let mut world = living(&topology);
        // Without the grant on pg_file_settings such a row is left out.
        world.node_mut(&name("a")).sql_mut().expect("runs").settings.remove("work_mem");
        assert_eq!(ids(&plan(&topology, &world)), [""; 0]);
        let after = pair_of(version, "", "work_mem: 6MB, statement_timeout: 0", "work_mem: 4MB");
        assert_eq!(ids(&plan(&after, &world)), ["a.configure"]);
        let step = &plan(&after, &world).steps[0];
        let names: Vec<&str> = differences(step).iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["work_mem"], "what is the default, and set by no file, holds");
    }
}

#[test]
fn of_one_edit_a_standby_takes_what_is_raised_before_the_primary_and_what_is_lowered_after_it() {
    for version in VERSIONS {
        let before = pair(version, "max_connections: 50, max_worker_processes: 8");
        let after = pair(version, "max_connections: 60, max_worker_processes: 4");
        let mut world = living(&before);
        let planned = plan(&after, &world);
        assert_eq!(
            ids(&planned),
            [
                "b.configure.restart",
                "b.streaming",
                "a.configure.restart",
                "b.streaming.2",
                "b.configure.restart.2",
                "b.streaming.3"
            ]
        );
        let text = |step: &Step| configure(step).block.as_ref().expect("a block").text();
        assert!(text(&planned.steps[0]).contains("max_connections = '60'\nmax_worker_processes = '8'"));
        assert!(text(&planned.steps[4]).contains("max_connections = '60'\nmax_worker_processes = '4'"));
        follow(&after, &planned.steps, &mut world);
        assert_eq!(ids(&plan(&after, &world)), [""; 0]);
    }
}

#[test]
fn a_parameter_that_is_restored_keeps_to_the_same_order_of_nodes() {
    for version in VERSIONS {
        let with = |value: &str| pair(version, &format!("max_connections: {value}"));
        let lowered = ["a.configure.restart", "b.streaming", "b.configure.restart", "b.streaming.2"];
        let raised = ["b.configure.restart", "b.streaming", "a.configure.restart", "b.streaming.2"];
        for (value, expected) in [("150", lowered), ("50", raised)] {
            let mut world = living(&with(value));
            let after = pair(version, "");
            let planned = plan(&after, &world);
            assert_eq!(ids(&planned), expected, "from {value} to the default, 100");
            follow(&after, &planned.steps, &mut world);
            assert_eq!(ids(&plan(&after, &world)), [""; 0]);
        }
    }
}

#[test]
fn a_restart_that_would_also_put_in_force_what_takes_a_standby_down_is_refused() {
    for version in VERSIONS {
        let before = pair(version, "wal_log_hints: off");
        let after = pair_of(version, "wal_log_hints: off", "wal_log_hints: on", "");
        let mut world = living(&before);
        // Somebody gives the primary more of what the standby must have as well, and no restart has come yet.
        edit_auto_conf(&mut world, "a", "max_connections = 200\n");
        reload(&before, &mut world, "a");
        let planned = plan(&after, &world);
        assert_eq!(planned.steps, vec![]);
        let reason = planned.blocked[0].refusal.reason();
        assert_eq!(reason, "a must not have more max_connections than b, which runs with 100");
    }
}

#[test]
fn what_a_killed_restart_has_taken_out_of_the_block_is_still_restored() {
    for version in VERSIONS {
        let before = pair(version, "max_connections: 50");
        let after = pair(version, "");
        let mut world = living(&before);
        let step = plan(&after, &world).steps.remove(0);
        assert_eq!(step.id, "b.configure.restart");
        // Killed between the file and the restart: the backup is what tells.
        let cluster = world.node_mut(&name("b")).cluster_mut().expect("made");
        let new = block::put_last(&cluster.conf.main.text, configure(&step).block.as_ref().expect("a block"));
        cluster.conf.replaced = Some(std::mem::replace(&mut cluster.conf.main.text, new.expect("one block")));
        world.node_mut(&name("b")).sql_mut().expect("runs").conf_loaded = false;
        let planned = plan(&after, &world);
        assert_eq!(ids(&planned), ["b.configure.restart", "b.streaming", "a.configure.restart", "b.streaming.2"]);
        follow(&after, &planned.steps, &mut world);
        assert_eq!(ids(&plan(&after, &world)), [""; 0]);
    }
}

#[test]
fn a_port_that_moves_while_a_parameter_goes_down_takes_one_plan() {
    for version in VERSIONS {
        let before = pair(version, "max_connections: 150");
        let after = topology::parse(
            format!(
                "version: 1\ncluster: sim\npostgresql: {{ version: {version} }}\n\
                 replication: {{ user: repuser, auth: trust }}\nparameters: {{ max_connections: 120 }}\nnodes:\n  \
                 a: {{ role: primary, port: 6003, data_dir: /pg/a }}\n  \
                 b: {{ role: standby, port: 6002, data_dir: /pg/b }}\n"
            )
            .as_bytes(),
            "sim.yaml",
            "/",
        )
        .expect("a good topology");
        let mut world = living(&before);
        let planned = plan(&after, &world);
        assert_eq!(ids(&planned).first(), Some(&"a.configure.restart"));
        follow(&after, &planned.steps, &mut world);
        assert_eq!(ids(&plan(&after, &world)), [""; 0]);
    }
}

/// A topology with a third node beside the pair.
fn trio(version: u32, common: &str) -> Topology {
    let yaml = format!(
        "version: 1\ncluster: sim\npostgresql: {{ version: {version} }}\nreplication: {{ user: repuser, auth: trust }}\n\
         parameters: {{ {common} }}\nnodes:\n  a: {{ role: primary, port: 6001, data_dir: /pg/a }}\n  \
         b: {{ role: standby, port: 6002, data_dir: /pg/b }}\n  c: {{ role: standby, port: 6003, data_dir: /pg/c }}\n"
    );
    topology::parse(yaml.as_bytes(), "sim.yaml", "/").expect("a good topology")
}

#[test]
fn a_clone_that_would_not_come_up_before_the_primary_has_less_waits_for_that() {
    for version in VERSIONS {
        let mut world = nothing(&trio(version, ""));
        world.nodes.extend(living(&pair(version, "max_connections: 150")).nodes);
        let after = trio(version, "max_connections: 60");
        let planned = plan(&after, &world);
        assert!(ids(&planned).contains(&"c.clone"));
        let unallowed = allow::select(&planned, &after, &world, &BTreeSet::new());
        let why = unallowed.left_out.iter().find(|(step, _)| step.id == "c.clone").map(|(_, why)| why.as_str());
        assert_eq!(why, Some("c would not come up with less max_connections than 150, as a runs now"));
        follow(&after, &planned.steps, &mut world);
        assert_eq!(ids(&plan(&after, &world)), [""; 0]);
    }
}

#[test]
fn a_stopped_standby_whose_files_have_too_little_to_come_up_gets_enough_until_it_has_replayed() {
    for version in VERSIONS {
        let topology = pair(version, "");
        let mut world = living(&topology);
        let stop = Action::Stop(pgpair::plan::StopFor::Restart);
        predict(&name("b"), &stop, &topology, &mut world);
        // As far as it has replayed, its primary ran with more.
        let b = world.node_mut(&name("b")).cluster_mut().expect("made");
        b.floors.insert("max_connections".into(), 150);
        let planned = plan(&topology, &world);
        let expected = ["b.configure", "b.start", "b.streaming", "b.configure.restart", "b.streaming"];
        let plain: Vec<&str> = ids(&planned).into_iter().map(|id| id.trim_end_matches(".2")).collect();
        assert_eq!(plain, expected);
        assert!(
            configure(&planned.steps[0]).block.as_ref().expect("a block").text().contains("max_connections = '150'")
        );
        follow(&topology, &planned.steps, &mut world);
        assert_eq!(ids(&plan(&topology, &world)), [""; 0]);
    }
}

#[test]
fn what_builds_on_a_step_that_is_left_out_is_not_called_an_edit_by_somebody() {
    let world = living(&pair(15, "max_connections: 150, work_mem: 4MB"));
    let after = topology::parse(
        b"version: 1\ncluster: sim\npostgresql: { version: 15 }\nreplication: { user: repuser, auth: trust }\n\
          parameters: { max_connections: 120, wal_keep_size: 1MB, max_locks_per_transaction: 128 }\nnodes:\n  \
          a: { role: primary, port: 6003, data_dir: /pg/a }\n  b: { role: standby, port: 6002, data_dir: /pg/b }\n",
        "sim.yaml",
        "/",
    )
    .expect("a good topology");
    let planned = plan(&after, &world);
    let selection = allow::select(&planned, &after, &world, &BTreeSet::new());
    assert!(!selection.left_out.is_empty());
    assert!(selection.left_out.iter().all(|(_, why)| !why.contains("edited")), "{:?}", selection.left_out);
}
