//! What tests of switchovers share: the applies, and a witness that no acknowledged row is lost and no two servers
//! accept writes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use tokio_postgres::Client;
use tokio_postgres::NoTls;

use super::Ran;
use super::Workspace;
use super::roles::run_towards;

fn arguments(to: &str) -> Vec<String> {
    ["apply", "--auto-approve", "--allow", &format!("switchover={to},outage,restart"), "--timeout", "20s"]
        .map(str::to_owned)
        .to_vec()
}

pub(crate) fn apply(pair: &Workspace, to: &str) -> Ran {
    let arguments = arguments(to);
    pair.pgpair(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// An apply that ends itself at this point; the step before which it is may hold already.
#[track_caller]
pub(crate) fn apply_until(pair: &Workspace, to: &str, point: &str) {
    let ran = run_towards(pair, &arguments(to), point);
    let holds = ran.stderr.contains(&format!("{point}: holds already"));
    assert!(ran.code.is_none() || holds, "{point}: it was not killed: {}{}", ran.stdout, ran.stderr);
}

async fn connect(port: u16) -> Option<Client> {
    let config = format!("host=127.0.0.1 port={port} user=bench dbname=bench connect_timeout=1");
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}

/// Writes, and watches, until it is told to stop. It comes as user `bench` to a database of that name.
pub(crate) struct Witness {
    stop: Arc<AtomicBool>,
    writer: JoinHandle<(BTreeSet<i64>, Duration)>,
    watcher: JoinHandle<usize>,
    two_writers: Arc<Mutex<Vec<String>>>,
}

impl Witness {
    pub(crate) fn of(pair: &Workspace, primary: &str) -> Self {
        Self::over(pair, &pair.ports, primary)
    }

    /// One of a cluster whose nodes have these ports.
    pub(crate) fn over(pair: &Workspace, ports: &[u16], primary: &str) -> Self {
        pair.sql_in(
            "bench",
            primary,
            "create table if not exists acked (n bigint primary key); grant all on acked to bench",
        );
        let (stop, two_writers) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (until, to) = (stop.clone(), ports.to_vec());
        let first =
            pair.sql_in("bench", primary, "select coalesce(max(n), 0) + 1 from acked").parse().expect("a number");
        let writer = std::thread::spawn(move || in_runtime(write(&to, first, &until)));
        let (until, at, seen) = (stop.clone(), ports.to_vec(), two_writers.clone());
        let watcher = std::thread::spawn(move || in_runtime(watch(&at, &until, &seen)));
        Self { stop, writer, watcher, two_writers }
    }

    /// Returns the longest time without a commit.
    pub(crate) fn swears(self, pair: &Workspace, primary: &str) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let (acked, gap) = self.writer.join().expect("the writer");
        let looks = self.watcher.join().expect("the watcher");
        assert!(looks > 10 && acked.len() > 10, "it saw too little: {looks} looks, {} rows", acked.len());
        assert_eq!(*self.two_writers.lock().expect("one thread"), Vec::<String>::new());
        let there: BTreeSet<i64> =
            pair.sql_in("bench", primary, "select n from acked").lines().filter_map(|line| line.parse().ok()).collect();
        let lost: Vec<_> = acked.difference(&there).collect();
        assert!(lost.is_empty(), "{} of {} acknowledged rows are lost: {lost:?}", lost.len(), acked.len());
        gap
    }
}

fn in_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

async fn write(ports: &[u16], first: i64, until: &AtomicBool) -> (BTreeSet<i64>, Duration) {
    let (mut acked, mut next, mut last, mut gap) = (BTreeSet::new(), first, Instant::now(), Duration::ZERO);
    for port in ports.iter().copied().cycle() {
        if until.load(Ordering::Relaxed) {
            break;
        }
        let Some(client) = connect(port).await else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        while !until.load(Ordering::Relaxed) {
            let row = [&next as &(dyn tokio_postgres::types::ToSql + Sync)];
            let done = client.execute("insert into acked values ($1)", &row);
            match tokio::time::timeout(Duration::from_secs(5), done).await {
                Ok(Ok(_)) => drop(acked.insert(next)),
                Ok(Err(_)) | Err(_) => break,
            }
            gap = gap.max(last.elapsed());
            last = Instant::now();
            next += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Whether this one was committed is not known.
        next += 1;
    }
    (acked, gap)
}

/// One that accepted writes before and after another did, and was not seen in recovery between, was a writer beside it.
async fn watch(ports: &[u16], until: &AtomicBool, two_writers: &Mutex<Vec<String>>) -> usize {
    let mut clients: Vec<Option<Client>> = ports.iter().map(|_| None).collect();
    let (mut looks, mut writers) = (0, Vec::new());
    while !until.load(Ordering::Relaxed) {
        for (client, port) in clients.iter_mut().zip(ports) {
            if client.is_none() {
                *client = connect(*port).await;
            }
            let Some(connected) = client else { continue };
            let Ok(row) = connected.query_one("select pg_is_in_recovery()", &[]).await else {
                *client = None;
                continue;
            };
            looks += 1;
            if row.get::<_, bool>(0) {
                writers.retain(|writer| writer != port);
            } else if writers.last() != Some(port) {
                writers.push(*port);
            }
            if let [.., before, between, after] = writers[..]
                && before == after
            {
                two_writers.lock().expect("one thread").push(format!("{before} and {between} at look {looks}"));
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    looks
}
