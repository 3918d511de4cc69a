//! The exit code, and how it is told.

use super::*;
use crate::observed::Reading;
use crate::plan::planner::plan;
use crate::report::json;
use crate::report::markdown;
use crate::report::samples::healthy;
use crate::report::samples::name;
use crate::report::samples::pair;
use crate::report::text;

fn in_sync() -> ClusterDrift {
    compared(|_| ())
}

fn compared(change: impl FnOnce(&mut Observed)) -> ClusterDrift {
    let mut observed = healthy(&pair());
    change(&mut observed);
    ClusterDrift::of("orders.yaml", &pair(), &observed, &plan(&pair(), &observed))
}

/// A line that wins over the block, and rules that somebody has edited.
fn drifted() -> ClusterDrift {
    compared(|observed| {
        let a = observed.node_mut(&name("a")).cluster_mut().expect("it has data");
        a.conf.main.text.push_str("max_wal_senders = 9\n");
        let b = observed.node_mut(&name("b")).cluster_mut().expect("it has data");
        b.hba = b.hba.replace("# END pgpair\n", "host all all 0.0.0.0/0 trust\n# END pgpair\nlocal all all peer\n");
    })
}

fn out_of_reach() -> ClusterDrift {
    compared(|observed| {
        let seen = observed.node_mut(&name("b"));
        seen.place = Reading::Unknown("permission denied".into());
        seen.server = Reading::Unknown("permission denied".into());
    })
}

fn unreadable() -> ClusterDrift {
    let error = ErrorReport {
        code: "unknown_key".into(),
        message: "unknown key `nods`".into(),
        file: Some("bad.yaml".into()),
        line: Some(4),
        column: Some(1),
        help: Some("`nodes`?".into()),
        output: Vec::new(),
        moved: Vec::new(),
    };
    ClusterDrift::not_compared("bad.yaml", vec![error])
}

#[test]
fn drift_anywhere_outdoes_what_could_not_be_observed() {
    let verdict = |clusters, fail_on: &[Class]| DriftReport::of(clusters).verdict(&fail_on.iter().copied().collect());
    assert_eq!(verdict(vec![in_sync(), in_sync()], &[]), Verdict::InSync);
    assert_eq!(verdict(vec![in_sync(), out_of_reach()], &[]), Verdict::Unknown);
    assert_eq!(verdict(vec![unreadable(), in_sync()], &[]), Verdict::Unknown);
    assert_eq!(verdict(vec![unreadable(), out_of_reach(), drifted()], &[]), Verdict::Differs);
    assert_eq!(verdict(vec![out_of_reach()], &[Class::Unseen]), Verdict::Differs);
    assert_eq!(verdict(vec![in_sync()], &[Class::Pending, Class::NotReady, Class::Unseen]), Verdict::InSync);
}

#[test]
fn one_that_is_in_sync_takes_a_line() {
    assert_eq!(
        anstream::adapter::strip_str(&text::drift(&DriftReport::of(vec![in_sync()]))).to_string(),
        "orders: in sync\n"
    );
}

#[test]
fn each_item_says_what_is_and_what_should_be_and_who_wins() {
    let report = DriftReport::of(vec![in_sync(), drifted(), unreadable(), out_of_reach()]);
    insta::assert_snapshot!(anstream::adapter::strip_str(&text::drift(&report)));
    insta::assert_snapshot!(json::drift(&report));
}

#[test]
fn drift_in_markdown_has_a_heading_for_each_cluster_and_folds_its_items() {
    insta::assert_snapshot!(markdown::drift(&DriftReport::of(vec![drifted(), unreadable(), out_of_reach()])));
}
