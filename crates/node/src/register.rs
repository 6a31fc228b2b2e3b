//! Making the Node object.

use crate::calls;
use crate::config::NodeConfig;
use crate::eviction::Pressure;
use crate::machine::arch;
use crate::node_status;
use crate::runtime_state::RuntimeState;
use http::Method;
use std::collections::BTreeSet;
use trireme_client::{Client, Error};
use trireme_schema::{Map, Value};

fn object<const N: usize>(fields: [(&str, &str); N]) -> Value {
    Value::Object(Map::from_iter(fields))
}

fn labels(config: &NodeConfig) -> Map {
    let mut labels = Map::from_iter([
        ("kubernetes.io/hostname", config.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch()),
    ]);
    for (key, value) in &config.labels {
        labels.insert(key.as_str(), value.as_str());
    }
    labels
}

/// Makes the Node object, or takes over the one that is there.
pub(crate) async fn register(
    config: &NodeConfig,
    client: &Client,
    runtime: &RuntimeState,
    short: &BTreeSet<Pressure>,
) -> Result<Value, Error> {
    let path = format!("/api/v1/nodes/{}", config.name);
    match calls::get(client, &path).await {
        Ok(_) => {
            let mut patch = Value::object();
            patch.set_at(&["metadata", "labels"], labels(config));
            calls::send(client, Method::PATCH, &path, calls::MERGE, &patch).await
        }
        Err(error) if error.is_not_found() => {
            let mut node = Value::object();
            node.set_at(&["kind"], "Node");
            node.set_at(&["apiVersion"], "v1");
            node.set_at(&["metadata", "name"], config.name.as_str());
            node.set_at(&["metadata", "labels"], labels(config));
            let taints = config.taints.iter().map(|(k, v, e)| object([("key", k), ("value", v), ("effect", e)]));
            let taints: Vec<Value> = taints.collect();
            if !taints.is_empty() {
                node.set_at(&["spec", "taints"], Value::Array(taints));
            }
            node.set_at(&["status"], node_status::status(config, runtime, short, &[], &Value::Null));
            calls::send(client, Method::POST, "/api/v1/nodes", calls::JSON, &node).await
        }
        Err(error) => Err(error),
    }
}
