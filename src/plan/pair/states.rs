//! The table of joint states, for people: what was found, and what pgpair does then.

use crate::plan::pair::PairState;

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// As it stands in JSON and is given to `pgpair explain`.
    pub id: &'static str,
    /// What was seen of the nodes.
    pub state: &'static str,
    /// What the plan does.
    pub answer: &'static str,
}

/// Every joint state, without what is particular to one cluster.
pub const STATES: [Row; 14] = [
    NOTHING_YET,
    PRIMARY_RUNS,
    ARMED,
    PRIMARY_STOPPED,
    FENCED,
    ELSEWHERE,
    ENDED,
    LEFT_ELSEWHERE,
    LOST,
    PENDING,
    ALL_STANDBYS,
    HEADLESS,
    DOUBTFUL,
    PRIMARY_UNUSABLE,
];

const NOTHING_YET: Row = Row {
    id: "nothing_yet",
    state: "no node has a data directory, nor a trace of one",
    answer: "a new cluster is made on the primary, and cloned",
};
const PRIMARY_RUNS: Row = Row {
    id: "primary_runs",
    state: "the primary accepts writes and has no fence",
    answer: "what differs is changed; standbys that are down, detached or beyond their WAL are repaired",
};
const ARMED: Row = Row {
    id: "armed",
    state: "the primary accepts writes and carries a fence: a role change was begun",
    answer: "the fence is taken away; where the topology names another node, the change goes on from there",
};
const PRIMARY_STOPPED: Row = Row {
    id: "primary_stopped",
    state: "the primary is stopped, would come up as one, and no other node can be one",
    answer: "it is started (`outage`); stopped nodes that it superseded are fenced before",
};
const FENCED: Row = Row {
    id: "fenced",
    state: "the primary is stopped and fenced, and no other node was promoted",
    answer: "the fence is taken away, and it is started: that only ends an outage",
};
const ELSEWHERE: Row = Row {
    id: "elsewhere",
    state: "another node accepts writes than the one that the topology names",
    answer: "a switchover (`switchover=NODE`): fence, stop, proof of the end, promotion, the others follow",
};
const ENDED: Row = Row {
    id: "ended",
    state: "the old primary has ended cleanly, and all of its WAL is on the one that the topology names",
    answer: "it is fenced if it is not, and the other promoted; without an allowance where it was fenced",
};
const LEFT_ELSEWHERE: Row = Row {
    id: "left_elsewhere",
    state: "another node was the primary, or is about to be one, and its role can't be taken over as it is",
    answer: "it is started or promoted first; the role change comes after it",
};
const LOST: Row = Row {
    id: "lost",
    state: "the old primary hangs or is out of reach, and the one that the topology names runs as a standby",
    answer: "nothing is done without `failover=NODE`: then the old one is fenced and taken down, or must be confirmed dead, and the other is promoted; commits may be lost",
};
const PENDING: Row = Row {
    id: "pending",
    state: "the node that the topology names is a running standby with a promote file",
    answer: "forward: its promotion is seen through, once all others are safe and behind",
};
const ALL_STANDBYS: Row = Row {
    id: "all_standbys",
    state: "the node that the topology names is a stopped standby of another one, and none accepts writes",
    answer: "it is started as a standby, and promoted where it has all that any of them has",
};
const HEADLESS: Row = Row {
    id: "headless",
    state: "every node is in recovery, and the one that the topology names has all that any of them has",
    answer: "it is promoted: that only ends an outage",
};
const DOUBTFUL: Row = Row {
    id: "doubtful",
    state: "two nodes accept writes, or it can't be told who does, or could",
    answer: "nothing is changed anywhere; the plan says why, and what helps",
};
const PRIMARY_UNUSABLE: Row = Row {
    id: "primary_unusable",
    state: "in the primary's place is something that can't be worked on",
    answer: "neither it nor what depends on it is changed",
};

impl PairState {
    /// Returns its row of the table.
    #[must_use]
    pub fn row(&self) -> Row {
        match self {
            Self::NothingYet => NOTHING_YET,
            Self::PrimaryRuns => PRIMARY_RUNS,
            Self::Armed => ARMED,
            Self::PrimaryStopped => PRIMARY_STOPPED,
            Self::Fenced => FENCED,
            Self::Elsewhere { .. } => ELSEWHERE,
            Self::Ended { .. } => ENDED,
            Self::LeftElsewhere { .. } => LEFT_ELSEWHERE,
            Self::Lost { .. } => LOST,
            Self::Pending => PENDING,
            Self::AllStandbys { .. } => ALL_STANDBYS,
            Self::Headless => HEADLESS,
            Self::Doubtful(_) => DOUBTFUL,
            Self::PrimaryUnusable(_) => PRIMARY_UNUSABLE,
        }
    }
}
