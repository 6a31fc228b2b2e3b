//! Authorization webhooks over real TLS.

#![allow(clippy::unwrap_used)] // a test fails loudly

mod support;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use support::{Https, send};
use trireme_apiserver::{Authorizers, InProcess, User};
use trireme_lab::Lab;

/// Answers a review: `alice` may do everything in `a`, `mallory` nothing at all, `crash` makes it fail.
fn answer(review: &Value) -> (u16, Value) {
    let spec = &review["spec"];
    let status = match spec["user"].as_str().unwrap() {
        "alice" if spec["resourceAttributes"]["namespace"] == "a" => {
            json!({"allowed": true, "reason": "she lives there"})
        }
        "mallory" => json!({"allowed": false, "denied": true, "reason": "not he"}),
        "crash" => return (503, json!({})),
        _ => json!({"allowed": false, "reason": "who?"}),
    };
    (200, json!({"apiVersion": review["apiVersion"], "kind": "SubjectAccessReview", "status": status}))
}

fn chain(kubeconfig: &std::path::Path, policy: &str, more: &str) -> Result<Authorizers, String> {
    Authorizers::parse(&format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n\
         - {{type: Webhook, name: hook.example.com, webhook: {{timeout: 3s, subjectAccessReviewVersion: v1, failurePolicy: {policy}, \
         {more} connectionInfo: {{type: KubeConfigFile, kubeConfigFile: {}}}}}}}\n- {{type: RBAC, name: rbac}}",
        kubeconfig.display()
    ))
}

fn client(lab: &Lab, name: &str) -> InProcess {
    lab.server.transport(User::new(name, &["g"]))
}

/// Code and text of an answer.
async fn get(client: &InProcess, path: &str) -> (StatusCode, String) {
    send(client, Method::GET, path, "").await
}

/// The message of a `Status`.
fn message(text: &str) -> String {
    serde_json::from_str::<Value>(text).unwrap()["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_webhook_allows_denies_or_leaves_it_to_others() {
    let hook = Https::start(answer).await;
    let authorizers = Arc::new(chain(&hook.kubeconfig(), "NoOpinion", "").unwrap());
    let lab = Lab::with(|config| config.authorization = authorizers).await.unwrap();
    let alice = client(&lab, "alice");
    let pods = "/api/v1/namespaces/a/pods";
    assert_eq!(get(&alice, pods).await.0, StatusCode::OK);
    let asked = hook.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0]["apiVersion"], "authorization.k8s.io/v1");
    assert_eq!(
        asked[0]["spec"],
        json!({
            "user": "alice", "groups": ["g", "system:authenticated"],
            "resourceAttributes": {"namespace": "a", "verb": "list", "version": "v1", "resource": "pods"}
        })
    );
    // What was answered is remembered; another question is another one.
    get(&alice, pods).await;
    assert_eq!(hook.asked().len(), 1);
    let selected = format!("{pods}?fieldSelector=spec.nodeName%3Dn&labelSelector=x");
    assert_eq!(get(&alice, &selected).await.0, StatusCode::OK);
    let attributes = hook.asked()[1]["spec"]["resourceAttributes"].clone();
    assert_eq!(
        (&attributes["fieldSelector"], &attributes["labelSelector"]),
        (
            &json!({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n"]}]}),
            &json!({"requirements": [{"key": "x", "operator": "Exists"}]})
        )
    );

    // Who has no opinion lets RBAC decide, and its reason is told; who denies has the last word.
    let (code, why) = get(&alice, "/api/v1/namespaces/b/pods").await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    let why = message(&why);
    assert!(why.ends_with(r#"cannot list resource "pods" in API group "" in the namespace "b": who?"#), "{why}");
    assert_eq!(get(&alice, "/version").await.0, StatusCode::OK, "everybody's by RBAC");
    let mallory = client(&lab, "mallory");
    let (code, why) = get(&mallory, "/version").await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    assert!(why.contains("not he"), "{why}");
    assert_eq!(hook.connections(), 1, "one connection is enough");

    // A review tells the same.
    let admin = lab.transport();
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
        "user": "mallory", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "a"}}});
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let (_, told) = send(&admin, Method::POST, path, &review.to_string()).await;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["status"], json!({"allowed": false, "denied": true, "reason": "not he"}));
    let (_, metrics) = get(&admin, "/metrics").await;
    for line in [
        r#"apiserver_authorization_decisions_total{decision="denied",name="hook.example.com",type="Webhook"} 2"#,
        r#"apiserver_authorization_decisions_total{decision="allowed",name="rbac",type="RBAC"} 1"#,
        r#"apiserver_authorization_webhook_evaluations_total{name="hook.example.com",result="success"}"#,
        r#"authorization_attempts_total{result="no-opinion"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn a_webhook_that_fails_lets_others_decide_or_denies() {
    let hook = Https::start(answer).await;
    let open = Arc::new(chain(&hook.kubeconfig(), "NoOpinion", "").unwrap());
    let lab = Lab::with(|config| config.authorization = open).await.unwrap();
    let crash = client(&lab, "crash");
    assert_eq!(get(&crash, "/version").await.0, StatusCode::OK);
    let (code, why) = get(&crash, "/api/v1/pods").await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(why.contains("Internal Server Error: \"/api/v1/pods\""), "{why}");
    assert!(
        get(&lab.transport(), "/metrics")
            .await
            .1
            .contains("evaluations_fail_open_total{name=\"hook.example.com\",result=\"error\"}")
    );

    lab.server.reload_authorization(Err("broken".into()));
    assert_eq!(get(&crash, "/version").await.0, StatusCode::OK, "what cannot be used changes nothing");
    lab.server.reload_authorization(chain(&hook.kubeconfig(), "Deny", ""));
    assert_eq!(get(&crash, "/version").await.0, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn conditions_decide_whether_a_webhook_is_asked() {
    let hook = Https::start(answer).await;
    let conditions = "matchConditionSubjectAccessReviewVersion: v1, matchConditions: [{expression: has(request.resourceAttributes)}, \
                      {expression: \"request.resourceAttributes.namespace == 'a'\"}],";
    let authorizers = Arc::new(chain(&hook.kubeconfig(), "NoOpinion", conditions).unwrap());
    let lab = Lab::with(|config| config.authorization = authorizers).await.unwrap();
    let alice = client(&lab, "alice");
    assert_eq!(get(&alice, "/version").await.0, StatusCode::OK);
    assert_eq!(get(&alice, "/api/v1/namespaces/b/pods").await.0, StatusCode::FORBIDDEN);
    assert!(hook.asked().is_empty());
    assert_eq!(get(&alice, "/api/v1/namespaces/a/pods").await.0, StatusCode::OK);
    assert_eq!(hook.asked().len(), 1);
    let (_, metrics) = get(&lab.transport(), "/metrics").await;
    assert!(metrics.contains(r#"match_condition_exclusions_total{name="hook.example.com",type="Webhook"} 2"#));

    // A configuration that is read again holds from then on.
    lab.server.reload_authorization(Authorizers::parse(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers: [{type: AlwaysDeny, name: nobody}]",
    ));
    let (code, why) = get(&alice, "/version").await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    assert!(why.contains("Everything is forbidden."), "{why}");
    assert_eq!(get(&lab.transport(), "/version").await.0, StatusCode::OK, "system:masters are above all");
    let (_, metrics) = get(&lab.transport(), "/metrics").await;
    assert!(
        metrics
            .contains("apiserver_authorization_config_controller_automatic_reloads_total{apiserver_id_hash=\"sha256:")
    );
}
