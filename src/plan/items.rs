//! What of a cluster is not as its topology says: the items of `pgpair drift`.
//!
//! They are read off the plan, so that the two can't disagree: where there is no step and nothing blocked, nothing has
//! drifted. What a plan does only in the wake of something else (a start after a restart, waiting for a stream) is no
//! item. Two classes come from the observation alone: what only a role change will need, and what could not be seen.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::observed::Cluster;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::plan::Action;
use crate::plan::FileDiff;
use crate::plan::Impact;
use crate::plan::Plan;
use crate::plan::Reason;
use crate::plan::Refusal;
use crate::plan::SetBy;
use crate::plan::Step;
use crate::plan::StopFor;
use crate::plan::readiness::Finding;
use crate::topology::NodeName;
use crate::topology::Topology;

mod configuration;
mod objects;
mod readiness;
mod refused;
mod role_change;
mod unseen;

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub class: Class,
    /// Absent where it is about the whole cluster.
    pub node: Option<NodeName>,
    /// The parameter, file, role, slot, … that it is about.
    pub subject: String,
    pub now: Option<String>,
    pub wanted: Option<String>,
    /// Who wins now.
    pub set_by: Option<SetBy>,
    pub why: Why,
    /// What `apply` would do about it; absent where it can't, or need not.
    pub impact: Option<Impact>,
    pub diff: Vec<FileDiff>,
}

/// What kind of difference it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Somebody changed it behind pgpair's back.
    Drift,
    /// The topology is newer than its last apply.
    Pending,
    /// A switchover would be refused today.
    NotReady,
    /// It can't be seen from here.
    Unseen,
}

impl Class {
    /// The class, as it stands in every output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drift => "drift",
            Self::Pending => "pending",
            Self::NotReady => "not_ready",
            Self::Unseen => "unseen",
        }
    }
}

/// Why something is an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// pgpair's block was edited by hand.
    BlockEdited,
    /// The file is a copy of this node's.
    BlockOf(String),
    /// The block asks for it, and something else counts.
    BlockOverruled,
    /// The block of pg_hba.conf is no longer before the first rule.
    BlockMoved,
    /// The block does not have it, and what counts in its place is not what the topology asks for.
    NotInBlock,
    /// The block is as pgpair wrote it, for an older topology.
    TopologyNewer,
    /// Somebody has changed it in a file, and it waits for a restart.
    Waiting,
    /// As the step of the plan has it.
    Step(Reason),
    /// The plan is blocked by it.
    Refused(Refusal),
    /// The node, or its server, did not answer.
    OutOfReach(Refusal),
    /// Only a role change needs it.
    RoleChange,
    /// A check before a switchover has found it.
    Unready(Finding),
    /// It was not compared.
    NotSeen { why: String, remedy: String },
}

/// Returns what differs, the worst first and then in the order of the plan.
#[must_use]
pub fn items(topology: &Topology, observed: &Observed, plan: &Plan) -> Vec<Item> {
    let mut draft = Draft { topology, observed, plan, items: Vec::new() };
    draft.steps();
    draft.refused();
    draft.role_change();
    draft.readiness();
    draft.unseen();
    draft.items.sort_by_key(|item| item.class);
    draft.items
}

struct Draft<'a> {
    topology: &'a Topology,
    observed: &'a Observed,
    plan: &'a Plan,
    items: Vec<Item>,
}

impl<'a> Draft<'a> {
    fn steps(&mut self) {
        let newer = self.topology_is_newer();
        let mut made_anew = BTreeSet::new();
        let mut is_away = false;
        for step in &self.plan.steps {
            let node = &step.node;
            // What comes with a role change is told by the role change.
            let follows =
                self.plan.role_change.is_some() && step.primary.is_none() && step.action.as_promote().is_none();
            if made_anew.contains(node) || step.only_for.is_some() || follows {
                continue;
            }
            match &step.action {
                Action::CreatePrimary(_) | Action::Clone(_) | Action::Rewind(_) => {
                    self.data_directory(step, newer);
                    made_anew.insert(node);
                }
                Action::Configure(_) if matches!(step.reason, Reason::StandbyLeaves(_)) => is_away = true,
                Action::Configure(configure) => self.parameters(step, configure, is_away),
                Action::Hba { block, .. } => self.rules(step, block),
                Action::StandbyFiles(_) => self.standby_files(step, newer),
                Action::Passfile { .. } => self.passfile(step, newer),
                Action::ReplicationRole(wanted) => self.replication_role(step, wanted, newer),
                Action::Slot { name, .. } | Action::DropSlot { name } => self.slot(step, name, newer),
                Action::Mode => self.push(step, "mode of the data directory", Class::Drift),
                Action::RemoveOld => self.push(step, "replaced data directory", Class::Drift),
                Action::Start { role } => {
                    if self.observed.node(node).server.is_absent() {
                        let item = Item { now: text("stopped"), wanted: text(&format!("runs as {role}")), ..of(step) };
                        self.add(Item { subject: "server".into(), ..item });
                    }
                }
                Action::Fence(_) | Action::FenceOff | Action::TakeDown | Action::Unfence => {
                    self.push(step, "fence", Class::Drift)
                }
                Action::Promote(_) => self.role(step, newer),
                Action::Hook(hook) => {
                    let item = Item { now: text("owed"), wanted: text("run"), class: Class::Drift, ..of(step) };
                    self.add(Item { subject: format!("hook {}", hook.point.name()), ..item });
                }
                // A standby is stopped for a step that has an item of its own.
                Action::Stop(StopFor::Clone { .. } | StopFor::Rewind { .. } | StopFor::Restart) => {}
                Action::Streaming { upstream } => self.streaming(step, upstream),
            }
        }
    }

