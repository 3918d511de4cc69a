//! What ends a command early: each error's code, message, remedy and exit code, and the exit codes themselves.
//!
//! Outcomes of a plan (blocked, incomplete) are no errors; they have a report of their own.

use std::fmt;
use std::io;
use std::process::ExitCode;

use miette::GraphicalReportHandler;
use miette::GraphicalTheme;
use miette::LabeledSpan;
use miette::NamedSource;
use miette::SourceCode;

use crate::observed::Moved;
use crate::plan::import::Unfit;
use crate::report::json::ErrorReport;
use crate::report::saved::BadDocument;
use crate::report::text;
use crate::report::words::visible;
use crate::topology::diagnostic::Diagnostic;
use crate::topology::diagnostic::Severity;
use crate::topology::diagnostic::without_secrets;
use crate::world::Failure;
use crate::world::lock::LockError;

/// How a command ended. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Success,
    /// Failed, could not tell, or wrong usage.
    Failed,
    /// Changes are needed, or something is unhealthy.
    Changes,
    /// Refused, and nothing was done.
    Refused,
    /// Declined, or a question that no terminal could answer.
    Declined,
    /// Something was left undone.
    Incomplete,
    Interrupted,
}

impl Exit {
    /// The number that the shell sees.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Changes => 2,
            Self::Refused => 3,
            Self::Declined => 4,
            Self::Incomplete => 5,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

/// Why a command could not give its result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("wrong usage: {0}")]
    Usage(String),
    #[error("`{file}` can't be read: {source}")]
    Read { file: String, source: io::Error },
    #[error("the topology is not valid")]
    Topology(Vec<Findings>),
    #[error(transparent)]
    Lock(Box<LockError>),
    #[error(transparent)]
    World(#[from] Failure),
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error("{} moved since the plan was made, so nothing was done", what_moved(.moved))]
    Stale { moved: Vec<Moved> },
    #[error("`{file}` can't be used: {why}")]
    BadDocument { file: String, why: BadDocument },
    #[error("`{file}` is not the topology that the plan was made for, so nothing was done")]
    OtherTopology { file: String },
    #[error("`{file}` of `{reference}` can't be had from git: {why}")]
    Git { reference: String, file: String, why: String },
    #[error("`{file}` was changed meanwhile, so nothing was done")]
    FileChanged { file: String },
    #[error("the roles in `{file}` stand where they can't be edited")]
    NotEditable { file: String },
    #[error("nobody at a terminal to ask, so nothing was done")]
    NoTerminal { allow: Vec<String> },
    #[error("declined, so nothing was done")]
    Declined,
    #[error("interrupted, so nothing was done")]
    Interrupted,
    #[error("the result can't be written: {0}")]
    Write(io::Error),
    #[error("the system refuses {what}: {source}")]
    System { what: &'static str, source: io::Error },
}

impl From<LockError> for Error {
    fn from(error: LockError) -> Self {
        Self::Lock(Box::new(error))
    }
}

fn what_moved(moved: &[Moved]) -> String {
    let mut nodes: Vec<&str> = moved.iter().map(|moved| moved.node.as_str()).collect();
    nodes.dedup();
    match nodes[..] {
        [] => "what was seen has".to_owned(),
        _ => format!("what was seen of {} has", nodes.join(" and ")),
    }
}

/// What was found in a topology file, with its text.
#[derive(Clone, Debug)]
pub struct Findings {
    pub name: String,
    pub text: String,
    pub diagnostics: Vec<Diagnostic>,
}

/// What one error is to the outside.
struct Facts {
    exit: Exit,
    code: &'static str,
    help: Option<String>,
}

impl Error {
    fn facts(&self) -> Facts {
        let facts = |exit, code, help: Option<&str>| Facts { exit, code, help: help.map(str::to_owned) };
        match self {
            Self::Usage(_) => facts(Exit::Failed, "usage", Some("see `pgpair --help`")),
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => facts(
                Exit::Failed,
                "no_such_file",
                Some("give the topology as FILE, with -f, or in PGPAIR_FILE; the default is pgpair.yaml"),
            ),
            Self::Read { .. } => facts(Exit::Failed, "unreadable_file", None),
            Self::Topology(_) => facts(Exit::Failed, "invalid_topology", None),
            Self::Lock(error) => match **error {
                LockError::Held { .. } => {
                    facts(Exit::Refused, "lock_held", Some("wait for it to end; --lock-timeout waits longer"))
                }
                LockError::File { .. } => facts(Exit::Failed, "lock_unusable", None),
                LockError::Seat { .. } => facts(Exit::Failed, "os_user", None),
                LockError::Interrupted { .. } => facts(Exit::Interrupted, "interrupted", None),
            },
            Self::Interrupted => facts(Exit::Interrupted, "interrupted", None),
            Self::World(failure) if failure.interrupted => facts(Exit::Interrupted, "interrupted", None),
            Self::World(failure) => facts(Exit::Failed, "failed", failure.remedy.as_deref()),
            Self::Unfit(unfit) => facts(Exit::Failed, "no_cluster", Some(unfit.remedy())),
            Self::Stale { .. } => facts(Exit::Refused, "stale", Some("plan again, and read the new plan")),
            Self::BadDocument { .. } => facts(Exit::Failed, "bad_document", Some("have pgpair write it anew")),
            Self::OtherTopology { .. } => {
                facts(Exit::Refused, "other_topology", Some("plan again with this file, or apply without it"))
            }
            Self::Git { .. } => {
                facts(Exit::Failed, "git", Some("give the old topology as a file: `pgpair diff OLD NEW`"))
            }
            Self::FileChanged { .. } => facts(Exit::Refused, "file_changed", Some("read it, and try again")),
            Self::NotEditable { .. } => {
                facts(Exit::Failed, "not_editable", Some("swap the two `role:` by hand, and apply"))
            }
            Self::NoTerminal { allow } => Facts {
                exit: Exit::Declined,
                code: "no_terminal",
                help: Some(if allow.is_empty() {
                    "give --auto-approve to take the place of the question".to_owned()
                } else {
                    format!("give --auto-approve --allow {} for the whole plan", allow.join(","))
                }),
            },
            Self::Declined => facts(Exit::Declined, "declined", None),
            Self::Write(_) => facts(Exit::Failed, "output", None),
            Self::System { .. } => facts(Exit::Failed, "system", None),
        }
    }

