//! The node's own API, as the API server calls it: logs, health, what runs.

use crate::cri::{Cri, label};
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use trireme_cri as cri;

type Body = BoxBody<Bytes, Infallible>;

fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text.into())).boxed());
    *response.status_mut() = status;
    response
}

/// Serves until `stop`. Only clients whose certificate the TLS configuration verifies are answered.
pub async fn serve(cri: Cri, listener: TcpListener, tls: Arc<rustls::ServerConfig>, stop: CancellationToken) {
    const HANDSHAKE: Duration = Duration::from_secs(10);
    let acceptor = TlsAcceptor::from(tls);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (acceptor, cri, stop) = (acceptor.clone(), cri.clone(), stop.clone());
        tokio::spawn(async move {
            let Ok(Ok(secured)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let cri = cri.clone();
                async move { Ok::<_, Infallible>(answer(&cri, request).await) }
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(secured), service);
            // A client that goes ends its connection; that is no error of ours.
            let _ = stop.run_until_cancelled(connection).await;
        });
    }
}

fn query(request: &Request<Incoming>) -> HashMap<String, String> {
    let pairs = request.uri().query().unwrap_or_default().split('&').filter_map(|p| p.split_once('='));
    pairs.map(|(k, v)| (k.to_owned(), v.replace("%3A", ":").replace("%2B", "+"))).collect()
}

