//! Those who speak with the shim: their requests, and its answers.

use super::serve::Shim;
use super::spec::{Reply, Request};
use super::sys;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

/// One who is connected.
pub(super) struct Client {
    pub(super) stream: UnixStream,
    /// Text of a request that is not whole yet.
    pub(super) text: Vec<u8>,
    /// Wants to hear of every exit.
    pub(super) events: bool,
    /// Wants to hear of this process's exit.
    pub(super) exec: Option<i32>,
    pub(super) gone: bool,
}

impl Client {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, text: Vec::new(), events: false, exec: None, gone: false }
    }
}

impl Shim {
    pub(super) fn hear(&mut self, i: usize) {
        let mut buffer = [0_u8; 8192];
        let client = &mut self.clients[i];
        loop {
            match client.stream.read(&mut buffer) {
                Ok(0) => {
                    client.gone = true;
                    return;
                }
                Ok(n) => client.text.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    client.gone = true;
                    return;
                }
            }
        }
        while let Some(end) = self.clients[i].text.iter().position(|&b| b == b'\n') {
            let line: Vec<u8> = self.clients[i].text.drain(..=end).collect();
            match serde_json::from_slice::<Request>(&line) {
                Ok(request) => self.answer(i, request),
                Err(error) => self.reply(i, &Reply::Failed { why: error.to_string() }, &[]),
            }
        }
    }

    pub(super) fn reply(&mut self, i: usize, reply: &Reply, fds: &[BorrowedFd<'_>]) {
        let client = &mut self.clients[i];
        if !send(&client.stream, reply, fds) {
            client.gone = true;
        }
    }

    fn answer(&mut self, i: usize, request: Request) {
        let result = match request {
            Request::Start(spec) => self.start(*spec).map(|(pid, at)| Reply::Started { pid, at, streams: Vec::new() }),
            Request::Kill { id, signal, all } => self.kill(&id, signal, all),
            Request::Exec { id, process } => return self.exec(i, &id, *process),
            Request::Attach { id } => return self.attach(i, &id),
            Request::KillExec => {
                if let Some(pid) = self.clients[i].exec {
                    // It leads a session of its own: what it started goes with it.
                    let _ = sys::kill(-pid, libc::SIGKILL);
                    let _ = sys::kill(pid, libc::SIGKILL);
                }
                Ok(Reply::Done)
            }
            Request::Reopen { id } => match self.containers.get_mut(&id) {
                Some(container) => container.log.reopen().map(|()| Reply::Done).map_err(|e| e.to_string()),
                None => Err(format!("no container {id}")),
            },
            Request::Forget { id } => {
                self.containers.retain(|i, c| *i != id || c.exit.is_none());
                Ok(Reply::Done)
            }
            Request::Events => {
                self.clients[i].events = true;
                let running = self.containers.iter().filter(|(_, c)| c.exit.is_none());
                Ok(Reply::Running { containers: running.map(|(id, c)| (id.clone(), c.pid)).collect() })
            }
            Request::Shutdown => {
                self.shut_down();
                Ok(Reply::Done)
            }
        };
        let reply = result.unwrap_or_else(|why| Reply::Failed { why });
        self.reply(i, &reply, &[]);
    }

    /// Ends all processes, and the shim.
    fn shut_down(&mut self) {
        for container in self.containers.values().filter(|c| c.exit.is_none()) {
            for pid in self.cgroups.members(&container.spec.cgroup) {
                let _ = sys::kill(pid, libc::SIGKILL);
            }
            let _ = sys::kill(container.pid, libc::SIGKILL);
        }
        if let Some(pid) = self.pause {
            let _ = sys::kill(pid, libc::SIGKILL);
        }
        // Nothing is left to be reaped by others; what was killed ends at once.
        while sys::wait_for(-1).is_ok() {}
        self.ended = true;
    }
}

/// Sends a reply with descriptors; false when the client is gone.
fn send(stream: &UnixStream, reply: &Reply, fds: &[BorrowedFd<'_>]) -> bool {
    let Ok(mut line) = serde_json::to_vec(reply) else { return false };
    line.push(b'\n');
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return false;
    }
    let parts = [io::IoSlice::new(&line)];
    // A line is far smaller than a socket's buffer: it goes whole or not at all.
    matches!(rustix::net::sendmsg(stream, &parts, &mut control, SendFlags::NOSIGNAL), Ok(n) if n == line.len())
}
