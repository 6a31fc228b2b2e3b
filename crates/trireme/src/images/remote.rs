//! Asking the running Trireme.

use super::line::{Entry, Line};
use crate::Failure;
use crate::progress::Bar;
use bytes::Bytes;
use futures::TryStreamExt;
use http::Request;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper_util::rt::TokioIo;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::UnixStream;
use tokio_util::io::{ReaderStream, StreamReader};

/// A Trireme that runs, with its own container runtime.
pub struct Remote {
    /// Its socket of images.
    pub images: PathBuf,
}

impl Remote {
    /// Sends an archive.
    pub async fn import(
        &self,
        archive: impl AsyncRead + Send + 'static,
        bar: &Arc<Bar>,
    ) -> Result<Vec<Entry>, Failure> {
        let sent = bar.clone();
        let frames = ReaderStream::with_capacity(archive, 256 << 10).map_ok(move |bytes| {
            sent.add(bytes.len() as u64);
            Frame::data(bytes)
        });
        self.ask("/import", StreamBody::new(Box::pin(frames)), None).await
    }

    /// Has an image pulled.
    pub async fn pull(&self, image: &str, bar: &Bar) -> Result<Vec<Entry>, Failure> {
        self.ask("/pull", Full::new(Bytes::from(image.to_owned())), Some(bar)).await
    }

    async fn ask<B>(&self, path: &str, body: B, bar: Option<&Bar>) -> Result<Vec<Entry>, Failure>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(connect(&self.images).await?))
                .await
                .map_err(|e| format!("Trireme does not answer at {}: {e}", self.images.display()))?;
        // Its errors come back from the request.
        tokio::spawn(connection);
        let request = Request::post(path).header(http::header::HOST, "trireme").body(body)?;
        let answer = sender.send_request(request).await.map_err(|e| format!("Trireme broke off: {e}"))?;
        read(answer.into_body(), bar).await
    }
}

async fn connect(socket: &Path) -> Result<UnixStream, Failure> {
    let failed = |e| format!("Trireme does not answer at {}: {e}", socket.display());
    Ok(UnixStream::connect(socket).await.map_err(failed)?)
}

async fn read(body: Incoming, bar: Option<&Bar>) -> Result<Vec<Entry>, Failure> {
    let stream = body.into_data_stream().map_err(std::io::Error::other);
    let mut lines = BufReader::new(StreamReader::new(stream)).lines();
    while let Some(line) = lines.next_line().await.map_err(|e| format!("Trireme broke off: {e}"))? {
        match (serde_json::from_str(&line)?, bar) {
            (Line::Done(images), _) => return Ok(images),
            (Line::Failed(reason), _) => return Err(reason.into()),
            (Line::Expected(bytes), Some(bar)) => bar.expect(bytes),
            (Line::Arrived { part, bytes }, Some(bar)) => bar.part(&part, bytes),
            (_, None) => {}
        }
    }
    Err("Trireme broke off".into())
}
