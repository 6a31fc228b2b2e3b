//! Events as lines of a file, which is rotated (`--audit-log-*`).

use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Where lines are written, and when the file is rotated.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The file; `-` is standard output.
    pub path: PathBuf,
    /// Bytes after which a new file is begun.
    pub max_bytes: u64,
    /// Old files that are kept; 0 is all.
    pub max_backups: usize,
    /// Days for which old files are kept; 0 is for ever.
    pub max_days: u64,
}

/// A log of events. A line is with the system when `write` returns.
pub(super) struct Log {
    options: LogOptions,
    open: Mutex<Open>,
}

enum Open {
    Output,
    File { file: File, bytes: u64 },
}

impl Log {
    pub(super) fn open(options: &LogOptions) -> Result<Self, String> {
        let open = if options.path == Path::new("-") {
            Open::Output
        } else {
            append(&options.path).map_err(|e| format!("{}: {e}", options.path.display()))?
        };
        Ok(Self { options: options.clone(), open: Mutex::new(open) })
    }

    pub(super) fn write(&self, line: &[u8]) -> io::Result<()> {
        let mut whole = Vec::with_capacity(line.len() + 1);
        whole.extend_from_slice(line);
        whole.push(b'\n');
        let size = whole.len() as u64;
        let mut open = self.open.lock();
        let full = matches!(&*open, Open::File { bytes, .. } if *bytes > 0 && bytes + size > self.options.max_bytes);
        if full {
            std::fs::rename(&self.options.path, backup(&self.options.path, jiff::Timestamp::now()))?;
            *open = append(&self.options.path)?;
            self.forget_old()?;
        }
        match &mut *open {
            Open::Output => io::stdout().lock().write_all(&whole),
            Open::File { file, bytes } => {
                *bytes += size;
                file.write_all(&whole)
            }
        }
    }

    /// Removes old files beyond their number and age.
    fn forget_old(&self) -> io::Result<()> {
        let mut old = backups(&self.options.path)?;
        old.sort();
        old.reverse();
        let too_old = |path: &Path| {
            let age = path.metadata().and_then(|m| m.modified()).map(|t| SystemTime::now().duration_since(t));
            let most = Duration::from_secs(self.options.max_days.saturating_mul(86_400));
            self.options.max_days > 0 && age.is_ok_and(|age| age.is_ok_and(|age| age > most))
        };
        for (n, path) in old.iter().enumerate() {
            if (self.options.max_backups > 0 && n >= self.options.max_backups) || too_old(path) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<Open> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent)?;
    }
    // What is in it may be secret.
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let bytes = file.metadata()?.len();
    Ok(Open::File { file, bytes })
}

fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let end = text(path.extension());
    (text(path.file_stem()), if end.is_empty() { end } else { format!(".{end}") })
}

/// `audit-2026-01-01T00-00-00.000.log`: the name that upstream's rotation gives.
fn backup(path: &Path, now: jiff::Timestamp) -> PathBuf {
    let (stem, end) = parts(path);
    let at = now.strftime("%Y-%m-%dT%H-%M-%S.%3f");
    let name = |n: u32| match n {
        0 => path.with_file_name(format!("{stem}-{at}{end}")),
        n => path.with_file_name(format!("{stem}-{at}-{n}{end}")),
    };
    // Two rotations within a millisecond do not overwrite each other.
    (0..u32::MAX).map(name).find(|p| !p.exists()).unwrap_or_else(|| name(0))
}

fn backups(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (stem, end) = parts(path);
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let dated = name.strip_prefix(&format!("{stem}-")).and_then(|rest| rest.strip_suffix(end.as_str()));
        if dated.is_some_and(|d| d.len() >= 23 && d.starts_with(|c: char| c.is_ascii_digit())) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_put_aside_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let options = LogOptions { path: path.clone(), max_bytes: 20, max_backups: 2, max_days: 0 };
        let log = Log::open(&options).unwrap();
        for n in 0..10 {
            log.write(format!("line number {n}").as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line number 9\n");
        assert_eq!(backups(&path).unwrap().len(), 2);
        drop(log);
        Log::open(&options).unwrap().write(b"more").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line number 9\nmore\n");
    }
}
