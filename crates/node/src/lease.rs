//! The node's lease: a sign of life every ten seconds.

use crate::calls;
use crate::config::NodeConfig;
use http::Method;
use jiff::Timestamp;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use trireme_client::{Client, Error};
use trireme_schema::{Value, time};

const RENEW: Duration = Duration::from_secs(10);
/// A renewal that failed is tried again sooner.
const AGAIN: Duration = Duration::from_secs(2);
const SECONDS: i64 = 40;

/// Renews the lease until `stop`.
pub(crate) async fn keep(config: NodeConfig, client: Client, uid: String, stop: CancellationToken) {
    loop {
        let pause = match renew(&config, &client, &uid).await {
            Ok(()) => RENEW,
            Err(error) => {
                tracing::warn!(%error, "cannot renew the node's lease");
                AGAIN
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn renew(config: &NodeConfig, client: &Client, uid: &str) -> Result<(), Error> {
    let all = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let mut lease = Value::object();
    lease.set_at(&["kind"], "Lease");
    lease.set_at(&["apiVersion"], "coordination.k8s.io/v1");
    lease.set_at(&["metadata", "name"], config.name.as_str());
    lease.set_at(&["metadata", "namespace"], "kube-node-lease");
    lease.set_at(&["spec", "holderIdentity"], config.name.as_str());
    lease.set_at(&["spec", "leaseDurationSeconds"], SECONDS);
    lease.set_at(&["spec", "renewTime"], time::micros(Timestamp::now()));
    let path = format!("{all}/{}", config.name);
    match calls::send(client, Method::PATCH, &path, calls::MERGE, &lease).await {
        Err(error) if error.is_not_found() => {
            // With its node it goes.
            let mut owner = Value::object();
            for (key, value) in [("apiVersion", "v1"), ("kind", "Node"), ("name", config.name.as_str()), ("uid", uid)] {
                owner.set_at(&[key], value);
            }
            lease.set_at(&["metadata", "ownerReferences"], Value::Array(vec![owner]));
            calls::send(client, Method::POST, all, calls::JSON, &lease).await.map(drop)
        }
        other => other.map(drop),
    }
}
