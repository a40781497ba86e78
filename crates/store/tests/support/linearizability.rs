//! Whether what concurrent clients were told can have happened one thing after the other, each between its question and
//! its answer. The judge is stateright's linearizability tester; here is only what a store does when it is alone.
//!
//! Every answer tells its revision, so the judge can also not take a stale read for a fresh one.

use bytes::Bytes;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::{Compare, Event, KeyValue, Op, RangeRequest, Revision, Store, Txn, TxnResponse};

const ROUNDS: u64 = 60;
const CLIENTS: usize = 5;
const QUESTIONS: usize = 7;
const KEYS: u64 = 3;

/// What a client asks. Keys are small numbers, so that clients meet.
#[derive(Clone, Debug, PartialEq)]
enum Asked {
    Get(u64),
    All,
    Put(u64, u64),
    /// Writes both keys, or none.
    PutTwo(u64, u64, u64),
    /// Writes a key if it is at a revision (0: if it is absent).
    Swap(u64, Revision, u64),
    Delete(u64),
}

/// What it is told: keys with value and revision, always with the store's revision.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Found(Revision, BTreeMap<u64, (u64, Revision)>),
    Done(Revision),
    Refused(Revision, Option<(u64, Revision)>),
}

/// A store that only one client uses.
#[derive(Clone, Debug)]
struct Alone {
    revision: Revision,
    keys: BTreeMap<u64, (u64, Revision)>,
}

impl SequentialSpec for Alone {
    type Op = Asked;
    type Ret = Told;

    fn invoke(&mut self, asked: &Asked) -> Told {
        let next = self.revision + 1;
        match *asked {
            Asked::Get(key) => {
                let found = self.keys.get(&key).map(|kv| (key, *kv));
                return Told::Found(self.revision, found.into_iter().collect());
            }
            Asked::All => return Told::Found(self.revision, self.keys.clone()),
            Asked::Swap(key, at, _) if self.keys.get(&key).map_or(0, |kv| kv.1) != at => {
                return Told::Refused(self.revision, self.keys.get(&key).copied());
            }
            Asked::Put(key, value) | Asked::Swap(key, _, value) => {
                self.keys.insert(key, (value, next));
                self.revision = next;
            }
            Asked::PutTwo(one, two, value) => {
                self.keys.insert(one, (value, next));
                self.keys.insert(two, (value, next));
                self.revision = next;
            }
            Asked::Delete(key) => {
                if self.keys.remove(&key).is_some() {
                    self.revision = next;
                }
            }
        }
        Told::Done(self.revision)
    }
}

fn key(round: u64, number: u64) -> String {
    format!("/{round}/{number}")
}

fn read(kv: &Arc<KeyValue>) -> (u64, Revision) {
    let text = std::str::from_utf8(&kv.value).expect("we write numbers");
    (text.parse().expect("we write numbers"), kv.mod_revision)
}

async fn ask(store: &dyn Store, round: u64, asked: &Asked) -> Told {
    let put = |number, value: u64| Op::Put {
        key: key(round, number),
        value: Bytes::from(value.to_string()),
        lease: None,
    };
    let (mut compare, ops) = match *asked {
        Asked::Get(number) => return found(store, &key(round, number), None).await,
        Asked::All => return found(store, &key(round, 0), Some(key(round, KEYS))).await,
        Asked::Put(number, value) | Asked::Swap(number, _, value) => (Vec::new(), vec![put(number, value)]),
        Asked::PutTwo(one, two, value) => (Vec::new(), vec![put(one, value), put(two, value)]),
        Asked::Delete(number) => (
            Vec::new(),
            vec![Op::Delete {
                key: key(round, number),
            }],
        ),
    };
    if let Asked::Swap(number, mod_revision, _) = *asked {
        let key = key(round, number);
        compare.push(Compare { key, mod_revision });
    }
    match store.txn(Txn { compare, ops }).await.expect("the store is sound") {
        TxnResponse::Committed { revision } => Told::Done(revision),
        TxnResponse::Conflict { revision, current } => Told::Refused(revision, current[0].as_ref().map(read)),
    }
}

