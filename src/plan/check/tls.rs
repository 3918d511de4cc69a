//! Whether a standby can use the TLS files that a connection string names: what libpq would refuse is told before a
//! step that rests on it, as the standby itself says it in its log alone.

use crate::pg::conninfo::Conninfo;
use crate::plan::Refusal;
use crate::plan::check::At;
use crate::plan::desired;
use crate::topology::Role;

impl At<'_> {
    /// The node could connect to its upstream as the topology says.
    pub(super) fn can_use_tls(&self) -> Result<(), Refusal> {
        self.can_use_tls_of(&desired::connection_to(self.topology, self.topology.upstream(self.node)))
    }

    pub(super) fn can_use_tls_of(&self, conninfo: &Conninfo) -> Result<(), Refusal> {
        match self.seen.tls.iter().find(|problem| problem.is_of(conninfo)) {
            Some(problem) => Err(Refusal::TlsFile { node: self.name(), problem: problem.clone() }),
            None => Ok(()),
        }
    }

    /// A standby that has to connect anew could do so, with the connection string that is in its files.
    pub(super) fn can_reconnect(&self) -> Result<(), Refusal> {
        let present = self.seen.cluster().filter(|_| self.node.role == Role::Standby);
        let present = present.and_then(desired::present_conninfo).and_then(|text| Conninfo::parse(&text).ok());
        present.map_or(Ok(()), |conninfo| self.can_use_tls_of(&conninfo))
    }
}

#[cfg(test)]
mod tests {
    use crate::observed::Observed;
    use crate::observed::Reading;
    use crate::observed::TlsProblem;
    use crate::observed::TlsTrouble;
    use crate::plan::Plan;
    use crate::plan::planner::plan;
    use crate::report::samples::made;
    use crate::report::samples::name;
    use crate::topology;
    use crate::topology::Topology;
    use crate::world::sim::nothing;

    const SCRAM: &str = "auth: scram-sha-256, password: { env: SECRET }";
    const CERT: &str = "auth: cert, tls: { sslmode: verify-full, sslrootcert: ca.pem, sslcert: r.crt, sslkey: r.key }";
    const SSL: &str = "ssl: on, ssl_ca_file: /tls/ca.pem";

    fn pair(version: u32, replication: &str, parameters: &str) -> Topology {
        let yaml = format!(
            "version: 1\ncluster: sim\npostgresql: {{ version: {version} }}\n\
             replication: {{ user: repuser, {replication} }}\nparameters: {{ {parameters} }}\n\
             nodes:\n  a: {{ role: primary, port: 6001, data_dir: /pg/a }}\n  b: {{ role: standby, port: 6002, data_dir: /pg/b }}\n"
        );
        topology::parse(yaml.as_bytes(), "sim.yaml", "/").expect("a good topology")
    }

    fn damage(world: &mut Observed) {
        let trouble = TlsTrouble::TooOpen { mode: 0o644, by_root: false };
        let problem = TlsProblem { key: "sslkey".into(), path: "/r.key".into(), trouble };
        world.node_mut(&name("b")).tls = vec![problem];
    }

    fn told(plan: &Plan) -> Vec<String> {
        plan.blocked.iter().map(|blocked| blocked.refusal.code().to_owned()).collect()
    }

    fn ids(plan: &Plan) -> Vec<&str> {
        plan.steps.iter().map(|step| step.id.as_str()).collect()
    }

    #[test]
    fn a_standby_is_not_cloned_with_a_key_that_libpq_refuses() {
        let topology = pair(15, CERT, SSL);
        let mut world = nothing(&topology);
        damage(&mut world);
        let plan = plan(&topology, &world);
        assert_eq!(told(&plan), ["tls_file"]);
        assert!(ids(&plan).contains(&"a.start") && !ids(&plan).contains(&"b.clone"), "{:?}", ids(&plan));
        let refusal = &plan.blocked[0].refusal;
        assert_eq!(
            refusal.reason(),
            "b can't use /r.key (`replication.tls.sslkey`): it has mode 0644, and libpq takes a key that only its owner can read"
        );
        assert!(refusal.remedy().starts_with("`chmod 600 /r.key`"), "{}", refusal.remedy());
    }

    #[test]
    fn a_standby_that_streams_is_not_told_to_use_a_key_that_it_can_not_use() {
        let before = pair(15, SCRAM, SSL);
        let mut world = made(&before, nothing(&before));
        damage(&mut world);
        let plan = plan(&pair(15, CERT, SSL), &world);
        assert_eq!(told(&plan), ["tls_file", "locks_out"], "{:?}", ids(&plan));
        assert!(!ids(&plan).iter().any(|id| id.starts_with("b.configure") || *id == "a.hba"), "{:?}", ids(&plan));
    }

    #[test]
    fn one_of_11_is_not_stopped_for_it() {
        let before = pair(11, SCRAM, SSL);
        let mut world = made(&before, nothing(&before));
        damage(&mut world);
        let plan = plan(&pair(11, CERT, SSL), &world);
        assert_eq!((ids(&plan), told(&plan)), (vec!["b.hba"], vec!["locks_out".to_owned()]));
        assert_eq!(plan.blocked[0].refusal.remedy(), "`chmod 600 /r.key`");
    }

    #[test]
    fn what_a_stopped_standby_lacks_is_told_and_it_is_started() {
        let topology = pair(15, CERT, SSL);
        let mut world = made(&topology, nothing(&topology));
        damage(&mut world);
        assert_eq!((ids(&plan(&topology, &world)), told(&plan(&topology, &world))), (vec![], vec![]), "it streams");
        world.node_mut(&name("b")).server = Reading::Absent;
        world.node_mut(&name("a")).sql_mut().expect("runs").senders.clear();
        let plan = plan(&topology, &world);
        assert_eq!((ids(&plan), told(&plan)), (vec!["b.start"], vec!["tls_file".to_owned()]));
    }
}
