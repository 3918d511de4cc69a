//! What each step, reason and node is called, in one place for every rendering.

use crate::observed::Lost;
use crate::observed::Room;
use crate::plan::Action;
use crate::plan::Cause;
use crate::plan::Difference;
use crate::plan::Diverged;
use crate::plan::Effect;
use crate::plan::Hook;
use crate::plan::LostWal;
use crate::plan::Promote;
use crate::plan::Reason;
use crate::plan::Replaced;
use crate::plan::RoleChange;
use crate::plan::SetBy;
use crate::plan::Step;
use crate::plan::StopFor;
use crate::plan::hook::HookPoint;
use crate::report::NodeReport;
use crate::report::NodeState;
use crate::topology::NodeName;
use crate::topology::Role;

mod time;

pub use time::no_writes;
pub use time::seconds;

/// What a step does to its object, as Terraform's signs have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symbol {
    Create,
    Change,
    Remove,
    Rebuild,
    /// Moves the primary.
    Role,
    /// Changes nothing: waits and looks.
    Wait,
}

impl Symbol {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "+",
            Self::Change => "~",
            Self::Remove => "-",
            Self::Rebuild => "-/+",
            Self::Role => "!",
            Self::Wait => ".",
        }
    }
}

/// Returns the sign of a step.
#[must_use]
pub fn symbol(step: &Step) -> Symbol {
    match &step.action {
        Action::StandbyFiles(_) if matches!(step.reason, Reason::Differs(_)) => Symbol::Change,
        Action::CreatePrimary(_) | Action::StandbyFiles(_) | Action::Slot { .. } => Symbol::Create,
        Action::Clone(clone) if clone.replaces.is_some() => Symbol::Rebuild,
        Action::Rewind(_) => Symbol::Rebuild,
        Action::Clone(_) => Symbol::Create,
        Action::Mode | Action::Configure(_) | Action::Hba { .. } | Action::Stop(_) | Action::Start { .. } => {
            Symbol::Change
        }
        Action::Passfile { .. } | Action::ReplicationRole(_) => {
            if matches!(step.reason, Reason::Differs(_)) {
                Symbol::Change
            } else {
                Symbol::Create
            }
        }
        Action::Fence(_)
        | Action::FenceOff
        | Action::TakeDown
        | Action::Unfence
        | Action::Promote(_)
        | Action::Hook(_) => Symbol::Role,
        Action::DropSlot { .. } | Action::RemoveOld => Symbol::Remove,
        Action::Streaming { .. } => Symbol::Wait,
    }
}

