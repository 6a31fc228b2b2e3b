//! The local store: archives, built images, root file systems, collection, and what survives a sudden death.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)] // Helpers of tests fail loudly as tests do.

mod images_fixture;

use std::collections::HashSet;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use images_fixture::*;
use parking_lot::Mutex;
use serde_json::json;
use trireme_runtime::images::{
    BuildEntry, BuildRequest, BuildSource, CollectPolicy, Digest, ErrorClass, ImageError, Images, ImagesOptions,
    PullRequest, RunConfig,
};

fn entry(path: &str, source: BuildSource) -> BuildEntry {
    BuildEntry { path: path.into(), mode: None, owner: (0, 0), source }
}

fn build_request(name: &str, content: &str) -> BuildRequest {
    BuildRequest {
        image: name.into(),
        entries: vec![
            entry("/app/data", BuildSource::Bytes(content.as_bytes().to_vec())),
            entry("/bin/sh", BuildSource::Symlink("/app/data".into())),
            entry("/tmp", BuildSource::Directory),
        ],
        run: RunConfig { entrypoint: vec!["/app/data".into()], user: "app".into(), ..RunConfig::default() },
        pinned: false,
    }
}

fn mounts_below(root: &Path) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines().filter(|line| line.contains(root.to_str().unwrap())).map(str::to_owned).collect()
}

/// A writer whose bytes the test can look at.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn an_image_is_built_of_files_and_is_the_same_each_time() {
    if !is_root() {
        return;
    }
    let (one, two, source) = (store_dir(), store_dir(), tempfile::tempdir().unwrap());
    std::fs::create_dir(source.path().join("deep")).unwrap();
    std::fs::write(source.path().join("deep/file"), "deep").unwrap();
    std::os::unix::fs::symlink("file", source.path().join("deep/link")).unwrap();
    let mut request = build_request("demo", "hello");
    request.entries.push(entry("/srv/tree", BuildSource::Path(source.path().into())));
    let mut self_entry = entry("/usr/bin/self", BuildSource::Path(std::env::current_exe().unwrap()));
    self_entry.mode = Some(0o755);
    request.entries.push(self_entry);
    let (first, second) = (open(one.path()).await, open(two.path()).await);
    let image = first.build(request.clone()).await.unwrap();
    assert_eq!(second.build(request).await.unwrap().id, image.id);
    assert_eq!(image.repo_tags, ["docker.io/library/demo:latest"]);
    assert_eq!((image.user().uid, image.user().username.as_str()), (None, "app"));
    let rootfs = first.mount_rootfs("c1", "demo").await.unwrap();
    assert_eq!(std::fs::read_to_string(rootfs.path.join("app/data")).unwrap(), "hello");
    assert_eq!(std::fs::read_to_string(rootfs.path.join("srv/tree/deep/link")).unwrap(), "deep");
    assert_eq!(std::fs::read_link(rootfs.path.join("bin/sh")).unwrap(), Path::new("/app/data"));
    let bin = std::fs::metadata(rootfs.path.join("usr/bin/self")).unwrap();
    assert_eq!(bin.permissions().mode() & 0o777, 0o755);
    assert_eq!(bin.len(), std::fs::metadata(std::env::current_exe().unwrap()).unwrap().len());
    first.remove_rootfs("c1").await.unwrap();
    let bad = BuildRequest { entries: vec![entry("/a/../../b", BuildSource::Directory)], ..build_request("x", "") };
    assert!(first.build(bad).await.is_err());
}

