//! Values read as what a key wants them to be: texts, numbers, choices, lists, commands, and the keys of a map.
//!
//! Each reader reports what does not fit and gives nothing back for it.

use std::str::FromStr;

use crate::topology::diagnostic::Report;
use crate::topology::diagnostic::Span;
use crate::topology::diagnostic::closest;
use crate::topology::model::At;
use crate::topology::model::misplaced;
use crate::topology::spans::Entry;
use crate::topology::spans::Value;
use crate::topology::spans::Yaml;

impl Yaml {
    /// The place where the value begins: all of a scalar, the first key of a map, the bracket or dash of a list.
    pub(super) fn start(&self) -> Span {
        match &self.value {
            Value::Scalar { .. } | Value::Refused => self.span,
            Value::List(_) => Span { len: self.span.len.min(1), ..self.span },
            Value::Map(entries) => match entries.first() {
                Some(first) if first.key_span.offset == self.span.offset => first.key_span,
                Some(_) | None => Span { len: 0, ..self.span },
            },
        }
    }

    pub(in crate::topology) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            Value::List(_) | Value::Map(_) | Value::Refused => None,
        }
    }

    /// What this is, for a message that says that it should be something else.
    fn describe(&self) -> String {
        match &self.value {
            Value::Scalar { text, .. } => format!("`{text}`"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "keys and values".to_owned(),
            Value::Refused => "this".to_owned(),
        }
    }
}

/// The keys of a map, all of them known ones with a value.
pub(super) struct Fields<'y> {
    /// How messages call the map.
    what: &'y str,
    /// Where to say that a key is missing.
    at: Span,
    pub(super) entries: &'y [Entry],
    /// The keys that misspelt ones were meant to be.
    pub(super) meant: Vec<String>,
}

impl<'y> Fields<'y> {
    pub(super) fn of(yaml: &'y Yaml, what: &'y str, at: Span, known: &[&str], report: &mut Report<'_>) -> Option<Self> {
        let entries = match &yaml.value {
            Value::Map(entries) => entries,
            Value::Refused => return None,
            Value::Scalar { .. } | Value::List(_) => {
                let span = if yaml.is_null() { at } else { yaml.start() };
                let found = if yaml.is_null() { "nothing".to_owned() } else { yaml.describe() };
                report
                    .error("wrong_type", span, format!("{what} has keys and values; here is {found}"))
                    .help(format!("its keys are {}", names(known)));
                return None;
            }
        };
        let mut meant = Vec::new();
        for entry in entries {
            if known.contains(&entry.key.as_str()) {
                if entry.value.is_null() {
                    no_value(entry, report);
                }
                continue;
            }
            let near = closest(&entry.key, known.iter().copied());
            meant.extend(near.map(str::to_owned));
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => misplaced(&entry.key).unwrap_or_else(|| format!("its keys are {}", names(known))),
            };
            report.error("unknown_key", entry.key_span, format!("{what} has no key `{}`", entry.key)).help(help);
        }
        Some(Self { what, at, entries, meant })
    }

    pub(super) fn entry(&self, key: &str) -> Option<&'y Entry> {
        self.entries.iter().find(|entry| entry.key == key && !entry.value.is_null())
    }

    pub(super) fn get(&self, key: &str) -> Option<&'y Yaml> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The entry of a key that must be there.
    pub(super) fn needed_entry(&self, key: &str, report: &mut Report<'_>) -> Option<&'y Entry> {
        if self.entries.iter().all(|entry| entry.key != key) && !self.meant.iter().any(|meant| meant == key) {
            report
                .error("missing_key", self.at, format!("{} needs the key `{key}`", self.what))
                .help(format!("add `{key}:`"));
        }
        self.entry(key)
    }

    pub(super) fn needed(&self, key: &str, report: &mut Report<'_>) -> Option<&'y Yaml> {
        self.needed_entry(key, report).map(|entry| &entry.value)
    }

    pub(super) fn text(&self, key: &str, report: &mut Report<'_>) -> Option<At<String>> {
        text(self.get(key)?, key, report)
    }

    /// Takes a number as one writes it: no `+`, no leading zero, of which YAML readers make different things.
    pub(super) fn number<T: FromStr + ToString>(
        &self,
        key: &str,
        wanted: &str,
        report: &mut Report<'_>,
    ) -> Option<At<T>> {
        let yaml = self.get(key)?;
        let number = yaml.as_text().and_then(|text| text.parse().ok().filter(|number: &T| number.to_string() == text));
        if number.is_none() {
            wrong_type(yaml, key, wanted, report);
        }
        number.map(|number| At::new(number, yaml.span))
    }

    /// Takes what PostgreSQL and YAML take.
    pub(super) fn boolean(&self, key: &str, report: &mut Report<'_>) -> Option<At<bool>> {
        let yaml = self.get(key)?;
        let value = yaml.as_text().and_then(boolean);
        if value.is_none() {
            wrong_type(yaml, key, "`true` or `false`", report);
        }
        value.map(|value| At::new(value, yaml.span))
    }

    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)], report: &mut Report<'_>) -> Option<At<T>> {
        choice(self.get(key)?, key, choices, report)
    }
}

/// Reads a truth value as PostgreSQL and YAML write it.
#[must_use]
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" => Some(true),
        "false" | "off" | "no" => Some(false),
        _ => None,
    }
}

