//! What a clone replaces: kept aside where there is room for both, and the source of what a rebuild keeps.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::plan::CloneFrom;
use crate::plan::Replaced;
use crate::world::Failure;
use crate::world::Progress;
use crate::world::files;
use crate::world::files::FileError;
use crate::world::live::Site;

/// What a copy needs beside the databases: WAL that is written meanwhile, and two segments to begin with.
const HEADROOM: u64 = 64 << 20;

impl Site<'_> {
    /// Sees that a copy of this many bytes fits. Where it fits only in the place of what is replaced, that is removed
    /// first. Returns what is to be replaced in the end: nothing any more, where it is out of the way already.
    pub(super) async fn make_room<'a>(
        &self,
        clone: &'a CloneFrom,
        total: u64,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Option<&'a Replaced>, Failure> {
        let parent = self.folder();
        let (here, data_dir, old) = (parent.clone(), self.node.data_dir.clone(), self.old_dir());
        let replaces = clone.replaces.is_some();
        let measured = self.seat.blocking(move || {
            let found = rustix::fs::statvfs(&here)?;
            let replaced = if replaces { files::size_of_tree(data_dir) } else { 0 };
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            rustix::io::Result::Ok((free, replaced.saturating_add(files::size_of_tree(old))))
        });
        let (free, gained) =
            measured.await.map_err(|error| self.failure(format!("`{}`: {error}", parent.display())))?;
        let needed = total.saturating_add(HEADROOM);
        if free >= needed {
            return Ok(clone.replaces.as_ref());
        }
        if free.saturating_add(gained) < needed {
            let [free, needed, gained] = [free, needed, gained].map(|bytes| bytes >> 20);
            let what =
                if gained == 0 { String::new() } else { format!(", also without the {gained} MB of the old one") };
            let what = format!("`{}` has {free} MB free, and the copy needs {needed} MB{what}", parent.display());
            return Err(self.failure(what).with_remedy("free space there, and apply again"));
        }
        progress(Progress::Waiting("the removal of the old data directory: there is no room for both".to_owned()));
        let (data_dir, old) = (self.node.data_dir.clone(), self.old_dir());
        self.on_files(move || {
            if replaces {
                files::remove_tree(&old)?;
                files::rename(&data_dir, &old)?;
            }
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
            let from = if files::exists(&data_dir)? { data_dir } else { old };
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

/// Removes the data and leaves the rest, the node's configuration with it. pg_control goes first, so that no server
/// ever starts on what is left.
fn remove_data(dir: &Path) -> Result<(), FileError> {
    files::remove(dir.join("global/pg_control"))?;
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
fn copy(from: &Path, to: &Path) -> io::Result<()> {
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
        remove_data(folder.path()).expect("removed");
        let left = fs::read_dir(folder.path()).expect("read").map(|entry| entry.expect("an entry").file_name());
        let mut left: Vec<String> = left.map(|name| name.to_string_lossy().into_owned()).collect();
        left.sort();
        assert_eq!(left, ["conf.d", "pg_hba.conf", "postgresql.conf"]);
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
