//! A parameter whose value changes: from what, set by whom, to what, and why.

use std::fmt;

use serde::Serialize;
use serde::Serializer;

use crate::pg::conf::Placed;

/// A parameter whose value is not the desired one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub name: String,
    /// Absent where nothing is known of it.
    pub now: Option<String>,
    /// Who wins now.
    pub set_by: Option<SetBy>,
    /// Absent: the default.
    pub then: Option<String>,
    pub cause: Cause,
}

/// Why a value changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The topology asks for another value.
    Wanted,
    /// The topology no longer asks for what pgpair has set: this wins again.
    Restored(SetBy),
    /// Somebody else has changed it here, and it only waits for the restart that the step makes.
    Waiting(SetBy),
}

/// Where a value stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetBy {
    Line {
        file: String,
        /// From 1.
        line: usize,
    },
    /// Files that say something else by now.
    FilesBefore,
    CommandLine,
    Default,
    /// Another source, as pg_settings names it.
    Other(String),
}

impl From<&Placed> for SetBy {
    fn from(placed: &Placed) -> Self {
        Self::Line { file: placed.file.clone(), line: placed.line }
    }
}

impl fmt::Display for SetBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line } => write!(f, "{file}:{line}"),
            Self::FilesBefore => f.write_str("the files as they were"),
            Self::CommandLine => f.write_str("command line"),
            Self::Default => f.write_str("default"),
            Self::Other(source) => f.write_str(source),
        }
    }
}

impl Serialize for SetBy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
