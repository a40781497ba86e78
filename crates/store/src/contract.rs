//! What every backend must do, as checks that panic if it does not.
//!
//! A backend's test runs each of [`checks`] on an empty store of its own.

use crate::{
    Compare, Error, Event, KeyValue, LeaseId, Op, RangeRequest, RangeResponse, Revision, Store, Txn, TxnResponse,
    Watch, prefix_end,
};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, join_all};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A store that a check uses up.
pub type Subject = Arc<dyn Store>;

/// A check; it panics if the store breaks the contract.
pub type Check = fn(Subject) -> BoxFuture<'static, ()>;

/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// All checks with their names.
#[must_use]
pub fn checks() -> Vec<(&'static str, Check)> {
    vec![
        ("empty_store_has_the_first_revision", |s| {
            empty_store_has_the_first_revision(s).boxed()
        }),
        ("put_marks_creation_and_change", |s| {
            put_marks_creation_and_change(s).boxed()
        }),
        ("range_is_ordered_limited_and_counted", |s| {
            range_is_ordered_limited_and_counted(s).boxed()
        }),
        ("range_shows_earlier_revisions", |s| {
            range_shows_earlier_revisions(s).boxed()
        }),
        ("failed_compare_changes_nothing", |s| {
            failed_compare_changes_nothing(s).boxed()
        }),
        ("transaction_takes_one_revision", |s| {
            transaction_takes_one_revision(s).boxed()
        }),
        ("ineffective_transaction_takes_no_revision", |s| {
            ineffective_transaction_takes_no_revision(s).boxed()
        }),
        ("one_of_many_concurrent_creators_wins", |s| {
            one_of_many_concurrent_creators_wins(s).boxed()
        }),
        ("concurrent_increments_are_all_counted", |s| {
            concurrent_increments_are_all_counted(s).boxed()
        }),
        ("watch_reports_only_its_prefix", |s| {
            watch_reports_only_its_prefix(s).boxed()
        }),
        ("watch_starts_in_the_past", |s| watch_starts_in_the_past(s).boxed()),
        ("watch_tells_progress_of_others", |s| {
            watch_tells_progress_of_others(s).boxed()
        }),
        ("slow_watch_loses_nothing", |s| slow_watch_loses_nothing(s).boxed()),
        ("watch_never_hands_out_half_a_transaction", |s| {
            watch_never_hands_out_half_a_transaction(s).boxed()
        }),
        ("compaction_forgets_the_past_only", |s| {
            compaction_forgets_the_past_only(s).boxed()
        }),
        ("history_is_counted_and_halved", |s| {
            history_is_counted_and_halved(s).boxed()
        }),
        ("lagging_watch_is_told_of_compaction", |s| {
            lagging_watch_is_told_of_compaction(s).boxed()
        }),
        ("revoked_lease_deletes_its_keys", |s| {
            revoked_lease_deletes_its_keys(s).boxed()
        }),
        ("lease_ends_by_itself", |s| lease_ends_by_itself(s).boxed()),
        ("kept_lease_outlives_its_time", |s| {
            kept_lease_outlives_its_time(s).boxed()
        }),
        ("unknown_lease_is_refused", |s| unknown_lease_is_refused(s).boxed()),
        ("random_writes_match_a_simple_model", |s| {
            random_writes_match_a_simple_model(s).boxed()
        }),
    ]
}

fn put(key: &str, value: &str) -> Op {
    Op::Put {
        key: key.into(),
        value: Bytes::copy_from_slice(value.as_bytes()),
        lease: None,
    }
}

fn put_on(key: &str, lease: LeaseId) -> Op {
    Op::Put {
        key: key.into(),
        value: Bytes::from_static(b"leased"),
        lease: Some(lease),
    }
}

fn delete(key: &str) -> Op {
    Op::Delete { key: key.into() }
}

fn compare(key: &str, mod_revision: Revision) -> Compare {
    Compare {
        key: key.into(),
        mod_revision,
    }
}

