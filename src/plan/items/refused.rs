//! Items of what blocks the plan, and of nodes that could not be looked at.

use crate::observed::Reading;
use crate::plan::Refusal;
use crate::plan::SetBy;
use crate::plan::desired;
use crate::plan::items::Class;
use crate::plan::items::Draft;
use crate::plan::items::Item;
use crate::plan::items::Why;
use crate::plan::items::bare;
use crate::plan::redact;
use crate::plan::unfenced;
use crate::topology::NodeName;

impl Draft<'_> {
    pub(super) fn refused(&mut self) {
        for blocked in &self.plan.blocked {
            let item = if let Refusal::Shadowed { node, name, .. } = &blocked.refusal {
                self.shadowed(node, name, &blocked.refusal)
            } else {
                about(blocked.node.clone(), &blocked.refusal)
            };
            self.add(item);
        }
        // Whatever the plan could do without them.
        for node in self.topology.nodes.keys() {
            let seen = self.seen(node);
            let refusal = match (&seen.place, &seen.server) {
                (Reading::Unknown(why), _) | (_, Reading::Unknown(why)) => {
                    let refusal = Refusal::OutOfReach { node: node.clone(), why: why.clone() };
                    Some(unfenced::told(refusal, self.observed))
                }
                (_, Reading::Known(server)) => {
                    let why = server.sql.unknown();
                    why.map(|why| Refusal::NoAnswer { node: node.clone(), why: why.to_owned() })
                }
                (_, Reading::Absent) => None,
            };
            let is_told = self.plan.blocked.iter().any(|blocked| blocked.node.as_ref() == Some(node));
            if let Some(refusal) = refusal.filter(|_| !is_told) {
                self.add(about(Some(node.clone()), &refusal));
            }
        }
    }

    /// A parameter that is set where the block can't win.
    fn shadowed(&self, node: &NodeName, name: &str, refusal: &Refusal) -> Item {
        let node = &self.topology.nodes[node];
        let seen = self.seen(&node.name);
        let shown = |value: &String| redact::setting(name, value, self.topology);
        let by_command_line = seen.sql().and_then(|sql| sql.settings.get(name));
        let by_command_line = by_command_line.filter(|setting| setting.source == "command line");
        let placed = seen.cluster().and_then(|cluster| cluster.conf.read().ok()?.values.remove(name));
        let (now, set_by) = match (by_command_line, &placed) {
            (Some(setting), _) => (Some(shown(&setting.value)), Some(SetBy::CommandLine)),
            (None, Some(placed)) => (Some(shown(&placed.value)), Some(SetBy::from(placed))),
            (None, None) => (None, None),
        };
        let wanted = desired::settings(self.topology, node).get(name).map(shown);
        Item { subject: name.to_owned(), now, wanted, set_by, ..about(Some(node.name.clone()), refusal) }
    }
}

fn about(node: Option<NodeName>, refusal: &Refusal) -> Item {
    let (class, why, subject) = if hides(refusal) {
        (Class::Unseen, Why::OutOfReach(refusal.clone()), "node")
    } else if matches!(refusal, Refusal::Unready { .. }) {
        // It is the topology that names another primary; what is not ready is told as that.
        (Class::Pending, Why::Refused(refusal.clone()), "role")
    } else {
        (Class::Drift, Why::Refused(refusal.clone()), subject(refusal))
    };
    bare(class, node, subject, why)
}

/// What a refusal is about; its code where it is about nothing that has another name.
fn subject(refusal: &Refusal) -> &'static str {
    if matches!(refusal, Refusal::LocksOut { .. }) {
        "pg_hba.conf"
    } else if matches!(refusal, Refusal::BadConf { .. } | Refusal::OtherClustersBlock { .. }) {
        "configuration"
    } else if matches!(refusal, Refusal::WaldirDiffers { .. }) {
        "pg_wal"
    } else {
        refusal.code()
    }
}

/// Whether a refusal says that something could not be compared at all, rather than that it differs.
fn hides(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::OutOfReach { .. } | Refusal::NoAnswer { .. } | Refusal::NotSupported { .. })
}
