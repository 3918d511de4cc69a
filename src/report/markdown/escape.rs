//! Text of others in Markdown and HTML, made inert.
//!
//! Code is what forges leave alone: no mention, no reference to an issue, no emoji, no link is made of it. So whatever
//! is more than plain words is code here, and what is in HTML has its three characters as entities.

use crate::report::words::visible;

/// Returns a text on one line: plain where it can't mean anything, else as code.
pub(super) fn inline(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { code(text) }
}

/// Whether it is words that mean nothing to Markdown, HTML or a forge: no link, no list, no `:emoji:`.
fn is_plain(text: &str) -> bool {
    let is_harmless = |c: char| c.is_ascii_alphanumeric() || " ,.;()'/-".contains(c);
    let begins_a_word = text.starts_with(|c: char| c.is_ascii_alphabetic());
    // Spaces at the end of a line break it.
    let breaks = text.ends_with(' ') || text.contains("  ");
    begins_a_word && !breaks && text.replace(": ", " ").chars().all(is_harmless) && !text.contains("www.")
}

/// Returns a code span, also good in a table.
pub(super) fn code(text: &str) -> String {
    let text = one_line(text).replace('|', "\\|");
    if text.trim().is_empty() {
        return "` `".to_owned();
    }
    let text = without_long_runs(text);
    let ticks = "`".repeat(longest_run(&text) + 1);
    // A reader takes one space off each end where there are two.
    let touches = |c: char| c == '`' || c == ' ';
    let space = if text.starts_with(touches) || text.ends_with(touches) { " " } else { "" };
    format!("{ticks}{space}{text}{space}{ticks}")
}

/// Returns the text for raw HTML: plain where it can't mean anything, else as code.
pub(super) fn html_inline(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { html_code(text) }
}

/// Returns the text for raw HTML, as code.
pub(super) fn html_code(text: &str) -> String {
    format!("<code>{}</code>", html(text))
}

/// Returns the text for raw HTML, on one line: an empty one would end it.
fn html(text: &str) -> String {
    one_line(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Returns a fenced block that nothing in it can close.
pub(super) fn fence(language: &str, text: &str) -> String {
    let text = without_long_runs(visible(text));
    let ticks = "`".repeat(longest_run(&text).max(2) + 1);
    format!("{ticks}{language}\n{}\n{ticks}\n", text.trim_end_matches('\n'))
}

fn one_line(text: &str) -> String {
    visible(text).replace(['\n', '\t'], " ")
}

/// What goes around code is as long as the most backticks in it, and a comment has no room for thousands.
fn without_long_runs(text: String) -> String {
    const MOST: usize = 40;
    if longest_run(&text) > MOST { text.replace('`', "\\u{60}") } else { text }
}

/// The most backticks in a row.
fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}
