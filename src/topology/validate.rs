//! What a topology file means: references, roles, places, and every value as PostgreSQL of that version takes it.
//!
//! Judges a [`Draft`] and makes the [`Topology`] of it. All that is wrong is reported; the topology counts only
//! when nothing was.

use std::net::IpAddr;

use indexmap::IndexMap;

use crate::pg::guc;
use crate::pg::version::Major;
use crate::topology::Admin;
use crate::topology::Fencing;
use crate::topology::HbaLine;
use crate::topology::Hooks;
use crate::topology::InitdbOption;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Postgresql;
use crate::topology::Replication;
use crate::topology::ReplicationAuth;
use crate::topology::Role;
use crate::topology::SecretRef;
use crate::topology::SslMode;
use crate::topology::SyncMethod;
use crate::topology::Synchronous;
use crate::topology::Tls;
use crate::topology::Topology;
use crate::topology::diagnostic::Report;
use crate::topology::diagnostic::Span;
use crate::topology::diagnostic::closest;
use crate::topology::model::At;
use crate::topology::model::Draft;
use crate::topology::model::DraftAdmin;
use crate::topology::model::DraftNode;
use crate::topology::model::DraftPostgresql;
use crate::topology::model::DraftReplication;
use crate::topology::model::DraftRule;
use crate::topology::model::DraftSetting;
use crate::topology::model::DraftSynchronous;
use crate::topology::model::DraftTls;
use crate::topology::model::boolean;

/// PostgreSQL cuts longer names (NAMEDATALEN is 64, with the NUL).
const MAX_NAME: usize = 63;

/// Judges the draft. `None`, or a topology that does not count, when the report says so.
pub fn topology(draft: Draft, base_dir: &str, report: &mut Report<'_>) -> Option<Topology> {
    if let Some(cluster) = &draft.cluster {
        plain_name(cluster, "the cluster's name", report);
    }
    if let Some(At { value: 0, span }) = draft.system_identifier {
        report
            .error("wrong_value", span, "no cluster has the system identifier 0")
            .help("pg_controldata prints the right one");
    }
    let major = draft.postgresql.as_ref().and_then(|postgresql| major(postgresql, report));
    check_names(&draft.nodes, report);
    check_roles(&draft, report);
    check_references(&draft.nodes, report);
    check_hosts(&draft.nodes, report);
    let slots =
        draft.replication.as_ref().and_then(|replication| replication.slots.as_ref()).is_none_or(|slots| slots.value);
    check_slots(&draft.nodes, slots, report);
    check_admin(&draft, report);
    for parameters in std::iter::once(&draft.parameters).chain(draft.nodes.iter().map(|node| &node.parameters)) {
        parameters.iter().for_each(|parameter| check_parameter(parameter, major, report));
    }
    check_listen_addresses(&draft, report);

    let nodes: Option<IndexMap<NodeName, Node>> = draft
        .nodes
        .iter()
        .map(|node| self::node(node, base_dir, report))
        .collect::<Vec<_>>()
        .into_iter()
        .map(|node| node.map(|node| (node.name.clone(), node)))
        .collect();
    if let Some(nodes) = &nodes {
        check_folders(&draft.nodes, nodes, report);
    }
    let hba = draft.hba.iter().map(|rule| hba_line(rule, major, report)).collect::<Vec<_>>();
    let replication = draft
        .replication
        .map(|draft_replication| replication(draft_replication, &draft.nodes, &draft.parameters, base_dir, report));
    let fencing = draft.fencing.map(|command| fencing(command, base_dir, report));
    Some(Topology {
        cluster: draft.cluster?.value,
        system_identifier: draft.system_identifier.map(|number| number.value),
        postgresql: postgresql(draft.postgresql?, major, base_dir, report)?,
        admin: admin(draft.admin, base_dir, report),
        replication: replication??,
        parameters: values(draft.parameters),
        hba: hba.into_iter().collect::<Option<_>>()?,
        nodes: nodes?,
        hooks: hooks(draft.hooks, base_dir),
        fencing,
    })
}

fn values(settings: Vec<DraftSetting>) -> IndexMap<String, String> {
    settings.into_iter().map(|setting| (setting.name.value, setting.value.value)).collect()
}

// --- names and roles ---------------------------------------------------------------------------------------------

/// A name that stands in file names, logs and `application_name`.
fn plain_name(name: &At<String>, what: &str, report: &mut Report<'_>) {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.value.is_empty() || !name.value.chars().all(plain) {
        report
            .error("bad_name", name.span, format!("{what} can't be `{}`", name.value))
            .help("take letters A to Z and a to z, digits, `_` and `-`");
    } else if name.value.len() > MAX_NAME {
        report
            .error("bad_name", name.span, format!("{what} has {} characters", name.value.len()))
            .help(format!("PostgreSQL cuts names after {MAX_NAME}"));
    }
}

