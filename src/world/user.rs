//! Rights: the threads on which a node's work is done, as the operating-system user who owns the node.
//!
//! Linux keeps an identity per thread, and threads and children inherit it. A [`Seat`] is a small runtime whose
//! threads all have one user's identity, so that peer authentication, the owners of files and the servers
//! that are started come out right, while the rest of pgpair stays who it is.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::os::unix::fs::MetadataExt as _;
use std::panic::resume_unwind;
use std::process;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use rustix::process::Gid;
use rustix::process::Uid;
use rustix::process::geteuid;
use rustix::thread::set_thread_groups;
use rustix::thread::set_thread_res_gid;
use rustix::thread::set_thread_res_uid;
use tokio::runtime::Builder;
use tokio::runtime::Handle;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::topology::Node;
use crate::topology::Topology;

/// The user that owns the servers where nothing else says who does, and root runs pgpair.
pub(crate) const USUAL_USER: &str = "postgres";

/// The threads that work as one operating-system user.
#[derive(Debug)]
pub struct Seat {
    account: Account,
    handle: Handle,
    /// Keeps the threads alive; seats are kept for the life of the process.
    _runtime: Runtime,
}

/// Why nothing can be done as a user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeatError {
    #[error("there is no operating-system user `{0}`")]
    NoSuchUser(String),
    #[error("pgpair runs as `{own}` and can't act as `{user}`: run it as `{user}` or as root")]
    NotPermitted { user: String, own: String },
    #[error("`{user}` can't be looked up: {why}")]
    Lookup { user: String, why: String },
    #[error("can't work as `{user}`: {why}")]
    System { user: String, why: String },
}

/// One line of the user database, with the groups that the user is in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
    groups: Vec<u32>,
}

impl Seat {
    /// Returns the seat of the user with this name; `None`: of whoever runs pgpair.
    ///
    /// There is one for each user, made when it is first asked for.
    ///
    /// # Errors
    ///
    /// [`SeatError`] where there is no such user, or where pgpair may not act as that user.
    pub fn of(user: Option<&str>) -> Result<Arc<Self>, SeatError> {
        static SEATS: Mutex<BTreeMap<String, Arc<Seat>>> = Mutex::new(BTreeMap::new());
        let key = user.unwrap_or_default().to_owned();
        let mut seats = SEATS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seat) = seats.get(&key) {
            return Ok(Arc::clone(seat));
        }
        let seat = Arc::new(Self::make(user)?);
        seats.insert(key, Arc::clone(&seat));
        Ok(seat)
    }

    /// Returns the seat of the user who owns the server of `node`: the topology's `os_user`, else the owner of the
    /// data directory, else `postgres` where root runs pgpair, else whoever runs it.
    ///
    /// A data directory of root's is no evidence: no server runs as root.
    ///
    /// # Errors
    ///
    /// As [`Seat::of`].
    pub fn of_node(topology: &Topology, node: &Node) -> Result<Arc<Self>, SeatError> {
        match topology.os_user(node) {
            Some(user) => Self::of(Some(user)),
            None => Self::of_owner(&node.data_dir),
        }
    }

    /// Returns the seat of the owner of a data directory, with the same defaults.
    ///
    /// # Errors
    ///
    /// As [`Seat::of`].
    pub fn of_owner(data_dir: &str) -> Result<Arc<Self>, SeatError> {
        let owner = fs::metadata(data_dir).ok().map(|data_dir| data_dir.uid()).filter(|&uid| uid != 0);
        let owner = owner.map(|uid| user_name(uid).unwrap_or_else(|| uid.to_string()));
        match owner.as_deref() {
            None if geteuid().is_root() => Self::of(Some(USUAL_USER)),
            owner => Self::of(owner),
        }
    }

    fn make(user: Option<&str>) -> Result<Self, SeatError> {
        let own = geteuid();
        let account = match user {
            None => own_account(own.as_raw()),
            Some(name) => account(name)?,
        };
        let switch = account.uid != own.as_raw();
        if switch && !own.is_root() {
            return Err(SeatError::NotPermitted { user: account.name, own: own_account(own.as_raw()).name });
        }
        let system =
            |why: &dyn std::fmt::Display| SeatError::System { user: account.name.clone(), why: why.to_string() };

        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(2).thread_name(format!("as-{}", account.name)).enable_all();
        if switch {
            // Tried on a thread of its own first, where a refusal can still be told.
            let probe = account.clone();
            let tried = std::thread::spawn(move || take_identity(&probe)).join();
            tried.map_err(|_| system(&"a thread panicked"))?.map_err(|why| system(&why))?;
            let account = account.clone();
            // Every thread, also one that a caller with other rights makes the pool start.
            builder.on_thread_start(move || {
                if take_identity(&account).is_err() {
                    // Going on would do the user's work with root's rights.
                    process::abort();
                }
            });
        }
        let runtime = builder.build().map_err(|why| system(&why))?;
        Ok(Self { handle: runtime.handle().clone(), account, _runtime: runtime })
    }

    /// Returns the user's name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.account.name
    }

    /// Returns the user's home directory.
    #[must_use]
    pub fn home(&self) -> &str {
        &self.account.home
    }

    /// Returns the user's number.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.account.uid
    }

    /// Returns the number of the user's own group.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.account.gid
    }

    /// Runs a future on the seat's threads. Dropping the returned one gives the work up.
    pub async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let mut task = JoinSet::new();
        task.spawn_on(work, &self.handle);
        first_of(task).await
    }

    /// Runs blocking work with the user's rights.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let mut task = JoinSet::new();
        task.spawn_blocking_on(work, &self.handle);
        first_of(task).await
    }

    /// Runs blocking work with the user's rights and waits for it, for where nothing can be awaited (a `drop`).
    pub fn blocking_now(&self, work: impl FnOnce() + Send + 'static) {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        self.handle.spawn_blocking(move || {
            work();
            drop(done);
        });
        // The error is the end: nothing is ever sent.
        let _ = wait.recv();
    }
}

