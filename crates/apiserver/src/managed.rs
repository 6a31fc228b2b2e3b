//! Who owns which field: `metadata.managedFields`, kept at every write, and server-side apply (KEP-555).

mod last_applied;
mod reset;
pub(crate) mod scale;

use crate::catalogue::Served;
use crate::convert;
use crate::custom::merging::Described;
use std::borrow::Cow;
use std::sync::LazyLock;
use trireme_merge::{Builtin, Conflict, Failure, Manager, Managers, Operation, Place, Set, Versions};
use trireme_schema::{Cause, Details, Map, Status, StructId, Value, decode, encode, time};

/// Who owns the fields of objects that had no owners when they were first applied to.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

const PATH: [&str; 2] = ["metadata", "managedFields"];

/// A kind, as it is written through one of its (sub)resources.
pub(crate) struct Kind<'a> {
    served: &'a Served,
    subresource: &'a str,
    ignored: Set,
    version: String,
}

impl<'a> Kind<'a> {
    pub fn new(served: &'a Served, subresource: &'a str) -> Self {
        let ignored = reset::fields(served.group(), served.kind(), subresource, served.has_subresource("status"));
        Self { served, subresource, ignored, version: served.resource.gv.to_string() }
    }

    /// An object with the zero values that its JSON has, and without owners.
    fn tree(&self, object: &Value) -> Value {
        let mut tree = self.served.tree(object);
        tree.remove_at(&PATH);
        tree
    }

    fn manager(&self, name: &str, operation: Operation) -> Manager {
        Manager::new(name, operation, &self.version, self.subresource)
    }
}

fn tree(id: StructId, object: &Value) -> Value {
    let mut tree = encode::to_tree(trireme_schema::builtin(), id, object);
    tree.remove_at(&PATH);
    tree
}

/// `metadata` that nobody owns, and what says which kind an object is.
fn unowned() -> &'static Set {
    static UNOWNED: LazyLock<Set> = LazyLock::new(|| {
        const METADATA: [&str; 9] = [
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "clusterName",
            "generation",
            "managedFields",
            "resourceVersion",
        ];
        let mut set = Set::of_fields([&["apiVersion"][..], &["kind"], &["metadata"]]);
        for name in METADATA {
            set.add(&Set::of_fields([&["metadata", name][..]]));
        }
        set
    });
    &UNOWNED
}

impl<'a> Versions for Kind<'a> {
    type Type = Described<'a>;

    fn place(&self, version: &str) -> Option<Place<Described<'a>>> {
        if let Some(custom) = &self.served.custom {
            return custom.described(version);
        }
        if version == self.version {
            return Some(Described::builtin(Builtin::of(self.served.id)));
        }
        let other = convert::other(self.served).filter(|other| other.version == version)?;
        Some(Described::builtin(Builtin::of(other.id)))
    }

    fn convert<'v>(&self, object: &'v Value, from: &str, to: &str) -> Option<Cow<'v, Value>> {
        if from == to {
            return Some(Cow::Borrowed(object));
        }
        if self.served.custom.is_some() {
            let mut object = object.clone();
            object.set_at(&["apiVersion"], to);
            return Some(Cow::Owned(object));
        }
        let other = convert::other(self.served)?;
        let (source, id) = if to == self.version { (other.id, self.served.id) } else { (self.served.id, other.id) };
        let object = decode::decode(self.served.schema(), source, object.clone()).ok()?.value;
        let converted = if (to == self.version) == other.is_stored {
            other.conversion.to_served(object)
        } else {
            other.conversion.to_stored(&object)
        };
        Some(Cow::Owned(tree(id, &converted)))
    }

    fn ignored(&self, _version: &str) -> &Set {
        &self.ignored
    }

    fn unowned(&self) -> &Set {
        unowned()
    }
}

fn owners(object: &Value) -> Managers {
    Managers::read(object.list_at(&PATH)).unwrap_or_default()
}

fn set_owners(object: &mut Value, managers: &Managers) {
    if managers.is_empty() {
        object.remove_at(&PATH);
    } else {
        object.set_at(&PATH, managers.write());
    }
}

