//! How long kubelets may keep what they read of the cluster: longer, the more nodes there are.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use serde_json::json;
use trireme_client::{Client, Informer, Key, Patch};

use crate::Error;
use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};

const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";

/// Down to how many nodes, up to how many, and the seconds. The ranges overlap, so that a node that comes and goes does
/// not change all of them each time.
const STEPS: [(usize, usize, u32); 6] =
    [(0, 100, 0), (90, 500, 15), (450, 1_000, 30), (900, 2_000, 60), (1_800, 10_000, 300), (9_000, usize::MAX, 600)];

pub(crate) struct NodeTtl {
    client: Client,
    nodes: Informer<Node>,
    step: Mutex<usize>,
}

/// The step for so many nodes, coming from another one.
fn step(mut at: usize, nodes: usize) -> usize {
    while at > 0 && nodes < STEPS[at].0 {
        at -= 1;
    }
    while at + 1 < STEPS.len() && nodes > STEPS[at].1 {
        at += 1;
    }
    at
}

impl NodeTtl {
    pub(crate) fn new(context: &Context) -> Self {
        Self { client: context.client.clone(), nodes: context.informer(), step: Mutex::new(0) }
    }

    fn seconds(&self) -> (u32, bool) {
        let mut at = self.step.lock();
        let new = step(*at, self.nodes.len());
        let moved = std::mem::replace(&mut *at, new) != new;
        (STEPS[new].2, moved)
    }
}

impl Controller for NodeTtl {
    const NAME: &'static str = "ttl-controller";
    const ACCOUNT: Option<&'static str> = Some("ttl-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        let this = Arc::clone(self);
        watches.on(&self.nodes, move |change| {
            let (_, moved) = this.seconds();
            if moved {
                return this.nodes.list().iter().map(|entry| entry.meta.key.clone()).collect();
            }
            change
                .new
                .as_ref()
                .filter(|_| change.old.is_none())
                .map(|entry| entry.meta.key.clone())
                .into_iter()
                .collect()
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.nodes.find(key) else { return Ok(Requeue::Never) };
        let wanted = self.seconds().0.to_string();
        let node = entry.decode()?;
        let known = node.metadata.annotations.as_ref().and_then(|annotations| annotations.get(ANNOTATION));
        if known != Some(&wanted) {
            let patch = json!({"metadata": {"annotations": {ANNOTATION: wanted}}});
            self.client.all::<Node>().patch(&key.name, None, &Patch::Merge(patch)).await?;
        }
        Ok(Requeue::Never)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::controller::run;
    use crate::fake_api::{FakeApi, clock_at, eventually};

    #[test]
    fn the_step_follows_the_number_of_nodes_and_does_not_flap() {
        for (from, nodes, to) in
            [(0, 0, 0), (0, 100, 0), (0, 101, 1), (1, 95, 1), (1, 89, 0), (0, 1_500, 3), (5, 8_999, 4), (5, 3, 0)]
        {
            assert_eq!(step(from, nodes), to, "{from} {nodes}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_node_is_told() {
        let api = FakeApi::default();
        let context = api.context(Options::default(), clock_at("2026-01-01T00:00:00Z"));
        tokio::spawn(run(NodeTtl::new(&context), context.shutdown.clone()));
        let put = |number: usize| api.put::<Node>(json!({"metadata": {"name": format!("n{number}")}}));
        let told = |seconds: &str| {
            let of = |node: &Node| node.metadata.annotations.as_ref().and_then(|a| a.get(ANNOTATION).cloned());
            api.all::<Node>().iter().filter(|node| of(node).as_deref() == Some(seconds)).count()
        };
        put(0);
        eventually("the annotation", || told("0") == 1).await;
        (1..101).for_each(|number| drop(put(number)));
        eventually("the next step", || told("15") == 101).await;
        context.shutdown.cancel();
    }
}
