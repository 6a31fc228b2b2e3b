//! The engine seam: a store that follows an engine by nothing but the trait.

use super::put;
use std::sync::Arc;
use std::time::Duration;
use trireme_store::{CommitError, Embedded, Engine, Range, ReadError, Store, Txn};

#[tokio::test]
async fn a_store_follows_an_engine_that_others_write_to() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Arc::new(Embedded::open(dir.path()).unwrap().0);
    engine.commit(Txn::create("a/before", put("1"))).await.unwrap();
    let store = Store::over(engine.clone()).await.unwrap();
    assert_eq!(store.get("a/before").unwrap().value, "1");
    let mut watch = store.topic("a").watch("a/", store.revision()).unwrap();
    let other = engine.commit(Txn::create("a/other", put("2"))).await.unwrap();
    let event = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.unwrap().unwrap();
    assert_eq!(event.revision, other.revision);
    // A write of its own is visible when it returns.
    let own = store.commit(Txn::create("a/own", put("3"))).await.unwrap();
    assert_eq!(store.get("a/own").unwrap().mod_revision, own.revision);
    assert!(matches!(store.commit(Txn::create("a/own", put("4"))).await, Err(CommitError::Conflict { .. })));
}

#[tokio::test]
async fn an_engine_is_read_in_pages_and_at_a_revision() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, _) = Embedded::open(dir.path()).unwrap();
    for key in ["a/1", "a/2", "a/3", "b/1"] {
        engine.commit(Txn::create(key, put(key))).await.unwrap();
    }
    let read = async |range: Range| {
        let page = engine.range(range).await.unwrap();
        (page.records.iter().map(|r| r.key.to_string()).collect::<Vec<_>>(), page.more)
    };
    let prefix = |prefix: &str| Range { prefix: prefix.to_owned(), ..Range::default() };
    assert_eq!(read(Range::default()).await.0, ["a/1", "a/2", "a/3", "b/1"]);
    assert_eq!(read(Range { limit: 2, ..prefix("a/") }).await, (vec!["a/1".into(), "a/2".into()], true));
    let rest = Range { limit: 2, after: Some("a/2".into()), ..prefix("a/") };
    assert_eq!(read(rest).await, (vec!["a/3".into()], false));
    assert_eq!(read(Range { revision: 3, ..prefix("") }).await.0, ["a/1", "a/2"]);
    engine.compact(4).await.unwrap();
    let gone = engine.range(Range { revision: 3, ..prefix("a/") }).await.unwrap_err();
    assert!(matches!(gone, ReadError::TooOld(_)));
}
