//! Configuration parameters (GUCs): which each major has, which values it takes, and which texts are one value.
//!
//! The facts are the catalogue (`catalogue.tsv`); the reading of values follows guc.c. Texts that only the
//! server's own check hooks can judge (`TimeZone`, `lc_messages`, ...) pass here.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

use crate::pg::version::Dialect;
use crate::pg::version::Major;

mod catalogue;
mod list;
mod value;

/// `pg_settings.context`: when a change takes effect, and who may make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Context {
    /// Fixed by the build or by initdb.
    Internal,
    /// At the start of the server.
    Postmaster,
    /// By a reload.
    Sighup,
    /// In new sessions; a superuser may set it for a session of their own.
    SuperuserBackend,
    /// In new sessions.
    Backend,
    /// By a reload; a superuser may set it for a session.
    Superuser,
    /// By a reload; anyone may set it for a session.
    User,
}

impl Context {
    /// Whether a change takes effect only when the server starts.
    #[must_use]
    pub fn needs_restart(self) -> bool {
        self == Self::Postmaster
    }
}

/// A text that is no context.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a context of pg_settings")]
pub struct UnknownContext(pub String);

/// Reads PostgreSQL's spelling.
impl FromStr for Context {
    type Err = UnknownContext;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "internal" => Ok(Self::Internal),
            "postmaster" => Ok(Self::Postmaster),
            "sighup" => Ok(Self::Sighup),
            "superuser-backend" => Ok(Self::SuperuserBackend),
            "backend" => Ok(Self::Backend),
            "superuser" => Ok(Self::Superuser),
            "user" => Ok(Self::User),
            _ => Err(UnknownContext(text.to_owned())),
        }
    }
}

/// The unit of a parameter's numbers, in which pg_settings shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Kilobytes,
    /// Blocks of 8 kB, as every usual build has them.
    Blocks,
    Megabytes,
    Milliseconds,
    Seconds,
    Minutes,
}

/// Spellings of sizes, in bytes.
const SIZES: [(&str, f64); 5] =
    [("TB", 1_099_511_627_776.0), ("GB", 1_073_741_824.0), ("MB", 1_048_576.0), ("kB", 1024.0), ("B", 1.0)];

/// Spellings of times, in microseconds.
const TIMES: [(&str, f64); 6] =
    [("d", 86_400e6), ("h", 3_600e6), ("min", 60e6), ("s", 1e6), ("ms", 1000.0), ("us", 1.0)];

impl Unit {
    const ALL: [Self; 7] =
        [Self::Bytes, Self::Kilobytes, Self::Blocks, Self::Megabytes, Self::Milliseconds, Self::Seconds, Self::Minutes];

    /// `pg_settings.unit`.
    #[must_use]
    pub fn spelling(self) -> &'static str {
        match self {
            Self::Bytes => "B",
            Self::Kilobytes => "kB",
            Self::Blocks => "8kB",
            Self::Megabytes => "MB",
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
            Self::Minutes => "min",
        }
    }

    /// The units that a value may have instead, largest first.
    fn family(self) -> &'static [(&'static str, f64)] {
        match self {
            Self::Bytes | Self::Kilobytes | Self::Blocks | Self::Megabytes => &SIZES,
            Self::Milliseconds | Self::Seconds | Self::Minutes => &TIMES,
        }
    }

    /// Its size in the measure of its family: bytes or microseconds.
    fn size(self) -> f64 {
        match self {
            Self::Bytes => 1.0,
            Self::Kilobytes => 1024.0,
            Self::Blocks => 8192.0,
            Self::Megabytes => 1_048_576.0,
            Self::Milliseconds => 1000.0,
            Self::Seconds => 1e6,
            Self::Minutes => 60e6,
        }
    }
}

