//! What pods may mount.

use crate::evaluate::Violation;
use crate::pod::{Named, Pod, Values, plural, quoted};
use trireme_schema::Value;

/// Nothing of the host's files.
pub(crate) fn host_path(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    let of_host = pod.volumes().iter().filter(|v| v.get("hostPath").is_some());
    let bad = Named::volumes(of_host.map(|v| v.str_at(&["name"]).to_owned()).collect());
    (!bad.is_empty()).then(|| Violation { reason: "hostPath volumes", detail: bad.to_string() })
}

/// Sources that every pod may have.
const FINE: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// Only sources that are made for pods.
pub(crate) fn restricted(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    let is_fine = |v: &&Value| FINE.iter().any(|source| v.get(source).is_some());
    let bad: Vec<&Value> = pod.volumes().iter().filter(|v| !is_fine(v)).collect();
    let source = |v: &&Value| {
        let keys = v.as_object().into_iter().flat_map(|m| m.keys());
        keys.map(|k| k.as_str()).find(|k| *k != "name").unwrap_or("unknown").to_owned()
    };
    let types: Values = bad.iter().map(source).collect();
    let named = Named::volumes(bad.iter().map(|v| v.str_at(&["name"]).to_owned()).collect());
    let what = plural(types.len(), "restricted volume type", "restricted volume types");
    let detail = || format!("{named} {} {what} {}", named.uses(), quoted(&types));
    (!named.is_empty()).then(|| Violation { reason: "restricted volume types", detail: detail() })
}
