//! A topology as the YAML text of a topology file: what our own reader makes the same topology of.
//!
//! Every key that says more than its default is written, in the order of the documentation, with absolute paths.
//! A scalar stands plain where it is a word, a number or a path of harmless characters; otherwise it is in double
//! quotes. Secrets are references here as everywhere. Texts with control characters but the tab are not for a
//! topology file: the reader refuses them, however they are written.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use indexmap::IndexMap;

use crate::topology::HbaLine;
use crate::topology::InitdbOption;
use crate::topology::Node;
use crate::topology::Replication;
use crate::topology::SecretRef;
use crate::topology::Service;
use crate::topology::SslMode;
use crate::topology::SyncMethod;
use crate::topology::Topology;

/// What is said in comments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remarks {
    /// Stands before everything.
    pub head: Vec<String>,
    /// Stands before the common parameter of that name, as the title of a group.
    pub before_parameter: BTreeMap<String, String>,
}

/// Writes `topology` as the text of a file.
#[must_use]
pub fn yaml(topology: &Topology, remarks: &Remarks) -> String {
    let mut page = Page::default();
    remarks.head.iter().for_each(|remark| page.remark(0, remark));
    page.gap();
    page.line(0, "version", "1");
    page.line(0, "cluster", &scalar(&topology.cluster));
    if let Some(number) = topology.system_identifier {
        page.line(0, "system_identifier", &number.to_string());
    }
    postgresql(topology, &mut page);
    admin(topology, &mut page);
    replication(&topology.replication, &mut page);
    if !topology.parameters.is_empty() {
        page.open(0, "parameters");
        for (name, value) in &topology.parameters {
            if let Some(remark) = remarks.before_parameter.get(name) {
                page.remark(1, remark);
            }
            page.line(1, &scalar(name), &scalar(value));
        }
    }
    if !topology.hba.is_empty() {
        page.open(0, "hba");
        topology.hba.iter().for_each(|line| page.item(1, &rule(line)));
    }
    page.open(0, "nodes");
    topology.nodes.values().for_each(|node| write_node(node, &mut page));
    hooks(topology, &mut page);
    if let Some(fencing) = &topology.fencing {
        page.open(0, "fencing");
        page.line(1, "command", &list(&fencing.command));
    }
    page.text
}

fn postgresql(topology: &Topology, page: &mut Page) {
    let postgresql = &topology.postgresql;
    page.open(0, "postgresql");
    page.line(1, "version", &postgresql.version.to_string());
    page.text_line(1, "bin_dir", postgresql.bin_dir.as_deref());
    page.text_line(1, "os_user", postgresql.os_user.as_deref());
    if !postgresql.initdb.is_empty() {
        page.open(1, "initdb");
        for (name, option) in &postgresql.initdb {
            let value = match option {
                InitdbOption::Switch(given) => given.to_string(),
                InitdbOption::Value(value) => quoted(value),
            };
            page.line(2, &scalar(name), &value);
        }
    }
}

fn admin(topology: &Topology, page: &mut Page) {
    let admin = &topology.admin;
    let database = (admin.database != "postgres").then_some(admin.database.as_str());
    let sslmode = (admin.sslmode != SslMode::Prefer).then_some(admin.sslmode);
    if admin.user.is_none() && database.is_none() && admin.password.is_none() && sslmode.is_none() {
        return;
    }
    page.open(0, "admin");
    page.text_line(1, "user", admin.user.as_deref());
    page.text_line(1, "database", database);
    if let Some(password) = &admin.password {
        page.line(1, "password", &secret(password));
    }
    page.text_line(1, "sslmode", sslmode.map(SslMode::as_str));
}

