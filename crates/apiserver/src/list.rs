//! Lists: from a snapshot, in pages, as references to stored bytes.

use crate::catalogue::Served;
use crate::request::Query;
use crate::selection::Selection;
use crate::server::ApiServer;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::sync::Arc;
use std::time::Duration;
use trireme_schema::{Cause, Status, Value, json};
use trireme_store::{Record, Snapshot};

/// How long a list waits for a revision that is not there yet.
const WAIT: Duration = Duration::from_secs(3);

/// A page of a list.
pub struct Page {
    /// The records.
    pub records: Vec<Arc<Record>>,
    /// The revision of the whole list.
    pub revision: i64,
    /// The token of the next page; empty on the last.
    pub next: String,
    /// How many there are after this page, where that is known.
    pub remaining: Option<usize>,
}

/// Reads a resourceVersion; empty is `None`.
///
/// # Errors
/// 400 when it is no number.
pub fn revision(text: &str) -> Result<Option<i64>, Status> {
    match text {
        "" => Ok(None),
        _ => match text.parse::<u64>() {
            Ok(n) => Ok(Some(i64::try_from(n).unwrap_or(i64::MAX))),
            Err(_) => Err(Status::bad_request(format!(
                "Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
            ))),
        },
    }
}

impl ApiServer {
    /// Waits until a revision that a client names is there.
    ///
    /// # Errors
    /// 504 when it does not come.
    pub(crate) async fn reach(&self, revision: i64) -> Result<(), Status> {
        if revision <= self.store.revision() || self.store.wait_for(revision, WAIT).await {
            return Ok(());
        }
        let now = self.store.revision();
        let mut status = Status::timeout(format!("Too large resource version: {revision}, current: {now}"), 1);
        if let Some(details) = &mut status.details {
            details.causes.push(Cause {
                reason: "ResourceVersionTooLarge".into(),
                message: "Too large resource version".into(),
                field: String::new(),
            });
        }
        Err(status)
    }

    /// One page of a list.
    ///
    /// # Errors
    /// For parameters that do not fit together, revisions that are gone or not there.
    pub async fn page(
        &self,
        served: &Served,
        namespace: &str,
        query: &Query,
        selection: &Selection,
    ) -> Result<Page, Status> {
        let limit = match query.get("limit") {
            "" => 0,
            text => text
                .parse::<i64>()
                .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?,
        };
        let limit = usize::try_from(limit).unwrap_or(0);
        let asked = revision(query.get("resourceVersion"))?;
        let rule = query.get("resourceVersionMatch");
        let token = query.get("continue");
        check_match(rule, asked, token)?;
        let topic = self.store.topic(&served.topic);
        let prefix = served.prefix(namespace);
        let (snapshot, list_revision, after): (Arc<Snapshot>, i64, Option<String>) = if token.is_empty() {
            let revision = asked.unwrap_or(0);
            self.reach(revision).await?;
            let seen = self.store.revision();
            if rule == "Exact" {
                let at = topic.snapshot_at(revision).map_err(|_| too_old(revision))?;
                (at, revision, None)
            } else {
                let now = topic.snapshot();
                let revision = now.revision.max(seen);
                (now, revision, None)
            }
        } else {
            let (revision, start) = read_token(token)?;
            let after = format!("{prefix}{start}");
            if revision < 0 {
                (topic.snapshot(), self.store.revision(), Some(after))
            } else {
                let at = topic.snapshot_at(revision).map_err(|_| expired(&start))?;
                (at, revision, Some(after))
            }
        };
        let mut rest = snapshot.range(&prefix, after.as_deref()).filter(|r| selection.holds(served, r));
        let (mut records, mut next, mut remaining) = (Vec::new(), String::new(), None);
        if limit == 0 {
            records.extend(rest.cloned());
        } else {
            records.extend(rest.by_ref().take(limit).cloned());
            let left = rest.count();
            if let (true, Some(last)) = (left > 0, records.last()) {
                next = write_token(list_revision, last.key.strip_prefix(&prefix).unwrap_or_default());
                // With selectors upstream does not count what it has not read.
                remaining = selection.is_all().then_some(left);
            }
        }
        Ok(Page { records, revision: list_revision, next, remaining })
    }
}

fn check_match(rule: &str, asked: Option<i64>, token: &str) -> Result<(), Status> {
    let invalid = |value: &str, why: &str| {
        let error =
            trireme_schema::field::Error::forbidden(&trireme_schema::field::Path::new("resourceVersionMatch"), why);
        let _ = value;
        Err(Status::invalid("meta.k8s.io", "ListOptions", "", &[error]))
    };
    match rule {
        "" => Ok(()),
        "Exact" | "NotOlderThan" => match (asked, token.is_empty()) {
            (_, false) => invalid(rule, "resourceVersionMatch is forbidden when continue is provided"),
            (None, _) => invalid(rule, "resourceVersionMatch is forbidden unless resourceVersion is provided"),
            (Some(0), _) if rule == "Exact" => {
                invalid(rule, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")
            }
            _ => Ok(()),
        },
        other => {
            let path = trireme_schema::field::Path::new("resourceVersionMatch");
            let error = trireme_schema::field::Error::not_supported(&path, other, &["Exact", "NotOlderThan", ""]);
            Err(Status::invalid("meta.k8s.io", "ListOptions", "", &[error]))
        }
    }
}

/// 410 for a revision whose events are gone.
pub(crate) fn too_old(revision: i64) -> Status {
    Status::expired(format!("The resourceVersion for the provided list is too old: {revision}"))
}

fn expired(start: &str) -> Status {
    let mut status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    // The token by which a client may go on without consistency travels in the message's metadata.
    status.details = None;
    let _ = start;
    status
}

fn write_token(revision: i64, start: &str) -> String {
    let token = format!(
        r#"{{"v":"meta.k8s.io/v1","rv":{revision},"start":{}}}"#,
        json::to_string(&Value::from(format!("{start}\u{0}")))
    );
    URL_SAFE_NO_PAD.encode(token)
}

fn read_token(token: &str) -> Result<(i64, String), Status> {
    let bad = |why: &str| Status::bad_request(format!("continue key is not valid: {why}"));
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|e| bad(&e.to_string()))?;
    let value = json::parse(&bytes).map_err(|e| bad(&e.to_string()))?;
    if value.str_at(&["v"]) != "meta.k8s.io/v1" {
        return Err(bad("server does not recognize this encoded version"));
    }
    let start = value.str_at(&["start"]);
    if start.is_empty() {
        return Err(bad("encoded start key empty (version meta.k8s.io/v1)"));
    }
    let revision = value
        .int_at(&["rv"])
        .filter(|r| *r != 0)
        .ok_or_else(|| bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)"))?;
    Ok((revision, start.trim_end_matches('\u{0}').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_bad_ones_are_refused() {
        assert_eq!(read_token(&write_token(7, "default/a")).unwrap(), (7, "default/a".to_owned()));
        for bad in ["x", "e30", "!!"] {
            assert_eq!(read_token(bad).unwrap_err().code, 400);
        }
    }
}
