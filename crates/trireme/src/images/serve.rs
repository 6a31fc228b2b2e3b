//! The socket on which the running Trireme takes archives and pulls with progress, which CRI has no words for.
//!
//! `POST /import` with an archive as body, `POST /pull` with an image's name as body. The answer is a stream of [`Line`]s.

use super::line::{Entry, Line};
use crate::Failure;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{StreamReader, SyncIoBridge};
use tokio_util::sync::CancellationToken;
use trireme_runtime::images::{Image, ImageError, Images, PullRequest};

/// The socket's name in the data directory.
pub const SOCKET: &str = "images.sock";
/// Requests at a time.
const MOST: usize = 8;
/// Lines that wait for a slow reader; progress beyond that is not told.
const WAITING: usize = 64;
/// A name is no longer than this.
const LONGEST_NAME: usize = 4096;

/// Serves until `stop`. Only root reaches the socket: the data directory is root's.
///
/// # Errors
/// When the socket cannot be made.
pub fn serve(images: Images, socket: &Path, stop: CancellationToken) -> Result<JoinHandle<()>, Failure> {
    let listener = crate::sockets::listen(socket)?;
    Ok(tokio::spawn(accept(images, listener, stop)))
}

async fn accept(images: Images, listener: UnixListener, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = async {
                let place = places.clone().acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
        };
        let (Ok(place), Ok((stream, _))) = accepted else { return };
        let images = images.clone();
        let stop = stop.clone();
        tokio::spawn(async move {
            let _place = place;
            let service = hyper::service::service_fn(|request| {
                let images = images.clone();
                async move { Ok::<_, Infallible>(answer(images, request)) }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                () = stop.cancelled() => {}
                result = connection => if let Err(error) = result {
                    tracing::debug!(%error, "a client of the images' socket went away");
                },
            }
        });
    }
}

type Lines = StreamBody<futures::stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

fn answer(images: Images, request: Request<Incoming>) -> Response<Lines> {
    let (said, lines) = mpsc::channel::<Line>(WAITING);
    let known = match (request.method(), request.uri().path()) {
        (&Method::POST, "/import") => {
            tokio::spawn(finish(said, async move { import(&images, request.into_body()).await }));
            true
        }
        (&Method::POST, "/pull") => {
            let events = said.clone();
            tokio::spawn(finish(said, async move { pull(&images, request.into_body(), events).await }));
            true
        }
        _ => false,
    };
    let text = |line: Line| {
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        Ok(Frame::data(Bytes::from(text)))
    };
    let mut response = Response::new(StreamBody::new(ReceiverStream::new(lines).map(text).boxed()));
    if !known {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response
}

/// Does the work for as long as somebody listens, and says how it ended.
async fn finish(said: mpsc::Sender<Line>, work: impl Future<Output = Result<Vec<Arc<Image>>, ImageError>>) {
    let result = tokio::select! {
        () = said.closed() => return,
        result = work => result,
    };
    let line = match result {
        Ok(images) => Line::Done(images.iter().map(|i| Entry::from(&**i)).collect()),
        Err(error) => Line::Failed(error.to_string()),
    };
    // Nobody listens any more: there is nobody to tell.
    let _ = said.send(line).await;
}

async fn import(images: &Images, body: Incoming) -> Result<Vec<Arc<Image>>, ImageError> {
    let stream = body.into_data_stream().map_err(std::io::Error::other);
    images.import(SyncIoBridge::new(StreamReader::new(stream))).await
}

async fn pull(images: &Images, body: Incoming, said: mpsc::Sender<Line>) -> Result<Vec<Arc<Image>>, ImageError> {
    let bad = |reason: String| ImageError::InvalidReference { reference: String::new(), reason };
    let name = Limited::new(body, LONGEST_NAME).collect().await.map_err(|e| bad(e.to_string()))?.to_bytes();
    let mut request = PullRequest::new(String::from_utf8_lossy(&name));
    request.progress = Some(Arc::new(move |event| {
        if let Some(line) = Line::of(event) {
            // A reader that is slow misses some.
            let _ = said.try_send(line);
        }
    }));
    Ok(vec![images.pull(request).await?])
}
