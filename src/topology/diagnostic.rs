//! What is wrong with a topology file, where, and what to do: plain data, for any rendering.

use std::fmt;

use crate::pg::secret::HIDDEN;
use crate::topology::spans;
use crate::topology::spans::Yaml;

/// A place in a topology file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Bytes from the beginning of the file.
    pub offset: usize,
    /// Length in bytes; 0 for a place between characters.
    pub len: usize,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
}

/// How much a diagnostic matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file can't be used.
    Error,
    /// The file is used as it is, and something in it is unwise.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One thing that is wrong with a topology file, or unwise in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// What kind of mistake it is, for programs; of a warning, the id that `silence` takes.
    pub code: &'static str,
    pub message: String,
    /// The remedy.
    pub help: Option<String>,
    pub file: String,
    /// Absent where the file as a whole is meant.
    pub span: Option<Span>,
    /// Further places, with what is to be seen there.
    pub related: Vec<(Span, String)>,
}

impl Diagnostic {
    /// Adds the remedy.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Hides a secret where it is quoted.
    pub fn hide(&mut self, secret: &str) {
        let quoted = format!("`{secret}`");
        for text in std::iter::once(&mut self.message).chain(&mut self.help) {
            *text = text.replace(&quoted, HIDDEN);
        }
    }

    /// Adds another place.
    pub fn also(&mut self, span: Span, label: impl Into<String>) -> &mut Self {
        self.related.push((span, label.into()));
        self
    }
}

/// Plain text: `file:line:column: message`, then the other places and the remedy, indented. A warning's id follows
/// its message.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(Span { line, column, .. }) = self.span {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)?;
        match self.severity {
            Severity::Error => {}
            Severity::Warning => write!(f, " [{}]", self.code)?,
        }
        for (Span { line, column, .. }, label) in &self.related {
            write!(f, "\n  {line}:{column}: {label}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

/// Collects everything that is wrong with one file, so that all of it is told at once.
#[derive(Debug)]
pub struct Report<'f> {
    file: &'f str,
    found: Vec<Diagnostic>,
}

impl<'f> Report<'f> {
    /// Begins the report on `file`, a name for the messages.
    #[must_use]
    pub fn on(file: &'f str) -> Self {
        Self { file, found: Vec::new() }
    }

    /// Records an error at a place; what is returned takes the remedy and further places.
    pub fn error(&mut self, code: &'static str, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Error, code, Some(span), message.into())
    }

    /// Records a warning at a place.
    pub fn warning(&mut self, code: &'static str, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Warning, code, Some(span), message.into())
    }

    /// Records an error of which one example is enough, and returns that example.
    pub fn first(&mut self, code: &'static str, span: Span, message: &str) -> &mut Diagnostic {
        match self.found.iter().position(|diagnostic| diagnostic.code == code) {
            Some(index) => &mut self.found[index],
            None => self.error(code, span, message),
        }
    }

    /// Records an error of the file as a whole.
    pub fn file_error(&mut self, code: &'static str, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Error, code, None, message.into())
    }

    fn push(&mut self, severity: Severity, code: &'static str, span: Option<Span>, message: String) -> &mut Diagnostic {
        self.found.push(Diagnostic {
            severity,
            code,
            message,
            help: None,
            file: self.file.to_owned(),
            span,
            related: Vec::new(),
        });
        let last = self.found.len() - 1;
        &mut self.found[last]
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Returns all of it in the order of the file. A value of `node_defaults` is judged for every node and told once.
    #[must_use]
    pub fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|diagnostic| diagnostic.span.map(|span| span.offset));
        self.found.dedup();
        self.found
    }
}

/// Whether what stands under a key of this name may be a secret, and is never to be repeated.
#[must_use]
pub fn may_be_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["passw", "secret", "passphrase", "conninfo"].iter().any(|word| key.contains(word))
}

/// Returns the text of a topology file as it may be shown beside a diagnostic: whatever may be a literal secret is
/// covered, byte for byte, so that places stay right.
#[must_use]
pub fn without_secrets(source: &str) -> String {
    let mut shown = without_secret_lines(source);
    let tree = spans::read(source.as_bytes(), &mut Report::on(""));
    for Span { offset, len, .. } in tree.iter().flat_map(Yaml::secrets).map(|yaml| yaml.span) {
        let place = offset..offset + len;
        let mut covered = String::with_capacity(len);
        cover(&source[place.clone()], &mut covered);
        shown.replace_range(place, &covered);
    }
    shown
}

