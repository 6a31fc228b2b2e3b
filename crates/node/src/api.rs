//! The node's own API, as the API server calls it: logs, health, what runs.

use crate::cri::{Cri, label};
use crate::relay;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
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
use trireme_streams::{Dial, Outcome, Session, Streamer, Wanted as Streams};

type Body = BoxBody<Bytes, Infallible>;

fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text.into())).boxed());
    *response.status_mut() = status;
    response
}

/// What is served. A type of its own, since the compiler cannot prove a closure's future to be `Send`.
struct Api {
    cri: Cri,
    streamer: Option<Arc<dyn Streamer>>,
}

impl hyper::service::Service<Request<Incoming>> for Api {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        answer(self.cri.clone(), self.streamer.clone(), request)
    }
}

/// Serves until `stop`. Only clients whose certificate the TLS configuration verifies are answered.
/// `streamer` starts processes in containers, where the runtime is one that can be asked in process.
pub async fn serve(
    cri: Cri,
    streamer: Option<Arc<dyn Streamer>>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    stop: CancellationToken,
) {
    const HANDSHAKE: Duration = Duration::from_secs(10);
    let acceptor = TlsAcceptor::from(tls);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (acceptor, cri, streamer, stop) = (acceptor.clone(), cri.clone(), streamer.clone(), stop.clone());
        tokio::spawn(async move {
            let Ok(Ok(secured)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
            let service = Api { cri, streamer };
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(secured), service).into_owned();
            // A client that goes ends its connection; that is no error of ours.
            let _ = stop.run_until_cancelled(connection).await;
        });
    }
}

/// Parameters in their order.
fn pairs(request: &Request<Incoming>) -> Vec<(String, String)> {
    let pairs = request.uri().query().unwrap_or_default().split('&').filter_map(|p| p.split_once('='));
    let decoded = |v: &str| percent_encoding::percent_decode_str(v).decode_utf8_lossy().into_owned();
    pairs.map(|(k, v)| (k.to_owned(), decoded(v))).collect()
}

fn query(request: &Request<Incoming>) -> HashMap<String, String> {
    pairs(request).into_iter().collect()
}

/// A container, and whether it is to be joined.
struct Place {
    attach: bool,
    namespace: String,
    pod: String,
    container: String,
}

/// Opens a stream to a container.
async fn stream(
    cri: Cri,
    streamer: Option<Arc<dyn Streamer>>,
    mut request: Request<Incoming>,
    place: Place,
) -> Response<Body> {
    let found = match find(&cri, &place.namespace, &place.pod, &place.container).await {
        Ok(found) => found,
        Err((status, why)) => return text(status, why),
    };
    let running = found.iter().find(|c| c.state() == cri::ContainerState::ContainerRunning);
    let Some(id) = running.map(|c| c.id.clone()) else {
        let why = format!("unable to upgrade connection: container not found ({:?})", place.container);
        return text(StatusCode::NOT_FOUND, why);
    };
    let (mut command, mut wanted) = (Vec::new(), Streams::default());
    for (key, value) in pairs(&request) {
        let yes = value == "1" || value == "true";
        match key.as_str() {
            "command" => command.push(value),
            "tty" => wanted.tty = yes,
            "input" | "stdin" => wanted.stdin = yes,
            "output" | "stdout" => wanted.stdout = yes,
            "error" | "stderr" => wanted.stderr = yes,
            _ => {}
        }
    }
    let Some(streamer) = streamer else {
        let streams = (wanted.stdin, wanted.stdout, wanted.stderr && !wanted.tty);
        return relayed(request, url(&cri, place.attach, id, command, wanted.tty, streams).await).await;
    };
    let (response, accepted) = match trireme_streams::accept(&mut request) {
        Ok(accepted) => accepted,
        Err(refusal) => return text(refusal.status, refusal.why),
    };
    let opened = if place.attach {
        streamer.attach(id).await
    } else {
        streamer.exec(id, command, wanted.tty, wanted.stdin).await
    };
    let session = opened.unwrap_or_else(|why| Session {
        stdin: None,
        stdout: None,
        stderr: None,
        resize: Box::new(|_, _| {}),
        // The client hears of it on the stream that it opened.
        exit: Box::pin(async { Outcome::Failed(why) }),
    });
    tokio::spawn(accepted.serve(wanted, session));
    response.map(|()| Full::new(Bytes::new()).boxed())
}

/// Where an external runtime serves a stream. `streams` are stdin, stdout, stderr.
async fn url(
    cri: &Cri,
    attach: bool,
    container_id: String,
    cmd: Vec<String>,
    tty: bool,
    (stdin, stdout, stderr): (bool, bool, bool),
) -> Result<String, tonic::Status> {
    let mut runtime = cri.runtime.clone();
    if attach {
        let request = cri::AttachRequest { container_id, stdin, tty, stdout, stderr };
        runtime.attach(request).await.map(|answer| answer.into_inner().url)
    } else {
        let request = cri::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr };
        runtime.exec(request).await.map(|answer| answer.into_inner().url)
    }
}

