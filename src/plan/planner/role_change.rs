//! The primary moves: what it needs beforehand, the fence of the old one, the promotion with its proof.
//!
//! A plan with a role change has three parts: everything for the roles as they are; the change itself; and everything
//! for the roles as the topology wants them, which lets the others follow. The first part is judged by the roles as
//! they are, and holds also where the change is not allowed.

use crate::observed::Cluster;
use crate::pg::guc;
use crate::pg::guc::Context;
use crate::pg::hba;
use crate::pg::lsn::Timeline;
use crate::pg::version::StandbyMode;
use crate::plan::Action;
use crate::plan::Blocked;
use crate::plan::Digest;
use crate::plan::Effect;
use crate::plan::Fence;
use crate::plan::Impact;
use crate::plan::Promote;
use crate::plan::Reason;
use crate::plan::Refusal;
use crate::plan::RoleChange;
use crate::plan::Step;
use crate::plan::check::Check;
use crate::plan::check::check;
use crate::plan::desired;
use crate::plan::drift;
use crate::plan::drift::Floors;
use crate::plan::pair;
use crate::plan::pair::StandbyState;
use crate::plan::planner::Draft;
use crate::plan::planner::configuration::action_of;
use crate::plan::planner::step_id;
use crate::plan::planner::synchronous::names_alone;
use crate::plan::predict::predict;
use crate::plan::readiness;
use crate::plan::readiness::Finding;
use crate::plan::readiness::Lasts;
use crate::plan::readiness::ReadinessCheck;
use crate::plan::synchronous::NAMES;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Role;
use crate::topology::Topology;

impl<'a> Draft<'a> {
    /// What the change needs and is there already on nodes that pgpair has made: on the candidate slots and rules for
    /// those that will follow it and no commits that wait, on the old primary the way to its password.
    pub(super) fn make_ready(&mut self, candidate: &'a Node, wanted: &Topology) {
        let primary = self.topology.primary();
        let change = RoleChange { from: primary.name.clone(), to: candidate.name.clone() };
        let reason = Reason::PrimaryMoves(change);
        if wanted.replication.slots {
            for follower in wanted.followers(&wanted.nodes[&candidate.name]) {
                let slot = Action::Slot { name: follower.slot_name(), reserve: false };
                self.step(candidate, slot, Impact::None, reason.clone());
            }
        }
        let Some(cluster) = self.world.node(&candidate.name).cluster() else { return };
        let block = desired::hba_block(wanted, candidate);
        let rules = hba::parse(&cluster.hba).unwrap_or_default();
        let holds = |line: &String| hba::parse(line).unwrap_or_default().iter().all(|rule| hba::holds(&rules, rule));
        if !block.lines.iter().all(holds) {
            let before = Digest::of(&cluster.hba);
            self.step(candidate, Action::Hba { block, before }, Impact::Reload, reason.clone());
        }
        let waits = self.world.node(&candidate.name).sql().and_then(|sql| sql.settings.get(NAMES));
        if waits.is_some_and(|names| !names.value.is_empty())
            && let Some(action) = names_alone(self.topology, &self.world, candidate, String::new())
        {
            self.step(candidate, action, Impact::Reload, reason);
        }
    }

    /// Leaves the change out where a check finds something, and says all that they find once the steps before it are done.
    /// A candidate that is only started by them is one for the next run: what it answers to the checks is not known yet.
    pub(super) fn refuse_if_unready(&mut self, candidate: &NodeName) {
        let found_in = |world| readiness::findings(self.topology, world, candidate);
        let is_as_seen = |finding: &Finding| {
            let is_momentary = finding.check.about().lasts == Lasts::Momentary;
            is_momentary || matches!(finding.check, ReadinessCheck::Reach | ReadinessCheck::Upstream)
        };
        let mut findings = found_in(self.observed);
        findings.retain(is_as_seen);
        findings.extend(found_in(&self.world).into_iter().filter(|finding| !is_as_seen(finding)));
        for finding in findings {
            self.blocked.push(Blocked { node: Some(candidate.clone()), refusal: finding.refusal() });
            self.stuck.insert(candidate.clone());
        }
    }

