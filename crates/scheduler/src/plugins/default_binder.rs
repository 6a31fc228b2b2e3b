use std::sync::Arc;

use k8s_openapi::api::core::v1::{Binding, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status as ApiStatus};
use trireme_client::Client;

use crate::framework::{Plugin, Point, Points, Status, Work};
use crate::{PodInfo, view};

/// Binds pods through the API.
pub struct DefaultBinder {
    client: Option<Client>,
}

impl DefaultBinder {
    /// Calls are made by this client; without one nothing is bound.
    pub fn new(client: Option<Client>) -> Self {
        Self { client }
    }
}

impl Plugin for DefaultBinder {
    fn name(&self) -> &'static str {
        "DefaultBinder"
    }

    fn points(&self) -> Points {
        Points::of(&[Point::Bind])
    }

    fn bind(&self, pod: &Arc<PodInfo>, node: &str) -> Option<Work> {
        let client = self.client.as_ref()?;
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(pod.key.name.to_string()),
                namespace: Some(pod.key.namespace.to_string()),
                uid: Some(pod.uid.to_string()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let api = client.namespaced::<view::Pod>(&pod.key.namespace);
        let name = pod.key.name.clone();
        Some(Box::pin(async move {
            let bound = api.post::<_, ApiStatus>(&name, "binding", &binding).await;
            bound.map(drop).map_err(|error| Status::error(error.to_string()))
        }))
    }
}
