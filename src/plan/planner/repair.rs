//! Repair of a standby that is there: cloned anew, turned to another upstream, let in by its data directory's mode.
//!
//! Nothing is stopped or replaced unless what comes after is possible; what that takes is asked before the first step.

use crate::observed::Identity;
use crate::observed::WrongAccess;
use crate::plan::Action;
use crate::plan::Impact;
use crate::plan::LostWal;
use crate::plan::Reason;
use crate::plan::Refusal;
use crate::plan::Replaced;
use crate::plan::StopFor;
use crate::plan::check::Check;
use crate::plan::check::check;
use crate::plan::desired;
use crate::plan::drift;
use crate::plan::pair;
use crate::plan::pair::StandbyState;
use crate::plan::planner::Draft;
use crate::topology::Node;

impl<'a> Draft<'a> {
    /// A mode that PostgreSQL refuses is mended; an owner is not pgpair's to change.
    pub(super) fn mode(&mut self, node: &Node) {
        let wrong = self.world.node(&node.name).cluster().and_then(|cluster| cluster.wrong_access.as_ref());
        if let Some(WrongAccess::Mode(mode)) = wrong {
            self.step(node, Action::Mode, Impact::None, Reason::TooOpen(*mode));
        }
    }

    /// Returns why a node that has data of this cluster is to be cloned anew, if it is.
    pub(super) fn replaced_for(&self, standby: &Node, state: &StandbyState) -> Option<Reason> {
        let has_data = match state {
            StandbyState::Stopped | StandbyState::Runs | StandbyState::WithoutStandbyFiles => true,
            // Whoever asks for a rebuild knows that it does not answer, or that it may have written on its own.
            StandbyState::Superseded => return self.request.rebuilds(&standby.name).then_some(Reason::Asked),
            StandbyState::Unusable(Refusal::NoAnswer { .. } | Refusal::FormerPrimary { .. }) => {
                return self.request.rebuilds(&standby.name).then_some(Reason::Asked);
            }
            StandbyState::NoData
            | StandbyState::Unfinished(_)
            | StandbyState::OtherCluster(_)
            | StandbyState::Unusable(_)
            | StandbyState::Doubtful(_) => false,
        };
        if !has_data {
            return None;
        }
        if self.request.rebuilds(&standby.name) {
            return Some(Reason::Asked);
        }
        let lost = self.lost_wal(standby)?;
        Some(Reason::BeyondWal { upstream: self.topology.upstream(standby).name.clone(), lost })
    }

    /// By what was seen: an upstream that is itself made anew has other WAL then.
    fn lost_wal(&self, standby: &Node) -> Option<LostWal> {
        let upstream = self.topology.upstream(standby);
        self.world.node(&upstream.name).cluster()?.wal?;
        pair::lost_wal(self.topology, self.observed, standby)
    }

    /// Stops a node if it runs, and clones it anew with the configuration that it has.
    pub(super) fn replace(&mut self, standby: &'a Node, identity: Identity, reason: Reason) {
        let (source, upstream) = (self.source_of(standby), self.topology.upstream(standby));
        if self.is_stuck(source) || self.is_stuck(upstream) {
            return;
        }
        let seen = self.world.node(&standby.name);
        if seen.cluster().is_some_and(pair::is_fresh_clone) {
            return self.halt(Refusal::FreshClone { node: standby.name.clone() });
        }
        if seen.server.known().is_some() {
            let purpose = StopFor::Clone { source: source.name.clone(), slot: self.slot_for_clone(standby) };
            // What allows the clone allows this: a restart would be of no use.
            self.step(standby, Action::Stop(purpose), Impact::Destroy, reason.clone());
        }
        self.clone(standby, Some(Replaced::Member(identity)), Impact::Destroy, reason);
        self.files(standby, Impact::None);
    }