async fn txn(store: &Subject, compare: Vec<Compare>, ops: Vec<Op>) -> TxnResponse {
    store.txn(Txn { compare, ops }).await.expect("the transaction is valid")
}

async fn commit(store: &Subject, ops: Vec<Op>) -> Revision {
    match txn(store, Vec::new(), ops).await {
        TxnResponse::Committed { revision } => revision,
        TxnResponse::Conflict { .. } => panic!("a transaction without conditions was refused"),
    }
}

async fn range(store: &Subject, prefix: &str, revision: Option<Revision>, limit: usize) -> RangeResponse {
    let end = prefix_end(prefix);
    let request = RangeRequest {
        start: prefix.into(),
        end,
        revision,
        limit,
    };
    store.range(request).await.expect("the revision can be read")
}

async fn get(store: &Subject, key: &str) -> Option<Arc<KeyValue>> {
    let request = RangeRequest {
        start: key.into(),
        end: None,
        revision: None,
        limit: 0,
    };
    store.range(request).await.expect("the present can be read").kvs.pop()
}

fn text(kv: &Arc<KeyValue>) -> String {
    format!("{}={}", kv.key, String::from_utf8_lossy(&kv.value))
}

fn texts(response: &RangeResponse) -> Vec<String> {
    response.kvs.iter().map(text).collect()
}

fn describe(event: &Event) -> String {
    match event {
        Event::Put { kv, previous: None } => format!("{} new {}", kv.mod_revision, text(kv)),
        Event::Put {
            kv,
            previous: Some(previous),
        } => {
            format!(
                "{} put {} was {}",
                kv.mod_revision,
                text(kv),
                String::from_utf8_lossy(&previous.value)
            )
        }
        Event::Delete { revision, previous } => format!("{revision} gone {}", text(previous)),
    }
}

/// Reads a watch until it has seen `revision`; checks that batches only go forward.
async fn read_until(watch: &mut Box<dyn Watch>, revision: Revision) -> Vec<Arc<Event>> {
    let mut events: Vec<Arc<Event>> = Vec::new();
    let mut seen = 0;
    while seen < revision {
        let next = tokio::time::timeout(PATIENCE, watch.next())
            .await
            .expect("the watch makes progress");
        let batch = next.expect("the store is open").expect("the history is kept");
        assert!(batch.revision >= seen, "progress went back");
        for event in &batch.events {
            assert!(
                event.revision() > seen && event.revision() <= batch.revision,
                "event outside its batch"
            );
        }
        seen = batch.revision;
        events.extend(batch.events);
    }
    assert!(events.is_sorted_by_key(|event| event.revision()), "events out of order");
    events
}

async fn watch(store: &Subject, prefix: &str, after: Revision) -> Box<dyn Watch> {
    store.watch(prefix, after).await.expect("the history is kept")
}

async fn empty_store_has_the_first_revision(store: Subject) {
    assert_eq!(store.revision().await.expect("open"), 1);
    let all = range(&store, "/", None, 0).await;
    assert_eq!((all.revision, all.count, all.kvs.len()), (1, 0, 0));
}

async fn put_marks_creation_and_change(store: Subject) {
    let made = commit(&store, vec![put("/a", "1")]).await;
    let changed = commit(&store, vec![put("/a", "2")]).await;
    let kv = get(&store, "/a").await.expect("it was written");
    assert_eq!((made, changed), (2, 3));
    assert_eq!(
        (kv.create_revision, kv.mod_revision, kv.version, kv.lease),
        (made, changed, 2, None)
    );
    assert_eq!(text(&kv), "/a=2");
    commit(&store, vec![delete("/a")]).await;
    assert_eq!(get(&store, "/a").await, None);
    let again = commit(&store, vec![put("/a", "3")]).await;
    let kv = get(&store, "/a").await.expect("it was written");
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (again, again, 1));
}