/// Keeps in a body that its writer wants all owners forgotten: an empty list says so, and would not outlive decoding.
pub(crate) fn keep_reset(tree: &mut Value) {
    if let Some(Value::Array(list)) = tree.at_mut(&PATH)
        && list.is_empty()
    {
        list.push(Value::object());
    }
}

/// Those that a write gives, if it gives any that make sense; otherwise those that are there. A list of one empty entry
/// forgets all.
fn given_or_live(kind: &Kind<'_>, old: Option<&Value>, new: &Value) -> Managers {
    let live = || old.map(owners).unwrap_or_default();
    if !kind.subresource.is_empty() {
        return live();
    }
    match new.at(&PATH).and_then(Value::as_array) {
        None => live(),
        Some([only]) if only.as_object().is_some_and(Map::is_empty) => Managers::default(),
        Some(given) => match Managers::read(given) {
            Ok(managers) if !managers.is_empty() => managers,
            _ => live(),
        },
    }
}

/// Notes what an update (or creation) changed as its manager's. An empty manager notes nothing.
pub(crate) fn written(kind: &Kind<'_>, old: Option<&Value>, new: &mut Value, manager: &str) {
    if manager.is_empty() {
        return;
    }
    let mut managers = given_or_live(kind, old, new);
    new.remove_at(&PATH);
    // What has no owners when it is changed was told to have none.
    if old.is_some() && managers.is_empty() {
        return;
    }
    let nothing = Value::object();
    let states = (kind.tree(old.unwrap_or(&nothing)), kind.tree(new));
    let manager = kind.manager(manager, Operation::Update);
    trireme_merge::update(kind, (&states.0, &states.1), &kind.version, &mut managers, manager, &time::now());
    set_owners(new, &managers);
}

/// Applies a configuration to an object: merges it, drops what its manager no longer gives, finds who else owns what it
/// changes. Gives back the object as a tree.
///
/// # Errors
/// 400 and 500 for what cannot be applied, 409 with the conflicts, unless `force`.
pub(crate) fn apply(
    kind: &Kind<'_>,
    live: &Value,
    applied: &Value,
    manager: &str,
    force: bool,
) -> Result<Value, Status> {
    if applied.at(&PATH).is_some_and(|given| !given.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let now = time::now();
    let mut managers = owners(live);
    let live = kind.tree(live);
    if managers.is_empty() {
        let first = kind.manager(BEFORE_FIRST_APPLY, Operation::Update);
        let nothing = kind.tree(&Value::object());
        trireme_merge::update(kind, (&nothing, &live), &kind.version, &mut managers, first, &now);
    }
    let who = kind.manager(manager, Operation::Apply);
    let merged = |managers: &mut Managers, force| {
        trireme_merge::apply(kind, (&live, applied), &kind.version, managers, who.clone(), force, &now)
    };
    let before = managers.clone();
    let result = match merged(&mut managers, force) {
        Err(Failure::Conflicts(conflicts)) if manager == last_applied::MANAGER => {
            match last_applied::others(kind, &live, conflicts) {
                none if none.is_empty() => {
                    managers = before;
                    merged(&mut managers, true)
                }
                conflicts => Err(Failure::Conflicts(conflicts)),
            }
        }
        other => other,
    };
    let mut new = result.map_err(|failure| refused(failure, applied))?.unwrap_or(live);
    if manager == last_applied::MANAGER {
        last_applied::keep(&mut new, applied);
    }
    set_owners(&mut new, &managers);
    Ok(new)
}

/// An object as messages about types name it: `namespace/name; group/version, Kind=Kind`.
fn named(object: &Value) -> String {
    let place = |name| object.str_at(&["metadata", name]);
    format!("{}/{}; {}", place("namespace"), place("name"), group_version_kind(object))
}

/// An object's kind in Go's words.
pub(crate) fn group_version_kind(object: &Value) -> String {
    let version = object.str_at(&["apiVersion"]);
    let version = if version.contains('/') { version.to_owned() } else { format!("/{version}") };
    format!("{version}, Kind={}", object.str_at(&["kind"]))
}

fn refused(failure: Failure, applied: &Value) -> Status {
    // Upstream tells these as errors of its own.
    let broken = |message: String| Status::failure(500, "", message);
    match failure {
        Failure::Applied(why) => broken(format!("failed to create typed patch object ({}): {why}", named(applied))),
        Failure::Live(why) => broken(format!("failed to create typed live object ({}): {why}", named(applied))),
        Failure::Conflicts(conflicts) => conflict(&conflicts),
        Failure::Version(version) => Status::bad_request(format!("no version {version} is served")),
    }
}

fn conflict(conflicts: &[Conflict]) -> Status {
    let cause = |conflict: &Conflict| Cause {
        reason: "FieldManagerConflict".into(),
        message: format!("conflict with {}", conflict.owner()),
        field: conflict.shown(),
    };
    let message = match conflicts {
        [only] => format!("Apply failed with 1 conflict: conflict with {}: {}", only.owner(), only.shown()),
        all => {
            let mut lines = Vec::new();
            for (i, conflict) in all.iter().enumerate() {
                if i == 0 || all[i - 1].manager != conflict.manager {
                    lines.push(format!("conflicts with {}:", conflict.owner()));
                }
                lines.push(format!("- {}", conflict.shown()));
            }
            format!("Apply failed with {} conflicts: {}", all.len(), lines.join("\n"))
        }
    };
    let mut status = Status::failure(409, "Conflict", message);
    let causes = conflicts.iter().map(cause).collect();
    status.details = Some(Box::new(Details { causes, ..Details::default() }));
    status
}

/// Whether two states differ in nothing but the times of their managers.
pub(crate) fn same_but_for_times(old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return old == new };
    let same_metadata = |old: &Value, new: &Value| match (old.as_object(), new.as_object()) {
        (Some(old), Some(new)) => same_members(old, new, "managedFields", same_owners),
        _ => old == new,
    };
    same_members(old, new, "metadata", same_metadata)
}

