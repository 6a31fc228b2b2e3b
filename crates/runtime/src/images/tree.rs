//! The directory of one layer, reached only through its descriptor: no name of an archive leads out of it, whatever
//! symbolic links the layer or those below it hold. Names are resolved as in the container, with the layer as root.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

/// As many as the kernel follows.
const MAX_LINKS: usize = 40;
/// What overlayfs reads as "nothing below shows through" (kernel: filesystems/overlayfs.rst).
pub const OPAQUE: &str = "trusted.overlay.opaque";

/// A layer being unpacked, with those below it.
pub struct Tree {
    root: OwnedFd,
    below: Vec<OwnedFd>,
    last: Option<(Vec<OsString>, Place)>,
}

/// A directory of the layer.
#[derive(Clone)]
pub struct Place {
    dir: Rc<OwnedFd>,
    /// Its path from the root, without symbolic links.
    pub path: Vec<OsString>,
}

/// What an archive says of an entry besides its content.
#[derive(Debug, Clone, Default)]
pub struct Attributes {
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Extended attributes.
    pub xattrs: Vec<(OsString, Vec<u8>)>,
}

// === impl Tree ===

impl Tree {
    /// Opens the layer at `root`; `below` are the layers under it, the nearest first.
    pub fn open(root: &Path, below: &[PathBuf]) -> io::Result<Self> {
        let open =
            |path: &Path| rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let below = below.iter().map(|path| open(path)).collect::<Result<_, _>>()?;
        Ok(Tree { root: open(root)?, below, last: None })
    }

