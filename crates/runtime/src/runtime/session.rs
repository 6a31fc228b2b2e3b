//! Processes in containers, and their streams.

use super::{Error, Runtime, failed};
use crate::link::Link;
use crate::record::Container;
use crate::shim::{Exit, ProcessSpec, Reply, Request};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

/// A process that was started in a container, with its streams.
pub struct Session {
    /// Standard input, where there is one.
    pub stdin: Option<File>,
    /// Standard output.
    pub stdout: Option<File>,
    /// Standard error.
    pub stderr: Option<File>,
    /// The terminal, in place of them (with attach: for input only).
    pub tty: Option<File>,
    link: Link,
}

impl Session {
    pub(super) fn new(streams: Vec<String>, fds: Vec<OwnedFd>, link: Link) -> Self {
        let mut session = Self { stdin: None, stdout: None, stderr: None, tty: None, link };
        for (name, fd) in streams.into_iter().zip(fds) {
            let place = match name.as_str() {
                "stdin" => &mut session.stdin,
                "stdout" => &mut session.stdout,
                "stderr" => &mut session.stderr,
                _ => &mut session.tty,
            };
            *place = Some(File::from(fd));
        }
        session
    }

    /// Kills the process.
    pub async fn kill(&mut self) {
        // A shim that is gone has taken the process with it.
        let _ = self.link.send(&Request::KillExec).await;
    }

    /// Waits for the end of the process.
    ///
    /// # Errors
    /// When the shim has gone.
    pub async fn exit(&mut self) -> io::Result<Exit> {
        loop {
            match self.link.next().await? {
                Some(Reply::Exited { exit, .. }) => return Ok(exit),
                Some(_) => {}
                None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            }
        }
    }
}

impl Runtime {
    /// Runs a process in a container.
    ///
    /// # Errors
    /// When the container does not run or the program cannot be started.
    pub async fn exec(&self, id: &str, args: Vec<String>, tty: bool, stdin: bool) -> Result<Session, Error> {
        let container = self.container(id)?;
        let process = ProcessSpec { args, tty, stdin, ..ProcessSpec::default() };
        let request = Request::Exec { id: container.id.clone(), process: Box::new(process) };
        self.session(&container, &request).await
    }

    /// Joins a container's streams.
    ///
    /// # Errors
    /// When the container does not run.
    pub async fn attach(&self, id: &str) -> Result<Session, Error> {
        let container = self.container(id)?;
        self.session(&container, &Request::Attach { id: container.id.clone() }).await
    }

    pub(super) async fn session(&self, container: &Container, request: &Request) -> Result<Session, Error> {
        let mut link = Link::open(&self.dir(&container.sandbox)).await.map_err(failed("reach the shim"))?;
        match link.call(request).await.map_err(failed("reach the shim"))? {
            Reply::Started { streams, .. } => {
                let fds = link.take_fds();
                Ok(Session::new(streams, fds, link))
            }
            Reply::Failed { why } => Err(Error::State(why)),
            _ => Err(Error::State("the shim says something else".into())),
        }
    }

    pub(crate) async fn reopen_log(&self, id: &str) -> Result<(), Error> {
        let container = self.container(id)?;
        let mut link = Link::open(&self.dir(&container.sandbox)).await.map_err(failed("reach the shim"))?;
        link.call(&Request::Reopen { id: container.id }).await.map_err(failed("reach the shim")).map(drop)
    }
}
