//! SQL sessions: how pgpair connects, what it asks a server, and what an error means.
//!
//! A look is one round trip: every question is one statement without preparation, and the statements are sent
//! together. Answers are JSON, which hides the columns that came and went between 10 and 18. Nothing is spliced into
//! SQL: what comes from a topology is a parameter.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio_postgres::Client;
use tokio_postgres::Config;
use tokio_postgres::NoTls;
use tokio_postgres::Row;
use tokio_postgres::error::DbError;
use tokio_postgres::error::Severity;
use tokio_postgres::types::ToSql;
use tokio_postgres::types::Type;

use crate::observed::Lasting;
use crate::pg::lsn::Lsn;
use crate::pg::lsn::Timeline;
use crate::pg::secret::Secret;
use crate::world::user::Seat;

/// The application name of every connection of pgpair's.
pub const OWN_NAME: &str = "pgpair";

/// How long a connection may take, authentication included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer to a look may take: a server that hangs does not even see its own statement timeout.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Limits of every session: no statement of ours may hang, or queue others behind a lock. The search path keeps
/// functions that somebody else made in the database out of our statements.
const OPTIONS: &str = "-c statement_timeout=30s -c lock_timeout=5s -c idle_in_transaction_session_timeout=60s \
                       -c search_path=pg_catalog";

/// Where and as whom to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The folder of the Unix socket; absent: TCP to localhost.
    pub socket_dir: Option<String>,
    pub port: u16,
    pub user: String,
    pub database: String,
    pub password: Option<Secret>,
}

impl Endpoint {
    /// As it is named in messages.
    fn place(&self) -> String {
        match &self.socket_dir {
            Some(dir) => format!("{dir}/.s.PGSQL.{}", self.port),
            None => format!("localhost:{}", self.port),
        }
    }
}

/// What went wrong between pgpair and a server, in one sentence with all that the server said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    /// The SQLSTATE, where it was the server that refused.
    pub code: Option<String>,
    /// The session has ended, and with it whatever it was at: the server ended it, or is gone itself.
    pub is_lost: bool,
    /// No answer came in time; what has become of the statement is not known.
    is_late: bool,
    message: String,
}

impl SqlError {
    /// Whether the server took the session and denied this statement for want of a privilege.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.code.as_deref() == Some("42501")
    }

    /// What to do about it, where the server itself does not say.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        if self.is_lost {
            Some("its log tells why; apply again when it answers: what is done is not done again")
        } else if self.is_late {
            Some("see whether it hangs (its log, its processes), and apply again; --timeout waits longer")
        } else {
            None
        }
    }

    fn plain(message: String) -> Self {
        Self { code: None, is_lost: false, is_late: false, message }
    }

    fn connecting(error: &tokio_postgres::Error, endpoint: &Endpoint) -> Self {
        let user = &endpoint.user;
        let Some(code) = error.code() else {
            return Self::plain(match io_kind(error) {
                Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                    format!("no server answers at {}", endpoint.place())
                }
                Some(io::ErrorKind::PermissionDenied) => {
                    format!("the operating system denies access to {}", endpoint.place())
                }
                Some(io::ErrorKind::TimedOut) => timed_out(endpoint),
                // The library knows before the server does.
                None if endpoint.password.is_none() && all_of(error).ends_with("password missing") => {
                    format!("the server asks `{user}` for a password, and the topology has no `admin.password`")
                }
                Some(_) | None => format!("the connection to {} failed: {}", endpoint.place(), all_of(error)),
            });
        };
        let said = all_of(error);
        let message = match code.code() {
            "57P03" => format!("the server takes no connections now: {said}"),
            "28P01" => format!("the server refuses the password of `{user}` (`admin.password`): {said}"),
            "28000" => {
                let hint = if endpoint.password.is_none() && endpoint.socket_dir.is_some() {
                    "; without `admin.password`, pg_hba.conf must let that role in by `peer`, as an operating-system \
                     user of the same name (`os_user`, `admin.user`)"
                } else {
                    ""
                };
                format!("the server does not let `{user}` in: {said}{hint}")
            }
            "53300" => format!("the server has no connection left for `{user}`: {said}"),
            "57P01" | "57P02" => format!("the server has ended the connection: {said}"),
            _ => format!("the server refuses the connection: {said}"),
        };
        let is_lost = ["57P01", "57P02"].contains(&code.code());
        Self { code: Some(code.code().to_owned()), is_lost, is_late: false, message }
    }
}

