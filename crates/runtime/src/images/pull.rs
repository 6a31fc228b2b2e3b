//! From a name to an image of the store: resolve, fetch, unpack, remember.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::digest::Digest;
use super::error::{ErrorClass, ImageError, Result};
use super::fetch::{Outcome, fetch, fetch_document};
use super::manifest::{ConfigFile, Descriptor, Document, MAX_CONFIG, MAX_MANIFEST, Manifest};
use super::options::{Progress, PullEvent, PullRequest};
use super::platform::choose;
use super::record::Image;
use super::reference::Reference;
use super::registry::{ManifestName, Session};
use super::store::{Lease, Store, blocking};

/// Indexes within indexes that are followed.
const MAX_INDEXES: usize = 4;

/// Pulls an image.
pub async fn pull(store: &Arc<Store>, request: PullRequest) -> Result<Arc<Image>> {
    let reference = Reference::parse(&request.image)?;
    let name = reference.to_string();
    let work = pull_reference(store, reference, request);
    let result = match store.options.limits.total {
        None => work.await,
        Some(total) => within(&name, total, work).await,
    };
    result.map_err(|source| ImageError::Pull { reference: name, source: Box::new(source) })
}

async fn within<T>(what: &str, total: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| ImageError::Deadline { what: what.to_owned(), seconds: total.as_secs() };
    tokio::time::timeout(total, work).await.map_err(late)?
}

async fn pull_reference(store: &Arc<Store>, reference: Reference, request: PullRequest) -> Result<Arc<Image>> {
    let session = Arc::new(Session::new(store.wire.clone(), reference.clone(), request.credentials)?);
    let lease = store.lease();
    let resolved = resolve(store, &session, &reference, &lease).await?;
    let manifest = &resolved.manifest;
    lease.hold([manifest.config.digest]);
    let what = format!("config {} of {reference}", manifest.config.digest);
    let bytes = fetch_document(store, &session, "config", &manifest.config, MAX_CONFIG).await?;
    let config = ConfigFile::parse(&what, &bytes, manifest.layers.len())?;
    let chain = config.chain_ids();
    lease.hold(manifest.layers.iter().map(|layer| layer.digest).chain(chain.iter().copied()));
    let bytes = manifest.layers.iter().fold(0u64, |sum, layer| sum.saturating_add(layer.size));
    if let Some(progress) = &request.progress {
        progress(PullEvent::Resolved { layers: manifest.layers.len(), bytes });
    }
    tracing::debug!(image = %reference, layers = manifest.layers.len(), bytes, "image resolved");
    fetch_layers(store, &session, manifest, &config, &lease, request.progress.as_ref()).await?;
    let top = resolved.index.as_ref().unwrap_or(&resolved.descriptor).digest;
    let names = Names { tag: reference.repo_tag(), digest: Some(reference.repo_digest(top)) };
    let image = assemble(&resolved, config, names);
    let store = store.clone();
    // The lease ends when the record holds the content.
    let image = blocking(move || {
        let _lease = lease;
        store.remember(image)
    })
    .await?;
    tracing::info!(image = %reference, id = %image.id, size = image.size(), "image pulled");
    Ok(image)
}

/// A manifest and how it was found.
pub struct Resolved {
    /// The index that was named, if it was one.
    pub index: Option<Descriptor>,
    /// The manifest's own descriptor.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
}

/// The names of an image to be.
#[derive(Default)]
pub struct Names {
    /// `registry/repository:tag`.
    pub tag: Option<String>,
    /// `registry/repository@digest`.
    pub digest: Option<String>,
}

/// The record of an image.
pub fn assemble(resolved: &Resolved, config: ConfigFile, names: Names) -> Image {
    let now = Timestamp::now();
    let manifest = &resolved.manifest;
    Image {
        id: manifest.config.digest,
        repo_tags: names.tag.into_iter().collect(),
        repo_digests: names.digest.into_iter().collect(),
        manifest: resolved.descriptor.clone(),
        config: manifest.config.clone(),
        layers: manifest.layers.clone(),
        diff_ids: config.rootfs.diff_ids,
        index: resolved.index.clone(),
        platform: config.platform,
        run: config.config,
        created: config.created,
        stored: now,
        last_used: now,
        pinned: false,
    }
}

