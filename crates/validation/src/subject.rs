//! What is validated, and how.

use crate::rules::{self, Registry};
use crate::{Errors, Place, engine, metadata};
use trireme_schema::field::Error;
use trireme_schema::{StructId, Value};

/// An object to be stored, after defaulting; `old` is what is stored now, for an update.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The API group; empty for the core group.
    pub group: &'a str,
    /// The version, such as `v1`.
    pub version: &'a str,
    /// The kind, such as `Pod`.
    pub kind: &'a str,
    /// The type of both objects.
    pub id: StructId,
    /// Whether objects of the kind live in a namespace.
    pub namespaced: bool,
    /// The subresource that is written; empty for the object.
    pub subresource: &'a str,
    /// The object as it is to be.
    pub new: &'a Value,
    /// The object as it was.
    pub old: Option<&'a Value>,
}

impl Subject<'_> {
    /// Whether the object is new.
    pub fn is_create(&self) -> bool {
        self.old.is_none()
    }
}

/// What is wrong with an object or its change; nothing when it may be stored.
pub fn validate(subject: &Subject<'_>) -> Vec<Error> {
    let registry = rules::registry();
    let mut errors = Errors::default();
    let root = Place::root(subject);
    metadata::check(&root, registry.metadata(subject.id), &mut errors);
    // Subresources change little: their functions say what they look at.
    if subject.subresource.is_empty() {
        engine::walk(registry, subject.id, &root, &mut errors);
    }
    for check in registry.kind_checks(subject.id, subject.subresource) {
        check(&root, &mut errors);
    }
    errors.into_list()
}

/// What is wrong with a question: an object that is answered, not stored, and so has no metadata.
pub fn review(subject: &Subject<'_>) -> Vec<Error> {
    let mut errors = Errors::default();
    let root = Place::root(subject);
    for check in rules::registry().kind_checks(subject.id, "") {
        check(&root, &mut errors);
    }
    errors.into_list()
}

/// What clients are told besides (the texts of `Warning` headers): fields that should no longer be used.
pub fn warnings(subject: &Subject<'_>) -> Vec<String> {
    let registry: &Registry = rules::registry();
    let mut warnings = Vec::new();
    for warn in registry.warnings(subject.id) {
        warn(subject, &mut warnings);
    }
    warnings
}
