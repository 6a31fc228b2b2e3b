//! The store's log: any file is opened or refused, and what is opened can be written to and opened again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trireme_store::{Store, Template, Txn};

fuzz_target!(|input: (bool, &[u8])| {
    let (checkpoint, bytes) = input;
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let name = if checkpoint { "00000001.checkpoint" } else { "00000001.log" };
    let mut file = b"TRLOG\0\0\x01".to_vec();
    file.extend_from_slice(bytes);
    std::fs::write(dir.path().join(name), file).expect("a file");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let Ok(store) = Store::open(dir.path()) else { return };
    let mut txn = Txn::create("fuzz/key", Template::plain("value"));
    txn.compare.clear();
    let Ok(done) = runtime.block_on(store.commit(txn)) else { return };
    drop(store);
    let store = Store::open(dir.path()).expect("what was just written");
    assert_eq!(store.get("fuzz/key").expect("the key").mod_revision, done.revision);
});
