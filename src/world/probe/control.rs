//! Who starts and stops a node's server: a systemd unit, commands of the topology's, Debian's pg_ctlcluster, pg_ctl.
//!
//! Blocking, and done with our own rights, as it is us whom systemd or sudo lets do something or not. Nothing is
//! started or stopped to find out.

use std::env;
use std::io;
use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use crate::observed::Controller;
use crate::observed::Permission;
use crate::topology::Service;
use crate::world::probe::process;

/// What the topology says of it, and the server that runs.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub service: Option<Service>,
    pub config_dir: Option<String>,
    /// The process of the running server.
    pub pid: Option<u32>,
    /// The name of the OS user that we are.
    pub own: String,
}

/// Finds out who starts and stops the server.
#[must_use]
pub fn controller(wanted: &Wanted) -> Controller {
    if let Some(Service::Commands { .. }) = &wanted.service {
        return Controller::Commands;
    }
    let owner = wanted.pid.and_then(|pid| {
        let unit = owning_unit(pid)?;
        let asked = Unit::ask(&unit).ok().filter(|it| it.runs(pid))?;
        Some((unit, asked))
    });
    let (unit, asked) = match (owner, &wanted.service) {
        (Some((owner, _)), Some(Service::Unit(named))) if owner != full_name(named) => {
            let why = format!("the server belongs to another unit than `service: {named}` says");
            return Controller::Unit { unit: owner, permission: Permission::Refused(why) };
        }
        (Some((owner, asked)), _) => (owner, Ok(asked)),
        (None, Some(Service::Unit(named))) => {
            let unit = full_name(named);
            let asked = Unit::ask(&unit);
            (unit, asked)
        }
        (None, Some(Service::Commands { .. }) | None) => return without_unit(wanted),
    };
    let permission = permission(&unit, asked, wanted);
    Controller::Unit { unit, permission }
}

/// Debian's own program for a cluster with Debian's own place of its configuration, else pg_ctl.
fn without_unit(wanted: &Wanted) -> Controller {
    let is_installed = || {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).any(|dir| dir.join("pg_ctlcluster").is_file())
    };
    // A file of postgresql-common's own beside postgresql.conf, which it needs itself.
    let config_dir = wanted.config_dir.as_deref().filter(|dir| Path::new(dir).join("start.conf").is_file());
    match config_dir.and_then(debian_cluster) {
        Some((version, name)) if is_installed() => Controller::PgCtlCluster { version, name },
        Some(_) | None => Controller::PgCtl,
    }
}

/// Reads version and name of a cluster out of `/etc/postgresql/VERSION/NAME`.
fn debian_cluster(config_dir: &str) -> Option<(String, String)> {
    let mut parts = config_dir.trim_end_matches('/').rsplit('/');
    let (name, version) = (parts.next()?, parts.next()?);
    let is_one = !name.is_empty() && version.starts_with(|c: char| c.is_ascii_digit());
    is_one.then(|| (version.to_owned(), name.to_owned()))
}

