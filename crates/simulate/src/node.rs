//! One node: it registers, lives, and runs its pods.

use crate::life::Life;
use crate::object;
use crate::work::Work;
use crate::world::{JSON, MERGE, World, send};
use http::Method;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use trireme_client::{Backoff, Client, Error};
use trireme_schema::{Value, json};

pub(crate) struct Node {
    pub(crate) world: Arc<World>,
    pub(crate) index: usize,
    pub(crate) name: String,
    pub(crate) client: Client,
    pub(crate) address: String,
    pub(crate) uid: String,
    /// Since when its conditions are as they are.
    pub(crate) since: Timestamp,
    /// Where its pods' addresses are, if that was known when it registered.
    pub(crate) ranges: Vec<String>,
}

/// A node that could not register tries again after this, and after twice as long each time that follows.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

impl Node {
    /// Makes the Node object, or takes over the one that is there.
    pub(crate) async fn register(world: &Arc<World>, index: usize) -> Result<Self, Error> {
        let options = &world.options;
        let name = options.name(index);
        let client = world.node(index, &name)?;
        let now = Timestamp::now();
        let made = send(&client, Method::POST, "/api/v1/nodes", JSON, &object::node(options, index, now)).await;
        let answer = match made {
            Err(error) if error.is_already_exists() => {
                let path = format!("/api/v1/nodes/{name}");
                send(&client, Method::PATCH, &path, MERGE, &object::relabelled(options, index)).await?;
                let status = serde_json::json!({"status": object::status(options, index, now, now)});
                send(&client, Method::PATCH, &format!("{path}/status"), MERGE, &status).await?
            }
            other => other?,
        };
        let node = json::parse(answer.body()).unwrap_or_default();
        world.tally.registered.add(1);
        Ok(Self {
            world: Arc::clone(world),
            index,
            address: object::address(index).to_string(),
            uid: node.str_at(&["metadata", "uid"]).to_owned(),
            since: now,
            ranges: ranges(&node),
            name,
            client,
        })
    }

    /// Registers, however often it takes; `None` when the simulation stops before.
    pub(crate) async fn registered(world: &Arc<World>, index: usize) -> Option<Self> {
        let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
        loop {
            let turn = async {
                let _turn = world.registering.acquire().await;
                Self::register(world, index).await
            };
            let registered = tokio::select! {
                () = world.stop.cancelled() => return None,
                registered = turn => registered,
            };
            match registered {
                Ok(node) => return Some(node),
                Err(error) => tracing::warn!(node = world.options.name(index), %error, "cannot register"),
            }
            tokio::select! {
                () = world.stop.cancelled() => return None,
                () = tokio::time::sleep(backoff.step()) => {}
            }
        }
    }

    /// Lives and works until the simulation stops.
    pub(crate) async fn run(self) {
        let node = Arc::new(self);
        node.world.tally.ready.change(1);
        let (answers, hears) = watch::channel(true);
        let work = tokio::spawn(Work::new(Arc::clone(&node)).run(hears));
        Life::new(node, answers).run().await;
        // It stops as well.
        let _ = work.await;
    }
}

/// The ranges of a node's pods.
pub(crate) fn ranges(node: &Value) -> Vec<String> {
    node.list_at(&["spec", "podCIDRs"]).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