#[tokio::test]
async fn a_container_keeps_its_layers_and_what_it_wrote() {
    if !is_root() {
        return;
    }
    let root = store_dir();
    let images = open(root.path()).await;
    let image = images.build(build_request("app", "v1")).await.unwrap();
    let rootfs = images.mount_rootfs("c1", "app").await.unwrap();
    std::fs::write(rootfs.path.join("state"), vec![b'x'; 100_000]).unwrap();
    assert!(images.rootfs_usage("c1").await.unwrap().bytes >= 100_000);
    // The image goes, the container stays, also after a restart.
    assert_eq!(images.remove("app").await.unwrap(), Some(image.id));
    assert_eq!(images.remove("app").await.unwrap(), None);
    images.unmount_rootfs("c1").await.unwrap();
    assert!(mounts_below(root.path()).is_empty());
    drop(images);
    let images = open(root.path()).await;
    images.collect_unused().await.unwrap();
    assert_eq!(images.rootfs_ids().into_iter().collect::<Vec<_>>(), ["c1"]);
    let again = images.mount_rootfs("c1", "whatever").await.unwrap();
    assert_eq!(again, rootfs);
    assert_eq!(images.mount_rootfs("c1", "app").await.unwrap(), rootfs);
    assert_eq!(mounts_below(root.path()).len(), 1, "mounted once");
    assert_eq!(std::fs::read(rootfs.path.join("state")).unwrap().len(), 100_000);
    assert_eq!(std::fs::read_to_string(rootfs.path.join("app/data")).unwrap(), "v1");
    images.remove_rootfs("c1").await.unwrap();
    images.remove_rootfs("c1").await.unwrap();
    let collected = images.collect_unused().await.unwrap();
    assert_eq!(collected.snapshots, 1);
    assert_eq!(images.usage().await.unwrap().bytes, 0);
    assert!(mounts_below(root.path()).is_empty());
    for id in ["", "..", "a/b", ".hidden", "a b"] {
        assert!(images.mount_rootfs(id, "app").await.is_err(), "{id:?}");
        assert!(images.remove_rootfs(id).await.is_err(), "{id:?}");
    }
}

#[tokio::test]
async fn a_volume_of_an_image_is_read_only() {
    if !is_root() {
        return;
    }
    let root = store_dir();
    let images = open(root.path()).await;
    images.build(build_request("data", "v1")).await.unwrap();
    let volume = images.mount_volume("v1", "data").await.unwrap();
    assert_eq!(std::fs::read_to_string(volume.path.join("app/data")).unwrap(), "v1");
    let error = std::fs::write(volume.path.join("x"), "x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    images.remove_rootfs("v1").await.unwrap();
    assert!(mounts_below(root.path()).is_empty());
}

#[tokio::test]
async fn hundreds_of_layers_below_a_long_path_are_mounted() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("long/".repeat(40));
    let tars: Vec<Vec<u8>> = (0..300).map(|i| tar(&[(&format!("f{i}"), "x"), ("last", &i.to_string())])).collect();
    let archive = layout(&[(&image(&tars, Packing::Plain, "deep"), "deep:v1")]);
    let images = open(&root).await;
    images.import(std::io::Cursor::new(archive)).await.unwrap();
    let rootfs = images.mount_rootfs("c1", "deep:v1").await.unwrap();
    assert_eq!(std::fs::read_to_string(rootfs.path.join("last")).unwrap(), "299");
    assert!((0..300).all(|i| rootfs.path.join(format!("f{i}")).exists()));
    images.remove_rootfs("c1").await.unwrap();
}

/// An OCI layout in a tar.
fn layout(entries: &[(&Made, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: String, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, path, bytes).unwrap();
    };
    let mut manifests = Vec::new();
    for (made, name) in entries {
        for blob in made.layers.iter().chain([&made.config, &made.manifest]) {
            add(format!("blobs/sha256/{}", Digest::of(blob).hex()), blob);
        }
        let mut entry = descriptor(&made.media_type, &made.manifest);
        if !name.is_empty() {
            entry["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": "v1"});
        }
        manifests.push(entry);
    }
    add("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#);
    add("index.json".into(), json!({"schemaVersion": 2, "manifests": manifests}).to_string().as_bytes());
    builder.into_inner().unwrap()
}

