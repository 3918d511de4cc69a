//! The reverse connection: whether a standby would let its primary replicate from it, once their roles have changed.
//!
//! It is tried as the old primary's walreceiver would: as the replication role, with a replication connection, by the
//! address that the topology gives, and with the secret that lies in the old primary's passfile.

use crate::observed::Reading;
use crate::observed::Reverse;
use crate::pg::passfile;
use crate::pg::secret::Secret;
use crate::plan::desired::passfile_path;
use crate::topology::Node;
use crate::topology::ReplicationAuth;
use crate::topology::Role;
use crate::topology::SslMode;
use crate::topology::Topology;
use crate::world::files;
use crate::world::observe::Passwords;
use crate::world::replication::Failed;
use crate::world::replication::identify;
use crate::world::user::Seat;

/// Tries it. `system_identifier`: of the standby's own data directory.
pub(super) async fn connection_to(
    topology: &Topology,
    standby: &Node,
    passwords: &Passwords,
    system_identifier: Option<u64>,
) -> Reading<Reverse> {
    let replication = &topology.replication;
    let is_encrypted = replication.tls.as_ref().is_some_and(|tls| tls.sslmode >= SslMode::Require);
    if is_encrypted || replication.auth == ReplicationAuth::Cert {
        return Reading::Unknown("pgpair can't encrypt, as `replication.tls` asks for".to_owned());
    }
    let password = match &passwords.replication {
        Ok(password) => password.clone(),
        Err(why) => match in_passfile(topology, standby).await {
            Some(password) => Some(password),
            None => return Reading::Unknown(why.clone()),
        },
    };
    match identify(&standby.host, standby.port, &replication.user, password.as_ref()).await {
        Ok(found) if system_identifier.is_some_and(|own| own.to_string() != found) => {
            let Node { host, port, .. } = standby;
            Reading::Known(Reverse::Refused(format!(
                "another server answers at {host}:{port}, with system identifier {found}"
            )))
        }
        Ok(_) => Reading::Known(Reverse::Admitted),
        Err(Failed::Refused(words)) => Reading::Known(Reverse::Refused(words)),
        Err(Failed::NotTried(why)) => Reading::Unknown(why),
    }
}

/// Reads the replication password that lies on the node which would connect.
async fn in_passfile(topology: &Topology, standby: &Node) -> Option<Secret> {
    let others = || topology.nodes.values().filter(|other| other.name != standby.name);
    let from = others().find(|other| other.role == Role::Primary).or(others().next())?;
    let (path, user) = (passfile_path(from), topology.replication.user.clone());
    let seat = Seat::of_node(topology, from).ok()?;
    let text = seat.blocking(move || files::read_text(path).ok().flatten()).await?;
    passfile::password(&text, &standby.host, &standby.port.to_string(), "replication", &user)
}
