//! Lists of 10,000 pods: how fast their bytes come.

use crate::plane::Plane;
use crate::table::{Better, Table};
use crate::{Failure, Outcome, block_on, scratch};
use bytes::Bytes;
use futures::StreamExt;
use http::Method;
use http_body_util::BodyExt;
use serde_json::json;
use std::time::Instant;
use trireme_apiserver::request::{Query, RequestInfo};

use trireme_apiserver::{ApiServer, Incoming, User};
use trireme_client::{Client, Transport};

const PODS: usize = 10_000;
const ROUNDS: usize = 20;
const MB: f64 = 1e6;
const PATH: &str = "/api/v1/pods";

/// A pod as a ReplicaSet makes it, with a status.
pub fn pod(n: usize) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("web-7c5ddbdf54-{n:05}"), "labels": {"app": "web", "pod-template-hash": "7c5ddbdf54", "shard": format!("{}", n % 16)},
            "annotations": {"checksum/config": "f2ca1bb6c7e907d06dafe4687e579fce76b37e4e93b7605022da52e6ccc26fd2"}},
        "spec": {"containers": [{"name": "web", "image": "registry.example/shop/web:1.14.2", "args": ["--listen", "0.0.0.0:8080"],
            "ports": [{"containerPort": 8080, "name": "http"}],
            "env": [{"name": "DATABASE", "value": "postgres://db.shop.svc/web"}, {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 5}}]}
    })
}

/// Makes pods; nothing runs them.
pub async fn fill(transport: std::sync::Arc<dyn Transport>, pods: usize) -> Result<(), Failure> {
    let client = Client::new(transport, "trireme-bench");
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let post = async |path: &str, object: &serde_json::Value| {
        let body = ("application/json", Bytes::from(object.to_string()));
        client.request(Method::POST, path, Some(body)).await
    };
    post("/api/v1/namespaces/default/serviceaccounts", &account).await?;
    let client = &client;
    let makes = futures::stream::iter(0..pods).map(|n| async move {
        let body = ("application/json", Bytes::from(pod(n).to_string()));
        client.request(Method::POST, "/api/v1/namespaces/default/pods", Some(body)).await.map(drop)
    });
    let made: Vec<_> = makes.buffer_unordered(256).collect().await;
    Ok(made.into_iter().collect::<Result<(), _>>()?)
}

pub fn measure(table: &mut Table) -> Outcome {
    let dir = scratch()?;
    block_on(async {
        let plane = Plane::start(dir.path()).await?;
        fill(plane.in_process(), PODS).await?;
        let https = plane.https()?;
        for (form, accept) in [("JSON", "application/json"), ("protobuf", "application/vnd.kubernetes.protobuf")] {
            let (bytes, direct) = best(|| direct(&plane.server, accept)).await?;
            let what = format!("LIST of 10,000 pods, {form}, {:.1} MB", bytes / MB);
            if form == "JSON" {
                table.budget(format!("{what}, without TLS, one core"), direct, " MB/s", 1_000.0, Better::More);
            } else {
                table.plain(format!("{what}, without TLS, one core"), format!("{direct:.0} MB/s"));
            }
            let (_, network) = best(|| over_tls(&https, accept)).await?;
            table.peer(format!("{what}, TLS and client"), network, " MB/s", "without TLS", direct);
        }
        Ok(())
    })
}

/// The best of some rounds, in MB/s: what is in the way on a shared machine is not what is measured.
async fn best<F: Future<Output = Result<usize, Failure>>>(round: impl Fn() -> F) -> Result<(f64, f64), Failure> {
    let (mut size, mut rate) = (0.0, 0.0_f64);
    for _ in 0..ROUNDS {
        let started = Instant::now();
        size = round().await? as f64;
        rate = rate.max(size / MB / started.elapsed().as_secs_f64());
    }
    Ok((size, rate))
}

/// The body as the server makes it, piece by piece, dropped as soon as it is there.
async fn direct(server: &std::sync::Arc<ApiServer>, accept: &str) -> Result<usize, Failure> {
    let request = http::Request::builder().uri(PATH).body(Incoming::Whole(Bytes::new()))?;
    let info = RequestInfo::read(&Method::GET, PATH, &Query::default());
    let admin = std::sync::Arc::new(User::new("system:admin", &["system:masters"]));
    let mut body = server.serve(request, info, Query::default(), admin, accept).await.into_body();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        size += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(size)
}

async fn over_tls(https: &trireme_client::Https, accept: &str) -> Result<usize, Failure> {
    let request = http::Request::builder().uri(PATH).header("accept", accept).body(Bytes::new())?;
    Ok(https.send(request).await?.body().len())
}