/// What `docker save` wrote before it knew OCI: layers by id, one of them a link to another's file.
fn docker_save(made: &Made, tars: &[Vec<u8>], tags: serde_json::Value) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, path, bytes).unwrap();
    };
    let config = format!("{}.json", Digest::of(&made.config).hex());
    let paths: Vec<String> = (0..tars.len()).map(|i| format!("layer{i}/layer.tar")).collect();
    add(&config, &made.config);
    add("layer0/layer.tar", &tars[0]);
    add("layer0/VERSION", b"1.0");
    let manifest = json!([{"Config": config, "RepoTags": tags, "Layers": paths}]).to_string();
    add("manifest.json", manifest.as_bytes());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "layer1/layer.tar", "../layer0/layer.tar").unwrap();
    builder.into_inner().unwrap()
}

#[tokio::test]
async fn archives_of_every_kind_are_imported_and_exported_again() {
    if !is_root() {
        return;
    }
    let root = store_dir();
    let images = open(root.path()).await;
    let (one, two) = (small("one", Packing::Gzip), small("two", Packing::Zstd));
    let archive = layout(&[(&one, "docker.io/library/one:v1"), (&two, "reg.io/two:v1"), (&one, "one:v2")]);
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let imported = images.import(std::io::Cursor::new(pack(&archive, packing))).await.unwrap();
        let ids: HashSet<Digest> = imported.iter().map(|image| image.id).collect();
        assert_eq!(ids, HashSet::from([Digest::of(&one.config), Digest::of(&two.config)]));
    }
    assert_eq!(images.get("one").unwrap_err().class(), ErrorClass::NotFound);
    assert_eq!(images.get("one:v2").unwrap().repo_tags.len(), 2);

    let base = tar(&[("a", "1")]);
    let saved = image(&[base.clone(), base.clone()], Packing::Plain, "saved");
    let archive = docker_save(&saved, &[base.clone(), base], json!(["saved:v1", "saved:v2"]));
    let imported = images.import(std::io::Cursor::new(pack(&archive, Packing::Gzip))).await.unwrap();
    assert_eq!(imported[0].repo_tags, ["docker.io/library/saved:v1", "docker.io/library/saved:v2"]);
    let nameless = docker_save(&saved, &[tar(&[("a", "1")]), vec![]], json!(null));
    images.import(std::io::Cursor::new(nameless)).await.unwrap();

    let out = Shared::default();
    images.export(&["one:v1".into(), "saved:v1".into(), "one:v2".into()], out.clone()).await.unwrap();
    let other = tempfile::tempdir().unwrap();
    let there = open(other.path()).await;
    let bytes = out.0.lock().clone();
    there.import(std::io::Cursor::new(bytes)).await.unwrap();
    for name in ["one:v1", "one:v2", "saved:v1", "saved:v2"] {
        assert_eq!(there.get(name).unwrap().id, images.get(name).unwrap().id, "{name}");
    }
    assert!(images.export(&["none".into()], Shared::default()).await.is_err());

    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("good.tar"), &archive).unwrap();
    std::fs::write(files.path().join("bad.tar"), b"nonsense").unwrap();
    std::fs::write(files.path().join("readme.txt"), b"nonsense").unwrap();
    let results = images.import_dir(files.path()).await.unwrap();
    assert_eq!(results.iter().map(|(_, result)| result.is_ok()).collect::<Vec<_>>(), [false, true]);
    assert!(images.import_dir(Path::new("/no/such")).await.unwrap().is_empty());
}

