//! Subresources that are more than a part of their object: scale, binding, eviction, tokens, and those that lead to
//! the node.

use crate::admission::{self, Attributes, Operation};
use crate::answer::{self, Body};
use crate::authn::Bound;
use crate::body;
use crate::connect;
use crate::media::Wanted;
use crate::options;
use crate::registry::{DeleteOptions, Target};
use crate::request::{Query, RequestInfo};
use crate::scaling;
use crate::server::{ApiServer, Incoming, header_text};
use http::{Request, Response, header};
use std::sync::Arc;
use trireme_schema::{GroupVersion, Map, Status, Value, builtin, time};

/// Whether a subresource is answered here.
pub fn is_special(target: &Target) -> bool {
    matches!(
        (target.served.plural(), target.subresource.as_str()),
        (_, "scale")
            | ("pods", "binding" | "eviction" | "log" | "exec" | "attach" | "portforward" | "proxy")
            | ("bindings", "")
            | ("serviceaccounts", "token")
            | ("nodes" | "services", "proxy")
    )
}

/// Answers a request about one.
///
/// # Errors
/// Whatever goes wrong, as a Status.
pub async fn answer(
    server: &Arc<ApiServer>,
    request: Request<Incoming>,
    info: &RequestInfo,
    query: &Query,
    target: &Target,
    wanted: Wanted,
) -> Result<Response<Body>, Status> {
    match (target.served.plural(), target.subresource.as_str()) {
        (_, "scale") => scaling::answer(server, request, info, query, target, wanted).await,
        ("pods", "binding") | ("bindings", "") => bind(server, request, query, target, wanted).await,
        ("pods", "eviction") => evict(server, request, query, target, wanted).await,
        ("serviceaccounts", "token") => token(server, request, query, target, wanted).await,
        // Logs are read, not connected to.
        ("pods", "log") => server.kubelets.pod(server, request, query, target).await,
        (plural, subresource) => {
            connect::admit(server, target, info, query).await?;
            match (plural, subresource) {
                ("pods", "exec" | "attach" | "portforward") => {
                    server.kubelets.pod(server, request, query, target).await
                }
                ("nodes", _) => server.kubelets.node(server, request, info, target).await,
                _ => server.kubelets.backend(server, request, info, target).await,
            }
        }
    }
}

pub(crate) async fn read_body(
    request: Request<Incoming>,
    query: &Query,
    gv: &str,
    kind: &str,
    type_name: &str,
) -> Result<Value, Status> {
    let schema = builtin();
    let id = schema.type_named(type_name).ok_or_else(|| Status::internal(format!("no type {type_name}")))?;
    let content_type = header_text(request.headers(), header::CONTENT_TYPE);
    let (_, validation) = options::write(query, request.headers(), "CreateOptions")?;
    let bytes = request.into_body().read().await?;
    let gv = GroupVersion::parse(gv);
    let mut value = body::decode(&bytes, &content_type, &gv, kind, id, validation)?.value;
    crate::defaults::apply(id, &mut value);
    Ok(value)
}

pub(crate) fn typed(type_name: &str, value: &Value) -> bytes::Bytes {
    let schema = builtin();
    match schema.type_named(type_name) {
        Some(id) => trireme_schema::encode::to_vec(schema, id, value).into(),
        None => trireme_schema::json::to_vec(value).into(),
    }
}

