//! Every refusal once, with placeholders for what is particular to one cluster: what a code means, in general.

use crate::observed::Identity;
use crate::observed::Lost;
use crate::observed::Room;
use crate::observed::TlsProblem;
use crate::observed::TlsTrouble;
use crate::pg::lsn::Lsn;
use crate::pg::lsn::Timeline;
use crate::plan::Refusal;
use crate::plan::pair::Writer;
use crate::topology::NodeName;

/// Returns one of each kind.
#[must_use]
pub fn examples() -> Vec<Refusal> {
    let name = NodeName::new;
    let (node, other) = (|| name("NODE"), || name("OTHER"));
    let (why, remedy) = (|| "WHY".to_owned(), || "see what the plan says of it".to_owned());
    let own = Lost { transactions: 3, last_commit: Some(1_767_225_600_000_000), rewind_from: None };
    let writer =
        |node, timeline| Box::new(Writer { node, timeline: Timeline(timeline), bytes: Some(4096), own: Some(own) });
    let (text, folder) = (str::to_owned, || "/FOLDER".to_owned());
    let (found, expected) = (|| Identity::Known(1), || Identity::Known(2));
    vec![
        Refusal::NotSupported { what: text("WHAT") },
        Refusal::OutOfReach { node: node(), why: why() },
        Refusal::NoAnswer { node: node(), why: why() },
        Refusal::TwoPrimaries { first: writer(node(), 1), second: writer(other(), 2), fork: Some(Lsn(0x300_0000)) },
        Refusal::RolesMoved { node: node(), found: text("is or does something") },
        Refusal::PrimaryMissing { primary: node(), holder: other(), holds: text("has a trace of the cluster") },
        Refusal::Unmounted { node: node(), mount_point: folder() },
        Refusal::Pinned { identifier: 1 },
        Refusal::PinDiffers { node: node(), found: found(), pinned: 2 },
        Refusal::OtherClusterRuns { node: node(), found: found(), expected: expected() },
        Refusal::ClaimsThisCluster { node: node(), found: found(), expected: expected() },
        Refusal::NotADataDir { node: node(), path: folder(), found: text("FOUND") },
        Refusal::MajorDiffers { node: node(), found: 14, expected: 15 },
        Refusal::Binaries { node: node(), why: why() },
        Refusal::WrongAccess { node: node(), why: why() },
        Refusal::NotWritable { node: node(), why: why() },
        Refusal::NoRoom { node: node(), room: Room { folder: folder(), free: 1 << 20, needed: 1 << 21, gained: 0 } },
        Refusal::TlsFile {
            node: node(),
            problem: TlsProblem { key: text("sslkey"), path: text("/KEY"), trouble: TlsTrouble::Missing },
        },
        Refusal::NotEmpty { node: node(), folder: folder() },
        Refusal::TablespaceUnmapped { node: node(), source: other(), folder: folder() },
        Refusal::TablespacesMixed { node: node(), first: text("/ONE"), second: text("/TWO"), folder: folder() },
        Refusal::WaldirDiffers { node: node(), found: text("/FOUND"), wanted: text("/WANTED") },
        Refusal::UnitRefused { node: node(), unit: text("UNIT"), why: why() },
        Refusal::PortTaken { node: node(), port: 5432, by: text("another program") },
        Refusal::OtherClustersBlock { node: node(), file: text("FILE"), cluster: text("CLUSTER") },
        Refusal::Shadowed { node: node(), name: text("PARAMETER"), by: text("PLACE"), remedy: remedy() },
        Refusal::BadConf { node: node(), problem: text("PROBLEM") },
        Refusal::FormerPrimary { node: node() },
        Refusal::PrimaryLost { from: other(), to: node(), why: text("is down, hangs or is out of reach") },
        Refusal::NotDead { node: node(), why: text("REASON") },
        Refusal::Behind { candidate: node(), other: other(), missing: 1 },
        Refusal::NoProof { old: other(), candidate: node() },
        Refusal::NotPromotable { node: node(), why: text("is delayed, paused or ends its recovery"), remedy: remedy() },
        Refusal::Diverged { node: node(), by: other(), past: Some(1) },
        Refusal::StartsFirst { from: other(), to: node() },
        Refusal::Follows { node: node(), server: text("HOST:PORT") },
        Refusal::CommitsWouldHang { primary: other(), standby: node() },
        Refusal::NotASource { node: node(), why: text("has no room for it, say"), remedy: remedy() },
        Refusal::FreshClone { node: node() },
        Refusal::LocksOut { node: node(), who: text("WHO"), rule: text("RULE"), why: why(), remedy: remedy() },
        Refusal::NotReady { why: text("what the step depends on is not there") },
        Refusal::FileChanged { node: node(), file: text("FILE") },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_an_example() {
        let source = include_str!("../refusal.rs");
        let (_, codes) = source.split_once("pub fn code(&self)").expect("the codes");
        let (codes, _) = codes.split_once("pub fn reason").expect("their end");
        let codes: Vec<&str> = codes.split('"').skip(1).step_by(2).collect();
        let examples: Vec<&str> = examples().iter().map(Refusal::code).collect();
        assert!(codes.len() > 35);
        assert_eq!(examples, codes);
    }
}
