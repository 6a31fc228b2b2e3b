//! ConfigMaps and Secrets.

use crate::rules::Registry;
use crate::{Errors, Place, Subject};
use trireme_schema::{Value, names};

/// What the data of one object may hold, in bytes.
const LARGEST: usize = 1 << 20;
const ACCOUNT: &str = "kubernetes.io/service-account.name";

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("core.v1.ConfigMap", "", config_map);
    registry.on_kind("core.v1.Secret", "", secret);
    registry.on_warning("core.v1.Secret", secret_warnings);
}

fn config_map(map: &Place<'_>, errors: &mut Errors) {
    let mut size = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in map.entries(field) {
            errors.format(&value, key, names::config_map_key(key));
            if field == "data" && map.entry("binaryData", key).is_set() {
                errors.invalid_value(&value, key, "duplicate of key present in binaryData");
            }
            size += if field == "data" { value.str().len() } else { bytes(value.value) };
        }
    }
    if size > LARGEST {
        errors.too_long(&map.child(""), LARGEST);
    }
    frozen(map, &["data", "binaryData"], errors);
}

fn secret(secret: &Place<'_>, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in secret.entries("data") {
        errors.format(&value, key, names::config_map_key(key));
        size += bytes(value.value);
    }
    if size > LARGEST {
        errors.too_long(&secret.child("data"), LARGEST);
    }
    let has = |key: &str| secret.entry("data", key).is_set();
    let needed: &[&str] = match secret.text("type") {
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => &["username", "password"],
        _ => &[],
    };
    for key in needed.iter().filter(|key| !has(key)) {
        errors.required(&secret.entry("data", key), "");
    }
    match secret.text("type") {
        "kubernetes.io/service-account-token" => {
            let annotations = secret.child("metadata.annotations");
            if annotations.text(ACCOUNT).is_empty() {
                errors.required(&annotations.key(ACCOUNT), "");
            }
        }
        "kubernetes.io/ssh-auth" if secret.entry("data", "ssh-privatekey").str().is_empty() => {
            errors.required(&secret.entry("data", "ssh-privatekey"), "");
        }
        "kubernetes.io/dockercfg" | "kubernetes.io/dockerconfigjson" => {
            for key in needed.iter().filter(|key| has(key)) {
                if let Err(why) = json_object(secret.entry("data", key).str()) {
                    errors.invalid_value(&secret.entry("data", key), "<secret contents redacted>", why);
                }
            }
        }
        _ => {}
    }
    let kind = secret.child("type");
    if secret.old.is_some() && kind.is_changed() {
        errors.invalid_value(&kind, kind.str(), "field is immutable");
    }
    frozen(secret, &["data"], errors);
}

/// Whether base64 text is a JSON object, in Go's words if not.
fn json_object(text: &str) -> Result<(), String> {
    let bytes = trireme_schema::decode::bytes(text).unwrap_or_default();
    match trireme_schema::json::parse(&bytes) {
        Ok(Value::Object(_) | Value::Null) => Ok(()),
        Ok(other) => {
            let found = other.json_type();
            Err(format!("json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// How many bytes a base64 text stands for.
fn bytes(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    text.len() / 4 * 3 - text.bytes().rev().take(2).filter(|b| *b == b'=').count()
}

/// What is immutable stays immutable, and its data with it.
fn frozen(object: &Place<'_>, fields: &[&str], errors: &mut Errors) {
    const WHY: &str = "field is immutable when `immutable` is set";
    if !object.old.is_some_and(|old| old.bool_at(&["immutable"])) {
        return;
    }
    if !object.is("immutable") {
        errors.forbidden(&object.child("immutable"), WHY);
    }
    for field in fields {
        let place = object.child(field);
        if place.is_changed() {
            errors.forbidden(&place, WHY);
        }
    }
}

/// Upstream tries whether certificate and key go together; what is no PEM can be told without knowing keys.
fn secret_warnings(subject: &Subject<'_>, warnings: &mut Vec<String>) {
    if subject.new.str_at(&["type"]) != "kubernetes.io/tls" {
        return;
    }
    let pem = |key: &str| {
        let text = subject.new.at(&["data", key]).and_then(Value::as_str).unwrap_or_default();
        trireme_schema::decode::bytes(text).is_some_and(|b| b.windows(11).any(|w| w == b"-----BEGIN "))
    };
    if !pem("tls.crt") {
        warnings.push("tls: failed to find any PEM data in certificate input".to_owned());
    } else if !pem("tls.key") {
        warnings.push("tls: failed to find any PEM data in key input".to_owned());
    }
}
