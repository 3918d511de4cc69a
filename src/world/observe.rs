//! One look at every node: its files, its processes, and what its server says.
//!
//! A look writes nothing and leaves nothing but a login. It never fails as a whole: what could not be seen is
//! unknown, with the reason. Nodes are looked at concurrently, each with the rights of its own user.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join;
use futures_util::future::join_all;

use crate::observed::Busy;
use crate::observed::Cluster;
use crate::observed::DataDir;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::observed::Readiness;
use crate::observed::Reading;
use crate::observed::Receiver;
use crate::observed::ReplicationRole;
use crate::observed::Reverse;
use crate::observed::Sender;
use crate::observed::Server;
use crate::observed::Setting;
use crate::observed::Slot;
use crate::observed::Sql;
use crate::observed::Verifier;
use crate::observed::comes_up_as;
use crate::pg::block;
use crate::pg::conf;
use crate::pg::conninfo::Conninfo;
use crate::pg::lsn::Lsn;
use crate::pg::lsn::Timeline;
use crate::pg::passfile;
use crate::pg::scram;
use crate::pg::secret::Secret;
use crate::plan::desired;
use crate::plan::desired::REWIND_DATABASE;
use crate::topology::Node;
use crate::topology::ReplicationAuth;
use crate::topology::Role;
use crate::topology::SslMode;
use crate::topology::Topology;
use crate::world::probe;
use crate::world::probe::control;
use crate::world::probe::ports;
use crate::world::probe::same_file;
use crate::world::probe::supervisors;
use crate::world::probe::supervisors::Supervisor;
use crate::world::probe::supervisors::concerned_with;
use crate::world::secrets::Secrets;
use crate::world::sql::Endpoint;
use crate::world::sql::OWN_NAME;
use crate::world::sql::ReplicationSlot;
use crate::world::sql::Said;
use crate::world::sql::Session;
use crate::world::sql::SettingRow;
use crate::world::sql::SqlError;
use crate::world::sql::WalReceiver;
use crate::world::sql::WalSender;
use crate::world::sql::Whose;
use crate::world::user::Seat;

pub mod adopt;
mod afar;
mod past;
pub mod place;
mod reverse;
pub mod server;
mod tls;

use place::Changed;
use place::Found;
use server::Running;

/// How often a node's files are read while its server comes or goes under the look.
const LOOKS: usize = 3;

/// Parameters that are asked for on every node, whatever the topology says: those that a standby must have as high
/// as its primary, that make or break replication, and that decide where a standby recovers to.
const ALWAYS: [&str; 34] = [
    "allow_alter_system",
    "archive_cleanup_command",
    "archive_command",
    "archive_mode",
    "cluster_name",
    "full_page_writes",
    "hot_standby",
    "listen_addresses",
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_replication_slots",
    "max_wal_senders",
    "max_worker_processes",
    "port",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "recovery_min_apply_delay",
    "recovery_target",
    "recovery_target_action",
    "recovery_target_inclusive",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_timeline",
    "recovery_target_xid",
    "restore_command",
    "ssl",
    "ssl_ca_file",
    "synchronous_standby_names",
    "unix_socket_directories",
    "wal_level",
    "wal_log_hints",
];

/// Looks at every node.
pub async fn look(topology: &Topology, secrets: &Secrets) -> Observed {
    let passwords = &Passwords::resolve(topology, secrets).await;
    let looks = topology.nodes.values().map(async |node| {
        let mut seen = look_at(topology, node, passwords).await;
        let is_unseen = seen.place.unknown().is_some() && seen.server.unknown().is_some() && node.ssh.is_none();
        let told = if is_unseen { afar::ask(topology, node, passwords, &mut seen).await } else { None };
        (node.name.clone(), seen, told)
    });
    let (mut nodes, mut told) = (BTreeMap::new(), BTreeMap::new());
    let (looks, supervisors) = join(join_all(looks), supervisors()).await;
    for (name, mut seen, identifier) in looks {
        let node = &topology.nodes[&name];
        if node.ssh.is_none() {
            seen.readiness.supervisors = concerned_with(&supervisors, &node.data_dir);
        }
        told.extend(identifier.map(|identifier| (name.clone(), identifier)));
        nodes.insert(name, seen);
    }
    afar::doubt(&mut nodes, &told);
    let mut observed = Observed { nodes };
    past::look_back(topology, &mut observed).await;
    observed
}

