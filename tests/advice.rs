//! Warnings: what each topology is told that is legal and unwise, or not told.
//!
//! The cases are found by themselves: `fixtures/advice/*.yaml`, with the warnings beside each.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use pgpair::topology;
use pgpair::topology::advice::Advice;
use pgpair::topology::diagnostic::Diagnostic;
use pgpair::topology::diagnostic::Severity;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("fixtures/advice")).expect("the folder is there");
    let files = entries.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect();
    files.sort();
    files
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).expect("readable")
}

fn advice(source: &str) -> Vec<Diagnostic> {
    let result = topology::parse_with_advice(source.as_bytes(), "t.yaml", "/topologies");
    result.unwrap_or_else(|wrong| panic!("{}\n{source}", rendered(&wrong))).1
}

fn rendered(diagnostics: &[Diagnostic]) -> String {
    if diagnostics.is_empty() {
        return "no warnings".to_owned();
    }
    diagnostics.iter().map(|diagnostic| format!("{}: {diagnostic}\n", diagnostic.severity)).collect()
}

fn codes(warnings: &[Diagnostic]) -> Vec<&'static str> {
    warnings.iter().map(|warning| warning.code).collect()
}

/// The part of a case in front of its `silence:`, and the ids after it.
fn silenced(source: &str) -> (&str, &str) {
    source.split_once("silence:").unwrap_or((source, ""))
}

#[test]
fn every_topology_gets_the_warnings_beside_it() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../fixtures/advice");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for file in cases() {
        let case = file.file_stem().expect("a name").to_string_lossy().into_owned();
        settings.bind(|| insta::assert_snapshot!(case, rendered(&advice(&read(&file)))));
    }
}

#[test]
fn every_warning_has_a_case_that_gives_it_and_one_that_silences_it() {
    let sources: Vec<String> = cases().iter().map(|file| read(file)).collect();
    for id in Advice::ALL.map(Advice::id) {
        assert!(sources.iter().any(|source| codes(&advice(source)).contains(&id)), "{id} is never given");
        let is_silenced = |source: &&String| silenced(source).1.contains(id);
        let source = sources.iter().find(is_silenced).unwrap_or_else(|| panic!("{id} is never silenced"));
        assert!(codes(&advice(silenced(source).0)).contains(&id), "{id} would not be given");
        assert!(!codes(&advice(source)).contains(&id), "{id} is given");
    }
}

#[test]
fn silence_hides_the_warnings_it_names_and_no_others() {
    for file in cases() {
        let source = read(&file);
        let (source, _) = silenced(&source);
        let given = advice(source);
        for id in Advice::ALL.map(Advice::id) {
            let mut others = given.clone();
            others.retain(|warning| warning.code != id);
            assert_eq!(advice(&format!("{source}silence: [{id}]\n")), others, "{}", file.display());
        }
    }
}

#[test]
fn every_warning_stands_in_the_file_and_says_why_and_what_to_do() {
    for file in cases() {
        let source = read(&file);
        for warning in advice(&source) {
            let span = warning.span.expect("a place");
            let line = source.lines().nth(span.line - 1).expect("a line");
            let shown = &source[span.offset..span.offset + span.len];
            assert!(!shown.is_empty() && line[span.column - 1..].starts_with(shown), "{}", file.display());
            let kind = Advice::ALL.into_iter().find(|kind| kind.id() == warning.code).expect("a known id");
            assert!(warning.message.ends_with(kind.reason()), "{}", warning.message);
            assert_eq!(warning.help.as_deref(), Some(kind.remedy()));
            assert_eq!(warning.severity, Severity::Warning);
        }
    }
}

#[test]
fn the_runbook_pair_is_told_what_the_runbook_leaves_open() {
    insta::assert_snapshot!(rendered(&advice(&read(&root().join("topologies/runbook-pair.yaml")))));
}

#[test]
fn the_demo_is_free_of_warnings() {
    assert_eq!(advice(&read(&root().join("topologies/demo.yaml"))), []);
}

#[test]
fn advice_changes_nothing_in_the_topology() {
    let source = read(&root().join("fixtures/good/every-key.yaml"));
    let (with, _) = topology::parse_with_advice(source.as_bytes(), "t.yaml", "/topologies").expect("valid");
    assert_eq!(topology::parse(source.as_bytes(), "t.yaml", "/topologies"), Ok(with));
    // It silences what it would be told.
    assert_eq!(advice(&source), []);
    assert_eq!(
        codes(&advice(silenced(&source).0)),
        ["synchronous-blocks", "slots-without-wal-limit", "archive-discards"]
    );
}
