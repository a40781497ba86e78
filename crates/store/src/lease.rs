//! Leases: times after which keys go away unless somebody keeps them alive.

use crate::stage::Stage;
use crate::{Error, LeaseId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    end: Instant,
    keys: BTreeSet<Arc<str>>,
}

/// All leases with their keys.
#[derive(Debug)]
pub(crate) struct Leases {
    by_id: BTreeMap<LeaseId, Lease>,
    by_end: BTreeSet<(Instant, LeaseId)>,
    last_id: LeaseId,
}

impl Leases {
    pub(crate) fn new(last_id: LeaseId, loaded: Vec<(LeaseId, Duration)>, now: Instant) -> Self {
        let mut leases = Self {
            by_id: BTreeMap::new(),
            by_end: BTreeSet::new(),
            last_id,
        };
        for (id, ttl) in loaded {
            leases.insert(id, ttl, now);
        }
        leases
    }

    pub(crate) fn last_id(&self) -> LeaseId {
        self.last_id
    }

    /// Each lease with its time to live.
    pub(crate) fn all(&self) -> impl Iterator<Item = (LeaseId, Duration)> {
        self.by_id.iter().map(|(id, lease)| (*id, lease.ttl))
    }

    pub(crate) fn exists(&self, id: LeaseId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(crate) fn keys(&self, id: LeaseId) -> impl Iterator<Item = &Arc<str>> {
        self.by_id.get(&id).into_iter().flat_map(|lease| &lease.keys)
    }

    pub(crate) fn next_end(&self) -> Option<Instant> {
        self.by_end.first().map(|(end, _)| *end)
    }

    pub(crate) fn ended(&self, now: Instant) -> Vec<LeaseId> {
        self.by_end
            .iter()
            .take_while(|(end, _)| *end <= now)
            .map(|(_, id)| *id)
            .collect()
    }

    pub(crate) fn keep_alive(&mut self, id: LeaseId, now: Instant) -> Result<(), Error> {
        let lease = self.by_id.get_mut(&id).ok_or(Error::LeaseNotFound(id))?;
        self.by_end.remove(&(lease.end, id));
        lease.end = end(now, lease.ttl);
        self.by_end.insert((lease.end, id));
        Ok(())
    }

    pub(crate) fn attach(&mut self, id: Option<LeaseId>, key: &Arc<str>) {
        if let Some(lease) = id.and_then(|id| self.by_id.get_mut(&id)) {
            lease.keys.insert(key.clone());
        }
    }

    pub(crate) fn detach(&mut self, id: Option<LeaseId>, key: &Arc<str>) {
        if let Some(lease) = id.and_then(|id| self.by_id.get_mut(&id)) {
            lease.keys.remove(key);
        }
    }

    /// Takes over the leases that a group makes and ends; its keys come after.
    pub(crate) fn apply(&mut self, stage: &Stage, now: Instant) {
        self.last_id = stage.last_lease();
        for (id, ttl) in stage.leases() {
            match ttl {
                Some(ttl) => self.insert(id, ttl, now),
                None => self.remove(id),
            }
        }
    }

    fn insert(&mut self, id: LeaseId, ttl: Duration, now: Instant) {
        let lease = Lease {
            ttl,
            end: end(now, ttl),
            keys: BTreeSet::new(),
        };
        self.by_end.insert((lease.end, id));
        self.by_id.insert(id, lease);
    }

    fn remove(&mut self, id: LeaseId) {
        if let Some(lease) = self.by_id.remove(&id) {
            self.by_end.remove(&(lease.end, id));
        }
    }
}

/// A time to live that no clock can show is a hundred years.
fn end(now: Instant, ttl: Duration) -> Instant {
    const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    now + ttl.min(FOREVER)
}
