//! Configurations of webhooks.

use super::expressions::Scope;
use super::{matching, one_of};
use crate::rules::Registry;
use crate::{Errors, Place};
use std::collections::BTreeSet;
use trireme_schema::names;

/// Versions of reviews that the server can send.
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];
const SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];

pub(super) fn register(registry: &mut Registry) {
    for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
        registry.on_kind(&format!("admissionregistration.v1.{kind}"), "", configuration);
    }
}

fn configuration(root: &Place<'_>, errors: &mut Errors) {
    // What was let through once is not held against a change.
    let before = root.old.map(|old| old.list_at(&["webhooks"])).unwrap_or_default();
    let knew = |hook: &trireme_schema::Value| {
        hook.list_at(&["admissionReviewVersions"]).iter().any(|v| REVIEWS.contains(&v.as_str().unwrap_or_default()))
    };
    let recognized = before.iter().all(knew);
    let mut seen = BTreeSet::new();
    for hook in root.items("webhooks") {
        webhook(&hook, errors);
        versions(&hook, recognized, errors);
        let name = hook.child("name");
        if !name.str().is_empty() && !seen.insert(hook.text("name")) {
            errors.duplicate(&name, name.str());
        }
    }
}

fn webhook(hook: &Place<'_>, errors: &mut Errors) {
    full_name(&hook.child("name"), errors);
    hook.items("rules").for_each(|rule| matching::operations(&rule, errors));
    one_of(hook, "failurePolicy", &["Fail", "Ignore"], errors);
    one_of(hook, "matchPolicy", &["Equivalent", "Exact"], errors);
    if hook.has("sideEffects") {
        one_of(hook, "sideEffects", &SIDE_EFFECTS, errors);
    } else {
        let why = format!("must specify one of {}", SIDE_EFFECTS.join(", "));
        errors.required(&hook.child("sideEffects"), why);
    }
    let timeout = hook.child("timeoutSeconds");
    if timeout.value.as_int().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
        errors.invalid(&timeout, "the timeout value must be between 1 and 30 seconds");
    }
    one_of(hook, "reinvocationPolicy", &["IfNeeded", "Never"], errors);
    client(&hook.child("clientConfig"), errors);
    matching::conditions(hook, &Scope::of_requests(false), errors);
}

/// A name of at least three labels.
fn full_name(place: &Place<'_>, errors: &mut Errors) {
    if place.str().is_empty() {
        errors.required(place, "");
        return;
    }
    let wrong = names::dns1123_subdomain(place.str());
    if !wrong.is_empty() {
        errors.invalid(place, wrong.join(","));
    } else if place.str().split('.').count() < 3 {
        errors.invalid(place, "should be a domain with at least three segments separated by dots");
    }
}

fn versions(hook: &Place<'_>, recognized: bool, errors: &mut Errors) {
    let place = hook.child("admissionReviewVersions");
    let versions = hook.list("admissionReviewVersions");
    if versions.is_empty() {
        errors.required(&place, format!("must specify one of {}", REVIEWS.join(", ")));
        return;
    }
    let mut seen = BTreeSet::new();
    for version in hook.items("admissionReviewVersions") {
        if !seen.insert(version.str().to_owned()) {
            errors.invalid(&version, "duplicate version");
            continue;
        }
        errors.format(&version, version.str(), names::dns1035_label(version.str()));
    }
    if recognized && !REVIEWS.iter().any(|known| seen.contains(*known)) {
        errors.invalid(&place, format!("must include at least one of {}", REVIEWS.join(", ")));
    }
}

/// Where a webhook is reached.
pub(crate) fn client(config: &Place<'_>, errors: &mut Errors) {
    match (config.field("url"), config.field("service")) {
        (Some(url), None) => address(&url, errors),
        (None, Some(service)) => self::service(&service, errors),
        _ => errors.required(config, "exactly one of url or service is required"),
    }
}

fn address(place: &Place<'_>, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let text = place.str();
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = match rest.split_once(':') {
        Some((scheme, rest)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) => {
            (scheme, rest)
        }
        _ => ("", rest),
    };
    if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
        let why = format!("url must be a valid URL: parse {text:?}: net/url: invalid control character in URL{FORM}");
        errors.required(place, why);
        return;
    }
    if rest.starts_with(':') || text.starts_with(':') {
        errors.required(place, format!("url must be a valid URL: parse {text:?}: missing protocol scheme{FORM}"));
        return;
    }
    let authority = rest.strip_prefix("//").map(|rest| rest.split('/').next().unwrap_or_default()).unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let mut wrong = |value: &str, why: &str| errors.invalid_value(place, value, format!("{why}{FORM}"));
    if !scheme.eq_ignore_ascii_case("https") {
        wrong(&scheme.to_lowercase(), "'https' is the only allowed URL scheme");
    }
    if host.is_empty() {
        wrong(host, "host must be specified");
    }
    if let Some(user) = user {
        wrong(user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        wrong(fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        wrong(query, "query parameters are not permitted in the URL");
    }
}

fn service(service: &Place<'_>, errors: &mut Errors) {
    // Upstream mixes the two up when it tells which is missing.
    for (field, told) in [("name", "namespace"), ("namespace", "name")] {
        if service.text(field).is_empty() {
            errors.required(&service.child(told), "");
        }
    }
    let port = service.int("port").unwrap_or_default();
    if !(1..=65_535).contains(&port) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        errors.invalid_value(&service.child("port"), port, why);
    }
    let path = service.child("path");
    let text = path.str();
    if text.is_empty() || text == "/" {
        return;
    }
    if text == "//" {
        errors.invalid(&path, "segment[0] may not be empty");
        return;
    }
    if !text.starts_with('/') {
        errors.invalid(&path, "must start with a '/'");
    }
    let mut rest = text.chars();
    rest.next();
    let rest = rest.as_str();
    for (i, step) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if step.is_empty() {
            errors.invalid(&path, format!("segment[{i}] may not be empty"));
            continue;
        }
        for why in names::dns1123_subdomain(step) {
            errors.invalid(&path, format!("segment[{i}]: {why}"));
        }
    }
}
