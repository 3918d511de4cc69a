//! Where the nodes are: addresses, ways to a machine, folders, and paths made absolute.
//!
//! Looks at no disk and asks no DNS.

use std::net::IpAddr;

use indexmap::IndexMap;

use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::diagnostic::Report;
use crate::topology::diagnostic::Span;
use crate::topology::model::At;
use crate::topology::model::DraftNode;

pub(super) const DEFAULT_HOST: &str = "127.0.0.1";

pub(in crate::topology) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

pub(super) fn check_hosts(nodes: &[DraftNode], report: &mut Report<'_>) {
    let mut all_good = true;
    for node in nodes {
        if let Some(host) = &node.host {
            all_good &= check_host(host, report);
        }
        if let Some(ssh) = &node.ssh {
            check_ssh(ssh, report);
        }
        for (key, user) in [("become", &node.r#become), ("os_user", &node.os_user)] {
            if let Some(user) = user {
                check_os_user(user, key, report);
            }
        }
    }
    // As soon as the nodes may be on several machines, each needs an address that leads to it from the others.
    let first_ssh = nodes.iter().find_map(|node| node.ssh.as_ref().map(|ssh| (ssh.span, "a node is reached by ssh")));
    let address = |node: &DraftNode| node.host.as_ref().map_or(DEFAULT_HOST, |host| host.value.as_str()).to_owned();
    let several = || {
        let first = nodes.iter().find(|node| !is_loopback(&address(node)))?;
        let other = nodes.iter().any(|node| machine_address(&address(node)) != machine_address(&address(first)));
        other.then(|| (first.host.as_ref().map_or(first.name.span, |host| host.span), "a node has this host"))
    };
    let Some((because, label)) = first_ssh.or_else(several) else { return };
    if nodes.len() == 1 || !all_good {
        return;
    }
    for node in nodes {
        let name = &node.name.value;
        match &node.host {
            None => {
                report
                    .error("host_needed", node.name.span, format!("node `{name}` needs a `host`"))
                    .also(because, label)
                    .help("give every node the address that the other nodes use");
            }
            Some(host) if is_loopback(&host.value) => {
                let message = format!("`{}` does not lead to node `{name}` from another machine", host.value);
                report
                    .error("loopback_host", host.span, message)
                    .also(because, label)
                    .help("give every node the address that the other nodes use");
            }
            Some(_) => {}
        }
    }
}

/// Whether the host can be one.
fn check_host(host: &At<String>, report: &mut Report<'_>) -> bool {
    let text = host.value.as_str();
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let of_listen_addresses = "`host` is one address that the other nodes use; what the server listens on is the parameter `listen_addresses`";
    let help = match text.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => of_listen_addresses,
        Ok(_) => return true,
        Err(_) if text.starts_with('-') => "an address never begins with `-`",
        Err(_) if text.starts_with('[') => "write an IPv6 address without brackets, in quotes",
        Err(_) if text.contains(['*', ',']) => of_listen_addresses,
        Err(_) if text.contains(':') => "the port has a key of its own, `port`",
        Err(_) if text.contains('/') => "`host` is a name or an IP address; leave it out for a node on this machine",
        Err(_) if !text.chars().all(name) => "take a name or an IP address",
        Err(_) if text.chars().all(|c| c.is_ascii_digit() || c == '.') => {
            "an IPv4 address has four numbers from 0 to 255"
        }
        Err(_) => return true,
    };
    report.error("bad_host", host.span, format!("`{text}` is not the address of a node")).help(help);
    false
}

