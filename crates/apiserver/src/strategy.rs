//! What differs between kinds when they are written: generations, status, names, addresses.

use crate::allocate;
use crate::catalogue::Served;
use crate::custom::strategy as custom;
use crate::defaults;
use crate::registry::{DeleteOptions, Target, WriteOptions};
use crate::server::ApiServer;
use rand::Rng;
use trireme_schema::field::{Error, Path};
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

/// Kinds that count changes, but not from the first.
fn counts_changes(group: &str, kind: &str) -> bool {
    has_generation(group, kind) || (group, kind) == ("storage.k8s.io", "CSIDriver")
}

/// What becomes of dependents when a deletion does not say: nothing, of pods of the oldest controllers.
pub fn propagation(served: &Served, finalizers: &[Value]) -> Option<&'static str> {
    let told = finalizers.iter().any(|f| matches!(f.as_str(), Some("orphan" | "foregroundDeletion")));
    let orphans = matches!((served.group(), served.kind()), ("batch", "Job") | ("", "ReplicationController"));
    (orphans && !told).then_some("Orphan")
}

/// What is said to who deletes an object and does not say what becomes of its dependents.
pub fn deletion_warning(served: &Served, options: &DeleteOptions) -> Option<String> {
    let silent = (served.group(), served.kind()) == ("batch", "Job") && options.propagation.is_none();
    silent.then(|| {
        "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them \
         or set propagationPolicy=Orphan to suppress this warning"
            .to_owned()
    })
}

/// Whether an object may be replaced by one that does not say which version it replaces.
fn may_be_replaced_blindly(group: &str, kind: &str) -> bool {
    !matches!(
        (group, kind),
        ("storage.k8s.io", "CSIDriver" | "CSINode" | "CSIStorageCapacity" | "VolumeAttachment")
            | ("apiextensions.k8s.io" | "apiregistration.k8s.io" | "admissionregistration.k8s.io", _)
            | ("coordination.k8s.io", _)
            | ("node.k8s.io", "RuntimeClass")
            | ("policy", "PodDisruptionBudget")
    )
}

/// Checks that an object that replaces another says which version of it, where it must.
///
/// # Errors
/// 422.
pub fn versioned(target: &Target, object: &Value) -> Result<(), Status> {
    let served = &target.served;
    let told = !object.str_at(&["metadata", "resourceVersion"]).is_empty();
    // An object of another name is refused for that.
    let named = matches!(object.str_at(&["metadata", "name"]), name if name.is_empty() || name == target.name);
    if told || !named || (served.custom.is_none() && may_be_replaced_blindly(served.group(), served.kind())) {
        return Ok(());
    }
    let error = Error::invalid(&Path::new("metadata.resourceVersion"), 0, "must be specified for an update");
    Err(Status::invalid(served.group(), served.plural(), &target.name, &[error]))
}

/// Kinds that are created with the status that they are given.
fn keeps_status_at_creation(kind: &str) -> bool {
    matches!(kind, "Node" | "ComponentStatus")
}

const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Five random characters, as they end generated names.
pub fn random_suffix() -> String {
    let mut random = rand::rng();
    (0..5).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}

