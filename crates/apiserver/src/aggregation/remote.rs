//! A server that is not this one: what is known of it, and how it is asked.

use super::condition::Availability;
use super::locate::{Backing, Routing};
use super::openapi::{Specs, V3};
use super::peer::Peer;
use super::service::Backend;
use super::{service, versions};
use crate::authn::tell_who_asks;
use crate::discovery::Packed;
use crate::server::ApiServer;
use crate::user::User;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use parking_lot::Mutex;
use rustls::client::ResolvesClientCert;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use trireme_client::pool;
use trireme_schema::GroupVersion;

/// An answer of such a server to ourselves has no more bytes.
const LARGEST: usize = 32 << 20;

/// The server of a group and version, for as long as its APIService leads to the same place.
pub(crate) struct Remote {
    pub gv: GroupVersion,
    pub backend: Backend,
    peer: Result<Peer, String>,
    routing: Routing,
    /// What it told of its resources.
    pub(super) known: ArcSwap<versions::Known>,
    /// What it told of the shape of its objects.
    pub(super) specs: ArcSwap<Specs>,
    /// What was said last of whether it is available.
    pub(super) said: Mutex<Option<Availability>>,
    /// Somebody else said otherwise.
    pub(super) look: Notify,
    /// It has become available, or is so no more.
    pub(super) refresh: [Notify; 2],
    /// Its APIService is gone, or leads elsewhere.
    pub(super) ended: CancellationToken,
}

/// Why there is no answer to pass on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unready {
    /// Its certificates cannot be checked.
    #[error("{0}")]
    Transport(String),
    /// Its service leads nowhere.
    #[error("{0}")]
    Location(String),
}

impl Remote {
    pub fn new(
        gv: GroupVersion,
        backend: Backend,
        routing: Routing,
        shown: Option<Arc<dyn ResolvesClientCert>>,
    ) -> Self {
        let peer = Peer::new(&backend, shown);
        let known = ArcSwap::from_pointee(versions::Known::default());
        let (specs, said) = (ArcSwap::default(), Mutex::default());
        let refresh = [Notify::new(), Notify::new()];
        Self {
            gv,
            backend,
            peer,
            routing,
            known,
            specs,
            said,
            look: Notify::new(),
            refresh,
            ended: CancellationToken::new(),
        }
    }

    /// What is known of its resources.
    pub fn known(&self) -> Arc<versions::Known> {
        self.known.load_full()
    }

    /// The v3 document that was made for it.
    pub fn made_document(&self) -> Option<Arc<Packed>> {
        match self.specs.load().v3.as_ref()? {
            V3::Made(document) => Some(document.clone()),
            V3::There(_) => None,
        }
    }

    /// Whether it has a v3 document itself.
    pub fn has_document(&self) -> bool {
        matches!(self.specs.load().v3, Some(V3::There(_)))
    }

    /// Where its documents and objects are.
    pub fn path(&self) -> String {
        service::path_of(&self.gv.group, &self.gv.version)
    }

    /// The name of its APIService.
    pub fn name(&self) -> String {
        service::name_of(&self.gv.group, &self.gv.version)
    }

    /// How to speak to it, and where it is now.
    ///
    /// # Errors
    /// When its APIService or its service lead nowhere.
    pub(super) fn place(&self, server: &ApiServer) -> Result<(&Peer, String), Unready> {
        let peer = self.peer.as_ref().map_err(|why| Unready::Transport(why.clone()))?;
        let backing = Backing::of(server, &self.backend);
        let authority = backing.authority(&self.backend, self.routing).map_err(Unready::Location)?;
        Ok((peer, authority))
    }

    /// Asks it something for ourselves; the answer may be of any status.
    ///
    /// # Errors
    /// In upstream's words: when there is none.
    pub async fn ask(
        &self,
        server: &ApiServer,
        user: &User,
        path: &str,
        headers: &[(header::HeaderName, &str)],
        within: Duration,
    ) -> Result<Response<Bytes>, String> {
        let (peer, authority) = self.place(server).map_err(|e| e.to_string())?;
        let url = format!("https://{authority}{path}");
        let mut request = Request::get(&url).body(pool::whole("")).map_err(|e| e.to_string())?;
        for (name, value) in headers {
            request.headers_mut().insert(name, HeaderValue::from_str(value).map_err(|e| e.to_string())?);
        }
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static("kube-aggregator"));
        tell_who_asks(request.headers_mut(), user);
        peer.ask(request, LARGEST, within).await.map_err(|why| format!("Get {url:?}: {why}"))
    }

    /// Where it is now, as a URL.
    ///
    /// # Errors
    /// When it is nowhere.
    pub fn url(&self, server: &ApiServer) -> Result<String, String> {
        let (_, authority) = self.place(server).map_err(|e| e.to_string())?;
        Ok(format!("https://{authority}{}", self.path()))
    }
}
