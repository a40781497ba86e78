//! Watches: who waits for which keys, and how changes reach them.
//!
//! Each watch has a bounded buffer that only changes under its prefix enter. A watch that starts in the past or whose
//! reader is slow reads the log of the index instead until it has caught up; so a buffer never grows without bound,
//! a writer never waits for a reader, and only compaction can make a watch fail.
//!
//! ```text
//!            log read to its end                buffer full
//!  behind ─────────────────────────▶ live ─────────────────────▶ behind
//! ```

use crate::index::Index;
use crate::{Error, Event, Revision, Watch, WatchBatch};
use async_trait::async_trait;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The most events that wait for a reader; a reader further behind reads the log.
const BUFFERED_EVENTS_MAX: usize = 4096;

/// The most log entries that a watch looks at while it holds the index.
const CATCH_UP_EVENTS: usize = 4096;

/// How often a watch whose own keys are quiet hears that others have changed.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// What waits for one reader.
#[derive(Debug, Default)]
struct Buffer {
    events: Vec<Arc<Event>>,
    /// Some changes are not in `events` but only in the log.
    behind: bool,
    /// Some changes are nowhere.
    lost: bool,
}

/// One watch as the writer sees it.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Which one this is since the start: who came first is woken first, in every run.
    serial: u64,
    prefix: Arc<str>,
    buffer: Mutex<Buffer>,
    wake: Notify,
}

impl Slot {
    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().expect("nothing panics while it holds a buffer")
    }

    /// Takes the events of one group, all or none.
    fn offer(&self, events: impl ExactSizeIterator<Item = Arc<Event>>) {
        {
            let mut buffer = self.buffer();
            if buffer.behind {
                return;
            }
            if buffer.events.len() + events.len() > BUFFERED_EVENTS_MAX {
                buffer.behind = true;
            } else {
                buffer.events.extend(events);
            }
        }
        self.wake.notify_one();
    }
}

/// How far the store has come.
#[derive(Clone, Copy, Debug)]
struct Progress {
    revision: Revision,
    closed: bool,
}

#[derive(Debug, Default)]
struct Slots {
    /// How many there have been.
    count: u64,
    by_prefix: HashMap<Arc<str>, Vec<Arc<Slot>>>,
    /// How many prefixes there are of each length: a key is looked up once per length.
    lengths: BTreeMap<usize, usize>,
}

impl Slots {
    fn of_key<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Arc<Slot>> {
        let prefixes = self
            .lengths
            .keys()
            .map_while(move |length| (*length <= key.len()).then(|| key.get(..*length)));
        prefixes
            .flatten()
            .filter_map(|prefix| self.by_prefix.get(prefix))
            .flatten()
    }
}

/// All watches of an index.
#[derive(Debug)]
pub(crate) struct Hub {
    slots: Mutex<Slots>,
    progress: watch::Sender<Progress>,
}

impl Hub {
    pub(crate) fn new(revision: Revision) -> Self {
        Self {
            slots: Mutex::default(),
            progress: watch::Sender::new(Progress {
                revision,
                closed: false,
            }),
        }
    }

    /// Enters a watch; the caller keeps the index from changing meanwhile.
    pub(crate) fn subscribe(&self, prefix: &str, behind: bool) -> Arc<Slot> {
        let mut slots = self.slots();
        let known = slots.by_prefix.get_key_value(prefix).map(|(prefix, _)| prefix.clone());
        let prefix = known.unwrap_or_else(|| Arc::from(prefix));
        let buffer = Mutex::new(Buffer {
            events: Vec::new(),
            behind,
            lost: false,
        });
        slots.count += 1;
        let slot = Arc::new(Slot {
            serial: slots.count,
            prefix: prefix.clone(),
            buffer,
            wake: Notify::new(),
        });
        let same = slots.by_prefix.entry(prefix.clone()).or_default();
        same.push(slot.clone());
        if same.len() == 1 {
            *slots.lengths.entry(prefix.len()).or_default() += 1;
        }
        slot
    }

    fn unsubscribe(&self, slot: &Arc<Slot>) {
        let mut slots = self.slots();
        let Some(same) = slots.by_prefix.get_mut(&slot.prefix) else {
            return;
        };
        same.retain(|other| !Arc::ptr_eq(other, slot));
        if !same.is_empty() {
            return;
        }
        slots.by_prefix.remove(&slot.prefix);
        let length = slot.prefix.len();
        if let Some(count) = slots.lengths.get_mut(&length) {
            *count -= 1;
            if *count == 0 {
                slots.lengths.remove(&length);
            }
        }
    }

    /// Hands a group of changes to the watches of its keys.
    pub(crate) fn deliver(&self, events: &[Arc<Event>]) {
        let slots = self.slots();
        let mut deliveries: Vec<(&Arc<Slot>, &Arc<Event>)> = Vec::new();
        for event in events {
            deliveries.extend(slots.of_key(event.key()).map(|slot| (slot, event)));
        }
        // Stable, so each watch keeps the order of its events and gets the group in one piece.
        deliveries.sort_by_key(|(slot, _)| slot.serial);
        for group in deliveries.chunk_by(|(a, _), (b, _)| Arc::ptr_eq(a, b)) {
            group[0].0.offer(group.iter().map(|(_, event)| (*event).clone()));
        }
    }

