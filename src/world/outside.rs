//! Folders of a node outside its data directory: its waldir, and where its tablespaces lie.
//!
//! Links in the data directory lead to them (`pg_wal`, those in `pg_tblspc`). Each is made as `<folder>.pgpair-new`
//! and renamed together with the data directory; what was in its place becomes `<folder>.pgpair-old`. Whose a folder
//! is follows from the links alone, so that a run that was killed between two renames is known by what it left.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::observed::Content;
use crate::world::files;
use crate::world::files::FileError;
use crate::world::probe::same_file;

/// How the name of a folder ends that is being made, and of one that was replaced.
const NEW: &str = ".pgpair-new";
const OLD: &str = ".pgpair-old";

/// A link that leads out of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its path in the data directory: `pg_wal`, `pg_tblspc/16385`.
    pub name: String,
    pub target: String,
}

/// Returns the links of a data directory; one that is not there has none.
///
/// # Errors
///
/// [`FileError`] where one can't be read.
pub fn links(data_dir: &str) -> Result<Vec<Link>, FileError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| FileError { what: "read", path, source }
    };
    let mut names = vec!["pg_wal".to_owned()];
    let tablespaces = Path::new(data_dir).join("pg_tblspc");
    match fs::read_dir(&tablespaces) {
        Ok(entries) => {
            for entry in entries {
                let name = entry.map_err(failed(&tablespaces))?.file_name();
                names.push(format!("pg_tblspc/{}", name.to_string_lossy()));
            }
        }
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {}
        Err(error) => return Err(failed(&tablespaces)(error)),
    }
    names.sort();
    let mut links = Vec::new();
    for name in names {
        let path = Path::new(data_dir).join(&name);
        match fs::read_link(&path) {
            Ok(target) => links.push(Link { name, target: target.to_string_lossy().into_owned() }),
            // A folder and no link, or nothing.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput || is_nothing(&error) => {}
            Err(error) => return Err(failed(&path)(error)),
        }
    }
    Ok(links)
}

fn is_nothing(error: &io::Error) -> bool {
    [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind())
}

/// Whether a link of the data directory leads to the folder.
fn leads(data_dir: &str, folder: &str) -> Result<bool, FileError> {
    Ok(links(data_dir)?.iter().any(|link| same_file(&link.target, folder)))
}

/// Returns what is in a folder, and whose it is.
///
/// # Errors
///
/// [`FileError`] where that can't be seen.
pub fn content(data_dir: &str, folder: &str) -> Result<Content, FileError> {
    if !files::exists(folder)? || (Path::new(folder).is_dir() && files::is_empty_folder(folder)?) {
        Ok(Content::Nothing)
    } else if leads(data_dir, folder)? {
        Ok(Content::InUse)
    } else if leads(&format!("{data_dir}{NEW}"), folder)? && !files::exists(format!("{folder}{NEW}"))? {
        // Links are set before the renames: what is still to be renamed has not taken the folder's place.
        Ok(Content::LeftOver)
    } else if leads(&format!("{data_dir}{OLD}"), folder)? {
        Ok(Content::InUse)
    } else {
        Ok(Content::Foreign)
    }
}

/// Removes what a killed run left of a new data directory and its folders outside.
///
/// # Errors
///
/// [`FileError`] at the first that can't be removed; what is left is still known by its links.
pub fn clear_new(data_dir: &str, folders: &[String]) -> Result<(), FileError> {
    let new = format!("{data_dir}{NEW}");
    for folder in folders {
        if content(data_dir, folder)? == Content::LeftOver {
            files::remove_tree(folder)?;
        }
    }
    for link in links(&new)?.iter().filter(|link| link.target.ends_with(NEW)) {
        files::remove_tree(&link.target)?;
    }
    // Before the folders: without them, its links would claim what is in their places.
    files::remove_tree(new)?;
    folders.iter().try_for_each(|folder| files::remove_tree(format!("{folder}{NEW}")))
}

/// Removes those of the folders that a data directory leads to.
///
/// # Errors
///
/// [`FileError`] at the first that can't be removed.
pub fn clear_targets(data_dir: &str, folders: &[String]) -> Result<(), FileError> {
    for folder in folders {
        if leads(data_dir, folder)? {
            files::remove_tree(folder)?;
        }
    }
    Ok(())
}

