//! From bytes to a tree of YAML values, each with its place in the file.
//!
//! Takes the plain part of YAML that a topology needs and refuses the rest (anchors, aliases, tags, merge and
//! duplicate keys, several documents), so that a value is always what stands there. Scalars stay text as written.

use std::collections::HashMap;

use saphyr_parser::Event;
use saphyr_parser::Parser;
use saphyr_parser::ScalarStyle;
use saphyr_parser::ScanError;

use crate::topology::diagnostic::Report;
use crate::topology::diagnostic::Span;
use crate::topology::diagnostic::may_be_secret;

/// The largest file that is read.
pub const MAX_BYTES: usize = 1 << 20;

/// How deep lists and maps may be nested; a topology needs seven.
pub const MAX_DEPTH: usize = 64;

/// A value with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Yaml {
    pub span: Span,
    pub value: Value,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// The text, quotes and escapes resolved.
    Scalar {
        text: String,
        quoted: bool,
    },
    List(Vec<Yaml>),
    Map(Vec<Entry>),
    /// Something that was refused, and reported, already.
    Refused,
}

/// One key of a map with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Yaml,
}

impl Yaml {
    /// Whether nothing stands there: `key:`, `key: ~`, `key: null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar { text, quoted: false } => ["", "~", "null", "Null", "NULL"].contains(&text.as_str()),
            Value::Scalar { quoted: true, .. } | Value::List(_) | Value::Map(_) | Value::Refused => false,
        }
    }

    /// Returns the scalars that may be literal secrets.
    #[must_use]
    pub fn secrets(&self) -> Vec<&Self> {
        let mut found = Vec::new();
        self.find_secrets(false, &mut found);
        found
    }

    fn find_secrets<'y>(&'y self, is_secret: bool, found: &mut Vec<&'y Self>) {
        match &self.value {
            Value::Scalar { .. } if is_secret && !self.is_null() => found.push(self),
            Value::Scalar { .. } | Value::Refused => {}
            Value::List(items) => items.iter().for_each(|item| item.find_secrets(is_secret, found)),
            Value::Map(entries) => {
                for Entry { key, value, .. } in entries {
                    // Where a secret is to be found is none.
                    let is_place = ["env", "file", "command"].contains(&key.as_str());
                    value.find_secrets(may_be_secret(key) || (is_secret && !is_place), found);
                }
            }
        }
    }

    /// Returns the value under `key`, if this is a map that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value),
            Value::Scalar { .. } | Value::List(_) | Value::Refused => None,
        }
    }
}

/// Reads a file. `None`: it can't be understood at all. What was refused is in the report either way.
pub fn read(source: &[u8], report: &mut Report<'_>) -> Option<Yaml> {
    if source.len() > MAX_BYTES {
        report
            .file_error("file_too_large", format!("the file has {} bytes; a topology has at most 1 MiB", source.len()))
            .help("give pgpair the topology itself, not a dump or a log");
        return None;
    }
    let places = Places::of(source);
    let text = match std::str::from_utf8(source) {
        Ok(text) => text,
        Err(error) => {
            report
                .error("not_utf8", places.bytes(error.valid_up_to(), 1), "the file is not UTF-8 from here on")
                .help("save it as UTF-8");
            return None;
        }
    };
    if let Some(offset) = text.find('\0') {
        report
            .error("nul", places.bytes(offset, 1), "the file contains a NUL byte")
            .help("a topology is a text file; delete the byte (a file saved as UTF-16 has many: save it as UTF-8)");
        return None;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut tree = Tree { places: &places.skipping(source.len() - text.len(), text), open: Vec::new(), root: None };
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(next) => next,
            Err(error) => {
                syntax_error(&error, text, tree.places, report);
                return None;
            }
        };
        let span = tree.places.chars(span.start.index(), span.end.index());
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
        }
        if documents > 1 {
            report
                .error("two_documents", span, "a second YAML document begins here")
                .help("one file describes one cluster: give each its own file, or delete the `---`");
            break;
        }
        if !tree.take(event, span, report) {
            return None;
        }
    }
    let root = tree.root.filter(|root| !root.is_null());
    if report.is_empty()
        && let Some(root) = &root
        && !second_opinion(text, root, tree.places, report)
    {
        return None;
    }
    if root.is_none() && report.is_empty() {
        report
            .file_error("empty_file", "the file is empty")
            .help("a topology begins with `version: 1`; topologies/demo.yaml is a small one");
    }
    root
}

