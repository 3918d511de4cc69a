//! Making data directories: initdb, and the last step of every new one, its move into place.
//!
//! A new data directory is made beside the place where it will be, and gets there by one rename when all that
//! makes it safe to start is in it. So no service can start half of one, and what a killed run left is known by
//! its name.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;

use crate::observed::Identity;
use crate::pg::block;
use crate::pg::block::Block;
use crate::pg::control::Control;
use crate::pg::version::Major;
use crate::plan::CreatePrimary;
use crate::plan::PassfileEntry;
use crate::plan::Replaced;
use crate::plan::desired::PASSFILE;
use crate::world::Failure;
use crate::world::files;
use crate::world::files::FileError;
use crate::world::files::PRIVATE;
use crate::world::live::Site;
use crate::world::live::server::Life;
use crate::world::observe::place;
use crate::world::outside;
use crate::world::process::Command;
use crate::world::process::Output;

impl Site<'_> {
    pub(super) async fn create_primary(&self, create: &CreatePrimary) -> Result<(), Failure> {
        self.prepare_place(None).await?;
        let made = self.make_primary(create).await;
        if made.is_err() {
            self.give_up_new().await;
            return made;
        }
        self.move_into_place(None).await
    }

    async fn make_primary(&self, create: &CreatePrimary) -> Result<(), Failure> {
        let new = self.new_dir();
        let mut command = Command::new(self.program("initdb")).with_callers_locale();
        command = command.args(["-D", &new, "--username", self.admin_user()]);
        if let Some(waldir) = &create.waldir {
            command = command.arg(format!("--waldir={waldir}.pgpair-new"));
        }
        // Dropped when initdb has read it; the guard removes it where pgpair is killed.
        let mut pwfile = None;
        if create.with_password {
            let password = self.admin_password().await?;
            let password = password.ok_or_else(|| self.failure("the topology has no admin password"))?;
            let file = self.private_temp(format!("{}\n", password.reveal())).await?;
            let path = file.path().to_string_lossy().into_owned();
            command = command.args(["--auth-local=scram-sha-256", "--auth-host=scram-sha-256"]);
            command = command.arg(format!("--pwfile={path}")).removes(path);
            pwfile = Some(file);
        } else {
            command = command.args(["--auth-local=peer", "--auth-host=reject"]);
        }
        command = command.args(create.options.iter().map(|(name, value)| match value {
            None => format!("--{name}"),
            Some(value) => format!("--{name}={value}"),
        }));
        let output = command.guarded(&self.seat, self.lock()?, self.live.interrupt.clone()).await;
        drop(pwfile);
        let output = output.map_err(|error| self.not_run(&error))?;
        if !output.status.success() {
            return Err(self.not_made("initdb", &output));
        }
        self.write_configuration(&new, &create.conf, &create.hba, &create.passfile).await
    }

    /// Says how a program that makes a data directory has failed, in its own words.
    pub(super) fn not_made(&self, program: &str, output: &Output) -> Failure {
        let lines = output.stderr_lines();
        let failure = if lines.iter().any(|line| line.contains("No space left on device")) {
            self.failure(format!("no space was left for {program} in `{}`", self.folder().display()))
                .with_remedy("free space on that file system, and apply again")
        } else {
            self.failure(format!("{program} ended with {}", output.ending()))
                .with_remedy("nothing of it was left: remove the cause, and apply again")
        };
        failure.with_output(lines)
    }

    /// Writes pgpair's parts of the configuration into a data directory that no server runs on.
    pub(super) async fn write_configuration(
        &self,
        dir: &str,
        conf: &Block,
        hba: &Block,
        passfile: &[PassfileEntry],
    ) -> Result<(), Failure> {
        let edits = [("postgresql.conf", conf), ("pg_hba.conf", hba)];
        for (name, block) in edits {
            let path = format!("{dir}/{name}");
            let text = self
                .on_files({
                    let path = path.clone();
                    move || files::read_text(path)
                })
                .await?;
            let text = text.ok_or_else(|| {
                self.failure(format!("the new data directory has no `{name}`"))
                    .with_remedy("a source that keeps its configuration elsewhere can't be cloned yet")
            })?;
            let put = if name == "pg_hba.conf" { block::put_before_rules } else { block::put_last };
            let text = put(&text, block).map_err(|error| self.failure(format!("`{path}`, {error}")))?;
            self.on_files(move || files::replace(path, text.as_bytes(), None)).await?;
        }
        let path = format!("{dir}/{PASSFILE}");
        if passfile.is_empty() {
            return self.on_files(move || files::remove(path)).await;
        }
        let text = self.passfile_text(passfile).await?;
        self.on_files(move || files::replace(path, text.as_bytes(), Some(PRIVATE))).await
    }

    /// Sees that the place is what the step was planned for, before anything long is begun.
    pub(super) async fn prepare_place(&self, replaces: Option<&Replaced>) -> Result<(), Failure> {
        let parent = self.folder();
        let outside = self.node.outside().filter_map(|folder| Path::new(folder).parent());
        for folder in outside.chain([parent.as_path()]) {
            files::make_folders(&self.seat, folder).await.map_err(|error| self.bad_file(&error))?;
        }
        let data_dir = self.node.data_dir.clone();
        let is_mount_point = move || {
            let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev());
            matches!((device(Path::new(&data_dir)), device(&parent)), (Ok(own), Ok(above)) if own != above)
        };
        if self.seat.blocking(is_mount_point).await {
            let failure = self.failure(format!("`{}` is a mount point, which can't be renamed", self.node.data_dir));
            return Err(failure.with_remedy("let `data_dir` be a folder inside it"));
        }
        self.check_place(replaces).await?;
        // What a killed run left beside it: files with a secret.
        let (parent, prefix) = (self.folder(), self.temp_prefix());
        self.on_files(move || {
            files::remove_matching(parent, |name| name.starts_with(&prefix) && name.ends_with(files::TEMP_SUFFIX))
        })
        .await
    }

    /// Refuses unless what is at the place is exactly what the plan said would be replaced.
    async fn check_place(&self, replaces: Option<&Replaced>) -> Result<(), Failure> {
        match self.life().await? {
            Life::Running(postmaster) => {
                let what = format!("a server runs on `{}` (pid {})", self.node.data_dir, postmaster.pid);
                return Err(self.failure(what).with_remedy("plan again"));
            }
            Life::Stale | Life::None => {}
        }
        let dir = self.node.data_dir.clone();
        let found = self.seat.blocking(move || Found::at(&dir)).await.map_err(|error| self.bad_file(&error))?;
        let is_right = match (replaces, &found) {
            (None, Found::Nothing | Found::EmptyFolder) | (Some(Replaced::Unfinished), Found::Files) => true,
            (
                Some(Replaced::Cluster(Identity::Known(planned)) | Replaced::Member(Identity::Known(planned))),
                Found::Cluster(found),
            ) => planned == found,
            (None, Found::Files | Found::Cluster(_))
            | (Some(Replaced::Unfinished), Found::Nothing | Found::EmptyFolder | Found::Cluster(_))
            | (
                Some(Replaced::Cluster(_) | Replaced::Member(_)),
                Found::Nothing | Found::EmptyFolder | Found::Files | Found::Cluster(_),
            ) => false,
        };
        if is_right {
            return Ok(());
        }
        let what = format!("`{}` is not what was planned for: there {found} now", self.node.data_dir);
        Err(self.failure(what).with_remedy("plan again"))
    }

    /// Puts the finished new data directory where the server will start.
    pub(super) async fn move_into_place(&self, replaces: Option<&Replaced>) -> Result<(), Failure> {
        self.check_place(replaces).await?;
        let (data_dir, outside) = self.folders();
        let replaces = replaces.is_some();
        self.on_files(move || outside::move_into_place(&data_dir, replaces, &outside)).await
    }

    /// Makes a file that only the node's user can read, for a program that takes a secret from a file.
    pub(super) async fn private_temp(&self, text: String) -> Result<tempfile::NamedTempFile, Failure> {
        let (folder, prefix) = (self.folder(), self.temp_prefix());
        self.on_files(move || files::private_temp(&folder, &prefix, text.as_bytes())).await
    }

    /// How the names of temporary files beside the data directory begin: those of other nodes may be there too.
    fn temp_prefix(&self) -> String {
        let name = Path::new(&self.node.data_dir).file_name().unwrap_or_default();
        format!(".{}.pgpair-", name.to_string_lossy())
    }

    /// The folder that the data directory is in.
    pub(super) fn folder(&self) -> PathBuf {
        Path::new(&self.node.data_dir).parent().unwrap_or(Path::new("/")).to_owned()
    }

    /// Removes what a failed step made. Failing here too is no news: the next run removes it first.
    pub(super) async fn give_up_new(&self) {
        let (data_dir, outside) = self.folders();
        let _ = self.seat.blocking(move || outside::clear_new(&data_dir, &outside)).await;
    }

    pub(super) async fn remove_old(&self) -> Result<(), Failure> {
        let (data_dir, outside) = self.folders();
        self.on_files(move || outside::clear_old(&data_dir, &outside)).await
    }

    /// The data directory, and the node's folders outside it.
    pub(super) fn folders(&self) -> (String, Vec<String>) {
        (self.node.data_dir.clone(), self.node.outside().map(str::to_owned).collect())
    }

    /// Returns the node's lock, for a long child to hold.
    pub(super) fn lock(&self) -> Result<Option<std::fs::File>, Failure> {
        let shared = self.live.locks.as_ref().map(|locks| locks.share(&self.node.name)).transpose();
        shared.map(Option::flatten).map_err(|error| self.failure(format!("the lock can't be shared: {error}")))
    }
}

