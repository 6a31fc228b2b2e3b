//! Pulls from a registry that misbehaves.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)] // Helpers of tests fail loudly as tests do.

mod images_fixture;

use std::sync::Arc;
use std::time::Duration;

use images_fixture::*;
use parking_lot::Mutex;
use trireme_runtime::images::{
    Credentials, Digest, ErrorClass, ImageError, Images, ImagesOptions, Mirror, PullEvent, PullRequest, Registries,
};

fn cause(error: ImageError) -> ImageError {
    match error {
        ImageError::Pull { source, .. } => *source,
        other => other,
    }
}

#[tokio::test]
async fn an_image_is_pulled_and_remembered() {
    if !is_root() {
        return;
    }
    let (root, registry) = (store_dir(), FakeRegistry::start().await);
    let made = small("one", Packing::Gzip);
    registry.put("team/app", "v1", &made);
    let images = open(root.path()).await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = events.clone();
    let name = registry.name("team/app:v1");
    let request =
        PullRequest { progress: Some(Arc::new(move |event| seen.lock().push(event))), ..PullRequest::new(&name) };
    let image = images.pull(request).await.unwrap();
    assert_eq!(image.id, Digest::of(&made.config));
    assert_eq!(image.repo_tags, std::slice::from_ref(&name));
    assert_eq!(image.repo_digests, [registry.name(&format!("team/app@{}", Digest::of(&made.manifest)))]);
    let size = made.manifest.len() + made.config.len() + made.layers.iter().map(Vec::len).sum::<usize>();
    assert_eq!(image.size(), size as u64);
    assert_eq!(image.user().uid, Some(1000));
    assert_eq!(
        (image.run.entrypoint.as_slice(), image.run.cmd.as_slice()),
        (&["/bin/app".into()][..], &["run".into()][..])
    );
    assert_eq!((image.run.working_dir.as_str(), image.run.stop_signal.as_str()), ("/srv", "SIGINT"));
    let events = events.lock().clone();
    assert!(matches!(events.first(), Some(PullEvent::Resolved { layers: 2, .. })), "{events:?}");
    assert_eq!(events.iter().filter(|event| matches!(event, PullEvent::Unpacked { .. })).count(), 2);
    // A restart remembers.
    drop(images);
    let images = open(root.path()).await;
    assert_eq!(images.get(&name).unwrap().id, image.id);
    assert_eq!(images.list(Some(&image.id.hex()[..12])).len(), 1);
    // Again: only the manifest is asked for.
    let before = registry.count("/blobs/");
    images.pull(PullRequest::new(&name)).await.unwrap();
    assert_eq!(registry.count("/blobs/"), before);
}

#[tokio::test]
async fn a_broken_connection_is_gone_on_with_where_it_stopped() {
    if !is_root() {
        return;
    }
    let (root, registry) = (store_dir(), FakeRegistry::start().await);
    let made = small("cut", Packing::Plain);
    registry.put("app", "v1", &made);
    let path = format!("/v2/app/blobs/{}", Digest::of(&made.layers[1]));
    registry.fault(&path, &[Fault::CutAfter(50_000), Fault::Status(503, "later"), Fault::StallAfter(20_000)]);
    let images = open(root.path()).await;
    images.pull(PullRequest::new(registry.name("app:v1"))).await.unwrap();
    let log = registry.state.lock().log.clone();
    let ranges: Vec<String> = log
        .iter()
        .filter(|(_, logged, _)| *logged == path)
        .map(|(_, _, headers)| headers.get("range").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default())
        .collect();
    assert_eq!(ranges.len(), 4, "{ranges:?}");
    assert_eq!((ranges[0].as_str(), ranges[1].as_str()), ("", "bytes=50000-"));
    assert_eq!(ranges[3], "bytes=70000-");
}

#[tokio::test]
async fn a_corrupt_layer_is_named_with_both_digests_and_nothing_stays() {
    if !is_root() {
        return;
    }
    let (root, registry) = (store_dir(), FakeRegistry::start().await);
    let made = small("bad", Packing::Gzip);
    registry.put("app", "v1", &made);
    let (good, mut bad) = (Digest::of(&made.layers[1]), made.layers[1].clone());
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    registry.put_raw(&format!("/v2/app/blobs/{good}"), "x", &bad);
    let images = open(root.path()).await;
    let error = images.pull(PullRequest::new(registry.name("app:v1"))).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("layer {good} is corrupt")), "{text}");
    assert!(text.contains(&format!("expected {good}, actual {}", Digest::of(&bad))), "{text}");
    assert_eq!(error.class(), ErrorClass::Corrupt);
    assert!(images.list(None).is_empty());
    images.collect_unused().await.unwrap();
    assert_eq!(images.usage().await.unwrap().bytes, 0);
    // Too short and too long are told apart.
    for (bytes, actual) in [(&made.layers[1][..10], 10), (&[&made.layers[1][..], b"tail"].concat()[..], 4)] {
        registry.put_raw(&format!("/v2/app/blobs/{good}"), "x", bytes);
        let error = cause(images.pull(PullRequest::new(registry.name("app:v1"))).await.unwrap_err());
        assert!(matches!(error, ImageError::SizeMismatch { digest, .. } if digest == good), "{actual}: {error}");
    }
    // And the right content heals it.
    registry.put("app", "v1", &made);
    images.pull(PullRequest::new(registry.name("app:v1"))).await.unwrap();
}