    /// Says that everything up to `revision` was delivered.
    pub(crate) fn tell_progress(&self, revision: Revision) {
        self.progress
            .send_modify(|progress| progress.revision = progress.revision.max(revision));
    }

    /// Says that the state is another one now, without a way from the one before.
    pub(crate) fn lose_all(&self, revision: Revision) {
        for slot in self.slots().by_prefix.values().flatten() {
            slot.buffer().lost = true;
            slot.wake.notify_one();
        }
        self.progress.send_modify(|progress| progress.revision = revision);
    }

    /// Waits until it was said that everything up to `revision` was delivered.
    pub(crate) async fn reached(&self, revision: Revision) -> Result<(), Error> {
        let mut progress = self.progress.subscribe();
        let reached = progress
            .wait_for(|progress| progress.closed || progress.revision >= revision)
            .await;
        match reached {
            Ok(progress) if progress.revision >= revision => Ok(()),
            _ => Err(Error::Closed),
        }
    }

    pub(crate) fn close(&self) {
        self.progress.send_modify(|progress| progress.closed = true);
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().expect("nothing panics while it holds the watches")
    }
}

/// A watch on an [`Index`]. Cancel-safe: dropping the future of `next` loses nothing.
#[derive(Debug)]
pub struct IndexWatch {
    index: Arc<Index>,
    slot: Arc<Slot>,
    progress: watch::Receiver<Progress>,
    /// Everything up to here was handed out.
    seen: Revision,
    handed_out_at: Option<Instant>,
    failed: bool,
}

impl IndexWatch {
    pub(crate) fn new(index: Arc<Index>, slot: Arc<Slot>, after: Revision) -> Self {
        let progress = index.hub().progress.subscribe();
        Self {
            index,
            slot,
            progress,
            seen: after,
            handed_out_at: None,
            failed: false,
        }
    }

    /// What is there to hand out without waiting, apart from mere progress.
    fn take(&mut self) -> Result<Option<WatchBatch>, Error> {
        // Read first: what was delivered before it was told is in the buffer or handed out.
        let told = self.progress.borrow_and_update().revision;
        let (events, behind, lost) = {
            let mut buffer = self.slot.buffer();
            (std::mem::take(&mut buffer.events), buffer.behind, buffer.lost)
        };
        if lost {
            return Err(Error::Compacted {
                requested: self.seen,
                oldest: self.index.oldest(),
            });
        }
        if let Some(last) = events.last() {
            // A reader that is behind has gaps after the buffer, so only the buffer counts then.
            let upto = if behind {
                last.revision()
            } else {
                last.revision().max(told)
            };
            return Ok(Some(self.hand_out(events, upto)));
        }
        if behind { self.catch_up().map(Some) } else { Ok(None) }
    }

    fn catch_up(&mut self) -> Result<WatchBatch, Error> {
        let caught = {
            let state = self.index.read();
            if self.seen < state.oldest {
                return Err(Error::Compacted {
                    requested: self.seen,
                    oldest: state.oldest,
                });
            }
            let mut caught = state.log.after(self.seen, &self.slot.prefix, CATCH_UP_EVENTS);
            if caught.complete {
                // The index is held, so no change falls between the log and the buffer.
                self.slot.buffer().behind = false;
                caught.upto = state.revision;
            }
            caught
        };
        Ok(self.hand_out(caught.events, caught.upto))
    }

    fn hand_out(&mut self, events: Vec<Arc<Event>>, upto: Revision) -> WatchBatch {
        self.seen = self.seen.max(upto);
        self.handed_out_at = Some(Instant::now());
        WatchBatch {
            events,
            revision: self.seen,
        }
    }

    /// Waits until others' changes are worth telling.
    async fn wait_for_progress(progress: &mut watch::Receiver<Progress>, seen: Revision, not_before: Option<Instant>) {
        let news = progress
            .wait_for(|progress| progress.closed || progress.revision > seen)
            .await;
        let closed = news.is_ok_and(|progress| progress.closed);
        if let (false, Some(not_before)) = (closed, not_before) {
            tokio::time::sleep_until(not_before).await;
        }
    }
}

#[async_trait]
impl Watch for IndexWatch {
    async fn next(&mut self) -> Option<Result<WatchBatch, Error>> {
        loop {
            if self.failed {
                return None;
            }
            match self.take() {
                Ok(Some(batch)) => return Some(Ok(batch)),
                Ok(None) => {}
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
            let not_before = self.handed_out_at.map(|at| at + PROGRESS_INTERVAL);
            tokio::select! {
                biased;
                () = self.slot.wake.notified() => continue,
                () = Self::wait_for_progress(&mut self.progress, self.seen, not_before) => {}
            }
            let told = *self.progress.borrow();
            match self.take() {
                Ok(None) if told.revision > self.seen => return Some(Ok(self.hand_out(Vec::new(), told.revision))),
                Ok(None) if told.closed => return None,
                Ok(None) => {}
                Ok(Some(batch)) => return Some(Ok(batch)),
                Err(error) => {
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Drop for IndexWatch {
    fn drop(&mut self) {
        self.index.hub().unsubscribe(&self.slot);
    }
}
