//! Hooks: the commands of the topology that run around a role change, and the comment that says which are still owed.
//!
//! The comment stands in pgpair's block on the node that becomes the primary. It is there before the first hook runs
//! and changed after each, so that what a killed run owed is observed, and thus a step of the next plan. One that
//! names another node was copied with the file: it is nobody's.

use serde::Serialize;

use crate::pg::block;
use crate::pg::block::Block;
use crate::pg::block::Malformed;
use crate::pg::lsn::Timeline;
use crate::topology::Hooks;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Topology;

/// How the comment begins.
const COMMENT: &str = "# hooks owed: ";

/// Where the old primary is not known. No node is called so.
const NOBODY: &str = "?";

/// When commands of the topology run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HookPoint {
    BeforeSwitchover,
    AfterPromotion,
    AfterSwitchover,
    SwitchoverUndone,
}

impl HookPoint {
    /// Its name in the topology, and in `PGPAIR_HOOK`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeSwitchover => "before_switchover",
            Self::AfterPromotion => "after_promotion",
            Self::AfterSwitchover => "after_switchover",
            Self::SwitchoverUndone => "switchover_undone",
        }
    }

    /// The commands that the topology gives for it.
    #[must_use]
    pub fn commands(self, hooks: &Hooks) -> &[Vec<String>] {
        match self {
            Self::BeforeSwitchover => &hooks.before_switchover,
            Self::AfterPromotion => &hooks.after_promotion,
            Self::AfterSwitchover => &hooks.after_switchover,
            Self::SwitchoverUndone => &hooks.switchover_undone,
        }
    }
}

/// See [`crate::plan::Action::Hook`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hook {
    pub point: HookPoint,
    /// What is run, one after the other; may be empty where only the comment changes.
    pub commands: Vec<Vec<String>>,
    /// The role change that it is about.
    pub owed: Owed,
    /// An earlier run has begun with the hooks of this role change.
    pub resumed: bool,
}

impl Hook {
    /// What the comment says once the commands have run; `None`: it is gone.
    #[must_use]
    pub fn leaves(&self) -> Option<Owed> {
        let leaves = |done| Some(Owed { done, ..self.owed.clone() });
        match self.point {
            HookPoint::BeforeSwitchover => leaves(Done::BeforeSwitchover),
            HookPoint::AfterPromotion => leaves(Done::AfterPromotion),
            HookPoint::AfterSwitchover | HookPoint::SwitchoverUndone => None,
        }
    }

    /// What the comment says while the commands run.
    #[must_use]
    pub fn begins(&self) -> Option<Owed> {
        match self.point {
            HookPoint::BeforeSwitchover if self.commands.is_empty() => self.leaves(),
            HookPoint::BeforeSwitchover => Some(Owed { done: Done::Nothing, ..self.owed.clone() }),
            HookPoint::AfterPromotion | HookPoint::AfterSwitchover | HookPoint::SwitchoverUndone => {
                Some(self.owed.clone())
            }
        }
    }
}

/// A role change whose hooks are not all done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Owed {
    /// The old primary; absent where nobody knew it any more.
    pub from: Option<NodeName>,
    /// The timeline that is left: with the two nodes it tells one role change from the next.
    pub timeline: Timeline,
    pub done: Done,
}

/// Which hooks of a role change are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// `before_switchover` has begun.
    Nothing,
    BeforeSwitchover,
    AfterPromotion,
}

impl Done {
    const ALL: [Self; 3] = [Self::Nothing, Self::BeforeSwitchover, Self::AfterPromotion];

    fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::BeforeSwitchover => HookPoint::BeforeSwitchover.name(),
            Self::AfterPromotion => HookPoint::AfterPromotion.name(),
        }
    }
}

impl Owed {
    /// The comment that says so in the block of the node that becomes the primary.
    fn comment(&self, node: &NodeName) -> String {
        let from = self.from.as_ref().map_or(NOBODY, NodeName::as_str);
        let (timeline, done) = (self.timeline.0, self.done.word());
        format!("{COMMENT}{node} takes over from {from} on timeline {timeline}, done: {done}")
    }

    fn parse(line: &str, node: &NodeName) -> Option<Self> {
        let rest = line.strip_prefix(COMMENT)?.strip_prefix(node.as_str())?.strip_prefix(" takes over from ")?;
        let (from, rest) = rest.split_once(" on timeline ")?;
        let (timeline, done) = rest.split_once(", done: ")?;
        let from = (from != NOBODY).then(|| NodeName::new(from));
        let timeline = Timeline(timeline.parse().ok()?);
        let done = Done::ALL.into_iter().find(|known| known.word() == done)?;
        Some(Self { from, timeline, done })
    }

