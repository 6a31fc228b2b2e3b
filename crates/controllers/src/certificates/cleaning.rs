//! Removes requests that nobody needs any more.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use trireme_client::{Client, DeleteOptions, Informer, Key};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{certificate, condition};
use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::{Clock, Error};

/// Decided requests stay for an hour, undecided ones for a day.
const DECIDED: i64 = 3_600;
const PENDING: i64 = 86_400;

pub(crate) struct CertificateCleaning {
    client: Client,
    requests: Informer<CertificateSigningRequest>,
    clock: Clock,
}

impl CertificateCleaning {
    pub(crate) fn new(context: &Context) -> Self {
        Self { client: context.client.clone(), requests: context.informer(), clock: context.clock.clone() }
    }
}

/// When a request goes.
fn expires(csr: &CertificateSigningRequest) -> Option<i64> {
    let decided = ["Denied", "Failed", "Approved"].into_iter().find_map(|kind| condition(csr, kind));
    let since =
        |time: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| time.map(|time| time.0.as_second());
    let by_age = match decided {
        Some(decided) => since(decided.last_update_time.as_ref()).map(|since| since + DECIDED),
        None => since(csr.metadata.creation_timestamp.as_ref()).map(|since| since + PENDING),
    };
    let by_certificate = certificate(csr).and_then(|pem| {
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
        let (_, certificate) = X509Certificate::from_der(&pem.contents).ok()?;
        Some(certificate.validity().not_after.timestamp())
    });
    [by_age, by_certificate].into_iter().flatten().min()
}

impl Controller for CertificateCleaning {
    const NAME: &'static str = "certificatesigningrequest-cleaner-controller";
    const ACCOUNT: Option<&'static str> = Some("certificate-controller");
    const WORKERS: usize = 1;

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.requests);
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.requests.find(key).filter(|entry| !entry.meta.deleting) else {
            return Ok(Requeue::Never);
        };
        let now: Timestamp = self.clock.now();
        let Some(at) = expires(&entry.decode()?) else { return Ok(Requeue::Never) };
        if at > now.as_second() {
            return Ok(Requeue::seconds(at - now.as_second()));
        }
        let options = DeleteOptions::default().uid(&*entry.meta.uid);
        self.client.all::<CertificateSigningRequest>().delete_if_present(&key.name, &options).await?;
        Ok(Requeue::Never)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_go_after_an_hour_or_a_day() {
        let csr = |conditions: serde_json::Value| -> CertificateSigningRequest {
            serde_json::from_value(json!({
                "metadata": {"name": "a", "creationTimestamp": "1970-01-01T00:00:10Z"},
                "spec": {"request": "", "signerName": "x"}, "status": {"conditions": conditions}
            }))
            .unwrap()
        };
        let decided = |kind: &str| json!([{"type": kind, "status": "True", "lastUpdateTime": "1970-01-01T00:00:20Z"}]);
        assert_eq!(expires(&csr(json!([]))), Some(10 + PENDING));
        assert_eq!(expires(&csr(decided("Approved"))), Some(20 + DECIDED));
        assert_eq!(expires(&csr(decided("Denied"))), Some(20 + DECIDED));
    }
}
