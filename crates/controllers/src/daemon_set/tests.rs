use super::*;
use crate::Options;
use crate::controller::run;
use crate::fake_api::{FakeApi, clock_at, eventually};
use serde_json::json;

fn agent(image: &str) -> serde_json::Value {
    json!({
        "metadata": {"name": "agent", "namespace": "n"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}}, "revisionHistoryLimit": 10,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {
                "nodeSelector": {"role": "worker"}, "containers": [{"name": "c", "image": image}]}}
        }
    })
}

fn images(api: &FakeApi) -> Vec<(String, String)> {
    let pods = api.all::<Pod>();
    let mut found: Vec<_> = pods
        .into_iter()
        .map(|pod| {
            let spec = pod.spec.unwrap();
            let affinity = spec.affinity.unwrap().node_affinity.unwrap();
            let terms = affinity.required_during_scheduling_ignored_during_execution.unwrap().node_selector_terms;
            let node = terms[0].match_fields.as_ref().unwrap()[0].values.as_ref().unwrap()[0].clone();
            (node, spec.containers[0].image.clone().unwrap())
        })
        .collect();
    found.sort();
    found
}

fn ready_all(api: &FakeApi) {
    for pod in api.all::<Pod>() {
        if pod.status.is_none() {
            let ready = json!({"status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:30:00Z"}]}});
            api.change::<Pod>("n", pod.metadata.name.as_deref().unwrap(), ready);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_come_go_and_are_updated_one_after_the_other() {
    let api = FakeApi::default();
    let context = api.context(Options::default(), clock_at("2026-01-01T01:00:00Z"));
    for (name, role) in [("a", "worker"), ("b", "worker"), ("c", "server")] {
        api.put::<Node>(json!({"metadata": {"name": name, "labels": {"role": role}}}));
    }
    tokio::spawn(run(DaemonSets::new(&context), context.shutdown.clone()));
    api.put::<DaemonSet>(agent("one"));
    let pairs =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
    eventually("two pods", || {
        ready_all(&api);
        images(&api) == pairs(&[("a", "one"), ("b", "one")])
    })
    .await;
    api.change::<Node>("", "c", json!({"metadata": {"labels": {"role": "worker"}}}));
    api.change::<Node>("", "a", json!({"metadata": {"labels": {"role": "server"}}}));
    eventually("the new nodes", || {
        ready_all(&api);
        images(&api) == pairs(&[("b", "one"), ("c", "one")])
    })
    .await;
    api.change::<DaemonSet>("n", "agent", json!({"spec": {"template": agent("two")["spec"]["template"]}}));
    eventually("the update", || {
        let up = images(&api).len();
        assert!(up >= 1, "both down at once");
        ready_all(&api);
        images(&api) == pairs(&[("b", "two"), ("c", "two")])
    })
    .await;
    eventually("the status", || {
        let status = api.get::<DaemonSet>("n", "agent").unwrap().status.unwrap_or_default();
        status.number_available == Some(2) && status.updated_number_scheduled == Some(2)
    })
    .await;
    let revisions: Vec<i64> = api.all::<ControllerRevision>().iter().map(|revision| revision.revision).collect();
    assert_eq!(revisions.len(), 2);
    context.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_meanwhile_every_fitting_node_has_one_pod() {
    use rand::seq::IndexedRandom;
    use rand::{Rng, SeedableRng};
    for seed in 0..6 {
        let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
        let api = FakeApi::default();
        let context = api.context(Options::default(), clock_at("2026-01-01T01:00:00Z"));
        tokio::spawn(run(DaemonSets::new(&context), context.shutdown.clone()));
        let mut wanted = agent("one");
        if seed % 2 == 0 {
            wanted["spec"]["updateStrategy"]["rollingUpdate"] = json!({"maxSurge": 1, "maxUnavailable": 0});
        }
        api.put::<DaemonSet>(wanted);
        let put_node = |name: &str, role: &str| {
            api.remove::<Node>("", name);
            api.put::<Node>(json!({"metadata": {"name": name, "labels": {"role": role}}}));
        };
        for _ in 0..120 {
            let pods = api.all::<Pod>();
            let pod = pods.choose(&mut rng).and_then(|pod| pod.metadata.name.clone());
            let node = *["a", "b", "c", "d"].choose(&mut rng).unwrap();
            match (rng.random_range(0..9), pod) {
                (0, Some(pod)) => api.remove::<Pod>("n", &pod),
                (1, Some(pod)) => api.change::<Pod>("n", &pod, json!({"status": {"phase": "Failed"}})),
                (2, _) => api.remove::<Node>("", node),
                (3 | 4, _) => put_node(node, if rng.random_bool(0.7) { "worker" } else { "server" }),
                (5, _) => {
                    let image = *["one", "two"].choose(&mut rng).unwrap();
                    let template = agent(image)["spec"]["template"].clone();
                    api.change::<DaemonSet>("n", "agent", json!({"spec": {"template": template}}));
                }
                _ => ready_all(&api),
            }
            tokio::time::sleep(std::time::Duration::from_millis(rng.random_range(0..30))).await;
        }
        for (node, role) in [("a", "worker"), ("b", "worker"), ("c", "server"), ("d", "worker")] {
            put_node(node, role);
        }
        api.change::<DaemonSet>("n", "agent", json!({"spec": {"template": agent("last")["spec"]["template"]}}));
        let last = |node: &str| (node.to_owned(), "last".to_owned());
        eventually(&format!("seed {seed}"), || {
            ready_all(&api);
            let status = api.get::<DaemonSet>("n", "agent").unwrap().status.unwrap_or_default();
            images(&api) == [last("a"), last("b"), last("d")] && status.number_available == Some(3)
        })
        .await;
        context.shutdown.cancel();
    }
}
