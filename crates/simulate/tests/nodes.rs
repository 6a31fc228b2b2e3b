//! Simulated nodes against a real API server, each as its own user.

#![allow(clippy::unwrap_used)] // a test fails loudly

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use trireme_apiserver::{ApiServer, User};
use trireme_client::{Change, Client, DeleteOptions, Error, InformerBuilder, Patch, Transport};
use trireme_lab::Lab;
use trireme_simulate::{Access, Options, Simulation, Size, Span, Times, Trouble};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const NODES: usize = 50;
const PATIENCE: Duration = Duration::from_secs(60);

/// In process: the same users, no network.
struct InProcess(Arc<ApiServer>);

impl Access for InProcess {
    fn admin(&self) -> Arc<dyn Transport> {
        Arc::new(self.0.transport(User::new("admin", &["system:masters"])))
    }

    fn node(&self, _: usize, name: &str) -> Result<Arc<dyn Transport>, Error> {
        let user = User::new(&format!("system:node:{name}"), &["system:nodes", "system:authenticated"]);
        Ok(Arc::new(self.0.transport(user)))
    }
}

fn millis(least: u64, most: u64) -> Span {
    Span::new(Duration::from_millis(least), Duration::from_millis(most))
}

fn options(prefix: &str, nodes: usize, trouble: Trouble) -> Options {
    Options {
        nodes,
        prefix: prefix.into(),
        zones: vec!["r/a".parse().unwrap(), "r/b".parse().unwrap()],
        size: Size::default(),
        labels: Vec::new(),
        taints: Vec::new(),
        times: Times { start: millis(1, 50), pull: None, run: millis(50, 50), stop: millis(1, 20) },
        trouble,
        seed: 1,
        version: "0.0.0".into(),
        kubernetes: "v1.36.2".into(),
    }
}

fn pod(name: &str, node: &str, policy: &str, annotations: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "nodeName": node,
            "restartPolicy": policy,
            "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "i"}],
        }
    }))
    .unwrap()
}

/// Waits until a pod is as wanted; `None` is a pod that is gone.
async fn until(client: &Client, name: &str, wanted: impl Fn(Option<&Pod>) -> bool + Send + Sync + 'static) {
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    let pods = InformerBuilder::<Pod>::all().fields(&format!("metadata.name={name}")).start(client.clone(), stop);
    let (tell, mut told) = tokio::sync::watch::channel(false);
    pods.synced().await;
    let check = move |pod: Option<&Pod>| {
        if wanted(pod) {
            tell.send_replace(true);
        }
    };
    if pods.is_empty() {
        check(None);
    }
    pods.subscribe(move |change: &Change<Pod>| {
        let pod = change.new.as_ref().map(|entry| entry.decode().unwrap());
        check(pod.as_ref());
    });
    let waited = tokio::time::timeout(PATIENCE, told.wait_for(|told| *told)).await;
    assert!(waited.is_ok(), "{name}: {:?}", client.namespaced::<Pod>("default").find(name).await);
}

fn phase(pod: Option<&Pod>) -> &str {
    pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref()).unwrap_or_default()
}

