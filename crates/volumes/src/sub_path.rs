//! Parts of volumes. A container can change its volume while a path is looked up: each step is taken beneath the
//! directory that was opened before, and what was opened is mounted, not its name.

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

/// Mounts a part of a volume at a place that only the agent changes, and gives that place.
///
/// # Errors
/// When the path leads out of the volume, or cannot be mounted.
pub fn bind(volume: &Path, sub: &str, place: PathBuf) -> Result<PathBuf, String> {
    if sub.starts_with('/') {
        return Err(format!("error SubPath `{sub}` must not be an absolute path"));
    }
    if Path::new(sub).components().any(|c| c == Component::ParentDir) {
        return Err(format!("unable to provision SubPath `{sub}`: must not contain '..'"));
    }
    let failed = |what: &str| format!("failed to prepare subPath {sub:?}: {what}");
    let part = open(volume, sub).map_err(|e| failed(&e.to_string()))?;
    let source = format!("/proc/self/fd/{}", part.as_raw_fd());
    let is_dir = fs::metadata(&source).map_err(|e| failed(&e.to_string()))?.is_dir();
    // What was mounted for the container before may be of another file by now.
    let _ = rustix::mount::unmount(&place, rustix::mount::UnmountFlags::DETACH);
    let made = if is_dir {
        fs::create_dir_all(&place)
    } else {
        let above = place.parent().map_or(Ok(()), fs::create_dir_all);
        above.and_then(|()| fs::File::create(&place).map(drop))
    };
    made.map_err(|e| failed(&e.to_string()))?;
    rustix::mount::mount_bind_recursive(source.as_str(), &place).map_err(|e| failed(&e.to_string()))?;
    Ok(place)
}

/// Opens a path beneath a volume; what is missing of it is made as directories with the volume's mode.
fn open(volume: &Path, sub: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = openat(CWD, volume, flags, Mode::empty())?;
    let beneath =
        |path: &Path| openat2(&root, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS);
    if let Ok(found) = beneath(Path::new(sub)) {
        return Ok(found);
    }
    let mode = fs::metadata(volume).map_or(0o755, |m| m.permissions().mode() & 0o7777);
    let mut here = PathBuf::new();
    let mut above = openat(&root, ".", flags, Mode::empty())?;
    for part in Path::new(sub).components() {
        let Component::Normal(name) = part else { continue };
        here.push(name);
        above = match beneath(&here) {
            Ok(found) => found,
            Err(rustix::io::Errno::NOENT) => {
                mkdirat(&above, name, Mode::from_raw_mode(mode))?;
                let made = beneath(&here)?;
                // The process's mask does not count.
                let path = format!("/proc/self/fd/{}", made.as_raw_fd());
                let _ = fs::set_permissions(path, fs::Permissions::from_mode(mode));
                made
            }
            Err(error) => return Err(error),
        };
    }
    Ok(above)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_link_cannot_lead_out_of_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        fs::create_dir_all(volume.join("..data")).unwrap();
        fs::write(volume.join("..data/key"), "x").unwrap();
        symlink("..data/key", volume.join("key")).unwrap();
        symlink("/etc", volume.join("out")).unwrap();
        symlink("../..", volume.join("up")).unwrap();
        assert!(open(&volume, "key").is_ok());
        assert!(open(&volume, "new/dir").is_ok() && volume.join("new/dir").is_dir());
        assert!(open(&volume, "out").is_err() && open(&volume, "out/passwd").is_err());
        assert!(open(&volume, "up/x").is_err());
        for (path, why) in [
            ("/etc", "error SubPath `/etc` must not be an absolute path"),
            ("a/../..", "unable to provision SubPath `a/../..`: must not contain '..'"),
        ] {
            assert_eq!(bind(&volume, path, dir.path().join("p")), Err(why.to_owned()));
        }
    }
}
