//! Scheduling: pods a second on 5,000 nodes, by what the pods ask for (the shapes of upstream's scheduler_perf). First
//! the decisions alone, then with the API: pods that wait are bound through the whole pipeline, on disk.

use crate::plane::Plane;
use crate::table::Table;
use crate::{Failure, Outcome, block_on, scratch};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trireme_apiserver::User;
use trireme_client::{Client, Informers, Key};
use trireme_scheduler::config::Configuration;
use trireme_scheduler::plugins::{self, Sources};
use trireme_scheduler::queue::Backoff;
use trireme_scheduler::{Core, Decision, Metrics, Profiles, Scheduler, view};

const NODES: usize = 5_000;

/// A workload: pods that are there before, and pods that are measured.
struct Shape {
    name: &'static str,
    before: (usize, fn(usize) -> Value),
    measured: (usize, fn(usize) -> Value),
}

const SHAPES: &[Shape] = &[
    Shape { name: "plain", before: (5_000, plain), measured: (20_000, plain) },
    Shape { name: "plain, no two alike", before: (5_000, plain), measured: (5_000, distinct) },
    Shape { name: "one for each node (daemon set)", before: (0, plain), measured: (5_000, daemon) },
    Shape { name: "required affinity", before: (5_000, near), measured: (5_000, near) },
    Shape { name: "required anti-affinity", before: (1_000, apart), measured: (2_000, apart) },
    Shape { name: "preferred affinity", before: (5_000, rather_near), measured: (5_000, rather_near) },
    Shape { name: "preferred anti-affinity", before: (5_000, rather_apart), measured: (5_000, rather_apart) },
    Shape { name: "required spread over zones", before: (1_000, plain), measured: (5_000, spread) },
    Shape { name: "preferred spread over zones", before: (1_000, plain), measured: (5_000, rather_spread) },
    Shape { name: "preemption (4 pods out for each)", before: (20_000, low), measured: (5_000, high) },
    Shape { name: "all of these mixed", before: (5_000, plain), measured: (10_000, mixed) },
];

pub(crate) fn measure(table: &mut Table) -> Outcome {
    for shape in SHAPES {
        let (rate, placed) = decide(shape)?;
        table
            .plain(format!("scheduling, decisions alone: {}", shape.name), format!("{rate:.0} pods/s ({placed} pods)"));
    }
    for count in [5_000, 10_000] {
        let rate = block_on(with_api(count))?;
        table.plain(format!("scheduling with the API: {count} plain pods"), format!("{rate:.0} pods/s"));
    }
    Ok(())
}

/// Decides about all pods of a shape, and tells how many a second.
fn decide(shape: &Shape) -> Result<(f64, usize), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let profiles = Profiles::new([plugins::usual(&Sources::none())]);
    let mut core = Core::new(Arc::new(profiles), Backoff::default(), SmallRng::seed_from_u64(1));
    for number in 0..NODES {
        let node: view::Node = serde_json::from_value(node(number))?;
        core.node_changed(&format!("node-{number}"), Some(node), Instant::now())?;
    }
    let (count, of) = shape.before;
    run(&mut core, "before", count, of)?;
    let (count, of) = shape.measured;
    run(&mut core, "measured", count, of)
}

fn run(core: &mut Core, prefix: &str, count: usize, of: fn(usize) -> Value) -> Result<(f64, usize), Failure> {
    for number in 0..count {
        let name = format!("{prefix}-{number}");
        let pod: view::Pod = serde_json::from_value(pod(&name, of(number)))?;
        core.pod_changed(&Key::new("bench", &name), Some(pod), Instant::now())?;
    }
    let start = Instant::now();
    let mut placed = 0;
    while let Some(attempt) = core.next(Instant::now()) {
        match core.decide(attempt, Instant::now()) {
            Decision::Placed(done) => {
                core.bound(&done.attempt.pod.key);
                placed += 1;
            }
            Decision::Failed(failure) => {
                if failure.victims.is_empty() {
                    return Err(format!("{}: {}", failure.attempt.pod.key, failure.message).into());
                }
                for victim in &failure.victims {
                    core.pod_changed(&victim.key, None, Instant::now())?;
                }
                core.help(&failure.attempt.pod.key, Instant::now());
            }
        }
    }
    let rate = f64::from(u32::try_from(placed)?) / start.elapsed().as_secs_f64();
    if placed == count { Ok((rate, placed)) } else { Err(format!("{placed} of {count} pods were placed").into()) }
}

