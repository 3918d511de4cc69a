//! That a report is well-formed, needs nothing, fits any text, and that nothing of what it quotes can mean anything.

use std::collections::BTreeMap;

use html5ever::ParseOpts;
use html5ever::parse_document;
use html5ever::tendril::TendrilSink as _;
use markup5ever_rcdom::Handle;
use markup5ever_rcdom::NodeData;
use markup5ever_rcdom::RcDom;
use proptest::prelude::*;

use super::*;
use crate::observed::Observed;
use crate::plan::Blocked;
use crate::plan::Plan;
use crate::plan::Refusal;
use crate::plan::items::Class;
use crate::plan::planner;
use crate::report::BlockedReport;
use crate::report::DiffReport;
use crate::report::drift::ClusterDrift;
use crate::report::drift::ItemReport;
use crate::report::log::tests::SWITCHOVER;
use crate::report::samples::healthy;
use crate::report::samples::living;
use crate::report::samples::many;
use crate::report::samples::name;
use crate::report::samples::nothing;
use crate::report::samples::pair;
use crate::report::samples::plan_of;
use crate::report::samples::two_primaries;
use crate::topology::Topology;

/// What a browser makes of a page: its elements with their attributes' names, as deep as they are; what it found wrong;
/// and all of its text.
#[derive(Default)]
struct Seen {
    outline: Vec<String>,
    values: Vec<String>,
    text: String,
    errors: Vec<String>,
}

fn read(page: &str) -> Seen {
    let dom = parse_document(RcDom::default(), ParseOpts::default()).one(page);
    let errors = dom.errors.borrow().iter().map(ToString::to_string).collect();
    let mut seen = Seen { errors, ..Seen::default() };
    walk(&dom.document, 0, &mut seen);
    seen
}

fn walk(node: &Handle, depth: usize, seen: &mut Seen) {
    match &node.data {
        NodeData::Element { name, attrs, .. } => {
            let attributes = attrs.borrow();
            let names: Vec<&str> = attributes.iter().map(|attribute| &*attribute.name.local).collect();
            seen.outline.push(format!("{}{} {}", " ".repeat(depth), name.local, names.join(" ")));
            seen.values.extend(attributes.iter().map(|attribute| attribute.value.to_string()));
        }
        NodeData::Text { contents } => seen.text.push_str(&contents.borrow()),
        NodeData::Comment { contents } => seen.outline.push(format!("comment {contents}")),
        NodeData::Document | NodeData::Doctype { .. } | NodeData::ProcessingInstruction { .. } => {}
    }
    for child in node.children.borrow().iter() {
        walk(child, depth + 1, seen);
    }
}

/// The text of a page as it is read, a line for each that has any; the style left out.
fn words(page: &str) -> String {
    let body = page.split_once("<body>").map_or(page, |(_, body)| body);
    let spaced = body.replace("</", "\n</").replace("<p", "\n<p");
    let text = read(&spaced).text;
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

fn planned(topology: &Topology, observed: &Observed) -> String {
    plan(&PlanReport::of(topology, observed, &planner::plan(topology, observed)), "orders.yaml")
}

fn drifted() -> DriftReport {
    let item = ItemReport {
        class: Class::Drift,
        node: Some(name("b")),
        subject: "work_mem".into(),
        now: Some("64MB".into()),
        wanted: Some(String::new()),
        set_by: None,
        reason: "pgpair's block asks for it, and something else wins".into(),
        code: None,
        remedy: Some("nothing".into()),
        impact: Some(crate::plan::Impact::Reload),
        diff: vec![DiffReport::between("postgresql.conf", "a\n", "b\n")],
    };
    let mut cluster = ClusterDrift::not_compared("orders.yaml", Vec::new());
    cluster.cluster = Some("orders".into());
    cluster.status = crate::report::drift::Standing::Drift;
    cluster.items = vec![item];
    let other = ClusterDrift::not_compared("other.yaml", Vec::new());
    DriftReport::of(vec![cluster, other])
}

fn switched() -> LogReport {
    LogReport::read(SWITCHOVER).expect("a log")
}

/// A page of every sort.
fn all() -> BTreeMap<&'static str, String> {
    let swapped = pair().with_primary(&name("b"));
    BTreeMap::from([
        ("plan of nothing", planned(&pair(), &healthy(&pair()))),
        ("plan of a new pair", planned(&pair(), &nothing(&pair()))),
        ("plan of a switchover", planned(&swapped, &healthy(&pair()))),
        ("status", status(&StatusReport::of(&pair(), &healthy(&pair()), None))),
        ("drift", drift(&drifted())),
        ("event log", log(&switched())),
        ("text", plain("explain", "what it is")),
    ])
}

