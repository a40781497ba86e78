//! How many requests are worked on at a time: whoever comes beyond that is asked to come again.

use crate::metrics::Metrics;
use crate::server::Server;
use crate::status::Outcome;
use api::error::Status;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long whoever is turned away is asked to wait.
const RETRY_AFTER_S: u32 = 1;

/// The places there are.
#[derive(Debug)]
pub(crate) struct InFlight {
    reading: Arc<Semaphore>,
    writing: Arc<Semaphore>,
}

impl InFlight {
    pub(crate) fn new(reading: usize, writing: usize) -> Self {
        Self {
            reading: Arc::new(Semaphore::new(reading)),
            writing: Arc::new(Semaphore::new(writing)),
        }
    }
}

/// A request's place; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    server: Arc<Server>,
    writes: bool,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// Takes a place. Who is exempt gets one always: administrators, who must be able to look after a server that has
    /// too much to do, and the control plane's own parts.
    pub(crate) fn take(server: &Arc<Server>, writes: bool, exempt: bool) -> Outcome<Self> {
        let (places, dropped) = if writes {
            (&server.in_flight.writing, &server.metrics.writes_dropped)
        } else {
            (&server.in_flight.reading, &server.metrics.reads_dropped)
        };
        let permit = Arc::clone(places).try_acquire_owned().ok();
        if permit.is_none() && !exempt {
            dropped.fetch_add(1, Ordering::Relaxed);
            let message = "Too many requests, please try again later.";
            return Err(Box::new(Status::too_many_requests(message, RETRY_AFTER_S)));
        }
        counter(&server.metrics, writes).fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            server: Arc::clone(server),
            writes,
            _permit: permit,
        })
    }
}

fn counter(metrics: &Metrics, writes: bool) -> &AtomicI64 {
    if writes { &metrics.writing } else { &metrics.reading }
}

impl Drop for Place {
    fn drop(&mut self) {
        counter(&self.server.metrics, self.writes).fetch_sub(1, Ordering::Relaxed);
    }
}
