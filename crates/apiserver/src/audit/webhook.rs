//! Events in batches to a service elsewhere (`--audit-webhook-*`). What cannot be sent in time is lost and counted: no
//! request waits for it.

use crate::outbound::Outbound;
use bytes::Bytes;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Where batches are sent, and when.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    /// The service.
    pub service: Outbound,
    /// Events that wait at most.
    pub buffer: usize,
    /// Events of a batch at most.
    pub batch: usize,
    /// How long a batch waits for more.
    pub wait: Duration,
    /// The first pause after a failure; each next one is twice as long.
    pub back_off: Duration,
}

impl WebhookOptions {
    /// A service with upstream's bounds.
    pub fn new(service: Outbound) -> Self {
        Self { service, buffer: 10_000, batch: 400, wait: Duration::from_secs(30), back_off: Duration::from_secs(10) }
    }
}

/// A batch is given up after so many tries.
const TRIES: u32 = 5;
/// How long a batch may take to be received.
const WITHIN: Duration = Duration::from_secs(30);

/// Sends events.
pub(super) struct Webhook {
    events: mpsc::Sender<Vec<u8>>,
}

impl Webhook {
    pub(super) fn start(options: &WebhookOptions) -> Result<Self, String> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|e| e.to_string())?;
        let (events, taken) = mpsc::channel(options.buffer.max(1));
        runtime.spawn(run(options.clone(), taken));
        Ok(Self { events })
    }

    /// Takes an event; false when it is lost.
    pub(super) fn send(&self, event: Vec<u8>) -> bool {
        self.events.try_send(event).is_ok()
    }
}

async fn run(options: WebhookOptions, mut events: mpsc::Receiver<Vec<u8>>) {
    while let Some(first) = events.recv().await {
        let mut batch = vec![first];
        let until = Instant::now() + options.wait;
        while batch.len() < options.batch {
            match tokio::time::timeout_at(until, events.recv()).await {
                Ok(Some(event)) => batch.push(event),
                Ok(None) | Err(_) => break,
            }
        }
        deliver(&options, list(&batch), batch.len()).await;
    }
}

/// An `EventList`.
fn list(events: &[Vec<u8>]) -> Bytes {
    let mut out = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#.to_vec();
    for (i, event) in events.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(event);
    }
    out.extend_from_slice(b"]}");
    out.into()
}

async fn deliver(options: &WebhookOptions, body: Bytes, count: usize) {
    let mut pause = options.back_off;
    for attempt in 1..=TRIES {
        match options.service.post(body.clone(), WITHIN).await {
            // That the answer is no object does not matter here.
            Ok(_) | Err(crate::outbound::CallError::Answer(..)) => return,
            Err(error) if attempt == TRIES => tracing::error!(%error, count, "audit events are lost"),
            Err(error) => {
                tracing::warn!(%error, "audit events are sent again");
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full};
    use hyper_util::rt::TokioIo;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use trireme_schema::json;

    #[tokio::test]
    async fn events_come_in_batches_also_after_a_failure() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/audit", listener.local_addr().unwrap());
        let (received, mut batches) = mpsc::unbounded_channel();
        let calls = Arc::new(AtomicUsize::new(0));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (received, calls) = (received.clone(), calls.clone());
                let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let (received, calls) = (received.clone(), calls.clone());
                    async move {
                        let body = request.into_body().collect().await?.to_bytes();
                        let first = calls.fetch_add(1, Ordering::SeqCst) == 0;
                        if !first {
                            let _ = received.send(json::parse(&body).unwrap().list_at(&["items"]).len());
                        }
                        let status = if first { 500 } else { 200 };
                        let response = http::Response::builder().status(status).body(Full::new(Bytes::from("{}")));
                        Ok::<_, hyper::Error>(response.unwrap())
                    }
                });
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        let options = WebhookOptions {
            batch: 3,
            wait: Duration::from_millis(50),
            back_off: Duration::from_millis(5),
            ..WebhookOptions::new(Outbound::new(&url, "").unwrap())
        };
        let webhook = Webhook::start(&options).unwrap();
        (0..5).for_each(|_| assert!(webhook.send(b"{}".to_vec())));
        assert_eq!((batches.recv().await, batches.recv().await), (Some(3), Some(2)));
    }
}
