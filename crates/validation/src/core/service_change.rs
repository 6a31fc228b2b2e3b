//! What a change of a service may do: a second family of addresses may come and go, the first stays.

use super::service::is_headless;
use crate::{Errors, Place};
use trireme_schema::Value;

/// Checks a change of a service.
pub(super) fn check(service: &Place<'_>, old: &Value, errors: &mut Errors) {
    let spec = service.child("spec");
    let kinds = [old.str_at(&["spec", "type"]), spec.text("type")];
    if kinds == ["LoadBalancer"; 2] && spec.child("loadBalancerClass").is_changed() {
        errors.invalid(&spec.child("loadBalancerClass"), "may not change once set");
    }
    let checked = |s: &Value| {
        s.str_at(&["spec", "type"]) == "LoadBalancer" && s.str_at(&["spec", "externalTrafficPolicy"]) == "Local"
    };
    if checked(old) && checked(service.value) && spec.child("healthCheckNodePort").is_changed() {
        errors.forbidden(&spec.child("healthCheckNodePort"), "field is immutable");
    }
    if kinds.contains(&"ExternalName") {
        return;
    }
    let headless = [is_headless(old), is_headless(service.value)];
    if headless != [true, true] {
        second(&spec, "clusterIPs", "clusterIP", errors);
    }
    if headless == [false, false] {
        second(&spec, "ipFamilies", "ipFamily", errors);
    }
}

fn second(spec: &Place<'_>, list: &str, one: &str, errors: &mut Errors) {
    const CHANGED: &str = "may not change once set";
    let place = spec.child(list);
    let before = spec.old.map(|o| o.list_at(&[list])).unwrap_or_default();
    let after = spec.list(list);
    let all = place.value.clone();
    if before.len() == after.len() {
        for (i, (old, new)) in before.iter().zip(after).enumerate() {
            if old != new {
                // The place of a changed family is always the first.
                let at = if list == "ipFamilies" { 0 } else { i };
                errors.invalid_value(&place.index(at), all.clone(), CHANGED);
            }
        }
        return;
    }
    if after.is_empty() {
        errors.invalid_value(&place.index(0), all.clone(), format!("primary {one} can not be unset"));
    }
    if let (Some(old), Some(new)) = (before.first(), after.first())
        && old != new
    {
        errors.invalid_value(&place.index(0), all, CHANGED);
    }
    if before.len() > after.len() && after.len() == 1 && spec.text("ipFamilyPolicy") != "SingleStack" {
        let why = format!("must be set to 'SingleStack' when releasing the secondary {one}");
        errors.invalid(&spec.child("ipFamilyPolicy"), why);
    }
}
