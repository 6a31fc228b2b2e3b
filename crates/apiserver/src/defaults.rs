//! Values of fields that were not given: a table, and rules for what depends on other fields.

use crate::convert;
use std::collections::HashMap;
use std::sync::OnceLock;
use trireme_schema::{Map, Quantity, Schema, StructId, Type, Value, builtin, json, time};

type Table = HashMap<StructId, Vec<(&'static str, Value)>>;

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = Table::new();
        for line in include_str!("defaults.txt").lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let mut words = line.splitn(3, ' ');
            let (Some(name), Some(field), Some(value)) = (words.next(), words.next(), words.next()) else { continue };
            let (Some(id), Ok(value)) = (builtin().type_named(name), json::parse(value.as_bytes())) else { continue };
            table.entry(id).or_default().push((field, value));
        }
        table
    })
}

/// Fills in what was not given, in an object of a type and all that it holds.
pub fn apply(id: StructId, object: &mut Value) {
    structure(builtin(), id, object);
}

fn structure(schema: &Schema, id: StructId, object: &mut Value) {
    let Some(map) = object.as_object_mut() else { return };
    for (field, value) in table().get(&id).into_iter().flatten() {
        if map.get(field).is_none() {
            map.insert(*field, value.clone());
        }
    }
    rules(&schema[id].package, &schema[id].name, map);
    // A cron job's template becomes a job, with a job's defaults, only when its time has come.
    let of_cron_jobs = (schema[id].package.as_str(), schema[id].name.as_str()) == ("batch.v1", "JobTemplateSpec");
    for field in &schema[id].fields {
        if let (Type::Struct(inner), true) = (&field.ty, field.inline) {
            structure(schema, *inner, object);
            continue;
        }
        if of_cron_jobs && field.name == "spec" {
            if let (Some(map), Some(id)) = (object.as_object_mut(), schema.type_named("core.v1.PodTemplateSpec")) {
                let spec = map.object("spec");
                let mut template = spec.remove("template").unwrap_or_else(Value::object);
                structure(schema, id, &mut template);
                spec.insert("template", template);
            }
            continue;
        }
        let always = matches!(field.ty, Type::Struct(_)) && !field.ptr;
        let Some(map) = object.as_object_mut() else { return };
        // An absent struct that is no pointer is there all the same, empty, and gets its defaults.
        if always && map.get(&field.name).is_none() {
            let mut fresh = Value::object();
            descend(schema, &field.ty, &mut fresh);
            if fresh.as_object().is_some_and(|m| !m.is_empty()) {
                map.insert(field.name.as_str(), fresh);
            }
            continue;
        }
        if let Some(value) = map.get_mut(&field.name) {
            descend(schema, &field.ty, value);
        }
    }
}

fn descend(schema: &Schema, ty: &Type, value: &mut Value) {
    match (ty, value) {
        (Type::Struct(id), value) => structure(schema, *id, value),
        (Type::List(inner), Value::Array(items)) => items.iter_mut().for_each(|item| descend(schema, inner, item)),
        (Type::Map(inner), Value::Object(map)) => {
            map.iter_mut().for_each(|(_, value)| descend(schema, inner, value));
        }
        _ => {}
    }
}

fn or(map: &mut Map, field: &str, value: impl Into<Value>) {
    if map.get(field).is_none() {
        map.insert(field, value);
    }
}

