//! The moment of a switchover: the old primary's stop, the proof of its end, the promotion.
//!
//! All that can be made ready is so before the stop, and between the stop and the promotion nothing is done that the proof
//! does not need: no look, no new process, no pause of a fixed length (protocol, section 2). The proof is that pg_control
//! says `shut down`, after which a fenced server writes no WAL, and that the candidate has all up to the end of the
//! shutdown checkpoint's record; that its beginning is there is not enough. The promote file is the point of no return:
//! the server acts on it at any later signal to its postmaster.

use std::fs::File;
use std::path::Path;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Signal;

use crate::pg::control::Control;
use crate::pg::control::ControlState;
use crate::pg::lsn::Lsn;
use crate::plan::Promote;
use crate::topology::Role;
use crate::world::Failure;
use crate::world::Progress;
use crate::world::failpoint::Failpoint;
use crate::world::files;
use crate::world::files::FileError;
use crate::world::live::Site;
use crate::world::live::create::read_control;
use crate::world::live::postmaster::Postmaster;
use crate::world::live::server::Life;
use crate::world::probe::wal::end_of_shutdown;
use crate::world::sql::Session;

/// Between two looks at what changes within milliseconds.
const TICK: Duration = Duration::from_micros(500);

/// Between two signals to promote.
const REMIND: Duration = Duration::from_millis(10);

/// How long a stop is given once the candidate does not hold it up any more.
const POLITE: Duration = Duration::from_secs(5);

/// How long a server is given to end once nothing holds it up any more.
const IMMEDIATE: Duration = Duration::from_secs(30);

/// What the candidate says of itself while it is waited for. A position restarts at the beginning of a segment when the
/// walreceiver does: hence the further of the two.
const ASK: &str = "SELECT pg_is_in_recovery(), greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::text";

type Command<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;

/// A stop that was issued.
struct Stopping<'a> {
    begun: Instant,
    process: Arc<Postmaster>,
    /// What issues it, until that is over.
    command: Option<Command<'a>>,
}

/// Why a stop has not led to the proof.
enum Unproven {
    /// Its controller has refused, and it runs on.
    RunsOn(Failure),
    /// It was stopped, or is about to be.
    GoesDown(Failure),
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
    promoted: Duration,
}

impl Times {
    fn no_writes(&self) -> Progress {
        let parts = vec![
            ("shut down", self.shut_down),
            ("received", self.proven - self.shut_down),
            ("promoted", self.promoted - self.proven),
        ];
        Progress::NoWrites { parts, from_before: false }
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
        if promote.by_force {
            self.can_be_told().await?;
            self.is_still_down(promote).await?;
            let mut times = Times::default();
            self.tell(&process, &session, Instant::now(), &mut times).await?;
            progress(Progress::NoWrites { parts: vec![("promoted", times.promoted)], from_before: true });
            for dead in self.live.dead_nodes() {
                let danger = "if its server starts before the next apply, two nodes take writes";
                progress(Progress::Note(format!("{dead} is not fenced by its files: {danger}")));
            }
            return Ok(());
        }
        let old = match &promote.from {
            Some(from) => Some(self.live.site(from).await?),
            None => None,
        };
        self.can_be_told().await?;
        let mut times = Times::default();
        let stopping = match &old {
            Some(old) => old.stop_for(self, &session, &mut times, progress).await?,
            None => None,
        };
        let begun = stopping.as_ref().map_or_else(Instant::now, |stopping| stopping.begun);
        self.tell(&process, &session, begun, &mut times).await?;
        if let (Some(old), Some(stopping)) = (&old, stopping) {
            progress(times.no_writes());
            old.see_end(stopping).await?;
        }
        Ok(())
    }

    /// Before anything is stopped: the promote file can be written.
    async fn can_be_told(&self) -> Result<(), Failure> {
        let data_dir = self.node.data_dir.clone();
        self.on_files(move || files::private_temp(Path::new(&data_dir), "", b"").map(drop)).await
    }

    async fn process(&self) -> Result<Option<Arc<Postmaster>>, Failure> {
        let Life::Running(postmaster) = self.life().await? else { return Ok(None) };
        let data_dir = self.node.data_dir.clone();
        let process = self.seat.blocking(move || Postmaster::of(&postmaster, &data_dir)).await;
        let process = process.map_err(|error| self.failure(format!("its server's process can't be held: {error}")))?;
        Ok(process.map(Arc::new))
    }

