use std::ops::Deref;
use std::sync::Arc;

use trireme_client::{Key, ObjectRef};

use crate::resources::BadQuantity;
use crate::shape::{PodShape, Shapes};
use crate::view;

/// What scheduling keeps of a pod: who it is, and its shape, to which it derefs.
#[derive(Clone, Debug)]
pub struct PodInfo {
    /// Namespace and name.
    pub key: Key,
    /// Unique id.
    pub uid: Box<str>,
    /// Resource version, for events.
    pub resource_version: Box<str>,
    /// The node that the pod is bound to, according to the API.
    pub node: Option<Box<str>>,
    /// The node on which room is being made for the pod.
    pub nominated: Option<Box<str>>,
    /// When the pod was made, in seconds since 1970.
    pub created: i64,
    /// When the pod was started, in seconds since 1970.
    pub started: Option<i64>,
    /// Whether the pod is being deleted.
    pub terminating: bool,
    /// Whether the pod has ended because somebody preempts it (condition `DisruptionTarget`).
    pub preempted: bool,
    /// All that placement asks.
    pub shape: Arc<PodShape>,
}

impl Deref for PodInfo {
    type Target = PodShape;

    fn deref(&self) -> &PodShape {
        &self.shape
    }
}

impl PodInfo {
    /// Reads a pod.
    ///
    /// # Errors
    /// A quantity that is none.
    pub fn read(pod: view::Pod, shapes: &mut Shapes) -> Result<Self, BadQuantity> {
        let shape = shapes.intern(PodShape::read(&pod)?);
        let (meta, status) = (pod.metadata, pod.status);
        let named = |name: Box<str>| (!name.is_empty()).then_some(name);
        let preempted = |c: &view::Condition| &*c.kind == "DisruptionTarget" && &*c.reason == "PreemptionByScheduler";
        Ok(Self {
            key: Key { namespace: meta.namespace, name: meta.name },
            uid: meta.uid,
            resource_version: meta.resource_version,
            node: named(pod.spec.node_name),
            nominated: named(status.nominated_node_name),
            created: meta.creation_timestamp.as_deref().and_then(seconds).unwrap_or(0),
            started: status.start_time.as_deref().and_then(seconds),
            terminating: meta.deletion_timestamp.is_some(),
            preempted: status.conditions.iter().any(preempted),
            shape,
        })
    }

    /// What events are about.
    pub fn reference(&self) -> ObjectRef {
        ObjectRef {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: self.key.namespace.to_string(),
            name: self.key.name.to_string(),
            uid: self.uid.to_string(),
            resource_version: self.resource_version.to_string(),
            field_path: String::new(),
        }
    }
}

fn seconds(time: &str) -> Option<i64> {
    time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}
