use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use trireme_client::{Client, Informer, Informers, Kind, Recorder};

use crate::{Clock, Options};

/// Gives the client that acts as a service account of `kube-system`, or as the controller manager itself.
pub type Clients = Arc<dyn Fn(Option<&str>) -> Client + Send + Sync>;

/// What every controller is made from.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) clients: Clients,
    pub(crate) informers: Arc<Informers>,
    pub(crate) options: Arc<Options>,
    pub(crate) clock: Clock,
    pub(crate) shutdown: CancellationToken,
}

impl Context {
    /// The shared informer of a kind.
    pub(crate) fn informer<K: Kind>(&self) -> Informer<K> {
        self.informers.get::<K>()
    }

    /// The same, acting as a service account.
    pub(crate) fn acting_as(&self, account: Option<&str>) -> Self {
        Self { client: (self.clients)(account), ..self.clone() }
    }

    /// A recorder of events that come from a component.
    pub(crate) fn recorder(&self, component: &str) -> Recorder {
        Recorder::new(self.client.clone(), component, "")
    }
}