/// Removes a replaced data directory and its folders outside.
///
/// # Errors
///
/// [`FileError`] at the first that can't be removed.
pub fn clear_old(data_dir: &str, folders: &[String]) -> Result<(), FileError> {
    let old = format!("{data_dir}{OLD}");
    for link in links(&old)?.iter().filter(|link| link.target.ends_with(OLD)) {
        files::remove_tree(&link.target)?;
    }
    folders.iter().try_for_each(|folder| files::remove_tree(format!("{folder}{OLD}")))?;
    files::remove_tree(old)
}

/// Puts a finished new data directory in its place, and its folders outside with it.
///
/// The data directory comes last: before that no server can start on any of it.
///
/// # Errors
///
/// [`FileError`] at the first that can't be moved; the next run knows how far it came.
pub fn move_into_place(data_dir: &str, replaces: bool, folders: &[String]) -> Result<(), FileError> {
    let (new, old) = (format!("{data_dir}{NEW}"), format!("{data_dir}{OLD}"));
    let mut moving = Vec::new();
    for link in links(&new)? {
        if let Some(folder) = link.target.strip_suffix(NEW) {
            lead(&new, &link.name, folder)?;
            moving.push(folder.to_owned());
        }
    }
    files::sync(&new)?;
    if replaces {
        clear_old(data_dir, folders)?;
        files::rename(data_dir, &old)?;
    } else {
        files::remove_empty_folder(data_dir)?;
    }
    for folder in moving {
        make_way(&old, &folder)?;
        files::rename(format!("{folder}{NEW}"), &folder)?;
    }
    files::rename(new, data_dir)
}

/// Moves aside what the replaced data directory had in a folder.
fn make_way(old: &str, folder: &str) -> Result<(), FileError> {
    let mut links = links(old)?;
    links.retain(|link| same_file(&link.target, folder));
    if links.is_empty() || !files::exists(folder)? {
        return files::remove_empty_folder(folder);
    }
    let aside = format!("{folder}{OLD}");
    files::remove_tree(&aside)?;
    files::rename(folder, &aside)?;
    links.iter().try_for_each(|link| lead(old, &link.name, &aside))
}

