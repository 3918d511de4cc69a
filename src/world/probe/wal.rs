//! The end of a stopped server's WAL: behind the shutdown checkpoint that its pg_control names, or else behind the last
//! valid record of its WAL files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::path::PathBuf;

use crate::pg::control::Control;
use crate::pg::control::ControlState;
use crate::pg::history;
use crate::pg::history::Branch;
use crate::pg::lsn::Lsn;
use crate::pg::lsn::Timeline;
use crate::pg::lsn::wal_file_name;
use crate::pg::wal::end_of_record;
use crate::pg::wal::is_shutdown_checkpoint;
use crate::pg::wal::place_of_byte;
use crate::pg::wal::walk::Pages;
use crate::pg::wal::walk::Reader;
use crate::pg::wal::walk::walk;

/// How much of a file is read at once.
const CHUNK: u64 = 1 << 20;

/// Returns where a server's WAL ends, and on which timeline; none where nothing tells.
///
/// `branches` and `newest` are what its newest history file tells. Of a server that runs only a finished shutdown is looked for: what it
/// writes has no end.
///
/// # Errors
///
/// What could not be read, and why.
pub fn end(
    pg_wal: &Path,
    control: &Control,
    branches: &[Branch],
    newest: Option<Timeline>,
    is_stopped: bool,
) -> Result<Option<(Lsn, Timeline)>, String> {
    match control.state {
        ControlState::ShutDown => Ok(end_of_shutdown(pg_wal, control)?.map(|end| (end, control.timeline))),
        ControlState::StartingUp
        | ControlState::ShutDownInRecovery
        | ControlState::ShuttingDown
        | ControlState::InCrashRecovery
        | ControlState::InArchiveRecovery
        | ControlState::InProduction => {
            if !is_stopped {
                return Ok(None);
            }
            let segment_size = control.wal_segment_size;
            let segments = Segments::of(pg_wal, control, branches, newest);
            let walked = walk(segments, segment_size, control.checkpoint, Lsn(u64::MAX))?;
            // A timeline begins with a copy of the page that its parent ended on, which still has the parent's number.
            let begun = |end: Lsn, child: Timeline, begin: Lsn| {
                let last = Lsn(end.0.saturating_sub(1));
                begin < end && pg_wal.join(wal_file_name(child, last, segment_size)).exists()
            };
            let walked = walked.map(|walk| {
                let children =
                    history::beginnings(branches, newest).filter(|(child, begin)| begun(walk.end, *child, *begin));
                let timeline = children.map(|(child, _)| child).chain([walk.timeline]).max();
                (walk.end, timeline.unwrap_or(walk.timeline))
            });
            // What it has replayed it may have had from an archive.
            let replayed = (control.min_recovery_timeline != Timeline(0))
                .then_some((control.min_recovery_point, control.min_recovery_timeline));
            Ok(walked.max(replayed))
        }
    }
}

/// Returns the checksums of the first records of the timelines that a history tells of, as far as they are still there.
///
/// # Errors
///
/// What could not be read, and why.
pub fn beginnings(
    pg_wal: &Path,
    branches: &[Branch],
    newest: Option<Timeline>,
    segment_size: u32,
) -> Result<BTreeMap<Timeline, u32>, String> {
    let mut found = BTreeMap::new();
    for (timeline, begin) in history::beginnings(branches, newest) {
        let segments = Segments::new(pg_wal, [timeline].into_iter(), segment_size);
        if let Some(record) = Reader::new(segments, segment_size, begin).next()? {
            found.insert(timeline, record.crc);
        }
    }
    Ok(found)
}

/// Returns where the shutdown checkpoint that pg_control names ends; none where it can't be found.
///
/// # Errors
///
/// What could not be read, and why.
pub fn end_of_shutdown(pg_wal: &Path, control: &Control) -> Result<Option<Lsn>, String> {
    let (start, segment_size) = (control.checkpoint, control.wal_segment_size);
    let path = pg_wal.join(wal_file_name(control.timeline, start, segment_size));
    match read(&path, start, segment_size) {
        Ok((length, info, manager)) if is_shutdown_checkpoint(info, manager) => {
            Ok(Some(end_of_record(start, length, segment_size)))
        }
        Ok(_) => Ok(None),
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::UnexpectedEof].contains(&error.kind()) => Ok(None),
        Err(error) => Err(cant_read(&path, &error)),
    }
}

