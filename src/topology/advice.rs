//! What is legal in a topology and unwise: warnings, each with an id, a reason and a remedy.
//!
//! Judges a topology that is valid, by the file alone. What the file does not say (a setting elsewhere in
//! postgresql.conf, checksums of a cluster that exists) is taken as PostgreSQL's default; `silence` is for those who
//! know better.

use std::collections::BTreeMap;

use crate::pg::guc;
use crate::pg::version::Major;
use crate::topology::Topology;
use crate::topology::diagnostic::Diagnostic;
use crate::topology::diagnostic::Report;
use crate::topology::diagnostic::Span;
use crate::topology::model::Draft;
use crate::topology::model::DraftNode;
use crate::topology::model::DraftSetting;

mod access;
mod capacity;
mod settings;
mod synchronous;

/// One kind of warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    TrustBeyondLoopback,
    NoRewind,
    ConnectionLimitTooLow,
    MaxWalSendersTooLow,
    StandbyParameterDiffers,
    SlotsWithoutWalLimit,
    SlotsNeverLimited,
    SynchronousBlocks,
    ArchiveDiscards,
    ArchiveCommandMissing,
}

impl Advice {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 10] = [
        Self::TrustBeyondLoopback,
        Self::NoRewind,
        Self::ConnectionLimitTooLow,
        Self::MaxWalSendersTooLow,
        Self::StandbyParameterDiffers,
        Self::SlotsWithoutWalLimit,
        Self::SlotsNeverLimited,
        Self::SynchronousBlocks,
        Self::ArchiveDiscards,
        Self::ArchiveCommandMissing,
    ];

    /// The name that `silence` takes. It never changes.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::TrustBeyondLoopback => "trust-beyond-loopback",
            Self::NoRewind => "no-rewind",
            Self::ConnectionLimitTooLow => "connection-limit-too-low",
            Self::MaxWalSendersTooLow => "max-wal-senders-too-low",
            Self::StandbyParameterDiffers => "standby-parameter-differs",
            Self::SlotsWithoutWalLimit => "slots-without-wal-limit",
            Self::SlotsNeverLimited => "slots-never-limited",
            Self::SynchronousBlocks => "synchronous-blocks",
            Self::ArchiveDiscards => "archive-discards",
            Self::ArchiveCommandMissing => "archive-command-missing",
        }
    }

    /// Why it is unwise: what will happen, some night.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::TrustBeyondLoopback => {
                "whoever can send from there is any role that the rule names; the replication role can copy the whole \
                 cluster"
            }
            Self::NoRewind => {
                "pg_rewind can't take a former primary back, so that after a failover it has to be cloned anew"
            }
            Self::ConnectionLimitTooLow => {
                "a clone takes two walsenders beside those of the running standbys, any node may become the primary, \
                 and minors before those of February 2025 count walsenders in a role's limit"
            }
            Self::MaxWalSendersTooLow => {
                "a clone takes two walsenders beside those of the running standbys, and any node may become the \
                 primary"
            }
            Self::StandbyParameterDiffers => {
                "a standby with a lower value than its primary's does not start or stops replaying, and a role change \
                 makes either of them the standby"
            }
            Self::SlotsWithoutWalLimit => {
                "while a standby is down, its slot keeps WAL on its upstream until the disk is full and the server \
                 stops"
            }
            Self::SlotsNeverLimited => {
                "while a standby is down, its slot keeps WAL on its upstream until the disk is full and the server \
                 stops; a limit came with PostgreSQL 13"
            }
            Self::SynchronousBlocks => "as soon as one of them is down, every commit hangs",
            Self::ArchiveDiscards => {
                "it reports success and stores nothing, so that no restore and no late standby finds its WAL"
            }
            Self::ArchiveCommandMissing => {
                "WAL that is not archived is never removed, until the disk is full and the server stops"
            }
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::TrustBeyondLoopback => "take `scram-sha-256` with a password, or `cert`",
            Self::NoRewind => {
                "set `wal_log_hints: on` and leave `full_page_writes` on; `initdb: { data_checksums: true }` serves \
                 as well, and says so of a cluster that has checksums"
            }
            Self::ConnectionLimitTooLow => "raise it to that number, or leave it out: -1 is no limit",
            Self::MaxWalSendersTooLow => "raise it to that number or more; the default is 10",
            Self::StandbyParameterDiffers => {
                "give it once, under `parameters` at the left margin of the file; to raise it, restart the standbys \
                 first"
            }
            Self::SlotsWithoutWalLimit => {
                "set `max_slot_wal_keep_size` to what the disk can spare, as in `64GB`; a standby that falls further \
                 behind has to be cloned anew"
            }
            Self::SlotsNeverLimited => {
                "watch what inactive slots keep (`pgpair status`) and drop one before the disk is full, or take \
                 `slots: false` with `wal_keep_segments`"
            }
            Self::SynchronousBlocks => {
                "lower `num` or add a standby; silence this where a commit must never be on fewer nodes"
            }
            Self::ArchiveDiscards => "give a command that stores the file",
            Self::ArchiveCommandMissing => "give `archive_command`, or `archive_mode: off`",
        }
    }
}

