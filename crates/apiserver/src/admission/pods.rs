//! Plugins about pods and nodes: ServiceAccount, Priority, DefaultTolerationSeconds, TaintNodesByCondition, RuntimeClass.

use super::{Attributes, Operation};
use trireme_schema::{Map, Status, Value, json};

fn is_new_pod(attributes: &Attributes<'_>) -> bool {
    attributes.operation == Operation::Create && attributes.is("", "pods", "")
}

/// TaintNodesByCondition: a new node takes no pods before it is ready.
pub(super) fn taint_new_node(attributes: &Attributes<'_>, object: &mut Value) {
    if attributes.operation != Operation::Create || !attributes.is("", "nodes", "") {
        return;
    }
    const TAINT: &str = "node.kubernetes.io/not-ready";
    let there = object.list_at(&["spec", "taints"]).iter().any(|t| t.str_at(&["key"]) == TAINT);
    if !there {
        let mut taints = object.list_at(&["spec", "taints"]).to_vec();
        taints.push(Value::Object(Map::from_iter([("key", TAINT), ("effect", "NoSchedule")])));
        object.set_at(&["spec", "taints"], Value::Array(taints));
    }
}

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// ServiceAccount: every pod runs as one, and gets its token.
pub(super) fn service_account(attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
    if !is_new_pod(attributes) {
        return Ok(());
    }
    let refuse = |object: &Value, why: &str| Err(attributes.forbidden(object, why));
    if object.at(&["metadata", "annotations", "kubernetes.io/config.mirror"]).is_some() {
        if !object.str_at(&["spec", "serviceAccountName"]).is_empty() {
            return refuse(object, "a mirror pod may not reference service accounts");
        }
        return Ok(());
    }
    if object.str_at(&["spec", "serviceAccountName"]).is_empty() {
        object.set_at(&["spec", "serviceAccountName"], "default");
    }
    let name = object.str_at(&["spec", "serviceAccountName"]).to_owned();
    object.set_at(&["spec", "serviceAccount"], name.as_str());
    let namespace = &attributes.target.namespace;
    let Some(account) = attributes.server.read("", "serviceaccounts", namespace, &name) else {
        let why = format!("error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found");
        return refuse(object, &why);
    };
    if object.list_at(&["spec", "imagePullSecrets"]).is_empty() {
        let secrets = account.list_at(&["imagePullSecrets"]).to_vec();
        if !secrets.is_empty() {
            object.set_at(&["spec", "imagePullSecrets"], Value::Array(secrets));
        }
    }
    let wants = object
        .at(&["spec", "automountServiceAccountToken"])
        .or_else(|| account.at(&["automountServiceAccountToken"]))
        .and_then(Value::as_bool)
        .unwrap_or(true);
    if wants {
        mount_token(object);
    }
    Ok(())
}

fn mount_token(object: &mut Value) {
    let mut volume = String::new();
    for list in ["initContainers", "containers"] {
        let Some(containers) = object.at_mut(&["spec", list]).and_then(Value::as_array_mut) else { continue };
        for container in containers {
            let mounted = container.list_at(&["volumeMounts"]).iter().any(|m| m.str_at(&["mountPath"]) == TOKEN_PATH);
            if mounted {
                continue;
            }
            if volume.is_empty() {
                volume = format!("kube-api-access-{}", crate::strategy::random_suffix());
            }
            let mut mounts = container.list_at(&["volumeMounts"]).to_vec();
            let mut mount = Map::from_iter([("name", volume.as_str()), ("mountPath", TOKEN_PATH)]);
            mount.insert("readOnly", true);
            mounts.push(Value::Object(mount));
            container.set_at(&["volumeMounts"], Value::Array(mounts));
        }
    }
    if volume.is_empty() {
        return;
    }
    // The sources and the odd lifetime are upstream's: clients recognise the volume by them.
    let source = format!(
        r#"{{"name":"{volume}","projected":{{"defaultMode":420,"sources":[
        {{"serviceAccountToken":{{"expirationSeconds":3607,"path":"token"}}}},
        {{"configMap":{{"name":"kube-root-ca.crt","items":[{{"key":"ca.crt","path":"ca.crt"}}]}}}},
        {{"downwardAPI":{{"items":[{{"path":"namespace","fieldRef":{{"apiVersion":"v1","fieldPath":"metadata.namespace"}}}}]}}}}]}}}}"#
    );
    let mut volumes = object.list_at(&["spec", "volumes"]).to_vec();
    volumes.push(json::parse(source.as_bytes()).unwrap_or_default());
    object.set_at(&["spec", "volumes"], Value::Array(volumes));
}