    /// The directory at `path`, made if need be. One that only a layer below has is made with its attributes there,
    /// since in the overlay ours will stand for both.
    pub fn place(&mut self, path: &[OsString]) -> io::Result<Place> {
        if let Some((known, place)) = &self.last
            && known == path
        {
            return Ok(place.clone());
        }
        let mut ahead: VecDeque<OsString> = path.iter().cloned().collect();
        let mut at: Vec<OsString> = Vec::new();
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            at.push(name);
            let link = match self.look(&self.root, &at)? {
                Some((stat, fd)) => match file_type(&stat) {
                    FileType::Directory => None,
                    FileType::Symlink => Some(read_link(&fd)?),
                    _ if is_whiteout(&stat) => {
                        self.replace_whiteout_by_dir(&at)?;
                        None
                    }
                    _ => return Err(Errno::NOTDIR.into()),
                },
                None => match self.look_below(&at)? {
                    Some((stat, fd)) if file_type(&stat) == FileType::Symlink => Some(read_link(&fd)?),
                    Some((stat, fd)) if file_type(&stat) == FileType::Directory => {
                        self.copy_dir(&at, &stat, &fd)?;
                        None
                    }
                    _ => {
                        self.make_dir(&at, 0o755)?;
                        None
                    }
                },
            };
            if let Some(target) = link {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP.into());
                }
                at.pop();
                if target.as_bytes().starts_with(b"/") {
                    at.clear();
                }
                for part in target.as_bytes().rsplit(|byte| *byte == b'/') {
                    if !part.is_empty() && part != b"." {
                        ahead.push_front(OsString::from_vec(part.to_vec()));
                    }
                }
            }
        }
        let dir = match at.is_empty() {
            true => {
                rustix::fs::openat(&self.root, ".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?
            }
            false => self.open_beneath(&self.root, &at, OFlags::DIRECTORY)?,
        };
        let place = Place { dir: Rc::new(dir), path: at };
        self.last = Some((path.to_vec(), place.clone()));
        Ok(place)
    }

    /// Forgets what is known of directories, after one may have become something else.
    pub fn forget(&mut self) {
        self.last = None;
    }

    /// Brings a file of a layer below into this one, so that a hard link to it can be made.
    pub fn copy_up(&mut self, place: &Place, name: &OsStr) -> io::Result<bool> {
        let mut path = place.path.clone();
        path.push(name.to_owned());
        let Some((stat, fd)) = self.look_below(&path)? else { return Ok(false) };
        if file_type(&stat) != FileType::RegularFile {
            return Ok(false);
        }
        let mut from = std::fs::File::open(proc_path(fd.as_fd(), None))?;
        let mut to = place.create_file(name)?;
        io::copy(&mut from, &mut to)?;
        place.set_attributes(name, &attributes_of(&stat, &fd)?, FileType::RegularFile)?;
        Ok(true)
    }

    fn look(&self, root: &OwnedFd, path: &[OsString]) -> io::Result<Option<(Stat, OwnedFd)>> {
        match self.open_beneath(root, path, OFlags::empty()) {
            Ok(fd) => Ok(Some((rustix::fs::fstat(&fd)?, fd))),
            // Something in the middle is no directory (in a layer below: then it is not there).
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn look_below(&self, path: &[OsString]) -> io::Result<Option<(Stat, OwnedFd)>> {
        for layer in &self.below {
            if let Some((stat, fd)) = self.look(layer, path)? {
                return Ok((!is_whiteout(&stat)).then_some((stat, fd)));
            }
            for depth in 1..path.len() {
                let Some((stat, fd)) = self.look(layer, path.get(..depth).unwrap_or_default())? else { break };
                let hides = file_type(&stat) != FileType::Directory || is_opaque(&fd);
                if hides {
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    fn open_beneath(&self, root: &OwnedFd, path: &[OsString], flags: OFlags) -> Result<OwnedFd, Errno> {
        rustix::fs::openat2(
            root,
            join(path),
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC | flags,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        )
    }

    /// The open directory above the last name of a path whose directories exist, with that name.
    fn above(&self, path: &[OsString]) -> io::Result<Place> {
        let parent = path.split_last().map(|(_, parent)| parent).unwrap_or_default();
        let dir = match parent.is_empty() {
            true => self.root.try_clone()?,
            false => self.open_beneath(&self.root, parent, OFlags::DIRECTORY)?,
        };
        Ok(Place { dir: Rc::new(dir), path: parent.to_vec() })
    }

    fn make_dir(&self, path: &[OsString], mode: u32) -> io::Result<Place> {
        let above = self.above(path)?;
        let Some(name) = path.last() else { return Ok(above) };
        rustix::fs::mkdirat(&*above.dir, name, Mode::from_raw_mode(0o700))?;
        rustix::fs::chmodat(&*above.dir, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
        Ok(above)
    }

    fn copy_dir(&self, path: &[OsString], stat: &Stat, fd: &OwnedFd) -> io::Result<()> {
        let above = self.make_dir(path, stat.st_mode & 0o7777)?;
        match path.last() {
            Some(name) => above.set_attributes(name, &attributes_of(stat, fd)?, FileType::Directory),
            None => Ok(()),
        }
    }

    fn replace_whiteout_by_dir(&self, path: &[OsString]) -> io::Result<()> {
        let above = self.above(path)?;
        let Some(name) = path.last() else { return Ok(()) };
        rustix::fs::unlinkat(&*above.dir, name, AtFlags::empty())?;
        self.make_dir(path, 0o755)?;
        above.set_opaque(name)
    }
}

// === impl Place ===

impl Place {
    /// What is under a name, not following a link.
    pub fn stat(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&*self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what is under a name, with all below it.
    pub fn remove(&self, name: &OsStr, stat: &Stat) -> io::Result<()> {
        if file_type(stat) == FileType::Directory {
            return std::fs::remove_dir_all(proc_path(self.dir.as_fd(), Some(name)));
        }
        Ok(rustix::fs::unlinkat(&*self.dir, name, AtFlags::empty())?)
    }

    /// A new, empty directory.
    pub fn create_dir(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&*self.dir, name, Mode::from_raw_mode(0o700))?)
    }

    /// A new, empty file.
    pub fn create_file(&self, name: &OsStr) -> io::Result<std::fs::File> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&*self.dir, name, flags, Mode::from_raw_mode(0o600))?.into())
    }

    /// A symbolic link.
    pub fn create_symlink(&self, name: &OsStr, target: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, &*self.dir, name)?)
    }

    /// A hard link to a name of another directory.
    pub fn create_link(&self, name: &OsStr, from: &Place, target: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::linkat(&*from.dir, target, &*self.dir, name, AtFlags::empty())?)
    }

    /// A device or pipe.
    pub fn create_node(&self, name: &OsStr, kind: FileType, major: u32, minor: u32) -> io::Result<()> {
        let device = rustix::fs::makedev(major, minor);
        Ok(rustix::fs::mknodat(&*self.dir, name, kind, Mode::from_raw_mode(0o600), device)?)
    }

    /// What hides a name of the layers below.
    pub fn create_whiteout(&self, name: &OsStr) -> io::Result<()> {
        self.create_node(name, FileType::CharacterDevice, 0, 0)
    }

    /// Hides everything below a directory.
    pub fn set_opaque(&self, name: &OsStr) -> io::Result<()> {
        self.set_xattr(name, OsStr::new(OPAQUE), b"y").map_err(Into::into)
    }

    /// Hides everything below this directory itself.
    pub fn set_opaque_here(&self) -> io::Result<()> {
        self.set_opaque(OsStr::new("."))
    }

    /// Owner, permissions, extended attributes, time: in this order, since a change of the owner takes away set-user-id
    /// bits and capabilities.
    pub fn set_attributes(&self, name: &OsStr, attributes: &Attributes, kind: FileType) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
        rustix::fs::chownat(&*self.dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if kind != FileType::Symlink {
            rustix::fs::chmodat(&*self.dir, name, Mode::from_raw_mode(attributes.mode & 0o7777), AtFlags::empty())?;
        }
        for (key, value) in &attributes.xattrs {
            // These steer the overlay itself: a layer could reach into others with them.
            if key.as_bytes().starts_with(b"trusted.overlay.") || key.as_bytes().starts_with(b"user.overlay.") {
                continue;
            }
            match self.set_xattr(name, key, value) {
                // The file system has none, or `user.` is asked for on something that is neither file nor directory.
                Err(Errno::NOTSUP) => tracing::debug!(key = %key.display(), "extended attribute is not kept"),
                Err(Errno::PERM) if key.as_bytes().starts_with(b"user.") => {}
                result => result?,
            }
        }
        self.set_time(name, attributes.mtime)
    }

    /// The time of the last change.
    pub fn set_time(&self, name: &OsStr, (seconds, nanoseconds): (i64, i64)) -> io::Result<()> {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(rustix::fs::utimensat(&*self.dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn set_xattr(&self, name: &OsStr, key: &OsStr, value: &[u8]) -> Result<(), Errno> {
        rustix::fs::lsetxattr(proc_path(self.dir.as_fd(), Some(name)), key, value, XattrFlags::empty())
    }
}

/// Splits a name of an archive and refuses one that leads above the root.
pub fn split(path: &[u8]) -> Result<Vec<OsString>, &'static str> {
    let mut parts: Vec<OsString> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop().ok_or("its path leads out of the layer")?;
            }
            name if name.contains(&0) => return Err("its path has a zero byte"),
            name => parts.push(OsString::from_vec(name.to_vec())),
        }
    }
    Ok(parts)
}

