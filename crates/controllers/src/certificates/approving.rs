//! Approves the certificates of nodes, if the requester may have them.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;
use trireme_client::{Client, Informer, Key};

use super::{KUBELET_CLIENT, KUBELET_SERVING, condition, new_condition, request};
use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::{Clock, Error};

pub(crate) struct CertificateApproving {
    client: Client,
    requests: Informer<CertificateSigningRequest>,
    nodes: Informer<Node>,
    server_names: BTreeSet<String>,
    clock: Clock,
}

impl CertificateApproving {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            requests: context.informer(),
            nodes: context.informer(),
            server_names: context.options.server_names.clone(),
            clock: context.clock.clone(),
        }
    }

    /// The addresses that nodes other than that of the user report.
    fn addresses_of_others(&self, user: &str) -> BTreeSet<String> {
        let others = self.nodes.list();
        let others = others.iter().filter(|node| user.strip_prefix("system:node:") != Some(&*node.meta.key.name));
        let statuses = others.filter_map(|node| node.decode().ok()?.status);
        statuses.flat_map(|status| status.addresses.unwrap_or_default()).map(|address| address.address).collect()
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
    const ACCOUNT: Option<&'static str> = Some("certificate-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.requests);
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.requests.find(key) else { return Ok(Requeue::Never) };
        let mut csr = entry.decode()?;
        let decided = condition(&csr, "Approved").is_some() || condition(&csr, "Denied").is_some();
        let signer = csr.spec.signer_name.as_str();
        let ours = signer == KUBELET_CLIENT || signer == KUBELET_SERVING;
        if !ours || super::certificate(&csr).is_some() || decided {
            return Ok(Requeue::Never);
        }
        let Ok(names) = request::names(&csr.spec.request.0) else { return Ok(Requeue::Never) };
        if request::check(&csr.spec, &names).is_err() {
            return Ok(Requeue::Never);
        }
        // A node may renew its own certificate; a bootstrapping one may ask for that of any node.
        let own = csr.spec.username.as_ref() == Some(&names.common_name);
        let serving = csr.spec.signer_name == KUBELET_SERVING;
        let allowed = if serving {
            // Of the requester, as `check` has seen.
            request::serves_itself(&names, &self.server_names, &self.addresses_of_others(&names.common_name))
        } else {
            own && self.may(&csr, "selfnodeclient").await? || self.may(&csr, "nodeclient").await?
        };
        if !allowed {
            return Ok(Requeue::Never);
        }
        let message = if serving {
            "Auto approving kubelet serving certificate for the node's own name and addresses."
        } else {
            "Auto approving kubelet client certificate after SubjectAccessReview."
        };
        let approved = new_condition("Approved", "AutoApproved", message, self.clock.now());
        csr.status.get_or_insert_default().conditions.get_or_insert_default().push(approved);
        self.client.all::<CertificateSigningRequest>().put(&key.name, Some("approval"), &csr).await?;
        Ok(Requeue::Never)
    }
}
