use super::*;
use crate::testing::{Lab, labelled, roomy};
use serde_json::{Value, json};

/// Pods belong with those that have the same label `app`, if they have an owner.
struct ByApp;

impl Workloads for ByApp {
    fn selector(&self, pod: &Arc<PodInfo>) -> Option<LabelSelector> {
        let app = pod.labels.get("app").filter(|_| pod.labels.get("owned").is_some())?;
        Some(LabelSelector(vec![crate::Requirement::equals("app", app)]))
    }
}

fn plugin() -> PodTopologySpread {
    PodTopologySpread::new(&SpreadArgs::default(), Arc::new(ByApp))
}

fn constraint(key: &str, max_skew: i32, more: Value) -> Value {
    let mut constraint = json!({"topologyKey": key, "maxSkew": max_skew, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}}});
    for (key, value) in more.as_object().unwrap() {
        constraint[key] = value.clone();
    }
    constraint
}

fn web(name: &str, spec: Value) -> Arc<PodInfo> {
    labelled(name, json!({"app": "web"}), spec)
}

/// Nodes a1, a2 in zone a, b1 and b2 in zone b, x without a zone; with so many pods on each.
fn lab(pods: [usize; 5]) -> Lab {
    let mut lab = Lab::default();
    for ((name, zone), count) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b"), ("x", "")].into_iter().zip(pods) {
        let mut labels = json!({HOSTNAME: name});
        if !zone.is_empty() {
            labels[ZONE] = json!(zone);
        }
        if name.starts_with('b') {
            labels["disk"] = json!("ssd");
        }
        lab.cluster.set_node(name, roomy(labels));
        for number in 0..count {
            lab.cluster.place(web(&format!("{name}-{number}"), json!({})), name);
        }
    }
    lab
}

fn verdicts(lab: &Lab, pod: &Arc<PodInfo>) -> Vec<bool> {
    lab.verdicts(&plugin(), pod).iter().map(Result::is_ok).collect()
}

#[test]
fn required_constraints_are_upstreams() {
    let spread = |constraints: Value| json!({"topologySpreadConstraints": constraints});
    for (about, pods, spec, expected) in [
        ("one zone is ahead", [1, 1, 1, 0, 0], spread(json!([constraint(ZONE, 1, json!({}))])), [0, 0, 1, 1, 0]),
        ("a skew of two", [1, 1, 1, 0, 0], spread(json!([constraint(ZONE, 2, json!({}))])), [1, 1, 1, 1, 0]),
        (
            "both must hold, and nodes without a zone are not counted",
            [1, 0, 1, 0, 0],
            spread(json!([constraint(ZONE, 1, json!({})), constraint(HOSTNAME, 1, json!({}))])),
            [0, 1, 0, 1, 0],
        ),
        (
            "with fewer domains than asked for the least is none",
            [1, 0, 1, 0, 0],
            spread(json!([constraint(ZONE, 1, json!({"minDomains": 3}))])),
            [0, 0, 0, 0, 0],
        ),
        (
            "domains that the pod cannot go to do not count",
            [0, 0, 2, 0, 0],
            json!({"nodeSelector": {"disk": "ssd"}, "topologySpreadConstraints": [constraint(ZONE, 1, json!({}))]}),
            [1, 1, 1, 1, 0],
        ),
        (
            "unless affinity is ignored",
            [0, 0, 2, 0, 0],
            json!({"nodeSelector": {"disk": "ssd"},
                "topologySpreadConstraints": [constraint(ZONE, 1, json!({"nodeAffinityPolicy": "Ignore"}))]}),
            [1, 1, 0, 0, 0],
        ),
        (
            "a pod that is not counted itself may make it no worse",
            [2, 0, 1, 0, 0],
            spread(json!([constraint(ZONE, 1, json!({"labelSelector": {"matchLabels": {"app": "web", "x": "y"}}}))])),
            [1, 1, 1, 1, 0],
        ),
    ] {
        let lab = lab(pods);
        assert_eq!(verdicts(&lab, &web("p", spec)), expected.map(|fits| fits == 1), "{about}");
    }
    let pod = web("p", spread(json!([constraint(ZONE, 1, json!({}))])));
    let texts: Vec<_> = lab([1, 0, 0, 0, 0]).verdicts(&plugin(), &pod).into_iter().filter_map(Result::err).collect();
    assert_eq!(texts[0].to_string(), "node(s) didn't match pod topology spread constraints");
    assert_eq!(texts[2].to_string(), "node(s) didn't match pod topology spread constraints (missing required label)");
}

#[test]
fn tainted_nodes_count_unless_their_taints_are_honoured() {
    let mut lab = lab([1, 0, 0, 0, 0]);
    for name in ["b1", "b2"] {
        let labels = json!({HOSTNAME: name, ZONE: "b"});
        let taints = json!({"taints": [{"key": "k", "effect": "NoSchedule"}]});
        lab.cluster.set_node(name, crate::testing::node(labels, taints, json!({})));
    }
    let with = |policy: &str| {
        web("p", json!({"topologySpreadConstraints": [constraint(ZONE, 1, json!({"nodeTaintsPolicy": policy}))]}))
    };
    assert_eq!(verdicts(&lab, &with("Ignore"))[..2], [false, false]);
    assert_eq!(verdicts(&lab, &with("Honor"))[..2], [true, true]);
}

#[test]
fn a_what_if_counts_like_the_cluster_would() {
    let asked = web("p", json!({"topologySpreadConstraints": [constraint(ZONE, 1, json!({}))]}));
    let (without, mut with) = (lab([1, 1, 1, 0, 0]), lab([1, 1, 1, 0, 0]));
    let other = web("q", json!({}));
    with.cluster.place(Arc::clone(&other), "b2");
    let text = |verdicts: Vec<Result<(), Status>>| format!("{verdicts:?}");
    let plugin = plugin();
    assert_eq!(text(without.verdicts_if(&plugin, &asked, &other, "b2", true)), text(with.verdicts(&plugin, &asked)));
    assert_eq!(text(with.verdicts_if(&plugin, &asked, &other, "b2", false)), text(without.verdicts(&plugin, &asked)));
}

#[test]
fn the_emptier_domain_is_liked() {
    let soft = |key: &str| constraint(key, 1, json!({"whenUnsatisfiable": "ScheduleAnyway"}));
    let by = |keys: &[&str]| {
        let constraints: Vec<Value> = keys.iter().map(|key| soft(key)).collect();
        web("p", json!({"topologySpreadConstraints": constraints}))
    };
    let plugin = plugin();
    // Two zones weigh ln 4: three pods make 4.16, one makes 1.39, rounded to 4 and 1.
    assert_eq!(lab([2, 1, 1, 0, 0]).scores(&plugin, &by(&[ZONE])), [25, 25, 100, 100, 0]);
    assert_eq!(lab([0, 0, 0, 0, 0]).scores(&plugin, &by(&[ZONE])), [100, 100, 100, 100, 0]);
    let both = lab([2, 1, 1, 0, 0]).scores(&plugin, &by(&[ZONE, HOSTNAME]));
    assert!(both[3] > both[2] && both[2] > both[1] && both[1] > both[0], "{both:?}");
}

#[test]
fn pods_of_a_workload_are_spread_by_default() {
    let owned = labelled("p", json!({"app": "web", "owned": "yes"}), json!({}));
    let scores = lab([2, 0, 0, 0, 0]).scores(&plugin(), &owned);
    assert!(scores[2] > scores[1] && scores[1] > scores[0], "{scores:?}");
    assert!(plugin().indifferent(&web("p", json!({})), &Cluster::default()), "it has no owner");
}
