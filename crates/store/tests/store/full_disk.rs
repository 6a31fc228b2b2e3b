//! A disk without space. Needs root, for a file system of its own.

use super::put;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::path::Path;
use trireme_store::{CommitError, Store, Txn};

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        unmount(self.0, UnmountFlags::DETACH).unwrap();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_reads_go_on_and_space_heals() {
    let dir = tempfile::tempdir().unwrap();
    if mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), c"size=4m").is_err() {
        eprintln!("skipped: cannot mount a tmpfs (not root)");
        return;
    }
    let mounted = Mounted(dir.path());
    let ballast = dir.path().join("ballast");
    std::fs::write(&ballast, vec![1; 2 << 20]).unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let value = "x".repeat(100_000);
    let mut kept = 0;
    let refusal = loop {
        match store.commit(Txn::create(format!("a/{kept}"), put(&value))).await {
            Ok(_) => kept += 1,
            Err(refusal) => break refusal,
        }
    };
    assert!(matches!(refusal, CommitError::Disk { full: true, .. }), "{refusal}");
    assert!(refusal.to_string().contains("No space left on device"), "{refusal}");
    // The space that is there was used.
    assert!(kept >= 15, "{kept}");
    let seen = |store: &Store| store.topic("a").snapshot().keys.len();
    assert_eq!(seen(&store), kept);
    assert_eq!(store.revision(), 1 + kept as i64);
    // Again, and many at once: all are refused, none is half done.
    for _ in 0..3 {
        let many = (0..20).map(|i| store.commit(Txn::create(format!("b/{i}"), put(&value))));
        let many = futures::future::join_all(many).await;
        assert!(many.iter().any(Result::is_err));
        let done = many.iter().filter(|r| r.is_ok()).count();
        assert_eq!(store.topic("b").snapshot().keys.len(), done);
        for i in 0..20 {
            let key = format!("b/{i}");
            let revision = store.get(&key).map_or(0, |r| r.mod_revision);
            let _ = store.commit(Txn::delete(key.as_str(), revision, None)).await;
        }
    }
    std::fs::remove_file(&ballast).unwrap();
    store.commit(Txn::create("a/after", put("there is space"))).await.unwrap();
    let revision = store.revision();
    drop(store);
    let store = Store::open(&dir.path().join("store")).unwrap();
    assert_eq!((store.damage(), store.revision(), seen(&store)), (&[][..], revision, kept + 1));
    drop(store);
    drop(mounted);
}
