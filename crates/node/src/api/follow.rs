//! A log file, read to its end or as it grows.

use super::log_line::Shown;
use super::tail::seek_tail;
use crate::cri::Cri;
use crate::runtime_events::{Happened, Heard};
use crate::watch::Watch;
use bytes::Bytes;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, BufReader};
use trireme_cri as cri;

/// So much is read at a time, and sent at a time where it is there.
const PIECE: usize = 64 << 10;

/// A log that is read.
pub(super) struct Log {
    path: PathBuf,
    reader: BufReader<File>,
    /// The file that took the place of the one that is read (the log was rotated).
    newer: Option<File>,
    /// What there is of a line.
    line: Vec<u8>,
    shown: Shown,
    /// How many bytes may be sent still.
    left: Option<u64>,
    live: Option<Live>,
}

/// What a log that is followed needs.
pub(super) struct Live {
    /// The log's directory.
    pub(super) watch: Watch,
    pub(super) heard: Heard,
    pub(super) cri: Cri,
    /// The container.
    pub(super) id: String,
    /// Its pod.
    pub(super) uid: String,
    /// Whether nothing is written any more.
    pub(super) ended: bool,
}

impl Log {
    /// Opens a log at its beginning, or where its last `tail` lines begin.
    pub(super) async fn open(
        path: PathBuf,
        tail: Option<u64>,
        shown: Shown,
        limit: Option<u64>,
        live: Option<Live>,
    ) -> io::Result<Self> {
        let mut file = std::fs::File::open(&path)?;
        if let Some(lines) = tail {
            let sought = tokio::task::spawn_blocking(move || seek_tail(&mut file, lines).map(|()| file));
            file = sought.await.map_err(io::Error::other)??;
        }
        let reader = BufReader::with_capacity(PIECE, File::from_std(file));
        Ok(Self { path, reader, newer: None, line: Vec::new(), shown, left: limit, live })
    }

    /// The next piece; none when all was read of a log that does not grow.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.left == Some(0) {
                return None;
            }
            let mut out = self.read().await.ok()?;
            if !out.is_empty() {
                if let Some(left) = &mut self.left {
                    out.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= out.len() as u64;
                }
                return Some(out.into());
            }
            let ended = self.live.as_ref()?.ended;
            if let Some(newer) = self.newer.take() {
                self.reader = BufReader::with_capacity(PIECE, newer);
                self.line.clear();
                continue;
            }
            // What was written to the old file until it was closed is read before the new one is.
            self.newer = self.replaced().await;
            if self.newer.is_some() {
                continue;
            }
            if ended {
                return None;
            }
            self.live.as_mut()?.wait().await;
        }
    }

    /// Lines that are whole; nothing when there are none now.
    async fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < PIECE {
            self.reader.read_until(b'\n', &mut self.line).await?;
            if self.line.last() != Some(&b'\n') {
                break;
            }
            out.extend(self.shown.show(&self.line).unwrap_or_default());
            self.line.clear();
        }
        Ok(out)
    }

    /// The file that has the log's name now, if it is another.
    async fn replaced(&self) -> Option<File> {
        let now = tokio::fs::metadata(&self.path).await.ok()?;
        let read = self.reader.get_ref().metadata().await.ok()?;
        if (now.dev(), now.ino()) == (read.dev(), read.ino()) {
            return None;
        }
        File::open(&self.path).await.ok()
    }
}

impl Live {
    /// Waits until the log may have grown, or its container has ended.
    async fn wait(&mut self) {
        loop {
            tokio::select! {
                () = self.watch.changed() => return,
                happened = self.heard.next() => {
                    if happened == Happened::Anywhere || happened == Happened::To(self.uid.clone()) {
                        self.ended = self.has_ended().await;
                    }
                    if self.ended {
                        return;
                    }
                }
            }
        }
    }

    async fn has_ended(&self) -> bool {
        let request = cri::ContainerStatusRequest { container_id: self.id.clone(), verbose: false };
        match self.cri.runtime.clone().container_status(request).await {
            Ok(answer) => answer.into_inner().status.is_none_or(|s| s.state() == cri::ContainerState::ContainerExited),
            Err(status) => status.code() == tonic::Code::NotFound,
        }
    }
}
