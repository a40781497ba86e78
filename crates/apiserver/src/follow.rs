//! A view of part of the store that is kept true by a watch: what is asked at every request is ready in memory.
//!
//! A view is behind by the time that a change takes to reach it. Who finds something missing in it can wait until it has
//! seen all that the store holds, so that nobody is refused for what was written before he asked.

use std::sync::{Arc, Weak};
use std::time::Duration;
use store::{Event, KeyValue, RangeRequest, Revision, Store};
use tokio::sync::watch;

/// How long somebody waits for a view at most; the store tells progress at least ten times a second.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// How long to wait until a store that failed is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// What is made of the keys under a prefix.
pub(crate) trait View: Send + Sync + 'static {
    /// Begins anew with these keys.
    fn reset(&self, all: &[Arc<KeyValue>]);

    /// Takes in changes.
    fn apply(&self, events: &[Arc<Event>]);
}

/// A view with the point that it has reached.
#[derive(Debug)]
pub(crate) struct Followed<V> {
    pub(crate) view: V,
    prefix: &'static str,
    seen: watch::Sender<Revision>,
}

impl<V: View> Followed<V> {
    /// Makes a view that shows what the store holds now. It stays so while [`Followed::run`] runs.
    pub(crate) async fn open(store: &dyn Store, prefix: &'static str, view: V) -> Result<Arc<Self>, store::Error> {
        let followed = Self {
            view,
            prefix,
            seen: watch::Sender::new(0),
        };
        followed.list(store).await?;
        Ok(Arc::new(followed))
    }

    async fn list(&self, store: &dyn Store) -> Result<Revision, store::Error> {
        let request = RangeRequest {
            start: self.prefix.to_owned(),
            end: store::prefix_end(self.prefix),
            revision: None,
            limit: 0,
        };
        let response = store.range(request).await?;
        self.view.reset(&response.kvs);
        self.seen.send_replace(response.revision);
        Ok(response.revision)
    }

    /// Follows the store until it is closed or nobody has the view any more.
    pub(crate) async fn run(followed: Weak<Self>, store: Arc<dyn Store>) {
        loop {
            let Some(this) = followed.upgrade() else { return };
            let (prefix, seen) = (this.prefix, *this.seen.borrow());
            drop(this);
            match store.watch(prefix, seen).await {
                Ok(mut changes) => loop {
                    let Some(next) = changes.next().await else { return };
                    let Some(this) = followed.upgrade() else { return };
                    match next {
                        Ok(batch) => {
                            if !batch.events.is_empty() {
                                this.view.apply(&batch.events);
                            }
                            this.seen.send_replace(batch.revision);
                        }
                        Err(error) => {
                            tracing::debug!(prefix, error = crate::status::chain(&error), "a view begins anew");
                            break;
                        }
                    }
                },
                Err(store::Error::Closed) => return,
                Err(store::Error::Compacted { .. }) => tracing::debug!(prefix, "a view begins anew"),
                Err(error) => {
                    tracing::warn!(
                        prefix,
                        error = crate::status::chain(&error),
                        "the store cannot be watched"
                    );
                    tokio::time::sleep(RETRY).await;
                }
            }
            let Some(this) = followed.upgrade() else { return };
            if let Err(error) = this.list(store.as_ref()).await {
                tracing::warn!(prefix, error = crate::status::chain(&error), "the store cannot be read");
                drop(this);
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Waits until the view shows all that the store holds now; whether there was anything to wait for.
    pub(crate) async fn catch_up(&self, store: &dyn Store) -> bool {
        let Ok(now) = store.revision().await else { return false };
        let mut seen = self.seen.subscribe();
        if *seen.borrow() >= now {
            return false;
        }
        // Whoever waits in vain goes on with what the view shows.
        let reached = tokio::time::timeout(WAIT_MAX, seen.wait_for(|seen| *seen >= now)).await;
        reached.is_ok()
    }
}
