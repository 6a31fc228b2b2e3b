//! Errors as clients see them: `metav1.Status` (apimachinery `api/errors`).

use crate::field;
use crate::value::{Map, Value};
use std::borrow::Cow;

/// Something went wrong, or (code 200) went well without an object to show.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// The HTTP status.
    pub code: u16,
    /// The reason, `NotFound`; empty for unknown.
    pub reason: Cow<'static, str>,
    /// In words.
    pub message: String,
    /// What it is about.
    pub details: Option<Box<Details>>,
}

/// What a [`Status`] is about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// The object's name.
    pub name: String,
    /// The resource's group.
    pub group: String,
    /// The resource, or the kind for invalid objects.
    pub kind: String,
    /// The object's UID.
    pub uid: String,
    /// One by one.
    pub causes: Vec<Cause>,
    /// When to try again.
    pub retry_after_seconds: i64,
    /// A token by which a list that cannot go on may go on all the same; told in the metadata.
    pub next: String,
}

/// One of the causes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`.
    pub reason: String,
    /// In words.
    pub message: String,
    /// The field's path.
    pub field: String,
}

/// A resource as it is named in messages: `deployments.apps`.
fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

fn about(group: &str, kind: &str, name: &str) -> Details {
    Details { group: group.to_owned(), kind: kind.to_owned(), name: name.to_owned(), ..Details::default() }
}

impl Status {
    /// A failure of any kind.
    pub fn failure(code: u16, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), message: message.into(), details: None }
    }

    fn with(code: u16, reason: &'static str, message: String, details: Details) -> Self {
        Self { code, reason: reason.into(), message, details: Some(Box::new(details)) }
    }

    /// 404 for an object.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {} not found", qualified(group, resource), field::quote(name));
        Self::with(404, "NotFound", message, about(group, resource, name))
    }

    /// 404 for a path.
    pub fn no_such_path() -> Self {
        let message = "the server could not find the requested resource".to_owned();
        Self::with(404, "NotFound", message, Details::default())
    }

    /// 409: the name is taken.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {} already exists", qualified(group, resource), field::quote(name));
        Self::with(409, "AlreadyExists", message, about(group, resource, name))
    }

    /// 409: somebody was faster.
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let resource_name = qualified(group, resource);
        let message = format!("Operation cannot be fulfilled on {resource_name} {}: {why}", field::quote(name));
        Self::with(409, "Conflict", message, about(group, resource, name))
    }

    /// 409 with upstream's words for an outdated resourceVersion.
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, resource, name, why)
    }

    /// 422: fields that do not pass validation.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[field::Error]) -> Self {
        let message =
            format!("{} {} is invalid: {}", qualified(group, kind), field::quote(name), field::aggregate(errors));
        let causes = errors
            .iter()
            .map(|e| Cause { reason: e.kind.reason().to_owned(), message: e.body(), field: e.field.clone() })
            .collect();
        Self::with(422, "Invalid", message, Details { causes, ..about(group, kind, name) })
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::failure(401, "Unauthorized", "Unauthorized")
    }

    /// 403 for an object; `why` follows upstream's prefix.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let resource_name = qualified(group, resource);
        let message = match (resource, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{resource_name} is forbidden: {why}"),
            _ => format!("{resource_name} {} is forbidden: {why}", field::quote(name)),
        };
        Self::with(403, "Forbidden", message, about(group, resource, name))
    }

    /// 405.
    pub fn method_not_allowed(group: &str, resource: &str, verb: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind \"{}\"", qualified(group, resource));
        Self::with(405, "MethodNotAllowed", message, about(group, resource, ""))
    }

    /// 406.
    pub fn not_acceptable(supported: &str) -> Self {
        let message = format!("406: Not Acceptable\n\nAvailable representations: {supported}");
        Self::with(406, "NotAcceptable", message, Details::default())
    }

    /// 415.
    pub fn unsupported_media_type(supported: &str) -> Self {
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {supported}");
        Self::failure(415, "UnsupportedMediaType", message)
    }

    /// 413.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::failure(413, "RequestEntityTooLarge", message)
    }

    /// 410: the revision is compacted.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, "Expired", message)
    }

    /// 504.
    pub fn timeout(message: impl Into<String>, retry_after_seconds: i64) -> Self {
        let details = Details { retry_after_seconds, ..Details::default() };
        Self::with(504, "Timeout", format!("Timeout: {}", message.into()), details)
    }

    /// 429.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: i64) -> Self {
        let details = Details { retry_after_seconds, ..Details::default() };
        Self::with(429, "TooManyRequests", message.into(), details)
    }

    /// 500.
    pub fn internal(why: impl std::fmt::Display) -> Self {
        let cause = Cause { message: why.to_string(), ..Cause::default() };
        let details = Details { causes: vec![cause], ..Details::default() };
        Self::with(500, "InternalError", format!("Internal error occurred: {why}"), details)
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, "ServiceUnavailable", message)
    }

    /// The same with other words.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// As the object that is sent.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        map.insert("kind", "Status");
        map.insert("apiVersion", "v1");
        let next = self.details.as_ref().map(|details| details.next.as_str()).filter(|next| !next.is_empty());
        map.insert("metadata", Map::from_iter(next.map(|next| ("continue", next))));
        map.insert("status", if self.code < 400 { "Success" } else { "Failure" });
        if !self.message.is_empty() {
            map.insert("message", self.message.as_str());
        }
        if !self.reason.is_empty() {
            map.insert("reason", self.reason.as_ref());
        }
        if let Some(details) = self.details.as_ref().filter(|_| next.is_none()) {
            map.insert("details", details.to_map());
        }
        // What went well and is told with 200 says no code.
        if self.code != 200 {
            map.insert("code", i64::from(self.code));
        }
        Value::Object(map)
    }
}

impl Details {
    fn to_map(&self) -> Map {
        let mut map = Map::new();
        let texts = [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)];
        for (key, text) in texts {
            if !text.is_empty() {
                map.insert(key, text.as_str());
            }
        }
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(Cause::to_value).collect();
            map.insert("causes", Value::Array(causes));
        }
        if self.retry_after_seconds > 0 {
            map.insert("retryAfterSeconds", self.retry_after_seconds);
        }
        map
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let texts = [("reason", &self.reason), ("message", &self.message), ("field", &self.field)];
        Value::Object(texts.into_iter().filter(|(_, t)| !t.is_empty()).map(|(k, t)| (k, t.as_str())).collect())
    }
}
