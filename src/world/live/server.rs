//! Servers: whose a running one is, and starting one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::SeekFrom;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use crate::observed::Markers;
use crate::observed::comes_up_as;
use crate::pg::control::ControlState;
use crate::topology::Role;
use crate::world::Failure;
use crate::world::Progress;
use crate::world::failpoint::Failpoint;
use crate::world::files;
use crate::world::files::FileError;
use crate::world::files::PRIVATE;
use crate::world::live::Site;
use crate::world::live::config::CONF;
use crate::world::live::create::read_control;
use crate::world::observe::server::PidFile;
use crate::world::probe::process::is_lived_in;
use crate::world::probe::process::is_server_of;
use crate::world::process::Command;
use crate::world::sql::Endpoint;
use crate::world::sql::Session;
use crate::world::sql::SqlError;

/// What a server says before its own logging begins, and all it says where it has no collector.
pub(super) const START_LOG: &str = "pgpair-start.log";

/// How often a condition is looked at while it is waited for.
pub(super) const POLL: Duration = Duration::from_millis(20);

/// How many lines of a server's log are shown.
const SHOWN_LINES: usize = 20;

/// SQLSTATEs that waiting does not change: password, access, database, privilege.
const REFUSED_LOGINS: [&str; 5] = ["28P01", "28000", "3D000", "55000", "42501"];

/// Files by path: when they were last written, and their length.
type Logs = BTreeMap<PathBuf, (SystemTime, u64)>;

/// The logs of a server before it was started.
#[derive(Debug)]
struct Begun {
    /// The length of the one that it writes to before its own logging begins.
    start_log: u64,
    logs: Logs,
}

/// Whether a server lives on a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Running(PidFile),
    /// A postmaster.pid, and no such server: it was killed.
    Stale,
    None,
}

impl Life {
    pub(super) fn of(data_dir: &str) -> Result<Self, FileError> {
        let Some(text) = files::read_text(format!("{data_dir}/postmaster.pid"))? else { return Ok(Self::None) };
        let postmaster = PidFile::parse(&text, data_dir).filter(|file| !file.single_user);
        let postmaster = postmaster.filter(|postmaster| is_server_of(postmaster.pid, data_dir));
        Ok(postmaster.map_or(Self::Stale, Self::Running))
    }
}