/// Reads length, info and resource manager of a record. One that is split over two files, which hardly ever is, ends as
/// one that is not there.
fn read(path: &Path, start: Lsn, segment_size: u32) -> io::Result<(u32, u8, u8)> {
    let file = File::open(path)?;
    let file_start = start.0 - start.0 % u64::from(segment_size);
    let mut length = [0; 4];
    file.read_exact_at(&mut length, start.0 - file_start)?;
    let byte = |index| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, place_of_byte(start, index, segment_size).0 - file_start)?;
        Ok::<u8, io::Error>(byte[0])
    };
    Ok((u32::from_le_bytes(length), byte(16)?, byte(17)?))
}

/// The WAL files of a pg_wal, read page by page.
///
/// Of a place that several timelines have a file for, the newest one's counts, as for the server: it begins with a copy of
/// what its parent wrote there.
#[derive(Debug)]
pub struct Segments<'d> {
    pg_wal: &'d Path,
    /// Newest first.
    timelines: Vec<Timeline>,
    segment_size: u32,
    open: Option<Open>,
    /// What was read last, and where it begins.
    chunk: Vec<u8>,
    chunk_start: Lsn,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    start: u64,
}

impl<'d> Segments<'d> {
    /// Those of a data directory, by its pg_control and what its newest history file tells.
    #[must_use]
    pub fn of(pg_wal: &'d Path, control: &Control, branches: &[Branch], newest: Option<Timeline>) -> Self {
        let timelines = branches.iter().map(|branch| branch.timeline).chain(newest).chain([control.timeline]);
        Self::new(pg_wal, timelines, control.wal_segment_size)
    }

    #[must_use]
    pub fn new(pg_wal: &'d Path, timelines: impl Iterator<Item = Timeline>, segment_size: u32) -> Self {
        let mut timelines: Vec<Timeline> = timelines.collect();
        timelines.sort_unstable_by(|a, b| b.cmp(a));
        timelines.dedup();
        Self { pg_wal, timelines, segment_size, open: None, chunk: Vec::new(), chunk_start: Lsn(0) }
    }

    /// Opens the file that this position is in.
    fn open(&mut self, at: Lsn) -> Result<Option<&Open>, String> {
        let start = at.0 - at.0 % u64::from(self.segment_size);
        if self.open.as_ref().is_none_or(|open| open.start != start) {
            self.open = None;
            for timeline in &self.timelines {
                let path = self.pg_wal.join(wal_file_name(*timeline, at, self.segment_size));
                match File::open(&path) {
                    Ok(file) => {
                        self.open = Some(Open { path, file, start });
                        break;
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(cant_read(&path, &error)),
                }
            }
        }
        Ok(self.open.as_ref())
    }

    /// Reads the part of a file that this position is in.
    fn fill(&mut self, at: Lsn) -> Result<(), String> {
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.clear();
        let start = Lsn(at.0 - at.0 % CHUNK.min(u64::from(self.segment_size)));
        if let Some(open) = self.open(at)? {
            chunk.resize(usize::try_from(CHUNK).unwrap_or_default(), 0);
            let mut filled = 0;
            while filled < chunk.len() {
                match open.file.read_at(&mut chunk[filled..], start.0 - open.start + filled as u64) {
                    Ok(0) => break,
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(cant_read(&open.path, &error)),
                }
            }
            chunk.truncate(filled);
        }
        (self.chunk, self.chunk_start) = (chunk, start);
        Ok(())
    }

    fn in_chunk(&self, start: Lsn) -> Option<std::ops::Range<usize>> {
        const PAGE: usize = 8192;
        let at = usize::try_from(start.0.checked_sub(self.chunk_start.0)?).ok()?;
        (at + PAGE <= self.chunk.len()).then_some(at..at + PAGE)
    }
}

impl Pages for Segments<'_> {
    type Error = String;

    fn page(&mut self, start: Lsn) -> Result<Option<&[u8]>, String> {
        if self.in_chunk(start).is_none() {
            self.fill(start)?;
        }
        Ok(self.in_chunk(start).map(|range| &self.chunk[range]))
    }
}

fn cant_read(path: &Path, error: &io::Error) -> String {
    format!("{} can't be read: {error}", path.display())
}