fn replication(replication: &Replication, page: &mut Page) {
    page.open(0, "replication");
    page.line(1, "user", &scalar(&replication.user));
    page.line(1, "auth", replication.auth.as_str());
    if let Some(password) = &replication.password {
        page.line(1, "password", &secret(password));
    }
    if let Some(limit) = replication.connection_limit {
        page.line(1, "connection_limit", &limit.to_string());
    }
    page.line(1, "slots", &replication.slots.to_string());
    if !replication.addresses.is_empty() {
        page.line(1, "addresses", &list(&replication.addresses));
    }
    if let Some(tls) = &replication.tls {
        page.open(1, "tls");
        page.line(2, "sslmode", tls.sslmode.as_str());
        page.text_line(2, "sslrootcert", tls.sslrootcert.as_deref());
        page.text_line(2, "sslcert", tls.sslcert.as_deref());
        page.text_line(2, "sslkey", tls.sslkey.as_deref());
    }
    if let Some(synchronous) = &replication.synchronous {
        page.open(1, "synchronous");
        let method = match synchronous.method {
            SyncMethod::First => "first",
            SyncMethod::Any => "any",
        };
        page.line(2, "method", method);
        page.line(2, "num", &synchronous.num.to_string());
        if !synchronous.standbys.is_empty() {
            page.line(2, "standbys", &list(synchronous.standbys.iter().map(|name| name.as_str())));
        }
    }
}

fn write_node(node: &Node, page: &mut Page) {
    page.open(1, &scalar(node.name.as_str()));
    page.line(2, "role", &node.role.to_string());
    page.line(2, "host", &scalar(&node.host));
    page.line(2, "port", &node.port.to_string());
    page.line(2, "data_dir", &scalar(&node.data_dir));
    page.text_line(2, "ssh", node.ssh.as_deref());
    page.text_line(2, "become", node.r#become.as_deref());
    page.text_line(2, "os_user", node.os_user.as_deref());
    page.text_line(2, "bin_dir", node.bin_dir.as_deref());
    page.text_line(2, "upstream", node.upstream.as_ref().map(|name| name.as_str()));
    page.text_line(2, "clone_from", node.clone_from.as_ref().map(|name| name.as_str()));
    page.text_line(2, "config_dir", node.config_dir.as_deref());
    match &node.service {
        None => {}
        Some(Service::Unit(unit)) => page.line(2, "service", &scalar(unit)),
        Some(Service::Commands { start, stop, restart }) => {
            page.open(2, "service");
            page.line(3, "start", &list(start));
            page.line(3, "stop", &list(stop));
            if let Some(restart) = restart {
                page.line(3, "restart", &list(restart));
            }
        }
    }
    page.text_line(2, "waldir", node.waldir.as_deref());
    page.texts(2, "tablespaces", &node.tablespaces);
    page.text_line(2, "slot", node.slot.as_deref());
    page.texts(2, "parameters", &node.parameters);
}

fn hooks(topology: &Topology, page: &mut Page) {
    let hooks = &topology.hooks;
    if hooks.is_empty() {
        return;
    }
    page.open(0, "hooks");
    for (key, commands) in [
        ("before_switchover", &hooks.before_switchover),
        ("after_promotion", &hooks.after_promotion),
        ("after_switchover", &hooks.after_switchover),
        ("switchover_undone", &hooks.switchover_undone),
    ] {
        if !commands.is_empty() {
            page.open(1, key);
            commands.iter().for_each(|argv| page.item(2, &list(argv)));
        }
    }
}

fn rule(line: &HbaLine) -> String {
    let mut fields = vec![
        format!("type: {}", scalar(&line.kind)),
        format!("database: {}", list(&line.database)),
        format!("user: {}", list(&line.user)),
    ];
    fields.extend(line.address.as_ref().map(|address| format!("address: {}", scalar(address))));
    fields.push(format!("method: {}", scalar(&line.method)));
    if !line.options.is_empty() {
        let options: Vec<String> =
            line.options.iter().map(|(name, value)| format!("{}: {}", scalar(name), scalar(value))).collect();
        fields.push(format!("options: {{ {} }}", options.join(", ")));
    }
    format!("{{ {} }}", fields.join(", "))
}

fn secret(reference: &SecretRef) -> String {
    match reference {
        SecretRef::Env(name) => format!("{{ env: {} }}", scalar(name)),
        SecretRef::File(file) => format!("{{ file: {} }}", scalar(file)),
        SecretRef::Command(argv) => format!("{{ command: {} }}", list(argv)),
    }
}

fn list<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = texts.into_iter().map(|text| scalar(text.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

/// A key or value. Plain are words and paths of harmless characters; the words that YAML takes for nothing are not.
fn scalar(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.' | '-');
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '/');
    let plain = begins_well && text.chars().all(harmless) && !text.eq_ignore_ascii_case("null");
    if plain { text.to_owned() } else { quoted(text) }
}

/// In double quotes, the one style that can hold every character.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            c if c.is_alphanumeric() => quoted.push(c),
            c => write!(quoted, "\\U{:08X}", u32::from(c)).expect("a String takes all that is written"),
        }
    }
    quoted.push('"');
    quoted
}