#[test]
fn a_browser_finds_nothing_wrong_with_a_page_and_nothing_that_it_would_fetch_or_run() {
    for (what, page) in all() {
        let seen = read(&page);
        assert_eq!(seen.errors, [""; 0], "{what}");
        let fetches =
            ["script", "link", "img", "iframe", "object", "embed", "form", "base", "use", "image", "foreignObject"];
        for line in &seen.outline {
            let mut words = line.split_whitespace();
            assert!(!fetches.contains(&words.next().unwrap_or_default()), "{what}: {line}");
            assert!(!words.any(|name| name.starts_with("on") || name == "src" || name == "style"), "{what}: {line}");
        }
        assert!(!page.contains("url(") && !page.contains("@import"), "{what}");
        let links = page.matches("http://").count() + page.matches("https://").count();
        assert_eq!(links, 0, "{what}");
    }
}

#[test]
fn the_policy_allows_the_style_by_its_digest_and_nothing_else() {
    use base64::Engine as _;
    use sha2::Digest as _;
    let page = plain("explain", "");
    let (_, rest) = page.split_once("<style>").expect("a style");
    let (style, _) = rest.split_once("</style>").expect("its end");
    let digest = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(style));
    let policy = format!("default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'");
    assert!(read(&page).values.contains(&policy), "{page}");
}

#[test]
fn every_page_has_its_language_its_title_one_heading_and_no_level_left_out() {
    for (what, page) in all() {
        assert!(page.starts_with("<!DOCTYPE html><html lang=\"en\">"), "{what}");
        assert_eq!((page.matches("<title>").count() > 0, page.matches("<h1>").count()), (true, 1), "{what}");
        let levels = read(&page)
            .outline
            .iter()
            .filter_map(|line| line.trim_start().strip_prefix('h')?.split(' ').next()?.parse::<u32>().ok())
            .collect::<Vec<_>>();
        assert!(levels.windows(2).all(|two| two[1] <= two[0] + 1), "{what}: {levels:?}");
    }
}

#[test]
fn a_plan_says_what_it_takes_who_feeds_whom_and_each_step_with_its_diff() {
    insta::assert_snapshot!(words(&planned(&pair(), &nothing(&pair()))));
}

#[test]
fn a_value_that_changes_is_told_with_who_sets_it_and_a_default_is_called_one() {
    let page = planned(&many(1, 1, "a value of some length "), &living(&many(1, 0, "")));
    insta::assert_snapshot!(
        words(&page).split_once("parameter\n").and_then(|(_, rest)| rest.split_once("Only")).expect("a table").0
    );
}

#[test]
fn a_switchover_is_drawn_before_and_after() {
    let swapped = pair().with_primary(&name("b"));
    let seen = read(&planned(&swapped, &healthy(&pair())));
    let told: Vec<&String> = seen.values.iter().filter(|value| value.contains(" is primary")).collect();
    assert_eq!(
        told,
        ["as observed: a is primary; b is standby, from a", "after this plan: a is standby, from b; b is primary"]
    );
}

#[test]
fn what_is_blocked_stands_above_the_steps_with_its_remedy() {
    let blocked = vec![Blocked { node: None, refusal: two_primaries() }];
    let report = PlanReport::of(&pair(), &healthy(&pair()), &Plan { blocked, ..plan_of(Vec::new()) });
    insta::assert_snapshot!(words(&plan(&report, "orders.yaml")));
}

#[test]
fn health_is_findings_a_picture_positions_and_a_table() {
    let mut observed = healthy(&pair());
    observed.node_mut(&name("b")).sql_mut().expect("it runs").receiver = None;
    insta::assert_snapshot!(words(&status(&StatusReport::of(&pair(), &observed, None))));
}

