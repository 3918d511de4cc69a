//! Random edits of random postgresql.conf files, against real servers: what `postgres -C` reads is what was intended,
//! and every other line is as it was. Needs the servers that `scripts/postgres install` puts there.
//!
//! `PGPAIR_CONF_CASES` sets the number of cases.

use std::collections::BTreeMap;
use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use indexmap::IndexMap;
use pgpair::pg::block;
use pgpair::pg::conf;
use pgpair::plan::desired;
use pgpair::topology;
use pgpair::topology::NodeName;
use pgpair::topology::Topology;
use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest::test_runner::TestRunner;

/// Strings and numbers of every version, with values that mean the same in each.
const STRINGS: [&str; 3] = ["archive_command", "log_line_prefix", "cluster_name"];
const NUMBERS: [&str; 3] = ["work_mem", "max_connections", "deadlock_timeout"];

fn names() -> impl Iterator<Item = &'static str> {
    STRINGS.into_iter().chain(NUMBERS)
}

struct Server {
    postgres: PathBuf,
    folder: tempfile::TempDir,
}

impl Server {
    fn of(major: u32) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/postgres");
        let output = Command::new(script).args(["path", &major.to_string()]).output().expect("scripts/postgres runs");
        let postgres = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).join("postgres");
        assert!(postgres.exists(), "run `scripts/postgres install {major}` first");
        let folder = tempfile::Builder::new().prefix("pgpair-conf-").tempdir_in("/tmp").expect("a folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("our folder");
        fs::create_dir(folder.path().join("conf.d")).expect("our folder");
        Self { postgres, folder }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).expect("our folder");
    }

    fn command(&self) -> Command {
        if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(&self.postgres);
            command
        } else {
            Command::new(&self.postgres)
        }
    }

    /// What the server makes of the files.
    fn reads(&self, name: &str) -> String {
        let output = self
            .command()
            .arg("-D")
            .arg(self.folder.path())
            .args(["-C", name])
            .current_dir("/")
            .env("LC_ALL", "C")
            .output()
            .expect("postgres runs");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim_end_matches('\n').to_owned()
    }

    fn read_all(&self) -> BTreeMap<&'static str, String> {
        names().map(|name| (name, self.reads(name))).collect()
    }
}

/// One edit of pgpair: the block of these settings, or no block.
type Edit = Option<Vec<(&'static str, String)>>;

#[derive(Clone, Debug)]
struct Case {
    text: String,
    extra: String,
    in_dir: String,
    edits: Vec<Edit>,
    /// What somebody appends after the edits, behind the block.
    appended: Vec<String>,
}

fn is_string(name: &str) -> bool {
    STRINGS.contains(&name)
}

/// A value as a topology would have it.
fn value(name: &'static str) -> BoxedStrategy<String> {
    if is_string(name) {
        // What needs quoting and what looks as if it did.
        "[a-z0-9 '\\\\#=%$\"/.*,_-]{0,12}".boxed()
    } else if name == "work_mem" {
        (64..99_999_u32).prop_map(|n| n.to_string()).boxed()
    } else {
        (30..999_u32).prop_map(|n| n.to_string()).boxed()
    }
}

fn any_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(names().collect::<Vec<_>>())
}

fn setting() -> impl Strategy<Value = (&'static str, String)> {
    any_name().prop_flat_map(|name| value(name).prop_map(move |value| (name, value)))
}

/// A line that somebody wrote by hand.
fn line() -> impl Strategy<Value = String> {
    let shape = (0..6_u8, prop::bool::ANY, prop::bool::ANY);
    let assigned = (setting(), shape).prop_map(|((name, value), (shape, upper, escaped))| {
        let name = if upper { name.to_ascii_uppercase() } else { name.to_owned() };
        let quote = if escaped { "\\'" } else { "''" };
        let quoted = format!("'{}'", value.replace('\\', "\\\\").replace('\'', quote));
        match shape {
            0 => format!("{name} = {quoted}"),
            1 => format!("{name}{quoted}"),
            2 => format!("  {name}\t{quoted}  # {value}"),
            3 => format!("{name}={quoted}\t#"),
            4 => format!("#{name} = {quoted}"),
            _ if value.starts_with(|c: char| c.is_ascii_digit()) && value.chars().all(|c| c.is_ascii_digit()) => {
                format!("{name} {value}#'")
            }
            _ => format!("\t{name} ={quoted}"),
        }
    });
    prop_oneof![
        8 => assigned,
        1 => Just(String::new()),
        1 => "#[ -~]{0,20}".prop_filter("a marker of pgpair's", |text| !text.contains("pgpair")),
        1 => Just("  \t".to_owned()),
        1 => Just("include 'extra.conf'".to_owned()),
        1 => Just("INCLUDE_DIR = 'conf.d'  # all".to_owned()),
        1 => Just("include_if_exists 'none.conf'".to_owned()),
    ]
}

