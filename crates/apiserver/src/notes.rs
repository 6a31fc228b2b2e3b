//! What is noted of a request on its way, for the audit log.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Annotations of a request's audit event, shared by all who see the request.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<BTreeMap<String, String>>>);

impl Notes {
    /// The notes of a request, which it brings in its extensions.
    pub fn of<T>(request: &http::Request<T>) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_default()
    }

    /// Notes something. What was noted first stays.
    pub fn annotate(&self, key: &str, value: impl Into<String>) {
        self.0.lock().entry(key.to_owned()).or_insert_with(|| value.into());
    }

    /// What is noted.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.0.lock().clone()
    }
}
