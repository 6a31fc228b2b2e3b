//! Directories that live as long as their pod.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

/// Where the files of such a directory are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// On the node's disk.
    Disk,
    /// In memory, at most so many bytes.
    Memory(Option<u64>),
    /// In huge pages of so many bytes (hugetlbfs).
    HugePages(u64),
}

/// Makes one, unless it is there. `group` is the pod's `fsGroup`.
///
/// # Errors
/// When the disk or the kernel refuses.
pub fn make(path: &Path, medium: Medium, group: Option<u32>) -> io::Result<()> {
    if path.exists() && (medium == Medium::Disk || is_mounted(path)) {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    let system = match medium {
        Medium::Disk => None,
        Medium::Memory(limit) => Some(("tmpfs", limit.map_or_else(String::new, |bytes| format!("size={bytes}")))),
        Medium::HugePages(bytes) => Some(("hugetlbfs", format!("pagesize={bytes}"))),
    };
    if let Some((kind, data)) = system {
        let data = CString::new(data)?;
        rustix::mount::mount(kind, path, kind, rustix::mount::MountFlags::empty(), Some(data.as_c_str()))?;
    }
    if group.is_some() {
        chown(path, None, group)?;
    }
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn is_mounted(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).map(|m| m.dev()).ok();
    path.parent().is_some_and(|above| device(above) != device(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn everybody_may_write_and_what_was_written_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v");
        make(&path, Medium::Disk, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o777);
        fs::write(path.join("f"), "x").unwrap();
        make(&path, Medium::Disk, None).unwrap();
        assert!(path.join("f").exists());
    }
}