    /// Writes the promote file, signals, and waits for the server to leave recovery. From here on only forward.
    async fn tell(
        &self,
        process: &Arc<Postmaster>,
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
        let signal = |signal| {
            let told = process.signal(signal);
            told.map_err(|error| self.failure(format!("its server can't be told to promote itself: {error}")))
        };
        signal(Signal::USR1)?;
        Failpoint::Signalled.pass();
        let until = Instant::now() + self.live.timeout;
        let mut told = Instant::now();
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
            // A startup process that lost its stream a moment ago takes the file away, and then sleeps for what is left of
            // `wal_retrieve_retry_interval` (seen on 15: 5 s). A reload wakes it; the first signal may have come too early.
            if told.elapsed() >= REMIND {
                signal(Signal::USR1)?;
                signal(Signal::HUP)?;
                told = Instant::now();
            }
            tokio::time::sleep(TICK).await;
        }
    }

    async fn ask(&self, session: &Session) -> Result<(bool, Lsn), Failure> {
        let row = session.query_one(ASK, &[]).await;
        let row = row.map_err(|error| self.bad_sql("its position can't be read", error))?;
        let position: Option<&str> = row.get(1);
        Ok((row.get(0), position.and_then(|text| text.parse().ok()).unwrap_or_default()))
    }

    /// Stops the old primary, and waits until all of its WAL is on the candidate. `None`: it was down before, or not a
    /// primary any more; that all of it is here was seen as well.
    async fn stop_for<'a>(
        &'a self,
        candidate: &Site<'_>,
        session: &Session,
        times: &mut Times,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Option<Stopping<'a>>, Failure> {
        let Some(process) = self.process().await? else {
            let end = self.end_of_stopped().await?;
            return self.received(candidate, session, end).await.map(|()| None);
        };
        if self.role_by_files().await? != Role::Standby {
            return Err(self.failure("is not fenced, and is not stopped without that").with_remedy("plan again"));
        }
        match self.session().await {
            Ok(own) if self.runs_as(&own).await? == Role::Standby => {
                let (_, end) = self.ask(&own).await?;
                return self.received(candidate, session, end).await.map(|()| None);
            }
            // Little is left since the fence; what is written to disk now is not left for the shutdown.
            Ok(own) => self.checkpoint(&own, progress).await?,
            Err(failure) if !self.is_going_down().await? => return Err(failure),
            Err(_) => {}
        }
        progress(Progress::Waiting(format!("the end of {}", self.node.name)));
        let mut stopping = Stopping {
            begun: Instant::now(),
            process: Arc::clone(&process),
            command: Some(Box::pin(self.issue_stop(process))),
        };
        let result = self.until_proven(&mut stopping, candidate, session, times).await;
        match result {
            Ok(()) => Ok(Some(stopping)),
            Err(Unproven::RunsOn(failure)) => Err(failure),
            Err(Unproven::GoesDown(failure)) => {
                self.bring_down(&stopping.process, candidate, session).await?;
                Err(failure)
            }
        }
    }

    async fn until_proven(
        &self,
        stopping: &mut Stopping<'_>,
        candidate: &Site<'_>,
        session: &Session,
        times: &mut Times,
    ) -> Result<(), Unproven> {
        let (begun, process) = (stopping.begun, Arc::clone(&stopping.process));
        let proof = async {
            let control = self.watch(&process, begun).await?;
            times.shut_down = begun.elapsed();
            Failpoint::ShutDown.pass();
            let end = self.end_of(*control).await?;
            self.received(candidate, session, end).await?;
            times.proven = begun.elapsed();
            Failpoint::Proven.pass();
            Ok::<(), Failure>(())
        };
        let mut proof = pin!(proof);
        // A unit's stop returns when all is over, which the proof does not wait for.
        if let Some(command) = &mut stopping.command {
            tokio::select! {
                biased;
                proven = &mut proof => return proven.map_err(Unproven::GoesDown),
                stopped = command => {
                    stopping.command = None;
                    if let Err(failure) = stopped {
                        let goes_down = self.is_going_down().await.unwrap_or(true);
                        return Err(if goes_down { Unproven::GoesDown(failure) } else { Unproven::RunsOn(failure) });
                    }
                }
            }
        }
        proof.await.map_err(Unproven::GoesDown)
    }

    /// Whether the stop has begun, or is over.
    async fn is_going_down(&self) -> Result<bool, Failure> {
        let (_, state) = self.role_and_state().await?;
        Ok(state.is_going_down())
    }

    /// Where the WAL of the old primary ends, which was stopped before.
    async fn end_of_stopped(&self) -> Result<Lsn, Failure> {
        let data_dir = self.node.data_dir.clone();
        let control = self.on_files(move || read_control(&data_dir)).await?;
        match control.map(|(control, _)| control) {
            Some(control) if control.state == ControlState::ShutDown => self.end_of(control).await,
            Some(control) if control.state == ControlState::ShutDownInRecovery => Ok(control.min_recovery_point),
            Some(_) | None => {
                Err(self.failure("its server has ended without a clean shutdown").with_remedy("plan again"))
            }
        }
    }

    /// Issues the fast stop. Whoever controls the server may return only when it is down.
    async fn issue_stop(&self, process: Arc<Postmaster>) -> Result<(), Failure> {
        if self.stops_by_signal() {
            let told = process.signal(Signal::INT);
            told.map_err(|error| self.failure(format!("its server can't be stopped: {error}")))?;
            Failpoint::StopIssued.pass();
        } else {
            self.call_stop().await?;
        }
        Ok(())
    }

    /// Watches pg_control until the server is shut down: that comes well before its processes have ended.
    async fn watch(&self, process: &Arc<Postmaster>, begun: Instant) -> Result<Box<Control>, Failure> {
        let until = begun + self.live.timeout;
        loop {
            let data_dir = self.node.data_dir.clone();
            let tick = (Instant::now() + Duration::from_millis(100)).min(until);
            let has_ended = self.has_ended(process, Duration::ZERO).await?;
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
            match has_all(position, end) {
                Some(true) => return Ok(()),
                Some(false) => {}
                None => {
                    let old = &self.node.name;
                    let what = format!("it has WAL to {position}, and {old} ended at {end}: another branch");
                    return Err(candidate.failure(what));
                }
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
    async fn bring_down(
        &self,
        process: &Arc<Postmaster>,
        candidate: &Site<'_>,
        session: &Session,
    ) -> Result<(), Failure> {
        if self.has_ended(process, self.live.timeout).await? {
            return Ok(());
        }
        // It waits for the candidate to confirm what it sent last.
        let end_receiver = "SELECT pg_terminate_backend(pid) FROM pg_stat_wal_receiver";
        let ended = session.run(end_receiver).await;
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

    async fn has_ended(&self, process: &Arc<Postmaster>, timeout: Duration) -> Result<bool, Failure> {
        let process = Arc::clone(process);
        let ended = self.seat.blocking(move || process.ends_within(timeout)).await;
        ended.map_err(|error| self.failure(format!("its process can't be watched: {error}")))
    }

    /// The promotion did not wait for the old server's last processes (an archiver may take its time); its start does.
    async fn see_end(&self, stopping: Stopping<'_>) -> Result<(), Failure> {
        if let Some(command) = stopping.command {
            command.await?;
        }
        if self.has_ended(&stopping.process, self.live.timeout).await? {
            return Ok(());
        }
        let seconds = self.live.timeout.as_secs();
        let failure =
            self.failure(format!("its server is shut down, and its processes have not ended within {seconds} s"));
        Err(failure.with_remedy("see whether its archive_command hangs; apply again goes on from here"))
    }
}

/// Whether a standby at this position has all of a server that ended there. `None`: it has more, which can't come from that
/// server.
fn has_all(position: Lsn, end: Lsn) -> Option<bool> {
    (position <= end).then_some(position == end)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_the_last_record_proves_that_all_is_there() {
        // The checkpoint of the shutdown begins at 0/302A9E0 and ends at 0/302AA58.
        let end = Lsn(0x302_AA58);
        assert_eq!(has_all(Lsn(0x302_A9E0), end), Some(false), "its beginning is no proof");
        assert_eq!(has_all(end, end), Some(true));
        assert_eq!(has_all(Lsn(0x302_AA60), end), None, "it came from another server");
    }
}
