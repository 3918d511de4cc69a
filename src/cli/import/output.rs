//! Where the topology goes, and the password that it refers to: neither over what is there already.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Arguments;
use crate::error::Error;
use crate::error::Findings;
use crate::pg::secret::Secret;
use crate::plan::Status;
use crate::plan::import::Import;
use crate::report::json::Imported;
use crate::topology;
use crate::topology::SecretRef;
use crate::topology::Topology;
use crate::world::Failure;
use crate::world::files;
use crate::world::files::FileError;

/// Where the topology goes, and the password that it refers to.
pub(super) struct Output {
    /// Absent: to standard output.
    file: Option<String>,
    is_forced: bool,
    /// The absolute folder that the topology's relative paths start from.
    pub(super) base_dir: String,
    /// The absolute folder of the password.
    secrets_dir: String,
}

impl Output {
    /// Sees that nothing is in the way before any server is asked.
    pub(super) fn of(arguments: &Arguments) -> Result<Self, Error> {
        let file = arguments.out.clone();
        if let Some(file) = file.as_ref().filter(|file| !arguments.force && Path::new(file).exists()) {
            return Err(exists(file));
        }
        let base_dir = folder(file.as_ref().and_then(|file| Path::new(file).parent()).unwrap_or(Path::new("")))?;
        let secrets_dir = arguments.secrets_dir.as_ref().map(|dir| folder(Path::new(dir))).transpose()?;
        let secrets_dir = secrets_dir.unwrap_or_else(|| base_dir.clone());
        Ok(Self { file, is_forced: arguments.force, base_dir, secrets_dir })
    }

    /// The cluster's name where no server tells one.
    pub(super) fn cluster_name(&self) -> String {
        let stem = self.file.as_ref().and_then(|file| Path::new(file).file_stem());
        stem.map_or_else(|| "cluster".to_owned(), |stem| stem.to_string_lossy().into_owned())
    }

    /// The password's file as the topology names it: beside it, or by its absolute path.
    pub(super) fn secret_reference(&self, topology: &Topology) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
        let user: String = topology.replication.user.chars().map(plain).collect();
        let name = format!("{}.{user}.secret", topology.cluster);
        let is_beside = self.file.is_some() && self.secrets_dir == self.base_dir;
        if is_beside { name } else { Path::new(&self.secrets_dir).join(name).display().to_string() }
    }

    /// The topology as it will be read.
    pub(super) fn parse(&self, import: &Import) -> Result<Topology, Error> {
        let name = self.file.clone().unwrap_or_else(|| "the topology".to_owned());
        let text = import.text();
        topology::parse(text.as_bytes(), &name, &self.base_dir)
            .map_err(|diagnostics| Error::Topology(vec![Findings { name, text, diagnostics }]))
    }

    /// Writes the password, and then the topology.
    pub(super) fn write(&self, import: Import, plan: Status) -> Result<Imported, Error> {
        let reference = match (&import.topology.replication.password, &import.password) {
            (Some(SecretRef::File(reference)), Some(password)) => Some((reference, password)),
            (Some(_) | None, _) => None,
        };
        let mut secret_file = None;
        if let Some((reference, password)) = reference {
            let path = Path::new(&self.base_dir).join(reference);
            self.write_password(&path, password)?;
            secret_file = Some(path.display().to_string());
        }
        let text = import.text();
        if let Some(file) = &self.file {
            if self.is_forced && Path::new(file).exists() {
                files::replace(file, text.as_bytes(), None).map_err(|error| unusable(&error))?;
            } else if !files::create(file, text.as_bytes(), 0o644).map_err(|error| unusable(&error))? {
                return Err(exists(file));
            }
        }
        Ok(Imported {
            status: "imported",
            cluster: import.topology.cluster,
            file: self.file.clone(),
            nodes: import.topology.nodes.len(),
            plan,
            topology: text,
            secret_file,
            not_expressed: import.left_out,
        })
    }

    /// One that is there already with the same password serves as well; any other is somebody's.
    fn write_password(&self, path: &Path, password: &Secret) -> Result<(), Error> {
        let text = format!("{}\n", password.reveal());
        if files::create(path, text.as_bytes(), 0o600).map_err(|error| unusable(&error))? {
            return Ok(());
        }
        let what = match files::read_text(path).map_err(|error| unusable(&error))? {
            Some(there) if there.trim_end_matches('\n') != password.reveal() => {
                "holds something else than the password found"
            }
            // As it would be refused when it is read.
            Some(_) if std::fs::metadata(path).is_ok_and(|found| found.mode() & 0o077 != 0) => "is open to others",
            Some(_) | None => return Ok(()),
        };
        let failure = Failure::new(format!("{} exists and {what}", path.display()));
        Err(Error::World(failure.with_remedy("take it away, or give another folder by --secrets-dir")))
    }
}

/// Returns the absolute path of a folder that is there.
fn folder(path: &Path) -> Result<String, Error> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let found = std::fs::canonicalize(path).map_err(|source| FileError { what: "used", path: path.to_owned(), source });
    found.map(|path| path.to_string_lossy().into_owned()).map_err(|error| unusable(&error))
}

fn exists(file: &str) -> Error {
    let failure = Failure::new(format!("{file} exists, and is not written over"));
    Error::World(failure.with_remedy("name another file, or give --force"))
}

fn unusable(error: &FileError) -> Error {
    Error::World(Failure::new(error.to_string()).with_remedy("name another place, by --out or --secrets-dir"))
}
