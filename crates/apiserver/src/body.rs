//! Bodies: bytes to objects, with the field validation that the client asks for.

use crate::catalogue::Served;
use crate::custom;
use crate::media::{self, Form};
use std::collections::HashMap;
use trireme_schema::empties::Empty;
use trireme_schema::{GroupVersion, Status, StructId, Value, builtin, decode, json, proto, yaml};

/// What is done with fields that a type does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped.
    Ignore,
    /// They are dropped, and the client is warned.
    Warn,
    /// The request is refused.
    Strict,
}

impl FieldValidation {
    /// From the query; the default is to warn. What is none of them is added to the errors.
    pub fn read(text: &str, errors: &mut Vec<trireme_schema::field::Error>) -> Self {
        match text {
            "Ignore" => Self::Ignore,
            "" | "Warn" => Self::Warn,
            "Strict" => Self::Strict,
            other => {
                let path = trireme_schema::field::Path::new("fieldValidation");
                let supported = &["", "Ignore", "Strict", "Warn"];
                errors.push(trireme_schema::field::Error::not_supported(&path, other, supported));
                Self::Ignore
            }
        }
    }
}

/// An object and what the client is to be told about it.
#[derive(Debug, Default)]
pub struct Object {
    /// Canonical.
    pub value: Value,
    /// Warnings.
    pub warnings: Vec<String>,
    /// Lists and maps that were given empty.
    pub empty: Vec<Empty>,
}

/// Decodes a body as a kind.
///
/// # Errors
/// 400 in upstream's words, 415.
pub fn decode(
    bytes: &[u8],
    content_type: &str,
    gv: &GroupVersion,
    kind: &str,
    id: StructId,
    validation: FieldValidation,
) -> Result<Object, Status> {
    let form = media::body_form(content_type)?;
    let (mut tree, duplicates, repeated) = parse(bytes, form, gv, kind, id)?;
    check_kind(&mut tree, gv, kind, bytes)?;
    let order = || if form == Form::Json { json::paths(bytes) } else { Vec::new() };
    let notes = Noted { duplicates, repeated, order: &order };
    finish_in_order(tree, notes, gv, kind, id, validation)
}

/// What a body holds twice.
struct Noted<'a> {
    /// Paths of fields.
    duplicates: Vec<String>,
    /// Keys of YAML, in the words of its parser.
    repeated: Vec<String>,
    /// All paths in the order in which the client wrote them.
    order: &'a dyn Fn() -> Vec<String>,
}

/// A body as a tree, the paths of fields that are there twice, and in YAML the keys.
fn parse(
    bytes: &[u8],
    form: Form,
    gv: &GroupVersion,
    kind: &str,
    id: StructId,
) -> Result<(Value, Vec<String>, Vec<String>), Status> {
    let mut repeated = Vec::new();
    let (mut tree, duplicates) = match form {
        Form::Json => {
            let parsed = json::parse_noting_duplicates(bytes)
                .map_err(|e| unrecognized(kind, &format!("couldn't get version/kind; json parse error: {e}"), bytes))?;
            (parsed.value, parsed.duplicates)
        }
        Form::Yaml => {
            let text = String::from_utf8_lossy(bytes);
            let first = yaml::parse_first(&text).map_err(|e| unrecognized(kind, &e.to_string(), bytes))?;
            repeated = first.repeated;
            (first.value, Vec::new())
        }
        Form::Protobuf => {
            let envelope = proto::Envelope::open(bytes).map_err(|e| unrecognized(kind, &e.to_string(), bytes))?;
            let tree = proto::decode_envelope(builtin(), id, &envelope).map_err(|e| {
                Status::bad_request(format!("{kind} in version {:?} cannot be handled as a {kind}: {e}", gv.version))
            })?;
            (tree, Vec::new())
        }
    };
    if tree.is_null() {
        tree = Value::object();
    }
    if tree.as_object().is_none() {
        let found = tree.json_type();
        let why = format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
        );
        return Err(unrecognized(kind, &why, bytes));
    }
    Ok((tree, duplicates, repeated))
}

