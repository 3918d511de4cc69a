//! The records of the write-ahead log, one after the other up to the first that is not valid: where a server's WAL ends
//! that could not write its end into pg_control.
//!
//! What counts as valid is what PostgreSQL's own reader takes in a recovery (`xlogreader.c`; the same layout in 10 to
//! 18): the page is of this place, the record's checksum is right, and it names the record before it.

use crate::pg::crc32c::Crc32c;
use crate::pg::lsn::Lsn;
use crate::pg::lsn::Timeline;
use crate::pg::wal::LONG_HEADER;
use crate::pg::wal::PAGE;
use crate::pg::wal::SHORT_HEADER;

/// `SizeOfXLogRecord`.
const RECORD_HEADER: usize = 24;
/// How much of a record's body is kept: enough for the headers before the main data, and the time of a commit.
const HEAD: usize = 64;
/// From 1970, where Unix begins to count, to 2000, where PostgreSQL does, in microseconds.
const EPOCH: i64 = 946_684_800_000_000;

/// Where pages of the log come from.
pub trait Pages {
    type Error;

    /// Returns the page that begins at this position; none where there is no file for it, or not all of it.
    ///
    /// # Errors
    ///
    /// Where what is there can't be read.
    fn page(&mut self, start: Lsn) -> Result<Option<&[u8]>, Self::Error>;
}

/// A valid record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub start: Lsn,
    /// Where the next one begins, but for a page's header.
    pub end: Lsn,
    pub timeline: Timeline,
    pub crc: u32,
    /// Where the record before it begins.
    previous: Lsn,
    kind: Kind,
}

/// What pgpair wants to know of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A transaction was committed; when, in microseconds since 1970.
    Commit(i64),
    /// Of a shutdown or not; from where on a recovery that begins with it replays.
    Checkpoint(Lsn),
    /// The rest of its segment is unused.
    Switch,
    Other,
}

/// What a stretch of the log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Where the last valid record ends.
    pub end: Lsn,
    /// The timeline of the page that it begins on.
    pub timeline: Timeline,
    /// The commits among the records that begin at or behind the position which was asked about.
    pub commits: u64,
    /// When the last of them was, in microseconds since 1970.
    pub last_commit: Option<i64>,
}

/// Walks from the record that begins at `start` to the last valid one, and counts the commits from `count_from` on; none
/// where there is no valid record at `start`.
///
/// # Errors
///
/// What `pages` fails with.
pub fn walk<P: Pages>(pages: P, segment_size: u32, start: Lsn, count_from: Lsn) -> Result<Option<Walk>, P::Error> {
    let mut reader = Reader::new(pages, segment_size, start);
    let mut walk: Option<Walk> = None;
    while let Some(record) = reader.next()? {
        let (mut commits, mut last_commit) = walk.map_or((0, None), |walk| (walk.commits, walk.last_commit));
        if let Kind::Commit(at) = record.kind
            && record.start >= count_from
        {
            (commits, last_commit) = (commits + 1, Some(at));
        }
        walk = Some(Walk { end: record.end, timeline: record.timeline, commits, last_commit });
    }
    Ok(walk)
}

/// Goes back from the record that begins at `start` to the checkpoint before it, and returns from where on a recovery that
/// begins with that replays; none where the log does not go back so far.
///
/// # Errors
///
/// What `pages` fails with.
pub fn checkpoint_before<P: Pages>(mut pages: P, segment_size: u32, start: Lsn) -> Result<Option<Lsn>, P::Error> {
    let mut at = start;
    loop {
        let Some(record) = Reader::new(&mut pages, segment_size, at).next()? else { return Ok(None) };
        if let Kind::Checkpoint(redo) = record.kind
            && at != start
        {
            return Ok(Some(redo));
        }
        at = record.previous;
    }
}

impl<P: Pages> Pages for &mut P {
    type Error = P::Error;

    fn page(&mut self, start: Lsn) -> Result<Option<&[u8]>, Self::Error> {
        (**self).page(start)
    }
}

/// Reads record after record.
#[derive(Debug)]
pub struct Reader<P> {
    pages: P,
    segment_size: u64,
    next: Lsn,
    /// Where the record before the next begins.
    previous: Option<Lsn>,
    /// Of the last page; a later one is of no older timeline.
    timeline: Timeline,
    /// The first page's; it differs between versions.
    magic: Option<[u8; 2]>,
}

/// A page's header.
struct Header {
    length: usize,
    timeline: Timeline,
    /// The page begins with the rest of a record, of so many bytes.
    continues: Option<u32>,
    /// What was begun on the page before was given up when the server died there.
    gives_up: bool,
}