    /// Whether it is of the same role change.
    #[must_use]
    pub fn is_of(&self, other: &Self) -> bool {
        (&self.from, self.timeline) == (&other.from, other.timeline)
    }
}

/// What the postgresql.conf of a node says is owed.
#[must_use]
pub fn owed(conf: &str, node: &NodeName) -> Option<Owed> {
    let found = block::find(conf).ok().flatten()?;
    (found.block.node == node.as_str()).then(|| owed_in(&found.block, node)).flatten()
}

fn owed_in(block: &Block, node: &NodeName) -> Option<Owed> {
    block.lines.iter().find_map(|line| Owed::parse(line, node))
}

/// Returns the comment of a block about this very node, to be kept where the block is written anew.
#[must_use]
pub fn comment_in(block: &Block, node: &NodeName) -> Option<String> {
    Some(owed_in(block, node)?.comment(node))
}

/// Returns the postgresql.conf of a node with this owed, in a block of its own where it had none.
///
/// # Errors
///
/// [`Malformed`] where the block can't be told from the rest.
pub fn with_owed(conf: &str, topology: &Topology, node: &Node, owed: Option<&Owed>) -> Result<String, Malformed> {
    let name = &node.name;
    let found = block::find(conf)?.map(|found| found.block).filter(|block| block.node == name.as_str());
    let mut lines = found.map(|block| block.lines).unwrap_or_default();
    lines.retain(|line| !line.starts_with(COMMENT));
    lines.extend(owed.map(|owed| owed.comment(name)));
    if lines.is_empty() {
        return block::remove(conf);
    }
    block::put_last(conf, &Block { cluster: topology.cluster.clone(), node: name.as_str().to_owned(), lines })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::name;
    use crate::report::samples::pair;
    use proptest::prelude::*;

    fn some(done: Done) -> Owed {
        Owed { from: Some(name("a")), timeline: Timeline(7), done }
    }

    #[test]
    fn what_is_owed_is_a_comment_of_the_nodes_own_block() {
        let (topology, conf) = (pair(), "port = 1\n# BEGIN pgpair orders/b 0\nwork_mem = '8MB'\n# END pgpair\n");
        let b = &topology.nodes[&name("b")];
        let noted = with_owed(conf, &topology, b, Some(&some(Done::Nothing))).expect("one block");
        assert!(
            noted.contains("work_mem = '8MB'\n# hooks owed: b takes over from a on timeline 7, done: nothing\n# END"),
            "{noted}"
        );
        let later = with_owed(&noted, &topology, b, Some(&some(Done::AfterPromotion))).expect("one block");
        assert_eq!(owed(&later, &b.name), Some(some(Done::AfterPromotion)));
        assert_eq!(later.matches(COMMENT).count(), 1);
        let done = with_owed(&later, &topology, b, None).expect("one block");
        assert_eq!(owed(&done, &b.name), None);
        assert!(done.contains("work_mem = '8MB'\n# END"), "{done}");
    }

    #[test]
    fn a_node_without_a_block_has_none_again_once_nothing_is_owed() {
        let (topology, conf) = (pair(), "port = 1\n");
        let b = &topology.nodes[&name("b")];
        let noted = with_owed(conf, &topology, b, Some(&some(Done::BeforeSwitchover))).expect("no block");
        assert_eq!(owed(&noted, &b.name), Some(some(Done::BeforeSwitchover)));
        assert_eq!(with_owed(&noted, &topology, b, None).as_deref(), Ok(conf));
    }

    #[test]
    fn a_comment_that_was_copied_with_the_file_is_nobodys() {
        let topology = pair();
        let (a, b) = (&topology.nodes[&name("a")], &topology.nodes[&name("b")]);
        let of_b = with_owed("", &topology, b, Some(&some(Done::Nothing))).expect("no block");
        assert_eq!(owed(&of_b, &a.name), None);
        // Its owner edited by hand, too.
        assert_eq!(owed(&of_b.replace("orders/b", "orders/a"), &a.name), None);
    }

    proptest! {
        #[test]
        fn a_comment_says_the_same_when_it_is_read_back(
            node in "[a-z][a-z0-9_-]{0,9}", from in proptest::option::of("[a-z][a-z0-9_-]{0,9}"),
            timeline in 1_u32.., done in proptest::sample::select(Done::ALL.to_vec()),
        ) {
            let node = NodeName::new(node);
            let owed = Owed { from: from.map(NodeName::new), timeline: Timeline(timeline), done };
            prop_assert_eq!(Owed::parse(&owed.comment(&node), &node), Some(owed));
        }

        #[test]
        fn any_line_is_read_without_a_panic(line in "(# hooks owed: )?.{0,60}") {
            let _ = Owed::parse(&line, &NodeName::new("b"));
        }
    }
}
