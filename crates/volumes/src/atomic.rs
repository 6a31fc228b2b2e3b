//! Replacing a volume's files at once: they lie in a directory of their own, and a link is turned to it, so that readers
//! see all of the old or all of the new (upstream's atomic writer).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

/// A volume's files: path within it, content.
pub type Files = BTreeMap<PathBuf, File>;

/// A file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
    /// The user whose it is; root's when absent.
    pub owner: Option<u32>,
}

const DATA: &str = "..data";

/// Writes files into a directory, if they are not there as they should be.
///
/// # Errors
/// When a path leads out of the volume, or the disk refuses.
pub fn write(dir: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    for path in files.keys() {
        if !path.components().all(|c| matches!(c, Component::Normal(_))) {
            return Err(io::Error::other(format!("{} leads out of the volume", path.display())));
        }
    }
    make_dir(dir, group)?;
    let current = dir.join(DATA);
    if current.exists() && is_same(&current, files, group) {
        return Ok(());
    }
    let stamp = jiff::Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S.%9f").to_string();
    let fresh = dir.join(&stamp);
    make_dir(&fresh, group)?;
    for (path, file) in files {
        put(&fresh, path, file, group)?;
    }
    let old = fs::read_link(&current).ok();
    let turning = dir.join("..data_tmp");
    let _ = fs::remove_file(&turning);
    symlink(&stamp, &turning)?;
    fs::rename(&turning, &current)?;
    let tops: BTreeSet<PathBuf> =
        files.keys().filter_map(|p| p.components().next().map(|c| PathBuf::from(c.as_os_str()))).collect();
    for top in &tops {
        let link = dir.join(top);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(top), &link)?;
        }
    }
    for entry in fs::read_dir(dir)?.flatten() {
        let name = PathBuf::from(entry.file_name());
        if !name.to_string_lossy().starts_with("..") && !tops.contains(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    if let Some(old) = old {
        let _ = fs::remove_dir_all(dir.join(old));
    }
    Ok(())
}

/// The mode of a file that a group may read.
fn mode(file: &File, group: Option<u32>) -> u32 {
    if group.is_some() { file.mode | 0o440 } else { file.mode }
}

fn make_dir(dir: &Path, group: Option<u32>) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    if group.is_some() {
        chown(dir, None, group)?;
    }
    let mode = if group.is_some() { 0o2755 } else { 0o755 };
    fs::set_permissions(dir, fs::Permissions::from_mode(mode))
}

fn put(dir: &Path, path: &Path, file: &File, group: Option<u32>) -> io::Result<()> {
    let mut above = dir.to_owned();
    for part in path.parent().into_iter().flat_map(Path::components) {
        above.push(part);
        make_dir(&above, group)?;
    }
    let target = dir.join(path);
    fs::write(&target, &file.bytes)?;
    if group.is_some() || file.owner.is_some() {
        chown(&target, file.owner, group)?;
    }
    fs::set_permissions(&target, fs::Permissions::from_mode(mode(file, group)))
}

fn is_same(current: &Path, files: &Files, group: Option<u32>) -> bool {
    let as_is = |path: &Path, file: &File| {
        let path = current.join(path);
        fs::metadata(&path).is_ok_and(|m| m.mode() & 0o7777 == mode(file, group))
            && fs::read(&path).is_ok_and(|have| have == file.bytes)
    };
    count(current) == files.len() && files.iter().all(|(path, file)| as_is(path, file))
}

fn count(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| if e.file_type().is_ok_and(|t| t.is_dir()) { count(&e.path()) } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Files {
        let file = |n: &str| File { bytes: n.as_bytes().to_vec(), mode: 0o640, owner: None };
        names.iter().map(|n| (PathBuf::from(n), file(n))).collect()
    }

    #[test]
    fn files_are_replaced_at_once_and_stale_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let stamp = || fs::read_link(dir.path().join(DATA)).unwrap();
        write(dir.path(), &files(&["a", "d/b"]), None).unwrap();
        assert_eq!(fs::read(dir.path().join("d/b")).unwrap(), b"d/b");
        assert_eq!(fs::metadata(dir.path().join("a")).unwrap().mode() & 0o777, 0o640);
        let first = stamp();
        write(dir.path(), &files(&["a", "d/b"]), None).unwrap();
        assert_eq!(stamp(), first);
        write(dir.path(), &files(&["a"]), None).unwrap();
        assert!(!dir.path().join("d").exists() && dir.path().join("a").exists());
        assert_ne!(stamp(), first);
        assert!(!dir.path().join(first).exists());
        assert!(write(dir.path(), &files(&["../x"]), None).is_err());
    }

    #[test]
    fn a_volume_without_files_is_an_empty_directory() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &Files::new(), None).unwrap();
        assert!(dir.path().join(DATA).is_dir());
    }
}
