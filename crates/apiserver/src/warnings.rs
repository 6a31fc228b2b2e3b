//! What a client is told besides the answer to its request: `Warning` headers (RFC 7234, 5.5).

use crate::answer::Body;
use http::{HeaderValue, Response, header};
use parking_lot::Mutex;
use std::sync::Arc;
use trireme_schema::field;

/// The warnings of a request, collected on its way; each is told once.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Adds some.
    pub fn add(&self, texts: impl IntoIterator<Item = String>) {
        let mut all = self.0.lock();
        for text in texts {
            if !all.contains(&text) {
                all.push(text);
            }
        }
    }

    /// Puts them on an answer.
    pub fn tell(&self, mut response: Response<Body>) -> Response<Body> {
        for text in self.0.lock().iter() {
            if let Ok(value) = HeaderValue::from_str(&format!("299 - {}", field::quote(text))) {
                response.headers_mut().append(header::WARNING, value);
            }
        }
        response
    }
}

/// What is said to everybody who uses a version of a resource that is on its way out.
pub fn deprecation(version: &str, group: &str, kind: &str) -> Option<String> {
    match (group, kind) {
        ("", "Endpoints") => {
            Some(format!("{version} Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"))
        }
        ("", "ComponentStatus") => Some(format!("{version} ComponentStatus is deprecated in v1.19+")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_told_once_and_quoted() {
        let warnings = Warnings::default();
        warnings.add(["unknown field \"a\"".to_owned(), "unknown field \"a\"".to_owned()]);
        let response = warnings.tell(crate::answer::text(200, ""));
        let told: Vec<_> = response.headers().get_all(header::WARNING).iter().collect();
        assert_eq!(told, ["299 - \"unknown field \\\"a\\\"\""]);
    }
}
