//! What a topology file means: references, roles, places, and every value as PostgreSQL of that version takes it.
//!
//! Judges a [`Draft`] and makes the [`Topology`] of it. All that is wrong is reported; the topology counts only
//! when nothing was.

use indexmap::IndexMap;

use crate::pg::version::Major;
use crate::topology::Admin;
use crate::topology::Fencing;
use crate::topology::HbaLine;
use crate::topology::Hooks;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Postgresql;
use crate::topology::SecretRef;
use crate::topology::SslMode;
use crate::topology::Topology;
use crate::topology::diagnostic::Report;
use crate::topology::model::At;
use crate::topology::model::Draft;
use crate::topology::model::DraftAdmin;
use crate::topology::model::DraftPostgresql;
use crate::topology::model::DraftSetting;
use crate::topology::validate::nodes::check_names;
use crate::topology::validate::nodes::check_references;
use crate::topology::validate::nodes::check_roles;
use crate::topology::validate::nodes::check_slots;
use crate::topology::validate::nodes::node;
use crate::topology::validate::nodes::plain_name;
use crate::topology::validate::parameters::check_listen_addresses;
use crate::topology::validate::parameters::check_parameter;
pub(crate) use crate::topology::validate::parameters::covers as listens_at;
pub(super) use crate::topology::validate::parameters::harmless;
use crate::topology::validate::parameters::initdb_option;
pub(crate) use crate::topology::validate::parameters::is_derived;
pub(super) use crate::topology::validate::parameters::is_derived_initdb;
use crate::topology::validate::places::Base;
use crate::topology::validate::places::check_folders;
use crate::topology::validate::places::check_hosts;
use crate::topology::validate::places::check_os_user;
use crate::topology::validate::places::path;
use crate::topology::validate::places::program;
use crate::topology::validate::replication::replication;
use crate::topology::validate::rules::hba_line;

mod nodes;
mod parameters;
pub(super) mod places;
pub(super) mod replication;
mod rules;

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

    // Each section is judged whole, before a missing one ends it.
    let nodes: Vec<Option<Node>> = draft.nodes.iter().map(|draft| node(draft, base_dir, report)).collect();
    let nodes: Option<IndexMap<NodeName, Node>> =
        nodes.into_iter().map(|node| node.map(|node| (node.name.clone(), node))).collect();
    if let Some(nodes) = &nodes {
        check_folders(&draft.nodes, nodes, report);
    }
    let hba: Vec<Option<HbaLine>> = draft.hba.iter().map(|rule| hba_line(rule, major, report)).collect();
    let postgresql = draft.postgresql.and_then(|section| postgresql(section, major, base_dir, report));
    let admin = admin(draft.admin, base_dir, report);
    let replication =
        draft.replication.and_then(|section| replication(section, &draft.nodes, &draft.parameters, base_dir, report));
    let fencing = draft.fencing.map(|command| fencing(command, base_dir, report));
    Some(Topology {
        cluster: draft.cluster?.value,
        system_identifier: draft.system_identifier.map(|number| number.value),
        postgresql: postgresql?,
        admin,
        replication: replication?,
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
    let (Some(user), false) = (&draft.admin.user, draft.admin.has_password) else { return };
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

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