/// Whether serde_yaml, the reader of most other tools, takes the file for the same as we do.
///
/// Only files that passed the checks above come here: no aliases, no depth, no duplicates.
fn second_opinion(text: &str, root: &Yaml, places: &Places<'_>, report: &mut Report<'_>) -> bool {
    let help = "put quotes round the value";
    match serde_yaml::from_str::<serde_yaml::Value>(text) {
        Ok(value) if same(root, &value) => true,
        Ok(_) => {
            report
                .error("yaml_ambiguous", root.span, "two YAML readers read different values in this file")
                .help("put quotes round the values that are unusual");
            false
        }
        Err(error) => {
            let index = error.location().map_or(0, |location| location.index());
            let span = places.chars(index, index);
            report.error("yaml_ambiguous", span, "not every YAML reader can read this").help(help);
            false
        }
    }
}

fn same(yaml: &Yaml, value: &serde_yaml::Value) -> bool {
    use serde_yaml::Value as Other;
    match (&yaml.value, value) {
        (Value::Scalar { text, .. }, Other::String(other)) => text == other,
        (Value::Scalar { quoted, .. }, Other::Null | Other::Bool(_) | Other::Number(_)) => !quoted,
        (Value::List(items), Other::Sequence(others)) => {
            items.len() == others.len() && items.iter().zip(others).all(|(item, other)| same(item, other))
        }
        (Value::Map(entries), Other::Mapping(others)) => {
            let same_key = |key: &str, other: &Other| other.as_str().is_none_or(|other| other == key);
            entries.len() == others.len()
                && entries
                    .iter()
                    .zip(others)
                    .all(|(entry, (key, other))| same_key(&entry.key, key) && same(&entry.value, other))
        }
        (Value::Scalar { .. } | Value::List(_) | Value::Map(_) | Value::Refused, _) => false,
    }
}

/// The tree as far as it has been read.
struct Tree<'p> {
    places: &'p Places<'p>,
    open: Vec<Open>,
    root: Option<Yaml>,
}

/// A list or map whose end has not come yet.
enum Open {
    List(Span, Vec<Yaml>),
    Map(OpenMap),
}

#[derive(Default)]
struct OpenMap {
    start: Span,
    entries: Vec<Entry>,
    /// Where each key stands.
    keys: HashMap<String, Span>,
    /// The key whose value is to come.
    awaiting: Option<Key>,
}

/// A key that has been read. `None`: it was refused, and its value is dropped.
type Key = Option<(String, Span)>;

impl Tree<'_> {
    /// Takes one event; `false` when there is no point in going on.
    fn take(&mut self, event: Event<'_>, span: Span, report: &mut Report<'_>) -> bool {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse_anchor_and_tag(anchor, tag.is_some(), span, report);
                refuse_control_characters(&text, style, span, report);
                let value = Value::Scalar { text: text.into_owned(), quoted: style != ScalarStyle::Plain };
                self.put(Yaml { span, value }, report);
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_anchor_and_tag(anchor, tag.is_some(), span, report);
                self.open.push(Open::List(span, Vec::new()));
            }
            Event::MappingStart(anchor, tag) => {
                refuse_anchor_and_tag(anchor, tag.is_some(), span, report);
                self.open.push(Open::Map(OpenMap { start: span, ..OpenMap::default() }));
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let closed = match self.open.pop() {
                    Some(Open::List(start, items)) => Some((start, Value::List(items))),
                    Some(Open::Map(map)) => Some((map.start, Value::Map(map.entries))),
                    None => None,
                };
                if let Some((start, value)) = closed {
                    self.put(Yaml { span: self.places.reaching(start, span), value }, report);
                }
            }
            Event::Alias(_) => {
                report
                    .first("yaml_alias", span, "an alias (`*…`) stands here; a topology has none")
                    .help("write the value itself, quoted if it begins with `*`; for what all nodes share there is `node_defaults`");
                self.put(Yaml { span, value: Value::Refused }, report);
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {}
        }
        if self.open.len() > MAX_DEPTH {
            too_deep(span, report);
            return false;
        }
        true
    }

    /// Puts a finished value where it belongs.
    fn put(&mut self, yaml: Yaml, report: &mut Report<'_>) {
        match self.open.last_mut() {
            None => self.root = Some(yaml),
            Some(Open::List(_, items)) => items.push(yaml),
            Some(Open::Map(map)) => match map.awaiting.take() {
                None => map.awaiting = Some(key(yaml, &mut map.keys, report)),
                Some(None) => {}
                Some(Some((key, key_span))) => map.entries.push(Entry { key, key_span, value: yaml }),
            },
        }
    }
}