/// Returns what a step does, without its node.
#[must_use]
pub fn title(step: &Step) -> String {
    match &step.action {
        Action::CreatePrimary(create) => format!("new cluster (initdb){}", outside(create.waldir.as_ref(), [])),
        Action::Clone(clone) => {
            let (source, outside) = (&clone.source, outside(clone.waldir.as_ref(), &clone.tablespaces));
            match &clone.replaces {
                None => format!("clone of {source} (pg_basebackup){outside}"),
                Some(Replaced::Cluster(_)) => format!("clone of {source}, in the place of its data{outside}"),
                Some(Replaced::Member(_)) => format!(
                    "clone of {source}, in the place of its data{outside}; they are kept until it streams, if there is room"
                ),
                Some(Replaced::Unfinished) => format!("clone of {source}, in the place of unfinished data{outside}"),
            }
        }
        Action::Rewind(rewind) => {
            format!("rewind to {} (pg_rewind); what it holds alone is kept beside it", rewind.source)
        }
        Action::StandbyFiles(files) => {
            if files.recovery_conf.is_some() {
                "recovery.conf".into()
            } else {
                "standby.signal".into()
            }
        }
        Action::Fence(fence) => {
            format!("fence: {}", if fence.recovery_conf.is_some() { "recovery.conf" } else { "standby.signal" })
        }
        Action::FenceOff => "fencing command: sees to it that it is dead".into(),
        Action::TakeDown => "end its server: by a fast stop, or by force".into(),
        Action::Unfence => "take the fence away".into(),
        Action::Promote(Promote { by_force: true, .. }) => "promote, without the old primary".into(),
        Action::Promote(Promote { from: Some(from), .. }) => format!("stop {from}, and promote once all of it is here"),
        Action::Promote(Promote { from: None, .. }) => "promote".into(),
        Action::Hook(hook) => hook_title(hook),
        Action::Configure(configure) if step.reason == Reason::NotInForce => match configure.effect {
            Effect::AtStart | Effect::Reload => "reload".into(),
            Effect::Restart => "restart".into(),
        },
        Action::Configure(_) if matches!(step.reason, Reason::StandbyLeaves(_)) => "no synchronous standby".into(),
        Action::Configure(configure) if configure.reset.is_some() => "postgresql.conf and postgresql.auto.conf".into(),
        Action::Configure(_) => "postgresql.conf".into(),
        Action::Hba { .. } if step.reason == Reason::NotInForce => "reload, for pg_hba.conf".into(),
        Action::Hba { .. } => "pg_hba.conf".into(),
        Action::Passfile { .. } => "passfile of the replication role".into(),
        Action::Mode => "mode 0700 of the data directory".into(),
        Action::Stop(_) => "stop the standby".into(),
        Action::Start { role } => format!("start as {role}"),
        Action::ReplicationRole(role) => format!("replication role {}", role.name),
        Action::Slot { name, .. } | Action::DropSlot { name } => format!("slot {name}"),
        Action::Streaming { upstream } => format!("streams from {upstream}"),
        Action::RemoveOld => "the replaced data directory (.pgpair-old)".into(),
    }
}

fn hook_title(hook: &Hook) -> String {
    let commands: Vec<String> = hook.commands.iter().map(|argv| argv.join(" ")).collect();
    match (hook.point, commands.is_empty()) {
        (HookPoint::BeforeSwitchover, true) => "note which hooks are owed".into(),
        (HookPoint::AfterPromotion | HookPoint::AfterSwitchover | HookPoint::SwitchoverUndone, true) => {
            "note that no hook is owed any more".into()
        }
        (point, false) => format!("hook {}: {}", point.name(), commands.join("; ")),
    }
}

/// What of a new data directory lies outside it.
fn outside<'t>(waldir: Option<&String>, tablespaces: impl IntoIterator<Item = (&'t String, &'t String)>) -> String {
    let waldir = waldir.map(|folder| format!(", pg_wal in {folder}"));
    let tablespaces = tablespaces.into_iter().map(|(there, here)| format!(", tablespace {there} in {here}"));
    waldir.into_iter().chain(tablespaces).collect()
}

/// Returns the state that a step is to reach, as what is waited for.
#[must_use]
pub fn goal(step: &Step) -> String {
    let node = &step.node;
    match &step.action {
        Action::CreatePrimary(_) => format!("{node} has a new cluster"),
        Action::Clone(clone) => format!("{node} is a copy of {}", clone.source),
        Action::Rewind(rewind) => format!("{node} has what {} has", rewind.source),
        Action::StandbyFiles(_) => format!("{node} has its standby files"),
        Action::Fence(_) => format!("{node} comes up as a standby whoever starts it"),
        Action::FenceOff => format!("{node} is dead"),
        Action::TakeDown => format!("no server of {node} lives"),
        Action::Unfence => format!("{node} is a primary by its files"),
        Action::Promote(_) => format!("{node} is promoted"),
        Action::Hook(hook) => format!("`{}` of {node} is noted as done", hook.point.name()),
        Action::Configure(_) => format!("{node} has its configuration in force"),
        Action::Hba { .. } => format!("{node} has its pg_hba.conf in force"),
        Action::Passfile { .. } => format!("{node} has its passfile"),
        Action::Mode => format!("the data directory of {node} has mode 0700"),
        Action::Stop(_) => format!("the server of {node} is stopped"),
        Action::Start { role } => format!("{node} runs as {role} and answers"),
        Action::ReplicationRole(role) => format!("{node} has the role {}", role.name),
        Action::Slot { name, .. } => format!("{node} has the slot {name}"),
        Action::DropSlot { name } => format!("the slot {name} of {node} is gone"),
        Action::Streaming { upstream } => format!("{node} streams from {upstream}"),
        Action::RemoveOld => format!("the replaced data directory of {node} is gone"),
    }
}

