//! Which rule of pg_hba.conf decides a connection.
//!
//! The first rule that matches in type, database, user and address decides, and nothing falls through to the next.
//! Some words can't be judged from the file alone (`+role`, `@file`, a name against an address): a rule with one may
//! decide, and so may those after it.

use std::net::IpAddr;

use crate::pg::hba::Rule;
use crate::pg::hba::Word;
use crate::pg::hba::network;

/// A connection, as pg_hba.conf sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection<'a> {
    pub way: Way<'a>,
    pub database: Database<'a>,
    /// Absent: not known.
    pub user: Option<&'a str>,
}

/// How a connection arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way<'a> {
    Socket,
    /// `from`: an address, or a name that leads to it; absent: not known.
    Tcp {
        encrypted: bool,
        from: Option<&'a str>,
    },
}

/// What a connection asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database<'a> {
    /// A physical walsender, whatever its `dbname` says.
    Replication,
    Named(&'a str),
}

/// Returns the rules that may decide a connection: all that may match before the first that surely does, and that one.
#[must_use]
pub fn deciders<'r>(rules: &'r [Rule], connection: &Connection<'_>) -> Vec<&'r Rule> {
    let mut deciders = Vec::new();
    for rule in rules {
        match matches(rule, connection) {
            Match::No => {}
            Match::Maybe => deciders.push(rule),
            Match::Yes => {
                deciders.push(rule);
                break;
            }
        }
    }
    deciders
}

/// Ordered, so that the weakest part of a rule is the least, and the best word of a list the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    No,
    Maybe,
    Yes,
}

