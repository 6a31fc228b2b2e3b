//! The condition `Available` of APIServices.

use trireme_schema::{Map, Value, time};

/// What is found out about an APIService.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Availability {
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

impl Availability {
    pub fn new(status: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into() }
    }

    /// Of what this server has itself.
    pub fn local() -> Self {
        Self::new("True", "Local", "Local APIServices are always available")
    }

    pub fn passed() -> Self {
        Self::new("True", "Passed", "all checks passed")
    }

    pub fn is_true(&self) -> bool {
        self.status == "True"
    }

    /// Whether an object says just that.
    pub fn is_said_of(&self, object: &Value) -> bool {
        available(object).is_some_and(|c| {
            let said = (c.str_at(&["status"]), c.str_at(&["reason"]), c.str_at(&["message"]));
            said == (self.status, self.reason, self.message.as_str())
        })
    }

    /// The object that says it; the time of its transition stays while its status does.
    pub fn said_of(&self, object: &Value) -> Value {
        let mut new = object.clone();
        let old = available(object).filter(|c| c.str_at(&["status"]) == self.status);
        let since = old.map(|c| c.str_at(&["lastTransitionTime"]).to_owned());
        let mut condition = Map::from_iter([("type", "Available"), ("status", self.status), ("reason", self.reason)]);
        condition.insert("message", self.message.as_str());
        condition.insert("lastTransitionTime", since.unwrap_or_else(time::now));
        let mut all = object.list_at(&["status", "conditions"]).to_vec();
        match all.iter_mut().find(|c| is_available(c)) {
            Some(old) => *old = Value::Object(condition),
            None => all.push(Value::Object(condition)),
        }
        new.set_at(&["status", "conditions"], Value::Array(all));
        new
    }
}

fn is_available(condition: &Value) -> bool {
    condition.str_at(&["type"]) == "Available"
}

/// The condition of an object.
pub(super) fn available(object: &Value) -> Option<&Value> {
    object.list_at(&["status", "conditions"]).iter().find(|c| is_available(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_transition_stays_while_the_status_does() {
        let object = Availability::new("False", "ServiceNotFound", "x").said_of(&Value::object());
        let since = |object: &Value| available(object).unwrap().str_at(&["lastTransitionTime"]).to_owned();
        let mut old = object.clone();
        old.set_at(&["status", "conditions"], {
            let mut condition = available(&object).unwrap().clone();
            condition.set_at(&["lastTransitionTime"], "2020-01-01T00:00:00Z");
            vec![condition]
        });
        let other = Availability::new("False", "MissingEndpoints", "y").said_of(&old);
        assert_eq!(since(&other), "2020-01-01T00:00:00Z");
        assert!(!Availability::passed().is_said_of(&other));
        let passed = Availability::passed().said_of(&other);
        assert_ne!(since(&passed), "2020-01-01T00:00:00Z");
        assert!(Availability::passed().is_said_of(&passed));
        assert_eq!(passed.list_at(&["status", "conditions"]).len(), 1);
    }
}
