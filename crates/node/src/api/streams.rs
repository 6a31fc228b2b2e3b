//! Processes in containers: exec and attach.

use super::{Api, Body, Place, find, query, relay, text};
use crate::cri::Cri;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use trireme_cri as cri;
use trireme_streams::{Outcome, Session, Wanted};

/// What a request says of the process.
fn wanted(request: &Request<Incoming>) -> (Vec<String>, Wanted) {
    let (mut command, mut wanted) = (Vec::new(), Wanted::default());
    for (key, value) in query::pairs(request) {
        let yes = query::is_yes(&value);
        match key.as_str() {
            "command" => command.push(value),
            "tty" => wanted.tty = yes,
            "input" | "stdin" => wanted.stdin = yes,
            "output" | "stdout" => wanted.stdout = yes,
            "error" | "stderr" => wanted.stderr = yes,
            _ => {}
        }
    }
    (command, wanted)
}

impl Api {
    /// Opens a stream to a container: to its own process, or to a new one.
    pub(super) async fn stream(self, mut request: Request<Incoming>, place: Place, attach: bool) -> Response<Body> {
        let found = match find::containers(&self.cri, &place).await {
            Ok(found) => found,
            Err((status, why)) => return text(status, why),
        };
        let running = found.iter().find(|c| c.state() == cri::ContainerState::ContainerRunning);
        let Some(id) = running.map(|c| c.id.clone()) else {
            let why = format!("unable to upgrade connection: container not found ({:?})", place.container);
            return text(StatusCode::NOT_FOUND, why);
        };
        let (command, wanted) = wanted(&request);
        let streams = (wanted.stdin, wanted.stdout, wanted.stderr && !wanted.tty);
        if streams == (false, false, false) {
            return text(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr");
        }
        let Some(streamer) = self.streamer else {
            let url = url(&self.cri, attach, id, command, wanted.tty, streams).await;
            return relay::to_runtime(request, url).await;
        };
        let (response, accepted) = match trireme_streams::accept(&mut request) {
            Ok(accepted) => accepted,
            Err(refusal) => return text(refusal.status, refusal.why),
        };
        let opened =
            if attach { streamer.attach(id).await } else { streamer.exec(id, command, wanted.tty, wanted.stdin).await };
        let doing = if attach { "attaching to" } else { "executing command in" };
        let session = opened.unwrap_or_else(|why| Session {
            stdin: None,
            stdout: None,
            stderr: None,
            resize: Box::new(|_, _| {}),
            // The client hears of it on the stream that it opened.
            exit: Box::pin(async move { Outcome::Failed(format!("error {doing} container: {why}")) }),
        });
        tokio::spawn(accepted.serve(wanted, session));
        response.map(|()| Full::new(Bytes::new()).boxed_unsync())
    }
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
