//! Configuration: pgpair's blocks, the passfile, and the files that make a standby.
//!
//! A file is only ever changed from the text that the plan was made for, and a change is tried before a server has
//! to live with it.

use std::time::Instant;

use crate::pg::block;
use crate::pg::block::Block;
use crate::pg::passfile;
use crate::plan::Configure;
use crate::plan::Digest;
use crate::plan::Effect;
use crate::plan::PassfileEntry;
use crate::plan::StandbyFiles;
use crate::plan::desired::PASSFILE;
use crate::world::Failure;
use crate::world::Progress;
use crate::world::files;
use crate::world::files::PRIVATE;
use crate::world::live::Site;
use crate::world::live::backup::Kept;
use crate::world::live::server::Life;
use crate::world::live::server::POLL;
use crate::world::sql::Session;

pub(super) const CONF: &str = "postgresql.conf";
const HBA: &str = "pg_hba.conf";

impl Site<'_> {
    pub(super) async fn configure(
        &self,
        configure: &Configure,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<(), Failure> {
        let is_as_planned = |text: &str| {
            let is_before = configure.before.as_ref().is_none_or(|before| Digest::of(text) == *before);
            // It may only have to be put in force: the steps that would have changed it between were left out.
            is_before || configure.applied_to(text).is_ok_and(|new| new == text)
        };
        let text = self.text_before(CONF, is_as_planned).await?;
        self.forget_what_has_proved_itself().await?;
        let new = configure.applied_to(&text).map_err(|error| self.failure(format!("`{CONF}`, {error}")))?;
        if new != text {
            self.try_out(&new, configure).await?;
            self.keep_configuration(&new, configure.reset.as_ref()).await?;
            self.write(CONF, new).await?;
        } else if let Some(reset) = &configure.reset {
            self.keep_auto_conf(reset).await?;
        }
        if let Some(reset) = &configure.reset {
            self.reset_auto(reset).await?;
        }
        match configure.effect {
            // The start sees whether they are good.
            Effect::AtStart => Ok(()),
            Effect::Reload => match self.take_by_reload(configure).await {
                Ok(()) => self.forget_old_configuration().await,
                Err(failure) => Err(self.take_back(failure).await),
            },
            Effect::Restart => self.restart(progress).await,
        }
    }

    /// Lets the server read the new file, and sees that it took what is new in it: of a value that it does not like it
    /// keeps the old one, and no start would come up on it.
    async fn take_by_reload(&self, configure: &Configure) -> Result<(), Failure> {
        let session = self.reload(&self.session().await?).await?;
        // The others say the same where they only wait for a restart.
        let ask = "SELECT format('%s, line %s: %s: %s', f.sourcefile, f.sourceline, f.name, f.error) \
                   FROM pg_file_settings f JOIN pg_settings s ON lower(s.name) = lower(f.name) \
                   WHERE f.error IS NOT NULL AND s.context <> 'postmaster' AND lower(f.name) = ANY($1)";
        let names: Vec<String> = configure.settings.keys().map(|name| name.to_lowercase()).collect();
        let rows = session.query(ask, &[&names]).await;
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => return Err(self.bad_sql("what it read can't be asked", error)),
        };
        if rows.is_empty() {
            return Ok(());
        }
        let failure = self.failure(format!("its server does not take a value of the new `{CONF}`"));
        let output = rows.iter().map(|row| row.get(0)).collect();
        Err(failure.with_output(output).with_remedy("correct the parameter in the topology"))
    }

    pub(super) async fn write(&self, name: &str, text: String) -> Result<(), Failure> {
        let path = self.conf_file(name);
        self.on_files(move || files::replace(path, text.as_bytes(), None)).await
    }

    /// Returns the text of a file, if it is the one which the plan was made for.
    pub(super) async fn text_before(
        &self,
        name: &str,
        is_as_planned: impl Fn(&str) -> bool,
    ) -> Result<String, Failure> {
        let path = self.conf_file(name);
        let text = self.on_files(move || files::read_text(path)).await?.unwrap_or_default();
        if is_as_planned(&text) {
            return Ok(text);
        }
        let failure = self.failure(format!("`{name}` was edited since the plan was made"));
        Err(failure.with_remedy("plan again, to see what it says now"))
    }

    pub(super) async fn hba(&self, block: &Block, before: &Digest) -> Result<(), Failure> {
        let with_block = |text: &str| block::put_before_rules(text, block);
        let is_done = |text: &str| with_block(text).is_ok_and(|new| new == text);
        let text = self.text_before(HBA, |text| Digest::of(text) == *before || is_done(text)).await?;
        let text = self.put_back_unchecked_rules().await?.unwrap_or(text);
        let new = with_block(&text).map_err(|error| self.failure(format!("`{HBA}`, {error}")))?;
        let session = match self.life().await? {
            Life::Running(_) => Some(self.session().await?),
            Life::Stale | Life::None => None,
        };
        let Some(session) = session else { return self.write(HBA, new).await };
        let is_new = new != text;
        if is_new {
            let (rules, content) = (self.old_rules(), new.clone());
            self.on_files(move || rules.keep(&content)).await?;
            self.write(HBA, new).await?;
        }
        // Error rows but for these: with SSL off such a rule matches nothing, and does no harm.
        let ask = "SELECT format('line %s: %s', line_number, error) FROM pg_hba_file_rules \
                   WHERE error IS NOT NULL AND error NOT LIKE '%record cannot match because%'";
        let errors = session.query(ask, &[]).await;
        let errors = match errors {
            Ok(rows) if rows.is_empty() => {
                // A new connection is the proof: where it is not let in, the session that is open still is.
                if let Err(failure) = self.reload(&session).await {
                    return Err(self.back_to_old_rules(&session, failure).await);
                }
                let rules = self.old_rules();
                return self.on_files(move || rules.forget()).await;
            }
            Ok(rows) => Ok(rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>()),
            Err(error) => Err(error),
        };
        self.put_back_unchecked_rules().await?;
        let errors =
            errors.map_err(|error| self.bad_sql("its new rules can't be checked; the old ones stay", error))?;
        if !is_new {
            let failure = self.failure(format!("PostgreSQL does not take the rules that `{HBA}` has already"));
            return Err(failure.with_output(errors).with_remedy("correct them in the file, or in the topology"));
        }
        let failure = self.failure(format!("PostgreSQL does not take the new `{HBA}`; the old one is back"));
        Err(failure.with_output(errors).with_remedy("correct the rule in the topology"))
    }

    /// Puts the old rules in force again where the server did not let pgpair in by the new ones, or the connection was
    /// cut before that was seen.
    async fn back_to_old_rules(&self, session: &Session, failure: Failure) -> Failure {
        if !matches!(self.put_back_unchecked_rules().await, Ok(Some(_))) {
            return failure;
        }
        let until = Instant::now() + self.live.timeout;
        let mut is_back = self.call_reload(session).await;
        while is_back && self.session().await.is_err() {
            is_back = Instant::now() < until;
            tokio::time::sleep(POLL).await;
        }
        let how_it_went =
            if is_back { "the old ones are in force again" } else { "the old ones are in the file, and not in force" };
        if failure.disconnected {
            let message = format!("{}; that was while new rules of `{HBA}` were tried: {how_it_went}", failure.message);
            return Failure { message, ..failure };
        }
        let message = format!("{}; that was by the new rules of `{HBA}`: {how_it_went}", failure.message);
        Failure { message, ..failure }.with_remedy("give pgpair a rule of its own at the beginning of `hba`")
    }

    /// Lets the server read its configuration, through the session if it lives, else through one of its own.
    async fn call_reload(&self, session: &Session) -> bool {
        let read_again = "SELECT pg_reload_conf()";
        if session.query_one(read_again, &[]).await.is_ok() {
            return true;
        }
        match self.session().await {
            Ok(other) => other.query_one(read_again, &[]).await.is_ok(),
            Err(_) => false,
        }
    }

    /// Puts the old rules back where pgpair wrote new ones and was killed before the server had checked them, unless
    /// somebody edited the file since. Returns the text that was put back.
    pub(super) async fn put_back_unchecked_rules(&self) -> Result<Option<String>, Failure> {
        let rules = self.old_rules();
        self.on_files(move || rules.put_back(|old| old)).await
    }

    fn old_rules(&self) -> Kept {
        Kept::file(self.conf_file(HBA))
    }

    pub(super) async fn passfile(&self, entries: &[PassfileEntry]) -> Result<(), Failure> {
        let (path, text) = (self.file(PASSFILE), self.passfile_text(entries).await?);
        self.on_files(move || files::replace(path, text.as_bytes(), Some(PRIVATE))).await
    }

    pub(super) async fn passfile_text(&self, entries: &[PassfileEntry]) -> Result<String, Failure> {
        let password = self.replication_password().await?;
        let line = |entry: &PassfileEntry| passfile::line(&entry.database, &entry.user, &password);
        Ok(entries.iter().map(line).collect())
    }

    pub(super) async fn standby_files(&self, wanted: &StandbyFiles) -> Result<(), Failure> {
        if let Life::Running(_) = self.life().await? {
            let failure = self.failure("its server runs: standby files are only for a stopped one");
            return Err(failure.with_remedy("plan again"));
        }
        self.write_standby_files(&self.node.data_dir, wanted.recovery_conf.as_deref()).await
    }

    /// Makes a data directory come up as a standby.
    pub(super) async fn write_standby_files(&self, dir: &str, recovery_conf: Option<&str>) -> Result<(), Failure> {
        let (name, text) = match recovery_conf {
            Some(text) => ("recovery.conf", text),
            None => ("standby.signal", ""),
        };
        let (path, text) = (format!("{dir}/{name}"), text.to_owned());
        // Each of them would end the recovery: at once, or where a restore was once told to.
        let ends = ["promote", "recovery.signal"].map(|name| format!("{dir}/{name}"));
        self.on_files(move || {
            for path in ends {
                files::remove(path)?;
            }
            files::replace(path, text.as_bytes(), Some(PRIVATE))
        })
        .await
    }
}