enum Found {
    Record(Record),
    /// A record was begun and given up: the next one is on this page.
    GivenUp(Lsn),
    End,
}

impl<P: Pages> Reader<P> {
    /// `start` is where a record begins, or where a page does before it.
    pub fn new(pages: P, segment_size: u32, start: Lsn) -> Self {
        let segment_size = u64::from(segment_size);
        Self { pages, segment_size, next: start, previous: None, timeline: Timeline(0), magic: None }
    }

    /// Returns the next record; none where none is valid.
    ///
    /// # Errors
    ///
    /// What the source of the pages fails with.
    #[expect(clippy::should_implement_trait, reason = "it can fail between records")]
    pub fn next(&mut self) -> Result<Option<Record>, P::Error> {
        loop {
            match self.record_at(self.next)? {
                Found::Record(record) => {
                    (self.next, self.previous) = (record.end, Some(record.start));
                    return Ok(Some(record));
                }
                Found::GivenUp(page) => self.next = page,
                Found::End => return Ok(None),
            }
        }
    }

    fn record_at(&mut self, at: Lsn) -> Result<Found, P::Error> {
        let mut page = at.0 - at.0 % PAGE;
        let Some((mut header, mut bytes)) = self.page(Lsn(page))? else { return Ok(Found::End) };
        let mut offset = offset_in_page(at);
        if offset == 0 {
            offset = header.length;
        }
        if offset < header.length || offset == header.length && header.continues.is_some() {
            return Ok(Found::End);
        }
        let (start, timeline) = (Lsn(page + offset as u64), header.timeline);
        let length = u32_at(bytes, offset);
        let mut parts = Parts::default();
        let mut rest = length as usize;
        if rest < RECORD_HEADER {
            return Ok(Found::End);
        }
        loop {
            let part = &bytes[offset..bytes.len().min(offset + rest)];
            parts.take(part);
            rest -= part.len();
            offset += part.len();
            if rest == 0 {
                break;
            }
            page += PAGE;
            let Some(next) = self.page(Lsn(page))? else { return Ok(Found::End) };
            (header, bytes) = next;
            if header.gives_up {
                return Ok(Found::GivenUp(Lsn(page)));
            }
            if header.continues.is_none_or(|bytes| bytes as usize != rest) {
                return Ok(Found::End);
            }
            offset = header.length;
        }
        let end = (page + offset as u64).next_multiple_of(8);
        let follows = match self.previous {
            Some(previous) => parts.previous() == previous,
            None => parts.previous() < start,
        };
        if !follows || parts.crc() != parts.expected_crc() {
            return Ok(Found::End);
        }
        let kind = parts.kind();
        let end = if kind == Kind::Switch { end.next_multiple_of(self.segment_size) } else { end };
        let (crc, previous) = (parts.expected_crc(), parts.previous());
        Ok(Found::Record(Record { start, end: Lsn(end), timeline, crc, previous, kind }))
    }

    /// Returns a page with its header, if it is the one that belongs here (`XLogReaderValidatePageHeader`).
    fn page(&mut self, start: Lsn) -> Result<Option<(Header, &[u8])>, P::Error> {
        const CONTINUES: u16 = 1;
        const LONG: u16 = 2;
        const GIVES_UP: u16 = 8;
        let Some(bytes) = self.pages.page(start)? else { return Ok(None) };
        let Some([a, b, ..]) = bytes.first_chunk::<24>().filter(|_| bytes.len() as u64 == PAGE) else {
            return Ok(None);
        };
        let (magic, flags) = ([*a, *b], u16::from_le_bytes([bytes[2], bytes[3]]));
        let timeline = Timeline(u32_at(bytes, 4));
        let is_first = start.0.is_multiple_of(self.segment_size);
        let is_long = flags & LONG != 0;
        let is_sized = !is_long || u64::from(u32_at(bytes, 32)) == self.segment_size;
        let is_known = self.magic.is_none_or(|known| known == magic) && magic != [0, 0];
        if !is_known || u64_at(bytes, 8) != start.0 || timeline < self.timeline || is_long != is_first || !is_sized {
            return Ok(None);
        }
        (self.magic, self.timeline) = (Some(magic), timeline);
        let length = usize::try_from(if is_long { LONG_HEADER } else { SHORT_HEADER }).unwrap_or(usize::MAX);
        let continues = (flags & CONTINUES != 0).then(|| u32_at(bytes, 16));
        Ok(Some((Header { length, timeline, continues, gives_up: flags & GIVES_UP != 0 }, bytes)))
    }
}

