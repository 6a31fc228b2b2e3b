//! Removing what a pod had on disk.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A path of the kernel's list of mounts, in which some characters are octal numbers.
fn unescape(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.split_at_checked(3).and_then(|(digits, rest)| Some((u8::from_str_radix(digits, 8).ok()?, rest))) {
            Some((code, rest)) => {
                out.push(code);
                out.extend_from_slice(rest.as_bytes());
            }
            None => out.extend_from_slice(format!("\\{part}").as_bytes()),
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

/// Removes a directory of volumes, and what is mounted below it. What cannot be removed is logged.
pub fn remove(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines().rev() {
        let Some(at) = line.split(' ').nth(1).map(unescape).filter(|at| at.starts_with(dir)) else { continue };
        if let Err(error) = rustix::mount::unmount(&at, rustix::mount::UnmountFlags::DETACH) {
            tracing::warn!(path = %at.display(), %error, "cannot unmount a volume");
            return;
        }
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %dir.display(), %error, "cannot remove a pod's directory");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_blanks_are_read() {
        assert_eq!(unescape("/a\\040b/c"), PathBuf::from("/a b/c"));
        assert_eq!(unescape("/plain"), PathBuf::from("/plain"));
    }
}
