//! That a comment fits whatever the plan, and that nothing of what it quotes can mean anything.

use proptest::prelude::*;
use pulldown_cmark::Event;
use pulldown_cmark::Options;
use pulldown_cmark::Parser;

use super::*;
use crate::observed::Observed;
use crate::plan::Blocked;
use crate::plan::Plan;
use crate::plan::Refusal;
use crate::plan::planner;
use crate::report::DiffReport;
use crate::report::PlanReport;
use crate::report::samples::healthy;
use crate::report::samples::living;
use crate::report::samples::many;
use crate::report::samples::name;
use crate::report::samples::nothing;
use crate::report::samples::pair;
use crate::report::samples::plan_of;
use crate::report::samples::two_primaries;
use crate::report::status::StatusReport;
use crate::topology::Topology;

fn shown(topology: &Topology, observed: &Observed) -> String {
    plan(&PlanReport::of(topology, observed, &planner::plan(topology, observed)), "orders.yaml")
}

/// What a reader of Markdown makes of it: its structure without any text, and all of its HTML.
fn parsed(markdown: &str) -> (Vec<String>, String) {
    let (mut structure, mut html) = (Vec::new(), String::new());
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        if let Event::Html(raw) | Event::InlineHtml(raw) = &event {
            html.push_str(raw);
        } else if let Event::Code(_) = event {
            structure.push("code".to_owned());
        } else if !matches!(event, Event::Text(_)) {
            structure.push(format!("{event:?}"));
        }
    }
    (structure, html)
}

fn tags(html: &str) -> Vec<&str> {
    html.split('<').skip(1).filter_map(|tag| tag.split('>').next()).collect()
}

#[test]
fn a_plan_of_a_pair_is_a_summary_a_picture_and_folded_steps() {
    insta::assert_snapshot!(shown(&pair(), &nothing(&pair())));
}

#[test]
fn a_switchover_is_a_picture_of_the_roles_before_and_after() {
    let swapped = pair().with_primary(&name("b"));
    let text = shown(&swapped, &healthy(&pair()));
    let (_, picture) = text.split_once("```mermaid\n").expect("a picture");
    let (picture, _) = picture.split_once("```").expect("its end");
    insta::assert_snapshot!(picture);
    assert!(text.contains("moves its primary from `a` to `b`"), "{text}");
}

#[test]
fn no_picture_is_drawn_where_roles_and_nodes_stay_as_they_are() {
    let (before, after) = (many(3, 0, ""), many(3, 1, "x"));
    let world = Observed { ..healthy_of(&before) };
    let text = shown(&after, &world);
    assert!(text.contains("<details>") && !text.contains("mermaid"), "{text}");
}

/// A living cluster, whose standbys stream from where they should.
fn healthy_of(topology: &Topology) -> Observed {
    let mut world = living(topology);
    for standby in topology.standbys() {
        let upstream = topology.upstream(standby);
        let sql = world.node_mut(&standby.name).sql_mut().expect("it runs");
        let receiver = sql.receiver.as_mut().expect("it streams");
        (receiver.host, receiver.port) = (Some(upstream.host.clone()), Some(upstream.port));
    }
    world
}

#[test]
fn nothing_to_do_is_a_line_below_the_marker() {
    let text = shown(&pair(), &healthy(&pair()));
    assert_eq!(text, "<!-- pgpair:orders -->\n### pgpair: no changes\n\n`orders` matches `orders.yaml`.\n");
}

#[test]
fn what_is_blocked_stands_above_the_steps_with_its_remedy() {
    let blocked = vec![Blocked { node: None, refusal: two_primaries() }];
    let plan_of_it = Plan { blocked, ..plan_of(Vec::new()) };
    insta::assert_snapshot!(plan(&PlanReport::of(&pair(), &healthy(&pair()), &plan_of_it), "orders.yaml"));
}

#[test]
fn health_is_a_table_with_what_is_wrong_below_it() {
    let mut observed = healthy(&pair());
    observed.node_mut(&name("b")).sql_mut().expect("it runs").receiver = None;
    insta::assert_snapshot!(status(&StatusReport::of(&pair(), &observed, None)));
}

