//! Affinity: which nodes and pods a pod wants near.

use crate::{Errors, Place};
use trireme_schema::{Map, Value, names};

/// The terms that a node must match.
pub(super) fn required_terms(selector: &Place<'_>, errors: &mut Errors) {
    for term in selector.items("nodeSelectorTerms") {
        term_of(&term, true, errors);
    }
}

pub(super) fn node(affinity: &Place<'_>, errors: &mut Errors) {
    for preferred in affinity.items("preferredDuringSchedulingIgnoredDuringExecution") {
        weight(&preferred, errors);
        // Label values may be wrong here, since one node is enough to make such a pod run.
        term_of(&preferred.child("preference"), false, errors);
    }
}

pub(super) fn weight(term: &Place<'_>, errors: &mut Errors) {
    let weight = term.int("weight").unwrap_or_default();
    if !(1..=100).contains(&weight) {
        errors.invalid_value(&term.child("weight"), weight, "must be in the range 1-100");
    }
}

fn term_of(term: &Place<'_>, values_too: bool, errors: &mut Errors) {
    const NOT_VALID: &str = "not a valid selector operator";
    for requirement in term.items("matchExpressions") {
        let (operator, values) = (requirement.text("operator"), requirement.child("values"));
        let count = requirement.list("values").len();
        match operator {
            "In" | "NotIn" if count == 0 => {
                errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if count > 0 => {
                errors.forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "Gt" | "Lt" if count != 1 => {
                errors.required(&values, "must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            _ => errors.invalid_value(&requirement.child("operator"), operator, NOT_VALID),
        }
        let key = requirement.text("key");
        errors.format(&requirement.child("key"), key, names::qualified_name(key));
        for value in requirement.items("values").filter(|_| values_too) {
            errors.format(&value, value.str(), names::label_value(value.str()));
        }
    }
    for requirement in term.items("matchFields") {
        match requirement.text("operator") {
            "In" | "NotIn" if requirement.list("values").len() != 1 => {
                let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.required(&requirement.child("values"), why);
            }
            "In" | "NotIn" => {}
            other => errors.invalid_value(&requirement.child("operator"), other, NOT_VALID),
        }
        match requirement.text("key") {
            "metadata.name" => {
                for value in requirement.items("values") {
                    errors.format(&value, value.str(), names::dns1123_subdomain(value.str()));
                }
            }
            other => errors.invalid_value(&requirement.child("key"), other, "not a valid field selector key"),
        }
    }
}

/// A term about other pods; its label selectors are checked by their type.
pub(super) fn pod_term(term: &Place<'_>, errors: &mut Errors) {
    for namespace in term.list("namespaces") {
        let name = namespace.as_str().unwrap_or_default();
        errors.format(&term.child("namespace"), name, names::dns1123_label(name));
    }
    label_keys(term, errors);
    let key = term.child("topologyKey");
    if key.str().is_empty() {
        errors.required(&key, "can not be empty");
    }
    errors.format(&key, key.str(), names::qualified_name(key.str()));
}

/// KEP-3633: keys whose values are taken from the pod itself.
fn label_keys(term: &Place<'_>, errors: &mut Errors) {
    for list in ["matchLabelKeys", "mismatchLabelKeys"] {
        if !term.list(list).is_empty() && !term.has("labelSelector") {
            errors.forbidden(&term.child(list), "must not be specified when labelSelector is not set");
            continue;
        }
        for key in term.items(list) {
            errors.format(&key, key.str(), names::qualified_name(key.str()));
        }
    }
    let selector = term.child("labelSelector");
    let mut known: Vec<&str> =
        selector.map("matchLabels").into_iter().flat_map(Map::keys).map(|k| k.as_str()).collect();
    for expression in selector.list("matchExpressions") {
        let key = expression.str_at(&["key"]);
        let at = term.list("matchLabelKeys").iter().rposition(|k| k.as_str() == Some(key));
        if let Some(i) = at.filter(|_| known.contains(&key)) {
            errors.invalid_value(&term.index(i), key, "exists in both matchLabelKeys and labelSelector");
        }
        known.push(key);
    }
    for key in term.items("matchLabelKeys") {
        if term.list("mismatchLabelKeys").contains(key.value) {
            errors.invalid(&key, "exists in both matchLabelKeys and mismatchLabelKeys");
        }
    }
}

/// Whether terms of a gated pod only got more requirements (KEP-3838).
pub(super) fn mutation(place: &Place<'_>, old: Option<&Value>, new: Option<&Value>, errors: &mut Errors) {
    const REQUIRED: [&str; 2] = ["requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"];
    let terms =
        |v: Option<&Value>| v.and_then(|v| v.at(&REQUIRED)).and_then(Value::as_array).unwrap_or_default().to_vec();
    if old.is_none_or(|v| v.get(REQUIRED[0]).is_none()) {
        return;
    }
    let (old, new_list) = (terms(old), new.and_then(|v| v.at(&REQUIRED)));
    let new = terms(new);
    let required = place.child(REQUIRED[0]);
    let list = required.child(REQUIRED[1]);
    if !old.is_empty() && old.len() != new.len() {
        let shown = crate::internal::show_list("core.v1.NodeSelectorTerm", new_list);
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return errors.invalid_shown(&list, shown, why);
    }
    for (i, (before, after)) in old.iter().zip(&new).enumerate() {
        if !only_additions(before, after) {
            let shown = crate::internal::show("core.v1.NodeSelectorTerm", after);
            errors.invalid_shown(&list.index(i), shown, "only additions are allowed (no mutations or deletions)");
        }
    }
}

fn only_additions(old: &Value, new: &Value) -> bool {
    let lists = ["matchExpressions", "matchFields"];
    if lists.iter().all(|l| old.list_at(&[l]).is_empty()) {
        return lists.iter().all(|l| new.list_at(&[l]).is_empty());
    }
    lists.iter().all(|l| new.list_at(&[l]).starts_with(old.list_at(&[l])))
}
