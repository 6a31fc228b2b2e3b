//! Tables of custom objects.

use super::{Custom, Printed};
use crate::human;
use trireme_extensions::jsonpath;
use trireme_schema::{Map, Value};

const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";

impl Custom {
    /// Column definitions.
    pub(crate) fn headers(&self) -> Value {
        let mut name =
            Map::from_iter([("name", "Name"), ("type", "string"), ("format", "name"), ("description", NAME)]);
        name.insert("priority", 0);
        let own = self.columns.iter().map(|column| column.header.clone());
        Value::Array(std::iter::once(Value::Object(name)).chain(own).collect())
    }

    /// The cells of an object.
    pub(crate) fn cells(&self, object: &Value) -> Vec<Value> {
        let name = Value::from(object.str_at(&["metadata", "name"]));
        std::iter::once(name).chain(self.columns.iter().map(|column| column.cell(object))).collect()
    }
}

impl Printed {
    fn cell(&self, object: &Value) -> Value {
        let found = self.path.as_ref().and_then(|path| path.find(object).first().copied());
        match (self.kind.as_str(), found) {
            (_, None | Some(Value::Null)) => Value::Null,
            ("string", Some(value)) => jsonpath::shown(value).into(),
            ("integer", Some(Value::Int(n))) => Value::Int(*n),
            ("integer", Some(Value::Float(n))) => Value::Int(*n as i64),
            ("number", Some(Value::Int(n))) => Value::Float(*n as f64),
            ("number", Some(Value::Float(n))) => Value::Float(*n),
            ("boolean", Some(Value::Bool(b))) => Value::Bool(*b),
            ("date", Some(Value::String(text))) => match text.parse::<jiff::Timestamp>() {
                Ok(_) => human::age(text).into(),
                Err(_) => "<invalid>".into(),
            },
            _ => Value::Null,
        }
    }
}
