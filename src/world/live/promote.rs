//! The moment of a switchover: the old primary's stop, the proof of its end, the promotion.
//!
//! All that can be made ready is so before the stop, and between the stop and the promotion nothing is done that the proof
//! does not need: no look, no new process, no pause of a fixed length (protocol, section 2). The proof is that pg_control
//! says `shut down`, after which a fenced server writes no WAL, and that the candidate has all up to the end of the
//! shutdown checkpoint's record; that its beginning is there is not enough. The promote file is the point of no return:
//! the server acts on it at any later signal to its postmaster.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;

use crate::pg::control::Control;
use crate::pg::control::ControlState;
use crate::pg::lsn::Lsn;
use crate::plan::Promote;
use crate::topology::Role;
use crate::world::Failure;
use crate::world::Progress;
use crate::world::failpoint::Failpoint;
use crate::world::files::FileError;
use crate::world::live::Site;
use crate::world::live::create::read_control;
use crate::world::live::server::Life;
use crate::world::observe::server::PidFile;
use crate::world::probe::process::is_server_of;
use crate::world::probe::wal::end_of_shutdown;
use crate::world::sql::Session;

/// Between two looks at what changes within milliseconds.
const TICK: Duration = Duration::from_micros(500);

/// How long a stop is given once the candidate does not hold it up any more.
const POLITE: Duration = Duration::from_secs(5);

/// How long a server is given to end once nothing holds it up any more.
const IMMEDIATE: Duration = Duration::from_secs(30);

/// What the candidate says of itself while it is waited for. A position restarts at the beginning of a segment when the
/// walreceiver does: hence the further of the two.
const ASK: &str = "SELECT pg_is_in_recovery(), greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::text";

/// A server's process, held so that a signal can't reach another one.
struct Process {
    handle: OwnedFd,
    data_dir: String,
}

impl Process {
    /// Takes hold of a postmaster; none where it has ended.
    fn of(postmaster: &PidFile, data_dir: &str) -> io::Result<Option<Self>> {
        let pid = i32::try_from(postmaster.pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        let handle = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            opened => opened?,
        };
        // Checked while the handle holds it.
        let is_it = is_server_of(postmaster.pid, data_dir);
        Ok(is_it.then(|| Self { handle, data_dir: data_dir.to_owned() }))
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(&self.handle, signal)?)
    }

    /// Whether it has ended, or does within this time; a zombie has.
    fn ends_within(&self, timeout: Duration) -> io::Result<bool> {
        let timeout = rustix::event::Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        Ok(rustix::event::poll(&mut [PollFd::new(&self.handle, PollFlags::IN)], Some(&timeout))? > 0)
    }
}

/// How a stop went on, by pg_control.
enum Watched {
    /// Shut down, with all that it wrote before.
    ShutDown(Box<Control>),
    /// It ended in another way.
    Ended(ControlState),
    StillAtIt,
}

/// When each part was done, since the stop was issued.
#[derive(Default)]
struct Times {
    shut_down: Duration,
    proven: Duration,
    told: Duration,
    promoted: Duration,
}

impl Times {
    fn note(&self) -> String {
        let ms = |duration: Duration| format!("{:.0} ms", duration.as_secs_f64() * 1000.0);
        format!(
            "no writes for {}: shut down after {}, all of it received {} later, promoted in {}",
            ms(self.promoted),
            ms(self.shut_down),
            ms(self.proven - self.shut_down),
            ms(self.promoted - self.told)
        )
    }
}

