//! Patches: JSON Patch, merge patch, strategic merge patch. Server-side apply is in [`crate::managed`].

mod json_patch;
mod strategic;

use trireme_schema::{Status, StructId, Value, json, yaml};

/// The kinds of patch, by content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Merge that knows the lists of the type.
    Strategic,
    /// Server-side apply.
    Apply,
}

impl Kind {
    /// 415 for a strategic merge patch of a custom object: its schema knows no strategies.
    pub fn not_for_custom() -> Status {
        Status::unsupported_media_type(
            "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
        )
    }

    /// From the content type.
    ///
    /// # Errors
    /// 415.
    pub fn read(content_type: &str) -> Result<Self, Status> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Kind::Json),
            "application/merge-patch+json" => Ok(Kind::Merge),
            "application/strategic-merge-patch+json" => Ok(Kind::Strategic),
            "application/apply-patch+yaml" | "application/apply-patch+cbor" => Ok(Kind::Apply),
            _ => Err(Status::unsupported_media_type(
                "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml, application/strategic-merge-patch+json",
            )),
        }
    }
}

/// Reads a patch.
///
/// # Errors
/// 400.
pub fn parse(kind: Kind, bytes: &[u8]) -> Result<Value, Status> {
    if kind == Kind::Apply {
        let text = String::from_utf8_lossy(bytes);
        return yaml::parse(&text).map_err(|e| Status::bad_request(format!("error decoding YAML: {e}")));
    }
    json::parse(bytes).map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))
}

/// Applies a patch to an object's JSON tree.
///
/// # Errors
/// 400 or 422 in upstream's words.
pub fn apply(kind: Kind, patch: &Value, tree: Value, id: StructId) -> Result<Value, Status> {
    match kind {
        Kind::Json => json_patch::apply(patch, tree),
        Kind::Merge => {
            if patch.as_object().is_none() {
                return Err(Status::bad_request(
                    "json: cannot unmarshal patch into Go value of type map[string]interface {}",
                ));
            }
            Ok(merge(tree, patch))
        }
        Kind::Strategic => strategic::apply(patch, tree, id),
        Kind::Apply => Err(Status::internal("server-side apply is no patch of this kind")),
    }
}

/// RFC 7386.
pub fn merge(target: Value, patch: &Value) -> Value {
    let Value::Object(changes) = patch else { return patch.clone() };
    let mut map = match target {
        Value::Object(map) => map,
        _ => trireme_schema::Map::new(),
    };
    for (key, change) in changes.iter() {
        if change.is_null() {
            map.remove(key);
        } else {
            let before = map.remove(key).unwrap_or_default();
            map.insert(key.clone(), merge(before, change));
        }
    }
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_follows_the_examples_of_the_rfc() {
        for (target, patch, want) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            let read = |text: &str| json::parse(text.as_bytes()).unwrap();
            assert_eq!(merge(read(target), &read(patch)), read(want));
        }
    }
}