/// With our own rights, as it is us who want to know what programs were told.
async fn supervisors() -> Vec<Supervisor> {
    match Seat::of(None) {
        Ok(own) => own.blocking(supervisors::running).await,
        Err(_) => Vec::new(),
    }
}

/// The topology's passwords, or why they can't be had; none where the topology has none.
#[derive(Debug)]
struct Passwords {
    admin: Result<Option<Secret>, String>,
    replication: Result<Option<Secret>, String>,
}

impl Passwords {
    async fn resolve(topology: &Topology, secrets: &Secrets) -> Self {
        let of = async |reference| secrets.get_optional(reference).await.map_err(|error| error.to_string());
        let (admin, replication) = (topology.admin.password.as_ref(), topology.replication.password.as_ref());
        let (admin, replication) = join(of(admin), of(replication)).await;
        Self { admin, replication }
    }
}

async fn look_at(topology: &Topology, node: &Node, passwords: &Passwords) -> NodeObserved {
    if let Some(ssh) = &node.ssh {
        return out_of_reach(&format!("it is reached by ssh ({ssh}), which pgpair can't do yet"));
    }
    let seat = match Seat::of_node(topology, node) {
        Ok(seat) => seat,
        Err(error) => return out_of_reach(&error.to_string()),
    };
    let local = Local::look(topology, node, passwords, &seat).await;
    let Found { place, system_identifier, changed, unwritable, unarchived } = local.found;
    let place = place.map_or_else(Reading::Unknown, Reading::Known);
    let server = Reading::Absent;
    let mut observed = NodeObserved {
        binaries: Reading::Absent,
        place,
        server,
        port_taken: local.port_taken,
        controller: Reading::Absent,
        rooms: Vec::new(),
        readiness: Readiness { unwritable, unarchived, ..Readiness::default() },
        tls: Vec::new(),
        confirmed_dead: false,
    };
    let mut program = None;
    observed.server = match local.running {
        Reading::Absent => Reading::Absent,
        Reading::Unknown(why) => {
            role_unknown(&mut observed, &why);
            Reading::Unknown(why)
        }
        Reading::Known(running) => {
            let asking = Asking { topology, node, passwords, seat: &seat, running: &running, system_identifier };
            let (asked, reverse) = join(asking.ask(observed.cluster()), asking.reverse(observed.cluster())).await;
            let sql = match asked {
                Ok(answer) => {
                    if answer.said.in_recovery {
                        observed.readiness.reverse = reverse;
                    }
                    program = running.program.clone().map(|path| (path, answer.said.version.clone()));
                    Reading::Known(answer.into_observed(&mut observed, &changed))
                }
                Err(why) => {
                    role_unknown(&mut observed, &why);
                    Reading::Unknown(why)
                }
            };
            let Running { pid, started, port, socket_dir, program: _ } = running;
            Reading::Known(Server { pid, started, port, socket_dir, sql })
        }
    };
    let wanted = probe::Wanted {
        major: topology.postgresql.version,
        bin_dir: node.bin_dir.clone().or_else(|| topology.postgresql.bin_dir.clone()),
        running: program,
        socket_dir: observed.place.known().is_some_and(|place| match &place.data_dir {
            DataDir::Absent | DataDir::Empty => true,
            DataDir::Unfinished(_) | DataDir::Foreign(_) | DataDir::Cluster(_) => false,
        }),
    };
    observed.binaries = seat.blocking(move || probe::binaries(&wanted)).await;
    if let Some(tls) = topology.replication.tls.clone() {
        observed.tls = seat.blocking(move || tls::problems(&tls)).await;
    }
    // With our own rights: it is us whom systemd or sudo lets do something.
    let own = Seat::of(None).unwrap_or_else(|_| Arc::clone(&seat));
    let wanted = control::Wanted {
        service: node.service.clone(),
        config_dir: node.config_dir.clone(),
        pid: observed.server.known().map(|server| server.pid),
        own: own.user().to_owned(),
    };
    observed.controller = Reading::Known(own.blocking(move || control::controller(&wanted)).await);
    observed
}

