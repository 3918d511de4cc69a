//! postgresql.conf, postgresql.auto.conf and recovery.conf: what each line sets, and which line wins.
//!
//! One lexer serves all versions and all three files (`src/backend/utils/misc/guc-file.l`). Files are only read
//! here, line by line; a change is made by replacing whole lines, so that every other line stays as it was.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use crate::pg::block;
use crate::pg::block::Block;
use crate::pg::block::Found;

/// One setting, or an `include` directive, as the server reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// In lower case: names are compared without case.
    pub name: String,
    /// Without quotes and escapes.
    pub value: String,
    /// From 1.
    pub line: usize,
}

impl Entry {
    /// Whether the line pulls in other files.
    #[must_use]
    pub fn is_include(&self) -> bool {
        ["include", "include_if_exists", "include_dir"].contains(&self.name.as_str())
    }
}

/// A line that the server would refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// From 1.
    pub line: usize,
}

/// What a configuration file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    pub entries: Vec<Entry>,
    /// Any of them makes the server refuse the file whole.
    pub errors: Vec<SyntaxError>,
}

/// Reads a configuration file. Only a line feed ends a line.
#[must_use]
pub fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    for (index, line) in text.split('\n').enumerate() {
        let number = index + 1;
        match lex(line) {
            Ok(Some((name, value))) => {
                parsed.entries.push(Entry { name: name.to_ascii_lowercase(), value, line: number });
            }
            Ok(None) => {}
            Err(NotASetting) => parsed.errors.push(SyntaxError { line: number }),
        }
    }
    parsed
}

struct NotASetting;

/// Reads one line: nothing, or a name and its value.
fn lex(line: &str) -> Result<Option<(&str, String)>, NotASetting> {
    let rest = skip_blanks(line);
    if rest.is_empty() || rest.starts_with('#') {
        return Ok(None);
    }
    // The lexer takes the longest token: `a-5` is one word, and no name.
    let len = qualified_name(rest).filter(|len| *len == unquoted(rest)).ok_or(NotASetting)?;
    let name = &rest[..len];
    let mut rest = skip_blanks(&rest[name.len()..]);
    if let Some(after) = rest.strip_prefix('=') {
        rest = skip_blanks(after);
    }
    let (value, rest) = lex_value(rest)?;
    let rest = skip_blanks(rest);
    if rest.is_empty() || rest.starts_with('#') { Ok(Some((name, value))) } else { Err(NotASetting) }
}

fn skip_blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\r'])
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_letter_or_digit(c: char) -> bool {
    is_letter(c) || c.is_ascii_digit()
}

/// Returns how many bytes at the start of `text` satisfy `accepted`.
fn span(text: &str, accepted: impl Fn(char) -> bool) -> usize {
    text.find(|c| !accepted(c)).unwrap_or(text.len())
}

/// Returns the length of a plain word at the start, if there is one.
fn word(text: &str) -> Option<usize> {
    text.starts_with(is_letter).then(|| span(text, is_letter_or_digit))
}

/// Returns the length of a name, or of two with a dot between them.
fn qualified_name(text: &str) -> Option<usize> {
    let first = word(text)?;
    let second = text[first..].strip_prefix('.').and_then(word);
    Some(second.map_or(first, |second| first + 1 + second))
}

fn lex_value(text: &str) -> Result<(String, &str), NotASetting> {
    if let Some(body) = text.strip_prefix('\'') {
        return unquote(body);
    }
    let len = number(text).or_else(|| bare_word(text)).ok_or(NotASetting)?;
    Ok((text[..len].to_owned(), &text[len..]))
}

/// Returns how much at the start an unquoted text would take.
fn unquoted(text: &str) -> usize {
    span(text, |c| is_letter_or_digit(c) || "-._:/".contains(c))
}

/// Returns the length of an unquoted word. Two words with one dot are a qualified name to the lexer, and no value.
fn bare_word(text: &str) -> Option<usize> {
    if !text.starts_with(is_letter) {
        return None;
    }
    let len = unquoted(text);
    let is_qualified = qualified_name(text) == Some(len) && text[..len].contains('.');
    (!is_qualified).then_some(len)
}