fn too_deep(span: Span, report: &mut Report<'_>) {
    report
        .error("too_deep", span, format!("lists and maps are nested more than {MAX_DEPTH} deep"))
        .help("a topology needs seven levels at most");
}

fn key(yaml: Yaml, seen: &mut HashMap<String, Span>, report: &mut Report<'_>) -> Key {
    let span = yaml.span;
    let (text, quoted) = match yaml.value {
        Value::Scalar { text, quoted } => (text, quoted),
        Value::Refused => return None,
        Value::List(_) | Value::Map(_) => {
            report.error("key_not_text", span, "a list or a map can't be a key").help("a key is a word before a `:`");
            return None;
        }
    };
    if text == "<<" && !quoted {
        report
            .error("yaml_merge", span, "a merge key (`<<`) stands here; a topology has none")
            .help("for what all nodes share there is `node_defaults`");
        return None;
    }
    if let Some(first) = seen.get(&text) {
        report
            .error("duplicate_key", span, format!("`{text}` is given twice"))
            .also(*first, "the first is here")
            .help("keep one of them");
        return None;
    }
    seen.insert(text.clone(), span);
    Some((text, span))
}

fn refuse_anchor_and_tag(anchor: usize, tag: bool, span: Span, report: &mut Report<'_>) {
    if anchor != 0 {
        report
            .first("yaml_anchor", span, "an anchor (`&…`) stands before this value; a topology has none")
            .help("for what all nodes share there is `node_defaults`; a value that begins with `&` needs quotes");
    }
    if tag {
        report
            .error("yaml_tag", span, "a tag (`!…`) stands before this value; a topology has none")
            .help("delete the tag; a value that begins with `!` needs quotes");
    }
}

/// No value of a topology has line breaks, and what PostgreSQL reads from a line of a file can't have any.
fn refuse_control_characters(text: &str, style: ScalarStyle, span: Span, report: &mut Report<'_>) {
    let Some(bad) = text.chars().find(|c| c.is_control() && *c != '\t') else { return };
    let name = match bad {
        '\n' | '\r' => "a line break".to_owned(),
        '\0' => "a NUL character".to_owned(),
        other => format!("the control character {}", other.escape_unicode()),
    };
    let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
    report.error("control_character", span, format!("the text contains {name}")).help(if block {
        "write it in quotes on one line: `|` and `>` keep the line break at the end"
    } else {
        "write it on one line, without it"
    });
}

