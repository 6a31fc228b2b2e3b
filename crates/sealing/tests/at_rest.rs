//! What lies on the disk is sealed, and keys can be rotated.

#![allow(clippy::unwrap_used)] // a test fails loudly

use std::path::Path;
use std::sync::Arc;
use trireme_sealing::Sealing;
use trireme_store::{OpenError, Store, Template, Txn};

fn sealing(providers: &str) -> Arc<Sealing> {
    let text = format!(
        "kind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n{providers}  - identity: {{}}\n"
    );
    Arc::new(Sealing::parse(&text).unwrap())
}

const ONE: &str = "  - aesgcm: {keys: [{name: one, secret: AAAAAAAAAAAAAAAAAAAAAA==}]}\n";
const TWO: &str = "  - secretbox: {keys: [{name: two, secret: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}]}\n";

/// Whether a text stands anywhere below a directory.
fn stands(dir: &Path, text: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        bytes.windows(text.len()).any(|w| w == text.as_bytes())
    })
}

#[tokio::test]
async fn secrets_are_sealed_and_survive_a_change_of_keys() {
    let dir = tempfile::tempdir().unwrap();
    let value = |store: &Store, key: &str| store.get(key).map(|r| String::from_utf8_lossy(&r.value).into_owned());

    let store = Store::open_sealed(dir.path(), sealing(ONE)).unwrap();
    store.commit(Txn::create("secrets/a/b", Template::plain("hush"))).await.unwrap();
    store.commit(Txn::create("configmaps/a/b", Template::plain("loud"))).await.unwrap();
    assert_eq!(value(&store, "secrets/a/b").unwrap(), "hush", "in memory it is as it was written");
    assert!(!stands(dir.path(), "hush") && stands(dir.path(), "loud") && stands(dir.path(), "k8s:enc:aesgcm:v1:one:"));
    drop(store);

    // A key that is still needed is missed by name, and nothing is changed.
    match Store::open_sealed(dir.path(), sealing(TWO)) {
        Err(OpenError::Sealed { key, why, .. }) => {
            assert_eq!(key, "secrets/a/b");
            assert!(why.contains("k8s:enc:aesgcm:v1:one"), "{why}");
        }
        other => panic!("{:?}", other.map(drop)),
    }

    let store = Store::open_sealed(dir.path(), sealing(&format!("{TWO}{ONE}"))).unwrap();
    let old = store.get("secrets/a/b").unwrap();
    store.commit(Txn::update("secrets/a/b", old.mod_revision, Template::plain("hush"))).await.unwrap();
    drop(store);

    // The old key is needed no longer, though the log still holds what it sealed.
    let store = Store::open_sealed(dir.path(), sealing(TWO)).unwrap();
    assert_eq!(value(&store, "secrets/a/b").unwrap(), "hush");
    assert_eq!(value(&store, "configmaps/a/b").unwrap(), "loud");
}