/// A body that does not even say what it is.
fn unrecognized(kind: &str, why: &str, bytes: &[u8]) -> Status {
    const SHOWN: usize = 30;
    let head = &bytes[..bytes.len().min(SHOWN)];
    let more = if bytes.len() > SHOWN { " ..." } else { "" };
    let shown = match bytes.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(head).into_owned(),
        Some(_) => head.iter().map(|b| format!("{b:02x}")).collect(),
    };
    Status::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {why} ({shown}{more})"))
}

/// A body may leave out what it is; if it says so, it must be what is expected.
fn check_kind(tree: &mut Value, gv: &GroupVersion, kind: &str, bytes: &[u8]) -> Result<(), Status> {
    let (given_version, given_kind) = (tree.str_at(&["apiVersion"]).to_owned(), tree.str_at(&["kind"]).to_owned());
    if given_kind.is_empty() {
        tree.set_at(&["kind"], kind);
    }
    if given_version.is_empty() {
        tree.set_at(&["apiVersion"], gv.to_string());
    }
    if given_version.matches('/').count() > 1 {
        return Err(unrecognized(kind, &format!("unexpected GroupVersion string: {given_version}"), bytes));
    }
    let given = if given_version.is_empty() { gv.clone() } else { GroupVersion::parse(&given_version) };
    let is = if given_kind.is_empty() { kind } else { &given_kind };
    if given == *gv && is == kind {
        return Ok(());
    }
    // Upstream's decoder knows the kinds of a few sets of groups, each of which has its place in the source.
    let scheme = match gv.group.as_str() {
        "apiextensions.k8s.io" => "pkg/apiserver/apiserver.go:55",
        "apiregistration.k8s.io" => "pkg/apiserver/scheme/scheme.go:28",
        _ => "pkg/api/legacyscheme/scheme.go:30",
    };
    let own = |group: &str| matches!(group, "apiextensions.k8s.io" | "apiregistration.k8s.io");
    let known = own(&gv.group) == own(&given.group)
        && (!own(&gv.group) || gv.group == given.group)
        && builtin()
            .kind(&given, is)
            .is_some_and(|_| builtin().kinds().any(|(g, kinds)| *g == given && kinds.contains_key(is)));
    let why = if !known {
        format!("no kind {is:?} is registered for version \"{given}\" in scheme {scheme:?}")
    } else if is == kind && given.group == gv.group {
        return Err(Status::bad_request(format!(
            "the API version in the data ({given}) does not match the expected API version ({gv})"
        )));
    } else {
        let package = match gv.group.split('.').next() {
            None | Some("" | "events") => "core",
            Some(first) => first,
        };
        format!("converting ({}.{is}) to ({package}.{kind}): unknown conversion", given.version)
    };
    Err(Status::bad_request(format!("{is} in version {:?} cannot be handled as a {kind}: {why}", given.version)))
}

/// A tree as an object of a type, with warnings or a refusal for what the type does not have.
///
/// # Errors
/// 400.
pub fn finish(
    tree: Value,
    duplicates: Vec<String>,
    gv: &GroupVersion,
    kind: &str,
    id: StructId,
    validation: FieldValidation,
) -> Result<Object, Status> {
    let notes = Noted { duplicates, repeated: Vec::new(), order: &Vec::new };
    finish_in_order(tree, notes, gv, kind, id, validation)
}

