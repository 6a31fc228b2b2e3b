//! What the running Trireme says about images: one JSON document a line.

use serde::{Deserialize, Serialize};
use trireme_runtime::images::{Image, PullEvent};

/// One line of an answer. The last one is `Done` or `Failed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Line {
    /// So many bytes are to come.
    Expected(u64),
    /// So many bytes of one part are here.
    Arrived {
        /// The part.
        part: String,
        /// Its bytes.
        bytes: u64,
    },
    /// The images that came.
    Done(Vec<Entry>),
    /// Why none came.
    Failed(String),
}

/// An image, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its id.
    pub id: String,
    /// Its names with tags.
    pub repo_tags: Vec<String>,
    /// Its names with digests.
    pub repo_digests: Vec<String>,
    /// Bytes.
    pub size: u64,
    /// Whether it is never collected.
    pub pinned: bool,
}

impl Line {
    /// What an event of a pull tells, if anything.
    pub fn of(event: PullEvent) -> Option<Self> {
        match event {
            PullEvent::Resolved { bytes, .. } => Some(Self::Expected(bytes)),
            PullEvent::Fetched { layer, bytes, .. } => Some(Self::Arrived { part: layer.to_string(), bytes }),
            PullEvent::Present { .. } | PullEvent::Unpacked { .. } => None,
        }
    }
}

impl From<&Image> for Entry {
    fn from(image: &Image) -> Self {
        Self {
            id: image.id.to_string(),
            repo_tags: image.repo_tags.clone(),
            repo_digests: image.repo_digests.clone(),
            size: image.size(),
            pinned: image.pinned,
        }
    }
}

impl From<trireme_cri::Image> for Entry {
    fn from(image: trireme_cri::Image) -> Self {
        Self {
            id: image.id,
            repo_tags: image.repo_tags,
            repo_digests: image.repo_digests,
            size: image.size,
            pinned: image.pinned,
        }
    }
}
