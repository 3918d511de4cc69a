//! What goes on beside a test: a pgpair at work, and a psql that stays connected.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;

use super::Ran;
use super::Workspace;
use super::as_owner;
use super::is_root;

/// A pgpair that runs in the background, killed when dropped.
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) fn start(pair: &Workspace, arguments: &[&str]) -> Self {
        let mut command = pair.command(arguments);
        Self(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("pgpair runs")))
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("not waited for yet")
    }

    pub(crate) fn pid(&mut self) -> u32 {
        self.child().id()
    }

    pub(crate) fn signal(&mut self, name: &str) {
        let pid = self.pid();
        signal(name, pid);
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.child().try_wait().expect("our child").is_none()
    }

    pub(crate) fn end(mut self) -> Ran {
        Ran::of(&self.0.take().expect("not waited for yet").wait_with_output().expect("our child"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends a signal (`-STOP`, `-KILL`, ...) to a process that the test has started.
#[track_caller]
pub(crate) fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status().expect("kill runs");
    assert!(sent.success(), "kill {name} {pid}");
}

/// A psql that stays connected to a node: it holds locks, and answers within a millisecond. Killed when dropped.
pub(crate) struct Psql {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Psql {
    pub(crate) fn on(pair: &Workspace, node: &str) -> Self {
        let (port, socket) = (pair.sql(node, "show port"), pair.sql(node, "show unix_socket_directories"));
        let socket = socket.split(',').next().expect("a folder").trim();
        let user = if is_root() { "postgres".to_owned() } else { std::env::var("USER").unwrap_or_default() };
        let own = pair.bin_dir.join("psql");
        let program = if own.exists() { own } else { "/usr/lib/postgresql/15/bin/psql".into() };
        let mut command = as_owner(program);
        command.args(["-XAtq", "-h", socket, "-p", &port, "-U", &user, "-d", "postgres"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("psql runs");
        let (input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Self { child, input, output: BufReader::new(output) }
    }

    /// Asks one or more statements; one line a row.
    pub(crate) fn ask(&mut self, statements: &str) -> String {
        const END: &str = "end of the answer";
        writeln!(self.input, "{statements};\n\\echo {END}").expect("psql lives");
        let mut lines = Vec::new();
        for line in self.output.by_ref().lines() {
            let line = line.expect("psql lives");
            if line == END {
                break;
            }
            lines.push(line);
        }
        lines.join("\n")
    }
}

impl Drop for Psql {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