#[test]
fn drift_of_many_is_a_list_with_what_differs_below_it() {
    insta::assert_snapshot!(words(&drift(&drifted())));
}

#[test]
fn an_event_log_is_what_ran_when_and_the_time_without_writes() {
    let page = log(&switched());
    insta::assert_snapshot!(words(&page));
    let bar = "<rect class=\"outage\" x=\"48.17%\" y=\"20\" width=\"6.68%\"";
    assert!(page.contains(bar), "39 of 584 ms, up to the 320th: {page}");
}

#[test]
fn of_a_forced_promotion_the_time_without_writes_is_drawn_from_the_beginning_and_its_length_not_claimed() {
    let mut report = switched();
    report.applies[0].no_writes[0].from_before = true;
    report.applies[0].no_writes[0].from = 0.0;
    let page = log(&report);
    assert!(page.contains("Since when nobody did is not in this log.") && !page.contains("No writes for"), "{page}");
    assert!(page.contains("<rect class=\"outage open\" x=\"0.00%\""), "{page}");
}

#[test]
fn a_plan_of_twelve_nodes_with_two_hundred_parameters_each_stays_below_two_megabytes() {
    let page = planned(&many(12, 200, "a value of some length "), &living(&many(12, 0, "")));
    assert_eq!(page.matches("application.parameter_199 = ").count(), 12);
    assert!((200_000..2_000_000).contains(&page.len()), "{}", page.len());
    assert!(page.contains("<details><summary>") && !page.contains("<details open>"), "so much is folded");
}

/// A report all of whose texts are this one.
fn of_text(text: &str) -> PlanReport {
    let observed = nothing(&pair());
    let mut report = PlanReport::of(&pair(), &observed, &planner::plan(&pair(), &observed));
    let refusal = Refusal::OutOfReach { node: name("b"), why: text.to_owned() };
    report.blocked = vec![BlockedReport::of(&Blocked { node: Some(name("b")), refusal })];
    report.cluster = text.to_owned();
    for node in &mut report.nodes {
        (node.detail, node.data_dir) = (Some(text.to_owned()), text.to_owned());
    }
    for step in &mut report.steps {
        (step.title, step.reason) = (text.to_owned(), text.to_owned());
        step.guards = vec![text.to_owned()];
        step.diff =
            vec![DiffReport { file: text.to_owned(), unified: format!("@@ -1 +1 @@\n-before\n+{}\n", one_line(text)) }];
    }
    report
}

/// A line of a file is one.
fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

/// Whether a text is nothing but text: the elements and attributes are those of a harmless one, it reads as it is, and
/// no browser has to guess.
fn assert_inert(shown: impl Fn(&str) -> String, text: &str) {
    let page = shown(text);
    let (seen, harmless) = (read(&page), read(&shown("x")));
    assert_eq!(seen.outline, harmless.outline, "{page}");
    assert_eq!(seen.errors, [""; 0], "{page}");
    assert!(
        one_line(&seen.text).contains(&crate::report::words::visible(&one_line(text))),
        "{text:?} in {}",
        seen.text
    );
    let steers = |c: char| (c.is_control() && c != '\n' && c != '\t') || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!page.contains(steers), "{page:?}");
}

