//! Patches: JSON Patch, merge patch, strategic merge patch. Server-side apply is in [`crate::managed`].

pub(crate) mod json_patch;
mod restore;
mod strategic;
mod text;

use crate::body::{self, FieldValidation, Object};
use crate::catalogue::Served;
use trireme_schema::{GroupVersion, Status, StructId, Value, builtin, decode, field, json, yaml};

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

/// A patch as it came, with what is to be done about fields that are not known.
#[derive(Clone, Copy, Debug)]
pub struct Patch<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its text.
    pub bytes: &'a [u8],
    /// What becomes of unknown and repeated fields.
    pub validation: FieldValidation,
}

/// A tree that a patch made, with what the client is to hear of the patch.
#[derive(Debug)]
pub struct Patched {
    tree: Value,
    notes: Vec<String>,
    /// The value as the errors of its kind of patch show it.
    shown: String,
}

impl Patch<'_> {
    /// Applies the patch to an object's JSON tree.
    ///
    /// # Errors
    /// 400, 413, 422 or 500 in upstream's words.
    pub fn apply(&self, tree: Value, id: StructId) -> Result<Patched, Status> {
        let bad = |why: String| Status::bad_request(why);
        let ignores = self.validation == FieldValidation::Ignore;
        let decoding = if self.kind == Kind::Strategic || ignores { "" } else { "error decoding patch: " };
        let parsed = json::parse_noting_duplicates(self.bytes).map_err(|e| match self.kind {
            Kind::Merge if ignores => bad("Invalid JSON Patch".into()),
            _ => bad(format!("{decoding}{e}")),
        })?;
        let patch = parsed.value;
        let mut notes: Vec<String> = parsed.duplicates.iter().map(|path| format!("duplicate field {path:?}")).collect();
        let object = |found: &Value| {
            let found = found.json_type();
            bad(format!("{decoding}json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"))
        };
        match self.kind {
            Kind::Json => {
                notes = json_patch::unknown(&patch);
                let touched = text::of_pointers(&patch);
                let tree = json_patch::apply(&patch, tree, ignores)?;
                Ok(Patched { shown: text::written(&tree, id, &touched), tree, notes })
            }
            Kind::Merge if patch.is_null() || (ignores && patch.as_object().is_none()) => {
                Err(bad("Invalid JSON Patch".into()))
            }
            Kind::Merge | Kind::Strategic if patch.as_object().is_none() && !patch.is_null() => Err(object(&patch)),
            Kind::Merge => {
                let tree = merge(tree, &patch);
                Ok(Patched { shown: text::written(&tree, id, &text::of_members(&patch)), tree, notes })
            }
            Kind::Strategic => {
                let tree = strategic::apply(&patch, tree, id)?;
                Ok(Patched { shown: text::go_map(&patch), tree, notes })
            }
            Kind::Apply => Err(Status::internal("server-side apply is no patch of this kind")),
        }
    }

    /// What a patch made, as an object of a resource with its defaults.
    ///
    /// # Errors
    /// 422 when it is none of its kind.
    pub fn object(&self, patched: Patched, served: &Served) -> Result<Object, Status> {
        if served.custom.is_some() {
            let mut object = body::object(served, patched.tree, self.validation)?;
            if self.validation == FieldValidation::Warn {
                object.warnings.splice(0..0, patched.notes);
            }
            return Ok(object);
        }
        let mut object = self.finish(patched, &served.resource.gv, served.kind(), served.id)?;
        body::default(served, &mut object.value);
        Ok(object)
    }

    /// What a patch made, as an object of a type.
    ///
    /// # Errors
    /// 422 when it is none of its kind.
    pub fn finish(&self, patched: Patched, gv: &GroupVersion, kind: &str, id: StructId) -> Result<Object, Status> {
        let Patched { mut tree, mut notes, shown } = patched;
        let invalid = |shown: &str, why: String| {
            let error = field::Error::invalid(&field::Path::new("patch"), shown, why);
            Status::invalid("", "", "", &[error])
        };
        let refused = |why: String| invalid(&shown, why);
        if self.kind == Kind::Strategic {
            restore::check(&tree, id).map_err(refused)?;
            restore::fit(&mut tree, id);
        } else {
            self.check_kind(&tree, gv, kind).map_err(refused)?;
        }
        crate::managed::keep_reset(&mut tree);
        let decoded = decode::decode(builtin(), id, tree).map_err(|e| refused(e.to_string()))?;
        // What is wrong with the patch alone is shown with the patch.
        let text = String::from_utf8_lossy(self.bytes);
        let of_patch = decoded.unknown.is_empty() && self.kind != Kind::Strategic;
        notes.extend(decoded.unknown.iter().map(|path| format!("unknown field {path:?}")));
        match self.validation {
            FieldValidation::Strict if !notes.is_empty() => {
                let why = format!("strict decoding error: {}", notes.join(", "));
                Err(invalid(if of_patch { &text } else { &shown }, why))
            }
            FieldValidation::Warn => Ok(Object { value: decoded.value, warnings: notes, empty: decoded.empty }),
            _ => Ok(Object { value: decoded.value, warnings: Vec::new(), empty: decoded.empty }),
        }
    }

    /// A patch may not make another kind of an object.
    fn check_kind(&self, tree: &Value, gv: &GroupVersion, kind: &str) -> Result<(), String> {
        let (version, given) = (tree.str_at(&["apiVersion"]), tree.str_at(&["kind"]));
        if given.is_empty() || (given == kind && version == gv.to_string()) {
            return Ok(());
        }
        let schema = builtin();
        let given_gv = GroupVersion::parse(version);
        let Some(id) = schema.kinds().find(|(gv, _)| **gv == given_gv).and_then(|(_, kinds)| kinds.get(given)) else {
            // The place is where upstream makes its scheme.
            return Err(format!(
                "no kind {given:?} is registered for version {version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
            ));
        };
        decode::decode(schema, *id, tree.clone()).map_err(|e| e.to_string())?;
        let package = |group: &str| {
            let first = group.split('.').next().unwrap_or_default();
            if first.is_empty() { "core".to_owned() } else { first.to_owned() }
        };
        Err(format!("converting ({}.{given}) to ({}.{kind}): unknown conversion", given_gv.version, package(&gv.group)))
    }

    /// The configuration that is to be applied, with warnings.
    ///
    /// # Errors
    /// 400 for what is no YAML, or, when that is asked for, for repeated keys.
    pub fn configuration(&self) -> Result<(Value, Vec<String>), Status> {
        let decoding = |why: String| Status::bad_request(format!("error decoding YAML: {why}"));
        let text = String::from_utf8_lossy(self.bytes);
        let first = yaml::parse_first(&text).map_err(|e| decoding(format!("error converting YAML to JSON: {e}")))?;
        let applied = match first.value {
            Value::Null => Value::object(),
            object @ Value::Object(_) => object,
            other => {
                let found = other.json_type();
                return Err(decoding(format!(
                    "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
                )));
            }
        };
        match self.validation {
            FieldValidation::Strict if !first.repeated.is_empty() => Err(Status::bad_request(format!(
                "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {}",
                first.repeated.join("\n  ")
            ))),
            FieldValidation::Warn => Ok((applied, first.repeated)),
            _ => Ok((applied, Vec::new())),
        }
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