/// Binds plain pods that wait, through the API.
async fn with_api(count: usize) -> Result<f64, Failure> {
    let dir = scratch()?;
    let plane = Plane::start(dir.path()).await?;
    let admin = Client::new(plane.in_process(), "bench");
    create_all(&admin, "/api/v1/nodes", (0..NODES).map(node)).await?;
    create_all(&admin, "/api/v1/namespaces", [json!({"metadata": {"name": "bench"}})].into_iter()).await?;
    let account = json!({"metadata": {"name": "default"}});
    create_all(&admin, "/api/v1/namespaces/bench/serviceaccounts", [account].into_iter()).await?;
    let pods = (0..count).map(|number| pod(&format!("p-{number}"), plain(number)));
    create_all(&admin, "/api/v1/namespaces/bench/pods", pods).await?;
    let stop = CancellationToken::new();
    let user = User::new("system:kube-scheduler", &[]);
    let client = Client::new(Arc::new(plane.server.transport(user)), "kube-scheduler");
    let informers = Arc::new(Informers::new(client.clone(), stop.clone()));
    let watched = informers.get::<view::Pod>();
    watched.synced().await;
    let (bound, mut seen) = tokio::sync::watch::channel(0_usize);
    watched.subscribe(move |change| {
        let placed = |entry: &trireme_client::Entry<view::Pod>| {
            entry.decode().is_ok_and(|pod: view::Pod| !pod.spec.node_name.is_empty())
        };
        let before = change.old.as_ref().is_some_and(|old| placed(old));
        if !before && change.new.as_ref().is_some_and(|new| placed(new)) {
            bound.send_modify(|count| *count += 1);
        }
    });
    let start = Instant::now();
    let metrics = Arc::new(Metrics::default());
    let task = Scheduler::start(&Configuration::usual(), client, &informers, metrics, stop.clone())?;
    let all = seen.wait_for(|seen| *seen >= count);
    tokio::time::timeout(Duration::from_secs(300), all).await.map_err(|_| "not all pods were bound in time")??;
    let took = start.elapsed();
    stop.cancel();
    task.await?;
    Ok(f64::from(u32::try_from(count)?) / took.as_secs_f64())
}

async fn create_all(client: &Client, path: &str, objects: impl Iterator<Item = Value>) -> Result<(), Failure> {
    use futures::StreamExt;
    let calls = objects.map(|mut object| {
        let kind = match path.rsplit('/').next() {
            Some("nodes") => "Node",
            Some("pods") => "Pod",
            Some("serviceaccounts") => "ServiceAccount",
            _ => "Namespace",
        };
        object["apiVersion"] = json!("v1");
        object["kind"] = json!(kind);
        async move {
            let body = serde_json::to_vec(&object)?;
            client.request(http::Method::POST, path, Some(("application/json", body.into()))).await?;
            Ok::<(), Failure>(())
        }
    });
    let mut calls = futures::stream::iter(calls).buffer_unordered(128);
    while let Some(call) = calls.next().await {
        call?;
    }
    Ok(())
}

fn node(number: usize) -> Value {
    let zone = format!("zone-{}", number % 3);
    json!({"metadata": {"name": format!("node-{number}"), "labels": {
            "kubernetes.io/hostname": format!("node-{number}"), "topology.kubernetes.io/zone": zone, "region": "one"}},
        "spec": {},
        "status": {"capacity": {"cpu": "4", "memory": "32Gi", "pods": "110"},
            "allocatable": {"cpu": "4", "memory": "32Gi", "pods": "110"}}})
}

fn pod(name: &str, shape: Value) -> Value {
    let mut spec = shape["spec"].clone();
    spec["schedulerName"] = json!("default-scheduler");
    let cpu = shape["cpu"].as_str().unwrap_or("10m");
    spec["containers"] = json!([{"name": "c", "image": "registry.k8s.io/pause:3.10",
        "resources": {"requests": {"cpu": cpu, "memory": "50Mi"}}}]);
    json!({"metadata": {"name": name, "namespace": "bench", "uid": name, "labels": shape["labels"]}, "spec": spec})
}

fn plain(_: usize) -> Value {
    json!({"labels": {"type": "plain"}, "spec": {}})
}

fn distinct(number: usize) -> Value {
    json!({"labels": {"type": "plain", "number": number.to_string()}, "spec": {}})
}

fn daemon(number: usize) -> Value {
    let field = json!({"key": "metadata.name", "operator": "In", "values": [format!("node-{number}")]});
    json!({"labels": {"type": "daemon"}, "spec": {"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [field]}]}}}}})
}

fn term(colour: &str, key: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {"colour": colour}}, "topologyKey": key})
}

fn near(_: usize) -> Value {
    json!({"labels": {"colour": "blue"}, "spec": {"affinity": {"podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [term("blue", "region")]}}}})
}

fn apart(_: usize) -> Value {
    json!({"labels": {"colour": "green"}, "spec": {"affinity": {"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [term("green", "kubernetes.io/hostname")]}}}})
}

fn rather(kind: &str, colour: &str) -> Value {
    let preferred = json!([{"weight": 1, "podAffinityTerm": term(colour, "kubernetes.io/hostname")}]);
    json!({"labels": {"colour": colour}, "spec": {"affinity": {kind: {
        "preferredDuringSchedulingIgnoredDuringExecution": preferred}}}})
}

fn rather_near(_: usize) -> Value {
    rather("podAffinity", "red")
}

fn rather_apart(_: usize) -> Value {
    rather("podAntiAffinity", "yellow")
}

fn over_zones(when: &str) -> Value {
    json!({"labels": {"colour": "purple"}, "spec": {"topologySpreadConstraints": [{
        "maxSkew": 5, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": when,
        "labelSelector": {"matchLabels": {"colour": "purple"}}}]}})
}

fn spread(_: usize) -> Value {
    over_zones("DoNotSchedule")
}

fn rather_spread(_: usize) -> Value {
    over_zones("ScheduleAnyway")
}

fn low(_: usize) -> Value {
    json!({"cpu": "950m", "labels": {"type": "low"}, "spec": {"priority": 0}})
}

fn high(_: usize) -> Value {
    json!({"cpu": "3", "labels": {"type": "high"}, "spec": {"priority": 10}})
}

fn mixed(number: usize) -> Value {
    let of = [plain, near, rather_near, rather_apart, spread, rather_spread];
    of.get(number % of.len()).map_or_else(|| plain(number), |of| of(number))
}
