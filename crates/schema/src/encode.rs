//! From a canonical object to JSON text, fields in Go's order, byte for byte what kube-apiserver writes.

use crate::decode::zero;
use crate::json::{write, write_float, write_int, write_string};
use crate::model::{Field, Schema, StructId, Type};
use crate::value::{Key, Map, Value};

/// Appends the JSON text of an object.
pub fn encode(schema: &Schema, id: StructId, value: &Value, out: &mut Vec<u8>) {
    out.push(b'{');
    let mut first = true;
    fields(schema, id, value, out, &mut first);
    out.push(b'}');
}

/// The JSON text of an object.
pub fn to_vec(schema: &Schema, id: StructId, value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    encode(schema, id, value, &mut out);
    out
}

/// The object as a plain JSON tree, with the zero values that its JSON text has.
pub fn to_tree(schema: &Schema, id: StructId, value: &Value) -> Value {
    let mut map = Map::with_capacity(schema[id].fields.len());
    tree_fields(schema, id, value, &mut map);
    Value::Object(map)
}

fn tree_fields(schema: &Schema, id: StructId, value: &Value, out: &mut Map) {
    for field in &schema[id].fields {
        if let (Type::Struct(inner), true) = (&field.ty, field.inline) {
            tree_fields(schema, *inner, value, out);
            continue;
        }
        let element = match value.get(&field.name) {
            Some(value) => tree_element(schema, id, &field.ty, value),
            None if is_omitted(field) => continue,
            None if field.ptr => Value::Null,
            None => tree_element(schema, id, &field.ty, &zero(&field.ty)),
        };
        out.insert(field.name.as_str(), element);
    }
}

fn tree_element(schema: &Schema, owner: StructId, ty: &Type, value: &Value) -> Value {
    match (ty, value) {
        (Type::Struct(id), _) => to_tree(schema, *id, value),
        (Type::List(inner), Value::Array(items)) => {
            Value::Array(items.iter().map(|item| tree_element(schema, owner, inner, item)).collect())
        }
        (Type::Map(inner), Value::Object(map)) => {
            let member = |(key, value): (&Key, &Value)| (key.clone(), tree_element(schema, owner, inner, value));
            Value::Object(map.iter().map(member).collect())
        }
        // As it would be read back from its text.
        (_, Value::Float(n)) if n.fract() == 0.0 && n.abs() < 1e15 => Value::Int(*n as i64),
        (Type::SchemaOrBool | Type::SchemaOrArray | Type::SchemaOrStrings, Value::Object(_)) => {
            match schema.type_named(&format!("{}.JSONSchemaProps", schema[owner].package)) {
                Some(id) => to_tree(schema, id, value),
                None => value.clone(),
            }
        }
        (Type::SchemaOrArray, Value::Array(items)) => {
            let item = |item| tree_element(schema, owner, &Type::SchemaOrArray, item);
            Value::Array(items.iter().map(item).collect())
        }
        _ => value.clone(),
    }
}

fn name(field: &str, out: &mut Vec<u8>, first: &mut bool) {
    if !*first {
        out.push(b',');
    }
    *first = false;
    write_string(field, out);
    out.push(b':');
}

fn fields(schema: &Schema, id: StructId, value: &Value, out: &mut Vec<u8>, first: &mut bool) {
    for field in &schema[id].fields {
        if let (Type::Struct(inner), true) = (&field.ty, field.inline) {
            fields(schema, *inner, value, out, first);
            continue;
        }
        match value.get(&field.name) {
            Some(value) => {
                name(&field.name, out, first);
                element(schema, id, &field.ty, value, out);
            }
            None if is_omitted(field) => {}
            None => {
                name(&field.name, out, first);
                if field.ptr {
                    out.extend_from_slice(b"null");
                } else {
                    element(schema, id, &field.ty, &zero(&field.ty), out);
                }
            }
        }
    }
}

/// Whether an absent value leaves no trace: Go's omitempty does not apply to structs.
fn is_omitted(field: &Field) -> bool {
    if field.ptr {
        return field.omit || field.omit_zero;
    }
    match field.ty {
        Type::Struct(_) | Type::Time | Type::MicroTime | Type::Quantity | Type::Duration | Type::IntOrString => {
            field.omit_zero
        }
        Type::RawExtension | Type::Json => field.omit_zero,
        _ => field.omit || field.omit_zero,
    }
}

fn element(schema: &Schema, owner: StructId, ty: &Type, value: &Value, out: &mut Vec<u8>) {
    match (ty, value) {
        (Type::Struct(id), _) => encode(schema, *id, value, out),
        (Type::List(inner), Value::Array(items)) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                element(schema, owner, inner, item, out);
            }
            out.push(b']');
        }
        (Type::Map(inner), Value::Object(map)) => {
            out.push(b'{');
            let mut first = true;
            for (key, value) in map.iter() {
                name(key, out, &mut first);
                element(schema, owner, inner, value, out);
            }
            out.push(b'}');
        }
        (Type::Double, Value::Float(n)) => write_float(*n, out),
        (Type::Int32 | Type::Int64 | Type::IntOrString, Value::Int(n)) => write_int(*n, out),
        (Type::SchemaOrBool | Type::SchemaOrArray | Type::SchemaOrStrings, Value::Object(_)) => {
            match schema.type_named(&format!("{}.JSONSchemaProps", schema[owner].package)) {
                Some(id) => encode(schema, id, value, out),
                None => write(value, out),
            }
        }
        (Type::SchemaOrArray, Value::Array(items)) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                element(schema, owner, &Type::SchemaOrArray, item, out);
            }
            out.push(b']');
        }
        _ => write(value, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{builtin, decode, json};

    #[test]
    fn the_tree_of_an_object_is_what_its_text_says() {
        let schema = builtin();
        for (ty, text) in [
            (
                "core.v1.Pod",
                r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","labels":{"x":"y"}},"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":"1"}}}]}}"#,
            ),
            (
                "apps.v1.Deployment",
                r#"{"metadata":{"creationTimestamp":"2026-01-02T03:04:05Z"},"spec":{"replicas":0}}"#,
            ),
            (
                "apiextensions.v1.CustomResourceDefinition",
                r#"{"spec":{"versions":[{"name":"v1","schema":{"openAPIV3Schema":{"properties":{"a":{"type":"object","maximum":2,"items":{"type":"string"}}}}}}]}}"#,
            ),
        ] {
            let id = schema.type_named(ty).unwrap();
            let value = decode::decode(schema, id, json::parse(text.as_bytes()).unwrap()).unwrap().value;
            assert_eq!(to_tree(schema, id, &value), json::parse(&to_vec(schema, id, &value)).unwrap(), "{ty}");
        }
    }
}
