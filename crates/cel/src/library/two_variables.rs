//! What the macros of two variables need: putting an entry into a map.

use super::{Result, fail, map_of, mismatch, param};
use crate::decl::Functions;
use crate::value::{Key, Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) fn declare(f: &mut Functions) {
    let map = map_of("K", "V");
    f.global("cel.@mapInsert", "@mapInsert_map_map", [map.clone(), map.clone()], map.clone(), insert);
    f.global("cel.@mapInsert", "@mapInsert_map_key_value", [map.clone(), param("K"), param("V")], map, insert);
}

fn insert<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Map(into), Value::Map(entries)] => {
            let mut map = owned(into)?;
            for key in entries.keys() {
                let Some(value) = entries.get(&key)? else { continue };
                put(&mut map, &key, value)?;
            }
            Ok(Value::Map(Map::Values(Arc::new(map))))
        }
        [Value::Map(into), key, value] => {
            let mut map = owned(into)?;
            put(&mut map, key, value.clone())?;
            Ok(Value::Map(Map::Values(Arc::new(map))))
        }
        _ => mismatch(),
    }
}

type Entries<'a> = BTreeMap<Key<'a>, Value<'a>>;

fn owned<'a>(map: &Map<'a>) -> std::result::Result<Entries<'a>, crate::error::EvalError> {
    if let Map::Values(map) = map {
        return Ok((**map).clone());
    }
    let mut entries = BTreeMap::new();
    for key in map.keys() {
        if let (Some(value), Some(key)) = (map.get(&key)?, Key::lookup(&key)) {
            entries.insert(key, value);
        }
    }
    Ok(entries)
}

fn put<'a>(
    map: &mut Entries<'a>,
    key: &Value<'a>,
    value: Value<'a>,
) -> std::result::Result<(), crate::error::EvalError> {
    let Some(key) = Key::lookup(key) else {
        return fail(format!("unsupported key type: {}", key.type_of().name())).map(|_| ());
    };
    if map.insert(key.clone(), value).is_some() {
        return fail(format!("insert failed: key {} already exists", key.value())).map(|_| ());
    }
    Ok(())
}
