//! Rows of the core group, and of events.

use super::{UNSET, containers, count, int, joined, joined_some, or_none, pod, selector};
use crate::human;
use std::collections::BTreeSet;
use trireme_schema::{Map, Value};

pub(super) fn cell(kind: &str, column: &str, o: &Value) -> Value {
    const TEMPLATE: [&str; 4] = ["spec", "template", "spec", "containers"];
    const OWN: [&str; 3] = ["template", "spec", "containers"];
    match (kind, column) {
        ("Pod", _) => pod::cell(column, o),
        ("Node", _) => node(column, o),
        ("Service", _) => service(column, o),
        ("Event", _) => event(column, o),
        ("PersistentVolumeClaim" | "PersistentVolume", _) => volume(kind, column, o),
        ("Endpoints", "Endpoints") => endpoints(o),
        ("ResourceQuota", "Request" | "Limit") => quota(column, o),
        ("Namespace", "Status") => o.str_at(&["status", "phase"]).into(),
        ("ConfigMap" | "Secret", "Data") => {
            let n =
                [o.get("data"), o.get("binaryData")].into_iter().map(|v| count(v).as_int().unwrap_or(0)).sum::<i64>();
            n.into()
        }
        ("Secret", "Type") => o.str_at(&["type"]).into(),
        ("ServiceAccount", "Secrets") => count(o.get("secrets")),
        ("ReplicationController", "Desired") => int(o, &["spec", "replicas"]),
        ("ReplicationController", "Current") => int(o, &["status", "replicas"]),
        ("ReplicationController", "Ready") => int(o, &["status", "readyReplicas"]),
        ("ReplicationController", "Containers") => containers(o, &TEMPLATE, "name"),
        ("ReplicationController", "Images") => containers(o, &TEMPLATE, "image"),
        ("ReplicationController", "Selector") => selector(o.at(&["spec", "selector"])),
        ("PodTemplate", "Containers") => containers(o, &OWN, "name"),
        ("PodTemplate", "Images") => containers(o, &OWN, "image"),
        ("PodTemplate", "Pod Labels") => selector(o.at(&["template", "metadata", "labels"])),
        _ => Value::from(""),
    }
}

fn quota(column: &str, o: &Value) -> Value {
    let hard = o.at(&["status", "hard"]).and_then(Value::as_object);
    let limits = column == "Limit";
    let parts =
        hard.into_iter().flat_map(Map::iter).filter(|(k, _)| k.starts_with("limits.") == limits).map(|(k, v)| {
            let used = o.str_at(&["status", "used", k]);
            format!("{k}: {}/{}", if used.is_empty() { "0" } else { used }, v.as_str().unwrap_or_default())
        });
    parts.collect::<Vec<_>>().join(", ").into()
}

fn node(column: &str, o: &Value) -> Value {
    let address = |kind: &str| {
        let found = o.list_at(&["status", "addresses"]).iter().find(|a| a.str_at(&["type"]) == kind);
        or_none(found.map_or("", |a| a.str_at(&["address"])))
    };
    let info = |field: &str| match o.str_at(&["status", "nodeInfo", field]) {
        "" => Value::from("<unknown>"),
        text => text.into(),
    };
    match column {
        "Status" => {
            let ready = o.list_at(&["status", "conditions"]).iter().find(|c| c.str_at(&["type"]) == "Ready");
            let mut text = match ready.map(|c| c.str_at(&["status"])) {
                Some("True") => "Ready".to_owned(),
                Some(_) => "NotReady".to_owned(),
                None => "Unknown".to_owned(),
            };
            if o.bool_at(&["spec", "unschedulable"]) {
                text.push_str(",SchedulingDisabled");
            }
            text.into()
        }
        "Roles" => {
            let labels = o.at(&["metadata", "labels"]).and_then(Value::as_object);
            let mut roles: Vec<&str> = Vec::new();
            for (key, value) in labels.into_iter().flat_map(Map::iter) {
                match key.strip_prefix("node-role.kubernetes.io/") {
                    Some(role) if !role.is_empty() => roles.push(role),
                    None if key == "kubernetes.io/role" => roles.push(value.as_str().unwrap_or_default()),
                    _ => {}
                }
            }
            roles.sort_unstable();
            roles.dedup();
            or_none(&roles.join(","))
        }
        "Version" => o.str_at(&["status", "nodeInfo", "kubeletVersion"]).into(),
        "Internal-IP" => address("InternalIP"),
        "External-IP" => address("ExternalIP"),
        "OS-Image" => info("osImage"),
        "Kernel-Version" => match o.str_at(&["status", "nodeInfo", "architecture"]) {
            "" => info("kernelVersion"),
            architecture => format!("{} ({architecture})", info("kernelVersion").as_str().unwrap_or_default()).into(),
        },
        "Container-Runtime" => info("containerRuntimeVersion"),
        _ => Value::from(""),
    }
}

