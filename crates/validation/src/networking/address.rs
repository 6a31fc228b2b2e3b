//! Addresses of services, and the ranges that they come from.

use crate::rules::Registry;
use crate::{Errors, Place, formats, internal};
use trireme_schema::{Value, names};

pub(super) fn register(registry: &mut Registry) {
    registry.on_type("networking.v1.IPAddressSpec", address);
    registry.on_type("networking.v1.ServiceCIDRSpec", ranges);
}

fn address(spec: &Place<'_>, errors: &mut Errors) {
    let parent = spec.child("parentRef");
    if !parent.is_set() {
        errors.required(&parent, "");
    }
    for (field, format) in [("group", names::dns1123_subdomain as formats::Format), ("namespace", names::path_segment)]
    {
        let text = parent.text(field);
        if !text.is_empty() {
            errors.format(&parent.child(field), text, format(text));
        }
    }
    if spec.old.is_some() && parent.is_changed() {
        errors.invalid_internal(&parent, "networking.v1.ParentReference", "field is immutable");
    }
}

fn ranges(spec: &Place<'_>, errors: &mut Errors) {
    let Some(old) = spec.old else { return whole(spec, errors) };
    let place = spec.child("cidrs");
    let (old, new) = (old.list_at(&["cidrs"]), spec.list("cidrs"));
    let second_added = old.len() == 1 && new.len() == 2;
    if old.len() != new.len() && !second_added {
        errors.invalid(&place, "field is immutable");
        return;
    }
    for (i, range) in spec.items("cidrs").enumerate().take(old.len()) {
        if old.get(i) != Some(range.value) {
            errors.invalid(&range, "field is immutable");
        }
    }
    if second_added {
        whole(spec, errors);
    }
}

fn whole(spec: &Place<'_>, errors: &mut Errors) {
    let place = spec.child("cidrs");
    let texts: Vec<&str> = spec.list("cidrs").iter().filter_map(Value::as_str).collect();
    match texts.len() {
        0 => return errors.required(&place, "at least one CIDR required"),
        1 | 2 => {}
        _ => {
            let shown = internal::show("networking.v1.ServiceCIDRSpec", spec.value);
            return errors.invalid_shown(&place, shown, "may only hold up to 2 values");
        }
    }
    for range in spec.items("cidrs") {
        errors.format(&range, range.str(), formats::canonical_cidr(range.str()));
    }
    let families: Vec<bool> = texts.iter().filter_map(|t| Some(formats::parse_cidr(t)?.0.is_ipv4())).collect();
    if matches!(families[..], [a, b] if a == b) {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.invalid(&place, why);
    }
}
