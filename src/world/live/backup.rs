//! Old files, kept until the new ones have proved themselves: `NAME.pgpair.bak` beside each file.
//!
//! The first line of a backup has the digests of the files that took the old one's place, the rest is the old text. It
//! is put back only where the file still has one of these digests: what somebody has edited since is theirs. So a
//! backup can be left by a killed run, or be forgotten, without harm.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use crate::pg::block;
use crate::pg::block::Malformed;
use crate::pg::conf;
use crate::plan::Digest;
use crate::plan::Reset;
use crate::world::files;
use crate::world::files::FileError;
use crate::world::files::PRIVATE;
use crate::world::observe::place::BACKUP_SUFFIX;
use crate::world::observe::place::kept_for;

/// A file whose old text is kept while a new one is on probation.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    path: PathBuf,
    backup: PathBuf,
    digest: fn(&str) -> Digest,
}

impl Kept {
    /// A file that pgpair writes itself, byte for byte.
    pub(super) fn file(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let mut backup = path.clone().into_os_string();
        backup.push(BACKUP_SUFFIX);
        Self { path, backup: backup.into(), digest: Digest::of }
    }

    /// postgresql.auto.conf, which the server may write anew in its own way: what counts is what it sets.
    pub(super) fn auto_conf(path: impl Into<PathBuf>) -> Self {
        Self { digest: Reset::digest, ..Self::file(path) }
    }

    /// Keeps the text that `new` is about to replace. Where one is kept already, that one stays: it is the last with
    /// which a server was seen.
    pub(super) fn keep(&self, new: &str) -> Result<(), FileError> {
        let now = self.now()?;
        let successor = (self.digest)(new);
        let (old, successors) = match self.old()? {
            // Both digests: a kill may come before the new file is there.
            Some(old) => (old, format!("{} {}", successor.0, (self.digest)(&now).0)),
            None => (now, successor.0),
        };
        if (self.digest)(&old) == (self.digest)(new) {
            return Ok(());
        }
        files::replace(&self.backup, format!("{successors}\n{old}").as_bytes(), Some(PRIVATE))
    }

    /// Returns the old text, while what took its place is there unedited.
    pub(super) fn old(&self) -> Result<Option<String>, FileError> {
        let Some(kept) = files::read_text(&self.backup)? else { return Ok(None) };
        let now = (self.digest)(&self.now()?);
        Ok(kept_for(&kept, &now).map(str::to_owned))
    }

    /// Puts the old text back, as `change` makes it, and returns what was put back. The backup is gone afterwards, used
    /// or not.
    pub(super) fn put_back(&self, change: impl FnOnce(String) -> String) -> Result<Option<String>, FileError> {
        let old = self.old()?.map(change);
        if let Some(old) = &old {
            files::replace(&self.path, old.as_bytes(), None)?;
        }
        self.forget()?;
        Ok(old)
    }

    /// Removes the backup: the new file has proved itself.
    pub(super) fn forget(&self) -> Result<(), FileError> {
        files::remove(&self.backup)
    }

    /// Returns when the backup was written, in seconds of the epoch; `None` where there is none.
    pub(super) fn since(&self) -> Option<i64> {
        std::fs::metadata(&self.backup).ok().map(|found| found.mtime())
    }

    /// Returns the text of the file itself.
    pub(super) fn now(&self) -> Result<String, FileError> {
        Ok(files::read_text(&self.path)?.unwrap_or_default())
    }
}

/// Whether a setting says whom a standby follows, and to where: it is never taken back, with what ran before it a
/// server could follow another one, or promote itself.
pub(super) fn is_of_recovery(name: &str) -> bool {
    let names = ["primary_conninfo", "primary_slot_name", "restore_command", "promote_trigger_file"];
    names.contains(&name) || name.starts_with("recovery_target")
}

