//! Root file systems of containers: `rootfs/<container>/{rootfs,upper,work}` over the layers of an image, and a record of
//! which, so that neither a restart nor the image's removal takes the ground from under a container.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::error::{ImageError, Result};
use super::files;
use super::options::Rootfs;
use super::overlay::{Overlay, empty_dir, is_mounted, unmount_all};
use super::record::Usage;
use super::snapshots::Snapshots;
use super::usage::usage_of;

const MAX_ID: usize = 128;

/// Root file systems below one directory. All its work is blocking.
#[derive(Debug, Clone)]
pub struct RootfsStore {
    dir: PathBuf,
    empty: PathBuf,
}

/// What a root file system is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RootfsRecord {
    /// The image.
    pub image: Digest,
    /// Its layers, the lowest first.
    pub chain: Vec<Digest>,
    /// A volume: nobody writes to it.
    #[serde(default)]
    pub read_only: bool,
}

// === impl RootfsStore ===

impl RootfsStore {
    /// Opens the directory below `root` and reads which root file systems there are. One whose record is damaged is
    /// named in the log and removed: no container can be made of it.
    pub fn open(root: &Path) -> Result<(Self, BTreeMap<String, RootfsRecord>)> {
        let store = RootfsStore { dir: root.join("rootfs"), empty: root.join("empty") };
        files::make_dir(&store.dir)?;
        files::make_dir(&store.empty)?;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&store.empty, mode)
            .map_err(|error| ImageError::io("change mode of", &store.empty, error))?;
        let mut records = BTreeMap::new();
        let listing = fs::read_dir(&store.dir).map_err(|error| ImageError::io("list", &store.dir, error))?;
        for entry in listing.flatten() {
            let Ok(id) = entry.file_name().into_string() else { continue };
            let path = entry.path().join("rootfs.json");
            let record = fs::read(&path).map_err(|error| error.to_string());
            match record.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string())) {
                Ok(record) => {
                    records.insert(id, record);
                }
                Err(error) => {
                    tracing::warn!(file = %path.display(), error, "root file system without a record, removed");
                    store.remove(&id)?;
                }
            }
        }
        Ok((store, records))
    }

    /// Makes the directories and the record of a new root file system.
    pub fn create(&self, id: &str, record: &RootfsRecord) -> Result<()> {
        let dir = self.dir.join(id);
        files::make_dir(&dir)?;
        let mut names = vec!["rootfs"];
        if !record.read_only {
            names.extend(["upper", "work"]);
        }
        for name in names {
            let path = dir.join(name);
            empty_dir(&path).map_err(|error| ImageError::io("create directory", &path, error))?;
            let mode = fs::Permissions::from_mode(if name == "work" { 0o700 } else { 0o755 });
            fs::set_permissions(&path, mode).map_err(|error| ImageError::io("change mode of", &path, error))?;
        }
        let text = serde_json::to_vec(record).map_err(|error| ImageError::manifest("rootfs.json", error))?;
        // Not synced: after a crash of the machine there is no container either, and `open` cleans up.
        let path = dir.join("rootfs.json");
        let aside = dir.join("rootfs.tmp");
        let written = fs::write(&aside, text).and_then(|()| fs::rename(&aside, &path));
        written.map_err(|error| ImageError::io("write", &path, error))
    }

    /// Mounts a root file system, unless it is.
    pub fn mount(&self, id: &str, record: &RootfsRecord, snapshots: &Snapshots) -> Result<Rootfs> {
        let dir = self.dir.join(id);
        let rootfs = Rootfs { path: dir.join("rootfs"), upper: dir.join("upper"), image: record.image };
        if is_mounted(&rootfs.path) {
            return Ok(rootfs);
        }
        let mut lower: Vec<PathBuf> = record.chain.iter().rev().map(|chain| snapshots.path(*chain)).collect();
        let writable = (!record.read_only).then(|| (rootfs.upper.clone(), dir.join("work")));
        let least = if writable.is_some() { 1 } else { 2 };
        while lower.len() < least {
            lower.push(self.empty.clone());
        }
        if let Some(below) = record.chain.last()
            && !record.read_only
        {
            self.copy_root_mode(&snapshots.path(*below), &rootfs.upper)?;
        }
        let mounted = Overlay { lower, upper: writable }.mount(&rootfs.path);
        mounted.map_err(|error| ImageError::io("mount overlay on", &rootfs.path, error))?;
        Ok(rootfs)
    }

    /// The root directory of the overlay shows the attributes of the upper one.
    fn copy_root_mode(&self, below: &Path, upper: &Path) -> Result<()> {
        let copy = || -> io::Result<()> {
            let meta = fs::metadata(below)?;
            use std::os::unix::fs::MetadataExt;
            std::os::unix::fs::chown(upper, Some(meta.uid()), Some(meta.gid()))?;
            fs::set_permissions(upper, fs::Permissions::from_mode(meta.mode() & 0o7777))
        };
        copy().map_err(|error| ImageError::io("copy attributes to", upper, error))
    }

    /// Unmounts, keeping what was written.
    pub fn unmount(&self, id: &str) -> Result<()> {
        let path = self.dir.join(id).join("rootfs");
        unmount_all(&path).map_err(|error| ImageError::io("unmount", &path, error))
    }

    /// Unmounts and removes.
    pub fn remove(&self, id: &str) -> Result<()> {
        self.unmount(id)?;
        let dir = self.dir.join(id);
        // Should something be mounted there still, its content must not be removed through it.
        let rootfs = dir.join("rootfs");
        match fs::remove_dir(&rootfs) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ImageError::io("remove", &rootfs, error)),
            _ => files::remove_tree(&dir),
        }
    }

    /// What was written to it.
    pub fn usage(&self, id: &str) -> Result<Usage> {
        let upper = self.dir.join(id).join("upper");
        match usage_of(&upper) {
            Err(error) => Err(ImageError::io("measure", &upper, error)),
            Ok(usage) => Ok(usage),
        }
    }
}

/// Whether an id can be the name of a directory.
pub fn check_id(id: &str) -> Result<()> {
    let fits = !id.is_empty()
        && id.len() <= MAX_ID
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !id.starts_with('.');
    match fits {
        true => Ok(()),
        false => Err(ImageError::InvalidReference { reference: id.to_owned(), reason: "invalid container id".into() }),
    }
}