/// The addresses of a load balancer, in order.
pub(super) fn load_balancer(o: &Value) -> String {
    let ingress = o.list_at(&["status", "loadBalancer", "ingress"]).iter();
    let addresses: BTreeSet<&str> = ingress
        .map(|i| match i.str_at(&["ip"]) {
            "" => i.str_at(&["hostname"]),
            ip => ip,
        })
        .filter(|a| !a.is_empty())
        .collect();
    joined(addresses.into_iter())
}

fn service(column: &str, o: &Value) -> Value {
    let kind = o.str_at(&["spec", "type"]);
    match column {
        "Type" => kind.into(),
        "Selector" => selector(o.at(&["spec", "selector"])),
        "Cluster-IP" => or_none(o.str_at(&["spec", "clusterIP"])),
        "External-IP" => {
            let own = joined(o.list_at(&["spec", "externalIPs"]).iter().filter_map(Value::as_str));
            match kind {
                "LoadBalancer" => {
                    let all =
                        [load_balancer(o), own].into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>().join(",");
                    if all.is_empty() { "<pending>".into() } else { all.into() }
                }
                "ExternalName" => o.str_at(&["spec", "externalName"]).into(),
                _ => or_none(&own),
            }
        }
        "Port(s)" => {
            let port = |p: &Value| {
                let (n, protocol) = (p.int_at(&["port"]).unwrap_or_default(), p.str_at(&["protocol"]));
                match p.int_at(&["nodePort"]).filter(|n| *n > 0) {
                    Some(node) => format!("{n}:{node}/{protocol}"),
                    None => format!("{n}/{protocol}"),
                }
            };
            or_none(&o.list_at(&["spec", "ports"]).iter().map(port).collect::<Vec<_>>().join(","))
        }
        _ => Value::from(""),
    }
}

fn event(column: &str, o: &Value) -> Value {
    let first_of =
        |fields: &[&str]| fields.iter().map(|f| o.str_at(&[f])).find(|t| !t.is_empty()).unwrap_or_default().to_owned();
    let regarding = o.get("involvedObject").or_else(|| o.get("regarding")).cloned().unwrap_or_default();
    let source = o.get("source").or_else(|| o.get("deprecatedSource")).cloned().unwrap_or_default();
    let series = |field: &str| o.str_at(&["series", field]).to_owned();
    match column {
        "Last Seen" => {
            let last = match series("lastObservedTime") {
                text if text.is_empty() => {
                    first_of(&["lastTimestamp", "deprecatedLastTimestamp", "eventTime", "firstTimestamp"])
                }
                text => text,
            };
            human::age(&last).into()
        }
        "First Seen" => human::age(&first_of(&["firstTimestamp", "deprecatedFirstTimestamp", "eventTime"])).into(),
        "Type" => o.str_at(&["type"]).into(),
        "Reason" => o.str_at(&["reason"]).into(),
        "Object" => match regarding.str_at(&["kind"]) {
            "" => regarding.str_at(&["name"]).into(),
            kind => format!("{}/{}", kind.to_lowercase(), regarding.str_at(&["name"])).into(),
        },
        "Subobject" => regarding.str_at(&["fieldPath"]).into(),
        "Source" => {
            let reporting = ["reportingComponent", "reportingController"];
            let (component, host) = match (source.str_at(&["component"]), source.str_at(&["host"])) {
                ("", "") => (first_of(&reporting), o.str_at(&["reportingInstance"])),
                (component, host) => (component.to_owned(), host),
            };
            (if host.is_empty() { component } else { format!("{component}, {host}") }).into()
        }
        "Message" => first_of(&["message", "note"]).trim().into(),
        "Count" => {
            let n = o
                .int_at(&["series", "count"])
                .or_else(|| o.int_at(&["count"]))
                .or_else(|| o.int_at(&["deprecatedCount"]));
            n.filter(|n| *n > 0).unwrap_or(1).into()
        }
        _ => Value::from(""),
    }
}

