//! What pipelines read beside the result: the counts of GitLab's merge-request widget, and the outputs of a step in
//! GitHub Actions.

use crate::plan::Status;
use crate::report::PlanReport;
use crate::report::words::Symbol;

/// Renders a plan as GitLab's report of the type `terraform`. As with Terraform, what is replaced is deleted and created.
#[must_use]
pub fn gitlab(report: &PlanReport) -> String {
    let (mut create, mut update, mut delete) = (0, 0, 0);
    for step in &report.steps {
        match step.symbol {
            Symbol::Create => create += 1,
            Symbol::Change | Symbol::Role => update += 1,
            Symbol::Remove => delete += 1,
            Symbol::Rebuild => (create, delete) = (create + 1, delete + 1),
            Symbol::Wait => {}
        }
    }
    format!("{}\n", serde_json::json!({ "create": create, "update": update, "delete": delete }))
}

/// Renders a plan as outputs of a step, a `name=value` a line. Names of clusters and nodes hold no line break.
#[must_use]
pub fn github(report: &PlanReport) -> String {
    let status = match report.status {
        Status::Clean => "clean",
        Status::Changes => "changes",
        Status::Blocked => "blocked",
    };
    let outputs = [
        ("cluster", report.cluster.clone()),
        ("status", status.to_owned()),
        ("changes", (report.status == Status::Changes).to_string()),
        ("steps", report.summary.steps.to_string()),
        ("allow", report.summary.allow.join(",")),
    ];
    outputs.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::planner;
    use crate::report::samples::healthy;
    use crate::report::samples::name;
    use crate::report::samples::nothing;
    use crate::report::samples::pair;

    #[test]
    fn the_counts_of_gitlab_are_of_steps_that_change_something() {
        let observed = nothing(&pair());
        let report = PlanReport::of(&pair(), &observed, &planner::plan(&pair(), &observed));
        // Of its 8 steps, two start a server and one waits.
        assert_eq!(gitlab(&report), "{\"create\":5,\"delete\":0,\"update\":2}\n");
    }

    #[test]
    fn the_outputs_of_a_switchover_name_the_allowance() {
        let swapped = pair().with_primary(&name("b"));
        let report = PlanReport::of(&swapped, &healthy(&pair()), &planner::plan(&swapped, &healthy(&pair())));
        let outputs = github(&report);
        assert!(outputs.starts_with("cluster=orders\nstatus=changes\nchanges=true\nsteps="), "{outputs}");
        assert!(outputs.ends_with("\nallow=switchover=b\n"), "{outputs}");
    }
}
