//! The synchronous standbys of the primary: emptied before one that commits need goes away, set once enough stream.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::observed::Observed;
use crate::pg::block;
use crate::pg::block::Block;
use crate::pg::conf;
use crate::plan::Action;
use crate::plan::Asynchronous;
use crate::plan::Cause;
use crate::plan::Configure;
use crate::plan::Difference;
use crate::plan::Effect;
use crate::plan::Impact;
use crate::plan::Reason;
use crate::plan::Step;
use crate::plan::planner::Draft;
use crate::plan::planner::configuration::text_digest;
use crate::plan::planner::diff::diff_of;
use crate::plan::planner::step_id;
use crate::plan::synchronous;
use crate::plan::synchronous::NAMES;
use crate::topology::Node;
use crate::topology::Role;
use crate::topology::Topology;

impl Draft<'_> {
    /// Returns the names that a node is to wait for at this point of the plan; absent: as it is.
    pub(super) fn synchronous_names(&self, node: &Node) -> Option<String> {
        let wanted = synchronous::names(self.topology).filter(|_| node.role == Role::Primary)?;
        synchronous::may_wait_for(self.topology, &self.world, &wanted).then_some(wanted)
    }

    /// Lets the primary wait for nobody while a step takes away a standby that commits need.
    pub(super) fn make_way(&mut self, standby: &Node, for_step: &str) {
        let primary = self.topology.primary();
        let Some(action) = names_alone(self.topology, &self.world, primary, String::new()) else { return };
        let before = self.steps.len();
        self.step(primary, action, Impact::Reload, Reason::StandbyLeaves(standby.name.clone()));
        if let Some(step) = self.steps.get_mut(before) {
            step.only_for = Some(for_step.to_owned());
        }
    }
}

/// Returns the step that lets commits wait again after a run that ended before it came to that, where enough standbys
/// stream: the names alone, whatever else the plan still has.
#[must_use]
pub fn waits_again(topology: &Topology, observed: &Observed) -> Option<Step> {
    let names = synchronous::names(topology)?;
    let is_empty = synchronous::in_force(topology, observed).is_some_and(str::is_empty);
    if !is_empty || !synchronous::enough_stream(topology, observed, None) {
        return None;
    }
    let primary = topology.primary();
    let action = names_alone(topology, observed, primary, names.clone())?;
    let difference = Difference {
        name: NAMES.to_owned(),
        now: Some(String::new()),
        set_by: None,
        then: Some(names),
        cause: Cause::Wanted,
    };
    Some(Step {
        id: step_id(&primary.name, &action),
        node: primary.name.clone(),
        diff: diff_of(topology, observed.node(&primary.name), &action),
        action,
        impact: Impact::Reload,
        reason: Reason::Differs(vec![difference]),
        only_for: None,
        primary: None,
    })
}

/// A node's block as it is, but for the names of its synchronous standbys.
pub(super) fn names_alone(topology: &Topology, observed: &Observed, node: &Node, names: String) -> Option<Action> {
    let cluster = observed.node(&node.name).cluster()?;
    let (text, node) = (&cluster.conf.main.text, node.name.as_str());
    let found = block::find(text).ok().flatten().map(|found| found.block).filter(|block| block.node == node);
    let mut block =
        found.unwrap_or_else(|| Block { cluster: topology.cluster.clone(), node: node.into(), lines: Vec::new() });
    block.lines.retain(|line| conf::parse(line).entries.iter().all(|entry| entry.name != NAMES));
    block.lines.extend(conf::assignment(NAMES, &names));
    Some(Action::Configure(Configure {
        block: Some(block),
        before: text_digest(cluster),
        reset: None,
        effect: Effect::Reload,
        restored: BTreeSet::new(),
        settings: BTreeMap::from([(NAMES.to_owned(), names)]),
    }))
}

