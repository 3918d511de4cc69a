//! `pgpair explain`: what an id means that stands in plans, results and warnings, or what a parameter takes.

use serde::Serialize;

use crate::pg::guc;
use crate::pg::guc::Context;
use crate::pg::version::Major;
use crate::plan::pair::states::STATES;
use crate::plan::readiness::Lasts;
use crate::plan::readiness::ReadinessCheck;
use crate::plan::refusal::examples::examples;
use crate::report::explain::actions::ACTIONS;
use crate::topology::advice::Advice;
use crate::topology::diagnostic::closest;

mod actions;

/// What can be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A joint state of the nodes.
    State,
    /// What a step does.
    Action,
    /// Why something is not done.
    Refusal,
    /// What is asked before a switchover.
    Check,
    /// What is legal in a topology and unwise.
    Warning,
    /// A parameter of PostgreSQL.
    Parameter,
}

impl Subject {
    const LISTED: [(Self, &'static str); 5] = [
        (Self::State, "states"),
        (Self::Action, "actions"),
        (Self::Refusal, "refusals"),
        (Self::Check, "checks"),
        (Self::Warning, "warnings"),
    ];
}

/// One id, explained. What does not apply is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    pub id: String,
    pub subject: Subject,
    pub what: String,
    pub why: Option<String>,
    /// What pgpair does then.
    pub answer: Option<String>,
    pub impact: Option<String>,
    pub remedy: Option<String>,
    pub by_hand: Option<String>,
}

impl Explanation {
    fn new(id: &str, subject: Subject, what: String) -> Self {
        let (why, answer, impact, remedy, by_hand) = (None, None, None, None, None);
        Self { id: id.to_owned(), subject, what, why, answer, impact, remedy, by_hand }
    }

    /// As text, with the lines that apply.
    #[must_use]
    pub fn text(&self) -> String {
        let parts = [
            ("why", &self.why),
            ("answer", &self.answer),
            ("impact", &self.impact),
            ("remedy", &self.remedy),
            ("by hand", &self.by_hand),
        ];
        let mut text = format!("{}: {}\n", self.id, self.what);
        for (label, part) in parts {
            if let Some(part) = part {
                text.push_str(&format!("  {:9}{part}\n", format!("{label}:")));
            }
        }
        text
    }
}

/// Explains an id in every sense that it has, or a whole list (`states`, `actions`, `refusals`, `checks`, `warnings`).
///
/// # Errors
///
/// The id that comes closest, if one does, where nothing is called so.
pub fn explain(id: &str) -> Result<Vec<Explanation>, Option<String>> {
    let all = all();
    if let Some((subject, _)) = Subject::LISTED.into_iter().find(|(_, list)| *list == id) {
        return Ok(all.into_iter().filter(|one| one.subject == subject).collect());
    }
    let mut found: Vec<Explanation> = all.iter().filter(|one| one.id == id).cloned().collect();
    found.extend(parameter(id));
    if found.is_empty() {
        let lists = Subject::LISTED.map(|(_, list)| list);
        let near = closest(id, all.iter().map(|one| one.id.as_str()).chain(lists));
        let parameter = || guc::known(Major::NEWEST, id).err().and_then(|unknown| unknown.suggestion);
        return Err(near.or_else(parameter).map(str::to_owned));
    }
    Ok(found)
}

fn all() -> Vec<Explanation> {
    let states = STATES.into_iter().map(|row| Explanation {
        answer: Some(row.answer.to_owned()),
        ..Explanation::new(row.id, Subject::State, row.state.to_owned())
    });
    let actions = ACTIONS.iter().map(|row| Explanation {
        why: Some(row.why.to_owned()),
        impact: Some(row.impact.to_owned()),
        by_hand: Some(row.by_hand.to_owned()),
        ..Explanation::new(row.name, Subject::Action, row.what.to_owned())
    });
    let refusals = examples().into_iter().map(|refusal| Explanation {
        remedy: Some(refusal.remedy()),
        ..Explanation::new(refusal.code(), Subject::Refusal, refusal.reason())
    });
    let checks = ReadinessCheck::ALL.into_iter().map(|check| {
        let about = check.about();
        let told = match about.lasts {
            Lasts::Standing => "by drift, by status, and by a plan that moves the primary",
            Lasts::Momentary => "by status, and by a plan that moves the primary",
        };
        let what = format!("a check before a switchover, of the {}, told {told}", about.subject);
        Explanation { why: Some(about.reason.to_owned()), ..Explanation::new(about.id, Subject::Check, what) }
    });
    let warnings = Advice::ALL.into_iter().map(|advice| Explanation {
        remedy: Some(advice.remedy().to_owned()),
        ..Explanation::new(advice.id(), Subject::Warning, advice.reason().to_owned())
    });
    states.chain(actions).chain(refusals).chain(checks).chain(warnings).collect()
}

