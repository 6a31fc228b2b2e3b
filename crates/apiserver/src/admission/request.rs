//! A request as webhooks and expressions see it.

use super::{Attributes, Operation};
use crate::catalogue::Served;
use crate::convert;
use crate::reviews::user_value;
use crate::scaling;
use std::sync::Arc;
use trireme_schema::{GroupVersion, LabelSelector, Map, Status, StructId, Value, builtin, encode, json};
use trireme_webhooks::admission::Named;

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

/// The other versions of the request's objects that are served.
pub(super) fn equivalents(attributes: &Attributes<'_>) -> Vec<Arc<Served>> {
    let own = &attributes.target.served;
    let shelf = attributes.server.catalogue.now();
    let others = shelf.all().filter(|served| served.topic == own.topic && served.resource.gv != own.resource.gv);
    others.cloned().collect()
}

/// The version and type of what a subresource has in the place of the object, if it is another.
pub(super) fn body_of_subresource(served: &Served, subresource: &str) -> Option<(GroupVersion, StructId)> {
    let of = served.resource.subresources.iter().find(|s| s.name == subresource)?;
    if of.kind == served.kind() {
        return None;
    }
    let gv = of.gv.clone().unwrap_or_else(|| served.resource.gv.clone());
    let id = builtin().kind(&gv, &of.kind)?;
    Some((gv, id))
}

/// An object of the request in the version `wanted`, as it stands in a review; null for none.
pub(super) fn shown(attributes: &Attributes<'_>, wanted: &Served, object: &Value) -> Value {
    let served = &attributes.target.served;
    let subresource = &attributes.target.subresource;
    if object.is_null() {
        return Value::Null;
    }
    if subresource == "scale" {
        let scale = scaling::scale_of(served, object).unwrap_or_default();
        return match body_of_subresource(served, subresource) {
            Some((_, id)) => encode::to_tree(builtin(), id, &scale),
            None => scale,
        };
    }
    if let Some((_, id)) = body_of_subresource(served, subresource) {
        return encode::to_tree(builtin(), id, object);
    }
    if served.resource.gv == wanted.resource.gv {
        return served.tree(object);
    }
    json::parse(&convert::between(served, wanted, object)).unwrap_or_default()
}

/// The kind of what is shown, and its version.
pub(super) fn kind<'a>(attributes: &Attributes<'_>, served: &'a Served) -> (GroupVersion, &'a str) {
    let subresource = &attributes.target.subresource;
    let own = &served.resource.gv;
    match served.resource.subresources.iter().find(|s| s.name == *subresource) {
        Some(of) => (of.gv.as_ref().unwrap_or(own).clone(), &of.kind),
        None => (own.clone(), served.kind()),
    }
}

/// As reviews name it.
pub(super) fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

/// The namespace of a request; a request about a namespace is in it.
pub(super) fn namespace<'a>(attributes: &'a Attributes<'_>) -> &'a str {
    if is_namespace(attributes) { &attributes.target.name } else { &attributes.target.namespace }
}

fn is_namespace(attributes: &Attributes<'_>) -> bool {
    attributes.target.served.group().is_empty() && attributes.target.served.plural() == "namespaces"
}

/// The options of the operation, as a review shows them.
pub(super) fn options(attributes: &Attributes<'_>) -> Value {
    let kind = match attributes.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut options = Map::from_iter([("kind", kind), ("apiVersion", "meta.k8s.io/v1")]);
    if attributes.dry_run {
        options.insert("dryRun", vec!["All"]);
    }
    Value::Object(options)
}

/// The variable `request`: with the kind of the objects that are shown, and the resource in which the request is seen.
pub(super) fn about(attributes: &Attributes<'_>, shown_as: &Served, seen_as: &Served, name: &str) -> Value {
    let target = attributes.target;
    let kind_in = |served: &Served| {
        let (gv, kind) = kind(attributes, served);
        Map::from_iter([("group", gv.group), ("version", gv.version), ("kind", kind.to_owned())])
    };
    let resource = |served: &Served| {
        let named = named(served, &target.subresource);
        Map::from_iter([("group", named.group), ("version", named.version), ("resource", named.resource)])
    };
    let mut about = Map::new();
    about.insert("kind", kind_in(shown_as));
    about.insert("resource", resource(seen_as));
    about.insert("requestKind", kind_in(&target.served));
    about.insert("requestResource", resource(&target.served));
    let texts = [
        ("subResource", target.subresource.as_str()),
        ("requestSubResource", target.subresource.as_str()),
        ("name", name),
        ("namespace", namespace(attributes)),
    ];
    for (field, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        about.insert(field, text);
    }
    about.insert("operation", operation(attributes.operation));
    about.insert("userInfo", user_value(&target.user));
    about.insert("dryRun", attributes.dry_run);
    about.insert("options", options(attributes));
    Value::Object(about)
}

/// Whether one of the objects (the new one or the old) has the labels.
pub(super) fn object_fits(selector: &LabelSelector, object: &Value, old: Option<&Value>) -> bool {
    let labelled = |o: &Value| !o.is_null() && selector.matches(o.at(&["metadata", "labels"]));
    selector.is_empty() || labelled(object) || old.is_some_and(labelled)
}

/// Whether the request's namespace has the labels; what is in no namespace always does.
///
/// # Errors
/// 404: there is no such namespace.
pub(super) fn namespace_fits(
    attributes: &Attributes<'_>,
    selector: &LabelSelector,
    object: &Value,
    old: Option<&Value>,
) -> Result<bool, Status> {
    let target = attributes.target;
    if selector.is_empty() {
        return Ok(true);
    }
    if is_namespace(attributes) {
        let of = if object.is_null() { old.unwrap_or(&Value::Null) } else { object };
        return Ok(selector.matches(of.at(&["metadata", "labels"])));
    }
    if !target.served.resource.namespaced {
        return Ok(true);
    }
    let namespace = attributes.server.read("", "namespaces", "", &target.namespace);
    let namespace = namespace.ok_or_else(|| Status::not_found("", "namespaces", &target.namespace))?;
    Ok(selector.matches(namespace.at(&["metadata", "labels"])))
}
