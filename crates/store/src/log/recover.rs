//! Reads a data directory back.

use super::frame::{Frame, MAGIC, NoFrame, decode, resume};
use crate::error::{Damage, OpenError};
use std::path::{Path, PathBuf};

/// What a directory holds.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The segment to go on with, and where its frames end.
    pub(crate) segment: u64,
    pub(crate) end: u64,
    /// Bytes of log that a checkpoint would free.
    pub(crate) bytes: u64,
    /// What could not be read.
    pub(crate) damage: Vec<Damage>,
}

/// Files by number.
#[derive(Default)]
struct Files {
    logs: Vec<(u64, PathBuf)>,
    checkpoints: Vec<(u64, PathBuf)>,
    unfinished: Vec<PathBuf>,
}

fn files(dir: &Path) -> std::io::Result<Files> {
    let mut files = Files::default();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse::<u64>().ok());
        match (path.extension().and_then(|e| e.to_str()), number) {
            (Some("log"), Some(number)) => files.logs.push((number, path)),
            (Some("checkpoint"), Some(number)) => files.checkpoints.push((number, path)),
            (Some("tmp"), _) => files.unfinished.push(path),
            _ => {}
        }
    }
    files.logs.sort();
    files.checkpoints.sort();
    Ok(files)
}

/// Reads a directory; `each` gets all frames in order, with whether they are of a checkpoint. Removes superfluous files.
pub(crate) fn recover(dir: &Path, mut each: impl FnMut(&Frame<'_>, bool)) -> Result<Found, OpenError> {
    let mut files = files(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
    let mut found = Found::default();
    let base = files.checkpoints.pop();
    let first = base.as_ref().map_or(1, |(number, _)| number + 1);
    let (logs, old): (Vec<_>, Vec<_>) = files.logs.into_iter().partition(|(number, _)| *number >= first);
    let superfluous = files.checkpoints.into_iter().chain(old).map(|(_, path)| path);
    for path in superfluous.chain(files.unfinished) {
        std::fs::remove_file(&path).map_err(|source| OpenError::Io { path, source })?;
    }
    let mut last = 0;
    if let Some((_, path)) = &base {
        let mut complete = false;
        let file = read(path, None, &mut |frame| {
            last = frame.revision;
            complete = frame.entries.is_empty();
            each(frame, true);
        })?;
        found.damage.extend(file.damage);
        if !complete {
            let what = "the end is missing";
            found.damage.push(Damage { path: path.clone(), offset: file.end, length: file.torn.len() as u64, what });
        }
    }
    found.segment = first;
    let newest = logs.last().map(|(number, _)| *number);
    for (number, path) in logs {
        let file = read(&path, Some(last), &mut |frame| {
            last = frame.revision;
            each(frame, false);
        })?;
        found.bytes += file.end;
        (found.segment, found.end) = (number, file.end);
        found.damage.extend(file.damage);
        if file.torn.is_empty() {
            continue;
        }
        if Some(number) == newest {
            set_aside(&path, file.end, &file.torn);
        } else {
            // A later segment was begun: what is missing here had been whole.
            let (offset, length) = (file.end, file.torn.len() as u64);
            found.damage.push(Damage { path, offset, length, what: "cut short" });
        }
    }
    for damage in &found.damage {
        tracing::error!(%damage, "the store is damaged; everything else is kept");
    }
    Ok(found)
}

/// The last flush was never acknowledged; what it left is kept for who wants to look.
fn set_aside(path: &Path, offset: u64, torn: &[u8]) {
    let aside = path.with_extension("torn");
    tracing::warn!(file = %path.display(), offset, aside = %aside.display(), "the last write was cut short and is dropped");
    if let Err(error) = std::fs::write(&aside, torn) {
        tracing::warn!(file = %aside.display(), %error, "it cannot be kept aside");
    }
}

/// What a file holds beside whole frames.
#[derive(Default)]
struct Recovered {
    /// Where the next frame goes.
    end: u64,
    /// What an unfinished flush left there.
    torn: Vec<u8>,
    damage: Vec<Damage>,
}

/// Revisions do not jump further within a file.
const JUMP: i64 = 1 << 32;

/// Reads a file; of a segment, `after` is the last revision before it.
fn read(path: &Path, after: Option<i64>, each: &mut dyn FnMut(&Frame<'_>)) -> Result<Recovered, OpenError> {
    let bytes = std::fs::read(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    let mut file = Recovered::default();
    let Some(head) = bytes.first_chunk::<8>().filter(|_| !is_zero(&bytes)) else {
        // A segment that was just begun.
        return Ok(file);
    };
    if *head != MAGIC {
        let why = if head[..5] == MAGIC[..5] { "it is of another version" } else { "it does not begin as one" };
        return Err(OpenError::Foreign { path: path.to_owned(), why });
    }
    let (mut at, mut last) = (MAGIC.len(), after.unwrap_or_default());
    loop {
        let what = match decode(&bytes[at..]) {
            Ok((frame, length)) => {
                each(&frame);
                last = frame.revision;
                at += length;
                continue;
            }
            Err(NoFrame::End) if is_zero(&bytes[at..]) => break,
            Err(NoFrame::End) => "zeros",
            Err(NoFrame::Damaged(what)) => what,
        };
        let revisions = match after {
            Some(_) => last + 1..last.saturating_add(JUMP),
            // Frames of a checkpoint carry its own revision.
            None if last > 0 => last..last + 1,
            None => 1..JUMP,
        };
        match resume(&bytes, at + 1, revisions) {
            Some(next) if after.is_none() || flushes_after(&bytes[next..], last + 1) => {
                let (offset, length) = (at as u64, (next - at) as u64);
                file.damage.push(Damage { path: path.to_owned(), offset, length, what });
                at = next;
            }
            _ => {
                let written = bytes[at..].iter().rposition(|&b| b != 0).map_or(0, |n| n + 1);
                file.torn = bytes[at..at + written].to_vec();
                break;
            }
        }
    }
    file.end = at as u64;
    Ok(file)
}

/// Whether the frames at the start of `bytes` show that a flush began after the one with `revision` had ended.
fn flushes_after(mut bytes: &[u8], revision: i64) -> bool {
    while let Ok((frame, length)) = decode(bytes) {
        if frame.flush > revision {
            return true;
        }
        bytes = &bytes[length..];
    }
    false
}

fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}
