//! What happens during an apply: the whole interface between the executor and everything that reports.
//!
//! Events are also the lines of the event log and of `--log-format json`. They are never an input to decisions.

use std::time::Duration;

use serde::Serialize;

use crate::plan::Impact;
use crate::topology::NodeName;

/// What became of a role change in a run that came to its first step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The primary has moved.
    Done,
    /// The promotion was asked for, and not seen yet.
    Pending,
    /// The old primary has its role again, or never lost it.
    Undone,
    /// Neither the old nor the new primary was seen to be one.
    Open,
}

/// Something that happened, in the order in which it happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    ApplyStarted {
        cluster: String,
        /// How many steps will be tried.
        steps: usize,
    },
    /// A step waits for an allowance that was not given, or depends on one that does.
    StepLeftOut {
        step: String,
        node: NodeName,
        impact: Impact,
        why: String,
    },
    StepStarted {
        step: String,
        node: NodeName,
        /// What the step does, as in the plan's text.
        title: String,
        /// Its number among the steps that are tried, from 1.
        number: usize,
    },
    /// Bytes copied so far.
    StepBytes {
        step: String,
        done: u64,
        total: Option<u64>,
    },
    StepWaiting {
        step: String,
        condition: String,
    },
    /// Something that was measured during a step.
    StepNote {
        step: String,
        note: String,
    },
    /// The goal was reached already.
    StepSkipped {
        step: String,
        node: NodeName,
    },
    StepDone {
        step: String,
        node: NodeName,
        #[serde(rename = "seconds", serialize_with = "as_seconds")]
        elapsed: Duration,
    },
    StepFailed {
        step: String,
        node: NodeName,
        message: String,
        output: Vec<String>,
        remedy: Option<String>,
    },
    /// A role change can't be finished: the old primary gets its role back.
    TakenBack {
        from: NodeName,
        to: NodeName,
    },
    ApplyFinished {
        outcome: &'static str,
        #[serde(rename = "seconds", serialize_with = "as_seconds")]
        elapsed: Duration,
    },
}

fn as_seconds<S: serde::Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((elapsed.as_secs_f64() * 1000.0).round() / 1000.0)
}
