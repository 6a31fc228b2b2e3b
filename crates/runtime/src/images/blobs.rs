//! The content store: `blobs/sha256/<hex>`, each file being what its name says. Half-fetched content waits under
//! `ingest/<hex>.partial`, from where a later attempt goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::digest::{Digest, Hasher};
use super::error::{ImageError, Result};
use super::files;

const PARTIAL: &str = ".partial";
const COMING: &str = ".coming";
const GOING: &str = ".going";

/// Content by digest. All its work is blocking.
#[derive(Debug, Clone)]
pub struct BlobStore {
    blobs: PathBuf,
    ingest: PathBuf,
}

/// Content on its way in.
pub struct Ingest {
    file: File,
    path: PathBuf,
    hasher: Hasher,
    written: u64,
}

// === impl BlobStore ===

impl BlobStore {
    /// Opens the store below `root`.
    pub fn open(root: &Path) -> Result<Self> {
        let store = BlobStore { blobs: root.join("blobs/sha256"), ingest: root.join("ingest") };
        files::make_dir(&store.blobs)?;
        files::make_dir(&store.ingest)?;
        Ok(store)
    }

    /// The file of a blob.
    pub fn path(&self, digest: Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    /// The size of a blob that is here.
    pub fn size(&self, digest: Digest) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().filter(|meta| meta.is_file()).map(|meta| meta.len())
    }

