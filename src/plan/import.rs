//! From running servers to a topology of them.
//!
//! What was seen of each server before there was a topology ([`Sighting`]) makes a provisional one, good enough to be
//! observed as any other. What is observed then refines it, and a plan of the result shows what does not hold after
//! all and is taken out again. Whatever could not be expressed is said, in the file and beside it.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use crate::observed::Observed;
use crate::observed::Verifier;
use crate::pg::conninfo::Conninfo;
use crate::pg::secret::Secret;
use crate::pg::version::Major;
use crate::plan::Action;
use crate::plan::Plan;
use crate::plan::Reason;
use crate::topology::Admin;
use crate::topology::Hooks;
use crate::topology::InitdbOption;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::Postgresql;
use crate::topology::Replication;
use crate::topology::ReplicationAuth;
use crate::topology::Role;
use crate::topology::SecretRef;
use crate::topology::Topology;
use crate::topology::write;
use crate::topology::write::Remarks;

mod groups;
mod names;
mod parameters;
mod replication;

/// The environment variable of a replication password that was not found.
const PASSWORD_VARIABLE: &str = "PGPAIR_REPLICATION_PASSWORD";

/// A running server, as it was found before there is a topology.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// As the server itself names it.
    pub data_dir: String,
    /// Where its configuration is, if not in the data directory.
    pub config_dir: Option<String>,
    /// Where its programs are, if they would not be found there without being told.
    pub bin_dir: Option<String>,
    /// Who runs it, where that could be seen.
    pub owner: Option<String>,
    /// Whether somebody else would be taken for that.
    pub is_owner_unusual: bool,
    pub major: Major,
    pub system_identifier: u64,
    pub port: u16,
    pub in_recovery: bool,
    /// Empty where none is set.
    pub cluster_name: String,
    /// Of a standby: where it streams from.
    pub feed: Option<Feed>,
    /// The cluster and the node that pgpair's own block is of.
    pub block: Option<(String, String)>,
    /// The roles that standbys may log in as, superusers last.
    pub replication_roles: Vec<String>,
}

/// How a standby reaches its upstream.
#[derive(Clone, Debug)]
pub struct Feed {
    /// Without its password, and of several servers with the one alone that it streams from.
    pub conninfo: Conninfo,
    /// Found in the connection string, or in the passfile that libpq would take it from.
    pub password: Option<Secret>,
    /// Whether the host is this machine's.
    pub is_here: bool,
}

impl Sighting {
    /// The role that a standby logs in as: by libpq's default it has the name of who runs the server.
    fn feeds_as(&self) -> Option<&str> {
        self.feed.as_ref()?.conninfo.get("user").or(self.owner.as_deref())
    }

    fn takes_owners_name(&self) -> bool {
        self.feed.as_ref().is_some_and(|feed| feed.conninfo.get("user").is_none())
    }
}

impl Feed {
    fn server(&self) -> Option<(&str, u16)> {
        self.conninfo.servers().next()
    }

    /// The host, where it is one that other nodes could use too.
    fn host(&self) -> Option<&str> {
        self.server().map(|(host, _)| host).filter(|host| !host.starts_with('/'))
    }

    fn port(&self) -> Option<u16> {
        self.server().map(|(_, port)| port)
    }

    /// As it is named in messages.
    fn place(&self) -> String {
        let host = self.host().unwrap_or("a Unix socket");
        self.port().map_or_else(|| host.to_owned(), |port| format!("{host}, port {port}"))
    }
}

/// What whoever imports says of the topology.
#[derive(Clone, Debug)]
pub struct Given {
    pub cluster: Option<String>,
    /// The cluster's name where nothing else tells one.
    pub fallback: String,
    pub admin: Admin,
}

