//! How much a tree takes on disk.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::record::Usage;

/// Counts blocks and inodes below `path`, itself included, each hard-linked file once. What vanishes meanwhile is
/// not counted.
pub fn usage_of(path: &Path) -> io::Result<Usage> {
    let mut usage = Usage::default();
    let mut seen = HashSet::new();
    let mut ahead = vec![path.to_path_buf()];
    while let Some(path) = ahead.pop() {
        let meta = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            meta => meta?,
        };
        if meta.is_dir() {
            for entry in fs::read_dir(&path)? {
                ahead.push(entry?.path());
            }
        } else if meta.nlink() > 1 && !seen.insert((meta.dev(), meta.ino())) {
            continue;
        }
        // st_blocks counts 512 bytes whatever the block size is (stat(2)).
        usage = usage.plus(Usage { bytes: meta.blocks().saturating_mul(512), inodes: 1 });
    }
    Ok(usage)
}
