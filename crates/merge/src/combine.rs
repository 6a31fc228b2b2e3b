//! A configuration merged into what is there.

use crate::element::Element;
use crate::types::{Form, List, Place, Type};
use std::collections::BTreeMap;
use trireme_schema::{Map, Value};

/// Merges an applied value into a live one. The applied one must be valid ([`crate::validate`]).
///
/// Lists keep the order of the applied ones; what only the live list has stays where it was among its neighbours.
pub fn combine<T: Type>(place: Place<T>, live: &Value, applied: &Value) -> Value {
    let shape = place.shape();
    let none = |value: &Value| match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    };
    match (shape.form(Some(applied)), live, applied) {
        (Form::Map { atomic: false }, Value::Object(live), Value::Object(applied)) if !applied.is_empty() => {
            Value::Object(maps(place, live, applied))
        }
        (Form::List(list), Value::Array(live), Value::Array(applied))
            if list != List::Atomic && !(live.is_empty() && applied.is_empty()) =>
        {
            Value::Array(lists(place.items(), list, live, applied))
        }
        // Nothing said about what merges leaves it as it is.
        (Form::Map { atomic: false }, Value::Object(_), Value::Object(_) | Value::Null) if !none(live) => live.clone(),
        (Form::List(List::Set | List::Keyed(_)), Value::Array(_), Value::Null) if !none(live) => live.clone(),
        _ => applied.clone(),
    }
}

fn maps<T: Type>(place: Place<T>, live: &Map, applied: &Map) -> Map {
    let mut out = live.clone();
    for (name, value) in applied.iter() {
        let merged = match (place.member(name), live.get(name)) {
            (Some(place), Some(before)) => combine(place, before, value),
            _ => value.clone(),
        };
        out.insert(name.clone(), merged);
    }
    out
}

fn lists<T: Type>(place: Place<T>, list: List<'_>, live: &[Value], applied: &[Value]) -> Vec<Value> {
    let index =
        |items: &[Value]| -> Vec<Element> { items.iter().filter_map(|i| place.element(list, i).ok()).collect() };
    let (left, right) = (index(live), index(applied));
    if left.len() != live.len() || right.len() != applied.len() {
        // Elements that cannot be told apart cannot be merged.
        return applied.to_vec();
    }
    let mut times: BTreeMap<&Element, usize> = BTreeMap::new();
    for element in &left {
        *times.entry(element).or_default() += 1;
    }
    let applied_at: BTreeMap<&Element, &Value> = right.iter().zip(applied).collect();
    let live_at: BTreeMap<&Element, &Value> = left.iter().zip(live).collect();
    let merged = |element: &Element| -> Option<Value> {
        let new = applied_at.get(element)?;
        Some(match live_at.get(element) {
            // One that is there twice is replaced by the one that is applied.
            Some(old) if times.get(element) == Some(&1) => combine(place, old, new),
            _ => (*new).clone(),
        })
    };
    let mut shared = right.iter().filter(|element| live_at.contains_key(element));
    let mut next = shared.next();
    let mut done: BTreeMap<&Element, ()> = BTreeMap::new();
    let mut out = Vec::with_capacity(live.len().max(applied.len()));
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if let (Some(a), Some(b)) = (left.get(l), right.get(r)) {
            if a == b {
                done.insert(b, ());
                out.extend(merged(b));
                (l, r) = (l + 1, r + 1);
                next = shared.next();
                continue;
            }
            if applied_at.contains_key(a) && next.is_some_and(|next| next != a) {
                // It comes in the order of the applied list.
                l += 1;
                continue;
            }
        }
        if let Some(a) = left.get(l) {
            if !applied_at.contains_key(a) {
                out.push(live[l].clone());
                l += 1;
                continue;
            }
            if done.contains_key(a) {
                l += 1;
            }
        }
        if let Some(b) = right.get(r) {
            done.insert(b, ());
            out.extend(merged(b));
            r += 1;
            if next == Some(b) {
                next = shared.next();
            }
        }
    }
    out
}
