//! Running programs: an argument vector, never a shell; a known environment; bounded output; an end in any case.
//!
//! A program that may run for long (initdb, pg_basebackup) must not outlive pgpair, not even a `kill -9` of it, and
//! must keep the node locked while it lives. It runs under a *guard*: this very program, started again as
//! `internal-guard`, which dies with its parent, takes the program's whole process group with it and holds the
//! lock file open as its standard input until the group is gone.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitId;
use rustix::process::WaitIdOptions;
use rustix::process::WaitOptions;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::watch;

use crate::world::user::Seat;

/// The hidden subcommand that is a guard.
pub const GUARD: &str = "internal-guard";

/// How much of each output stream is kept: its end, where a program says why it failed.
const MOST_OUTPUT: usize = 256 * 1024;

/// The exit status of a guard that was told to give up, and of one that could not start its program.
const GIVEN_UP: u8 = 128 + 15;
const NOT_STARTED: u8 = 127;

/// A program to run.
#[derive(Clone, Debug)]
pub struct Command {
    program: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    /// What of the caller's environment it does not see.
    hidden: Vec<String>,
    dir: Option<String>,
    stdin: Option<Vec<u8>>,
    locale: Locale,
    timeout: Option<Duration>,
    /// Files that the guard removes in the end.
    removed: Vec<String>,
}

/// Whose language and collation a program sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Locale {
    /// `LC_ALL=C`: its words can be read by a program.
    C,
    /// The caller's: initdb takes the cluster's from it.
    Callers,
    /// Nothing of the caller's environment but `PATH` and `LANG`: what starts here stays.
    Server,
}

/// What a program left.
#[derive(Clone, Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// Why a program's end is not known.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("`{program}` can't be started: {source}")]
    Start { program: String, source: io::Error },
    #[error("`{program}` did not end within {} s and was killed", after.as_secs())]
    Timeout { program: String, after: Duration },
    #[error("`{program}` was given up: pgpair was interrupted")]
    Interrupted { program: String },
    #[error("`{program}` can't be waited for: {source}")]
    Wait { program: String, source: io::Error },
}

impl Output {
    /// Returns the lines of both streams, standard error last, as they are shown to people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let both = [text(&self.stdout), text(&self.stderr)];
        both.iter()
            .flat_map(|text| text.lines())
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// Returns the lines of standard error.
    #[must_use]
    pub fn stderr_lines(&self) -> Vec<String> {
        Self { stdout: Vec::new(), ..self.clone() }.lines()
    }

    /// Returns how the program ended: `exit status 1`, `signal 9 (killed)`.
    #[must_use]
    pub fn ending(&self) -> String {
        self.status.to_string().replace("exit status: ", "exit status ").replace("signal: ", "signal ")
    }
}

