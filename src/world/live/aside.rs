//! What a node holds alone is kept beside its data directory before that is rewound or replaced: the WAL behind the fork,
//! and what its archiver has not archived.

use std::fs;
use std::path::Path;

use crate::pg::lsn::Lsn;
use crate::pg::lsn::Timeline;
use crate::pg::lsn::history_file_timeline;
use crate::pg::lsn::wal_file_start;
use crate::plan::pair;
use crate::topology::NodeName;
use crate::world::Failure;
use crate::world::Progress;
use crate::world::World as _;
use crate::world::files;
use crate::world::files::FileError;
use crate::world::live::Site;
use crate::world::live::create::read_control;

/// Which WAL files are kept.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    fork: Lsn,
    end: Option<Lsn>,
    timeline: Timeline,
    segment_size: u32,
}

impl Site<'_> {
    /// Keeps the WAL that the primary has not, and says what it is; does nothing where there is none. Done again after a
    /// crash, it writes the same files once more.
    pub(super) async fn keep_diverged(
        &self,
        primary: &NodeName,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<(), Failure> {
        let observed = self.live.observe().await;
        let Some(diverged) = pair::diverged(&observed, &self.node.name, primary) else { return Ok(()) };
        let Some(own) = observed.node(&self.node.name).cluster() else { return Ok(()) };
        let fork = diverged.fork.or(own.wal.map(|wal| wal.oldest)).unwrap_or_default();
        let data_dir = self.node.data_dir.clone();
        let control = self.on_files(move || read_control(&data_dir)).await?;
        let Some((control, _)) = control else { return Err(self.failure("it has no whole pg_control")) };
        let (timeline, segment_size) = (diverged.timeline, control.wal_segment_size);
        let stretch = Stretch { fork, end: own.end, timeline, segment_size };
        let to = format!("{}.pgpair-diverged-{timeline}-{:016X}", self.node.data_dir, fork.0);
        let (from, kept) = (self.file("pg_wal"), to.clone());
        let waiting = self.on_files(move || keep(Path::new(&from), Path::new(&kept), stretch)).await?;
        let bytes = diverged.past.map_or("WAL".to_owned(), |past| format!("{past} bytes of WAL"));
        let transactions = own.lost.map_or(String::new(), |lost| format!(" with {} transactions", lost.transactions));
        let mut note = format!("{bytes}{transactions} behind {fork}, which {primary} has not, are kept in {to}");
        if waiting > 0 {
            note += &format!(", and {waiting} WAL files that were not archived");
        }
        progress(Progress::Note(note));
        Ok(())
    }
}

/// Copies what is to be kept of a pg_wal; returns how many files of it waited for the archiver.
fn keep(pg_wal: &Path, to: &Path, stretch: Stretch) -> Result<usize, FileError> {
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| FileError { what, path, source }
    };
    fs::create_dir_all(to).map_err(failed("made", to))?;
    files::set_mode(to, 0o700)?;
    let mut waiting = 0;
    for entry in fs::read_dir(pg_wal).map_err(failed("read", pg_wal))? {
        let entry = entry.map_err(failed("read", pg_wal))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_waiting = files::exists(pg_wal.join("archive_status").join(format!("{name}.ready")))?;
        waiting += usize::from(is_waiting);
        if is_waiting || stretch.holds(&name) {
            let (from, to) = (entry.path(), to.join(&name));
            fs::copy(&from, &to).map_err(failed("copied", &from))?;
            fs::File::open(&to).and_then(|file| file.sync_all()).map_err(failed("written", &to))?;
        }
    }
    files::sync(to)?;
    to.parent().map_or(Ok(()), files::sync)?;
    Ok(waiting)
}

impl Stretch {
    /// Whether a file has WAL of the stretch, or says which timelines it came through.
    fn holds(&self, name: &str) -> bool {
        if history_file_timeline(name).is_some() {
            return true;
        }
        let timeline = name.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let Some((start, timeline)) = wal_file_start(name, self.segment_size).zip(timeline) else { return false };
        let ends = start.0 + u64::from(self.segment_size);
        timeline >= self.timeline.0 && ends > self.fork.0 && self.end.is_none_or(|end| start < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_the_wal_behind_the_fork_the_histories_and_what_was_not_archived() {
        let folder = tempfile::tempdir().expect("a folder");
        let pg_wal = folder.path().join("pg_wal");
        fs::create_dir_all(pg_wal.join("archive_status")).expect("a folder");
        let files = [
            "000000010000000000000001",
            "000000010000000000000002",
            "000000010000000000000003",
            "000000010000000000000004",
            "000000010000000000000005",
            "00000002.history",
            "other",
        ];
        for file in files {
            fs::write(pg_wal.join(file), file).expect("a file");
        }
        fs::write(pg_wal.join("archive_status/000000010000000000000001.ready"), "").expect("a file");
        fs::write(pg_wal.join("archive_status/000000010000000000000002.done"), "").expect("a file");
        let stretch = Stretch {
            fork: Lsn(0x300_0100),
            end: Some(Lsn(0x400_0100)),
            timeline: Timeline(1),
            segment_size: 16 << 20,
        };
        let to = folder.path().join("kept");
        for _ in 0..2 {
            assert_eq!(keep(&pg_wal, &to, stretch).expect("kept"), 1);
            let mut kept: Vec<_> = fs::read_dir(&to)
                .expect("there")
                .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
                .collect();
            kept.sort();
            assert_eq!(kept, [files[0], files[2], files[3], files[5]]);
        }
    }
}
