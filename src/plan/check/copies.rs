//! New data directories: a primary made by initdb, and clones.

use crate::observed::Cluster;
use crate::observed::Content;
use crate::observed::DataDir;
use crate::observed::Reading;
use crate::observed::Receiver;
use crate::observed::comes_up_as;
use crate::pg::block;
use crate::pg::block::Block;
use crate::pg::conf;
use crate::plan::CloneFrom;
use crate::plan::Configuration;
use crate::plan::CreatePrimary;
use crate::plan::Refusal;
use crate::plan::Replaced;
use crate::plan::access;
use crate::plan::check::At;
use crate::plan::check::Verdict;
use crate::plan::check::files::has_block;
use crate::plan::desired;
use crate::plan::drift::Floors;
use crate::plan::pair;
use crate::topology::Role;

impl At<'_> {
    /// The configuration is in the data directory, where a creation or a clone makes it.
    pub(super) fn has_files_inside(&self) -> Result<(), Refusal> {
        match &self.node.config_dir {
            None => Ok(()),
            Some(_) => Err(Refusal::NotSupported {
                what: format!("making a data directory of or for {}, which has a `config_dir`", self.node.name),
            }),
        }
    }

    /// A data directory can be made here: the disk is there, nothing is kept aside, the folder can be written.
    pub(super) fn can_make_data_dir(&self) -> Result<(), Refusal> {
        self.has_files_inside()?;
        self.may_control()?;
        let place = self.place()?;
        if let Some(mount_point) = &place.unmounted {
            return Err(Refusal::Unmounted { node: self.name(), mount_point: mount_point.clone() });
        }
        // What a rewind of ours left has its configuration beside it.
        if place.work && place.made_way.is_none() {
            let why = "has a data directory kept aside as `.pgpair-work`";
            return Err(self.not_ready_until(why, "find out what it is, and move it back or away by hand"));
        }
        match &place.not_writable {
            Some(why) => Err(Refusal::NotWritable { node: self.name(), why: why.clone() }),
            None => Ok(()),
        }
    }

    pub(super) fn create_primary(&self, create: &CreatePrimary) -> Verdict {
        if let DataDir::Cluster(cluster) = &self.place()?.data_dir {
            if has_block(&cluster.conf.main.text, &create.conf) && block::stands_before_rules(&cluster.hba, &create.hba)
            {
                return Ok(true);
            }
            return Err(self.not_ready("has a data directory already"));
        }
        pair::no_cluster_anywhere(self.topology, self.observed)?;
        if let DataDir::Foreign(found) | DataDir::Unfinished(found) = &self.place()?.data_dir {
            let (node, path) = (self.name(), self.node.data_dir.clone());
            return Err(Refusal::NotADataDir { node, path, found: found.clone() });
        }
        self.binaries()?;
        self.can_make_data_dir()?;
        self.can_make_outside(create.waldir.iter().map(String::as_str))?;
        self.port_is_free()?;
        access::lets_pgpair_in(self.topology, self.node, self.seen, &create.hba)?;
        Ok(false)
    }

    /// Folders outside the data directory can be made: nothing is in them but what is replaced, or what a killed run left.
    fn can_make_outside<'f>(&self, folders: impl Iterator<Item = &'f str>) -> Result<(), Refusal> {
        for folder in folders {
            // One that no look covers lies on another machine than the source, and is seen to by the step.
            let Some(outside) = self.place()?.outside.get(folder) else { continue };
            if let Some(mount_point) = &outside.unmounted {
                return Err(Refusal::Unmounted { node: self.name(), mount_point: mount_point.clone() });
            }
            if let Some(why) = &outside.not_writable {
                return Err(Refusal::NotWritable { node: self.name(), why: why.clone() });
            }
            match outside.content {
                Content::Nothing | Content::InUse | Content::LeftOver => {}
                Content::Foreign => return Err(Refusal::NotEmpty { node: self.name(), folder: folder.to_owned() }),
            }
        }
        Ok(())
    }

    pub(super) fn clone_from(&self, clone: &CloneFrom) -> Verdict {
        let source = self.of(&clone.source);
        let identity = &source.cluster()?.identity;
        if let DataDir::Cluster(cluster) = &self.place()?.data_dir {
            let is_standby = comes_up_as(&cluster.markers, cluster.major) == Role::Standby;
            let is_configured = match &clone.configuration {
                Configuration::OfSource { conf, .. } => has_block(&cluster.conf.main.text, conf),
                // The configuration is that of before; that it never ran is what tells a clone from what it replaced.
                Configuration::Kept(_) => pair::is_fresh_clone(cluster),
            };
            if cluster.identity == *identity && is_standby && is_configured {
                return Ok(true);
            }
        }
        source.has_files_inside()?;
        self.replaces(clone.replaces.as_ref())?;
        self.stopped()?;
        self.binaries()?;
        self.basebackup()?;
        self.can_make_data_dir()?;
        self.has_room()?;
        self.can_use_tls()?;
        // A tablespace that the source has by now, and had not when the plan was made, would have no place.
        let tablespaces = desired::tablespaces(self.node, source.node, source.cluster()?)?;
        let all = clone.outside().chain(tablespaces.values().map(String::as_str));
        self.can_make_outside(all)?;
        if tablespaces != clone.tablespaces {
            return Err(source.not_ready("has other tablespaces than when the plan was made"));
        }
        self.port_is_free()?;
        source.feeds(self.node, clone.slot.as_deref())?;
        let upstream = self.topology.upstream(self.node);
        if self.topology.replication.slots && upstream.name != clone.source {
            // What the source has when the copy ends, the upstream must still have when the copy asks for more.
            self.of(&upstream.name).keeps_wal_for(self.node)?;
        }
        if let Configuration::OfSource { conf, hba, .. } = &clone.configuration {
            self.comes_up_on(conf, source.cluster()?)?;
            access::lets_pgpair_in(self.topology, self.node, self.seen, hba)?;
        }
        Ok(false)
    }

    /// The copy fits, as far as that was measured.
    pub(super) fn has_room(&self) -> Result<(), Refusal> {
        match self.seen.rooms.iter().find(|room| !room.can_be_made()) {
            Some(room) => Err(Refusal::NoRoom { node: self.name(), room: room.clone() }),
            None => Ok(()),
        }
    }

    /// A copy of the source would have as much of each parameter as the primary runs with: else it never comes up.
    fn comes_up_on(&self, conf: &Block, source: &Cluster) -> Result<(), Refusal> {
        let primary = &self.topology.primary().name;
        let Some(running) = self.observed.node(primary).sql() else { return Ok(()) };
        let major = self.topology.postgresql.version;
        let set = conf::set_by(conf);
        let inherited = source.conf.read().unwrap_or_default().elsewhere;
        let value_of = |name: &str| set.get(name).or(inherited.get(name).map(|placed| &placed.value)).cloned();
        match Floors::of_server(major, running).missed(major, value_of).first() {
            Some((name, value)) => {
                let why = format!("would not come up with less {name} than {value}, as {primary} runs now");
                Err(self.not_ready_until(&why, format!("set `{name}` of {} to at least {value}", self.node.name)))
            }
            None => Ok(()),
        }
    }

    /// What is in the way of a clone is just what was planned to be replaced.
    pub(super) fn replaces(&self, planned: Option<&Replaced>) -> Result<(), Refusal> {
        match (&self.place()?.data_dir, planned) {
            (DataDir::Absent | DataDir::Empty, _) => Ok(()),
            (DataDir::Unfinished(_), Some(Replaced::Unfinished)) => Ok(()),
            (DataDir::Cluster(cluster), Some(Replaced::Cluster(identity))) if cluster.identity == *identity => Ok(()),
            (DataDir::Cluster(cluster), Some(Replaced::Member(identity))) if cluster.identity == *identity => {
                self.may_be_thrown_away(cluster)
            }
            (DataDir::Unfinished(_) | DataDir::Cluster(_), _) => {
                Err(self.not_ready("has another data directory than the one that was to be replaced"))
            }
            (DataDir::Foreign(found), _) => {
                Err(Refusal::NotADataDir { node: self.name(), path: self.node.data_dir.clone(), found: found.clone() })
            }
        }
    }

    /// A node of this cluster that has nothing which the primary lacks, as far as timelines tell, and is no new clone.
    pub(super) fn may_be_thrown_away(&self, cluster: &Cluster) -> Result<(), Refusal> {
        if pair::is_fresh_clone(cluster) {
            return Err(Refusal::FreshClone { node: self.name() });
        }
        let primary = self.of(&self.topology.primary().name);
        primary.writes()?;
        if pair::is_further(self.seen, primary.seen) {
            let found = "is on a newer timeline than the primary: another server was promoted".into();
            return Err(Refusal::RolesMoved { node: self.name(), found });
        }
        Ok(())
    }

    pub(super) fn basebackup(&self) -> Result<(), Refusal> {
        let unusable = |why: String| Err(Refusal::Binaries { node: self.name(), why });
        let wanted = self.topology.postgresql.version;
        match self.seen.binaries.known().map(|binaries| &binaries.basebackup) {
            Some(Reading::Known(program)) if program.major >= wanted.number() => Ok(()),
            Some(Reading::Known(program)) => {
                unusable(format!("{} is of {}, older than the server", program.path, program.major))
            }
            Some(Reading::Unknown(why)) => unusable(why.clone()),
            Some(Reading::Absent) | None => unusable(format!("there is no pg_basebackup of {wanted} or later")),
        }
    }

    pub(super) fn remove_old(&self) -> Verdict {
        let place = self.place()?;
        if !place.old && !place.outside.values().any(|outside| outside.old) {
            return Ok(true);
        }
        let streams = self.sql()?.receiver.as_ref().is_some_and(Receiver::streams);
        if streams { Ok(false) } else { Err(self.not_ready("does not stream yet")) }
    }
}

