use super::*;
use crate::controller::run;
use crate::fake_api::{FakeApi, clock_at, eventually};
use crate::{Options, replica_set};
use k8s_openapi::api::core::v1::Event;

fn web(image: &str, replicas: i32) -> serde_json::Value {
    json!({
        "metadata": {"name": "web", "namespace": "n"},
        "spec": {
            "replicas": replicas, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image}]}}
        }
    })
}

fn start(api: &FakeApi) -> Context {
    let context = api.context(Options::default(), clock_at("2026-01-01T01:00:00Z"));
    tokio::spawn(run(Deployments::new(&context), context.shutdown.clone()));
    tokio::spawn(run(replica_set::ReplicaSets::new(&context), context.shutdown.clone()));
    context
}

/// Plays the kubelet: every pod that is not ready becomes ready.
fn ready_all(api: &FakeApi) {
    for pod in api.all::<Pod>() {
        let ready = json!({"status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:30:00Z"}]}});
        if pod.status.is_none() {
            api.change::<Pod>("n", pod.metadata.name.as_deref().unwrap(), ready);
        }
    }
}

fn is_done(api: &FakeApi, image: &str, replicas: usize) -> bool {
    ready_all(api);
    let pods = api.all::<Pod>();
    let all = pods.len() == replicas
        && pods.iter().all(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some(image));
    let status = api.get::<Deployment>("n", "web").and_then(|deployment| deployment.status).unwrap_or_default();
    let reason = status.conditions.into_iter().flatten().find(|c| c.type_ == "Progressing").and_then(|c| c.reason);
    all && status.available_replicas == i32::try_from(replicas).ok()
        && reason.as_deref() == Some("NewReplicaSetAvailable")
}

#[tokio::test(start_paused = true)]
async fn a_new_template_replaces_all_pods_and_going_back_takes_up_the_old_set() {
    let api = FakeApi::default();
    let context = start(&api);
    api.put::<Deployment>(web("one", 4));
    eventually("the first rollout", || is_done(&api, "one", 4)).await;
    let template = |image: &str| json!({"spec": {"template": web(image, 4)["spec"]["template"]}});
    api.change::<Deployment>("n", "web", template("two"));
    eventually("the second rollout", || is_done(&api, "two", 4)).await;
    api.change::<Deployment>("n", "web", template("one"));
    eventually("the rollback", || is_done(&api, "one", 4)).await;

    let sets = api.all::<ReplicaSet>();
    assert_eq!(sets.len(), 2);
    let annotations: Vec<_> = sets.iter().map(|set| set.metadata.annotations.clone().unwrap()).collect();
    assert!(annotations.iter().any(|a| a[revision::REVISION] == "3" && a[revision::HISTORY] == "1"));
    let deployment = api.get::<Deployment>("n", "web").unwrap();
    assert_eq!(revision::revision(&deployment.metadata), 3);
    eventually("the events", || {
        api.all::<Event>().iter().any(|event| {
            event.reason.as_deref() == Some("ScalingReplicaSet")
                && event.message.as_deref().is_some_and(|text| text.starts_with("Scaled up replica set web-"))
        })
    })
    .await;
    context.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn recreate_waits_for_the_old_pods_and_a_scale_needs_no_new_set() {
    let api = FakeApi::default();
    let context = start(&api);
    let mut wanted = web("one", 3);
    wanted["spec"]["strategy"] = json!({"type": "Recreate"});
    api.put::<Deployment>(wanted);
    eventually("the first rollout", || is_done(&api, "one", 3)).await;
    api.change::<Deployment>("n", "web", json!({"spec": {"replicas": 5}}));
    eventually("the scale", || is_done(&api, "one", 5)).await;
    assert_eq!(api.all::<ReplicaSet>().len(), 1);
    api.change::<Deployment>("n", "web", json!({"spec": {"template": web("two", 3)["spec"]["template"]}}));
    eventually("the second rollout", || {
        let pods = api.all::<Pod>();
        let images: std::collections::BTreeSet<_> =
            pods.iter().map(|pod| pod.spec.as_ref().unwrap().containers[0].image.clone()).collect();
        assert!(images.len() <= 1, "old and new pods at once");
        is_done(&api, "two", 5)
    })
    .await;
    context.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_paused_deployment_makes_no_set_until_it_is_resumed() {
    let api = FakeApi::default();
    let context = start(&api);
    let mut wanted = web("one", 1);
    wanted["spec"]["paused"] = json!(true);
    api.put::<Deployment>(wanted);
    let progressing = || {
        let status = api.get::<Deployment>("n", "web").unwrap().status.unwrap_or_default();
        status.conditions.into_iter().flatten().find(|c| c.type_ == "Progressing").and_then(|c| c.reason)
    };
    eventually("the pause", || progressing().as_deref() == Some("DeploymentPaused")).await;
    assert!(api.all::<ReplicaSet>().is_empty());
    api.change::<Deployment>("n", "web", json!({"spec": {"paused": null}}));
    eventually("the rollout", || is_done(&api, "one", 1)).await;
    context.shutdown.cancel();
}

#[test]
fn history_keeps_the_newest_empty_sets() {
    let set = |name: &str, revision: &str, size: i32| -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name, "annotations": {(revision::REVISION): revision}},
            "spec": {"replicas": size, "selector": {}},
            "status": {"replicas": size}
        }))
        .unwrap()
    };
    let sets = [set("c", "3", 0), set("a", "1", 0), set("b", "2", 1), set("new", "4", 3)];
    let names = |limit| beyond_history(&sets, Some("new"), limit).into_iter().map(|s| s.0).collect::<Vec<_>>();
    assert_eq!(names(2), ["a"]);
    assert_eq!(names(1), ["a"]);
    assert_eq!(names(0), ["a", "c"]);
    assert!(names(3).is_empty());
}

