//! The loop of all controllers: take a key, be sure the caches are current, plan, carry out, and see to it that the
//! key comes up again when it must.

use std::sync::Arc;
use std::time::Duration;

use controllers_plan::Plan;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, trace, warn};

use crate::caches::Caches;
use crate::execute::{Executor, Outcome};
use crate::freshness::Ledger;
use crate::queue::{Queue, WorkId};
use crate::rests::Rests;
use crate::table::{Decide, Prepare};

/// How many keys may be planned and carried out at a time.
const WORKERS: usize = 16;

/// A failure is logged as a warning only when it is the kind that persists.
const RETRY_NOTABLE: Duration = Duration::from_secs(1);

/// A controller at work.
pub(crate) struct Running {
    pub(crate) name: &'static str,
    pub(crate) kinds: Vec<controllers_plan::Kind>,
    pub(crate) prepare: Option<Prepare>,
    pub(crate) decide: Decide,
}

/// All that the workers share.
pub(crate) struct Works {
    pub(crate) rows: Vec<Running>,
    pub(crate) caches: Arc<Caches>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) executor: Executor,
    pub(crate) ledger: Ledger,
    pub(crate) rests: Rests,
    pub(crate) permits: Semaphore,
}

impl Works {
    pub(crate) fn new(rows: Vec<Running>, caches: Arc<Caches>, queue: Arc<Queue>, executor: Executor) -> Self {
        let (ledger, permits) = (Ledger::default(), Semaphore::new(WORKERS));
        Self {
            rows,
            caches,
            queue,
            executor,
            ledger,
            rests: Rests::default(),
            permits,
        }
    }
}

/// Works until shutdown; a plan that is being carried out then is broken off, as a crash would.
pub(crate) async fn work(works: Arc<Works>, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut turns = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            Some(ended) = turns.join_next() => ended?,
            id = works.queue.next() => {
                let works = works.clone();
                turns.spawn(async move { turn(&works, id).await });
            }
        }
    }
}

async fn turn(works: &Works, id: WorkId) {
    let row = &works.rows[id.row];
    listed(works, row).await;
    if works.ledger.caught_up(&works.caches, &id).await {
        let permit = works.permits.acquire().await.expect("never closed");
        let rest_until = plan_and_act(works, row, &id).await;
        drop(permit);
        tokio::time::sleep_until(rest_until).await;
    } else {
        warn!(controller = row.name, key = %id.key, "the caches do not show our last write yet");
        retry(works, row, &id);
    }
    works.queue.done(&id);
}

/// Waits until every kind that the controller watches has been listed.
async fn listed(works: &Works, row: &Running) {
    for kind in &row.kinds {
        for cache in works.caches.freshness_of(*kind) {
            let mut progress = cache.follow();
            if progress.wait_for(|progress| progress.lists_done > 0).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

async fn plan_and_act(works: &Works, row: &Running, id: &WorkId) -> Instant {
    if let Some(prepare) = row.prepare {
        prepare(&works.executor.client, &works.caches, &id.key).await;
    }
    let began = Instant::now();
    let now = ambient::now();
    let plan = (row.decide)(&works.caches, &id.key, now);
    let ended = Instant::now();
    let rest_until = works.rests.until(id, ended - began, ended);
    for reason in &plan.because {
        trace!(controller = row.name, key = %id.key, reason = reason.reason, "{}", reason.message);
    }
    let Outcome { writes, result } = works.executor.carry_out(row.name, &plan).await;
    works.ledger.note(&works.caches, id, writes);
    match result {
        Err(refused) => {
            if !refused.is_outdated() {
                works.caches.refusals.note(row.name, &id.key, Some(refused.cause()));
            }
            let pause = retry(works, row, id);
            report(row, id, &anyhow::Error::from(refused), pause);
        }
        Ok(()) => {
            works.caches.refusals.note(row.name, &id.key, None);
            settle(works, row, id, &plan, now);
        }
    }
    rest_until
}

fn settle(works: &Works, row: &Running, id: &WorkId, plan: &Plan, now: Timestamp) {
    if let Some(why) = &plan.retry {
        let pause = retry(works, row, id);
        debug!(controller = row.name, key = %id.key, ?pause, "{why}");
    } else {
        works.queue.forget_failures(id);
    }
    if let Some(at) = plan.again_at {
        let pause = Duration::try_from(at.duration_since(now)).unwrap_or_default();
        works.queue.add_at(id.clone(), Instant::now() + pause);
    }
}

fn retry(works: &Works, _row: &Running, id: &WorkId) -> Duration {
    works.queue.retry(id.clone(), Instant::now(), ambient::fraction())
}

fn report(row: &Running, id: &WorkId, error: &anyhow::Error, pause: Duration) {
    if pause < RETRY_NOTABLE {
        debug!(controller = row.name, key = %id.key, ?pause, "{error:#}");
    } else {
        warn!(controller = row.name, key = %id.key, ?pause, "{error:#}");
    }
}
