//! How pods spread over the cluster.

use crate::{Errors, Place};
use trireme_schema::{Map, names};

pub(super) fn constraint(place: &Place<'_>, errors: &mut Errors) {
    let action = place.text("whenUnsatisfiable");
    if let Some(domains) = place.field("minDomains")
        && action != "DoNotSchedule"
    {
        let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
        errors.invalid(&domains, why);
    }
    if place.list("matchLabelKeys").is_empty() {
        return;
    }
    let selector = place.child("labelSelector");
    if !selector.is_set() {
        errors.forbidden(&place.child("matchLabelKeys"), "must not be specified when labelSelector is not set");
    }
    for key in place.items("matchLabelKeys") {
        errors.format(&key, key.str(), names::qualified_name(key.str()));
        let known = selector.map("matchLabels").into_iter().flat_map(Map::keys).any(|k| k == key.str())
            || selector.list("matchExpressions").iter().any(|e| e.str_at(&["key"]) == key.str());
        if known {
            errors.invalid(&key, "exists in both matchLabelKeys and labelSelector");
        }
    }
}

/// A topology and what to do when it is not spread may come together once.
pub(super) fn repeated(spec: &Place<'_>, errors: &mut Errors) {
    let constraints = spec.list("topologySpreadConstraints");
    let key = |i: usize| {
        let of = |field: &str| constraints[i].str_at(&[field]);
        (of("topologyKey"), of("whenUnsatisfiable"))
    };
    for (i, place) in spec.items("topologySpreadConstraints").enumerate() {
        if (i + 1..constraints.len()).any(|j| key(j) == key(i)) {
            let (topology, action) = key(i);
            errors.duplicate(&place.child("{topologyKey, whenUnsatisfiable}"), format!("{{{topology}, {action}}}"));
        }
    }
}
