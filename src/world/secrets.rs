//! Secrets: where a topology says a password is, the password itself; looked up when it is needed, once.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::pg::secret::Secret;
use crate::topology::SecretRef;
use crate::world::process::Command;
use crate::world::user::Seat;

/// The secrets of a topology, read with the rights of whoever runs pgpair.
#[derive(Debug)]
pub struct Secrets {
    base_dir: String,
    timeout: Duration,
    known: Mutex<BTreeMap<SecretRef, Secret>>,
}

/// Why a secret can't be had; never any of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret of {place} can't be used: {why}")]
pub struct SecretError {
    /// Where it is to be found, as the topology says.
    pub place: String,
    pub why: String,
    /// What a command said on standard error.
    pub output: Vec<String>,
    pub remedy: Option<String>,
}

impl Secrets {
    /// `base_dir` is the folder of the topology file: relative paths start there, and commands run there.
    #[must_use]
    pub fn new(base_dir: String, timeout: Duration) -> Self {
        Self { base_dir, timeout, known: Mutex::new(BTreeMap::new()) }
    }

    /// Returns the secret.
    ///
    /// # Errors
    ///
    /// [`SecretError`] where it can't be had, is not fit for a password, or lies where others can read it.
    pub async fn get(&self, reference: &SecretRef) -> Result<Secret, SecretError> {
        let mut known = self.known.lock().await;
        if let Some(secret) = known.get(reference) {
            return Ok(secret.clone());
        }
        let found = match reference {
            SecretRef::Env(name) => self.of_env(name),
            SecretRef::File(path) => self.of_file(path).await,
            SecretRef::Command(argv) => self.of_command(argv).await,
        };
        let secret = found.and_then(fit).map_err(|bad| SecretError { place: place(reference), ..bad })?;
        known.insert(reference.clone(), secret.clone());
        Ok(secret)
    }

    /// Takes a secret as known that is not yet where the topology says.
    pub async fn learn(&self, reference: SecretRef, secret: Secret) {
        self.known.lock().await.insert(reference, secret);
    }

    /// Returns the secret, if the topology has one.
    ///
    /// # Errors
    ///
    /// As [`Secrets::get`].
    pub async fn get_optional(&self, reference: Option<&SecretRef>) -> Result<Option<Secret>, SecretError> {
        match reference {
            None => Ok(None),
            Some(reference) => self.get(reference).await.map(Some),
        }
    }

    #[expect(clippy::unused_self, reason = "the three ways read alike")]
    fn of_env(&self, name: &str) -> Result<Vec<u8>, SecretError> {
        let value = std::env::var_os(name)
            .ok_or_else(|| refused("it is not set").with_remedy(format!("set it in pgpair's environment: {name}=…")))?;
        Ok(value.into_encoded_bytes())
    }

    async fn of_file(&self, path: &str) -> Result<Vec<u8>, SecretError> {
        let path = Path::new(&self.base_dir).join(path);
        let seat = own_seat()?;
        seat.blocking(move || {
            let unreadable = |error: std::io::Error| {
                let remedy = "write the password to that file, readable for whoever runs pgpair, or correct its path";
                refused(format!("it can't be read: {error}")).with_remedy(remedy.to_owned())
            };
            let found = std::fs::metadata(&path).map_err(unreadable)?;
            // As libpq: a passfile that others can read is not read at all.
            if found.is_file() && found.mode() & 0o077 != 0 {
                let why = format!("others can read `{}`: its mode is {:04o}", path.display(), found.mode() & 0o7777);
                return Err(refused(why).with_remedy(format!("chmod 600 {}", path.display())));
            }
            std::fs::read(&path).map_err(unreadable)
        })
        .await
    }

    async fn of_command(&self, argv: &[String]) -> Result<Vec<u8>, SecretError> {
        let [program, args @ ..] = argv else { return Err(refused("the command is empty")) };
        let seat = own_seat()?;
        let command = Command::new(program).args(args).dir(&self.base_dir).timeout(self.timeout);
        let output = command.output(&seat).await.map_err(|error| refused(error.to_string()))?;
        if !output.status.success() {
            let why = format!("the command ended with {}", output.ending());
            return Err(SecretError { output: output.stderr_lines(), ..refused(why) });
        }
        Ok(output.stdout)
    }
}

