//! The narrow waist: all that the executor asks of the outside.
//!
//! `live` is real hosts, files and servers; `sim` is a simulated cluster that runs the same predictions as the
//! planner and can die at any point.

use std::future::Future;
use std::time::Duration;

use crate::observed::Observed;
use crate::plan::Step;

pub mod failpoint;
pub mod files;
pub mod git;
pub mod live;
pub mod lock;
pub mod observe;
pub mod outside;
pub mod probe;
pub mod process;
pub mod replication;
pub mod secrets;
pub mod sim;
pub mod sql;
pub mod user;

/// What the executor can ask and do.
pub trait World {
    /// Looks at every node. Never fails: what can't be seen is unknown in the answer.
    fn observe(&self) -> impl Future<Output = Observed>;

    /// Measures what room the copies of a plan find, and adds it to the look that the plan was made from. Walking
    /// through data directories is not for every look.
    fn measure(&self, _steps: &[Step], _observed: &mut Observed) -> impl Future<Output = ()> {
        async {}
    }

    /// Carries out one step. `Ok` is a claim; only a fresh look proves it.
    fn perform(&self, step: &Step, progress: &(dyn Fn(Progress) + Sync)) -> impl Future<Output = Result<(), Failure>>;
}

/// How far a long step is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    Bytes {
        done: u64,
        total: Option<u64>,
    },
    /// Waiting for a condition; what for.
    Waiting(String),
    /// Something that was measured, for the record.
    Note(String),
    /// Writes are taken again; for how long they were not, part by part. `from_before`: nobody took any before either.
    NoWrites {
        parts: Vec<(&'static str, Duration)>,
        from_before: bool,
    },
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// One sentence: what failed, and the cause.
    pub message: String,
    /// What the program or the server itself said, secrets hidden.
    pub output: Vec<String>,
    /// What to do about it.
    pub remedy: Option<String>,
    /// The step was given up because pgpair was interrupted.
    pub interrupted: bool,
    /// The server ended the session that the step worked through; it may be done again if it still is to be.
    pub disconnected: bool,
}

impl Failure {
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), output: Vec::new(), remedy: None, interrupted: false, disconnected: false }
    }

    #[must_use]
    pub fn with_output(mut self, output: Vec<String>) -> Self {
        self.output = output;
        self
    }

    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    #[must_use]
    pub fn interrupted() -> Self {
        Self { interrupted: true, ..Self::new("interrupted") }
    }
}