fn rules(package: &str, name: &str, map: &mut Map) {
    match (package, name) {
        ("core.v1", "Container" | "EphemeralContainerCommon") => pull_policy(map, "image", "imagePullPolicy"),
        ("core.v1", "ImageVolumeSource") => pull_policy(map, "reference", "pullPolicy"),
        ("core.v1", "Pod") => pod(map),
        ("core.v1", "PodSpec") => pod_spec(map),
        ("core.v1", "Volume") if map.len() <= 1 => {
            map.insert("emptyDir", Map::new());
        }
        ("core.v1", "ServiceSpec") => service_spec(map),
        ("core.v1", "LoadBalancerIngress") if !map.str("ip").is_empty() => or(map, "ipMode", "VIP"),
        // Volumes in attachments are not filled in.
        ("core.v1", "PersistentVolume") => {
            let spec = map.object("spec");
            or(spec, "volumeMode", "Filesystem");
            or(spec, "persistentVolumeReclaimPolicy", "Retain");
        }
        ("core.v1", "ReplicationController") => labels_of_template(map, true),
        ("core.v1", "Namespace") => {
            if let Some(name) = map.get("metadata").and_then(|m| m.get("name")).cloned() {
                map.object("metadata").object("labels").insert("kubernetes.io/metadata.name", name);
            }
        }
        ("core.v1", "NodeSpec") => pod_ranges(map),
        ("core.v1", "NodeStatus") => {
            if let Some(capacity) = map.get("capacity").cloned() {
                or(map, "allocatable", capacity);
            }
        }
        ("core.v1", "LimitRangeItem") => limit_range_item(map),
        // What `extensions/v1beta1` counted is an annotation now, and always there.
        ("apps.v1", "DaemonSet") => {
            or(map.object("metadata").object("annotations"), "deprecated.daemonset.template.generation", "0");
        }
        ("apps.v1", "DeploymentStrategy" | "DaemonSetUpdateStrategy" | "StatefulSetUpdateStrategy")
            if map.str("type") == "RollingUpdate" =>
        {
            or(map, "rollingUpdate", Map::new());
        }
        ("apps.v1", "StatefulSetSpec") => {
            or(map, "persistentVolumeClaimRetentionPolicy", Map::new());
            for claim in map.get_mut("volumeClaimTemplates").and_then(Value::as_array_mut).into_iter().flatten() {
                claim.set_at(&["apiVersion"], "v1");
                claim.set_at(&["kind"], "PersistentVolumeClaim");
            }
        }
        ("batch.v1", "Job") => labels_of_template(map, false),
        ("batch.v1", "JobSpec") => job_spec(map),
        ("storage.v1", "CSIDriverSpec") => or(map, "volumeLifecycleModes", vec!["Persistent"]),
        ("resource.v1", "ExactDeviceRequest" | "DeviceSubRequest") => {
            or(map, "allocationMode", "ExactCount");
            if map.str("allocationMode") == "ExactCount" {
                or(map, "count", 1);
            }
        }
        ("resource.v1", "DeviceTaint") => or(map, "timeAdded", time::now()),
        ("networking.v1", "NetworkPolicySpec") if map.get("policyTypes").is_none() => {
            let egress = map.get("egress").and_then(Value::as_array).is_some_and(|e| !e.is_empty());
            let types: &[&str] = if egress { &["Ingress", "Egress"] } else { &["Ingress"] };
            map.insert("policyTypes", types.to_vec());
        }
        ("rbac.v1", "Subject") if map.get("apiGroup").is_none() && matches!(map.str("kind"), "User" | "Group") => {
            map.insert("apiGroup", "rbac.authorization.k8s.io");
        }
        ("autoscaling.v1", "HorizontalPodAutoscaler")
            if !convert::has_metrics(map.get("metadata").and_then(|m| m.get("annotations"))) =>
        {
            or(map.object("spec"), "targetCPUUtilizationPercentage", 80);
        }
        ("autoscaling.v2", "HorizontalPodAutoscalerBehavior") => {
            let policy = |kind: &str, value: i64| {
                let mut policy = Map::from_iter([("type", kind)]);
                policy.insert("value", value);
                policy.insert("periodSeconds", 15);
                policy
            };
            let up = map.object("scaleUp");
            or(up, "stabilizationWindowSeconds", 0);
            or(up, "selectPolicy", "Max");
            or(up, "policies", vec![policy("Pods", 4), policy("Percent", 100)]);
            let down = map.object("scaleDown");
            or(down, "selectPolicy", "Max");
            or(down, "policies", vec![policy("Percent", 100)]);
        }
        ("autoscaling.v2", "HorizontalPodAutoscalerSpec") => {
            let none = map.get("metrics").and_then(Value::as_array).is_none_or(<[Value]>::is_empty);
            if none {
                let cpu = br#"[{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":80}}}]"#;
                map.insert("metrics", json::parse(cpu).unwrap_or_default());
            }
        }
        ("apiextensions.v1", "CustomResourceDefinition") => stored_version(map),
        ("apiextensions.v1", "CustomResourceDefinitionNames") => {
            let kind = map.str("kind").to_owned();
            if !kind.is_empty() {
                or(map, "singular", kind.to_lowercase());
                or(map, "listKind", format!("{kind}List"));
            }
        }
        _ => {}
    }
}

