//! What a server holds for its standbys: the replication role and the slots.

use crate::observed::Reading;
use crate::observed::ReplicationRole;
use crate::observed::Verifier;
use crate::plan::WantedRole;
use crate::plan::check::At;
use crate::plan::check::Verdict;
use crate::plan::check::feeds::number;

impl At<'_> {
    pub(super) fn replication_role(&self, wanted: &WantedRole) -> Verdict {
        let done = match &self.cluster()?.replication_role {
            Reading::Known(role) => role_is_as(role, wanted),
            Reading::Absent | Reading::Unknown(_) => false,
        };
        if !done {
            self.writes()?;
        }
        Ok(done)
    }

    pub(super) fn slot(&self, name: &str, reserve: bool) -> Verdict {
        let cluster = self.cluster()?;
        let sql = self.sql()?;
        match cluster.slots.get(name) {
            None => match number(sql, "max_replication_slots").filter(|most| cluster.slots.len() >= *most) {
                Some(most) => {
                    let remedy =
                        format!("raise max_replication_slots of {}, or drop slots that feed nobody", self.node.name);
                    Err(self.not_ready_until(&format!("has all {most} replication slots in use"), remedy))
                }
                None => Ok(false),
            },
            Some(slot) if !slot.physical => {
                let why = format!("has a logical slot {name}, and a physical one is needed");
                Err(self.not_ready_until(&why, "name another slot with the standby's `slot`, or drop that one by hand"))
            }
            Some(slot) => Ok(!reserve || slot.reserved || slot.active),
        }
    }

    pub(super) fn drop_slot(&self, name: &str) -> Verdict {
        let cluster = self.cluster()?;
        self.sql()?;
        match cluster.slots.get(name) {
            None => Ok(true),
            Some(slot) if slot.active => {
                let remedy = "stop what streams through it, or let it go on; then plan again";
                Err(self.not_ready_until(&format!("has slot {name} in use"), remedy))
            }
            Some(_) => Ok(false),
        }
    }
}

pub(super) fn can_replicate(role: &ReplicationRole) -> bool {
    role.login && (role.replication || role.superuser)
}

/// Whether the replication role is as it should be.
#[must_use]
fn role_is_as(role: &ReplicationRole, wanted: &WantedRole) -> bool {
    let password = match role.verifier {
        Verifier::Matches => true,
        Verifier::None | Verifier::Differs | Verifier::NotCompared => !wanted.with_password,
    };
    can_replicate(role)
        && wanted.connection_limit.is_none_or(|limit| role.connection_limit == limit)
        && password
        && (role.rewind_grants || !wanted.rewind_grants)
}