/// The type of a parameter, with what limits its values. The bounds are in its unit.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Bool,
    Integer {
        unit: Option<Unit>,
        min: i32,
        max: i32,
    },
    Real {
        unit: Option<Unit>,
        min: f64,
        max: f64,
    },
    Enum {
        values: Vec<&'static str>,
        /// Spellings that the server takes too, with the value they mean.
        aliases: Vec<(&'static str, &'static str)>,
    },
    String,
}

/// A built-in parameter, as one major has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Guc {
    /// In PostgreSQL's own case (`DateStyle`).
    pub name: &'static str,
    pub kind: Kind,
    pub context: Context,
    /// The value without any configuration; `None` if it is NULL or the build chooses it.
    pub boot: Option<&'static str>,
}

/// What a name is to a major.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Known {
    /// A built-in parameter.
    Guc(&'static Guc),
    /// A name with a dot: an extension's parameter, whose value nothing checks.
    Custom,
    /// A name of recovery.conf (10 and 11), unknown in postgresql.conf.
    RecoveryConf,
}

/// Names that the server itself replaces (guc.c, `map_old_guc_names`).
const OLD_NAMES: [(&str, &str); 3] =
    [("sort_mem", "work_mem"), ("vacuum_mem", "maintenance_work_mem"), ("ssl_ecdh_curve", "ssl_groups")];

/// Names that one major has and another has under a different name, the older first.
const SUCCESSORS: [(&str, &str); 7] = [
    ("checkpoint_segments", "max_wal_size"),
    ("unix_socket_directory", "unix_socket_directories"),
    ("trigger_file", "promote_trigger_file"),
    ("wal_keep_segments", "wal_keep_size"),
    ("force_parallel_mode", "debug_parallel_query"),
    ("logical_replication_mode", "debug_logical_replication_streaming"),
    ("ssl_ecdh_curve", "ssl_groups"),
];

/// Looks a name up, in any case.
///
/// # Errors
///
/// When this major has no such parameter.
pub fn known(major: Major, name: &str) -> Result<Known, UnknownName> {
    match row(major, name) {
        Some(row) if row.recovery_conf => Ok(Known::RecoveryConf),
        Some(row) => Ok(Known::Guc(&row.guc)),
        None if is_custom(name) => Ok(Known::Custom),
        None => Err(UnknownName::new(major, name)),
    }
}

/// Lists what a major knows by name: its parameters and, in 10 and 11, the names of recovery.conf.
pub fn all(major: Major) -> impl Iterator<Item = &'static Guc> {
    catalogue::all(major).map(|row| &row.guc)
}

/// The names that the server itself replaces, each with the name that takes its place.
pub fn old_names() -> impl Iterator<Item = (&'static str, &'static str)> {
    OLD_NAMES.into_iter()
}

/// The context of a built-in parameter or of a name of recovery.conf.
#[must_use]
pub fn context(major: Major, name: &str) -> Option<Context> {
    row(major, name).map(|row| row.guc.context)
}

fn row(major: Major, name: &str) -> Option<&'static catalogue::Row> {
    catalogue::row(major, name).or_else(|| {
        let (_, new) = OLD_NAMES.into_iter().find(|(old, _)| old.eq_ignore_ascii_case(name))?;
        catalogue::row(major, new)
    })
}

/// Whether this is two words with a dot, as the configuration files' grammar has them.
fn is_custom(name: &str) -> bool {
    let starts_word = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
    let is_word =
        |word: &str| word.starts_with(starts_word) && word.chars().all(|c| starts_word(c) || c.is_ascii_digit());
    name.split_once('.').is_some_and(|(class, rest)| is_word(class) && is_word(rest))
}

/// A name that a major does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct UnknownName {
    pub name: String,
    pub major: Major,
    /// The parameter of this major with the most similar name, when one is similar enough to be meant.
    pub suggestion: Option<&'static str>,
    /// The majors that have it.
    pub other_majors: Vec<Major>,
    /// The parameter that stands for it in this major.
    pub replaced_by: Option<&'static str>,
}

