//! Servers that no topology names yet: where each is, and what has to be known of it before it can be observed.
//!
//! A look, as any other: a login, and files read with the rights of their owner. Passwords of the standbys are looked
//! for where libpq would find them: in the connection string, in the passfile that it names, in the owner's own.

use std::net::UdpSocket;
use std::path::Path;
use std::sync::Arc;

use crate::observed::Reading;
use crate::pg::block;
use crate::pg::conf;
use crate::pg::conninfo::Conninfo;
use crate::pg::passfile;
use crate::pg::secret::Secret;
use crate::pg::version::Major;
use crate::pg::version::StandbyMode;
use crate::plan::import::Feed;
use crate::plan::import::Sighting;
use crate::world::Failure;
use crate::world::files;
use crate::world::observe::afar;
use crate::world::observe::afar::Door;
use crate::world::observe::place::conf_path;
use crate::world::observe::server;
use crate::world::observe::server::Running;
use crate::world::probe;
use crate::world::probe::same_file;
use crate::world::sql::Endpoint;
use crate::world::sql::Said;
use crate::world::sql::Session;
use crate::world::user::Seat;
use crate::world::user::USUAL_USER;

/// By what a server is found.
#[derive(Clone, Debug)]
pub enum Way {
    DataDir(String),
    /// A connection string, on this machine.
    Dsn(Conninfo),
}

/// As whom the servers are asked.
#[derive(Clone, Debug)]
pub struct Login {
    /// Absent: the name of the OS user.
    pub user: Option<String>,
    pub database: String,
    pub password: Option<Secret>,
}

const AS_MONITOR: &str = "run pgpair as that user or as root, or give a connection string with a role that has \
                          pg_monitor, as in 'port=5432 user=monitor'";

/// Finds a server.
///
/// # Errors
///
/// [`Failure`] where none runs there, or it does not tell what is needed.
pub async fn sight(way: &Way, login: &Login) -> Result<Sighting, Failure> {
    match way {
        Way::DataDir(dir) => by_data_dir(dir, login).await,
        Way::Dsn(dsn) => by_dsn(dsn, login).await,
    }
}

async fn by_data_dir(dir: &str, login: &Login) -> Result<Sighting, Failure> {
    let failure = |why: String| Failure::new(format!("{dir}: {why}"));
    let path = std::path::absolute(dir).map_err(|error| failure(error.to_string()))?;
    let path = path.to_string_lossy().into_owned();
    let seat = Seat::of_owner(&path).map_err(|error| failure(error.to_string()).with_remedy(AS_MONITOR))?;
    let looked_at = path.clone();
    let running = seat.blocking(move || server::look(&looked_at)).await;
    let running = match running {
        Reading::Known(running) => running,
        Reading::Absent => {
            let is_one = Path::new(&path).join("PG_VERSION").exists();
            let what = if is_one { "no server runs on this data directory" } else { "this is no data directory" };
            let remedy =
                if is_one { "start it first: what runs is imported" } else { "give the folder with PG_VERSION" };
            return Err(failure(what.to_owned()).with_remedy(remedy));
        }
        Reading::Unknown(why) => return Err(failure(why).with_remedy(AS_MONITOR)),
    };
    let Running { port: Some(port), socket_dir, program, .. } = running else {
        return Err(failure("its server is starting or stopping".to_owned()).with_remedy("import it again then"));
    };
    let endpoint = Endpoint {
        socket_dir,
        port,
        user: login.user.clone().unwrap_or_else(|| seat.user().to_owned()),
        database: login.database.clone(),
        password: login.password.clone(),
    };
    let session = Session::open(&seat, &endpoint).await.map_err(|error| {
        failure(error.to_string()).with_remedy("`--user` names another role; its password is taken from PGPASSWORD")
    })?;
    let said = look(&session).await.map_err(|failed| Failure { message: format!("{dir}: {failed}"), ..failed })?;
    let told = data_directory(&said)?;
    let same = seat.blocking(move || same_file(&told, &path)).await;
    if !same {
        return Err(failure(format!("the server on port {port} has another data directory")));
    }
    sighting(&session, said, port, Some(seat), program).await.map_err(failure)
}

