//! The edit of the topology file that goes with a role change: written before its first step, and taken back with it.

use crate::error::Error;
use crate::report::DiffReport;
use crate::report::json::EditOutcome;
use crate::report::json::EditReport;
use crate::world::Failure;
use crate::world::files;

/// A topology file with two roles swapped.
pub(super) struct RoleEdit {
    /// The file, as the user named it.
    pub(super) file: String,
    /// As it was read.
    pub(super) before: String,
    /// The same where the file has these roles already.
    pub(super) after: String,
}

impl RoleEdit {
    /// Whether there is anything to write.
    pub(super) fn changes(&self) -> bool {
        self.before != self.after
    }

    /// Writes the file with the new roles.
    ///
    /// # Errors
    ///
    /// [`Error::FileChanged`] where it is not what was read any more; and where it can't be written.
    pub(super) fn write(&self) -> Result<(), Error> {
        self.replace(&self.before, &self.after)
    }

    /// Writes the file as it was.
    ///
    /// # Errors
    ///
    /// As [`Self::write`].
    pub(super) fn take_back(&self) -> Result<(), Error> {
        self.replace(&self.after, &self.before)
    }

    fn replace(&self, now: &str, then: &str) -> Result<(), Error> {
        if now == then {
            return Ok(());
        }
        let failed = |error: files::FileError| Failure::new(error.to_string());
        if files::read(&self.file).map_err(failed)?.as_deref() != Some(now.as_bytes()) {
            return Err(Error::FileChanged { file: self.file.clone() });
        }
        files::replace(&self.file, then.as_bytes(), None).map_err(|error| {
            let folder = "let pgpair write the file and its folder, or swap the roles by hand and apply";
            failed(error).with_remedy(folder)
        })?;
        Ok(())
    }

    /// What is told of it. `None`: the file has these roles already.
    pub(super) fn report(&self, outcome: EditOutcome) -> Option<EditReport> {
        let diff = DiffReport::between(&self.file, &self.before, &self.after);
        self.changes().then_some(EditReport { diff, outcome })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::error::Exit;

    fn edit(folder: &tempfile::TempDir) -> RoleEdit {
        let file = folder.path().join("orders.yaml");
        fs::write(&file, "old").expect("our folder");
        RoleEdit { file: file.display().to_string(), before: "old".into(), after: "new".into() }
    }

    #[test]
    fn the_edit_is_written_and_taken_back_with_the_mode_and_a_link_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut edit = edit(&folder);
        let real = edit.file.clone();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).expect("our file");
        edit.file = folder.path().join("link.yaml").display().to_string();
        std::os::unix::fs::symlink("orders.yaml", &edit.file).expect("our folder");
        edit.write().expect("written");
        assert_eq!(fs::read_to_string(&real).expect("there"), "new");
        edit.take_back().expect("written");
        assert_eq!(fs::read_to_string(&real).expect("there"), "old");
        assert_eq!(fs::metadata(&real).expect("there").permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&edit.file).expect("there").is_symlink());
    }

    #[test]
    fn a_file_that_somebody_has_changed_meanwhile_is_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let edit = edit(&folder);
        for by_us in [true, false] {
            fs::write(&edit.file, "theirs").expect("our folder");
            let done = if by_us { edit.write() } else { edit.take_back() };
            assert_eq!(done.expect_err("it was changed").exit(), Exit::Refused);
            assert_eq!(fs::read_to_string(&edit.file).expect("there"), "theirs");
        }
    }
}
