//! Reviews: resources that answer a question and are not stored.

use crate::answer::{self, Body};
use crate::authz::{self, Action, Opinion};
use crate::body;
use crate::managed;
use crate::media::Wanted;
use crate::options;
use crate::registry::Target;
use crate::request::{Query, RequestInfo};
use crate::server::{ApiServer, Incoming, header_text};
use crate::user::User;
use http::{Request, Response, header};
use std::sync::Arc;
use trireme_schema::{Map, Status, Value, time};
use trireme_validation::Subject;

/// A question of a known kind.
pub struct Review {
    target: Target,
}

/// The review that a request is, if it is one.
///
/// # Errors
/// None yet; reviews are refused when they are answered.
pub async fn answer(_server: &Arc<ApiServer>, target: &Target, info: &RequestInfo) -> Result<Option<Review>, Status> {
    const REVIEWS: [&str; 6] = [
        "tokenreviews",
        "selfsubjectreviews",
        "subjectaccessreviews",
        "selfsubjectaccessreviews",
        "localsubjectaccessreviews",
        "selfsubjectrulesreviews",
    ];
    let is = REVIEWS.contains(&target.served.plural()) && info.verb == "create";
    Ok(is.then(|| Review { target: target.clone() }))
}

impl Review {
    /// Answers it.
    ///
    /// # Errors
    /// 400 for a body that asks nothing.
    pub async fn finish(
        self,
        server: &Arc<ApiServer>,
        request: Request<Incoming>,
        query: &Query,
        wanted: Wanted,
    ) -> Result<Response<Body>, Status> {
        let (options, validation) = options::write(query, request.headers(), "CreateOptions")?;
        let content_type = header_text(request.headers(), header::CONTENT_TYPE);
        let bytes = request.into_body().read().await?;
        let served = &self.target.served;
        let given = body::of(served, &bytes, &content_type, validation)?;
        self.target.warnings.add(given.warnings);
        let mut object = given.value;
        if served.resource.namespaced {
            object.set_at(&["metadata", "namespace"], self.target.namespace.as_str());
        }
        managed::written(&managed::Kind::new(served, ""), None, &mut object, &options.field_manager);
        self.check(&object)?;
        let user = &self.target.user;
        let status = match served.plural() {
            "tokenreviews" => token(server, &object).await?,
            "selfsubjectreviews" => {
                object.set_at(&["metadata", "creationTimestamp"], time::now());
                Value::Object(Map::from_iter([("userInfo", user_value(user))]))
            }
            "selfsubjectaccessreviews" => access(server, user, &object).await,
            "selfsubjectrulesreviews" => {
                let namespace = object.str_at(&["spec", "namespace"]).to_owned();
                if namespace.is_empty() {
                    return Err(Status::bad_request("no namespace on request"));
                }
                // The answer does not repeat the question.
                object.remove_at(&["spec"]);
                object.remove_at(&["metadata"]);
                rules(server, user, &namespace)
            }
            _ => access(server, &subject(&object), &object).await,
        };
        object.set_at(&["status"], status);
        Ok(answer::object(201, wanted, served.write(&object).into()))
    }

    /// Upstream's refusals of questions name no kind.
    fn check(&self, object: &Value) -> Result<(), Status> {
        let served = &self.target.served;
        let errors = trireme_validation::review(&Subject {
            group: served.group(),
            version: &served.resource.gv.version,
            kind: served.kind(),
            id: served.id,
            namespaced: served.resource.namespaced,
            subresource: "",
            new: object,
            old: None,
        });
        if errors.is_empty() { Ok(()) } else { Err(Status::invalid(served.group(), "", "", &errors)) }
    }
}

/// A user as `UserInfo`.
pub(crate) fn user_value(user: &User) -> Value {
    let mut map = Map::from_iter([("username", user.name.as_str())]);
    if !user.uid.is_empty() {
        map.insert("uid", user.uid.as_str());
    }
    map.insert("groups", user.groups.clone());
    if !user.extra.is_empty() {
        map.insert("extra", Value::Object(user.extra.iter().map(|(k, v)| (k.as_str(), v.clone())).collect()));
    }
    Value::Object(map)
}

async fn token(server: &ApiServer, object: &Value) -> Result<Value, Status> {
    let token = object.str_at(&["spec", "token"]);
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences: Vec<String> =
        object.list_at(&["spec", "audiences"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    Ok(match server.authenticator.token(server, token, &audiences).await {
        Ok((user, meant)) => {
            let mut map = Map::new();
            map.insert("authenticated", true);
            map.insert("user", user_value(&user));
            map.insert("audiences", meant);
            Value::Object(map)
        }
        Err(_) => Value::Object(Map::from_iter([("error", "invalid bearer token")])),
    })
}

/// The user that a `UserInfo` tells of.
pub(crate) fn user_of(info: &Value) -> User {
    let texts = |v: &[Value]| v.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
    let extra = info.at(&["extra"]).and_then(Value::as_object).into_iter().flat_map(|m| m.iter());
    User {
        name: info.str_at(&["username"]).to_owned(),
        uid: info.str_at(&["uid"]).to_owned(),
        groups: texts(info.list_at(&["groups"])),
        extra: extra.map(|(key, values)| (key.to_string(), texts(values.as_array().unwrap_or_default()))).collect(),
    }
}

fn subject(object: &Value) -> User {
    let texts = |v: &[Value]| v.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
    User {
        name: object.str_at(&["spec", "user"]).to_owned(),
        uid: object.str_at(&["spec", "uid"]).to_owned(),
        groups: texts(object.list_at(&["spec", "groups"])),
        extra: object
            .at(&["spec", "extra"])
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|m| m.iter())
            .map(|(key, values)| (key.to_string(), texts(values.as_array().unwrap_or_default())))
            .collect(),
    }
}

async fn access(server: &ApiServer, user: &User, object: &Value) -> Value {
    let none = Value::Null;
    let (action, mut wrong) = Action::asked(object.get("spec").unwrap_or(&none));
    let decision = authz::decide(server, user, &action).await;
    let mut status = Map::from_iter([("allowed", decision.is_allowed())]);
    if decision.opinion == Opinion::Deny {
        status.insert("denied", true);
    }
    if !decision.reason.is_empty() {
        status.insert("reason", decision.reason);
    }
    if !decision.error.is_empty() {
        wrong.insert(0, decision.error);
    }
    if !wrong.is_empty() {
        status.insert("evaluationError", wrong.join("; "));
    }
    Value::Object(status)
}

fn rules(server: &ApiServer, user: &User, namespace: &str) -> Value {
    let told = authz::rules(server, user, namespace);
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in told.rules {
        let mut map = Map::from_iter([("verbs", rule.verbs)]);
        if rule.urls.is_empty() {
            map.insert("apiGroups", rule.groups);
            map.insert("resources", rule.resources);
            if !rule.names.is_empty() {
                map.insert("resourceNames", rule.names);
            }
            resources.push(Value::Object(map));
        } else {
            map.insert("nonResourceURLs", rule.urls);
            paths.push(Value::Object(map));
        }
    }
    let mut map = Map::new();
    map.insert("resourceRules", Value::Array(resources));
    map.insert("nonResourceRules", Value::Array(paths));
    map.insert("incomplete", told.incomplete);
    if !told.error.is_empty() {
        map.insert("evaluationError", told.error);
    }
    Value::Object(map)
}