    /// Fences the old primary, and promotes the topology's. The old one was seen running, or to have ended.
    pub(super) fn move_primary(&mut self, from: &'a Node, impact: Impact) {
        let primary = self.topology.primary();
        let change = RoleChange { from: from.name.clone(), to: primary.name.clone() };
        let Some(parent) = self.timeline_of(from) else { return };
        let promote = Action::Promote(Promote { from: Some(from.name.clone()), parent, by_force: false });
        let reason = Reason::PrimaryMoves(change.clone());
        let begun = self.steps.len();
        self.settings_of_standby(from, &reason);
        self.hooks_before(primary, Some(&from.name), parent, &reason);
        self.fence_alone(from, &reason, false);
        for step in self.steps.iter_mut().skip(begun) {
            step.only_for = Some(step_id(&primary.name, &promote));
        }
        if !self.is_stuck(from) {
            self.step(primary, promote, impact, reason);
        }
        if self.is_stuck(from) || self.is_stuck(primary) {
            // A fence without a promotion is of no use.
            self.steps.truncate(begun);
        } else {
            self.role_change = Some(change);
            self.hooks_after_promotion(primary);
        }
    }

    /// The timeline that a node writes, or wrote when it was stopped.
    fn timeline_of(&self, node: &Node) -> Option<Timeline> {
        let seen = self.world.node(&node.name);
        seen.sql().map(|sql| sql.timeline).or_else(|| seen.cluster().map(Cluster::newest_timeline))
    }

    /// Sees a promotion through that is under way, or that nothing but the promotion lacks of.
    pub(super) fn promote(&mut self, primary: &Node) {
        let Some(parent) = self.timeline_of(primary) else { return };
        let begun = self.steps.len();
        let is_pending = self.world.node(&primary.name).cluster().is_some_and(|own| own.markers.promote);
        if !is_pending {
            self.hooks_before(primary, None, parent, &Reason::NoPrimary);
        }
        self.step(
            primary,
            Action::Promote(Promote { from: None, parent, by_force: false }),
            Impact::None,
            Reason::NoPrimary,
        );
        if self.is_stuck(primary) {
            self.steps.truncate(begun);
        }
    }

    /// Starts what is to be promoted as the standby that it is by its files. It only ends an outage.
    pub(super) fn start_to_promote(&mut self, primary: &Node, upstream: &NodeName) {
        let as_it_is = self.topology.with_primary(upstream);
        let (id, action) = (primary.name.clone(), Action::Start { role: Role::Standby });
        match check(&id, &action, &as_it_is, &self.world) {
            Check::Satisfied => {}
            Check::Blocked(refusal) => self.block(primary, refusal),
            Check::Ready => {
                predict(&id, &action, &as_it_is, &mut self.world);
                let step = self.fresh_id(&id, &action);
                self.steps.push(Step {
                    id: step,
                    node: id,
                    action,
                    impact: Impact::None,
                    reason: Reason::NoPrimary,
                    diff: Vec::new(),
                    only_for: None,
                    primary: Some(upstream.clone()),
                });
            }
        }
    }

    /// A stopped primary in whose place another was promoted comes up as that one's standby, whoever starts it.
    pub(super) fn fence_superseded(&mut self, standby: &'a Node) {
        let Some(identity) = self.identity() else { return };
        if pair::classify_standby(self.topology, &self.world, standby, &identity) == StandbyState::Superseded {
            self.fence(standby, &Reason::Superseded(self.topology.primary().name.clone()));
        }
    }

    /// Lets whatever starts on the node's data directory come up as a standby of the topology's primary.
    pub(super) fn fence(&mut self, node: &'a Node, reason: &Reason) {
        self.settings_of_standby(node, reason);
        self.fence_alone(node, reason, false);
    }

    /// The same, where the settings are there.
    pub(super) fn fence_alone(&mut self, node: &'a Node, reason: &Reason, by_force: bool) {
        let existing = self.world.node(&node.name).cluster().and_then(|own| own.markers.recovery_conf.clone());
        let recovery_conf = desired::recovery_conf(self.topology, node, existing.as_deref());
        self.step(node, Action::Fence(Fence { recovery_conf, by_force }), Impact::None, reason.clone());
        // It names the passfile by now, if it needs one.
        self.passfile(node);
    }

