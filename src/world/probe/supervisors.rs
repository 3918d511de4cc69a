//! Programs that start and stop PostgreSQL servers by themselves: they would undo a role change, or do one of their own.
//!
//! A machine may have several clusters, of which only some are theirs. What such a program was told of data directories
//! stands in its arguments, its environment or the files that its arguments name; one of which nothing is known counts.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use crate::world::probe::process;
use crate::world::probe::process::Process;

/// By the names of their processes, with what people call them.
const PROGRAMS: [(&str, &str); 5] = [
    ("repmgrd", "repmgrd"),
    ("patroni", "Patroni"),
    ("patroni.py", "Patroni"),
    ("pg_autoctl", "pg_auto_failover"),
    ("stolon-keeper", "stolon"),
];

/// What interpreters of such scripts are called.
const INTERPRETER: &str = "python";

/// How they name a data directory in arguments and configuration.
const KEYS: [&str; 5] = ["data_directory", "data_dir", "data-dir", "pgdata", "PGDATA"];

/// How much of a configuration file is read.
const MOST_CONFIGURATION: u64 = 256 * 1024;

/// A program that was found, and what it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supervisor {
    name: &'static str,
    told: String,
}

/// Returns those that run on this machine.
#[must_use]
pub fn running() -> Vec<Supervisor> {
    let supervisor = |process: Process| {
        let pid = process.pid;
        let name = name_of(&process.name, || arguments_of(pid))?;
        let arguments = arguments_of(pid);
        // It has none while it begins or ends.
        arguments.first()?;
        Some(Supervisor { name, told: told(pid, &arguments) })
    };
    process::all().filter_map(supervisor).collect()
}

/// Returns the names of those that may be concerned with a data directory, each once.
#[must_use]
pub fn concerned_with(supervisors: &[Supervisor], data_dir: &str) -> Vec<String> {
    let concerned = supervisors.iter().filter(|supervisor| supervisor.may_concern(data_dir));
    let mut names: Vec<String> = concerned.map(|supervisor| supervisor.name.to_owned()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

impl Supervisor {
    fn may_concern(&self, data_dir: &str) -> bool {
        let goes_on = |c: char| c.is_alphanumeric() || ['_', '-', '.'].contains(&c);
        let names_it = self.told.match_indices(data_dir).any(|(at, _)| {
            let rest = &self.told[at + data_dir.len()..];
            // A folder inside it is not it.
            let rest = rest.strip_prefix('/').unwrap_or(rest);
            !rest.starts_with(goes_on)
        });
        names_it || !KEYS.iter().any(|key| self.told.contains(key))
    }
}

fn known(process: &str) -> Option<&'static str> {
    PROGRAMS.iter().find(|(program, _)| *program == process).map(|(_, name)| *name)
}

/// A script has its own name where the kernel started it, and its interpreter's where that was given its path.
fn name_of(process: &str, arguments: impl FnOnce() -> Vec<String>) -> Option<&'static str> {
    known(process).or_else(|| {
        let arguments = process.starts_with(INTERPRETER).then(arguments)?;
        let script = arguments.iter().skip(1).find(|argument| !argument.starts_with('-'))?;
        known(script.rsplit('/').next()?)
    })
}

fn arguments_of(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments = bytes.split(|&byte| byte == 0).filter(|argument| !argument.is_empty());
    arguments.map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
}

/// Collects what a process was told, as far as it may be seen.
fn told(pid: u32, arguments: &[String]) -> String {
    let folder = format!("/proc/{pid}/cwd");
    // The program itself says how it calls things, not what it was told.
    let files = arguments.iter().skip(1).filter_map(|argument| {
        let path = argument.split_once('=').filter(|(name, _)| name.starts_with('-')).map_or(&**argument, |(_, it)| it);
        text_of(&Path::new(&folder).join(path))
    });
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let variables = environment.split(|&byte| byte == 0).map(String::from_utf8_lossy);
    let data_dir = variables.filter(|variable| variable.starts_with("PGDATA=")).map(|variable| variable.into_owned());
    let texts = arguments.iter().skip(1).cloned().chain(files).chain(data_dir);
    texts.collect::<Vec<_>>().join("\n")
}

fn text_of(path: &Path) -> Option<String> {
    let file = fs::metadata(path).ok().filter(fs::Metadata::is_file).and_then(|_| fs::File::open(path).ok())?;
    let mut bytes = Vec::new();
    file.take(MOST_CONFIGURATION).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supervisor(told: &str) -> Supervisor {
        Supervisor { name: "Patroni", told: told.to_owned() }
    }

    #[test]
    fn a_program_counts_where_it_names_the_data_directory_or_none_at_all() {
        let concerned = |told: &str| !concerned_with(&[supervisor(told)], "/srv/a").is_empty();
        assert!(concerned("postgresql:\n  data_dir: /srv/a\n"));
        assert!(concerned("--pgdata\n/srv/a/\n"));
        assert!(concerned(""), "nothing is known of it");
        assert!(!concerned("postgresql:\n  data_dir: /srv/ab\n"));
        assert!(!concerned("data_directory='/srv/a/15'\n"));
    }

    #[test]
    fn a_script_is_known_by_its_own_name_or_by_its_path_among_the_arguments() {
        let by = |process: &str, arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
            name_of(process, || arguments)
        };
        assert_eq!(by("patroni", &["/usr/bin/python3", "/usr/bin/patroni", "/etc/a.yml"]), Some("Patroni"));
        assert_eq!(by("python3", &["python3", "-u", "/opt/patroni.py", "/etc/a.yml"]), Some("Patroni"));
        assert_eq!(by("python3", &["python3", "/opt/other.py", "patroni"]), None);
        assert_eq!(by("vi", &["vi", "patroni"]), None);
    }

    #[test]
    fn what_a_running_program_was_told_is_in_its_arguments_and_their_files() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("repmgr.conf"), "data_directory='/srv/of-this-test'\n").expect("a file");
        fs::write(path("repmgrd"), "#!/bin/sh\nread -r _\n").expect("a program");
        fs::set_permissions(path("repmgrd"), fs::Permissions::from_mode(0o755)).expect("a mode");
        let mut child = std::process::Command::new(path("repmgrd"))
            .args(["-f", "repmgr.conf"])
            .current_dir(folder.path())
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("it runs");
        let found = |data_dir: &str| concerned_with(&running(), data_dir).contains(&"repmgrd".to_owned());
        // The kernel lets it run before its arguments can be seen.
        while !found("/srv/of-this-test") {
            assert!(child.try_wait().expect("a child").is_none(), "it has ended");
            std::thread::yield_now();
        }
        let others = found("/srv/of-another-test");
        child.kill().and_then(|()| child.wait()).expect("it ends");
        assert!(!others);
    }
}