/// Reports what the parser stumbled on, with a hint for what is usually behind it.
fn syntax_error(error: &ScanError, text: &str, places: &Places<'_>, report: &mut Report<'_>) {
    let index = error.marker().index();
    let place = places.chars(index, index);
    let lines: Vec<&str> = text.lines().collect();
    if error.info().contains("recursion limit") {
        too_deep(place, report);
        return;
    }
    // The parser often notices on the line after, and a tab on the line before.
    let candidates = [place.line, place.line.saturating_sub(1)];
    for number in candidates.into_iter().chain([place.line + 1]) {
        let Some(line) = number.checked_sub(1).and_then(|index| lines.get(index)) else { continue };
        let start = places.line_start(number);
        let indentation = line.len() - line.trim_start().len();
        if let Some(tab) = line[..indentation].find('\t') {
            report
                .error("yaml_tab", places.bytes(start + tab, 1), "a tab is used as indentation")
                .help("YAML wants spaces");
            return;
        }
    }
    for number in candidates {
        let Some(line) = number.checked_sub(1).and_then(|index| lines.get(index)) else { continue };
        if let Some((at, value)) = needs_quotes(line) {
            let first = value.chars().next().unwrap_or_default();
            let help = if may_be_secret(&line[..at]) {
                "put it in single quotes; a password is given as `{ env: NAME }` or `{ file: PATH }`, never here"
                    .to_owned()
            } else {
                format!("write '{}'", value.replace('\'', "''"))
            };
            let why = if "%@`*&![{".contains(first) {
                format!("a text that begins with `{first}` needs quotes")
            } else {
                "a text that contains `: ` needs quotes".to_owned()
            };
            report
                .error("yaml_needs_quotes", places.bytes(places.line_start(number) + at, value.len()), why)
                .help(help);
            return;
        }
    }
    if error.info().contains("escape") {
        report
            .error("yaml_syntax", place, "in double quotes `\\` begins an escape, and this is none")
            .help("take single quotes, where `\\` is itself, or write `\\\\`");
        return;
    }
    if error.info().contains("quoted scalar") {
        report
            .error("yaml_syntax", place, "the quoted text that begins here does not end as it should")
            .help("close the quote; within '…' a quote is written twice, as in 'it''s'");
        return;
    }
    report
        .error("yaml_syntax", place, format!("this is not YAML: {}", error.info()))
        .help("look at the indentation, brackets and quotes here and in the line above");
}

/// Returns where the value of a line `key: value` begins, and the value, if YAML can't take it without quotes.
fn needs_quotes(line: &str) -> Option<(usize, &str)> {
    let colon = line.find(": ")?;
    let at = colon + 2 + (line[colon + 2..].len() - line[colon + 2..].trim_start().len());
    let value = line[at..].trim_end();
    let value = value.split(" #").next().unwrap_or(value).trim_end();
    let first = value.chars().next()?;
    // `[` and `{` begin a list or a map, unless something follows where it ends.
    let not_a_list = |close: char| value.find(close).is_some_and(|end| end + 1 < value.len());
    let special = match first {
        '%' | '@' | '`' | '*' => true,
        '[' => not_a_list(']'),
        '{' => not_a_list('}') && !value.ends_with('}'),
        '\'' | '"' | '#' | '|' | '>' | '&' | '!' => false,
        _ => value.contains(": ") || value.ends_with(':'),
    };
    special.then_some((at, value))
}

/// Turns the parser's character positions into places.
struct Places<'s> {
    source: &'s [u8],
    /// The byte offset of each line.
    lines: Vec<usize>,
    /// The byte offset of each character, and of the end.
    characters: Vec<usize>,
}

