//! The stop of the old primary: what it would wait for, what would be lost with it, and what it would break.

use crate::observed::Sender;
use crate::observed::Slot;
use crate::plan::readiness::Change;
use crate::plan::readiness::Finding;
use crate::plan::readiness::ReadinessCheck;
use crate::plan::readiness::recovery::LONG;
use crate::topology::Node;

/// WAL files that may wait for the archiver: 512 MB of those of the usual size, which most archives take in a few seconds.
/// The stopped server comes back as a standby only when they are archived.
pub(super) const MOST_UNARCHIVED: u32 = 32;

impl Change<'_> {
    pub(super) fn foreign_walsenders(&self) -> Vec<Finding> {
        let Some(sql) = self.sql(self.primary) else { return Vec::new() };
        let is_backups = |sender: &Sender| {
            sql.senders.iter().any(|other| is_backup(other) && other.application_name == sender.application_name)
        };
        let mut foreign: Vec<&Sender> = sql.senders.iter().filter(|sender| !self.is_of_a_node(sender)).collect();
        foreign.retain(|sender| !is_backups(sender) && self.logical_slot(sender.slot.as_ref()).is_none());
        // A standby that does not say its name goes by one that others may have as well.
        for node in self.topology.standbys() {
            let name = self.sql(node).and_then(|sql| sql.receiver.as_ref()?.application_name.as_ref());
            if let Some(at) = foreign.iter().position(|sender| name == Some(&sender.application_name)) {
                foreign.remove(at);
            }
        }
        let finding = |sender: &&Sender| {
            let from = sender.client_addr.as_deref().unwrap_or("its own machine");
            let name = &sender.application_name;
            let why = format!("feeds `{name}` on {from}, which is no node of the topology");
            let remedy = format!("stop `{name}` for the time of the switchover, or let it be a node of the topology");
            ReadinessCheck::ForeignWalsenders.finding(self.primary, why, remedy).about(format!("walsender `{name}`"))
        };
        foreign.iter().map(finding).collect()
    }

    fn is_of_a_node(&self, sender: &Sender) -> bool {
        let nodes = || self.topology.nodes.values();
        let slot = sender.slot.as_ref();
        nodes().any(|node| sender.is_of(&node.name)) || nodes().any(|node| slot == Some(&node.slot_name()))
    }

    /// A logical slot of the primary, if that is what has this name.
    fn logical_slot(&self, name: Option<&String>) -> Option<&Slot> {
        self.cluster(self.primary)?.slots.get(name?).filter(|slot| !slot.physical)
    }

    /// One that the candidate has as well is kept in step there (17 and later), and does no harm unless it is in use.
    pub(super) fn logical_slots(&self) -> Vec<Finding> {
        let Some(own) = self.cluster(self.primary) else { return Vec::new() };
        let (primary, candidate) = (&self.primary.name, &self.candidate.name);
        let is_there = |name: &String| {
            self.cluster(self.candidate).is_some_and(|own| own.slots.get(name).is_some_and(|slot| !slot.physical))
        };
        let findings = own.slots.iter().filter(|(_, slot)| !slot.physical).filter_map(|(name, slot)| {
            let why = match (slot.active, is_there(name)) {
                (true, true) => format!("has the logical slot {name} in use, whose reader its stop would wait for"),
                (true, false) => format!("has the logical slot {name} in use, which {candidate} does not have"),
                (false, true) => return None,
                (false, false) => format!("has the logical slot {name}, which {candidate} does not have"),
            };
            let remedy = format!("end its subscription and drop the slot on {primary}, to make it anew on {candidate}");
            Some(ReadinessCheck::LogicalSlots.finding(self.primary, why, remedy).about(format!("slot {name}")))
        });
        findings.collect()
    }

    pub(super) fn archive(&self) -> Vec<Finding> {
        let waiting = self.seen(self.primary).readiness.unarchived;
        let failed = self.sql(self.primary).and_then(|sql| sql.busy.unarchivable.as_ref());
        let (why, remedy) = if let Some(file) = failed {
            (format!("could not archive {file}"), "see its log, and mend archive_command or what it needs")
        } else if waiting > MOST_UNARCHIVED {
            let why = format!("has {waiting} WAL files waiting to be archived, and {MOST_UNARCHIVED} are allowed");
            (why, "wait until the archiver has caught up, or see why it does not")
        } else {
            return Vec::new();
        };
        vec![ReadinessCheck::Archive.finding(self.primary, why, remedy)]
    }

    pub(super) fn prepared_transactions(&self) -> Vec<Finding> {
        let oldest = self.sql(self.primary).and_then(|sql| sql.busy.prepared.as_ref());
        let Some(oldest) = oldest.filter(|oldest| oldest.seconds >= LONG) else { return Vec::new() };
        let why = format!("has the prepared transaction `{}` since {} s", oldest.what, oldest.seconds);
        let remedy = "let whoever prepared it end it, or `COMMIT PREPARED` or `ROLLBACK PREPARED` it by hand";
        vec![ReadinessCheck::PreparedTransactions.finding(self.primary, why, remedy)]
    }

    pub(super) fn base_backup(&self) -> Vec<Finding> {
        let is_copied = |node: &&Node| self.sql(node).is_some_and(|sql| sql.senders.iter().any(is_backup));
        let finding = |node: &Node| {
            let remedy = "wait until it is done, or end it";
            ReadinessCheck::BaseBackup.finding(node, "is being copied by a base backup", remedy)
        };
        [self.primary, self.candidate].into_iter().filter(is_copied).map(finding).collect()
    }

    pub(super) fn exclusive_backup(&self) -> Vec<Finding> {
        let is_in_one = self.sql(self.primary).is_some_and(|sql| !sql.in_recovery)
            && self.cluster(self.primary).is_some_and(|own| own.markers.backup_label);
        let finding = || {
            let why = "has a backup_label while it runs: an exclusive backup was begun";
            let remedy = format!("let the backup end, or `SELECT pg_stop_backup()` on {}", self.primary.name);
            ReadinessCheck::ExclusiveBackup.finding(self.primary, why, remedy)
        };
        is_in_one.then(finding).into_iter().collect()
    }
}

fn is_backup(sender: &Sender) -> bool {
    sender.state == "backup"
}