/// Pieces that mean something in HTML, in an attribute, in a style, or to who reads it.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("<script>alert(1)</script>"),
        Just("</details>"),
        Just("</title>"),
        Just("</style>"),
        Just("</svg>"),
        Just("<img src=x onerror=y>"),
        Just("<!--"),
        Just("-->"),
        Just("<![CDATA["),
        Just("]]>"),
        Just("<?php"),
        Just("\""),
        Just("'"),
        Just("\" onload=\"x"),
        Just("&lt;"),
        Just("&#0;"),
        Just("&"),
        Just("<"),
        Just(">"),
        Just("javascript:x"),
        Just("\u{202e}"),
        Just("\u{1b}[2J"),
        Just("\0"),
        Just("\r"),
        Just("\n"),
        Just("a"),
        Just(" "),
    ];
    prop::collection::vec(piece, 1..12).prop_map(|pieces| format!("x{}x", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_that_a_plan_quotes_means_anything(text in hostile()) {
        assert_inert(|text| plan(&of_text(text), text), &text);
    }

    #[test]
    fn nothing_that_a_status_quotes_means_anything(text in hostile()) {
        assert_inert(|text| {
            let mut report = StatusReport::of(&pair(), &healthy(&pair()), Some(0));
            report.nodes[1].receiver.as_mut().expect("it streams").status = text.to_owned();
            report.nodes[1].sync_state = Some(text.to_owned());
            report.findings[0].message = text.to_owned();
            status(&report)
        }, &text);
    }

    #[test]
    fn nothing_that_a_drift_report_quotes_means_anything(text in hostile()) {
        assert_inert(|text| {
            let mut report = drifted();
            report.clusters[0].cluster = Some(text.to_owned());
            report.clusters[1].file = text.to_owned();
            let item = &mut report.clusters[0].items[0];
            (item.subject, item.reason) = (text.to_owned(), text.to_owned());
            (item.now, item.wanted, item.remedy) = (Some(text.to_owned()), Some(text.to_owned()), Some(text.to_owned()));
            item.set_by = Some(crate::plan::SetBy::Other(text.to_owned()));
            drift(&report)
        }, &text);
    }

    #[test]
    fn nothing_that_an_event_log_says_means_anything(text in hostile()) {
        assert_inert(|text| {
            let mut report = switched();
            let apply = &mut report.applies[0];
            (apply.cluster, apply.outcome) = (text.to_owned(), text.to_owned());
            apply.no_writes[0].parts[0].what = text.to_owned();
            apply.taken_back = Some(crate::report::log::TakenBack { at: 0.0, from: name(text), to: name(text) });
            for step in &mut apply.steps {
                (step.id, step.title) = (text.to_owned(), Some(text.to_owned()));
                step.said = vec![crate::report::log::Said { at: 0.0, text: text.to_owned() }];
                step.error = Some(crate::report::log::Why { message: text.to_owned(), output: vec![text.to_owned()], remedy: None });
            }
            log(&report)
        }, &text);
    }
}

/// The colours of one half of the style sheet, by name.
fn colours(half: &str) -> BTreeMap<&str, [f64; 3]> {
    let named = half.split("--").skip(1).filter_map(|rest| {
        let (name, value) = rest.split_once(": #")?;
        let part = |at: usize| u8::from_str_radix(&value[at..at + 2], 16).ok().map(f64::from);
        Some((name, [part(0)?, part(2)?, part(4)?]))
    });
    named.collect()
}

/// As WCAG 2 has it.
fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
    let linear = |part: f64| {
        let part = part / 255.0;
        if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
    };
    let light = |colour: [f64; 3]| 0.2126 * linear(colour[0]) + 0.7152 * linear(colour[1]) + 0.0722 * linear(colour[2]);
    let (one, other) = (light(one) + 0.05, light(other) + 0.05);
    one.max(other) / one.min(other)
}

#[test]
fn text_stands_out_from_what_it_stands_on_in_light_and_dark() {
    let (light, rest) = page::STYLE.split_once("@media (prefers-color-scheme: dark)").expect("both halves");
    let (dark, _) = rest.split_once("* {").expect("its end");
    for (which, half) in [("light", colours(light)), ("dark", colours(dark))] {
        assert!(half.len() >= 19, "{which}: {half:?}");
        let on_the_page = ["text", "muted", "good", "note", "warning", "bad", "quiet"].map(|text| (text, "page"));
        let on_panels = ["text", "muted", "good", "warning", "bad"].map(|text| (text, "panel"));
        let on_badges = [
            ("good", "good-page"),
            ("note", "note-page"),
            ("warning", "warning-page"),
            ("bad", "bad-page"),
            ("quiet", "quiet-page"),
        ];
        let in_diffs = [
            ("text", "good-page"),
            ("text", "bad-page"),
            ("text", "old-mark"),
            ("text", "new-mark"),
            ("muted", "good-page"),
            ("muted", "bad-page"),
            ("muted", "note-page"),
            ("bar-text", "accent"),
        ];
        for (text, ground) in on_the_page.iter().chain(&on_panels).chain(&on_badges).chain(&in_diffs) {
            let ratio = contrast(half[text], half[ground]);
            assert!(ratio >= 4.5, "{which}: {text} on {ground}: {ratio:.2}");
        }
    }
}
