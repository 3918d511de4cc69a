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
    for (name, _) in cluster.major().dialect().control.floors {
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
            // A default is not in the file: then the value that departs from it is the cause.
            let cause = higher.filter(|_| is_default).unwrap_or(span);
            let warning = warn(report, Advice::StandbyParameterDiffers, cause, &found);
            if let Some(higher) = higher.filter(|_| !is_default) {
                warning.also(higher, "the higher value is here");
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
    let (mode, command) = ("archive_mode", "archive_command");
    // `archive_library` came with 15 and takes the command's place; before, it is unknown and so empty.
    let runs_command =
        |node: &DraftNode| !cluster.is(node, mode, "off") && cluster.value(node, "archive_library").trim().is_empty();
    for (span, nodes) in cluster.by_place(command, |node| runs_command(node) && discards(cluster.value(node, command)))
    {
        let text = nodes.first().map(|node| cluster.value(node, command).trim()).unwrap_or_default();
        warn(report, Advice::ArchiveDiscards, span, &format!("`{command}` is `{text}`{}", cluster.on(&nodes)));
    }
    let is_missing = |node: &DraftNode| runs_command(node) && cluster.value(node, command).trim().is_empty();
    for cause in [command, mode] {
        let is_cause = |node: &DraftNode| (cause == command) == cluster.setting(node, command).is_some();
        for (span, nodes) in cluster.by_place(cause, |node| is_missing(node) && is_cause(node)) {
            let found = format!("`{mode}` is on without a command{}", cluster.on(&nodes));
            warn(report, Advice::ArchiveCommandMissing, span, &found);
        }
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
