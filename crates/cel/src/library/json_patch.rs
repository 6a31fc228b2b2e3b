//! What mutating policies have on top: `jsonpatch.escapeKey` and the object type `JSONPatch`.

use super::{Result, mismatch};
use crate::decl::Functions;
use crate::env::TypeProvider;
use crate::types::Type;
use crate::value::Value;

/// The name of the object type.
pub const JSON_PATCH: &str = "JSONPatch";

/// Declares `jsonpatch.escapeKey`.
pub fn json_patch(f: &mut Functions) {
    f.global("jsonpatch.escapeKey", "string_jsonpatch_escapeKey_string", [Type::String], Type::String, escape);
}

fn escape<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::String(key)] => Ok(Value::text(key.replace('~', "~0").replace('/', "~1"))),
        _ => mismatch(),
    }
}

/// Knows `JSONPatch{op: ..., path: ..., from: ..., value: ...}`.
pub struct JsonPatchTypes;

impl TypeProvider for JsonPatchTypes {
    fn find_type(&self, name: &str) -> Option<Type> {
        (name == JSON_PATCH).then(|| Type::object(JSON_PATCH))
    }

    fn find_field(&self, type_name: &str, field: &str) -> Option<Type> {
        match (type_name, field) {
            (JSON_PATCH, "op" | "path" | "from") => Some(Type::String),
            (JSON_PATCH, "value") => Some(Type::Dyn),
            _ => None,
        }
    }
}
