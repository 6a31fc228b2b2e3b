//! The group `certificates.k8s.io`.

use crate::rules::Registry;
use crate::{Errors, Place, formats};
use std::collections::BTreeSet;
use trireme_schema::{Value, names};

pub(crate) const RULES: &str = include_str!("rules.txt");

/// What keys may be used for, in order.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const LONGEST_SIGNER: usize = 253 + 1 + 253 + 63 + 1;
const FINAL: [&str; 3] = ["Approved", "Denied", "Failed"];

pub(crate) fn register(registry: &mut Registry) {
    let kind = "certificates.v1.CertificateSigningRequest";
    registry.on_kind(kind, "", request);
    registry.on_kind(kind, "approval", approval);
    registry.on_kind(kind, "status", status);
}

fn request(root: &Place<'_>, errors: &mut Errors) {
    // Who asks cannot change what was asked for: an update keeps it.
    if root.old.is_some() {
        return;
    }
    let spec = root.child("spec");
    let request = spec.child("request");
    if let Some(why) = formats::pem_problem(request.str(), &["CERTIFICATE REQUEST"]) {
        errors.invalid(&request, why);
    }
    let usages = spec.child("usages");
    if spec.list("usages").is_empty() {
        errors.required(&usages, "");
    }
    let mut seen = BTreeSet::new();
    for (i, usage) in spec.list("usages").iter().enumerate() {
        let usage = usage.as_str().unwrap_or_default();
        if !USAGES.contains(&usage) {
            errors.not_supported(&usages.index(i), usage, &USAGES);
        }
        if !seen.insert(usage) {
            errors.duplicate(&usages.index(i), usage);
        }
    }
    let signer = spec.child("signerName");
    if signer.str() == "kubernetes.io/legacy-unknown" {
        errors.invalid(&signer, "the legacy signerName is not allowed via this API version");
    } else {
        signer_name(&signer, errors);
    }
    let seconds = spec.child("expirationSeconds");
    if seconds.value.as_int().is_some_and(|n| n < 600) {
        errors.invalid(&seconds, "may not specify a duration less than 600 seconds (10 minutes)");
    }
}

/// A domain and a name, as `example.com/signer`.
pub(crate) fn signer_name(place: &Place<'_>, errors: &mut Errors) {
    let name = place.str();
    if name.is_empty() {
        errors.required(place, "");
        return;
    }
    let parts: Vec<&str> = name.split('/').collect();
    let [domain, path] = parts[..] else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.invalid(place, why);
        return;
    };
    for label in domain.split('.') {
        let wrong = names::dns1123_label(label);
        if !wrong.is_empty() {
            errors.invalid_value(place, domain, format!("validating label {label:?}: {}", wrong.join(", ")));
        }
    }
    if domain.split('.').count() < 2 {
        errors.invalid_value(place, domain, "should be a domain with at least two segments separated by dots");
    }
    for label in path.split('.') {
        let wrong = names::dns1123_subdomain(label);
        if !wrong.is_empty() {
            errors.invalid_value(place, path, format!("validating label {label:?}: {}", wrong.join(", ")));
        }
    }
    if name.len() > LONGEST_SIGNER {
        errors.too_long(place, LONGEST_SIGNER);
    }
}

fn conditions(root: &Place<'_>, errors: &mut Errors) {
    let status = root.child("status");
    let mut seen = BTreeSet::new();
    for condition in status.items("conditions") {
        let (kind, state) = (condition.child("type"), condition.child("status"));
        if kind.str().is_empty() {
            errors.required(&kind, "");
        }
        let states: &[&str] = if FINAL.contains(&kind.str()) { &["True"] } else { &["False", "True", "Unknown"] };
        if state.str().is_empty() {
            errors.required(&state, "");
        } else if !states.contains(&state.str()) {
            errors.not_supported(&state, state.str(), states);
        }
        if !seen.insert(condition.text("type")) {
            errors.duplicate(&kind, kind.str());
        }
    }
    if seen.contains("Approved") && seen.contains("Denied") {
        errors.invalid_value(
            &status.child("conditions"),
            "Denied",
            "Approved and Denied conditions are mutually exclusive",
        );
    }
}

fn approval(root: &Place<'_>, errors: &mut Errors) {
    conditions(root, errors);
    kept(root, &[], errors);
}

fn status(root: &Place<'_>, errors: &mut Errors) {
    conditions(root, errors);
    kept(root, &["Approved", "Denied"], errors);
    let status = root.child("status");
    let certificate = status.child("certificate");
    if certificate.str().is_empty() {
        return;
    }
    let before = root.old.map(|old| old.str_at(&["status", "certificate"])).unwrap_or_default();
    if !before.is_empty() && certificate.is_changed() {
        errors.forbidden(&certificate, "updates may not set certificate content to anything but what it was");
    } else if before.is_empty()
        && let Some(why) = formats::certificates_problem(certificate.str())
    {
        errors.invalid_value(&certificate, "<certificate data>", why);
    }
}

/// Conditions that decide stay, and those named come only by approval.
fn kept(root: &Place<'_>, not_added: &[&str], errors: &mut Errors) {
    let Some(old) = root.old else { return };
    let of = |object: &Value, kind: &str| {
        object.list_at(&["status", "conditions"]).iter().any(|c| c.str_at(&["type"]) == kind)
    };
    let status = root.child("status");
    let place = status.child("conditions");
    for kind in FINAL {
        if of(old, kind) && !of(root.value, kind) {
            errors.forbidden(&place, format!("updates may not remove a condition of type {kind:?}"));
        }
        if not_added.contains(&kind) && !of(old, kind) && of(root.value, kind) {
            errors.forbidden(&place, format!("updates may not add a condition of type {kind:?}"));
        }
    }
}
