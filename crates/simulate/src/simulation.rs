use crate::access::Access;
use crate::control_plane::{ControlPlane, own_memory};
use crate::node::Node;
use crate::observer::Observer;
use crate::options::Options;
use crate::report::{NodeCounts, PodCounts, Report};
use crate::world::World;
use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::TaskTracker;
use trireme_client::{DeleteOptions, Error};

/// What is still under way when a simulation stops is given so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many nodes are removed at a time.
const REMOVING: usize = 32;

/// Nodes that run.
pub struct Simulation {
    world: Arc<World>,
    observer: Arc<Observer>,
    control_plane: Arc<ControlPlane>,
    tasks: TaskTracker,
}

/// How a simulation goes, at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Since it began.
    pub time: Duration,
    /// Nodes that have registered and answer.
    pub ready: u64,
    /// Nodes in all.
    pub nodes: usize,
    /// Pods that are bound to no node, and those on our nodes whose containers have not started.
    pub pending: u64,
    /// Pods that run on our nodes.
    pub running: u64,
    /// Pods on our nodes that are over.
    pub over: u64,
    /// Pods whose containers started, so far.
    pub started: u64,
    /// Calls since the last snapshot.
    pub calls: u64,
    /// The time that 99 % of them did not exceed; none when there were none.
    pub p99: Option<Duration>,
}

impl Simulation {
    /// Registers the first node and starts all of them.
    ///
    /// # Errors
    /// When the first node cannot register: so could no other.
    pub async fn start(options: Options, access: Arc<dyn Access>) -> Result<Self, Error> {
        let world = World::new(options, access);
        let (observer, control_plane) = (Arc::new(Observer::default()), Arc::new(ControlPlane::default()));
        let tasks = TaskTracker::new();
        let first = Node::register(&world, 0).await?;
        let (watching, reading) = (Arc::clone(&observer), Arc::clone(&control_plane));
        let (a, b) = (Arc::clone(&world), Arc::clone(&world));
        tasks.spawn(async move { watching.run(a).await });
        tasks.spawn(async move { reading.run(b).await });
        tasks.spawn(first.run());
        for index in 1..world.options.nodes {
            let world = Arc::clone(&world);
            tasks.spawn(async move {
                if let Some(node) = Node::registered(&world, index).await {
                    node.run().await;
                }
            });
        }
        tasks.close();
        Ok(Self { world, observer, control_plane, tasks })
    }

    /// How it goes. The rates are those since the last time that this was asked.
    pub fn snapshot(&self) -> Snapshot {
        let tally = &self.world.tally;
        let calls = self.world.calls.recent();
        Snapshot {
            time: self.world.began.elapsed(),
            ready: tally.ready.get(),
            nodes: self.world.options.nodes,
            pending: self.observer.waiting() + tally.starting.get(),
            running: tally.running.get(),
            over: tally.over.get(),
            started: tally.started.get(),
            calls: calls.count(),
            p99: calls.percentile(99.0),
        }
    }

    /// Stops all nodes, as if their machines lost power, and tells how it went.
    pub async fn stop(&self) -> Report {
        self.control_plane.read(&self.world).await;
        let report = self.report();
        self.world.stop.cancel();
        // What does not end by then is in the middle of a call that nobody waits for.
        let _ = tokio::time::timeout(PATIENCE, self.tasks.wait()).await;
        report
    }

    fn report(&self) -> Report {
        let (tally, options) = (&self.world.tally, &self.world.options);
        let (calls, watches) = self.world.calls.all();
        Report {
            time: self.world.began.elapsed(),
            seed: options.seed,
            nodes: NodeCounts {
                asked: options.nodes,
                registered: tally.registered.get(),
                ready: tally.ready.get(),
                flaps: tally.flaps.get(),
                killed: tally.killed.get(),
                without_addresses: tally.without_addresses.get(),
            },
            pods: PodCounts {
                scheduled: tally.scheduled.get(),
                started: tally.started.get(),
                succeeded: tally.succeeded.get(),
                failed: tally.failed.get(),
                restarted: tally.restarted.get(),
                deleted: tally.deleted.get(),
                pending: self.observer.waiting() + tally.starting.get(),
                running: tally.running.get(),
            },
            latencies: self.observer.latencies(),
            calls,
            watches,
            control_plane: self.control_plane.usage(),
            memory: own_memory(),
        }
    }

    /// Removes the nodes and their leases; how many nodes could not be.
    pub async fn remove(&self) -> usize {
        let client = self.world.admin();
        let (nodes, leases) = (client.all::<v1::Node>(), client.namespaced::<Lease>("kube-node-lease"));
        let names = (0..self.world.options.nodes).map(|index| self.world.options.name(index));
        let removed = futures::stream::iter(names).map(|name| {
            let (nodes, leases) = (nodes.clone(), leases.clone());
            async move {
                let node = nodes.delete_if_present(&name, &DeleteOptions::default()).await;
                let lease = leases.delete_if_present(&name, &DeleteOptions::default()).await;
                if let Err(error) = node.as_ref().and(lease.as_ref()) {
                    tracing::warn!(node = name, %error, "cannot remove a node");
                }
                usize::from(node.is_err())
            }
        });
        removed.buffer_unordered(REMOVING).fold(0, async |all, one| all + one).await
    }
}
