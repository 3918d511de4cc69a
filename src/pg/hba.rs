//! pg_hba.conf: reading its rules, writing new ones, and telling which rule decides a connection.
//!
//! The grammar is that of `src/backend/libpq/hba.c`; `include` lines and continuations are not followed: a file
//! that has them is read as far as a plain file is.

use std::borrow::Cow;
use std::net::IpAddr;

pub mod connection;

/// A word of a rule. Quotes take a keyword's meaning away: `"all"` is a database of that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    pub quoted: bool,
}

impl Word {
    fn is_keyword(&self, keyword: &str) -> bool {
        !self.quoted && self.text == keyword
    }
}

/// One rule as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// From 1.
    pub line: usize,
    pub kind: String,
    pub databases: Vec<Word>,
    pub users: Vec<Word>,
    /// Absent for `local`. A mask column is part of it.
    pub address: Option<String>,
    pub method: String,
    pub options: Vec<String>,
}

/// A line that is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct BadRule {
    /// From 1.
    pub line: usize,
    pub what: &'static str,
}

/// A rule to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRule {
    pub kind: String,
    pub databases: Vec<String>,
    pub users: Vec<String>,
    pub address: Option<String>,
    pub method: String,
    pub options: Vec<(String, String)>,
}

/// A word that can't be written into pg_hba.conf.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line break or a NUL can't stand in pg_hba.conf")]
pub struct Unwritable;

/// Returns the line of a rule, its columns aligned as people write them.
///
/// # Errors
///
/// [`Unwritable`] for a word with a line break or a NUL.
pub fn line(rule: &NewRule) -> Result<String, Unwritable> {
    let mut line = String::with_capacity(96);
    // A topology of many nodes has as many rules for each of them: nothing is allocated for a column.
    let column = |line: &mut String, width: usize, words: &mut dyn Iterator<Item = Cow<'_, str>>| {
        let begin = line.len();
        for (index, word) in words.enumerate() {
            line.push_str(if index == 0 { "" } else { "," });
            line.push_str(&word);
        }
        let missing = width.saturating_sub(line[begin..].chars().count());
        line.extend(std::iter::repeat_n(' ', missing + 1));
    };
    column(&mut line, 7, &mut std::iter::once(Cow::from(rule.kind.as_str())));
    column(&mut line, 15, &mut rule.databases.iter().map(|word| quoted(word)));
    column(&mut line, 15, &mut rule.users.iter().map(|word| quoted(word)));
    column(&mut line, 18, &mut rule.address.iter().map(|word| quoted(word)));
    column(&mut line, 0, &mut std::iter::once(quoted(&rule.method)));
    for (name, value) in &rule.options {
        column(&mut line, 0, &mut std::iter::once(quoted(&format!("{name}={value}"))));
    }
    line.truncate(line.trim_end().len());
    if line.contains(['\n', '\r', '\0']) { Err(Unwritable) } else { Ok(line) }
}

/// Quotes a word that would be cut in two, or read as a comment. Keywords stay keywords.
fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| !c.is_whitespace() && !"\",#\\".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.into()
    } else {
        format!("\"{}\"", word.replace('"', "\"\"")).into()
    }
}

/// Reads the rules of a pg_hba.conf.
///
/// # Errors
///
/// The first line that the server would refuse, and with it the whole file.
pub fn parse(text: &str) -> Result<Vec<Rule>, BadRule> {
    let lines = text.split('\n').enumerate();
    lines.filter_map(|(index, line)| read_rule(index + 1, line).transpose()).collect()
}