#[tokio::test]
async fn a_layer_that_is_not_what_the_config_promises_is_refused() {
    if !is_root() {
        return;
    }
    let (root, registry) = (store_dir(), FakeRegistry::start().await);
    let (mut made, other) = (small("a", Packing::Gzip), small("b", Packing::Gzip));
    let manifest: serde_json::Value = serde_json::from_slice(&made.manifest).unwrap();
    let mut swapped = manifest.clone();
    swapped["layers"][0] = serde_json::from_slice::<serde_json::Value>(&other.manifest).unwrap()["layers"][0].clone();
    made.manifest = serde_json::to_vec(&swapped).unwrap();
    made.layers[0] = other.layers[0].clone();
    registry.put("app", "v1", &made);
    let images = open(root.path()).await;
    let error = images.pull(PullRequest::new(registry.name("app:v1"))).await.unwrap_err();
    assert!(error.to_string().contains("unpacked layer"), "{error}");
    let listed = std::fs::read_dir(root.path().join("snapshots")).unwrap().count();
    assert_eq!(listed, 0);
}

#[tokio::test]
async fn what_is_missing_is_not_found_and_who_is_away_is_unreachable() {
    let (root, registry) = (store_dir(), FakeRegistry::start().await);
    let images = open(root.path()).await;
    let error = images.pull(PullRequest::new(registry.name("app:none"))).await.unwrap_err();
    let name = registry.name("app:none");
    assert_eq!(error.to_string(), format!("failed to pull and unpack image {name:?}: {name}: not found"));
    assert_eq!(error.class(), ErrorClass::NotFound);

    let gone = registry.name("app:v1");
    drop(registry);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = images.pull(PullRequest::new(format!("{free}/app:v1"))).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable, "{gone}: {error}");
    let text = error.to_string();
    assert!(text.contains("failed to do request") && text.contains("onnection refused"), "{text}");

    let error = images.pull(PullRequest::new("UPPER/case")).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable, "a registry that has no such name: {error}");
    let error = images.pull(PullRequest::new("a//b")).await.unwrap_err();
    assert_eq!(error.to_string(), "failed to parse reference \"a//b\": invalid reference format");
}

#[tokio::test]
async fn tokens_are_fetched_with_credentials_and_not_given_to_others() {
    if !is_root() {
        return;
    }
    let (root, registry, cdn) = (store_dir(), FakeRegistry::start().await, FakeRegistry::start().await);
    let made = small("private", Packing::Gzip);
    registry.put("app", "v1", &made);
    cdn.put("app", "v1", &made);
    registry.state.lock().token = Some("secret-token".into());
    registry.state.lock().redirect_blobs = Some(format!("http://{}", cdn.address));
    let images = open(root.path()).await;
    let request = PullRequest::new(registry.name("app:v1"));
    let error = images.pull(request.clone()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unauthorized);
    assert!(error.to_string().contains("pull access denied"), "{error}");

    let wrong = Credentials { username: "u".into(), password: "wrong".into(), ..Credentials::default() };
    let error = images.pull(PullRequest { credentials: Some(wrong), ..request.clone() }).await.unwrap_err();
    assert!(error.to_string().contains("failed to fetch oauth token: 401"), "{error}");

    // The same by the base64 form, a refresh token, and a ready token.
    let by_auth = Credentials { auth: "dTpw".into(), ..Credentials::default() };
    images.pull(PullRequest { credentials: Some(by_auth), ..request.clone() }).await.unwrap();
    assert!(registry.count("scope=repository%3Ax%3Apull") > 0);
    let by_refresh = Credentials { identity_token: "r".into(), ..Credentials::default() };
    images.pull(PullRequest { credentials: Some(by_refresh), ..request.clone() }).await.unwrap();
    let ready = Credentials { registry_token: "secret-token".into(), ..Credentials::default() };
    images.pull(PullRequest { credentials: Some(ready), ..request }).await.unwrap();
    let cdn_log = cdn.state.lock().log.clone();
    assert_eq!(cdn_log.len(), 3, "two layers and the config");
    assert!(cdn_log.iter().all(|(_, _, headers)| !headers.contains_key("authorization")));
}

