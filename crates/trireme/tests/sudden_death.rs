//! The binary is killed in the middle of writing.

#![allow(clippy::unwrap_used)] // a test fails loudly

use base64::Engine;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use trireme_client::{Client, Https, HttpsConfig, ListOptions};

const CREATES: usize = 1000;
/// After so many acknowledged creates the server dies.
const DEATH: usize = 400;

/// A control plane as a process of its own; it dies with the test.
struct Server(Child);

impl Server {
    fn start(dir: &Path, port: u16) -> Self {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_trireme"))
            .args(["server", "--disable", "node,dns,proxy", "--bind-address", "127.0.0.1"])
            .args(["--advertise-address", "127.0.0.1", "--https-listen-port", &port.to_string()])
            .arg("--data-dir")
            .arg(dir.join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }

    /// SIGKILL: nothing is flushed, nobody is told.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The administrator's client, out of the kubeconfig that the server wrote.
fn client(kubeconfig: &str) -> Option<Client> {
    let line = |key: &str| kubeconfig.lines().find_map(|l| l.trim().strip_prefix(key)).map(str::trim);
    let data = |key: &str| base64::engine::general_purpose::STANDARD.decode(line(key)?.trim_matches('"')).ok();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&data("certificate-authority-data:")?).ok()?).ok()?;
    let certificate = data("client-certificate-data:")?;
    let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<Vec<_>, _>>().ok()?;
    let key = PrivateKeyDer::from_pem_slice(&data("client-key-data:")?).ok()?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .ok()?;
    let server = line("server:")?.trim_matches('"').to_owned();
    Some(Client::new(Arc::new(Https::new(HttpsConfig { server, tls, token: None })), "test"))
}

/// Waits until the server answers for its namespaces.
async fn ready(dir: &Path) -> Client {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    while Instant::now() < deadline {
        tick.tick().await;
        let Some(client) = std::fs::read_to_string(dir.join("data/kubeconfig")).ok().and_then(|k| client(&k)) else {
            continue;
        };
        if client.all::<Namespace>().get("default").await.is_ok() {
            return client;
        }
    }
    panic!("not ready: {}", std::fs::read_to_string(dir.join("log")).unwrap());
}

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
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = Server::start(dir, port);
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

    let _server = Server::start(dir, port);
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
