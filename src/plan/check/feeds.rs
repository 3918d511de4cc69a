//! The source of a clone: whether pg_basebackup would be served by it to the end, and the copy become a standby.
//!
//! Judged before the copying begins, which may take hours: what would fail at its end, or half-way, is told now.

use crate::observed::Cluster;
use crate::observed::Reading;
use crate::observed::ReplicationRole;
use crate::observed::Sql;
use crate::pg::guc;
use crate::plan::Refusal;
use crate::plan::check::At;
use crate::plan::check::objects::can_replicate;
use crate::plan::desired;
use crate::plan::drift;
use crate::topology::Node;

/// Walsenders that pg_basebackup takes with its WAL streamed beside the files.
const SENDERS_OF_A_CLONE: usize = 2;

impl At<'_> {
    /// This node runs and can serve a clone of `target`: role, rules, slot and walsenders are there.
    pub(super) fn feeds(&self, target: &Node, slot: Option<&str>) -> Result<(), Refusal> {
        let sql = self.sql()?;
        let cluster = self.cluster()?;
        match &cluster.replication_role {
            Reading::Known(role) if can_replicate(role) => self.has_connections_left(role, sql)?,
            Reading::Known(_) | Reading::Absent => return Err(self.not_ready("has no replication role yet")),
            Reading::Unknown(why) => {
                let remedy = "let `admin.user` be a superuser, and plan again";
                return Err(self.not_ready_until(&format!("may have no replication role: {why}"), remedy));
            }
        }
        self.admits(target, cluster, sql)?;
        let port = self.seen.server.known().and_then(|server| server.port);
        if let Some(port) = port.filter(|port| *port != self.node.port) {
            // Another server may have the port that the topology says, and would be copied in its place.
            let why = format!("runs on port {port}, and the topology says {}", self.node.port);
            return Err(
                self.not_ready_until(&why, "let it restart first: apply with the allowances that the plan names")
            );
        }
        self.has_slots_left(target, slot, cluster, sql)?;
        let most = number(sql, "max_wal_senders");
        // Its own, if it still runs, ends before the copy begins.
        let busy = sql.senders.iter().filter(|sender| !sender.is_of(&target.name)).count();
        if let Some(most) = most.filter(|most| busy + SENDERS_OF_A_CLONE > *most) {
            let why = format!(
                "has {busy} of {most} walsenders busy (max_wal_senders), and a clone takes {SENDERS_OF_A_CLONE}"
            );
            let enough = busy + SENDERS_OF_A_CLONE;
            return Err(
                self.not_a_source(why, format!("set `max_wal_senders` to at least {enough} on {}", self.node.name))
            );
        }
        if sql.in_recovery { self.feeds_as_standby(sql) } else { Ok(()) }
    }

    fn not_a_source(&self, why: impl Into<String>, remedy: impl Into<String>) -> Refusal {
        Refusal::NotASource { node: self.name(), why: why.into(), remedy: remedy.into() }
    }

    /// The remedy that always serves where a standby is in the way.
    fn or_from_the_primary(&self, remedy: &str) -> String {
        format!("{remedy}, or let `clone_from` name the primary, {}", self.topology.primary().name)
    }

    fn has_connections_left(&self, role: &ReplicationRole, sql: &Sql) -> Result<(), Refusal> {
        // A negative limit is none, and a superuser has none.
        let Ok(limit) = usize::try_from(role.connection_limit) else { return Ok(()) };
        let counts = self.topology.postgresql.version.dialect().limits_walsenders(&sql.version);
        let needed = sql.senders.len() + SENDERS_OF_A_CLONE;
        if role.superuser || !counts || needed <= limit {
            return Ok(());
        }
        let user = &self.topology.replication.user;
        let why = format!(
            "is of a version ({}) that counts walsenders in the connection limit of {user}, which is {limit}, and {needed} are needed",
            sql.version
        );
        Err(self.not_a_source(why, format!("set `replication.connection_limit` to -1 or at least {needed}")))
    }

    fn admits(&self, target: &Node, cluster: &Cluster, sql: &Sql) -> Result<(), Refusal> {
        if drift::rules(self.topology, self.node, cluster)?.is_some() || !sql.hba_loaded {
            return Err(self.not_ready("does not admit its standbys yet"));
        }
        if drift::admits(self.topology, cluster, target) {
            return Ok(());
        }
        let rules = desired::rules_for(self.topology, target);
        let rules: Vec<String> =
            rules.iter().map(|rule| rule.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let rules = rules.join("` and `");
        let remedy = format!("add `{rules}` to pg_hba.conf of {} and reload it", self.node.name);
        Err(self.not_a_source(format!("has no rule in pg_hba.conf that admits {}", target.name), remedy))
    }

    /// The slot of the target is there and holds back WAL.
    pub(super) fn keeps_wal_for(&self, target: &Node) -> Result<(), Refusal> {
        let name = target.slot_name();
        let slot = self.cluster()?.slots.get(&name).filter(|slot| slot.physical);
        if slot.is_some_and(|slot| slot.reserved || slot.active) {
            return Ok(());
        }
        Err(self.not_ready(&format!("has no slot {name} that keeps WAL for {}", target.name)))
    }

    /// The slot of the target's own, or room for the one that pg_basebackup makes for its time.
    fn has_slots_left(&self, target: &Node, slot: Option<&str>, cluster: &Cluster, sql: &Sql) -> Result<(), Refusal> {
        if slot.is_some() {
            return self.keeps_wal_for(target);
        }
        let used = cluster.slots.len();
        match number(sql, "max_replication_slots").filter(|most| used >= *most) {
            None => Ok(()),
            Some(most) => {
                let why = format!("has {used} of {most} replication slots in use, and a clone takes one for its time");
                let remedy = format!("set `max_replication_slots` to at least {} on {}", used + 1, self.node.name);
                Err(self.not_a_source(why, remedy))
            }
        }
    }

    /// A standby as source: what it has is what the primary has, and the backup can be recovered from.
    fn feeds_as_standby(&self, sql: &Sql) -> Result<(), Refusal> {
        let name = &self.node.name;
        if sql.receiver.as_ref().is_none_or(|receiver| !receiver.streams()) {
            let remedy =
                self.or_from_the_primary(&format!("see why {name} does not stream (its log, `pgpair status`)"));
            return Err(self.not_a_source("is a standby and does not stream", remedy));
        }
        if self.cluster()?.markers.promote {
            let remedy = self.or_from_the_primary(&format!("find out who wants {name} promoted"));
            return Err(self.not_a_source("has a file `promote`, and the copy's connection would promote it", remedy));
        }
        if sql.replay_paused {
            let remedy = self.or_from_the_primary(&format!("`SELECT pg_wal_replay_resume()` on {name}"));
            return Err(self.not_a_source("is a standby whose replay is paused", remedy));
        }
        let delay = sql.settings.get("recovery_min_apply_delay").map_or("0", |setting| setting.value.as_str());
        if delay != "0" || drift::is_delayed(self.topology, self.node) {
            let remedy = self.or_from_the_primary("take `recovery_min_apply_delay` off it");
            return Err(self.not_a_source("is a delayed standby: the copy would be as far behind", remedy));
        }
        let primary = self.topology.primary();
        let full = self.observed.node(&primary.name).sql().and_then(|sql| sql.settings.get("full_page_writes"));
        let major = self.topology.postgresql.version;
        if full.is_some_and(|full| !guc::same(major, "full_page_writes", &full.value, "on")) {
            let why = format!("is a standby, and {} runs with full_page_writes off", primary.name);
            let remedy = self.or_from_the_primary(&format!("set `full_page_writes: on` on {}", primary.name));
            return Err(self.not_a_source(why, remedy));
        }
        Ok(())
    }
}

