//! Options of requests, from their query or, for deletions, their body.

use crate::body::FieldValidation;
use crate::media::{self, Form};
use crate::patch;
use crate::registry::{DeleteOptions, WriteOptions};
use crate::request::Query;
use crate::server::header_text;
use http::{HeaderMap, header};
use trireme_schema::field::{Error, Path};
use trireme_schema::{GroupVersion, Status, Value, builtin, decode, json, proto, yaml};

/// Names of managers may be this long, in bytes.
const LONGEST_MANAGER: usize = 128;

fn refused(kind: &str, errors: &[Error]) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", kind, "", errors)) }
}

/// A whole number as Go reads it.
///
/// # Errors
/// 400.
fn number(text: &str) -> Result<i64, Status> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let why = if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        "invalid syntax"
    } else {
        "value out of range"
    };
    text.parse().map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: {why}")))
}

fn optional_number(query: &Query, name: &str) -> Result<Option<i64>, Status> {
    if query.has(name) { number(query.get(name)).map(Some) } else { Ok(None) }
}

/// The options of a write of a kind (`CreateOptions`, `UpdateOptions`).
///
/// # Errors
/// 422 with all that is wrong.
pub(crate) fn write(query: &Query, headers: &HeaderMap, kind: &str) -> Result<(WriteOptions, FieldValidation), Status> {
    checked(query, headers, kind, Vec::new())
}

/// The options of a patch.
///
/// # Errors
/// 422 with all that is wrong.
pub(crate) fn patch(
    query: &Query,
    headers: &HeaderMap,
    kind: patch::Kind,
) -> Result<(WriteOptions, FieldValidation), Status> {
    let mut errors = Vec::new();
    if kind == patch::Kind::Apply {
        if query.get("fieldManager").is_empty() {
            errors.push(Error::required(&Path::new("fieldManager"), "is required for apply patch"));
        }
    } else if query.has("force") {
        errors.push(Error::forbidden(&Path::new("force"), "may not be specified for non-apply patch"));
    }
    checked(query, headers, "PatchOptions", errors)
}

fn checked(
    query: &Query,
    headers: &HeaderMap,
    kind: &str,
    mut errors: Vec<Error>,
) -> Result<(WriteOptions, FieldValidation), Status> {
    let manager = query.get("fieldManager");
    if manager.len() > LONGEST_MANAGER {
        errors.push(Error::too_long(&Path::new("fieldManager"), LONGEST_MANAGER));
    }
    if manager.chars().any(char::is_control) {
        let why = "should only contain printable characters";
        errors.push(Error::invalid(&Path::new("fieldManager"), manager, why));
    }
    let dry_run = dry_run(query.all("dryRun"), &mut errors);
    let validation = FieldValidation::read(query.get("fieldValidation"), &mut errors);
    refused(kind, &errors)?;
    let field_manager = if manager.is_empty() { agent(headers) } else { manager.to_owned() };
    Ok((WriteOptions { dry_run, field_manager }, validation))
}

fn dry_run(values: &[String], errors: &mut Vec<Error>) -> bool {
    if values.iter().any(|value| value != "All") {
        let given: Vec<Value> = values.iter().map(|value| value.as_str().into()).collect();
        errors.push(Error::not_supported(&Path::new("dryRun"), Value::Array(given), &["All"]));
    }
    !values.is_empty()
}

/// The program's name, for who does not say who he is.
fn agent(headers: &HeaderMap) -> String {
    let agent = header_text(headers, header::USER_AGENT);
    let name = agent.split('/').next().unwrap_or_default();
    if name.is_empty() { "unknown".to_owned() } else { name.chars().take(LONGEST_MANAGER).collect() }
}