impl Site<'_> {
    pub(super) async fn life(&self) -> Result<Life, Failure> {
        let data_dir = self.node.data_dir.clone();
        self.on_files(move || Life::of(&data_dir)).await
    }

    /// Opens a session on the node's running server, which has proved to be that.
    pub(super) async fn session(&self) -> Result<Session, Failure> {
        self.session_on(&self.topology().admin.database).await
    }

    pub(super) async fn session_on(&self, database: &str) -> Result<Session, Failure> {
        match self.life().await? {
            Life::Running(postmaster) => {
                let opened = self.open(&postmaster, database).await?;
                let session = opened.map_err(|error| self.bad_sql("its server does not answer", error))?;
                self.prove(&session, &postmaster).await?;
                Ok(session)
            }
            Life::Stale | Life::None => Err(self.failure("its server does not run").with_remedy("plan again")),
        }
    }

    async fn open(&self, postmaster: &PidFile, database: &str) -> Result<Result<Session, SqlError>, Failure> {
        let endpoint = Endpoint {
            socket_dir: postmaster.socket_dir.clone(),
            port: postmaster.port.unwrap_or(self.node.port),
            user: self.admin_user().to_owned(),
            database: database.to_owned(),
            password: self.admin_password().await?,
        };
        let opened = Session::open(&self.seat, &endpoint).await;
        Ok(opened.map(|session| session.with_patience(self.live.timeout)))
    }

    /// Refuses a server that only has the right port: the one of these files must be the one that answers.
    async fn prove(&self, session: &Session, postmaster: &PidFile) -> Result<(), Failure> {
        let row = session
            .query_one(
                "SELECT (SELECT system_identifier::text FROM pg_control_system()), current_setting('data_directory'), \
                 extract(epoch FROM date_trunc('second', pg_postmaster_start_time()))::bigint",
                &[],
            )
            .await
            .map_err(|error| self.bad_sql("its server can't be asked who it is", error))?;
        let (identifier, served, started): (String, String, i64) = (row.get(0), row.get(1), row.get(2));
        let data_dir = self.node.data_dir.clone();
        let (control, is_same_dir) = self
            .on_files(move || {
                let is_same = fs::canonicalize(&served).ok() == fs::canonicalize(&data_dir).ok();
                Ok((read_control(&data_dir)?, is_same))
            })
            .await?;
        let is_same_cluster = control.is_some_and(|(control, _)| control.system_identifier.to_string() == identifier);
        if is_same_dir && is_same_cluster && postmaster.started.is_some_and(|begun| started >= begun) {
            return Ok(());
        }
        let what = format!("the server that answers on port {} is another one", self.node.port);
        Err(self.failure(what).with_remedy("find out which server has that port, and stop it or give it another"))
    }

    pub(super) fn bad_sql(&self, what: &str, error: impl Into<SqlError>) -> Failure {
        let error = error.into();
        let failure = Failure { disconnected: error.is_lost, ..self.failure(format!("{what}: {error}")) };
        match error.remedy() {
            Some(remedy) => failure.with_remedy(remedy),
            None => failure,
        }
    }

    /// Starts a stopped server on its files as they are.
    pub(super) async fn start_on_files(&self, role: Role, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), Failure> {
        if let Life::Running(_) = self.life().await? {
            return self.wait_until_it_answers(None, progress).await;
        }
        let data_dir = self.node.data_dir.clone();
        let paths = [Some(&data_dir), self.node.config_dir.as_ref()];
        if let Some(path) = paths.into_iter().flatten().find(|path| path.contains(['"', '\'', '$', '`', '\\', '\n'])) {
            let failure =
                self.failure(format!("pg_ctl can't start a server on `{path}`: it hands the path to a shell"));
            return Err(failure.with_remedy("use a path without quotes, `$`, backslashes and backticks"));
        }
        self.check_role(role).await?;
        self.put_back_unchecked_rules().await?;
        let (dir, log) = (data_dir.clone(), self.file(START_LOG));
        let opened = self
            .on_files(move || {
                if is_lived_in(&dir) {
                    return Ok(None);
                }
                remove_stale_locks(&dir)?;
                open_log(&log).map(Some)
            })
            .await?;
        let Some(log_start) = opened else {
            let failure = self.failure("processes of its last server still live");
            return Err(failure.with_remedy("wait until they are gone, or end them by hand"));
        };
        let begun = Begun { start_log: log_start, logs: self.logs().await };
        self.call_start().await?;
        Failpoint::StartIssued.pass();
        self.wait_until_it_answers(Some(&begun), progress).await
    }

    /// Returns what a server that is started on the files would be.
    pub(super) async fn role_by_files(&self) -> Result<Role, Failure> {
        self.role_and_state().await.map(|(role, _)| role)
    }

    /// Returns what a running server says that it is.
    pub(super) async fn runs_as(&self, session: &Session) -> Result<Role, Failure> {
        let row = session.query_one("SELECT pg_is_in_recovery()", &[]).await;
        let row = row.map_err(|error| self.bad_sql("its role can't be read", error))?;
        Ok(if row.get(0) { Role::Standby } else { Role::Primary })
    }

    pub(super) async fn role_and_state(&self) -> Result<(Role, ControlState), Failure> {
        let data_dir = self.node.data_dir.clone();
        let found = self.on_files(move || {
            let markers = Markers {
                standby_signal: files::exists(format!("{data_dir}/standby.signal"))?,
                recovery_conf: files::read_text(format!("{data_dir}/recovery.conf"))?,
                ..Markers::default()
            };
            Ok(read_control(&data_dir)?.map(|(control, major)| (comes_up_as(&markers, major), control.state)))
        });
        let missing = || self.failure("there is no whole data directory to start on").with_remedy("plan again");
        found.await?.ok_or_else(missing)
    }

    /// Refuses to start what would come up as something else: without its standby files a standby is a second
    /// primary on the same timeline, and nothing shows it.
    async fn check_role(&self, role: Role) -> Result<(), Failure> {
        let (would_be, state) = self.role_and_state().await?;
        if would_be != role {
            let what = format!("by its files it would come up as a {would_be}, and it is to be a {role}");
            return Err(self.failure(what).with_remedy("plan again"));
        }
        if role == Role::Primary && state.was_standby() {
            let what = format!("it was a standby (pg_control: {state}), and has no standby files now");
            let remedy = "find out who removed them: started like this it would be a second primary";
            return Err(self.failure(what).with_remedy(remedy));
        }
        Ok(())
    }

    /// Waits for a connection that works: nothing less proves that a server is up.
    ///
    /// `begun`: its logs as they were before it was started.
    async fn wait_until_it_answers(
        &self,
        begun: Option<&Begun>,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<(), Failure> {
        let until = Instant::now() + self.live.timeout;
        let mut last = "it has not begun to listen".to_owned();
        progress(Progress::Waiting("a connection that works".to_owned()));
        loop {
            match self.life().await? {
                Life::Running(postmaster) if !postmaster.is_ready => "it is starting up".clone_into(&mut last),
                Life::Running(postmaster) => match self.open(&postmaster, &self.topology().admin.database).await? {
                    Ok(session) => match self.prove(&session, &postmaster).await {
                        Err(failure) if failure.disconnected => last = failure.message,
                        proved => return proved,
                    },
                    Err(error) if error.code.as_deref().is_some_and(|code| REFUSED_LOGINS.contains(&code)) => {
                        let failure = self.failure(format!("its server runs, but lets pgpair not in: {error}"));
                        return Err(
                            failure.with_remedy("correct `admin:` in the topology, or the first rules of pg_hba.conf")
                        );
                    }
                    Err(error) => last = error.to_string(),
                },
                Life::Stale | Life::None => {
                    let data_dir = self.node.data_dir.clone();
                    if !self.seat.blocking(move || is_lived_in(&data_dir)).await {
                        let failure = self.failure("its server ended while it was starting");
                        return Err(failure
                            .with_output(self.last_words(begun).await)
                            .with_remedy(self.where_it_logs()));
                    }
                }
            }
            if Instant::now() >= until {
                let seconds = self.live.timeout.as_secs();
                let failure = self.failure(format!("its server runs, but did not answer within {seconds} s: {last}"));
                let remedy =
                    format!("it may still come up; {}, and apply again with a longer --timeout", self.where_it_logs());
                return Err(failure.with_output(self.last_words(begun).await).with_remedy(remedy));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Returns what the server said since it was started: early, and where its collector writes.
    async fn last_words(&self, begun: Option<&Begun>) -> Vec<String> {
        let Some(Begun { start_log, logs }) = begun else { return Vec::new() };
        let mut grown = vec![(PathBuf::from(self.file(START_LOG)), *start_log)];
        grown.extend(newest_grown(logs, self.logs().await));
        let read = move || grown.into_iter().flat_map(|(log, from)| tail_of(&log, from).unwrap_or_default()).collect();
        self.seat.blocking(read).await
    }

    /// Returns the files that its collector writes; none where the configuration can't be read.
    async fn logs(&self) -> Logs {
        let command = Command::new(self.program("postgres")).args(["-D", &self.node.data_dir]);
        let config_file = format!("config_file={}", self.conf_file(CONF));
        let command = command.args(["-c", &config_file, "-C", "log_directory"]);
        let output = command.timeout(self.live.timeout).output(&self.seat).await;
        let Ok(output) = output.map(|output| output.status.success().then_some(output.stdout)) else {
            return Logs::new();
        };
        let directory = String::from_utf8_lossy(&output.unwrap_or_default()).trim().to_owned();
        if directory.is_empty() {
            return Logs::new();
        }
        let directory = Path::new(&self.node.data_dir).join(directory);
        self.seat.blocking(move || logs_in(&directory)).await.unwrap_or_default()
    }
}

/// Removes the lock files of a server that was killed.
///
/// PostgreSQL does so itself, unless the number it finds there is that of any process of the same user, and a
/// zombie is one: in a container nobody may ever reap it.
pub(super) fn remove_stale_locks(data_dir: &str) -> Result<(), FileError> {
    let path = format!("{data_dir}/postmaster.pid");
    let Some(text) = files::read_text(&path)? else { return Ok(()) };
    if let Some(PidFile { pid, port: Some(port), socket_dir: Some(dir), .. }) = PidFile::parse(&text, data_dir) {
        let lock = format!("{dir}/.s.PGSQL.{port}.lock");
        let text = files::read_text(&lock)?.unwrap_or_default();
        let mut lines = text.lines();
        // Another server may have the port by now.
        if lines.next().map(str::trim) == Some(&pid.to_string()) && lines.next() == Some(data_dir) {
            files::remove(lock)?;
        }
    }
    // The last one: it is what led to the other.
    files::remove(path)
}

/// Makes the log readable for its owner alone, and returns its length.
fn open_log(path: &str) -> Result<u64, FileError> {
    let failed = |source| FileError { what: "opened", path: PathBuf::from(path), source };
    let file = fs::OpenOptions::new().append(true).create(true).mode(PRIVATE).open(path).map_err(failed)?;
    Ok(file.metadata().map_err(failed)?.len())
}

/// Returns the last lines that a log got after its first `start` bytes.
fn tail_of(path: &Path, start: u64) -> io::Result<Vec<String>> {
    const MOST: u64 = 64 * 1024;
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(start.max(length.saturating_sub(MOST))))?;
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    Ok(lines[lines.len().saturating_sub(SHOWN_LINES)..].iter().map(|line| (*line).to_owned()).collect())
}

/// Looks at the files in a folder of logs.
fn logs_in(directory: &Path) -> io::Result<Logs> {
    let log = |entry: fs::DirEntry| {
        let found = entry.metadata().ok()?;
        Some((entry.path(), (found.modified().ok()?, found.len())))
    };
    Ok(fs::read_dir(directory)?.flatten().filter_map(log).collect())
}

/// Returns the newest log that has grown, and where what is new in it begins: what was there before may be the
/// statements of others.
fn newest_grown(before: &Logs, now: Logs) -> Option<(PathBuf, u64)> {
    let (path, (_, length)) = now.into_iter().max_by_key(|(_, (written, _))| *written)?;
    // One that has become shorter was begun anew.
    let from = before.get(&path).map_or(0, |(_, old)| *old).min(length);
    Some((path, from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_new_lines_of_a_log_are_shown() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "old\nnew 1\n\nnew 2\n").expect("written");
        assert_eq!(tail_of(file.path(), 4).expect("read"), ["new 1", "new 2"]);
    }

    #[test]
    fn of_a_collectors_logs_only_what_the_newest_has_gained_is_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let [old, log] = ["old.log", "new.log"].map(|name| folder.path().join(name));
        fs::write(&old, "SELECT 'of others'\n").expect("written");
        fs::write(&log, "SELECT 'of others'\n").expect("written");
        let before = logs_in(folder.path()).expect("read");
        fs::write(&log, "SELECT 'of others'\nFATAL: ours\n").expect("written");
        let past = fs::File::options().append(true).open(&old).expect("a file");
        past.set_modified(SystemTime::UNIX_EPOCH).expect("an old one");
        let (path, from) = newest_grown(&before, logs_in(folder.path()).expect("read")).expect("a log");
        assert_eq!((tail_of(&path, from).expect("read"), path), (vec!["FATAL: ours".to_owned()], log));
        assert_eq!(newest_grown(&before, Logs::new()), None);
    }
}
