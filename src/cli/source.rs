//! The topology file, read from disk or standard input.

use std::io;
use std::io::Read as _;
use std::path::Path;

use crate::error::Error;
use crate::error::Findings;
use crate::topology;
use crate::topology::Topology;

/// A topology and where it came from.
pub(super) struct Source {
    /// As the user wrote it.
    pub(super) name: String,
    /// The absolute folder that relative paths start from.
    pub(super) base_dir: String,
    pub(super) topology: Topology,
    /// What is legal and unwise in it.
    pub(super) advice: Findings,
}

/// Reads and validates a topology; `-` is standard input, whose relative paths start in the current folder.
pub(super) fn load(name: &str) -> Result<Source, Error> {
    let unreadable = |source| Error::Read { file: name.to_owned(), source };
    let (bytes, folder) = if name == "-" {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map_err(unreadable)?;
        (bytes, Path::new(".").to_owned())
    } else {
        let path = Path::new(name);
        (std::fs::read(path).map_err(unreadable)?, path.parent().unwrap_or(Path::new("")).to_owned())
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".").to_owned() } else { folder };
    let base_dir = std::fs::canonicalize(folder).map_err(unreadable)?.to_string_lossy().into_owned();
    let shown = if name == "-" { "standard input" } else { name };
    let findings = |diagnostics| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Findings { name: shown.to_owned(), text, diagnostics }
    };
    match topology::parse_with_advice(&bytes, shown, &base_dir) {
        Ok((topology, advice)) => Ok(Source { name: shown.to_owned(), base_dir, topology, advice: findings(advice) }),
        Err(diagnostics) => Err(Error::Topology(vec![findings(diagnostics)])),
    }
}
