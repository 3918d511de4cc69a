//! The fall-back: a server that does not come up on a new configuration gets its old one back.
//!
//! Only where the configuration is the reason. With a port in use, a full disk or a file that may not be read the old
//! one would do no better, and the topology's stays. Signal files and recovery.conf are never part of it, and neither
//! are recovery settings: with those of before, a server could follow another one or promote itself.

use crate::pg::conf;
use crate::plan::Reset;
use crate::topology::Role;
use crate::world::Failure;
use crate::world::Progress;
use crate::world::live::Site;
use crate::world::live::auto::AUTO;
use crate::world::live::backup;
use crate::world::live::backup::Kept;
use crate::world::live::config::CONF;
use crate::world::live::server::Life;

impl Site<'_> {
    fn old_conf(&self) -> Kept {
        Kept::file(self.conf_file(CONF))
    }

    fn old_auto_conf(&self) -> Kept {
        Kept::auto_conf(self.file(AUTO))
    }

    /// Removes what a killed run kept, where the server was started since: it runs on the new files.
    pub(super) async fn forget_what_has_proved_itself(&self) -> Result<(), Failure> {
        let Life::Running(postmaster) = self.life().await? else { return Ok(()) };
        let kept = [self.old_conf(), self.old_auto_conf()];
        self.on_files(move || {
            let has_run =
                |kept: &&Kept| kept.since().zip(postmaster.started).is_some_and(|(since, begun)| begun > since);
            kept.iter().filter(has_run).try_for_each(Kept::forget)
        })
        .await
    }

    /// Keeps what is about to be replaced, until a server was seen running on the new files.
    pub(super) async fn keep_configuration(&self, new: &str, reset: Option<&Reset>) -> Result<(), Failure> {
        let (conf, new) = (self.old_conf(), new.to_owned());
        self.on_files(move || conf.keep(&new)).await?;
        match reset {
            Some(reset) => self.keep_auto_conf(reset).await,
            None => Ok(()),
        }
    }

    pub(super) async fn keep_auto_conf(&self, reset: &Reset) -> Result<(), Failure> {
        let (auto, reset) = (self.old_auto_conf(), reset.clone());
        self.on_files(move || {
            let new = reset.applied_to(&auto.now()?);
            auto.keep(&new)
        })
        .await
    }

    /// Removes what was kept: the server runs on the new files.
    pub(super) async fn forget_old_configuration(&self) -> Result<(), Failure> {
        let kept = [self.old_conf(), self.old_auto_conf()];
        self.on_files(move || kept.iter().try_for_each(Kept::forget)).await
    }

    /// Puts the old files back, where there are any that still hold. Returns whether there were.
    async fn put_back_configuration(&self) -> Result<bool, Failure> {
        let (conf, auto) = (self.old_conf(), self.old_auto_conf());
        self.on_files(move || {
            let new = conf.now()?;
            // A block that can't be read is none of pgpair's, and neither is the file then.
            let with_recovery = |old: String| backup::with_recovery_of(&new, &old).unwrap_or_else(|_| new.clone());
            let is_conf = conf.put_back(with_recovery)?.is_some();
            let is_auto = auto.put_back(|old| conf::without(&old, backup::is_of_recovery))?.is_some();
            Ok(is_conf || is_auto)
        })
        .await
    }

    /// After a reload that the server refused, whole or in part: the file is again what the server has in force, so
    /// that its next start reads no other.
    pub(super) async fn take_back(&self, failure: Failure) -> Failure {
        let back = async {
            let is_back = self.put_back_configuration().await?;
            if is_back {
                self.reload(&self.session().await?).await?;
            }
            Ok::<_, Failure>(is_back)
        };
        let how_it_went = match back.await {
            Ok(true) => "; the old file is back".to_owned(),
            Ok(false) => return failure,
            Err(second) => format!("; the old file can't be put in force again: {}", second.message),
        };
        Failure { message: failure.message + &how_it_went, ..failure }
    }

    /// Starts a server, on its old configuration where the new one keeps it from coming up.
    pub(super) async fn start(&self, role: Role, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), Failure> {
        if let Life::Running(_) = self.life().await? {
            return self.start_on_files(role, progress).await;
        }
        let Err(failure) = self.start_on_files(role, progress).await else {
            return self.forget_old_configuration().await;
        };
        let Ok(Life::None | Life::Stale) = self.life().await else { return Err(failure) };
        if !is_of_configuration(&failure.output) {
            return Err(failure);
        }
        let back = async {
            let is_back = self.put_back_configuration().await?;
            if is_back {
                self.start_on_files(role, progress).await?;
            }
            Ok::<_, Failure>(is_back)
        };
        let how_it_went = match back.await {
            Ok(true) => "; it runs on the old configuration again".to_owned(),
            Ok(false) => return Err(failure),
            Err(second) => format!("; on the old configuration it did not come up either: {}", second.message),
        };
        let remedy = "correct the parameter in the topology: with it the next apply would try the same again";
        Err(Failure { message: failure.message + &how_it_went, ..failure }.with_remedy(remedy))
    }
}

