//! Many writers at once.

#![allow(clippy::unwrap_used)] // a test fails loudly

use futures::future::join_all;
use k8s_openapi::api::core::v1::{ConfigMap, ResourceQuota, Service};
use serde_json::json;
use trireme_client::Patch;
use trireme_lab::Lab;

#[tokio::test(flavor = "multi_thread")]
async fn patches_of_one_object_without_a_version_all_succeed() {
    let lab = Lab::new().await.unwrap();
    let maps = lab.admin().namespaced::<ConfigMap>("default");
    maps.create(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}})).await.unwrap();
    let patch = |n: usize| Patch::Merge(json!({"data": {format!("k{n}"): "v"}}));
    let patches: Vec<Patch> = (0..32).map(patch).collect();
    let results = join_all(patches.iter().map(|p| maps.patch("m", None, p))).await;
    let failures: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(maps.get("m").await.unwrap().data.unwrap().len(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn services_never_share_an_address() {
    let lab = Lab::new().await.unwrap();
    let services = lab.admin().namespaced::<Service>("default");
    let made: Vec<_> = (0..64)
        .map(|n| {
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{n}")},
                   "spec": {"ports": [{"port": 80}]}})
        })
        .collect();
    let results = join_all(made.iter().map(|s| services.create(s))).await;
    let mut addresses: Vec<String> =
        results.into_iter().map(|r| r.unwrap().spec.unwrap().cluster_ip.unwrap()).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_holds_under_a_rush() {
    let lab = Lab::new().await.unwrap();
    let client = lab.admin();
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"},
                       "spec": {"hard": {"configmaps": "10"}}});
    let quotas = client.namespaced::<ResourceQuota>("default");
    quotas.create(&quota).await.unwrap();
    // What the controller says first: until then a quota holds nobody.
    let counted = json!({"status": {"hard": {"configmaps": "10"}, "used": {"configmaps": "0"}}});
    quotas.patch("q", Some("status"), &Patch::Merge(counted)).await.unwrap();
    let maps = client.namespaced::<ConfigMap>("default");
    let made: Vec<_> = (0..40)
        .map(|n| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{n}")}}))
        .collect();
    let results = join_all(made.iter().map(|m| maps.create(m))).await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 10);
    let refusal = results.into_iter().find_map(Result::err).unwrap().to_string();
    assert!(refusal.contains("exceeded quota: q, requested: configmaps=1, used: configmaps=10"), "{refusal}");
    let used = quotas.get("q").await.unwrap().status.unwrap().used.unwrap();
    assert_eq!(used["configmaps"].0, "10");
}