/// Returns why a step is in the plan.
#[must_use]
pub fn reason(reason: &Reason) -> String {
    match reason {
        Reason::NothingYet => "no node has a data directory".into(),
        Reason::NoData => "there is no data directory".into(),
        Reason::Unfinished(what) => format!("what is there was left unfinished: {what}"),
        Reason::OtherCluster(identity) => format!("what is there is of another cluster, system identifier {identity}"),
        Reason::Asked => "asked for".into(),
        Reason::BeyondWal { upstream, lost: LostWal::From(lsn) } => {
            format!("it needs WAL from {lsn} on, and {upstream} no longer has that")
        }
        Reason::BeyondWal { upstream, lost: LostWal::Slot(slot) } => {
            format!("{upstream} no longer has the WAL that it needs: its slot {slot} is lost")
        }
        Reason::Diverged { by, diverged, lost, no_rewind } => {
            diverged_words(by, diverged, lost.as_ref(), no_rewind.as_deref())
        }
        Reason::RewindCutShort => "a rewind was cut short, and what it left is of no use".into(),
        Reason::TooOpen(mode) => format!("PostgreSQL does not start on one with mode {mode:04o}"),
        Reason::Stopped => "the server is stopped".into(),
        Reason::JustMade => "its data directory is new".into(),
        Reason::NoStandbyFiles => "without them it would come up as a second primary".into(),
        Reason::Differs(differences) => differences.iter().map(difference).collect::<Vec<_>>().join(", "),
        Reason::NotInForce => "the file is right, the server has not put it in force".into(),
        Reason::RulesMissing => "rules that the topology asks for are missing".into(),
        Reason::Missing => "missing".into(),
        Reason::KnownAfterStart => "known only when the server runs".into(),
        Reason::ForRoleChange => "a role change will need it".into(),
        Reason::Verification => "to see that it works".into(),
        Reason::FeedsNobody => "it feeds nobody and would hold back WAL".into(),
        Reason::StandbyLeaves(standby) => format!("commits must not wait for {standby} while it is away"),
        Reason::Replaced => "it was kept until the new standby streamed".into(),
        Reason::PrimaryMoves(RoleChange { from, to }) => format!("the primary moves from {from} to {to}"),
        Reason::TakenBack => "a role change was begun, and is taken back".into(),
        Reason::NoPrimary => "no node accepts writes: a role change was left half-way".into(),
        Reason::HooksOwed => "a role change owes it".into(),
        Reason::PrimaryLost(change) => format!("{} is gone, and {} is to be the primary", change.from, change.to),
        Reason::Discarded { by } => format!("it gives way to {by}, as was asked for"),
        Reason::Superseded(by) => format!("{by} was promoted in its place"),
    }
}

fn diverged_words(by: &NodeName, diverged: &Diverged, lost: Option<&Lost>, no_rewind: Option<&str>) -> String {
    let Diverged { fork, timeline, past, same_number: _ } = diverged;
    let bytes = past.map_or("WAL".to_owned(), |bytes| format!("{} of WAL", count(bytes as usize, "byte")));
    let at = fork.map_or(String::new(), |fork| format!(" behind {fork}"));
    let mut text = format!("it holds {bytes} on timeline {timeline}{at} that {by} has not");
    if let Some(lost) = lost {
        text += &format!(": {lost}");
    }
    if let Some(why) = no_rewind {
        text += &format!("; no rewind: {why}");
    }
    text
}

