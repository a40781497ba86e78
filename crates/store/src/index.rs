//! The keys of a store in memory: the present state, the past since the last compaction, and who watches.
//!
//! One writer at a time stages changes ([`Index::stage`]), makes them durable in its own way, and then lets everybody
//! see them ([`Index::apply`]). Readers take a short lock and never wait for a medium. Values are shared, not copied.
//!
//! Must not know how a backend stores anything.

use crate::history::{History, Log};
use crate::lease::Leases;
use crate::stage::Stage;
use crate::watch::{Hub, IndexWatch};
use crate::{Error, Event, KeyValue, LeaseId, RangeRequest, RangeResponse, Revision, Txn, TxnResponse};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use tokio::time::Instant;

/// The revision of a store that was never written.
pub const FIRST_REVISION: Revision = 1;

/// What everybody may read now.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) keys: BTreeMap<Arc<str>, History>,
    pub(crate) revision: Revision,
    /// The oldest revision that can be read; changes after it are in the log.
    pub(crate) oldest: Revision,
    pub(crate) log: Log,
    pub(crate) leases: Leases,
}

/// What a backend found on its medium.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The latest revision that was made durable; 0 for an empty medium.
    pub revision: Revision,
    /// Every key.
    pub keys: Vec<KeyValue>,
    /// Every lease with its time to live, which starts anew now.
    pub leases: Vec<(LeaseId, Duration)>,
    /// The highest lease id ever given out.
    pub last_lease: LeaseId,
}

/// The in-memory index that backends share.
///
/// Guarantees: readers see all of a staged group or nothing of it; watches see every change once, in order.
/// Assumption: calls to [`Index::stage_txn`] … [`Index::apply`] are made by one writer at a time.
#[derive(Debug)]
pub struct Index {
    state: RwLock<State>,
    hub: Hub,
}

impl Index {
    /// An index of what the medium holds. The history before that is gone.
    #[must_use]
    pub fn new(loaded: Loaded) -> Arc<Self> {
        let state = State::of(loaded);
        Arc::new(Self {
            hub: Hub::new(state.revision),
            state: RwLock::new(state),
        })
    }

    /// The latest revision.
    pub fn revision(&self) -> Revision {
        self.read().revision
    }

    /// All of the present.
    pub fn contents(&self) -> Loaded {
        let state = self.read();
        Loaded {
            revision: state.revision,
            keys: state
                .keys
                .values()
                .filter_map(History::latest)
                .map(|kv| KeyValue::clone(kv))
                .collect(),
            leases: state.leases.all().collect(),
            last_lease: state.leases.last_id(),
        }
    }

