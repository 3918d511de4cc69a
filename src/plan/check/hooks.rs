//! Hooks: what the comment in the node's block says is still owed, and who accepts writes.

use crate::pg::block;
use crate::plan::Hook;
use crate::plan::Refusal;
use crate::plan::check::At;
use crate::plan::check::Verdict;
use crate::plan::hook::Done;
use crate::plan::hook::HookPoint;
use crate::plan::hook::owed;

impl At<'_> {
    pub(super) fn hook(&self, hook: &Hook) -> Verdict {
        let conf = &self.cluster()?.conf.main.text;
        let unreadable = |malformed: block::Malformed| Refusal::BadConf {
            node: self.name(),
            problem: format!("postgresql.conf, {malformed}"),
        };
        block::find(conf).map_err(unreadable)?;
        let noted = owed(conf, &self.node.name).filter(|noted| noted.is_of(&hook.owed)).map(|noted| noted.done);
        match hook.point {
            HookPoint::BeforeSwitchover => {
                if noted.is_some_and(|done| done >= Done::BeforeSwitchover) {
                    return Ok(true);
                }
                if self.sql()?.in_recovery { Ok(false) } else { Err(self.not_ready("accepts writes already")) }
            }
            HookPoint::AfterPromotion => match noted {
                None | Some(Done::AfterPromotion) => Ok(true),
                Some(Done::Nothing | Done::BeforeSwitchover) => self.writes().map(|_| false),
            },
            HookPoint::AfterSwitchover => match noted {
                None => Ok(true),
                Some(Done::AfterPromotion) => self.writes().map(|_| false),
                Some(Done::Nothing | Done::BeforeSwitchover) if self.topology.hooks.after_promotion.is_empty() => {
                    self.writes().map(|_| false)
                }
                Some(Done::Nothing | Done::BeforeSwitchover) => Err(self.not_ready("owes `after_promotion` first")),
            },
            HookPoint::SwitchoverUndone => match noted {
                None => Ok(true),
                Some(_) => self.of(&self.topology.primary().name).writes().map(|_| false),
            },
        }
    }
}
