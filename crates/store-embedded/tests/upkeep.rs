//! Damage is found, and a snapshot brings back what was saved.

#![expect(
    clippy::unwrap_used,
    reason = "a test may panic, and its own functions are part of it"
)]

use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use store::{Error, Op, RangeRequest, Store, Txn};
use store_embedded::{EmbeddedStore, OpenError, snapshot};

async fn put(store: &EmbeddedStore, key: &str, value: String, lease: Option<u64>) {
    let op = Op::Put {
        key: key.to_owned(),
        value: Bytes::from(value),
        lease,
    };
    let txn = Txn {
        compare: Vec::new(),
        ops: vec![op],
    };
    store.txn(txn).await.unwrap();
}

async fn all(store: &EmbeddedStore) -> BTreeMap<String, Bytes> {
    let request = RangeRequest {
        start: "/".into(),
        end: Some("0".into()),
        revision: None,
        limit: 0,
    };
    let found = store.range(request).await.unwrap().kvs;
    found
        .into_iter()
        .map(|kv| (kv.key.to_string(), kv.value.clone()))
        .collect()
}

async fn filled(dir: &Path) -> BTreeMap<String, Bytes> {
    let store = EmbeddedStore::open(dir).unwrap();
    for number in 0..60 {
        put(&store, &format!("/{number}"), format!("{number}").repeat(200), None).await;
    }
    all(&store).await
}

#[tokio::test]
async fn damage_is_never_served() {
    let dir = tempfile::tempdir().unwrap();
    let expected = filled(dir.path()).await;
    let path = dir.path().join("store.redb");
    let sound = std::fs::read(&path).unwrap();
    let mut found = 0;
    // Most of the file is room for later.
    let written: Vec<usize> = (0..sound.len()).filter(|place| sound[*place] != 0).collect();
    for place in written.iter().copied().step_by(written.len() / 100) {
        let mut damaged = sound.clone();
        damaged[place] ^= 0xff;
        std::fs::write(&path, damaged).unwrap();
        let checked = EmbeddedStore::check(dir.path());
        match EmbeddedStore::open(dir.path()) {
            // Not all of the file is in use.
            Ok(store) => assert_eq!(all(&store).await, expected, "byte {place}"),
            Err(error) => {
                assert!(matches!(error, Error::Storage(_)), "byte {place}: {error}");
                assert!(checked.is_err(), "byte {place}: the check did not find it");
                found += 1;
            }
        }
    }
    assert!(found > 5, "only {found} of the changes were found");
}

#[tokio::test]
async fn a_lost_tail_is_found() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()).await);
    let path = dir.path().join("store.redb");
    let older = std::fs::read(&path).unwrap();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    put(&store, "/more", "x".to_owned(), None).await;
    drop(store);
    std::fs::write(&path, older).unwrap();
    let Err(Error::Storage(error)) = EmbeddedStore::open(dir.path()) else {
        panic!("an acknowledged write is missing")
    };
    assert!(matches!(error.downcast_ref(), Some(OpenError::Lost { .. })), "{error}");
}

#[tokio::test]
async fn a_check_changes_nothing_and_waits_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let expected = filled(dir.path()).await;
    let path = dir.path().join("store.redb");
    let before = std::fs::read(&path).unwrap();
    let checked = EmbeddedStore::check(dir.path()).unwrap();
    assert_eq!((checked.keys.len(), checked.revision), (expected.len(), 61));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let _used = EmbeddedStore::open(dir.path()).unwrap();
    let Err(Error::Storage(error)) = EmbeddedStore::check(dir.path()) else {
        panic!("it is in use")
    };
    assert!(matches!(error.downcast_ref(), Some(OpenError::InUse { .. })));
}

#[tokio::test]
async fn a_snapshot_brings_back_what_was_saved() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("store");
    let store = EmbeddedStore::open(&dir).unwrap();
    let lease = store.grant_lease(Duration::from_secs(1000)).await.unwrap();
    put(&store, "/a", "saved".to_owned(), None).await;
    put(&store, "/leased", "saved".to_owned(), Some(lease)).await;
    let mut file = Vec::new();
    snapshot::write(&store.contents(), &mut file).unwrap();
    let saved = all(&store).await;
    put(&store, "/a", "later".to_owned(), None).await;
    put(&store, "/b", "later".to_owned(), None).await;
    let seen = store.revision().await.unwrap();

    let contents = || snapshot::read(&*file).unwrap();
    let Err(Error::Storage(error)) = EmbeddedStore::restore(&dir, contents()) else {
        panic!("it is in use")
    };
    assert!(matches!(error.downcast_ref(), Some(OpenError::InUse { .. })));
    drop(store);
    let kept = EmbeddedStore::restore(&dir, contents()).unwrap().unwrap();
    let store = EmbeddedStore::open(&dir).unwrap();
    assert_eq!(all(&store).await, saved);
    store.keep_alive(lease).await.unwrap();
    // Whatever a client has seen is in the past now.
    assert!(store.revision().await.unwrap() > seen);
    assert!(matches!(
        store.watch("/", seen).await.err(),
        Some(Error::Compacted { .. })
    ));
    put(&store, "/c", "new".to_owned(), None).await;
    drop(store);
    let kept = EmbeddedStore::open(&kept).unwrap();
    assert_eq!(all(&kept).await["/a"], "later");

    // Also where there is nothing, or only ruins.
    let other = base.path().join("other");
    assert_eq!(EmbeddedStore::restore(&other, contents()).unwrap(), None);
    std::fs::write(other.join("store.redb"), "ruins").unwrap();
    assert!(EmbeddedStore::open(&other).is_err());
    EmbeddedStore::restore(&other, contents()).unwrap();
    assert_eq!(all(&EmbeddedStore::open(&other).unwrap()).await, saved);
}