/// What each major takes for a parameter: one explanation for every span of majors in which it is the same.
fn parameter(name: &str) -> Vec<Explanation> {
    let mut spans: Vec<(Major, Major, guc::Taken)> = Vec::new();
    for major in Major::all() {
        let Some(taken) = guc::taken(major, name) else { continue };
        match spans.last_mut() {
            Some((_, last, same)) if *same == taken && last.number() + 1 == major.number() => *last = major,
            Some(_) | None => spans.push((major, major, taken)),
        }
    }
    let explained = spans.into_iter().map(|(first, last, taken)| {
        let majors = if first == last { first.to_string() } else { format!("{first} to {last}") };
        let default = taken.default.map_or_else(String::new, |default| format!("; default `{default}`"));
        let what = format!("PostgreSQL {majors}: it takes {}{default}", taken.values);
        let (impact, by_hand) = of_change(taken.context);
        Explanation {
            impact: Some(impact.to_owned()),
            by_hand: Some(by_hand.to_owned()),
            ..Explanation::new(taken.name, Subject::Parameter, what)
        }
    });
    explained.collect()
}

/// What a change of a parameter with this context is noticed of, and how one makes it by hand.
fn of_change(context: Context) -> (&'static str, &'static str) {
    match context {
        Context::Internal => ("can't be changed: the build or initdb fixes it", "initdb anew"),
        Context::Postmaster => (
            "restart of a standby, outage of the primary",
            "`ALTER SYSTEM SET` or an editor, then `pg_ctl restart`; standbys first",
        ),
        Context::SuperuserBackend | Context::Backend => {
            ("reload; in force for new sessions", "`ALTER SYSTEM SET` or an editor, then `SELECT pg_reload_conf()`")
        }
        Context::Sighup | Context::Superuser | Context::User => {
            ("reload", "`ALTER SYSTEM SET` or an editor, then `SELECT pg_reload_conf()`")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(id: &str) -> String {
        explain(id).expect("it is known").iter().map(Explanation::text).collect()
    }

    #[test]
    fn every_action_is_explained() {
        let source = include_str!("../plan.rs");
        let (_, names) = source.split_once("pub fn name(&self)").expect("the names");
        let (names, _) = names.split_once("\n    }\n").expect("their end");
        let names: Vec<&str> = names.split('"').skip(1).step_by(2).collect();
        let explained = ACTIONS.iter().map(|row| row.name);
        assert!(explained.eq(names.iter().copied()), "{names:?}");
    }

    #[test]
    fn an_id_is_unique_among_what_is_listed() {
        let ids: std::collections::BTreeSet<String> = all().into_iter().map(|one| one.id).collect();
        assert_eq!(ids.len(), all().len());
    }

    #[test]
    fn an_id_is_explained_with_what_applies() {
        let ids = [
            "armed",
            "promote",
            "two_primaries",
            "reverse_connection",
            "no-rewind",
            "max_wal_senders",
            "wal_keep_segments",
        ];
        insta::assert_snapshot!(ids.map(texts).join("\n"));
    }

    #[test]
    fn all_joint_states_are_one_table() {
        insta::assert_snapshot!(texts("states"));
    }

    #[test]
    fn what_is_not_known_is_answered_with_what_comes_closest() {
        assert_eq!(explain("two_primary"), Err(Some("two_primaries".into())));
        assert_eq!(explain("work_men"), Err(Some("work_mem".into())));
        assert_eq!(explain("state"), Err(Some("states".into())));
        assert_eq!(explain("qqqqqqqq"), Err(None));
    }
}
