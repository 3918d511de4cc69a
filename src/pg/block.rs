//! pgpair's managed block in postgresql.conf and pg_hba.conf: its own lines, and nothing else in the file.
//!
//! ```text
//! # BEGIN pgpair CLUSTER/NODE CHECKSUM
//! port = '5433'
//! # END pgpair
//! ```
//!
//! The checksum is of the lines between, so that an edit by hand shows.

use std::fmt::Write as _;
use std::ops::Range;

use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;

const BEGIN: &str = "# BEGIN pgpair ";
const END: &str = "# END pgpair";

/// The lines that pgpair keeps in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Block {
    pub cluster: String,
    pub node: String,
    pub lines: Vec<String>,
}

impl Block {
    /// The block as it stands in the file, with its final line break.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{BEGIN}{}/{} {}\n", self.cluster, self.node, checksum(&self.lines));
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(END);
        text.push('\n');
        text
    }
}

/// Returns the first 16 hexadecimal digits of the SHA-256 of the lines.
fn checksum(lines: &[String]) -> String {
    let mut hasher = Sha256::new();
    for line in lines {
        hasher.update(line);
        hasher.update("\n");
    }
    hasher.finalize()[..8].iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string can't fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A block as it was found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub block: Block,
    /// The checksum is that of the lines: nobody edited them by hand.
    pub intact: bool,
    /// The lines of the file that it takes, markers included, from 1.
    pub lines: Range<usize>,
}

/// Markers that do not pair up: what lies between them could be anybody's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}; remove the pgpair markers and the lines between them by hand")]
pub struct Malformed {
    /// From 1.
    pub line: usize,
    pub what: &'static str,
}

/// Where a block stands in a text.
struct Located<'a> {
    cluster: &'a str,
    node: &'a str,
    checksum: &'a str,
    /// Its own lines, without the markers.
    body: &'a str,
    /// All of it, in bytes.
    span: Range<usize>,
}

/// Returns pgpair's block, if the file has one.
///
/// # Errors
///
/// [`Malformed`] where there are two of them, or a marker without its other half.
pub fn find(text: &str) -> Result<Option<Found>, Malformed> {
    let Some(Located { cluster, node, checksum: sum, body, span }) = locate(text)? else { return Ok(None) };
    let lines: Vec<String> = body.lines().map(str::to_owned).collect();
    let begin = line_of(text, span.start);
    let block = Block { cluster: cluster.to_owned(), node: node.to_owned(), lines };
    let lines = begin..begin + block.lines.len() + 2;
    Ok(Some(Found { intact: checksum(&block.lines) == sum, block, lines }))
}

/// Returns the cluster and the node that pgpair's block is of, if the file has one.
///
/// # Errors
///
/// As [`find`].
pub fn owner(text: &str) -> Result<Option<(&str, &str)>, Malformed> {
    Ok(locate(text)?.map(|found| (found.cluster, found.node)))
}

/// Finds the markers, which are whole lines. A pg_hba.conf may have thousands of others.
fn locate(text: &str) -> Result<Option<Located<'_>>, Malformed> {
    let starts_line = |at: &usize| *at == 0 || text.as_bytes()[at - 1] == b'\n';
    let at_line_starts = |marker| text.match_indices(marker).map(|(at, _)| at).filter(starts_line);
    let line_at = |at: usize| text[at..].split_once('\n').map_or(&text[at..], |(line, _)| line);
    let begins = at_line_starts(BEGIN).map(|at| (at, true));
    let ends = at_line_starts(END).filter(|at| line_at(*at).trim_end() == END).map(|at| (at, false));
    let mut markers: Vec<(usize, bool)> = begins.chain(ends).collect();
    markers.sort_unstable();
    let malformed = |at, what| Err(Malformed { line: line_of(text, at), what });
    let (begin, end) = match markers[..] {
        [] => return Ok(None),
        [(begin, true), (end, false)] => (begin, end),
        [(begin, true)] => return malformed(begin, "a block of pgpair begins and never ends"),
        [(_, true), (second, true), ..] | [(_, true), (_, false), (second, true), ..] => {
            return malformed(second, "a second block of pgpair begins");
        }
        [(end, false), ..] | [(_, true), (_, false), (end, false), ..] => {
            return malformed(end, "a block of pgpair ends that never began");
        }
    };
    let header = line_at(begin);
    let Some((cluster, node, checksum)) = read_header(&header[BEGIN.len()..]) else {
        return malformed(begin, "the first line of pgpair's block can't be read");
    };
    let body = &text[begin + header.len() + 1..end];
    let after = end + line_at(end).len();
    let line_break = usize::from(text.as_bytes().get(after) == Some(&b'\n'));
    Ok(Some(Located { cluster, node, checksum, body, span: begin..after + line_break }))
}

