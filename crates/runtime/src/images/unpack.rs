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
    let old = header.as_old();
    // An empty number is zero: archivers leave out what they have nothing to say about.
    let blank = |field: &[u8]| field.iter().all(|byte| matches!(byte, 0 | b' '));
    let id = |field: &[u8], id: io::Result<u64>| -> io::Result<u32> {
        let id = if blank(field) { 0 } else { id? };
        u32::try_from(id).map_err(|_| invalid("its owner or group is no 32-bit number"))
    };
    let mut attributes = Attributes {
        mode: if blank(&old.mode) { 0 } else { header.mode()? },
        uid: id(&old.uid, header.uid())?,
        gid: id(&old.gid, header.gid())?,
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    use tar::{Builder, Header};
    use tempfile::TempDir;

    use super::*;
    use crate::images::tree::OPAQUE;

    /// A tar in the making.
    struct Tar(Builder<Vec<u8>>);

    impl Tar {
        fn new() -> Self {
            Tar(Builder::new(Vec::new()))
        }

        fn add(mut self, kind: EntryType, name: &str, mode: u32, content: &[u8], link: &str) -> Self {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_uid(7);
            header.set_gid(8);
            header.set_mtime(1_000_000);
            header.set_size(content.len() as u64);
            // Set raw: the tar crate would refuse the names that matter here.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
            if matches!(kind, EntryType::Char | EntryType::Block) {
                header.set_device_major(1).unwrap();
                header.set_device_minor(3).unwrap();
            }
            header.set_cksum();
            self.0.append(&header, content).unwrap();
            self
        }

        fn file(self, name: &str, content: &str) -> Self {
            self.add(EntryType::Regular, name, 0o644, content.as_bytes(), "")
        }

        fn dir(self, name: &str) -> Self {
            self.add(EntryType::Directory, name, 0o750, b"", "")
        }

        fn symlink(self, name: &str, target: &str) -> Self {
            self.add(EntryType::Symlink, name, 0o777, b"", target)
        }

        fn link(self, name: &str, target: &str) -> Self {
            self.add(EntryType::Link, name, 0o644, b"", target)
        }

        fn pax(mut self, pairs: &[(&str, &[u8])]) -> Self {
            self.0.append_pax_extensions(pairs.iter().copied()).unwrap();
            self
        }

        fn bytes(self) -> Vec<u8> {
            self.0.into_inner().unwrap()
        }
    }

    /// A directory with an empty layer in it; none without the rights of root.
    fn layer() -> Option<(TempDir, PathBuf)> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: unpacking needs root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("fs");
        fs::create_dir(&root).unwrap();
        Some((dir, root))
    }

    fn unpack_into(root: &Path, below: &[PathBuf], tar: &[u8]) -> Result<Digest> {
        unpack(Digest::of(b"layer"), tar, root, below)
    }

    fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
        let mut value = [0u8; 256];
        let count = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
        Some(value[..count].to_vec())
    }

    #[test]
    fn every_kind_of_entry_is_made_with_its_attributes() {
        let Some((_dir, root)) = layer() else { return };
        let capability = [1u8, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let tar = Tar::new()
            .dir("./")
            .dir("bin/")
            .pax(&[("SCHILY.xattr.security.capability", &capability[..]), ("mtime", b"12.5"), ("uid", b"4000000")])
            .add(EntryType::Regular, "bin/ping", 0o4755, b"#!", "")
            .symlink("bin/link", "/nowhere")
            .link("bin/hard", "bin/ping")
            .add(EntryType::Fifo, "pipe", 0o600, b"", "")
            .add(EntryType::Char, "null", 0o666, b"", "")
            .bytes();
        assert_eq!(unpack_into(&root, &[], &tar).unwrap(), Digest::of(&tar));
        let ping = fs::symlink_metadata(root.join("bin/ping")).unwrap();
        assert_eq!((ping.mode() & 0o7777, ping.uid(), ping.gid(), ping.nlink()), (0o4755, 4_000_000, 8, 2));
        assert_eq!((ping.mtime(), ping.mtime_nsec()), (12, 500_000_000));
        assert_eq!(xattr(&root.join("bin/ping"), "security.capability").as_deref(), Some(&capability[..]));
        assert_eq!(fs::read_link(root.join("bin/link")).unwrap(), Path::new("/nowhere"));
        assert!(fs::symlink_metadata(root.join("pipe")).unwrap().file_type().is_fifo());
        assert_eq!(fs::symlink_metadata(root.join("null")).unwrap().rdev(), rustix::fs::makedev(1, 3));
        let bin = fs::metadata(root.join("bin")).unwrap();
        assert_eq!((bin.mtime(), bin.mode() & 0o777, bin.uid()), (1_000_000, 0o750, 7));
        assert_eq!(fs::metadata(&root).unwrap().mode() & 0o777, 0o750);
    }

    #[test]
    fn whiteouts_become_those_of_overlayfs() {
        let Some((_dir, root)) = layer() else { return };
        let tar = Tar::new()
            .file(".wh.gone", "")
            .file("d/.wh..wh..opq", "")
            .file("d/new", "n")
            // Removed below and made anew here, in both orders.
            .file(".wh.first", "")
            .dir("first/")
            .dir("second/")
            .file(".wh.second", "")
            .file("kept", "k")
            .file(".wh.kept", "")
            .file(".wh..wh.plnk", "")
            .bytes();
        unpack_into(&root, &[], &tar).unwrap();
        let gone = fs::symlink_metadata(root.join("gone")).unwrap();
        assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
        for dir in ["d", "first", "second"] {
            assert_eq!(xattr(&root.join(dir), OPAQUE).as_deref(), Some(&b"y"[..]), "{dir}");
        }
        assert_eq!(fs::read(root.join("kept")).unwrap(), b"k");
        assert!(!root.join(".wh..wh.plnk").exists());
    }

    #[test]
    fn no_name_leads_out_of_the_layer() {
        let Some((dir, root)) = layer() else { return };
        fs::write(dir.path().join("secret"), "s").unwrap();
        let refused = [
            Tar::new().file("../out", "x").bytes(),
            Tar::new().file("a/../../out", "x").bytes(),
            Tar::new().link("in", "../secret").bytes(),
            Tar::new().symlink("up", "..").link("in", "up/secret").bytes(),
            Tar::new().symlink("up", "../../..").link("in", "up/secret").bytes(),
            Tar::new().symlink("loop", "loop").file("loop/x", "x").bytes(),
            Tar::new().file("file", "").file("file/x", "x").bytes(),
            Tar::new().file(".wh...", "").bytes(),
            Tar::new().file("a/.wh.", "").bytes(),
        ];
        for tar in refused {
            let error = unpack_into(&root, &[], &tar).unwrap_err();
            assert!(matches!(error, ImageError::Layer { .. }), "{error}");
        }
        let confined = Tar::new()
            .symlink("abs", "/")
            .file("abs/one", "1")
            .symlink("up", "../../../..")
            .file("up/two", "2")
            .symlink("cfg", "/etc")
            .file("cfg/three", "3")
            .bytes();
        unpack_into(&root, &[], &confined).unwrap();
        for name in ["one", "two", "etc/three"] {
            assert!(root.join(name).is_file(), "{name}");
        }
        let outside: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(outside.len(), 2, "{outside:?}");
        assert_eq!(fs::read(dir.path().join("secret")).unwrap(), b"s");
    }

    #[test]
    fn what_layers_below_know_is_respected() {
        let Some((dir, root)) = layer() else { return };
        let below = dir.path().join("below");
        fs::create_dir(&below).unwrap();
        let base = Tar::new()
            .add(EntryType::Directory, "tmp/", 0o1777, b"", "")
            .dir("usr/")
            .dir("usr/lib/")
            .symlink("lib", "usr/lib")
            .file("usr/lib/libc", "libc")
            .bytes();
        unpack_into(&below, &[], &base).unwrap();
        let tar = Tar::new().file("tmp/x", "x").file("lib/liba", "a").link("usr/lib/libd", "usr/lib/libc").bytes();
        unpack_into(&root, std::slice::from_ref(&below), &tar).unwrap();
        let tmp = fs::metadata(root.join("tmp")).unwrap();
        assert_eq!((tmp.mode() & 0o7777, tmp.uid()), (0o1777, 7));
        assert_eq!(fs::read(root.join("usr/lib/liba")).unwrap(), b"a");
        assert!(fs::symlink_metadata(root.join("lib")).is_err());
        let copied = fs::metadata(root.join("usr/lib/libc")).unwrap();
        assert_eq!((copied.nlink(), copied.uid(), copied.mtime()), (2, 7, 1_000_000));
        assert!(unpack_into(&root, &[below], &Tar::new().link("x", "no/such").bytes()).is_err());
    }

    #[test]
    fn later_entries_replace_earlier_ones() {
        let Some((_dir, root)) = layer() else { return };
        let tar = Tar::new()
            .dir("a/")
            .file("a/x", "1")
            .file("a", "file now")
            .file("b", "1")
            .dir("b/")
            .file("b/x", "2")
            .symlink("c", "b")
            .file("c", "no link")
            .link("b/x", "c")
            .bytes();
        unpack_into(&root, &[], &tar).unwrap();
        assert_eq!(fs::read(root.join("a")).unwrap(), b"file now");
        assert_eq!(fs::read(root.join("b/x")).unwrap(), b"no link");
        assert!(fs::symlink_metadata(root.join("c")).unwrap().is_file());
    }

    #[test]
    fn attributes_that_steer_the_overlay_are_not_taken() {
        let Some((_dir, root)) = layer() else { return };
        let tar = Tar::new().pax(&[("SCHILY.xattr.trusted.overlay.redirect", b"/etc")]).dir("d/").bytes();
        unpack_into(&root, &[], &tar).unwrap();
        assert_eq!(xattr(&root.join("d"), "trusted.overlay.redirect"), None);
    }

    #[test]
    fn endless_headers_are_refused() {
        let Some((_dir, root)) = layer() else { return };
        let value = vec![b'x'; 8 << 20];
        let tar = Tar::new().pax(&[("SCHILY.xattr.user.big", &value)]).file("f", "").bytes();
        let error = unpack_into(&root, &[], &tar).unwrap_err().to_string();
        assert!(error.contains("headers take more than"), "{error}");
    }

    #[test]
    fn times_before_the_epoch_are_read() {
        for (text, time) in [
            ("1.5", Some((1, 500_000_000))),
            ("-1.25", Some((-2, 750_000_000))),
            ("7", Some((7, 0))),
            ("x", None),
            ("", None),
            ("1.x", None),
            ("9223372036854775807.9999999999", Some((i64::MAX, 999_999_999))),
        ] {
            assert_eq!(pax_time(text), time, "{text}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
        #[test]
        fn no_bytes_make_it_panic_or_write_elsewhere(
            edits in proptest::collection::vec((0usize..6000, proptest::num::u8::ANY), 0..12),
            cut in 0usize..7000,
        ) {
            if let Some((dir, root)) = layer() {
                let mut tar = Tar::new()
                    .dir("a/")
                    .file("a/b", "content")
                    .symlink("a/s", "/a")
                    .file("a/s/t", "t")
                    .link("h", "a/b")
                    .file("a/.wh.b", "")
                    .bytes();
                for (at, to) in edits {
                    if let Some(byte) = tar.get_mut(at) {
                        *byte = to;
                    }
                }
                // Headers whose sums fit are the ones that get further.
                for block in tar.chunks_exact_mut(512) {
                    if block[257..262] == *b"ustar" {
                        let mut header = Header::new_gnu();
                        header.as_mut_bytes().copy_from_slice(block);
                        header.set_cksum();
                        block.copy_from_slice(header.as_bytes());
                    }
                }
                tar.truncate(cut);
                let _ = unpack_into(&root, &[], &tar);
                let outside = fs::read_dir(dir.path()).unwrap().count();
                proptest::prop_assert_eq!(outside, 1);
            }
        }
    }
}