/// Returns the system's unit that a process belongs to.
fn owning_unit(pid: u32) -> Option<String> {
    unit_in(&std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

/// Reads the unit out of `/proc/PID/cgroup`: of the unified hierarchy, or of systemd's own where there are several.
///
/// Units of a user's manager are none of the system's.
fn unit_in(cgroups: &str) -> Option<String> {
    let paths = cgroups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let ours = paths.filter(|(controllers, _)| ["", "name=systemd"].contains(controllers)).map(|(_, path)| path);
    let mut units = ours.filter(|path| !path.starts_with("/user.slice/")).filter_map(|path| {
        let parts = path.split('/');
        parts.rev().find(|part| part.ends_with(".service")).map(str::to_owned)
    });
    units.next()
}

/// `postgresql@15-main` is short for `postgresql@15-main.service`.
fn full_name(unit: &str) -> String {
    if unit.ends_with(".service") { unit.to_owned() } else { format!("{unit}.service") }
}

/// What systemd says of a unit.
struct Unit {
    is_loaded: bool,
    main_pid: u32,
}

impl Unit {
    fn ask(unit: &str) -> Result<Self, String> {
        let output = run("systemctl", &["show", "--property=LoadState,MainPID", "--", unit]);
        let output = output.map_err(|error| format!("systemctl can't be run: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("systemctl says: {}", said.lines().next().unwrap_or("nothing")));
        }
        Ok(Self::parse(&String::from_utf8_lossy(&output.stdout)))
    }

    fn parse(answer: &str) -> Self {
        let get = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        Self {
            is_loaded: get("LoadState") == Some("loaded"),
            main_pid: get("MainPID").and_then(|pid| pid.parse().ok()).unwrap_or(0),
        }
    }

    /// Whether the process is the one that the unit is about. A server that was started from cron, or by pgpair in a
    /// unit of its own, is in the cgroup of that unit, which is not the server's.
    fn runs(&self, pid: u32) -> bool {
        self.is_loaded && self.main_pid == pid && pid != 0
    }
}

/// Whether we may start and stop a unit, by what systemd says of it.
fn permission(unit: &str, asked: Result<Unit, String>, wanted: &Wanted) -> Permission {
    match asked {
        Ok(found) if !found.is_loaded => return Permission::Refused("systemd has no such unit".into()),
        // It would be started a second time by the unit, or not be stopped by it.
        Ok(found) if wanted.pid.is_some_and(|pid| process::program_of(pid).is_some() && !found.runs(pid)) => {
            return Permission::Refused("the server runs, and was not started by it".into());
        }
        Ok(_) => {}
        Err(why) => return Permission::Refused(why),
    }
    let agrees = |program: &str, args: &[&str]| run(program, args).is_ok_and(|output| output.status.success());
    let own_pid = std::process::id().to_string();
    // polkit, without an agent that would ask somebody.
    let by_polkit = ["--action-id", "org.freedesktop.systemd1.manage-units", "--process", &own_pid];
    let by_sudo = |verb: &str| agrees("sudo", &["-n", "-l", "--", "systemctl", verb, unit]);
    if rustix::process::geteuid().is_root() || agrees("pkcheck", &by_polkit) {
        Permission::Given
    } else if by_sudo("start") && by_sudo("stop") {
        Permission::BySudo
    } else {
        Permission::Refused(format!("neither polkit nor sudo lets `{}` start and stop it", wanted.own))
    }
}

fn run(program: &str, args: &[&str]) -> io::Result<Output> {
    Command::new(program).args(args).env("LC_ALL", "C").current_dir("/").stdin(Stdio::null()).output()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_unit_of_a_server_is_read_from_either_kind_of_hierarchy() {
        let unit = |text: &str| unit_in(text);
        let debian = "0::/system.slice/system-postgresql.slice/postgresql@15-main.service\n";
        assert_eq!(unit(debian).as_deref(), Some("postgresql@15-main.service"));
        let several = "9:name=systemd:/system.slice/postgresql-15.service\n4:memory:/other.service\n0::/\n";
        assert_eq!(unit(several).as_deref(), Some("postgresql-15.service"));
        let delegated = "0::/system.slice/postgresql-15.service/backends\n";
        assert_eq!(unit(delegated).as_deref(), Some("postgresql-15.service"));
    }

    #[test]
    fn a_session_and_a_users_own_manager_are_no_units_of_the_system() {
        for text in [
            "0::/user.slice/user-0.slice/session-1.scope\n",
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/pg.service\n",
            "0::/\n",
            "",
            "no cgroup",
        ] {
            assert_eq!(unit_in(text), None, "{text}");
        }
    }

    #[test]
    fn a_server_that_was_started_from_cron_does_not_belong_to_crons_unit() {
        let cron = Unit::parse("LoadState=loaded\nMainPID=812\n");
        assert!(cron.runs(812));
        assert!(!cron.runs(4711));
        assert!(!Unit::parse("LoadState=not-found\nMainPID=0\n").runs(0));
    }

    #[test]
    fn a_debian_cluster_is_told_by_the_place_of_its_configuration() {
        let main = Some(("15".into(), "main".into()));
        assert_eq!(debian_cluster("/etc/postgresql/15/main"), main);
        assert_eq!(debian_cluster("/etc/postgresql/15/main/"), main);
        assert_eq!(debian_cluster("/etc/orders/main"), None);
        assert_eq!(debian_cluster("/15"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_readers_panic(text: String) {
            let _ = unit_in(&text);
            let _ = unit_in(&format!("0::/{text}.service"));
            let _ = Unit::parse(&format!("MainPID={text}"));
            let _ = debian_cluster(&text);
        }
    }
}
