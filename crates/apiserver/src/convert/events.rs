//! Events: stored as core/v1, served as events.k8s.io/v1 too (KEP-383).

use super::rename;
use trireme_schema::Value;

/// core/v1 name, events.k8s.io/v1 name.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

pub(super) fn to_core(mut event: Value) -> Value {
    for (core, events) in NAMES {
        rename(&mut event, events, core);
    }
    event
}

pub(super) fn from_core(mut event: Value) -> Value {
    for (core, events) in NAMES {
        rename(&mut event, core, events);
    }
    event
}