/// Why these servers are no cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("{first} and {second} both accept writes")]
    TwoPrimaries { first: String, second: String },
    #[error("{first} and {second} are of different clusters: their system identifiers are {one} and {other}")]
    OtherCluster { first: String, one: u64, second: String, other: u64 },
    #[error("{twice} was given twice")]
    Twice { twice: String },
    #[error("{standby} streams from {upstream}, which is not among these servers")]
    NotGiven { standby: String, upstream: String },
    #[error("none of these servers is a primary")]
    NoPrimary,
    #[error("{standby} streams from {upstream}, which is on another machine")]
    Elsewhere { standby: String, upstream: String },
}

impl Unfit {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::TwoPrimaries { .. } => {
                "import each by itself where they are two clusters; else one has to become a standby of the other first"
            }
            Self::OtherCluster { .. } => "import each cluster by itself",
            Self::Twice { .. } => "give each server once",
            Self::NotGiven { .. } => "give the data directory of that server too",
            Self::NoPrimary => "give the data directory of the primary too",
            Self::Elsewhere { .. } => "nodes on other machines can't be imported yet",
        }
    }
}

/// A topology in the making.
#[derive(Clone, Debug)]
pub struct Import {
    pub topology: Topology,
    /// The replication password that was found, for the file that the topology refers to.
    pub password: Option<Secret>,
    /// What could not be expressed, each as a sentence without its full stop.
    pub left_out: Vec<String>,
}

/// Returns a topology that these servers can be observed by.
///
/// # Errors
///
/// [`Unfit`] where they are no cluster with one primary.
pub fn provisional(sightings: &[Sighting], given: &Given) -> Result<Topology, Unfit> {
    let primary = the_primary(sightings)?;
    let names = names::of_nodes(sightings);
    let mut nodes: Vec<Node> = sightings.iter().zip(&names).map(|(seen, name)| node(seen, name, sightings)).collect();
    for (node, seen) in nodes.iter_mut().zip(sightings) {
        let upstream = seen.feed.as_ref().and_then(|feed| fed_by(feed, seen, sightings));
        node.upstream = upstream.filter(|at| *at != primary).map(|at| NodeName::new(names[at].clone()));
    }
    nodes.sort_by_key(|node| node.role == Role::Standby);
    let user = sightings.iter().find_map(Sighting::feeds_as).map(str::to_owned);
    let user = user.or_else(|| sightings[primary].replication_roles.first().cloned());
    Ok(Topology {
        cluster: names::of_cluster(sightings, given),
        system_identifier: Some(sightings[primary].system_identifier),
        postgresql: Postgresql {
            version: sightings[primary].major,
            bin_dir: common(&mut nodes, |node| &mut node.bin_dir),
            os_user: common(&mut nodes, |node| &mut node.os_user),
            initdb: IndexMap::new(),
        },
        admin: given.admin.clone(),
        replication: Replication {
            user: user.unwrap_or_else(|| "postgres".to_owned()),
            auth: ReplicationAuth::Trust,
            password: None,
            connection_limit: None,
            slots: false,
            addresses: Vec::new(),
            tls: None,
            synchronous: None,
        },
        parameters: IndexMap::new(),
        hba: Vec::new(),
        nodes: nodes.into_iter().map(|node| (node.name.clone(), node)).collect(),
        hooks: Hooks::default(),
        fencing: None,
    })
}

/// The place of the one server that accepts writes.
fn the_primary(sightings: &[Sighting]) -> Result<usize, Unfit> {
    for (index, seen) in sightings.iter().enumerate() {
        let (first, second) = (sightings[0].data_dir.clone(), seen.data_dir.clone());
        if sightings[..index].iter().any(|other| other.data_dir == seen.data_dir) {
            return Err(Unfit::Twice { twice: second });
        }
        if seen.system_identifier != sightings[0].system_identifier {
            let (one, other) = (sightings[0].system_identifier, seen.system_identifier);
            return Err(Unfit::OtherCluster { first, one, second, other });
        }
    }
    if let Some(unfit) = fed_from_outside(sightings) {
        return Err(unfit);
    }
    let writers: Vec<usize> = (0..sightings.len()).filter(|at| !sightings[*at].in_recovery).collect();
    match writers[..] {
        [primary] => Ok(primary),
        [first, second, ..] => {
            let [first, second] = [first, second].map(|at| sightings[at].data_dir.clone());
            Err(Unfit::TwoPrimaries { first, second })
        }
        [] => Err(Unfit::NoPrimary),
    }
}

