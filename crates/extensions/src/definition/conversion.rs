//! How objects come from one version to another.

use crate::formats;
use trireme_schema::field::{Error, Path, quote};
use trireme_schema::{Value, names};

const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

/// Whether a review version that is understood is among those listed, or none is listed.
pub(super) fn is_recognized(conversion: &Value) -> bool {
    let listed = conversion.list_at(&["webhook", "conversionReviewVersions"]);
    listed.is_empty() || listed.iter().any(|v| v.as_str().is_some_and(|v| REVIEWS.contains(&v)))
}

pub(super) fn check(conversion: &Value, must_be_recognized: bool, path: &Path, errors: &mut Vec<Error>) {
    let strategy = conversion.str_at(&["strategy"]);
    let at = path.child("strategy");
    match strategy {
        "" => errors.push(Error::required(&at, "")),
        "None" | "Webhook" => {}
        other => errors.push(Error::not_supported(&at, other, &["None", "Webhook"])),
    }
    let client = conversion.at(&["webhook", "clientConfig"]);
    let reviews = conversion.list_at(&["webhook", "conversionReviewVersions"]);
    let (client_path, reviews_path) = (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    if strategy != "Webhook" {
        let why = "should not be set when strategy is not set to Webhook";
        if client.is_some() {
            errors.push(Error::forbidden(&client_path, why));
        }
        if !reviews.is_empty() {
            errors.push(Error::forbidden(&reviews_path, why));
        }
        return;
    }
    match client {
        None => errors.push(Error::required(&client_path, "required when strategy is set to Webhook")),
        Some(client) => match (client.get("url").and_then(Value::as_str), client.get("service")) {
            (Some(text), None) => url(text, &client_path.child("url"), errors),
            (None, Some(found)) => service(found, &client_path.child("service"), errors),
            _ => errors.push(Error::required(&client_path, "exactly one of url or service is required")),
        },
    }
    review_versions(reviews, must_be_recognized, &reviews_path, errors);
}

fn review_versions(reviews: &[Value], must_be_recognized: bool, path: &Path, errors: &mut Vec<Error>) {
    if reviews.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    for (i, version) in reviews.iter().enumerate() {
        let text = version.as_str().unwrap_or_default();
        if reviews[..i].contains(version) {
            errors.push(Error::invalid(&path.index(i), text, "duplicate version"));
            continue;
        }
        errors.extend(names::dns1035_label(text).into_iter().map(|why| Error::invalid(&path.index(i), text, why)));
    }
    if must_be_recognized && !reviews.iter().any(|v| v.as_str().is_some_and(|v| REVIEWS.contains(&v))) {
        let why = format!("must include at least one of {}", REVIEWS.join(", "));
        errors.push(Error::invalid(path, reviews.to_vec(), why));
    }
}

fn url(text: &str, path: &Path, errors: &mut Vec<Error>) {
    const FORM: &str = "; desired format: https://host[/path]";
    let Some((scheme, rest)) = text.split_once("://").filter(|_| formats::holds("uri", text)) else {
        let why = if text.is_empty() || !text.contains(':') {
            format!("'https' is the only allowed URL scheme{FORM}")
        } else {
            format!("url must be a valid URL: parse {}: invalid URL{FORM}", quote(text))
        };
        errors.push(Error::required(path, why));
        return;
    };
    if scheme != "https" {
        errors.push(Error::invalid(path, scheme, format!("'https' is the only allowed URL scheme{FORM}")));
    }
    let (before, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (before, query) = before.split_once('?').unwrap_or((before, ""));
    let authority = before.split('/').next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.is_empty() {
        errors.push(Error::invalid(path, "", format!("host must be specified{FORM}")));
    }
    for (part, what) in [(user, "user information is"), (fragment, "fragments are"), (query, "query parameters are")] {
        if !part.is_empty() {
            errors.push(Error::invalid(path, part, format!("{what} not permitted in the URL")));
        }
    }
}

fn service(found: &Value, path: &Path, errors: &mut Vec<Error>) {
    for (name, why) in [("name", "service name is required"), ("namespace", "service namespace is required")] {
        if found.str_at(&[name]).is_empty() {
            errors.push(Error::required(&path.child(name), why));
        }
    }
    let port = found.int_at(&["port"]).unwrap_or(443);
    if !(1..=65_535).contains(&port) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        errors.push(Error::invalid(&path.child("port"), port, why));
    }
    let Some(text) = found.get("path").and_then(Value::as_str) else { return };
    let at = path.child("path");
    if text.is_empty() || text == "/" {
        return;
    }
    if text == "//" {
        errors.push(Error::invalid(&at, text, "segment[0] may not be empty"));
        return;
    }
    if !text.starts_with('/') {
        errors.push(Error::invalid(&at, text, "must start with a '/'"));
    }
    let steps: Vec<&str> = text.strip_prefix('/').unwrap_or(text).trim_end_matches('/').split('/').collect();
    for (i, step) in steps.iter().enumerate() {
        if step.is_empty() {
            errors.push(Error::invalid(&at, text, format!("segment[{i}] may not be empty")));
            continue;
        }
        let wrong = names::dns1123_subdomain(step);
        errors.extend(wrong.into_iter().map(|why| Error::invalid(&at, text, format!("segment[{i}]: {why}"))));
    }
}
