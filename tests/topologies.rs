//! Topology files as users write them: the good ones load, the bad ones get one clear answer each.
//!
//! The files are found by themselves: `topologies/*.yaml`, and `fixtures/bad/*.yaml` with the answer beside each.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use pgpair::topology;
use pgpair::topology::Role;
use pgpair::topology::Topology;
use pgpair::topology::diagnostic::Diagnostic;
use proptest::prelude::*;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).expect("the folder is there").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect();
    files.sort();
    files
}

fn parse(source: &[u8]) -> Result<Topology, Vec<Diagnostic>> {
    topology::parse(source, "t.yaml", "/topologies")
}

fn load(file: &str) -> Topology {
    let source = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("the file is there");
    parse(&source).unwrap_or_else(|wrong| panic!("{file}:\n{}", rendered(&wrong)))
}

fn rendered(diagnostics: &[Diagnostic]) -> String {
    let lines = diagnostics.iter().map(|diagnostic| format!("[{}] {diagnostic}\n", diagnostic.code));
    lines.collect()
}

/// The smallest topology, for cases that are no text that one could read in a file.
const SMALL: &str = "version: 1
cluster: small
postgresql: { version: 15 }
replication: { user: repuser, auth: trust }
nodes:
  a: { role: primary, port: 5433, data_dir: /pg/a }
";

#[test]
fn every_topology_of_the_repository_loads() {
    let files = files("topologies");
    assert!(files.len() >= 2);
    for file in files {
        let source = fs::read(&file).expect("readable");
        if let Err(wrong) = topology::parse(&source, &file.to_string_lossy(), "/topologies") {
            panic!("{}", rendered(&wrong));
        }
    }
}

#[test]
fn every_bad_topology_gets_the_answer_beside_it() {
    let files = files("fixtures/bad");
    assert!(files.len() >= 60, "{} cases", files.len());
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../fixtures/bad");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for file in files {
        let source = fs::read(&file).expect("readable");
        let case = file.file_stem().expect("a name").to_string_lossy().into_owned();
        let Err(diagnostics) = parse(&source) else { panic!("{case} is taken for good") };
        assert!(!diagnostics.is_empty(), "{case}");
        settings.bind(|| insta::assert_snapshot!(case, rendered(&diagnostics)));
    }
}

#[test]
fn the_runbook_pair_has_the_values_of_the_runbook_to_the_letter() {
    let topology = load("topologies/runbook-pair.yaml");
    let parameters: Vec<(&str, &str)> =
        topology.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        parameters,
        [
            ("logging_collector", "on"),
            ("log_min_messages", "notice"),
            ("log_min_duration_statement", "1000"),
            ("log_checkpoints", "on"),
            ("log_connections", "on"),
            ("log_disconnections", "on"),
            ("log_duration", "on"),
            ("log_error_verbosity", "verbose"),
            ("log_line_prefix", "%t [%p]: [%l-1] <%d %u %h>"),
            ("unix_socket_permissions", "0600"),
            ("listen_addresses", "*"),
            ("max_wal_senders", "3"),
            ("wal_level", "replica"),
            ("archive_mode", "on"),
            ("archive_command", "cd ./"),
            ("hot_standby", "on"),
        ]
    );
    assert_eq!(topology.postgresql.version.number(), 10);
    assert_eq!((topology.replication.user.as_str(), topology.replication.connection_limit), ("repuser", Some(3)));
    let nodes: Vec<_> = topology
        .nodes
        .values()
        .map(|node| (node.role, node.host.as_str(), node.port, node.data_dir.as_str()))
        .collect();
    assert_eq!(
        nodes,
        [
            (Role::Primary, "10.111.50.227", 5433, "/dbdir/postgresql/postgres10/5433/data"),
            (Role::Standby, "10.111.50.227", 5434, "/dbdir/postgresql/postgres10/5434/data"),
        ]
    );
}