/// Puts a pod onto a node.
async fn bind(
    server: &Arc<ApiServer>,
    request: Request<Incoming>,
    query: &Query,
    target: &Target,
    wanted: Wanted,
) -> Result<Response<Body>, Status> {
    let options = options::write(query, request.headers(), "CreateOptions")?.0;
    let binding = read_body(request, query, "v1", "Binding", "core.v1.Binding").await?;
    let node = binding.str_at(&["target", "name"]).to_owned();
    let kind = binding.str_at(&["target", "kind"]);
    let path = |field| trireme_schema::field::Path::new(field);
    let wrong = match (kind, node.as_str()) {
        ("" | "Node", "") => Some(trireme_schema::field::Error::required(&path("target.name"), "")),
        ("" | "Node", _) => None,
        (kind, _) => {
            Some(trireme_schema::field::Error::not_supported(&path("target.kind"), kind, &["Node", "<empty>"]))
        }
    };
    if let Some(wrong) = wrong {
        // Upstream tells the plain error.
        return Err(Status::failure(500, "", wrong.to_string()));
    }
    let given = binding.str_at(&["metadata", "name"]);
    if !target.name.is_empty() && given != target.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let pods = server.catalogue.stored("", "pods").ok_or_else(Status::no_such_path)?;
    let name = if target.name.is_empty() { binding.str_at(&["metadata", "name"]) } else { &target.name };
    let pod = Target { served: pods.clone(), name: name.to_owned(), subresource: "binding".into(), ..target.clone() };
    let attributes = Attributes::new(server, target, Operation::Create).dry_run(options.dry_run);
    admission::bind(&attributes, &binding).await?;
    let change = |old: &Value| {
        let conflict = |why: String| Status::conflict("", "pods/binding", &pod.name, &why);
        pod.check_uid(&binding, Some(old), options.dry_run)?;
        if old.at(&["metadata", "deletionTimestamp"]).is_some() {
            return Err(conflict(format!("pod {} is being deleted, cannot be assigned to a host", pod.name)));
        }
        let present = old.str_at(&["spec", "nodeName"]);
        if !present.is_empty() {
            return Err(conflict(format!("pod {} is already assigned to node {present:?}", pod.name)));
        }
        if !old.list_at(&["spec", "schedulingGates"]).is_empty() {
            return Err(conflict(format!("pod {} has non-empty .spec.schedulingGates", pod.name)));
        }
        let mut new = old.clone();
        new.remove_at(&["metadata", "resourceVersion"]);
        new.set_at(&["spec", "nodeName"], node.as_str());
        for field in ["annotations", "labels"] {
            for (key, value) in
                binding.at(&["metadata", field]).and_then(Value::as_object).into_iter().flat_map(Map::iter)
            {
                new.set_at(&["metadata", field, key], value.clone());
            }
        }
        let mut conditions = old.list_at(&["status", "conditions"]).to_vec();
        conditions.retain(|c| c.str_at(&["type"]) != "PodScheduled");
        let mut condition = Map::from_iter([("type", "PodScheduled"), ("status", "True")]);
        condition.insert("lastTransitionTime", time::now());
        conditions.push(Value::Object(condition));
        new.set_at(&["status", "conditions"], Value::Array(conditions));
        Ok(new)
    };
    server.update(&pod, &change, &options).await?;
    Ok(answer::failure(&Status::failure(201, "", ""), wanted))
}

/// Deletes a pod if its disruption budgets allow it (policy/v1).
async fn evict(
    server: &Arc<ApiServer>,
    request: Request<Incoming>,
    query: &Query,
    target: &Target,
    wanted: Wanted,
) -> Result<Response<Body>, Status> {
    let eviction = read_eviction(request, query).await?;
    let given = eviction.str_at(&["metadata", "name"]);
    if given != target.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    admission::validate(&Attributes::new(server, target, Operation::Create), &eviction, None).await?;
    let record = server.record(target)?;
    let pod = target.served.read(&record.value);
    let text = |path: &[&str]| eviction.at(path).and_then(Value::as_str).map(str::to_owned);
    let options = DeleteOptions {
        dry_run: !eviction.list_at(&["deleteOptions", "dryRun"]).is_empty() || query.has("dryRun"),
        grace_period_seconds: eviction.int_at(&["deleteOptions", "gracePeriodSeconds"]),
        propagation: text(&["deleteOptions", "propagationPolicy"]),
        uid: text(&["deleteOptions", "preconditions", "uid"]),
        resource_version: text(&["deleteOptions", "preconditions", "resourceVersion"]),
    };
    let phase = pod.str_at(&["status", "phase"]);
    let over =
        matches!(phase, "Succeeded" | "Failed" | "Pending") || pod.at(&["metadata", "deletionTimestamp"]).is_some();
    if !over {
        take_budget(server, target, &pod, options.dry_run).await?;
    }
    if pod.at(&["metadata", "deletionTimestamp"]).is_none() && !options.dry_run {
        tell_why(server, target).await?;
    }
    let plain = Target { subresource: String::new(), ..target.clone() };
    server.delete(&plain, &options).await?;
    Ok(answer::failure(&Status::failure(201, "", ""), wanted))
}

