//! Bodies of custom objects: what all objects have is decoded by its type, the rest by the schema.

use super::Custom;
use crate::body::{FieldValidation, Object};
use crate::catalogue::Served;
use trireme_extensions::{Additional, Node, default, prune};
use trireme_schema::field::{Error, Path};
use trireme_schema::{Status, Value, builtin, decode};

/// Decodes the body of a create or update.
///
/// # Errors
/// 400 for what cannot be decoded, 422 for another kind.
pub(crate) fn of(
    served: &Served,
    custom: &Custom,
    tree: Value,
    duplicates: Vec<String>,
    validation: FieldValidation,
) -> Result<Object, Status> {
    let (version, kind) = (tree.str_at(&["apiVersion"]).to_owned(), tree.str_at(&["kind"]).to_owned());
    let gv = &served.resource.gv;
    if kind.is_empty() {
        let body = trireme_schema::json::to_string(&tree);
        return Err(refused(served, &format!("Object 'Kind' is missing in '{body}'")));
    }
    if version != gv.to_string() {
        return Err(Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({gv})"
        )));
    }
    if kind != served.kind() {
        let error = Error::invalid(&Path::new("kind"), kind.as_str(), format!("must be {}", served.kind()));
        return Err(Status::invalid(served.group(), &kind, tree.str_at(&["metadata", "name"]), &[error]));
    }
    object(served, custom, tree, duplicates, validation)
}

/// A tree as an object, pruned and with defaults.
///
/// # Errors
/// 400.
pub(crate) fn object(
    served: &Served,
    custom: &Custom,
    tree: Value,
    duplicates: Vec<String>,
    validation: FieldValidation,
) -> Result<Object, Status> {
    let mut object = undefaulted(served, custom, tree, duplicates, validation)?;
    default::apply(&mut object.value, &custom.node);
    Ok(object)
}

/// A tree as an object, pruned.
///
/// # Errors
/// 400.
pub(crate) fn undefaulted(
    served: &Served,
    custom: &Custom,
    mut tree: Value,
    duplicates: Vec<String>,
    validation: FieldValidation,
) -> Result<Object, Status> {
    let mut notes: Vec<String> = duplicates.into_iter().map(|path| format!("duplicate field {path:?}")).collect();
    let mut unknown = Vec::new();
    crate::managed::keep_reset(&mut tree);
    let metadata = metadata(&mut tree, "metadata", &mut unknown).map_err(|why| refused(served, &why))?;
    unknown.extend(prune::object(&mut tree, Some(&custom.node)));
    prune::nulls(&mut tree, Some(&custom.node));
    if let Some(metadata) = metadata {
        tree.set_at(&["metadata"], metadata);
    }
    embedded(&mut tree, &custom.node, &Path::default(), false, &mut unknown)
        .map_err(|error| refused(served, &error.to_string()))?;
    notes.extend(unknown.iter().map(|path| format!("unknown field {path:?}")));
    match validation {
        FieldValidation::Strict if !notes.is_empty() => {
            Err(refused(served, &format!("strict decoding error: {}", notes.join(", "))))
        }
        FieldValidation::Warn => Ok(Object { value: tree, warnings: notes, empty: Vec::new() }),
        _ => Ok(Object { value: tree, ..Object::default() }),
    }
}

fn refused(served: &Served, why: &str) -> Status {
    let kind = served.kind();
    Status::bad_request(format!(
        "{kind} in version {:?} cannot be handled as a {kind}: {why}",
        served.resource.gv.version
    ))
}

/// Takes the metadata out of an object, in its canonical form.
fn metadata(object: &mut Value, path: &str, unknown: &mut Vec<String>) -> Result<Option<Value>, String> {
    let Some(given) = object.as_object_mut().and_then(|map| map.remove("metadata")) else { return Ok(None) };
    let schema = builtin();
    let Some(id) = schema.type_named("meta.v1.ObjectMeta") else { return Ok(None) };
    let decoded = decode::decode(schema, id, given).map_err(|error| error.to_string())?;
    unknown.extend(decoded.unknown.iter().map(|field| format!("{path}.{field}")));
    Ok(Some(decoded.value))
}

/// Decodes the metadata of objects within an object.
fn embedded(value: &mut Value, schema: &Node, path: &Path, here: bool, unknown: &mut Vec<String>) -> Result<(), Error> {
    match value {
        Value::Object(_) => {
            if here {
                for field in ["apiVersion", "kind"] {
                    let text = value.get(field);
                    if let Some(wrong) = text.filter(|text| text.as_str().is_none()) {
                        let kind = trireme_schema::field::ErrorKind::TypeInvalid;
                        return Err(Error {
                            kind,
                            ..Error::invalid(&path.child(field), wrong.clone(), "must be a string")
                        });
                    }
                }
                let at = path.child("metadata");
                let shown = value.get("metadata").cloned().unwrap_or_default();
                let decoded =
                    metadata(value, &at.to_string(), unknown).map_err(|why| Error::invalid(&at, shown, why))?;
                if let Some(metadata) = decoded {
                    value.set_at(&["metadata"], metadata);
                }
            }
            let Value::Object(map) = value else { return Ok(()) };
            for (name, value) in map.iter_mut() {
                match (schema.property(name), &schema.additional) {
                    (Some(node), _) => embedded(value, node, &path.child(name), node.embedded, unknown)?,
                    (None, Additional::Of(node)) => embedded(value, node, &path.key(name), node.embedded, unknown)?,
                    _ => {}
                }
            }
        }
        Value::Array(items) => {
            let Some(node) = &schema.items else { return Ok(()) };
            for (i, item) in items.iter_mut().enumerate() {
                embedded(item, node, &path.index(i), node.embedded, unknown)?;
            }
        }
        _ => {}
    }
    Ok(())
}