pub(super) fn choice<T: Copy>(yaml: &Yaml, key: &str, choices: &[(&str, T)], report: &mut Report<'_>) -> Option<At<T>> {
    let found = yaml.as_text().and_then(|text| choices.iter().find(|(name, _)| *name == text));
    if let Some((_, value)) = found {
        return Some(At::new(*value, yaml.span));
    }
    let known: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let near = yaml.as_text().and_then(|text| closest(text, known.iter().copied()));
    if yaml.value != Value::Refused {
        let message = format!("`{key}` must be one of {}, not {}", names(&known), yaml.describe());
        let diagnostic = report.error("wrong_value", yaml.start(), message);
        let old_name = match yaml.as_text() {
            Some("master" | "leader") => Some("primary"),
            Some("slave" | "replica" | "secondary") => Some("standby"),
            Some(_) | None => None,
        };
        if let Some(near) = near.or(old_name.filter(|name| known.contains(name))) {
            diagnostic.help(format!("did you mean `{near}`?"));
        }
    }
    None
}

pub(super) fn text(yaml: &Yaml, key: &str, report: &mut Report<'_>) -> Option<At<String>> {
    match &yaml.value {
        // A key without any value has been reported.
        Value::Scalar { .. } if yaml.is_null() => None,
        Value::Scalar { text, .. } if text.is_empty() => {
            report
                .error("empty_value", yaml.span, format!("`{key}` is empty"))
                .help("give it a value, or delete the key");
            None
        }
        Value::Scalar { text, .. } => Some(At::new(text.clone(), yaml.span)),
        Value::List(_) | Value::Map(_) | Value::Refused => {
            wrong_type(yaml, key, "one text", report);
            None
        }
    }
}

/// One text, or a list of them.
pub(super) fn texts(yaml: &Yaml, key: &str, report: &mut Report<'_>) -> Vec<At<String>> {
    if let Value::Scalar { .. } = yaml.value {
        return text(yaml, key, report).into_iter().collect();
    }
    let items = list(yaml, key, "a list of texts", report);
    if items.is_empty() && yaml.value == Value::List(Vec::new()) {
        report.error("empty_value", yaml.span, format!("`{key}` is empty")).help("give it a value, or delete the key");
    }
    items.iter().filter_map(|item| item_text(item, key, report)).collect()
}

/// An argument vector: at least the program.
pub(super) fn argv(yaml: &Yaml, key: &str, report: &mut Report<'_>) -> Option<At<Vec<String>>> {
    let wanted = "a list of arguments, as in `[./fence.sh, \"{node}\"]`";
    if !matches!(yaml.value, Value::List(_)) {
        wrong_type(yaml, key, wanted, report);
        return None;
    }
    let items = list(yaml, key, wanted, report);
    let program = items.first().and_then(Yaml::as_text).unwrap_or_default();
    if program.is_empty() {
        report.error("empty_command", yaml.start(), format!("a command of `{key}` names no program")).help(wanted);
        return None;
    }
    let arguments: Vec<String> = items.iter().filter_map(|item| argument(item, key, report)).collect();
    (arguments.len() == items.len()).then(|| At::new(arguments, yaml.span))
}

/// An argument may be empty, where other texts may not.
fn argument(yaml: &Yaml, key: &str, report: &mut Report<'_>) -> Option<String> {
    match &yaml.value {
        Value::Scalar { text, quoted: true } => Some(text.clone()),
        Value::Scalar { quoted: false, .. } | Value::List(_) | Value::Map(_) | Value::Refused => {
            item_text(yaml, key, report).map(|text| text.value)
        }
    }
}

fn item_text(yaml: &Yaml, key: &str, report: &mut Report<'_>) -> Option<At<String>> {
    if yaml.is_null() {
        report
            .error("no_value", yaml.span, format!("an item of `{key}` has no value"))
            .help("delete it, or quote it if the word itself is meant");
        return None;
    }
    text(yaml, key, report)
}

pub(super) fn list<'y>(yaml: &'y Yaml, key: &str, wanted: &str, report: &mut Report<'_>) -> &'y [Yaml] {
    match &yaml.value {
        Value::List(items) => items,
        Value::Scalar { .. } | Value::Map(_) | Value::Refused => {
            wrong_type(yaml, key, wanted, report);
            &[]
        }
    }
}

pub(super) fn map<'y>(yaml: &'y Yaml, what: &str, wanted: &str, report: &mut Report<'_>) -> &'y [Entry] {
    match &yaml.value {
        Value::Map(entries) => entries,
        Value::Scalar { .. } | Value::List(_) => {
            let message = format!("{what} has names with values under it; here is {}", yaml.describe());
            report.error("wrong_type", yaml.start(), message).help(wanted);
            &[]
        }
        Value::Refused => &[],
    }
}

pub(super) fn wrong_type(yaml: &Yaml, key: &str, wanted: &str, report: &mut Report<'_>) {
    if yaml.value != Value::Refused {
        report.error("wrong_type", yaml.start(), format!("`{key}` must be {wanted}, not {}", yaml.describe()));
    }
}

pub(super) fn no_value(entry: &Entry, report: &mut Report<'_>) {
    report
        .error("no_value", entry.key_span, format!("`{}` has no value", entry.key))
        .help("give it one, or delete the key; an empty text is `''`, and the word null needs quotes");
}

pub(super) fn names(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}
