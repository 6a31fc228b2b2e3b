//! What all parts of a simulation share.

use crate::access::Access;
use crate::calls::{Calls, Counted};
use crate::options::Options;
use crate::tally::Tally;
use bytes::Bytes;
use http::Method;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trireme_client::{Client, Error, Response, Transport};

/// So many nodes register at a time.
const REGISTERING: usize = 64;

pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) access: Arc<dyn Access>,
    pub(crate) tally: Tally,
    pub(crate) calls: Arc<Calls>,
    pub(crate) began: Instant,
    pub(crate) stop: CancellationToken,
    pub(crate) registering: Semaphore,
}

/// What a random sequence is for: each use has its own, so that one does not change what others draw.
#[derive(Clone, Copy)]
pub(crate) enum Chance {
    Life = 1,
    Pods = 2,
}

impl World {
    pub(crate) fn new(options: Options, access: Arc<dyn Access>) -> Arc<Self> {
        Arc::new(Self {
            options,
            access,
            tally: Tally::default(),
            calls: Arc::default(),
            began: Instant::now(),
            stop: CancellationToken::new(),
            registering: Semaphore::new(REGISTERING),
        })
    }

    /// The client of a node.
    pub(crate) fn node(&self, index: usize, name: &str) -> Result<Client, Error> {
        let inner = self.access.node(index, name)?;
        let counted: Arc<dyn Transport> = Arc::new(Counted { inner, calls: Arc::clone(&self.calls) });
        Ok(Client::new(counted, &self.agent()))
    }

    /// The administrator's client. His calls are not those of nodes, and are not counted.
    pub(crate) fn admin(&self) -> Client {
        Client::new(self.access.admin(), &self.agent())
    }

    fn agent(&self) -> String {
        format!("trireme-simulate/{}", self.options.version)
    }

    /// The random sequence of a node for a use.
    pub(crate) fn chance(&self, index: usize, of: Chance) -> SmallRng {
        let node = (index as u64).wrapping_mul(4).wrapping_add(of as u64);
        // Neighbouring seeds give sequences that have nothing in common.
        SmallRng::seed_from_u64(self.options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(node))
    }
}

/// An object.
pub(crate) const JSON: &str = "application/json";
/// A merge patch.
pub(crate) const MERGE: &str = "application/merge-patch+json";
/// A strategic merge patch.
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// Sends an object or a patch.
pub(crate) async fn send(
    client: &Client,
    method: Method,
    path: &str,
    content_type: &'static str,
    body: &Value,
) -> Result<Response, Error> {
    client.request(method, path, Some((content_type, Bytes::from(body.to_string())))).await
}
