use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use trireme_client::Key;

use crate::{NodeSpec, PodInfo};

/// What kind of object changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A pod that is on a node.
    AssignedPod,
    /// A pod that waits for a node.
    UnscheduledPod,
    /// The pod itself that waits.
    TargetPod,
    /// A node.
    Node,
    /// A namespace.
    Namespace,
    /// A PersistentVolume.
    PersistentVolume,
    /// A PersistentVolumeClaim.
    PersistentVolumeClaim,
    /// A StorageClass.
    StorageClass,
    /// A CSINode.
    CsiNode,
    /// A CSIDriver.
    CsiDriver,
    /// A CSIStorageCapacity.
    CsiStorageCapacity,
    /// A VolumeAttachment.
    VolumeAttachment,
    /// A ResourceClaim.
    ResourceClaim,
    /// A ResourceSlice.
    ResourceSlice,
    /// A DeviceClass.
    DeviceClass,
    /// A DeviceTaintRule.
    DeviceTaintRule,
    /// A PodGroup.
    PodGroup,
}

/// How objects change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions(u32);

/// A plugin's word that changes of this kind may help pods that it rejected.
#[derive(Clone, Copy, Debug)]
pub struct Interest {
    /// Of which objects.
    pub source: Source,
    /// Which changes.
    pub actions: Actions,
}

/// Something changed in the cluster.
#[derive(Clone, Debug)]
pub struct ClusterEvent {
    /// What kind of object.
    pub source: Source,
    /// How it changed.
    pub actions: Actions,
    /// The object before and after.
    pub change: Change,
}

/// An object before and after; never both absent.
#[derive(Clone, Debug)]
pub enum Change {
    /// A pod.
    Pod {
        /// Before.
        old: Option<Arc<PodInfo>>,
        /// After.
        new: Option<Arc<PodInfo>>,
    },
    /// A node.
    Node {
        /// Its name.
        name: Box<str>,
        /// Before.
        old: Option<Arc<NodeSpec>>,
        /// After.
        new: Option<Arc<NodeSpec>>,
    },
    /// Any other object.
    Object {
        /// Before.
        old: Option<Object>,
        /// After.
        new: Option<Object>,
    },
}

/// An object that only some plugins know how to read.
#[derive(Clone, Debug)]
pub struct Object {
    /// Namespace and name.
    pub key: Key,
    /// The object as JSON.
    pub bytes: Bytes,
}

/// What a change means for a pod that was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// It may fit now.
    Queue,
    /// Nothing.
    Skip,
}

// === impl Actions ===

impl Actions {
    /// The object is new.
    pub const ADD: Self = Self(1);
    /// The object is gone.
    pub const DELETE: Self = Self(1 << 1);
    /// What a node offers.
    pub const NODE_ALLOCATABLE: Self = Self(1 << 2);
    /// A node's labels.
    pub const NODE_LABEL: Self = Self(1 << 3);
    /// A node's taints, or whether it is cordoned.
    pub const NODE_TAINT: Self = Self(1 << 4);
    /// The features that a node says it has.
    pub const NODE_FEATURES: Self = Self(1 << 5);
    /// A pod's labels.
    pub const POD_LABEL: Self = Self(1 << 6);
    /// A pod asks for less.
    pub const POD_SCALE_DOWN: Self = Self(1 << 7);
    /// A pod has no scheduling gates any more.
    pub const POD_GATES_GONE: Self = Self(1 << 8);
    /// A pod's tolerations.
    pub const POD_TOLERATIONS: Self = Self(1 << 9);
    /// A pod's claims were made of their templates.
    pub const POD_GENERATED_CLAIMS: Self = Self(1 << 10);
    /// Any other change.
    pub const OTHER: Self = Self(1 << 11);
    /// Any change of an object that stays.
    pub const UPDATE: Self = Self(!(1 | 1 << 1));

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether some are common.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds an action if a condition holds.
    #[must_use]
    pub const fn also(self, action: Self, condition: bool) -> Self {
        if condition { self.and(action) } else { self }
    }

    /// Name, as metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ADD => "Add",
            Self::DELETE => "Delete",
            Self::NODE_ALLOCATABLE => "UpdateNodeAllocatable",
            Self::NODE_LABEL => "UpdateNodeLabel",
            Self::NODE_TAINT => "UpdateNodeTaint",
            Self::NODE_FEATURES => "UpdateNodeDeclaredFeature",
            Self::POD_LABEL => "UpdatePodLabel",
            Self::POD_SCALE_DOWN => "UpdatePodScaleDown",
            Self::POD_GATES_GONE => "UpdatePodSchedulingGatesEliminated",
            Self::POD_TOLERATIONS => "UpdatePodToleration",
            Self::POD_GENERATED_CLAIMS => "UpdatePodGeneratedResourceClaim",
            _ => "Update",
        }
    }
}

impl Source {
    /// Name, as metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AssignedPod => "AssignedPod",
            Self::UnscheduledPod => "UnscheduledPod",
            Self::TargetPod => "TargetPod",
            Self::Node => "Node",
            Self::Namespace => "Namespace",
            Self::PersistentVolume => "PersistentVolume",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::StorageClass => "StorageClass",
            Self::CsiNode => "CSINode",
            Self::CsiDriver => "CSIDriver",
            Self::CsiStorageCapacity => "CSIStorageCapacity",
            Self::VolumeAttachment => "VolumeAttachment",
            Self::ResourceClaim => "ResourceClaim",
            Self::ResourceSlice => "ResourceSlice",
            Self::DeviceClass => "DeviceClass",
            Self::DeviceTaintRule => "DeviceTaintRule",
            Self::PodGroup => "PodGroup",
        }
    }
}

// === impl Interest ===

impl Interest {
    /// Changes of a kind.
    pub const fn of(source: Source, actions: Actions) -> Self {
        Self { source, actions }
    }

    /// Whether an event is meant.
    pub fn covers(&self, event: &ClusterEvent) -> bool {
        self.source == event.source && self.actions.meets(event.actions)
    }
}

// === impl ClusterEvent ===

impl ClusterEvent {
    /// The pod that changed, as it is now.
    pub fn pod(&self) -> Option<&Arc<PodInfo>> {
        match &self.change {
            Change::Pod { new, .. } => new.as_ref(),
            _ => None,
        }
    }

    /// The pod that changed, as it was before.
    pub fn old_pod(&self) -> Option<&Arc<PodInfo>> {
        match &self.change {
            Change::Pod { old, .. } => old.as_ref(),
            _ => None,
        }
    }

    /// The node that changed, as it is now, with its name.
    pub fn node(&self) -> Option<(&str, &NodeSpec)> {
        match &self.change {
            Change::Node { name, new, .. } => Some((name, new.as_deref()?)),
            _ => None,
        }
    }

    /// The node that changed, as it was before.
    pub fn old_node(&self) -> Option<&NodeSpec> {
        match &self.change {
            Change::Node { old, .. } => old.as_deref(),
            _ => None,
        }
    }

    /// The object that changed, as it is now.
    pub fn object(&self) -> Option<&Object> {
        match &self.change {
            Change::Object { new, .. } => new.as_ref(),
            _ => None,
        }
    }

    /// The object that changed, as it was before.
    pub fn old_object(&self) -> Option<&Object> {
        match &self.change {
            Change::Object { old, .. } => old.as_ref(),
            _ => None,
        }
    }

    /// The label of the event in metrics.
    pub fn label(&self) -> String {
        format!("{}{}", self.source.name(), self.actions.name())
    }
}

// === impl Object ===

impl Object {
    /// Reads the object; `None` when it is not of the shape.
    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.bytes).ok()
    }
}
