//! A request as a webhook sees it.

use super::{Attributes, operation};
use crate::catalogue::Served;
use crate::convert;
use crate::scaling;
use std::sync::Arc;
use trireme_schema::{Value, json};
use trireme_webhooks::admission::{Hook, Named};

/// A resource and subresource.
pub(super) fn named<'a>(served: &'a Served, subresource: &'a str) -> Named<'a> {
    Named {
        group: served.group(),
        version: &served.resource.gv.version,
        resource: served.plural(),
        subresource,
        namespaced: served.resource.namespaced,
    }
}

/// The version of the request's resource in which a webhook wants to see it: that of the request if it has a rule for
/// it, else (`matchPolicy: Equivalent`) another version of the same objects.
pub(super) fn wanted_as(attributes: &Attributes<'_>, hook: &Hook) -> Option<Arc<Served>> {
    let target = attributes.target;
    let wants = |served: &Served| hook.wants(operation(attributes.operation), &named(served, &target.subresource));
    if wants(&target.served) {
        return Some(target.served.clone());
    }
    if !hook.equivalent {
        return None;
    }
    let shelf = attributes.server.catalogue.now();
    shelf.all().find(|served| served.topic == target.served.topic && wants(served)).cloned()
}

/// An object of the request in the version `wanted`, as it stands in a review; null for none.
pub(super) fn shown(attributes: &Attributes<'_>, wanted: &Served, object: &Value) -> Value {
    let served = &attributes.target.served;
    if object.is_null() {
        return Value::Null;
    }
    if attributes.target.subresource == "scale" {
        return scaling::scale_of(served, object).unwrap_or_default();
    }
    let bytes = convert::between(served, wanted, object);
    json::parse(&bytes).unwrap_or_default()
}

/// The kind of what is shown.
pub(super) fn kind<'a>(attributes: &Attributes<'_>, served: &'a Served) -> &'a str {
    let subresource = &attributes.target.subresource;
    let of = served.resource.subresources.iter().find(|s| s.name == *subresource);
    of.map_or(served.kind(), |s| s.kind.as_str())
}