pub(super) fn number(sql: &Sql, name: &str) -> Option<usize> {
    sql.settings.get(name)?.value.parse().ok()
}

#[cfg(test)]
mod tests {
    use crate::observed::Observed;
    use crate::observed::Reading;
    use crate::observed::Sender;
    use crate::observed::Slot;
    use crate::observed::Sql;
    use crate::plan::Plan;
    use crate::plan::check::Check;
    use crate::plan::check::check;
    use crate::plan::planner::plan;
    use crate::plan::predict::predict;
    use crate::report::samples::made;
    use crate::report::samples::name;
    use crate::topology;
    use crate::topology::Topology;
    use crate::world::sim::nothing;

    /// A pair that runs, and a third node that is to be cloned from its standby.
    fn trio() -> (Topology, Observed) {
        let of = |third: &str| {
            let yaml = format!(
                "version: 1\ncluster: sim\npostgresql: {{ version: 15 }}\n\
                 replication: {{ user: repuser, auth: trust, connection_limit: 3 }}\n\
                 nodes:\n  a: {{ role: primary, port: 6001, data_dir: /pg/a }}\n  \
                 b: {{ role: standby, port: 6002, data_dir: /pg/b }}\n{third}"
            );
            topology::parse(yaml.as_bytes(), "sim.yaml", "/").expect("a good topology")
        };
        let (pair, trio) = (of(""), of("  c: { role: standby, port: 6003, data_dir: /pg/c, clone_from: b }\n"));
        let mut world = nothing(&trio);
        world.nodes.extend(made(&pair, nothing(&pair)).nodes);
        (trio, world)
    }