/// Returns the length of an integer with unit letters, or of a real number, whichever is longer.
fn number(text: &str) -> Option<usize> {
    let sign = span(text, |c| c == '+' || c == '-').min(1);
    let body = &text[sign..];
    let digits = span(body, |c| c.is_ascii_digit());
    let hex = body.strip_prefix("0x").map_or(0, |hex| span(hex, |c| c.is_ascii_hexdigit()));
    let integer = if hex > 0 { 2 + hex } else { digits };
    let integer = (integer > 0).then(|| integer + span(&body[integer..], |c| c.is_ascii_alphabetic()));
    let real = body[digits..].strip_prefix('.').map(|fraction| {
        let end = digits + 1 + span(fraction, |c| c.is_ascii_digit());
        end + exponent(&body[end..])
    });
    integer.max(real).map(|len| sign + len)
}

/// Returns the length of `e-3` at the start, or 0.
fn exponent(text: &str) -> usize {
    let Some(rest) = text.strip_prefix(['e', 'E']) else { return 0 };
    let sign = span(rest, |c| c == '+' || c == '-').min(1);
    let digits = span(&rest[sign..], |c| c.is_ascii_digit());
    if digits > 0 { 1 + sign + digits } else { 0 }
}

/// Reads what follows an opening quote, to the closing one.
fn unquote(body: &str) -> Result<(String, &str), NotASetting> {
    // Octal escapes are bytes, and several of them may make one character.
    let mut value = Vec::new();
    let bytes = body.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'\'' if bytes.get(at) == Some(&b'\'') => {
                value.push(b'\'');
                at += 1;
            }
            b'\'' => {
                // `\0` ends the text in C.
                let value = value.split(|byte| *byte == 0).next().unwrap_or_default();
                return Ok((String::from_utf8_lossy(value).into_owned(), &body[at..]));
            }
            b'\\' => {
                let escaped = *bytes.get(at).ok_or(NotASetting)?;
                at += 1;
                match escaped {
                    b'b' => value.push(8),
                    b'f' => value.push(12),
                    b'n' => value.push(b'\n'),
                    b'r' => value.push(b'\r'),
                    b't' => value.push(b'\t'),
                    b'0'..=b'7' => {
                        let mut octal = u32::from(escaped - b'0');
                        for _ in 0..2 {
                            let Some(digit @ b'0'..=b'7') = bytes.get(at) else { break };
                            octal = octal * 8 + u32::from(digit - b'0');
                            at += 1;
                        }
                        value.push((octal & 0xFF) as u8);
                    }
                    other => value.push(other),
                }
            }
            other => value.push(other),
        }
    }
    Err(NotASetting)
}

/// Returns what the lines of a block set.
#[must_use]
pub fn set_by(block: &Block) -> BTreeMap<String, String> {
    let entries = parse(&block.lines.join("\n")).entries;
    entries.into_iter().map(|entry| (entry.name, entry.value)).collect()
}

/// Returns the text without the lines that set what `is_dropped` names; every other line stays as it was.
#[must_use]
pub fn without(text: &str, is_dropped: impl Fn(&str) -> bool) -> String {
    let dropped: Vec<usize> =
        parse(text).entries.iter().filter(|entry| is_dropped(&entry.name)).map(|entry| entry.line).collect();
    let lines = text.split_inclusive('\n').enumerate();
    lines.filter(|(index, _)| !dropped.contains(&(index + 1))).map(|(_, line)| line).collect()
}

/// A text that can't be written into a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line break or a NUL can't stand in a configuration file")]
pub struct Unwritable;

/// Returns the line that gives a setting this value. Always quoted: bare `*`, `1.5GB` or `a.b` are syntax errors.
///
/// # Errors
///
/// [`Unwritable`] for a value with a line break or a NUL.
pub fn assignment(name: &str, value: &str) -> Result<String, Unwritable> {
    if value.contains(['\n', '\r', '\0']) {
        return Err(Unwritable);
    }
    Ok(format!("{name} = '{}'", value.replace('\\', "\\\\").replace('\'', "''")))
}