fn endpoints(o: &Value) -> Value {
    let mut all = Vec::new();
    for subset in o.list_at(&["subsets"]) {
        let ports = subset.list_at(&["ports"]);
        for address in subset.list_at(&["addresses"]) {
            let ip = address.str_at(&["ip"]);
            if ports.is_empty() {
                all.push(ip.to_owned());
            }
            for port in ports {
                let n = port.int_at(&["port"]).unwrap_or_default();
                all.push(if ip.contains(':') { format!("[{ip}]:{n}") } else { format!("{ip}:{n}") });
            }
        }
    }
    or_none(&joined_some(all.into_iter(), 3, ","))
}

fn volume(kind: &str, column: &str, o: &Value) -> Value {
    let modes = |path: &[&str]| {
        let short = |m: &str| match m {
            "ReadWriteOnce" => "RWO",
            "ReadOnlyMany" => "ROX",
            "ReadWriteMany" => "RWX",
            "ReadWriteOncePod" => "RWOP",
            _ => "",
        };
        joined(o.list_at(path).iter().filter_map(Value::as_str).map(short))
    };
    let claim = kind == "PersistentVolumeClaim";
    match column {
        "Status" if o.at(&["metadata", "deletionTimestamp"]).is_some() => "Terminating".into(),
        "Status" => o.str_at(&["status", "phase"]).into(),
        "Volume" => o.str_at(&["spec", "volumeName"]).into(),
        "Capacity" | "Access Modes" if claim && o.str_at(&["spec", "volumeName"]).is_empty() => "".into(),
        "Capacity" if claim => match o.str_at(&["status", "capacity", "storage"]) {
            "" => "0".into(),
            size => size.into(),
        },
        "Capacity" => o.str_at(&["spec", "capacity", "storage"]).into(),
        "Access Modes" if claim => modes(&["status", "accessModes"]).into(),
        "Access Modes" => modes(&["spec", "accessModes"]).into(),
        "StorageClass" => match o.str_at(&["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]) {
            "" => o.str_at(&["spec", "storageClassName"]).into(),
            class => class.into(),
        },
        "VolumeAttributesClass" => match o.str_at(&["spec", "volumeAttributesClassName"]) {
            "" => UNSET.into(),
            name => name.into(),
        },
        "VolumeMode" => match o.str_at(&["spec", "volumeMode"]) {
            "" => UNSET.into(),
            mode => mode.into(),
        },
        "Reclaim Policy" => o.str_at(&["spec", "persistentVolumeReclaimPolicy"]).into(),
        "Claim" => match o.at(&["spec", "claimRef"]) {
            Some(c) => format!("{}/{}", c.str_at(&["namespace"]), c.str_at(&["name"])).into(),
            None => "".into(),
        },
        "Reason" => o.str_at(&["status", "reason"]).into(),
        _ => Value::from(""),
    }
}
