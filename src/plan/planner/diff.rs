//! The files that an action writes, before and after, as people are shown them.

use crate::observed::NodeObserved;
use crate::pg::block;
use crate::pg::passfile;
use crate::pg::secret::HIDDEN;
use crate::pg::secret::Secret;
use crate::plan::Action;
use crate::plan::Configuration;
use crate::plan::Fence;
use crate::plan::FileDiff;
use crate::plan::PassfileEntry;
use crate::plan::StandbyFiles;
use crate::plan::desired;
use crate::plan::redact;
use crate::topology::Topology;

/// Returns the files that an action writes, before and after.
pub(super) fn diff_of(topology: &Topology, seen: &NodeObserved, action: &Action) -> Vec<FileDiff> {
    let main_conf = |before: &str, after: &str| FileDiff {
        file: "postgresql.conf".into(),
        before: redact::conf_text(before, topology),
        after: redact::conf_text(after, topology),
    };
    let hba = |before: &str, after: &str| FileDiff {
        file: "pg_hba.conf".into(),
        before: redact::hba_text(before),
        after: redact::hba_text(after),
    };
    let passfile_lines = |entries: &[PassfileEntry]| {
        let lines =
            entries.iter().map(|entry| passfile::line(&entry.database, &entry.user, &Secret::new(HIDDEN.to_owned())));
        let after: String = lines.collect();
        (!after.is_empty()).then(|| FileDiff { file: desired::PASSFILE.into(), before: String::new(), after })
    };
    let standby_files = |before: Option<&String>, recovery_conf: Option<&String>| match recovery_conf {
        Some(text) => FileDiff {
            file: "recovery.conf".into(),
            before: redact::conf_text(before.map_or("", String::as_str), topology),
            after: redact::conf_text(text, topology),
        },
        None => FileDiff { file: "standby.signal".into(), before: String::new(), after: String::new() },
    };
    let cluster = seen.cluster();
    match action {
        Action::CreatePrimary(create) => {
            let files = [main_conf("", &create.conf.text()), hba("", &create.hba.text())];
            files.into_iter().chain(passfile_lines(&create.passfile)).collect()
        }
        Action::Clone(clone) => {
            let mut files = Vec::new();
            if let Configuration::OfSource { conf: conf_block, hba: hba_block, passfile } = &clone.configuration {
                files.extend([main_conf("", &conf_block.text()), hba("", &hba_block.text())]);
                files.extend(passfile_lines(passfile));
            }
            files.push(standby_files(None, clone.recovery_conf.as_ref()));
            files
        }
        Action::StandbyFiles(StandbyFiles { recovery_conf }) | Action::Fence(Fence { recovery_conf, by_force: _ }) => {
            let before = cluster.and_then(|cluster| cluster.markers.recovery_conf.as_ref());
            vec![standby_files(before, recovery_conf.as_ref())]
        }
        Action::Configure(configure) => {
            let before = cluster.map_or("", |cluster| cluster.conf.main.text.as_str());
            let main = configure
                .applied_to(before)
                .ok()
                .filter(|after| after != before)
                .map(|after| main_conf(before, &after));
            let auto = cluster.and_then(|cluster| cluster.conf.auto.as_ref()).zip(configure.reset.as_ref());
            let auto = auto.map(|(auto, reset)| FileDiff {
                file: "postgresql.auto.conf".into(),
                before: redact::conf_text(&auto.text, topology),
                after: redact::conf_text(&reset.applied_to(&auto.text), topology),
            });
            main.into_iter().chain(auto).collect()
        }
        Action::Hba { block, .. } => {
            let before = cluster.map_or("", |cluster| cluster.hba.as_str());
            let after = block::put_before_rules(before, block).ok();
            after.filter(|after| after != before).map(|after| hba(before, &after)).into_iter().collect()
        }
        Action::Passfile { entries } => passfile_lines(entries).into_iter().collect(),
        Action::Mode
        | Action::FenceOff
        | Action::TakeDown
        | Action::Rewind(_)
        | Action::Unfence
        | Action::Promote(_)
        | Action::Hook(_)
        | Action::Stop(_)
        | Action::Start { .. }
        | Action::ReplicationRole(_)
        | Action::Slot { .. }
        | Action::DropSlot { .. }
        | Action::Streaming { .. }
        | Action::RemoveOld => Vec::new(),
    }
}
