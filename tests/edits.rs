//! Single edits of living clusters, on the pure planner: `fixtures/edits/*.yaml`, each row with the plan it must get.
//!
//! `tests/edits_live.rs` takes the rows that say `live` to real servers.

mod edits_table;

use edits_table::Edit;
use edits_table::Group;
use edits_table::Predicted;
use edits_table::Shown;
use edits_table::groups;
use edits_table::parsed;
use pgpair::plan::review;

/// Returns what is wrong with a row; nothing, where all is as the table says.
fn wrong_of(group: &Group, edit: &Edit) -> Option<String> {
    let topology = match parsed(&group.edited(edit)) {
        Ok(topology) => topology,
        Err(wrong) => return Some(wrong),
    };
    let mut cluster = Predicted::living(parsed(&group.base).expect("a good topology"));
    for node in &edit.stopped {
        cluster.stop(node);
    }
    cluster.edited_to(topology);
    if edit.new_password {
        cluster.change_password();
    }
    let first = cluster.follow();
    let expected = Shown::expected(edit);
    if first != expected {
        return Some(format!("expected\n{expected}    found\n{first}"));
    }
    let second = cluster.follow();
    (second != first.second()).then(|| format!("the second plan still has\n{second}"))
}

#[test]
fn each_edit_gets_the_plan_of_the_table_and_the_second_plan_is_empty() {
    let mut wrong = String::new();
    for group in groups() {
        let found = group.edits.iter().filter_map(|edit| Some((edit, wrong_of(&group, edit)?)));
        wrong.extend(found.map(|(edit, what)| format!("{}: {}\n    {what}", group.name, edit.name)));
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Whoever reviews an edit has two topologies and no servers.
#[test]
fn a_diff_of_the_two_topologies_is_the_plan_of_the_table() {
    let mut wrong = String::new();
    let mut tried = 0;
    for group in groups() {
        let base = parsed(&group.base).expect("a good topology");
        // What happens to servers and secrets besides is in no topology; a secret from elsewhere counts as another one.
        let untold = ["the password comes from elsewhere and is the same", "a wrong system identifier is pinned"];
        let is_told =
            |edit: &&Edit| !edit.new_password && edit.stopped.is_empty() && !untold.contains(&edit.name.as_str());
        for edit in group.edits.iter().filter(is_told) {
            let edited = parsed(&group.edited(edit)).expect("a good topology");
            let (found, expected) = (Shown::of(&review::diff(Some(&base), &edited).1), Shown::expected(edit));
            tried += 1;
            if found != expected {
                wrong.push_str(&format!("{}: {}\n    expected\n{expected}    found\n{found}", group.name, edit.name));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(tried >= 60, "{tried} edits");
}

#[test]
fn the_table_is_as_long_as_was_promised_and_names_each_edit_once() {
    let groups = groups();
    let edits: Vec<&Edit> = groups.iter().flat_map(|group| &group.edits).collect();
    assert!(edits.len() >= 60, "{} edits", edits.len());
    let live = edits.iter().filter(|edit| edit.live).count();
    assert!(live >= 25, "{live} live edits");
    for group in &groups {
        let names: std::collections::BTreeSet<&str> = group.edits.iter().map(|edit| edit.name.as_str()).collect();
        assert_eq!(names.len(), group.edits.len(), "{}", group.name);
    }
}