/// The role is unknown for the reason that the server is.
fn role_unknown(observed: &mut NodeObserved, why: &str) {
    if let Some(cluster) = observed.cluster_mut() {
        cluster.replication_role = Reading::Unknown(why.to_owned());
    }
}

fn out_of_reach(why: &str) -> NodeObserved {
    NodeObserved {
        binaries: Reading::Unknown(why.to_owned()),
        place: Reading::Unknown(why.to_owned()),
        server: Reading::Unknown(why.to_owned()),
        port_taken: Reading::Unknown(why.to_owned()),
        controller: Reading::Unknown(why.to_owned()),
        rooms: Vec::new(),
        readiness: Readiness::default(),
        tls: Vec::new(),
        confirmed_dead: false,
    }
}

/// What the machine tells of a node without its server.
struct Local {
    found: Found,
    running: Reading<Running>,
    port_taken: Reading<String>,
}

impl Local {
    async fn look(topology: &Topology, node: &Node, passwords: &Passwords, seat: &Arc<Seat>) -> Self {
        let expected = place::Expected {
            data_dir: node.data_dir.clone(),
            config_dir: node.config_dir.clone(),
            owner: (seat.uid(), seat.user().to_owned()),
            passfile: passfile_text(topology, passwords),
            root_makes_parents: rustix::process::geteuid().is_root(),
            outside: node.outside().map(str::to_owned).collect(),
        };
        let (found, running) = seat.blocking(move || files_and_server(&expected)).await;
        let (host, port) = (node.host.clone(), node.port);
        let port_taken = if running.known().is_some_and(|running| running.port == Some(port)) {
            Reading::Absent
        } else {
            // With our own rights: the node's user sees only whether a port is taken, root also by whom.
            let own = Seat::of(None).unwrap_or_else(|_| Arc::clone(seat));
            own.blocking(move || ports::taken(&host, port)).await
        };
        if port_taken.known().is_some() {
            // By the node's own server, where that was started since it was looked for.
            let data_dir = node.data_dir.clone();
            let now = seat.blocking(move || server::look(&data_dir)).await;
            if let Some(started) = now.known().filter(|now| now.port == Some(port)) {
                let running = Reading::Known(Running::passing(started.pid));
                return Self { found, running, port_taken: Reading::Absent };
            }
        }
        Self { found, running, port_taken }
    }
}

/// Reads the files between two looks at the server, until both agree: files of a server that has just stopped
/// would look like those of one that crashed.
fn files_and_server(expected: &place::Expected) -> (Found, Reading<Running>) {
    let mut before = server::look(&expected.data_dir);
    let mut looks = 0;
    loop {
        looks += 1;
        let found = place::look(expected, before.is_absent());
        let after = server::look(&expected.data_dir);
        let same_server = match (&before, &after) {
            (Reading::Known(before), Reading::Known(after)) => before.pid == after.pid,
            (Reading::Absent, Reading::Absent) | (Reading::Unknown(_), Reading::Unknown(_)) => true,
            (Reading::Known(_) | Reading::Absent | Reading::Unknown(_), _) => false,
        };
        if same_server {
            return (found, after);
        }
        if looks == LOOKS {
            let passing = after.known().or(before.known()).map(|running| Running::passing(running.pid));
            return (found, passing.map_or(after, Reading::Known));
        }
        before = after;
    }
}

