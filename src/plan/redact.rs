//! Hides what is secret in the texts of configuration files, before anything is made of them that people see.

use crate::pg::conf;
use crate::pg::conninfo::Conninfo;
use crate::pg::hba;
use crate::pg::secret::HIDDEN;
use crate::topology::Topology;

/// Returns the text of a postgresql.conf or recovery.conf with its secrets hidden.
///
/// Passwords of connection strings, the command that gives a TLS passphrase, and the value of every command that
/// the topology does not itself contain.
#[must_use]
pub fn conf_text(text: &str, topology: &Topology) -> String {
    let entries = conf::parse(text).entries;
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    for entry in entries {
        let shown = setting(&entry.name, &entry.value, topology);
        if shown != entry.value {
            lines[entry.line - 1] = format!("{} = '{}'", entry.name, shown.replace('\'', "''"));
        }
    }
    lines.join("\n")
}

/// Returns the value of a setting as it may be shown.
#[must_use]
pub fn setting(name: &str, value: &str, topology: &Topology) -> String {
    if name == "primary_conninfo" {
        // A text that is no connection string may hold a password anywhere.
        return Conninfo::parse(value).map_or_else(|_| HIDDEN.to_owned(), |conninfo| conninfo.redacted());
    }
    let is_command = name.ends_with("_command") && !value.is_empty();
    let is_ours = || {
        let own = topology.nodes.values().filter_map(|node| node.parameters.get(name));
        own.chain(topology.parameters.get(name)).any(|ours| ours == value)
    };
    if is_command && (name == "ssl_passphrase_command" || !is_ours()) { HIDDEN.to_owned() } else { value.to_owned() }
}

/// Options of pg_hba.conf that hold a secret.
const SECRET_OPTIONS: [&str; 3] = ["ldapbindpasswd", "radiussecrets", "radiussecret"];

/// Returns the text of a pg_hba.conf with its secrets hidden.
#[must_use]
pub fn hba_text(text: &str) -> String {
    let shown = text.split('\n').map(|line| {
        let is_secret = |option: &String| SECRET_OPTIONS.iter().any(|name| option.starts_with(&format!("{name}=")));
        match hba::parse(line) {
            Ok(rules) if !rules.iter().any(|rule| rule.options.iter().any(is_secret)) => line.to_owned(),
            // Also a line that can't be read, if the name of a secret is in it.
            Ok(_) => hide_line(line),
            Err(_) if SECRET_OPTIONS.iter().any(|name| line.contains(name)) => hide_line(line),
            Err(_) => line.to_owned(),
        }
    });
    shown.collect::<Vec<_>>().join("\n")
}

/// Keeps the words before the first secret.
fn hide_line(line: &str) -> String {
    let at = SECRET_OPTIONS.iter().filter_map(|name| line.find(name)).min().unwrap_or(0);
    format!("{}{HIDDEN}", &line[..at])
}
