//! Annotations that were fields before fields were there.

use super::for_each_container;
use crate::core::volume;
use crate::{Errors, Place};
use trireme_schema::{Map, Value};

const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Checks the annotations of a pod or template.
pub(super) fn check(annotations: &Place<'_>, spec: &Place<'_>, errors: &mut Errors) {
    for (key, value) in annotations.value.as_object().into_iter().flat_map(Map::iter) {
        let text = value.as_str().unwrap_or_default();
        let place = annotations.key(key);
        match key.as_str() {
            MIRROR if spec.text("nodeName").is_empty() => {
                errors.invalid_value(&place, text, "must set spec.nodeName if mirror pod annotation is set");
            }
            DELETION_COST if !is_cost(text) => errors.invalid_value(&place, text, "must be a 32bit integer"),
            key if key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER) => {
                let place = annotations.child(key);
                match text.strip_prefix("localhost/") {
                    Some(path) => volume::descending_path(&place, path, errors),
                    None if matches!(text, "runtime/default" | "docker/default" | "unconfined") => {}
                    None => errors.invalid_value(&place, text, "must be a valid seccomp profile"),
                }
            }
            key => {
                if let Some(name) = key.strip_prefix(APP_ARMOR) {
                    app_armor(&place, name, text, spec, errors);
                }
            }
        }
    }
}

/// As Go parses it, without signs and zeros that it would not write.
fn is_cost(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !text.starts_with('+') && (digits == "0" || !digits.starts_with('0')) && text != "-0";
    plain && text.parse::<i32>().is_ok()
}

fn app_armor(place: &Place<'_>, container: &str, profile: &str, spec: &Place<'_>, errors: &mut Errors) {
    let mut known = false;
    for_each_container(spec, |c| known |= c.text("name") == container);
    if !known {
        errors.invalid_value(place, container, "container not found");
    }
    if !matches!(profile, "" | "runtime/default" | "unconfined") && !profile.starts_with("localhost/") {
        let why = format!("invalid AppArmor profile name: {}", trireme_schema::field::quote(profile));
        errors.invalid_value(place, profile, why);
    }
}

/// Annotations and fields must say the same.
pub(super) fn match_fields(annotations: &Place<'_>, spec: &Place<'_>, errors: &mut Errors) {
    let of = |key: &str| annotations.value.get(key).and_then(Value::as_str);
    let pod = spec.child("securityContext");
    if let (Some(profile), Some(text)) = (pod.field("seccompProfile"), of(SECCOMP_POD)) {
        same("seccomp", text, profile.value, &profile, errors);
    }
    let windows = spec.value.str_at(&["os", "name"]) == "windows";
    let default = pod.value.get("appArmorProfile");
    for_each_container(spec, |container| {
        let context = container.child("securityContext");
        let name = container.text("name");
        if let (Some(profile), Some(text)) =
            (context.field("seccompProfile"), of(&format!("{SECCOMP_CONTAINER}{name}")))
        {
            same("seccomp", text, profile.value, &profile, errors);
        }
        let place = context.child("appArmorProfile");
        let profile = context.value.get("appArmorProfile").or(default).filter(|_| !windows);
        if let (Some(profile), Some(text)) = (profile, of(&format!("{APP_ARMOR}{name}"))) {
            same("apparmor", text, profile, &place, errors);
        }
    });
}

fn same(what: &str, annotation: &str, profile: &Value, place: &Place<'_>, errors: &mut Errors) {
    let local = annotation.strip_prefix("localhost/");
    let fits = match profile.str_at(&["type"]) {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => annotation == "runtime/default" || (what == "seccomp" && annotation == "docker/default"),
        "Localhost" => local.is_some(),
        _ => return,
    };
    if !fits {
        errors.forbidden(&place.child("type"), format!("{what} type in annotation and field must match"));
    } else if let Some(path) = local
        && profile.get("localhostProfile").and_then(Value::as_str) != Some(path)
    {
        let why = format!("{what} profile in annotation and field must match");
        errors.forbidden(&place.child("localhostProfile"), why);
    }
}

/// What of a pod's annotations cannot change.
pub(super) fn update(pod: &Place<'_>, errors: &mut Errors) {
    let annotations = pod.child("metadata.annotations");
    let new = annotations.value.as_object();
    let old = annotations.old.and_then(Value::as_object);
    let fixed = |key: &str| match key {
        MIRROR => Some("mirror pod annotation"),
        _ if key.starts_with(APP_ARMOR) => Some("AppArmor annotations"),
        _ => None,
    };
    for (key, value) in old.into_iter().flat_map(Map::iter) {
        if let Some(what) = fixed(key)
            && new.and_then(|m| m.get(key)) != Some(value)
        {
            errors.forbidden(&annotations.key(key), format!("may not remove or update {what}"));
        }
    }
    for key in new.into_iter().flat_map(Map::keys).filter(|key| old.is_none_or(|m| !m.contains_key(key))) {
        if let Some(what) = fixed(key) {
            errors.forbidden(&annotations.key(key), format!("may not add {what}"));
        }
    }
}

/// Whether a pod stands for one that its node runs without the server.
pub(super) fn is_mirror(pod: &Value) -> bool {
    pod.at(&["metadata", "annotations", MIRROR]).is_some()
}
