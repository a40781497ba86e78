//! Several servers on one cluster, several users of one cluster.

use crate::{all, commit, connect, connect_to, put, texts};
use conformance::etcd::Etcd;
use std::collections::BTreeSet;
use store::{Error, Store, TxnResponse};
use store_etcd::ConnectError;

#[tokio::test]
async fn an_acknowledged_write_is_seen_by_every_server() {
    let etcd = Etcd::start(1).unwrap();
    let (one, other) = (connect(&etcd).await, connect(&etcd).await);
    let mut watch = other.watch("/", 1).await.unwrap();
    for number in 0..200 {
        let revision = commit(&one, put("/a", &number.to_string(), None)).await;
        let seen = all(&other, None).await;
        assert_eq!(
            (seen[0].mod_revision, &*seen[0].value),
            (revision, number.to_string().as_bytes())
        );
        assert!(other.revision().await.unwrap() >= revision);
    }
    let mut seen = 1;
    while seen < 201 {
        for event in watch.next().await.unwrap().unwrap().events {
            seen += 1;
            assert_eq!(event.revision(), seen);
        }
    }
}

#[tokio::test]
async fn a_thing_is_given_to_one_of_many_who_ask_different_servers() {
    const ASKING: usize = 8;
    const THINGS: usize = 100;
    let etcd = Etcd::start(1).unwrap();
    let mut asking = tokio::task::JoinSet::new();
    for who in 0..ASKING {
        let store = connect(&etcd).await;
        asking.spawn(async move {
            let mut got = Vec::new();
            for thing in 0..THINGS {
                let take = put(&format!("/things/{thing}"), &who.to_string(), Some(0));
                if matches!(store.txn(take).await.unwrap(), TxnResponse::Committed { .. }) {
                    got.push(thing);
                }
            }
            got
        });
    }
    let mut given = Vec::new();
    while let Some(got) = asking.join_next().await {
        given.extend(got.unwrap());
    }
    assert_eq!(given.len(), THINGS, "something was given twice or never");
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), THINGS);
}

#[tokio::test]
async fn a_server_that_starts_later_knows_the_past() {
    let etcd = Etcd::start(1).unwrap();
    let first = connect(&etcd).await;
    for number in 0..1200 {
        commit(&first, put(&format!("/{number}"), "x", None)).await;
    }
    let second = connect(&etcd).await;
    assert_eq!(all(&second, Some(11)).await.len(), 10);
    let mut watch = second.watch("/", 1000).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().events[0].revision(), 1001);
    first.compact(500).await.unwrap();
    // Both servers compact in their own time; the other finds it done.
    second.compact(500).await.unwrap();
    let third = connect(&etcd).await;
    assert_eq!(all(&third, Some(500)).await.len(), 499);
    assert!(matches!(
        third.watch("/", 499).await.err(),
        Some(Error::Compacted { oldest: 500, .. })
    ));
    let mut watch = third.watch("/", 500).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().events[0].revision(), 501);
    assert_eq!(all(&third, None).await, all(&first, None).await);
}

#[tokio::test]
async fn users_with_different_prefixes_do_not_see_each_other() {
    let etcd = Etcd::start(1).unwrap();
    let ours = connect_to(etcd.endpoints(), "/ours").await;
    let theirs = connect_to(etcd.endpoints(), "/theirs").await;
    let mut watch = ours.watch("/", 1).await.unwrap();
    commit(&ours, put("/a", "ours", None)).await;
    let last = commit(&theirs, put("/a", "theirs", None)).await;
    assert_eq!(texts(&all(&ours, None).await), ["/a=ours"]);
    assert_eq!(texts(&all(&theirs, None).await), ["/a=theirs"]);
    // Time goes on with the others' writes, so a read of the present does not wait for one of ours.
    assert_eq!(ours.revision().await.unwrap(), last);
    let mut keys = Vec::new();
    loop {
        let batch = watch.next().await.unwrap().unwrap();
        keys.extend(batch.events.iter().map(|event| event.key().to_owned()));
        if batch.revision >= last {
            break;
        }
    }
    assert_eq!(keys, ["/a"]);
}

#[tokio::test]
async fn keys_of_another_program_are_not_touched() {
    let etcd = Etcd::start(1).unwrap();
    let stranger = connect(&etcd).await;
    commit(&stranger, put("/registry/pods/default/a", "k8s\0", None)).await;
    let refused = stranger.claim("/registry/").await;
    assert!(matches!(refused, Err(ConnectError::Foreign(prefix)) if prefix == "/registry/"));
    let (one, other) = (
        connect_to(etcd.endpoints(), "/b").await,
        connect_to(etcd.endpoints(), "/b").await,
    );
    let (first, second) = tokio::join!(one.claim("/registry/"), other.claim("/registry/"));
    first.unwrap();
    second.unwrap();
    commit(&one, put("/registry/a", "x", None)).await;
    other.claim("/registry/").await.unwrap();
    commit(&one, put("/steadfast/layout", "2", None)).await;
    assert!(matches!(other.claim("/registry/").await, Err(ConnectError::Layout { found }) if found == "2"));
}

#[tokio::test]
async fn what_etcd_finds_too_large_is_said_to_be() {
    let etcd = Etcd::start(1).unwrap();
    let store = connect(&etcd).await;
    for bytes in [1_800_000, 8_000_000] {
        let large = put("/a", &"x".repeat(bytes), None);
        let answer = store.txn(large).await;
        assert!(matches!(answer, Err(Error::TooLarge)), "{answer:?}");
    }
    commit(&store, put("/a", &"x".repeat(1 << 20), None)).await;
    assert_eq!(all(&store, None).await[0].value.len(), 1 << 20);
}
