//! Lists and maps: `size`, `in`, indices.

use super::{Result, list_of, map_of, mismatch, param};
use crate::decl::Functions;
use crate::syntax::ast::operator;
use crate::types::Type;
use crate::value::Value;

pub(super) fn declare(f: &mut Functions) {
    use Type::{Bool, Bytes, Int, String};
    // Indices are evaluated as steps of an attribute.
    f.global(operator::INDEX, "index_list", [list_of("A"), Int], param("A"), |_| mismatch());
    f.global(operator::INDEX, "index_map", [map_of("A", "B"), param("A")], param("B"), |_| mismatch());
    f.global(operator::IN, "in_list", [param("A"), list_of("A")], Bool, contains);
    f.global(operator::IN, "in_map", [param("A"), map_of("A", "B")], Bool, contains);
    for (global, method, t) in [
        ("size_bytes", "bytes_size", Bytes),
        ("size_list", "list_size", list_of("A")),
        ("size_map", "map_size", map_of("A", "B")),
        ("size_string", "string_size", String),
    ] {
        f.global("size", global, [t.clone()], Int, size);
        f.method("size", method, [t], Int, size);
    }
}

fn contains<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [wanted, Value::List(list)] => {
            for item in list.iter() {
                if item?.equals(wanted)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        [wanted, Value::Map(map)] => Ok(Value::Bool(map.get(wanted)?.is_some())),
        _ => mismatch(),
    }
}

fn size<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [value @ (Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_))] => {
            Ok(Value::Int(i64::try_from(value.cost_size()).unwrap_or(i64::MAX)))
        }
        _ => mismatch(),
    }
}
