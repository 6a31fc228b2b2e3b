//! What objects may hold: rules of all kinds, then of each.

use crate::catalogue::Served;
use crate::registry::name_required;
use crate::server::ApiServer;
use trireme_schema::field::{Error, Path};
use trireme_schema::{ListKind, Schema, StructId, Type, Value, names};

/// How names of a kind must look.
fn name_errors(group: &str, kind: &str, name: &str) -> Vec<String> {
    match (group, kind) {
        ("", "Service") => names::dns1035_label(name),
        ("", "Namespace") => names::dns1123_label(name),
        ("rbac.authorization.k8s.io", _) => names::path_segment(name),
        ("flowcontrol.apiserver.k8s.io" | "", "Event") => names::dns1123_subdomain(name),
        _ => names::dns1123_subdomain(name),
    }
}

const LARGEST_ANNOTATIONS: usize = 256 << 10;

/// What is wrong with a new object.
pub fn create(_server: &ApiServer, served: &Served, object: &Value) -> Vec<Error> {
    let mut errors = metadata(served, object);
    errors.extend(shared(served, object));
    errors
}

/// What is wrong with a changed object.
pub fn update(_server: &ApiServer, served: &Served, subresource: &str, old: &Value, new: &Value) -> Vec<Error> {
    let mut errors = metadata(served, new);
    errors.extend(immutable(served, subresource, old, new));
    if subresource != "status" {
        errors.extend(shared(served, new));
    }
    errors
}

fn metadata(served: &Served, object: &Value) -> Vec<Error> {
    let path = Path::new("metadata");
    let mut errors = Vec::new();
    let name = object.str_at(&["metadata", "name"]);
    if name.is_empty() {
        errors.push(name_required());
    } else {
        for why in name_errors(served.group(), served.kind(), name) {
            errors.push(Error::invalid(&path.child("name"), name, why));
        }
    }
    errors.extend(labels(&path.child("labels"), object.at(&["metadata", "labels"])));
    errors.extend(annotations(&path.child("annotations"), object.at(&["metadata", "annotations"])));
    for (i, owner) in object.list_at(&["metadata", "ownerReferences"]).iter().enumerate() {
        let at = path.child("ownerReferences").index(i);
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner.str_at(&[field]).is_empty() {
                let why = match field {
                    "apiVersion" => "version must not be empty",
                    _ => "must not be empty",
                };
                errors.push(Error::invalid(&at.child(field), owner.str_at(&[field]), why));
            }
        }
    }
    for (i, finalizer) in object.list_at(&["metadata", "finalizers"]).iter().enumerate() {
        let text = finalizer.as_str().unwrap_or_default();
        let known = matches!(text, "orphan" | "foregroundDeletion" | "kubernetes");
        let at = path.child("finalizers").index(i);
        if !known {
            for why in names::qualified_name(text) {
                errors.push(Error::invalid(&at, text, why));
            }
            if !text.contains('/') && names::qualified_name(text).is_empty() {
                let why = "name is neither a standard finalizer name nor is it fully qualified";
                errors.push(Error::invalid(&at, text, why));
            }
        }
    }
    errors
}

fn labels(path: &Path, labels: Option<&Value>) -> Vec<Error> {
    let mut errors = Vec::new();
    for (key, value) in labels.and_then(Value::as_object).into_iter().flat_map(trireme_schema::Map::iter) {
        for why in names::qualified_name(key) {
            errors.push(Error::invalid(path, key.clone(), why));
        }
        let text = value.as_str().unwrap_or_default();
        for why in names::label_value(text) {
            errors.push(Error::invalid(path, text, why));
        }
    }
    errors
}

