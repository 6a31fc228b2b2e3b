//! The group `node.k8s.io`.

use crate::core::pod;
use crate::rules::Registry;
use crate::{Errors, Place, internal};
use trireme_schema::Value;

pub(crate) const RULES: &str = include_str!("rules.txt");

pub(crate) fn register(registry: &mut Registry) {
    registry.on_type("node.v1.RuntimeClass", class);
}

fn class(class: &Place<'_>, errors: &mut Errors) {
    let overhead = class.child("overhead");
    let fixed = overhead.child("podFixed");
    if fixed.is_set() {
        pod::overhead(&overhead.with(fixed.value), errors);
    }
    if let Some(scheduling) = class.field("scheduling") {
        let tolerations = scheduling.list("tolerations");
        for (i, place) in scheduling.items("tolerations").enumerate() {
            if tolerations[..i].iter().any(|other| matches(other, place.value)) {
                errors.duplicate_shown(&place, internal::show("core.v1.Toleration", place.value));
            }
        }
    }
}

/// Whether two tolerations are about the same taints (core `MatchToleration`).
fn matches(a: &Value, b: &Value) -> bool {
    ["key", "effect", "operator", "value"].iter().all(|field| a.str_at(&[field]) == b.str_at(&[field]))
}