async fn by_dsn(dsn: &Conninfo, login: &Login) -> Result<Sighting, Failure> {
    let shown = dsn.redacted();
    let failure = |why: String| Failure::new(format!("`{shown}`: {why}"));
    let host = dsn.get("hostaddr").or_else(|| dsn.get("host")).unwrap_or_default().to_owned();
    let port = dsn.get("port").unwrap_or("5432");
    let port = port.parse().map_err(|_| failure(format!("`{port}` is no port")))?;
    let own = Seat::of(None).map_err(|error| failure(error.to_string()))?;
    let asked = host.clone();
    if !own.blocking(move || is_here(&asked)).await {
        return Err(failure(format!("{host} is another machine, which pgpair can't reach yet"))
            .with_remedy("import it on that machine"));
    }
    let door = Door {
        port,
        user: login.user.clone().unwrap_or_else(|| own.user().to_owned()),
        database: login.database.clone(),
        password: login.password.clone(),
        is_tcp_allowed: !dsn.get("sslmode").is_some_and(|mode| mode.starts_with("verify") || mode == "require"),
    };
    let socket_dir = Some(host).filter(|host| host.starts_with('/'));
    let session = afar::open(&own, &door, socket_dir).await.map_err(|why| {
        failure(why).with_remedy("a password is taken from PGPASSWORD; a topology has it from there too")
    })?;
    let said = look(&session).await.map_err(|failed| Failure { message: format!("`{shown}`: {failed}"), ..failed })?;
    // Whoever may read its files reads them.
    let seat = Seat::of_owner(&data_directory(&said)?).ok();
    sighting(&session, said, port, seat, None).await.map_err(failure)
}

async fn look(session: &Session) -> Result<Said, Failure> {
    let names = ["cluster_name", "primary_conninfo"].map(str::to_owned);
    let said = session.look(&names).await.map_err(|error| Failure::new(error.to_string()))?;
    if said.may_see {
        return Ok(said);
    }
    let user = &said.user;
    Err(Failure::new(format!("`{user}` may not see all settings and replication"))
        .with_remedy(format!("`GRANT pg_monitor TO {user}`")))
}

fn data_directory(said: &Said) -> Result<String, Failure> {
    said.data_directory.clone().ok_or_else(|| Failure::new("the server does not tell its data directory"))
}

/// Puts together what the server says and what its files do. Without a seat no file can be read.
async fn sighting(
    session: &Session,
    said: Said,
    port: u16,
    seat: Option<Arc<Seat>>,
    program: Option<String>,
) -> Result<Sighting, String> {
    let number = said.version.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    let major: Major = number.parse().map_err(|unknown: crate::pg::version::UnknownMajor| unknown.to_string())?;
    let replication_roles = session.replication_roles().await.map_err(|error| error.to_string())?;
    let data_dir = said.data_directory.clone().unwrap_or_default();
    let owner = seat.as_ref().map(|seat| seat.user().to_owned());
    let mut sighting = Sighting {
        config_dir: None,
        bin_dir: None,
        // A topology without `os_user` means the owner of the data directory, but where that is gone.
        is_owner_unusual: rustix::process::geteuid().is_root()
            && owner.as_ref().is_some_and(|owner| owner != USUAL_USER),
        owner,
        major,
        system_identifier: said.system_identifier,
        port,
        in_recovery: said.in_recovery,
        cluster_name: setting(&said, "cluster_name").unwrap_or_default(),
        feed: None,
        block: None,
        replication_roles,
        data_dir,
    };
    let Some(seat) = seat.or_else(|| Seat::of(None).ok()) else { return Ok(sighting) };
    let home = seat.home().to_owned();
    Ok(seat
        .blocking(move || {
            sighting.config_dir = config_dir(&said, &sighting.data_dir);
            sighting.bin_dir = program.and_then(|program| bin_dir(&program, major));
            let conf = conf_path(&sighting.data_dir, sighting.config_dir.as_deref(), "postgresql.conf");
            let text = files::read_text(conf).ok().flatten().unwrap_or_default();
            let owner = block::owner(&text).ok().flatten();
            sighting.block = owner.map(|(cluster, node)| (cluster.to_owned(), node.to_owned()));
            let owner = sighting.owner.as_deref();
            sighting.feed = said.in_recovery.then(|| feed(&said, major, &sighting.data_dir, owner, &home)).flatten();
            sighting
        })
        .await)
}

