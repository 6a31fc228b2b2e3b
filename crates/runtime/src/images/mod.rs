//! Images: from a name in a registry to a mounted root file system.
//!
//! A [`Reference`] names an image; a pull resolves it to documents and layers, which land by [`Digest`] in the content
//! store, are unpacked once each into a snapshot, and are remembered as an [`Image`]. [`Images`] is the front door.

mod blobs;
mod build;
mod challenge;
mod collect;
mod credentials;
mod decompress;
mod digest;
mod error;
mod export;
mod fetch;
mod files;
mod import;
mod manifest;
mod options;
mod overlay;
mod platform;
mod proxy;
mod pull;
mod record;
mod records;
mod reference;
mod registries;
mod registry;
mod rootfs;
mod service;
mod snapshots;
mod store;
mod tarball;
mod tree;
mod trust;
mod unpack;
mod usage;
mod wire;

pub use credentials::{Credentials, DockerConfig};
pub use digest::{Digest, DigestError};
pub use error::{ErrorClass, ImageError, Result};
pub use manifest::{Descriptor, Platform, RunConfig};
pub use options::{
    BuildEntry, BuildRequest, BuildSource, CollectPolicy, Collected, ImagesOptions, Progress, Proxy, PullEvent,
    PullLimits, PullRequest, Rootfs,
};
pub use record::{Image, ImageUser, Usage};
pub use reference::Reference;
pub use registries::{HostConfig, Mirror, Registries, TlsConfig};
pub use service::Images;
