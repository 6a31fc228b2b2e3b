//! Autoscalers over the real API server, as their own user, with metrics that somebody else serves.

#![allow(clippy::unwrap_used)] // a test fails loudly

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Event, Pod};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use trireme_apiserver::User;
use trireme_client::{Client, Error, Informers, ListOptions, Request, Response, Selection, Transport, WatchStream};
use trireme_controllers::{Autoscaling, Clock, Controllers, Options};
use trireme_lab::Lab;

/// The way to the server, with `metrics.k8s.io` behind it once there is something to serve.
struct WithMetrics {
    server: Box<dyn Transport>,
    metrics: Metrics,
}

type Metrics = Arc<Mutex<Option<Value>>>;

impl Transport for WithMetrics {
    fn send(&self, request: Request) -> BoxFuture<'static, Result<Response, Error>> {
        let served = self.metrics.lock().clone().filter(|_| request.uri().path().starts_with("/apis/metrics.k8s.io/"));
        match served {
            Some(list) => {
                let answer = http::Response::builder().status(200).body(Bytes::from(list.to_string()));
                Box::pin(async move { answer.map_err(|error| Error::Request(error.to_string())) })
            }
            None => self.server.send(request),
        }
    }

    fn watch(&self, selection: Selection, since: Option<String>) -> WatchStream {
        self.server.watch(selection, since)
    }
}

