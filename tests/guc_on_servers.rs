//! What pgpair knows of parameters, against real servers: `postgres -C` reads the same values as `guc`, and
//! the catalogue is that of the installed 15. Needs the servers that `scripts/postgres install` puts there.

use std::collections::BTreeMap;
use std::fs;
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use pgpair::pg::guc;
use pgpair::pg::guc::Kind;
use pgpair::pg::guc::Known;
use pgpair::pg::version::Major;
use tempfile::TempDir;

struct Server {
    major: Major,
    bin: PathBuf,
    /// A folder in /tmp that the server's user may read, with an empty postgresql.conf.
    folder: TempDir,
}

impl Server {
    fn of(major: u32) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/postgres");
        let path = Command::new(script).args(["path", &major.to_string()]).output().expect("scripts/postgres runs");
        assert!(path.status.success(), "{}", String::from_utf8_lossy(&path.stderr));
        let folder = TempDir::with_prefix_in("pgpair-guc-", "/tmp").expect("a folder in /tmp");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("a mode");
        fs::write(folder.path().join("postgresql.conf"), "").expect("a configuration");
        Self {
            major: Major::new(major).expect("a known major"),
            bin: PathBuf::from(String::from_utf8_lossy(&path.stdout).trim()),
            folder,
        }
    }

    /// A program of the server, to be run as user postgres if the tests run as root, whom it refuses.
    fn program(&self, name: &str) -> Command {
        let program = self.bin.join(name);
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir("/tmp").env("LC_ALL", "C");
        command
    }

    /// The value that the server makes of this text, or `None` if it refuses it.
    fn reads(&self, name: &str, text: &str) -> Option<String> {
        let output = self
            .program("postgres")
            .args(["-D", path(self.folder.path()), "-c", &format!("{name}={text}"), "-C", name])
            .output()
            .expect("postgres runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        let refused = stderr.contains("FATAL") && !stderr.contains("unrecognized configuration parameter");
        assert!(output.status.success() || refused, "{name} = {text:?} on {}: {stderr}", self.major);
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Every spelling of these parameters that the test asks for.
fn spellings() -> Vec<(&'static str, Vec<String>)> {
    let numbers = [
        "1",
        "64",
        "64.5",
        "65.5",
        "1.5",
        "0x40",
        "0100",
        "08",
        "1e3",
        "1e",
        ".5",
        "5.",
        "-1",
        "+7",
        " 70 ",
        "30.1",
        "1_000",
        "0x",
        "099.5",
        "2147483648",
        "9223372036854775808",
        "",
        "-",
        "1e400",
        "kB",
    ];
    let sizes = ["", "kB", " MB", "GB", "B ", "TB", "gb", "s"];
    let times = ["", "ms", " s", "min", "h ", "d", "us", "Min"];
    let numeric = [
        ("work_mem", sizes),
        ("shared_buffers", sizes),
        ("max_wal_size", sizes),
        ("track_activity_query_size", sizes),
        ("checkpoint_timeout", times),
        ("log_min_duration_statement", times),
        ("log_rotation_age", times),
        ("vacuum_cost_delay", times),
        ("seq_page_cost", times),
        ("max_connections", times),
    ];
    let mut spellings = Vec::new();
    for (shift, (name, units)) in numeric.into_iter().enumerate() {
        // Every third combination, a different third for the next parameter.
        let texts = numbers.iter().enumerate().flat_map(|(i, number)| {
            let chosen = units.iter().enumerate().filter(move |(j, _)| (i + j + shift) % 3 == 0);
            chosen.map(move |(_, unit)| format!("{number}{unit}"))
        });
        spellings.push((name, texts.collect()));
    }
    let words = [
        "on",
        "ON",
        "of",
        "o",
        "t",
        "true",
        "tr",
        "yes",
        "Y",
        "no",
        "1",
        "0",
        "2",
        "",
        " on",
        "off",
        "auto",
        "always",
        "try",
        "regress",
        "replica",
        "archive",
        "Hot_Standby",
        "debug",
        "debug2",
        "info",
        "fatal",
        "pglz",
        "md5",
        "partition",
        "safe_encoding",
        "local",
        "remote_apply",
        "TLSV1.2",
    ];
    for name in [
        "fsync",
        "wal_level",
        "synchronous_commit",
        "archive_mode",
        "huge_pages",
        "wal_compression",
        "password_encryption",
        "log_min_messages",
        "client_min_messages",
        "constraint_exclusion",
        "backslash_quote",
        "recovery_prefetch",
        "compute_query_id",
        "ssl_min_protocol_version",
    ] {
        spellings.push((name, words.map(String::from).to_vec()));
    }
    let own = ["0777", "511", "777", "0x1ff", "0o777", "0"];
    spellings.push(("unix_socket_permissions", own.map(String::from).to_vec()));
    let standbys = [
        "",
        " ",
        "a",
        "a,b",
        "a b",
        "a,",
        "FIRST 1 (a)",
        "first 2 (a, \"b\")",
        "ANY 1 (a)",
        "any",
        "ANY (a)",
        "0 (a)",
        "2 (a,b",
        "1,2",
        "*",
        "\"*\"",
        "pg-a",
        "\"pg-a\"",
        "a$1",
        "1a",
        "é",
        "\"a",
    ];
    spellings.push(("synchronous_standby_names", standbys.map(String::from).to_vec()));
    spellings
}

/// Values that the server shows as different texts though they mean the same, which `same` sees.
const SHOWN_AS_WRITTEN: &[&str] = &["synchronous_standby_names"];

fn the_server_reads_as_pgpair_does(major: u32) {
    let server = Server::of(major);
    let mut mistakes = Vec::new();
    for (name, texts) in spellings() {
        if guc::known(server.major, name).is_err() {
            continue;
        }
        let mut read: Vec<(String, String)> = Vec::new();
        for text in texts {
            let shown = server.reads(name, &text);
            if guc::check(server.major, name, &text).is_ok() != shown.is_some() {
                mistakes.push(format!("{name} = {text:?}: the server reads {shown:?}"));
            }
            read.extend(shown.map(|shown| (text, shown)));
        }
        for (text, shown) in &read {
            assert!(guc::same(server.major, name, text, shown), "{name} = {text:?} is shown as {shown}");
            for (other, other_shown) in &read {
                let same = guc::same(server.major, name, text, other);
                if same != (shown == other_shown) && !SHOWN_AS_WRITTEN.contains(&name) {
                    mistakes.push(format!("{name}: {text:?} is {shown}, {other:?} is {other_shown}; same says {same}"));
                }
            }
        }
    }
    assert!(mistakes.is_empty(), "on {major}:\n{}", mistakes.join("\n"));
}

#[test]
fn a_server_of_10_reads_values_as_pgpair_does() {
    the_server_reads_as_pgpair_does(10);
}

#[test]
fn a_server_of_15_reads_values_as_pgpair_does() {
    the_server_reads_as_pgpair_does(15);
}

#[test]
fn a_server_of_18_reads_values_as_pgpair_does() {
    the_server_reads_as_pgpair_does(18);
}

fn succeed(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_catalogue_is_that_of_the_installed_15() {
    let server = Server::of(15);
    // A folder that anyone may write, for the server's user to make its data directory in.
    fs::set_permissions(server.folder.path(), Permissions::from_mode(0o1777)).expect("a mode");
    let data = server.folder.path().join("data");
    let mut initdb = server.program("initdb");
    succeed(&initdb.args(["-N", "-A", "trust", "-D", path(&data)]).output().expect("initdb runs"));

    let mut postgres = server.program("postgres");
    postgres.args(["--single", "-D", path(&data), "template1"]);
    postgres.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut postgres = postgres.spawn().expect("postgres runs");
    let query = "copy (select '=', name, context, coalesce(unit, '') from pg_settings) to stdout\n";
    postgres.stdin.take().expect("its input").write_all(query.as_bytes()).expect("it reads");
    let output = postgres.wait_with_output().expect("postgres ends");
    succeed(&output);
    let listing = String::from_utf8_lossy(&output.stdout);
    let listed: BTreeMap<&str, (&str, &str)> = listing
        .lines()
        .filter_map(|line| line.trim_start_matches("backend> ").strip_prefix("=\t"))
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .filter_map(|fields| match fields[..] {
            // Debian's own, for the tests of its packages.
            ["extension_destdir", ..] => None,
            [name, context, unit] => Some((name, (context, unit))),
            _ => panic!("an unexpected line: {fields:?}"),
        })
        .collect();
    assert!(listed.len() > 300, "{listing}");

    let mut stale = Vec::new();
    for (name, (context, unit)) in listed {
        let known = match guc::known(server.major, name) {
            Ok(Known::Guc(guc)) => guc,
            other => {
                stale.push(format!("{name}: {other:?}"));
                continue;
            }
        };
        let known_unit = match known.kind {
            Kind::Integer { unit, .. } | Kind::Real { unit, .. } => unit.map_or("", |unit| unit.spelling()),
            Kind::Bool | Kind::Enum { .. } | Kind::String => "",
        };
        if Ok(known.context) != context.parse() || known_unit != unit {
            stale.push(format!("{name}: {context} {unit}, not {:?} {known_unit}", known.context));
        }
    }
    assert!(stale.is_empty(), "catalogue.tsv is out of date: run `scripts/catalogue`\n{}", stale.join("\n"));
}