fn is_ready(pod: Option<&Pod>) -> bool {
    let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

/// What controllers do, of which the lab has none: a service account for pods, and ranges of addresses for nodes.
async fn stand_in(client: &Client, prefix: &str, nodes: usize) -> Result<(), Failure> {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    client.namespaced::<ServiceAccount>("default").create(&account).await?;
    let width = (nodes - 1).to_string().len();
    for index in 0..nodes {
        let name = format!("{prefix}{index:0width$}");
        let range = format!("10.42.{index}.0/24");
        let patch = Patch::Merge(json!({"spec": {"podCIDR": range, "podCIDRs": [range]}}));
        let api = client.all::<Node>();
        let patched = async {
            let mut pause = trireme_client::Backoff::new(Duration::from_millis(10), Duration::from_millis(500));
            while let Err(error) = api.patch(&name, None, &patch).await {
                assert!(error.is_not_found(), "{error}");
                tokio::time::sleep(pause.step()).await;
            }
        };
        tokio::time::timeout(PATIENCE, patched).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_nodes_run_end_and_remove_pods() -> Result<(), Failure> {
    let lab = Lab::new().await?;
    let client = lab.admin();
    let access = Arc::new(InProcess(lab.server.clone()));
    let simulation = Simulation::start(options("s-", NODES, Trouble::default()), access).await?;
    stand_in(&client, "s-", NODES).await?;
    let pods = client.namespaced::<Pod>("default");

    // As of a deployment: they run until they are deleted.
    for index in 0..2 * NODES {
        let node = format!("s-{:02}", index % NODES);
        pods.create(&pod(&format!("web-{index}"), &node, "Always", json!({}))).await?;
    }
    for index in 0..2 * NODES {
        until(&client, &format!("web-{index}"), |pod| phase(pod) == "Running" && is_ready(pod)).await;
    }
    let mut addresses: Vec<String> =
        pods.list(&Default::default()).await?.items.into_iter().filter_map(|p| p.status?.pod_ip).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 2 * NODES, "each has an address of its own");

    // As of a job: one ends well, one fails as its annotations say, one is tried again.
    pods.create(&pod("job-well", "s-01", "Never", json!({}))).await?;
    pods.create(&pod("job-ill", "s-02", "Never", json!({"simulate.trireme.dev/exit-code": "3"}))).await?;
    let fails = json!({"simulate.trireme.dev/fail-after": "10ms", "simulate.trireme.dev/run-time": "1h"});
    pods.create(&pod("crashes", "s-03", "Always", fails)).await?;
    until(&client, "job-well", |pod| phase(pod) == "Succeeded").await;
    until(&client, "job-ill", |pod| phase(pod) == "Failed").await;
    let ill = pods.get("job-ill").await?.status.unwrap_or_default().container_statuses.unwrap_or_default();
    assert_eq!(ill[0].state.as_ref().and_then(|s| s.terminated.as_ref()).map(|t| t.exit_code), Some(3));
    until(&client, "crashes", |pod| {
        let status = pod.and_then(|pod| pod.status.as_ref()?.container_statuses.as_ref()?.first());
        let waiting = status.and_then(|status| status.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
        waiting == Some("CrashLoopBackOff") && status.is_some_and(|status| status.restart_count == 1)
    })
    .await;

    // What is deleted goes, gracefully and then for good.
    pods.delete("web-7", &DeleteOptions::default()).await?;
    pods.delete("job-well", &DeleteOptions::default()).await?;
    until(&client, "web-7", |pod| pod.is_none()).await;
    until(&client, "job-well", |pod| pod.is_none()).await;

    let node = client.all::<Node>().get("s-01").await?;
    assert_eq!(node.metadata.labels.unwrap_or_default()["topology.kubernetes.io/zone"], "b");
    let report = simulation.stop().await;
    assert_eq!((report.nodes.registered, report.nodes.ready), (NODES as u64, NODES as u64));
    assert_eq!(report.pods.scheduled, 2 * NODES as u64 + 3);
    assert_eq!((report.pods.succeeded, report.pods.failed, report.pods.restarted), (1, 1, 1));
    assert!(
        report.calls.keys().all(|call| call.code.is_some_and(|code| code < 400 || code == 404)),
        "{:?}",
        report.calls
    );
    assert_eq!(simulation.remove().await, 0);
    assert!(client.all::<Node>().list(&Default::default()).await?.items.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_silent_renews_no_lease_and_comes_back() -> Result<(), Failure> {
    let lab = Lab::new().await?;
    let client = lab.admin();
    // It falls silent at once, for a second.
    let trouble =
        Trouble { flap_nodes: "100000%/s".parse().unwrap(), flap_for: Duration::from_secs(1), ..Trouble::default() };
    let simulation = Simulation::start(options("f-", 1, trouble), Arc::new(InProcess(lab.server.clone()))).await?;
    stand_in(&client, "f-", 1).await?;
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    let leases = InformerBuilder::<Lease>::all().start(client.clone(), stop);
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    leases.subscribe(move |change: &Change<Lease>| {
        let lease = change.new.as_ref().map(|entry| entry.decode().unwrap());
        let _ = tell.send(lease.and_then(|lease| lease.spec?.renew_time).map(|time| time.0));
    });
    let mut renewals = Vec::new();
    while renewals.len() < 3 {
        renewals.extend(tokio::time::timeout(PATIENCE, told.recv()).await?.flatten());
    }
    let quiet = renewals.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_millis()).min();
    assert!(quiet.is_some_and(|millis| millis >= 900), "{renewals:?}");
    let report = simulation.stop().await;
    assert!(report.nodes.flaps >= 2, "{report:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_is_lost_for_good() -> Result<(), Failure> {
    let lab = Lab::new().await?;
    let client = lab.admin();
    let trouble = Trouble { kill: Some(("b".into(), Duration::ZERO)), ..Trouble::default() };
    let simulation = Simulation::start(options("k-", 4, trouble), Arc::new(InProcess(lab.server.clone()))).await?;
    stand_in(&client, "k-", 4).await?;
    let pods = client.namespaced::<Pod>("default");
    for (name, node) in [("lost", "k-1"), ("kept", "k-2")] {
        pods.create(&pod(name, node, "Always", json!({}))).await?;
    }
    until(&client, "kept", |pod| phase(pod) == "Running").await;
    let report = simulation.stop().await;
    assert_eq!((report.nodes.killed, report.nodes.ready, report.pods.scheduled), (2, 2, 1));
    assert_eq!(phase(Some(&pods.get("lost").await?)), "Pending");
    Ok(())
}
