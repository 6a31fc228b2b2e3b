//! Durable creates through the whole request pipeline, in process and over TLS.

use crate::durable::{CLIENTS, rate};
use crate::plane::Plane;
use crate::table::Table;
use crate::{Failure, Outcome, block_on, scratch};
use bytes::Bytes;
use http::Method;
use serde_json::json;
use std::sync::Arc;
use trireme_client::{Client, Transport};

/// Clients share this many connections at most, as those of a cluster's components do.
const CONNECTIONS: usize = 16;

pub fn measure(table: &mut Table) -> Outcome {
    for clients in CLIENTS {
        let dir = scratch()?;
        let (direct, network) = block_on(async {
            let plane = Plane::start(dir.path()).await?;
            let direct = creates(clients, vec![plane.in_process()], "d").await?;
            let transports: Result<Vec<_>, Failure> = (0..clients.min(CONNECTIONS))
                .map(|_| plane.https().map(|https| Arc::new(https) as Arc<dyn Transport>))
                .collect();
            Ok((direct, creates(clients, transports?, "n").await?))
        })?;
        let what = format!("ConfigMap creates/s, whole pipeline, {clients} clients");
        table.plain(format!("{what}, in process"), crate::table::number(direct));
        table.peer(format!("{what}, TLS"), network, "", "in process", direct);
    }
    Ok(())
}

async fn creates(clients: usize, transports: Vec<Arc<dyn Transport>>, run: &'static str) -> Result<f64, Failure> {
    let transports: Arc<[Client]> = transports.into_iter().map(|t| Client::new(t, "trireme-bench")).collect();
    rate(clients, move |key| {
        let name = format!("{run}-{}", key.rsplit('/').next().unwrap_or_default());
        // The client's number is the second part of the name.
        let number = name.split('-').nth(2).and_then(|n| n.parse::<usize>().ok()).unwrap_or_default();
        let client = transports[number % transports.len()].clone();
        async move {
            let object = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
                "data": {"text": "x".repeat(1_000)}
            });
            let body = ("application/json", Bytes::from(object.to_string()));
            client.request(Method::POST, "/api/v1/namespaces/default/configmaps", Some(body)).await.map(drop)
        }
    })
    .await
}
