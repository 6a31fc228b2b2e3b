//! Removing images that nobody uses, when the disk fills: at 85 percent, down to 80 (upstream's defaults).

use crate::worker::Shared;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trireme_client::EventKind;
use trireme_cri as cri;

const LOOK: Duration = Duration::from_secs(300);
const HIGH: u64 = 85;
const LOW: u64 = 80;
/// An image is kept at least this long.
const YOUNGEST: Duration = Duration::from_secs(120);

/// An image that was seen.
#[derive(Clone, Copy, Debug)]
struct Seen {
    first: Instant,
    used: Instant,
}

/// Removes images until `stop`.
pub(crate) async fn keep(shared: Arc<Shared>, stop: CancellationToken) {
    let mut seen: HashMap<String, Seen> = HashMap::new();
    loop {
        if let Err(why) = collect(&shared, &mut seen).await {
            tracing::warn!(why, "images cannot be removed");
            shared.recorder.record(&shared.reference(), EventKind::Warning, "ImageGCFailed", why);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn collect(shared: &Shared, seen: &mut HashMap<String, Seen>) -> Result<(), String> {
    let text = |s: tonic::Status| s.message().to_owned();
    let (mut images, mut runtime) = (shared.cri.images.clone(), shared.cri.runtime.clone());
    let all = images.list_images(cri::ListImagesRequest::default()).await.map_err(text)?.into_inner().images;
    let containers = runtime.list_containers(cri::ListContainersRequest::default()).await.map_err(text)?;
    let used: BTreeSet<String> = containers.into_inner().containers.into_iter().map(|c| c.image_id).collect();
    let now = Instant::now();
    for image in &all {
        let entry = seen.entry(image.id.clone()).or_insert(Seen { first: now, used: now });
        if used.contains(&image.id) {
            entry.used = now;
        }
    }
    seen.retain(|id, _| all.iter().any(|i| i.id == *id));
    let info = images.image_fs_info(cri::ImageFsInfoRequest {}).await.map_err(text)?.into_inner();
    let place = info.image_filesystems.into_iter().next().and_then(|f| f.fs_id).unwrap_or_default().mountpoint;
    let Ok(disk) = rustix::fs::statvfs(Path::new(&place)) else { return Ok(()) };
    let (size, free) = (disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize);
    let Some(wanted) = to_free(size, free) else { return Ok(()) };
    let mut freed = 0;
    for id in candidates(&all, &used, seen, now) {
        if freed >= wanted {
            return Ok(());
        }
        let size = all.iter().find(|i| i.id == id).map_or(0, |i| i.size);
        let image = cri::ImageSpec { image: id.clone(), ..cri::ImageSpec::default() };
        images.remove_image(cri::RemoveImageRequest { image: Some(image) }).await.map_err(text)?;
        tracing::info!(image = %id, size, "removed an image to free disk space");
        freed += size;
    }
    match freed < wanted {
        true => Err(format!(
            "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found {freed} bytes eligible to free."
        )),
        false => Ok(()),
    }
}

/// Removes all images that nobody uses, since the disk is needed now.
///
/// # Errors
/// What the runtime says.
pub(crate) async fn remove_unused(shared: &Shared) -> Result<(), String> {
    let text = |s: tonic::Status| s.message().to_owned();
    let (mut images, mut runtime) = (shared.cri.images.clone(), shared.cri.runtime.clone());
    let all = images.list_images(cri::ListImagesRequest::default()).await.map_err(text)?.into_inner().images;
    let containers = runtime.list_containers(cri::ListContainersRequest::default()).await.map_err(text)?;
    let used: BTreeSet<String> = containers.into_inner().containers.into_iter().map(|c| c.image_id).collect();
    for image in all.into_iter().filter(|i| !i.pinned && !used.contains(&i.id)) {
        tracing::info!(image = %image.id, image.size, "removed an image to free disk space");
        let spec = cri::ImageSpec { image: image.id, ..cri::ImageSpec::default() };
        images.remove_image(cri::RemoveImageRequest { image: Some(spec) }).await.map_err(text)?;
    }
    Ok(())
}

/// How many bytes are to be freed; none while the disk is not full enough.
fn to_free(size: u64, free: u64) -> Option<u64> {
    let used_percent = 100 - free.min(size) * 100 / size.max(1);
    (used_percent >= HIGH).then(|| (size / 100 * (100 - LOW)).saturating_sub(free))
}

/// Images that may go, those first that were not used for longest.
fn candidates(all: &[cri::Image], used: &BTreeSet<String>, seen: &HashMap<String, Seen>, now: Instant) -> Vec<String> {
    let old = |id: &str| seen.get(id).is_some_and(|s| now.duration_since(s.first) >= YOUNGEST);
    let mut out: Vec<&cri::Image> = all.iter().filter(|i| !i.pinned && !used.contains(&i.id) && old(&i.id)).collect();
    out.sort_by_key(|i| seen.get(&i.id).map(|s| (s.used, s.first)));
    out.into_iter().map(|i| i.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_freed_from_high_to_low() {
        assert_eq!(to_free(1000, 160), None);
        assert_eq!(to_free(1000, 150), Some(50));
        assert_eq!(to_free(1000, 0), Some(200));
    }

    #[tokio::test]
    async fn what_is_used_pinned_or_young_stays() {
        let image = |id: &str, pinned| cri::Image { id: id.into(), pinned, ..cri::Image::default() };
        let all =
            [image("used", false), image("pinned", true), image("young", false), image("b", false), image("a", false)];
        let start = Instant::now();
        let now = start + Duration::from_secs(1000);
        let seen = |first: u64, used: u64| Seen {
            first: start + Duration::from_secs(first),
            used: start + Duration::from_secs(used),
        };
        let seen = HashMap::from([
            ("used".to_owned(), seen(0, 0)),
            ("pinned".to_owned(), seen(0, 0)),
            ("young".to_owned(), seen(950, 950)),
            ("b".to_owned(), seen(0, 500)),
            ("a".to_owned(), seen(0, 100)),
        ]);
        assert_eq!(candidates(&all, &BTreeSet::from(["used".to_owned()]), &seen, now), ["a", "b"]);
    }
}
