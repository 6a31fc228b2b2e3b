//! Remote commands over SPDY: the client opens a stream for each thing that it wants to hear or say.

use crate::channel::{feed, size};
use crate::ending::words;
use crate::protocol::Protocol;
use crate::session::Session;
use crate::spdy::{Output, Stream};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
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
    let output = |stream: &Option<Stream>| stream.as_ref().map(|s| s.output.clone());
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
        let ((), (), outcome) = tokio::join!(pump(stdout, out), pump(stderr, err), exit);
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

async fn pump(from: Option<Box<dyn AsyncRead + Send + Unpin>>, to: Option<Output>) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 16 << 10];
    // A terminal whose program has gone gives an error in place of an end. What nobody wants to hear is read all the
    // same, so that the process is not held up.
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if let Some(to) = &to
            && !to.send(&buffer[..n]).await
        {
            return;
        }
    }
    if let Some(to) = to {
        to.end().await;
    }
}