#[test]
fn a_plan_of_twelve_nodes_with_two_hundred_parameters_each_fits_a_comment() {
    let topology = many(12, 200, "a value of some length, as they are ");
    let world = healthy_of(&many(12, 0, ""));
    let whole: usize = {
        let report = PlanReport::of(&topology, &world, &planner::plan(&topology, &world));
        report.steps.iter().flat_map(|step| &step.diff).map(|diff| diff.unified.len()).sum()
    };
    assert!(whole > 2 * LIMIT, "{whole}: the plan alone does not put it to the test");
    for world in [world, nothing(&topology)] {
        let text = shown(&topology, &world);
        assert!(text.chars().count() < LIMIT && text.len() > LIMIT / 2, "{}", text.len());
        assert!(text.contains("12 diffs shortened"), "{text}");
        assert!(text.contains("lines not shown"));
        let (_, html) = parsed(&text);
        assert_eq!(html.matches("<details>").count(), html.matches("</details>").count());
    }
}

#[test]
fn steps_that_do_not_fit_are_counted() {
    let mut report = of_text("a step");
    report.steps = vec![report.steps; 100].concat();
    let text = plan(&report, "orders.yaml");
    assert!(text.len() < LIMIT, "{}", text.len());
    let (_, told) = text.split_once("shortened, ").expect("what is left out");
    let steps: usize = told.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
    let (_, html) = parsed(&text);
    assert_eq!(steps + html.matches("<details>").count(), report.steps.len());
}

/// A report all of whose texts are this one.
fn of_text(text: &str) -> PlanReport {
    let observed = nothing(&pair());
    let mut report = PlanReport::of(&pair(), &observed, &planner::plan(&pair(), &observed));
    let refusal = Refusal::OutOfReach { node: name("b"), why: text.to_owned() };
    report.blocked = vec![super::super::BlockedReport::of(&Blocked { node: Some(name("b")), refusal })];
    for step in &mut report.steps {
        step.title = text.to_owned();
        step.reason = text.to_owned();
        step.diff = vec![DiffReport::between(text, "before\n", &format!("{text}\n"))];
    }
    report
}

/// Whether text in the Markdown can do anything: it is in code, or in HTML with its own characters as entities; words
/// alone may stand as they are.
fn assert_inert(shown: impl Fn(&str) -> String, text: &str) {
    let outline = |text: &str| {
        let (structure, html) = parsed(&shown(text));
        (structure.join("\n"), tags(&html).join("\n"))
    };
    let seen = outline(text);
    assert!([outline("x@"), outline("xa")].contains(&seen), "{seen:?}\n{}", shown(text));
}

/// Pieces that mean something in Markdown, HTML, a table, or to a forge.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("```"),
        Just("`"),
        Just("````\n"),
        Just("|"),
        Just("</details>"),
        Just("<img src=x onerror=y>"),
        Just("-->"),
        Just("<!--"),
        Just("\n\n"),
        Just("\n# "),
        Just("\r"),
        Just("@somebody"),
        Just("#1"),
        Just("[x](y)"),
        Just("**"),
        Just("~~~"),
        Just("&lt;"),
        Just("\\"),
        Just("https://example.org"),
        Just("\u{202e}"),
        Just("\u{1b}[2J"),
        Just("a"),
        Just(" "),
        Just("\t"),
        Just("    "),
        Just("1. "),
        Just("> "),
        Just("$x$"),
    ];
    prop::collection::vec(piece, 1..12).prop_map(|pieces| format!("x{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_that_a_plan_quotes_means_anything(text in hostile()) {
        assert_inert(|text| plan(&of_text(text), "orders.yaml"), &text);
    }

    #[test]
    fn nothing_that_a_table_quotes_means_anything(text in hostile()) {
        assert_inert(|text| {
            let mut report = StatusReport::of(&pair(), &healthy(&pair()), None);
            report.nodes[1].detail = Some(text.to_owned());
            status(&report)
        }, &text);
    }

    #[test]
    fn a_comment_fits_whatever_it_quotes(piece in "[`\\PC]{1,20}", times in 1usize..2_000) {
        let text = plan(&of_text(&piece.repeat(times)), "orders.yaml");
        prop_assert!(text.len() < LIMIT, "{}", text.len());
    }
}
