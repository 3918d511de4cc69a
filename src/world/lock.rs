//! One pgpair at a time: a `flock` for each node, beside its data directory.
//!
//! The lock file is `.<name>.pgpair.lock` in the folder of the data directory. Where that folder can't be
//! written the data directory itself is locked, which nobody can then replace. Where the folder does not exist yet
//! it is made, because a lock on anything else would not meet that of a second pgpair which comes when the folder
//! is there. Files and folders that were made for a lock are removed with it, if nothing else came to use them;
//! so an apply that is refused leaves what it found. Where the folder can't even be made, there is no lock, and
//! nothing is ever done to that node.
//!
//! Servers do not inherit the lock (descriptors close at exec); long children are handed it.

use std::collections::BTreeMap;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::io;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use serde::Deserialize;
use serde::Serialize;
use tokio::sync::watch;

use crate::topology::NodeName;
use crate::topology::Topology;
use crate::world::files;
use crate::world::files::Made;
use crate::world::user::Seat;
use crate::world::user::SeatError;

/// How often a held lock is tried again: `flock` has no way to wait for a limited time.
const POLL: Duration = Duration::from_millis(100);

/// The locks of a cluster's nodes, held until they are dropped.
#[derive(Debug)]
pub struct Locks(BTreeMap<NodeName, Lock>);

#[derive(Debug)]
struct Lock {
    /// Closed before the lock file is removed.
    file: Option<File>,
    /// Absent where it is the data directory itself that is locked.
    path: Option<PathBuf>,
    made: Made,
    seat: Arc<Seat>,
}

/// Why the locks were not taken. Those already taken are released.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("node `{node}` is locked{}", holder.as_ref().map(|holder| format!(": {holder}")).unwrap_or_default())]
    Held { node: NodeName, holder: Option<Holder> },
    #[error("node `{node}` can't be locked: `{}`: {source}", path.display())]
    File { node: NodeName, path: PathBuf, source: io::Error },
    #[error("node `{node}` can't be locked: {source}")]
    Seat { node: NodeName, source: SeatError },
    #[error("interrupted while waiting for the lock of node `{node}`")]
    Interrupted { node: NodeName },
}

/// Who holds a lock: the one line of the lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    pub host: String,
    pub user: String,
    pub since: String,
    pub command: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { pid, host, user, since, command } = self;
        write!(f, "`{command}` has it since {since} (pid {pid} of {user} on {host})")
    }
}

impl Holder {
    fn ourselves(user: &str) -> Self {
        let host = rustix::system::uname();
        Self {
            pid: std::process::id(),
            host: host.nodename().to_string_lossy().into_owned(),
            user: user.to_owned(),
            since: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            // The subcommand alone: arguments could hold what is nobody's business.
            command: ["pgpair".to_owned()].into_iter().chain(std::env::args().nth(1)).collect::<Vec<_>>().join(" "),
        }
    }
}

impl Locks {
    /// Locks every node of the topology that can be reached, in the order of their names, so that two pgpairs can't
    /// wait for each other. A held lock is waited for, `wait` long in all.
    ///
    /// # Errors
    ///
    /// [`LockError`]; nothing is locked then.
    pub async fn acquire(
        topology: &Topology,
        wait: Duration,
        mut interrupt: watch::Receiver<bool>,
    ) -> Result<Self, LockError> {
        let until = Instant::now() + wait;
        let mut locks = Self(BTreeMap::new());
        let mut nodes: Vec<_> = topology.nodes.values().filter(|node| node.ssh.is_none()).collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        for node in nodes {
            let seat = match Seat::of_node(topology, node) {
                Ok(seat) => seat,
                // Looking at the node says the same, and nothing can be done to it.
                Err(SeatError::NotPermitted { .. } | SeatError::NoSuchUser(_)) => continue,
                Err(source) => return Err(LockError::Seat { node: node.name.clone(), source }),
            };
            let Some(lock) = Lock::take(&node.name, &node.data_dir, seat, until, &mut interrupt).await? else {
                continue;
            };
            locks.0.insert(node.name.clone(), lock);
        }
        Ok(locks)
    }

    /// Whether the node is locked.
    #[must_use]
    pub fn holds(&self, node: &NodeName) -> bool {
        self.0.contains_key(node)
    }