    /// The block of a primary gets what it will go by as a standby. What only a restart puts in force is not among it:
    /// its next start is that. Its commits go on waiting for whom they wait for.
    pub(super) fn settings_of_standby(&mut self, node: &Node, reason: &Reason) {
        let major = self.topology.postgresql.version;
        let seen = self.world.node(&node.name);
        let Some(cluster) = seen.cluster().filter(|_| !self.is_stuck(node)) else { return };
        if major.dialect().standby_mode == StandbyMode::RecoveryConf {
            return;
        }
        // One that hangs reads nothing any more.
        let is_running = seen.sql().is_some();
        let kept = seen.sql().and_then(|sql| sql.settings.get(NAMES)).map(|names| (NAMES, names.value.clone()));
        let kept = kept.filter(|(_, names)| !names.is_empty()).into_iter().collect();
        let changes = match drift::configuration(self.topology, node, cluster, seen.sql(), &Floors::default(), kept) {
            Ok(changes) => changes,
            Err(refusal) => return self.block(node, refusal),
        };
        let is_late = |name: &str| guc::context(major, name) == Some(Context::Postmaster);
        // On 12 the connection itself is late.
        let by_reload = |effect| !is_running || !major.dialect().conninfo_reloads || effect == Effect::Reload;
        let Some(mut change) = changes.into_iter().find(|change| by_reload(change.effect)) else { return };
        change.effect = if is_running { Effect::Reload } else { Effect::AtStart };
        if is_running {
            change.settings.retain(|name, _| !is_late(name));
        }
        let action = action_of(change, cluster);
        let impact = if is_running { Impact::Reload } else { Impact::None };
        self.step(node, action, impact, reason.clone());
    }

