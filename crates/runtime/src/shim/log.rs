//! A container's log in CRI's form: `TIME STREAM F|P TEXT`, a line each.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Lines longer than this are written in parts.
const LONGEST: usize = 16 << 10;

/// An open log.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: Option<File>,
    /// The unfinished line of each stream.
    rest: [Vec<u8>; 2],
}

pub(super) const STREAMS: [&str; 2] = ["stdout", "stderr"];

fn open(path: &Path) -> io::Result<File> {
    if let Some(above) = path.parent() {
        std::fs::create_dir_all(above)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

impl Log {
    /// A log at a path; an empty path is no log.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let file = if path.as_os_str().is_empty() { None } else { Some(open(path)?) };
        Ok(Self { path: path.to_owned(), file, rest: Default::default() })
    }

    /// Opens the file anew, after it was moved away.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            self.file = Some(open(&self.path)?);
        }
        Ok(())
    }

    /// Takes what was written to a stream.
    pub(super) fn take(&mut self, stream: usize, bytes: &[u8]) {
        let Some(rest) = self.rest.get_mut(stream) else { return };
        rest.extend_from_slice(bytes);
        let mut out = Vec::new();
        loop {
            match rest.iter().position(|&b| b == b'\n') {
                Some(end) => {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    Self::lines(stream, &line[..end], true, &mut out);
                }
                None if rest.len() >= LONGEST => {
                    let part: Vec<u8> = rest.drain(..LONGEST).collect();
                    Self::lines(stream, &part, false, &mut out);
                }
                None => break,
            }
        }
        self.write(&out);
    }

    /// Writes what was left unfinished when a stream ended.
    pub(super) fn finish(&mut self, stream: usize) {
        let Some(rest) = self.rest.get_mut(stream).map(std::mem::take).filter(|r| !r.is_empty()) else { return };
        let mut out = Vec::new();
        Self::lines(stream, &rest, true, &mut out);
        self.write(&out);
    }

    fn lines(stream: usize, text: &[u8], whole: bool, out: &mut Vec<u8>) {
        let mut parts = text.chunks(LONGEST).peekable();
        if text.is_empty() {
            Self::line(stream, b"", whole, out);
        }
        while let Some(part) = parts.next() {
            Self::line(stream, part, whole && parts.peek().is_none(), out);
        }
    }

    fn line(stream: usize, text: &[u8], whole: bool, out: &mut Vec<u8>) {
        let now = jiff::Timestamp::now();
        let tag = if whole { "F" } else { "P" };
        let name = STREAMS.get(stream).copied().unwrap_or_default();
        out.extend_from_slice(format!("{now:.9} {name} {tag} ").as_bytes());
        out.extend_from_slice(text);
        out.push(b'\n');
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(file) = &mut self.file {
            // A full disk loses log lines; the container goes on.
            let _ = file.write_all(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_or_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/0.log");
        let mut log = Log::new(&path).unwrap();
        log.take(0, b"one\ntw");
        log.take(1, b"err\n");
        log.take(0, b"o");
        log.finish(0);
        log.take(0, &vec![b'x'; LONGEST + 5]);
        log.finish(0);
        let text = std::fs::read_to_string(&path).unwrap();
        let tails: Vec<String> =
            text.lines().map(|l| l.split_once(' ').unwrap().1.chars().take(14).collect()).collect();
        assert_eq!(tails[..3], ["stdout F one", "stderr F err", "stdout F two"]);
        assert!(tails[3].starts_with("stdout P xxx") && tails[4] == "stdout F xxxxx");
    }
}
