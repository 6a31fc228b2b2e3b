//! From the creation of a pod to Running, as a client sees it over TLS.

use crate::cluster::{Cluster, binary};
use crate::table::{Better, Table, millis, percentile};
use crate::{Failure, Outcome, block_on, image, scratch};
use bytes::Bytes;
use futures::StreamExt;
use http::Method;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use trireme_client::{Client, Selection, WatchEvent};

const PODS: usize = 100;
const DEADLINE: Duration = Duration::from_secs(60);

pub fn measure(table: &mut Table) -> Outcome {
    let dir = scratch()?;
    let archive = dir.path().join("busybox.tar");
    image::write(&archive)?;
    block_on(async {
        let data = dir.path().join("data");
        let mut cluster = Cluster::start(&data, &[])?;
        cluster.ready().await?;
        let imported = Command::new(binary()?)
            .args(["images", "import", "--data-dir"])
            .args([&data, &archive])
            .stdout(Stdio::null())
            .status()?;
        if !imported.success() {
            return Err("the image cannot be imported".into());
        }
        let client = cluster.client()?;
        wait_for_account(&client).await?;
        for at_once in [1, 10] {
            let mut times = run(&client, at_once).await?;
            times.sort();
            let what = format!("create to Running, {PODS} pods, {at_once} at a time, image present");
            table.budget(format!("{what}, p50"), millis(percentile(&times, 0.5)), " ms", 100.0, Better::Less);
            table.budget(format!("{what}, p99"), millis(percentile(&times, 0.99)), " ms", 300.0, Better::Less);
        }
        Ok(())
    })
}

/// Pods are refused before their service account is there.
async fn wait_for_account(client: &Client) -> Result<(), Failure> {
    let started = Instant::now();
    let path = "/api/v1/namespaces/default/serviceaccounts/default";
    while client.request(Method::GET, path, None).await.is_err() {
        if started.elapsed() > DEADLINE {
            return Err("the default service account does not come".into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn run(client: &Client, at_once: usize) -> Result<Vec<Duration>, Failure> {
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    let watcher = tokio::spawn(follow(client.clone(), told));
    let one = |n: usize| {
        let (tell, name) = (tell.clone(), format!("pod-{at_once}-{n}"));
        async move {
            let (done, running) = oneshot::channel();
            tell.send((name.clone(), done)).map_err(|_| "the watch has ended")?;
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [
                    {"name": "main", "image": image::NAME, "command": ["/bin/sleep", "1000000"]}]}
            });
            let started = Instant::now();
            let body = ("application/json", Bytes::from(pod.to_string()));
            client.request(Method::POST, "/api/v1/namespaces/default/pods", Some(body)).await?;
            let at = tokio::time::timeout(DEADLINE, running).await.map_err(|_| format!("{name} does not run"))??;
            client.request(Method::DELETE, &format!("/api/v1/namespaces/default/pods/{name}"), None).await?;
            Ok::<_, Failure>(at - started)
        }
    };
    let times: Vec<_> = futures::stream::iter((0..PODS).map(one)).buffer_unordered(at_once).collect().await;
    watcher.abort();
    times.into_iter().collect()
}

type Wanted = (String, oneshot::Sender<Instant>);

/// Tells those who wait when their pod is seen to run.
async fn follow(client: Client, mut wanted: tokio::sync::mpsc::UnboundedReceiver<Wanted>) {
    let mut events = client.watch(Selection { collection: "/api/v1/pods".into(), ..Selection::default() }, None);
    let mut waiting = HashMap::new();
    loop {
        tokio::select! {
            biased;
            next = wanted.recv() => match next {
                Some((name, done)) => drop(waiting.insert(name, done)),
                None => return,
            },
            event = events.next() => match event {
                Some(Ok(WatchEvent::Applied(bytes))) => {
                    let at = Instant::now();
                    let pod: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                    if pod["status"]["phase"] == "Running"
                        && let Some(done) = waiting.remove(pod["metadata"]["name"].as_str().unwrap_or_default())
                    {
                        let _ = done.send(at);
                    }
                }
                Some(Ok(_)) => {}
                _ => return,
            },
        }
    }
}
