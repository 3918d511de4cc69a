//! What a server holds for its standbys.

use crate::observed::Observed;
use crate::observed::Reading;
use crate::observed::ReplicationRole;
use crate::observed::Verifier;
use crate::plan::WantedRole;
use crate::topology::NodeName;

/// The role is made on the primary, and arrives on every standby that streams.
pub(super) fn role_made(observed: &mut Observed, node: &NodeName, wanted: &WantedRole) {
    let Some(cluster) = observed.node_mut(node).cluster_mut() else { return };
    let before = cluster.replication_role.known().cloned();
    let role = ReplicationRole {
        login: true,
        replication: true,
        superuser: before.as_ref().is_some_and(|role| role.superuser),
        connection_limit: wanted.connection_limit.or(before.as_ref().map(|role| role.connection_limit)).unwrap_or(-1),
        verifier: if wanted.with_password {
            Verifier::Matches
        } else {
            before.as_ref().map_or(Verifier::None, |role| role.verifier)
        },
        // In 10 everybody may execute these functions, which then ask for a superuser.
        rewind_grants: wanted.rewind_grants
            || before.is_some_and(|role| role.rewind_grants)
            || !cluster.major.dialect().rewind_by_grants,
    };
    let identity = cluster.identity.clone();
    for seen in observed.nodes.values_mut().filter(|seen| seen.sql().is_some()) {
        if let Some(cluster) = seen.cluster_mut().filter(|cluster| cluster.identity == identity) {
            cluster.replication_role = Reading::Known(role.clone());
        }
    }
}