impl Site<'_> {
    /// Promotes the node, a running standby, once the old primary has ended and nothing of it is missing here.
    pub(super) async fn promote(&self, promote: &Promote, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), Failure> {
        let session = self.session().await?;
        if self.runs_as(&session).await? == Role::Primary {
            return Ok(());
        }
        let Some(process) = self.process().await? else {
            return Err(self.failure("its server ended before it was promoted").with_remedy("plan again"));
        };
        let old = match &promote.from {
            Some(from) => Some(self.live.site(from).await?),
            None => None,
        };
        let mut times = Times::default();
        let mut stopped = None;
        if let Some(old) = &old {
            // None: it was down before, and was judged by what it has left.
            stopped = old.stop_for(self, &session, &mut times, progress).await?;
        }
        let begun = stopped.as_ref().map_or_else(Instant::now, |(begun, _)| *begun);
        self.tell(&process, &session, begun, &mut times).await?;
        if let (Some(old), Some((_, stopping))) = (old, stopped) {
            progress(Progress::Note(times.note()));
            old.see_end(stopping).await?;
        }
        Ok(())
    }

    async fn process(&self) -> Result<Option<Process>, Failure> {
        let Life::Running(postmaster) = self.life().await? else { return Ok(None) };
        let data_dir = self.node.data_dir.clone();
        let process = self.seat.blocking(move || Process::of(&postmaster, &data_dir)).await;
        process.map_err(|error| self.failure(format!("its server's process can't be held: {error}")))
    }

    /// Writes the promote file, signals, and waits for the server to leave recovery. From here on only forward.
    async fn tell(
        &self,
        process: &Process,
        session: &Session,
        begun: Instant,
        times: &mut Times,
    ) -> Result<(), Failure> {
        let path = self.file("promote");
        self.on_files(move || {
            let made = File::create(&path).map(drop);
            made.map_err(|source| FileError { what: "created", path: path.into(), source })
        })
        .await?;
        Failpoint::PromoteFile.pass();
        let told = process.signal(Signal::USR1);
        told.map_err(|error| self.failure(format!("its server can't be told to promote itself: {error}")))?;
        Failpoint::Signalled.pass();
        times.told = begun.elapsed();
        let until = Instant::now() + self.live.timeout;
        loop {
            let (in_recovery, _) = self.ask(session).await?;
            if !in_recovery {
                times.promoted = begun.elapsed();
                Failpoint::Promoted.pass();
                return Ok(());
            }
            if Instant::now() >= until {
                let seconds = self.live.timeout.as_secs();
                let failure = self.failure(format!("its promotion was asked for, and not seen within {seconds} s"));
                return Err(failure.with_remedy("there is no way back: see its log, and apply again"));
            }
            tokio::time::sleep(TICK).await;
        }
    }

    async fn ask(&self, session: &Session) -> Result<(bool, Lsn), Failure> {
        let row = session.client().query_one(ASK, &[]).await;
        let row = row.map_err(|error| self.bad_sql("its position can't be read", error))?;
        let position: Option<&str> = row.get(1);
        Ok((row.get(0), position.and_then(|text| text.parse().ok()).unwrap_or_default()))
    }

    /// Stops the old primary, and waits until all of its WAL is on the candidate. Returns when the stop was issued, and
    /// the process that is ending; none where it did not run, or not as a primary any more.
    async fn stop_for(
        &self,
        candidate: &Site<'_>,
        session: &Session,
        times: &mut Times,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Option<(Instant, Process)>, Failure> {
        let Some(process) = self.process().await? else { return Ok(None) };
        if self.role_by_files().await? != Role::Standby {
            return Err(self.failure("is not fenced, and is not stopped without that").with_remedy("plan again"));
        }
        // One that is on its way down already takes no session.
        if let Ok(own) = self.session().await {
            if self.runs_as(&own).await? == Role::Standby {
                return Ok(None);
            }
            // Little is left since the fence; what is written to disk now is not left for the shutdown.
            self.checkpoint(&own, progress).await?;
        }
        progress(Progress::Waiting(format!("the end of {}", self.node.name)));
        let begun = Instant::now();
        let stop = self.issue_stop(&process);
        let proof = async {
            let control = self.watch(&process, begun).await?;
            times.shut_down = begun.elapsed();
            Failpoint::ShutDown.pass();
            let end = self.end_of(*control).await?;
            self.received(candidate, session, end).await?;
            times.proven = begun.elapsed();
            Failpoint::Proven.pass();
            Ok(())
        };
        // A unit's stop returns when all is over, which is not waited for.
        let result = tokio::select! {
            biased;
            proof = proof => proof,
            Err(failure) = stop => Err(failure),
        };
        match result {
            Ok(()) => Ok(Some((begun, process))),
            Err(failure) => {
                self.bring_down(&process, candidate, session).await?;
                Err(failure)
            }
        }
    }

    /// Issues the fast stop. Whoever controls the server may return only when it is down.
    async fn issue_stop(&self, process: &Process) -> Result<(), Failure> {
        if self.stops_by_signal() {
            let told = process.signal(Signal::INT);
            told.map_err(|error| self.failure(format!("its server can't be stopped: {error}")))?;
            Failpoint::StopIssued.pass();
        } else {
            self.call_stop().await?;
        }
        // That it is down is seen elsewhere.
        std::future::pending().await
    }

    /// Watches pg_control until the server is shut down: that comes well before its processes have ended.
    async fn watch(&self, process: &Process, begun: Instant) -> Result<Box<Control>, Failure> {
        let until = begun + self.live.timeout;
        loop {
            let data_dir = process.data_dir.clone();
            let tick = (Instant::now() + Duration::from_millis(100)).min(until);
            let has_ended = process.ends_within(Duration::ZERO);
            let has_ended =
                has_ended.map_err(|error| self.failure(format!("its process can't be watched: {error}")))?;
            let watched = self.on_files(move || watch_control(&data_dir, has_ended, tick)).await?;
            match watched {
                Watched::ShutDown(control) => return Ok(control),
                Watched::Ended(state) => {
                    let failure = self.failure(format!("its server ended without a clean shutdown ({state})"));
                    return Err(failure.with_remedy(self.where_it_logs()));
                }
                Watched::StillAtIt if *self.live.interrupt.borrow() => return Err(Failure::interrupted()),
                Watched::StillAtIt if Instant::now() >= until => {
                    let seconds = self.live.timeout.as_secs();
                    return Err(self.failure(format!("its server was not shut down within {seconds} s")));
                }
                Watched::StillAtIt => {}
            }
        }
    }

    async fn end_of(&self, control: Control) -> Result<Lsn, Failure> {
        let pg_wal = Path::new(&self.node.data_dir).join("pg_wal");
        let end = self.seat.blocking(move || end_of_shutdown(&pg_wal, &control)).await;
        let none = || self.failure("its shutdown checkpoint is not in its WAL, so its end is not known");
        end.map_err(|why| self.failure(why))?.ok_or_else(none)
    }

    /// Waits until the candidate has all up to the end.
    async fn received(&self, candidate: &Site<'_>, session: &Session, end: Lsn) -> Result<(), Failure> {
        let until = Instant::now() + self.live.timeout;
        loop {
            let (_, position) = candidate.ask(session).await?;
            if position == end {
                return Ok(());
            }
            if position > end {
                let what = format!("it has WAL to {position}, and {} ended at {end}: another branch", self.node.name);
                return Err(candidate.failure(what));
            }
            if *self.live.interrupt.borrow() {
                return Err(Failure::interrupted());
            }
            if Instant::now() >= until {
                let missing = end.0 - position.0;
                let what = format!("it lacks the last {missing} bytes of {}, which has ended", self.node.name);
                return Err(candidate.failure(what).with_remedy("see why its walreceiver does not stream (its log)"));
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// A stop can't be called back: where the switch goes no further, the server is down before anything else is done.
    async fn bring_down(&self, process: &Process, candidate: &Site<'_>, session: &Session) -> Result<(), Failure> {
        if self.has_ended(process, self.live.timeout).await? {
            return Ok(());
        }
        // It waits for the candidate to confirm what it sent last.
        let end_receiver = "SELECT pg_terminate_backend(pid) FROM pg_stat_wal_receiver";
        let ended = session.client().batch_execute(end_receiver).await;
        if let Err(error) = ended {
            tracing::warn!("the walreceiver of {} can't be ended: {error}", candidate.node.name);
        }
        if self.has_ended(process, POLITE).await? {
            return Ok(());
        }
        let told = process.signal(Signal::QUIT);
        told.map_err(|error| self.failure(format!("its server can't be stopped: {error}")))?;
        if self.has_ended(process, IMMEDIATE).await? {
            return Ok(());
        }
        let failure = self.failure("its server does not end, not even by an immediate stop");
        Err(failure.with_remedy("end its processes by hand, and apply again"))
    }

    async fn has_ended(&self, process: &Process, timeout: Duration) -> Result<bool, Failure> {
        let until = Instant::now() + timeout;
        loop {
            let ended = process.ends_within(Duration::ZERO);
            if ended.map_err(|error| self.failure(format!("its process can't be watched: {error}")))? {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The promotion did not wait for the old server's last processes (an archiver may take its time); its start does.
    async fn see_end(&self, process: Process) -> Result<(), Failure> {
        if self.has_ended(&process, self.live.timeout).await? {
            return Ok(());
        }
        let seconds = self.live.timeout.as_secs();
        let failure =
            self.failure(format!("its server is shut down, and its processes have not ended within {seconds} s"));
        Err(failure.with_remedy("see whether its archive_command hangs; apply again goes on from here"))
    }
}

/// Reads pg_control until it says that the server is shut down, or until this moment.
fn watch_control(data_dir: &str, has_ended: bool, until: Instant) -> Result<Watched, FileError> {
    loop {
        if let Some((control, _)) = read_control(data_dir)? {
            match control.state {
                ControlState::ShutDown => return Ok(Watched::ShutDown(Box::new(control))),
                state if has_ended => return Ok(Watched::Ended(state)),
                ControlState::StartingUp
                | ControlState::ShutDownInRecovery
                | ControlState::ShuttingDown
                | ControlState::InCrashRecovery
                | ControlState::InArchiveRecovery
                | ControlState::InProduction => {}
            }
        }
        if Instant::now() >= until {
            return Ok(Watched::StillAtIt);
        }
        #[expect(clippy::disallowed_methods, reason = "nothing tells when the server has written its pg_control")]
        thread::sleep(TICK);
    }
}
