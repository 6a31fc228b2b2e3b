//! Tolerations, and the effects of taints.

use crate::{Errors, Place};
use trireme_schema::names;

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(super) fn check(toleration: &Place<'_>, errors: &mut Errors) {
    let (key, operator, effect) = (toleration.text("key"), toleration.text("operator"), toleration.text("effect"));
    let value = toleration.text("value");
    let place = toleration.child("operator");
    if !key.is_empty() {
        errors.format(&toleration.child("key"), key, names::qualified_name(key));
    } else if operator != "Exists" {
        let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.invalid_value(&place, operator, why);
    }
    if toleration.has("tolerationSeconds") && effect != "NoExecute" {
        let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.invalid_value(&toleration.child("effect"), effect, why);
    }
    match operator {
        "Equal" | "" => {
            let wrong = names::label_value(value);
            if !wrong.is_empty() {
                errors.invalid_value(&place, value, wrong.join(";"));
            }
        }
        "Exists" => {
            if !value.is_empty() {
                errors.invalid_value(&place, value, "value must be empty when `operator` is 'Exists'");
            }
        }
        other => errors.not_supported(&place, other, &["Equal", "Exists"]),
    }
    if !effect.is_empty() {
        taint_effect(&toleration.child("effect"), errors);
    }
}

/// The effect of a taint, which must be given.
pub(crate) fn taint_effect(effect: &Place<'_>, errors: &mut Errors) {
    match effect.str() {
        "" => errors.required(effect, ""),
        text if EFFECTS.contains(&text) => {}
        text => errors.not_supported(effect, text, &EFFECTS),
    }
}
