use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::Error;

/// A request as HTTP shapes it; the URI holds path and query only.
pub type Request = http::Request<Bytes>;
/// An answer with its whole body.
pub type Response = http::Response<Bytes>;
/// The events of a watch. The stream ends when the server ends the watch.
pub type WatchStream = BoxStream<'static, Result<WatchEvent, Error>>;

/// Which objects a watch is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Path of the collection, such as `/api/v1/pods`.
    pub collection: String,
    /// Label selector in its text form.
    pub labels: Option<String>,
    /// Field selector in its text form.
    pub fields: Option<String>,
    /// Whether the caller reads nothing but metadata. A transport may then send less than the whole object.
    pub metadata_only: bool,
}

/// One event of a watch. The bytes are the object as JSON; in process they are shared with the server's cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// The object was there at the start, was added, or was changed.
    Applied(Bytes),
    /// The object is gone, or left the selection; this was its last state.
    Deleted(Bytes),
    /// Everything up to this revision has been delivered.
    Bookmark {
        /// The revision up to which the stream is complete.
        resource_version: String,
        /// The objects that were there at the start have all been delivered (once per watch).
        initial_events_end: bool,
    },
}

/// What carries calls to an API server, on behalf of one user.
pub trait Transport: Send + Sync + 'static {
    /// Sends one request and waits for the whole answer. An answer with an error status is `Ok` here.
    fn send(&self, request: Request) -> BoxFuture<'static, Result<Response, Error>>;

    /// Watches a selection. With `since` the events after that resource version; without, first every object of the
    /// selection as [`WatchEvent::Applied`], then a bookmark with `initial_events_end`, then the changes.
    fn watch(&self, selection: Selection, since: Option<String>) -> WatchStream;
}
