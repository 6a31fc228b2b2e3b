//! The shim's loop.

use super::client::Client;
use super::container::Container;
use super::spec::SandboxSpec;
use super::{SOCKET, SPEC, process, sys};
use crate::cgroup::Cgroups;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// The shim of one sandbox.
pub(super) struct Shim {
    pub(super) sandbox: SandboxSpec,
    pub(super) cgroups: Cgroups,
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) clients: Vec<Client>,
    pub(super) pause: Option<i32>,
    pub(super) pid_namespace: Option<OwnedFd>,
    pub(super) ended: bool,
}

pub(super) fn now() -> i64 {
    jiff::Timestamp::now().as_nanosecond() as i64
}

/// Runs a shim for the sandbox described in a directory. The caller's process ends at once; a child of it, in a session
/// of its own, goes on. `ready` is written to standard output when the socket is there.
///
/// # Errors
/// When the sandbox cannot be set up.
pub fn run(dir: &Path) -> io::Result<()> {
    let text = fs::read(dir.join(SPEC))?;
    let sandbox: SandboxSpec = serde_json::from_slice(&text).map_err(io::Error::other)?;
    if sys::fork(0)? != 0 {
        sys::exit_now(0);
    }
    rustix::process::setsid()?;
    let mut shim = match Shim::new(sandbox) {
        Ok(shim) => shim,
        Err(error) => {
            say(&format!("failed {error}\n"));
            return Err(error);
        }
    };
    let socket = dir.join(SOCKET);
    let _ = fs::remove_file(&socket);
    let listener = match listen(dir) {
        Ok(listener) => listener,
        Err(error) => {
            say(&format!("failed {}: {error}\n", socket.display()));
            return Err(error);
        }
    };
    say("ready\n");
    silence()?;
    let result = shim.serve(&listener);
    let _ = fs::remove_file(&socket);
    result
}

/// Lets go of the standard streams.
fn silence() -> io::Result<()> {
    let null = process::null()?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

fn listen(dir: &Path) -> io::Result<UnixListener> {
    // The path of a socket has at most 107 bytes; through /proc any directory is short.
    let dir = fs::File::open(dir)?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn say(text: &str) {
    // Nobody may listen any more; then nobody needs to know.
    let _ = io::stdout().write_all(text.as_bytes());
    let _ = io::stdout().flush();
}

impl Shim {
    fn new(sandbox: SandboxSpec) -> io::Result<Self> {
        sys::become_subreaper()?;
        if let Some(path) = &sandbox.netns {
            let namespace = fs::File::open(path)
                .map_err(|e| io::Error::new(e.kind(), format!("network namespace {}: {e}", path.display())))?;
            sys::setns(namespace.as_fd(), libc::CLONE_NEWNET)?;
        }
        let mut flags = 0;
        if !sandbox.host_ipc {
            flags |= libc::CLONE_NEWIPC;
        }
        if !sandbox.hostname.is_empty() {
            flags |= libc::CLONE_NEWUTS;
        }
        sys::unshare(flags)?;
        if !sandbox.hostname.is_empty() {
            rustix::system::sethostname(sandbox.hostname.as_bytes())?;
        }
        for (name, value) in &sandbox.sysctls {
            let path = PathBuf::from("/proc/sys").join(name.replace('.', "/"));
            fs::write(&path, value).map_err(|e| io::Error::new(e.kind(), format!("sysctl {name}: {e}")))?;
        }
        let mut shim = Self {
            sandbox,
            cgroups: Cgroups::detect(),
            containers: BTreeMap::new(),
            clients: Vec::new(),
            pause: None,
            pid_namespace: None,
            ended: false,
        };
        if shim.sandbox.share_pid && !shim.sandbox.host_pid {
            shim.start_pause()?;
        }
        Ok(shim)
    }

    /// The first process of a shared process namespace: it reaps, and does nothing else.
    fn start_pause(&mut self) -> io::Result<()> {
        let pid = sys::fork(libc::CLONE_NEWPID)?;
        if pid == 0 {
            // Who started the shim waits for the end of its output.
            if silence().is_err() {
                sys::exit_now(127);
            }
            sys::default_signals();
            loop {
                if sys::wait_for(-1).is_err() {
                    // No children: wait for a signal. Everybody else in the namespace ends with this process.
                    let _ = poll(&mut [], None);
                }
            }
        }
        self.pause = Some(pid);
        self.pid_namespace = Some(fs::File::open(format!("/proc/{pid}/ns/pid"))?.into());
        Ok(())
    }

    fn serve(&mut self, listener: &UnixListener) -> io::Result<()> {
        let signals = sys::child_signals()?;
        // A child may have ended before the signal was watched.
        self.reap();
        while !self.ended {
            let mut places: Vec<Place> = vec![Place::Listener, Place::Signals];
            places.extend((0..self.clients.len()).map(Place::Client));
            for (id, container) in &self.containers {
                places.extend((0..2).filter(|s| container.output[*s].is_some()).map(|s| Place::Output(id.clone(), s)));
            }
            let ready: Vec<Place> = {
                let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(places.len());
                for place in &places {
                    let fd: BorrowedFd<'_> = match place {
                        Place::Listener => listener.as_fd(),
                        Place::Signals => signals.as_fd(),
                        Place::Client(i) => self.clients[*i].stream.as_fd(),
                        Place::Output(id, s) => match &self.containers[id].output[*s] {
                            Some(fd) => fd.as_fd(),
                            None => continue,
                        },
                    };
                    fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
                }
                match poll(&mut fds, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
                let hit = fds.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<_>>();
                places.into_iter().zip(hit).filter(|(_, hit)| *hit).map(|(place, _)| place).collect()
            };
            for place in ready {
                match place {
                    Place::Listener => {
                        while let Ok((stream, _)) = listener.accept() {
                            let _ = stream.set_nonblocking(true);
                            self.clients.push(Client::new(stream));
                        }
                    }
                    Place::Signals => {
                        let mut sink = [0_u8; 1024];
                        let _ = rustix::io::read(&signals, &mut sink);
                        self.reap();
                    }
                    Place::Client(i) => self.hear(i),
                    Place::Output(id, stream) => self.copy(&id, stream),
                }
            }
            self.clients.retain(|c| !c.gone);
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Place {
    Listener,
    Signals,
    Client(usize),
    Output(String, usize),
}
