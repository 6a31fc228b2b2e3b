//! Tables: the cells that `kubectl get` prints. Which columns a kind has, the schema says; here is what stands in them.

mod autoscaler;

use crate::catalogue::Served;
use crate::convert;
use crate::human;
use trireme_schema::{Map, Value};

/// Column definitions of a kind.
pub fn columns(served: &Served) -> Value {
    let column = |c: &trireme_schema::Column| {
        let mut map = Map::from_iter([
            ("name", c.name.as_str()),
            ("type", c.kind.as_str()),
            ("format", c.format.as_str()),
            ("description", ""),
        ]);
        map.insert("priority", i64::from(c.wide));
        Value::Object(map)
    };
    Value::Array(served.resource.columns.iter().map(column).collect())
}

/// The cells of an object.
pub fn cells(served: &Served, object: &Value) -> Vec<Value> {
    let object = &*convert::meant(served, object);
    let of = |c: &trireme_schema::Column| match c.name.as_str() {
        "Name" if served.kind() != "Event" || c.format == "name" => object.str_at(&["metadata", "name"]).into(),
        "Age" => human::age(object.str_at(&["metadata", "creationTimestamp"])).into(),
        "Created At" => object.str_at(&["metadata", "creationTimestamp"]).into(),
        name => cell(served.kind(), name, object),
    };
    served.resource.columns.iter().map(of).collect()
}

const NONE: &str = "<none>";

fn or_none(text: &str) -> Value {
    if text.is_empty() { NONE.into() } else { text.into() }
}

fn int(object: &Value, path: &[&str]) -> Value {
    object.int_at(path).unwrap_or_default().into()
}

fn count(value: Option<&Value>) -> Value {
    let n = match value {
        Some(Value::Array(items)) => items.len(),
        Some(Value::Object(map)) => map.len(),
        _ => 0,
    };
    Value::Int(n as i64)
}

fn joined<'a>(items: impl Iterator<Item = &'a str>) -> String {
    items.collect::<Vec<_>>().join(",")
}

