//! Changes of the files in a directory, as the kernel tells them (inotify(7)).

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::net::unix::pipe;

/// A machine has only so many watches: who gets none looks this often.
const LOOK: Duration = Duration::from_secs(1);

/// Watches a directory.
#[derive(Debug)]
// A queue of events is read as a pipe is.
pub(crate) struct Watch(Option<pipe::Receiver>);

impl Watch {
    /// Watches what is written to, made in and moved into a directory.
    pub(crate) fn directory(path: &Path) -> Self {
        let watch = open(path);
        if let Err(error) = &watch {
            tracing::warn!(path = %path.display(), %error, "a directory cannot be watched, and is looked at instead");
        }
        Self(watch.ok())
    }

    /// Waits until something has changed since the last time that this was waited for, or may have.
    pub(crate) async fn changed(&self) {
        let Some(queue) = &self.0 else { return tokio::time::sleep(LOOK).await };
        if queue.readable().await.is_err() {
            return tokio::time::sleep(LOOK).await;
        }
        // What happened is looked up; that it did is enough.
        let mut events = [0; 4096];
        while queue.try_read(&mut events).is_ok() {}
    }
}

fn open(path: &Path) -> io::Result<pipe::Receiver> {
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let what = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
    inotify::add_watch(&fd, path, what)?;
    pipe::Receiver::from_owned_fd_unchecked(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[tokio::test]
    async fn what_is_written_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = std::fs::File::create(dir.path().join("a")).unwrap();
        let watch = Watch::directory(dir.path());
        let soon = Duration::from_millis(100);
        assert!(tokio::time::timeout(soon, watch.changed()).await.is_err(), "nothing happened");
        file.write_all(b"x").unwrap();
        file.write_all(b"y").unwrap();
        tokio::time::timeout(10 * soon, watch.changed()).await.unwrap();
        assert!(tokio::time::timeout(soon, watch.changed()).await.is_err(), "it was told already");
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_watched_is_looked_at() {
        let watch = Watch::directory(Path::new("/no/such/directory"));
        tokio::time::timeout(3 * LOOK, watch.changed()).await.unwrap();
    }
}
