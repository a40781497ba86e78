//! Members that die and come back, and a cluster that goes back in time.

use crate::{PATIENCE, all, commit, connect, put, texts};
use conformance::etcd::Etcd;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use store::{Error, Event, Revision, Store, TxnResponse};
use store_etcd::{Config, EtcdStore};
use tokio::time::timeout;

/// Increments a counter of its own until told to stop; the last value that was acknowledged.
async fn count(store: Arc<EtcdStore>, key: String, stop: Arc<AtomicBool>, done: Arc<AtomicUsize>) -> (String, usize) {
    let (mut value, mut revision) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        match store.txn(put(&key, &(value + 1).to_string(), Some(revision))).await {
            Ok(TxnResponse::Committed { revision: at }) => (value, revision) = (value + 1, at),
            Ok(TxnResponse::Conflict { current, .. }) => {
                panic!("{key}: nobody else writes, but {revision} is now {current:?}")
            }
            Err(Error::Unavailable(_)) => continue,
            Err(error) => panic!("{key}: {error}"),
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    (key, value)
}

async fn more_writes(done: &AtomicUsize, count: usize) {
    let target = done.load(Ordering::Relaxed) + count;
    let reached = async {
        while done.load(Ordering::Relaxed) < target {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, reached).await.expect("writes go on");
}

/// Every value of every counter was told once, in order.
async fn check_watch(store: &EtcdStore, upto: Revision) {
    let mut watch = store.watch("/counters/", 1).await.unwrap();
    let mut values: BTreeMap<String, usize> = BTreeMap::new();
    let mut seen = 1;
    while seen < upto {
        let batch = timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
        for event in &batch.events {
            let Event::Put { kv, .. } = &**event else {
                panic!("nothing was removed")
            };
            let value: usize = String::from_utf8_lossy(&kv.value).parse().unwrap();
            let before = values.insert(kv.key.to_string(), value).unwrap_or(0);
            assert_eq!(value, before + 1, "{}", kv.key);
        }
        seen = batch.revision;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_may_die_one_after_the_other() {
    let mut etcd = Etcd::start(3).unwrap();
    let stores = [Arc::new(connect(&etcd).await), Arc::new(connect(&etcd).await)];
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut counting = tokio::task::JoinSet::new();
    for number in 0..8 {
        let key = format!("/counters/{number}");
        counting.spawn(count(stores[number % 2].clone(), key, stop.clone(), done.clone()));
    }
    for member in 0..3 {
        more_writes(&done, 100).await;
        etcd.kill_member(member).unwrap();
        more_writes(&done, 100).await;
        etcd.start_member(member).unwrap();
    }
    more_writes(&done, 100).await;
    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    while let Some(counter) = counting.join_next().await {
        let (key, value) = counter.unwrap();
        acknowledged.push(format!("{key}={value}"));
    }
    acknowledged.sort();
    for store in &stores {
        let kvs = all(store, None).await;
        assert_eq!(texts(&kvs), acknowledged);
        check_watch(store, store.revision().await.unwrap()).await;
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_is_shown_and_ends_the_watches() {
    let mut etcd = Etcd::start(1).unwrap();
    let store = connect(&etcd).await;
    commit(&store, put("/a", "1", None)).await;
    etcd.kill_member(0).unwrap();
    let (data, backup) = (etcd.data_dir(0), etcd.data_dir(0).with_extension("backup"));
    copy(&data, &backup);
    etcd.start_member(0).unwrap();
    for number in 0..10 {
        commit(&store, put("/b", &number.to_string(), None)).await;
    }
    let mut watch = store.watch("/", store.revision().await.unwrap()).await.unwrap();
    etcd.kill_member(0).unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&backup, &data).unwrap();
    etcd.start_member(0).unwrap();
    let end = timeout(PATIENCE, watch.next()).await.unwrap();
    assert!(matches!(end, Some(Err(Error::Compacted { .. }))), "{end:?}");
    assert_eq!(texts(&all(&store, None).await), ["/a=1"]);
    commit(&store, put("/c", "1", None)).await;
    assert_eq!(texts(&all(&store, None).await), ["/a=1", "/c=1"]);
}

#[tokio::test]
async fn a_cluster_without_a_majority_changes_nothing_and_says_so() {
    let mut etcd = Etcd::start(1).unwrap();
    let config = Config {
        endpoints: etcd.endpoints(),
        patience: Duration::from_secs(4),
        ..Config::default()
    };
    let store = Arc::new(EtcdStore::connect(&config).await.unwrap());
    commit(&store, put("/a", "1", None)).await;
    etcd.kill_member(0).unwrap();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { all(&store, None).await }
    });
    // A short outage is sat out.
    tokio::time::sleep(Duration::from_millis(300)).await;
    etcd.start_member(0).unwrap();
    assert_eq!(texts(&timeout(PATIENCE, waiting).await.unwrap().unwrap()), ["/a=1"]);
    etcd.kill_member(0).unwrap();
    assert!(matches!(store.revision().await, Err(Error::Unavailable(_))));
}
