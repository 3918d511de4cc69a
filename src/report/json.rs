//! JSON for programs: one value a command, which always has `format_version` and `status`.

use serde::Serialize;
use serde_json::Value;

use crate::event::Change;
use crate::observed::Moved;
use crate::plan::Status;
use crate::report::DiffReport;
use crate::report::PlanReport;
use crate::report::drift::ClusterDrift;
use crate::report::drift::DriftReport;
use crate::report::explain::Explanation;
use crate::report::log::LogReport;
use crate::report::status::StatusReport;
use crate::topology::NodeName;
use crate::topology::Topology;
use crate::topology::diagnostic::Diagnostic;

/// The version of every document; additions keep its first number.
pub const FORMAT_VERSION: &str = "1.0";

/// One thing that went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorReport {
    pub code: String,
    pub message: String,
    pub file: Option<String>,
    pub line: Option<usize>,
    pub column: Option<usize>,
    pub help: Option<String>,
    /// What a program or the server itself said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<String>,
    /// The facts that are not what the plan was made from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<Moved>,
}

impl From<&Diagnostic> for ErrorReport {
    fn from(diagnostic: &Diagnostic) -> Self {
        Self {
            code: diagnostic.code.to_owned(),
            message: diagnostic.message.clone(),
            file: Some(diagnostic.file.clone()),
            line: diagnostic.span.map(|span| span.line),
            column: diagnostic.span.map(|span| span.column),
            help: diagnostic.help.clone(),
            output: Vec::new(),
            moved: Vec::new(),
        }
    }
}

/// What became of an apply.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ApplyReport {
    pub status: ApplyStatus,
    pub cluster: String,
    /// The topology file, as it was named.
    pub file: String,
    pub plan: PlanReport,
    /// What happened to each step of the plan that was reached.
    pub steps: Vec<StepResult>,
    /// Ids of the steps that the cluster still needs, by a look afterwards; absent where none was taken.
    pub remaining: Option<Vec<String>>,
    pub errors: Vec<ErrorReport>,
    /// The system identifier of the cluster that was created.
    pub created: Option<String>,
    pub event_log: Option<String>,
    /// What became of a change of the primary's role; absent where there was none.
    pub role_change: Option<Change>,
    /// The edit of the topology file; absent where the command makes none.
    pub edit: Option<EditReport>,
}

/// An edit of the topology file that goes with a role change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EditReport {
    #[serde(flatten)]
    pub diff: DiffReport,
    pub outcome: EditOutcome,
}

/// What became of an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EditOutcome {
    NotWritten,
    Written,
    /// Together with the role change.
    TakenBack,
    /// The role change was taken back; the edit could not be.
    Left,
}

/// How an apply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplyStatus {
    /// There was nothing to do.
    Clean,
    /// All of it was done, and a look afterwards found nothing left to do.
    Applied,
    /// Something is left to do.
    Incomplete,
    Failed,
    /// Nothing was done: refused, or without its allowance.
    Blocked,
    Interrupted,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    Done,
    /// It held already.
    Skipped,
    LeftOut,
    Failed,
}

/// What happened to one step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepResult {
    pub id: String,
    pub node: NodeName,
    pub outcome: StepOutcome,
    pub seconds: Option<f64>,
    /// Why it was left out or failed.
    pub why: Option<String>,
}

/// A topology that is valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ValidFile {
    pub file: String,
    pub cluster: String,
    pub nodes: usize,
    /// What is legal and unwise; the code is what `silence:` takes.
    pub warnings: Vec<ErrorReport>,
}

/// Renders a plan.
#[must_use]
pub fn plan(report: &PlanReport) -> String {
    document(report)
}

/// Renders the health of a cluster.
#[must_use]
pub fn status(report: &StatusReport) -> String {
    document(report)
}

/// Renders what has drifted, of every cluster.
#[must_use]
pub fn drift(report: &DriftReport) -> String {
    document(report)
}

/// Renders what has drifted in one cluster of many, in one line.
#[must_use]
pub fn drift_line(cluster: &ClusterDrift) -> String {
    format!("{}\n", versioned(cluster))
}

/// Renders what an event log says.
#[must_use]
pub fn log(report: &LogReport) -> String {
    document(report)
}

/// Renders one look of many, in one line.
#[must_use]
pub fn status_line(report: &StatusReport) -> String {
    format!("{}\n", versioned(report))
}

/// Renders what became of an apply.
#[must_use]
pub fn apply(report: &ApplyReport) -> String {
    document(report)
}

/// What an import found and wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Imported {
    pub status: &'static str,
    pub cluster: String,
    pub nodes: usize,
    /// Of the plan of what was written: `clean` where nothing would be done.
    pub plan: Status,
    /// Where it was written; absent: nowhere but here.
    pub file: Option<String>,
    /// The text of the topology.
    pub topology: String,
    /// Where the replication password was put.
    pub secret_file: Option<String>,
    pub not_expressed: Vec<String>,
}

/// Renders an import.
#[must_use]
pub fn imported(imported: &Imported) -> String {
    document(imported)
}

/// Renders where an observation was saved.
#[must_use]
pub fn observed(topology: &Topology, file: &str) -> String {
    #[derive(Serialize)]
    struct Observed<'a> {
        status: &'static str,
        cluster: &'a str,
        nodes: usize,
        file: &'a str,
    }
    let nodes = topology.nodes.len();
    document(&Observed { status: "observed", cluster: &topology.cluster, nodes, file })
}

/// Renders topologies that are all valid.
#[must_use]
pub fn valid(files: &[ValidFile]) -> String {
    #[derive(Serialize)]
    struct Valid<'a> {
        status: &'static str,
        files: &'a [ValidFile],
    }
    document(&Valid { status: "valid", files })
}

/// Renders what ids mean.
#[must_use]
pub fn explained(explanations: &[Explanation]) -> String {
    #[derive(Serialize)]
    struct Explained<'a> {
        status: &'static str,
        explanations: &'a [Explanation],
    }
    document(&Explained { status: "explained", explanations })
}

/// Renders a command that failed.
#[must_use]
pub fn errors(errors: &[ErrorReport]) -> String {
    #[derive(Serialize)]
    struct Errors<'a> {
        status: &'static str,
        errors: &'a [ErrorReport],
    }
    document(&Errors { status: "error", errors })
}

/// The body, with the version of its format, for people to read as well.
fn document(body: &impl Serialize) -> String {
    format!("{:#}\n", versioned(body))
}

fn versioned(body: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(body).expect("plain data with text keys has a JSON form");
    if let Value::Object(fields) = &mut value {
        fields.insert("format_version".into(), FORMAT_VERSION.into());
    }
    value
}
