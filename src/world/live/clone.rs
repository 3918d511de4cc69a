//! Clones: pg_basebackup, and what makes its copy a standby of its own.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use crate::observed::Reading;
use crate::pg::block::Block;
use crate::pg::control::Control;
use crate::pg::version::Major;
use crate::plan::CloneFrom;
use crate::plan::Configuration;
use crate::plan::PassfileEntry;
use crate::plan::Replaced;
use crate::plan::desired;
use crate::plan::desired::PASSFILE;
use crate::world::Failure;
use crate::world::Progress;
use crate::world::files;
use crate::world::live::Site;
use crate::world::live::create::read_control;
use crate::world::live::server::START_LOG;
use crate::world::observe::place::BACKUP_SUFFIX;
use crate::world::process::Command;
use crate::world::process::Output;

/// How often the growing copy is measured.
const MEASURE: Duration = Duration::from_millis(200);

/// What belongs to the source alone, and would mislead a server that starts on the copy.
const NOT_OURS: [&str; 9] = [
    "promote",
    "postmaster.pid",
    "postmaster.opts",
    "standby.signal",
    "recovery.signal",
    "recovery.conf",
    "recovery.done",
    PASSFILE,
    START_LOG,
];

impl Site<'_> {
    pub(super) async fn clone_from(
        &self,
        clone: &CloneFrom,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<(), Failure> {
        self.prepare_place(clone.replaces.as_ref()).await?;
        if matches!(clone.replaces, Some(Replaced::Member(_))) {
            self.keep_diverged(&self.topology().primary().name, progress).await?;
        }
        // What a rewind left that was cut short: what was worth keeping of it is kept.
        let work = self.work_dir();
        self.on_files(move || files::remove_tree(work)).await?;
        let source = self.live.site(&clone.source).await?;
        self.until_source_is_recent(&source).await?;
        let sizes = source.sizes().await?;
        let replaces = self.make_room(clone, &sizes, progress).await?;
        let made = async {
            self.copy(clone, sizes.values().sum(), progress).await?;
            self.check_copy(&source).await?;
            self.make_standby(clone).await
        };
        if let Err(failure) = made.await {
            self.give_up_new().await;
            return Err(failure);
        }
        self.move_into_place(replaces).await
    }

    /// Waits until a standby that is cloned has replayed all from which on another node, the upstream, keeps WAL.
    ///
    /// The clone will ask the upstream for what comes after the copy; before that the slot holds nothing back.
    async fn until_source_is_recent(&self, source: &Site<'_>) -> Result<(), Failure> {
        let upstream = self.topology().upstream(self.node);
        if upstream.name == source.node.name || !self.topology().replication.slots {
            return Ok(());
        }
        let keeper = self.live.site(&upstream.name).await?;
        let session = keeper.session().await?;
        let ask = "SELECT restart_lsn::text FROM pg_catalog.pg_replication_slots WHERE slot_name = $1";
        let row = session.query_opt(ask, &[&self.node.slot_name()]).await;
        let row = row.map_err(|error| keeper.bad_sql("its slots can't be read", error))?;
        let Some(kept) = row.and_then(|row| row.get::<_, Option<String>>(0)) else {
            let failure = keeper.failure(format!("the slot `{}` keeps no WAL", self.node.slot_name()));
            return Err(failure.with_remedy("apply again"));
        };
        let session = source.session().await?;
        let ask = "SELECT NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
        let begun = Instant::now();
        loop {
            let row = session.query_one(ask, &[&kept]).await;
            let row = row.map_err(|error| source.bad_sql("its position can't be read", error))?;
            if row.get::<_, Option<bool>>(0).unwrap_or_default() {
                return Ok(());
            }
            if begun.elapsed() >= self.live.timeout {
                let what = format!("it has not replayed {kept} yet, from where on {} keeps WAL", upstream.name);
                return Err(source.failure(what).with_remedy("see why its replay lags, and apply again"));
            }
            tokio::time::sleep(MEASURE).await;
        }
    }

    /// Returns the bytes in each tablespace of the running source, by its folder; in the data directory by none.
    pub(super) async fn sizes(&self) -> Result<BTreeMap<String, u64>, Failure> {
        let session = self.session().await?;
        let ask = "SELECT pg_tablespace_location(oid), pg_tablespace_size(oid) FROM pg_catalog.pg_tablespace";
        let rows = session.query(ask, &[]).await;
        let mut sizes = BTreeMap::new();
        for row in rows.map_err(|error| self.bad_sql("its size can't be read", error))? {
            let size: i64 = row.get(1);
            *sizes.entry(row.get(0)).or_default() += u64::try_from(size).unwrap_or_default();
        }
        Ok(sizes)
    }

    async fn copy(&self, clone: &CloneFrom, total: u64, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), Failure> {
        let program = match &self.binaries.basebackup {
            Reading::Known(program) => program.path.clone(),
            Reading::Unknown(why) => return Err(self.failure(format!("no usable pg_basebackup: {why}"))),
            Reading::Absent => {
                let failure = self.failure("no pg_basebackup was found");
                return Err(failure.with_remedy("install PostgreSQL's client programs of that version or a newer one"));
            }
        };
        let mut conninfo = desired::connection_to(self.topology(), &self.topology().nodes[&clone.source]);
        conninfo.set("host", &clone.host);
        conninfo.set("port", &clone.port.to_string());
        conninfo.set("user", &clone.user);
        conninfo.set("connect_timeout", "10");
        // Not the standby's own name: it must not count as that one where commits wait for it.
        conninfo.set("application_name", &format!("pgpair_clone_{}", self.node.name));
        let new = self.new_dir();
        let mut command = Command::new(program).args(["-D", &new, "-d", &conninfo.text()]);
        command = command.args(["-X", "stream", "-c", "fast", "--no-password", "-l", "pgpair"]);
        if let Some(slot) = &clone.slot {
            command = command.args(["-S", slot]);
        }
        if let Some(waldir) = &clone.waldir {
            command = command.arg(format!("--waldir={waldir}.pgpair-new"));
        }
        for (there, here) in &clone.tablespaces {
            let [there, here] = [there, here].map(|folder| folder.replace('=', "\\="));
            command = command.arg(format!("--tablespace-mapping={there}={here}.pgpair-new"));
        }
        let mut passfile = None;
        if self.topology().replication.password.is_some() {
            let entry = PassfileEntry { database: "replication".to_owned(), user: clone.user.clone() };
            let text = self.passfile_text(&[entry]).await?;
            let file = self.private_temp(text).await?;
            let path = file.path().to_string_lossy().into_owned();
            command = command.env("PGPASSFILE", &path).removes(path);
            passfile = Some(file);
        }
        let running = command.guarded(&self.seat, self.lock()?, self.live.interrupt.clone());
        let folders = clone.outside().map(|folder| format!("{folder}.pgpair-new")).chain([new]).collect();
        let ended = self.measured(running, folders, total, progress).await;
        drop(passfile);
        let output: Output = ended.map_err(|error| self.not_run(&error))?;
        if output.status.success() {
            return Ok(());
        }
        Err(self.not_made(&format!("pg_basebackup from {}", clone.source), &output))
    }

    /// Waits for the copy's end, and tells meanwhile how far it is.
    async fn measured<T>(
        &self,
        running: impl Future<Output = T>,
        folders: Vec<String>,
        total: u64,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> T {
        tokio::pin!(running);
        let mut pause = MEASURE;
        loop {
            tokio::select! {
                ended = &mut running => return ended,
                () = tokio::time::sleep(pause) => {}
            }
            let (folders, begun) = (folders.clone(), Instant::now());
            let measuring = self.seat.blocking(move || folders.iter().map(files::size_of_tree).sum());
            tokio::select! {
                ended = &mut running => return ended,
                done = measuring => progress(Progress::Bytes { done, total: Some(total) }),
            }
            // A data directory with very many files is not looked through all the time.
            pause = MEASURE.max(begun.elapsed() * 10);
        }
    }

    /// Sees that the address led to the source that was meant.
    async fn check_copy(&self, source: &Site<'_>) -> Result<(), Failure> {
        let (new, original) = (self.new_dir(), source.node.data_dir.clone());
        let copied = self.on_files(move || read_control(&new)).await?;
        let original = source.on_files(move || read_control(&original)).await?;
        let identifier = |found: Option<(Control, Major)>| found.map(|(control, _)| control.system_identifier);
        match (identifier(copied), identifier(original)) {
            (Some(copied), Some(original)) if copied == original => Ok(()),
            (Some(_) | None, Some(_) | None) => {
                let failure = self.failure(format!("what was copied is not the cluster of {}", source.node.name));
                Err(failure.with_remedy(format!(
                    "check `host` and `port` of {}: another server answers there",
                    source.node.name
                )))
            }
        }
    }

    async fn make_standby(&self, clone: &CloneFrom) -> Result<(), Failure> {
        let new = self.new_dir();
        self.on_files(move || {
            for name in NOT_OURS {
                files::remove(Path::new(&new).join(name))?;
            }
            files::remove_matching(&new, |name| {
                name.ends_with(BACKUP_SUFFIX) || name.ends_with(".pgpair-trial") || files::is_temp(name)
            })?;
            files::set_mode(&new, 0o700)
        })
        .await?;
        match &clone.configuration {
            Configuration::OfSource { conf, hba, passfile } => {
                self.clear_auto_conf(conf).await?;
                self.write_configuration(&self.new_dir(), conf, hba, passfile).await?;
            }
            Configuration::Kept(paths) => self.keep_own(paths).await?,
        }
        self.write_standby_files(&self.new_dir(), clone.recovery_conf.as_deref()).await
    }

    /// Takes out of the copy what ALTER SYSTEM said of the source, where it would win over the node's own block.
    async fn clear_auto_conf(&self, block: &Block) -> Result<(), Failure> {
        let (auto, block) = (Path::new(&self.new_dir()).join("postgresql.auto.conf"), block.clone());
        self.on_files(move || match files::read_text(&auto)? {
            Some(text) => files::replace(&auto, desired::auto_conf_of_clone(&text, &block).as_bytes(), None),
            None => Ok(()),
        })
        .await
    }
}