fn setting(said: &Said, name: &str) -> Option<String> {
    said.settings.get(name)?.setting.clone().filter(|value| !value.is_empty())
}

/// The folder of the configuration, where that is another one than the data directory.
fn config_dir(said: &Said, data_dir: &str) -> Option<String> {
    let dir = Path::new(said.config_file.as_deref()?).parent()?.to_str()?;
    (!same_file(dir, data_dir)).then(|| dir.to_owned())
}

/// The folder of the running program, where another or none would be found for its major.
fn bin_dir(program: &str, major: Major) -> Option<String> {
    let own = Path::new(program).parent()?.to_str()?;
    let wanted = probe::Wanted { major, bin_dir: None, running: None, socket_dir: false };
    let found = probe::binaries(&wanted);
    let is_found = found.known().is_some_and(|found| same_file(&found.bin_dir, own));
    (!is_found).then(|| own.to_owned())
}

/// How a standby reaches its upstream, by its files or, where they can't be read, by its receiver.
fn feed(said: &Said, major: Major, data_dir: &str, owner: Option<&str>, home: &str) -> Option<Feed> {
    let text = match major.dialect().standby_mode {
        StandbyMode::SignalFile => setting(said, "primary_conninfo"),
        StandbyMode::RecoveryConf => {
            let text = files::read_text(format!("{data_dir}/recovery.conf")).ok().flatten().unwrap_or_default();
            let entries = conf::parse(&text).entries;
            entries.into_iter().rev().find(|entry| entry.name == "primary_conninfo").map(|entry| entry.value)
        }
    };
    let written = text.and_then(|text| Conninfo::parse(&text).ok());
    let mut conninfo = match written {
        Some(conninfo) => conninfo,
        None => {
            let mut running = Conninfo::parse(said.receiver.as_ref()?.conninfo.as_deref()?).ok()?;
            // Asterisks stand for it there.
            running.remove("password");
            running
        }
    };
    if let Some((host, port)) = said.receiver.as_ref().and_then(|it| it.sender_host.as_ref().zip(it.sender_port))
        && conninfo.servers().count() > 1
    {
        conninfo.remove("hostaddr");
        conninfo.set("host", host);
        conninfo.set("port", &port.to_string());
    }
    let password = conninfo.remove("password").map(Secret::new).or_else(|| password(&conninfo, owner?, home));
    let is_here = conninfo.servers().next().is_some_and(|(host, _)| is_here(host));
    Some(Feed { conninfo, password, is_here })
}

/// The password that libpq would take out of a passfile, in a server of this user's.
fn password(conninfo: &Conninfo, owner: &str, home: &str) -> Option<Secret> {
    let own = format!("{home}/.pgpass");
    let text = files::read_text(conninfo.get("passfile").unwrap_or(&own)).ok().flatten()?;
    let host = conninfo.get("host").or_else(|| conninfo.get("hostaddr")).unwrap_or("localhost");
    let (port, user) = (conninfo.get("port").unwrap_or("5432"), conninfo.get("user").unwrap_or(owner));
    passfile::password(&text, host, port, "replication", user)
}

/// Whether a host is this machine: a socket's folder, none at all, or an address that a socket can be bound to here.
fn is_here(host: &str) -> bool {
    host.is_empty() || host.starts_with('/') || UdpSocket::bind((host, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_told_from_others() {
        for here in ["", "/tmp", "localhost", "127.0.0.1", "127.0.0.2"] {
            assert!(is_here(here), "{here}");
        }
        // Addresses for documentation, which no machine has.
        for elsewhere in ["203.0.113.77", "no-such-host.invalid"] {
            assert!(!is_here(elsewhere), "{elsewhere}");
        }
    }
}
