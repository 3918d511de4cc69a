//! Rules of pg_hba.conf, as the version of PostgreSQL takes them.

use std::net::IpAddr;

use crate::pg::version::Major;
use crate::topology::HbaLine;
use crate::topology::diagnostic::Report;
use crate::topology::diagnostic::closest;
use crate::topology::model::At;
use crate::topology::model::DraftRule;
use crate::topology::validate::quoted;
use crate::topology::validate::values;

pub(super) fn hba_line(draft: &DraftRule, major: Option<Major>, report: &mut Report<'_>) -> Option<HbaLine> {
    for (key, names) in [("database", &draft.database), ("user", &draft.user)] {
        for name in names.iter().filter(|name| name.value.contains(',')) {
            let items: Vec<&str> = name.value.split(',').map(str::trim).collect();
            report
                .error("bad_rule", name.span, format!("`{key}` holds a comma: `{}`", name.value))
                .help(format!("write a list: [{}]", items.join(", ")));
        }
    }
    if let (Some(kind), Some(major)) = (&draft.kind, major) {
        known_word(kind, "rule type", major, Major::hba_types, report);
    }
    if let (Some(method), Some(major)) = (&draft.method, major) {
        known_word(method, "authentication method", major, Major::hba_methods, report);
    }
    match (draft.kind.as_ref().map(|kind| kind.value.as_str()), &draft.address) {
        (Some("local"), Some(address)) => {
            report
                .error("bad_rule", address.span, "a rule of type `local` has no address")
                .help("delete the address, or take `type: host`");
        }
        (Some("local") | None, _) => {}
        (Some(kind), None) => {
            report
                .error("bad_rule", draft.span, format!("a rule of type `{kind}` needs an `address`"))
                .help("as in `address: 10.0.0.0/8`; `all` is every address");
        }
        (Some(_), Some(address)) => check_address(address, report),
    }
    if let (Some(kind), Some(method)) = (&draft.kind, &draft.method) {
        let remedy = match (kind.value.as_str(), method.value.as_str()) {
            ("local", "gss" | "sspi") => "it needs `type: host`",
            ("local", "cert") | ("host" | "hostnossl" | "hostgssenc" | "hostnogssenc", "cert") => {
                "it needs `type: hostssl`"
            }
            ("host" | "hostssl" | "hostnossl" | "hostgssenc" | "hostnogssenc", "peer") => "it needs `type: local`",
            (_, _) => "",
        };
        if !remedy.is_empty() {
            let message = format!("method `{}` does not go with a rule of type `{}`", method.value, kind.value);
            report.error("bad_rule", method.span, message).help(remedy);
        }
    }
    for option in &draft.options {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !option.name.value.chars().all(plain) {
            report
                .error("bad_rule", option.name.span, format!("`{}` is not the name of an option", option.name.value))
                .help("as in `options: { map: admins }`");
        }
    }
    let texts = |names: &[At<String>]| names.iter().map(|name| name.value.clone()).collect::<Vec<_>>();
    Some(HbaLine {
        kind: draft.kind.as_ref()?.value.clone(),
        database: texts(&draft.database),
        user: texts(&draft.user),
        address: draft.address.as_ref().map(|address| address.value.clone()),
        method: draft.method.as_ref()?.value.clone(),
        options: values(draft.options.clone()),
    })
}

fn known_word<I: Iterator<Item = &'static str>>(
    word: &At<String>,
    what: &str,
    major: Major,
    words_of: impl Fn(Major) -> I,
    report: &mut Report<'_>,
) {
    let text = word.value.as_str();
    if words_of(major).any(|known| known == text) {
        return;
    }
    let words: Vec<&str> = words_of(major).collect();
    let help = match Major::all().find(|other| words_of(*other).any(|known| known == text)) {
        Some(first) => format!("it came with PostgreSQL {first}"),
        None => match closest(text, words.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("there are {}", quoted(&words)),
        },
    };
    report
        .error("bad_rule", word.span, format!("pg_hba.conf of PostgreSQL {major} knows no {what} `{text}`"))
        .help(help);
}

/// The address of a rule: with its length, a name, `.suffix`, or one of three words.
pub(super) fn check_address(address: &At<String>, report: &mut Report<'_>) {
    let text = address.value.as_str();
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let mut complain = |help: String| {
        report.error("bad_address", address.span, format!("`{text}` is not an address for pg_hba.conf")).help(help);
    };
    if let Some((ip, length)) = text.split_once('/') {
        match (ip.parse::<IpAddr>(), length.parse::<u8>()) {
            (Ok(ip), Ok(length)) if length <= if ip.is_ipv4() { 32 } else { 128 } => {}
            (Ok(ip), _) => {
                let most = if ip.is_ipv4() { 32 } else { 128 };
                complain(format!("what follows the `/` is a number from 0 to {most}"));
            }
            (Err(_), _) => complain("a length goes with an IP address only, as in `10.0.0.0/8`".to_owned()),
        }
    } else if let Ok(ip) = text.parse::<IpAddr>() {
        complain(format!("an IP address needs its length: `{text}/{}`", if ip.is_ipv4() { 32 } else { 128 }));
    } else if text == "*" {
        complain("every address is `all`".to_owned());
    } else if !text.chars().all(name) || text.chars().all(|c| c.is_ascii_digit() || c == '.') {
        complain("as in `10.0.0.0/8`, `db1.example.org`, `.example.org`, `samenet` or `all`".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::diagnostic::Span;

    fn at(text: &str) -> At<String> {
        At { value: text.to_owned(), span: Span::default() }
    }

    fn good(check: impl Fn(&At<String>, &mut Report<'_>), text: &str) -> bool {
        let mut report = Report::on("t.yaml");
        check(&at(text), &mut report);
        report.is_empty()
    }

    #[test]
    fn only_an_address_of_pg_hba_is_one() {
        for text in ["10.0.0.0/8", "::1/128", "all", "samenet", "db1", ".example.org", "10.0.0.1/24"] {
            assert!(good(check_address, text), "{text}");
        }
        for text in
            ["10.0.0.1", "::1", "10.0.0.0/33", "::/129", "db1/8", "10.0.0", "*", "a b", "10.0.0.0/-1", "10.0.0.0/"]
        {
            assert!(!good(check_address, text), "{text}");
        }
    }
}
