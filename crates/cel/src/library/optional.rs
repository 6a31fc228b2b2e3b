//! Values that may be absent.

use super::{Result, fail, list_of, map_of, mismatch, param};
use crate::decl::Functions;
use crate::syntax::ast::operator;
use crate::types::Type;
use crate::value::Value;

pub(crate) fn declare(f: &mut Functions) {
    let optional = || Type::optional(param("V"));
    let (list, map) = (list_of("V"), map_of("K", "V"));
    f.global("optional.of", "optional_of", [param("V")], optional(), |args| match args {
        [value] => Ok(Value::some(value.clone())),
        _ => mismatch(),
    });
    f.global("optional.ofNonZeroValue", "optional_ofNonZeroValue", [param("V")], optional(), |args| match args {
        [value] if is_zero(value) => Ok(Value::Optional(None)),
        [value] => Ok(Value::some(value.clone())),
        _ => mismatch(),
    });
    f.global("optional.none", "optional_none", [], optional(), |_| Ok(Value::Optional(None)));
    f.method("value", "optional_value", [optional()], param("V"), |args| match args {
        [Value::Optional(Some(value))] => Ok((**value).clone()),
        [Value::Optional(None)] => fail("optional.none() dereference"),
        _ => mismatch(),
    });
    f.method("hasValue", "optional_hasValue", [optional()], Type::Bool, |args| match args {
        [Value::Optional(value)] => Ok(Value::Bool(value.is_some())),
        _ => mismatch(),
    });
    // These look at their second argument only if they must; indices are steps of an attribute.
    f.method("or", "optional_or_optional", [optional(), optional()], optional(), |_| mismatch());
    f.method("orValue", "optional_orValue_value", [optional(), param("V")], param("V"), |_| mismatch());
    f.global(operator::OPTIONAL_SELECT, "select_optional_field", [Type::Dyn, Type::String], optional(), |_| mismatch());
    for (id, of, key) in [
        ("list_optindex_optional_int", list.clone(), Type::Int),
        ("optional_list_optindex_optional_int", Type::optional(list.clone()), Type::Int),
        ("map_optindex_optional_value", map.clone(), param("K")),
        ("optional_map_optindex_optional_value", Type::optional(map.clone()), param("K")),
    ] {
        f.global(operator::OPTIONAL_INDEX, id, [of, key], optional(), |_| mismatch());
    }
    let (lists, maps) = (Type::optional(list.clone()), Type::optional(map));
    f.global(operator::INDEX, "optional_list_index_int", [lists, Type::Int], optional(), |_| mismatch());
    f.global(operator::INDEX, "optional_map_index_value", [maps, param("K")], optional(), |_| mismatch());
    f.method("first", "list_first", [list.clone()], optional(), |args| end(args, |_| 0));
    f.method("last", "list_last", [list.clone()], optional(), |args| end(args, |length| length - 1));
    f.global("optional.unwrap", "optional_unwrap", [Type::list(optional())], list.clone(), unwrap);
    f.method("unwrapOpt", "optional_unwrapOpt", [Type::list(optional())], list, unwrap);
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null
        | Value::Bool(false)
        | Value::Int(0)
        | Value::Uint(0)
        | Value::Duration(0)
        | Value::Optional(None) => true,
        Value::Double(n) => *n == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::Timestamp(at) => at.seconds() == -62_135_596_800 && at.nanos() == 0,
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Struct(object) => object.fields.is_empty(),
        Value::Optional(Some(inner)) => is_zero(inner),
        _ => false,
    }
}

fn end<'a>(args: &[Value<'a>], index: fn(usize) -> usize) -> Result<'a> {
    match args {
        [Value::List(list)] if list.is_empty() => Ok(Value::Optional(None)),
        [Value::List(list)] => match list.get(index(list.len())) {
            Some(item) => item.map(Value::some),
            None => mismatch(),
        },
        _ => mismatch(),
    }
}

fn unwrap<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list)] = args else { return mismatch() };
    let mut values = Vec::new();
    for item in list.iter() {
        match item? {
            Value::Optional(Some(value)) => values.push((*value).clone()),
            Value::Optional(None) => {}
            other => return fail(format!("value {other} is not optional")),
        }
    }
    Ok(Value::list(values))
}
