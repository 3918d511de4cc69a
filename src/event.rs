//! What happens during an apply: the whole interface between the executor and everything that reports.
//!
//! Events are also the lines of the event log and of `--log-format json`. They are never an input to decisions; a report of
//! what happened is made from them.

use std::time::Duration;

use serde::Deserialize;
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

/// A part of the time in which nobody could write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What was done in it: `shut down`, `promoted`.
    pub what: String,
    #[serde(rename = "seconds", serialize_with = "as_seconds", deserialize_with = "from_seconds")]
    pub elapsed: Duration,
}

/// Something that happened, in the order in which it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
        impact: Impact,
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
    /// Writes are taken again, by this node; for how long they were not, part by part, up to this event.
    NoWrites {
        step: String,
        node: NodeName,
        parts: Vec<Part>,
        /// Nobody took any when the step began either; since when is not known.
        from_before: bool,
    },
    /// The goal was reached already.
    StepSkipped {
        step: String,
        node: NodeName,
    },
    StepDone {
        step: String,
        node: NodeName,
        #[serde(rename = "seconds", serialize_with = "as_seconds", deserialize_with = "from_seconds")]
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
        outcome: String,
        #[serde(rename = "seconds", serialize_with = "as_seconds", deserialize_with = "from_seconds")]
        elapsed: Duration,
    },
}

fn as_seconds<S: serde::Serializer>(elapsed: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((elapsed.as_secs_f64() * 1000.0).round() / 1000.0)
}

fn from_seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}
