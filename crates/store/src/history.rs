//! The past: the versions of one key, and the log of all changes, both since the last compaction.

use crate::{Event, KeyValue, Revision};
use std::collections::VecDeque;
use std::sync::Arc;

/// One state of a key.
#[derive(Debug)]
enum Version {
    Put(KeyValue),
    Gone(Revision),
}

impl Version {
    fn revision(&self) -> Revision {
        match self {
            Self::Put(kv) => kv.mod_revision,
            Self::Gone(revision) => *revision,
        }
    }

    fn kv(&self) -> Option<&KeyValue> {
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
    pub(crate) fn new(kv: KeyValue) -> Self {
        Self(vec![Version::Put(kv)])
    }

    pub(crate) fn latest(&self) -> Option<&KeyValue> {
        self.0.last().and_then(Version::kv)
    }

    /// What the key held at a revision.
    pub(crate) fn at(&self, revision: Revision) -> Option<&KeyValue> {
        // Nearly every read is of the latest state.
        let last = self.0.last()?;
        if last.revision() <= revision {
            return last.kv();
        }
        let after = self.0.partition_point(|version| version.revision() <= revision);
        self.0.get(after.checked_sub(1)?).and_then(Version::kv)
    }

    pub(crate) fn put(&mut self, kv: KeyValue) {
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

/// Every change since the last compaction, in order.
#[derive(Debug, Default)]
pub(crate) struct Log(VecDeque<Arc<Event>>);

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
        self.0.push_back(event);
    }

    /// Takes the changes up to `revision` out.
    pub(crate) fn forget(&mut self, revision: Revision) -> Vec<Arc<Event>> {
        let count = self.0.partition_point(|event| event.revision() <= revision);
        let forgotten = self.0.drain(..count).collect();
        if self.0.len() < self.0.capacity() / 4 {
            self.0.shrink_to_fit();
        }
        forgotten
    }

    /// The changes under `prefix` after a revision; looks at about `most` changes and stops between two transactions.
    pub(crate) fn after(&self, revision: Revision, prefix: &str, most: usize) -> Caught {
        let start = self.0.partition_point(|event| event.revision() <= revision);
        let mut caught = Caught {
            events: Vec::new(),
            upto: revision,
            complete: true,
        };
        for (looked_at, event) in self.0.range(start..).enumerate() {
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
