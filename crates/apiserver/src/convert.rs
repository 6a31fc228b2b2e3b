//! Events: one stored object, served as core/v1 and events.k8s.io/v1.

use trireme_schema::{Value, builtin, decode, encode, json};
use trireme_store::Record;

/// core/v1 name, events.k8s.io/v1 name.
const NAMES: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn renamed(mut value: Value, to_core: bool) -> Value {
    let Some(map) = value.as_object_mut() else { return value };
    for (core, events) in NAMES {
        let (from, to) = if to_core { (events, core) } else { (core, events) };
        if let Some(field) = map.remove(from) {
            map.insert(*to, field);
        }
    }
    map.insert("apiVersion", if to_core { "v1" } else { "events.k8s.io/v1" });
    value
}

fn write(name: &str, value: Value) -> Vec<u8> {
    let schema = builtin();
    let Some(id) = schema.type_named(name) else { return json::to_vec(&value) };
    match decode::decode(schema, id, value) {
        // An empty resourceVersion is the hole for the revision; decoding would drop it.
        Ok(decoded) => {
            let mut value = decoded.value;
            if value.at(&["metadata", "resourceVersion"]).is_none() {
                value.set_at(&["metadata", "resourceVersion"], "");
            }
            encode::to_vec(schema, id, &value)
        }
        Err(_) => Vec::new(),
    }
}

/// The stored form of an object.
pub(crate) fn to_stored(value: &Value) -> Vec<u8> {
    write("core.v1.Event", renamed(value.clone(), true))
}

/// The served form of a stored object.
pub(crate) fn from_stored(record: &Record) -> Vec<u8> {
    write("events.v1.Event", renamed(json::parse(&record.value).unwrap_or_default(), false))
}