/// As [`finish`]; what is wrong is told in the order in which the client wrote it.
fn finish_in_order(
    mut tree: Value,
    noted: Noted<'_>,
    gv: &GroupVersion,
    kind: &str,
    id: StructId,
    validation: FieldValidation,
) -> Result<Object, Status> {
    let refused = |why: &str| {
        Status::bad_request(format!("{kind} in version {:?} cannot be handled as a {kind}: {why}", gv.version))
    };
    crate::managed::keep_reset(&mut tree);
    let decoded = decode::decode(builtin(), id, tree).map_err(|e| refused(&e.to_string()))?;
    let mut notes: Vec<(String, &str)> = noted.duplicates.into_iter().map(|path| (path, "duplicate")).collect();
    notes.extend(decoded.unknown.into_iter().map(|path| (path, "unknown")));
    if notes.len() > 1 {
        let order: HashMap<String, usize> =
            (noted.order)().into_iter().enumerate().map(|(i, path)| (path, i)).collect();
        notes.sort_by_key(|(path, _)| order.get(path).copied());
    }
    let mut repeated = noted.repeated;
    // A refusal tells of all keys at once.
    if validation == FieldValidation::Strict && !repeated.is_empty() {
        repeated = vec![format!("yaml: unmarshal errors:\n  {}", repeated.join("\n  "))];
    }
    let notes = notes.into_iter().map(|(path, what)| format!("{what} field {path:?}"));
    let notes: Vec<String> = repeated.into_iter().chain(notes).collect();
    match validation {
        FieldValidation::Strict if !notes.is_empty() => {
            Err(refused(&format!("strict decoding error: {}", notes.join(", "))))
        }
        FieldValidation::Warn => Ok(Object { value: decoded.value, warnings: notes, empty: decoded.empty }),
        _ => Ok(Object { value: decoded.value, warnings: Vec::new(), empty: decoded.empty }),
    }
}

/// Decodes the body of a create or update.
///
/// # Errors
/// As [`decode`].
pub fn of(served: &Served, bytes: &[u8], content_type: &str, validation: FieldValidation) -> Result<Object, Status> {
    let gv = &served.resource.gv;
    if let Some(custom) = &served.custom {
        let form = custom::body_form(content_type)?;
        let (tree, duplicates, repeated) = parse(bytes, form, gv, served.kind(), served.id)?;
        let mut object = custom::of(served, custom, tree, duplicates, validation)?;
        if validation == FieldValidation::Warn {
            object.warnings.splice(0..0, repeated);
        }
        return Ok(object);
    }
    let mut object = decode(bytes, content_type, gv, served.kind(), served.id, validation)?;
    default(served, &mut object.value);
    Ok(object)
}

/// A tree as an object of a resource, with its defaults.
///
/// # Errors
/// 400.
pub fn object(served: &Served, tree: Value, validation: FieldValidation) -> Result<Object, Status> {
    if let Some(custom) = &served.custom {
        return custom::object(served, custom, tree, Vec::new(), validation);
    }
    let mut object = undefaulted(served, tree, validation)?;
    default(served, &mut object.value);
    Ok(object)
}

/// A tree as an object of a resource.
///
/// # Errors
/// 400.
pub fn undefaulted(served: &Served, tree: Value, validation: FieldValidation) -> Result<Object, Status> {
    match &served.custom {
        Some(custom) => custom::undefaulted(served, custom, tree, Vec::new(), validation),
        None => finish(tree, Vec::new(), &served.resource.gv, served.kind(), served.id, validation),
    }
}

/// Fills in what a built-in kind has when nothing is said.
pub(crate) fn default(served: &Served, object: &mut Value) {
    crate::defaults::apply(served.id, object);
    if served.kind() == "Secret" && served.group().is_empty() {
        secret_text(object);
    }
}

/// `stringData` is a convenience of writers: it becomes `data`.
pub(crate) fn secret_text(secret: &mut Value) {
    use base64::Engine as _;
    let Some(map) = secret.as_object_mut() else { return };
    let Some(Value::Object(texts)) = map.remove("stringData") else { return };
    for (key, text) in texts {
        let encoded = base64::engine::general_purpose::STANDARD.encode(text.as_str().unwrap_or_default());
        map.object("data").insert(key, encoded);
    }
}