/// An eviction in any of its versions.
async fn read_eviction(request: Request<Incoming>, query: &Query) -> Result<Value, Status> {
    let headers = request.headers().clone();
    let (_, validation) = options::write(query, &headers, "CreateOptions")?;
    let bytes = request.into_body().read().await?;
    let schema = builtin();
    let id = schema.type_named("policy.v1.Eviction").ok_or_else(|| Status::internal("no type of evictions"))?;
    let content_type = header_text(&headers, header::CONTENT_TYPE);
    let read = |version| body::decode(&bytes, &content_type, &GroupVersion::parse(version), "Eviction", id, validation);
    // The older version is the same in other words.
    let object = read("policy/v1").or_else(|error| read("policy/v1beta1").map_err(|_| error))?;
    Ok(object.value)
}

/// Notes in an evicted pod why it goes.
async fn tell_why(server: &Arc<ApiServer>, target: &Target) -> Result<(), Status> {
    let pod = Target { subresource: "status".into(), ..target.clone() };
    let change = |old: &Value| {
        let mut new = old.clone();
        new.remove_at(&["metadata", "resourceVersion"]);
        let mut conditions = old.list_at(&["status", "conditions"]).to_vec();
        conditions.retain(|c| c.str_at(&["type"]) != "DisruptionTarget");
        let mut condition = Map::from_iter([
            ("type", "DisruptionTarget"),
            ("status", "True"),
            ("reason", "EvictionByEvictionAPI"),
            ("message", "Eviction API: evicting"),
        ]);
        condition.insert("lastTransitionTime", time::now());
        conditions.push(Value::Object(condition));
        new.set_at(&["status", "conditions"], Value::Array(conditions));
        Ok(new)
    };
    server.update(&pod, &change, &crate::registry::WriteOptions::default()).await.map(drop)
}

fn selects(selector: Option<&Value>, labels: Option<&Value>) -> bool {
    let Some(selector) = selector else { return false };
    let has = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
    let equal = selector.get("matchLabels").and_then(Value::as_object).into_iter().flat_map(Map::iter);
    equal.into_iter().all(|(k, v)| has(k) == v.as_str())
        && selector.list_at(&["matchExpressions"]).iter().all(|e| {
            let (value, key) = (has(e.str_at(&["key"])), e.str_at(&["operator"]));
            let listed = e.list_at(&["values"]).iter().any(|v| v.as_str() == value);
            match key {
                "In" => value.is_some() && listed,
                "NotIn" => value.is_none() || !listed,
                "Exists" => value.is_some(),
                _ => value.is_none(),
            }
        })
}

