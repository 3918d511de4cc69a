//! What a node's machine has: PostgreSQL's programs, mount points, listeners, the processes of a data directory.
//!
//! Everything is blocking and done with the rights of the node's user. A program is started only for what no file
//! and no server tells, and its answer is kept for as long as its file stays the same.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::PoisonError;

use rustix::fs::Access;

use crate::observed::Binaries;
use crate::observed::Program;
use crate::observed::Reading;
use crate::observed::SocketDir;
use crate::pg::version::Major;

pub mod control;
pub mod mounts;
pub mod ports;
pub mod process;
pub mod supervisors;
pub mod wal;

/// Without these nothing can be created, started or stopped.
const NEEDED: [&str; 3] = ["postgres", "initdb", "pg_ctl"];

/// Where a distribution puts the programs of one major version.
fn usual_bin_dirs(major: u32) -> [String; 2] {
    [format!("/usr/lib/postgresql/{major}/bin"), format!("/usr/pgsql-{major}/bin")]
}

/// Whether two paths lead to one folder or file.
#[must_use]
pub fn same_file(one: &str, other: &str) -> bool {
    let of = |path: &str| Path::new(path).metadata().map(|metadata| (metadata.dev(), metadata.ino())).ok();
    one == other || of(one).is_some_and(|one| of(other) == Some(one))
}

/// What is wanted of a node's programs.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub major: Major,
    /// The topology's; absent: it is looked for.
    pub bin_dir: Option<String>,
    /// The program and the version of the running server, which need not be asked again.
    pub running: Option<(String, String)>,
    /// Whether a new cluster would be made here, so that its socket folder matters.
    pub socket_dir: bool,
}

/// Finds the programs of a node.
#[must_use]
pub fn binaries(wanted: &Wanted) -> Reading<Binaries> {
    let found = match &wanted.bin_dir {
        Some(dir) => whole(dir).and_then(|()| version_in(dir, wanted)).map(|version| (dir.clone(), version)),
        None => search(wanted),
    };
    let (bin_dir, version) = match found {
        Ok(found) => found,
        Err(why) => return Reading::Unknown(why),
    };
    let Some(major) = major_of(&version).and_then(Major::new) else {
        return Reading::Unknown(format!("{bin_dir} has PostgreSQL {version}, which pgpair does not know"));
    };
    let socket_dir = wanted.socket_dir.then(|| socket_dir(&bin_dir)).flatten();
    let basebackup = basebackup(&bin_dir, major.number());
    let rewind = is_program(&Path::new(&bin_dir).join("pg_rewind"));
    Reading::Known(Binaries { bin_dir, version, major, basebackup, rewind, socket_dir })
}

/// Says which of the needed programs a folder lacks.
fn whole(dir: &str) -> Result<(), String> {
    if !Path::new(dir).is_dir() {
        return Err(format!("{dir} is no folder that can be read"));
    }
    match NEEDED.iter().find(|program| !is_program(&Path::new(dir).join(program))) {
        None => Ok(()),
        Some(missing) => Err(format!("{dir} has no program `{missing}`")),
    }
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok()
}

/// Looks for programs of the wanted major: Debian's place, that of the RPMs, pg_config, PATH.
fn search(wanted: &Wanted) -> Result<(String, String), String> {
    let mut looked_at = Vec::new();
    let mut tried = |dir: String| -> Option<(String, String)> {
        if looked_at.iter().any(|(seen, _): &(String, String)| *seen == dir) {
            return None;
        }
        let why = match whole(&dir).and_then(|()| version_in(&dir, wanted)) {
            Ok(version) if major_of(&version) == Some(wanted.major.number()) => return Some((dir, version)),
            Ok(version) => format!("{dir} has PostgreSQL {version}"),
            Err(why) => why,
        };
        looked_at.push((dir, why));
        None
    };
    let found = usual_bin_dirs(wanted.major.number())
        .into_iter()
        .find_map(&mut tried)
        .or_else(|| path_dirs().find_map(|dir| bin_dir_by_pg_config(&dir)).and_then(&mut tried))
        .or_else(|| path_dirs().filter(|dir| Path::new(dir).join("postgres").exists()).find_map(&mut tried));
    found.ok_or_else(|| {
        let reasons: Vec<String> = looked_at.into_iter().map(|(_, why)| why).collect();
        format!("no programs of PostgreSQL {} were found: {}, nor on PATH", wanted.major, reasons.join("; "))
    })
}

