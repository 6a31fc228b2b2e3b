//! The thread that writes: one flush for all that wait, then publication, then answers.

use crate::embedded::{Flush, Shared};
use crate::error::CommitError;
use crate::log::{self, Segment};
use crate::topic::{Change, Event};
use std::sync::Arc;
use std::thread::JoinHandle;

/// A checkpoint is written when the log is this much larger than what it would leave.
const SLACK: u64 = 64 << 20;

pub(crate) struct Writer {
    shared: Arc<Shared>,
    segment: Segment,
    /// Bytes of log since the last checkpoint.
    log_bytes: u64,
    /// What a checkpoint would hold.
    live_bytes: u64,
    /// Writes a checkpoint, or has.
    checkpoint: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, segment: Segment, log_bytes: u64, live_bytes: u64) -> Self {
        Self { shared, segment, log_bytes, live_bytes, checkpoint: None }
    }

    /// Writes until the store is closed and nothing waits.
    pub(crate) fn run(&mut self) {
        while let Some(flush) = self.next() {
            self.write(flush);
        }
        // Who opens the directory next must not find it changing.
        if let Some(checkpoint) = self.checkpoint.take() {
            let _ = checkpoint.join();
        }
    }

    fn next(&self) -> Option<Flush> {
        let mut sequencer = self.shared.sequencer.lock();
        while sequencer.batch.waiting.is_empty() {
            if sequencer.closed {
                return None;
            }
            self.shared.work.wait(&mut sequencer);
        }
        Some(std::mem::take(&mut sequencer.batch))
    }

    fn write(&mut self, flush: Flush) {
        if let Err(error) = self.segment.append(&flush.bytes) {
            return self.refuse(flush, &error);
        }
        let Some(revision) = flush.waiting.last().map(|(_, committed)| committed.revision) else { return };
        self.shared.publish(&flush.events, revision);
        self.shared.sequencer.lock().ahead.retain(|_, (at, _)| *at > revision);
        for (done, committed) in flush.waiting {
            let _ = done.send(Ok(committed));
        }
        self.log_bytes += flush.bytes.len() as u64;
        self.live_bytes = flush.events.iter().fold(self.live_bytes, grown);
        if self.log_bytes >= self.live_bytes + SLACK {
            self.checkpoint();
        }
    }

    /// Nothing of the flush happened, nor of what was ordered after it.
    fn refuse(&mut self, flush: Flush, error: &std::io::Error) {
        self.segment.retreat();
        let full = error.kind() == std::io::ErrorKind::StorageFull;
        let refusal = CommitError::Disk { path: self.segment.path.clone(), why: error.to_string(), full };
        tracing::error!(error = %refusal, "a write was refused");
        let later = {
            let mut sequencer = self.shared.sequencer.lock();
            sequencer.ahead.clear();
            sequencer.revision = self.shared.cache.revision();
            std::mem::take(&mut sequencer.batch)
        };
        for (done, _) in flush.waiting.into_iter().chain(later.waiting) {
            let _ = done.send(Err(refusal.clone()));
        }
    }

    /// Begins a new segment, and lets a thread write what makes the old ones superfluous.
    fn checkpoint(&mut self) {
        if self.checkpoint.as_ref().is_some_and(|running| !running.is_finished()) {
            return;
        }
        let number = self.segment.number;
        let snapshots: Vec<_> = self.shared.cache.topics("").into_iter().map(|(_, topic)| topic.snapshot()).collect();
        let revision = self.shared.cache.revision();
        // Whether this succeeds or not, the next attempt is that much log away.
        self.log_bytes = 0;
        match Segment::open(&self.shared.dir, number + 1, 0) {
            Ok(next) => self.segment = next,
            Err(error) => {
                tracing::warn!(%error, "cannot begin a new log segment");
                return;
            }
        }
        let dir = self.shared.dir.clone();
        let seal = self.shared.seal.clone();
        let write = move || {
            let records = snapshots.iter().flat_map(|s| s.keys.values());
            if let Err(error) = log::checkpoint(&dir, number, revision, records, &*seal) {
                tracing::warn!(%error, "cannot write a checkpoint; the log stays as it is");
            }
        };
        match std::thread::Builder::new().name("store-checkpoint".into()).spawn(write) {
            Ok(running) => self.checkpoint = Some(running),
            Err(error) => tracing::warn!(%error, "cannot start the checkpoint"),
        }
    }
}

/// What is live after an event.
fn grown(live: u64, event: &Arc<Event>) -> u64 {
    let after = match &event.change {
        Change::Put(record) => record.size(),
        Change::Delete(_) => 0,
    };
    (live + after).saturating_sub(event.previous.as_ref().map_or(0, |r| r.size()))
}