/// A record as it is put together from its pages.
struct Parts {
    header: [u8; RECORD_HEADER],
    head: [u8; HEAD],
    taken: usize,
    body_crc: Crc32c,
}

impl Default for Parts {
    fn default() -> Self {
        Self { header: [0; RECORD_HEADER], head: [0; HEAD], taken: 0, body_crc: Crc32c::new() }
    }
}

impl Parts {
    fn take(&mut self, part: &[u8]) {
        let (header, body) = part.split_at(RECORD_HEADER.saturating_sub(self.taken).min(part.len()));
        self.header[self.taken.min(RECORD_HEADER)..][..header.len()].copy_from_slice(header);
        let at = (self.taken + header.len()).saturating_sub(RECORD_HEADER).min(HEAD);
        let kept = body.len().min(HEAD - at);
        self.head[at..at + kept].copy_from_slice(&body[..kept]);
        self.body_crc = self.body_crc.with(body);
        self.taken += part.len();
    }

    fn previous(&self) -> Lsn {
        Lsn(u64_at(&self.header, 8))
    }

    fn crc(&self) -> u32 {
        self.body_crc.with(&self.header[..20]).value()
    }

    fn expected_crc(&self) -> u32 {
        u32_at(&self.header, 20)
    }

    /// By `xl_info` and `xl_rmid` (`xact.h`, `pg_control.h`).
    fn kind(&self) -> Kind {
        const XLOG: u8 = 0;
        const XACT: u8 = 1;
        let (info, manager) = (self.header[16], self.header[17]);
        match (manager, info & 0xF0, info & 0x70) {
            // XLOG_CHECKPOINT_SHUTDOWN and XLOG_CHECKPOINT_ONLINE.
            (XLOG, 0x00 | 0x10, _) => Kind::Checkpoint(Lsn(self.first_word().cast_unsigned())),
            (XLOG, 0x40, _) => Kind::Switch,
            // XLOG_XACT_COMMIT and XLOG_XACT_COMMIT_PREPARED.
            (XACT, _, 0x00 | 0x30) => Kind::Commit(self.first_word().saturating_add(EPOCH)),
            _ => Kind::Other,
        }
    }

    /// A commit begins with its time, and a checkpoint with where it replays from; before that stand the headers of the
    /// body's parts.
    fn first_word(&self) -> i64 {
        let mut at = 0;
        let is_found = loop {
            let (length, is_data) = match self.head.get(at) {
                // Short and long main data, the origin of a replicated transaction, the one that it is part of.
                Some(255) => (2, true),
                Some(254) => (5, true),
                Some(253) => (3, false),
                Some(252) => (5, false),
                Some(_) | None => break false,
            };
            at += length;
            if is_data {
                break true;
            }
        };
        let bytes = self.head.get(at..at + 8).filter(|_| is_found).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, i64::from_le_bytes)
    }
}

