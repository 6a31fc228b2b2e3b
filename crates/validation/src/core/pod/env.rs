//! Environment variables, and what of the pod they and files of the downward API may show.

use crate::{Errors, Place};
use trireme_schema::{Value, names};

const VARIABLES: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const FILES: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// An environment variable's source.
pub(super) fn variable(variable: &Place<'_>, errors: &mut Errors) {
    let Some(from) = variable.field("valueFrom") else { return };
    let mut sources = 0;
    if let Some(field) = from.field("fieldRef") {
        sources += 1;
        field_selector(&field, &VARIABLES, errors);
    }
    if let Some(resource) = from.field("resourceFieldRef") {
        sources += 1;
        resource_selector(&resource, false, errors);
    }
    if let Some(file) = from.field("fileKeyRef") {
        sources += 1;
        file_selector(&file, errors);
    }
    sources += ["configMapKeyRef", "secretKeyRef"].into_iter().filter(|f| from.has(f)).count();
    if sources == 0 {
        let why =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.invalid_value(&from, "", why);
    } else if !variable.text("value").is_empty() {
        errors.invalid_value(&from, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errors.invalid_value(&from, "", "may not have more than one field specified at a time");
    }
}

/// Where all variables of a ConfigMap or Secret come from.
pub(super) fn sources(container: &Place<'_>, errors: &mut Errors) {
    for source in container.items("envFrom") {
        match ["configMapRef", "secretRef"].into_iter().filter(|f| source.has(f)).count() {
            0 => {
                let why = "must specify one of: `configMapRef` or `secretRef`";
                errors.invalid_value(&container.child("envFrom"), "", why);
            }
            1 => {}
            _ => {
                let why = "may not have more than one field specified at a time";
                errors.invalid_value(&container.child("envFrom"), "", why);
            }
        }
    }
}

/// KEP-3721: a variable from a file that an init container wrote.
fn file_selector(file: &Place<'_>, errors: &mut Errors) {
    let key = file.child("key");
    match key.str() {
        "" => errors.required(&key, ""),
        text => errors.format(&key, text, names::env_name(text)),
    }
    let volume = file.child("volumeName");
    match volume.str() {
        "" => errors.required(&volume, ""),
        text => errors.format(&volume, text, names::dns1123_label(text)),
    }
    let path = file.child("path");
    match path.str() {
        "" => errors.required(&path, ""),
        _ => crate::core::volume::local_path(&path, errors),
    }
}

/// A field of the pod, in a file.
pub(crate) fn file_field(place: &Place<'_>, errors: &mut Errors) {
    field_selector(place, &FILES, errors);
}

fn field_selector(selector: &Place<'_>, known: &[&str], errors: &mut Errors) {
    let (version, path) = (selector.child("apiVersion"), selector.child("fieldPath"));
    if version.str().is_empty() {
        return errors.required(&version, "");
    }
    if path.str().is_empty() {
        return errors.required(&path, "");
    }
    let subscript = path.str().strip_suffix("']").and_then(|p| p.split_once("['")).filter(|(p, _)| !p.is_empty());
    if let Err(why) = convertible(version.str(), path.str(), subscript) {
        return errors.invalid(&path, format!("error converting fieldPath: {why}"));
    }
    match subscript {
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            errors.format(selector, &key, names::qualified_name(&key));
        }
        Some((_, key)) => errors.format(selector, key, names::qualified_name(key)),
        None => {
            // The old name of a field stands for its new one.
            let name = if path.str() == "spec.host" { "spec.nodeName" } else { path.str() };
            if !known.contains(&name) {
                errors.not_supported(&path, name, known);
            }
        }
    }
}

fn convertible(version: &str, path: &str, subscript: Option<(&str, &str)>) -> Result<(), String> {
    if version != "v1" {
        return Err(format!("unsupported pod version: {version}"));
    }
    match (subscript, path) {
        (Some(("metadata.annotations" | "metadata.labels", _)), _) => Ok(()),
        (Some((path, _)), _) => Err(format!("field label does not support subscript: {path}")),
        (
            None,
            "metadata.annotations"
            | "metadata.labels"
            | "metadata.name"
            | "metadata.namespace"
            | "metadata.uid"
            | "spec.nodeName"
            | "spec.restartPolicy"
            | "spec.serviceAccountName"
            | "spec.schedulerName"
            | "status.phase"
            | "status.hostIP"
            | "status.hostIPs"
            | "status.podIP"
            | "status.podIPs"
            | "spec.host",
        ) => Ok(()),
        (None, other) => Err(format!("field label not supported: {other}")),
    }
}

/// A resource of a container; in a volume the container must be named.
pub(crate) fn resource_selector(selector: &Place<'_>, in_volume: bool, errors: &mut Errors) {
    let resource = selector.text("resource");
    let huge = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if in_volume && selector.text("containerName").is_empty() {
        errors.required(&selector.child("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&selector.child("resource"), "");
    } else if !RESOURCES.contains(&resource) && !huge {
        errors.not_supported(&selector.child("resource"), resource, &RESOURCES);
    }
    let divisor = selector.value.get("divisor").and_then(Value::as_str).unwrap_or("0");
    const SIZES: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let (sizes, what): (&[&str], &str) = match resource.split_once('.').map(|(_, r)| r) {
        Some("cpu") if RESOURCES.contains(&resource) => (&["1m", "1"], "cpu"),
        Some("memory") if RESOURCES.contains(&resource) => (&SIZES, "memory"),
        Some("ephemeral-storage") if RESOURCES.contains(&resource) => (&SIZES, "local ephemeral storage"),
        _ if huge => (&SIZES, "hugepages"),
        _ => return,
    };
    if divisor != "0" && !sizes.contains(&divisor) {
        let listed = if what == "cpu" { "1m and 1".to_owned() } else { sizes.join(", ") };
        let why = format!("only divisor's values {listed} are supported with the {what} resource");
        errors.invalid_value(&selector.child("divisor"), resource, why);
    }
}