/// Returns what is unwise in a valid topology and not silenced, in the order of the file.
///
/// `draft` is what the topology was made of, for the places; `file` is its name, for the messages.
#[must_use]
pub fn advice(topology: &Topology, draft: &Draft, file: &str) -> Vec<Diagnostic> {
    let cluster = Cluster { topology, draft };
    let mut report = Report::on(file);
    access::trust(&cluster, &mut report);
    // The rest is about what a primary and its standbys do to each other.
    if topology.nodes.len() > 1 {
        capacity::connection_limit(&cluster, &mut report);
        capacity::max_wal_senders(&cluster, &mut report);
        settings::rewind(&cluster, &mut report);
        settings::standby_parameters(&cluster, &mut report);
        settings::slots(&cluster, &mut report);
        synchronous::blocks(&cluster, &mut report);
    }
    settings::archive(&cluster, &mut report);
    let mut found = report.into_diagnostics();
    found.retain(|warning| draft.silence.iter().all(|silenced| silenced.value.id() != warning.code));
    found
}

/// Records a warning: what was found, and why it matters.
fn warn<'r>(report: &'r mut Report<'_>, advice: Advice, span: Span, found: &str) -> &'r mut Diagnostic {
    report.warning(advice.id(), span, format!("{found}: {}", advice.reason())).help(advice.remedy())
}

/// A topology with the places of its values.
struct Cluster<'a> {
    topology: &'a Topology,
    draft: &'a Draft,
}

impl<'a> Cluster<'a> {
    fn major(&self) -> Major {
        self.topology.postgresql.version
    }

    /// A parameter of a node as the file gives it: the node's own over the common one.
    fn setting(&self, node: &'a DraftNode, name: &str) -> Option<&'a DraftSetting> {
        node.parameters.iter().chain(&self.draft.parameters).find(|parameter| parameter.name.value == name)
    }

    /// The value that a node will have, as far as the file can tell. Empty: it is unknown to this version.
    fn value(&self, node: &'a DraftNode, name: &str) -> &'a str {
        let given = self.setting(node, name).map(|setting| setting.value.value.as_str());
        given.or_else(|| guc::boot(self.major(), name)).unwrap_or_default()
    }

    /// The number of an integer parameter.
    fn number(&self, node: &'a DraftNode, name: &str) -> Option<i32> {
        guc::integer(self.major(), name, self.value(node, name))
    }

    fn is(&self, node: &'a DraftNode, name: &str, value: &str) -> bool {
        guc::same(self.major(), name, self.value(node, name), value)
    }

    /// The place of a parameter's value, or of the key that lacks it.
    fn place(&self, node: &'a DraftNode, name: &str) -> Span {
        self.setting(node, name).map_or_else(|| self.lacking(), |setting| setting.value.span)
    }

    /// The place to say that a parameter is missing.
    fn lacking(&self) -> Span {
        let section = self.draft.replication.as_ref().map(|replication| replication.span);
        self.draft.parameters_span.or(section).unwrap_or_default()
    }

    /// The nodes that `wrong` is true of, by the place of the parameter: what one value does to several is told once.
    fn by_place(&self, name: &str, wrong: impl Fn(&'a DraftNode) -> bool) -> BTreeMap<Span, Vec<&'a DraftNode>> {
        let mut places: BTreeMap<Span, Vec<&DraftNode>> = BTreeMap::new();
        for node in self.draft.nodes.iter().filter(|node| wrong(node)) {
            places.entry(self.place(node, name)).or_default().push(node);
        }
        places
    }

    /// ``on `a` and `b` ``, or nothing where all nodes are meant.
    fn on(&self, nodes: &[&DraftNode]) -> String {
        if nodes.len() == self.draft.nodes.len() { String::new() } else { format!(" on {}", listed(nodes)) }
    }
}

/// Names nodes in a sentence; of many, the first.
fn listed(nodes: &[&DraftNode]) -> String {
    let name = |node: &&DraftNode| format!("`{}`", node.name.value);
    match nodes {
        [] => String::new(),
        [one] => name(one),
        [one, other] => format!("{} and {}", name(one), name(other)),
        [first, rest @ ..] => format!("{} and {} other nodes", name(first), rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology;

    #[test]
    fn ids_are_kebab_case_and_each_is_of_one_kind() {
        let mut ids = Advice::ALL.map(Advice::id);
        for id in ids {
            assert!(id.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{id}");
        }
        ids.sort_unstable();
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_warning_is_told_at_the_value_that_causes_it_or_else_at_the_key_that_lacks_it() {
        let place = |parameters: &str| {
            let source = format!(
                "version: 1\ncluster: c\npostgresql: {{ version: 15 }}\nreplication: {{ user: r, auth: trust, slots: false }}\n\
                 {parameters}nodes:\n  a: {{ role: primary, port: 1, data_dir: /a }}\n  b: {{ role: standby, port: 2, data_dir: /b }}\n"
            );
            let (_, advice) = topology::parse_with_advice(source.as_bytes(), "t.yaml", "/").expect("valid");
            let span = advice.iter().find(|one| one.code == "no-rewind").and_then(|one| one.span).expect("a place");
            source[span.offset..span.offset + span.len].to_owned()
        };
        assert_eq!(place("parameters: { wal_log_hints: 'off' }\n"), "'off'");
        assert_eq!(place("parameters: { work_mem: 8MB }\n"), "parameters");
        assert_eq!(place(""), "replication");
    }
}
