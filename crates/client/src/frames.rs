//! The body of a watch: a line for each event.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http_body_util::BodyExt;
use hyper::body::Body;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Error, WatchEvent};

/// A watch without any event or bookmark for this long is taken for dead; the server sends bookmarks every minute.
const SILENCE: Duration = Duration::from_secs(150);

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct BookmarkObject {
    metadata: BookmarkMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMeta {
    resource_version: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

/// Cuts a watch's body into its lines and decodes each.
pub fn events<B>(body: B) -> impl Stream<Item = Result<WatchEvent, Error>> + Send
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: std::fmt::Display + Send,
{
    let state = (body, BytesMut::new());
    futures::stream::try_unfold(state, |(mut body, mut buffer)| async move {
        let mut searched = 0;
        loop {
            if let Some(end) = buffer.get(searched..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n')) {
                let line = buffer.split_to(searched + end + 1);
                if line.iter().all(u8::is_ascii_whitespace) {
                    searched = 0;
                    continue;
                }
                return decode(&line).map(|event| Some((event, (body, buffer))));
            }
            searched = buffer.len();
            let frame = tokio::time::timeout(SILENCE, body.frame()).await.map_err(|_| Error::Deadline(SILENCE))?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(Error::Unreachable(error.to_string())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    })
}

fn decode(line: &[u8]) -> Result<WatchEvent, Error> {
    let wrong = |source| Error::Decode { what: "a watch event".to_owned(), source };
    let frame: Frame<'_> = serde_json::from_slice(line).map_err(wrong)?;
    let object = frame.object.get();
    match frame.kind {
        "ADDED" | "MODIFIED" => Ok(WatchEvent::Applied(Bytes::copy_from_slice(object.as_bytes()))),
        "DELETED" => Ok(WatchEvent::Deleted(Bytes::copy_from_slice(object.as_bytes()))),
        "BOOKMARK" => {
            let bookmark: BookmarkObject = serde_json::from_str(object).map_err(wrong)?;
            let end = bookmark.metadata.annotations.get("k8s.io/initial-events-end");
            Ok(WatchEvent::Bookmark {
                resource_version: bookmark.metadata.resource_version,
                initial_events_end: end.is_some_and(|value| value == "true"),
            })
        }
        _ => Err(Error::from_answer(http::StatusCode::INTERNAL_SERVER_ERROR, object.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_decoded_by_their_type() {
        let applied = decode(br#"{"type":"ADDED","object":{"a":1}}"#).unwrap();
        assert_eq!(applied, WatchEvent::Applied(Bytes::from_static(br#"{"a":1}"#)));
        let bookmark = decode(
            br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7","annotations":{"k8s.io/initial-events-end":"true"}}}}"#,
        );
        assert_eq!(bookmark.unwrap(), WatchEvent::Bookmark { resource_version: "7".into(), initial_events_end: true });
        let expired =
            decode(br#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","code":410,"reason":"Expired"}}"#);
        assert!(expired.unwrap_err().is_expired());
        assert!(decode(b"{").is_err());
    }
}
