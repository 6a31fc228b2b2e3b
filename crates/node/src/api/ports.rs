//! Ports of pods, forwarded.

use super::{Api, Body, find, query, relay, text};
use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use std::sync::Arc;
use trireme_cri as cri;
use trireme_streams::Dial;

impl Api {
    /// Forwards ports of a pod.
    pub(super) async fn forward(
        self,
        mut request: Request<Incoming>,
        namespace: String,
        pod: String,
    ) -> Response<Body> {
        let sandbox = match find::sandbox(&self.cri, &namespace, &pod).await {
            Ok(Some(sandbox)) => sandbox,
            Ok(None) => {
                let why = format!("pod not found ({:?})", format!("{pod}_{namespace}"));
                return text(StatusCode::NOT_FOUND, why);
            }
            Err(status) => return text(StatusCode::INTERNAL_SERVER_ERROR, status.message()),
        };
        let ports = query::pairs(&request).into_iter().filter(|(k, _)| k == "port");
        let ports: Vec<String> = ports.map(|(_, v)| v).collect();
        let Some(streamer) = self.streamer else {
            let port = ports.iter().flat_map(|p| p.split(',')).filter_map(|p| p.parse().ok()).collect();
            let wanted = cri::PortForwardRequest { pod_sandbox_id: sandbox, port };
            let url = self.cri.runtime.clone().port_forward(wanted).await.map(|answer| answer.into_inner().url);
            return relay::to_runtime(request, url).await;
        };
        let (response, forwarding) = match trireme_streams::accept_forwarding(&mut request, &ports) {
            Ok(accepted) => accepted,
            Err(refusal) => return text(refusal.status, refusal.why),
        };
        let dial: Dial = Arc::new(move |port| {
            let (streamer, sandbox) = (streamer.clone(), sandbox.clone());
            async move { streamer.dial(sandbox, port).await }.boxed()
        });
        tokio::spawn(forwarding.serve(dial));
        response.map(|()| Full::new(Bytes::new()).boxed_unsync())
    }
}