    fn seen(&self, node: &NodeName) -> &'a NodeObserved {
        self.observed.node(node)
    }

    fn cluster(&self, node: &NodeName) -> Option<&'a Cluster> {
        self.seen(node).cluster()
    }

    /// What a step changes is often changed by a later one of the same plan too: the first tells what is there now.
    fn add(&mut self, item: Item) {
        let same = |other: &&mut Item| other.node == item.node && other.subject == item.subject;
        match self.items.iter_mut().find(same) {
            Some(first) => first.impact = first.impact.max(item.impact),
            None => self.items.push(item),
        }
    }

    fn push(&mut self, step: &Step, subject: &str, class: Class) {
        self.add(Item { class, subject: subject.into(), ..of(step) });
    }

    /// The primary is another node, or none is.
    fn role(&mut self, step: &Step, newer: bool) {
        let runs = self.seen(&step.node).sql().is_some_and(|sql| sql.in_recovery);
        let now = if runs { "standby" } else { "stopped" };
        let class = if newer { Class::Pending } else { Class::Drift };
        self.add(Item { class, subject: "role".into(), now: text(now), wanted: text("primary"), ..of(step) });
    }

    /// A standby that receives nothing is an item; one that receives by another way is told that way by another item.
    fn streaming(&mut self, step: &Step, upstream: &NodeName) {
        let Some(sql) = self.seen(&step.node).sql() else { return };
        if self.seen(upstream).sql().is_none() {
            return;
        }
        let status = sql.receiver.as_ref().map(|receiver| receiver.status.as_str());
        let about = |item: &Item, node: &NodeName| item.node.as_ref() == Some(node);
        let is_told = self.items.iter().any(|item| about(item, &step.node) || about(item, upstream));
        if status == Some("streaming") && is_told {
            return;
        }
        let now = status.map_or_else(|| "no walreceiver".to_owned(), |status| format!("walreceiver: {status}"));
        let wanted = text(&format!("streams from {upstream}"));
        self.add(Item { subject: "replication".into(), now: Some(now), wanted, ..of(step) });
    }
}

fn text(words: &str) -> Option<String> {
    Some(words.to_owned())
}

/// An item of a step, its subject still to be named.
fn of(step: &Step) -> Item {
    let why = Why::Step(step.reason.clone());
    Item { impact: Some(step.impact), ..bare(Class::Drift, Some(step.node.clone()), "", why) }
}