/// What is stored is stored in some version.
fn stored_version(map: &mut Map) {
    let spec = map.get("spec").cloned().unwrap_or_default();
    let Some(storage) = spec.list_at(&["versions"]).iter().find(|v| v.bool_at(&["storage"])) else { return };
    let name = Value::from(storage.str_at(&["name"]));
    let status = map.object("status");
    if status.get("storedVersions").and_then(Value::as_array).is_none_or(<[Value]>::is_empty) {
        status.insert("storedVersions", Value::Array(vec![name]));
    }
}

/// A node's range of addresses is the first of its ranges; where they differ, the one counts.
fn pod_ranges(map: &mut Map) {
    let first = map.get("podCIDRs").and_then(Value::as_array).and_then(|c| c.first()).cloned();
    match (map.get("podCIDR").cloned(), first) {
        (Some(one), first) if first.as_ref() != Some(&one) => drop(map.insert("podCIDRs", Value::Array(vec![one]))),
        (None, Some(first)) if first.as_str() != Some("") => drop(map.insert("podCIDR", first)),
        _ => {}
    }
}

/// `latest` (or no tag) is always pulled, any other tag when it is not there.
fn pull_policy(map: &mut Map, image: &str, policy: &str) {
    if map.get(policy).is_some() {
        return;
    }
    let image = map.str(image);
    let last = image.rsplit('/').next().unwrap_or_default();
    let latest = !image.contains('@') && last.split_once(':').is_none_or(|(_, tag)| tag == "latest");
    map.insert(policy, if latest { "Always" } else { "IfNotPresent" });
}

/// What only pods get, and pod templates do not.
fn pod(map: &mut Map) {
    let Some(spec) = map.get_mut("spec").and_then(Value::as_object_mut) else { return };
    or(spec, "enableServiceLinks", true);
    if spec.get("hostNetwork").and_then(Value::as_bool) == Some(true) {
        for list in ["initContainers", "containers"] {
            let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else { continue };
            for port in
                containers.iter_mut().filter_map(|c| c.at_mut(&["ports"])).filter_map(Value::as_array_mut).flatten()
            {
                if let (None, Some(number)) = (port.get("hostPort"), port.get("containerPort").cloned()) {
                    port.set_at(&["hostPort"], number);
                }
            }
        }
    }
    for list in ["initContainers", "containers"] {
        let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else { continue };
        for container in containers {
            let limits = container.at(&["resources", "limits"]).and_then(Value::as_object).cloned().unwrap_or_default();
            for (resource, amount) in limits {
                if container.at(&["resources", "requests", &resource]).is_none() {
                    container.set_at(&["resources", "requests", &resource], amount);
                }
            }
        }
    }
}

fn pod_spec(map: &mut Map) {
    // The old name of the field follows the new one.
    let (new, old) = (map.str("serviceAccountName").to_owned(), map.str("serviceAccount").to_owned());
    match (new.is_empty(), old.is_empty()) {
        (false, true) => drop(map.insert("serviceAccount", new)),
        (true, false) => drop(map.insert("serviceAccountName", old)),
        _ => {}
    }
}

