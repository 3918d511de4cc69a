//! Items of what bears no mark of who made it: data directories, standby files, passfiles, the replication role, slots.
//!
//! `newer`: the topology is newer than its last apply in what nodes need of each other, and so are these.

use crate::observed::Passfile;
use crate::observed::Reading;
use crate::observed::ReplicationRole;
use crate::observed::Verifier;
use crate::plan::Action;
use crate::plan::Difference;
use crate::plan::Reason;
use crate::plan::Step;
use crate::plan::WantedRole;
use crate::plan::items::Class;
use crate::plan::items::Draft;
use crate::plan::items::Item;
use crate::plan::items::Why;
use crate::plan::items::of;
use crate::plan::items::text;

/// The class of what bears no mark.
fn class(newer: bool) -> Class {
    if newer { Class::Pending } else { Class::Drift }
}

impl Draft<'_> {
    pub(super) fn data_directory(&mut self, step: &Step, newer: bool) {
        let subject = "data directory".into();
        let is_new_node = step.reason == Reason::NoData;
        let now = is_new_node.then(|| "absent".to_owned());
        self.add(Item { class: class(newer && is_new_node), subject, now, ..of(step) });
    }

    pub(super) fn standby_files(&mut self, step: &Step, newer: bool) {
        let class = class(newer);
        let Reason::Differs(differences) = &step.reason else {
            let diff = step.diff.clone();
            return self.add(Item { subject: "standby files".into(), diff, ..of(step) });
        };
        for Difference { name, now, set_by, then, .. } in differences.iter().cloned() {
            self.add(Item { class, subject: name, now, set_by, wanted: then, ..of(step) });
        }
    }

    pub(super) fn passfile(&mut self, step: &Step, newer: bool) {
        let Some(cluster) = self.cluster(&step.node) else { return };
        let now = match cluster.passfile {
            Passfile::Absent => "absent",
            Passfile::Wrong => "another mode, other lines or another password",
            // Right now, and wrong after a step before; or not compared, as a cron job need not have the secret.
            Passfile::Right | Passfile::NotCompared => return,
        };
        let wanted = text("0600, with the lines that the topology asks for");
        let item = Item { subject: "passfile".into(), now: text(now), wanted, ..of(step) };
        self.add(Item { class: class(newer), ..item });
    }

    pub(super) fn replication_role(&mut self, step: &Step, wanted: &WantedRole, newer: bool) {
        let Some(cluster) = self.cluster(&step.node) else { return };
        let subject = format!("role {}", wanted.name);
        let class = class(newer);
        match &cluster.replication_role {
            // Its server is stopped, or does not let us see it.
            Reading::Unknown(_) => {}
            Reading::Absent => self.add(Item { class, subject, now: text("absent"), ..of(step) }),
            Reading::Known(role) => {
                let (now, then): (Vec<_>, Vec<_>) = differences(role, wanted).into_iter().unzip();
                if !now.is_empty() {
                    let (now, wanted) = (Some(now.join(", ")), Some(then.join(", ")));
                    let why = Why::Step(Reason::Differs(Vec::new()));
                    self.add(Item { class, subject, now, wanted, why, ..of(step) });
                }
            }
        }
    }

    pub(super) fn slot(&mut self, step: &Step, name: &str, newer: bool) {
        // Known only when the server runs.
        if self.seen(&step.node).sql().is_none() {
            return;
        }
        let there = self.cluster(&step.node).and_then(|cluster| cluster.slots.get(name));
        let is_dropped = matches!(step.action, Action::DropSlot { .. });
        let (now, wanted) = match there {
            Some(_) if is_dropped => ("feeds nobody", "absent"),
            Some(_) => ("holds back no WAL", "holds back WAL"),
            None => ("absent", "there"),
        };
        let item = Item { subject: format!("slot {name}"), now: text(now), wanted: text(wanted), ..of(step) };
        self.add(Item { class: class(newer), ..item });
    }
}

/// What of a role is not as it should be, and how it should be. A password that was not compared is no difference.
fn differences(role: &ReplicationRole, wanted: &WantedRole) -> Vec<(String, String)> {
    let mut differences = Vec::new();
    let mut differs = |now: &str, then: &str| differences.push((now.to_owned(), then.to_owned()));
    if !role.login {
        differs("NOLOGIN", "LOGIN");
    }
    if !role.replication && !role.superuser {
        differs("NOREPLICATION", "REPLICATION");
    }
    if let Some(limit) = wanted.connection_limit.filter(|limit| *limit != role.connection_limit) {
        differs(&format!("CONNECTION LIMIT {}", role.connection_limit), &format!("CONNECTION LIMIT {limit}"));
    }
    match role.verifier {
        Verifier::None if wanted.with_password => differs("no password", "the topology's password"),
        Verifier::Differs if wanted.with_password => differs("another password", "the topology's password"),
        Verifier::None | Verifier::Differs | Verifier::Matches | Verifier::NotCompared => {}
    }
    if wanted.rewind_grants && !role.rewind_grants {
        differs("no EXECUTE for pg_rewind", "EXECUTE for pg_rewind");
    }
    differences
}