    /// Opens a blob.
    pub fn open_blob(&self, digest: Digest) -> Result<File> {
        let path = self.path(digest);
        File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ImageError::NotFound { what: format!("content {digest}") },
            _ => ImageError::io("open", &path, error),
        })
    }

    /// Reads a small blob and checks that it is still what its name says.
    pub fn read(&self, kind: &'static str, digest: Digest, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open_blob(digest)?
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(|error| ImageError::io("read", self.path(digest), error))?;
        let actual = Digest::of(&bytes);
        match actual == digest {
            true => Ok(bytes),
            false => Err(ImageError::DigestMismatch { kind, expected: digest, actual }),
        }
    }

    /// Stores bytes that are at hand.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.size(digest) != Some(bytes.len() as u64) {
            let mut ingest = self.fresh()?;
            ingest.write(bytes)?;
            self.commit("content", ingest, digest, bytes.len() as u64)?;
        }
        Ok(digest)
    }

    /// Begins or goes on with content whose digest is known. What an earlier attempt left is read to go on hashing.
    pub fn resume(&self, digest: Digest) -> Result<Ingest> {
        let path = self.ingest.join(format!("{}{PARTIAL}", digest.hex()));
        let open = || -> io::Result<Ingest> {
            let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
            let mut hasher = Hasher::default();
            let written = copy_hashing(&mut file, &mut io::sink(), &mut hasher)?;
            Ok(Ingest { file, path: path.clone(), hasher, written })
        };
        open().map_err(|error| ImageError::io("open", &path, error))
    }

    /// Begins content whose digest is not known yet.
    pub fn fresh(&self) -> Result<Ingest> {
        let path = self.ingest.join(format!("{}{COMING}", random_name()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(|error| ImageError::io("create", &path, error))?;
        Ok(Ingest { file, path, hasher: Hasher::default(), written: 0 })
    }

    /// Ends content: checks it, syncs it, and gives it its name. What does not fit its digest is thrown away.
    pub fn commit(&self, kind: &'static str, ingest: Ingest, digest: Digest, size: u64) -> Result<()> {
        let actual = ingest.hasher.clone().finish();
        let failure = if ingest.written != size && actual != digest {
            // Too short or too long says more than another digest does.
            Some(ImageError::SizeMismatch { kind, digest, expected: size, actual: ingest.written })
        } else if actual != digest {
            Some(ImageError::DigestMismatch { kind, expected: digest, actual })
        } else if ingest.written != size {
            Some(ImageError::SizeMismatch { kind, digest, expected: size, actual: ingest.written })
        } else {
            None
        };
        if let Some(failure) = failure {
            files::remove_file(&ingest.path)?;
            return Err(failure);
        }
        self.adopt(ingest, digest)
    }

    /// Ends content whose digest nobody foretold; it is [`Ingest::digest`].
    pub fn commit_as_is(&self, ingest: Ingest) -> Result<()> {
        let digest = ingest.digest();
        self.adopt(ingest, digest)
    }

    /// Takes a blob's name away and tells its size; `sweep_ingest` frees the space.
    pub fn drop_name(&self, digest: Digest) -> Result<u64> {
        let size = self.size(digest).unwrap_or(0);
        let (from, to) = (self.path(digest), self.ingest.join(format!("{}{GOING}", random_name())));
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ImageError::io("rename", &from, error)),
            _ => Ok(size),
        }
    }

    /// Frees the space of blobs whose names were taken away.
    pub fn sweep_dropped(&self) -> Result<()> {
        let listing = fs::read_dir(&self.ingest).map_err(|error| ImageError::io("list", &self.ingest, error))?;
        for entry in listing.flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.ends_with(GOING)) {
                files::remove_file(&entry.path())?;
            }
        }
        Ok(())
    }

    fn adopt(&self, ingest: Ingest, digest: Digest) -> Result<()> {
        ingest.file.sync_all().map_err(|error| ImageError::io("sync", &ingest.path, error))?;
        files::rename(&ingest.path, &self.path(digest))
    }

    /// Removes a blob and tells its size.
    pub fn remove(&self, digest: Digest) -> Result<u64> {
        let size = self.size(digest).unwrap_or(0);
        files::remove_file(&self.path(digest))?;
        Ok(size)
    }

    /// All blobs with their sizes.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>> {
        let listing = fs::read_dir(&self.blobs).map_err(|error| ImageError::io("list", &self.blobs, error))?;
        let mut blobs = Vec::new();
        for entry in listing {
            let entry = entry.map_err(|error| ImageError::io("list", &self.blobs, error))?;
            let digest = entry.file_name().to_str().and_then(|name| Digest::from_hex(name).ok());
            if let (Some(digest), Ok(meta)) = (digest, entry.metadata()) {
                blobs.push((digest, meta.len()));
            }
        }
        Ok(blobs)
    }

    /// Throws away what an earlier process left, but for half-fetched content: that is gone on with. Only for the time
    /// before anybody else works here.
    pub fn sweep(&self) -> Result<()> {
        let listing = fs::read_dir(&self.ingest).map_err(|error| ImageError::io("list", &self.ingest, error))?;
        for entry in listing.flatten() {
            if !entry.file_name().to_str().is_some_and(|name| name.ends_with(PARTIAL)) {
                files::remove_file(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Throws away half-fetched content that `keep` does not want; returns the bytes freed.
    pub fn sweep_partial(&self, keep: impl Fn(Digest) -> bool) -> Result<u64> {
        let listing = fs::read_dir(&self.ingest).map_err(|error| ImageError::io("list", &self.ingest, error))?;
        let mut freed = 0u64;
        for entry in listing.flatten() {
            let name = entry.file_name();
            let partial = name.to_str().and_then(|name| name.strip_suffix(PARTIAL));
            let Some(digest) = partial.and_then(|hex| Digest::from_hex(hex).ok()) else { continue };
            if keep(digest) {
                continue;
            }
            freed = freed.saturating_add(entry.metadata().map(|meta| meta.len()).unwrap_or(0));
            files::remove_file(&entry.path())?;
        }
        Ok(freed)
    }
}

// === impl Ingest ===

impl Ingest {
    /// The digest of what is there.
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// How much is there.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Takes more bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| ImageError::io("write", &self.path, error))?;
        self.hasher.update(bytes);
        self.written = self.written.saturating_add(bytes.len() as u64);
        Ok(())
    }

    /// Forgets all bytes: the other end begins anew.
    pub fn restart(&mut self) -> Result<()> {
        let cut = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        cut.map_err(|error| ImageError::io("truncate", &self.path, error))?;
        self.hasher = Hasher::default();
        self.written = 0;
        Ok(())
    }

    /// Throws it away.
    pub fn discard(self) -> Result<()> {
        files::remove_file(&self.path)
    }
}

/// Copies all of `from`, hashing it on the way.
pub fn copy_hashing(from: &mut impl Read, to: &mut impl Write, hasher: &mut Hasher) -> io::Result<u64> {
    let mut buffer = vec![0u8; 128 << 10];
    let mut total = 0u64;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let piece = buffer.get(..count).unwrap_or_default();
        hasher.update(piece);
        to.write_all(piece)?;
        total = total.saturating_add(count as u64);
    }
}

/// A name that no other ingest has.
pub fn random_name() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_goes_on_where_it_stopped_and_is_checked() {
        let root = tempfile::tempdir().unwrap();
        let store = BlobStore::open(root.path()).unwrap();
        let digest = Digest::of(b"hello world");
        let mut ingest = store.resume(digest).unwrap();
        ingest.write(b"hello ").unwrap();
        drop(ingest);
        let mut ingest = store.resume(digest).unwrap();
        assert_eq!(ingest.written(), 6);
        ingest.write(b"world").unwrap();
        store.commit("layer", ingest, digest, 11).unwrap();
        assert_eq!(store.read("layer", digest, 100).unwrap(), b"hello world");
        assert_eq!(store.list().unwrap(), [(digest, 11)]);

        let other = Digest::of(b"other");
        let mut ingest = store.resume(other).unwrap();
        ingest.write(b"othex").unwrap();
        let error = store.commit("layer", ingest, other, 5).unwrap_err();
        assert!(matches!(error, ImageError::DigestMismatch { expected, .. } if expected == other));
        assert_eq!(store.resume(other).unwrap().written(), 0);
    }

    #[test]
    fn damage_on_disk_is_noticed_when_read() {
        let root = tempfile::tempdir().unwrap();
        let store = BlobStore::open(root.path()).unwrap();
        let digest = store.put(b"config").unwrap();
        fs::write(store.path(digest), b"c0nfig").unwrap();
        assert!(matches!(store.read("config", digest, 100), Err(ImageError::DigestMismatch { .. })));
    }
}
