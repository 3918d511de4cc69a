//! The question before an apply, and what an answer allows.

use std::collections::BTreeSet;
use std::io;

use super::interrupt::Interrupt;
use super::interrupt::unless_interrupted;
use super::ui::Ui;
use crate::error::Error;
use crate::plan::Plan;
use crate::plan::allow;
use crate::plan::allow::Allowance;
use crate::topology::NodeName;

/// One thing to ask, and the only answer that goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    text: String,
    answer: String,
}

#[cfg(test)]
impl Question {
    pub(super) fn answer(&self) -> &str {
        &self.answer
    }
}

/// Returns what is to be asked: for a plain `yes`, or for the name of each node whose data is replaced.
pub(super) fn questions(plan: &Plan, given: &BTreeSet<Allowance>) -> Vec<Question> {
    let needed = allow::all_needed(plan);
    let by_name = needed.iter().filter(|allowance| !allow::yes_is_enough(allowance) && !given.contains(allowance));
    let named: Vec<Question> = by_name.filter_map(named_node).map(by_its_name).collect();
    if !named.is_empty() {
        return named;
    }
    vec![Question { text: "Do all of this? Only `yes` is taken: ".to_owned(), answer: "yes".to_owned() }]
}

fn named_node(allowance: &Allowance) -> Option<&NodeName> {
    match allowance {
        Allowance::Restart | Allowance::Outage | Allowance::Switchover(_) => None,
        Allowance::Failover(node) | Allowance::Destroy(node) => Some(node),
    }
}

fn by_its_name(node: &NodeName) -> Question {
    Question {
        text: format!("The data directory of {node} is replaced. To do all of this, type the node's name: "),
        answer: node.to_string(),
    }
}

/// Asks at the terminal; everything that the plan needs is allowed by the right answers.
pub(super) async fn ask(questions: Vec<Question>, ui: &Ui, interrupt: &Interrupt) -> Result<(), Error> {
    for question in questions {
        ui.note(&question.text);
        let line = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            io::stdin().read_line(&mut line).map(|_| line)
        });
        let line = unless_interrupted(interrupt, line).await.inspect_err(|_| ui.note("\n"))?;
        // A terminal that was closed, or that can't be read, has not said yes.
        let line = line.ok().and_then(Result::ok).unwrap_or_default();
        if line.trim() != question.answer {
            return Err(Error::Declined);
        }
    }
    Ok(())
}
