//! Unpacked layers: `snapshots/<chain id>/fs`, with what is known of each in `layer.json` beside it. A layer is written
//! aside and renamed, so that a killed process leaves it whole or absent. Against a power failure it is synced once per
//! image, before the image's record is written: after a start only layers that a record names are believed.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::blobs::random_name;
use super::digest::Digest;
use super::error::{ImageError, Result};
use super::files;
use super::record::Usage;
use super::unpack::unpack;
use super::usage::usage_of;

/// Unpacked layers by chain id. All its work is blocking.
#[derive(Debug, Clone)]
pub struct Snapshots {
    dir: PathBuf,
}

/// One unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The digest of its plain tar.
    pub diff_id: Digest,
    /// What it takes.
    pub usage: Usage,
}

// Names of what is not whole yet, or no longer.
const COMING: &str = "coming-";
const GOING: &str = "going-";

// === impl Snapshots ===

impl Snapshots {
    /// Opens the directory below `root`.
    pub fn open(root: &Path) -> Result<Self> {
        let snapshots = Snapshots { dir: root.join("snapshots") };
        files::make_dir(&snapshots.dir)?;
        Ok(snapshots)
    }

    /// Removes what an earlier process left half done, and what no record names. Only for the time before anybody else
    /// works here.
    pub fn settle(&self, named: &HashSet<Digest>) -> Result<()> {
        let stray = |name: &str| match Digest::from_hex(name) {
            Ok(chain) => !named.contains(&chain),
            Err(_) => name.starts_with(GOING) || name.starts_with(COMING),
        };
        self.sweep_names(stray)
    }

    /// Makes all layers durable with one call.
    pub fn sync(&self) -> Result<()> {
        let synced = File::open(&self.dir).and_then(|dir| Ok(rustix::fs::syncfs(&dir)?));
        synced.map_err(|error| ImageError::io("sync", &self.dir, error))
    }

    /// The root directory of a layer.
    pub fn path(&self, chain: Digest) -> PathBuf {
        self.dir.join(chain.hex()).join("fs")
    }

    /// A layer that is here.
    pub fn get(&self, chain: Digest) -> Option<Snapshot> {
        let bytes = fs::read(self.dir.join(chain.hex()).join("layer.json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Unpacks a layer over those in `below` (the nearest first), and checks that it is what the config promised.
    pub fn create(
        &self,
        chain: Digest,
        diff_id: Digest,
        layer: Digest,
        blob: File,
        below: &[Digest],
    ) -> Result<Snapshot> {
        let aside = self.dir.join(format!("{COMING}{}", random_name()));
        let made = self.create_in(&aside, chain, diff_id, layer, blob, below);
        if made.is_err()
            && let Err(error) = files::remove_tree(&aside)
        {
            tracing::warn!(%error, "half an unpacked layer stays until the next start");
        }
        made
    }

    fn create_in(
        &self,
        aside: &Path,
        chain: Digest,
        diff_id: Digest,
        layer: Digest,
        blob: File,
        below: &[Digest],
    ) -> Result<Snapshot> {
        let root = aside.join("fs");
        files::make_dir(&root)?;
        // What no entry of the layer sets.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&root, mode).map_err(|error| ImageError::io("change mode of", &root, error))?;
        let below: Vec<PathBuf> = below.iter().map(|chain| self.path(*chain)).collect();
        let actual = unpack(layer, blob, &root, &below)?;
        if actual != diff_id {
            return Err(ImageError::DigestMismatch { kind: "unpacked layer", expected: diff_id, actual });
        }
        let usage = usage_of(&root).map_err(|error| ImageError::io("measure", &root, error))?;
        let snapshot = Snapshot { diff_id, usage };
        let text = serde_json::to_vec(&snapshot).map_err(|error| ImageError::manifest("layer.json", error))?;
        let record = aside.join("layer.json");
        fs::write(&record, &text).map_err(|error| ImageError::io("write", &record, error))?;
        let place = self.dir.join(chain.hex());
        // Only damage can be there: the caller found no whole layer, and holds this one's gate.
        files::remove_tree(&place)?;
        fs::rename(aside, &place).map_err(|error| ImageError::io("rename to", &place, error))?;
        Ok(snapshot)
    }

    /// Takes a layer's name away; `sweep_dropped` removes it.
    pub fn drop_name(&self, chain: Digest) -> Result<()> {
        let (from, to) = (self.dir.join(chain.hex()), self.dir.join(format!("{GOING}{}", random_name())));
        fs::rename(&from, &to).map_err(|error| ImageError::io("rename", &from, error))
    }

    /// Removes what has no name, but what is being made stays.
    pub fn sweep_dropped(&self) -> Result<()> {
        self.sweep_names(|name| name.starts_with(GOING))
    }

    fn sweep_names(&self, dead: impl Fn(&str) -> bool) -> Result<()> {
        let listing = fs::read_dir(&self.dir).map_err(|error| ImageError::io("list", &self.dir, error))?;
        for entry in listing.flatten() {
            if entry.file_name().to_str().is_some_and(&dead) {
                files::remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }

    /// All layers. One without its `layer.json` is named with what it takes unknown.
    pub fn list(&self) -> Result<Vec<(Digest, Usage)>> {
        let listing = fs::read_dir(&self.dir).map_err(|error| ImageError::io("list", &self.dir, error))?;
        let chains = listing.flatten().filter_map(|entry| Digest::from_hex(entry.file_name().to_str()?).ok());
        Ok(chains.map(|chain| (chain, self.get(chain).map(|layer| layer.usage).unwrap_or_default())).collect())
    }
}