/// Returns the first standby that is fed by none of these servers.
fn fed_from_outside(sightings: &[Sighting]) -> Option<Unfit> {
    let feeds = sightings.iter().filter_map(|seen| Some((seen, seen.feed.as_ref()?)));
    let (seen, feed) = feeds.into_iter().find(|(seen, feed)| fed_by(feed, seen, sightings).is_none())?;
    let (standby, upstream) = (seen.data_dir.clone(), feed.place());
    let is_here = feed.is_here;
    Some(if is_here { Unfit::NotGiven { standby, upstream } } else { Unfit::Elsewhere { standby, upstream } })
}

/// The place of the server that feeds a standby. On one machine a port tells it.
fn fed_by(feed: &Feed, own: &Sighting, sightings: &[Sighting]) -> Option<usize> {
    let is_upstream = |other: &Sighting| Some(other.port) == feed.port() && other.data_dir != own.data_dir;
    sightings.iter().position(is_upstream).filter(|_| feed.is_here)
}

fn node(seen: &Sighting, name: &str, sightings: &[Sighting]) -> Node {
    // The host by which others reach it; one that nobody follows has that of the others, as all are on one machine.
    let by_followers = sightings.iter().filter_map(|other| {
        let feed = other.feed.as_ref().filter(|feed| feed.is_here && feed.port() == Some(seen.port))?;
        feed.host().filter(|_| other.data_dir != seen.data_dir)
    });
    let by_others = sightings.iter().filter_map(|other| other.feed.as_ref()?.host());
    let host = by_followers.chain(by_others).next().unwrap_or("127.0.0.1");
    Node {
        name: NodeName::new(name),
        role: if seen.in_recovery { Role::Standby } else { Role::Primary },
        host: host.to_owned(),
        port: seen.port,
        data_dir: seen.data_dir.clone(),
        ssh: None,
        r#become: None,
        os_user: seen.owner.clone().filter(|_| seen.is_owner_unusual || seen.takes_owners_name()),
        bin_dir: seen.bin_dir.clone(),
        upstream: None,
        clone_from: None,
        config_dir: seen.config_dir.clone(),
        service: None,
        waldir: None,
        tablespaces: IndexMap::new(),
        slot: None,
        parameters: IndexMap::new(),
    }
}

/// Takes what all nodes have alike away from them.
fn common(nodes: &mut [Node], of: impl Fn(&mut Node) -> &mut Option<String>) -> Option<String> {
    let first = nodes.first_mut().and_then(|node| of(node).clone())?;
    if nodes.iter_mut().any(|node| of(node).as_ref() != Some(&first)) {
        return None;
    }
    nodes.iter_mut().for_each(|node| *of(node) = None);
    Some(first)
}

impl Import {
    /// Returns the topology that says what was observed by the provisional one. `secret` is the file that the
    /// replication password will be in.
    #[must_use]
    pub fn new(provisional: Topology, sightings: &[Sighting], observed: &Observed, secret: &str) -> Self {
        let mut import = Self { topology: provisional, password: None, left_out: Vec::new() };
        import.unseen_files(observed);
        import.places(observed);
        import.replication(sightings, observed, secret);
        import.parameters(observed);
        import
    }

    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> String {
        let mut head = vec![
            "Written by `pgpair import`: what these servers are and how they are set.".to_owned(),
            "Not here, and left as it is: what PostgreSQL or initdb has by itself, and pg_hba.conf.".to_owned(),
        ];
        if !self.left_out.is_empty() {
            head.push("\nCould not be expressed:".to_owned());
            head.extend(self.left_out.iter().map(|what| format!("- {what}")));
        }
        write::yaml(&self.topology, &Remarks { head, before_parameter: groups::titles(&self.topology.parameters) })
    }

    /// Says what can't be written.
    fn leave_out(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.left_out.contains(&what) {
            self.left_out.push(what);
        }
    }

