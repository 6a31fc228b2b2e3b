//! What differs between kinds when they are written: generations, status, names, addresses.

use crate::allocate;
use crate::registry::Target;
use crate::server::ApiServer;
use rand::Rng;
use trireme_schema::{Map, Status, Value, time};

/// Kinds whose `metadata.generation` counts changes of what was asked for.
fn has_generation(group: &str, kind: &str) -> bool {
    matches!(
        (group, kind),
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet")
            | ("batch", "Job" | "CronJob")
            | ("", "Pod" | "ReplicationController" | "PodTemplate")
            | ("resource.k8s.io", "DeviceClass" | "ResourceSlice")
            | ("networking.k8s.io", "Ingress" | "NetworkPolicy" | "IngressClass")
            | ("policy", "PodDisruptionBudget")
            | ("apiextensions.k8s.io", _)
            | ("admissionregistration.k8s.io", _)
            | ("flowcontrol.apiserver.k8s.io", _)
            | ("scheduling.k8s.io", _)
            | ("discovery.k8s.io", _)
    )
}

/// Kinds that are created with the status that they are given.
fn keeps_status_at_creation(kind: &str) -> bool {
    matches!(kind, "Node" | "ComponentStatus" | "CertificateSigningRequest" | "Lease" | "APIService")
}

const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Five random characters, as they end generated names.
pub fn random_suffix() -> String {
    let mut random = rand::rng();
    (0..5).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}

/// Makes a name from `generateName`.
pub fn name_generated(object: &mut Value) {
    let base = object.str_at(&["metadata", "generateName"]);
    if base.is_empty() || !object.str_at(&["metadata", "name"]).is_empty() {
        return;
    }
    let base: String = base.chars().take(58).collect();
    object.set_at(&["metadata", "name"], format!("{base}{}", random_suffix()));
}

/// Prepares a new object.
///
/// # Errors
/// For bodies that make no sense for their kind.
pub fn prepare_create(server: &ApiServer, target: &Target, object: &mut Value) -> Result<(), Status> {
    let served = &target.served;
    let kind = served.kind();
    if served.has_subresource("status")
        && !keeps_status_at_creation(kind)
        && let Some(map) = object.as_object_mut()
    {
        map.remove("status");
    }
    if has_generation(served.group(), kind) {
        object.set_at(&["metadata", "generation"], 1);
    }
    match (served.group(), kind) {
        ("", "Pod") => {
            let class = qos_class(object);
            object.set_at(&["status", "phase"], "Pending");
            object.set_at(&["status", "qosClass"], class);
            let gated = !object.list_at(&["spec", "schedulingGates"]).is_empty();
            if gated {
                let message = "Scheduling is blocked due to non-empty scheduling gates";
                let condition = Map::from_iter([
                    ("type", "PodScheduled"),
                    ("status", "False"),
                    ("reason", "SchedulingGated"),
                    ("message", message),
                ]);
                object.set_at(&["status", "conditions"], vec![Value::Object(condition)]);
            }
        }
        ("", "Namespace") => {
            object.set_at(&["status", "phase"], "Active");
            let mut finalizers = object.list_at(&["spec", "finalizers"]).to_vec();
            if !finalizers.iter().any(|f| f.as_str() == Some("kubernetes")) {
                finalizers.push("kubernetes".into());
                object.set_at(&["spec", "finalizers"], Value::Array(finalizers));
            }
        }
        ("batch", "Job") => job_selector(object),
        ("certificates.k8s.io", "CertificateSigningRequest") => {
            let user = &target.user;
            object.set_at(&["spec", "username"], user.name.as_str());
            if !user.uid.is_empty() {
                object.set_at(&["spec", "uid"], user.uid.as_str());
            }
            object.set_at(&["spec", "groups"], user.groups.clone());
            if let Some(map) = object.as_object_mut() {
                map.remove("status");
            }
        }
        ("", "PersistentVolume" | "PersistentVolumeClaim") => object.set_at(&["status", "phase"], "Pending"),
        _ => {}
    }
    let _ = server;
    Ok(())
}

/// The class that decides who is killed first (KEP none; pkg/apis/core/helper/qos).
pub fn qos_class(pod: &Value) -> &'static str {
    let containers: Vec<&Value> =
        pod.list_at(&["spec", "containers"]).iter().chain(pod.list_at(&["spec", "initContainers"])).collect();
    let amount = |c: &Value, of: &str, name: &str| {
        let text = c.at(&["resources", of, name]).and_then(Value::as_str)?;
        text.parse::<trireme_schema::Quantity>().ok().filter(|q| !q.is_zero())
    };
    let mut any = false;
    let mut guaranteed = !containers.is_empty();
    for container in containers {
        for name in ["cpu", "memory"] {
            let (request, limit) = (amount(container, "requests", name), amount(container, "limits", name));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|r| Some(r) == limit);
        }
    }
    if guaranteed {
        "Guaranteed"
    } else if any {
        "Burstable"
    } else {
        "BestEffort"
    }
}

