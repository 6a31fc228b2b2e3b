//! Admission policies in the expression language, over the whole pipeline.

#![allow(clippy::unwrap_used)] // a test fails loudly

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;
use trireme_apiserver::User;
use trireme_apiserver::audit::{LogOptions, Policy};
use trireme_client::Transport;
use trireme_lab::Lab;

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// An answer: code, body, warnings.
struct Answer {
    code: u16,
    body: Value,
    warnings: Vec<String>,
}

impl Answer {
    fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    fn expect(self, code: u16) -> Self {
        assert_eq!(self.code, code, "{}", self.body);
        self
    }

    fn refused(&self, code: u16, reason: &str, message: &str) {
        assert_eq!((self.code, &self.body["reason"], self.message()), (code, &json!(reason), message));
    }
}

/// A server, and calls of it as any user.
struct Server(Lab);

impl Server {
    async fn new() -> Self {
        Self(Lab::new().await.unwrap())
    }

    async fn call_as(&self, user: User, method: Method, path: &str, content_type: &str, body: &Value) -> Answer {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("Accept", "application/json")
            .header("Content-Type", content_type)
            .body(Bytes::from(serde_json::to_vec(body).unwrap()))
            .unwrap();
        let answer = self.0.server.transport(user).send(request).await.unwrap();
        let warnings = answer.headers().get_all("warning").iter();
        Answer {
            code: answer.status().as_u16(),
            warnings: warnings.map(|text| text.to_str().unwrap().to_owned()).collect(),
            body: serde_json::from_slice(answer.body()).unwrap_or_default(),
        }
    }

    async fn call(&self, method: Method, path: &str, body: &Value) -> Answer {
        let user = User::new("admin", &["system:masters"]);
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        self.call_as(user, method, path, kind, body).await
    }

    async fn create(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, &body).await
    }

    /// A policy with one binding of the same name in the namespace `default`.
    async fn policy(&self, mutating: bool, name: &str, spec: Value, binding: Value) {
        let kind = if mutating { "MutatingAdmissionPolicy" } else { "ValidatingAdmissionPolicy" };
        let plural = if mutating { "mutatingadmissionpolic" } else { "validatingadmissionpolic" };
        let head = |kind: String| json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}});
        let mut policy = head(kind.to_owned());
        policy["spec"] = spec;
        let mut bound = head(format!("{kind}Binding"));
        bound["spec"] = json!({
            "policyName": name,
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}},
        });
        if !mutating {
            bound["spec"]["validationActions"] = json!(["Deny"]);
        }
        for (key, value) in binding.as_object().unwrap() {
            bound["spec"][key] = value.clone();
        }
        self.create(&format!("{GROUP}/{plural}ies"), policy).await.expect(201);
        self.create(&format!("{GROUP}/{plural}ybindings"), bound).await.expect(201);
    }

    async fn map(&self, name: &str, data: Value) -> Answer {
        self.create(MAPS, map(name, data)).await
    }

    async fn metrics(&self) -> String {
        let request = http::Request::builder().uri("/metrics").body(Bytes::new()).unwrap();
        let user = User::new("admin", &["system:masters"]);
        let answer = self.0.server.transport(user).send(request).await.unwrap();
        String::from_utf8(answer.body().to_vec()).unwrap()
    }
}

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// Rules for config maps.
fn on_maps(more: Value) -> Value {
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]});
    let mut spec = json!({"matchConstraints": {"resourceRules": [rule]}});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

fn denied(policy: &str, why: &str) -> String {
    format!(
        "configmaps \"m\" is forbidden: ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: {why}"
    )
}