async fn resolve(store: &Arc<Store>, session: &Session, reference: &Reference, lease: &Arc<Lease>) -> Result<Resolved> {
    let fetched = session.manifest(&ManifestName::of(reference)).await?;
    let mut descriptor =
        Descriptor::new(fetched.media_type.unwrap_or_default(), fetched.digest, fetched.bytes.len() as u64);
    let mut bytes = fetched.bytes;
    let mut index = None;
    for _ in 0..MAX_INDEXES {
        let what = format!("manifest {} of {reference}", descriptor.digest);
        let document = Document::parse(&what, Some(descriptor.media_type.as_str()), &bytes)?;
        lease.hold([descriptor.digest]);
        let blobs = store.blobs.clone();
        blocking(move || blobs.put(&bytes)).await?;
        match document {
            Document::Manifest(manifest) => {
                descriptor.media_type = manifest.media_type.clone();
                return Ok(Resolved { index, descriptor, manifest });
            }
            Document::Index(list) => {
                descriptor.media_type = list.media_type.clone();
                let entry = choose(&reference.to_string(), &list, &store.options.platform)?.clone();
                index = index.or(Some(descriptor));
                descriptor = Descriptor::new(entry.media_type, entry.digest, entry.size);
                if descriptor.size > MAX_MANIFEST {
                    let reason = format!("{} bytes, more than {MAX_MANIFEST}", descriptor.size);
                    return Err(ImageError::manifest(format!("manifest {}", descriptor.digest), reason));
                }
                bytes = session.manifest(&ManifestName::Digest(descriptor.digest)).await?.bytes;
                descriptor.size = bytes.len() as u64;
            }
        }
    }
    Err(ImageError::manifest(reference, format!("indexes within indexes, more than {MAX_INDEXES} deep")))
}

/// Fetches all layers at once, within the bound, and unpacks them from the lowest up as they come.
async fn fetch_layers(
    store: &Arc<Store>,
    session: &Arc<Session>,
    manifest: &Manifest,
    config: &ConfigFile,
    lease: &Arc<Lease>,
    progress: Option<&Progress>,
) -> Result<()> {
    let places = Arc::new(Semaphore::new(session.wire().limits().parallel_layers.max(1)));
    let fetches: Vec<_> = manifest
        .layers
        .iter()
        .map(|layer| {
            let (store, session, layer) = (store.clone(), session.clone(), layer.clone());
            let (progress, places) = (progress.cloned(), places.clone());
            AbortOnDropHandle::new(tokio::spawn(async move {
                let _place = places.acquire_owned().await.map_err(|_| ImageError::Cancelled)?;
                fetch(&store, &session, "layer", &layer, progress.as_ref()).await
            }))
        })
        .collect();
    let chain = config.chain_ids();
    for (at, (layer, fetched)) in manifest.layers.iter().zip(fetches).enumerate() {
        let outcome = fetched.await.map_err(|_| ImageError::Cancelled)??;
        let diff_id = config.rootfs.diff_ids.get(at).copied().unwrap_or(layer.digest);
        let below = chain.get(..at).unwrap_or_default();
        let Some(id) = chain.get(at).copied() else { break };
        let step = Step { id, diff_id, layer: layer.digest, below: below.iter().rev().copied().collect() };
        match unpack_layer(store, step.clone(), lease.clone()).await {
            // What was here before may have been damaged since; what just came was verified.
            Err(error) if outcome == Outcome::Present && error.class() == ErrorClass::Corrupt => {
                tracing::warn!(%error, "stored layer cannot be unpacked, fetching it again");
                let (blobs, digest) = (store.blobs.clone(), layer.digest);
                blocking(move || blobs.remove(digest)).await?;
                fetch(store, session, "layer", layer, progress).await?;
                unpack_layer(store, step, lease.clone()).await?;
            }
            result => result?,
        }
        if let Some(progress) = progress {
            progress(PullEvent::Unpacked { layer: layer.digest });
        }
    }
    Ok(())
}

/// A layer to be unpacked.
#[derive(Debug, Clone)]
pub struct Step {
    /// The name to unpack it under.
    pub id: Digest,
    /// The digest of its plain tar.
    pub diff_id: Digest,
    /// Its blob.
    pub layer: Digest,
    /// The layers under it, the nearest first.
    pub below: Vec<Digest>,
}

/// Unpacks a layer unless it is unpacked.
pub async fn unpack_layer(store: &Arc<Store>, step: Step, lease: Arc<Lease>) -> Result<()> {
    let gate = store.gate(step.id).await;
    if store.snapshots.get(step.id).is_some() {
        return Ok(());
    }
    let store = store.clone();
    blocking(move || {
        // Held until the work is done, even when nobody waits for it any more.
        let (_gate, _lease) = (gate, lease);
        let blob = store.blobs.open_blob(step.layer)?;
        store.snapshots.create(step.id, step.diff_id, step.layer, blob, &step.below).map(|_| ())
    })
    .await
}
