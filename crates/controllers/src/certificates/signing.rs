//! Signs what has been approved.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use serde_json::json;
use trireme_client::{Client, Informer, Key, Patch};
use trireme_pki::Authority;

use super::{API_CLIENT, KUBELET_CLIENT, KUBELET_SERVING, condition, new_condition, request};
use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::{Clock, Error, Options};

pub(crate) struct CertificateSigning {
    client: Client,
    requests: Informer<CertificateSigningRequest>,
    for_clients: Option<Arc<Authority>>,
    for_servers: Option<Arc<Authority>>,
    life: Duration,
    clock: Clock,
}

impl CertificateSigning {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            requests: context.informer(),
            for_clients: context.options.client_signer.clone(),
            for_servers: context.options.serving_signer.clone(),
            life: context.options.certificate_life,
            clock: context.clock.clone(),
        }
    }

    fn authority(&self, signer: &str) -> Option<&Authority> {
        match signer {
            API_CLIENT | KUBELET_CLIENT => self.for_clients.as_deref(),
            KUBELET_SERVING => self.for_servers.as_deref(),
            _ => None,
        }
    }

    /// What becomes of a request: its certificate, or why there is none.
    fn sign(&self, csr: &CertificateSigningRequest, authority: &Authority) -> Result<String, String> {
        let names = request::names(&csr.spec.request.0).map_err(|error| error.to_string())?;
        let usages = request::check(&csr.spec, &names).map_err(|error| error.to_string())?;
        let pem = std::str::from_utf8(&csr.spec.request.0).map_err(|error| error.to_string())?;
        // The API allows no life below ten minutes; above ours, ours counts.
        let asked = csr.spec.expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let life = asked.map_or(self.life, |seconds| Duration::from_secs(seconds.max(600)).min(self.life));
        authority.sign(pem, &usages, life).map_err(|error| error.to_string())
    }
}

impl Controller for CertificateSigning {
    const NAME: &'static str = "certificatesigningrequest-signing-controller";
    const ACCOUNT: Option<&'static str> = Some("certificate-controller");

    fn enabled(options: &Options) -> bool {
        options.client_signer.is_some() || options.serving_signer.is_some()
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.requests);
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.requests.find(key) else { return Ok(Requeue::Never) };
        let csr = entry.decode()?;
        let approved = condition(&csr, "Approved").is_some() && condition(&csr, "Denied").is_none();
        if !approved || super::certificate(&csr).is_some() || condition(&csr, "Failed").is_some() {
            return Ok(Requeue::Never);
        }
        let Some(authority) = self.authority(&csr.spec.signer_name) else { return Ok(Requeue::Never) };
        let status = match self.sign(&csr, authority) {
            Ok(pem) => json!({"certificate": STANDARD.encode(pem)}),
            Err(reason) => {
                let failed = new_condition("Failed", "SignerValidationFailure", &reason, self.clock.now());
                let mut conditions = csr.status.clone().and_then(|status| status.conditions).unwrap_or_default();
                conditions.push(failed);
                json!({"conditions": conditions})
            }
        };
        let metadata = json!({"uid": csr.metadata.uid, "resourceVersion": csr.metadata.resource_version});
        let patch = Patch::Merge(json!({"metadata": metadata, "status": status}));
        self.client.all::<CertificateSigningRequest>().patch(&key.name, Some("status"), &patch).await?;
        Ok(Requeue::Never)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::run;
    use crate::fake_api::{FakeApi, clock_at, eventually};
    use trireme_pki::{Purpose, Subject, request};

    #[tokio::test(start_paused = true)]
    async fn approved_requests_are_signed_and_bad_ones_fail() {
        let api = FakeApi::default();
        let options =
            Options { client_signer: Some(Arc::new(Authority::create("test-ca").unwrap())), ..Options::default() };
        let context = api.context(options, clock_at("2026-01-01T00:00:00Z"));
        tokio::spawn(run(CertificateSigning::new(&context), context.shutdown.clone()));
        let make = |name: &str, groups: &[&str], kind: &str| {
            let (pem, _) = request(&Subject::new("jane", groups), &Purpose::Client).unwrap();
            api.put::<CertificateSigningRequest>(json!({
                "metadata": {"name": name},
                "spec": {"signerName": API_CLIENT, "usages": ["client auth"], "request": STANDARD.encode(pem)},
                "status": {"conditions": [{"type": kind, "status": "True"}]}
            }));
        };
        make("good", &["dev"], "Approved");
        make("bad", &["system:masters"], "Approved");
        make("denied", &["dev"], "Denied");
        let get = |name: &str| api.get::<CertificateSigningRequest>("", name).unwrap();
        eventually("the certificate", || super::super::certificate(&get("good")).is_some()).await;
        eventually("the failure", || condition(&get("bad"), "Failed").is_some()).await;
        assert!(super::super::certificate(&get("denied")).is_none());
        context.shutdown.cancel();
    }
}