#[tokio::test]
async fn rules_see_variables_and_say_why_in_words_of_their_own() {
    let server = Server::new().await;
    let spec = on_maps(json!({
        "variables": [
            {"name": "a", "expression": "int(object.data.a)"},
            {"name": "double", "expression": "variables.a * 2"},
        ],
        "validations": [
            {"expression": "variables.double < 10", "messageExpression": "'twice a is ' + string(variables.double)", "reason": "RequestEntityTooLarge"},
            {"expression": "variables.a != 3", "messageExpression": "''", "message": "three is none"},
            {"expression": "variables.a != 4 && request.name != 'x' && namespaceObject.metadata.name == 'default'"},
        ],
    }));
    server.policy(false, "p", spec, json!({})).await;
    server.map("m", json!({"a": "1"})).await.expect(201);
    server.call(Method::PUT, &format!("{MAPS}/m"), &map("m", json!({"a": "5"}))).await.refused(
        413,
        "RequestEntityTooLarge",
        &denied("p", "twice a is 10"),
    );
    server.call(Method::PATCH, &format!("{MAPS}/m"), &json!({"data": {"a": "3"}})).await.refused(
        422,
        "Invalid",
        &denied("p", "three is none"),
    );
    let four = server.call(Method::PATCH, &format!("{MAPS}/m"), &json!({"data": {"a": "4"}})).await;
    four.refused(
        422,
        "Invalid",
        &denied(
            "p",
            "failed expression: variables.a != 4 && request.name != 'x' && namespaceObject.metadata.name == 'default'",
        ),
    );
    assert_eq!(four.body["details"]["causes"][0]["message"], four.message().split_once(": ").unwrap().1);
    // What cannot be evaluated is told with the variable that failed.
    let failed = server.call(Method::PATCH, &format!("{MAPS}/m"), &json!({"data": {"a": "x"}})).await;
    assert!(failed.message().contains("expression 'variables.double < 10' resulted in error: composited variable \"double\" fails to evaluate: composited variable \"a\" fails to evaluate: "), "{}", failed.message());
    // Deletions are not what this policy is about.
    server.call(Method::DELETE, &format!("{MAPS}/m"), &json!({})).await.expect(200);
}

#[tokio::test]
async fn what_fails_stops_or_is_ignored() {
    let server = Server::new().await;
    let rules = json!([{"expression": "object.data.none == 'x'"}]);
    let spec = |policy: &str| on_maps(json!({"failurePolicy": policy, "validations": rules}));
    server.policy(false, "ignored", spec("Ignore"), json!({})).await;
    server.map("m", json!({"a": "1"})).await.expect(201);
    server.policy(false, "stops", spec("Fail"), json!({})).await;
    let why = "expression 'object.data.none == 'x'' resulted in error: no such key: none";
    server.call(Method::PATCH, &format!("{MAPS}/m"), &json!({"data": {"b": "1"}})).await.refused(
        422,
        "Invalid",
        &denied("stops", why),
    );
    let metrics = server.metrics().await;
    for line in [
        "apiserver_validating_admission_policy_check_total{enforcement_action=\"allow\",error_type=\"invalid_error\",policy=\"ignored\",policy_binding=\"ignored\"} 2",
        "apiserver_validating_admission_policy_check_total{enforcement_action=\"deny\",error_type=\"invalid_error\",policy=\"stops\",policy_binding=\"stops\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn the_budget_is_for_all_rules_together() {
    let server = Server::new().await;
    // A rule of about 700,000 units: fifteen are more than ten millions, each is less than one.
    let rule =
        json!({"expression": "lists.range(200).all(i, lists.range(200).all(j, i + j >= 0 && i >= 0 && j >= 0))"});
    server.policy(false, "few", on_maps(json!({"validations": [rule]})), json!({})).await;
    server.map("fine", json!({})).await.expect(201);
    server.policy(false, "many", on_maps(json!({"validations": vec![rule; 32]})), json!({})).await;
    server.map("m", json!({})).await.refused(
        422,
        "Invalid",
        &denied("many", "validation failed due to running out of cost budget, no further validation rules will be run"),
    );
}

#[tokio::test]
async fn conditions_and_rules_may_ask_what_the_user_may_do() {
    let server = Server::new().await;
    let spec = on_maps(json!({
        "matchConditions": [
            {"name": "not-admins", "expression": "!authorizer.group('').resource('nodes').check('delete').allowed()"},
            {"name": "not-the-system", "expression": "!request.userInfo.username.startsWith('system:')"},
        ],
        "validations": [
            {"expression": "authorizer.requestResource.check('delete').allowed()", "messageExpression": "request.userInfo.username + ' may not delete ' + request.name"},
            {"expression": "authorizer.serviceAccount('default', 'a').path('/metrics').check('get').allowed()", "message": "a may not look"},
        ],
    }));
    server.policy(false, "p", spec, json!({})).await;
    let role = |name: &str, verbs: Value| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]});
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    for (name, verbs) in [("writer", json!(["create"])), ("owner", json!(["create", "delete"]))] {
        server.create(&format!("{roles}/roles"), role(name, verbs)).await.expect(201);
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}]});
        server.create(&format!("{roles}/rolebindings"), binding).await.expect(201);
    }
    let create = async |user: &str| {
        server.call_as(User::new(user, &[]), Method::POST, MAPS, "application/json", &map("m", json!({}))).await
    };
    create("writer").await.refused(422, "Invalid", &denied("p", "writer may not delete m"));
    create("owner").await.refused(422, "Invalid", &denied("p", "a may not look"));
    server.map("m", json!({})).await.expect(201);
}