#[test]
fn a_topology_with_every_key_of_the_format_is_read_whole() {
    insta::assert_debug_snapshot!(load("fixtures/good/every-key.yaml"));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_accepted() {
    let windows = format!("\u{feff}{}", SMALL.replace('\n', "\r\n"));
    assert_eq!(parse(windows.as_bytes()), parse(SMALL.as_bytes()));
    assert!(parse(windows.as_bytes()).is_ok());
}

#[test]
fn places_are_right_after_a_byte_order_mark_windows_line_ends_and_other_alphabets() {
    let source = format!(
        "\u{feff}# 主备\r\n{}",
        SMALL.replace("port: 5433", "# é\r\n   prot: 1, port: 5433").replace('\n', "\r\n")
    );
    let source = source.replace("\r\r\n", "\r\n");
    let wrong = parse(source.as_bytes()).expect_err("`prot` is unknown");
    let span = wrong[0].span.expect("a place");
    assert_eq!(&source.as_bytes()[span.offset..span.offset + span.len], b"prot");
    assert_eq!((span.line, span.column), (8, 4));
}

#[test]
fn what_is_no_text_is_refused_with_its_place() {
    let at = |position: usize, byte: u8| {
        let mut source = SMALL.as_bytes().to_vec();
        source.insert(position, byte);
        rendered(&parse(&source).expect_err("no text"))
    };
    let utf16: Vec<u8> = SMALL.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let large = format!("{SMALL}# {}", "x".repeat(1 << 20));
    let deep = format!("version: {}", "[".repeat(20_000));
    let answers = [
        ("invalid UTF-8", at(20, 0xFF)),
        ("NUL", at(20, 0)),
        ("UTF-16", rendered(&parse(&utf16).expect_err("not UTF-8"))),
        ("larger than 1 MiB", rendered(&parse(large.as_bytes()).expect_err("too large"))),
        ("20,000 lists, one in another", rendered(&parse(deep.as_bytes()).expect_err("too deep"))),
        ("nothing", rendered(&parse(b"").expect_err("empty"))),
    ];
    let text: Vec<String> = answers.iter().map(|(case, answer)| format!("{case}\n{answer}")).collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn no_answer_repeats_a_literal_password() {
    for file in files("fixtures/bad") {
        let source = fs::read(&file).expect("readable");
        let wrong = parse(&source).expect_err("bad");
        assert!(!format!("{wrong:?}").contains("hunter2"), "{}", file.display());
    }
}

/// A change to one place of a text: something taken out, something put in.
fn mutation() -> impl Strategy<Value = (prop::sample::Index, usize, String)> {
    let put_in = prop_oneof![
        "[ -~\n\té主\u{feff}\r\0]{0,3}",
        prop::sample::select(vec![
            ": ", "- ", "{", "}", "[", "]", "&a ", "*a", "'", "\"", "|\n", "<<: ", "---\n", "!t ", "~", "# "
        ])
        .prop_map(str::to_owned),
        prop::sample::select(vec![
            "  a:\n",
            "port: 0\n",
            "    upstream: c\n",
            "role: primary",
            "host: '*'\n",
            "-1",
            "null"
        ])
        .prop_map(str::to_owned),
    ];
    (any::<prop::sample::Index>(), 0..12usize, put_in)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_text_makes_the_reader_panic_and_every_place_is_in_the_file(
        every_key: bool,
        mutations in prop::collection::vec(mutation(), 1..6),
    ) {
        let good = if every_key { "fixtures/good/every-key.yaml" } else { "topologies/runbook-pair.yaml" };
        let mut text: Vec<char> = include_file(good).chars().collect();
        for (index, taken, put_in) in mutations {
            let start = index.index(text.len() + 1);
            let end = (start + taken).min(text.len());
            text.splice(start..end, put_in.chars());
        }
        let text: String = text.into_iter().collect();
        match parse(text.as_bytes()) {
            Ok(topology) => {
                prop_assert_eq!(topology.primary().role, Role::Primary);
                for node in topology.nodes.values() {
                    prop_assert!(node.data_dir.starts_with('/'));
                }
                for standby in topology.standbys() {
                    prop_assert!(topology.upstream(standby).name != standby.name);
                }
            }
            Err(wrong) => {
                prop_assert!(!wrong.is_empty());
                let places = wrong.iter().flat_map(|one| one.span.iter().chain(one.related.iter().map(|(span, _)| span)));
                for span in places {
                    let shown = text.get(span.offset..span.offset + span.len);
                    prop_assert!(shown.is_some(), "{:?} is no place in {} bytes", span, text.len());
                    let line = text[..span.offset].matches('\n').count() + 1;
                    prop_assert_eq!(span.line, line);
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let wrong = parse(&bytes);
        prop_assert!(wrong.is_err_and(|wrong| !wrong.is_empty()));
    }
}

fn include_file(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("the file is there")
}
