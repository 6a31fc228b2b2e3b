//! Empty lists and maps, which the form that upstream stores (protobuf) does not tell from absent ones.

use crate::model::{Schema, StructId, Type};
use crate::value::{Map, Value};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Field(String),
    Index(usize),
}

/// Where an empty list or map stood that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Empty {
    path: Vec<Step>,
    is_list: bool,
}

impl Empty {
    pub(crate) fn new(path: Vec<Step>, is_list: bool) -> Self {
        Self { path, is_list }
    }
}

/// The way to the value that is looked at; costs nothing until something is found.
#[derive(Clone, Copy)]
struct Way<'a> {
    outer: Option<&'a Way<'a>>,
    name: &'a str,
    index: Option<usize>,
}

impl Way<'_> {
    fn steps(&self) -> Vec<Step> {
        let mut steps = self.outer.map(Way::steps).unwrap_or_default();
        steps.push(self.index.map_or_else(|| Step::Field(self.name.to_owned()), Step::Index));
        steps
    }
}

/// Drops empty lists and maps from an object of a type; tells where they were.
pub fn forget(schema: &Schema, id: StructId, object: &mut Value) -> Vec<Empty> {
    let mut gone = Vec::new();
    structure(schema, id, object, None, &mut gone);
    gone
}

fn structure(schema: &Schema, id: StructId, object: &mut Value, outer: Option<&Way<'_>>, gone: &mut Vec<Empty>) {
    let Some(map) = object.as_object_mut() else { return };
    map.retain(|name, value| {
        let Some(field) = schema.field(id, name).filter(|f| !f.ptr && !f.keeps_empty) else { return true };
        let is_list = match (&field.ty, &*value) {
            (Type::List(_), Value::Array(items)) if items.is_empty() => true,
            (Type::Map(_), Value::Object(map)) if map.is_empty() => false,
            _ => return true,
        };
        gone.push(Empty::new(Way { outer, name, index: None }.steps(), is_list));
        false
    });
    for (name, value) in map.iter_mut() {
        if let Some(field) = schema.field(id, name) {
            within(schema, &field.ty, value, &Way { outer, name, index: None }, gone);
        }
    }
}

fn within(schema: &Schema, ty: &Type, value: &mut Value, way: &Way<'_>, gone: &mut Vec<Empty>) {
    match (ty, value) {
        (Type::Struct(id), value) => structure(schema, *id, value, Some(way), gone),
        (Type::List(inner), Value::Array(items)) => {
            for (i, item) in items.iter_mut().enumerate() {
                within(schema, inner, item, &Way { outer: Some(way), name: "", index: Some(i) }, gone);
            }
        }
        (Type::Map(inner), Value::Object(map)) => {
            for (name, value) in map.iter_mut() {
                within(schema, inner, value, &Way { outer: Some(way), name, index: None }, gone);
            }
        }
        _ => {}
    }
}

/// Puts back what [`forget`] dropped, with the objects around it that had nothing else.
pub fn restore(object: &mut Value, gone: &[Empty]) {
    for Empty { path, is_list } in gone {
        let Some((Step::Field(last), way)) = path.split_last() else { continue };
        let place = way.iter().try_fold(&mut *object, |value, step| match step {
            Step::Field(name) => Some(value.as_object_mut()?.entry(name, Value::object)),
            Step::Index(i) => value.as_array_mut()?.get_mut(*i),
        });
        let Some(map) = place.and_then(Value::as_object_mut) else { continue };
        map.entry(last, || if *is_list { Value::Array(Vec::new()) } else { Value::Object(Map::new()) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{builtin, json};

    #[test]
    fn forgets_and_restores() {
        let text = br#"{"metadata":{"labels":{}},"spec":{"containers":[{"name":"c","args":[]}],"volumes":[]}}"#;
        let given = json::parse(text).unwrap();
        let id = builtin().type_named("core.v1.Pod").unwrap();
        let mut pod = given.clone();
        let gone = forget(builtin(), id, &mut pod);
        assert_eq!(gone.len(), 3);
        assert_eq!(pod.at(&["metadata", "labels"]), None);
        restore(&mut pod, &gone);
        assert_eq!(pod, given);
        assert!(forget(builtin(), id, &mut pod.at(&["metadata"]).unwrap().clone()).is_empty());
    }
}