#[tokio::test]
async fn an_index_leads_to_this_machine() {
    if !is_root() {
        return;
    }
    let (root, registry) = (store_dir(), FakeRegistry::start().await);
    let host = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let (ours, other) = (small("ours", Packing::Zstd), small("other", Packing::Gzip));
    registry.put("app", "x", &ours);
    let index_bytes = index(&[(&other, "s390x"), (&ours, host)]);
    let media_type = "application/vnd.oci.image.index.v1+json";
    let digest = Digest::of(&index_bytes);
    registry.put_raw("/v2/app/manifests/v1", media_type, &index_bytes);
    registry.put_raw(&format!("/v2/app/manifests/{digest}"), media_type, &index_bytes);
    let images = open(root.path()).await;
    let image = images.pull(PullRequest::new(registry.name("app:v1"))).await.unwrap();
    assert_eq!(image.id, Digest::of(&ours.config));
    assert_eq!(image.repo_digests, [registry.name(&format!("app@{digest}"))]);
    let pinned = images.pull(PullRequest::new(registry.name(&format!("app@{digest}")))).await.unwrap();
    assert_eq!(pinned.id, image.id);
    assert_eq!(pinned.repo_tags.len(), 1);

    let foreign = index(&[(&other, "s390x")]);
    registry.put_raw("/v2/app/manifests/v2", media_type, &foreign);
    let error = images.pull(PullRequest::new(registry.name("app:v2"))).await.unwrap_err();
    assert!(error.to_string().contains("no match for platform in manifest"), "{error}");
    assert!(error.to_string().contains("linux/s390x"), "{error}");
}

#[tokio::test]
async fn many_pulls_of_one_image_share_one_download() {
    if !is_root() {
        return;
    }
    let (root, registry) = (store_dir(), FakeRegistry::start().await);
    let made = small("shared", Packing::Gzip);
    registry.put("app", "v1", &made);
    let images = open(root.path()).await;
    let pulls = (0..8).map(|_| images.pull(PullRequest::new(registry.name("app:v1"))));
    for result in futures::future::join_all(pulls).await {
        result.unwrap();
    }
    assert_eq!(registry.count("/blobs/"), 3, "two layers and the config, once each");
    assert_eq!(images.list(None).len(), 1);
}

#[tokio::test]
async fn mirrors_are_asked_first_and_passed_over_when_they_fail() {
    if !is_root() {
        return;
    }
    let (root, registry, mirror) = (store_dir(), FakeRegistry::start().await, FakeRegistry::start().await);
    let made = small("mirrored", Packing::Gzip);
    registry.put("app", "v1", &made);
    mirror.put("app", "v1", &made);
    mirror.fault("/v2/app/manifests/v1", &[Fault::Status(500, "broken")]);
    let mut registries = Registries::default();
    registries
        .mirrors
        .insert(registry.address.to_string(), Mirror { endpoint: vec![format!("http://{}", mirror.address)] });
    let options = ImagesOptions { registries, limits: quick(), ..ImagesOptions::new(root.path()) };
    let images = Images::open(options).await.unwrap();
    images.pull(PullRequest::new(registry.name("app:v1"))).await.unwrap();
    assert_eq!(registry.count("/manifests/"), 1);
    assert_eq!((registry.count("/blobs/"), mirror.count("/blobs/")), (0, 3));
    assert!(mirror.count(&format!("?ns={}", registry.address)) > 0);
}

#[tokio::test]
async fn a_registry_that_limits_is_waited_for_and_one_that_hangs_is_not() {
    if !is_root() {
        return;
    }
    let (root, registry) = (store_dir(), FakeRegistry::start().await);
    let made = small("slow", Packing::Gzip);
    registry.put("app", "v1", &made);
    registry.fault("/v2/app/manifests/v1", &[Fault::Status(429, "slow down"), Fault::Status(502, "bad gateway")]);
    let images = open(root.path()).await;
    images.pull(PullRequest::new(registry.name("app:v1"))).await.unwrap();

    registry.put_raw("/v2/app/manifests/v2", "x", b"{}");
    registry.fault("/v2/app/manifests/v2", &vec![Fault::StallAfter(1); 9]);
    let limits = trireme_runtime::images::PullLimits { total: Some(Duration::from_millis(300)), ..quick() };
    drop(images);
    let options = ImagesOptions { limits, ..ImagesOptions::new(root.path()) };
    let images = Images::open(options).await.unwrap();
    let error = images.pull(PullRequest::new(registry.name("app:v2"))).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Deadline, "{error}");
}

