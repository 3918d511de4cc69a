//! The return of a node whose WAL went another way than the primary's.

use crate::plan::Refusal;
use crate::plan::Rewind;
use crate::plan::check::At;
use crate::plan::check::Verdict;
use crate::plan::pair;
use crate::plan::pair::Diverged;
use crate::plan::rewind;
use crate::topology::NodeName;

impl At<'_> {
    /// A node that holds WAL which the primary has not would go another way, and never follow.
    pub(super) fn can_follow(&self) -> Result<(), Refusal> {
        let by = self.topology.primary().name.clone();
        match pair::diverged(self.observed, &self.node.name, &by) {
            None => Ok(()),
            Some(Diverged { past, .. }) => Err(Refusal::Diverged { node: self.name(), by, past }),
        }
    }

    pub(super) fn rewind(&self, rewind: &Rewind) -> Verdict {
        let cluster = self.cluster()?;
        if pair::diverged(self.observed, &self.node.name, &rewind.source).is_none() {
            return if self.is_marked(cluster) { Ok(true) } else { Err(self.not_ready("has no standby files")) };
        }
        self.stopped()?;
        if !self.is_marked(cluster) {
            return Err(self.not_ready("is not fenced"));
        }
        self.can_start(cluster)?;
        self.can_be_rewound(&rewind.source)?;
        Ok(false)
    }

    /// What a rewind asks of both nodes, whether the target runs or not.
    pub(super) fn can_be_rewound(&self, source: &NodeName) -> Result<(), Refusal> {
        let from = self.of(source);
        from.writes()?;
        from.has_files_inside()?;
        self.can_make_data_dir()?;
        self.can_use_tls()?;
        let Some(diverged) = pair::diverged(self.observed, &self.node.name, source) else {
            return Err(self.not_ready("has nothing that is to be rewound"));
        };
        match rewind::impossible(self.topology, self.observed, self.node, source, &diverged) {
            None => Ok(()),
            Some(why) => Err(Refusal::NotReady { why: format!("{} can't be rewound: {why}", self.node.name) }),
        }
    }
}