    /// Returns a copy of the node's lock for a child: it is held until the copy is closed too.
    ///
    /// # Errors
    ///
    /// The system's error, where there are too many open files.
    pub fn share(&self, node: &NodeName) -> io::Result<Option<File>> {
        self.0.get(node).and_then(|lock| lock.file.as_ref()).map(File::try_clone).transpose()
    }
}

/// What one try to lock found.
enum Try {
    Locked {
        file: File,
        path: Option<PathBuf>,
    },
    Held(Option<Holder>),
    /// The user can't write there at all.
    OutOfReach,
}

impl Lock {
    async fn take(
        node: &NodeName,
        data_dir: &str,
        seat: Arc<Seat>,
        until: Instant,
        interrupt: &mut watch::Receiver<bool>,
    ) -> Result<Option<Self>, LockError> {
        let path = lock_path(data_dir);
        let mut made = Made::default();
        loop {
            if let Some(folder) = path.parent() {
                match files::make_folders(&seat, folder).await {
                    Ok(folders) if folders.is_empty() => {}
                    Ok(folders) => made = folders,
                    Err(_) => return Ok(None),
                }
            }
            let (lock_path, folder, user) = (path.clone(), PathBuf::from(data_dir), seat.user().to_owned());
            let tried = seat.blocking(move || try_lock(&lock_path, &folder, &user)).await;
            if !matches!(tried, Ok(Try::Locked { .. } | Try::Held(_))) {
                made.undo();
            }
            let failed = |source| LockError::File { node: node.clone(), path: path.clone(), source };
            let holder = match tried.map_err(failed)? {
                Try::Locked { file, path } => return Ok(Some(Self { file: Some(file), path, made, seat })),
                Try::OutOfReach => return Ok(None),
                Try::Held(holder) => holder,
            };
            if Instant::now() >= until {
                return Err(LockError::Held { node: node.clone(), holder });
            }
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                Ok(_) = interrupt.wait_for(|interrupted| *interrupted) => {
                    return Err(LockError::Interrupted { node: node.clone() });
                }
            }
        }
    }
}

/// Returns where the lock file of a data directory is.
fn lock_path(data_dir: &str) -> PathBuf {
    let data_dir = Path::new(data_dir);
    let name = data_dir.file_name().unwrap_or_default().to_string_lossy();
    data_dir.with_file_name(format!(".{name}.pgpair.lock"))
}

fn try_lock(path: &Path, data_dir: &Path, user: &str) -> io::Result<Try> {
    loop {
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(path);
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if is_write_denied(&error) => return try_lock_folder(data_dir),
            // A disk that fails: nothing can be done to what lies there, with a lock or without.
            Err(_) if path.parent().is_some_and(|folder| folder.metadata().is_err()) => return Ok(Try::OutOfReach),
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Try::Held(read_holder(&mut file))),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Its last holder may have removed the file between our open and our lock: then it locks nothing.
        if !is_at(&file, path)? {
            continue;
        }
        let line = serde_json::to_string(&Holder::ourselves(user)).map_err(io::Error::other)?;
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{line}")?;
        return Ok(Try::Locked { file, path: Some(path.to_owned()) });
    }
}