/// `[user@]host[:port]`, IPv6 in brackets: never anything that ssh would take for an option.
fn check_ssh(ssh: &At<String>, report: &mut Report<'_>) {
    let text = ssh.value.as_str();
    let word = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
    };
    let (user, rest) = text.split_once('@').map_or((None, text), |(user, rest)| (Some(user), rest));
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, tail)) if host.parse::<IpAddr>().is_ok() => {
            (Some("ipv6"), tail.strip_prefix(':').or((!tail.is_empty()).then_some("?")))
        }
        Some(_) => (None, None),
        None => rest.split_once(':').map_or((Some(rest), None), |(host, port)| (Some(host), Some(port))),
    };
    let good = user.is_none_or(word)
        && host.is_some_and(word)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if good {
        return;
    }
    let help = if text.starts_with('-') {
        "it must not begin with `-`: ssh would take it for an option"
    } else if text.contains("://") {
        "leave `ssh://` out"
    } else if text.contains(' ') {
        "options of ssh belong in ~/.ssh/config"
    } else {
        "as in `postgres@db2` or `postgres@db2:2222`"
    };
    report.error("bad_ssh", ssh.span, format!("`{text}` is not `[user@]host[:port]`")).help(help);
}

pub(super) fn check_os_user(user: &At<String>, key: &str, report: &mut Report<'_>) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
    if user.value.starts_with('-') || !user.value.chars().all(plain) {
        report
            .error("bad_name", user.span, format!("`{key}` can't be `{}`", user.value))
            .help("take the name of a user of the operating system");
    }
}

/// What tells one machine from another by address.
fn machine_address(host: &str) -> String {
    if is_loopback(host) { "loopback".to_owned() } else { host.to_ascii_lowercase() }
}

/// What tells one machine from another by the way to it: who logs in does not matter.
fn machine_login(ssh: Option<&str>) -> &str {
    ssh.map_or("", |ssh| ssh.split_once('@').map_or(ssh, |(_, host)| host))
}

pub(in crate::topology) fn on_one_machine(one: &Node, other: &Node) -> bool {
    machine_login(one.ssh.as_deref()) == machine_login(other.ssh.as_deref())
        || machine_address(&one.host) == machine_address(&other.host)
}

/// The ends of the names that pgpair gives to the copies it makes beside a folder.
pub(super) const SIBLINGS: [&str; 3] = [".pgpair-new", ".pgpair-old", ".pgpair-work"];

/// Two nodes on one machine share neither a port nor a folder.
pub(super) fn check_folders(drafts: &[DraftNode], nodes: &IndexMap<NodeName, Node>, report: &mut Report<'_>) {
    // A duplicate name has been refused before it came here.
    let placed: Vec<_> =
        drafts.iter().zip(nodes.values()).map(|(draft, node)| (draft, node, folders(draft, node))).collect();
    for (index, (draft, node, own)) in placed.iter().enumerate() {
        for (other_draft, other, others) in placed[..index].iter().filter(|(_, other, _)| on_one_machine(node, other)) {
            let names = || format!("nodes `{}` and `{}`", other.name, node.name);
            if other.port == node.port
                && let (Some(port), Some(first)) = (&draft.port, &other_draft.port)
            {
                report
                    .error(
                        "same_port",
                        port.span,
                        format!("{} are on one machine and have the same port, {}", names(), node.port),
                    )
                    .also(first.span, "the first is here")
                    .help(
                        "give one of them another port; nodes of several machines have each its own `host` and `ssh`",
                    );
            }
            for (key, folder, span) in own {
                for (other_key, other_folder, other_span) in others {
                    let message = if folder == other_folder {
                        format!("{} are on one machine and share the folder {folder}", names())
                    } else if lies_in(folder, other_folder) {
                        format!("`{key}` of node `{}` lies inside `{other_key}` of node `{}`", node.name, other.name)
                    } else if lies_in(other_folder, folder) {
                        format!("`{other_key}` of node `{}` lies inside `{key}` of node `{}`", other.name, node.name)
                    } else {
                        continue;
                    };
                    report
                        .error("same_folder", *span, message)
                        .also(*other_span, "the other is here")
                        .help("give each node folders of its own, side by side");
                }
            }
        }
    }
}

