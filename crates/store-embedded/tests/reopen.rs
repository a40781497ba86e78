//! What is there after closing and opening.

use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Error, KeyValue, LeaseId, Op, RangeRequest, Store, Txn, TxnResponse};
use store_embedded::{EmbeddedStore, OpenError};

fn put(key: &str, value: &'static str, lease: Option<LeaseId>) -> Op {
    Op::Put {
        key: key.into(),
        value: Bytes::from_static(value.as_bytes()),
        lease,
    }
}

async fn commit(store: &EmbeddedStore, ops: Vec<Op>) -> u64 {
    match store
        .txn(Txn {
            compare: Vec::new(),
            ops,
        })
        .await
        .expect("the store is open")
    {
        TxnResponse::Committed { revision } => revision,
        TxnResponse::Conflict { .. } => unreachable!("there are no conditions"),
    }
}

async fn all(store: &EmbeddedStore) -> Vec<Arc<KeyValue>> {
    let request = RangeRequest {
        start: "/".into(),
        end: Some("0".into()),
        revision: None,
        limit: 0,
    };
    store.range(request).await.expect("the store is open").kvs
}

#[tokio::test]
async fn everything_but_history_survives() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    let old = commit(&store, vec![put("/a", "1", None), put("/b", "1", None)]).await;
    commit(&store, vec![put("/a", "2", None)]).await;
    let before = all(&store).await;
    // The last change is a deletion: no row tells the revision then.
    commit(&store, vec![put("/c", "1", None)]).await;
    let last = commit(&store, vec![Op::Delete { key: "/c".into() }]).await;
    drop(store);

    let store = EmbeddedStore::open(dir.path()).unwrap();
    assert_eq!(all(&store).await, before);
    assert_eq!(store.revision().await.unwrap(), last);
    assert!(matches!(store.watch("/", old).await.err(), Some(Error::Compacted { oldest, .. }) if oldest == last));
    let request = RangeRequest {
        start: "/a".into(),
        end: None,
        revision: Some(old),
        limit: 0,
    };
    assert!(matches!(store.range(request).await, Err(Error::Compacted { .. })));
    assert_eq!(commit(&store, vec![put("/d", "1", None)]).await, last + 1);
}

#[tokio::test]
async fn leases_survive_and_still_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    let ended = store.grant_lease(Duration::from_secs(1000)).await.unwrap();
    store.revoke_lease(ended).await.unwrap();
    let short = store.grant_lease(Duration::from_millis(300)).await.unwrap();
    commit(&store, vec![put("/short", "x", Some(short))]).await;
    drop(store);

    let store = EmbeddedStore::open(dir.path()).unwrap();
    assert!(matches!(store.keep_alive(ended).await, Err(Error::LeaseNotFound(_))));
    store.keep_alive(short).await.unwrap();
    let mut watch = store.watch("/short", store.revision().await.unwrap()).await.unwrap();
    let batch = tokio::time::timeout(Duration::from_secs(20), watch.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(batch.events.len(), 1);
    assert_eq!(all(&store).await, []);
    let next = store.grant_lease(Duration::from_secs(1000)).await.unwrap();
    assert!(next > short, "lease ids are never given out twice");
}

#[tokio::test]
async fn second_opening_is_refused_clearly() {
    let dir = tempfile::tempdir().unwrap();
    let _first = EmbeddedStore::open(dir.path()).unwrap();
    let Err(Error::Storage(error)) = EmbeddedStore::open(dir.path()) else {
        panic!("it is in use")
    };
    assert!(matches!(error.downcast_ref(), Some(OpenError::InUse { .. })));
    let expected = format!("{} is in use by another process", dir.path().display());
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn half_made_database_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("store.redb.new"), [1; 10_000]).unwrap();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    commit(&store, vec![put("/a", "1", None)]).await;
}

#[tokio::test]
async fn foreign_file_is_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    std::fs::write(&path, [1; 10_000]).unwrap();
    let Err(Error::Storage(error)) = EmbeddedStore::open(dir.path()) else {
        panic!("it is no database")
    };
    assert!(matches!(error.downcast_ref(), Some(OpenError::Read { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), [1; 10_000]);
}

#[tokio::test]
async fn watches_end_with_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    let mut watch = store.watch("/", 1).await.unwrap();
    commit(&store, vec![put("/a", "1", None)]).await;
    drop(store);
    assert_eq!(watch.next().await.unwrap().unwrap().events.len(), 1);
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_thousand_objects_open_quickly() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    let value: &'static str = "x".repeat(1000).leak();
    for group in 0..10 {
        let ops = (0..100).map(|i| put(&format!("/registry/pods/default/web-{group}-{i}"), value, None));
        commit(&store, ops.collect()).await;
    }
    drop(store);
    let fastest = (0..5).map(|_| {
        let start = Instant::now();
        let store = EmbeddedStore::open(dir.path()).unwrap();
        let took = start.elapsed();
        drop(store);
        took
    });
    let fastest = fastest.min().unwrap();
    println!("opened 1000 objects in {fastest:?}");
    // A few ms in a release build on a quiet machine; this bound only finds a change of order.
    assert!(fastest < Duration::from_millis(250), "{fastest:?}");
}