/// Takes one disruption from the pod's budget.
async fn take_budget(server: &Arc<ApiServer>, target: &Target, pod: &Value, dry_run: bool) -> Result<(), Status> {
    let budgets: Vec<Value> = server
        .read_all("policy", "poddisruptionbudgets", &target.namespace)
        .into_iter()
        .filter(|b| selects(b.at(&["spec", "selector"]), pod.at(&["metadata", "labels"])))
        .collect();
    let budget = match &budgets[..] {
        [] => return Ok(()),
        [only] => only,
        _ => {
            return Err(Status::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    let served = server.catalogue.stored("policy", "poddisruptionbudgets").ok_or_else(Status::no_such_path)?;
    let name = budget.str_at(&["metadata", "name"]).to_owned();
    let budget_target =
        Target { served: served.clone(), name: name.clone(), subresource: "status".into(), ..target.clone() };
    let ready = pod
        .list_at(&["status", "conditions"])
        .iter()
        .any(|c| c.str_at(&["type"]) == "Ready" && c.str_at(&["status"]) == "True");
    let pod_name = target.name.clone();
    let change = |old: &Value| {
        let refuse = |retry: i64, cause: String| {
            let message = "Cannot evict pod as it would violate the pod's disruption budget.";
            let mut status = Status::too_many_requests(message, retry);
            if let Some(details) = &mut status.details {
                details.causes.push(trireme_schema::Cause {
                    reason: "DisruptionBudget".into(),
                    message: cause,
                    field: String::new(),
                });
            }
            Err(status)
        };
        let observed = old.int_at(&["status", "observedGeneration"]).unwrap_or_default();
        if observed < old.int_at(&["metadata", "generation"]).unwrap_or_default() {
            return refuse(10, format!("The disruption budget {name} is still being processed by the server."));
        }
        let number = |field: &str| old.int_at(&["status", field]).unwrap_or_default();
        let mut new = old.clone();
        new.remove_at(&["metadata", "resourceVersion"]);
        let always = old.str_at(&["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow";
        let healthy_enough = number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0;
        if !ready && (always || healthy_enough) {
            return Ok(new);
        }
        if number("disruptionsAllowed") <= 0 {
            return refuse(
                0,
                format!(
                    "The disruption budget {name} needs {} healthy pods and has {} currently",
                    number("desiredHealthy"),
                    number("currentHealthy")
                ),
            );
        }
        new.set_at(&["status", "disruptionsAllowed"], number("disruptionsAllowed") - 1);
        new.set_at(&["status", "disruptedPods", &pod_name], time::now());
        Ok(new)
    };
    let options = crate::registry::WriteOptions { dry_run, field_manager: "kube-apiserver".into() };
    server.update(&budget_target, &change, &options).await.map(drop)
}

/// Issues a service-account token (TokenRequest).
async fn token(
    server: &Arc<ApiServer>,
    request: Request<Incoming>,
    query: &Query,
    target: &Target,
    wanted: Wanted,
) -> Result<Response<Body>, Status> {
    const TYPE: &str = "authentication.v1.TokenRequest";
    let mut ask = read_body(request, query, "authentication.k8s.io/v1", "TokenRequest", TYPE).await?;
    let attributes = Attributes::new(server, target, Operation::Create);
    admission::check_token(&attributes, &ask)?;
    admission::validate(&attributes, &ask, None).await?;
    let record = server.record(target)?;
    let account = target.served.read(&record.value);
    let seconds = ask.int_at(&["spec", "expirationSeconds"]).unwrap_or(3600);
    let invalid = |field: &str, value: i64, why: &str| {
        let path = trireme_schema::field::Path::new(field);
        let error = trireme_schema::field::Error::invalid(&path, value, why);
        Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", &[error]))
    };
    if seconds < 600 {
        return invalid("spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > 1 << 32 {
        return invalid("spec.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds");
    }
    let mut bound = Bound::default();
    if let Some(reference) = ask.at(&["spec", "boundObjectRef"]) {
        let (kind, name) = (reference.str_at(&["kind"]), reference.str_at(&["name"]));
        let plural = match kind {
            "Pod" => "pods",
            "Secret" => "secrets",
            "Node" => "nodes",
            _ => {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {} to type {kind}",
                    target.name
                )));
            }
        };
        let namespace = if kind == "Node" { "" } else { &target.namespace };
        let object = server.read("", plural, namespace, name).ok_or_else(|| Status::not_found("", plural, name))?;
        let uid = object.str_at(&["metadata", "uid"]);
        let asked = reference.str_at(&["uid"]);
        if !asked.is_empty() && asked != uid {
            let why = format!(
                "the UID in the bound object reference ({asked}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            return Err(Status::conflict("", plural, name, &why));
        }
        if kind == "Pod" && object.str_at(&["spec", "serviceAccountName"]) != target.name {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount \"{}\" to pod running with different serviceaccount name.",
                target.name
            )));
        }
        bound = Bound { kind: kind.to_owned(), name: name.to_owned(), uid: uid.to_owned(), node: None };
        let node = object.str_at(&["spec", "nodeName"]);
        if kind == "Pod" && !node.is_empty() {
            let uid = server.read("", "nodes", "", node).map(|n| n.str_at(&["metadata", "uid"]).to_owned());
            bound.node = Some((node.to_owned(), uid.unwrap_or_default()));
        }
    }
    let audiences: Vec<String> =
        ask.list_at(&["spec", "audiences"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let uid = account.str_at(&["metadata", "uid"]);
    let issuer = &server.authenticator.issuer;
    let issued =
        issuer.issue((&target.namespace, &target.name, uid), &audiences, &bound, seconds).map_err(Status::internal)?;
    if audiences.is_empty() {
        ask.set_at(&["spec", "audiences"], vec![issuer.issuer()]);
    }
    ask.set_at(&["metadata", "name"], target.name.as_str());
    ask.set_at(&["metadata", "namespace"], target.namespace.as_str());
    ask.set_at(&["metadata", "creationTimestamp"], time::now());
    ask.set_at(&["status", "token"], issued.token);
    let expires = jiff::Timestamp::from_second(issued.expires).map_err(Status::internal)?;
    ask.set_at(&["status", "expirationTimestamp"], time::seconds(expires));
    Ok(answer::object(201, wanted, typed(TYPE, &ask)))
}