impl From<tokio_postgres::Error> for SqlError {
    fn from(error: tokio_postgres::Error) -> Self {
        let said = all_of(&error);
        let is_lost = ends_the_session(&error);
        let message = if is_lost { format!("the connection to the server was lost: {said}") } else { said };
        Self { code: error.code().map(|code| code.code().to_owned()), is_lost, is_late: false, message }
    }
}

/// Whether no session is left after an error: the server said so by its severity, or its end of the socket was closed.
fn ends_the_session(error: &tokio_postgres::Error) -> bool {
    let severity = error.as_db_error().and_then(DbError::parsed_severity);
    error.is_closed() || io_kind(error).is_some() || matches!(severity, Some(Severity::Fatal | Severity::Panic))
}

fn timed_out(endpoint: &Endpoint) -> String {
    format!("{} did not answer within {} s", endpoint.place(), CONNECT_TIMEOUT.as_secs())
}

fn io_kind(error: &tokio_postgres::Error) -> Option<io::ErrorKind> {
    let source = std::error::Error::source(error)?;
    source.downcast_ref::<io::Error>().map(io::Error::kind)
}

/// Returns all that the server said, or all that the library knows.
fn all_of(error: &tokio_postgres::Error) -> String {
    let Some(said) = error.as_db_error() else {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        return text;
    };
    let mut text = said.message().to_owned();
    for more in [said.detail(), said.hint()].into_iter().flatten() {
        text = format!("{text} ({more})");
    }
    text
}

/// An open session. Dropping it ends it.
#[derive(Debug)]
pub struct Session {
    client: Client,
    /// How long an answer may take.
    patience: Duration,
}