fn read_rule(line: usize, text: &str) -> Result<Option<Rule>, BadRule> {
    let bad = |what| BadRule { line, what };
    let mut columns = columns(text).into_iter();
    let Some(kind) = columns.next() else { return Ok(None) };
    let single = |column: Option<Vec<Word>>, what| match column.as_deref() {
        Some([word]) => Ok(word.text.clone()),
        Some(_) | None => Err(bad(what)),
    };
    let kind = single(Some(kind), "the connection type is a list")?;
    if !["local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"].contains(&kind.as_str()) {
        return Err(bad("unknown connection type"));
    }
    let databases = columns.next().ok_or_else(|| bad("no database"))?;
    let users = columns.next().ok_or_else(|| bad("no user"))?;
    let mut address = None;
    if kind != "local" {
        let mut given = single(columns.next(), "no address")?;
        if let Ok(ip) = given.parse() {
            let mask = single(columns.next(), "an address without a mask")?;
            let length = mask_length(ip, &mask).ok_or_else(|| bad("not a mask of the address before it"))?;
            given = format!("{given}/{length}");
        }
        address = Some(given);
    }
    let method = single(columns.next(), "no method")?;
    let options =
        columns.map(|column| column.into_iter().map(|word| word.text).collect::<Vec<_>>().join(",")).collect();
    Ok(Some(Rule { line, kind, databases, users, address, method, options }))
}

/// Splits a line into its columns, each a list. An open quote ends with the line.
fn columns(line: &str) -> Vec<Vec<Word>> {
    let mut columns: Vec<Vec<Word>> = Vec::new();
    let is_blank = |c: char| [' ', '\t', '\r'].contains(&c);
    let mut chars = line.chars().peekable();
    // After a comma the list goes on, also behind blanks.
    let mut list_goes_on = false;
    loop {
        // A comma with no word before it says nothing.
        while chars.next_if(|&c| is_blank(c) || c == ',').is_some() {}
        let first = match chars.peek() {
            None | Some('#') => return columns,
            Some(&first) => first,
        };
        // A quote within a word keeps blanks together, and a keyword a keyword.
        let mut word = Word { text: String::new(), quoted: first == '"' };
        let mut in_quotes = false;
        while let Some(c) = chars.next_if(|&c| in_quotes || !(is_blank(c) || c == ',' || c == '#')) {
            match c {
                '"' if in_quotes && chars.next_if_eq(&'"').is_some() => word.text.push('"'),
                '"' => in_quotes = !in_quotes,
                c => word.text.push(c),
            }
        }
        match columns.last_mut() {
            Some(list) if list_goes_on => list.push(word),
            Some(_) | None => columns.push(vec![word]),
        }
        list_goes_on = chars.next_if_eq(&',').is_some();
    }
}

fn mask_length(address: IpAddr, mask: &str) -> Option<u32> {
    let mask: IpAddr = mask.parse().ok()?;
    let (bits, ones) = match mask {
        IpAddr::V4(mask) => (mask.to_bits().leading_ones(), mask.to_bits().count_ones()),
        IpAddr::V6(mask) => (mask.to_bits().leading_ones(), mask.to_bits().count_ones()),
    };
    (bits == ones && mask.is_ipv4() == address.is_ipv4()).then_some(bits)
}

/// Whether the connections that `wanted` describes are decided as it says, all of them: the first rule that covers them
/// has its method and options, and so have those before it that take some of them.
#[must_use]
pub fn holds(rules: &[Rule], wanted: &Rule) -> bool {
    let says_so = |rule: &Rule| rule.method == wanted.method && rule.options == wanted.options;
    let decides = |rule: &&Rule| covers(rule, wanted) || (overlaps(rule, wanted) && !says_so(rule));
    rules.iter().find(decides).is_some_and(says_so)
}

/// Whether the connections that `wanted` describes may log in, by whatever method: the first rule that covers all of
/// them does not reject them.
#[must_use]
pub fn admits(rules: &[Rule], wanted: &Rule) -> bool {
    rules.iter().find(|rule| covers(rule, wanted)).is_some_and(|rule| rule.method != "reject")
}