/// `a=b,c=d`, and expressions, as selectors are shown.
fn selector(value: Option<&Value>) -> Value {
    let Some(value) = value else { return NONE.into() };
    let labels = value.get("matchLabels").or(if value.get("matchExpressions").is_some() { None } else { Some(value) });
    let mut parts: Vec<String> = labels
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::iter)
        .filter_map(|(k, v)| v.as_str().map(|v| format!("{k}={v}")))
        .collect();
    for e in value.list_at(&["matchExpressions"]) {
        let (key, values) = (e.str_at(&["key"]), joined(e.list_at(&["values"]).iter().filter_map(Value::as_str)));
        parts.push(match e.str_at(&["operator"]) {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    if parts.is_empty() { NONE.into() } else { parts.join(",").into() }
}

fn containers(object: &Value, path: &[&str], field: &str) -> Value {
    joined(object.list_at(path).iter().map(|c| c.str_at(&[field]))).into()
}

fn cell(kind: &str, column: &str, o: &Value) -> Value {
    const TEMPLATE: [&str; 4] = ["spec", "template", "spec", "containers"];
    match (kind, column) {
        (_, "Containers") => containers(o, &TEMPLATE, "name"),
        (_, "Images") => containers(o, &TEMPLATE, "image"),
        ("Service", "Selector") => selector(o.at(&["spec", "selector"])),
        ("Deployment" | "ReplicaSet" | "DaemonSet" | "StatefulSet" | "ReplicationController" | "Job", "Selector") => {
            selector(o.at(&["spec", "selector"]))
        }
        ("Pod", _) => pod(column, o),
        ("Node", _) => node(column, o),
        ("Service", _) => service(column, o),
        ("Namespace", "Status") => o.str_at(&["status", "phase"]).into(),
        ("ConfigMap" | "Secret", "Data") => {
            let n =
                [o.get("data"), o.get("binaryData")].into_iter().map(|v| count(v).as_int().unwrap_or(0)).sum::<i64>();
            n.into()
        }
        ("Secret", "Type") => o.str_at(&["type"]).into(),
        ("ServiceAccount", "Secrets") => count(o.get("secrets")),
        ("Deployment", "Ready") => {
            let ready = o.int_at(&["status", "readyReplicas"]).unwrap_or_default();
            format!("{ready}/{}", o.int_at(&["spec", "replicas"]).unwrap_or_default()).into()
        }
        ("StatefulSet", "Ready") => {
            let ready = o.int_at(&["status", "readyReplicas"]).unwrap_or_default();
            format!("{ready}/{}", o.int_at(&["spec", "replicas"]).unwrap_or_default()).into()
        }
        ("Deployment", "Up-to-date") => int(o, &["status", "updatedReplicas"]),
        ("Deployment", "Available") => int(o, &["status", "availableReplicas"]),
        ("ReplicaSet" | "ReplicationController", "Desired") => int(o, &["spec", "replicas"]),
        ("ReplicaSet" | "ReplicationController", "Current") => int(o, &["status", "replicas"]),
        ("ReplicaSet" | "ReplicationController", "Ready") => int(o, &["status", "readyReplicas"]),
        ("DaemonSet", "Desired") => int(o, &["status", "desiredNumberScheduled"]),
        ("DaemonSet", "Current") => int(o, &["status", "currentNumberScheduled"]),
        ("DaemonSet", "Ready") => int(o, &["status", "numberReady"]),
        ("DaemonSet", "Up-to-date") => int(o, &["status", "updatedNumberScheduled"]),
        ("DaemonSet", "Available") => int(o, &["status", "numberAvailable"]),
        ("DaemonSet", "Node Selector") => selector(o.at(&["spec", "template", "spec", "nodeSelector"])),
        ("Job", _) => job(column, o),
        ("CronJob", "Schedule") => o.str_at(&["spec", "schedule"]).into(),
        ("CronJob", "Timezone") => or_none(o.str_at(&["spec", "timeZone"])),
        ("CronJob", "Suspend") => (if o.bool_at(&["spec", "suspend"]) { "True" } else { "False" }).into(),
        ("CronJob", "Active") => count(o.at(&["status", "active"])),
        ("CronJob", "Last Schedule") => match o.str_at(&["status", "lastScheduleTime"]) {
            "" => NONE.into(),
            at => human::age(at).into(),
        },
        ("Event", _) => event(column, o),
        ("Endpoints", "Endpoints") => endpoints(o),
        ("EndpointSlice", "AddressType") => o.str_at(&["addressType"]).into(),
        ("EndpointSlice", "Ports") => {
            let ports = o.list_at(&["ports"]);
            let shown = joined_some(ports.iter().map(|p| p.int_at(&["port"]).map_or("*".into(), |n| n.to_string())), 3);
            if ports.is_empty() { "<unset>".into() } else { shown.into() }
        }
        ("EndpointSlice", "Endpoints") => {
            let all = o.list_at(&["endpoints"]);
            let addresses =
                all.iter().flat_map(|e| e.list_at(&["addresses"])).filter_map(Value::as_str).map(str::to_owned);
            if all.is_empty() { "<unset>".into() } else { joined_some(addresses, 3).into() }
        }
        ("PersistentVolumeClaim", _) | ("PersistentVolume", _) => volume(kind, column, o),
        ("StorageClass", "Provisioner") => o.str_at(&["provisioner"]).into(),
        ("StorageClass", "ReclaimPolicy") => o.str_at(&["reclaimPolicy"]).into(),
        ("StorageClass", "VolumeBindingMode") => o.str_at(&["volumeBindingMode"]).into(),
        ("StorageClass", "AllowVolumeExpansion") => o.bool_at(&["allowVolumeExpansion"]).into(),
        ("Ingress", "Class") => or_none(o.str_at(&["spec", "ingressClassName"])),
        ("Ingress", "Hosts") => {
            let hosts: Vec<&str> =
                o.list_at(&["spec", "rules"]).iter().map(|r| r.str_at(&["host"])).filter(|h| !h.is_empty()).collect();
            if hosts.is_empty() { "*".into() } else { hosts.join(",").into() }
        }
        ("Ingress", "Address") => load_balancer(o).into(),
        ("Ingress", "Ports") => (if o.list_at(&["spec", "tls"]).is_empty() { "80" } else { "80, 443" }).into(),
        ("IngressClass", "Controller") => o.str_at(&["spec", "controller"]).into(),
        ("NetworkPolicy", "Pod-Selector") => selector(o.at(&["spec", "podSelector"])),
        ("RoleBinding" | "ClusterRoleBinding", "Role") => {
            format!("{}/{}", o.str_at(&["roleRef", "kind"]), o.str_at(&["roleRef", "name"])).into()
        }
        ("RoleBinding" | "ClusterRoleBinding", "Users" | "Groups" | "ServiceAccounts") => {
            let wanted = column.trim_end_matches('s');
            let of_kind = o.list_at(&["subjects"]).iter().filter(|s| s.str_at(&["kind"]) == wanted);
            let names: Vec<String> = of_kind
                .map(|s| match wanted {
                    "ServiceAccount" => format!("{}/{}", s.str_at(&["namespace"]), s.str_at(&["name"])),
                    _ => s.str_at(&["name"]).to_owned(),
                })
                .collect();
            names.join(", ").into()
        }
        ("Lease", "Holder") => o.str_at(&["spec", "holderIdentity"]).into(),
        ("PriorityClass", "Value") => int(o, &["value"]),
        ("PriorityClass", "Global-Default") => o.bool_at(&["globalDefault"]).into(),
        ("PriorityClass", "PreemptionPolicy") => o.str_at(&["preemptionPolicy"]).into(),
        ("PodDisruptionBudget", "Min Available") => amount(o.at(&["spec", "minAvailable"])),
        ("PodDisruptionBudget", "Max Unavailable") => amount(o.at(&["spec", "maxUnavailable"])),
        ("PodDisruptionBudget", "Allowed Disruptions") => int(o, &["status", "disruptionsAllowed"]),
        ("HorizontalPodAutoscaler", "Reference") => {
            let target = |f| o.str_at(&["spec", "scaleTargetRef", f]);
            format!("{}/{}", target("kind"), target("name")).into()
        }
        ("HorizontalPodAutoscaler", "Targets") => autoscaler::targets(o).into(),
        ("HorizontalPodAutoscaler", "MinPods") => {
            o.int_at(&["spec", "minReplicas"]).map_or("<unset>".into(), |n| n.to_string().into())
        }
        ("HorizontalPodAutoscaler", "MaxPods") => int(o, &["spec", "maxReplicas"]),
        ("HorizontalPodAutoscaler", "Replicas") => int(o, &["status", "currentReplicas"]),
        ("CertificateSigningRequest", "SignerName") => o.str_at(&["spec", "signerName"]).into(),
        ("CertificateSigningRequest", "Requestor") => o.str_at(&["spec", "username"]).into(),
        ("CertificateSigningRequest", "RequestedDuration") => {
            o.int_at(&["spec", "expirationSeconds"]).map_or(NONE.into(), |s| human::duration(s).into())
        }
        ("CertificateSigningRequest", "Condition") => {
            let types = o.list_at(&["status", "conditions"]).iter().map(|c| c.str_at(&["type"]));
            let mut states: Vec<&str> = types.collect();
            if states.is_empty() {
                states.push("Pending");
            }
            if !o.str_at(&["status", "certificate"]).is_empty() {
                states.push("Issued");
            }
            states.join(",").into()
        }
        ("ControllerRevision", "Controller") => {
            let owner = o.list_at(&["metadata", "ownerReferences"]).iter().find(|r| r.bool_at(&["controller"]));
            owner.map_or(NONE.into(), |r| {
                format!("{}/{}", r.str_at(&["kind"]).to_lowercase(), r.str_at(&["name"])).into()
            })
        }
        ("ControllerRevision", "Revision") => int(o, &["revision"]),
        ("ServiceCIDR", "CIDRs") => joined(o.list_at(&["spec", "cidrs"]).iter().filter_map(Value::as_str)).into(),
        ("RuntimeClass", "Handler") => o.str_at(&["handler"]).into(),
        ("ResourceQuota", "Request" | "Limit") => quota(column, o),
        ("APIService", "Service") => match o.at(&["spec", "service"]) {
            Some(s) => format!("{}/{}", s.str_at(&["namespace"]), s.str_at(&["name"])).into(),
            None => "Local".into(),
        },
        ("APIService", "Available") => {
            let conditions = o.list_at(&["status", "conditions"]);
            conditions
                .iter()
                .find(|c| c.str_at(&["type"]) == "Available")
                .map_or("".into(), |c| c.str_at(&["status"]).into())
        }
        _ => Value::from(""),
    }
}

fn amount(value: Option<&Value>) -> Value {
    match value {
        Some(Value::Int(n)) => n.to_string().into(),
        Some(Value::String(text)) => text.as_str().into(),
        _ => "N/A".into(),
    }
}

fn joined_some(items: impl Iterator<Item = String>, most: usize) -> String {
    let all: Vec<String> = items.collect();
    let shown = all.iter().take(most).cloned().collect::<Vec<_>>().join(",");
    if all.len() > most { format!("{shown} + {} more...", all.len() - most) } else { shown }
}

fn quota(column: &str, o: &Value) -> Value {
    let hard = o.at(&["status", "hard"]).or_else(|| o.at(&["spec", "hard"])).and_then(Value::as_object);
    let limits = column == "Limit";
    let parts =
        hard.into_iter().flat_map(Map::iter).filter(|(k, _)| k.starts_with("limits.") == limits).map(|(k, v)| {
            let used = o.str_at(&["status", "used", k]);
            format!("{k}: {}/{}", if used.is_empty() { "0" } else { used }, v.as_str().unwrap_or_default())
        });
    parts.collect::<Vec<_>>().join(", ").into()
}

fn pod(column: &str, o: &Value) -> Value {
    match column {
        "Ready" => {
            let statuses = o.list_at(&["status", "containerStatuses"]);
            let sidecar = |name: &str| {
                o.list_at(&["spec", "initContainers"])
                    .iter()
                    .any(|c| c.str_at(&["name"]) == name && c.str_at(&["restartPolicy"]) == "Always")
            };
            let side: Vec<&Value> = o
                .list_at(&["status", "initContainerStatuses"])
                .iter()
                .filter(|s| sidecar(s.str_at(&["name"])))
                .collect();
            let sides = o
                .list_at(&["spec", "initContainers"])
                .iter()
                .filter(|c| c.str_at(&["restartPolicy"]) == "Always")
                .count();
            let ready =
                statuses.iter().filter(|s| s.bool_at(&["ready"]) && s.at(&["state", "running"]).is_some()).count()
                    + side.iter().filter(|s| s.bool_at(&["ready"])).count();
            format!("{ready}/{}", o.list_at(&["spec", "containers"]).len() + sides).into()
        }
        "Status" => pod_reason(o).into(),
        "Restarts" => {
            let all = || {
                o.list_at(&["status", "containerStatuses"])
                    .iter()
                    .chain(o.list_at(&["status", "initContainerStatuses"]))
            };
            let restarts: i64 = all().filter_map(|s| s.int_at(&["restartCount"])).sum();
            let last = all().map(|s| s.str_at(&["lastState", "terminated", "finishedAt"])).max().unwrap_or_default();
            if restarts > 0 && !last.is_empty() {
                format!("{restarts} ({} ago)", human::age(last)).into()
            } else {
                restarts.to_string().into()
            }
        }
        "IP" => or_none(o.str_at(&["status", "podIP"])),
        "Node" => or_none(o.str_at(&["spec", "nodeName"])),
        "Nominated Node" => or_none(o.str_at(&["status", "nominatedNodeName"])),
        "Readiness Gates" => {
            let gates = o.list_at(&["spec", "readinessGates"]);
            if gates.is_empty() {
                return NONE.into();
            }
            let holds = |g: &&Value| {
                o.list_at(&["status", "conditions"])
                    .iter()
                    .any(|c| c.str_at(&["type"]) == g.str_at(&["conditionType"]) && c.str_at(&["status"]) == "True")
            };
            format!("{}/{}", gates.iter().filter(holds).count(), gates.len()).into()
        }
        _ => Value::from(""),
    }
}

/// One word for the state of a pod.
fn pod_reason(o: &Value) -> String {
    let phase = o.str_at(&["status", "phase"]);
    let mut reason = match o.str_at(&["status", "reason"]) {
        "" => phase.to_owned(),
        reason => reason.to_owned(),
    };
    if o.list_at(&["status", "conditions"])
        .iter()
        .any(|c| c.str_at(&["type"]) == "PodScheduled" && c.str_at(&["reason"]) == "SchedulingGated")
    {
        reason = "SchedulingGated".into();
    }
    let ended = |t: &Value| match (t.str_at(&["reason"]), t.int_at(&["signal"]).unwrap_or_default()) {
        ("", 0) => format!("ExitCode:{}", t.int_at(&["exitCode"]).unwrap_or_default()),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    };
    let inits = o.list_at(&["spec", "initContainers"]);
    let mut initializing = false;
    for (i, status) in o.list_at(&["status", "initContainerStatuses"]).iter().enumerate() {
        let state = status.get("state");
        let spec = inits.iter().find(|c| c.str_at(&["name"]) == status.str_at(&["name"]));
        let sidecar = spec.is_some_and(|c| c.str_at(&["restartPolicy"]) == "Always");
        if let Some(t) = state.and_then(|s| s.get("terminated")) {
            if t.int_at(&["exitCode"]).unwrap_or_default() == 0 {
                continue;
            }
            reason = format!("Init:{}", ended(t));
        } else if sidecar && status.bool_at(&["started"]) {
            continue;
        } else if let Some(w) = state
            .and_then(|s| s.get("waiting"))
            .map(|w| w.str_at(&["reason"]))
            .filter(|w| !w.is_empty() && *w != "PodInitializing")
        {
            reason = format!("Init:{w}");
        } else {
            reason = format!("Init:{i}/{}", inits.len());
        }
        initializing = true;
        break;
    }
    if !initializing {
        let mut running = false;
        for status in o.list_at(&["status", "containerStatuses"]).iter().rev() {
            let waiting = status.str_at(&["state", "waiting", "reason"]);
            if !waiting.is_empty() {
                reason = waiting.to_owned();
            } else if let Some(t) = status.at(&["state", "terminated"]) {
                reason = ended(t);
            } else if status.bool_at(&["ready"]) && status.at(&["state", "running"]).is_some() {
                running = true;
            }
        }
        if reason == "Completed" && running {
            let ready = o
                .list_at(&["status", "conditions"])
                .iter()
                .any(|c| c.str_at(&["type"]) == "Ready" && c.str_at(&["status"]) == "True");
            reason = if ready { "Running" } else { "NotReady" }.into();
        }
    }
    if o.at(&["metadata", "deletionTimestamp"]).is_some() {
        if o.str_at(&["status", "reason"]) == "NodeLost" {
            return "Unknown".into();
        }
        if !matches!(phase, "Failed" | "Succeeded") {
            return "Terminating".into();
        }
    }
    reason
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
        "Version" => info("kubeletVersion"),
        "Internal-IP" => address("InternalIP"),
        "External-IP" => address("ExternalIP"),
        "OS-Image" => info("osImage"),
        "Kernel-Version" => info("kernelVersion"),
        "Container-Runtime" => info("containerRuntimeVersion"),
        _ => Value::from(""),
    }
}

fn load_balancer(o: &Value) -> String {
    let ingress = o.list_at(&["status", "loadBalancer", "ingress"]).iter();
    joined(ingress.map(|i| match i.str_at(&["ip"]) {
        "" => i.str_at(&["hostname"]),
        ip => ip,
    }))
}

fn service(column: &str, o: &Value) -> Value {
    let kind = o.str_at(&["spec", "type"]);
    match column {
        "Type" => kind.into(),
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

fn job(column: &str, o: &Value) -> Value {
    let condition = |kind: &str| {
        o.list_at(&["status", "conditions"])
            .iter()
            .any(|c| c.str_at(&["type"]) == kind && c.str_at(&["status"]) == "True")
    };
    match column {
        "Status" => (if condition("Complete") {
            "Complete"
        } else if condition("Failed") {
            "Failed"
        } else if o.at(&["metadata", "deletionTimestamp"]).is_some() {
            "Terminating"
        } else if condition("Suspended") {
            "Suspended"
        } else if condition("FailureTarget") {
            "FailureTarget"
        } else if condition("SuccessCriteriaMet") {
            "SuccessCriteriaMet"
        } else {
            "Running"
        })
        .into(),
        "Completions" => {
            let done = o.int_at(&["status", "succeeded"]).unwrap_or_default();
            match (o.int_at(&["spec", "completions"]), o.int_at(&["spec", "parallelism"]).unwrap_or_default()) {
                (Some(n), _) => format!("{done}/{n}").into(),
                (None, p) if p > 1 => format!("{done}/1 of {p}").into(),
                (None, _) => format!("{done}/1").into(),
            }
        }
        "Duration" => {
            let at = |f| o.str_at(&["status", f]).parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second);
            match (at("startTime"), at("completionTime")) {
                (None, _) => "".into(),
                (Some(start), Some(end)) => human::duration(end - start).into(),
                (Some(start), None) => human::duration(jiff::Timestamp::now().as_second() - start).into(),
            }
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
        "Object" => format!("{}/{}", regarding.str_at(&["kind"]).to_lowercase(), regarding.str_at(&["name"])).into(),
        "Subobject" => regarding.str_at(&["fieldPath"]).into(),
        "Source" => {
            let (component, host) = (source.str_at(&["component"]), source.str_at(&["host"]));
            let component = match component {
                "" => first_of(&["reportingComponent", "reportingController"]),
                text => text.to_owned(),
            };
            (if host.is_empty() { component } else { format!("{component}, {host}") }).into()
        }
        "Message" => first_of(&["message", "note"]).trim().into(),
        "Count" => {
            let n = o
                .int_at(&["series", "count"])
                .or_else(|| o.int_at(&["count"]))
                .or_else(|| o.int_at(&["deprecatedCount"]));
            n.filter(|n| *n > 0).unwrap_or(1).to_string().into()
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
    or_none(&joined_some(all.into_iter(), 3))
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
        "Capacity" if claim => o.str_at(&["status", "capacity", "storage"]).into(),
        "Capacity" => o.str_at(&["spec", "capacity", "storage"]).into(),
        "Access Modes" if claim => modes(&["status", "accessModes"]).into(),
        "Access Modes" => modes(&["spec", "accessModes"]).into(),
        "StorageClass" => o.str_at(&["spec", "storageClassName"]).into(),
        "VolumeAttributesClass" => match o.str_at(&["spec", "volumeAttributesClassName"]) {
            "" => "<unset>".into(),
            name => name.into(),
        },
        "VolumeMode" => match o.str_at(&["spec", "volumeMode"]) {
            "" => "<unset>".into(),
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
