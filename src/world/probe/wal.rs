//! The end of a cleanly stopped primary's WAL, from its pg_control and the WAL file that the last checkpoint is in.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::pg::control::Control;
use crate::pg::lsn::Lsn;
use crate::pg::lsn::wal_file_name;
use crate::pg::wal::end_of_record;
use crate::pg::wal::is_shutdown_checkpoint;
use crate::pg::wal::place_of_byte;

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
        Err(error) => Err(format!("{} can't be read: {error}", path.display())),
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
