//! Addresses of services, and the ranges that they come from.

use crate::rules::Registry;
use crate::{Errors, Place, formats};
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
    let place = spec.child("cidrs");
    if spec.old.is_some() {
        if place.is_changed() {
            errors.invalid(&place, "field is immutable");
        }
        return;
    }
    let texts: Vec<&str> = spec.list("cidrs").iter().filter_map(Value::as_str).collect();
    match texts[..] {
        [] => errors.required(&place, "at least one CIDR required"),
        [_] => each(spec, errors),
        [a, b] => match (formats::parse_cidr(a), formats::parse_cidr(b)) {
            (Some((a, _)), Some((b, _))) if a.is_ipv4() != b.is_ipv4() => each(spec, errors),
            _ => {
                let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96";
                errors.invalid(&place, why);
            }
        },
        _ => errors.invalid(&place, "may only hold up to 2 values"),
    }
}

fn each(spec: &Place<'_>, errors: &mut Errors) {
    for range in spec.items("cidrs") {
        errors.format(&range, range.str(), formats::canonical_cidr(range.str()));
    }
}
