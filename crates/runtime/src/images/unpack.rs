//! One layer's tar into one directory (OCI image-spec, layer.md), in the form that overlayfs wants.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use tar::{Entry, EntryType};

use super::digest::Digest;
use super::error::{ImageError, Result};
use super::tarball::{Broken, walk};
use super::tree::{Attributes, Place, Tree, file_type, is_whiteout, split};

const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";
/// Other names of AUFS' own housekeeping.
const WHITEOUT_META: &[u8] = b".wh..wh.";
/// From this size on it is asked whether a file fits on the disk before it is written.
const LARGE_FILE: u64 = 64 << 20;

/// Unpacks `source` into the empty directory `root` and returns the digest of the plain tar. `below` are the
/// directories of the layers under it, the nearest first.
pub fn unpack(layer: Digest, source: impl Read + Send, root: &Path, below: &[PathBuf]) -> Result<Digest> {
    let failed = |entry: &str, error: io::Error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ImageError::io("write", root, error),
        _ => ImageError::Layer { layer, entry: entry.to_owned(), reason: error.to_string() },
    };
    let mut unpacker = Unpacker {
        tree: Tree::open(root, below).map_err(|error| ImageError::io("open", root, error))?,
        root: root.to_path_buf(),
        dir_times: Vec::new(),
    };
    let digest =
        walk(source, |entry| unpacker.entry(entry)).map_err(|Broken { entry, error }| failed(&entry, error))?;
    unpacker.finish().map_err(|error| failed("end", error))?;
    Ok(digest)
}

struct Unpacker {
    tree: Tree,
    root: PathBuf,
    // Set last: each entry made in a directory changes the directory's time.
    dir_times: Vec<(Vec<OsString>, (i64, i64))>,
}

// === impl Unpacker ===