#[tokio::test]
async fn bindings_warn_and_audit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let text = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, resources: [{group: '', resources: [configmaps]}], namespaces: [default]}
";
    let log = LogOptions { path: path.clone(), max_bytes: 1 << 20, max_backups: 0, max_days: 0 };
    let lab = Lab::with(|config| {
        config.audit.policy = Some(Policy::parse(text).unwrap());
        config.audit.log = Some(log);
    });
    let server = Server(lab.await.unwrap());
    let spec = on_maps(json!({
        "validations": [{"expression": "true"}, {"expression": "object.data.a == '1'", "message": "a <must> be 1"}],
        "auditAnnotations": [
            {"key": "a", "valueExpression": "'a is ' + object.data.a"},
            {"key": "none", "valueExpression": "' '"},
        ],
    }));
    server.policy(false, "p", spec, json!({"validationActions": ["Warn", "Audit"]})).await;
    let made = server.map("m", json!({"a": "2"})).await.expect(201);
    let told = "299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'p': a <must> be 1\"";
    assert_eq!(made.warnings, [told]);
    let noted = std::fs::read_to_string(&path).unwrap();
    let event: Value = serde_json::from_str(noted.lines().last().unwrap()).unwrap();
    let annotations = &event["annotations"];
    assert_eq!(annotations["p/a"], "a is 2");
    assert!(annotations["p/none"].is_null());
    let failure = annotations["validation.policy.admission.k8s.io/validation_failure"].as_str().unwrap();
    assert_eq!(
        failure,
        r#"[{"message":"a \u003cmust\u003e be 1","policy":"p","binding":"p","expressionIndex":1,"validationActions":["Warn","Audit"]}]"#
    );
    // An annotation that fails refuses the request, whatever the binding says.
    server.map("bad", json!({})).await.expect(422);
}

