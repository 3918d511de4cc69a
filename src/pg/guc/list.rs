//! Parameters whose text is a list: what the text means, in a form in which equal meanings are equal.
//!
//! PostgreSQL itself compares such parameters by their bytes: `a,b` against `a, b` is a pending restart. pgpair
//! leaves a text alone that already means what is wanted.

/// Returns the meaning of a list parameter's text; `None` for other parameters and for text that can't be read.
pub(super) fn meaning(name: &str, text: &str) -> Option<Vec<String>> {
    match name {
        "synchronous_standby_names" => standbys(text),
        "log_destination" => split(text, Style::Identifier).map(as_set),
        "log_connections" => split(text, Style::Identifier).map(log_connections),
        "synchronized_standby_slots" => split(text, Style::Identifier).map(as_set),
        "search_path" | "temp_tablespaces" => split(text, Style::Identifier),
        "listen_addresses" => split(text, Style::Verbatim),
        "shared_preload_libraries"
        | "session_preload_libraries"
        | "local_preload_libraries"
        | "unix_socket_directories" => split(text, Style::Path),
        "DateStyle" => split(text, Style::Identifier).and_then(|words| date_style(&words)),
        _ => None,
    }
}

fn as_set(mut words: Vec<String>) -> Vec<String> {
    words.sort();
    words.dedup();
    words
}

/// The aspects of a connection that 18 logs; `on` is what 17 logged.
fn log_connections(words: Vec<String>) -> Vec<String> {
    let on = ["receipt", "authentication", "authorization"];
    let aspects = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["off" | "false" | "no" | "0"] => Vec::new(),
        ["on" | "true" | "yes" | "1"] => on.map(String::from).to_vec(),
        _ if words.iter().any(|word| word == "all") => {
            on.into_iter().chain(["setup_durations"]).map(String::from).collect()
        }
        _ => words,
    };
    as_set(aspects)
}

/// The style and the order of day, month and year; what isn't said keeps its default.
fn date_style(words: &[String]) -> Option<Vec<String>> {
    let (mut style, mut order) = ("iso", None);
    for word in words {
        match word.as_str() {
            "iso" => style = "iso",
            "sql" => style = "sql",
            "german" => style = "german",
            "ymd" => order = Some("ymd"),
            "mdy" | "us" => order = Some("mdy"),
            "dmy" => order = Some("dmy"),
            word if word.starts_with("postgres") => style = "postgres",
            word if word.starts_with("euro") => order = Some("dmy"),
            word if word.starts_with("noneuro") => order = Some("mdy"),
            _ => return None,
        }
    }
    let order = order.unwrap_or(if style == "german" { "dmy" } else { "mdy" });
    Some(vec![style.to_owned(), order.to_owned()])
}

/// How the elements of a list are written: the functions `Split…String` of varlena.c.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// `SplitIdentifierString`: in lower case unless quoted.
    Identifier,
    /// `SplitGUCList`.
    Verbatim,
    /// `SplitDirectoriesString`: may hold blanks.
    Path,
}

fn split(text: &str, style: Style) -> Option<Vec<String>> {
    let mut elements = Vec::new();
    let mut rest = text.trim_start_matches(is_blank);
    if rest.is_empty() {
        return Some(elements);
    }
    loop {
        let (element, after) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let ends = |c: char| c == ',' || (style != Style::Path && is_blank(c));
                let (word, after) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
                let word = word.trim_end_matches(is_blank);
                if word.is_empty() {
                    return None;
                }
                (if style == Style::Identifier { word.to_ascii_lowercase() } else { word.to_owned() }, after)
            }
        };
        elements.push(element);
        rest = after.trim_start_matches(is_blank);
        if rest.is_empty() {
            return Some(elements);
        }
        rest = rest.strip_prefix(',')?.trim_start_matches(is_blank);
    }
}

/// Reads to the closing quote; `""` stands for one quote.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut unquoted = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"')?;
        unquoted.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                unquoted.push('"');
                rest = more;
            }
            None => return Some((unquoted, after)),
        }
    }
}

/// A token of `synchronous_standby_names` (syncrep_scanner.l).
#[derive(PartialEq, Eq)]
enum Token {
    First,
    Any,
    Name(String),
    Number(String),
    Open,
    Close,
    Comma,
}

/// Reads `synchronous_standby_names` (syncrep_gram.y): the method with its number, and the names.
///
/// The names are compared with `application_name` in any case. The order is a priority under FIRST only; a
/// bare list is FIRST 1.
fn standbys(text: &str) -> Option<Vec<String>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let tokens = tokens(text)?;
    let (any, number, list) = match &tokens[..] {
        [method @ (Token::First | Token::Any), Token::Number(number), Token::Open, list @ .., Token::Close] => {
            (*method == Token::Any, number.as_str(), list)
        }
        [Token::Number(number), Token::Open, list @ .., Token::Close] => (false, number.as_str(), list),
        list => (false, "1", list),
    };
    let number: i32 = number.parse().ok().filter(|&number| number > 0)?;
    let mut names = Vec::new();
    for (place, token) in list.iter().enumerate() {
        match (place % 2, token) {
            (0, Token::Name(name) | Token::Number(name)) => names.push(name.to_ascii_lowercase()),
            (1, Token::Comma) => {}
            _ => return None,
        }
    }
    if list.len() % 2 == 0 {
        return None;
    }
    let (method, mut meaning) = if any { ("ANY", as_set(names)) } else { ("FIRST", names) };
    meaning.insert(0, format!("{method} {number}"));
    Some(meaning)
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let starts_name = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches(is_blank);
    while let Some(c) = rest.chars().next() {
        let (token, after) = match c {
            '"' => unquote(&rest[1..]).map(|(name, after)| (Token::Name(name), after))?,
            '(' => (Token::Open, &rest[1..]),
            ')' => (Token::Close, &rest[1..]),
            ',' => (Token::Comma, &rest[1..]),
            '*' => (Token::Name("*".to_owned()), &rest[1..]),
            c if c.is_ascii_digit() => {
                let (digits, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
                (Token::Number(digits.to_owned()), after)
            }
            c if starts_name(c) => {
                let ends = |c: char| !(starts_name(c) || c.is_ascii_digit() || c == '$');
                let (word, after) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
                let token = match word.to_ascii_lowercase().as_str() {
                    "first" => Token::First,
                    "any" => Token::Any,
                    _ => Token::Name(word.to_owned()),
                };
                (token, after)
            }
            _ => return None,
        };
        tokens.push(token);
        rest = after.trim_start_matches(is_blank);
    }
    Some(tokens)
}

/// PostgreSQL's `scanner_isspace`.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0C' | '\x0B')
}
