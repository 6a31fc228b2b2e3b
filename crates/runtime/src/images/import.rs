//! Archives into the store: OCI layouts and `docker save`, one or many images, compressed or not.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::Arc;

use serde::Deserialize;
use tar::EntryType;

use super::digest::Digest;
use super::error::{ImageError, Result};
use super::manifest::{
    ConfigFile, Descriptor, Document, Index, MAX_CONFIG, MAX_LAYERS, MAX_MANIFEST, Manifest, OCI_CONFIG, OCI_LAYER,
    OCI_MANIFEST,
};
use super::platform::choose;
use super::pull::{Names, Resolved, Step, assemble, unpack_layer};
use super::record::Image;
use super::reference::Reference;
use super::store::{Lease, Store, blocking};
use super::tarball::{Broken, walk};
use super::tree::split;

/// Files of one archive.
const MAX_FILES: usize = 100_000;
/// Links to links.
const MAX_LINKS: usize = 8;
/// Indexes within indexes.
const MAX_INDEXES: usize = 4;
/// Where containerd and Docker write an image's full name.
pub const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// Where OCI layouts write it; often only a tag.
pub const REF_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// Takes all images of an archive.
pub async fn import(store: &Arc<Store>, archive: impl Read + Send + 'static) -> Result<Vec<Arc<Image>>> {
    let lease = store.lease();
    let (owner, held) = (store.clone(), lease.clone());
    let found = blocking(move || {
        let contents = Contents::read(&owner, &held, archive)?;
        contents.images(&owner, &held)
    })
    .await?;
    let mut ids = Vec::new();
    for (resolved, config, names) in found {
        let chain = config.chain_ids();
        lease.hold(chain.iter().copied());
        let layers = resolved.manifest.layers.iter().zip(&config.rootfs.diff_ids).zip(&chain);
        for (at, ((layer, diff_id), id)) in layers.enumerate() {
            let below = chain.get(..at).unwrap_or_default().iter().rev().copied().collect();
            let step = Step { id: *id, diff_id: *diff_id, layer: layer.digest, below };
            unpack_layer(store, step, lease.clone()).await?;
        }
        let mut image = assemble(&resolved, config, Names::default());
        image.repo_tags = names.into_iter().collect();
        let owner = store.clone();
        let id = blocking(move || owner.remember(image)).await?.id;
        // Two names of one image in an archive are one image.
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let images: Vec<Arc<Image>> = {
        let state = store.state.lock();
        ids.into_iter().filter_map(|id| state.records.by_id(id).cloned()).collect()
    };
    drop(lease);
    // What else was in the archive.
    super::collect::collect_unused(store).await?;
    tracing::info!(images = images.len(), "archive imported");
    Ok(images)
}

type Found = (Resolved, ConfigFile, BTreeSet<String>);

/// The files of an archive, their content being in the store already.
struct Contents {
    files: BTreeMap<String, Content>,
}

enum Content {
    File(Descriptor),
    Link(String),
}

/// One image of Docker's `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

// === impl Contents ===

impl Contents {
    fn read(store: &Arc<Store>, lease: &Arc<Lease>, archive: impl Read + Send) -> Result<Self> {
        let mut files = BTreeMap::new();
        // An error of our own disk, which must not be taken for one of the archive.
        let mut local = None;
        let walked = walk(archive, |entry| {
            let parts = split(&entry.path_bytes()).map_err(bad)?;
            let path = text(&parts)?;
            let content = match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                    let stored = store_file(store, lease, &path, entry, &mut local)?;
                    Content::File(stored)
                }
                EntryType::Symlink => {
                    let target = entry.link_name_bytes().ok_or_else(|| bad("a link without target"))?;
                    let above = parts.split_last().map(|(_, above)| text(above)).transpose()?.unwrap_or_default();
                    let joined = [above.as_bytes(), b"/", &target].concat();
                    Content::Link(text(&split(&joined).map_err(bad)?)?)
                }
                EntryType::Link => {
                    let target = entry.link_name_bytes().ok_or_else(|| bad("a link without target"))?;
                    Content::Link(text(&split(&target).map_err(bad)?)?)
                }
                _ => return Ok(()),
            };
            files.insert(path, content);
            match files.len() > MAX_FILES {
                true => Err(bad("more files than an image archive has")),
                false => Ok(()),
            }
        });
        match (walked, local) {
            (_, Some(error)) => Err(error),
            (Err(Broken { entry, error }), None) => Err(archive_error(format!("{entry}: {error}"))),
            (Ok(_), None) => Ok(Contents { files }),
        }
    }

    fn find(&self, path: &str) -> Option<&Descriptor> {
        let mut path = path.trim_start_matches("./");
        for _ in 0..MAX_LINKS {
            match self.files.get(path)? {
                Content::File(descriptor) => return Some(descriptor),
                Content::Link(target) => path = target,
            }
        }
        None
    }

    fn document(&self, store: &Store, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.find(path) else { return Ok(None) };
        if file.size > limit {
            return Err(archive_error(format!("{path}: {} bytes, more than {limit}", file.size)));
        }
        store.blobs.read("archive member", file.digest, limit).map(Some)
    }

    fn images(&self, store: &Store, lease: &Arc<Lease>) -> Result<Vec<Found>> {
        let saved: Vec<Saved> = match self.document(store, "manifest.json", MAX_MANIFEST)? {
            None => Vec::new(),
            Some(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| archive_error(format!("manifest.json: {error}")))?
            }
        };
        let index = self.document(store, "index.json", MAX_MANIFEST)?;
        let found = match index {
            Some(bytes) => match Document::parse("index.json", None, &bytes)? {
                Document::Index(index) => self.layout(store, &index, &saved)?,
                Document::Manifest(_) => return Err(archive_error("index.json is not an index".into())),
            },
            None if saved.is_empty() => {
                return Err(archive_error(
                    "neither index.json (OCI layout) nor manifest.json (docker save) is in it".into(),
                ));
            }
            None => saved.iter().map(|image| self.saved(store, lease, image)).collect::<Result<_>>()?,
        };
        match found.is_empty() {
            true => Err(archive_error("there is no image in it".into())),
            false => Ok(found),
        }
    }

    /// The images of an OCI layout. Newer Dockers write their names only beside it, in `manifest.json`.
    fn layout(&self, store: &Store, index: &Index, saved: &[Saved]) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        for entry in &index.manifests {
            let resolved = self.resolve(store, entry)?;
            let config = self.config(store, &resolved.manifest)?;
            let mut names: BTreeSet<String> = BTreeSet::new();
            let full = entry.annotations.get(NAME_ANNOTATION);
            let partly = entry.annotations.get(REF_ANNOTATION).filter(|name| name.contains(['/', ':']));
            if let Some(name) = full.or(partly) {
                names.extend(tag_of(name)?);
            }
            for image in saved {
                if self.find(&image.config).is_some_and(|c| c.digest == resolved.manifest.config.digest) {
                    for tag in image.repo_tags.iter().flatten() {
                        names.extend(tag_of(tag)?);
                    }
                }
            }
            found.push((resolved, config, names));
        }
        Ok(found)
    }

    fn resolve(&self, store: &Store, entry: &Descriptor) -> Result<Resolved> {
        let mut descriptor = entry.clone();
        let mut index = None;
        for _ in 0..MAX_INDEXES {
            self.require(&descriptor)?;
            let what = format!("manifest {}", descriptor.digest);
            if descriptor.size > MAX_MANIFEST {
                return Err(archive_error(format!("{what}: {} bytes, more than {MAX_MANIFEST}", descriptor.size)));
            }
            let bytes = store.blobs.read("manifest", descriptor.digest, MAX_MANIFEST)?;
            let plain = Descriptor::new(descriptor.media_type.clone(), descriptor.digest, bytes.len() as u64);
            match Document::parse(&what, Some(descriptor.media_type.as_str()), &bytes)? {
                Document::Manifest(manifest) => {
                    for content in manifest.layers.iter().chain([&manifest.config]) {
                        self.require(content)?;
                    }
                    let descriptor = Descriptor { media_type: manifest.media_type.clone(), ..plain };
                    return Ok(Resolved { index, descriptor, manifest });
                }
                Document::Index(list) => {
                    descriptor = choose(&what, &list, &store.options.platform)?.clone();
                    index = index.or(Some(plain));
                }
            }
        }
        Err(archive_error(format!("indexes within indexes, more than {MAX_INDEXES} deep")))
    }

    fn require(&self, content: &Descriptor) -> Result<()> {
        let path = format!("blobs/sha256/{}", content.digest.hex());
        match self.find(&path) {
            Some(file) if file.size == content.size => Ok(()),
            Some(file) => Err(ImageError::SizeMismatch {
                kind: "archive member",
                digest: content.digest,
                expected: content.size,
                actual: file.size,
            }),
            None => Err(archive_error(format!("{path} is missing"))),
        }
    }

    fn config(&self, store: &Store, manifest: &Manifest) -> Result<ConfigFile> {
        let what = format!("config {}", manifest.config.digest);
        let bytes = store.blobs.read("config", manifest.config.digest, MAX_CONFIG)?;
        ConfigFile::parse(&what, &bytes, manifest.layers.len())
    }

    /// An image of `docker save`, for which a manifest is written: Docker keeps none.
    fn saved(&self, store: &Store, lease: &Arc<Lease>, image: &Saved) -> Result<Found> {
        let missing = |path: &str| archive_error(format!("{path} is missing"));
        let config = self.find(&image.config).ok_or_else(|| missing(&image.config))?;
        let paths = image.layers.as_deref().unwrap_or_default();
        if paths.len() > MAX_LAYERS {
            return Err(archive_error(format!("{} layers, more than {MAX_LAYERS}", paths.len())));
        }
        let mut layers = Vec::new();
        for path in paths {
            let file = self.find(path).ok_or_else(|| missing(path))?;
            layers.push(Descriptor::new(layer_type(store, file.digest)?, file.digest, file.size));
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.into(),
            config: Descriptor::new(OCI_CONFIG, config.digest, config.size),
            layers,
        };
        let config = self.config(store, &manifest)?;
        let bytes = serde_json::to_vec(&manifest).map_err(|error| archive_error(error.to_string()))?;
        lease.hold([Digest::of(&bytes)]);
        let descriptor = Descriptor::new(OCI_MANIFEST, store.blobs.put(&bytes)?, bytes.len() as u64);
        let mut names = BTreeSet::new();
        for tag in image.repo_tags.iter().flatten() {
            names.extend(tag_of(tag)?);
        }
        Ok((Resolved { index: None, descriptor, manifest }, config, names))
    }
}