impl Command {
    #[must_use]
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            hidden: Vec::new(),
            dir: None,
            stdin: None,
            locale: Locale::C,
            timeout: None,
            removed: Vec::new(),
        }
    }

    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Keeps variables of the caller's environment from the program.
    #[must_use]
    pub fn without_env(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.hidden.extend(names);
        self
    }

    /// The folder it runs in; `/` otherwise, which every user can enter.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<String>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Lets the guard remove a file when the program is gone: one with a secret must not outlive a killed pgpair.
    #[must_use]
    pub fn removes(mut self, path: impl Into<String>) -> Self {
        self.removed.push(path.into());
        self
    }

    /// Lets the program see the caller's language and collation.
    #[must_use]
    pub fn with_callers_locale(mut self) -> Self {
        self.locale = Locale::Callers;
        self
    }

    /// Gives the program an environment for a server to live in.
    #[must_use]
    pub fn with_server_environment(mut self) -> Self {
        self.locale = Locale::Server;
        self
    }

    /// Runs the program to its end with the rights of `seat`.
    ///
    /// It has a process group of its own, so that neither Ctrl-C nor the end of a time limit leaves half of it.
    ///
    /// # Errors
    ///
    /// [`RunError`] where it can't be started or does not end in time. A bad exit status is no error here.
    pub async fn output(self, seat: &Seat) -> Result<Output, RunError> {
        let mut command = self.prepared(seat, &self.program, &self.args);
        command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        seat.run(async move {
            let mut child = self.spawn(&mut command)?;
            let mut group = KillOnDrop::group(&child);
            let pipe = child.stdin.take();
            let input = self.stdin.clone().unwrap_or_default();
            let feed = async move {
                if let Some(mut pipe) = pipe {
                    // A program that ends without reading has said what it wanted to.
                    let _ = pipe.write_all(&input).await;
                }
            };
            let work = async { tokio::join!(feed, collect(&mut child)).1 };
            let ended = match self.timeout {
                None => work.await,
                Some(after) => match tokio::time::timeout(after, work).await {
                    Ok(ended) => ended,
                    Err(_) => return Err(RunError::Timeout { program: self.program, after }),
                },
            };
            let output = ended.map_err(|source| RunError::Wait { program: self.program, source })?;
            group.is_gone();
            Ok(output)
        })
        .await
    }

    /// Runs the program under a guard: it dies with pgpair, and `lock` stays held until it is gone.
    ///
    /// When `interrupt` turns true, the program and all it has started are killed and gone before this returns.
    ///
    /// # Errors
    ///
    /// As [`Command::output`], and [`RunError::Interrupted`].
    pub async fn guarded(
        self,
        seat: &Seat,
        lock: Option<File>,
        mut interrupt: watch::Receiver<bool>,
    ) -> Result<Output, RunError> {
        let guard = guard_program();
        let mut args = vec![GUARD.to_owned(), std::process::id().to_string()];
        args.extend(self.removed.iter().cloned());
        args.extend(["--".to_owned(), self.program.clone()]);
        args.extend(self.args.iter().cloned());
        let mut command = self.prepared(seat, &guard.to_string_lossy(), &args);
        command.stdin(lock.map_or_else(Stdio::null, Stdio::from));
        seat.run(async move {
            let mut child = self.spawn(&mut command)?;
            // The guard's own copy holds the lock from here on.
            drop(command);
            let mut guard = KillOnDrop::guard(&child);
            let interrupted = async {
                if interrupt.wait_for(|interrupted| *interrupted).await.is_err() {
                    // Nobody is left who could interrupt.
                    std::future::pending::<()>().await;
                }
            };
            let work = collect(&mut child);
            tokio::pin!(work);
            let (ended, interrupted) = tokio::select! {
                ended = &mut work => (ended, false),
                () = interrupted => {
                    guard.end();
                    (work.await, true)
                }
            };
            let output = ended.map_err(|source| RunError::Wait { program: self.program.clone(), source })?;
            guard.is_gone();
            if interrupted {
                return Err(RunError::Interrupted { program: self.program });
            }
            Ok(output)
        })
        .await
    }

    fn prepared(&self, seat: &Seat, program: &str, args: &[String]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(program);
        command.args(args).process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.current_dir(self.dir.as_deref().unwrap_or("/"));
        command.env_clear();
        for (name, value) in std::env::vars_os() {
            let is_kept = match self.locale {
                Locale::C | Locale::Callers => !is_of_libpq(&name),
                Locale::Server => ["PATH", "LANG"].iter().any(|kept| name == *kept),
            };
            if is_kept && !self.hidden.iter().any(|hidden| name == hidden.as_str()) {
                command.env(name, value);
            }
        }
        command.env("HOME", seat.home()).env("USER", seat.user()).env("LOGNAME", seat.user());
        if self.locale == Locale::C {
            command.env("LC_ALL", "C");
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn spawn(&self, command: &mut tokio::process::Command) -> Result<tokio::process::Child, RunError> {
        command.spawn().map_err(|source| RunError::Start { program: self.program.clone(), source })
    }
}

/// Whether a variable could lead a PostgreSQL program somewhere else, or is pgpair's own (a password, perhaps).
fn is_of_libpq(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"PG")
}

/// Waits for a child and reads what it writes meanwhile.
async fn collect(child: &mut tokio::process::Child) -> io::Result<Output> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (status, stdout, stderr) = tokio::join!(child.wait(), end_of(stdout), end_of(stderr));
    Ok(Output { status: status?, stdout: stdout?, stderr: stderr? })
}

/// Reads a stream to its end and keeps the last [`MOST_OUTPUT`] bytes.
async fn end_of(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else { return Ok(kept) };
    while stream.read_buf(&mut kept).await? > 0 {
        if kept.len() > 2 * MOST_OUTPUT {
            kept.drain(..kept.len() - MOST_OUTPUT);
        }
    }
    kept.drain(..kept.len().saturating_sub(MOST_OUTPUT));
    Ok(kept)
}

/// Ends a child that nobody waits for any more.
struct KillOnDrop {
    child: Option<Pid>,
    is_guard: bool,
}

impl KillOnDrop {
    fn group(child: &tokio::process::Child) -> Self {
        Self { child: pid_of(child), is_guard: false }
    }

    fn guard(child: &tokio::process::Child) -> Self {
        Self { child: pid_of(child), is_guard: true }
    }

    /// Kills the group; tells a guard to, which then sees to it that the group is gone.
    fn end(&self) {
        if let Some(child) = self.child {
            // Both fail only where it is gone already.
            let _ = if self.is_guard {
                rustix::process::kill_process(child, Signal::TERM)
            } else {
                rustix::process::kill_process_group(child, Signal::KILL)
            };
        }
    }

    fn is_gone(&mut self) {
        self.child = None;
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.end();
    }
}

fn pid_of(child: &tokio::process::Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()?).ok()?)
}

static GUARD_PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Names the pgpair binary, for a program that uses the library and is not pgpair itself. The first call counts.
pub fn use_guard_program(path: PathBuf) {
    let _ = GUARD_PROGRAM.set(path);
}

/// This program: the link works for a user who can't reach its path, and after an upgrade has replaced the file.
fn guard_program() -> PathBuf {
    GUARD_PROGRAM.get().cloned().unwrap_or_else(|| PathBuf::from("/proc/self/exe"))
}