/// What a server says that does not start for a reason that lies in postgresql.conf. Most were provoked on 10, 15 and
/// 18, the others are in their sources; 18 puts the names of parameters in quotes, which are left out here.
const OF_CONFIGURATION: [&str; 20] = [
    "contains errors",
    "could not access file ",
    "could not load library ",
    "incompatible library ",
    "requires wal_level ",
    "WAL archival cannot be enabled when wal_level is minimal",
    "WAL cannot be summarized when wal_level is minimal",
    "could not load server certificate file ",
    "could not load private key file ",
    "could not load root certificate file ",
    "could not load SSL certificate revocation list file ",
    "private key file ",
    "could not set minimum SSL protocol version",
    "could not set SSL protocol version range",
    "could not map anonymous shared memory: ",
    "must be less than max_connections",
    "must be at least twice wal_segment_size",
    "because of insufficient parameter settings",
    "is a lower setting than on the ",
    "huge pages not supported on this platform",
];

/// What says that the cause lies elsewhere, whatever else was said.
const ELSEWHERE: [&str; 5] = [
    "No space left on device",
    "Permission denied",
    "Address already in use",
    "already exists",
    "pre-existing shared memory block ",
];

/// Whether the words of a server that did not start say that its configuration is the reason. In another language than
/// English they say nothing: then the topology's files stay.
fn is_of_configuration(output: &[String]) -> bool {
    let said: Vec<String> = output.iter().map(|line| line.replace('"', "")).collect();
    let any = |words: &[&str]| said.iter().any(|line| words.iter().any(|word| line.contains(word)));
    // The machine does not have the address: nobody else does either.
    let has_no_address = any(&["Cannot assign requested address", "could not translate host name "]);
    let is_bound = any(&["could not create any TCP/IP sockets"]);
    !any(&ELSEWHERE) && (any(&OF_CONFIGURATION) || (has_no_address && is_bound) || no_socket_folder(&said))
}

/// A folder for sockets that is not there.
fn no_socket_folder(said: &[String]) -> bool {
    said.iter().any(|line| line.contains("could not create lock file ") && line.contains("No such file or directory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wrong_with_the_configuration_falls_back() {
        // Most as 10, 15 and 18 said it, some from their sources.
        let of_configuration = [
            "FATAL:  configuration file \"/d/postgresql.conf\" contains errors",
            "FATAL:  could not access file \"no_such\": No such file or directory",
            "FATAL:  could not load library \"/x/broken.so\": /x/broken.so: file too short",
            "FATAL:  WAL streaming (max_wal_senders > 0) requires wal_level \"replica\" or \"logical\"",
            "FATAL:  WAL streaming (\"max_wal_senders\" > 0) requires \"wal_level\" to be \"replica\" or \"logical\"",
            "FATAL:  WAL archival cannot be enabled when wal_level is \"minimal\"",
            "FATAL:  WAL archival cannot be enabled when \"wal_level\" is \"minimal\"",
            "FATAL:  could not load server certificate file \"server.crt\": No such file or directory",
            "FATAL:  private key file \"k\" has group or world access",
            "FATAL:  could not load root certificate file \"nope\": No such file or directory",
            "FATAL:  could not load SSL certificate revocation list file \"nope\": No such file or directory",
            "FATAL:  could not map anonymous shared memory: Cannot allocate memory",
            "postgres: superuser_reserved_connections (5) must be less than max_connections (5)",
            "FATAL:  \"min_wal_size\" must be at least twice \"wal_segment_size\"",
            "FATAL:  recovery aborted because of insufficient parameter settings",
            "FATAL:  hot standby is not possible because max_connections = 10 is a lower setting than on the master server \
             (its value was 100)",
            "FATAL:  could not create lock file \"/none/.s.PGSQL.5109.lock\": No such file or directory",
            "LOG:  could not bind IPv4 address \"10.255.255.1\": Cannot assign requested address\n\
             FATAL:  could not create any TCP/IP sockets",
            "LOG:  could not translate host name \"no.such.host\", service \"5159\" to address: Name or service not known\n\
             FATAL:  could not create any TCP/IP sockets",
        ];
        let elsewhere = [
            "",
            "LOG:  could not bind IPv4 address \"127.0.0.1\": Address already in use\n\
             FATAL:  could not create any TCP/IP sockets",
            "FATAL:  could not open lock file \"/root/.s.PGSQL.5109.lock\": Permission denied",
            "FATAL:  could not open log file \"/root/x/postgresql.log\": Permission denied",
            "FATAL:  lock file \"postmaster.pid\" already exists",
            "FATAL:  pre-existing shared memory block (key 5, ID 6) is still in use",
            "FATAL:  could not load pg_hba.conf",
            "FATAL:  could not load /d/pg_hba.conf",
            "FATAL:  could not write lock file \"postmaster.pid\": No space left on device",
            "FATAL:  data directory \"/d\" has invalid permissions",
            "postgres: could not find the database system",
            "PANIC:  could not locate a valid checkpoint record",
            "LOG:  database system was interrupted; last known up at 2026-11-25 12:00:00 GMT",
            "FATAL:  Konfigurationsdatei »/d/postgresql.conf« enthält Fehler",
        ];
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        for (texts, expected) in [(&of_configuration[..], true), (&elsewhere[..], false)] {
            for text in texts {
                assert_eq!(is_of_configuration(&lines(text)), expected, "{text}");
            }
        }
    }
}