impl UnknownName {
    fn new(major: Major, name: &str) -> Self {
        let replaced_by = SUCCESSORS.into_iter().find_map(|(old, new)| {
            let other = match name.to_ascii_lowercase() {
                name if name == old => new,
                name if name == new => old,
                _ => return None,
            };
            catalogue::row(major, other).map(|row| row.guc.name)
        });
        Self {
            name: name.to_owned(),
            major,
            suggestion: suggestion(major, name),
            other_majors: catalogue::majors(name),
            replaced_by,
        }
    }
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL {} has no parameter `{}`", self.major, self.name)?;
        let here = match &self.other_majors[..] {
            [] => String::new(),
            [only] => format!("only {only} has it"),
            [one, other] => format!("{one} and {other} have it"),
            [first, .., last] => format!("{first} to {last} have it"),
        };
        match (self.replaced_by, self.suggestion) {
            (Some(counterpart), _) if here.is_empty() => write!(f, ": use `{counterpart}`"),
            (Some(counterpart), _) => write!(f, ": {here}; use `{counterpart}`"),
            (None, _) if !here.is_empty() => write!(f, ": {here}"),
            (None, Some(similar)) => write!(f, ": did you mean `{similar}`?"),
            (None, None) => Ok(()),
        }
    }
}

fn suggestion(major: Major, name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let tolerated = (1 + name.len() / 8).min(3);
    catalogue::all(major)
        .filter(|row| row.guc.name.len().abs_diff(name.len()) <= tolerated)
        .map(|row| (distance(&name, &row.guc.name.to_ascii_lowercase()), row.guc.name))
        .filter(|&(distance, _)| distance <= tolerated)
        .min()
        .map(|(_, name)| name)
}

/// The number of insertions, deletions, replacements and swaps of neighbours between two words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut line = vec![i];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(above[j] + 1).min(line[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            line.push(least);
        }
        before = std::mem::replace(&mut above, line);
    }
    above[b.len()]
}

/// A value that a major does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PostgreSQL {major} does not take `{value}` for `{name}`: {wanted}")]
pub struct BadValue {
    pub name: String,
    pub major: Major,
    pub value: String,
    /// What it takes: type, range, units, enum values.
    pub wanted: String,
}

/// Checks that a major takes this value for this parameter.
///
/// A value of a name that isn't in the catalogue passes: [`known`] judges names.
///
/// # Errors
///
/// When the server would refuse to start with it.
pub fn check(major: Major, name: &str, value: &str) -> Result<(), BadValue> {
    let Some(row) = row(major, name) else { return Ok(()) };
    let bad = |wanted| BadValue { name: name.to_owned(), major, value: value.to_owned(), wanted };
    if row.guc.context == Context::Internal {
        return Err(bad("the build or initdb fixes it, configuration can't set it".to_owned()));
    }
    let dialect = major.dialect();
    let good = match row.guc.kind {
        Kind::Bool | Kind::Integer { .. } | Kind::Real { .. } | Kind::Enum { .. } => {
            value::read(&dialect, &row.guc.kind, value).is_some()
        }
        Kind::String => text_is_good(row.guc.name, value),
    };
    if good { Ok(()) } else { Err(bad(wanted(&dialect, &row.guc))) }
}

/// What a major takes for a parameter, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// In PostgreSQL's own case.
    pub name: &'static str,
    pub values: String,
    /// `None` if it is NULL or the build chooses it.
    pub default: Option<&'static str>,
    pub context: Context,
}

/// Returns what a major takes for a parameter; `None`: it does not know the name.
#[must_use]
pub fn taken(major: Major, name: &str) -> Option<Taken> {
    let guc = &row(major, name)?.guc;
    let is_free = guc.kind == Kind::String && guc.name != "synchronous_standby_names";
    let values = if is_free { "a text".to_owned() } else { wanted(&major.dialect(), guc) };
    let values = values.strip_prefix("it takes ").unwrap_or(&values).to_owned();
    Some(Taken { name: guc.name, values, default: guc.boot, context: guc.context })
}