async fn answer(cri: &Cri, request: Request<Incoming>) -> Response<Body> {
    let parts: Vec<&str> = request.uri().path().split('/').filter(|p| !p.is_empty()).collect();
    match parts[..] {
        ["healthz"] => text(StatusCode::OK, "ok"),
        ["containerLogs", namespace, pod, container] => {
            let query = query(&request);
            match logs(cri, namespace, pod, container, &query).await {
                Ok(body) => Response::new(body),
                Err((status, why)) => text(status, why),
            }
        }
        ["exec" | "attach" | "portForward" | "run", ..] => {
            text(StatusCode::NOT_IMPLEMENTED, "streams to containers are not served yet")
        }
        _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// The containers of a name in a pod, the newest first.
async fn find(
    cri: &Cri,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Result<Vec<cri::ContainerStatus>, (StatusCode, String)> {
    let failed = |s: tonic::Status| (StatusCode::INTERNAL_SERVER_ERROR, s.message().to_owned());
    let labels = [(label::NAMESPACE, namespace), (label::POD, pod), (label::CONTAINER, container)];
    let label_selector = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let filter = cri::ContainerFilter { label_selector, ..cri::ContainerFilter::default() };
    let mut runtime = cri.runtime.clone();
    let list = runtime.list_containers(cri::ListContainersRequest { filter: Some(filter) }).await.map_err(failed)?;
    let mut all = list.into_inner().containers;
    all.sort_by_key(|c| std::cmp::Reverse(c.created_at));
    let mut out = Vec::new();
    for container in all {
        let request = cri::ContainerStatusRequest { container_id: container.id, verbose: false };
        out.extend(runtime.container_status(request).await.map_err(failed)?.into_inner().status);
    }
    Ok(out)
}

struct Wanted {
    timestamps: bool,
    since: Option<jiff::Timestamp>,
    limit: Option<u64>,
    stream: Option<String>,
}

/// A line of CRI's log as it is shown; `None` when it is not wanted.
fn shown(line: &str, wanted: &Wanted) -> Option<Vec<u8>> {
    let mut words = line.splitn(4, ' ');
    let (at, stream, tag, rest) = (words.next()?, words.next()?, words.next()?, words.next().unwrap_or_default());
    if wanted.stream.as_ref().is_some_and(|s| !s.eq_ignore_ascii_case(stream) && s != "All") {
        return None;
    }
    if let Some(since) = wanted.since
        && at.parse::<jiff::Timestamp>().is_ok_and(|at| at < since)
    {
        return None;
    }
    let mut out = Vec::with_capacity(line.len());
    if wanted.timestamps {
        out.extend_from_slice(at.as_bytes());
        out.push(b' ');
    }
    out.extend_from_slice(rest.as_bytes());
    if tag == "F" {
        out.push(b'\n');
    }
    Some(out)
}

async fn logs(
    cri: &Cri,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &HashMap<String, String>,
) -> Result<Body, (StatusCode, String)> {
    let flag = |name: &str| query.get(name).is_some_and(|v| v == "true" || v == "1");
    let all = find(cri, namespace, pod, container).await?;
    let chosen = if flag("previous") { all.get(1) } else { all.first() };
    let Some(status) = chosen.cloned() else {
        let which = if flag("previous") { "previous terminated container" } else { "container" };
        return Err((
            StatusCode::BAD_REQUEST,
            format!("{which} \"{container}\" in pod \"{pod}\" is not available: ContainerCreating"),
        ));
    };
    let since = match (query.get("sinceSeconds"), query.get("sinceTime")) {
        (Some(seconds), _) => {
            seconds.parse::<i64>().ok().map(|s| jiff::Timestamp::now() - jiff::SignedDuration::from_secs(s))
        }
        (None, Some(at)) => at.parse().ok(),
        _ => None,
    };
    let wanted = Wanted {
        timestamps: flag("timestamps"),
        since,
        limit: query.get("limitBytes").and_then(|n| n.parse().ok()),
        stream: query.get("stream").cloned(),
    };
    let tail: Option<usize> = query.get("tailLines").and_then(|n| n.parse().ok());
    let file = File::open(&status.log_path)
        .await
        .map_err(|e| (StatusCode::INTERNAL_SERVER_ERROR, format!("{}: {e}", status.log_path)))?;
    let mut reader = BufReader::new(file);
    let mut first: std::collections::VecDeque<Vec<u8>> = std::collections::VecDeque::new();
    let mut line = String::new();
    let failed = |e: std::io::Error| (StatusCode::INTERNAL_SERVER_ERROR, e.to_string());
    // The lines that are there are read at once: a tail must be known before it is sent.
    while reader.read_line(&mut line).await.map_err(failed)? > 0 && line.ends_with('\n') {
        if let Some(text) = shown(line.trim_end_matches('\n'), &wanted) {
            first.push_back(text);
            if tail.is_some_and(|n| first.len() > n) {
                first.pop_front();
            }
        }
        line.clear();
    }
    let follow = flag("follow");
    let state =
        Following { cri: cri.clone(), id: status.id, reader, line, first, wanted, sent: 0, follow, over: false };
    let pieces =
        futures::stream::unfold(state, |mut state| async move { state.next().await.map(|piece| (piece, state)) });
    Ok(BodyExt::boxed(StreamBody::new(SyncStream(std::sync::Mutex::new(
        pieces.map(|b| Ok::<_, Infallible>(Frame::data(b))).boxed(),
    )))))
}

/// A stream behind a lock that is never contended: only the body polls it.
struct SyncStream<S>(std::sync::Mutex<S>);

impl<S: futures::Stream + Unpin> futures::Stream for SyncStream<S> {
    type Item = S::Item;
    fn poll_next(self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<S::Item>> {
        match self.get_mut().0.get_mut() {
            Ok(inner) => inner.poll_next_unpin(cx),
            Err(poisoned) => poisoned.into_inner().poll_next_unpin(cx),
        }
    }
}

struct Following {
    cri: Cri,
    id: String,
    reader: BufReader<File>,
    line: String,
    first: std::collections::VecDeque<Vec<u8>>,
    wanted: Wanted,
    sent: u64,
    follow: bool,
    over: bool,
}

/// How often a log that is followed is looked at: CRI has no event for a written line, and a container runtime may
/// write from another machine's file system.
const LOOK: Duration = Duration::from_millis(100);

impl Following {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.wanted.limit.is_some_and(|limit| self.sent >= limit) {
                return None;
            }
            if let Some(mut text) = self.first.pop_front() {
                if let Some(limit) = self.wanted.limit {
                    text.truncate(usize::try_from(limit - self.sent).unwrap_or(usize::MAX));
                }
                self.sent += text.len() as u64;
                return Some(text.into());
            }
            if !self.follow {
                return None;
            }
            match self.reader.read_line(&mut self.line).await {
                Ok(n) if n > 0 && self.line.ends_with('\n') => {
                    let line = std::mem::take(&mut self.line);
                    self.first.extend(shown(line.trim_end_matches('\n'), &self.wanted));
                }
                Ok(_) if self.over => return None,
                Ok(_) => {
                    tokio::time::sleep(LOOK).await;
                    let request = cri::ContainerStatusRequest { container_id: self.id.clone(), verbose: false };
                    let status = self.cri.runtime.clone().container_status(request).await;
                    // One more look after the end, for what was written last.
                    self.over = !status.is_ok_and(|s| {
                        s.into_inner().status.is_some_and(|s| s.state() == cri::ContainerState::ContainerRunning)
                    });
                }
                Err(_) => return None,
            }
        }
    }
}
