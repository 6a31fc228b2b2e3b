//! The node's own API, as the API server calls it: logs, streams to containers, ports of pods, health.

mod find;
mod follow;
mod log_line;
mod logs;
mod ports;
mod query;
mod relay;
mod streams;
mod tail;

use crate::cri::Cri;
use crate::runtime_events::RuntimeEvents;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use trireme_client::Client;
use trireme_streams::Streamer;

type Body = UnsyncBoxBody<Bytes, Infallible>;
/// An answer on its way; boxed, since the compiler cannot prove the bare future to be `Send` for all lifetimes.
type Answer = BoxFuture<'static, Result<Response<Body>, Infallible>>;

fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text.into())).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// What is asked for answers.
#[derive(Clone)]
pub struct Api {
    /// The container runtime.
    pub cri: Cri,
    /// Starts processes in containers, where the runtime is one that can be asked in process; else it is asked where it
    /// serves its streams.
    pub streamer: Option<Arc<dyn Streamer>>,
    /// What happens at the runtime.
    pub events: RuntimeEvents,
    /// The API server, as the node.
    pub client: Client,
}

impl hyper::service::Service<Request<Incoming>> for Api {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        self.clone().answer(request)
    }
}

impl Api {
    /// Serves until `stop`. Only clients whose certificate the TLS configuration verifies are answered.
    pub async fn serve(self, listener: TcpListener, tls: Arc<rustls::ServerConfig>, stop: CancellationToken) {
        const HANDSHAKE: Duration = Duration::from_secs(10);
        let acceptor = TlsAcceptor::from(tls);
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else { continue };
            let (acceptor, service, stop) = (acceptor.clone(), self.clone(), stop.clone());
            tokio::spawn(async move {
                let Ok(Ok(secured)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let connection = builder.serve_connection_with_upgrades(TokioIo::new(secured), service).into_owned();
                // A client that goes ends its connection; that is no error of ours.
                let _ = stop.run_until_cancelled(connection).await;
            });
        }
    }

    fn answer(self, request: Request<Incoming>) -> Answer {
        match route(request.uri().path()) {
            Route::Health => async { Ok(text(StatusCode::OK, "ok")) }.boxed(),
            Route::Logs(place) => {
                let query = query::pairs(&request);
                let show = |result| match result {
                    Ok(body) => Ok(Response::new(body)),
                    Err((status, why)) => Ok(text(status, why)),
                };
                self.logs(place, query).map(show).boxed()
            }
            Route::Exec(place) => self.stream(request, place, false).map(Ok).boxed(),
            Route::Attach(place) => self.stream(request, place, true).map(Ok).boxed(),
            Route::PortForward(namespace, pod) => self.forward(request, namespace, pod).map(Ok).boxed(),
            Route::Unknown => async { Ok(text(StatusCode::NOT_FOUND, "404 page not found\n")) }.boxed(),
        }
    }
}

/// A container of a pod.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    namespace: String,
    pod: String,
    container: String,
}

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    Health,
    Logs(Place),
    Exec(Place),
    Attach(Place),
    PortForward(String, String),
    Unknown,
}

fn route(path: &str) -> Route {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let place = |namespace: &str, pod: &str, container: &str| Place {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        container: container.to_owned(),
    };
    match parts[..] {
        ["healthz"] => Route::Health,
        ["containerLogs", namespace, pod, container] => Route::Logs(place(namespace, pod, container)),
        ["exec", namespace, pod, container] => Route::Exec(place(namespace, pod, container)),
        ["attach", namespace, pod, container] => Route::Attach(place(namespace, pod, container)),
        ["portForward", namespace, pod] => Route::PortForward(namespace.to_owned(), pod.to_owned()),
        _ => Route::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_what_they_name() {
        let place = || Place { namespace: "n".into(), pod: "p".into(), container: "c".into() };
        for (path, wanted) in [
            ("/healthz", Route::Health),
            ("/containerLogs/n/p/c", Route::Logs(place())),
            ("/exec/n/p/c", Route::Exec(place())),
            ("/attach/n/p/c/", Route::Attach(place())),
            ("/portForward/n/p", Route::PortForward("n".into(), "p".into())),
            ("/exec/n/p", Route::Unknown),
            ("/", Route::Unknown),
        ] {
            assert_eq!(route(path), wanted, "{path}");
        }
    }
}