fn annotations(path: &Path, annotations: Option<&Value>) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in annotations.and_then(Value::as_object).into_iter().flat_map(trireme_schema::Map::iter) {
        for why in names::qualified_name(&key.to_lowercase()) {
            errors.push(Error::invalid(path, key.clone(), why));
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > LARGEST_ANNOTATIONS {
        errors.push(Error::too_long(path, LARGEST_ANNOTATIONS));
    }
    errors
}

/// Fields that cannot change once they are set.
const IMMUTABLE: &[(&str, &str, &str)] = &[
    ("apps", "Deployment", "selector"),
    ("apps", "ReplicaSet", "selector"),
    ("apps", "DaemonSet", "selector"),
    ("batch", "Job", "selector"),
    ("batch", "Job", "completions"),
    ("", "PersistentVolumeClaim", "accessModes"),
];

fn immutable(served: &Served, subresource: &str, old: &Value, new: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let (group, kind) = (served.group(), served.kind());
    for (g, k, field) in IMMUTABLE {
        if (*g, *k) == (group, kind) && old.at(&["spec", field]) != new.at(&["spec", field]) {
            let value = new.at(&["spec", field]).cloned().unwrap_or_default();
            errors.push(Error::invalid(&Path::new("spec").child(field), value, "field is immutable"));
        }
    }
    match (group, kind) {
        ("", "Secret" | "ConfigMap") if old.bool_at(&["immutable"]) => {
            for field in ["data", "binaryData", "stringData"] {
                if old.get(field) != new.get(field) {
                    errors.push(Error::forbidden(&Path::new(field), "field is immutable when `immutable` is set"));
                }
            }
            if !new.bool_at(&["immutable"]) {
                errors.push(Error::forbidden(&Path::new("immutable"), "field is immutable when `immutable` is set"));
            }
        }
        ("", "Pod") if subresource.is_empty() => errors.extend(pod_update(old, new)),
        ("apps", "StatefulSet") if subresource.is_empty() => {
            const OPEN: [&str; 7] = [
                "replicas",
                "ordinals",
                "template",
                "updateStrategy",
                "revisionHistoryLimit",
                "persistentVolumeClaimRetentionPolicy",
                "minReadySeconds",
            ];
            let closed = |v: &Value| {
                let mut spec = v.get("spec").cloned().unwrap_or_default();
                OPEN.iter().for_each(|f| drop(spec.remove_at(&[f])));
                spec
            };
            if closed(old) != closed(new) {
                let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
                errors.push(Error::forbidden(&Path::new("spec"), why));
            }
        }
        ("", "Service") => {
            let (before, after) = (old.str_at(&["spec", "clusterIP"]), new.str_at(&["spec", "clusterIP"]));
            let external = [old, new].iter().any(|v| v.str_at(&["spec", "type"]) == "ExternalName");
            if before != after && !before.is_empty() && !external {
                let at = Path::new("spec").child("clusterIPs").index(0);
                errors.push(Error::invalid(&at, vec![after.to_owned()], "may not change once set"));
            }
        }
        ("rbac.authorization.k8s.io", _) if old.get("roleRef") != new.get("roleRef") => {
            let value = new.get("roleRef").cloned().unwrap_or_default();
            errors.push(Error::invalid(&Path::new("roleRef"), value, "cannot change roleRef"));
        }
        _ => {}
    }
    errors
}

fn pod_update(old: &Value, new: &Value) -> Vec<Error> {
    // Images, deadlines, more tolerations and fewer gates may change; the rest of a running pod may not.
    let strip = |pod: &Value| {
        let mut spec = pod.get("spec").cloned().unwrap_or_default();
        for list in ["containers", "initContainers"] {
            for container in spec.at_mut(&[list]).and_then(Value::as_array_mut).into_iter().flatten() {
                container.remove_at(&["image"]);
            }
        }
        for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates", "terminationGracePeriodSeconds"] {
            spec.remove_at(&[field]);
        }
        if !pod.list_at(&["spec", "schedulingGates"]).is_empty() {
            spec.remove_at(&["nodeSelector"]);
            spec.remove_at(&["affinity"]);
        }
        spec
    };
    let mut errors = Vec::new();
    let gone = old.list_at(&["spec", "tolerations"]).iter().any(|t| !new.list_at(&["spec", "tolerations"]).contains(t));
    if strip(old) != strip(new)
        || (gone && new.list_at(&["spec", "tolerations"]).len() < old.list_at(&["spec", "tolerations"]).len())
    {
        let why = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
        errors.push(Error::forbidden(&Path::new("spec"), why));
    }
    errors
}

