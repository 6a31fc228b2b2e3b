//! Volumes made of several sources, and files about the pod.

use super::{descending_path, local_path};
use crate::core::pod;
use crate::{Errors, Place, engine};
use std::collections::HashSet;
use trireme_schema::{Value, names};

/// Files of the downward API; upstream tells them by the volume, without the item.
pub(super) fn downward(volume: &Place<'_>, errors: &mut Errors) {
    for item in volume.list("items") {
        file(&volume.with(item), errors);
    }
}

fn file(file: &Place<'_>, errors: &mut Errors) {
    let path = file.child("path");
    if path.str().is_empty() {
        errors.required(&path, "");
    }
    local_path(&path, errors);
    match (file.field("fieldRef"), file.field("resourceFieldRef")) {
        (Some(field), resource) => {
            pod::file_field(&field, errors);
            if resource.is_some() {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.invalid_value(file, "resource", why);
            }
        }
        (None, Some(resource)) => pod::resource_selector(&resource, true, errors),
        (None, None) => errors.required(file, "one of fieldRef and resourceFieldRef is required"),
    }
    if let Some(mode) = file.field("mode")
        && mode.value.as_int().is_some_and(|n| !(0..=0o777).contains(&n))
    {
        errors.invalid(&mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

pub(super) fn check(volume: &Place<'_>, errors: &mut Errors) {
    let mut paths: HashSet<&str> = HashSet::new();
    for source in volume.items("sources") {
        for field in ["secret", "configMap"] {
            let Some(place) = source.field(field) else { continue };
            let items = source.value.get(field).map(|s| s.list_at(&["items"])).unwrap_or_default();
            if place.text("name").is_empty() {
                errors.required(&place.child("name"), "");
            }
            for (item, value) in place.items("items").zip(items) {
                engine::walk_type("core.v1.KeyToPath", &item, errors);
                let path = value.str_at(&["path"]);
                if !path.is_empty() && !paths.insert(path) {
                    errors.invalid_value(volume, place.text("name"), "conflicting duplicate paths");
                }
            }
        }
        if let Some(place) = source.field("downwardAPI") {
            downward(&place, errors);
            for item in source.value.get("downwardAPI").map(|s| s.list_at(&["items"])).unwrap_or_default() {
                let path = item.str_at(&["path"]);
                if !path.is_empty() && !paths.insert(path) {
                    errors.invalid_value(volume, path, "conflicting duplicate paths");
                }
            }
        }
        if let Some(token) = source.field("serviceAccountToken") {
            service_account_token(volume, &token, errors);
        }
        if let Some(bundle) = source.field("clusterTrustBundle") {
            trust_bundle(&bundle, errors);
            if !paths.insert(source.value.str_at(&["clusterTrustBundle", "path"])) {
                errors.invalid_value(volume, bundle.text("path"), "conflicting duplicate paths");
            }
        }
        let given =
            ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];
        if given.iter().filter(|f| source.has(f)).count() > 1 {
            errors.forbidden(&source, "may not specify more than 1 volume type per source");
        }
    }
}

fn service_account_token(volume: &Place<'_>, token: &Place<'_>, errors: &mut Errors) {
    let seconds = token.int("expirationSeconds").unwrap_or_default();
    let expiry = token.child("expirationSeconds");
    if seconds < 600 {
        errors.invalid_value(&expiry, seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > 1 << 32 {
        errors.invalid_value(&expiry, seconds, "may not specify a duration larger than 2^32 seconds");
    }
    // Upstream tells the path by the volume.
    let path = volume.child("path");
    match token.value.get("path").and_then(Value::as_str) {
        None | Some("") => errors.required(&path, ""),
        Some(text) => {
            descending_path(&path, text, errors);
            if text.starts_with("..") && !text.starts_with("../") {
                errors.invalid_value(&path, text, "must not start with '..'");
            }
        }
    }
}

/// KEP-3257.
fn trust_bundle(bundle: &Place<'_>, errors: &mut Errors) {
    let (name, signer) = (bundle.child("name"), bundle.child("signerName"));
    match (name.is_set(), signer.is_set()) {
        (true, true) => {
            let why = "only one of name and signerName may be used";
            errors.invalid_internal(bundle, "core.v1.ClusterTrustBundleProjection", why);
        }
        (true, false) => {
            if name.str().is_empty() {
                errors.required(&name, "must be a valid object name");
            }
            for why in names::dns1123_subdomain(&name.str().replace(':', ".")) {
                errors.invalid(&name, format!("not a valid clustertrustbundlename: {why}"));
            }
            if let Some(selector) = bundle.field("labelSelector") {
                errors.invalid(&selector, "labelSelector must be unset if name is specified");
            }
        }
        (false, true) => {
            if signer.str().is_empty() {
                errors.required(&signer, "must be a valid signer name");
            }
        }
        (false, false) => errors.required(bundle, "either name or signerName must be specified"),
    }
    let path = bundle.child("path");
    if path.str().is_empty() {
        errors.required(&path, "");
    }
    local_path(&path, errors);
}
