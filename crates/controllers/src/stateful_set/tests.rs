use super::*;
use crate::Options;
use crate::controller::run;
use crate::fake_api::{FakeApi, clock_at, eventually};

fn db(image: &str, replicas: i32) -> serde_json::Value {
    json!({
        "metadata": {"name": "db", "namespace": "n"},
        "spec": {
            "replicas": replicas, "serviceName": "db", "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app": "db"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Delete"},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
            "template": {"metadata": {"labels": {"app": "db"}},
                "spec": {"containers": [{"name": "c", "image": image}]}}
        }
    })
}

/// Plays the kubelet for one pod: the first that is not ready becomes so.
fn ready_one(api: &FakeApi) {
    if let Some(pod) = api.all::<Pod>().into_iter().find(|pod| pod.status.is_none()) {
        let ready = json!({"status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:30:00Z"}]}});
        api.change::<Pod>("n", pod.metadata.name.as_deref().unwrap(), ready);
    }
}

fn images(api: &FakeApi) -> Vec<String> {
    api.all::<Pod>().into_iter().map(|pod| pod.spec.unwrap().containers[0].image.clone().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_set_grows_updates_and_shrinks_one_pod_at_a_time() {
    let api = FakeApi::default();
    let context = api.context(Options::default(), clock_at("2026-01-01T01:00:00Z"));
    tokio::spawn(run(StatefulSets::new(&context), context.shutdown.clone()));
    api.put::<StatefulSet>(db("one", 3));
    let unready = || api.all::<Pod>().iter().filter(|pod| pod.status.is_none()).count();
    let status = || api.get::<StatefulSet>("n", "db").unwrap().status.unwrap_or_default();
    eventually("three pods", || {
        assert!(unready() <= 1, "more than one at a time");
        ready_one(&api);
        status().ready_replicas == Some(3)
    })
    .await;
    let claims = || api.all::<PersistentVolumeClaim>();
    assert_eq!(claims().len(), 3);
    let first = status().current_revision.unwrap();

    api.change::<StatefulSet>("n", "db", json!({"spec": {"template": db("two", 3)["spec"]["template"]}}));
    eventually("the update", || {
        assert!(unready() <= 1 && images(&api).len() >= 2, "more than one away");
        ready_one(&api);
        images(&api) == ["two"; 3] && status().current_revision == status().update_revision
    })
    .await;
    assert_ne!(status().current_revision.unwrap(), first);

    api.change::<StatefulSet>("n", "db", json!({"spec": {"replicas": 1}}));
    eventually("one pod", || status().replicas == 1).await;
    assert!(api.get::<Pod>("n", "db-0").is_some());
    let owner = |name: &str| {
        let claim = api.get::<PersistentVolumeClaim>("n", name).unwrap();
        claim.metadata.owner_references.unwrap_or_default().first().map(|owner| owner.name.clone())
    };
    assert_eq!((owner("data-db-2").as_deref(), owner("data-db-0")), (Some("db-2"), None));
    context.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_meanwhile_the_ordinals_converge() {
    use rand::seq::IndexedRandom;
    use rand::{Rng, SeedableRng};
    for seed in 0..6 {
        let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
        let api = FakeApi::default();
        let context = api.context(Options::default(), clock_at("2026-01-01T01:00:00Z"));
        tokio::spawn(run(StatefulSets::new(&context), context.shutdown.clone()));
        let mut wanted = db("one", 3);
        wanted["spec"]["podManagementPolicy"] = json!(if seed % 2 == 0 { "OrderedReady" } else { "Parallel" });
        api.put::<StatefulSet>(wanted);
        for _ in 0..120 {
            let pods = api.all::<Pod>();
            let pod = pods.choose(&mut rng).and_then(|pod| pod.metadata.name.clone());
            match (rng.random_range(0..9), pod) {
                (0, Some(pod)) => api.remove::<Pod>("n", &pod),
                (1, Some(pod)) => api.change::<Pod>("n", &pod, json!({"status": {"phase": "Failed"}})),
                (2, _) => {
                    let replicas = rng.random_range(0..6);
                    api.change::<StatefulSet>("n", "db", json!({"spec": {"replicas": replicas}}));
                }
                (3, _) => {
                    let image = *["one", "two"].choose(&mut rng).unwrap();
                    let template = db(image, 0)["spec"]["template"].clone();
                    api.change::<StatefulSet>("n", "db", json!({"spec": {"template": template}}));
                }
                _ => ready_one(&api),
            }
            tokio::time::sleep(std::time::Duration::from_millis(rng.random_range(0..30))).await;
        }
        let last = json!({"spec": {"replicas": 4, "template": db("last", 0)["spec"]["template"]}});
        api.change::<StatefulSet>("n", "db", last);
        eventually(&format!("seed {seed}"), || {
            ready_one(&api);
            let names: Vec<_> = api.all::<Pod>().into_iter().filter_map(|pod| pod.metadata.name).collect();
            let status = api.get::<StatefulSet>("n", "db").unwrap().status.unwrap_or_default();
            names == ["db-0", "db-1", "db-2", "db-3"]
                && images(&api) == ["last"; 4]
                && status.ready_replicas == Some(4)
                && status.current_revision == status.update_revision
        })
        .await;
        context.shutdown.cancel();
    }
}
