//! A node's data directory as its files tell it, and what lies beside it.
//!
//! Blocking, and done with the rights of the node's user. What can't be read makes the whole place unknown, with
//! the path and the reason: half of a configuration is not one to plan on. That goes for text that is not UTF-8
//! as well: a line that can't be held can't be written back as it was.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rustix::fs::Access;
use rustix::io::Errno;

use crate::observed::Cluster;
use crate::observed::DataDir;
use crate::observed::Identity;
use crate::observed::MadeWay;
use crate::observed::Markers;
use crate::observed::Outside;
use crate::observed::Passfile;
use crate::observed::Place;
use crate::observed::Reading;
use crate::observed::Slot;
use crate::observed::WalFiles;
use crate::observed::WrongAccess;
use crate::pg::conf;
use crate::pg::conf::ConfFile;
use crate::pg::conf::ConfFiles;
use crate::pg::conf::ConfValues;
use crate::pg::control::BadControl;
use crate::pg::control::Control;
use crate::pg::control::SIZE;
use crate::pg::history;
use crate::pg::history::Branch;
use crate::pg::lsn::Lsn;
use crate::pg::lsn::Timeline;
use crate::pg::lsn::history_file_name;
use crate::pg::lsn::history_file_timeline;
use crate::pg::lsn::wal_file_start;
use crate::pg::version::Major;
use crate::plan::Digest;
use crate::plan::desired::PASSFILE;
use crate::world::outside;
use crate::world::probe::mounts::Mounts;
use crate::world::probe::same_file;
use crate::world::probe::wal;

/// How deep configuration files may include each other (`CONF_FILE_MAX_DEPTH`).
const DEEPEST: usize = 10;

/// How often pg_control is read before its checksum is believed to be wrong: the server may be writing it.
const CONTROL_READS: usize = 5;

/// How the name of a backup ends: a file that was replaced, until the one in its place has proved itself.
pub const BACKUP_SUFFIX: &str = ".pgpair.bak";

/// Where pg_control of a replaced data directory is kept whose data had to be removed: no server starts there, and whose
/// configuration it is can still be told.
pub const CONTROL_ASIDE: &str = "pg_control.replaced";

/// What the directory itself does not say.
#[derive(Clone, Debug)]
pub struct Expected {
    pub data_dir: String,
    /// Where postgresql.conf and pg_hba.conf are, if not in the data directory.
    pub config_dir: Option<String>,
    /// The number and name of the user that the server runs as.
    pub owner: (u32, String),
    /// The text that pgpair's passfile should have, where its secret can be had.
    pub passfile: Option<String>,
    /// Whether missing folders above the data directory are made by root, whatever the user may.
    pub root_makes_parents: bool,
    /// The node's folders outside its data directory.
    pub outside: Vec<String>,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The place, or what could not be read of it and why.
    pub place: Result<Place, String>,
    /// From pg_control, known also where something else could not be read.
    pub system_identifier: Option<u64>,
    pub changed: Changed,
    /// Why a file that is edited in a role change can't be written.
    pub unwritable: Option<String>,
    /// WAL files that wait for the archiver.
    pub unarchived: u32,
}

/// When files were last changed, in microseconds since the epoch; 0 where there are none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changed {
    pub conf: i64,
    pub hba: i64,
    pub recovery_conf: i64,
}

/// Looks at the data directory of a server that runs, or is stopped.
#[must_use]
pub fn look(expected: &Expected, is_stopped: bool) -> Found {
    let dir = Path::new(&expected.data_dir);
    let mut look = Look { is_stopped, ..Look::new(expected, dir, Mounts::read()) };
    let place = look.place();
    let has_data = place.as_ref().is_ok_and(|place| matches!(place.data_dir, DataDir::Cluster(_)));
    let unwritable = if has_data { look.unwritable_file() } else { None };
    let unarchived = if has_data { unarchived(&dir.join("pg_wal/archive_status")) } else { 0 };
    let Look { system_identifier, changed, .. } = look;
    Found { place, system_identifier, changed, unwritable, unarchived }
}

/// Returns what a backup keeps, unless the file that replaced it was replaced itself. Its first line has the digests of
/// those that took its place.
#[must_use]
pub fn kept_for<'a>(backup: &'a str, now: &Digest) -> Option<&'a str> {
    let (successors, text) = backup.split_once('\n')?;
    successors.split(' ').any(|digest| digest == now.0).then_some(text)
}

/// Returns the path of a configuration file of the node.
#[must_use]
pub fn conf_path(data_dir: &str, config_dir: Option<&str>, name: &str) -> String {
    format!("{}/{name}", config_dir.unwrap_or(data_dir))
}

struct Look<'a> {
    expected: &'a Expected,
    dir: &'a Path,
    system_identifier: Option<u64>,
    changed: Changed,
    mounts: Mounts,
    is_stopped: bool,
}

