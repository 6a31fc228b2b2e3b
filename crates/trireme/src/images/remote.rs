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
use trireme_cri::{ImageFilter, ImageSpec, ImageStatusRequest, ListImagesRequest, RemoveImageRequest};
use trireme_node::Cri;

/// The sockets of a running Trireme.
pub struct Remote {
    /// That of images.
    pub images: PathBuf,
    /// That of CRI.
    pub cri: PathBuf,
}

impl Remote {
    async fn cri(&self) -> Result<Cri, Failure> {
        let failed = |e| format!("Trireme runs, but its runtime does not answer at {}: {e}", self.cri.display());
        Ok(Cri::connect(&self.cri).await.map_err(failed)?)
    }

    /// All images.
    pub async fn list(&self) -> Result<Vec<Entry>, Failure> {
        let request = ListImagesRequest { filter: None::<ImageFilter> };
        let answer = self.cri().await?.images.list_images(request).await.map_err(|s| s.message().to_owned())?;
        Ok(answer.into_inner().images.into_iter().map(Entry::from).collect())
    }

    /// Removes an image; `false` when it is not there.
    pub async fn remove(&self, image: &str) -> Result<bool, Failure> {
        let mut images = self.cri().await?.images;
        let spec = Some(ImageSpec { image: image.to_owned(), ..ImageSpec::default() });
        let text = |s: tonic::Status| s.message().to_owned();
        let status = ImageStatusRequest { image: spec.clone(), verbose: false };
        if images.image_status(status).await.map_err(text)?.into_inner().image.is_none() {
            return Ok(false);
        }
        images.remove_image(RemoveImageRequest { image: spec }).await.map_err(text)?;
        Ok(true)
    }

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
    UnixStream::connect(socket).await.map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => "Trireme runs with another container runtime: use that one's tools".into(),
        _ => format!("Trireme does not answer at {}: {e}", socket.display()).into(),
    })
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
