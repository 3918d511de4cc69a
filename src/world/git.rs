//! The one thing that is asked of git: a file as it is in a commit.
//!
//! Plumbing alone, which runs no hook, filter, pager or text conversion of the repository's, and fetches nothing.

use std::process::Command;
use std::process::Output;
use std::process::Stdio;

/// Returns a file of `folder` as it is in the commit that `reference` names; `None`: the commit has no such file.
///
/// # Errors
///
/// What git says, where there is no such commit, no repository or no git.
pub fn file_of(reference: &str, folder: &str, name: &str) -> Result<Option<Vec<u8>>, String> {
    if reference.starts_with('-') || reference.contains(':') {
        return Err("that is no name of a commit".to_owned());
    }
    git(folder, &["rev-parse", "--verify", &format!("{reference}^{{commit}}")])?;
    let object = format!("{reference}:./{name}");
    // Asked by itself: a file that can't be read is not one that is not there.
    if git(folder, &["ls-tree", "--name-only", "-z", reference, "--", name])?.is_empty() {
        return Ok(None);
    }
    git(folder, &["cat-file", "blob", &object]).map(Some)
}

fn git(folder: &str, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(arguments).stdin(Stdio::null());
    command.env("LC_ALL", "C").env("GIT_NO_LAZY_FETCH", "1").env("GIT_LITERAL_PATHSPECS", "1");
    let Output { status, stdout, stderr } = command.output().map_err(|error| format!("git can't be run: {error}"))?;
    if status.success() {
        return Ok(stdout);
    }
    let said = String::from_utf8_lossy(&stderr);
    let said = said.lines().next().unwrap_or("git does not say why");
    Err(said.trim_start_matches("fatal: ").to_owned())
}