fn file(lines: impl Strategy<Value = String>, most: usize) -> impl Strategy<Value = String> {
    let ends = prop::sample::select(vec!["\n", "\n", "\r\n"]);
    (prop::collection::vec((lines, ends), 0..most), prop::bool::ANY).prop_map(|(lines, is_ended)| {
        let mut text: String = lines.into_iter().map(|(line, end)| line + end).collect();
        if !is_ended && text.ends_with('\n') {
            text.pop();
        }
        text
    })
}

fn case() -> impl Strategy<Value = Case> {
    let plain =
        || line().prop_filter("includes would include themselves", |line| !line.to_lowercase().contains("include"));
    let edit = prop::option::weighted(0.8, prop::collection::vec(setting(), 0..5));
    (
        file(line(), 12),
        file(plain(), 4),
        file(plain(), 4),
        prop::collection::vec(edit, 1..4),
        prop::collection::vec(plain(), 0..3),
    )
        .prop_map(|(text, extra, in_dir, edits, appended)| Case { text, extra, in_dir, edits, appended })
}

fn pair() -> Topology {
    let yaml = "version: 1\ncluster: c\npostgresql: { version: 15 }\nreplication: { user: r, auth: trust }\n\
                nodes:\n  a: { role: primary, port: 5433, data_dir: /d/a }\n";
    topology::parse(yaml.as_bytes(), "pgpair.yaml", "/").expect("a good topology")
}

/// The settings of an edit; of one that is named twice the last value.
fn set_by(edit: &[(&'static str, String)]) -> IndexMap<String, String> {
    edit.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// The lines that pgpair has no part in; the last one may have got its line break.
fn others(text: &str) -> Vec<String> {
    let without = block::remove(text).expect("at most one block");
    without.split_inclusive('\n').map(|line| line.strip_suffix('\n').unwrap_or(line).to_owned()).collect()
}

fn holds(server: &Server, case: &Case) {
    let topology = pair();
    let node = &topology.nodes[&NodeName::new("a")];
    server.write("extra.conf", &case.extra);
    server.write("conf.d/10.conf", &case.in_dir);
    server.write("postgresql.conf", &case.text);
    let base = server.read_all();
    let mut text = case.text.clone();
    for edit in &case.edits {
        let before = others(&text);
        let (new, expected) = match edit {
            Some(edit) => {
                let settings = set_by(edit);
                let new = block::put_last(&text, &desired::conf_block(&topology, node, &settings)).expect("one block");
                let mut expected = base.clone();
                expected.extend(edit.iter().map(|(name, _)| (*name, settings[*name].clone())));
                (new, expected)
            }
            None => (block::remove(&text).expect("one block"), base.clone()),
        };
        server.write("postgresql.conf", &new);
        assert_eq!(server.read_all(), expected, "{new:?}");
        assert_eq!(others(&new), before, "{new:?}");
        text = new;
    }
    // Somebody writes behind the block; the next write of it wins again, and what was written stays.
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.extend(case.appended.iter().map(|line| format!("{line}\n")));
    server.write("postgresql.conf", &text);
    let appended = server.read_all();
    let last = case.edits.last().and_then(Option::as_ref);
    let settings = last.map(|edit| set_by(edit)).unwrap_or_default();
    let new = block::put_last(&text, &desired::conf_block(&topology, node, &settings)).expect("one block");
    server.write("postgresql.conf", &new);
    let mut expected = appended;
    for (name, value) in &settings {
        expected.extend(names().find(|known| known == name).map(|name| (name, value.clone())));
    }
    assert_eq!(server.read_all(), expected, "{new:?}");
    assert_eq!(others(&new), others(&text), "{new:?}");
    assert!(conf::parse(&new).errors.is_empty(), "{new:?}");
}

fn edits_leave_what_was_intended(major: u32, cases: u32) {
    let cases = std::env::var("PGPAIR_CONF_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(cases);
    let server = Server::of(major);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let run = runner.run(&case(), |case| {
        holds(&server, &case);
        Ok(())
    });
    if let Err(failure) = run {
        panic!("{failure}");
    }
}

#[test]
fn edits_of_random_files_leave_on_15_what_was_intended_and_every_other_line() {
    edits_leave_what_was_intended(15, 20);
}

#[test]
fn edits_of_random_files_leave_on_10_what_was_intended_and_every_other_line() {
    edits_leave_what_was_intended(10, 5);
}

#[test]
fn edits_of_random_files_leave_on_18_what_was_intended_and_every_other_line() {
    edits_leave_what_was_intended(18, 5);
}
