//! The binary is killed in the middle of writing.

#![allow(clippy::unwrap_used)] // a test fails loudly

mod server;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use server::{Server, free_port, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use trireme_client::ListOptions;

const CREATES: usize = 1000;
/// After so many acknowledged creates the server dies.
const DEATH: usize = 400;

fn config_map(n: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("c-{n}")}, "data": data(n)})
}

/// Long enough that a torn write would show.
fn data(n: usize) -> Value {
    json!({"first": n.to_string(), "text": format!("{n} ").repeat(500), "last": n.to_string()})
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_create_survives_kill_9_and_none_is_half_written() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    let port = free_port();
    let mut server = Server::start(dir, port, &[]);
    let maps = ready(dir).await.namespaced::<ConfigMap>("default");

    let done = Arc::new(AtomicUsize::new(0));
    let (death, mut dying) = tokio::sync::mpsc::channel::<()>(1);
    let killer = tokio::task::spawn_blocking(move || {
        dying.blocking_recv();
        server.kill();
    });
    let acknowledged: Vec<usize> = futures::stream::iter(0..CREATES)
        .map(|n| {
            let (maps, done, death) = (maps.clone(), Arc::clone(&done), death.clone());
            async move {
                maps.create(&config_map(n)).await.ok()?;
                if done.fetch_add(1, Ordering::Relaxed) + 1 == DEATH {
                    death.send(()).await.ok()?;
                }
                Some(n)
            }
        })
        .buffer_unordered(32)
        .filter_map(std::future::ready)
        .collect()
        .await;
    killer.await.unwrap();
    assert!((DEATH..CREATES).contains(&acknowledged.len()), "killed in the middle: {}", acknowledged.len());

    let _server = Server::start(dir, port, &[]);
    let maps = ready(dir).await.namespaced::<ConfigMap>("default");
    let list = maps.list(&ListOptions::default()).await.unwrap();
    let found: std::collections::BTreeMap<String, Value> =
        list.items.into_iter().map(|m| (m.metadata.name.unwrap(), json!(m.data))).collect();
    for n in &acknowledged {
        assert!(found.contains_key(&format!("c-{n}")), "c-{n} was acknowledged and is lost");
    }
    for (name, held) in found {
        if let Some(n) = name.strip_prefix("c-") {
            assert_eq!(held, data(n.parse().unwrap()), "{name} is half-written");
        }
    }
    // Names that were acknowledged are taken; the server goes on writing.
    assert!(maps.create(&config_map(acknowledged[0])).await.is_err());
    maps.create(&config_map(CREATES)).await.unwrap();
}
