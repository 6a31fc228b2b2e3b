//! Whether a value fits its type, in the words of structured-merge-diff.

use crate::element::{Element, shown};
use crate::types::{Form, List, Place, Scalar, Type};
use std::collections::BTreeSet;
use trireme_schema::{Value, field};

/// Whether lists may hold an element twice: what is stored may, what is applied may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeated {
    /// They may.
    Allowed,
    /// They may not.
    Refused,
}

/// What does not fit, each with its path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invalid(pub Vec<(String, String)>);

impl std::error::Error for Invalid {}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = |(path, what): &(String, String)| {
            if path.is_empty() { what.clone() } else { format!("{path}: {what}") }
        };
        match &self.0[..] {
            [only] => f.write_str(&line(only)),
            all => {
                f.write_str("errors:")?;
                all.iter().try_for_each(|one| write!(f, "\n  {}", line(one)))
            }
        }
    }
}

/// Checks a value.
///
/// # Errors
/// What does not fit.
pub fn validate<T: Type>(place: Place<T>, value: &Value, repeated: Repeated) -> Result<(), Invalid> {
    let mut found = Vec::new();
    check(place, value, repeated, "", &mut found);
    if found.is_empty() { Ok(()) } else { Err(Invalid(found)) }
}

fn check<T: Type>(place: Place<T>, value: &Value, repeated: Repeated, path: &str, out: &mut Vec<(String, String)>) {
    if value.is_null() {
        return;
    }
    match (place.shape().form(Some(value)), value) {
        (Form::Scalar(scalar), value) => {
            if let Some(what) = misfit(scalar, value) {
                out.push((path.to_owned(), what));
            }
        }
        (Form::Map { .. }, Value::Object(map)) => {
            for (name, value) in map.iter() {
                let path = format!("{path}.{name}");
                match place.member(name) {
                    Some(place) => check(place, value, repeated, &path, out),
                    None => {
                        out.push((path, "field not declared in schema".into()));
                        return;
                    }
                }
            }
        }
        (Form::List(list), Value::Array(items)) => {
            let place = place.items();
            let mut seen = BTreeSet::new();
            for (i, item) in items.iter().enumerate() {
                let element = match list {
                    List::Atomic => Element::Index(i as i64),
                    _ => match place.element(list, item) {
                        Ok(element) => element,
                        Err(why) => {
                            out.push((path.to_owned(), format!("element {i}: {why}")));
                            return;
                        }
                    },
                };
                let path_of_item = format!("{path}{element}");
                if list != List::Atomic && !seen.insert(element.clone()) && repeated == Repeated::Refused {
                    out.push((path.to_owned(), format!("duplicate entries for key {element}")));
                }
                check(place, item, repeated, &path_of_item, out);
            }
        }
        (Form::Map { .. }, value) => out.push((path.to_owned(), format!("expected map, got {}", described(value)))),
        (Form::List(_), value) => out.push((path.to_owned(), format!("expected list, got {}", described(value)))),
    }
}

fn described(value: &Value) -> String {
    match value {
        Value::String(_) => field::quote(&shown(value)),
        other => format!("&{{{}}}", shown(other)),
    }
}

/// What Go calls a value's type.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int64",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn misfit(scalar: Scalar, value: &Value) -> Option<String> {
    let number = matches!(value, Value::Int(_) | Value::Float(_));
    match (scalar, value) {
        (Scalar::Number, v) if !number => Some(format!("expected numeric (int or float), got {}", go_type(v))),
        (Scalar::String, v) if v.as_str().is_none() => {
            Some(format!("expected string, got &value.valueUnstructured{{Value:{}}}", shown(v)))
        }
        (Scalar::Bool, v) if v.as_bool().is_none() => Some(format!("expected boolean, got {}", described(v))),
        (Scalar::Any, v @ (Value::Array(_) | Value::Object(_))) => {
            Some(format!("expected any scalar, got {}", described(v)))
        }
        _ => None,
    }
}