impl Match {
    fn certain(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

fn matches(rule: &Rule, connection: &Connection<'_>) -> Match {
    let from = match (connection.way, rule.kind.as_str()) {
        (Way::Socket, "local") => Match::Yes,
        (Way::Tcp { from, .. }, "host" | "hostnogssenc") => address(rule, from),
        (Way::Tcp { encrypted: true, from }, "hostssl") => address(rule, from),
        (Way::Tcp { encrypted: false, from }, "hostnossl") => address(rule, from),
        (Way::Socket | Way::Tcp { .. }, _) => Match::No,
    };
    let best = |words: &[Word], one: &dyn Fn(&Word) -> Match| words.iter().map(one).max().unwrap_or(Match::No);
    let databases = best(&rule.databases, &|word| database(word, connection));
    let users = best(&rule.users, &|word| user(word, connection.user));
    from.min(databases).min(users)
}

fn database(word: &Word, connection: &Connection<'_>) -> Match {
    let text = word.text.as_str();
    match connection.database {
        Database::Replication if word.is_keyword("replication") => Match::Yes,
        Database::Replication => is_file(word),
        Database::Named(_) if word.quoted => same(word, connection.database),
        Database::Named(name) => match text {
            "all" => Match::Yes,
            "replication" => Match::No,
            "sameuser" => connection.user.map_or(Match::Maybe, |user| Match::certain(user == name)),
            "samerole" | "samegroup" => Match::Maybe,
            _ => same(word, connection.database).max(is_file(word)).max(is_pattern(word)),
        },
    }
}

fn same(word: &Word, database: Database<'_>) -> Match {
    Match::certain(database == Database::Named(word.text.as_str()))
}

fn user(word: &Word, user: Option<&str>) -> Match {
    if word.is_keyword("all") {
        return Match::Yes;
    }
    let named = user.map_or(Match::Maybe, |user| Match::certain(user == word.text));
    let is_role = if !word.quoted && word.text.starts_with('+') { Match::Maybe } else { Match::No };
    named.max(is_role).max(is_file(word)).max(is_pattern(word))
}

/// Names that stand in another file.
fn is_file(word: &Word) -> Match {
    if !word.quoted && word.text.starts_with('@') { Match::Maybe } else { Match::No }
}

/// A regular expression, quoted or not (16 and later; before, a name that is nobody's).
fn is_pattern(word: &Word) -> Match {
    if word.text.starts_with('/') { Match::Maybe } else { Match::No }
}

fn address(rule: &Rule, from: Option<&str>) -> Match {
    let Some(wanted) = rule.address.as_deref() else { return Match::No };
    let Some(from) = from.filter(|_| wanted != "all") else {
        return if wanted == "all" { Match::Yes } else { Match::Maybe };
    };
    let ip: Option<IpAddr> = if from == "localhost" { "127.0.0.1".parse().ok() } else { from.parse().ok() };
    match (ip, network(wanted)) {
        (Some(IpAddr::V4(ip)), Some(wanted)) => Match::certain(is_in((u128::from(ip.to_bits()), 32), wanted)),
        (Some(IpAddr::V6(ip)), Some(wanted)) => Match::certain(is_in((ip.to_bits(), 128), wanted)),
        (Some(ip), None) if ip.is_loopback() && ["samehost", "samenet"].contains(&wanted) => Match::Yes,
        (None, None) if from.eq_ignore_ascii_case(wanted) => Match::Yes,
        (Some(_) | None, _) => Match::Maybe,
    }
}

fn is_in((bits, width): (u128, u32), (network, length, network_width): (u128, u32, u32)) -> bool {
    let prefix = |bits: u128| bits.checked_shr(width.saturating_sub(length)).unwrap_or(0);
    width == network_width && prefix(bits) == prefix(network)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::hba::parse;

    fn lines(text: &str, connection: &Connection<'_>) -> Vec<usize> {
        deciders(&parse(text).expect("good rules"), connection).iter().map(|rule| rule.line).collect()
    }

    const STANDBY: Connection<'_> = Connection {
        way: Way::Tcp { encrypted: false, from: Some("10.1.2.3") },
        database: Database::Replication,
        user: Some("rep"),
    };
    const ADMIN: Connection<'_> =
        Connection { way: Way::Socket, database: Database::Named("postgres"), user: Some("postgres") };

    #[test]
    fn the_first_rule_that_matches_in_every_column_decides() {
        let text = "local all all peer\nhost all all all trust\nhost replication other all reject\n\
                    hostssl replication rep all reject\nhost replication rep 10.1.2.4/32 reject\n\
                    host replication rep 10.1.2.0/24 md5\nhost replication all all reject\n";
        assert_eq!(lines(text, &STANDBY), [6]);
        let encrypted = Connection { way: Way::Tcp { encrypted: true, from: Some("10.1.2.3") }, ..STANDBY };
        assert_eq!(lines(text, &encrypted), [4]);
        assert_eq!(lines(text, &ADMIN), [1]);
        assert!(lines("hostnossl all all all trust", &ADMIN).is_empty());
    }

    #[test]
    fn keywords_count_as_to_the_server_and_not_in_quotes() {
        assert!(lines("local replication,\"all\",template1 all trust", &ADMIN).is_empty());
        assert_eq!(lines("local sameuser all trust", &ADMIN), [1]);
        assert!(lines("local sameuser all trust", &Connection { user: Some("x"), ..ADMIN }).is_empty());
        assert!(lines("host \"replication\",all,sameuser all all trust", &STANDBY).is_empty());
        assert!(lines("local all \"all\",\"+dba\" trust", &ADMIN).is_empty());
    }

    #[test]
    fn what_the_file_alone_does_not_tell_may_decide_and_so_may_what_comes_after() {
        let text = "local all +dba reject\nlocal @names all reject\nlocal /^post all reject\nlocal samerole all reject\n\
                    local all postgres peer\nlocal all all reject\n";
        assert_eq!(lines(text, &ADMIN), [1, 2, 3, 4, 5]);
        assert_eq!(lines(text, &Connection { user: None, ..ADMIN }), [1, 2, 3, 4, 5, 6]);
        let text =
            "host replication rep db2 reject\nhost replication rep samenet reject\nhost replication rep all md5\n";
        assert_eq!(lines(text, &STANDBY), [1, 2, 3]);
        let named = Connection { way: Way::Tcp { encrypted: false, from: Some("DB2") }, ..STANDBY };
        assert_eq!(lines(text, &named), [1]);
        let unknown = Connection { way: Way::Tcp { encrypted: false, from: None }, ..STANDBY };
        assert_eq!(lines("host replication rep 10.0.0.0/8 md5\nhost replication rep all md5", &unknown), [1, 2]);
    }

    #[test]
    fn a_connection_of_the_same_machine_is_from_loopback() {
        let local = Connection { way: Way::Tcp { encrypted: false, from: Some("localhost") }, ..STANDBY };
        assert_eq!(lines("host replication rep ::1/128 reject\nhost replication rep 127.0.0.1/32 md5", &local), [2]);
        assert_eq!(lines("host replication rep samehost md5\nhost replication rep all trust", &local), [1]);
    }
}
