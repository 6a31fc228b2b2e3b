//! A request for tests.

use crate::subject::{Asks, Subject};
use std::sync::Arc;
use trireme_cel::library::{Authorizer, Check, Decision, ResourceSubject};
use trireme_schema::{Value, value};

/// Lets everything pass that is no deletion.
struct NoDeletions;

impl Authorizer for NoDeletions {
    fn authorize(&self, check: &Check) -> Decision {
        Decision { allowed: check.verb != "delete", reason: check.verb.clone(), error: None }
    }
}

/// Calls a function with a request about a config map.
pub(crate) fn with_subject<T>(see: impl FnOnce(&Subject<'_>) -> T) -> T {
    let asks = Asks::new(Arc::new(NoDeletions), ResourceSubject::default());
    let object = value!({"metadata": {"name": "m"}, "data": {"a": "1"}});
    let request = value!({"operation": "CREATE", "name": "m", "resource": {"resource": "seen"}});
    let asked = value!({"operation": "CREATE", "name": "m", "resource": {"resource": "asked"}});
    let namespace = value!({"metadata": {"name": "n"}});
    see(&Subject {
        object: &object,
        old: &Value::Null,
        request: &request,
        asked: &asked,
        namespace: &namespace,
        params: &Value::Null,
        asks: &asks,
    })
}
