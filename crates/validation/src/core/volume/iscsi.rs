//! iSCSI: names of targets and initiators (RFC 3720 3.2.6).

use crate::{Errors, Place};

const TOO_LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";

pub(super) fn of_pod(source: &Place<'_>, errors: &mut Errors) {
    check(source, "must be valid format starting with iqn, eui, or naa", errors);
}

pub(super) fn persistent(source: &Place<'_>, errors: &mut Errors) {
    let name = source.subject.new.str_at(&["metadata", "name"]);
    if source.has("initiatorName") && name.len() + 1 + source.text("targetPortal").len() > 64 {
        errors.invalid_value(&source.child("targetportal"), source.text("targetPortal"), TOO_LONG);
    }
    if source.has("secretRef") && source.value.str_at(&["secretRef", "name"]).is_empty() {
        errors.required(&source.child("secretRef.name"), "");
    }
    check(source, "must be valid format", errors);
}

/// A pod's volume and its portal name a directory together.
pub(super) fn name_length(source: &Place<'_>, name: &Place<'_>, errors: &mut Errors) {
    if source.has("initiatorName") && name.str().len() + 1 + source.text("targetPortal").len() > 64 {
        errors.invalid_value(name, name.str(), TOO_LONG);
    }
}

fn check(source: &Place<'_>, no_prefix: &str, errors: &mut Errors) {
    let mut named = |place: &Place<'_>, text: &str| {
        let fits = match text.get(..3) {
            Some("iqn") => is_iqn(text),
            Some(prefix @ ("eui" | "naa")) => {
                let digits = text.chars().skip(4);
                let count = if prefix == "eui" { 16 } else { 32 };
                digits.clone().count() == count && digits.clone().all(|c| c.is_ascii_alphanumeric())
            }
            _ => return errors.invalid_value(place, text, no_prefix),
        };
        if !fits {
            errors.invalid_value(place, text, "must be valid format");
        }
    };
    let iqn = source.text("iqn");
    if !iqn.is_empty() {
        named(&source.child("iqn"), iqn);
    }
    if source.has("initiatorName") {
        named(&source.child("initiatorname"), source.text("initiatorName"));
    }
    if (source.is("chapAuthDiscovery") || source.is("chapAuthSession")) && !source.has("secretRef") {
        errors.required(&source.child("secretRef"), "");
    }
}

/// `iqn.YYYY-MM.domain:identifier`.
fn is_iqn(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("iqn.") else { return false };
    let (Some(date), Some(rest)) = (rest.get(..8), rest.get(8..)) else { return false };
    let dated = date.bytes().enumerate().all(|(i, b)| match i {
        4 => b == b'-',
        7 => b == b'.',
        _ => b.is_ascii_digit(),
    });
    let Some((domain, id)) = rest.split_once(':') else { return false };
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let open = |c: char| !matches!(c, ',' | ';' | '*' | '&' | '$' | '|') && !c.is_ascii_whitespace();
    dated && !domain.is_empty() && domain.chars().all(name) && !id.is_empty() && id.chars().all(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_targets() {
        for (text, fine) in [
            ("iqn.2001-04.com.example:storage.disk2", true),
            ("iqn.2001-04.com.example", false),
            ("iqn.01-04.com.example:x", false),
            ("iqn.2001-04.com.example:a b", false),
        ] {
            assert_eq!(is_iqn(text), fine, "{text}");
        }
    }
}