#[tokio::test]
async fn params_are_found_by_name_and_by_labels() {
    let server = Server::new().await;
    let spec = on_maps(json!({
        "paramKind": {"apiVersion": "v1", "kind": "Secret"},
        "validations": [{
            "expression": "params == null || object.data.a != params.metadata.annotations.forbidden",
            "messageExpression": "params.metadata.name + ' forbids ' + params.metadata.annotations.forbidden",
        }],
    }));
    let secret = |name: &str, forbidden: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": {"use": "yes"}, "annotations": {"forbidden": forbidden}}});
    let secrets = "/api/v1/namespaces/default/secrets";
    let binding = json!({"paramRef": {"selector": {"matchLabels": {"use": "yes"}}, "parameterNotFoundAction": "Deny"}});
    server.policy(false, "p", spec, binding).await;
    let none = "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    server.map("m", json!({"a": "1"})).await.refused(422, "Invalid", &denied("p", none));
    server.create(secrets, secret("one", "1")).await.expect(201);
    server.create(secrets, secret("two", "2")).await.expect(201);
    server.map("m", json!({"a": "1"})).await.refused(422, "Invalid", &denied("p", "one forbids 1"));
    server.map("m", json!({"a": "2"})).await.refused(422, "Invalid", &denied("p", "two forbids 2"));
    server.map("m", json!({"a": "3"})).await.expect(201);

    let change = |params: Value| json!({"spec": {"paramRef": params}});
    let bindings = format!("{GROUP}/validatingadmissionpolicybindings/p");
    let named = json!({"selector": null, "name": "two", "namespace": "default", "parameterNotFoundAction": "Allow"});
    server.call(Method::PATCH, &bindings, &change(named)).await.expect(200);
    let put = async |a: &str| server.call(Method::PUT, &format!("{MAPS}/m"), &map("m", json!({"a": a}))).await;
    put("1").await.expect(200);
    put("2").await.refused(422, "Invalid", &denied("p", "two forbids 2"));
    server.call(Method::DELETE, &format!("{secrets}/two"), &json!({})).await.expect(200);
    put("2").await.expect(200);
    // A binding without a reference is evaluated without parameters.
    server.call(Method::PATCH, &bindings, &change(Value::Null)).await.expect(200);
    put("1").await.expect(200);
}

#[tokio::test]
async fn params_may_be_custom_and_come_later_than_their_policy() {
    let server = Server::new().await;
    let spec = on_maps(json!({
        "paramKind": {"apiVersion": "example.com/v1", "kind": "Limit"},
        "validations": [{"expression": "size(object.data) <= params.spec.most", "message": "too many"}],
    }));
    let binding = json!({"paramRef": {"name": "l", "parameterNotFoundAction": "Deny"}});
    server.policy(false, "p", spec, binding).await;
    let message = "configmaps \"m\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: failed to configure policy: failed to find resource referenced by paramKind: 'example.com/v1, Kind=Limit'";
    server.map("m", json!({})).await.refused(422, "Invalid", message);
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "limits.example.com"}, "spec": {
        "group": "example.com", "scope": "Cluster", "names": {"kind": "Limit", "plural": "limits", "singular": "limit", "listKind": "LimitList"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": {"most": {"type": "integer"}}}}}}}]}});
    server.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition).await.expect(201);
    let limit =
        json!({"apiVersion": "example.com/v1", "kind": "Limit", "metadata": {"name": "l"}, "spec": {"most": 1}});
    let made = tokio::time::timeout(Duration::from_secs(10), async {
        while server.create("/apis/example.com/v1/limits", limit.clone()).await.code != 201 {
            tokio::task::yield_now().await;
        }
    });
    made.await.unwrap();
    server.map("m", json!({"a": "1", "b": "2"})).await.refused(422, "Invalid", &denied("p", "too many"));
    server.map("m", json!({"a": "1"})).await.expect(201);
    let bindings = format!("{GROUP}/validatingadmissionpolicybindings/p");
    server.call(Method::PATCH, &bindings, &json!({"spec": {"paramRef": {"namespace": "x"}}})).await.expect(200);
    let why = "failed to configure binding: paramRef.namespace must not be provided for a cluster-scoped `paramKind`";
    server.map("m", json!({})).await.refused(422, "Invalid", &denied("p", why));
}