/// Returns what pgpair's passfile should say; none where the password can't be had.
fn passfile_text(topology: &Topology, passwords: &Passwords) -> Option<String> {
    let Some(password) = passwords.replication.as_ref().ok()? else { return Some(String::new()) };
    let entries = desired::passfile_entries(topology);
    let lines = entries.iter().map(|entry| passfile::line(&entry.database, &entry.user, password));
    Some(lines.collect())
}

/// All that a server was asked.
struct Answer {
    said: Said,
    /// Lines of the files for parameters that our session or role overrides, as far as they may be seen.
    in_files: Option<BTreeMap<String, String>>,
    role: Reading<ReplicationRole>,
    /// Why the files that were read are not those that the server goes by.
    other_files: Option<String>,
}

/// Whom to ask, and on whose behalf.
struct Asking<'a> {
    topology: &'a Topology,
    node: &'a Node,
    passwords: &'a Passwords,
    seat: &'a Seat,
    running: &'a Running,
    system_identifier: Option<u64>,
}

/// Why nothing that a server says can be used.
struct Unasked {
    why: String,
    /// The connection was cut.
    is_lost: bool,
}

impl From<String> for Unasked {
    fn from(why: String) -> Self {
        Self { why, is_lost: false }
    }
}

impl From<SqlError> for Unasked {
    fn from(error: SqlError) -> Self {
        Self { why: error.to_string(), is_lost: error.is_lost }
    }
}

