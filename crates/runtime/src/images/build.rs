//! Making an image of files of this machine: one layer, and the same files give the same image.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use tar::{Builder, EntryType, Header};

use super::blobs::Ingest;
use super::error::{ImageError, Result};
use super::manifest::{ConfigFile, Descriptor, Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, RootFs};
use super::options::{BuildEntry, BuildRequest, BuildSource};
use super::pull::{Names, Resolved, Step, assemble, unpack_layer};
use super::record::Image;
use super::reference::Reference;
use super::store::{Store, blocking};

/// Builds, unpacks and remembers an image.
pub async fn build(store: &Arc<Store>, request: BuildRequest) -> Result<Arc<Image>> {
    let reference = Reference::parse(&request.image)?;
    let tag = reference.repo_tag().ok_or_else(|| ImageError::InvalidReference {
        reference: request.image.clone(),
        reason: "a built image needs a tag, not a digest".into(),
    })?;
    let lease = store.lease();
    let (owner, held) = (store.clone(), lease.clone());
    let (resolved, config, pinned) = blocking(move || {
        let mut layer = Layer::new(owner.blobs.fresh()?);
        for entry in &request.entries {
            layer.add(entry)?;
        }
        let layer = layer.finish()?;
        let diff_id = layer.digest();
        let size = layer.written();
        held.hold([diff_id]);
        owner.blobs.commit_as_is(layer)?;
        let config = ConfigFile {
            created: None,
            platform: owner.options.platform.clone(),
            config: request.run,
            rootfs: RootFs { kind: "layers".into(), diff_ids: vec![diff_id] },
        };
        let put = |media_type: &str, text: serde_json::Result<Vec<u8>>| -> Result<Descriptor> {
            let bytes = text.map_err(|error| ImageError::manifest(media_type, error))?;
            held.hold([super::digest::Digest::of(&bytes)]);
            Ok(Descriptor::new(media_type, owner.blobs.put(&bytes)?, bytes.len() as u64))
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.into(),
            config: put(OCI_CONFIG, serde_json::to_vec(&config))?,
            layers: vec![Descriptor::new(OCI_LAYER, diff_id, size)],
        };
        let descriptor = put(OCI_MANIFEST, serde_json::to_vec(&manifest))?;
        Ok((Resolved { index: None, descriptor, manifest }, config, request.pinned))
    })
    .await?;
    if let Some(layer) = resolved.manifest.layers.first().map(|layer| layer.digest) {
        unpack_layer(store, Step { id: layer, diff_id: layer, layer, below: Vec::new() }, lease.clone()).await?;
    }
    let mut image = assemble(&resolved, config, Names { tag: Some(tag), digest: None });
    image.pinned = pinned;
    let store = store.clone();
    blocking(move || {
        let _lease = lease;
        store.remember(image)
    })
    .await
}

/// A layer on its way into the store.
struct Layer {
    tar: Builder<Sink>,
    directories: BTreeSet<PathBuf>,
}

/// Content as something to write to.
struct Sink(Ingest);

// === impl Sink ===

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// === impl Layer ===

impl Layer {
    fn new(ingest: Ingest) -> Self {
        Layer { tar: Builder::new(Sink(ingest)), directories: BTreeSet::new() }
    }

    fn finish(self) -> Result<Ingest> {
        let sink = self.tar.into_inner().map_err(|error| ImageError::io("write", "layer", error))?;
        Ok(sink.0)
    }

    fn add(&mut self, entry: &BuildEntry) -> Result<()> {
        let bad = |reason: &str| ImageError::io("add to layer", &entry.path, io::Error::other(reason));
        let mut path = PathBuf::new();
        for component in entry.path.components() {
            match component {
                Component::Normal(name) => path.push(name),
                Component::RootDir | Component::CurDir => {}
                _ => return Err(bad("a path in an image has no `..`")),
            }
        }
        if path.as_os_str().is_empty() && !matches!(entry.source, BuildSource::Path(_) | BuildSource::Directory) {
            return Err(bad("only a directory can be the root"));
        }
        self.parents(&path)?;
        let added = match &entry.source {
            BuildSource::Directory => self.directory(&path, entry.mode.unwrap_or(0o755), entry.owner),
            BuildSource::Bytes(bytes) => {
                self.file(&path, entry.mode.unwrap_or(0o644), entry.owner, bytes.len() as u64, &mut bytes.as_slice())
            }
            BuildSource::Symlink(target) => self.symlink(&path, entry.owner, target),
            BuildSource::Path(source) => self.copy(&path, entry, source),
        };
        added.map_err(|error| ImageError::io("add to layer", &entry.path, error))
    }

