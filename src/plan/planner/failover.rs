//! Forced promotion: the old primary is gone, and another node becomes it without its consent (protocol, section 5). And
//! two primaries, of which one is to give way (section 7).

use crate::observed::Observed;
use crate::plan::Action;
use crate::plan::Impact;
use crate::plan::Plan;
use crate::plan::Promote;
use crate::plan::Reason;
use crate::plan::Refusal;
use crate::plan::Request;
use crate::plan::RoleChange;
use crate::plan::planner::Draft;
use crate::plan::planner::step_id;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Topology;

/// Plans the promotion of the topology's primary without the old one; `in_reach`: the old one, where its files can be
/// written.
pub(super) fn plan(
    topology: &Topology,
    observed: &Observed,
    request: &Request,
    old: &NodeName,
    in_reach: Option<&NodeName>,
    found: &'static str,
) -> Plan {
    let mut draft = Draft::new(topology, observed, request);
    let primary = topology.primary();
    draft.fail_over(old, in_reach.map(|name| &topology.nodes[name]));
    if draft.role_change.is_some() {
        draft.with_the_change(Impact::Failover, |draft| {
            draft.before_standbys(primary);
            draft.hooks_after_promotion(primary);
            draft.standbys(primary);
        });
    }
    draft.into_plan(found)
}

/// Plans for two primaries where the one that the topology does not name may lose what it wrote: it is fenced and stopped
/// first, and then returns as any old primary does.
pub(super) fn plan_without_second(
    topology: &Topology,
    observed: &Observed,
    request: &Request,
    found: &'static str,
) -> Plan {
    let mut draft = Draft::new(topology, observed, request);
    let primary = topology.primary();
    let second = |node: &&Node| request.discards(&node.name) && observed.node(&node.name).accepts_writes();
    for node in topology.standbys().filter(second) {
        let reason = Reason::Discarded { by: primary.name.clone() };
        draft.settings_of_standby(node, &reason);
        draft.fence_alone(node, &reason, true);
        draft.step(node, Action::TakeDown, Impact::Destroy, reason);
    }
    draft.before_standbys(primary);
    draft.standbys(primary);
    draft.into_plan(found)
}

impl<'a> Draft<'a> {
    fn fail_over(&mut self, old: &NodeName, in_reach: Option<&'a Node>) {
        let primary = self.topology.primary();
        let Some(sql) = self.world.node(&primary.name).sql() else {
            return self.block(primary, Refusal::NotReady { why: format!("{} does not run", primary.name) });
        };
        // Without a stream the server does not tell the timeline of what it has; its files do.
        let of_files = self.world.node(&primary.name).cluster().and_then(|own| own.end_timeline);
        let parent = of_files.map_or(sql.timeline, |timeline| timeline.max(sql.timeline));
        let change = RoleChange { from: old.clone(), to: primary.name.clone() };
        let reason = Reason::PrimaryLost(change.clone());
        let from = in_reach.map(|node| node.name.clone());
        let promote = Action::Promote(Promote { from, parent, by_force: true });
        let begun = self.steps.len();
        self.fence_off(&reason);
        self.note_hooks(primary, old, parent, &reason);
        if let Some(old) = in_reach {
            self.settings_of_standby(old, &reason);
            self.fence_alone(old, &reason, true);
            self.step(old, Action::TakeDown, Impact::Failover, reason.clone());
        }
        for step in self.steps.iter_mut().skip(begun) {
            step.only_for = Some(step_id(&primary.name, &promote));
        }
        if in_reach.is_none_or(|old| !self.is_stuck(old)) {
            self.step(primary, promote, Impact::Failover, reason);
        }
        if self.is_stuck(primary) || in_reach.is_some_and(|old| self.is_stuck(old)) {
            // Nobody is fenced or taken down where nothing is promoted.
            self.steps.clear();
        } else {
            self.role_change = Some(change);
        }
    }

