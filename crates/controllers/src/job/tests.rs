use super::*;
use crate::Options;
use crate::controller::run;
use crate::fake_api::{FakeApi, clock_at, eventually};

fn job(more: serde_json::Value) -> serde_json::Value {
    let mut job = json!({
        "metadata": {"name": "work", "namespace": "n"},
        "spec": {
            "parallelism": 2, "completions": 4, "backoffLimit": 0,
            "selector": {"matchLabels": {"job-name": "work"}},
            "template": {"metadata": {"labels": {"job-name": "work"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}
        }
    });
    for (key, value) in more.as_object().unwrap() {
        job["spec"][key] = value.clone();
    }
    job
}

fn start(api: &FakeApi) -> Context {
    let context = api.context(Options::default(), clock_at("2026-01-01T01:00:00Z"));
    tokio::spawn(run(Jobs::new(&context), context.shutdown.clone()));
    context
}

/// Plays the kubelet: every pod that has not ended ends.
fn end_all(api: &FakeApi, phase: &str) {
    for pod in api.all::<Pod>() {
        if pod.status.is_none() {
            api.change::<Pod>("n", pod.metadata.name.as_deref().unwrap(), json!({"status": {"phase": phase}}));
        }
    }
}

fn is(api: &FakeApi, kind: &str) -> bool {
    let status = api.get::<Job>("n", "work").and_then(|job| job.status).unwrap_or_default();
    status.conditions.into_iter().flatten().any(|condition| condition.type_ == kind && condition.status == "True")
}

#[tokio::test(start_paused = true)]
async fn a_job_completes_with_exactly_its_completions() {
    let api = FakeApi::default();
    let context = start(&api);
    api.put::<Job>(job(json!({"completionMode": "Indexed"})));
    eventually("the end", || {
        end_all(&api, "Succeeded");
        is(&api, "Complete")
    })
    .await;
    let pods = api.all::<Pod>();
    assert_eq!(pods.len(), 4);
    assert!(pods.iter().all(|pod| pod.metadata.finalizers.as_ref().is_none_or(Vec::is_empty)));
    let status = api.get::<Job>("n", "work").unwrap().status.unwrap();
    assert_eq!((status.succeeded, status.completed_indexes.as_deref()), (Some(4), Some("0-3")));
    let env = pods[0].spec.as_ref().unwrap().containers[0].env.as_ref().unwrap();
    assert_eq!(env[0].name, "JOB_COMPLETION_INDEX");
    context.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_job_that_fails_too_often_fails_and_one_that_is_gone_lets_its_pods_go() {
    let api = FakeApi::default();
    let context = start(&api);
    api.put::<Job>(job(json!({})));
    eventually("the pods", || api.all::<Pod>().len() == 2).await;
    end_all(&api, "Failed");
    eventually("the failure", || is(&api, "Failed")).await;
    let status = api.get::<Job>("n", "work").unwrap().status.unwrap();
    assert_eq!((status.failed, status.succeeded, status.active), (Some(2), None, None));
    api.remove::<Job>("n", "work");

    api.put::<Job>(job(json!({})));
    eventually("the pods of the second", || api.all::<Pod>().len() == 4).await;
    api.remove::<Job>("n", "work");
    eventually("no finalizers", || {
        api.all::<Pod>().iter().all(|pod| pod.metadata.finalizers.as_ref().is_none_or(Vec::is_empty))
    })
    .await;
    context.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_to_its_pods_a_job_counts_every_end_once() {
    use rand::seq::IndexedRandom;
    use rand::{Rng, SeedableRng};
    for seed in 0..8 {
        let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
        let api = FakeApi::default();
        let begun = tokio::time::Instant::now();
        let start: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = Clock::of(move || start + jiff::SignedDuration::try_from(begun.elapsed()).unwrap());
        let context = api.context(Options::default(), clock);
        tokio::spawn(run(Jobs::new(&context), context.shutdown.clone()));
        let mode = if seed % 2 == 0 { "Indexed" } else { "NonIndexed" };
        api.put::<Job>(job(json!({"completionMode": mode, "completions": 7, "parallelism": 3, "backoffLimit": 1000})));
        let (mut succeeded, mut failed) = (0, 0);
        for _ in 0..4_000 {
            let all = api.all::<Pod>();
            let running: Vec<&Pod> =
                all.iter().filter(|pod| pod.status.is_none() && pod.metadata.deletion_timestamp.is_none()).collect();
            assert!(running.len() <= 3, "seed {seed}: more than the parallelism");
            if is(&api, "Complete") {
                break;
            }
            if let Some(name) = running.choose(&mut rng).and_then(|pod| pod.metadata.name.as_deref()) {
                match rng.random_range(0..6) {
                    0 => {
                        succeeded += 1;
                        api.change::<Pod>("n", name, json!({"status": {"phase": "Succeeded"}}));
                    }
                    1 => {
                        failed += 1;
                        api.change::<Pod>("n", name, json!({"status": {"phase": "Failed"}}));
                    }
                    2 => {
                        failed += 1;
                        let options = trireme_client::DeleteOptions::default();
                        context.client.namespaced::<Pod>("n").delete(name, &options).await.unwrap();
                    }
                    _ => {}
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(rng.random_range(0..3_000))).await;
        }
        let status = api.get::<Job>("n", "work").unwrap().status.unwrap();
        assert!(is(&api, "Complete"), "seed {seed}: {status:?}");
        // Pods that still ran when the last completion came were stopped, and count as failed.
        assert_eq!(status.succeeded, Some(succeeded), "seed {seed}");
        assert_eq!(succeeded, 7, "seed {seed}");
        let stopped = status.failed.unwrap_or(0) - failed;
        assert!((0..=2).contains(&stopped), "seed {seed}: {stopped} more failures than there were");
        context.shutdown.cancel();
    }
}
