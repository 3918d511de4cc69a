//! Settings of postgresql.conf and options of initdb: which there are, which values they take, and which the topology
//! itself decides.

use std::net::IpAddr;

use crate::pg::guc;
use crate::pg::version::Major;
use crate::topology::InitdbOption;
use crate::topology::diagnostic::Report;
use crate::topology::diagnostic::closest;
use crate::topology::model::Draft;
use crate::topology::model::DraftSetting;
use crate::topology::model::fields::boolean;
use crate::topology::validate::places::is_loopback;

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

/// Whether the topology itself decides a parameter, so that it is no plain one.
pub(crate) fn is_derived(name: &str) -> bool {
    DERIVED.iter().any(|(derived, ..)| *derived == name)
}

/// The one value of a derived parameter that may be given.
pub(in crate::topology) fn harmless(name: &str) -> Option<&'static str> {
    DERIVED.iter().find(|(derived, ..)| *derived == name).and_then(|(.., harmless)| *harmless)
}

/// Whether pgpair gives an option of initdb itself.
pub(in crate::topology) fn is_derived_initdb(name: &str) -> bool {
    DERIVED_INITDB.iter().any(|(derived, _)| *derived == name)
}

pub(super) fn check_parameter(parameter: &DraftSetting, major: Option<Major>, report: &mut Report<'_>) {
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
    let Some(major) = major else { return };
    if name == "hot_standby" && guc::same(major, name, value, "off") {
        report
            .error(
                "derived_setting",
                parameter.value.span,
                "`hot_standby` can't be off: pgpair could not look at the standby",
            )
            .help("delete the line; it is on by default");
        return;
    }
    if let Err(unknown) = guc::known(major, name) {
        report.error("unknown_parameter", parameter.name.span, unknown.to_string());
    } else if let Err(bad) = guc::check(major, name, value) {
        report.error("bad_parameter_value", parameter.value.span, bad.to_string());
    }
}

/// The other nodes must find the server at its host.
pub(super) fn check_listen_addresses(draft: &Draft, report: &mut Report<'_>) {
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
pub(crate) fn covers(listen: &str, host: &str) -> bool {
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

pub(super) fn initdb_option(
    option: &DraftSetting,
    major: Major,
    report: &mut Report<'_>,
) -> Option<(String, InitdbOption)> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
