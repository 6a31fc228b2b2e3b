//! The server as a transport for components in its own process: the same pipeline, no network, shared bytes.

mod elsewhere;

use crate::answer::Body;
use crate::authz;
use crate::request::{Query, RequestInfo};
use crate::server::{ApiServer, Incoming};
use crate::user::User;
use crate::watching::Item;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use http_body_util::BodyExt;
use std::sync::Arc;
use trireme_client::{Error, Request, Response, Selection, Transport, WatchEvent, WatchStream};
use trireme_schema::Status;

/// Calls of one user.
#[derive(Clone)]
pub struct InProcess {
    server: Arc<ApiServer>,
    user: Arc<User>,
}

impl ApiServer {
    /// A transport whose calls are those of a user.
    pub fn transport(self: &Arc<Self>, user: User) -> InProcess {
        InProcess { server: self.clone(), user: Arc::new(user) }
    }
}

impl Transport for InProcess {
    fn send(&self, request: Request) -> BoxFuture<'static, Result<Response, Error>> {
        let this = self.clone();
        async move {
            let response = this.serve(request).await;
            let (parts, body) = response.into_parts();
            match body.collect().await {
                Ok(collected) => Ok(Response::from_parts(parts, collected.to_bytes())),
                Err(broken) => Err(Error::Unreachable(broken.to_string())),
            }
        }
        .boxed()
    }

    fn watch(&self, selection: Selection, since: Option<String>) -> WatchStream {
        if self.server.aggregation.elsewhere(&selection.collection).is_some() {
            return elsewhere::watch(self.clone(), selection, since);
        }
        let (server, user) = (self.server.clone(), self.user.clone());
        futures::stream::once(open(server, user, selection, since))
            .map(|opened| match opened {
                Ok(events) => events,
                Err(status) => futures::stream::iter([Err(error(&status))]).boxed(),
            })
            .flatten()
            .boxed()
    }
}

impl InProcess {
    /// Sends a request, as one from the network would be served.
    async fn serve(&self, request: Request) -> http::Response<Body> {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let info = RequestInfo::read(request.method(), request.uri().path(), &query);
        let accept = crate::server::header_text(request.headers(), http::header::ACCEPT);
        let request = request.map(Incoming::Whole);
        self.server.serve(request, info, query, self.user.clone(), &accept).await
    }
}

fn error(status: &Status) -> Error {
    let code = http::StatusCode::from_u16(status.code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    Error::from_answer(code, &trireme_schema::json::to_vec(&status.to_value()))
}

fn escape(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

async fn open(
    server: Arc<ApiServer>,
    user: Arc<User>,
    selection: Selection,
    since: Option<String>,
) -> Result<BoxStream<'static, Result<WatchEvent, Error>>, Status> {
    let mut query = String::from("watch=true&allowWatchBookmarks=true");
    if let Some(labels) = &selection.labels {
        query.push_str(&format!("&labelSelector={}", escape(labels)));
    }
    if let Some(fields) = &selection.fields {
        query.push_str(&format!("&fieldSelector={}", escape(fields)));
    }
    match &since {
        Some(since) => query.push_str(&format!("&resourceVersion={}", escape(since))),
        None => query.push_str("&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"),
    }
    let query = Query::parse(&query);
    let info = RequestInfo::read(&http::Method::GET, &selection.collection, &query);
    authz::check(&server, &user, &authz::Action::of(&info)).await?;
    let served = server.catalogue.find(&info.group, &info.version, &info.resource).ok_or_else(Status::no_such_path)?;
    let watching = server.watch(&served, &info.namespace, &query).await?;
    let events = futures::stream::unfold(watching, |mut watching| async move {
        let item = watching.next().await?;
        let event = match &item {
            Item::Added(_) | Item::Modified(_) => Ok(WatchEvent::Applied(watching.object(&item))),
            Item::Deleted(_) | Item::Left(..) => Ok(WatchEvent::Deleted(watching.object(&item))),
            Item::Bookmark(revision, end) => {
                Ok(WatchEvent::Bookmark { resource_version: revision.to_string(), initial_events_end: *end })
            }
            Item::Failed(status) => Err(error(status)),
        };
        Some((event, watching))
    });
    Ok(events.boxed())
}