impl Asking<'_> {
    /// Asks the server, and once more where the connection is cut meanwhile. An error says why nothing that it says can
    /// be used.
    async fn ask(&self, cluster: Option<&Cluster>) -> Result<Answer, String> {
        let asked = match self.ask_once(cluster).await {
            Err(Unasked { is_lost: true, .. }) => self.ask_once(cluster).await,
            asked => asked,
        };
        asked.map_err(|unasked| unasked.why)
    }

    async fn ask_once(&self, cluster: Option<&Cluster>) -> Result<Answer, Unasked> {
        let Some(system_identifier) = self.system_identifier else {
            return Err("whose server it is can't be told without pg_control".to_owned().into());
        };
        let endpoint = self.endpoint()?;
        let session = Session::open(self.seat, &endpoint).await?;
        let names = concerned(self.topology, self.node, cluster);
        let (said, role) = join(session.look(&names), self.replication_role(&endpoint, &session)).await;
        let (said, role) = (said?, role?);

        let data_dir = self.node.data_dir.clone();
        let whose = Whose { system_identifier, data_dir, started: self.running.started };
        let (paths, config_dir) = (said.clone(), self.node.config_dir.clone());
        let compare = move || {
            let other_files = other_files(&paths, &whose.data_dir, config_dir.as_deref());
            (whose.mismatch(&paths, same_file), other_files)
        };
        let (mismatch, other_files) = self.seat.blocking(compare).await;
        if let Some(mismatch) = mismatch {
            return Err(format!("the server on port {} is another one: {mismatch}", endpoint.port).into());
        }
        if !said.may_see {
            let user = &said.user;
            return Err(format!("`{user}` may not see all settings and replication: grant pg_monitor to it").into());
        }
        let overridden = said.settings.iter().filter(|(_, row)| row.is_overridden());
        let overridden: Vec<String> = overridden.map(|(name, _)| name.clone()).collect();
        let in_files = if overridden.is_empty() { None } else { session.file_settings(&overridden).await.ok() };
        Ok(Answer { said, in_files, role, other_files })
    }

    fn endpoint(&self) -> Result<Endpoint, String> {
        let Running { port, socket_dir, .. } = self.running;
        let Some(port) = *port else { return Err("it is starting or stopping".to_owned()) };
        let admin = &self.topology.admin;
        if socket_dir.is_none() && admin.sslmode >= SslMode::Require {
            let mode = admin.sslmode.as_str();
            return Err(format!(
                "the server has no Unix socket, and pgpair can't encrypt, as `admin.sslmode: {mode}` wants"
            ));
        }
        Ok(Endpoint {
            socket_dir: socket_dir.clone(),
            port,
            user: admin.user.clone().unwrap_or_else(|| self.seat.user().to_owned()),
            database: admin.database.clone(),
            password: self.passwords.admin.clone()?,
        })
    }

    /// Tries the reverse connection to a server that its files make a standby.
    async fn reverse(&self, cluster: Option<&Cluster>) -> Reading<Reverse> {
        let is_standby = cluster.is_some_and(|own| comes_up_as(&own.markers, own.major) == Role::Standby);
        if !is_standby || self.running.port.is_none() || self.topology.nodes.len() == 1 {
            return Reading::Absent;
        }
        // Every new walsender signals its postmaster, which then sees the file and promotes: a look must not do that.
        if cluster.is_some_and(|own| own.markers.promote) {
            return Reading::Unknown("it has a file `promote`, and any replication connection would promote it".into());
        }
        reverse::connection_to(self.topology, self.node, self.passwords, self.system_identifier).await
    }

    /// Asks for the replication role, and judges its verifier.
    ///
    /// An error only where the connection was cut: all else is part of what was seen.
    async fn replication_role(
        &self,
        endpoint: &Endpoint,
        session: &Session,
    ) -> Result<Reading<ReplicationRole>, SqlError> {
        let name = &self.topology.replication.user;
        let verifier = async {
            let stored = session.verifier(name).await?;
            Ok(self.judge(stored).await)
        };
        let grants = self.rewind_grants(endpoint, session);
        let (role, (verifier, rewind_grants)) = join(session.role(name), join(verifier, grants)).await;
        let unknown =
            |error: SqlError| if error.is_lost { Err(error) } else { Ok(Reading::Unknown(error.to_string())) };
        let role = match role {
            Ok(Some(role)) => role,
            Ok(None) => return Ok(Reading::Absent),
            Err(error) => return unknown(error),
        };
        match (verifier, rewind_grants) {
            (Ok(verifier), Ok(rewind_grants)) => Ok(Reading::Known(ReplicationRole {
                login: role.login,
                replication: role.replication,
                superuser: role.superuser,
                connection_limit: role.connection_limit,
                verifier,
                rewind_grants,
            })),
            (Err(error), _) if SqlError::is_denied(&error) => {
                let user = &endpoint.user;
                let why = format!("the password of `{name}` is for superusers to see, which `{user}` is not");
                Ok(Reading::Unknown(why))
            }
            (Err(error), _) | (Ok(_), Err(error)) => unknown(error),
        }
    }

    /// Grants are of one database, so that another `admin.database` takes a second session.
    async fn rewind_grants(&self, endpoint: &Endpoint, session: &Session) -> Result<bool, SqlError> {
        let name = &self.topology.replication.user;
        if endpoint.database == REWIND_DATABASE {
            session.rewind_grants(name).await
        } else if self.topology.postgresql.version.dialect().rewind_by_grants {
            let endpoint = Endpoint { database: REWIND_DATABASE.to_owned(), ..endpoint.clone() };
            Session::open(self.seat, &endpoint).await?.rewind_grants(name).await
        } else {
            Ok(false)
        }
    }

    async fn judge(&self, stored: Option<Secret>) -> Verifier {
        let Some(stored) = stored else { return Verifier::None };
        let Ok(Some(secret)) = self.passwords.replication.clone() else { return Verifier::NotCompared };
        let (auth, role) = (self.topology.replication.auth, self.topology.replication.user.clone());
        // Thousands of rounds: not on a thread that others wait for.
        let matches = self.seat.blocking(move || is_made_from(&stored, &secret, auth, &role)).await;
        if matches { Verifier::Matches } else { Verifier::Differs }
    }
}

