use std::sync::Arc;

use trireme_client::{Client, Informers};

use crate::Approvals;

/// What plugins are made of that need more than the pod and the picture of the cluster.
#[derive(Clone)]
pub struct Handle {
    /// Calls to the API, as the scheduler.
    pub client: Client,
    /// What is known of the API's objects.
    pub informers: Arc<Informers>,
    /// Pods that wait for approval.
    pub approvals: Approvals,
}