async fn found(store: &dyn Store, start: &str, end: Option<String>) -> Told {
    let request = RangeRequest {
        start: start.to_owned(),
        end,
        revision: None,
        limit: 0,
    };
    let response = store.range(request).await.expect("the present can be read");
    let number = |kv: &KeyValue| kv.key.rsplit('/').next().and_then(|number| number.parse().ok());
    let kvs = response
        .kvs
        .iter()
        .map(|kv| (number(kv).expect("we chose the keys"), read(kv)));
    Told::Found(response.revision, kvs.collect())
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

    fn question(&mut self, value: u64, seen: &BTreeMap<u64, Revision>) -> Asked {
        let key = self.roll(KEYS);
        match self.roll(8) {
            0 | 1 => Asked::Get(key),
            2 => Asked::All,
            3 => Asked::Put(key, value),
            4 => Asked::PutTwo(key, (key + 1) % KEYS, value),
            5 => Asked::Delete(key),
            _ => Asked::Swap(key, seen.get(&key).copied().unwrap_or(0), value),
        }
    }
}

type Judge = Arc<Mutex<LinearizabilityTester<usize, Alone>>>;

async fn client(store: Arc<dyn Store>, judge: Judge, round: u64, number: usize) {
    let mut dice = Dice(round * 1000 + number as u64);
    let mut seen = BTreeMap::new();
    for question in 0..QUESTIONS {
        let asked = dice.question((number * QUESTIONS + question) as u64, &seen);
        judge.lock().unwrap().on_invoke(number, asked.clone()).unwrap();
        let told = ask(&*store, round, &asked).await;
        if let Told::Found(_, found) = &told {
            seen.extend(found.iter().map(|(key, (_, revision))| (*key, *revision)));
        }
        judge.lock().unwrap().on_return(number, told).unwrap();
    }
}

/// Lets clients meet on the stores, which all show the same; panics if what they were told cannot have happened.
pub(crate) async fn check(stores: Vec<Arc<dyn Store>>) {
    for round in 0..ROUNDS {
        let revision = stores[0].revision().await.expect("the store is sound");
        let alone = Alone {
            revision,
            keys: BTreeMap::new(),
        };
        let judge: Judge = Arc::new(Mutex::new(LinearizabilityTester::new(alone)));
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..CLIENTS {
            let store = stores[number % stores.len()].clone();
            clients.spawn(client(store, judge.clone(), round, number));
        }
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        let order = judge.lock().unwrap().serialized_history();
        let Some(order) = order else {
            panic!("round {round} cannot have happened: {:?}", judge.lock().unwrap())
        };
        for store in &stores {
            told_by_watch(&**store, round, revision, &order).await;
        }
    }
}

/// A watch tells each write of the order, once, with the revision at which it was done.
async fn told_by_watch(store: &dyn Store, round: u64, after: Revision, order: &[(Asked, Told)]) {
    let mut expected: BTreeMap<Revision, BTreeMap<u64, Option<u64>>> = BTreeMap::new();
    let mut latest = after;
    for (asked, told) in order {
        let Told::Done(revision) = *told else { continue };
        if revision == latest {
            continue;
        }
        latest = revision;
        let changes = match *asked {
            Asked::Put(key, value) | Asked::Swap(key, _, value) => vec![(key, Some(value))],
            Asked::PutTwo(one, two, value) => vec![(one, Some(value)), (two, Some(value))],
            Asked::Delete(key) => vec![(key, None)],
            Asked::Get(_) | Asked::All => Vec::new(),
        };
        expected.insert(revision, changes.into_iter().collect());
    }
    let mut watch = store
        .watch(&format!("/{round}/"), after)
        .await
        .expect("the history is kept");
    let (mut told, mut seen): (BTreeMap<Revision, BTreeMap<u64, Option<u64>>>, _) = (BTreeMap::new(), after);
    while seen < latest {
        let next = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
        let batch = next
            .expect("the watch goes on")
            .expect("the store is open")
            .expect("the history is kept");
        for event in &batch.events {
            let number = event.key().rsplit('/').next().and_then(|number| number.parse().ok());
            let value = match &**event {
                Event::Put { kv, .. } => Some(read(kv).0),
                Event::Delete { .. } => None,
            };
            let number = number.expect("we chose the keys");
            let twice = told.entry(event.revision()).or_default().insert(number, value);
            assert_eq!(twice, None, "round {round}: a change was told twice");
        }
        seen = batch.revision;
    }
    assert_eq!(told, expected, "round {round}");
}
