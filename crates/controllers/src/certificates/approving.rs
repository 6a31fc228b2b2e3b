//! Approves the client certificates of nodes, if the requester may have them.

use std::sync::Arc;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use trireme_client::{Client, Informer, Key};

use super::{KUBELET_CLIENT, condition, new_condition, request};
use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::{Clock, Error};

pub(crate) struct CertificateApproving {
    client: Client,
    requests: Informer<CertificateSigningRequest>,
    clock: Clock,
}

impl CertificateApproving {
    pub(crate) fn new(context: &Context) -> Self {
        Self { client: context.client.clone(), requests: context.informer(), clock: context.clock.clone() }
    }

    /// Whether the requester may have a certificate of this kind approved without asking anybody.
    async fn may(&self, csr: &CertificateSigningRequest, subresource: &str) -> Result<bool, Error> {
        let attributes = ResourceAttributes {
            group: Some("certificates.k8s.io".to_owned()),
            resource: Some("certificatesigningrequests".to_owned()),
            verb: Some("create".to_owned()),
            subresource: Some(subresource.to_owned()),
            version: Some("*".to_owned()),
            ..ResourceAttributes::default()
        };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: csr.spec.username.clone(),
                uid: csr.spec.uid.clone(),
                groups: csr.spec.groups.clone(),
                extra: csr.spec.extra.clone(),
                resource_attributes: Some(attributes),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = self.client.all::<SubjectAccessReview>().create(&review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

impl Controller for CertificateApproving {
    const NAME: &'static str = "certificatesigningrequest-approving-controller";

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.requests);
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.requests.find(key) else { return Ok(Requeue::Never) };
        let mut csr = entry.decode()?;
        let decided = condition(&csr, "Approved").is_some() || condition(&csr, "Denied").is_some();
        if csr.spec.signer_name != KUBELET_CLIENT || super::certificate(&csr).is_some() || decided {
            return Ok(Requeue::Never);
        }
        let Ok(names) = request::names(&csr.spec.request.0) else { return Ok(Requeue::Never) };
        if request::check(&csr.spec, &names).is_err() {
            return Ok(Requeue::Never);
        }
        // A node may renew its own certificate; a bootstrapping one may ask for that of any node.
        let own = csr.spec.username.as_ref() == Some(&names.common_name);
        let allowed = own && self.may(&csr, "selfnodeclient").await? || self.may(&csr, "nodeclient").await?;
        if !allowed {
            return Ok(Requeue::Never);
        }
        let message = "Auto approving kubelet client certificate after SubjectAccessReview.";
        let approved = new_condition("Approved", "AutoApproved", message, self.clock.now());
        csr.status.get_or_insert_default().conditions.get_or_insert_default().push(approved);
        self.client.all::<CertificateSigningRequest>().put(&key.name, Some("approval"), &csr).await?;
        Ok(Requeue::Never)
    }
}