/// A kubelet that makes pods ready, lets them fail, and removes what was killed, in an order that only the seed knows.
async fn disturb(api: &FakeApi, seed: u64) {
    use rand::seq::IndexedRandom;
    use rand::{Rng, SeedableRng};
    let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
    for _ in 0..150 {
        let pods = api.all::<Pod>();
        let pod = pods.choose(&mut rng).and_then(|pod| pod.metadata.name.clone());
        match (rng.random_range(0..10), pod) {
            (0, Some(pod)) => api.remove::<Pod>("n", &pod),
            (1, Some(pod)) => api.change::<Pod>("n", &pod, json!({"status": {"phase": "Failed"}})),
            (2, _) => {
                let replicas = rng.random_range(0..12);
                api.change::<Deployment>("n", "web", json!({"spec": {"replicas": replicas}}));
            }
            (3, _) => {
                let image = *["one", "two", "three"].choose(&mut rng).unwrap();
                api.change::<Deployment>("n", "web", json!({"spec": {"template": web(image, 0)["spec"]["template"]}}));
            }
            (4, _) => {
                let paused = rng.random_bool(0.5);
                api.change::<Deployment>("n", "web", json!({"spec": {"paused": paused}}));
            }
            (5, Some(pod)) => {
                let other = json!({"metadata": {"labels": {"app": "other"}}});
                api.change::<Pod>("n", &pod, other);
            }
            _ => ready_all(api),
        }
        tokio::time::sleep(std::time::Duration::from_millis(rng.random_range(0..40))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_meanwhile_the_replicas_converge() {
    for seed in 0..6 {
        let api = FakeApi::default();
        let context = start(&api);
        api.put::<Deployment>(web("one", 4));
        disturb(&api, seed).await;
        let last = json!({"spec": {"replicas": 5, "paused": false, "template": web("last", 0)["spec"]["template"]}});
        api.change::<Deployment>("n", "web", last);
        let serving = || -> Vec<String> {
            ready_all(&api);
            let owned = api.all::<Pod>().into_iter().filter(|pod| {
                pod.metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty())
                    && pod.status.as_ref().is_none_or(|status| status.phase.as_deref() != Some("Failed"))
            });
            owned.map(|pod| pod.spec.unwrap().containers[0].image.clone().unwrap()).collect()
        };
        eventually(&format!("seed {seed}"), || {
            let status = api.get::<Deployment>("n", "web").unwrap().status.unwrap_or_default();
            serving() == ["last"; 5] && status.available_replicas == Some(5) && status.replicas == Some(5)
        })
        .await;
        let sets = api.all::<ReplicaSet>();
        let active: Vec<_> = sets.iter().filter(|set| size(set) > 0).collect();
        assert_eq!((active.len(), size(active[0])), (1, 5), "seed {seed}");
        let hashes: std::collections::BTreeSet<_> = sets.iter().map(|set| set.metadata.name.clone()).collect();
        assert!(hashes.len() <= 4, "seed {seed}: one set for each template");
        context.shutdown.cancel();
    }
}

/// A measurement, not a test: run it with `cargo test --release -- --ignored --nocapture ten_thousand`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn ten_thousand_pods_are_created_and_removed() {
    let api = FakeApi::default();
    let context = start(&api);
    let begun = std::time::Instant::now();
    api.put::<Deployment>(web("one", 10_000));
    while api.count::<Pod>() < 10_000 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    println!("created in {:?}, revision {}", begun.elapsed(), api.revision());
    let begun = std::time::Instant::now();
    api.change::<Deployment>("n", "web", json!({"spec": {"replicas": 0}}));
    while api.count::<Pod>() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    println!("removed in {:?}, revision {}", begun.elapsed(), api.revision());
    context.shutdown.cancel();
}
