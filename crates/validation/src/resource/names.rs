//! Names of attributes, of drivers, of requests.

use crate::{Errors, Place};
use trireme_schema::names;

const LONGEST_IDENTIFIER: usize = 32;
const LONGEST_DRIVER: usize = 63;

fn identifier(place: &Place<'_>, text: &str, errors: &mut Errors) {
    if text.len() > LONGEST_IDENTIFIER {
        errors.too_long(place, LONGEST_IDENTIFIER);
    }
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !begins || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        let why = "a valid C identifier must start with alphabetic character or '_', followed by a string of \
                   alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for \
                   validation is '[A-Za-z_][A-Za-z0-9_]*')";
        errors.invalid_value(place, text, why);
    }
}

/// The name of a driver: a short domain.
pub(super) fn driver(place: &Place<'_>, text: &str, errors: &mut Errors) {
    if text.is_empty() {
        errors.required(place, "");
        return;
    }
    if text.len() > LONGEST_DRIVER {
        errors.too_long(place, LONGEST_DRIVER);
    }
    errors.format(place, text, names::dns1123_subdomain(&text.to_lowercase()));
}

/// An identifier, perhaps of a domain: `model`, `example.com/model`.
pub(super) fn qualified(place: &Place<'_>, text: &str, errors: &mut Errors) {
    match text.split_once('/') {
        None => identifier(place, text, errors),
        // Upstream has no rule for more parts than two.
        Some((_, rest)) if rest.contains('/') => {}
        Some((domain, name)) => {
            if domain.is_empty() {
                errors.required(place, "the domain must not be empty");
            } else {
                driver(place, domain, errors);
            }
            if name.is_empty() {
                errors.required(place, "the name must not be empty");
            } else {
                identifier(place, name, errors);
            }
        }
    }
}

/// An identifier of a domain.
pub(super) fn fully_qualified(place: &Place<'_>, errors: &mut Errors) {
    qualified(place, place.str(), errors);
    if !place.str().contains('/') {
        errors.invalid(place, "a fully qualified name must be a domain and a name separated by a slash");
    }
}
