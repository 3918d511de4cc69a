//! Processes: whether a pid is the server of a data directory, and what still runs on one.
//!
//! A pid file alone proves nothing: its number may belong to a stranger by now, and a zombie is no server.

use std::fs;
use std::path::Path;

use crate::world::probe::same_file;

/// A process, by the name of its program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub name: String,
}

/// Whether a process lives, a zombie not counted. Who may not see it is told nothing else.
fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        // The name is in parentheses and may have parentheses and blanks itself.
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
        state.is_some_and(|state| !["Z", "X", "x"].contains(&state))
    })
}

/// Returns the path of the program that a process runs, where that can be seen.
#[must_use]
pub fn program_of(pid: u32) -> Option<String> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?.into_os_string().into_string().ok()?;
    Some(path)
}

/// Whether a process is a `postgres`, by its program or, where that can't be seen, by its name.
fn is_postgres(pid: u32) -> bool {
    let name = match program_of(pid) {
        // The program of a server that runs on after an upgrade.
        Some(path) => {
            path.strip_suffix(" (deleted)").unwrap_or(&path).rsplit('/').next().unwrap_or_default().to_owned()
        }
        None => fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned(),
    };
    ["postgres", "postmaster"].contains(&name.as_str())
}

/// Returns the folder that a `postgres` process works in, which is its data directory.
#[must_use]
pub fn data_dir_of(pid: u32) -> Option<String> {
    let folder = is_postgres(pid).then(|| fs::read_link(format!("/proc/{pid}/cwd")).ok()).flatten()?;
    folder.into_os_string().into_string().ok()
}

/// Whether this pid is a live `postgres` of this data directory; one whose folder can't be seen counts as one.
#[must_use]
pub fn is_server_of(pid: u32, data_dir: &str) -> bool {
    is_alive(pid) && is_postgres(pid) && works_in(pid, data_dir).unwrap_or(true)
}

/// Whether a process works in a folder; none where that can't be seen.
fn works_in(pid: u32, folder: &str) -> Option<bool> {
    let link = format!("/proc/{pid}/cwd");
    fs::read_link(&link).ok()?;
    Some(same_file(&link, folder))
}

/// Returns the live `postgres` processes that work in a data directory, also those of a dead postmaster.
#[must_use]
pub fn servers_on(data_dir: &str) -> Vec<u32> {
    if !Path::new(data_dir).is_dir() {
        return Vec::new();
    }
    let of_it = |pid: &u32| works_in(*pid, data_dir) == Some(true) && is_alive(*pid) && is_postgres(*pid);
    pids().filter(of_it).collect()
}

/// Whether any server lives in a data directory, or is about to: pg_ctl works there before the server itself does.
#[must_use]
pub fn is_lived_in(data_dir: &str) -> bool {
    let of_it = |pid: &u32| works_in(*pid, data_dir) == Some(true) && is_alive(*pid);
    Path::new(data_dir).is_dir() && pids().filter(of_it).any(is_or_becomes_postgres)
}

/// Whether a process is pg_ctl, the shell that it starts to become the server, or the server.
///
/// One becomes the next while it is looked at, so that they are asked for in this order: what is the server by the time that
/// the shell is asked for is found to be that.
fn is_or_becomes_postgres(pid: u32) -> bool {
    program_of(pid).is_some_and(|path| path.ends_with("/pg_ctl")) || is_shell_of_pg_ctl(pid) || is_postgres(pid)
}

fn is_shell_of_pg_ctl(pid: u32) -> bool {
    let arguments = arguments_of(pid);
    let mut arguments = arguments.split(|&byte| byte == 0);
    (arguments.next(), arguments.next()) == (Some(b"/bin/sh"), Some(b"-c"))
        && arguments.next().is_some_and(|command| command.starts_with(b"exec \""))
}

/// Returns the arguments of a process. One that is becoming another program has none for a moment.
fn arguments_of(pid: u32) -> Vec<u8> {
    const LOOKS: usize = 1000;
    for _ in 0..LOOKS {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if !arguments.is_empty() || !is_alive(pid) {
            return arguments;
        }
        std::thread::yield_now();
    }
    Vec::new()
}

/// Returns the process that holds what this link of its open files leads to, where that can be seen.
#[must_use]
pub fn holder_of(target: &str) -> Option<Process> {
    let holds = |pid: &u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_link(file.path()).ok()).any(|link| link.as_os_str() == target)
    };
    pids().find(holds).map(Process::of)
}

/// Returns every process.
pub fn all() -> impl Iterator<Item = Process> {
    pids().map(Process::of)
}

impl Process {
    fn of(pid: u32) -> Self {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Self { pid, name: name.trim_end().to_owned() }
    }
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::process::Stdio;

    #[test]
    fn a_program_that_only_reads_a_servers_files_does_not_live_there_and_pg_ctls_shell_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let data_dir = folder.path().to_str().expect("UTF-8");
        let lives = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).current_dir(data_dir);
            let mut child = command.spawn().expect("it runs");
            let lives = is_lived_in(data_dir);
            child.kill().and_then(|()| child.wait()).expect("it ends");
            lives
        };
        fs::write(folder.path().join("postgresql.conf"), "").expect("a file");
        assert!(!lives("tail", &["-f", "postgresql.conf"]));
        // The shell waits for a writer before it becomes the other program.
        assert!(Command::new("mkfifo").arg(folder.path().join("pipe")).status().expect("mkfifo runs").success());
        assert!(lives("/bin/sh", &["-c", "exec \"/bin/true\" < pipe"]));
        assert!(!is_lived_in(data_dir));
    }

    #[test]
    fn a_zombie_and_a_stranger_are_no_servers() {
        let mut child =
            Command::new("sleep").arg("60").stdin(Stdio::null()).current_dir("/tmp").spawn().expect("sleep");
        let pid = child.id();
        assert!(is_alive(pid));
        assert!(!is_server_of(pid, "/tmp"), "it lives there, and is no postgres");
        child.kill().expect("killed");
        // Dead, and not waited for yet.
        while is_alive(pid) {
            std::thread::yield_now();
        }
        child.wait().expect("waited for");
        assert!(!is_alive(pid));
    }
}
