//! A node whose files are out of our reach: what its server alone tells, to a role with `pg_monitor`.
//!
//! Nobody's files prove whose server it is, so it has to name the topology's data directory and the pinned system
//! identifier, or that of the other nodes. That is enough to report on, and never for a write: the place stays unknown,
//! and every step asks for it.

use std::collections::BTreeMap;

use crate::observed::Identity;
use crate::observed::NodeObserved;
use crate::observed::Reading;
use crate::observed::Server;
use crate::pg::secret::Secret;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::SslMode;
use crate::topology::Topology;
use crate::world::observe::Answer;
use crate::world::observe::Passwords;
use crate::world::observe::concerned;
use crate::world::observe::place::Changed;
use crate::world::sql::Endpoint;
use crate::world::sql::Session;
use crate::world::user::Seat;

/// Where builds have their sockets: Debian and the RPMs, PostgreSQL's own.
const SOCKET_DIRS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Asks the server of a node into what is known of that, where nothing of it is. Returns the system identifier.
pub(super) async fn ask(
    topology: &Topology,
    node: &Node,
    passwords: &Passwords,
    observed: &mut NodeObserved,
) -> Option<u64> {
    let answer = match answer(topology, node, passwords).await {
        Ok(answer) => answer,
        Err(why) => {
            // Whether a server runs there at all is not known either.
            if let Reading::Unknown(place) = &mut observed.place {
                *place = format!("{place}; and its server tells nothing: {why}");
            }
            return None;
        }
    };
    let (identifier, started) = (answer.said.system_identifier, answer.said.started);
    let sql = Reading::Known(answer.into_observed(observed, &Changed::default()));
    let server = Server { pid: 0, started, port: Some(node.port), socket_dir: None, sql };
    observed.server = Reading::Known(server);
    observed.port_taken = Reading::Absent;
    Some(identifier)
}

async fn answer(topology: &Topology, node: &Node, passwords: &Passwords) -> Result<Answer, String> {
    let seat = Seat::of(None).map_err(|error| error.to_string())?;
    let session = connect(topology, node, passwords, &seat).await?;
    let said = session.look(&concerned(topology, node, None)).await.map_err(|error| error.to_string())?;
    if !said.may_see {
        let user = &said.user;
        return Err(format!("`{user}` may not see all settings and replication: `GRANT pg_monitor TO {user}`"));
    }
    if said.data_directory.as_deref() != Some(&node.data_dir) {
        let other = said.data_directory.as_deref().unwrap_or("not told");
        let (port, ours) = (node.port, &node.data_dir);
        return Err(format!("the data directory of the server on port {port} is {other}, not {ours}"));
    }
    if let Some(pinned) = topology.system_identifier.filter(|pinned| *pinned != said.system_identifier) {
        let found = said.system_identifier;
        return Err(format!("the server on port {} has system identifier {found}, not {pinned}", node.port));
    }
    let overridden: Vec<String> =
        said.settings.iter().filter(|(_, row)| row.is_overridden()).map(|(name, _)| name.clone()).collect();
    let in_files = if overridden.is_empty() { None } else { session.file_settings(&overridden).await.ok() };
    let role = Reading::Unknown("its data directory is unseen".to_owned());
    Ok(Answer { said, in_files, role, other_files: None })
}

async fn connect(topology: &Topology, node: &Node, passwords: &Passwords, seat: &Seat) -> Result<Session, String> {
    let admin = &topology.admin;
    let door = Door {
        port: node.port,
        user: admin.user.clone().unwrap_or_else(|| seat.user().to_owned()),
        database: admin.database.clone(),
        password: passwords.admin.clone()?,
        is_tcp_allowed: admin.sslmode < SslMode::Require,
    };
    open(seat, &door, None).await
}

/// A server of which nothing but the port is known.
pub(super) struct Door {
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) password: Option<Secret>,
    /// Without encryption, which pgpair does not have.
    pub(super) is_tcp_allowed: bool,
}

/// Opens a session through the first way in that there is: a socket of its port, in `first` or where builds have them,
/// then TCP.
pub(super) async fn open(seat: &Seat, door: &Door, first: Option<String>) -> Result<Session, String> {
    let Door { port, .. } = *door;
    let mut ways: Vec<Option<String>> = first.into_iter().chain(SOCKET_DIRS.map(str::to_owned)).map(Some).collect();
    ways.extend(door.is_tcp_allowed.then_some(None));
    ways.retain(|way| way.as_ref().is_none_or(|dir| std::path::Path::new(&format!("{dir}/.s.PGSQL.{port}")).exists()));
    let mut refused = format!("no server has a socket or a port {port} that we may use");
    for socket_dir in ways {
        let endpoint = Endpoint {
            socket_dir,
            port,
            user: door.user.clone(),
            database: door.database.clone(),
            password: door.password.clone(),
        };
        match Session::open(seat, &endpoint).await {
            Ok(session) => return Ok(session),
            Err(error) => refused = error.to_string(),
        }
    }
    Err(refused)
}

/// Takes back what servers told that are of another cluster than the other nodes: without files, nothing else shows it.
pub(super) fn doubt(nodes: &mut BTreeMap<NodeName, NodeObserved>, told: &BTreeMap<NodeName, u64>) {
    let by_files = nodes.iter().filter_map(|(name, seen)| match seen.cluster()?.identity {
        Identity::Known(identifier) => Some((name.clone(), identifier)),
        Identity::CreatedOn(_) => None,
    });
    let all: Vec<(NodeName, u64)> = by_files.chain(told.iter().map(|(name, told)| (name.clone(), *told))).collect();
    for (name, own) in told {
        let Some((other, theirs)) = all.iter().find(|(_, theirs)| theirs != own) else { continue };
        if let Some(server) = nodes.get_mut(name).and_then(|seen| seen.server.known_mut()) {
            server.sql = Reading::Unknown(format!("its system identifier is {own}, and that of {other} {theirs}"));
        }
    }
}