impl Session {
    /// Connects, with the rights of the seat's user.
    ///
    /// # Errors
    ///
    /// [`SqlError`], which says what the server or the operating system refused.
    pub async fn open(seat: &Seat, endpoint: &Endpoint) -> Result<Self, SqlError> {
        let mut config = Config::new();
        match &endpoint.socket_dir {
            Some(dir) => config.host_path(dir),
            None => config.host("localhost"),
        };
        config
            .port(endpoint.port)
            .user(&endpoint.user)
            .dbname(&endpoint.database)
            .application_name(OWN_NAME)
            .options(OPTIONS);
        if let Some(password) = &endpoint.password {
            config.password(password.reveal());
        }
        // Peer authentication looks at the thread that connects, so that is done on the seat.
        let connected = seat.run(async move {
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, config.connect(NoTls)).await;
            connected.map(|connected| {
                connected.map(|(client, connection)| {
                    tokio::spawn(connection);
                    client
                })
            })
        });
        match connected.await {
            Ok(Ok(client)) => Ok(Self { client, patience: ANSWER_TIMEOUT }),
            Ok(Err(error)) => Err(SqlError::connecting(&error, endpoint)),
            Err(_) => Err(SqlError::plain(timed_out(endpoint))),
        }
    }

    /// Lets every answer take as long as this.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Returns the client, for statements that take as long as they take.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Asks a statement of the caller's own.
    ///
    /// # Errors
    ///
    /// [`SqlError`], also where no answer comes in time: what the server makes of the statement is not known then.
    pub async fn query(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, SqlError> {
        self.in_time(self.client.query(statement, params)).await
    }

    /// The same, of one that answers with one row.
    ///
    /// # Errors
    ///
    /// As [`Session::query`].
    pub async fn query_one(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row, SqlError> {
        self.in_time(self.client.query_one(statement, params)).await
    }

    /// The same, of one that answers with one row or none.
    ///
    /// # Errors
    ///
    /// As [`Session::query`].
    pub async fn query_opt(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, SqlError> {
        self.in_time(self.client.query_opt(statement, params)).await
    }

    /// Runs a statement that has no answer and takes no parameters.
    ///
    /// # Errors
    ///
    /// As [`Session::query`].
    pub async fn run(&self, statement: &str) -> Result<(), SqlError> {
        self.in_time(self.client.batch_execute(statement)).await
    }

    async fn in_time<T>(&self, answer: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, SqlError> {
        match tokio::time::timeout(self.patience, answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => {
                let message = format!("the server did not answer within {} s", self.patience.as_secs_f64());
                Err(SqlError { is_late: true, ..SqlError::plain(message) })
            }
        }
    }

    async fn row(&self, statement: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<Option<Row>, SqlError> {
        self.in_time(self.client.query_typed_opt(statement, params)).await
    }

    /// Asks one statement that answers with one JSON value, or with no row.
    async fn ask<T: DeserializeOwned>(
        &self,
        statement: &str,
        params: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Option<T>, SqlError> {
        let Some(row) = self.row(statement, params).await? else { return Ok(None) };
        let text: &str = row.try_get(0)?;
        let answer = serde_json::from_str(text);
        answer.map(Some).map_err(|error| SqlError::plain(format!("the server's answer can't be read: {error}")))
    }

    /// Asks what the server says of itself. `names`: the parameters to ask for, in lower case; those that a file, the
    /// command line, a role or a database sets are told unasked, and those that wait for a restart.
    ///
    /// # Errors
    ///
    /// [`SqlError`], also where the session may not see replication and settings.
    pub async fn look(&self, names: &[String]) -> Result<Said, SqlError> {
        let said: Option<Said> = self.ask(LOOK, &[(&names, Type::TEXT_ARRAY)]).await?;
        said.ok_or_else(|| SqlError::plain("the server gave no answer".to_owned()))
    }

    /// Asks for the last applied line of each of these parameters in the configuration files, as it is written there.
    ///
    /// # Errors
    ///
    /// [`SqlError`]; [`SqlError::is_denied`] without the grant on `pg_file_settings`.
    pub async fn file_settings(&self, names: &[String]) -> Result<BTreeMap<String, String>, SqlError> {
        Ok(self.ask(FILE_SETTINGS, &[(&names, Type::TEXT_ARRAY)]).await?.unwrap_or_default())
    }

    /// Asks for a role's attributes, as every session may see them.
    ///
    /// # Errors
    ///
    /// [`SqlError`].
    pub async fn role(&self, name: &str) -> Result<Option<Role>, SqlError> {
        self.ask(ROLE, &[(&name, Type::TEXT)]).await
    }

    /// Asks for the roles that standbys may log in as, superusers last.
    ///
    /// # Errors
    ///
    /// [`SqlError`].
    pub async fn replication_roles(&self) -> Result<Vec<String>, SqlError> {
        Ok(self.ask(REPLICATION_ROLES, &[]).await?.unwrap_or_default())
    }

    /// Asks whether a role has EXECUTE on what pg_rewind reads through, in this session's database.
    ///
    /// # Errors
    ///
    /// [`SqlError`].
    pub async fn rewind_grants(&self, role: &str) -> Result<bool, SqlError> {
        Ok(self.ask(REWIND_GRANTS, &[(&role, Type::TEXT)]).await?.unwrap_or(false))
    }

    /// Asks for the verifier of a role's password, to be compared and forgotten. Absent: no role, or no password.
    ///
    /// # Errors
    ///
    /// [`SqlError`]; [`SqlError::is_denied`] unless the session is a superuser's.
    pub async fn verifier(&self, role: &str) -> Result<Option<Secret>, SqlError> {
        let row = self.row(VERIFIER, &[(&role, Type::TEXT)]).await?;
        let text: Option<String> = row.map(|row| row.try_get(0)).transpose()?.flatten();
        Ok(text.map(Secret::new))
    }
}

/// The state of a server of either role, 10 to 18.
///
/// Role and positions are of one statement, and the role is asked once: a promotion in between makes the statement
/// fail, and never gives the position of one role for that of the other. `pg_current_wal_lsn()` is what is written;
/// the insert position can be ahead of it for ever on an idle server. The name of a WAL file has the running
/// timeline, which pg_control lacks until the first checkpoint after a promotion.
const LOOK: &str = "
select jsonb_build_object(
    'may_see', pg_has_role('pg_read_all_settings', 'usage') and pg_has_role('pg_read_all_stats', 'usage'),
    'user', session_user,
    'version', current_setting('server_version'),
    'system_identifier', (select system_identifier::text from pg_control_system()),
    'started', floor(extract(epoch from pg_postmaster_start_time()))::bigint,
    'started_exactly', floor(extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint,
    'conf_loaded', floor(extract(epoch from pg_conf_load_time()) * 1000000)::bigint,
    'data_directory', (select setting from pg_settings where name = 'data_directory'),
    'config_file', (select setting from pg_settings where name = 'config_file'),
    'hba_file', (select setting from pg_settings where name = 'hba_file'),
    'in_recovery', in_recovery,
    'running_timeline', case when not in_recovery
        then ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int end,
    'known_timeline', (select greatest(c.timeline_id, r.min_recovery_end_timeline)
        from pg_control_checkpoint() c, pg_control_recovery() r),
    'written', case when not in_recovery then pg_current_wal_lsn() end,
    'received', case when in_recovery then pg_last_wal_receive_lsn() end,
    'replayed', case when in_recovery then pg_last_wal_replay_lsn() end,
    'replay_paused', case when in_recovery then pg_is_wal_replay_paused() else false end,
    'receiver', (select to_jsonb(r) from pg_stat_wal_receiver r),
    'senders', (select coalesce(jsonb_agg(to_jsonb(r)), '[]') from pg_stat_replication r),
    'unarchivable', (select last_failed_wal from pg_stat_archiver
        where current_setting('archive_mode') <> 'off'
            and last_failed_time > coalesce(last_archived_time, '-infinity')),
    'transaction', (select jsonb_build_object('what', pid::text,
            'seconds', greatest(floor(extract(epoch from clock_timestamp() - xact_start)), 0)::bigint)
        from pg_stat_activity
        where backend_type = 'client backend' and pid <> pg_backend_pid() and xact_start is not null
        order by xact_start limit 1),
    'prepared', case when not in_recovery then (select jsonb_build_object('what', gid,
            'seconds', greatest(floor(extract(epoch from clock_timestamp() - prepared)), 0)::bigint)
        from pg_prepared_xacts order by prepared limit 1) end,
    'slots', (select coalesce(jsonb_agg(to_jsonb(r)), '[]') from pg_replication_slots r),
    'settings', (select coalesce(jsonb_object_agg(lower(name), to_jsonb(s)), '{}')
        from (select name, setting, context, source, boot_val, pending_restart from pg_settings
            where lower(name) = any ($1) or pending_restart or source in
                ('configuration file', 'command line', 'database', 'user', 'database user')) s)
)::text
from (select pg_is_in_recovery() as in_recovery offset 0) now";

const FILE_SETTINGS: &str = "
select coalesce(jsonb_object_agg(lower(name), setting order by seqno), '{}')::text
from pg_file_settings where applied and lower(name) = any ($1)";

const ROLE: &str = "
select jsonb_build_object('login', rolcanlogin, 'replication', rolreplication, 'superuser', rolsuper,
    'connection_limit', rolconnlimit)::text
from pg_roles where rolname::text = $1";

const REPLICATION_ROLES: &str = "
select coalesce(json_agg(rolname order by rolsuper, rolname), '[]')::text
from pg_roles where rolcanlogin and (rolreplication or rolsuper)";

/// The four functions are those of the manual's page on pg_rewind. Grants are of one database each.
const REWIND_GRANTS: &str = "
select bool_and(has_function_privilege(r.oid, f, 'execute'))::text
from pg_roles r, unnest(array['pg_ls_dir(text,boolean,boolean)', 'pg_stat_file(text,boolean)',
    'pg_read_binary_file(text)', 'pg_read_binary_file(text,bigint,bigint,boolean)']::regprocedure[]) f
where r.rolname::text = $1
having count(*) > 0";

const VERIFIER: &str = "select rolpassword from pg_authid where rolname::text = $1";

/// The answer to [`Session::look`].
#[derive(Clone, Debug, Deserialize)]
pub struct Said {
    /// Whether the session may see all settings and statistics; without it, rows and columns are missing.
    pub may_see: bool,
    pub user: String,
    pub version: String,
    #[serde(deserialize_with = "number_in_text")]
    pub system_identifier: u64,
    /// Seconds since the epoch, rounded down.
    pub started: i64,
    /// Microseconds since the epoch, as the next.
    pub started_exactly: i64,
    pub conf_loaded: i64,
    pub data_directory: Option<String>,
    pub config_file: Option<String>,
    pub hba_file: Option<String>,
    pub in_recovery: bool,
    pub running_timeline: Option<Timeline>,
    /// The highest timeline that pg_control has.
    pub known_timeline: Timeline,
    pub written: Option<Lsn>,
    pub received: Option<Lsn>,
    pub replayed: Option<Lsn>,
    pub replay_paused: bool,
    pub receiver: Option<WalReceiver>,
    pub senders: Vec<WalSender>,
    pub slots: Vec<ReplicationSlot>,
    pub unarchivable: Option<String>,
    pub transaction: Option<Lasting>,
    pub prepared: Option<Lasting>,
    pub settings: BTreeMap<String, SettingRow>,
}

fn number_in_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    // The view's column is a signed bigint.
    let text = String::deserialize(deserializer)?;
    let number = text.parse::<i64>().map_err(serde::de::Error::custom)?;
    Ok(number.cast_unsigned())
}

/// A row of pg_stat_wal_receiver.
#[derive(Clone, Debug, Deserialize)]
pub struct WalReceiver {
    pub status: Option<String>,
    pub received_tli: Option<Timeline>,
    pub slot_name: Option<String>,
    pub conninfo: Option<String>,
    /// 11 and later: what it is connected to, also where the connection string names no host, or several.
    pub sender_host: Option<String>,
    pub sender_port: Option<u16>,
}

/// A row of pg_stat_replication.
#[derive(Clone, Debug, Deserialize)]
pub struct WalSender {
    pub pid: Option<i64>,
    pub application_name: Option<String>,
    pub client_addr: Option<String>,
    pub state: Option<String>,
    pub sent_lsn: Option<Lsn>,
    pub flush_lsn: Option<Lsn>,
    pub replay_lsn: Option<Lsn>,
    pub sync_state: Option<String>,
}

/// A row of pg_replication_slots.
#[derive(Clone, Debug, Deserialize)]
pub struct ReplicationSlot {
    pub slot_name: String,
    pub slot_type: String,
    pub temporary: bool,
    pub active: bool,
    pub active_pid: Option<i64>,
    pub restart_lsn: Option<Lsn>,
    /// 13 and later.
    pub wal_status: Option<String>,
}

/// A row of pg_settings.
#[derive(Clone, Debug, Deserialize)]
pub struct SettingRow {
    pub setting: Option<String>,
    pub context: String,
    pub source: String,
    pub boot_val: Option<String>,
    pub pending_restart: bool,
}

impl SettingRow {
    /// Whether our own session, role or database overrides what the server itself goes by.
    #[must_use]
    pub fn is_overridden(&self) -> bool {
        ["client", "session", "interactive", "test", "user", "database", "database user", "global"]
            .contains(&self.source.as_str())
    }
}

/// A row of pg_roles.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Role {
    pub login: bool,
    pub replication: bool,
    pub superuser: bool,
    pub connection_limit: i32,
}

/// Whose server a session must be at: what the data directory says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whose {
    pub system_identifier: u64,
    /// The data directory.
    pub data_dir: String,
    /// Line 3 of postmaster.pid: seconds since the epoch.
    pub started: i64,
}

impl Whose {
    /// Returns what shows that the server is another one; none: it is the right one.
    ///
    /// `same_folder` tells whether two paths lead to one folder.
    #[must_use]
    pub fn mismatch(&self, said: &Said, same_folder: impl Fn(&str, &str) -> bool) -> Option<String> {
        let folder = said.data_directory.as_deref();
        if said.system_identifier != self.system_identifier {
            Some(format!("its system identifier is {}, not {}", said.system_identifier, self.system_identifier))
        } else if let Some(other) = folder.filter(|folder| !same_folder(folder, &self.data_dir)) {
            Some(format!("its data directory is {other}, not {}", self.data_dir))
        } else if said.started < self.started {
            // Line 3 is written before the time that the server reports, so its whole second is never later.
            Some(format!("it was started before postmaster.pid of {} was written", self.data_dir))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn where_no_server_answers_the_place_is_named() {
        let seat = Seat::of(None).expect("our own");
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().display().to_string();
        let endpoint = Endpoint {
            socket_dir: Some(dir.clone()),
            port: 5433,
            user: "postgres".into(),
            database: "postgres".into(),
            password: None,
        };
        let refused = async |endpoint: &Endpoint| Session::open(&seat, endpoint).await.expect_err("nobody").to_string();
        assert_eq!(refused(&endpoint).await, format!("no server answers at {dir}/.s.PGSQL.5433"));
        // A socket that a killed server left.
        drop(std::os::unix::net::UnixListener::bind(folder.path().join(".s.PGSQL.5433")).expect("a socket"));
        assert_eq!(refused(&endpoint).await, format!("no server answers at {dir}/.s.PGSQL.5433"));
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|held| held.local_addr()).expect("a port").port();
        let endpoint = Endpoint { socket_dir: None, port, ..endpoint };
        assert_eq!(refused(&endpoint).await, format!("no server answers at localhost:{port}"));
    }
}
