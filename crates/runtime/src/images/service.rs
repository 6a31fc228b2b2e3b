//! The image service: what CRI's ImageService and `trireme images` ask of the store.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::digest::Digest;
use super::error::{ImageError, Result};
use super::options::{BuildRequest, CollectPolicy, Collected, ImagesOptions, PullRequest, Rootfs};
use super::record::{Image, Usage};
use super::reference::Reference;
use super::rootfs::{RootfsRecord, check_id};
use super::store::{Store, blocking};
use super::{build, collect, export, import, pull};

/// How exact the time of an image's last use is on disk: writing it each time would cost a sync per container.
const LAST_USED_GRAIN: Duration = Duration::from_secs(60);

/// Images of one store. Cheap to clone. One process at a time has a store open.
#[derive(Clone)]
pub struct Images {
    store: Arc<Store>,
}

// === impl Images ===

impl Images {
    /// Opens the store, taking away what an earlier process left half done.
    pub async fn open(options: ImagesOptions) -> Result<Images> {
        let store = blocking(move || Store::open(options)).await?;
        Ok(Images { store })
    }

    /// The directory of the store.
    pub fn root(&self) -> &Path {
        &self.store.options.root
    }

    /// Fetches an image, or finds that it is here already. Dropping the future stops it; what was fetched is kept.
    pub async fn pull(&self, request: PullRequest) -> Result<Arc<Image>> {
        pull::pull(&self.store, request).await
    }

    /// The image of a name, or of an id or its start.
    pub fn get(&self, image: &str) -> Result<Arc<Image>> {
        self.store.state.lock().records.find(image)
    }

    /// All images, or those that `filter` (a name or id) means.
    pub fn list(&self, filter: Option<&str>) -> Vec<Arc<Image>> {
        match filter.filter(|filter| !filter.is_empty()) {
            Some(filter) => self.get(filter).into_iter().collect(),
            None => self.store.state.lock().records.all().cloned().collect(),
        }
    }