/// What is at the path of a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    EmptyFolder,
    /// Anything that is no whole data directory.
    Files,
    /// By its system identifier.
    Cluster(u64),
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => f.write_str("is nothing"),
            Self::EmptyFolder => f.write_str("is an empty folder"),
            Self::Files => f.write_str("are files that are no whole data directory"),
            Self::Cluster(identifier) => write!(f, "is a data directory with system identifier {identifier}"),
        }
    }
}

impl Found {
    fn at(dir: &str) -> Result<Self, FileError> {
        if !files::exists(dir)? {
            return Ok(Self::Nothing);
        }
        if files::is_empty_folder(dir)? {
            return Ok(Self::EmptyFolder);
        }
        Ok(read_control(dir)?.map_or(Self::Files, |(control, _)| Self::Cluster(control.system_identifier)))
    }
}

/// Returns what the data directory says of itself; `None` where it is no whole one.
pub(super) fn read_control(dir: &str) -> Result<Option<(Control, Major)>, FileError> {
    let Some(version) = files::read(format!("{dir}/PG_VERSION"))? else { return Ok(None) };
    let Ok(major) = String::from_utf8_lossy(&version).parse::<Major>() else { return Ok(None) };
    match place::read_control(Path::new(dir), major) {
        Ok(control) => Ok(control.ok().map(|control| (control, major))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError { what: "read", path: PathBuf::from(format!("{dir}/global/pg_control")), source }),
    }
}
