//! Attachments on disk: one file each, written whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// A folder of records, one JSON file per sandbox.
#[derive(Clone, Debug)]
pub(super) struct Records {
    folder: PathBuf,
}

impl Records {
    /// Opens the folder, making it where it is missing.
    pub(super) fn open(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder).map_err(failed("create folder", &folder))?;
        Ok(Self { folder })
    }

    fn path(&self, sandbox: &str) -> PathBuf {
        self.folder.join(format!("{sandbox}.json"))
    }

    /// All records. A file that cannot be read as one is named, set aside and passed over; what a crash left of an
    /// unfinished write is removed.
    pub(super) fn load<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed("list folder", &self.folder))? {
            let path = entry.map_err(failed("list folder", &self.folder))?.path();
            match path.extension().and_then(|e| e.to_str()) {
                Some("json") => {}
                Some("new") => {
                    fs::remove_file(&path).map_err(failed("remove unfinished file", &path))?;
                    continue;
                }
                _ => continue,
            }
            let bytes = fs::read(&path).map_err(failed("read", &path))?;
            match serde_json::from_slice(&bytes) {
                Ok(record) => records.push(record),
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "attachment cannot be read; set aside");
                    let aside = path.with_extension("corrupt");
                    fs::rename(&path, &aside).map_err(failed("set aside", &path))?;
                }
            }
        }
        Ok(records)
    }

    /// Writes a record, whole or not at all. It survives this process; a crash of the machine takes the links with it, so
    /// nobody waits for the disk.
    pub(super) fn save<T: Serialize>(&self, sandbox: &str, record: &T) -> Result<()> {
        let path = self.path(sandbox);
        let new = path.with_extension("json.new");
        let bytes = serde_json::to_vec(record)
            .map_err(|error| Error::Corrupt { path: path.clone(), reason: error.to_string() })?;
        fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path)).map_err(failed("write", &path))
    }

    /// Removes a record; one that is gone already is fine.
    pub(super) fn remove(&self, sandbox: &str) -> Result<()> {
        let path = self.path(sandbox);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path)(error)),
            _ => Ok(()),
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corrupt_file_is_set_aside_and_the_rest_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(folder.path().into()).unwrap();
        records.save("one", &"first").unwrap();
        fs::write(folder.path().join("two.json"), b"{half").unwrap();
        fs::write(folder.path().join("three.json.new"), b"\"unfinished\"").unwrap();
        assert_eq!(records.load::<String>().unwrap(), ["first"]);
        assert!(folder.path().join("two.corrupt").exists());
        assert!(!folder.path().join("three.json.new").exists());
        records.remove("one").unwrap();
        records.remove("one").unwrap();
        assert!(records.load::<String>().unwrap().is_empty());
    }
}
