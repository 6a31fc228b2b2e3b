//! An API server in this process, with its listener.

use crate::Failure;
use crate::cluster::https;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use trireme_apiserver::kubelet::{Direct, Kubelets};
use trireme_apiserver::listener::{self, Clients, Tls};
use trireme_apiserver::{AdmissionOptions, ApiServer, Config, User};
use trireme_client::{Https, Transport, tls_trusting};
use trireme_pki::{ClusterPki, ServingNames, certificates};
use trireme_store::Store;

pub struct Plane {
    pub server: Arc<ApiServer>,
    pki: ClusterPki,
    port: u16,
    stop: CancellationToken,
}

impl Plane {
    pub async fn start(dir: &Path) -> Result<Self, Failure> {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let names = ServingNames { names: vec!["localhost".into()], addresses: vec![here] };
        let pki = ClusterPki::open(&dir.join("pki"), &names)?;
        let tcp = TcpListener::bind((here, 0)).await?;
        let port = tcp.local_addr()?.port();
        let config = Config {
            service_ranges: vec!["10.71.0.0/16".parse()?],
            advertise_address: here,
            advertise_port: port,
            cluster_domain: "cluster.local".into(),
            version: "v1.36.2".into(),
            client_ca: pki.client_ca.certificate().to_owned(),
            server_ca: pki.server_ca.certificate().to_owned(),
            service_account_key: pki.service_account_key.clone(),
            static_tokens: Vec::new(),
            authorization: std::sync::Arc::default(),
            authentication: trireme_apiserver::AuthenticationOptions::default(),
            admission: AdmissionOptions::default(),
            audit: trireme_apiserver::audit::Options::default(),
            aggregation: trireme_apiserver::AggregationOptions::default(),
        };
        let nobody = tls_trusting([])?.with_no_client_auth();
        let kubelets = Kubelets::new(Arc::new(Direct), Arc::new(nobody));
        let server = ApiServer::open(Store::open(&dir.join("store"))?, config, kubelets).await?;
        let clients = certificates(pki.client_ca.certificate(), "the client CA")?;
        let clients = Clients::new(&clients, &[])?;
        let tls = Tls::new(pki.serving.chain()?, pki.serving.private_key()?, clients)?;
        let stop = CancellationToken::new();
        tokio::spawn(listener::serve(server.clone(), tcp, tls, stop.clone()));
        Ok(Self { server, pki, port, stop })
    }

    /// Calls without a network.
    pub fn in_process(&self) -> Arc<dyn Transport> {
        Arc::new(self.server.transport(User::new("system:admin", &["system:masters"])))
    }

    /// Calls over TLS, on a connection of its own.
    pub fn https(&self) -> Result<Https, Failure> {
        https(&self.pki, self.port)
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