/// An item of which no more is known.
fn bare(class: Class, node: Option<NodeName>, subject: &str, why: Why) -> Item {
    let subject = subject.to_owned();
    Item { class, node, subject, now: None, wanted: None, set_by: None, why, impact: None, diff: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::Passfile;
    use crate::observed::Reading;
    use crate::observed::Verifier;
    use crate::pg::block;
    use crate::plan::planner::plan;
    use crate::report::samples::healthy;
    use crate::report::samples::name;
    use crate::report::samples::pair;
    use crate::topology;

    fn found(topology: &Topology, observed: &Observed) -> Vec<Item> {
        items(topology, observed, &plan(topology, observed))
    }

    /// Class, node and subject of each.
    fn short(items: &[Item]) -> Vec<(Class, &str, &str)> {
        let node = |item: &Item| item.node.as_ref().map_or("", NodeName::as_str).to_owned();
        let with_node = items.iter().map(|item| (item.class, node(item), item.subject.as_str()));
        let static_node = |node: String| {
            if node == "a" {
                "a"
            } else if node == "b" {
                "b"
            } else {
                ""
            }
        };
        with_node.map(|(class, node, subject)| (class, static_node(node), subject)).collect()
    }

    fn edited(observed: &mut Observed, node: &str, edit: impl Fn(&str) -> String) {
        let cluster = observed.node_mut(&name(node)).cluster_mut().expect("it has data");
        cluster.conf.main.text = edit(&cluster.conf.main.text);
    }

    /// The pair with another value in its topology, or more of it.
    fn pair_with(parameters: &str, hba: &str) -> Topology {
        let yaml = format!(
            "version: 1\ncluster: orders\npostgresql: {{ version: 15 }}\n\
             replication: {{ user: repuser, auth: scram-sha-256, password: {{ env: SECRET }} }}\n\
             parameters: {{ {parameters} }}\nhba: {hba}\n\
             nodes:\n  a: {{ role: primary, port: 5433, data_dir: /srv/a }}\n  \
             b: {{ role: standby, port: 5434, data_dir: /srv/b }}\n"
        );
        topology::parse(yaml.as_bytes(), "orders.yaml", "/srv").expect("a good topology")
    }

    #[test]
    fn a_cluster_in_sync_has_no_items() {
        assert_eq!(found(&pair(), &healthy(&pair())), []);
    }

    #[test]
    fn a_value_that_the_intact_block_has_otherwise_is_pending() {
        let items = found(&pair_with("max_wal_senders: 6", "[]"), &healthy(&pair()));
        let pending = |node| (Class::Pending, node, "max_wal_senders");
        assert_eq!(short(&items), [pending("b"), pending("a")]);
        assert!(items.iter().all(|item| item.why == Why::TopologyNewer && item.wanted.as_deref() == Some("6")));
        assert_eq!(items.iter().map(|item| item.impact).max(), Some(Some(Impact::Outage)));
    }

    #[test]
    fn a_value_that_the_block_does_not_have_is_drift() {
        let items = found(&pair_with("max_wal_senders: 5, work_mem: 8MB", "[]"), &healthy(&pair()));
        assert_eq!(short(&items), [(Class::Drift, "b", "work_mem"), (Class::Drift, "a", "work_mem")]);
        assert!(items.iter().all(|item| item.why == Why::NotInBlock));
    }

    #[test]
    fn a_line_that_wins_over_the_block_is_drift_with_its_place() {
        let mut observed = healthy(&pair());
        edited(&mut observed, "a", |text| format!("{text}max_wal_senders = 9\n"));
        let items = found(&pair(), &observed);
        assert_eq!(short(&items), [(Class::Drift, "a", "max_wal_senders")]);
        assert_eq!((items[0].now.as_deref(), &items[0].why), (Some("9"), &Why::BlockOverruled));
        assert!(matches!(&items[0].set_by, Some(SetBy::Line { line, .. }) if *line > 1));
    }

    #[test]
    fn a_block_edited_by_hand_is_drift_even_where_no_value_differs() {
        for (from, to, subject) in [
            ("max_wal_senders = '5'", "max_wal_senders = '9'", "max_wal_senders"),
            ("# END", "# hi\n# END", "postgresql.conf"),
        ] {
            let mut observed = healthy(&pair());
            edited(&mut observed, "b", |text| text.replace(from, to));
            let items = found(&pair(), &observed);
            assert_eq!(short(&items), [(Class::Drift, "b", subject)]);
            assert_eq!(items[0].why, Why::BlockEdited);
        }
    }

    #[test]
    fn the_block_of_another_node_is_drift() {
        let mut observed = healthy(&pair());
        let of_a = observed.node(&name("a")).cluster().expect("it has data").hba.clone();
        observed.node_mut(&name("b")).cluster_mut().expect("it has data").hba = of_a;
        let items = found(&pair(), &observed);
        assert_eq!(short(&items), [(Class::Drift, "b", "pg_hba.conf")]);
        assert_eq!(items[0].why, Why::BlockOf("a".into()));
        assert_eq!(items[0].diff.len(), 1);
    }

    #[test]
    fn rules_are_pending_where_the_block_is_intact_and_drift_where_others_come_first() {
        let rule = "[{ type: host, database: all, user: app, address: 10.0.0.0/8, method: scram-sha-256 }]";
        let items = found(&pair_with("max_wal_senders: 5", rule), &healthy(&pair()));
        let pending = |node| (Class::Pending, node, "pg_hba.conf");
        assert_eq!(short(&items), [pending("b"), pending("a")]);

        let mut observed = healthy(&pair());
        let cluster = observed.node_mut(&name("a")).cluster_mut().expect("it has data");
        cluster.hba = format!("host all all 10.9.9.9/32 trust\n{}", cluster.hba);
        let items = found(&pair(), &observed);
        assert_eq!(short(&items), [(Class::Drift, "a", "pg_hba.conf")]);
        assert_eq!(items[0].why, Why::BlockMoved);
    }

    #[test]
    fn a_stopped_standby_is_one_item() {
        let mut observed = healthy(&pair());
        observed.node_mut(&name("b")).server = Reading::Absent;
        let primary = observed.node_mut(&name("a"));
        primary.sql_mut().expect("it runs").senders.clear();
        let slots = &mut primary.cluster_mut().expect("it has data").slots;
        slots.values_mut().for_each(|slot| slot.active = false);
        assert_eq!(short(&found(&pair(), &observed)), [(Class::Drift, "b", "server")]);
    }

    #[test]
    fn a_standby_that_receives_nothing_is_an_item_whatever_else_there_is() {
        let mut observed = healthy(&pair());
        observed.node_mut(&name("b")).sql_mut().expect("it runs").receiver = None;
        edited(&mut observed, "b", |text| format!("{text}max_wal_senders = 9\n"));
        let items = found(&pair(), &observed);
        assert!(short(&items).contains(&(Class::Drift, "b", "replication")), "{items:?}");
    }

    #[test]
    fn what_only_a_role_change_needs_is_not_ready_on_a_node_that_pgpair_did_not_make() {
        let mut observed = healthy(&pair());
        for node in ["a", "b"] {
            let cluster = observed.node_mut(&name(node)).cluster_mut().expect("it has data");
            let found = block::find(&cluster.hba).expect("well formed").expect("there");
            let from_b = found.block.lines.iter().filter(|line| line.contains("replication"));
            let lines: Vec<&str> = from_b.map(String::as_str).collect();
            // Only what the running standby needs, by hand.
            cluster.hba = if node == "a" { found.block.lines.join("\n") } else { "local all all peer\n".into() };
            assert!(!lines.is_empty());
            if node == "b" {
                cluster.slots.clear();
            }
        }
        let items = found(&pair(), &observed);
        let not_ready = |subject| (Class::NotReady, "b", subject);
        assert_eq!(short(&items), [not_ready("pg_hba.conf"), not_ready("slot pgpair_a")]);
    }

    #[test]
    fn a_primary_that_can_not_move_yet_is_one_pending_item_beside_what_is_not_ready() {
        let mut observed = healthy(&pair());
        observed.node_mut(&name("a")).readiness.unarchived = 1000;
        observed.node_mut(&name("b")).sql_mut().expect("it runs").replay_paused = true;
        let items = found(&pair().with_primary(&name("b")), &observed);
        assert_eq!(short(&items), [(Class::Pending, "b", "role"), (Class::NotReady, "a", "archive")]);
    }

    #[test]
    fn without_the_secret_its_password_is_unseen_and_named_once() {
        let mut observed = healthy(&pair());
        for node in ["a", "b"] {
            let cluster = observed.node_mut(&name(node)).cluster_mut().expect("it has data");
            cluster.passfile = Passfile::NotCompared;
            if let Reading::Known(role) = &mut cluster.replication_role {
                role.verifier = Verifier::NotCompared;
            }
        }
        let items = found(&pair(), &observed);
        assert_eq!(short(&items), [(Class::Unseen, "", "replication password")]);
    }

    #[test]
    fn a_role_that_may_not_be_seen_is_unseen_with_the_grant() {
        let mut observed = healthy(&pair());
        let cluster = observed.node_mut(&name("a")).cluster_mut().expect("it has data");
        cluster.replication_role = Reading::Unknown("the password of `repuser` is for superusers to see".into());
        let items = found(&pair(), &observed);
        assert_eq!(short(&items), [(Class::Unseen, "a", "role repuser")]);
        assert!(matches!(&items[0].why, Why::NotSeen { remedy, .. } if remedy.contains("pg_authid")));
    }

    #[test]
    fn a_node_out_of_reach_is_unseen_and_no_drift() {
        let mut observed = healthy(&pair());
        let seen = observed.node_mut(&name("b"));
        seen.place = Reading::Unknown("permission denied".into());
        seen.server = Reading::Unknown("permission denied".into());
        let items = found(&pair(), &observed);
        assert_eq!(short(&items), [(Class::Unseen, "b", "node")]);
        assert!(matches!(&items[0].why, Why::OutOfReach(_)));
    }
}