impl<'a> Look<'a> {
    fn new(expected: &'a Expected, dir: &'a Path, mounts: Mounts) -> Self {
        Self { expected, dir, system_identifier: None, changed: Changed::default(), mounts, is_stopped: false }
    }

    fn place(&mut self) -> Result<Place, String> {
        let data_dir = self.data_dir()?;
        let data_dir_path = &self.expected.data_dir;
        let sibling = |suffix: &str| exists(Path::new(&format!("{data_dir_path}.pgpair-{suffix}")));
        let old = sibling("old")?;
        let made_way = match &data_dir {
            DataDir::Absent | DataDir::Empty if old => self.made_way().map(Box::new),
            DataDir::Absent | DataDir::Empty | DataDir::Unfinished(_) | DataDir::Foreign(_) | DataDir::Cluster(_) => {
                None
            }
        };
        let outside = self.expected.outside.iter().map(|folder| Ok((folder.clone(), self.outside(folder)?)));
        Ok(Place {
            data_dir,
            not_writable: self.not_writable(self.dir),
            new: sibling("new")?,
            work: sibling("work")?,
            old,
            made_way,
            unmounted: self.mounts.unmounted(data_dir_path),
            outside: outside.collect::<Result<_, String>>()?,
        })
    }

    /// Reads the configuration in `.pgpair-old`. One that can't be read whole, or of which nothing tells whose it was, is
    /// none that a copy could keep.
    fn made_way(&self) -> Option<MadeWay> {
        let dir = PathBuf::from(format!("{}.pgpair-old", self.expected.data_dir));
        let major: Major = read_text(&dir.join("PG_VERSION")).ok()??.text.parse().ok()?;
        let control = match read_control(&dir, major) {
            Ok(control) => control.ok()?,
            Err(_) => Control::parse(&fs::read(dir.join(CONTROL_ASIDE)).ok()?, major).ok()?,
        };
        let expected = Expected { data_dir: dir.display().to_string(), ..self.expected.clone() };
        let mut old = Look::new(&expected, &dir, Mounts::default());
        Some(MadeWay {
            identity: Identity::Known(control.system_identifier),
            conf: old.conf_files().ok()?,
            hba: old.needed(&old.conf_path("pg_hba.conf")).ok()?.text,
            passfile: old.passfile().ok()?,
            recovery_conf: old.markers().ok()?.recovery_conf,
        })
    }

    fn outside(&self, folder: &str) -> Result<Outside, String> {
        Ok(Outside {
            content: outside::content(&self.expected.data_dir, folder).map_err(|error| error.to_string())?,
            not_writable: self.not_writable(Path::new(folder)),
            unmounted: self.mounts.unmounted(folder),
            old: exists(Path::new(&format!("{folder}.pgpair-old")))?,
        })
    }

    fn data_dir(&mut self) -> Result<DataDir, String> {
        let metadata = match fs::metadata(self.dir) {
            Ok(metadata) => metadata,
            Err(error) if is_nothing(&error) => {
                let dangling = fs::symlink_metadata(self.dir).is_ok();
                return Ok(if dangling {
                    DataDir::Foreign("a symbolic link to nothing".into())
                } else {
                    DataDir::Absent
                });
            }
            Err(error) => return Err(cant_read(self.dir, &error)),
        };
        if !metadata.is_dir() {
            return Ok(DataDir::Foreign("not a directory".into()));
        }
        let names = names_in(self.dir).map_err(|why| {
            let (uid, user) = &self.expected.owner;
            let owner = metadata.uid();
            if owner == *uid { why } else { format!("{why}; it belongs to user number {owner}, not to {user}") }
        })?;
        if names.is_empty() {
            return Ok(DataDir::Empty);
        }
        let Some(version) = read_text(&self.dir.join("PG_VERSION"))? else {
            return self.without_version(&names);
        };
        let major: Major = version.text.parse().map_err(|error| format!("{}: {error}", self.dir.display()))?;
        match self.control(major)? {
            Ok(control) => self.cluster(major, &control, &metadata).map(|cluster| DataDir::Cluster(Box::new(cluster))),
            Err(unfinished) => Ok(DataDir::Unfinished(unfinished)),
        }
    }

    /// Without PG_VERSION it is an unfinished clone only if every entry is one of PostgreSQL's.
    fn without_version(&self, names: &[String]) -> Result<DataDir, String> {
        if exists(&self.dir.join("global/pg_control"))? {
            return Err(format!("{} has a global/pg_control and no PG_VERSION: is it damaged?", self.dir.display()));
        }
        let foreign: Vec<&str> = names.iter().map(String::as_str).filter(|name| !is_postgresqls(name)).collect();
        Ok(match foreign.as_slice() {
            [] => DataDir::Unfinished("no PG_VERSION and no global/pg_control".into()),
            [.., _] => {
                let more = if foreign.len() > 3 { ", ..." } else { "" };
                DataDir::Foreign(format!("{}{more}", foreign[..foreign.len().min(3)].join(", ")))
            }
        })
    }

