//! Files, read no further than they may be long.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

/// The bytes of a file that a person named, which may be a pipe; `None` if there are more than `limit`.
pub fn read(file: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    all(File::open(file)?, limit)
}

/// The bytes of a file that was found in a folder; `None` if there are more than `limit`.
pub fn read_regular(file: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    // Whoever wrote the folder could have put a pipe or a device there, which never ends.
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::other("is not a file"));
    }
    read(file, limit)
}

/// All that there is to read; `None` if it is more than `limit`.
pub fn all(from: impl Read, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    from.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}