fn try_lock_folder(folder: &Path) -> io::Result<Try> {
    let file = match File::open(folder) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_write_denied(&error) => return Ok(Try::OutOfReach),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => Ok(Try::Locked { file, path: None }),
        Err(TryLockError::WouldBlock) => Ok(Try::Held(None)),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether no lock file can be made: it may not, or a file is where a folder should be.
fn is_write_denied(error: &io::Error) -> bool {
    use io::ErrorKind::NotADirectory;
    use io::ErrorKind::PermissionDenied;
    use io::ErrorKind::ReadOnlyFilesystem;
    [PermissionDenied, ReadOnlyFilesystem, NotADirectory].contains(&error.kind())
}

/// Whether an open file is the one that the path leads to.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn read_holder(file: &mut File) -> Option<Holder> {
    let mut line = String::new();
    file.take(4096).read_to_string(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

impl Drop for Lock {
    fn drop(&mut self) {
        let (file, path, made) = (self.file.take(), self.path.take(), std::mem::take(&mut self.made));
        self.seat.blocking_now(move || {
            drop(file);
            if let Some(path) = path {
                remove_if_free(&path);
            }
        });
        // With our own rights: root may have made them where the user could not.
        made.undo();
    }
}

/// Removes a lock file, unless a child of ours or another pgpair has it now.
fn remove_if_free(path: &Path) {
    let Ok(file) = File::open(path) else { return };
    if file.try_lock().is_ok() && is_at(&file, path).unwrap_or(false) {
        // A lock file that stays is no harm.
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        root: tempfile::TempDir,
        interrupt: watch::Sender<bool>,
    }

    impl Place {
        fn new() -> Self {
            Self { root: tempfile::tempdir().expect("a folder"), interrupt: watch::channel(false).0 }
        }

        fn data_dir(&self, name: &str) -> String {
            self.root.path().join(name).to_str().expect("text").to_owned()
        }

        async fn take(&self, name: &str) -> Result<Option<Lock>, LockError> {
            let seat = Seat::of(None).expect("our own");
            let mut interrupt = self.interrupt.subscribe();
            Lock::take(&NodeName::new("a"), &self.data_dir(name), seat, Instant::now(), &mut interrupt).await
        }

        fn entries(&self) -> usize {
            std::fs::read_dir(self.root.path()).expect("a folder").count()
        }
    }

    #[tokio::test]
    async fn a_held_lock_says_who_has_it_and_a_dropped_one_leaves_no_trace() {
        let place = Place::new();
        let held = place.take("5433/data").await.expect("free").expect("reachable");
        let error = place.take("5433/data").await.expect_err("held").to_string();
        assert!(error.contains(&format!("(pid {} of ", std::process::id())), "{error}");
        drop(held);
        assert_eq!(place.entries(), 0);
        place.take("5433/data").await.expect("free again").expect("reachable");
    }

    #[tokio::test]
    async fn folders_that_root_made_for_a_user_go_too() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let place = Place::new();
        let everybody_enters = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(place.root.path(), everybody_enters).expect("changed");
        let (seat, mut interrupt) = (Seat::of(Some("nobody")).expect("a seat"), place.interrupt.subscribe());
        let data_dir = place.data_dir("5433/node/data");
        let held = Lock::take(&NodeName::new("a"), &data_dir, seat, Instant::now(), &mut interrupt).await;
        let held = held.expect("free").expect("root made the folders");
        assert_eq!(place.entries(), 1);
        drop(held);
        assert_eq!(place.entries(), 0);
    }

    #[tokio::test]
    async fn folders_that_came_into_use_stay() {
        let place = Place::new();
        let held = place.take("5433/data").await.expect("free").expect("reachable");
        std::fs::create_dir(place.data_dir("5433/data")).expect("made");
        drop(held);
        assert_eq!(place.entries(), 1);
        assert_eq!(std::fs::read_dir(place.data_dir("5433")).expect("kept").count(), 1, "without the lock file");
    }

    #[tokio::test]
    async fn a_copy_that_a_child_has_keeps_the_lock() {
        let place = Place::new();
        let held = place.take("data").await.expect("free").expect("reachable");
        let copy = held.file.as_ref().expect("open").try_clone().expect("copied");
        drop(held);
        assert!(matches!(place.take("data").await, Err(LockError::Held { .. })));
        drop(copy);
        place.take("data").await.expect("free again").expect("reachable");
    }

    #[tokio::test]
    async fn waiting_ends_when_the_lock_is_released_or_pgpair_is_interrupted() {
        let place = Place::new();
        let held = place.take("data").await.expect("free").expect("reachable");
        let wait = |mut interrupt: watch::Receiver<bool>| {
            let data_dir = place.data_dir("data");
            async move {
                let until = Instant::now() + Duration::from_secs(60);
                Lock::take(&NodeName::new("a"), &data_dir, Seat::of(None).expect("our own"), until, &mut interrupt)
                    .await
            }
        };
        let interrupted = tokio::spawn(wait(place.interrupt.subscribe()));
        place.interrupt.send(true).expect("somebody listens");
        assert!(matches!(interrupted.await.expect("no panic"), Err(LockError::Interrupted { .. })));
        place.interrupt.send_replace(false);
        let waiting = tokio::spawn(wait(place.interrupt.subscribe()));
        drop(held);
        waiting.await.expect("no panic").expect("released").expect("reachable");
    }
}