/// Whether every connection that `wanted` describes is one that `rule` describes.
fn covers(rule: &Rule, wanted: &Rule) -> bool {
    let kind = rule.kind == wanted.kind || (rule.kind == "host" && wanted.kind != "local");
    let databases =
        wanted.databases.iter().all(|database| rule.databases.iter().any(|word| holds_database(word, database)));
    let users = wanted.users.iter().all(|user| rule.users.iter().any(|word| holds_user(word, user)));
    let addresses = match (&rule.address, &wanted.address) {
        (Some(rule), Some(wanted)) => covers_address(rule, wanted),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    kind && databases && users && addresses
}

/// Whether some connection that `wanted` describes may be one that `rule` describes.
fn overlaps(rule: &Rule, wanted: &Rule) -> bool {
    let disjoint = [["hostssl", "hostnossl"], ["hostgssenc", "hostnogssenc"], ["hostssl", "hostgssenc"]];
    let kinds = [rule.kind.as_str(), wanted.kind.as_str()];
    let kind = (kinds[0] == "local") == (kinds[1] == "local")
        && !disjoint.iter().any(|pair| kinds[0] != kinds[1] && kinds.iter().all(|kind| pair.contains(kind)));
    let some = |ours: &[Word], theirs: &[Word], holds: fn(&Word, &Word) -> bool| {
        ours.iter().any(|one| {
            theirs.iter().any(|other| holds(one, other) || holds(other, one) || is_open(one) || is_open(other))
        })
    };
    let addresses = match (&rule.address, &wanted.address) {
        (Some(rule), Some(wanted)) => {
            covers_address(rule, wanted)
                || covers_address(wanted, rule)
                || network(rule).is_none()
                || network(wanted).is_none()
        }
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    kind && some(&rule.databases, &wanted.databases, holds_database)
        && some(&rule.users, &wanted.users, holds_user)
        && addresses
}

/// Whether a word stands for names that the file alone does not tell.
fn is_open(word: &Word) -> bool {
    word.text.starts_with('/')
        || (!word.quoted
            && (word.text.starts_with(['+', '@'])
                || ["sameuser", "samerole", "samegroup"].contains(&word.text.as_str())))
}

/// `all` does not match a physical replication connection.
fn holds_database(word: &Word, database: &Word) -> bool {
    (word.is_keyword("all") && !database.is_keyword("replication"))
        || same_name(word, database, &["all", "replication", "sameuser", "samerole"])
}

fn holds_user(word: &Word, user: &Word) -> bool {
    word.is_keyword("all") || same_name(word, user, &["all"])
}

/// Whether two words are the same name: a quoted keyword is a name, and not the keyword.
fn same_name(a: &Word, b: &Word, keywords: &[&str]) -> bool {
    a.text == b.text && (a.quoted == b.quoted || !keywords.contains(&a.text.as_str()))
}

fn covers_address(rule: &str, wanted: &str) -> bool {
    if rule == "all" || rule == wanted {
        return true;
    }
    match (network(rule), network(wanted)) {
        (Some((rule, rule_length, rule_width)), Some((wanted, wanted_length, wanted_width))) => {
            let shift = rule_width - rule_length;
            let prefix = |bits: u128| bits.checked_shr(shift).unwrap_or(0);
            rule_width == wanted_width && rule_length <= wanted_length && prefix(rule) == prefix(wanted)
        }
        _ => false,
    }
}

/// Returns the address as a number, the length of its prefix and its width in bits.
fn network(text: &str) -> Option<(u128, u32, u32)> {
    let (address, length) = text.split_once('/')?;
    let length: u32 = length.parse().ok()?;
    let (bits, width) = match address.parse().ok()? {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    (length <= width).then_some((bits, length, width))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> Rule {
        parse(text).expect("a good rule").remove(0)
    }

    #[test]
    fn a_rule_is_read_as_the_server_reads_it() {
        let rule = one("host db1, \"all\",x \t rep 10.0.0.1 255.0.0.0 ldap \"ldapserver=a b\" # why");
        assert_eq!(rule.databases.iter().map(|word| word.text.as_str()).collect::<Vec<_>>(), ["db1", "all", "x"]);
        assert!(rule.databases[1].quoted);
        assert_eq!(rule.address.as_deref(), Some("10.0.0.1/8"));
        assert_eq!(rule.options, ["ldapserver=a b"]);
        for bad in [
            "HOST all all all trust",
            "host all all",
            "local all",
            "host \"a all",
            "host all all 10.0.0.1 trust",
            "host all all 10.0.0.1 ffff:: trust",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    /// Tried on a server of 15 (`pg_hba_file_rules`).
    #[test]
    fn commas_blanks_and_quotes_count_as_they_do_to_the_server() {
        for (text, database, user, method) in [
            ("local ,a b trust", "a", "b", "trust"),
            ("local a ,b trust,", "a", "b", "trust"),
            ("local a,,b c trust", "a|b", "c", "trust"),
            ("local a, b c trust", "a|b", "c", "trust"),
            ("local a b \"trust", "a", "b", "trust"),
            ("local a\"\"b \"\" trust#", "ab", "", "trust"),
            ("local a\"b c\"d b trust\r", "ab cd", "b", "trust"),
        ] {
            let rule = one(text);
            let words = |words: &[Word]| words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join("|");
            assert_eq!((words(&rule.databases), words(&rule.users)), (database.into(), user.into()), "{text}");
            assert_eq!(rule.method, method, "{text}");
        }
        assert_eq!(parse(" ,\t,, # none"), Ok(vec![]));
        let quoted = |text| one(text).databases[0].quoted;
        assert!(quoted("local \"a\"ll b trust") && !quoted("local a\"ll\" b trust"));
    }

    #[test]
    fn the_first_rule_that_covers_a_connection_decides_it() {
        let wanted = one("host replication rep 10.1.2.3/32 trust");
        let holds = |text: &str| super::holds(&parse(text).expect("good rules"), &wanted);
        assert!(holds("host replication all 10.0.0.0/8 trust"));
        assert!(holds("hostssl all all all reject\nhost all,replication rep all trust"));
        assert!(!holds("host replication rep 10.1.2.3/32 md5\nhost replication rep 10.1.2.3/32 trust"));
        // `all` never admits a standby, and a quoted keyword is only a name.
        assert!(!holds("host all all all trust"));
        assert!(!holds("host \"replication\" rep all trust"));
        assert!(!holds("hostssl replication rep all trust"));
        assert!(!holds("host replication rep 10.1.2.4/31 trust"));
        assert!(holds("host replication rep 10.1.2.2/31 trust"));
        assert!(!holds("host replication rep ::/0 trust"));
    }

    #[test]
    fn an_earlier_rule_that_takes_some_of_the_connections_must_say_the_same() {
        let wanted = one("host replication rep 10.1.2.0/24 trust");
        let holds = |earlier: &str| {
            super::holds(
                &parse(&format!("{earlier}\nhost replication rep 10.0.0.0/8 trust")).expect("good rules"),
                &wanted,
            )
        };
        for earlier in [
            "host replication rep 10.1.2.7/32 reject",
            "hostssl replication rep all reject",
            "host replication +standbys all md5",
            "host @names rep samenet md5",
            "host replication all db2 reject",
        ] {
            assert!(!holds(earlier), "{earlier}");
        }
        for earlier in [
            "host replication rep 10.1.2.7/32 trust",
            "host replication rep 10.1.3.7/32 reject",
            "host replication other all reject",
            "host all rep all reject",
            "local replication rep reject",
        ] {
            assert!(holds(earlier), "{earlier}");
        }
        let encrypted = one("hostssl replication rep all trust");
        assert!(super::holds(
            &parse("hostnossl all,replication all all reject\nhost replication all all trust").expect("good rules"),
            &encrypted
        ));
    }

    #[test]
    fn words_that_would_be_cut_are_quoted() {
        let rule = NewRule {
            kind: "host".into(),
            databases: vec!["a b".into(), "all".into()],
            users: vec!["x\"y".into()],
            address: Some(String::new()),
            method: "ldap".into(),
            options: vec![("ldapprefix".into(), "cn=a, b".into())],
        };
        let read = one(&line(&rule).expect("writable"));
        assert_eq!(read.databases[0].text, "a b");
        assert!(!read.databases[1].quoted);
        assert_eq!(read.users[0].text, "x\"y");
        assert_eq!((read.address.as_deref(), read.method.as_str()), (Some(""), "ldap"));
        assert_eq!(read.options, ["ldapprefix=cn=a, b"]);
        assert_eq!(line(&NewRule { method: "a\nb".into(), ..rule }), Err(Unwritable));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text: String) {
            let _ = parse(&text);
        }
    }
}
