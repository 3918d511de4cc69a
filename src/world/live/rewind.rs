//! A rewind: pg_rewind in a folder where no service finds the data, between what is kept of the node and what it gets back.
//!
//! Once the data directory is out of the way (`.pgpair-work`), what a killed run leaves is only cloned: its configuration
//! is in `.pgpair-old` by then, and what it held alone in `.pgpair-diverged-…`.

use std::fs;
use std::path::Path;

use crate::pg::control::Control;
use crate::pg::control::ControlState;
use crate::pg::guc;
use crate::pg::version::StandbyMode;
use crate::plan::PassfileEntry;
use crate::plan::Rewind;
use crate::plan::desired;
use crate::plan::desired::REWIND_DATABASE;
use crate::world::Failure;
use crate::world::Progress;
use crate::world::failpoint::Failpoint;
use crate::world::files;
use crate::world::files::FileError;
use crate::world::live::Site;
use crate::world::live::create::read_control;
use crate::world::live::replace::copy;
use crate::world::live::server::Life;
use crate::world::live::server::POLL;
use crate::world::live::server::remove_stale_locks;
use crate::world::observe::place::BACKUP_SUFFIX;
use crate::world::observe::place::CONTROL_ASIDE;
use crate::world::outside;
use crate::world::probe::process::is_lived_in;
use crate::world::process::Command;

/// What the source has, and would mislead a server that starts on the target.
const NOT_OURS: [&str; 5] = ["promote", "recovery.signal", "recovery.conf", "recovery.done", "standby.signal"];

/// How long a path to a socket may be, with the name that the server gives it (`sun_path`).
const LONGEST_FOLDER: usize = 80;

/// Settings of a server that only brings its own WAL to an end: nobody reaches it, and it reaches nobody.
const ALONE: [(&str, &str); 21] = [
    ("archive_cleanup_command", ""),
    ("archive_mode", "off"),
    ("external_pid_file", ""),
    ("hot_standby", "on"),
    ("listen_addresses", ""),
    ("log_destination", "stderr"),
    ("logging_collector", "off"),
    ("primary_conninfo", ""),
    ("primary_slot_name", ""),
    ("promote_trigger_file", ""),
    ("recovery_end_command", ""),
    ("recovery_min_apply_delay", "0"),
    ("recovery_target", ""),
    ("recovery_target_lsn", ""),
    ("recovery_target_name", ""),
    ("recovery_target_time", ""),
    ("recovery_target_timeline", "current"),
    ("recovery_target_xid", ""),
    ("restore_command", ""),
    ("ssl", "off"),
    ("synchronous_standby_names", ""),
];

/// Why a rewind came to no end, and what that leaves.
enum Failed {
    /// The data directory is what it was.
    Untouched(Failure),
    /// It may be half of one and half of the other.
    Destroyed(Failure),
}

