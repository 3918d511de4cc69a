//! Every guard of a role change, each by a state that it alone forbids: what is asked is fine without what is wrong
//! there, so that no row passes for another reason.
//!
//! `scripts/mutants` takes each of these guards out once, and sees that its row notices.

use super::*;
use crate::observed::Cluster;
use crate::observed::Identity;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::observed::Reading;
use crate::observed::Sql;
use crate::pg::control::ControlState;
use crate::pg::history::Branch;
use crate::plan::check::Check;
use crate::plan::check::check;
use crate::plan::pair::PairState;
use crate::plan::pair::classify;
use crate::plan::planner::plan_with;
use crate::plan::predict::predict;
use crate::report::samples::living;
use crate::report::samples::name;
use crate::topology;

/// A test a row: what is asked is answered as it should be, and otherwise once something is wrong.
macro_rules! guards {
    ($case:expr, $fine:literal; $($row:ident: $wrong:expr => $told:literal;)*) => {
        $(
            #[test]
            fn $row() {
                $crate::plan::tests::guards::judged($case, $fine, $wrong, $told);
            }
        )*
    };
}

mod failover;
mod fence;
mod plans;
mod promotion;
mod rejoin;
mod safe;
mod servers;
mod states;

/// How far each node has come.
const POSITION: Lsn = Lsn(0x300_0000);

/// Where the first timeline was left.
fn branch() -> Branch {
    Branch { timeline: Timeline(1), end: POSITION }
}

/// A state of a cluster, and what is asked about it.
struct Case {
    topology: Topology,
    world: Observed,
    asked: Asked,
}

enum Asked {
    /// Whether a step may be done.
    Step(NodeName, Box<Action>),
    /// The joint state.
    State,
    /// What is done where all of the plan is allowed, as far as it is about roles, and the codes of what is refused.
    Plan(Request),
}

#[track_caller]
fn judged(mut case: Case, fine: &str, wrong: fn(&mut Case), told: &str) {
    assert_eq!(case.answer(), fine, "with nothing wrong");
    wrong(&mut case);
    let answer = case.answer();
    assert!(answer.starts_with(told), "expected: {told}\nanswered: {answer}");
}

/// Primary `a`, and its standbys `b` and `c`.
fn cluster(version: u32) -> Topology {
    let yaml = format!(
        "version: 1\ncluster: orders\npostgresql: {{ version: {version} }}\n\
         replication: {{ user: repuser, auth: trust }}\nparameters: {{ wal_log_hints: on }}\n\
         fencing: {{ command: [/bin/true, '{{node}}'] }}\n\
         nodes:\n  a: {{ role: primary, port: 5433, data_dir: /pg/a }}\n  \
         b: {{ role: standby, port: 5434, data_dir: /pg/b }}\n  \
         c: {{ role: standby, port: 5435, data_dir: /pg/c }}\n"
    );
    topology::parse(yaml.as_bytes(), "orders.yaml", "/srv").expect("a good topology")
}

/// A cluster in which nothing is left to do.
fn healthy(version: u32) -> Case {
    let topology = cluster(version);
    let mut world = living(&topology);
    for seen in world.nodes.values_mut() {
        seen.sql_mut().expect("it runs").lsn = POSITION;
        let cluster = seen.cluster_mut().expect("made");
        (cluster.identity, cluster.wal_log_hints) = (Identity::Known(7), true);
    }
    Case { topology, world, asked: Asked::State }
}

fn is_about_roles(action: &Action) -> bool {
    let names =
        ["fence", "fence_off", "take_down", "unfence", "promote", "rewind", "clone", "stop", "start", "standby_files"];
    names.contains(&action.name())
}

impl Case {
    /// A step of the plan that makes `b` the primary, in the world that the steps before it leave.
    fn switchover(version: u32, step: &str) -> Self {
        healthy(version).wants("b").before(step, &Request::default())
    }

    /// The same without the consent of `a`, which is lost in some way.
    fn failover(version: u32, lose: impl FnOnce(&mut Self), step: &str) -> Self {
        let mut case = healthy(version);
        lose(&mut case);
        case.wants("b").before(step, &Request::default().or_failover(&name("b")))
    }

    fn before(mut self, step: &str, request: &Request) -> Self {
        for it in plan_with(&self.topology, &self.world, request).steps {
            let roles = it.topology(&self.topology).into_owned();
            if it.id == step {
                return Self { topology: roles, asked: Asked::Step(it.node, Box::new(it.action)), ..self };
            }
            predict(&it.node, &it.action, &roles, &mut self.world);
        }
        panic!("{step} is not in the plan");
    }

    /// The same once the step is done.
    fn done(mut self) -> Self {
        if let Asked::Step(node, action) = &self.asked {
            predict(node, action, &self.topology, &mut self.world);
        }
        self
    }

