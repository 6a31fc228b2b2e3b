//! The embedded runtime as the node's streamer.

use futures::FutureExt;
use futures::future::BoxFuture;
use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use trireme_network::netns;
use trireme_runtime::{Runtime, Session as Process, shim};
use trireme_streams::{Outcome, Session, Streamer};

/// Processes in the embedded runtime's containers.
pub struct Embedded(pub Arc<Runtime>);

fn reader(file: File) -> Option<Box<dyn AsyncRead + Send + Unpin>> {
    match file.try_clone().map(pipe::Receiver::from_file) {
        Ok(Ok(pipe)) => Some(Box::new(pipe)),
        // A terminal is no pipe; it is read on a thread of its own.
        _ => Some(Box::new(tokio::fs::File::from_std(file))),
    }
}

fn writer(file: File) -> Option<Box<dyn AsyncWrite + Send + Unpin>> {
    match file.try_clone().map(pipe::Sender::from_file) {
        Ok(Ok(pipe)) => Some(Box::new(pipe)),
        _ => Some(Box::new(tokio::fs::File::from_std(file))),
    }
}

fn session(mut process: Process) -> Session {
    let tty = process.tty.take();
    let copy = || tty.as_ref().and_then(|f| f.try_clone().ok());
    let (stdin, stdout, sized) = (process.stdin.take().or_else(copy), process.stdout.take().or_else(copy), copy());
    Session {
        stdin: stdin.and_then(writer),
        stdout: stdout.and_then(reader),
        stderr: process.stderr.take().and_then(reader),
        resize: Box::new(move |columns, rows| {
            if let Some(terminal) = &sized
                && let Err(error) = shim::resize(terminal.as_fd(), rows, columns)
            {
                tracing::debug!(%error, "a terminal cannot be resized");
            }
        }),
        exit: async move {
            match process.exit().await {
                Ok(exit) => Outcome::Exit(exit.code),
                Err(error) => Outcome::Failed(format!("the container has gone: {error}")),
            }
        }
        .boxed(),
    }
}

impl Streamer for Embedded {
    fn exec(
        &self,
        container: String,
        command: Vec<String>,
        tty: bool,
        stdin: bool,
    ) -> BoxFuture<'_, Result<Session, String>> {
        async move { self.0.exec(&container, command, tty, stdin).await.map(session).map_err(|e| e.to_string()) }
            .boxed()
    }

    fn attach(&self, container: String) -> BoxFuture<'_, Result<Session, String>> {
        async move { self.0.attach(&container).await.map(session).map_err(|e| e.to_string()) }.boxed()
    }

    fn dial(&self, sandbox: String, port: u16) -> BoxFuture<'_, Result<TcpStream, String>> {
        async move {
            let namespace = self.0.netns(&sandbox).map_err(|e| e.to_string())?;
            let connected = tokio::task::spawn_blocking(move || connect(namespace.as_deref(), port)).await;
            let socket = connected.map_err(|e| e.to_string())??;
            TcpStream::from_std(socket).map_err(|e| e.to_string())
        }
        .boxed()
    }
}

/// Connects to a port on the loopback of a network namespace: IPv4 first, as upstream's runtimes do.
fn connect(namespace: Option<&Path>, port: u16) -> Result<std::net::TcpStream, String> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let places: [SocketAddr; 2] = [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()];
    let tried = netns::run_in(namespace, || {
        let mut refusal = String::new();
        for place in &places {
            match std::net::TcpStream::connect_timeout(place, PATIENCE) {
                Ok(socket) => return Ok(Ok(socket)),
                Err(error) if refusal.is_empty() => refusal = format!("dial tcp {place}: {error}"),
                Err(_) => {}
            }
        }
        Ok(Err(format!("failed to connect to localhost:{port} inside the pod: {refusal}")))
    });
    let socket = tried.map_err(|e| e.to_string())??;
    socket.set_nonblocking(true).map_err(|e| e.to_string())?;
    Ok(socket)
}
