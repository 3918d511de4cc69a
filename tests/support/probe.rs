//! An independent client that writes all the time: what a switchover or a restart costs is what it sees.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use tokio_postgres::NoTls;

/// The rule by which it comes, with other load: from whoever runs the tests, over loopback.
pub(crate) const RULE: &str = "{ type: host, database: bench, user: bench, address: 127.0.0.1/32, method: trust }";

/// An acknowledged commit: when, and by the server of which port.
type Commit = (Instant, u16);

/// Commits every 2 ms, and connects again as fast as it can, to each port in turn. Stopped when dropped.
pub(crate) struct Probe {
    commits: Arc<Mutex<Vec<Commit>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Probe {
    pub(crate) fn start(ports: &[u16]) -> Self {
        let (commits, stop) = (Arc::default(), Arc::default());
        let (into, until, ports) = (Arc::clone(&commits), Arc::clone(&stop), ports.to_vec());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(commit(&ports, &until, &into));
        });
        Self { commits, stop, thread: Some(thread) }
    }

    pub(crate) fn commits(&self) -> Vec<Commit> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many commits the server of this port has acknowledged.
    pub(crate) fn commits_on(&self, port: u16) -> usize {
        self.commits().iter().filter(|(_, by)| *by == port).count()
    }

    pub(crate) fn longest_gap(&self) -> Duration {
        self.commits().windows(2).map(|pair| pair[1].0 - pair[0].0).max().expect("some commits")
    }

    /// From the last commit of the old primary to the first one of the new.
    pub(crate) fn outage(&self, old: u16, new: u16) -> Duration {
        let commits = self.commits();
        let last = commits.iter().rfind(|(_, by)| *by == old).expect("a commit of the old primary");
        let first = commits.iter().find(|(_, by)| *by == new).expect("a commit of the new primary");
        assert!(last.0 < first.0, "the old primary has taken a write after the new one");
        first.0 - last.0
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // In a panic nothing better can be done than to go on.
            let _ = thread.join();
        }
    }
}

async fn commit(ports: &[u16], until: &AtomicBool, into: &Mutex<Vec<Commit>>) {
    for port in ports.iter().copied().cycle() {
        if until.load(Ordering::Relaxed) {
            return;
        }
        let config = format!("host=127.0.0.1 port={port} user=bench dbname=bench");
        let Ok((client, connection)) = tokio_postgres::connect(&config, NoTls).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let connection = tokio::spawn(connection);
        while !until.load(Ordering::Relaxed)
            && client
                .batch_execute("create table if not exists probe (n int); insert into probe values (1)")
                .await
                .is_ok()
        {
            into.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), port));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        connection.abort();
    }
}
