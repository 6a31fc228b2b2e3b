//! Files that are read again when they change.

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

/// A file whose directory cannot be watched, or that lies behind a link, is looked at this often, as upstream does.
const LOOK: Duration = Duration::from_secs(60);

/// Calls `changed` with the file's bytes whenever they are others than before, until `stop`. `now` is what was read
/// already.
pub async fn follow(
    path: PathBuf,
    mut now: Vec<u8>,
    stop: CancellationToken,
    mut changed: impl FnMut(io::Result<&[u8]>),
) {
    let watch = directory(&path);
    if let Err(error) = &watch {
        tracing::warn!(path = %path.display(), %error, "a file cannot be watched, and is looked at now and then");
    }
    let watch = watch.ok();
    loop {
        match tokio::fs::read(&path).await {
            Ok(bytes) if bytes == now => {}
            Ok(bytes) => {
                now = bytes;
                changed(Ok(&now));
            }
            Err(error) => changed(Err(error)),
        }
        tokio::select! {
            () = event(watch.as_ref()) => {}
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Waits for something to happen in the directory; for ever if it is not watched.
async fn event(watch: Option<&pipe::Receiver>) {
    let Some(queue) = watch else { return std::future::pending().await };
    if queue.readable().await.is_err() {
        return std::future::pending().await;
    }
    // What happened is looked up; that it did is enough.
    let mut events = [0; 4096];
    while queue.try_read(&mut events).is_ok_and(|n| n > 0) {}
}

/// What is written whole or moved into a file's directory; a volume of a ConfigMap changes by a move.
fn directory(file: &Path) -> io::Result<pipe::Receiver> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(&fd, directory, WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR)?;
    pipe::Receiver::from_owned_fd_unchecked(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::unbounded_channel;

    #[tokio::test]
    async fn a_file_that_is_written_or_replaced_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "1").unwrap();
        let stop = CancellationToken::new();
        let (told, mut changes) = unbounded_channel();
        let changed = move |bytes: io::Result<&[u8]>| told.send(bytes.unwrap().to_vec()).unwrap();
        let task = tokio::spawn(follow(path.clone(), b"0".to_vec(), stop.clone(), changed));
        let mut next = async || tokio::time::timeout(Duration::from_secs(5), changes.recv()).await.unwrap().unwrap();
        assert_eq!(next().await, b"1");
        std::fs::write(dir.path().join("b"), "3").unwrap();
        std::fs::write(&path, "2").unwrap();
        assert_eq!(next().await, b"2");
        std::fs::rename(dir.path().join("b"), &path).unwrap();
        assert_eq!(next().await, b"3");
        stop.cancel();
        task.await.unwrap();
        assert!(changes.try_recv().is_err());
    }
}
