//! What is remembered of an image, and of the space it takes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::manifest::{Descriptor, Platform, RunConfig, chain_ids};

/// An image of the local store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// The digest of its config: what CRI calls the image's id.
    pub id: Digest,
    /// `registry/repository:tag`, sorted.
    #[serde(default)]
    pub repo_tags: Vec<String>,
    /// `registry/repository@digest`, sorted. The digest is that of the index where the name led to one.
    #[serde(default)]
    pub repo_digests: Vec<String>,
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its config.
    pub config: Descriptor,
    /// Its layers as they were fetched, the lowest first.
    pub layers: Vec<Descriptor>,
    /// The digests of the uncompressed layers.
    pub diff_ids: Vec<Digest>,
    /// The index through which the manifest was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Descriptor>,
    /// The machine it is made for.
    pub platform: Platform,
    /// How it wants to be run.
    pub run: RunConfig,
    /// When it was made, as its config says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// When it came here.
    pub stored: Timestamp,
    /// When a container was last made of it.
    pub last_used: Timestamp,
    /// Never collected, as CRI's `pinned` says.
    #[serde(default)]
    pub pinned: bool,
}

/// As whom an image wants to run, in CRI's two forms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageUser {
    /// The number, when it is one.
    pub uid: Option<i64>,
    /// The name, when it is not.
    pub username: String,
}

/// Space taken in a file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes on disk.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

// === impl Image ===

impl Image {
    /// The size that clients see: all that was fetched for it.
    pub fn size(&self) -> u64 {
        let layers: u64 = self.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.size));
        layers.saturating_add(self.manifest.size).saturating_add(self.config.size)
    }

    /// The names of its unpacked layers, the lowest first.
    pub fn chain_ids(&self) -> Vec<Digest> {
        chain_ids(&self.diff_ids)
    }

    /// The user of the config; the group after the colon is not part of CRI's answer.
    pub fn user(&self) -> ImageUser {
        let user = self.run.user.split(':').next().unwrap_or_default();
        match user.parse::<i64>() {
            Ok(uid) => ImageUser { uid: Some(uid), username: String::new() },
            Err(_) => ImageUser { uid: None, username: user.to_owned() },
        }
    }

    /// Every blob that it needs.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> {
        let documents = [self.manifest.digest, self.config.digest];
        documents.into_iter().chain(self.index.iter().map(|d| d.digest)).chain(self.layers.iter().map(|d| d.digest))
    }
}

// === impl Usage ===

impl Usage {
    /// The sum.
    pub fn plus(self, other: Usage) -> Usage {
        Usage { bytes: self.bytes.saturating_add(other.bytes), inodes: self.inodes.saturating_add(other.inodes) }
    }
}
