//! The section `replication`: the role, its authentication, TLS and the synchronous set.

use crate::topology::NodeName;
use crate::topology::Replication;
use crate::topology::ReplicationAuth;
use crate::topology::Role;
use crate::topology::SslMode;
use crate::topology::SyncMethod;
use crate::topology::Synchronous;
use crate::topology::Tls;
use crate::topology::diagnostic::Report;
use crate::topology::diagnostic::Span;
use crate::topology::model::At;
use crate::topology::model::DraftNode;
use crate::topology::model::DraftReplication;
use crate::topology::model::DraftSetting;
use crate::topology::model::DraftSynchronous;
use crate::topology::model::DraftTls;
use crate::topology::validate::MAX_NAME;
use crate::topology::validate::nodes::existing_node;
use crate::topology::validate::places::Base;
use crate::topology::validate::places::path;
use crate::topology::validate::rules::check_address;
use crate::topology::validate::secret;

pub(super) fn replication(
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
    let password = draft.password.map(|password| secret(password, base_dir, report));
    Some(Replication {
        user: draft.user?.value,
        auth,
        password,
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
pub(in crate::topology) fn is_delayed(node: &DraftNode, common: &[DraftSetting]) -> bool {
    let delay =
        node.parameters.iter().chain(common).find(|parameter| parameter.name.value == "recovery_min_apply_delay");
    delay.is_some_and(|delay| delay.value.value.contains(|c: char| ('1'..='9').contains(&c)))
}

pub(super) fn synchronous(
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
    let is_standby = |node: &DraftNode| node.role.as_ref().is_none_or(|role| role.value == Role::Standby);
    // A standby further down confirms nothing: the primary knows its own walsenders alone.
    let is_direct = |node: &&DraftNode| {
        let upstream =
            node.upstream.as_ref().and_then(|upstream| nodes.iter().find(|n| n.name.value == upstream.value));
        is_standby(node) && upstream.is_none_or(|upstream| !is_standby(upstream))
    };
    let count = nodes.iter().filter(named).filter(is_direct).filter(|node| !is_delayed(node, parameters)).count();
    if num == 0 {
        report
            .error("wrong_value", span, "`num` must be 1 or more")
            .help("without synchronous standbys, delete `synchronous`");
    } else if usize::try_from(num).is_ok_and(|num| num > count) {
        let verb = if count == 1 { "is 1 standby" } else { &format!("are {count} standbys") };
        report
            .error("too_few_standbys", span, format!("commits are to wait for {num}, and there {verb} to wait for"))
            .help("every commit would hang: lower `num`, or add standbys (the current primary, delayed nodes and those that follow a standby do not count)");
    }
    Synchronous {
        method: draft.method.map_or(SyncMethod::First, |method| method.value),
        num,
        standbys: draft.standbys.into_iter().map(|name| NodeName::new(name.value)).collect(),
    }
}
