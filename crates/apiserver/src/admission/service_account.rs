//! ServiceAccount: every pod runs as one, and gets its token.

use super::{Attributes, Operation};
use trireme_schema::{Map, Status, Value, json};

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const MIRROR: &str = "kubernetes.io/config.mirror";
const MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";

fn is_mirror(pod: &Value) -> bool {
    pod.at(&["metadata", "annotations", MIRROR]).is_some()
}

fn account_of(attributes: &Attributes<'_>, pod: &Value) -> Result<Value, Status> {
    let (namespace, name) = (&attributes.target.namespace, pod.str_at(&["spec", "serviceAccountName"]));
    let why = format!("error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found");
    attributes.server.read("", "serviceaccounts", namespace, name).ok_or_else(|| attributes.forbidden(pod, &why))
}

/// Gives a new pod its account, the account's image pull secrets and a token.
pub(super) fn fill_in(attributes: &Attributes<'_>, object: &mut Value, _: Option<&Value>) -> Result<(), Status> {
    if !attributes.creates("", "pods") || is_mirror(object) {
        return Ok(());
    }
    if object.str_at(&["spec", "serviceAccountName"]).is_empty() {
        object.set_at(&["spec", "serviceAccountName"], "default");
    }
    object.set_at(&["spec", "serviceAccount"], object.str_at(&["spec", "serviceAccountName"]).to_owned());
    let account = account_of(attributes, object)?;
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

/// Refuses what mirror pods may not refer to, and secrets beyond those of an account that keeps to its own.
pub(super) fn check(attributes: &Attributes<'_>, object: &Value, _: Option<&Value>) -> Result<(), Status> {
    let ephemeral = attributes.operation == Operation::Update && attributes.is("", "pods", "ephemeralcontainers");
    if !ephemeral && !attributes.creates("", "pods") {
        return Ok(());
    }
    if is_mirror(object) {
        return if ephemeral { Ok(()) } else { check_mirror(attributes, object) };
    }
    let account = account_of(attributes, object)?;
    let enforced = account.str_at(&["metadata", "annotations", MOUNTABLE]);
    if !matches!(enforced, "true" | "True" | "TRUE" | "t" | "T" | "1") {
        return Ok(());
    }
    let named = |list: &str, name: &str| account.list_at(&[list]).iter().any(|s| s.str_at(&["name"]) == name);
    let name = account.str_at(&["metadata", "name"]);
    let own = format!("is not allowed because service account {name} does not reference that");
    for volume in object.list_at(&["spec", "volumes"]) {
        let secret = volume.str_at(&["secret", "secretName"]);
        if !secret.is_empty() && !named("secrets", secret) {
            let why = format!("volume with secret.secretName=\"{secret}\" {own} secret");
            return Err(attributes.forbidden(object, &why));
        }
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let what = match list {
            "initContainers" => "init container",
            "containers" => "container",
            _ => "ephemeral container",
        };
        for container in object.list_at(&["spec", list]) {
            let c = container.str_at(&["name"]);
            for env in container.list_at(&["env"]) {
                let secret = env.str_at(&["valueFrom", "secretKeyRef", "name"]);
                if !secret.is_empty() && !named("secrets", secret) {
                    let why = format!(
                        "{what} {c} with envVar {} referencing secret.secretName=\"{secret}\" {own} secret",
                        env.str_at(&["name"])
                    );
                    return Err(attributes.forbidden(object, &why));
                }
            }
            for from in container.list_at(&["envFrom"]) {
                let secret = from.str_at(&["secretRef", "name"]);
                if !secret.is_empty() && !named("secrets", secret) {
                    let why =
                        format!("{what} {c} with envFrom referencing secret.secretName=\"{secret}\" {own} secret");
                    return Err(attributes.forbidden(object, &why));
                }
            }
        }
    }
    for (i, secret) in object.list_at(&["spec", "imagePullSecrets"]).iter().enumerate() {
        let secret = secret.str_at(&["name"]);
        if !named("imagePullSecrets", secret) {
            let why = format!("imagePullSecrets[{i}].name=\"{secret}\" {own} imagePullSecret");
            return Err(attributes.forbidden(object, &why));
        }
    }
    Ok(())
}

fn check_mirror(attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
    let tokens = || {
        let sources = object.list_at(&["spec", "volumes"]).iter().flat_map(|v| v.list_at(&["projected", "sources"]));
        sources.into_iter().any(|s| s.get("serviceAccountToken").is_some())
    };
    let why = if !object.str_at(&["spec", "serviceAccountName"]).is_empty() {
        "a mirror pod may not reference service accounts"
    } else if super::node_restriction::refers_to(object, "secret") {
        "a mirror pod may not reference secrets"
    } else if tokens() {
        "a mirror pod may not use ServiceAccountToken volume projections"
    } else {
        return Ok(());
    };
    Err(attributes.forbidden(object, why))
}