    /// Reads pg_control: it, or what is unfinished. A damaged one is neither.
    fn control(&self, major: Major) -> Result<Result<Control, String>, String> {
        match read_control(self.dir, major) {
            Ok(Ok(control)) => Ok(Ok(control)),
            // A clone copies it last; one that was killed leaves it short, or not there at all.
            Ok(Err(short @ BadControl::Size(size))) if size < SIZE => Ok(Err(short.to_string())),
            Ok(Err(bad)) => Err(format!("{}: {bad}", self.dir.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Err("no global/pg_control".into())),
            Err(error) => Err(cant_read(&self.dir.join("global/pg_control"), &error)),
        }
    }

    fn cluster(&mut self, major: Major, control: &Control, metadata: &fs::Metadata) -> Result<Cluster, String> {
        self.system_identifier = Some(control.system_identifier);
        let conf = self.conf_files()?;
        let hba = self.needed(&self.conf_path("pg_hba.conf"))?;
        self.changed.hba = hba.changed;
        self.follows_no_other_files(&conf)?;
        let wal_names = names_in(&self.dir.join("pg_wal"))?;
        let newest_history = wal_names.iter().filter_map(|name| history_file_timeline(name)).max();
        let (waldir, tablespaces) = self.links()?;
        let branches = newest_history.map_or(Ok(Vec::new()), |timeline| self.branches(timeline))?;
        let end = self.end(control, newest_history, &branches)?;
        Ok(Cluster {
            major,
            identity: Identity::Known(control.system_identifier),
            state: control.state,
            timeline: control.timeline,
            checkpoint: control.checkpoint,
            checksums: control.checksums,
            wal_log_hints: control.wal_log_hints,
            floors: control.floors.clone(),
            end: end.map(|(end, _)| end),
            end_timeline: end.map(|(_, timeline)| timeline),
            newest_history,
            beginnings: wal::beginnings(&self.dir.join("pg_wal"), &branches, newest_history, control.wal_segment_size)?,
            lost: None,
            branches,
            wal: wal_files(&self.dir.join("pg_wal"), &wal_names, control.wal_segment_size),
            wrong_access: self.wrong_access(major, metadata),
            markers: self.markers()?,
            conf,
            hba: hba.text,
            passfile: self.passfile()?,
            replication_role: Reading::Unknown("the server is stopped".into()),
            slots: self.slots()?,
            waldir,
            tablespaces,
        })
    }

    /// Where its WAL ends, on whichever of the timelines that it knows.
    fn end(
        &self,
        control: &Control,
        newest_history: Option<Timeline>,
        branches: &[Branch],
    ) -> Result<Option<(Lsn, Timeline)>, String> {
        wal::end(&self.dir.join("pg_wal"), control, branches, newest_history, self.is_stopped)
    }

    /// What the newest history file says. One that the server would refuse says nothing: it is being written.
    fn branches(&self, timeline: Timeline) -> Result<Vec<Branch>, String> {
        let path = self.dir.join("pg_wal").join(history_file_name(timeline));
        let text = read_text(&path)?.map(|file| file.text).unwrap_or_default();
        Ok(history::parse(&text).map(|history| history.branches).unwrap_or_default())
    }

    /// Where pg_wal leads, and each tablespace, in the topology's words where it has a path for that.
    fn links(&self) -> Result<(Option<String>, BTreeMap<String, String>), String> {
        let (mut waldir, mut tablespaces) = (None, BTreeMap::new());
        for link in outside::links(&self.expected.data_dir).map_err(|error| error.to_string())? {
            let ours = self.expected.outside.iter().find(|folder| same_file(folder, &link.target));
            let target = ours.cloned().unwrap_or(link.target);
            match link.name.strip_prefix("pg_tblspc/") {
                Some(oid) => drop(tablespaces.insert(oid.to_owned(), target)),
                None => waldir = Some(target),
            }
        }
        Ok((waldir, tablespaces))
    }

    fn conf_path(&self, name: &str) -> PathBuf {
        PathBuf::from(conf_path(&self.expected.data_dir, self.expected.config_dir.as_deref(), name))
    }

    fn conf_files(&mut self) -> Result<ConfFiles, String> {
        let path = self.conf_path("postgresql.conf");
        let file = self.needed(&path)?;
        let main = self.with_includes(&path, file, 0)?;
        let path = self.dir.join("postgresql.auto.conf");
        let auto = read_text(&path)?.map(|file| self.with_includes(&path, file, 0)).transpose()?;
        let replaced = read_text(&self.conf_path(&format!("postgresql.conf{BACKUP_SUFFIX}")))?;
        let replaced = replaced.and_then(|file| kept_for(&file.text, &Digest::of(&main.text)).map(str::to_owned));
        Ok(ConfFiles { main, auto, replaced })
    }

    /// Reads a file without which no server starts.
    fn needed(&self, path: &Path) -> Result<Text, String> {
        read_text(path)?.ok_or_else(|| {
            let hint = if self.expected.config_dir.is_some() { "" } else { " (`config_dir` says where else it is)" };
            format!("{} is not there{hint}", path.display())
        })
    }

    /// Reads what a file includes, as the server does: relative to the file, folders in the order of bytes.
    fn with_includes(&mut self, path: &Path, file: Text, depth: usize) -> Result<ConfFile, String> {
        self.changed.conf = self.changed.conf.max(file.changed);
        let mut includes = Vec::new();
        for entry in conf::parse(&file.text).entries.iter().filter(|entry| entry.is_include()) {
            let place = format!("{}:{}", path.display(), entry.line);
            if depth == DEEPEST {
                return Err(format!("{place} includes files more than {DEEPEST} deep, which the server refuses"));
            }
            let target = path.parent().unwrap_or(self.dir).join(&entry.value);
            let targets = if entry.name == "include_dir" {
                let mut names = names_in(&target).map_err(|why| format!("{place}: {why}"))?;
                names.retain(|name| name.ends_with(".conf") && !name.starts_with('.'));
                names.sort_unstable();
                names.iter().map(|name| target.join(name)).filter(|path| !path.is_dir()).collect()
            } else {
                vec![target]
            };
            let mut files = Vec::new();
            for target in targets {
                match read_text(&target)? {
                    Some(file) => files.push(self.with_includes(&target, file, depth + 1)?),
                    None if entry.name == "include_if_exists" => {}
                    None => return Err(format!("{place} includes {}, which is not there", target.display())),
                }
            }
            includes.push(files);
        }
        Ok(ConfFile { path: self.shown(path), text: file.text, includes })
    }

    /// A path as it is named in messages: relative where it lies in the data directory.
    fn shown(&self, path: &Path) -> String {
        path.strip_prefix(self.dir).unwrap_or(path).display().to_string()
    }

    /// Refuses a configuration that leads to other files than those which were read here.
    fn follows_no_other_files(&self, conf: &ConfFiles) -> Result<(), String> {
        // A syntax error is the planner's to tell.
        let Ok(ConfValues { values, .. }) = conf.read() else { return Ok(()) };
        let hba = self.conf_path("pg_hba.conf").display().to_string();
        for (name, ours) in [("hba_file", &hba), ("data_directory", &self.expected.data_dir)] {
            if let Some(placed) = values.get(name).filter(|placed| !same_file(&placed.value, ours)) {
                let (file, line, value) = (&placed.file, placed.line, &placed.value);
                return Err(format!("{file}:{line} sets {name} to {value}, which is not {ours}"));
            }
        }
        Ok(())
    }

    fn markers(&mut self) -> Result<Markers, String> {
        let recovery_conf = read_text(&self.dir.join("recovery.conf"))?;
        self.changed.recovery_conf = recovery_conf.as_ref().map_or(0, |file| file.changed);
        let there = |name: &str| exists(&self.dir.join(name));
        Ok(Markers {
            standby_signal: there("standby.signal")?,
            recovery_signal: there("recovery.signal")?,
            recovery_conf: recovery_conf.map(|file| file.text),
            backup_label: there("backup_label")?,
            promote: there("promote")?,
            postmaster_opts: there("postmaster.opts")?,
        })
    }

    fn passfile(&self) -> Result<Passfile, String> {
        let Some(file) = read_text(&self.dir.join(PASSFILE))? else { return Ok(Passfile::Absent) };
        // libpq ignores one that group or others may read, and the server must be able to.
        if file.mode != 0o600 || file.owner != self.expected.owner.0 {
            return Ok(Passfile::Wrong);
        }
        Ok(match &self.expected.passfile {
            Some(expected) if file.text == *expected => Passfile::Right,
            Some(_) => Passfile::Wrong,
            None => Passfile::NotCompared,
        })
    }

    /// Says why the server would refuse the directory: `checkDataDir` in `miscinit.c`.
    fn wrong_access(&self, major: Major, metadata: &fs::Metadata) -> Option<WrongAccess> {
        let (uid, user) = &self.expected.owner;
        let mode = metadata.mode() & 0o7777;
        let most = if major.dialect().group_access { 0o027 } else { 0o077 };
        if metadata.uid() != *uid {
            let dir = self.dir.display();
            Some(WrongAccess::Owner(format!("{dir} belongs to user number {}, not to {user}", metadata.uid())))
        } else {
            (mode & most != 0).then_some(WrongAccess::Mode(mode))
        }
    }

    /// Says why a folder can't be made at this path, or renamed.
    fn not_writable(&self, dir: &Path) -> Option<String> {
        let parent = dir.parent()?;
        if exists(dir).unwrap_or(false) && self.mounts.is_mount_point(&dir.to_string_lossy()) {
            return Some(format!("{} is a mount point and can't be renamed: take a folder inside it", dir.display()));
        }
        if dir.is_symlink() {
            let dir = dir.display();
            return Some(format!("{dir} is a symbolic link, which can't be replaced: name what it leads to"));
        }
        let existing = parent.ancestors().find(|ancestor| ancestor.exists())?;
        let why = if existing.is_dir() {
            if existing != parent && self.expected.root_makes_parents {
                return None;
            }
            rustix::fs::access(existing, Access::WRITE_OK | Access::EXEC_OK).err()?.to_string()
        } else {
            "not a directory".to_owned()
        };
        Some(format!("{} can't write in {}: {why}", self.expected.owner.1, existing.display()))
    }

    /// Says why one of the files that a role change edits can't be replaced: in its folder, with its owner kept.
    fn unwritable_file(&self) -> Option<String> {
        let (uid, user) = &self.expected.owner;
        let refused = |path: &Path, why: &str| Some(format!("{user} can't write {}: {why}", path.display()));
        let files =
            ["postgresql.auto.conf", "standby.signal", "recovery.conf", PASSFILE].map(|name| self.dir.join(name));
        let configuration = ["postgresql.conf", "pg_hba.conf"].map(|name| self.conf_path(name));
        files.into_iter().chain(configuration).find_map(|path| {
            let real = fs::canonicalize(&path).unwrap_or(path);
            let folder = real.parent()?;
            if let Err(error) = rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK) {
                return refused(folder, &error.to_string());
            }
            let metadata = fs::metadata(&real).ok()?;
            let is_kept_by_others = metadata.uid() != *uid && !rustix::process::geteuid().is_root();
            if is_kept_by_others {
                return refused(&real, &format!("it belongs to user number {}", metadata.uid()));
            }
            // Of its owner's own file only what even the owner may not do is in the way: it is not written, but replaced.
            let is_denied = |error: &rustix::io::Errno| [Errno::PERM, Errno::ROFS].contains(error);
            let denied = rustix::fs::access(&real, Access::WRITE_OK).err().filter(is_denied)?;
            refused(&real, &denied.to_string())
        })
    }

