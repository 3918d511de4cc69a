//! The files that saved plans and observations lie in. They hold no secret, and have an ordinary mode.

use std::path::Path;

use crate::error::Error;
use crate::world::Failure;
use crate::world::files;

/// Reads one whole.
pub(super) fn read(file: &str) -> Result<String, Error> {
    std::fs::read_to_string(file).map_err(|source| Error::Read { file: file.to_owned(), source })
}

/// Writes one, in the place of what is there. What is no file, as a pipe, is written to.
pub(super) fn write(file: &str, text: &str) -> Result<(), Error> {
    let failed = |why: String| Error::World(Failure::new(why).with_remedy("name another place with --out"));
    let is_other = std::fs::metadata(file).is_ok_and(|found| !found.is_file());
    if is_other {
        return std::fs::write(file, text).map_err(|source| failed(format!("{file} can't be written: {source}")));
    }
    let of = |error: files::FileError| failed(error.to_string());
    if Path::new(file).exists() || !files::create(file, text.as_bytes(), 0o644).map_err(of)? {
        files::replace(file, text.as_bytes(), None).map_err(of)?;
    }
    Ok(())
}
