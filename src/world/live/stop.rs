//! Stopping a standby, and the mode of a data directory: what a repair does to a server before its files.

use crate::topology::Role;
use crate::world::Failure;
use crate::world::Progress;
use crate::world::files;
use crate::world::live::Site;
use crate::world::live::server::Life;

/// The mode that initdb gives a data directory.
const OWNER_ALONE: u32 = 0o700;

impl Site<'_> {
    /// Stops a server that is a standby by its files; one that answers has to say so itself as well.
    pub(super) async fn stop_standby(&self, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), Failure> {
        match self.life().await? {
            Life::Running(_) => {}
            Life::Stale | Life::None => return Ok(()),
        }
        let refused = |what: &str| self.failure(what).with_remedy("plan again");
        if self.role_by_files().await? == Role::Primary {
            return Err(refused("it has no standby files, and only a standby is stopped"));
        }
        if let Ok(session) = self.session().await
            && self.runs_as(&session).await? == Role::Primary
        {
            return Err(refused("its server accepts writes, and only a standby is stopped"));
        }
        self.stop(progress).await
    }

    pub(super) async fn mode(&self) -> Result<(), Failure> {
        let data_dir = self.node.data_dir.clone();
        self.on_files(move || files::set_mode(data_dir, OWNER_ALONE)).await
    }
}
