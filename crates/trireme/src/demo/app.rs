//! What runs in the demo's containers.

use crate::Failure;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

/// The hidden subcommand by which the program becomes the demo.
pub const COMMAND: &str = "__demo";
/// The port of both tiers in their pods.
pub const PORT: u16 = 8080;
/// The tier that counts, by the name of its Service.
pub const COUNTER: &str = "counter";
/// The tier with the page.
pub const WEB: &str = "web";

/// Connections at a time.
const MOST: usize = 256;
/// A client that says nothing for this long is left.
const SILENCE: Duration = Duration::from_secs(10);
/// The other tier answers by then.
const PATIENCE: Duration = Duration::from_secs(2);

/// One container's state.
struct App {
    tier: String,
    pod: String,
    node: String,
    hits: AtomicU64,
}

/// Runs one tier until SIGTERM.
///
/// # Errors
/// When the port cannot be had.
pub fn run(tier: &str) -> Result<(), Failure> {
    let variable = |name| std::env::var(name).unwrap_or_else(|_| "unknown".to_owned());
    let app =
        App { tier: tier.to_owned(), pod: variable("POD_NAME"), node: variable("NODE_NAME"), hits: AtomicU64::new(0) };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(Arc::new(app)))
}

async fn serve(app: Arc<App>) -> Result<(), Failure> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    // The first process of a container has no default for signals.
    let mut terminate = signal(SignalKind::terminate())?;
    say(&format!("{} listens on port {PORT}", app.tier));
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let place = places.clone().acquire_owned().await?;
        let accepted = tokio::select! {
            _ = terminate.recv() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let app = app.clone();
        tokio::spawn(async move {
            let _place = place;
            let service = hyper::service::service_fn(|request| {
                let app = app.clone();
                async move { Ok::<_, Infallible>(answer(&app, &request).await) }
            });
            // A client that goes away is no matter.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(SILENCE)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(app: &App, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    match (app.tier.as_str(), request.uri().path()) {
        (_, "/healthz") => text(StatusCode::OK, "text/plain", "ok\n".into()),
        (COUNTER, "/hit") => {
            let count = app.hits.fetch_add(1, Ordering::Relaxed) + 1;
            say(&format!("counted {count}"));
            text(StatusCode::OK, "text/plain", format!("{count} {}\n", app.pod))
        }
        (WEB, "/") => match count().await {
            Ok(counted) => {
                say(&format!("served a page; {COUNTER} said {counted}"));
                text(StatusCode::OK, "text/html; charset=utf-8", page(app, &counted))
            }
            Err(error) => {
                let why = format!("the service {COUNTER} does not answer: {error}");
                say(&why);
                text(StatusCode::BAD_GATEWAY, "text/plain", format!("{why}\n"))
            }
        },
        _ => text(StatusCode::NOT_FOUND, "text/plain", "not found\n".into()),
    }
}

/// A line in the container's log.
fn say(line: &str) {
    // Nobody reads the log: the page matters more.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    // A page that is kept would not count.
    response.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}

/// Asks the other tier through its Service: DNS finds the address, the proxy finds the pod.
async fn count() -> Result<String, Failure> {
    let work = async {
        let stream = TcpStream::connect((COUNTER, 80)).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::get("/hit").header(header::HOST, COUNTER).body(Empty::<Bytes>::new())?;
        let answer = sender.send_request(request).await?;
        let body = Limited::new(answer.into_body(), 1024).collect().await?.to_bytes();
        Ok(String::from_utf8_lossy(&body).trim().to_owned())
    };
    tokio::time::timeout(PATIENCE, work).await.map_err(|_| "no answer in time")?
}

/// The page; `counted` is what the counter said: the count and its pod.
fn page(app: &App, counted: &str) -> String {
    let (count, counter) = counted.split_once(' ').unwrap_or((counted, "unknown"));
    let (pod, node) = (escape(&app.pod), escape(&app.node));
    let (count, counter) = (escape(count), escape(counter));
    let version = crate::version::TEXT;
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Trireme</title><style>\
body{{font:18px/1.6 system-ui,sans-serif;max-width:40em;margin:4em auto;padding:0 1em;color:#123}}\
h1{{font-weight:300;font-size:3em;margin:0}}b{{color:#06c}}p.count{{font-size:1.6em}}</style></head><body>\n\
<h1>Trireme</h1>\n<p class=\"count\">Visit number <b>{count}</b></p>\n\
<p>This page came from the pod <b>{pod}</b> on the node <b>{node}</b>.<br>\n\
The count came from the pod <b>{counter}</b>, found by DNS as <b>{COUNTER}</b> and reached through its Service.</p>\n\
<p>Reload to see the other pod of the Deployment <b>{WEB}</b> answer. Both tiers run an image made from the\n\
program that runs this cluster, trireme {version}.</p>\n</body></html>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_both_pods_and_escapes_them() {
        let app = App { tier: WEB.into(), pod: "web-1".into(), node: "<n>".into(), hits: AtomicU64::new(0) };
        let page = page(&app, "7 counter-2");
        for part in ["<b>7</b>", "web-1", "counter-2", "&lt;n&gt;"] {
            assert!(page.contains(part), "{part}");
        }
    }
}
