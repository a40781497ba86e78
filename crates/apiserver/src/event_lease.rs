//! Events end after an hour: they hang on leases, which are shared so that an event costs no lease of its own.

use crate::server::Server;
use crate::status::{Outcome, store_failed};
use std::sync::Mutex;
use std::time::Duration;
use store::LeaseId;
use tokio::time::Instant;

/// How long an event is kept at least.
const EVENT_TTL: Duration = Duration::from_secs(60 * 60);

/// How long new events hang onto the same lease; they may live longer by as much.
const LEASE_SHARED_FOR: Duration = Duration::from_secs(5 * 60);

/// The lease that new events hang onto at present.
#[derive(Debug, Default)]
pub(crate) struct EventLease {
    current: Mutex<Option<(LeaseId, Instant)>>,
}

impl EventLease {
    fn fresh(&self) -> Option<LeaseId> {
        let current = self.current.lock().expect("nothing panics while it holds the lease");
        current
            .filter(|(_, granted)| granted.elapsed() < LEASE_SHARED_FOR)
            .map(|(lease, _)| lease)
    }
}

impl Server {
    /// A lease under which an event lives for an hour or little more.
    pub(crate) async fn event_lease(&self) -> Outcome<LeaseId> {
        if let Some(lease) = self.event_lease.fresh() {
            return Ok(lease);
        }
        let granted = self.store.grant_lease(EVENT_TTL + LEASE_SHARED_FOR).await;
        let lease = granted.map_err(|error| store_failed(&error))?;
        *self
            .event_lease
            .current
            .lock()
            .expect("nothing panics while it holds the lease") = Some((lease, Instant::now()));
        Ok(lease)
    }
}
