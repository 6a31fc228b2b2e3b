//! Priority levels: how much of the server each may use.

use crate::rules::Registry;
use crate::{Errors, Place};
use trireme_schema::Value;

/// The largest number of queues; more would make hands of shuffle sharding too long to compute.
const MOST_QUEUES: i64 = 10_000_000;
/// Bits of the hash that deals hands.
const MOST_ENTROPY: f64 = 60.0;

pub(super) fn register(registry: &mut Registry) {
    registry.on_kind("flowcontrol.v1.PriorityLevelConfiguration", "", level);
}

fn level(root: &Place<'_>, errors: &mut Errors) {
    let spec = root.child("spec");
    mandatory(root, &spec, errors);
    let (limited, exempt) = (spec.child("limited"), spec.child("exempt"));
    match spec.text("type") {
        "Exempt" => {
            if limited.is_set() {
                errors.forbidden(&limited, "must be nil if the type is not Limited");
            }
            if exempt.is_set() {
                shares(&exempt, errors);
            }
        }
        "Limited" => {
            if exempt.is_set() {
                errors.forbidden(&exempt, "must be nil if the type is Limited");
            }
            if limited.is_set() {
                self::limited(&limited, errors);
            } else {
                errors.required(&limited, "must not be empty when type is Limited");
            }
        }
        other => errors.not_supported(&spec.child("type"), other, &["Exempt", "Limited"]),
    }
}

/// Levels that every server has, and that nobody may change but in their shares.
fn mandatory(root: &Place<'_>, spec: &Place<'_>, errors: &mut Errors) {
    let name = root.value.str_at(&["metadata", "name"]);
    let kind = spec.text("type");
    let fixed = match name {
        "exempt" => kind == "Exempt",
        "catch-all" => kind == "Limited" && spec.value.str_at(&["limited", "limitResponse", "type"]) == "Reject",
        _ if kind == "Exempt" => {
            errors.invalid_value(&spec.child("type"), kind, "must be 'Limited' unless metadata.name is 'exempt'");
            return;
        }
        _ => true,
    };
    if !fixed {
        let why =
            format!("spec of '{name}' except the 'spec.{}' field must equal the fixed value", kind.to_lowercase());
        errors.invalid_internal(spec, "flowcontrol.v1.PriorityLevelConfigurationSpec", why);
    }
}

fn shares(place: &Place<'_>, errors: &mut Errors) {
    let shares = place.child("nominalConcurrencyShares");
    if shares.value.as_int().is_some_and(|n| n < 0) {
        errors.invalid(&shares, "must be a non-negative integer");
    }
    lendable(place, errors);
}

fn lendable(place: &Place<'_>, errors: &mut Errors) {
    let percent = place.child("lendablePercent");
    if percent.value.as_int().is_some_and(|n| !(0..=100).contains(&n)) {
        errors.invalid(&percent, "must be between 0 and 100, inclusive");
    }
}

fn limited(limited: &Place<'_>, errors: &mut Errors) {
    let shares = limited.child("nominalConcurrencyShares");
    if shares.value.as_int().is_some_and(|n| n < 0) {
        errors.invalid(&shares, "must be a non-negative integer");
    }
    response(&limited.child("limitResponse"), errors);
    lendable(limited, errors);
    let borrowed = limited.child("borrowingLimitPercent");
    if borrowed.value.as_int().is_some_and(|n| n < 0) {
        errors.invalid(&borrowed, "if specified, must be a non-negative integer");
    }
}

fn response(response: &Place<'_>, errors: &mut Errors) {
    let queuing = response.child("queuing");
    match response.text("type") {
        "Reject" => {
            if queuing.is_set() {
                errors.forbidden(&queuing, "must be nil if limited.limitResponse.type is not Limited");
            }
        }
        "Queue" => {
            if queuing.is_set() {
                self::queuing(&queuing, errors);
            } else {
                errors.required(&queuing, "must not be empty if limited.limitResponse.type is Limited");
            }
        }
        other => errors.not_supported(&response.child("type"), other, &["Queue", "Reject"]),
    }
}

fn queuing(queuing: &Place<'_>, errors: &mut Errors) {
    for field in ["queueLengthLimit", "queues"] {
        let number = queuing.int(field).unwrap_or_default();
        if number <= 0 {
            errors.invalid_value(&queuing.child(field), number, "must be positive");
        }
    }
    let (queues, hand) = (queuing.int("queues").unwrap_or_default(), queuing.int("handSize").unwrap_or_default());
    if queues > MOST_QUEUES {
        let why = format!("must not be greater than {MOST_QUEUES}");
        errors.invalid(&queuing.child("queues"), why);
    }
    let place = queuing.child("handSize");
    if hand <= 0 {
        errors.invalid_value(&place, hand, "must be positive");
    } else if hand > queues {
        let why = format!("should not be greater than queues ({queues})");
        errors.invalid_value(&place, Value::Int(hand), why);
    } else {
        let entropy: f64 = (0..hand.min(1000)).map(|i| ((queues - i) as f64).log2()).sum();
        if entropy > MOST_ENTROPY {
            let why = format!(
                "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {MOST_ENTROPY}"
            );
            errors.invalid_value(&place, Value::Int(hand), why);
        }
    }
}
