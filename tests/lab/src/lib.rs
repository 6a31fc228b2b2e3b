//! An API server on a directory of its own, and clients of it in the same process.

use rustls::client::ResolvesClientCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use trireme_apiserver::kubelet::{Direct, Kubelets};
use trireme_apiserver::listener::{self, Clients, Tls};
use trireme_apiserver::{AdmissionOptions, AggregationOptions, ApiServer, Config, InProcess, RequestHeaders, User};
use trireme_client::Client;
use trireme_pki::{ClusterPki, Identity, ServingNames, certificates};
use trireme_store::Store;

/// The token by which a request over TLS is the administrator's.
pub const TOKEN: &str = "lab";

/// A server, without controllers and nodes, and what it lives in.
pub struct Lab {
    /// The server.
    pub server: Arc<ApiServer>,
    /// Its store.
    pub store: Store,
    /// Its keys.
    pub pki: ClusterPki,
    _dir: TempDir,
}

impl Lab {
    /// Starts a server below the system's temporary directory.
    ///
    /// # Errors
    /// When files cannot be made or the server does not start.
    pub async fn new() -> Result<Self, Box<dyn Error + Send + Sync>> {
        Self::below(&std::env::temp_dir()).await
    }

    /// Starts a server in a new directory below one that is there.
    ///
    /// # Errors
    /// When files cannot be made or the server does not start.
    pub async fn below(parent: &Path) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Self::start(parent, |_| {}).await
    }

    /// Starts a server that is told something else than usual.
    ///
    /// # Errors
    /// When files cannot be made or the server does not start.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Self::start(&std::env::temp_dir(), change).await
    }

    async fn start(parent: &Path, change: impl FnOnce(&mut Config)) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let dir = tempfile::tempdir_in(parent)?;
        let names = ServingNames { names: vec!["localhost".into()], addresses: vec![[127, 0, 0, 1].into()] };
        let pki = ClusterPki::open(&dir.path().join("pki"), &names)?;
        // Addresses, domain and version of the server that `shared/vectors` was recorded from.
        let mut config = Config {
            service_ranges: vec!["10.96.0.0/16".parse()?],
            advertise_address: [192, 0, 2, 1].into(),
            advertise_port: 16443,
            cluster_domain: "cluster.local".into(),
            version: "v1.36.2".into(),
            client_ca: pki.client_ca.certificate().to_owned(),
            server_ca: pki.server_ca.certificate().to_owned(),
            service_account_key: pki.service_account_key.clone(),
            static_tokens: vec![(TOKEN.into(), admin())],
            authentication: trireme_apiserver::AuthenticationOptions {
                request_headers: Some(RequestHeaders::usual(pki.front_proxy_ca.certificate(), &["front-proxy-client"])),
                ..trireme_apiserver::AuthenticationOptions::default()
            },
            authorization: Arc::default(),
            admission: AdmissionOptions::default(),
            audit: trireme_apiserver::audit::Options::default(),
            aggregation: AggregationOptions { client: Some(shown(&pki.front_proxy)?), ..AggregationOptions::default() },
        };
        change(&mut config);
        let tls = trireme_client::tls_trusting([])?.with_no_client_auth();
        let kubelets = Kubelets::new(Arc::new(Direct), Arc::new(tls));
        let store = Store::open(&dir.path().join("store"))?;
        let server = ApiServer::open(store.clone(), config, kubelets).await?;
        Ok(Self { server, store, pki, _dir: dir })
    }

    /// A client that may do everything.
    pub fn admin(&self) -> Client {
        Client::new(Arc::new(self.transport()), "lab")
    }

    /// How the administrator's requests reach the server.
    pub fn transport(&self) -> InProcess {
        self.server.transport(admin())
    }

    /// Serves TLS until `stop`.
    ///
    /// # Errors
    /// When the keys cannot be used.
    pub async fn serve(
        &self,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let users = certificates(self.pki.client_ca.certificate(), "the client CA")?;
        let headers = self.server.config().authentication.request_headers.as_ref();
        let proxies = headers.map(|h| certificates(&h.client_ca, "the front proxies' CA")).transpose()?;
        let clients = Clients::new(&users, &proxies.unwrap_or_default())?;
        let tls = Tls::new(self.pki.serving.chain()?, self.pki.serving.private_key()?, clients)?;
        listener::serve(self.server.clone(), listener, tls, stop).await;
        Ok(())
    }
}

/// A certificate that is shown to servers.
fn shown(identity: &Identity) -> Result<Arc<dyn ResolvesClientCert>, Box<dyn Error + Send + Sync>> {
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&identity.private_key()?)?;
    Ok(Arc::new(SingleCertAndKey::from(CertifiedKey::new(identity.chain()?, key))))
}

fn admin() -> User {
    User { uid: "oracle-admin-uid".into(), ..User::new("oracle-admin", &["system:masters"]) }
}
