//! What only the checks before a role change ask of a node (`plan::readiness`): no step of another plan rests on it.

use serde::Deserialize;
use serde::Serialize;

use crate::observed::Reading;

/// How a node stands to its machine, and to the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether another node gets a replication connection to this one. Tried where the node is a running standby, and
    /// absent of any other.
    pub reverse: Reading<Reverse>,
    /// Programs on its machine that start and stop servers by themselves, and may do so with this one.
    pub supervisors: Vec<String>,
    /// Why a file of the node that a role change edits can't be written.
    pub unwritable: Option<String>,
    /// WAL files that wait for the archiver.
    pub unarchived: u32,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { reverse: Reading::Absent, supervisors: Vec::new(), unwritable: None, unarchived: 0 }
    }
}

/// The answer to a replication connection as the topology's replication role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reverse {
    Admitted,
    /// In the server's words, or those of the operating system.
    Refused(String),
}

/// What a server is busy with that a stop or a promotion could wait for. All of it is gone at the next look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// The WAL file that the archiver could not archive at its last attempt.
    pub unarchivable: Option<String>,
    /// The oldest transaction of a client.
    pub transaction: Option<Lasting>,
    /// The oldest prepared transaction.
    pub prepared: Option<Lasting>,
}

/// Something that has lasted for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lasting {
    /// The pid of a session, or the name of a prepared transaction.
    pub what: String,
    pub seconds: u64,
}
