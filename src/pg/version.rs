//! Major versions and the `Dialect` table: every difference between PostgreSQL 10 and 18 that pgpair knows.
//!
//! This is the only file that compares versions. Everything else asks a field of [`Dialect`], so that a
//! new major is a row here and no change elsewhere.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

/// A major version of PostgreSQL, 10 to 18.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Major(u32);

impl Major {
    /// The oldest major that pgpair knows.
    pub const OLDEST: Self = Self(10);
    /// The newest major that pgpair knows.
    pub const NEWEST: Self = Self(18);

    /// Returns the major with this number, if pgpair knows it.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        (Self::OLDEST.0..=Self::NEWEST.0).contains(&number).then_some(Self(number))
    }

    /// The number, as in `PG_VERSION`.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    /// Every known major, oldest first.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (Self::OLDEST.0..=Self::NEWEST.0).map(Self)
    }

    /// The long options of initdb that shape a cluster, and whether each takes a value.
    pub fn initdb_options(self) -> impl Iterator<Item = (&'static str, bool)> {
        since(self, &INITDB_OPTIONS).map(|(name, takes_value)| (*name, *takes_value))
    }

    /// The types of rule that pg_hba.conf knows.
    pub fn hba_types(self) -> impl Iterator<Item = &'static str> {
        since(self, &HBA_TYPES).copied()
    }

    /// The authentication methods that pg_hba.conf knows; some need a build with them.
    pub fn hba_methods(self) -> impl Iterator<Item = &'static str> {
        since(self, &HBA_METHODS).copied()
    }

    /// The facts of this major.
    #[must_use]
    pub fn dialect(self) -> Dialect {
        Dialect::of(self)
    }
}

impl fmt::Display for Major {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A number that is no major version pgpair knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PostgreSQL {0} is not supported: pgpair knows 10 to 18")]
pub struct UnknownMajor(pub String);

impl TryFrom<u32> for Major {
    type Error = UnknownMajor;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        Self::new(number).ok_or_else(|| UnknownMajor(number.to_string()))
    }
}

impl From<Major> for u32 {
    fn from(major: Major) -> Self {
        major.0
    }
}

/// Reads the text of a `PG_VERSION` file (`15\n`).
impl FromStr for Major {
    type Err = UnknownMajor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.trim().parse().ok().and_then(Self::new).ok_or_else(|| UnknownMajor(text.trim().to_owned()))
    }
}

/// Where the fact that a server is a standby is written, and its recovery settings with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandbyMode {
    /// 10, 11: `recovery.conf` holds all of it; its names are unknown in postgresql.conf.
    RecoveryConf,
    /// 12 and later: an empty `standby.signal`; the settings are ordinary parameters, and a
    /// `recovery.conf` stops the server from starting.
    SignalFile,
}

/// Where each field of `global/pg_control` lies, in bytes (the header `src/include/catalog/pg_control.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlLayout {
    /// `pg_control_version` that this layout belongs to.
    pub version: u32,
    pub redo: usize,
    pub timeline: usize,
    pub min_recovery_point: usize,
    pub min_recovery_timeline: usize,
    pub wal_log_hints: usize,
    pub wal_segment_size: usize,
    pub checksum_version: usize,
    /// The parameters that a standby must have at least as high as its primary, with the primary's values.
    pub floors: &'static [(&'static str, usize)],
    pub crc: usize,
}

/// What is different from one major to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    pub major: Major,
    pub standby_mode: StandbyMode,
    /// A change of `primary_conninfo` or `primary_slot_name` takes effect by a reload (13 and later).
    pub conninfo_reloads: bool,
    /// EXECUTE on four functions lets a replication role serve pg_rewind (11 and later; before, only a superuser can).
    pub rewind_by_grants: bool,
    /// initdb also writes `password_encryption` when `--auth-host` is scram-sha-256 (10 to 13).
    pub initdb_writes_password_encryption: bool,
    /// Minors before this one count walsenders in a role's CONNECTION LIMIT. It changed in February 2025: 10 to 12 saw
    /// no minor after that, and 18 never did.
    pub limits_walsenders_before_minor: u32,
    /// Walsenders take connections out of `max_connections` (10, 11; later they have their own).
    pub senders_are_connections: bool,
    /// The data directory may be readable by its group (11 and later: mode 0750).
    pub group_access: bool,
    /// The unit of `wal_segment_size` in pg_settings, in bytes (10: blocks of 8 kB; later: bytes).
    pub wal_segment_size_unit: u64,
    /// initdb turns data checksums on by itself (18).
    pub checksums_by_default: bool,
    /// Integers may have a fraction or an exponent, times the unit `us`, and reals any unit (12 and later).
    pub fractional_integers: bool,
    /// Sizes may have the unit `B` (11 and later).
    pub byte_unit: bool,
    pub control: ControlLayout,
}

impl Dialect {
    fn of(major: Major) -> Self {
        let n = major.0;
        Self {
            major,
            standby_mode: if n >= 12 { StandbyMode::SignalFile } else { StandbyMode::RecoveryConf },
            conninfo_reloads: n >= 13,
            rewind_by_grants: n >= 11,
            initdb_writes_password_encryption: n <= 13,
            limits_walsenders_before_minor: match n {
                ..=12 => u32::MAX,
                13 => 19,
                14 => 16,
                15 => 11,
                16 => 7,
                17 => 3,
                _ => 0,
            },
            senders_are_connections: n <= 11,
            group_access: n >= 11,
            wal_segment_size_unit: if n >= 11 { 1 } else { 8192 },
            checksums_by_default: n >= 18,
            fractional_integers: n >= 12,
            byte_unit: n >= 11,
            control: control_layout(n),
        }
    }