async fn range_is_ordered_limited_and_counted(store: Subject) {
    let written = ["/b/2", "/a/1", "/b/1", "/b/10", "/c/1", "/b"];
    commit(&store, written.iter().map(|key| put(key, "x")).collect()).await;
    let all = range(&store, "/b/", None, 0).await;
    assert_eq!(texts(&all), ["/b/1=x", "/b/10=x", "/b/2=x"]);
    assert_eq!(all.count, 3);
    let some = range(&store, "/b/", None, 2).await;
    assert_eq!(
        (texts(&some), some.count),
        (vec!["/b/1=x".to_owned(), "/b/10=x".to_owned()], 3)
    );
    let rest = RangeRequest {
        start: "/b/10\0".into(),
        end: prefix_end("/b/"),
        revision: None,
        limit: 0,
    };
    assert_eq!(texts(&store.range(rest).await.expect("readable")), ["/b/2=x"]);
    let backwards = RangeRequest {
        start: "/z".into(),
        end: Some("/a".into()),
        revision: None,
        limit: 0,
    };
    assert_eq!(store.range(backwards).await.expect("readable").count, 0);
}

async fn range_shows_earlier_revisions(store: Subject) {
    let first = commit(&store, vec![put("/a", "1"), put("/b", "1")]).await;
    let second = commit(&store, vec![put("/a", "2"), delete("/b")]).await;
    let third = commit(&store, vec![put("/b", "3")]).await;
    assert_eq!(texts(&range(&store, "/", Some(first), 0).await), ["/a=1", "/b=1"]);
    assert_eq!(texts(&range(&store, "/", Some(second), 0).await), ["/a=2"]);
    assert_eq!(texts(&range(&store, "/", Some(third), 0).await), ["/a=2", "/b=3"]);
    assert_eq!(range(&store, "/", Some(second), 0).await.revision, second);
    let ahead = RangeRequest {
        start: "/".into(),
        end: None,
        revision: Some(third + 1),
        limit: 0,
    };
    let error = store.range(ahead).await.expect_err("that revision does not exist");
    assert!(matches!(error, Error::Future { requested, latest } if requested == third + 1 && latest == third));
}

async fn failed_compare_changes_nothing(store: Subject) {
    let made = commit(&store, vec![put("/a", "1")]).await;
    let conflict = txn(
        &store,
        vec![compare("/a", made), compare("/b", 7)],
        vec![put("/a", "2")],
    )
    .await;
    let TxnResponse::Conflict { revision, current } = conflict else {
        panic!("the second condition is false")
    };
    assert_eq!(revision, made);
    assert_eq!(
        current.iter().map(|kv| kv.as_ref().map(text)).collect::<Vec<_>>(),
        [Some("/a=1".into()), None]
    );
    assert_eq!(store.revision().await.expect("open"), made);
    let exists = txn(&store, vec![compare("/a", 0)], vec![put("/a", "3")]).await;
    assert!(matches!(exists, TxnResponse::Conflict { .. }));
    let right = txn(
        &store,
        vec![compare("/a", made), compare("/b", 0)],
        vec![put("/a", "4")],
    )
    .await;
    assert_eq!(right, TxnResponse::Committed { revision: made + 1 });
    assert_eq!(text(&get(&store, "/a").await.expect("it was written")), "/a=4");
}

async fn transaction_takes_one_revision(store: Subject) {
    commit(&store, vec![put("/a", "1")]).await;
    let revision = commit(&store, vec![put("/b", "2"), delete("/a"), put("/c", "2")]).await;
    assert_eq!(revision, 3);
    let all = range(&store, "/", None, 0).await;
    assert!(all.kvs.iter().all(|kv| kv.mod_revision == revision));
    assert_eq!(
        (texts(&all), all.revision),
        (vec!["/b=2".to_owned(), "/c=2".to_owned()], revision)
    );
}

