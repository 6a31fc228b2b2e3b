//! Certificates for a node, by the certificates API.

use crate::Failure;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use serde_json::json;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};
use trireme_client::{Client, Error, Selection, WatchEvent};
use trireme_pki::{Identity, Purpose, Subject, request};

/// A certificate that a node needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To be known by the API server.
    Client,
    /// To be known to the API server when it calls.
    Serving,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Joiner {
    /// The node's name.
    pub name: String,
    /// Its address.
    pub ip: IpAddr,
}

/// The server signs by then.
const PATIENCE: Duration = Duration::from_secs(30);

impl Kind {
    fn signer(self) -> &'static str {
        match self {
            Kind::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Kind::Serving => "kubernetes.io/kubelet-serving",
        }
    }

    fn usages(self) -> [&'static str; 2] {
        match self {
            Kind::Client => ["digital signature", "client auth"],
            Kind::Serving => ["digital signature", "server auth"],
        }
    }

    /// What files of it are named.
    pub fn file(self) -> &'static str {
        match self {
            Kind::Client => "client",
            Kind::Serving => "serving",
        }
    }
}

impl Joiner {
    /// Asks for a certificate and waits for it.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn ask(&self, client: &Client, kind: Kind) -> Result<Identity, Failure> {
        let purpose = match kind {
            Kind::Client => Purpose::Client,
            Kind::Serving => Purpose::Server { names: vec![self.name.clone()], addresses: vec![self.ip] },
        };
        let (pem, key) = request(&Subject::new(&format!("system:node:{}", self.name), &["system:nodes"]), &purpose)?;
        let object = json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"generateName": format!("trireme-{}-", kind.file())},
            "spec": {"signerName": kind.signer(), "usages": kind.usages(), "request": STANDARD.encode(pem)}
        });
        let requests = client.all::<CertificateSigningRequest>();
        let failed = |error: Error| format!("cannot ask for the node's certificate: {error}");
        let made = requests.create(&object).await.map_err(failed)?;
        let name = made.metadata.name.unwrap_or_default();
        let answer = tokio::time::timeout(PATIENCE, answer(client, &name)).await;
        let certificate = answer.map_err(|_| {
            format!("the server has not signed the request {name} within {} s: see kubectl get csr", PATIENCE.as_secs())
        })??;
        Ok(Identity { certificate, key })
    }

    /// Whether a serving certificate is still for this node, and lasts.
    pub fn covers(&self, identity: &Identity) -> bool {
        let purpose = Purpose::Server { names: vec![self.name.clone()], addresses: vec![self.ip] };
        lasts(identity) && identity.covers(&purpose).unwrap_or(false)
    }
}

/// Waits for the certificate, or for the word that there will be none.
async fn answer(client: &Client, name: &str) -> Result<String, Failure> {
    let selection = Selection {
        collection: "/apis/certificates.k8s.io/v1/certificatesigningrequests".into(),
        fields: Some(format!("metadata.name={name}")),
        ..Selection::default()
    };
    loop {
        let mut events = client.watch(selection.clone(), None);
        while let Some(event) = events.next().await {
            let object = match event {
                Ok(WatchEvent::Applied(object)) => object,
                Ok(WatchEvent::Deleted(_)) => return Err(format!("the request {name} was removed").into()),
                Ok(WatchEvent::Bookmark { .. }) => continue,
                Err(error) => return Err(format!("cannot watch the request {name}: {error}").into()),
            };
            let csr: CertificateSigningRequest = serde_json::from_slice(&object)?;
            let status = csr.status.unwrap_or_default();
            if let Some(certificate) = status.certificate.filter(|certificate| !certificate.0.is_empty()) {
                return Ok(String::from_utf8(certificate.0)?);
            }
            let refused = |kind: &str| kind == "Denied" || kind == "Failed";
            if let Some(condition) = status.conditions.iter().flatten().find(|c| refused(&c.type_)) {
                let why = condition.message.as_deref().unwrap_or("no reason given");
                return Err(format!("the server refuses the node's certificate ({}): {why}", condition.type_).into());
            }
        }
    }
}

/// Whether a client certificate is that of this node, and lasts.
pub fn usable(identity: &Identity, name: &str) -> bool {
    lasts(identity) && identity.common_name().ok().flatten().as_deref() == Some(&format!("system:node:{name}"))
}

/// Not within the minute that the next steps may take.
fn lasts(identity: &Identity) -> bool {
    identity.expires().is_ok_and(|end| end > SystemTime::now() + Duration::from_secs(60))
}

/// A failed call, with what to do when the server does not know us.
pub fn explain(error: Error, unknown: &str) -> Failure {
    match error.code() {
        Some(401 | 403) => unknown.into(),
        _ => error.to_string().into(),
    }
}
