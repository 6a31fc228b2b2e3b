//! Priority: a pod's number from its class; one class is the default at most, and the system's classes stay.

use super::{Attributes, Operation};
use trireme_schema::{Status, Value};

const GROUP: &str = "scheduling.k8s.io";
const CLASSES: &str = "priorityclasses";

/// The class of pods that name none.
fn default_class(attributes: &Attributes<'_>) -> Option<Value> {
    let classes = attributes.server.read_all(GROUP, CLASSES, "");
    let defaults = classes.into_iter().filter(|c| c.bool_at(&["globalDefault"]));
    defaults.min_by_key(|c| c.int_at(&["value"]).unwrap_or_default())
}

/// Sets a new pod's priority, and keeps an old one's.
pub(super) fn resolve(attributes: &Attributes<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    if attributes.operation == Operation::Update && attributes.is("", "pods", "") {
        // The number cannot change, whatever the update says.
        if let (Some(old), None) = (old, object.at(&["spec", "priority"])) {
            for name in ["priority", "preemptionPolicy"] {
                if let Some(value) = old.at(&["spec", name]) {
                    object.set_at(&["spec", name], value.clone());
                }
            }
        }
        return Ok(());
    }
    if !attributes.creates("", "pods") {
        return Ok(());
    }
    let name = object.str_at(&["spec", "priorityClassName"]).to_owned();
    let class = if name.is_empty() {
        let class = default_class(attributes);
        if let Some(class) = &class {
            object.set_at(&["spec", "priorityClassName"], class.str_at(&["metadata", "name"]));
        }
        class
    } else {
        let found = attributes.server.read(GROUP, CLASSES, "", &name);
        if found.is_none() {
            let why = format!("no PriorityClass with name {name} was found");
            return Err(attributes.forbidden(object, &why));
        }
        found
    };
    let value = class.as_ref().and_then(|c| c.int_at(&["value"])).unwrap_or_default();
    let policy = match class.as_ref().map_or("", |c| c.str_at(&["preemptionPolicy"])) {
        "" => "PreemptLowerPriority",
        policy => policy,
    };
    const START: &str = "must not be provided in pod spec; priority admission controller computed";
    if let Some(given) = object.int_at(&["spec", "priority"]).filter(|&given| given != value) {
        let why = format!("the integer value of priority ({given}) {START} {value} from the given PriorityClass name");
        return Err(attributes.forbidden(object, &why));
    }
    if let Some(given) =
        object.at(&["spec", "preemptionPolicy"]).and_then(Value::as_str).filter(|given| *given != policy)
    {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) {START} {policy} from the given PriorityClass name"
        );
        return Err(attributes.forbidden(object, &why));
    }
    object.set_at(&["spec", "priority"], value);
    object.set_at(&["spec", "preemptionPolicy"], policy);
    Ok(())
}

/// Refuses a second default class, and the end of a class that the system needs.
pub(super) fn check_class(attributes: &Attributes<'_>, object: &Value, _: Option<&Value>) -> Result<(), Status> {
    if !attributes.is(GROUP, CLASSES, "") {
        return Ok(());
    }
    let name = attributes.name(object);
    if attributes.operation == Operation::Delete {
        return if matches!(name, "system-node-critical" | "system-cluster-critical") {
            Err(attributes.forbidden(object, "this is a system priority class and cannot be deleted"))
        } else {
            Ok(())
        };
    }
    if attributes.writes() && object.bool_at(&["globalDefault"]) {
        let there = default_class(attributes).map(|c| c.str_at(&["metadata", "name"]).to_owned());
        if let Some(there) = there.filter(|there| attributes.operation == Operation::Create || there != name) {
            let why = format!("PriorityClass {there} is already marked as default. Only one default can exist");
            return Err(attributes.forbidden(object, &why));
        }
    }
    Ok(())
}