/// Covers by the look of the lines: a file with a mistake in it may be no YAML.
fn without_secret_lines(source: &str) -> String {
    let mut shown = String::with_capacity(source.len());
    // What stands deeper than a key of a secret belongs to it.
    let mut secret_above: Option<usize> = None;
    for line in source.split_inclusive('\n') {
        let indentation = line.len() - line.trim_start().len();
        if secret_above.is_some_and(|above| indentation > above) {
            cover(line, &mut shown);
            continue;
        }
        if !line.trim().is_empty() {
            secret_above = None;
        }
        let secret_from = line.char_indices().filter(|(_, c)| matches!(c, ':' | '=')).find_map(|(at, _)| {
            let word =
                line[..at].rsplit(|c: char| c.is_whitespace() || "{,'\"=:".contains(c)).find(|word| !word.is_empty());
            word.filter(|word| may_be_secret(word)).map(|_| at + 1)
        });
        let Some(at) = secret_from else {
            shown.push_str(line);
            continue;
        };
        secret_above = Some(indentation);
        let value = line[at..].trim_start().trim_start_matches(['{', ' ']);
        let is_reference = ["env:", "file:", "command:"].iter().any(|source| value.starts_with(source));
        shown.push_str(&line[..at]);
        if is_reference {
            shown.push_str(&line[at..]);
        } else {
            cover(&line[at..], &mut shown);
        }
    }
    shown
}

fn cover(text: &str, shown: &mut String) {
    for c in text.chars() {
        if c.is_whitespace() { shown.push(c) } else { shown.extend(std::iter::repeat_n('*', c.len_utf8())) }
    }
}

/// Returns the candidate that `word` most likely was meant to be.
pub fn closest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word = word.to_lowercase().replace('-', "_");
    let limit = (word.chars().count() / 3).clamp(1, 3);
    let distance = |candidate: &str| {
        let candidate = candidate.replace('-', "_");
        let shortened = word.len() > 2 && candidate.starts_with(&word);
        if shortened { 1 } else { edits(&word, &candidate) }
    };
    candidates
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, candidate)| *distance <= limit && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The least number of characters to insert, delete, replace or swap with their neighbour (optimal string alignment).
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = last[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_finds_its_neighbour_and_a_strange_one_none() {
        let keys = ["role", "port", "host", "data_dir", "ssh"];
        assert_eq!(closest("prot", keys), Some("port"));
        assert_eq!(closest("datadir", keys), Some("data_dir"));
        assert_eq!(closest("data-dir", keys), Some("data_dir"));
        assert_eq!(closest("Role", keys), Some("role"));
        assert_eq!(closest("priority", keys), None);
        assert_eq!(closest("x", ["a"]), None);
    }

    #[test]
    fn what_may_be_a_secret_is_covered_and_every_byte_keeps_its_place() {
        let source = "a: 1\npassword: hunter2\nb: { password: 'hünter2' }\nc:\n  password:\n    - hunter2\n  d: 1\n\
                      p: { file: ./p }\npassword: { file: ./p }\nprimary_conninfo: 'password=hunter2'\nx: 'a=b password=hunter2'\n";
        let shown = without_secrets(source);
        assert!(!shown.contains("nter2"), "{shown}");
        assert_eq!(shown.len(), source.len());
        for kept in ["a: 1\npassword: ", "  d: 1\n", "p: { file: ./p }\npassword: { file: ./p }\n", "x: 'a=b password="]
        {
            assert!(shown.contains(kept), "{shown}");
        }
        for odd in ["? password\n: hunter2\n", "{a: 1,\npassword:\nhunter2}\n", "password file: hunter2\n"] {
            assert!(!without_secrets(odd).contains("hunter2"), "{odd}");
        }
    }

    #[test]
    fn the_plain_text_names_file_place_message_other_places_and_remedy() {
        let span = |line| Span { offset: 0, len: 1, line, column: 3 };
        let mut report = Report::on("a.yaml");
        report.error("two_primaries", span(7), "two primaries").help("make one a standby").also(span(4), "the first");
        report.warning("no-rewind", span(9), "no rewind").help("set it on");
        let text: Vec<String> = report.into_diagnostics().iter().map(ToString::to_string).collect();
        let error = "a.yaml:7:3: two primaries\n  4:3: the first\n  help: make one a standby";
        assert_eq!(text, [error, "a.yaml:9:3: no rewind [no-rewind]\n  help: set it on"]);
    }
}
