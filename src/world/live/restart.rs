//! A running server takes its configuration: by reading it again, or by a restart, of which it is told how long nobody
//! could connect.

use std::io;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Signal;

use crate::topology::Role;
use crate::world::Failure;
use crate::world::Progress;
use crate::world::live::Site;
use crate::world::live::postmaster::Postmaster;
use crate::world::live::server::Life;
use crate::world::live::server::POLL;
use crate::world::observe::server::PidFile;
use crate::world::sql::Session;

/// After a checkpoint that took longer, much has been written meanwhile, and the one of the shutdown would be long too.
const LONG: Duration = Duration::from_secs(5);

impl Site<'_> {
    /// Restarts the running server, after a checkpoint, so that it is away for a short time only.
    pub(super) async fn restart(&self, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), Failure> {
        let session = self.session().await?;
        let role = self.runs_as(&session).await?;
        // Before the server is down, not after.
        let would_be = self.role_by_files().await?;
        if would_be != role {
            return Err(self.failure(format!("it runs as a {role}, and its files would bring it up as a {would_be}")));
        }
        let begun = Instant::now();
        self.checkpoint(&session, progress).await?;
        if begun.elapsed() > LONG {
            self.checkpoint(&session, progress).await?;
        }
        drop(session);
        let stopped = Instant::now();
        let Life::Running(before) = self.life().await? else {
            return Err(self.failure("its server ended before it was restarted").with_remedy("plan again"));
        };
        if !self.call_restart().await? {
            self.stop(progress).await?;
        } else if matches!(self.life().await?, Life::Running(now) if now.pid == before.pid) {
            let failure = self.failure("its server was not restarted by `service.restart`");
            return Err(failure.with_remedy("correct the command, which has to wait until the old server is gone"));
        }
        let started = self.start(role, progress).await;
        if started.is_ok() {
            let away = stopped.elapsed();
            progress(match role {
                Role::Primary => Progress::NoWrites { parts: vec![("restarted", away)], from_before: false },
                Role::Standby => Progress::Note(format!("the server was away for {:.2} s", away.as_secs_f64())),
            });
        }
        started
    }

    /// Writes to disk what the shutdown would else have to; on a standby that is a restartpoint.
    pub(super) async fn checkpoint(
        &self,
        session: &Session,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<(), Failure> {
        progress(Progress::Waiting("a checkpoint".to_owned()));
        // As long as it takes: nobody waits for it, and it is what the outage would wait for.
        for statement in ["SET statement_timeout = 0", "CHECKPOINT"] {
            let done = session.client().batch_execute(statement).await;
            done.map_err(|error| self.bad_sql("no checkpoint was made", error))?;
        }
        Ok(())
    }

    /// Stops the running server (fast), and waits until it is gone.
    pub(super) async fn stop(&self, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), Failure> {
        let Life::Running(postmaster) = self.life().await? else { return Ok(()) };
        progress(Progress::Waiting("the server's shutdown".to_owned()));
        let (data_dir, timeout) = (self.node.data_dir.clone(), self.live.timeout);
        let signal = (!self.call_stop().await?).then_some(Signal::INT);
        let stopped = self.seat.blocking(move || see_its_end(&postmaster, &data_dir, signal, timeout)).await;
        match stopped {
            Ok(true) => {}
            Ok(false) => {
                let failure = self
                    .failure(format!("its server did not stop within {} s; its shutdown goes on", timeout.as_secs()));
                return Err(failure.with_remedy("wait until it is down, and apply again: it is then started"));
            }
            Err(error) => return Err(self.failure(format!("its server can't be stopped: {error}"))),
        }
        // Its postmaster.pid goes last; its other processes before it.
        match self.life().await? {
            Life::None => Ok(()),
            Life::Running(_) | Life::Stale => {
                Err(self.failure("its server ended without a clean shutdown").with_remedy(self.where_it_logs()))
            }
        }
    }

    /// Lets the server read its configuration again, and waits until it has. Returns a session that began after it.
    pub(super) async fn reload(&self, session: &Session) -> Result<Session, Failure> {
        let until = Instant::now() + self.live.timeout;
        let unread = |error| self.bad_sql("its configuration can't be read again", error);
        let ask = "SELECT extract(epoch FROM pg_conf_load_time())::float8";
        let before: f64 = session.query_one(ask, &[]).await.map_err(unread)?.get(0);
        session.query_one("SELECT pg_reload_conf()", &[]).await.map_err(unread)?;
        loop {
            // A session reads the configuration only between its own commands: a new one tells what the server has.
            let fresh = self.session().await?;
            let now: f64 = fresh.query_one(ask, &[]).await.map_err(unread)?.get(0);
            if now > before {
                return Ok(fresh);
            }
            if Instant::now() >= until {
                let ask = "SELECT coalesce(sourcefile || ', line ' || sourceline || ': ', '') || error \
                           FROM pg_file_settings WHERE error IS NOT NULL";
                let rows = session.query(ask, &[]).await.map_err(unread)?;
                let failure =
                    self.failure("its server refused to read its configuration again; the old values stay in force");
                return Err(failure
                    .with_output(rows.iter().map(|row| row.get(0)).collect())
                    .with_remedy("see its log"));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Waits for a server's end, after a signal where that is for us to send. `false`: it is still at it.
fn see_its_end(file: &PidFile, data_dir: &str, signal: Option<Signal>, timeout: Duration) -> io::Result<bool> {
    let Some(postmaster) = Postmaster::of(file, data_dir)? else { return Ok(true) };
    if let Some(signal) = signal {
        postmaster.signal(signal)?;
    }
    postmaster.ends_within(timeout)
}
