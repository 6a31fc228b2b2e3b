//! The small parts of a definition: names, subresources, columns, selectable fields.

use crate::paths;
use trireme_schema::field::{Error, Path};
use trireme_schema::{Value, names};

/// Names: of those that are given, all must be labels; a kind and its list differ.
pub(super) fn names(given: &Value, path: &Path, errors: &mut Vec<Error>) {
    for field in ["plural", "singular", "kind", "listKind"] {
        let text = given.str_at(&[field]);
        if text.is_empty() {
            continue;
        }
        let is_kind = matches!(field, "kind" | "listKind");
        let wrong = if is_kind { names::dns1035_label(&text.to_lowercase()) } else { names::dns1035_label(text) };
        if !wrong.is_empty() {
            let before = if is_kind { "may have mixed case, but should otherwise match: " } else { "" };
            errors.push(Error::invalid(&path.child(field), text, format!("{before}{}", wrong.join(","))));
        }
    }
    let kind = given.str_at(&["kind"]);
    if !kind.is_empty() && kind == given.str_at(&["listKind"]) {
        errors.push(Error::invalid(&path.child("listKind"), kind, "kind and listKind may not be the same"));
    }
    for field in ["shortNames", "categories"] {
        for (i, text) in given.list_at(&[field]).iter().enumerate() {
            let text = text.as_str().unwrap_or_default();
            let wrong = names::dns1035_label(text);
            if !wrong.is_empty() {
                errors.push(Error::invalid(&path.child(field).index(i), text, wrong.join(",")));
            }
        }
    }
}

/// A path of names behind dots.
fn simple_path(text: &str, path: &Path) -> Option<Error> {
    (!text.starts_with('.')).then(|| Error::invalid(path, text, "must be a simple json path starting with ."))
}

pub(super) fn subresources(given: &Value, path: &Path, errors: &mut Vec<Error>) {
    let Some(scale) = given.get("scale") else { return };
    let at = |name: &str| path.child("scale").child(name);
    for (name, below) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        let text = scale.str_at(&[name]);
        if text.is_empty() {
            errors.push(Error::required(&at(name), ""));
        } else if let Some(error) = simple_path(text, &at(name)) {
            errors.push(error);
        } else if !text.starts_with(below) {
            let why = format!("should be a json path under {}", below.trim_end_matches('.'));
            errors.push(Error::invalid(&at(name), text, why));
        }
    }
    let text = scale.str_at(&["labelSelectorPath"]);
    if text.is_empty() {
        return;
    }
    if let Some(error) = simple_path(text, &at("labelSelectorPath")) {
        errors.push(error);
    } else if !text.starts_with(".spec.") && !text.starts_with(".status.") {
        let why = "should be a json path under either .spec or .status";
        errors.push(Error::invalid(&at("labelSelectorPath"), text, why));
    }
}

pub(super) fn column(given: &Value, path: &Path, errors: &mut Vec<Error>) {
    const KINDS: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    if given.str_at(&["name"]).is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    }
    let one_of = |all: &[&str]| format!("must be one of {}", all.join(","));
    match given.str_at(&["type"]) {
        "" => errors.push(Error::required(&path.child("type"), one_of(&KINDS))),
        kind if !KINDS.contains(&kind) => errors.push(Error::invalid(&path.child("type"), kind, one_of(&KINDS))),
        _ => {}
    }
    let format = given.str_at(&["format"]);
    if !format.is_empty() && !FORMATS.contains(&format) {
        errors.push(Error::invalid(&path.child("format"), format, one_of(&FORMATS)));
    }
    match given.str_at(&["jsonPath"]) {
        "" => errors.push(Error::required(&path.child("JSONPath"), "")),
        text => errors.extend(simple_path(text, &path.child("JSONPath"))),
    }
}

/// How many fields objects of a version can be selected by.
const MOST_SELECTABLE: usize = 8;

pub(super) fn selectable(given: &[Value], schema: &Value, path: &Path, errors: &mut Vec<Error>) {
    let mut seen = Vec::new();
    for (i, field) in given.iter().enumerate() {
        let at = path.index(i).child("jsonPath");
        let text = field.str_at(&["jsonPath"]);
        if text.is_empty() {
            errors.push(Error::required(&at, ""));
            continue;
        }
        let (names, found) = match field_path(text, schema, false) {
            Ok(found) => found,
            Err(why) => {
                errors.push(Error::invalid(&at, text, format!("is an invalid path: {why}")));
                continue;
            }
        };
        if names.first().is_some_and(|name| name == "metadata") {
            errors.push(Error::invalid(&at, text, "must not point to fields in metadata"));
        }
        if !matches!(found.str_at(&["type"]), "string" | "boolean" | "integer") {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(Error::invalid(&at, text, why));
        }
        if seen.contains(&names) {
            errors.push(Error::duplicate(&at, text));
        } else {
            seen.push(names);
        }
    }
    if seen.len() > MOST_SELECTABLE {
        errors.push(Error::too_many(path, seen.len(), MOST_SELECTABLE));
    }
}

/// Follows a path of fields (`.a.b`, `.a['b']`) through a schema; gives the names and the schema at its end.
///
/// # Errors
/// Why it is no path into the schema.
pub fn field_path<'a>(text: &str, schema: &'a Value, brackets: bool) -> Result<(Vec<String>, &'a Value), String> {
    let mut found = schema;
    let names = paths::read(text, brackets, |name| step(&mut found, name))?;
    Ok((names, found))
}

fn step(schema: &mut &Value, name: &str) -> Result<(), String> {
    let nowhere = || "does not refer to a valid field".to_owned();
    let properties = schema.at(&["properties"]).and_then(Value::as_object).filter(|map| !map.is_empty());
    *schema = match (properties, schema.get("additionalProperties")) {
        (Some(properties), _) => properties.get(name).ok_or_else(nowhere)?,
        (None, Some(values)) => values,
        (None, None) => return Err(nowhere()),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::value;

    #[test]
    fn paths_are_followed_through_properties_and_maps() {
        let schema = value!({"properties": {"spec": {"properties": {"a.b": {"type": "string"},
            "m": {"additionalProperties": {"type": "integer"}}}}}});
        for (path, want) in [
            (".spec['a.b']", Ok("string")),
            (".spec.m.any", Ok("integer")),
            (".spec.c", Err("does not refer to a valid field")),
            ("spec", Err("expected [ or . but got: spec")),
            (".spec[", Err("unexpected end of JSON path")),
            (".spec[a]", Err("expected single quoted string but got a")),
            ("../x", Err("does not refer to a valid field")),
        ] {
            let found = field_path(path, &schema, true);
            assert_eq!(found.as_ref().map(|f| f.1.str_at(&["type"])).map_err(String::as_str), want, "{path}");
        }
        assert_eq!(field_path(".spec['a.b']", &schema, false), Err("array notation is not allowed".into()));
    }
}
