//! Text for people: the plan, the table of nodes, and what became of an apply.
//!
//! Styled with ANSI sequences; whoever writes it to something that is no terminal strips them. What comes from
//! files and servers is shown with its control characters made visible.

use anstyle::AnsiColor;
use anstyle::Effects;
use anstyle::Style;

use crate::event::Change;
use crate::observed::Moved;
use crate::plan::Impact;
use crate::plan::Status;
use crate::plan::loss::Loss;
use crate::plan::readiness;
use crate::report::BlockedReport;
use crate::report::DiffReport;
use crate::report::NodeReport;
use crate::report::PlanReport;
use crate::report::StepReport;
use crate::report::Summary;
use crate::report::json::ApplyReport;
use crate::report::json::ApplyStatus;
use crate::report::json::EditOutcome;
use crate::report::json::Imported;
use crate::report::json::StepOutcome;
use crate::report::json::ValidFile;
use crate::report::status::Finding;
use crate::report::status::Health;
use crate::report::status::StatusReport;
use crate::report::status::Switchover;
use crate::report::tree;
use crate::report::words;
use crate::report::words::Symbol;
use crate::report::words::count;
use crate::report::words::visible;
use crate::topology::NodeName;
use crate::topology::Topology;

mod drift;
mod log;

pub(in crate::report) use drift::comparison;
pub(in crate::report) use drift::counts;
pub use drift::drift;
pub use log::log;

const GREEN: Style = AnsiColor::Green.on_default();
const RED: Style = AnsiColor::Red.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();
const CYAN: Style = AnsiColor::Cyan.on_default();
const BOLD: Style = Style::new().effects(Effects::BOLD);
const DIM: Style = Style::new().effects(Effects::DIMMED);

/// Where the impact of a step begins, if the title leaves room.
const IMPACT_COLUMN: usize = 67;

/// Returns the text in a style.
#[must_use]
pub fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Renders a plan. `file` is the topology's name.
#[must_use]
pub fn plan(report: &PlanReport, file: &str) -> String {
    if report.status == Status::Clean {
        return format!("No changes. {} matches {}.\n", report.cluster, visible(file));
    }
    let mut lines = vec![format!("{}, as observed", paint(BOLD, &report.cluster))];
    let width = names(report.nodes.iter().map(|node| &node.node));
    for node in &report.nodes {
        lines.push(format!("  {:width$}  {:7}  {}", node.node.as_str(), node.role.to_string(), seen(node)));
    }
    if !report.steps.is_empty() {
        lines.push(String::new());
        steps(&report.steps, &mut lines);
    }
    if let Some(span) = report.asynchronous {
        let until = span.to.map_or_else(|| "on, until enough standbys stream".to_owned(), |to| format!("to {to}"));
        lines.push(String::new());
        lines.push(paint(YELLOW, &format!("Commits are asynchronous from step {} {until}.", span.from)));
    }
    if !report.blocked.is_empty() {
        lines.push(String::new());
        blocked(&report.blocked, &mut lines);
    }
    lines.push(String::new());
    lines.push(summary(report));
    lines.join("\n") + "\n"
}

/// Renders the edit of the topology file that goes with a plan.
#[must_use]
pub fn edit(edit: &DiffReport) -> String {
    let mut lines = vec![format!("Written into {} before the first step:", paint(BOLD, &visible(&edit.file)))];
    diff(edit, false, "  ", &mut lines);
    lines.join("\n") + "\n"
}

