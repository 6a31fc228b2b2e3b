//! Who owns which field: `metadata.managedFields`, kept at every write, and server-side apply (KEP-555).

use crate::catalogue::Served;
use crate::fields::{self, FieldSet};
use trireme_schema::{Cause, Details, ListKind, Map, Status, Type, Value, time};

/// Metadata that nobody owns.
const UNOWNED: [&str; 11] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

fn own(served: &Served, subresource: &str, set: &mut FieldSet) {
    for field in ["apiVersion", "kind"] {
        set.drop_field(field);
    }
    set.drop_metadata(&UNOWNED);
    // Who asks for a certificate is written by the server.
    if served.kind() == "CertificateSigningRequest" {
        set.drop_field("spec");
    }
    match subresource {
        "status" => set.drop_field("spec"),
        "" if served.has_subresource("status") => set.drop_field("status"),
        _ => {}
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Manager {
    name: String,
    operation: String,
    api_version: String,
    subresource: String,
    time: String,
    set: FieldSet,
}

fn read(object: &Value) -> Vec<Manager> {
    let entry = |e: &Value| Manager {
        name: e.str_at(&["manager"]).to_owned(),
        operation: e.str_at(&["operation"]).to_owned(),
        api_version: e.str_at(&["apiVersion"]).to_owned(),
        subresource: e.str_at(&["subresource"]).to_owned(),
        time: e.str_at(&["time"]).to_owned(),
        set: FieldSet::read(e.get("fieldsV1").unwrap_or(&Value::Null)),
    };
    object.list_at(&["metadata", "managedFields"]).iter().map(entry).filter(|m| !m.set.is_empty()).collect()
}

fn write(object: &mut Value, mut managers: Vec<Manager>) {
    managers.retain(|m| !m.set.is_empty());
    managers.sort_by(|a, b| (&a.operation, &a.time, &a.name).cmp(&(&b.operation, &b.time, &b.name)));
    if managers.is_empty() {
        object.remove_at(&["metadata", "managedFields"]);
        return;
    }
    let entry = |m: Manager| {
        let mut map = Map::from_iter([
            ("manager", m.name),
            ("operation", m.operation),
            ("apiVersion", m.api_version),
            ("fieldsType", "FieldsV1".to_owned()),
        ]);
        if !m.time.is_empty() {
            map.insert("time", m.time);
        }
        if !m.subresource.is_empty() {
            map.insert("subresource", m.subresource);
        }
        map.insert("fieldsV1", m.set.write());
        Value::Object(map)
    };
    object.set_at(&["metadata", "managedFields"], Value::Array(managers.into_iter().map(entry).collect()));
}

fn tree(served: &Served, object: &Value) -> Value {
    served.tree(object)
}

/// Notes what an update (or creation) changed as its manager's. An empty manager notes nothing.
pub(crate) fn written(served: &Served, subresource: &str, old: Option<&Value>, new: &mut Value, manager: &str) {
    if manager.is_empty() {
        return;
    }
    let mut managers = match (old, new.at(&["metadata", "managedFields"])) {
        // An explicit empty list forgets everything; leaving it out keeps what is known.
        (Some(_), Some(Value::Array(given))) if given.iter().all(|e| e.as_object().is_none_or(Map::is_empty)) => {
            Vec::new()
        }
        (Some(old), _) => read(old),
        (None, _) => Vec::new(),
    };
    let ty = Type::Struct(served.id);
    let before = tree(served, old.unwrap_or(&Value::object()));
    let mut difference = fields::compare(&ty, &before, &tree(served, new));
    own(served, subresource, &mut difference.changed);
    own(served, subresource, &mut difference.removed);
    for other in &mut managers {
        other.set.subtract(&difference.removed);
        let mine = other.name == manager && other.operation == "Update" && other.subresource == subresource;
        if !mine {
            other.set.subtract(&difference.changed);
        }
    }
    if !difference.changed.is_empty() {
        let api_version = served.resource.gv.to_string();
        let same = |m: &&mut Manager| {
            m.name == manager && m.operation == "Update" && m.subresource == subresource && m.api_version == api_version
        };
        match managers.iter_mut().find(same) {
            Some(entry) => {
                entry.set.add(&difference.changed);
                entry.time = time::now();
            }
            None => managers.push(Manager {
                name: manager.to_owned(),
                operation: "Update".into(),
                api_version,
                subresource: subresource.to_owned(),
                time: time::now(),
                set: difference.changed,
            }),
        }
    }
    write(new, managers);
}

/// Whether two states differ in nothing but the times of their managers.
pub(crate) fn same_but_for_times(old: &Value, new: &Value) -> bool {
    let strip = |value: &Value| {
        let mut value = value.clone();
        value.remove_at(&["metadata", "managedFields"]);
        value
    };
    let managers =
        |value: &Value| read(value).into_iter().map(|m| Manager { time: String::new(), ..m }).collect::<Vec<_>>();
    strip(old) == strip(new) && managers(old) == managers(new)
}

/// Applies a configuration: merges it, drops what its manager no longer gives, finds who else owns what it changes.
///
/// # Errors
/// 409 with the conflicts, unless `force`.
pub(crate) fn apply(
    served: &Served,
    subresource: &str,
    live: &Value,
    applied: &Value,
    manager: &str,
    force: bool,
) -> Result<Value, Status> {
    let ty = Type::Struct(served.id);
    let mut managers = read(live);
    let mut wanted = fields::of_object(&ty, applied);
    own(served, subresource, &mut wanted);
    let live_tree = {
        let mut tree = tree(served, live);
        tree.remove_at(&["metadata", "managedFields"]);
        tree
    };
    let mut merged = fields::merge(&ty, &live_tree, applied);
    let mine = |m: &Manager| m.name == manager && m.operation == "Apply" && m.subresource == subresource;
    let mut others = FieldSet::default();
    for other in managers.iter().filter(|m| !mine(m)) {
        others.add(&other.set);
    }
    let before: FieldSet = managers.iter().find(|m| mine(m)).map(|m| m.set.clone()).unwrap_or_default();
    let mut dropped = before.clone();
    dropped.subtract(&wanted);
    let mut kept = others.clone();
    kept.add(&wanted);
    dropped.prune(Some(&ty), &ListKind::Atomic, &mut merged, &kept);

    let difference = fields::compare(&ty, &live_tree, &merged);
    let mut changed = difference.changed.clone();
    own(served, subresource, &mut changed);
    let changed = changed.common(&wanted);
    let mut conflicts: Vec<(Manager, FieldSet)> = Vec::new();
    for other in managers.iter().filter(|m| !mine(m)) {
        let both = other.set.common(&changed);
        if !both.is_empty() {
            conflicts.push((other.clone(), both));
        }
    }
    if !conflicts.is_empty() && !force {
        return Err(conflict(&conflicts));
    }
    for other in managers.iter_mut().filter(|m| !mine(m)) {
        other.set.subtract(&changed);
        other.set.subtract(&difference.removed);
    }
    let entry = Manager {
        name: manager.to_owned(),
        operation: "Apply".into(),
        api_version: served.resource.gv.to_string(),
        subresource: subresource.to_owned(),
        time: time::now(),
        set: wanted,
    };
    match managers.iter_mut().find(|m| mine(m)) {
        Some(own) => *own = entry,
        None => managers.push(entry),
    }
    write(&mut merged, managers);
    Ok(merged)
}

fn conflict(conflicts: &[(Manager, FieldSet)]) -> Status {
    let mut causes = Vec::new();
    for (manager, set) in conflicts {
        for path in set.paths() {
            let mut by = format!("conflict with \"{}\"", manager.name);
            if !manager.subresource.is_empty() {
                by.push_str(&format!(" with subresource \"{}\"", manager.subresource));
            }
            if manager.operation == "Update" {
                by.push_str(&format!(" using {}", manager.api_version));
            }
            causes.push(Cause { reason: "FieldManagerConflict".into(), message: by, field: path });
        }
    }
    let noun = if causes.len() == 1 { "conflict" } else { "conflicts" };
    let mut by_manager: Vec<(String, Vec<String>)> = Vec::new();
    for cause in &causes {
        match by_manager.iter_mut().find(|(m, _)| *m == cause.message) {
            Some((_, fields)) => fields.push(cause.field.clone()),
            None => by_manager.push((cause.message.clone(), vec![cause.field.clone()])),
        }
    }
    let text = if let [only] = &causes[..] {
        format!("{}: {}", only.message, only.field)
    } else {
        let parts = by_manager.iter().map(|(by, fields)| {
            let list: Vec<String> = fields.iter().map(|f| format!("- {f}")).collect();
            format!("{}:\n{}", by.replacen("conflict", "conflicts", 1), list.join("\n"))
        });
        parts.collect::<Vec<_>>().join("\n")
    };
    let message = format!("Apply failed with {} {noun}: {text}", causes.len());
    let mut status = Status::failure(409, "Conflict", message);
    status.details = Some(Box::new(Details { causes, ..Details::default() }));
    status
}
