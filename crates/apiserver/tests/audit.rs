//! What is noted of requests.

#![allow(clippy::unwrap_used)] // a test fails loudly

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use serde_json::{Value, json};
use trireme_apiserver::audit::{LogOptions, Policy};
use trireme_lab::Lab;

#[tokio::test]
async fn events_tell_who_did_what_as_the_policy_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let policy = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: RequestResponse, resources: [{group: '', resources: [configmaps]}], namespaces: [default], omitManagedFields: true}
- {level: Metadata, resources: [{group: '', resources: [pods]}]}
";
    let log = LogOptions { path: path.clone(), max_bytes: 1 << 20, max_backups: 0, max_days: 0 };
    let lab = Lab::with(|config| {
        config.audit.policy = Some(Policy::parse(policy).unwrap());
        config.audit.log = Some(log);
    })
    .await
    .unwrap();
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "b"}});
    lab.admin().namespaced::<ConfigMap>("default").create(&map).await.unwrap();
    lab.admin().namespaced::<Pod>("default").get("none").await.unwrap_err();
    let text = std::fs::read_to_string(&path).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |resource: &str| events.iter().find(|e| e["objectRef"]["resource"] == resource).unwrap();

    let made = of("configmaps");
    assert_eq!(
        (&made["level"], &made["stage"], &made["verb"]),
        (&json!("RequestResponse"), &json!("ResponseComplete"), &json!("create"))
    );
    assert_eq!(made["requestObject"]["data"], json!({"a": "b"}));
    assert_eq!(made["responseStatus"]["code"], 201);
    assert!(made["responseObject"]["metadata"]["uid"].is_string());
    assert!(made["responseObject"]["metadata"]["managedFields"].is_null());
    assert_eq!(made["annotations"]["authorization.k8s.io/decision"], "allow");

    let missed = of("pods");
    assert_eq!(missed["responseStatus"]["reason"], "NotFound");
    assert!(missed["responseObject"].is_null());
    assert_eq!(events.len(), 2);
}
