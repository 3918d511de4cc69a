//! Whether a server runs on a data directory: postmaster.pid, judged by the processes there are.
//!
//! Blocking, and done with the rights of the node's user.

use std::fs;
use std::io;

use crate::observed::Reading;
use crate::world::probe::process;

/// What postmaster.pid says. The server writes its lines one after the other while it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PidFile {
    pub pid: u32,
    /// Whether it is a server in single-user mode, which listens nowhere.
    pub single_user: bool,
    /// Seconds since the epoch.
    pub started: Option<i64>,
    pub port: Option<u16>,
    /// The first folder of a Unix socket, made absolute; none where the server has no such socket, or not yet.
    pub socket_dir: Option<String>,
    /// It says that it takes connections. Before, its port may still be another program's.
    pub is_ready: bool,
}

impl PidFile {
    /// Reads the file of a data directory, if it can be.
    #[must_use]
    pub fn of(data_dir: &str) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("{data_dir}/postmaster.pid")).ok()?, data_dir)
    }

    /// Reads postmaster.pid; none without a process number.
    #[must_use]
    pub fn parse(text: &str, data_dir: &str) -> Option<Self> {
        let mut lines = text.lines().map(str::trim_end);
        let number: i64 = lines.next()?.trim().parse().ok()?;
        let pid = u32::try_from(number.unsigned_abs()).ok().filter(|&pid| pid != 0)?;
        let started = lines.nth(1).and_then(|line| line.trim().parse().ok());
        let port = lines.next().and_then(|line| line.trim().parse().ok()).filter(|&port| port != 0);
        let socket_dir = lines.next().filter(|dir| !dir.is_empty());
        let is_ready = lines.nth(2).is_some_and(|status| ["ready", "standby"].contains(&status));
        // The server works in its data directory, and a relative folder is relative to that.
        let absolute = |dir: &str| if dir.starts_with('/') { dir.to_owned() } else { format!("{data_dir}/{dir}") };
        Some(Self { pid, single_user: number < 0, started, port, socket_dir: socket_dir.map(absolute), is_ready })
    }
}

/// A server that was found running; without a port it is only starting or stopping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    pub pid: u32,
    pub started: i64,
    pub port: Option<u16>,
    pub socket_dir: Option<String>,
    /// The path of its program, where that can be seen.
    pub program: Option<String>,
}

/// Looks for the server of a data directory.
#[must_use]
pub fn look(data_dir: &str) -> Reading<Running> {
    let path = format!("{data_dir}/postmaster.pid");
    let file = match fs::read(&path) {
        Ok(bytes) => PidFile::parse(&String::from_utf8_lossy(&bytes), data_dir),
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => None,
        Err(error) => return Reading::Unknown(format!("{path} can't be read: {error}")),
    };
    let alive = file.filter(|file| process::is_server_of(file.pid, data_dir));
    match alive {
        Some(PidFile { pid, single_user: true, .. }) => {
            Reading::Unknown(format!("a server in single-user mode (pid {pid}) works in {data_dir}"))
        }
        Some(PidFile { started: Some(started), port, socket_dir, pid, .. }) => {
            Reading::Known(Running { pid, started, port, socket_dir, program: process::program_of(pid) })
        }
        Some(PidFile { pid, .. }) => Reading::Known(Running::passing(pid)),
        // Before it has written the file, and where its children outlive it.
        None => match process::servers_on(data_dir).as_slice() {
            [] => Reading::Absent,
            [pid, ..] => Reading::Known(Running::passing(*pid)),
        },
    }
}

impl Running {
    /// One that is only starting or stopping: not to be asked anything.
    #[must_use]
    pub fn passing(pid: u32) -> Self {
        Self { pid, started: 0, port: None, socket_dir: None, program: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WHOLE: &str = "4711\n/data/a\n1732521600\n5433\n/run/postgresql\nlocalhost\n  5433001    65538\nready   \n";

    #[test]
    fn postmaster_pid_is_read_as_far_as_it_is_written() {
        let whole = PidFile::parse(WHOLE, "/data/a").expect("a pid");
        assert_eq!((whole.pid, whole.started, whole.port), (4711, Some(1_732_521_600), Some(5433)));
        assert_eq!(whole.socket_dir.as_deref(), Some("/run/postgresql"));
        assert!(whole.is_ready);
        assert!(!PidFile::parse(&WHOLE.replace("ready   ", "starting"), "/data/a").expect("a pid").is_ready);
        let begun = PidFile::parse("4711\n/data/a\n17", "/data/a").expect("a pid");
        assert_eq!((begun.port, begun.socket_dir), (None, None));
        assert_eq!(PidFile::parse("", "/data/a"), None);
        assert_eq!(PidFile::parse("0\n", "/data/a"), None);
    }

    #[test]
    fn a_server_without_socket_in_single_user_mode_or_with_a_relative_folder_is_told_apart() {
        let read = |text: &str| PidFile::parse(text, "/data/a").expect("a pid");
        assert_eq!(read("1\n/d\n2\n3\n\n*\n").socket_dir, None);
        assert_eq!(read("1\n/d\n2\n3\nsock\n*\n").socket_dir.as_deref(), Some("/data/a/sock"));
        assert!(read("-4711\n/data/a\n5\n").single_user);
    }

    #[test]
    fn a_pid_file_of_a_dead_or_strange_process_is_no_server() {
        let folder = tempfile::tempdir().expect("a folder");
        let data_dir = folder.path().to_str().expect("UTF-8");
        assert_eq!(look(data_dir), Reading::Absent);
        // This test's own process lives, and is no postgres.
        for pid in [std::process::id(), 4_000_000_000] {
            fs::write(folder.path().join("postmaster.pid"), format!("{pid}\n{data_dir}\n1\n5433\n")).expect("a file");
            assert_eq!(look(data_dir), Reading::Absent);
        }
        assert_eq!(look("/nowhere/at/all"), Reading::Absent);
    }

    #[test]
    fn a_server_that_has_not_written_its_postmaster_pid_yet_is_starting() {
        let [folder, bin] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let data_dir = folder.path().to_str().expect("UTF-8");
        let postgres = bin.path().join("postgres");
        fs::copy("/bin/sleep", &postgres).expect("a program");
        let mut server =
            std::process::Command::new(&postgres).arg("60").current_dir(data_dir).spawn().expect("it runs");
        let seen = look(data_dir);
        fs::write(folder.path().join("postmaster.pid"), format!("{}\n", server.id())).expect("a file");
        let begun = look(data_dir);
        server.kill().and_then(|()| server.wait()).expect("it ends");
        assert_eq!([seen, begun], [(); 2].map(|()| Reading::Known(Running::passing(server.id()))));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text: String) {
            let _ = PidFile::parse(&text, "/data/a");
            let _ = PidFile::parse(&format!("1\n{text}"), "/data/a");
        }
    }
}
