//! A log file, read to its end or as it grows.

use super::log_line::Shown;
use super::tail::seek_tail;
use crate::runtime_events::{Happened, Heard};
use crate::watch::Watch;
use bytes::Bytes;
use futures::future::BoxFuture;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, BufReader};

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

/// A question for the runtime.
pub(super) type HasEnded = Box<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

/// What a log that is followed needs.
pub(super) struct Live {
    /// The log's directory.
    pub(super) watch: Watch,
    pub(super) heard: Heard,
    /// The pod.
    pub(super) uid: String,
    /// Asks whether the container has ended.
    pub(super) has_ended: HasEnded,
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
                        self.ended = (self.has_ended)().await;
                    }
                    if self.ended {
                        return;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime_events::RuntimeEvents;
    use futures::FutureExt;
    use std::io::Write;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn write(path: &Path, texts: &[&str]) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        for text in texts {
            writeln!(file, "2026-01-02T03:04:05Z stdout F {text}").unwrap();
        }
    }

    struct Container {
        dir: tempfile::TempDir,
        events: RuntimeEvents,
        ended: Arc<AtomicBool>,
    }

    impl Container {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap(), events: RuntimeEvents::default(), ended: Arc::default() }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("0.log")
        }

        async fn log(&self, tail: Option<u64>, limit: Option<u64>, follow: bool) -> Log {
            let ended = self.ended.clone();
            let live = follow.then(|| Live {
                watch: Watch::directory(self.dir.path()),
                heard: self.events.hear(),
                uid: "pod".into(),
                has_ended: Box::new(move || {
                    let ended = ended.clone();
                    async move { ended.load(Ordering::SeqCst) }.boxed()
                }),
                ended: false,
            });
            Log::open(self.path(), tail, Shown::new(Default::default()), limit, live).await.unwrap()
        }

        fn end(&self) {
            self.ended.store(true, Ordering::SeqCst);
            self.events.tell(Happened::To("pod".into()));
        }
    }

    /// What comes until so many bytes are there, or the end.
    async fn read(log: &mut Log, bytes: usize) -> String {
        let mut out = Vec::new();
        while out.len() < bytes {
            match tokio::time::timeout(PATIENCE, log.next()).await.expect("nothing comes") {
                Some(piece) => out.extend_from_slice(&piece),
                None => break,
            }
        }
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn a_log_is_read_to_its_end_from_its_tail_and_no_further_than_the_limit() {
        let container = Container::new();
        write(&container.path(), &["one", "two", "three"]);
        for (tail, limit, wanted) in [
            (None, None, "one\ntwo\nthree\n"),
            (Some(2), None, "two\nthree\n"),
            (Some(0), None, ""),
            (None, Some(6), "one\ntw"),
            (Some(1), Some(0), ""),
        ] {
            let mut log = container.log(tail, limit, false).await;
            assert_eq!(read(&mut log, usize::MAX).await, wanted, "{tail:?} {limit:?}");
        }
    }

    #[tokio::test]
    async fn what_is_written_comes_at_once_and_the_end_of_the_container_is_the_end() {
        let container = Container::new();
        write(&container.path(), &["one"]);
        let mut log = container.log(None, None, true).await;
        assert_eq!(read(&mut log, 4).await, "one\n");
        write(&container.path(), &["two"]);
        assert_eq!(read(&mut log, 4).await, "two\n");
        // Of another pod, and of this one while it runs.
        container.events.tell(Happened::To("other".into()));
        container.events.tell(Happened::Anywhere);
        assert!(tokio::time::timeout(Duration::from_millis(50), log.next()).await.is_err());
        write(&container.path(), &["last"]);
        container.end();
        assert_eq!(read(&mut log, usize::MAX).await, "last\n");
    }

    #[tokio::test]
    async fn a_rotated_log_is_followed_and_loses_nothing() {
        let container = Container::new();
        write(&container.path(), &["one"]);
        let mut log = container.log(Some(0), None, true).await;
        for turn in 0..5 {
            let aside = container.dir.path().join(format!("0.log.{turn}"));
            write(&container.path(), &["before"]);
            assert_eq!(read(&mut log, 7).await, "before\n");
            std::fs::rename(container.path(), &aside).unwrap();
            // The runtime writes on until it is told to open the log anew.
            write(&aside, &["moved"]);
            write(&container.path(), &["after"]);
            assert_eq!(read(&mut log, 12).await, "moved\nafter\n");
        }
        write(&container.path(), &["last"]);
        container.end();
        assert_eq!(read(&mut log, usize::MAX).await, "last\n");
    }
}