/// Says which file the server reads that is not the one that was looked at.
fn other_files(said: &Said, data_dir: &str, config_dir: Option<&str>) -> Option<String> {
    let files = [("postgresql.conf", &said.config_file), ("pg_hba.conf", &said.hba_file)];
    files.into_iter().find_map(|(name, theirs)| {
        let ours = place::conf_path(data_dir, config_dir, name);
        let theirs = theirs.as_deref().filter(|theirs| !same_file(theirs, &ours))?;
        Some(format!("the server reads {theirs}, not {ours}: `config_dir` says where the node's configuration is"))
    })
}

/// Returns the parameters to ask a node's server for.
fn concerned(topology: &Topology, node: &Node, cluster: Option<&Cluster>) -> Vec<String> {
    let mut names: BTreeSet<String> = ALWAYS.map(str::to_owned).into();
    names.extend(desired::DERIVED_DEFAULTS.map(str::to_owned));
    names.extend(topology.parameters_of(node).into_keys());
    names.extend(desired::settings(topology, node).into_keys());
    if let Some(cluster) = cluster
        && let Ok(Some(found)) = block::find(&cluster.conf.main.text)
    {
        names.extend(conf::set_by(&found.block).into_keys());
    }
    names.into_iter().collect()
}

/// Whether a verifier is of this secret, and of a kind that lets its owner in by the topology's method.
fn is_made_from(stored: &Secret, secret: &Secret, auth: ReplicationAuth, role: &str) -> bool {
    let by_scram = scram::matches(stored.reveal(), secret);
    match auth {
        // The method refuses an MD5 verifier.
        ReplicationAuth::ScramSha256 => by_scram,
        ReplicationAuth::Md5 | ReplicationAuth::Trust | ReplicationAuth::Cert => {
            by_scram || scram::md5_matches(stored.reveal(), secret, role)
        }
    }
}

impl Answer {
    /// Puts what the server said of the cluster into its place, and returns what it said of itself.
    fn into_observed(self, observed: &mut NodeObserved, changed: &Changed) -> Sql {
        let Self { said, in_files, role, other_files } = self;
        if let Some(cluster) = observed.cluster_mut() {
            cluster.replication_role = role;
            cluster.slots = slots(&said);
        }
        if let Some(why) = other_files {
            observed.place = Reading::Unknown(why);
        }
        Sql {
            in_recovery: said.in_recovery,
            timeline: timeline(&said),
            lsn: position(&said),
            replayed: said.replayed,
            replay_paused: said.replay_paused,
            // It begins with what it has, and has received nothing, not even of a time before, until it has asked.
            asks_from: said.received.max(said.replayed).filter(|_| said.received.is_some()),
            settings: settings(&said, in_files.as_ref()),
            // A reload reads all files, and this is when the last one was. For pg_hba.conf it is a proxy, as no view
            // tells when that was taken over: rules that the server refused at its last reload count as loaded, and
            // so does a file that was put there with an old time.
            hba_loaded: said.conf_loaded >= changed.hba,
            // A reload of a configuration with an error does not count as one here (the load time stays).
            conf_loaded: said.conf_loaded >= changed.conf,
            recovery_conf_loaded: said.started_exactly >= changed.recovery_conf,
            receiver: said.receiver.as_ref().map(receiver),
            senders: senders(&said),
            busy: Busy { unarchivable: said.unarchivable, transaction: said.transaction, prepared: said.prepared },
            version: said.version,
        }
    }
}

/// The running timeline: of a standby without a receiver the highest that pg_control has.
fn timeline(said: &Said) -> Timeline {
    let received = said.receiver.as_ref().and_then(|receiver| receiver.received_tli);
    said.running_timeline.or(received).unwrap_or(said.known_timeline)
}

/// Of a standby the further of both: after a restart the received position may be the start of a segment, or none.
fn position(said: &Said) -> Lsn {
    said.written.max(said.received).max(said.replayed).unwrap_or_default()
}

