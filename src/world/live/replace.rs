//! What a clone replaces: kept aside where there is room for both, and the source of what a rebuild keeps.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::observed::Content;
use crate::observed::Room;
use crate::plan::CloneFrom;
use crate::plan::Refusal;
use crate::plan::Replaced;
use crate::world::Failure;
use crate::world::Progress;
use crate::world::files;
use crate::world::files::FileError;
use crate::world::live::Site;
use crate::world::observe::place::CONTROL_ASIDE;
use crate::world::outside;

/// What a copy needs beside the databases: WAL that is written meanwhile, and two segments to begin with.
const HEADROOM: u64 = 64 << 20;

impl Site<'_> {
    /// Measures the file systems that a copy would go to.
    pub(super) async fn measure(&self, clone: &CloneFrom) -> Result<Vec<Room>, Failure> {
        let sizes = self.live.site(&clone.source).await?.sizes().await?;
        self.rooms(clone, &sizes).await
    }

    async fn rooms(&self, clone: &CloneFrom, sizes: &BTreeMap<String, u64>) -> Result<Vec<Room>, Failure> {
        let (data_dir, outside) = self.folders();
        let mut needs = vec![(data_dir.clone(), HEADROOM)];
        needs.extend(clone.waldir.iter().map(|waldir| (waldir.clone(), HEADROOM)));
        needs.extend(sizes.iter().map(|(folder, size)| {
            let here = clone.tablespaces.get(folder).unwrap_or(&data_dir);
            (here.clone(), *size)
        }));
        let (old, replaces) = (self.old_dir(), clone.replaces.is_some());
        self.on_files(move || {
            // What a removal would give is walked through file by file: only where it is needed.
            let as_it_is = rooms(&needs, &[])?;
            if as_it_is.iter().all(Room::is_enough) {
                return Ok(as_it_is);
            }
            let mut gains = vec![(data_dir.clone(), files::size_of_tree(&old))];
            if replaces {
                gains.push((data_dir.clone(), files::size_of_tree(&data_dir)));
            }
            for folder in outside {
                if outside::content(&data_dir, &folder)? == Content::InUse {
                    gains.push((folder.clone(), files::size_of_tree(&folder)));
                }
            }
            rooms(&needs, &gains)
        })
        .await
    }

    /// Sees that a copy of this many bytes fits. Where it fits only in the place of what is replaced, that is removed
    /// first. Returns what is to be replaced in the end: nothing any more, where it is out of the way already.
    pub(super) async fn make_room<'a>(
        &self,
        clone: &'a CloneFrom,
        sizes: &BTreeMap<String, u64>,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Option<&'a Replaced>, Failure> {
        let rooms = self.rooms(clone, sizes).await?;
        if rooms.iter().all(Room::is_enough) {
            return Ok(clone.replaces.as_ref());
        }
        if let Some(room) = rooms.into_iter().find(|room| !room.can_be_made()) {
            let refusal = Refusal::NoRoom { node: self.node.name.clone(), room };
            return Err(self.failure(refusal.reason()).with_remedy(refusal.remedy()));
        }
        let (data_dir, outside) = self.folders();
        let replaces = clone.replaces.is_some();
        progress(Progress::Waiting("the removal of the old data directory: there is no room for both".to_owned()));
        let old = self.old_dir();
        self.on_files(move || {
            if replaces {
                outside::clear_old(&data_dir, &outside)?;
                files::rename(&data_dir, &old)?;
            }
            // pg_control goes first, and the links last: what they lead to is the old one's while they are there.
            put_control_aside(Path::new(&old))?;
            outside::clear_targets(&old, &outside)?;
            remove_data(Path::new(&old))
        })
        .await?;
        Ok(None)
    }

    /// Gives the copy the node's own files in the place of the source's.
    pub(super) async fn keep_own(&self, paths: &[String]) -> Result<(), Failure> {
        let (data_dir, old, new, paths) =
            (self.node.data_dir.clone(), self.old_dir(), self.new_dir(), paths.to_owned());
        self.on_files(move || {
            let from = if files::exists(format!("{data_dir}/PG_VERSION"))? { data_dir } else { old };
            for path in paths {
                let (own, copied) = (Path::new(&from).join(&path), Path::new(&new).join(&path));
                files::remove_tree(&copied)?;
                copy(&own, &copied).map_err(|source| FileError { what: "kept", path: own, source })?;
            }
            Ok(())
        })
        .await
    }
}