/// The options of a deletion: its body, or its query when there is none.
///
/// # Errors
/// 400 for what cannot be read, 422 for what makes no sense.
pub(crate) fn delete(query: &Query, headers: &HeaderMap, bytes: &[u8]) -> Result<DeleteOptions, Status> {
    let given = if bytes.is_empty() {
        let mut given = Value::object();
        if let Some(seconds) = optional_number(query, "gracePeriodSeconds")? {
            given.set_at(&["gracePeriodSeconds"], seconds);
        }
        if query.has("orphanDependents") {
            given.set_at(&["orphanDependents"], query.flag("orphanDependents"));
        }
        if query.has("propagationPolicy") {
            given.set_at(&["propagationPolicy"], query.get("propagationPolicy"));
        }
        given.set_at(&["dryRun"], query.all("dryRun").to_vec());
        given
    } else {
        delete_body(bytes, &header_text(headers, header::CONTENT_TYPE))?
    };
    let text = |path: &[&str]| given.at(path).and_then(Value::as_str).map(str::to_owned);
    let orphan = given.get("orphanDependents").and_then(Value::as_bool);
    let propagation = text(&["propagationPolicy"]);
    let mut errors = Vec::new();
    let path = Path::new("propagationPolicy");
    if let (Some(policy), Some(_)) = (&propagation, orphan) {
        let why = "orphanDependents and deletionPropagation cannot be both set";
        errors.push(Error::invalid(&path, policy.as_str(), why));
    }
    if let Some(policy) = propagation.as_deref().filter(|p| !matches!(*p, "Orphan" | "Background" | "Foreground")) {
        errors.push(Error::not_supported(&path, policy, &["Foreground", "Background", "Orphan", "nil"]));
    }
    let values: Vec<String> = given.list_at(&["dryRun"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let dry_run = dry_run(&values, &mut errors);
    refused("DeleteOptions", &errors)?;
    let propagation = propagation.or(match orphan {
        Some(true) => Some("Orphan".into()),
        Some(false) => Some("Background".into()),
        None => None,
    });
    Ok(DeleteOptions {
        dry_run,
        grace_period_seconds: given.int_at(&["gracePeriodSeconds"]),
        propagation,
        uid: text(&["preconditions", "uid"]),
        resource_version: text(&["preconditions", "resourceVersion"]),
    })
}

fn delete_body(bytes: &[u8], content_type: &str) -> Result<Value, Status> {
    let schema = builtin();
    let id = schema.type_named("meta.v1.DeleteOptions").ok_or_else(|| Status::internal("no type of options"))?;
    let bad = |why: String| Status::bad_request(why);
    // Any group's DeleteOptions is the same thing.
    let tree = match media::body_form(content_type)? {
        Form::Protobuf => {
            let envelope = proto::Envelope::open(bytes).map_err(|e| bad(e.to_string()))?;
            proto::decode(schema, id, &envelope.raw).map_err(|e| bad(e.to_string()))?
        }
        Form::Yaml => yaml::parse_first(&String::from_utf8_lossy(bytes)).map_err(|e| bad(e.to_string()))?.value,
        Form::Json => {
            json::parse(bytes).map_err(|e| bad(format!("couldn't get version/kind; json parse error: {e}")))?
        }
    };
    let (version, kind) = (tree.str_at(&["apiVersion"]), tree.str_at(&["kind"]));
    if !matches!(kind, "" | "DeleteOptions") {
        let gv = GroupVersion::parse(version);
        // The place is where upstream makes the scheme of options.
        return Err(bad(format!(
            "no kind {kind:?} is registered for version {:?} in scheme \"pkg/apis/meta/internalversion/scheme/register.go:27\"",
            gv.to_string()
        )));
    }
    decode::decode(schema, id, tree).map(|decoded| decoded.value).map_err(|e| bad(e.to_string()))
}

/// The options of a list or watch, besides selectors.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListOptions {
    /// `resourceVersion`, not read yet.
    pub revision: String,
    /// `resourceVersionMatch`: `Exact`, `NotOlderThan` or empty.
    pub rule: String,
    /// `continue`.
    pub token: String,
    /// `limit`; zero for none.
    pub limit: usize,
    /// `timeoutSeconds`.
    pub timeout: Option<u64>,
    /// `allowWatchBookmarks`.
    pub bookmarks: bool,
    /// `sendInitialEvents`.
    pub initial: Option<bool>,
}

impl ListOptions {
    /// Reads the options of a list, or a watch.
    ///
    /// # Errors
    /// 400 for what cannot be read, 422 for what does not go together.
    pub fn read(query: &Query, watch: bool) -> Result<Self, Status> {
        let timeout = optional_number(query, "timeoutSeconds")?;
        let limit = optional_number(query, "limit")?.unwrap_or_default();
        let options = Self {
            revision: query.get("resourceVersion").to_owned(),
            rule: query.get("resourceVersionMatch").to_owned(),
            token: query.get("continue").to_owned(),
            limit: usize::try_from(limit).unwrap_or(0),
            timeout: timeout.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0),
            bookmarks: query.flag("allowWatchBookmarks"),
            initial: query.has("sendInitialEvents").then(|| query.flag("sendInitialEvents")),
        };
        refused("ListOptions", &if watch { options.watch_errors() } else { options.list_errors() })?;
        Ok(options)
    }

    fn list_errors(&self) -> Vec<Error> {
        let path = Path::new("resourceVersionMatch");
        let mut errors = Vec::new();
        if !self.rule.is_empty() {
            if self.revision.is_empty() {
                let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                errors.push(Error::forbidden(&path, why));
            }
            if !self.token.is_empty() {
                errors.push(Error::forbidden(&path, "resourceVersionMatch is forbidden when continue is provided"));
            }
            if !matches!(self.rule.as_str(), "Exact" | "NotOlderThan") {
                errors.push(Error::not_supported(&path, self.rule.as_str(), &["Exact", "NotOlderThan", ""]));
            }
            if self.rule == "Exact" && self.revision == "0" {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                errors.push(Error::forbidden(&path, why));
            }
        }
        if self.initial.is_some() {
            let why = "sendInitialEvents is forbidden for list";
            errors.push(Error::forbidden(&Path::new("sendInitialEvents"), why));
        }
        errors
    }

    fn watch_errors(&self) -> Vec<Error> {
        let path = Path::new("resourceVersionMatch");
        let mut errors = Vec::new();
        if self.initial.is_some() && self.rule != "NotOlderThan" {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            errors.push(Error::forbidden(&path, why));
        }
        if !self.rule.is_empty() {
            if self.initial.is_none() {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                errors.push(Error::forbidden(&path, why));
            }
            if self.rule != "NotOlderThan" {
                errors.push(Error::not_supported(&path, self.rule.as_str(), &["NotOlderThan"]));
            }
        }
        if !self.token.is_empty() {
            errors.push(Error::forbidden(&path, "resourceVersionMatch is forbidden when continue is provided"));
        }
        errors
    }
}