/// Returns the length of a quoted scalar at the start, with its quotes.
fn quoted_len(text: &[u8]) -> Option<usize> {
    let quote = *text.first().filter(|byte| matches!(byte, b'\'' | b'"'))?;
    let mut at = 1;
    while let Some(&byte) = text.get(at) {
        let next_is_quote = text.get(at + 1) == Some(&quote);
        match byte {
            b'\\' if quote == b'"' => at += 2,
            b'\'' if quote == b'\'' && next_is_quote => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

impl<'s> Places<'s> {
    fn of(source: &'s [u8]) -> Self {
        let breaks = source.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(index, _)| index + 1);
        Self { source, lines: std::iter::once(0).chain(breaks).collect(), characters: Vec::new() }
    }

    /// The same for a parser that sees only `text`, which begins at `offset`.
    fn skipping(mut self, offset: usize, text: &str) -> Self {
        self.lines[0] = offset;
        let characters = text.char_indices().map(|(index, _)| offset + index);
        Self { characters: characters.chain(std::iter::once(offset + text.len())).collect(), ..self }
    }

    fn chars(&self, start: usize, end: usize) -> Span {
        let offset = |index: usize| self.characters.get(index).copied().unwrap_or(self.source.len());
        let (start, end) = (offset(start), offset(end.max(start)));
        // The parser lets some spans reach over the blanks and comments that follow.
        let text = &self.source[start..end];
        self.bytes(start, quoted_len(text).unwrap_or(text.trim_ascii_end().len()))
    }

    /// From the beginning of one span to the end of another, without the blanks before it.
    fn reaching(&self, start: Span, end: Span) -> Span {
        let text = &self.source[start.offset..(end.offset + end.len).max(start.offset)];
        Span { len: text.trim_ascii_end().len(), ..start }
    }

    fn bytes(&self, offset: usize, len: usize) -> Span {
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = self.line_start(line);
        let before = self.source.get(start..offset).unwrap_or_default();
        let before = before.strip_prefix("\u{feff}".as_bytes()).unwrap_or(before);
        Span { offset, len, line, column: String::from_utf8_lossy(before).chars().count() + 1 }
    }

    /// The byte offset of a line counted from 1.
    fn line_start(&self, line: usize) -> usize {
        line.checked_sub(1).and_then(|index| self.lines.get(index)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(source: &str) -> Yaml {
        let mut report = Report::on("t.yaml");
        let tree = read(source.as_bytes(), &mut report);
        let wrong: Vec<String> = report.into_diagnostics().iter().map(ToString::to_string).collect();
        tree.unwrap_or_else(|| panic!("{wrong:?}"))
    }

    fn answer(source: &str) -> Vec<&'static str> {
        let mut report = Report::on("t.yaml");
        read(source.as_bytes(), &mut report);
        report.into_diagnostics().iter().map(|diagnostic| diagnostic.code).collect()
    }

    #[test]
    fn scalars_keep_their_text_whatever_yaml_makes_of_them() {
        for text in
            ["on", "off", "yes", "0600", "0o17", "1e3", "1.10", "1_000", "0x1F", "12:30:45", "16MB", "2026-01-01"]
        {
            let value = tree(&format!("a: {text}\n")).get("a").cloned().map(|yaml| yaml.value);
            assert_eq!(value, Some(Value::Scalar { text: text.to_owned(), quoted: false }));
        }
    }

    #[test]
    fn every_value_and_key_is_found_where_it_stands() {
        let source = "# é\na:  {b: 'c d',  e: [1, \"二\"]}\nf:\n  - g   # h\n  - i: j\nk: l\n";
        let mut seen = Vec::new();
        walk(&tree(source), source, &mut seen);
        let list = ["a", "{b: 'c d',  e: [1, \"二\"]}", "b", "'c d'", "e", "[1, \"二\"]", "1", "\"二\""];
        let rest = ["f", "- g   # h\n  - i: j", "g", "i: j", "i", "j", "k", "l"];
        assert_eq!(seen[1..], [list.as_slice(), rest.as_slice()].concat());
    }

    fn walk<'s>(yaml: &Yaml, source: &'s str, seen: &mut Vec<&'s str>) {
        let text = |span: Span| &source[span.offset..span.offset + span.len];
        seen.push(text(yaml.span));
        match &yaml.value {
            Value::List(items) => items.iter().for_each(|item| walk(item, source, seen)),
            Value::Map(entries) => {
                for entry in entries {
                    seen.push(text(entry.key_span));
                    walk(&entry.value, source, seen);
                }
            }
            Value::Scalar { .. } | Value::Refused => {}
        }
    }

    #[test]
    fn a_mistake_on_the_line_of_a_byte_order_mark_is_found_where_it_stands() {
        let source = "\u{feff}port: a: b\n";
        let mut report = Report::on("t.yaml");
        read(source.as_bytes(), &mut report);
        let Span { offset, len, column, .. } = report.into_diagnostics()[0].span.expect("a place");
        assert_eq!((&source[offset..offset + len], column), ("a: b", 7));
    }

    #[test]
    fn a_key_with_a_dot_is_one_key() {
        assert!(tree("pg_stat_statements.max: 1\n").get("pg_stat_statements.max").is_some());
    }

    #[test]
    fn the_plain_part_of_yaml_is_all_there_is() {
        assert_eq!(answer("a: &x 1\n"), ["yaml_anchor"]);
        assert_eq!(answer("a: !!int 1\n"), ["yaml_tag"]);
        assert_eq!(answer("<<: { a: 1 }\n"), ["yaml_merge"]);
        assert_eq!(answer("a: 1\n'a': 2\na: 3\n"), ["duplicate_key", "duplicate_key"]);
        assert_eq!(answer("[a]: 1\n"), ["key_not_text"]);
        assert_eq!(answer("a: 1\n---\nb: 2\n"), ["two_documents"]);
        assert_eq!(answer("---\na: 1\n...\n"), Vec::<&str>::new());
    }
}