#[cfg(test)]
mod tests {
    use crate::observed::Content;
    use crate::observed::Observed;
    use crate::observed::Outside;
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

    /// A primary that runs, and a standby that is to be copied from it with folders outside its data directory.
    fn pair(keys: &str) -> (Topology, Observed) {
        let of = |second: &str| {
            let yaml = format!(
                "version: 1\ncluster: sim\npostgresql: {{ version: 15 }}\n\
                 replication: {{ user: repuser, auth: trust }}\n\
                 nodes:\n  a: {{ role: primary, port: 6001, data_dir: /pg/a }}\n{second}"
            );
            topology::parse(yaml.as_bytes(), "sim.yaml", "/").expect("a good topology")
        };
        let (first, pair) = (of(""), of(&format!("  b: {{ role: standby, port: 6002, data_dir: /pg/b{keys} }}\n")));
        let mut both = nothing(&pair);
        both.nodes.extend(made(&first, nothing(&first)).nodes);
        (pair, both)
    }

    fn tablespaces(world: &mut Observed, node: &str, folders: &[&str]) {
        let cluster = world.node_mut(&name(node)).cluster_mut().expect("it has data");
        let links = (16385..).map(|oid: u32| oid.to_string());
        cluster.tablespaces = links.zip(folders.iter().map(|&folder| folder.to_owned())).collect();
    }