    /// The slots of a stopped server.
    fn slots(&self) -> Result<BTreeMap<String, Slot>, String> {
        let dir = self.dir.join("pg_replslot");
        let names = names_in(&dir)?;
        // `.tmp`: one that was being made or dropped when the server died.
        let names = names.into_iter().filter(|name| !name.ends_with(".tmp"));
        let slot = |name: String| {
            let path = dir.join(&name).join("state");
            match fs::read(&path) {
                Ok(bytes) => Ok((name, slot_state(&bytes))),
                // Dropped since the names were read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((name, slot_state(&[]))),
                Err(error) => Err(cant_read(&path, &error)),
            }
        };
        names.map(slot).collect()
    }
}

/// Returns where the WAL in a pg_wal begins and ends, whatever the timelines of its files.
///
/// Files of names to come are there as well, empty or with what they once held: the first page of one that was
/// written to says where it belongs (`xlp_pageaddr` in `XLogPageHeaderData`, the same in 10 to 18).
fn wal_files(dir: &Path, names: &[String], segment_size: u32) -> Option<WalFiles> {
    const PAGE_ADDRESS: std::ops::Range<usize> = 8..16;
    let mut files: Vec<(Lsn, &String)> =
        names.iter().filter_map(|name| Some((wal_file_start(name, segment_size)?, name))).collect();
    files.sort_unstable();
    let is_written = |start: Lsn, name: &str| {
        let mut header = [0; PAGE_ADDRESS.end];
        let read = fs::File::open(dir.join(name)).and_then(|mut file| file.read_exact(&mut header));
        // One that can't be read may hold anything.
        read.is_err() || header[PAGE_ADDRESS] == start.0.to_le_bytes()
    };
    let (oldest, _) = *files.first()?;
    let newest = files.iter().rev().find(|(start, name)| is_written(*start, name));
    let end = newest.map_or(oldest, |(start, _)| Lsn(start.0 + u64::from(segment_size)));
    Some(WalFiles { oldest, end })
}

