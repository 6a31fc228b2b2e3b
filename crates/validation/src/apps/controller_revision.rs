//! Controller revisions: states of daemon sets and stateful sets that are kept.

use crate::rules::Registry;
use crate::{Errors, Place};
use trireme_schema::Value;

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("apps.v1.ControllerRevision", "", check);
}

fn check(revision: &Place<'_>, errors: &mut Errors) {
    let data = revision.child("data");
    match data.value {
        Value::Object(_) => {}
        _ if revision.old.is_some() => {}
        Value::Null => errors.required(&data, "data is mandatory"),
        _ => errors.required(&data, "data must be a valid JSON object"),
    }
    if revision.old.is_some() && data.is_changed() {
        errors.invalid(&data, "field is immutable");
    }
}
