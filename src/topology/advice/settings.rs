//! Parameters that do no harm until a node fails: rewind, slots, the archive, and what must be alike on all nodes.

use crate::pg::guc;
use crate::topology::InitdbOption;
use crate::topology::advice::Advice;
use crate::topology::advice::Cluster;
use crate::topology::advice::listed;
use crate::topology::advice::warn;
use crate::topology::diagnostic::Report;
use crate::topology::model::DraftNode;

/// pg_rewind needs to know which pages changed (checksums or `wal_log_hints`), and whole pages in the WAL.
pub(super) fn rewind(cluster: &Cluster<'_>, report: &mut Report<'_>) {
    let name = "wal_log_hints";
    let places = cluster.by_place(name, |node| !has_checksums(cluster) && !cluster.is(node, name, "on"));
    for (span, nodes) in places {
        let found = format!("there are neither checksums nor `{name}`{}", cluster.on(&nodes));
        warn(report, Advice::NoRewind, span, &found);
    }
    let name = "full_page_writes";
    for (span, nodes) in cluster.by_place(name, |node| !cluster.is(node, name, "on")) {
        warn(report, Advice::NoRewind, span, &format!("`{name}` is off{}", cluster.on(&nodes)));
    }
}

/// Whether initdb makes data checksums, as far as the topology says.
fn has_checksums(cluster: &Cluster<'_>) -> bool {
    let initdb = &cluster.topology.postgresql.initdb;
    let is = |option, on| initdb.get(option) == Some(&InitdbOption::Switch(on));
    let by_default = cluster.major().dialect().checksums_by_default;
    is("data-checksums", true) || (by_default && !is("data-checksums", false) && !is("no-data-checksums", true))
}

/// A standby has room for what its primary's WAL may hold (PostgreSQL's "hot standby parameters").
pub(super) fn standby_parameters(cluster: &Cluster<'_>, report: &mut Report<'_>) {
    let always = ["max_connections", "max_worker_processes", "max_prepared_transactions", "max_locks_per_transaction"];
    let senders = cluster.major().dialect().wal_senders_limited_by_primary.then_some("max_wal_senders");
    for name in always.into_iter().chain(senders) {
        let number = |node: &DraftNode| cluster.number(node, name);
        // Of several with the highest, the first.
        let Some(highest) = cluster.draft.nodes.iter().rev().max_by_key(|node| number(node)) else { continue };
        let higher = cluster.setting(highest, name).map(|setting| setting.value.span);
        for (span, nodes) in cluster.by_place(name, |node| number(node) < number(highest)) {
            let lower = nodes.first().map(|node| cluster.value(node, name)).unwrap_or_default();
            let is_default = nodes.iter().all(|node| cluster.setting(node, name).is_none());
            let found = format!(
                "`{name}` is {lower} on {} and {} on `{}`",
                listed(&nodes),
                cluster.value(highest, name),
                highest.name.value
            );
            match higher {
                Some(higher) if is_default => {
                    warn(report, Advice::StandbyParameterDiffers, higher, &found);
                }
                Some(higher) => {
                    warn(report, Advice::StandbyParameterDiffers, span, &found)
                        .also(higher, "the higher value is here");
                }
                None => {
                    warn(report, Advice::StandbyParameterDiffers, span, &found);
                }
            }
        }
    }
}

pub(super) fn slots(cluster: &Cluster<'_>, report: &mut Report<'_>) {
    let Some(replication) = cluster.draft.replication.as_ref().filter(|_| cluster.topology.replication.slots) else {
        return;
    };
    let name = "max_slot_wal_keep_size";
    if guc::known(cluster.major(), name).is_err() {
        let span = replication.slots.as_ref().map_or(replication.span, |slots| slots.span);
        let found = format!("on PostgreSQL {} nothing limits what slots keep", cluster.major());
        warn(report, Advice::SlotsNeverLimited, span, &found);
        return;
    }
    // -1 is no limit.
    for (span, nodes) in cluster.by_place(name, |node| cluster.number(node, name).is_some_and(|size| size < 0)) {
        let found = format!("`{name}` does not limit what slots keep{}", cluster.on(&nodes));
        warn(report, Advice::SlotsWithoutWalLimit, span, &found);
    }
}

pub(super) fn archive(cluster: &Cluster<'_>, report: &mut Report<'_>) {
    let name = "archive_command";
    let archives = |node: &&DraftNode| !cluster.is(node, "archive_mode", "off");
    let command = |node: &DraftNode| cluster.value(node, name).trim().to_owned();
    for (span, nodes) in cluster.by_place(name, |node| archives(&node) && discards(&command(node))) {
        let text = nodes.first().map(|node| command(node)).unwrap_or_default();
        warn(report, Advice::ArchiveDiscards, span, &format!("`{name}` is `{text}`{}", cluster.on(&nodes)));
    }
    // `archive_library` came with 15; where it is unknown, it is empty.
    let lacks = |node: &&DraftNode| command(node).is_empty() && cluster.value(node, "archive_library").is_empty();
    for (span, nodes) in cluster.by_place("archive_mode", |node| archives(&node) && lacks(&node)) {
        let found = format!("`archive_mode` is on without a command{}", cluster.on(&nodes));
        warn(report, Advice::ArchiveCommandMissing, span, &found);
    }
}

/// Whether the shell command certainly does nothing, and says that it succeeded.
fn discards(command: &str) -> bool {
    let words: Vec<&str> = command.trim_end_matches(';').split_whitespace().collect();
    matches!(
        words.as_slice(),
        ["true" | "/bin/true" | "/usr/bin/true" | ":" | "cd"] | ["cd", "." | "./"] | ["exit", "0"]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_does_nothing_is_told_from_one_that_may() {
        for command in ["cd ./", " cd  . ", "cd .;", "true", "/bin/true", ":", "exit 0"] {
            assert!(discards(command), "{command}");
        }
        for command in
            ["", "exit 1", "cd /archive && cp %p .", "cp %p /archive/%f", "true && cp %p /archive/%f", "cd .."]
        {
            assert!(!discards(command), "{command}");
        }
    }
}