/// Renders the facts that are not what a plan was made from.
#[must_use]
pub fn moved(moved: &[Moved]) -> String {
    let mut lines = Vec::new();
    for Moved { node, fact, then, now } in moved {
        lines.push(format!("  {node}: {}", visible(fact)));
        for (when, value) in [("then", then), ("now", now)] {
            for (index, line) in value.lines().enumerate() {
                let when = if index == 0 { when } else { "" };
                lines.push(format!("      {when:4}  {}", visible(line)));
            }
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Says where a plan was saved, and what it is for.
#[must_use]
pub fn plan_saved(file: &str) -> String {
    let file = visible(file);
    format!("Saved to {file}; `pgpair apply --plan {file}` does exactly this, or nothing.\n")
}

/// Says where an observation was saved.
#[must_use]
pub fn observed(topology: &Topology, file: &str) -> String {
    format!(
        "Wrote {}: what was seen of cluster {}, {}.\n",
        visible(file),
        topology.cluster,
        count(topology.nodes.len(), "node")
    )
}

fn seen(node: &NodeReport) -> String {
    visible(&words::seen(node))
}

fn names<'a>(nodes: impl Iterator<Item = &'a NodeName>) -> usize {
    nodes.map(|node| node.as_str().chars().count()).max().unwrap_or(0)
}

fn steps(steps: &[StepReport], lines: &mut Vec<String>) {
    let number_width = steps.len().to_string().len() + 2;
    let symbol_width = steps.iter().map(|step| step.symbol.as_str().len()).max().unwrap_or(1);
    let node_width = names(steps.iter().map(|step| &step.node)).max(3);
    for (index, step) in steps.iter().enumerate() {
        let symbol = format!("{:symbol_width$}", step.symbol.as_str());
        let head = format!("{:>number_width$} ", index + 1);
        let tail = format!(" {:node_width$} {}", step.node.as_str(), visible(&step.title));
        let used = head.len() + symbol_width + tail.chars().count();
        let gap = IMPACT_COLUMN.saturating_sub(used).max(2);
        lines.push(format!(
            "{head}{}{tail}{:gap$}{}",
            paint(symbol_style(step.symbol), &symbol),
            "",
            paint(impact_style(step.impact), &step.impact.to_string())
        ));
        let indent = " ".repeat(number_width + 1 + symbol_width + 1);
        lines.push(format!("{indent}{}", paint(DIM, &visible(&step.reason))));
        lines.extend(words::rooms(&step.rooms).iter().map(|room| format!("{indent}{}", visible(room))));
        for file in &step.diff {
            diff(file, file.file != step.title, &indent, lines);
        }
    }
}

/// A file's unified diff; with its name, where the title does not say it.
fn diff(diff: &DiffReport, named: bool, indent: &str, lines: &mut Vec<String>) {
    if named {
        // A new signal file has no line to show.
        let empty = if diff.unified.is_empty() { " (empty)" } else { "" };
        lines.push(format!("{indent}{}:{empty}", paint(BOLD, &visible(&diff.file))));
    }
    for line in diff.unified.lines() {
        let style = match line.chars().next() {
            Some('+') => GREEN,
            Some('-') => RED,
            Some('@') => CYAN,
            Some(_) | None => Style::new(),
        };
        lines.push(format!("{indent}{}", paint(style, &visible(line))));
    }
}

fn symbol_style(symbol: Symbol) -> Style {
    match symbol {
        Symbol::Create => GREEN,
        Symbol::Change => YELLOW,
        Symbol::Remove | Symbol::Rebuild | Symbol::Role => RED,
        Symbol::Wait => DIM,
    }
}

fn impact_style(impact: Impact) -> Style {
    match impact {
        Impact::None | Impact::Reload => DIM,
        Impact::Restart => YELLOW,
        Impact::Outage | Impact::Switchover | Impact::Failover | Impact::Destroy => RED.effects(Effects::BOLD),
    }
}

fn blocked(items: &[BlockedReport], lines: &mut Vec<String>) {
    lines.push(paint(RED.effects(Effects::BOLD), "Blocked"));
    for item in items {
        let whose = item.node.as_ref().map_or("the whole plan", NodeName::as_str);
        lines.push(format!(
            "  {}: {} {}",
            paint(BOLD, whose),
            visible(&item.reason),
            paint(DIM, &format!("[{}]", item.code))
        ));
        lines.push(format!("    remedy: {}", visible(&item.remedy)));
    }
}

pub(super) fn summary(report: &PlanReport) -> String {
    let Summary { steps, nodes, impact: _, allow, blocked, .. } = &report.summary;
    if report.halted {
        let steps = match steps {
            0 => "Nothing is changed".to_owned(),
            1 => "Its step is not done".to_owned(),
            _ => format!("None of its {steps} steps is done"),
        };
        return format!("{} {steps} until this is resolved.", paint(BOLD, "Plan: blocked."));
    }
    if *steps == 0 {
        return format!("{} Nothing else differs.", paint(BOLD, "Plan: blocked."));
    }
    let mut text = format!(
        "{} Impact: {}. Data loss: {}.",
        paint(BOLD, &format!("Plan: {} on {}.", count(*steps, "step"), count(nodes.len(), "node"))),
        impacts(&report.summary),
        data_loss(&report.summary),
    );
    if !allow.is_empty() {
        text.push_str(&format!(" Allow with --allow {}.", allow.join(",")));
    }
    if !blocked.is_empty() {
        text.push_str(&format!(" Left alone: {}.", list(blocked)));
    }
    text
}

fn data_loss(summary: &Summary) -> String {
    let mut parts: Vec<String> = summary.at_risk.iter().map(at_risk).collect();
    if !summary.data_loss.is_empty() {
        parts.push(format!("what {} holds", list(&summary.data_loss)));
    }
    if parts.is_empty() { "none".to_owned() } else { parts.join("; ") }
}

/// What a forced promotion may lose.
pub(super) fn at_risk(Loss { node, bytes }: &Loss) -> String {
    match bytes {
        Some(0) => format!("nothing of what {node} wrote"),
        Some(bytes) => format!("at most the last {bytes} bytes that {node} wrote"),
        None => format!("what {node} wrote last, how much is not known"),
    }
}

/// The worst first.
fn impacts(summary: &Summary) -> String {
    let parts: Vec<String> =
        summary.impact.iter().rev().map(|(impact, nodes)| format!("{impact} {}", list(nodes))).collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

fn list(nodes: &[NodeName]) -> String {
    nodes.iter().map(NodeName::as_str).collect::<Vec<_>>().join(" and ")
}

/// Renders the health of a cluster: a table, then a line for each finding. Where the table is wider than `width`, each
/// node has lines of its own.
#[must_use]
pub fn status(report: &StatusReport, width: Option<usize>) -> String {
    let head =
        ["NODE", "ROLE", "SEEN", "STATE", "CONTROL", "TLI", "LSN", "LAG", "RECEIVER", "SENDERS", "SYNC", "SLOTS"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(tree::drawn(&report.nodes).into_iter().map(|(node, name)| row(node, name)));
    let column_width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(column_width).collect();
    let mut lines = vec![format!("{}: {}", paint(BOLD, &report.cluster), health(report.health))];
    let table_width: usize = widths.iter().map(|width| width + 2).sum();
    match width {
        Some(width) if width < table_width => stacked(&rows, width, &mut lines),
        Some(_) | None => {
            for (index, row) in rows.iter().enumerate() {
                let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
                let line = cells.collect::<Vec<_>>().join("  ");
                let line = line.trim_end();
                lines.push(format!("  {}", if index == 0 { paint(DIM, line) } else { line.to_owned() }));
            }
        }
    }
    if !report.findings.is_empty() {
        lines.push(String::new());
        lines.extend(report.findings.iter().map(finding));
    }
    if !report.switchover.is_empty() {
        lines.push(String::new());
        lines.extend(report.switchover.iter().map(switchover));
    }
    lines.join("\n") + "\n"
}

/// The rows of a table as a name and, below it, what its columns say, broken where the line is full.
fn stacked(rows: &[[String; 12]], width: usize, lines: &mut Vec<String>) {
    let Some((head, rows)) = rows.split_first() else { return };
    for row in rows {
        lines.push(format!("  {}", paint(BOLD, &row[0])));
        let (mut line, mut used) = (String::new(), 0);
        for (label, value) in head.iter().zip(row).skip(1).filter(|(_, value)| *value != "-") {
            let piece = label.chars().count() + 1 + value.chars().count();
            if used > 0 && 4 + used + 2 + piece > width {
                lines.push(format!("    {line}"));
                (line, used) = (String::new(), 0);
            }
            if used > 0 {
                line.push_str("  ");
                used += 2;
            }
            line.push_str(&format!("{} {value}", paint(DIM, label)));
            used += piece;
        }
        lines.push(format!("    {line}"));
    }
}

fn health(health: Health) -> String {
    match health {
        Health::Healthy => paint(GREEN, "healthy"),
        Health::Unknown => paint(YELLOW, "could not be looked at whole"),
        Health::Unhealthy => paint(RED, "unhealthy"),
    }
}

fn finding(finding: &Finding) -> String {
    let style = if finding.health == Health::Unhealthy { RED } else { YELLOW };
    format!("{} {}", paint(style, &visible(&finding.message)), paint(DIM, &format!("[{}]", finding.code)))
}

fn switchover(switchover: &Switchover) -> String {
    let told = |finding: &readiness::Finding| {
        let id = format!("[{}]", finding.check.about().id);
        format!("{} {} {}", finding.node, visible(&finding.why), paint(DIM, &id))
    };
    let found: Vec<String> = switchover.findings.iter().map(told).collect();
    match found.as_slice() {
        [] => format!("switchover to {}: {}", switchover.to, paint(GREEN, "ready")),
        found => format!("switchover to {}: {}: {}", switchover.to, paint(YELLOW, "not ready"), found.join("; ")),
    }
}

fn row(node: &NodeReport, name: String) -> [String; 12] {
    fn or_dash<T: ToString>(value: Option<T>) -> String {
        value.map_or_else(|| "-".to_owned(), |value| visible(&value.to_string()))
    }
    fn joined(items: &[String]) -> String {
        if items.is_empty() { "-".to_owned() } else { visible(&items.join(",")) }
    }
    let senders = node.senders.iter().map(|sender| format!("{}:{}", sender.application_name, sender.state));
    let slots =
        node.slots.iter().map(|(name, slot)| format!("{name}:{}", if slot.active { "active" } else { "inactive" }));
    [
        name,
        node.role.to_string(),
        or_dash(node.seen_role),
        node.state.words().to_owned(),
        or_dash(node.control_state),
        or_dash(node.timeline),
        or_dash(node.lsn),
        or_dash(node.lag_bytes),
        or_dash(node.receiver.as_ref().map(|receiver| &receiver.status)),
        joined(&senders.collect::<Vec<_>>()),
        or_dash(node.sync_state.as_ref()),
        joined(&slots.collect::<Vec<_>>()),
    ]
}

/// Renders what became of an apply, in a line or a few.
#[must_use]
pub fn apply(report: &ApplyReport) -> String {
    let of = |outcome| report.steps.iter().filter(move |step| step.outcome == outcome);
    let mut done = format!("{} done", count(of(StepOutcome::Done).count(), "step"));
    let skipped = of(StepOutcome::Skipped).count();
    if skipped > 0 {
        done.push_str(&format!(", {skipped} held already"));
    }
    let (style, word) = match report.status {
        ApplyStatus::Clean | ApplyStatus::Applied => (GREEN, "Applied"),
        ApplyStatus::Incomplete => (YELLOW, "Incomplete"),
        ApplyStatus::Interrupted => (YELLOW, "Interrupted"),
        ApplyStatus::Blocked => (RED, "Refused"),
        ApplyStatus::Failed => (RED, "Failed"),
    };
    let mut lines = vec![format!("{} {done}.", paint(style.effects(Effects::BOLD), &format!("{word}:")))];
    for step in of(StepOutcome::LeftOut) {
        lines.push(format!("  left out: {}: {}", step.id, visible(step.why.as_deref().unwrap_or_default())));
    }
    for error in &report.errors {
        lines.push(format!("  {}", visible(&error.message)));
    }
    let edit = report.edit.as_ref().map(|edit| edit.outcome);
    lines.extend(report.role_change.and_then(|change| role_change(change, edit)).map(|told| format!("  {told}")));
    let blocked = &report.plan.summary.blocked;
    if !blocked.is_empty() {
        lines.push(format!("  left alone: {}", list(blocked)));
    }
    if let Some(identifier) = &report.created {
        lines.push(format!("{} is a new cluster; to pin it: system_identifier: {identifier}", report.cluster));
    }
    if report.status == ApplyStatus::Applied {
        lines.push(format!("{} matches {}: a plan is empty now.", report.cluster, visible(&report.file)));
    }
    if let Some(remaining) = report.remaining.as_ref().filter(|remaining| !remaining.is_empty()) {
        let them = remaining.join(", ");
        lines.push(format!("Still to do: {}: {them}. Apply again goes on from here.", count(remaining.len(), "step")));
    }
    lines.join("\n") + "\n"
}

/// What became of a role change that did not end as planned.
fn role_change(change: Change, edit: Option<EditOutcome>) -> Option<&'static str> {
    match change {
        Change::Done => None,
        Change::Pending => {
            Some("the promotion was asked for and not seen yet; there is no way back: apply again sees it through")
        }
        Change::Undone if edit == Some(EditOutcome::TakenBack) => {
            Some("the role change was taken back, and the topology file is as it was")
        }
        Change::Undone => Some("the role change was taken back; with this topology the next apply tries it again"),
        Change::Open => Some("neither node was seen to have the primary's role: apply again goes on from here"),
    }
}

/// Renders topologies that are valid, a line each.
#[must_use]
pub fn valid(files: &[ValidFile]) -> String {
    let line = |file: &ValidFile| {
        let warnings = match file.warnings.len() {
            0 => String::new(),
            number => format!(", {}", count(number, "warning")),
        };
        let (name, nodes) = (visible(&file.file), count(file.nodes, "node"));
        format!("{name}: valid: cluster {}, {nodes}{warnings}\n", file.cluster)
    };
    files.iter().map(line).collect()
}

/// Renders what an import wrote, without the topology itself.
#[must_use]
pub fn imported(imported: &Imported) -> String {
    let what = match &imported.file {
        Some(file) => format!("Wrote {}: cluster", visible(file)),
        None => "Cluster".to_owned(),
    };
    let plan = match imported.plan {
        Status::Clean => "its plan is empty",
        Status::Changes => "its plan is not empty, see above",
        Status::Blocked => "its plan is blocked here, see above",
    };
    let secret = imported.secret_file.as_ref();
    let secret = secret.map(|file| format!(" The replication password is in {}.", visible(file))).unwrap_or_default();
    format!("{what} {}, {}; {plan}.{secret}\n", imported.cluster, count(imported.nodes, "node"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::collections::BTreeSet;

    use super::*;
    use crate::observed::Identity;
    use crate::observed::Observed;
    use crate::observed::Reading;
    use crate::plan;
    use crate::plan::Action;
    use crate::plan::Blocked;
    use crate::plan::Cause;
    use crate::plan::CloneFrom;
    use crate::plan::Configuration;
    use crate::plan::Configure;
    use crate::plan::Difference;
    use crate::plan::Digest;
    use crate::plan::Effect;
    use crate::plan::FileDiff;
    use crate::plan::Plan;
    use crate::plan::Reason;
    use crate::plan::Refusal;
    use crate::plan::Replaced;
    use crate::plan::SetBy;
    use crate::plan::Step;
    use crate::report::json;
    use crate::report::samples::healthy;
    use crate::report::samples::name;
    use crate::report::samples::nothing;
    use crate::report::samples::pair;
    use crate::report::samples::plan_of;
    use crate::report::samples::step;
    use crate::report::samples::two_primaries;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    fn shown(observed: &Observed, plan: &Plan) -> String {
        plain(&super::plan(&PlanReport::of(&pair(), observed, plan), "orders.yaml"))
    }

    fn configured(node: &str, impact: Impact) -> Step {
        let action = Action::Configure(Configure {
            block: None,
            before: Some(Digest::of("")),
            reset: None,
            effect: Effect::Restart,
            settings: BTreeMap::new(),
            restored: BTreeSet::new(),
        });
        let before: String = (1..=70).map(|line| format!("# line {line}\n")).collect();
        let (old, new) = ("max_wal_senders = 3", "max_wal_senders = 10");
        let set_by = Some(SetBy::Line { file: "postgresql.conf".into(), line: 63 });
        let (name, then) = ("max_wal_senders".into(), Some("10".into()));
        let difference = Difference { name, now: Some("3".into()), set_by, then, cause: Cause::Wanted };
        Step {
            diff: vec![FileDiff {
                file: "postgresql.conf".into(),
                before: before.replace("# line 63", old),
                after: before.replace("# line 63", new),
            }],
            ..step(&format!("{node}.configure"), node, action, impact, Reason::Differs(vec![difference]))
        }
    }

    fn rebuilt() -> Step {
        let block = crate::pg::block::Block { cluster: "orders".into(), node: "b".into(), lines: Vec::new() };
        let action = Action::Clone(CloneFrom {
            source: name("a"),
            host: "127.0.0.1".into(),
            port: 5433,
            user: "repuser".into(),
            slot: None,
            configuration: Configuration::OfSource { conf: block.clone(), hba: block, passfile: Vec::new() },
            recovery_conf: None,
            replaces: Some(Replaced::Cluster(Identity::Known(42))),
            waldir: None,
            tablespaces: std::collections::BTreeMap::new(),
        });
        step("b.clone", "b", action, Impact::Destroy, Reason::OtherCluster(Identity::Known(42)))
    }

    #[test]
    fn the_creation_of_a_pair_shows_every_step_and_the_lines_that_are_added() {
        let observed = nothing(&pair());
        insta::assert_snapshot!(shown(&observed, &plan::planner::plan(&pair(), &observed)));
    }

    #[test]
    fn the_creation_of_a_pair_in_json() {
        let observed = nothing(&pair());
        let report = PlanReport::of(&pair(), &observed, &plan::planner::plan(&pair(), &observed));
        insta::assert_snapshot!(json::plan(&report));
    }

    #[test]
    fn nothing_to_do_is_one_line() {
        let text = shown(&healthy(&pair()), &plan_of(Vec::new()));
        assert_eq!(text, "No changes. orders matches orders.yaml.\n");
    }

    #[test]
    fn restarts_and_an_outage_name_their_nodes_and_the_flags() {
        let plan = plan_of(vec![configured("b", Impact::Restart), configured("a", Impact::Outage)]);
        insta::assert_snapshot!(shown(&healthy(&pair()), &plan));
        let report = json::plan(&PlanReport::of(&pair(), &healthy(&pair()), &plan));
        let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
        assert_eq!(report["summary"]["impact"], serde_json::json!({ "outage": ["a"], "restart": ["b"] }));
        assert_eq!(report["summary"]["allow"], serde_json::json!(["restart", "outage"]));
    }

    #[test]
    fn replacing_a_data_directory_says_whose_data_is_lost() {
        insta::assert_snapshot!(shown(&healthy(&pair()), &plan_of(vec![rebuilt()])));
    }

    #[test]
    fn a_plan_that_is_blocked_whole_says_that_none_of_its_steps_is_done() {
        let blocked = vec![Blocked { node: None, refusal: two_primaries() }];
        insta::assert_snapshot!(shown(&healthy(&pair()), &Plan { blocked, ..plan_of(vec![rebuilt()]) }));
    }

    #[test]
    fn a_node_that_is_left_alone_comes_with_reason_and_remedy() {
        let mut observed = healthy(&pair());
        observed.node_mut(&name("b")).place = Reading::Unknown("/srv/b: permission denied".into());
        let refusal = Refusal::OutOfReach { node: name("b"), why: "/srv/b: permission denied".into() };
        let blocked = vec![Blocked { node: Some(name("b")), refusal }];
        insta::assert_snapshot!(shown(&observed, &Plan { blocked, ..plan_of(vec![configured("a", Impact::Reload)]) }));
    }

    #[test]
    fn colours_are_sequences_around_the_same_text() {
        let plan = plan_of(vec![rebuilt()]);
        let text = super::plan(&PlanReport::of(&pair(), &healthy(&pair()), &plan), "orders.yaml");
        assert!(text.contains("\u{1b}[31m-/+\u{1b}[0m"));
    }

    fn health_of(observed: &Observed) -> String {
        plain(&super::status(&StatusReport::of(&pair(), observed, Some(16)), None))
    }

    #[test]
    fn a_pair_that_streams_is_healthy() {
        let report = StatusReport::of(&pair(), &healthy(&pair()), None);
        assert_eq!(report.health, Health::Healthy);
        insta::assert_snapshot!(plain(&super::status(&report, None)));
        insta::assert_snapshot!(json::status(&report));
    }

    #[test]
    fn a_table_that_is_wider_than_the_terminal_becomes_lines_that_fit() {
        let report = StatusReport::of(&pair(), &healthy(&pair()), None);
        let narrow = plain(&super::status(&report, Some(80)));
        assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
        insta::assert_snapshot!(narrow);
        assert_eq!(super::status(&report, Some(200)), super::status(&report, None));
    }

    #[test]
    fn a_standby_that_is_behind_and_fed_by_another_is_unhealthy() {
        let mut observed = healthy(&pair());
        let standby = observed.node_mut(&name("b")).sql_mut().expect("it runs");
        standby.timeline = crate::pg::lsn::Timeline(2);
        if let Some(receiver) = &mut standby.receiver {
            receiver.port = Some(6000);
        }
        insta::assert_snapshot!(health_of(&observed));
    }

    #[test]
    fn a_stopped_primary_and_a_standby_without_upstream_are_unhealthy() {
        let mut observed = healthy(&pair());
        observed.node_mut(&name("a")).server = Reading::Absent;
        observed.node_mut(&name("b")).sql_mut().expect("it runs").receiver = None;
        insta::assert_snapshot!(health_of(&observed));
    }

    #[test]
    fn two_primaries_are_unhealthy_and_a_node_out_of_reach_alone_is_unknown() {
        let mut observed = healthy(&pair());
        observed.node_mut(&name("b")).sql_mut().expect("it runs").in_recovery = false;
        assert_eq!(StatusReport::of(&pair(), &observed, None).health, Health::Unhealthy);
        let mut observed = healthy(&pair());
        observed.node_mut(&name("b")).place = Reading::Unknown("/srv/b: permission denied".into());
        observed.node_mut(&name("b")).server = Reading::Unknown("/srv/b: permission denied".into());
        assert_eq!(StatusReport::of(&pair(), &observed, None).health, Health::Unknown);
    }
}
