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

/// Returns pgpair's block, if the file has one.
///
/// # Errors
///
/// [`Malformed`] where there are two of them, or a marker without its other half.
pub fn find(text: &str) -> Result<Option<Found>, Malformed> {
    let mut found: Option<Found> = None;
    let mut open: Option<(usize, &str, Vec<String>)> = None;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let malformed = |what| Err(Malformed { line: number, what });
        if let Some(header) = line.strip_prefix(BEGIN) {
            if open.is_some() || found.is_some() {
                return malformed("a second block of pgpair begins");
            }
            open = Some((number, header, Vec::new()));
        } else if line.trim_end() == END {
            let Some((begin, header, lines)) = open.take() else {
                return malformed("a block of pgpair ends that never began");
            };
            let Some((cluster, node, sum)) = read_header(header) else {
                return Err(Malformed { line: begin, what: "the first line of pgpair's block can't be read" });
            };
            let intact = checksum(&lines) == sum;
            let block = Block { cluster: cluster.to_owned(), node: node.to_owned(), lines };
            found = Some(Found { block, intact, lines: begin..number + 1 });
        } else if let Some((_, _, lines)) = &mut open {
            lines.push(line.to_owned());
        }
    }
    match open {
        Some((line, _, _)) => Err(Malformed { line, what: "a block of pgpair begins and never ends" }),
        None => Ok(found),
    }
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
    let is_rule = |line: &str| !line.trim_start().is_empty() && !line.trim_start().starts_with('#');
    let at = rest.split_inclusive('\n').take_while(|line| !is_rule(line)).map(str::len).sum();
    let (before, after) = rest.split_at(at);
    let gap = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    Ok(format!("{before}{gap}{}{after}", block.text()))
}

/// Returns the text without pgpair's block.
///
/// # Errors
///
/// As [`find`].
pub fn remove(text: &str) -> Result<String, Malformed> {
    let Some(found) = find(text)? else { return Ok(text.to_owned()) };
    let lines = text.split_inclusive('\n').enumerate();
    Ok(lines.filter(|(index, _)| !found.lines.contains(&(index + 1))).map(|(_, line)| line).collect())
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