    fn parents(&mut self, path: &Path) -> Result<()> {
        let missing: Vec<PathBuf> = path.ancestors().skip(1).map(Path::to_path_buf).collect();
        for parent in missing.into_iter().rev() {
            if !parent.as_os_str().is_empty() {
                self.directory(&parent, 0o755, (0, 0))
                    .map_err(|error| ImageError::io("add to layer", &parent, error))?;
            }
        }
        Ok(())
    }

    fn directory(&mut self, path: &Path, mode: u32, owner: (u32, u32)) -> io::Result<()> {
        if !self.directories.insert(path.to_path_buf()) {
            return Ok(());
        }
        let mut header = header(EntryType::Directory, mode, owner, 0);
        let name = if path.as_os_str().is_empty() { Path::new("./") } else { path };
        self.tar.append_data(&mut header, name, io::empty())
    }

    fn file(
        &mut self,
        path: &Path,
        mode: u32,
        owner: (u32, u32),
        size: u64,
        content: &mut dyn io::Read,
    ) -> io::Result<()> {
        let mut header = header(EntryType::Regular, mode, owner, size);
        // A file that grows meanwhile would shift everything behind it.
        let mut content = io::Read::take(content, size);
        self.tar.append_data(&mut header, path, &mut content)?;
        match content.limit() {
            0 => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read")),
        }
    }

    fn symlink(&mut self, path: &Path, owner: (u32, u32), target: &Path) -> io::Result<()> {
        let mut header = header(EntryType::Symlink, 0o777, owner, 0);
        self.tar.append_link(&mut header, path, target)
    }

    fn copy(&mut self, path: &Path, entry: &BuildEntry, source: &Path) -> io::Result<()> {
        let meta = fs::metadata(source)?;
        if meta.is_dir() {
            // The source itself may be a symbolic link; those below it stay links.
            return self.copy_dir(path, entry, &fs::canonicalize(source)?);
        }
        let mode = entry.mode.unwrap_or(meta.mode() & 0o7777);
        self.file(path, mode, entry.owner, meta.len(), &mut File::open(source)?)
    }

    fn copy_dir(&mut self, path: &Path, entry: &BuildEntry, source: &Path) -> io::Result<()> {
        let mut ahead = vec![(path.to_path_buf(), source.to_path_buf())];
        while let Some((path, source)) = ahead.pop() {
            let meta = fs::symlink_metadata(&source)?;
            let mode = meta.permissions().mode() & 0o7777;
            if meta.is_dir() {
                self.directory(&path, mode, entry.owner)?;
                let mut names = fs::read_dir(&source)?.map(|e| Ok(e?.file_name())).collect::<io::Result<Vec<_>>>()?;
                names.sort_by(|a, b| b.as_bytes().cmp(a.as_bytes()));
                ahead.extend(names.into_iter().map(|name| (path.join(&name), source.join(&name))));
            } else if meta.is_symlink() {
                self.symlink(&path, entry.owner, &fs::read_link(&source)?)?;
            } else if meta.is_file() {
                self.file(&path, mode, entry.owner, meta.len(), &mut File::open(&source)?)?;
            }
        }
        Ok(())
    }
}

fn header(kind: EntryType, mode: u32, owner: (u32, u32), size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(u64::from(owner.0));
    header.set_gid(u64::from(owner.1));
    header.set_size(size);
    // The same files give the same layer, whenever it is made.
    header.set_mtime(0);
    header
}
