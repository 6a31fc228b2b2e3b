//! The images that are known: `images/<id>.json`, one file each, so that damage to one leaves the others.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::digest::Digest;
use super::error::{ImageError, Result};
use super::files;
use super::record::Image;
use super::reference::Reference;

/// The shortest start of an id that names an image.
const MIN_SHORT_ID: usize = 4;

/// All image records, in memory and on disk.
#[derive(Debug)]
pub struct Records {
    dir: PathBuf,
    images: BTreeMap<Digest, Arc<Image>>,
}

// === impl Records ===

impl Records {
    /// Reads all records. One that cannot be read is named in the log and set aside; the rest is kept.
    pub fn open(root: &Path) -> Result<Self> {
        let dir = root.join("images");
        files::make_dir(&dir)?;
        let mut images = BTreeMap::new();
        let listing = fs::read_dir(&dir).map_err(|error| ImageError::io("list", &dir, error))?;
        for entry in listing {
            let path = entry.map_err(|error| ImageError::io("list", &dir, error))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let bytes = fs::read(&path).map_err(|error| ImageError::io("read", &path, error))?;
            match serde_json::from_slice::<Image>(&bytes) {
                Ok(image) => {
                    images.insert(image.id, Arc::new(image));
                }
                Err(error) => {
                    tracing::error!(file = %path.display(), %error, "image record cannot be read, set aside");
                    files::rename(&path, &path.with_extension("corrupt"))?;
                }
            }
        }
        let mut records = Records { dir, images };
        records.settle_tags();
        Ok(records)
    }

    /// A tag that two images have, since a process died while it moved, belongs to the one used later.
    fn settle_tags(&mut self) {
        let mut owners: BTreeMap<String, (Timestamp, Digest)> = BTreeMap::new();
        for image in self.images.values() {
            for tag in &image.repo_tags {
                let claim = (image.last_used, image.id);
                let owner = owners.entry(tag.clone()).or_insert(claim);
                *owner = claim.max(*owner);
            }
        }
        for image in self.images.values_mut() {
            let id = image.id;
            let owned = |tag: &String| owners.get(tag).is_none_or(|(_, owner)| *owner == id);
            if !image.repo_tags.iter().all(owned) {
                Arc::make_mut(image).repo_tags.retain(owned);
            }
        }
    }

