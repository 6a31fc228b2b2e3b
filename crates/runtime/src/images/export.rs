//! Images out of the store: an OCI layout in a tar, with Docker's `manifest.json` beside it for those who read that.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::sync::Arc;

use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::digest::Digest;
use super::error::{ImageError, Result};
use super::import::{NAME_ANNOTATION, REF_ANNOTATION};
use super::manifest::{Descriptor, Index, OCI_INDEX};
use super::record::Image;
use super::reference::Reference;
use super::store::{Store, blocking};

/// Writes images to `archive`.
pub async fn export(store: &Arc<Store>, images: Vec<Arc<Image>>, archive: impl Write + Send + 'static) -> Result<()> {
    let lease = store.lease();
    lease.hold(images.iter().flat_map(|image| image.blobs().collect::<Vec<_>>()));
    let store = store.clone();
    blocking(move || {
        let _lease = lease;
        write(&store, &images, archive)
    })
    .await
}

fn write(store: &Store, images: &[Arc<Image>], archive: impl Write) -> Result<()> {
    let failed = |error: io::Error| ImageError::io("write", "archive", error);
    let mut tar = Builder::new(archive);
    let document =
        |value: serde_json::Result<Vec<u8>>| value.map_err(|error| ImageError::Archive { reason: error.to_string() });
    file(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).map_err(failed)?;
    let index = document(serde_json::to_vec(&index(images)))?;
    file(&mut tar, "index.json", &index).map_err(failed)?;
    let saved: Vec<serde_json::Value> = images.iter().map(|image| saved(image)).collect();
    let saved = document(serde_json::to_vec(&saved))?;
    file(&mut tar, "manifest.json", &saved).map_err(failed)?;
    let blobs: BTreeSet<Digest> = images
        .iter()
        .flat_map(|image| {
            let layers = image.layers.iter().map(|layer| layer.digest);
            layers.chain([image.manifest.digest, image.config.digest]).collect::<Vec<_>>()
        })
        .collect();
    for digest in blobs {
        let content = store.blobs.open_blob(digest)?;
        let size = store.blobs.size(digest).unwrap_or(0);
        let mut header = header(size);
        tar.append_data(&mut header, blob_path(digest), content.take(size)).map_err(failed)?;
    }
    tar.into_inner().and_then(|mut archive| archive.flush()).map_err(failed)
}

/// One entry per name; an image without one has a single entry.
fn index(images: &[Arc<Image>]) -> Index {
    let mut manifests = Vec::new();
    for image in images {
        let plain = Descriptor { platform: Some(image.platform.clone()), ..image.manifest.clone() };
        if image.repo_tags.is_empty() {
            manifests.push(plain.clone());
        }
        for name in &image.repo_tags {
            let mut named = plain.clone();
            named.annotations.insert(NAME_ANNOTATION.into(), name.clone());
            let tag = Reference::parse(name).ok().and_then(|reference| reference.tag().map(str::to_owned));
            named.annotations.extend(tag.map(|tag| (REF_ANNOTATION.to_owned(), tag)));
            manifests.push(named);
        }
    }
    Index { schema_version: 2, media_type: OCI_INDEX.into(), manifests }
}

fn saved(image: &Image) -> serde_json::Value {
    json!({
        "Config": blob_path(image.config.digest),
        "RepoTags": image.repo_tags,
        "Layers": image.layers.iter().map(|layer| blob_path(layer.digest)).collect::<Vec<_>>(),
    })
}

fn blob_path(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn header(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn file(tar: &mut Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    tar.append_data(&mut header(bytes.len() as u64), name, bytes)
}