/// One configuration file and what it includes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfFile {
    /// As it is named in messages.
    pub path: String,
    pub text: String,
    /// For each `include` directive, in order, the files it pulls in.
    pub includes: Vec<Vec<Self>>,
}

/// The configuration files of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfFiles {
    /// postgresql.conf.
    pub main: ConfFile,
    /// postgresql.auto.conf, which wins over it.
    pub auto: Option<ConfFile>,
    /// The postgresql.conf that pgpair has replaced by this one, and whose successor no server was seen to run on yet.
    pub replaced: Option<String>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub value: String,
    pub file: String,
    /// From 1.
    pub line: usize,
    pub origin: Origin,
}

/// Which part of the configuration a line stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// pgpair's own block.
    Block,
    /// postgresql.conf or what it includes, before pgpair's block.
    Before,
    /// postgresql.conf or what it includes, after pgpair's block, where it wins over the block.
    After,
    /// postgresql.auto.conf.
    Auto,
}

/// What the configuration files of a node say, taken together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfValues {
    /// pgpair's block in postgresql.conf.
    pub block: Option<Found>,
    /// The value of every setting that the files give, the last line winning.
    pub values: BTreeMap<String, Placed>,
    /// The same without the block.
    pub elsewhere: BTreeMap<String, Placed>,
}

impl ConfFiles {
    /// Returns what the files say.
    ///
    /// # Errors
    ///
    /// A sentence naming file and line, where the server would refuse to read the files, or pgpair's block can't be
    /// told from the rest.
    pub fn read(&self) -> Result<ConfValues, String> {
        let block = block::find(&self.main.text).map_err(|malformed| format!("{}: {malformed}", self.main.path))?;
        let mut read = ConfValues { block, ..ConfValues::default() };
        let lines = read.block.as_ref().map(|found| found.lines.clone());
        let main = |line: usize| match &lines {
            Some(block) if block.contains(&line) => Origin::Block,
            Some(block) if line >= block.end => Origin::After,
            Some(_) | None => Origin::Before,
        };
        collect(&self.main, &main, &mut read)?;
        if let Some(auto) = &self.auto {
            collect(auto, &|_| Origin::Auto, &mut read)?;
        }
        Ok(read)
    }
}