/// Makes a name from `generateName`; limit ranges need neither.
pub fn name_generated(served: &Served, object: &mut Value) {
    if served.kind() == "LimitRange" && object.str_at(&["metadata", "name"]).is_empty() {
        object.set_at(&["metadata", "name"], uuid::Uuid::new_v4().to_string());
    }
    let base = object.str_at(&["metadata", "generateName"]);
    if served.kind() == "IPAddress" && !base.is_empty() {
        // An address cannot be made up.
        object.set_at(&["metadata", "name"], base.to_owned());
        return;
    }
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
    if served.custom.is_some() || has_generation(served.group(), kind) {
        object.set_at(&["metadata", "generation"], 1);
    }
    match (served.group(), kind) {
        ("", "Pod") => {
            if object.int_at(&["spec", "terminationGracePeriodSeconds"]).is_some_and(|n| n < 0) {
                object.set_at(&["spec", "terminationGracePeriodSeconds"], 1);
            }
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
                    ("lastTransitionTime", time::now().as_str()),
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
        ("apiextensions.k8s.io", _) => custom::definition_created(object),
        ("coordination.k8s.io", "Lease") => uncoordinated(object, None),
        ("certificates.k8s.io", "CertificateSigningRequest") => {
            let user = &target.user;
            object.set_at(&["spec", "username"], user.name.as_str());
            if !user.uid.is_empty() {
                object.set_at(&["spec", "uid"], user.uid.as_str());
            }
            object.set_at(&["spec", "groups"], user.groups.clone());
            if !user.extra.is_empty() {
                let extra = user.extra.iter().map(|(key, values)| (key.as_str(), values.clone()));
                object.set_at(&["spec", "extra"], Map::from_iter(extra));
            }
        }
        ("", "PersistentVolume") => {
            object.set_at(&["status", "phase"], "Pending");
            object.set_at(&["status", "lastPhaseTransitionTime"], time::now());
        }
        ("", "PersistentVolumeClaim") => {
            object.set_at(&["status", "phase"], "Pending");
            data_sources(object);
        }
        ("apps", "DaemonSet") => template_generation(object, 1),
        ("apps", "StatefulSet") => drop(object.remove_at(&MAX_UNAVAILABLE)),
        ("apiregistration.k8s.io", "APIService") if object.at(&["spec", "service"]).is_none() => {
            let now = time::now();
            let available = Map::from_iter([
                ("type", "Available"),
                ("status", "True"),
                ("lastTransitionTime", now.as_str()),
                ("reason", "Local"),
                ("message", "Local APIServices are always available"),
            ]);
            object.set_at(&["status", "conditions"], vec![Value::Object(available)]);
        }
        _ => {}
    }
    let _ = server;
    Ok(())
}

/// The two fields that say where a volume's data comes from say the same, where both can (KEP-1495).
fn data_sources(claim: &mut Value) {
    let (source, reference) = (claim.at(&["spec", "dataSource"]), claim.at(&["spec", "dataSourceRef"]));
    match (source.cloned(), reference.cloned()) {
        (Some(source), None) => claim.set_at(&["spec", "dataSourceRef"], source),
        (None, Some(reference)) if reference.get("namespace").is_none() => {
            claim.set_at(&["spec", "dataSource"], reference);
        }
        _ => {}
    }
}

/// The annotation in which `extensions/v1beta1` counted the changes of a daemon set's template, still kept.
const TEMPLATE_GENERATION: [&str; 3] = ["metadata", "annotations", "deprecated.daemonset.template.generation"];

/// A field whose feature (KEP-961) is off.
const MAX_UNAVAILABLE: [&str; 4] = ["spec", "updateStrategy", "rollingUpdate", "maxUnavailable"];

/// Upstream makes that annotation for whole objects only.
pub fn hide_template_generation(daemon_set: &mut Value) {
    daemon_set.remove_at(&TEMPLATE_GENERATION);
    if daemon_set.at(&["metadata", "annotations"]).and_then(Value::as_object).is_some_and(Map::is_empty) {
        daemon_set.remove_at(&["metadata", "annotations"]);
    }
}

fn template_generation(daemon_set: &mut Value, least: i64) {
    let now: i64 = daemon_set.str_at(&TEMPLATE_GENERATION).parse().unwrap_or_default();
    daemon_set.set_at(&TEMPLATE_GENERATION, now.max(least).to_string());
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
    // Labels that somebody chose stay, and are refused if they do not fit.
    for (old, new, value) in [
        ("job-name", "batch.kubernetes.io/job-name", &name),
        ("controller-uid", "batch.kubernetes.io/controller-uid", &uid),
    ] {
        const LABELS: [&str; 4] = ["spec", "template", "metadata", "labels"];
        if job.at(&LABELS).and_then(|l| l.get(old)).is_none() {
            for key in [old, new] {
                job.set_at(&["spec", "template", "metadata", "labels", key], value.as_str());
            }
        }
    }
    let own = ["spec", "selector", "matchLabels", "batch.kubernetes.io/controller-uid"];
    if job.at(&own).is_none() {
        job.set_at(&own, uid);
    }
}

/// Completes a new object that passed validation with what it would have after it is read again: a job's labels are
/// those of its pods.
pub fn checked(target: &Target, object: &mut Value) {
    if (target.served.group(), target.served.kind()) == ("batch", "Job") {
        defaults::apply(target.served.id, object);
    }
}

/// Drops what leases have for coordinated elections (KEP-4355), which are off, unless it was there.
fn uncoordinated(lease: &mut Value, old: Option<&Value>) {
    for field in [["spec", "strategy"], ["spec", "preferredHolder"]] {
        if old.is_none_or(|old| old.at(&field).is_none()) {
            lease.remove_at(&field);
        }
    }
}

/// Prepares a changed object: what the (sub)resource does not own stays as it was.
pub fn prepare_update(target: &Target, old: &Value, new: &mut Value) {
    let served = &target.served;
    if served.custom.is_some() {
        return custom::object_updated(target, old, new);
    }
    let kind = served.kind();
    let keep = |new: &mut Value, field: &str| match old.get(field) {
        Some(value) => new.set_at(&[field], value.clone()),
        None => drop(new.as_object_mut().and_then(|m| m.remove(field))),
    };
    if kind == "Pod" && target.subresource == "ephemeralcontainers" {
        only_ephemeral_containers(old, new);
    }
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
        "ephemeralcontainers" | "resize" | "finalize" => keep(new, "status"),
        _ => {}
    }
    match (served.group(), kind, target.subresource.as_str()) {
        ("certificates.k8s.io", "CertificateSigningRequest", _) => keep(new, "spec"),
        ("coordination.k8s.io", "Lease", _) => uncoordinated(new, Some(old)),
        ("", "PersistentVolumeClaim", "") => data_sources(new),
        ("apps", "StatefulSet", "") if old.at(&MAX_UNAVAILABLE).is_none() => drop(new.remove_at(&MAX_UNAVAILABLE)),
        ("apps", "DaemonSet", "") => {
            let before: i64 = old.str_at(&TEMPLATE_GENERATION).parse().unwrap_or_default();
            let changed = old.at(&["spec", "template"]) != new.at(&["spec", "template"]);
            new.set_at(&TEMPLATE_GENERATION, (before + i64::from(changed)).to_string());
        }
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
    let asked = |value: &Value| {
        let mut value = value.clone();
        if let Some(map) = value.as_object_mut() {
            map.remove("status");
            map.remove("metadata");
        }
        value
    };
    if custom::is_definition(target) && target.subresource.is_empty() {
        custom::definition_updated(new);
    }
    // A deployment counts its annotations as part of what is asked for.
    let annotations = |object: &Value| object.at(&["metadata", "annotations"]).cloned();
    let annotated = kind == "Deployment" && annotations(old) != annotations(new);
    if counts_changes(served.group(), kind)
        && !matches!(target.subresource.as_str(), "status" | "binding")
        && (annotated || asked(old) != asked(new))
    {
        let generation = old.int_at(&["metadata", "generation"]).unwrap_or_default();
        new.set_at(&["metadata", "generation"], generation + 1);
    }
}

/// Through its subresource only the ephemeral containers of a pod can be changed.
fn only_ephemeral_containers(old: &Value, new: &mut Value) {
    const PATH: [&str; 2] = ["spec", "ephemeralContainers"];
    let mut kept = old.clone();
    for path in [&["metadata", "resourceVersion"], &["metadata", "managedFields"], &PATH] {
        match new.at(path) {
            Some(value) => kept.set_at(path, value.clone()),
            None => drop(kept.remove_at(path)),
        }
    }
    *new = kept;
}

/// Gives out what only one object can have: addresses and ports of services.
///
/// # Errors
/// When what is asked for is taken.
pub fn allocate(
    server: &ApiServer,
    target: &Target,
    object: &mut Value,
    old: Option<&Value>,
    options: &WriteOptions,
) -> Result<(), Status> {
    if allocates(target) {
        allocate::service(server, target, object, old, options.dry_run)?;
    }
    Ok(())
}

/// Whether a write of this object takes addresses or ports.
pub fn allocates(target: &Target) -> bool {
    target.served.group().is_empty() && target.served.kind() == "Service" && target.subresource.is_empty()
}