/// Judges the texts whose refusal would cost a pair its replication.
fn text_is_good(name: &str, text: &str) -> bool {
    match name {
        "synchronous_standby_names" => list::meaning(name, text).is_some(),
        // 13 and later refuse a name that no slot can have; before, only the walreceiver fails, again and again.
        "primary_slot_name" => {
            text.len() < 64 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        }
        _ => true,
    }
}

/// Writes a bound without its three hundred digits.
fn short(bound: f64) -> String {
    if bound.abs() < 1e10 { bound.to_string() } else { format!("{bound:e}") }
}

/// Says what a parameter takes.
fn wanted(dialect: &Dialect, guc: &Guc) -> String {
    let number = |what: &str, min: &dyn fmt::Display, max: &dyn fmt::Display, unit: Option<Unit>| {
        let range = format!("it takes {what} from {min} to {max}");
        let Some(unit) = unit else { return range };
        let units: Vec<_> = value::units(dialect, unit).map(|(spelling, _)| spelling).collect();
        format!("{range} in {}, or with one of the units {}", unit.spelling(), units.join(", "))
    };
    match &guc.kind {
        Kind::Bool => "it takes on or off".to_owned(),
        Kind::Integer { unit, min, max } if dialect.fractional_integers => number("a number", min, max, *unit),
        Kind::Integer { unit, min, max } => number("a whole number", min, max, *unit),
        Kind::Real { unit, min, max } => number("a number", &short(*min), &short(*max), *unit),
        Kind::Enum { values, .. } => format!("it takes one of {}", values.join(", ")),
        Kind::String if guc.name == "primary_slot_name" => {
            "a slot's name has at most 63 lower-case letters, digits and underscores".to_owned()
        }
        Kind::String => "it takes a list of names, which `FIRST n (...)` or `ANY n (...)` may enclose".to_owned(),
    }
}

/// The number that an integer parameter has by this text, in the parameter's unit.
///
/// `None` for parameters of other types, unknown names, and texts that the server would refuse.
#[must_use]
pub fn integer(major: Major, name: &str, text: &str) -> Option<i32> {
    match value::read(&major.dialect(), &row(major, name)?.guc.kind, text)? {
        value::Value::Integer(number) => Some(number),
        value::Value::Bool(_) | value::Value::Real(_) | value::Value::Enum(_) => None,
    }
}

/// The value of a built-in parameter without any configuration; `None` if it is NULL or the build chooses it.
#[must_use]
pub fn boot(major: Major, name: &str) -> Option<&'static str> {
    row(major, name)?.guc.boot
}

/// Returns the elements of a list parameter's text; `None` for other parameters and for text that can't be read.
#[must_use]
pub fn elements(name: &str, text: &str) -> Option<Vec<String>> {
    list::meaning(name, text)
}

