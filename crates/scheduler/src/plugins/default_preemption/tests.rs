use super::*;
use crate::core::{Core, Decision, Failure};
use crate::plugins;
use crate::queue::Backoff;
use crate::report::Nominated;
use crate::testing::node;
use crate::{LabelSelector, Profiles, Requirement};
use serde_json::{Value, json};
use tokio::time::Instant;
use trireme_client::Key;

struct Fixed(Vec<Budget>);

impl Budgets for Fixed {
    fn all(&self) -> (u64, Arc<Vec<Budget>>) {
        (1, Arc::new(self.0.clone()))
    }
}

fn core(budgets: Vec<Budget>) -> Core {
    let sources = plugins::Sources { budgets: Arc::new(Fixed(budgets)), ..plugins::Sources::none() };
    let profiles = Profiles::new([plugins::usual(&sources)]);
    Core::new(Arc::new(profiles), Backoff::default(), SmallRng::seed_from_u64(7))
}

fn with_nodes(core: &mut Core, names: &[&str]) {
    for name in names {
        let labels = json!({"zone": name});
        let spec = node(labels, json!({}), json!({"cpu": "4", "memory": "4Gi", "pods": "10"}));
        core.set_node(name, Some(spec), Instant::now());
    }
}

/// A pod of a priority that takes so many cores; `node` is empty for one that waits.
fn put(core: &mut Core, name: &str, priority: i32, cores: &str, node: &str, more: Value) {
    let mut pod = json!({"metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"app": name}},
        "spec": {"schedulerName": "default-scheduler", "nodeName": node, "priority": priority,
            "containers": [{"resources": {"requests": {"cpu": cores}}}]}});
    for part in ["spec", "status", "metadata"] {
        for (key, value) in more.get(part).and_then(Value::as_object).into_iter().flatten() {
            pod[part][key] = value.clone();
        }
    }
    core.pod_changed(&Key::new("n", name), Some(serde_json::from_value(pod).unwrap()), Instant::now()).unwrap();
}

fn attempt(core: &mut Core) -> Failure {
    let attempt = core.next(Instant::now()).expect("a pod is ready");
    match core.decide(attempt, Instant::now()) {
        Decision::Failed(failure) => failure,
        Decision::Placed(placed) => panic!("{} fits on {}", placed.attempt.pod.key, placed.node),
    }
}

fn outcome(failure: &Failure) -> (Option<&str>, Vec<&str>) {
    let node = match &failure.nominated {
        Nominated::Node(node) => Some(&**node),
        Nominated::Keep | Nominated::Clear => None,
    };
    let mut victims: Vec<&str> = failure.victims.iter().map(|pod| &*pod.key.name).collect();
    victims.sort_unstable();
    (node, victims)
}

/// What is chosen among nodes n1 and n2 that hold these pods: name, priority, cores, node, when started.
fn choice(pods: &[(&str, i32, &str, &str, &str)], budgets: Vec<Budget>) -> (String, Vec<String>) {
    let mut core = core(budgets);
    with_nodes(&mut core, &["n1", "n2"]);
    for (name, priority, cores, node, started) in pods {
        put(&mut core, name, *priority, cores, node, json!({"status": {"startTime": started}}));
    }
    put(&mut core, "high", 100, "2", "", json!({}));
    let failure = attempt(&mut core);
    let (node, victims) = outcome(&failure);
    (node.expect("a node").to_owned(), victims.into_iter().map(ToOwned::to_owned).collect())
}

const EARLY: &str = "2026-01-01T00:00:00Z";
const LATE: &str = "2026-01-02T00:00:00Z";

