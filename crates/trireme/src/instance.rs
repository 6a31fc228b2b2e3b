//! One cluster's identity on a machine: its data directory, and the names derived from it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

/// A data directory, and what is named after it, so that several clusters can live on one machine.
#[derive(Clone, Debug)]
pub struct Instance {
    dir: PathBuf,
    id: String,
}

/// The hold that a running Trireme has on its data directory.
#[derive(Debug)]
pub struct Lock {
    // Held for its lock, which the kernel drops with the process.
    _file: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process runs on it.
    #[error("another Trireme (process {pid}) is running on {}: stop it, or choose another --data-dir", dir.display())]
    Running {
        /// The directory.
        dir: PathBuf,
        /// The other process.
        pid: String,
    },
    /// There is no such directory.
    #[error("there is no Trireme in {}: choose another --data-dir", dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// A file or directory cannot be made or opened.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Instance {
    /// The instance of a data directory, which is made when it is missing.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: dir.to_owned(), source };
        if let Some(above) = dir.parent() {
            fs::create_dir_all(above).map_err(io)?;
        }
        // Keys and secrets of the cluster lie below: for root alone.
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(io(error)),
            _ => {}
        }
        Self::existing(dir)
    }

    /// The instance of a data directory that is there.
    pub fn existing(dir: &Path) -> Result<Self, Error> {
        let dir = dir.canonicalize().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::Missing { dir: dir.to_owned() },
            _ => Error::Io { path: dir.to_owned(), source },
        })?;
        // Eight hexadecimal digits: short enough for the names of network links, which have 15 characters.
        let digest = Sha256::digest(dir.as_os_str().as_encoded_bytes());
        let id = hex::encode(digest.get(..4).unwrap_or_default());
        Ok(Self { dir, id })
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path below the data directory.
    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.join(below)
    }

    /// What links, tables, cgroups and sockets of this instance are named with.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn lock_file(&self) -> PathBuf {
        self.path("lock")
    }

    /// Takes hold of the directory for this process.
    pub fn lock(&self) -> Result<Lock, Error> {
        let path = self.lock_file();
        let io = |source| Error::Io { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(io)?;
            return Err(Error::Running { dir: self.dir.clone(), pid: pid.trim().to_owned() });
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Lock { _file: file })
    }

    /// The process that holds the directory, if one does.
    pub fn running(&self) -> Result<Option<u32>, Error> {
        match self.lock() {
            Ok(_) => Ok(None),
            Err(Error::Running { pid, .. }) => Ok(pid.parse().ok()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_holder_and_a_stable_id() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::open(dir.path()).unwrap();
        assert_eq!(instance.id(), Instance::existing(dir.path()).unwrap().id());
        let lock = instance.lock().unwrap();
        assert!(matches!(instance.lock(), Err(Error::Running { pid, .. }) if pid == std::process::id().to_string()));
        assert_eq!(instance.running().unwrap(), Some(std::process::id()));
        drop(lock);
        assert_eq!(instance.running().unwrap(), None);
    }
}