/// Rules that the types themselves tell, and those of the most used kinds.
fn shared(served: &Served, object: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let schema = served.schema();
    for field in schema.flat_fields(served.id) {
        if !matches!(field.name.as_str(), "metadata" | "status" | "kind" | "apiVersion")
            && let Some(value) = object.get(&field.name)
        {
            enumerated(schema, served.id, &field.ty, field, value, &Path::new(&field.name), &mut errors);
        }
    }
    match (served.group(), served.kind()) {
        ("", "Pod") => pod_spec(object.get("spec"), &Path::new("spec"), &mut errors),
        ("", "Service") => service(object, &mut errors),
        ("", "ConfigMap" | "Secret") => {
            for field in ["data", "binaryData"] {
                for key in
                    object.at(&[field]).and_then(Value::as_object).into_iter().flat_map(trireme_schema::Map::keys)
                {
                    for why in names::config_map_key(key) {
                        errors.push(Error::invalid(&Path::new(field).key(key), key.clone(), why));
                    }
                }
            }
        }
        ("apps", "Deployment" | "ReplicaSet" | "DaemonSet" | "StatefulSet") => workload(object, &mut errors),
        ("batch", "Job") => {
            let policy = object.str_at(&["spec", "template", "spec", "restartPolicy"]);
            if !matches!(policy, "OnFailure" | "Never") {
                let at = Path::new("spec.template.spec.restartPolicy");
                let supported = ["OnFailure", "Never"];
                errors.push(if policy.is_empty() {
                    Error::required(&at, "valid values: \"OnFailure\", \"Never\"")
                } else {
                    Error::not_supported(&at, policy, &supported)
                });
            }
            pod_spec(object.at(&["spec", "template", "spec"]), &Path::new("spec.template.spec"), &mut errors);
        }
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding")
            if object.str_at(&["roleRef", "name"]).is_empty() =>
        {
            errors.push(Error::required(&Path::new("roleRef.name"), ""));
        }
        _ => {}
    }
    errors
}

/// Values of closed enumerations, and keys that may appear once in keyed lists.
fn enumerated(
    schema: &Schema,
    owner: StructId,
    ty: &Type,
    field: &trireme_schema::Field,
    value: &Value,
    path: &Path,
    errors: &mut Vec<Error>,
) {
    match (ty, value) {
        (Type::String, Value::String(text)) => {
            let Some(name) = &field.enumeration else { return };
            let Some(values) = schema.enumeration(&schema[owner].package, name).filter(|e| e.closed) else { return };
            if !values.values.iter().any(|v| v == text) {
                let mut supported: Vec<&str> = values.values.iter().map(String::as_str).collect();
                supported.sort_unstable();
                errors.push(Error::not_supported(path, text.as_str(), &supported));
            }
        }
        (Type::List(inner), Value::Array(items)) => {
            for (i, item) in items.iter().enumerate() {
                enumerated(schema, owner, inner, field, item, &path.index(i), errors);
            }
            if let ListKind::Map(keys) = &field.list {
                // Upstream's own words for names; other keys are checked by their kind's rules.
                if keys.len() == 1 && keys[0] == "name" {
                    for (i, item) in items.iter().enumerate() {
                        let name = item.str_at(&["name"]);
                        if !name.is_empty() && items[..i].iter().any(|o| o.str_at(&["name"]) == name) {
                            errors.push(Error::duplicate(&path.index(i).child("name"), name));
                        }
                    }
                }
            }
        }
        (Type::Struct(id), Value::Object(map)) => {
            for (name, value) in map.iter() {
                if let Some(field) = schema.field(*id, name) {
                    enumerated(schema, *id, &field.ty, field, value, &path.child(name), errors);
                }
            }
        }
        _ => {}
    }
}

