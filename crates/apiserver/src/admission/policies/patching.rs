//! What a mutating policy wants to change, applied to an object.

use crate::admission::{Attributes, request};
use crate::body::{self, FieldValidation};
use crate::catalogue::Served;
use crate::convert;
use crate::custom::merging::Described;
use crate::managed::group_version_kind;
use crate::patch::json_patch::{self, Broken};
use trireme_merge::{Builtin, List, Place, Repeated, Type as _, combine, validate};
use trireme_policies::Patch;
use trireme_schema::{Status, Value};

/// Why a patch is not applied.
pub(super) enum Failure {
    /// That is for the failure policy to judge.
    Policy(String),
    /// The request fails, whatever the policy says.
    Status(Status),
}

/// The object after a patch of what the policy was shown of it, with its defaults.
pub(super) fn apply(
    attributes: &Attributes<'_>,
    wanted: &Served,
    object: &Value,
    shown: &Value,
    patch: &Patch,
) -> Result<Value, Failure> {
    let target = attributes.target;
    let (tree, validation) = match patch {
        Patch::Operations(operations) => match json_patch::run(operations, shown.clone()) {
            Ok(tree) => (tree, FieldValidation::Strict),
            Err(Broken::Test(_)) => return Ok(object.clone()),
            Err(Broken::Step(why)) => return Err(Failure::Policy(format!("JSON Patch: {why}"))),
        },
        Patch::Configuration(given) => {
            let tree = merged(wanted, &target.subresource, shown, given.clone());
            let tree = tree.map_err(|why| Failure::Policy(format!("error applying patch: {why}")))?;
            (tree, FieldValidation::Ignore)
        }
    };
    if target.subresource == "scale" {
        let mut object = object.clone();
        object.set_at(&["spec", "replicas"], tree.int_at(&["spec", "replicas"]).unwrap_or_default());
        return Ok(object);
    }
    let patched = body::object(wanted, tree, validation);
    let patched = patched.map_err(|status| Failure::Status(Status::internal(plain(wanted, &status.message))))?.value;
    let served = &target.served;
    if served.resource.gv == wanted.resource.gv {
        return Ok(patched);
    }
    Ok(served.read(&convert::between(wanted, served, &patched)))
}

/// The words of a decoder, without those for the writer of a body.
fn plain<'a>(served: &Served, message: &'a str) -> &'a str {
    let before = format!("cannot be handled as a {}: ", served.kind());
    message.split_once(&before).map_or(message, |(_, why)| why)
}

/// A configuration merged into an object as server-side apply does it, but for who owns what.
fn merged(wanted: &Served, subresource: &str, live: &Value, mut given: Value) -> Result<Value, String> {
    for field in ["apiVersion", "kind"] {
        given.set_at(&[field], live.str_at(&[field]));
    }
    let version = wanted.resource.gv.to_string();
    let place = match (request::body_of_subresource(wanted, subresource), &wanted.custom) {
        (Some((_, id)), _) => Some(Described::builtin(Builtin::of(id))),
        (None, Some(custom)) => custom.described(&version),
        (None, None) => Some(Described::builtin(Builtin::of(wanted.id))),
    };
    let place = place.ok_or_else(|| format!("no type of {}", group_version_kind(live)))?;
    validate(place, &given, Repeated::Refused)
        .map_err(|why| format!("failed to convert patch object to typed object: {why}"))?;
    let mut atomics = Vec::new();
    find_atomics(place, &given, "", &mut atomics);
    if !atomics.is_empty() {
        let atomics = atomics.join(", ");
        return Err(format!("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {atomics}"));
    }
    validate(place, live, Repeated::Allowed)
        .map_err(|why| format!("failed to convert original object to typed object: {why}"))?;
    Ok(combine(place, live, &given))
}

/// What would be replaced as a whole, and with it all that the policy does not name.
fn find_atomics(place: Place<Described<'_>>, value: &Value, path: &str, found: &mut Vec<String>) {
    let (is_atomic_map, is_atomic_list) = match &place {
        Place::Typed(ty) => {
            let shape = ty.shape();
            (shape.map == Some(true), shape.list == Some(List::Atomic))
        }
        Place::Atomic => (true, true),
        // Maps of which nothing is known merge, lists do not.
        Place::Deduced => (false, true),
    };
    match value {
        Value::Object(map) => {
            if is_atomic_map {
                found.push(path.to_owned());
            }
            let Place::Typed(ty) = &place else { return };
            for (name, value) in map.iter() {
                if let Some(place) = ty.field(name) {
                    find_atomics(place, value, &format!("{path}.{name}"), found);
                }
            }
        }
        Value::Array(items) => {
            if is_atomic_list {
                found.push(path.to_owned());
            }
            let Place::Typed(ty) = &place else { return };
            let Some(inner) = ty.items() else { return };
            for (i, item) in items.iter().enumerate() {
                find_atomics(inner, item, &format!("{path}[{i}]"), found);
            }
        }
        _ => {}
    }
}