/// A parameter that our session, role or database overrides has the value of its last applied line, else its default;
/// where the files' view is denied, it is left out.
fn settings(said: &Said, in_files: Option<&BTreeMap<String, String>>) -> BTreeMap<String, Setting> {
    let setting = |(name, row): (&String, &SettingRow)| {
        let (value, source) = if row.is_overridden() {
            match in_files?.get(name) {
                Some(value) => (value.clone(), "configuration file"),
                None => (row.boot_val.clone().unwrap_or_default(), "default"),
            }
        } else {
            (row.setting.clone().unwrap_or_default(), row.source.as_str())
        };
        let context = row.context.parse().ok()?;
        let setting = Setting { value, context, source: source.to_owned(), pending_restart: row.pending_restart };
        Some((name.clone(), setting))
    };
    said.settings.iter().filter_map(setting).collect()
}

/// Temporary slots come and go with a backup, and are nobody's wish.
fn slots(said: &Said) -> BTreeMap<String, Slot> {
    let lasting = said.slots.iter().filter(|slot| !slot.temporary);
    let slot = |row: &ReplicationSlot| Slot {
        physical: row.slot_type == "physical",
        active: row.active,
        reserved: row.restart_lsn.is_some(),
        wal_status: row.wal_status.clone(),
        retained: row.restart_lsn.map(|from| position(said).0.saturating_sub(from.0)),
    };
    lasting.map(|row| (row.slot_name.clone(), slot(row))).collect()
}

fn receiver(row: &WalReceiver) -> Receiver {
    let conninfo = row.conninfo.as_deref().and_then(|text| Conninfo::parse(text).ok()).unwrap_or_default();
    let get = |key: &str| conninfo.get(key).filter(|value| !value.is_empty()).map(str::to_owned);
    let is_one = conninfo.servers().count() == 1;
    let host = get("hostaddr").or_else(|| get("host")).filter(|_| is_one);
    let port = get("port").and_then(|port| port.parse().ok()).filter(|_| is_one);
    Receiver {
        status: row.status.clone().unwrap_or_default(),
        host: host.or_else(|| row.sender_host.clone()),
        port: port.or(row.sender_port),
        user: get("user"),
        slot: row.slot_name.clone(),
        application_name: get("application_name").or_else(|| get("fallback_application_name")),
        timeline: row.received_tli.unwrap_or(Timeline(0)),
    }
}

/// A look that tries a replication connection is none of them, nor is another run's.
fn senders(said: &Said) -> Vec<Sender> {
    let others = said.senders.iter().filter(|sender| sender.application_name.as_deref() != Some(OWN_NAME));
    others.map(|row| sender(row, &said.slots)).collect()
}