impl Unpacker {
    fn entry<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let path = split(&entry.path_bytes()).map_err(invalid)?;
        let attributes = attributes(entry)?;
        let Some((name, above)) = path.split_last() else {
            // The root itself.
            let place = self.tree.place(&[])?;
            self.dir_times.push((Vec::new(), attributes.mtime));
            return place.set_attributes(OsStr::new("."), &attributes, FileType::Directory);
        };
        let place = self.tree.place(above)?;
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            return self.whiteout(&place, name, OsStr::from_bytes(hidden));
        }
        let kind = match kind {
            EntryType::Directory => return self.directory(&place, name, attributes),
            EntryType::Link => return self.link(&place, name, entry),
            kind => kind,
        };
        if let Some(stat) = place.stat(name)? {
            place.remove(name, &stat)?;
            self.tree.forget();
        }
        let made = match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.room_for(entry.size())?;
                let mut file = place.create_file(name)?;
                io::copy(entry, &mut file)?;
                FileType::RegularFile
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().filter(|target| !target.is_empty());
                let target = target.ok_or_else(|| invalid("a symbolic link without target"))?;
                place.create_symlink(name, OsStr::from_bytes(&target))?;
                self.tree.forget();
                FileType::Symlink
            }
            EntryType::Char => self.node(&place, name, FileType::CharacterDevice, entry)?,
            EntryType::Block => self.node(&place, name, FileType::BlockDevice, entry)?,
            EntryType::Fifo => self.node(&place, name, FileType::Fifo, entry)?,
            other => return Err(invalid(format!("entry type {other:?} is not supported"))),
        };
        place.set_attributes(name, &attributes, made)
    }

    fn directory(&mut self, place: &Place, name: &OsStr, attributes: Attributes) -> io::Result<()> {
        let before = place.stat(name)?;
        match &before {
            Some(stat) if file_type(stat) == FileType::Directory => {}
            other => {
                if let Some(stat) = other {
                    place.remove(name, stat)?;
                    self.tree.forget();
                }
                place.create_dir(name)?;
                if other.as_ref().is_some_and(is_whiteout) {
                    // Removed and made anew in one layer: what is below must not show through.
                    place.set_opaque(name)?;
                }
            }
        }
        let mut path = place.path.clone();
        path.push(name.to_owned());
        self.dir_times.push((path, attributes.mtime));
        place.set_attributes(name, &attributes, FileType::Directory)
    }

    fn whiteout(&mut self, place: &Place, name: &OsStr, hidden: &OsStr) -> io::Result<()> {
        if name.as_bytes() == WHITEOUT_OPAQUE {
            return place.set_opaque_here();
        }
        if name.as_bytes().starts_with(WHITEOUT_META) {
            return Ok(());
        }
        if hidden.is_empty() || hidden == "." || hidden == ".." {
            return Err(invalid("a whiteout of nothing"));
        }
        // A whiteout speaks of the layers below, never of its own: what this layer makes stays.
        match place.stat(hidden)? {
            None => place.create_whiteout(hidden),
            Some(stat) if file_type(&stat) == FileType::Directory => place.set_opaque(hidden),
            Some(_) => Ok(()),
        }
    }

    fn link<R: Read>(&mut self, place: &Place, name: &OsStr, entry: &Entry<'_, R>) -> io::Result<()> {
        let target = entry.link_name_bytes().ok_or_else(|| invalid("a hard link without target"))?;
        let target = split(&target).map_err(|_| invalid("its target leads out of the layer"))?;
        let (target_name, above) = target.split_last().ok_or_else(|| invalid("a hard link to the root"))?;
        let from = self.tree.place(above)?;
        if from.path == place.path && target_name == name {
            return Ok(());
        }
        match from.stat(target_name)? {
            Some(stat) if is_whiteout(&stat) => return Err(invalid("its target is removed by this layer")),
            Some(stat) if file_type(&stat) == FileType::Directory => {
                return Err(invalid("a hard link to a directory"));
            }
            Some(_) => {}
            None => {
                if !self.tree.copy_up(&from, target_name)? {
                    return Err(io::Error::new(io::ErrorKind::NotFound, "its target is not there"));
                }
            }
        }
        if let Some(stat) = place.stat(name)? {
            place.remove(name, &stat)?;
            self.tree.forget();
        }
        place.create_link(name, &from, target_name)
    }

    fn node<R: Read>(
        &mut self,
        place: &Place,
        name: &OsStr,
        kind: FileType,
        entry: &Entry<'_, R>,
    ) -> io::Result<FileType> {
        let (major, minor) = match kind {
            FileType::Fifo => (0, 0),
            _ => (entry.header().device_major()?.unwrap_or(0), entry.header().device_minor()?.unwrap_or(0)),
        };
        place.create_node(name, kind, major, minor)?;
        Ok(kind)
    }

    fn room_for(&self, size: u64) -> io::Result<()> {
        if size < LARGE_FILE {
            return Ok(());
        }
        let disk = rustix::fs::statvfs(&self.root)?;
        match size <= disk.f_bavail.saturating_mul(disk.f_frsize) {
            true => Ok(()),
            false => {
                Err(io::Error::new(io::ErrorKind::StorageFull, format!("no space left on device for {size} bytes")))
            }
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.tree.forget();
        for (path, time) in std::mem::take(&mut self.dir_times).into_iter().rev() {
            let Some((name, above)) = path.split_last() else {
                self.tree.place(&[])?.set_time(OsStr::new("."), time)?;
                continue;
            };
            let place = self.tree.place(above)?;
            // It may have been replaced since.
            if place.stat(name)?.is_some_and(|stat| file_type(&stat) == FileType::Directory) {
                place.set_time(name, time)?;
            }
        }
        Ok(())
    }
}

fn attributes<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Attributes> {
    let header = entry.header();
    let id = |id: io::Result<u64>| -> io::Result<u32> {
        u32::try_from(id?).map_err(|_| invalid("its owner or group is no 32-bit number"))
    };
    let mut attributes = Attributes {
        mode: header.mode()?,
        uid: id(header.uid())?,
        gid: id(header.gid())?,
        mtime: (i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0), 0),
        xattrs: Vec::new(),
    };
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            let key = extension.key_bytes();
            if key == b"mtime" {
                attributes.mtime = extension.value().ok().and_then(pax_time).unwrap_or(attributes.mtime);
            } else if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                attributes.xattrs.push((OsStr::from_bytes(name).to_owned(), extension.value_bytes().to_vec()));
            }
        }
    }
    Ok(attributes)
}

/// `[-]seconds[.fraction]` (POSIX pax).
fn pax_time(text: &str) -> Option<(i64, i64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: i64 = digits.parse().ok()?;
    match whole.starts_with('-') && nanoseconds > 0 {
        true => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds)),
        false => Some((seconds, nanoseconds)),
    }
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}
