//! The fields that an object has, as a set.

use crate::element::Element;
use crate::set::{Node, Set};
use crate::types::{Form, List, Place, Type};
use trireme_schema::{Map, Value};

/// The paths of all that a value says. What merges as a whole is one path.
pub fn fields_of<T: Type>(place: Place<T>, value: &Value) -> Set {
    node_of(place, value).below
}

fn node_of<T: Type>(place: Place<T>, value: &Value) -> Node {
    let mut node = Node::default();
    match (place.shape().form(Some(value)), value) {
        (Form::Scalar(_) | Form::Map { atomic: true } | Form::List(List::Atomic), _) => node.member = true,
        (Form::Map { atomic: false }, Value::Object(map)) => {
            for (name, value) in map.iter() {
                let mut inner = place.member(name).map(|place| node_of(place, value)).unwrap_or_default();
                let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                inner.member |= empty || !place.declares(name);
                node.below.put(Element::Field(name.clone()), inner);
            }
        }
        (Form::List(list), Value::Array(items)) => {
            let place = place.items();
            let elements: Vec<(Element, &Value)> =
                items.iter().filter_map(|item| Some((place.element(list, item).ok()?, item))).collect();
            let mut seen = Set::default();
            for (element, item) in elements {
                // Of one that is there twice only the element itself is owned.
                let twice = seen.node(&element).is_some();
                let below = if twice { Set::default() } else { node_of(place, item).below };
                seen.put(element.clone(), Node { member: true, below: Set::default() });
                if twice {
                    node.below.cut(&Set::default().union(&single(&element)));
                }
                node.below.put(element, Node { member: true, below });
            }
        }
        _ => {}
    }
    node
}

fn single(element: &Element) -> Set {
    let mut set = Set::default();
    set.put(element.clone(), Node { member: true, below: Set::default() });
    set
}

/// The set with each declared field that has paths below it: an applier that gives `spec.a` gives `spec` too.
#[must_use]
pub fn with_named<T: Type>(place: Place<T>, set: &Set) -> Set {
    let mut out = Set::default();
    for (element, node) in set.nodes() {
        let named = matches!(element, Element::Field(name) if place.declares(name));
        let below = match inner(place, element) {
            Some(place) => with_named(place, &node.below),
            None => node.below.clone(),
        };
        out.put(element.clone(), Node { member: node.member || (named && !node.below.is_empty()), below });
    }
    out
}

/// The type of what an element leads to.
fn inner<T: Type>(place: Place<T>, element: &Element) -> Option<Place<T>> {
    match element {
        Element::Field(name) => place.shape().map.and_then(|_| place.member(name)),
        Element::Key(_) | Element::Value(_) | Element::Index(_) => place.shape().list.map(|_| place.items()),
    }
}

/// The set after its type changed: who owned parts of what merges as a whole now owns the whole.
#[must_use]
pub fn reconciled<T: Type>(place: Place<T>, set: &Set) -> Set {
    let mut out = Set::default();
    for (element, node) in set.nodes() {
        let Some(inner) = inner(place, element) else {
            out.put(element.clone(), node.clone());
            continue;
        };
        let whole = match inner.shape().form(None) {
            Form::Map { atomic } => atomic,
            Form::List(list) => list == List::Atomic,
            Form::Scalar(_) => false,
        };
        let node = if whole && !node.below.is_empty() {
            Node { member: true, below: Set::default() }
        } else {
            Node { member: node.member, below: reconciled(inner, &node.below) }
        };
        out.put(element.clone(), node);
    }
    out
}
