//! A new postgresql.conf on trial, before it is put in force.
//!
//! PostgreSQL itself reads it (`postgres -C`), and then the checks here look for what that misses: what only a start
//! would find, with the server down. That a file passes is no promise: a server that does not come up on it gets the
//! old one back.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::net::ToSocketAddrs as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use futures_util::stream;
use futures_util::stream::StreamExt as _;
use futures_util::stream::TryStreamExt as _;

use crate::pg::guc;
use crate::plan::Configure;
use crate::world::Failure;
use crate::world::files;
use crate::world::files::PRIVATE;
use crate::world::live::Site;
use crate::world::live::config::CONF;
use crate::world::live::create::read_control;
use crate::world::process::Command;

/// The new text on trial: beside the real one, because includes are relative to it.
const TRIAL: &str = "postgresql.conf.pgpair-trial";

/// The parameters that the checks look at, where the major has them.
const LOOKED_AT: [&str; 20] = [
    "shared_preload_libraries",
    "session_preload_libraries",
    "local_preload_libraries",
    "dynamic_library_path",
    "wal_level",
    "max_wal_senders",
    "archive_mode",
    "summarize_wal",
    "ssl",
    "ssl_cert_file",
    "ssl_key_file",
    "ssl_ca_file",
    "ssl_crl_file",
    "listen_addresses",
    "unix_socket_directories",
    "huge_pages",
    "max_connections",
    "superuser_reserved_connections",
    "reserved_connections",
    "min_wal_size",
];

/// How many of them are read at once: each takes a process of its own.
const AT_ONCE: usize = 4;

/// What a server would not start on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Defect {
    parameter: &'static str,
    cause: String,
    remedy: String,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.parameter, self.cause)
    }
}

fn defect(parameter: &'static str, cause: impl Into<String>, remedy: impl Into<String>) -> Option<Defect> {
    Some(Defect { parameter, cause: cause.into(), remedy: remedy.into() })
}

/// What the new files say, as PostgreSQL reads them, and where they would say it.
struct Candidate {
    data_dir: PathBuf,
    /// The folder that `$libdir` stands for, where it was found.
    libdir: Option<PathBuf>,
    values: BTreeMap<&'static str, String>,
    wal_segment_size: u64,
    /// Walsenders have connections out of `max_connections` (10, 11).
    senders_are_connections: bool,
}

impl Candidate {
    fn text(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(0)
    }

    fn is_on(&self, name: &str) -> bool {
        self.text(name) == "on"
    }

    fn list(&self, name: &str) -> Vec<String> {
        guc::elements(name, self.text(name)).unwrap_or_default()
    }

    /// The first defect that a start would stumble over.
    fn defect(&self) -> Option<Defect> {
        let checks = [
            Self::libraries,
            Self::wal_level,
            Self::reserved_connections,
            Self::wal_size,
            Self::tls_files,
            Self::huge_pages,
            Self::addresses,
            Self::socket_directories,
        ];
        checks.into_iter().find_map(|check| check(self))
    }

    /// A library that is loaded at the start, or for every session, has to be there.
    fn libraries(&self) -> Option<Defect> {
        let libdir = self.libdir.as_ref()?.to_string_lossy();
        let path = self.text("dynamic_library_path").to_owned();
        // What anybody may name comes from one folder alone.
        let plugins = "$libdir/plugins".to_owned();
        let named = [
            ("shared_preload_libraries", &path),
            ("session_preload_libraries", &path),
            ("local_preload_libraries", &plugins),
        ];
        named.into_iter().find_map(|(name, path)| {
            let missing = self.list(name).into_iter().find(|library| !self.has_library(library, path, &libdir))?;
            let cause = format!("there is no library `{missing}` that PostgreSQL would find");
            defect(name, cause, "install it on this node, or correct its name in the topology")
        })
    }

    /// As `expand_dynamic_library_name` of PostgreSQL looks: a name with a folder as it is, any other along the path;
    /// both also with the suffix.
    fn has_library(&self, library: &str, path: &str, libdir: &str) -> bool {
        let is_there = |path: PathBuf| {
            let with_suffix = PathBuf::from(format!("{}.so", path.display()));
            path.is_file() || with_suffix.is_file()
        };
        let expanded = |text: &str| self.data_dir.join(text.replacen("$libdir", libdir, 1));
        if library.contains('/') {
            return is_there(expanded(library));
        }
        path.split(':').any(|folder| is_there(expanded(folder).join(library)))
    }