/// Returns the file systems that folders to be made are on. What lies on one needs its room together.
fn rooms(needs: &[(String, u64)], gains: &[(String, u64)]) -> Result<Vec<Room>, FileError> {
    // A folder above that is not there yet will be made on the file system of the one above it.
    let above = |folder: &str| {
        Path::new(folder).ancestors().skip(1).find(|above| above.is_dir()).unwrap_or(Path::new("/")).to_owned()
    };
    let mut rooms: BTreeMap<u64, Room> = BTreeMap::new();
    for (folder, needed) in needs {
        let folder = above(folder);
        let (device, free) = files::free_space(&folder)?;
        let folder = folder.display().to_string();
        rooms.entry(device).or_insert(Room { folder, free, needed: 0, gained: 0 }).needed += needed;
    }
    for (folder, gained) in gains {
        let (device, _) = files::free_space(&above(folder))?;
        if let Some(room) = rooms.get_mut(&device) {
            room.gained += gained;
        }
    }
    Ok(rooms.into_values().collect())
}

/// Moves pg_control to where no server finds it, so that none ever starts on what is left.
fn put_control_aside(dir: &Path) -> Result<(), FileError> {
    let (control, aside) = (dir.join("global/pg_control"), dir.join(CONTROL_ASIDE));
    if files::exists(&control)? {
        files::remove(&aside)?;
        files::rename(control, aside)?;
    }
    Ok(())
}

/// Removes the data and leaves the rest, the node's configuration with it.
fn remove_data(dir: &Path) -> Result<(), FileError> {
    let listed = |source| FileError { what: "read", path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(listed)?.flatten() {
        let name = entry.file_name();
        let is_data = name == "base" || name == "global" || name.to_string_lossy().starts_with("pg_");
        if is_data && entry.file_type().map_err(listed)?.is_dir() {
            files::remove_tree(entry.path())?;
        }
    }
    Ok(())
}

/// Copies a file, a link or the files of a folder, with their modes; what is not there is not copied.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(from) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    if found.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if !found.is_dir() {
        fs::copy(from, to)?;
        return fs::File::open(to)?.sync_all();
    }
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(found.permissions().mode()))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    fs::File::open(to)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_makes_room_the_configuration_is_left_and_no_server_starts_on_it() {
        let folder = tempfile::tempdir().expect("a folder");
        for dir in ["global", "base/1", "pg_wal", "conf.d"] {
            fs::create_dir_all(folder.path().join(dir)).expect("a folder");
        }
        for file in ["global/pg_control", "base/1/2", "pg_wal/x", "conf.d/a.conf", "pg_hba.conf", "postgresql.conf"] {
            fs::write(folder.path().join(file), "x").expect("a file");
        }
        put_control_aside(folder.path()).expect("renamed");
        remove_data(folder.path()).expect("removed");
        assert!(!folder.path().join("global").exists());
        let left = fs::read_dir(folder.path()).expect("read").map(|entry| entry.expect("an entry").file_name());
        let mut left: Vec<String> = left.map(|name| name.to_string_lossy().into_owned()).collect();
        left.sort();
        assert_eq!(left, ["conf.d", CONTROL_ASIDE, "pg_hba.conf", "postgresql.conf"]);
    }

    #[test]
    fn own_files_are_copied_with_their_modes_and_links_as_links() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("conf.d")).expect("a folder");
        fs::write(at("conf.d/a.conf"), "x").expect("a file");
        fs::write(at("server.key"), "k").expect("a file");
        fs::set_permissions(at("server.key"), fs::Permissions::from_mode(0o600)).expect("a mode");
        symlink("/etc/own.crt", at("server.crt")).expect("a link");
        for name in ["conf.d", "server.key", "server.crt", "nothing"] {
            copy(&at(name), &at("copy").join(name)).expect("copied");
        }
        assert_eq!(fs::read_to_string(at("copy/conf.d/a.conf")).expect("a file"), "x");
        assert_eq!(fs::metadata(at("copy/server.key")).expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_link(at("copy/server.crt")).expect("a link"), Path::new("/etc/own.crt"));
        assert!(!at("copy/nothing").exists());
    }
}
