//! What is left of the machine: pairs of what is free and of what there is.

use super::{first_line, number_after};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Memory, in bytes.
pub(crate) fn memory_left() -> (u64, u64) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |key| number_after(&text, key).and_then(|kib| u64::try_from(kib).ok()).unwrap_or_default() * 1024;
    (bytes("MemAvailable:"), bytes("MemTotal:"))
}

/// Numbers of processes.
pub(crate) fn pids_left() -> (u64, u64) {
    let most = first_line("/proc/sys/kernel/pid_max").parse().unwrap_or(32_768);
    (u64::saturating_sub(most, threads(&first_line("/proc/loadavg"))), most)
}

/// The threads of the machine, in the fourth field of `/proc/loadavg` (proc_loadavg(5)).
fn threads(load: &str) -> u64 {
    let field = load.split_whitespace().nth(3).and_then(|t| t.split('/').nth(1));
    field.and_then(|t| t.parse().ok()).unwrap_or_default()
}

/// What is left of a file system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disk {
    /// Bytes for who is not root.
    pub(crate) bytes: (u64, u64),
    pub(crate) inodes: (u64, u64),
    /// Which it is.
    pub(crate) id: u64,
}

/// The file system of a path; nothing if it cannot be asked. One without inodes of its own has enough of them.
pub(crate) fn disk(path: &Path) -> Option<Disk> {
    let stat = rustix::fs::statvfs(path).ok()?;
    let inodes = if stat.f_files == 0 { (1, 1) } else { (stat.f_favail, stat.f_files) };
    let bytes = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
    Some(Disk { bytes, inodes, id: fs::metadata(path).ok()?.dev() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_more_left_than_there_is() {
        let disk = disk(Path::new("/")).unwrap();
        for (left, whole) in [memory_left(), pids_left(), disk.bytes, disk.inodes] {
            assert!(left <= whole && whole > 0, "{left} of {whole}");
        }
        assert_eq!(threads("0.20 0.18 0.12 1/80 11206"), 80);
        assert_eq!(threads(""), 0);
    }
}
