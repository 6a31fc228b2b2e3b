//! Remote commands over SPDY: the client opens a stream for each thing that it wants to hear or say.

use crate::channel::{Sink, feed, pump, size};
use crate::ending::words;
use crate::protocol::Protocol;
use crate::session::Session;
use crate::spdy::{Output, Stream};
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

/// How long the client may take to open its streams.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which streams the client said that it would open, besides the one for the outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// It writes.
    pub stdin: bool,
    /// It reads.
    pub stdout: bool,
    /// It reads errors apart.
    pub stderr: bool,
    /// It has a terminal, whose size it tells.
    pub tty: bool,
}

#[derive(Default)]
struct Opened {
    error: Option<Stream>,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

impl Opened {
    fn is_all(&self, protocol: Protocol, wanted: Wanted) -> bool {
        self.error.is_some()
            && self.stdin.is_some() >= wanted.stdin
            && self.stdout.is_some() >= wanted.stdout
            && self.stderr.is_some() >= (wanted.stderr && !wanted.tty)
            && self.resize.is_some() >= (wanted.tty && protocol.resizes)
    }

    async fn wait(streams: &mut mpsc::Receiver<Stream>, protocol: Protocol, wanted: Wanted) -> Option<Self> {
        let mut opened = Self::default();
        while !opened.is_all(protocol, wanted) {
            let stream = streams.recv().await?;
            let place = match stream.header("streamtype") {
                "error" => &mut opened.error,
                "stdin" => &mut opened.stdin,
                "stdout" => &mut opened.stdout,
                "stderr" => &mut opened.stderr,
                "resize" => &mut opened.resize,
                _ => continue,
            };
            *place = Some(stream);
        }
        Some(opened)
    }
}

/// Carries a session until its process has ended.
pub(crate) async fn serve(mut streams: mpsc::Receiver<Stream>, protocol: Protocol, wanted: Wanted, session: Session) {
    let opened = match tokio::time::timeout(PATIENCE, Opened::wait(&mut streams, protocol, wanted)).await {
        Ok(Some(opened)) => opened,
        Ok(None) => return,
        Err(_) => return tracing::debug!("a client did not open its streams in time"),
    };
    let Session { stdin, stdout, stderr, resize, exit } = session;
    let output = |stream: &Option<Stream>| Heard(stream.as_ref().map(|s| s.output.clone()));
    let (out, err) = (output(&opened.stdout), output(&opened.stderr));
    let input = opened.stdin.map(|s| s.input);
    let sizes = async {
        let Some(mut sizes) = opened.resize else { return };
        while let Some(bytes) = sizes.input.recv().await {
            for (columns, rows) in bytes.split(|b| *b == b'\n').filter_map(size) {
                resize(columns, rows);
            }
        }
    };
    let fed = async {
        if let Some(input) = input {
            feed(stdin, input).await;
        }
    };
    let told = async {
        let ((), (), outcome) = tokio::join!(out.all(stdout), err.all(stderr), exit);
        if let Some(error) = opened.error {
            let words = words(protocol.ending, &outcome);
            if !words.is_empty() {
                error.output.send(&words).await;
            }
            error.output.end().await;
        }
    };
    // Input and sizes end with the process.
    tokio::select! {
        () = told => {}
        () = async { tokio::join!(sizes, fed); std::future::pending::<()>().await } => {}
    }
}

/// A stream that the client opened, or none.
struct Heard(Option<Output>);

impl Sink for Heard {
    async fn take(&self, piece: &[u8]) -> bool {
        match &self.0 {
            Some(output) => output.send(piece).await,
            None => true,
        }
    }
}

impl Heard {
    /// Passes on all that a stream gives, and its end.
    async fn all(self, from: Option<Box<dyn AsyncRead + Send + Unpin>>) {
        pump(from, &self).await;
        if let Some(output) = self.0 {
            output.end().await;
        }
    }
}