/// The text so far; a level is two spaces.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn put(&mut self, level: usize, text: &str) {
        writeln!(self.text, "{:1$}{text}", "", level * 2).expect("a String takes all that is written");
    }

    fn line(&mut self, level: usize, key: &str, value: &str) {
        self.put(level, &format!("{key}: {value}"));
    }

    fn text_line(&mut self, level: usize, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.line(level, key, &scalar(value));
        }
    }

    /// A section begins after an empty line.
    fn open(&mut self, level: usize, key: &str) {
        if level == 0 {
            self.gap();
        }
        self.put(level, &format!("{key}:"));
    }

    fn gap(&mut self) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
    }

    fn item(&mut self, level: usize, value: &str) {
        self.put(level, &format!("- {value}"));
    }

    fn texts(&mut self, level: usize, key: &str, texts: &IndexMap<String, String>) {
        if !texts.is_empty() {
            self.open(level, key);
            texts.iter().for_each(|(name, value)| self.line(level + 1, &scalar(name), &scalar(value)));
        }
    }

    /// What a remark quotes may hold anything; no line of it may end the comment.
    fn remark(&mut self, level: usize, remark: &str) {
        for line in remark.lines() {
            let line: String =
                line.chars().map(|c| if matches!(c, ' '..='~') || c.is_alphanumeric() { c } else { '?' }).collect();
            self.put(level, format!("# {line}").trim_end());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::topology::diagnostic::Report;
    use crate::topology::parse;
    use crate::topology::spans;

    const EVERY_KEY: &str = include_str!("../../fixtures/good/every-key.yaml");
    const RUNBOOK: &str = include_str!("../../topologies/runbook-pair.yaml");
    const DEMO: &str = include_str!("../../topologies/demo.yaml");

    fn read(text: &str) -> Topology {
        parse(text.as_bytes(), "t.yaml", "/topologies").unwrap_or_else(|wrong| panic!("{wrong:?}\n{text}"))
    }

    #[test]
    fn what_is_written_is_read_back_as_the_same_topology() {
        for source in [EVERY_KEY, RUNBOOK, DEMO] {
            let topology = read(source);
            assert_eq!(read(&yaml(&topology, &Remarks::default())), topology);
        }
    }

    #[test]
    fn a_topology_with_every_key_is_written_with_its_remarks() {
        let remarks = Remarks {
            head: vec!["Written by pgpair import.\nTwo lines.".to_owned()],
            before_parameter: BTreeMap::from([("seq_page_cost".to_owned(), "Planner".to_owned())]),
        };
        insta::assert_snapshot!(yaml(&read(EVERY_KEY), &remarks));
    }

    proptest! {
        #[test]
        fn any_text_is_read_back_to_the_letter(key in "[\\t\\P{Cc}]{1,20}", value in "[\\t\\P{Cc}]*") {
            let text = format!("{}: {}\nlist: {}\n", scalar(&format!("k{key}")), scalar(&value), list([&value, &value]));
            let mut report = Report::on("t.yaml");
            let read = spans::read(text.as_bytes(), &mut report);
            prop_assert!(report.is_empty(), "{text}");
            let read = read.expect("a tree");
            let found = read.get(&format!("k{key}")).expect("the key is there");
            prop_assert!(!found.is_null(), "{text}");
            prop_assert_eq!(found.as_text(), Some(value.as_str()));
            let spans::Value::List(items) = &read.get("list").expect("the list is there").value else { panic!("{text}") };
            prop_assert_eq!(items.iter().map(|item| item.as_text()).collect::<Vec<_>>(), vec![Some(value.as_str()); 2]);
        }

        #[test]
        fn any_value_of_a_parameter_survives_with_any_remark(value in "[\\t\\P{Cc}]*", remark in any::<String>()) {
            let mut topology = read(EVERY_KEY);
            topology.parameters.insert("app.text".to_owned(), value);
            let remarks = Remarks {
                head: vec![remark.clone()],
                before_parameter: BTreeMap::from([("app.text".to_owned(), remark)]),
            };
            let text = yaml(&topology, &remarks);
            prop_assert_eq!(read(&text), topology);
        }
    }
}
