//! Hides what is secret in the texts of configuration files, before anything is made of them that people see.

use crate::pg::conf;
use crate::pg::conninfo;
use crate::pg::conninfo::Conninfo;
use crate::pg::hba;
use crate::pg::secret::HIDDEN;
use crate::topology::Topology;

mod observation;

pub use observation::digest;
pub use observation::observed;

/// Returns the text of a postgresql.conf or recovery.conf with its secrets hidden, line by line.
///
/// Passwords of connection strings, the command that gives a TLS passphrase, and the value of every command that
/// the topology does not itself contain. What is commented out, or no setting at all, is no less secret.
#[must_use]
pub fn conf_text(text: &str, topology: &Topology) -> String {
    conf_text_with(text, &|name, value| setting(name, value, topology))
}

/// The same, with what a value is shown as.
fn conf_text_with(text: &str, shown_as: &dyn Fn(&str, &str) -> String) -> String {
    text.split('\n').map(|line| conf_line(line, shown_as)).collect::<Vec<_>>().join("\n")
}

fn conf_line(line: &str, shown_as: &dyn Fn(&str, &str) -> String) -> String {
    let (mark, body) = line.split_at(line.find(|c| !"# \t".contains(c)).unwrap_or(line.len()));
    if let Some(entry) = conf::parse(body).entries.first() {
        let shown = shown_as(&entry.name, &entry.value);
        let written = || format!("{mark}{} = '{}'", entry.name, shown.replace('\\', "\\\\").replace('\'', "''"));
        if shown != entry.value {
            return written();
        }
        if !conninfo::may_hold_secret(line) || conninfo::may_hold_secret(&entry.value) {
            return line.to_owned();
        }
        // A value that is called a password is one; else what may be one is beside it.
        let is_one = conninfo::may_hold_secret(&format!("{}={}", entry.name, entry.value));
        return if is_one { format!("{mark}{HIDDEN}") } else { format!("{} # {HIDDEN}", written()) };
    }
    // The server would refuse the line, or it is only talked of: a comment may be prose on a command.
    let name = body.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_ascii_lowercase();
    let is_command = name == "ssl_passphrase_command" || (name.ends_with("_command") && !mark.contains('#'));
    if is_command || conninfo::may_hold_secret(line) { format!("{mark}{HIDDEN}") } else { line.to_owned() }
}

/// Returns the value of a setting as it may be shown.
#[must_use]
pub fn setting(name: &str, value: &str, topology: &Topology) -> String {
    if name == "primary_conninfo" {
        // A text that is no connection string may hold a password anywhere.
        return Conninfo::parse(value).map_or_else(|_| HIDDEN.to_owned(), |conninfo| conninfo.redacted());
    }
    let is_command = name.ends_with("_command") && !value.is_empty();
    let is_secret = is_command && (name == "ssl_passphrase_command" || !is_ours(name, value, topology));
    if is_secret || conninfo::may_hold_secret(value) { HIDDEN.to_owned() } else { value.to_owned() }
}

/// Whether the topology itself has the value, for whatever node.
fn is_ours(name: &str, value: &str, topology: &Topology) -> bool {
    let own = topology.nodes.values().filter_map(|node| node.parameters.get(name));
    own.chain(topology.parameters.get(name)).any(|ours| ours == value)
}

/// Options of pg_hba.conf that hold a secret.
const SECRET_OPTIONS: [&str; 3] = ["ldapbindpasswd", "radiussecrets", "radiussecret"];

/// Whether a part of a rule names such an option.
fn names_secret(text: &str) -> bool {
    SECRET_OPTIONS.iter().any(|name| text.contains(name))
}

/// Returns the text of a pg_hba.conf with its secrets hidden.
#[must_use]
pub fn hba_text(text: &str) -> String {
    let shown = text.split('\n').map(|line| {
        // A quote within the name of an option does not make it another one.
        let is_read = hba::parse(line)
            .is_ok_and(|rules| rules.iter().flat_map(|rule| &rule.options).any(|option| names_secret(option)));
        if is_read || names_secret(line) { hide_line(line) } else { line.to_owned() }
    });
    shown.collect::<Vec<_>>().join("\n")
}

/// Keeps what stands before the first secret, and before quotes, which could hide its name.
fn hide_line(line: &str) -> String {
    let at = SECRET_OPTIONS.into_iter().chain(["\""]).filter_map(|name| line.find(name)).min().unwrap_or(0);
    format!("{}{HIDDEN}", &line[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology() -> Topology {
        let source = include_bytes!("../../topologies/demo.yaml");
        crate::topology::parse(source, "demo.yaml", "/topologies").expect("a good topology")
    }

    #[test]
    fn a_secret_is_hidden_also_where_the_server_does_not_read_it() {
        for line in [
            "primary_conninfo = 'host=h password=hunter2'",
            "#primary_conninfo = 'host=h password=hunter2'",
            "\t# primary_conninfo 'postgresql://u:hunter2@h/'",
            "primary_conninfo = 'host=h password=hunter2' and more",
            "port = 1 # password = hunter2",
            "ssl_passphrase_command = 'echo hunter2",
            "# restore_command = 'scp hunter2@h'",
            "restore_command = 'scp hunter2@h' x",
            "my.conninfo = 'password=hunter2'",
        ] {
            let text = format!("a = 1\n{line}\nb = 2");
            let shown = conf_text(&text, &topology());
            assert!(!shown.contains("hunter2") && shown.contains(HIDDEN), "{shown}");
            assert!(shown.starts_with("a = 1\n") && shown.ends_with("\nb = 2"), "{shown}");
        }
        for line in [
            "host all all all ldap ldapbindpasswd=hunter2",
            "#host all all all ldap ldapbindpasswd=hunter2",
            "host all all all ldap ldap\"bindpasswd=hunter2\" ldapbindpasswd=x",
        ] {
            assert!(!hba_text(line).contains("hunter2"), "{line}");
        }
    }

    #[test]
    fn what_is_no_secret_stays_as_it_is() {
        let text =
            "#password_encryption = scram-sha-256\t# scram-sha-256 or md5\n\n  port = 1\r\n# archive_command is run";
        assert_eq!(conf_text(text, &topology()), text);
        let text = "# local ldap\nhost all all all ldap ldapserver=a\n";
        assert_eq!(hba_text(text), text);
    }
}