    /// Every node that can't be reached is known to be dead: by somebody's word, or by the fencing command.
    fn fence_off(&mut self, reason: &Reason) {
        for node in self.topology.standbys() {
            let seen = self.world.node(&node.name);
            let Some(why) = seen.place.unknown().filter(|_| !seen.confirmed_dead) else { continue };
            if self.topology.fencing.is_none() {
                return self.halt(Refusal::NotDead { node: node.name.clone(), why: why.to_owned() });
            }
            self.step(node, Action::FenceOff, Impact::Failover, reason.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::Controller;
    use crate::observed::DataDir;
    use crate::observed::Permission;
    use crate::observed::Reading;
    use crate::pg::control::ControlState;
    use crate::pg::lsn::Lsn;
    use crate::plan::loss;
    use crate::plan::loss::Loss;
    use crate::plan::planner::plan as plan_for;
    use crate::plan::planner::plan_with;
    use crate::report::samples::living;
    use crate::report::samples::name;
    use crate::topology;
    use crate::topology::Topology;

    fn cluster(version: u32, more: &str) -> Topology {
        let yaml = format!(
            "version: 1\ncluster: orders\npostgresql: {{ version: {version} }}\n\
             replication: {{ user: repuser, auth: trust }}\nparameters: {{ wal_log_hints: on }}\n{more}\n\
             nodes:\n  a: {{ role: primary, port: 5433, data_dir: /pg/a }}\n  \
             b: {{ role: standby, port: 5434, data_dir: /pg/b }}\n  \
             c: {{ role: standby, port: 5435, data_dir: /pg/c }}\n"
        );
        topology::parse(yaml.as_bytes(), "orders.yaml", "/srv").expect("a good topology")
    }

    /// The primary is killed 0x100 bytes after what the standbys have; nothing streams any more.
    fn killed(world: &mut Observed) {
        hung(world);
        let seen = world.node_mut(&name("a"));
        seen.server = Reading::Absent;
        seen.cluster_mut().expect("made").end = Some(Lsn(0x300_0100));
    }

    fn hung(world: &mut Observed) {
        let seen = world.node_mut(&name("a"));
        seen.server.known_mut().expect("runs").sql = Reading::Unknown("it does not answer within 5 s".into());
        seen.cluster_mut().expect("made").state = ControlState::InProduction;
        for node in ["b", "c"] {
            let sql = world.node_mut(&name(node)).sql_mut().expect("runs");
            (sql.receiver, sql.lsn) = (None, Lsn(0x300_0000));
        }
    }

    fn away(world: &mut Observed) {
        hung(world);
        let seen = world.node_mut(&name("a"));
        (seen.place, seen.server) = (Reading::Unknown("no route".into()), Reading::Unknown("no route".into()));
        seen.port_taken = Reading::Unknown("no route".into());
    }

    fn shown(plan: &Plan) -> Vec<String> {
        let blocked = plan.blocked.iter().map(|blocked| format!("blocked: {}", blocked.refusal.code()));
        plan.steps.iter().map(|step| format!("{} {}", step.id, step.impact)).chain(blocked).collect()
    }

    /// The beginning of the plan that makes b the primary without a: up to its promotion, or all of one that has none.
    fn forced(topology: &Topology, damage: impl Fn(&mut Observed)) -> Vec<String> {
        let wanted = topology.with_primary(&name("b"));
        let mut world = living(topology);
        damage(&mut world);
        let request = Request::default().or_failover(&name("b"));
        let mut steps = shown(&plan_with(&wanted, &world, &request));
        if let Some(last) = steps.iter().position(|step| step.starts_with("b.promote")) {
            steps.truncate(last + 1);
        }
        steps
    }

    #[test]
    fn a_primary_that_is_gone_is_fenced_and_ended_before_another_is_promoted() {
        for version in [15, 12] {
            let topology = cluster(version, "");
            let steps = ["a.configure none", "a.fence none", "b.promote failover"];
            assert_eq!(forced(&topology, killed), steps, "{version}");
            let steps = ["a.configure none", "a.fence none", "a.take_down failover", "b.promote failover"];
            assert_eq!(forced(&topology, hung), steps, "{version}");
        }
        assert_eq!(forced(&cluster(10, ""), hung), ["a.fence none", "a.take_down failover", "b.promote failover"]);
    }

    #[test]
    fn without_the_allowance_nothing_is_promoted() {
        let topology = cluster(15, "");
        let wanted = topology.with_primary(&name("b"));
        let plan_of = |damage: fn(&mut Observed)| {
            let mut world = living(&topology);
            damage(&mut world);
            shown(&plan_for(&wanted, &world))
        };
        assert_eq!(
            plan_of(killed),
            ["a.start outage", "b.streaming none", "c.streaming none", "blocked: starts_first"]
        );
        assert_eq!(plan_of(hung), ["blocked: primary_lost"]);
        assert_eq!(plan_of(away), ["blocked: primary_lost"]);
    }

    #[test]
    fn a_node_out_of_reach_is_confirmed_dead_or_fenced_off() {
        let topology = cluster(15, "");
        assert_eq!(forced(&topology, away), ["blocked: not_dead"]);
        let confirmed = |world: &mut Observed| {
            away(world);
            world.node_mut(&name("a")).confirmed_dead = true;
        };
        assert_eq!(forced(&topology, confirmed), ["b.promote failover"]);
        let fenced = cluster(15, "fencing: { command: [/bin/true, '{node}'] }");
        assert_eq!(forced(&fenced, away), ["a.fence_off failover", "b.promote failover"]);
        let heard = |world: &mut Observed| {
            let receiver = living(&topology).node(&name("c")).sql().and_then(|sql| sql.receiver.clone());
            confirmed(world);
            world.node_mut(&name("c")).sql_mut().expect("runs").receiver = receiver;
        };
        assert_eq!(forced(&topology, heard), ["blocked: not_dead"]);
    }

    #[test]
    fn only_the_most_advanced_standby_is_promoted() {
        let ahead = |world: &mut Observed| {
            killed(world);
            world.node_mut(&name("c")).sql_mut().expect("runs").lsn = Lsn(0x300_0010);
        };
        assert_eq!(forced(&cluster(15, ""), ahead), ["blocked: behind"]);
        let paused = |world: &mut Observed| {
            killed(world);
            world.node_mut(&name("b")).sql_mut().expect("runs").replay_paused = true;
        };
        assert_eq!(forced(&cluster(15, ""), paused), ["blocked: not_promotable"]);
        let silent = |world: &mut Observed| {
            killed(world);
            world.node_mut(&name("c")).server = Reading::Unknown("its files can't be read".into());
        };
        assert_eq!(forced(&cluster(15, ""), silent), ["blocked: out_of_reach"]);
        let promoted = |world: &mut Observed| {
            killed(world);
            world.node_mut(&name("a")).cluster_mut().expect("made").newest_history = Some(crate::pg::lsn::Timeline(2));
        };
        assert_eq!(forced(&cluster(15, ""), promoted), ["blocked: no_proof"]);
    }

    #[test]
    fn for_a_primary_that_can_not_be_taken_down_nothing_is_done_anywhere() {
        let refused = |world: &mut Observed| {
            hung(world);
            let permission = Permission::Refused("no rights".into());
            world.node_mut(&name("a")).controller = Reading::Known(Controller::Unit { unit: "x".into(), permission });
        };
        assert_eq!(forced(&cluster(15, ""), refused), ["blocked: unit_refused"]);
    }

    #[test]
    fn what_may_be_lost_is_said_in_bytes() {
        let topology = cluster(15, "");
        let wanted = topology.with_primary(&name("b"));
        let bound = |damage: fn(&mut Observed)| {
            let mut world = living(&topology);
            damage(&mut world);
            if let Some(DataDir::Cluster(own)) =
                world.node_mut(&name("a")).place.known_mut().map(|place| &mut place.data_dir)
            {
                own.wal = Some(crate::observed::WalFiles { oldest: Lsn(0x100_0000), end: Lsn(0x400_0000) });
            }
            world.node_mut(&name("a")).confirmed_dead = true;
            let request = Request::default().or_failover(&name("b"));
            loss::bound(&world, &plan_with(&wanted, &world, &request))
        };
        let of_a = |bytes| Some(Loss { node: name("a"), bytes });
        assert_eq!(bound(killed), of_a(Some(0x100)));
        assert_eq!(bound(away), of_a(None));
    }

    #[test]
    fn of_two_primaries_the_one_that_is_discarded_is_fenced_and_stopped() {
        let topology = cluster(15, "");
        let mut world = living(&topology);
        let sql = world.node_mut(&name("b")).sql_mut().expect("runs");
        (sql.in_recovery, sql.receiver) = (false, None);
        world.node_mut(&name("b")).cluster_mut().expect("made").markers.standby_signal = false;
        assert_eq!(shown(&plan_for(&topology, &world)), ["blocked: two_primaries"]);
        let request = Request::default().and_discard(&topology, &name("b")).expect("a standby");
        let steps = shown(&plan_with(&topology, &world, &request));
        assert_eq!(steps[..2], ["b.fence none", "b.take_down destroy"], "{steps:?}");
    }
}