fn check_names(nodes: &[DraftNode], report: &mut Report<'_>) {
    for (index, node) in nodes.iter().enumerate() {
        plain_name(&node.name, "a node's name", report);
        let same = |other: &&DraftNode| other.name.value.eq_ignore_ascii_case(&node.name.value);
        if let Some(first) = nodes[..index].iter().find(same) {
            let message = format!("nodes `{}` and `{}` differ only in case", first.name.value, node.name.value);
            report
                .error("same_name", node.name.span, message)
                .also(first.name.span, "the other is here")
                .help("rename one: PostgreSQL compares the names of synchronous standbys without regard to case");
        }
    }
}

fn check_roles(draft: &Draft, report: &mut Report<'_>) {
    let primaries: Vec<&At<Role>> =
        draft.nodes.iter().filter_map(|node| node.role.as_ref()).filter(|role| role.value == Role::Primary).collect();
    match primaries.as_slice() {
        [_] => {}
        [first, others @ ..] => {
            for other in others {
                report
                    .error("two_primaries", other.span, "a second node is to be the primary")
                    .also(first.span, "the first is here")
                    .help("give all nodes but one `role: standby`; to move the primary, swap the two roles");
            }
        }
        // A node whose role could not be read may be the one.
        [] if draft.nodes.iter().all(|node| node.role.is_some()) => {
            if let Some(nodes) = draft.nodes_span {
                report
                    .error("no_primary", nodes, "no node is to be the primary")
                    .help("give one of the nodes `role: primary`");
            }
        }
        [] => {}
    }
}

fn check_references(nodes: &[DraftNode], report: &mut Report<'_>) {
    for node in nodes {
        for (key, target) in [("upstream", &node.upstream), ("clone_from", &node.clone_from)] {
            let Some(target) = target else { continue };
            if target.value == node.name.value {
                report
                    .error(
                        "own_upstream",
                        target.span,
                        format!("`{key}` of node `{}` is the node itself", node.name.value),
                    )
                    .help("name another node, or delete the key: the default is the primary");
            } else {
                existing_node(target, &format!("`{key}`"), nodes, report);
            }
        }
    }
    let mut told = Vec::new();
    check_loops(nodes, "upstream", |node| node.upstream.as_ref(), &mut told, report);
    check_loops(nodes, "clone_from", |node| node.clone_from.as_ref().or(node.upstream.as_ref()), &mut told, report);
}

fn existing_node<'n>(
    name: &At<String>,
    what: &str,
    nodes: &'n [DraftNode],
    report: &mut Report<'_>,
) -> Option<&'n DraftNode> {
    let found = nodes.iter().find(|node| node.name.value == name.value);
    if found.is_none() {
        let names: Vec<&str> = nodes.iter().map(|node| node.name.value.as_str()).collect();
        let help = match closest(&name.value, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the nodes are {}", quoted(&names)),
        };
        report
            .error("unknown_node", name.span, format!("{what} names `{}`, and there is no such node", name.value))
            .help(help);
    }
    found
}

/// Every standby must reach the primary; what the primary itself names is ignored.
fn check_loops<'n>(
    nodes: &'n [DraftNode],
    key: &str,
    next: impl Fn(&'n DraftNode) -> Option<&'n At<String>>,
    told: &mut Vec<&'n str>,
    report: &mut Report<'_>,
) {
    for start in nodes {
        let mut path = vec![start];
        let mut node = start;
        while node.role.as_ref().is_none_or(|role| role.value == Role::Standby)
            && let Some(target) = next(node)
            && let Some(found) = nodes.iter().find(|other| other.name.value == target.value)
            && found.name.value != node.name.value
        {
            if let Some(begin) = path.iter().position(|seen| seen.name.value == found.name.value) {
                let mut names: Vec<&str> = path[begin..].iter().map(|node| node.name.value.as_str()).collect();
                if !names.iter().any(|name| told.contains(name)) {
                    told.extend(&names);
                    names.push(&found.name.value);
                    report
                        .error("upstream_loop", target.span, format!("`{key}` goes in a circle: {}", names.join(" → ")))
                        .help("let one of them name the primary, or delete its key");
                }
                break;
            }
            path.push(found);
            node = found;
        }
    }
}