fn offset_in_page(at: Lsn) -> usize {
    usize::try_from(at.0 % PAGE).unwrap_or_default()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::crc32c::crc32c;
    use proptest::prelude::*;

    const SEGMENT: u32 = 1 << 20;
    const START: Lsn = Lsn(0x30_0028);

    /// A log as a server writes it, from the second page-header's end of its fourth segment on.
    struct Log {
        bytes: Vec<u8>,
        first: u64,
        next: u64,
        previous: u64,
        timeline: u32,
    }

    impl Pages for &Log {
        type Error = std::convert::Infallible;

        fn page(&mut self, start: Lsn) -> Result<Option<&[u8]>, Self::Error> {
            let at = usize::try_from(start.0 - self.first).expect("small");
            Ok(self.bytes.get(at..at + 8192))
        }
    }

    impl Log {
        fn new() -> Self {
            let first = START.0 - START.0 % u64::from(SEGMENT);
            let mut log = Self { bytes: Vec::new(), first, next: first, previous: 0x2F_0000, timeline: 1 };
            log.page(0, 0);
            log.next = START.0;
            log
        }

        /// Begins a page.
        fn page(&mut self, flags: u16, rest: u32) {
            let at = self.first + self.bytes.len() as u64;
            let is_long = at.is_multiple_of(u64::from(SEGMENT));
            let mut page = vec![0; 8192];
            page[..2].copy_from_slice(&[0x10, 0xD1]);
            page[2..4].copy_from_slice(&(flags | if is_long { 2 } else { 0 }).to_le_bytes());
            page[4..8].copy_from_slice(&self.timeline.to_le_bytes());
            page[8..16].copy_from_slice(&at.to_le_bytes());
            page[16..20].copy_from_slice(&rest.to_le_bytes());
            if is_long {
                page[32..36].copy_from_slice(&SEGMENT.to_le_bytes());
            }
            self.bytes.extend(page);
        }

        fn record(manager: u8, info: u8, body: &[u8], previous: u64) -> Vec<u8> {
            let mut record = vec![0; RECORD_HEADER];
            let length = u32::try_from(RECORD_HEADER + body.len()).expect("small");
            record[..4].copy_from_slice(&length.to_le_bytes());
            record[8..16].copy_from_slice(&previous.to_le_bytes());
            (record[16], record[17]) = (info, manager);
            let crc = crc32c(&[body, &record[..20]].concat());
            record[20..24].copy_from_slice(&crc.to_le_bytes());
            [&record, body].concat()
        }

        /// Writes a record behind the last one, and returns where it begins.
        fn put(&mut self, manager: u8, info: u8, body: &[u8]) -> Lsn {
            self.put_only(manager, info, body, usize::MAX)
        }

        /// Writes so many bytes of a record.
        fn put_only(&mut self, manager: u8, info: u8, body: &[u8], most: usize) -> Lsn {
            let record = Self::record(manager, info, body, self.previous);
            let mut rest = &record[..record.len().min(most)];
            let end = self.first + self.bytes.len() as u64;
            if self.next == end {
                self.page(0, 0);
                self.next += self.header_at(end);
            }
            let start = Lsn(self.next);
            while !rest.is_empty() {
                let end = self.first + self.bytes.len() as u64;
                let room = usize::try_from(end - self.next).expect("small").min(rest.len());
                let at = usize::try_from(self.next - self.first).expect("small");
                self.bytes[at..at + room].copy_from_slice(&rest[..room]);
                let written = record.len().min(most) - rest.len() + room;
                rest = &rest[room..];
                self.next += room as u64;
                if !rest.is_empty() {
                    self.page(1, u32::try_from(record.len() - written).expect("small"));
                    self.next = end + self.header_at(end);
                }
            }
            self.next = self.next.next_multiple_of(8);
            self.previous = start.0;
            start
        }

        fn header_at(&self, page: u64) -> u64 {
            assert!(page >= self.first);
            if page.is_multiple_of(u64::from(SEGMENT)) { LONG_HEADER } else { SHORT_HEADER }
        }

        fn walk(&self, count_from: Lsn) -> Option<Walk> {
            walk(self, SEGMENT, START, count_from).expect("it can't fail")
        }

        fn end(&self) -> Option<u64> {
            self.walk(Lsn(0)).map(|walk| walk.end.0)
        }
    }

    /// The body of a commit at this time since 2000.
    fn commit(before: &[u8], time: i64) -> Vec<u8> {
        [before, &[255, 8], &time.to_le_bytes()].concat()
    }

    #[test]
    fn the_end_is_behind_the_last_record_however_it_lies_on_its_pages() {
        let mut log = Log::new();
        assert_eq!(log.end(), None, "no record is there");
        for length in [0, 90, 8000, 8192, 30_000, 7, 1 << 20, 2, 8192 * 3 - 100] {
            log.put(10, 0, &vec![7; length]);
            assert_eq!(log.end(), Some(log.next), "{length}");
        }
    }

    #[test]
    fn what_is_cut_off_or_damaged_or_of_an_older_use_of_the_file_is_no_record() {
        let mut log = Log::new();
        log.put(10, 0, &[1; 100]);
        let end = log.next;
        log.put(10, 0, &[2; 100]);
        let at = usize::try_from(end - log.first).expect("small");
        let damaged = |change: &dyn Fn(&mut Log)| {
            let mut other =
                Log { bytes: log.bytes.clone(), first: log.first, next: log.next, previous: 0, timeline: 1 };
            change(&mut other);
            other.end()
        };
        assert_eq!(damaged(&|_| {}), Some(log.next));
        assert_eq!(damaged(&|log| log.bytes[at + 60] ^= 1), Some(end), "its body");
        assert_eq!(damaged(&|log| log.bytes[at + 16] ^= 1), Some(end), "its header");
        let of_elsewhere = Log::record(10, 0, &[2; 100], 0x1234);
        assert_eq!(damaged(&|log| log.bytes[at..at + of_elsewhere.len()].copy_from_slice(&of_elsewhere)), Some(end));
        assert_eq!(damaged(&|log| log.bytes[8] ^= 1), None, "a page of another place");

        let mut cut = Log::new();
        cut.put(10, 0, &[1; 100]);
        let end = cut.next;
        cut.put_only(10, 0, &[2; 20_000], 15_000);
        assert_eq!(cut.end(), Some(end), "its last page is not there");
    }

    #[test]
    fn a_record_that_was_given_up_in_a_crash_is_passed_over() {
        let mut log = Log::new();
        log.put(10, 0, &[1; 100]);
        let previous = log.previous;
        log.put_only(10, 0, &[2; 20_000], 8192 - 0x28 - 128);
        let page = log.first + log.bytes.len() as u64;
        (log.next, log.previous) = (page + SHORT_HEADER, previous);
        log.page(8, 0);
        log.put(0, 0xD0, &[3; 16]);
        assert_eq!(log.end(), Some(log.next));
        assert_eq!(log.next, page + SHORT_HEADER + 40);
    }

    #[test]
    fn a_switch_ends_with_its_segment_and_the_next_record_is_in_the_next() {
        let mut log = Log::new();
        log.put(10, 0, &[1; 100]);
        log.put(0, 0x40, &[]);
        let next = log.first + u64::from(SEGMENT);
        assert_eq!(log.end(), Some(next));
        log.bytes.resize(SEGMENT as usize, 0);
        log.next = next;
        log.put(10, 0, &[1; 100]);
        assert_eq!(log.end(), Some(next + LONG_HEADER + 128));
    }

    #[test]
    fn commits_are_counted_from_a_position_on_with_the_time_of_the_last() {
        let mut log = Log::new();
        log.put(1, 0x00, &commit(&[], 1));
        let fork = log.put(1, 0x80, &commit(&[], 2));
        log.put(1, 0x20, &commit(&[], 9));
        // With an origin, as a part of another transaction, and prepared before.
        log.put(1, 0x30 | 0x80, &commit(&[253, 1, 0, 252, 1, 2, 3, 4], 3));
        log.put(1, 0x10, &commit(&[], 9));
        log.put(10, 0x00, &commit(&[], 9));
        let walk = log.walk(fork).expect("records");
        assert_eq!((walk.commits, walk.last_commit), (2, Some(EPOCH + 3)));
        let all = log.walk(Lsn(0)).expect("records");
        assert_eq!((all.commits, all.last_commit), (3, Some(EPOCH + 3)));
        let none = log.walk(Lsn(log.next)).expect("records");
        assert_eq!((none.commits, none.last_commit), (0, None));
    }

    #[test]
    fn the_checkpoint_before_a_position_is_found_as_far_as_the_log_goes_back() {
        let mut log = Log::new();
        // The first record names one that is not there.
        log.put(10, 0, &[1; 9000]);
        let early = log.put(10, 0, &[1; 9000]);
        log.put(0, 0x10, &commit(&[], 0x1234));
        for _ in 0..300 {
            log.put(10, 0, &[1; 9000]);
        }
        let late = log.put(0, 0x00, &commit(&[], 0x5678));
        let last = log.put(10, 0, &[1; 9000]);
        let before = |at| checkpoint_before(&log, SEGMENT, at).expect("it can't fail");
        assert_eq!(before(last), Some(Lsn(0x5678)));
        assert_eq!(before(late), Some(Lsn(0x1234)), "the one before it");
        assert_eq!(before(Lsn(log.next)), None, "no record is there");
        assert_eq!(early.0 % 8, 0);
    }

    #[test]
    fn the_timeline_is_that_of_the_page_and_never_an_older_one() {
        let mut log = Log::new();
        log.put(10, 0, &[1; 8000]);
        log.timeline = 3;
        log.put(10, 0, &[1; 8000]);
        log.put(10, 0, &[1; 8000]);
        assert_eq!(log.walk(Lsn(0)).map(|walk| walk.timeline), Some(Timeline(3)));
        let end = log.next;
        log.timeline = 2;
        log.put(10, 0, &[1; 8000]);
        assert_eq!(log.end(), Some(end));
    }

    proptest! {
        #[test]
        fn every_log_is_walked_to_its_end(lengths in proptest::collection::vec(0usize..40_000, 1..20)) {
            let mut log = Log::new();
            for length in lengths {
                log.put(10, 0, &vec![5; length]);
            }
            prop_assert_eq!(log.end(), Some(log.next));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(at in 0usize..8192, garbage in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut log = Log::new();
            for _ in 0..20 {
                log.put(1, 0, &[255; 700]);
            }
            for (byte, new) in log.bytes[at..].iter_mut().zip(&garbage) {
                *byte = *new;
            }
            let _ = log.end();
        }
    }
}
