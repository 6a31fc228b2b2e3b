//! The group `scheduling.k8s.io`.

use crate::rules::Registry;
use crate::{Errors, Place};

/// Classes with higher values are the system's.
const HIGHEST_OF_USERS: i64 = 1_000_000_000;
/// The system's classes and their values.
const OF_THE_SYSTEM: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub(crate) const RULES: &str = include_str!("rules.txt");

pub(crate) fn register(registry: &mut Registry) {
    registry.on_kind("scheduling.v1.PriorityClass", "", class);
}

fn class(class: &Place<'_>, errors: &mut Errors) {
    const POLICIES: [&str; 2] = ["PreemptLowerPriority", "Never"];
    let (value, policy) = (class.child("value"), class.child("preemptionPolicy"));
    if class.old.is_some() {
        if value.is_changed() {
            errors.forbidden(&value, "may not be changed in an update.");
        }
        if policy.is_changed() {
            errors.invalid(&policy, "field is immutable");
        }
        return;
    }
    let name = class.value.str_at(&["metadata", "name"]);
    if name.starts_with("system-") {
        if let Some(why) = foreign(name, class) {
            let meta = class.child("metadata");
            let why =
                format!("priority class names with 'system-' prefix are reserved for system use only. error: {why}");
            errors.forbidden(&meta.child("name"), why);
        }
    } else if class.int("value").is_some_and(|n| n > HIGHEST_OF_USERS) {
        let why = format!("maximum allowed value of a user defined priority is {HIGHEST_OF_USERS}");
        errors.forbidden(&value, why);
    }
    if policy.is_set() {
        match policy.str() {
            "" => errors.required(&policy, ""),
            text if !POLICIES.contains(&text) => errors.not_supported(&policy, text, &POLICIES),
            _ => {}
        }
    }
}

/// Why a class is none of the system's.
fn foreign(name: &str, class: &Place<'_>) -> Option<String> {
    let Some((_, value)) = OF_THE_SYSTEM.iter().find(|(known, _)| *known == name) else {
        return Some(format!("{name} is not a known system priority class"));
    };
    if class.int("value").unwrap_or_default() != *value {
        return Some(format!("value of {name} PriorityClass must be {value}"));
    }
    class.is("globalDefault").then(|| format!("globalDefault of {name} PriorityClass must be false"))
}
