//! The fence of an old primary, and its end: what decides what a data directory comes up as.
//!
//! The settings are in its block by then, and a running server has read them; the signal file comes last.

use crate::pg::version::StandbyMode;
use crate::plan::Fence;
use crate::plan::desired;
use crate::topology::Role;
use crate::world::Failure;
use crate::world::Progress;
use crate::world::failpoint::Failpoint;
use crate::world::files;
use crate::world::live::Site;
use crate::world::live::config::CONF;
use crate::world::live::server::Life;
use crate::world::process::Command;

/// Each of them makes a data directory recover.
const SIGNAL_FILES: [&str; 2] = ["standby.signal", "recovery.signal"];

impl Site<'_> {
    /// Lets whatever starts on the data directory come up as a standby. A running primary goes on.
    pub(super) async fn fence(&self, fence: &Fence, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), Failure> {
        if let Life::Running(_) = self.life().await?
            && !fence.by_force
        {
            let session = self.session().await?;
            if self.runs_as(&session).await? == Role::Standby {
                return Err(self.failure("its server is in recovery already").with_remedy("plan again"));
            }
            // What is written now is not left for the shutdown.
            self.checkpoint(&session, progress).await?;
        }
        self.write_standby_files(&self.node.data_dir, fence.recovery_conf.as_deref()).await?;
        self.read_back().await?;
        Failpoint::Fenced.pass();
        Ok(())
    }

    /// Sees that a server started on the files would be a standby, and of whom.
    async fn read_back(&self) -> Result<(), Failure> {
        if self.role_by_files().await? != Role::Standby {
            return Err(self.failure("its standby files were written, and are not there"));
        }
        if self.topology().postgresql.version.dialect().standby_mode == StandbyMode::RecoveryConf {
            return Ok(());
        }
        let command = Command::new(self.program("postgres")).args(["-D", &self.node.data_dir]);
        let config_file = format!("config_file={}", self.conf_file(CONF));
        let command = command.args(["-c", &config_file, "-C", "primary_conninfo"]).timeout(self.live.timeout);
        let output = command.output(&self.seat).await.map_err(|error| self.not_run(&error))?;
        let read = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        // Its text may have a password in it, and is not shown.
        if output.status.success() && desired::conninfo_holds(self.topology(), self.node, &read) {
            return Ok(());
        }
        let failure = self.failure("by its files it would not follow the new primary as a standby");
        Err(failure.with_output(output.lines()).with_remedy("see `primary_conninfo` in its postgresql.conf"))
    }

    /// Makes the node a primary by its files again.
    pub(super) async fn unfence(&self) -> Result<(), Failure> {
        if let Life::Running(_) = self.life().await? {
            let session = self.session().await?;
            if self.runs_as(&session).await? == Role::Standby {
                return Err(self.failure("its server is a standby").with_remedy("plan again"));
            }
        } else if self.role_and_state().await?.1.was_standby() {
            let failure =
                self.failure("it was started as a standby meanwhile: without its files it would write beside");
            return Err(failure.with_remedy("plan again"));
        }
        let paths = SIGNAL_FILES.map(|name| self.file(name));
        let [conf, done] = ["recovery.conf", "recovery.done"].map(|name| self.file(name));
        self.on_files(move || {
            paths.into_iter().try_for_each(files::remove)?;
            // As 10 and 11 do themselves at the end of a recovery: lines of somebody else's may be in it.
            if !files::exists(&conf)? {
                return Ok(());
            }
            files::remove(&done)?;
            files::rename(conf, done)
        })
        .await?;
        Failpoint::Unfenced.pass();
        Ok(())
    }
}
