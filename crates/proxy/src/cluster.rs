//! What the API has told so far, and which Services are to be looked at again.

use crate::service::{Service, Slice};
use service_watch::{Key, Services};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// What the API tells, as far as packets need it.
pub(crate) type Told = service_watch::Told<Service, Slice>;

/// Services and EndpointSlices.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) services: Services<Service, Slice>,
    /// The zone that this node is in.
    pub(crate) zone: Option<String>,
    changed: BTreeSet<Key>,
}

impl Cluster {
    /// Looks at a Service again although nothing was told of it.
    pub(crate) fn again(&mut self, key: Key) {
        self.changed.insert(key);
    }

    /// What each Service needs depends on where this node is.
    fn set_zone(&mut self, zone: Option<String>) {
        if self.zone != zone {
            self.zone = zone;
            self.changed.extend(self.services.keys().cloned());
        }
    }

    /// The Services that changed since this was last asked.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.changed)
    }
}

/// The cluster as the follower and the applier share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared {
    cluster: Arc<Mutex<Cluster>>,
    changed: Arc<Notify>,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().expect("nothing panics while it holds the cluster")
    }

    /// Waits until something was told since the last wait.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(crate) fn set_zone(&self, zone: Option<String>) {
        self.lock().set_zone(zone);
        self.changed.notify_one();
    }

    pub(crate) fn tell(&self, told: Told) {
        {
            let mut cluster = self.lock();
            let changed = cluster.services.take(told);
            cluster.changed.extend(changed);
        }
        self.changed.notify_one();
    }
}
