//! Watches of what another server has: its objects as a list, and then its events, which every server can tell.

use super::{InProcess, escape};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::{Method, Response, header};
use http_body_util::{BodyExt, Limited};
use trireme_client::{Error, Request, Selection, WatchEvent, WatchStream, frames};
use trireme_schema::{Value, json};

/// Objects that are asked for at once.
const PAGE: usize = 500;
/// A page has no more bytes.
const LARGEST: usize = 256 << 20;
/// A watch ends after so many seconds, and is made again.
const LIFE: u64 = 480;

/// Watches a selection by asking the server that has it.
pub(super) fn watch(caller: InProcess, selection: Selection, since: Option<String>) -> WatchStream {
    futures::stream::once(async move {
        let (there, since) = match since {
            Some(since) => (Vec::new(), since),
            None => list(&caller, &selection).await?,
        };
        let bookmark = (!there.is_empty())
            .then(|| WatchEvent::Bookmark { resource_version: since.clone(), initial_events_end: true });
        let query =
            format!("watch=true&allowWatchBookmarks=true&timeoutSeconds={LIFE}&resourceVersion={}", escape(&since));
        let events = ask(&caller, &selection, &query, Accept::Objects).await?;
        let begin = there.into_iter().flatten().map(WatchEvent::Applied).chain(bookmark).map(Ok);
        Ok(futures::stream::iter(begin.collect::<Vec<_>>()).chain(frames::events(events.into_body())))
    })
    .try_flatten()
    .boxed()
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Accept {
    Objects,
    List,
}

/// All objects, page by page, and the revision that they are of.
async fn list(caller: &InProcess, selection: &Selection) -> Result<(Vec<Vec<Bytes>>, String), Error> {
    let (mut pages, mut token, mut revision) = (Vec::new(), String::new(), String::new());
    loop {
        let query = format!("limit={PAGE}&continue={}", escape(&token));
        let answer = ask(caller, selection, &query, Accept::List).await?;
        let body = Limited::new(answer.into_body(), LARGEST).collect().await;
        let body = body.map_err(|e| Error::Unreachable(e.to_string()))?.to_bytes();
        let list = json::parse(&body).map_err(|e| Error::Unreachable(format!("{}: {e}", selection.collection)))?;
        pages.push(list.list_at(&["items"]).iter().map(|item| Bytes::from(json::to_vec(item))).collect());
        if revision.is_empty() {
            list.str_at(&["metadata", "resourceVersion"]).clone_into(&mut revision);
        }
        list.at(&["metadata", "continue"]).and_then(Value::as_str).unwrap_or_default().clone_into(&mut token);
        if token.is_empty() {
            return Ok((pages, revision));
        }
    }
}

async fn ask(
    caller: &InProcess,
    selection: &Selection,
    query: &str,
    accept: Accept,
) -> Result<Response<crate::answer::Body>, Error> {
    let mut uri = format!("{}?{query}", selection.collection);
    for (key, value) in [("labelSelector", &selection.labels), ("fieldSelector", &selection.fields)] {
        if let Some(value) = value {
            uri.push_str(&format!("&{key}={}", escape(value)));
        }
    }
    let accept = match (selection.metadata_only, accept) {
        (false, _) => "application/json",
        (true, Accept::Objects) => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
        (true, Accept::List) => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
    };
    let request: Result<Request, _> =
        http::Request::builder().method(Method::GET).uri(uri).header(header::ACCEPT, accept).body(Bytes::new());
    let answer = caller.serve(request.map_err(|e| Error::Request(e.to_string()))?).await;
    if answer.status().is_success() {
        return Ok(answer);
    }
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, LARGEST).collect().await.map_err(|e| Error::Unreachable(e.to_string()))?;
    Err(Error::from_answer(parts.status, &body.to_bytes()))
}
