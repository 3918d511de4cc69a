//! The real world: hosts, files and servers.
//!
//! What a step does is in `live/`, a file for each subject. All work on a node is done as its OS user, under its
//! lock, on the very server and files that the step is about: each proves that first, and refuses otherwise.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::sync::watch;

use crate::observed::Binaries;
use crate::observed::Controller;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::observed::Reading;
use crate::pg::secret::Secret;
use crate::plan::Action;
use crate::plan::Step;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::SecretRef;
use crate::topology::Topology;
use crate::world::Failure;
use crate::world::Progress;
use crate::world::World;
use crate::world::failpoint;
use crate::world::files;
use crate::world::files::FileError;
use crate::world::lock::Locks;
use crate::world::observe;
use crate::world::observe::place::conf_path;
use crate::world::outside;
use crate::world::process::RunError;
use crate::world::secrets::SecretError;
use crate::world::secrets::Secrets;
use crate::world::user::Seat;
use crate::world::user::SeatError;

mod aside;
mod auto;
mod backup;
mod clone;
mod config;
mod control;
mod create;
mod fallback;
mod fence;
mod hooks;
mod objects;
mod postmaster;
mod promote;
mod replace;
mod restart;
mod rewind;
mod server;
mod stop;
mod take_down;
mod trial;

/// What [`Live::new`] needs beside the topology.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// The folder of the topology file: relative paths of secrets start there.
    pub base_dir: String,
    /// How long each wait for a condition may take. A clone's own copying is not bounded.
    pub timeout: Duration,
    /// Turns true when pgpair is to stop.
    pub interrupt: watch::Receiver<bool>,
}

/// The nodes of a topology, as they are.
#[derive(Debug)]
pub struct Live {
    topology: Arc<Topology>,
    secrets: Arc<Secrets>,
    /// The folder of the topology file, in which its commands run.
    base_dir: String,
    timeout: Duration,
    interrupt: watch::Receiver<bool>,
    locks: Option<Locks>,
    /// Of the last look; a step runs no other programs than those that it was judged with.
    programs: Mutex<BTreeMap<NodeName, Programs>>,
    /// Nodes that somebody stands up for that they are dead, where they can't be reached.
    dead: Mutex<BTreeSet<NodeName>>,
}

/// What a node's server is run with, as the last look found it.
#[derive(Clone, Debug)]
struct Programs {
    binaries: Reading<Binaries>,
    controller: Reading<Controller>,
}

impl Live {
    /// Reaches nothing yet.
    ///
    /// # Errors
    ///
    /// [`Failure`] where not even our own identity can be had.
    pub async fn new(topology: Arc<Topology>, options: LiveOptions) -> Result<Self, Failure> {
        Seat::of(None).map_err(|error| Failure::new(error.to_string()))?;
        Ok(Self {
            topology,
            secrets: Arc::new(Secrets::new(options.base_dir.clone(), options.timeout)),
            base_dir: options.base_dir,
            timeout: options.timeout,
            interrupt: options.interrupt,
            locks: None,
            programs: Mutex::new(BTreeMap::new()),
            dead: Mutex::new(BTreeSet::new()),
        })
    }

    /// Takes the locks, without which no step is carried out, and keeps them for its own lifetime.
    #[must_use]
    pub fn with_locks(mut self, locks: Locks) -> Self {
        self.locks = Some(locks);
        self
    }

