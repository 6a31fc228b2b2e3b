//! What differs between two values of a type.

use crate::element::{Element, same};
use crate::set::{Node, Set};
use crate::types::{Form, List, Place, Type};
use std::collections::BTreeMap;
use trireme_schema::{Map, Value};

/// What differs between two values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// There now, and not before.
    pub added: Set,
    /// There before and now, with another value.
    pub modified: Set,
    /// There before, and not now.
    pub removed: Set,
    /// Lists hold elements that cannot be told apart, so that the sets do not say all.
    pub unkeyed: bool,
}

impl Difference {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// Leaves out paths and whatever is below them.
    #[must_use]
    pub fn ignoring(mut self, paths: &Set) -> Self {
        for set in [&mut self.added, &mut self.modified, &mut self.removed] {
            set.cut(paths);
        }
        self
    }

    /// What is now as it was not before.
    #[must_use]
    pub fn changed(&self) -> Set {
        self.added.clone().union(&self.modified)
    }
}

/// Compares two values of a type.
pub fn compare<T: Type>(place: Place<T>, old: &Value, new: &Value) -> Difference {
    let mut nodes = Nodes::default();
    nodes.compare(place, Some(old), Some(new));
    let Nodes { added, modified, removed, unkeyed } = nodes;
    Difference { added: added.below, modified: modified.below, removed: removed.below, unkeyed }
}

/// What differs at and below one place.
#[derive(Default)]
struct Nodes {
    added: Node,
    modified: Node,
    removed: Node,
    unkeyed: bool,
}

impl Nodes {
    fn compare<T: Type>(&mut self, place: Place<T>, old: Option<&Value>, new: Option<&Value>) {
        let shape = place.shape();
        let (before, after) = (shape.form(old), shape.form(new));
        // What is not there takes the form of what is.
        let leaf = if new.is_none() {
            self.walk(place, before, old, new)
        } else {
            if old.is_some() && before != after {
                self.walk(place, before, old, new);
            }
            self.walk(place, after, old, new)
        };
        if !leaf {
            self.added.member |= old.is_none();
            self.removed.member |= new.is_none();
        }
    }

    /// True when the value was compared as a whole.
    fn walk<T: Type>(&mut self, place: Place<T>, form: Form<'_>, old: Option<&Value>, new: Option<&Value>) -> bool {
        let none = |value: Option<&Value>| match (form, value) {
            (Form::Map { .. }, Some(Value::Object(map))) => map.is_empty(),
            (Form::List(_), Some(Value::Array(items))) => items.is_empty(),
            _ => true,
        };
        let whole = matches!(form, Form::Scalar(_) | Form::Map { atomic: true } | Form::List(List::Atomic));
        if whole || (none(old) && none(new)) {
            match (old, new) {
                (None, _) => self.added.member = true,
                (_, None) => self.removed.member = true,
                (Some(old), Some(new)) => self.modified.member |= !same(old, new),
            }
            return true;
        }
        match form {
            Form::List(list) => self.lists(place.items(), list, items(old), items(new)),
            _ => self.maps(place, members(old), members(new)),
        }
        false
    }

    fn maps<T: Type>(&mut self, place: Place<T>, old: &Map, new: &Map) {
        let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
        loop {
            let (name, before, after) = match (old.peek(), new.peek()) {
                (None, None) => return,
                (Some(&(name, _)), Some(&(other, _))) if name == other => {
                    (name, old.next().map(|(_, v)| v), new.next().map(|(_, v)| v))
                }
                (Some(&(name, _)), other) if other.is_none_or(|(other, _)| name < *other) => {
                    (name, old.next().map(|(_, v)| v), None)
                }
                (_, Some(&(name, _))) => (name, None, new.next().map(|(_, v)| v)),
                (Some(_), None) => return,
            };
            if let Some(place) = place.member(name) {
                self.member(place, Element::Field(name.clone()), before, after);
            }
        }
    }

    fn member<T: Type>(&mut self, place: Place<T>, element: Element, old: Option<&Value>, new: Option<&Value>) {
        let mut inner = Self::default();
        inner.compare(place, old, new);
        self.added.below.put(element.clone(), inner.added);
        self.modified.below.put(element.clone(), inner.modified);
        self.removed.below.put(element, inner.removed);
        self.unkeyed |= inner.unkeyed;
    }

    fn lists<T: Type>(&mut self, place: Place<T>, list: List<'_>, old: &[Value], new: &[Value]) {
        let mut elements: BTreeMap<Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for (item, now) in old.iter().map(|item| (item, false)).chain(new.iter().map(|item| (item, true))) {
            match place.element(list, item) {
                Ok(element) => {
                    let both = elements.entry(element).or_default();
                    if now { both.1.push(item) } else { both.0.push(item) }
                }
                Err(_) => self.unkeyed = true,
            }
        }
        let marked = || Node { member: true, below: Set::default() };
        for (element, (before, after)) in elements {
            // What is there twice is compared as a whole.
            match (&before[..], &after[..]) {
                ([] | [_], [] | [_]) => {
                    self.member(place, element, before.first().copied(), after.first().copied());
                }
                ([_, _, ..], [_, _, ..]) => {
                    let equal = before.len() == after.len() && before.iter().zip(&after).all(|(a, b)| same(a, b));
                    if !equal {
                        self.modified.below.put(element, marked());
                    }
                }
                ([_, _, ..], once) => {
                    if let [now] = once {
                        self.member(place, element.clone(), None, Some(now));
                    }
                    self.removed.below.put(element, marked());
                }
                (once, _) => {
                    if let [then] = once {
                        self.member(place, element.clone(), Some(then), None);
                    }
                    self.added.below.put(element, marked());
                }
            }
        }
    }
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).unwrap_or_default()
}

fn members(value: Option<&Value>) -> &Map {
    static NONE: std::sync::LazyLock<Map> = std::sync::LazyLock::new(Map::new);
    value.and_then(Value::as_object).unwrap_or(&NONE)
}
