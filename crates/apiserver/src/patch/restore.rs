//! From the tree that a strategic merge patch made to an object: upstream does this without JSON in between
//! (`FromUnstructured`), with errors of its own and more leniency for numbers.

use trireme_schema::{StructId, Type, Value, builtin};

/// Checks that a tree can become an object of a type.
///
/// # Errors
/// Upstream's words for the first value that cannot.
pub(super) fn check(tree: &Value, id: StructId) -> Result<(), String> {
    value(tree, &Type::Struct(id))
}

/// What Go calls the kind of a value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int64",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

fn value(found: &Value, ty: &Type) -> Result<(), String> {
    let number = matches!(found, Value::Int(_) | Value::Float(_));
    let simple = |fits: bool, name: &str| if fits { Ok(()) } else { Err(format!("unrecognized type: {name}")) };
    match (ty, found) {
        (_, Value::Null) => Ok(()),
        (Type::Struct(id), Value::Object(map)) => map
            .iter()
            .try_for_each(|(name, found)| builtin().field(*id, name).map_or(Ok(()), |field| value(found, &field.ty))),
        (Type::Struct(_), other) => Err(format!("cannot restore struct from: {}", kind(other))),
        (Type::Map(inner), Value::Object(map)) => map.values().try_for_each(|found| value(found, inner)),
        (Type::Map(_), other) => Err(format!("cannot restore map from {}", kind(other))),
        (Type::List(inner), Value::Array(items)) => items.iter().try_for_each(|found| value(found, inner)),
        (Type::List(_), other) => Err(format!("cannot restore slice from {}", kind(other))),
        (Type::String, found) => simple(matches!(found, Value::String(_) | Value::Int(_)), "string"),
        (Type::Bool, found) => simple(matches!(found, Value::Bool(_)), "bool"),
        (Type::Int32, _) => simple(number, "int32"),
        (Type::Int64, _) => simple(number, "int64"),
        (Type::Double, _) => simple(number, "float64"),
        (Type::Bytes, Value::String(_)) => Ok(()),
        (Type::Bytes, other) => Err(format!("cannot restore slice from {}", kind(other))),
        // The rest reads itself, from JSON.
        _ => Ok(()),
    }
}

/// Turns numbers into what their fields hold, as Go's conversions do.
pub(super) fn fit(tree: &mut Value, id: StructId) {
    fit_value(tree, &Type::Struct(id));
}

fn fit_value(found: &mut Value, ty: &Type) {
    match (ty, found) {
        (Type::Struct(id), Value::Object(map)) => {
            for (name, found) in map.iter_mut() {
                if let Some(field) = builtin().field(*id, name) {
                    fit_value(found, &field.ty);
                }
            }
        }
        (Type::Map(inner), Value::Object(map)) => map.iter_mut().for_each(|(_, found)| fit_value(found, inner)),
        (Type::List(inner), Value::Array(items)) => items.iter_mut().for_each(|found| fit_value(found, inner)),
        (Type::Int32, found @ (Value::Int(_) | Value::Float(_))) => {
            // Go's conversion wraps.
            let n = if let Value::Float(n) = found { *n as i64 } else { found.as_int().unwrap_or_default() };
            *found = Value::Int(i64::from(n as i32));
        }
        (Type::Int64, found @ Value::Float(_)) => {
            if let Value::Float(n) = found {
                *found = Value::Int(*n as i64);
            }
        }
        (Type::String, found @ Value::Int(_)) => {
            // A number becomes the character of that code.
            let c = found.as_int().and_then(|n| u32::try_from(n).ok()).and_then(char::from_u32);
            *found = Value::String(c.unwrap_or(char::REPLACEMENT_CHARACTER).to_string());
        }
        _ => {}
    }
}