    fn outside<'w>(world: &'w mut Observed, folder: &str) -> &'w mut Outside {
        world.node_mut(&name("b")).place.known_mut().and_then(|place| place.outside.get_mut(folder)).expect("looked at")
    }

    fn told(plan: &Plan) -> Vec<String> {
        plan.blocked.iter().map(|blocked| format!("{}: {}", blocked.refusal.code(), blocked.refusal.reason())).collect()
    }

    const KEYS: &str = ", waldir: /wal/b, tablespaces: { /ssd/a: /ssd/b, /ssd/c: /ssd/b }";

    #[test]
    fn a_tablespace_without_a_folder_of_its_own_blocks_the_clone_and_leaves_no_slot() {
        for (keys, folders, code) in [
            ("", ["/ssd/a", "/ssd/c"].as_slice(), "tablespace_unmapped: a has a tablespace in /ssd/a"),
            (KEYS, &["/ssd/a", "/ssd/x"], "tablespace_unmapped: a has a tablespace in /ssd/x"),
            (
                KEYS,
                &["/ssd/a", "/ssd/c"],
                "tablespaces_mixed: the tablespaces /ssd/a and /ssd/c would both lie in /ssd/b",
            ),
        ] {
            let (topology, mut world) = pair(keys);
            tablespaces(&mut world, "a", folders);
            let plan = plan(&topology, &world);
            assert!(told(&plan).len() == 1 && told(&plan)[0].starts_with(code), "{:?}", told(&plan));
            assert!(!plan.steps.iter().any(|step| step.id.contains("slot") || step.node == name("b")), "{code}");
        }
    }

    #[test]
    fn a_folder_outside_that_is_filled_or_can_not_be_made_blocks_the_clone() {
        type Obstacle = fn(&mut Outside);
        let obstacles: [(Obstacle, &str); 3] = [
            (|outside| outside.content = Content::Foreign, "not_empty"),
            (|outside| outside.not_writable = Some("read-only".into()), "not_writable"),
            (|outside| outside.unmounted = Some("/ssd".into()), "unmounted"),
        ];
        for folder in ["/wal/b", "/ssd/b"] {
            for (obstacle, code) in obstacles {
                let (topology, mut world) = pair(KEYS);
                tablespaces(&mut world, "a", &["/ssd/a"]);
                obstacle(outside(&mut world, folder));
                let told = told(&plan(&topology, &world));
                assert!(told.len() == 1 && told[0].starts_with(code), "{folder}: {told:?}");
            }
            let (topology, mut world) = pair(KEYS);
            tablespaces(&mut world, "a", &["/ssd/a"]);
            outside(&mut world, folder).content = Content::LeftOver;
            assert_eq!(told(&plan(&topology, &world)), [""; 0], "what a killed run left is in nobody's way");
        }
    }

    #[test]
    fn a_tablespace_made_since_the_plan_is_noticed_before_the_clone() {
        let (topology, mut world) = pair(KEYS);
        let steps = plan(&topology, &world).steps;
        let at = steps.iter().position(|step| step.id == "b.clone").expect("planned");
        for step in &steps[..at] {
            predict(&step.node, &step.action, &topology, &mut world);
        }
        let judged = |world: &Observed| check(&steps[at].node, &steps[at].action, &topology, world);
        assert_eq!(judged(&world), Check::Ready);
        tablespaces(&mut world, "a", &["/ssd/a"]);
        let Check::Blocked(refusal) = judged(&world) else { panic!("not noticed") };
        assert_eq!(refusal.reason(), "a has other tablespaces than when the plan was made");
    }

    #[test]
    fn a_waldir_that_differs_on_a_living_node_is_told_and_all_else_goes_on() {
        let (topology, world) = pair(KEYS);
        let mut world = made(&topology, world);
        assert_eq!((told(&plan(&topology, &world)), plan(&topology, &world).steps), (vec![], vec![]));
        let cluster = world.node_mut(&name("b")).cluster_mut().expect("it has data");
        cluster.waldir = None;
        cluster.slots.clear();
        let plan = plan(&topology, &world);
        let differs = "waldir_differs: pg_wal of b is a folder in the data directory, the topology says /wal/b";
        assert_eq!(told(&plan), [differs]);
        assert_eq!(plan.steps.iter().map(|step| step.id.as_str()).collect::<Vec<_>>(), ["b.slot.pgpair_a"]);
    }

    #[test]
    fn no_cluster_is_made_beside_a_filled_waldir() {
        let (topology, _) = pair(KEYS);
        let mut empty = nothing(&topology);
        outside(&mut empty, "/wal/b").content = Content::Foreign;
        let halted = plan(&topology, &empty);
        assert!(
            halted.is_halted() && told(&halted)[0].contains("b has files in its waldir, /wal/b"),
            "{:?}",
            told(&halted)
        );
        outside(&mut empty, "/wal/b").content = Content::LeftOver;
        assert!(!plan(&topology, &empty).is_halted());
    }
}