/// Returns the number of the line, from 1, that a byte is in.
fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn read_header(header: &str) -> Option<(&str, &str, &str)> {
    let (owner, checksum) = header.trim_end().rsplit_once(' ')?;
    let (cluster, node) = owner.rsplit_once('/')?;
    Some((cluster, node, checksum))
}

/// Returns the text with `block` as the last thing in it, in the place of the one that was there.
///
/// # Errors
///
/// As [`find`].
pub fn put_last(text: &str, block: &Block) -> Result<String, Malformed> {
    let mut result = remove(text)?;
    if !result.is_empty() && !result.ends_with('\n') {
        result.push('\n');
    }
    result.push_str(&block.text());
    Ok(result)
}

/// Returns the text with `block` before the first rule of pg_hba.conf, in the place of the one that was there.
///
/// # Errors
///
/// As [`find`].
pub fn put_before_rules(text: &str, block: &Block) -> Result<String, Malformed> {
    let rest = remove(text)?;
    let at = rest.split_inclusive('\n').take_while(|line| !is_rule(line)).map(str::len).sum();
    let (before, after) = rest.split_at(at);
    let gap = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    Ok(format!("{before}{gap}{}{after}", block.text()))
}

/// Whether pg_hba.conf has exactly this block, before any other rule.
#[must_use]
pub fn stands_before_rules(text: &str, block: &Block) -> bool {
    let Ok(Some(found)) = locate(text) else { return false };
    text[found.span.clone()] == block.text() && !text[..found.span.start].lines().any(is_rule)
}

/// Whether a line of pg_hba.conf is neither empty nor a comment.
fn is_rule(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with('#')
}

/// Returns the text with the checksum of its block made right, where the block can be told from the rest: for a text that
/// some lines were taken out of before it is shown.
#[must_use]
pub fn resealed(text: &str) -> String {
    let Ok(Some(found)) = locate(text) else { return text.to_owned() };
    let lines = found.body.lines().map(str::to_owned).collect();
    let block = Block { cluster: found.cluster.to_owned(), node: found.node.to_owned(), lines };
    [&text[..found.span.start], &block.text(), &text[found.span.end..]].concat()
}

/// Returns the text without pgpair's block.
///
/// # Errors
///
/// As [`find`].
pub fn remove(text: &str) -> Result<String, Malformed> {
    let Some(found) = locate(text)? else { return Ok(text.to_owned()) };
    Ok([&text[..found.span.start], &text[found.span.end..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn block(lines: &[&str]) -> Block {
        Block { cluster: "orders".into(), node: "a".into(), lines: lines.iter().map(|&line| line.into()).collect() }
    }

    #[test]
    fn a_block_is_found_where_it_was_put_and_an_edit_shows() {
        let text = put_last("port = 1", &block(&["port = '2'"])).expect("no block yet");
        assert_eq!(
            text,
            "port = 1\n# BEGIN pgpair orders/a 5fdf8be4d46a15d5\nport = '2'\n# END pgpair\n"
                .replace("5fdf8be4d46a15d5", &checksum(&["port = '2'".to_owned()]))
        );
        let found = find(&text).expect("well formed").expect("there");
        assert_eq!(found.block, block(&["port = '2'"]));
        assert!(found.intact);
        assert_eq!(found.lines, 2..5);
        let edited = text.replace("'2'", "'3'");
        assert!(!find(&edited).expect("well formed").expect("there").intact);
    }

    #[test]
    fn in_pg_hba_conf_the_block_stands_before_the_first_rule() {
        let text = "# head\n\nlocal all all peer\n";
        let put = put_before_rules(text, &block(&["host all all all reject"])).expect("no block yet");
        assert!(put.starts_with("# head\n\n# BEGIN pgpair"));
        assert!(put.ends_with("# END pgpair\nlocal all all peer\n"));
    }

    #[test]
    fn markers_that_do_not_pair_up_are_refused() {
        let begin = "# BEGIN pgpair orders/a 0\n";
        assert_eq!(find(begin).map_err(|e| e.line), Err(1));
        assert_eq!(find("x = 1\n# END pgpair\n").map_err(|e| e.line), Err(2));
        let two = put_last("", &block(&[])).expect("none").repeat(2);
        assert_eq!(find(&two).map_err(|e| e.line), Err(3));
        assert_eq!(find("# BEGIN pgpair nonsense\n# END pgpair\n").map_err(|e| e.line), Err(1));
    }

    proptest! {
        #[test]
        fn putting_a_block_leaves_every_other_line_as_it_was(text in "([a-z =#\r]{0,9}\n)*") {
            let block = block(&["a = '1'"]);
            for put in [put_last, put_before_rules] {
                let once = put(&text, &block).expect("no block yet");
                prop_assert_eq!(remove(&once).expect("one block"), text.clone());
                prop_assert_eq!(put(&once, &block).expect("one block"), once);
            }
        }
    }
}
