//! Where a record of the write-ahead log ends.
//!
//! A record that does not fit on its page goes on behind the header of the next one, and the next record begins at a
//! multiple of 8 (`xlogrecord.h`, `xlog_internal.h`; the same in 10 to 18).

use crate::pg::lsn::Lsn;

pub mod walk;

/// The size of a page (`XLOG_BLCKSZ`; other builds than with the default are not known to pgpair).
const PAGE: u64 = 8192;
/// The header of the first page of a segment.
const LONG_HEADER: u64 = 40;
/// The header of every other page.
const SHORT_HEADER: u64 = 24;

/// Returns where the byte number `index` (from 0) of the record that begins at `start` stands.
#[must_use]
pub fn place_of_byte(start: Lsn, index: u64, segment_size: u32) -> Lsn {
    let (mut position, mut rest) = (start.0, index);
    loop {
        let room = PAGE - position % PAGE;
        if rest < room {
            return Lsn(position + rest);
        }
        rest -= room;
        position += room;
        position += if position.is_multiple_of(u64::from(segment_size)) { LONG_HEADER } else { SHORT_HEADER };
    }
}

/// Returns where the record that begins at `start` ends: where the next one would begin, but for a page's header.
#[must_use]
pub fn end_of_record(start: Lsn, length: u32, segment_size: u32) -> Lsn {
    let last = place_of_byte(start, u64::from(length).saturating_sub(1), segment_size);
    // An exact end of a page stays one: no header is added.
    Lsn((last.0 + 1).next_multiple_of(8))
}

/// Whether a record is the checkpoint of a shutdown, by its bytes 16 (`xl_info`, of which the lower half says nothing of
/// the kind) and 17 (`xl_rmid`): `XLOG_CHECKPOINT_SHUTDOWN` of `RM_XLOG_ID`.
#[must_use]
pub fn is_shutdown_checkpoint(info: u8, manager: u8) -> bool {
    manager == 0 && info & 0xF0 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u32 = 16 << 20;

    fn end(start: &str, length: u32) -> String {
        end_of_record(start.parse().expect("an LSN"), length, SEGMENT).to_string()
    }

    /// Seen on servers of 10 and 15 (reference on replication, section 7).
    #[test]
    fn a_shutdown_checkpoint_ends_where_the_standby_has_received_to() {
        assert_eq!(end("0/302A9E0", 114), "0/302AA58");
        assert_eq!(end("0/302B380", 106), "0/302B3F0");
        assert_eq!(end("0/3019FE8", 114), "0/301A078", "split over a page");
        assert_eq!(end("0/3019F88", 114), "0/301A000", "it ends with a page");
        assert_eq!(end("0/4000028", 114), "0/40000A0", "first in its segment");
        assert_eq!(end("0/4000028", 106), "0/4000098");
    }

    #[test]
    fn a_record_that_goes_on_in_the_next_segment_passes_its_longer_header() {
        assert_eq!(end("0/3FFFFF8", 114), "0/4000098");
    }

    #[test]
    fn a_byte_behind_the_end_of_a_page_stands_behind_the_next_header() {
        assert_eq!(place_of_byte(Lsn(0x301_9FF0), 15, SEGMENT), Lsn(0x301_9FFF));
        assert_eq!(place_of_byte(Lsn(0x301_9FF0), 16, SEGMENT), Lsn(0x301_A018));
    }

    #[test]
    fn a_shutdown_checkpoint_is_told_from_other_records() {
        assert!(is_shutdown_checkpoint(0x00, 0) && is_shutdown_checkpoint(0x01, 0));
        assert!(!is_shutdown_checkpoint(0x10, 0) && !is_shutdown_checkpoint(0x00, 10));
    }
}
