//! A v2 document as one of v3, for servers that have none.

use trireme_schema::{Map, Value};

/// What belongs to the schema of a parameter in v3 and stands beside its name in v2.
const OF_SCHEMA: [&str; 17] = [
    "type",
    "format",
    "items",
    "default",
    "enum",
    "maximum",
    "minimum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "allowEmptyValue",
];
const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];

/// The document in v3.
pub(super) fn to_v3(v2: &Value) -> Value {
    let mut out = Value::object();
    out.set_at(&["openapi"], "3.0.0");
    out.set_at(&["info"], v2.get("info").cloned().unwrap_or_else(Value::object));
    let mut paths = Map::new();
    for (path, item) in members(v2.get("paths")) {
        paths.insert(path.to_owned(), path_item(item));
    }
    out.set_at(&["paths"], paths);
    let mut schemas = Map::new();
    for (name, schema) in members(v2.get("definitions")) {
        schemas.insert(name.to_owned(), referring(schema));
    }
    out.set_at(&["components", "schemas"], schemas);
    out
}

fn members(value: Option<&Value>) -> impl Iterator<Item = (&str, &Value)> {
    value.and_then(Value::as_object).into_iter().flat_map(Map::iter).map(|(key, value)| (&**key, value))
}

/// A value whose references lead to where definitions are in v3.
fn referring(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(referring).collect()),
        Value::Object(map) => {
            let mut out = Map::new();
            for (key, value) in map.iter() {
                let led = match (&**key, value.as_str()) {
                    ("$ref", Some(to)) => to.replacen("#/definitions/", "#/components/schemas/", 1).into(),
                    _ => referring(value),
                };
                out.insert(key.to_string(), led);
            }
            Value::Object(out)
        }
        other => other.clone(),
    }
}

fn path_item(item: &Value) -> Value {
    let mut out = Map::new();
    for (key, value) in members(Some(item)) {
        let converted = match key {
            "parameters" => {
                let (parameters, _) = parameters(value, &[]);
                Value::Array(parameters)
            }
            method if METHODS.contains(&method) => operation(value),
            _ => value.clone(),
        };
        out.insert(key.to_owned(), converted);
    }
    Value::Object(out)
}

fn types(operation: &Value, field: &str) -> Vec<String> {
    let given: Vec<String> = operation.list_at(&[field]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if given.is_empty() { vec!["*/*".to_owned()] } else { given }
}

fn content(schema: &Value, types: &[String]) -> Value {
    let mut out = Map::new();
    for kind in types {
        out.insert(kind.as_str(), Map::from_iter([("schema", schema.clone())]));
    }
    Value::Object(out)
}

fn operation(operation: &Value) -> Value {
    let mut out = Map::new();
    let (consumes, produces) = (types(operation, "consumes"), types(operation, "produces"));
    for (key, value) in members(Some(operation)) {
        match key {
            "consumes" | "produces" | "schemes" => {}
            "parameters" => {
                let (parameters, body) = parameters(value, &consumes);
                if !parameters.is_empty() {
                    out.insert("parameters", Value::Array(parameters));
                }
                if let Some(body) = body {
                    out.insert("requestBody", body);
                }
            }
            "responses" => {
                let mut responses = Map::new();
                for (code, response) in members(Some(value)) {
                    let mut converted = Map::from_iter([("description", response.str_at(&["description"]))]);
                    if let Some(schema) = response.get("schema") {
                        converted.insert("content", content(&referring(schema), &produces));
                    }
                    responses.insert(code.to_owned(), converted);
                }
                out.insert("responses", responses);
            }
            _ => drop(out.insert(key.to_owned(), value.clone())),
        }
    }
    Value::Object(out)
}

/// Parameters, and the body, which is one in v2.
fn parameters(all: &Value, consumes: &[String]) -> (Vec<Value>, Option<Value>) {
    let (mut out, mut body) = (Vec::new(), None);
    for parameter in all.as_array().unwrap_or_default() {
        if parameter.str_at(&["in"]) == "body" {
            let schema = referring(parameter.get("schema").unwrap_or(&Value::Null));
            let mut converted = Map::from_iter([("content", content(&schema, consumes))]);
            if parameter.bool_at(&["required"]) {
                converted.insert("required", true);
            }
            body = Some(Value::Object(converted));
            continue;
        }
        let (mut converted, mut schema) = (Map::new(), Map::new());
        for (key, value) in members(Some(parameter)) {
            match key {
                key if OF_SCHEMA.contains(&key) => drop(schema.insert(key.to_owned(), referring(value))),
                "collectionFormat" => {}
                _ => drop(converted.insert(key.to_owned(), value.clone())),
            }
        }
        converted.insert("schema", schema);
        out.push(Value::Object(converted));
    }
    (out, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    #[test]
    fn bodies_parameters_and_answers_move_to_their_places() {
        let v2 = json::parse(
            br##"{"swagger": "2.0", "info": {"title": "t"}, "paths": {"/apis/g/v1/x": {
                "parameters": [{"name": "pretty", "in": "query", "type": "string", "uniqueItems": true}],
                "post": {"consumes": ["application/json"], "produces": ["application/json"],
                    "parameters": [{"name": "body", "in": "body", "required": true, "schema": {"$ref": "#/definitions/X"}}],
                    "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/X"}}}}}},
                "definitions": {"X": {"properties": {"y": {"$ref": "#/definitions/Y"}}}}}"##,
        )
        .unwrap();
        let v3 = to_v3(&v2);
        let post = |path: &[&str]| {
            let path: Vec<&str> = ["paths", "/apis/g/v1/x", "post"].iter().chain(path).copied().collect();
            v3.str_at(&path).to_owned()
        };
        let x = "#/components/schemas/X";
        assert_eq!(post(&["requestBody", "content", "application/json", "schema", "$ref"]), x);
        assert_eq!(post(&["responses", "200", "content", "application/json", "schema", "$ref"]), x);
        let parameter = &v3.list_at(&["paths", "/apis/g/v1/x", "parameters"])[0];
        assert_eq!((parameter.str_at(&["in"]), parameter.str_at(&["schema", "type"])), ("query", "string"));
        assert_eq!(v3.str_at(&["components", "schemas", "X", "properties", "y", "$ref"]), "#/components/schemas/Y");
    }
}
