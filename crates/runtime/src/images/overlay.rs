//! Mounting layers one over the other. Through the mount API of file descriptors (Linux 6.8: `lowerdir+`), where the
//! number of layers is not bounded by the one page that mount(2) takes; older kernels get mount(2) with short names.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount, unmount,
};

/// The longest value that fsconfig(2) takes.
const MAX_VALUE: usize = 255;
/// Mounts on one point that are taken away, should something have put more than ours there.
const MAX_STACKED: usize = 16;

/// What to mount.
#[derive(Debug, Clone)]
pub struct Overlay {
    /// Read-only layers, the nearest first; at least one, and two when there is no `upper`.
    pub lower: Vec<PathBuf>,
    /// The writable layer and the directory that overlayfs works in, on one file system.
    pub upper: Option<(PathBuf, PathBuf)>,
}

// === impl Overlay ===

impl Overlay {
    /// Mounts on `target`.
    pub fn mount(&self, target: &Path) -> io::Result<()> {
        if let Some((_, work)) = &self.upper {
            // overlayfs' own mark that the upper directory was not synced: it refuses to mount until it is gone. After
            // a power failure no container goes on, so that nobody relies on such a directory.
            match fs::remove_dir_all(work.join("work/incompat")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match self.mount_by_descriptors(target) {
            // No such call, no such option: an older kernel.
            Err(error)
                if matches!(Errno::from_io_error(&error), Some(Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP)) =>
            {
                tracing::debug!(%error, "overlay by fsopen failed, trying mount(2)");
                self.mount_by_page(target).map_err(|_| error)
            }
            result => result,
        }
    }

    fn mount_by_descriptors(&self, target: &Path) -> io::Result<()> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let explain = |errno: Errno| explain(&context, errno);
        fsconfig_set_string(&context, "source", "overlay")?;
        let mut held = Vec::new();
        for layer in &self.lower {
            fsconfig_set_string(&context, "lowerdir+", short(layer, &mut held)?).map_err(explain)?;
        }
        if let Some((upper, work)) = &self.upper {
            fsconfig_set_string(&context, "upperdir", short(upper, &mut held)?).map_err(explain)?;
            fsconfig_set_string(&context, "workdir", short(work, &mut held)?).map_err(explain)?;
            // With an index, an upper directory could not be mounted again over layers that were unpacked anew.
            if let Err(errno) = fsconfig_set_string(&context, "index", "off") {
                tracing::debug!(%errno, "overlayfs without the index option");
            }
            // What a container writes beside its volumes ends with the container: to sync it, and with each unmount the
            // whole file system below, would only slow everybody down.
            if let Err(errno) = fsconfig_set_flag(&context, "volatile") {
                tracing::debug!(%errno, "overlayfs without the volatile option");
            }
        }
        fsconfig_create(&context).map_err(explain)?;
        let attributes = if self.upper.is_none() { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
        let detached = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        Ok(move_mount(&detached, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
    }

    fn mount_by_page(&self, target: &Path) -> io::Result<()> {
        let mut held = Vec::new();
        let mut options = b"index=off,lowerdir=".to_vec();
        for (at, layer) in self.lower.iter().enumerate() {
            if at > 0 {
                options.push(b':');
            }
            options.extend_from_slice(by_descriptor(layer, &mut held)?.as_os_str().as_bytes());
        }
        let mut flags = MountFlags::RDONLY;
        if let Some((upper, work)) = &self.upper {
            flags = MountFlags::empty();
            for (name, path) in [(&b",upperdir="[..], upper), (b",workdir=", work)] {
                options.extend_from_slice(name);
                options.extend_from_slice(by_descriptor(path, &mut held)?.as_os_str().as_bytes());
            }
        }
        let options = CString::new(options)?;
        Ok(mount("overlay", target, "overlay", flags, options.as_c_str())?)
    }
}

/// Whether something is mounted on `path`.
pub fn is_mounted(path: &Path) -> bool {
    let stat = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, StatxFlags::empty());
    stat.is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Takes away what is mounted on `path`, even while it is used.
pub fn unmount_all(path: &Path) -> io::Result<()> {
    for _ in 0..MAX_STACKED {
        match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Nothing is mounted, or there is no such directory.
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::BUSY.into())
}

/// The path, or a shorter name of what it leads to.
fn short(path: &Path, held: &mut Vec<OwnedFd>) -> io::Result<PathBuf> {
    match path.as_os_str().len() <= MAX_VALUE {
        true => Ok(path.to_path_buf()),
        false => by_descriptor(path, held),
    }
}

fn by_descriptor(path: &Path, held: &mut Vec<OwnedFd>) -> io::Result<PathBuf> {
    let fd = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let name = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    held.push(fd);
    Ok(name)
}

/// The kernel's words for a refusal, if it left any in the context's log. The error code is kept.
fn explain(context: &OwnedFd, errno: Errno) -> io::Error {
    let mut message = [0u8; 512];
    if errno == Errno::INVAL {
        // Kept as it is: it decides whether mount(2) is tried.
        return errno.into();
    }
    match rustix::io::read(context, &mut message) {
        Ok(count) => {
            let text = String::from_utf8_lossy(message.get(..count).unwrap_or_default()).trim().to_owned();
            io::Error::new(io::Error::from(errno).kind(), format!("{errno}: {text}"))
        }
        Err(_) => errno.into(),
    }
}

/// The empty directory `path`, made if need be.
pub fn empty_dir(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_mounting_show_the_same() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: mounting needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(&path).unwrap();
            path
        };
        fs::write(path("near").join("f"), "near").unwrap();
        fs::write(path("far").join("f"), "far").unwrap();
        let (near, far, upper, work, target) = (path("near"), path("far"), path("upper"), path("work"), path("target"));
        let writable = Overlay { lower: vec![near.clone(), far.clone()], upper: Some((upper.clone(), work)) };
        let read_only = Overlay { lower: vec![near, far], upper: None };
        let ways: [fn(&Overlay, &Path) -> io::Result<()>; 2] = [Overlay::mount_by_descriptors, Overlay::mount_by_page];
        for mount in ways {
            assert!(!is_mounted(&target));
            if let Some((_, work)) = &writable.upper {
                let _ = fs::remove_dir_all(work.join("work/incompat"));
            }
            mount(&writable, &target).unwrap();
            assert!(is_mounted(&target));
            assert_eq!(fs::read_to_string(target.join("f")).unwrap(), "near");
            fs::write(target.join("f"), "new").unwrap();
            unmount_all(&target).unwrap();
            assert_eq!(fs::read_to_string(upper.join("f")).unwrap(), "new");
            fs::remove_file(upper.join("f")).unwrap();

            mount(&read_only, &target).unwrap();
            assert!(fs::write(target.join("f"), "x").is_err());
            unmount_all(&target).unwrap();
            unmount_all(&target).unwrap();
        }
    }
}
