//! An index that follows a store elsewhere: others order and keep the changes, here they are only shown.

use crate::index::{Index, Loaded, State};
use crate::{Error, Event, KeyValue, Revision};
use std::sync::Arc;

/// A change that was made elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A key was written.
    Put(KeyValue),
    /// A key was removed.
    Delete {
        /// The key.
        key: String,
        /// The revision of the removal.
        revision: Revision,
    },
}

impl Index {
    /// Lets everybody see changes of whole transactions, in their order: with them, all is known up to `revision`.
    pub fn replicate(&self, changes: Vec<Change>, revision: Revision) {
        {
            let mut state = self.write();
            let mut events = Vec::with_capacity(changes.len());
            for change in changes {
                let Some(event) = state.event(change) else { continue };
                let event = Arc::new(event);
                state.record(&event);
                events.push(event);
            }
            state.revision = state.revision.max(revision);
            self.hub().deliver(&events);
        }
        self.hub().tell_progress(revision);
    }

    /// Begins anew with another state, because the way from the present one to it is not known. Every watch ends with
    /// [`Error::Compacted`].
    pub fn reset(&self, loaded: Loaded) {
        let replaced = {
            let mut state = self.write();
            let replaced = std::mem::replace(&mut *state, State::of(loaded));
            self.hub().lose_all(state.revision);
            replaced
        };
        // Values are freed outside the lock.
        drop(replaced);
    }

    /// Waits until the changes up to `revision` can be seen.
    ///
    /// # Errors
    /// [`Error::Closed`] when nothing will change any more.
    pub async fn reached(&self, revision: Revision) -> Result<(), Error> {
        self.hub().reached(revision).await
    }

    /// Whether a revision can be read and watched from.
    ///
    /// # Errors
    /// [`Error::Compacted`] or [`Error::Future`].
    pub fn check(&self, revision: Revision) -> Result<(), Error> {
        self.read().check_readable(revision)
    }

    /// The oldest revision that can be read.
    pub fn oldest(&self) -> Revision {
        self.read().oldest
    }
}

impl State {
    /// The change as watches see it; `None` if it changes nothing that is known here.
    fn event(&self, change: Change) -> Option<Event> {
        match change {
            Change::Put(mut kv) => {
                // The key's text is kept once for all its versions.
                if let Some((key, _)) = self.keys.get_key_value(&kv.key) {
                    kv.key = key.clone();
                }
                let previous = self.current(&kv.key).cloned();
                let kv = Arc::new(kv);
                Some(Event::Put { kv, previous })
            }
            Change::Delete { key, revision } => {
                let previous = self.current(&key)?.clone();
                Some(Event::Delete { revision, previous })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RangeRequest, Watch};

    fn kv(key: &str, value: &'static str, create: Revision, revision: Revision) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: value.into(),
            create_revision: create,
            mod_revision: revision,
            version: 1 + revision - create,
            lease: None,
        }
    }

    fn keys(index: &Index) -> Vec<(String, Revision)> {
        let request = RangeRequest {
            start: "/".into(),
            end: Some("0".into()),
            revision: None,
            limit: 0,
        };
        let found = index.range(&request).unwrap().kvs.into_iter();
        found.map(|kv| (kv.key.to_string(), kv.mod_revision)).collect()
    }

    #[tokio::test]
    async fn changes_of_others_are_seen_with_what_was_before() {
        let index = Index::new(Loaded {
            revision: 7,
            keys: vec![kv("/a", "1", 3, 3)],
            ..Loaded::default()
        });
        let mut watch = index.watch("/a", 7).unwrap();
        let changes = vec![
            Change::Put(kv("/a", "2", 3, 8)),
            Change::Put(kv("/b", "1", 8, 8)),
            Change::Delete {
                key: "/a".into(),
                revision: 9,
            },
            Change::Delete {
                key: "/unknown".into(),
                revision: 9,
            },
        ];
        index.replicate(changes, 9);
        // Somebody else's keys: nothing to see, but time goes on.
        index.replicate(Vec::new(), 12);
        index.reached(12).await.unwrap();
        assert_eq!(keys(&index), [("/b".to_owned(), 8)]);
        let batch = watch.next().await.unwrap().unwrap();
        assert_eq!(batch.revision, 12);
        let expected = [
            Event::Put {
                kv: kv("/a", "2", 3, 8).into(),
                previous: Some(kv("/a", "1", 3, 3).into()),
            },
            Event::Delete {
                revision: 9,
                previous: kv("/a", "2", 3, 8).into(),
            },
        ];
        assert!(batch.events.iter().map(|event| &**event).eq(&expected));
    }

    #[tokio::test]
    async fn a_reset_shows_another_state_and_loses_all_watches() {
        let index = Index::new(Loaded {
            revision: 7,
            keys: vec![kv("/a", "1", 3, 3)],
            ..Loaded::default()
        });
        let mut watch = index.watch("/", 7).unwrap();
        // Also to an earlier revision: somebody restored a backup.
        index.reset(Loaded {
            revision: 5,
            keys: vec![kv("/b", "1", 4, 4)],
            ..Loaded::default()
        });
        assert!(matches!(
            watch.next().await,
            Some(Err(Error::Compacted {
                requested: 7,
                oldest: 5
            }))
        ));
        assert!(watch.next().await.is_none());
        assert_eq!((index.revision(), index.oldest()), (5, 5));
        assert_eq!(keys(&index), [("/b".to_owned(), 4)]);
        index.reached(5).await.unwrap();
        let mut watch = index.watch("/", 5).unwrap();
        index.replicate(vec![Change::Put(kv("/c", "1", 6, 6))], 6);
        assert_eq!(watch.next().await.unwrap().unwrap().revision, 6);
    }
}
