//! A node's signs of life, its lease and its status, and when there are none.

use crate::node::Node;
use crate::object;
use crate::world::{Chance, JSON, MERGE, STRATEGIC, send};
use http::Method;
use jiff::Timestamp;
use rand::rngs::SmallRng;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use trireme_client::Error;

/// A lease is renewed this often, as real nodes do.
const RENEW: Duration = Duration::from_secs(10);
/// One that failed to be renewed, sooner.
const AGAIN: Duration = Duration::from_secs(2);
/// The status is written this often.
const HEARTBEAT: Duration = Duration::from_secs(300);
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

pub(crate) struct Life {
    node: Arc<Node>,
    /// Whether the node answers.
    answers: watch::Sender<bool>,
    chance: SmallRng,
    lease: Instant,
    heartbeat: Instant,
    /// When it is not heard of for a while.
    flap: Option<Instant>,
    /// When it is gone for good.
    death: Option<Instant>,
}

impl Life {
    pub(crate) fn new(node: Arc<Node>, answers: watch::Sender<bool>) -> Self {
        let (world, now) = (&node.world, Instant::now());
        let options = &world.options;
        let mut chance = world.chance(node.index, Chance::Life);
        // Nodes are spread over the time between two signs of life.
        let share = node.index as f64 / options.nodes.max(1) as f64;
        let zone = options.zone(node.index).map(|zone| zone.name.as_str());
        let kill = options.trouble.kill.as_ref().filter(|(doomed, _)| Some(doomed.as_str()) == zone);
        let (flap, death) = (options.trouble.flap_nodes.draw(&mut chance), kill.map(|(_, after)| world.began + *after));
        let heartbeat = now + HEARTBEAT / 2 + (HEARTBEAT / 2).mul_f64(share);
        Self { lease: now, heartbeat, flap: flap.map(|after| now + after), death, node, answers, chance }
    }

    pub(crate) async fn run(mut self) {
        let world = Arc::clone(&self.node.world);
        let share = self.node.index as f64 / world.options.nodes.max(1) as f64;
        self.renew().await;
        self.lease = Instant::now() + RENEW.mul_f64(share);
        loop {
            let next = [Some(self.lease), Some(self.heartbeat), self.flap, self.death].into_iter().flatten().min();
            tokio::select! {
                () = world.stop.cancelled() => return,
                () = tokio::time::sleep_until(next.unwrap_or(self.lease)) => {}
            }
            let now = Instant::now();
            if self.death.is_some_and(|death| death <= now) {
                self.fall_silent();
                world.tally.killed.add(1);
                return world.stop.cancelled().await;
            }
            if self.flap.is_some_and(|flap| flap <= now) {
                self.fall_silent();
                world.tally.flaps.add(1);
                // Whoever dies meanwhile does so when he is back.
                tokio::select! {
                    () = world.stop.cancelled() => return,
                    () = tokio::time::sleep(world.options.trouble.flap_for) => {}
                }
                self.answers.send_replace(true);
                world.tally.ready.change(1);
                let now = Instant::now();
                (self.lease, self.heartbeat) = (now, now);
                self.flap = world.options.trouble.flap_nodes.draw(&mut self.chance).map(|after| now + after);
                continue;
            }
            if self.lease <= now {
                self.lease = now + if self.renew().await { RENEW } else { AGAIN };
            }
            if self.heartbeat <= now {
                self.heartbeat = now + HEARTBEAT;
                if let Err(error) = self.write_status().await {
                    tracing::debug!(node = self.node.name, %error, "cannot write the node's status");
                    self.heartbeat = now + RENEW;
                }
            }
        }
    }

    fn fall_silent(&self) {
        self.answers.send_replace(false);
        self.node.world.tally.ready.change(-1);
    }

    /// Whether the lease was renewed.
    async fn renew(&self) -> bool {
        // Whoever waits longer than this has missed his turn.
        let renewed = match tokio::time::timeout(RENEW, self.try_renew()).await {
            Ok(renewed) => renewed,
            Err(_) => Err(Error::Deadline(RENEW)),
        };
        if let Err(error) = &renewed {
            tracing::debug!(node = self.node.name, %error, "cannot renew the lease");
        }
        renewed.is_ok()
    }

    async fn try_renew(&self) -> Result<(), Error> {
        let (node, now) = (&self.node, Timestamp::now());
        let path = format!("{LEASES}/{}", node.name);
        match send(&node.client, Method::PATCH, &path, MERGE, &object::renewal(&node.name, now)).await {
            Err(error) if error.is_not_found() => {
                let lease = object::lease(&node.name, &node.uid, now);
                send(&node.client, Method::POST, LEASES, JSON, &lease).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    async fn write_status(&self) -> Result<(), Error> {
        let node = &self.node;
        let path = format!("/api/v1/nodes/{}/status", node.name);
        let status = object::status(&node.world.options, node.index, node.since, Timestamp::now());
        let patch = serde_json::json!({"status": status});
        send(&node.client, Method::PATCH, &path, STRATEGIC, &patch).await.map(drop)
    }
}
