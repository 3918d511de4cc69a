//! Files: read, replaced whole, moved, removed, in ways that a crash can't leave half done.
//!
//! Plain blocking functions; a seat runs them (`Seat::blocking`), so that what they make belongs to the node's user.

use std::fmt;
use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::Permissions;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use crate::world::user::Seat;

/// Mode of a file that only its owner may read.
pub const PRIVATE: u32 = 0o600;

/// How the names of temporary files begin and end.
const TEMP_PREFIX: &str = ".pgpair-";
pub const TEMP_SUFFIX: &str = ".tmp";

/// What could not be done with which file, and why.
#[derive(Debug, thiserror::Error)]
#[error("`{}` can't be {what}: {}", path.display(), plain(source))]
pub struct FileError {
    /// `read`, `written`, ...
    pub what: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

impl FileError {
    /// Returns what a person can do about it, where that is clear.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the kinds of std are open-ended")]
        match self.source.kind() {
            io::ErrorKind::StorageFull => Some("free space on that file system"),
            io::ErrorKind::ReadOnlyFilesystem => Some("mount that file system for writing"),
            io::ErrorKind::PermissionDenied => Some("give the OS user of the node access to it"),
            _ => None,
        }
    }
}

/// Returns the system's words without Rust's error number.
#[must_use]
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.find(" (os error").map_or(text.clone(), |end| text[..end].to_owned())
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { what, path, source }
}

/// Returns the bytes of a file; `None` where there is none.
///
/// # Errors
///
/// [`FileError`] where it is there and can't be read.
pub fn read(path: impl AsRef<Path>) -> Result<Option<Vec<u8>>, FileError> {
    let path = path.as_ref();
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// Returns the text of a file; `None` where there is none.
///
/// # Errors
///
/// As [`read`], and where it is not UTF-8: writing it back would change what pgpair must not touch.
pub fn read_text(path: impl AsRef<Path>) -> Result<Option<String>, FileError> {
    let path = path.as_ref();
    let Some(bytes) = read(path)? else { return Ok(None) };
    let not_text = |_| failed("edited", path)(io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"));
    String::from_utf8(bytes).map(Some).map_err(not_text)
}

/// Replaces the content of a file as a whole: after a crash it is the old or the new one.
///
/// A file that was there keeps its owner, and its mode unless one is given. Of a symbolic link, what it leads
/// to is replaced.
///
/// # Errors
///
/// [`FileError`]; the old content then still stands.
pub fn replace(path: impl AsRef<Path>, content: &[u8], mode: Option<u32>) -> Result<(), FileError> {
    let path = path.as_ref();
    let real = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(failed("written", path)(error)),
    };
    let folder = parent(&real);
    let write = || {
        let old = match fs::metadata(&real) {
            Ok(old) => Some(old),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        // Made with mode 0600: nobody reads a secret between its creation and its final mode.
        let mut new = tempfile::Builder::new().prefix(TEMP_PREFIX).suffix(TEMP_SUFFIX).tempfile_in(folder)?;
        new.write_all(content)?;
        if let Some(old) = &old {
            let made = new.as_file().metadata()?;
            if (old.uid(), old.gid()) != (made.uid(), made.gid()) {
                std::os::unix::fs::fchown(new.as_file(), Some(old.uid()), Some(old.gid()))?;
            }
        }
        let mode = mode.or(old.map(|old| old.mode() & 0o7777)).unwrap_or(PRIVATE);
        new.as_file().set_permissions(Permissions::from_mode(mode))?;
        new.as_file().sync_all()?;
        new.persist(&real).map_err(|error| error.error)?;
        sync_folder(folder)
    };
    write().map_err(failed("written", path))
}

/// Makes a file with this content and mode, whole; never over one that is there. Returns whether it was made.
///
/// # Errors
///
/// [`FileError`]; nothing is there then that was not before.
pub fn create(path: impl AsRef<Path>, content: &[u8], mode: u32) -> Result<bool, FileError> {
    let path = path.as_ref();
    let folder = parent(path);
    let make = || {
        let mut new = tempfile::Builder::new().prefix(TEMP_PREFIX).suffix(TEMP_SUFFIX).tempfile_in(folder)?;
        new.write_all(content)?;
        new.as_file().set_permissions(Permissions::from_mode(mode))?;
        new.as_file().sync_all()?;
        match new.persist_noclobber(path) {
            Ok(_) => sync_folder(folder).map(|()| true),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error.error),
        }
    };
    make().map_err(failed("written", path))
}

/// Whether a name is of a file that [`replace`] was writing: one that is there still is of a run that was killed.
#[must_use]
pub fn is_temp(name: &str) -> bool {
    name.starts_with(TEMP_PREFIX) && name.ends_with(TEMP_SUFFIX)
}

/// Makes a temporary file with mode 0600, for what a program reads from a file. It goes when it is dropped.
///
/// # Errors
///
/// [`FileError`] where the folder can't be written.
pub fn private_temp(folder: &Path, prefix: &str, content: &[u8]) -> Result<tempfile::NamedTempFile, FileError> {
    let make = || {
        let mut file = tempfile::Builder::new().prefix(prefix).suffix(TEMP_SUFFIX).tempfile_in(folder)?;
        file.write_all(content)?;
        file.flush()?;
        Ok(file)
    };
    make().map_err(failed("written to", folder))
}

/// Removes a file; one that is not there is no error.
///
/// # Errors
///
/// [`FileError`] where it is there still.
pub fn remove(path: impl AsRef<Path>) -> Result<(), FileError> {
    let path = path.as_ref();
    match fs::remove_file(path) {
        Ok(()) => sync_folder(parent(path)).map_err(failed("removed", path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("removed", path)(error)),
    }
}

/// Removes a folder and all in it, following no link out of it; one that is not there is no error.
///
/// # Errors
///
/// [`FileError`] where something of it is there still.
pub fn remove_tree(path: impl AsRef<Path>) -> Result<(), FileError> {
    let path = path.as_ref();
    let gone = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match gone {
        Ok(()) => sync_folder(parent(path)).map_err(failed("removed", path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("removed", path)(error)),
    }
}

/// Removes the files of a folder whose names are meant; a folder that is not there has none.
///
/// # Errors
///
/// [`FileError`] at the first that can't be removed.
pub fn remove_matching(folder: impl AsRef<Path>, is_meant: impl Fn(&str) -> bool) -> Result<(), FileError> {
    let folder = folder.as_ref();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("looked at", folder)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed("looked at", folder))?;
        if entry.file_name().to_str().is_some_and(&is_meant) {
            remove(entry.path())?;
        }
    }
    Ok(())
}

/// Changes the mode of a file or folder.
///
/// # Errors
///
/// [`FileError`] where it keeps its mode.
pub fn set_mode(path: impl AsRef<Path>, mode: u32) -> Result<(), FileError> {
    fs::set_permissions(path.as_ref(), Permissions::from_mode(mode)).map_err(failed("made private", path.as_ref()))
}

/// Renames within a file system, for good.
///
/// # Errors
///
/// [`FileError`] where nothing was renamed; also where something is at the new name already.
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<(), FileError> {
    let (from, to) = (from.as_ref(), to.as_ref());
    // Atomically never onto anything: rename(2) would silently take the place of an empty folder.
    let renamed =
        rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, rustix::fs::RenameFlags::NOREPLACE);
    let renamed = match renamed {
        // A file system without the flag (NFS).
        Err(rustix::io::Errno::INVAL) if fs::symlink_metadata(to).is_err() => fs::rename(from, to),
        other => other.map_err(io::Error::from),
    };
    renamed.map_err(failed("renamed", from))?;
    sync_folder(parent(to)).map_err(failed("renamed", from))
}