    /// Takes a node for dead from now on, as long as it can't be reached.
    pub fn confirm_dead(&self, node: NodeName) {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner).insert(node);
    }

    /// Those that were confirmed dead, by whomever.
    fn dead_nodes(&self) -> Vec<NodeName> {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Takes a secret as known that is not yet where the topology says.
    pub async fn learn(&self, reference: SecretRef, secret: Secret) {
        self.secrets.learn(reference, secret).await;
    }

    /// Sees that every password of the topology can be had, before anything is judged or begun that rests on one.
    ///
    /// # Errors
    ///
    /// [`Failure`] that names the first one which can't.
    pub async fn check_secrets(&self) -> Result<(), Failure> {
        let passwords =
            [("admin", &self.topology.admin.password), ("replication", &self.topology.replication.password)];
        // Who may act on no node at all only looks, and needs the password of the looking alone.
        let acts = self.topology.nodes.values().any(|node| Seat::of_node(&self.topology, node).is_ok());
        for (key, reference) in passwords.into_iter().filter(|(key, _)| acts || *key == "admin") {
            let found = self.secrets.get_optional(reference.as_ref()).await;
            found.map_err(|error| no_secret(format!("`{key}.password`: {error}"), error))?;
        }
        Ok(())
    }

    async fn site(&self, name: &NodeName) -> Result<Site<'_>, Failure> {
        let node = self.topology.nodes.get(name);
        let node = node.ok_or_else(|| Failure::new(format!("the topology has no node `{name}`")))?;
        let seat = match Seat::of_node(&self.topology, node) {
            Ok(seat) => seat,
            Err(error @ SeatError::NotPermitted { .. }) => {
                return Err(Failure::new(format!("node `{name}`: {error}")));
            }
            Err(error) => {
                let failure = Failure::new(format!("node `{name}`: {error}"));
                return Err(failure.with_remedy("correct `os_user` in the topology, or make that user"));
            }
        };
        if self.remembered(name).is_none() {
            self.observe().await;
        }
        let programs = self.remembered(name);
        // Where nothing was seen, nothing is started or stopped in another way than by the server's own program.
        let controller = programs.as_ref().and_then(|programs| programs.controller.known()).cloned();
        let binaries = match programs.map(|programs| programs.binaries) {
            Some(Reading::Known(binaries)) => binaries,
            Some(Reading::Unknown(why)) => {
                return Err(Failure::new(format!("node `{name}`: no usable PostgreSQL binaries: {why}")));
            }
            Some(Reading::Absent) | None => {
                let failure = Failure::new(format!("node `{name}`: no PostgreSQL binaries were found"));
                return Err(failure.with_remedy("install them, or set `postgresql.bin_dir` to where they are"));
            }
        };
        Ok(Site { live: self, node, seat, binaries, controller: controller.unwrap_or(Controller::PgCtl) })
    }

    fn remembered(&self, name: &NodeName) -> Option<Programs> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}

impl World for Live {
    async fn observe(&self) -> Observed {
        let mut observed = observe::look(&self.topology, &self.secrets).await;
        for name in self.dead_nodes() {
            if let Some(seen) = observed.nodes.get_mut(&name) {
                seen.confirmed_dead = !seen.answers();
            }
        }
        let programs_of =
            |node: &NodeObserved| Programs { binaries: node.binaries.clone(), controller: node.controller.clone() };
        let programs = observed.nodes.iter().map(|(name, node)| (name.clone(), programs_of(node))).collect();
        *self.programs.lock().unwrap_or_else(PoisonError::into_inner) = programs;
        observed
    }

    async fn measure(&self, steps: &[Step], observed: &mut Observed) {
        for step in steps {
            let Action::Clone(clone) = &step.action else { continue };
            let measured = async { self.site(&step.node).await?.measure(clone).await };
            match measured.await {
                Ok(rooms) => observed.node_mut(&step.node).rooms = rooms,
                // The source does not run yet, for instance. The step itself measures again.
                Err(failure) => tracing::debug!(node = %step.node, %failure, "the room for a copy is not measured"),
            }
        }
    }

    async fn perform(&self, step: &Step, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), Failure> {
        failpoint::before(&step.id);
        if step.action == Action::FenceOff {
            // It has no lock that could be taken, nor files.
            return self.fence_off(&self.topology.nodes[&step.node], progress).await;
        }
        if !self.locks.as_ref().is_some_and(|locks| locks.holds(&step.node)) {
            let failure = Failure::new(format!("node `{}` is not locked, so nothing is done to it", step.node));
            return Err(failure.with_remedy("make the folder of its data directory writable for its OS user"));
        }
        let site = self.site(&step.node).await?;
        site.remove_leftovers().await?;
        match &step.action {
            Action::CreatePrimary(create) => site.create_primary(create).await,
            Action::Clone(clone) => site.clone_from(clone, progress).await,
            Action::Rewind(rewind) => site.rewind(rewind, progress).await,
            Action::StandbyFiles(files) => site.standby_files(files).await,
            Action::Configure(configure) => site.configure(configure, progress).await,
            Action::Hba { block, before } => site.hba(block, before).await,
            Action::Passfile { entries } => site.passfile(entries).await,
            Action::Mode => site.mode().await,
            Action::Fence(fence) => site.fence(fence, progress).await,
            Action::FenceOff => Ok(()),
            Action::TakeDown => site.take_down(progress).await,
            Action::Unfence => site.unfence().await,
            Action::Promote(promote) => site.promote(promote, progress).await,
            Action::Hook(hook) => site.hook(hook, progress).await,
            Action::Stop(_) => site.stop_standby(progress).await,
            Action::Start { role } => site.start(*role, progress).await,
            Action::ReplicationRole(role) => site.replication_role(role).await,
            Action::Slot { name, reserve } => site.slot(name, *reserve).await,
            Action::DropSlot { name } => site.drop_slot(name).await,
            // Done by waiting, which the executor does.
            Action::Streaming { .. } => Ok(()),
            Action::RemoveOld => site.remove_old().await,
        }
    }
}