    /// `minimal` leaves out of the WAL what standbys and archives need.
    fn wal_level(&self) -> Option<Defect> {
        if self.text("wal_level") != "minimal" {
            return None;
        }
        let remedy = "set `wal_level` to replica in the topology";
        if self.number("max_wal_senders") > 0 {
            return defect("wal_level", "minimal does not go with `max_wal_senders` above 0", remedy);
        }
        if !["", "off"].contains(&self.text("archive_mode")) {
            return defect("wal_level", "minimal does not go with `archive_mode`", remedy);
        }
        if self.is_on("summarize_wal") {
            return defect("wal_level", "minimal does not go with `summarize_wal`", remedy);
        }
        None
    }

    /// Of the connections some must remain for everybody.
    fn reserved_connections(&self) -> Option<Defect> {
        let mut names = vec!["superuser_reserved_connections"];
        if self.values.contains_key("reserved_connections") {
            names.push("reserved_connections");
        }
        if self.senders_are_connections {
            names.push("max_wal_senders");
        }
        let reserved: i64 = names.iter().map(|name| self.number(name)).sum();
        let all = self.number("max_connections");
        if reserved < all {
            return None;
        }
        let cause = format!("{all} is not more than {} together, {reserved}", names.join(" and "));
        defect("max_connections", cause, "raise it, or lower those")
    }

    /// At least two segments (11 and later; before, the range of the parameter says it).
    fn wal_size(&self) -> Option<Defect> {
        let bytes = u64::try_from(self.number("min_wal_size")).unwrap_or_default() << 20;
        if bytes >= 2 * self.wal_segment_size {
            return None;
        }
        let cause = format!("it has to hold two WAL segments, {} MB", self.wal_segment_size >> 19);
        defect("min_wal_size", cause, "raise it")
    }

    /// With `ssl` every file that is named is read at the start.
    fn tls_files(&self) -> Option<Defect> {
        if !self.is_on("ssl") {
            return None;
        }
        let remedy = "put the file there, readable for the OS user, or correct the path in the topology";
        let is_given = |name: &str| !self.text(name).is_empty();
        let always = ["ssl_cert_file", "ssl_key_file"].into_iter();
        let named = always.chain(["ssl_ca_file", "ssl_crl_file"].into_iter().filter(|name| is_given(name)));
        for name in named {
            let path = self.data_dir.join(self.text(name));
            if let Err(error) = fs::File::open(&path) {
                return defect(name, format!("`{}` can't be read: {}", path.display(), files::plain(&error)), remedy);
            }
        }
        self.tls_key()
    }

    /// Whose key it is and who may read it, as `check_ssl_key_file_permissions` of PostgreSQL asks.
    fn tls_key(&self) -> Option<Defect> {
        let path = self.data_dir.join(self.text("ssl_key_file"));
        let found = fs::metadata(&path).ok()?;
        let own = rustix::process::geteuid().as_raw();
        let what = match found.uid() {
            uid if uid != own && uid != 0 => "belongs to neither the OS user nor root",
            uid if uid == own && found.mode() & 0o077 != 0 => "may be read by others than its owner",
            0 if own != 0 && found.mode() & 0o027 != 0 => "may be read by all, or written by its group",
            _ => return None,
        };
        defect("ssl_key_file", format!("`{}` {what}", path.display()), "chown it to the OS user, and chmod it to 0600")
    }

    /// `on` insists on pages that the kernel has set aside.
    fn huge_pages(&self) -> Option<Defect> {
        if !self.is_on("huge_pages") {
            return None;
        }
        let sizes = fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
        let reserved = |size: fs::DirEntry| {
            let text = fs::read_to_string(size.path().join("nr_hugepages")).ok()?;
            text.trim().parse::<u64>().ok().filter(|pages| *pages > 0)
        };
        if sizes.filter_map(reserved).next().is_some() {
            return None;
        }
        let remedy = "set the kernel's `vm.nr_hugepages`, or `huge_pages` to try";
        defect("huge_pages", "the kernel of this machine has no huge pages reserved", remedy)
    }

    /// PostgreSQL starts where one address can be had; pgpair insists on all that the topology names.
    fn addresses(&self) -> Option<Defect> {
        let own = |address: &str| match (address, 0).to_socket_addrs() {
            Err(error) => Err(format!("`{address}` can't be resolved: {}", files::plain(&error))),
            // A port of the system's choice: the server's own may be in use, by itself.
            Ok(found) => {
                let bound: Vec<_> = found.map(TcpListener::bind).collect();
                let is_foreign = |result: &Result<TcpListener, io::Error>| {
                    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
                };
                if !bound.is_empty() && bound.iter().all(is_foreign) {
                    return Err(format!("`{address}` is no address of this machine"));
                }
                Ok(())
            }
        };
        let listed = self.list("listen_addresses");
        let named = listed.iter().filter(|address| !["*", "0.0.0.0", "::"].contains(&address.as_str()));
        let cause = named.map(String::as_str).map(own).find_map(Result::err)?;
        defect("listen_addresses", cause, "correct it in the topology, or give the machine that address first")
    }

