//! Markdown for a comment on a pull request: below the length that forges take, whatever there is to say.
//!
//! What is worst stands first, and what does not fit is counted. Text from files and servers is inert here, see
//! [`escape`]: it can't close a `<details>`, begin a table cell or mention somebody.

use crate::report::json::ApplyReport;
use crate::report::markdown::escape::code;
use crate::report::markdown::escape::fence;
use crate::report::text;
use crate::report::words::count;
use crate::topology::NodeName;

mod drift;
mod escape;
mod picture;
mod plan;
mod status;
#[cfg(test)]
mod tests;

pub use drift::drift;
pub use plan::plan;
pub use status::status;

/// What a comment of GitHub holds. Counted in bytes here, which are never fewer than characters.
pub const LIMIT: usize = 65_536;

/// What we fill of it: the rest is for a line that a workflow adds.
const ROOM: usize = LIMIT - 1_536;

/// How many names are listed before the rest is counted.
const MOST_NAMES: usize = 12;

/// Wraps what has no Markdown of its own.
#[must_use]
pub fn plain(text: &str) -> String {
    fence("text", &cut(anstream::adapter::strip_str(text).to_string().trim_end(), ROOM))
}

/// Renders what became of an apply, with its plan.
#[must_use]
pub fn applied(report: &ApplyReport) -> String {
    let outcome = plain(&text::apply(report));
    let room = ROOM.saturating_sub(outcome.len());
    format!("{}\n{outcome}", plan::within(&report.plan, &report.file, room))
}

/// Renders why a command failed. No cluster is known, so that no comment is found by it.
#[must_use]
pub fn failed(text: &str) -> String {
    format!("### pgpair failed\n\n{}", plain(text))
}

/// The line by which a workflow finds its comment again.
fn marker(cluster: &str) -> String {
    format!("<!-- pgpair:{cluster} -->\n")
}

/// Names of nodes, the first of many.
fn list(nodes: &[NodeName]) -> String {
    let mut names: Vec<String> = nodes.iter().take(MOST_NAMES).map(|node| code(node.as_str())).collect();
    if nodes.len() > MOST_NAMES {
        names.push(format!("{} more", nodes.len() - MOST_NAMES));
    }
    names.join(", ")
}

/// Keeps the first lines of a text that is longer than `room`, and says how many are left out.
fn cut(text: &str, room: usize) -> String {
    if text.len() <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut lines = text.lines();
    for line in lines.by_ref() {
        if kept.len() + line.len() + 1 > room {
            let left_out = 1 + lines.count();
            kept.push_str(&format!("… {} not shown", count(left_out, "line")));
            break;
        }
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

/// Parts that follow one another until the room is used up.
struct Comment {
    text: String,
    room: usize,
}

impl Comment {
    fn new(room: usize) -> Self {
        Self { text: String::new(), room }
    }

    fn left(&self) -> usize {
        self.room.saturating_sub(self.text.len())
    }

    /// Adds a part whole, or not at all.
    fn add(&mut self, part: &str) -> bool {
        let fits = part.len() <= self.left();
        if fits {
            self.text.push_str(part);
        }
        fits
    }

    /// Adds as many parts as fit, and counts the others.
    fn add_all(&mut self, parts: impl IntoIterator<Item = String>, noun: &str) {
        // Room for the count itself.
        const COUNTED: usize = 80;
        let mut left_out = 0;
        for part in parts {
            if left_out > 0 || part.len() + COUNTED > self.left() {
                left_out += 1;
            } else {
                self.text.push_str(&part);
            }
        }
        if left_out > 0 {
            self.text.push_str(&format!("\n*{} more not shown.*\n", count(left_out, noun)));
        }
    }
}