fn own_seat() -> Result<std::sync::Arc<Seat>, SecretError> {
    Seat::of(None).map_err(|error| refused(error.to_string()))
}

fn refused(why: impl Into<String>) -> SecretError {
    SecretError { place: String::new(), why: why.into(), output: Vec::new(), remedy: None }
}

impl SecretError {
    fn with_remedy(mut self, remedy: String) -> Self {
        self.remedy = Some(remedy);
        self
    }
}

/// Returns the text that PostgreSQL, a passfile and a pwfile all take as one password.
fn fit(mut bytes: Vec<u8>) -> Result<Secret, SecretError> {
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| refused("it is not UTF-8 text"))?;
    if text.is_empty() {
        return Err(refused("it is empty").with_remedy("put the password there".to_owned()));
    }
    if text.contains(['\0', '\n', '\r']) {
        return Err(refused("it has a line break or a NUL in it, which a passfile can't hold"));
    }
    Ok(Secret::new(text))
}

fn place(reference: &SecretRef) -> String {
    fn name(kind: &str, what: &dyn fmt::Display) -> String {
        format!("{kind} `{what}`")
    }
    match reference {
        SecretRef::Env(variable) => name("the environment variable", variable),
        SecretRef::File(path) => name("the file", path),
        // The arguments may say more than they should.
        SecretRef::Command(argv) => name("the command", &argv.first().map_or("", String::as_str)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    fn secrets(folder: &Path) -> Secrets {
        Secrets::new(folder.to_str().expect("text").to_owned(), Duration::from_secs(10))
    }

    #[tokio::test]
    async fn a_file_is_read_relative_to_the_topology_and_must_be_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rep.secret");
        std::fs::write(&path, "p:a ss\\ \r\n").expect("written");
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("changed");
        let reference = SecretRef::File("rep.secret".into());
        let error = secrets(folder.path()).get(&reference).await.expect_err("the group can read it");
        assert_eq!(error.remedy, Some(format!("chmod 600 {}", path.display())));
        assert!(!format!("{error}{error:?}").contains("p:a ss"));
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("changed");
        assert_eq!(secrets(folder.path()).get(&reference).await.expect("private").reveal(), "p:a ss\\ ");
    }

    #[tokio::test]
    async fn a_command_runs_once_and_shows_only_its_standard_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let sh = |script: &str| SecretRef::Command(["sh", "-c", script].map(str::to_owned).to_vec());
        let secrets = secrets(folder.path());
        let counting = sh("echo x >> ran; echo hunter2");
        for _ in 0..2 {
            assert_eq!(secrets.get(&counting).await.expect("it works").reveal(), "hunter2");
        }
        assert_eq!(std::fs::read_to_string(folder.path().join("ran")).expect("there"), "x\n");
        let error = secrets.get(&sh("echo hunter2; echo vault is sealed >&2; exit 2")).await.expect_err("it fails");
        assert_eq!(error.output, ["vault is sealed"]);
        assert_eq!(
            error.to_string(),
            "the secret of the command `sh` can't be used: the command ended with exit status 2"
        );
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn a_missing_variable_is_named() {
        let error = secrets(Path::new("/")).get(&SecretRef::Env("PGPAIR_NO_SUCH".into())).await.expect_err("not set");
        assert_eq!(
            error.to_string(),
            "the secret of the environment variable `PGPAIR_NO_SUCH` can't be used: it is not set"
        );
    }

    #[test]
    fn what_no_passfile_can_hold_is_no_password() {
        for bad in ["", "\n", "a\nb", "a\0b", "a\n\n"] {
            assert!(fit(bad.into()).is_err(), "{bad:?}");
        }
        assert_eq!(fit("geheim\n".into()).expect("good").reveal(), "geheim");
    }
}