/// Whether two texts are the same value to this major: `1GB` and `1024MB`, `on` and `true`, `a,b` and `a, b`.
///
/// Texts that the server would refuse, and values of unknown names, are compared as they are.
#[must_use]
pub fn same(major: Major, name: &str, a: &str, b: &str) -> bool {
    let Some(row) = row(major, name) else { return a == b };
    let (name, kind) = (row.guc.name, &row.guc.kind);
    let dialect = major.dialect();
    // `log_connections` is a list in 18 and a boolean before.
    if *kind == Kind::String {
        return a == b || list::meaning(name, a).is_some_and(|meaning| list::meaning(name, b) == Some(meaning));
    }
    match (value::read(&dialect, kind, a), value::read(&dialect, kind, b)) {
        (Some(a), Some(b)) => value::same(a, b),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn major(number: u32) -> Major {
        Major::new(number).expect("a known major")
    }

    /// Parameter, two texts, and for each major from 10 to 18: `S` the same value, `D` different values,
    /// `E` one of them is refused, `-` no such parameter. Verified on servers (`postgres -C`).
    const PAIRS: &[(&str, &str, &str, &str)] = &[
        ("work_mem", "4MB", "4096", "SSSSSSSSS"),
        ("work_mem", "4MB", "4096kB", "SSSSSSSSS"),
        ("work_mem", "4MB", "0x1000", "SSSSSSSSS"),
        ("work_mem", "4MB", "010000", "SSSSSSSSS"),
        ("work_mem", "4MB", "4 MB", "SSSSSSSSS"),
        ("work_mem", "1GB", "1gb", "EEEEEEEEE"),
        ("work_mem", "1.5MB", "1536kB", "EESSSSSSS"),
        ("work_mem", "64.5", "64", "EESSSSSSS"),
        ("work_mem", "65.5", "66", "EESSSSSSS"),
        ("work_mem", "1e3", "1000", "EESSSSSSS"),
        ("work_mem", "1000000B", "977kB", "EDSSSSSSS"),
        ("work_mem", "1000000B", "976kB", "ESDDDDDDD"),
        ("work_mem", "30.1GB", "30822MB", "EESSSSSSS"),
        ("shared_buffers", "131071kB", "128MB", "DDSSSSSSS"),
        ("shared_buffers", "0.125GB", "128MB", "EESSSSSSS"),
        ("wal_buffers", "100kB", "13", "DDDDDDDDD"),
        ("wal_buffers", "100kB", "12", "SSSSSSSSS"),
        ("wal_buffers", "-1", "16MB", "DDDDDDDDD"),
        ("max_wal_size", "1GB", "1024", "SSSSSSSSS"),
        ("max_wal_size", "1GB", "1048576kB", "SSSSSSSSS"),
        ("max_wal_size", "1500000kB", "1464MB", "SSDDDDDDD"),
        ("max_slot_wal_keep_size", "-1", "0", "---DDDDDD"),
        ("checkpoint_timeout", "5min", "300", "SSSSSSSSS"),
        ("checkpoint_timeout", "5min", "300s", "SSSSSSSSS"),
        ("checkpoint_timeout", "5min", "5 min", "SSSSSSSSS"),
        ("checkpoint_timeout", "5min", "300000ms", "SSSSSSSSS"),
        ("checkpoint_timeout", "5min", "300500ms", "SSSSSSSSS"),
        ("checkpoint_timeout", "5Min", "5min", "EEEEEEEEE"),
        ("checkpoint_timeout", "1d", "24h", "SSSSSSSSS"),
        ("checkpoint_timeout", "0.5h", "30min", "EESSSSSSS"),
        ("log_min_duration_statement", "1s", "1000", "SSSSSSSSS"),
        ("log_min_duration_statement", "1000us", "1", "EESSSSSSS"),
        ("log_min_duration_statement", "-1", "off", "EEEEEEEEE"),
        ("vacuum_cost_delay", "0.5", "500us", "EESSSSSSS"),
        ("max_connections", "100", "+100", "SSSSSSSSS"),
        ("max_connections", "100", " 100 ", "SSSSSSSSS"),
        ("max_connections", "100", "100.4", "EESSSSSSS"),
        ("max_connections", "100", "1e2", "EESSSSSSS"),
        ("track_activity_query_size", "1kB", "1024", "ESSSSSSSS"),
        ("fsync", "on", "ON", "SSSSSSSSS"),
        ("fsync", "on", "true", "SSSSSSSSS"),
        ("fsync", "on", "t", "SSSSSSSSS"),
        ("fsync", "on", "tr", "SSSSSSSSS"),
        ("fsync", "on", "yes", "SSSSSSSSS"),
        ("fsync", "on", "1", "SSSSSSSSS"),
        ("fsync", "on", "o", "EEEEEEEEE"),
        ("fsync", "on", " on ", "EEEEEEEEE"),
        ("fsync", "on", "2", "EEEEEEEEE"),
        ("synchronous_commit", "on", "true", "SSSSSSSSS"),
        ("synchronous_commit", "on", "1", "SSSSSSSSS"),
        ("synchronous_commit", "on", "ON", "SSSSSSSSS"),
        ("synchronous_commit", "on", "t", "EEEEEEEEE"),
        ("wal_level", "replica", "archive", "SSSSSSSSS"),
        ("wal_level", "replica", "hot_standby", "SSSSSSSSS"),
        ("wal_level", "replica", "REPLICA", "SSSSSSSSS"),
        ("wal_compression", "on", "pglz", "EEEEESSSS"),
        ("password_encryption", "on", "md5", "SSSSEEEEE"),
        ("checkpoint_completion_target", "0.9", ".9", "SSSSSSSSS"),
        ("checkpoint_completion_target", "0.9", "0.90", "SSSSSSSSS"),
        ("checkpoint_completion_target", "0.9", "9e-1", "SSSSSSSSS"),
        ("unix_socket_permissions", "0777", "511", "SSSSSSSSS"),
        ("unix_socket_permissions", "0777", "777", "EEEEEEEEE"),
        ("synchronous_standby_names", "a,b", "a, b", "SSSSSSSSS"),
        ("synchronous_standby_names", "FIRST 1 (a,b)", "1 (a,b)", "SSSSSSSSS"),
        ("synchronous_standby_names", "a", "\"a\"", "SSSSSSSSS"),
        ("synchronous_standby_names", "first 1 (a, b)", "A,B", "SSSSSSSSS"),
        ("synchronous_standby_names", "a,b", "b,a", "DDDDDDDDD"),
        ("synchronous_standby_names", "ANY 1 (a,b)", "any 1 (b,a)", "SSSSSSSSS"),
        ("synchronous_standby_names", "ANY 1 (a,b)", "a,b", "DDDDDDDDD"),
        ("synchronous_standby_names", "", "*", "DDDDDDDDD"),
        ("synchronous_standby_names", "a", "a,", "EEEEEEEEE"),
        ("synchronous_standby_names", "a", "pg-a", "EEEEEEEEE"),
        ("synchronous_standby_names", "a", "0 (a)", "EEEEEEEEE"),
        ("shared_preload_libraries", "a,b", "a, b", "SSSSSSSSS"),
        ("shared_preload_libraries", "a,b", "\"a,b\"", "DDDDDDDDD"),
        ("shared_preload_libraries", "a,b", "b,a", "DDDDDDDDD"),
        ("log_destination", "stderr,csvlog", "csvlog,stderr", "SSSSSSSSS"),
        ("log_destination", "stderr,csvlog", "STDERR,csvlog", "SSSSSSSSS"),
        ("DateStyle", "iso, mdy", "ISO, MDY", "SSSSSSSSS"),
        ("DateStyle", "iso, mdy", "iso", "SSSSSSSSS"),
        ("DateStyle", "iso, mdy", "iso, dmy", "DDDDDDDDD"),
        ("TimeZone", "UTC", "Etc/UTC", "DDDDDDDDD"),
        ("recovery_target_timeline", "latest", "LATEST", "DDDDDDDDD"),
        ("primary_slot_name", "a", "A", "EEEEEEEEE"),
        ("ssl_min_protocol_version", "tlsv1.2", "TLSv1.2", "--SSSSSSS"),
        ("log_connections", "on", "true", "SSSSSSSSS"),
        ("log_connections", "on", "1", "SSSSSSSSS"),
        ("log_connections", "receipt,authentication, authorization", "on", "EEEEEEEES"),
        ("recovery_min_apply_delay", "1min", "60000", "SSSSSSSSS"),
        ("standby_mode", "on", "true", "SS-------"),
        ("sort_mem", "1MB", "1024", "SSSSSSSSS"),
        ("cluster_name", "a", " a", "DDDDDDDDD"),
    ];

    #[test]
    fn two_spellings_are_one_value_exactly_where_the_server_says_so() {
        for &(name, a, b, verdicts) in PAIRS {
            for (major, verdict) in Major::all().zip(verdicts.chars()) {
                let case = format!("{name} = {a:?} and {b:?} on {major}");
                assert_eq!(known(major, name).is_ok(), verdict != '-', "{case}");
                let taken = check(major, name, a).is_ok() && check(major, name, b).is_ok();
                match verdict {
                    'S' | 'D' => {
                        assert!(taken, "{case}");
                        assert_eq!(same(major, name, a, b), verdict == 'S', "{case}");
                        assert_eq!(same(major, name, b, a), verdict == 'S', "{case}, turned round");
                    }
                    'E' => assert!(!taken, "{case}"),
                    '-' => {}
                    other => panic!("{other} is no verdict"),
                }
            }
        }
    }

    #[test]
    fn a_value_that_is_refused_is_the_same_as_no_good_one() {
        assert!(check(major(17), "log_connections", "on ").is_err());
        assert!(!same(major(17), "log_connections", "on", "on "));
        assert!(same(major(18), "log_connections", "on", "on "));
    }

    #[test]
    fn every_default_is_taken_and_equal_to_itself() {
        for major in Major::all() {
            for row in catalogue::all(major).filter(|row| row.guc.context != Context::Internal) {
                let Some(boot) = row.guc.boot else { continue };
                assert_eq!(check(major, row.guc.name, boot), Ok(()));
                assert!(same(major, row.guc.name, boot, boot), "{} on {major}", row.guc.name);
            }
        }
    }

    #[test]
    fn every_major_has_as_many_parameters_as_its_server_lists() {
        let of_settings = |major: Major| {
            let unlisted = ["is_superuser", "session_authorization", "role", "seed"];
            let hidden = |name| unlisted.contains(&name) || (name == "default_with_oids" && major.number() >= 12);
            catalogue::all(major).filter(|row| !row.recovery_conf && !hidden(row.guc.name)).count()
        };
        let counts: Vec<_> = Major::all().map(of_settings).collect();
        assert_eq!(counts, [271, 291, 316, 331, 346, 353, 362, 378, 398]);
    }

    #[test]
    fn the_majors_that_have_a_parameter_are_neighbours() {
        for row in Major::all().flat_map(catalogue::all) {
            let majors = catalogue::majors(row.guc.name);
            let span = majors[0].number()..=majors[majors.len() - 1].number();
            assert_eq!(span.count(), majors.len(), "{}", row.guc.name);
        }
    }

    #[test]
    fn a_name_is_known_in_any_case_and_by_its_old_name() {
        for (name, canonical) in [("WORK_MEM", "work_mem"), ("datestyle", "DateStyle"), ("Sort_Mem", "work_mem")] {
            let Ok(Known::Guc(guc)) = known(major(15), name) else { panic!("{name} is unknown") };
            assert_eq!(guc.name, canonical);
        }
    }

    #[test]
    fn a_name_of_recovery_conf_is_an_ordinary_parameter_from_12_on() {
        for name in ["primary_conninfo", "recovery_target_timeline", "restore_command", "recovery_min_apply_delay"] {
            assert_eq!(known(major(10), name), Ok(Known::RecoveryConf));
            assert_eq!(known(major(11), name), Ok(Known::RecoveryConf));
            assert!(matches!(known(major(12), name), Ok(Known::Guc(_))));
        }
        assert_eq!(known(major(11), "standby_mode"), Ok(Known::RecoveryConf));
        assert!(known(major(12), "standby_mode").is_err());
    }

    #[test]
    fn only_two_words_with_a_dot_are_an_extensions_parameter() {
        assert_eq!(known(major(15), "pg_stat_statements.max"), Ok(Known::Custom));
        for name in ["a.b.c", ".a", "a.", "a.1", "a.b-c", "a b"] {
            assert!(known(major(15), name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_context_follows_the_major() {
        assert_eq!(context(major(12), "primary_conninfo"), Some(Context::Postmaster));
        assert_eq!(context(major(13), "primary_conninfo"), Some(Context::Sighup));
        assert_eq!(context(major(15), "log_disconnections"), Some(Context::SuperuserBackend));
        assert_eq!(context(major(15), "my.own"), None);
    }

    #[test]
    fn an_unknown_name_comes_with_where_it_went_or_what_was_meant() {
        let say = |number, name| known(major(number), name).expect_err("an unknown name").to_string();
        let said = [
            say(15, "wal_keep_segments"),
            say(12, "wal_keep_size"),
            say(16, "promote_trigger_file"),
            say(12, "standby_mode"),
            say(11, "summarize_wal"),
            say(15, "work_men"),
            say(15, "shard_bufers"),
            say(15, "checkpoint_segments"),
            say(15, "nonsense"),
            say(15, ""),
        ];
        insta::assert_snapshot!(said.join("\n"));
    }

    #[test]
    fn a_refused_value_comes_with_what_the_parameter_takes() {
        let say = |number, name, value| check(major(number), name, value).expect_err("a bad value").to_string();
        let said = [
            say(10, "work_mem", "1.5GB"),
            say(15, "work_mem", "1gb"),
            say(15, "port", "99999"),
            say(11, "checkpoint_timeout", "1us"),
            say(15, "vacuum_cost_delay", "1h"),
            say(15, "seq_page_cost", "-1"),
            say(15, "fsync", "o"),
            say(15, "wal_level", "high"),
            say(15, "block_size", "8192"),
            say(15, "primary_slot_name", "Pg-A"),
            say(15, "synchronous_standby_names", "2 pg_a"),
        ];
        insta::assert_snapshot!(said.join("\n"));
    }

    #[test]
    fn an_integer_is_read_in_its_unit_and_everything_else_is_none() {
        let read = |number, name, text| integer(major(number), name, text);
        assert_eq!(read(15, "max_connections", "0x64"), Some(100));
        assert_eq!(read(15, "max_slot_wal_keep_size", "1GB"), Some(1024));
        assert_eq!(read(15, "max_slot_wal_keep_size", "-1"), Some(-1));
        assert_eq!(read(12, "max_slot_wal_keep_size", "1GB"), None);
        assert_eq!(read(15, "max_connections", "many"), None);
        assert_eq!(read(15, "wal_log_hints", "1"), None);
        assert_eq!(boot(major(10), "max_wal_senders"), Some("10"));
        assert_eq!(boot(major(12), "max_slot_wal_keep_size"), None);
    }

    #[test]
    fn a_context_reads_and_serialises_as_postgresql_spells_it() {
        for text in ["internal", "postmaster", "sighup", "superuser-backend", "backend", "superuser", "user"] {
            let context: Context = text.parse().expect("a context");
            assert_eq!(serde_json::to_value(context).expect("JSON"), text);
        }
        assert_eq!("boss".parse::<Context>(), Err(UnknownContext("boss".into())));
    }

    /// A parameter of the catalogue, a text near to what values look like, or any text.
    fn name() -> impl Strategy<Value = String> {
        let names: Vec<_> = Major::all().flat_map(catalogue::all).map(|row| row.guc.name.to_owned()).collect();
        prop_oneof![9 => proptest::sample::select(names), 1 => any::<String>()]
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![r"[-+ 0-9.xXeE]{0,8} ?(kB|MB|TB|B|ms|s|min|us|d)?", "[a-zA-Z0-9_(),\"* é]{0,20}", any::<String>()]
    }

    proptest! {
        #[test]
        fn any_text_is_judged_and_compared(number in 10u32..=18, name in name(), a in text(), b in text()) {
            let major = major(number);
            let _ = known(major, &name).map_err(|unknown| unknown.to_string());
            let _ = check(major, &name, &a).map_err(|bad| bad.to_string());
            prop_assert!(same(major, &name, &a, &a));
            prop_assert_eq!(same(major, &name, &a, &b), same(major, &name, &b, &a));
        }
    }
}
