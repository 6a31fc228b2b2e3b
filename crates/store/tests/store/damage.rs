//! Files that are not as they were written.

use super::put;
use std::path::Path;
use trireme_store::log::{self, Entry, Frame};
use trireme_store::{OpenError, Store, Txn};

const HEAD: usize = 8;

async fn written(dir: &Path, keys: usize) {
    let store = Store::open(dir).unwrap();
    for i in 0..keys {
        store.commit(Txn::create(format!("a/{i}"), put("value"))).await.unwrap();
    }
}

fn segment(dir: &Path) -> (std::path::PathBuf, Vec<u8>) {
    let path = dir.join("00000001.log");
    let bytes = std::fs::read(&path).unwrap();
    (path, bytes)
}

#[tokio::test]
async fn a_flipped_byte_in_the_middle_is_named_and_the_rest_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 5).await;
    let (path, bytes) = segment(dir.path());
    let end = bytes.iter().rposition(|&b| b != 0).unwrap() + 1;
    let frame = (end - HEAD) / 5;
    // Every byte of the third write, its length and checksum among them.
    for at in HEAD + 2 * frame..HEAD + 3 * frame {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x41;
        std::fs::write(&path, &damaged).unwrap();
        let store = Store::open(dir.path()).unwrap();
        let [damage] = store.damage() else { panic!("byte {at}: {:?}", store.damage()) };
        assert_eq!((&damage.path, damage.offset, damage.length), (&path, (HEAD + 2 * frame) as u64, frame as u64));
        assert!(damage.to_string().contains("00000001.log: "), "{damage}");
        let keys: Vec<_> = store.topic("a").snapshot().keys.keys().map(|k| k.to_string()).collect();
        assert_eq!(keys, ["a/0", "a/1", "a/3", "a/4"], "byte {at}");
        assert_eq!(store.revision(), 6, "revisions go on");
    }
}

#[tokio::test]
async fn zeros_in_the_middle_do_not_hide_what_follows() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 5).await;
    let (path, mut bytes) = segment(dir.path());
    let end = bytes.iter().rposition(|&b| b != 0).unwrap() + 1;
    let frame = (end - HEAD) / 5;
    bytes[HEAD + frame..HEAD + 2 * frame].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.topic("a").snapshot().keys.len(), 4);
    assert_eq!(store.damage().len(), 1);
}

/// Bytes of a flush of several revisions.
fn flush(first: i64, revisions: std::ops::RangeInclusive<i64>) -> Vec<Vec<u8>> {
    let frames = revisions.map(|revision| {
        let key = format!("a/{revision}");
        let entry = Entry {
            key: &key,
            value: b"value",
            deleted: false,
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            expires: 0,
        };
        let mut bytes = Vec::new();
        log::encode(&Frame { revision, flush: first, entries: vec![entry] }, &mut bytes);
        bytes
    });
    frames.collect()
}

#[test]
fn an_unfinished_flush_is_dropped_whole_though_its_end_reached_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = b"TRLOG\0\0\x01".to_vec();
    bytes.extend(flush(2, 2..=3).concat());
    let torn = flush(4, 4..=6);
    bytes.extend(vec![0; torn[0].len()]);
    bytes.extend(torn[1..].concat());
    std::fs::write(dir.path().join("00000001.log"), &bytes).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.damage(), []);
    assert_eq!(store.revision(), 3);
    assert_eq!(store.topic("a").snapshot().keys.len(), 2);
    assert!(dir.path().join("00000001.torn").exists());
}

#[test]
fn a_file_of_somebody_else_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("00000001.log");
    for (content, why) in [(&b"hello, world"[..], "does not begin"), (&b"TRLOG\0\0\x09 more"[..], "another version")] {
        std::fs::write(&path, content).unwrap();
        let Err(error) = Store::open(dir.path()) else { panic!("must be refused") };
        assert!(matches!(error, OpenError::Foreign { .. }) && error.to_string().contains(why), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
}

#[tokio::test]
async fn a_damaged_checkpoint_loses_only_the_keys_that_are_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("00000001.checkpoint");
    let mut frames: Vec<Vec<u8>> = flush(9, 1..=6);
    // As a checkpoint has them: one revision for all, and an empty frame at the end.
    for (n, bytes) in frames.iter_mut().enumerate() {
        let (frame, _) = log::decode(bytes).unwrap();
        let mut again = Vec::new();
        let entries = frame.entries.clone();
        log::encode(&Frame { revision: 9, flush: 9, entries: if n < 5 { entries } else { Vec::new() } }, &mut again);
        *bytes = again;
    }
    let mut bytes = b"TRLOG\0\0\x01".to_vec();
    bytes.extend(frames.concat());
    std::fs::write(&path, &bytes).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!((store.damage().len(), store.revision(), store.topic("a").snapshot().keys.len()), (0, 9, 5));
    drop(store);
    let mut flipped = bytes.clone();
    flipped[HEAD + frames[0].len() + 40] ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!((store.damage().len(), store.revision(), store.topic("a").snapshot().keys.len()), (1, 9, 4));
    drop(store);
    std::fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.damage()[0].what, "the end is missing");
    assert_eq!((store.revision(), store.topic("a").snapshot().keys.len()), (9, 5));
}
