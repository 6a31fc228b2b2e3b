//! A process with its streams.

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a code.
    Exit(i32),
    /// It could not be said.
    Failed(String),
}

/// A process (or a container that was joined) with its streams.
pub struct Session {
    /// What it reads.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// What it writes.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// What it writes besides.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Sets the size of its terminal: columns, rows.
    pub resize: Box<dyn Fn(u16, u16) + Send + Sync>,
    /// Its end.
    pub exit: BoxFuture<'static, Outcome>,
}

/// Starts processes in containers, and connects to pods.
pub trait Streamer: Send + Sync {
    /// Runs a process in a container.
    fn exec(
        &self,
        container: String,
        command: Vec<String>,
        tty: bool,
        stdin: bool,
    ) -> BoxFuture<'_, Result<Session, String>>;
    /// Joins a container.
    fn attach(&self, container: String) -> BoxFuture<'_, Result<Session, String>>;
    /// Connects to a port of a pod, by its sandbox.
    fn dial(&self, sandbox: String, port: u16) -> BoxFuture<'_, Result<TcpStream, String>>;
}