/// Stores one file of the archive under its digest, which must be its name where it has one.
fn store_file(
    store: &Arc<Store>,
    lease: &Arc<Lease>,
    path: &str,
    content: &mut impl Read,
    local: &mut Option<ImageError>,
) -> io::Result<Descriptor> {
    let mut keep = |error: ImageError| {
        let text = error.to_string();
        *local = Some(error);
        io::Error::other(text)
    };
    let mut ingest = store.blobs.fresh().map_err(&mut keep)?;
    let mut buffer = vec![0u8; 128 << 10];
    let copied = loop {
        match content.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(count) => {
                if let Err(error) = ingest.write(buffer.get(..count).unwrap_or_default()) {
                    break Err(keep(error));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    if let Err(error) = copied {
        // The first error is the one to tell.
        if let Err(error) = ingest.discard() {
            tracing::warn!(%error, "half a file of an archive stays until the next start");
        }
        return Err(error);
    }
    let (actual, size) = (ingest.digest(), ingest.written());
    let named = path.strip_prefix("blobs/sha256/").and_then(|hex| Digest::from_hex(hex).ok());
    if let Some(expected) = named.filter(|expected| *expected != actual) {
        ingest.discard().map_err(&mut keep)?;
        return Err(keep(ImageError::DigestMismatch { kind: "archive member", expected, actual }));
    }
    lease.hold([actual]);
    store.blobs.commit_as_is(ingest).map_err(&mut keep)?;
    Ok(Descriptor::new("", actual, size))
}

fn layer_type(store: &Store, layer: Digest) -> Result<String> {
    let mut start = Vec::new();
    let read = store.blobs.open_blob(layer)?.take(4).read_to_end(&mut start);
    read.map_err(|error| ImageError::io("read", store.blobs.path(layer), error))?;
    let suffix = match start.as_slice() {
        [0x1f, 0x8b, ..] => "+gzip",
        [0x28, 0xb5, 0x2f, 0xfd] => "+zstd",
        _ => "",
    };
    Ok(format!("{OCI_LAYER}{suffix}"))
}

fn tag_of(name: &str) -> Result<Option<String>> {
    Ok(Reference::parse(name)?.repo_tag())
}

fn text(parts: &[std::ffi::OsString]) -> io::Result<String> {
    let parts: Option<Vec<&str>> = parts.iter().map(|part| part.to_str()).collect();
    Ok(parts.ok_or_else(|| bad("a name that is not UTF-8"))?.join("/"))
}

fn bad(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn archive_error(reason: String) -> ImageError {
    ImageError::Archive { reason }
}