fn workload(object: &Value, errors: &mut Vec<Error>) {
    let spec = Path::new("spec");
    let selector = object.at(&["spec", "selector"]);
    match selector {
        None => errors.push(Error::required(&spec.child("selector"), "")),
        Some(selector) => {
            let labels = object.at(&["spec", "template", "metadata", "labels"]);
            let wanted = selector.at(&["matchLabels"]).and_then(Value::as_object);
            let matches = wanted
                .into_iter()
                .flat_map(trireme_schema::Map::iter)
                .all(|(k, v)| labels.and_then(|l| l.get(k)) == Some(v));
            if !matches {
                let value = labels.cloned().unwrap_or_else(Value::object);
                let why = "`selector` does not match template `labels`";
                errors.push(Error::invalid(&spec.child("template.metadata.labels"), value, why));
            }
        }
    }
    if let Some(replicas) = object.int_at(&["spec", "replicas"]).filter(|n| *n < 0) {
        let why = "must be greater than or equal to 0";
        errors.push(Error::invalid(&spec.child("replicas"), replicas, why));
    }
    pod_spec(object.at(&["spec", "template", "spec"]), &Path::new("spec.template.spec"), errors);
    let policy = object.str_at(&["spec", "template", "spec", "restartPolicy"]);
    if !policy.is_empty() && policy != "Always" {
        errors.push(Error::not_supported(&Path::new("spec.template.spec.restartPolicy"), policy, &["Always"]));
    }
}

fn pod_spec(spec: Option<&Value>, path: &Path, errors: &mut Vec<Error>) {
    let Some(spec) = spec else { return };
    let volumes: Vec<&str> = spec.list_at(&["volumes"]).iter().map(|v| v.str_at(&["name"])).collect();
    for (i, name) in volumes.iter().enumerate() {
        let at = path.child("volumes").index(i).child("name");
        if name.is_empty() {
            errors.push(Error::required(&at, ""));
        } else {
            errors.extend(names::dns1123_label(name).into_iter().map(|why| Error::invalid(&at, *name, why)));
        }
    }
    if spec.list_at(&["containers"]).is_empty() {
        errors.push(Error::required(&path.child("containers"), ""));
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for (i, container) in spec.list_at(&[list]).iter().enumerate() {
            let at = path.child(list).index(i);
            let name = container.str_at(&["name"]);
            if name.is_empty() {
                errors.push(Error::required(&at.child("name"), ""));
            } else {
                errors
                    .extend(names::dns1123_label(name).into_iter().map(|w| Error::invalid(&at.child("name"), name, w)));
            }
            let image = container.str_at(&["image"]);
            if image.is_empty() {
                errors.push(Error::required(&at.child("image"), ""));
            } else if image.trim() != image {
                let why = "must not have leading or trailing whitespace";
                errors.push(Error::invalid(&at.child("image"), image, why));
            }
            for (m, mount) in container.list_at(&["volumeMounts"]).iter().enumerate() {
                let at = at.child("volumeMounts").index(m);
                let name = mount.str_at(&["name"]);
                if name.is_empty() {
                    errors.push(Error::required(&at.child("name"), ""));
                } else if !volumes.contains(&name) {
                    errors.push(Error::not_found(&at.child("name"), name));
                }
                if mount.str_at(&["mountPath"]).is_empty() {
                    errors.push(Error::required(&at.child("mountPath"), ""));
                }
            }
            for (e, env) in container.list_at(&["env"]).iter().enumerate() {
                let at = at.child("env").index(e).child("name");
                let name = env.str_at(&["name"]);
                if name.is_empty() {
                    errors.push(Error::required(&at, ""));
                } else {
                    errors.extend(names::env_name(name).into_iter().map(|why| Error::invalid(&at, name, why)));
                }
            }
            for (p, port) in container.list_at(&["ports"]).iter().enumerate() {
                let at = at.child("ports").index(p);
                port_number(port.int_at(&["containerPort"]), &at.child("containerPort"), true, errors);
                port_number(port.int_at(&["hostPort"]), &at.child("hostPort"), false, errors);
                let name = port.str_at(&["name"]);
                if !name.is_empty() {
                    errors
                        .extend(names::port_name(name).into_iter().map(|w| Error::invalid(&at.child("name"), name, w)));
                }
            }
            resources(container.at(&["resources"]), &at.child("resources"), errors);
        }
    }
}