fn check_slots(nodes: &[DraftNode], slots: bool, report: &mut Report<'_>) {
    let mut seen: Vec<(String, Span, &str)> = Vec::new();
    for node in nodes {
        let span = node.slot.as_ref().map_or(node.name.span, |slot| slot.span);
        let slot = slot_name(node);
        let node_name = node.name.value.as_str();
        if let Some(given) = &node.slot {
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if given.value.len() > MAX_NAME || !given.value.chars().all(allowed) {
                report
                    .error("bad_name", span, format!("`{}` can't be the name of a slot", given.value))
                    .help(format!("PostgreSQL takes a to z, digits and `_`, at most {MAX_NAME} characters"));
                continue;
            }
        } else if slot.len() > MAX_NAME && node_name.len() <= MAX_NAME && slots {
            report
                .error(
                    "bad_name",
                    span,
                    format!("the slot of node `{node_name}` would be `{slot}`: {} characters", slot.len()),
                )
                .help(format!("give the node a `slot:` of at most {MAX_NAME} characters, or a shorter name"));
        }
        if let Some((_, first, other)) = seen.iter().find(|(name, ..)| *name == slot)
            && !other.eq_ignore_ascii_case(node_name)
            && slots
        {
            report
                .error("same_slot", span, format!("nodes `{other}` and `{node_name}` would share the slot `{slot}`"))
                .also(*first, format!("`{other}` is here"))
                .help("give one of them another `slot:`, or another name");
        }
        seen.push((slot, span, node_name));
    }
}

fn slot_name(node: &DraftNode) -> String {
    let given = node.slot.as_ref().map(|slot| slot.value.clone());
    given.unwrap_or_else(|| super::default_slot_name(&node.name.value))
}

// --- hosts, machines, folders ------------------------------------------------------------------------------------

