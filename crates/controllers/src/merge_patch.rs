//! JSON merge patches (RFC 7386) from two states of an object: what did not change is not written, so that writers of
//! other fields are not disturbed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::{Map, Value, json};
use trireme_client::Patch;

use crate::Error;

/// The merge patch that turns `old` into `new`; `None` when they are the same.
pub(crate) fn diff(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut patch = Map::new();
            for key in old.keys().filter(|key| !new.contains_key(*key)) {
                patch.insert(key.clone(), Value::Null);
            }
            for (key, value) in new {
                match old.get(key) {
                    None => drop(patch.insert(key.clone(), value.clone())),
                    Some(old) => drop(diff(old, value).map(|change| patch.insert(key.clone(), change))),
                }
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        (old, new) => (old != new).then(|| new.clone()),
    }
}

/// A patch of an object's status, if the status changed. It holds only for the revision that was looked at: conditions
/// that were derived from an older state must not replace newer ones.
pub(crate) fn status<S: Serialize>(of: &ObjectMeta, old: &S, new: &S) -> Result<Option<Patch>, Error> {
    let metadata = json!({ "uid": of.uid, "resourceVersion": of.resource_version });
    let (old, new) = (value(old)?, value(new)?);
    if same(&old, &new) {
        return Ok(None);
    }
    Ok(diff(&old, &new).map(|change| Patch::Merge(json!({ "metadata": metadata, "status": change }))))
}

/// Whether two statuses say the same. The server leaves out what is zero or empty, so that and nothing are the same.
fn same(old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let both = old.iter().all(|(key, value)| same(value, new.get(key).unwrap_or(&Value::Null)));
            both && new.iter().all(|(key, value)| old.contains_key(key) || is_zero(value))
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            old.iter().zip(new).all(|(old, new)| same(old, new))
        }
        (old, new) => old == new || is_zero(old) && is_zero(new),
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_zero),
        Value::Bool(true) => false,
    }
}

/// A patch of a whole object, if it changed; it holds only for the revision that `old` has.
pub(crate) fn object<T: Serialize>(old: &T, new: &T) -> Result<Option<Patch>, Error> {
    let old = value(old)?;
    let Some(mut change) = diff(&old, &value(new)?) else { return Ok(None) };
    let revision = old.pointer("/metadata/resourceVersion").cloned().unwrap_or(Value::Null);
    if let Some(fields) = change.as_object_mut() {
        let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("resourceVersion".to_owned(), revision);
        }
    }
    Ok(Some(Patch::Merge(change)))
}

/// A value as JSON.
pub(crate) fn value<T: Serialize>(of: &T) -> Result<Value, Error> {
    serde_json::to_value(of).map_err(|source| Error::Encode { what: std::any::type_name::<T>(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_in_the_patch() {
        for (old, new, patch) in [
            (json!({"a": 1, "b": {"c": 1}}), json!({"a": 1, "b": {"c": 1}}), None),
            (json!({"a": 1, "b": 2}), json!({"a": 3}), Some(json!({"a": 3, "b": null}))),
            (json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": 1, "c": 3}}), Some(json!({"a": {"c": 3}}))),
            (json!({"a": [1]}), json!({"a": [1, 2]}), Some(json!({"a": [1, 2]}))),
        ] {
            assert_eq!(diff(&old, &new), patch);
        }
    }

    #[test]
    fn what_the_server_leaves_out_is_no_change() {
        let metadata = ObjectMeta::default();
        let changed = |old: Value, new: Value| status(&metadata, &old, &new).unwrap().is_some();
        assert!(!changed(json!({"replicas": 0}), json!({"replicas": 0, "ready": 0, "uncounted": {}})));
        assert!(!changed(json!({"c": [{"type": "a"}]}), json!({"c": [{"type": "a", "message": ""}]})));
        assert!(changed(json!({"ready": 1}), json!({"ready": 0})));
        assert!(changed(json!({"ready": 1}), json!({})));
        assert!(changed(json!({"c": [{"type": "a"}]}), json!({"c": [{"type": "b"}]})));
    }
}