/// Reads a resourceVersion; empty is `None`.
///
/// # Errors
/// What upstream says of one that is no number.
pub(crate) fn revision(text: &str) -> Result<Option<i64>, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u64>() {
        _ if text.is_empty() => Ok(None),
        Ok(n) if digits => Ok(Some(i64::try_from(n).unwrap_or(i64::MAX))),
        _ => {
            let why = if digits { "value out of range" } else { "invalid syntax" };
            Err(format!("resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}"))
        }
    }
}

/// A resourceVersion of a read or watch.
///
/// # Errors
/// 500, as upstream has it, when it is no number.
pub(crate) fn known_revision(text: &str) -> Result<Option<i64>, Status> {
    revision(text).map_err(|why| Status::failure(500, "", why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T: std::fmt::Debug>(result: Result<T, Status>) -> String {
        result.unwrap_err().message
    }

    #[test]
    fn what_does_not_go_together_is_told_at_once() {
        let list = |query| message(ListOptions::read(&Query::parse(query), false));
        assert!(list("resourceVersionMatch=Exact").contains("forbidden unless resourceVersion is provided"));
        assert!(list("sendInitialEvents=true&resourceVersionMatch=NotOlderThan").contains("is invalid: ["));
        assert_eq!(list("limit="), "strconv.ParseInt: parsing \"\": invalid syntax");
        let watch = |query| message(ListOptions::read(&Query::parse(query), true));
        assert!(watch("resourceVersionMatch=NotOlderThan").contains("forbidden for watch unless sendInitialEvents"));
        assert!(watch("sendInitialEvents=1&resourceVersionMatch=Exact").contains("supported values: \"NotOlderThan\""));
    }

    #[test]
    fn a_body_of_a_deletion_replaces_its_query() {
        let query = Query::parse("gracePeriodSeconds=7&dryRun=All");
        let headers = HeaderMap::new();
        assert_eq!(delete(&query, &headers, b"").unwrap().grace_period_seconds, Some(7));
        let options = delete(&query, &headers, br#"{"propagationPolicy":"Orphan"}"#).unwrap();
        assert_eq!((options.grace_period_seconds, options.dry_run), (None, false));
        assert_eq!(options.propagation.as_deref(), Some("Orphan"));
        for bad in [&br#"{"kind":"Pod","apiVersion":"v1"}"#[..], br#"{"gracePeriodSeconds":"x"}"#, b"{"] {
            assert_eq!(delete(&query, &headers, bad).unwrap_err().code, 400);
        }
    }
}