    /// How the command ends.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.facts().exit
    }

    /// What programs are told.
    #[must_use]
    pub fn reports(&self) -> Vec<ErrorReport> {
        if let Self::Topology(files) = self {
            return files.iter().flat_map(|file| &file.diagnostics).map(ErrorReport::from).collect();
        }
        let Facts { code, help, exit: _ } = self.facts();
        vec![ErrorReport {
            code: code.to_owned(),
            message: self.to_string(),
            file: match self {
                Self::Read { file, .. } | Self::BadDocument { file, .. } | Self::OtherTopology { file } => {
                    Some(file.clone())
                }
                Self::Usage(_)
                | Self::Topology(_)
                | Self::Lock(_)
                | Self::World(_)
                | Self::Unfit(_)
                | Self::Stale { .. }
                | Self::Git { .. }
                | Self::FileChanged { .. }
                | Self::NotEditable { .. }
                | Self::NoTerminal { .. }
                | Self::Declined
                | Self::Interrupted
                | Self::Write(_)
                | Self::System { .. } => None,
            },
            line: None,
            column: None,
            help,
            output: self.output().to_vec(),
            moved: if let Self::Stale { moved } = self { moved.clone() } else { Vec::new() },
        }]
    }

    /// What people are told. `fancy`: with the lines of the file, for a terminal.
    #[must_use]
    pub fn text(&self, fancy: bool) -> String {
        if let Self::Topology(files) = self {
            return files.iter().map(|file| file.text(fancy)).collect();
        }
        let mut said = format!("error: {}\n", visible(&self.to_string()));
        for line in self.output() {
            said.push_str(&format!("  {}\n", visible(line)));
        }
        if let Self::Stale { moved } = self {
            said.push_str(&text::moved(moved));
        }
        if let Some(help) = self.facts().help {
            said.push_str(&format!("  help: {}\n", visible(&help)));
        }
        said
    }

