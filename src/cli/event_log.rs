//! The event log: what an apply did and when, as JSON lines in a file that only its owner reads.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use serde::Serialize;

use crate::event::Event;

/// An event with its time: a line of the log and of `--log-format json`.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    event: &'a Event,
}

/// Returns the event as one line of JSON, with its line break.
pub(super) fn line(event: &Event) -> String {
    let line = Line { time: jiff::Timestamp::now().to_string(), event };
    serde_json::to_string(&line).expect("an event has a JSON form") + "\n"
}

/// An open log.
pub(super) struct EventLog {
    file: File,
    path: PathBuf,
}

impl EventLog {
    /// Opens the log at `path`, or at its usual place for a cluster.
    pub(super) fn open(path: Option<&Path>, cluster: &str) -> Result<Self, String> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => usual_place(cluster).ok_or("neither XDG_STATE_HOME nor HOME is set")?,
        };
        let open = || -> io::Result<File> {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            File::options().create(true).append(true).mode(0o600).open(&path)
        };
        open().map(|file| Self { file, path: path.clone() }).map_err(|error| format!("{}: {error}", path.display()))
    }

    pub(super) fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// Appends an event. Unbuffered, so that a killed pgpair has written all it did.
    pub(super) fn append(&mut self, event: &Event) -> Result<(), String> {
        self.file.write_all(line(event).as_bytes()).map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

fn usual_place(cluster: &str) -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // The XDG specification wants relative values ignored.
    let state = set("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let state = state.or_else(|| set("HOME").map(|home| home.join(".local/state")))?;
    let name = jiff::Timestamp::now().strftime("%Y-%m-%dT%H-%M-%SZ.jsonl").to_string();
    Some(state.join("pgpair").join(cluster).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_a_line_with_its_time_in_a_file_of_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("deep/log.jsonl");
        let mut log = EventLog::open(Some(&path), "orders").expect("a folder that can be written");
        log.append(&Event::ApplyStarted { cluster: "orders".into(), steps: 1 }).expect("written");
        log.append(&Event::ApplyFinished { outcome: "complete".into(), elapsed: std::time::Duration::ZERO })
            .expect("written");
        let text = fs::read_to_string(&path).expect("it is there");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines[0]["event"], "apply_started");
        assert_eq!(lines[1]["outcome"], "complete");
        assert!(lines.iter().all(|line| line["time"].as_str().is_some_and(|time| time.ends_with('Z'))));
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_log_that_can_not_be_opened_says_which_and_why() {
        let error = EventLog::open(Some(Path::new("/proc/none/log")), "orders").err();
        assert!(error.is_some_and(|error| error.starts_with("/proc/none/log: ")));
    }
}
