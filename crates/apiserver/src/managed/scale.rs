//! The owners of a scale: those of its object's `spec.replicas`, under that field's name in a Scale.

use super::{PATH, owners, set_owners, tree, unowned};
use crate::catalogue::Served;
use std::borrow::Cow;
use trireme_merge::{Builtin, Element, Entry, Manager, Managers, Operation, Place, Set, Versions};
use trireme_schema::{Status, StructId, Value, builtin, time};

/// The version of every Scale.
pub(crate) const VERSION: &str = "autoscaling/v1";
/// The type of every Scale.
pub(crate) const TYPE: &str = "autoscaling.v1.Scale";

/// Scales, whose status nobody owns.
struct Scales(StructId, Set);

impl Versions for Scales {
    type Type = Builtin;

    fn place(&self, version: &str) -> Option<Place<Builtin>> {
        (version == VERSION).then(|| Builtin::of(self.0))
    }

    fn convert<'v>(&self, object: &'v Value, from: &str, to: &str) -> Option<Cow<'v, Value>> {
        (from == to).then_some(Cow::Borrowed(object))
    }

    fn ignored(&self, _version: &str) -> &Set {
        &self.1
    }

    fn unowned(&self) -> &Set {
        unowned()
    }
}

fn scales() -> Result<Scales, Status> {
    let id = builtin().type_named(TYPE).ok_or_else(|| Status::internal("no type of scales"))?;
    Ok(Scales(id, Set::default()))
}

/// Where a Scale tells of its replicas.
const REPLICAS: [&str; 2] = ["spec", "replicas"];

/// Where an object tells of its replicas.
fn replicas_of(served: &Served) -> Vec<Element> {
    let custom = served.custom.as_ref().and_then(|custom| custom.scale.as_ref());
    let names = custom.map_or_else(|| REPLICAS.to_vec(), |scale| scale.replicas());
    names.into_iter().map(Element::field).collect()
}

fn set_of(path: &[Element]) -> Set {
    let mut set = Set::default();
    set.insert(path);
    set
}

/// Who owns an object's replicas, as owners of its scale.
fn of_scale(served: &Served, object: &Value) -> Managers {
    let version = served.resource.gv.to_string();
    let (own, replicas) = (owners(object), replicas_of(served));
    let entries = own.iter().filter(|entry| entry.api_version == version && entry.set.has(&replicas));
    let moved = |entry: &Entry| {
        let manager = &entry.manager;
        Entry {
            manager: Manager::new(&manager.name, manager.operation, VERSION, &manager.subresource),
            api_version: VERSION.to_owned(),
            time: entry.time.clone(),
            set: Set::of_fields([&REPLICAS[..]]),
        }
    };
    Managers::from_iter(entries.map(moved))
}

/// Gives an object the owners that its scale has got: who lost the replicas there loses them here.
fn to_object(served: &Served, object: &mut Value, scale: &Managers) {
    let version = served.resource.gv.to_string();
    let (before, replicas) = (owners(object), set_of(&replicas_of(served)));
    let in_scale = Set::of_fields([&REPLICAS[..]]);
    let owns = |entry: &Entry| !entry.set.common(&in_scale).is_empty();
    let here = |manager: &Manager| Manager::new(&manager.name, manager.operation, &version, &manager.subresource);
    let mut entries: Vec<Entry> = Vec::new();
    for entry in before.iter() {
        let mut entry = entry.clone();
        let kept = scale.iter().any(|s| here(&s.manager) == entry.manager && owns(s));
        if entry.api_version == version && !kept {
            entry.set.subtract(&replicas);
        }
        if !entry.set.is_empty() {
            entries.push(entry);
        }
    }
    for entry in scale.iter().filter(|entry| owns(entry)) {
        let manager = here(&entry.manager);
        if !entries.iter().any(|have| have.manager == manager) {
            // Upstream does not know when: its times are those of owners that were there before.
            entries.push(Entry { manager, api_version: version.clone(), time: None, set: replicas.clone() });
        }
    }
    set_owners(object, &Managers::from_iter(entries));
}

/// Notes who changed an object's replicas through its scale.
///
/// # Errors
/// When there is no such type, which would be our fault.
pub(crate) fn written(
    served: &Served,
    object: &mut Value,
    (old, new): (&Value, &Value),
    manager: &str,
) -> Result<(), Status> {
    let mut managers = of_scale(served, object);
    if managers.is_empty() && object.at(&PATH).is_none() {
        return Ok(());
    }
    let scales = scales()?;
    let states = (tree(scales.0, old), tree(scales.0, new));
    let manager = Manager::new(manager, Operation::Update, VERSION, "scale");
    trireme_merge::update(&scales, (&states.0, &states.1), VERSION, &mut managers, manager, &time::now());
    to_object(served, object, &managers);
    Ok(())
}

/// Applies a Scale; gives the scale that comes of it and notes in the object who owns its replicas.
///
/// # Errors
/// As for other objects.
pub(crate) fn apply(
    served: &Served,
    object: &mut Value,
    old: &Value,
    applied: &Value,
    (manager, force): (&str, bool),
) -> Result<Value, Status> {
    let mut managers = of_scale(served, object);
    let scales = scales()?;
    let live = tree(scales.0, old);
    let manager = Manager::new(manager, Operation::Apply, VERSION, "scale");
    let merged = trireme_merge::apply(&scales, (&live, applied), VERSION, &mut managers, manager, force, &time::now())
        .map_err(|failure| super::refused(failure, applied))?;
    to_object(served, object, &managers);
    Ok(merged.unwrap_or(live))
}