    fn output(&self) -> &[String] {
        if let Self::World(failure) = self { &failure.output } else { &[] }
    }
}

impl Findings {
    /// What people are told of them.
    #[must_use]
    pub fn text(&self, fancy: bool) -> String {
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode()).with_width(100);
        let source = harmless(&without_secrets(&self.text));
        let mut all = String::new();
        for diagnostic in &self.diagnostics {
            let shown = Shown { diagnostic, source: NamedSource::new(visible(&self.name), source.clone()) };
            let mut text = String::new();
            if fancy && handler.render_report(&mut text, &shown).is_ok() {
                all.push_str(&text);
                all.push('\n');
            } else {
                all.push_str(&visible(&format!("{}: {diagnostic}\n", diagnostic.severity)));
            }
        }
        all
    }
}

/// Blanks out what would steer a terminal, byte for byte, so that places stay where they are.
fn harmless(text: &str) -> String {
    let blank = |c: char| c.is_control() && c != '\n' && c != '\t';
    text.chars().map(|c| if blank(c) { " ".repeat(c.len_utf8()) } else { c.to_string() }).collect()
}

/// A diagnostic with the file that it is about.
#[derive(Debug)]
struct Shown<'a> {
    diagnostic: &'a Diagnostic,
    source: NamedSource<String>,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&visible(&self.diagnostic.message))
    }
}

impl std::error::Error for Shown<'_> {}

impl miette::Diagnostic for Shown<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.diagnostic.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.diagnostic.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.diagnostic.help.as_ref().map(|help| Box::new(visible(help)) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.diagnostic.span.map(|_| &self.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.diagnostic.span?;
        let first = LabeledSpan::new_primary_with_span(None, (span.offset, span.len));
        let others = self
            .diagnostic
            .related
            .iter()
            .map(|(span, label)| LabeledSpan::new(Some(visible(label)), span.offset, span.len));
        Some(Box::new(std::iter::once(first).chain(others)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology;
    use crate::topology::NodeName;

    fn bad() -> Error {
        let text = "version: 1\ncluster: orders\npostgresql: { version: 9 }\nnodes:\n  a: { role: primry }\n";
        let diagnostics = topology::parse(text.as_bytes(), "orders.yaml", "/srv").expect_err("9 is too old");
        Error::Topology(vec![Findings { name: "orders.yaml".into(), text: text.into(), diagnostics }])
    }

    #[test]
    fn a_bad_topology_is_shown_with_its_lines_on_a_terminal() {
        insta::assert_snapshot!(anstream::adapter::strip_str(&bad().text(true)).to_string());
    }

    #[test]
    fn a_bad_topology_is_told_plainly_elsewhere() {
        insta::assert_snapshot!(bad().text(false));
    }

    #[test]
    fn a_secret_or_an_escape_in_a_message_does_not_reach_the_terminal_raw() {
        let error = Error::World(Failure::new("initdb failed").with_output(vec!["\u{1b}[31mred".into()]));
        assert_eq!(error.text(true), "error: initdb failed\n  \\u{1b}[31mred\n");
    }

    #[test]
    fn what_is_refused_for_now_and_what_failed_have_other_exit_codes() {
        let node = NodeName::new("a");
        let held = Error::from(LockError::Held { node: node.clone(), holder: None });
        let waited = Error::from(LockError::Interrupted { node });
        let exits: Vec<u8> = [
            held,
            Error::Stale { moved: Vec::new() },
            waited,
            Error::World(Failure::interrupted()),
            Error::Interrupted,
            Error::Declined,
            Error::World(Failure::new("no")),
            bad(),
        ]
        .iter()
        .map(|error| error.exit().number())
        .collect();
        assert_eq!(exits, [3, 3, 130, 130, 130, 4, 1, 1]);
    }

    #[test]
    fn who_is_not_asked_is_told_the_flags_for_the_whole_plan() {
        let error = Error::NoTerminal { allow: vec!["outage".into(), "destroy=b".into()] };
        assert_eq!(error.exit(), Exit::Declined);
        let help = error.reports().remove(0).help;
        assert_eq!(help.as_deref(), Some("give --auto-approve --allow outage,destroy=b for the whole plan"));
    }
}