fn sender(row: &WalSender, slots: &[ReplicationSlot]) -> Sender {
    let slot = slots.iter().find(|slot| slot.active_pid.is_some() && slot.active_pid == row.pid);
    Sender {
        application_name: row.application_name.clone().unwrap_or_default(),
        client_addr: row.client_addr.clone(),
        state: row.state.clone().unwrap_or_default(),
        slot: slot.map(|slot| slot.slot_name.clone()),
        sent: row.sent_lsn,
        flushed: row.flush_lsn,
        replayed: row.replay_lsn,
        sync_state: row.sync_state.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use serde_json::json;

    /// What a fresh standby without a receiver says, with these keys changed.
    fn said(changes: &Value) -> Said {
        let mut answer = json!({
            "may_see": true, "user": "postgres", "version": "15.18", "system_identifier": "-1000000000000000001",
            "started": 1, "started_exactly": 1, "conf_loaded": 1, "data_directory": null, "config_file": null, "hba_file": null,
            "in_recovery": true, "running_timeline": null, "known_timeline": 2, "written": null, "received": null,
            "replayed": null, "replay_paused": false, "receiver": null, "senders": [], "slots": [], "settings": {}
        });
        for (key, value) in changes.as_object().expect("an object") {
            answer[key] = value.clone();
        }
        serde_json::from_value(answer).expect("an answer")
    }

    #[test]
    fn a_system_identifier_above_the_range_of_bigint_is_that_of_pg_control() {
        assert_eq!(said(&json!({})).system_identifier, 17_446_744_073_709_551_615);
    }

    #[test]
    fn a_standbys_position_is_the_further_of_received_and_replayed() {
        assert_eq!(position(&said(&json!({}))), Lsn(0));
        // After a restart, the received position is the start of a segment.
        let restarted = said(&json!({"received": "0/3000000", "replayed": "0/30186B0"}));
        assert_eq!(position(&restarted), Lsn(0x0301_86B0));
        assert_eq!(position(&said(&json!({"received": "1/0", "replayed": "0/FFFFFFFF"}))), Lsn(1 << 32));
    }

    #[test]
    fn the_running_timeline_is_that_of_the_wal_then_of_the_receiver_then_of_pg_control() {
        let receiver =
            json!({"status": "streaming", "received_tli": 4, "slot_name": null, "conninfo": "host=h user=''"});
        assert_eq!(timeline(&said(&json!({}))), Timeline(2));
        let streaming = said(&json!({"receiver": receiver}));
        assert_eq!(timeline(&streaming), Timeline(4));
        assert_eq!(timeline(&said(&json!({"running_timeline": 5, "in_recovery": false}))), Timeline(5));
        let seen = super::receiver(streaming.receiver.as_ref().expect("a receiver"));
        assert_eq!((seen.host.as_deref(), seen.port, seen.user), (Some("h"), None, None));
    }

    #[test]
    fn a_setting_that_our_role_overrides_is_the_files_or_the_default_or_unseen() {
        let row = |source: &str| json!({"setting": "9", "context": "user", "source": source, "boot_val": "4", "pending_restart": false});
        let said = said(&json!({"settings": {"a": row("user"), "b": row("client"), "c": row("command line")}}));
        let values = |in_files: Option<&BTreeMap<String, String>>| -> Vec<String> {
            let settings = settings(&said, in_files);
            settings.iter().map(|(name, setting)| format!("{name}={} ({})", setting.value, setting.source)).collect()
        };
        let in_files = BTreeMap::from([("a".to_owned(), "5".to_owned())]);
        assert_eq!(values(Some(&in_files)), ["a=5 (configuration file)", "b=4 (default)", "c=9 (command line)"]);
        assert_eq!(values(None), ["c=9 (command line)"], "what the files say may not be seen");
    }

    #[test]
    fn temporary_slots_are_left_out() {
        let slot = |name: &str, temporary: bool| {
            json!({"slot_name": name, "slot_type": "physical", "temporary": temporary, "active": true,
                "restart_lsn": "0/1"})
        };
        let said = said(&json!({"slots": [slot("kept", false), slot("pg_basebackup_7", true)]}));
        assert_eq!(slots(&said).into_keys().collect::<Vec<_>>(), ["kept"]);
    }

    #[test]
    fn another_server_is_told_by_identity_folder_or_start() {
        let whose = |started| Whose { system_identifier: 7, data_dir: "/data/a".into(), started };
        let said = |identifier: &str, folder: Option<&str>| {
            said(&json!({"system_identifier": identifier, "data_directory": folder, "started": 10}))
        };
        let mismatch = |whose: Whose, said: &Said| whose.mismatch(said, |one, other| one == other);
        assert_eq!(mismatch(whose(10), &said("7", Some("/data/a"))), None);
        assert_eq!(mismatch(whose(10), &said("7", None)), None);
        let other = mismatch(whose(10), &said("8", Some("/data/a")));
        assert_eq!(other.as_deref(), Some("its system identifier is 8, not 7"));
        let other = mismatch(whose(10), &said("7", Some("/data/b")));
        assert_eq!(other.as_deref(), Some("its data directory is /data/b, not /data/a"));
        let other = mismatch(whose(11), &said("7", Some("/data/a")));
        assert_eq!(other.as_deref(), Some("it was started before postmaster.pid of /data/a was written"));
    }
}
