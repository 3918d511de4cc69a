//! `global/pg_control`: what a data directory says of itself without a server.
//!
//! Read in its binary form, by the layout of the directory's own major version: another version's
//! pg_controldata can print garbage without a warning.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use crate::pg::crc32c::crc32c;
use crate::pg::lsn::Lsn;
use crate::pg::lsn::Timeline;
use crate::pg::version::Major;

/// The file's whole length.
pub const SIZE: usize = 8192;

/// What was last written of the cluster's state; after a crash it stays what it was while the server ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlState {
    StartingUp,
    ShutDown,
    ShutDownInRecovery,
    ShuttingDown,
    InCrashRecovery,
    InArchiveRecovery,
    InProduction,
}

impl ControlState {
    fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::StartingUp,
            1 => Self::ShutDown,
            2 => Self::ShutDownInRecovery,
            3 => Self::ShuttingDown,
            4 => Self::InCrashRecovery,
            5 => Self::InArchiveRecovery,
            6 => Self::InProduction,
            _ => return None,
        })
    }

    /// Whether a primary's shutdown has begun, or is over.
    #[must_use]
    pub fn is_going_down(self) -> bool {
        match self {
            Self::ShuttingDown | Self::ShutDown => true,
            Self::StartingUp
            | Self::ShutDownInRecovery
            | Self::InCrashRecovery
            | Self::InArchiveRecovery
            | Self::InProduction => false,
        }
    }

    /// Whether the directory was last written by a standby: without its standby files it would come up as a
    /// second primary on the same timeline.
    #[must_use]
    pub fn was_standby(self) -> bool {
        match self {
            Self::ShutDownInRecovery | Self::InArchiveRecovery => true,
            Self::StartingUp | Self::ShutDown | Self::ShuttingDown | Self::InCrashRecovery | Self::InProduction => {
                false
            }
        }
    }
}

/// As pg_controldata prints it.
impl fmt::Display for ControlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StartingUp => "starting up",
            Self::ShutDown => "shut down",
            Self::ShutDownInRecovery => "shut down in recovery",
            Self::ShuttingDown => "shutting down",
            Self::InCrashRecovery => "in crash recovery",
            Self::InArchiveRecovery => "in archive recovery",
            Self::InProduction => "in production",
        })
    }
}

/// The fields of pg_control that pgpair uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    pub system_identifier: u64,
    pub state: ControlState,
    /// Where the last checkpoint's record begins.
    pub checkpoint: Lsn,
    /// The timeline of the last checkpoint; behind the running one for a while after a promotion.
    pub timeline: Timeline,
    pub min_recovery_point: Lsn,
    /// 0 where there is no such point.
    pub min_recovery_timeline: Timeline,
    pub wal_log_hints: bool,
    pub checksums: bool,
    /// In bytes.
    pub wal_segment_size: u32,
    /// The primary's values of the parameters that a standby must have at least as high, by name; of a standby those
    /// that it has replayed.
    pub floors: BTreeMap<String, u32>,
}

/// Why a pg_control can't be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadControl {
    /// A clone copies it last, so a short one is an unfinished clone.
    #[error("global/pg_control has {0} bytes, not 8192")]
    Size(usize),
    #[error("global/pg_control is of version {found}, not {expected}, the version of PostgreSQL {major}")]
    Version { found: u32, expected: u32, major: Major },
    /// Also what a read sees while the server writes: read again before it is believed.
    #[error("global/pg_control is damaged: its checksum is wrong")]
    Checksum,
    #[error("global/pg_control is damaged: unknown state {0}")]
    State(u32),
}

impl Control {
    /// Reads pg_control of a little-endian machine.
    ///
    /// # Errors
    ///
    /// [`BadControl`] unless length, version, checksum and state are right.
    pub fn parse(bytes: &[u8], major: Major) -> Result<Self, BadControl> {
        if bytes.len() != SIZE {
            return Err(BadControl::Size(bytes.len()));
        }
        let layout = major.dialect().control;
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let found = u32_at(8);
        if found != layout.version {
            return Err(BadControl::Version { found, expected: layout.version, major });
        }
        if crc32c(&bytes[..layout.crc]) != u32_at(layout.crc) {
            return Err(BadControl::Checksum);
        }
        let state = u32_at(16);
        Ok(Self {
            system_identifier: u64_at(0),
            state: ControlState::from_number(state).ok_or(BadControl::State(state))?,
            checkpoint: Lsn(u64_at(32)),
            timeline: Timeline(u32_at(layout.timeline)),
            min_recovery_point: Lsn(u64_at(layout.min_recovery_point)),
            min_recovery_timeline: Timeline(u32_at(layout.min_recovery_timeline)),
            wal_log_hints: bytes[layout.wal_log_hints] != 0,
            checksums: u32_at(layout.checksum_version) != 0,
            wal_segment_size: u32_at(layout.wal_segment_size),
            floors: layout.floors.iter().map(|(name, at)| ((*name).to_owned(), u32_at(*at))).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A control file of each major, as its layout has it.
    fn sample(major: Major) -> Vec<u8> {
        let layout = major.dialect().control;
        let mut bytes = vec![0; SIZE];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &7_446_744_073_709_551_615_u64.to_le_bytes());
        put(8, &layout.version.to_le_bytes());
        put(16, &6_u32.to_le_bytes());
        put(32, &0x0300_A9E0_u64.to_le_bytes());
        put(layout.timeline, &3_u32.to_le_bytes());
        put(layout.wal_log_hints, &[1]);
        for (number, (_, at)) in (1_u32..).zip(layout.floors) {
            put(*at, &number.to_le_bytes());
        }
        put(layout.wal_segment_size, &(16_u32 << 20).to_le_bytes());
        let crc = crc32c(&bytes[..layout.crc]);
        bytes[layout.crc..layout.crc + 4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn the_fields_of_every_major_are_found() {
        for major in Major::all() {
            let control = Control::parse(&sample(major), major).expect("a good file");
            assert_eq!(control.system_identifier, 7_446_744_073_709_551_615);
            assert_eq!(control.state, ControlState::InProduction);
            assert_eq!(control.timeline, Timeline(3));
            assert!(control.wal_log_hints && !control.checksums);
            assert_eq!(control.wal_segment_size, 16 << 20);
            assert_eq!(control.floors["max_connections"], 1);
            assert_eq!(control.floors.len(), major.dialect().control.floors.len());
        }
    }

    #[test]
    fn an_unfinished_foreign_or_torn_file_is_refused() {
        let [old, new] = [15, 18].map(|number| Major::new(number).expect("known"));
        assert_eq!(Control::parse(&[], old), Err(BadControl::Size(0)));
        assert_eq!(
            Control::parse(&sample(new), old),
            Err(BadControl::Version { found: 1800, expected: 1300, major: old })
        );
        let mut torn = sample(old);
        torn[40] ^= 1;
        assert_eq!(Control::parse(&torn, old), Err(BadControl::Checksum));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
            for major in Major::all() {
                let _ = Control::parse(&bytes, major);
            }
        }
    }
}
