//! Network namespaces: working in one, making and removing named ones.
//!
//! `setns` changes the calling thread, so work in another namespace always gets a thread of its own that ends with it:
//! threads of the async runtime never change their namespace.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Error, Result};

mod unshare;

/// Opens the namespace behind a path such as `/run/netns/x` or `/proc/7/ns/net`.
pub fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|source| Error::File { action: "open network namespace", path: path.into(), source })
}

/// Runs `work` on a new thread inside of the namespace at `path` (the process's own when `None`) and waits for it.
pub fn run_in<T: Send>(path: Option<&Path>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let Some(path) = path else { return work() };
    let namespace = open(path)?;
    let outcome = thread::scope(|scope| {
        let body = || {
            enter(&namespace).map_err(|source| Error::File {
                action: "enter network namespace",
                path: path.into(),
                source,
            })?;
            work()
        };
        Ok::<_, Error>(
            thread::Builder::new()
                .name("netns".into())
                .spawn_scoped(scope, body)
                .map_err(|source| Error::System { action: "start a thread for a network namespace".into(), source })?
                .join(),
        )
    })?;
    match outcome {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Runs `work` like [`run_in`], from async code: on a thread of its own, never one of the runtime's.
pub async fn run<T: Send + 'static>(
    path: Option<PathBuf>,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (done, wait) = tokio::sync::oneshot::channel();
    thread::Builder::new()
        .name("netns".into())
        .spawn(move || {
            let result = match &path {
                Some(path) => open(path).and_then(|namespace| {
                    enter(&namespace).map_err(|source| Error::File {
                        action: "enter network namespace",
                        path: path.clone(),
                        source,
                    })
                }),
                None => Ok(()),
            };
            // A caller that went away does not want the result.
            let _ = done.send(result.and_then(|()| work()));
        })
        .map_err(|source| Error::System { action: "start a thread for a network namespace".into(), source })?;
    wait.await.map_err(|_| Error::System {
        action: "work in a network namespace".into(),
        source: io::Error::other("the thread ended without a result"),
    })?
}

/// Moves the calling thread, which must be one that ends soon, into a namespace.
pub(crate) fn enter(namespace: &File) -> io::Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).map_err(Into::into)
}

/// Makes a new network namespace and keeps it by a bind mount at `path`, with its loopback link up.
pub fn create(path: &Path) -> Result<()> {
    let fail = |action| move |source: io::Error| Error::File { action, path: path.into(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(fail("create folder for network namespace"))?;
    }
    File::options().write(true).create_new(true).open(path).map_err(fail("create network namespace"))?;
    let made = thread::scope(|scope| {
        thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, || {
                unshare::network()?;
                rustix::mount::mount_bind("/proc/thread-self/ns/net", path)?;
                Ok(())
            })?
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    made.map_err(fail("create network namespace")).and_then(|()| run_in(Some(path), loopback_up)).inspect_err(|_| {
        let _ = remove(path);
    })
}

/// Removes what [`create`] made; a path that is gone is fine.
pub fn remove(path: &Path) -> Result<()> {
    match rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => {
            return Err(Error::File { action: "unmount network namespace", path: path.into(), source: error.into() });
        }
    }
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::File { action: "remove network namespace", path: path.into(), source })
        }
        _ => Ok(()),
    }
}

/// Leaves the calling thread's namespace for a new one that ends with the thread.
pub(crate) fn leave() -> io::Result<()> {
    unshare::network()
}

/// Sets the loopback link of the calling thread's namespace up.
pub(crate) fn loopback_up() -> Result<()> {
    use crate::error::Context;
    // The loopback link is the first link of every namespace.
    crate::netlink::RouteSocket::open().and_then(|mut socket| socket.set_up(1)).context(|| "set lo up".into())
}
