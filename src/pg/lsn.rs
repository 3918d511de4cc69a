//! Log sequence numbers, timelines and timeline history files.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

/// A position in the write-ahead log. Written `H/L`, two hexadecimal halves; never compared as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// A text that is no LSN.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an LSN (two hexadecimal numbers with a slash, as 0/3000148)")]
pub struct BadLsn(pub String);

impl FromStr for Lsn {
    type Err = BadLsn;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadLsn(text.to_owned());
        let half = |part: &str| {
            let digits = (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
            if digits { u64::from_str_radix(part, 16).map_err(|_| bad()) } else { Err(bad()) }
        };
        let (high, low) = text.split_once('/').ok_or_else(bad)?;
        Ok(Self(half(high)? << 32 | half(low)?))
    }
}

impl Serialize for Lsn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A timeline number; 1 after initdb, one more after each promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeline(pub u32);

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Returns the timeline that a file name such as `00000002.history` describes.
#[must_use]
pub fn history_file_timeline(name: &str) -> Option<Timeline> {
    let digits = name.strip_suffix(".history")?;
    (digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| u32::from_str_radix(digits, 16).ok().map(Timeline))
        .flatten()
}

/// Returns the name of the file that describes a timeline, such as `00000002.history`.
#[must_use]
pub fn history_file_name(timeline: Timeline) -> String {
    format!("{:08X}.history", timeline.0)
}

/// Returns the name of the WAL file of a timeline that holds this position, in segments of this many bytes.
#[must_use]
pub fn wal_file_name(timeline: Timeline, lsn: Lsn, segment_size: u32) -> String {
    let segment = lsn.0 / u64::from(segment_size);
    let in_a_half = (1_u64 << 32) / u64::from(segment_size);
    format!("{:08X}{:08X}{:08X}", timeline.0, segment / in_a_half, segment % in_a_half)
}

/// Returns where the WAL begins that a file such as `000000010000000A000000FE` holds, in segments of this many bytes.
#[must_use]
pub fn wal_file_start(name: &str, segment_size: u32) -> Option<Lsn> {
    if name.len() != 24 || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let half = |part: &str| u64::from_str_radix(part, 16).ok();
    let (high, segment) = (half(&name[8..16])?, half(&name[16..])?);
    Some(Lsn((high << 32) + segment * u64::from(segment_size)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_name_of_a_wal_file_tells_where_it_begins() {
        let start = |name, segment_size| wal_file_start(name, segment_size).map(|lsn| lsn.to_string());
        assert_eq!(start("000000010000000A000000FE", 16 << 20).as_deref(), Some("A/FE000000"));
        assert_eq!(start("000000030000000100000002", 1 << 30).as_deref(), Some("1/80000000"));
        for other in ["00000002.history", "000000010000000A000000FE.partial", "archive_status", ""] {
            assert_eq!(start(other, 16 << 20), None, "{other}");
        }
    }

    #[test]
    fn text_that_is_no_lsn_is_refused() {
        for bad in ["", "/", "0", "0/", "/0", "0/G", "0/123456789", "0/1/2", "+0/1", "0 /1"] {
            assert_eq!(bad.parse::<Lsn>(), Err(BadLsn(bad.into())));
        }
    }

    #[test]
    fn lsns_order_by_value_and_not_by_text() {
        let lsn = |text: &str| text.parse::<Lsn>().expect("a good LSN");
        assert!(lsn("1/0") > lsn("0/FFFFFFFF"));
        assert!(lsn("10/0") > lsn("9/0"));
    }

    #[test]
    fn only_history_files_name_a_timeline() {
        assert_eq!(history_file_timeline("0000000A.history"), Some(Timeline(10)));
        assert_eq!(history_file_timeline("000000010000000000000001"), None);
        assert_eq!(history_file_timeline("0A.history"), None);
    }

    proptest! {
        #[test]
        fn printing_and_reading_an_lsn_gives_it_back(value: u64) {
            prop_assert_eq!(Lsn(value).to_string().parse(), Ok(Lsn(value)));
        }
    }
}