fn service_spec(map: &mut Map) {
    if map.str("sessionAffinity") == "None" {
        map.remove("sessionAffinityConfig");
    }
    if map.get("sessionAffinity").and_then(Value::as_str) == Some("ClientIP")
        && map.get("sessionAffinityConfig").and_then(|c| c.at(&["clientIP", "timeoutSeconds"])).is_none()
    {
        let timeout = Map::from_iter([("timeoutSeconds", 10_800)]);
        map.object("sessionAffinityConfig").insert("clientIP", timeout);
    }
    let kind = map.str("type").to_owned();
    let external = matches!(kind.as_str(), "NodePort" | "LoadBalancer");
    let by_address = map.get("externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty());
    if external || (kind == "ClusterIP" && by_address) {
        or(map, "externalTrafficPolicy", "Cluster");
    }
    if external || kind == "ClusterIP" {
        or(map, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        or(map, "allocateLoadBalancerNodePorts", true);
    }
    for port in map.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let target = port.get("targetPort");
        let unset = match target {
            None => true,
            Some(Value::Int(0)) => true,
            Some(Value::String(text)) => text.is_empty(),
            _ => false,
        };
        if let (true, Some(number)) = (unset, port.get("port").cloned()) {
            port.set_at(&["targetPort"], number);
        }
    }
}

fn labels_of_template(map: &mut Map, selector_too: bool) {
    let labels = map.get("spec").and_then(|s| s.at(&["template", "metadata", "labels"])).cloned();
    let Some(labels) = labels.filter(|l| l.as_object().is_some_and(|l| !l.is_empty())) else { return };
    let own = map.get("metadata").and_then(|m| m.get("labels")).and_then(Value::as_object);
    if own.is_none_or(Map::is_empty) {
        map.object("metadata").insert("labels", labels.clone());
    }
    if selector_too && map.get("spec").and_then(|s| s.get("selector")).is_none() {
        map.object("spec").insert("selector", labels);
    }
}

fn job_spec(map: &mut Map) {
    match (map.get("completions").is_some(), map.get("parallelism").is_some()) {
        (false, false) => {
            map.insert("completions", 1);
            map.insert("parallelism", 1);
        }
        (true, false) => drop(map.insert("parallelism", 1)),
        _ => {}
    }
    let per_index = map.get("backoffLimitPerIndex").is_some();
    or(map, "backoffLimit", if per_index { i64::from(i32::MAX) } else { 6 });
    let policy = if map.get("podFailurePolicy").is_some() { "Failed" } else { "TerminatingOrFailed" };
    or(map, "podReplacementPolicy", policy);
}

fn limit_range_item(map: &mut Map) {
    if map.str("type") != "Container" {
        return;
    }
    let all = |map: &Map, name: &str| map.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    let valid = |v: &Value| v.as_str().is_some_and(|t| t.parse::<Quantity>().is_ok());
    for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
        for (resource, amount) in all(map, from) {
            if valid(&amount) && map.get(to).and_then(|m| m.get(&resource)).is_none() {
                map.object(to).insert(resource, amount);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_names_a_field() {
        for line in include_str!("defaults.txt").lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            let id = builtin().type_named(words[0]).unwrap_or_else(|| panic!("{line}"));
            assert!(builtin().field(id, words[1]).is_some(), "{line}");
            assert!(json::parse(words[2].as_bytes()).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_pod_gets_its_defaults() {
        let id = builtin().type_named("core.v1.Pod").unwrap();
        let text = br#"{"spec":{"containers":[{"name":"a","image":"x:1","resources":{"limits":{"cpu":"1"}}}]}}"#;
        let mut pod = json::parse(text).unwrap();
        apply(id, &mut pod);
        assert_eq!(pod.str_at(&["spec", "restartPolicy"]), "Always");
        let container = &pod.list_at(&["spec", "containers"])[0];
        assert_eq!(container.str_at(&["imagePullPolicy"]), "IfNotPresent");
        assert_eq!(container.str_at(&["resources", "requests", "cpu"]), "1");
    }
}