    /// A socket and its lock file are made in each.
    fn socket_directories(&self) -> Option<Defect> {
        let name = "unix_socket_directories";
        let remedy = "make the folder, writable for the OS user, or name another one in the topology";
        // Abstract sockets (14) have no folder.
        let listed = self.list(name).into_iter().filter(|folder| !folder.starts_with('@'));
        let cause = listed.map(|folder| self.data_dir.join(folder)).find_map(|folder| {
            let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
            let flags = rustix::fs::AtFlags::EACCESS;
            if !folder.is_dir() {
                return Some(format!("there is no folder `{}`", folder.display()));
            }
            let allowed = rustix::fs::accessat(rustix::fs::CWD, &folder, access, flags);
            allowed.err().map(|_| format!("`{}` can't be written by the OS user", folder.display()))
        })?;
        defect(name, cause, remedy)
    }
}

impl Site<'_> {
    /// Lets PostgreSQL itself read the new text, and then looks for what that misses.
    pub(super) async fn try_out(&self, text: &str, configure: &Configure) -> Result<(), Failure> {
        let (trial, content) = (self.conf_file(TRIAL), text.as_bytes().to_vec());
        self.on_files({
            let trial = trial.clone();
            move || files::replace(trial, &content, Some(PRIVATE))
        })
        .await?;
        let judged = self.judge(&trial, configure).await;
        self.on_files(move || files::remove(trial)).await?;
        judged
    }

    async fn judge(&self, trial: &str, configure: &Configure) -> Result<(), Failure> {
        // Names that the major does not have are no parameters of its candidate.
        let major = self.binaries.major;
        let names = LOOKED_AT.into_iter().filter(|name| guc::known(major, name).is_ok());
        let reads = names.map(async |name| Ok((name, self.read_by_postgres(trial, name, configure).await?)));
        let values = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
        let (data_dir, bin_dir) = (self.node.data_dir.clone(), self.binaries.bin_dir.clone());
        let (control, libdir) = self.on_files(move || Ok((read_control(&data_dir)?, libdir_of(&bin_dir)))).await?;
        let candidate = Candidate {
            data_dir: PathBuf::from(&self.node.data_dir),
            libdir,
            values,
            wal_segment_size: control.map_or(0, |(control, _)| control.wal_segment_size.into()),
            senders_are_connections: major.dialect().senders_are_connections,
        };
        let Some(defect) = self.seat.blocking(move || candidate.defect()).await else { return Ok(()) };
        let failure = self.failure(format!("no server would start on the new `{CONF}`; the old one stays: {defect}"));
        Err(failure.with_remedy(defect.remedy))
    }

    /// Returns a parameter as PostgreSQL reads it from the candidate.
    async fn read_by_postgres(&self, trial: &str, name: &str, configure: &Configure) -> Result<String, Failure> {
        let config_file = format!("config_file={trial}");
        let mut args = vec!["-D", &self.node.data_dir, "-c", &config_file];
        // They stand in postgresql.auto.conf still, and the new values only win once they are reset.
        let reset = configure.reset.iter().flat_map(|reset| &reset.names);
        let reset: Vec<String> =
            reset.filter_map(|name| configure.settings.get(name).map(|value| format!("{name}={value}"))).collect();
        args.extend(reset.iter().flat_map(|setting| ["-c", setting]));
        args.extend(["-C", name]);
        let command = Command::new(self.program("postgres")).args(args).timeout(self.live.timeout);
        let output = command.output(&self.seat).await.map_err(|error| self.not_run(&error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned());
        }
        let lines = output.stderr_lines().into_iter().map(|line| line.replace(trial, &self.file(CONF))).collect();
        let failure = self.failure(format!("PostgreSQL does not take the new `{CONF}`; the old one stays"));
        Err(failure.with_output(lines).with_remedy("correct the parameter in the topology"))
    }
}

/// Returns the folder that `$libdir` stands for: known by a library that every build has there.
fn libdir_of(bin_dir: &str) -> Option<PathBuf> {
    let bin_dir = fs::canonicalize(bin_dir).ok()?;
    let layouts = ["lib", "lib/postgresql", "lib64", "lib64/postgresql", "lib/pgsql", "lib64/pgsql"];
    let folders = layouts.into_iter().map(|folder| bin_dir.join("..").join(folder));
    folders.into_iter().find(|folder| folder.join("libpqwalreceiver.so").is_file())
}
