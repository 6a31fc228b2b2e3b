//! The store as its users meet it.

#![allow(clippy::unwrap_used)] // a test fails loudly

mod bounds;
mod damage;
mod full_disk;
mod seam;

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use trireme_store::{Change, CommitError, Embedded, OpenError, Record, Store, Template, Txn};

fn put(value: &str) -> Template {
    Template::plain(value.to_owned())
}

#[tokio::test]
async fn a_write_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let first = store.commit(Txn::create("a/x", Template::with_hole("v", 1))).await.unwrap();
    store.commit(Txn::create("a/y", put("2"))).await.unwrap();
    store.commit(Txn::delete("a/y", first.revision + 1, None)).await.unwrap();
    let revision = store.revision();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.revision(), revision);
    assert_eq!(store.get("a/x").unwrap().value, format!("v{}", first.revision));
    assert!(store.get("a/y").is_none());
    // A watch goes on where it was.
    let mut watch = store.topic("a").watch("a/", first.revision).unwrap();
    assert!(matches!(watch.next().await.unwrap().change, Change::Put(_)));
    assert!(matches!(watch.next().await.unwrap().change, Change::Delete(_)));
}

#[tokio::test]
async fn a_stale_comparison_changes_nothing_and_shows_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let done = store.commit(Txn::create("a/x", put("1"))).await.unwrap();
    let Err(CommitError::Conflict { current, .. }) = store.commit(Txn::create("a/x", put("2"))).await else {
        panic!("must conflict");
    };
    assert_eq!(current.unwrap().mod_revision, done.revision);
    store.commit(Txn::update("a/x", done.revision, put("3"))).await.unwrap();
    assert_eq!(store.get("a/x").unwrap().value, "3");
}

#[tokio::test]
async fn snapshots_do_not_move_and_the_past_can_be_seen() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let first = store.commit(Txn::create("a/x", put("1"))).await.unwrap();
    let old = store.topic("a").snapshot();
    store.commit(Txn::update("a/x", first.revision, put("2"))).await.unwrap();
    store.commit(Txn::create("a/y", put("1"))).await.unwrap();
    assert_eq!(old.keys.len(), 1);
    let past = store.topic("a").snapshot_at(first.revision).unwrap();
    assert_eq!(past.keys.len(), 1);
    assert_eq!(past.keys["a/x"].value, "1");
    store.topic("a").forget(store.revision());
    assert!(store.topic("a").snapshot_at(first.revision).is_err());
    assert!(store.topic("a").watch("a/", first.revision).is_err());
}

#[tokio::test]
async fn many_writers_share_flushes_and_watchers_see_every_event_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut watch = store.topic("p").watch("p/", 0).unwrap();
    let tasks: Vec<_> = (0..200)
        .map(|i| {
            let store = store.clone();
            tokio::spawn(async move { store.commit(Txn::create(format!("p/{i}"), put("x"))).await.unwrap().revision })
        })
        .collect();
    let mut last = 0;
    for _ in 0..200 {
        let event = watch.next().await.unwrap();
        assert!(event.revision > last);
        last = event.revision;
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert!(watch.try_next().unwrap().is_none());
}

#[tokio::test]
async fn a_key_goes_when_its_time_has_come() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 1;
    store.commit(Txn::create("e/x", put("1")).expiring(at)).await.unwrap();
    let mut watch = store.topic("e").watch("e/", store.revision()).unwrap();
    let event = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.unwrap().unwrap();
    assert!(matches!(event.change, Change::Delete(_)));
}

#[test]
fn a_second_opening_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(OpenError::Locked(_))));
    drop(store);
    assert!(Store::open(dir.path()).is_ok());
}

#[tokio::test]
async fn a_log_cut_at_any_byte_keeps_every_whole_write() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for i in 0..4 {
        store.commit(Txn::create(format!("a/{i}"), put("value"))).await.unwrap();
    }
    drop(store);
    let path = dir.path().join("00000001.log");
    let bytes = std::fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|&b| b != 0).unwrap() + 1;
    let frame = (end - 8) / 4;
    for cut in 0..end {
        let copy = tempfile::tempdir().unwrap();
        std::fs::write(copy.path().join("00000001.log"), &bytes[..cut]).unwrap();
        let store = Store::open(copy.path()).unwrap();
        let kept = store.topic("a").snapshot().keys.len();
        assert!(kept >= (cut.saturating_sub(8) / frame).min(4) && kept <= cut / frame + 1, "cut at {cut}: {kept}");
        store.commit(Txn::create("a/new", put("x"))).await.unwrap();
        drop(store);
        assert_eq!(Store::open(copy.path()).unwrap().topic("a").snapshot().keys.len(), kept + 1);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    Stale(u8, u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..8_u8, any::<u8>()).prop_map(|(k, v)| Step::Put(k, v)),
        3 => (0..8_u8).prop_map(Step::Delete),
        2 => (0..8_u8, any::<u8>()).prop_map(|(k, v)| Step::Stale(k, v)),
        1 => Just(Step::Reopen),
    ]
}

/// Steps against a plain map. With `behind_seam` the store follows the engine as it would follow etcd.
async fn behaves_as_a_map(steps: Vec<Step>, behind_seam: bool) {
    let dir = tempfile::tempdir().unwrap();
    let open = async || match behind_seam {
        false => Store::open(dir.path()).unwrap(),
        true => Store::over(Arc::new(Embedded::open(dir.path()).unwrap().0)).await.unwrap(),
    };
    let mut store = open().await;
    let mut model: BTreeMap<String, (u8, i64)> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Put(k, v) => {
                let key = format!("t/{k}");
                let old = model.get(&key).map_or(0, |(_, r)| *r);
                let done = store.commit(Txn::update(key.as_str(), old, put(&v.to_string()))).await.unwrap();
                model.insert(key, (v, done.revision));
            }
            Step::Delete(k) => {
                let key = format!("t/{k}");
                let old = model.remove(&key).map_or(0, |(_, r)| r);
                store.commit(Txn::delete(key.as_str(), old, None)).await.unwrap();
            }
            Step::Stale(k, v) => {
                let key = format!("t/{k}");
                let wrong = model.get(&key).map_or(1, |(_, r)| r - 1);
                let refused = store.commit(Txn::update(key.as_str(), wrong, put(&v.to_string()))).await;
                assert!(matches!(refused, Err(CommitError::Conflict { .. })));
            }
            Step::Reopen => {
                drop(store);
                store = reopened(&open).await;
            }
        }
        let now = store.topic("t").snapshot();
        let text = |r: &Record| (String::from_utf8_lossy(&r.value).into_owned(), r.mod_revision);
        let seen: Vec<_> = now.keys.iter().map(|(k, r)| (k.to_string(), text(r))).collect();
        let want: Vec<_> = model.iter().map(|(k, (v, r))| (k.clone(), (v.to_string(), *r))).collect();
        assert_eq!(seen, want);
    }
}

/// The task that follows an engine lets go of it when it is next polled.
async fn reopened(open: &impl AsyncFn() -> Store) -> Store {
    tokio::task::yield_now().await;
    open().await
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn it_behaves_as_a_map(steps in proptest::collection::vec(step(), 1..40), behind_seam in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(behaves_as_a_map(steps, behind_seam));
    }
}