    /// The topology's primary takes the role in the next run.
    pub(super) fn role_change_later(&mut self, from: &Node) {
        let primary = self.topology.primary();
        let refusal = Refusal::StartsFirst { from: from.name.clone(), to: primary.name.clone() };
        self.blocked.push(Blocked { node: Some(primary.name.clone()), refusal });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::NAMES;
    use crate::observed::Setting;
    use crate::plan::Plan;
    use crate::plan::Step;
    use crate::plan::allow;
    use crate::plan::allow::Allowance;
    use crate::plan::planner::plan;
    use crate::report::samples::living;
    use crate::report::samples::made;
    use crate::report::samples::name;
    use crate::topology;
    use crate::topology::Topology;

    /// A cluster of this version with these nodes below a, and more at the top of the file.
    fn cluster(version: u32, more: &str, nodes: &str) -> Topology {
        let given = if more.contains("parameters:") { "" } else { "parameters: { wal_log_hints: on }\n" };
        let yaml = format!(
            "version: 1\ncluster: orders\npostgresql: {{ version: {version} }}\n{more}\n{given}\
             nodes:\n  a: {{ role: primary, port: 5433, data_dir: /pg/a }}\n{nodes}"
        );
        topology::parse(yaml.as_bytes(), "orders.yaml", "/srv").expect("a good topology")
    }

    const TRUST: &str = "replication: { user: repuser, auth: trust }";
    const B: &str = "  b: { role: standby, port: 5434, data_dir: /pg/b }\n";
    const C: &str = "  c: { role: standby, port: 5435, data_dir: /pg/c }\n";

    /// Each step with its impact; those for the roles as they are in brackets.
    fn shown(plan: &Plan) -> String {
        let line = |step: &Step| {
            let text = format!("{} {}", step.id, step.impact);
            if step.primary.is_some() { format!("({text})") } else { text }
        };
        let mut lines: Vec<String> = plan.steps.iter().map(line).collect();
        lines.extend(plan.blocked.iter().map(|blocked| format!("blocked: {}", blocked.refusal.reason())));
        lines.extend(plan.asynchronous.map(|span| format!("asynchronous {} to {:?}", span.from, span.to)));
        lines.join("\n")
    }

    /// The plan that moves the primary; what it leaves is what the topology wants.
    fn moves(topology: &Topology, to: &str) -> String {
        let world = living(topology);
        let wanted = topology.with_primary(&name(to));
        let change = plan(&wanted, &world);
        let after = made(&wanted, world);
        assert_eq!(shown(&plan(&wanted, &after)), "", "what is left");
        shown(&change)
    }

    const CASCADE: &str = "  c: { role: standby, port: 5435, data_dir: /pg/c, upstream: b }\n";

    #[test]
    fn the_others_follow_by_a_reload() {
        insta::assert_snapshot!(moves(&cluster(15, TRUST, &format!("{B}{C}")), "b"));
    }

    #[test]
    fn before_13_the_others_restart_to_follow_by_the_allowance_of_the_change() {
        insta::assert_snapshot!(moves(&cluster(12, TRUST, &format!("{B}{C}")), "b"));
    }

    #[test]
    fn before_12_the_fence_is_recovery_conf_alone() {
        insta::assert_snapshot!(moves(&cluster(10, TRUST, &format!("{B}{C}")), "b"));
    }

    #[test]
    fn commits_wait_again_once_the_old_primary_streams() {
        let synchronous = "replication: { user: repuser, auth: trust, synchronous: { method: first, num: 1 } }";
        insta::assert_snapshot!(moves(&cluster(15, synchronous, B), "b"));
    }

    #[test]
    fn a_candidate_that_waits_for_somebody_waits_for_nobody_first() {
        let topology = cluster(15, TRUST, B);
        let mut world = living(&topology);
        world
            .node_mut(&name("b"))
            .cluster_mut()
            .expect("made")
            .conf
            .main
            .text
            .insert_str(0, &format!("{NAMES} = 'c'\n"));
        let settings = &mut world.node_mut(&name("b")).sql_mut().expect("it runs").settings;
        let like = settings["port"].clone();
        settings.insert(NAMES.into(), Setting { value: "c".into(), ..like });
        let change = plan(&topology.with_primary(&name("b")), &world);
        let first = change.steps[0].action.as_configure().and_then(|configure| configure.settings.get(NAMES));
        assert_eq!((change.steps[0].id.as_str(), first.map(String::as_str)), ("b.configure", Some("")));
    }

    #[test]
    fn without_slots_there_are_none() {
        let without = "replication: { user: repuser, auth: trust, slots: false }";
        insta::assert_snapshot!(moves(&cluster(15, without, B), "b"));
    }

    #[test]
    fn below_the_new_primary_a_cascade_goes_on() {
        insta::assert_snapshot!(moves(&cluster(15, TRUST, &format!("{B}{CASCADE}")), "b"));
    }

    #[test]
    fn the_end_of_a_cascade_becomes_its_top() {
        insta::assert_snapshot!(moves(&cluster(15, TRUST, &format!("{B}{CASCADE}")), "c"));
    }

    #[test]
    fn an_edit_that_turns_a_cascade_around_is_done_in_two_parts() {
        let base = cluster(15, TRUST, &format!("{B}{CASCADE}"));
        let mut wanted = base.with_primary(&name("c"));
        wanted.nodes[&name("b")].upstream = Some(name("c"));
        wanted.nodes[&name("a")].upstream = Some(name("b"));
        let change = plan(&wanted, &living(&base));
        assert_eq!(shown(&plan(&wanted, &made(&wanted, living(&base)))), "");
        insta::assert_snapshot!(shown(&change));
    }

    #[test]
    fn other_changes_come_before_the_role_change_with_their_own_allowances() {
        let parameters = format!("{TRUST}\nparameters: {{ wal_log_hints: on, shared_buffers: 256MB, work_mem: 8MB }}");
        let wanted = cluster(15, &parameters, B).with_primary(&name("b"));
        let change = plan(&wanted, &living(&cluster(15, TRUST, B)));
        insta::assert_snapshot!(shown(&change));
    }

    #[test]
    fn without_its_allowance_the_role_change_is_left_out_whole() {
        let topology = cluster(15, TRUST, &format!("{B}{C}"));
        let (wanted, world) = (topology.with_primary(&name("b")), living(&topology));
        let change = plan(&wanted, &world);
        let selection = allow::select(&change, &wanted, &world, &BTreeSet::new());
        assert_eq!(selection.chosen, Vec::<&Step>::new());
        assert_eq!(allow::all_needed(&change), [Allowance::Switchover(name("b"))]);
    }

    #[test]
    fn a_candidate_that_is_not_to_be_promoted_keeps_the_old_primary_unfenced() {
        let topology = cluster(15, TRUST, B);
        let wanted = topology.with_primary(&name("b"));
        let mut world = living(&topology);
        world.node_mut(&name("b")).sql_mut().expect("it runs").replay_paused = true;
        let change = plan(&wanted, &world);
        assert_eq!(shown(&change), "blocked: b has its replay paused");
    }
}