#[tokio::test]
async fn broken_archives_are_refused_with_a_reason_and_leave_nothing() {
    if !is_root() {
        return;
    }
    let root = store_dir();
    let images = open(root.path()).await;
    let made = small("x", Packing::Gzip);
    let whole = layout(&[(&made, "x:v1")]);
    let mut flipped = made.clone();
    let middle = flipped.layers[0].len() / 2;
    flipped.layers[0][middle] ^= 1;
    let mut wrong_name = layout(&[(&made, "x:v1")]);
    // The first blob's content, behind its header.
    wrong_name[512 + 20] ^= 1;
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), "neither index.json"),
        (b"not a tar at all".to_vec(), "failed to import archive"),
        (whole[..whole.len() / 2].to_vec(), ""),
        (tar(&[("some", "file")]), "neither index.json"),
        (tar(&[("index.json", "{")]), "index.json"),
        (tar(&[("index.json", r#"{"manifests":[]}"#)]), "there is no image in it"),
        (tar(&[("manifest.json", r#"[{"Config":"c.json","Layers":[]}]"#)]), "c.json is missing"),
        (tar(&[("manifest.json", "[]")]), "neither index.json"),
        (tar(&[("manifest.json", r#"{"a":1}"#)]), "manifest.json"),
        (layout(&[(&flipped, "x:v1")]), "is missing"),
        (wrong_name, "archive member"),
    ];
    for (bytes, reason) in cases {
        let error = images.import(std::io::Cursor::new(bytes)).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Corrupt, "{error}");
        assert!(error.to_string().contains(reason), "{error} / {reason}");
    }
    assert!(images.list(None).is_empty());
    images.collect_unused().await.unwrap();
    assert_eq!(images.usage().await.unwrap().bytes, 0);
}

#[tokio::test]
async fn tags_move_and_images_are_collected_by_age() {
    if !is_root() {
        return;
    }
    let root = store_dir();
    let images = open(root.path()).await;
    for name in ["a", "b", "c", "d"] {
        images.build(build_request(name, &name.repeat(200_000))).await.unwrap();
    }
    images.tag("a", "reg.io/a:stable").await.unwrap();
    images.untag("a").await.unwrap();
    assert!(images.get("a").is_err());
    assert!(images.get("reg.io/a:stable").is_ok());
    images.set_pinned("b", true).await.unwrap();
    images.mount_rootfs("user-of-c", "c").await.unwrap();
    let young = CollectPolicy { bytes: u64::MAX, minimum_age: Duration::from_secs(3600), ..CollectPolicy::default() };
    assert!(images.collect_images(young).await.unwrap().images.is_empty());
    let d = images.get("d").unwrap().id;
    let policy = CollectPolicy { bytes: 100_000, in_use: HashSet::from([d]), ..CollectPolicy::default() };
    let collected = images.collect_images(policy).await.unwrap();
    assert_eq!(collected.images.len(), 1);
    assert!(collected.bytes >= 400_000, "{collected:?}");
    assert!(images.get("reg.io/a:stable").is_err());
    let all = CollectPolicy { bytes: u64::MAX, ..CollectPolicy::default() };
    images.collect_images(all).await.unwrap();
    let left: Vec<String> = images.list(None).iter().flat_map(|image| image.repo_tags.clone()).collect();
    assert_eq!(left.len(), 2, "pinned b and used c: {left:?}");
    images.remove_rootfs("user-of-c").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn collection_and_removal_never_take_what_a_pull_needs() {
    if !is_root() {
        return;
    }
    let (root, registry) = (store_dir(), FakeRegistry::start().await);
    let shared = tar(&[("shared", &"s".repeat(100_000))]);
    let names: Vec<String> = (0..4)
        .map(|i| {
            let own = tar(&[("own", &i.to_string())]);
            registry.put(&format!("app{i}"), "v1", &image(&[shared.clone(), own], Packing::Gzip, "shared"));
            registry.name(&format!("app{i}:v1"))
        })
        .collect();
    let images = open(root.path()).await;
    let workers = names.into_iter().enumerate().map(|(i, name)| {
        let images = images.clone();
        tokio::spawn(async move {
            for round in 0..8 {
                let id = format!("c{i}-{round}");
                images.pull(PullRequest::new(&name)).await.unwrap();
                let rootfs = images.mount_rootfs(&id, &name).await.unwrap();
                images.remove(&name).await.unwrap();
                assert_eq!(std::fs::read_to_string(rootfs.path.join("own")).unwrap(), i.to_string());
                assert_eq!(std::fs::read(rootfs.path.join("shared")).unwrap().len(), 100_000);
                images.remove_rootfs(&id).await.unwrap();
            }
        })
    });
    let workers: Vec<_> = workers.collect();
    let sweeper = tokio::spawn({
        let images = images.clone();
        async move {
            loop {
                images.collect_unused().await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    for worker in workers {
        worker.await.unwrap();
    }
    sweeper.abort();
    let _ = sweeper.await;
    images.collect_unused().await.unwrap();
    assert_eq!(images.usage().await.unwrap().bytes, 0);
    assert!(mounts_below(root.path()).is_empty());
}

#[tokio::test]
async fn a_store_has_one_owner() {
    let root = store_dir();
    let first = open(root.path()).await;
    let second = Images::open(ImagesOptions::new(root.path())).await;
    assert!(matches!(second, Err(ImageError::Locked { .. })));
    drop(first);
    open(root.path()).await;
}

const CHILD: &str = "TRIREME_TEST_IMAGES_CHILD";

/// Not a test by itself: the process that `a_sudden_death_loses_nothing` kills.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_pulls_until_it_is_killed() {
    let Ok(job) = std::env::var(CHILD) else { return };
    let (root, name) = job.split_once(' ').unwrap();
    let images = open(Path::new(root)).await;
    for round in 0.. {
        images.pull(PullRequest::new(name)).await.unwrap();
        images.mount_rootfs("c1", name).await.unwrap();
        println!("round {round}");
        images.remove_rootfs("c1").await.unwrap();
        images.remove(name).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sudden_death_loses_nothing() {
    if !is_root() {
        return;
    }
    let (root, registry) = (store_dir(), FakeRegistry::start().await);
    let made = small("killed", Packing::Gzip);
    registry.put("app", "v1", &made);
    let name = registry.name("app:v1");
    for round in 0..12u64 {
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_pulls_until_it_is_killed"])
            .env(CHILD, format!("{} {name}", root.path().display()))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // The moment of death is what this test is about: each round dies a little later.
        let lived = tokio::time::timeout(Duration::from_millis(30 + round * 17), child.wait()).await;
        assert!(lived.is_err(), "the child ended by itself: {lived:?}");
        child.kill().await.unwrap();
        let images = open(root.path()).await;
        // Whatever is left is whole: the image, if it is known, can be mounted, and otherwise pulled.
        let image = match images.get(&name) {
            Ok(image) => image,
            Err(_) => images.pull(PullRequest::new(&name)).await.unwrap(),
        };
        for id in images.rootfs_ids() {
            images.remove_rootfs(&id).await.unwrap();
        }
        let rootfs = images.mount_rootfs("after", &image.id.to_string()).await.unwrap();
        assert_eq!(std::fs::read_to_string(rootfs.path.join("bin/app")).unwrap(), "killed");
        assert_eq!(std::fs::metadata(rootfs.path.join("srv/page")).unwrap().size(), 100_000);
        images.remove_rootfs("after").await.unwrap();
        images.remove(&name).await.unwrap();
        images.collect_unused().await.unwrap();
        assert_eq!(images.usage().await.unwrap().bytes, 0, "round {round}");
    }
    assert!(mounts_below(root.path()).is_empty());
    let coming: Vec<PathBuf> =
        std::fs::read_dir(root.path().join("ingest")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(coming.is_empty(), "{coming:?}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    #[test]
    fn no_archive_makes_the_import_panic(
        edits in proptest::collection::vec((0usize..20_000, proptest::num::u8::ANY), 0..8),
        cut in 0usize..40_000,
    ) {
        if is_root() {
            let base = tar(&[("a", "1")]);
            let made = image(std::slice::from_ref(&base), Packing::Gzip, "x");
            let mut archive = layout(&[(&made, "x:v1")]);
            archive.extend(docker_save(&made, &[base, vec![]], json!(["y:v1"])));
            for (at, to) in edits {
                if let Some(byte) = archive.get_mut(at) {
                    *byte = to;
                }
            }
            archive.truncate(cut);
            let root = store_dir();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let images = open(root.path()).await;
                let _ = images.import(std::io::Cursor::new(archive)).await;
            });
        }
    }
}