async fn ineffective_transaction_takes_no_revision(store: Subject) {
    let made = commit(&store, vec![put("/a", "1")]).await;
    assert_eq!(commit(&store, vec![delete("/nothing")]).await, made);
    assert_eq!(commit(&store, Vec::new()).await, made);
    assert_eq!(store.revision().await.expect("open"), made);
}

async fn one_of_many_concurrent_creators_wins(store: Subject) {
    let attempts = (0..64).map(|i| {
        let store = store.clone();
        async move {
            txn(
                &store,
                vec![compare("/leader", 0)],
                vec![put("/leader", &format!("{i}"))],
            )
            .await
        }
    });
    let answers = join_all(attempts).await;
    let won = answers
        .iter()
        .filter(|answer| matches!(answer, TxnResponse::Committed { .. }))
        .count();
    assert_eq!(won, 1);
    let leader = get(&store, "/leader").await.expect("somebody won");
    for answer in answers {
        if let TxnResponse::Conflict { current, .. } = answer {
            assert_eq!(
                current,
                vec![Some(leader.clone())],
                "a loser saw something that was never committed"
            );
        }
    }
}

async fn concurrent_increments_are_all_counted(store: Subject) {
    const WORKERS: u64 = 8;
    const ROUNDS: u64 = 20;
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        let store = store.clone();
        workers.spawn(async move {
            for _ in 0..ROUNDS {
                increment(&store).await;
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.expect("the worker did not panic");
    }
    let counter = get(&store, "/counter").await.expect("it was written");
    assert_eq!(text(&counter), format!("/counter={}", WORKERS * ROUNDS));
    assert_eq!(counter.version, WORKERS * ROUNDS);
}

async fn increment(store: &Subject) {
    loop {
        let seen = get(store, "/counter").await;
        let (number, revision) = seen.map_or((0, 0), |kv| {
            let number: u64 = String::from_utf8_lossy(&kv.value).parse().expect("it holds a number");
            (number, kv.mod_revision)
        });
        let next = put("/counter", &(number + 1).to_string());
        let answer = txn(store, vec![compare("/counter", revision)], vec![next]).await;
        if matches!(answer, TxnResponse::Committed { .. }) {
            return;
        }
    }
}

async fn watch_reports_only_its_prefix(store: Subject) {
    let mut pods = watch(&store, "/pods/", 1).await;
    let mut all = watch(&store, "/", 1).await;
    let mut one = watch(&store, "/pods/b", 1).await;
    commit(
        &store,
        vec![put("/pods/a", "1"), put("/podsx", "1"), put("/nodes/a", "1")],
    )
    .await;
    commit(&store, vec![put("/pods/a", "2"), put("/pods/b", "2")]).await;
    let last = commit(&store, vec![delete("/pods/a"), delete("/nodes/a")]).await;
    let seen: Vec<_> = read_until(&mut pods, last).await.iter().map(|e| describe(e)).collect();
    let expected = [
        "2 new /pods/a=1",
        "3 put /pods/a=2 was 1",
        "3 new /pods/b=2",
        "4 gone /pods/a=2",
    ];
    assert_eq!(seen, expected);
    assert_eq!(read_until(&mut all, last).await.len(), 7);
    let seen: Vec<_> = read_until(&mut one, last).await.iter().map(|e| describe(e)).collect();
    assert_eq!(seen, ["3 new /pods/b=2"]);
}

async fn watch_starts_in_the_past(store: Subject) {
    let mut last = 1;
    for i in 0..10 {
        last = commit(&store, vec![put("/a", &i.to_string()), put("/other", "x")]).await;
    }
    let mut old = watch(&store, "/a", 5).await;
    let more = commit(&store, vec![put("/a", "more")]).await;
    let seen: Vec<_> = read_until(&mut old, more).await.iter().map(|e| e.revision()).collect();
    assert_eq!(seen, (6..=last + 1).collect::<Vec<_>>());
    let error = store
        .watch("/a", more + 1)
        .await
        .err()
        .expect("that revision does not exist");
    assert!(matches!(error, Error::Future { .. }));
}

async fn watch_tells_progress_of_others(store: Subject) {
    let mut quiet = watch(&store, "/quiet/", 1).await;
    for _ in 0..3 {
        let revision = commit(&store, vec![put("/loud", "x")]).await;
        assert!(read_until(&mut quiet, revision).await.is_empty());
    }
}

async fn slow_watch_loses_nothing(store: Subject) {
    const WRITES: usize = 12_000;
    const KEYS_PER_WRITE: usize = 100;
    let mut slow = watch(&store, "/slow/", 1).await;
    let mut last = 1;
    for first in (0..WRITES).step_by(KEYS_PER_WRITE) {
        let keys = first..first + KEYS_PER_WRITE;
        last = commit(&store, keys.map(|i| put(&format!("/slow/{i:06}"), "x")).collect()).await;
    }
    let events = read_until(&mut slow, last).await;
    let keys: Vec<_> = events.iter().map(|event| event.key().to_owned()).collect();
    assert_eq!(keys, (0..WRITES).map(|i| format!("/slow/{i:06}")).collect::<Vec<_>>());
    let live = commit(&store, vec![put("/slow/live", "x")]).await;
    assert_eq!(read_until(&mut slow, live).await.len(), 1);
}

async fn watch_never_hands_out_half_a_transaction(store: Subject) {
    const TRANSACTIONS: u64 = 300;
    let mut pairs = watch(&store, "/pair/", 1).await;
    let writer = store.clone();
    let mut writing = tokio::task::JoinSet::new();
    writing.spawn(async move {
        for i in 0..TRANSACTIONS {
            let value = i.to_string();
            commit(
                &writer,
                vec![put("/pair/a", &value), put("/other", "x"), put("/pair/b", &value)],
            )
            .await;
        }
    });
    let mut seen = 1;
    while seen <= TRANSACTIONS {
        let next = tokio::time::timeout(PATIENCE, pairs.next())
            .await
            .expect("the watch makes progress");
        let batch = next.expect("the store is open").expect("the history is kept");
        for pair in batch.events.chunks(2) {
            assert_eq!(pair.len(), 2, "half a transaction");
            assert_eq!(pair[0].revision(), pair[1].revision());
            assert_eq!((pair[0].key(), pair[1].key()), ("/pair/a", "/pair/b"));
        }
        seen = batch.revision;
    }
    writing
        .join_next()
        .await
        .expect("it was spawned")
        .expect("the writer did not panic");
}

async fn compaction_forgets_the_past_only(store: Subject) {
    commit(&store, vec![put("/a", "1"), put("/gone", "1"), put("/still", "1")]).await;
    let deleted = commit(&store, vec![put("/a", "2"), delete("/gone")]).await;
    let latest = commit(&store, vec![put("/a", "3")]).await;
    store.compact(deleted).await.expect("the revision exists");
    assert_eq!(texts(&range(&store, "/", Some(deleted), 0).await), ["/a=2", "/still=1"]);
    assert_eq!(texts(&range(&store, "/", None, 0).await), ["/a=3", "/still=1"]);
    let past = RangeRequest {
        start: "/a".into(),
        end: None,
        revision: Some(deleted - 1),
        limit: 0,
    };
    let error = store.range(past).await.expect_err("it is forgotten");
    assert!(matches!(error, Error::Compacted { requested, oldest } if requested == deleted - 1 && oldest == deleted));
    assert!(matches!(
        store.watch("/", deleted - 1).await.err(),
        Some(Error::Compacted { .. })
    ));
    let seen = read_until(&mut watch(&store, "/", deleted).await, latest).await;
    assert_eq!(
        seen.iter().map(|e| describe(e)).collect::<Vec<_>>(),
        ["4 put /a=3 was 2"]
    );
    assert!(matches!(store.compact(deleted - 1).await, Err(Error::Compacted { .. })));
    assert!(matches!(store.compact(latest + 1).await, Err(Error::Future { .. })));
    store
        .compact(deleted)
        .await
        .expect("compacting to the same revision again does nothing");
    let again = commit(&store, vec![put("/gone", "2")]).await;
    assert_eq!(get(&store, "/gone").await.map(|kv| kv.create_revision), Some(again));
}

async fn history_is_counted_and_halved(store: Subject) {
    let large = "x".repeat(10_000);
    let mut latest = 1;
    for _ in 0..10 {
        latest = commit(&store, vec![put("/a", &large)]).await;
    }
    // What is read has come.
    range(&store, "/", None, 0).await;
    let full = store.history();
    assert_eq!(full.latest, latest);
    // The first write replaced nothing, and the last value is the present.
    assert!((90_000..100_000).contains(&full.bytes), "{full:?}");
    store.compact(full.middle).await.expect("it is kept");
    let half = store.history().bytes;
    assert!((30_000..60_000).contains(&half), "{half}");
    store.compact(latest).await.expect("it is kept");
    assert_eq!(store.history().bytes, 0);
}

async fn lagging_watch_is_told_of_compaction(store: Subject) {
    let first = commit(&store, vec![put("/a", "1")]).await;
    let mut lagging = watch(&store, "/a", 1).await;
    let mut past = watch(&store, "/a", first).await;
    let latest = commit(&store, vec![put("/a", "2")]).await;
    store.compact(latest).await.expect("the revision exists");
    // It may have buffered what it missed, or it has to say that it is lost; silence and gaps are wrong.
    match tokio::time::timeout(PATIENCE, lagging.next())
        .await
        .expect("it answers")
        .expect("the store is open")
    {
        Ok(batch) => assert_eq!(batch.events.first().map(|e| e.revision()), Some(first)),
        Err(error) => assert!(matches!(error, Error::Compacted { .. })),
    }
    match tokio::time::timeout(PATIENCE, past.next())
        .await
        .expect("it answers")
        .expect("the store is open")
    {
        Ok(batch) => assert_eq!(batch.events.first().map(|e| e.revision()), Some(latest)),
        Err(error) => assert!(matches!(error, Error::Compacted { .. })),
    }
}

async fn revoked_lease_deletes_its_keys(store: Subject) {
    let lease = store.grant_lease(PATIENCE * 100).await.expect("granted");
    assert_ne!(lease, 0);
    commit(
        &store,
        vec![
            put_on("/a", lease),
            put_on("/b", lease),
            put_on("/freed", lease),
            put("/c", "1"),
        ],
    )
    .await;
    assert_eq!(get(&store, "/a").await.and_then(|kv| kv.lease), Some(lease));
    let before = commit(&store, vec![put("/freed", "now")]).await;
    let mut events = watch(&store, "/", before).await;
    store.revoke_lease(lease).await.expect("it exists");
    let seen = read_until(&mut events, before + 1).await;
    let ended = before + 1;
    assert_eq!(
        seen.iter().map(|e| describe(e)).collect::<Vec<_>>(),
        [format!("{ended} gone /a=leased"), format!("{ended} gone /b=leased")]
    );
    assert_eq!(texts(&range(&store, "/", None, 0).await), ["/c=1", "/freed=now"]);
    assert!(matches!(store.revoke_lease(lease).await, Err(Error::LeaseNotFound(id)) if id == lease));
}

async fn lease_ends_by_itself(store: Subject) {
    let long = store.grant_lease(PATIENCE * 100).await.expect("granted");
    let short = store.grant_lease(Duration::from_millis(50)).await.expect("granted");
    assert_ne!(long, short);
    let after = commit(&store, vec![put_on("/long", long), put_on("/short", short)]).await;
    let mut events = watch(&store, "/", after).await;
    let seen = read_until(&mut events, after + 1).await;
    assert_eq!(seen.iter().map(|e| e.key().to_owned()).collect::<Vec<_>>(), ["/short"]);
    assert!(matches!(store.keep_alive(short).await, Err(Error::LeaseNotFound(_))));
    assert!(get(&store, "/long").await.is_some());
}

async fn kept_lease_outlives_its_time(store: Subject) {
    let ttl = Duration::from_millis(400);
    let kept = store.grant_lease(ttl).await.expect("granted");
    let left = store.grant_lease(ttl).await.expect("granted");
    let mut after = commit(&store, vec![put_on("/kept", kept)]).await;
    after = commit(&store, vec![put_on("/left", left)]).await.max(after);
    let mut events = watch(&store, "/left", after).await;
    let mut ticks = tokio::time::interval(ttl / 8);
    loop {
        tokio::select! {
            batch = events.next() => {
                let batch = batch.expect("the store is open").expect("the history is kept");
                if batch.events.iter().any(|event| event.key() == "/left") {
                    break;
                }
            }
            _ = ticks.tick() => store.keep_alive(kept).await.expect("it is alive"),
        }
    }
    assert!(get(&store, "/kept").await.is_some());
}

async fn unknown_lease_is_refused(store: Subject) {
    let answer = store
        .txn(Txn {
            compare: Vec::new(),
            ops: vec![put("/b", "1"), put_on("/a", 99)],
        })
        .await;
    assert!(matches!(answer, Err(Error::LeaseNotFound(99))));
    assert_eq!(store.revision().await.expect("open"), 1);
    assert!(matches!(store.keep_alive(99).await, Err(Error::LeaseNotFound(99))));
}

/// A small generator, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // Knuth's MMIX constants.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

async fn random_writes_match_a_simple_model(store: Subject) {
    let mut dice = Dice(42);
    let mut model: BTreeMap<String, String> = BTreeMap::new();
    let mut states: BTreeMap<Revision, BTreeMap<String, String>> = BTreeMap::from([(1, model.clone())]);
    let mut live = watch(&store, "/k/", 1).await;
    for step in 0..400 {
        let mut ops = Vec::new();
        let mut touched = BTreeSet::new();
        for _ in 0..=dice.roll(3) {
            let key = format!("/k/{}", dice.roll(12));
            if !touched.insert(key.clone()) {
                continue;
            }
            if dice.roll(3) == 0 {
                model.remove(&key);
                ops.push(delete(&key));
            } else {
                model.insert(key.clone(), step.to_string());
                ops.push(put(&key, &step.to_string()));
            }
        }
        states.insert(commit(&store, ops).await, model.clone());
        if dice.roll(50) == 0 {
            let oldest = *states.keys().nth(states.len() / 2).expect("there are states");
            store.compact(oldest).await.expect("it is kept");
            states = states.split_off(&oldest);
        }
    }
    for (revision, expected) in &states {
        let expected: Vec<_> = expected.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            texts(&range(&store, "/k/", Some(*revision), 0).await),
            expected,
            "at revision {revision}"
        );
    }
    let latest = store.revision().await.expect("open");
    replay(&mut live, &BTreeMap::new(), &model, latest).await;
    for (revision, start) in states.into_iter().filter(|(revision, _)| *revision < latest) {
        replay(&mut watch(&store, "/k/", revision).await, &start, &model, latest).await;
    }
}

/// The changes of a watch lead from one state to the other.
async fn replay(
    watch: &mut Box<dyn Watch>,
    start: &BTreeMap<String, String>,
    end: &BTreeMap<String, String>,
    latest: Revision,
) {
    let mut state = start.clone();
    for event in read_until(watch, latest).await {
        let previous = match &*event {
            Event::Put { kv, previous } => {
                let value = String::from_utf8_lossy(&kv.value).into_owned();
                (state.insert(kv.key.to_string(), value), previous.clone())
            }
            Event::Delete { previous, .. } => (state.remove(&*previous.key), Some(previous.clone())),
        };
        assert_eq!(
            previous.0.as_deref(),
            previous
                .1
                .as_ref()
                .map(|kv| std::str::from_utf8(&kv.value).expect("text"))
        );
    }
    assert_eq!(state, *end);
}
