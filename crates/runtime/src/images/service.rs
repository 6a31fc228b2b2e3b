//! The image service: what CRI's ImageService and `trireme images` ask of the store.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use super::digest::Digest;
use super::error::{ImageError, Result};
use super::options::{BuildRequest, CollectPolicy, Collected, ImagesOptions, PullRequest, Rootfs};
use super::record::{Image, Usage};

/// Images of one store. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    options: Arc<ImagesOptions>,
}

// === impl Images ===

impl Images {
    /// Opens the store, taking away what an earlier process left half done.
    pub async fn open(options: ImagesOptions) -> Result<Images> {
        Ok(Images { options: Arc::new(options) })
    }

    /// Fetches an image, or finds that it is here already. Dropping the future stops it; what was fetched is kept.
    pub async fn pull(&self, request: PullRequest) -> Result<Arc<Image>> {
        Err(ImageError::Unsupported { what: request.image })
    }

    /// The image of a name, or of an id or its start.
    pub fn get(&self, image: &str) -> Result<Arc<Image>> {
        Err(ImageError::NoSuchImage { image: image.to_owned() })
    }

    /// All images, or those that `filter` (a name or id) means.
    pub fn list(&self, _filter: Option<&str>) -> Vec<Arc<Image>> {
        Vec::new()
    }

    /// Removes an image with all its names (CRI `RemoveImage`: no error when there is none). Layers that containers still
    /// use stay until those are gone.
    pub async fn remove(&self, _image: &str) -> Result<Option<Digest>> {
        Ok(None)
    }

    /// Takes one name from an image; the image goes with its last name.
    pub async fn untag(&self, _name: &str) -> Result<()> {
        Ok(())
    }

    /// Gives an image another name.
    pub async fn tag(&self, image: &str, _name: &str) -> Result<Arc<Image>> {
        self.get(image)
    }

    /// Keeps an image from being collected, or no longer.
    pub async fn set_pinned(&self, image: &str, _pinned: bool) -> Result<Arc<Image>> {
        self.get(image)
    }

    /// Takes the images of an archive: `docker save` or an OCI layout, as tar, plain or compressed.
    pub async fn import(&self, _archive: impl Read + Send + 'static) -> Result<Vec<Arc<Image>>> {
        Ok(Vec::new())
    }

    /// Takes the images of an archive file.
    pub async fn import_file(&self, _archive: &Path) -> Result<Vec<Arc<Image>>> {
        Ok(Vec::new())
    }

    /// Writes images as an OCI layout, in a tar that `docker load` reads too.
    pub async fn export(&self, _images: &[String], _archive: impl Write + Send + 'static) -> Result<()> {
        Ok(())
    }

    /// Makes an image of files of this machine.
    pub async fn build(&self, request: BuildRequest) -> Result<Arc<Image>> {
        self.get(&request.image)
    }

    /// Space taken by images.
    pub async fn usage(&self) -> Result<Usage> {
        Ok(Usage::default())
    }

    /// Removes what no image and no container needs.
    pub async fn collect_unused(&self) -> Result<Collected> {
        Ok(Collected::default())
    }

    /// Removes the images that were used least recently until enough is free, then what they alone needed.
    pub async fn collect_images(&self, _policy: CollectPolicy) -> Result<Collected> {
        Ok(Collected::default())
    }

    /// Mounts a new root file system for a container. Idempotent: one that exists is mounted again with what the
    /// container wrote.
    pub async fn mount_rootfs(&self, _container: &str, image: &str) -> Result<Rootfs> {
        Ok(Rootfs { path: self.options.root.clone(), upper: self.options.root.clone(), image: self.get(image)?.id })
    }

    /// Unmounts a container's root file system, keeping what it wrote.
    pub async fn unmount_rootfs(&self, _container: &str) -> Result<()> {
        Ok(())
    }

    /// Unmounts and removes a container's root file system. No error when there is none.
    pub async fn remove_rootfs(&self, _container: &str) -> Result<()> {
        Ok(())
    }

    /// Space that a container wrote to its root file system.
    pub async fn rootfs_usage(&self, _container: &str) -> Result<Usage> {
        Ok(Usage::default())
    }

    /// The ids of containers that have a root file system here.
    pub fn rootfs_ids(&self) -> HashSet<String> {
        HashSet::new()
    }

    /// Mounts an image read-only as a volume (KEP-4639), under a key of the caller's choice; `remove_rootfs` of that key
    /// ends it.
    pub async fn mount_volume(&self, key: &str, image: &str) -> Result<Rootfs> {
        self.mount_rootfs(key, image).await
    }
}