/// Returns what the only task of the set returns; a panic goes on in the caller.
async fn first_of<T: 'static>(mut task: JoinSet<T>) -> T {
    match task.join_next().await.expect("one task was spawned") {
        Ok(value) => value,
        Err(end) => resume_unwind(end.into_panic()),
    }
}

/// Gives the calling thread the user's identity, for good. A thread that inherited it has nothing to do.
fn take_identity(account: &Account) -> rustix::io::Result<()> {
    if geteuid().as_raw() == account.uid {
        return Ok(());
    }
    let uid = Uid::from_raw(account.uid);
    let gid = Gid::from_raw(account.gid);
    let groups: Vec<Gid> = account.groups.iter().map(|&group| Gid::from_raw(group)).collect();
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

/// Returns the name of the user with this number, where there is one.
#[must_use]
pub fn user_name(uid: u32) -> Option<String> {
    let line = passwd_entry(&uid.to_string(), |account| account.uid == uid).ok()??;
    Some(line.name)
}

/// Returns the account of whoever runs pgpair; a container's user may have none.
fn own_account(uid: u32) -> Account {
    let found = passwd_entry(&uid.to_string(), |account| account.uid == uid).ok().flatten();
    found.unwrap_or_else(|| Account {
        name: uid.to_string(),
        uid,
        gid: rustix::process::getegid().as_raw(),
        home: "/".to_owned(),
        groups: Vec::new(),
    })
}

/// Looks a user up by name, with the groups.
fn account(name: &str) -> Result<Account, SeatError> {
    let lookup = |why: String| SeatError::Lookup { user: name.to_owned(), why };
    let found = passwd_entry(name, |account| account.name == name).map_err(lookup)?;
    let mut account = found.ok_or_else(|| SeatError::NoSuchUser(name.to_owned()))?;
    account.groups = groups(&account).map_err(lookup)?;
    Ok(account)
}

/// Returns the first account of the file that `is_meant`, else what the name services (LDAP, …) know by `key`.
fn passwd_entry(key: &str, is_meant: impl Fn(&Account) -> bool) -> Result<Option<Account>, String> {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    if let Some(account) = text.lines().filter_map(parse_passwd).find(|account| is_meant(account)) {
        return Ok(Some(account));
    }
    let asked = process::Command::new("getent").args(["passwd", "--", key]).stdin(process::Stdio::null()).output();
    let answer = match asked {
        Ok(output) => output.stdout,
        // A small container has no getent, and then no other name services either.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("getent can't be run: {error}")),
    };
    Ok(String::from_utf8_lossy(&answer).lines().find_map(parse_passwd).filter(is_meant))
}

/// Reads `name:password:uid:gid:comment:home:shell`.
fn parse_passwd(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1)?.to_owned();
    Some(Account { name, uid, gid, home, groups: Vec::new() })
}

/// Returns all groups of a user: from the file, which has those that matter to a server (its own, `ssl-cert`).
fn groups(account: &Account) -> Result<Vec<u32>, String> {
    let text = fs::read_to_string("/etc/group").map_err(|error| format!("/etc/group: {error}"))?;
    let mut groups = vec![account.gid];
    groups.extend(text.lines().filter_map(|line| group_with(line, &account.name)).filter(|&gid| gid != account.gid));
    Ok(groups)
}

/// Reads `name:password:gid:member,member` and returns the number where the user is a member.
fn group_with(line: &str, user: &str) -> Option<u32> {
    let mut fields = line.split(':');
    let gid = fields.nth(2)?.parse().ok()?;
    fields.next()?.split(',').any(|member| member == user).then_some(gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_user_database_is_read() {
        let account = parse_passwd("postgres:x:107:113:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash");
        let account = account.expect("a good line");
        assert_eq!((account.uid, account.gid, account.home.as_str()), (107, 113, "/var/lib/postgresql"));
        for bad in ["", "# a comment", "+::::::", "x:y:z", "x:x:-1:0::/:"] {
            assert_eq!(parse_passwd(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_a_member_is_in_a_group() {
        assert_eq!(group_with("ssl-cert:x:112:www,postgres", "postgres"), Some(112));
        assert_eq!(group_with("ssl-cert:x:112:postgres2", "postgres"), None);
        assert_eq!(group_with("postgres:x:113:", "postgres"), None);
    }

    #[test]
    fn a_user_who_does_not_exist_is_named() {
        let error = Seat::of(Some("nobody-of-this-name")).expect_err("no such user");
        assert_eq!(error.to_string(), "there is no operating-system user `nobody-of-this-name`");
    }

    #[tokio::test]
    async fn all_threads_of_a_seat_have_its_users_identity() {
        let own = geteuid();
        let user = if own.is_root() { Some("nobody") } else { None };
        let seat = Seat::of(user).expect("a seat");
        let uid = seat.uid();
        assert_eq!(seat.run(async { geteuid().as_raw() }).await, uid);
        assert_eq!(seat.blocking(|| geteuid().as_raw()).await, uid);
        let child = seat.run(async { tokio::process::Command::new("id").arg("-u").output().await }).await;
        assert_eq!(String::from_utf8_lossy(&child.expect("id runs").stdout).trim(), uid.to_string());
        if own.is_root() {
            let denied = seat.blocking(|| fs::read("/etc/shadow").map_err(|error| error.kind())).await;
            assert_eq!(denied, Err(std::io::ErrorKind::PermissionDenied));
        }
        assert_eq!(geteuid(), own, "and the rest of pgpair stays who it is");
    }
}