    /// With this node as the topology's primary.
    fn wants(self, node: &str) -> Self {
        Self { topology: self.topology.with_primary(&name(node)), ..self }
    }

    fn asking(self, asked: Asked) -> Self {
        Self { asked, ..self }
    }

    fn asking_step(self, node: &str, action: Action) -> Self {
        self.asking(Asked::Step(name(node), Box::new(action)))
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn answer(&self) -> String {
        let told = |refusal: &Refusal| format!("{}: {}", refusal.code(), refusal.reason());
        match &self.asked {
            Asked::Step(node, action) => match check(node, action, &self.topology, &self.world) {
                Check::Ready => "ready".into(),
                Check::Satisfied => "satisfied".into(),
                Check::Blocked(refusal) => told(&refusal),
            },
            Asked::State => {
                let state = classify(&self.topology, &self.world);
                let why = if let PairState::Doubtful(refusal) = &state {
                    format!(", {}", told(refusal))
                } else {
                    String::new()
                };
                format!("{}{why}", state.row().id)
            }
            Asked::Plan(request) => {
                let plan = plan_with(&self.topology, &self.world, request);
                let allowed = allow::all_needed(&plan).into_iter().collect();
                let chosen = allow::select(&plan, &self.topology, &self.world, &allowed).chosen;
                let steps = chosen.iter().filter(|step| is_about_roles(&step.action)).map(|step| step.id.clone());
                let codes = plan.blocked.iter().map(|blocked| blocked.refusal.code().to_owned());
                // A full stop, so that nothing more is taken for the same.
                steps.chain(codes).collect::<Vec<_>>().join(", ") + "."
            }
        }
    }

    fn node(&mut self, node: &str) -> &mut NodeObserved {
        self.world.node_mut(&name(node))
    }

    fn own(&mut self, node: &str) -> &mut Cluster {
        self.node(node).cluster_mut().expect("it has data")
    }

    fn sql(&mut self, node: &str) -> &mut Sql {
        self.node(node).sql_mut().expect("it answers")
    }

    fn set(&mut self, node: &str, parameter: &str, value: &str) {
        let settings = &mut self.sql(node).settings;
        let like = settings["port"].clone();
        settings.insert(parameter.into(), crate::observed::Setting { value: value.into(), ..like });
    }

    fn promotion(&mut self) -> &mut Promote {
        if let Asked::Step(_, action) = &mut self.asked
            && let Action::Promote(promote) = action.as_mut()
        {
            return promote;
        }
        panic!("no promotion is asked about");
    }

    /// Its server has ended cleanly.
    fn stopped(&mut self, node: &str) {
        let action = match self.sql(node).in_recovery {
            true => Action::Stop(StopFor::Restart),
            false => Action::TakeDown,
        };
        predict(&name(node), &action, &self.topology, &mut self.world);
    }

    /// It was promoted by somebody.
    fn promoted(&mut self, node: &str) {
        let promote = Promote { from: None, parent: Timeline(1), by_force: false };
        predict(&name(node), &Action::Promote(promote), &self.topology, &mut self.world);
    }

    /// Stopped where it wrote, in a crash that left this much WAL.
    fn crashed(&mut self, node: &str, end: Option<Lsn>) {
        self.stopped(node);
        let own = self.own(node);
        (own.state, own.end) = (ControlState::InProduction, end);
    }

    /// Its server comes up as what its files say.
    fn started(&mut self, node: &str) {
        predict(&name(node), &Action::Start { role: Role::Standby }, &self.topology, &mut self.world);
    }

    /// Its server runs, and says nothing.
    fn silent(&mut self, node: &str) {
        self.node(node).server.known_mut().expect("it runs").sql = Reading::Unknown("it does not answer".into());
    }

    /// Nothing of it can be seen.
    fn away(&mut self, node: &str) {
        let seen = self.node(node);
        (seen.place, seen.server) = (Reading::Unknown("no route".into()), Reading::Unknown("no route".into()));
    }

    /// It was promoted by somebody, on its own timeline's number: what only its server says.
    fn accepts_writes(&mut self, node: &str) {
        let sql = self.sql(node);
        (sql.in_recovery, sql.receiver) = (false, None);
    }

    /// No walreceiver is left.
    fn cut_off(&mut self) {
        for node in ["b", "c"] {
            self.sql(node).receiver = None;
        }
    }

    /// The block in its files leads to nobody any more.
    fn without_conninfo(&mut self, node: &str) {
        let text = &mut self.own(node).conf.main.text;
        *text = text.lines().filter(|line| !line.starts_with("primary_conninfo")).collect::<Vec<_>>().join("\n");
    }
}