impl Site<'_> {
    pub(super) async fn rewind(&self, rewind: &Rewind, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), Failure> {
        if let Life::Running(postmaster) = self.life().await? {
            let what = format!("a server runs on `{}` (pid {})", self.node.data_dir, postmaster.pid);
            return Err(self.failure(what).with_remedy("plan again"));
        }
        self.keep_configuration_aside(&rewind.kept).await?;
        Failpoint::ConfigurationKept.pass();
        self.keep_diverged(&rewind.source, progress).await?;
        Failpoint::DivergedKept.pass();
        let (data_dir, work) = (self.node.data_dir.clone(), self.work_dir());
        self.on_files(move || files::rename(data_dir, work)).await?;
        Failpoint::MovedAside.pass();
        match self.rewind_in_work(rewind, progress).await {
            Ok(()) => {}
            Err(Failed::Untouched(failure)) => {
                let (data_dir, outside) = self.folders();
                let work = self.work_dir();
                self.on_files(move || {
                    files::rename(work, &data_dir)?;
                    outside::clear_old(&data_dir, &outside)
                })
                .await?;
                return Err(failure);
            }
            Err(Failed::Destroyed(failure)) => return Err(failure),
        }
        let (data_dir, work) = (self.node.data_dir.clone(), self.work_dir());
        self.on_files(move || files::rename(work, data_dir)).await?;
        Failpoint::MovedBack.pass();
        Ok(())
    }

    /// Where a data directory is rewound.
    pub(super) fn work_dir(&self) -> String {
        format!("{}.pgpair-work", self.node.data_dir)
    }

    /// Copies what a copy of this node would keep, with what tells whose it is.
    async fn keep_configuration_aside(&self, kept: &[String]) -> Result<(), Failure> {
        let (data_dir, outside) = self.folders();
        let (old, kept) = (self.old_dir(), kept.to_owned());
        self.on_files(move || {
            outside::clear_old(&data_dir, &outside)?;
            fs::create_dir(&old).map_err(failed("made", Path::new(&old)))?;
            files::set_mode(&old, 0o700)?;
            let (data_dir, old) = (Path::new(&data_dir), Path::new(&old));
            for path in kept.iter().map(String::as_str).chain(["PG_VERSION"]) {
                let own = data_dir.join(path);
                copy(&own, &old.join(path)).map_err(failed("kept", &own))?;
            }
            // Last: without it nothing tells that this is the configuration of a node.
            let control = data_dir.join("global/pg_control");
            copy(&control, &old.join(CONTROL_ASIDE)).map_err(failed("kept", &control))?;
            files::sync(old)
        })
        .await
    }

    async fn rewind_in_work(&self, rewind: &Rewind, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), Failed> {
        self.bring_to_an_end(progress).await.map_err(Failed::Untouched)?;
        Failpoint::Recovered.pass();
        let source = self.live.site(&rewind.source).await.map_err(Failed::Untouched)?;
        let session = source.session().await.map_err(Failed::Untouched)?;
        // Until its first checkpoint pg_control of a promoted server has the old timeline, and pg_rewind sees no fork.
        source.checkpoint(&session, progress).await.map_err(Failed::Untouched)?;
        Failpoint::SourceCheckpointed.pass();
        self.run_pg_rewind(rewind, progress).await?;
        Failpoint::Rewound.pass();
        self.put_back(&rewind.kept).await.map_err(Failed::Destroyed)?;
        Failpoint::PutBack.pass();
        Ok(())
    }

    async fn control_in_work(&self) -> Result<Control, Failure> {
        let work = self.work_dir();
        let control = self.on_files(move || read_control(&work)).await?;
        control.map(|(control, _)| control).ok_or_else(|| self.failure("it has no whole pg_control"))
    }

    /// Lets the server of a directory that crashed replay its own WAL, as a standby that follows nobody, and stop: pg_rewind
    /// takes only what was stopped cleanly, and can't do that itself with a standby.
    async fn bring_to_an_end(&self, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), Failure> {
        match self.control_in_work().await?.state {
            ControlState::ShutDown | ControlState::ShutDownInRecovery => return Ok(()),
            ControlState::StartingUp
            | ControlState::ShuttingDown
            | ControlState::InCrashRecovery
            | ControlState::InArchiveRecovery
            | ControlState::InProduction => {}
        }
        progress(Progress::Waiting("the recovery of what it wrote last".to_owned()));
        let (work, short) = (self.work_dir(), self.work_dir().len() <= LONGEST_FOLDER);
        let is_fenced = self.on_files({
            let work = work.clone();
            move || {
                remove_stale_locks(&work)?;
                Ok(files::exists(format!("{work}/standby.signal"))? && !is_lived_in(&work))
            }
        });
        if !is_fenced.await? {
            return Err(self.failure("it has no standby files, or processes of its last server still live"));
        }
        let sockets = if short { None } else { Some(self.folder_for_a_socket().await?) };
        let socket_dir = sockets.as_ref().map_or(work.clone(), |dir| dir.path().to_string_lossy().into_owned());
        let mut command = Command::new(self.program("postgres")).args(["-D", &work, "-p", &self.node.port.to_string()]);
        command = command.args(["-c", &format!("unix_socket_directories={socket_dir}")]);
        let major = self.topology().postgresql.version;
        for (name, value) in ALONE.into_iter().filter(|(name, _)| guc::context(major, name).is_some()) {
            command = command.args(["-c", &format!("{name}={value}")]);
        }
        let server = command.guarded(&self.seat, self.lock()?, self.live.interrupt.clone());
        tokio::pin!(server);
        let ended = tokio::select! {
            ended = &mut server => ended,
            stopped = self.stop_when_ready(&work) => {
                stopped?;
                server.await
            }
        };
        let output = ended.map_err(|error| self.not_run(&error))?;
        match self.control_in_work().await?.state {
            ControlState::ShutDownInRecovery => Ok(()),
            ControlState::StartingUp
            | ControlState::ShutDown
            | ControlState::ShuttingDown
            | ControlState::InCrashRecovery
            | ControlState::InArchiveRecovery
            | ControlState::InProduction => {
                let failure = self.failure(format!("its recovery did not come to an end: {}", output.ending()));
                let remedy = format!("`pgpair rebuild {}` clones it anew", self.node.name);
                Err(failure.with_output(output.stderr_lines()).with_remedy(remedy))
            }
        }
    }

    async fn folder_for_a_socket(&self) -> Result<tempfile::TempDir, Failure> {
        let made = || tempfile::Builder::new().prefix("pgpair-").tempdir_in("/tmp");
        let made = move || made().map_err(failed("made", Path::new("/tmp")));
        self.on_files(made).await
    }

    /// Stops the server once it has replayed all that is there: it lets read-only sessions in then.
    async fn stop_when_ready(&self, work: &str) -> Result<(), Failure> {
        loop {
            let dir = work.to_owned();
            if let Life::Running(postmaster) = self.on_files(move || Life::of(&dir)).await?
                && postmaster.is_ready
            {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        let command = Command::new(self.program("pg_ctl")).args(["stop", "-D", work, "-m", "fast", "-W"]);
        let output = command.timeout(self.live.timeout).output(&self.seat).await;
        let output = output.map_err(|error| self.not_run(&error))?;
        if output.status.success() {
            return Ok(());
        }
        Err(self.failure(format!("pg_ctl stop ended with {}", output.ending())).with_output(output.lines()))
    }

    async fn run_pg_rewind(&self, rewind: &Rewind, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), Failed> {
        let topology = self.topology();
        let mut conninfo = desired::connection_to(topology, &topology.nodes[&rewind.source]);
        conninfo.set("user", &topology.replication.user);
        conninfo.set("dbname", REWIND_DATABASE);
        conninfo.set("connect_timeout", "10");
        conninfo.set("application_name", &format!("pgpair_rewind_{}", self.node.name));
        let mut command = Command::new(self.program("pg_rewind"));
        command = command.args(["-D", &self.work_dir(), "--source-server", &conninfo.text(), "--progress"]);
        let dialect = topology.postgresql.version.dialect();
        if dialect.standby_mode == StandbyMode::SignalFile && dialect.conninfo_reloads {
            // 13 and later would start a server of their own on what was not stopped cleanly.
            command = command.arg("--no-ensure-shutdown");
        }
        let mut passfile = None;
        if topology.replication.password.is_some() {
            let user = topology.replication.user.clone();
            let entry = PassfileEntry { database: REWIND_DATABASE.to_owned(), user };
            let text = self.passfile_text(&[entry]).await.map_err(Failed::Untouched)?;
            let file = self.private_temp(text).await.map_err(Failed::Untouched)?;
            let path = file.path().to_string_lossy().into_owned();
            command = command.env("PGPASSFILE", &path).removes(path);
            passfile = Some(file);
        }
        progress(Progress::Waiting("pg_rewind".to_owned()));
        let lock = self.lock().map_err(Failed::Untouched)?;
        let ended = command.guarded(&self.seat, lock, self.live.interrupt.clone()).await;
        drop(passfile);
        let output = ended.map_err(|error| Failed::Destroyed(self.not_run(&error)))?;
        let lines: Vec<String> = output.lines();
        let has_begun = lines.iter().any(|line| line.contains("need to copy"));
        let failure = |what: String| self.failure(what).with_output(output.stderr_lines());
        let rebuild = format!("`pgpair rebuild {}` clones it anew", self.node.name);
        match (output.status.success(), has_begun) {
            (true, true) => Ok(()),
            (true, false) => {
                Err(Failed::Untouched(failure("pg_rewind found nothing to rewind".to_owned()).with_remedy(rebuild)))
            }
            (false, false) if output.status.code().is_some() => {
                let what = format!("pg_rewind ended with {}, and has changed nothing", output.ending());
                Err(Failed::Untouched(failure(what).with_remedy(rebuild)))
            }
            (false, _) => {
                let failure = failure(format!("pg_rewind ended with {}", output.ending()));
                Err(Failed::Destroyed(failure.with_remedy("apply again: the node is cloned anew then")))
            }
        }
    }

    /// Gives the node its own files again, in the place of the source's.
    async fn put_back(&self, kept: &[String]) -> Result<(), Failure> {
        let (work, old, kept) = (self.work_dir(), self.old_dir(), kept.to_owned());
        self.on_files(move || {
            let (work, old) = (Path::new(&work), Path::new(&old));
            for path in kept {
                let (own, copied) = (old.join(&path), work.join(&path));
                files::remove_tree(&copied)?;
                copy(&own, &copied).map_err(failed("put back", &own))?;
            }
            for name in NOT_OURS {
                files::remove(work.join(name))?;
            }
            files::remove_matching(work, |name| {
                name.ends_with(BACKUP_SUFFIX) || name.ends_with(".pgpair-trial") || files::is_temp(name)
            })?;
            let slots = work.join("pg_replslot");
            for slot in fs::read_dir(&slots).map_err(failed("read", &slots))? {
                files::remove_tree(slot.map_err(failed("read", &slots))?.path())?;
            }
            files::set_mode(work, 0o700)
        })
        .await?;
        self.write_standby_files(&self.work_dir(), None).await?;
        let work = self.work_dir();
        self.on_files(move || files::sync(work)).await
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { what, path, source }
}
