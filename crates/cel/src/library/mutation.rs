//! What mutating policies have on top: objects to apply, patches, `jsonpatch.escapeKey`.

use super::{Result, mismatch};
use crate::decl::Functions;
use crate::env::TypeProvider;
use crate::types::Type;
use crate::value::{Map, Struct, Value};

/// The object type of patches.
pub const JSON_PATCH: &str = "JSONPatch";
/// The object type of objects to apply; of the object in their field `spec` it is `Object.spec`, and so on.
pub const OBJECT: &str = "Object";

/// Declares `jsonpatch.escapeKey`.
pub fn mutation(f: &mut Functions) {
    f.global("jsonpatch.escapeKey", "string_jsonpatch_escapeKey_string", [Type::String], Type::String, escape);
}

fn escape<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::String(key)] => Ok(Value::text(key.replace('~', "~0").replace('/', "~1"))),
        _ => mismatch(),
    }
}

/// Knows `JSONPatch{op: ..., path: ..., from: ..., value: ...}` and `Object{...}`, whose fields are all taken as they are.
pub struct MutationTypes;

fn is_object(name: &str) -> bool {
    name == OBJECT || name.strip_prefix(OBJECT).is_some_and(|rest| rest.starts_with('.'))
}

impl TypeProvider for MutationTypes {
    fn find_type(&self, name: &str) -> Option<Type> {
        (name == JSON_PATCH || is_object(name)).then(|| Type::object(name))
    }

    fn find_field(&self, type_name: &str, field: &str) -> Option<Type> {
        match (type_name, field) {
            (JSON_PATCH, "op" | "path" | "from") => Some(Type::String),
            (JSON_PATCH, "value") => Some(Type::Dyn),
            _ => is_object(type_name).then_some(Type::Dyn),
        }
    }
}

/// What is wrong with the names of the object types in a value: each must tell the way to it from the root.
pub fn misnamed_objects(root: &Struct<'_>) -> Vec<String> {
    let mut found = Vec::new();
    in_struct(root, &root.name, &mut found);
    found
}

fn in_struct(object: &Struct<'_>, path: &str, found: &mut Vec<String>) {
    if *object.name != *path {
        found.push(format!(
            "unexpected type name {:?}, expected {path:?}, which matches field name path from root Object type",
            &*object.name
        ));
    }
    for (field, value) in &object.fields {
        in_value(value, &format!("{path}.{field}"), found);
    }
}

/// Lists and maps have no part in the names.
fn in_value(value: &Value<'_>, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Struct(object) => in_struct(object, path, found),
        Value::List(list) => list.iter().flatten().for_each(|item| in_value(&item, path, found)),
        Value::Map(Map::Values(map)) => map.values().for_each(|value| in_value(value, path, found)),
        _ => {}
    }
}
