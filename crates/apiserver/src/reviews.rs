//! Reviews: resources that answer a question and are not stored.

use crate::answer::{self, Body};
use crate::authz::{self, Action, Rule};
use crate::body::{self, FieldValidation};
use crate::media::Wanted;
use crate::registry::Target;
use crate::request::{Query, RequestInfo};
use crate::server::{ApiServer, Incoming, header_text};
use crate::user::User;
use http::{Request, Response, header};
use std::sync::Arc;
use trireme_schema::{Map, Status, Value};

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
        let content_type = header_text(request.headers(), header::CONTENT_TYPE);
        let bytes = request.into_body().read().await?;
        let validation = FieldValidation::read(query)?;
        let served = &self.target.served;
        let mut object = body::of(served, &bytes, &content_type, validation)?.value;
        let user = &self.target.user;
        let status = match served.plural() {
            "tokenreviews" => token(server, &object)?,
            "selfsubjectreviews" => Value::Object(Map::from_iter([("userInfo", user_value(user))])),
            "selfsubjectaccessreviews" => access(server, user, &object)?,
            "selfsubjectrulesreviews" => {
                let namespace = object.str_at(&["spec", "namespace"]);
                if namespace.is_empty() {
                    return Err(Status::bad_request("no namespace on request"));
                }
                rules(server, user, namespace)
            }
            _ => {
                if served.resource.namespaced
                    && object.str_at(&["spec", "resourceAttributes", "namespace"]) != self.target.namespace
                {
                    let path = trireme_schema::field::Path::new("spec.resourceAttributes.namespace");
                    let why = "must match metadata.namespace";
                    let value = object.str_at(&["spec", "resourceAttributes", "namespace"]);
                    let error = trireme_schema::field::Error::invalid(&path, value, why);
                    return Err(Status::invalid(served.group(), served.kind(), "", &[error]));
                }
                let subject = subject(&object);
                if subject.name.is_empty() && subject.groups.is_empty() {
                    let path = trireme_schema::field::Path::new("spec.user");
                    let error = trireme_schema::field::Error::invalid(
                        &path,
                        "",
                        "at least one of user or group must be specified",
                    );
                    return Err(Status::invalid(served.group(), served.kind(), "", &[error]));
                }
                access(server, &subject, &object)?
            }
        };
        object.set_at(&["status"], status);
        Ok(answer::object(201, wanted, served.write(&object).into()))
    }
}

fn user_value(user: &User) -> Value {
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

fn token(server: &ApiServer, object: &Value) -> Result<Value, Status> {
    let token = object.str_at(&["spec", "token"]);
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences: Vec<String> =
        object.list_at(&["spec", "audiences"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    Ok(match server.authenticator.token(server, token, &audiences) {
        Ok(user) => {
            let mut map = Map::new();
            map.insert("authenticated", true);
            map.insert("user", user_value(&user));
            let own = vec![server.authenticator.issuer.issuer().to_owned()];
            map.insert("audiences", if audiences.is_empty() { own } else { audiences });
            Value::Object(map)
        }
        Err(_) => Value::Object(Map::from_iter([("error", "invalid bearer token")])),
    })
}

fn subject(object: &Value) -> User {
    let texts = |v: &[Value]| v.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
    User {
        name: object.str_at(&["spec", "user"]).to_owned(),
        uid: object.str_at(&["spec", "uid"]).to_owned(),
        groups: texts(object.list_at(&["spec", "groups"])),
        extra: Default::default(),
    }
}

fn access(server: &ApiServer, user: &User, object: &Value) -> Result<Value, Status> {
    let resource = object.at(&["spec", "resourceAttributes"]);
    let path = object.at(&["spec", "nonResourceAttributes"]);
    let text = |value: &Value, field: &str| value.str_at(&[field]).to_owned();
    let action = match (resource, path) {
        (Some(r), None) => Action {
            verb: text(r, "verb"),
            group: text(r, "group"),
            resource: text(r, "resource"),
            subresource: text(r, "subresource"),
            namespace: text(r, "namespace"),
            name: text(r, "name"),
            path: String::new(),
        },
        (None, Some(p)) => Action { verb: text(p, "verb"), path: text(p, "path"), ..Action::default() },
        _ => {
            let path = trireme_schema::field::Path::new("spec.resourceAttributes");
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            let error = trireme_schema::field::Error::invalid(&path, Value::Null, why);
            return Err(Status::invalid("authorization.k8s.io", object.str_at(&["kind"]), "", &[error]));
        }
    };
    let mut map = Map::new();
    map.insert("allowed", authz::allows(server, user, &action));
    Ok(Value::Object(map))
}

fn rules(server: &ApiServer, user: &User, namespace: &str) -> Value {
    let mut all = authz::rules_of(server, user, namespace);
    if user.is_in("system:masters") {
        let every = || vec!["*".to_owned()];
        all.push(Rule { verbs: every(), groups: every(), resources: every(), ..Rule::default() });
        all.push(Rule { verbs: every(), urls: every(), ..Rule::default() });
    }
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in all {
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
    map.insert("incomplete", false);
    Value::Object(map)
}