#[tokio::test]
async fn rules_choose_names_and_versions_and_leave_out_what_is_excluded() {
    let server = Server::new().await;
    let rule = |resources: Value, names: Value| json!({"apiGroups": ["autoscaling", ""], "apiVersions": ["v1"], "operations": ["*"], "resources": resources, "resourceNames": names});
    let spec = json!({
        "matchConstraints": {
            "resourceRules": [rule(json!(["*"]), json!([]))],
            "excludeResourceRules": [rule(json!(["configmaps"]), json!(["free"]))],
            "objectSelector": {"matchLabels": {"watched": "yes"}},
        },
        "validations": [{"expression": "object == null || object.kind == 'Nothing'", "messageExpression": "object.apiVersion + ' ' + request.kind.version + ' ' + request.requestKind.version"}],
    });
    server.policy(false, "p", spec, json!({})).await;
    let labelled = |name: &str| {
        let mut map = map(name, json!({}));
        map["metadata"]["labels"] = json!({"watched": "yes"});
        map
    };
    server.map("m", json!({})).await.expect(201);
    server.create(MAPS, labelled("free")).await.expect(201);
    server.create(MAPS, labelled("other")).await.expect(422);
    // A request to another version of the same objects is seen in the one that the rule names.
    let scaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h", "labels": {"watched": "yes"}},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}});
    let path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let refused = server.create(path, scaler.clone()).await.expect(422);
    assert!(refused.message().ends_with("denied request: autoscaling/v1 v1 v2"), "{}", refused.message());
    let policy = format!("{GROUP}/validatingadmissionpolicies/p");
    let exact = json!({"spec": {"matchConstraints": {"matchPolicy": "Exact"}}});
    server.call(Method::PATCH, &policy, &exact).await.expect(200);
    server.create(path, scaler).await.expect(201);
}

#[tokio::test]
async fn policies_cannot_keep_anybody_from_mending_policies() {
    let server = Server::new().await;
    let spec = json!({
        "matchConstraints": {"resourceRules": [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}]},
        "validations": [{"expression": "false"}],
    });
    server.policy(false, "p", spec, json!({"matchResources": {}})).await;
    server.map("m", json!({})).await.expect(422);
    let hooks = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "w"}});
    server.create(&format!("{GROUP}/validatingwebhookconfigurations"), hooks).await.expect(422);
    server.call(Method::DELETE, &format!("{GROUP}/validatingadmissionpolicybindings/p"), &json!({})).await.expect(200);
    server.map("m", json!({})).await.expect(201);
}