    /// Before version 12 only a restart makes a running standby follow another recovery.conf.
    pub(super) fn turn(&mut self, standby: &Node) {
        let seen = self.world.node(&standby.name);
        let Some(text) = seen.cluster().and_then(|cluster| cluster.markers.recovery_conf.clone()) else { return };
        let action = self.standby_files(standby);
        let reason = match check(&standby.name, &action, self.topology, &self.world) {
            Check::Satisfied if drift::has_read_recovery_conf(self.topology, standby, seen) => return,
            Check::Satisfied => Reason::NotInForce,
            Check::Ready | Check::Blocked(_) => {
                Reason::Differs(self.shown(desired::recovery_conf_differences(self.topology, standby, &text)))
            }
        };
        self.step(standby, Action::Stop(StopFor::Restart), Impact::Restart, reason.clone());
        self.step(standby, action, Impact::None, reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::DataDir;
    use crate::observed::Identity;
    use crate::observed::MadeWay;
    use crate::observed::Observed;
    use crate::observed::Passfile;
    use crate::observed::Program;
    use crate::observed::Reading;
    use crate::observed::Room;
    use crate::observed::Sender;
    use crate::observed::Slot;
    use crate::observed::WalFiles;
    use crate::pg::lsn::Lsn;
    use crate::plan::Action;
    use crate::plan::Configuration;
    use crate::plan::Plan;
    use crate::plan::Request;
    use crate::plan::planner::plan;
    use crate::plan::planner::plan_with;
    use crate::plan::predict::predict;
    use crate::report::samples::healthy;
    use crate::report::samples::made;
    use crate::report::samples::name;
    use crate::report::samples::nothing;
    use crate::report::samples::pair;
    use crate::topology;
    use crate::topology::Topology;

    /// A pair of this version as it is when nothing is left to do.
    fn whole(version: u32) -> (Topology, Observed) {
        if version == 15 {
            return (pair(), healthy(&pair()));
        }
        let yaml = format!(
            "version: 1\ncluster: orders\npostgresql: {{ version: {version} }}\n\
             replication: {{ user: repuser, auth: scram-sha-256, password: {{ env: SECRET }} }}\n\
             nodes:\n  a: {{ role: primary, port: 5433, data_dir: /srv/a }}\n  \
             b: {{ role: standby, port: 5434, data_dir: /srv/b }}\n"
        );
        let topology = topology::parse(yaml.as_bytes(), "orders.yaml", "/srv").expect("a good topology");
        let mut world = nothing(&topology);
        for seen in world.nodes.values_mut() {
            let program = Program { path: "/pg/bin/pg_basebackup".into(), major: version };
            seen.binaries.known_mut().expect("found").basebackup = Reading::Known(program);
        }
        let mut world = made(&topology, world);
        for seen in world.nodes.values_mut() {
            seen.cluster_mut().expect("it was made").identity = Identity::Known(1000);
        }
        (topology, world)
    }

    /// Each step with its impact.
    fn shown(plan: &Plan) -> Vec<String> {
        let blocked = plan.blocked.iter().map(|item| format!("blocked: {}", item.refusal.code()));
        plan.steps.iter().map(|step| format!("{} {}", step.id, step.impact)).chain(blocked).collect()
    }

    /// The steps that mend what is done to a pair.
    fn mended(version: u32, damage: impl FnOnce(&mut Observed)) -> Vec<String> {
        let (topology, mut world) = whole(version);
        damage(&mut world);
        shown(&plan(&topology, &world))
    }

    fn stop(world: &mut Observed) {
        let (topology, action) = (pair(), Action::Stop(StopFor::Restart));
        predict(&name("b"), &action, &topology, world);
    }

    /// The primary's WAL begins after what the standby needs, which has not noticed yet.
    fn recycle(world: &mut Observed) {
        let primary = world.node_mut(&name("a")).cluster_mut().expect("it has data");
        primary.wal = Some(WalFiles { oldest: Lsn(0x900_0000), end: Lsn(0xA00_0000) });
        world.node_mut(&name("a")).sql_mut().expect("it runs").senders.clear();
        world.node_mut(&name("b")).sql_mut().expect("it runs").receiver = None;
    }

    const NEW_CLONE: [&str; 5] =
        ["b.clone destroy", "b.start none", "b.streaming none", "b.slot.pgpair_a none", "b.remove_old none"];

    #[test]
    fn each_damage_has_the_smallest_plan_that_mends_it() {
        assert_eq!(mended(15, |_| {}), Vec::<String>::new());
        assert_eq!(mended(15, stop), ["b.start none", "b.streaming none"]);
        let open = |world: &mut Observed| {
            let cluster = world.node_mut(&name("b")).cluster_mut().expect("cloned");
            cluster.wrong_access = Some(WrongAccess::Mode(0o755));
        };
        assert_eq!(mended(15, open), ["b.mode none"]);
        let without = |world: &mut Observed| {
            world.node_mut(&name("b")).cluster_mut().expect("cloned").passfile = Passfile::Wrong;
        };
        assert_eq!(mended(15, without), ["b.passfile none"]);
        let no_role = |world: &mut Observed| {
            world.node_mut(&name("a")).cluster_mut().expect("created").replication_role = Reading::Absent;
        };
        assert_eq!(mended(15, no_role), ["a.replication_role none"]);
        let no_slot = |world: &mut Observed| {
            world.node_mut(&name("a")).cluster_mut().expect("created").slots.clear();
            world.node_mut(&name("b")).sql_mut().expect("it runs").receiver = None;
        };
        assert_eq!(mended(15, no_slot), ["a.slot.pgpair_b none", "b.streaming none"]);
    }

    #[test]
    fn a_detached_standby_is_turned_by_a_reload_and_before_13_by_a_restart() {
        let away = |world: &mut Observed| {
            let seen = world.node_mut(&name("b"));
            let cluster = seen.cluster_mut().expect("cloned");
            cluster.conf.main.text = cluster.conf.main.text.replace("port=5433", "port=7777");
            if let Some(text) = &mut cluster.markers.recovery_conf {
                *text = text.replace("port=5433", "port=7777");
            }
            let sql = seen.sql_mut().expect("it runs");
            sql.receiver = None;
            if let Some(setting) = sql.settings.get_mut("primary_conninfo") {
                setting.value = setting.value.replace("port=5433", "port=7777");
            }
        };
        for version in [13, 15, 18] {
            assert_eq!(mended(version, away), ["b.configure reload", "b.streaming none"], "{version}");
        }
        assert_eq!(mended(12, away), ["b.configure.restart restart", "b.streaming none"]);
        let restarted = ["b.stop restart", "b.standby_files none", "b.start none", "b.streaming none"];
        assert_eq!(mended(10, away), restarted);
    }

    #[test]
    fn a_recovery_conf_that_was_only_touched_is_no_reason_for_a_restart() {
        let touched = |world: &mut Observed| {
            let sql = world.node_mut(&name("b")).sql_mut().expect("it runs");
            sql.recovery_conf_loaded = false;
            sql.receiver.as_mut().expect("it streams").user = Some("repuser".into());
        };
        assert_eq!(mended(10, touched), Vec::<String>::new());
        let unread = |world: &mut Observed| {
            let sql = world.node_mut(&name("b")).sql_mut().expect("it runs");
            (sql.recovery_conf_loaded, sql.receiver) = (false, None);
        };
        assert_eq!(mended(10, unread), ["b.stop restart", "b.start none", "b.streaming none"]);
    }

    #[test]
    fn a_standby_is_behind_lost_wal_only_where_that_is_certain() {
        let running = |asks_from: Option<Lsn>| {
            mended(15, |world| {
                recycle(world);
                world.node_mut(&name("b")).sql_mut().expect("it runs").asks_from = asks_from;
            })
        };
        assert_eq!(running(None), ["b.streaming none"], "it may have more than it has replayed");
        assert_eq!(running(Some(Lsn(0x900_0000))), ["b.streaming none"], "the upstream has that");
        let replaced = [&["b.stop destroy"], &NEW_CLONE[..]].concat();
        assert_eq!(running(Some(Lsn(0x8FF_FFFF))), replaced);

        let stopped = |end: u64, wal_status: &str, checkpoint: u64| {
            mended(15, |world| {
                recycle(world);
                stop(world);
                let own = world.node_mut(&name("b")).cluster_mut().expect("cloned");
                own.wal = Some(WalFiles { oldest: Lsn(0), end: Lsn(end) });
                own.checkpoint = Lsn(checkpoint);
                let slots = &mut world.node_mut(&name("a")).cluster_mut().expect("created").slots;
                let wal_status = Some(wal_status.to_owned());
                slots.insert(
                    "pgpair_b".into(),
                    Slot { physical: true, active: false, reserved: true, wal_status, retained: None },
                );
            })
        };
        let started = ["b.start none", "b.streaming none"];
        assert_eq!(stopped(0x900_0000, "reserved", 0), started, "it may have all before that");
        assert_eq!(stopped(0x800_0000, "reserved", 0), NEW_CLONE);
        assert_eq!(stopped(0x900_0000, "lost", 0), NEW_CLONE);
        assert_eq!(stopped(0xA00_0000, "lost", 0x900_0000), started, "an idle slot is lost too (18)");
    }

    #[test]
    fn a_standby_that_has_an_archive_is_never_behind() {
        let steps = mended(15, |world| {
            recycle(world);
            let seen = world.node_mut(&name("b"));
            seen.cluster_mut().expect("cloned").conf.main.text.insert_str(0, "restore_command = 'cp /a/%f %p'\n");
            seen.sql_mut().expect("it runs").asks_from = Some(Lsn(1));
        });
        assert_eq!(steps, ["b.streaming none"]);
    }

    fn rebuilt(damage: impl FnOnce(&mut Observed)) -> Vec<String> {
        let (topology, mut world) = whole(15);
        damage(&mut world);
        let request = Request::rebuild(&topology, &name("b")).expect("a standby");
        shown(&plan_with(&topology, &world, &request))
    }

    #[test]
    fn a_rebuild_stops_and_clones_whatever_the_standby_does() {
        let stopped_first = [&["b.stop destroy"], &NEW_CLONE[..]].concat();
        assert_eq!(rebuilt(|_| {}), stopped_first);
        assert_eq!(rebuilt(stop), NEW_CLONE);
        let silent = |world: &mut Observed| {
            let server = world.node_mut(&name("b")).server.known_mut().expect("it runs");
            server.sql = Reading::Unknown("the database system is starting up".into());
        };
        assert_eq!(rebuilt(silent), stopped_first);
        let former_primary = |world: &mut Observed| {
            stop(world);
            let cluster = world.node_mut(&name("b")).cluster_mut().expect("cloned");
            cluster.markers.standby_signal = false;
            cluster.state = crate::pg::control::ControlState::ShutDown;
        };
        assert_eq!(rebuilt(former_primary), NEW_CLONE);
    }

    #[test]
    fn nothing_is_stopped_for_a_clone_that_can_not_be_made() {
        let full = |world: &mut Observed| {
            let senders = &mut world.node_mut(&name("a")).sql_mut().expect("it runs").senders;
            let other = Sender { application_name: "backup".into(), ..senders[0].clone() };
            senders.extend(vec![other; 4]);
        };
        assert_eq!(rebuilt(full), ["blocked: not_a_source"]);
        let no_program = |world: &mut Observed| {
            world.node_mut(&name("b")).binaries.known_mut().expect("found").basebackup = Reading::Absent;
        };
        assert_eq!(rebuilt(no_program), ["blocked: binaries"]);
        // Another server may have the port by now, and would be copied.
        let elsewhere = |world: &mut Observed| {
            world.node_mut(&name("a")).server.known_mut().expect("it runs").port = Some(7777);
        };
        assert_eq!(rebuilt(elsewhere), ["blocked: not_ready"]);
        let room = |free: u64| Room { folder: "/pg".into(), free, needed: 300, gained: 100 };
        let too_small = |world: &mut Observed| world.node_mut(&name("b")).rooms = vec![room(200), room(199)];
        assert_eq!(rebuilt(too_small), ["blocked: no_room"]);
        let without_the_old = |world: &mut Observed| world.node_mut(&name("b")).rooms = vec![room(200)];
        assert_eq!(rebuilt(without_the_old)[0], "b.stop destroy");
    }

    #[test]
    fn a_copy_that_was_not_finished_still_gets_the_configuration_that_made_way_for_it() {
        let (topology, mut world) = whole(15);
        stop(&mut world);
        let place = world.node_mut(&name("b")).place.known_mut().expect("looked at");
        let DataDir::Cluster(own) = std::mem::replace(&mut place.data_dir, DataDir::Absent) else { panic!("cloned") };
        let made_way = |identity: Identity| MadeWay {
            identity,
            conf: own.conf.clone(),
            hba: own.hba.clone(),
            passfile: own.passfile,
            recovery_conf: None,
        };
        (place.old, place.made_way) = (true, Some(Box::new(made_way(own.identity.clone()))));
        let configuration = |world: &Observed| {
            let plan = plan(&topology, world);
            assert_eq!(shown(&plan)[0], "b.clone none");
            let Action::Clone(clone) = &plan.steps[0].action else { panic!("{plan:?}") };
            clone.configuration.clone()
        };
        assert!(matches!(configuration(&world), Configuration::Kept(paths) if paths.contains(&"pg_hba.conf".into())));
        let place = world.node_mut(&name("b")).place.known_mut().expect("looked at");
        place.made_way = Some(Box::new(made_way(Identity::Known(1))));
        assert!(matches!(configuration(&world), Configuration::OfSource { .. }), "that of another cluster is none");
    }

    #[test]
    fn what_only_the_node_has_is_never_thrown_away_by_a_rebuild() {
        let ahead = |world: &mut Observed| {
            stop(world);
            let cluster = world.node_mut(&name("b")).cluster_mut().expect("cloned");
            cluster.newest_history = Some(crate::pg::lsn::Timeline(2));
        };
        assert_eq!(rebuilt(ahead), ["blocked: roles_moved"]);
        let fresh = |world: &mut Observed| {
            stop(world);
            world.node_mut(&name("b")).cluster_mut().expect("cloned").markers.postmaster_opts = false;
        };
        assert_eq!(rebuilt(fresh), ["blocked: fresh_clone"]);
        let foreign = |world: &mut Observed| {
            world.node_mut(&name("b")).cluster_mut().expect("cloned").identity = Identity::Known(1);
        };
        assert_eq!(rebuilt(foreign), ["blocked: claims_this_cluster"], "whatever is asked");
    }
}
