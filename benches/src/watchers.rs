//! Many watchers of the same objects: when each of them has an event, counted from the start of the write.

use crate::plane::Plane;
use crate::table::{Better, Table, millis, percentile};
use crate::{Failure, Outcome, block_on, scratch};
use bytes::Bytes;
use futures::StreamExt;
use http::Method;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use trireme_client::{Client, Selection, Transport, WatchEvent};

/// Events per second, and how many.
const RATE: u32 = 100;
const EVENTS: usize = 300;
const DEADLINE: Duration = Duration::from_secs(60);

pub fn measure(table: &mut Table) -> Outcome {
    for (watchers, network) in [(1_000, false), (1_000, true), (10_000, false)] {
        let dir = scratch()?;
        let mut times = block_on(async {
            let plane = Plane::start(dir.path()).await?;
            let transports: Result<Vec<Arc<dyn Transport>>, Failure> = match network {
                false => Ok(vec![plane.in_process()]),
                // A connection carries a hundred watches.
                true => (0..watchers / 100).map(|_| Ok(Arc::new(plane.https()?) as Arc<dyn Transport>)).collect(),
            };
            deliver(Client::new(plane.in_process(), "trireme-bench"), transports?, watchers).await
        })?;
        times.sort();
        let way = if network { "TLS" } else { "in process" };
        let what = format!("event to each of {watchers} watchers, {RATE} events/s, {way}");
        table.plain(format!("{what}, p50"), format!("{:.2} ms", millis(percentile(&times, 0.5))));
        table.budget(format!("{what}, p99"), millis(percentile(&times, 0.99)), " ms", 50.0, Better::Less);
    }
    Ok(())
}

async fn deliver(
    writer: Client,
    transports: Vec<Arc<dyn Transport>>,
    watchers: usize,
) -> Result<Vec<Duration>, Failure> {
    let origin = Instant::now();
    let (ready, mut readied) = tokio::sync::mpsc::unbounded_channel();
    let tasks: Vec<_> = (0..watchers)
        .map(|n| {
            let selection =
                Selection { collection: "/api/v1/namespaces/default/configmaps".into(), ..Selection::default() };
            let mut events = transports[n % transports.len()].watch(selection, None);
            let ready = ready.clone();
            tokio::spawn(async move {
                let mut seen = Vec::with_capacity(EVENTS);
                while seen.len() < EVENTS {
                    match events.next().await {
                        Some(Ok(WatchEvent::Applied(bytes))) => seen.push((started(&bytes), origin.elapsed())),
                        Some(Ok(WatchEvent::Bookmark { initial_events_end: true, .. })) => drop(ready.send(())),
                        Some(Ok(_)) => {}
                        Some(Err(error)) => return Err(Failure::from(error)),
                        None => return Err("a watch has ended".into()),
                    }
                }
                Ok(seen)
            })
        })
        .collect();
    for _ in 0..watchers {
        tokio::time::timeout(DEADLINE, readied.recv()).await.map_err(|_| "not all watches open")?;
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
    for n in 0..EVENTS {
        ticks.tick().await;
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("event-{n}"), "annotations": {"at": origin.elapsed().as_nanos().to_string()}},
            "data": {"text": "x".repeat(1_000)}
        });
        let body = ("application/json", Bytes::from(object.to_string()));
        writer.request(Method::POST, "/api/v1/namespaces/default/configmaps", Some(body)).await?;
    }
    let mut times = Vec::with_capacity(EVENTS * watchers);
    for task in tasks {
        let seen = tokio::time::timeout(DEADLINE, task).await.map_err(|_| "events are missing")???;
        times.extend(seen.into_iter().map(|(from, to)| to.saturating_sub(from)));
    }
    Ok(times)
}

/// When the write of an event began; found without parsing, which would be most of what is measured.
fn started(object: &[u8]) -> Duration {
    const FIELD: &[u8] = b"\"at\":\"";
    let at = object.windows(FIELD.len()).position(|w| w == FIELD).map_or(object.len(), |at| at + FIELD.len());
    let digits = object[at..].iter().take_while(|b| b.is_ascii_digit());
    Duration::from_nanos(digits.fold(0, |n, b| n * 10 + u64::from(b - b'0')))
}