/// Priority: a pod's number from its class.
pub(super) fn priority(attributes: &Attributes<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
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
    if !is_new_pod(attributes) {
        return Ok(());
    }
    let name = object.str_at(&["spec", "priorityClassName"]).to_owned();
    let class = if name.is_empty() {
        let classes = attributes.server.read_all("scheduling.k8s.io", "priorityclasses", "");
        let mut defaults: Vec<Value> = classes.into_iter().filter(|c| c.bool_at(&["globalDefault"])).collect();
        defaults.sort_by_key(|c| c.int_at(&["value"]).unwrap_or_default());
        defaults.into_iter().next()
    } else {
        let found = attributes.server.read("scheduling.k8s.io", "priorityclasses", "", &name);
        if found.is_none() {
            let why = format!("no PriorityClass with name {name} was found");
            return Err(attributes.forbidden(object, &why));
        }
        found
    };
    let value = class.as_ref().and_then(|c| c.int_at(&["value"])).unwrap_or_default();
    let policy = class.as_ref().map_or("", |c| c.str_at(&["preemptionPolicy"]));
    let policy = if policy.is_empty() { "PreemptLowerPriority" } else { policy }.to_owned();
    if let Some(given) = object.int_at(&["spec", "priority"]).filter(|&given| given != value) {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        );
        return Err(attributes.forbidden(object, &why));
    }
    if let Some(given) =
        object.at(&["spec", "preemptionPolicy"]).and_then(Value::as_str).filter(|&given| given != policy)
    {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        );
        return Err(attributes.forbidden(object, &why));
    }
    if let Some(class) = class.filter(|_| name.is_empty()) {
        object.set_at(&["spec", "priorityClassName"], class.str_at(&["metadata", "name"]));
    }
    object.set_at(&["spec", "priority"], value);
    if object.str_at(&["spec", "preemptionPolicy"]).is_empty() {
        object.set_at(&["spec", "preemptionPolicy"], policy);
    }
    Ok(())
}

/// DefaultTolerationSeconds: a pod stays five minutes on a node that is away.
pub(super) fn toleration_seconds(attributes: &Attributes<'_>, object: &mut Value) {
    let pods = attributes.is("", "pods", "");
    if !pods || !matches!(attributes.operation, Operation::Create | Operation::Update) {
        return;
    }
    let mut tolerations = object.list_at(&["spec", "tolerations"]).to_vec();
    let before = tolerations.len();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = tolerations.iter().any(|t| {
            let (k, effect) = (t.str_at(&["key"]), t.str_at(&["effect"]));
            (k == key || k.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        });
        if !tolerated {
            let mut toleration = Map::from_iter([("key", key), ("operator", "Exists"), ("effect", "NoExecute")]);
            toleration.insert("tolerationSeconds", 300);
            tolerations.push(Value::Object(toleration));
        }
    }
    if tolerations.len() > before {
        object.set_at(&["spec", "tolerations"], Value::Array(tolerations));
    }
}

/// RuntimeClass: overhead and scheduling of the class that a pod names.
pub(super) fn runtime_class(attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
    if !is_new_pod(attributes) {
        return Ok(());
    }
    let name = object.str_at(&["spec", "runtimeClassName"]).to_owned();
    if name.is_empty() {
        return Ok(());
    }
    let Some(class) = attributes.server.read("node.k8s.io", "runtimeclasses", "", &name) else {
        let why = format!("pod rejected: RuntimeClass \"{name}\" not found");
        return Err(attributes.forbidden(object, &why));
    };
    if let Some(overhead) = class.at(&["overhead", "podFixed"]) {
        object.set_at(&["spec", "overhead"], overhead.clone());
    }
    if let Some(selector) = class.at(&["scheduling", "nodeSelector"]).and_then(Value::as_object) {
        for (key, value) in selector.iter() {
            object.set_at(&["spec", "nodeSelector", key], value.clone());
        }
    }
    let more = class.list_at(&["scheduling", "tolerations"]);
    if !more.is_empty() {
        let mut all = object.list_at(&["spec", "tolerations"]).to_vec();
        all.extend(more.iter().filter(|t| !all.contains(t)).cloned().collect::<Vec<_>>());
        object.set_at(&["spec", "tolerations"], Value::Array(all));
    }
    Ok(())
}
