//! A control plane as a process of its own, and its administrator.

#![allow(dead_code)] // not every test uses all of it

use base64::Engine;
use k8s_openapi::api::core::v1::Namespace;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use trireme_client::{Client, Https, HttpsConfig, tls_trusting};

/// A port that nobody has.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The process; it dies with the test.
pub struct Server(Child);

impl Server {
    pub fn start(dir: &Path, port: u16, more: &[&str]) -> Self {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_trireme"))
            .args(["server", "--disable", "node,dns,proxy", "--bind-address", "127.0.0.1"])
            .args(["--advertise-address", "127.0.0.1", "--https-listen-port", &port.to_string()])
            .arg("--data-dir")
            .arg(dir.join("data"))
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }

    /// SIGKILL: nothing is flushed, nobody is told.
    pub fn kill(&mut self) {
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
pub fn client(kubeconfig: &str) -> Option<Client> {
    let line = |key: &str| kubeconfig.lines().find_map(|l| l.trim().strip_prefix(key)).map(str::trim);
    let data = |key: &str| base64::engine::general_purpose::STANDARD.decode(line(key)?.trim_matches('"')).ok();
    let authority = CertificateDer::from_pem_slice(&data("certificate-authority-data:")?).ok()?;
    let certificate = data("client-certificate-data:")?;
    let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<Vec<_>, _>>().ok()?;
    let key = PrivateKeyDer::from_pem_slice(&data("client-key-data:")?).ok()?;
    let tls = tls_trusting([authority]).ok()?.with_client_auth_cert(chain, key).ok()?;
    let server = line("server:")?.trim_matches('"').to_owned();
    Some(Client::new(Arc::new(Https::new(HttpsConfig { server, tls, token: None })), "test"))
}

/// Waits until the server answers for its namespaces.
pub async fn ready(dir: &Path) -> Client {
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
