//! Pods leave nodes whose taints they do not tolerate, or tolerate only for a while.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use trireme_client::{Client, EventKind, Informer, Key, ObjectRef, Recorder};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::disrupt::disrupt;
use crate::pods_by_node::PodsByNode;
use crate::taints::{NO_EXECUTE, tolerates};
use crate::{Clock, Error, view};

pub(crate) struct TaintEviction {
    client: Client,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    by_node: PodsByNode,
    recorder: Recorder,
    clock: Clock,
    /// When taints that do not say when they were added were seen first, by node and key.
    seen: Mutex<HashMap<(String, String), Timestamp>>,
}

/// What becomes of a pod on a node with taints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stays,
    /// Leaves in so many seconds.
    Leaves(i64),
}

impl TaintEviction {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            pods: context.informer(),
            nodes: context.informer(),
            by_node: PodsByNode::default(),
            recorder: context.recorder("taint-eviction-controller"),
            clock: context.clock.clone(),
            seen: Mutex::default(),
        }
    }

    /// The taints of a node, each with the time from which tolerations count.
    fn dated(&self, node: &str, mut taints: Vec<Taint>) -> Vec<Taint> {
        let now = self.clock.now();
        let mut seen = self.seen.lock();
        seen.retain(|(of, key), _| of != node || taints.iter().any(|taint| taint.key == *key));
        for taint in taints.iter_mut().filter(|taint| taint.effect == NO_EXECUTE && taint.time_added.is_none()) {
            let since = seen.entry((node.to_owned(), taint.key.clone())).or_insert(now);
            taint.time_added = Some(Time(*since));
        }
        taints
    }

    async fn evict(&self, pod: &view::Pod) -> Result<(), Error> {
        let about = ObjectRef {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectRef::default()
        };
        let message = format!("Marking for deletion Pod {}/{}", about.namespace, about.name);
        self.recorder.record(&about, EventKind::Normal, "TaintManagerEviction", message);
        let pod = (about.namespace.as_str(), about.name.as_str(), about.uid.as_str());
        let message = "Taint manager: deleting due to NoExecute taint";
        disrupt(&self.client, pod, "DeletionByTaintManager", message, self.clock.now()).await
    }
}

impl Controller for TaintEviction {
    const NAME: &'static str = "taint-eviction-controller";
    const ACCOUNT: Option<&'static str> = Some("node-controller");
    const WORKERS: usize = 8;

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        let this = Arc::clone(self);
        watches.on(&self.pods, move |change| {
            this.by_node.observe(change);
            change.new.as_ref().map(|pod| pod.meta.key.clone()).into_iter().collect()
        });
        let this = Arc::clone(self);
        watches.on(&self.nodes, move |change| {
            let Some(new) = &change.new else {
                let gone = change.latest().map(|entry| entry.meta.key.name.to_string());
                this.seen.lock().retain(|(node, _), _| Some(node) != gone.as_ref());
                return Vec::new();
            };
            let taints = |entry: &trireme_client::Entry<Node>| {
                entry.decode().ok().and_then(|node| node.spec?.taints).unwrap_or_default()
            };
            let now = taints(new);
            if change.old.as_ref().is_some_and(|old| taints(old) == now) {
                return Vec::new();
            }
            this.by_node.of(&new.meta.key.name)
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.pods.find(key).filter(|entry| !entry.meta.deleting) else {
            return Ok(Requeue::Never);
        };
        let pod: view::Pod = entry.decode_as()?;
        if pod.spec.node_name.is_empty() {
            return Ok(Requeue::Never);
        }
        let Some(node) = self.nodes.get("", &pod.spec.node_name) else { return Ok(Requeue::Never) };
        let taints = node.decode()?.spec.and_then(|spec| spec.taints).unwrap_or_default();
        let taints = self.dated(&pod.spec.node_name, taints);
        match fate(&taints, &pod.spec.tolerations, self.clock.now()) {
            Fate::Stays => Ok(Requeue::Never),
            Fate::Leaves(seconds) if seconds > 0 => Ok(Requeue::seconds(seconds)),
            Fate::Leaves(_) => self.evict(&pod).await.map(|()| Requeue::Never),
        }
    }
}

/// Decides by the node's taints with the effect NoExecute. A toleration with a time counts from when the taint was
/// added, so that a restart of ours does not give the pod more time; the shortest time counts.
fn fate(taints: &[Taint], tolerations: &[Toleration], now: Timestamp) -> Fate {
    let mut fate = Fate::Stays;
    for taint in taints.iter().filter(|taint| taint.effect == NO_EXECUTE) {
        let mut tolerating = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).peekable();
        let left = if tolerating.peek().is_none() {
            Some(0)
        } else {
            let since = taint.time_added.as_ref().map_or(now, |time| time.0);
            let shortest = tolerating.filter_map(|toleration| toleration.toleration_seconds).min();
            shortest.map(|seconds| since.as_second().saturating_add(seconds.max(0)) - now.as_second())
        };
        if let Some(left) = left {
            fate = match fate {
                Fate::Stays => Fate::Leaves(left.max(0)),
                Fate::Leaves(other) => Fate::Leaves(other.min(left.max(0))),
            };
        }
    }
    fate
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::controller::run;
    use crate::fake_api::{FakeApi, clock_at, eventually};
    use serde_json::json;