/// Counts the WAL files that wait for the archiver. One that can't be looked for is no reason not to look at the rest.
fn unarchived(archive_status: &Path) -> u32 {
    let names = names_in(archive_status).unwrap_or_default();
    u32::try_from(names.iter().filter(|name| name.ends_with(".ready")).count()).unwrap_or(u32::MAX)
}

/// Reads the `state` file of a slot: `ReplicationSlotOnDisk` in `slot.c`. What it does not tell is taken for a
/// physical slot that holds nothing back.
fn slot_state(bytes: &[u8]) -> Slot {
    /// `SLOT_MAGIC`; then checksum, version and length, and the slot's data: name, database, persistency, two
    /// transaction numbers, `restart_lsn`. The beginning is the same in 10 to 18.
    const MAGIC: u32 = 0x0105_1CA1;
    const DATABASE: usize = 80;
    const RESTART_LSN: usize = 96;
    let known = bytes.len() >= RESTART_LSN + 8 && bytes[..4] == MAGIC.to_le_bytes();
    Slot {
        physical: !known || bytes[DATABASE..DATABASE + 4] == [0; 4],
        active: false,
        reserved: known && bytes[RESTART_LSN..RESTART_LSN + 8] != [0; 8],
        wal_status: None,
        retained: None,
    }
}