fn difference(difference: &Difference) -> String {
    let Difference { name, now, set_by, then, cause } = difference;
    let text = |value: &str| if value.is_empty() { "''".to_owned() } else { value.to_owned() };
    let placed = |value: Option<&String>, set_by: Option<&SetBy>| match (value, set_by) {
        (None, Some(SetBy::Default)) => "(default)".to_owned(),
        (None, _) => "(not known)".to_owned(),
        (Some(value), None) => text(value),
        (Some(value), Some(set_by)) => format!("{} ({set_by})", text(value)),
    };
    let now = placed(now.as_ref(), set_by.as_ref());
    match cause {
        Cause::Wanted => format!("{name}: {now} -> {}", placed(then.as_ref(), None)),
        Cause::Restored(by) => format!("{name}: {now} -> {}", placed(then.as_ref(), Some(by))),
        Cause::Waiting(by) => {
            format!("and, waiting for a restart already, {name}: {now} -> {}", placed(then.as_ref(), Some(by)))
        }
    }
}

/// Returns what room a copy finds, and what comes of it; nothing where that was not measured.
#[must_use]
pub fn rooms(rooms: &[Room]) -> Vec<String> {
    let megabytes = |bytes: u64| bytes >> 20;
    let mut lines: Vec<String> = rooms
        .iter()
        .map(|room| {
            let (free, needed) = (megabytes(room.free), megabytes(room.needed));
            format!("room: {} has {free} MB free, the copy needs {needed} MB", room.folder)
        })
        .collect();
    if !rooms.iter().all(Room::is_enough) {
        let gained = megabytes(rooms.iter().map(|room| room.gained).sum());
        lines.push(format!("no room for both: the old data ({gained} MB) are removed before the copy is made"));
    }
    lines
}

/// Returns what is looked at once more right before the step.
#[must_use]
pub fn guards(action: &Action) -> Vec<String> {
    let guards: &[&str] = match action {
        Action::CreatePrimary(_) => &["no node has a data directory", "the place is empty", "the port is free"],
        Action::Clone(clone) => match &clone.replaces {
            None => &["the source answers", "the place is empty"],
            Some(Replaced::Cluster(_)) => {
                &["the source answers", "what is replaced is the very cluster that was planned for, and stopped"]
            }
            Some(Replaced::Member(_)) => {
                &["the source answers", "what is replaced is stopped, and is not further than the primary"]
            }
            Some(Replaced::Unfinished) => &["the source answers", "what is replaced is still unfinished"],
        },
        Action::Rewind(_) => &["it is stopped and fenced", "the source accepts writes", "pg_rewind can be used"],
        Action::StandbyFiles(_) => &["the server is stopped"],
        Action::Fence(_) => &["its settings as a standby are in place"],
        Action::FenceOff => &["it can't be reached"],
        Action::TakeDown => &["it is fenced", "it does not take writes, or another node does"],
        Action::Unfence => &["no other node accepts writes, or could"],
        Action::Promote(Promote { by_force: true, .. }) => &[
            "the old primary is fenced and down, or confirmed dead",
            "no other node accepts writes, or could",
            "no other standby has more WAL",
        ],
        Action::Promote(Promote { from: Some(_), .. }) => &[
            "the old primary is fenced",
            "no other node accepts writes, or could",
            "all of the old primary's WAL is here",
        ],
        Action::Promote(Promote { from: None, .. }) => {
            &["no other node accepts writes, or could", "no other node has more WAL"]
        }
        Action::Hook(hook) => match hook.point {
            HookPoint::BeforeSwitchover => &["it is in recovery"],
            HookPoint::AfterPromotion | HookPoint::AfterSwitchover => &["it accepts writes"],
            HookPoint::SwitchoverUndone => &["the old primary accepts writes"],
        },
        Action::Configure(_) | Action::Hba { .. } => &["nobody edited the file since"],
        Action::Passfile { .. } => &[],
        Action::Mode => &["it belongs to the servers' OS user"],
        Action::Stop(StopFor::Clone { .. }) => &["it runs as a standby", "the source can be cloned"],
        Action::Stop(StopFor::Rewind { .. }) => &["it runs as a standby", "it can be rewound"],
        Action::Stop(StopFor::Restart) => &["it runs as a standby", "it can be started again"],
        Action::Start { role: Role::Primary } => &["no other node accepts writes", "the port is free"],
        Action::Start { role: Role::Standby } => &["its standby files are there", "the port is free"],
        Action::ReplicationRole(_) | Action::Slot { .. } => &["the server answers"],
        Action::DropSlot { .. } => &["the slot is inactive"],
        Action::Streaming { .. } => &[],
        Action::RemoveOld => &["the new standby streams"],
    };
    guards.iter().map(|&guard| guard.to_owned()).collect()
}