    /// Removes an image with all its names (CRI `RemoveImage`: no error when there is none). Layers that containers still
    /// use stay until those are gone.
    pub async fn remove(&self, image: &str) -> Result<Option<Digest>> {
        let id = match self.get(image) {
            Ok(image) => image.id,
            Err(ImageError::NoSuchImage { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        self.change(move |store| store.state.lock().records.remove(id)).await?;
        tracing::info!(image = %id, "image removed");
        self.collect_unused().await?;
        Ok(Some(id))
    }

    /// Takes one name from an image; the image goes with its last name.
    pub async fn untag(&self, name: &str) -> Result<()> {
        let reference = Reference::parse(name)?;
        let missing = ImageError::NoSuchImage { image: name.to_owned() };
        let name = match reference.digest() {
            Some(digest) => reference.repo_digest(digest),
            None => reference.repo_tag().ok_or_else(|| missing.clone())?,
        };
        let gone = self
            .change(move |store| {
                let mut state = store.state.lock();
                let mut image = Image::clone(state.records.by_name(&reference).ok_or(missing)?);
                image.repo_tags.retain(|tag| *tag != name);
                image.repo_digests.retain(|digest| *digest != name);
                if image.repo_tags.is_empty() {
                    state.records.remove(image.id)?;
                    return Ok(true);
                }
                state.records.save(image)?;
                Ok(false)
            })
            .await?;
        if gone {
            self.collect_unused().await?;
        }
        Ok(())
    }

    /// Gives an image another name.
    pub async fn tag(&self, image: &str, name: &str) -> Result<Arc<Image>> {
        let reference = Reference::parse(name)?;
        let tag = reference.repo_tag().ok_or_else(|| ImageError::InvalidReference {
            reference: name.to_owned(),
            reason: "refusing to create a tag with a digest reference".into(),
        })?;
        let image = image.to_owned();
        self.change(move |store| {
            let mut state = store.state.lock();
            let mut record = Image::clone(&*state.records.find(&image)?);
            record.repo_tags.push(tag);
            state.records.put(record)
        })
        .await
    }

    /// Keeps an image from being collected, or no longer.
    pub async fn set_pinned(&self, image: &str, pinned: bool) -> Result<Arc<Image>> {
        let image = image.to_owned();
        self.change(move |store| {
            let mut state = store.state.lock();
            let found = state.records.find(&image)?;
            state.records.save(Image { pinned, ..Image::clone(&found) })
        })
        .await
    }

    /// Takes the images of an archive: `docker save` or an OCI layout, as tar, plain or compressed.
    pub async fn import(&self, archive: impl Read + Send + 'static) -> Result<Vec<Arc<Image>>> {
        import::import(&self.store, archive).await
    }

    /// Takes the images of an archive file.
    pub async fn import_file(&self, archive: &Path) -> Result<Vec<Arc<Image>>> {
        let file = File::open(archive).map_err(|error| ImageError::io("open", archive, error))?;
        self.import(file).await
    }

    /// Takes the images of all archives in a directory, for machines without a registry. A bad archive is named and does
    /// not keep the others out; no directory is as good as an empty one.
    pub async fn import_dir(&self, dir: &Path) -> Result<Vec<(PathBuf, Result<Vec<Arc<Image>>>)>> {
        let mut archives: Vec<PathBuf> = match std::fs::read_dir(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(ImageError::io("list", dir, error)),
            Ok(listing) => listing.flatten().map(|entry| entry.path()).filter(|path| is_archive(path)).collect(),
        };
        archives.sort();
        let mut results = Vec::new();
        for archive in archives {
            let result = self.import_file(&archive).await;
            if let Err(error) = &result {
                tracing::error!(archive = %archive.display(), %error, "archive not imported");
            }
            results.push((archive, result));
        }
        Ok(results)
    }

    /// Writes images as an OCI layout, in a tar that `docker load` reads too.
    pub async fn export(&self, images: &[String], archive: impl Write + Send + 'static) -> Result<()> {
        let mut found: Vec<Arc<Image>> = images.iter().map(|image| self.get(image)).collect::<Result<_>>()?;
        let mut seen = BTreeSet::new();
        found.retain(|image| seen.insert(image.id));
        export::export(&self.store, found, archive).await
    }

    /// Makes an image of files of this machine.
    pub async fn build(&self, request: BuildRequest) -> Result<Arc<Image>> {
        build::build(&self.store, request).await
    }

    /// Space taken by images: unpacked layers and their blobs.
    pub async fn usage(&self) -> Result<Usage> {
        self.change(|store| {
            let layers = store.snapshots.list()?.into_iter().fold(Usage::default(), |sum, (_, usage)| sum.plus(usage));
            let blobs = store.blobs.list()?;
            Ok(blobs.iter().fold(layers, |sum, (_, bytes)| sum.plus(Usage { bytes: *bytes, inodes: 1 })))
        })
        .await
    }

    /// Removes what no image and no container needs.
    pub async fn collect_unused(&self) -> Result<Collected> {
        collect::collect_unused(&self.store).await
    }

    /// Removes the images that were used least recently until enough is free, then what they alone needed.
    pub async fn collect_images(&self, policy: CollectPolicy) -> Result<Collected> {
        collect::collect_images(&self.store, &policy).await
    }

    /// Mounts a new root file system for a container. Idempotent: one that exists is mounted again with what the
    /// container wrote, over the layers that it began with.
    pub async fn mount_rootfs(&self, container: &str, image: &str) -> Result<Rootfs> {
        self.mount(container, image, false).await
    }

    /// Mounts an image read-only as a volume (KEP-4639), under a key of the caller's choice; `remove_rootfs` of that key
    /// ends it.
    pub async fn mount_volume(&self, key: &str, image: &str) -> Result<Rootfs> {
        self.mount(key, image, true).await
    }

    /// Unmounts a container's root file system, keeping what it wrote.
    pub async fn unmount_rootfs(&self, container: &str) -> Result<()> {
        check_id(container)?;
        let id = container.to_owned();
        self.change(move |store| store.rootfs.unmount(&id)).await
    }

    /// Unmounts and removes a container's root file system. No error when there is none.
    pub async fn remove_rootfs(&self, container: &str) -> Result<()> {
        check_id(container)?;
        let id = container.to_owned();
        self.change(move |store| {
            // Its layers are free only when nothing is mounted over them.
            store.rootfs.remove(&id)?;
            store.state.lock().rootfs.remove(&id);
            Ok(())
        })
        .await
    }

    /// Space that a container wrote to its root file system.
    pub async fn rootfs_usage(&self, container: &str) -> Result<Usage> {
        check_id(container)?;
        let id = container.to_owned();
        self.change(move |store| store.rootfs.usage(&id)).await
    }

    /// Space that all containers wrote to their root file systems.
    pub async fn rootfs_usage_total(&self) -> Result<Usage> {
        let ids = self.rootfs_ids();
        self.change(move |store| {
            let mut sum = Usage::default();
            for id in ids {
                match store.rootfs.usage(&id) {
                    Ok(usage) => sum = sum.plus(usage),
                    // Removed meanwhile.
                    Err(error) => tracing::debug!(%error, container = id, "root file system not measured"),
                }
            }
            Ok(sum)
        })
        .await
    }

    /// The ids of containers and volumes that have a root file system here.
    pub fn rootfs_ids(&self) -> BTreeSet<String> {
        self.store.state.lock().rootfs.keys().cloned().collect()
    }

    async fn mount(&self, id: &str, image: &str, read_only: bool) -> Result<Rootfs> {
        check_id(id)?;
        let (id, image) = (id.to_owned(), image.to_owned());
        self.change(move |store| {
            let (record, used) = {
                let mut state = store.state.lock();
                match state.rootfs.get(&id) {
                    Some(record) => (record.clone(), None),
                    None => {
                        let image = state.records.find(&image)?;
                        let record = RootfsRecord { image: image.id, chain: image.chain_ids(), read_only };
                        // From here on garbage collection knows of it.
                        state.rootfs.insert(id.clone(), record.clone());
                        (record, Some(image))
                    }
                }
            };
            let mounted =
                store.rootfs.create(&id, &record).and_then(|()| store.rootfs.mount(&id, &record, &store.snapshots));
            if let Some(image) = used {
                match &mounted {
                    Ok(_) => {
                        if let Err(error) = store.state.lock().touch(&image) {
                            tracing::warn!(%error, image = %image.id, "time of last use is not kept");
                        }
                    }
                    Err(_) => {
                        // The first error is the one to tell; what stays is removed with the container.
                        if let Err(error) = store.rootfs.remove(&id) {
                            tracing::warn!(%error, container = id, "half a root file system stays");
                        } else {
                            store.state.lock().rootfs.remove(&id);
                        }
                    }
                }
            }
            mounted
        })
        .await
    }

    async fn change<T: Send + 'static>(&self, work: impl FnOnce(&Store) -> Result<T> + Send + 'static) -> Result<T> {
        let store = self.store.clone();
        blocking(move || work(&store)).await
    }
}

impl super::store::State {
    /// Remembers that an image is used now.
    fn touch(&mut self, image: &Image) -> Result<()> {
        let Some(known) = self.records.by_id(image.id) else { return Ok(()) };
        let now = Timestamp::now();
        let stale = now.duration_since(known.last_used).unsigned_abs() > LAST_USED_GRAIN;
        let used = Image { last_used: now, ..Image::clone(known) };
        match stale {
            true => self.records.save(used).map(|_| ()),
            false => {
                self.records.touch(used);
                Ok(())
            }
        }
    }
}

/// By the endings that people give to image archives.
fn is_archive(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".oci"].iter().any(|ending| name.ends_with(ending))
}