/// Returns the span of the steps in which commits wait for nobody though the topology asks for it.
pub(super) fn asynchronous(topology: &Topology, steps: &[Step]) -> Option<Asynchronous> {
    // A new primary has nobody yet who could confirm.
    let promotes =
        |step: &Step| matches!(step.action, Action::Promote(_)) && topology.replication.synchronous.is_some();
    let begins = |step: &Step| promotes(step) || matches!(step.reason, Reason::StandbyLeaves(_));
    let from = steps.iter().position(begins)?;
    let sets = |step: &Step| {
        let names = step.action.as_configure().and_then(|configure| configure.settings.get(NAMES));
        names.is_some_and(|names| !names.is_empty())
    };
    let last_pause = steps.iter().rposition(begins).unwrap_or(from);
    let to = steps[last_pause..].iter().position(sets).map(|offset| last_pause + offset + 1);
    Some(Asynchronous { from: from + 1, to })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::plan::allow;
    use crate::plan::allow::Allowance;
    use crate::plan::planner::plan;
    use crate::report::samples::living;
    use crate::report::samples::name;
    use crate::report::samples::nothing;
    use crate::topology;

    fn cluster(num: u32, parameters: &str, nodes: &str) -> Topology {
        let yaml = format!(
            "version: 1\ncluster: orders\npostgresql: {{ version: 15 }}\n\
             replication: {{ user: rep, auth: trust, synchronous: {{ num: {num} }} }}\n\
             parameters: {{ {parameters} }}\nnodes:\n  a: {{ role: primary, port: 5433, data_dir: /pg/a }}\n{nodes}"
        );
        topology::parse(yaml.as_bytes(), "orders.yaml", "/").expect("a good topology")
    }

    const B: &str = "  b: { role: standby, port: 5434, data_dir: /pg/b }\n";
    const C: &str = "  c: { role: standby, port: 5435, data_dir: /pg/c }\n";

    fn steps(plan: &Plan) -> Vec<String> {
        plan.steps.iter().map(|step| format!("{} {}", step.id, step.impact)).collect()
    }

    #[test]
    fn commits_wait_only_from_when_the_standbys_stream() {
        let topology = cluster(1, "", B);
        let first = plan(&topology, &nothing(&topology));
        let set = first.steps.iter().position(|step| step.id == "a.configure").expect("it is set");
        let streams = first.steps.iter().position(|step| step.id == "b.streaming").expect("it streams");
        assert!(streams < set, "{:?}", steps(&first));
        let names = synchronous::in_force(&topology, &living(&topology)).map(str::to_owned);
        assert_eq!(names.as_deref(), Some("FIRST 1 (\"b\")"));
        assert_eq!(first.asynchronous, None);
    }

    #[test]
    fn commits_wait_for_nobody_while_the_only_synchronous_standby_restarts() {
        let observed = living(&cluster(1, "shared_buffers: 128MB", B));
        let changed = cluster(1, "shared_buffers: 256MB", B);
        let plan = plan(&changed, &observed);
        assert_eq!(
            steps(&plan),
            [
                "a.configure reload",
                "b.configure.restart restart",
                "b.streaming none",
                "a.configure.2 reload",
                "a.configure.restart outage",
                "b.streaming.2 none",
            ]
        );
        assert_eq!(plan.asynchronous, Some(Asynchronous { from: 1, to: Some(4) }));
    }

    #[test]
    fn with_a_second_one_that_streams_commits_go_on_waiting() {
        let nodes = format!("{B}{C}");
        let observed = living(&cluster(1, "shared_buffers: 128MB", &nodes));
        let plan = plan(&cluster(1, "shared_buffers: 256MB", &nodes), &observed);
        assert_eq!(plan.asynchronous, None);
        assert!(steps(&plan)[0].starts_with("c.configure.restart restart"), "{:?}", steps(&plan));
    }

    #[test]
    fn without_the_allowance_for_the_restart_commits_go_on_waiting() {
        let observed = living(&cluster(1, "shared_buffers: 128MB", B));
        let changed = cluster(1, "shared_buffers: 256MB", B);
        let plan = plan(&changed, &observed);
        let chosen = allow::select(&plan, &changed, &observed, &BTreeSet::from([Allowance::Outage])).chosen;
        assert!(chosen.iter().all(|step| !matches!(step.reason, Reason::StandbyLeaves(_))), "{chosen:?}");
    }

    #[test]
    fn what_hangs_already_is_left_as_it_is() {
        let topology = cluster(1, "", B);
        let mut observed = living(&topology);
        observed.node_mut(&name("a")).sql_mut().expect("it runs").senders.clear();
        observed.node_mut(&name("b")).server = crate::observed::Reading::Absent;
        assert_eq!(plan(&topology, &observed).asynchronous, None);
        assert!(steps(&plan(&topology, &observed)).iter().all(|step| !step.starts_with("a.configure")));
    }

    #[test]
    fn taken_out_of_the_topology_the_names_leave_the_block() {
        let observed = living(&cluster(1, "", B));
        let mut without = cluster(1, "", B);
        without.replication.synchronous = None;
        assert_eq!(steps(&plan(&without, &observed)), ["a.configure reload"]);
    }
}