/// Returns what was seen of a node, in half a line.
#[must_use]
pub fn seen(node: &NodeReport) -> String {
    let state = state(node);
    // Everybody expects pg_ctl.
    match node.controller.as_deref().filter(|controller| *controller != "pg_ctl") {
        Some(controller) => format!("{state}, by {controller}"),
        None => state,
    }
}

fn state(node: &NodeReport) -> String {
    let detail = |what: &str| node.detail.as_ref().map_or_else(|| what.to_owned(), |why| format!("{what}: {why}"));
    match node.state {
        NodeState::Running => match &node.detail {
            None => running(node),
            Some(unseen) => format!("{}; {unseen}", running(node)),
        },
        NodeState::NoAnswer => detail("runs, does not answer"),
        NodeState::Stopped => {
            let state = node.control_state.map_or(String::new(), |state| format!(" ({state})"));
            detail(&format!("stopped{state}"))
        }
        NodeState::NoData => detail("no data directory"),
        NodeState::Unfinished => detail("unfinished data directory"),
        NodeState::Foreign => detail("no data directory, but not empty"),
        NodeState::Unknown => detail("could not be looked at"),
    }
}

fn running(node: &NodeReport) -> String {
    let mut parts = vec![match node.seen_role {
        Some(role) => format!("runs as {role}"),
        None => "runs".to_owned(),
    }];
    if let Some(timeline) = node.timeline {
        parts.push(format!("timeline {timeline}"));
    }
    if let Some(lsn) = node.lsn {
        parts.push(lsn.to_string());
    }
    if node.seen_role == Some(Role::Standby) {
        parts.push(node.receiver.as_ref().map_or_else(
            || "no walreceiver".to_owned(),
            |receiver| match (&receiver.host, receiver.port) {
                (Some(host), Some(port)) => format!("{} from {host}:{port}", receiver.status),
                (Some(_) | None, _) => receiver.status.clone(),
            },
        ));
    }
    if let Some(lag) = node.lag_bytes {
        parts.push(format!("{lag} bytes behind"));
    }
    if !node.pending_restart.is_empty() {
        parts.push(format!("waiting for a restart: {}", node.pending_restart.join(", ")));
    }
    parts.join(", ")
}

/// Returns `1 step`, `2 steps`.
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Returns the text without control characters, which could do anything to a terminal, and without those that turn the
/// direction of writing around, which make a line read as another.
#[must_use]
pub fn visible(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if (c.is_control() || turns(c)) && c != '\t' && c != '\n' {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_way_for_a_copy_is_told_where_there_is_no_room_for_both() {
        let room = |free: u64, gained: u64| Room {
            folder: "/srv".into(),
            free: free << 20,
            needed: 300 << 20,
            gained: gained << 20,
        };
        assert_eq!(rooms(&[]), [""; 0]);
        assert_eq!(rooms(&[room(400, 0)]), ["room: /srv has 400 MB free, the copy needs 300 MB"]);
        assert_eq!(
            rooms(&[room(200, 150)]),
            [
                "room: /srv has 200 MB free, the copy needs 300 MB",
                "no room for both: the old data (150 MB) are removed before the copy is made"
            ]
        );
    }

    #[test]
    fn what_would_steer_a_terminal_is_shown_and_not_sent() {
        assert_eq!(visible("a\u{1b}[2Jb\tc\n\r"), "a\\u{1b}[2Jb\tc\n\\r");
        assert_eq!(visible("on\u{202e}ffo"), "on\\u{202e}ffo");
    }
}
