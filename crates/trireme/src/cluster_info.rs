//! What nodes are told of their cluster: a ConfigMap that the server writes and agents read, and who may join.

use crate::Failure;
use crate::node::Cluster;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, Role, RoleBinding};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use trireme_client::{Client, Error, Kind, Patch};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "trireme-cluster";
const MANAGER: &str = "trireme";
/// Whoever holds a join token, and nodes.
const JOINING: &str = "system:bootstrappers";
const NODES: &str = "system:nodes";

/// Keys of the ConfigMap.
mod key {
    pub const CLUSTER_CIDR: &str = "clusterCIDR";
    pub const SERVICE_CIDR: &str = "serviceCIDR";
    pub const DNS: &str = "clusterDNS";
    pub const DOMAIN: &str = "clusterDomain";
    pub const DISABLED: &str = "disabled";
    pub const CLIENT_CA: &str = "clientCA";
}

/// Writes it, and who may do what on the way to being a node.
///
/// # Errors
/// What the API server refuses.
pub async fn publish(client: &Client, cluster: &Cluster) -> Result<(), Failure> {
    let in_system = Some(NAMESPACE);
    apply::<ConfigMap>(client, in_system, config_map(cluster)).await?;
    let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [NAME], "verbs": ["get"]});
    let role = json!({"apiVersion": RBAC, "kind": "Role", "metadata": {"name": NAME}, "rules": [rule]});
    apply::<Role>(client, in_system, role).await?;
    let reads = binding("RoleBinding", NAME, "Role", NAME, &[JOINING, NODES]);
    apply::<RoleBinding>(client, in_system, reads).await?;
    for (name, role, group) in BINDINGS {
        apply::<ClusterRoleBinding>(client, None, binding("ClusterRoleBinding", name, "ClusterRole", role, &[group]))
            .await?;
    }
    Ok(())
}

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// Who may, on the way to being a node and as one (upstream has the roles and leaves binding them to installers).
const BINDINGS: [(&str, &str, &str); 4] = [
    ("trireme:node-bootstrapper", "system:node-bootstrapper", JOINING),
    ("trireme:node-first-certificate", "system:certificates.k8s.io:certificatesigningrequests:nodeclient", JOINING),
    ("trireme:node-next-certificate", "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", NODES),
    ("trireme:node-network", "system:trireme:network", NODES),
];

/// Reads it.
///
/// # Errors
/// Why it cannot be read.
pub async fn read(client: &Client) -> Result<Cluster, Error> {
    let map = client.namespaced::<ConfigMap>(NAMESPACE).get(NAME).await?;
    let data = map.data.unwrap_or_default();
    let text = |key: &str| data.get(key).cloned().unwrap_or_default();
    Ok(Cluster {
        cluster_cidr: text(key::CLUSTER_CIDR),
        service_cidr: text(key::SERVICE_CIDR),
        dns: text(key::DNS).parse().map_err(|_| {
            Error::Request(format!("the ConfigMap {NAMESPACE}/{NAME} of the server has no address in {}", key::DNS))
        })?,
        domain: text(key::DOMAIN),
        disabled: text(key::DISABLED).split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect(),
        client_ca: text(key::CLIENT_CA),
    })
}

fn config_map(cluster: &Cluster) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME},
        "data": {
            key::CLUSTER_CIDR: cluster.cluster_cidr, key::SERVICE_CIDR: cluster.service_cidr,
            key::DNS: cluster.dns.to_string(), key::DOMAIN: cluster.domain,
            key::DISABLED: cluster.disabled.join(","), key::CLIENT_CA: cluster.client_ca
        }
    })
}

fn binding(kind: &str, name: &str, role_kind: &str, role: &str, groups: &[&str]) -> Value {
    let api = "rbac.authorization.k8s.io";
    let subjects: Vec<Value> =
        groups.iter().map(|group| json!({"kind": "Group", "apiGroup": api, "name": group})).collect();
    json!({
        "apiVersion": RBAC, "kind": kind, "metadata": {"name": name},
        "roleRef": {"apiGroup": api, "kind": role_kind, "name": role}, "subjects": subjects
    })
}

async fn apply<K: Kind + DeserializeOwned>(
    client: &Client,
    namespace: Option<&str>,
    object: Value,
) -> Result<(), Failure> {
    let api = namespace.map_or_else(|| client.all::<K>(), |namespace| client.namespaced::<K>(namespace));
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let patch = Patch::Apply { object, manager: MANAGER.into(), force: true };
    api.patch(&name, None, &patch).await.map_err(|e| format!("cannot write {name}: {e}"))?;
    Ok(())
}
