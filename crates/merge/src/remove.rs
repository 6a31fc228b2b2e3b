//! A value without some of its fields.

use crate::element::Element;
use crate::set::Set;
use crate::types::{Form, List, Place, Type};
use trireme_schema::{Map, Value};

/// The value without the paths of a set. What loses all that it had is `Null`.
pub fn without<T: Type>(place: Place<T>, value: &Value, gone: &Set) -> Value {
    match (place.shape().form(Some(value)), value) {
        (Form::Map { .. }, Value::Object(map)) if !map.is_empty() => {
            let mut out = Map::with_capacity(map.len());
            for (name, value) in map.iter() {
                let kept = match gone.node(&Element::Field(name.clone())) {
                    None => value.clone(),
                    Some(node) if node.member => continue,
                    Some(node) => match place.member(name) {
                        Some(place) => without(place, value, &node.below),
                        None => value.clone(),
                    },
                };
                out.insert(name.clone(), kept);
            }
            if out.is_empty() { Value::Null } else { Value::Object(out) }
        }
        (Form::List(list), Value::Array(items)) if list != List::Atomic && !items.is_empty() => {
            let place = place.items();
            let mut out = Vec::with_capacity(items.len());
            for item in items {
                let node = place.element(list, item).ok().and_then(|element| gone.node(&element));
                match node {
                    None => out.push(item.clone()),
                    Some(node) if node.member => {}
                    Some(node) => out.push(without(place, item, &node.below)),
                }
            }
            if out.is_empty() { Value::Null } else { Value::Array(out) }
        }
        (Form::Map { .. }, Value::Object(_)) => Value::Null,
        (Form::List(List::Set | List::Keyed(_)), Value::Array(_)) => Value::Null,
        _ => value.clone(),
    }
}
