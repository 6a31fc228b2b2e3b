//! Garbage collection: what nobody needs goes; of images, those unused for longest.

use std::sync::Arc;

use jiff::Timestamp;

use super::digest::Digest;
use super::error::Result;
use super::options::{CollectPolicy, Collected};
use super::record::Image;
use super::store::{Store, blocking};

/// Removes blobs and unpacked layers that no image, container or running work needs.
pub async fn collect_unused(store: &Arc<Store>) -> Result<Collected> {
    let store = store.clone();
    let alone = store.collecting.clone().lock_owned().await;
    blocking(move || {
        let _alone = alone;
        let mut done = Collected::default();
        let (blobs, snapshots) = (store.blobs.list()?, store.snapshots.list()?);
        {
            // Under the lock, so that nobody takes a lease on what is about to go; renaming is quick, removing is not.
            let state = store.state.lock();
            let (needed_blobs, needed_chains) = state.needed();
            for (digest, size) in blobs.into_iter().filter(|(digest, _)| !needed_blobs.contains(digest)) {
                store.blobs.drop_name(digest)?;
                done.blobs += 1;
                done.bytes = done.bytes.saturating_add(size);
            }
            for (chain, usage) in snapshots.into_iter().filter(|(chain, _)| !needed_chains.contains(chain)) {
                store.snapshots.drop_name(chain)?;
                done.snapshots += 1;
                done.bytes = done.bytes.saturating_add(usage.bytes);
            }
            done.bytes = done.bytes.saturating_add(store.blobs.sweep_partial(|digest| state.is_leased(digest))?);
        }
        store.blobs.sweep_dropped()?;
        store.snapshots.sweep_dropped()?;
        Ok(done)
    })
    .await
}

/// Removes images by the policy, one after the other, until enough is free.
pub async fn collect_images(store: &Arc<Store>, policy: &CollectPolicy) -> Result<Collected> {
    let mut done = collect_unused(store).await?;
    let candidates = {
        let state = store.state.lock();
        let mounted = |id: Digest| state.rootfs.values().any(|rootfs| rootfs.image == id);
        let images: Vec<Arc<Image>> = state.records.all().filter(|image| !mounted(image.id)).cloned().collect();
        candidates(&images, policy, Timestamp::now())
    };
    for id in candidates {
        if done.bytes >= policy.bytes {
            break;
        }
        let owner = store.clone();
        blocking(move || owner.state.lock().records.remove(id)).await?;
        tracing::info!(image = %id, "image removed by garbage collection");
        let freed = collect_unused(store).await?;
        done.images.push(id);
        done.blobs += freed.blobs;
        done.snapshots += freed.snapshots;
        done.bytes = done.bytes.saturating_add(freed.bytes);
    }
    Ok(done)
}

/// Which images may go, the longest unused first.
fn candidates(images: &[Arc<Image>], policy: &CollectPolicy, now: Timestamp) -> Vec<Digest> {
    let age = |image: &Image| now.duration_since(image.last_used).unsigned_abs();
    let mut free: Vec<&Arc<Image>> = images
        .iter()
        .filter(|image| !image.pinned && !policy.in_use.contains(&image.id) && age(image) >= policy.minimum_age)
        .collect();
    free.sort_by_key(|image| (image.last_used, image.stored, image.id));
    free.into_iter().map(|image| image.id).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;
    use crate::images::manifest::{Descriptor, Platform, RunConfig};

    fn image(seed: &str, used: i64, pinned: bool) -> Arc<Image> {
        let id = Digest::of(seed.as_bytes());
        Arc::new(Image {
            id,
            repo_tags: vec![],
            repo_digests: vec![],
            manifest: Descriptor::new("", id, 1),
            config: Descriptor::new("", id, 2),
            layers: vec![],
            diff_ids: vec![],
            index: None,
            platform: Platform::host(),
            run: RunConfig::default(),
            created: None,
            stored: Timestamp::UNIX_EPOCH,
            last_used: Timestamp::from_second(used).unwrap(),
            pinned,
        })
    }

    #[test]
    fn the_longest_unused_go_first_and_pinned_young_or_used_ones_stay() {
        let images = [
            image("a", 300, false),
            image("b", 100, false),
            image("c", 50, true),
            image("d", 10, false),
            image("e", 990, false),
        ];
        let policy =
            CollectPolicy { bytes: 1, minimum_age: Duration::from_secs(60), in_use: HashSet::from([Digest::of(b"d")]) };
        let now = Timestamp::from_second(1000).unwrap();
        assert_eq!(candidates(&images, &policy, now), [Digest::of(b"b"), Digest::of(b"a")]);
    }
}
