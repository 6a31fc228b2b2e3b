//! Who may approve and sign certificates, and for whom none are made: CertificateApproval, CertificateSigning,
//! CertificateSubjectRestriction, ClusterTrustBundleAttest.

use super::{Attributes, Operation};
use crate::authz::{self, Action};
use base64::Engine as _;
use futures::future::BoxFuture;
use trireme_schema::{Status, Value};
use x509_parser::prelude::FromDer as _;

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";

/// Whether the user has a verb for a signer, by its name or by all of its domain.
async fn may(attributes: &Attributes<'_>, verb: &str, signer: &str) -> bool {
    let all = signer.split_once('/').map(|(domain, _)| format!("{domain}/*")).unwrap_or_default();
    for name in [signer, &all].into_iter().filter(|name| !name.is_empty()) {
        let action = Action {
            verb: verb.into(),
            group: GROUP.into(),
            version: "*".into(),
            resource: "signers".into(),
            name: name.to_owned(),
            ..Action::default()
        };
        if authz::allows(attributes.server, &attributes.target.user, &action).await {
            return true;
        }
    }
    false
}

/// The user must have a verb for a signer; `what` is how the refusal says that.
async fn must(attributes: &Attributes<'_>, object: &Value, verb: &str, signer: &str, what: &str) -> Result<(), Status> {
    if may(attributes, verb, signer).await {
        return Ok(());
    }
    Err(attributes.forbidden(object, &format!("user not permitted to {what} signerName {signer:?}")))
}

/// Who approves must have `approve` for the signer.
pub(super) fn approval<'a>(
    attributes: &'a Attributes<'a>,
    object: &'a Value,
    old: Option<&'a Value>,
) -> BoxFuture<'a, Result<(), Status>> {
    Box::pin(async move {
        if attributes.operation != Operation::Update || !attributes.is(GROUP, REQUESTS, "approval") {
            return Ok(());
        }
        let signer = old.unwrap_or(object).str_at(&["spec", "signerName"]);
        must(attributes, object, "approve", signer, "approve requests with").await
    })
}

/// Who writes a certificate, or that it failed, must have `sign` for the signer.
pub(super) fn signing<'a>(
    attributes: &'a Attributes<'a>,
    object: &'a Value,
    old: Option<&'a Value>,
) -> BoxFuture<'a, Result<(), Status>> {
    Box::pin(async move {
        if attributes.operation != Operation::Update || !attributes.is(GROUP, REQUESTS, "status") {
            return Ok(());
        }
        let Some(old) = old else { return Ok(()) };
        let failed = |o: &Value| o.list_at(&["status", "conditions"]).iter().any(|c| c.str_at(&["type"]) == "Failed");
        if object.at(&["status", "certificate"]) == old.at(&["status", "certificate"]) && failed(object) == failed(old)
        {
            return Ok(());
        }
        let signer = old.str_at(&["spec", "signerName"]);
        must(attributes, object, "sign", signer, "sign requests with").await
    })
}

/// Who publishes a signer's trust anchors must have `attest` for it.
pub(super) fn attest<'a>(
    attributes: &'a Attributes<'a>,
    object: &'a Value,
    _: Option<&'a Value>,
) -> BoxFuture<'a, Result<(), Status>> {
    Box::pin(async move {
        let signer = object.str_at(&["spec", "signerName"]);
        if !attributes.writes() || !attributes.is(GROUP, "clustertrustbundles", "") || signer.is_empty() {
            return Ok(());
        }
        must(attributes, object, "attest", signer, "attest for").await
    })
}

/// The API's own signer makes no members of `system:masters`.
pub(super) fn subject(attributes: &Attributes<'_>, object: &Value, _: Option<&Value>) -> Result<(), Status> {
    const SIGNER: &str = "kubernetes.io/kube-apiserver-client";
    if !attributes.creates(GROUP, REQUESTS) || object.str_at(&["spec", "signerName"]) != SIGNER {
        return Ok(());
    }
    if organizations(object.str_at(&["spec", "request"])).iter().any(|o| o == "system:masters") {
        let why = format!("use of {SIGNER} signer with system:masters group is not allowed");
        return Err(attributes.forbidden(object, &why));
    }
    Ok(())
}

/// The organizations in the subject of a request (base64 of PEM); none when it cannot be read, which validation tells.
fn organizations(request: &str) -> Vec<String> {
    let decode = || {
        let pem = base64::engine::general_purpose::STANDARD.decode(request).ok()?;
        let (_, block) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
        let (_, request) =
            x509_parser::certification_request::X509CertificationRequest::from_der(&block.contents).ok()?;
        let subject = &request.certification_request_info.subject;
        Some(subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect())
    };
    decode().unwrap_or_default()
}
