//! Probes and lifecycle hooks.

use super::spec::by_type;
use crate::{Errors, Place};

const HANDLERS: [(&str, &str); 5] = [
    ("exec", "core.v1.ExecAction"),
    ("httpGet", "core.v1.HTTPGetAction"),
    ("tcpSocket", "core.v1.TCPSocketAction"),
    ("grpc", "core.v1.GRPCAction"),
    ("sleep", "core.v1.SleepAction"),
];

pub(super) fn lifecycle(lifecycle: &Place<'_>, grace: Option<i64>, errors: &mut Errors) {
    for name in ["postStart", "preStop"] {
        if let Some(hook) = lifecycle.field(name) {
            one_handler(&hook, errors);
            if let (Some(sleep), Some(grace)) = (hook.field("sleep"), grace) {
                let seconds = sleep.int("seconds").unwrap_or_default();
                if seconds < 0 || seconds > grace {
                    let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    errors.invalid_value(&sleep, seconds, why);
                }
            }
        }
    }
}

/// A probe's handler; its numbers are in the table.
pub(super) fn probe(probe: &Place<'_>, errors: &mut Errors) {
    one_handler(probe, errors);
}

/// Only the first handler is looked at.
fn one_handler(place: &Place<'_>, errors: &mut Errors) {
    let mut found = false;
    for (name, ty) in HANDLERS {
        let Some(handler) = place.field(name) else { continue };
        if found {
            errors.forbidden(&handler, "may not specify more than 1 handler type");
        } else {
            by_type(ty, Some(handler), errors);
        }
        found = true;
    }
    if !found {
        errors.required(place, "must specify a handler type");
    }
}

/// Headers are told by their list, without the index.
pub(super) fn http_headers(get: &Place<'_>, errors: &mut Errors) {
    const WHY: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
    for header in get.list("httpHeaders") {
        let name = header.str_at(&["name"]);
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            errors.invalid_value(&get.child("httpHeaders"), name, WHY);
        }
    }
}