    #[test]
    fn a_pod_leaves_after_the_shortest_time_that_it_tolerates() {
        let now: Timestamp = "2026-01-01T00:01:40Z".parse().unwrap();
        let taint =
            |key: &str, effect: &str| json!({"key": key, "effect": effect, "timeAdded": "2026-01-01T00:00:00Z"});
        let bad = taint("bad", "NoExecute");
        for (taints, tolerations, expected) in [
            (json!([]), json!([]), Fate::Stays),
            (json!([taint("bad", "NoSchedule")]), json!([]), Fate::Stays),
            (json!([bad]), json!([]), Fate::Leaves(0)),
            (json!([bad]), json!([{"key": "bad", "operator": "Exists"}]), Fate::Stays),
            (json!([bad]), json!([{"key": "bad", "operator": "Exists", "tolerationSeconds": 300}]), Fate::Leaves(200)),
            (json!([bad]), json!([{"key": "bad", "operator": "Exists", "tolerationSeconds": 50}]), Fate::Leaves(0)),
            (
                json!([bad, taint("worse", "NoExecute")]),
                json!([{"operator": "Exists", "tolerationSeconds": 300}, {"key": "worse", "operator": "Exists",
                    "tolerationSeconds": 160}]),
                Fate::Leaves(60),
            ),
        ] {
            let taints: Vec<Taint> = serde_json::from_value(taints).unwrap();
            let tolerations: Vec<Toleration> = serde_json::from_value(tolerations).unwrap();
            assert_eq!(fate(&taints, &tolerations, now), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tainted_node_loses_only_the_pods_that_do_not_tolerate_it() {
        let api = FakeApi::default();
        let context = api.context(Options::default(), clock_at("2026-01-01T00:00:00Z"));
        api.put::<Node>(json!({"metadata": {"name": "n1"}}));
        for (name, tolerations) in [("leaves", json!([])), ("stays", json!([{"operator": "Exists"}]))] {
            let spec = json!({"nodeName": "n1", "containers": [], "tolerations": tolerations});
            api.put::<Pod>(json!({"metadata": {"name": name, "namespace": "n"}, "spec": spec}));
        }
        tokio::spawn(run(TaintEviction::new(&context), context.shutdown.clone()));
        api.change::<Node>("", "n1", json!({"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}));
        eventually("one to leave", || api.get::<Pod>("n", "leaves").is_none()).await;
        assert!(api.get::<Pod>("n", "stays").is_some());
        context.shutdown.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn a_taint_without_a_date_counts_from_when_it_was_seen() {
        let api = FakeApi::default();
        let begun = tokio::time::Instant::now();
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = Clock::of(move || start + jiff::SignedDuration::try_from(begun.elapsed()).unwrap());
        let context = api.context(Options::default(), clock);
        api.put::<Node>(json!({"metadata": {"name": "n1"}, "spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}));
        let tolerations = json!([{"key": "k", "operator": "Exists", "tolerationSeconds": 30}]);
        let spec = json!({"nodeName": "n1", "containers": [], "tolerations": tolerations});
        api.put::<Pod>(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec}));
        tokio::spawn(run(TaintEviction::new(&context), context.shutdown.clone()));
        tokio::time::sleep(std::time::Duration::from_secs(25)).await;
        api.change::<Pod>("n", "p", json!({"metadata": {"labels": {"touched": "yes"}}}));
        assert!(api.get::<Pod>("n", "p").is_some());
        tokio::time::sleep(std::time::Duration::from_secs(7)).await;
        eventually("the pod to leave", || api.get::<Pod>("n", "p").is_none()).await;
        assert!(begun.elapsed() < std::time::Duration::from_secs(34));
        context.shutdown.cancel();
    }
}