async fn relayed(request: Request<Incoming>, url: Result<String, tonic::Status>) -> Response<Body> {
    let relayed = match url {
        Ok(url) => relay::upgrade(request, &url).await,
        Err(status) => Err(status.message().to_owned()),
    };
    match relayed {
        Ok(response) => response.map(BodyExt::boxed),
        Err(why) => text(StatusCode::INTERNAL_SERVER_ERROR, why),
    }
}

/// Forwards ports of a pod.
async fn forward(
    cri: Cri,
    streamer: Option<Arc<dyn Streamer>>,
    mut request: Request<Incoming>,
    place: Place,
) -> Response<Body> {
    let sandbox = match sandbox(&cri, &place.namespace, &place.pod).await {
        Ok(Some(sandbox)) => sandbox,
        Ok(None) => {
            let why = format!("pod not found ({:?})", format!("{}_{}", place.pod, place.namespace));
            return text(StatusCode::NOT_FOUND, why);
        }
        Err(status) => return text(StatusCode::INTERNAL_SERVER_ERROR, status.message()),
    };
    let Some(streamer) = streamer else {
        let port =
            pairs(&request).into_iter().filter(|(k, _)| k == "port").filter_map(|(_, v)| v.parse().ok()).collect();
        let wanted = cri::PortForwardRequest { pod_sandbox_id: sandbox, port };
        let url = cri.runtime.clone().port_forward(wanted).await.map(|answer| answer.into_inner().url);
        return relayed(request, url).await;
    };
    let (response, forwarding) = match trireme_streams::accept_forwarding(&mut request) {
        Ok(accepted) => accepted,
        Err(refusal) => return text(refusal.status, refusal.why),
    };
    let dial: Dial = Arc::new(move |port| {
        let (streamer, sandbox) = (streamer.clone(), sandbox.clone());
        async move { streamer.dial(sandbox, port).await }.boxed()
    });
    tokio::spawn(forwarding.serve(dial));
    response.map(|()| Full::new(Bytes::new()).boxed())
}

/// The sandbox in which a pod runs.
async fn sandbox(cri: &Cri, namespace: &str, pod: &str) -> Result<Option<String>, tonic::Status> {
    let labels = [(label::NAMESPACE, namespace), (label::POD, pod)];
    let filter = cri::PodSandboxFilter {
        state: Some(cri::PodSandboxStateValue { state: cri::PodSandboxState::SandboxReady.into() }),
        label_selector: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..cri::PodSandboxFilter::default()
    };
    let request = cri::ListPodSandboxRequest { filter: Some(filter) };
    let all = cri.runtime.clone().list_pod_sandbox(request).await?.into_inner().items;
    Ok(all.into_iter().max_by_key(|s| s.created_at).map(|s| s.id))
}

/// What a path asks for.
enum Route {
    Health,
    Logs(Place),
    Stream(Place),
    PortForward(Place),
    Unknown,
}

fn route(path: &str) -> Route {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let place = |attach: bool, namespace: &str, pod: &str, container: &str| Place {
        attach,
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        container: container.to_owned(),
    };
    match parts[..] {
        ["healthz"] => Route::Health,
        ["containerLogs", namespace, pod, container] => Route::Logs(place(false, namespace, pod, container)),
        ["exec", namespace, pod, container] => Route::Stream(place(false, namespace, pod, container)),
        ["attach", namespace, pod, container] => Route::Stream(place(true, namespace, pod, container)),
        ["portForward", namespace, pod] => Route::PortForward(place(false, namespace, pod, "")),
        _ => Route::Unknown,
    }
}

/// An answer on its way; boxed, since the compiler cannot prove the bare future to be `Send` for all lifetimes.
type Answer = BoxFuture<'static, Result<Response<Body>, Infallible>>;

fn answer(cri: Cri, streamer: Option<Arc<dyn Streamer>>, request: Request<Incoming>) -> Answer {
    match route(request.uri().path()) {
        Route::Health => async { Ok(text(StatusCode::OK, "ok")) }.boxed(),
        Route::Logs(place) => {
            let query = query(&request);
            let show = |result| match result {
                Ok(body) => Ok(Response::new(body)),
                Err((status, why)) => Ok(text(status, why)),
            };
            logs(cri, place, query).map(show).boxed()
        }
        Route::Stream(place) => stream(cri, streamer, request, place).map(Ok).boxed(),
        Route::PortForward(place) => forward(cri, streamer, request, place).map(Ok).boxed(),
        Route::Unknown => async { Ok(text(StatusCode::NOT_FOUND, "404 page not found\n")) }.boxed(),
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

async fn logs(cri: Cri, place: Place, query: HashMap<String, String>) -> Result<Body, (StatusCode, String)> {
    let Place { namespace, pod, container, .. } = place;
    let flag = |name: &str| query.get(name).is_some_and(|v| v == "true" || v == "1");
    let all = find(&cri, &namespace, &pod, &container).await?;
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
    let state = Following { cri, id: status.id, reader, line, first, wanted, sent: 0, follow, over: false };
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
