//! Lists: from a snapshot, in pages, as references to stored bytes.

use crate::catalogue::Served;
use crate::options::{self, ListOptions};
use crate::selection::Selection;
use crate::server::ApiServer;
use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use std::sync::Arc;
use std::time::Duration;
use trireme_schema::{Cause, Details, Status, Value, json};
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
    /// For revisions that are gone or not there, tokens that are none.
    pub(crate) async fn page(
        &self,
        served: &Served,
        namespace: &str,
        options: &ListOptions,
        selection: &Selection,
    ) -> Result<Page, Status> {
        let invalid = |why: String| Status::bad_request(format!("invalid resource version: {why}"));
        let asked = options::revision(&options.revision).map_err(invalid)?;
        let topic = self.store.topic(&served.topic);
        let prefix = served.prefix(namespace);
        let mut limit = options.limit;
        let (snapshot, list_revision, after): (Arc<Snapshot>, i64, Option<String>) = if options.token.is_empty() {
            let revision = asked.unwrap_or(0);
            self.reach(revision).await?;
            let seen = self.store.revision();
            if options.rule == "Exact" {
                let at = topic.snapshot_at(revision).map_err(|_| too_old())?;
                (at, revision, None)
            } else {
                // Whatever there is, is given whole (upstream's watch cache does not page).
                if asked == Some(0) {
                    limit = 0;
                }
                let now = topic.snapshot();
                let revision = now.revision.max(seen);
                (now, revision, None)
            }
        } else {
            let (revision, start) = read_token(&options.token)?;
            if asked.is_some_and(|asked| asked != 0) {
                return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
            }
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
        let records = self.in_version(served, records).await?;
        Ok(Page { records, revision: list_revision, next, remaining })
    }
}

/// 410 for a state that is gone.
fn too_old() -> Status {
    Status::expired("The resourceVersion for the provided list is too old.")
}

/// 410 for a token whose state is gone, with one by which a client may go on without consistency.
fn expired(start: &str) -> Status {
    let mut status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    let next = write_token(LATEST, start);
    status.details = Some(Box::new(Details { next, ..Details::default() }));
    status
}

/// In a token: not a state of the past, but whatever is there.
const LATEST: i64 = -1;

fn write_token(revision: i64, start: &str) -> String {
    let token = format!(
        r#"{{"v":"meta.k8s.io/v1","rv":{revision},"start":{}}}"#,
        json::to_string(&Value::from(format!("{start}\u{0}")))
    );
    URL_SAFE_NO_PAD.encode(token)
}

fn read_token(token: &str) -> Result<(i64, String), Status> {
    let bad = |why: &str| Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
    let bytes = LENIENT.decode(token).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _) => at,
            _ => token.len().saturating_sub(1),
        };
        bad(&format!("illegal base64 data at input byte {at}"))
    })?;
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

/// As Go decodes: bits after the last byte do not matter.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_token_comes_with_one_that_goes_on_from_there() {
        let status = expired("default/a");
        let value = status.to_value();
        let token = value.str_at(&["metadata", "continue"]);
        assert_eq!(read_token(token).unwrap(), (LATEST, "default/a".to_owned()));
        assert_eq!((status.code, value.get("details")), (410, None));
    }

    #[test]
    fn tokens_round_trip_and_bad_ones_are_refused() {
        assert_eq!(read_token(&write_token(7, "default/a")).unwrap(), (7, "default/a".to_owned()));
        for (bad, why) in [
            ("bogus", "illegal base64 data at input byte 4"),
            ("a!", "illegal base64 data at input byte 1"),
            ("e30", "server does not recognize this encoded version"),
        ] {
            let status = read_token(bad).unwrap_err();
            assert_eq!((status.code, status.message.ends_with(why)), (400, true), "{}", status.message);
        }
    }
}