fn collect(file: &ConfFile, origin: &dyn Fn(usize) -> Origin, read: &mut ConfValues) -> Result<(), String> {
    let parsed = parse(&file.text);
    if let Some(error) = parsed.errors.first() {
        return Err(format!("{}:{}: syntax error", file.path, error.line));
    }
    let mut includes = file.includes.iter();
    for entry in parsed.entries {
        let origin = origin(entry.line);
        if entry.is_include() {
            for included in includes.next().into_iter().flatten() {
                collect(included, &|_| origin, read)?;
            }
            continue;
        }
        let placed = Placed { value: entry.value, file: file.path.clone(), line: entry.line, origin };
        if origin != Origin::Block {
            read.elsewhere.insert(entry.name.clone(), placed.clone());
        }
        read.values.insert(entry.name, placed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(line: &str) -> Option<String> {
        match lex(line) {
            Ok(Some((_, value))) => Some(value),
            Ok(None) | Err(NotASetting) => None,
        }
    }

    /// The table of the reference on configuration, section 1.1, tried on servers of 10 to 18.
    #[test]
    fn lines_are_read_as_the_server_reads_them() {
        let good = [
            ("a'v'", "v"),
            ("a v", "v"),
            ("a=v", "v"),
            ("\ta = v # why", "v"),
            ("a = v\r", "v"),
            ("a = a-b", "a-b"),
            ("a = a:b", "a:b"),
            ("a = a/b", "a/b"),
            ("a = a.b.c", "a.b.c"),
            ("a = h.ex-a.com", "h.ex-a.com"),
            ("a = 5MB", "5MB"),
            ("a = 0x1F", "0x1F"),
            ("a = +5", "+5"),
            ("a = .5", ".5"),
            ("a = 1.5e3", "1.5e3"),
            ("a = 12abc", "12abc"),
            ("a = a#b", "a"),
            ("a = 'a''b'", "a'b"),
            (r"a = 'a\'b'", "a'b"),
            (r"a = '\n\\\101\x41'", "\n\\Ax41"),
            (r"a = '\303\244'", "ä"),
            (r"a = 'b\0c'", "b"),
            ("a = ''", ""),
            ("my.par = x", "x"),
        ];
        for (line, expected) in good {
            assert_eq!(value(line).as_deref(), Some(expected), "{line}");
        }
        let bad = [
            "a ==v",
            "a =",
            "a",
            "a = 1 b = 2",
            "a = 1;",
            "\"a\" = v",
            "a = \"v\"",
            "a = 'a' 'b'",
            "a = a.b",
            "a = /p",
            "a = a,b",
            "a = a@b",
            "a = *",
            "a = $u",
            "a = 127.0.0.1",
            "a = ::1",
            "a = a%b",
            "a = -x",
            "a = 1.5GB",
            "a = 5 MB",
            "a = 1e3",
            "a = 1_000",
            "a = 0b1",
            "a = 'x",
            r"a = 'x\",
            "a.b.c = x",
            "my.1x = x",
            "my.a-b = x",
            "a-5",
            "a.5",
            "a.",
            "\u{feff}# comment",
        ];
        for line in bad {
            let error = parse(line).errors.first().map(|error| error.line);
            // A byte order mark is a letter to this lexer, and then there is no value.
            assert_eq!(error, Some(1), "{line}");
        }
    }

    fn file(path: &str, text: &str, includes: Vec<Vec<ConfFile>>) -> ConfFile {
        ConfFile { path: path.into(), text: text.into(), includes }
    }

    #[test]
    fn lines_that_set_a_name_go_and_others_stay() {
        let text = "# head\r\nport = 1\nPORT 2 # too\nports = 3";
        assert_eq!(without(text, |name| name == "port"), "# head\r\nports = 3");
    }

    #[test]
    fn the_last_line_wins_and_auto_conf_wins_over_all() {
        let included = file("conf.d/x.conf", "work_mem = 2MB\nport = 2", vec![]);
        let main = file("postgresql.conf", "PORT = 1\ninclude_dir 'conf.d'\nwork_mem = 3MB\n", vec![vec![included]]);
        let auto = file("postgresql.auto.conf", "work_mem = '4MB'", vec![]);
        let values = ConfFiles { main, auto: Some(auto), replaced: None }.read().expect("good files").values;
        assert_eq!(values["port"].file, "conf.d/x.conf");
        assert_eq!(values["port"].value, "2");
        assert_eq!(values["work_mem"].origin, Origin::Auto);
    }

    #[test]
    fn the_line_straight_after_the_block_stands_after_it() {
        let text = "port = 1\n# BEGIN pgpair orders/a 0\nport = 2\n# END pgpair\nwork_mem = 1MB\n";
        let files = ConfFiles { main: file("postgresql.conf", text, vec![]), auto: None, replaced: None };
        let ConfValues { values, elsewhere, .. } = files.read().expect("a good file");
        assert_eq!((values["port"].origin, values["work_mem"].origin), (Origin::Block, Origin::After));
        assert_eq!(elsewhere["port"].origin, Origin::Before);
    }

    #[test]
    fn a_syntax_error_is_named_with_file_and_line() {
        let main = file("postgresql.conf", "port = 1\nwork_mem = 1.5GB\n", vec![]);
        assert_eq!(
            ConfFiles { main, auto: None, replaced: None }.read(),
            Err("postgresql.conf:2: syntax error".into())
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in "[^\n\r\0]*") {
            let line = assignment("a.b", &value).expect("no line break");
            let parsed = parse(&line);
            prop_assert_eq!(parsed.errors, vec![]);
            prop_assert_eq!(&parsed.entries[0].value, &value);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text: String) {
            let _ = parse(&text);
        }
    }
}