/// Whether anything is at the path, a dangling link too.
///
/// # Errors
///
/// [`FileError`] where that can't be seen.
pub fn exists(path: impl AsRef<Path>) -> Result<bool, FileError> {
    let path = path.as_ref();
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("looked at", path)(error)),
    }
}

/// Whether the path is a folder without any entry.
///
/// # Errors
///
/// [`FileError`] where that can't be seen.
pub fn is_empty_folder(path: impl AsRef<Path>) -> Result<bool, FileError> {
    let path = path.as_ref();
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(failed("looked at", path)(error)),
    }
}

/// Removes a folder that has nothing in it; one that is not there is no error.
///
/// # Errors
///
/// [`FileError`] where there is something in it.
pub fn remove_empty_folder(path: impl AsRef<Path>) -> Result<(), FileError> {
    let path = path.as_ref();
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removed", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Returns the file system that a folder is on, by its device number, and the bytes that are free there.
///
/// # Errors
///
/// [`FileError`] where that can't be seen.
pub fn free_space(folder: &Path) -> Result<(u64, u64), FileError> {
    let look = || {
        let found = rustix::fs::statvfs(folder)?;
        Ok((fs::metadata(folder)?.dev(), found.f_bavail.saturating_mul(found.f_frsize)))
    };
    look().map_err(failed("looked at", folder))
}

/// Returns the bytes of all files below a folder; what vanishes meanwhile is not counted.
#[must_use]
pub fn size_of_tree(path: impl AsRef<Path>) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => size_of_tree(entry.path()),
        Ok(found) if found.is_file() => found.len(),
        Ok(_) | Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// Makes what is written in a folder, and the folder itself, safe against a crash.
///
/// # Errors
///
/// [`FileError`] where the system can't promise it.
pub fn sync(path: impl AsRef<Path>) -> Result<(), FileError> {
    sync_folder(path.as_ref()).map_err(failed("written to disk", path.as_ref()))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Returns the folder that a path is in.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    }
}

/// The folders that were made, outermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made(Vec<PathBuf>);