/// Whether two objects are equal but for one member, which is compared in its own way.
fn same_members(old: &Map, new: &Map, name: &str, same: impl Fn(&Value, &Value) -> bool) -> bool {
    old.len() == new.len()
        && old.iter().zip(new.iter()).all(|((a, before), (b, after))| {
            a == b && if a.as_str() == name { same(before, after) } else { before == after }
        })
}

/// Whether two lists hold the same entries but for their times, and for the order that follows from them.
fn same_owners(old: &Value, new: &Value) -> bool {
    let (old, new): (Vec<_>, Vec<_>) = (untimed(old).collect(), untimed(new).collect());
    old.len() == new.len() && old.iter().all(|entry| new.contains(entry))
}

/// The entries of a list without their times.
fn untimed(list: &Value) -> impl Iterator<Item = Vec<(&str, &Value)>> {
    let entries = list.as_array().unwrap_or_default().iter();
    entries.map(|entry| {
        let members = entry.as_object().into_iter().flat_map(Map::iter);
        members.filter(|(name, _)| *name != "time").map(|(name, value)| (name.as_str(), value)).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::value;

    #[test]
    fn times_and_their_order_are_no_difference() {
        let entry = |name: &str, time: &str| value!({"manager": name, "operation": "Apply", "time": time});
        let object = |owners: Vec<Value>, a: &str| {
            let mut object = value!({"metadata": {"name": "x"}, "data": {"a": a}});
            object.set_at(&PATH, owners);
            object
        };
        let old = object(vec![entry("m", "1"), entry("n", "2")], "1");
        assert!(same_but_for_times(&old, &object(vec![entry("n", "2"), entry("m", "3")], "1")));
        assert!(!same_but_for_times(&old, &object(vec![entry("n", "2"), entry("o", "1")], "1")));
        assert!(!same_but_for_times(&old, &object(vec![entry("m", "1")], "1")));
        assert!(!same_but_for_times(&old, &object(vec![entry("m", "1"), entry("n", "2")], "2")));
    }
}