pub(super) fn folders<'n>(draft: &DraftNode, node: &'n Node) -> Vec<(&'static str, &'n str, Span)> {
    let given = [
        ("data_dir", Some(node.data_dir.as_str()), &draft.data_dir),
        ("waldir", node.waldir.as_deref(), &draft.waldir),
        ("config_dir", node.config_dir.as_deref(), &draft.config_dir),
    ];
    let given = given.into_iter().filter_map(|(key, folder, at)| Some((key, folder?, at.as_ref()?.span)));
    let tablespaces = draft.tablespaces.iter().zip(node.tablespaces.values());
    given.chain(tablespaces.map(|(draft, folder)| ("tablespaces", folder.as_str(), draft.value.span))).collect()
}

pub(super) fn lies_in(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
}

/// Where relative paths start, for a value that has one.
#[derive(Clone, Copy)]
pub(super) enum Base<'b> {
    /// The folder of the topology file.
    Folder(&'b str),
    /// The file is on another machine: there is nothing to start from.
    Elsewhere,
}

/// Makes a path absolute and takes `.` and `..` out of it, without looking at any disk.
pub(super) fn path(given: &At<String>, key: &str, base: Base<'_>, report: &mut Report<'_>) -> String {
    let text = given.value.as_str();
    if text.starts_with('~') || text.starts_with('$') {
        report
            .error(
                "bad_path",
                given.span,
                format!("`{key}` begins with `{}`, which only a shell understands", &text[..1]),
            )
            .help("write the whole path");
        return text.to_owned();
    }
    if text.contains("://") {
        report.error("bad_path", given.span, format!("`{key}` is a path, not a URL")).help("write the whole path");
        return text.to_owned();
    }
    match base {
        Base::Folder(folder) => absolute(text, folder),
        Base::Elsewhere if text.starts_with('/') => absolute(text, "/"),
        Base::Elsewhere => {
            report
                .error(
                    "bad_path",
                    given.span,
                    format!("`{key}` of a node reached by ssh must be absolute, not `{text}`"),
                )
                .help("write the whole path: relative ones start at the topology file, which is on this machine");
            text.to_owned()
        }
    }
}

pub(super) fn absolute(text: &str, folder: &str) -> String {
    let joined = if text.starts_with('/') { text.to_owned() } else { format!("{folder}/{text}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The program of a command that runs here: a path with a slash starts at the topology file, a bare name is looked up.
pub(super) fn program(mut argv: Vec<String>, base_dir: &str) -> Vec<String> {
    if let Some(program) = argv.first_mut().filter(|program| program.contains('/')) {
        *program = absolute(program, base_dir);
    }
    argv
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> At<String> {
        At { value: text.to_owned(), span: Span::default() }
    }

    fn good(check: impl Fn(&At<String>, &mut Report<'_>), text: &str) -> bool {
        let mut report = Report::on("t.yaml");
        check(&at(text), &mut report);
        report.is_empty()
    }

    #[test]
    fn paths_become_absolute_without_a_look_at_the_disk() {
        for (given, wanted) in [
            ("/pg/a", "/pg/a"),
            ("./a/data/", "/work/a/data"),
            ("a", "/work/a"),
            ("../x//y/./z", "/x/y/z"),
            ("/../..", "/"),
            ("/pg/数据", "/pg/数据"),
        ] {
            assert_eq!(absolute(given, "/work"), wanted, "{given}");
        }
    }

    #[test]
    fn only_a_destination_of_ssh_is_one() {
        for text in ["db2", "postgres@db2", "postgres@db2.example.org:2222", "10.0.0.1", "pg@[fe80::1]", "[::1]:22"] {
            assert!(good(check_ssh, text), "{text}");
        }
        for text in [
            "-v", "a@-v", "-l@b", "a b", "a;b", "$(a)", "a@", "@b", "a:0", "a:x", "a:", "a:65536", "[::1]x", "[a]",
            "::1",
        ] {
            assert!(!good(check_ssh, text), "{text}");
        }
    }
}
