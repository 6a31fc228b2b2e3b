//! Trireme's side of the shim's socket.

use crate::shim::{Reply, Request, SOCKET, SPEC, SandboxSpec};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::process::Command;

/// A shim that does not answer by then is not there.
const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST_LINE: usize = 1 << 20;

/// A connection to a shim.
#[derive(Debug)]
pub(crate) struct Link {
    stream: UnixStream,
    text: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// How a shim is started: the program and what it is told before the directory.
#[derive(Clone, Debug)]
pub struct ShimCommand {
    /// The program, usually this very one.
    pub program: PathBuf,
    /// Arguments before the directory.
    pub args: Vec<String>,
}

/// Starts the shim of a sandbox; it is ready when this returns.
pub(crate) async fn start(command: &ShimCommand, spec: &SandboxSpec) -> io::Result<()> {
    let text = serde_json::to_vec(spec).map_err(io::Error::other)?;
    tokio::fs::write(spec.dir.join(SPEC), text).await?;
    let child = Command::new(&command.program)
        .args(&command.args)
        .arg(&spec.dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(false)
        .spawn()?;
    // The first process ends at once; its child holds the pipe until it is ready.
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output())
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the shim did not start"))??;
    let said = String::from_utf8_lossy(&output.stdout);
    match said.trim() {
        "ready" => Ok(()),
        why => Err(io::Error::other(format!("the shim did not start: {}", why.trim_start_matches("failed ")))),
    }
}

impl Link {
    pub(crate) async fn open(dir: &Path) -> io::Result<Self> {
        // The path of a socket has at most 107 bytes; through /proc any directory is short.
        let dir = std::fs::File::open(dir)?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", std::os::fd::AsRawFd::as_raw_fd(&dir));
        let stream = UnixStream::connect(path).await?;
        Ok(Self { stream, text: Vec::new(), fds: Vec::new() })
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn call(&mut self, request: &Request) -> io::Result<Reply> {
        self.send(request).await?;
        match tokio::time::timeout(PATIENCE, self.next()).await {
            Ok(Ok(Some(reply))) => Ok(reply),
            Ok(Ok(None)) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the shim does not answer")),
        }
    }

    pub(crate) async fn send(&mut self, request: &Request) -> io::Result<()> {
        let mut line = serde_json::to_vec(request).map_err(io::Error::other)?;
        line.push(b'\n');
        let mut rest = &line[..];
        while !rest.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// The next reply; `None` when the shim has gone. Cancel-safe.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Reply>> {
        loop {
            if let Some(end) = self.text.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(io::Error::other);
            }
            if self.text.len() > LONGEST_LINE {
                return Err(io::Error::other("the shim's answer has no end"));
            }
            self.stream.readable().await?;
            let received = self.stream.try_io(Interest::READABLE, || {
                let mut buffer = [0_u8; 8192];
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let message = rustix::net::recvmsg(
                    &self.stream,
                    &mut [io::IoSliceMut::new(&mut buffer)],
                    &mut control,
                    RecvFlags::CMSG_CLOEXEC,
                )?;
                let mut fds = Vec::new();
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(received) = message {
                        fds.extend(received);
                    }
                }
                Ok((buffer[..message.bytes].to_vec(), fds))
            });
            match received {
                Ok((bytes, _)) if bytes.is_empty() => return Ok(None),
                Ok((bytes, fds)) => {
                    self.text.extend_from_slice(&bytes);
                    self.fds.extend(fds);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The descriptors that came with the last reply.
    pub(crate) fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }
}
