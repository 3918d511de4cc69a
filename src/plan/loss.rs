//! What a forced promotion may lose: a bound in bytes, known before anything is done.

use serde::Serialize;

use crate::observed::Observed;
use crate::plan::Plan;
use crate::topology::NodeName;

/// The WAL of an old primary that the node which is promoted in its place does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// Whose it is.
    pub node: NodeName,
    /// At most so many; absent: it can't be told.
    pub bytes: Option<u64>,
}

/// Returns what a plan with a forced promotion may lose; `None`: there is none in it.
#[must_use]
pub fn bound(observed: &Observed, plan: &Plan) -> Option<Loss> {
    let change = plan.role_change.as_ref()?;
    plan.promotion().filter(|(_, promote)| promote.by_force)?;
    let cluster = observed.node(&change.from).cluster();
    // Of a server that still lives only its files say how far it is: to the end of its last one.
    let end = cluster.and_then(|own| own.end.or(own.wal.map(|wal| wal.end)));
    let position = observed.node(&change.to).sql().map(|sql| sql.lsn);
    let bytes = end.zip(position).map(|(end, position)| end.0.saturating_sub(position.0));
    Some(Loss { node: change.from.clone(), bytes })
}