fn path_dirs() -> impl Iterator<Item = String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = env::split_paths(&path).filter(|dir| dir.is_absolute()).collect();
    dirs.into_iter().filter_map(|dir| dir.into_os_string().into_string().ok())
}

fn bin_dir_by_pg_config(dir: &str) -> Option<String> {
    let program = Path::new(dir).join("pg_config");
    if !is_program(&program) {
        return None;
    }
    let answer = answer_of(&program, "--bindir").ok()?;
    Some(answer.trim().to_owned()).filter(|dir| dir.starts_with('/'))
}

/// Returns the version of the `postgres` in a folder: that of the running server if it is this very program.
fn version_in(dir: &str, wanted: &Wanted) -> Result<String, String> {
    let program = Path::new(dir).join("postgres");
    if let Some((running, version)) = &wanted.running
        && fs::canonicalize(&program).is_ok_and(|path| path == Path::new(running))
        && let Some(version) = version.split_whitespace().next()
    {
        return Ok(version.to_owned());
    }
    let answer = answer_of(&program, "--version")?;
    parse_version(&answer).ok_or_else(|| format!("{} says `{}` of its version", program.display(), answer.trim()))
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_version(answer: &str) -> Option<String> {
    let (_, version) = answer.split_once("(PostgreSQL) ")?;
    let version = version.split_whitespace().next()?;
    major_of(version).map(|_| version.to_owned())
}

/// Returns the major of `15.18`, `18beta1`, `19devel`.
fn major_of(version: &str) -> Option<u32> {
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

/// The build's own first folder for the Unix socket.
fn socket_dir(bin_dir: &str) -> Option<SocketDir> {
    // Works without data, and as root; the default of a string is right there, unlike that of a number.
    let answer = answer_of(&Path::new(bin_dir).join("postgres"), "--describe-config").ok()?;
    let path = parse_socket_dir(&answer)?;
    let writable = rustix::fs::access(&path, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    Some(SocketDir { path, writable })
}

/// Reads the line `unix_socket_directories`, context, group, `STRING`, default of `postgres --describe-config`.
fn parse_socket_dir(answer: &str) -> Option<String> {
    let line = answer.lines().find(|line| line.split('\t').next() == Some("unix_socket_directories"))?;
    let first = line.split('\t').nth(4)?.split(',').next()?.trim();
    first.starts_with('/').then(|| first.to_owned())
}

/// Finds a pg_basebackup that can copy a server of this major: its own, else the oldest newer one.
fn basebackup(bin_dir: &str, server: u32) -> Reading<Program> {
    let own = Path::new(bin_dir).join("pg_basebackup");
    if is_program(&own) {
        return Reading::Known(Program { path: own.display().to_string(), major: server });
    }
    let usual = (server..=Major::NEWEST.number()).find_map(|major| {
        let mut paths = usual_bin_dirs(major).into_iter().map(|dir| Path::new(&dir).join("pg_basebackup"));
        paths.find(|path| is_program(path)).map(|path| (path, major))
    });
    // Debian's /usr/bin/pg_basebackup is a wrapper that picks a version by itself.
    let is_itself = |path: &PathBuf| {
        is_program(path)
            && fs::canonicalize(path).is_ok_and(|path| path.file_name().is_some_and(|n| n == "pg_basebackup"))
    };
    let found = usual.or_else(|| {
        let paths = path_dirs().map(|dir| Path::new(&dir).join("pg_basebackup")).filter(is_itself);
        let mut with_major = paths.filter_map(|path| {
            let major = answer_of(&path, "--version").ok().and_then(|answer| major_of(&parse_version(&answer)?))?;
            Some((path, major))
        });
        with_major.find(|(_, major)| *major >= server)
    });
    found.map_or(Reading::Absent, |(path, major)| Reading::Known(Program { path: path.display().to_string(), major }))
}

/// Runs a program with one switch and returns what it prints; once, as long as the file stays the same.
fn answer_of(program: &Path, switch: &'static str) -> Result<String, String> {
    /// By program and switch; the file's device, number, size and time of change with the answer.
    type Answers = BTreeMap<(PathBuf, &'static str), ([i64; 4], String)>;
    static ANSWERS: Mutex<Answers> = Mutex::new(BTreeMap::new());

    let name = program.display();
    let meta = fs::metadata(program).map_err(|error| format!("{name} can't be read: {error}"))?;
    let mark = [meta.dev().cast_signed(), meta.ino().cast_signed(), meta.size().cast_signed(), meta.mtime()];
    let key = (program.to_owned(), switch);
    let kept = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
    if let Some((_, answer)) = kept.filter(|(of, _)| *of == mark) {
        return Ok(answer);
    }
    let output = Command::new(program)
        .arg(switch)
        .env_clear()
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{name} can't be run: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{name} {switch}` failed: {}", said.lines().next().unwrap_or("it said nothing")));
    }
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    ANSWERS.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (mark, answer.clone()));
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn versions_of_every_spelling_are_read() {
        let read = |answer: &str| parse_version(answer).map(|version| (major_of(&version), version));
        assert_eq!(read("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some((Some(15), "15.18".into())));
        assert_eq!(read("pg_basebackup (PostgreSQL) 18beta1\n"), Some((Some(18), "18beta1".into())));
        assert_eq!(read("postgres (PostgreSQL) devel\n"), None);
        assert_eq!(read("bash 5.2"), None);
    }

    #[test]
    fn the_first_socket_folder_of_the_build_is_found() {
        let line = "port\tpostmaster\tC\tINTEGER\t0\t1\t65535\nunix_socket_directories\tpostmaster\tConnections\tSTRING\t/run/a, /b\t\t\tSets";
        assert_eq!(parse_socket_dir(line).as_deref(), Some("/run/a"));
        assert_eq!(parse_socket_dir("unix_socket_directories\tpostmaster\tC\tSTRING\t\t\t\tSets"), None);
    }

    fn wanted(bin_dir: &Path) -> Wanted {
        let major = Major::new(15).expect("known");
        Wanted { major, bin_dir: Some(bin_dir.display().to_string()), running: None, socket_dir: false }
    }

    fn put_program(path: &Path, text: &str) {
        fs::write(path, text).expect("a program");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    #[test]
    fn a_missing_program_is_named_with_its_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        put_program(&folder.path().join("postgres"), "#!/bin/sh\necho 'postgres (PostgreSQL) 15.2'\n");
        let seen = binaries(&wanted(folder.path()));
        assert_eq!(seen.unknown(), Some(&*format!("{} has no program `initdb`", folder.path().display())));
        let nowhere = binaries(&wanted(&folder.path().join("x")));
        assert!(nowhere.unknown().is_some_and(|why| why.ends_with("/x is no folder that can be read")), "{nowhere:?}");
    }

    #[test]
    fn a_version_is_asked_again_only_when_the_program_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("postgres");
        put_program(&program, "#!/bin/sh\necho x >>\"$0.runs\"\necho 'postgres (PostgreSQL) 15.2'\n");
        let runs = || fs::read_to_string(folder.path().join("postgres.runs")).unwrap_or_default().lines().count();
        for _ in 0..3 {
            assert!(answer_of(&program, "--version").expect("an answer").contains("15.2"));
        }
        assert_eq!(runs(), 1);
        put_program(&program, "#!/bin/sh\necho x >>\"$0.runs\"\necho 'postgres (PostgreSQL) 15.18'\n");
        assert!(answer_of(&program, "--version").expect("an answer").contains("15.18"));
        assert_eq!(runs(), 2);
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_readers_panic(text: String) {
            let _ = parse_version(&text);
            let _ = parse_version(&format!("(PostgreSQL) {text}"));
            let _ = major_of(&text);
            let _ = parse_socket_dir(&format!("unix_socket_directories\t{text}"));
        }
    }
}
