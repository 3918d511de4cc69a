//! The end of an old primary by force: a fast stop, then an immediate one, then SIGKILL; and the fencing command of the
//! topology, where its files are out of reach (protocol, section 5).
//!
//! A postmaster's children may outlive it, and commit what they are at: the server is gone when they are.

use std::time::Duration;
use std::time::Instant;

use rustix::process::Signal;

use crate::plan::Promote;
use crate::topology::Node;
use crate::topology::Role;
use crate::world::Failure;
use crate::world::Progress;
use crate::world::failpoint::Failpoint;
use crate::world::live::Live;
use crate::world::live::Site;
use crate::world::live::postmaster::Postmaster;
use crate::world::live::server::POLL;
use crate::world::observe::server::PidFile;
use crate::world::probe::process::servers_on;

/// How long a server is given for a stop that leaves nothing to write.
const AT_ONCE: Duration = Duration::from_secs(5);

/// The walreceivers of a standby that stream; one that only tries to connect hears of nobody.
const STREAMING: &str = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'";

impl Site<'_> {
    /// Sees to it that no process of a server lives on the data directory. It is fenced.
    pub(super) async fn take_down(&self, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), Failure> {
        if self.role_by_files().await? != Role::Standby {
            return Err(self.failure("is not fenced, and is not stopped without that").with_remedy("plan again"));
        }
        progress(Progress::Waiting(format!("the end of the server of {}", self.node.name)));
        let timeout = self.live.timeout;
        let mut way = "a fast stop";
        if !self.stops_by_signal()
            && let Err(failure) = self.call_stop().await
        {
            progress(Progress::Note(format!("{failure}: it is ended by signals")));
        }
        Failpoint::StopIssued.pass();
        if !self.all_end(Signal::INT, timeout).await? {
            way = "an immediate stop";
            if !self.all_end(Signal::QUIT, AT_ONCE).await? {
                way = "SIGKILL";
                if !self.all_end(Signal::KILL, AT_ONCE).await? {
                    let failure = self.failure("processes of its server do not end, not even by SIGKILL");
                    return Err(failure.with_remedy("a disk may hang: cut the machine off, and say `--confirm-dead`"));
                }
            }
        }
        Failpoint::TakenDown.pass();
        progress(Progress::Note(format!("its server has ended by {way}")));
        self.nobody_hears_of_it(progress).await
    }

    /// Signals the postmaster, or what a dead one has left, and waits. Returns whether all of them have ended.
    async fn all_end(&self, signal: Signal, within: Duration) -> Result<bool, Failure> {
        let data_dir = self.node.data_dir.clone();
        let until = Instant::now() + within;
        let ended = self.seat.blocking(move || end_all(&data_dir, signal, until)).await;
        ended.map_err(|error| self.failure(format!("its server can't be ended: {error}")))
    }

    /// What the server has sent is written down on every standby before their positions are compared.
    async fn nobody_hears_of_it(&self, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), Failure> {
        let until = Instant::now() + self.live.timeout;
        for standby in self.topology().nodes.values().filter(|node| node.name != self.node.name) {
            let Ok(site) = self.live.site(&standby.name).await else { continue };
            let Ok(session) = site.session().await else { continue };
            if site.runs_as(&session).await? == Role::Primary || !is_below(self.topology().upstream(standby), self.node)
            {
                continue;
            }
            progress(Progress::Waiting(format!("the last that {} receives", standby.name)));
            loop {
                let row = session.query_one(STREAMING, &[]).await;
                let count: i64 = row.map_err(|error| site.bad_sql("its walreceiver can't be seen", error))?.get(0);
                if count == 0 {
                    break;
                }
                if Instant::now() >= until {
                    let failure = site.failure(format!("still streams, though {} is down", self.node.name));
                    return Err(failure.with_remedy("see from whom (pg_stat_wal_receiver)"));
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// The old primary of a forced promotion stays down until the last moment.
    pub(super) async fn is_still_down(&self, promote: &Promote) -> Result<(), Failure> {
        let Some(from) = &promote.from else { return Ok(()) };
        let old = self.live.site(from).await?;
        if old.role_by_files().await? != Role::Standby {
            return Err(old.failure("is not fenced any more").with_remedy("plan again"));
        }
        let data_dir = old.node.data_dir.clone();
        if old.seat.blocking(move || servers_on(&data_dir)).await.is_empty() {
            return Ok(());
        }
        Err(old.failure("runs again").with_remedy("plan again"))
    }
}

/// Whether a standby streams from this node, or would once the present topology is in force: the old primary is a standby
/// by then.
fn is_below(upstream: &Node, old: &Node) -> bool {
    upstream.name == old.name || upstream.role == Role::Primary
}

/// Signals every process of a server on the data directory once, the postmaster alone where it lives, and waits for their
/// end.
fn end_all(data_dir: &str, signal: Signal, until: Instant) -> std::io::Result<bool> {
    let mut told = Vec::new();
    loop {
        let alive = servers_on(data_dir);
        if alive.is_empty() {
            return Ok(true);
        }
        let leader = PidFile::of(data_dir).map(|file| file.pid).filter(|pid| alive.contains(pid));
        for pid in leader.map_or_else(|| alive.clone(), |pid| vec![pid]) {
            if told.contains(&pid) {
                continue;
            }
            if let Some(process) = Postmaster::hold(pid, data_dir)? {
                // A child of a dead postmaster takes SIGINT for a cancelled statement, and lives on.
                process.signal(if leader.is_none() && signal == Signal::INT { Signal::QUIT } else { signal })?;
            }
            told.push(pid);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        #[expect(clippy::disallowed_methods, reason = "nothing tells when the last of several processes has ended")]
        std::thread::sleep(POLL);
    }
}

impl Live {
    /// Runs the fencing command about a node; that it succeeds is remembered for the rest of the run.
    pub(super) async fn fence_off(&self, node: &Node, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), Failure> {
        let filled = |text: &String| {
            let text = text.replace("{node}", node.name.as_str()).replace("{host}", &node.host);
            text.replace("{port}", &node.port.to_string())
        };
        let what = format!("node `{}`: fencing command", node.name);
        let Some(fencing) = &self.topology.fencing else {
            return Err(Failure::new(format!("{what}: the topology has none")));
        };
        let argv: Vec<String> = fencing.command.iter().map(filled).collect();
        progress(Progress::Waiting(what.clone()));
        self.run_own(&what, &argv, Vec::new(), "nothing is promoted without that", progress).await?;
        self.confirm_dead(node.name.clone());
        Ok(())
    }
}