    fn sql<'a>(world: &'a mut Observed, node: &str) -> &'a mut Sql {
        world.node_mut(&name(node)).sql_mut().expect("it runs")
    }

    fn set(world: &mut Observed, node: &str, setting: &str, value: &str) {
        let settings = &mut sql(world, node).settings;
        let mut found = settings.values().next().expect("the port at least").clone();
        found.value = value.to_owned();
        settings.insert(setting.to_owned(), found);
    }

    fn ids(plan: &Plan) -> Vec<&str> {
        plan.steps.iter().map(|step| step.id.as_str()).collect()
    }

    #[test]
    fn a_third_node_is_cloned_from_the_standby_once_its_slot_on_the_primary_keeps_wal() {
        let (topology, world) = trio();
        let plan = plan(&topology, &world);
        assert_eq!(plan.blocked, []);
        let wanted = [
            "a.slot.pgpair_c",
            "b.slot.pgpair_c",
            "c.clone",
            "c.start",
            "c.streaming",
            "c.slot.pgpair_a",
            "c.slot.pgpair_b",
        ];
        assert_eq!(ids(&plan), wanted);
    }

    /// A change of a world that lets the source serve no clone, and what is said of it.
    type Obstacle = (fn(&mut Observed), &'static str, &'static str);

    #[test]
    fn what_would_make_a_clone_of_a_standby_fail_is_told_with_its_remedy_before_it_begins() {
        let obstacles: [Obstacle; 11] = [
            (
                |world| set(world, "b", "max_wal_senders", "1"),
                "has 0 of 1 walsenders busy",
                "set `max_wal_senders` to at least 2 on b",
            ),
            (
                |world| {
                    let sender = sql(world, "a").senders[0].clone();
                    sql(world, "b").senders = vec![Sender { application_name: "x".into(), ..sender }; 2];
                    sql(world, "b").version = "15.8 (Debian 15.8-0+deb12u1)".into();
                },
                "counts walsenders in the connection limit of repuser, which is 3, and 4 are needed",
                "set `replication.connection_limit` to -1 or at least 4",
            ),
            (
                |world| {
                    let slot = Slot { physical: false, active: true, reserved: true, wal_status: None, retained: None };
                    world.node_mut(&name("b")).cluster_mut().expect("it has data").slots.insert("x".into(), slot);
                    set(world, "b", "max_replication_slots", "3");
                },
                "has 3 of 3 replication slots in use",
                "set `max_replication_slots` to at least 4 on b",
            ),
            (
                |world| {
                    let hba = &mut world.node_mut(&name("b")).cluster_mut().expect("it has data").hba;
                    *hba = "host replication repuser 127.0.0.1/32 reject\n".into();
                },
                "has no rule in pg_hba.conf that admits c",
                "add `host replication repuser 127.0.0.1/32 trust` to pg_hba.conf of b and reload it",
            ),
            (
                |world| world.node_mut(&name("b")).cluster_mut().expect("it has data").markers.promote = true,
                "has a file `promote`",
                "find out who wants b promoted",
            ),
            (|world| sql(world, "b").replay_paused = true, "replay is paused", "pg_wal_replay_resume()"),
            (
                |world| set(world, "b", "recovery_min_apply_delay", "3600000"),
                "is a delayed standby",
                "take `recovery_min_apply_delay` off it",
            ),
            (
                |world| set(world, "a", "full_page_writes", "off"),
                "a runs with full_page_writes off",
                "set `full_page_writes: on` on a",
            ),
            (
                |world| {
                    let server = world.node_mut(&name("b")).server.known_mut().expect("it runs");
                    server.sql = Reading::Unknown("hot standby mode is disabled".into());
                },
                "does not answer: hot standby mode is disabled",
                "see the server's log",
            ),
            (
                |world| {
                    let cluster = world.node_mut(&name("b")).cluster_mut().expect("it has data");
                    cluster.replication_role = Reading::Unknown("permission denied".into());
                },
                "may have no replication role: permission denied",
                "plan again",
            ),
            (
                |world| world.node_mut(&name("b")).place = Reading::Unknown("denied".into()),
                "b can't be looked at: denied",
                "readable",
            ),
        ];
        for (obstacle, reason, remedy) in obstacles {
            let (topology, mut world) = trio();
            obstacle(&mut world);
            let plan = plan(&topology, &world);
            let told: Vec<_> =
                plan.blocked.iter().map(|blocked| (blocked.refusal.reason(), blocked.refusal.remedy())).collect();
            assert!(told.iter().any(|(why, what)| why.contains(reason) && what.contains(remedy)), "{reason}: {told:?}");
            assert!(!ids(&plan).contains(&"c.clone"), "{reason}");
        }
    }

    #[test]
    fn a_source_that_has_stopped_streaming_since_the_plan_serves_no_clone() {
        let (topology, mut world) = trio();
        let steps = plan(&topology, &world).steps;
        let (before, rest) = steps.split_at(2);
        for step in before {
            predict(&step.node, &step.action, &topology, &mut world);
        }
        let clone = &rest[0];
        assert_eq!(check(&clone.node, &clone.action, &topology, &world), Check::Ready);
        let mut without_slot = world.clone();
        without_slot.node_mut(&name("a")).cluster_mut().expect("it has data").slots.remove("pgpair_c");
        sql(&mut world, "b").receiver = None;
        for (world, reason) in [
            (world, "b can't be cloned now: it is a standby and does not stream"),
            (without_slot, "a has no slot pgpair_c that keeps WAL for c"),
        ] {
            let Check::Blocked(refusal) = check(&clone.node, &clone.action, &topology, &world) else {
                panic!("{reason}")
            };
            assert_eq!(refusal.reason(), reason);
        }
    }
}