/// One node, with all that a step on it needs.
struct Site<'a> {
    live: &'a Live,
    node: &'a Node,
    seat: Arc<Seat>,
    binaries: Binaries,
    controller: Controller,
}

impl Site<'_> {
    fn topology(&self) -> &Topology {
        &self.live.topology
    }

    /// The path of a file in the data directory.
    fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.node.data_dir)
    }

    /// The path of a configuration file, which Debian keeps in a folder of their own.
    fn conf_file(&self, name: &str) -> String {
        // postgresql.auto.conf is the server's own, and always in the data directory.
        let config_dir = self.node.config_dir.as_deref().filter(|_| name != auto::AUTO);
        conf_path(&self.node.data_dir, config_dir, name)
    }

    /// Where a new data directory is made.
    fn new_dir(&self) -> String {
        format!("{}.pgpair-new", self.node.data_dir)
    }

    /// Where a replaced data directory is kept.
    fn old_dir(&self) -> String {
        format!("{}.pgpair-old", self.node.data_dir)
    }

    fn program(&self, name: &str) -> String {
        format!("{}/{name}", self.binaries.bin_dir)
    }

    /// The name of pgpair's own role on the servers.
    fn admin_user(&self) -> &str {
        self.topology().admin.user.as_deref().unwrap_or(self.seat.user())
    }

    async fn admin_password(&self) -> Result<Option<Secret>, Failure> {
        let reference = self.topology().admin.password.as_ref();
        self.live.secrets.get_optional(reference).await.map_err(|error| self.bad_secret(error))
    }

    async fn replication_password(&self) -> Result<Secret, Failure> {
        let Some(reference) = &self.topology().replication.password else {
            let failure = self.failure("the topology has no password for replication");
            return Err(failure.with_remedy("set `replication.password`"));
        };
        self.live.secrets.get(reference).await.map_err(|error| self.bad_secret(error))
    }

    /// Runs blocking work on files as the node's user.
    async fn on_files<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, Failure> {
        self.seat.blocking(work).await.map_err(|error| self.bad_file(&error))
    }

    /// Removes what a killed run was making in and beside the node's folders: files that may be secret, and half a copy,
    /// which takes room. The lock says that no run is still at it.
    async fn remove_leftovers(&self) -> Result<(), Failure> {
        let folders = [Some(self.node.data_dir.clone()), self.node.config_dir.clone()];
        let (data_dir, outside) = self.folders();
        self.on_files(move || {
            folders.into_iter().flatten().try_for_each(|folder| files::remove_matching(folder, files::is_temp))?;
            outside::clear_new(&data_dir, &outside)
        })
        .await
    }

    fn failure(&self, what: impl Display) -> Failure {
        Failure::new(format!("node `{}`: {what}", self.node.name))
    }

    fn bad_file(&self, error: &FileError) -> Failure {
        let failure = self.failure(error);
        match error.remedy() {
            Some(remedy) => failure.with_remedy(remedy),
            None => failure,
        }
    }

    fn bad_secret(&self, error: SecretError) -> Failure {
        no_secret(format!("node `{}`: {error}", self.node.name), error)
    }

    fn not_run(&self, error: &RunError) -> Failure {
        match error {
            RunError::Interrupted { .. } => Failure::interrupted(),
            RunError::Start { .. } | RunError::Timeout { .. } | RunError::Wait { .. } => self.failure(error),
        }
    }
}

fn no_secret(message: String, error: SecretError) -> Failure {
    let failure = Failure::new(message).with_output(error.output);
    match error.remedy {
        Some(remedy) => failure.with_remedy(remedy),
        None => failure,
    }
}
