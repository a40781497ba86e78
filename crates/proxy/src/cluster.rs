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
    changed: BTreeSet<Key>,
}

impl Cluster {
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

    pub(crate) fn tell(&self, told: Told) {
        {
            let mut cluster = self.lock();
            let changed = cluster.services.take(told);
            cluster.changed.extend(changed);
        }
        self.changed.notify_one();
    }
}