/// Is the guard: `args` are those after `internal-guard`: the parent's pid, the files to remove, `--`, and the
/// program with its arguments.
///
/// To be called first thing in `main`: it is a process of its own, with one thread.
#[must_use]
pub fn guard_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    let mut parts = args.splitn(2, |arg| arg == "--");
    let (Some([parent, removed @ ..]), Some([program, args @ ..])) = (parts.next(), parts.next()) else {
        return ExitCode::from(NOT_STARTED);
    };
    let parent = parent.to_str().and_then(|parent| Pid::from_raw(parent.parse().ok()?));
    let ended = guard(parent, program, args);
    for path in removed {
        // Usually pgpair has done it already.
        let _ = std::fs::remove_file(path);
    }
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            use std::io::Write as _;
            // Standard error is the only way out, and if it is closed nobody listens.
            let _ = writeln!(io::stderr(), "{}: {error}", program.to_string_lossy());
            ExitCode::from(NOT_STARTED)
        }
    }
}

fn guard(parent: Option<Pid>, program: &OsString, args: &[OsString]) -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _context = runtime.enter();
    // Handlers first: from here on a signal is an order to end the program, not the guard alone.
    let mut orders = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()]
        .into_iter()
        .map(signal)
        .collect::<io::Result<Vec<_>>>()?;
    let mut child_ended = signal(SignalKind::child())?;
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
    // Orphans of the program come to the guard, so that it can wait for them too.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    if rustix::process::getppid() != parent {
        return Ok(GIVEN_UP);
    }
    let child = std::process::Command::new(program).args(args).stdin(Stdio::null()).process_group(0).spawn()?;
    let leader = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    let given_up = runtime.block_on(async {
        loop {
            // Only looked at: while it is not reaped, its number can't be given to another group.
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if rustix::process::waitid(WaitId::Pid(leader), look)?.is_some() {
                return io::Result::Ok(false);
            }
            let ordered = futures_util::future::select_all(orders.iter_mut().map(|order| Box::pin(order.recv())));
            tokio::select! {
                _ = child_ended.recv() => {}
                _ = ordered => return Ok(true),
            }
        }
    })?;
    // Nothing of the program stays behind, however it ended.
    let _ = rustix::process::kill_process_group(leader, Signal::KILL);
    let mut code = GIVEN_UP;
    while let Ok(Some((pid, status))) = rustix::process::waitpgid(leader, WaitOptions::empty()) {
        if pid == leader && !given_up {
            let signal = status.terminating_signal().map(|signal| 128 + signal);
            code = status.exit_status().or(signal).and_then(|code| u8::try_from(code).ok()).unwrap_or(NOT_STARTED);
        }
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat() -> std::sync::Arc<Seat> {
        Seat::of(None).expect("our own seat")
    }

    #[tokio::test]
    async fn a_program_gets_its_input_and_its_arguments_as_they_are() {
        let output = Command::new("sh")
            .args(["-c", "cat; printf '%s' \"$1\" >&2; exit 3", "sh", "$(id); 'x'"])
            .stdin("line\n")
            .output(&seat())
            .await
            .expect("it runs");
        assert_eq!(output.stdout, b"line\n");
        assert_eq!(output.stderr, b"$(id); 'x'");
        assert_eq!(output.ending(), "exit status 3");
        assert_eq!(output.lines(), ["line", "$(id); 'x'"]);
    }

    #[tokio::test]
    async fn variables_of_libpq_do_not_reach_a_program_and_the_locale_is_c() {
        assert!(is_of_libpq("PGHOST".as_ref()) && is_of_libpq("PGPAIR_ADMIN_PASSWORD".as_ref()));
        let output = Command::new("env").env("PGPASSFILE", "/given").output(&seat()).await.expect("it runs");
        let lines = output.lines();
        assert!(lines.contains(&"LC_ALL=C".to_owned()) && lines.contains(&"PGPASSFILE=/given".to_owned()));
        assert_eq!(lines.iter().filter(|line| line.starts_with("PG")).count(), 1);
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_killed_with_its_children() {
        let command = Command::new("sh").args(["-c", "sleep 1000 & wait"]).timeout(Duration::from_millis(50));
        let error = command.output(&seat()).await.expect_err("it does not end");
        assert!(matches!(error, RunError::Timeout { .. }), "{error}");
    }

    #[tokio::test]
    async fn only_the_end_of_endless_output_is_kept() {
        let command = Command::new("sh").args(["-c", "head -c 3000000 /dev/zero; echo end"]);
        let output = command.output(&seat()).await.expect("it runs");
        assert_eq!(output.stdout.len(), MOST_OUTPUT);
        assert!(output.stdout.ends_with(b"end\n"));
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let error = Command::new("/no/such/program").output(&seat()).await.expect_err("there is none");
        assert_eq!(error.to_string(), "`/no/such/program` can't be started: No such file or directory (os error 2)");
    }
}
