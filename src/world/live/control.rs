//! Starting and stopping through whoever does that for this server: its unit, the topology's commands, pg_ctlcluster,
//! pg_ctl.
//!
//! Each of them only sets the thing going: whether a server is up or gone is seen by the caller, on the server itself.
//! The first two and pg_ctlcluster are run with our own rights, and what they start inherits nothing of ours but, for
//! the latter, its environment. What a unit's server says before its own logging begins is in the journal alone.

use std::path::Path;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use crate::observed::Controller;
use crate::observed::Permission;
use crate::topology::Service;
use crate::world::Failure;
use crate::world::live::Site;
use crate::world::live::config::CONF;
use crate::world::live::server::START_LOG;
use crate::world::process::Command;
use crate::world::process::Output;
use crate::world::user::Seat;

/// How much of the journal a failure shows.
const JOURNAL_LINES: &str = "20";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Start,
    Stop,
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
        }
    }
}

impl Site<'_> {
    /// Sets the start of the server going.
    pub(super) async fn call_start(&self) -> Result<(), Failure> {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (what, output) = match &self.controller {
            Controller::PgCtl => ("pg_ctl start".to_owned(), self.pg_ctl_start().await?),
            Controller::PgCtlCluster { .. } | Controller::Unit { .. } | Controller::Commands => {
                self.call(self.foreign(Verb::Start)?).await?
            }
        };
        if output.status.success() {
            return Ok(());
        }
        let failure = self.failure(format!("`{what}` ended with {}", output.ending()));
        let mut lines = output.lines();
        if let Controller::Unit { unit, .. } = &self.controller {
            lines.extend(self.journal(unit, started).await);
        }
        Err(failure.with_output(lines).with_remedy(self.where_it_logs()))
    }

    /// Sets the stop of a running server going, where somebody else has to do that. Returns whether it did: pg_ctl and
    /// pg_ctlcluster would only send the signal that we can send better ourselves.
    pub(super) async fn call_stop(&self) -> Result<bool, Failure> {
        if self.stops_by_signal() {
            return Ok(false);
        }
        let (what, output) = self.call(self.foreign(Verb::Stop)?).await?;
        if output.status.success() {
            return Ok(true);
        }
        let failure = self.failure(format!("`{what}` ended with {}", output.ending()));
        Err(failure.with_output(output.lines()).with_remedy(self.where_it_logs()))
    }

    /// Whether a signal to the postmaster is how it is stopped.
    pub(super) fn stops_by_signal(&self) -> bool {
        match &self.controller {
            Controller::PgCtl | Controller::PgCtlCluster { .. } => true,
            Controller::Unit { .. } | Controller::Commands => false,
        }
    }

    /// Restarts by the topology's own command for that, where there is one. Returns whether there was.
    pub(super) async fn call_restart(&self) -> Result<bool, Failure> {
        let Some(Service::Commands { restart: Some(restart), .. }) = &self.node.service else { return Ok(false) };
        let (what, output) = self.call(restart.clone()).await?;
        if output.status.success() {
            return Ok(true);
        }
        let failure = self.failure(format!("`{what}` ended with {}", output.ending()));
        Err(failure.with_output(output.lines()).with_remedy(self.where_it_logs()))
    }

    /// The argument vector of who is not pg_ctl.
    fn foreign(&self, verb: Verb) -> Result<Vec<String>, Failure> {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Ok(match &self.controller {
            Controller::PgCtl => words(&["pg_ctl", verb.as_str()]),
            Controller::PgCtlCluster { version, name } => words(&["pg_ctlcluster", version, name, verb.as_str()]),
            Controller::Unit { unit, permission } => match permission {
                Permission::Given => words(&["systemctl", "--no-ask-password", verb.as_str(), "--", unit]),
                // As `sudo -l` was asked: a rule of sudoers is for these very arguments.
                Permission::BySudo => words(&["sudo", "-n", "--", "systemctl", verb.as_str(), unit]),
                Permission::Refused(why) => {
                    return Err(self.failure(format!("`{unit}` can't be controlled: {why}")).with_remedy("plan again"));
                }
            },
            Controller::Commands => match (&self.node.service, verb) {
                (Some(Service::Commands { start, .. }), Verb::Start) => start.clone(),
                (Some(Service::Commands { stop, .. }), Verb::Stop) => stop.clone(),
                (Some(Service::Unit(_)) | None, _) => {
                    return Err(self.failure("the topology has no commands for its server").with_remedy("plan again"));
                }
            },
        })
    }

    /// Runs an argument vector with our own rights, and returns it as it is shown, with what came of it.
    async fn call(&self, vector: Vec<String>) -> Result<(String, Output), Failure> {
        let what = vector.join(" ");
        let mut words = vector.into_iter();
        let Some(program) = words.next() else { return Err(self.failure("a command of `service` is empty")) };
        let seat = Seat::of(None).map_err(|error| self.failure(error))?;
        let mut command = Command::new(program).args(words).timeout(self.live.timeout);
        // postgresql-common takes another root than /etc/postgresql from there: VERSION/NAME are below it.
        let root = self.node.config_dir.as_deref().and_then(|dir| Path::new(dir).ancestors().nth(2));
        if let Some(root) = root {
            command = command.env("PG_CLUSTER_CONF_ROOT", root.to_string_lossy());
        }
        let output = command.output(&seat).await.map_err(|error| self.not_run(&error))?;
        Ok((what, output))
    }

    async fn pg_ctl_start(&self) -> Result<Output, Failure> {
        let data_dir = &self.node.data_dir;
        let mut command = Command::new(self.program("pg_ctl"))
            .args(["start", "-W", "-s", "-D", data_dir, "-l", &self.file(START_LOG)])
            .with_server_environment()
            .dir(data_dir)
            .timeout(self.live.timeout);
        if self.node.config_dir.is_some() {
            command = command.args(["-o", &format!("-c 'config_file={}'", self.conf_file(CONF))]);
        }
        command.output(&self.seat).await.map_err(|error| self.not_run(&error))
    }

    /// What the journal has of a unit since it was to start; nothing where there is no journal, or none for us.
    async fn journal(&self, unit: &str, since: u64) -> Vec<String> {
        let since = format!("--since=@{since}");
        let vector = ["journalctl", "--no-pager", "-q", "-o", "cat", "-n", JOURNAL_LINES, &since, "-u", unit];
        match self.call(vector.map(str::to_owned).to_vec()).await {
            Ok((_, output)) if output.status.success() => output.lines(),
            Ok(_) | Err(_) => Vec::new(),
        }
    }

    pub(super) fn where_it_logs(&self) -> String {
        match &self.controller {
            Controller::PgCtl => format!("see `{}`", self.file(START_LOG)),
            Controller::PgCtlCluster { version, name } => {
                format!("see `/var/log/postgresql/postgresql-{version}-{name}.log`, or what `pg_lsclusters` says")
            }
            Controller::Unit { unit, .. } => format!("see `journalctl -u {unit}`, and its log"),
            Controller::Commands => "see its log".to_owned(),
        }
    }
}
