//! What would grow without end is bounded: the log, the history, what slow readers hold.

use super::put;
use futures::StreamExt;
use std::path::Path;
use trireme_store::{Store, Template, Txn};

fn disk_use(dir: &Path) -> u64 {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// Overwrites one key without looking at it.
fn overwrite(value: &Template) -> Txn {
    let mut txn = Txn::create("a/same", value.clone());
    txn.compare.clear();
    txn
}

#[tokio::test]
async fn a_key_that_is_overwritten_for_ever_does_not_fill_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for i in 0..50 {
        store.commit(Txn::create(format!("a/{i}"), put("kept"))).await.unwrap();
    }
    let value = Template::plain(vec![b'x'; 16_000]);
    let mut largest = 0;
    for _ in 0..16 {
        // 25 MB a round: 400 MB in all.
        let writes = futures::stream::iter(0..1_600).map(|_| store.commit(overwrite(&value)));
        writes.buffer_unordered(64).for_each(|done| async { drop(done.unwrap()) }).await;
        largest = largest.max(disk_use(dir.path()));
    }
    assert!(largest < 200 << 20, "{largest} bytes on disk");
    let revision = store.revision();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.revision(), revision);
    assert_eq!(store.topic("a").snapshot().keys.len(), 51);
    assert_eq!(store.get("a/same").unwrap().version, 25_600);
}

#[tokio::test]
async fn a_slow_watcher_is_cut_off_and_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let topic = store.topic("a");
    let mut slow = topic.watch("a/", 0).unwrap();
    let mut quick = topic.watch("a/", 0).unwrap();
    let value = Template::plain(vec![b'x'; 100_000]);
    // 60 MB of events, of which 32 are kept.
    for _ in 0..600 {
        let done = store.commit(overwrite(&value)).await.unwrap();
        assert_eq!(quick.next().await.unwrap().revision, done.revision);
    }
    let gone = slow.next().await.unwrap_err();
    assert!(gone.oldest > 200, "{gone}");
    assert!(topic.watch("a/", gone.oldest).is_ok());
    assert!(topic.watch("a/", gone.oldest - 1).is_err());
}
