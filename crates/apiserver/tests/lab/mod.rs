//! A server on a directory of its own, and clients of it in the same process.

use std::sync::Arc;
use tempfile::TempDir;
use trireme_apiserver::kubelet::{Direct, Kubelets};
use trireme_apiserver::{ApiServer, Config, User};
use trireme_client::Client;
use trireme_pki::{ClusterPki, ServingNames};
use trireme_store::Store;

/// A server and what it lives in.
pub struct Lab {
    pub server: Arc<ApiServer>,
    _dir: TempDir,
}

impl Lab {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let names = ServingNames { names: vec!["localhost".into()], addresses: Vec::new() };
        let pki = ClusterPki::open(&dir.path().join("pki"), &names).unwrap();
        let config = Config {
            service_ranges: vec!["10.43.0.0/24".parse().unwrap()],
            advertise_address: [127, 0, 0, 1].into(),
            advertise_port: 6443,
            cluster_domain: "cluster.local".into(),
            version: "v1.36.0".into(),
            client_ca: pki.client_ca.certificate().to_owned(),
            server_ca: pki.server_ca.certificate().to_owned(),
            service_account_key: pki.service_account_key.clone(),
            static_tokens: Vec::new(),
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let kubelets = Kubelets::new(Arc::new(Direct), Arc::new(tls));
        let store = Store::open(&dir.path().join("store")).unwrap();
        Self { server: ApiServer::open(store, config, kubelets).await.unwrap(), _dir: dir }
    }

    /// A client that may do everything.
    pub fn admin(&self) -> Client {
        Client::new(Arc::new(self.server.transport(User::new("admin", &["system:masters"]))), "test")
    }
}
