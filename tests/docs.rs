//! The documentation holds what the program says: the reference is made from it, every command line in the texts is one
//! that pgpair takes, and every link leads somewhere.
//!
//! `PGPAIR_BLESS=1 cargo test --test docs` writes the reference anew.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use support::Ran;
use support::Version;
use support::Workspace;
use support::as_owner;
use support::path_with_pgpair;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pgpair(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgpair"));
    let output = command.args(arguments).env_remove("COLUMNS").env("NO_COLOR", "1").output().expect("pgpair runs");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&pgpair(arguments)).expect("one JSON value")
}

/// Compares a page of the reference with what it should be, or writes it.
#[track_caller]
fn is_current(name: &str, made: &str) {
    let path = root().join("docs/reference").join(name);
    if std::env::var_os("PGPAIR_BLESS").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("our folder");
        fs::write(&path, made).expect("our file");
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(there == made, "{} is not current: PGPAIR_BLESS=1 cargo test --test docs", path.display());
}

/// A page of what `pgpair explain LIST` explains.
fn explained(list: &str, head: &str) -> String {
    let told = json(&["explain", list, "--format", "json"]);
    let mut page = head.to_owned();
    for one in told["explanations"].as_array().expect("a list") {
        let text = |key: &str| one[key].as_str().map(markdown);
        page.push_str(&format!(
            "\n## `{}`\n\n{}.\n",
            one["id"].as_str().expect("an id"),
            text("what").expect("a text")
        ));
        let parts = [
            ("Why", "why"),
            ("pgpair's answer", "answer"),
            ("Impact", "impact"),
            ("Remedy", "remedy"),
            ("By hand", "by_hand"),
        ];
        let told: Vec<String> =
            parts.iter().filter_map(|(label, key)| Some(format!("- **{label}**: {}\n", text(key)?))).collect();
        if !told.is_empty() {
            page.push_str(&format!("\n{}", told.concat()));
        }
    }
    page
}