    /// Whether a server of this version (`15.8 (Debian 15.8-1)`) counts walsenders in a role's CONNECTION LIMIT; not
    /// where the minor is not known.
    #[must_use]
    pub fn limits_walsenders(&self, server_version: &str) -> bool {
        let number = server_version.split_whitespace().next().unwrap_or_default();
        let minor = number.split_once('.').and_then(|(_, minor)| minor.parse::<u32>().ok());
        minor.is_some_and(|minor| minor < self.limits_walsenders_before_minor)
    }
}

/// What there is in a major of a table whose rows begin with the major that brought them.
fn since<T>(major: Major, table: &'static [(u32, T)]) -> impl Iterator<Item = &'static T> {
    table.iter().filter(move |(first, _)| *first <= major.0).map(|(_, row)| row)
}

const INITDB_OPTIONS: [(u32, (&str, bool)); 22] = [
    (10, ("encoding", true)),
    (10, ("locale", true)),
    (10, ("lc-collate", true)),
    (10, ("lc-ctype", true)),
    (10, ("lc-messages", true)),
    (10, ("lc-monetary", true)),
    (10, ("lc-numeric", true)),
    (10, ("lc-time", true)),
    (10, ("no-locale", false)),
    (10, ("text-search-config", true)),
    (10, ("data-checksums", false)),
    (10, ("no-sync", false)),
    (11, ("allow-group-access", false)),
    (11, ("wal-segsize", true)),
    (14, ("no-instructions", false)),
    (15, ("locale-provider", true)),
    (15, ("icu-locale", true)),
    (16, ("icu-rules", true)),
    (17, ("builtin-locale", true)),
    (17, ("sync-method", true)),
    (18, ("no-data-checksums", false)),
    (18, ("no-sync-data-files", false)),
];

const HBA_TYPES: [(u32, &str); 6] =
    [(10, "local"), (10, "host"), (10, "hostssl"), (10, "hostnossl"), (12, "hostgssenc"), (12, "hostnogssenc")];

const HBA_METHODS: [(u32, &str); 15] = [
    (10, "trust"),
    (10, "reject"),
    (10, "scram-sha-256"),
    (10, "md5"),
    (10, "password"),
    (10, "peer"),
    (10, "ident"),
    (10, "cert"),
    (10, "gss"),
    (10, "sspi"),
    (10, "ldap"),
    (10, "radius"),
    (10, "pam"),
    (10, "bsd"),
    (18, "oauth"),
];

fn control_layout(major: u32) -> ControlLayout {
    let of_10 = ControlLayout {
        version: 1002,
        redo: 48,
        timeline: 56,
        min_recovery_point: 136,
        min_recovery_timeline: 144,
        wal_log_hints: 176,
        wal_segment_size: 228,
        checksum_version: 252,
        floors: &[
            ("max_connections", 180),
            ("max_worker_processes", 184),
            ("max_prepared_transactions", 188),
            ("max_locks_per_transaction", 192),
        ],
        crc: 288,
    };
    let of_11 = ControlLayout {
        version: 1100,
        redo: 40,
        timeline: 48,
        min_recovery_point: 128,
        min_recovery_timeline: 136,
        wal_log_hints: 168,
        wal_segment_size: 220,
        checksum_version: 244,
        floors: &[
            ("max_connections", 172),
            ("max_worker_processes", 176),
            ("max_prepared_transactions", 180),
            ("max_locks_per_transaction", 184),
        ],
        crc: 280,
    };
    let of_12 = ControlLayout {
        version: 1201,
        redo: 40,
        timeline: 48,
        floors: &[
            ("max_connections", 180),
            ("max_worker_processes", 184),
            ("max_wal_senders", 188),
            ("max_prepared_transactions", 192),
            ("max_locks_per_transaction", 196),
        ],
        ..of_10
    };
    match major {
        10 => of_10,
        11 => of_11,
        12 => of_12,
        13..=16 => ControlLayout { version: 1300, ..of_12 },
        17 => ControlLayout { version: 1700, ..of_12 },
        _ => ControlLayout { version: 1800, crc: 292, ..of_12 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_all_majors_is_as_recorded() {
        let rows: Vec<_> = Major::all().map(Major::dialect).collect();
        insta::assert_debug_snapshot!(rows);
    }

    #[test]
    fn walsenders_count_in_a_roles_limit_before_the_minors_of_february_2025() {
        for (version, limits) in [
            ("10.23", true),
            ("12.22", true),
            ("13.18", true),
            ("13.19", false),
            ("15.8 (Debian 15.8-0+deb12u1)", true),
            ("15.18 (Debian 15.18-0+deb12u1)", false),
            ("17.2", true),
            ("17.4", false),
            ("18.0", false),
            ("15", false),
            ("16beta1", false),
        ] {
            let major = Major(version[..2].parse().expect("a major"));
            assert_eq!(major.dialect().limits_walsenders(version), limits, "{version}");
        }
    }

    #[test]
    fn a_version_file_is_read_and_an_unknown_major_named() {
        assert_eq!("15\n".parse(), Ok(Major(15)));
        assert_eq!("9.6\n".parse::<Major>(), Err(UnknownMajor("9.6".into())));
        assert!("19".parse::<Major>().is_err());
    }
}
