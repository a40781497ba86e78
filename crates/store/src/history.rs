//! The past: the versions of one key, and the log of all changes, both since the last compaction.

use crate::{Event, KeyValue, Revision};
use std::collections::VecDeque;
use std::sync::Arc;

/// One state of a key.
#[derive(Debug)]
enum Version {
    Put(Arc<KeyValue>),
    Gone(Revision),
}

impl Version {
    fn revision(&self) -> Revision {
        match self {
            Self::Put(kv) => kv.mod_revision,
            Self::Gone(revision) => *revision,
        }
    }

    fn kv(&self) -> Option<&Arc<KeyValue>> {
        match self {
            Self::Put(kv) => Some(kv),
            Self::Gone(_) => None,
        }
    }
}

/// The versions of one key that can still be read, oldest first; never empty.
#[derive(Debug)]
pub(crate) struct History(Vec<Version>);

impl History {
    pub(crate) fn new(kv: Arc<KeyValue>) -> Self {
        Self(vec![Version::Put(kv)])
    }

    pub(crate) fn latest(&self) -> Option<&Arc<KeyValue>> {
        self.0.last().and_then(Version::kv)
    }

    /// What the key held at a revision.
    pub(crate) fn at(&self, revision: Revision) -> Option<&Arc<KeyValue>> {
        // Nearly every read is of the latest state.
        let last = self.0.last()?;
        if last.revision() <= revision {
            return last.kv();
        }
        let after = self.0.partition_point(|version| version.revision() <= revision);
        self.0.get(after.checked_sub(1)?).and_then(Version::kv)
    }

    pub(crate) fn put(&mut self, kv: Arc<KeyValue>) {
        self.0.push(Version::Put(kv));
    }

    pub(crate) fn delete(&mut self, revision: Revision) {
        self.0.push(Version::Gone(revision));
    }

    /// Drops what only states before `revision` show. True if nothing is left to remember of the key.
    pub(crate) fn forget(&mut self, revision: Revision) -> bool {
        let after = self.0.partition_point(|version| version.revision() <= revision);
        let Some(visible) = after.checked_sub(1) else {
            return false;
        };
        let first_kept = if matches!(self.0[visible], Version::Gone(_)) {
            after
        } else {
            visible
        };
        self.0.drain(..first_kept);
        if self.0.len() == 1 {
            self.0.shrink_to_fit();
        }
        self.0.is_empty()
    }
}

/// What a change takes beside the value that it replaced, about.
const EVENT_BYTES: usize = 256;

/// Every change since the last compaction, in order.
#[derive(Debug, Default)]
pub(crate) struct Log {
    events: VecDeque<Arc<Event>>,
    /// What is only kept for the past, about.
    bytes: usize,
}

/// What is kept of the past because of a change: what it replaced. What it wrote is the present, or a later change's.
fn bytes(event: &Event) -> usize {
    let replaced = match event {
        Event::Put { previous, .. } => previous.as_ref(),
        Event::Delete { previous, .. } => Some(previous),
    };
    EVENT_BYTES + replaced.map_or(0, |kv| kv.value.len())
}

/// What a part of the log held for one watch.
pub(crate) struct Caught {
    pub(crate) events: Vec<Arc<Event>>,
    /// Everything up to here was looked at.
    pub(crate) upto: Revision,
    /// Nothing is left in the log.
    pub(crate) complete: bool,
}

impl Log {
    pub(crate) fn push(&mut self, event: Arc<Event>) {
        self.bytes += bytes(&event);
        self.events.push_back(event);
    }

    /// What it takes, and the revision in its middle; 0 if it is empty.
    pub(crate) fn size(&self) -> (usize, Revision) {
        let middle = self.events.get(self.events.len() / 2);
        (self.bytes, middle.map_or(0, |event| event.revision()))
    }

    /// Takes the changes up to `revision` out.
    pub(crate) fn forget(&mut self, revision: Revision) -> Vec<Arc<Event>> {
        let count = self.events.partition_point(|event| event.revision() <= revision);
        let forgotten: Vec<Arc<Event>> = self.events.drain(..count).collect();
        self.bytes -= forgotten.iter().map(|event| bytes(event)).sum::<usize>();
        if self.events.len() < self.events.capacity() / 4 {
            self.events.shrink_to_fit();
        }
        forgotten
    }

    /// The changes under `prefix` after a revision; looks at about `most` changes and stops between two transactions.
    pub(crate) fn after(&self, revision: Revision, prefix: &str, most: usize) -> Caught {
        let start = self.events.partition_point(|event| event.revision() <= revision);
        let mut caught = Caught {
            events: Vec::new(),
            upto: revision,
            complete: true,
        };
        for (looked_at, event) in self.events.range(start..).enumerate() {
            if looked_at >= most && event.revision() > caught.upto {
                caught.complete = false;
                break;
            }
            caught.upto = event.revision();
            if event.key().starts_with(prefix) {
                caught.events.push(event.clone());
            }
        }
        caught
    }
}