    /// All of them, by id.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Image>> {
        self.images.values()
    }

    /// By exact id.
    pub fn by_id(&self, id: Digest) -> Option<&Arc<Image>> {
        self.images.get(&id)
    }

    /// By id, name, or the start of an id.
    pub fn find(&self, image: &str) -> Result<Arc<Image>> {
        let digits = image.strip_prefix("sha256:").unwrap_or(image);
        if let Some(found) = Digest::from_hex(digits).ok().and_then(|id| self.images.get(&id)) {
            return Ok(found.clone());
        }
        let reference = Reference::parse(image);
        if let Some(found) = reference.as_ref().ok().and_then(|reference| self.by_name(reference)) {
            return Ok(found.clone());
        }
        let missing = || ImageError::NoSuchImage { image: image.to_owned() };
        if digits.len() < MIN_SHORT_ID || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(reference.err().unwrap_or_else(missing));
        }
        let found: Vec<&Arc<Image>> = self.images.values().filter(|image| image.id.hex().starts_with(digits)).collect();
        match found.as_slice() {
            [] => Err(missing()),
            [one] => Ok(Arc::clone(one)),
            several => Err(ImageError::AmbiguousId { image: image.to_owned(), count: several.len() }),
        }
    }

    /// By name: a digest counts more than a tag.
    pub fn by_name(&self, reference: &Reference) -> Option<&Arc<Image>> {
        match reference.digest() {
            Some(digest) => {
                let name = reference.repo_digest(digest);
                self.images.values().find(|image| image.repo_digests.contains(&name))
            }
            None => {
                let name = reference.repo_tag()?;
                self.images.values().find(|image| image.repo_tags.contains(&name))
            }
        }
    }

    /// Stores an image. What is known of the same one is kept beside it: names, pinned, times. A tag that another image
    /// had moves.
    pub fn put(&mut self, mut image: Image) -> Result<Arc<Image>> {
        if let Some(known) = self.images.get(&image.id) {
            image.repo_tags.extend(known.repo_tags.iter().cloned());
            image.repo_digests.extend(known.repo_digests.iter().cloned());
            image.pinned |= known.pinned;
            image.stored = known.stored;
        }
        for names in [&mut image.repo_tags, &mut image.repo_digests] {
            names.sort();
            names.dedup();
        }
        let others: Vec<Image> = self
            .images
            .values()
            .filter(|other| other.id != image.id && other.repo_tags.iter().any(|tag| image.repo_tags.contains(tag)))
            .map(|other| Image::clone(other))
            .collect();
        // The new name first: killed in between, a tag has two images, never none, and `open` decides.
        let image = self.save(image)?;
        for mut other in others {
            other.repo_tags.retain(|tag| !image.repo_tags.contains(tag));
            self.save(other)?;
        }
        Ok(image)
    }

    /// Stores a record as it is.
    pub fn save(&mut self, image: Image) -> Result<Arc<Image>> {
        let path = self.path(image.id);
        let text = serde_json::to_vec_pretty(&image).map_err(|error| ImageError::manifest(path.display(), error))?;
        files::write_whole(&path, &text)?;
        let image = Arc::new(image);
        self.images.insert(image.id, image.clone());
        Ok(image)
    }

    /// Changes a record in memory only: for what may be lost.
    pub fn touch(&mut self, image: Image) {
        self.images.insert(image.id, Arc::new(image));
    }

    /// Forgets an image.
    pub fn remove(&mut self, id: Digest) -> Result<()> {
        files::remove_file(&self.path(id))?;
        self.images.remove(&id);
        Ok(())
    }

    fn path(&self, id: Digest) -> PathBuf {
        self.dir.join(format!("{}.json", id.hex()))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::images::manifest::{Descriptor, Platform, RunConfig};

    fn image(seed: &str, tag: &str) -> Image {
        let id = Digest::of(seed.as_bytes());
        Image {
            id,
            repo_tags: vec![format!("docker.io/library/{tag}")],
            repo_digests: vec![format!("docker.io/library/a@{id}")],
            manifest: Descriptor::new("", id, 1),
            config: Descriptor::new("", id, 2),
            layers: vec![],
            diff_ids: vec![],
            index: None,
            platform: Platform::host(),
            run: RunConfig::default(),
            created: None,
            stored: Timestamp::UNIX_EPOCH,
            last_used: Timestamp::UNIX_EPOCH,
            pinned: false,
        }
    }

    #[test]
    fn images_are_found_by_every_name_and_survive_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let mut records = Records::open(root.path()).unwrap();
        let one = records.put(image("1", "a:latest")).unwrap();
        let two = records.put(image("2", "b:v1")).unwrap();
        fs::write(root.path().join("images/bad.json"), "{").unwrap();
        let records = Records::open(root.path()).unwrap();
        assert!(root.path().join("images/bad.corrupt").exists());
        for name in ["a", "a:latest", "docker.io/library/a", &one.id.to_string(), &one.id.hex(), &one.id.hex()[..12]] {
            assert_eq!(records.find(name).unwrap().id, one.id, "{name}");
        }
        assert_eq!(records.find(&format!("a@{}", two.id)).unwrap().id, two.id);
        for name in ["b", "c:v1", "", "zz zz", "abcd1234"] {
            assert!(records.find(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_tag_moves_to_the_new_image() {
        let root = tempfile::tempdir().unwrap();
        let mut records = Records::open(root.path()).unwrap();
        let one = records.put(image("1", "a:latest")).unwrap();
        let two = records.put(image("2", "a:latest")).unwrap();
        assert_eq!(records.find("a").unwrap().id, two.id);
        assert!(records.by_id(one.id).unwrap().repo_tags.is_empty());
        assert_eq!(records.by_id(one.id).unwrap().repo_digests.len(), 1);
    }
}
