//! The demo's objects, applied as any client would.

use super::app::{COUNTER, PORT, WEB};
use super::image;
use crate::Failure;
use bytes::Bytes;
use http::Method;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Service};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use trireme_client::{Backoff, Client, Kind, Patch};

const NAMESPACE: &str = "demo";
const MANAGER: &str = "trireme-demo";
/// Until the page answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// Applies the demo and waits until its page answers; the page's URL.
///
/// # Errors
/// What the API server refuses, or that nothing answers.
pub async fn deploy(client: &Client, node: IpAddr) -> Result<String, Failure> {
    apply::<Namespace>(client, None, &namespace()).await?;
    for (tier, replicas) in [(COUNTER, 1), (WEB, 2)] {
        apply::<Deployment>(client, Some(NAMESPACE), &deployment(tier, replicas)).await?;
        apply::<Service>(client, Some(NAMESPACE), &service(tier)).await?;
    }
    let service = client.namespaced::<Service>(NAMESPACE).get(WEB).await?;
    let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
    let port = ports.first().and_then(|port| port.node_port).and_then(|port| u16::try_from(port).ok());
    let port = port.ok_or("the service has no node port")?;
    let url = format!("http://{}", std::net::SocketAddr::new(node, port));
    let answered = tokio::time::timeout(PATIENCE, answer(node, port)).await;
    answered.map_err(|_| format!("{url} does not answer; see kubectl get pods -n {NAMESPACE}"))?;
    Ok(url)
}

async fn apply<K: Kind + serde::de::DeserializeOwned>(
    client: &Client,
    namespace: Option<&str>,
    object: &Value,
) -> Result<(), Failure> {
    let api = namespace.map_or_else(|| client.all::<K>(), |namespace| client.namespaced::<K>(namespace));
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let patch = Patch::Apply { object: object.clone(), manager: MANAGER.into(), force: true };
    api.patch(name, None, &patch).await.map_err(|e| format!("cannot apply the demo's {name}: {e}"))?;
    Ok(())
}

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
}

fn deployment(tier: &str, replicas: u32) -> Value {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": tier, "labels": {"app.kubernetes.io/part-of": "trireme-demo"}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": tier}},
            "template": {
                "metadata": {"labels": {"app": tier}},
                "spec": {
                    "automountServiceAccountToken": false,
                    "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [{
                        "name": tier, "image": image::NAME, "imagePullPolicy": "Never", "args": [tier],
                        "env": [field("POD_NAME", "metadata.name"), field("NODE_NAME", "spec.nodeName")],
                        "ports": [{"name": "http", "containerPort": PORT}],
                        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 5},
                        "securityContext": {
                            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]}
                        },
                        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}
                    }]
                }
            }
        }
    })
}

fn service(tier: &str) -> Value {
    let kind = if tier == WEB { "NodePort" } else { "ClusterIP" };
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": tier},
        "spec": {"type": kind, "selector": {"app": tier}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}
    })
}

/// Asks for the page, again and again with growing pauses, until it comes.
async fn answer(node: IpAddr, port: u16) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        if matches!(tokio::time::timeout(Duration::from_secs(3), ask(node, port)).await, Ok(Ok(true))) {
            return;
        }
        tokio::time::sleep(backoff.step()).await;
    }
}

async fn ask(node: IpAddr, port: u16) -> Result<bool, Failure> {
    let stream = TcpStream::connect((node, port)).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = http::Request::builder().method(Method::GET).uri("/").header(http::header::HOST, "demo");
    Ok(sender.send_request(request.body(Empty::<Bytes>::new())?).await?.status().is_success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_behind_a_node_port_and_the_counter_is_not() {
        assert_eq!(service(WEB)["spec"]["type"], "NodePort");
        assert_eq!(service(COUNTER)["spec"]["type"], "ClusterIP");
        assert_eq!(deployment(COUNTER, 1)["spec"]["template"]["spec"]["containers"][0]["args"], json!([COUNTER]));
    }
}