#[tokio::test(start_paused = true)]
async fn the_node_is_chosen_by_upstreams_order() {
    let protecting = |app: &str| Budget {
        namespace: "n".into(),
        selector: LabelSelector(vec![Requirement::equals("app", app)]),
        allowed: 0,
        disrupted: Vec::new(),
    };
    for (about, pods, budgets, node, victims) in [
        (
            "no budget is violated",
            vec![("a", 1, "4", "n1", EARLY), ("b", 9, "4", "n2", EARLY)],
            vec![protecting("a")],
            "n2",
            vec!["b"],
        ),
        ("the least important", vec![("a", 2, "4", "n1", EARLY), ("b", 1, "4", "n2", EARLY)], vec![], "n2", vec!["b"]),
        (
            "the least sum",
            vec![
                ("a", 2, "1", "n1", EARLY),
                ("b", 2, "3", "n1", EARLY),
                ("c", 2, "2", "n2", EARLY),
                ("d", 1, "2", "n2", EARLY),
            ],
            vec![],
            "n2",
            vec!["d"],
        ),
        (
            "the fewest",
            vec![
                ("a", 1, "1", "n1", EARLY),
                ("b", 1, "3", "n1", LATE),
                ("c", 1, "2", "n2", EARLY),
                ("e", 1, "1", "n2", LATE),
                ("f", 1, "1", "n2", LATE),
            ],
            vec![],
            "n1",
            vec!["b"],
        ),
        ("the youngest", vec![("a", 1, "4", "n1", EARLY), ("b", 1, "4", "n2", LATE)], vec![], "n2", vec!["b"]),
    ] {
        let (chosen, removed) = choice(&pods, budgets);
        assert_eq!((chosen.as_str(), removed), (node, victims.into_iter().map(String::from).collect()), "{about}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_pods_go_than_must() {
    let mut core = core(Vec::new());
    with_nodes(&mut core, &["n1"]);
    for (name, priority, cores) in [("a", 3, "1"), ("b", 1, "1"), ("c", 2, "1"), ("d", 200, "1")] {
        put(&mut core, name, priority, cores, "n1", json!({}));
    }
    put(&mut core, "high", 100, "2", "", json!({}));
    let failure = attempt(&mut core);
    assert_eq!(outcome(&failure), (Some("n1"), vec!["b", "c"]));
    assert_eq!(failure.message, "0/1 nodes are available: 1 Insufficient cpu.");
}

#[tokio::test(start_paused = true)]
async fn why_nothing_helps_is_told_in_upstreams_words() {
    let mut core = core(Vec::new());
    with_nodes(&mut core, &["n1", "n2"]);
    put(&mut core, "a", 100, "4", "n1", json!({}));
    put(
        &mut core,
        "never",
        200,
        "3",
        "",
        json!({"spec": {"preemptionPolicy": "Never", "nodeSelector": {"zone": "n1"}}}),
    );
    assert_eq!(
        attempt(&mut core).message,
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector. \
         preemption: not eligible due to preemptionPolicy=Never."
    );
    put(&mut core, "same", 100, "3", "", json!({"spec": {"nodeSelector": {"zone": "n1"}}}));
    assert_eq!(
        attempt(&mut core).message,
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector. \
         preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, \
         1 Preemption is not helpful for scheduling."
    );
}

#[tokio::test(start_paused = true)]
async fn room_that_is_made_is_kept_for_who_it_is_made_for() {
    let mut core = core(Vec::new());
    with_nodes(&mut core, &["n1"]);
    put(&mut core, "low", 1, "3", "n1", json!({}));
    put(&mut core, "high", 100, "3", "", json!({}));
    assert_eq!(outcome(&attempt(&mut core)), (Some("n1"), vec!["low"]));
    let dying = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
        "status": {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]}});
    put(&mut core, "low", 1, "3", "n1", dying);
    core.help(&Key::new("n", "high"), Instant::now());
    let waiting = attempt(&mut core);
    assert!(waiting.message.ends_with("preemption: not eligible due to a terminating pod on the nominated node."));
    put(&mut core, "middle", 50, "2", "", json!({}));
    core.pod_changed(&Key::new("n", "low"), None, Instant::now()).unwrap();
    let refused = core.queue.take(&Key::new("n", "middle"), Instant::now()).unwrap();
    let Decision::Failed(refused) = core.decide(refused, Instant::now()) else {
        panic!("the room of another is taken")
    };
    assert!(refused.message.starts_with("0/1 nodes are available: 1 Insufficient cpu."), "{}", refused.message);
    let next = core.next(Instant::now()).unwrap();
    assert_eq!(&*next.pod.key.name, "high");
    assert!(matches!(core.decide(next, Instant::now()), Decision::Placed(_)));
}

#[tokio::test(start_paused = true)]
async fn pods_that_go_take_their_anti_affinity_with_them() {
    let mut core = core(Vec::new());
    with_nodes(&mut core, &["n1"]);
    let term = |app: &str| json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": "zone"});
    let away = |app: &str| json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term(app)]}}}});
    put(&mut core, "a", 1, "1", "n1", away("high"));
    put(&mut core, "b", 1, "1", "n1", json!({}));
    put(&mut core, "c", 1, "1", "n1", json!({}));
    put(&mut core, "high", 100, "1", "", away("c"));
    assert_eq!(outcome(&attempt(&mut core)), (Some("n1"), vec!["a", "c"]));
}
