//! The change of a file: one column, and two beside each other where the page is wide enough for both.
//!
//! It is one tree for both, which the style sheet lays out; only the unchanged lines stand there twice, the second time
//! for the right-hand column alone. Long lines are broken, so that nothing is cut off on paper or out of sight.

use maud::Markup;
use maud::html;

use crate::report::DiffReport;

/// Lines of a diff that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part<'a> {
    /// Where in the file the following is.
    At(&'a str),
    Same {
        old: Vec<Line<'a>>,
        new: Vec<Line<'a>>,
    },
    Changed {
        old: Vec<Line<'a>>,
        new: Vec<Line<'a>>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line<'a> {
    number: usize,
    text: &'a str,
}

/// Renders the change of a file; with its name, where what stands above does not say it.
pub(super) fn diff(diff: &DiffReport, named: bool) -> Markup {
    let parts = parts(&diff.unified);
    html! {
        figure.file {
            @if named || diff.unified.is_empty() {
                figcaption {
                    code { (diff.file) }
                    @if diff.unified.is_empty() { " (empty)" }
                }
            }
            @if !parts.is_empty() {
                div class=(if is_two_sided(&parts) { "diff two" } else { "diff" }) {
                    @for part in &parts { (rendered(part)) }
                }
            }
        }
    }
}

/// Whether anything was there before and is otherwise now; a text that is all new has one side.
fn is_two_sided(parts: &[Part<'_>]) -> bool {
    let has = |which: fn(&Part<'_>) -> bool| parts.iter().any(which);
    has(|part| matches!(part, Part::Changed { old, .. } if !old.is_empty()))
        && has(|part| matches!(part, Part::Changed { new, .. } if !new.is_empty()))
}

fn rendered(part: &Part<'_>) -> Markup {
    html! {
        @match part {
            Part::At(place) => div.at { (place) },
            Part::Same { old, new } => {
                div.same { @for line in old { (one(*line, " ", ("", line.text, ""))) } }
                div.same.right aria-hidden="true" { @for line in new { (one(*line, " ", ("", line.text, ""))) } }
            }
            Part::Changed { old, new } => {
                @let pairs = old.len() == new.len();
                div.old {
                    @for (index, line) in old.iter().enumerate() {
                        (one(*line, "-", split(line.text, pairs.then(|| new[index].text))))
                    }
                }
                div.new {
                    @for (index, line) in new.iter().enumerate() {
                        (one(*line, "+", split(line.text, pairs.then(|| old[index].text))))
                    }
                }
            }
        }
    }
}

/// A line with its number and sign, and the part of it that is not as in its counterpart.
fn one(line: Line<'_>, sign: &str, (before, changed, after): (&str, &str, &str)) -> Markup {
    html! {
        div.line {
            span.number { (line.number) }
            span.sign { (sign) }
            code {
                @if before.is_empty() && after.is_empty() { (changed) } @else {
                    (before)
                    @if !changed.is_empty() { mark { (changed) } }
                    (after)
                }
            }
        }
    }
}

/// Splits a line into what it has in common with its counterpart, and what it has not, in whole words: that two numbers
/// have a digit in common says nothing.
fn split<'a>(text: &'a str, other: Option<&str>) -> (&'a str, &'a str, &'a str) {
    let Some(other) = other else { return ("", text, "") };
    let common = |(ours, theirs): &(char, char)| ours == theirs;
    let length = |(c, _): (char, char)| c.len_utf8();
    let begin: usize = text.chars().zip(other.chars()).take_while(common).map(length).sum();
    let (ours, theirs) = (&text[begin..], &other[begin..]);
    let end: usize = ours.chars().rev().zip(theirs.chars().rev()).take_while(common).map(length).sum();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let begin = text[..begin].trim_end_matches(is_word).len();
    let after = text[text.len() - end..].trim_start_matches(is_word);
    (&text[..begin], &text[begin..text.len() - after.len()], after)
}

/// Takes a unified diff apart.
fn parts(unified: &str) -> Vec<Part<'_>> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    let (mut old_at, mut new_at) = (1, 1);
    for text in unified.lines() {
        let mut signs = text.chars();
        let (sign, rest) = (signs.next(), signs.as_str());
        match sign {
            Some('@') => {
                (old_at, new_at) = starts(text);
                parts.push(Part::At(text));
            }
            Some('-') => {
                changed(&mut parts).0.push(Line { number: old_at, text: rest });
                old_at += 1;
            }
            Some('+') => {
                changed(&mut parts).1.push(Line { number: new_at, text: rest });
                new_at += 1;
            }
            Some(_) | None => {
                let (old, new) = same(&mut parts);
                old.push(Line { number: old_at, text: rest });
                new.push(Line { number: new_at, text: rest });
                (old_at, new_at) = (old_at + 1, new_at + 1);
            }
        }
    }
    parts
}

type Sides<'p, 'a> = (&'p mut Vec<Line<'a>>, &'p mut Vec<Line<'a>>);

/// The part that changed lines are added to: the last one, or a new one.
fn changed<'p, 'a>(parts: &'p mut Vec<Part<'a>>) -> Sides<'p, 'a> {
    if !matches!(parts.last(), Some(Part::Changed { .. })) {
        parts.push(Part::Changed { old: Vec::new(), new: Vec::new() });
    }
    match parts.last_mut() {
        Some(Part::Changed { old, new }) => (old, new),
        Some(Part::At(_) | Part::Same { .. }) | None => unreachable!("it was just made"),
    }
}

/// The same for lines that stay as they are.
fn same<'p, 'a>(parts: &'p mut Vec<Part<'a>>) -> Sides<'p, 'a> {
    if !matches!(parts.last(), Some(Part::Same { .. })) {
        parts.push(Part::Same { old: Vec::new(), new: Vec::new() });
    }
    match parts.last_mut() {
        Some(Part::Same { old, new }) => (old, new),
        Some(Part::At(_) | Part::Changed { .. }) | None => unreachable!("it was just made"),
    }
}

/// The numbers of the first lines, from `@@ -62,3 +62,3 @@`.
fn starts(head: &str) -> (usize, usize) {
    let number = |sign: char| {
        let rest = head.split(sign).nth(1)?;
        rest.split([',', ' ']).next()?.parse().ok()
    };
    (number('-').unwrap_or(1), number('+').unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unified_diff_falls_into_what_stays_and_what_changes_with_the_numbers_of_both_files() {
        let unified = DiffReport::between("f", "a\nb\nc\nd\n", "a\nx\ny\nc\nd\n").unified;
        let line = |number, text| Line { number, text };
        let expected = [
            Part::At("@@ -1,3 +1,4 @@"),
            Part::Same { old: vec![line(1, "a")], new: vec![line(1, "a")] },
            Part::Changed { old: vec![line(2, "b")], new: vec![line(2, "x"), line(3, "y")] },
            Part::Same { old: vec![line(3, "c")], new: vec![line(4, "c")] },
        ];
        assert_eq!(parts(&unified), expected);
    }

    #[test]
    fn the_words_of_a_line_that_change_are_found() {
        assert_eq!(split("wal = 3", Some("wal = 10")), ("wal = ", "3", ""));
        assert_eq!(split("wal = 10", Some("wal = 3")), ("wal = ", "10", ""));
        assert_eq!(split("# a 0ba0f end", Some("# a 0a40f end")), ("# a ", "0ba0f", " end"));
        assert_eq!(split("aa", Some("aaa")), ("", "aa", ""));
        assert_eq!(split("x = 'ü' ", Some("x = 'ö' ")), ("x = '", "ü", "' "));
        assert_eq!(split("a", None), ("", "a", ""));
    }
}