const DEFAULT_HOST: &str = "127.0.0.1";

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn check_hosts(nodes: &[DraftNode], report: &mut Report<'_>) {
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

fn check_os_user(user: &At<String>, key: &str, report: &mut Report<'_>) {
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

fn on_one_machine(one: &Node, other: &Node) -> bool {
    machine_login(one.ssh.as_deref()) == machine_login(other.ssh.as_deref())
        || machine_address(&one.host) == machine_address(&other.host)
}

/// The ends of the names that pgpair gives to the copies it makes beside a folder.
const SIBLINGS: [&str; 3] = [".pgpair-new", ".pgpair-old", ".pgpair-work"];

/// Two nodes on one machine share neither a port nor a folder.
fn check_folders(drafts: &[DraftNode], nodes: &IndexMap<NodeName, Node>, report: &mut Report<'_>) {
    // A duplicate name has been refused before it came here.
    let pairs: Vec<(&DraftNode, &Node)> = drafts.iter().zip(nodes.values()).collect();
    for (index, (draft, node)) in pairs.iter().enumerate() {
        for (other_draft, other) in pairs[..index].iter().filter(|(_, other)| on_one_machine(node, other)) {
            let names = format!("nodes `{}` and `{}`", other.name, node.name);
            if other.port == node.port
                && let (Some(port), Some(first)) = (&draft.port, &other_draft.port)
            {
                report
                    .error(
                        "same_port",
                        port.span,
                        format!("{names} are on one machine and have the same port, {}", node.port),
                    )
                    .also(first.span, "the first is here")
                    .help(
                        "give one of them another port; nodes of several machines have each its own `host` and `ssh`",
                    );
            }
            for (key, folder, span) in folders(draft, node) {
                for (other_key, other_folder, other_span) in folders(other_draft, other) {
                    let message = if folder == other_folder {
                        format!("{names} are on one machine and share the folder {folder}")
                    } else if lies_in(folder, other_folder) {
                        format!("`{key}` of node `{}` lies inside `{other_key}` of node `{}`", node.name, other.name)
                    } else if lies_in(other_folder, folder) {
                        format!("`{other_key}` of node `{}` lies inside `{key}` of node `{}`", other.name, node.name)
                    } else {
                        continue;
                    };
                    report
                        .error("same_folder", span, message)
                        .also(other_span, "the other is here")
                        .help("give each node folders of its own, side by side");
                }
            }
        }
    }
}

fn folders<'n>(draft: &DraftNode, node: &'n Node) -> Vec<(&'static str, &'n str, Span)> {
    let given = [
        ("data_dir", Some(node.data_dir.as_str()), &draft.data_dir),
        ("waldir", node.waldir.as_deref(), &draft.waldir),
        ("config_dir", node.config_dir.as_deref(), &draft.config_dir),
    ];
    given.into_iter().filter_map(|(key, folder, at)| Some((key, folder?, at.as_ref()?.span))).collect()
}

fn lies_in(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
}

/// Where relative paths start, for a value that has one.
#[derive(Clone, Copy)]
enum Base<'b> {
    /// The folder of the topology file.
    Folder(&'b str),
    /// The file is on another machine: there is nothing to start from.
    Elsewhere,
}

/// Makes a path absolute and takes `.` and `..` out of it, without looking at any disk.
fn path(given: &At<String>, key: &str, base: Base<'_>, report: &mut Report<'_>) -> String {
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

fn absolute(text: &str, folder: &str) -> String {
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
fn program(mut argv: Vec<String>, base_dir: &str) -> Vec<String> {
    if let Some(program) = argv.first_mut().filter(|program| program.contains('/')) {
        *program = absolute(program, base_dir);
    }
    argv
}

// --- sections ----------------------------------------------------------------------------------------------------

fn major(postgresql: &DraftPostgresql, report: &mut Report<'_>) -> Option<Major> {
    let version = postgresql.version.as_ref()?;
    match version.value.parse() {
        Ok(major) => Some(major),
        Err(error) => {
            let first = version.value.split('.').next().and_then(|first| first.parse::<Major>().ok());
            let help = match first.filter(|_| version.value.contains('.')) {
                Some(major) => format!("only the major version is given here: `version: {major}`"),
                None => "give the major version, as in `version: 15`".to_owned(),
            };
            report.error("unknown_version", version.span, error.to_string()).help(help);
            None
        }
    }
}

fn postgresql(
    draft: DraftPostgresql,
    major: Option<Major>,
    base_dir: &str,
    report: &mut Report<'_>,
) -> Option<Postgresql> {
    if let Some(user) = &draft.os_user {
        check_os_user(user, "os_user", report);
    }
    let initdb =
        major.map(|major| draft.initdb.iter().filter_map(|option| initdb_option(option, major, report)).collect());
    Some(Postgresql {
        version: major?,
        bin_dir: draft.bin_dir.map(|dir| path(&dir, "bin_dir", Base::Folder(base_dir), report)),
        os_user: draft.os_user.map(|user| user.value),
        initdb: initdb?,
    })
}

/// Options of initdb that pgpair gives itself, or that have a key of their own, with the remedy.
const DERIVED_INITDB: [(&str, &str); 14] = [
    ("pgdata", "use the key `data_dir` of the node"),
    ("username", "use `admin.user`"),
    ("auth", "use `hba`; pgpair locks a new cluster down by itself"),
    ("auth-local", "use `hba`; pgpair locks a new cluster down by itself"),
    ("auth-host", "use `hba`; pgpair locks a new cluster down by itself"),
    ("pwfile", "use `admin.password`"),
    ("pwprompt", "use `admin.password`"),
    ("waldir", "use the key `waldir` of the node"),
    ("xlogdir", "use the key `waldir` of the node"),
    ("set", "use `parameters`"),
    ("no-clean", "delete the line: pgpair keeps what a failed initdb left until its next run"),
    ("sync-only", "delete the line: it would create no cluster"),
    ("show", "delete the line: it would create no cluster"),
    ("debug", "use `pgpair -v`"),
];

fn initdb_option(option: &DraftSetting, major: Major, report: &mut Report<'_>) -> Option<(String, InitdbOption)> {
    let name = option.name.value.trim_start_matches('-').replace('_', "-");
    let span = option.name.span;
    if let Some((_, instead)) = DERIVED_INITDB.iter().find(|(derived, _)| *derived == name) {
        report.error("derived_setting", span, format!("initdb's `{name}` is not given here")).help(*instead);
        return None;
    }
    let Some((known, takes_value)) = major.initdb_options().find(|(known, _)| *known == name) else {
        let help = match Major::all().rev().find(|other| other.initdb_options().any(|(known, _)| known == name)) {
            Some(newest) => {
                let first = Major::all().find(|other| other.initdb_options().any(|(known, _)| known == name));
                format!("it came with PostgreSQL {}", first.unwrap_or(newest))
            }
            None => match closest(&name, major.initdb_options().map(|(known, _)| known)) {
                Some(near) => format!("did you mean `{}`?", near.replace('-', "_")),
                None => format!("`initdb --help` of PostgreSQL {major} lists them"),
            },
        };
        report
            .error(
                "unknown_initdb_option",
                span,
                format!("initdb of PostgreSQL {major} has no option `{}`", option.name.value),
            )
            .help(help);
        return None;
    };
    let value = &option.value;
    if takes_value {
        return Some((known.to_owned(), InitdbOption::Value(value.value.clone())));
    }
    match boolean(&value.value).filter(|_| !option.quoted) {
        Some(on) => Some((known.to_owned(), InitdbOption::Switch(on))),
        None => {
            report.error(
                "wrong_type",
                value.span,
                format!("`{}` is given or not: `true` or `false`, not `{}`", option.name.value, value.value),
            );
            None
        }
    }
}

fn admin(draft: DraftAdmin, base_dir: &str, report: &mut Report<'_>) -> Admin {
    Admin {
        user: draft.user.map(|user| user.value),
        database: draft.database.map_or_else(|| "postgres".to_owned(), |database| database.value),
        password: draft.password.map(|password| secret(password, base_dir, report)),
        sslmode: draft.sslmode.map_or(SslMode::Prefer, |sslmode| sslmode.value),
    }
}

/// Peer authentication, which serves without a password, takes the OS user's name alone.
fn check_admin(draft: &Draft, report: &mut Report<'_>) {
    let (Some(user), None) = (&draft.admin.user, &draft.admin.password) else { return };
    let common = draft.postgresql.as_ref().and_then(|postgresql| postgresql.os_user.as_ref());
    let os_users = draft.nodes.iter().filter_map(|node| node.os_user.as_ref().or(common));
    if let Some(os_user) = os_users.into_iter().find(|os_user| os_user.value != user.value) {
        let message = format!(
            "`admin.user` is `{}` and the server's `os_user` is `{}`: peer authentication refuses that",
            user.value, os_user.value
        );
        report
            .error("admin_password_needed", user.span, message)
            .also(os_user.span, "the OS user is here")
            .help("give `admin.password`, or leave `admin.user` out");
    }
}

fn secret(given: At<SecretRef>, base_dir: &str, report: &mut Report<'_>) -> SecretRef {
    match given.value {
        SecretRef::Env(name) => {
            if name.contains('=') || name.starts_with('$') {
                // The text may be the secret itself, and is not repeated.
                report
                    .error("bad_name", given.span, "this is not the name of an environment variable")
                    .help("write the name alone, as in `{ env: PGPAIR_PASSWORD }`");
            }
            SecretRef::Env(name)
        }
        SecretRef::File(file) => {
            SecretRef::File(path(&At { value: file, span: given.span }, "file", Base::Folder(base_dir), report))
        }
        SecretRef::Command(argv) => SecretRef::Command(program(argv, base_dir)),
    }
}

fn replication(
    draft: DraftReplication,
    nodes: &[DraftNode],
    parameters: &[DraftSetting],
    base_dir: &str,
    report: &mut Report<'_>,
) -> Option<Replication> {
    if let Some(user) = &draft.user {
        check_role_name(user, report);
    }
    let auth = draft.auth.as_ref().map_or(ReplicationAuth::ScramSha256, |auth| auth.value);
    let auth_span = draft.auth.as_ref().map_or(draft.span, |auth| auth.span);
    match auth {
        ReplicationAuth::ScramSha256 | ReplicationAuth::Md5 if !draft.has_password => {
            report
                .error("password_needed", auth_span, format!("replication by {} needs a password", auth.as_str()))
                .help("say where it is to be found, as in `password: { file: ./repuser.secret }`");
        }
        ReplicationAuth::Cert => check_cert(auth_span, draft.tls.as_ref(), report),
        ReplicationAuth::ScramSha256 | ReplicationAuth::Md5 | ReplicationAuth::Trust => {}
    }
    if let Some(limit) = draft.connection_limit.as_ref().filter(|limit| limit.value < -1) {
        report
            .error("wrong_value", limit.span, format!("`connection_limit` can't be {}", limit.value))
            .help("a role has 0 connections or more; -1 is no limit");
    }
    for address in &draft.addresses {
        check_address(address, report);
    }
    let tls = draft.tls.map(|tls| self::tls(tls, base_dir, report));
    let synchronous = draft.synchronous.map(|synchronous| self::synchronous(synchronous, nodes, parameters, report));
    Some(Replication {
        user: draft.user?.value,
        auth,
        password: draft.password.map(|password| secret(password, base_dir, report)),
        connection_limit: draft.connection_limit.map(|limit| limit.value),
        slots: draft.slots.is_none_or(|slots| slots.value),
        addresses: draft.addresses.into_iter().map(|address| address.value).collect(),
        tls: match tls {
            Some(tls) => Some(tls?),
            None => None,
        },
        synchronous,
    })
}

/// The name stands in pg_hba.conf, where some words and first characters mean something else.
fn check_role_name(user: &At<String>, report: &mut Report<'_>) {
    let name = user.value.as_str();
    let why = if name.len() > MAX_NAME {
        "PostgreSQL cuts names after 63 bytes"
    } else if ["all", "public", "none", "current_user", "session_user"].contains(&name) {
        "the word has a meaning of its own in PostgreSQL"
    } else if name.starts_with("pg_") {
        "PostgreSQL keeps names that begin with `pg_` for itself"
    } else if name.starts_with(['+', '@', '/']) {
        "in pg_hba.conf this first character has a meaning of its own"
    } else {
        return;
    };
    report.error("bad_name", user.span, format!("the replication role can't be `{name}`")).help(why);
}

fn check_cert(auth: Span, tls: Option<&DraftTls>, report: &mut Report<'_>) {
    let help = "as in `tls: { sslmode: verify-full, sslrootcert: ca.pem, sslcert: repl.crt, sslkey: repl.key }`";
    let Some(tls) = tls else {
        report.error("tls_needed", auth, "replication by certificate needs `tls`").help(help);
        return;
    };
    if tls.sslcert.is_none() {
        report.error("tls_needed", tls.span, "replication by certificate needs `sslcert` and `sslkey`").help(help);
    }
    if let Some(sslmode) = tls.sslmode.as_ref().filter(|sslmode| sslmode.value < SslMode::Require) {
        report
            .error("tls_needed", sslmode.span, "replication by certificate needs an encrypted connection")
            .help("take `sslmode: require`, `verify-ca` or `verify-full`");
    }
}

fn tls(draft: DraftTls, base_dir: &str, report: &mut Report<'_>) -> Option<Tls> {
    match (&draft.sslcert, &draft.sslkey) {
        (Some(alone), None) => {
            report.error("tls_needed", alone.span, "`sslcert` needs its `sslkey`").help("add `sslkey: PATH`");
        }
        (None, Some(alone)) => {
            report.error("tls_needed", alone.span, "`sslkey` needs its `sslcert`").help("add `sslcert: PATH`");
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
    let mut file =
        |key, given: Option<At<String>>| given.map(|given| path(&given, key, Base::Folder(base_dir), report));
    Some(Tls {
        sslrootcert: file("sslrootcert", draft.sslrootcert),
        sslcert: file("sslcert", draft.sslcert),
        sslkey: file("sslkey", draft.sslkey),
        sslmode: draft.sslmode?.value,
    })
}

/// Whether the node replays late by intention; it would make every commit wait as long.
fn is_delayed(node: &DraftNode, common: &[DraftSetting]) -> bool {
    let delay =
        node.parameters.iter().chain(common).find(|parameter| parameter.name.value == "recovery_min_apply_delay");
    delay.is_some_and(|delay| delay.value.value.contains(|c: char| ('1'..='9').contains(&c)))
}

fn synchronous(
    draft: DraftSynchronous,
    nodes: &[DraftNode],
    parameters: &[DraftSetting],
    report: &mut Report<'_>,
) -> Synchronous {
    for (index, standby) in draft.standbys.iter().enumerate() {
        existing_node(standby, "`standbys`", nodes, report);
        if let Some(first) = draft.standbys[..index].iter().find(|other| other.value == standby.value) {
            report
                .error("duplicate_item", standby.span, format!("`{}` is in the list twice", standby.value))
                .also(first.span, "the first is here");
        }
    }
    let num = draft.num.as_ref().map_or(1, |num| num.value);
    let span = draft.num.as_ref().map_or(draft.span, |num| num.span);
    // Every node may be named, and the current primary is left out, as are nodes that replay late.
    let named = |node: &&DraftNode| {
        draft.standbys.is_empty() || draft.standbys.iter().any(|name| name.value == node.name.value)
    };
    let is_standby = |node: &&DraftNode| node.role.as_ref().is_none_or(|role| role.value == Role::Standby);
    let count = nodes.iter().filter(named).filter(is_standby).filter(|node| !is_delayed(node, parameters)).count();
    if num == 0 {
        report
            .error("wrong_value", span, "`num` must be 1 or more")
            .help("without synchronous standbys, delete `synchronous`");
    } else if usize::try_from(num).is_ok_and(|num| num > count) {
        let verb = if count == 1 { "is 1 standby" } else { &format!("are {count} standbys") };
        report
            .error("too_few_standbys", span, format!("commits are to wait for {num}, and there {verb} to wait for"))
            .help("every commit would hang: lower `num`, or add standbys (the current primary and delayed nodes do not count)");
    }
    Synchronous {
        method: draft.method.map_or(SyncMethod::First, |method| method.value),
        num,
        standbys: draft.standbys.into_iter().map(|name| NodeName::new(name.value)).collect(),
    }
}

fn hooks(hooks: Hooks, base_dir: &str) -> Hooks {
    let absolute = |commands: Vec<Vec<String>>| commands.into_iter().map(|argv| program(argv, base_dir)).collect();
    Hooks {
        before_switchover: absolute(hooks.before_switchover),
        after_promotion: absolute(hooks.after_promotion),
        after_switchover: absolute(hooks.after_switchover),
        switchover_undone: absolute(hooks.switchover_undone),
    }
}

/// Exit 0 of the command proves a node dead, so that it must be about the right one.
fn fencing(command: At<Vec<String>>, base_dir: &str, report: &mut Report<'_>) -> Fencing {
    let known = ["{node}", "{host}", "{port}"];
    for argument in &command.value {
        let rest = known.iter().fold(argument.clone(), |text, known| text.replace(known, ""));
        if rest.contains(['{', '}']) {
            report
                .error("unknown_placeholder", command.span, format!("`{argument}` has an unknown placeholder"))
                .help(format!("there are {}", quoted(&known)));
        }
    }
    if !command.value.iter().any(|argument| argument.contains("{node}") || argument.contains("{host}")) {
        report
            .error("fencing_of_whom", command.span, "the fencing command is not told which node it is about")
            .help("give it `\"{node}\"` or `\"{host}\"` as an argument");
    }
    Fencing { command: program(command.value, base_dir) }
}

fn node(draft: &DraftNode, base_dir: &str, report: &mut Report<'_>) -> Option<Node> {
    let base = if draft.ssh.is_some() { Base::Elsewhere } else { Base::Folder(base_dir) };
    if let Some(port) = draft.port.as_ref().filter(|port| port.value == 0) {
        report.error("wrong_value", port.span, "`port` must be a whole number from 1 to 65535, not `0`");
    }
    let mut folder = |key, given: &Option<At<String>>| given.as_ref().map(|given| path(given, key, base, report));
    let data_dir = folder("data_dir", &draft.data_dir);
    let bin_dir = folder("bin_dir", &draft.bin_dir);
    let config_dir = folder("config_dir", &draft.config_dir);
    let waldir = folder("waldir", &draft.waldir);
    if let (Some("/"), Some(given)) = (data_dir.as_deref(), &draft.data_dir) {
        report
            .error("bad_path", given.span, "`data_dir` can't be the root of the file system")
            .help("give a folder of its own");
    }
    for (key, dir, at) in [("waldir", &waldir, &draft.waldir), ("config_dir", &config_dir, &draft.config_dir)] {
        if let (Some(dir), Some(at), Some(data_dir)) = (dir, at, &data_dir)
            && (dir == data_dir || lies_in(dir, data_dir) || lies_in(data_dir, dir))
        {
            report
                .error(
                    "same_folder",
                    at.span,
                    format!("`{key}` and `data_dir` of node `{}` lie one in the other", draft.name.value),
                )
                .help(format!("leave `{key}` out, or give a folder outside the data directory"));
        }
    }
    for (key, dir, at) in [("data_dir", &data_dir, &draft.data_dir), ("waldir", &waldir, &draft.waldir)] {
        if let (Some(dir), Some(at)) = (dir, at)
            && let Some(suffix) = SIBLINGS.iter().find(|suffix| dir.ends_with(**suffix))
        {
            report
                .error("bad_path", at.span, format!("`{key}` of node `{}` ends in `{suffix}`", draft.name.value))
                .help("pgpair itself makes and removes folders of that name; give the folder another");
        }
    }
    for tablespace in &draft.tablespaces {
        for given in [&tablespace.name, &tablespace.value] {
            if !given.value.starts_with('/') {
                report
                    .error(
                        "bad_path",
                        given.span,
                        format!("`{}` is not the absolute path of a tablespace", given.value),
                    )
                    .help("write `/where/it/is/on/the/source: /where/it/is/here`");
            }
        }
    }
    if let Some(At { value: super::Service::Unit(unit), span }) = &draft.service {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@' | ':' | '\\');
        if unit.starts_with('-') || !unit.chars().all(plain) {
            report
                .error("bad_name", *span, format!("`{unit}` is not the name of a systemd unit"))
                .help("as in `postgresql@15-main`; other services are `{ start: [..], stop: [..] }`");
        }
    }
    let name = |given: &Option<At<String>>| given.as_ref().map(|given| given.value.clone());
    let node_name = |given: &Option<At<String>>| name(given).map(NodeName::new);
    Some(Node {
        name: NodeName::new(draft.name.value.clone()),
        role: draft.role.as_ref()?.value,
        host: name(&draft.host).unwrap_or_else(|| DEFAULT_HOST.to_owned()),
        port: draft.port.as_ref()?.value,
        data_dir: data_dir?,
        ssh: name(&draft.ssh),
        r#become: name(&draft.r#become),
        os_user: name(&draft.os_user),
        bin_dir,
        upstream: node_name(&draft.upstream),
        clone_from: node_name(&draft.clone_from),
        config_dir,
        service: draft.service.as_ref().map(|service| service.value.clone()),
        waldir,
        tablespaces: values(draft.tablespaces.clone()),
        slot: name(&draft.slot),
        parameters: values(draft.parameters.clone()),
    })
}

// --- parameters --------------------------------------------------------------------------------------------------

/// Parameters that the topology itself decides, with the remedy. Where the third is given, that value is harmless.
const DERIVED: [(&str, &str, Option<&str>); 18] = [
    ("port", "use the key `port` of the node", None),
    ("primary_conninfo", "use `host` and `port` of the upstream, and `replication`", None),
    ("primary_slot_name", "use the key `slot` of the node, or `replication.slots: false` for none", None),
    ("synchronous_standby_names", "use `replication.synchronous`", None),
    ("recovery_target_timeline", "delete the line: pgpair's standbys follow the latest timeline", Some("latest")),
    ("standby_mode", "use the key `role` of the node", None),
    ("data_directory", "use the key `data_dir` of the node", None),
    ("config_file", "use the key `config_dir` of the node", None),
    ("hba_file", "use the key `config_dir` of the node, and `hba` for rules", None),
    ("ident_file", "use the key `config_dir` of the node", None),
    ("trigger_file", "use the key `role` of the node: a file must not promote it", None),
    ("promote_trigger_file", "use the key `role` of the node: a file must not promote it", None),
    ("recovery_target", "delete the line: a standby that stops recovery leaves the cluster", None),
    ("recovery_target_name", "delete the line: a standby that stops recovery leaves the cluster", None),
    ("recovery_target_time", "delete the line: a standby that stops recovery leaves the cluster", None),
    ("recovery_target_xid", "delete the line: a standby that stops recovery leaves the cluster", None),
    ("recovery_target_lsn", "delete the line: a standby that stops recovery leaves the cluster", None),
    ("recovery_target_action", "delete the line: a standby that stops recovery leaves the cluster", None),
];

fn check_parameter(parameter: &DraftSetting, major: Option<Major>, report: &mut Report<'_>) {
    let (name, value) = (parameter.name.value.as_str(), parameter.value.value.as_str());
    if let Some((_, instead, harmless)) = DERIVED.iter().find(|(derived, ..)| *derived == name)
        && *harmless != Some(value)
    {
        // The value is not repeated: a conninfo may hold a password.
        report
            .error(
                "derived_setting",
                parameter.name.span,
                format!("`{name}` is derived from the topology and not given as a parameter"),
            )
            .help(*instead);
        return;
    }
    if name == "hot_standby" && boolean(value) == Some(false) {
        report
            .error(
                "derived_setting",
                parameter.value.span,
                "`hot_standby` can't be off: pgpair could not look at the standby",
            )
            .help("delete the line; it is on by default");
        return;
    }
    let Some(major) = major else { return };
    if let Err(unknown) = guc::known(major, name) {
        report.error("unknown_parameter", parameter.name.span, unknown.to_string());
    } else if let Err(bad) = guc::check(major, name, value) {
        report.error("bad_parameter_value", parameter.value.span, bad.to_string());
    }
}

/// The other nodes must find the server at its host.
fn check_listen_addresses(draft: &Draft, report: &mut Report<'_>) {
    for node in &draft.nodes {
        let Some(host) = &node.host else { continue };
        let of = |parameters: &'_ [DraftSetting]| {
            parameters
                .iter()
                .find(|parameter| parameter.name.value == "listen_addresses")
                .map(|found| found.value.clone())
        };
        let Some(listen) = of(&node.parameters).or_else(|| of(&draft.parameters)) else { continue };
        if !covers(&listen.value, &host.value) {
            let message =
                format!("`listen_addresses` does not cover `{}`, the host of node `{}`", host.value, node.name.value);
            report
                .error("host_not_covered", listen.span, message)
                .also(host.span, "the host is here")
                .help(format!("write 'localhost,{}', or '*', or delete the line: pgpair derives it", host.value));
        }
    }
}

/// Whether a server that listens on these addresses can be reached at the host, as far as one can tell without DNS.
fn covers(listen: &str, host: &str) -> bool {
    let address = host.parse::<IpAddr>().ok();
    listen.split(',').map(str::trim).filter(|item| !item.is_empty()).any(|item| {
        let item = item.trim_matches('"');
        let listens_at = item.parse::<IpAddr>().ok();
        match (listens_at, address) {
            _ if item == "*" || item.eq_ignore_ascii_case(host) => true,
            (Some(all), Some(address)) if all.is_unspecified() => all.is_ipv4() == address.is_ipv4(),
            (Some(all), None) if all.is_unspecified() => true,
            (Some(one), Some(address)) => one == address,
            // A name against an address: only for loopback is it known what it means.
            (Some(one), None) => is_loopback(host) == one.is_loopback(),
            (None, Some(address)) => is_loopback(item) == address.is_loopback(),
            (None, None) => is_loopback(item) == is_loopback(host),
        }
    })
}

// --- pg_hba.conf -------------------------------------------------------------------------------------------------

fn hba_line(draft: &DraftRule, major: Option<Major>, report: &mut Report<'_>) -> Option<HbaLine> {
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
fn check_address(address: &At<String>, report: &mut Report<'_>) {
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

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
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

    #[test]
    fn listen_addresses_cover_a_host_unless_they_certainly_do_not() {
        for (listen, host) in [
            ("*", "10.0.0.1"),
            ("0.0.0.0", "10.0.0.1"),
            ("::", "fd00::1"),
            ("localhost, 10.0.0.1", "10.0.0.1"),
            ("localhost", "127.0.0.1"),
            ("127.0.0.1", "localhost"),
            ("10.0.0.1", "db1.example.org"),
            ("db1.example.org", "10.0.0.1"),
            ("DB1", "db1"),
        ] {
            assert!(covers(listen, host), "{listen} {host}");
        }
        for (listen, host) in [
            ("", "10.0.0.1"),
            ("localhost", "10.0.0.1"),
            ("localhost", "db1"),
            ("0.0.0.0", "fd00::1"),
            ("10.0.0.2", "10.0.0.1"),
            ("10.0.0.2", "localhost"),
        ] {
            assert!(!covers(listen, host), "{listen} {host}");
        }
    }

    #[test]
    fn initdb_takes_the_options_of_its_version() {
        let names = |major| Major::new(major).into_iter().flat_map(Major::initdb_options).count();
        assert_eq!([10, 11, 14, 15, 16, 17, 18].map(names), [12, 14, 15, 17, 18, 20, 22]);
    }
}