/// A file's text, with what its folder says of it.
struct Text {
    text: String,
    owner: u32,
    mode: u32,
    /// Microseconds since the epoch.
    changed: i64,
}

/// Reads a file; none where there is none.
fn read_text(path: &Path) -> Result<Option<Text>, String> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cant_read(path, &error)),
    };
    // A pipe would never end.
    if !metadata.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    let bytes = fs::read(path).map_err(|error| cant_read(path, &error))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|&&byte| byte == b'\n').count() + 1;
        format!("{}:{line} is not UTF-8: convert the file, with iconv for instance", path.display())
    })?;
    let changed = metadata.mtime() * 1_000_000 + metadata.mtime_nsec() / 1000;
    Ok(Some(Text { text, owner: metadata.uid(), mode: metadata.mode() & 0o7777, changed }))
}

/// Whether there is anything at a path, a dangling link included.
fn exists(path: &Path) -> Result<bool, String> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if is_nothing(&error) => Ok(false),
        Err(error) => Err(cant_read(path, &error)),
    }
}

/// Whether there is nothing at a path; below a file there can't be anything.
fn is_nothing(error: &io::Error) -> bool {
    [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind())
}

fn names_in(dir: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(dir).map_err(|error| cant_read(dir, &error))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    names.collect::<Result<_, _>>().map_err(|error| cant_read(dir, &error))
}

fn cant_read(path: &Path, error: &io::Error) -> String {
    format!("{} can't be read: {error}", path.display())
}

/// Whether initdb, pg_basebackup or the server makes an entry of this name in a data directory.
fn is_postgresqls(name: &str) -> bool {
    const OTHERS: [&str; 10] = [
        "PG_VERSION",
        "base",
        "global",
        "backup_label",
        "tablespace_map",
        "backup_manifest",
        "postgresql.conf",
        "postgresql.auto.conf",
        "standby.signal",
        "current_logfiles",
    ];
    name.starts_with("pg_") || name.starts_with("backup_label.") || OTHERS.contains(&name)
}

