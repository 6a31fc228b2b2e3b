//! Files that are whole or absent, whenever the process dies: written aside, synced, renamed, their directory synced.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::error::{ImageError, Result};

/// Makes a directory and those above it, for us alone.
pub fn make_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
        .map_err(|error| ImageError::io("create directory", path, error))
}

/// Puts `bytes` under `path`, replacing what was there in one step.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let aside = path.with_extension("tmp");
    let write = || -> io::Result<()> {
        let mut file = File::create(&aside)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| ImageError::io("write", &aside, error))?;
    rename(&aside, path)
}

/// Renames and makes the new name durable.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|error| ImageError::io("rename to", to, error))?;
    match to.parent() {
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// Makes the names in a directory durable.
pub fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|error| ImageError::io("sync directory", path, error))
}

/// Removes a file; none there is as good.
pub fn remove_file(path: &Path) -> Result<()> {
    absent_is_fine(fs::remove_file(path)).map_err(|error| ImageError::io("remove", path, error))
}

/// Removes a tree; none there is as good. Symbolic links are not followed.
pub fn remove_tree(path: &Path) -> Result<()> {
    absent_is_fine(fs::remove_dir_all(path)).map_err(|error| ImageError::io("remove", path, error))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