impl Made {
    /// Removes those that are still empty, innermost first.
    pub fn undo(&self) {
        for folder in self.0.iter().rev() {
            if fs::remove_dir(folder).is_err() {
                return;
            }
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Makes the missing folders of a path, as the user of `seat`.
///
/// Where that user may not and pgpair runs as root, root makes them and gives them to the user.
///
/// # Errors
///
/// [`FileError`] where one can't be made; those already made are removed again.
pub async fn make_folders(seat: &Seat, path: &Path) -> Result<Made, FileError> {
    let own = path.to_owned();
    match seat.blocking(move || make_missing(&own, None)).await {
        Err(error)
            if error.source.kind() == io::ErrorKind::PermissionDenied && rustix::process::geteuid().is_root() =>
        {
            let (path, owner) = (path.to_owned(), (seat.uid(), seat.gid()));
            let root = Seat::of(None).map_err(|why| failed("made", &path)(io::Error::other(why)))?;
            root.blocking(move || make_missing(&path, Some(owner))).await
        }
        made => made,
    }
}

fn make_missing(path: &Path, owner: Option<(u32, u32)>) -> Result<Made, FileError> {
    let mut missing: Vec<&Path> = Vec::new();
    for folder in path.ancestors().filter(|folder| *folder != Path::new("")) {
        if exists(folder)? {
            break;
        }
        missing.push(folder);
    }
    let mut made = Made::default();
    for folder in missing.into_iter().rev() {
        let mut make = || {
            DirBuilder::new().mode(0o755).create(folder)?;
            made.0.push(folder.to_owned());
            if let Some((uid, gid)) = owner {
                std::os::unix::fs::lchown(folder, Some(uid), Some(gid))?;
            }
            sync_folder(parent(folder))
        };
        if let Err(error) = make() {
            made.undo();
            return Err(failed("made", folder)(error));
        }
    }
    Ok(made)
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folders: Vec<String> = self.0.iter().map(|folder| folder.display().to_string()).collect();
        f.write_str(&folders.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").mode() & 0o7777
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_and_a_new_one_is_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("postgresql.conf");
        replace(&path, b"one", None).expect("written");
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("changed");
        replace(&path, b"two", None).expect("written");
        assert_eq!((read(&path).expect("read"), mode(&path)), (Some(b"two".to_vec()), 0o644));
        replace(&path, b"three", Some(PRIVATE)).expect("written");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_new_file_takes_no_others_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        assert!(create(&path, b"one", 0o600).expect("made"));
        assert_eq!(mode(&path), 0o600);
        assert!(!create(&path, b"two", 0o644).expect("nothing failed"));
        assert_eq!((fs::read(&path).expect("there"), mode(&path)), (b"one".to_vec(), 0o600));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "no temporary file is left");
    }

    #[test]
    fn what_a_link_leads_to_is_replaced_and_the_link_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let [real, link] = ["real", "link"].map(|name| folder.path().join(name));
        fs::write(&real, "one").expect("written");
        std::os::unix::fs::symlink(&real, &link).expect("linked");
        replace(&link, b"two", None).expect("written");
        assert_eq!(fs::read_link(&link).expect("still a link"), real);
        assert_eq!(fs::read(&real).expect("read"), b"two");
    }

    #[test]
    fn a_rename_takes_no_others_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        fs::create_dir(&from).expect("made");
        fs::create_dir(&to).expect("made");
        let error = rename(&from, &to).expect_err("there is something");
        assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
        fs::remove_dir(&to).expect("removed");
        rename(&from, &to).expect("free now");
        assert!(to.is_dir() && !from.exists());
    }

    #[test]
    fn removing_a_tree_does_not_follow_its_links() {
        let folder = tempfile::tempdir().expect("a folder");
        let [tree, outside] = ["tree", "outside"].map(|name| folder.path().join(name));
        fs::create_dir(&tree).expect("made");
        fs::create_dir(&outside).expect("made");
        fs::write(outside.join("kept"), "").expect("written");
        std::os::unix::fs::symlink(&outside, tree.join("pg_wal")).expect("linked");
        remove_tree(&tree).expect("removed");
        remove_tree(&tree).expect("gone already");
        assert!(!tree.exists() && outside.join("kept").exists());
    }

    #[tokio::test]
    async fn only_missing_folders_are_made_and_undone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/b");
        let seat = Seat::of(None).expect("our own");
        let made = make_folders(&seat, &path).await.expect("made");
        assert!(path.is_dir());
        assert!(make_folders(&seat, &path).await.expect("there").is_empty());
        fs::write(folder.path().join("a/file"), "").expect("written");
        made.undo();
        assert!(!path.exists() && folder.path().join("a").is_dir(), "what is not empty stays");
    }

    #[tokio::test]
    async fn folders_that_root_makes_belong_to_the_user() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("changed");
        let path = folder.path().join("a/b");
        let seat = Seat::of(Some("nobody")).expect("a seat");
        make_folders(&seat, &path).await.expect("made");
        assert_eq!(fs::metadata(&path).expect("there").uid(), seat.uid());
        assert_eq!(fs::metadata(folder.path().join("a")).expect("there").uid(), seat.uid());
        assert_eq!(fs::metadata(folder.path()).expect("there").uid(), 0);
    }
}
