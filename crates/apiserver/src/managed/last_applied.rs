//! From kubectl's own apply to the server's: what kubectl's annotation says it applied, it may take over.

use super::Kind;
use trireme_merge::{Conflict, Set, Versions, compare, fields_of};
use trireme_schema::{Value, json};

/// Who migrates.
pub(super) const MANAGER: &str = "kubectl";

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
const PATH: [&str; 3] = ["metadata", "annotations", ANNOTATION];

/// The annotations of an object may take this many bytes.
const LARGEST: usize = 256 << 10;

/// The conflicts that are left: fields that kubectl applied itself and that still have that value are none.
pub(super) fn others(kind: &Kind<'_>, live: &Value, conflicts: Vec<Conflict>) -> Vec<Conflict> {
    let allowed = allowed(kind, live).unwrap_or_default();
    conflicts.into_iter().filter(|conflict| !allowed.has(&conflict.path)).collect()
}

fn allowed(kind: &Kind<'_>, live: &Value) -> Option<Set> {
    let place = kind.place(&kind.version)?;
    let applied = json::parse(live.str_at(&PATH).as_bytes()).ok().filter(|v| v.as_object().is_some())?;
    let difference = compare(place, &applied, live);
    let own = fields_of(place, &applied);
    Some(own.minus(&difference.modified).minus(&difference.added).minus(&difference.removed))
}

/// Keeps the annotation true, for those who go on with kubectl's own apply.
pub(super) fn keep(object: &mut Value, applied: &Value) {
    if object.str_at(&PATH).is_empty() {
        return;
    }
    let mut applied = applied.clone();
    applied.remove_at(&PATH);
    applied.remove_at(&super::PATH);
    let text = format!("{}\n", json::to_string(&applied));
    object.set_at(&PATH, text);
    let annotations = object.at(&["metadata", "annotations"]).and_then(Value::as_object);
    let size: usize =
        annotations.map_or(0, |map| map.iter().map(|(k, v)| k.len() + v.as_str().unwrap_or_default().len()).sum());
    if size > LARGEST {
        object.remove_at(&PATH);
    }
}
