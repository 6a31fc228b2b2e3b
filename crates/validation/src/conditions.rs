//! Conditions as all kinds share them (apimachinery `validation.ValidateConditions`).

use crate::{Errors, Place};
use std::collections::BTreeSet;
use trireme_schema::names;

const LONGEST_REASON: usize = 1 << 10;
const LONGEST_MESSAGE: usize = 32 << 10;

/// Checks the list `conditions` of a status.
pub(crate) fn check(status: &Place<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for condition in status.items("conditions") {
        let ty = condition.child("type");
        if !seen.insert(condition.text("type")) {
            errors.duplicate(&ty, ty.str());
        }
        errors.format(&ty, ty.str(), names::qualified_name(ty.str()));
        let truth = condition.child("status");
        if !matches!(truth.str(), "False" | "True" | "Unknown") {
            errors.not_supported(&truth, truth.str(), &["False", "True", "Unknown"]);
        }
        let generation = condition.child("observedGeneration");
        if generation.value.as_int().is_some_and(|n| n < 0) {
            errors.invalid(&generation, "must be greater than or equal to zero");
        }
        if !condition.has("lastTransitionTime") {
            errors.required(&condition.child("lastTransitionTime"), "must be set");
        }
        reason(&condition.child("reason"), errors);
        let message = condition.child("message");
        if message.str().len() > LONGEST_MESSAGE {
            errors.too_long(&message, LONGEST_MESSAGE);
        }
    }
}

fn reason(place: &Place<'_>, errors: &mut Errors) {
    let text = place.str();
    if text.is_empty() {
        errors.required(place, "must be set");
        return;
    }
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b',' | b':');
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let ends = text.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if !begins || !ends || !text.bytes().all(inner) {
        let why = "a condition reason must start with alphabetic character, optionally followed by a string of \
                   alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  \
                   or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation \
                   is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";
        errors.invalid(place, why);
    }
    if text.len() > LONGEST_REASON {
        errors.too_long(place, LONGEST_REASON);
    }
}