/// A job selects its pods by its own UID, unless it is told another way.
fn job_selector(job: &mut Value) {
    if job.bool_at(&["spec", "manualSelector"]) {
        return;
    }
    let uid = job.str_at(&["metadata", "uid"]).to_owned();
    let name = job.str_at(&["metadata", "name"]).to_owned();
    for (key, value) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ] {
        job.set_at(&["spec", "template", "metadata", "labels", key], value.as_str());
    }
    job.set_at(&["spec", "selector", "matchLabels", "batch.kubernetes.io/controller-uid"], uid);
}

/// Prepares a changed object: what the (sub)resource does not own stays as it was.
pub fn prepare_update(target: &Target, old: &Value, new: &mut Value) {
    let served = &target.served;
    let kind = served.kind();
    let keep = |new: &mut Value, field: &str| match old.get(field) {
        Some(value) => new.set_at(&[field], value.clone()),
        None => drop(new.as_object_mut().and_then(|m| m.remove(field))),
    };
    match target.subresource.as_str() {
        "status" => {
            let fields: Vec<String> =
                new.as_object().map(|m| m.keys().map(|k| k.to_string()).collect()).unwrap_or_default();
            let old_fields =
                old.as_object().map(|m| m.keys().map(|k| k.to_string()).collect::<Vec<_>>()).unwrap_or_default();
            for field in fields.into_iter().chain(old_fields) {
                if field != "status" && field != "metadata" {
                    keep(new, &field);
                }
            }
            // Nodes and custom resources aside, labels and the like cannot be changed with the status.
            for field in ["ownerReferences", "finalizers"] {
                if kind == "Pod" || field == "finalizers" {
                    match old.at(&["metadata", field]) {
                        Some(value) => new.set_at(&["metadata", field], value.clone()),
                        None => drop(new.remove_at(&["metadata", field])),
                    }
                }
            }
            if kind == "Pod" {
                for field in ["labels", "annotations"] {
                    if old.at(&["metadata", field]).is_none() && new.at(&["metadata", field]).is_none() {
                        continue;
                    }
                }
                let class = old.at(&["status", "qosClass"]).cloned();
                if let Some(class) = class {
                    new.set_at(&["status", "qosClass"], class);
                }
            }
        }
        "" if served.has_subresource("status") => keep(new, "status"),
        "ephemeralcontainers" | "resize" => keep(new, "status"),
        _ => {}
    }
    if kind == "Namespace" && target.subresource.is_empty() {
        match old.at(&["spec", "finalizers"]) {
            Some(value) => new.set_at(&["spec", "finalizers"], value.clone()),
            None => drop(new.remove_at(&["spec", "finalizers"])),
        }
    }
    if kind == "PersistentVolumeClaim"
        && target.subresource.is_empty()
        && let Some(name) = old.at(&["spec", "volumeName"])
        && new.at(&["spec", "volumeName"]).is_none()
    {
        new.set_at(&["spec", "volumeName"], name.clone());
    }
    if kind == "Pod" && target.subresource == "status" {
        stamp_conditions(old, new);
    }
    let asked = |value: &Value| {
        let mut value = value.clone();
        if let Some(map) = value.as_object_mut() {
            map.remove("status");
            map.remove("metadata");
        }
        value
    };
    if has_generation(served.group(), kind) && target.subresource != "status" && asked(old) != asked(new) {
        let generation = old.int_at(&["metadata", "generation"]).unwrap_or_default();
        new.set_at(&["metadata", "generation"], generation + 1);
    }
}

/// A condition that changed and does not say when, changed now.
fn stamp_conditions(old: &Value, new: &mut Value) {
    let before: Vec<Value> = old.list_at(&["status", "conditions"]).to_vec();
    let Some(conditions) = new.at_mut(&["status", "conditions"]).and_then(Value::as_array_mut) else { return };
    for condition in conditions.iter_mut().filter(|c| c.get("lastTransitionTime").is_none()) {
        let same = before.iter().find(|b| {
            b.str_at(&["type"]) == condition.str_at(&["type"]) && b.str_at(&["status"]) == condition.str_at(&["status"])
        });
        let at = same.and_then(|b| b.get("lastTransitionTime").cloned()).unwrap_or_else(|| time::now().into());
        condition.set_at(&["lastTransitionTime"], at);
    }
}

/// Gives out what only one object can have: addresses and ports of services.
///
/// # Errors
/// When what is asked for is taken.
pub fn allocate(server: &ApiServer, target: &Target, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    if allocates(target) {
        allocate::service(server, target, object, old)?;
    }
    Ok(())
}

/// Whether a write of this object takes addresses or ports.
pub fn allocates(target: &Target) -> bool {
    target.served.group().is_empty() && target.served.kind() == "Service" && target.subresource.is_empty()
}