/// Returns the old postgresql.conf with the recovery settings of the new one's block.
///
/// # Errors
///
/// [`Malformed`] where a block can't be told from the rest.
pub(super) fn with_recovery_of(new: &str, old: &str) -> Result<String, Malformed> {
    let of_recovery = |line: &String| conf::parse(line).entries.iter().any(|entry| is_of_recovery(&entry.name));
    let Some(newer) = block::find(new)?.map(|found| found.block) else { return Ok(old.to_owned()) };
    let older = block::find(old)?.map(|found| found.block);
    let lines = |lines: &[String]| lines.iter().filter(|line| of_recovery(line)).cloned().collect::<Vec<_>>();
    let kept = lines(&newer.lines);
    if kept == older.as_ref().map(|older| lines(&older.lines)).unwrap_or_default() {
        return Ok(old.to_owned());
    }
    let mut block = older.unwrap_or_else(|| block::Block { lines: Vec::new(), ..newer.clone() });
    block.lines.retain(|line| !of_recovery(line));
    block.lines.extend(kept);
    block::put_last(old, &block)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::pg::block::Block;

    fn kept(folder: &tempfile::TempDir, text: &str) -> Kept {
        let path = folder.path().join("postgresql.conf");
        fs::write(&path, text).expect("written");
        Kept::file(path)
    }

    fn write(kept: &Kept, text: &str) {
        kept.keep(text).expect("kept");
        fs::write(&kept.path, text).expect("written");
    }

    fn put_back(kept: &Kept) -> Option<String> {
        kept.put_back(|old| old).expect("readable")
    }

    #[test]
    fn the_old_text_comes_back_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = kept(&folder, "old\n");
        write(&kept, "new\n");
        assert_eq!(put_back(&kept).as_deref(), Some("old\n"));
        assert_eq!(kept.now().expect("readable"), "old\n");
        assert_eq!(put_back(&kept), None);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn what_somebody_edited_since_stays_and_the_backup_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = kept(&folder, "old\n");
        write(&kept, "new\n");
        fs::write(&kept.path, "edited\n").expect("written");
        assert_eq!(put_back(&kept), None);
        assert_eq!(kept.now().expect("readable"), "edited\n");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn of_several_files_that_never_ran_the_one_before_them_comes_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = kept(&folder, "old\n");
        write(&kept, "second\n");
        // Killed before the third was there.
        kept.keep("third\n").expect("kept");
        assert_eq!(kept.old().expect("readable").as_deref(), Some("old\n"));
        fs::write(&kept.path, "third\n").expect("written");
        assert_eq!(put_back(&kept).as_deref(), Some("old\n"));
    }

    #[test]
    fn a_kill_before_the_new_file_is_there_puts_nothing_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = kept(&folder, "old\n");
        kept.keep("new\n").expect("kept");
        assert_eq!(put_back(&kept), None);
        assert_eq!(kept.now().expect("readable"), "old\n");
    }

    #[test]
    fn an_auto_conf_is_known_again_however_the_server_writes_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("postgresql.auto.conf");
        fs::write(&path, "# mine\nwork_mem = 5MB\nport = 1\n").expect("written");
        let kept = Kept::auto_conf(path);
        kept.keep("# mine\nport = 1\n").expect("kept");
        fs::write(&kept.path, "# Do not edit this file manually!\nport = '1'\n").expect("written");
        assert_eq!(put_back(&kept).as_deref(), Some("# mine\nwork_mem = 5MB\nport = 1\n"));
    }

    #[test]
    fn a_fall_back_keeps_the_new_recovery_settings() {
        let with = |lines: &[&str]| {
            let lines = lines.iter().map(|line| (*line).to_owned()).collect();
            block::put_last("fsync = off\n", &Block { cluster: "c".into(), node: "b".into(), lines }).expect("none yet")
        };
        let old = with(&["port = '1'", "primary_conninfo = 'host=x'", "recovery_target_time = 'now'"]);
        let new = with(&["port = '2'", "primary_conninfo = 'host=y'", "primary_slot_name = 's'"]);
        let back = with_recovery_of(&new, &old).expect("well formed");
        assert_eq!(back, with(&["port = '1'", "primary_conninfo = 'host=y'", "primary_slot_name = 's'"]));
        let without = with_recovery_of(&new, "fsync = off\n").expect("well formed");
        assert_eq!(without, with(&["primary_conninfo = 'host=y'", "primary_slot_name = 's'"]));
        let same = with(&["primary_conninfo = 'host=y'", "work_mem = '1MB'", "primary_slot_name = 's'"]);
        assert_eq!(with_recovery_of(&new, &same).expect("well formed"), same);
        assert_eq!(with_recovery_of("fsync = off\n", &old).expect("well formed"), old);
    }
}
