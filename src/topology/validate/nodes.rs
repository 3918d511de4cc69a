//! The nodes of a topology among each other: names, roles, references, slots.

use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Role;
use crate::topology::Service;
use crate::topology::default_slot_name;
use crate::topology::diagnostic::Report;
use crate::topology::diagnostic::Span;
use crate::topology::diagnostic::closest;
use crate::topology::model::At;
use crate::topology::model::Draft;
use crate::topology::model::DraftNode;
use crate::topology::validate::MAX_NAME;
use crate::topology::validate::places::Base;
use crate::topology::validate::places::DEFAULT_HOST;
use crate::topology::validate::places::SIBLINGS;
use crate::topology::validate::places::absolute;
use crate::topology::validate::places::lies_in;
use crate::topology::validate::places::path;
use crate::topology::validate::quoted;
use crate::topology::validate::values;

/// A name that stands in file names, logs and `application_name`.
pub(super) fn plain_name(name: &At<String>, what: &str, report: &mut Report<'_>) {
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

pub(super) fn check_names(nodes: &[DraftNode], report: &mut Report<'_>) {
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

pub(super) fn check_roles(draft: &Draft, report: &mut Report<'_>) {
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

pub(super) fn check_references(nodes: &[DraftNode], report: &mut Report<'_>) {
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

pub(super) fn existing_node<'n>(
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

pub(super) fn check_slots(nodes: &[DraftNode], slots: bool, report: &mut Report<'_>) {
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
    given.unwrap_or_else(|| default_slot_name(&node.name.value))
}

pub(super) fn node(draft: &DraftNode, base_dir: &str, report: &mut Report<'_>) -> Option<Node> {
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
        let here = absolute(&tablespace.value.value, "/");
        if let Some(dir) = data_dir.as_deref().filter(|dir| here == **dir || lies_in(&here, dir) || lies_in(dir, &here))
        {
            let message =
                format!("the tablespace {here} and {dir} of node `{}` lie one in the other", draft.name.value);
            report
                .error("same_folder", tablespace.value.span, message)
                .help("give the tablespace a folder of its own, outside the data directory");
        }
        if let Some(suffix) = SIBLINGS.iter().find(|suffix| here.ends_with(**suffix)) {
            report
                .error("bad_path", tablespace.value.span, format!("the tablespace `{here}` ends in `{suffix}`"))
                .help("pgpair itself makes and removes folders of that name; give the folder another");
        }
    }
    if let Some(At { value: Service::Unit(unit), span }) = &draft.service {
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
        // As PostgreSQL has them: without a slash at the end.
        tablespaces: values(draft.tablespaces.clone())
            .into_iter()
            .map(|(source, here)| (absolute(&source, "/"), absolute(&here, "/")))
            .collect(),
        slot: name(&draft.slot),
        parameters: values(draft.parameters.clone()),
    })
}