struct Cluster {
    lab: Lab,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Cluster {
    async fn start() -> Self {
        let lab = Lab::new().await.unwrap();
        let (metrics, stop) = (Metrics::default(), CancellationToken::new());
        let (server, behind) = (lab.server.clone(), metrics.clone());
        let clients: trireme_controllers::Clients = Arc::new(move |account| {
            let user = match account {
                None => User::new("system:kube-controller-manager", &[]),
                Some(account) => User::new(
                    &format!("system:serviceaccount:kube-system:{account}"),
                    &["system:serviceaccounts", "system:serviceaccounts:kube-system"],
                ),
            };
            let server = Box::new(server.transport(user));
            Client::new(Arc::new(WithMetrics { server, metrics: behind.clone() }), "kube-controller-manager")
        });
        let informers = Arc::new(Informers::new(clients(None), stop.clone()));
        let autoscaling = Autoscaling { sync_period: Duration::from_secs(1), ..Autoscaling::default() };
        let options = Options { autoscaling, ..Options::default() };
        Controllers::start(options, clients, informers, Clock::system(), stop.clone());
        Self { lab, metrics, stop }
    }

    fn admin(&self) -> Client {
        self.lab.admin()
    }

    async fn create(&self, kind: &str, object: Value) {
        let path = format!("{kind}?fieldManager=test");
        let body = Bytes::from(object.to_string());
        self.admin().request(http::Method::POST, &path, Some(("application/json", body))).await.unwrap();
    }

    /// Makes all pods of the namespace run, as a kubelet would, and says what they use.
    async fn run_pods(&self, cpu: &str) {
        let pods = self.admin().namespaced::<Pod>("default").list(&ListOptions::default()).await.unwrap();
        let mut items = Vec::new();
        for pod in pods.items {
            let name = pod.metadata.name.unwrap();
            let status = json!({"status": {"phase": "Running", "startTime": "2026-01-01T00:00:00Z", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:10Z"}]}});
            let patch = trireme_client::Patch::Merge(status);
            self.admin().namespaced::<Pod>("default").patch(&name, Some("status"), &patch).await.unwrap();
            items.push(json!({"metadata": {"name": name, "namespace": "default"}, "window": "30s",
                "timestamp": jiff::Timestamp::now().to_string(),
                "containers": [{"name": "c", "usage": {"cpu": cpu}}]}));
        }
        *self.metrics.lock() = Some(json!({"kind": "PodMetricsList", "items": items}));
    }

    async fn pods(&self) -> usize {
        self.admin().namespaced::<Pod>("default").list(&ListOptions::default()).await.unwrap().items.len()
    }

    async fn replicas(&self) -> i32 {
        let deployment = self.admin().namespaced::<Deployment>("default").get("web").await.unwrap();
        deployment.spec.and_then(|spec| spec.replicas).unwrap_or(0)
    }

    /// Reason and message of a condition of the autoscaler.
    async fn condition(&self, kind: &str) -> (String, String) {
        let autoscaler = self.admin().namespaced::<HorizontalPodAutoscaler>("default").get("web").await.unwrap();
        let conditions = autoscaler.status.and_then(|status| status.conditions).unwrap_or_default();
        let found = conditions.into_iter().find(|condition| condition.type_ == kind);
        found.map(|found| (found.reason.unwrap_or_default(), found.message.unwrap_or_default())).unwrap_or_default()
    }
}

/// Waits until something holds.
macro_rules! until {
    ($what:literal, $holds:expr) => {{
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !$holds {
            assert!(tokio::time::Instant::now() < deadline, "in vain: {}", $what);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_follows_what_its_pods_use() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    until!("the namespace's account", {
        let accounts = admin.namespaced::<k8s_openapi::api::core::v1::ServiceAccount>("default");
        accounts.find("default").await.unwrap().is_some()
    });
    cluster
        .create(
            "/apis/apps/v1/namespaces/default/deployments",
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
                "replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {
                    "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i",
                        "resources": {"requests": {"cpu": "100m"}}}]}}}}),
        )
        .await;
    until!("two pods", cluster.pods().await == 2);
    let scaling = json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max",
        "policies": [{"type": "Percent", "value": 200, "periodSeconds": 1}]});
    cluster
        .create(
            "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
            json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
                "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                    "minReplicas": 1, "maxReplicas": 5, "behavior": {"scaleUp": scaling, "scaleDown": scaling},
                    "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": 50}}}]}}),
        )
        .await;

    // Nobody serves metrics: that is what is told.
    until!("the honest failure", cluster.condition("ScalingActive").await.0 == "FailedGetResourceMetric");
    assert_eq!(
        cluster.condition("ScalingActive").await.1,
        "the HPA was unable to compute the replica count: failed to get cpu utilization: unable to get metrics for \
         resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested \
         resource (get pods.metrics.k8s.io)"
    );
    assert_eq!(cluster.condition("AbleToScale").await.0, "SucceededGetScale");
    assert_eq!(cluster.replicas().await, 2);

    cluster.run_pods("100m").await;
    until!("twice as many", cluster.replicas().await == 4);
    until!("the condition", cluster.condition("ScalingActive").await.0 == "ValidMetricFound");
    until!("the pods", cluster.pods().await == 4);
    cluster.run_pods("100m").await;
    until!("the most", cluster.replicas().await == 5);
    until!("the limit", cluster.condition("ScalingLimited").await.0 == "TooManyReplicas");
    until!("the pods", cluster.pods().await == 5);
    cluster.run_pods("5m").await;
    until!("the least", cluster.replicas().await == 1);

    let events = admin.namespaced::<Event>("default").list(&ListOptions::default()).await.unwrap().items;
    let told: Vec<_> = events.into_iter().filter(|e| e.reason.as_deref() == Some("SuccessfulRescale")).collect();
    let text = "New size: 4; reason: cpu resource utilization (percentage of request) above target";
    assert!(told.iter().any(|event| event.message.as_deref() == Some(text)), "{told:?}");
    cluster.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_autoscalers_of_the_same_pods_do_nothing() {
    let cluster = Cluster::start().await;
    let admin = cluster.admin();
    until!("the namespace's account", {
        let accounts = admin.namespaced::<k8s_openapi::api::core::v1::ServiceAccount>("default");
        accounts.find("default").await.unwrap().is_some()
    });
    cluster
        .create(
            "/apis/apps/v1/namespaces/default/deployments",
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
                "replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": {
                    "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}}),
        )
        .await;
    until!("a pod", cluster.pods().await == 1);
    for name in ["web", "other"] {
        cluster
            .create(
                "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
                json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name},
                    "spec": {"maxReplicas": 5,
                        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}}),
            )
            .await;
    }
    until!("the refusal", cluster.condition("ScalingActive").await.0 == "AmbiguousSelector");
    assert_eq!(
        cluster.condition("ScalingActive").await.1,
        "pods by selector app=web are controlled by multiple HPAs: [default/other default/web]"
    );
    cluster.stop.cancel();
}