/// The type bits of a mode.
pub fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// overlayfs' mark for "removed here": a character device 0/0.
pub fn is_whiteout(stat: &Stat) -> bool {
    file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn is_opaque(dir: &OwnedFd) -> bool {
    let mut value = [0u8; 4];
    let count = rustix::fs::getxattr(proc_path(dir.as_fd(), None), OPAQUE, &mut value[..]);
    count.is_ok_and(|count| value.get(..count) == Some(b"y"))
}

fn attributes_of(stat: &Stat, fd: &OwnedFd) -> io::Result<Attributes> {
    let path = proc_path(fd.as_fd(), None);
    let mut xattrs = Vec::new();
    let size = rustix::fs::listxattr_query(&path).unwrap_or(0);
    let mut names = vec![0u8; size];
    let size = if size == 0 { 0 } else { rustix::fs::listxattr(&path, names.as_mut_slice())? };
    names.truncate(size);
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = OsStr::from_bytes(name);
        let mut value = vec![0u8; rustix::fs::getxattr_query(&path, name)?];
        let count = match value.is_empty() {
            true => 0,
            false => rustix::fs::getxattr(&path, name, value.as_mut_slice())?,
        };
        value.truncate(count);
        xattrs.push((name.to_owned(), value));
    }
    Ok(Attributes {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        xattrs,
    })
}

fn read_link(fd: &OwnedFd) -> io::Result<OsString> {
    let target = rustix::fs::readlinkat(fd, "", Vec::new())?;
    Ok(OsString::from_vec(target.into_bytes()))
}

fn join(path: &[OsString]) -> PathBuf {
    path.iter().collect()
}

/// A path to what a descriptor holds, for calls that take no descriptor.
fn proc_path(fd: BorrowedFd<'_>, name: Option<&OsStr>) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    path.extend(name);
    path
}
