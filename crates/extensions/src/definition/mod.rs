//! What a definition may say (apiextensions `validation.ValidateCustomResourceDefinition`).

mod conversion;
mod defaults;
mod expressions;
mod openapi;
mod parts;
mod shown;
mod spec;
mod structural;
mod walk;

pub use parts::field_path;

use trireme_schema::Value;
use trireme_schema::field::{Error, Path};

/// What is wrong with a new definition, or with a changed one, besides what holds for all objects.
pub fn validate(new: &Value, old: Option<&Value>) -> Vec<Error> {
    let mut errors = Vec::new();
    if old.is_none() {
        let wanted = format!("{}.{}", new.str_at(&["spec", "names", "plural"]), new.str_at(&["spec", "group"]));
        for field in ["name", "generateName"] {
            let name = new.str_at(&["metadata", field]);
            if !name.is_empty() && name != wanted {
                let why = "must be spec.names.plural+\".\"+spec.group";
                errors.push(Error::invalid(&Path::new("metadata").child(field), name, why));
            }
        }
    }
    spec::check(new, old, &mut errors);
    status(new, &mut errors);
    stored_versions(new, &mut errors);
    approval(new, old, &mut errors);
    let keeps_unknown = |crd: &Value| crd.bool_at(&["spec", "preserveUnknownFields"]);
    if keeps_unknown(new) && !old.is_some_and(keeps_unknown) {
        let why =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(Error::invalid(&Path::new("spec.preserveUnknownFields"), true, why));
    }
    errors
}

/// What is wrong with the status of a definition.
pub fn validate_status(new: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    status(new, &mut errors);
    errors
}

/// What is noticed in a new definition, or is new in a changed one.
pub fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut before = old.map(noticed).unwrap_or_default();
    let mut now = noticed(new);
    now.retain(|text| match before.iter().position(|known| known == text) {
        Some(_) => false,
        None => {
            before.push(text.clone());
            true
        }
    });
    now
}

fn noticed(crd: &Value) -> Vec<String> {
    let mut formats = Vec::new();
    let mut sets = Vec::new();
    let hoisted = spec::Hoisted::of(crd);
    for schema in hoisted.schemas() {
        walk::any(schema, &mut |schema| {
            let (kind, format) = (schema.str_at(&["type"]), schema.str_at(&["format"]));
            if !format.is_empty() && crate::formats::supported(kind, format).is_empty() {
                formats.push(format!("unrecognized format {format:?}"));
            }
            let items = schema.str_at(&["items", "type"]);
            if schema.str_at(&["x-kubernetes-list-type"]) == "set" && matches!(items, "object" | "array") {
                sets.push(format!(
                    "x-kubernetes-list-type: set for items of type {items:?} is not supported by server-side apply or CEL validation rules"
                ));
            }
            false
        });
    }
    sets.sort();
    formats.extend(sets);
    formats
}

fn status(crd: &Value, errors: &mut Vec<Error>) {
    if let Some(names) = crd.at(&["status", "acceptedNames"]) {
        parts::names(names, &Path::new("status.acceptedNames"), errors);
    }
}

fn stored_versions(crd: &Value, errors: &mut Vec<Error>) {
    let path = Path::new("status.storedVersions");
    let stored = crd.list_at(&["status", "storedVersions"]);
    let shown = || crd.at(&["status", "storedVersions"]).cloned().unwrap_or_default();
    if stored.is_empty() {
        errors.push(Error::invalid(&path, shown(), "must have at least one stored version"));
        return;
    }
    let versions = crd.list_at(&["spec", "versions"]);
    for version in versions.iter().filter(|v| v.bool_at(&["storage"])) {
        let name = version.str_at(&["name"]);
        if !stored.iter().any(|s| s.as_str() == Some(name)) {
            errors.push(Error::invalid(&path, shown(), format!("must have the storage version {name}")));
        }
    }
    for (i, name) in stored.iter().enumerate() {
        let name = name.as_str().unwrap_or_default();
        // Of several with the same name the last is told.
        let again = stored[i + 1..].iter().any(|s| s.as_str() == Some(name));
        if !again && !versions.iter().any(|v| v.str_at(&["name"]) == name) {
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.push(Error::invalid(&path.index(i), name, why));
        }
    }
}

const APPROVED: &str = "api-approved.kubernetes.io";

/// Groups of the community are given by it: with the URL of an approval, or a word that there is none.
fn approval(new: &Value, old: Option<&Value>, errors: &mut Vec<Error>) {
    #[derive(PartialEq)]
    enum State {
        Missing,
        Bypassed,
        Approved,
        Invalid,
    }
    let group = new.str_at(&["spec", "group"]);
    let protected = ["k8s.io", "kubernetes.io"].iter().any(|g| group == *g || group.ends_with(&format!(".{g}")));
    if !protected {
        return;
    }
    let text = |crd: &Value| crd.str_at(&["metadata", "annotations", APPROVED]).to_owned();
    let state = |crd: &Value| match text(crd).as_str() {
        "" => State::Missing,
        text if text.starts_with("unapproved") => State::Bypassed,
        text => {
            let host = text.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default());
            match crate::formats::holds("uri", text) && host.is_some_and(|host| !host.is_empty()) {
                true => State::Approved,
                false => State::Invalid,
            }
        }
    };
    let now = state(new);
    if old.map(state).as_ref() == Some(&now) {
        return;
    }
    let path = Path::new("metadata.annotations").key(APPROVED);
    const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
    match now {
        State::Missing => {
            let why = format!("protected groups must have approval annotation {APPROVED:?}, {SEE}");
            errors.push(Error::required(&path, why));
        }
        State::Invalid => {
            let why = format!(
                "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \"unapproved\", {SEE}"
            );
            errors.push(Error::invalid(&path, text(new), why));
        }
        State::Bypassed | State::Approved => {}
    }
}
