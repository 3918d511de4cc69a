//! Timeline history files (`pg_wal/00000003.history`): which timelines a cluster came through, and where it left each.
//!
//! ```text
//! 1<TAB>0/302AA58<TAB>no recovery target specified
//! ```
//!
//! One line an ancestor, oldest first. What follows the LSN is for people, and neither the server nor pgpair reads it.

use serde::Deserialize;
use serde::Serialize;

use crate::pg::lsn::Lsn;
use crate::pg::lsn::Timeline;

/// The ancestors of a timeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Oldest first.
    pub branches: Vec<Branch>,
}

/// An ancestor, as far as it belongs to the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    pub timeline: Timeline,
    /// Where the next timeline begins.
    pub end: Lsn,
}

/// Returns where a cluster with these ancestors left this timeline; `None` if it never was on it.
#[must_use]
pub fn fork_of(branches: &[Branch], timeline: Timeline) -> Option<Lsn> {
    branches.iter().find(|branch| branch.timeline == timeline).map(|branch| branch.end)
}

/// Returns where each timeline begins of which that is known: those that have an ancestor, with the newest one.
pub fn beginnings(branches: &[Branch], newest: Option<Timeline>) -> impl Iterator<Item = (Timeline, Lsn)> {
    let timelines = branches.iter().skip(1).map(|branch| branch.timeline).chain(newest);
    timelines.zip(branches.iter().map(|branch| branch.end))
}

/// A history file that the server would refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the timeline history: {what}")]
pub struct BadHistory {
    /// From 1.
    pub line: usize,
    pub what: &'static str,
}

/// Reads a history file.
///
/// # Errors
///
/// The first line that is no ancestor, or not a later one than the line before.
pub fn parse(text: &str) -> Result<History, BadHistory> {
    let mut history = History::default();
    for (index, line) in text.split('\n').enumerate() {
        let bad = |what| BadHistory { line: index + 1, what };
        let mut words = line.split_ascii_whitespace();
        let Some(timeline) = words.next().filter(|word| !word.starts_with('#')) else { continue };
        let timeline = timeline.parse().map_err(|_| bad("it does not begin with a timeline"))?;
        let end = words.next().and_then(|word| word.parse().ok()).ok_or_else(|| bad("no LSN follows the timeline"))?;
        // There is no timeline 0.
        let last = history.branches.last().map_or(0, |branch| branch.timeline.0);
        if timeline <= last {
            return Err(bad("the timelines do not increase"));
        }
        history.branches.push(Branch { timeline: Timeline(timeline), end });
    }
    Ok(history)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn branch(timeline: u32, end: u64) -> Branch {
        Branch { timeline: Timeline(timeline), end: Lsn(end) }
    }

    #[test]
    fn the_ancestors_are_read_past_comments_and_blank_lines() {
        let text = "# by hand\n\n1\t0/302AA58\tno recovery target specified\n \t\n\
                    3\t1/5000000\tbefore 2026-01-01 00:00:00+00\r\n4\t1/5000000";
        let history = parse(text).expect("a good file");
        assert_eq!(history.branches, [branch(1, 0x0302_AA58), branch(3, 0x1_0500_0000), branch(4, 0x1_0500_0000)]);
    }

    #[test]
    fn a_timeline_that_is_no_ancestor_has_no_fork() {
        let history = parse("1\t0/3000000\tx\n3\t0/4000000\ty\n").expect("a good file");
        assert_eq!(fork_of(&history.branches, Timeline(1)), Some(Lsn(0x0300_0000)));
        assert_eq!(fork_of(&history.branches, Timeline(3)), Some(Lsn(0x0400_0000)));
        assert_eq!(fork_of(&history.branches, Timeline(2)), None);
        assert_eq!(parse("").map(|history| fork_of(&history.branches, Timeline(1))), Ok(None));
    }

    #[test]
    fn a_line_that_the_server_would_refuse_is_named() {
        let good = "1\t0/3000000\tx\n";
        for bad in ["x\t0/1", "-1\t0/1", "2", "2\t\t", "2\t3000000", "1\t0/4000000", "0\t0/1", "4294967296\t0/1"] {
            let said = parse(&format!("{good}\n{bad}\n")).map_err(|bad| bad.line);
            assert_eq!(said, Err(3), "{bad}");
        }
        assert_eq!(parse("0\t0/1\n").map_err(|bad| bad.line), Err(1));
    }

    proptest! {
        #[test]
        fn what_a_server_writes_is_read_back(ends in proptest::collection::btree_map(1u32.., any::<u64>(), 0..5)) {
            let branches: Vec<_> = ends.into_iter().map(|(timeline, end)| branch(timeline, end)).collect();
            let lines = branches.iter().map(|branch| format!("{}\t{}\twhy not\n", branch.timeline, branch.end));
            prop_assert_eq!(parse(&lines.collect::<String>()), Ok(History { branches }));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text: String) {
            let _ = parse(&text);
        }
    }
}