fn port_number(number: Option<i64>, path: &Path, required: bool, errors: &mut Vec<Error>) {
    match number {
        None | Some(0) if required => errors.push(Error::required(path, "")),
        None | Some(0) => {}
        Some(n) if !(1..=65_535).contains(&n) => {
            errors.push(Error::invalid(path, n, "must be between 1 and 65535, inclusive"));
        }
        _ => {}
    }
}

fn resources(resources: Option<&Value>, path: &Path, errors: &mut Vec<Error>) {
    let parse = |v: Option<&Value>| v.and_then(Value::as_str).and_then(|t| t.parse::<trireme_schema::Quantity>().ok());
    let Some(resources) = resources else { return };
    for of in ["limits", "requests"] {
        for (name, amount) in
            resources.at(&[of]).and_then(Value::as_object).into_iter().flat_map(trireme_schema::Map::iter)
        {
            let at = path.child(of).key(name);
            if parse(Some(amount)).is_some_and(|q| q.is_negative()) {
                errors.push(Error::invalid(&at, amount.clone(), "must be greater than or equal to 0"));
            }
        }
    }
    for (name, request) in
        resources.at(&["requests"]).and_then(Value::as_object).into_iter().flat_map(trireme_schema::Map::iter)
    {
        let limit = parse(resources.at(&["limits", name]));
        if let (Some(request), Some(limit)) = (parse(Some(request)), limit)
            && request > limit
        {
            let why = format!("must be less than or equal to {name} limit of {limit}");
            errors.push(Error::invalid(&path.child("requests"), request.to_string(), why));
        }
    }
}

fn service(object: &Value, errors: &mut Vec<Error>) {
    let spec = Path::new("spec");
    let kind = object.str_at(&["spec", "type"]);
    let ports = object.list_at(&["spec", "ports"]);
    let headless = object.str_at(&["spec", "clusterIP"]) == "None";
    if ports.is_empty() && !headless && kind != "ExternalName" {
        errors.push(Error::required(&spec.child("ports"), ""));
    }
    for (i, port) in ports.iter().enumerate() {
        let at = spec.child("ports").index(i);
        let name = port.str_at(&["name"]);
        if name.is_empty() && ports.len() > 1 {
            errors.push(Error::required(&at.child("name"), ""));
        } else if !name.is_empty() {
            errors.extend(names::dns1123_label(name).into_iter().map(|w| Error::invalid(&at.child("name"), name, w)));
            if ports[..i].iter().any(|p| p.str_at(&["name"]) == name) {
                errors.push(Error::duplicate(&at.child("name"), name));
            }
        }
        match port.int_at(&["port"]) {
            Some(n) if (1..=65_535).contains(&n) => {}
            other => {
                let why = "must be between 1 and 65535, inclusive";
                errors.push(Error::invalid(&at.child("port"), other.unwrap_or_default(), why));
            }
        }
    }
    if kind == "ExternalName" && object.str_at(&["spec", "externalName"]).is_empty() {
        errors.push(Error::required(&spec.child("externalName"), ""));
    }
}
