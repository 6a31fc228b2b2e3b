//! The form of events (audit.k8s.io/v1 `Event`).

use super::policy::Level;
use super::{Origin, Stage};
use crate::media::{self, Form};
use crate::request::RequestInfo;
use crate::user::User;
use bytes::Bytes;
use http::{HeaderMap, header};
use std::collections::BTreeMap;
use std::sync::Arc;
use trireme_schema::{Map, Value, builtin, decode, json, proto, time, yaml};

/// What is known of a request so far.
pub(super) struct Draft {
    /// The request's id, which the answer names too.
    pub(super) id: String,
    fixed: Map,
    received: String,
    pub(super) code: Option<u16>,
    /// The Status of a refusal.
    pub(super) status: Option<Value>,
    pub(super) request: Option<Value>,
    pub(super) response: Option<Value>,
}

impl Draft {
    pub(super) fn new(
        id: &str,
        uri: &str,
        info: &RequestInfo,
        (asker, user, origin): (&Arc<User>, &Arc<User>, &Origin),
        headers: &HeaderMap,
    ) -> Self {
        let mut fixed = Map::from_iter([("auditID", id), ("requestURI", uri), ("verb", info.verb.as_str())]);
        fixed.insert("user", user_value(asker));
        if origin.asker.is_some() {
            fixed.insert("impersonatedUser", user_value(user));
        }
        let addresses = addresses(headers, origin);
        if !addresses.is_empty() {
            fixed.insert("sourceIPs", addresses);
        }
        let agent = crate::server::header_text(headers, header::USER_AGENT);
        if !agent.is_empty() {
            fixed.insert("userAgent", agent.chars().take(1024).collect::<String>());
        }
        if info.is_resource {
            let mut reference = Map::new();
            for (key, text) in [
                ("resource", &info.resource),
                ("namespace", &info.namespace),
                ("name", &info.name),
                ("apiGroup", &info.group),
                ("apiVersion", &info.version),
                ("subresource", &info.subresource),
            ] {
                if !text.is_empty() {
                    reference.insert(key, text.as_str());
                }
            }
            fixed.insert("objectRef", reference);
        }
        if let Some((_, constraint)) = origin.asker.as_ref().filter(|(_, c)| !c.is_empty()) {
            let constraint = Map::from_iter([("impersonationConstraint", constraint.as_str())]);
            fixed.insert("authenticationMetadata", constraint);
        }
        let received = time::micros(jiff::Timestamp::now());
        Self { id: id.to_owned(), fixed, received, code: None, status: None, request: None, response: None }
    }

    /// The event of a stage.
    pub(super) fn event(&self, level: Level, stage: Stage, annotations: &BTreeMap<String, String>) -> Value {
        let mut event = Map::from_iter([("kind", "Event"), ("apiVersion", "audit.k8s.io/v1"), ("level", level.name())]);
        for (key, value) in self.fixed.iter() {
            event.insert(key.clone(), value.clone());
        }
        event.insert("stage", format!("{stage:?}"));
        if let Some(code) = self.code.filter(|_| stage != Stage::RequestReceived) {
            let mut status = Map::from_iter([("metadata", Value::object())]);
            for field in ["status", "message", "reason"] {
                if let Some(value) = self.status.as_ref().and_then(|s| s.get(field)) {
                    status.insert(field, value.clone());
                }
            }
            status.insert("code", i64::from(code));
            event.insert("responseStatus", status);
        }
        if stage == Stage::ResponseComplete {
            for (key, object) in [("requestObject", &self.request), ("responseObject", &self.response)] {
                if let Some(object) = object {
                    event.insert(key, object.clone());
                }
            }
        }
        event.insert("requestReceivedTimestamp", self.received.as_str());
        event.insert("stageTimestamp", time::micros(jiff::Timestamp::now()));
        if stage != Stage::RequestReceived && !annotations.is_empty() {
            let pairs = annotations.iter().map(|(k, v)| (k.as_str(), v.as_str()));
            event.insert("annotations", pairs.collect::<Map>());
        }
        Value::Object(event)
    }
}

fn user_value(user: &User) -> Map {
    let mut map = Map::from_iter([("username", user.name.as_str())]);
    if !user.uid.is_empty() {
        map.insert("uid", user.uid.as_str());
    }
    if !user.groups.is_empty() {
        map.insert("groups", user.groups.clone());
    }
    if !user.extra.is_empty() {
        map.insert("extra", user.extra.iter().map(|(k, v)| (k.as_str(), v.clone())).collect::<Map>());
    }
    map
}

/// Where a request comes from: as proxies on the way tell, and the other end of the connection.
fn addresses(headers: &HeaderMap, origin: &Origin) -> Vec<String> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let told = text("x-forwarded-for").split(',').chain([text("x-real-ip")]).map(str::trim);
    let mut all: Vec<String> = told.filter(|t| t.parse::<std::net::IpAddr>().is_ok()).map(str::to_owned).collect();
    all.extend(origin.peer.map(|ip| ip.to_canonical().to_string()).filter(|ip| all.last() != Some(ip)));
    all
}

/// A body as an object; `None` when it is none.
pub(super) fn object(content_type: &str, body: &Bytes, omit_managed_fields: bool) -> Option<Value> {
    if body.is_empty() {
        return None;
    }
    // Patches have media types of their own, and are JSON or YAML.
    let form = if content_type.contains("yaml") {
        Form::Yaml
    } else if content_type.contains("json") {
        Form::Json
    } else {
        media::body_form(content_type).ok()?
    };
    let mut value = match form {
        Form::Json => json::parse(body).ok()?,
        Form::Yaml => yaml::parse(&String::from_utf8_lossy(body)).ok()?,
        Form::Protobuf => {
            let envelope = proto::Envelope::open(body).ok()?;
            let schema = builtin();
            let gv = trireme_schema::GroupVersion::parse(&envelope.api_version);
            let id = schema.kind(&gv, &envelope.kind)?;
            decode::decode(schema, id, proto::decode(schema, id, &envelope.raw).ok()?).ok()?.value
        }
    };
    if omit_managed_fields {
        value.remove_at(&["metadata", "managedFields"]);
        for item in value.at_mut(&["items"]).and_then(Value::as_array_mut).into_iter().flatten() {
            item.remove_at(&["metadata", "managedFields"]);
        }
    }
    Some(value)
}
