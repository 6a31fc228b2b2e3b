//! Objects and patches as the errors of patches show them.

use std::collections::BTreeMap;
use trireme_schema::{Map, StructId, Type, Value, builtin, encode, json};

/// The places that a patch touched. Upstream's library reads and writes only those: their members come out sorted,
/// everything else stays in the order in which it was written.
#[derive(Debug, Default)]
pub(super) struct Touched(BTreeMap<String, Touched>);

/// The places that a list of operations touches.
pub(super) fn of_pointers(patch: &Value) -> Touched {
    let mut touched = Touched::default();
    for operation in patch.as_array().unwrap_or_default() {
        for pointer in [operation.str_at(&["path"]), operation.str_at(&["from"])] {
            let mut place = &mut touched;
            for token in pointer.split('/').skip(1) {
                place = place.0.entry(token.replace("~1", "/").replace("~0", "~")).or_default();
            }
        }
    }
    touched
}

/// The places that a merge patch touches.
pub(super) fn of_members(patch: &Value) -> Touched {
    let members = patch.as_object().into_iter().flat_map(Map::iter);
    Touched(members.map(|(name, value)| (name.to_string(), of_members(value))).collect())
}

/// An object as upstream writes it after a patch.
pub(super) fn written(tree: &Value, id: StructId, touched: &Touched) -> String {
    let mut out = Vec::new();
    write(tree, Some(&Type::Struct(id)), Some(touched), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn write(value: &Value, ty: Option<&Type>, touched: Option<&Touched>, out: &mut Vec<u8>) {
    let schema = builtin();
    match (value, ty, touched) {
        (Value::Object(map), ty, Some(touched)) => {
            out.push(b'{');
            for (i, (name, value)) in map.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                json::write_string(name, out);
                out.push(b':');
                let inner = match ty {
                    Some(Type::Struct(id)) => schema.field(*id, name).map(|field| &field.ty),
                    Some(Type::Map(inner)) => Some(&**inner),
                    _ => None,
                };
                write(value, inner, touched.0.get(name.as_str()), out);
            }
            out.push(b'}');
        }
        (Value::Object(_), Some(Type::Struct(id)), None) => encode::encode(schema, *id, value, out),
        (Value::Array(items), Some(Type::List(inner)), _) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(item, Some(inner), touched.and_then(|t| t.0.get(&i.to_string())), out);
            }
            out.push(b']');
        }
        (value, ..) => json::write(value, out),
    }
}

/// A value as Go's `%+v` shows what was decoded without a type.
pub(super) fn go_map(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_map).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let members: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_map(v))).collect();
            format!("map[{}]", members.join(" "))
        }
        other => json::to_string(other),
    }
}
