//! Rules of all objects' metadata (apimachinery `validation.ValidateObjectMeta` and `…Update`).

use crate::rules::{Looks, MetadataRules};
use crate::{Errors, Place};
use trireme_schema::{Value, builtin, encode, field, names};

const LARGEST_ANNOTATIONS: usize = 256 << 10;

/// Checks the metadata of an object. Upstream looks at those of an update more than once, and tells what it finds each
/// time.
pub(crate) fn check(root: &Place<'_>, rules: MetadataRules, errors: &mut Errors) {
    let before = errors.len();
    let meta = root.child("metadata");
    object(&meta, rules, errors);
    if root.old.is_none() {
        return;
    }
    change(&meta, errors);
    if errors.len() > before {
        let whole = root.subject.subresource.is_empty();
        let again = if whole { rules.update } else { Looks { at_change: 1, at_object: 0 } };
        (0..again.at_change).for_each(|_| change(&meta, errors));
        (0..again.at_object).for_each(|_| object(&meta, rules, errors));
    }
}

fn object(meta: &Place<'_>, rules: MetadataRules, errors: &mut Errors) {
    let generated = meta.text("generateName");
    if !generated.is_empty() && !rules.any_prefix {
        // The prefix must do as the beginning of a name; a trailing dash is fine, since something follows.
        let stem = generated.strip_suffix('-').filter(|s| !s.is_empty()).map(|s| format!("{s}a"));
        errors.format(&meta.child("generateName"), generated, (rules.name)(stem.as_deref().unwrap_or(generated)));
    }
    match meta.text("name") {
        "" => errors.required(&meta.child("name"), "name or generateName is required"),
        // It cannot change, and rules were less strict in older days.
        _ if meta.old.is_some() => {}
        text => errors.format(&meta.child("name"), text, (rules.name)(text)),
    }
    let generation = meta.int("generation").unwrap_or_default();
    if generation < 0 {
        errors.invalid(&meta.child("generation"), "must be greater than or equal to 0");
    }
    shared(meta, errors);
    finalizers(meta, rules.any_finalizers, errors);
}

/// What is looked at in changes too.
fn shared(meta: &Place<'_>, errors: &mut Errors) {
    labels(&meta.child("labels"), errors);
    annotations(&meta.child("annotations"), errors);
    owners(meta, errors);
}

/// Labels: keys are qualified names, values are short.
pub fn labels(place: &Place<'_>, errors: &mut Errors) {
    for (key, value) in place.value.as_object().into_iter().flat_map(trireme_schema::Map::iter) {
        errors.format(place, key, names::qualified_name(key));
        let text = value.as_str().unwrap_or_default();
        errors.format(place, text, names::label_value(text));
    }
}

/// Annotations: keys are qualified names in any case; all together are small.
pub fn annotations(place: &Place<'_>, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in place.value.as_object().into_iter().flat_map(trireme_schema::Map::iter) {
        let lower = if key.bytes().any(|b| b.is_ascii_uppercase()) { key.to_lowercase() } else { key.clone() };
        errors.format(place, key, names::qualified_name(&lower));
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > LARGEST_ANNOTATIONS {
        errors.too_long(place, LARGEST_ANNOTATIONS);
    }
}

fn owners(meta: &Place<'_>, errors: &mut Errors) {
    // Upstream's paths leave the index out.
    let place = meta.child("ownerReferences");
    let shown = |owner: &Value| {
        let id = builtin().type_named("meta.v1.OwnerReference")?;
        String::from_utf8(encode::to_vec(builtin(), id, owner)).ok()
    };
    let mut controller: Option<&Value> = None;
    for owner in meta.list("ownerReferences") {
        let version = owner.str_at(&["apiVersion"]);
        let (group, bare) = match version.split_once('/') {
            Some((group, bare)) if !bare.contains('/') => (group, bare),
            Some(_) => ("", ""),
            None => ("", version),
        };
        if bare.is_empty() {
            errors.invalid_value(&place.child("apiVersion"), version, "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            if owner.str_at(&[field]).is_empty() {
                errors.invalid_value(&place.child(field), "", "must not be empty");
            }
        }
        let kind = owner.str_at(&["kind"]);
        if (group, bare, kind) == ("", "v1", "Event") {
            let why = format!("{group}/{bare}, Kind={kind} is disallowed from being an owner");
            errors.invalid_shown(&place, shown(owner).unwrap_or_default(), why);
        }
        if owner.bool_at(&["controller"]) {
            if let Some(first) = controller {
                let all: Vec<String> = meta.list("ownerReferences").iter().filter_map(shown).collect();
                let name = |o: &Value| format!("{}/{}", o.str_at(&["kind"]), o.str_at(&["name"]));
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {} and {}",
                    name(first),
                    name(owner)
                );
                errors.invalid_shown(&place, format!("[{}]", all.join(",")), why);
            } else {
                controller = Some(owner);
            }
        }
    }
}

fn finalizers(meta: &Place<'_>, any: bool, errors: &mut Errors) {
    let place = meta.child("finalizers");
    let list = meta.list("finalizers");
    for (i, finalizer) in list.iter().enumerate() {
        let text = finalizer.as_str().unwrap_or_default();
        errors.format(&place, text, names::qualified_name(text));
        // A rule of older days, which has the index in its path.
        if !any && !text.contains('/') && !matches!(text, "orphan" | "foregroundDeletion" | "kubernetes") {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.invalid_value(&place.index(i), text, why);
        }
    }
    let has = |name: &str| list.iter().any(|f| f.as_str() == Some(name));
    if has("orphan") && has("foregroundDeletion") {
        errors.invalid(&place, "finalizer orphan and foregroundDeletion cannot be both set");
    }
}

fn change(meta: &Place<'_>, errors: &mut Errors) {
    let Some(old) = meta.old else { return };
    if old.get("deletionTimestamp").is_some() {
        let added: Vec<String> = meta
            .list("finalizers")
            .iter()
            .filter(|f| !old.list_at(&["finalizers"]).contains(f))
            .map(|f| field::quote(f.as_str().unwrap_or_default()))
            .collect();
        if !added.is_empty() {
            let added = added.join(", ");
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{added}}}"
            );
            errors.forbidden(&meta.child("finalizers"), why);
        }
    }
    let generation = meta.int("generation").unwrap_or_default();
    if generation < old.int_at(&["generation"]).unwrap_or_default() {
        errors.invalid_value(&meta.child("generation"), generation, "must not be decremented");
    }
    for name in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let place = meta.child(name);
        if place.is_changed() {
            errors.invalid(&place, "field is immutable");
        }
    }
    shared(meta, errors);
}