#[tokio::test]
async fn a_mutating_policy_applies_configurations_as_their_owners_would() {
    let server = Server::new().await;
    let rule =
        json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]});
    let spec = |expression: &str| {
        json!({
            "reinvocationPolicy": "Never", "matchConstraints": {"resourceRules": [rule]},
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}],
        })
    };
    let containers = "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{
        containers: object.spec.template.spec.containers.map(c, Object.spec.template.spec.containers{
            name: c.name, env: [Object.spec.template.spec.containers.env{name: 'ADDED', value: 'yes'}]})}}}}";
    server.policy(true, "p", spec(containers), json!({})).await;
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [
            {"name": "one", "image": "i", "env": [{"name": "OWN", "value": "1"}]}, {"name": "two", "image": "j"}]}}}});
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let made = server.create(path, deployment.clone()).await.expect(201);
    let containers = &made.body["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers[0]["env"], json!([{"name": "OWN", "value": "1"}, {"name": "ADDED", "value": "yes"}]));
    assert_eq!((&containers[0]["image"], &containers[1]["env"][0]["name"]), (&json!("i"), &json!("ADDED")));
    // What a policy sets is nobody's.
    assert!(!made.body["metadata"]["managedFields"].to_string().contains("ADDED"));

    let policy = format!("{GROUP}/mutatingadmissionpolicies/p");
    let change = async |expression: &str| {
        server.call(Method::PATCH, &policy, &json!({"spec": spec(expression)})).await.expect(200);
        let mut other = deployment.clone();
        other["metadata"]["name"] = json!("e");
        server.create(path, other).await
    };
    for (expression, why) in [
        (
            "Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: Object.spec.selector.matchLabels{x: 'y'}}}}",
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector",
        ),
        (
            "Object{spec: Object.spec{bogus: 1}}",
            "error applying patch: failed to convert patch object to typed object: .spec.bogus: field not declared in schema",
        ),
        (
            "Object{spec: Object.wrong{replicas: 1}}",
            "type mismatch: unexpected type name \"Object.wrong\", expected \"Object.spec\", which matches field name path from root Object type",
        ),
        (
            "Object{spec: Object.spec{replicas: object.spec.none}}",
            "expression 'Object{spec: Object.spec{replicas: object.spec.none}}' resulted in error: no such key: none",
        ),
    ] {
        let refused = change(expression).await;
        refused.refused(403, "Invalid", &format!("policy 'p' with binding 'p' denied request: {why}"));
        assert_eq!(refused.body["details"]["causes"][0]["message"], refused.message());
    }
    let metrics = server.metrics().await;
    for line in [
        "apiserver_mutating_admission_policy_check_total{error_type=\"no_error\",policy=\"p\",policy_binding=\"p\"} 1",
        "apiserver_mutating_admission_policy_check_total{error_type=\"invalid_error\",policy=\"p\",policy_binding=\"p\"} 4",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn json_patches_are_tested_applied_and_decoded_strictly() {
    let server = Server::new().await;
    let spec = |expression: &str, failure: &str| {
        on_maps(json!({
            "reinvocationPolicy": "Never", "failurePolicy": failure,
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
        }))
    };
    let patch = "[JSONPatch{op: 'test', path: '/data/a', value: '1'},
        JSONPatch{op: 'copy', from: '/data/a', path: '/data/b'},
        JSONPatch{op: 'add', path: '/metadata/annotations', value: {'n': string(size(object.data)) + request.operation}}]";
    server.policy(true, "p", spec(patch, "Fail"), json!({})).await;
    let made = server.map("a", json!({"a": "1"})).await.expect(201);
    assert_eq!(
        (&made.body["data"], &made.body["metadata"]["annotations"]),
        (&json!({"a": "1", "b": "1"}), &json!({"n": "1CREATE"}))
    );
    // A test that does not hold leaves the object as it is.
    let made = server.map("b", json!({"a": "2"})).await.expect(201);
    assert_eq!(made.body["data"], json!({"a": "2"}));

    let policy = format!("{GROUP}/mutatingadmissionpolicies/p");
    let change = async |expression: &str, failure: &str| {
        server.call(Method::PATCH, &policy, &json!({"spec": spec(expression, failure)})).await.expect(200);
        server.map("m", json!({"a": "1"})).await
    };
    change("[JSONPatch{op: 'remove', path: '/data/none'}]", "Fail").await.refused(
        403,
        "Invalid",
        "policy 'p' with binding 'p' denied request: JSON Patch: error in remove for path: '/data/none': Unable to remove nonexistent key: none: missing value",
    );
    change("[JSONPatch{op: 'add', path: '/bogus', value: 1}]", "Ignore").await.refused(
        500,
        "InternalError",
        "Internal error occurred: strict decoding error: unknown field \"bogus\"",
    );
    change("[JSONPatch{op: 'remove', path: '/data/none'}]", "Ignore").await.expect(201);
}

#[tokio::test]
async fn policies_see_what_others_change_after_them_if_they_want_to() {
    let server = Server::new().await;
    let spec = |again: &str, expression: &str| {
        on_maps(json!({
            "reinvocationPolicy": again,
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
        }))
    };
    let count = |key: &str| {
        format!("[JSONPatch{{op: 'add', path: '/data/{key}', value: object.data.{key} + string(size(object.data))}}]")
    };
    server.policy(true, "a", spec("IfNeeded", &count("a")), json!({})).await;
    server.policy(true, "b", spec("Never", &count("b")), json!({})).await;
    server.policy(true, "c", spec("Never", "[JSONPatch{op: 'add', path: '/data/c', value: 'c'}]"), json!({})).await;
    let made = server.map("m", json!({"a": "", "b": ""})).await.expect(201);
    assert_eq!(made.body["data"], json!({"a": "23", "b": "2", "c": "c"}));
    // A deletion has nothing to change.
    server.call(Method::DELETE, &format!("{MAPS}/m"), &json!({})).await.expect(200);
}

#[tokio::test]
async fn what_is_no_object_of_its_own_meets_policies_too() {
    let server = Server::new().await;
    let rule = |group: &str, operation: &str, resource: &str| json!({"apiGroups": [group], "apiVersions": ["v1"], "operations": [operation], "resources": [resource]});
    let rules = [
        rule("", "CREATE", "pods/binding"),
        rule("", "CONNECT", "pods/exec"),
        rule("", "CREATE", "serviceaccounts/token"),
        rule("apps", "UPDATE", "deployments/scale"),
    ];
    let expression = "object.kind == 'Binding' ? object.target.name != 'bad'
        : object.kind == 'PodExecOptions' ? object.command[0] != 'rm'
        : object.kind == 'TokenRequest' ? object.spec.audiences == ['x']
        : object.kind == 'Scale' && object.spec.replicas <= 3";
    let words = "request.kind.group + ' ' + object.kind + ' ' + request.operation + ' ' + request.subResource";
    let spec = json!({
        "matchConstraints": {"resourceRules": rules},
        "validations": [{"expression": expression, "messageExpression": words, "message": "no"}],
    });
    server.policy(false, "p", spec, json!({})).await;
    let core = "/api/v1/namespaces/default";
    let head = |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
    server.create(&format!("{core}/serviceaccounts"), head("ServiceAccount", "default")).await.expect(201);
    let mut pod = head("Pod", "a");
    pod["spec"] = json!({"containers": [{"name": "c", "image": "i"}]});
    server.create(&format!("{core}/pods"), pod).await.expect(201);
    let refusal = |what: &str, why: &str| {
        format!("{what} is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: {why}")
    };

    let bind = async |node: &str| {
        let mut binding = head("Binding", "a");
        binding["target"] = json!({"kind": "Node", "name": node});
        server.create(&format!("{core}/pods/a/binding"), binding).await
    };
    bind("bad").await.refused(422, "Invalid", &refusal("pods \"a\"", "Binding CREATE binding"));
    bind("good").await.expect(201);

    let exec = format!("{core}/pods/a/exec?container=c&command=rm&command=x");
    let refused = server.create(&exec, Value::Null).await;
    refused.refused(422, "Invalid", &refusal("pods \"a\"", "PodExecOptions CONNECT exec"));

    let token = async |audience: &str| {
        let ask = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": [audience]}});
        server.create(&format!("{core}/serviceaccounts/default/token"), ask).await
    };
    let why = "authentication.k8s.io TokenRequest CREATE token";
    token("y").await.refused(422, "Invalid", &refusal("serviceaccounts \"default\"", why));
    token("x").await.expect(201);

    let apps = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "replicas": 1, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    server.create(apps, deployment).await.expect(201);
    let scale = async |replicas: i64| {
        let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": replicas}});
        server.call(Method::PUT, &format!("{apps}/d/scale"), &scale).await
    };
    let why = "autoscaling Scale UPDATE scale";
    scale(4).await.refused(422, "Invalid", &refusal("deployments.apps \"d\"", why));
    scale(2).await.expect(200);
    let spec = json!({
        "reinvocationPolicy": "Never", "matchConstraints": {"resourceRules": [rules[3]]},
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{spec: Object.spec{replicas: 3}}"}}],
    });
    server.policy(true, "q", spec, json!({})).await;
    assert_eq!(scale(1).await.expect(200).body["spec"]["replicas"], 3);
}
