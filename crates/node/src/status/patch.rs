//! What is to be written of a status: a strategic merge patch, since others write conditions too.

use super::object;
use trireme_schema::Value;

/// Conditions that a node takes away again.
const PASSING: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];
/// Fields that go when they no longer apply.
const OPTIONAL: [&str; 5] = ["reason", "message", "podIP", "initContainerStatuses", "ephemeralContainerStatuses"];

/// The patch that makes a status, given what was there.
pub fn patch(before: &Value, status: &Value) -> Value {
    let mut patch = status.clone();
    for field in OPTIONAL {
        if before.get(field).is_some() && status.get(field).is_none() {
            patch.set_at(&[field], Value::Null);
        }
    }
    // What a condition no longer says is taken away.
    if let Some(conditions) = patch.at_mut(&["conditions"]).and_then(Value::as_array_mut) {
        for condition in conditions {
            let old = before.list_at(&["conditions"]).iter().find(|old| old.get("type") == condition.get("type"));
            for field in ["reason", "message"] {
                if condition.get(field).is_none() && old.is_some_and(|old| old.get(field).is_some()) {
                    condition.set_at(&[field], Value::Null);
                }
            }
        }
    }
    let gone = |list: &str, key: &'static str| -> Vec<Value> {
        let stays = |old: &&Value| status.list_at(&[list]).iter().any(|new| new.get(key) == old.get(key));
        let old = before.list_at(&[list]).iter().filter(|old| !stays(old));
        old.map(|old| object([("$patch", "delete".into()), (key, old.get(key).cloned().unwrap_or_default())])).collect()
    };
    let passing = |c: &Value| PASSING.contains(&c.str_at(&["type"]));
    for (list, mut gone) in [
        ("podIPs", gone("podIPs", "ip")),
        ("hostIPs", gone("hostIPs", "ip")),
        ("conditions", gone("conditions", "type").into_iter().filter(passing).collect()),
    ] {
        if !gone.is_empty() {
            gone.splice(0..0, patch.list_at(&[list]).iter().cloned());
            patch.set_at(&[list], Value::Array(gone));
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    #[test]
    fn what_is_gone_is_taken_away_and_what_others_wrote_stays() {
        let value = |t: &str| json::parse(t.as_bytes()).unwrap();
        let before = value(
            r#"{"message":"m","podIPs":[{"ip":"a"}],
                "conditions":[{"type":"Mine"},{"type":"PodResizePending"},{"type":"Ready","reason":"No"}]}"#,
        );
        let status = value(r#"{"phase":"Running","podIPs":[{"ip":"b"}],"conditions":[{"type":"Ready"}]}"#);
        let want = value(
            r#"{"phase":"Running","podIPs":[{"ip":"b"},{"$patch":"delete","ip":"a"}],
                "conditions":[{"type":"Ready","reason":null},{"$patch":"delete","type":"PodResizePending"}],"message":null}"#,
        );
        assert_eq!(patch(&before, &status), want);
    }
}