/// Reads pg_control of a data directory; again where the server may be writing it just then.
///
/// # Errors
///
/// Where the file can't be read. What is wrong with its content is part of the result.
pub fn read_control(dir: &Path, major: Major) -> io::Result<Result<Control, BadControl>> {
    for _ in 1..CONTROL_READS {
        let control = Control::parse(&fs::read(dir.join("global/pg_control"))?, major);
        if control != Err(BadControl::Checksum) {
            return Ok(control);
        }
        #[expect(clippy::disallowed_methods, reason = "nothing tells when the server has written the rest")]
        thread::sleep(Duration::from_millis(10));
    }
    Ok(Control::parse(&fs::read(dir.join("global/pg_control"))?, major))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::fs::symlink;

    fn expected(data_dir: &Path) -> Expected {
        Expected {
            data_dir: data_dir.display().to_string(),
            config_dir: None,
            owner: (rustix::process::geteuid().as_raw(), "me".into()),
            passfile: Some("line\n".into()),
            root_makes_parents: false,
            outside: Vec::new(),
        }
    }

    fn reader(expected: &Expected) -> Look<'_> {
        let dir = Path::new(&expected.data_dir);
        Look::new(expected, dir, Mounts::default())
    }

    fn look_at(data_dir: &Path) -> Found {
        look(&expected(data_dir), true)
    }

    fn seen(data_dir: &Path) -> DataDir {
        look_at(data_dir).place.expect("a place").data_dir
    }

    /// A folder with these files, `data` in it; a name that ends in a slash is a folder.
    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        fs::create_dir(&data).expect("a folder");
        for (name, text) in files {
            let path = data.join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            if name.ends_with('/') { fs::create_dir_all(path) } else { fs::write(path, text) }.expect("a file");
        }
        (folder, data)
    }

    #[test]
    fn nothing_an_empty_folder_and_foreign_files_are_told_apart() {
        let (_keep, data) = folder(&[]);
        assert_eq!(seen(&data), DataDir::Empty);
        assert_eq!(seen(&data.join("x/y")), DataDir::Absent);
        let (_keep, data) = folder(&[("lost+found/", "")]);
        assert_eq!(seen(&data), DataDir::Foreign("lost+found".into()));
        assert_eq!(seen(&data.join("lost+found")), DataDir::Empty);
        let (_keep, data) = folder(&[("base/", ""), ("photos/", "")]);
        assert_eq!(seen(&data), DataDir::Foreign("photos".into()), "one foreign entry makes it foreign");
        let (_keep, data) = folder(&[("file", "")]);
        assert_eq!(seen(&data.join("file")), DataDir::Foreign("not a directory".into()));
        symlink("/nowhere/at/all", data.join("link")).expect("a link");
        assert_eq!(seen(&data.join("link")), DataDir::Foreign("a symbolic link to nothing".into()));
    }

    #[test]
    fn a_killed_clone_is_unfinished_and_a_damaged_cluster_is_not() {
        let (_keep, data) = folder(&[("backup_label", "START"), ("base/1/", "")]);
        assert_eq!(seen(&data), DataDir::Unfinished("no PG_VERSION and no global/pg_control".into()));
        let (_keep, data) = folder(&[("PG_VERSION", "15\n"), ("base/", "")]);
        assert_eq!(seen(&data), DataDir::Unfinished("no global/pg_control".into()));
        let (_keep, data) = folder(&[("PG_VERSION", "15\n"), ("global/pg_control", "short")]);
        assert_eq!(seen(&data), DataDir::Unfinished("global/pg_control has 5 bytes, not 8192".into()));
        let zeros = "\0".repeat(SIZE);
        let (_keep, data) = folder(&[("PG_VERSION", "15\n"), ("global/pg_control", &zeros)]);
        let why = look_at(&data).place.expect_err("damaged");
        assert!(why.contains("global/pg_control is of version 0, not 1300"), "{why}");
        let (_keep, data) = folder(&[("global/pg_control", &zeros)]);
        let why = look_at(&data).place.expect_err("damaged");
        assert!(why.contains("no PG_VERSION"), "{why}");
        let (_keep, data) = folder(&[("PG_VERSION", "9.6\n")]);
        let why = look_at(&data).place.expect_err("too old");
        assert!(why.ends_with("PostgreSQL 9.6 is not supported: pgpair knows 10 to 18"), "{why}");
    }

    #[test]
    fn siblings_are_seen_also_as_dangling_links() {
        let (keep, data) = folder(&[]);
        fs::create_dir(keep.path().join("data.pgpair-new")).expect("a folder");
        symlink("/nowhere/at/all", keep.path().join("data.pgpair-old")).expect("a link");
        let place = look_at(&data).place.expect("a place");
        assert!(place.new && place.old && !place.work);
    }

    #[test]
    fn where_the_parent_is_a_file_nothing_can_be_made() {
        let (_keep, data) = folder(&[("file", "")]);
        for below in ["file/below", "file/further/below"] {
            let place = look_at(&data.join(below)).place.expect("a place");
            assert!(matches!(place.data_dir, DataDir::Absent));
            let why = place.not_writable.expect("a reason");
            assert!(why.ends_with("file: not a directory"), "{why}");
        }
    }

    fn conf_of(data: &Path) -> Result<ConfFiles, String> {
        reader(&expected(data)).conf_files()
    }

    #[test]
    fn included_files_are_read_as_the_server_reads_them() {
        let (_keep, data) = folder(&[
            ("postgresql.conf", "include_dir 'conf.d'\ninclude_if_exists = 'gone.conf'\nInclude 'more/x.conf'\n"),
            ("conf.d/9.conf", "port = 9"),
            ("conf.d/10.conf", "port = 10"),
            ("conf.d/.hidden.conf", "port = 11"),
            ("conf.d/other.txt", "port = 12"),
            ("conf.d/folder.conf/", ""),
            ("more/x.conf", "include 'y.conf'"),
            ("more/y.conf", "work_mem = 1MB"),
            ("postgresql.auto.conf", "work_mem = 2MB"),
        ]);
        let conf = conf_of(&data).expect("readable");
        let paths = |files: &[ConfFile]| files.iter().map(|file| file.path.clone()).collect::<Vec<_>>();
        assert_eq!(conf.main.path, "postgresql.conf");
        assert_eq!(paths(&conf.main.includes[0]), ["conf.d/10.conf", "conf.d/9.conf"], "in the order of bytes");
        assert_eq!(paths(&conf.main.includes[1]), [""; 0]);
        assert_eq!(conf.main.includes[2][0].includes[0][0].path, "more/y.conf", "relative to the including file");
        let values = conf.read().expect("good files").values;
        assert_eq!((values["port"].value.as_str(), values["work_mem"].value.as_str()), ("9", "2MB"));
    }

    #[test]
    fn configuration_that_the_server_would_refuse_to_read_is_unknown() {
        let refused = |files: &[(&str, &str)]| {
            let (_keep, data) = folder(files);
            conf_of(&data).expect_err("refused").replace(&data.display().to_string(), "DIR")
        };
        assert_eq!(refused(&[]), "DIR/postgresql.conf is not there (`config_dir` says where else it is)");
        let missing = refused(&[("postgresql.conf", "\ninclude 'gone.conf'\n")]);
        assert_eq!(missing, "DIR/postgresql.conf:2 includes DIR/gone.conf, which is not there");
        let endless = refused(&[("postgresql.conf", "include 'postgresql.conf'\n")]);
        assert_eq!(endless, "DIR/postgresql.conf:1 includes files more than 10 deep, which the server refuses");
        assert_eq!(refused(&[("postgresql.conf/", "")]), "DIR/postgresql.conf is not a file");
    }

    #[test]
    fn text_that_is_not_utf_8_is_named_with_its_line() {
        let (_keep, data) = folder(&[]);
        fs::write(data.join("postgresql.conf"), b"port = 1\n# gr\xFC\xDFe\n").expect("a file");
        let why = conf_of(&data).expect_err("not UTF-8");
        assert!(why.ends_with("postgresql.conf:2 is not UTF-8: convert the file, with iconv for instance"), "{why}");
    }

    #[test]
    fn a_data_directory_that_is_a_link_can_not_be_made_or_replaced() {
        let (_keep, data) = folder(&[]);
        assert_eq!(reader(&expected(&data)).not_writable(&data), None);
        let link = data.with_file_name("link");
        std::os::unix::fs::symlink(&data, &link).expect("a link");
        let why = reader(&expected(&link)).not_writable(&link).expect("a link");
        assert!(why.ends_with("link is a symbolic link, which can't be replaced: name what it leads to"));
    }

    #[test]
    fn wal_ends_with_the_last_file_that_was_written_to() {
        let (_keep, data) = folder(&[]);
        let dir = data.parent().expect("a folder");
        let size = 16 << 20;
        assert_eq!(wal_files(dir, &["00000002.history".into()], size), None);
        let written = |name: &str, at: u64| {
            let page = [&[0; 8][..], &at.to_le_bytes()].concat();
            fs::write(dir.join(name), page).expect("a file");
            name.to_owned()
        };
        let names = vec![
            written("000000010000000000000007", 0x300_0000),
            written("000000010000000000000005", 0x500_0000),
            written("000000010000000000000004", 0x400_0000),
            written("000000010000000000000006", 0),
        ];
        let expected = WalFiles { oldest: Lsn(0x400_0000), end: Lsn(0x600_0000) };
        assert_eq!(wal_files(dir, &names, size), Some(expected));
        assert_eq!(wal_files(dir, &names[..1], size).map(|wal| wal.end), Some(Lsn(0x700_0000)), "nothing is there");
    }

    #[test]
    fn a_passfile_is_right_only_with_its_lines_and_mode() {
        let (_keep, data) = folder(&[]);
        let judged = || reader(&expected(&data)).passfile();
        assert_eq!(judged(), Ok(Passfile::Absent));
        let path = data.join(PASSFILE);
        for (text, mode, right) in [
            ("line\n", 0o600, Passfile::Right),
            ("line\n", 0o640, Passfile::Wrong),
            ("other\n", 0o600, Passfile::Wrong),
        ] {
            fs::write(&path, text).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
            assert_eq!(judged(), Ok(right), "{text:?} {mode:o}");
        }
        let without_secret = Expected { passfile: None, ..expected(&data) };
        assert_eq!(reader(&without_secret).passfile(), Ok(Passfile::NotCompared), "the rest of the place is known");
    }

    #[test]
    fn a_mode_too_open_is_told_by_the_rule_of_the_major() {
        let (_keep, data) = folder(&[]);
        let expected = expected(&data);
        let look = reader(&expected);
        let judged = |major: u32, mode: u32| {
            fs::set_permissions(&data, fs::Permissions::from_mode(mode)).expect("a mode");
            let metadata = fs::metadata(&data).expect("there");
            look.wrong_access(Major::new(major).expect("known"), &metadata).is_some()
        };
        assert!(!judged(10, 0o700) && judged(10, 0o750));
        assert!(!judged(11, 0o700) && !judged(11, 0o750) && judged(11, 0o755) && judged(18, 0o770));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_slot_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = slot_state(&bytes);
            let mut known = 0x0105_1CA1_u32.to_le_bytes().to_vec();
            known.extend(bytes);
            let _ = slot_state(&known);
        }
    }
}
