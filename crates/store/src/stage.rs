//! A group of changes that is judged and ordered but not yet seen by anybody.
//!
//! A backend makes the group durable between staging and [`crate::index::Index::apply`].

use crate::index::State;
use crate::{Error, Event, KeyValue, LeaseId, Op, Revision, Txn, TxnResponse};
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Changes on top of the index, in order.
#[derive(Debug)]
pub struct Stage {
    pub(crate) revision: Revision,
    pub(crate) events: Vec<Arc<Event>>,
    /// What the keys of `events` hold at the end of the group.
    touched: HashMap<Arc<str>, Option<Arc<KeyValue>>>,
    /// Leases made (with their time to live) and ended (`None`) by the group.
    leases: HashMap<LeaseId, Option<Duration>>,
    last_lease: LeaseId,
}

impl Stage {
    pub(crate) fn new(state: &State) -> Self {
        Self {
            revision: state.revision,
            events: Vec::new(),
            touched: HashMap::new(),
            leases: HashMap::new(),
            last_lease: state.leases.last_id(),
        }
    }

    /// The revision after the group.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Every change of a key, in order.
    #[must_use]
    pub fn events(&self) -> &[Arc<Event>] {
        &self.events
    }

    /// What each changed key holds at the end of the group.
    pub fn outcome(&self) -> impl Iterator<Item = (&str, Option<&Arc<KeyValue>>)> {
        self.touched.iter().map(|(key, kv)| (&**key, kv.as_ref()))
    }

    /// Leases made (with their time to live) and ended (`None`) by the group.
    pub fn leases(&self) -> impl Iterator<Item = (LeaseId, Option<Duration>)> {
        self.leases.iter().map(|(id, ttl)| (*id, *ttl))
    }

    /// The highest lease id ever given out.
    #[must_use]
    pub fn last_lease(&self) -> LeaseId {
        self.last_lease
    }

    /// Nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.leases.is_empty()
    }

    /// Adds a new lease.
    pub fn grant(&mut self, ttl: Duration) -> LeaseId {
        self.last_lease += 1;
        self.leases.insert(self.last_lease, Some(ttl));
        self.last_lease
    }

    pub(crate) fn txn(&mut self, state: &State, txn: Txn) -> Result<TxnResponse, Error> {
        let holds = |compare: &crate::Compare| {
            self.current(state, &compare.key).map_or(0, |kv| kv.mod_revision) == compare.mod_revision
        };
        if !txn.compare.iter().all(holds) {
            let current = txn
                .compare
                .iter()
                .map(|c| self.current(state, &c.key).cloned())
                .collect();
            return Ok(TxnResponse::Conflict {
                revision: self.revision,
                current,
            });
        }
        for op in &txn.ops {
            if let Op::Put { lease: Some(lease), .. } = op {
                self.check_lease(state, *lease)?;
            }
        }
        let revision = self.revision + 1;
        let before = self.events.len();
        for op in txn.ops {
            match op {
                Op::Put { key, value, lease } => self.put(state, revision, key, value, lease),
                Op::Delete { key } => self.delete(state, revision, &key),
            }
        }
        if self.events.len() > before {
            self.revision = revision;
        }
        Ok(TxnResponse::Committed {
            revision: self.revision,
        })
    }

    pub(crate) fn revoke(&mut self, state: &State, lease: LeaseId) -> Result<(), Error> {
        self.check_lease(state, lease)?;
        let staged = self
            .touched
            .iter()
            .filter(|(_, kv)| kv.as_ref().is_some_and(|kv| kv.lease == Some(lease)));
        let keys: BTreeSet<Arc<str>> = staged
            .map(|(key, _)| key.clone())
            .chain(
                state
                    .leases
                    .keys(lease)
                    .filter(|key| !self.touched.contains_key(*key))
                    .cloned(),
            )
            .collect();
        let revision = self.revision + 1;
        for key in &keys {
            self.delete(state, revision, key);
        }
        if !keys.is_empty() {
            self.revision = revision;
        }
        self.leases.insert(lease, None);
        Ok(())
    }

    fn check_lease(&self, state: &State, lease: LeaseId) -> Result<(), Error> {
        let exists = self
            .leases
            .get(&lease)
            .map_or_else(|| state.leases.exists(lease), Option::is_some);
        if exists {
            Ok(())
        } else {
            Err(Error::LeaseNotFound(lease))
        }
    }

    fn current<'a>(&'a self, state: &'a State, key: &str) -> Option<&'a Arc<KeyValue>> {
        match self.touched.get(key) {
            Some(kv) => kv.as_ref(),
            None => state.current(key),
        }
    }

    fn put(&mut self, state: &State, revision: Revision, key: String, value: Bytes, lease: Option<LeaseId>) {
        let previous = self.current(state, &key).cloned();
        // The key's text is kept once for all its versions.
        let known = || state.keys.get_key_value(key.as_str()).map(|(key, _)| key.clone());
        let key = match &previous {
            Some(previous) => previous.key.clone(),
            None => known().unwrap_or_else(|| Arc::from(key.as_str())),
        };
        let kv = Arc::new(KeyValue {
            key: key.clone(),
            value,
            create_revision: previous.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: previous.as_ref().map_or(1, |kv| kv.version + 1),
            lease,
        });
        self.touched.insert(key, Some(kv.clone()));
        self.events.push(Arc::new(Event::Put { kv, previous }));
    }

    fn delete(&mut self, state: &State, revision: Revision, key: &str) {
        let Some(previous) = self.current(state, key).cloned() else {
            return;
        };
        self.touched.insert(previous.key.clone(), None);
        self.events.push(Arc::new(Event::Delete { revision, previous }));
    }
}