/// What Markdown would take for HTML stands as it is.
fn markdown(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[test]
fn the_pages_of_what_is_explained_are_current() {
    let pages = [
        (
            "states",
            "# Joint states\n\nHow the nodes of a cluster can stand together, and what the next plan does about it.\n",
        ),
        ("actions", "# Steps\n\nWhat the steps of a plan do: `action` in the JSON of a plan.\n"),
        ("refusals", "# Refusals\n\nWhy something is not done: `code` of what blocks a plan, or a node.\n"),
        ("checks", "# Checks before a switchover\n\nWhat plan, drift and status ask before the primary may move.\n"),
        (
            "warnings",
            "# Warnings\n\nWhat is legal in a topology and unwise; `silence: [ID]` at its top takes one back.\n",
        ),
    ];
    for (list, head) in pages {
        is_current(&format!("{list}.md"), &explained(list, head));
    }
}

/// The commands, in the order in which the help has them.
fn commands() -> Vec<String> {
    let help = pgpair(&["--help"]);
    let (_, commands) = help.split_once("\nCommands:\n").expect("the commands");
    let lines = commands.lines().take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn the_page_of_commands_is_current() {
    let mut page = format!("# Commands\n\n```text\n{}```\n", pgpair(&["--help"]));
    for command in commands() {
        page.push_str(&format!("\n## pgpair {command}\n\n```text\n{}```\n", pgpair(&[&command, "--help"])));
    }
    is_current("commands.md", &page);
}

/// What one may give for a key of the topology, by its JSON Schema.
fn kind(schema: &Value, defs: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|name| name.rsplit('/').next()) {
        return match name {
            "scalar" | "text" | "number" | "boolean" => name.to_owned(),
            "texts" => "text, or a list of them".to_owned(),
            "secret" => "secret: `{ env: NAME }`, `{ file: PATH }` or `{ command: [..] }`".to_owned(),
            "argv" => "list of arguments".to_owned(),
            "commands" => "list of lists of arguments".to_owned(),
            "node" => "node".to_owned(),
            other => kind(&defs[other], defs),
        };
    }
    if let Some(words) = schema["enum"].as_array() {
        let mut words: Vec<String> = words.iter().map(|word| format!("`{}`", plain(word))).collect();
        words.dedup(); // A number may stand in quotes too.
        return words.join(", ");
    }
    if let Some(ways) = schema["anyOf"].as_array() {
        let one = kind(&ways[0], defs);
        return match ways.get(1).map(|way| (kind(way, defs), kind(&way["items"], defs))) {
            Some((_, items)) if items == one => format!("{one}, or a list of them"),
            Some((other, _)) if other != "string" => format!("{one}, or {other}"),
            Some(_) | None => one,
        };
    }
    match &schema["type"] {
        Value::String(one) if one == "object" => "mapping".to_owned(),
        Value::String(one) if one == "array" => "list".to_owned(),
        Value::String(one) if one == "integer" => "number".to_owned(),
        Value::String(one) => one.clone(),
        Value::Array(_) => "text".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Adds a row for each key of a mapping, and those below it.
fn keys(path: &str, schema: &Value, defs: &Value, page: &mut String) {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (key, one) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let given = one.get("default").map(|value| format!("`{}`", plain(value)));
        let default =
            given.unwrap_or_else(|| if required.contains(&key.as_str()) { "required" } else { "" }.to_owned());
        let means = markdown(one["description"].as_str().unwrap_or_default()).replace('|', "\\|");
        page.push_str(&format!("| `{path}` | {} | {default} | {means} |\n", kind(one, defs)));
        keys(&path, one, defs, page);
        keys(&format!("{path}[]"), &one["items"], defs, page);
        for way in one["anyOf"].as_array().into_iter().flatten() {
            keys(&path, way, defs, page);
        }
    }
}

#[test]
fn the_page_of_the_topology_is_current() {
    let schema = json(&["schema"]);
    let head = "| key | takes | default | meaning |\n| --- | --- | --- | --- |\n";
    let mut page = format!(
        "# Topology\n\nEvery key of a topology file. An editor shows the same, and the parameters of the version besides, with the\n\
         schema that `pgpair schema` writes.\n\n{head}"
    );
    keys("", &schema, &schema["$defs"], &mut page);
    page.push_str(&format!(
        "\n## A node\n\nBelow `nodes.NAME`, and in `node_defaults` for all nodes that do not have the key. `role`, `port` and `data_dir`\n\
         are needed.\n\n{head}"
    ));
    keys("", &schema["$defs"]["node"], &schema["$defs"], &mut page);
    is_current("topology.md", &page);
}

/// The README and all pages of `docs`.
fn pages() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("our folder").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if entry.path().extension().is_some_and(|extension| extension == "md") {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// The lines of commands in a page: in blocks of `sh`, and after `$ ` in those of a terminal.
fn command_lines(page: &str) -> Vec<String> {
    let (mut lines, mut block) = (Vec::new(), None);
    for line in page.lines() {
        match (block, line.strip_prefix("```")) {
            (None, Some(language)) => block = Some(language),
            (Some(_), Some(_)) => block = None,
            (Some("sh"), None) => lines.push(line.to_owned()),
            (Some("" | "console"), None) => lines.extend(line.strip_prefix("$ ").map(str::to_owned)),
            (Some(_) | None, None) => {}
        }
    }
    lines
}

/// The words of each call of pgpair in a line, without what the shell takes.
fn calls(line: &str) -> Vec<Vec<String>> {
    let line = line.split(" #").next().unwrap_or_default();
    let parts = line.split(['|', ';', '(', ')', '>', '&']).map(str::trim);
    let calls = parts.filter_map(|part| {
        let words: Vec<String> =
            part.split_whitespace().map(|word| word.trim_matches(['\'', '"']).to_owned()).collect();
        let at = words.iter().position(|word| word == "pgpair")?;
        words[..at].iter().all(|word| word.contains('=')).then(|| words[at + 1..].to_vec())
    });
    calls.collect()
}

#[test]
fn every_command_line_of_the_documentation_is_one_that_pgpair_takes() {
    let mut seen = 0;
    for page in pages() {
        for line in command_lines(&fs::read_to_string(&page).expect("a page")) {
            for call in calls(&line) {
                // In an empty folder nothing can come of it; but what is wrong usage is said before.
                let folder = tempfile::tempdir().expect("a folder");
                let mut command = Command::new(env!("CARGO_BIN_EXE_pgpair"));
                command.args(&call).current_dir(folder.path()).env_remove("PGPAIR_FILE");
                let output = command.stdin(std::process::Stdio::null()).output().expect("pgpair runs");
                let said = String::from_utf8_lossy(&output.stderr);
                let is_usage =
                    ["Usage:", "required arguments", "unexpected argument", "unrecognized subcommand", "invalid value"];
                assert!(!is_usage.iter().any(|word| said.contains(word)), "{}: {line}\n{said}", page.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "{seen} calls of pgpair");
}

/// Options of other programs that the texts name.
const OPTIONS_OF_OTHERS: [&str; 8] = [
    "--check",              // ansible-playbook
    "--collector",          // node_exporter
    "--diff",               // ansible-playbook
    "--dry-run",            // repmgr
    "--force-rewind",       // repmgr
    "--no-ensure-shutdown", // pg_rewind
    "--path",               // cargo
    "--source-server",      // pg_rewind
];

/// What stands between backquotes in the running text of all pages.
fn spans() -> Vec<String> {
    let mut spans = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        let outside: Vec<&str> = text.split("```").step_by(2).collect();
        spans.extend(outside.concat().split('`').skip(1).step_by(2).map(str::to_owned));
    }
    spans
}

#[test]
fn every_option_that_the_documentation_names_is_one_of_pgpair_or_of_a_program_on_the_list() {
    let help: String = commands().iter().map(|command| pgpair(&[command, "--help"])).collect();
    let is_end = |end: char| !(end.is_ascii_alphanumeric() || end == '-');
    let options = |text: &str| -> BTreeSet<String> {
        let words = text.split(|end: char| end.is_whitespace() || "[](),:|'\"".contains(end));
        let names = words.filter_map(|word| Some(word.strip_prefix("--")?.split(is_end).next()?.to_owned()));
        names.filter(|name| !name.is_empty()).map(|name| format!("--{name}")).collect()
    };
    let ours = options(&help);
    let named: BTreeSet<String> = spans().iter().flat_map(|span| options(span)).collect();
    let of_others: Vec<&str> = named.difference(&ours).map(String::as_str).collect();
    assert_eq!(of_others, OPTIONS_OF_OTHERS);
    assert!(named.intersection(&ours).count() > 15, "{named:?}");
}

#[test]
fn what_the_documentation_says_can_be_explained_is_explained() {
    let mut seen = BTreeSet::new();
    for span in spans() {
        let Some(id) = span.strip_prefix("pgpair ").unwrap_or(&span).strip_prefix("explain ") else { continue };
        if id != "ID" && seen.insert(id.to_owned()) {
            pgpair(&["explain", id]);
        }
    }
    assert!(seen.len() > 3, "{seen:?}");
}

#[test]
fn every_link_of_the_documentation_leads_to_a_file() {
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let target = page.parent().expect("a folder").join(file);
            assert!(target.exists(), "{}: {link}", page.display());
        }
    }
}

/// The part of the README below a heading.
fn section(heading: &str) -> String {
    let readme = fs::read_to_string(root().join("README.md")).expect("a README");
    let (_, rest) = readme.split_once(&format!("\n## {heading}\n")).expect("the heading");
    rest.split("\n## ").next().unwrap_or_default().to_owned()
}

/// A line of the README, as somebody at a terminal who says yes to everything.
fn at_a_terminal(pair: &Workspace, line: &str) -> Ran {
    let mut command = as_owner("sh");
    // As many lines as are given are kept in memory until they are asked for: no endless `yes`.
    command.args(["-c", r#"echo yes | script --quiet --return --command "$1" /dev/null"#, "sh", line]);
    command
        .current_dir(pair.path(""))
        .env("PATH", path_with_pgpair())
        .env("XDG_STATE_HOME", pair.path("state"))
        .env_remove("PGPAIR_FILE");
    Ran::of(&command.output().expect("script runs"))
}

#[test]
fn from_the_readme_alone_one_comes_to_a_pair_a_changed_parameter_a_switchover_and_a_drift_report() {
    let pair = Workspace::new(Version(15));
    fs::remove_file(pair.path("repuser.secret")).expect("our file");
    let first = section("A pair in five minutes");
    let yaml = first.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a topology");
    let [a, b] = pair.ports.map(|port| port.to_string());
    pair.write("pgpair.yaml", &yaml.replace("15433", &a).replace("15434", &b), 0o644);
    let run = |text: &str| {
        let mut lines = command_lines(text);
        // What is installed is the one that was built, and this is the folder.
        lines.retain(|line| !line.is_empty() && !line.starts_with("cargo install") && !line.starts_with("mkdir "));
        for line in &lines {
            at_a_terminal(&pair, line).exits(0);
        }
        lines.len()
    };
    assert!(run(&first) >= 6);
    pair.in_sync();
    pair.edit("  max_wal_senders: 5\n", "  max_wal_senders: 5\n  work_mem: 8MB\n");
    at_a_terminal(&pair, "pgpair apply").exits(0).says("work_mem");
    assert_eq!(pair.sql("b", "show work_mem"), "8MB");
    assert_eq!(run(&section("Switching over")), 1);
    assert_eq!(pair.sql("b", "select pg_is_in_recovery()"), "f");
    pair.sql("a", "alter system set work_mem = '64MB'");
    at_a_terminal(&pair, "pgpair drift").exits(2).says("postgresql.auto.conf");
    at_a_terminal(&pair, "pgpair apply").exits(0);
    pair.in_sync();
}