#[tokio::test]
async fn manifests_that_make_no_sense_are_named() {
    let (root, registry) = (store_dir(), FakeRegistry::start().await);
    let images = open(root.path()).await;
    let garbage: [&[u8]; 5] = [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        br#"{"schemaVersion":2,"layers":[],"config":{"digest":"sha256:xx","size":1}}"#,
    ];
    for bytes in garbage {
        registry.put_raw("/v2/app/manifests/v1", "application/vnd.oci.image.manifest.v1+json", bytes);
        let error = images.pull(PullRequest::new(registry.name("app:v1"))).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Corrupt, "{error}");
    }
    registry.put_raw("/v2/app/manifests/v1", "x", &vec![b' '; 5 << 20]);
    let error = images.pull(PullRequest::new(registry.name("app:v1"))).await.unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
}

#[tokio::test]
async fn a_pull_that_is_given_up_is_gone_on_with_by_the_next() {
    if !is_root() {
        return;
    }
    let (root, registry) = (store_dir(), FakeRegistry::start().await);
    let made = small("given up", Packing::Plain);
    registry.put("app", "v1", &made);
    let path = format!("/v2/app/blobs/{}", Digest::of(&made.layers[1]));
    registry.fault(&path, &[Fault::StallAfter(60_000)]);
    let images = open(root.path()).await;
    let (arrived, mut news) = tokio::sync::mpsc::unbounded_channel();
    let progress = Arc::new(move |event| {
        let _ = arrived.send(event);
    });
    let request = PullRequest { progress: Some(progress), ..PullRequest::new(registry.name("app:v1")) };
    let pull = tokio::spawn({
        let (images, request) = (images.clone(), request.clone());
        async move { images.pull(request).await }
    });
    while let Some(event) = news.recv().await {
        if matches!(event, PullEvent::Fetched { bytes: 60_000.., layer, .. } if layer == Digest::of(&made.layers[1])) {
            break;
        }
    }
    pull.abort();
    assert!(pull.await.unwrap_err().is_cancelled());
    images.pull(request).await.unwrap();
    let log = registry.state.lock().log.clone();
    let again = log.iter().filter(|(_, logged, _)| *logged == path).nth(1).unwrap();
    assert_eq!(again.2.get("range").unwrap(), "bytes=60000-");
}

#[tokio::test]
async fn damage_of_the_local_store_is_healed_by_the_next_pull() {
    if !is_root() {
        return;
    }
    let (root, registry) = (store_dir(), FakeRegistry::start().await);
    let made = small("damaged here", Packing::Gzip);
    registry.put("app", "v1", &made);
    let name = registry.name("app:v1");
    let images = open(root.path()).await;
    let id = images.pull(PullRequest::new(&name)).await.unwrap().id;
    drop(images);
    // A layer's blob and the config rot, an unpacked layer is lost, a record is cut off.
    let blob = |bytes: &[u8]| root.path().join("blobs/sha256").join(Digest::of(bytes).hex());
    std::fs::write(blob(&made.layers[0]), vec![0u8; made.layers[0].len()]).unwrap();
    std::fs::write(blob(&made.config), vec![b' '; made.config.len()]).unwrap();
    std::fs::remove_dir_all(root.path().join("snapshots")).unwrap();
    std::fs::write(root.path().join(format!("images/{}.json", id.hex())), "{").unwrap();
    let images = open(root.path()).await;
    assert!(images.list(None).is_empty());
    images.pull(PullRequest::new(&name)).await.unwrap();
    let rootfs = images.mount_rootfs("c", &name).await.unwrap();
    assert_eq!(std::fs::read_to_string(rootfs.path.join("bin/app")).unwrap(), "damaged here");
    images.remove_rootfs("c").await.unwrap();
}

/// A small file system, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(bytes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(format!("size={bytes}")).unwrap();
        rustix::mount::mount("tmpfs", dir.path(), "tmpfs", rustix::mount::MountFlags::empty(), options.as_c_str())
            .unwrap();
        SmallDisk(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_is_called_that_and_a_roomier_one_serves() {
    if !is_root() {
        return;
    }
    let registry = FakeRegistry::start().await;
    let big = "x".repeat(3 << 20);
    let made = image(&[tar(&[("bin/app", "small")]), tar(&[("big", &big)])], Packing::Gzip, "big");
    registry.put("app", "v1", &made);
    registry.put("app", "small", &small("small", Packing::Gzip));
    let disk = SmallDisk::new(1 << 20);
    let images = open(disk.0.path()).await;
    let kept = images.pull(PullRequest::new(registry.name("app:small"))).await.unwrap();
    let error = images.pull(PullRequest::new(registry.name("app:v1"))).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::DiskFull, "{error}");
    assert!(error.to_string().contains("No space left on device"), "{error}");
    assert_eq!(images.list(None), [kept], "the other image is untouched");
    images.collect_unused().await.unwrap();
    images.mount_rootfs("c", &registry.name("app:small")).await.unwrap();
    images.remove_rootfs("c").await.unwrap();
    drop(images);
    let disk = SmallDisk::new(16 << 20);
    open(disk.0.path()).await.pull(PullRequest::new(registry.name("app:v1"))).await.unwrap();
}