    fn unseen_files(&mut self, observed: &Observed) {
        let mut unseen: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, seen) in &observed.nodes {
            if let Some(why) = seen.place.unknown() {
                unseen.entry(why).or_default().push(name.as_str());
            }
        }
        for (why, nodes) in unseen {
            let nodes = nodes.join(" and ");
            self.leave_out(format!(
                "what only files of {nodes} tell (pg_hba.conf, pg_wal elsewhere, tablespaces): {why}"
            ));
        }
    }

    /// Where parts of the nodes lie outside their data directories, and what else their files say of the cluster.
    fn places(&mut self, observed: &Observed) {
        let primary = self.topology.primary().name.clone();
        let is_default = self.topology.postgresql.version.dialect().checksums_by_default;
        if let Some(cluster) = observed.node(&primary).cluster().filter(|cluster| cluster.checksums != is_default) {
            let option = InitdbOption::Switch(cluster.checksums);
            self.topology.postgresql.initdb.insert("data-checksums".to_owned(), option);
        }
        let tablespaces_of = |name: &NodeName| observed.node(name).cluster().map(|cluster| cluster.tablespaces.clone());
        let sources: BTreeMap<NodeName, NodeName> = self
            .topology
            .standbys()
            .map(|standby| (standby.name.clone(), self.topology.upstream(standby).name.clone()))
            .collect();
        for node in self.topology.nodes.values_mut() {
            node.waldir = observed.node(&node.name).cluster().and_then(|cluster| cluster.waldir.clone());
            let (Some(source), Some(here)) = (sources.get(&node.name), tablespaces_of(&node.name)) else { continue };
            let there = tablespaces_of(source).unwrap_or_default();
            let moved = here.iter().filter_map(|(oid, here)| Some((there.get(oid)?, here)));
            node.tablespaces = moved.map(|(there, here)| (there.clone(), here.clone())).collect();
        }
    }

    /// Takes out what a plan of the topology shows not to hold; returns whether that was anything.
    pub fn settle(&mut self, plan: &Plan, observed: &Observed) -> bool {
        let before = (self.topology.clone(), self.password.is_some());
        self.settle_password(observed);
        for step in &plan.steps {
            let (Action::Configure(_), Reason::Differs(differences)) = (&step.action, &step.reason) else { continue };
            for difference in differences {
                self.take_parameter_out(&step.node, &difference.name);
            }
        }
        before != (self.topology.clone(), self.password.is_some())
    }

    /// A password that the role does not have opens nothing.
    fn settle_password(&mut self, observed: &Observed) {
        let primary = observed.node(&self.topology.primary().name).cluster();
        let Some(role) = primary.and_then(|cluster| cluster.replication_role.known()) else { return };
        if self.password.is_none() || matches!(role.verifier, Verifier::Matches | Verifier::NotCompared) {
            return;
        }
        let user = &self.topology.replication.user;
        let what = format!("the password that the standbys have for `{user}`: it is not the one that the role has");
        self.password = None;
        self.topology.replication.password = match self.topology.replication.auth {
            ReplicationAuth::Trust | ReplicationAuth::Cert => None,
            ReplicationAuth::ScramSha256 | ReplicationAuth::Md5 => Some(SecretRef::Env(PASSWORD_VARIABLE.to_owned())),
        };
        self.leave_out(what);
    }

    /// Takes a parameter of one node out, wherever it stands; the others keep it.
    fn take_parameter_out(&mut self, node: &NodeName, name: &str) {
        if let Some(common) = self.topology.parameters.shift_remove(name) {
            for other in self.topology.nodes.values_mut().filter(|other| other.name != *node) {
                other.parameters.entry(name.to_owned()).or_insert_with(|| common.clone());
            }
        } else if self.topology.nodes.get_mut(node).and_then(|node| node.parameters.shift_remove(name)).is_none() {
            return;
        }
        self.leave_out(format!("`{name}` of {node}: its files and its server do not say the same"));
    }
}

#[cfg(test)]
mod tests;