/// Lets a link of a data directory that no server runs on lead elsewhere.
fn lead(data_dir: &str, name: &str, target: &str) -> Result<(), FileError> {
    let path = PathBuf::from(format!("{data_dir}/{name}"));
    files::remove(&path)?;
    let made = std::os::unix::fs::symlink(target, &path);
    made.map_err(|source| FileError { what: "linked", path: path.clone(), source })?;
    files::sync(path.parent().unwrap_or(&path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A folder with a data directory `data` and a waldir `wal`, both by their paths.
    struct Scene {
        _keep: tempfile::TempDir,
        data: String,
        wal: String,
    }

    impl Scene {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let path = |name: &str| folder.path().join(name).display().to_string();
            Self { data: path("data"), wal: path("wal"), _keep: folder }
        }

        /// Makes a data directory whose pg_wal leads to a folder, with a file of this text in each.
        fn cluster(&self, suffix: &str, wal: &str, text: &str) {
            let dir = format!("{}{suffix}", self.data);
            for folder in [dir.as_str(), wal] {
                fs::create_dir_all(folder).expect("made");
                fs::write(format!("{folder}/text"), text).expect("written");
            }
            symlink(wal, format!("{dir}/pg_wal")).expect("linked");
        }

        fn text(&self, path: &str) -> String {
            fs::read_to_string(format!("{path}/text")).unwrap_or_else(|_| "nothing".into())
        }

        fn content(&self) -> Content {
            content(&self.data, &self.wal).expect("readable")
        }

        fn folders(&self) -> Vec<String> {
            vec![self.wal.clone()]
        }

        /// What is in the data directory, its pg_wal, the old one and its pg_wal.
        fn texts(&self) -> [String; 4] {
            let old = format!("{}{OLD}", self.data);
            [self.data.clone(), format!("{}/pg_wal", self.data), old.clone(), format!("{old}/pg_wal")]
                .map(|path| self.text(&path))
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(Path::new(&self.data).parent().expect("a parent")).expect("a folder");
            let mut names: Vec<String> =
                entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn a_new_data_directory_and_its_waldir_come_into_place_together() {
        let scene = Scene::new();
        fs::create_dir(&scene.wal).expect("made");
        scene.cluster(NEW, &format!("{}{NEW}", scene.wal), "new");
        move_into_place(&scene.data, false, &scene.folders()).expect("moved");
        assert_eq!(scene.texts(), ["new", "new", "nothing", "nothing"]);
        assert_eq!(scene.content(), Content::InUse);
        assert_eq!(links(&scene.data).expect("read")[0].target, scene.wal);
    }

    #[test]
    fn what_is_replaced_is_kept_with_its_own_waldir_and_removed_with_it() {
        let scene = Scene::new();
        scene.cluster("", &scene.wal, "old");
        scene.cluster(NEW, &format!("{}{NEW}", scene.wal), "new");
        move_into_place(&scene.data, true, &scene.folders()).expect("moved");
        assert_eq!(scene.texts(), ["new", "new", "old", "old"]);
        clear_old(&scene.data, &scene.folders()).expect("removed");
        assert_eq!(scene.names(), ["data", "wal"]);
    }

    #[test]
    fn a_filled_waldir_that_no_data_directory_leads_to_is_nobodys_and_stays() {
        let scene = Scene::new();
        scene.cluster("", &scene.wal, "kept");
        fs::remove_dir_all(&scene.data).expect("removed");
        assert_eq!(scene.content(), Content::Foreign);
        scene.cluster(NEW, &format!("{}{NEW}", scene.wal), "new");
        assert_eq!(scene.content(), Content::Foreign, "its copy is still to be renamed");
        move_into_place(&scene.data, false, &scene.folders()).expect_err("not empty");
        clear_new(&scene.data, &scene.folders()).expect("removed");
        assert_eq!(scene.text(&scene.wal), "kept");
        assert_eq!(scene.names(), ["wal"]);
    }

    /// The renames of a replacement, each cut off; what was old is not lost before the new one is in its place.
    #[test]
    fn wherever_a_replacement_is_cut_off_the_next_one_removes_only_what_is_its_own() {
        for steps in 0..=5 {
            let scene = Scene::new();
            let (old, new) = (format!("{}{OLD}", scene.data), format!("{}{NEW}", scene.data));
            let [wal_new, wal_old] = [NEW, OLD].map(|suffix| format!("{}{suffix}", scene.wal));
            scene.cluster("", &scene.wal, "old");
            scene.cluster(NEW, &wal_new, "half");
            let moves: [&dyn Fn(); 5] = [
                &|| lead(&new, "pg_wal", &scene.wal).expect("linked"),
                &|| fs::rename(&scene.data, &old).expect("moved"),
                &|| fs::rename(&scene.wal, &wal_old).expect("moved"),
                &|| lead(&old, "pg_wal", &wal_old).expect("linked"),
                &|| fs::rename(&wal_new, &scene.wal).expect("moved"),
            ];
            moves[..steps].iter().for_each(|step| step());

            let is_replaced = steps >= 2;
            assert_eq!(scene.content() == Content::LeftOver, steps == 5, "after {steps}");
            clear_new(&scene.data, &scene.folders()).expect("removed");
            assert!(!Path::new(&new).exists() && !Path::new(&wal_new).exists(), "after {steps}");
            scene.cluster(NEW, &wal_new, "new");
            move_into_place(&scene.data, !is_replaced, &scene.folders()).expect("moved");
            let [data, wal, kept, kept_wal] = scene.texts();
            assert_eq!([data, wal, kept], ["new", "new", "old"], "after {steps}");
            // Cut off between the rename of the old waldir and its link, the link is stale.
            assert!(kept_wal == "old" || steps == 3, "after {steps}: {kept_wal}");
            clear_old(&scene.data, &scene.folders()).expect("removed");
            assert_eq!(scene.names(), ["data", "wal"], "after {steps}");
        }
    }
}