    /// Reads keys at the latest or an earlier revision.
    ///
    /// # Errors
    /// [`Error::Compacted`] or [`Error::Future`] for a revision that cannot be read.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        let state = self.read();
        let revision = request.revision.unwrap_or(state.revision);
        state.check_readable(revision)?;
        let mut response = RangeResponse {
            revision,
            kvs: Vec::new(),
            count: 0,
        };
        let Some(end) = &request.end else {
            let found = state.keys.get(request.start.as_str()).and_then(|h| h.at(revision));
            response.kvs.extend(found.cloned());
            response.count = response.kvs.len();
            return Ok(response);
        };
        if *end <= request.start {
            return Ok(response);
        }
        let bounds = (Bound::Included(request.start.as_str()), Bound::Excluded(end.as_str()));
        for kv in state
            .keys
            .range::<str, _>(bounds)
            .filter_map(|(_, history)| history.at(revision))
        {
            response.count += 1;
            if request.limit == 0 || response.kvs.len() < request.limit {
                response.kvs.push(kv.clone());
            }
        }
        Ok(response)
    }

    /// Reports each change under `prefix` made after revision `after`.
    ///
    /// # Errors
    /// [`Error::Compacted`] or [`Error::Future`] for a revision that cannot be watched from.
    pub fn watch(self: &Arc<Self>, prefix: &str, after: Revision) -> Result<IndexWatch, Error> {
        let state = self.read();
        state.check_readable(after)?;
        // The state is held while the watch is entered, so nothing is applied in between.
        Ok(IndexWatch::new(
            self.clone(),
            self.hub.subscribe(prefix, after < state.revision),
            after,
        ))
    }

    /// Forgets states before `revision`. The work grows with the changes forgotten, not with the keys.
    ///
    /// # Errors
    /// [`Error::Compacted`] if that was done further already, [`Error::Future`] if `revision` does not exist yet.
    pub fn compact(&self, revision: Revision) -> Result<(), Error> {
        let forgotten = {
            let mut state = self.write();
            state.check_readable(revision)?;
            state.oldest = revision;
            let forgotten = state.log.forget(revision);
            for event in &forgotten {
                let key = event.key();
                if state.keys.get_mut(key).is_some_and(|history| history.forget(revision)) {
                    state.keys.remove(key);
                }
            }
            forgotten
        };
        // Values are freed outside the lock.
        drop(forgotten);
        Ok(())
    }

    /// How much of the past is kept.
    pub fn history(&self) -> crate::History {
        let state = self.read();
        let (bytes, middle) = state.log.size();
        crate::History {
            bytes,
            middle,
            latest: state.revision,
        }
    }

    /// Begins a group of changes on top of the present state.
    pub fn stage(&self) -> Stage {
        Stage::new(&self.read())
    }

    /// Judges a transaction on top of the group and adds its changes to the group.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`] for a put on an unknown lease; the group is unchanged then.
    pub fn stage_txn(&self, stage: &mut Stage, txn: Txn) -> Result<TxnResponse, Error> {
        stage.txn(&self.read(), txn)
    }

    /// Adds the end of a lease, with its keys, to the group.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`] for an unknown lease.
    pub fn stage_revoke(&self, stage: &mut Stage, lease: LeaseId) -> Result<(), Error> {
        stage.revoke(&self.read(), lease)
    }

    /// Lets everybody see the group.
    pub fn apply(&self, stage: Stage) {
        let revision = {
            let mut state = self.write();
            state.leases.apply(&stage, Instant::now());
            for event in &stage.events {
                state.record(event);
            }
            state.revision = stage.revision;
            // Within the lock: a watch that is being entered sees the group either here or in the log.
            self.hub.deliver(&stage.events);
            state.revision
        };
        self.hub.tell_progress(revision);
    }

    /// Starts the lease's time anew.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`] for an unknown lease.
    pub fn keep_alive(&self, lease: LeaseId) -> Result<(), Error> {
        self.write().leases.keep_alive(lease, Instant::now())
    }

    /// When the next lease ends.
    pub fn next_lease_end(&self) -> Option<Instant> {
        self.read().leases.next_end()
    }

    /// The leases whose time is over at `now`.
    pub fn ended_leases(&self, now: Instant) -> Vec<LeaseId> {
        self.read().leases.ended(now)
    }

    /// Ends all watches: nothing will change any more.
    pub fn close(&self) {
        self.hub.close();
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect("nothing panics while it holds the index")
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().expect("nothing panics while it holds the index")
    }
}

impl State {
    pub(crate) fn of(loaded: Loaded) -> Self {
        let revision = loaded.revision.max(FIRST_REVISION);
        let mut leases = Leases::new(loaded.last_lease, loaded.leases, Instant::now());
        let mut keys = BTreeMap::new();
        for kv in loaded.keys {
            leases.attach(kv.lease, &kv.key);
            keys.insert(kv.key.clone(), History::new(Arc::new(kv)));
        }
        Self {
            keys,
            revision,
            oldest: revision,
            log: Log::default(),
            leases,
        }
    }

    /// What the key holds now.
    pub(crate) fn current(&self, key: &str) -> Option<&Arc<KeyValue>> {
        self.keys.get(key).and_then(History::latest)
    }

    pub(crate) fn check_readable(&self, revision: Revision) -> Result<(), Error> {
        if revision < self.oldest {
            return Err(Error::Compacted {
                requested: revision,
                oldest: self.oldest,
            });
        }
        if revision > self.revision {
            return Err(Error::Future {
                requested: revision,
                latest: self.revision,
            });
        }
        Ok(())
    }

    pub(crate) fn record(&mut self, event: &Arc<Event>) {
        match &**event {
            Event::Put { kv, previous } => {
                self.leases.detach(previous.as_ref().and_then(|kv| kv.lease), &kv.key);
                self.leases.attach(kv.lease, &kv.key);
                match self.keys.get_mut(&kv.key) {
                    Some(history) => history.put(kv.clone()),
                    None => drop(self.keys.insert(kv.key.clone(), History::new(kv.clone()))),
                }
            }
            Event::Delete { revision, previous } => {
                self.leases.detach(previous.lease, &previous.key);
                if let Some(history) = self.keys.get_mut(&previous.key) {
                    history.delete(*revision);
                }
            }
        }
        self.log.push(event.clone());
    }
}
